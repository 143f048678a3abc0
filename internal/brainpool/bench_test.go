package brainpool

import "testing"

func benchCurves(b *testing.B, run func(b *testing.B, c *Curve)) {
	for _, c := range []*Curve{P256r1(), P384r1(), P512r1()} {
		b.Run(c.Name(), func(b *testing.B) { run(b, c) })
	}
}

func BenchmarkSign(b *testing.B) {
	benchCurves(b, func(b *testing.B, c *Curve) {
		key, e := mustKey(b, c, 1), make([]byte, 32)
		for b.Loop() {
			if _, err := key.Sign(nil, e); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	benchCurves(b, func(b *testing.B, c *Curve) {
		key, e := mustKey(b, c, 1), make([]byte, 32)
		rs, err := key.Sign(nil, e)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if !key.Public().Verify(e, rs) {
				b.Fatal("signature refused")
			}
		}
	})
}

func BenchmarkECDH(b *testing.B) {
	benchCurves(b, func(b *testing.B, c *Curve) {
		key, peer := mustKey(b, c, 1), mustKey(b, c, 2).Public()
		for b.Loop() {
			if _, err := key.ECDH(peer); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkMul(b *testing.B) {
	benchCurves(b, func(b *testing.B, c *Curve) {
		x := c.g.x
		for b.Loop() {
			c.p.mul(&x, &x, &c.g.y)
		}
	})
}
