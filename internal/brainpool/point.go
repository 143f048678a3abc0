package brainpool

// point is a point of the twisted curve in projective coordinates (x/z, y/z), Montgomery form; z = 0 is infinity.
type point struct{ x, y, z fe }

// infinity is the neutral element.
func (c *Curve) infinity() point { return point{y: c.p.one} }

// add sets r = p + q. The formula is complete: it holds for every pair of points, doubling and infinity included, with
// the same sequence of operations (Renes, Costello, Batina: Complete addition formulas for prime order elliptic curves,
// 2015, chapter 3.2 with a = -3).
func (c *Curve) add(r, p, q *point) {
	f := &c.p
	var a, b, z, xy, yz, xz, s, t fe
	f.mul(&a, &p.x, &q.x)
	f.mul(&b, &p.y, &q.y)
	f.mul(&z, &p.z, &q.z)
	// Cross sums: x₁y₂+x₂y₁, y₁z₂+y₂z₁, x₁z₂+x₂z₁.
	f.add(&s, &p.x, &p.y)
	f.add(&t, &q.x, &q.y)
	f.mul(&xy, &s, &t)
	f.sub(&xy, &xy, &a)
	f.sub(&xy, &xy, &b)
	f.add(&s, &p.y, &p.z)
	f.add(&t, &q.y, &q.z)
	f.mul(&yz, &s, &t)
	f.sub(&yz, &yz, &b)
	f.sub(&yz, &yz, &z)
	f.add(&s, &p.x, &p.z)
	f.add(&t, &q.x, &q.z)
	f.mul(&xz, &s, &t)
	f.sub(&xz, &xz, &a)
	f.sub(&xz, &xz, &z)

	u, v, plus, minus := c.mixed(&a, &b, &z, &xz)
	// x = xy·(b+w) - yz·v, y = (b+w)(b-w) + u·v, z = yz·(b-w) + xy·u
	f.mul(&s, &xy, &plus)
	f.mul(&t, &yz, &v)
	f.sub(&r.x, &s, &t)
	f.mul(&s, &plus, &minus)
	f.mul(&t, &u, &v)
	f.add(&r.y, &s, &t)
	f.mul(&s, &yz, &minus)
	f.mul(&t, &xy, &u)
	f.add(&r.z, &s, &t)
}

// double sets r = 2p, for every p.
func (c *Curve) double(r, p *point) {
	f := &c.p
	var a, b, z, xy, yz, xz, s, t fe
	f.mul(&a, &p.x, &p.x)
	f.mul(&b, &p.y, &p.y)
	f.mul(&z, &p.z, &p.z)
	f.mul(&xy, &p.x, &p.y)
	f.add(&xy, &xy, &xy)
	f.mul(&yz, &p.y, &p.z)
	f.add(&yz, &yz, &yz)
	f.mul(&xz, &p.x, &p.z)
	f.add(&xz, &xz, &xz)

	u, v, plus, minus := c.mixed(&a, &b, &z, &xz)
	f.mul(&s, &xy, &plus)
	f.mul(&t, &yz, &v)
	f.sub(&r.x, &s, &t)
	f.mul(&s, &plus, &minus)
	f.mul(&t, &u, &v)
	f.add(&r.y, &s, &t)
	f.mul(&s, &yz, &b) // z = 8y³z
	f.add(&s, &s, &s)
	f.add(&r.z, &s, &s)
}

// mixed computes the values that addition and doubling share: u = 3(a-z), v = 3(bt·xz - 3z - a), w = 3(xz - bt·z),
// plus = b+w, minus = b-w.
func (c *Curve) mixed(a, b, z, xz *fe) (u, v, plus, minus fe) {
	f := &c.p
	var w, z3 fe
	f.mul(&w, &c.bt, z)
	f.sub(&w, xz, &w)
	f.triple(&w, &w)
	f.add(&plus, b, &w)
	f.sub(&minus, b, &w)
	f.triple(&z3, z)
	f.mul(&v, &c.bt, xz)
	f.sub(&v, &v, &z3)
	f.sub(&v, &v, a)
	f.triple(&v, &v)
	f.sub(&u, a, z)
	f.triple(&u, &u)
	return u, v, plus, minus
}

func (f *modulus) triple(z, x *fe) {
	var t fe
	f.add(&t, x, x)
	f.add(z, &t, x)
}

// pick copies table[digit] to r, touching every entry so that neither time nor cache shows the digit.
func (c *Curve) pick(r *point, table []point, digit byte) {
	*r = point{}
	n := c.p.n
	for i := range table {
		d := uint64(byte(i) ^ digit)
		mask := (d - 1) >> 63 // 1 where equal
		mask = -mask
		t := &table[i]
		for j := range n {
			r.x[j] |= t.x[j] & mask
			r.y[j] |= t.y[j] & mask
			r.z[j] |= t.z[j] & mask
		}
	}
}

// scalarMult sets r = k·p for the secret scalar k (big-endian, the curve's width): fixed windows of four bits, complete
// additions, every table entry read.
func (c *Curve) scalarMult(r, p *point, k []byte) {
	var table [16]point
	table[0], table[1] = c.infinity(), *p
	for i := 2; i < len(table); i++ {
		c.add(&table[i], &table[i-1], p)
	}
	acc, q := c.infinity(), point{}
	for _, octet := range k {
		for _, digit := range [2]byte{octet >> 4, octet & 15} {
			for range 4 {
				c.double(&acc, &acc)
			}
			c.pick(&q, table[:], digit)
			c.add(&acc, &acc, &q)
		}
	}
	*r = acc
}

// newCombTable computes d·16^i·p for each digit d and each position i of a scalar, position 0 first.
func (c *Curve) newCombTable(p *point) []point {
	table := make([]point, 0, 2*c.size*16)
	base := *p
	for range 2 * c.size {
		row := [16]point{0: c.infinity()}
		for d := 1; d < len(row); d++ {
			c.add(&row[d], &row[d-1], &base)
		}
		table = append(table, row[:]...)
		c.add(&base, &row[15], &base)
	}
	return table
}

// baseMult sets r = k·G for the secret scalar k (big-endian, the curve's width).
func (c *Curve) baseMult(r *point, k []byte) {
	table := c.combTable()
	acc, q := c.infinity(), point{}
	for i := range 2 * len(k) {
		digit := k[len(k)-1-i/2]
		if i%2 == 1 {
			digit >>= 4
		}
		c.pick(&q, table[16*i:16*i+16], digit&15)
		c.add(&acc, &acc, &q)
	}
	*r = acc
}

// affine returns the coordinates of p on the curve itself (not its twin), out of Montgomery form. p is not infinity.
func (c *Curve) affine(p *point) (x, y fe) {
	f := &c.p
	var inv fe
	f.inv(&inv, &p.z)
	f.mul(&x, &p.x, &inv)
	f.mul(&x, &x, &c.invZ2)
	f.fromMont(&x, &x)
	f.mul(&y, &p.y, &inv)
	f.mul(&y, &y, &c.invZ3)
	f.fromMont(&y, &y)
	return x, y
}

// Windows of the signature check, in bits: the base point's table is computed once and may be larger.
const (
	baseWindow = 8
	keyWindow  = 5
)

// newOddTable computes p, 3p, 5p, ... for signed windows of the given width.
func (c *Curve) newOddTable(p *point, width int) []point {
	table := make([]point, 1<<(width-2))
	var twice point
	c.double(&twice, p)
	table[0] = *p
	for i := 1; i < len(table); i++ {
		c.add(&table[i], &table[i-1], &twice)
	}
	return table
}

// doubleMultVartime sets r = u·G + v·q. Its running time depends on the scalars: for public values only (the check of a
// signature).
func (c *Curve) doubleMultVartime(r *point, u, v *fe, q *point) {
	uDigits, vDigits := signedDigitsVartime(u, baseWindow), signedDigitsVartime(v, keyWindow)
	uTable, vTable := c.oddTable(), c.newOddTable(q, keyWindow)
	acc := c.infinity()
	for i := 64 * c.n.n; i >= 0; i-- {
		c.double(&acc, &acc)
		c.addDigitVartime(&acc, uTable, uDigits[i])
		c.addDigitVartime(&acc, vTable, vDigits[i])
	}
	*r = acc
}

func (c *Curve) addDigitVartime(acc *point, table []point, digit int8) {
	switch {
	case digit > 0:
		c.add(acc, acc, &table[digit/2])
	case digit < 0:
		neg := table[-digit/2]
		c.p.sub(&neg.y, &fe{}, &neg.y)
		c.add(acc, acc, &neg)
	}
}

// signedDigitsVartime writes k as a sum of digit·2^i with odd digits of absolute value below 2^(width-1), at least
// width-1 zeros between two of them.
func signedDigitsVartime(k *fe, width int) (digits [64*maxLimbs + 1]int8) {
	var octets [8*maxLimbs + 2]int // little-endian, with room for the window that reads past the end
	for i := range 8 * maxLimbs {
		octets[i] = int(k[i/8] >> (8 * (i % 8)) & 0xff)
	}
	carry := 0
	for i := 0; i < len(digits); {
		window := (octets[i/8] | octets[i/8+1]<<8) >> (i % 8) & (1<<width - 1)
		if window&1 == carry { // bit and carry sum to 0 or 2: digit 0, the same carry
			i++
			continue
		}
		window += carry
		carry = window >> (width - 1)
		digits[i] = int8(window - carry<<width)
		i += width
	}
	return digits
}
