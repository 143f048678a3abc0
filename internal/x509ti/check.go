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

func (e *Error) because(detail string) *Error { return &Error{e.Code, e.Name, detail} }

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
)

// ErrCritical: the certificate has a critical extension that is not understood (GS-A_4661-01). ErrRole: the admission
// does not name the role that the profile has. Neither has a code in the table.
var (
	ErrCritical = errors.New("x509ti: unknown critical extension")
	ErrRole     = errors.New("x509ti: role is missing in the admission")
)

// Certificate type and role OIDs of the profiles that this project checks (gemSpec_PKI chapter 5).
var (
	OIDEGKAut       = OID{1, 2, 276, 0, 76, 4, 70}
	OIDEGKAutN      = OID{1, 2, 276, 0, 76, 4, 71}
	OIDSMBAut       = OID{1, 2, 276, 0, 76, 4, 77}
	OIDVersicherter = OID{1, 2, 276, 0, 76, 4, 49}
	OIDAdVKTR       = OID{1, 2, 276, 0, 76, 4, 190}
	OIDClientAuth   = OID{1, 3, 6, 1, 5, 5, 7, 3, 2}
	OIDOCSPSigning  = OID{1, 3, 6, 1, 5, 5, 7, 3, 9}
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
	if issuer == nil {
		return CACertMissing
	}
	if _, err := c.FindIssuer([]*Certificate{issuer}); err != nil {
		return err
	}
	if !issuer.IsCA || issuer.KeyUsage&CertSign == 0 {
		return CertificateNotValidMath.because("the issuer is no CA")
	}
	return CheckSignature(issuer.PublicKey, c.signatureAlgorithm, c.RawTBS, c.signature)
}

// Profile is what the check of a certificate expects beside signature and time.
type Profile struct {
	Type        OID      // certificate type, one of the policies
	Role        OID      // profession of the admission; nil: any or none
	KeyUsage    KeyUsage // all of these
	ExtKeyUsage OID      // nil: none is asked for
}

// EGKAUTN is the profile by which PL_TUC_EGK_STATUS has the card's certificate C.CH.AUTN checked (TIP1-A_6901).
var EGKAUTN = Profile{Type: OIDEGKAutN, Role: OIDVersicherter, KeyUsage: DigitalSignature, ExtKeyUsage: OIDClientAuth}

// Check runs the offline part of TUC_PKI_018: key usage, extended key usage, critical extensions, certificate type, role,
// issuer and signature. It returns every finding, joined; nil when there is none. The time is not looked at.
func (p Profile) Check(cert, issuer *Certificate) error {
	var findings []error
	if !cert.HasKeyUsage || cert.KeyUsage&p.KeyUsage != p.KeyUsage {
		findings = append(findings, WrongKeyUsage)
	}
	if p.ExtKeyUsage != nil && !cert.HasExtKeyUsage(p.ExtKeyUsage) {
		findings = append(findings, WrongExtendedKeyUsage)
	}
	if len(cert.UnhandledCritical) > 0 {
		findings = append(findings, ErrCritical)
	}
	switch {
	case len(cert.Policies) == 0:
		findings = append(findings, CertTypeInfoMissing)
	case !cert.HasPolicy(p.Type):
		findings = append(findings, CertTypeMismatch)
	}
	if p.Role != nil && !contains(cert.Roles(), p.Role) {
		findings = append(findings, ErrRole)
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
