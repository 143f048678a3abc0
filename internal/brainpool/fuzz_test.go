package brainpool

import (
	"bytes"
	"math/big"
	"testing"

	"ktradv/internal/brainpool/internal/rfc5639"
)

// FuzzParsePublicKey: whatever is accepted is a point that comes out as it went in and works in a key agreement.
func FuzzParsePublicKey(f *testing.F) {
	key := mustKey(f, P256r1(), 1)
	f.Add(key.Public().Bytes())
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, c := range []*Curve{P256r1(), P384r1(), P512r1()} {
			p, err := ParsePublicKey(c, raw)
			if err != nil {
				continue
			}
			if !bytes.Equal(p.Bytes(), raw) {
				t.Fatal("point changed")
			}
			if _, err := mustKey(t, c, 2).ECDH(p); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzVerify: no input panics, and the textbook check agrees with the fast one.
func FuzzVerify(f *testing.F) {
	key := mustKey(f, P256r1(), 1)
	rs, err := key.Sign(repeatable(1), []byte("e"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("e"), rs)
	s := newSlow(&rfc5639.Domains[0])
	x, y := new(big.Int).SetBytes(key.public.raw[1:33]), new(big.Int).SetBytes(key.public.raw[33:])
	f.Fuzz(func(t *testing.T, e, rs []byte) {
		got := key.Public().Verify(e, rs)
		if want := len(rs) == 64 && s.verify(x, y, e, rs); got != want {
			t.Fatalf("Verify = %v, textbook %v", got, want)
		}
		key.Public().VerifyASN1(e, rs)
	})
}
