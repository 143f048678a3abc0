//go:build linux

package boot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ktradv/image/init/programs"
	"ktradv/image/init/sandbox"
	"ktradv/image/init/service"
	"ktradv/image/init/usb"
	"ktradv/image/init/users"
	"ktradv/internal/initctl"
	"ktradv/internal/pcsclite"
	"ktradv/internal/terminal"
)

// startKiosk starts the AdV-App, and gives it the display when there is one.
func (m *Machine) startKiosk(ctx context.Context, problems []terminal.Problem, ends chan<- command) {
	go func() {
		m.display()
		m.journal.step(stepDisplay)
	}()
	if len(problems) > 0 {
		m.mu.Lock()
		m.fault = true
		m.mu.Unlock()
		m.writeFault(terminal.CauseConfiguration, problems)
		m.journal.failure(codeConfig, len(problems))
	}
	m.run(ctx, spec{
		user: users.Kiosk, notifies: true,
		argv: func() []string {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.fault {
				return []string{kioskProgram, "-config", terminal.Path, "-fault", terminal.FaultPath}
			}
			return []string{kioskProgram, "-config", terminal.Path}
		},
		Config: service.Config{
			Name: sandbox.Kiosk, Ready: 30 * time.Second, Watchdog: 20 * time.Second, Stop: 5 * time.Second, Limit: 5, Retry: time.Second,
			Forgive: 2 * time.Minute,
			Last:    func() { m.lastRung(ends) },
			Replaced: func(c service.Cause, _ int) {
				if c != service.CauseStuck { // its end is told once more
					m.visitOver()
					go m.forgetCards(ctx)
				}
			},
		},
	})
	go m.forgiveReboots(ctx)
}

// forgetCards replaces the card service after a kiosk that ended in the middle of a visit and could not ask for it any more:
// what the service still holds of the person goes (AdV-A_2409).
func (m *Machine) forgetCards(ctx context.Context) {
	if f := m.Restart(ctx, initctl.PCSCD, 0); f != initctl.FaultNone {
		m.journal.failure(codeService, 1)
	}
}

// displayIn is how long a display may take to appear before the absence is noted; the kiosk waits for it by itself.
const displayIn = 4 * time.Second

// display waits for a display and gives its nodes to the kiosk. One that comes later than a display should is given to it
// as well: a slow machine has one, too.
func (m *Machine) display() {
	for end := time.Now().Add(displayIn); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if giveDisplay() {
			return
		}
	}
	m.journal.failure(codeDisplay, 1)
	go func() {
		for !giveDisplay() {
			time.Sleep(250 * time.Millisecond)
		}
	}()
}

// giveDisplay gives the nodes of displays to the kiosk, and tells whether there are any.
func giveDisplay() bool {
	cards, _ := filepath.Glob("/dev/dri/card*")
	for _, c := range cards {
		if err := os.Chown(c, int(users.Root), int(users.Kiosk)); err == nil {
			_ = os.Chmod(c, 0o660)
		}
	}
	return len(cards) > 0
}

// listenPCSCD opens the socket of the card service. It is ours and stays while daemons change behind it.
func listenPCSCD() (*os.File, error) {
	_ = os.Remove(pcscdSocket)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: pcscdSocket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	// Only the kiosk may connect.
	_ = os.Chmod(pcscdSocket, 0o600)
	_ = os.Chown(pcscdSocket, int(users.Kiosk), int(users.Root))
	return l.File()
}

func (m *Machine) startPCSCD(ctx context.Context, f *os.File, ends chan<- command) {
	if f == nil {
		return // there is no socket
	}
	// libudev listens to messages about devices only where it finds this; otherwise readers that come later are not seen.
	m.journal.problem(stepServices, errors.Join(os.MkdirAll("/run/udev", 0o755), os.WriteFile("/run/udev/control", nil, 0o644)))
	m.run(ctx, m.pcscd(ctx, f, ends))
}

func (m *Machine) pcscd(ctx context.Context, f *os.File, ends chan<- command) spec {
	return spec{
		user: users.PCSCD, listener: f,
		argv: func() []string { return []string{pcscdProgram, "--foreground"} },
		Config: service.Config{
			Name: sandbox.PCSCD, Ready: 4 * time.Second, Kill: time.Second, Stop: time.Second, Limit: 20, Retry: 10 * time.Second,
			Probe: func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				return pcsclite.Ping(ctx, pcscdSocket)
			},
			Stuck: func() { usb.Reset("", func() { time.Sleep(200 * time.Millisecond) }) },
			Last:  func() { go m.lastRungOfCards(ctx, ends) },
		},
	}
}

// reader is the word for a number of readers. More than one is as it should be where the configuration names which serves.
func (m *Machine) reader(supported, unsupported int) initctl.Readers {
	if m.config.Reader.Name != "" {
		supported = min(supported, 1)
	}
	return initctl.ReaderState(supported, unsupported)
}

// patience is how long a service of adv-init's own may give no sign of life: two that got lost on a busy machine do no harm.
const patience = 3 * programs.Beat

func (m *Machine) usb() spec {
	return spec{
		user: users.Root, notifies: true,
		argv: func() []string { return []string{m.self, sandbox.USB} },
		Config: service.Config{Name: sandbox.USB, Watchdog: patience, Field: func(f service.Field) {
			switch f.Key {
			case "READERS":
				a, b, ok := strings.Cut(f.Value, "/")
				n, err1 := strconv.Atoi(a)
				u, err2 := strconv.Atoi(b)
				if !ok || err1 != nil || err2 != nil || n < 0 || u < 0 {
					return
				}
				m.store.Update(func(s *initctl.State) { s.Supported, s.Unsupported, s.Reader = n, u, m.reader(n, u) })
			case "REFUSED":
				var vendor, product, reason int
				if n, err := fmt.Sscanf(f.Value, "%d:%d:%d", &vendor, &product, &reason); n != 3 || err != nil {
					return
				}
				m.store.Update(func(s *initctl.State) { s.USBRefused++ })
				m.journal.refused(vendor, product, reason)
			}
		}},
	}
}

func (m *Machine) network() spec {
	return spec{
		user: users.Net, notifies: true,
		argv: func() []string { return []string{m.self, sandbox.Network} },
		Config: service.Config{Name: sandbox.Network, Watchdog: patience, Field: func(f service.Field) {
			if f.Key != "NETWORK" {
				return
			}
			for _, n := range []initctl.Network{initctl.NetworkDown, initctl.NetworkNoAddress, initctl.NetworkUp} {
				if f.Value == string(n) {
					m.store.Update(func(s *initctl.State) { s.Network = n })
					m.journal.network(n)
				}
			}
		}},
	}
}

func (m *Machine) clock() spec {
	return spec{
		user: users.Time, notifies: true,
		argv: func() []string { return []string{m.self, sandbox.Time} },
		Config: service.Config{Name: sandbox.Time, Watchdog: patience, Field: func(f service.Field) {
			switch f.Key {
			case "CLOCK":
				for _, c := range []initctl.Clock{initctl.ClockOK, initctl.ClockUnset, initctl.ClockWrong} {
					if f.Value == string(c) {
						m.store.Update(func(s *initctl.State) { s.Clock = c })
						m.journal.clock(c)
					}
				}
			case "STEPPED":
				if ms, err := strconv.ParseInt(f.Value, 10, 64); err == nil {
					m.journal.stepped(ms)
				}
			}
		}},
	}
}
