package brainpool

import (
	"bytes"
	"fmt"
	"io"
	"math/big"
	"testing"
)

// secretPoint and publicPoint are what the generated types of points have in common.
type secretPoint[P any] interface {
	*P
	infinity()
	doubleTimes(n int)
}

type publicPoint[J, A any] interface {
	*J
	isInfinity() bool
	double()
	addVartime(q *J)
	addAffineVartime(q *A, negative bool)
}

// groupOf is the inside of a group with its types for numbers, points and tables.
type groupOf[F, S, P, A, J, C any] interface {
	group
	add(r, p, q *P)
	addAffine(r, p *P, q *A)
	double(r, p *P)
	mult(r *P, p *A, k *S)
	baseMult(r *P, k *S)
	affine(p *P) (x, y F)
	newCombVartime(p *A, l combLayout) *C
	doubleMultVartime(r *J, u, v *S, q *A)
	combMultVartime(r *J, u, v *S, table *C)
	hasXVartime(p *J, r *S) bool
}

// inside gives the tests of one curve access to its group.
type inside[F, S, P, A, J, C any, PF number[F], PS number[S], PP secretPoint[P], PJ publicPoint[J, A]] struct {
	c         *Curve
	s         slow
	g         groupOf[F, S, P, A, J, C]
	normalize func([]A, []J)
}

// eachInside runs the tests of all three groups.
func eachInside(t *testing.T, run func(t *testing.T, in insider)) {
	t.Helper()
	eachCurve(t, func(t *testing.T, c *Curve, s slow) {
		switch g := c.group.(type) {
		case *p256Group:
			run(t, &inside[p256Field, p256Scalar, p256Point, p256Affine, p256Jacobian, p256Comb, *p256Field, *p256Scalar, *p256Point, *p256Jacobian]{c, s, g, normalizeP256Vartime})
		case *p384Group:
			run(t, &inside[p384Field, p384Scalar, p384Point, p384Affine, p384Jacobian, p384Comb, *p384Field, *p384Scalar, *p384Point, *p384Jacobian]{c, s, g, normalizeP384Vartime})
		case *p512Group:
			run(t, &inside[p512Field, p512Scalar, p512Point, p512Affine, p512Jacobian, p512Comb, *p512Field, *p512Scalar, *p512Point, *p512Jacobian]{c, s, g, normalizeP512Vartime})
		}
	})
}

type insider interface {
	additions(t *testing.T)
	multiples(t *testing.T)
	combs(t *testing.T)
}

// xy is a point of the slow reference; x is nil for infinity.
type xy struct{ x, y *big.Int }

func (s slow) times(k *big.Int, p xy) (r xy) { r.x, r.y = s.mult(k, p.x, p.y); return r }
func (s slow) plus(p, q xy) (r xy)           { r.x, r.y = s.add(p.x, p.y, q.x, q.y); return r }
func (s slow) base() xy                      { return xy{s.gx, s.gy} }

func (in *inside[F, S, P, A, J, C, PF, PS, PP, PJ]) scalar(k *big.Int) (z S) {
	PS(&z).setBytes(fill(in.c, new(big.Int).Mod(k, in.s.n)))
	return z
}

// affine turns a point of the reference other than infinity into one of the package.
func (in *inside[F, S, P, A, J, C, PF, PS, PP, PJ]) affine(t *testing.T, p xy) *A {
	t.Helper()
	a, err := in.g.parse(append(fill(in.c, p.x), fill(in.c, p.y)...))
	if err != nil {
		t.Fatal(err)
	}
	return a.(*A)
}

func (in *inside[F, S, P, A, J, C, PF, PS, PP, PJ]) secret(t *testing.T, p xy) (r P) {
	t.Helper()
	PP(&r).infinity()
	if p.x != nil {
		in.g.addAffine(&r, &r, in.affine(t, p))
	}
	return r
}

func (in *inside[F, S, P, A, J, C, PF, PS, PP, PJ]) public(t *testing.T, p xy) (r J) {
	t.Helper()
	if p.x != nil {
		PJ(&r).addAffineVartime(in.affine(t, p), false)
	}
	return r
}

// same compares a point with the reference's.
func (in *inside[F, S, P, A, J, C, PF, PS, PP, PJ]) same(t *testing.T, what string, p *P, want xy) {
	t.Helper()
	x, y := in.g.affine(p)
	got := append(PF(&x).appendBytes(nil), PF(&y).appendBytes(nil)...)
	expected := make([]byte, 2*in.c.size) // as (0, 0) is on none of the curves, it stands for infinity
	if want.x != nil {
		expected = append(fill(in.c, want.x), fill(in.c, want.y)...)
	}
	if !bytes.Equal(got, expected) {
		t.Errorf("%s = %x, want %x", what, got, expected)
	}
}

func (in *inside[F, S, P, A, J, C, PF, PS, PP, PJ]) sameVartime(t *testing.T, what string, p *J, want xy) {
	t.Helper()
	var q P
	PP(&q).infinity()
	if !PJ(p).isInfinity() {
		var a [1]A
		in.normalize(a[:], []J{*p})
		in.g.addAffine(&q, &q, &a[0])
	}
	in.same(t, what, &q, want)
	// And by the comparison that the check of signatures makes.
	if want.x != nil {
		k := in.scalar(want.x)
		if !in.g.hasXVartime(p, &k) {
			t.Errorf("%s: hasX refuses its x-coordinate", what)
		}
	}
	other := in.scalar(big.NewInt(12345))
	if in.g.hasXVartime(p, &other) {
		t.Errorf("%s: hasX takes another number", what)
	}
}

// additions adds every pair of a set that holds infinity, equal and opposite points, by every formula.
func (in *inside[F, S, P, A, J, C, PF, PS, PP, PJ]) additions(t *testing.T) {
	var points []xy
	for _, k := range []int64{0, 1, -1, 2, -2, 3, 4, 7, -7} {
		points = append(points, in.s.times(new(big.Int).Mod(big.NewInt(k), in.s.n), in.s.base()))
	}
	// The same points with another z: as sums.
	scaled := func(p xy) (secret P, public J) {
		five, rest := in.s.times(big.NewInt(5), in.s.base()), xy{}
		rest = in.s.plus(p, in.s.times(new(big.Int).Sub(in.s.n, big.NewInt(5)), in.s.base()))
		secret, public = in.secret(t, five), in.public(t, five)
		a, b := in.secret(t, rest), in.public(t, rest)
		in.g.add(&secret, &secret, &a)
		PJ(&public).addVartime(&b)
		return secret, public
	}
	for i, p := range points {
		for j, q := range points {
			want := in.s.plus(p, q)
			what := fmt.Sprintf("point %d + point %d", i, j)
			for variant, pair := range map[string][2]func(xy) (P, J){
				"plain":  {func(p xy) (P, J) { return in.secret(t, p), in.public(t, p) }, func(p xy) (P, J) { return in.secret(t, p), in.public(t, p) }},
				"scaled": {scaled, scaled},
			} {
				ps, pp := pair[0](p)
				qs, qp := pair[1](q)
				var r P
				in.g.add(&r, &ps, &qs)
				in.same(t, what+" "+variant, &r, want)
				sum := pp
				PJ(&sum).addVartime(&qp)
				in.sameVartime(t, what+" Jacobian "+variant, &sum, want)
				if q.x != nil {
					a := in.affine(t, q)
					in.g.addAffine(&r, &ps, a)
					in.same(t, what+" affine "+variant, &r, want)
					sum = pp
					PJ(&sum).addAffineVartime(a, false)
					in.sameVartime(t, what+" Jacobian affine "+variant, &sum, want)
					sum = pp
					PJ(&sum).addAffineVartime(a, true)
					in.sameVartime(t, what+" Jacobian affine negated "+variant, &sum, in.s.plus(p, xy{q.x, new(big.Int).Sub(in.s.p, q.y)}))
				}
			}
		}
		ps, pp := scaled(p)
		in.g.double(&ps, &ps)
		in.same(t, fmt.Sprintf("double of point %d", i), &ps, in.s.plus(p, p))
		times := ps
		PP(&times).doubleTimes(3)
		in.same(t, fmt.Sprintf("point %d doubled four times", i), &times, in.s.times(big.NewInt(16), p))
		PJ(&pp).double()
		in.sameVartime(t, fmt.Sprintf("double of point %d Jacobian", i), &pp, in.s.plus(p, p))
	}
}

// scalars are edge cases of every recoding, and random ones.
func (in *inside[F, S, P, A, J, C, PF, PS, PP, PJ]) scalars() []*big.Int {
	var out []*big.Int
	one := big.NewInt(1)
	for _, k := range []int64{0, 1, 2, 3, 15, 16, 17, 31, 32, 33} {
		out = append(out, big.NewInt(k), new(big.Int).Mod(big.NewInt(-k), in.s.n))
	}
	for i := 64; i < 8*in.c.size; i += 64 {
		edge := new(big.Int).Lsh(one, uint(i))
		out = append(out, edge, new(big.Int).Sub(edge, one))
	}
	out = append(out, new(big.Int).Rsh(in.s.n, 1), new(big.Int).Lsh(one, uint(8*in.c.size-1)))
	rng := repeatable(2)
	for range 6 {
		b := make([]byte, in.c.size)
		io.ReadFull(rng, b)
		k := new(big.Int).SetBytes(b)
		out = append(out, k.Mod(k, in.s.n))
	}
	return out
}

// multiples compares every multiplication with the reference's.
func (in *inside[F, S, P, A, J, C, PF, PS, PP, PJ]) multiples(t *testing.T) {
	s := in.s
	rng := repeatable(3)
	b := make([]byte, in.c.size)
	io.ReadFull(rng, b)
	secret := new(big.Int).SetBytes(b)
	scalars := in.scalars()
	// Q = G and Q = -G make the two halves of the interleaved multiplication meet in equal and opposite points.
	for name, q := range map[string]xy{
		"G": s.base(), "-G": {s.gx, new(big.Int).Sub(s.p, s.gy)}, "Q": s.times(secret, s.base()),
	} {
		point := in.affine(t, q)
		small, large := in.g.newCombVartime(point, SmallTable.layout(8*in.c.size)), in.g.newCombVartime(point, LargeTable.layout(8*in.c.size))
		for i, u := range scalars {
			if in.c.size > 32 && i%4 != 0 { // the reference is slow
				continue
			}
			ku := in.scalar(u)
			var r P
			if name == "G" {
				in.g.baseMult(&r, &ku)
				in.same(t, fmt.Sprintf("%x·G", u), &r, s.times(u, q))
			}
			in.g.mult(&r, point, &ku)
			in.same(t, fmt.Sprintf("%x·%s", u, name), &r, s.times(u, q))
			others := []*big.Int{scalars[len(scalars)-1-i]}
			if name != "Q" {
				others = append(others, u, new(big.Int).Mod(new(big.Int).Neg(u), s.n)) // sum infinity, or doubled
			}
			for _, v := range others {
				kv := in.scalar(v)
				want := s.plus(s.times(u, s.base()), s.times(v, q))
				what := fmt.Sprintf("%x·G + %x·%s", u, v, name)
				var j J
				in.g.doubleMultVartime(&j, &ku, &kv, point)
				in.sameVartime(t, what, &j, want)
				in.g.combMultVartime(&j, &ku, &kv, small)
				in.sameVartime(t, what+" with small table", &j, want)
				in.g.combMultVartime(&j, &ku, &kv, large)
				in.sameVartime(t, what+" with large table", &j, want)
			}
		}
	}
}

// combs proves that no entry of a table is infinity, whatever its point: the multiple that an entry stands for is none of
// the order.
func (in *inside[F, S, P, A, J, C, PF, PS, PP, PJ]) combs(t *testing.T) {
	bits := 8 * in.c.size
	for _, l := range []combLayout{signLayout(bits), baseLayout(bits), SmallTable.layout(bits), LargeTable.layout(bits)} {
		if l.digits() < bits {
			t.Errorf("%+v has %d digits for %d bits", l, l.digits(), bits)
		}
		for block := range l.blocks {
			for index := range 1 << (l.teeth - 1) {
				sum := new(big.Int)
				for tooth := range l.teeth {
					power := new(big.Int).Lsh(big.NewInt(1), uint(l.columns*(block+l.blocks*tooth)))
					if tooth == l.teeth-1 || index>>tooth&1 == 1 {
						sum.Add(sum, power)
					} else {
						sum.Sub(sum, power)
					}
				}
				if sum.Mod(sum, in.s.n).Sign() == 0 {
					t.Errorf("%+v: entry %d of block %d is infinity", l, index, block)
				}
			}
		}
	}
}

func TestAdditions(t *testing.T) {
	t.Parallel()
	eachInside(t, func(t *testing.T, in insider) { in.additions(t) })
}

func TestScalarMultiplication(t *testing.T) {
	t.Parallel()
	eachInside(t, func(t *testing.T, in insider) { in.multiples(t) })
}

func TestCombEntriesAreNoInfinity(t *testing.T) {
	t.Parallel()
	eachInside(t, func(t *testing.T, in insider) { in.combs(t) })
}
