package brainpool

import (
	"encoding/binary"
	"math/bits"
)

// maxLimbs is the number of 64-bit limbs of the largest modulus (512 bits).
const maxLimbs = 8

// fe is an integer below a modulus, little-endian limbs; those beyond the modulus' width are zero. Most values are kept
// in Montgomery form (multiplied by R = 2^(64·limbs)).
type fe [maxLimbs]uint64

// modulus is an odd prime with the arithmetic modulo it. No function here branches or indexes on the value of an
// operand; only the width, which is public, decides. Every prime of this package fills its limbs (top bit set).
type modulus struct {
	n    int    // limbs in use: 4, 6 or 8
	m    fe     // the prime
	m0   uint64 // -m^-1 mod 2^64
	one  fe     // R mod m: 1 in Montgomery form
	rr   fe     // R² mod m
	less []byte // m-2, big-endian: the public exponent of the inversion
}

func (f *modulus) init(prime []byte) {
	f.n = len(prime) / 8
	f.m = limbs(prime)
	inv := uint64(1)
	for range 6 { // Newton: each step doubles the number of right bits
		inv *= 2 - f.m[0]*inv
	}
	f.m0 = -inv
	// R mod m = 2^(64n) - m, because the top bit of m is set.
	borrow := uint64(0)
	for i := range f.n {
		f.one[i], borrow = bits.Sub64(0, f.m[i], borrow)
	}
	f.rr = f.one
	for range 64 * f.n {
		f.add(&f.rr, &f.rr, &f.rr)
	}
	f.less = append([]byte(nil), prime...)
	f.less[len(f.less)-1] -= 2 // every prime here ends in an octet above 2
}

// limbs reads up to 64 big-endian octets.
func limbs(b []byte) (z fe) {
	var buf [8 * maxLimbs]byte
	copy(buf[len(buf)-len(b):], b)
	for i := range z {
		z[i] = binary.BigEndian.Uint64(buf[len(buf)-8*(i+1):])
	}
	return z
}

// setBytes reads b, which has the modulus' width, and returns 1 when the value is below the modulus, 0 otherwise.
func (f *modulus) setBytes(z *fe, b []byte) uint64 {
	*z = limbs(b)
	borrow := uint64(0)
	for i := range f.n {
		_, borrow = bits.Sub64(z[i], f.m[i], borrow)
	}
	return borrow
}

// bytes returns x, which is not in Montgomery form, with the modulus' width.
func (f *modulus) bytes(x *fe) []byte {
	b := make([]byte, 8*f.n)
	for i := range f.n {
		binary.BigEndian.PutUint64(b[8*(f.n-1-i):], x[i])
	}
	return b
}

// reduce subtracts the modulus once where x is not below it. As the modulus fills its limbs this reduces any value of
// that width.
func (f *modulus) reduce(z, x *fe, carry uint64) {
	var d fe
	borrow := uint64(0)
	for i := range f.n {
		d[i], borrow = bits.Sub64(x[i], f.m[i], borrow)
	}
	_, borrow = bits.Sub64(carry, 0, borrow)
	mask := -borrow // all ones: keep x
	for i := range f.n {
		z[i] = x[i]&mask | d[i]&^mask
	}
}

func (f *modulus) add(z, x, y *fe) {
	if f.n == 4 {
		add4(z, x, y, &f.m)
		return
	}
	var s fe
	carry := uint64(0)
	for i := range f.n {
		s[i], carry = bits.Add64(x[i], y[i], carry)
	}
	f.reduce(z, &s, carry)
}

func (f *modulus) sub(z, x, y *fe) {
	if f.n == 4 {
		sub4(z, x, y, &f.m)
		return
	}
	var d fe
	borrow := uint64(0)
	for i := range f.n {
		d[i], borrow = bits.Sub64(x[i], y[i], borrow)
	}
	mask := -borrow
	carry := uint64(0)
	for i := range f.n {
		z[i], carry = bits.Add64(d[i], f.m[i]&mask, carry)
	}
}

// mul is the Montgomery product x·y/R (coarsely integrated operand scanning).
func (f *modulus) mul(z, x, y *fe) {
	if f.n == 4 {
		mul4(z, x, y, &f.m, f.m0)
		return
	}
	var t [maxLimbs + 2]uint64
	n := f.n
	for i := range n {
		carry := uint64(0)
		for j := range n {
			carry, t[j] = mulAdd(x[i], y[j], t[j], carry)
		}
		t[n], t[n+1] = bits.Add64(t[n], carry, 0)
		q := t[0] * f.m0
		carry, _ = mulAdd(q, f.m[0], t[0], 0)
		for j := 1; j < n; j++ {
			carry, t[j-1] = mulAdd(q, f.m[j], t[j], carry)
		}
		var c uint64
		t[n-1], c = bits.Add64(t[n], carry, 0)
		t[n] = t[n+1] + c
	}
	carry := t[n]
	f.reduce(z, (*fe)(t[:maxLimbs]), carry)
	for i := n; i < maxLimbs; i++ {
		z[i] = 0
	}
}

// mulAdd returns a·b + c + d, which never exceeds 128 bits.
func mulAdd(a, b, c, d uint64) (hi, lo uint64) {
	hi, lo = bits.Mul64(a, b)
	var carry uint64
	lo, carry = bits.Add64(lo, c, 0)
	hi += carry
	lo, carry = bits.Add64(lo, d, 0)
	return hi + carry, lo
}

func (f *modulus) toMont(z, x *fe)   { f.mul(z, x, &f.rr) }
func (f *modulus) fromMont(z, x *fe) { f.mul(z, x, &fe{1}) }

// inv is x^(m-2), the inverse of x (0 for 0), in Montgomery form. The exponent is public, so the sequence of operations is
// the same for every x.
func (f *modulus) inv(z, x *fe) {
	var pow [16]fe
	pow[0], pow[1] = f.one, *x
	for i := 2; i < len(pow); i++ {
		f.mul(&pow[i], &pow[i-1], x)
	}
	r := f.one
	for _, octet := range f.less {
		for _, digit := range [2]byte{octet >> 4, octet & 15} {
			f.mul(&r, &r, &r)
			f.mul(&r, &r, &r)
			f.mul(&r, &r, &r)
			f.mul(&r, &r, &r)
			f.mul(&r, &r, &pow[digit])
		}
	}
	*z = r
}

// isZero returns 1 for 0 and 0 otherwise.
func (x *fe) isZero() uint64 {
	var or uint64
	for _, v := range x {
		or |= v
	}
	return 1 ^ (or|-or)>>63
}

// equal returns 1 when x and y are the same number.
func (x *fe) equal(y *fe) uint64 {
	var d fe
	for i := range x {
		d[i] = x[i] ^ y[i]
	}
	return d.isZero()
}

func add4(z, x, y, m *fe) {
	s0, c := bits.Add64(x[0], y[0], 0)
	s1, c := bits.Add64(x[1], y[1], c)
	s2, c := bits.Add64(x[2], y[2], c)
	s3, c := bits.Add64(x[3], y[3], c)
	reduce4(z, s0, s1, s2, s3, c, m)
}

func sub4(z, x, y, m *fe) {
	d0, b := bits.Sub64(x[0], y[0], 0)
	d1, b := bits.Sub64(x[1], y[1], b)
	d2, b := bits.Sub64(x[2], y[2], b)
	d3, b := bits.Sub64(x[3], y[3], b)
	mask := -b
	var c uint64
	z[0], c = bits.Add64(d0, m[0]&mask, 0)
	z[1], c = bits.Add64(d1, m[1]&mask, c)
	z[2], c = bits.Add64(d2, m[2]&mask, c)
	z[3], _ = bits.Add64(d3, m[3]&mask, c)
}

func reduce4(z *fe, t0, t1, t2, t3, carry uint64, m *fe) {
	d0, b := bits.Sub64(t0, m[0], 0)
	d1, b := bits.Sub64(t1, m[1], b)
	d2, b := bits.Sub64(t2, m[2], b)
	d3, b := bits.Sub64(t3, m[3], b)
	_, b = bits.Sub64(carry, 0, b)
	mask := -b
	z[0] = d0 ^ (d0^t0)&mask
	z[1] = d1 ^ (d1^t1)&mask
	z[2] = d2 ^ (d2^t2)&mask
	z[3] = d3 ^ (d3^t3)&mask
}

// mul4 is mul for four limbs, kept in registers.
func mul4(z, x, y, m *fe, m0 uint64) {
	var t0, t1, t2, t3, t4 uint64
	y0, y1, y2, y3 := y[0], y[1], y[2], y[3]
	p0, p1, p2, p3 := m[0], m[1], m[2], m[3]
	for i := range 4 {
		a := x[i]
		h0, l0 := bits.Mul64(a, y0)
		h1, l1 := bits.Mul64(a, y1)
		h2, l2 := bits.Mul64(a, y2)
		h3, l3 := bits.Mul64(a, y3)
		var c, t5 uint64
		t0, c = bits.Add64(t0, l0, 0)
		t1, c = bits.Add64(t1, l1, c)
		t2, c = bits.Add64(t2, l2, c)
		t3, c = bits.Add64(t3, l3, c)
		t4, t5 = bits.Add64(t4, 0, c)
		t1, c = bits.Add64(t1, h0, 0)
		t2, c = bits.Add64(t2, h1, c)
		t3, c = bits.Add64(t3, h2, c)
		t4, c = bits.Add64(t4, h3, c)
		t5 += c

		q := t0 * m0
		h0, l0 = bits.Mul64(q, p0)
		h1, l1 = bits.Mul64(q, p1)
		h2, l2 = bits.Mul64(q, p2)
		h3, l3 = bits.Mul64(q, p3)
		_, c = bits.Add64(t0, l0, 0)
		t0, c = bits.Add64(t1, l1, c)
		t1, c = bits.Add64(t2, l2, c)
		t2, c = bits.Add64(t3, l3, c)
		t3, c = bits.Add64(t4, 0, c)
		t4 = t5 + c
		t0, c = bits.Add64(t0, h0, 0)
		t1, c = bits.Add64(t1, h1, c)
		t2, c = bits.Add64(t2, h2, c)
		t3, c = bits.Add64(t3, h3, c)
		t4 += c
	}
	reduce4(z, t0, t1, t2, t3, t4, m)
}
