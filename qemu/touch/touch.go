// Package touch is a simulated multi-touch screen as a USB device, at a port of package ktradv/qemu/usbredir: a HID
// digitizer with two fingers, as touch screens are (HID Usage Tables 1.4, chapter 16; the reports are those of the
// Windows precision touch screens, which hid-multitouch of the guest's kernel drives).
//
// [Screen.Tap] touches a point, [Screen.Set] says which fingers are where. Positions are shares of the screen's width and
// height, from 0 to 1, so that the device fits every resolution.
package touch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"ktradv/qemu/usbredir"
)

// Fingers is how many fingers the screen tells apart.
const Fingers = 2

// Max is the largest coordinate of the device, on both axes.
const Max = 32767

const (
	epInterrupt = 0x81

	reportTouch    = 1 // input: the fingers
	reportContacts = 2 // feature: how many fingers at most
)

// descriptor is the HID report descriptor.
var descriptor = func() []byte {
	b := []byte{
		0x05, 0x0D, // usage page: digitizers
		0x09, 0x04, // usage: touch screen
		0xA1, 0x01, // collection: application
		0x85, reportTouch,
	}
	for range Fingers {
		b = append(b,
			0x05, 0x0D,
			0x09, 0x22, // usage: finger
			0xA1, 0x02, // collection: logical
			0x09, 0x42, // tip switch
			0x09, 0x32, // in range
			0x15, 0x00, 0x25, 0x01, 0x75, 0x01, 0x95, 0x02, 0x81, 0x02, // two bits, input
			0x95, 0x06, 0x81, 0x03, // six bits of nothing
			0x09, 0x51, // contact identifier
			0x25, 0x7F, 0x75, 0x08, 0x95, 0x01, 0x81, 0x02,
			0x05, 0x01, // usage page: generic desktop
			0x09, 0x30, 0x09, 0x31, // X, Y
			0x26, Max&0xFF, Max>>8, 0x75, 0x10, 0x95, 0x02, 0x81, 0x02,
			0xC0,
		)
	}
	return append(b,
		0x05, 0x0D,
		0x09, 0x54, // contact count
		0x25, Fingers, 0x75, 0x08, 0x95, 0x01, 0x81, 0x02,
		0x85, reportContacts,
		0x09, 0x55, // contact count maximum
		0x25, Fingers, 0x75, 0x08, 0x95, 0x01, 0xB1, 0x02, // feature
		0xC0,
	)
}()

// Config describes the device.
type Config struct {
	// Vendor and Product identify the model; zero is 1209:0ADF, of the numbers for tests.
	Vendor, Product uint16
	Name            string
}

// Point is a place on the screen, as share of its width and height.
type Point struct{ X, Y float64 }

// Screen is the touch screen.
type Screen struct {
	cfg Config

	mu     sync.Mutex
	link   *usbredir.Link
	idle   byte
	now    [Fingers]*Point // fingers that touch
	id     [Fingers]byte   // their identifiers
	next   byte
	asked  bool
	polled chan struct{} // closed when the host asks for touches
}

// ErrNotAsked: nobody in the guest has the touch screen open, so that a touch would be lost.
var ErrNotAsked = errors.New("no program of the guest listens to the touch screen")

// New returns a touch screen for a port.
func New(cfg Config) *Screen {
	if cfg.Vendor == 0 {
		cfg.Vendor, cfg.Product = 0x1209, 0x0ADF
	}
	if cfg.Name == "" {
		cfg.Name = "Multi-Touch Screen"
	}
	return &Screen{cfg: cfg, polled: make(chan struct{})}
}

// Describe implements usbredir.Device.
func (s *Screen) Describe() usbredir.Description {
	hid := []byte{9, 0x21, 0x11, 0x01, 0, 1, 0x22, byte(len(descriptor)), byte(len(descriptor) >> 8)}
	return usbredir.Description{
		Speed: usbredir.FullSpeed, Vendor: s.cfg.Vendor, Product: s.cfg.Product, Version: 0x0100, Maker: "KTR-AdV test", Name: s.cfg.Name,
		Interfaces: []usbredir.Interface{{Class: 3, Extra: hid, Endpoints: []usbredir.Endpoint{
			{Address: epInterrupt, Kind: usbredir.Interrupt, MaxPacket: 64, Interval: 4},
		}}},
	}
}

// Attached implements usbredir.Device.
func (s *Screen) Attached(l *usbredir.Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link, s.now = l, [Fingers]*Point{}
}

// Detached implements usbredir.Device.
func (s *Screen) Detached() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = nil
	if s.asked {
		s.asked, s.polled = false, make(chan struct{})
	}
}

// Polled implements usbredir.Device.
func (s *Screen) Polled(byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked {
		s.asked = true
		close(s.polled)
	}
}

// Asked returns a channel that is closed as soon as a program of the guest listens to the touch screen.
func (s *Screen) Asked() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.polled
}

// Out implements usbredir.Device: there is no endpoint for it.
func (s *Screen) Out(byte, []byte) bool { return false }

// Cancelled implements usbredir.Device.
func (s *Screen) Cancelled(byte) {}

// Control implements usbredir.Device: the requests of the class HID (HID 1.11 chapter 7).
func (s *Screen) Control(r usbredir.Setup, data []byte) ([]byte, bool) {
	const (
		getDescriptor, getReport, getIdle, setReport, setIdle = 0x06, 0x01, 0x02, 0x09, 0x0A
		standardIn, classIn, classOut                         = 0x81, 0xA1, 0x21

		descHID, descReport, input, feature uint16 = 0x21, 0x22, 1, 3
	)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.RequestType == standardIn && r.Request == getDescriptor && r.Value>>8 == descReport:
		return descriptor, true
	case r.RequestType == standardIn && r.Request == getDescriptor && r.Value>>8 == descHID:
		return s.Describe().Interfaces[0].Extra, true
	case r.RequestType == classIn && r.Request == getReport && r.Value == feature<<8|reportContacts:
		return []byte{reportContacts, Fingers}, true
	case r.RequestType == classIn && r.Request == getReport && r.Value == input<<8|reportTouch:
		return s.report(), true
	case r.RequestType == classOut && r.Request == setReport && r.Value == feature<<8|reportContacts:
		return nil, len(data) == 2
	case r.RequestType == classIn && r.Request == getIdle:
		return []byte{s.idle}, true
	case r.RequestType == classOut && r.Request == setIdle:
		s.idle = byte(r.Value >> 8)
		return nil, true
	}
	return nil, false
}

// report is the input report of the fingers as they are. s.mu is held.
func (s *Screen) report() []byte {
	b := []byte{reportTouch}
	n := byte(0)
	for i, p := range s.now {
		f := make([]byte, 6)
		if p != nil {
			f[0] = 0x03
			binary.LittleEndian.PutUint16(f[2:], coordinate(p.X))
			binary.LittleEndian.PutUint16(f[4:], coordinate(p.Y))
			n++
		}
		f[1] = s.id[i]
		b = append(b, f...)
	}
	return append(b, n)
}

func coordinate(share float64) uint16 {
	return uint16(math.Round(min(max(share, 0), 1) * Max))
}

// Set moves the fingers: nil lifts one. Finger i keeps its identity from its touch to its lift.
func (s *Screen) Set(fingers ...*Point) error {
	if len(fingers) > Fingers {
		return fmt.Errorf("touch: %d fingers, the screen tells %d apart", len(fingers), Fingers)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil || !s.asked {
		return fmt.Errorf("touch: %w", ErrNotAsked)
	}
	was := s.now
	var now [Fingers]*Point
	for i, p := range fingers {
		if p != nil {
			c := *p
			now[i] = &c
		}
		if p != nil && was[i] == nil {
			s.id[i] = s.next & 0x7F
			s.next++
		}
	}
	s.now = now
	b := s.report()
	// The last report of a finger still counts it, with its tip up.
	n := byte(0)
	for i := range now {
		if now[i] != nil || was[i] != nil {
			n++
		}
		if now[i] == nil && was[i] != nil {
			f := b[1+6*i:]
			binary.LittleEndian.PutUint16(f[2:], coordinate(was[i].X))
			binary.LittleEndian.PutUint16(f[4:], coordinate(was[i].Y))
		}
	}
	b[len(b)-1] = n
	if !s.link.Interrupt(epInterrupt, b) {
		return fmt.Errorf("touch: %w", ErrNotAsked)
	}
	return nil
}

// Tap touches a point with one finger for a moment.
func (s *Screen) Tap(p Point) error {
	if err := s.Set(&p); err != nil {
		return err
	}
	time.Sleep(tapTime)
	return s.Set(nil)
}

// tapTime is how long a finger stays.
const tapTime = 30 * time.Millisecond
