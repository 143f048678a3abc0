// Package evdev turns the byte streams of Linux input devices
// (/dev/input/event*) into Gio events: mice and tablets, touch screens with
// the multi-touch protocol B, keyboards with the German layout, and keypads.
//
// The decoder is a pure function of the bytes, the device's capabilities and
// the time, so every stream can be replayed in a test. The rest of the package
// opens the devices, notices new ones by inotify and feeds the decoders. No
// stream can make it panic or grow: slots, devices and queues are bounded, and
// a device that loses events is set back to a state with nothing pressed.
package evdev

import (
	"encoding/binary"
	"image"
	"math"
	"sync"
	"time"

	"gioui.org/f32"
	"gioui.org/io/event"
	"gioui.org/io/key"
	"gioui.org/io/pointer"

	"ktradv/kiosk/platform"
)

// eventSize is the size of struct input_event on 64-bit kernels: a timeval,
// type, code and value.
const eventSize = 24

// Types and codes of linux/input-event-codes.h that the decoder knows.
const (
	evSyn = 0
	evKey = 1
	evRel = 2
	evAbs = 3

	synReport  = 0
	synDropped = 3

	relX      = 0
	relY      = 1
	relHWheel = 6
	relWheel  = 8

	absX          = 0x00
	absY          = 0x01
	absMTSlot     = 0x2f
	absMTX        = 0x35
	absMTY        = 0x36
	absMTTracking = 0x39

	btnMisc   = 0x100
	btnLeft   = 0x110
	btnRight  = 0x111
	btnMiddle = 0x112
	btnTouch  = 0x14a
	btnLast   = 0x15f
)

const (
	// maxSlots bounds the fingers that are followed at once.
	maxSlots = 16
	// scrollNotch is how far one notch of the wheel scrolls, in pixels.
	scrollNotch = 60
	// maxNotches bounds what one report may scroll.
	maxNotches = 100
)

// Matrix maps a touch position, both coordinates between 0 and 1, to the
// panel: x' = M[0]x + M[1]y + M[2], y' = M[3]x + M[4]y + M[5]. It is the
// calibration matrix of libinput.
type Matrix [6]float32

// Identity leaves positions as they are.
var Identity = Matrix{1, 0, 0, 0, 1, 0}

// Valid reports whether all elements are finite and no larger than 100.
func (m Matrix) Valid() bool {
	for _, v := range m {
		if !(v >= -100 && v <= 100) {
			return false
		}
	}
	return true
}

// Space is where positions live: the picture as the person sees it, its turn
// on the panel, and the pointer that all mice move together.
type Space struct {
	mu          sync.Mutex
	size        image.Point
	rotation    platform.Rotation
	calibration Matrix
	cursor      f32.Point
}

// NewSpace returns a space for a picture of this size, after rotation.
func NewSpace(size image.Point, r platform.Rotation, calibration Matrix) *Space {
	s := &Space{rotation: r, calibration: calibration}
	s.Resize(size)
	return s
}

// Resize changes the size of the picture and puts the pointer in its middle.
func (s *Space) Resize(size image.Point) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size = size
	s.cursor = f32.Pt(float32(size.X)/2, float32(size.Y)/2)
}

// abs maps a position on the panel, 0..1 each, to the picture.
func (s *Space) abs(x, y float32, calibrate bool) f32.Point {
	s.mu.Lock()
	defer s.mu.Unlock()
	if calibrate {
		m := s.calibration
		x, y = m[0]*x+m[1]*y+m[2], m[3]*x+m[4]*y+m[5]
	}
	switch s.rotation {
	case platform.Rotate90:
		x, y = y, 1-x
	case platform.Rotate180:
		x, y = 1-x, 1-y
	case platform.Rotate270:
		x, y = 1-y, x
	}
	return s.clamp(f32.Pt(x*float32(s.size.X), y*float32(s.size.Y)))
}

// move moves the common pointer by a distance on the panel.
func (s *Space) move(dx, dy float32) f32.Point {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.rotation {
	case platform.Rotate90:
		dx, dy = dy, -dx
	case platform.Rotate180:
		dx, dy = -dx, -dy
	case platform.Rotate270:
		dx, dy = -dy, dx
	}
	s.cursor = s.clamp(s.cursor.Add(f32.Pt(dx, dy)))
	return s.cursor
}

func (s *Space) moveTo(p f32.Point) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cursor = p
}

// clamp keeps a position on a pixel of the picture; s.mu is held.
func (s *Space) clamp(p f32.Point) f32.Point {
	return platform.ClampPoint(p, s.size.Sub(image.Pt(1, 1)))
}

// Axis is the range of an absolute axis, as EVIOCGABS reports it.
type Axis struct{ Min, Max int32 }

// norm brings a value to 0..1; an axis without a range gives 0.
func (a Axis) norm(v int32) float32 {
	d := float64(a.Max) - float64(a.Min)
	if d <= 0 {
		return 0
	}
	return float32(math.Min(math.Max((float64(v)-float64(a.Min))/d, 0), 1))
}

// Caps are the capabilities of a device that matter here.
type Caps struct {
	Name     string
	Keys     bool // has keys of a keyboard or keypad
	Rel      bool // moves a pointer
	Abs      bool // has ABS_X and ABS_Y
	MT       bool // has slots and positions of the protocol B
	Touch    bool // direct touch screen (INPUT_PROP_DIRECT or BTN_TOUCH without BTN_LEFT)
	X, Y     Axis
	MTX, MTY Axis
}

// Useful reports whether the device brings any input.
func (c Caps) Useful() bool { return c.Keys || c.Rel || c.Abs || c.MT }

// Decoder decodes the stream of one device. It belongs to one goroutine.
type Decoder struct {
	caps  Caps
	space *Space
	kbd   keyboard
	start time.Time

	rest    [eventSize]byte // an event cut by the end of a read
	restLen int
	dropped bool // the kernel lost events; skip to the next report

	// The report being collected.
	dx, dy, wheel, hwheel int32
	absX, absY            int32
	absMoved              bool
	buttons, oldButtons   pointer.Buttons
	touching, wasTouching bool
	placed                bool // a move was sent before

	slot  int // -1: a slot beyond maxSlots
	slots [maxSlots]slot
}

type slot struct {
	id, oldID int32 // tracking id, -1 when no finger; oldID as of the last report
	x, y      int32
	ox, oy    int32
}

// NewDecoder returns a decoder for a device. Keys of extra replace the names
// of keys that a keypad sends under unusual codes.
func NewDecoder(c Caps, s *Space, extra map[uint16]key.Name, start time.Time) *Decoder {
	d := &Decoder{caps: c, space: s, start: start, kbd: keyboard{extra: extra}}
	d.clearSlots()
	return d
}

func (d *Decoder) clearSlots() {
	for i := range d.slots {
		d.slots[i].id, d.slots[i].oldID = -1, -1
	}
}

// Feed decodes bytes read from the device at a time and appends the events.
func (d *Decoder) Feed(dst []event.Event, b []byte, now time.Time) []event.Event {
	if d.restLen > 0 {
		n := copy(d.rest[d.restLen:], b)
		d.restLen, b = d.restLen+n, b[n:]
		if d.restLen < eventSize {
			return dst
		}
		d.restLen = 0
		dst = d.one(dst, d.rest[:], now)
	}
	for ; len(b) >= eventSize; b = b[eventSize:] {
		dst = d.one(dst, b[:eventSize], now)
	}
	d.restLen = copy(d.rest[:], b)
	return dst
}

// Release ends everything that is pressed: the device is gone or lost events.
func (d *Decoder) Release(dst []event.Event, now time.Time) []event.Event {
	pressed := d.oldButtons != 0 || d.wasTouching
	for i := range d.slots {
		pressed = pressed || d.slots[i].oldID >= 0
	}
	d.clearSlots()
	d.buttons, d.oldButtons, d.touching, d.wasTouching = 0, 0, false, false
	d.dx, d.dy, d.wheel, d.hwheel, d.absMoved = 0, 0, 0, 0, false
	if pressed {
		dst = append(dst, pointer.Event{Kind: pointer.Cancel, Time: now.Sub(d.start)})
	}
	return d.kbd.release(dst)
}

// Deadline says when Tick wants to be called next: a key is held down.
func (d *Decoder) Deadline() (time.Time, bool) { return d.kbd.next, !d.kbd.next.IsZero() }

// Tick repeats the key that is held down when its time has come.
func (d *Decoder) Tick(dst []event.Event, now time.Time) []event.Event { return d.kbd.tick(dst, now) }

func (d *Decoder) one(dst []event.Event, b []byte, now time.Time) []event.Event {
	le := binary.LittleEndian
	typ, code, value := le.Uint16(b[16:]), le.Uint16(b[18:]), int32(le.Uint32(b[20:]))
	if typ == evSyn {
		switch {
		case code == synDropped:
			d.dropped = true
		case code == synReport && d.dropped:
			d.dropped = false
			return d.Release(dst, now)
		case code == synReport:
			return d.report(dst, now)
		}
		return dst
	}
	if d.dropped {
		return dst
	}
	switch typ {
	case evKey:
		switch {
		case code == btnTouch:
			d.touching = value != 0
		case code >= btnMisc && code <= btnLast:
			d.button(code, value != 0)
		case d.caps.Keys:
			return d.kbd.key(dst, code, value, now)
		}
	case evRel:
		switch code {
		case relX:
			d.dx = add(d.dx, value)
		case relY:
			d.dy = add(d.dy, value)
		case relWheel:
			d.wheel = add(d.wheel, value)
		case relHWheel:
			d.hwheel = add(d.hwheel, value)
		}
	case evAbs:
		d.axis(code, value)
	}
	return dst
}

// add adds with saturation far beyond every screen.
func add(a, b int32) int32 {
	const limit = 1 << 20
	return int32(min(max(int64(a)+int64(b), -limit), limit))
}

func (d *Decoder) button(code uint16, down bool) {
	var b pointer.Buttons
	switch code {
	case btnLeft:
		b = pointer.ButtonPrimary
	case btnRight:
		b = pointer.ButtonSecondary
	case btnMiddle:
		b = pointer.ButtonTertiary
	}
	if down {
		d.buttons |= b
	} else {
		d.buttons &^= b
	}
}

func (d *Decoder) axis(code uint16, v int32) {
	switch code {
	case absX:
		d.absX, d.absMoved = v, true
	case absY:
		d.absY, d.absMoved = v, true
	case absMTSlot:
		if d.slot = int(v); v < 0 || v >= maxSlots {
			d.slot = -1
		}
	}
	if d.slot < 0 {
		return
	}
	s := &d.slots[d.slot]
	switch code {
	case absMTTracking:
		s.id = max(v, -1)
	case absMTX:
		s.x = v
	case absMTY:
		s.y = v
	}
}

// report turns what was collected since the last report into events.
func (d *Decoder) report(dst []event.Event, now time.Time) []event.Event {
	t := now.Sub(d.start)
	if d.caps.MT {
		return d.touches(dst, t)
	}
	e := pointer.Event{Source: pointer.Mouse, Time: t, Modifiers: d.kbd.modifiers()}
	if d.caps.Abs {
		e.Position = d.space.abs(d.caps.X.norm(d.absX), d.caps.Y.norm(d.absY), d.caps.Touch)
		if d.caps.Touch {
			return d.singleTouch(dst, e)
		}
		d.space.moveTo(e.Position)
	} else {
		e.Position = d.space.move(float32(d.dx), float32(d.dy))
	}
	moved := d.absMoved || d.dx != 0 || d.dy != 0
	d.dx, d.dy, d.absMoved = 0, 0, false
	if moved || !d.placed && d.buttons != d.oldButtons {
		// Widgets want to see the pointer come before it presses.
		m := e
		m.Kind, m.Buttons = pointer.Move, d.oldButtons
		dst = append(dst, m)
		d.placed = true
	}
	for _, b := range []pointer.Buttons{pointer.ButtonPrimary, pointer.ButtonSecondary, pointer.ButtonTertiary} {
		if (d.buttons^d.oldButtons)&b == 0 {
			continue
		}
		c := e
		c.Kind = pointer.Release
		if d.buttons&b != 0 {
			c.Kind = pointer.Press
		}
		d.oldButtons ^= b
		c.Buttons = d.oldButtons
		dst = append(dst, c)
	}
	if d.wheel != 0 || d.hwheel != 0 {
		notches := func(v int32) float32 { return scrollNotch * float32(min(max(v, -maxNotches), maxNotches)) }
		e.Kind, e.Buttons = pointer.Scroll, d.buttons
		e.Scroll = f32.Pt(notches(d.hwheel), -notches(d.wheel))
		if e.Modifiers.Contain(key.ModShift) {
			e.Scroll.X, e.Scroll.Y = e.Scroll.Y, 0
		}
		d.wheel, d.hwheel = 0, 0
		dst = append(dst, e)
	}
	return dst
}

// singleTouch handles a touch screen without slots.
func (d *Decoder) singleTouch(dst []event.Event, e pointer.Event) []event.Event {
	e.Source, e.PointerID = pointer.Touch, 1
	down := d.touching || d.buttons&pointer.ButtonPrimary != 0
	switch {
	case down && !d.wasTouching:
		e.Kind = pointer.Press
	case !down && d.wasTouching:
		e.Kind = pointer.Release
	case down && d.absMoved:
		e.Kind = pointer.Move
	default:
		return dst
	}
	d.wasTouching, d.absMoved = down, false
	return append(dst, e)
}

// touches compares the slots with those of the last report.
func (d *Decoder) touches(dst []event.Event, t time.Duration) []event.Event {
	for i := range d.slots {
		s := &d.slots[i]
		e := pointer.Event{
			Source: pointer.Touch, PointerID: pointer.ID(i + 1), Time: t,
			Position: d.space.abs(d.caps.MTX.norm(s.x), d.caps.MTY.norm(s.y), true),
		}
		if s.oldID >= 0 && s.id != s.oldID {
			up := e
			up.Kind = pointer.Release
			if s.id >= 0 {
				// Another finger took the slot: the first went up where it was.
				up.Position = d.space.abs(d.caps.MTX.norm(s.ox), d.caps.MTY.norm(s.oy), true)
			}
			dst = append(dst, up)
		}
		switch {
		case s.id >= 0 && s.id != s.oldID:
			e.Kind = pointer.Press
			dst = append(dst, e)
		case s.id >= 0 && (s.x != s.ox || s.y != s.oy):
			e.Kind = pointer.Move
			dst = append(dst, e)
		}
		s.oldID, s.ox, s.oy = s.id, s.x, s.y
	}
	return dst
}
