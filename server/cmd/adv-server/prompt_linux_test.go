package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// asProgram in the environment makes the test's binary the program.
const asProgram = "ADV_SERVER_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// terminal is a pseudo terminal: what the program shows is read from the one side, what somebody types is written there.
type terminal struct {
	t           *testing.T
	near, far   *os.File
	shown       bytes.Buffer
	seen        int // how much of it was waited for
	arrived     chan []byte
	stateBefore unix.Termios
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo terminals: %v", err)
	}
	t.Cleanup(func() { near.Close() })
	raw, err := near.SyscallConn() // Fd would make reading block beyond Close
	if err != nil {
		t.Fatal(err)
	}
	var number uint32
	var failed error
	if err := raw.Control(func(fd uintptr) {
		if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed == nil {
			number, failed = unix.IoctlGetUint32(int(fd), unix.TIOCGPTN)
		}
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	far, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	p := &terminal{t: t, near: near, far: far, arrived: make(chan []byte, 64)}
	p.stateBefore = p.state()
	go func() {
		defer close(p.arrived)
		for {
			b := make([]byte, 4096)
			n, err := near.Read(b)
			if err != nil {
				return
			}
			p.arrived <- b[:n]
		}
	}()
	return p
}

func (p *terminal) state() unix.Termios {
	p.t.Helper()
	s, err := unix.IoctlGetTermios(int(p.far.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return *s
}

// start starts the program with this as its terminal.
func (p *terminal) start(ctx context.Context, dir string, args ...string) *exec.Cmd {
	p.t.Helper()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), asProgram+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.far, p.far, p.far
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	return cmd
}

// until waits for a text that was not shown before.
func (p *terminal) until(ctx context.Context, text string) {
	p.t.Helper()
	for {
		if i := strings.Index(p.shown.String()[p.seen:], text); i >= 0 {
			p.seen += i + len(text)
			return
		}
		select {
		case b := <-p.arrived:
			p.shown.Write(b)
		case <-ctx.Done():
			p.t.Fatalf("%q was not shown, but %q", text, &p.shown)
		}
	}
}

func (p *terminal) typed(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.near, text); err != nil {
		p.t.Fatal(err)
	}
}

// TestPrompt: what is typed at the prompt for the passphrase is not shown, the first Ctrl-C ends the program, and the terminal
// is as it was.
func TestPrompt(t *testing.T) {
	t.Parallel()
	args := strings.Fields("federation init -environment TU -service https://adv.kasse.example -organisation Kasse -name AdV -email adv@kasse.example" +
		" -member-id FDkasse0001TU -group ORG-1234:BT-5678 -redirect https://adv.kasse.example/back -scope urn:telematik:versicherter")
	const first, second, secret = "Passphrase of the private keys: ", "The same again: ", "correct horse battery"
	signal := func(s os.Signal) func(*terminal, *exec.Cmd) {
		return func(p *terminal, cmd *exec.Cmd) {
			if err := cmd.Process.Signal(s); err != nil {
				p.t.Error(err)
			}
		}
	}
	type step struct {
		prompt string
		do     func(*terminal, *exec.Cmd)
	}
	write := func(text string) func(*terminal, *exec.Cmd) {
		return func(p *terminal, _ *exec.Cmd) { p.typed(text) }
	}
	for name, c := range map[string]struct {
		steps  []step
		status int
		says   string
	}{
		"typed":               {[]step{{first, write(secret + "\r")}, {second, write(secret + "\n")}}, 0, ""},
		"corrected":           {[]step{{first, write(secret + "xy\x7f\x7f\r")}, {second, write(secret + "\r")}}, 0, ""},
		"pasted":              {[]step{{first, write("\x1b[200~" + secret + "\r\x1b[201~")}, {second, write("\x1b[200~" + secret + "\r\x1b[201~")}}, 0, ""},
		"two different":       {[]step{{first, write(secret + "\r")}, {second, write(secret + "x\r")}}, 2, "differ"},
		"Ctrl-C":              {[]step{{first, write("\x03")}}, 2, "interrupted"},
		"Ctrl-C after a word": {[]step{{first, write("correct\x03")}}, 2, "interrupted"},
		"Ctrl-C, the second":  {[]step{{first, write(secret + "\r")}, {second, write("\x03")}}, 2, "interrupted"},
		"Ctrl-D":              {[]step{{first, write("\x04")}}, 2, "interrupted"},
		"SIGINT":              {[]step{{first, signal(syscall.SIGINT)}}, 2, "interrupted"},
		"SIGTERM":             {[]step{{first, signal(syscall.SIGTERM)}}, 2, "interrupted"},
		"SIGHUP":              {[]step{{first, signal(syscall.SIGHUP)}}, 2, "interrupted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			dir := t.TempDir()
			p := newTerminal(t)
			cmd := p.start(ctx, dir, args...)
			for _, s := range c.steps {
				p.until(ctx, s.prompt)
				if p.state().Lflag&unix.ECHO != 0 {
					t.Error("what is typed is shown")
				}
				s.do(p, cmd)
			}
			if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != c.status {
				t.Errorf("status %d, want %d: %v", got, c.status, cmd.ProcessState)
			}
			if diff := cmp.Diff(p.stateBefore, p.state()); diff != "" {
				t.Errorf("the terminal is not as it was: %s", diff)
			}
			p.typed("shown again\n")
			p.until(ctx, c.says)
			p.until(ctx, "shown again")
			if strings.Contains(p.shown.String(), "horse") {
				t.Errorf("the passphrase was shown: %q", &p.shown)
			}
			keys, err := filepath.Glob(filepath.Join(dir, "keys", "*.key.pem"))
			if err != nil || (len(keys) > 0) != (c.status == 0) {
				t.Errorf("keys: %v %v", keys, err)
			}
		})
	}
}
