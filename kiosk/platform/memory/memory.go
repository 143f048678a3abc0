// Package memory is the display of tests and of the control panel: it keeps
// the picture in memory, counts frames, says what changed, encodes PNG, and
// lets the caller inject pointer, touch and key events by coordinate or by
// semantic label.
package memory

import (
	"context"
	"fmt"
	"image"
	"image/png"
	"io"
	"sync"
	"time"

	"gioui.org/f32"
	"gioui.org/io/event"
	"gioui.org/io/key"
	"gioui.org/io/pointer"
	"gioui.org/unit"

	"ktradv/kiosk/platform"
)

// Config describes the display to imitate.
type Config struct {
	Size   image.Point // 1280x800 when zero
	Metric unit.Metric // 1 px per dp and sp when zero
	Clock  func() time.Time
}

// Locator finds the rectangle of the element that has a semantic label, in
// pixels of the display. kiosk/loop implements it.
type Locator interface {
	Locate(ctx context.Context, label string) (image.Rectangle, error)
}

// Display is a platform.Platform in memory. Its methods may be called by any
// goroutine.
type Display struct {
	events chan event.Event
	clock  func() time.Time
	start  time.Time

	inject sync.Mutex // one injector at a time; guards sends and the close of events
	quit   chan struct{}

	mu      sync.Mutex
	metric  unit.Metric
	img     *image.RGBA
	changed []image.Rectangle // since the last call of Changed
	frames  int
	blank   bool
	closed  bool
	updated chan struct{} // closed and replaced at every accepted frame
}

var _ platform.Platform = (*Display)(nil)
var _ platform.Blanker = (*Display)(nil)

// New returns a black display.
func New(c Config) (*Display, error) {
	if c.Size == (image.Point{}) {
		c.Size = image.Pt(1280, 800)
	}
	if c.Metric == (unit.Metric{}) {
		c.Metric = unit.Metric{PxPerDp: 1, PxPerSp: 1}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if !platform.ValidSize(c.Size) {
		return nil, fmt.Errorf("memory display of %v: %w", c.Size, platform.ErrSize)
	}
	return &Display{
		events: make(chan event.Event, 256), clock: c.Clock, start: c.Clock(), quit: make(chan struct{}),
		metric: c.Metric, img: image.NewRGBA(image.Rectangle{Max: c.Size}), updated: make(chan struct{}),
	}, nil
}

// Size implements platform.Platform.
func (d *Display) Size() image.Point {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.img.Rect.Size()
}

// Metric implements platform.Platform.
func (d *Display) Metric() unit.Metric {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.metric
}

// Show implements platform.Platform: it copies the damaged parts.
func (d *Display) Show(f platform.Frame) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return platform.ErrClosed
	}
	if f.Img.Rect != d.img.Rect {
		return fmt.Errorf("memory display of %v: show frame of %v: %w", d.img.Rect.Size(), f.Img.Rect.Size(), platform.ErrSize)
	}
	n := len(d.changed)
	d.changed = platform.ClipDamage(d.changed, f.Damage, d.img.Rect)
	for _, r := range d.changed[n:] {
		platform.CopyRect(d.img, f.Img, r)
	}
	if len(d.changed) > platform.MaxDamage {
		d.changed = platform.ClipDamage(d.changed[:0:0], d.changed, d.img.Rect)
	}
	d.frames++
	close(d.updated)
	d.updated = make(chan struct{})
	return nil
}

// Events implements platform.Platform.
func (d *Display) Events() <-chan event.Event { return d.events }

// Blank implements platform.Blanker.
func (d *Display) Blank(off bool) error {
	d.mu.Lock()
	was := d.blank
	d.blank = off
	d.mu.Unlock()
	if was && !off {
		return d.Send(context.Background(), platform.Redraw{})
	}
	return nil
}

// Blanked reports whether the display is switched off.
func (d *Display) Blanked() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.blank
}

// Close implements platform.Platform.
func (d *Display) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	close(d.quit)
	d.mu.Unlock()
	d.inject.Lock()
	close(d.events)
	d.inject.Unlock()
	return nil
}

// Image returns a copy of the picture as it is shown now.
func (d *Display) Image() *image.RGBA {
	d.mu.Lock()
	defer d.mu.Unlock()
	img := image.NewRGBA(d.img.Rect)
	copy(img.Pix, d.img.Pix)
	return img
}

// PNG writes the picture as it is shown now.
func (d *Display) PNG(w io.Writer) error {
	if err := png.Encode(w, d.Image()); err != nil {
		return fmt.Errorf("encode the picture: %w", err)
	}
	return nil
}

// Changed returns the rectangles that changed since its last call, at most
// platform.MaxDamage of them.
func (d *Display) Changed() []image.Rectangle {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.changed
	d.changed = nil
	return c
}

// Frames returns how many frames were shown since New.
func (d *Display) Frames() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.frames
}

// Updated returns a channel that is closed when the next frame is shown.
// Take it before what causes the frame.
func (d *Display) Updated() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.updated
}

// Resize changes size and metric, as a change of the display's mode would.
func (d *Display) Resize(ctx context.Context, size image.Point, m unit.Metric) error {
	if !platform.ValidSize(size) {
		return fmt.Errorf("resize memory display to %v: %w", size, platform.ErrSize)
	}
	d.mu.Lock()
	d.img = image.NewRGBA(image.Rectangle{Max: size})
	d.metric = m
	d.changed = nil
	d.mu.Unlock()
	return d.Send(ctx, platform.Resized{})
}

// Send injects an event. Coordinates of pointer events are kept as they are,
// so that a test can send rubbish.
func (d *Display) Send(ctx context.Context, e event.Event) error {
	d.inject.Lock()
	defer d.inject.Unlock()
	return d.send(ctx, e)
}

func (d *Display) send(ctx context.Context, events ...event.Event) error {
	for _, e := range events {
		select {
		case <-d.quit:
			return platform.ErrClosed
		default:
		}
		select {
		case d.events <- e:
		case <-d.quit:
			return platform.ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("inject %T: %w", e, ctx.Err())
		}
	}
	return nil
}

func (d *Display) sendAll(ctx context.Context, events ...event.Event) error {
	d.inject.Lock()
	defer d.inject.Unlock()
	return d.send(ctx, events...)
}

func (d *Display) since() time.Duration { return d.clock().Sub(d.start) }

// Click moves the mouse to p and clicks with the primary button.
func (d *Display) Click(ctx context.Context, p image.Point) error {
	e := pointer.Event{Source: pointer.Mouse, Position: point(p), Time: d.since()}
	move, press, release := e, e, e
	move.Kind = pointer.Move
	press.Kind, press.Buttons = pointer.Press, pointer.ButtonPrimary
	release.Kind = pointer.Release
	return d.sendAll(ctx, move, press, release)
}

// Tap touches p with one finger.
func (d *Display) Tap(ctx context.Context, p image.Point) error {
	e := pointer.Event{Source: pointer.Touch, PointerID: 1, Position: point(p), Time: d.since()}
	press, release := e, e
	press.Kind = pointer.Press
	release.Kind = pointer.Release
	return d.sendAll(ctx, press, release)
}

// Touch sends one step of finger id: pointer.Press, Move, Release or Cancel.
func (d *Display) Touch(ctx context.Context, id int, kind pointer.Kind, p image.Point) error {
	return d.Send(ctx, pointer.Event{Kind: kind, Source: pointer.Touch, PointerID: pointer.ID(id), Position: point(p), Time: d.since()})
}

// Scroll turns the mouse wheel by dist pixels at p.
func (d *Display) Scroll(ctx context.Context, p, dist image.Point) error {
	return d.Send(ctx, pointer.Event{Kind: pointer.Scroll, Source: pointer.Mouse, Position: point(p), Scroll: point(dist), Time: d.since()})
}

// Type sends text, one Text event for each rune, as a fast typist would.
func (d *Display) Type(ctx context.Context, text string) error {
	var events []event.Event
	for _, r := range text {
		events = append(events, platform.Text{Text: string(r)})
	}
	return d.sendAll(ctx, events...)
}

// Key presses and releases a key that types no text.
func (d *Display) Key(ctx context.Context, name key.Name, mods key.Modifiers) error {
	return d.sendAll(ctx, key.Event{Name: name, Modifiers: mods, State: key.Press}, key.Event{Name: name, Modifiers: mods, State: key.Release})
}

// ClickLabel clicks into the middle of the element with the semantic label.
func (d *Display) ClickLabel(ctx context.Context, l Locator, label string) error {
	return d.at(ctx, l, label, d.Click)
}

// TapLabel touches the middle of the element with the semantic label.
func (d *Display) TapLabel(ctx context.Context, l Locator, label string) error {
	return d.at(ctx, l, label, d.Tap)
}

func (d *Display) at(ctx context.Context, l Locator, label string, do func(context.Context, image.Point) error) error {
	r, err := l.Locate(ctx, label)
	if err != nil {
		return fmt.Errorf("press %q: %w", label, err)
	}
	return do(ctx, r.Min.Add(r.Max).Div(2))
}

func point(p image.Point) f32.Point { return f32.Pt(float32(p.X), float32(p.Y)) }
