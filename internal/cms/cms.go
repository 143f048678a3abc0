// Package cms reads and checks signed messages (Cryptographic Message Syntax, RFC 5652) as the telematics infrastructure
// writes them: a connector in BER with the content in pieces of a thousand octets, a service in DER with OCSP responses
// in SignedData.crls (RFC 5940), countersigned, with more certificates than one.
//
// [Parse] reads a message from memory and [ParseStream] one of any size from a stream. [SignedData.Verify] makes the core
// check of one signature, by steps with a verdict and a reason each: signed attributes, message digest, signature,
// reference to the certificate. It says nothing about whether the certificate may be trusted or was valid; packages
// x509ti, ocsp and the trust space of the server judge that. Certificates and status answers in a message are not covered
// by its signature: they are input that anyone may have put there.
//
// Signatures: ECDSA on brainpool and NIST curves, RSASSA-PSS and RSA PKCS #1 v1.5, all with SHA-256, SHA-384 or SHA-512.
package cms

import (
	"errors"
	"time"

	"ktradv/internal/ber"
)

// Bounds of what is read. Messages that go beyond them are refused with ErrLimit.
const (
	MaxSigners      = 16      // also of the countersignatures of a signature
	MaxCertificates = 32      // entries of certificates; ParseCertificates takes its own bound
	MaxRevocations  = 32      // entries of crls
	MaxAlgorithms   = 8       // entries of digestAlgorithms
	MaxAttributes   = 32      // signed or unsigned ones of a signer
	MaxPart         = 4 << 20 // octets of each part beside the content when a stream is read
)

// Errors of Parse and ParseStream, which wrap one of these or an error of package ber.
var (
	ErrNotSignedData = errors.New("cms: not a signed message (id-signedData)")
	ErrMalformed     = errors.New("cms: malformed message")
	ErrLimit         = errors.New("cms: message has more parts than are read")
)

// SignedData is a signed message as read. Octet strings are parts of the input of Parse, which the caller must not change
// as long as the SignedData is in use. It is not safe for concurrent use.
type SignedData struct {
	Version          int  // 1, 3, 4 or 5
	DER              bool // the message as a whole is DER; otherwise BER
	DigestAlgorithms []ber.OID
	ContentType      ber.OID

	// Content is the signed content: the octets alone, joined where they came in pieces. Nil when it is not in the message
	// (Detached) or went to the consumer of ParseStream.
	Content       []byte
	ContentLength int64
	Detached      bool

	Certificates      [][]byte // X.509, as they are encoded, in their order
	OtherCertificates int      // entries of other kinds (attribute certificates), which are not read

	OCSP             [][]byte // OCSPResponse of crls.other, in their order; DER where that is possible
	CRLs             [][]byte // revocation lists, not looked at
	OtherRevocations int      // entries of kinds that are not known

	Signers []SignerInfo // at least one

	unsigned        bool    // a message without a signature is read, too
	maxCertificates int     // of such a message
	head            []byte  // beginning of a content that went to the consumer of ParseStream, at most maxHead octets
	digests         digests // of the content, as far as they were needed
	space           struct {
		algorithms   [2]ber.OID
		certificates [2][]byte
		ocsp         [1][]byte
		signers      [1]SignerInfo
	}
}

// SignerInfo is one signature of a message, or a countersignature.
type SignerInfo struct {
	Version int

	// The certificate is named either by issuer (Name, DER) and serial number (content octets of the INTEGER), or by the
	// subject key identifier.
	Issuer, Serial []byte
	SubjectKeyID   []byte

	DigestAlgorithm     ber.OID
	SignatureAlgorithm  ber.OID
	SignatureParameters []byte // as encoded, nil when absent or NULL
	Signature           []byte

	HasSignedAttributes bool
	SignedAttributes    []Attribute
	UnsignedAttributes  []Attribute
	SigningTime         time.Time // claimed by the signer; zero without a readable signingTime

	signedRaw []byte // signedAttrs as received, with tag and length
	space     struct {
		signed   [8]Attribute
		unsigned [2]Attribute
	}
}

// Attribute is a signed or unsigned attribute. Values are its values one after the other, as encoded.
type Attribute struct {
	Type   ber.OID
	Values []byte
}

// Attribute types (RFC 5652, 5035, 6211, ETSI TS 101 733).
var (
	TypeContentType          = ber.NewOID(1, 2, 840, 113549, 1, 9, 3)
	TypeMessageDigest        = ber.NewOID(1, 2, 840, 113549, 1, 9, 4)
	TypeSigningTime          = ber.NewOID(1, 2, 840, 113549, 1, 9, 5)
	TypeCountersignature     = ber.NewOID(1, 2, 840, 113549, 1, 9, 6)
	TypeAlgorithmProtection  = ber.NewOID(1, 2, 840, 113549, 1, 9, 52)
	TypeSigningCertificate   = ber.NewOID(1, 2, 840, 113549, 1, 9, 16, 2, 12)
	TypeRevocationValues     = ber.NewOID(1, 2, 840, 113549, 1, 9, 16, 2, 24)
	TypeSigningCertificateV2 = ber.NewOID(1, 2, 840, 113549, 1, 9, 16, 2, 47)
)
