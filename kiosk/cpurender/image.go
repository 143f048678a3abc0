package cpurender

import (
	"encoding/binary"
	"image"
	"math"
	"math/bits"
)

// filterNearest is the filter byte of an image operation that asks for no
// interpolation.
const filterNearest = 1

// maxImageSide bounds the sides of an image.
const maxImageSide = 1 << 14

// texture is an image that operation lists refer to. It holds a reference on
// the image and on Gio's handle for it, so that the address of the handle
// cannot be given to another image while the texture is known.
type texture struct {
	src    *image.RGBA
	handle any
	id     uint64
	size   image.Point
	pix    []byte // from the first pixel
	stride int
	opaque bool
	swap   bool    // exchange first and third byte when reading
	mips   []level // smaller versions: mips[0] has half the size
	frame  uint64  // the last frame that used the texture
	bytes  int     // memory of mips and of pix, where it is ours
	bad    bool
	from   *sampler // of a scaled copy that is not built yet: what it shows
}

// level is a smaller version of an image, each pixel as in the target.
type level struct {
	w, h int
	pix  []uint32
}

// scaledKey names a scaled copy of an image.
type scaledKey struct {
	id      uint64 // of the image
	nearest bool
	size    image.Point
	ua, ub  int64
	va, vb  int64
}

// textureCache keeps the images of recent frames, and copies of them in the
// size in which they are shown.
type textureCache struct {
	textures map[any]*texture
	copies   map[scaledKey]*texture
	nextID   uint64
	bytes    int // memory of smaller versions and scaled copies
	budget   int
	swap     bool
}

// textureAge is after how many frames without use a texture is forgotten.
const textureAge = 120

// get returns the texture of an image operation, or nil for one that cannot be
// drawn.
func (c *textureCache) get(refs []any, frame uint64) *texture {
	if len(refs) < 2 || refs[1] == nil {
		return nil
	}
	src, ok := refs[0].(*image.RGBA)
	if !ok || src == nil {
		return nil
	}
	t := c.textures[refs[1]]
	if t == nil || t.src != src {
		if t != nil {
			c.bytes -= t.bytes
		}
		t = &texture{src: src, handle: refs[1], id: c.nextID, swap: c.swap}
		c.nextID++
		t.bad = !t.open()
		c.textures[refs[1]] = t
	}
	t.frame = frame
	if t.bad {
		return nil
	}
	return t
}

// open checks the image.
func (t *texture) open() bool {
	r := t.src.Rect
	w, h := r.Dx(), r.Dy()
	if w <= 0 || h <= 0 || w > maxImageSide || h > maxImageSide {
		return false
	}
	t.stride = t.src.Stride
	if t.stride < 4*w || len(t.src.Pix) < (h-1)*t.stride+4*w {
		return false
	}
	t.size = image.Pt(w, h)
	t.pix = t.src.Pix
	t.opaque = true
	for y := 0; y < h && t.opaque; y++ {
		row := t.pix[y*t.stride : y*t.stride+4*w]
		for i := 3; i < len(row); i += 4 {
			if row[i] != 0xff {
				t.opaque = false
				break
			}
		}
	}
	return true
}

// scaled returns the copy of an image as s shows it, size pixels large. It may
// have to be built.
func (c *textureCache) scaled(s *sampler, size image.Point, frame uint64) *texture {
	key := scaledKey{s.t.id, s.nearest, size, s.ua, s.ub, s.va, s.vb}
	t := c.copies[key]
	if t == nil {
		from := *s
		from.dx, from.dy = 0, 0
		t = &texture{id: c.nextID, size: size, opaque: s.t.opaque, stride: 4 * size.X, from: &from}
		c.nextID++
		c.copies[key] = t
	}
	t.frame = frame
	return t
}

// buildCopy computes a scaled copy.
func (t *texture) buildCopy() (added int) {
	s := t.from
	if n := s.levels(); n > len(s.t.mips) {
		added = s.t.build(n)
	}
	t.from = nil
	t.pix = make([]byte, t.stride*t.size.Y)
	t.bytes = len(t.pix)
	for y := range t.size.Y {
		row := t.pix[y*t.stride : (y+1)*t.stride]
		for x := range t.size.X {
			store(row[4*x:], encode(s.color(x, y)))
		}
	}
	return added + t.bytes
}

// evict forgets textures that were not used for a while, and others before
// their time when their smaller versions exceed the budget.
func (c *textureCache) evict(frame uint64) {
	for h, t := range c.textures {
		if t.frame+textureAge < frame || c.bytes > c.budget && t.frame != frame {
			c.bytes -= t.bytes
			delete(c.textures, h)
		}
	}
	for k, t := range c.copies {
		if t.frame+textureAge < frame || c.bytes > c.budget && t.frame != frame {
			c.bytes -= t.bytes
			delete(c.copies, k)
		}
	}
}

// at returns a pixel of level 0 in the order of the target.
func (t *texture) at(x, y int) uint32 {
	px := binary.LittleEndian.Uint32(t.pix[y*t.stride+4*x:])
	if t.swap {
		px = swapRedBlue(px)
	}
	return px
}

// texel returns a pixel of a level; coordinates beyond the border are moved to
// it.
func (t *texture) texel(lv, x, y int) uint32 {
	if lv == 0 {
		return t.at(min(max(x, 0), t.size.X-1), min(max(y, 0), t.size.Y-1))
	}
	l := &t.mips[lv-1]
	return l.pix[min(max(y, 0), l.h-1)*l.w+min(max(x, 0), l.w-1)]
}

func (t *texture) levelSize(lv int) (w, h int) {
	if lv == 0 {
		return t.size.X, t.size.Y
	}
	return t.mips[lv-1].w, t.mips[lv-1].h
}

// build computes smaller versions up to the given level, each half as large as
// the one before.
func (t *texture) build(levels int) (added int) {
	for len(t.mips) < levels {
		lv := len(t.mips)
		sw, sh := t.levelSize(lv)
		l := level{w: max(1, sw/2), h: max(1, sh/2)}
		l.pix = make([]uint32, l.w*l.h)
		for y := range l.h {
			fy := (int64(2*y+1)*int64(sh)<<8)/int64(2*l.h) - 128
			for x := range l.w {
				fx := (int64(2*x+1)*int64(sw)<<8)/int64(2*l.w) - 128
				c := t.bilinear(lv, fx, fy)
				l.pix[y*l.w+x] = encode(c)
			}
		}
		t.mips = append(t.mips, l)
		added += 4 * len(l.pix)
	}
	t.bytes += added
	return added
}

// bilinear interpolates between the four pixels around a position, given in
// 1/256 pixels from the centre of the first pixel.
func (t *texture) bilinear(lv int, fx, fy int64) linear {
	x, y := int(fx>>8), int(fy>>8)
	u, v := uint32(fx&0xff)<<8, uint32(fy&0xff)<<8
	p00, p10 := t.texel(lv, x, y), t.texel(lv, x+1, y)
	p01, p11 := t.texel(lv, x, y+1), t.texel(lv, x+1, y+1)
	if p00 == p10 && p00 == p01 && p00 == p11 {
		return decode(p00)
	}
	a, b := decode(p00), decode(p10)
	c, d := decode(p01), decode(p11)
	a, c = mix(&a, &b, u), mix(&c, &d, u)
	return mix(&a, &c, v)
}

// sampler reads an image under a transform. With x and y counted from dx and dy,
// the texture coordinates of a pixel are u = ua*x + ub*y + uc and likewise v, in
// pixels of the image, 32.32 fixed point, at the centre of the pixel.
type sampler struct {
	t          *texture
	nearest    bool
	direct     bool // pixel by pixel: u is x, v is y
	dx, dy     int
	ua, ub, uc int64
	va, vb, vc int64
	level      int    // of the two levels mixed, the larger one
	mip        uint32 // factor of the smaller one
}

// newSampler maps an image to the rounded bounds of its transformed rectangle,
// as Gio does. c holds the corners and box their bounds, without off.
func newSampler(t *texture, nearest bool, rest matrix, off image.Point, c [4]point, box rectangle) (sampler, bool) {
	dr := box.round().Add(off)
	s := sampler{t: t, nearest: nearest, dx: dr.Min.X, dy: dr.Min.Y}
	if dr.Empty() {
		return s, false
	}
	u, v := partial{sx: 1}, partial{hx: 1}
	if !rest.translation() {
		var ok bool
		if u, v, ok = partialTransform(c); !ok {
			return s, false
		}
	}
	if u == (partial{sx: 1}) && v == (partial{hx: 1}) && dr.Size() == t.size {
		s.direct = true
		return s, true
	}
	w, h := float64(t.size.X), float64(t.size.Y)
	dw, dh := float64(dr.Dx()), float64(dr.Dy())
	x0, y0 := 0.5/dw, 0.5/dh
	coef := func(p partial, size float64) (a, b, c float64) {
		return float64(p.sx/dw) * size, float64(p.hx/dh) * size,
			float64(float64(p.sx*x0)+float64(p.hx*y0)+p.ox) * size
	}
	ua, ub, uc := coef(u, w)
	va, vb, vc := coef(v, h)
	ok := true
	fixed := func(v, limit float64) int64 {
		if !(v > -limit && v < limit) {
			ok = false
			return 0
		}
		return int64(math.Floor(float64(v*(1<<32)) + 0.5))
	}
	// The limits keep sums of products with coordinates within 63 bits.
	const step, start = 1 << 15, 1 << 28
	s.ua, s.ub, s.uc = fixed(ua, step), fixed(ub, step), fixed(uc, start)
	s.va, s.vb, s.vc = fixed(va, step), fixed(vb, step), fixed(vc, start)
	if !ok {
		return s, false
	}
	if !nearest {
		rho2 := max(float64(ua*ua)+float64(va*va), float64(ub*ub)+float64(vb*vb))
		s.level, s.mip = levelOfDetail(rho2, t.size)
	}
	return s, true
}

// levelOfDetail returns the level for a picture shrunk by the square root of
// rho2, and the share of the next smaller one.
func levelOfDetail(rho2 float64, size image.Point) (lv int, share uint32) {
	if rho2 <= 1 {
		return 0, 0
	}
	// Binary logarithm, digit by digit: only squares and halves.
	frac, exp := math.Frexp(rho2) // frac in [0.5, 1)
	x := frac * 2
	log := (exp - 1) << 8
	for bit := 128; bit > 0; bit >>= 1 {
		x = float64(x * x)
		if x >= 2 {
			x /= 2
			log += bit
		}
	}
	log /= 2 // of the square root
	last := bits.Len(uint(max(size.X, size.Y))) - 1
	lv = log >> 8
	if lv >= last {
		return last, 0
	}
	return lv, uint32(log&0xff) << 8
}

// levels returns how many smaller versions the sampler needs.
func (s *sampler) levels() int {
	if s.mip > 0 {
		return s.level + 1
	}
	return s.level
}

func (s *sampler) hash() uint64 {
	h := mix64(uint64(paintImage), s.t.id)
	h = mix64(h, uint64(uint32(s.dx))<<32|uint64(uint32(s.dy)))
	if s.direct {
		return h
	}
	if s.nearest {
		h++
	}
	for _, v := range [...]int64{s.ua, s.ub, s.uc, s.va, s.vb, s.vc} {
		h = mix64(h, uint64(v))
	}
	return h
}

// color returns the colour at a pixel, for samplers that are not direct.
func (s *sampler) color(x, y int) linear {
	x, y = x-s.dx, y-s.dy
	u := s.ua*int64(x) + s.ub*int64(y) + s.uc
	v := s.va*int64(x) + s.vb*int64(y) + s.vc
	if s.nearest {
		return decode(s.t.texel(0, int(u>>32), int(v>>32)))
	}
	c := s.sample(s.level, u, v)
	if s.mip > 0 {
		d := s.sample(s.level+1, u, v)
		c = mix(&c, &d, s.mip)
	}
	return c
}

// sample interpolates in one level.
func (s *sampler) sample(lv int, u, v int64) linear {
	if lv > 0 {
		w, h := s.t.levelSize(lv)
		u = scaleFixed(u, w, s.t.size.X)
		v = scaleFixed(v, h, s.t.size.Y)
	}
	return s.t.bilinear(lv, u>>24-128, v>>24-128)
}

// scaleFixed returns v*n/d for a 32.32 number, giving up its last 16 bits.
func scaleFixed(v int64, n, d int) int64 { return (v >> 16) * int64(n) / int64(d) << 16 }

func swapRedBlue(px uint32) uint32 {
	return px&0xff00ff00 | px>>16&0xff | px&0xff<<16
}
