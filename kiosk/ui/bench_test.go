package ui_test

import (
	"image"
	"slices"
	"testing"
	"time"

	"gioui.org/cpurender"
	"gioui.org/io/input"
	"gioui.org/layout"
	"gioui.org/op"

	"ktradv/kiosk/design"
	"ktradv/kiosk/text"
	"ktradv/kiosk/ui/gallery"
)

// BenchmarkDensestFrame is layout and drawing of the densest screen, the insured person's data, at 1920x1080. "scroll"
// moves the data by a finger's step in every frame, "compose" has everything set anew and painted in full.
func BenchmarkDensestFrame(b *testing.B) {
	var sample gallery.Sample
	for _, s := range gallery.Samples() {
		if s.Name == "data" {
			sample = s
		}
	}
	for _, mode := range []string{"scroll", "compose"} {
		b.Run(mode, func(b *testing.B) {
			d, err := gallery.NewDrawer(nil)
			if err != nil {
				b.Fatal(err)
			}
			panel := gallery.Panels[1]
			u := d.UI(sample, gallery.Variant{Panel: panel, Lang: text.German, Look: design.Light})
			var (
				router input.Router
				ops    op.Ops
			)
			img := image.NewRGBA(image.Rectangle{Max: panel.Pixels})
			r := cpurender.New(cpurender.Options{})
			frame := func() {
				ops.Reset()
				u.Layout(layout.Context{Ops: &ops, Now: gallery.Now, Source: router.Source(), Constraints: layout.Exact(panel.Pixels)})
				router.Frame(&ops)
				r.Frame(img, &ops)
				u.Events()
			}
			// The first round meets every position once, as a person who reads the page to its end.
			n := 0
			step := func() {
				switch mode {
				case "scroll":
					if n++; n%128 == 0 {
						u.ScrollBy(-1 << 20)
					} else {
						u.ScrollBy(24)
					}
				case "compose":
					u.SetView(sample.View)
					r.Invalidate()
				}
				frame()
			}
			frame()
			for range 130 {
				step()
			}
			times := make([]time.Duration, 0, b.N)
			b.ReportAllocs()
			for b.Loop() {
				t := time.Now()
				step()
				times = append(times, time.Since(t))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
