//go:build window

// Package window is the platform of a developer's desktop: it shows the
// kiosk's own picture in a window of Gio and brings the window's input. It
// needs cgo and the libraries of X11 and Wayland, and is built only with the
// tag window.
package window

import (
	"fmt"
	"image"
	"sync"

	"gioui.org/app"
	"gioui.org/io/event"
	"gioui.org/io/key"
	"gioui.org/io/pointer"
	"gioui.org/io/system"
	"gioui.org/op"
	"gioui.org/op/clip"
	"gioui.org/op/paint"
	"gioui.org/unit"

	"ktradv/kiosk/platform"
)

// Config describes the window.
type Config struct {
	Title string
	Size  image.Point // in dp; 1280x800 when zero
	// DiagonalMM is the diagonal of the panel that the window stands for;
	// platform.DefaultDiagonalMM when zero.
	DiagonalMM int
}

// Window is the platform. The window's own goroutine talks to Gio.
type Window struct {
	win    *app.Window
	events chan event.Event
	quit   chan struct{}
	done   chan struct{}
	once   sync.Once

	mu     sync.Mutex
	img    *image.RGBA // as shown
	metric unit.Metric

	diagonal int // millimetres
	closed   bool
}

var _ platform.Platform = (*Window)(nil)

// Open opens the window.
func Open(c Config) (*Window, error) {
	if c.Size == (image.Point{}) {
		c.Size = image.Pt(1280, 800)
	}
	if c.DiagonalMM == 0 {
		c.DiagonalMM = platform.DefaultDiagonalMM
	}
	if !platform.ValidSize(c.Size) {
		return nil, fmt.Errorf("open a window of %v: %w", c.Size, platform.ErrSize)
	}
	w := &Window{
		win: new(app.Window), events: make(chan event.Event, 256), quit: make(chan struct{}), done: make(chan struct{}),
		img: image.NewRGBA(image.Rectangle{Max: c.Size}), metric: platform.MetricForDiagonal(c.Size, c.DiagonalMM), diagonal: c.DiagonalMM,
	}
	w.win.Option(app.Title(c.Title), app.Size(unit.Dp(c.Size.X), unit.Dp(c.Size.Y)))
	go w.run()
	return w, nil
}

func (w *Window) run() {
	defer close(w.done)
	defer close(w.events)
	var ops op.Ops
	for {
		switch e := w.win.Event().(type) {
		case app.DestroyEvent:
			w.send(platform.Closed{Err: e.Err})
			return
		case app.FrameEvent:
			w.resize(e.Size)
			ops.Reset()
			for _, ev := range w.input(e) {
				w.send(ev)
			}
			w.draw(&ops, e)
		}
	}
}

func (w *Window) send(e event.Event) {
	select {
	case w.events <- e:
	case <-w.quit:
	}
}

func (w *Window) resize(size image.Point) {
	m := platform.MetricForDiagonal(size, w.diagonal)
	w.mu.Lock()
	changed := platform.ValidSize(size) && (size != w.img.Rect.Size() || m != w.metric)
	if changed {
		w.img, w.metric = image.NewRGBA(image.Rectangle{Max: size}), m
	}
	w.mu.Unlock()
	if changed {
		w.send(platform.Resized{})
	}
}

// input collects what happened since the last frame of the window.
func (w *Window) input(f app.FrameEvent) (out []event.Event) {
	const mods = key.ModCtrl | key.ModCommand | key.ModShift | key.ModAlt | key.ModSuper
	far := pointer.ScrollRange{Min: -1 << 15, Max: 1 << 15}
	f.Source.Execute(key.FocusCmd{Tag: w})
	for {
		e, ok := f.Source.Event(
			pointer.Filter{Target: w, Kinds: pointer.Press | pointer.Move | pointer.Drag | pointer.Release | pointer.Scroll | pointer.Cancel, ScrollX: far, ScrollY: far},
			key.FocusFilter{Target: w},
			key.Filter{Focus: w, Optional: mods},
			// Tab moves the focus of the page, not that of the window.
			key.Filter{Focus: w, Name: key.NameTab, Optional: key.ModShift},
		)
		if !ok {
			return out
		}
		switch e := e.(type) {
		case pointer.Event:
			if e.Kind == pointer.Drag {
				e.Kind = pointer.Move
			}
			e.Priority = 0
			out = append(out, e)
		case key.Event:
			out = append(out, e)
		case key.EditEvent:
			if e.Text != "" {
				out = append(out, platform.Text{Text: e.Text})
			}
		}
	}
}

// draw puts the picture into the window.
func (w *Window) draw(ops *op.Ops, e app.FrameEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	stack := clip.Rect{Max: e.Size}.Push(ops)
	event.Op(ops, w)
	pic := paint.NewImageOp(w.img)
	pic.Filter = paint.FilterNearest
	pic.Add(ops)
	paint.PaintOp{}.Add(ops)
	stack.Pop()
	e.Frame(ops)
}

// Size implements platform.Platform.
func (w *Window) Size() image.Point {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.img.Rect.Size()
}

// Metric implements platform.Platform.
func (w *Window) Metric() unit.Metric {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.metric
}

// Show implements platform.Platform.
func (w *Window) Show(f platform.Frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return platform.ErrClosed
	}
	if f.Img.Rect != w.img.Rect {
		return fmt.Errorf("window of %v: show frame of %v: %w", w.img.Rect.Size(), f.Img.Rect.Size(), platform.ErrSize)
	}
	for _, r := range platform.ClipDamage(nil, f.Damage, w.img.Rect) {
		platform.CopyRect(w.img, f.Img, r)
	}
	w.win.Invalidate()
	return nil
}

// Events implements platform.Platform.
func (w *Window) Events() <-chan event.Event { return w.events }

// Close implements platform.Platform.
func (w *Window) Close() error {
	w.once.Do(func() {
		w.mu.Lock()
		w.closed = true
		w.mu.Unlock()
		close(w.quit)
		w.win.Perform(system.ActionClose)
		<-w.done
	})
	return nil
}
