package brainpool

import (
	"bytes"
	"math/big"
	"testing"

	"ktradv/internal/brainpool/internal/rfc5639"
)

func curves() []*Curve { return []*Curve{P256r1(), P384r1(), P512r1()} }

// FuzzParsePublicKey: whatever is accepted is a point that comes out as it went in and agrees a key as the reference does.
func FuzzParsePublicKey(f *testing.F) {
	for i, c := range curves() {
		s := newSlow(&rfc5639.Domains[i])
		f.Add(mustKey(f, c, 1).Public().Bytes())
		f.Add(append(append([]byte{4}, fill(c, s.gx)...), fill(c, minus(s.p, s.gy))...))
		f.Add(append(append([]byte{4}, fill(c, s.p)...), fill(c, s.gy)...))
		f.Add(make([]byte, 1+2*c.size))
	}
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		for i, c := range curves() {
			p, err := ParsePublicKey(c, raw)
			if err != nil {
				continue
			}
			if !bytes.Equal(p.Bytes(), raw) {
				t.Fatal("point changed")
			}
			key := mustKey(t, c, 2)
			got, err := key.ECDH(p)
			if err != nil {
				t.Fatal(err)
			}
			x, y := new(big.Int).SetBytes(raw[1:1+c.size]), new(big.Int).SetBytes(raw[1+c.size:])
			s := newSlow(&rfc5639.Domains[i])
			if x, _ := s.mult(new(big.Int).SetBytes(key.Bytes()), x, y); !bytes.Equal(got, fill(c, x)) {
				t.Fatalf("shared secret %x, reference %x", got, x)
			}
		}
	})
}

// FuzzVerify: no input panics, and the textbook check agrees with the fast ones.
func FuzzVerify(f *testing.F) {
	key := mustKey(f, P256r1(), 1)
	rs, err := key.Sign(repeatable(1), []byte("e"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("e"), rs)
	s := newSlow(&rfc5639.Domains[0])
	for i, v := range ecdsaCases(f, P256r1(), s) {
		if i%10 == 0 {
			f.Add(v.e, append(fill(P256r1(), v.r), fill(P256r1(), v.s)...))
		}
	}
	x, y := new(big.Int).SetBytes(key.public.raw[1:33]), new(big.Int).SetBytes(key.public.raw[33:])
	small, large := PrecomputeVartime(key.Public(), SmallTable), PrecomputeVartime(key.Public(), LargeTable)
	f.Fuzz(func(t *testing.T, e, rs []byte) {
		want := len(rs) == 64 && s.verify(x, y, e, rs)
		for i, got := range []bool{key.Public().VerifyVartime(e, rs), small.VerifyVartime(e, rs), large.VerifyVartime(e, rs)} {
			if got != want {
				t.Fatalf("way %d: %v, textbook %v", i, got, want)
			}
		}
	})
}

// FuzzSignatureFromDER: what is accepted is the one DER form of its two numbers.
func FuzzSignatureFromDER(f *testing.F) {
	for _, c := range curves() {
		der, err := mustKey(f, c, 1).SignASN1(repeatable(1), []byte("e"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
		f.Add(der[:len(der)-1])
	}
	f.Add([]byte{0x30, 6, 2, 1, 0, 2, 1, 0})
	f.Add([]byte{0x30, 0x80, 2, 1, 1, 2, 1, 1, 0, 0})
	f.Add([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, der []byte) {
		for _, c := range curves() {
			rs, ok := c.SignatureFromDER(der)
			if !ok {
				continue
			}
			r, s := new(big.Int).SetBytes(rs[:c.size]), new(big.Int).SetBytes(rs[c.size:])
			if len(rs) != 2*c.size || !bytes.Equal(derSignature(r, s), der) {
				t.Fatalf("%x gives %x", der, rs)
			}
		}
	})
}

// FuzzScalars: the multiplications agree with each other for any scalars: k·(d·G) by the secret way is d·(k·G) by the
// comb and k·d·G in variable time.
func FuzzScalars(f *testing.F) {
	f.Add([]byte{1}, []byte{2})
	f.Add(bytes.Repeat([]byte{0xff}, 64), bytes.Repeat([]byte{0x80}, 32))
	for i := range rfc5639.Domains {
		s := newSlow(&rfc5639.Domains[i])
		f.Add(minus(s.n, big.NewInt(1)).Bytes(), plus(s.n, big.NewInt(1)).Bytes())
	}
	f.Fuzz(func(t *testing.T, k, d []byte) {
		for i, c := range curves() {
			s := newSlow(&rfc5639.Domains[i])
			scalar := func(b []byte) *PrivateKey {
				v := s.mod(new(big.Int).SetBytes(b[:min(len(b), 2*c.size)]))
				key, err := NewPrivateKey(c, fill(c, v))
				if (err == nil) != (v.Sign() != 0) {
					t.Fatalf("key of %x: %v", v, err)
				}
				return key
			}
			a, b := scalar(k), scalar(d)
			if a == nil || b == nil {
				continue
			}
			ab, err1 := a.ECDH(b.Public())
			ba, err2 := b.ECDH(a.Public())
			if err1 != nil || err2 != nil || !bytes.Equal(ab, ba) {
				t.Fatalf("%x (%v) and %x (%v)", ab, err1, ba, err2)
			}
			rs, err := a.Sign(repeatable(1), d)
			if err != nil || !a.Public().VerifyVartime(d, rs) || !PrecomputeVartime(a.Public(), SmallTable).VerifyVartime(d, rs) {
				t.Fatalf("signature %x: %v", rs, err)
			}
		}
	})
}
