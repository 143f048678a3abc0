//go:build vm

package vm

import (
	"image"
	idraw "image/draw"
	"image/png"
	"os"
	"testing"
)

func TestH6(t *testing.T) {
	f, _ := os.Open("/tmp/h3/wt/out/vm/TestReaders/03.png")
	p, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	img := image.NewRGBA(p.Bounds())
	idraw.Draw(img, img.Rect, p, image.Point{}, idraw.Src)
	l, err := sample("neutral")
	o, _ := os.Create("/tmp/h6/n.png")
	png.Encode(o, l.picture)
	o.Close()
	for _, e := range l.texts(true) {
		r := e.Ink.Inset(-1).Intersect(img.Rect)
		n := 0
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				if img.RGBAAt(x, y) != l.picture.RGBAAt(x, y) {
					n++
				}
			}
		}
		t.Log(e.Label, e.Ink, n)
	}
}

