package brainpool

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"hash"
	"io"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

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
	drbg := newNonceSource(k.scalar, c.group.representative(e), extra)
	for {
		nonce := drbg.next(c.size)
		rs, ok := c.group.sign(k.scalar, e, nonce)
		clear(nonce)
		if ok {
			return rs, nil
		}
	}
}

// nonceSource is the HMAC generator of RFC 6979 with SHA-512.
type nonceSource struct {
	mac  hash.Hash // keyed with K
	v    [sha512.Size]byte
	used bool
}

func newNonceSource(parts ...[]byte) *nonceSource {
	s := &nonceSource{mac: hmac.New(sha512.New, make([]byte, sha512.Size))}
	for i := range s.v {
		s.v[i] = 1
	}
	s.rekey(0, parts...)
	s.rekey(1, parts...)
	return s
}

// rekey sets K = HMAC(K, V || round || parts) and V = HMAC(K, V).
func (s *nonceSource) rekey(round byte, parts ...[]byte) {
	s.mac.Reset()
	s.mac.Write(s.v[:])
	s.mac.Write([]byte{round})
	for _, p := range parts {
		s.mac.Write(p)
	}
	s.mac = hmac.New(sha512.New, s.mac.Sum(nil))
	s.step()
}

// step sets V = HMAC(K, V).
func (s *nonceSource) step() {
	s.mac.Reset()
	s.mac.Write(s.v[:])
	s.mac.Sum(s.v[:0])
}

// next returns the next candidate, independent of the one before.
func (s *nonceSource) next(size int) []byte {
	if s.used {
		s.rekey(0)
	}
	s.used = true
	s.step()
	return bytes.Clone(s.v[:size])
}

// VerifyVartime reports whether rs (R || S, each of the curve's width) is the key's ECDSA signature over the message
// representative e as [PrivateKey.Sign] takes it. Its time depends on all of these; they are public.
func (p *PublicKey) VerifyVartime(e, rs []byte) bool {
	return len(rs) == 2*p.curve.size && p.curve.group.verifyVartime(p.point, nil, e, rs)
}

// Verify is VerifyVartime by the name that crypto packages use.
func (p *PublicKey) Verify(e, rs []byte) bool { return p.VerifyVartime(e, rs) }

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

// SignatureFromDER is [SignatureFromDER] for signatures of keys on this curve.
func (c *Curve) SignatureFromDER(der []byte) (rs []byte, ok bool) {
	return SignatureFromDER(der, c.size)
}

// SignatureFromDER reads an ECDSA signature in the form of certificates, strict DER SEQUENCE { r INTEGER, s INTEGER } with
// nothing after it, and returns R || S, each of size octets, the width of the curve, which may be any. It refuses negative,
// padded and too long numbers; whether they are in range is up to the check of the signature.
func SignatureFromDER(der []byte, size int) (rs []byte, ok bool) {
	input := cryptobyte.String(der)
	var seq cryptobyte.String
	if !input.ReadASN1(&seq, asn1.SEQUENCE) || !input.Empty() {
		return nil, false
	}
	rs = make([]byte, 2*size)
	for _, half := range [][]byte{rs[:size], rs[size:]} {
		var v []byte
		if !seq.ReadASN1Integer(&v) || len(v) > size { // minimal and not negative
			return nil, false
		}
		copy(half[size-len(v):], v)
	}
	return rs, seq.Empty()
}
