package cpurender

import (
	"fmt"
	"image"
	"math"
)

// worker paints strips and builds masks. It owns all scratch memory it needs.
type worker struct {
	r       *Renderer
	raster  raster
	flat    flattener
	builder maskBuilder
	ramps   [rampCount]ramp
	colors  []linear
	cover   []uint8
	active  []int32
	layers  []openLayer
	pool    [][]byte
	err     error
}

// openLayer is an opacity layer being painted.
type openLayer struct {
	surface surface
	factor  uint32
}

// run executes the current phase of the frame: building masks or painting
// strips, whatever is left to do.
func (w *worker) run() {
	defer w.r.wait.Done()
	defer func() {
		if p := recover(); p != nil {
			w.err = fmt.Errorf("%w: %v", ErrPanic, p)
			w.raster.scrub()
		}
	}()
	r := w.r
	for {
		i := int(r.next.Add(1)) - 1
		if i >= r.jobs {
			return
		}
		if r.phase == phaseMasks {
			r.batch[i].build(w)
		} else {
			w.strip(&r.strips[i])
		}
	}
}

// strip is a part of a row of tiles that must be painted anew.
type strip struct {
	r     image.Rectangle
	row   int // row of tiles
	first int // index of the first command that can be seen
}

// strip paints one strip.
func (w *worker) strip(s *strip) {
	r := w.r
	target := r.target
	w.layers = w.layers[:0]
	cmds := r.walk.cmds
	list := r.rows[s.row]
	if s.first >= 0 {
		// Each tile is covered by this command or a later one: skip what lies
		// below.
		lo, hi := 0, len(list)
		for lo < hi {
			if mid := (lo + hi) / 2; int(list[mid]) < s.first {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		list = list[lo:]
	} else {
		target.clear(s.r)
	}
	cur := target
	area := s.r
	for k := 0; k < len(list); k++ {
		c := &cmds[list[k]]
		switch c.kind {
		case layerBegin:
			la := c.bounds.Intersect(area)
			if la.Empty() {
				// Skip to its end.
				for k+1 < len(list) && list[k+1] <= c.source {
					k++
				}
				continue
			}
			w.layers = append(w.layers, openLayer{surface: w.newLayer(la), factor: c.color.a})
			cur = w.layers[len(w.layers)-1].surface
			area = la
		case layerEnd:
			n := len(w.layers)
			if n == 0 {
				continue
			}
			l := w.layers[n-1]
			w.layers = w.layers[:n-1]
			cur, area = target, s.r
			if n > 1 {
				cur = w.layers[n-2].surface
				area = cur.r
			}
			for y := l.surface.r.Min.Y; y < l.surface.r.Max.Y; y++ {
				x0, x1 := l.surface.r.Min.X, l.surface.r.Max.X
				layerOver(cur.row(y, x0, x1), l.surface.row(y, x0, x1), l.factor)
			}
			w.pool = append(w.pool, l.surface.pix)
		default:
			if a := c.bounds.Intersect(area); !a.Empty() {
				w.paint(&cur, c, a)
			}
		}
	}
}

// newLayer returns an empty surface.
func (w *worker) newLayer(r image.Rectangle) surface {
	n := 4 * r.Dx() * r.Dy()
	var pix []byte
	if k := len(w.pool); k > 0 {
		pix, w.pool = w.pool[k-1], w.pool[:k-1]
	}
	if cap(pix) < n {
		pix = make([]byte, n)
	} else {
		pix = pix[:n]
		clear(pix)
	}
	return surface{pix: pix, stride: 4 * r.Dx(), r: r}
}

// paint paints one command within an area that its bounds and the surface
// contain.
func (w *worker) paint(s *surface, c *drawCommand, area image.Rectangle) {
	// Which clips matter here?
	clips := w.r.walk.clips
	w.active = w.active[:0]
	for i := c.clip; i >= 0; i = clips[i].outer {
		n := &clips[i]
		at := area.Sub(n.off)
		if at.In(n.mask.solid) {
			continue
		}
		area = at.Intersect(n.mask.bounds).Add(n.off)
		if area.Empty() {
			return
		}
		w.active = append(w.active, i)
	}
	switch len(w.active) {
	case 0:
		if c.kind == paintGradient && c.opaque && w.r.walk.grads[c.source].b == 0 {
			// All rows are alike.
			w.span(s, c, area.Min.Y, area.Min.X, area.Max.X, nil)
			first := s.row(area.Min.Y, area.Min.X, area.Max.X)
			for y := area.Min.Y + 1; y < area.Max.Y; y++ {
				copy(s.row(y, area.Min.X, area.Max.X), first)
			}
			return
		}
		for y := area.Min.Y; y < area.Max.Y; y++ {
			w.span(s, c, y, area.Min.X, area.Max.X, nil)
		}
	case 1:
		n := &clips[w.active[0]]
		m := n.mask
		dx := n.off.X + m.bounds.Min.X
		for y := area.Min.Y; y < area.Max.Y; y++ {
			for _, sp := range m.row(y - n.off.Y - m.bounds.Min.Y) {
				x0, x1 := int(sp.x0)+dx, int(sp.x1)+dx
				if x1 <= area.Min.X {
					continue
				}
				if x0 >= area.Max.X {
					break
				}
				cx0, cx1 := max(x0, area.Min.X), min(x1, area.Max.X)
				var cover []uint8
				if sp.off != solidSpan {
					o := int(sp.off) - x0
					cover = m.cover[o+cx0 : o+cx1]
				}
				w.span(s, c, y, cx0, cx1, cover)
			}
		}
	default:
		w.multiply(s, c, area)
	}
}

// multiply paints under several clips.
func (w *worker) multiply(s *surface, c *drawCommand, area image.Rectangle) {
	clips := w.r.walk.clips
	width := area.Dx()
	if cap(w.cover) < width {
		w.cover = make([]uint8, width)
	}
	for y := area.Min.Y; y < area.Max.Y; y++ {
		cover := w.cover[:width]
		for i := range cover {
			cover[i] = 255
		}
		x0, x1 := 0, width // what is not known to be uncovered
		for _, id := range w.active {
			n := &clips[id]
			m := n.mask
			base := n.off.X + m.bounds.Min.X - area.Min.X
			x := x0
			for _, sp := range m.row(y - n.off.Y - m.bounds.Min.Y) {
				s0, s1 := max(int(sp.x0)+base, x0), min(int(sp.x1)+base, x1)
				if s0 >= s1 {
					continue
				}
				clear(cover[x:s0])
				x = s1
				if sp.off == solidSpan {
					continue
				}
				o := int(sp.off) - int(sp.x0) - base
				for i, v := range m.cover[o+s0 : o+s1] {
					p := &cover[s0+i]
					*p = uint8((uint32(*p)*uint32(v) + 127) / 255)
				}
			}
			clear(cover[x:x1])
			x1 = x
			for x0 < x1 && cover[x0] == 0 {
				x0++
			}
			if x0 >= x1 {
				break
			}
		}
		if x0 < x1 {
			w.span(s, c, y, area.Min.X+x0, area.Min.X+x1, cover[x0:x1])
		}
	}
}

// span paints a run of pixels of one row; cover nil means complete.
func (w *worker) span(s *surface, c *drawCommand, y, x0, x1 int, cover []uint8) {
	row := s.row(y, x0, x1)
	switch c.kind {
	case paintColor:
		if cover == nil {
			w.colorSolid(row, c)
		} else {
			w.colorCover(row, c, cover)
		}
	case paintGradient:
		g := &w.r.walk.grads[c.source]
		k := float64(g.b*float64(y)) + g.c
		if g.a == 0 {
			w.gradientRow(row, c, g.color(k), cover)
			return
		}
		src := w.scratch(x1 - x0)
		for i := range src {
			src[i] = g.color(float64(g.a*float64(x0+i)) + k)
		}
		linearCover(row, src, cover)
	case paintImage:
		sm := &w.r.walk.samplers[c.source]
		if sm.direct {
			t := sm.t
			o := (y-sm.dy)*t.stride + 4*(x0-sm.dx)
			src := t.pix[o : o+len(row)]
			if cover == nil && t.opaque && !t.swap {
				copy(row, src)
			} else {
				pixelCover(row, src, t.swap, cover)
			}
			return
		}
		src := w.scratch(x1 - x0)
		for i := range src {
			src[i] = sm.color(x0+i, y)
		}
		linearCover(row, src, cover)
	}
}

// gradientRow paints a row of a gradient that does not change along it.
func (w *worker) gradientRow(row []byte, c *drawCommand, l linear, cover []uint8) {
	if cover == nil && c.opaque {
		fill(row, encode(l))
		return
	}
	src := w.scratch(len(row) / 4)
	for i := range src {
		src[i] = l
	}
	linearCover(row, src, cover)
}

// scratch returns memory for n colours.
func (w *worker) scratch(n int) []linear {
	if cap(w.colors) < n {
		w.colors = make([]linear, n)
	}
	return w.colors[:n]
}

// color returns the colour at a position along the gradient.
func (g *gradient) color(t float64) linear {
	if !(t > 0) {
		return g.color1
	}
	if t >= 1 {
		return g.color2
	}
	return mix(&g.color1, &g.color2, uint32(math.Floor(float64(t*one)+0.5)))
}
