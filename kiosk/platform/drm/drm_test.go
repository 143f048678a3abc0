package drm_test

import (
	"encoding/binary"
	"errors"
	"image"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"gioui.org/f32"
	"gioui.org/io/event"
	"gioui.org/io/pointer"
	"gioui.org/unit"
	"github.com/google/go-cmp/cmp"

	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/drm"
	"ktradv/kiosk/platform/drm/evdev"
	"ktradv/kiosk/platform/drm/kms"
)

// card is a kernel with one output whose display the test plugs.
type card struct {
	mu    sync.Mutex
	size  image.Point // zero: nothing is plugged in
	pix   []byte
	gone  bool
	dark  bool
	shown int
}

func (c *card) plug(size image.Point, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size, c.gone = size, gone
}

func (c *card) lock() (unlock func(), err error) {
	c.mu.Lock()
	if c.gone {
		err = syscall.ENODEV
	}
	return c.mu.Unlock, err
}

func (c *card) Driver() (string, error) { return "virtio_gpu", nil }
func (c *card) Resources() (kms.Resources, error) {
	unlock, err := c.lock()
	defer unlock()
	return kms.Resources{CRTCs: []uint32{1}, Connectors: []uint32{2}}, err
}

func (c *card) Connector(uint32) (kms.Connector, error) {
	unlock, err := c.lock()
	defer unlock()
	out := kms.Connector{ID: 2, Name: "DP-1", Encoders: []uint32{3}, DPMS: 4, MM: image.Pt(254, 254)}
	if c.size != (image.Point{}) {
		out.Connected = true
		out.Modes = []kms.Mode{{HDisplay: uint16(c.size.X), VDisplay: uint16(c.size.Y)}}
	}
	return out, err
}

func (c *card) Encoder(uint32) (kms.Encoder, error) { return kms.Encoder{Possible: 1}, nil }
func (c *card) Create(size image.Point) (kms.Buffer, error) {
	unlock, err := c.lock()
	defer unlock()
	c.pix = make([]byte, 4*size.X*size.Y)
	return kms.Buffer{FB: 1, Pitch: 4 * size.X, Pix: c.pix}, err
}
func (c *card) Destroy(kms.Buffer) error { return nil }
func (c *card) SetMode(uint32, uint32, uint32, kms.Mode) error {
	unlock, err := c.lock()
	defer unlock()
	return err
}
func (c *card) Flip(uint32, uint32) error { return kms.ErrNotSupported }
func (c *card) WaitFlip() error           { return nil }
func (c *card) Dirty(uint32, []image.Rectangle) error {
	unlock, err := c.lock()
	defer unlock()
	c.shown++
	return err
}

func (c *card) SetDPMS(_, _ uint32, v uint64) error {
	unlock, err := c.lock()
	defer unlock()
	c.dark = v != 0
	return err
}
func (c *card) Close() error { return nil }

func (c *card) frames() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shown
}

type touch struct{ io.ReadCloser }

func (touch) Caps() (evdev.Caps, error) {
	return evdev.Caps{MT: true, Touch: true, MTX: evdev.Axis{Max: 100}, MTY: evdev.Axis{Max: 100}}, nil
}
func (touch) Grab() error { return nil }

type rig struct {
	t     *testing.T
	card  *card
	d     *drm.Display
	hot   chan struct{}
	after chan time.Time
	fails chan error
	touch *io.PipeWriter
}

func open(t *testing.T, c *card, conf drm.Config) *rig {
	t.Helper()
	r := &rig{t: t, card: c, hot: make(chan struct{}), after: make(chan time.Time), fails: make(chan error, 100)}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "event3"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var pr *io.PipeReader
	pr, r.touch = io.Pipe()
	conf.OpenCard = func() (kms.Card, error) { return c, nil }
	conf.OpenInput = func(string) (evdev.Device, error) { return touch{pr}, nil }
	conf.InputDir, conf.HotPlug = dir, r.hot
	conf.After = func(time.Duration) <-chan time.Time { return r.after }
	conf.Failed = func(err error) { r.fails <- err }
	var err error
	if r.d, err = drm.Open(conf); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.d.Close()
		if _, ok := <-r.d.Events(); ok {
			t.Error("events after Close")
		}
		if err := r.d.Show(platform.Full(image.NewRGBA(image.Rectangle{Max: r.d.Size()}))); !errors.Is(err, platform.ErrClosed) {
			t.Errorf("show after Close: %v", err)
		}
	})
	return r
}

func (r *rig) event() event.Event {
	r.t.Helper()
	select {
	case e := <-r.d.Events():
		return e
	case <-time.After(10 * time.Second):
		r.t.Fatal("no event")
		return nil
	}
}

// A card that the kernel makes after the start, and that init gives away later still, is taken without waiting.
func TestCardThatComesLater(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "card0")
	c := &card{size: image.Pt(1280, 800)}
	fails, hot := make(chan error, 100), make(chan struct{})
	d, err := drm.Open(drm.Config{
		CardDir: dir, InputDir: t.TempDir(), HotPlug: hot, Failed: func(err error) { fails <- err },
		After: func(time.Duration) <-chan time.Time { return nil }, // no time passes
		OpenCard: func() (kms.Card, error) {
			switch fi, err := os.Stat(name); {
			case err != nil:
				return nil, err
			case fi.Mode().Perm() != 0o660:
				return nil, os.ErrPermission
			}
			return c, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	failed := func(want error) {
		t.Helper()
		select {
		case err := <-fails:
			if !errors.Is(err, want) {
				t.Fatalf("%v; want %v", err, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("nobody is told that %v", want)
		}
	}
	failed(os.ErrNotExist)
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	failed(os.ErrPermission)
	hot <- struct{}{} // the kernel tells of the card, and nobody waits for it to settle
	if err := os.Chmod(name, 0o660); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.Events(): // what the loop has to draw anew
	case <-time.After(10 * time.Second):
		t.Fatal("the card is not taken")
	}
	if name, _ := d.Output(); name != "DP-1" {
		t.Errorf("shows on %q", name)
	}
}

// hotPlug tells of a change and lets the settling time pass.
func (r *rig) hotPlug() {
	r.hot <- struct{}{}
	r.after <- time.Time{}
}

func (r *rig) show() {
	r.t.Helper()
	if err := r.d.Show(platform.Full(image.NewRGBA(image.Rectangle{Max: r.d.Size()}))); err != nil {
		r.t.Fatal(err)
	}
}

// TestNoDisplayAtTheStart starts without a display, which comes later, is
// pulled, and comes back as another one.
func TestNoDisplayAtTheStart(t *testing.T) {
	t.Parallel()
	r := open(t, &card{}, drm.Config{Fallback: image.Pt(320, 200)})
	if err := <-r.fails; !errors.Is(err, kms.ErrNoDisplay) {
		t.Errorf("reported %v", err)
	}
	if r.d.Size() != image.Pt(320, 200) {
		t.Errorf("size %v", r.d.Size())
	}
	r.show()
	// It is looked for again and again; the failure is reported once.
	for range 3 {
		r.after <- time.Time{}
	}
	r.card.plug(image.Pt(640, 480), false)
	var e event.Event
	select {
	case r.after <- time.Time{}:
		e = r.event()
	case e = <-r.d.Events(): // the third search found it already
	}
	if e != (platform.Resized{}) || r.d.Size() != image.Pt(640, 480) {
		t.Errorf("got %T, size %v", e, r.d.Size())
	}
	if name, flips := r.d.Output(); name != "DP-1" || flips {
		t.Errorf("output %q, flips %v", name, flips)
	}
	r.show()
	if n := r.card.frames(); n != 1 {
		t.Errorf("%d frames shown, want 1", n)
	}

	r.card.plug(image.Point{}, false)
	r.hotPlug()
	if err := <-r.fails; !errors.Is(err, kms.ErrNoDisplay) {
		t.Errorf("reported %v", err)
	}
	r.show()
	r.card.plug(image.Pt(640, 480), false)
	r.hotPlug()
	if e := r.event(); e != (platform.Redraw{}) {
		t.Errorf("the same display came back: %T", e)
	}
	if n := r.card.frames(); n != 1 {
		t.Errorf("%d frames shown, want 1", n)
	}
}

// TestDisplayDisappears pulls the device in the middle of a frame.
func TestDisplayDisappears(t *testing.T) {
	t.Parallel()
	r := open(t, &card{size: image.Pt(64, 48)}, drm.Config{})
	r.card.plug(image.Pt(64, 48), true)
	r.show()
	if err := <-r.fails; !errors.Is(err, syscall.ENODEV) {
		t.Errorf("reported %v", err)
	}
	r.card.plug(image.Pt(64, 48), false)
	if e := r.event(); e != (platform.Redraw{}) {
		// The search may have begun before the device was back.
		t.Errorf("got %T", e)
	}
	r.show()
}

func TestBlank(t *testing.T) {
	t.Parallel()
	r := open(t, &card{size: image.Pt(64, 48)}, drm.Config{})
	for _, off := range []bool{true, false} {
		if err := r.d.Blank(off); err != nil {
			t.Fatal(err)
		}
		unlock, _ := r.card.lock()
		if r.card.dark != off {
			t.Errorf("dark %v, want %v", r.card.dark, off)
		}
		unlock()
	}
	if e := r.event(); e != (platform.Redraw{}) {
		t.Errorf("got %T", e)
	}
}

func TestTouchOnATurnedDisplay(t *testing.T) {
	t.Parallel()
	r := open(t, &card{size: image.Pt(1000, 500)}, drm.Config{Rotation: platform.Rotate90, Calibration: evdev.Matrix{-1, 0, 1, 0, 1, 0}})
	if r.d.Size() != image.Pt(500, 1000) {
		t.Errorf("size %v", r.d.Size())
	}
	var b []byte
	for _, e := range [][3]int{{3, 0x39, 1}, {3, 0x35, 20}, {3, 0x36, 10}, {0, 0, 0}} {
		b = append(b, make([]byte, 16)...)
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, uint32(e[2]))
	}
	r.touch.Write(b)
	p, ok := r.event().(pointer.Event)
	p.Time = 0
	// 20 % from the right after calibration, 10 % from the top of the panel.
	want := pointer.Event{Kind: pointer.Press, Source: pointer.Touch, PointerID: 1, Position: f32.Pt(50, 200)}
	if d := cmp.Diff(want, p, cmp.Comparer(func(a, b float32) bool { return a-b < 0.01 && b-a < 0.01 })); !ok || d != "" {
		t.Error(d)
	}
}

func TestMetric(t *testing.T) {
	t.Parallel()
	// 640 pixels on 254 mm, as the display reports, are 64 per inch.
	r := open(t, &card{size: image.Pt(640, 480)}, drm.Config{})
	if m := r.d.Metric(); m != (unit.Metric{PxPerDp: 0.4, PxPerSp: 0.4}) {
		t.Errorf("metric %v", m)
	}
	// The configuration knows better: 800 pixels of diagonal on 127 mm.
	r = open(t, &card{size: image.Pt(640, 480)}, drm.Config{DiagonalMM: 127})
	if m := r.d.Metric(); m != (unit.Metric{PxPerDp: 1, PxPerSp: 1}) {
		t.Errorf("metric %v", m)
	}
	r = open(t, &card{size: image.Pt(640, 480)}, drm.Config{DiagonalMM: 127, Scale: 1.5})
	if m := r.d.Metric(); m != (unit.Metric{PxPerDp: 1.5, PxPerSp: 1.5}) {
		t.Errorf("metric %v", m)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []drm.Config{
		{Fallback: image.Pt(-1, 5)}, {DiagonalMM: -1}, {DiagonalMM: 99999}, {Scale: -1}, {Scale: 99}, {Calibration: evdev.Matrix{1e9}}, {Rotation: 17}, {Mode: "huge"},
	} {
		if d, err := drm.Open(c); err == nil {
			d.Close()
			t.Errorf("%+v was accepted", c)
		}
	}
}

// TestNoCard opens a card that does not exist, with the kernel's messages.
func TestNoCard(t *testing.T) {
	t.Parallel()
	fails := make(chan error, 10)
	d, err := drm.Open(drm.Config{Card: filepath.Join(t.TempDir(), "card0"), InputDir: t.TempDir(), Failed: func(err error) { fails <- err }})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := <-fails; !errors.Is(err, kms.ErrNoDisplay) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reported %v", err)
	}
	if name, _ := d.Output(); name != "" {
		t.Errorf("output %q", name)
	}
}
