package trustcenter

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ktradv/internal/cms"
	"ktradv/server/internal/finding"
)

// maxAnswer bounds a .p7c in octets; package cms bounds the certificates in it.
const maxAnswer = 1 << 20

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
	raw, err := cms.ParseCertificates(der)
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
	// Revoked is the TrustCenter's revocation list, nil where there is none at hand (DKTIG-23).
	Revoked *x509.RevocationList
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
	if pub, ok := c.PublicKey.(*rsa.PublicKey); !ok || pub.N.BitLen() < keyBits {
		add(finding.Error, "P7C-KEY", "the certificate's key is not RSA with 4096 bits", "call "+Contact)
	}
	if !pssSigned(c.SignatureAlgorithm) {
		add(finding.Warning, "P7C-PSS", fmt.Sprintf("the certificate is signed with %s, not RSASSA-PSS", c.SignatureAlgorithm), "ask "+Contact+" whether that is meant")
	}
	a.chain(certs, o)
	return a
}

// pssSigned says whether a signature is RSASSA-PSS.
func pssSigned(a x509.SignatureAlgorithm) bool {
	return a == x509.SHA256WithRSAPSS || a == x509.SHA384WithRSAPSS || a == x509.SHA512WithRSAPSS
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

var oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}

// chain walks from the certificate to a self-signed one in the file. The TrustCenter's certificates may lack
// BasicConstraints, which crypto/x509 refuses, so the signatures are checked one by one; a participant's certificate and one
// that says that it is no CA are none.
func (a *Answer) chain(certs []*x509.Certificate, o ImportOptions) {
	add := func(sev finding.Severity, code finding.Code, what, fix string) {
		a.Findings = append(a.Findings, finding.Finding{Code: code, Severity: sev, What: what, Fix: fix})
	}
	if i := a.Certificate.Issuer.Organization; !slices.Contains(i, o.Sheet.TrustCenter) {
		add(finding.Error, "P7C-AUSSTELLER", fmt.Sprintf("issued by %s, not by %s", a.Certificate.Issuer, o.Sheet.TrustCenter), "this is the answer of another TrustCenter")
	}
	for c := a.Certificate; ; {
		var issuer *x509.Certificate
		for _, k := range certs {
			if bytes.Equal(k.RawSubject, c.RawIssuer) && k != c && ikOf(k) == "" && !notCA(k) && k.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
				issuer = k
			}
		}
		if issuer == nil || slices.Contains(a.Chain, issuer) {
			break
		}
		a.Chain = append(a.Chain, issuer)
		if o.Now.Before(issuer.NotBefore) || !o.Now.Before(issuer.NotAfter) {
			add(finding.Error, "P7C-ZEIT", fmt.Sprintf("the TrustCenter's certificate %s is not valid now", issuer.Subject), "call "+Contact)
		}
		c = issuer
	}
	named := func(c *x509.Certificate) bool { sum := sha256.Sum256(c.Raw); return bytes.Equal(sum[:], o.Root) }
	switch {
	case len(a.Chain) == 0:
		add(finding.Error, "P7C-KETTE", "no certificate in the file issued the certificate", "ask for the whole answer with `mail certificate`")
	case o.Root != nil && slices.ContainsFunc(a.Chain, named):
	case o.Root != nil:
		top := a.Chain[len(a.Chain)-1]
		add(finding.Error, "P7C-WURZEL", fmt.Sprintf("the chain ends at another certificate: %s (SHA-256 %x)", top.Subject, sha256.Sum256(top.Raw)), "this is not the TrustCenter that was named with --root")
	default:
		top := a.Chain[len(a.Chain)-1]
		if !bytes.Equal(top.RawSubject, top.RawIssuer) || top.CheckSignature(top.SignatureAlgorithm, top.RawTBSCertificate, top.Signature) != nil {
			add(finding.Warning, "P7C-KETTE", fmt.Sprintf("the chain ends at %s, which is not self-signed", top.Subject), "compare its fingerprint with the TrustCenter's publication")
		}
		add(finding.Warning, "P7C-WURZEL", fmt.Sprintf("nothing but the file itself says that %s (SHA-256 %x) is the TrustCenter's", top.Subject, sha256.Sum256(top.Raw)), "compare the fingerprint with the TrustCenter's publication, then name it with --root")
	}
	a.Findings = append(a.Findings, checkRevoked(a.Certificate, a.Chain, o.Revoked, o.Now)...)
}

// notCA says whether a certificate says of itself that it is no CA, or that its key signs no certificates.
func notCA(c *x509.Certificate) bool {
	return c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 || !c.IsCA && slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidBasicConstraints) })
}

// checkRevoked judges a certificate by a revocation list (DKTIG-23).
func checkRevoked(c *x509.Certificate, chain []*x509.Certificate, list *x509.RevocationList, now time.Time) (found finding.List) {
	add := func(sev finding.Severity, code finding.Code, what, fix string) {
		found = append(found, finding.Finding{Code: code, Severity: sev, What: what, Fix: fix})
	}
	if list == nil {
		add(finding.Warning, "P7C-SPERRLISTE", "no revocation list was looked at", "fetch the TrustCenter's list and name it with --crl; leaving it out is at your own risk")
		return found
	}
	signed := slices.ContainsFunc(chain, func(k *x509.Certificate) bool {
		return bytes.Equal(k.RawSubject, list.RawIssuer) && k.CheckSignature(list.SignatureAlgorithm, list.RawTBSRevocationList, list.Signature) == nil
	})
	switch {
	case !signed:
		add(finding.Error, "P7C-SPERRLISTE", "the revocation list is not signed by the TrustCenter", "fetch it anew")
		return found
	case !list.NextUpdate.IsZero() && now.After(list.NextUpdate):
		add(finding.Warning, "P7C-SPERRLISTE", "the revocation list is out of date since "+list.NextUpdate.UTC().Format(time.DateOnly), "fetch it anew")
	}
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(c.SerialNumber) == 0 && bytes.Equal(list.RawIssuer, c.RawIssuer) {
			add(finding.Error, "P7C-GESPERRT", "the certificate was revoked on "+e.RevocationTime.UTC().Format(time.DateOnly), "do not use it; call "+Contact)
		}
	}
	return found
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
