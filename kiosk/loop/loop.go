// Package loop drives a Gio user interface without Gio's window: it feeds a
// platform's input to the router, runs the layout function, has the recorded
// operations drawn and shows the changed parts.
//
// It draws only when something changed or a wake-up is due, never faster than
// the display, and always handles the input that is there before it draws. A
// still page costs nothing: no layout, no drawing, no frame.
package loop

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"gioui.org/f32"
	"gioui.org/io/event"
	"gioui.org/io/input"
	"gioui.org/io/key"
	"gioui.org/io/pointer"
	"gioui.org/layout"
	"gioui.org/op"

	"ktradv/kiosk/platform"
)

// DefaultPeriod is the shortest time between two frames: 60 per second.
const DefaultPeriod = 16 * time.Millisecond

// maxSettle bounds the layouts that one event may need until the router has
// no more events for the widgets (focus, then selection, then change).
const maxSettle = 4

// Renderer draws an operation list. kiosk/cpurender implements it.
type Renderer interface {
	// Frame draws ops into dst and returns the rectangles that differ from
	// its last call with the same dst. A dst of another size, or another
	// dst, is drawn completely.
	Frame(dst *image.RGBA, ops *op.Ops) []image.Rectangle
}

// Frame reports one turn in which the loop laid out or drew.
type Frame struct {
	Start  time.Time
	Layout time.Duration // layout and router
	Draw   time.Duration // renderer
	Show   time.Duration // platform
	Damage []image.Rectangle
	Input  bool // the frame answers input
}

// Config says what a loop connects. Platform, Renderer and Layout are needed.
type Config struct {
	Platform platform.Platform
	Renderer Renderer
	// Layout lays the page out. It runs on the loop's goroutine.
	Layout func(gtx layout.Context)

	// Period is the shortest time between two frames (DefaultPeriod when 0).
	Period time.Duration
	// Now and After are the clock; nil means package time.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
	// Alive is called at the end of every turn of the loop, when the frame it
	// needed, if any, was shown: the supervisor's watchdog hangs on it. A still
	// page turns only when a platform.Ping asks it to.
	Alive func()
	// OnFrame is called after every frame, on the loop's goroutine.
	OnFrame func(Frame)
	// Failed is told of errors that the loop survives, each kind once.
	Failed func(error)
}

// Loop is a running user interface. Invalidate, Post, Semantics, Locate and
// Settle may be called by any goroutine while Run runs.
type Loop struct {
	cfg    Config
	router input.Router
	ops    op.Ops
	img    *image.RGBA

	invalid chan struct{}
	posts   chan func()
	queries chan query
	done    chan struct{}

	// State of the loop's goroutine.
	needFrame bool
	full      bool // the display lost its content
	byInput   bool
	wake      time.Time // zero: none
	last      time.Time // start of the last frame
	waiting   []query
	move      pointer.Event // coalesced move
	hasMove   bool
	text      strings.Builder // typed, not yet given to the editor
	stale     bool            // router's editor state is older than the events queued
	failed    map[string]bool
}

type query struct {
	f      func()
	done   chan struct{}
	frames int // drawn since the query came
}

// ErrStopped is returned to callers that wait for a loop which has ended.
var ErrStopped = errors.New("loop: stopped")

// New returns a loop that Run starts.
func New(c Config) (*Loop, error) {
	if c.Platform == nil || c.Renderer == nil || c.Layout == nil {
		return nil, errors.New("new loop: platform, renderer and layout are needed")
	}
	if c.Period <= 0 {
		c.Period = DefaultPeriod
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.After == nil {
		c.After = time.After
	}
	return &Loop{
		cfg: c, invalid: make(chan struct{}, 1), posts: make(chan func(), 64), queries: make(chan query),
		done: make(chan struct{}), needFrame: true, full: true, failed: make(map[string]bool),
	}, nil
}

// Invalidate asks for a new frame. It never blocks.
func (l *Loop) Invalidate() {
	select {
	case l.invalid <- struct{}{}:
	default:
	}
}

// Post runs f on the loop's goroutine before the next frame, and asks for
// that frame: the way for events from outside (cards, timers, the server) to
// reach the user interface. It blocks while 64 of them wait.
func (l *Loop) Post(ctx context.Context, f func()) error {
	select {
	case l.posts <- f:
		return nil
	case <-l.done:
		return ErrStopped
	case <-ctx.Done():
		return fmt.Errorf("post to the loop: %w", ctx.Err())
	}
}

// Settle waits until all input that the platform delivered before the call is
// handled and drawn. On a page that moves all the time it waits for a few
// frames.
func (l *Loop) Settle(ctx context.Context) error { return l.query(ctx, func() {}) }

// query runs f on the loop's goroutine when no frame is due, or after
// maxSettle frames.
func (l *Loop) query(ctx context.Context, f func()) error {
	q := query{f: f, done: make(chan struct{})}
	select {
	case l.queries <- q:
	case <-l.done:
		return ErrStopped
	case <-ctx.Done():
		return fmt.Errorf("ask the loop: %w", ctx.Err())
	}
	select {
	case <-q.done:
		return nil
	case <-l.done:
		return ErrStopped
	case <-ctx.Done():
		return fmt.Errorf("ask the loop: %w", ctx.Err())
	}
}

// Run runs the loop until ctx ends (returning its error), the platform closes
// its events (nil) or reports that it ended (the error it gives). It may be
// called once.
func (l *Loop) Run(ctx context.Context) error {
	defer close(l.done)
	events := l.cfg.Platform.Events()
	for {
		// Everything that is there, before the next frame. The bound keeps a
		// flood from postponing the frame for ever.
		for range 4096 {
			more, err := l.poll(events)
			if err != nil {
				return endError(err)
			}
			if !more {
				break
			}
		}
		now := l.cfg.Now()
		if !l.wake.IsZero() && !l.wake.After(now) {
			l.wake = time.Time{}
			l.needFrame = true
		}
		if l.flush(); l.needFrame && !now.Before(l.last.Add(l.cfg.Period)) {
			l.frame(now)
		}
		l.answer()
		if l.cfg.Alive != nil {
			l.cfg.Alive()
		}
		if err := l.wait(ctx, events); err != nil {
			return endError(err)
		}
	}
}

// answer runs the queries whose time has come.
func (l *Loop) answer() {
	rest := l.waiting[:0]
	for _, q := range l.waiting {
		if l.needFrame && q.frames < maxSettle {
			rest = append(rest, q)
			continue
		}
		q.f()
		close(q.done)
	}
	l.waiting = rest
}

// errEnd ends Run without an error.
var errEnd = errors.New("end")

func endError(err error) error {
	if errors.Is(err, errEnd) {
		return nil
	}
	return err
}

// poll handles one waiting event or call, if there is one.
func (l *Loop) poll(events <-chan event.Event) (bool, error) {
	select {
	case e, ok := <-events:
		return true, l.event(e, ok)
	default:
	}
	select {
	case f := <-l.posts:
		l.post(f)
	case <-l.invalid:
		l.needFrame = true
	case q := <-l.queries:
		l.waiting = append(l.waiting, q)
	default:
		return false, nil
	}
	return true, nil
}

// wait sleeps until there is something to do.
func (l *Loop) wait(ctx context.Context, events <-chan event.Event) error {
	d := time.Duration(math.MaxInt64)
	now := l.cfg.Now()
	if l.needFrame {
		d = l.last.Add(l.cfg.Period).Sub(now)
	} else if !l.wake.IsZero() {
		// A wake-up between two frames waits for the display.
		d = max(l.wake.Sub(now), l.last.Add(l.cfg.Period).Sub(now))
	}
	var timer <-chan time.Time
	if d != math.MaxInt64 {
		timer = l.cfg.After(max(d, 0))
	}
	select {
	case e, ok := <-events:
		return l.event(e, ok)
	case f := <-l.posts:
		l.post(f)
	case <-l.invalid:
		l.needFrame = true
	case q := <-l.queries:
		l.waiting = append(l.waiting, q)
	case <-timer:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (l *Loop) post(f func()) {
	l.flush()
	f()
	l.needFrame = true
}

// event gives one event of the platform to the router.
func (l *Loop) event(e event.Event, ok bool) error {
	if !ok {
		return errEnd
	}
	switch e := e.(type) {
	case pointer.Event:
		l.pointer(e)
	case key.Event:
		l.flush()
		l.key(e)
	case platform.Text:
		l.typed(e.Text)
	case platform.Resized:
		l.flush()
		l.queue(pointer.Event{Kind: pointer.Cancel})
		l.needFrame, l.full = true, true
	case platform.Redraw:
		l.needFrame, l.full = true, true
	case platform.Closed:
		if e.Err != nil {
			return fmt.Errorf("display ended: %w", e.Err)
		}
		return errEnd
	}
	return nil
}

// pointer queues a pointer event. Moves of one pointer between two frames
// become one; coordinates from outside are brought into the picture.
func (l *Loop) pointer(e pointer.Event) {
	e.Position = platform.ClampPoint(e.Position, l.cfg.Platform.Size())
	e.Scroll = f32.Pt(finite(e.Scroll.X), finite(e.Scroll.Y))
	switch e.Kind {
	case pointer.Move:
		if l.hasMove && (l.move.Source != e.Source || l.move.PointerID != e.PointerID) {
			l.flush()
		}
		l.commit()
		l.move, l.hasMove = e, true
		return
	case pointer.Press, pointer.Release, pointer.Scroll, pointer.Cancel:
		l.flush()
		l.queue(e)
	}
}

func finite(v float32) float32 {
	const limit = 1 << 15
	if math.IsNaN(float64(v)) {
		return 0
	}
	return min(max(v, -limit), limit)
}

// key queues a key event; Tab moves the focus unless a widget wants it.
func (l *Loop) key(e key.Event) {
	dir := key.FocusDirection(-1)
	if e.State == key.Press && e.Name == key.NameTab {
		switch e.Modifiers {
		case 0:
			dir = key.FocusForward
		case key.ModShift:
			dir = key.FocusBackward
		}
	}
	if dir < 0 {
		l.queue(e)
		return
	}
	before := l.needFrame
	l.needFrame = false
	l.queue(input.SystemEvent{Event: e})
	if !l.needFrame {
		l.router.MoveFocus(dir)
		if l.wakeup(); l.needFrame {
			l.router.RevealFocus(image.Rectangle{Max: l.cfg.Platform.Size()})
			l.wakeup()
		}
	}
	l.needFrame = l.needFrame || before
	l.byInput = true
}

// typed collects text. The text of one frame reaches the editor as a single
// edit at the caret that the editor reported last: the router reports a moved
// caret only after the next layout, so that edits one by one would all land
// at the same place and come out reversed. Where another event came first,
// the page is laid out before, for the caret to be the right one.
func (l *Loop) typed(s string) {
	if len(s) > platform.MaxText || !utf8.ValidString(s) {
		return
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	if s == "" {
		return
	}
	if l.hasMove || l.stale {
		l.flush()
		l.settle()
	}
	if l.text.Len()+len(s) > platform.MaxText {
		l.commit()
		l.settle()
	}
	l.text.WriteString(s)
	l.needFrame = true
}

// commit gives the collected text to the editor that has the focus.
func (l *Loop) commit() {
	if l.text.Len() == 0 {
		return
	}
	s := l.text.String()
	l.text.Reset()
	sel := l.router.EditorState().Selection.Range
	caret := min(sel.Start, sel.End) + utf8.RuneCountInString(s)
	l.queue(key.EditEvent{Range: sel, Text: s})
	l.queue(key.SelectionEvent{Start: caret, End: caret})
}

// flush queues the coalesced move and the collected text.
func (l *Loop) flush() {
	if l.hasMove {
		l.hasMove = false
		l.queue(l.move)
	}
	l.commit()
}

// queue gives an event to the router and notes whether a widget wants it.
func (l *Loop) queue(e event.Event) {
	l.router.Queue(e)
	before := l.needFrame
	l.needFrame = false
	if l.wakeup(); l.needFrame {
		l.byInput, l.stale = true, true
	}
	l.needFrame = l.needFrame || before
}

// wakeup takes over what the router says about the next frame.
func (l *Loop) wakeup() {
	t, ok := l.router.WakeupTime()
	switch {
	case !ok:
	case t.IsZero() || !t.After(l.cfg.Now()):
		l.needFrame = true
	case l.wake.IsZero() || t.Before(l.wake):
		l.wake = t
	}
}

// layout runs the layout function and gives its result to the router.
func (l *Loop) layout() {
	l.ops.Reset()
	l.cfg.Layout(layout.Context{
		Ops: &l.ops, Now: l.cfg.Now(), Source: l.router.Source(), Metric: l.cfg.Platform.Metric(),
		Constraints: layout.Exact(l.img.Rect.Size()),
	})
	l.router.Frame(&l.ops)
	l.stale = false
}

// settle lays out, without drawing, until the widgets have seen every event.
func (l *Loop) settle() {
	if l.img == nil {
		l.resize()
	}
	for range maxSettle {
		l.layout()
		l.needFrame = false
		if l.wakeup(); !l.needFrame {
			break
		}
	}
	l.needFrame = true
}

func (l *Loop) resize() {
	size := l.cfg.Platform.Size()
	if l.img == nil || l.img.Rect.Size() != size {
		l.img = image.NewRGBA(image.Rectangle{Max: size})
		l.full = true
	}
}

// frame lays out, draws and shows.
func (l *Loop) frame(now time.Time) {
	l.last, l.needFrame, l.wake = now, false, time.Time{}
	for i := range l.waiting {
		l.waiting[i].frames++
	}
	l.resize()
	f := Frame{Start: now, Input: l.byInput}
	l.byInput = false
	l.layout()
	l.wakeup()
	t1 := l.cfg.Now()
	f.Damage = l.cfg.Renderer.Frame(l.img, &l.ops)
	t2 := l.cfg.Now()
	if l.full {
		f.Damage = []image.Rectangle{l.img.Rect}
	}
	if len(f.Damage) > 0 {
		err := l.cfg.Platform.Show(platform.Frame{Img: l.img, Damage: f.Damage})
		// A frame that was not shown is missing on the display: the next one
		// brings everything. The platform says when there can be a next one.
		l.full = err != nil
		if err != nil && !errors.Is(err, platform.ErrSize) {
			l.fail("show", err)
		}
	}
	t3 := l.cfg.Now()
	if l.cfg.OnFrame != nil {
		f.Layout, f.Draw, f.Show = t1.Sub(now), t2.Sub(t1), t3.Sub(t2)
		l.cfg.OnFrame(f)
	}
}

// fail reports an error of a kind once.
func (l *Loop) fail(kind string, err error) {
	if l.failed[kind] || l.cfg.Failed == nil {
		return
	}
	l.failed[kind] = true
	l.cfg.Failed(err)
}
