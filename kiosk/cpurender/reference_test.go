package cpurender

import (
	"encoding/binary"
	"image"
	"math"
	"slices"
	"testing"

	"gioui.org/cpurender/internal/oplist"
	"gioui.org/cpurender/internal/pages"
	"gioui.org/f32"
	"gioui.org/internal/ops"
	"gioui.org/internal/scene"
	"gioui.org/op"
)

// The reference draws colours, clips, strokes and layers the slow way, sharing
// no code with the renderer: coverage by 32 rows of samples per pixel, a stroke as the
// set of points near its line, colours in double precision. Only the rule that
// positions are rounded to phases is built in, so that it does not blur the
// comparison.
type reference struct {
	w, h   int
	states map[int]f32.Affine2D
	trans  []f32.Affine2D
	layers []*refLayer
	skips  int // paints that the reference does not know: images, gradients
}

type refLayer struct {
	pix     []float64 // premultiplied linear light, alpha; as 8-bit values mean it
	opacity float64
}

type refClip struct {
	parent *refClip
	cover  []float64
}

// samples is the number of sample rows of a pixel: eight times supersampled,
// each part by four more, as horizontal edges of letters are sensitive to it.
// Along a row areas are exact; the pen of a stroke is sampled in both
// directions.
const samples = 32

func referencePicture(size image.Point, list *op.Ops) (*image.RGBA, int) {
	r := &reference{w: size.X, h: size.Y, states: make(map[int]f32.Affine2D)}
	r.layers = []*refLayer{{pix: make([]float64, 4*size.X*size.Y), opacity: 1}}
	r.draw(list)
	out := image.NewRGBA(image.Rectangle{Max: size})
	for i, v := range r.layers[0].pix {
		if i%4 == 3 {
			out.Pix[i] = uint8(math.Round(v * 255))
		} else {
			out.Pix[i] = refEncode(v)
		}
	}
	return out, r.skips
}

func refEncode(v float64) uint8 {
	v = min(max(v, 0), 1)
	if v <= 0.0031308 {
		return uint8(math.Round(v * 12.92 * 255))
	}
	return uint8(math.Round((1.055*math.Pow(v, 1/2.4) - 0.055) * 255))
}

func refDecode(b uint8) float64 {
	c := float64(b) / 255
	if c <= 0.04045 {
		return c / 12.92
	}
	return math.Pow((c+0.055)/1.055, 2.4)
}

func (r *reference) draw(list *op.Ops) {
	var reader ops.Reader
	reader.Reset(&list.Internal)
	t, clip := f32.AffineId(), (*refClip)(nil)
	solid, color := true, [4]float64{0, 0, 0, 1}
	var path []byte
	var width float32
	for {
		e, ok := reader.Decode()
		if !ok {
			return
		}
		switch ops.OpType(e.Data[0]) {
		case ops.TypeTransform:
			m, push := ops.DecodeTransform(e.Data)
			if push {
				r.trans = append(r.trans, t)
			}
			t = t.Mul(m)
		case ops.TypePopTransform:
			t, r.trans = r.trans[len(r.trans)-1], r.trans[:len(r.trans)-1]
		case ops.TypeSave:
			r.states[ops.DecodeSave(e.Data)] = t
		case ops.TypeLoad:
			t, clip = r.states[ops.DecodeLoad(e.Data)], nil
			solid, color = true, [4]float64{0, 0, 0, 1}
		case ops.TypePushOpacity:
			r.layers = append(r.layers, &refLayer{pix: make([]float64, 4*r.w*r.h), opacity: float64(ops.DecodeOpacity(e.Data))})
		case ops.TypePopOpacity:
			l := r.layers[len(r.layers)-1]
			r.layers = r.layers[:len(r.layers)-1]
			for i := 0; i < len(l.pix); i += 4 {
				r.over(i, l.pix[i], l.pix[i+1], l.pix[i+2], l.pix[i+3], l.opacity)
			}
		case ops.TypeStroke:
			width = math.Float32frombits(binary.LittleEndian.Uint32(e.Data[1:]))
		case ops.TypePath:
			e, _ = reader.Decode()
			path = e.Data[ops.TypeAuxLen:]
		case ops.TypeClip:
			var c ops.ClipOp
			c.Decode(e.Data)
			clip = &refClip{parent: clip, cover: r.coverage(t, c, path, width)}
			path, width = nil, 0
		case ops.TypePopClip:
			clip = clip.parent
		case ops.TypeColor:
			a := float64(e.Data[4]) / 255
			solid, color = true, [4]float64{refDecode(e.Data[1]) * a, refDecode(e.Data[2]) * a, refDecode(e.Data[3]) * a, a}
		case ops.TypeLinearGradient, ops.TypeImage:
			solid = false
		case ops.TypePaint:
			if !solid {
				r.skips++
				continue
			}
			for i := range r.w * r.h {
				c := 1.0
				for k := clip; k != nil && c > 0; k = k.parent {
					c *= k.cover[i]
				}
				if c > 0 {
					r.over(4*i, color[0], color[1], color[2], color[3], c)
				}
			}
		}
	}
}

// over blends over a pixel of the top layer and rounds to what 8 bits hold.
func (r *reference) over(i int, c0, c1, c2, a, m float64) {
	if m == 0 || c0 == 0 && c1 == 0 && c2 == 0 && a == 0 {
		return
	}
	p := r.layers[len(r.layers)-1].pix[i : i+4]
	k := 1 - a*m
	for j, s := range [3]float64{c0, c1, c2} {
		p[j] = refDecode(refEncode(s*m + p[j]*k))
	}
	p[3] = math.Round((a*m+p[3]*k)*255) / 255
}

type refPoint struct{ x, y float64 }

// coverage returns the coverage of a clip in each pixel.
func (r *reference) coverage(t f32.Affine2D, c ops.ClipOp, path []byte, width float32) []float64 {
	sx, hx, ox, hy, sy, oy := t.Elems()
	if sx == 1 && sy == 1 && hx == 0 && hy == 0 {
		ox = float32(math.Floor(float64(ox)*phases+0.5) / phases)
		oy = float32(math.Floor(float64(oy)*phases+0.5) / phases)
	}
	to := func(p refPoint) refPoint {
		return refPoint{float64(sx)*p.x + float64(hx)*p.y + float64(ox), float64(hy)*p.x + float64(sy)*p.y + float64(oy)}
	}
	if len(path) == 0 {
		x0, y0, x1, y1 := float64(c.Bounds.Min.X), float64(c.Bounds.Min.Y), float64(c.Bounds.Max.X), float64(c.Bounds.Max.Y)
		q := []refPoint{{x0, y0}, {x1, y0}, {x1, y1}, {x0, y1}, {x0, y0}}
		for i := range q {
			q[i] = to(q[i])
		}
		return r.fill([][]refPoint{q})
	}
	lines := refLines(path)
	if width == 0 {
		for _, l := range lines {
			for i := range l {
				l[i] = to(l[i])
			}
		}
		return r.fill(lines)
	}
	return r.pen(lines, float64(width)/2, to, [6]float64{float64(sx), float64(hx), float64(ox), float64(hy), float64(sy), float64(oy)})
}

// refLines flattens a path finely; gaps are left out, and each run of connected
// pieces is a line of its own.
func refLines(path []byte) [][]refPoint {
	var lines [][]refPoint
	contour := uint32(math.MaxUint32)
	for ; len(path) >= scene.CommandSize+4; path = path[scene.CommandSize+4:] {
		n := binary.LittleEndian.Uint32(path)
		cmd := ops.DecodeCommand(path[4:])
		var p []refPoint
		add := func(q ...f32.Point) {
			for _, v := range q {
				p = append(p, refPoint{float64(v.X), float64(v.Y)})
			}
		}
		switch cmd.Op() {
		case scene.OpLine:
			a, b := scene.DecodeLine(cmd)
			add(a, b)
		case scene.OpQuad:
			a, b, c := scene.DecodeQuad(cmd)
			add(a, b, c)
		case scene.OpCubic:
			a, b, c, d := scene.DecodeCubic(cmd)
			add(a, b, c, d)
		default:
			continue
		}
		if n != contour {
			contour = n
			lines = append(lines, []refPoint{p[0]})
		}
		l := &lines[len(lines)-1]
		steps := 1
		if len(p) > 2 {
			steps = 64
		}
		for i := 1; i <= steps; i++ {
			*l = append(*l, bernstein(p, float64(i)/float64(steps)))
		}
	}
	return lines
}

// bernstein evaluates a Bézier curve by its polynomial.
func bernstein(p []refPoint, t float64) refPoint {
	var q refPoint
	n := len(p) - 1
	choose := 1.0
	for i, v := range p {
		b := choose * math.Pow(t, float64(i)) * math.Pow(1-t, float64(n-i))
		q.x, q.y = q.x+b*v.x, q.y+b*v.y
		choose = choose * float64(n-i) / float64(i+1)
	}
	return q
}

// fill samples the inside of closed contours by their winding number.
func (r *reference) fill(contours [][]refPoint) []float64 {
	cover := make([]float64, r.w*r.h)
	type crossing struct {
		x   float64
		dir int
	}
	rows := make([][]crossing, r.h*samples)
	for _, c := range contours {
		for i := range c {
			a, b := c[i], c[(i+1)%len(c)]
			dir := 1
			if a.y > b.y {
				a, b, dir = b, a, -1
			}
			first := max(0, int(math.Ceil(a.y*samples-0.5)))
			for s := first; s < len(rows); s++ {
				y := (float64(s) + 0.5) / samples
				if y >= b.y {
					break
				}
				rows[s] = append(rows[s], crossing{a.x + (b.x-a.x)*(y-a.y)/(b.y-a.y), dir})
			}
		}
	}
	for s, row := range rows {
		slices.SortFunc(row, func(a, b crossing) int {
			switch {
			case a.x < b.x:
				return -1
			case a.x > b.x:
				return 1
			}
			return 0
		})
		wind := 0
		for i, c := range row {
			if wind != 0 {
				x0, x1 := max(row[i-1].x, 0), min(c.x, float64(r.w))
				for x := int(x0); float64(x) < x1; x++ {
					cover[s/samples*r.w+x] += (min(x1, float64(x+1)) - max(x0, float64(x))) / samples
				}
			}
			wind += c.dir
		}
	}
	return cover
}

// pen samples the points within hw of a line, measured before the transform.
func (r *reference) pen(lines [][]refPoint, hw float64, to func(refPoint) refPoint, m [6]float64) []float64 {
	det := m[0]*m[4] - m[1]*m[3]
	back := func(p refPoint) refPoint {
		x, y := p.x-m[2], p.y-m[5]
		return refPoint{(m[4]*x - m[1]*y) / det, (m[0]*y - m[3]*x) / det}
	}
	type piece struct {
		a, b           refPoint
		x0, y0, x1, y1 float64
	}
	var pieces []piece
	for _, l := range lines {
		for i := range len(l) - 1 {
			q := piece{l[i], l[i+1], math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)}
			for _, p := range [...]refPoint{q.a, q.b} {
				for _, d := range [...]refPoint{{-hw, -hw}, {hw, -hw}, {hw, hw}, {-hw, hw}} {
					c := to(refPoint{p.x + d.x, p.y + d.y})
					q.x0, q.x1, q.y0, q.y1 = min(q.x0, c.x), max(q.x1, c.x), min(q.y0, c.y), max(q.y1, c.y)
				}
			}
			pieces = append(pieces, q)
		}
	}
	cover := make([]float64, r.w*r.h)
	in := make([]bool, r.w*samples)
	for row := range r.h * samples {
		y := (float64(row) + 0.5) / samples
		clear(in)
		any := false
		for _, q := range pieces {
			if y < q.y0 || y > q.y1 {
				continue
			}
			any = true
			dx, dy := q.b.x-q.a.x, q.b.y-q.a.y
			ll := dx*dx + dy*dy
			for s := max(0, int(q.x0*samples)); s < min(len(in), int(q.x1*samples)+1); s++ {
				if in[s] {
					continue
				}
				p := back(refPoint{(float64(s) + 0.5) / samples, y})
				u := 0.0
				if ll > 0 {
					u = min(max(((p.x-q.a.x)*dx+(p.y-q.a.y)*dy)/ll, 0), 1)
				}
				ex, ey := p.x-q.a.x-u*dx, p.y-q.a.y-u*dy
				in[s] = ex*ex+ey*ey <= hw*hw
			}
		}
		if any {
			for s, v := range in {
				if v {
					cover[row/samples*r.w+s/samples] += 1.0 / (samples * samples)
				}
			}
		}
	}
	return cover
}

// TestReference compares pages with the supersampled reference. Gradients and
// images are left out of both pictures.
func TestReference(t *testing.T) {
	t.Parallel()
	tests := []struct {
		page  string
		mae   float64
		over  int // pixels that may be off by more than 16
		total image.Point
	}{
		{"kiosk", 0.03, 0, image.Pt(800, 600)},
		{"dense", 0.12, 0, image.Pt(900, 600)},
		{"odd", 0.02, 20, image.Pt(900, 780)}, // the sharp corner of a stroke, where it overlaps itself
	}
	for _, test := range tests {
		var list op.Ops
		pages.New().Build(test.page, &list, test.total, pages.State{})
		plain := withoutPictures(t, &list)
		want, skipped := referencePicture(test.total, plain)
		if skipped != 0 {
			t.Fatalf("%s: %d paints left out", test.page, skipped)
		}
		d := compareImages(render(t, test.total, plain), want)
		t.Logf("%s: %v", test.page, d)
		if d.mae > test.mae || d.over[16] > test.over {
			t.Errorf("%s: %v; limits mae %v, %d pixels over 16", test.page, d, test.mae, test.over)
		}
	}
}

// withoutPictures replaces gradients and images by a colour.
func withoutPictures(t testing.TB, list *op.Ops) *op.Ops {
	t.Helper()
	data, err := oplist.Record(list)
	if err != nil {
		t.Fatal(err)
	}
	out := new(op.Ops)
	if err := oplist.ReplayFunc(data, out, func(kind ops.OpType, data []byte) []byte {
		if kind == ops.TypeLinearGradient || kind == ops.TypeImage {
			return []byte{byte(ops.TypeColor), 0x40, 0x80, 0xa0, 0}
		}
		return data
	}); err != nil {
		t.Fatal(err)
	}
	return out
}
