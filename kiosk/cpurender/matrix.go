package cpurender

import (
	"image"
	"math"
)

// matrix is an affine transform: x' = sx*x + hx*y + ox, y' = hy*x + sy*y + oy.
//
// All arithmetic goes through float64, where the product of two float32 values
// is exact, and is rounded once: the same bits on every processor.
type matrix struct {
	sx, hx, ox float32
	hy, sy, oy float32
}

var identity = matrix{sx: 1, sy: 1}

// mul returns the transform that applies b first, then a.
func (a matrix) mul(b matrix) matrix {
	return matrix{
		sx: dot2(a.sx, b.sx, a.hx, b.hy, 0),
		hx: dot2(a.sx, b.hx, a.hx, b.sy, 0),
		ox: dot2(a.sx, b.ox, a.hx, b.oy, a.ox),
		hy: dot2(a.hy, b.sx, a.sy, b.hy, 0),
		sy: dot2(a.hy, b.hx, a.sy, b.sy, 0),
		oy: dot2(a.hy, b.ox, a.sy, b.oy, a.oy),
	}
}

// dot2 returns a*b + c*d + e, rounded to float32.
func dot2(a, b, c, d, e float32) float32 {
	p := float64(float64(a) * float64(b))
	q := float64(float64(c) * float64(d))
	return float32(float64(p+q) + float64(e))
}

// apply transforms a point.
func (a matrix) apply(p point) point {
	return point{
		x: dot2(a.sx, p.x, a.hx, p.y, a.ox),
		y: dot2(a.hy, p.x, a.sy, p.y, a.oy),
	}
}

// translation reports whether the linear part is the identity.
func (a matrix) translation() bool {
	return a.sx == 1 && a.sy == 1 && a.hx == 0 && a.hy == 0
}

// straight reports whether axes stay axes (no rotation, no shear).
func (a matrix) straight() bool { return a.hx == 0 && a.hy == 0 }

// maxCoordinate bounds the coordinates that are drawn. A shape beyond is far
// outside of any screen; what it covers of the screen is cut out before.
const maxCoordinate = 1 << 26

// finite reports whether all elements are usable numbers.
func (a matrix) finite() bool {
	return usable(a.sx) && usable(a.hx) && usable(a.ox) && usable(a.hy) && usable(a.sy) && usable(a.oy)
}

// usable reports whether v is neither NaN nor of absurd size.
func usable(v float32) bool { return v > -maxCoordinate && v < maxCoordinate }

// phases is the number of sub-pixel positions of a shape that is only moved, per
// axis. Slowly moving text finds its masks again; the error, a sixteenth of a
// pixel at most, stays within the limits of the oracle test (quarters do not).
const phases = 8

// split separates the whole pixels of the offset from the rest. Under a pure
// translation the remaining fraction is rounded to one of the phases.
func (a matrix) split() (rest matrix, off image.Point) {
	ix, fx := splitOffset(a.ox, a.translation())
	iy, fy := splitOffset(a.oy, a.translation())
	a.ox, a.oy = fx, fy
	return a, image.Pt(ix, iy)
}

func splitOffset(v float32, quantise bool) (whole int, frac float32) {
	f := math.Floor(float64(v))
	r := float64(v) - f
	if quantise {
		r = math.Floor(float64(r*phases)+0.5) / phases
		if r == 1 {
			f, r = f+1, 0
		}
	}
	return int(f), float32(r)
}

// invert returns the inverse transform, and false when there is none.
func (a matrix) invert() (matrix, bool) {
	sx, hx, hy, sy := float64(a.sx), float64(a.hx), float64(a.hy), float64(a.sy)
	det := float64(sx*sy) - float64(hx*hy)
	if det == 0 || math.IsNaN(det) || math.IsInf(det, 0) {
		return matrix{}, false
	}
	isx, ihx, ihy, isy := sy/det, -hx/det, -hy/det, sx/det
	ox, oy := float64(a.ox), float64(a.oy)
	m := matrix{
		sx: float32(isx), hx: float32(ihx),
		hy: float32(ihy), sy: float32(isy),
		ox: float32(-(float64(isx*ox) + float64(ihx*oy))),
		oy: float32(-(float64(ihy*ox) + float64(isy*oy))),
	}
	return m, m.finite()
}

// point is a position in pixels.
type point struct{ x, y float32 }

// rectangle is a rectangle with real borders.
type rectangle struct{ x0, y0, x1, y1 float32 }

// emptyRect grows to any point it meets.
var emptyRect = rectangle{
	x0: float32(math.Inf(1)), y0: float32(math.Inf(1)),
	x1: float32(math.Inf(-1)), y1: float32(math.Inf(-1)),
}

func (r *rectangle) add(p point) {
	r.x0, r.x1 = min(r.x0, p.x), max(r.x1, p.x)
	r.y0, r.y1 = min(r.y0, p.y), max(r.y1, p.y)
}

// round returns the smallest pixel rectangle around r; empty for rectangles
// that are not finite or enclose nothing.
func (r rectangle) round() image.Rectangle {
	if !(r.x0 < r.x1 && r.y0 < r.y1) {
		return image.Rectangle{}
	}
	return image.Rectangle{
		Min: image.Pt(clampInt(math.Floor(float64(r.x0))), clampInt(math.Floor(float64(r.y0)))),
		Max: image.Pt(clampInt(math.Ceil(float64(r.x1))), clampInt(math.Ceil(float64(r.y1)))),
	}
}

func clampInt(v float64) int {
	switch {
	case v > 4*maxCoordinate:
		return 4 * maxCoordinate
	case v < -4*maxCoordinate:
		return -4 * maxCoordinate
	}
	return int(v)
}

// whole reports whether all borders lie on pixel borders.
func (r rectangle) whole() bool {
	return isWhole(r.x0) && isWhole(r.y0) && isWhole(r.x1) && isWhole(r.y1)
}

func isWhole(v float32) bool { return usable(v) && v == float32(math.Floor(float64(v))) }

// corners returns the four corners of r under m, in order around it.
func (m matrix) corners(r rectangle) [4]point {
	return [4]point{
		m.apply(point{r.x0, r.y0}), m.apply(point{r.x1, r.y0}),
		m.apply(point{r.x1, r.y1}), m.apply(point{r.x0, r.y1}),
	}
}
