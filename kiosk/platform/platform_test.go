package platform_test

import (
	"image"
	"math"
	"math/rand/v2"
	"testing"

	"gioui.org/f32"
	"gioui.org/unit"
	"github.com/google/go-cmp/cmp"

	"ktradv/kiosk/platform"
)

func TestClipDamage(t *testing.T) {
	t.Parallel()
	bounds := image.Rect(0, 0, 100, 100)
	got := platform.ClipDamage(nil, []image.Rectangle{image.Rect(-5, -5, 10, 10), image.Rect(200, 0, 300, 5), {}, image.Rect(90, 90, 95, 200)}, bounds)
	if d := cmp.Diff([]image.Rectangle{image.Rect(0, 0, 10, 10), image.Rect(90, 90, 95, 100)}, got); d != "" {
		t.Error(d)
	}
	// Many rectangles become their bounding box, and nothing gets lost.
	rng := rand.New(rand.NewPCG(1, 2))
	var many []image.Rectangle
	for range 1000 {
		p := image.Pt(rng.IntN(140)-20, rng.IntN(140)-20)
		many = append(many, image.Rectangle{Min: p, Max: p.Add(image.Pt(3, 2))})
	}
	keep := []image.Rectangle{image.Rect(1, 2, 3, 4)}
	got = platform.ClipDamage(keep, many, bounds)
	if len(got) > 1+platform.MaxDamage || got[0] != keep[0] {
		t.Errorf("%d rectangles, the first %v", len(got), got[0])
	}
	for _, r := range many {
		r = r.Intersect(bounds)
		in := r.Empty()
		for _, g := range got[1:] {
			in = in || r.In(g)
		}
		if !in {
			t.Fatalf("%v is lost", r)
		}
	}
}

func TestClampPoint(t *testing.T) {
	t.Parallel()
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for in, want := range map[[2]float32]f32.Point{
		{5, 6}: f32.Pt(5, 6), {-1, 1e30}: f32.Pt(0, 80), {inf, -inf}: f32.Pt(100, 0), {nan, 7}: f32.Pt(0, 7),
	} {
		if got := platform.ClampPoint(f32.Pt(in[0], in[1]), image.Pt(100, 80)); got != want {
			t.Errorf("%v becomes %v, want %v", in, got, want)
		}
	}
}

func TestMetricFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		px, mm int
		want   float32
	}{{1280, 0, 1}, {0, 300, 1}, {1280, 10, 1}, {1280, 254, 0.8}, {3840, 254, 2.4}, {640, 1000, 0.75}, {7680, 60, 4}} {
		if got := platform.MetricFor(tt.px, tt.mm); got != (unit.Metric{PxPerDp: tt.want, PxPerSp: tt.want}) {
			t.Errorf("%d px on %d mm: %v, want %v", tt.px, tt.mm, got, tt.want)
		}
	}
}

func TestValidSize(t *testing.T) {
	t.Parallel()
	for s, want := range map[image.Point]bool{
		{1280, 800}: true, {7680, 4320}: true, {1, 1}: true, {0, 5}: false, {5, -1}: false, {8193, 1}: false, {8192, 8192}: false, {1 << 40, 1 << 40}: false,
	} {
		if got := platform.ValidSize(s); got != want {
			t.Errorf("%v: %v", s, got)
		}
	}
}
