package cpurender

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"math"

	"gioui.org/internal/ops"
	"gioui.org/op"
)

// Errors that Options.Report receives. The frame is drawn as far as possible.
var (
	// ErrUnknownOp: the list holds an operation this package does not know.
	ErrUnknownOp = errors.New("unknown operation")
	// ErrUnbalanced: something was popped that had not been pushed.
	ErrUnbalanced = errors.New("unbalanced operations")
	// ErrBadImage: an image without pixels or of absurd size; it is not drawn.
	ErrBadImage = errors.New("bad image")
	// ErrBadNumber: a coordinate that is no number or of absurd size.
	ErrBadNumber = errors.New("coordinate out of range")
	// ErrLimit: the frame exceeds a limit of Options; the rest is not drawn.
	ErrLimit = errors.New("limit of the frame exceeded")
	// ErrTarget: there is no picture to draw into, or its sizes do not fit.
	ErrTarget = errors.New("no usable target")
	// ErrPanic: drawing panicked; the frame was painted again in full.
	ErrPanic = errors.New("panic while drawing")
)

type paintKind uint8

const (
	paintColor paintKind = iota
	paintGradient
	paintImage
	layerBegin
	layerEnd
)

// drawCommand is one thing to paint: a source, a pixel rectangle, and clips
// whose coverages multiply.
type drawCommand struct {
	kind   paintKind
	opaque bool  // replaces what is below, within bounds, apart from clips
	layer  int32 // number of layers around it
	clip   int32 // innermost path clip, or -1
	bounds image.Rectangle
	hash   uint64
	color  linear // paintColor; opacity of a layer in color.a
	pixel  uint32 // color as an opaque pixel
	source int32  // index of gradient or image; of a layer, its other end
}

// clipNode is one clip of the stack. Nodes are never changed by later pushes,
// so commands may refer to them.
type clipNode struct {
	parent int32 // the clip around it, or -1
	paths  int32 // the nearest clip with a path, itself included, or -1
	outer  int32 // for a path: the next clip with a path around it, or -1
	bounds image.Rectangle
	depth  int32 // path clips in the chain

	// of path clips
	kind  shapeKind
	path  []byte
	hash  uint64
	width float32
	rect  rectangle
	t     matrix // linear part and fraction of the offset
	off   image.Point
	whole *mask  // of the whole shape; knows at least its bounds
	mask  *mask  // whole, or of the visible part of a large shape
	chain uint64 // hash of this path and all around it
}

// state is what Save and Load do not keep and a fresh list starts with.
type state struct {
	t       matrix
	clip    int32
	kind    paintKind
	color   color.NRGBA
	grad    gradientOp
	image   *texture
	nearest bool
}

type gradientOp struct {
	stop1, stop2   point
	color1, color2 color.NRGBA
}

// gradient is a prepared gradient: t = a*x + b*y + c, with the whole
// coordinates of a pixel, tells how far from color1 to color2 it is.
type gradient struct {
	a, b, c        float64
	color1, color2 linear
}

// walker turns an operation list into draw commands.
type walker struct {
	r      *Renderer
	reader ops.Reader

	viewport image.Rectangle
	cmds     []drawCommand
	clips    []clipNode
	grads    []gradient
	samplers []sampler
	pending  []*mask // to be built before drawing
	trans    []matrix
	layers   []int32 // open layers: index of their begin command, or -1 when folded
	saved    map[uint32]matrix
	folded   int // layers beyond the limit
	copies   int // pixels of scaled copies of images
}

// maxLayers bounds the nesting of opacity layers: each needs memory of its own.
// What is nested deeper is drawn into the innermost layer.
const maxLayers = 32

func (w *walker) reset(viewport image.Rectangle) {
	w.viewport = viewport
	w.cmds = w.cmds[:0]
	clear(w.clips) // drop references to path data
	w.clips = w.clips[:0]
	w.grads = w.grads[:0]
	clear(w.samplers)
	w.samplers = w.samplers[:0]
	clear(w.pending)
	w.pending = w.pending[:0]
	w.trans = w.trans[:0]
	w.layers = w.layers[:0]
	clear(w.saved)
	w.folded, w.copies = 0, 0
}

// release drops what refers to the operation list.
func (w *walker) release() {
	clear(w.clips)
	clear(w.samplers)
	clear(w.pending)
	w.reader.Reset(nil)
	w.cmds, w.clips = shrink(w.cmds), shrink(w.clips)
	w.grads, w.samplers, w.pending = shrink(w.grads), shrink(w.samplers), shrink(w.pending)
}

// shrink gives memory back that an unusually large frame needed.
func shrink[T any](s []T) []T {
	const usual = 1 << 12
	if cap(s) > usual && 4*len(s) < cap(s) {
		return nil
	}
	return s
}

func initialState() state {
	return state{t: identity, clip: -1, kind: paintColor, color: color.NRGBA{A: 0xff}}
}

// collect decodes the list.
func (w *walker) collect(list *op.Ops) {
	if list == nil {
		return
	}
	w.reader.Reset(&list.Internal)
	st := initialState()
	var shape struct {
		path  []byte
		hash  uint64
		width float32
	}
	limit := w.r.opt.MaxOps
	for count := 0; ; count++ {
		e, ok := w.reader.Decode()
		if !ok {
			break
		}
		if count >= limit {
			w.r.report(fmt.Errorf("%w: more than %d operations", ErrLimit, limit))
			break
		}
		if w.r.masks.made*maskOverhead > w.r.opt.MaxFrameMasks {
			w.r.report(fmt.Errorf("%w: more than %d new shapes", ErrLimit, w.r.masks.made))
			break
		}
		if len(e.Data) == 0 {
			// The reader cannot step over what it does not know.
			w.r.report(ErrUnknownOp)
			break
		}
		switch t := ops.OpType(e.Data[0]); t {
		case ops.TypeTransform:
			m, push := decodeTransform(e.Data)
			if push {
				w.trans = append(w.trans, st.t)
			}
			st.t = st.t.mul(m)
		case ops.TypePopTransform:
			if n := len(w.trans); n > 0 {
				st.t, w.trans = w.trans[n-1], w.trans[:n-1]
			} else {
				w.r.report(fmt.Errorf("%w: transform", ErrUnbalanced))
			}
		case ops.TypeSave:
			w.saved[uint32(ops.DecodeSave(e.Data))] = st.t
		case ops.TypeLoad:
			m, ok := w.saved[uint32(ops.DecodeLoad(e.Data))]
			st = initialState()
			if ok {
				st.t = m
			}
		case ops.TypePushOpacity:
			w.pushLayer(ops.DecodeOpacity(e.Data))
		case ops.TypePopOpacity:
			w.popLayer()
		case ops.TypeStroke:
			shape.width = float32At(e.Data, 1)
		case ops.TypePath:
			shape.hash = binary.LittleEndian.Uint64(e.Data[1:])
			e, ok = w.reader.Decode()
			if !ok || len(e.Data) == 0 || ops.OpType(e.Data[0]) != ops.TypeAux {
				w.r.report(fmt.Errorf("%w: path without data", ErrUnbalanced))
				return
			}
			shape.path = e.Data[ops.TypeAuxLen:]
		case ops.TypeClip:
			var c ops.ClipOp
			c.Decode(e.Data)
			switch {
			case len(shape.path) > 0:
				kind := shapeNothing
				switch {
				case shape.width > 0:
					kind = shapeStroke
				case c.Outline:
					kind = shapeOutline
				}
				w.pushPath(&st, kind, shape.path, shape.hash, shape.width)
			default:
				w.pushRect(&st, rectangle{float32(c.Bounds.Min.X), float32(c.Bounds.Min.Y), float32(c.Bounds.Max.X), float32(c.Bounds.Max.Y)})
			}
			shape.path, shape.hash, shape.width = nil, 0, 0
		case ops.TypePopClip:
			if st.clip >= 0 {
				st.clip = w.clips[st.clip].parent
			} else {
				w.r.report(fmt.Errorf("%w: clip", ErrUnbalanced))
			}
		case ops.TypeColor:
			st.kind = paintColor
			st.color = w.r.nrgba(e.Data[1:])
		case ops.TypeLinearGradient:
			st.kind = paintGradient
			st.grad = gradientOp{
				stop1:  point{float32At(e.Data, 1), float32At(e.Data, 5)},
				stop2:  point{float32At(e.Data, 9), float32At(e.Data, 13)},
				color1: w.r.nrgba(e.Data[17:]),
				color2: w.r.nrgba(e.Data[21:]),
			}
		case ops.TypeImage:
			st.kind = paintImage
			st.nearest = e.Data[1] == filterNearest
			st.image = w.r.textures.get(e.Refs, w.r.frame)
			if st.image == nil {
				w.r.report(ErrBadImage)
			}
		case ops.TypePaint:
			w.paint(&st)
		default:
			if !ignored[t] {
				w.r.report(fmt.Errorf("%w: type %d", ErrUnknownOp, t))
			}
		}
	}
	for len(w.layers) > 0 {
		w.popLayer()
	}
}

func float32At(data []byte, i int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(data[i:]))
}

func decodeTransform(data []byte) (m matrix, push bool) {
	return matrix{
		sx: float32At(data, 2), hx: float32At(data, 6), ox: float32At(data, 10),
		hy: float32At(data, 14), sy: float32At(data, 18), oy: float32At(data, 22),
	}, data[1] != 0
}

// addClip adds a node and makes it the current clip.
func (w *walker) addClip(st *state, n clipNode) {
	n.parent, n.outer = st.clip, -1
	if st.clip >= 0 {
		p := &w.clips[st.clip]
		n.bounds = n.bounds.Intersect(p.bounds)
		n.outer, n.depth = p.paths, p.depth
	} else {
		n.bounds = n.bounds.Intersect(w.viewport)
	}
	id := int32(len(w.clips))
	n.paths = n.outer
	if n.kind != shapeNothing {
		n.paths = id
		n.depth++
	}
	w.clips = append(w.clips, n)
	st.clip = id
}

// pushNothing clips everything away.
func (w *walker) pushNothing(st *state) { w.addClip(st, clipNode{kind: shapeNothing}) }

// pushRect clips by a rectangle under the current transform.
func (w *walker) pushRect(st *state, r rectangle) {
	if !st.t.finite() {
		w.r.report(ErrBadNumber)
		w.pushNothing(st)
		return
	}
	if !(r.x0 < r.x1 && r.y0 < r.y1) {
		w.pushNothing(st)
		return
	}
	rest, off := st.t.split()
	bounds := r
	if rest != identity {
		bounds = emptyRect
		for _, c := range rest.corners(r) {
			bounds.add(c)
		}
	}
	n := clipNode{kind: shapeNothing, bounds: bounds.round().Add(off)}
	if !rest.straight() || !bounds.whole() {
		n.kind = shapeRect
		n.rect, n.t, n.off = r, rest, off
		n.hash = mixFloats(mixFloats(0, r.x0, r.y0), r.x1, r.y1)
		n.whole, _ = w.r.masks.get(n.key(), w.r.frame)
		n.whole.box = bounds.round()
	}
	w.addClip(st, n)
}

// pushPath clips by a path or its stroke.
func (w *walker) pushPath(st *state, kind shapeKind, path []byte, hash uint64, width float32) {
	if kind == shapeNothing {
		w.pushNothing(st)
		return
	}
	if !st.t.finite() || !usable(width) {
		w.r.report(ErrBadNumber)
		w.pushNothing(st)
		return
	}
	n := clipNode{kind: kind, path: path, hash: hash, width: width}
	n.t, n.off = st.t.split()
	m, isNew := w.r.masks.get(n.key(), w.r.frame)
	if isNew {
		bounds, ok := pathBounds(path, n.t, width)
		m.box, m.bad = bounds.round(), !ok
	}
	if m.bad {
		w.r.report(ErrBadNumber)
		w.pushNothing(st)
		return
	}
	n.whole = m
	n.bounds = m.box.Add(n.off)
	w.addClip(st, n)
}

// key names the content of a clip's mask, drawn in full.
func (n *clipNode) key() maskKey {
	return maskKey{
		path: n.hash, kind: n.kind, width: n.width,
		sx: n.t.sx, hx: n.t.hx, hy: n.t.hy, sy: n.t.sy,
		fx: n.t.ox, fy: n.t.oy,
	}
}

// resolve finds the masks of a clip and of all clips around it, and returns the
// innermost path clip, or -1 when only rectangles clip.
func (w *walker) resolve(clip int32) int32 {
	if clip < 0 {
		return -1
	}
	inner := w.clips[clip].paths
	// Walk out to the first node that is known.
	first := inner
	for first >= 0 && w.clips[first].mask == nil {
		first = w.clips[first].outer
	}
	for i := inner; i != first; i = w.clips[i].outer {
		w.findMask(&w.clips[i])
	}
	// The hash of a chain is the sum of those of its masks, as the links lead
	// outwards only: first the total, then each node what is left for it.
	var total uint64
	if first >= 0 {
		total = w.clips[first].chain
	}
	for i := inner; i != first; i = w.clips[i].outer {
		total += w.clips[i].own()
	}
	for i := inner; i != first; i = w.clips[i].outer {
		w.clips[i].chain = total
		total -= w.clips[i].own()
	}
	return inner
}

// own hashes the mask of one path clip and its position.
func (n *clipNode) own() uint64 {
	return mix64(n.mask.id, uint64(uint32(n.off.X))<<32|uint64(uint32(n.off.Y)))
}

// findMask chooses the mask of a path clip, and queues it when it must be built.
func (w *walker) findMask(n *clipNode) {
	m := n.whole
	area := m.box
	visible := n.bounds.Sub(n.off)
	if large(area, visible) {
		area = visible
		key := m.key
		key.cut = [4]int32{int32(area.Min.X), int32(area.Min.Y), int32(area.Max.X), int32(area.Max.Y)}
		m, _ = w.r.masks.get(key, w.r.frame)
	}
	n.mask = m
	if !m.built && !m.queued {
		m.queued = true
		m.job = maskJob{path: n.path, rect: n.rect, t: n.t, area: area}
		w.pending = append(w.pending, m)
	}
}

// large reports whether a shape is so much larger than what is visible of it
// that only the visible part should be drawn.
func large(box, visible image.Rectangle) bool {
	const small = 256 * 256
	w, h := box.Dx(), box.Dy()
	if w > maxMaskSide || h > maxMaskSide {
		return true
	}
	return w*h > max(small, 4*visible.Dx()*visible.Dy())
}

// everywhere is the rectangle that a fill without clip paints.
const everywhere = 1e6

// paint adds the command for a paint operation.
func (w *walker) paint(st *state) {
	bounds := w.viewport
	if st.clip >= 0 {
		bounds = w.clips[st.clip].bounds
	}
	if bounds.Empty() {
		return
	}
	if !st.t.finite() {
		w.r.report(ErrBadNumber)
		return
	}
	rest, off := st.t.split()
	src := rectangle{-everywhere, -everywhere, everywhere, everywhere}
	if st.kind == paintImage {
		if st.image == nil {
			return
		}
		src = rectangle{x1: float32(st.image.size.X), y1: float32(st.image.size.Y)}
	}
	clip := st.clip
	box := emptyRect
	if st.kind == paintImage || !w.fills(st.t, src) {
		// The painted rectangle itself clips.
		w.pushRect(st, src)
		n := &w.clips[st.clip]
		bounds = n.bounds
		clip, st.clip = st.clip, n.parent
		if bounds.Empty() {
			return
		}
	}
	cmd := drawCommand{kind: st.kind, bounds: bounds, layer: int32(len(w.layers))}
	switch st.kind {
	case paintColor:
		if st.color.A == 0 {
			return
		}
		cmd.color = premultiply(st.color)
		cmd.pixel = uint32(st.color.R) | uint32(st.color.G)<<8 | uint32(st.color.B)<<16 | uint32(st.color.A)<<24
		cmd.opaque = st.color.A == 0xff
		cmd.hash = mix64(uint64(paintColor), uint64(cmd.pixel))
	case paintGradient:
		g, ok := newGradient(st.grad, rest, off, rest.corners(src))
		if !ok {
			return
		}
		cmd.source = int32(len(w.grads))
		w.grads = append(w.grads, g)
		cmd.opaque = st.grad.color1.A == 0xff && st.grad.color2.A == 0xff
		h := mix64(uint64(paintGradient), uint64(packed(st.grad.color1))<<32|uint64(packed(st.grad.color2)))
		h = mix64(h, math.Float64bits(g.a))
		h = mix64(h, math.Float64bits(g.b))
		cmd.hash = mix64(h, math.Float64bits(g.c))
	case paintImage:
		c := rest.corners(src)
		for _, p := range c {
			box.add(p)
		}
		s, ok := newSampler(st.image, st.nearest, rest, off, c, box)
		if !ok {
			return
		}
		if size := box.round().Size(); !s.direct && rest.straight() && w.worthCopy(size, bounds) {
			s.t, s.direct = w.r.textures.scaled(&s, size, w.r.frame), true
		}
		cmd.source = int32(len(w.samplers))
		w.samplers = append(w.samplers, s)
		cmd.opaque = st.image.opaque
		cmd.hash = s.hash()
	}
	cmd.clip = w.resolve(clip)
	if cmd.clip >= 0 {
		cmd.hash = mix64(cmd.hash, w.clips[cmd.clip].chain)
	}
	w.cmds = append(w.cmds, cmd)
}

// maxCopy bounds the pixels of a scaled copy of an image, and maxCopies those of
// all copies of a frame.
const (
	maxCopy   = 1 << 20
	maxCopies = 1 << 22
)

// worthCopy decides whether an image is scaled once and kept, or sampled as it
// is painted. The answer depends on the list alone.
func (w *walker) worthCopy(size image.Point, visible image.Rectangle) bool {
	if size.X > maxImageSide || size.Y > maxImageSide {
		return false
	}
	n := size.X * size.Y
	if n > maxCopy || n > 4*visible.Dx()*visible.Dy() || w.copies+n > maxCopies {
		return false
	}
	w.copies += n
	return true
}

func packed(c color.NRGBA) uint32 {
	return uint32(c.R) | uint32(c.G)<<8 | uint32(c.B)<<16 | uint32(c.A)<<24
}

// fills reports whether a rectangle under t covers the whole viewport.
func (w *walker) fills(t matrix, r rectangle) bool {
	const near = everywhere / 2
	if t.translation() && t.ox > -near && t.ox < near && t.oy > -near && t.oy < near {
		return true // no screen is as large as the rest
	}
	inv, ok := t.invert()
	if !ok {
		return false
	}
	v := w.viewport
	for _, p := range inv.corners(rectangle{float32(v.Min.X), float32(v.Min.Y), float32(v.Max.X), float32(v.Max.Y)}) {
		if !(p.x > r.x0+1 && p.x < r.x1-1 && p.y > r.y0+1 && p.y < r.y1-1) {
			return false
		}
	}
	return true
}

// pushLayer begins an opacity layer.
func (w *walker) pushLayer(opacity float32) {
	if len(w.layers) >= maxLayers {
		w.folded++
		w.r.report(fmt.Errorf("%w: more than %d nested layers", ErrLimit, maxLayers))
		return
	}
	w.layers = append(w.layers, int32(len(w.cmds)))
	f := opacityFactor(opacity)
	w.cmds = append(w.cmds, drawCommand{
		kind: layerBegin, clip: -1, layer: int32(len(w.layers)),
		color: linear{a: f}, hash: mix64(uint64(layerBegin), uint64(f)),
	})
}

// popLayer ends the innermost layer.
func (w *walker) popLayer() {
	if w.folded > 0 {
		w.folded--
		return
	}
	n := len(w.layers)
	if n == 0 {
		w.r.report(fmt.Errorf("%w: opacity", ErrUnbalanced))
		return
	}
	begin := w.layers[n-1]
	w.layers = w.layers[:n-1]
	// The layer is as large as what is in it.
	var bounds image.Rectangle
	for i := int(begin) + 1; i < len(w.cmds); i++ {
		c := &w.cmds[i]
		bounds = bounds.Union(c.bounds)
		if c.kind == layerBegin {
			i = int(c.source) // its bounds include its content
		}
	}
	b := &w.cmds[begin]
	if bounds.Empty() || b.color.a == 0 {
		w.cmds = w.cmds[:begin]
		return
	}
	b.bounds = bounds
	b.source = int32(len(w.cmds))
	w.cmds = append(w.cmds, drawCommand{
		kind: layerEnd, clip: -1, layer: int32(n), bounds: bounds,
		color: b.color, source: begin, hash: mix64(uint64(layerEnd), uint64(b.color.a)),
	})
}

// newGradient prepares a gradient. Gio computes it in the space of the painted
// rectangle: whole-pixel offsets move it, fractions and scales do not, and
// under rotation and shear the unit square of the bounds is mapped instead.
// That is kept, quirks and all.
func newGradient(g gradientOp, rest matrix, off image.Point, c [4]point) (gradient, bool) {
	if !usable(g.stop1.x) || !usable(g.stop1.y) || !usable(g.stop2.x) || !usable(g.stop2.y) {
		return gradient{}, false
	}
	dx := float64(g.stop2.x) - float64(g.stop1.x)
	dy := float64(g.stop2.y) - float64(g.stop1.y)
	ll := float64(dx*dx) + float64(dy*dy)
	if ll == 0 {
		return gradient{}, false
	}
	// u runs along the gradient, v across, both in its length.
	ux, uy := dx/ll, dy/ll
	vx, vy := -dy/ll, dx/ll
	x0 := float64(off.X) + float64(g.stop1.x)
	y0 := float64(off.Y) + float64(g.stop1.y)
	uc := -(float64(ux*x0) + float64(uy*y0))
	vc := -(float64(vx*x0) + float64(vy*y0))
	p := partial{sx: 1}
	if !rest.straight() {
		var ok bool
		if p, _, ok = partialTransform(c); !ok {
			return gradient{}, false
		}
	}
	a := float64(p.sx*ux) + float64(p.hx*vx)
	b := float64(p.sx*uy) + float64(p.hx*vy)
	k := float64(p.sx*uc) + float64(p.hx*vc) + p.ox
	// Sample at the centre of pixels.
	k += float64(float64(a+b) * 0.5)
	return gradient{a: a, b: b, c: k, color1: premultiply(g.color1), color2: premultiply(g.color2)}, true
}

// partial is one row of an affine transform in double precision.
type partial struct{ sx, hx, ox float64 }

// partialTransform maps the unit square over the bounds of four corners to the
// unit square of the rectangle they came from.
func partialTransform(c [4]point) (u, v partial, ok bool) {
	b := emptyRect
	for _, p := range c {
		b.add(p)
	}
	w, h := float64(b.x1)-float64(b.x0), float64(b.y1)-float64(b.y0)
	if !(w > 0 && h > 0) {
		return partial{}, partial{}, false
	}
	nx := func(p point) float64 { return (float64(p.x) - float64(b.x0)) / w }
	ny := func(p point) float64 { return (float64(p.y) - float64(b.y0)) / h }
	ox, oy := nx(c[0]), ny(c[0])
	sx, hy := nx(c[1])-ox, ny(c[1])-oy
	hx, sy := nx(c[3])-ox, ny(c[3])-oy
	det := float64(sx*sy) - float64(hx*hy)
	if det == 0 {
		return partial{}, partial{}, false
	}
	u = partial{sx: sy / det, hx: -hx / det}
	v = partial{sx: -hy / det, hx: sx / det}
	u.ox = -(float64(u.sx*ox) + float64(u.hx*oy))
	v.ox = -(float64(v.sx*ox) + float64(v.hx*oy))
	return u, v, true
}

// mix64 mixes a word into a hash.
func mix64(h, v uint64) uint64 {
	h = (h ^ v) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>29
}

func mixFloats(h uint64, a, b float32) uint64 {
	return mix64(h, uint64(math.Float32bits(a))<<32|uint64(math.Float32bits(b)))
}
