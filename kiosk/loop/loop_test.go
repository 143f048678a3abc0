package loop_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gioui.org/f32"
	"gioui.org/io/event"
	"gioui.org/io/key"
	"gioui.org/io/pointer"
	"gioui.org/io/semantic"
	"gioui.org/layout"
	"gioui.org/op"
	"gioui.org/op/clip"
	"gioui.org/text"
	"gioui.org/unit"
	"gioui.org/widget"
	"github.com/google/go-cmp/cmp"

	"ktradv/kiosk/fonts"
	"ktradv/kiosk/loop"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/memory"
)

// counter is a renderer that draws nothing and reports the whole picture as
// damaged: the loop's own decisions stay visible.
type counter struct{ frames int }

func (c *counter) Frame(dst *image.RGBA, _ *op.Ops) []image.Rectangle {
	c.frames++
	return []image.Rectangle{dst.Rect}
}

// sleep lets time pass and the loop become quiet.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// page is a small user interface: two buttons and an editor.
type page struct {
	mu      sync.Mutex // guards what the loop writes and tests read
	ok, off widget.Clickable
	editor  widget.Editor
	shaper  *text.Shaper
	clicks  int
	at      time.Time // wake-up to ask for
	seen    []time.Time
}

func (p *page) layout(gtx layout.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, gtx.Now)
	for p.ok.Clicked(gtx) {
		p.clicks++
	}
	if !p.at.IsZero() && gtx.Now.Before(p.at) {
		gtx.Execute(op.InvalidateCmd{At: p.at})
	}
	button := func(gtx layout.Context, c *widget.Clickable, label string, y int) {
		defer op.Offset(image.Pt(10, y)).Push(gtx.Ops).Pop()
		gtx.Constraints = layout.Exact(image.Pt(100, 40))
		c.Layout(gtx, func(gtx layout.Context) layout.Dimensions {
			defer clip.Rect{Max: gtx.Constraints.Max}.Push(gtx.Ops).Pop()
			semantic.LabelOp(label).Add(gtx.Ops)
			semantic.EnabledOp(gtx.Enabled()).Add(gtx.Ops)
			return layout.Dimensions{Size: gtx.Constraints.Max}
		})
	}
	button(gtx, &p.ok, "OK", 10)
	button(gtx.Disabled(), &p.off, "Aus", 60)
	defer op.Offset(image.Pt(10, 110)).Push(gtx.Ops).Pop()
	gtx.Constraints = layout.Exact(image.Pt(200, 40))
	// A caret that does not blink: it is drawn as if the last key was long ago.
	p.editor.Update(gtx)
	gtx.Now = gtx.Now.Add(time.Hour)
	p.editor.Layout(gtx, p.shaper, fonts.Default().Collection()[0].Font, unit.Sp(16), op.CallOp{}, op.CallOp{})
}

type rig struct {
	*page
	display *memory.Display
	loop    *loop.Loop
	draw    *counter
	ctx     context.Context
	frames  []loop.Frame
	alive   int
}

// run starts a loop over a page and calls f; it must be called in a synctest
// bubble.
func run(t *testing.T, f func(r *rig), options ...func(*loop.Config)) {
	t.Helper()
	d, err := memory.New(memory.Config{Size: image.Pt(320, 200)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &rig{page: &page{shaper: fonts.Default().Shaper()}, display: d, draw: &counter{}, ctx: ctx}
	r.editor.SingleLine = true
	c := loop.Config{Platform: d, Renderer: r.draw, Layout: r.layout, OnFrame: func(f loop.Frame) {
		r.mu.Lock()
		r.frames = append(r.frames, f)
		r.mu.Unlock()
	}, Alive: func() {
		r.mu.Lock()
		r.alive++
		r.mu.Unlock()
	}}
	for _, o := range options {
		o(&c)
	}
	if r.loop, err = loop.New(c); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.loop.Run(ctx) }()
	synctest.Wait()
	f(r)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
	if err := r.loop.Settle(t.Context()); !errors.Is(err, loop.ErrStopped) {
		t.Errorf("after the end: %v", err)
	}
}

func (r *rig) check(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		err = r.loop.Settle(r.ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// text is what the editor holds.
func (r *rig) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.editor.Text()
}

// now copies what the loop wrote.
func (r *rig) now() (s struct {
	frames        []loop.Frame
	seen          []time.Time
	alive, clicks int
}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.frames, s.seen, s.alive, s.clicks = r.frames, r.seen, r.alive, r.clicks
	return s
}

func TestStillPageDrawsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run(t, func(r *rig) {
			if len(r.now().frames) != 1 {
				t.Fatalf("%d frames at the start, want 1", len(r.now().frames))
			}
			sleep(time.Hour)
			// Neither do moves over places where nothing listens.
			for i := range 100 {
				r.check(t, r.display.Touch(r.ctx, 1, pointer.Move, image.Pt(300, 50+i)))
			}
			if len(r.now().frames) != 1 || r.display.Frames() != 1 {
				t.Errorf("%d frames laid out, %d shown, want 1", len(r.now().frames), r.display.Frames())
			}
		})
	})
}

func TestFocusedEditorDoesNotBlink(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run(t, func(r *rig) {
			r.check(t, r.display.Click(r.ctx, image.Pt(50, 120)))
			sleep(time.Second)
			r.check(t, nil)
			n := len(r.now().frames)
			sleep(time.Minute)
			if len(r.now().frames) != n {
				t.Errorf("%d frames in a minute", len(r.now().frames)-n)
			}
		})
	})
}

func TestClickByLabel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run(t, func(r *rig) {
			r.check(t, r.display.ClickLabel(r.ctx, r.loop, "OK"))
			r.check(t, r.display.TapLabel(r.ctx, r.loop, "OK"))
			if r.now().clicks != 2 {
				t.Errorf("%d clicks, want 2", r.now().clicks)
			}
			for _, label := range []string{"Aus", "Nichts"} {
				if err := r.display.ClickLabel(r.ctx, r.loop, label); !errors.Is(err, loop.ErrNoElement) {
					t.Errorf("click on %q: %v", label, err)
				}
			}
		})
	})
}

func TestSemantics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run(t, func(r *rig) {
			nodes, err := r.loop.Semantics(r.ctx)
			r.check(t, err)
			var got []string
			for _, n := range nodes {
				if n.Label != "" {
					got = append(got, fmt.Sprint(n.Label, " ", n.Rect, " ", n.Clickable, " ", n.Disabled))
				}
			}
			want := []string{
				"OK (10,10)-(110,50) false false",
				"Aus (10,60)-(110,100) false true",
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	})
}

func TestTyping(t *testing.T) {
	t.Parallel()
	const fast = "Größe 12, schnell getippt – ÄÖÜ мир مرحبا"
	tests := map[string]struct {
		start  string
		caret  int
		filter string
		max    int
		do     func(ctx context.Context, d *memory.Display) error
		want   string
	}{
		"in order": {do: func(ctx context.Context, d *memory.Display) error { return d.Type(ctx, fast) }, want: fast},
		"in the middle": {start: "ad", caret: 1, do: func(ctx context.Context, d *memory.Display) error {
			return d.Type(ctx, "bc")
		}, want: "abcd"},
		"keys between": {do: func(ctx context.Context, d *memory.Display) error {
			return errors.Join(d.Type(ctx, "abc"), d.Key(ctx, key.NameDeleteBackward, 0), d.Type(ctx, "de"),
				d.Key(ctx, key.NameLeftArrow, 0), d.Type(ctx, "x"), d.Key(ctx, key.NameHome, 0), d.Type(ctx, "<"), d.Key(ctx, key.NameEnd, 0), d.Type(ctx, ">"))
		}, want: "<abdxe>"},
		"replaces the selection": {start: "alt", do: func(ctx context.Context, d *memory.Display) error {
			return errors.Join(d.Key(ctx, "A", key.ModShortcut), d.Type(ctx, "neu"))
		}, want: "neu"},
		"filtered": {start: "XY", caret: 0, filter: "XY0123456789", do: func(ctx context.Context, d *memory.Display) error {
			return d.Type(ctx, "1a2b3")
		}, want: "123XY"},
		"limited": {max: 4, do: func(ctx context.Context, d *memory.Display) error { return d.Type(ctx, "123456") }, want: "1234"},
		"control characters and invalid text are dropped": {do: func(ctx context.Context, d *memory.Display) error {
			return errors.Join(d.Type(ctx, "a\x00\x1b\nb"), d.Send(ctx, platform.Text{Text: "\xff"}), d.Send(ctx, platform.Text{Text: string(make([]byte, platform.MaxText+1))}))
		}, want: "ab"},
		"long": {do: func(ctx context.Context, d *memory.Display) error {
			for range 60 {
				if err := d.Type(ctx, "0123456789abcdefghijklmnopqrstuvwxyz"); err != nil {
					return err
				}
			}
			return nil
		}, want: repeat("0123456789abcdefghijklmnopqrstuvwxyz", 60)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				run(t, func(r *rig) {
					r.check(t, r.loop.Post(r.ctx, func() {
						r.editor.SetText(tt.start)
						r.editor.Filter, r.editor.MaxLen = tt.filter, tt.max
					}))
					// The click comes together with the text, without a frame between.
					r.check(t, r.display.Click(r.ctx, image.Pt(15, 120)))
					r.check(t, r.loop.Post(r.ctx, func() { r.editor.SetCaret(tt.caret, tt.caret) }))
					r.check(t, tt.do(r.ctx, r.display))
					var got string
					r.check(t, r.loop.Post(r.ctx, func() { got = r.editor.Text() }))
					if got != tt.want {
						t.Errorf("got %q, want %q", got, tt.want)
					}
				})
			})
		})
	}
}

func repeat(s string, n int) (r string) {
	for range n {
		r += s
	}
	return r
}

// TestClickThenTypeAtOnce sends the click that focuses the editor and the text
// in one go.
func TestClickThenTypeAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run(t, func(r *rig) {
			if err := r.display.Click(r.ctx, image.Pt(50, 120)); err != nil {
				t.Fatal(err)
			}
			r.check(t, r.display.Type(r.ctx, "sofort"))
			if got := r.text(); got != "sofort" {
				t.Errorf("got %q", got)
			}
		})
	})
}

func TestTabMovesFocus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run(t, func(r *rig) {
			r.check(t, r.display.Key(r.ctx, key.NameTab, 0))
			r.check(t, r.display.Key(r.ctx, key.NameSpace, 0))
			if r.now().clicks != 1 {
				t.Errorf("space on the focused button gave %d clicks", r.now().clicks)
			}
			r.check(t, r.display.Key(r.ctx, key.NameTab, 0))
			r.check(t, r.display.Type(r.ctx, "ab"))
			r.check(t, r.display.Key(r.ctx, key.NameTab, key.ModShift))
			r.check(t, r.display.Type(r.ctx, "cd"))
			if got := r.text(); got != "ab" {
				t.Errorf("editor holds %q, want %q", got, "ab")
			}
		})
	})
}

func TestPacing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run(t, func(r *rig) {
			n := len(r.now().frames)
			for range 1000 {
				r.loop.Invalidate()
				time.Sleep(time.Millisecond)
			}
			r.check(t, nil)
			got := len(r.now().frames) - n
			if limit := int(time.Second/loop.DefaultPeriod) + 2; got > limit || got < limit-4 {
				t.Errorf("%d frames in a second, at most %d wanted", got, limit)
			}
			for i := range r.now().frames[1:] {
				if d := r.now().frames[i+1].Start.Sub(r.now().frames[i].Start); d < loop.DefaultPeriod {
					t.Fatalf("frame %d came %v after the one before", i+1, d)
				}
			}
		})
	})
}

func TestWakeup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run(t, func(r *rig) {
			at := time.Now().Add(700 * time.Millisecond)
			r.check(t, r.loop.Post(r.ctx, func() { r.at = at }))
			n := len(r.now().seen)
			sleep(time.Minute)
			if d := cmp.Diff([]time.Time{at}, r.now().seen[n:]); d != "" {
				t.Errorf("frames: %s", d)
			}
		})
	})
}

// TestSettleOnAMovingPage asks a page that wants a new frame in every frame.
func TestSettleOnAMovingPage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run(t, func(r *rig) {
			r.check(t, r.display.ClickLabel(r.ctx, r.loop, "OK"))
			if n := r.now().clicks; n != 1 {
				t.Errorf("%d clicks", n)
			}
		}, func(c *loop.Config) {
			inner := c.Layout
			c.Layout = func(gtx layout.Context) {
				inner(gtx)
				gtx.Execute(op.InvalidateCmd{})
			}
		})
	})
}

// TestInputBeforeFrame sends many events at once: one frame answers them all.
func TestInputBeforeFrame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run(t, func(r *rig) {
			sleep(time.Second)
			n := len(r.now().frames)
			release := make(chan struct{})
			if err := r.loop.Post(r.ctx, func() { <-release }); err != nil {
				t.Fatal(err)
			}
			for range 20 {
				if err := r.display.Click(r.ctx, image.Pt(50, 20)); err != nil {
					t.Fatal(err)
				}
			}
			close(release)
			synctest.Wait()
			if r.now().clicks != 20 || len(r.now().frames)-n != 1 {
				t.Errorf("%d clicks in %d frames, want 20 in 1", r.now().clicks, len(r.now().frames)-n)
			}
		})
	})
}

func TestRubbishCoordinates(t *testing.T) {
	t.Parallel()
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	synctest.Test(t, func(t *testing.T) {
		run(t, func(r *rig) {
			for _, v := range []float32{nan, inf, -inf, math.MaxFloat32, -1e30} {
				for _, k := range []pointer.Kind{pointer.Move, pointer.Press, pointer.Move, pointer.Scroll, pointer.Release, pointer.Cancel, pointer.Drag, pointer.Enter, 1 << 20} {
					for _, s := range []pointer.Source{pointer.Mouse, pointer.Touch, 77} {
						r.check(t, r.display.Send(r.ctx, pointer.Event{Kind: k, Source: s, Position: f32.Pt(v, -v), Scroll: f32.Pt(v, v), PointerID: 65535}))
					}
				}
			}
			r.check(t, r.display.ClickLabel(r.ctx, r.loop, "OK"))
			if r.now().clicks != 1 {
				t.Errorf("%d clicks after the rubbish, want 1", r.now().clicks)
			}
		})
	})
}

func TestAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run(t, func(r *rig) {
			n := r.now().alive
			sleep(time.Hour)
			if got := r.now().alive - n; got != 0 {
				t.Errorf("a still page that nobody asks woke up %d times", got)
			}
			// Settle would be a question of its own and may cost a turn.
			for range 10 {
				if err := r.display.Send(r.ctx, platform.Ping{}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			if got := r.now().alive - n; got != 10 {
				t.Errorf("%d signs of life for 10 questions", got)
			}
			if len(r.now().frames) != 1 {
				t.Errorf("%d frames", len(r.now().frames))
			}
		})
	})
}

// TestNoSignOfLifeFromAFrameThatHangs: a loop whose frame is not shown does not say that it lives.
func TestNoSignOfLifeFromAFrameThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hang := make(chan struct{})
		run(t, func(r *rig) {
			close(hang)
			r.loop.Invalidate()
			sleep(time.Second)
			n := r.now().alive
			if err := r.display.Send(r.ctx, platform.Ping{}); err != nil {
				t.Fatal(err)
			}
			sleep(time.Minute)
			if got := r.now().alive - n; got != 0 {
				t.Errorf("%d signs of life while a frame hangs", got)
			}
			close(release)
			synctest.Wait()
			if got := r.now().alive - n; got == 0 {
				t.Error("no sign of life after the frame was shown")
			}
		}, func(c *loop.Config) {
			lay := c.Layout
			c.Layout = func(gtx layout.Context) {
				select {
				case <-hang:
					<-release
				default:
				}
				lay(gtx)
			}
		})
	})
}

func TestResizeAndRedraw(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run(t, func(r *rig) {
			size := image.Pt(640, 480)
			r.check(t, r.display.Resize(r.ctx, size, unit.Metric{PxPerDp: 2, PxPerSp: 2}))
			r.display.Changed()
			r.check(t, r.display.Send(r.ctx, platform.Redraw{}))
			if d := cmp.Diff([]image.Rectangle{{Max: size}}, r.display.Changed()); d != "" {
				t.Error(d)
			}
		})
	})
}

// flaky is a display that refuses some frames.
type flaky struct {
	*memory.Display
	mu     sync.Mutex
	refuse bool
	shown  []platform.Frame
}

var errFlaky = errors.New("display is gone")

func (f *flaky) Show(fr platform.Frame) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse {
		return errFlaky
	}
	f.shown = append(f.shown, fr)
	return f.Display.Show(fr)
}

func (f *flaky) set(refuse bool) []platform.Frame {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.shown
	f.refuse, f.shown = refuse, nil
	return s
}

// small reports a small damage in every frame.
type small struct{}

func (small) Frame(*image.RGBA, *op.Ops) []image.Rectangle {
	return []image.Rectangle{image.Rect(1, 1, 2, 2)}
}

func TestRefusedFrame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f *flaky
		var failed []error
		run(t, func(r *rig) {
			f.set(true)
			for range 3 {
				r.check(t, r.display.Send(r.ctx, platform.Redraw{}))
			}
			if len(failed) != 1 || !errors.Is(failed[0], errFlaky) {
				t.Errorf("errors reported: %v, want one", failed)
			}
			f.set(false)
			r.loop.Invalidate()
			r.check(t, nil)
			r.loop.Invalidate()
			r.check(t, nil)
			var got []image.Rectangle
			for _, s := range f.set(false) {
				got = append(got, s.Damage...)
			}
			if d := cmp.Diff([]image.Rectangle{image.Rect(0, 0, 320, 200), image.Rect(1, 1, 2, 2)}, got); d != "" {
				t.Errorf("damage after the refused frames: %s", d)
			}
		}, func(c *loop.Config) {
			f = &flaky{Display: c.Platform.(*memory.Display)}
			c.Platform, c.Renderer = f, small{}
			c.Failed = func(err error) { failed = append(failed, err) }
		})
	})
}

func TestEnd(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		do   func(*memory.Display) error
		want error
	}{
		"closed display": {do: (*memory.Display).Close},
		"orderly end":    {do: func(d *memory.Display) error { return d.Send(context.Background(), platform.Closed{}) }},
		"failed display": {do: func(d *memory.Display) error { return d.Send(context.Background(), platform.Closed{Err: errFlaky}) }, want: errFlaky},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d, err := memory.New(memory.Config{})
				if err != nil {
					t.Fatal(err)
				}
				l, err := loop.New(loop.Config{Platform: d, Renderer: &counter{}, Layout: func(layout.Context) {}})
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan error, 1)
				go func() { done <- l.Run(t.Context()) }()
				synctest.Wait()
				if err := tt.do(d); err != nil {
					t.Fatal(err)
				}
				if err := <-done; !errors.Is(err, tt.want) {
					t.Errorf("Run returned %v, want %v", err, tt.want)
				}
			})
		})
	}
}

func TestNewNeedsEverything(t *testing.T) {
	t.Parallel()
	if _, err := loop.New(loop.Config{}); err == nil {
		t.Error("a loop without a platform")
	}
}

var _ event.Event = platform.Text{}
