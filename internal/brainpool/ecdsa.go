package brainpool

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// representative turns e into the number that ECDSA signs (SEC 1 chapter 4.1.3, bits2int): a big-endian integer of which
// only the leftmost octets count where it is longer than the order. Shorter input keeps its value, so that the health
// card's unhashed 25-octet token of the role authentication works as it is. The result is below the order.
func (c *Curve) representative(e []byte) (z fe) {
	if len(e) > c.size {
		e = e[:c.size]
	}
	z = limbs(e)
	c.n.reduce(&z, &z, 0)
	return z
}

// Sign makes a plain ECDSA signature over the message representative e and returns R || S, each of the curve's width. e
// is a hash, of which the leftmost octets count where it is longer than the order, or a shorter big-endian integer that
// is taken as it is (bits2int of SEC 1), such as the unhashed token of a health card's role authentication.
//
// The nonce is hedged: derived from the key, e and 32 octets of random (crypto/rand when nil) with the generator of
// RFC 6979 chapter 3.6, so that neither a repeating random source nor a repeated message shows the key. A random source
// that fails gives ErrRandom.
func (k *PrivateKey) Sign(random io.Reader, e []byte) ([]byte, error) {
	if random == nil {
		random = rand.Reader
	}
	extra := make([]byte, 32)
	if _, err := io.ReadFull(random, extra); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRandom, err)
	}
	c := k.public.curve
	n := &c.n
	z := c.representative(e)
	d := limbs(k.scalar)
	n.toMont(&d, &d)
	drbg := newNonceSource(k.scalar, n.bytes(&z), extra)
	for {
		nonceBytes := drbg.next(c.size)
		var nonce fe
		if n.setBytes(&nonce, nonceBytes)&^nonce.isZero() != 1 {
			continue // says nothing about the nonce that is used in the end
		}
		var q point
		c.baseMult(&q, nonceBytes)
		clear(nonceBytes)
		r, _ := c.affine(&q)
		n.reduce(&r, &r, 0)

		// s = (z + r·d) / nonce; the Montgomery factors cancel.
		var s, t fe
		n.toMont(&nonce, &nonce)
		n.inv(&nonce, &nonce)
		n.mul(&t, &r, &d)
		n.add(&t, &t, &z)
		n.mul(&s, &t, &nonce)
		if r.isZero()|s.isZero() == 1 {
			continue
		}
		return append(n.bytes(&r), n.bytes(&s)...), nil
	}
}

// nonceSource is the HMAC generator of RFC 6979 with SHA-512.
type nonceSource struct{ key, v []byte }

func newNonceSource(parts ...[]byte) *nonceSource {
	s := &nonceSource{key: make([]byte, sha512.Size), v: make([]byte, sha512.Size)}
	for i := range s.v {
		s.v[i] = 1
	}
	for _, round := range []byte{0, 1} {
		s.key = s.mac(append([][]byte{s.v, {round}}, parts...)...)
		s.v = s.mac(s.v)
	}
	return s
}

func (s *nonceSource) mac(parts ...[]byte) []byte {
	h := hmac.New(sha512.New, s.key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// next returns the next candidate; the first step between two candidates keeps them independent.
func (s *nonceSource) next(size int) []byte {
	s.v = s.mac(s.v)
	out := append([]byte(nil), s.v[:size]...)
	s.key = s.mac(s.v, []byte{0})
	s.v = s.mac(s.v)
	return out
}

// VerifyVartime reports whether rs (R || S, each of the curve's width) is the key's ECDSA signature over the message
// representative e as [PrivateKey.Sign] takes it. Its time depends on all of these; they are public.
func (p *PublicKey) VerifyVartime(e, rs []byte) bool {
	return p.verifyVartime(e, rs, func(r *point, u, v *fe) { p.curve.doubleMultVartime(r, u, v, &p.point) })
}

// Verify is VerifyVartime by the name that crypto packages use.
func (p *PublicKey) Verify(e, rs []byte) bool { return p.VerifyVartime(e, rs) }

// verifyVartime is the check; mult sets r = u·G + v·Q.
func (p *PublicKey) verifyVartime(e, rs []byte, mult func(r *point, u, v *fe)) bool {
	c := p.curve
	if len(rs) != 2*c.size {
		return false
	}
	n := &c.n
	var r, s fe
	if n.setBytes(&r, rs[:c.size])&n.setBytes(&s, rs[c.size:]) != 1 || r.isZero()|s.isZero() == 1 {
		return false
	}
	z := c.representative(e)
	var inv, u, v fe
	n.toMont(&inv, &s)
	n.inv(&inv, &inv)
	n.mul(&u, &z, &inv) // one Montgomery factor: the result is the plain number
	n.mul(&v, &r, &inv)
	var q point
	mult(&q, &u, &v)
	if q.z.isZero() == 1 {
		return false
	}
	x, _ := c.affine(&q)
	n.reduce(&x, &x, 0)
	return x.equal(&r) == 1
}

// SignASN1 is [PrivateKey.Sign] with the signature as DER SEQUENCE { r INTEGER, s INTEGER }, the form of certificates.
func (k *PrivateKey) SignASN1(random io.Reader, e []byte) ([]byte, error) {
	rs, err := k.Sign(random, e)
	if err != nil {
		return nil, err
	}
	size := k.Curve().size
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, half := range [][]byte{rs[:size], rs[size:]} {
			b.AddASN1(asn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(unsigned(half)) })
		}
	})
	return b.Bytes()
}

// unsigned is the shortest DER content of a non-negative integer.
func unsigned(b []byte) []byte {
	for len(b) > 1 && b[0] == 0 {
		b = b[1:]
	}
	if b[0]&0x80 != 0 {
		b = append([]byte{0}, b...)
	}
	return b
}

// VerifyASN1 is [PublicKey.VerifyVartime] for a signature as strict DER SEQUENCE { r INTEGER, s INTEGER }.
func (p *PublicKey) VerifyASN1(e, der []byte) bool {
	rs, ok := p.curve.SignatureFromDER(der)
	return ok && p.VerifyVartime(e, rs)
}

// SignatureFromDER reads a signature in the form of certificates, strict DER SEQUENCE { r INTEGER, s INTEGER } with
// nothing after it, and returns R || S, each of the curve's width. It refuses negative, padded and too long numbers;
// whether they are in range is up to the check of the signature.
func (c *Curve) SignatureFromDER(der []byte) (rs []byte, ok bool) {
	input := cryptobyte.String(der)
	var seq cryptobyte.String
	if !input.ReadASN1(&seq, asn1.SEQUENCE) || !input.Empty() {
		return nil, false
	}
	rs = make([]byte, 2*c.size)
	for _, half := range [][]byte{rs[:c.size], rs[c.size:]} {
		var v []byte
		if !seq.ReadASN1Integer(&v) || len(v) > c.size { // minimal and not negative
			return nil, false
		}
		copy(half[c.size-len(v):], v)
	}
	return rs, seq.Empty()
}
