package cpurender

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"testing"

	"gioui.org/op"
)

// render draws a list with a fresh renderer; any problem fails the test.
func render(t testing.TB, size image.Point, list *op.Ops) *image.RGBA {
	t.Helper()
	r := New(Options{Report: func(err error) { t.Helper(); t.Error(err) }})
	dst := image.NewRGBA(image.Rectangle{Max: size})
	r.Frame(dst, list)
	return dst
}

// writePNG writes a picture byte for byte: PNG knows no premultiplied alpha, so
// where a picture is translucent the file looks a trace darker than it is.
func writePNG(t testing.TB, name string, img *image.RGBA) {
	t.Helper()
	raw := &image.NRGBA{Pix: img.Pix, Stride: img.Stride, Rect: img.Rect}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := png.Encode(f, raw); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// readPNG reads what writePNG wrote.
func readPNG(t testing.TB, name string) *image.RGBA {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	switch m := img.(type) {
	case *image.RGBA: // opaque
		return m
	case *image.NRGBA:
		return &image.RGBA{Pix: m.Pix, Stride: m.Stride, Rect: m.Rect}
	}
	t.Fatalf("%s: unexpected kind of picture %T", name, img)
	return nil
}

// difference describes how far two pictures are apart.
type difference struct {
	mae   float64  // mean of the absolute difference of the colour bytes
	max   int      // largest difference of a byte
	over  [256]int // over[n]: pixels with a byte off by more than n
	total int
	worst image.Point
}

func (d difference) percent(n int) float64 { return 100 * float64(d.over[n]) / float64(d.total) }

func (d difference) String() string {
	return fmt.Sprintf("mae %.4f max %d at %v; >1 %.3f %%, >4 %.3f %%, >16 %.4f %% (%d px)",
		d.mae, d.max, d.worst, d.percent(1), d.percent(4), d.percent(16), d.over[16])
}

func compareImages(a, b *image.RGBA) difference {
	var d difference
	size := a.Rect.Size()
	var sum int
	for y := range size.Y {
		for x := range size.X {
			p, q := a.Pix[a.PixOffset(x, y):], b.Pix[b.PixOffset(x, y):]
			worst := 0
			for i := range 4 {
				e := int(p[i]) - int(q[i])
				if e < 0 {
					e = -e
				}
				if i < 3 {
					sum += e
				}
				worst = max(worst, e)
			}
			if worst > d.max {
				d.max, d.worst = worst, image.Pt(x, y)
			}
			for n := range worst {
				d.over[n]++
			}
		}
	}
	d.total = size.X * size.Y
	d.mae = float64(sum) / float64(3*d.total)
	return d
}

// rgba is a colour literal.
func rgba(c uint32, a uint8) color.NRGBA {
	return color.NRGBA{R: uint8(c >> 16), G: uint8(c >> 8), B: uint8(c), A: a}
}
