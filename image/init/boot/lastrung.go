//go:build linux

package boot

import (
	"context"
	"time"

	"ktradv/image/init/sandbox"
	"ktradv/image/init/service"
	"ktradv/internal/advlog"
	"ktradv/internal/initctl"
	"ktradv/internal/terminal"
)

// Codes of the error log.
var (
	codeCardsReboot = advlog.NewCode(12012, "CARD-SERVICE-GIVEN-UP-REBOOT")
	codeCards       = advlog.NewCode(12013, "CARD-SERVICE-GIVEN-UP")
)

const (
	// maxReboots is how often in a row the machine starts itself anew because a service does not come up.
	maxReboots = 3
	// uncounted is how long a machine that cannot count its restarts, because it has no data partition, must have run before it
	// starts itself anew: it is no use to anybody, but neither is one that does nothing but start.
	uncounted = 15 * time.Minute
	// healthy is how long everything must have served until restarts are forgotten.
	healthy = 5 * time.Minute
)

// lastRung is called when the kiosk does not come up: the machine starts anew, or, when it has done so too often, shows
// the technician's screen and stays.
func (m *Machine) lastRung(ends chan<- command) {
	m.dataKnown(dataIn + 10*time.Second) // which says, too, how often the machine has started itself anew
	if m.startAnew(codeReboot, ends) {
		return
	}
	m.journal.failure(codeKiosk, 1)
	m.writeFault(terminal.CauseKiosk, []terminal.Problem{{
		File: kioskProgram, What: "the program does not start or does not stay up",
		Fix: "switch the terminal off and on; if it stays so, write the image anew",
	}})
	m.mu.Lock()
	m.fault = true
	m.mu.Unlock()
}

// lastRungOfCards is called when the card service does not come up, or cannot even be killed because it is stuck in the kernel
// with a reader: the machine starts anew as soon as no visit goes on, whose person is told by the kiosk. It does not when the
// service comes back before, and stays. Too often in a row leaves a terminal that says that it is out of order.
func (m *Machine) lastRungOfCards(ctx context.Context, ends chan<- command) {
	for {
		s, changed := m.store.State()
		cards := s.Services[sandbox.PCSCD]
		if cards.State != initctl.ServiceGivenUp && cards.Failures == 0 {
			return
		}
		if cards.State == initctl.ServiceGivenUp && s.Slot != initctl.SlotVisit && s.Data != initctl.DataOpening {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
	if !m.startAnew(codeCardsReboot, ends) {
		m.journal.failure(codeCards, 1)
	}
}

// startAnew starts the machine anew, unless it has done so too often, and tells whether it does.
func (m *Machine) startAnew(code advlog.Code, ends chan<- command) bool {
	s, _ := m.store.State()
	counted := s.Data == initctl.DataOK
	if counted && s.Reboots >= maxReboots {
		return false
	}
	if counted {
		counted = m.setup.writeReboots(s.Reboots+1) == nil
	}
	if !counted && m.uptime() < uncounted {
		return false
	}
	m.journal.failure(code, s.Reboots+1)
	select {
	case ends <- restart:
	default: // it is ending already
	}
	return true
}

// dataKnown waits until it is known what holds /data, which comes after the start of the kiosk.
func (m *Machine) dataKnown(within time.Duration) {
	end := time.After(within)
	for {
		s, changed := m.store.State()
		if s.Data != initctl.DataOpening {
			return
		}
		select {
		case <-changed:
		case <-end:
			return
		}
	}
}

// forgiveReboots sets the count back when kiosk and card service have served for a while.
func (m *Machine) forgiveReboots(ctx context.Context) {
	_ = service.Steady(ctx, healthy, func() (bool, <-chan struct{}) {
		s, changed := m.store.State()
		kiosk, cards := s.Services[sandbox.Kiosk], s.Services[sandbox.PCSCD]
		// A card service that fails again and again is forgiven nothing before it is given up.
		return kiosk.State == initctl.ServiceRunning && kiosk.Failures == 0 && cards.State != initctl.ServiceGivenUp && cards.Failures == 0, changed
	})
	if ctx.Err() != nil {
		return
	}
	if s, _ := m.store.State(); s.Reboots > 0 && s.Data == initctl.DataOK {
		if m.setup.writeReboots(0) == nil {
			m.store.Update(func(s *initctl.State) { s.Reboots = 0 })
		}
	}
}
