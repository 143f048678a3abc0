package kms

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"math/rand/v2"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"ktradv/kiosk/platform"
)

// fakeKernel is a card whose oddities the test chooses. What it shows is kept
// like a monitor would: the picture of the buffer that is scanned out, or, for
// a driver that uploads, what it was told to upload.
type fakeKernel struct {
	driver   string
	conns    []Connector
	refuse   map[image.Point]bool // modes that SetMode refuses
	oddPitch int
	flip     error // what Flip returns
	wait     error // what WaitFlip returns
	dirty    error
	gone     bool // the device was pulled
	small    bool // buffers are too small
	oneOnly  bool // no memory for a second buffer

	bufs   map[uint32]Buffer
	sizes  map[uint32]image.Point
	next   uint32
	scan   uint32 // buffer on the display
	mode   Mode
	panel  []uint32 // what an uploading driver shows
	dpms   uint64
	closed int
	inAir  uint32
	log    []string
}

func (k *fakeKernel) call(format string, a ...any) error {
	k.log = append(k.log, fmt.Sprintf(format, a...))
	if k.gone {
		return syscall.ENODEV
	}
	return nil
}

func (k *fakeKernel) Driver() (string, error) { return k.driver, k.call("driver") }

func (k *fakeKernel) Resources() (Resources, error) {
	r := Resources{CRTCs: []uint32{50, 51}}
	for _, c := range k.conns {
		r.Connectors = append(r.Connectors, c.ID)
	}
	return r, k.call("resources")
}

func (k *fakeKernel) Connector(id uint32) (Connector, error) {
	for _, c := range k.conns {
		if c.ID == id {
			return c, k.call("connector %d", id)
		}
	}
	return Connector{}, syscall.ENOENT
}

func (k *fakeKernel) Encoder(id uint32) (Encoder, error) {
	return Encoder{Possible: 2}, k.call("encoder %d", id)
}

func (k *fakeKernel) Create(size image.Point) (Buffer, error) {
	if err := k.call("create %v", size); err != nil {
		return Buffer{}, err
	}
	if k.oneOnly && len(k.bufs) == 1 {
		return Buffer{}, syscall.ENOMEM
	}
	if k.bufs == nil {
		k.bufs, k.sizes = make(map[uint32]Buffer), make(map[uint32]image.Point)
	}
	k.next++
	pitch := 4*size.X + k.oddPitch
	n := pitch * size.Y
	if k.small {
		n -= pitch
	}
	b := Buffer{FB: k.next, Handle: k.next, Pitch: pitch, Pix: make([]byte, n)}
	k.bufs[b.FB], k.sizes[b.FB] = b, size
	return b, nil
}

func (k *fakeKernel) Destroy(b Buffer) error { delete(k.bufs, b.FB); return k.call("destroy %d", b.FB) }

func (k *fakeKernel) SetMode(crtc, conn, fb uint32, m Mode) error {
	if err := k.call("mode %v on %d at %d", m.Size(), conn, crtc); err != nil {
		return err
	}
	if k.refuse[m.Size()] {
		return syscall.EINVAL
	}
	k.scan, k.mode, k.inAir = fb, m, 0
	if fb != 0 {
		k.upload([]image.Rectangle{{Max: m.Size()}})
	}
	return nil
}

func (k *fakeKernel) Flip(_, fb uint32) error {
	if err := k.call("flip %d", fb); err != nil {
		return err
	}
	if k.flip != nil {
		return k.flip
	}
	if k.inAir != 0 {
		return syscall.EBUSY
	}
	k.inAir = fb
	return nil
}

func (k *fakeKernel) WaitFlip() error {
	if err := k.call("wait"); err != nil {
		return err
	}
	if k.wait == nil {
		k.scan = k.inAir
	}
	k.inAir = 0
	return k.wait
}

func (k *fakeKernel) Dirty(fb uint32, r []image.Rectangle) error {
	if err := k.call("dirty"); err != nil {
		return err
	}
	if k.dirty == nil && fb == k.scan {
		k.upload(r)
	}
	return k.dirty
}

func (k *fakeKernel) upload(r []image.Rectangle) {
	size := k.mode.Size()
	if len(k.panel) != size.X*size.Y {
		k.panel = make([]uint32, size.X*size.Y)
	}
	b := k.bufs[k.scan]
	for _, r := range r {
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				k.panel[y*size.X+x] = pixel(b, x, y)
			}
		}
	}
}

func pixel(b Buffer, x, y int) uint32 {
	p := b.Pix[y*b.Pitch+4*x:]
	return uint32(p[2])<<16 | uint32(p[1])<<8 | uint32(p[0])
}

func (k *fakeKernel) SetDPMS(_, _ uint32, v uint64) error { k.dpms = v; return k.call("dpms %d", v) }
func (k *fakeKernel) Close() error                        { k.closed++; return nil }

// sees returns what the monitor shows at a pixel of the panel.
func (k *fakeKernel) sees(x, y int) uint32 {
	if k.driver == "virtio_gpu" {
		return k.panel[y*k.mode.Size().X+x]
	}
	scan := k.scan
	if k.inAir != 0 {
		scan = k.inAir
	}
	return pixel(k.bufs[scan], x, y)
}

func mode(w, h int, preferred bool) Mode {
	m := Mode{HDisplay: uint16(w), VDisplay: uint16(h), VRefresh: 60}
	if preferred {
		m.Type = typePreferred
	}
	return m
}

func monitor(id uint32, name string, modes ...Mode) Connector {
	return Connector{ID: id, Name: name, Connected: true, Modes: modes, Encoders: []uint32{30 + id}, DPMS: 7, MM: image.Pt(300, 200)}
}

func output(t *testing.T, k *fakeKernel, c Config) *Output {
	t.Helper()
	c.Open = func() (Card, error) { return k, nil }
	o, err := NewOutput(c)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestChoice(t *testing.T) {
	t.Parallel()
	big, mid, small := mode(64, 48, false), mode(40, 30, true), mode(20, 10, false)
	all := []Mode{small, mid, big}
	off := monitor(1, "HDMI-A-1", all...)
	off.Connected = false
	tests := map[string]struct {
		conns  []Connector
		refuse []image.Point
		cfg    Config
		want   image.Point
		name   string
		none   bool
	}{
		"preferred mode of the first display": {conns: []Connector{off, monitor(2, "DP-1", all...)}, want: mid.Size(), name: "DP-1"},
		"chosen output":                       {conns: []Connector{monitor(1, "HDMI-A-1", all...), monitor(2, "DP-1", small)}, cfg: Config{Output: "DP-1"}, want: small.Size(), name: "DP-1"},
		"chosen output is not there":          {conns: []Connector{monitor(1, "HDMI-A-1", all...)}, cfg: Config{Output: "DP-2"}, none: true},
		"chosen mode":                         {conns: []Connector{monitor(1, "X", all...)}, cfg: Config{Mode: "20x10@60"}, want: small.Size(), name: "X"},
		"chosen mode does not exist":          {conns: []Connector{monitor(1, "X", all...)}, cfg: Config{Mode: "21x10"}, want: mid.Size(), name: "X"},
		"refused mode":                        {conns: []Connector{monitor(1, "X", all...)}, refuse: []image.Point{mid.Size()}, want: big.Size(), name: "X"},
		"two refused modes":                   {conns: []Connector{monitor(1, "X", all...)}, refuse: []image.Point{mid.Size(), big.Size()}, want: small.Size(), name: "X"},
		"all modes refused, other display":    {conns: []Connector{monitor(1, "X", mid), monitor(2, "Y", big)}, refuse: []image.Point{mid.Size()}, want: big.Size(), name: "Y"},
		"all modes refused":                   {conns: []Connector{monitor(1, "X", all...)}, refuse: []image.Point{mid.Size(), big.Size(), small.Size()}, none: true},
		"no modes":                            {conns: []Connector{monitor(1, "X")}, none: true},
		"absurd modes":                        {conns: []Connector{monitor(1, "X", mode(0, 0, true), mode(65535, 65535, true), mode(9000, 1, false), small)}, want: small.Size(), name: "X"},
		"no display":                          {conns: []Connector{off}, none: true},
		"no connectors":                       {none: true},
		"turned":                              {conns: []Connector{monitor(1, "X", mid)}, cfg: Config{Rotation: platform.Rotate90}, want: image.Pt(30, 40), name: "X"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := &fakeKernel{driver: "i915", conns: tt.conns, refuse: map[image.Point]bool{}}
			for _, r := range tt.refuse {
				k.refuse[r] = true
			}
			o := output(t, k, tt.cfg)
			redraw, err := o.Probe()
			if tt.none {
				if !errors.Is(err, ErrNoDisplay) || o.Active() || redraw || k.closed != 1 || len(k.bufs) != 0 {
					t.Errorf("probe: %v, active %v, closed %d times, %d buffers left", err, o.Active(), k.closed, len(k.bufs))
				}
				if err := o.Show(platform.Full(image.NewRGBA(image.Rect(0, 0, 5, 5)))); err != nil {
					t.Errorf("show without a display: %v", err)
				}
				return
			}
			if err != nil || !redraw || o.Size() != tt.want || o.Name() != tt.name {
				t.Errorf("probe: %v, %v; size %v on %s, want %v on %s", redraw, err, o.Size(), o.Name(), tt.want, tt.name)
			}
			o.Close()
			if k.closed != 1 || len(k.bufs) != 0 {
				t.Errorf("closed %d times, %d buffers left", k.closed, len(k.bufs))
			}
		})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	open := func() (Card, error) { return nil, syscall.ENOENT }
	for _, c := range []Config{{}, {Open: open, Rotation: 45}, {Open: open, Mode: "1280"}, {Open: open, Mode: "x"}, {Open: open, Mode: "1280x800@"}, {Open: open, Mode: "-1x5"}, {Open: open, Mode: "99999x5"}} {
		if _, err := NewOutput(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	o, err := NewOutput(Config{Open: open})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Probe(); !errors.Is(err, ErrNoDisplay) || !errors.Is(err, syscall.ENOENT) {
		t.Errorf("probe without a card: %v", err)
	}
}

// TestShow shows random frames with random damage in every rotation on kernels
// of every kind and compares the panel with the picture.
func TestShow(t *testing.T) {
	t.Parallel()
	kernels := map[string]fakeKernel{
		"flips":            {driver: "i915"},
		"odd pitch":        {driver: "i915", oddPitch: 20},
		"uploads":          {driver: "virtio_gpu", oddPitch: 64},
		"neither":          {driver: "bochs-drm", flip: ErrNotSupported, dirty: ErrNotSupported},
		"one buffer only":  {driver: "i915", oneOnly: true, dirty: ErrNotSupported},
		"flips that stall": {driver: "i915", wait: ErrTimeout, dirty: ErrNotSupported},
	}
	for name, kernel := range kernels {
		for _, rot := range []platform.Rotation{platform.Rotate0, platform.Rotate90, platform.Rotate180, platform.Rotate270} {
			t.Run(fmt.Sprint(name, " ", rot), func(t *testing.T) {
				t.Parallel()
				k := kernel
				k.conns = []Connector{monitor(1, "X", mode(37, 23, true))}
				o := output(t, &k, Config{Rotation: rot})
				if _, err := o.Probe(); err != nil {
					t.Fatal(err)
				}
				rng := rand.New(rand.NewPCG(1, uint64(rot)))
				img := image.NewRGBA(image.Rectangle{Max: o.Size()})
				for i := range 40 {
					var damage []image.Rectangle
					for range rng.IntN(4) {
						r := image.Rect(rng.IntN(45)-4, rng.IntN(45)-4, rng.IntN(45)-4, rng.IntN(45)-4)
						c := color.RGBA{uint8(rng.Uint32()), uint8(rng.Uint32()), uint8(rng.Uint32()), 255}
						for y := r.Min.Y; y < r.Max.Y; y++ {
							for x := r.Min.X; x < r.Max.X; x++ {
								if image.Pt(x, y).In(img.Rect) {
									img.SetRGBA(x, y, c)
								}
							}
						}
						damage = append(damage, r)
					}
					if err := o.Show(platform.Frame{Img: img, Damage: damage}); err != nil {
						t.Fatal(err)
					}
					if name == "flips that stall" && i < maxTimeouts {
						continue // the picture comes when flips are given up
					}
					for y := range 23 {
						for x := range 37 {
							p := onPicture(image.Pt(x, y), image.Pt(37, 23), rot)
							c := img.RGBAAt(p.X, p.Y)
							if got, want := k.sees(x, y), uint32(c.R)<<16|uint32(c.G)<<8|uint32(c.B); got != want {
								t.Fatalf("frame %d: panel shows %06x at (%d,%d), want %06x", i, got, x, y, want)
							}
						}
					}
				}
			})
		}
	}
}

// onPicture says which pixel of the picture a pixel of the panel shows: the
// picture is turned clockwise.
func onPicture(p, panel image.Point, rot platform.Rotation) image.Point {
	switch rot {
	case platform.Rotate90:
		return image.Pt(p.Y, panel.X-1-p.X)
	case platform.Rotate180:
		return image.Pt(panel.X-1-p.X, panel.Y-1-p.Y)
	case platform.Rotate270:
		return image.Pt(panel.Y-1-p.Y, p.X)
	}
	return p
}

func TestBufferTooSmall(t *testing.T) {
	t.Parallel()
	k := &fakeKernel{driver: "i915", small: true, conns: []Connector{monitor(1, "X", mode(37, 23, true))}}
	if _, err := output(t, k, Config{}).Probe(); !errors.Is(err, ErrNoDisplay) || !errors.Is(err, platform.ErrSize) {
		t.Errorf("probe: %v", err)
	}
	if len(k.bufs) != 0 {
		t.Errorf("%d buffers left", len(k.bufs))
	}
}

func TestWrongFrameSize(t *testing.T) {
	t.Parallel()
	k := &fakeKernel{conns: []Connector{monitor(1, "X", mode(37, 23, true))}}
	o := output(t, k, Config{})
	if _, err := o.Probe(); err != nil {
		t.Fatal(err)
	}
	if err := o.Show(platform.Full(image.NewRGBA(image.Rect(0, 0, 36, 23)))); !errors.Is(err, platform.ErrSize) || !o.Active() {
		t.Errorf("show: %v, active %v", err, o.Active())
	}
}

func TestUnplugAndBack(t *testing.T) {
	t.Parallel()
	k := &fakeKernel{driver: "i915", conns: []Connector{monitor(1, "X", mode(37, 23, true))}}
	o := output(t, k, Config{})
	if _, err := o.Probe(); err != nil {
		t.Fatal(err)
	}
	k.conns[0].Connected = false
	if o.Connected() {
		t.Error("still connected")
	}
	if _, err := o.Probe(); !errors.Is(err, ErrNoDisplay) || o.Active() || len(k.bufs) != 0 {
		t.Errorf("probe after unplugging: %v", err)
	}
	// Another display comes: its mode counts.
	k.conns[0] = monitor(1, "X", mode(50, 40, true))
	if redraw, err := o.Probe(); err != nil || !redraw || o.Size() != image.Pt(50, 40) {
		t.Errorf("probe after plugging in: %v, %v, size %v", redraw, err, o.Size())
	}
	// The mode is not there any more (another display while we did not look).
	k.conns[0] = monitor(1, "X", mode(60, 40, true))
	if redraw, err := o.Probe(); err != nil || !redraw || o.Size() != image.Pt(60, 40) {
		t.Errorf("probe after an exchange: %v, %v, size %v", redraw, err, o.Size())
	}
}

func TestDeviceGone(t *testing.T) {
	t.Parallel()
	k := &fakeKernel{driver: "i915", conns: []Connector{monitor(1, "X", mode(37, 23, true))}}
	o := output(t, k, Config{})
	if _, err := o.Probe(); err != nil {
		t.Fatal(err)
	}
	k.gone = true
	img := image.NewRGBA(image.Rect(0, 0, 37, 23))
	if err := o.Show(platform.Full(img)); !errors.Is(err, syscall.ENODEV) || o.Active() || k.closed != 1 {
		t.Errorf("show on a device that is gone: %v, closed %d times", err, k.closed)
	}
	if err := o.Show(platform.Full(img)); err != nil {
		t.Errorf("show without a display: %v", err)
	}
	k.gone = false
	if redraw, err := o.Probe(); err != nil || !redraw {
		t.Errorf("probe: %v, %v", redraw, err)
	}
}

func TestBlank(t *testing.T) {
	t.Parallel()
	for _, dpms := range []uint32{0, 7} {
		c := monitor(1, "X", mode(37, 23, true))
		c.DPMS = dpms
		k := &fakeKernel{driver: "i915", conns: []Connector{c}}
		o := output(t, k, Config{})
		if _, err := o.Probe(); err != nil {
			t.Fatal(err)
		}
		dark := func() bool { return k.dpms == 3 || k.scan == 0 }
		if err := o.Blank(true); err != nil || !dark() {
			t.Errorf("blank: %v, dark %v", err, dark())
		}
		n := len(k.log)
		img := image.NewRGBA(image.Rect(0, 0, 37, 23))
		img.SetRGBA(3, 3, color.RGBA{1, 2, 3, 255})
		if err := o.Show(platform.Full(img)); err != nil || len(k.log) != n {
			t.Errorf("show while dark: %v, calls %v", err, k.log[n:])
		}
		if redraw, err := o.Probe(); redraw || err != nil || !dark() {
			t.Errorf("a hot-plug event switched the display on: %v, %v", redraw, err)
		}
		if err := o.Blank(false); err != nil || dark() {
			t.Errorf("switch on: %v, dark %v", err, dark())
		}
		if err := o.Show(platform.Frame{Img: img}); err != nil || k.sees(3, 3) != 0x010203 {
			t.Errorf("the frame from the dark is not shown: %v, %06x", err, k.sees(3, 3))
		}
	}
}

// TestLayout compares the sizes of the requests with the kernel's.
func TestLayout(t *testing.T) {
	t.Parallel()
	got := map[string]uintptr{
		"version": unsafe.Sizeof(cVersion{}), "card_res": unsafe.Sizeof(cResources{}), "crtc": unsafe.Sizeof(cCRTC{}),
		"modeinfo": unsafe.Sizeof(Mode{}), "encoder": unsafe.Sizeof(cEncoder{}), "connector": unsafe.Sizeof(cConnector{}),
		"property": unsafe.Sizeof(cProperty{}), "set_property": unsafe.Sizeof(cSetProperty{}), "fb_cmd": unsafe.Sizeof(cFB{}),
		"page_flip": unsafe.Sizeof(cFlip{}), "dirty": unsafe.Sizeof(cDirty{}), "clip": unsafe.Sizeof(cClip{}),
		"create_dumb": unsafe.Sizeof(cCreateDumb{}), "map_dumb": unsafe.Sizeof(cMapDumb{}),
	}
	want := map[string]uintptr{
		"version": 64, "card_res": 64, "crtc": 104, "modeinfo": 68, "encoder": 20, "connector": 80, "property": 64,
		"set_property": 16, "fb_cmd": 28, "page_flip": 24, "dirty": 24, "clip": 8, "create_dumb": 32, "map_dumb": 16,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func FuzzHasFlip(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x08\x00\x00\x00\x02\x00\x00\x00\x20\x00\x00\x00"))
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(_ *testing.T, b []byte) { hasFlip(b) })
}

// TestForget proves that after Forget no buffer holds a pixel of an earlier
// frame; before it, one does.
func TestForget(t *testing.T) {
	t.Parallel()
	const secret = 0x112233
	holds := func(k *fakeKernel) (n int) {
		for _, b := range k.bufs {
			for y := range 23 {
				for x := range 37 {
					if pixel(b, x, y)&0xffffff == secret {
						n++
					}
				}
			}
		}
		return n
	}
	page := image.NewRGBA(image.Rect(0, 0, 37, 23))
	for i := 0; i < len(page.Pix); i += 4 {
		copy(page.Pix[i:], []byte{0x11, 0x22, 0x33, 255})
	}
	neutral := image.NewRGBA(page.Rect)
	for name, tc := range map[string]struct {
		k     *fakeKernel
		blank bool
		twin  int // pixels of the page that are left without Forget
	}{
		"two buffers":           {&fakeKernel{driver: "i915"}, false, 37 * 23},
		"one buffer":            {&fakeKernel{driver: "virtio_gpu"}, false, 0},
		"flips that are late":   {&fakeKernel{driver: "i915", wait: ErrTimeout}, false, 37 * 23},
		"driver without flips":  {&fakeKernel{driver: "i915", flip: ErrNotSupported}, false, 37 * 23}, // drawn before the flip was refused
		"display that is off":   {&fakeKernel{driver: "i915"}, true, 2 * 37 * 23},
		"one buffer, it is off": {&fakeKernel{driver: "virtio_gpu"}, true, 37 * 23},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.k.conns = []Connector{monitor(1, "X", mode(37, 23, true))}
			o := output(t, tc.k, Config{})
			check := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			_, err := o.Probe()
			check(err)
			check(o.Show(platform.Full(page)))
			check(o.Show(platform.Full(page)))
			check(o.Blank(tc.blank))
			check(o.Show(platform.Full(neutral)))
			if n := holds(tc.k); n != tc.twin {
				t.Errorf("%d pixels of the page before, want %d", n, tc.twin)
			}
			check(o.Forget(neutral))
			if n := holds(tc.k); n != 0 {
				t.Errorf("%d pixels of the page are left", n)
			}
			if err := o.Forget(image.NewRGBA(image.Rect(0, 0, 1, 1))); !errors.Is(err, platform.ErrSize) {
				t.Errorf("a picture of another size: %v", err)
			}
		})
	}
}
