// Package pcscd runs a PC/SC daemon that belongs to the caller: it starts pcscd on a socket of its own (by systemd's
// socket activation, which pcscd understands without systemd), asks it for a sign of life, and kills and replaces it when
// it hangs. Clients find it through the environment variable PCSCLITE_CSOCK_NAME; because the socket belongs to the
// [Daemon] and not to the process behind it, it stays the same when the process is replaced.
//
// The package is pure Go and needs no PC/SC library.
package pcscd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"ktradv/internal/pcsclite"
)

// Errors of a daemon that cannot run. The text says what to do next.
var (
	ErrNotInstalled = errors.New("pcscd is not installed: install the package pcscd")
	ErrNotStarted   = errors.New("pcscd did not start")
	ErrNoAnswer     = pcsclite.ErrNoAnswer
	ErrClosed       = errors.New("pcscd was stopped")
)

// Isolation says whether pcscd gets a /run/pcscd of its own.
type Isolation int

const (
	// Shared uses /run/pcscd, which is created if possible. For a machine whose only pcscd this is.
	Shared Isolation = iota
	// Private hides /run/pcscd behind an empty file system in a mount namespace of the daemon's own, so that the files
	// of the system's pcscd stay untouched; an unprivileged user gets a user namespace for it. Where namespaces are not
	// allowed, it is as Shared.
	Private
)

// Config of a daemon.
type Config struct {
	// Binary is the daemon; "" looks in PATH, /usr/sbin and /usr/bin.
	Binary string
	// ConfigDir replaces /etc/reader.conf.d; "" leaves it.
	ConfigDir string
	// Socket is the path of the socket that clients connect to. A socket that is left over there is replaced.
	Socket string
	// SocketMode are the permissions of the socket; 0 is 0600.
	SocketMode os.FileMode
	// Isolation from the system's pcscd.
	Isolation Isolation
	// Log takes what pcscd writes; nil drops it. pcscd logs no commands.
	Log io.Writer
	// PingTimeout is how long a sign of life may take; 0 is 3 s.
	PingTimeout time.Duration
}

// Daemon is a pcscd and the socket in front of it.
type Daemon struct {
	cfg      Config
	listener *net.UnixListener
	file     *os.File // the listener for children

	restart sync.Mutex // held while a process is replaced
	mu      sync.Mutex
	cur     *process
	closed  bool
}

type process struct {
	cmd    *exec.Cmd
	mode   Isolation // in force
	output *tail
	exited chan struct{} // closed when the process is gone
	err    error         // how, after exited
}

// Start starts pcscd and returns when it answers.
func Start(ctx context.Context, cfg Config) (*Daemon, error) {
	binary, err := find(cfg.Binary)
	if err != nil {
		return nil, err
	}
	cfg.Binary = binary
	if cfg.SocketMode == 0 {
		cfg.SocketMode = 0o600
	}
	if cfg.PingTimeout == 0 {
		cfg.PingTimeout = 3 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	if fi, err := os.Lstat(cfg.Socket); err == nil && fi.Mode().Type() == os.ModeSocket {
		if err := os.Remove(cfg.Socket); err != nil {
			return nil, fmt.Errorf("remove old socket: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: cfg.Socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("open socket for pcscd: %w", err)
	}
	d := &Daemon{cfg: cfg, listener: l}
	if err := os.Chmod(cfg.Socket, cfg.SocketMode); err != nil {
		l.Close()
		return nil, fmt.Errorf("open socket for pcscd: %w", err)
	}
	if d.file, err = l.File(); err != nil {
		l.Close()
		return nil, fmt.Errorf("open socket for pcscd: %w", err)
	}
	if err := d.Restart(ctx); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func find(binary string) (string, error) {
	candidates := []string{"pcscd", "/usr/sbin/pcscd", "/usr/bin/pcscd"}
	if binary != "" {
		candidates = []string{binary}
	}
	for _, c := range candidates {
		if p, err := exec.LookPath(c); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("find %s: %w", candidates[0], ErrNotInstalled)
}

// Available tells whether there is a pcscd on this machine; the error is ErrNotInstalled.
func Available() error {
	_, err := find("")
	return err
}

// Socket is the path that belongs into PCSCLITE_CSOCK_NAME.
func (d *Daemon) Socket() string { return d.cfg.Socket }

// Isolation is what is in force for the present process, which may be less than was asked for.
func (d *Daemon) Isolation() Isolation {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cur == nil {
		return Shared
	}
	return d.cur.mode
}

// Pid is the process id of the present process, 0 if there is none.
func (d *Daemon) Pid() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cur == nil {
		return 0
	}
	return d.cur.cmd.Process.Pid
}

// Exited is closed when the present process is gone, for whatever reason.
func (d *Daemon) Exited() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cur == nil {
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	return d.cur.exited
}

// Restart kills the present process, if there is one, starts another on the same socket, and returns when that answers.
// It takes some hundredths of a second, however badly the old process hangs.
func (d *Daemon) Restart(ctx context.Context) error {
	d.restart.Lock()
	defer d.restart.Unlock()
	d.mu.Lock()
	old, closed := d.cur, d.closed
	d.mu.Unlock()
	if closed {
		return ErrClosed
	}
	old.kill()
	modes := []Isolation{d.cfg.Isolation}
	if d.cfg.Isolation == Private {
		modes = append(modes, Shared)
	}
	var err error
	for _, mode := range modes {
		var p *process
		if p, err = d.launch(mode); err != nil {
			continue
		}
		if err = d.answers(ctx, p); err == nil {
			return d.adopt(p)
		}
		p.kill()
		if ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("start %s: %w", d.cfg.Binary, err)
}

func (d *Daemon) adopt(p *process) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		p.kill()
		return ErrClosed
	}
	d.cur = p
	return nil
}

// answers waits for the first sign of life.
func (d *Daemon) answers(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.PingTimeout)
	defer cancel()
	pong := make(chan error, 1)
	go func() { pong <- Ping(ctx, d.cfg.Socket) }()
	select {
	case err := <-pong:
		return err
	case <-p.exited:
		return fmt.Errorf("%w: %w: %s", ErrNotStarted, p.err, p.output.String())
	}
}

// The daemon wants its own process id in LISTEN_PID, which only the process itself knows before it becomes pcscd.
const (
	launchShared  = `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`
	launchPrivate = `if [ -d /run/pcscd ]; then mount -t tmpfs pcscd /run/pcscd; else mount -t tmpfs pcscd /run && mkdir /run/pcscd; fi && ` + launchShared
)

func (d *Daemon) launch(mode Isolation) (*process, error) {
	script := launchShared
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	switch {
	case mode == Private:
		script = launchPrivate
		attr.Unshareflags = syscall.CLONE_NEWNS
		if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
			attr.Unshareflags = 0
			attr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
			attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
			attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
		}
	default:
		// pcscd ends when the folder is missing; where it cannot be created, its own message says so.
		_ = os.MkdirAll("/run/pcscd", 0o755)
	}
	args := []string{"-c", script, "sh", d.cfg.Binary, "--foreground"}
	if d.cfg.ConfigDir != "" {
		args = append(args, "--config", d.cfg.ConfigDir)
	}
	p := &process{mode: mode, output: &tail{next: d.cfg.Log}, exited: make(chan struct{})}
	p.cmd = exec.Command("/bin/sh", args...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.ExtraFiles = []*os.File{d.file} // descriptor 3, where socket activation expects it
	p.cmd.SysProcAttr = attr
	started := make(chan error, 1)
	go func() {
		// The kernel sends the death signal when the thread that started the child ends, so that thread stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := p.cmd.Start(); err != nil {
			started <- fmt.Errorf("%w: %w", ErrNotStarted, err)
			return
		}
		started <- nil
		p.err = p.cmd.Wait()
		if p.err == nil {
			p.err = errors.New("it ended by itself")
		}
		close(p.exited)
	}()
	return p, <-started
}

// kill ends a process at once and waits until it is gone. A nil process is gone already.
func (p *process) kill() {
	if p == nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // the group; fails only if it is gone
	<-p.exited
}

// Close stops the daemon and removes the socket.
func (d *Daemon) Close() error {
	d.mu.Lock()
	p := d.cur
	d.cur, d.closed = nil, true
	d.mu.Unlock()
	p.kill()
	if d.file != nil {
		d.file.Close()
	}
	return d.listener.Close()
}

// Supervise keeps the daemon alive until the context ends: it asks for a sign of life at every interval and replaces the
// process when it has ended or does not answer in time. report hears of every replacement, with the reason and how it
// went; it may be nil. A failed replacement is tried again at the next interval.
func (d *Daemon) Supervise(ctx context.Context, interval time.Duration, report func(reason, result error)) {
	if report == nil {
		report = func(error, error) {}
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		reason := ErrNotStarted
		select {
		case <-ctx.Done():
			return
		case <-d.Exited():
		case <-tick.C:
			err := d.Ping(ctx)
			if err == nil || ctx.Err() != nil {
				continue
			}
			reason = err
		}
		err := d.Restart(ctx)
		if errors.Is(err, ErrClosed) {
			return
		}
		report(reason, err)
		if err != nil {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// Ping asks for a sign of life within the configured time.
func (d *Daemon) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.PingTimeout)
	defer cancel()
	return Ping(ctx, d.cfg.Socket)
}

// Ping asks the pcscd behind a socket for its version (see pcsclite.Ping). The error is ErrNoAnswer.
func Ping(ctx context.Context, socket string) error { return pcsclite.Ping(ctx, socket) }

// tail passes on what it gets and keeps the end of it for an error message.
type tail struct {
	next io.Writer
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const keep = 1024
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	t.kept = t.kept[max(0, len(t.kept)-keep):]
	return t.next.Write(b)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.kept))
}
