package brainpool

import (
	"encoding/asn1"
	"encoding/hex"
	"sync"

	"ktradv/internal/brainpool/internal/rfc5639"
)

//go:generate go run ./internal/generate

var (
	p256r1 = sync.OnceValue(func() *Curve { return newCurve(0, newP256Group) })
	p384r1 = sync.OnceValue(func() *Curve { return newCurve(1, newP384Group) })
	p512r1 = sync.OnceValue(func() *Curve { return newCurve(2, newP512Group) })
)

// P256r1 returns the curve brainpoolP256r1.
func P256r1() *Curve { return p256r1() }

// P384r1 returns the curve brainpoolP384r1.
func P384r1() *Curve { return p384r1() }

// P512r1 returns the curve brainpoolP512r1.
func P512r1() *Curve { return p512r1() }

// CurveByOID returns the curve with the given object identifier, nil when it is none of this package.
func CurveByOID(oid asn1.ObjectIdentifier) *Curve {
	for i, get := range []func() *Curve{P256r1, P384r1, P512r1} {
		if rfc5639.Domains[i].OID.Equal(oid) {
			return get()
		}
	}
	return nil
}

func newCurve(i int, newGroup func(*rfc5639.Domain) group) *Curve {
	d := &rfc5639.Domains[i]
	return &Curve{name: d.Name, oid: d.OID, size: len(d.P) / 2, group: newGroup(d)}
}

// constant decodes one of the parameters; the tests read every one of them.
func constant(s string) []byte {
	b, _ := hex.DecodeString(s)
	return b
}
