package memory_test

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/png"
	"runtime"
	"testing"
	"time"

	"gioui.org/f32"
	"gioui.org/io/event"
	"gioui.org/io/key"
	"gioui.org/io/pointer"
	"gioui.org/unit"
	"github.com/google/go-cmp/cmp"

	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/memory"
)

func display(t *testing.T) *memory.Display {
	t.Helper()
	d, err := memory.New(memory.Config{Size: image.Pt(20, 10), Clock: func() time.Time { return time.Unix(5, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestShow(t *testing.T) {
	t.Parallel()
	d := display(t)
	next := d.Updated()
	img := image.NewRGBA(image.Rect(0, 0, 20, 10))
	for i := range img.Pix {
		img.Pix[i] = 0xff
	}
	r := image.Rect(2, 3, 5, 6)
	if err := d.Show(platform.Frame{Img: img, Damage: []image.Rectangle{r, image.Rect(19, 9, 50, 50)}}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-next:
	default:
		t.Error("Updated was not closed")
	}
	// Only the damage is shown: a renderer that forgets some is found out.
	got := d.Image()
	if got.RGBAAt(2, 3) != (color.RGBA{255, 255, 255, 255}) || got.RGBAAt(1, 3) != (color.RGBA{}) || got.RGBAAt(5, 3) != (color.RGBA{}) {
		t.Error("more or less than the damage was shown")
	}
	if diff := cmp.Diff([]image.Rectangle{r, image.Rect(19, 9, 20, 10)}, d.Changed()); diff != "" {
		t.Error(diff)
	}
	if c := d.Changed(); c != nil {
		t.Errorf("changed again: %v", c)
	}
	for range 10 * platform.MaxDamage {
		if err := d.Show(platform.Frame{Img: img, Damage: []image.Rectangle{r}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(d.Changed()); n > platform.MaxDamage {
		t.Errorf("%d rectangles kept", n)
	}
	if n := d.Frames(); n != 1+10*platform.MaxDamage {
		t.Errorf("%d frames", n)
	}
	var b bytes.Buffer
	if err := d.PNG(&b); err != nil {
		t.Fatal(err)
	}
	if p, err := png.Decode(&b); err != nil || p.Bounds() != img.Rect {
		t.Errorf("png: %v", err)
	}
	if err := d.Show(platform.Full(image.NewRGBA(image.Rect(0, 0, 10, 20)))); !errors.Is(err, platform.ErrSize) {
		t.Errorf("wrong size: %v", err)
	}
	d.Close()
	if err := d.Show(platform.Full(img)); !errors.Is(err, platform.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

type labels map[string]image.Rectangle

func (l labels) Locate(_ context.Context, label string) (image.Rectangle, error) {
	r, ok := l[label]
	if !ok {
		return r, errors.New("none")
	}
	return r, nil
}

func TestInjection(t *testing.T) {
	t.Parallel()
	d := display(t)
	ctx := t.Context()
	mouse := pointer.Event{Source: pointer.Mouse, Position: f32.Pt(3, 4)}
	with := func(e pointer.Event, k pointer.Kind, b pointer.Buttons) event.Event {
		e.Kind, e.Buttons = k, b
		return e
	}
	finger := pointer.Event{Source: pointer.Touch, PointerID: 1, Position: f32.Pt(6, 5)}
	tests := map[string]struct {
		do   func() error
		want []event.Event
	}{
		"click":        {func() error { return d.Click(ctx, image.Pt(3, 4)) }, []event.Event{with(mouse, pointer.Move, 0), with(mouse, pointer.Press, pointer.ButtonPrimary), with(mouse, pointer.Release, 0)}},
		"tap by label": {func() error { return d.TapLabel(ctx, labels{"OK": image.Rect(4, 4, 8, 6)}, "OK") }, []event.Event{with(finger, pointer.Press, 0), with(finger, pointer.Release, 0)}},
		"touch":        {func() error { return d.Touch(ctx, 1, pointer.Cancel, image.Pt(6, 5)) }, []event.Event{with(finger, pointer.Cancel, 0)}},
		"scroll":       {func() error { return d.Scroll(ctx, image.Pt(3, 4), image.Pt(0, 60)) }, []event.Event{pointer.Event{Kind: pointer.Scroll, Source: pointer.Mouse, Position: f32.Pt(3, 4), Scroll: f32.Pt(0, 60)}}},
		"type":         {func() error { return d.Type(ctx, "aß") }, []event.Event{platform.Text{Text: "a"}, platform.Text{Text: "ß"}}},
		"key":          {func() error { return d.Key(ctx, key.NameTab, key.ModShift) }, []event.Event{key.Event{Name: key.NameTab, Modifiers: key.ModShift}, key.Event{Name: key.NameTab, Modifiers: key.ModShift, State: key.Release}}},
		"resize":       {func() error { return d.Resize(ctx, image.Pt(30, 30), unit.Metric{PxPerDp: 2, PxPerSp: 2}) }, []event.Event{platform.Resized{}}},
		"blank":        {func() error { return errors.Join(d.Blank(true), d.Blank(false)) }, []event.Event{platform.Redraw{}}},
	}
	for _, name := range []string{"click", "tap by label", "touch", "scroll", "type", "key", "resize", "blank"} {
		tt := tests[name]
		if err := tt.do(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []event.Event
		for len(d.Events()) > 0 {
			got = append(got, <-d.Events())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if d.Size() != image.Pt(30, 30) || d.Metric().PxPerDp != 2 {
		t.Errorf("size %v, metric %v", d.Size(), d.Metric())
	}
	if err := d.ClickLabel(ctx, labels{}, "OK"); err == nil {
		t.Error("a label that does not exist was clicked")
	}
	if err := d.Resize(ctx, image.Pt(0, 5), unit.Metric{}); !errors.Is(err, platform.ErrSize) {
		t.Errorf("empty size: %v", err)
	}
}

func TestInjectionEnds(t *testing.T) {
	t.Parallel()
	d := display(t)
	// Nobody takes the events: the context bounds the wait, then Close does.
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Type(ctx, string(bytes.Repeat([]byte("x"), 1000))) }()
	for len(d.Events()) < cap(d.Events()) {
		runtime.Gosched()
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	go func() { done <- d.Type(t.Context(), "y") }()
	d.Close()
	if err := <-done; !errors.Is(err, platform.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if err := d.Click(t.Context(), image.Point{}); !errors.Is(err, platform.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestBadSize(t *testing.T) {
	t.Parallel()
	if _, err := memory.New(memory.Config{Size: image.Pt(1<<20, 1<<20)}); !errors.Is(err, platform.ErrSize) {
		t.Errorf("got %v", err)
	}
}
