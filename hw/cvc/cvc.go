// Package cvc reads and verifies the card-verifiable certificates (CVC) of generation 2 of the German health cards:
// strict parsing of every field, verification of a chain up to a pinned root with real time, and the rule that a
// certificate grants no right that its issuer does not have.
//
// Structure and rules: gemSpec_PKI 6.4.3 to 6.4.6, egk-card.md section 3.
package cvc

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // the hashes of the three key sizes
	_ "crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"ktradv/hw/tlv"
	"ktradv/internal/brainpool"
)

// Errors. They arrive wrapped with what was wrong.
var (
	ErrMalformed     = errors.New("malformed CV certificate")
	ErrSignature     = errors.New("CV certificate: wrong signature")
	ErrUnknownIssuer = errors.New("CV certificate: issuer not known")
	ErrNotYetValid   = errors.New("CV certificate: not yet valid")
	ErrExpired       = errors.New("CV certificate: expired")
	ErrRights        = errors.New("CV certificate: more rights than the issuer has")
	ErrLevel         = errors.New("CV certificate: issued by the wrong kind of authority")
)

// CAR is the name of a certification authority: certification authority reference in what it signs, certificate holder
// reference in its own certificate.
type CAR [8]byte

// String writes the name as it is spoken of: five letters, service indicator, free digit, algorithm, year, for example
// "DEGXX 8-7-02-22".
func (c CAR) String() string {
	for _, x := range c[:5] {
		if x < 0x20 || x > 0x7E {
			return hex.EncodeToString(c[:])
		}
	}
	return fmt.Sprintf("%s %X-%X-%02X-%02X", c[:5], c[5]>>4, c[5]&0xF, c[6], c[7])
}

// FlagCount is the number of flags of a certificate.
const FlagCount = 56

// Flags are the rights of a certificate: flag 0 is the most significant bit. Flags 0 and 1 tell its level.
type Flags [7]byte

// Rights of the certificates that the KTR-AdV uses (gemSpec_PKI, egk-card.md 1.9), and of roots.
var (
	FlagsNone   = Flags{}                                         // CHAT.0: authentication only
	FlagsKTRAdV = Flags{0x00, 0xAE, 0x1A, 0xCD, 0xC1, 0xDC, 0x00} // CHAT.1: KTR-AdV
	FlagsAll    = Flags{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF} // a root
)

// Has reports whether flag n is set; n outside 0 to 55 is not.
func (f Flags) Has(n int) bool { return n >= 0 && n < FlagCount && f[n/8]&(0x80>>(n%8)) != 0 }

// Within reports whether every flag of f is set in g.
func (f Flags) Within(g Flags) bool {
	for i := range f {
		if f[i]&^g[i] != 0 {
			return false
		}
	}
	return true
}

// String returns the 14 hexadecimal digits of the specification.
func (f Flags) String() string { return hex.EncodeToString(f[:]) }

// Level is the place of a certificate in the hierarchy, told by flags 0 and 1.
type Level int

// The levels. A root's certificate is signed by itself or, as a link certificate, by another root.
const (
	EndEntity Level = iota
	SubCA
	RootCA
)

var levelNames = [...]string{"end entity", "sub-CA", "root CA"}

// String returns an English name.
func (l Level) String() string {
	if l < 0 || int(l) >= len(levelNames) {
		return "unknown level"
	}
	return levelNames[l]
}

// List tells what the flags mean.
type List int

// The two lists: rights in the telematics infrastructure and rights of card management.
const (
	ListTI  List = iota // oid_cvc_fl_ti, 1.2.276.0.76.4.152
	ListCMS             // oid_cvc_fl_cms, 1.2.276.0.76.4.153
)

var lists = map[string]List{
	"\x2A\x82\x14\x00\x4C\x04\x81\x18": ListTI,
	"\x2A\x82\x14\x00\x4C\x04\x81\x19": ListCMS,
}

// keyUse is what the object identifier of a key tells: the curve, and whether the key signs certificates.
type keyUse struct {
	curve    func() *brainpool.Curve
	forCerts bool
}

// hashOfSize is the hash that a key of that many octets signs with.
var hashOfSize = map[int]crypto.Hash{32: crypto.SHA256, 48: crypto.SHA384, 64: crypto.SHA512}

var keyUses = map[string]keyUse{
	"\x2A\x86\x48\xCE\x3D\x04\x03\x02": {brainpool.P256r1, true}, // ecdsa-with-SHA256
	"\x2A\x86\x48\xCE\x3D\x04\x03\x03": {brainpool.P384r1, true},
	"\x2A\x86\x48\xCE\x3D\x04\x03\x04": {brainpool.P512r1, true},
	"\x2B\x24\x03\x05\x03\x01":         {brainpool.P256r1, false}, // authS_gemSpec-COS-G2_ecc-with-sha256
	"\x2B\x24\x03\x05\x03\x02":         {brainpool.P384r1, false},
	"\x2B\x24\x03\x05\x03\x03":         {brainpool.P512r1, false},
}

// Certificate is a parsed certificate. Parsing alone proves nothing; see [Roots.Verify].
type Certificate struct {
	Raw       []byte // the whole data object 7F21
	Content   []byte // value of 7F21: what PSO VERIFY CERTIFICATE takes
	Body      []byte // the data object 7F4E: what is signed
	Signature []byte // R‖S
	CAR       CAR    // name of the issuer
	CHR       []byte // name of the holder: 8 octets of an authority, 12 of a card (index and ICCSN)
	Key       *brainpool.PublicKey
	Level     Level
	List      List
	Flags     Flags
	From      time.Time // first moment of validity: CED 00:00 UTC
	Until     time.Time // end of validity, itself outside: the day after CXD, 00:00 UTC
}

// Name returns the holder's name when it is an authority, the zero value for a card.
func (c *Certificate) Name() (n CAR) {
	if len(c.CHR) == len(n) {
		copy(n[:], c.CHR)
	}
	return n
}

// ICCSN returns the ten octets of the card number in the holder's name, nil for an authority.
func (c *Certificate) ICCSN() []byte {
	if len(c.CHR) != 12 {
		return nil
	}
	return c.CHR[2:]
}

// String names holder and issuer of an authority's certificate; of a card's certificate only the issuer, because the
// number of a card must not get into logs.
func (c *Certificate) String() string {
	if c.Level == EndEntity {
		return fmt.Sprintf("%v certificate of %v", c.Level, c.CAR)
	}
	return fmt.Sprintf("%v certificate of %v for %v", c.Level, c.CAR, c.Name())
}

// Format prints the same for every verb.
func (c *Certificate) Format(w fmt.State, _ rune) { fmt.Fprint(w, c.String()) }

// Parse reads a certificate, the data object 7F21. Every field has to stand exactly where and how the specification
// says; nothing may follow.
func Parse(raw []byte) (*Certificate, error) {
	content, err := tlv.Only(raw, 0x7F21)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	c, err := ParseContent(content)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(c.Raw, raw) {
		return nil, fmt.Errorf("%w: length field not in its shortest form", ErrMalformed)
	}
	return c, nil
}

// ParseContent reads the value of 7F21 as it stands in the data field of PSO VERIFY CERTIFICATE: body and signature.
func ParseContent(content []byte) (*Certificate, error) {
	c, err := parse(content)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return c, nil
}

// fields reads data objects with exactly these tags in this order.
func fields(b []byte, tags ...uint32) ([]tlv.Object, error) {
	all, err := tlv.Parse(b)
	if err != nil {
		return nil, err
	}
	if len(all) != len(tags) {
		return nil, fmt.Errorf("%d fields, want %d", len(all), len(tags))
	}
	for i, o := range all {
		if o.Tag != tags[i] {
			return nil, fmt.Errorf("field %d has tag %X, want %X", i+1, o.Tag, tags[i])
		}
	}
	return all, nil
}

func parse(content []byte) (*Certificate, error) {
	outer, err := fields(content, 0x7F4E, 0x5F37)
	if err != nil {
		return nil, err
	}
	c := &Certificate{Content: content, Body: outer[0].Raw, Signature: outer[1].Value}
	body, err := fields(outer[0].Value, 0x5F29, 0x42, 0x7F49, 0x5F20, 0x7F4C, 0x5F25, 0x5F24)
	if err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	if !bytes.Equal(body[0].Value, []byte{0x70}) {
		return nil, fmt.Errorf("profile identifier %X, want 70", body[0].Value)
	}
	if len(body[1].Value) != len(c.CAR) {
		return nil, fmt.Errorf("name of the issuer with %d octets", len(body[1].Value))
	}
	copy(c.CAR[:], body[1].Value)
	c.CHR = body[3].Value
	if len(c.CHR) != 8 && len(c.CHR) != 12 {
		return nil, fmt.Errorf("name of the holder with %d octets", len(c.CHR))
	}
	forCerts, err := c.parseKey(body[2].Value)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	if err := c.parseRights(body[4].Value); err != nil {
		return nil, fmt.Errorf("rights: %w", err)
	}
	if isCA := c.Level != EndEntity; isCA != forCerts || isCA != (len(c.CHR) == 8) {
		return nil, fmt.Errorf("flags of a %v, name of %d octets, key for certificates: %v", c.Level, len(c.CHR), forCerts)
	}
	if c.From, err = date(body[5].Value); err != nil {
		return nil, fmt.Errorf("effective date: %w", err)
	}
	last, err := date(body[6].Value)
	if err != nil {
		return nil, fmt.Errorf("expiration date: %w", err)
	}
	if last.Before(c.From) {
		return nil, errors.New("expires before it takes effect")
	}
	c.Until = last.AddDate(0, 0, 1)
	if n := len(c.Signature); n != 64 && n != 96 && n != 128 {
		return nil, fmt.Errorf("signature of %d octets", n)
	}
	return c, c.canonical(outer, body)
}

func (c *Certificate) parseKey(b []byte) (forCerts bool, err error) {
	parts, err := fields(b, 0x06, 0x86)
	if err != nil {
		return false, err
	}
	use, ok := keyUses[string(parts[0].Value)]
	if !ok {
		return false, fmt.Errorf("unknown use %X", parts[0].Value)
	}
	c.Key, err = brainpool.ParsePublicKey(use.curve(), parts[1].Value)
	return use.forCerts, err
}

func (c *Certificate) parseRights(b []byte) error {
	parts, err := fields(b, 0x06, 0x53)
	if err != nil {
		return err
	}
	list, ok := lists[string(parts[0].Value)]
	if !ok {
		return fmt.Errorf("unknown list %X", parts[0].Value)
	}
	if len(parts[1].Value) != len(c.Flags) {
		return fmt.Errorf("%d octets of flags", len(parts[1].Value))
	}
	c.List, c.Flags = list, Flags(parts[1].Value)
	switch c.Flags[0] >> 6 {
	case 0b11:
		c.Level = RootCA
	case 0b10:
		c.Level = SubCA
	case 0b00:
		c.Level = EndEntity
	default:
		return fmt.Errorf("flags %v have no level", c.Flags)
	}
	return nil
}

// date decodes YYMMDD of this century, one digit in each octet.
func date(b []byte) (time.Time, error) {
	if len(b) != 6 {
		return time.Time{}, fmt.Errorf("%d octets", len(b))
	}
	var n [3]int
	for i, x := range b {
		if x > 9 {
			return time.Time{}, fmt.Errorf("digit %02X", x)
		}
		n[i/2] = n[i/2]*10 + int(x)
	}
	t := time.Date(2000+n[0], time.Month(n[1]), n[2], 0, 0, 0, 0, time.UTC)
	if t.Month() != time.Month(n[1]) || t.Day() != n[2] {
		return time.Time{}, errors.New("no such day")
	}
	return t, nil
}

// canonical writes the certificate anew and compares: a length field that is longer than needed would make two octet
// strings of one certificate.
func (c *Certificate) canonical(outer, body []tlv.Object) error {
	var inner []byte
	for _, o := range body {
		value := o.Value
		if o.Constructed() {
			value = nil
			parts, err := tlv.Parse(o.Value)
			if err != nil {
				return err
			}
			for _, p := range parts {
				value = tlv.Append(value, p.Tag, p.Value)
			}
		}
		inner = tlv.Append(inner, o.Tag, value)
	}
	content := tlv.Append(tlv.Append(nil, outer[0].Tag, inner), outer[1].Tag, outer[1].Value)
	if !bytes.Equal(content, c.Content) {
		return errors.New("length field not in its shortest form")
	}
	c.Raw = tlv.Append(nil, 0x7F21, content)
	return nil
}

// CheckSignature verifies the signature with the issuer's key: ECDSA over the hash, of the size of that key, of the body
// with tag and length.
func (c *Certificate) CheckSignature(issuer *brainpool.PublicKey) error {
	h := hashOfSize[issuer.Curve().Size()].New()
	h.Write(c.Body)
	if !issuer.Verify(h.Sum(nil), c.Signature) {
		return fmt.Errorf("%v: %w", c, ErrSignature)
	}
	return nil
}
