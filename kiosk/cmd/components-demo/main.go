// Command components-demo shows the components of the kiosk's screens on one
// of its platforms, to try a display, a touch screen or a keyboard with: a page
// that shows every finger and key, or (-screen) a screen of the product.
//
//	components-demo -platform drm               on a terminal, needs /dev/dri and /dev/input
//	components-demo -platform window            on a desktop (build with -tags window)
//	components-demo -platform memory -png x.png writes the picture and ends
//
// It prints nothing, unless -trace asks for a line per frame.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"image"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"gioui.org/cpurender"
	"gioui.org/unit"

	"ktradv/kiosk/cmd/components-demo/page"
	"ktradv/kiosk/fonts"
	"ktradv/kiosk/loop"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/drm"
	"ktradv/kiosk/platform/memory"
)

type options struct {
	platform     string
	size         string
	scale        float64
	rotate       int
	output, mode string
	card         string
	png          string
	screen       string
	trace        bool
}

func main() {
	var o options
	flag.StringVar(&o.platform, "platform", "memory", "`drm`, memory or window")
	flag.StringVar(&o.size, "size", "1280x800", "`WxH` of the memory display or window, or without a display")
	flag.Float64Var(&o.scale, "scale", 1, "`pixels` of a dp; 0 takes what the display reports")
	flag.IntVar(&o.rotate, "rotate", 0, "turn the picture clockwise by `degrees`: 0, 90, 180, 270")
	flag.StringVar(&o.card, "card", "", "`device` node of the display card")
	flag.StringVar(&o.output, "output", "", "`name` of the output, such as HDMI-A-1")
	flag.StringVar(&o.mode, "mode", "", "`mode` of the display, such as 1280x800@60")
	flag.StringVar(&o.screen, "screen", "", "show this `screen` of the product instead of the page, such as neutral or menu")
	flag.StringVar(&o.png, "png", "", "memory: write the picture to this `file` and end")
	flag.BoolVar(&o.trace, "trace", false, "print a line for each frame")
	flag.Parse()
	// A collection in the middle of a frame is felt on a slow machine: let the
	// heap grow, but keep the whole process below 40 MB.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(28 << 20)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "components-demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, stdout io.Writer) error {
	var size image.Point
	if n, err := fmt.Sscanf(o.size, "%dx%d", &size.X, &size.Y); n != 2 || err != nil {
		return fmt.Errorf("size %q is not like 1280x800", o.size)
	}
	trace := func(format string, a ...any) {
		if o.trace {
			fmt.Fprintf(stdout, format+"\n", a...)
		}
	}
	failed := func(err error) { trace("failed %v", err) }
	var display platform.Platform
	var picture *memory.Display
	var err error
	switch o.platform {
	case "memory":
		picture, err = memory.New(memory.Config{Size: size, Metric: unit.Metric{PxPerDp: float32(o.scale), PxPerSp: float32(o.scale)}})
		display = picture
	case "drm":
		var d *drm.Display
		d, err = drm.Open(drm.Config{
			Card: o.card, Output: o.output, Mode: o.mode, Rotation: platform.Rotation(o.rotate),
			Fallback: size, Scale: float32(o.scale), Failed: failed,
		})
		if err == nil {
			name, flips := d.Output()
			trace("display %s flips=%v size=%v", name, flips, d.Size())
		}
		display = d
	case "window":
		display, err = openWindow(size)
	default:
		err = errors.New("no such platform")
	}
	if err != nil {
		return fmt.Errorf("platform %s: %w", o.platform, err)
	}
	defer display.Close()

	p := page.New(fonts.Default().Shaper())
	show := p.Layout
	if o.screen != "" {
		if show, err = page.Screen(o.screen, display.Size()); err != nil {
			return err
		}
	}
	l, err := loop.New(loop.Config{
		Platform: display, Renderer: cpurender.New(cpurender.Options{Report: failed}), Layout: show, Failed: failed,
		OnFrame: func(f loop.Frame) {
			fingers, most := p.Fingers()
			trace("frame input=%v layout=%d draw=%d show=%d damage=%d presses=%d fingers=%d most=%d typing=%v text=%q",
				f.Input, f.Layout.Microseconds(), f.Draw.Microseconds(), f.Show.Microseconds(), len(f.Damage), p.Presses(), fingers, most, p.Typing(), p.Text())
		},
	})
	if err != nil {
		return err
	}
	if o.png == "" {
		return l.Run(ctx)
	}
	if picture == nil {
		return errors.New("a PNG needs the platform memory")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	if err := l.Settle(ctx); err != nil {
		return err
	}
	cancel()
	<-done
	f, err := os.Create(o.png)
	if err != nil {
		return err
	}
	return errors.Join(picture.PNG(f), f.Close())
}
