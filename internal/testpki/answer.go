package testpki

import (
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// OCSPAnswer is an OCSP response about one certificate with everything in it chosen by the test, such as those that are
// embedded in signatures.
type OCSPAnswer struct {
	Certificate, Issuer    []byte // DER
	Status                 Status
	RevokedAt              time.Time // with Revoked
	ProducedAt             time.Time
	ThisUpdate, NextUpdate time.Time // zero: ProducedAt, and absent
	NoCertHash             bool
	HashOf                 []byte // certHash of this instead of the certificate
	ByKey                  bool   // name the responder by its key
}

// AnswerOCSP writes and signs the response.
func (p *PKI) AnswerOCSP(a OCSPAnswer, signer X509Authority) ([]byte, error) {
	serial, _, err := readCertificate(a.Certificate)
	if err != nil {
		return nil, fmt.Errorf("OCSP answer: %w", err)
	}
	issuerName, issuerKey, err := nameAndKey(a.Issuer)
	if err != nil {
		return nil, fmt.Errorf("OCSP answer: %w", err)
	}
	signerName, signerKey, err := nameAndKey(signer.Certificate)
	if err != nil {
		return nil, fmt.Errorf("OCSP answer: %w", err)
	}
	if a.ThisUpdate.IsZero() {
		a.ThisUpdate = a.ProducedAt
	}
	if a.HashOf == nil {
		a.HashOf = a.Certificate
	}
	at := func(b *cryptobyte.Builder, t time.Time) { b.AddASN1GeneralizedTime(t.UTC().Truncate(time.Second)) }
	context := func(n uint8) asn1.Tag { return asn1.Tag(n).Constructed().ContextSpecific() }
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { // ResponseData
		if a.ByKey {
			b.AddASN1(context(2), func(b *cryptobyte.Builder) {
				key := sha1.Sum(signerKey)
				b.AddASN1OctetString(key[:])
			})
		} else {
			b.AddASN1(context(1), func(b *cryptobyte.Builder) { b.AddBytes(signerName) })
		}
		at(b, a.ProducedAt)
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { // CertID
					name, key := sha1.Sum(issuerName), sha1.Sum(issuerKey)
					addAlgorithm(b, []int{1, 3, 14, 3, 2, 26})
					b.AddASN1OctetString(name[:])
					b.AddASN1OctetString(key[:])
					b.AddASN1BigInt(serial)
				})
				if a.Status == Revoked {
					b.AddASN1(context(1), func(b *cryptobyte.Builder) { at(b, a.RevokedAt) })
				} else {
					addStatus(b, a.Status, a.ProducedAt)
				}
				at(b, a.ThisUpdate)
				if !a.NextUpdate.IsZero() {
					b.AddASN1(context(0), func(b *cryptobyte.Builder) { at(b, a.NextUpdate) })
				}
				if !a.NoCertHash {
					sum := sha256.Sum256(a.HashOf)
					addExtension(b, oidCertHash, false, func(b *cryptobyte.Builder) {
						b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
							addAlgorithm(b, oidSHA256)
							b.AddASN1OctetString(sum[:])
						})
					})
				}
			})
		})
	})
	data, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("OCSP answer: %w", err)
	}
	return p.wrapOCSP(data, data, &signer)
}

// nameAndKey returns a certificate's subject (DER) and the content of its key's BIT STRING.
func nameAndKey(der []byte) (name, key []byte, err error) {
	in := cryptobyte.String(der)
	var cert, tbs, skip, subject, info cryptobyte.String
	if !in.ReadASN1(&cert, asn1.SEQUENCE) || !cert.ReadASN1(&tbs, asn1.SEQUENCE) || !tbs.SkipASN1(asn1.Tag(0).Constructed().ContextSpecific()) ||
		!tbs.SkipASN1(asn1.INTEGER) || !tbs.SkipASN1(asn1.SEQUENCE) || !tbs.SkipASN1(asn1.SEQUENCE) || !tbs.SkipASN1(asn1.SEQUENCE) ||
		!tbs.ReadASN1Element(&subject, asn1.SEQUENCE) || !tbs.ReadASN1(&info, asn1.SEQUENCE) || !info.ReadASN1(&skip, asn1.SEQUENCE) ||
		!info.ReadASN1BitStringAsBytes(&key) {
		return nil, nil, fmt.Errorf("not a certificate")
	}
	return subject, key, nil
}
