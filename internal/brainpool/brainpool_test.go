package brainpool

import (
	"bytes"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"ktradv/internal/brainpool/internal/rfc5639"
	"ktradv/internal/testdata"
)

// slow is the textbook curve arithmetic on math/big, written apart from the package's: the curve itself instead of its
// twin, affine coordinates with every special case spelt out.
type slow struct{ p, n, a, b, gx, gy *big.Int }

func newSlow(d *rfc5639.Domain) slow {
	num := func(s string) *big.Int { v, _ := new(big.Int).SetString(s, 16); return v }
	return slow{num(d.P), num(d.N), num(d.A), num(d.B), num(d.GX), num(d.GY)}
}

// add returns p+q; a nil x is infinity.
func (s slow) add(x1, y1, x2, y2 *big.Int) (*big.Int, *big.Int) {
	switch {
	case x1 == nil:
		return x2, y2
	case x2 == nil:
		return x1, y1
	}
	m := new(big.Int)
	if x1.Cmp(x2) == 0 {
		if m.Add(y1, y2).Mod(m, s.p).Sign() == 0 {
			return nil, nil
		}
		m.Mul(x1, x1).Mul(m, big.NewInt(3)).Add(m, s.a)
		m.Mul(m, new(big.Int).ModInverse(new(big.Int).Lsh(y1, 1), s.p))
	} else {
		dx := new(big.Int).Sub(x2, x1)
		m.Sub(y2, y1).Mul(m, dx.ModInverse(dx.Mod(dx, s.p), s.p))
	}
	m.Mod(m, s.p)
	x := new(big.Int).Mul(m, m)
	x.Sub(x, x1).Sub(x, x2).Mod(x, s.p)
	y := new(big.Int).Sub(x1, x)
	y.Mul(y, m).Sub(y, y1).Mod(y, s.p)
	return x, y
}

func (s slow) mult(k, x, y *big.Int) (rx, ry *big.Int) {
	for i := k.BitLen() - 1; i >= 0; i-- {
		rx, ry = s.add(rx, ry, rx, ry)
		if k.Bit(i) == 1 {
			rx, ry = s.add(rx, ry, x, y)
		}
	}
	return rx, ry
}

func (s slow) verify(qx, qy *big.Int, e, rs []byte) bool {
	half := len(rs) / 2
	r, t := new(big.Int).SetBytes(rs[:half]), new(big.Int).SetBytes(rs[half:])
	if r.Sign() == 0 || t.Sign() == 0 || r.Cmp(s.n) >= 0 || t.Cmp(s.n) >= 0 {
		return false
	}
	z := new(big.Int).SetBytes(e)
	if extra := 8*len(e) - s.n.BitLen(); extra > 0 {
		z.Rsh(z, uint(extra))
	}
	w := new(big.Int).ModInverse(t, s.n)
	u := new(big.Int).Mul(z, w)
	v := new(big.Int).Mul(r, w)
	ux, uy := s.mult(u.Mod(u, s.n), s.gx, s.gy)
	vx, vy := s.mult(v.Mod(v, s.n), qx, qy)
	x, _ := s.add(ux, uy, vx, vy)
	return x != nil && new(big.Int).Mod(x, s.n).Cmp(r) == 0
}

// repeatable gives the same octets in every run.
func repeatable(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

// eachCurve runs a test for the three curves.
func eachCurve(t *testing.T, run func(t *testing.T, c *Curve, s slow)) {
	t.Helper()
	for i, c := range []*Curve{P256r1(), P384r1(), P512r1()} {
		t.Run(c.Name(), func(t *testing.T) {
			t.Parallel()
			run(t, c, newSlow(&rfc5639.Domains[i]))
		})
	}
}

func mustKey(t testing.TB, c *Curve, seed byte) *PrivateKey {
	t.Helper()
	k, err := GenerateKey(c, repeatable(seed))
	if err != nil {
		t.Fatalf("generate key: %v", err)
	}
	return k
}

func fill(c *Curve, v *big.Int) []byte { return v.FillBytes(make([]byte, c.Size())) }

func TestParametersAreConsistent(t *testing.T) {
	t.Parallel()
	eachCurve(t, func(t *testing.T, c *Curve, s slow) {
		if !s.p.ProbablyPrime(20) || !s.n.ProbablyPrime(20) {
			t.Error("field or order is not prime")
		}
		if s.p.BitLen() != 8*c.Size() || s.n.BitLen() != 8*c.Size() || s.p.Cmp(s.n) <= 0 {
			t.Error("the width rules of this package do not hold: n < p, both with their top bit set")
		}
		if x, _ := s.mult(s.n, s.gx, s.gy); x != nil {
			t.Error("n·G is not infinity")
		}
		if got := CurveByOID(c.OID()); got != c {
			t.Errorf("CurveByOID = %v", got)
		}
	})
	for i := range rfc5639.Domains {
		d := &rfc5639.Domains[i]
		s := newSlow(d)
		// The twin really has a = -3: a·z⁴ + 3 = 0.
		v, _ := new(big.Int).SetString(d.Z, 16)
		v.Exp(v, big.NewInt(4), s.p).Mul(v, s.a).Add(v, big.NewInt(3))
		if v.Mod(v, s.p).Sign() != 0 {
			t.Errorf("%s: a·z⁴ is not -3", d.Name)
		}
	}
}

func TestKeyRanges(t *testing.T) {
	t.Parallel()
	eachCurve(t, func(t *testing.T, c *Curve, s slow) {
		n := func(d int64) []byte { return fill(c, new(big.Int).Add(s.n, big.NewInt(d))) }
		for _, tc := range []struct {
			name   string
			scalar []byte
			want   error
		}{
			{"0", make([]byte, c.size), ErrScalar},
			{"1", fill(c, big.NewInt(1)), nil},
			{"n-1", n(-1), nil},
			{"n", n(0), ErrScalar},
			{"n+1", n(1), ErrScalar},
			{"all ones", bytes.Repeat([]byte{0xff}, c.size), ErrScalar},
			{"short", make([]byte, c.size-1), ErrScalar},
			{"long", append([]byte{0}, n(-1)...), ErrScalar},
			{"none", nil, ErrScalar},
		} {
			k, err := NewPrivateKey(c, tc.scalar)
			if !errors.Is(err, tc.want) || (err == nil) != (k != nil) {
				t.Errorf("%s: key %v, error %v, want %v", tc.name, k, err, tc.want)
			}
			if err == nil && (!bytes.Equal(k.Bytes(), tc.scalar) || k.Curve() != c) {
				t.Errorf("%s: key differs from its scalar", tc.name)
			}
		}
		one, _ := NewPrivateKey(c, fill(c, big.NewInt(1)))
		if !bytes.Equal(one.Public().Bytes()[1:], append(fill(c, s.gx), fill(c, s.gy)...)) {
			t.Error("the public key of 1 is not the base point")
		}
	})
}

func TestParsePublicKey(t *testing.T) {
	t.Parallel()
	eachCurve(t, func(t *testing.T, c *Curve, s slow) {
		good := mustKey(t, c, 4).Public()
		edit := func(f func(b []byte) []byte) []byte { return f(good.Bytes()) }
		raw := func(x, y *big.Int) []byte {
			width := new(big.Int).Lsh(big.NewInt(1), uint(8*c.size))
			return append([]byte{4}, append(fill(c, new(big.Int).Mod(x, width)), fill(c, new(big.Int).Mod(y, width))...)...)
		}
		small, none := s.nearX(t, big.NewInt(0), 1), new(big.Int)
		for none.Set(small.x); s.withX(none) != nil; {
			none.Add(none, big.NewInt(1))
		}
		lowY := s.base()
		for new(big.Int).Add(lowY.y, s.p).BitLen() > 8*c.size { // about every third point is low enough
			lowY = s.plus(lowY, s.base())
		}
		other := newSlow(&rfc5639.Domains[0])
		if c == P256r1() {
			other = newSlow(&rfc5639.Domains[1])
		}
		flip := func(i int) func([]byte) []byte { return func(b []byte) []byte { b[i] ^= 1; return b } }
		for _, tc := range []struct {
			name string
			raw  []byte
			want error
		}{
			{"good", good.Bytes(), nil},
			{"negative of good", edit(func(b []byte) []byte {
				y := new(big.Int).SetBytes(b[1+c.size:])
				y.Sub(s.p, y).FillBytes(b[1+c.size:])
				return b
			}), nil},
			{"x changed", edit(flip(5)), ErrNotOnCurve},
			{"y changed", edit(flip(2 * c.size)), ErrNotOnCurve},
			{"swapped", edit(func(b []byte) []byte {
				return append([]byte{4}, append(bytes.Clone(b[1+c.size:]), b[1:1+c.size]...)...)
			}), ErrNotOnCurve},
			{"origin", append([]byte{4}, make([]byte, 2*c.size)...), ErrNotOnCurve},
			{"x = p", edit(func(b []byte) []byte { s.p.FillBytes(b[1 : 1+c.size]); return b }), ErrEncoding},
			{"y = p", edit(func(b []byte) []byte { s.p.FillBytes(b[1+c.size:]); return b }), ErrEncoding},
			{"all ones", append([]byte{4}, bytes.Repeat([]byte{0xff}, 2*c.size)...), ErrEncoding},
			{"x + p of a point with small x", raw(new(big.Int).Add(small.x, s.p), small.y), ErrEncoding},
			{"y + p of a point with small y", raw(lowY.x, new(big.Int).Add(lowY.y, s.p)), ErrEncoding},
			{"small x", raw(small.x, small.y), nil},
			{"small y", raw(lowY.x, lowY.y), nil},
			{"x = p-1 with any y", raw(new(big.Int).Sub(s.p, big.NewInt(1)), small.y), ErrNotOnCurve},
			{"x without a point", raw(none, small.y), ErrNotOnCurve},
			{"base point of another curve", raw(other.gx, other.gy), ErrNotOnCurve},
			{"compressed", append([]byte{2 + good.raw[2*c.size]&1}, good.raw[1:1+c.size]...), ErrEncoding},
			{"hybrid", edit(func(b []byte) []byte { b[0] = 6 + b[2*c.size]&1; return b }), ErrEncoding},
			{"infinity", []byte{0}, ErrEncoding},
			{"short", good.Bytes()[:2*c.size], ErrEncoding},
			{"long", append(good.Bytes(), 0), ErrEncoding},
			{"none", nil, ErrEncoding},
		} {
			p, err := ParsePublicKey(c, tc.raw)
			if !errors.Is(err, tc.want) || (err == nil) != (p != nil) {
				t.Errorf("%s: error %v, want %v", tc.name, err, tc.want)
			}
			if err == nil && !bytes.Equal(p.Bytes(), tc.raw) {
				t.Errorf("%s: Bytes differs from what was parsed", tc.name)
			}
		}
	})
	// A point of the twin is not a point of the curve.
	s := newSlow(&rfc5639.Domains[0])
	z, _ := new(big.Int).SetString(rfc5639.Domains[0].Z, 16)
	x, y := new(big.Int).Mul(s.gx, new(big.Int).Exp(z, big.NewInt(2), s.p)), new(big.Int).Mul(s.gy, new(big.Int).Exp(z, big.NewInt(3), s.p))
	raw := append(append([]byte{4}, fill(P256r1(), x.Mod(x, s.p))...), fill(P256r1(), y.Mod(y, s.p))...)
	if _, err := ParsePublicKey(P256r1(), raw); !errors.Is(err, ErrNotOnCurve) {
		t.Errorf("point of the twin: %v", err)
	}
}

func TestSignAndVerify(t *testing.T) {
	t.Parallel()
	eachCurve(t, func(t *testing.T, c *Curve, s slow) {
		key := mustKey(t, c, 6)
		other := mustKey(t, c, 7)
		qx, qy := new(big.Int).SetBytes(key.public.raw[1:1+c.size]), new(big.Int).SetBytes(key.public.raw[1+c.size:])
		for _, e := range [][]byte{
			nil,
			{0},
			{1},
			bytes.Repeat([]byte{0xa5}, 25), // the card's token, shorter than the order
			bytes.Repeat([]byte{0xff}, 32),
			bytes.Repeat([]byte{0xff}, 64), // a hash longer than the order of the smaller curves
			fill(c, s.n),
			bytes.Repeat([]byte{0x77}, 100),
		} {
			rs, err := key.Sign(repeatable(byte(len(e))), e)
			if err != nil {
				t.Fatalf("sign %d octets: %v", len(e), err)
			}
			if !key.Public().Verify(e, rs) || !s.verify(qx, qy, e, rs) {
				t.Errorf("signature over %x does not verify", e)
			}
			if other.Public().Verify(e, rs) {
				t.Error("signature verifies under another key")
			}
			if key.Public().Verify(append([]byte{1}, e...), rs) {
				t.Errorf("signature over %x verifies another message", e)
			}
			for i := range rs {
				bad := bytes.Clone(rs)
				bad[i] ^= 0x10
				if i%7 == 0 && key.Public().Verify(e, bad) {
					t.Errorf("signature with octet %d changed verifies", i)
				}
			}
			der, err := key.SignASN1(nil, e)
			if err != nil || !key.Public().VerifyASN1(e, der) {
				t.Errorf("DER signature %x: %v", der, err)
			}
		}
	})
}

// TestSignatureOddities holds the classic ways to get a wrong signature past a check.
func TestSignatureOddities(t *testing.T) {
	t.Parallel()
	eachCurve(t, func(t *testing.T, c *Curve, s slow) {
		key := mustKey(t, c, 8)
		e := bytes.Repeat([]byte{0x42}, 25)
		rs, err := key.Sign(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		r, sv := new(big.Int).SetBytes(rs[:c.size]), new(big.Int).SetBytes(rs[c.size:])
		zero, one, n := big.NewInt(0), big.NewInt(1), s.n
		minus := func(x, y *big.Int) *big.Int { return new(big.Int).Sub(x, y) }
		for _, tc := range []struct {
			name string
			r, s *big.Int
			want bool
		}{
			{"as made", r, sv, true},
			{"s negated (malleable by design of ECDSA)", r, minus(n, sv), true},
			{"r = 0", zero, sv, false},
			{"s = 0", r, zero, false},
			{"both 0", zero, zero, false},
			{"r = n", n, sv, false},
			{"s = n", r, n, false},
			{"both n", n, n, false},
			{"both 1", one, one, false},
			{"r = n-1", minus(n, one), sv, false},
			{"s = n-1", r, minus(n, one), false},
			{"r negated", minus(n, r), sv, false},
			{"swapped", sv, r, false},
			{"r = p", s.p, sv, false},
			{"s = p", r, s.p, false},
		} {
			in := append(fill(c, tc.r), fill(c, tc.s)...)
			if got := key.Public().Verify(e, in); got != tc.want {
				t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
			}
			var b bytes.Buffer
			b.Write(derInt(tc.r))
			b.Write(derInt(tc.s))
			der := append(derHeader(0x30, b.Len()), b.Bytes()...)
			if got := key.Public().VerifyASN1(e, der); got != tc.want {
				t.Errorf("%s as DER: %v, want %v", tc.name, got, tc.want)
			}
		}
		for name, in := range map[string][]byte{
			"none": nil, "one octet short": rs[:len(rs)-1], "one octet long": append(bytes.Clone(rs), 0),
			"half": rs[:c.size], "leading zeros": append(make([]byte, 2), rs...),
		} {
			if key.Public().Verify(e, in) {
				t.Errorf("%s verifies", name)
			}
		}
		seq := func(parts ...[]byte) []byte {
			body := bytes.Join(parts, nil)
			return append(derHeader(0x30, len(body)), body...)
		}
		padded := append(derHeader(2, len(derInt(r))-1), append([]byte{0}, derInt(r)[2:]...)...)
		for name, der := range map[string][]byte{
			"none":            nil,
			"not a sequence":  derInt(r),
			"r missing":       seq(derInt(sv)),
			"three numbers":   seq(derInt(r), derInt(sv), derInt(one)),
			"trailing octets": append(seq(derInt(r), derInt(sv)), 0),
			"r padded":        seq(padded, derInt(sv)),
			"r negative":      seq([]byte{2, 1, 0x80}, derInt(sv)),
			"r empty":         seq([]byte{2, 0}, derInt(sv)),
			"r as NULL":       seq([]byte{5, 0}, derInt(sv)),
			"r + 2^k·n":       seq(derInt(new(big.Int).Add(r, new(big.Int).Lsh(n, 8))), derInt(sv)),
			"long length":     append([]byte{0x30, 0x84, 0, 0, 0}, seq(derInt(r), derInt(sv))[1:]...),
			"indefinite":      append(append([]byte{0x30, 0x80}, append(derInt(r), derInt(sv)...)...), 0, 0),
		} {
			if key.Public().VerifyASN1(e, der) {
				t.Errorf("DER %s verifies", name)
			}
		}
		if !key.Public().VerifyASN1(e, seq(derInt(r), derInt(sv))) {
			t.Error("the DER form that the cases above bend does not verify")
		}
	})
}

func derHeader(tag byte, n int) []byte {
	switch {
	case n < 0x80:
		return []byte{tag, byte(n)}
	case n < 0x100:
		return []byte{tag, 0x81, byte(n)}
	}
	return []byte{tag, 0x82, byte(n >> 8), byte(n)}
}

func derInt(v *big.Int) []byte {
	b := v.Bytes()
	if len(b) == 0 || b[0]&0x80 != 0 {
		b = append([]byte{0}, b...)
	}
	return append(derHeader(2, len(b)), b...)
}

// constantReader repeats one octet and counts.
type constantReader struct{ octet byte }

func (r constantReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.octet
	}
	return len(p), nil
}

func TestRandomSources(t *testing.T) {
	t.Parallel()
	c := P256r1()
	for _, octet := range []byte{0, 0xff} { // 0 and a number above the order
		if _, err := GenerateKey(c, constantReader{octet}); !errors.Is(err, ErrRandom) {
			t.Errorf("key from a stuck source %02x: %v", octet, err)
		}
	}
	if _, err := GenerateKey(c, bytes.NewReader(make([]byte, 31))); !errors.Is(err, ErrRandom) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("key from a short source: %v", err)
	}
	key := mustKey(t, c, 12)
	if _, err := key.Sign(bytes.NewReader(make([]byte, 31)), []byte{1}); !errors.Is(err, ErrRandom) {
		t.Errorf("signature with a short source: %v", err)
	}
	// A stuck source must not make two messages share a nonce: r differs.
	one, err1 := key.Sign(constantReader{0}, []byte{1})
	two, err2 := key.Sign(constantReader{0}, []byte{2})
	again, err3 := key.Sign(constantReader{0}, []byte{1})
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	if bytes.Equal(one[:32], two[:32]) {
		t.Error("two messages share a nonce")
	}
	if !bytes.Equal(one, again) {
		t.Error("same key, message and random give different signatures: the nonce depends on something else")
	}
	// And a source that does work must make signatures of one message differ.
	fresh, err := key.Sign(constantReader{1}, []byte{1})
	if err != nil || bytes.Equal(one[:32], fresh[:32]) {
		t.Errorf("random does not enter the nonce: %v", err)
	}
}

// TestNonceGenerator compares the generator with RFC 6979 appendix A.2.5: P-256 with SHA-512, messages "sample" and "test".
func TestNonceGenerator(t *testing.T) {
	t.Parallel()
	order := elliptic.P256().Params().N
	key, _ := hex.DecodeString("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")
	for message, want := range map[string]string{
		"sample": "5fa81c63109badb88c1f367b47da606da28cad69aa22c4fe6ad7df73a7173aa5",
		"test":   "6915d11632aca3c40d5d51c08daf9c555933819548784480e93499000d9f0b7f",
	} {
		digest := sha512.Sum512([]byte(message))
		z := new(big.Int).SetBytes(digest[:32])
		got := newNonceSource(key, z.Mod(z, order).FillBytes(make([]byte, 32))).next(32)
		if hex.EncodeToString(got) != want {
			t.Errorf("nonce for %q is %x, want %s", message, got, want)
		}
	}
}

func TestPrivateKeyPrintsRedacted(t *testing.T) {
	t.Parallel()
	key := mustKey(t, P256r1(), 13)
	secret := hex.EncodeToString(key.Bytes())
	text, _ := json.Marshal(map[string]any{"key": key})
	for _, out := range []string{fmt.Sprint(key), fmt.Sprintf("%v %+v %#v %x %s", key, key, key, key, key), string(text)} {
		if bytes.Contains([]byte(out), []byte(secret)) || !bytes.Contains([]byte(out), []byte("redacted")) {
			t.Errorf("key printed as %q", out)
		}
	}
}

// TestCardToCardVector checks the shared vector of trusted channel and role authentication.
func TestCardToCardVector(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(testdata.Dir(t, "cards"), "apdu", "c2c-trusted-channel-vector.computed.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		EgkStaticPrivate       string `json:"egk_static_private"`
		EgkStaticPublic        string `json:"egk_static_public"`
		ServerStaticPrivate    string `json:"server_static_private"`
		ServerStaticPublic     string `json:"server_static_public"`
		EgkEphemeralPrivate    string `json:"egk_ephemeral_private"`
		EgkEphemeralPublic     string `json:"egk_ephemeral_public"`
		ServerEphemeralPrivate string `json:"server_ephemeral_private"`
		ServerEphemeralPublic  string `json:"server_ephemeral_public"`
		K1, K2                 string
		RoleAuthentication     struct {
			E         string `json:"e_value_hex"`
			Signature string `json:"signature_r_s"`
		} `json:"role_authentication"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	c := P256r1()
	octets := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) == 0 {
			t.Fatalf("vector field %q: %v", s, err)
		}
		return b
	}
	keys := map[string]*PrivateKey{}
	for private, public := range map[string]string{
		v.EgkStaticPrivate: v.EgkStaticPublic, v.ServerStaticPrivate: v.ServerStaticPublic,
		v.EgkEphemeralPrivate: v.EgkEphemeralPublic, v.ServerEphemeralPrivate: v.ServerEphemeralPublic,
	} {
		k, err := NewPrivateKey(c, octets(private))
		if err != nil || !bytes.Equal(k.Public().Bytes(), octets(public)) {
			t.Fatalf("public key: %v", err)
		}
		keys[private] = k
	}
	for _, tc := range []struct{ own, peer, want string }{
		{v.EgkStaticPrivate, v.ServerEphemeralPrivate, v.K1},
		{v.ServerEphemeralPrivate, v.EgkStaticPrivate, v.K1},
		{v.EgkEphemeralPrivate, v.ServerStaticPrivate, v.K2},
		{v.ServerStaticPrivate, v.EgkEphemeralPrivate, v.K2},
	} {
		got, err := keys[tc.own].ECDH(keys[tc.peer].Public())
		if err != nil || hex.EncodeToString(got) != tc.want {
			t.Errorf("shared secret %x (%v), want %s", got, err, tc.want)
		}
	}
	server := keys[v.ServerStaticPrivate].Public()
	e, rs := octets(v.RoleAuthentication.E), octets(v.RoleAuthentication.Signature)
	if !server.Verify(e, rs) {
		t.Error("role authentication signature refused")
	}
	if digest := sha256.Sum256(e); server.Verify(digest[:], rs) {
		t.Error("the token must not be hashed")
	}
	if server.Verify(e[:24], rs) {
		t.Error("the token without its last octet verifies")
	}
}

// TestPublicCVCs checks every published self-signed root, and each certificate whose issuer is there, by its plain layout.
func TestPublicCVCs(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testdata.Dir(t, "cards"), "cvc")
	type cvc struct {
		name, car, chr   string
		body, point, sig []byte
	}
	var all []cvc
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || (filepath.Ext(path) != ".cvc" && filepath.Ext(path) != ".crt") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		// Fixed offsets of the P256 layout: 7F21 81xx | 7F4E 81xx | 5F2901 70 | 4208 CAR | 7F49 4x 06.. 8641 point | 5F20 ..
		if len(b) != 220 && len(b) != 222 {
			return nil
		}
		bodyLen := int(b[7])
		body := b[4 : 8+bodyLen]
		at := bytes.Index(body, []byte{0x86, 0x41, 0x04})
		chr := body[at+2+65:]
		all = append(all, cvc{info.Name(), hex.EncodeToString(body[10:18]), hex.EncodeToString(chr[3 : 3+int(chr[2])]), body, body[at+2 : at+67], b[len(b)-64:]})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	issuers := map[string][]*PublicKey{}
	for _, v := range all {
		p, err := ParsePublicKey(P256r1(), v.point)
		if err != nil {
			t.Fatalf("%s: %v", v.name, err)
		}
		issuers[v.chr] = append(issuers[v.chr], p)
	}
	checked := 0
	for _, v := range all {
		digest := sha256.Sum256(v.body)
		good, forged := false, false
		for _, p := range issuers[v.car] {
			good = good || p.Verify(digest[:], v.sig)
			digest[0] ^= 1
			forged = forged || p.Verify(digest[:], v.sig)
			digest[0] ^= 1
		}
		if len(issuers[v.car]) > 0 {
			checked++
			if !good || forged {
				t.Errorf("%s: verifies %v, forged verifies %v", v.name, good, forged)
			}
		}
	}
	if checked < 60 {
		t.Errorf("only %d of %d certificates had an issuer", checked, len(all))
	}
}
