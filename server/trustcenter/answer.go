package trustcenter

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ktradv/internal/cms"
	"ktradv/server/internal/finding"
)

// Bounds of a .p7c.
const (
	maxAnswer      = 1 << 20 // octets
	maxAnswerChain = 64      // certificates
)

// ErrNoAnswer is returned for what is no .p7c.
var ErrNoAnswer = errors.New("no certificate answer (.p7c)")

// ReadAnswer reads the certificates of a .p7c: DER or BER, PEM, or bare base64, all of which occur.
func ReadAnswer(b []byte) ([]*x509.Certificate, error) {
	if len(b) > maxAnswer {
		return nil, fmt.Errorf("%w: longer than %d octets", ErrNoAnswer, maxAnswer)
	}
	der, _, err := decode(b, "PKCS7", "CMS", "CERTIFICATE CHAIN")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	raw, err := cms.ParseCertificates(der, maxAnswerChain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	var certs []*x509.Certificate
	for i, r := range raw {
		c, err := x509.ParseCertificate(r)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d: %w", ErrNoAnswer, i+1, err)
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// ikOf returns the IK that stands in a certificate's subject as OU, "" for none.
func ikOf(c *x509.Certificate) IK {
	for _, u := range c.Subject.OrganizationalUnit {
		if d, ok := strings.CutPrefix(u, "IK"); ok && len(d) == 9 && strings.Trim(d, "0123456789") == "" {
			return IK(d)
		}
	}
	return ""
}

// Answer is a .p7c that was judged.
type Answer struct {
	// Certificate is the applicant's, nil where there is none; Chain are the ones it was issued under, the nearest first.
	Certificate *x509.Certificate
	Chain       []*x509.Certificate
	Findings    finding.List
}

// ImportOptions say against what an answer is judged.
type ImportOptions struct {
	Sheet Sheet
	// Key is the public key that the certificate must carry.
	Key crypto.PublicKey
	// Revoked are the revocation lists of the TrustCenter's CAs that are at hand (DKTIG-23).
	Revoked []*x509.RevocationList
	// Root is the SHA-256 fingerprint of the TrustCenter's own certificate from a trusted source, nil where there is none: the
	// file alone proves only that it belongs together.
	Root []byte
	Now  time.Time
}

// Import judges an answer before it is used: the key, the name, the times, the chain, the revocation list.
func Import(b []byte, o ImportOptions) (a Answer) {
	add := func(sev finding.Severity, code finding.Code, what, fix string) {
		a.Findings = append(a.Findings, finding.Finding{Code: code, Severity: sev, What: what, Fix: fix})
	}
	certs, err := ReadAnswer(b)
	if err != nil {
		add(finding.Error, "P7C-FORM", err.Error(), "save the attachment of the TrustCenter's mail as it is")
		return a
	}
	ik, err := ParseIK(o.Sheet.IK)
	if err != nil {
		add(finding.Error, "TC-IK", err.Error(), "correct the data sheet")
		return a
	}
	var others []string
	var mine []*x509.Certificate
	for _, c := range certs {
		switch got := ikOf(c); {
		case got == ik:
			mine = append(mine, c)
		case got != "":
			others = append(others, string(got))
		}
	}
	switch {
	case len(mine) == 0 && len(others) > 0:
		add(finding.Error, "P7C-IK", "the certificate is for IK "+strings.Join(others, ", "), "this is the answer to somebody else: ask for yours with `mail certificate`")
		return a
	case len(mine) == 0:
		add(finding.Error, "P7C-LEER", fmt.Sprintf("%d certificates, none with IK %s", len(certs), ik), "ask for the certificate with `mail certificate`")
		return a
	}
	// The newest of several, but one that fits the key before one that does not.
	slices.SortStableFunc(mine, func(x, y *x509.Certificate) int {
		if fx, fy := sameKey(x, o.Key), sameKey(y, o.Key); fx != fy {
			return map[bool]int{true: -1, false: 1}[fx]
		}
		return y.NotBefore.Compare(x.NotBefore)
	})
	a.Certificate = mine[0]
	c := a.Certificate
	if !sameKey(c, o.Key) {
		add(finding.Error, "P7C-KEY", "the certificate belongs to another key", "it answers an older request, or the key was made anew since: use the key of that request, or send the present request")
	}
	if want, err := o.Sheet.subject(); err != nil || !sameName(c.RawSubject, want) {
		parts, _ := parseName(c.RawSubject) // it is printed as far as it can be read
		add(finding.Error, "P7C-NAME", "the subject is not that of the request: "+printName(parts), "compare it with the data sheet, then call "+Contact)
	}
	switch {
	case o.Now.Before(c.NotBefore):
		add(finding.Error, "P7C-ZEIT", "valid only from "+c.NotBefore.UTC().Format(time.DateOnly), "wait, or set the clock")
	case !o.Now.Before(c.NotAfter):
		add(finding.Error, "P7C-ZEIT", "expired on "+certificateEnd(c), "apply for a new one")
	default:
		a.Findings = append(a.Findings, Expiry(c, o.Now)...)
	}
	if !longKey(c, keyBits) {
		add(finding.Error, "P7C-KEY", "the certificate's key is not RSA with 4096 bits", "call "+Contact)
	}
	a.chain(certs, o)
	return a
}

func sameKey(c *x509.Certificate, key crypto.PublicKey) bool {
	k, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(key)
}

// sameName compares names by their values; issuers may encode them anew.
func sameName(x, y []byte) bool {
	if bytes.Equal(x, y) {
		return true
	}
	a, err1 := parseName(x)
	b, err2 := parseName(y)
	return err1 == nil && err2 == nil && slices.EqualFunc(a, b, func(p, q attribute) bool {
		return p.Type.Equal(q.Type) && bytes.Equal(p.Value.Bytes, q.Value.Bytes)
	})
}

// chain walks from the certificate to a self-signed one in the file, or to the one that was named, and judges each link: who
// signed it and how, with what key, whether it is valid now and not revoked.
func (a *Answer) chain(certs []*x509.Certificate, o ImportOptions) {
	add := func(sev finding.Severity, code finding.Code, what, fix string) {
		a.Findings = append(a.Findings, finding.Finding{Code: code, Severity: sev, What: what, Fix: fix})
	}
	if i := a.Certificate.Issuer.Organization; !slices.Contains(i, o.Sheet.TrustCenter) {
		add(finding.Error, "P7C-AUSSTELLER", fmt.Sprintf("issued by %s, not by %s", a.Certificate.Issuer, o.Sheet.TrustCenter), "this is the answer of another TrustCenter")
	}
	for c := a.Certificate; !named(c, o.Root); {
		var issuer *x509.Certificate
		rank := func(k *x509.Certificate) int { // of several with that key: the named one before others, a valid one before others
			switch {
			case named(k, o.Root):
				return 2
			case valid(k, o.Now):
				return 1
			}
			return 0
		}
		for _, k := range certs {
			if !mayIssue(k) || !signed(k, c) || k.Equal(c) || slices.ContainsFunc(a.Chain, k.Equal) {
				continue
			}
			if !named(k, o.Root) && !selfSigned(k) && !saysCA(k) {
				continue
			}
			if issuer == nil || rank(k) > rank(issuer) {
				issuer = k
			}
		}
		if issuer == nil {
			break
		}
		a.Chain = append(a.Chain, issuer)
		c = issuer
	}
	if len(a.Chain) == 0 {
		add(finding.Error, "P7C-KETTE", "no certificate in the file issued the certificate", "ask for the whole answer with `mail certificate`")
	} else {
		a.top(o, add)
	}
	for _, c := range append([]*x509.Certificate{a.Certificate}, a.Chain...) {
		if len(c.UnhandledCriticalExtensions) > 0 {
			add(finding.Error, "P7C-ERWEITERUNG", fmt.Sprintf("the certificate %s is not used: %s", c.Subject, unknownExtension(c)), "call "+Contact)
		}
		// A fingerprint vouches for the certificate that was named, no signature.
		if !pssSigned(c.SignatureAlgorithm) && !named(c, o.Root) {
			add(finding.Error, "P7C-PSS", fmt.Sprintf("the certificate %s is signed with %s, not RSASSA-PSS with SHA-2", c.Subject, c.SignatureAlgorithm), "ask "+Contact+" whether that is meant; a root that is signed so is taken when its fingerprint is named with --root")
		}
	}
	for i, c := range a.Chain {
		if i > pathLimit(c) {
			add(finding.Error, "P7C-KETTE", fmt.Sprintf("%s may have %d CAs below it, and there are %d", c.Subject, pathLimit(c), i), "call "+Contact)
		}
		if !longKey(c, minKeyBits) {
			add(finding.Error, "P7C-CA-KEY", fmt.Sprintf("the key of the TrustCenter's certificate %s is not RSA with at least %d bits", c.Subject, minKeyBits), "call "+Contact)
		}
		if !valid(c, o.Now) {
			add(finding.Error, "P7C-ZEIT", fmt.Sprintf("the TrustCenter's certificate %s is not valid now", c.Subject), "call "+Contact)
		}
	}
	a.revocation(o, add)
}

// top judges the end of the chain.
func (a *Answer) top(o ImportOptions, add func(finding.Severity, finding.Code, string, string)) {
	top := a.Chain[len(a.Chain)-1]
	switch sum := sha256.Sum256(top.Raw); {
	case o.Root != nil && named(top, o.Root):
	case o.Root != nil:
		add(finding.Error, "P7C-WURZEL", fmt.Sprintf("the chain ends at another certificate: %s (SHA-256 %x)", top.Subject, sum), "this is not the TrustCenter that was named with --root")
	case !selfSigned(top):
		add(finding.Error, "P7C-KETTE", fmt.Sprintf("the chain is open: it ends at %s (SHA-256 %x), and who issued that is not in the file", top.Subject, sum), "compare the fingerprint with the TrustCenter's publication, then name it with --root")
	default:
		add(finding.Warning, "P7C-WURZEL", fmt.Sprintf("nothing but the file itself says that %s (SHA-256 %x) is the TrustCenter's", top.Subject, sum), "compare the fingerprint with the TrustCenter's publication, then name it with --root")
	}
}

// revocation judges the certificate and those between it and the top by the revocation lists (DKTIG-23).
func (a *Answer) revocation(o ImportOptions, add func(finding.Severity, finding.Code, string, string)) {
	lists, found := readLists(o.Revoked, a.Chain, o.Now, "P7C-SPERRLISTE")
	a.Findings = append(a.Findings, found...)
	for i, c := range append([]*x509.Certificate{a.Certificate}, a.Chain...) {
		if i > 0 && i == len(a.Chain) && (named(c, o.Root) || selfSigned(c)) {
			break // nobody above it revokes the top
		}
		if at, ok := lists.revoked(c); ok {
			add(finding.Error, "P7C-GESPERRT", fmt.Sprintf("the certificate %s was revoked on %s", c.Subject, at.UTC().Format(time.DateOnly)), "do not use it; call "+Contact)
		} else if !lists.covers(c) && len(o.Revoked) > 0 && i < len(a.Chain) {
			add(finding.Warning, "P7C-SPERRLISTE", fmt.Sprintf("no usable revocation list is of the issuer of %s", c.Subject), "fetch the list of "+c.Issuer.String()+" and name it with --crl, too; leaving it out is at your own risk")
		}
	}
}

// Expiry warns of the end of a certificate 90, 30 and 7 days ahead.
func Expiry(c *x509.Certificate, now time.Time) finding.List {
	days := int(c.NotAfter.Sub(now) / (24 * time.Hour))
	if !now.Before(c.NotAfter) {
		return finding.List{{Code: "TC-ENDE", Severity: finding.Error, What: "the certificate expired on " + certificateEnd(c), Fix: "apply for a new one"}}
	}
	stage := 0
	for _, d := range WarnBefore {
		if days < d {
			stage = d
		}
	}
	if stage == 0 {
		return nil
	}
	return finding.List{{Code: "TC-ENDE", Severity: finding.Warning, What: fmt.Sprintf("the certificate ends in %d days, on %s (within %d days)", days, certificateEnd(c), stage),
		Fix: "apply for the next one now: `adv-server trustcenter request --force` makes a new key and keeps the present one"}}
}

// PEM is the certificate and its chain for a file.
func (a Answer) PEM() []byte {
	var b bytes.Buffer
	for _, c := range append([]*x509.Certificate{a.Certificate}, a.Chain...) {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes everything
	}
	return b.Bytes()
}
