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

func BenchmarkVerifyTable(b *testing.B) {
	for name, size := range map[string]TableSize{"small": SmallTable, "large": LargeTable} {
		benchCurves(b, func(b *testing.B, c *Curve) {
			key, e := mustKey(b, c, 1), make([]byte, 32)
			rs, err := key.Sign(nil, e)
			if err != nil {
				b.Fatal(err)
			}
			table := PrecomputeVartime(key.Public(), size)
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					if !table.VerifyVartime(e, rs) {
						b.Fatal("signature refused")
					}
				}
			})
		})
	}
}

func BenchmarkPrecompute(b *testing.B) {
	for name, size := range map[string]TableSize{"small": SmallTable, "large": LargeTable} {
		benchCurves(b, func(b *testing.B, c *Curve) {
			key := mustKey(b, c, 1).Public()
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					PrecomputeVartime(key, size)
				}
			})
		})
	}
}

func benchNumber[T any, P number[T]](b *testing.B, name string, x T) {
	y := x
	b.Run(name+"/mul", func(b *testing.B) {
		for b.Loop() {
			P(&x).mul(&x, &y)
		}
	})
	b.Run(name+"/sqr", func(b *testing.B) {
		for b.Loop() {
			P(&x).sqr(&x)
		}
	})
	b.Run(name+"/add", func(b *testing.B) {
		for b.Loop() {
			P(&x).add(&x, &y)
		}
	})
	b.Run(name+"/sub", func(b *testing.B) {
		for b.Loop() {
			P(&x).sub(&x, &y)
		}
	})
	b.Run(name+"/invert", func(b *testing.B) {
		for b.Loop() {
			P(&x).invert(&x)
		}
	})
	b.Run(name+"/invertVartime", func(b *testing.B) {
		for b.Loop() {
			P(&x).invertVartime(&x)
			P(&x).add(&x, &y)
		}
	})
}

func BenchmarkNumber(b *testing.B) {
	benchNumber[p256Field](b, "p256", p256FieldRR)
	benchNumber[p384Field](b, "p384", p384FieldRR)
	benchNumber[p512Field](b, "p512", p512FieldRR)
}
