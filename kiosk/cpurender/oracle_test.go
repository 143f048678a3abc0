//go:build oracle

package cpurender

import (
	"fmt"
	"image"
	"image/color"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"gioui.org/cpurender/internal/pages"
	"gioui.org/gpu/headless"
	"gioui.org/op"
	"gioui.org/op/clip"
	"gioui.org/op/paint"
)

// oracle draws a list with Gio's own renderer, in a window of its own: Gio
// keys its path cache without the fraction of the offset, so a window that has
// drawn a path before may draw it displaced.
func oracle(t testing.TB, size image.Point, list *op.Ops) *image.RGBA {
	t.Helper()
	useSoftware()
	win, err := headless.NewWindow(size.X, size.Y)
	if err != nil {
		t.Skipf("no headless window: %v", err)
	}
	defer win.Release()
	if err := win.Frame(list); err != nil {
		t.Fatal(err)
	}
	img := image.NewRGBA(image.Rectangle{Max: size})
	if err := win.Screenshot(img); err != nil {
		t.Fatal(err)
	}
	return img
}

// useSoftware asks EGL for Mesa's software renderer, unless the environment
// says otherwise.
func useSoftware() {
	if os.Getenv("EGL_PLATFORM") == "" {
		os.Setenv("EGL_PLATFORM", "surfaceless")
		os.Setenv("LIBGL_ALWAYS_SOFTWARE", "1")
	}
}

func TestOraclePages(t *testing.T) {
	limits := map[string]float64{"kiosk": 0.05, "dense": 0.4, "odd": 0.05} // percent of channel-wise worst pixels off by more than 16
	for _, size := range []image.Point{{X: 1280, Y: 800}, {X: 1920, Y: 1080}} {
		for _, name := range pages.Names() {
			var list op.Ops
			pages.New().Build(name, &list, size, pages.State{})
			want := oracle(t, size, &list)
			got := render(t, size, &list)
			d := compareImages(got, want)
			t.Logf("%s %v: %v", name, size, d)
			if d.mae > 0.6 {
				t.Errorf("%s %v: mean error %.3f, limit 0.6", name, size, d.mae)
			}
			if d.percent(16) > limits[name] {
				t.Errorf("%s %v: %.3f %% of pixels off by more than 16, limit %.2f", name, size, d.percent(16), limits[name])
			}
			if dir := os.Getenv("ORACLE_OUT"); dir != "" {
				writePNG(t, filepath.Join(dir, name+"-oracle.png"), want)
				writePNG(t, filepath.Join(dir, name+"-ours.png"), got)
				writePNG(t, filepath.Join(dir, name+"-diff.png"), diffImage(got, want))
			}
		}
	}
}

// TestOracleExact compares what needs no geometry: flat colours and alpha.
func TestOracleExact(t *testing.T) {
	size := image.Pt(512, 256)
	var list op.Ops
	for i := range 256 {
		x, y := i%32*16, i/32*32
		paint.FillShape(&list, color.NRGBA{R: uint8(i), G: uint8(255 - i), B: uint8(i * 7), A: 255},
			clip.Rect{Min: image.Pt(x, y), Max: image.Pt(x+16, y+16)}.Op())
		paint.FillShape(&list, color.NRGBA{R: 200, G: 40, B: uint8(i), A: uint8(i)},
			clip.Rect{Min: image.Pt(x, y+8), Max: image.Pt(x+16, y+32)}.Op())
	}
	d := compareImages(render(t, size, &list), oracle(t, size, &list))
	if d.max > 1 {
		t.Errorf("colours differ by up to %d", d.max)
	}
	t.Logf("%v", d)
}

// TestOracleScenes compares random scenes: transforms, strokes, gradients and
// images in combinations the pages do not have.
func TestOracleScenes(t *testing.T) {
	rng := rand.New(rand.NewPCG(77, 1))
	size := image.Pt(400, 300)
	for i := range 60 {
		var list op.Ops
		newScene(rng, 6).build(&list, size)
		got := image.NewRGBA(image.Rectangle{Max: size})
		silent(2).Frame(got, &list)
		want := oracle(t, size, &list)
		d := compareImages(got, want)
		t.Logf("scene %d: %v", i, d)
		if d.mae > 0.6 || d.percent(16) > 0.4 {
			t.Errorf("scene %d: %v; limits mae 0.6, >16 0.4 %%", i, d)
		}
		if dir := os.Getenv("ORACLE_OUT"); dir != "" && d.percent(16) > 0.1 {
			writePNG(t, filepath.Join(dir, fmt.Sprintf("s%d-oracle.png", i)), want)
			writePNG(t, filepath.Join(dir, fmt.Sprintf("s%d-ours.png", i)), got)
			writePNG(t, filepath.Join(dir, fmt.Sprintf("s%d-diff.png", i)), diffImage(got, want))
		}
	}
}

// diffImage shows differences, multiplied by eight.
func diffImage(a, b *image.RGBA) *image.RGBA {
	out := image.NewRGBA(a.Rect)
	for i := range a.Pix {
		if i%4 == 3 {
			out.Pix[i] = 255
			continue
		}
		e := int(a.Pix[i]) - int(b.Pix[i])
		out.Pix[i] = uint8(min(255, 8*max(e, -e)))
	}
	return out
}
