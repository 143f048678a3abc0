package x509ti

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// Error is a finding of the certificate checks with its code of gemSpec_PKI Tab_PKI_274 (GS-A_4751). Compare with
// errors.Is and the variables below.
type Error struct {
	Code   int    // 1001 to 1062
	Name   string // as in the table
	Detail string // what was found, without personal data
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("%s (%d)", e.Name, e.Code)
	}
	return fmt.Sprintf("%s (%d): %s", e.Name, e.Code, e.Detail)
}

// Is makes errors with the same code equal, whatever their detail.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Because returns the finding with what was found. The detail must hold no personal data.
func (e *Error) Because(detail string) *Error { return &Error{e.Code, e.Name, detail} }

// The findings of the checks in this package.
var (
	WrongKeyUsage           = &Error{Code: 1016, Name: "WRONG_KEYUSAGE"}
	WrongExtendedKeyUsage   = &Error{Code: 1017, Name: "WRONG_EXTENDEDKEYUSAGE"}
	CertTypeMismatch        = &Error{Code: 1018, Name: "CERT_TYPE_MISMATCH"}
	CertReadError           = &Error{Code: 1019, Name: "CERT_READ_ERROR"}
	CertificateNotValidTime = &Error{Code: 1021, Name: "CERTIFICATE_NOT_VALID_TIME"}
	AuthorityKeyIDDifferent = &Error{Code: 1023, Name: "AUTHORITYKEYID_DIFFERENT"}
	CertificateNotValidMath = &Error{Code: 1024, Name: "CERTIFICATE_NOT_VALID_MATH"}
	CACertMissing           = &Error{Code: 1027, Name: "CA_CERT_MISSING"}
	CertTypeInfoMissing     = &Error{Code: 1033, Name: "CERT_TYPE_INFO_MISSING"}
	QCStatementError        = &Error{Code: 1048, Name: "QC_STATEMENT_ERROR"}
)

// ErrCritical: the critical extensions are not exactly key usage and basic constraints (GS-A_4661-01). ErrRole: the admission
// does not name the role that the profile has. Neither has a code in the table.
var (
	ErrCritical = errors.New("x509ti: critical extensions are not the expected ones")
	ErrRole     = errors.New("x509ti: role is missing in the admission")
)

// FindIssuer picks from candidates the CA whose name and key identifier the certificate refers to (TUC_PKI_003):
// CACertMissing when no name fits, AuthorityKeyIDDifferent when a name fits but no key identifier.
func (c *Certificate) FindIssuer(candidates []*Certificate) (*Certificate, error) {
	finding := CACertMissing
	for _, ca := range candidates {
		if !bytes.Equal(ca.RawSubject, c.RawIssuer) {
			continue
		}
		if len(c.AuthorityKeyID) > 0 && bytes.Equal(ca.SubjectKeyID, c.AuthorityKeyID) {
			return ca, nil
		}
		finding = AuthorityKeyIDDifferent
	}
	return nil, finding
}

// CheckSignatureFrom checks that issuer is a CA, is the one the certificate refers to (TUC_PKI_003) and signed it
// (TUC_PKI_004).
func (c *Certificate) CheckSignatureFrom(issuer *Certificate) error {
	return c.CheckSignatureFromWith(nil, issuer)
}

// CheckSignatureFromWith is CheckSignatureFrom with a verifier for brainpool keys; nil is the plain one.
func (c *Certificate) CheckSignatureFromWith(v Verifier, issuer *Certificate) error {
	if issuer == nil {
		return CACertMissing
	}
	if _, err := c.FindIssuer([]*Certificate{issuer}); err != nil {
		return err
	}
	if !issuer.IsCA || issuer.KeyUsage&CertSign == 0 {
		return CertificateNotValidMath.Because("the issuer is no CA")
	}
	return CheckSignatureWith(v, issuer.PublicKey, c.signatureAlgorithm, c.RawTBS, c.signature)
}

// CheckSelfSigned checks that a CA's certificate is signed with its own key: CACertMissing when it names another issuer,
// AuthorityKeyIDDifferent when it names another key, CertificateNotValidMath when the signature is wrong. A root need not
// name its key (RFC 5280 chapter 4.2.1.1).
func (c *Certificate) CheckSelfSigned(v Verifier) error {
	switch {
	case !bytes.Equal(c.RawIssuer, c.RawSubject):
		return CACertMissing.Because("not self-signed")
	case len(c.AuthorityKeyID) > 0 && !bytes.Equal(c.AuthorityKeyID, c.SubjectKeyID):
		return AuthorityKeyIDDifferent
	case !c.IsCA || c.KeyUsage&CertSign == 0:
		return CertificateNotValidMath.Because("the issuer is no CA")
	}
	return CheckSignatureWith(v, c.PublicKey, c.signatureAlgorithm, c.RawTBS, c.signature)
}

// Finding is one step of a check that did not pass.
type Finding struct {
	Step string // one of the Step constants
	Err  error  // *Error, ErrCritical or ErrRole
}

// The steps of a check by profile, as reports name them.
const (
	StepKeyUsage    = "keyUsage"
	StepExtKeyUsage = "extKeyUsage"
	StepCritical    = "criticalExtensions"
	StepType        = "type"
	StepRole        = "role"
)

// Judge runs the steps that need the certificate alone: key usage and extended key usage (TUC_PKI_018 step 2), critical
// extensions (GS-A_4661-01), certificate type (TUC_PKI_007) and role (TUC_PKI_009). It returns what did not pass.
func (p Profile) Judge(cert *Certificate) []Finding {
	var findings []Finding
	add := func(step string, err error) { findings = append(findings, Finding{step, err}) }
	if !p.keyUsageFits(cert) {
		add(StepKeyUsage, WrongKeyUsage)
	}
	if p.ExtKeyUsage != nil && !cert.HasExtKeyUsage(p.ExtKeyUsage) && !(p.ExtKeyUsageOptional && len(cert.ExtKeyUsage) == 0) {
		add(StepExtKeyUsage, WrongExtendedKeyUsage)
	}
	switch {
	case cert.IsCA && !p.CA:
		add(StepCritical, fmt.Errorf("%w: basic constraints say that it is a CA", ErrCritical))
	case !cert.criticalExpected():
		add(StepCritical, ErrCritical)
	}
	if err := p.CheckType(cert); err != nil {
		add(StepType, err)
	}
	if p.Role != nil && !contains(cert.Roles(), p.Role) {
		add(StepRole, ErrRole)
	}
	return findings
}

// CheckType runs TUC_PKI_007 as far as the certificate alone decides it: CertTypeInfoMissing without policies,
// CertTypeMismatch when none of them is the profile's type.
func (p Profile) CheckType(cert *Certificate) error {
	switch {
	case p.Type == nil:
		return nil
	case len(cert.Policies) == 0:
		return CertTypeInfoMissing
	case p.TypeOf(cert) == nil:
		return CertTypeMismatch
	}
	return nil
}

// TypeOf returns the type of the profile that the certificate has, nil when it has none.
func (p Profile) TypeOf(cert *Certificate) OID {
	for _, t := range []OID{p.Type, p.AltType} {
		if t != nil && cert.HasPolicy(t) {
			return t
		}
	}
	return nil
}

// keyUsageFits: the intended usages are part of those of the certificate; C.TSL.SIG has exactly its own (TUC_PKI_011).
func (p Profile) keyUsageFits(cert *Certificate) bool {
	want := p.KeyUsage
	if p.RSAKeyUsage != 0 && cert.IsRSA() {
		want = p.RSAKeyUsage
	}
	if p.Name == TSLSIG.Name && cert.KeyUsage != want {
		return false
	}
	return cert.HasKeyUsage && cert.KeyUsage&want == want
}

// criticalExpected: an end entity's critical extensions are exactly key usage and basic constraints. Everything that the
// package reads is understood, so for a CA it is enough that nothing else is critical.
func (c *Certificate) criticalExpected() bool {
	if len(c.UnhandledCritical) > 0 {
		return false
	}
	if c.IsCA {
		return true
	}
	for _, oid := range c.Critical {
		if !oid.Equal(oidKeyUsage) && !oid.Equal(oidBasic) {
			return false
		}
	}
	// Without key usage the step about key usage says so; what is there must be critical.
	return (!c.HasKeyUsage || contains(c.Critical, oidKeyUsage)) && contains(c.Critical, oidBasic)
}

// Check runs Judge and looks at issuer and signature. It returns every finding, joined; nil when there is none. The time
// is not looked at.
func (p Profile) Check(cert, issuer *Certificate) error {
	var findings []error
	for _, f := range p.Judge(cert) {
		findings = append(findings, f.Err)
	}
	if err := cert.CheckSignatureFrom(issuer); err != nil {
		findings = append(findings, err)
	}
	return errors.Join(findings...)
}

// CheckEGKAUTN judges the card's certificate C.CH.AUTN for PL_TUC_EGK_STATUS with the issuer found for it. mathValid
// covers everything but the time: signature, issuer, type oid_egk_autn, role, key usage and extended key usage. timeValid
// says whether now lies in the period of validity. err joins what was found and is nil exactly when both are true.
func CheckEGKAUTN(cert, issuer *Certificate, now time.Time) (mathValid, timeValid bool, err error) {
	if cert == nil {
		return false, false, CertReadError
	}
	err = EGKAUTN.Check(cert, issuer)
	mathValid = err == nil
	timeValid = cert.ValidAt(now)
	if !timeValid {
		err = errors.Join(err, CertificateNotValidTime)
	}
	return mathValid, timeValid, err
}
