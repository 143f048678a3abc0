package brainpool

import (
	"bytes"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// withX returns a point with the x-coordinate, nil when there is none.
func (s slow) withX(x *big.Int) *xy {
	v := new(big.Int).Exp(x, big.NewInt(3), s.p)
	v.Add(v, new(big.Int).Mul(s.a, x)).Add(v, s.b).Mod(v, s.p)
	if y := new(big.Int).ModSqrt(v, s.p); y != nil {
		return &xy{new(big.Int).Set(x), y}
	}
	return nil
}

// nearX returns the point with the first x-coordinate from x on, upwards or downwards.
func (s slow) nearX(t testing.TB, x *big.Int, step int64) xy {
	t.Helper()
	x = new(big.Int).Set(x)
	for range 200 {
		if p := s.withX(x); p != nil {
			return *p
		}
		x.Add(x, big.NewInt(step))
	}
	t.Fatalf("no point near %x", x)
	return xy{}
}

func (s slow) neg(p xy) xy                 { return xy{p.x, new(big.Int).Sub(s.p, p.y)} }
func (s slow) mod(v *big.Int) *big.Int     { return new(big.Int).Mod(v, s.n) }
func (s slow) inverse(v *big.Int) *big.Int { return new(big.Int).ModInverse(v, s.n) }
func times(x, y *big.Int) *big.Int         { return new(big.Int).Mul(x, y) }
func plus(x, y *big.Int) *big.Int          { return new(big.Int).Add(x, y) }
func minus(x, y *big.Int) *big.Int         { return new(big.Int).Sub(x, y) }

// ecdsaCase is a signature with the verdict that the standard demands. Each case is checked by this package without table
// and with both tables, by the textbook reference, and by OpenSSL.
type ecdsaCase struct {
	name  string
	key   xy
	e     []byte
	r, s  *big.Int
	valid bool
}

// ecdsaCases makes the table. Keys, multipliers and points are chosen and the rest is solved for, so that signatures meet
// states that random ones never reach.
func ecdsaCases(t testing.TB, c *Curve, s slow) (cases []ecdsaCase) {
	t.Helper()
	add := func(name string, key xy, e, r, sv *big.Int, valid bool) {
		cases = append(cases, ecdsaCase{name, key, fill(c, e), r, sv, valid})
	}
	one, n := big.NewInt(1), s.n
	secret := new(big.Int).SetBytes(mustKey(t, c, 40).Bytes())

	// u·G + v·Q with chosen u and v: r = x, s = r/v, e = u·s. Among them are u·G = ±v·Q and multipliers with long runs of
	// equal bits.
	edges := []*big.Int{new(big.Int), one, big.NewInt(2), big.NewInt(3), minus(n, one), minus(n, big.NewInt(2)),
		new(big.Int).Lsh(one, 64), minus(new(big.Int).Lsh(one, 128), one), new(big.Int).Rsh(n, 1), new(big.Int).Lsh(one, uint(8*c.size-1))}
	for _, d := range []*big.Int{one, big.NewInt(2), minus(n, one), secret} {
		key := s.times(d, s.base())
		for i, u := range edges {
			for j, v := range edges {
				every := 3
				if c != P256r1() {
					every = 9
				}
				if v.Sign() == 0 || i != j && (i+j)%every != 0 {
					continue
				}
				point := s.plus(s.times(u, s.base()), s.times(v, key))
				what := fmt.Sprintf("u=%x v=%x d=%x", u, v, d)
				if point.x == nil {
					// Any r has a matching s and e, and none may be accepted.
					r := s.mod(times(u, big.NewInt(7)))
					if r.Sign() == 0 {
						r = one
					}
					sv := s.mod(times(r, s.inverse(v)))
					add(what+": infinity", key, s.mod(times(u, sv)), r, sv, false)
					continue
				}
				r := s.mod(point.x)
				sv := s.mod(times(r, s.inverse(v)))
				add(what, key, s.mod(times(u, sv)), r, sv, true)
				add(what+", e changed", key, plus(s.mod(times(u, sv)), one), r, sv, false)
			}
		}
		// u·G = v·Q and its negative: e = ±r·d.
		k := s.mod(times(d, big.NewInt(0x1234567)))
		point := s.times(k, s.base())
		r := s.mod(point.x)
		half := s.mod(times(k, s.inverse(big.NewInt(2)))) // u·G = v·Q = k/2·G
		sv := s.mod(times(times(r, d), s.inverse(half)))
		add(fmt.Sprintf("equal halves, d=%x", d), key, s.mod(times(r, d)), r, sv, true)
		add(fmt.Sprintf("opposite halves, d=%x", d), key, s.mod(times(r, minus(n, d))), r, sv, false)
	}

	// Chosen point R, s and e: Q = (s·R - e·G)/r.
	recover := func(point xy, r, sv, e *big.Int) xy {
		q := s.plus(s.times(s.mod(sv), point), s.times(s.mod(new(big.Int).Neg(e)), s.base()))
		return s.times(s.inverse(r), q)
	}
	e := s.mod(times(secret, secret))
	for _, sv := range []*big.Int{one, minus(n, one), big.NewInt(0xabcdef)} {
		what := fmt.Sprintf("s=%x, ", sv)
		low := s.nearX(t, one, 1)
		add(what+"r small", recover(low, low.x, sv, e), e, low.x, sv, true)
		add(what+"r small, e = 0", recover(low, low.x, sv, new(big.Int)), new(big.Int), low.x, sv, true)
		add(what+"r small, other point of the same x", recover(s.neg(low), low.x, sv, e), e, low.x, sv, true)
		high := s.nearX(t, minus(n, one), -1)
		add(what+"r large", recover(high, high.x, sv, e), e, high.x, sv, true)
		// x at or above the order: r = x - n.
		above := s.nearX(t, plus(n, one), 1)
		r := minus(above.x, n)
		q := recover(above, r, sv, e)
		add(what+"x above the order", q, e, r, sv, true)
		add(what+"x above the order as r", q, e, above.x, sv, false)
		top := s.nearX(t, minus(s.p, one), -1)
		r = minus(top.x, n)
		add(what+"x just below the prime", recover(top, r, sv, e), e, r, sv, true)
		// r + n at or above the prime must not wrap around: x0 = r + n - p is no match.
		r = plus(low.x, minus(s.p, n))
		add(what+"r + n wraps around the prime", recover(low, r, sv, e), e, r, sv, false)
		// x = r + n would match if it were compared modulo the prime only after a carry beyond the width.
		add(what+"r small, written with n added", recover(low, low.x, sv, e), e, plus(low.x, n), sv, false)
	}

	// A random signature and everything that may be done to it.
	key := s.times(secret, s.base())
	k := s.mod(times(secret, big.NewInt(0x7654321)))
	r := s.mod(s.times(k, s.base()).x)
	sv := s.mod(times(plus(e, times(r, secret)), s.inverse(k)))
	zero := new(big.Int)
	add("random", key, e, r, sv, true)
	for _, m := range []struct {
		name  string
		r, s  *big.Int
		valid bool
	}{
		{"s negated: ECDSA is malleable", r, minus(n, sv), true},
		{"r negated", minus(n, r), sv, false},
		{"r 0", zero, sv, false}, {"s 0", r, zero, false}, {"both 0", zero, zero, false},
		{"r 1", one, sv, false}, {"s 1", r, one, false}, {"both 1", one, one, false},
		{"r n", n, sv, false}, {"s n", r, n, false}, {"both n", n, n, false},
		{"r n-1", minus(n, one), sv, false}, {"s n-1", r, minus(n, one), false},
		{"r n+1", plus(n, one), sv, false}, {"s n+1", r, plus(n, one), false},
		{"r p", s.p, sv, false}, {"s p", r, s.p, false}, {"r p-1", minus(s.p, one), sv, false}, {"s p+1", r, plus(s.p, one), false},
		{"swapped", sv, r, false},
		{"r = 0, s = n", zero, n, false}, {"r = n, s = 0", n, zero, false},
		{"s inverted", r, s.inverse(sv), false},
		{"r all ones", minus(new(big.Int).Lsh(one, uint(8*c.size)), one), sv, false},
	} {
		add(m.name, key, e, m.r, m.s, m.valid)
	}
	for bit := range 8 * c.size {
		if bit%23 == 0 {
			flip := new(big.Int).Lsh(one, uint(bit))
			add(fmt.Sprintf("bit %d of r", bit), key, e, new(big.Int).Xor(r, flip), sv, false)
			add(fmt.Sprintf("bit %d of s", bit), key, e, r, new(big.Int).Xor(sv, flip), false)
			add(fmt.Sprintf("bit %d of e", bit), key, new(big.Int).Xor(e, flip), r, sv, false)
		}
	}
	add("key negated", s.neg(key), e, r, sv, false)

	// Representatives of other lengths.
	for _, length := range []int{0, 1, 20, 25, c.size - 1, c.size + 1, 2 * c.size, 200} {
		for _, octet := range []byte{0, 1, 0xff} {
			raw := bytes.Repeat([]byte{octet}, length)
			z := new(big.Int).SetBytes(raw[:min(length, c.size)])
			sv := s.mod(times(plus(z, times(r, secret)), s.inverse(k)))
			cases = append(cases, ecdsaCase{fmt.Sprintf("%d octets %02x", length, octet), key, raw, r, sv, true})
		}
	}
	for _, z := range []*big.Int{n, plus(n, one), minus(n, one), s.p} { // not below the order: they are reduced
		sv := s.mod(times(plus(z, times(r, secret)), s.inverse(k)))
		add(fmt.Sprintf("e = %x", z), key, z, r, sv, true)
	}
	return cases
}

func (v ecdsaCase) publicKey(t testing.TB, c *Curve) *PublicKey {
	t.Helper()
	key, err := ParsePublicKey(c, append(append([]byte{4}, fill(c, v.key.x)...), fill(c, v.key.y)...))
	if err != nil {
		t.Fatalf("%s: %v", v.name, err)
	}
	return key
}

func TestECDSACases(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("openssl")
	haveOpenSSL := err == nil
	eachCurve(t, func(t *testing.T, c *Curve, s slow) {
		dir := t.TempDir()
		tables := map[string][2]*Table{}
		for i, v := range ecdsaCases(t, c, s) {
			rs := append(fill(c, v.r), fill(c, v.s)...)
			key := v.publicKey(t, c)
			if _, ok := tables[string(key.raw)]; !ok {
				tables[string(key.raw)] = [2]*Table{PrecomputeVartime(key, SmallTable), PrecomputeVartime(key, LargeTable)}
			}
			got := map[string]bool{
				"without table": key.VerifyVartime(v.e, rs), "small table": tables[string(key.raw)][0].VerifyVartime(v.e, rs),
				"large table": tables[string(key.raw)][1].VerifyVartime(v.e, rs), "as DER": key.VerifyASN1(v.e, derSignature(v.r, v.s)),
			}
			if c == P256r1() || i%4 == 0 { // they are slow
				got["reference"] = s.verify(v.key.x, v.key.y, v.e, rs)
				// OpenSSL's pkeyutl takes no empty message and none longer than a hash.
				if haveOpenSSL && i%3 == 0 && len(v.e) > 0 && len(v.e) <= 64 {
					got["OpenSSL"] = opensslVerifies(t, dir, key, v)
				}
			}
			for way, got := range got {
				if got != v.valid {
					t.Errorf("%s: %s says %v, want %v", v.name, way, got, v.valid)
				}
			}
		}
	})
}

func opensslVerifies(t *testing.T, dir string, key *PublicKey, v ecdsaCase) bool {
	t.Helper()
	write(t, dir, "key", pemPublicKey(t, key))
	write(t, dir, "e", v.e)
	write(t, dir, "sig", derSignature(v.r, v.s))
	cmd := exec.Command("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key", "-in", "e", "-sigfile", "sig")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v\n%s", err, out)
	}
	return err == nil
}

func derSignature(r, s *big.Int) []byte {
	body := append(derInt(r), derInt(s)...)
	return append(derHeader(0x30, len(body)), body...)
}

func write(t testing.TB, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func marshalPEM(t testing.TB, kind string, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func pemPublicKey(t testing.TB, key *PublicKey) []byte {
	t.Helper()
	var spki subjectPublicKey
	spki.Algorithm.Algorithm, spki.Algorithm.Curve = oidECPublicKey, key.Curve().OID()
	spki.Key = asn1.BitString{Bytes: key.Bytes(), BitLength: 8 * len(key.Bytes())}
	return marshalPEM(t, "PUBLIC KEY", spki)
}

// ecdhCases are scalars and points at the edges, and what comes out.
func TestECDHCases(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("openssl")
	haveOpenSSL := err == nil
	eachCurve(t, func(t *testing.T, c *Curve, s slow) {
		dir := t.TempDir()
		one, n := big.NewInt(1), s.n
		scalars := []*big.Int{one, big.NewInt(2), big.NewInt(15), big.NewInt(16), big.NewInt(17), minus(n, one), minus(n, big.NewInt(2)), new(big.Int).Rsh(n, 1),
			new(big.Int).Lsh(one, uint(8*c.size-1)), minus(new(big.Int).Lsh(one, uint(8*c.size-1)), one), new(big.Int).Lsh(one, 64),
			new(big.Int).SetBytes(mustKey(t, c, 41).Bytes())}
		points := map[string]xy{
			"G": s.base(), "-G": s.neg(s.base()), "2G": s.times(big.NewInt(2), s.base()), "random": s.times(big.NewInt(0x123456789), s.base()),
			"x small": s.nearX(t, new(big.Int), 1), "x large": s.nearX(t, minus(s.p, one), -1), "x = n or just below": s.nearX(t, n, -1),
		}
		for name, p := range points {
			peer, err := ParsePublicKey(c, append(append([]byte{4}, fill(c, p.x)...), fill(c, p.y)...))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for i, k := range scalars {
				if c != P256r1() && i%3 == 2 {
					continue
				}
				key, err := NewPrivateKey(c, fill(c, k))
				if err != nil {
					t.Fatalf("%x: %v", k, err)
				}
				got, err := key.ECDH(peer)
				if want := fill(c, s.times(k, p).x); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%x·%s = %x, %v; want %x", k, name, got, err, want)
				}
				if !haveOpenSSL || i%4 != 0 {
					continue
				}
				write(t, dir, "key", marshalPEM(t, "EC PRIVATE KEY", ecPrivateKey{1, key.Bytes(), c.OID(), asn1.BitString{Bytes: key.Public().Bytes(), BitLength: 8 * (1 + 2*c.size)}}))
				write(t, dir, "peer", pemPublicKey(t, peer))
				if theirs := openssl(t, dir, false, "pkeyutl", "-derive", "-inkey", "key", "-peerkey", "peer"); !bytes.Equal(got, theirs) {
					t.Errorf("%x·%s = %x, openssl has %x", k, name, got, theirs)
				}
			}
		}
		own := mustKey(t, c, 9)
		for _, foreign := range []*Curve{P256r1(), P384r1(), P512r1()} {
			if foreign == c {
				continue
			}
			if _, err := own.ECDH(mustKey(t, foreign, 11).Public()); !errors.Is(err, ErrCurve) {
				t.Errorf("key of %v accepted: %v", foreign, err)
			}
		}
		if _, err := own.ECDH(nil); !errors.Is(err, ErrCurve) {
			t.Errorf("no peer: %v", err)
		}
	})
}

// TestSignaturesAgainstOpenSSL signs with keys at the edges and random ones; OpenSSL and the reference check.
func TestSignaturesAgainstOpenSSL(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("openssl")
	haveOpenSSL := err == nil
	eachCurve(t, func(t *testing.T, c *Curve, s slow) {
		dir := t.TempDir()
		for i, d := range []*big.Int{big.NewInt(1), big.NewInt(2), minus(s.n, big.NewInt(1)), minus(s.n, big.NewInt(2)), new(big.Int).Lsh(big.NewInt(1), uint(8*c.size-1)),
			new(big.Int).SetBytes(mustKey(t, c, 42).Bytes()), new(big.Int).SetBytes(mustKey(t, c, 43).Bytes())} {
			key, err := NewPrivateKey(c, fill(c, d))
			if err != nil {
				t.Fatal(err)
			}
			q := s.times(d, s.base())
			for j, e := range [][]byte{{0}, {1}, bytes.Repeat([]byte{0xff}, c.size), fill(c, s.n), fill(c, minus(s.n, big.NewInt(1))), bytes.Repeat([]byte{0x5a}, 25)} {
				rs, err := key.Sign(repeatable(byte(i)), e)
				if err != nil || !s.verify(q.x, q.y, e, rs) || !key.Public().Verify(e, rs) {
					t.Errorf("signature of %x over %x is %x, %v", d, e, rs, err)
					continue
				}
				if haveOpenSSL && (i+j)%3 == 0 {
					write(t, dir, "key", pemPublicKey(t, key.Public()))
					write(t, dir, "e", e)
					write(t, dir, "sig", derSignature(new(big.Int).SetBytes(rs[:c.size]), new(big.Int).SetBytes(rs[c.size:])))
					openssl(t, dir, false, "pkeyutl", "-verify", "-pubin", "-inkey", "key", "-in", "e", "-sigfile", "sig")
				}
			}
		}
	})
}
