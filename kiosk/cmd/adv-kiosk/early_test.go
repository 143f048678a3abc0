package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ktradv/internal/advlog"
	"ktradv/internal/initctl"
	"ktradv/internal/terminal"
	"ktradv/kiosk/app"
)

// power is a terminal after power on: a first process that looks for the data partition, and the place of the logs.
type power struct {
	*firstProcess
	m      *machine
	cfg    terminal.Log
	ctx    context.Context
	cancel context.CancelFunc
	early  string // the folder in memory
	place  string // the folder of the data partition
}

func powerOn(t *testing.T) *power {
	t.Helper()
	dir := t.TempDir()
	p := &power{
		firstProcess: &firstProcess{changed: make(chan struct{}), state: initctl.State{
			Reader: initctl.ReaderNone, Network: initctl.NetworkDown, Clock: initctl.ClockUnset, Data: initctl.DataOpening, Services: map[string]initctl.Service{},
		}},
		cfg: terminal.Log{Enabled: true, Dir: filepath.Join(dir, "log"), Level: "info"}, early: filepath.Join(dir, "early"), place: filepath.Join(dir, "place"),
	}
	p.ctx, p.cancel = context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(p.cancel)
	if err := errors.Join(os.Mkdir(p.early, 0o700), os.Mkdir(p.place, 0o700)); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	ctx, stop := context.WithCancel(context.Background())
	go func() { served <- initctl.Serve(ctx, l, func(uint32) bool { return true }, p) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	client, err := initctl.Dial(p.ctx, socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	p.m = &machine{client: client, stop: func() {}, patience: time.Millisecond, early: p.early}
	return p
}

// mount gives the place of the logs another folder, as a mount over it does.
func (p *power) mount(t *testing.T, dir string) {
	t.Helper()
	if err := errors.Join(os.Symlink(dir, p.cfg.Dir+".new"), os.Rename(p.cfg.Dir+".new", p.cfg.Dir)); err != nil {
		t.Fatal(err)
	}
}

func (p *power) found(t *testing.T) {
	t.Helper()
	p.mount(t, p.place)
	p.set(func(s *initctl.State) { s.Data = initctl.DataOK })
}

// entry writes one entry of a component, as a process of it would.
func (p *power) entry(t *testing.T, log *advlog.Log, name advlog.Label) {
	t.Helper()
	log.Flow(p.ctx, advlog.FlowEvent{Name: name, Result: advlog.ResultOK})
	if err := log.Flush(p.ctx); err != nil || log.Dropped() > 0 {
		t.Errorf("%v, %d dropped", err, log.Dropped())
	}
}

func content(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// While the disk does not answer the terminal serves and logs to memory; when it answers, what was logged follows to it.
func TestLogsFollow(t *testing.T) {
	t.Parallel()
	p := powerOn(t)
	p.mount(t, p.early)
	log, err := p.m.openLog(p.ctx, p.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	session, err := app.OpenLog(p.cfg, advlog.App)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	p.entry(t, log, advlog.L("supervisor.early"))
	p.entry(t, session, advlog.L("visit.early"))
	if !strings.Contains(content(t, p.early, "adv-app-flow.log"), "visit.early") {
		t.Error("nothing is in memory")
	}
	p.found(t)
	p.m.wg.Wait()
	p.entry(t, session, advlog.L("visit.late")) // of a session that has begun before
	p.entry(t, log, advlog.L("supervisor.late"))
	for name, words := range map[string][]string{
		"adv-app-flow.log": {"visit.early", "visit.late"}, "adv-supervisor-flow.log": {"supervisor.early", "supervisor.late"},
	} {
		text := content(t, p.place, name)
		for _, w := range words {
			if strings.Count(text, w) != 1 {
				t.Errorf("%s: want one %s in\n%s", name, w, text)
			}
		}
		if left := content(t, p.early, name); left != "" {
			t.Errorf("%s is left in memory:\n%s", name, left)
		}
	}
}

// A kiosk that ends before the disk answers leaves nothing behind: the next one moves what it has logged, once.
func TestLogsOfTheKioskBefore(t *testing.T) {
	t.Parallel()
	p := powerOn(t)
	p.mount(t, p.early)
	ctx, end := context.WithCancel(p.ctx)
	log, err := p.m.openLog(ctx, p.cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.entry(t, log, advlog.L("supervisor.early"))
	end()
	p.m.wg.Wait()
	log.Close()
	p.found(t)
	for range 2 { // and another after it
		log, err := p.m.openLog(p.ctx, p.cfg)
		if err != nil {
			t.Fatal(err)
		}
		p.m.wg.Wait()
		log.Close()
		if text := content(t, p.place, "adv-supervisor-flow.log"); strings.Count(text, "supervisor.early") != 1 {
			t.Errorf("want one entry of the kiosk before in\n%s", text)
		}
	}
	if left := content(t, p.early, "adv-supervisor-flow.log"); left != "" {
		t.Errorf("left in memory:\n%s", left)
	}
}

// A partition that is there in time is waited for, and nothing is in memory; one that is found while the log is being opened
// has nothing to move.
func TestLogsInTime(t *testing.T) {
	t.Parallel()
	p := powerOn(t)
	p.m.patience = time.Hour
	opened := make(chan *advlog.Log, 1)
	go func() {
		log, err := p.m.openLog(p.ctx, p.cfg)
		if err != nil {
			t.Error(err)
		}
		opened <- log
	}()
	p.found(t)
	log := <-opened
	defer log.Close()
	p.m.wg.Wait()
	p.entry(t, log, advlog.L("supervisor.late"))
	if entries, _ := os.ReadDir(p.early); len(entries) > 0 || content(t, p.place, "adv-supervisor-flow.log") == "" {
		t.Errorf("%d files in memory, on the partition %q", len(entries), content(t, p.place, "adv-supervisor-flow.log"))
	}
	p.m.early = p.cfg.Dir
	before := content(t, p.place, "adv-supervisor-flow.log")
	p.m.follow(p.ctx, p.cfg, log)
	if now := content(t, p.place, "adv-supervisor-flow.log"); now != before {
		t.Errorf("moved onto itself:\n%s", now)
	}
}

// Without a place of its own, in memory or on a disk, the kiosk opens no log; it goes on waiting for one, and ends when it is
// told to.
func TestNoPlace(t *testing.T) {
	t.Parallel()
	p := powerOn(t)
	ctx, cancel := context.WithTimeout(p.ctx, 300*time.Millisecond)
	defer cancel()
	if log, err := p.m.openLog(ctx, p.cfg); err == nil || log != nil {
		t.Errorf("%v, %v; want to wait until the end", log, err)
	}
	if ownFolder("/proc/1") != nil && os.Geteuid() != 0 {
		t.Error("a folder of somebody else's")
	}
}
