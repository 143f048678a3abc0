package brainpool

import (
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"ktradv/internal/brainpool/internal/rfc5639"
)

// The test of constant time follows Reparaz, Balasch and Verbauwhede: Dude, is my code constant time? (2017): an
// operation runs with inputs of two classes in random order, and Welch's t-test tells whether the two distributions of
// times differ. Their limit is 4.5; a machine that others use, too, needs a wider one, and several attempts. What leaks
// on purpose is far above, see the twin.
const (
	leakLimit    = 10.0
	leakAttempts = 4
)

// welch returns the t statistic of two samples.
func welch(a, b []float64) float64 {
	moments := func(v []float64) (mean, variance float64) {
		for _, x := range v {
			mean += x
		}
		mean /= float64(len(v))
		for _, x := range v {
			variance += (x - mean) * (x - mean)
		}
		return mean, variance / float64(len(v)-1)
	}
	ma, va := moments(a)
	mb, vb := moments(b)
	return (ma - mb) / math.Sqrt(va/float64(len(a))+vb/float64(len(b))+1e-9)
}

// timings runs op n times with inputs of the two classes and returns the t statistic of the faster 70 percent: what is
// slower was interrupted.
func timings(n int, classes [2][][]byte, op func(input []byte)) float64 {
	type run struct {
		class int
		ns    float64
	}
	runs := make([]run, 0, n)
	input := make([]byte, len(classes[0][0])) // the same memory for all
	for i := range n {
		class := int(rand.Uint32() & 1)
		copy(input, classes[class][i%len(classes[class])])
		start := time.Now()
		op(input)
		runs = append(runs, run{class, float64(time.Since(start))})
	}
	sorted := slices.SortedFunc(slices.Values(runs), func(a, b run) int { return int(a.ns - b.ns) })
	limit := sorted[len(sorted)*7/10].ns
	var times [2][]float64
	for _, r := range runs[n/20:] { // the first ones fill the caches
		if r.ns <= limit {
			times[r.class] = append(times[r.class], r.ns)
		}
	}
	if len(times[0]) < 10 || len(times[1]) < 10 {
		return math.Inf(1) // one class is always the slower one
	}
	return welch(times[0], times[1])
}

// leaks reports whether the times differ in every attempt, and the smallest statistic.
func leaks(n int, classes [2][][]byte, op func(input []byte)) (bool, float64) {
	least := math.Inf(1)
	for range leakAttempts {
		least = min(least, math.Abs(timings(n, classes, op)))
		if least < leakLimit {
			return false, least
		}
	}
	return true, least
}

// scalarClasses are scalars with a pattern against random ones.
func scalarClasses(c *Curve, s slow) map[string][2][][]byte {
	rng := repeatable(50)
	var random [][]byte
	for range 64 {
		b := make([]byte, c.size)
		io.ReadFull(rng, b)
		random = append(random, fill(c, plus(s.mod(new(big.Int).Rsh(new(big.Int).SetBytes(b), 1)), big.NewInt(1))))
	}
	one := big.NewInt(1)
	fixed := func(v *big.Int) [2][][]byte { return [2][][]byte{{fill(c, v)}, random} }
	if c != P256r1() { // the same code with more limbs
		return map[string][2][][]byte{"1": fixed(one), "long runs": fixed(minus(new(big.Int).Lsh(one, uint(4*c.size)), one))}
	}
	return map[string][2][][]byte{
		"1":         fixed(one),
		"n-1":       fixed(minus(s.n, one)),
		"one bit":   fixed(new(big.Int).Lsh(one, uint(8*c.size-1))),
		"long runs": fixed(minus(new(big.Int).Lsh(one, uint(4*c.size)), one)),
		"fixed":     fixed(new(big.Int).SetBytes(random[0])),
	}
}

// TestSecretsDoNotShowInTime: signing, in the nonce and in the key, key generation and key agreement take the same time for
// scalars with a pattern and for random ones.
func TestSecretsDoNotShowInTime(t *testing.T) { // not parallel: it measures
	for i, c := range curves() {
		s := newSlow(&rfc5639.Domains[i])
		n := 1500 / (1 + 2*i)
		key, peer := mustKey(t, c, 51), mustKey(t, c, 52).Public()
		e := make([]byte, c.size)
		for name, op := range map[string]func(scalar []byte){
			"signing with the nonce": func(k []byte) { c.group.sign(key.scalar, e, k) },
			"signing with the key":   func(k []byte) { c.group.sign(k, e, key.scalar) },
			"public key of":          func(k []byte) { c.group.public(k) },
			"key agreement with":     func(k []byte) { c.group.ecdh(k, peer.point) },
		} {
			for class, inputs := range scalarClasses(c, s) {
				if leak, statistic := leaks(n, inputs, op); leak {
					t.Errorf("%v: %s %s differs from random ones: t = %.1f", c, name, class, statistic)
				} else {
					t.Logf("%v: %s %s: t = %.1f", c, name, class, statistic)
				}
			}
		}
	}
}

// TestVariableTimeShows is the twin: the same measurement finds what the operations named Vartime show.
func TestVariableTimeShows(t *testing.T) { // not parallel: it measures
	c, s := P256r1(), newSlow(&rfc5639.Domains[0])
	g := c.group.(*p256Group)
	key := mustKey(t, c, 53).Public().point.(*p256Affine)
	var u p256Scalar
	classes := scalarClasses(c, s)
	for name, op := range map[string]func(scalar []byte){
		"multiplication": func(k []byte) {
			var v p256Scalar
			v.setBytes(k)
			var r p256Jacobian
			g.doubleMultVartime(&r, &u, &v, key)
		},
		"inversion": func(k []byte) {
			var v p256Scalar
			v.setBytes(k)
			v.invertVartime(&v)
		},
	} {
		if leak, statistic := leaks(3000, classes["1"], op); !leak {
			t.Errorf("%s in variable time: t = %.1f only; the measurement would miss a leak", name, statistic)
		} else {
			t.Logf("%s in variable time: t = %.1f", name, statistic)
		}
	}
}
