package cpurender

import (
	"encoding/binary"
	"image"
)

// surface is a picture being painted: the target or an opacity layer. Its
// pixels are those of r.
type surface struct {
	pix    []byte
	stride int
	r      image.Rectangle
}

// row returns the pixels x0 to x1 of row y.
func (s *surface) row(y, x0, x1 int) []byte {
	i := (y-s.r.Min.Y)*s.stride + (x0-s.r.Min.X)*4
	return s.pix[i : i+(x1-x0)*4 : i+(x1-x0)*4]
}

// clear makes an area transparent black.
func (s *surface) clear(r image.Rectangle) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		clear(s.row(y, r.Min.X, r.Max.X))
	}
}

func load(p []byte) uint32     { return binary.LittleEndian.Uint32(p) }
func store(p []byte, v uint32) { binary.LittleEndian.PutUint32(p, v) }

// fill sets all pixels of a row.
func fill(row []byte, px uint32) {
	if len(row) == 0 {
		return
	}
	n := min(len(row), 64)
	for i := 0; i+4 <= n; i += 4 {
		store(row[i:], px)
	}
	for n < len(row) {
		n += copy(row[n:], row[:n])
	}
}

// ramp remembers what a colour over one background gives for each coverage. A
// line of text is then one look-up per pixel.
type ramp struct {
	color uint32
	under uint32
	used  bool
	known [4]uint64
	px    [256]uint32
}

// rampCount is the number of ramps of a worker, a power of two.
const rampCount = 64

// rampFor returns the ramp of a colour over a background.
func (w *worker) rampFor(color, under uint32) *ramp {
	h := (color*0x9e3779b1 ^ under*0x85ebca6b)
	r := &w.ramps[(h>>16^h>>5)&(rampCount-1)]
	if r.color != color || r.under != under || !r.used {
		r.color, r.under, r.used = color, under, true
		r.known = [4]uint64{}
	}
	return r
}

// at returns the pixel for a coverage.
func (r *ramp) at(c uint8, s *linear) uint32 {
	if r.known[c>>6]>>(c&63)&1 != 0 {
		return r.px[c]
	}
	px := blend(r.under, s, factor[c])
	r.px[c] = px
	r.known[c>>6] |= 1 << (c & 63)
	return px
}

// colorSolid paints a run with a colour.
func (w *worker) colorSolid(row []byte, cmd *drawCommand) {
	if cmd.opaque {
		fill(row, cmd.pixel)
		return
	}
	for len(row) > 0 {
		under := load(row)
		px := blend(under, &cmd.color, one)
		n := 4
		for pair := uint64(under)<<32 | uint64(under); n+8 <= len(row); n += 8 {
			if binary.LittleEndian.Uint64(row[n:]) != pair {
				break
			}
		}
		for n < len(row) && load(row[n:]) == under {
			n += 4
		}
		fill(row[:n], px)
		row = row[n:]
	}
}

// colorCover paints a run with a colour under varying coverage.
func (w *worker) colorCover(row []byte, cmd *drawCommand, cover []uint8) {
	if len(cover) == 0 {
		return
	}
	row = row[:4*len(cover)]
	r := w.rampFor(cmd.pixel, load(row))
	for i, c := range cover {
		if c == 0 {
			continue
		}
		p := row[4*i : 4*i+4 : 4*i+4]
		under := load(p)
		if under != r.under {
			r = w.rampFor(cmd.pixel, under)
		}
		if r.known[c>>6]>>(c&63)&1 != 0 {
			store(p, r.px[c])
		} else {
			store(p, r.at(c, &cmd.color))
		}
	}
}

// linearCover paints a run of computed colours under varying coverage; nil
// means complete.
func linearCover(row []byte, src []linear, cover []uint8) {
	for i := range src {
		s := &src[i]
		p := row[4*i : 4*i+4 : 4*i+4]
		if cover == nil || cover[i] == 255 {
			if s.a >= one {
				store(p, encode(*s))
			} else if s.a != 0 || s.c0|s.c1|s.c2 != 0 {
				store(p, blend(load(p), s, one))
			}
			continue
		}
		if c := cover[i]; c != 0 {
			store(p, blend(load(p), s, factor[c]))
		}
	}
}

// pixelCover paints a run of image pixels under varying coverage; nil means
// complete.
func pixelCover(row, src []byte, swap bool, cover []uint8) {
	for i := 0; i < len(row); i += 4 {
		px := load(src[i:])
		if px == 0 {
			continue
		}
		if swap {
			px = swapRedBlue(px)
		}
		m := uint32(one)
		if cover != nil {
			c := cover[i/4]
			if c == 0 {
				continue
			}
			m = factor[c]
		}
		if m == one && px>>24 == 0xff {
			store(row[i:], px)
			continue
		}
		s := decode(px)
		store(row[i:], blend(load(row[i:]), &s, m))
	}
}

// layerOver blends a row of a layer over a row below, with the opacity m.
func layerOver(row, src []byte, m uint32) {
	for i := 0; i < len(row); i += 4 {
		px := load(src[i:])
		if px == 0 {
			continue
		}
		if m == one && px>>24 == 0xff {
			store(row[i:], px)
			continue
		}
		s := decode(px)
		store(row[i:], blend(load(row[i:]), &s, m))
	}
}
