package testpki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	_ "crypto/sha256" // the hash functions of messages
	_ "crypto/sha512"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidData                 = []int{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData           = []int{1, 2, 840, 113549, 1, 7, 2}
	oidContentType          = []int{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest        = []int{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime          = []int{1, 2, 840, 113549, 1, 9, 5}
	oidCountersignature     = []int{1, 2, 840, 113549, 1, 9, 6}
	oidProtection           = []int{1, 2, 840, 113549, 1, 9, 52}
	oidContentHints         = []int{1, 2, 840, 113549, 1, 9, 16, 2, 4}
	oidSigningCertificate   = []int{1, 2, 840, 113549, 1, 9, 16, 2, 12}
	oidSigningCertificateV2 = []int{1, 2, 840, 113549, 1, 9, 16, 2, 47}
	oidRevocationValues     = []int{1, 2, 840, 113549, 1, 9, 16, 2, 24}
	oidOCSPRevocation       = []int{1, 3, 6, 1, 5, 5, 7, 16, 2}
	oidPSS                  = []int{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1                 = []int{1, 2, 840, 113549, 1, 1, 8}
)

// hashOIDs and their signature algorithms.
var cmsHashes = map[crypto.Hash]struct{ hash, ecdsa, rsa []int }{
	crypto.SHA1:   {[]int{1, 3, 14, 3, 2, 26}, []int{1, 2, 840, 10045, 4, 1}, []int{1, 2, 840, 113549, 1, 1, 5}},
	crypto.SHA256: {oidSHA256, oidECDSASHA256, oidRSASHA256},
	crypto.SHA384: {[]int{2, 16, 840, 1, 101, 3, 4, 2, 2}, []int{1, 2, 840, 10045, 4, 3, 3}, []int{1, 2, 840, 113549, 1, 1, 12}},
	crypto.SHA512: {[]int{2, 16, 840, 1, 101, 3, 4, 2, 3}, []int{1, 2, 840, 10045, 4, 3, 4}, []int{1, 2, 840, 113549, 1, 1, 13}},
}

// CMSFault makes a signed message wrong in exactly one respect.
type CMSFault int

// The faults.
const (
	CMSFaultContent          CMSFault = iota + 1 // content changed after signing
	CMSFaultMessageDigest                        // messageDigest of something else, and signed so
	CMSFaultKey                                  // signed with another key than that of the certificate
	CMSFaultSignature                            // last octet of the signature changed
	CMSFaultSignatureForm                        // ECDSA signature as R || S instead of DER
	CMSFaultContentType                          // contentType is not that of the content
	CMSFaultNoContentType                        // contentType left out
	CMSFaultNoMessageDigest                      // messageDigest left out
	CMSFaultAttributeTwice                       // messageDigest twice
	CMSFaultReference                            // signingCertificateV2 has the hash of another certificate
	CMSFaultReferenceIssuer                      // signingCertificateV2 has another serial number
	CMSFaultProtection                           // cmsAlgorithmProtection names another digest
	CMSFaultUndeclaredDigest                     // digestAlgorithms is empty
	CMSFaultSigner                               // sid has another serial number
	CMSFaultCountersignature                     // countersignature over something else
	CMSFaultTruncated                            // half of the message
)

// CMSOptions say how a message is written. The zero value is what a service writes: DER, one certificate, all signed
// attributes.
type CMSOptions struct {
	BER         bool // indefinite lengths and the content in pieces, as a connector writes
	Piece       int  // octets of a piece; 0: 1000
	ContentType []int
	Hash        crypto.Hash // 0: SHA-256
	HashNULL    bool        // digest algorithms with parameters NULL
	PSS         bool        // RSASSA-PSS, for RSA keys
	Salt        int         // of RSASSA-PSS; 0: as long as the digest
	PlainRSA    bool        // signature algorithm rsaEncryption instead of sha256WithRSAEncryption

	OCSP             [][]byte // in crls, as OCSPResponse
	RevocationValues [][]byte // in an unsigned attribute, as BasicOCSPResponse
	Before, After    [][]byte // more certificates, before and after the signer's
	NoCertificate    bool     // without the signer's
	SubjectKeyID     bool     // sid is the subject key identifier

	NoAttributes, NoSigningTime, NoReference, NoProtection bool
	ContentHints                                           bool
	SHA1Reference                                          bool // old signingCertificate instead of the new one
	Unsorted                                               bool // attributes signed in the order sent, which is not that of DER

	Detached         bool
	Countersigner    *X509Identity // adds a countersignature and its certificate
	SecondSigner     *X509Identity // adds a second signature and its certificate
	SecondSignerTime time.Time

	Fault CMSFault
}

// SignCMS signs a content. The writer has nothing in common with the reader of the product.
func (p *PKI) SignCMS(content []byte, signer *X509Identity, at time.Time, o CMSOptions) ([]byte, error) {
	if o.Hash == 0 {
		o.Hash = crypto.SHA256
	}
	if o.ContentType == nil {
		o.ContentType = oidData
	}
	if o.Piece == 0 {
		o.Piece = 1000
	}
	infos := make([][]byte, 0, 2)
	info, err := p.signerInfo(digestOf(o.Hash, content), signer, at, o, false)
	if err != nil {
		return nil, fmt.Errorf("sign message: %w", err)
	}
	infos = append(infos, info)
	certificates := slices.Clone(o.Before)
	if !o.NoCertificate {
		certificates = append(certificates, signer.Certificate)
	}
	certificates = append(certificates, o.After...)
	if o.Countersigner != nil {
		certificates = append(certificates, o.Countersigner.Certificate)
	}
	if o.SecondSigner != nil {
		other := CMSOptions{Hash: o.Hash, ContentType: o.ContentType}
		if info, err = p.signerInfo(digestOf(o.Hash, content), o.SecondSigner, o.SecondSignerTime, other, false); err != nil {
			return nil, fmt.Errorf("sign message: %w", err)
		}
		infos = append(infos, info)
		certificates = append(certificates, o.SecondSigner.Certificate)
		slices.SortFunc(infos, bytes.Compare)
	}
	if o.Fault == CMSFaultContent {
		content = bytes.Clone(content)
		content[len(content)/2] ^= 1
	}
	version := 1
	switch {
	case len(o.OCSP) > 0:
		version = 5
	case o.SubjectKeyID || !slices.Equal(o.ContentType, oidData):
		version = 3
	}
	w := berWriter{indefinite: o.BER}
	out := w.wrap(0x30, derOID(oidSignedData), w.wrap(0xa0, w.wrap(0x30,
		derInt(version), p.digestAlgorithms(o), w.content(content, o),
		w.optional(0xa0, certificates), w.optionalDER(0xa1, revocations(o.OCSP)), derWrap(0x31, infos...))))
	if o.Fault == CMSFaultTruncated {
		out = out[:len(out)/2]
	}
	return out, nil
}

// StreamCMS signs a content of any size, which content gives twice: once to compute its digest, once to be read in the
// message. The message is BER with pieces of o.Piece octets. Faults and options about the content do not apply.
func (p *PKI) StreamCMS(content func() io.Reader, signer *X509Identity, at time.Time, o CMSOptions) (io.Reader, error) {
	o.Hash, o.ContentType = crypto.SHA256, oidData
	if o.Piece == 0 {
		o.Piece = 1000
	}
	h := o.Hash.New()
	if _, err := io.Copy(h, content()); err != nil {
		return nil, fmt.Errorf("sign message: %w", err)
	}
	info, err := p.signerInfo(h.Sum(nil), signer, at, o, false)
	if err != nil {
		return nil, fmt.Errorf("sign message: %w", err)
	}
	var head, tail []byte
	head = append(append(append(head, 0x30, 0x80), derOID(oidSignedData)...), 0xa0, 0x80, 0x30, 0x80)
	head = append(append(append(head, derInt(1)...), p.digestAlgorithms(o)...), 0x30, 0x80)
	head = append(append(head, derOID(oidData)...), 0xa0, 0x80, 0x24, 0x80)
	tail = append(tail, 0, 0, 0, 0, 0, 0) // octet string, eContent, encapContentInfo
	tail = append(append(tail, derWrap(0xa0, signer.Certificate)...), derWrap(0x31, info)...)
	tail = append(tail, 0, 0, 0, 0, 0, 0) // SignedData, content, ContentInfo
	return io.MultiReader(bytes.NewReader(head), &pieces{source: content(), size: o.Piece}, bytes.NewReader(tail)), nil
}

// pieces reads a source as octet strings of one size.
type pieces struct {
	source io.Reader
	size   int
	space  []byte
	piece  []byte
	out    []byte
}

func (r *pieces) Read(b []byte) (int, error) {
	if len(r.out) == 0 {
		if r.space == nil {
			r.space = make([]byte, r.size)
		}
		n, err := io.ReadFull(r.source, r.space)
		if n == 0 {
			return 0, err
		}
		r.piece = append(derHeader(r.piece[:0], 0x04, n), r.space[:n]...) // in the same memory each time
		r.out = r.piece
	}
	n := copy(b, r.out)
	r.out = r.out[n:]
	return n, nil
}

func (p *PKI) digestAlgorithms(o CMSOptions) []byte {
	if o.Fault == CMSFaultUndeclaredDigest {
		return derWrap(0x31)
	}
	return derWrap(0x31, hashAlgorithm(o))
}

func hashAlgorithm(o CMSOptions) []byte {
	if o.HashNULL {
		return derWrap(0x30, derOID(cmsHashes[o.Hash].hash), []byte{5, 0})
	}
	return derWrap(0x30, derOID(cmsHashes[o.Hash].hash))
}

// content writes encapContentInfo.
func (w berWriter) content(content []byte, o CMSOptions) []byte {
	if o.Detached {
		return w.wrap(0x30, derOID(o.ContentType))
	}
	octets := derWrap(0x04, content)
	if w.indefinite {
		var pieces [][]byte
		for piece := range slices.Chunk(content, o.Piece) {
			pieces = append(pieces, derWrap(0x04, piece))
		}
		octets = w.wrap(0x24, pieces...)
	}
	return w.wrap(0x30, derOID(o.ContentType), w.wrap(0xa0, octets))
}

func revocations(responses [][]byte) [][]byte {
	var out [][]byte
	for _, response := range responses {
		out = append(out, derWrap(0xa1, derOID(oidOCSPRevocation), response))
	}
	return out
}

func digestOf(hash crypto.Hash, content []byte) []byte {
	h := hash.New()
	h.Write(content)
	return h.Sum(nil)
}

// signerInfo signs a content with this digest; counter: as a countersignature.
func (p *PKI) signerInfo(digest []byte, signer *X509Identity, at time.Time, o CMSOptions, counter bool) ([]byte, error) {
	sid, version, err := signerID(signer, o)
	if err != nil {
		return nil, err
	}
	key := signer.pair()
	if o.Fault == CMSFaultKey {
		if key, err = p.otherKey(key); err != nil {
			return nil, err
		}
	}
	algorithm := signatureAlgorithm(key, o)
	parts := [][]byte{derInt(version), sid, hashAlgorithm(o)}
	if !o.NoAttributes {
		attributes, err := signedAttributes(digest, signer, at, algorithm, o, counter)
		if err != nil {
			return nil, err
		}
		if !o.Unsorted {
			slices.SortFunc(attributes, bytes.Compare)
		}
		digest = digestOf(o.Hash, derWrap(0x31, attributes...))
		parts = append(parts, derWrap(0xa0, attributes...))
	}
	if o.Fault == CMSFaultCountersignature && counter {
		digest = digestOf(o.Hash, digest)
	}
	signature, err := p.signDigest(key, digest, o)
	if err != nil {
		return nil, err
	}
	if o.Fault == CMSFaultSignature {
		signature[len(signature)-1] ^= 1
	}
	parts = append(parts, algorithm, derWrap(0x04, signature))
	var unsigned [][]byte
	if o.Countersigner != nil {
		other := CMSOptions{Hash: o.Hash}
		if o.Fault == CMSFaultCountersignature {
			other.Fault = o.Fault
		}
		info, err := p.signerInfo(digestOf(o.Hash, signature), o.Countersigner, at, other, true)
		if err != nil {
			return nil, err
		}
		unsigned = append(unsigned, attribute(oidCountersignature, info))
	}
	if len(o.RevocationValues) > 0 {
		unsigned = append(unsigned, attribute(oidRevocationValues, derWrap(0x30, derWrap(0xa1, derWrap(0x30, o.RevocationValues...)))))
	}
	if len(unsigned) > 0 {
		slices.SortFunc(unsigned, bytes.Compare)
		parts = append(parts, derWrap(0xa1, unsigned...))
	}
	return derWrap(0x30, parts...), nil
}

// otherKey makes a key of the same kind.
func (p *PKI) otherKey(key keyPair) (keyPair, error) {
	var err error
	switch {
	case key.rsa != nil:
		key.rsa, err = p.cardRSAKey("other")
	case key.nist != nil:
		key.nist, err = ecdsa.GenerateKey(key.nist.Curve, rand.Reader)
	default:
		key.ec, err = p.newKey()
	}
	return key, err
}

func signerID(signer *X509Identity, o CMSOptions) (sid []byte, version int, err error) {
	if o.SubjectKeyID {
		return derWrap(0x80, keyID(signer.pair().public())), 3, nil
	}
	issuer, serial, err := issuerSerial(signer.Certificate)
	if err != nil {
		return nil, 0, err
	}
	if o.Fault == CMSFaultSigner {
		serial = bytes.Clone(serial)
		serial[len(serial)-1] ^= 1
	}
	return derWrap(0x30, issuer, serial), 1, nil
}

// issuerSerial returns issuer and serial number of a certificate as encoded.
func issuerSerial(der []byte) (issuer, serial []byte, err error) {
	in := cryptobyte.String(der)
	var cert, tbs, skip, name, number cryptobyte.String
	ok := in.ReadASN1(&cert, asn1.SEQUENCE) && cert.ReadASN1(&tbs, asn1.SEQUENCE) &&
		tbs.ReadASN1(&skip, asn1.Tag(0).Constructed().ContextSpecific()) && tbs.ReadASN1Element(&number, asn1.INTEGER) &&
		tbs.ReadASN1(&skip, asn1.SEQUENCE) && tbs.ReadASN1Element(&name, asn1.SEQUENCE)
	if !ok {
		return nil, nil, errors.New("not a certificate")
	}
	return name, number, nil
}

func attribute(kind []int, value []byte) []byte {
	return derWrap(0x30, derOID(kind), derWrap(0x31, value))
}

func signedAttributes(digest []byte, signer *X509Identity, at time.Time, algorithm []byte, o CMSOptions, counter bool) ([][]byte, error) {
	var out [][]byte
	if o.Fault != CMSFaultNoContentType && !counter {
		kind := o.ContentType
		if o.Fault == CMSFaultContentType {
			kind = oidSignedData
		}
		out = append(out, attribute(oidContentType, derOID(kind)))
	}
	if !o.NoSigningTime {
		out = append(out, attribute(oidSigningTime, derWrap(0x17, []byte(at.UTC().Format("060102150405Z")))))
	}
	if o.Fault == CMSFaultMessageDigest {
		digest = bytes.Clone(digest)
		digest[0] ^= 1
	}
	if o.Fault != CMSFaultNoMessageDigest {
		out = append(out, attribute(oidMessageDigest, derWrap(0x04, digest)))
	}
	if o.Fault == CMSFaultAttributeTwice {
		out = append(out, attribute(oidMessageDigest, derWrap(0x04, digestOf(o.Hash, nil))))
	}
	if !o.NoProtection {
		hash := hashAlgorithm(CMSOptions{Hash: o.Hash})
		if o.Fault == CMSFaultProtection {
			hash = hashAlgorithm(CMSOptions{Hash: crypto.SHA384})
		}
		protected := bytes.Clone(algorithm)
		protected[0] = 0xa1 // implicitly tagged
		out = append(out, attribute(oidProtection, derWrap(0x30, hash, protected)))
	}
	if o.ContentHints {
		out = append(out, attribute(oidContentHints, derWrap(0x30, derWrap(0x0c, []byte("CMSDocument2sign")), derOID(oidData))))
	}
	if o.NoReference {
		return out, nil
	}
	issuer, serial, err := issuerSerial(signer.Certificate)
	if err != nil {
		return nil, err
	}
	named := bytes.Clone(signer.Certificate)
	if o.Fault == CMSFaultReference {
		named[len(named)-1] ^= 1
	}
	if o.Fault == CMSFaultReferenceIssuer {
		serial = bytes.Clone(serial)
		serial[len(serial)-1] ^= 1
	}
	names := derWrap(0x30, derWrap(0x30, derWrap(0xa4, issuer)), serial)
	if o.SHA1Reference {
		hash := sha1.Sum(named)
		return append(out, attribute(oidSigningCertificate, derWrap(0x30, derWrap(0x30, derWrap(0x30, derWrap(0x04, hash[:]), names))))), nil
	}
	return append(out, attribute(oidSigningCertificateV2, derWrap(0x30, derWrap(0x30, derWrap(0x30, derWrap(0x04, digestOf(crypto.SHA256, named)), names))))), nil
}

// signatureAlgorithm writes the AlgorithmIdentifier of a signature with this key.
func signatureAlgorithm(key keyPair, o CMSOptions) []byte {
	algorithms := cmsHashes[o.Hash]
	switch {
	case key.rsa == nil:
		return derWrap(0x30, derOID(algorithms.ecdsa))
	case o.PSS:
		hash := derWrap(0x30, derOID(algorithms.hash), []byte{5, 0})
		return derWrap(0x30, derOID(oidPSS), derWrap(0x30, derWrap(0xa0, hash), derWrap(0xa1, derWrap(0x30, derOID(oidMGF1), hash)), derWrap(0xa2, derInt(o.salt()))))
	case o.PlainRSA:
		return derWrap(0x30, derOID(oidRSAEncryption), []byte{5, 0})
	}
	return derWrap(0x30, derOID(algorithms.rsa), []byte{5, 0})
}

func (o CMSOptions) salt() int {
	if o.Salt == 0 {
		return o.Hash.Size()
	}
	return o.Salt
}

func (p *PKI) signDigest(key keyPair, digest []byte, o CMSOptions) ([]byte, error) {
	switch {
	case key.rsa != nil && o.PSS:
		return rsa.SignPSS(rand.Reader, key.rsa, o.Hash, digest, &rsa.PSSOptions{SaltLength: o.salt(), Hash: o.Hash})
	case key.rsa != nil:
		return rsa.SignPKCS1v15(nil, key.rsa, o.Hash, digest)
	case key.nist != nil:
		return ecdsa.SignASN1(rand.Reader, key.nist, digest)
	case o.Fault == CMSFaultSignatureForm:
		return key.ec.Sign(p.config.Rand, digest)
	}
	return key.ec.SignASN1(p.config.Rand, digest)
}

// berWriter writes constructed elements, with indefinite lengths if so set.
type berWriter struct{ indefinite bool }

func (w berWriter) wrap(tag byte, inside ...[]byte) []byte {
	if !w.indefinite {
		return derWrap(tag, inside...)
	}
	out := []byte{tag, 0x80}
	for _, part := range inside {
		out = append(out, part...)
	}
	return append(out, 0, 0)
}

// optional writes a list that is left out when it is empty.
func (w berWriter) optional(tag byte, inside [][]byte) []byte {
	if len(inside) == 0 {
		return nil
	}
	return w.wrap(tag, inside...)
}

func (berWriter) optionalDER(tag byte, inside [][]byte) []byte {
	return berWriter{}.optional(tag, inside)
}

func derWrap(tag byte, inside ...[]byte) []byte {
	length := 0
	for _, part := range inside {
		length += len(part)
	}
	out := derHeader(make([]byte, 0, length+6), tag, length)
	for _, part := range inside {
		out = append(out, part...)
	}
	return out
}

// derHeader appends tag and length.
func derHeader(out []byte, tag byte, length int) []byte {
	out = append(out, tag)
	switch {
	case length < 0x80:
		return append(out, byte(length))
	case length < 0x100:
		return append(out, 0x81, byte(length))
	case length < 0x10000:
		return append(out, 0x82, byte(length>>8), byte(length))
	case length < 0x1000000:
		return append(out, 0x83, byte(length>>16), byte(length>>8), byte(length))
	}
	return append(out, 0x84, byte(length>>24), byte(length>>16), byte(length>>8), byte(length))
}

func derOID(oid []int) []byte {
	var b cryptobyte.Builder
	addOID(&b, oid)
	return b.BytesOrPanic()
}

func derInt(v int) []byte {
	var b cryptobyte.Builder
	b.AddASN1Int64(int64(v))
	return b.BytesOrPanic()
}
