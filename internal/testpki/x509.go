package testpki

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	stdasn1 "encoding/asn1"
)

// Object identifiers of the profiles (gemSpec_OID, by way of gemSpec_PKI).
var (
	OIDPolicyCP     = []int{1, 2, 276, 0, 76, 4, 163} // policy_gem_or_cp
	OIDEGKEnc       = []int{1, 2, 276, 0, 76, 4, 68}
	OIDEGKEncV      = []int{1, 2, 276, 0, 76, 4, 69}
	OIDEGKAut       = []int{1, 2, 276, 0, 76, 4, 70}
	OIDEGKAutN      = []int{1, 2, 276, 0, 76, 4, 71}
	OIDSMBAut       = []int{1, 2, 276, 0, 76, 4, 77}
	OIDVersicherter = []int{1, 2, 276, 0, 76, 4, 49}
	OIDAdVKTR       = []int{1, 2, 276, 0, 76, 4, 190}

	oidCountry      = []int{2, 5, 4, 6}
	oidOrganization = []int{2, 5, 4, 10}
	oidUnit         = []int{2, 5, 4, 11}
	oidCommonName   = []int{2, 5, 4, 3}
	oidSurname      = []int{2, 5, 4, 4}
	oidSerialNumber = []int{2, 5, 4, 5}
	oidTitle        = []int{2, 5, 4, 12}
	oidGivenName    = []int{2, 5, 4, 42}

	oidClientAuth  = []int{1, 3, 6, 1, 5, 5, 7, 3, 2}
	oidOCSPSigning = []int{1, 3, 6, 1, 5, 5, 7, 3, 9}

	oidECPublicKey    = []int{1, 2, 840, 10045, 2, 1}
	oidP256           = []int{1, 2, 840, 10045, 3, 1, 7}
	oidRSAEncryption  = []int{1, 2, 840, 113549, 1, 1, 1}
	oidRSASHA256      = []int{1, 2, 840, 113549, 1, 1, 11}
	oidECDSASHA256    = []int{1, 2, 840, 10045, 4, 3, 2}
	oidKeyUsage       = []int{2, 5, 29, 15}
	oidBasic          = []int{2, 5, 29, 19}
	oidAuthorityKeyID = []int{2, 5, 29, 35}
	oidSubjectKeyID   = []int{2, 5, 29, 14}
	oidPolicies       = []int{2, 5, 29, 32}
	oidExtKeyUsage    = []int{2, 5, 29, 37}
	oidAuthorityInfo  = []int{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidOCSP           = []int{1, 3, 6, 1, 5, 5, 7, 48, 1}
	oidAdmission      = []int{1, 3, 36, 8, 3, 3}
)

// Bits of the key usage extension, numbered as in RFC 5280.
const (
	UsageDigitalSignature = 1 << 0
	UsageNonRepudiation   = 1 << 1
	UsageKeyEncipherment  = 1 << 2
	UsageDataEncipherment = 1 << 3
	UsageKeyAgreement     = 1 << 4
	UsageCertSign         = 1 << 5
	UsageCRLSign          = 1 << 6
)

// Attribute is one relative distinguished name.
type Attribute struct {
	OID   []int
	Value string
}

// Admission is the extension of gemSpec_PKI with one profession.
type Admission struct {
	Item         string
	OID          []int
	Registration string
}

// Template is the content of an X.509 certificate. The writer checks nothing, so that tests can have wrong ones made.
type Template struct {
	Subject             []Attribute
	NotBefore, NotAfter time.Time
	KeyUsage            int // bits Usage...; 0 leaves the extension out
	ExtKeyUsage         [][]int
	Policies            [][]int
	Admission           *Admission
	CA                  bool
	Extra               []Extension // added as they are
}

// Extension is a raw extension.
type Extension struct {
	OID      []int
	Critical bool
	Value    []byte // content of the OCTET STRING
}

// IssueX509 makes a key on brainpoolP256r1 and a certificate for it and enters it in the register of the OCSP responder.
func (p *PKI) IssueX509(issuer *X509Authority, t Template) (X509Identity, error) {
	key, err := p.newKey()
	if err != nil {
		return X509Identity{}, fmt.Errorf("certificate: %w", err)
	}
	return p.issueFor(keyPair{ec: key}, issuer, t)
}

// issueFor makes a certificate for a key.
func (p *PKI) issueFor(key keyPair, issuer *X509Authority, t Template) (X509Identity, error) {
	der, err := p.writeCertificate(t, key.public(), issuer.Certificate, issuer.pair())
	if err != nil {
		return X509Identity{}, err
	}
	return X509Identity{Key: key.ec, RSA: key.rsa, NIST: key.nist, Certificate: der}, nil
}

func (p *PKI) makeX509Authorities() (err error) {
	name := func(unit, cn string) []Attribute {
		return []Attribute{{oidCountry, "DE"}, {oidOrganization, "KTR-AdV Test NOT-VALID"}, {oidUnit, unit}, {oidCommonName, cn + " TEST-ONLY"}}
	}
	for _, ca := range []struct {
		to      *X509Authority
		subject []Attribute
		rsa     bool
	}{
		{&p.EGKCA, name("Elektronische Gesundheitskarte-CA der Telematikinfrastruktur", "ADV.EGK-CA1"), false},
		{&p.EGKRSACA, name("Elektronische Gesundheitskarte-CA der Telematikinfrastruktur", "ADV.EGK-CA2"), true},
		{&p.SMBCA, name("Institution des Gesundheitswesens-CA der Telematikinfrastruktur", "ADV.SMCB-CA1"), false},
		{&p.ComponentCA, name("Komponenten-CA der Telematikinfrastruktur", "ADV.KOMP-CA1"), false},
	} {
		if ca.rsa {
			ca.to.RSA, err = newRSAKey()
		} else {
			ca.to.Key, err = p.newKey()
		}
		if err != nil {
			return fmt.Errorf("X.509 authority: %w", err)
		}
		ca.to.Certificate, err = p.writeCertificate(Template{
			Subject: ca.subject, NotBefore: p.years(-2), NotAfter: p.years(8), CA: true,
			KeyUsage: UsageCertSign | UsageCRLSign, Policies: [][]int{OIDPolicyCP},
		}, ca.to.pair().public(), nil, ca.to.pair())
		if err != nil {
			return err
		}
	}
	for _, signer := range []struct {
		to     *X509Authority
		issuer *X509Authority
		cn     string
	}{{&p.OCSPSigner, &p.EGKCA, "ADV OCSP Signer 1"}, {&p.OtherOCSPSigner, &p.ComponentCA, "ADV OCSP Signer 2"}, {&p.RSAOCSPSigner, &p.EGKRSACA, "ADV OCSP Signer 3"}} {
		var key keyPair
		if signer.issuer.RSA != nil {
			key.rsa, err = newRSAKey()
		} else {
			key.ec, err = p.newKey()
		}
		if err != nil {
			return fmt.Errorf("OCSP signer: %w", err)
		}
		id, err := p.issueFor(key, signer.issuer, ocspSignerTemplate(p, signer.cn))
		if err != nil {
			return err
		}
		*signer.to = X509Authority(id)
	}
	return nil
}

func ocspSignerTemplate(p *PKI, cn string) Template {
	return Template{
		Subject:   []Attribute{{oidCountry, "DE"}, {oidOrganization, "KTR-AdV Test NOT-VALID"}, {oidCommonName, cn + " TEST-ONLY"}},
		NotBefore: p.years(-2), NotAfter: p.years(8), KeyUsage: UsageNonRepudiation,
		ExtKeyUsage: [][]int{oidOCSPSigning}, Policies: [][]int{OIDPolicyCP},
	}
}

// writeCertificate encodes and signs a certificate; without an issuer certificate it is self-signed.
func (p *PKI) writeCertificate(t Template, public publicKey, issuer []byte, issuerKey keyPair) ([]byte, error) {
	serial, err := p.newSerial()
	if err != nil {
		return nil, err
	}
	subject, err := encodeName(t.Subject)
	if err != nil {
		return nil, fmt.Errorf("write certificate: subject: %w", err)
	}
	issuerName := subject
	if issuer != nil {
		if issuerName, err = subjectOf(issuer); err != nil {
			return nil, fmt.Errorf("write certificate: issuer: %w", err)
		}
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) })
		b.AddASN1BigInt(serial)
		issuerKey.addAlgorithm(b)
		b.AddBytes(issuerName)
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, at := range []time.Time{t.NotBefore, t.NotAfter} {
				if y := at.UTC().Year(); y >= 1950 && y < 2050 {
					b.AddASN1UTCTime(at.UTC())
				} else {
					b.AddASN1GeneralizedTime(at.UTC())
				}
			}
		})
		b.AddBytes(subject)
		public.addInfo(b)
		b.AddASN1(asn1.Tag(3).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { p.addExtensions(b, t, public, issuerKey.public()) })
		})
	})
	tbs, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("write certificate: %w", err)
	}
	der, err := signed(p.config.Rand, tbs, issuerKey)
	if err != nil {
		return nil, fmt.Errorf("write certificate: %w", err)
	}
	if err := p.remember(serial, der); err != nil {
		return nil, fmt.Errorf("write certificate: %w", err)
	}
	return der, nil
}

func (p *PKI) addExtensions(b *cryptobyte.Builder, t Template, public, issuer publicKey) {
	add := func(oid []int, critical bool, value func(b *cryptobyte.Builder)) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addOID(b, oid)
			if critical {
				b.AddASN1Boolean(true)
			}
			b.AddASN1(asn1.OCTET_STRING, value)
		})
	}
	sequence := func(f func(b *cryptobyte.Builder)) func(b *cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) { b.AddASN1(asn1.SEQUENCE, f) }
	}
	add(oidSubjectKeyID, false, func(b *cryptobyte.Builder) { b.AddASN1OctetString(keyID(public)) })
	add(oidAuthorityKeyID, false, sequence(func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(keyID(issuer)) })
	}))
	add(oidAuthorityInfo, false, sequence(sequence(func(b *cryptobyte.Builder) {
		addOID(b, oidOCSP)
		b.AddASN1(asn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(p.config.OCSPURL)) })
	})))
	if len(t.Policies) > 0 {
		add(oidPolicies, false, sequence(func(b *cryptobyte.Builder) {
			for _, oid := range t.Policies {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { addOID(b, oid) })
			}
		}))
	}
	if a := t.Admission; a != nil {
		// AdmissionSyntax { contentsOfAdmissions { Admissions { professionInfos { ProfessionInfo } } } }
		add(oidAdmission, false, sequence(sequence(sequence(sequence(sequence(func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(a.Item)) })
			})
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { addOID(b, a.OID) })
			if a.Registration != "" {
				b.AddASN1(asn1.PrintableString, func(b *cryptobyte.Builder) { b.AddBytes([]byte(a.Registration)) })
			}
		}))))))
	}
	if t.KeyUsage != 0 {
		add(oidKeyUsage, true, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.BIT_STRING, func(b *cryptobyte.Builder) { addBits(b, t.KeyUsage) })
		})
	}
	add(oidBasic, true, sequence(func(b *cryptobyte.Builder) {
		if t.CA {
			b.AddASN1Boolean(true)
			b.AddASN1Int64(0)
		}
	}))
	if len(t.ExtKeyUsage) > 0 {
		add(oidExtKeyUsage, false, sequence(func(b *cryptobyte.Builder) {
			for _, oid := range t.ExtKeyUsage {
				addOID(b, oid)
			}
		}))
	}
	for _, e := range t.Extra {
		add(e.OID, e.Critical, func(b *cryptobyte.Builder) { b.AddBytes(e.Value) })
	}
}

// addBits writes a named bit list: bit 0 first, no trailing zeros.
func addBits(b *cryptobyte.Builder, set int) {
	var octets [2]byte
	last := 0
	for i := range 16 {
		if set>>i&1 == 1 {
			octets[i/8] |= 0x80 >> (i % 8)
			last = i
		}
	}
	b.AddUint8(uint8(7 - last%8))
	b.AddBytes(octets[:last/8+1])
}

// signed wraps the content with algorithm and signature.
func signed(random io.Reader, tbs []byte, key keyPair) ([]byte, error) {
	signature, err := key.sign(random, tbs)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		key.addAlgorithm(b)
		b.AddASN1BitString(signature)
	})
	return b.Bytes()
}

func addAlgorithm(b *cryptobyte.Builder, oid []int) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { addOID(b, oid) })
}

func addOID(b *cryptobyte.Builder, oid []int) {
	b.AddASN1ObjectIdentifier(stdasn1.ObjectIdentifier(oid))
}

func encodeName(attributes []Attribute) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, a := range attributes {
			tag := asn1.UTF8String
			if last := a.OID[len(a.OID)-1]; len(a.OID) == 4 && (last == 6 || last == 5) { // country, serial number
				tag = asn1.PrintableString
			}
			b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					addOID(b, a.OID)
					b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(a.Value)) })
				})
			})
		}
	})
	return b.Bytes()
}

// keyID is the SHA-1 of the public key's bits, the usual subject key identifier (RFC 5280 chapter 4.2.1.2).
func keyID(key publicKey) []byte {
	id := sha1.Sum(key.bits())
	return id[:]
}

// readCertificate returns as much of a certificate as the writers need back: serial number and subject (DER).
func readCertificate(der []byte) (serial *big.Int, subject []byte, err error) {
	in := cryptobyte.String(der)
	var cert, tbs, skip, name cryptobyte.String
	serial = new(big.Int)
	ok := in.ReadASN1(&cert, asn1.SEQUENCE) && cert.ReadASN1(&tbs, asn1.SEQUENCE) &&
		tbs.ReadASN1(&skip, asn1.Tag(0).Constructed().ContextSpecific()) && tbs.ReadASN1Integer(serial) &&
		tbs.ReadASN1(&skip, asn1.SEQUENCE) && tbs.ReadASN1(&skip, asn1.SEQUENCE) &&
		tbs.ReadASN1(&skip, asn1.SEQUENCE) && tbs.ReadASN1Element(&name, asn1.SEQUENCE)
	if !ok {
		return nil, nil, errors.New("not a certificate")
	}
	return serial, name, nil
}

func subjectOf(der []byte) ([]byte, error) {
	_, subject, err := readCertificate(der)
	return subject, err
}

func serialOf(der []byte) (*big.Int, error) {
	serial, _, err := readCertificate(der)
	return serial, err
}

func (p *PKI) randomHex(n int) (string, error) {
	b, err := p.randomBytes(n)
	return hex.EncodeToString(b), err
}

func (p *PKI) randomBytes(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(p.config.Rand, b); err != nil {
		return nil, fmt.Errorf("random numbers: %w", err)
	}
	return b, nil
}

// newSerial draws a positive serial number of up to 63 bits, the size seen in the field.
func (p *PKI) newSerial() (*big.Int, error) {
	b, err := p.randomBytes(8)
	if err != nil {
		return nil, err
	}
	b[0] = b[0]&0x7f | 0x01
	return new(big.Int).SetBytes(b), nil
}
