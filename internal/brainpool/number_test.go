package brainpool

import (
	"io"
	"math/big"
	"testing"
)

// number is what the generated types of integers modulo a prime have in common.
type number[T any] interface {
	*T
	mul(x, y *T)
	sqr(x *T)
	add(x, y *T)
	sub(x, y *T)
	half(x *T)
	triple(x *T)
	setBytes(b []byte) uint64
	appendBytes(b []byte) []byte
	reduce()
	choose(mask uint64, x *T)
	isZero() uint64
	equal(y *T) uint64
	toMont(x *T)
	fromMont(x *T)
	invert(x *T)
	invertVartime(x *T)
}

// TestNumbersAgainstBig compares every operation of the six types with math/big: edge values with each other, and random
// ones; operands in and out of Montgomery form, results in place of their operands.
func TestNumbersAgainstBig(t *testing.T) {
	t.Parallel()
	eachCurve(t, func(t *testing.T, c *Curve, s slow) {
		switch c.size {
		case 32:
			testNumber[p256Field](t, c.size, s.p)
			testNumber[p256Scalar](t, c.size, s.n)
		case 48:
			testNumber[p384Field](t, c.size, s.p)
			testNumber[p384Scalar](t, c.size, s.n)
		case 64:
			testNumber[p512Field](t, c.size, s.p)
			testNumber[p512Scalar](t, c.size, s.n)
		}
	})
}

func testNumber[T any, P number[T]](t *testing.T, size int, prime *big.Int) {
	t.Helper()
	one := big.NewInt(1)
	r := new(big.Int).Lsh(one, uint(8*size))
	minus := func(v *big.Int, d int64) *big.Int { return new(big.Int).Sub(v, big.NewInt(d)) }
	values := []*big.Int{new(big.Int), one, big.NewInt(2), big.NewInt(3), minus(prime, 1), minus(prime, 2), new(big.Int).Rsh(prime, 1),
		new(big.Int).Rsh(r, 1), minus(new(big.Int).Rsh(r, 1), 1), new(big.Int).Mod(r, prime)}
	for i := 64; i < 8*size; i += 64 { // borders of limbs
		edge := new(big.Int).Lsh(one, uint(i))
		values = append(values, edge, minus(edge, 1))
	}
	rng := repeatable(1)
	for range 30 {
		b := make([]byte, size)
		io.ReadFull(rng, b)
		values = append(values, new(big.Int).Mod(new(big.Int).SetBytes(b), prime))
	}
	set := func(v *big.Int) (z T) {
		if P(&z).setBytes(v.FillBytes(make([]byte, size))) != 1 {
			t.Fatalf("setBytes refuses %x", v)
		}
		return z
	}
	get := func(z T) *big.Int { return new(big.Int).SetBytes(P(&z).appendBytes(nil)) }
	mont := func(v *big.Int) (z T) { z = set(v); P(&z).toMont(&z); return z }
	plain := func(z T) *big.Int { P(&z).fromMont(&z); return get(z) }
	check := func(op string, got, want, x, y *big.Int) {
		t.Helper()
		if got.Cmp(new(big.Int).Mod(want, prime)) != 0 {
			t.Errorf("%T: %s of %x, %x is %x, want %x", *new(T), op, x, y, got, want)
		}
	}
	for _, v := range values {
		x := mont(v)
		check("Montgomery form", get(x), new(big.Int).Mul(v, r), v, nil)
		check("and back", plain(x), v, v, nil)
		for _, w := range values {
			y := mont(w)
			var z T
			P(&z).add(&x, &y)
			check("sum", plain(z), new(big.Int).Add(v, w), v, w)
			P(&z).sub(&x, &y)
			check("difference", plain(z), new(big.Int).Sub(v, w), v, w)
			P(&z).mul(&x, &y)
			check("product", plain(z), new(big.Int).Mul(v, w), v, w)
			z = x
			P(&z).mul(&z, &z)
			P(&z).add(&z, &y)
			P(&z).sub(&y, &z)
			check("-x² in place", plain(z), new(big.Int).Neg(new(big.Int).Mul(v, v)), v, w)
			if (P(&x).equal(&y) == 1) != (v.Cmp(w) == 0) {
				t.Errorf("equal(%x, %x)", v, w)
			}
			z = x
			P(&z).choose(0, &y)
			check("choice of the first", plain(z), v, v, w)
			P(&z).choose(^uint64(0), &y)
			check("choice of the second", plain(z), w, v, w)
		}
		var z T
		P(&z).sqr(&x)
		check("square", plain(z), new(big.Int).Mul(v, v), v, nil)
		z = x
		P(&z).sqr(&z)
		check("square in place", plain(z), new(big.Int).Mul(v, v), v, nil)
		P(&z).triple(&x)
		check("triple", plain(z), new(big.Int).Mul(v, big.NewInt(3)), v, nil)
		P(&z).half(&x)
		check("half", plain(z), new(big.Int).Mul(v, new(big.Int).ModInverse(big.NewInt(2), prime)), v, nil)
		want := new(big.Int)
		if v.Sign() != 0 {
			want.ModInverse(v, prime)
		}
		P(&z).invert(&x)
		check("inverse", plain(z), want, v, nil)
		P(&z).invertVartime(&x)
		check("inverse in variable time", plain(z), want, v, nil)
		// Out of Montgomery form the same inversion meets other limbs, for example long runs of zeros.
		z = set(v)
		P(&z).invertVartime(&z)
		check("inverse in variable time, raw", get(z), new(big.Int).Mul(want, new(big.Int).Mul(r, r)), v, nil)
		if (P(&x).isZero() == 1) != (v.Sign() == 0) {
			t.Errorf("isZero(%x)", v)
		}
	}
	for _, over := range []*big.Int{prime, new(big.Int).Add(prime, one), minus(r, 1)} {
		var z T
		if P(&z).setBytes(over.FillBytes(make([]byte, size))) != 0 {
			t.Errorf("setBytes takes %x", over)
		}
		P(&z).reduce()
		check("reduction", get(z), over, over, nil)
	}
	for _, below := range []*big.Int{new(big.Int), minus(prime, 1)} {
		z := set(below)
		P(&z).reduce()
		check("reduction", get(z), below, below, nil)
	}
}
