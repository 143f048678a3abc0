package cpurender

import (
	"bytes"
	"fmt"
	"image"
	"math/rand/v2"
	"testing"

	"gioui.org/cpurender/internal/pages"
	"gioui.org/f32"
	"gioui.org/op"
	"gioui.org/op/clip"
	"gioui.org/op/paint"
)

// silent returns a renderer for lists that may be odd on purpose.
func silent(workers int) *Renderer { return New(Options{Workers: workers}) }

func sameBytes(a, b *image.RGBA) error {
	if bytes.Equal(a.Pix, b.Pix) {
		return nil
	}
	return fmt.Errorf("pictures differ: %v", compareImages(a, b))
}

// TestIncrementalEqualsFull draws random frames one over the other and compares
// each with a fresh picture; what changed must lie within the damage.
func TestIncrementalEqualsFull(t *testing.T) {
	t.Parallel()
	frames := 100
	if testing.Short() {
		frames = 40
	}
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 7))
		size := image.Pt(150+rng.IntN(300), 100+rng.IntN(200))
		s := newScene(rng, 12)
		r := New(Options{Workers: 2, MaskBudget: 64 << 10}) // with eviction
		dst := image.NewRGBA(image.Rectangle{Max: size})
		before := image.NewRGBA(dst.Rect)
		var list op.Ops
		for frame := range frames {
			if rng.IntN(40) == 0 {
				s = newScene(rng, 12)
			}
			s.mutate(rng)
			s.build(&list, size)
			copy(before.Pix, dst.Pix)
			damage := r.Frame(dst, &list)
			full := image.NewRGBA(dst.Rect)
			silent(1).Frame(full, &list)
			if err := sameBytes(dst, full); err != nil {
				t.Fatalf("seed %d frame %d: %v", seed, frame, err)
			}
			if p, ok := outside(before, dst, damage); ok {
				t.Fatalf("seed %d frame %d: %v changed outside of %v", seed, frame, p, damage)
			}
		}
	}
}

// outside looks for a changed pixel that no damage rectangle contains.
func outside(before, after *image.RGBA, damage []image.Rectangle) (image.Point, bool) {
	for y := after.Rect.Min.Y; y < after.Rect.Max.Y; y++ {
	next:
		for x := after.Rect.Min.X; x < after.Rect.Max.X; x++ {
			if before.RGBAAt(x, y) == after.RGBAAt(x, y) {
				continue
			}
			for _, d := range damage {
				if (image.Point{X: x, Y: y}).In(d) {
					continue next
				}
			}
			return image.Pt(x, y), true
		}
	}
	return image.Point{}, false
}

// TestPagesIncremental does the same with pages: text, scrolling, colours.
func TestPagesIncremental(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 3))
	size := image.Pt(900, 600)
	set := pages.New()
	r := New(Options{Workers: 2})
	dst := image.NewRGBA(image.Rectangle{Max: size})
	var list op.Ops
	page, st := "dense", pages.State{}
	painted, all := 0, 0
	for frame := range 60 {
		switch rng.IntN(8) {
		case 0:
			page = pages.Names()[rng.IntN(3)]
		case 1, 2:
			st.Line = fmt.Sprintf("Zeile %d ist größer", rng.IntN(1000))
		case 3, 4:
			st.Red = rng.IntN(13)
		default:
			st.Scroll = rng.IntN(300)
		}
		set.Build(page, &list, size, st)
		r.Frame(dst, &list)
		full := image.NewRGBA(dst.Rect)
		silent(1).Frame(full, &list)
		if err := sameBytes(dst, full); err != nil {
			t.Fatalf("frame %d: %v", frame, err)
		}
		if frame > 0 {
			painted += r.Stats().DamagePixels
			all += size.X * size.Y
		}
	}
	if painted > all/2 {
		t.Errorf("damage is %d %% of the pixels", 100*painted/all)
	}
}

func TestWorkersDoNotMatter(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(11, 2))
	for i := range 30 {
		size := image.Pt(700, 500)
		s := newScene(rng, 14)
		var list op.Ops
		s.build(&list, size)
		want := image.NewRGBA(image.Rectangle{Max: size})
		silent(1).Frame(want, &list)
		for _, workers := range []int{2, 3, 8} {
			got := image.NewRGBA(image.Rectangle{Max: size})
			silent(workers).Frame(got, &list)
			if err := sameBytes(got, want); err != nil {
				t.Fatalf("scene %d, %d workers: %v", i, workers, err)
			}
		}
	}
}

// TestSteadyFrames: what was drawn before is drawn again without allocation,
// and not at all when nothing changed.
func TestSteadyFrames(t *testing.T) {
	set := pages.New()
	for _, page := range pages.Names() {
		size := image.Pt(1280, 800)
		var list op.Ops
		set.Build(page, &list, size, pages.State{})
		r := New(Options{Workers: 2, Report: func(err error) { t.Error(err) }})
		dst := image.NewRGBA(image.Rectangle{Max: size})
		for range 20 {
			r.Invalidate()
			r.Frame(dst, &list)
		}
		if n := testing.AllocsPerRun(50, func() { r.Invalidate(); r.Frame(dst, &list) }); n != 0 {
			t.Errorf("%s: %v allocations in a full frame", page, n)
		}
		if n := testing.AllocsPerRun(50, func() { r.Frame(dst, &list) }); n != 0 {
			t.Errorf("%s: %v allocations in a still frame", page, n)
		}
		if d := r.Frame(dst, &list); len(d) != 0 || r.Stats().DamagePixels != 0 {
			t.Errorf("%s: still frame has damage %v", page, d)
		}
		// The same page laid out again is the same picture.
		set.Build(page, &list, size, pages.State{})
		if d := r.Frame(dst, &list); len(d) != 0 {
			t.Errorf("%s: rebuilt page has damage %v", page, d)
		}
	}
}

// TestOrder: BGRX is RGBA with two bytes exchanged.
func TestOrder(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 5))
	for range 20 {
		size := image.Pt(300, 200)
		var list op.Ops
		newScene(rng, 12).build(&list, size)
		a, b := image.NewRGBA(image.Rectangle{Max: size}), image.NewRGBA(image.Rectangle{Max: size})
		silent(1).Frame(a, &list)
		New(Options{Order: BGRX}).Frame(b, &list)
		for i := 0; i < len(b.Pix); i += 4 {
			b.Pix[i], b.Pix[i+2] = b.Pix[i+2], b.Pix[i]
		}
		if err := sameBytes(a, b); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTarget: another picture, a part of a picture, and a change of size.
func TestTarget(t *testing.T) {
	t.Parallel()
	var list op.Ops
	size := image.Pt(200, 150)
	newScene(rand.New(rand.NewPCG(9, 9)), 10).build(&list, size)
	want := render(t, size, &list)
	r := silent(2)
	big := image.NewRGBA(image.Rect(0, 0, 400, 300))
	for i := range big.Pix {
		big.Pix[i] = 77
	}
	part := big.SubImage(image.Rect(50, 60, 250, 210)).(*image.RGBA)
	damage := r.Frame(part, &list)
	for y := range 300 {
		for x := range 400 {
			p := image.Pt(x, y)
			got := big.RGBAAt(x, y)
			if p.In(part.Rect) {
				if want := want.RGBAAt(x-50, y-60); got != want {
					t.Fatalf("at %v: %v, want %v", p, got, want)
				}
			} else if got.R != 77 || got.A != 77 {
				t.Fatalf("painted outside of the part at %v", p)
			}
		}
	}
	var union image.Rectangle
	for _, d := range damage {
		union = union.Union(d)
	}
	if union != part.Rect {
		t.Errorf("damage %v, want all of %v", damage, part.Rect)
	}
	other := image.NewRGBA(image.Rectangle{Max: size})
	r.Frame(other, &list)
	if err := sameBytes(other, want); err != nil {
		t.Errorf("new target: %v", err)
	}
	small := image.NewRGBA(image.Rect(0, 0, 90, 70))
	r.Frame(small, &list)
	if c, w := small.RGBAAt(89, 69), want.RGBAAt(89, 69); c != w {
		t.Errorf("smaller target: %v, want %v", c, w)
	}
	for _, bad := range []*image.RGBA{nil, {}, {Rect: image.Rect(0, 0, 10, 10), Stride: 40, Pix: make([]byte, 100)}, {Rect: image.Rect(0, 0, 1<<20, 1), Stride: 4 << 20, Pix: make([]byte, 4<<20)}} {
		r, errs := problems(Options{})
		if d := r.Frame(bad, &list); len(d) != 0 || reported(*errs, ErrTarget) != 1 {
			t.Errorf("unusable target: damage %v, reported %v", d, *errs)
		}
	}
	if d := r.Frame(other, nil); len(d) == 0 || other.Pix[0] != 0 {
		t.Errorf("no list: damage %v, first byte %d; want an empty picture", d, other.Pix[0])
	}
}

// TestSmallChanges: pairs of frames that differ in one thing only, which the
// hash of a tile must see.
func TestSmallChanges(t *testing.T) {
	t.Parallel()
	blue, page := rgba(0x2040ff, 255), image.Pt(128, 64)
	img := image.NewRGBA(image.Rect(0, 0, 8, 8))
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	one, other := paint.NewImageOp(img), paint.NewImageOp(image.NewRGBA(img.Rect))
	fill := func(r image.Rectangle) func(o *op.Ops) {
		return func(o *op.Ops) { paint.FillShape(o, blue, clip.Rect(r).Op()) }
	}
	round := func(r image.Rectangle, radius int, x float32) func(o *op.Ops) {
		return func(o *op.Ops) {
			defer op.Affine(f32.AffineId().Offset(f32.Pt(x, 0))).Push(o).Pop()
			paint.FillShape(o, blue, clip.UniformRRect(r, radius).Op(o))
		}
	}
	clipped := func(outer image.Rectangle) func(o *op.Ops) {
		return func(o *op.Ops) {
			defer clip.Rect(outer).Push(o).Pop()
			round(image.Rect(4, 4, 60, 30), 8, 0)(o)
		}
	}
	picture := func(i paint.ImageOp, filter paint.ImageFilter, scale float32) func(o *op.Ops) {
		return func(o *op.Ops) {
			defer op.Affine(f32.AffineId().Scale(f32.Point{}, f32.Pt(scale, scale))).Push(o).Pop()
			i.Filter = filter
			i.Add(o)
			paint.PaintOp{}.Add(o)
		}
	}
	layer := func(opacity float32) func(o *op.Ops) {
		return func(o *op.Ops) {
			defer paint.PushOpacity(o, opacity).Pop()
			fill(image.Rect(4, 4, 20, 20))(o)
		}
	}
	gradient := func(x float32) func(o *op.Ops) {
		return func(o *op.Ops) {
			paint.LinearGradientOp{Stop1: f32.Pt(0, 0), Stop2: f32.Pt(x, 0), Color1: blue, Color2: rgba(0, 255)}.Add(o)
			paint.PaintOp{}.Add(o)
		}
	}
	tests := map[string][2]func(o *op.Ops){
		"width":         {fill(image.Rect(5, 5, 20, 20)), fill(image.Rect(5, 5, 21, 20))},
		"position":      {fill(image.Rect(5, 5, 20, 20)), fill(image.Rect(5, 6, 20, 21))},
		"radius":        {round(image.Rect(5, 5, 60, 30), 5, 0), round(image.Rect(5, 5, 60, 30), 6, 0)},
		"fraction":      {round(image.Rect(5, 5, 60, 30), 5, 0), round(image.Rect(5, 5, 60, 30), 5, 0.5)},
		"outer clip":    {clipped(image.Rect(0, 0, 40, 40)), clipped(image.Rect(0, 0, 41, 40))},
		"image":         {picture(one, paint.FilterLinear, 1), picture(other, paint.FilterLinear, 1)},
		"image scale":   {picture(one, paint.FilterLinear, 1), picture(one, paint.FilterLinear, 1.5)},
		"opacity":       {layer(0.5), layer(0.51)},
		"layer or none": {layer(1), func(o *op.Ops) {}},
		"gradient":      {gradient(100), gradient(101)},
	}
	for name, pair := range tests {
		var a, b op.Ops
		paint.Fill(&a, rgba(0xffffff, 255))
		pair[0](&a)
		paint.Fill(&b, rgba(0xffffff, 255))
		pair[1](&b)
		r := silent(1)
		dst := image.NewRGBA(image.Rectangle{Max: page})
		for i, list := range []*op.Ops{&a, &b, &a} {
			damage := r.Frame(dst, list)
			if err := sameBytes(dst, render(t, page, list)); err != nil {
				t.Errorf("%s, frame %d: %v", name, i, err)
			}
			if len(damage) == 0 {
				t.Errorf("%s, frame %d: no damage", name, i)
			}
		}
	}
}

// TestScaledImage: an image shown smaller is scaled once, wherever it moves;
// one that is mostly out of sight is not scaled as a whole.
func TestScaledImage(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(8, 8))
	img := newScene(rng, 1).image[1]
	size := image.Pt(200, 150)
	r := silent(2)
	dst := image.NewRGBA(image.Rectangle{Max: size})
	show := func(x, y int, scale float32) {
		var list op.Ops
		paint.Fill(&list, rgba(0x808080, 255))
		defer op.Offset(image.Pt(x, y)).Push(&list).Pop()
		defer op.Affine(f32.AffineId().Scale(f32.Point{}, f32.Pt(scale, scale))).Push(&list).Pop()
		img.Add(&list)
		paint.PaintOp{}.Add(&list)
		r.Frame(dst, &list)
		if err := sameBytes(dst, render(t, size, &list)); err != nil {
			t.Errorf("at %d,%d times %v: %v", x, y, scale, err)
		}
	}
	for i := range 10 {
		show(5*i, 3*i, 0.6)
	}
	if n := len(r.textures.copies); n != 1 {
		t.Errorf("%d copies of one size, want 1", n)
	}
	show(-100, -2000, 30)
	if n := len(r.textures.copies); n != 1 {
		t.Errorf("%d copies: an image mostly out of sight was scaled as a whole", n)
	}
}
