package main

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ktradv/internal/initctl"
)

// firstProcess is a first process in the test's hand.
type firstProcess struct {
	mu       sync.Mutex
	state    initctl.State
	changed  chan struct{}
	restarts int
}

func (p *firstProcess) State() (initctl.State, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.Clone(), p.changed
}

func (p *firstProcess) set(f func(*initctl.State)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.state)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *firstProcess) Restart(_ context.Context, service string, start int) initctl.Fault {
	if service != initctl.PCSCD {
		return initctl.FaultRefused
	}
	p.set(func(s *initctl.State) {
		s.Services[service] = initctl.Service{State: initctl.ServiceRunning, Starts: start + 1}
	})
	p.mu.Lock()
	p.restarts++
	p.mu.Unlock()
	return initctl.FaultNone
}

func (p *firstProcess) SetSlot(slot initctl.Slot) {
	p.set(func(s *initctl.State) { s.Slot = slot })
}

// The card service that the first process runs: asked only while it runs, replaced at the kiosk's word, and never told to be
// gone, because the first process brings it back by itself.
func TestCardServiceOfTheFirstProcess(t *testing.T) {
	t.Parallel()
	p := &firstProcess{changed: make(chan struct{}), state: initctl.State{
		Reader: initctl.ReaderNone, Network: initctl.NetworkUp, Clock: initctl.ClockOK, Data: initctl.DataOK,
		Services: map[string]initctl.Service{initctl.PCSCD: {State: initctl.ServiceStarting, Starts: 1}},
	}}
	path := filepath.Join(t.TempDir(), "init.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	served := make(chan error, 1)
	go func() { served <- initctl.Serve(ctx, l, func(uint32) bool { return true }, p) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	mute := errors.New("no answer")
	client, err := initctl.Dial(ctx, path, func(context.Context) error { return mute })
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	m := &machine{client: client}
	for _, slot := range []initctl.Slot{initctl.SlotEmpty, initctl.SlotVisit, initctl.SlotCard, initctl.SlotEmpty} {
		m.setSlot(slot)
		if _, err := client.Wait(ctx, func(s initctl.State) bool { return s.Slot == slot }); err != nil {
			t.Fatal(err)
		}
		if free := m.free(ctx); free != (slot == initctl.SlotEmpty) {
			t.Errorf("slot %q: free %v", slot, free)
		}
	}
	c := &initCards{client}
	if err := c.Ping(ctx); err != nil {
		t.Errorf("a service that is on its way was asked: %v", err)
	}
	if err := c.Restart(ctx); err != nil || p.restarts != 1 {
		t.Errorf("restart: %v, %d restarts", err, p.restarts)
	}
	if err := c.Ping(ctx); !errors.Is(err, mute) {
		t.Errorf("a service that runs was not asked: %v", err)
	}
	p.set(func(s *initctl.State) {
		s.Services[initctl.PCSCD] = initctl.Service{State: initctl.ServiceRestarting, Starts: 2}
	})
	if _, err := client.Wait(ctx, func(s initctl.State) bool { return s.Services[initctl.PCSCD].State == initctl.ServiceRestarting }); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Exited():
		t.Error("told to be gone")
	default:
	}
}
