// Package ocsp asks for the status of a certificate (RFC 6960) and judges the answer by the rules of the telematics
// infrastructure (gemSpec_PKI TUC_PKI_006): the responder is in the list of trusted responders or was issued for this
// purpose by the certificate's CA, the answer is about exactly this certificate (CertID and certHash), and its times lie
// within 37.5 seconds of the clock (GS-A_5215).
//
// Findings are values of type *[x509ti.Error] with the codes of Tab_PKI_274.
package ocsp

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	stdasn1 "encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"ktradv/internal/x509ti"
)

// Tolerance is how far the times of an online answer may be off (GS-A_5215).
const Tolerance = 37500 * time.Millisecond

// MaxSize is the largest answer that is read, in octets.
const MaxSize = 64 * 1024

// MaxNonce is the longest nonce of a request in octets (GS-A_4957-01: 256 bits).
const MaxNonce = 32

// Bounds of the lists inside an answer.
const (
	maxSingles      = 16
	maxCertificates = 8
	maxExtensions   = 16
)

// The findings of this package.
var (
	ServiceSupplyPointMissing = &x509ti.Error{Code: 1026, Name: "SERVICESUPPLYPOINT_MISSING"}
	CheckRevocationError      = &x509ti.Error{Code: 1029, Name: "OCSP_CHECK_REVOCATION_ERROR"}
	CertMissing               = &x509ti.Error{Code: 1030, Name: "OCSP_CERT_MISSING"}
	SignatureError            = &x509ti.Error{Code: 1031, Name: "OCSP_SIGNATURE_ERROR"}
	NotAvailable              = &x509ti.Error{Code: 1032, Name: "OCSP_NOT_AVAILABLE"}
	CertHashMissing           = &x509ti.Error{Code: 1040, Name: "CERTHASH_EXTENSION_MISSING"}
	CertHashMismatch          = &x509ti.Error{Code: 1041, Name: "CERTHASH_MISMATCH"}
	NonceMismatch             = &x509ti.Error{Code: 1051, Name: "OCSP_NONCE_MISMATCH"}
	StatusError               = &x509ti.Error{Code: 1058, Name: "OCSP_STATUS_ERROR"}
)

func because(e *x509ti.Error, detail string) error {
	return &x509ti.Error{Code: e.Code, Name: e.Name, Detail: detail}
}

// Status is what a responder says about a certificate.
type Status int

// Indeterminate is the zero value: there is no answer that counts.
const (
	Indeterminate Status = iota
	Good
	Revoked
	Unknown
)

// String returns the status as logs and reports name it.
func (s Status) String() string {
	switch s {
	case Good:
		return "GOOD"
	case Revoked:
		return "REVOKED"
	case Unknown:
		return "UNKNOWN"
	}
	return "INDETERMINATE"
}

// The responder's own statuses (RFC 6960 chapter 4.2.1).
var responseStatus = map[int]string{1: "malformedRequest", 2: "internalError", 3: "tryLater", 5: "sigRequired", 6: "unauthorized"}

var (
	oidSHA1     = x509ti.OID{1, 3, 14, 3, 2, 26}
	oidBasic    = x509ti.OID{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidNonce    = x509ti.OID{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidCertHash = x509ti.OID{1, 3, 36, 8, 3, 13}
)

// Request asks about exactly one certificate (GS-A_4957-01). Issuer name and key are named by SHA-1, which every
// responder knows (GS-A_5131); it protects nothing here.
type Request struct {
	serial            *big.Int
	nameHash, keyHash []byte
	nonce             []byte
}

// NewRequest prepares the question about cert, which issuer issued.
func NewRequest(cert, issuer *x509ti.Certificate) (*Request, error) {
	if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
		return nil, fmt.Errorf("ocsp request: %w", x509ti.CACertMissing)
	}
	name, key := sha1.Sum(issuer.RawSubject), sha1.Sum(issuer.PublicKeyBits)
	return &Request{serial: cert.Serial, nameHash: name[:], keyHash: key[:]}, nil
}

// SetNonce adds a nonce of 1 to MaxNonce octets, which the answer must repeat.
func (r *Request) SetNonce(nonce []byte) error {
	if len(nonce) == 0 || len(nonce) > MaxNonce {
		return fmt.Errorf("ocsp request: nonce of %d octets, want 1 to %d", len(nonce), MaxNonce)
	}
	r.nonce = append([]byte(nil), nonce...)
	return nil
}

// DER returns the encoded request.
func (r *Request) DER() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { // OCSPRequest
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { // TBSRequest
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { // requestList
				b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { // Request
					b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { // CertID
						b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
							b.AddASN1ObjectIdentifier(oidSHA1)
							b.AddASN1NULL()
						})
						b.AddASN1OctetString(r.nameHash)
						b.AddASN1OctetString(r.keyHash)
						b.AddASN1BigInt(r.serial)
					})
				})
			})
			if r.nonce == nil {
				return
			}
			b.AddASN1(explicit(2), func(b *cryptobyte.Builder) {
				b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(oidNonce)
						b.AddASN1(tags.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(r.nonce) })
					})
				})
			})
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("ocsp request: %w", err)
	}
	return der, nil
}

func explicit(n uint8) tags.Tag { return tags.Tag(n).ContextSpecific().Constructed() }

// Response is a parsed answer. Nothing in it is true before Verify says so.
type Response struct {
	ProducedAt time.Time

	responderName []byte // DER name, or
	responderKey  []byte // SHA-1 of its key
	singles       []single
	nonce         []byte
	certificates  []*x509ti.Certificate
	tbs           []byte
	algorithm     []byte
	signature     []byte
}

// single is the answer about one certificate.
type single struct {
	hash              crypto.Hash
	nameHash, keyHash []byte
	serial            *big.Int
	status            Status
	revokedAt         time.Time
	thisUpdate        time.Time
	nextUpdate        time.Time // zero: absent
	certHash          []byte
	certHashFunction  crypto.Hash
	hasCertHash       bool
}

// ErrMalformed is wrapped, beside CheckRevocationError, by the error about an answer that cannot be read.
var ErrMalformed = errors.New("ocsp: malformed response")

func malformed(what string) error {
	return fmt.Errorf("%w: %w: %s", CheckRevocationError, ErrMalformed, what)
}

// ParseResponse reads an OCSPResponse (strict DER, at most MaxSize octets). An answer without content, such as tryLater,
// is StatusError; one that cannot be read is CheckRevocationError.
func ParseResponse(der []byte) (*Response, error) { return ParseResponseWith(der, x509ti.Parse) }

// ParseResponseWith is ParseResponse with a reader of certificates: responders send the same certificate with every answer, so
// that a caller who reads many answers may keep it.
func ParseResponseWith(der []byte, certificate func(der []byte) (*x509ti.Certificate, error)) (*Response, error) {
	if len(der) > MaxSize {
		return nil, malformed("too long")
	}
	input := cryptobyte.String(append([]byte(nil), der...))
	var outer, wrapper, typed, octets, basic cryptobyte.String
	var status int
	if !input.ReadASN1(&outer, tags.SEQUENCE) || !input.Empty() || !outer.ReadASN1Enum(&status) {
		return nil, malformed("structure")
	}
	if status != 0 {
		name := responseStatus[status]
		if name == "" || !outer.Empty() {
			return nil, malformed("response status")
		}
		return nil, because(StatusError, name)
	}
	var kind x509ti.OID
	if !outer.ReadASN1(&wrapper, explicit(0)) || !outer.Empty() || !wrapper.ReadASN1(&typed, tags.SEQUENCE) || !wrapper.Empty() ||
		!typed.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(oidBasic) || !typed.ReadASN1(&octets, tags.OCTET_STRING) || !typed.Empty() ||
		!octets.ReadASN1(&basic, tags.SEQUENCE) || !octets.Empty() {
		return nil, malformed("not a basic response")
	}
	r := &Response{}
	var tbs, algorithm, certificates cryptobyte.String
	var has bool
	if !basic.ReadASN1Element(&tbs, tags.SEQUENCE) || !basic.ReadASN1Element(&algorithm, tags.SEQUENCE) ||
		!basic.ReadASN1BitStringAsBytes(&r.signature) || !basic.ReadOptionalASN1(&certificates, &has, explicit(0)) || !basic.Empty() {
		return nil, malformed("basic response")
	}
	r.tbs, r.algorithm = tbs, algorithm
	if has {
		if err := r.parseCertificates(certificates, certificate); err != nil {
			return nil, err
		}
	}
	if err := r.parseData(tbs); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Response) parseCertificates(wrapper cryptobyte.String, parse func(der []byte) (*x509ti.Certificate, error)) error {
	var list cryptobyte.String
	if !wrapper.ReadASN1(&list, tags.SEQUENCE) || !wrapper.Empty() {
		return malformed("certificates")
	}
	for !list.Empty() {
		var element cryptobyte.String
		if !list.ReadASN1Element(&element, tags.SEQUENCE) || len(r.certificates) == maxCertificates {
			return malformed("certificates")
		}
		c, err := parse(element)
		if err != nil {
			return fmt.Errorf("%w: responder: %w", CheckRevocationError, err)
		}
		r.certificates = append(r.certificates, c)
	}
	return nil
}

func (r *Response) parseData(element cryptobyte.String) error {
	var data, field, list cryptobyte.String
	var hasVersion bool
	version := 0
	if !element.ReadASN1(&data, tags.SEQUENCE) || !data.ReadOptionalASN1(&field, &hasVersion, explicit(0)) ||
		hasVersion && (!field.ReadASN1Integer(&version) || !field.Empty() || version != 0) {
		return malformed("version")
	}
	switch {
	case data.PeekASN1Tag(explicit(1)):
		var name cryptobyte.String
		if !data.ReadASN1(&field, explicit(1)) || !field.ReadASN1Element(&name, tags.SEQUENCE) || !field.Empty() {
			return malformed("responder")
		}
		r.responderName = name
	case data.PeekASN1Tag(explicit(2)):
		var key cryptobyte.String
		if !data.ReadASN1(&field, explicit(2)) || !field.ReadASN1(&key, tags.OCTET_STRING) || !field.Empty() || len(key) != sha1.Size {
			return malformed("responder")
		}
		r.responderKey = key
	default:
		return malformed("responder")
	}
	var ok bool
	if r.ProducedAt, ok = readTime(&data); !ok {
		return malformed("producedAt")
	}
	if !data.ReadASN1(&list, tags.SEQUENCE) {
		return malformed("responses")
	}
	for !list.Empty() {
		s, err := parseSingle(&list)
		if err != nil {
			return err
		}
		if len(r.singles) == maxSingles {
			return malformed("too many responses")
		}
		r.singles = append(r.singles, s)
	}
	ok = readExtensions(&data, 1, func(oid x509ti.OID, value cryptobyte.String) (known, ok bool) {
		if !oid.Equal(oidNonce) {
			return false, true
		}
		var nonce cryptobyte.String
		if !value.ReadASN1(&nonce, tags.OCTET_STRING) || !value.Empty() {
			return true, false
		}
		r.nonce = append([]byte{}, nonce...)
		return true, true
	})
	if !ok || !data.Empty() {
		return malformed("response extensions")
	}
	return nil
}

func parseSingle(list *cryptobyte.String) (s single, err error) {
	var seq, id, name, key cryptobyte.String
	s.serial = new(big.Int)
	if !list.ReadASN1(&seq, tags.SEQUENCE) || !seq.ReadASN1(&id, tags.SEQUENCE) {
		return s, malformed("single response")
	}
	oid, ok := x509ti.ReadAlgorithm(&id)
	if !ok || !id.ReadASN1(&name, tags.OCTET_STRING) || !id.ReadASN1(&key, tags.OCTET_STRING) || !id.ReadASN1Integer(s.serial) || !id.Empty() {
		return s, malformed("CertID")
	}
	s.nameHash, s.keyHash = name, key
	if s.hash = x509ti.HashByOID(oid); oid.Equal(oidSHA1) {
		s.hash = crypto.SHA1
	}
	if s.hash == 0 {
		return s, malformed("hash of the CertID")
	}
	if !s.parseStatus(&seq) {
		return s, malformed("certificate status")
	}
	if s.thisUpdate, ok = readTime(&seq); !ok {
		return s, malformed("thisUpdate")
	}
	var next cryptobyte.String
	var hasNext bool
	if !seq.ReadOptionalASN1(&next, &hasNext, explicit(0)) {
		return s, malformed("nextUpdate")
	}
	if hasNext {
		if s.nextUpdate, ok = readTime(&next); !ok || !next.Empty() {
			return s, malformed("nextUpdate")
		}
	}
	ok = readExtensions(&seq, 1, func(oid x509ti.OID, value cryptobyte.String) (known, ok bool) {
		if !oid.Equal(oidCertHash) {
			return false, true
		}
		return true, s.parseCertHash(value)
	})
	if !ok || !seq.Empty() {
		return s, malformed("extensions of a single response")
	}
	return s, nil
}

func (s *single) parseStatus(seq *cryptobyte.String) bool {
	var content, reason, skip cryptobyte.String
	var tag tags.Tag
	if !seq.ReadAnyASN1(&content, &tag) {
		return false
	}
	switch tag {
	case tags.Tag(0).ContextSpecific():
		s.status = Good
		return content.Empty()
	case explicit(1):
		s.status = Revoked
		var ok, has bool
		s.revokedAt, ok = readTime(&content)
		return ok && content.ReadOptionalASN1(&reason, &has, explicit(0)) &&
			(!has || reason.ReadASN1(&skip, tags.ENUM) && reason.Empty()) && content.Empty()
	case tags.Tag(2).ContextSpecific():
		s.status = Unknown
		return content.Empty()
	}
	return false
}

// parseCertHash reads CertHash ::= SEQUENCE { hashAlgorithm, certificateHash } (Common PKI part 4, table 15).
func (s *single) parseCertHash(value cryptobyte.String) bool {
	var seq, hash cryptobyte.String
	if !value.ReadASN1(&seq, tags.SEQUENCE) || !value.Empty() {
		return false
	}
	oid, ok := x509ti.ReadAlgorithm(&seq)
	if !ok || !seq.ReadASN1(&hash, tags.OCTET_STRING) || !seq.Empty() {
		return false
	}
	s.hasCertHash, s.certHash, s.certHashFunction = true, hash, x509ti.HashByOID(oid)
	return true
}

// readTime takes GeneralizedTime with seconds in UTC, the only form that RFC 6960 admits.
func readTime(s *cryptobyte.String) (time.Time, bool) {
	var content cryptobyte.String
	if !s.ReadASN1(&content, tags.GeneralizedTime) || len(content) != len("20060102150405Z") {
		return time.Time{}, false
	}
	t, err := time.Parse("20060102150405Z", string(content))
	return t, err == nil
}

// readExtensions reads an optional [n] EXPLICIT Extensions. parse says whether it knows an extension and whether its
// value is sound; an unknown critical one, and one that comes twice, fails.
func readExtensions(s *cryptobyte.String, n uint8, parse func(x509ti.OID, cryptobyte.String) (known, ok bool)) bool {
	var wrapper, list cryptobyte.String
	var has bool
	if !s.ReadOptionalASN1(&wrapper, &has, explicit(n)) || !has {
		return !has
	}
	if !wrapper.ReadASN1(&list, tags.SEQUENCE) || !wrapper.Empty() {
		return false
	}
	var seen []x509ti.OID
	for !list.Empty() {
		var extension, value cryptobyte.String
		var oid stdasn1.ObjectIdentifier
		critical := false
		if !list.ReadASN1(&extension, tags.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&oid) ||
			extension.PeekASN1Tag(tags.BOOLEAN) && !extension.ReadASN1Boolean(&critical) ||
			!extension.ReadASN1(&value, tags.OCTET_STRING) || !extension.Empty() || len(seen) == maxExtensions {
			return false
		}
		for _, o := range seen {
			if o.Equal(oid) {
				return false
			}
		}
		seen = append(seen, oid)
		known, ok := parse(oid, value)
		if !ok || critical && !known {
			return false
		}
	}
	return true
}
