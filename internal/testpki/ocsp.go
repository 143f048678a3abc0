package testpki

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"time"

	stdasn1 "encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidOCSPBasic = []int{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidOCSPNonce = []int{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidCertHash  = []int{1, 3, 36, 8, 3, 13}
	oidSHA256    = []int{2, 16, 840, 1, 101, 3, 4, 2, 1}
)

// OCSPFault makes the responder answer wrongly, for tests of the product's checks.
type OCSPFault int

// The faults. Each one changes exactly one thing of a right answer.
const (
	FaultSignature      OCSPFault = iota + 1 // signature over something else
	FaultCertHash                            // certHash of another certificate
	FaultNoCertHash                          // extension left out
	FaultStale                               // producedAt and thisUpdate an hour ago
	FaultFuture                              // producedAt and thisUpdate an hour ahead
	FaultExpired                             // nextUpdate an hour ago
	FaultOtherResponder                      // signed by a responder that the issuer did not issue
	FaultRogueResponder                      // signed by a self-signed certificate with the right name
	FaultNotASigner                          // signed with a certificate of the issuer that may not sign OCSP
	FaultOtherSerial                         // answer about another serial number
	FaultOtherIssuer                         // answer about another issuer's certificate
	FaultNonce                               // nonce of the request replaced
	FaultNoNonce                             // nonce of the request left out
	FaultTryLater                            // status tryLater, no answer
	FaultTruncated                           // half of a right answer
	FaultCritical                            // critical extension that nobody knows
	FaultTwice                               // the answer about the certificate twice, first as good
)

// OCSPResponse answers a request about one certificate (RFC 6960) at the given time. It signs with the signer that
// stands for the certificate's issuer, adds the certHash of the certificate when the PKI issued it, and repeats a nonce.
// For an issuer it does not know it answers "unauthorized", for something that is no request "malformedRequest".
func (p *PKI) OCSPResponse(request []byte, statusOf func(serial *big.Int) Status, now time.Time, faults ...OCSPFault) ([]byte, error) {
	has := func(f OCSPFault) bool {
		for _, fault := range faults {
			if fault == f {
				return true
			}
		}
		return false
	}
	if has(FaultTryLater) {
		return ocspFailure(3)
	}
	req, err := parseOCSPRequest(request)
	if err != nil {
		return ocspFailure(1)
	}
	signer := &p.OCSPSigner
	switch {
	case bytes.Equal(req.keyHash, keyID(p.EGKCA.pair().public())):
	case bytes.Equal(req.keyHash, keyID(p.EGKRSACA.pair().public())):
		signer = &p.RSAOCSPSigner
	case bytes.Equal(req.keyHash, keyID(p.SMBCA.pair().public())), bytes.Equal(req.keyHash, keyID(p.ComponentCA.pair().public())):
		signer = &p.OtherOCSPSigner
	default:
		return ocspFailure(6)
	}
	status := statusOf(req.serial)
	certHash := sha256.Sum256(p.Certificate(req.serial))
	known := p.Certificate(req.serial) != nil
	var nextUpdate time.Time
	at := now
	for _, fault := range faults {
		switch fault {
		case FaultCertHash:
			certHash[0] ^= 1
		case FaultNoCertHash:
			known = false
		case FaultStale:
			at = now.Add(-time.Hour)
		case FaultFuture:
			at = now.Add(time.Hour)
		case FaultExpired:
			nextUpdate = now.Add(-time.Hour)
		case FaultOtherResponder:
			signer = &p.OtherOCSPSigner
		case FaultRogueResponder:
			if signer, err = p.rogueSigner(); err != nil {
				return nil, err
			}
		case FaultNotASigner:
			id, err := p.IssueX509(&p.EGKCA, Template{
				Subject: []Attribute{{oidCommonName, "no OCSP signer"}}, NotBefore: p.years(-1), NotAfter: p.years(1), KeyUsage: UsageDigitalSignature,
			})
			if err != nil {
				return nil, err
			}
			signer = (*X509Authority)(&id)
		case FaultOtherSerial:
			req.serial = new(big.Int).Add(req.serial, big.NewInt(1))
		case FaultOtherIssuer:
			req.keyHash = keyID(p.SMBCA.pair().public())
		case FaultNoNonce:
			req.nonce = nil
		case FaultNonce:
			req.nonce = append([]byte{4, 16}, bytes.Repeat([]byte{0x5a}, 16)...)
		}
	}
	subject, err := subjectOf(signer.Certificate)
	if err != nil {
		return nil, fmt.Errorf("OCSP response: %w", err)
	}
	addSingle := func(b *cryptobyte.Builder, status Status) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { // SingleResponse
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(req.algorithm)
				b.AddASN1OctetString(req.nameHash)
				b.AddASN1OctetString(req.keyHash)
				b.AddASN1BigInt(req.serial)
			})
			addStatus(b, status, now)
			b.AddASN1GeneralizedTime(at.UTC().Truncate(time.Second))
			if !nextUpdate.IsZero() {
				b.AddASN1(asn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
					b.AddASN1GeneralizedTime(nextUpdate.UTC().Truncate(time.Second))
				})
			}
			if known {
				addExtension(b, oidCertHash, false, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						addAlgorithm(b, oidSHA256)
						b.AddASN1OctetString(certHash[:])
					})
				})
			}
		})
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { // ResponseData
		b.AddASN1(asn1.Tag(1).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(subject) })
		b.AddASN1GeneralizedTime(at.UTC().Truncate(time.Second))
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			if has(FaultTwice) {
				addSingle(b, Good)
			}
			addSingle(b, status)
		})
		switch {
		case has(FaultCritical):
			addExtension(b, []int{1, 2, 3, 4}, true, func(b *cryptobyte.Builder) { b.AddASN1NULL() })
		case req.nonce != nil:
			addExtension(b, oidOCSPNonce, false, func(b *cryptobyte.Builder) { b.AddBytes(req.nonce) })
		}
	})
	data, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("OCSP response: %w", err)
	}
	signedData := data
	if has(FaultSignature) {
		signedData = append(bytes.Clone(data), 0)
	}
	response, err := p.wrapOCSP(data, signedData, signer)
	if has(FaultTruncated) && err == nil {
		response = response[:len(response)/2]
	}
	return response, err
}

func (p *PKI) wrapOCSP(data, signedData []byte, signer *X509Authority) ([]byte, error) {
	signature, err := signer.pair().sign(p.config.Rand, signedData)
	if err != nil {
		return nil, fmt.Errorf("OCSP response: %w", err)
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { // OCSPResponse
		b.AddASN1Enum(0)
		b.AddASN1(asn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addOID(b, oidOCSPBasic)
				b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { // BasicOCSPResponse
						b.AddBytes(data)
						signer.pair().addAlgorithm(b)
						b.AddASN1BitString(signature)
						b.AddASN1(asn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
							b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(signer.Certificate) })
						})
					})
				})
			})
		})
	})
	return b.Bytes()
}

// rogueSigner imitates the responder's name with a key of its own.
func (p *PKI) rogueSigner() (*X509Authority, error) {
	key, err := p.newKey()
	if err != nil {
		return nil, err
	}
	der, err := p.writeCertificate(ocspSignerTemplate(p, "ADV OCSP Signer 1"), publicKey{ec: key.Public()}, nil, keyPair{ec: key})
	if err != nil {
		return nil, err
	}
	return &X509Authority{Key: key, Certificate: der}, nil
}

func addStatus(b *cryptobyte.Builder, status Status, now time.Time) {
	switch status {
	case Good:
		b.AddASN1(asn1.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
	case Revoked:
		b.AddASN1(asn1.Tag(1).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
			b.AddASN1GeneralizedTime(now.Add(-24 * time.Hour).UTC().Truncate(time.Second))
		})
	default:
		b.AddASN1(asn1.Tag(2).ContextSpecific(), func(*cryptobyte.Builder) {})
	}
}

// addExtension writes the field [1] Extensions with one entry.
func addExtension(b *cryptobyte.Builder, oid []int, critical bool, value func(b *cryptobyte.Builder)) {
	b.AddASN1(asn1.Tag(1).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addOID(b, oid)
				if critical {
					b.AddASN1Boolean(true)
				}
				b.AddASN1(asn1.OCTET_STRING, value)
			})
		})
	})
}

func ocspFailure(status int64) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1Enum(status) })
	return b.Bytes()
}

type ocspRequest struct {
	algorithm, nameHash, keyHash []byte // algorithm as encoded
	serial                       *big.Int
	nonce                        []byte // the extension's value as encoded, nil without one
}

var errOCSPRequest = errors.New("not an OCSP request about one certificate")

func parseOCSPRequest(der []byte) (*ocspRequest, error) {
	in := cryptobyte.String(der)
	var outer, tbs, list, one, id, algorithm, name, key, version cryptobyte.String
	r := &ocspRequest{serial: new(big.Int)}
	ok := in.ReadASN1(&outer, asn1.SEQUENCE) && in.Empty() && outer.ReadASN1(&tbs, asn1.SEQUENCE) &&
		tbs.ReadOptionalASN1(&version, nil, asn1.Tag(0).Constructed().ContextSpecific()) &&
		tbs.ReadOptionalASN1(&version, nil, asn1.Tag(1).Constructed().ContextSpecific()) &&
		tbs.ReadASN1(&list, asn1.SEQUENCE) && list.ReadASN1(&one, asn1.SEQUENCE) && list.Empty() &&
		one.ReadASN1(&id, asn1.SEQUENCE) && id.ReadASN1Element(&algorithm, asn1.SEQUENCE) &&
		id.ReadASN1(&name, asn1.OCTET_STRING) && id.ReadASN1(&key, asn1.OCTET_STRING) &&
		id.ReadASN1Integer(r.serial) && id.Empty()
	if !ok || len(key) != sha1.Size {
		return nil, errOCSPRequest
	}
	r.algorithm, r.nameHash, r.keyHash = algorithm, name, key
	if tbs.Empty() {
		return r, nil
	}
	var wrapper, extensions, extension, value cryptobyte.String
	var oid stdasn1.ObjectIdentifier
	if !tbs.ReadASN1(&wrapper, asn1.Tag(2).Constructed().ContextSpecific()) || !wrapper.ReadASN1(&extensions, asn1.SEQUENCE) {
		return nil, errOCSPRequest
	}
	for !extensions.Empty() {
		if !extensions.ReadASN1(&extension, asn1.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&oid) || !extension.ReadASN1(&value, asn1.OCTET_STRING) {
			return nil, errOCSPRequest
		}
		if oid.Equal(oidOCSPNonce) {
			r.nonce = value
		}
	}
	return r, nil
}
