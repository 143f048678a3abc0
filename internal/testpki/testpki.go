// Package testpki is the public key infrastructure of the tests, the demonstration and the simulated cards: CV
// certificates of health cards and of the KTR-AdV, X.509 certificates on brainpoolP256r1 and with RSA, an OCSP responder and a TLS
// server certificate, all of them made up. No production binary links it.
//
// It has writers of its own for CVC, X.509 and OCSP, so that what the product's readers accept was not written by the
// product. The profiles follow gemSpec_PKI chapters 5 and 6 as the health card of generation 2 carries them.
package testpki

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"

	"ktradv/internal/brainpool"
)

// Config says how a PKI is made.
type Config struct {
	Rand    io.Reader // source of keys and serial numbers; nil is crypto/rand
	Now     time.Time // the certificates are valid around this time; zero is the system's clock
	OCSPURL string    // goes to every certificate's authority information access; "" is DefaultOCSPURL
}

// DefaultOCSPURL is the responder's address in certificates when Config names none. It never resolves.
const DefaultOCSPURL = "http://ocsp.ktradv.invalid/"

// CVCAuthority is an issuer of CV certificates: a root or a sub-CA.
type CVCAuthority struct {
	Key         *brainpool.PrivateKey
	CHR         [8]byte // its name, the CAR of what it issues
	Certificate []byte  // 7F21 ...; a root's is self-signed
}

// X509Authority is an issuer of X.509 certificates, or a signer of OCSP answers. It has one key: Key, RSA or
// NIST.
type X509Authority struct {
	Key         *brainpool.PrivateKey // on brainpoolP256r1
	RSA         *rsa.PrivateKey
	NIST        *ecdsa.PrivateKey // on P-256
	Certificate []byte            // DER
}

// PKI holds the authorities and what they issued. It is safe for concurrent use.
type PKI struct {
	Root, ForeignRoot CVCAuthority // the root the product trusts, and one it does not
	CardCA, ForeignCA CVCAuthority // issue the card certificates of health cards
	KTRAdVCA          CVCAuthority // issues the KTR-AdV certificates
	EGKCA, SMBCA      X509Authority
	EGKRSACA          X509Authority // issues the R2048 certificates of health cards of generation G2
	ComponentCA       X509Authority // issues OtherOCSPSigner
	OCSPSigner        X509Authority // answers for EGKCA, which issued it
	RSAOCSPSigner     X509Authority // answers for EGKRSACA, which issued it
	OtherOCSPSigner   X509Authority // answers for SMBCA; not issued by it, so it must be trusted by name
	TLSCA, TLSCAKey   []byte        // DER; signs server certificates (ECDSA P-256)
	config            Config
	mu                sync.Mutex
	dir               string // where issued certificates are filed, "" for memory only
	issued            map[string][]byte
	revoked           map[string]bool
	cardRSA           map[string]*rsa.PrivateKey // by purpose
}

// Flag lists of oid_cvc_fl_ti (gemSpec_PKI Tab_PKI_910 and the profiles of the KTR-AdV).
var (
	FlagsRoot     = [7]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	FlagsCardCA   = [7]byte{0x80}
	FlagsKTRAdVCA = [7]byte{0x80, 0xae, 0x1a, 0xcd, 0xc1, 0xdc, 0x04}
	FlagsNone     = [7]byte{}                                         // CHAT.0
	FlagsKTRAdV   = [7]byte{0x00, 0xae, 0x1a, 0xcd, 0xc1, 0xdc, 0x00} // CHAT.1
)

// New makes all authorities.
func New(config Config) (*PKI, error) {
	if config.Now.IsZero() {
		config.Now = time.Now()
	}
	if config.OCSPURL == "" {
		config.OCSPURL = DefaultOCSPURL
	}
	config.Rand = serialized(config.Rand)
	p := &PKI{config: config, issued: map[string][]byte{}, revoked: map[string]bool{}}
	if err := p.makeCVCAuthorities(); err != nil {
		return nil, err
	}
	if err := p.makeX509Authorities(); err != nil {
		return nil, err
	}
	if err := p.makeTLSCA(); err != nil {
		return nil, err
	}
	return p, nil
}

// lockedReader lets several goroutines draw from one source.
type lockedReader struct {
	mu     sync.Mutex
	source io.Reader
}

func (r *lockedReader) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.source.Read(b)
}

// serialized wraps a source that may not be shared; crypto/rand (nil) may be.
func serialized(source io.Reader) io.Reader {
	if source == nil {
		return rand.Reader
	}
	return &lockedReader{source: source}
}

// Now returns the time around which the certificates are valid.
func (p *PKI) Now() time.Time { return p.config.Now }

// years returns the PKI's time moved by whole years, at midnight UTC.
func (p *PKI) years(n int) time.Time {
	y, m, d := p.config.Now.UTC().Date()
	return time.Date(y+n, m, d, 0, 0, 0, 0, time.UTC)
}

func (p *PKI) newKey() (*brainpool.PrivateKey, error) {
	return brainpool.GenerateKey(brainpool.P256r1(), p.config.Rand)
}

// EGK describes a health card to be issued.
type EGK struct {
	ICCSN       string // 20 digits
	KVNR        string // letter and 9 digits
	IK          string // 9 digits
	InsurerName string
	Title       string // "" for none
	GivenName   string
	Surname     string

	NotBefore, NotAfter       time.Time // of the X.509 certificates; zero: a year ago, in four years
	CVCNotBefore, CVCNotAfter time.Time // of the CVC (days); zero: a year ago, in four years
	Foreign                   bool      // CVC under the foreign root
	RSA                       bool      // X.509 certificates and keys for the R2048 objects, under EGKRSACA
	Revoked                   bool      // StatusOf answers "revoked" for the X.509 certificates
}

// X509Identity is a certificate with its key: Key, RSA or NIST.
type X509Identity struct {
	Key         *brainpool.PrivateKey // on brainpoolP256r1
	RSA         *rsa.PrivateKey
	NIST        *ecdsa.PrivateKey // on P-256
	Certificate []byte            // DER
}

// CVCIdentity is an end-entity CV certificate with its key.
type CVCIdentity struct {
	Key         *brainpool.PrivateKey
	CHR         [12]byte
	Certificate []byte // 7F21 ...
}

// EGKIdentity is what a health card is personalised with.
type EGKIdentity struct {
	ICCSN   string
	CVC     CVCIdentity          // PrK.eGK.AUT_CVC.E256, EF.C.eGK.AUT_CVC.E256
	CACVC   []byte               // EF.C.CA_eGK.CS.E256
	RootCAR [8]byte              // name of the key below
	RootKey *brainpool.PublicKey // PuK.RCA.CS.E256

	AUT, AUTN, ENC, ENCV X509Identity // DF.ESIGN, the E256 files and keys, or the R2048 ones
}

// usage tells certificates of health cards apart by what their key is for.
type usage struct{ rsa, sign bool }

// keyUsages are those of gemSpec_PKI chapter 5.1 for C.CH.AUT and AUTN (sign) and for C.CH.ENC and ENCV.
var keyUsages = map[usage]int{
	{sign: true}:            UsageDigitalSignature,
	{rsa: true, sign: true}: UsageDigitalSignature | UsageKeyEncipherment,
	{}:                      UsageKeyAgreement,
	{rsa: true}:             UsageKeyEncipherment | UsageDataEncipherment,
}

// IssueEGK issues the certificates of one health card.
func (p *PKI) IssueEGK(card EGK) (EGKIdentity, error) {
	iccsn, err := iccsnBytes(card.ICCSN)
	if err != nil {
		return EGKIdentity{}, fmt.Errorf("issue eGK: %w", err)
	}
	if len(card.IK) != 9 || len(card.KVNR) != 10 {
		return EGKIdentity{}, errors.New("issue eGK: IK needs 9 and KVNR 10 characters")
	}
	root, ca := &p.Root, &p.CardCA
	if card.Foreign {
		root, ca = &p.ForeignRoot, &p.ForeignCA
	}
	id := EGKIdentity{ICCSN: card.ICCSN, CACVC: ca.Certificate, RootCAR: root.CHR, RootKey: root.Key.Public()}
	chr := [12]byte{0x00, 0x09}
	copy(chr[2:], iccsn)
	id.CVC, err = p.issueCVC(ca, chr, FlagsNone, orTime(card.CVCNotBefore, p.years(-1)), orTime(card.CVCNotAfter, p.years(4)))
	if err != nil {
		return EGKIdentity{}, fmt.Errorf("issue eGK: %w", err)
	}
	notBefore := orTime(card.NotBefore, p.years(-1))
	notAfter := orTime(card.NotAfter, p.years(4).Add(-time.Second))
	pseudonym, err := p.randomHex(10)
	if err != nil {
		return EGKIdentity{}, fmt.Errorf("issue eGK: %w", err)
	}
	person := []Attribute{
		{oidCountry, "DE"}, {oidOrganization, card.InsurerName + " NOT-VALID"}, {oidUnit, card.IK}, {oidUnit, card.KVNR},
		{oidSurname, card.Surname}, {oidGivenName, card.GivenName},
	}
	if card.Title != "" {
		person = append(person, Attribute{oidTitle, card.Title})
	}
	person = append(person, Attribute{oidCommonName, card.GivenName + " " + card.Surname + " TEST-ONLY"})
	anonymous := []Attribute{
		{oidCountry, "DE"}, {oidOrganization, card.InsurerName + " NOT-VALID"}, {oidUnit, card.IK}, {oidCommonName, pseudonym + " TEST-ONLY"},
	}
	for _, profile := range []struct {
		to      *X509Identity
		subject []Attribute
		purpose string
		policy  []int
		sign    bool
	}{
		{&id.AUT, person, "AUT", OIDEGKAut, true},
		{&id.AUTN, anonymous, "AUTN", OIDEGKAutN, true},
		{&id.ENC, person, "ENC", OIDEGKEnc, false},
		{&id.ENCV, anonymous, "ENCV", OIDEGKEncV, false},
	} {
		t := Template{
			Subject: profile.subject, NotBefore: notBefore, NotAfter: notAfter, KeyUsage: keyUsages[usage{card.RSA, profile.sign}],
			Policies:  [][]int{OIDPolicyCP, profile.policy},
			Admission: &Admission{Item: "Versicherte/-r", OID: OIDVersicherter},
		}
		if profile.sign {
			t.ExtKeyUsage = [][]int{oidClientAuth}
		}
		if card.RSA {
			var key keyPair
			if key.rsa, err = p.cardRSAKey(profile.purpose); err == nil {
				*profile.to, err = p.issueFor(key, &p.EGKRSACA, t)
			}
		} else {
			*profile.to, err = p.IssueX509(&p.EGKCA, t)
		}
		if err != nil {
			return EGKIdentity{}, fmt.Errorf("issue eGK: %w", err)
		}
		if card.Revoked {
			if err := p.Revoke(profile.to.Certificate); err != nil {
				return EGKIdentity{}, fmt.Errorf("issue eGK: %w", err)
			}
		}
	}
	return id, nil
}

// KTRAdVIdentity is what the KTR-AdV's key store (the "SM-B KTR-AdV") holds for one insurer.
type KTRAdVIdentity struct {
	IK, Name, ICCSN string
	Null            CVCIdentity // C.SMC.NULL_CVC: CHAT.0, opens a trusted channel and nothing else (A_15118)
	AUTR            CVCIdentity // C.SMC.AUTR_CVC: CHAT.1, the rights of the KTR-AdV (AdV-A_2514)
	CACVC           []byte      // certificate of their issuer
	RootCAR         [8]byte     // its issuer
	HCI             X509Identity
}

// IssueKTRAdV issues the identities of an insurer's AdV environment. The two CV certificates share the ICCSN of the SM-B
// and differ in the index of the CHR (0005 for CHAT.1, 0006 for CHAT.0), because a card keeps imported keys under their
// CHR.
func (p *PKI) IssueKTRAdV(ik, name, smbICCSN string) (KTRAdVIdentity, error) {
	iccsn, err := iccsnBytes(smbICCSN)
	if err != nil {
		return KTRAdVIdentity{}, fmt.Errorf("issue KTR-AdV: %w", err)
	}
	if len(ik) != 9 {
		return KTRAdVIdentity{}, errors.New("issue KTR-AdV: IK needs 9 digits")
	}
	id := KTRAdVIdentity{IK: ik, Name: name, ICCSN: smbICCSN, CACVC: p.KTRAdVCA.Certificate, RootCAR: p.Root.CHR}
	for _, profile := range []struct {
		to    *CVCIdentity
		index byte
		flags [7]byte
	}{{&id.AUTR, 5, FlagsKTRAdV}, {&id.Null, 6, FlagsNone}} {
		chr := [12]byte{0, profile.index}
		copy(chr[2:], iccsn)
		*profile.to, err = p.issueCVC(&p.KTRAdVCA, chr, profile.flags, p.years(-1), p.years(4))
		if err != nil {
			return KTRAdVIdentity{}, fmt.Errorf("issue KTR-AdV: %w", err)
		}
	}
	id.HCI, err = p.IssueX509(&p.SMBCA, Template{
		Subject:   []Attribute{{oidCountry, "DE"}, {oidOrganization, name + " NOT-VALID"}, {oidSerialNumber, "16." + smbICCSN}, {oidCommonName, name + " TEST-ONLY"}},
		NotBefore: p.years(-1), NotAfter: p.years(4).Add(-time.Second), KeyUsage: UsageDigitalSignature,
		ExtKeyUsage: [][]int{oidClientAuth}, Policies: [][]int{OIDPolicyCP, OIDSMBAut},
		Admission: &Admission{Item: "AdV-Umgebung bei Kostenträger", OID: OIDAdVKTR, Registration: "7-" + ik},
	})
	if err != nil {
		return KTRAdVIdentity{}, fmt.Errorf("issue KTR-AdV: %w", err)
	}
	return id, nil
}

// Status is the answer of the OCSP responder about a certificate.
type Status int

// The answers of RFC 6960 chapter 2.2.
const (
	Good Status = iota
	Revoked
	Unknown
)

// StatusOf knows what this PKI issued and revoked; everything else is Unknown. A PKI that was saved or loaded also knows
// what other processes issued in the same folder.
func (p *PKI) StatusOf(serial *big.Int) Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := serialName(serial)
	if p.revoked[name] || p.dir != "" && exists(filepath.Join(p.dir, "revoked", name)) {
		return Revoked
	}
	if p.certificateLocked(serial) != nil {
		return Good
	}
	return Unknown
}

// Certificate returns the X.509 certificate with that serial number, nil when this PKI did not issue it.
func (p *PKI) Certificate(serial *big.Int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.certificateLocked(serial)
}

func (p *PKI) certificateLocked(serial *big.Int) []byte {
	name := serialName(serial)
	if der := p.issued[name]; der != nil || p.dir == "" {
		return der
	}
	der, err := os.ReadFile(filepath.Join(p.dir, "issued", name))
	if err != nil {
		return nil
	}
	return der
}

// Revoke makes StatusOf answer "revoked" for a certificate of this PKI.
func (p *PKI) Revoke(certificate []byte) error {
	serial, err := serialOf(certificate)
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.revoked[serialName(serial)] = true
	return p.file("revoked", serialName(serial), nil)
}

// remember files an issued certificate.
func (p *PKI) remember(serial *big.Int, der []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.issued[serialName(serial)] = der
	return p.file("issued", serialName(serial), der)
}

// file writes one entry of the register when the PKI lives in a folder.
func (p *PKI) file(kind, name string, content []byte) error {
	if p.dir == "" {
		return nil
	}
	return writeFile(filepath.Join(p.dir, kind, name), content)
}

func serialName(serial *big.Int) string { return fmt.Sprintf("%x", serial) }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func orTime(t, otherwise time.Time) time.Time {
	if t.IsZero() {
		return otherwise
	}
	return t
}

// iccsnBytes packs 20 digits into 10 octets.
func iccsnBytes(digits string) ([]byte, error) {
	if len(digits) != 20 {
		return nil, fmt.Errorf("ICCSN has %d digits, want 20", len(digits))
	}
	out := make([]byte, 10)
	for i := range 20 {
		d := digits[i]
		if d < '0' || d > '9' {
			return nil, errors.New("ICCSN has a character that is no digit")
		}
		out[i/2] = out[i/2]<<4 | (d - '0')
	}
	return out, nil
}
