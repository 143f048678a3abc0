// Package brainpool implements the elliptic curves brainpoolP256r1, P384r1 and P512r1 (RFC 5639) with key generation,
// ECDSA and ECDH. The health card and the certificates of the telematics infrastructure use these curves; Go's standard
// library has none of them.
//
// All numbers have fixed width. Operations with a secret (key generation, signing, ECDH) run in time independent of the
// secret: Montgomery arithmetic without branches, complete addition formulas, tables read in full. Checking a signature
// handles public values only and takes a faster path whose functions are named "Vartime".
//
// A [PublicKey] is always a point of its curve other than infinity; the curves have prime order, so nothing else needs
// to be checked before it is used.
package brainpool

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"

	"ktradv/internal/redact"
)

// Curve is one of the three curves. It is immutable and safe for concurrent use.
type Curve struct {
	name  string
	oid   asn1.ObjectIdentifier
	size  int
	group group
}

// Name returns for example "brainpoolP256r1".
func (c *Curve) Name() string { return c.name }

// OID returns the curve's object identifier (RFC 5639 chapter 4.1). The caller must not change it.
func (c *Curve) OID() asn1.ObjectIdentifier { return c.oid }

// Size returns the length of a coordinate, of a private key and of half a signature in octets: 32, 48 or 64.
func (c *Curve) Size() int { return c.size }

// String returns the curve's name.
func (c *Curve) String() string { return c.name }

// Errors for keys that are none.
var (
	ErrEncoding   = errors.New("brainpool: not an uncompressed point of this curve's length")
	ErrNotOnCurve = errors.New("brainpool: point is not on the curve")
	ErrScalar     = errors.New("brainpool: private key is not in 1..n-1")
	ErrCurve      = errors.New("brainpool: keys are on different curves")
	ErrRandom     = errors.New("brainpool: random source gives no usable numbers")
)

// PublicKey is a point of the curve other than infinity.
type PublicKey struct {
	curve *Curve
	raw   []byte // 04 || X || Y
	point any    // of the curve's group
}

// ParsePublicKey reads an uncompressed point 04 || X || Y (SEC 1 chapter 2.3.4). It refuses other forms, coordinates not
// below the field's prime (ErrEncoding), and points that are not on the curve (ErrNotOnCurve).
func ParsePublicKey(c *Curve, uncompressed []byte) (*PublicKey, error) {
	if len(uncompressed) != 1+2*c.size || uncompressed[0] != 4 {
		return nil, ErrEncoding
	}
	point, err := c.group.parse(uncompressed[1:])
	if err != nil {
		return nil, err
	}
	return &PublicKey{curve: c, raw: bytes.Clone(uncompressed), point: point}, nil
}

// Bytes returns the uncompressed point 04 || X || Y.
func (p *PublicKey) Bytes() []byte { return bytes.Clone(p.raw) }

// Curve returns the key's curve.
func (p *PublicKey) Curve() *Curve { return p.curve }

// Equal reports whether both are the same point of the same curve.
func (p *PublicKey) Equal(q *PublicKey) bool {
	return p != nil && q != nil && p.curve == q.curve && subtle.ConstantTimeCompare(p.raw, q.raw) == 1
}

// PrivateKey is a scalar in 1..n-1. It prints as [redacted].
type PrivateKey struct {
	scalar []byte // big-endian, the curve's width
	public *PublicKey
}

// GenerateKey draws a key from rand, crypto/rand when nil. It returns ErrRandom when the source fails or keeps giving
// numbers out of range.
func GenerateKey(c *Curve, random io.Reader) (*PrivateKey, error) {
	if random == nil {
		random = rand.Reader
	}
	scalar := make([]byte, c.size)
	// A sound source is in range with a chance above one half.
	for range 128 {
		if _, err := io.ReadFull(random, scalar); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRandom, err)
		}
		if key, err := NewPrivateKey(c, scalar); err == nil {
			return key, nil
		}
	}
	return nil, ErrRandom
}

// NewPrivateKey takes a scalar in 1..n-1, big-endian with exactly the curve's width.
func NewPrivateKey(c *Curve, scalar []byte) (*PrivateKey, error) {
	if len(scalar) != c.size {
		return nil, ErrScalar
	}
	coordinates, ok := c.group.public(scalar)
	if !ok {
		return nil, ErrScalar
	}
	public, err := ParsePublicKey(c, append([]byte{4}, coordinates...))
	if err != nil {
		return nil, fmt.Errorf("public key of a scalar: %w", err)
	}
	return &PrivateKey{scalar: bytes.Clone(scalar), public: public}, nil
}

// Public returns the public key.
func (k *PrivateKey) Public() *PublicKey { return k.public }

// Curve returns the key's curve.
func (k *PrivateKey) Curve() *Curve { return k.public.curve }

// Bytes returns the scalar, big-endian with the curve's width.
func (k *PrivateKey) Bytes() []byte { return bytes.Clone(k.scalar) }

func (*PrivateKey) String() string               { return redact.Mark }
func (*PrivateKey) GoString() string             { return redact.Mark }
func (*PrivateKey) Format(w fmt.State, _ rune)   { io.WriteString(w, redact.Mark) }
func (*PrivateKey) MarshalText() ([]byte, error) { return []byte(redact.Mark), nil }

// ECDH returns the x-coordinate of the shared point with the curve's width (BSI TR-03111 chapter 4.3.1, cofactor 1).
func (k *PrivateKey) ECDH(peer *PublicKey) ([]byte, error) {
	c := k.public.curve
	if peer == nil || peer.curve != c {
		return nil, ErrCurve
	}
	return c.group.ecdh(k.scalar, peer.point), nil
}
