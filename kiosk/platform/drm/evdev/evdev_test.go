package evdev

import (
	"encoding/binary"
	"fmt"
	"image"
	"math"
	"strings"
	"testing"
	"time"

	"gioui.org/f32"
	"gioui.org/io/event"
	"gioui.org/io/key"
	"gioui.org/io/pointer"
	"github.com/google/go-cmp/cmp"

	"ktradv/kiosk/platform"
)

var start = time.Unix(1000, 0)

// ev is one input_event.
type ev struct {
	typ, code uint16
	value     int32
}

var syn = ev{evSyn, synReport, 0}

func stream(events ...ev) []byte {
	var b []byte
	for _, e := range events {
		b = append(b, make([]byte, 16)...)
		b = binary.LittleEndian.AppendUint16(b, e.typ)
		b = binary.LittleEndian.AppendUint16(b, e.code)
		b = binary.LittleEndian.AppendUint32(b, uint32(e.value))
	}
	return b
}

// show writes events as short lines.
func show(events []event.Event) string {
	var b strings.Builder
	for _, e := range events {
		switch e := e.(type) {
		case pointer.Event:
			fmt.Fprintf(&b, "%v %v#%d (%.0f,%.0f)", e.Kind, e.Source, e.PointerID, e.Position.X, e.Position.Y)
			if e.Buttons != 0 {
				fmt.Fprintf(&b, " %v", e.Buttons)
			}
			if e.Scroll != (f32.Point{}) {
				fmt.Fprintf(&b, " by (%.0f,%.0f)", e.Scroll.X, e.Scroll.Y)
			}
		case key.Event:
			fmt.Fprintf(&b, "%v %v", e.State, e.Name)
			if e.Modifiers != 0 {
				fmt.Fprintf(&b, " with %v", e.Modifiers)
			}
		case platform.Text:
			fmt.Fprintf(&b, "text %q", e.Text)
		default:
			fmt.Fprintf(&b, "%T", e)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func lines(l ...string) string {
	if len(l) == 0 {
		return ""
	}
	return strings.Join(l, "\n") + "\n"
}

var (
	mouse  = Caps{Rel: true}
	tablet = Caps{Abs: true, X: Axis{0, 32767}, Y: Axis{0, 32767}}
	single = Caps{Abs: true, Touch: true, X: Axis{100, 1100}, Y: Axis{-500, 500}}
	multi  = Caps{Abs: true, MT: true, Touch: true, MTX: Axis{0, 1280}, MTY: Axis{0, 800}}
	keys   = Caps{Keys: true}
)

func TestPointer(t *testing.T) {
	t.Parallel()
	key1 := func(code uint16, v int32) ev { return ev{evKey, code, v} }
	abs := func(code uint16, v int32) ev { return ev{evAbs, code, v} }
	rel := func(code uint16, v int32) ev { return ev{evRel, code, v} }
	tests := map[string]struct {
		caps Caps
		in   []ev
		want string
	}{
		"mouse moves and clicks": {mouse, []ev{rel(relX, 10), rel(relY, -20), syn, key1(btnLeft, 1), syn, key1(btnLeft, 0), syn}, lines(
			"Move Mouse#0 (650,380)", "Press Mouse#0 (650,380) ButtonPrimary", "Release Mouse#0 (650,380)")},
		"first thing is a click": {mouse, []ev{key1(btnLeft, 1), syn}, lines("Move Mouse#0 (640,400)", "Press Mouse#0 (640,400) ButtonPrimary")},
		"two buttons": {mouse, []ev{rel(relX, 1), syn, key1(btnLeft, 1), key1(btnRight, 1), syn, key1(btnLeft, 0), syn}, lines(
			"Move Mouse#0 (641,400)", "Press Mouse#0 (641,400) ButtonPrimary", "Press Mouse#0 (641,400) ButtonPrimary|ButtonSecondary", "Release Mouse#0 (641,400) ButtonSecondary")},
		"mouse stays on the screen": {mouse, []ev{rel(relX, math.MaxInt32), rel(relX, math.MaxInt32), rel(relY, math.MinInt32), syn}, lines("Move Mouse#0 (1279,0)")},
		"wheel": {mouse, []ev{rel(relWheel, -1), syn, rel(relHWheel, 2), syn, rel(relWheel, 1<<30), syn}, lines(
			"Scroll Mouse#0 (640,400) by (0,60)", "Scroll Mouse#0 (640,400) by (120,-0)", "Scroll Mouse#0 (640,400) by (0,-6000)")},
		"tablet": {tablet, []ev{abs(absX, 32767), abs(absY, 0), key1(btnLeft, 1), syn, abs(absX, 16384), syn, key1(btnLeft, 0), syn}, lines(
			"Move Mouse#0 (1279,0)", "Press Mouse#0 (1279,0) ButtonPrimary", "Move Mouse#0 (640,0) ButtonPrimary", "Release Mouse#0 (640,0)")},
		"single touch": {single, []ev{abs(absX, 600), abs(absY, 0), key1(btnTouch, 1), syn, abs(absX, 9999), syn, key1(btnTouch, 0), syn, abs(absX, 100), syn}, lines(
			"Press Touch#1 (640,400)", "Move Touch#1 (1279,400)", "Release Touch#1 (1279,400)")},
		"two fingers": {multi, []ev{
			abs(absMTSlot, 0), abs(absMTTracking, 40), abs(absMTX, 100), abs(absMTY, 200), key1(btnTouch, 1), abs(absX, 100), syn,
			abs(absMTSlot, 1), abs(absMTTracking, 41), abs(absMTX, 300), abs(absMTY, 400), syn,
			abs(absMTSlot, 0), abs(absMTX, 110), abs(absMTSlot, 1), abs(absMTX, 290), syn,
			abs(absMTSlot, 0), abs(absMTTracking, -1), syn, syn,
			abs(absMTSlot, 1), abs(absMTTracking, -1), key1(btnTouch, 0), syn,
		}, lines("Press Touch#1 (100,200)", "Press Touch#2 (300,400)", "Move Touch#1 (110,200)", "Move Touch#2 (290,400)", "Release Touch#1 (110,200)", "Release Touch#2 (290,400)")},
		"another finger in the same slot": {multi, []ev{abs(absMTTracking, 1), abs(absMTX, 10), syn, abs(absMTTracking, 2), abs(absMTX, 20), syn}, lines(
			"Press Touch#1 (10,0)", "Release Touch#1 (10,0)", "Press Touch#1 (20,0)")},
		"finger comes and goes in one report": {multi, []ev{abs(absMTTracking, 1), abs(absMTX, 10), abs(absMTTracking, -1), syn}, ""},
		"slots beyond the limit": {multi, []ev{abs(absMTSlot, 16), abs(absMTTracking, 1), abs(absMTX, 5), syn, abs(absMTSlot, -7), abs(absMTTracking, 2), syn,
			abs(absMTSlot, math.MaxInt32), abs(absMTTracking, 3), syn, abs(absMTSlot, 15), abs(absMTTracking, 4), syn}, lines("Press Touch#16 (0,0)")},
		"lost events": {multi, []ev{abs(absMTTracking, 1), abs(absMTX, 10), syn, {evSyn, synDropped, 0}, abs(absMTX, 500), abs(absMTTracking, 9), syn, abs(absMTX, 20), syn, abs(absMTTracking, 10), syn}, lines(
			"Press Touch#1 (10,0)", "Cancel Mouse#0 (0,0)", "Press Touch#1 (20,0)")},
		"rubbish": {multi, []ev{{0xffff, 0xffff, -1}, {evKey, 0xffff, 7}, {evAbs, 0xffff, 1}, {evSyn, 9, 9}, {21, 1, 1}, syn}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := NewDecoder(tt.caps, NewSpace(image.Pt(1280, 800), platform.Rotate0, Identity), nil, start)
			if diff := cmp.Diff(tt.want, show(d.Feed(nil, stream(tt.in...), start))); diff != "" {
				t.Error(diff)
			}
			// The same bytes in the smallest pieces mean the same.
			d = NewDecoder(tt.caps, NewSpace(image.Pt(1280, 800), platform.Rotate0, Identity), nil, start)
			var got []event.Event
			for _, b := range stream(tt.in...) {
				got = d.Feed(got, []byte{b}, start)
			}
			if diff := cmp.Diff(tt.want, show(got)); diff != "" {
				t.Errorf("byte by byte: %s", diff)
			}
		})
	}
}

func TestRotationAndCalibration(t *testing.T) {
	t.Parallel()
	// A finger at a quarter of the panel's width and a tenth of its height; a
	// mouse that moves right and down. The picture is 800x1280 on a panel of
	// 1280x800 when turned by 90 or 270 degrees.
	tests := map[string]struct {
		size  image.Point
		rot   platform.Rotation
		cal   Matrix
		touch f32.Point
		mouse f32.Point
	}{
		"0":          {image.Pt(1280, 800), platform.Rotate0, Identity, f32.Pt(320, 80), f32.Pt(650, 420)},
		"90":         {image.Pt(800, 1280), platform.Rotate90, Identity, f32.Pt(80, 960), f32.Pt(420, 630)},
		"180":        {image.Pt(1280, 800), platform.Rotate180, Identity, f32.Pt(960, 720), f32.Pt(630, 380)},
		"270":        {image.Pt(800, 1280), platform.Rotate270, Identity, f32.Pt(720, 320), f32.Pt(380, 650)},
		"mirrored":   {image.Pt(1280, 800), platform.Rotate0, Matrix{-1, 0, 1, 0, 1, 0}, f32.Pt(960, 80), f32.Pt(650, 420)},
		"swapped":    {image.Pt(1280, 800), platform.Rotate0, Matrix{0, 1, 0, 1, 0, 0}, f32.Pt(128, 200), f32.Pt(650, 420)},
		"off screen": {image.Pt(1280, 800), platform.Rotate0, Matrix{9, 0, 0, 0, 1, -3}, f32.Pt(1279, 0), f32.Pt(650, 420)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := NewDecoder(multi, NewSpace(tt.size, tt.rot, tt.cal), nil, start)
			e := d.Feed(nil, stream(ev{evAbs, absMTTracking, 1}, ev{evAbs, absMTX, 320}, ev{evAbs, absMTY, 80}, syn), start)
			if got := e[0].(pointer.Event).Position; math.Abs(float64(got.X-tt.touch.X)) > 0.01 || math.Abs(float64(got.Y-tt.touch.Y)) > 0.01 {
				t.Errorf("touch at %v, want %v", got, tt.touch)
			}
			d = NewDecoder(mouse, NewSpace(tt.size, tt.rot, tt.cal), nil, start)
			e = d.Feed(nil, stream(ev{evRel, relX, 10}, ev{evRel, relY, 20}, syn), start)
			if got := e[0].(pointer.Event).Position; got != tt.mouse {
				t.Errorf("mouse at %v, want %v", got, tt.mouse)
			}
		})
	}
}

// press types key codes, each down and up.
func typed(codes ...uint16) (e []ev) {
	for _, c := range codes {
		e = append(e, ev{evKey, c, 1}, syn, ev{evKey, c, 0}, syn)
	}
	return e
}

// with holds a modifier around keys.
func with(mod uint16, e ...ev) []ev {
	return append(append([]ev{{evKey, mod, 1}, syn}, e...), ev{evKey, mod, 0}, syn)
}

func join(parts ...[]ev) (e []ev) {
	for _, p := range parts {
		e = append(e, p...)
	}
	return e
}

func TestKeyboardText(t *testing.T) {
	t.Parallel()
	const (
		q, w, e, a, s, y, z, ue, oe, ae, sz = 16, 17, 18, 30, 31, 44, 21, 26, 39, 40, 12
		acute, grave, space                 = 13, 41, 57
	)
	tests := map[string]struct {
		in   []ev
		want string
	}{
		"letters":               {typed(q, w, e, a, s, y, z), "qweasyz"},
		"umlauts":               {join(typed(ae, oe, ue, sz), with(keyLeftShift, typed(ae, oe, ue, sz)...)), "äöüßÄÖÜ?"},
		"shift and digits":      {join(typed(2, 3, 4, 11), with(keyRightShift, typed(2, 3, 4, 11)...)), "1230!\"§="},
		"AltGr":                 {with(keyRightAlt, typed(q, e, 8, 9, 10, 11, sz, 27, 86, s, a)...), "@€{[]}\\~|ẞ"},
		"caps lock":             {join(typed(keyCapsLock, a, ue, sz, 2), with(keyLeftShift, typed(a)...), typed(keyCapsLock, a)), "AÜß1aa"},
		"dead acute":            {typed(acute, e, acute, a), "éá"},
		"dead grave":            {join(with(keyLeftShift, typed(acute)...), typed(e, a)), "èa"},
		"dead circumflex":       {typed(grave, 24), "ô"},
		"dead, then space":      {typed(acute, space), "´"},
		"dead twice":            {typed(acute, acute, e), "´e"},
		"dead with no fit":      {typed(acute, q), "´q"},
		"dead, then a key":      {typed(acute, 105, e), "e"},
		"keypad":                {typed(82, 79, 80, 81, 83, 512, 521), "0123,09"},
		"control types nothing": {with(keyLeftCtrl, typed(a, 46)...), ""},
		"alt types nothing":     {with(keyLeftAlt, typed(a)...), ""},
		"unknown codes":         {typed(0, 200, 700, 0xffff), ""},
		"down twice":            {[]ev{{evKey, a, 1}, {evKey, a, 1}, {evKey, a, 0}, {evKey, a, 0}}, "a"},
		"kernel repetition":     {[]ev{{evKey, a, 1}, {evKey, a, 2}, {evKey, a, 2}, {evKey, a, 0}}, "a"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := NewDecoder(keys, NewSpace(image.Pt(100, 100), platform.Rotate0, Identity), nil, start)
			var got string
			for _, e := range d.Feed(nil, stream(tt.in...), start) {
				if s, ok := e.(platform.Text); ok {
					got += s.Text
				}
			}
			if got != tt.want {
				t.Errorf("typed %q, want %q", got, tt.want)
			}
		})
	}
}

func TestKeyboardKeys(t *testing.T) {
	t.Parallel()
	d := NewDecoder(keys, NewSpace(image.Pt(100, 100), platform.Rotate0, Identity), map[uint16]key.Name{600: key.NameReturn, 30: key.NameTab}, start)
	in := join(typed(28, 14, 96), with(keyLeftCtrl, typed(46)...), with(keyLeftShift, typed(15)...), typed(600, 30, 223))
	want := lines("Press ⏎", "Release ⏎", "Press ⌫", "Release ⌫", "Press ⌤", "Release ⌤", "Press C with Ctrl", "Release C with Ctrl",
		"Press Tab with Shift", "Release Tab with Shift", "Press ⏎", "Release ⏎", "Press Tab", "Release Tab", "Press ⎋", "Release ⎋")
	if diff := cmp.Diff(want, show(d.Feed(nil, stream(in...), start))); diff != "" {
		t.Error(diff)
	}
}

func TestKeyRepeat(t *testing.T) {
	t.Parallel()
	d := NewDecoder(keys, NewSpace(image.Pt(100, 100), platform.Rotate0, Identity), nil, start)
	now := start
	run := func(for_ time.Duration) (n int) {
		for end := now.Add(for_); ; {
			next, ok := d.Deadline()
			if !ok || next.After(end) {
				now = end
				return n
			}
			now = next
			n += len(d.Tick(nil, now))
		}
	}
	d.Feed(nil, stream(ev{evKey, 14, 1}, syn), now)
	if n := run(499 * time.Millisecond); n != 0 {
		t.Errorf("%d repetitions before the delay", n)
	}
	if n := run(1 * time.Second); n != 31 {
		t.Errorf("%d repetitions in the second after the delay, want 31", n)
	}
	d.Feed(nil, stream(ev{evKey, 14, 0}, syn), now)
	if n := run(time.Minute); n != 0 {
		t.Errorf("%d repetitions of a key that is up", n)
	}
	// A key that confirms does not repeat; neither does one whose device is gone.
	d.Feed(nil, stream(ev{evKey, 28, 1}, syn), now)
	if n := run(time.Minute); n != 0 {
		t.Errorf("return repeats %d times", n)
	}
	d.Feed(nil, stream(ev{evKey, 30, 1}, syn), now)
	d.Release(nil, now)
	if n := run(time.Minute); n != 0 {
		t.Errorf("%d repetitions after the device was gone", n)
	}
	// A time that was missed is not made up for.
	d.Feed(nil, stream(ev{evKey, 30, 0}, ev{evKey, 30, 1}, syn), now)
	now = now.Add(time.Hour)
	if got := show(d.Tick(nil, now)); got != lines("Press A", `text "a"`) {
		t.Errorf("after an hour: %s", got)
	}
}

func TestCapsOf(t *testing.T) {
	t.Parallel()
	set := func(n ...int) bits {
		b := make(bits, 96)
		for _, i := range n {
			b[i/8] |= 1 << (i % 8)
		}
		return b
	}
	tests := map[string]struct {
		keys, rel, abs, props bits
		want                  Caps
	}{
		"keyboard":      {keys: set(16, 30, 42), want: Caps{Keys: true}},
		"keypad":        {keys: set(79, 80), want: Caps{Keys: true}},
		"mouse":         {keys: set(btnLeft), rel: set(relX, relY, relWheel), want: Caps{Rel: true}},
		"tablet":        {keys: set(btnLeft), abs: set(absX, absY), want: Caps{Abs: true}},
		"touch screen":  {keys: set(btnTouch), abs: set(absX, absY, absMTSlot, absMTX, absMTY), props: set(propDirect), want: Caps{Abs: true, MT: true, Touch: true}},
		"old touch":     {keys: set(btnTouch), abs: set(absX, absY), want: Caps{Abs: true, Touch: true}},
		"touch pad":     {keys: set(btnTouch, btnLeft), abs: set(absX, absY, absMTSlot, absMTX, absMTY), props: set(propPointer), want: Caps{}},
		"power button":  {keys: set(116), want: Caps{}},
		"accelerometer": {abs: set(2, 3), want: Caps{}},
	}
	for name, tt := range tests {
		if d := cmp.Diff(tt.want, capsOf(tt.keys, tt.rel, tt.abs, tt.props)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// FuzzFeed replays arbitrary bytes on arbitrary devices.
func FuzzFeed(f *testing.F) {
	f.Add(stream(ev{evAbs, absMTTracking, 1}, ev{evAbs, absMTX, 5}, syn), uint8(0x1f), uint16(90))
	f.Add(stream(join(typed(13, 18), with(42, typed(30)...))...), uint8(1), uint16(0))
	f.Add(stream(ev{evRel, relX, math.MinInt32}, ev{evKey, btnLeft, 1}, syn), uint8(2), uint16(270))
	f.Fuzz(func(t *testing.T, b []byte, flags uint8, rot uint16) {
		size := image.Pt(1280, 800)
		c := Caps{Keys: flags&1 != 0, Rel: flags&2 != 0, Abs: flags&4 != 0, MT: flags&8 != 0, Touch: flags&16 != 0, X: Axis{0, 100}, MTX: Axis{math.MinInt32, math.MaxInt32}, MTY: Axis{5, 5}}
		d := NewDecoder(c, NewSpace(size, platform.Rotation(rot), Identity), nil, start)
		out := d.Feed(nil, b, start)
		if len(out) > 4*len(b)/eventSize+maxSlots*(1+len(b)/eventSize) {
			t.Fatalf("%d events from %d bytes", len(out), len(b))
		}
		out = d.Release(out, start)
		down := make(map[pointer.ID]bool)
		var keysDown int
		for _, e := range out {
			switch e := e.(type) {
			case pointer.Event:
				if p := e.Position; !(p.X >= 0 && p.Y >= 0 && p.X < float32(size.X) && p.Y < float32(size.Y)) {
					t.Fatalf("%v outside of the picture", e)
				}
				if e.Source == pointer.Touch {
					switch e.Kind {
					case pointer.Press:
						if down[e.PointerID] {
							t.Fatalf("finger %d pressed twice", e.PointerID)
						}
						down[e.PointerID] = true
					case pointer.Release, pointer.Move:
						if !down[e.PointerID] {
							t.Fatalf("finger %d not down: %v", e.PointerID, e.Kind)
						}
						down[e.PointerID] = e.Kind == pointer.Move
					}
				}
				if e.Kind == pointer.Cancel {
					clear(down)
				}
			case key.Event:
				if e.State == key.Press {
					keysDown++
				} else {
					keysDown--
				}
			}
		}
		if keysDown != 0 {
			t.Fatalf("%d keys still down after the release", keysDown)
		}
		for id, d := range down {
			if d {
				t.Fatalf("finger %d still down after the release", id)
			}
		}
	})
}

func FuzzInotify(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00event12\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		names, _ := parseInotify(b)
		for _, n := range names {
			if !isEventName(n) {
				t.Errorf("name %q", n)
			}
		}
	})
}
