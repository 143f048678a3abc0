package pcscd

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func start(t *testing.T, cfg Config) *Daemon {
	t.Helper()
	if err := Available(); err != nil {
		t.Skip(err)
	}
	d, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// folder is a folder with a path short enough for a socket.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pcscd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func config(t *testing.T) Config {
	dir := folder(t)
	return Config{ConfigDir: dir, Socket: filepath.Join(dir, "s"), Isolation: Private, PingTimeout: time.Second}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestStartAndStop(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	d := start(t, cfg)
	if err := d.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	fi, err := os.Stat(cfg.Socket)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", fi, err)
	}
	pid := d.Pid()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process is still there: %v", err)
	}
	if _, err := os.Stat(cfg.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket is still there: %v", err)
	}
	if err := d.Restart(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("restart after close: %v", err)
	}
	if err := d.Ping(t.Context()); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("ping after close: %v", err)
	}
}

func TestTheSystemsFilesStayUntouched(t *testing.T) {
	t.Parallel()
	const file = "/run/pcscd/pcscd.pid"
	before, errBefore := os.ReadFile(file)
	d := start(t, config(t))
	if d.Isolation() != Private {
		t.Skip("namespaces are not allowed here")
	}
	d.Close()
	after, errAfter := os.ReadFile(file)
	if string(before) != string(after) || (errBefore == nil) != (errAfter == nil) {
		t.Errorf("%s: %q, %v; was %q, %v", file, after, errAfter, before, errBefore)
	}
}

func TestSuperviseReplaces(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{"a daemon that hangs": syscall.SIGSTOP, "a daemon that died": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := start(t, config(t))
			type event struct{ reason, result error }
			events := make(chan event, 10)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				d.Supervise(ctx, 100*time.Millisecond, func(reason, result error) { events <- event{reason, result} })
			}()
			old := d.Pid()
			began := time.Now()
			if err := syscall.Kill(old, signal); err != nil {
				t.Fatal(err)
			}
			select {
			case e := <-events:
				if e.reason == nil || e.result != nil {
					t.Errorf("replaced for %v with %v", e.reason, e.result)
				}
			case <-within(t).Done():
				t.Fatal("not replaced within 10 s")
			}
			t.Logf("replaced after %v", time.Since(began))
			if d.Pid() == old || d.Ping(t.Context()) != nil {
				t.Errorf("process %d after %d, %v", d.Pid(), old, d.Ping(t.Context()))
			}
			cancel()
			<-ended
		})
	}
}

func TestRestartKillsWhatHangs(t *testing.T) {
	t.Parallel()
	d := start(t, config(t))
	exited := d.Exited()
	if err := syscall.Kill(d.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := d.Ping(t.Context()); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a stopped daemon answers: %v", err)
	}
	if err := d.Restart(within(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-exited:
	default:
		t.Error("the old process is not gone")
	}
	if err := d.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBadConfigurationIsTold(t *testing.T) {
	t.Parallel()
	if err := Available(); err != nil {
		t.Skip(err)
	}
	cfg := config(t)
	// A device name without a colon has to be an existing path, else pcscd refuses everything and ends.
	conf := "FRIENDLYNAME \"x\"\nDEVICENAME /does/not/exist\nLIBPATH /does/not/exist.so\n"
	if err := os.WriteFile(filepath.Join(cfg.ConfigDir, "x"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), cfg)
	if !errors.Is(err, ErrNotStarted) {
		t.Errorf("got %v", err)
	}
}

func TestMissingDaemonIsTold(t *testing.T) {
	t.Parallel()
	if _, err := Start(t.Context(), Config{Binary: "/does/not/exist", Socket: filepath.Join(folder(t), "s")}); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("got %v", err)
	}
	if _, err := Start(t.Context(), Config{Binary: "/bin/sh", Socket: "/does/not/exist/s"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder of the socket missing: %v", err)
	}
}

func TestLeftOverSocketIsReplaced(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: cfg.Socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	start(t, cfg)
	// Anything else than a socket is left alone.
	file := filepath.Join(folder(t), "s")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Config{Binary: "/bin/sh", Socket: file}); err == nil {
		t.Error("started on a file")
	}
	if b, err := os.ReadFile(file); string(b) != "precious" {
		t.Errorf("file holds %q, %v", b, err)
	}
}

func TestPingOfSomethingElse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(folder(t), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := Ping(ctx, path); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("got %v", err)
	}
}
