package cpurender

import (
	"image/color"
	"math"

	"gioui.org/internal/f32color"
)

// A pixel of the target is four bytes: three colour bytes in sRGB, multiplied
// by alpha in linear light, and alpha. They are read and written as one little
// endian word, first byte lowest.

// linear is a colour in linear light, multiplied by its alpha. Colour channels
// run from 0 to 65535; alpha from 0 to 65536, so that it can be a factor.
type linear struct{ c0, c1, c2, a uint32 }

// one is the factor that changes nothing.
const one = 1 << 16

var (
	// toLinear maps an sRGB byte to linear light, 0 to 65535.
	toLinear [256]uint32
	// toSRGB maps linear light, shifted right by two, to the nearest sRGB byte.
	toSRGB [one/4 + 1]uint8
	// factor maps a byte 0..255 to a factor 0..65536.
	factor [256]uint32
)

func init() {
	for i := range toLinear {
		// The product with an alpha of one leaves Gio's own table value.
		l := f32color.LinearFromSRGB(color.NRGBA{R: uint8(i), A: 0xff}).R
		toLinear[i] = uint32(float32(l*65535) + 0.5)
		factor[i] = uint32(i*257 + i>>7)
	}
	v, border := 0, srgbBorder(0)
	for i := range toSRGB {
		l := float64(i*4+2) / 65535
		for v < 255 && l > border {
			v++
			border = srgbBorder(v)
		}
		toSRGB[i] = uint8(v)
	}
	// Where two dark values share a step of the table, decoding and encoding
	// must still give the byte back.
	for i, l := range toLinear {
		toSRGB[l>>2] = uint8(i)
	}
}

// srgbBorder returns the linear light above which v+1 is nearer than v.
func srgbBorder(v int) float64 {
	c := (float64(v) + 0.5) / 255
	if c <= 0.04045 {
		return c / 12.92
	}
	// x^2.4 is the twelfth power of the fifth root. Only the four operations
	// are used, so that the table is the same on every processor.
	x := float64(c+0.055) / 1.055
	z := 1.0
	for range 40 {
		z4 := float64(float64(z*z) * float64(z*z))
		z = float64(float64(4*z)+x/z4) / 5
	}
	z3 := float64(float64(z*z) * z)
	z6 := float64(z3 * z3)
	return float64(z6 * z6)
}

// premultiply converts an sRGB colour without premultiplication. In BGRX order
// the caller has exchanged red and blue.
func premultiply(c color.NRGBA) linear {
	a := uint32(c.A)
	return linear{
		c0: (toLinear[c.R]*a + 127) / 255,
		c1: (toLinear[c.G]*a + 127) / 255,
		c2: (toLinear[c.B]*a + 127) / 255,
		a:  factor[c.A],
	}
}

// decode converts a pixel to linear light.
func decode(px uint32) linear {
	return linear{
		c0: toLinear[px&0xff],
		c1: toLinear[px>>8&0xff],
		c2: toLinear[px>>16&0xff],
		a:  factor[px>>24],
	}
}

// encode converts linear light to a pixel. Channels may exceed one by rounding,
// or wildly for pictures whose colours exceed their alpha; they saturate.
func encode(l linear) uint32 {
	return uint32(toSRGB[min(l.c0, 65535)>>2]) |
		uint32(toSRGB[min(l.c1, 65535)>>2])<<8 |
		uint32(toSRGB[min(l.c2, 65535)>>2])<<16 |
		(min(l.a, one)*255+one/2)>>16<<24
}

// mulFactor multiplies by a factor and rounds.
func mulFactor(v, f uint32) uint32 { return uint32((uint64(v)*uint64(f) + one/2) >> 16) }

// blend draws s with coverage m over the pixel d.
func blend(d uint32, s *linear, m uint32) uint32 {
	a := mulFactor(s.a, m)
	k := one - min(a, one)
	return encode(linear{
		c0: mulFactor(s.c0, m) + mulFactor(toLinear[d&0xff], k),
		c1: mulFactor(s.c1, m) + mulFactor(toLinear[d>>8&0xff], k),
		c2: mulFactor(s.c2, m) + mulFactor(toLinear[d>>16&0xff], k),
		a:  a + mulFactor(factor[d>>24], k),
	})
}

// mix returns the colour at t (0..65536) between a and b.
func mix(a, b *linear, t uint32) linear {
	return linear{
		c0: lerp(a.c0, b.c0, t), c1: lerp(a.c1, b.c1, t),
		c2: lerp(a.c2, b.c2, t), a: lerp(a.a, b.a, t),
	}
}

func lerp(a, b, t uint32) uint32 {
	return uint32((uint64(a)*uint64(one-t) + uint64(b)*uint64(t) + one/2) >> 16)
}

// opacityFactor converts an opacity 0..1 to a factor.
func opacityFactor(o float32) uint32 {
	if !(o > 0) { // also NaN
		return 0
	}
	return uint32(math.Floor(float64(float64(min(o, 1))*one) + 0.5))
}
