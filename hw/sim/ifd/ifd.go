// Package ifd puts a simulated reader under a real pcscd: a small IFD handler in C, which the package carries with it
// and compiles, passes every call of pcscd through a unix socket to [Serve], which runs in the process of the test or of
// the demo's control panel. So the product talks to its usual PC/SC library and daemon, and the test holds the reader in
// its hand.
//
// [Install] writes driver and configuration into a folder, [Serve] answers the driver, [StartPCSCD] starts a private
// daemon with both. Serve has to run before the daemon starts, as pcscd drops readers that it cannot open.
package ifd

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"ktradv/hw/reader/pcscd"
	simreader "ktradv/hw/sim/reader"
)

//go:embed shim/shim.c
var shimSource []byte

// ReaderName is the name under which PC/SC lists the simulated reader.
const ReaderName = friendlyName + " 00 00"

const friendlyName = "SIM eGK"

// ErrNoCompiler: the driver cannot be built.
var ErrNoCompiler = errors.New("no C compiler: install the package gcc")

// maxSocketPath is what a unix socket address holds.
const maxSocketPath = 107

func readerSocket(dir string) string { return filepath.Join(dir, "reader.sock") }

// ConfigDir is the folder below dir that takes the place of /etc/reader.conf.d.
func ConfigDir(dir string) string { return filepath.Join(dir, "reader.conf.d") }

// PCSCDSocket is the socket of the daemon that StartPCSCD starts for dir.
func PCSCDSocket(dir string) string { return filepath.Join(dir, "pcscd.sock") }

// Install builds the driver and writes the daemon's configuration into dir, an existing folder with a short absolute
// path. It returns the configuration folder, for whoever starts the daemon.
func Install(ctx context.Context, dir string) (configDir string, err error) {
	if !filepath.IsAbs(dir) || len(readerSocket(dir)) > maxSocketPath {
		return "", fmt.Errorf("install driver: %s is not absolute or too long for a socket", dir)
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return "", fmt.Errorf("install driver: %w", ErrNoCompiler)
	}
	source, library := filepath.Join(dir, "shim.c"), filepath.Join(dir, "libifdshim.so")
	if err := os.WriteFile(source, shimSource, 0o600); err != nil {
		return "", fmt.Errorf("install driver: %w", err)
	}
	build := exec.CommandContext(ctx, gcc, "-std=gnu11", "-O2", "-Wall", "-shared", "-fPIC", "-o", library, source, "-lpthread")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build driver: %w: %s", err, out)
	}
	configDir = ConfigDir(dir)
	if err := os.MkdirAll(configDir, 0o755); err != nil {
		return "", fmt.Errorf("install driver: %w", err)
	}
	conf := fmt.Sprintf("FRIENDLYNAME %q\nDEVICENAME sock:%s\nLIBPATH %s\n", friendlyName, readerSocket(dir), library)
	if err := os.WriteFile(filepath.Join(configDir, "sim"), []byte(conf), 0o644); err != nil {
		return "", fmt.Errorf("install driver: %w", err)
	}
	return configDir, nil
}

// StartPCSCD installs the driver in dir and starts a private pcscd with it. Clients reach it at PCSCDSocket(dir).
func StartPCSCD(ctx context.Context, dir string, log io.Writer) (*pcscd.Daemon, error) {
	if err := pcscd.Available(); err != nil {
		return nil, err
	}
	configDir, err := Install(ctx, dir)
	if err != nil {
		return nil, err
	}
	return pcscd.Start(ctx, pcscd.Config{ConfigDir: configDir, Socket: PCSCDSocket(dir), Isolation: pcscd.Private, Log: log})
}

// Operations of the driver's frames; see shim/shim.c.
const (
	opOpen = iota
	opPresence
	opPower
	opTransmit
	opControl
	opPoll
)

// Return codes of an IFD handler.
const (
	rcOK           = 0
	rcNotSupported = 606
	rcPower        = 608
	rcComm         = 612
	rcPresent      = 615
	rcAbsent       = 616
	rcNoDevice     = 617
)

// Actions of IFDHPowerICC.
const (
	powerUp   = 500
	powerDown = 501
	reset     = 502
)

// maxFrame bounds what a driver may send: an extended command is 65544 octets.
const maxFrame = 1 << 17

// Server answers the driver of one simulated reader.
type Server struct {
	r        *simreader.Reader
	listener *net.UnixListener
	ctx      context.Context // ends with Close
	stop     context.CancelFunc
	wg       sync.WaitGroup

	mu   sync.Mutex
	told uint64 // generation of the card that pcscd was told to be present, 0 if none
	swap swap
}

// swap is how far pcscd knows that another card is in the slot than it was told. It has to hear once that there is none,
// in a question for presence between two waits for an event; others than its event loop ask for presence, too.
type swap int

const (
	noSwap       swap = iota
	swapFound         // presence found another card; from here on it says "none"
	swapReported      // a wait has ended since; the next one ends the swap
)

// Serve starts answering the driver that Install configured in dir. While no Serve runs, the reader is gone.
func Serve(r *simreader.Reader, dir string) (*Server, error) {
	path := readerSocket(dir)
	if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("serve reader: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("serve reader: %w", err)
	}
	s := &Server{r: r, listener: l}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.wg.Add(1)
	go s.accept()
	return s, nil
}

// Close ends the reader's process as far as the driver can see: all connections break.
func (s *Server) Close() error {
	s.stop()
	err := s.listener.Close()
	s.wg.Wait()
	return err
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.wg.Add(1)
		go s.serve(c)
	}
}

type frame struct {
	op       byte
	argument uint32
	data     []byte
}

// serve answers one connection. Frames are read by a goroutine of their own, so that the end of the connection ends a
// call that is in progress.
func (s *Server) serve(c net.Conn) {
	defer s.wg.Done()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	frames := make(chan frame)
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		defer cancel()
		in := bufio.NewReader(c)
		for {
			f, err := readFrame(in)
			if err != nil {
				return
			}
			select {
			case frames <- f:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer c.Close()
	events := &cursor{}
	for {
		select {
		case f := <-frames:
			rc, out := s.handle(ctx, events, f)
			reply := make([]byte, 0, 8+len(out))
			reply = binary.LittleEndian.AppendUint32(reply, rc)
			reply = binary.LittleEndian.AppendUint32(reply, uint32(len(out)))
			if _, err := c.Write(append(reply, out...)); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func readFrame(in io.Reader) (frame, error) {
	var head [9]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return frame{}, err
	}
	n := binary.LittleEndian.Uint32(head[5:])
	if n > maxFrame {
		return frame{}, fmt.Errorf("frame of %d octets", n)
	}
	f := frame{op: head[0], argument: binary.LittleEndian.Uint32(head[1:]), data: make([]byte, n)}
	_, err := io.ReadFull(in, f.data)
	return f, err
}

// cursor is how far a connection has seen the slot's generations at the end of its last wait. It belongs to the
// connection, so that a wait whose end never reached pcscd, because the connection broke, counts for nothing.
type cursor struct {
	known      bool
	generation uint64
}

func (s *Server) handle(ctx context.Context, events *cursor, f frame) (rc uint32, out []byte) {
	var err error
	switch f.op {
	case opOpen:
	case opPresence:
		return s.presence(), nil
	case opPoll:
		s.poll(ctx, events, time.Duration(f.argument)*time.Millisecond)
	case opPower:
		switch f.argument {
		case powerUp:
			out, err = s.r.Power(false)
		case reset:
			out, err = s.r.Power(true)
		case powerDown:
			err = s.r.PowerOff()
		default:
			return rcNotSupported, nil
		}
	case opTransmit:
		out, err = s.r.Transmit(ctx, f.data)
	case opControl:
		out, err = s.r.Control(ctx, f.argument, f.data)
	default:
		return rcNotSupported, nil
	}
	return code(err), out
}

// presence answers whether there is a card.
func (s *Server) presence() uint32 {
	plugged, card, generation := s.r.Presence()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !plugged:
		s.told, s.swap = 0, noSwap
		return rcNoDevice
	case !card:
		s.told, s.swap = 0, noSwap
		return rcAbsent
	case s.told != 0 && s.told != generation:
		if s.swap == noSwap {
			s.swap = swapFound
		}
		return rcAbsent
	}
	s.told = generation
	return rcPresent
}

// poll waits for an event, at most d. It compares with the generation at the end of the connection's wait before: pcscd
// asks for presence after that, so no change goes unnoticed.
func (s *Server) poll(ctx context.Context, events *cursor, d time.Duration) {
	s.mu.Lock()
	swapped := s.swap
	switch s.swap {
	case swapFound:
		s.swap = swapReported
	case swapReported:
		s.swap, s.told = noSwap, 0
	}
	s.mu.Unlock()
	if swapped == noSwap && events.known {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		_ = s.r.WaitGeneration(ctx, events.generation) // the end of the time is no error
	}
	_, _, events.generation = s.r.Presence()
	events.known = true
}

func code(err error) uint32 {
	switch {
	case err == nil:
		return rcOK
	case errors.Is(err, simreader.ErrUnplugged):
		return rcNoDevice
	case errors.Is(err, simreader.ErrNoCard):
		return rcAbsent
	case errors.Is(err, simreader.ErrPower):
		return rcPower
	case errors.Is(err, simreader.ErrUnsupported):
		return rcNotSupported
	}
	return rcComm
}
