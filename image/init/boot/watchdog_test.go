//go:build linux

package boot

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"ktradv/image/init/programs"
	"ktradv/image/init/sandbox"
	"ktradv/image/init/service"
)

// A service of adv-init's own that gives its signs of life keeps its process; one that hangs is killed, and another is
// started in its place.
func TestHungServiceIsReplaced(t *testing.T) {
	t.Parallel()
	m := newMachine(Setup{newKernel(t), ""})
	for name, s := range map[string]spec{sandbox.USB: m.usb(), sandbox.Network: m.network(), sandbox.Time: m.clock()} {
		if s.Name != name || !s.notifies {
			t.Errorf("%s: name %q, notifies %v", name, s.Name, s.notifies)
		}
		synctest.Test(t, func(t *testing.T) {
			cfg := s.Config
			notes := make(chan service.Notification)
			killed, started := make(chan int, 8), make(chan int, 8)
			causes := make(chan service.Cause, 8)
			cfg.Notifications = notes
			cfg.Start = func(n int) (service.Running, error) {
				started <- n
				return &process{make(chan struct{}), killed, n}, nil
			}
			cfg.Replaced = func(c service.Cause, _ int) { causes <- c }
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); service.New(cfg).Run(ctx) }()
			<-started
			synctest.Wait()
			notes <- service.Notification{Ready: true}
			for range 100 {
				time.Sleep(programs.Beat)
				notes <- service.Notification{Watchdog: true}
			}
			if len(killed) != 0 || len(causes) != 0 {
				t.Fatalf("%s: replaced while it lived: %v", name, <-causes)
			}
			hung := time.Now()
			if n := <-killed; n != 1 {
				t.Errorf("%s: process %d was killed", name, n)
			}
			if d := time.Since(hung); d > time.Minute {
				t.Errorf("%s: killed after %v", name, d)
			}
			if n := <-started; n != 2 {
				t.Errorf("%s: start %d", name, n)
			}
			if c := <-causes; c != service.CauseWatchdog || len(causes) != 0 {
				t.Errorf("%s: replaced because of %q and %d more", name, c, len(causes))
			}
			cancel()
			<-done
		})
	}
}
