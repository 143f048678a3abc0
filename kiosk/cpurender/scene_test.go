package cpurender

import (
	"image"
	"image/color"
	"math"
	"math/rand/v2"

	"gioui.org/f32"
	"gioui.org/op"
	"gioui.org/op/clip"
	"gioui.org/op/paint"
)

// picture is a random picture made of items. Each item is drawn from a seed of
// its own, so that a frame can change one of them.
type picture struct {
	seeds []uint64
	image []paint.ImageOp
	wild  bool // absurd numbers too
}

func newScene(rng *rand.Rand, items int) *picture {
	s := &picture{}
	for range items {
		s.seeds = append(s.seeds, rng.Uint64())
	}
	for i, size := range []image.Point{{X: 40, Y: 30}, {X: 7, Y: 90}, {X: 1, Y: 1}} {
		img := image.NewRGBA(image.Rectangle{Max: size})
		for k := 0; k < len(img.Pix); k += 4 {
			a := byte(255)
			if i == 1 {
				a = byte(rng.IntN(256))
			}
			for c := range 3 {
				img.Pix[k+c] = byte(rng.IntN(int(a) + 1))
			}
			img.Pix[k+3] = a
		}
		s.image = append(s.image, paint.NewImageOp(img))
	}
	return s
}

// mutate changes some items.
func (s *picture) mutate(rng *rand.Rand) {
	for range 1 + rng.IntN(2) {
		s.seeds[rng.IntN(len(s.seeds))] = rng.Uint64()
	}
}

// build replaces the content of list with the scene.
func (s *picture) build(list *op.Ops, size image.Point) {
	list.Reset()
	for i, seed := range s.seeds {
		g := &generator{rng: rand.New(rand.NewPCG(seed, 1)), o: list, size: size, scene: s}
		if i == 0 && g.rng.IntN(3) > 0 {
			paint.Fill(list, color.NRGBA{R: g.byte(), G: g.byte(), B: g.byte(), A: 255})
			continue
		}
		g.item(0)
	}
}

type generator struct {
	rng   *rand.Rand
	o     *op.Ops
	size  image.Point
	scene *picture
}

func (g *generator) byte() byte { return byte(g.rng.IntN(256)) }

func (g *generator) color() color.NRGBA {
	c := color.NRGBA{R: g.byte(), G: g.byte(), B: g.byte(), A: 255}
	if g.rng.IntN(2) == 0 {
		c.A = g.byte()
	}
	return c
}

// wildNumbers are coordinates no layout should produce.
var wildNumbers = []float32{
	float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 1e30, -1e30, 3e7, -3e7, 1e5, 1e-30, 0,
}

func (g *generator) coord(limit int) float32 {
	if g.scene.wild && g.rng.IntN(12) == 0 {
		return wildNumbers[g.rng.IntN(len(wildNumbers))]
	}
	return float32(g.rng.IntN(limit*12)-limit)/8 - float32(limit)/16
}

func (g *generator) point() f32.Point {
	return f32.Pt(g.coord(g.size.X), g.coord(g.size.Y))
}

func (g *generator) rect() image.Rectangle {
	x, y := g.rng.IntN(g.size.X+40)-20, g.rng.IntN(g.size.Y+40)-20
	r := image.Rect(x, y, x+g.rng.IntN(g.size.X/2+1), y+g.rng.IntN(g.size.Y/2+1))
	if g.scene.wild && g.rng.IntN(10) == 0 {
		r.Max.X = math.MaxInt32 - g.rng.IntN(3)
		r.Min.Y = math.MinInt32
	}
	return r
}

func (g *generator) path() clip.PathSpec {
	var p clip.Path
	p.Begin(g.o)
	p.MoveTo(g.point())
	for range 1 + g.rng.IntN(6) {
		switch g.rng.IntN(5) {
		case 0:
			p.MoveTo(g.point())
		case 1:
			p.QuadTo(g.point(), g.point())
		case 2:
			p.CubeTo(g.point(), g.point(), g.point())
		default:
			p.LineTo(g.point())
		}
	}
	if g.rng.IntN(2) == 0 {
		p.Close()
	}
	return p.End()
}

func (g *generator) clip() clip.Op {
	switch g.rng.IntN(6) {
	case 0:
		return clip.UniformRRect(g.rect(), g.rng.IntN(30)).Op(g.o)
	case 1:
		return clip.Ellipse(g.rect()).Op(g.o)
	case 2:
		return clip.Outline{Path: g.path()}.Op()
	case 3:
		return clip.Stroke{Path: g.path(), Width: float32(g.rng.IntN(80)) / 4}.Op()
	default:
		return clip.Rect(g.rect()).Op()
	}
}

func (g *generator) transform() f32.Affine2D {
	t := f32.AffineId()
	switch g.rng.IntN(6) {
	case 0:
		t = t.Rotate(g.point(), float32(g.rng.IntN(63))/10)
	case 1:
		t = t.Scale(g.point(), f32.Pt(float32(g.rng.IntN(40)-8)/8, float32(g.rng.IntN(40)-8)/8))
	case 2:
		t = t.Shear(f32.Point{}, float32(g.rng.IntN(20))/20, 0)
	case 3:
		t = t.Offset(f32.Pt(float32(g.rng.IntN(200)-100)/7, float32(g.rng.IntN(200)-100)/7))
	default:
		t = t.Offset(f32.Pt(float32(g.rng.IntN(100)-50), float32(g.rng.IntN(100)-50)))
	}
	if g.scene.wild && g.rng.IntN(8) == 0 {
		t = f32.NewAffine2D(g.coord(10), g.coord(10), g.coord(100), g.coord(10), g.coord(10), g.coord(100))
	}
	return t
}

// item draws one thing, which may hold others.
func (g *generator) item(depth int) {
	if depth < 4 {
		switch g.rng.IntN(9) {
		case 0:
			defer op.Affine(g.transform()).Push(g.o).Pop()
		case 1:
			defer g.clip().Push(g.o).Pop()
		case 2:
			defer paint.PushOpacity(g.o, float32(g.rng.IntN(11))/10).Pop()
		case 3:
			m := op.Record(g.o)
			g.item(depth + 1)
			c := m.Stop()
			if g.rng.IntN(2) == 0 {
				op.Defer(g.o, c)
			} else {
				c.Add(g.o)
				c.Add(g.o)
			}
			return
		case 4:
			g.item(depth + 1)
		default:
			depth = 4
		}
		if depth < 4 {
			g.item(depth + 1)
			return
		}
	}
	shape := g.clip().Push(g.o)
	switch g.rng.IntN(4) {
	case 0:
		img := g.scene.image[g.rng.IntN(len(g.scene.image))]
		img.Filter = paint.ImageFilter(g.rng.IntN(2))
		img.Add(g.o)
	case 1:
		paint.LinearGradientOp{Stop1: g.point(), Stop2: g.point(), Color1: g.color(), Color2: g.color()}.Add(g.o)
	default:
		paint.ColorOp{Color: g.color()}.Add(g.o)
	}
	paint.PaintOp{}.Add(g.o)
	shape.Pop()
}
