package testpki

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"time"

	"ktradv/internal/brainpool"
)

// CVC is the content of a CV certificate of generation 2 (gemSpec_PKI chapter 6.4). The writer checks nothing, so that
// tests can have wrong ones made.
type CVC struct {
	Profile   byte   // CPI; 0x70
	CAR       []byte // 8 octets
	PublicKey *brainpool.PublicKey
	ForCA     bool   // key OID for signing certificates instead of authentication
	CHR       []byte // 8 octets for a CA, 12 for a card
	CMS       bool   // flag list of the card management (oid_cvc_fl_cms) instead of oid_cvc_fl_ti
	Flags     [7]byte
	CED, CXD  time.Time // first and last day
}

// Key OIDs: ecdsa-with-SHA256/384/512 and authS_gemSpec-COS-G2_ecc-with-sha256/384/512, without the last octet.
var (
	oidSignCVC  = []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03}
	oidAuthS    = []byte{0x2b, 0x24, 0x03, 0x05, 0x03}
	oidFlagsTI  = []byte{0x2a, 0x82, 0x14, 0x00, 0x4c, 0x04, 0x81, 0x18}
	oidFlagsCMS = []byte{0x2a, 0x82, 0x14, 0x00, 0x4c, 0x04, 0x81, 0x19}
)

// WriteCVC encodes and signs a CV certificate, 7F21 included.
func WriteCVC(random io.Reader, c CVC, issuer *brainpool.PrivateKey) ([]byte, error) {
	if c.PublicKey == nil || issuer == nil {
		return nil, errors.New("write CVC: key missing")
	}
	step := byte(c.PublicKey.Curve().Size()/16 - 2) // 0, 1, 2 for 256, 384, 512 bits
	key := append(append([]byte{}, oidAuthS...), 1+step)
	if c.ForCA {
		key = append(append([]byte{}, oidSignCVC...), 2+step)
	}
	flags := oidFlagsTI
	if c.CMS {
		flags = oidFlagsCMS
	}
	body := tlv([]byte{0x7f, 0x4e},
		tlv([]byte{0x5f, 0x29}, []byte{c.Profile}),
		tlv([]byte{0x42}, c.CAR),
		tlv([]byte{0x7f, 0x49}, tlv([]byte{0x06}, key), tlv([]byte{0x86}, c.PublicKey.Bytes())),
		tlv([]byte{0x5f, 0x20}, c.CHR),
		tlv([]byte{0x7f, 0x4c}, tlv([]byte{0x06}, flags), tlv([]byte{0x53}, c.Flags[:])),
		tlv([]byte{0x5f, 0x25}, day(c.CED)),
		tlv([]byte{0x5f, 0x24}, day(c.CXD)),
	)
	signature, err := issuer.Sign(random, digestFor(issuer.Curve(), body))
	if err != nil {
		return nil, fmt.Errorf("write CVC: %w", err)
	}
	return tlv([]byte{0x7f, 0x21}, body, tlv([]byte{0x5f, 0x37}, signature)), nil
}

// digestFor hashes with the function that belongs to the curve's size.
func digestFor(c *brainpool.Curve, data []byte) []byte {
	switch c.Size() {
	case 32:
		d := sha256.Sum256(data)
		return d[:]
	case 48:
		d := sha512.Sum384(data)
		return d[:]
	default:
		d := sha512.Sum512(data)
		return d[:]
	}
}

// day is YYMMDD with one digit in each octet.
func day(t time.Time) []byte {
	y, m, d := t.UTC().Date()
	y %= 100
	return []byte{byte(y / 10), byte(y % 10), byte(int(m) / 10), byte(int(m) % 10), byte(d / 10), byte(d % 10)}
}

// tlv joins the parts to one BER-TLV object with the shortest length field.
func tlv(tag []byte, parts ...[]byte) []byte {
	n := 0
	for _, part := range parts {
		n += len(part)
	}
	out := append([]byte{}, tag...)
	switch {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	default:
		out = append(out, 0x82, byte(n>>8), byte(n))
	}
	for _, part := range parts {
		out = append(out, part...)
	}
	return out
}

// authorityName is a CAR/CHR: five letters, service indicator (8 issues CAs, 1 issues cards), a free digit, 02 for
// elliptic curves and the year.
func (p *PKI) authorityName(provider string, service, number byte) (name [8]byte) {
	copy(name[:], provider)
	year := byte(p.config.Now.UTC().Year() % 100)
	name[5] = service<<4 | number
	name[6] = 0x02
	name[7] = year/10<<4 | year%10
	return name
}

func (p *PKI) makeCVCAuthorities() error {
	for _, tree := range []struct {
		provider string
		root     *CVCAuthority
		subs     []*CVCAuthority
		flags    [][7]byte
	}{
		{"DEADV", &p.Root, []*CVCAuthority{&p.CardCA, &p.KTRAdVCA}, [][7]byte{FlagsCardCA, FlagsKTRAdVCA}},
		{"DEZZZ", &p.ForeignRoot, []*CVCAuthority{&p.ForeignCA}, [][7]byte{FlagsCardCA}},
	} {
		tree.root.CHR = p.authorityName(tree.provider, 8, 1)
		if err := p.makeCVCAuthority(tree.root, tree.root, FlagsRoot, 9); err != nil {
			return err
		}
		for i, sub := range tree.subs {
			sub.CHR = p.authorityName(tree.provider, 1, byte(i+1))
			if err := p.makeCVCAuthority(sub, tree.root, tree.flags[i], 7); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *PKI) makeCVCAuthority(ca, issuer *CVCAuthority, flags [7]byte, years int) (err error) {
	if ca.Key, err = p.newKey(); err != nil {
		return fmt.Errorf("CVC authority %s: %w", ca.CHR[:5], err)
	}
	ca.Certificate, err = WriteCVC(p.config.Rand, CVC{
		Profile: 0x70, CAR: issuer.CHR[:], PublicKey: ca.Key.Public(), ForCA: true, CHR: ca.CHR[:],
		Flags: flags, CED: p.years(-2), CXD: p.years(years),
	}, issuer.Key)
	if err != nil {
		return fmt.Errorf("CVC authority %s: %w", ca.CHR[:5], err)
	}
	return nil
}

func (p *PKI) issueCVC(ca *CVCAuthority, chr [12]byte, flags [7]byte, from, to time.Time) (CVCIdentity, error) {
	key, err := p.newKey()
	if err != nil {
		return CVCIdentity{}, fmt.Errorf("CVC: %w", err)
	}
	der, err := WriteCVC(p.config.Rand, CVC{
		Profile: 0x70, CAR: ca.CHR[:], PublicKey: key.Public(), CHR: chr[:], Flags: flags, CED: from, CXD: to,
	}, ca.Key)
	if err != nil {
		return CVCIdentity{}, err
	}
	return CVCIdentity{Key: key, CHR: chr, Certificate: der}, nil
}
