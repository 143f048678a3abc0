package kms

import (
	"errors"
	"fmt"
	"image"
	"slices"
	"strconv"
	"strings"

	"ktradv/kiosk/platform"
)

// uploads are the drivers that copy a buffer to the display (a virtual
// machine's host, a USB adapter, a small panel): they want to know what
// changed, do not tear, and pay for a flip with a copy of everything.
var uploads = []string{"virtio_gpu", "udl", "gm12u320", "simpledrm", "qxl", "cirrus", "hyperv_drm", "ssd130x", "gud", "vmwgfx"}

// maxTimeouts is after how many flips that did not happen flips are given up.
const maxTimeouts = 3

// Config chooses the output.
type Config struct {
	// Open opens the card.
	Open func() (Card, error)
	// Output is the connector's name ("HDMI-A-1"); empty takes the first that
	// has a display.
	Output string
	// Mode is "1280x800" or "1280x800@60"; empty takes the display's
	// preferred mode. If the display does not have it, or refuses it, the
	// others are tried: the preferred first, then by size.
	Mode string
	// Rotation turns the picture clockwise.
	Rotation platform.Rotation
}

// Output shows pictures on one display, when there is one. Its methods are
// called by one goroutine at a time.
type Output struct {
	cfg  Config
	card Card

	conn   Connector
	crtc   uint32
	mode   Mode
	bufs   []Buffer // 1 or 2
	front  int
	flips  bool // two buffers and a driver that flips
	dirty  bool // the driver wants to know the damage
	inAir  bool // a flip has not happened yet
	late   int  // flips in a row that did not happen in time
	blank  bool
	stale  [2][]image.Rectangle // what each buffer lacks, in pixels of the picture
	active bool
}

// NewOutput returns an output that Probe sets up.
func NewOutput(c Config) (*Output, error) {
	if c.Open == nil || !c.Rotation.Valid() {
		return nil, fmt.Errorf("configure output: no card or rotation of %d degrees", c.Rotation)
	}
	if _, _, err := parseMode(c.Mode); err != nil {
		return nil, err
	}
	return &Output{cfg: c}, nil
}

// parseMode reads "WxH" or "WxH@Hz"; nothing is the zero size.
func parseMode(s string) (size image.Point, hz int, err error) {
	if s == "" {
		return size, 0, nil
	}
	wh, rate, hasRate := strings.Cut(s, "@")
	w, h, ok := strings.Cut(wh, "x")
	size.X, err = strconv.Atoi(w)
	if ok && err == nil {
		size.Y, err = strconv.Atoi(h)
	}
	if err == nil && hasRate {
		hz, err = strconv.Atoi(rate)
	}
	if !ok || err != nil || !platform.ValidSize(size) || hasRate && hz <= 0 {
		return image.Point{}, 0, fmt.Errorf("configure output: mode %q is not like 1280x800 or 1280x800@60", s)
	}
	return size, hz, nil
}

// Active reports whether a display shows the picture.
func (o *Output) Active() bool { return o.active }

// Name returns the name of the connector in use.
func (o *Output) Name() string { return o.conn.Name }

// Flips reports whether frames are shown by page flips.
func (o *Output) Flips() bool { return o.flips }

// Size is the size of the picture after rotation; only when active.
func (o *Output) Size() image.Point { return turn(o.mode.Size(), o.cfg.Rotation) }

// MM is the size of the display in millimetres after rotation, zero if unknown.
func (o *Output) MM() image.Point { return turn(o.conn.MM, o.cfg.Rotation) }

func turn(p image.Point, r platform.Rotation) image.Point {
	if r == platform.Rotate90 || r == platform.Rotate270 {
		return image.Pt(p.Y, p.X)
	}
	return p
}

// Probe looks at the card and sets the display up: at the start, after a
// hot-plug, and again and again while there is none. It reports whether the
// picture has to be drawn completely. Without a usable display it fails with
// ErrNoDisplay; the reason is wrapped too.
func (o *Output) Probe() (redraw bool, err error) {
	if o.active {
		c, err := o.card.Connector(o.conn.ID)
		if err == nil && c.Connected && slices.Contains(c.Modes, o.mode) {
			// Still there, or there again: the kernel does nothing if the
			// mode is still set.
			if o.blank {
				return false, nil
			}
			if err = o.card.SetMode(o.crtc, o.conn.ID, o.bufs[o.front].FB, o.mode); err == nil {
				return true, nil
			}
		}
		o.drop()
	}
	if o.card == nil {
		if o.card, err = o.cfg.Open(); err != nil {
			o.card = nil
			return false, fmt.Errorf("%w: %w", ErrNoDisplay, err)
		}
	}
	if err := o.setUp(); err != nil {
		o.lose()
		return false, fmt.Errorf("%w: %w", ErrNoDisplay, err)
	}
	return true, nil
}

// setUp finds a display and a mode that works.
func (o *Output) setUp() error {
	res, err := o.card.Resources()
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range res.Connectors {
		c, err := o.card.Connector(id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !c.Connected || o.cfg.Output != "" && c.Name != o.cfg.Output {
			continue
		}
		crtcs := o.crtcsFor(c, res)
		for _, m := range o.modes(c.Modes) {
			if err = o.try(c, crtcs, m); err == nil {
				return nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", c.Name, err))
		}
	}
	if len(errs) == 0 {
		return errors.New("nothing is connected")
	}
	return errors.Join(errs...)
}

// crtcsFor lists the CRTCs that can drive a connector, the one in use first.
func (o *Output) crtcsFor(c Connector, res Resources) (crtcs []uint32) {
	for _, id := range append([]uint32{c.Encoder}, c.Encoders...) {
		if id == 0 {
			continue
		}
		e, err := o.card.Encoder(id)
		if err != nil {
			continue
		}
		if e.CRTC != 0 && id == c.Encoder {
			crtcs = append(crtcs, e.CRTC)
		}
		for i, id := range res.CRTCs {
			if i < 32 && e.Possible&(1<<i) != 0 && !slices.Contains(crtcs, id) {
				crtcs = append(crtcs, id)
			}
		}
	}
	return crtcs
}

// modes orders modes as they are to be tried.
func (o *Output) modes(all []Mode) []Mode {
	want, hz, _ := parseMode(o.cfg.Mode)
	rank := func(m Mode) int {
		switch {
		case m.Size() == want && (hz == 0 || int(m.VRefresh) == hz):
			return 0
		case m.Size() == want:
			return 1
		case m.Preferred():
			return 2
		}
		return 3
	}
	var ms []Mode
	for _, m := range all {
		if platform.ValidSize(m.Size()) {
			ms = append(ms, m)
		}
	}
	slices.SortStableFunc(ms, func(a, b Mode) int {
		if d := rank(a) - rank(b); d != 0 || rank(a) < 3 {
			return d
		}
		return b.Size().X*b.Size().Y - a.Size().X*a.Size().Y
	})
	return ms
}

// try sets one mode.
func (o *Output) try(c Connector, crtcs []uint32, m Mode) (err error) {
	var bufs []Buffer
	defer func() {
		if err != nil {
			o.destroy(bufs)
		}
	}()
	driver, err := o.card.Driver()
	if err != nil {
		return err
	}
	upload := slices.Contains(uploads, driver)
	for range 2 {
		b, err := o.card.Create(m.Size())
		if err == nil {
			if err = checkBuffer(m.Size(), uint64(max(b.Pitch, 0)), uint64(len(b.Pix))); err != nil {
				o.destroy([]Buffer{b})
			}
		}
		if err != nil {
			if len(bufs) == 0 {
				return err
			}
			break // one buffer is enough to show something
		}
		clear(b.Pix)
		bufs = append(bufs, b)
		if upload {
			break
		}
	}
	errs := []error{fmt.Errorf("mode %v: no CRTC", m.Size())}
	for _, crtc := range crtcs {
		if err := o.card.SetMode(crtc, c.ID, bufs[0].FB, m); err != nil {
			errs = append(errs, err)
			continue
		}
		o.conn, o.crtc, o.mode, o.bufs, o.active = c, crtc, m, bufs, true
		o.front, o.flips, o.dirty, o.inAir, o.late, o.blank = 0, len(bufs) == 2, true, false, 0, false
		full := []image.Rectangle{{Max: o.Size()}}
		o.stale = [2][]image.Rectangle{full, slices.Clone(full)}
		return nil
	}
	return errors.Join(errs...)
}

func (o *Output) destroy(bufs []Buffer) {
	for _, b := range bufs {
		// The kernel frees what is left when the card is closed.
		_ = o.card.Destroy(b)
	}
}

// drop gives up the display but keeps the card.
func (o *Output) drop() {
	o.destroy(o.bufs)
	o.bufs, o.active, o.inAir = nil, false, false
}

// lose gives up the card too: it may be another one next time.
func (o *Output) lose() {
	if o.card == nil {
		return
	}
	o.drop()
	// Nothing can be done about a card that does not close.
	_ = o.card.Close()
	o.card = nil
}

// Show brings the damaged parts of a picture onto the display. A frame for a
// display that is off is dropped. An error means that the display is lost;
// Probe finds it again.
func (o *Output) Show(f platform.Frame) error {
	if !o.active {
		return nil
	}
	bounds := image.Rectangle{Max: o.Size()}
	if f.Img.Rect != bounds {
		return fmt.Errorf("display of %v: show frame of %v: %w", bounds.Max, f.Img.Rect.Size(), platform.ErrSize)
	}
	for i := range o.bufs {
		o.stale[i] = platform.ClipDamage(nil, append(o.stale[i], f.Damage...), bounds)
	}
	if o.blank {
		return nil
	}
	err := o.show(f.Img)
	if err != nil {
		o.lose()
	}
	return err
}

func (o *Output) show(img *image.RGBA) error {
	if err := o.wait(); err != nil {
		return err
	}
	if o.flips {
		back := 1 - o.front
		o.update(back, img)
		err := o.card.Flip(o.crtc, o.bufs[back].FB)
		if err == nil {
			o.front, o.inAir = back, true
			return nil
		}
		if !errors.Is(err, ErrNotSupported) {
			return err
		}
		o.flips = false
	}
	damage := o.update(o.front, img)
	if !o.dirty || len(damage) == 0 {
		return nil
	}
	err := o.card.Dirty(o.bufs[o.front].FB, damage)
	if errors.Is(err, ErrNotSupported) {
		o.dirty = false
		return nil
	}
	return err
}

// Forget overwrites every buffer with a picture, so that nothing of earlier
// frames is left in memory: after a flip the other buffer still holds the
// frame before. The picture is the one that Show was given last.
func (o *Output) Forget(img *image.RGBA) error {
	if !o.active {
		return nil // the buffers are gone
	}
	bounds := image.Rectangle{Max: o.Size()}
	if img.Rect != bounds {
		return fmt.Errorf("display of %v: forget with a picture of %v: %w", bounds.Max, img.Rect.Size(), platform.ErrSize)
	}
	if err := o.wait(); err != nil { // the buffer may be on the display until then
		o.lose()
		return err
	}
	for i := range o.bufs {
		if i != o.front || o.blank {
			o.stale[i] = []image.Rectangle{bounds}
			o.update(i, img)
		}
	}
	return nil
}

// wait waits for the flip before. A driver whose flips do not happen is not
// asked again.
func (o *Output) wait() error {
	if !o.inAir {
		return nil
	}
	o.inAir = false
	err := o.card.WaitFlip()
	if !errors.Is(err, ErrTimeout) {
		o.late = 0
		return err
	}
	if o.late++; o.late >= maxTimeouts {
		o.flips = false
		return o.card.SetMode(o.crtc, o.conn.ID, o.bufs[o.front].FB, o.mode)
	}
	return nil
}

// update copies what buffer i lacks and returns it in pixels of the panel.
func (o *Output) update(i int, img *image.RGBA) []image.Rectangle {
	damage := o.stale[i]
	o.stale[i] = nil
	for j, r := range damage {
		draw(o.bufs[i], o.mode.Size(), img, r, o.cfg.Rotation)
		damage[j] = onPanel(r, o.mode.Size(), o.cfg.Rotation)
	}
	return damage
}

// Blank switches the display off (true) or on. After switching on the picture
// has to be drawn completely.
func (o *Output) Blank(off bool) error {
	if !o.active || o.blank == off {
		return nil
	}
	if err := o.wait(); err != nil {
		o.lose()
		return err
	}
	var err error
	switch {
	case o.conn.DPMS != 0 && off:
		err = o.card.SetDPMS(o.conn.ID, o.conn.DPMS, 3)
	case o.conn.DPMS != 0:
		err = o.card.SetDPMS(o.conn.ID, o.conn.DPMS, 0)
	case off:
		err = o.card.SetMode(o.crtc, o.conn.ID, 0, o.mode)
	default:
		err = o.card.SetMode(o.crtc, o.conn.ID, o.bufs[o.front].FB, o.mode)
	}
	if err != nil {
		o.lose()
		return fmt.Errorf("switch the display: %w", err)
	}
	o.blank = off
	return nil
}

// Close gives the display back.
func (o *Output) Close() { o.lose() }

// Connected reports whether the display in use is still connected.
func (o *Output) Connected() bool {
	if !o.active {
		return false
	}
	c, err := o.card.Connector(o.conn.ID)
	return err == nil && c.Connected && slices.Contains(c.Modes, o.mode)
}
