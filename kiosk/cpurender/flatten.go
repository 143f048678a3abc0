package cpurender

import (
	"encoding/binary"
	"image"
	"math"

	"gioui.org/internal/ops"
	"gioui.org/internal/scene"
)

// tolerance is how far a chain of lines may be from its curve, in pixels.
const tolerance = 0.01

// vec is a point in the double precision in which curves are computed.
type vec struct{ x, y float64 }

func (a vec) add(b vec) vec       { return vec{a.x + b.x, a.y + b.y} }
func (a vec) sub(b vec) vec       { return vec{a.x - b.x, a.y - b.y} }
func (a vec) scale(f float64) vec { return vec{float64(a.x * f), float64(a.y * f)} }
func (a vec) dot(b vec) float64   { return float64(a.x*b.x) + float64(a.y*b.y) }
func (a vec) cross(b vec) float64 { return float64(a.x*b.y) - float64(a.y*b.x) }
func (a vec) length() float64     { return math.Sqrt(a.dot(a)) }
func middle(a, b vec) vec         { return a.add(b).scale(0.5) }
func between(a, b vec, t float64) vec {
	return vec{a.x + float64((b.x-a.x)*t), a.y + float64((b.y-a.y)*t)}
}

// command is one decoded path command: a line (n = 2), a quadratic (3) or cubic
// (4) Bézier curve.
type command struct {
	contour uint32
	n       int
	gap     bool // closes a contour that its author left open
	p       [4]point
}

// decodeCommand decodes the command at the start of data. A command of unknown
// kind or with coordinates that cannot be drawn is refused.
func decodeCommand(data []byte) (c command, ok bool) {
	c.contour = binary.LittleEndian.Uint32(data)
	cmd := ops.DecodeCommand(data[4:pathStride])
	switch cmd.Op() {
	case scene.OpLine:
		c.n = 2
	case scene.OpGap:
		c.n, c.gap = 2, true
	case scene.OpQuad:
		c.n = 3
	case scene.OpCubic:
		c.n = 4
	default:
		return command{}, false
	}
	for i := range c.n {
		p := point{math.Float32frombits(cmd[1+2*i]), math.Float32frombits(cmd[2+2*i])}
		if !usable(p.x) || !usable(p.y) {
			return command{}, false
		}
		c.p[i] = p
	}
	return c, true
}

// pathBounds returns the bounds of the control points under t, and whether the
// path can be drawn.
func pathBounds(path []byte, t matrix, width float32) (rectangle, bool) {
	r := emptyRect
	moved := t.translation()
	for ; len(path) >= pathStride; path = path[pathStride:] {
		c, ok := decodeCommand(path)
		if !ok {
			return rectangle{}, false
		}
		for _, p := range c.p[:c.n] {
			if !moved {
				p = t.apply(p)
			}
			r.add(p)
		}
	}
	if moved {
		r = rectangle{r.x0 + t.ox, r.y0 + t.oy, r.x1 + t.ox, r.y1 + t.oy}
	}
	if width > 0 {
		hw := float64(width) / 2
		ex := float32(float64(hw * math.Sqrt(float64(float64(t.sx)*float64(t.sx))+float64(float64(t.hx)*float64(t.hx)))))
		ey := float32(float64(hw * math.Sqrt(float64(float64(t.hy)*float64(t.hy))+float64(float64(t.sy)*float64(t.sy)))))
		r.x0, r.x1 = r.x0-ex, r.x1+ex
		r.y0, r.y1 = r.y0-ey, r.y1+ey
	}
	return r, r.x0 <= r.x1 && r.y0 <= r.y1
}

// flattener turns shapes into edges.
type flattener struct {
	out *raster
	// transform to pixels of the area being drawn
	t      matrix
	dx, dy float64
	w, h   float64 // size of the area
	stroke stroker
}

// run draws the shape of a mask into the raster, whose area is part.
func (f *flattener) run(out *raster, key *maskKey, job *maskJob, part image.Rectangle) {
	f.out = out
	f.t = job.t
	f.dx, f.dy = float64(part.Min.X), float64(part.Min.Y)
	f.w, f.h = float64(part.Dx()), float64(part.Dy())
	switch key.kind {
	case shapeRect:
		c := job.t.corners(job.rect)
		for i := range c {
			f.edge(f.local(c[i]), f.local(c[(i+1)%4]))
		}
	case shapeOutline:
		for path := job.path; len(path) >= pathStride; path = path[pathStride:] {
			if c, ok := decodeCommand(path); ok {
				f.outline(&c)
			}
		}
	case shapeStroke:
		f.strokePath(job.path, float64(key.width)/2)
	}
}

// local converts a transformed point to pixels of the area.
func (f *flattener) local(p point) vec {
	return vec{float64(p.x) - f.dx, float64(p.y) - f.dy}
}

func (f *flattener) edge(a, b vec) { f.out.line(a.x, a.y, b.x, b.y) }

// outline draws one command of a filled path.
func (f *flattener) outline(c *command) {
	var v [4]vec
	for i := range c.n {
		v[i] = f.local(f.t.apply(c.p[i]))
	}
	f.curve(v, c.n, 0)
}

// maxPieces is the largest number of lines for a curve before it is halved,
// and maxHalvings how often that is done.
const (
	maxPieces   = 64
	maxHalvings = 20
)

// curve draws a curve by lines, in detail only where it can be seen.
func (f *flattener) curve(v [4]vec, n, depth int) {
	if n == 2 {
		f.edge(v[0], v[1])
		return
	}
	// A curve wholly above, below, left or right of the area covers as much
	// as the line between its ends.
	box := hull(&v, n)
	if box.x1 <= 0 || box.x0 >= f.w || box.y1 <= 0 || box.y0 >= f.h {
		f.edge(v[0], v[n-1])
		return
	}
	pieces := pieces(&v, n, tolerance)
	if pieces > maxPieces && depth < maxHalvings {
		a, b := halve(&v, n)
		f.curve(a, n, depth+1)
		f.curve(b, n, depth+1)
		return
	}
	pieces = min(pieces, maxPieces)
	from := v[0]
	for i := 1; i < pieces; i++ {
		to := pointAt(&v, n, float64(i)/float64(pieces))
		f.edge(from, to)
		from = to
	}
	f.edge(from, v[n-1])
}

type box struct{ x0, y0, x1, y1 float64 }

func hull(v *[4]vec, n int) box {
	b := box{v[0].x, v[0].y, v[0].x, v[0].y}
	for _, p := range v[1:n] {
		b.x0, b.x1 = min(b.x0, p.x), max(b.x1, p.x)
		b.y0, b.y1 = min(b.y0, p.y), max(b.y1, p.y)
	}
	return b
}

// pieces returns how many lines keep within tol of a Bézier curve (Wang's
// formula).
func pieces(v *[4]vec, n int, tol float64) int {
	var m float64
	for i := range n - 2 {
		d := v[i].sub(v[i+1].scale(2)).add(v[i+2])
		m = max(m, d.length())
	}
	k := 0.25
	if n == 4 {
		k = 0.75
	}
	r := math.Sqrt(float64(k*m) / tol)
	if !(r > 1) {
		return 1
	}
	return int(math.Ceil(min(r, 1<<20)))
}

// pointAt evaluates a Bézier curve.
func pointAt(v *[4]vec, n int, t float64) vec {
	a, b := between(v[0], v[1], t), between(v[1], v[2], t)
	if n == 4 {
		c := between(v[2], v[3], t)
		a, b = between(a, b, t), between(b, c, t)
	}
	return between(a, b, t)
}

// halve splits a Bézier curve in the middle.
func halve(v *[4]vec, n int) (l, r [4]vec) {
	a, b := middle(v[0], v[1]), middle(v[1], v[2])
	if n == 3 {
		m := middle(a, b)
		return [4]vec{v[0], a, m}, [4]vec{m, b, v[2]}
	}
	c := middle(v[2], v[3])
	ab, bc := middle(a, b), middle(b, c)
	m := middle(ab, bc)
	return [4]vec{v[0], a, ab, m}, [4]vec{m, bc, c, v[3]}
}

// stroker draws the outline of a stroked path edge by edge: both sides of each
// piece, round joins on the outside of each turn and round caps at open ends.
// It works in path space, because the transform applies to the pen too.
type stroker struct {
	hw  float64 // half the width
	tol float64 // tolerance in path space
	// the contour being drawn
	open   bool
	start  vec // first point
	normal vec // side of the first piece
	pen    vec // last point
	side   vec // side of the last piece
	margin box // part of path space that can be seen; curves outside are coarse
	all    bool
}

// strokePath draws a stroked path.
func (f *flattener) strokePath(path []byte, hw float64) {
	s := &f.stroke
	*s = stroker{hw: hw}
	// A circle in path space becomes at most this much larger.
	k := math.Sqrt(max(
		float64(float64(f.t.sx)*float64(f.t.sx))+float64(float64(f.t.hy)*float64(f.t.hy)),
		float64(float64(f.t.hx)*float64(f.t.hx))+float64(float64(f.t.sy)*float64(f.t.sy)))) * math.Sqrt2
	// Pens of thousands of pixels get by with less, which bounds the work.
	s.tol = max(tolerance/max(k, 1e-6), float64(hw*1e-5))
	s.all = true
	if inv, ok := f.t.invert(); ok {
		r := emptyRect
		for _, c := range inv.corners(rectangle{
			float32(f.dx), float32(f.dy), float32(f.dx + f.w), float32(f.dy + f.h)}) {
			r.add(c)
		}
		pad := float32(hw) + 1 + float32((r.x1-r.x0+r.y1-r.y0)/1024)
		s.margin = box{float64(r.x0 - pad), float64(r.y0 - pad), float64(r.x1 + pad), float64(r.y1 + pad)}
		s.all = false
	}
	contour := uint32(0)
	for ; len(path) >= pathStride; path = path[pathStride:] {
		c, ok := decodeCommand(path)
		if !ok || c.gap {
			continue
		}
		if c.contour != contour {
			f.endContour()
			contour = c.contour
		}
		var v [4]vec
		for i := range c.n {
			v[i] = vec{float64(c.p[i].x), float64(c.p[i].y)}
		}
		f.strokeCurve(v, c.n, 0)
	}
	f.endContour()
}

// strokeCurve walks along a curve.
func (f *flattener) strokeCurve(v [4]vec, n, depth int) {
	s := &f.stroke
	if n == 2 {
		f.strokeTo(v[0], v[1])
		return
	}
	if !s.all {
		b := hull(&v, n)
		if b.x1 <= s.margin.x0 || b.x0 >= s.margin.x1 || b.y1 <= s.margin.y0 || b.y0 >= s.margin.y1 {
			f.strokeTo(v[0], v[n-1])
			return
		}
	}
	pieces := pieces(&v, n, s.tol)
	if pieces > maxPieces && depth < maxHalvings {
		a, b := halve(&v, n)
		f.strokeCurve(a, n, depth+1)
		f.strokeCurve(b, n, depth+1)
		return
	}
	pieces = min(pieces, maxPieces)
	from := v[0]
	for i := 1; i < pieces; i++ {
		to := pointAt(&v, n, float64(i)/float64(pieces))
		f.strokeTo(from, to)
		from = to
	}
	f.strokeTo(from, v[n-1])
}

// strokeTo draws one straight piece.
func (f *flattener) strokeTo(a, b vec) {
	s := &f.stroke
	d := b.sub(a)
	l := d.length()
	if !(l > 1e-9) {
		return
	}
	n := vec{d.y, -d.x}.scale(s.hw / l)
	if s.open {
		f.join(s.side, n, a)
	} else {
		s.open, s.start, s.normal = true, a, n
	}
	f.strokeEdge(a.add(n), b.add(n))
	f.strokeEdge(b.sub(n), a.sub(n))
	s.pen, s.side = b, n
}

// join connects two pieces that meet at p, with sides n0 and n1.
func (f *flattener) join(n0, n1, p vec) {
	if n0 == n1 {
		return
	}
	if n0.cross(n1) < 0 {
		// The turn opens on the other side.
		f.strokeEdge(p.add(n0), p.add(n1))
		f.arc(p, n1.scale(-1), n0.scale(-1), 0)
		return
	}
	f.arc(p, n0, n1, 0)
	f.strokeEdge(p.sub(n1), p.sub(n0))
}

// endContour closes the contour, or puts caps on its ends.
func (f *flattener) endContour() {
	s := &f.stroke
	if !s.open {
		return
	}
	s.open = false
	if s.pen == s.start {
		f.join(s.side, s.normal, s.start)
		return
	}
	f.cap(s.pen, s.side)
	f.cap(s.start, s.normal.scale(-1))
}

// cap draws a half circle from p+n around to p-n.
func (f *flattener) cap(p, n vec) {
	front := vec{-n.y, n.x}
	f.arc(p, n, front, 0)
	f.arc(p, front, n.scale(-1), 0)
}

// arc draws the arc around p from p+a to p+b, at most half a turn, the short
// way. It halves the angle by normalising the sum, which needs nothing but a
// square root.
func (f *flattener) arc(p, a, b vec, depth int) {
	s := &f.stroke
	m := a.add(b)
	l := m.length()
	// Sagitta of the arc: radius minus distance of the chord.
	if s.hw-float64(l*0.5) <= s.tol || depth >= 12 {
		f.strokeEdge(p.add(a), p.add(b))
		return
	}
	if l < float64(s.hw*1e-6) {
		// Half a turn: any of the two ways; take the one counter-clockwise.
		m, l = vec{-a.y, a.x}, s.hw
	}
	m = m.scale(s.hw / l)
	f.arc(p, a, m, depth+1)
	f.arc(p, m, b, depth+1)
}

// strokeEdge transforms an edge from path space to pixels.
func (f *flattener) strokeEdge(a, b vec) { f.edge(f.toPixels(a), f.toPixels(b)) }

func (f *flattener) toPixels(p vec) vec {
	t := &f.t
	return vec{
		float64(float64(t.sx)*p.x) + float64(float64(t.hx)*p.y) + (float64(t.ox) - f.dx),
		float64(float64(t.hy)*p.x) + float64(float64(t.sy)*p.y) + (float64(t.oy) - f.dy),
	}
}
