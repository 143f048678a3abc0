package platform_test

import (
	"image"
	"math"
	"math/rand/v2"
	"testing"

	"gioui.org/f32"
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
	// 390 mm are 1509 pixels of 1280x800.
	const unknown = float32(1509.4370 / 390 * 25.4 / 160)
	for _, tt := range []struct {
		px, mm image.Point
		want   float32
	}{
		{image.Pt(1280, 800), image.Point{}, unknown}, {image.Pt(1280, 800), image.Pt(10, 6), unknown}, {image.Pt(1280, 800), image.Pt(9000, 6000), unknown},
		{image.Pt(1280, 800), image.Pt(254, 158), 0.8}, {image.Pt(3840, 2160), image.Pt(254, 143), 2.4},
		{image.Pt(640, 480), image.Pt(1000, 750), 0.25}, {image.Pt(7680, 4320), image.Pt(60, 34), 4},
	} {
		got := platform.MetricFor(tt.px, tt.mm)
		if d := got.PxPerDp - tt.want; d > 1e-5 || d < -1e-5 || got.PxPerSp != got.PxPerDp {
			t.Errorf("%v px on %v mm: %v, want %v", tt.px, tt.mm, got, tt.want)
		}
	}
	// The same panel, by its diagonal: 1280x800 on 300 mm are 5.03 pixels in a millimetre.
	if got := platform.PxPerMM(platform.MetricForDiagonal(image.Pt(1280, 800), 300)); got < 5.03 || got > 5.04 {
		t.Errorf("%v pixels in a millimetre", got)
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
