package cpurender

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"gioui.org/cpurender/internal/oplist"
	"gioui.org/f32"
	"gioui.org/internal/ops"
	"gioui.org/op"
	"gioui.org/op/clip"
	"gioui.org/op/paint"
)

// problems collects what a renderer reports.
func problems(opt Options) (*Renderer, *[]error) {
	var list []error
	opt.Report = func(err error) { list = append(list, err) }
	return New(opt), &list
}

func reported(list []error, kind error) int {
	n := 0
	for _, err := range list {
		if errors.Is(err, kind) {
			n++
		}
	}
	return n
}

// heap returns the live heap in bytes.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestTenThousandClips(t *testing.T) {
	size := image.Pt(320, 240)
	dst := image.NewRGBA(image.Rectangle{Max: size})
	r, errs := problems(Options{})
	var list op.Ops
	// All with paths, each a little smaller in one corner.
	for i := range 10_000 {
		clip.UniformRRect(image.Rect(0, 0, 320, 240-i%100), 4+i%50).Push(&list)
	}
	paint.Fill(&list, rgba(0x123456, 255))
	before := heap()
	r.Frame(dst, &list)
	if used := int64(heap()) - int64(before); used > 32<<20 {
		t.Errorf("ten thousand clips keep %d bytes", used)
	}
	if got := dst.RGBAAt(160, 70); got != (color.RGBA{0x12, 0x34, 0x56, 255}) {
		t.Errorf("inside: %v", got)
	}
	if got := dst.RGBAAt(160, 200); got != (color.RGBA{}) {
		t.Errorf("outside: %v", got)
	}
	if len(*errs) != 0 {
		t.Errorf("reported %v", *errs)
	}
	// And the next, ordinary frame.
	list.Reset()
	paint.Fill(&list, rgba(0xffffff, 255))
	r.Frame(dst, &list)
	if got := dst.RGBAAt(1, 1); got != (color.RGBA{255, 255, 255, 255}) {
		t.Errorf("afterwards: %v", got)
	}
}

func TestTenThousandLayers(t *testing.T) {
	size := image.Pt(64, 64)
	dst := image.NewRGBA(image.Rectangle{Max: size})
	r, errs := problems(Options{})
	var list op.Ops
	for range 10_000 {
		paint.PushOpacity(&list, 1)
	}
	paint.Fill(&list, rgba(0x204060, 255)) // never popped
	before := heap()
	r.Frame(dst, &list)
	if used := int64(heap()) - int64(before); used > 16<<20 {
		t.Errorf("ten thousand layers keep %d bytes", used)
	}
	if got := dst.RGBAAt(10, 10); got != (color.RGBA{0x20, 0x40, 0x60, 255}) {
		t.Errorf("got %v", got)
	}
	if reported(*errs, ErrLimit) != 1 {
		t.Errorf("reported %v, want one ErrLimit", *errs)
	}
}

func TestBadNumbers(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	size := image.Pt(100, 80)
	path := func(o *op.Ops, p ...f32.Point) clip.PathSpec {
		var b clip.Path
		b.Begin(o)
		b.MoveTo(p[0])
		for _, q := range p[1:] {
			b.LineTo(q)
		}
		b.Close()
		return b.End()
	}
	tests := map[string]func(o *op.Ops){
		"nan in path": func(o *op.Ops) {
			paint.FillShape(o, rgba(0xff0000, 255), clip.Outline{Path: path(o, f32.Pt(0, 0), f32.Pt(nan, 5), f32.Pt(9, 9))}.Op())
		},
		"infinite path": func(o *op.Ops) {
			paint.FillShape(o, rgba(0xff0000, 255), clip.Outline{Path: path(o, f32.Pt(0, 0), f32.Pt(inf, 5), f32.Pt(9, 9))}.Op())
		},
		"infinite stroke": func(o *op.Ops) {
			paint.FillShape(o, rgba(0xff0000, 255), clip.Stroke{Width: inf, Path: path(o, f32.Pt(0, 0), f32.Pt(5, 5), f32.Pt(9, 1))}.Op())
		},
		"nan transform": func(o *op.Ops) {
			op.Affine(f32.NewAffine2D(nan, 0, 0, 0, 1, 0)).Add(o)
			paint.Fill(o, rgba(0xff0000, 255))
		},
		"huge transform": func(o *op.Ops) {
			op.Affine(f32.NewAffine2D(1, 0, 1e38, 0, 1, 0)).Add(o)
			paint.FillShape(o, rgba(0xff0000, 255), clip.Rect{Max: size}.Op())
		},
		"overflowing offset": func(o *op.Ops) {
			for range 20 {
				op.Affine(f32.AffineId().Scale(f32.Point{}, f32.Pt(1e6, 1e6))).Add(o)
			}
			paint.FillShape(o, rgba(0xff0000, 255), clip.Rect{Min: image.Pt(1, 1), Max: size}.Op())
		},
	}
	for name, build := range tests {
		t.Run(name, func(t *testing.T) {
			var list op.Ops
			paint.Fill(&list, rgba(0xffffff, 255))
			build(&list)
			r, errs := problems(Options{})
			dst := image.NewRGBA(image.Rectangle{Max: size})
			for range 3 {
				r.Invalidate()
				r.Frame(dst, &list)
			}
			if reported(*errs, ErrBadNumber) != 1 || len(*errs) != 1 {
				t.Errorf("reported %v, want ErrBadNumber once", *errs)
			}
			for i, b := range dst.Pix {
				if b != 255 {
					t.Fatalf("byte %d is %d: the shape should have vanished", i, b)
				}
			}
		})
	}
}

// TestGigantic: shapes far larger than the screen are cut to it, keep little
// memory, and cover what they should.
func TestGigantic(t *testing.T) {
	size := image.Pt(200, 150)
	dst := image.NewRGBA(image.Rectangle{Max: size})
	r, errs := problems(Options{})
	var list op.Ops
	const far = 8_000_000
	for i := range 40 {
		paint.FillShape(&list, rgba(0x0000ff, 255), clip.Ellipse{Min: image.Pt(-far, -far-i), Max: image.Pt(far, far)}.Op(&list))
		paint.FillShape(&list, rgba(0x008000, 255), clip.Stroke{Width: 1e6 + float32(i), Path: clip.Ellipse{Min: image.Pt(-far, -far), Max: image.Pt(100, far)}.Path(&list)}.Op())
	}
	r.Frame(dst, &list)
	if got := dst.RGBAAt(150, 75); got != (color.RGBA{0, 0x80, 0, 255}) {
		t.Errorf("got %v", got)
	}
	if len(*errs) != 0 {
		t.Errorf("reported %v", *errs)
	}
	if s := r.Stats(); s.MaskBytes > 1<<20 {
		t.Errorf("masks keep %d bytes", s.MaskBytes)
	}
}

func TestBadImages(t *testing.T) {
	good := image.NewRGBA(image.Rect(0, 0, 4, 4))
	add := func(o *op.Ops, src, handle any) {
		d := ops.Write2(&o.Internal, ops.TypeImageLen, src, handle)
		d[0] = byte(ops.TypeImage)
	}
	tests := map[string]func(o *op.Ops){
		"no handle": func(o *op.Ops) { add(o, good, nil) },
		"no pixels": func(o *op.Ops) { add(o, nil, new(int)) },
		"nil image": func(o *op.Ops) { add(o, (*image.RGBA)(nil), new(int)) },
		"not RGBA":  func(o *op.Ops) { add(o, image.NewGray(good.Rect), new(int)) },
		"zero size": func(o *op.Ops) { add(o, &image.RGBA{}, new(int)) },
		"negative":  func(o *op.Ops) { add(o, &image.RGBA{Rect: image.Rectangle{Min: image.Pt(5, 5)}}, new(int)) },
		"absurd size": func(o *op.Ops) {
			add(o, &image.RGBA{Rect: image.Rect(0, 0, math.MaxInt32, math.MaxInt32), Stride: 4}, new(int))
		},
		"missing pixels": func(o *op.Ops) {
			add(o, &image.RGBA{Rect: image.Rect(0, 0, 10, 10), Stride: 40, Pix: make([]byte, 399)}, new(int))
		},
		"short stride": func(o *op.Ops) {
			add(o, &image.RGBA{Rect: image.Rect(0, 0, 10, 10), Stride: 39, Pix: make([]byte, 400)}, new(int))
		},
	}
	for name, build := range tests {
		t.Run(name, func(t *testing.T) {
			var list op.Ops
			paint.Fill(&list, rgba(0xffffff, 255))
			build(&list)
			paint.PaintOp{}.Add(&list)
			r, errs := problems(Options{})
			dst := image.NewRGBA(image.Rect(0, 0, 20, 20))
			r.Frame(dst, &list)
			if reported(*errs, ErrBadImage) != 1 || len(*errs) != 1 {
				t.Errorf("reported %v, want ErrBadImage once", *errs)
			}
			if dst.Pix[0] != 255 {
				t.Errorf("the bad image was drawn")
			}
		})
	}
}

// TestUnbalanced: pops without pushes and operations nobody knows.
func TestUnbalanced(t *testing.T) {
	raw := func(o *op.Ops, n int, kind ops.OpType) { ops.Write(&o.Internal, n)[0] = byte(kind) }
	tests := map[string]struct {
		build func(o *op.Ops)
		want  error
	}{
		"clip":      {func(o *op.Ops) { raw(o, ops.TypePopClipLen, ops.TypePopClip) }, ErrUnbalanced},
		"transform": {func(o *op.Ops) { raw(o, ops.TypePopTransformLen, ops.TypePopTransform) }, ErrUnbalanced},
		"opacity":   {func(o *op.Ops) { raw(o, ops.TypePopOpacityLen, ops.TypePopOpacity) }, ErrUnbalanced},
		"path":      {func(o *op.Ops) { raw(o, ops.TypePathLen, ops.TypePath) }, ErrUnbalanced},
		"unknown":   {func(o *op.Ops) { raw(o, 1, 199) }, ErrUnknownOp},
		"later":     {func(o *op.Ops) { raw(o, 1, ops.TypeActionInput+1) }, ErrUnknownOp},
		"aux":       {func(o *op.Ops) { raw(o, 1, ops.TypeAux) }, ErrPanic}, // Gio's reader panics
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var list op.Ops
			paint.Fill(&list, rgba(0xffffff, 255))
			test.build(&list)
			r, errs := problems(Options{})
			dst := image.NewRGBA(image.Rect(0, 0, 20, 20))
			for range 3 {
				r.Frame(dst, &list)
			}
			if reported(*errs, test.want) != 1 || len(*errs) != 1 {
				t.Errorf("reported %v, want %v once", *errs, test.want)
			}
			if test.want != ErrPanic && dst.Pix[0] != 255 {
				t.Errorf("what came before was not drawn")
			}
		})
	}
}

// TestRecovery: a panic in the midst of drawing is recovered by a full redraw.
func TestRecovery(t *testing.T) {
	size := image.Pt(400, 300)
	var list op.Ops
	newScene(rand.New(rand.NewPCG(1, 1)), 12).build(&list, size)
	want := image.NewRGBA(image.Rectangle{Max: size})
	silent(1).Frame(want, &list)

	r, errs := problems(Options{Workers: 2})
	dst := image.NewRGBA(image.Rectangle{Max: size})
	r.Frame(dst, &list)
	for _, m := range r.masks.masks {
		m.rows = nil // as if memory had gone bad
		m.bounds = image.Rect(0, 0, 1000, 1000)
		m.solid = image.Rectangle{}
	}
	r.Invalidate()
	damage := r.Frame(dst, &list)
	if err := sameBytes(dst, want); err != nil {
		t.Error(err)
	}
	if reported(*errs, ErrPanic) != 1 || r.Stats().Recovered != 1 {
		t.Errorf("reported %v, %d recovered; want one panic", *errs, r.Stats().Recovered)
	}
	area := 0
	for _, d := range damage {
		area += d.Dx() * d.Dy()
	}
	if area != size.X*size.Y {
		t.Errorf("damage covers %d pixels, want all", area)
	}
	if d := r.Frame(dst, &list); len(d) != 0 {
		t.Errorf("next frame: damage %v, want none", d)
	}
}

// TestLimits: what one frame may use is bounded; the limit is reported once and
// the rest of the list is left out, the same way every time.
func TestLimits(t *testing.T) {
	size := image.Pt(600, 400)
	var list op.Ops
	paint.Fill(&list, rgba(0xffffff, 255))
	rng := rand.New(rand.NewPCG(2, 2))
	for range 400 { // shapes with long borders
		var p clip.Path
		p.Begin(&list)
		p.MoveTo(f32.Pt(0, 0))
		for range 60 {
			p.LineTo(f32.Pt(float32(rng.IntN(600)), float32(rng.IntN(400))))
		}
		p.Close()
		paint.FillShape(&list, rgba(rng.Uint32(), 255), clip.Outline{Path: p.End()}.Op())
	}
	var first *image.RGBA
	for _, workers := range []int{1, 3} {
		r, errs := problems(Options{Workers: workers, MaxFrameMasks: 1 << 20, MaskBudget: 1 << 20})
		dst := image.NewRGBA(image.Rectangle{Max: size})
		r.Frame(dst, &list)
		if reported(*errs, ErrLimit) != 1 {
			t.Fatalf("reported %v, want ErrLimit once", *errs)
		}
		if s := r.Stats(); s.MaskBytes > 30<<20 {
			t.Errorf("masks keep %d bytes", s.MaskBytes)
		}
		if first == nil {
			first = dst
		} else if err := sameBytes(dst, first); err != nil {
			t.Errorf("%d workers: %v", workers, err)
		}
	}
	r, errs := problems(Options{MaxOps: 100})
	r.Frame(image.NewRGBA(image.Rectangle{Max: size}), &list)
	if reported(*errs, ErrLimit) != 1 {
		t.Errorf("reported %v, want ErrLimit once", *errs)
	}
}

// TestManyShapes: a frame of very many shapes is cut off, and what it needed is
// given back.
func TestManyShapes(t *testing.T) {
	size := image.Pt(100, 100)
	var list op.Ops
	paint.Fill(&list, rgba(0xffffff, 255))
	for i := range 20_000 {
		paint.FillShape(&list, rgba(uint32(i), 255), clip.Ellipse{Min: image.Pt(i%90, i%80), Max: image.Pt(i%90+10, i%80+1+i/90)}.Op(&list))
	}
	r, errs := problems(Options{MaxFrameMasks: 4 << 20, MaskBudget: 1 << 20})
	dst := image.NewRGBA(image.Rectangle{Max: size})
	before := heap()
	r.Frame(dst, &list)
	if reported(*errs, ErrLimit) != 1 {
		t.Errorf("reported %v, want ErrLimit once", *errs)
	}
	list = op.Ops{}
	paint.Fill(&list, rgba(0x445566, 255))
	r.Frame(dst, &list)
	if used := int64(heap()) - int64(before); used > 6<<20 {
		t.Errorf("%d bytes are kept", used)
	}
	if cap(r.walk.clips) > 1<<12 || cap(r.walk.cmds) > 1<<12 {
		t.Errorf("room for %d clips and %d commands is kept", cap(r.walk.clips), cap(r.walk.cmds))
	}
	if dst.Pix[0] != 0x44 {
		t.Error("the next frame was not drawn")
	}
}

// TestBudget: masks and images that are no longer used go away.
func TestBudget(t *testing.T) {
	size := image.Pt(300, 200)
	r := New(Options{MaskBudget: 100 << 10, ImageBudget: 64 << 10})
	dst := image.NewRGBA(image.Rectangle{Max: size})
	var list op.Ops
	for i := range 500 {
		list.Reset()
		paint.FillShape(&list, rgba(0x405060, 255), clip.Ellipse{Min: image.Pt(i%7, i%5), Max: image.Pt(100+i, 150)}.Op(&list))
		img := paint.NewImageOp(image.NewRGBA(image.Rect(0, 0, 100+i%3, 100)))
		func() {
			defer op.Affine(f32.AffineId().Scale(f32.Point{}, f32.Pt(0.3, 0.3))).Push(&list).Pop()
			img.Add(&list)
			paint.PaintOp{}.Add(&list)
		}()
		r.Frame(dst, &list)
		s := r.Stats()
		if s.MaskBytes > 200<<10 || s.ImageBytes > 128<<10 || s.Images > textureAge+2 {
			t.Fatalf("frame %d: %+v", i, s)
		}
	}
	sum := 0
	for _, m := range r.masks.masks {
		sum += m.size
	}
	if sum != r.masks.bytes {
		t.Errorf("masks use %d bytes, accounted %d", sum, r.masks.bytes)
	}
	sum = 0
	for _, tx := range r.textures.textures {
		sum += tx.bytes
	}
	for _, tx := range r.textures.copies {
		sum += tx.bytes
	}
	if sum != r.textures.bytes {
		t.Errorf("images use %d bytes, accounted %d", sum, r.textures.bytes)
	}
	r.Flush()
	if s := r.Stats(); s.Masks != 0 || s.Images != 0 {
		t.Errorf("after Flush: %+v", s)
	}
}

// TestSlowMotion: text that moves by parts of a pixel finds its masks again.
func TestSlowMotion(t *testing.T) {
	r := silent(1)
	dst := image.NewRGBA(image.Rect(0, 0, 200, 100))
	var list op.Ops
	built := 0
	for i := range 1000 {
		list.Reset()
		func() {
			defer op.Affine(f32.AffineId().Offset(f32.Pt(float32(i)/97, 3))).Push(&list).Pop()
			paint.FillShape(&list, rgba(0, 255), clip.UniformRRect(image.Rect(10, 10, 80, 60), 9).Op(&list))
		}()
		r.Frame(dst, &list)
		built += r.Stats().MasksBuilt
	}
	if built != phases {
		t.Errorf("%d masks built, want %d", built, phases)
	}
}

// FuzzScene draws random lists with absurd numbers: no panic, the same bytes
// for any number of workers, and incrementally as in full.
func FuzzScene(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint8(seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, items uint8) {
		rng := rand.New(rand.NewPCG(seed, 0))
		size := image.Pt(1+rng.IntN(200), 1+rng.IntN(150))
		s := newScene(rng, 1+int(items%32))
		s.wild = rng.IntN(2) == 0
		check := func(err error) {
			if errors.Is(err, ErrPanic) || errors.Is(err, ErrUnbalanced) || errors.Is(err, ErrUnknownOp) {
				t.Error(err)
			}
		}
		r := New(Options{Workers: 2, Report: check})
		dst := image.NewRGBA(image.Rectangle{Max: size})
		var list op.Ops
		for range 2 {
			s.build(&list, size)
			r.Frame(dst, &list)
			s.mutate(rng)
		}
		s.build(&list, size)
		r.Frame(dst, &list)
		full := image.NewRGBA(dst.Rect)
		New(Options{Workers: 1, Report: check}).Frame(full, &list)
		if err := sameBytes(dst, full); err != nil {
			t.Error(err)
		}
	})
}

// FuzzRawOps draws lists whose bytes were changed: whatever they say, the
// renderer survives, and an ordinary frame afterwards is right.
func FuzzRawOps(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, []byte{0, 3, 0x7f, 9, 0xff, 0xff})
	}
	var plain op.Ops
	newScene(rand.New(rand.NewPCG(4, 4)), 6).build(&plain, image.Pt(80, 60))
	want := image.NewRGBA(image.Rect(0, 0, 80, 60))
	silent(1).Frame(want, &plain)
	f.Fuzz(func(t *testing.T, seed uint64, changes []byte) {
		list, ok := damaged(seed, changes)
		if !ok {
			return
		}
		r := New(Options{Workers: 2, MaxFrameMasks: 4 << 20, Report: func(err error) {
			if errors.Is(err, ErrPanic) {
				t.Error(err)
			}
		}})
		dst := image.NewRGBA(want.Rect)
		r.Frame(dst, list)
		r.Frame(dst, &plain)
		if !bytes.Equal(dst.Pix, want.Pix) {
			t.Error("ordinary frame differs afterwards")
		}
	})
}

// damaged returns a random list in which bytes were changed.
func damaged(seed uint64, changes []byte) (*op.Ops, bool) {
	rng := rand.New(rand.NewPCG(seed, 0))
	var list op.Ops
	newScene(rng, 6).build(&list, image.Pt(80, 60))
	data, err := oplist.Record(&list)
	if err != nil {
		return nil, false
	}
	for range 1 + rng.IntN(20) {
		data[len(data)-1-rng.IntN(len(data)*3/4)] = byte(rng.IntN(256))
	}
	for ; len(changes) >= 3; changes = changes[3:] {
		data[len(data)-1-(int(changes[0])+int(changes[1])<<8)%len(data)] = changes[2]
	}
	out := new(op.Ops)
	return out, oplist.Replay(data, out) == nil
}
