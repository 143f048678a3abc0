//go:build linux

package boot

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ktradv/image/init/sandbox"
	"ktradv/image/init/service"
	"ktradv/internal/initctl"
	"ktradv/internal/terminal"
)

// machineOn makes a machine with the folders of its data partition.
func machineOn(t *testing.T, k *kernel) *Machine {
	t.Helper()
	for _, d := range []string{"data/init", "run/adv"} {
		if err := os.MkdirAll(filepath.Join(k.root, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m := newMachine(Setup{k, k.root})
	m.uptime = func() time.Duration { return time.Minute }
	return m
}

// The machine starts itself anew a few times, and then stays with the technician's screen. One that cannot count does so only
// after it has run for a while.
func TestLastRung(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		data    initctl.Data
		reboots int
		uptime  time.Duration
		reboot  bool
	}{
		{"first", initctl.DataOK, 0, time.Minute, true},
		{"last", initctl.DataOK, maxReboots - 1, time.Minute, true},
		{"too often", initctl.DataOK, maxReboots, time.Hour, false},
		{"cannot count", initctl.DataMissing, 0, time.Minute, false},
		{"cannot count, ran for a while", initctl.DataMissing, 0, uncounted, true},
		{"full", initctl.DataFull, 0, time.Minute, false},
		{"full, ran for a while", initctl.DataFull, 0, uncounted, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := newKernel(t)
			m := machineOn(t, k)
			m.uptime = func() time.Duration { return c.uptime }
			ends := make(chan command, 1)
			done := make(chan struct{})
			go func() { defer close(done); m.lastRung(ends) }() // the data partition comes later than the kiosk's failures may
			m.store.Update(func(s *initctl.State) { s.Supported = 1 })
			m.store.Update(func(s *initctl.State) { s.Data, s.Reboots = c.data, c.reboots })
			<-done
			if rebooted := len(ends) == 1; rebooted != c.reboot || m.fault == c.reboot {
				t.Errorf("reboot %v, technician's screen %v; want reboot %v", rebooted, m.fault, c.reboot)
			}
			if c.reboot {
				if got := m.setup.readReboots(); c.data == initctl.DataOK && got != c.reboots+1 {
					t.Errorf("count = %d; want %d", got, c.reboots+1)
				}
				return
			}
			f, err := terminal.LoadFault(filepath.Join(k.root, terminal.FaultPath))
			if err != nil || f.Cause != terminal.CauseKiosk || len(f.Problems) != 1 || len(f.Facts) == 0 {
				t.Errorf("fault = %+v, %v", f, err)
			}
		})
	}
}

// deaf is a card service that is stuck in the kernel: it ends only when the test frees it.
type deaf struct{ exited chan struct{} }

func (*deaf) Pid() int                    { return 1 }
func (d *deaf) Exited() <-chan struct{}   { return d.exited }
func (*deaf) ExitCode() int               { return 0 }
func (*deaf) Signal(syscall.Signal) error { return nil }

// A card service that cannot be killed, because it is stuck in the kernel with a reader, leads to a new start of the machine:
// not beside a visit, not when it ends after all, and not too often in a row. No other service is started beside it.
func TestStuckCardService(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		reboots int
		slot    initctl.Slot
		after   time.Duration // the visit ends, or the service does
		frees   bool
		reboot  bool
	}{
		{"no visit", 0, initctl.SlotEmpty, 0, false, true},
		{"card of before in", 0, initctl.SlotCard, 0, false, true},
		{"nothing known", 0, initctl.SlotUnknown, 0, false, true},
		{"visit goes on", 0, initctl.SlotVisit, 0, false, false},
		{"visit ends", 0, initctl.SlotVisit, 10 * time.Minute, false, true},
		{"it ends after all", 0, initctl.SlotEmpty, 20 * time.Second, true, false},
		{"it ends in the visit", 0, initctl.SlotVisit, 10 * time.Minute, true, false},
		{"too often", maxReboots, initctl.SlotEmpty, 0, false, false},
	} {
		k := newKernel(t)
		synctest.Test(t, func(t *testing.T) {
			m := machineOn(t, k)
			m.store.Update(func(s *initctl.State) { s.Data, s.Reboots, s.Slot = initctl.DataOK, c.reboots, c.slot })
			ends := make(chan command, 1)
			ctx, cancel := context.WithCancel(t.Context())
			cfg := m.pcscd(ctx, nil, ends).Config
			var started []*deaf
			cfg.Start = func(int) (service.Running, error) {
				started = append(started, &deaf{make(chan struct{})})
				return started[len(started)-1], nil
			}
			cfg.Probe = nil // ready at once
			reset := 0
			cfg.Stuck = func() { reset++ }
			cfg.Changed = func(s initctl.Service) { m.store.Update(func(st *initctl.State) { st.Services[sandbox.PCSCD] = s }) }
			svc := service.New(cfg)
			done := make(chan struct{})
			go func() { defer close(done); svc.Run(ctx) }()
			synctest.Wait()
			go svc.Restart(ctx, 0) // the kiosk says that it hangs
			if c.after > 0 {
				time.Sleep(c.after)
				if c.slot == initctl.SlotVisit && len(ends) != 0 {
					t.Errorf("%s: a visit was cut off", c.name)
				}
				if c.frees {
					close(started[0].exited)
				} else {
					m.SetSlot(initctl.SlotEmpty)
				}
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if reboot := len(ends) == 1 && <-ends == restart; reboot != c.reboot {
				t.Errorf("%s: new start of the machine %v; want %v", c.name, reboot, c.reboot)
			}
			if n := m.setup.readReboots(); c.reboot && n != c.reboots+1 {
				t.Errorf("%s: counted %d; want %d", c.name, n, c.reboots+1)
			}
			if reset != 1 {
				t.Errorf("%s: readers were reset %d times", c.name, reset)
			}
			if beside := len(started) != 1; beside != c.frees {
				t.Errorf("%s: %d services were started", c.name, len(started))
			}
			cancel()
			synctest.Wait()
			time.Sleep(time.Minute) // its own patience at the end
			<-done
		})
	}
}

// A card service that was given up in a visit, comes back and fails again has not come back; one whose failures are forgiven
// has (the twin).
func TestCardServiceComesAndGoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		failures int // when it is back
		reboot   bool
	}{{20, true}, {0, false}} {
		k := newKernel(t)
		synctest.Test(t, func(t *testing.T) {
			m := machineOn(t, k)
			cards := func(state initctl.ServiceState, failures int) {
				m.store.Update(func(s *initctl.State) { s.Services[sandbox.PCSCD] = initctl.Service{State: state, Failures: failures} })
				synctest.Wait()
			}
			m.store.Update(func(s *initctl.State) { s.Data, s.Slot = initctl.DataOK, initctl.SlotVisit })
			cards(initctl.ServiceGivenUp, 20)
			ends := make(chan command, 1)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); m.lastRungOfCards(ctx, ends) }()
			synctest.Wait()
			cards(initctl.ServiceRunning, c.failures)
			m.SetSlot(initctl.SlotEmpty)
			synctest.Wait()
			if len(ends) != 0 {
				t.Errorf("%d failures: a machine whose card service is back starts anew", c.failures)
			}
			cards(initctl.ServiceGivenUp, c.failures+1)
			if reboot := len(ends) == 1; reboot != c.reboot {
				t.Errorf("%d failures: new start of the machine %v; want %v", c.failures, reboot, c.reboot)
			}
			cancel()
			<-done
		})
	}
}

// Restarts are forgotten when kiosk and card service have served for a while, and not while the card service is given up or on
// the way there, however long that takes: a reader that kills it every minute would have the machine start anew for ever (the
// twins).
func TestRestartsAreForgotten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cards initctl.Service
		want  int
	}{
		{initctl.Service{State: initctl.ServiceRunning}, 0},
		{initctl.Service{State: initctl.ServiceGivenUp}, 2},
		{initctl.Service{State: initctl.ServiceRunning, Failures: 7}, 2},
		{initctl.Service{State: initctl.ServiceRestarting, Failures: 8}, 2},
	} {
		state, want := c.cards.State, c.want
		k := newKernel(t)
		synctest.Test(t, func(t *testing.T) {
			m := machineOn(t, k)
			if err := m.setup.writeReboots(2); err != nil {
				t.Fatal(err)
			}
			m.store.Update(func(s *initctl.State) {
				s.Data, s.Reboots = initctl.DataOK, 2
				s.Services[sandbox.Kiosk] = initctl.Service{State: initctl.ServiceRunning}
				s.Services[sandbox.PCSCD] = c.cards
			})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); m.forgiveReboots(ctx) }()
			time.Sleep(healthy - time.Second)
			synctest.Wait()
			if n := m.setup.readReboots(); n != 2 {
				t.Errorf("%s: forgotten too soon: %d", state, n)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if n := m.setup.readReboots(); n != want {
				t.Errorf("%s: %d restarts are remembered; want %d", state, n, want)
			}
			cancel()
			<-done
		})
	}
}
