package machine

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Stub is QEMU's debug stub: GDB's remote protocol. While it is connected and the guest is not told to go on, all its
// processors stand.
type Stub struct {
	conn      net.Conn
	in        *bufio.Reader
	registers map[string]register
}

type register struct {
	number, size int // size in octets
}

// maxPacket bounds one packet of the stub.
const maxPacket = 1 << 20

// ErrStub: the stub refuses, or says something that is not understood.
var ErrStub = errors.New("debug stub")

// Debug connects to the debug stub and thereby stops the guest, which must be running.
func (m *Machine) Debug(ctx context.Context) (*Stub, error) {
	c, err := m.dial(ctx, m.debugSocket())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStub, err)
	}
	s := &Stub{conn: c, in: bufio.NewReader(c)}
	c.SetDeadline(time.Now().Add(stubTime))
	b, err := s.receive()
	if err == nil {
		_, err = stopReply(b)
	}
	if err == nil {
		err = s.describe()
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("%w: connect: %w", ErrStub, err)
	}
	return s, nil
}

// Close lets the guest go on without the stub.
func (s *Stub) Close() error {
	_, err := s.ask("D")
	return errors.Join(err, s.conn.Close())
}

// checksum of a packet.
func checksum(b []byte) (sum byte) {
	for _, c := range b {
		sum += c
	}
	return sum
}

// readPacket reads one packet, without escapes and run lengths.
func readPacket(in *bufio.Reader) ([]byte, error) {
	for {
		c, err := in.ReadByte()
		if err != nil {
			return nil, err
		}
		if c == '$' {
			break
		}
		if c != '+' {
			return nil, fmt.Errorf("%w: octet %#x where a packet begins", ErrStub, c)
		}
	}
	var raw []byte
	for {
		c, err := in.ReadByte()
		if err != nil {
			return nil, err
		}
		if c == '#' {
			break
		}
		if raw = append(raw, c); len(raw) > maxPacket {
			return nil, fmt.Errorf("%w: packet too long", ErrStub)
		}
	}
	var sum [2]byte
	if _, err := io.ReadFull(in, sum[:]); err != nil {
		return nil, err
	}
	if n, err := strconv.ParseUint(string(sum[:]), 16, 8); err != nil || byte(n) != checksum(raw) {
		return nil, fmt.Errorf("%w: wrong checksum", ErrStub)
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '}' && i+1 < len(raw):
			i++
			out = append(out, raw[i]^0x20)
		case c == '*' && i+1 < len(raw) && len(out) > 0 && raw[i+1] >= 29:
			i++
			for range int(raw[i]) - 29 {
				out = append(out, out[len(out)-1])
			}
			if len(out) > maxPacket {
				return nil, fmt.Errorf("%w: packet too long", ErrStub)
			}
		case c == '}' || c == '*':
			return nil, fmt.Errorf("%w: broken escape", ErrStub)
		default:
			out = append(out, c)
		}
	}
	return out, nil
}

// stubTime is how long the stub may take for a question.
const stubTime = 10 * time.Second

func (s *Stub) send(packet string) error {
	s.conn.SetDeadline(time.Now().Add(stubTime))
	_, err := fmt.Fprintf(s.conn, "$%s#%02x", packet, checksum([]byte(packet)))
	return err
}

func (s *Stub) receive() ([]byte, error) {
	b, err := readPacket(s.in)
	if err != nil {
		return nil, err
	}
	_, err = s.conn.Write([]byte{'+'})
	return b, err
}

// ask sends a packet and returns the answer.
func (s *Stub) ask(packet string) ([]byte, error) {
	b, err := []byte(nil), s.send(packet)
	if err == nil {
		b, err = s.receive()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %.20s: %w", ErrStub, packet, err)
	}
	if len(b) == 3 && b[0] == 'E' {
		return nil, fmt.Errorf("%w: %.20s: refused (%s)", ErrStub, packet, b)
	}
	return b, nil
}

// feature reads a description of the target.
func (s *Stub) feature(name string) ([]byte, error) {
	var all []byte
	for {
		b, err := s.ask(fmt.Sprintf("qXfer:features:read:%s:%x,ffb", name, len(all)))
		if err != nil {
			return nil, err
		}
		if len(b) == 0 || b[0] != 'l' && b[0] != 'm' || len(all)+len(b) > maxPacket {
			return nil, fmt.Errorf("%w: no description %s", ErrStub, name)
		}
		all = append(all, b[1:]...)
		if b[0] == 'l' {
			return all, nil
		}
	}
}

// describe learns the numbers and sizes of the registers.
func (s *Stub) describe() error {
	if _, err := s.ask("qSupported:xmlRegisters=i386"); err != nil {
		return err
	}
	top, err := s.feature("target.xml")
	if err != nil {
		return err
	}
	files, err := includes(top)
	if err != nil {
		return err
	}
	s.registers = map[string]register{}
	number := 0
	for _, f := range files {
		b, err := s.feature(f)
		if err == nil {
			number, err = parseRegisters(b, s.registers, number)
		}
		if err != nil {
			return err
		}
	}
	for _, n := range []string{"rip", "cr3"} {
		if s.registers[n].size != 8 {
			return fmt.Errorf("%w: no register %s", ErrStub, n)
		}
	}
	return nil
}

// includes lists the files that a target description consists of.
func includes(b []byte) ([]string, error) {
	var t struct {
		Include []struct {
			Href string `xml:"href,attr"`
		} `xml:"include"`
	}
	if err := xml.Unmarshal(b, &t); err != nil {
		return nil, fmt.Errorf("%w: target description: %w", ErrStub, err)
	}
	var names []string
	for _, i := range t.Include {
		names = append(names, i.Href)
	}
	return names, nil
}

// parseRegisters adds the registers of one description, which begin with a number, and returns the next.
func parseRegisters(b []byte, to map[string]register, number int) (int, error) {
	var f struct {
		Reg []struct {
			Name string `xml:"name,attr"`
			Bits int    `xml:"bitsize,attr"`
			Num  *int   `xml:"regnum,attr"`
		} `xml:"reg"`
	}
	if err := xml.Unmarshal(b, &f); err != nil {
		return 0, fmt.Errorf("%w: description of registers: %w", ErrStub, err)
	}
	for _, r := range f.Reg {
		if r.Bits < 8 || r.Bits > 1024 || r.Bits%8 != 0 || r.Num != nil && *r.Num != number {
			return 0, fmt.Errorf("%w: register %q of %d bits", ErrStub, r.Name, r.Bits)
		}
		to[r.Name] = register{number, r.Bits / 8}
		number++
	}
	return number, nil
}

// Register reads a register of the processor that is selected: the one that stopped.
func (s *Stub) Register(name string) (uint64, error) {
	r, ok := s.registers[name]
	if !ok || r.size > 8 {
		return 0, fmt.Errorf("%w: no register %s", ErrStub, name)
	}
	b, err := s.ask(fmt.Sprintf("p%x", r.number))
	if err != nil {
		return 0, err
	}
	v := make([]byte, 8)
	if n, err := hex.Decode(v, b[:min(len(b), 16)]); err != nil || n != r.size {
		return 0, fmt.Errorf("%w: register %s is %q", ErrStub, name, b)
	}
	return binary.LittleEndian.Uint64(v), nil
}

// SetRegister changes a register of 64 bits.
func (s *Stub) SetRegister(name string, value uint64) error {
	r, ok := s.registers[name]
	if !ok || r.size != 8 {
		return fmt.Errorf("%w: no register %s of 64 bits", ErrStub, name)
	}
	b, err := s.ask(fmt.Sprintf("P%x=%x", r.number, binary.LittleEndian.AppendUint64(nil, value)))
	if err == nil && string(b) != "OK" {
		err = fmt.Errorf("%w: set %s: %q", ErrStub, name, b)
	}
	return err
}

// Break stops the guest whenever a processor comes to an address, in whatever process; with on false no more.
func (s *Stub) Break(address uint64, on bool) error {
	op := 'z'
	if on {
		op = 'Z'
	}
	b, err := s.ask(fmt.Sprintf("%c0,%x,1", op, address))
	if err == nil && string(b) != "OK" {
		err = fmt.Errorf("%w: breakpoint: %q", ErrStub, b)
	}
	return err
}

// Continue lets the guest go on until it stops, and selects the processor that did.
func (s *Stub) Continue(ctx context.Context) error {
	if err := s.send("c"); err != nil {
		return fmt.Errorf("%w: %w", ErrStub, err)
	}
	s.conn.SetDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { s.conn.SetDeadline(time.Unix(1, 0)) })
	b, err := s.receive()
	if !stop() && err != nil {
		return fmt.Errorf("%w: the guest did not stop: %w", ErrStub, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStub, err)
	}
	thread, err := stopReply(b)
	if err == nil && thread != "" {
		_, err = s.ask("Hg" + thread)
	}
	return err
}

// stopReply finds the processor that stopped.
func stopReply(b []byte) (thread string, err error) {
	if len(b) < 3 || b[0] != 'T' && b[0] != 'S' {
		return "", fmt.Errorf("%w: %q where the guest stops", ErrStub, b)
	}
	if b[0] == 'S' {
		return "", nil
	}
	for f := range strings.SplitSeq(string(b[3:]), ";") {
		if v, ok := strings.CutPrefix(f, "thread:"); ok {
			if strings.Trim(v, "p.0123456789abcdef-") != "" {
				break
			}
			return v, nil
		}
	}
	return "", fmt.Errorf("%w: %q names no processor", ErrStub, b)
}
