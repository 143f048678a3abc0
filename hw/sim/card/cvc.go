package card

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"

	"ktradv/internal/brainpool"
)

// Date is a date as CV certificates code it: YYMMDD, one digit per octet.
type Date [6]byte

// ParseDate reads the six octets of a date.
func ParseDate(b []byte) (Date, error) {
	var d Date
	if len(b) != len(d) {
		return d, fmt.Errorf("date of %d octets", len(b))
	}
	copy(d[:], b)
	for _, x := range d {
		if x > 9 {
			return d, errors.New("date: octet is not a digit")
		}
	}
	month, day := d[2]*10+d[3], d[4]*10+d[5]
	if month < 1 || month > 12 || day < 1 || day > 31 {
		return d, errors.New("date: no such day")
	}
	return d, nil
}

func (d Date) before(o Date) bool { return bytes.Compare(d[:], o[:]) < 0 }

// certificate is a parsed card-verifiable certificate (gemSpec_PKI 6.4).
type certificate struct {
	car, chr  []byte
	auth      bool // key of a card (CHR of 12 octets), not of a CA
	key       *brainpool.PublicKey
	chat      CHAT
	effective Date
	expires   Date
	body      []byte // signed part with tag and length
	signature []byte // R || S
}

// Key-use object identifiers and the curve each one stands for: the object
// identifier in the certificate tells the domain parameters.
var (
	oidCAKey   = []byte{0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03} // ecdsa-with-SHA*: 02, 03, 04
	oidAuthKey = []byte{0x2B, 0x24, 0x03, 0x05, 0x03}             // authS_gemSpec-COS-G2_*: 01, 02, 03
)

func curveOf(oid []byte) (c *brainpool.Curve, auth, ok bool) {
	if len(oid) == 0 {
		return nil, false, false
	}
	prefix, n := oid[:len(oid)-1], oid[len(oid)-1]
	switch {
	case bytes.Equal(prefix, oidCAKey):
		n -= 2
	case bytes.Equal(prefix, oidAuthKey):
		n--
		auth = true
	default:
		return nil, false, false
	}
	switch n {
	case 0:
		return brainpool.P256r1(), auth, true
	case 1:
		return brainpool.P384r1(), auth, true
	case 2:
		return brainpool.P512r1(), auth, true
	}
	return nil, false, false
}

// parseCertificate reads the value of a CV certificate (the content of 7F21).
func parseCertificate(b []byte) (*certificate, error) {
	tlv, rest, err := expectTLV(b, 0x7F4E)
	if err != nil {
		return nil, err
	}
	c := &certificate{body: b[:len(b)-len(rest)]}
	if c.signature, err = onlyTLV(rest, 0x5F37); err != nil {
		return nil, err
	}
	var field [7][]byte
	for i, tag := range [7]uint16{0x5F29, 0x42, 0x7F49, 0x5F20, 0x7F4C, 0x5F25, 0x5F24} {
		if field[i], tlv, err = expectTLV(tlv, tag); err != nil {
			return nil, err
		}
	}
	if len(tlv) != 0 {
		return nil, errTLV
	}
	if !bytes.Equal(field[0], []byte{0x70}) {
		return nil, errors.New("certificate profile is not 70")
	}
	c.car, c.chr = field[1], field[3]
	if len(c.car) != 8 {
		return nil, errors.New("CAR is not of 8 octets")
	}

	oid, rest, err := expectTLV(field[2], 0x06)
	if err != nil {
		return nil, err
	}
	point, err := onlyTLV(rest, 0x86)
	if err != nil {
		return nil, err
	}
	curve, auth, ok := curveOf(oid)
	if !ok {
		return nil, errors.New("unknown key use")
	}
	if want := map[bool]int{false: 8, true: 12}[auth]; len(c.chr) != want {
		return nil, fmt.Errorf("CHR of %d octets, the key use wants %d", len(c.chr), want)
	}
	c.auth = auth
	if c.key, err = brainpool.ParsePublicKey(curve, point); err != nil {
		return nil, err
	}

	oid, rest, err = expectTLV(field[4], 0x06)
	if err != nil {
		return nil, err
	}
	flags, err := onlyTLV(rest, 0x53)
	if err != nil {
		return nil, err
	}
	if c.chat.OID, ok = parseFlagOID(oid); !ok || len(flags) != len(c.chat.Flags) {
		return nil, errors.New("unknown holder authorisation template")
	}
	copy(c.chat.Flags[:], flags)

	if c.effective, err = ParseDate(field[5]); err != nil {
		return nil, err
	}
	if c.expires, err = ParseDate(field[6]); err != nil {
		return nil, err
	}
	return c, nil
}

// signedBy checks the signature with the key of the issuer.
func (c *certificate) signedBy(k *brainpool.PublicKey) bool {
	var digest []byte
	switch k.Curve().Size() {
	case 32:
		d := sha256.Sum256(c.body)
		digest = d[:]
	case 48:
		d := sha512.Sum384(c.body)
		digest = d[:]
	default:
		d := sha512.Sum512(c.body)
		digest = d[:]
	}
	return len(c.signature) == 2*k.Curve().Size() && k.Verify(digest, c.signature)
}

// place is the two most significant bits of a flag list: where in the chain
// a certificate may stand.
func (f Flags) place() byte { return f[0] >> 6 }

const (
	placeEnd  = 0b00
	placeCA   = 0b10
	placeRoot = 0b11
)

// fits tells whether c may be issued with the flag list of issuer.
func (c *certificate) fits(issuer Flags) bool {
	switch issuer.place() {
	case placeRoot:
		return !c.auth && (c.chat.Flags.place() == placeCA || c.chat.Flags.place() == placeRoot)
	case placeCA:
		return c.auth && c.chat.Flags.place() == placeEnd
	}
	return false
}

// CertificateDates reads the effective and the expiration date of a CV
// certificate (7F21), for those who personalise cards.
func CertificateDates(cvc []byte) (effective, expires Date, err error) {
	v, err := onlyTLV(cvc, 0x7F21)
	if err != nil {
		return Date{}, Date{}, err
	}
	c, err := parseCertificate(v)
	if err != nil {
		return Date{}, Date{}, err
	}
	return c.effective, c.expires, nil
}
