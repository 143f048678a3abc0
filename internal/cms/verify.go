package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"

	"ktradv/internal/ber"
	"ktradv/internal/brainpool"
	"ktradv/internal/x509ti"
)

var (
	oidSHA1   = ber.NewOID(1, 3, 14, 3, 2, 26)
	oidSHA256 = ber.NewOID(2, 16, 840, 1, 101, 3, 4, 2, 1)
	oidSHA384 = ber.NewOID(2, 16, 840, 1, 101, 3, 4, 2, 2)
	oidSHA512 = ber.NewOID(2, 16, 840, 1, 101, 3, 4, 2, 3)

	oidECDSA256 = ber.NewOID(1, 2, 840, 10045, 4, 3, 2)
	oidRSA      = ber.NewOID(1, 2, 840, 113549, 1, 1, 1)
	oidMGF1     = ber.NewOID(1, 2, 840, 113549, 1, 1, 8)
	oidPSS      = ber.NewOID(1, 2, 840, 113549, 1, 1, 10)
	oidRSA256   = ber.NewOID(1, 2, 840, 113549, 1, 1, 11)
)

type scheme uint8

const (
	schemeECDSA scheme = iota + 1
	schemeRSA          // PKCS #1 v1.5
	schemePSS
)

// signatureAlgorithms are those that are admissible. hash 0: that of digestAlgorithm.
var signatureAlgorithms = []struct {
	oid    ber.OID
	scheme scheme
	hash   crypto.Hash
}{
	{oidECDSA256, schemeECDSA, crypto.SHA256},
	{oidPSS, schemePSS, 0},
	{oidRSA256, schemeRSA, crypto.SHA256},
	{oidRSA, schemeRSA, 0},
	{ber.NewOID(1, 2, 840, 10045, 4, 3, 3), schemeECDSA, crypto.SHA384},
	{ber.NewOID(1, 2, 840, 10045, 4, 3, 4), schemeECDSA, crypto.SHA512},
	{ber.NewOID(1, 2, 840, 113549, 1, 1, 12), schemeRSA, crypto.SHA384},
	{ber.NewOID(1, 2, 840, 113549, 1, 1, 13), schemeRSA, crypto.SHA512},
}

// hashOf returns the digest function, 0 for one that is not admissible.
func hashOf(oid ber.OID) crypto.Hash {
	switch oid {
	case oidSHA256:
		return crypto.SHA256
	case oidSHA384:
		return crypto.SHA384
	case oidSHA512:
		return crypto.SHA512
	}
	return 0
}

// digests keeps the digests of a content by function.
type digests struct {
	sha256 [sha256.Size]byte
	sha384 [sha512.Size384]byte
	sha512 [sha512.Size]byte
	has    [3]bool
}

// of returns the digest of content, nil for a function that is not admissible. A nil content that is not cached has none.
func (d *digests) of(hash crypto.Hash, content []byte, known bool) []byte {
	switch hash {
	case crypto.SHA256:
		if !d.has[0] && known {
			d.sha256, d.has[0] = sha256.Sum256(content), true
		}
		if d.has[0] {
			return d.sha256[:]
		}
	case crypto.SHA384:
		if !d.has[1] && known {
			d.sha384, d.has[1] = sha512.Sum384(content), true
		}
		if d.has[1] {
			return d.sha384[:]
		}
	case crypto.SHA512:
		if !d.has[2] && known {
			d.sha512, d.has[2] = sha512.Sum512(content), true
		}
		if d.has[2] {
			return d.sha512[:]
		}
	}
	return nil
}

// ContentDigest returns the digest of the content, nil when there is none: the content is detached, or came as a stream
// whose message did not announce this function. The caller must not change it.
func (sd *SignedData) ContentDigest(hash crypto.Hash) []byte {
	return sd.digests.of(hash, sd.Content, sd.Content != nil)
}

// Verify makes the core check of a signature of this message with the given certificate. A nil certificate gives what can be
// said without one. verifier checks signatures with brainpool keys; nil is the plain one. Countersignatures are not looked
// at.
func (sd *SignedData) Verify(si *SignerInfo, cert *x509ti.Certificate, verifier x509ti.Verifier) Result {
	var r Result
	hash := hashOf(si.DigestAlgorithm)
	digest := sd.ContentDigest(hash)
	r[StepContainer] = sd.checkContainer(si, hash, digest)
	content := sd.Content
	if content == nil {
		content = sd.head
	}
	r[StepSignedAttributes] = si.checkAttributes(sd.ContentType, false, content)
	if sd.Content == nil && !si.HasSignedAttributes && len(content) > 0 && sd.ContentLength > int64(len(content)) && content[0] == byte(ber.Set)|0x20 {
		// A SET whose end was not kept: that these are somebody's signed attributes cannot be ruled out.
		r[StepSignedAttributes] = Finding{Indeterminate, AttributesAsContent}
	}
	si.verify(&r, hash, digest, cert, verifier)
	return r
}

// VerifyCountersignature makes the core check of a countersignature on this signature.
func (si *SignerInfo) VerifyCountersignature(counter *SignerInfo, cert *x509ti.Certificate, verifier x509ti.Verifier) Result {
	var r Result
	var own digests
	hash := hashOf(counter.DigestAlgorithm)
	digest := own.of(hash, si.Signature, true)
	r[StepContainer] = Finding{Verdict: Valid}
	if hash == 0 {
		r[StepContainer] = Finding{Invalid, DigestNotAdmissible}
	}
	r[StepSignedAttributes] = counter.checkAttributes("", true, nil)
	counter.verify(&r, hash, digest, cert, verifier)
	return r
}

// VerifyAll makes the core check of every signature and countersignature of the message, each with the certificate that its
// sid names. certificate parses (and may cache) what FindCertificate has found; nil is x509ti.Parse.
func (sd *SignedData) VerifyAll(certificate func(der []byte) (*x509ti.Certificate, error), verifier x509ti.Verifier) []SignerResult {
	if certificate == nil {
		certificate = x509ti.Parse
	}
	out := make([]SignerResult, len(sd.Signers))
	for i := range sd.Signers {
		r := &out[i]
		r.Signer = &sd.Signers[i]
		r.find(sd, certificate)
		r.Result = sd.Verify(r.Signer, r.Certificate, verifier)
		r.countersignatures(sd, certificate, verifier)
	}
	return out
}

func (r *SignerResult) find(sd *SignedData, certificate func(der []byte) (*x509ti.Certificate, error)) {
	if r.RawCertificate = sd.FindCertificate(r.Signer); r.RawCertificate != nil {
		r.Certificate, r.Err = certificate(r.RawCertificate)
	}
}

// countersignatures checks those on one signature. Countersignatures on countersignatures are not looked at.
func (r *SignerResult) countersignatures(sd *SignedData, certificate func(der []byte) (*x509ti.Certificate, error), verifier x509ti.Verifier) {
	if len(r.Signer.UnsignedAttributes) == 0 {
		return
	}
	counters, err := r.Signer.Countersignatures()
	if err != nil {
		if r.Err == nil {
			r.Err = err
		}
		r.Result[StepCountersignature] = Finding{Invalid, CountersignatureMalformed}
		return
	}
	if len(counters) == 0 {
		return
	}
	step := Finding{Verdict: Valid}
	r.Countersignature = make([]SignerResult, len(counters))
	for i := range counters {
		c := &r.Countersignature[i]
		c.Signer = &counters[i]
		c.find(sd, certificate)
		c.Result = r.Signer.VerifyCountersignature(c.Signer, c.Certificate, verifier)
		switch core := c.Result.Core(); {
		case core == Invalid:
			step = Finding{Invalid, CountersignatureInvalid}
		case core == Indeterminate && step.Verdict < Indeterminate:
			step = Finding{Indeterminate, CountersignatureUnchecked}
		}
	}
	r.Result[StepCountersignature] = step
}

// checkContainer looks at what belongs to the message as a whole.
func (sd *SignedData) checkContainer(si *SignerInfo, hash crypto.Hash, digest []byte) Finding {
	switch {
	case hash == 0:
		return Finding{Invalid, DigestNotAdmissible}
	case !sd.declares(si.DigestAlgorithm):
		return Finding{Invalid, DigestNotDeclared}
	case digest == nil:
		return Finding{Indeterminate, ContentMissing}
	case sd.Version != sd.properVersion(), si.Version != si.properVersion():
		return Finding{Valid, VersionNote}
	}
	return Finding{Verdict: Valid}
}

func (sd *SignedData) declares(digest ber.OID) bool {
	for _, oid := range sd.DigestAlgorithms {
		if oid == digest {
			return true
		}
	}
	return false
}

// properVersion is the version by RFC 5652 chapter 5.1. Attribute certificates, which would make it 3 or 4, are not told
// apart here.
func (sd *SignedData) properVersion() int {
	if len(sd.OCSP) > 0 || sd.OtherRevocations > 0 {
		return 5
	}
	if sd.OtherCertificates > 0 {
		return 4
	}
	if sd.ContentType != oidData {
		return 3
	}
	for i := range sd.Signers {
		if sd.Signers[i].Version == 3 {
			return 3
		}
	}
	return 1
}

// properVersion is the version by RFC 5652 chapter 5.3.
func (si *SignerInfo) properVersion() int {
	if si.SubjectKeyID != nil {
		return 3
	}
	return 1
}

// onlyOnce are the attributes of which there may be one, with one value.
var onlyOnce = []ber.OID{
	TypeContentType, TypeMessageDigest, TypeSigningTime, TypeAlgorithmProtection, TypeSigningCertificate, TypeSigningCertificateV2,
}

// checkAttributes looks at the signed attributes as a set (RFC 5652 chapters 5.3 and 11).
func (si *SignerInfo) checkAttributes(contentType ber.OID, counter bool, content []byte) Finding {
	if !si.HasSignedAttributes {
		if !counter && contentType != oidData {
			return Finding{Invalid, NoSignedAttributes}
		}
		if looksLikeAttributes(content) {
			return Finding{Invalid, AttributesAsContent}
		}
		return Finding{Warning, NoSignedAttributes}
	}
	for i := range si.SignedAttributes {
		for _, before := range si.SignedAttributes[:i] {
			if before.Type == si.SignedAttributes[i].Type {
				return Finding{Invalid, AttributeTwice}
			}
		}
		if len(si.SignedAttributes[i].Values) == 0 {
			return Finding{Invalid, AttributeValues}
		}
	}
	for _, kind := range onlyOnce {
		if _, found, ok := one(si.SignedAttributes, kind); found && !ok {
			return Finding{Invalid, AttributeValues}
		}
	}
	if _, found, _ := one(si.SignedAttributes, TypeSigningTime); found && si.SigningTime.IsZero() {
		return Finding{Invalid, AttributeValues}
	}
	value, found, _ := one(si.SignedAttributes, TypeContentType)
	if counter {
		if found {
			return Finding{Warning, ContentTypePresent}
		}
		return Finding{Verdict: Valid}
	}
	switch {
	case !found:
		return Finding{Invalid, ContentTypeMissing}
	case !value.IsOID(contentType):
		return Finding{Invalid, ContentTypeMismatch}
	}
	return Finding{Verdict: Valid}
}

// looksLikeAttributes reports whether a content is a SET OF Attribute with a messageDigest. Somebody who has a signature
// with signed attributes can present these attributes as the content of one without, and the signature fits.
func looksLikeAttributes(content []byte) bool {
	in := ber.New(content)
	e, err := in.Read(ber.Set)
	if err != nil || !in.Empty() {
		return false
	}
	attributes, err := readAttributes(nil, &in, e)
	if err != nil {
		return false
	}
	_, found, _ := one(attributes, TypeMessageDigest)
	return found
}

// verify runs the steps that signatures and countersignatures share. digest is that of the content.
func (si *SignerInfo) verify(r *Result, hash crypto.Hash, digest []byte, cert *x509ti.Certificate, verifier x509ti.Verifier) {
	if digest != nil && si.HasSignedAttributes {
		r[StepMessageDigest] = si.checkMessageDigest(digest)
	} else if digest != nil {
		r[StepMessageDigest] = Finding{Valid, NoSignedAttributes} // the signature itself is over this digest
	}
	switch {
	case cert == nil:
		r[StepSignature] = Finding{Indeterminate, CertificateMissing}
		r[StepCertReference] = Finding{Indeterminate, CertificateMissing}
	default:
		if hash != 0 && (digest != nil || si.HasSignedAttributes) {
			r[StepSignature] = si.checkSignature(hash, digest, cert, verifier)
		}
		r[StepCertReference] = si.checkReference(cert)
	}
	r[StepAlgorithmProtection] = si.checkProtection()
}

func (si *SignerInfo) checkMessageDigest(digest []byte) Finding {
	value, found, ok := one(si.SignedAttributes, TypeMessageDigest)
	switch {
	case !found:
		return Finding{Invalid, MessageDigestMissing}
	case !ok || value.Tag != ber.OctetString:
		return Finding{Invalid, AttributeValues}
	}
	if octets, err := value.Octets(); err != nil || !bytes.Equal(octets, digest) {
		return Finding{Invalid, MessageDigestMismatch}
	}
	return Finding{Verdict: Valid}
}

// checkSignature checks the signature over the signed attributes in DER, or over the content when there are none.
func (si *SignerInfo) checkSignature(hash crypto.Hash, digest []byte, cert *x509ti.Certificate, verifier x509ti.Verifier) Finding {
	if !si.HasSignedAttributes {
		return si.checkOver(hash, digest, cert, verifier)
	}
	var own digests
	sorted, received, err := si.signedOctets()
	if err != nil {
		return Finding{Invalid, AttributeValues}
	}
	f := si.checkOver(hash, own.of(hash, sorted, true), cert, verifier)
	if f.Reason == SignatureMismatch && received != nil {
		own = digests{}
		if f := si.checkOver(hash, own.of(hash, received, true), cert, verifier); f.Verdict <= Warning {
			return Finding{Warning, AttributesNotSorted}
		}
	}
	return f
}

// signedOctets returns what the signature covers: the DER encoding of the attributes as SET OF. Where the message has them
// in another order, received is the encoding in that order: some signers do not sort.
func (si *SignerInfo) signedOctets() (sorted, received []byte, err error) {
	const set = 0x31
	raw := si.signedRaw
	// The outer tag is [0]; with the one of SET in its place, DER also means sorted.
	if len(raw) <= 1024 {
		var space [1024]byte
		return si.signedOctetsIn(append(append(space[:0], set), raw[1:]...))
	}
	return si.signedOctetsIn(append([]byte{set}, raw[1:]...))
}

func (si *SignerInfo) signedOctetsIn(asSet []byte) (sorted, received []byte, err error) {
	if ber.IsDER(asSet) {
		return asSet, nil, nil
	}
	in := ber.New(asSet)
	e, err := in.Next()
	if err != nil {
		return nil, nil, err
	}
	set, err := in.Enter(e)
	if err != nil {
		return nil, nil, err
	}
	var parts [][]byte
	length := 0
	for !set.Empty() {
		attribute, err := set.Next()
		if err != nil {
			return nil, nil, err
		}
		der, err := attribute.DER()
		if err != nil {
			return nil, nil, err
		}
		parts = append(parts, der)
		length += len(der)
	}
	join := func() []byte {
		out := ber.AppendHeader(make([]byte, 0, length+8), ber.Set, true, length)
		for _, part := range parts {
			out = append(out, part...)
		}
		return out
	}
	received = join()
	ber.SortSetOf(parts)
	if sorted = join(); bytes.Equal(sorted, received) {
		received = nil
	}
	return sorted, received, nil
}

// checkOver checks the signature over a digest.
func (si *SignerInfo) checkOver(hash crypto.Hash, digest []byte, cert *x509ti.Certificate, verifier x509ti.Verifier) Finding {
	kind := scheme(0)
	for i := range signatureAlgorithms {
		if a := &signatureAlgorithms[i]; a.oid == si.SignatureAlgorithm {
			if a.hash != 0 && a.hash != hash {
				return Finding{Invalid, SignatureDigestMismatch}
			}
			kind = a.scheme
			break
		}
	}
	if kind == 0 || kind != schemePSS && si.SignatureParameters != nil {
		return Finding{Invalid, SignatureNotAdmissible}
	}
	switch key := cert.PublicKey.(type) {
	case *brainpool.PublicKey:
		if kind != schemeECDSA {
			return Finding{Invalid, KeyMismatch}
		}
		rs, ok := key.Curve().SignatureFromDER(si.Signature)
		switch {
		case !ok:
			return Finding{Invalid, SignatureEncoding}
		case verifier != nil && !verifier.VerifyECDSA(key, digest, rs), verifier == nil && !key.VerifyVartime(digest, rs):
			return Finding{Invalid, SignatureMismatch}
		}
	case *ecdsa.PublicKey:
		if kind != schemeECDSA {
			return Finding{Invalid, KeyMismatch}
		}
		if _, ok := brainpool.SignatureFromDER(si.Signature, (key.Curve.Params().BitSize+7)/8); !ok {
			return Finding{Invalid, SignatureEncoding}
		}
		if !ecdsa.VerifyASN1(key, digest, si.Signature) {
			return Finding{Invalid, SignatureMismatch}
		}
	case *rsa.PublicKey:
		switch kind {
		case schemeRSA:
			if rsa.VerifyPKCS1v15(key, hash, digest, si.Signature) != nil {
				return Finding{Invalid, SignatureMismatch}
			}
		case schemePSS:
			return si.checkPSS(hash, digest, key)
		default:
			return Finding{Invalid, KeyMismatch}
		}
	default:
		return Finding{Invalid, KeyMismatch}
	}
	return Finding{Verdict: Valid}
}

// checkPSS reads RSASSA-PSS-params (RFC 4055 chapter 3.1) and checks the signature. The defaults stand for SHA-1, so hash
// and mask must be given; both must be those of digestAlgorithm.
func (si *SignerInfo) checkPSS(hash crypto.Hash, digest []byte, key *rsa.PublicKey) Finding {
	p, ok := readPSS(si.SignatureParameters)
	switch {
	case !ok || p.trailer != 1 || p.salt < 1 || p.salt > int64(hash.Size()) || p.mask != p.hash || hashOf(p.hash) == 0:
		return Finding{Invalid, SignatureNotAdmissible}
	case hashOf(p.hash) != hash:
		return Finding{Invalid, SignatureDigestMismatch}
	case rsa.VerifyPSS(key, hash, digest, si.Signature, &rsa.PSSOptions{SaltLength: int(p.salt), Hash: hash}) != nil:
		return Finding{Invalid, SignatureMismatch}
	case p.salt != int64(hash.Size()):
		return Finding{Warning, SaltLength}
	}
	return Finding{Verdict: Valid}
}

type pssParameters struct {
	hash, mask    ber.OID
	salt, trailer int64
}

func readPSS(raw []byte) (p pssParameters, ok bool) {
	p.hash, p.mask, p.salt, p.trailer = oidSHA1, oidSHA1, 20, 1
	in := ber.NewDER(raw)
	seq, err := in.Inside(ber.Sequence)
	if err != nil || !in.Empty() {
		return p, false
	}
	for number := uint8(0); number < 4; number++ {
		field, has, err := seq.Optional(ber.Context(number))
		if err != nil {
			return p, false
		}
		if !has {
			continue
		}
		inner, err := seq.Enter(field)
		if err != nil {
			return p, false
		}
		switch number {
		case 0:
			p.hash, err = readHash(&inner)
		case 1:
			var mgf ber.OID
			var parameters []byte
			if mgf, parameters, err = readAlgorithm(&inner); err == nil {
				nested := ber.NewDER(parameters)
				p.mask, err = readHash(&nested)
				if mgf != oidMGF1 || !nested.Empty() {
					return p, false
				}
			}
		default:
			var e ber.Element
			var v int64
			if e, err = inner.Read(ber.Integer); err == nil {
				v, err = e.Int()
			}
			if number == 2 {
				p.salt = v
			} else {
				p.trailer = v
			}
		}
		if err != nil || !inner.Empty() {
			return p, false
		}
	}
	return p, seq.Empty()
}

// readHash reads the AlgorithmIdentifier of a hash function, which has no parameters but NULL.
func readHash(in *ber.Input) (ber.OID, error) {
	oid, parameters, err := readAlgorithm(in)
	if err == nil && parameters != nil {
		err = fmt.Errorf("%w: parameters of a digest algorithm", ErrMalformed)
	}
	return oid, err
}

// reference is one ESSCertID or ESSCertIDv2.
type reference struct {
	hash           ber.OID
	digest         []byte
	issuer, serial []byte // nil without issuerSerial
}

// readReferenceV2 reads the first certificate of signingCertificateV2 (RFC 5035 chapter 3), which is the signer's.
func readReferenceV2(value ber.Element) (ref reference, err error) {
	ref.hash = oidSHA256
	seq, err := firstReference(value)
	if err != nil {
		return ref, err
	}
	if seq.Is(ber.Sequence) {
		if ref.hash, err = readHash(&seq); err != nil {
			return ref, err
		}
	}
	return ref, ref.rest(&seq)
}

// readReferenceV1 reads the first certificate of signingCertificate (RFC 2634 chapter 5.4).
func readReferenceV1(value ber.Element) (ref reference, err error) {
	ref.hash = oidSHA1
	seq, err := firstReference(value)
	if err != nil {
		return ref, err
	}
	return ref, ref.rest(&seq)
}

func firstReference(value ber.Element) (ber.Input, error) {
	in := ber.New(value.Raw)
	outer, err := in.Inside(ber.Sequence)
	if err != nil {
		return ber.Input{}, err
	}
	list, err := outer.Inside(ber.Sequence)
	if err != nil {
		return ber.Input{}, err
	}
	if _, _, err := outer.Optional(ber.Sequence); err != nil { // policies
		return ber.Input{}, err
	}
	if err := outer.End(); err != nil {
		return ber.Input{}, err
	}
	first, err := list.Inside(ber.Sequence)
	for err == nil && !list.Empty() {
		_, err = list.Read(ber.Sequence)
	}
	return first, err
}

// rest reads certHash and issuerSerial.
func (ref *reference) rest(seq *ber.Input) error {
	digest, err := seq.Read(ber.OctetString)
	if err != nil {
		return err
	}
	if ref.digest, err = digest.Octets(); err != nil {
		return err
	}
	if seq.Empty() {
		return nil
	}
	both, err := seq.Inside(ber.Sequence)
	if err != nil {
		return err
	}
	names, err := both.Inside(ber.Sequence)
	if err != nil {
		return err
	}
	directory, err := names.Inside(ber.Context(4)) // GeneralName directoryName
	if err != nil {
		return err
	}
	name, err := directory.Read(ber.Sequence)
	if err != nil {
		return err
	}
	if ref.issuer, err = name.DER(); err != nil {
		return err
	}
	number, err := both.Read(ber.Integer)
	if err != nil {
		return err
	}
	if ref.serial, err = number.IntBytes(); err != nil {
		return err
	}
	for _, in := range []*ber.Input{&directory, &names, &both, seq} {
		if err := in.End(); err != nil {
			return err
		}
	}
	return nil
}

// fits reports whether the reference is one to this certificate.
func (ref *reference) fits(cert *x509ti.Certificate, id identity) bool {
	if ref.issuer != nil && (!bytes.Equal(ref.serial, id.serial) || !sameName(ref.issuer, id.issuer)) {
		return false
	}
	var own digests
	if ref.hash == oidSHA1 {
		sum := sha1.Sum(cert.Raw)
		return bytes.Equal(ref.digest, sum[:])
	}
	sum := own.of(hashOf(ref.hash), cert.Raw, true)
	return sum != nil && bytes.Equal(ref.digest, sum)
}

// checkReference checks that sid and the signed reference name this certificate.
func (si *SignerInfo) checkReference(cert *x509ti.Certificate) Finding {
	id, ok := readIdentity(cert.Raw)
	if !ok || !si.namesIdentity(id) {
		return Finding{Invalid, SignerIDMismatch}
	}
	f := Finding{Warning, ReferenceMissing}
	if value, found, _ := one(si.SignedAttributes, TypeSigningCertificate); found {
		ref, err := readReferenceV1(value)
		switch {
		case err != nil:
			return Finding{Invalid, ReferenceMalformed}
		case !ref.fits(cert, id):
			return Finding{Invalid, ReferenceMismatch}
		}
		f = Finding{Warning, ReferenceSHA1}
	}
	if value, found, _ := one(si.SignedAttributes, TypeSigningCertificateV2); found {
		ref, err := readReferenceV2(value)
		switch {
		case err != nil:
			return Finding{Invalid, ReferenceMalformed}
		case !ref.fits(cert, id):
			return Finding{Invalid, ReferenceMismatch}
		case ref.hash == oidSHA1:
			return Finding{Warning, ReferenceSHA1}
		}
		f = Finding{Verdict: Valid}
	}
	return f
}

// checkProtection compares cmsAlgorithmProtection (RFC 6211) with the algorithms used.
func (si *SignerInfo) checkProtection() Finding {
	value, found, _ := one(si.SignedAttributes, TypeAlgorithmProtection)
	if !found {
		return Finding{NotRun, ProtectionMissing}
	}
	in := ber.New(value.Raw)
	seq, err := in.Inside(ber.Sequence)
	if err != nil {
		return Finding{Invalid, ProtectionMalformed}
	}
	digest, digestParameters, err := readAlgorithm(&seq)
	if err != nil {
		return Finding{Invalid, ProtectionMalformed}
	}
	field, err := seq.Read(ber.Context(1)) // signatureAlgorithm, implicitly tagged
	if err != nil {
		return Finding{Invalid, ProtectionMalformed}
	}
	inner, err := seq.Enter(field)
	if err != nil || !seq.Empty() {
		return Finding{Invalid, ProtectionMalformed}
	}
	signature, parameters, err := readAlgorithmContent(&inner)
	if err != nil {
		return Finding{Invalid, ProtectionMalformed}
	}
	if digest != si.DigestAlgorithm || digestParameters != nil || signature != si.SignatureAlgorithm || !bytes.Equal(parameters, si.SignatureParameters) {
		return Finding{Invalid, ProtectionMismatch}
	}
	return Finding{Verdict: Valid}
}
