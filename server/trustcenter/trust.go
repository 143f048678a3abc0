package trustcenter

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"ktradv/server/internal/finding"
)

// minKeyBits is the least length of a key that vouches for others or that data is encrypted for, in bits of an RSA modulus
// (BSI TR-02102-1). An applicant's own key has keyBits.
const minKeyBits = 3000

var oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}

// notCA says whether a certificate says of itself that it is no CA, or that its key signs no certificates.
func notCA(c *x509.Certificate) bool {
	return c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 || !c.IsCA && slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidBasicConstraints) })
}

// mayIssue says whether a certificate can be a TrustCenter's own: it belongs to no participant, and says not that it is no CA.
// BasicConstraints may be missing, which crypto/x509 refuses, so signatures are checked one by one here.
func mayIssue(c *x509.Certificate) bool { return ikOf(c) == "" && !notCA(c) }

// saysCA says whether a certificate that another one vouches for is one of a CA: it says so, or says nothing and has the name of a
// TrustCenter, country and organisation alone. A participant's names a person, also where the IK got lost.
func saysCA(c *x509.Certificate) bool {
	return c.IsCA || !notCA(c) && c.Subject.CommonName == "" && len(c.Subject.OrganizationalUnit) == 0
}

// signed says whether the key of k made the signature of c. Whether the method is good enough is another question.
func signed(k, c *x509.Certificate) bool {
	return bytes.Equal(k.RawSubject, c.RawIssuer) && k.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// selfSigned says whether a certificate is signed with its own key.
func selfSigned(c *x509.Certificate) bool { return signed(c, c) }

// pssSigned says whether a signature is RSASSA-PSS with SHA-2, the only method of these TrustCenters.
func pssSigned(a x509.SignatureAlgorithm) bool {
	return a == x509.SHA256WithRSAPSS || a == x509.SHA384WithRSAPSS || a == x509.SHA512WithRSAPSS
}

// longKey says whether a certificate's key is RSA of at least some length in bits.
func longKey(c *x509.Certificate, bits int) bool {
	pub, ok := c.PublicKey.(*rsa.PublicKey)
	return ok && pub.N.BitLen() >= bits
}

// pathLimit is how many CAs may stand one under the other below a CA (BasicConstraints).
func pathLimit(c *x509.Certificate) int {
	if c.BasicConstraintsValid && (c.MaxPathLen > 0 || c.MaxPathLen == 0 && c.MaxPathLenZero) {
		return c.MaxPathLen
	}
	return maxIssuers
}

// unknownExtension says why a certificate with a critical extension that nobody here reads is not used (RFC 5280 chapter 4.2).
func unknownExtension(c *x509.Certificate) string {
	return fmt.Sprintf("it has a critical extension that is not known (%s)", c.UnhandledCriticalExtensions[0])
}

func valid(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && now.Before(c.NotAfter)
}

// named says whether a certificate is one of those whose SHA-256 fingerprints are given.
func named(c *x509.Certificate, fingerprints ...[]byte) bool {
	sum := sha256.Sum256(c.Raw)
	return slices.ContainsFunc(fingerprints, func(f []byte) bool { return bytes.Equal(f, sum[:]) })
}

// revocations is what revocation lists say (DKTIG-23).
type revocations struct {
	covered map[string]bool      // by issuer
	at      map[string]time.Time // by issuer and serial number
}

func revocationKey(issuer []byte, serial fmt.Stringer) string {
	return string(issuer) + "\x00" + serial.String()
}

// goodList says whether a list's signature is of a kind that nobody forges. No text names the method of the lists, so PKCS #1
// v1.5 is taken, too.
func goodList(a x509.SignatureAlgorithm) bool {
	return pssSigned(a) || a == x509.SHA256WithRSA || a == x509.SHA384WithRSA || a == x509.SHA512WithRSA
}

// readLists takes the revocation lists that one of the issuers signed. What is wrong with others is a finding with the code.
func readLists(lists []*x509.RevocationList, issuers []*x509.Certificate, now time.Time, code finding.Code) (r revocations, found finding.List) {
	r = revocations{map[string]bool{}, map[string]time.Time{}}
	add := func(sev finding.Severity, what, fix string) {
		found = append(found, finding.Finding{Code: code, Severity: sev, What: what, Fix: fix})
	}
	if len(lists) == 0 {
		add(finding.Warning, "no revocation list was looked at", "fetch the TrustCenter's list and name it with --crl; leaving it out is at your own risk")
		return r, found
	}
	for _, l := range lists {
		switch ok := slices.ContainsFunc(issuers, func(k *x509.Certificate) bool {
			return bytes.Equal(k.RawSubject, l.RawIssuer) && k.CheckSignature(l.SignatureAlgorithm, l.RawTBSRevocationList, l.Signature) == nil
		}); {
		case !ok:
			add(finding.Error, fmt.Sprintf("the revocation list of %s is not signed by the TrustCenter", l.Issuer), "fetch it anew")
			continue
		case !goodList(l.SignatureAlgorithm):
			add(finding.Error, fmt.Sprintf("the revocation list of %s is signed with %s, which can be forged", l.Issuer, l.SignatureAlgorithm), "ask "+Contact+" for one signed with RSASSA-PSS")
			continue
		case !l.NextUpdate.IsZero() && now.After(l.NextUpdate):
			add(finding.Warning, fmt.Sprintf("the revocation list of %s is out of date since %s", l.Issuer, l.NextUpdate.UTC().Format(time.DateOnly)), "fetch it anew")
		}
		r.covered[string(l.RawIssuer)] = true
		for _, e := range l.RevokedCertificateEntries {
			r.at[revocationKey(l.RawIssuer, e.SerialNumber)] = e.RevocationTime
		}
	}
	return r, found
}

// covers says whether a list of a certificate's issuer was read.
func (r revocations) covers(c *x509.Certificate) bool { return r.covered[string(c.RawIssuer)] }

// revoked says when a certificate was revoked.
func (r revocations) revoked(c *x509.Certificate) (time.Time, bool) {
	at, ok := r.at[revocationKey(c.RawIssuer, c.SerialNumber)]
	return at, ok
}
