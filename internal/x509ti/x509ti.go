// Package x509ti reads and checks the X.509 certificates of the telematics infrastructure: RSA, NIST and brainpool keys,
// the subject of a health card with KVNR and IK, policies, admission (profession) and the checks of gemSpec_PKI that need
// nothing but the certificate and its issuer. Go's crypto/x509 cannot parse brainpool certificates.
//
// The reader is strict DER, bounded by [MaxSize], and keeps personal data in types that do not print. Findings of the
// checks are values of type *[Error] with the codes of gemSpec_PKI Tab_PKI_274.
package x509ti

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"ktradv/internal/redact"
)

// MaxSize is the largest certificate that is read, in octets. Those of the telematics infrastructure have below 2000.
const MaxSize = 16 * 1024

// Bounds of the lists inside a certificate.
const (
	maxAttributes = 64
	maxExtensions = 32
	maxEntries    = 16 // policies, key purposes, professions, addresses
)

// ErrMalformed is wrapped by every error of Parse.
var ErrMalformed = errors.New("x509ti: malformed certificate")

// OID is an object identifier.
type OID = asn1.ObjectIdentifier

// KeyUsage is the key usage extension; bit i is bit i of RFC 5280 chapter 4.2.1.3.
type KeyUsage uint16

// The usages that the profiles of gemSpec_PKI know.
const (
	DigitalSignature KeyUsage = 1 << iota
	NonRepudiation
	KeyEncipherment
	DataEncipherment
	KeyAgreement
	CertSign
	CRLSign
)

// Attribute is one attribute of a name. The value may be personal data.
type Attribute struct {
	OID   OID
	Value redact.String
}

// Admission is one profession of the admission extension (1.3.36.8.3.3).
type Admission struct {
	Items        []string // text, for example "Versicherte/-r"
	OIDs         []OID    // roles
	Registration string   // Telematik-ID, "" without one
}

// Certificate is a certificate as parsed. The fields must not be changed.
type Certificate struct {
	Raw, RawTBS, RawIssuer, RawSubject, RawSPKI []byte // DER elements with tag and length

	Serial              *big.Int // positive
	Issuer, Subject     []Attribute
	NotBefore, NotAfter time.Time // both belong to the period of validity

	// PublicKey is *brainpool.PublicKey, *ecdsa.PublicKey or *rsa.PublicKey; PublicKeyBits is the content of its BIT STRING,
	// the input of key hashes.
	PublicKey     any
	PublicKeyBits []byte

	HasKeyUsage       bool
	KeyUsage          KeyUsage
	ExtKeyUsage       []OID
	Policies          []OID
	Admissions        []Admission
	AuthorityKeyID    []byte // nil without the extension
	SubjectKeyID      []byte
	OCSPURLs          []string
	IsCA              bool
	PathLen           int   // -1: no limit
	Critical          []OID // every critical extension
	UnhandledCritical []OID // those of them that this package knows nothing of

	// QCStatements are the statements of a qualified certificate (1.3.6.1.5.5.7.1.3); QCMalformed says that the extension
	// is there and cannot be read, which is a finding of TUC_PKI_030 and not a damaged certificate.
	QCStatements []OID
	QCMalformed  bool

	signatureAlgorithm []byte // AlgorithmIdentifier, DER
	signature          []byte
	fingerprint        [sha256.Size]byte
}

// String prints a mark only: the subject of a health card's certificate is personal data.
func (*Certificate) String() string { return redact.Mark }

// Format prints the same mark for every verb.
func (*Certificate) Format(w fmt.State, _ rune) { io.WriteString(w, redact.Mark) }

var (
	oidKeyUsage      = OID{2, 5, 29, 15}
	oidBasic         = OID{2, 5, 29, 19}
	oidAuthorityKey  = OID{2, 5, 29, 35}
	oidSubjectKey    = OID{2, 5, 29, 14}
	oidPolicies      = OID{2, 5, 29, 32}
	oidExtKeyUsage   = OID{2, 5, 29, 37}
	oidAuthorityInfo = OID{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidOCSP          = OID{1, 3, 6, 1, 5, 5, 7, 48, 1}
	oidAdmission     = OID{1, 3, 36, 8, 3, 3}
	oidQCStatements  = OID{1, 3, 6, 1, 5, 5, 7, 1, 3}
)

// Statements of qualified certificates.
var (
	OIDQcCompliance = OID{0, 4, 0, 1862, 1, 1}
	OIDQcSSCD       = OID{0, 4, 0, 1862, 1, 4}
)

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

func context(n uint8) tags.Tag  { return tags.Tag(n).ContextSpecific() }
func explicit(n uint8) tags.Tag { return tags.Tag(n).ContextSpecific().Constructed() }

// Parse reads exactly one certificate (version 3, strict DER). It keeps a copy of der.
func Parse(der []byte) (*Certificate, error) {
	if len(der) > MaxSize {
		return nil, malformed("too long")
	}
	der = append([]byte(nil), der...)
	c := &Certificate{Raw: der, PathLen: -1, fingerprint: sha256.Sum256(der)}
	input := cryptobyte.String(der)
	var outer, tbs, algorithm cryptobyte.String
	if !input.ReadASN1(&outer, tags.SEQUENCE) || !input.Empty() {
		return nil, malformed("not one SEQUENCE")
	}
	if !outer.ReadASN1Element(&tbs, tags.SEQUENCE) || !outer.ReadASN1Element(&algorithm, tags.SEQUENCE) ||
		!outer.ReadASN1BitStringAsBytes(&c.signature) || !outer.Empty() {
		return nil, malformed("outer structure")
	}
	c.RawTBS, c.signatureAlgorithm = tbs, algorithm
	if err := c.parseTBS(tbs); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Certificate) parseTBS(element cryptobyte.String) error {
	var tbs, version, algorithm, issuer, validity, subject, spki, extensions cryptobyte.String
	number := int64(0)
	if !element.ReadASN1(&tbs, tags.SEQUENCE) || !tbs.ReadASN1(&version, explicit(0)) ||
		!version.ReadASN1Integer(&number) || !version.Empty() || number != 2 {
		return malformed("not version 3")
	}
	c.Serial = new(big.Int)
	if !tbs.ReadASN1Integer(c.Serial) || c.Serial.Sign() <= 0 || c.Serial.BitLen() > 8*20 {
		return malformed("serial number")
	}
	if !tbs.ReadASN1Element(&algorithm, tags.SEQUENCE) || string(algorithm) != string(c.signatureAlgorithm) {
		return malformed("signature algorithm inside differs from outside")
	}
	if !tbs.ReadASN1Element(&issuer, tags.SEQUENCE) || !tbs.ReadASN1(&validity, tags.SEQUENCE) ||
		!tbs.ReadASN1Element(&subject, tags.SEQUENCE) || !tbs.ReadASN1Element(&spki, tags.SEQUENCE) {
		return malformed("structure")
	}
	c.RawIssuer, c.RawSubject, c.RawSPKI = issuer, subject, spki
	var err error
	if c.Issuer, err = parseName(issuer); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if c.Subject, err = parseName(subject); err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	var ok1, ok2 bool
	c.NotBefore, ok1 = readTime(&validity)
	c.NotAfter, ok2 = readTime(&validity)
	if !ok1 || !ok2 || !validity.Empty() {
		return malformed("validity")
	}
	if c.PublicKey, c.PublicKeyBits, err = parsePublicKey(spki); err != nil {
		return err
	}
	if tbs.Empty() {
		return nil
	}
	if !tbs.ReadASN1(&extensions, explicit(3)) || !tbs.Empty() {
		return malformed("something other than extensions after the key")
	}
	return c.parseExtensions(extensions)
}

// readTime takes the two forms of RFC 5280 chapter 4.1.2.5: with seconds, in UTC.
func readTime(s *cryptobyte.String) (time.Time, bool) {
	var content cryptobyte.String
	var tag tags.Tag
	if !s.ReadAnyASN1(&content, &tag) {
		return time.Time{}, false
	}
	text := string(content)
	switch {
	case tag == tags.UTCTime && len(text) == len("060102150405Z"):
		year := "20"
		if text[0] >= '5' {
			year = "19"
		}
		text = year + text
	case tag == tags.GeneralizedTime && len(text) == len("20060102150405Z"):
	default:
		return time.Time{}, false
	}
	t, err := time.Parse("20060102150405Z", text)
	return t, err == nil
}

func parseName(element cryptobyte.String) ([]Attribute, error) {
	var rdns cryptobyte.String
	if !element.ReadASN1(&rdns, tags.SEQUENCE) {
		return nil, malformed("name")
	}
	var out []Attribute
	for !rdns.Empty() {
		var set cryptobyte.String
		if !rdns.ReadASN1(&set, tags.SET) || set.Empty() {
			return nil, malformed("relative distinguished name")
		}
		for !set.Empty() {
			var attribute cryptobyte.String
			var a Attribute
			if !set.ReadASN1(&attribute, tags.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&a.OID) {
				return nil, malformed("name attribute")
			}
			text, ok := readText(&attribute)
			if !ok || !attribute.Empty() || len(out) == maxAttributes {
				return nil, malformed("name attribute")
			}
			a.Value = redact.NewString(text)
			out = append(out, a)
		}
	}
	return out, nil
}

// readText reads one character string of a DirectoryString or an IA5String.
func readText(s *cryptobyte.String) (string, bool) {
	var content cryptobyte.String
	var tag tags.Tag
	if !s.ReadAnyASN1(&content, &tag) {
		return "", false
	}
	switch tag {
	case tags.UTF8String:
		return string(content), utf8.Valid(content)
	case tags.PrintableString, tags.IA5String, tags.Tag(18): // 18: NumericString
		for _, b := range content {
			if b < 0x20 || b > 0x7e {
				return "", false
			}
		}
		return string(content), true
	case tags.T61String: // in practice ISO 8859-1
		runes := make([]rune, len(content))
		for i, b := range content {
			runes[i] = rune(b)
		}
		return string(runes), true
	case tags.Tag(30): // BMPString
		if len(content)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(content)/2)
		for i := range units {
			units[i] = uint16(content[2*i])<<8 | uint16(content[2*i+1])
		}
		return string(utf16.Decode(units)), true
	}
	return "", false
}

func (c *Certificate) parseExtensions(wrapper cryptobyte.String) error {
	var list cryptobyte.String
	if !wrapper.ReadASN1(&list, tags.SEQUENCE) || !wrapper.Empty() || list.Empty() {
		return malformed("extensions")
	}
	parsers := []struct {
		oid   OID
		parse func(cryptobyte.String) bool
	}{
		{oidKeyUsage, c.parseKeyUsage},
		{oidBasic, c.parseBasicConstraints},
		{oidExtKeyUsage, c.parseExtKeyUsage},
		{oidPolicies, c.parsePolicies},
		{oidAdmission, c.parseAdmission},
		{oidAuthorityKey, c.parseAuthorityKeyID},
		{oidSubjectKey, c.parseSubjectKeyID},
		{oidAuthorityInfo, c.parseAuthorityInfo},
		{oidQCStatements, c.parseQCStatements},
	}
	var seen []OID
	for !list.Empty() {
		var extension, value cryptobyte.String
		var oid OID
		var critical bool
		if !list.ReadASN1(&extension, tags.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&oid) ||
			!readFlag(&extension, &critical) ||
			!extension.ReadASN1(&value, tags.OCTET_STRING) || !extension.Empty() {
			return malformed("extension")
		}
		if len(seen) == maxExtensions || contains(seen, oid) {
			return malformed("extension twice, or too many")
		}
		seen = append(seen, oid)
		known := false
		for _, p := range parsers {
			if !p.oid.Equal(oid) {
				continue
			}
			known = true
			if !p.parse(value) {
				return malformed("extension " + oid.String())
			}
		}
		if critical {
			c.Critical = append(c.Critical, oid)
		}
		if critical && !known {
			c.UnhandledCritical = append(c.UnhandledCritical, oid)
		}
	}
	return nil
}

func (c *Certificate) parseKeyUsage(value cryptobyte.String) bool {
	var bits asn1.BitString
	if !value.ReadASN1BitString(&bits) || !value.Empty() || bits.BitLength > 9 {
		return false
	}
	c.HasKeyUsage = true
	for i := range bits.BitLength {
		c.KeyUsage |= KeyUsage(bits.At(i)) << i
	}
	return c.KeyUsage != 0
}

func (c *Certificate) parseBasicConstraints(value cryptobyte.String) bool {
	var seq cryptobyte.String
	if !value.ReadASN1(&seq, tags.SEQUENCE) || !value.Empty() || !readFlag(&seq, &c.IsCA) {
		return false
	}
	if seq.PeekASN1Tag(tags.INTEGER) {
		if !c.IsCA || !seq.ReadASN1Integer(&c.PathLen) || c.PathLen < 0 {
			return false
		}
	}
	return seq.Empty()
}

func (c *Certificate) parseExtKeyUsage(value cryptobyte.String) bool {
	var ok bool
	c.ExtKeyUsage, ok = readOIDs(&value)
	return ok && value.Empty()
}

// readOIDs reads a SEQUENCE OF OBJECT IDENTIFIER with one to maxEntries members.
func readOIDs(s *cryptobyte.String) ([]OID, bool) {
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, tags.SEQUENCE) {
		return nil, false
	}
	var out []OID
	for !seq.Empty() {
		var oid OID
		if !seq.ReadASN1ObjectIdentifier(&oid) || len(out) == maxEntries {
			return nil, false
		}
		out = append(out, oid)
	}
	return out, len(out) > 0
}

// parsePolicies takes an empty list too: for TUC_PKI_007 that is a finding (CertTypeInfoMissing), not a damaged certificate.
func (c *Certificate) parsePolicies(value cryptobyte.String) bool {
	var seq cryptobyte.String
	if !value.ReadASN1(&seq, tags.SEQUENCE) || !value.Empty() {
		return false
	}
	for !seq.Empty() {
		var policy, qualifiers cryptobyte.String
		var oid OID
		if !seq.ReadASN1(&policy, tags.SEQUENCE) || !policy.ReadASN1ObjectIdentifier(&oid) ||
			!policy.ReadOptionalASN1(&qualifiers, nil, tags.SEQUENCE) || !policy.Empty() ||
			len(c.Policies) == maxEntries || contains(c.Policies, oid) {
			return false
		}
		c.Policies = append(c.Policies, oid)
	}
	return true
}

// parseAdmission reads AdmissionSyntax (Common PKI part 1, table 29b); naming authorities are passed over.
func (c *Certificate) parseAdmission(value cryptobyte.String) bool {
	var syntax, contents cryptobyte.String
	if !value.ReadASN1(&syntax, tags.SEQUENCE) || !value.Empty() || !skipContext(&syntax, 1) ||
		!syntax.ReadASN1(&contents, tags.SEQUENCE) || !syntax.Empty() {
		return false
	}
	for !contents.Empty() {
		var admissions, infos cryptobyte.String
		if !contents.ReadASN1(&admissions, tags.SEQUENCE) || !skipContext(&admissions, 2) ||
			!admissions.ReadASN1(&infos, tags.SEQUENCE) || !admissions.Empty() {
			return false
		}
		for !infos.Empty() {
			a, ok := parseProfession(&infos)
			if !ok || len(c.Admissions) == maxEntries {
				return false
			}
			c.Admissions = append(c.Admissions, a)
		}
	}
	return true
}

func parseProfession(infos *cryptobyte.String) (a Admission, ok bool) {
	var info, items, extra cryptobyte.String
	if !infos.ReadASN1(&info, tags.SEQUENCE) || !skipContext(&info, 1) || !info.ReadASN1(&items, tags.SEQUENCE) {
		return a, false
	}
	for !items.Empty() {
		text, ok := readText(&items)
		if !ok || len(a.Items) == maxEntries {
			return a, false
		}
		a.Items = append(a.Items, text)
	}
	if info.PeekASN1Tag(tags.SEQUENCE) {
		if a.OIDs, ok = readOIDs(&info); !ok {
			return a, false
		}
	}
	if info.PeekASN1Tag(tags.PrintableString) {
		if a.Registration, ok = readText(&info); !ok {
			return a, false
		}
	}
	return a, info.ReadOptionalASN1(&extra, nil, tags.OCTET_STRING) && info.Empty()
}

// skipContext passes over up to n elements with context-specific tags.
func skipContext(s *cryptobyte.String, n int) bool {
	for range n {
		if s.Empty() || (*s)[0]&0xc0 != 0x80 {
			return true
		}
		var skip cryptobyte.String
		var tag tags.Tag
		if !s.ReadAnyASN1(&skip, &tag) {
			return false
		}
	}
	return true
}

func (c *Certificate) parseAuthorityKeyID(value cryptobyte.String) bool {
	var seq, id cryptobyte.String
	var has bool
	if !value.ReadASN1(&seq, tags.SEQUENCE) || !value.Empty() || !seq.ReadOptionalASN1(&id, &has, context(0)) {
		return false
	}
	if has {
		c.AuthorityKeyID = append([]byte{}, id...)
	}
	return skipContext(&seq, 2) && seq.Empty() // name and serial number of the issuer, which the profiles do not use
}

func (c *Certificate) parseSubjectKeyID(value cryptobyte.String) bool {
	var id cryptobyte.String
	if !value.ReadASN1(&id, tags.OCTET_STRING) || !value.Empty() {
		return false
	}
	c.SubjectKeyID = append([]byte{}, id...)
	return len(id) > 0
}

func (c *Certificate) parseAuthorityInfo(value cryptobyte.String) bool {
	var seq cryptobyte.String
	if !value.ReadASN1(&seq, tags.SEQUENCE) || !value.Empty() {
		return false
	}
	for n := 0; !seq.Empty(); n++ {
		var access, location cryptobyte.String
		var method OID
		var tag tags.Tag
		if n == maxEntries || !seq.ReadASN1(&access, tags.SEQUENCE) || !access.ReadASN1ObjectIdentifier(&method) ||
			!access.ReadAnyASN1(&location, &tag) || !access.Empty() {
			return false
		}
		if !method.Equal(oidOCSP) || tag != context(6) { // uniformResourceIdentifier
			continue
		}
		for _, b := range location {
			if b <= 0x20 || b > 0x7e {
				return false
			}
		}
		c.OCSPURLs = append(c.OCSPURLs, string(location))
	}
	return true
}

// parseQCStatements reads QCStatements (RFC 3739 chapter 3.2.6). Statements are kept by their identifiers; what they say
// beside that (limits, addresses of documents) is passed over.
func (c *Certificate) parseQCStatements(value cryptobyte.String) bool {
	var seq cryptobyte.String
	if !value.ReadASN1(&seq, tags.SEQUENCE) || !value.Empty() {
		c.QCMalformed = true
		return true
	}
	for !seq.Empty() {
		var statement cryptobyte.String
		var oid OID
		if len(c.QCStatements) == maxEntries || !seq.ReadASN1(&statement, tags.SEQUENCE) || !statement.ReadASN1ObjectIdentifier(&oid) {
			c.QCMalformed = true
			return true
		}
		c.QCStatements = append(c.QCStatements, oid)
	}
	return true
}

// CheckQC is the first step of TUC_PKI_030: the statements can be read and QcCompliance is among them.
func (c *Certificate) CheckQC() error {
	switch {
	case c.QCMalformed:
		return QCStatementError.Because("the statements cannot be read")
	case !contains(c.QCStatements, OIDQcCompliance):
		return QCStatementError.Because("QcCompliance is missing")
	}
	return nil
}

// HasQCStatement reports whether the statements name oid.
func (c *Certificate) HasQCStatement(oid OID) bool { return contains(c.QCStatements, oid) }

// IsRSA reports whether the key is an RSA key.
func (c *Certificate) IsRSA() bool {
	_, ok := c.PublicKey.(*rsa.PublicKey)
	return ok
}

// Fingerprint returns the SHA-256 of the certificate, the name under which caches and lists know it (GS-A_4393).
func (c *Certificate) Fingerprint() [sha256.Size]byte { return c.fingerprint }

// TestOnly reports whether the certificate carries a mark of the test PKI (gemSpec_PKI chapter 5, GS-A_4727): TEST-ONLY or
// NOT-VALID in a name of subject or issuer.
func (c *Certificate) TestOnly() bool {
	for _, mark := range []string{"TEST-ONLY", "NOT-VALID"} {
		if bytes.Contains(c.RawSubject, []byte(mark)) || bytes.Contains(c.RawIssuer, []byte(mark)) {
			return true
		}
	}
	return false
}

// CommonName returns the first common name of the subject, "" without one. It is personal data in certificates of health
// cards and professionals.
func (c *Certificate) CommonName() redact.String {
	for _, v := range c.SubjectValues(OIDCommonName) {
		return v
	}
	return redact.String{}
}

// readFlag reads a BOOLEAN DEFAULT FALSE.
func readFlag(s *cryptobyte.String, out *bool) bool {
	*out = false
	return !s.PeekASN1Tag(tags.BOOLEAN) || s.ReadASN1Boolean(out)
}

func contains(list []OID, oid OID) bool {
	for _, o := range list {
		if o.Equal(oid) {
			return true
		}
	}
	return false
}

// HasPolicy reports whether the certificate policies name oid.
func (c *Certificate) HasPolicy(oid OID) bool { return contains(c.Policies, oid) }

// HasExtKeyUsage reports whether the extended key usage names oid.
func (c *Certificate) HasExtKeyUsage(oid OID) bool { return contains(c.ExtKeyUsage, oid) }

// Roles returns the profession OIDs of all admissions (TUC_PKI_009).
func (c *Certificate) Roles() []OID {
	var out []OID
	for _, a := range c.Admissions {
		out = append(out, a.OIDs...)
	}
	return out
}

// Names of subject attributes.
var (
	OIDCommonName   = OID{2, 5, 4, 3}
	OIDOrganization = OID{2, 5, 4, 10}
	OIDUnit         = OID{2, 5, 4, 11}
)

// SubjectValues returns the values of one kind of attribute in their order.
func (c *Certificate) SubjectValues(oid OID) []redact.String {
	var out []redact.String
	for _, a := range c.Subject {
		if a.OID.Equal(oid) {
			out = append(out, a.Value)
		}
	}
	return out
}

// Errors of KVNR and IK.
var (
	ErrNoKVNR = errors.New("x509ti: subject has not exactly one OU that is a KVNR")
	ErrNoIK   = errors.New("x509ti: subject has not exactly one OU that is an IK")
)

// KVNR returns the unchangeable part of the health insurance number, the OU of the subject with a letter and nine digits.
// The two OUs of a card are told apart by their form, not by their order. ErrNoKVNR: C.CH.AUTN has none.
func (c *Certificate) KVNR() (redact.KVNR, error) {
	var found []redact.KVNR
	for _, v := range c.SubjectValues(OIDUnit) {
		if n, err := redact.NewKVNR(v.Reveal()); err == nil {
			found = append(found, n)
		}
	}
	if len(found) != 1 {
		return redact.KVNR{}, ErrNoKVNR
	}
	return found[0], nil
}

// IK returns the insurer's institution code, the OU of the subject with nine digits (A_15111).
func (c *Certificate) IK() (string, error) {
	var found []string
	for _, v := range c.SubjectValues(OIDUnit) {
		if text := v.Reveal(); isIK(text) {
			found = append(found, text)
		}
	}
	if len(found) != 1 {
		return "", ErrNoIK
	}
	return found[0], nil
}

func isIK(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) == 9
}

// ValidAt reports whether t lies in the period of validity, both ends included (TUC_PKI_002).
func (c *Certificate) ValidAt(t time.Time) bool {
	return !t.Before(c.NotBefore) && !t.After(c.NotAfter)
}
