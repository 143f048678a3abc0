package service

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseNotification(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want Notification
		bad  bool
	}{
		{text: "READY=1", want: Notification{Ready: true}},
		{text: "READY=1\nSTATUS=all well\nMAINPID=4\n", want: Notification{Ready: true}},
		{text: "WATCHDOG=1\nSTOPPING=1", want: Notification{Watchdog: true, Stopping: true}},
		{text: "READY=0", want: Notification{}},
		{text: "X_A=1\nX_B=x=y", want: Notification{Fields: []Field{{"A", "1"}, {"B", "x=y"}}}},
		{text: "", bad: true},
		{text: "READY", bad: true},
		{text: "=1", bad: true},
		{text: "READY=1\x00", bad: true},
		{text: strings.Repeat("X_A=1\n", maxFields+1), bad: true},
		{text: "X_A=" + strings.Repeat("a", maxDatagram), bad: true},
	} {
		got, err := ParseNotification([]byte(c.text))
		if diff := cmp.Diff(c.want, got); diff != "" || c.bad != errors.Is(err, ErrNotification) {
			t.Errorf("ParseNotification(%.40q) = %+v, %v", c.text, got, err)
		}
	}
}

func FuzzParseNotification(f *testing.F) {
	f.Add([]byte("READY=1\nX_NETWORK=up"))
	f.Add([]byte("WATCHDOG=1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseNotification(b)
		if err != nil && (n.Ready || n.Watchdog || n.Stopping || n.Fields != nil) {
			t.Error("half a notification with an error")
		}
		if len(n.Fields) > maxFields {
			t.Error("too many fields")
		}
	})
}

// send sends a datagram with what else is in oob.
func send(t *testing.T, path, text string, oob []byte) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Sendmsg(fd, []byte(text), oob, &unix.SockaddrUnix{Name: path}, 0); err != nil {
		t.Fatal(err)
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "n")
	notes, stop, err := Listen(path, uint32(os.Getuid()), func(pid int) bool { return pid == os.Getpid() })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	send(t, path, "nonsense", nil)
	send(t, path, "READY=1", unix.UnixRights(0)) // the descriptor is dropped
	select {
	case n := <-notes:
		if !n.Ready {
			t.Errorf("got %+v", n)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no notification")
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v; want mode 0600", fi.Mode(), err)
	}
}

// Nobody speaks for another service: neither another user nor another process of the same one.
func TestListenChecksWhoSpeaks(t *testing.T) {
	t.Parallel()
	own, other := uint32(os.Getuid()), uint32(os.Getuid())+1
	as := func(uid uint32) []byte {
		return unix.UnixCredentials(&unix.Ucred{Pid: int32(os.Getpid()), Uid: uid, Gid: uint32(os.Getgid())})
	}
	t.Run("other user", func(t *testing.T) {
		t.Parallel()
		if own != 0 {
			t.Skip("needs root: messages of two users are sent")
		}
		path := filepath.Join(t.TempDir(), "n")
		notes, stop, err := Listen(path, other, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		send(t, path, "READY=1", as(own))
		send(t, path, "WATCHDOG=1", as(other))
		if n := <-notes; n.Ready || !n.Watchdog {
			t.Errorf("first message passed on = %+v; want the one of the right user", n)
		}
	})
	t.Run("other process", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "n")
		asked := 0
		notes, stop, err := Listen(path, own, func(pid int) bool { asked++; return pid == os.Getpid() && asked == 2 })
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		send(t, path, "READY=1", nil)
		send(t, path, "WATCHDOG=1", nil)
		if n := <-notes; n.Ready || !n.Watchdog {
			t.Errorf("first message passed on = %+v; want the one of the right process", n)
		}
	})
}

// The reaper collects what it started with its status, and orphans too.
func TestReaper(t *testing.T) {
	r := NewReaper()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { r.Collect(stop); close(done) }()
	defer func() { close(stop); <-done }()
	run := func(script string) *Process {
		t.Helper()
		p, err := r.Start("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := run("exit 7")
	<-p.Exited()
	if p.ExitCode() != 7 {
		t.Errorf("exit code = %d; want 7", p.ExitCode())
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Errorf("signal to a process that is gone: %v", err)
	}
	// Its child is in the same group and ends with it.
	p = run("sleep 1000 & wait")
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.Exited()
	if p.ExitCode() != 128+9 {
		t.Errorf("exit code = %d; want 137", p.ExitCode())
	}
	for i := range 50 { // ends at once: never missed
		if q := run("exit 0"); q != nil {
			select {
			case <-q.Exited():
			case <-time.After(20 * time.Second):
				t.Fatalf("end of process %d was missed", i)
			}
		}
	}
	if _, err := r.Start("/nonexistent", []string{"x"}, &syscall.ProcAttr{}); err == nil {
		t.Error("a program that does not exist was started")
	}
}
