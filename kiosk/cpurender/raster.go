package cpurender

import (
	"math"
	"math/bits"
)

// raster accumulates the signed area that the edges of a shape cut off from
// each pixel. The running sum of a row is the coverage: exact for straight
// edges, with no sampling.
//
// A row is divided into blocks of 16 pixels. A bit per block tells whether an
// edge touched it, so that the inside of a large shape costs nothing.
type raster struct {
	w, h  int
	cells []float32 // (w+2) per row: one sink right of the area, one spare
	bits  []uint64  // touched blocks, words per row
	words int
	any   bool
}

// blockShift is log2 of the pixels of a block.
const blockShift = 4

// reset prepares an area of w by h pixels. The cells are zero already: sweep
// cleans what it reads.
func (r *raster) reset(w, h int) {
	r.w, r.h = w, h
	n := (w + 2) * h
	if cap(r.cells) < n {
		r.cells = make([]float32, n)
	}
	r.cells = r.cells[:n]
	r.words = ((w+2)>>blockShift + 64) / 64
	n = r.words * h
	if cap(r.bits) < n {
		r.bits = make([]uint64, n)
	}
	r.bits = r.bits[:n]
	r.any = false
}

// scrub forgets everything, after an interrupted use.
func (r *raster) scrub() { *r = raster{} }

// line adds an edge. Edges outside of the area count as far as they matter: to
// the left they cover whole rows, elsewhere they are dropped.
func (r *raster) line(ax, ay, bx, by float64) {
	if ay == by {
		return
	}
	sign := 1.0
	if ay > by {
		ax, ay, bx, by = bx, by, ax, ay
		sign = -1
	}
	h := float64(r.h)
	if by <= 0 || ay >= h {
		return
	}
	slope := (bx - ax) / (by - ay)
	if ay < 0 {
		ax -= float64(ay * slope)
		ay = 0
	}
	if by > h {
		bx = ax + float64((h-ay)*slope)
		by = h
	}
	w := float64(r.w)
	// Cut at the left and the right border.
	switch {
	case ax >= w && bx >= w:
		return
	case ax <= 0 && bx <= 0:
		r.vertical(0, ay, by, sign)
		return
	}
	if ax < 0 {
		y := min(max(ay-ax/slope, ay), by)
		r.vertical(0, ay, y, sign)
		ax, ay = 0, y
	} else if ax > w {
		y := min(max(ay+(w-ax)/slope, ay), by)
		ax, ay = w, y
	}
	if bx < 0 {
		y := min(max(ay-ax/slope, ay), by)
		r.vertical(0, y, by, sign)
		bx, by = 0, y
	} else if bx > w {
		y := min(max(ay+(w-ax)/slope, ay), by)
		bx, by = w, y
	}
	if ay >= by {
		return
	}
	if ax == bx {
		r.vertical(ax, ay, by, sign)
		return
	}
	r.any = true
	stride := r.w + 2
	y := int(ay)
	last := int(math.Ceil(by)) - 1
	x0 := ax
	for ; y <= last; y++ {
		top := max(float64(y), ay)
		bottom := min(float64(y+1), by)
		x1 := bx
		if y < last {
			x1 = min(max(ax+float64((bottom-ay)*slope), 0), w)
		}
		r.segment(r.cells[y*stride:(y+1)*stride], r.bits[y*r.words:(y+1)*r.words], x0, x1, (bottom-top)*sign)
		x0 = x1
	}
}

// segment adds an edge that stays within one row, between x0 and x1, cutting
// off d of its height.
func (r *raster) segment(cells []float32, touched []uint64, x0, x1, d float64) {
	if x0 > x1 {
		x0, x1 = x1, x0
	}
	i := int(x0)
	f0 := x0 - float64(i)
	j := int(math.Ceil(x1))
	if j <= i+1 {
		// Within one pixel: a trapezoid.
		right := float64(d * (float64(0.5*(x0+x1)) - float64(i)))
		cells[i] += float32(d - right)
		cells[i+1] += float32(right)
		mark(touched, i, i+1)
		return
	}
	// Across several pixels: a triangle, full slices, a triangle.
	per := d / (x1 - x0)
	e0 := 1 - f0
	acc := float64(float64(per*e0) * float64(0.5*e0)) // area cut off in the first pixel
	cells[i] += float32(acc)
	done := acc
	reached := float64(per * e0) // height covered at the pixel border
	for k := i + 1; k < j-1; k++ {
		area := reached + float64(0.5*per)
		cells[k] += float32(area - done)
		done = area
		reached += per
	}
	f1 := x1 - float64(j-1)
	area := reached + float64(float64(per*f1)*(1-float64(0.5*f1)))
	cells[j-1] += float32(area - done)
	cells[j] += float32(d - area)
	mark(touched, i, j)
}

// vertical adds an edge at a fixed x.
func (r *raster) vertical(x, y0, y1, sign float64) {
	if y0 >= y1 {
		return
	}
	r.any = true
	i := min(int(x), r.w)
	right := x - float64(i)
	left := 1 - right
	stride := r.w + 2
	for y := int(y0); y < r.h && float64(y) < y1; y++ {
		d := float64((min(float64(y+1), y1) - max(float64(y), y0)) * sign)
		c := r.cells[y*stride:]
		c[i] += float32(d * left)
		c[i+1] += float32(d * right)
		mark(r.bits[y*r.words:(y+1)*r.words], i, i+1)
	}
}

// mark notes that the cells i to j were written.
func mark(touched []uint64, i, j int) {
	for b := i >> blockShift; b <= j>>blockShift; b++ {
		touched[b>>6] |= 1 << (b & 63)
	}
}

// sweep appends the coverage of row y to m and cleans the row.
func (r *raster) sweep(y int, m *maskBuilder) {
	touched := r.bits[y*r.words : (y+1)*r.words]
	cells := r.cells[y*(r.w+2) : (y+1)*(r.w+2)]
	var acc float32
	x := 0
	for wi, word := range touched {
		touched[wi] = 0
		for word != 0 {
			b := wi<<6 + bits.TrailingZeros64(word)
			word &= word - 1
			start := b << blockShift
			if start > x && x < r.w {
				end := min(start, r.w)
				m.run(x, end, coverage(acc))
				x = end
			}
			stop := min(start+1<<blockShift, len(cells))
			for i := start; i < stop; i++ {
				v := cells[i]
				if v != 0 {
					acc += v
					cells[i] = 0
				}
				if i < r.w {
					m.run(i, i+1, coverage(acc))
				}
			}
			x = max(x, stop)
		}
	}
	if x < r.w {
		m.run(x, r.w, coverage(acc))
	}
}

// coverage converts an accumulated signed area to a byte.
func coverage(a float32) uint8 {
	if a < 0 {
		a = -a
	}
	if a >= 1 {
		return 255
	}
	return uint8(float32(a*255) + 0.5)
}
