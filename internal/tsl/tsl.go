// Package tsl reads the lists of trusted services on which certificate checks stand: the TSL of the telematics
// infrastructure (gemSpec_TSL, ETSI TS 102 231) and the trusted list of the Bundesnetzagentur for qualified certificates
// (BNetzA-VL, ETSI TS 119 612). Both are the same kind of XML document with an enveloped XAdES signature.
//
// [Parse] takes the content from the canonical octets that the signature covers and from nowhere else; nothing in a List is
// true before [List.Verify] says so. Findings are values of type *[x509ti.Error] with the codes of Tab_PKI_274.
package tsl

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"ktradv/internal/x509ti"
	"ktradv/internal/xmlsig"
)

// MaxSize is the largest list that is read, in octets. Those of the telematics infrastructure have below a million.
const MaxSize = xmlsig.MaxSize

// Kind tells the two lists apart.
type Kind string

// The kinds.
const (
	TSL Kind = "TSL"       // of the telematics infrastructure
	VL  Kind = "BNetzA-VL" // trusted list of the Bundesnetzagentur
)

// Service types.
const (
	TypeCAPKC      = "http://uri.etsi.org/TrstSvc/Svctype/CA/PKC"                      // nonQES CA
	TypeCAQC       = "http://uri.etsi.org/TrstSvc/Svctype/CA/QC"                       // QES CA
	TypeOCSP       = "http://uri.etsi.org/TrstSvc/Svctype/Certstatus/OCSP"             // signer of OCSP answers
	TypeOCSPQC     = "http://uri.etsi.org/TrstSvc/Svctype/Certstatus/OCSP/QC"          // the same in the VL
	TypeCRL        = "http://uri.etsi.org/TrstSvc/Svctype/Certstatus/CRL"              // signer of CRLs
	TypeCertChange = "http://uri.etsi.org/TrstSvc/Svctype/TSLServiceCertChange"        // announced trust anchor
	TypeUnknown    = "http://uri.etsi.org/TrstSvc/Svctype/unspecified"                 // other certificates (A_17700)
	TypeCVC        = "http://uri.telematik/TrstSvc/Svctype/CA/CVC"                     // CVC root
	TypeDNSSEC     = "http://uri.telematik/TrstSvc/Svctype/DNSSEC"                     // DNSSEC anchor
	TypeVLSigner   = "http://uri.telematik/TrstSvc/Svctype/TrustedList/schemerules/DE" // signer of the VL
)

// Service states.
const (
	StatusInAccord  = "http://uri.etsi.org/TrstSvc/Svcstatus/inaccord"
	StatusRevoked   = "http://uri.etsi.org/TrstSvc/Svcstatus/revoked"
	StatusExpired   = "http://uri.etsi.org/TrstSvc/Svcstatus/expired"
	StatusGranted   = "http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/granted"
	StatusWithdrawn = "http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/withdrawn"
)

// ForeSignatures is the additional information of a qualified CA that issues certificates for signatures.
const ForeSignatures = "http://uri.etsi.org/TrstSvc/TrustedList/SvcInfoExt/ForeSignatures"

// State is the status of a service from a time on.
type State struct {
	Type        string // service type that the state speaks of
	Status      string
	Start       time.Time
	Information []string // additionalServiceInformation
	// Qualifications say more of some certificates (the BNetzA-VL alone); see State.QualifiersOf.
	Qualifications []Qualification
}

// Service is one entry of a list.
type Service struct {
	Provider string // name of the trust service provider
	Name     string
	State            // the current one, with the service's type
	History  []State // older ones, youngest first; the TSL has none

	Certificates []*x509ti.Certificate // of X509Certificate
	Unreadable   int                   // certificates of this entry that cannot be read
	Other        [][]byte              // content of Other, such as CVC keys
	SupplyPoints []string              // the first is the OCSP responder's address
	Extensions   []x509ti.OID          // certificate types that the CA may issue, and marks
	Redirects    []Redirect            // of an entry TypeVLSigner
}

// Redirect names the address in the telematics infrastructure of an OCSP responder for qualified certificates, whose own
// address stands in the certificates.
type Redirect struct{ From, To string }

// Pointer names where a list is found.
type Pointer struct {
	Location string
	Text     []string // textual information, an OID in the TSL: .120 primary, .121 backup
}

// List is a list as read.
type List struct {
	Kind       Kind
	ID         string // attribute Id of the root, "" in a VL without one
	Sequence   uint64
	Issued     time.Time
	NextUpdate time.Time // zero: the list is closed
	Pointers   []Pointer
	Services   []Service

	Raw    []byte            // the file as it came
	Hash   [sha256.Size]byte // of Raw
	signed *xmlsig.Signed
}

var (
	// CertExtractionError: the signer's certificate cannot be taken from the list or must not sign it.
	CertExtractionError = &x509ti.Error{Code: 1002, Name: "TSL_CERT_EXTRACTION_ERROR"}
	NotWellFormed       = &x509ti.Error{Code: 1011, Name: "TSL_NOT_WELLFORMED"}
	SchemaNotValid      = &x509ti.Error{Code: 1012, Name: "TSL_SCHEMA_NOT_VALID"}
	XMLSignatureError   = &x509ti.Error{Code: 1013, Name: "XML_SIGNATURE_ERROR"}
	CANotLoaded         = &x509ti.Error{Code: 1042, Name: "TSL_CA_NOT_LOADED"}
)

// Signer returns the signer's certificate in KeyInfo, of which nothing is known before Verify; CertExtractionError without
// one. KeyInfo of a TSL holds exactly one certificate; that of a VL may hold the chain.
func (l *List) Signer() (*x509ti.Certificate, error) {
	cert, err := l.signed.Signer()
	if err == nil && l.Kind == TSL && l.signed.Certificates != 1 {
		err = fmt.Errorf("%d certificates in KeyInfo, want one", l.signed.Certificates)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", CertExtractionError, err)
	}
	return cert, nil
}

// VerifyXML checks the signature of the document under the key of the signer's certificate (TUC_PKI_012), and nothing about
// that certificate. A nil verifier is the plain one.
func (l *List) VerifyXML(v x509ti.Verifier) error {
	switch err := l.signed.Verify(v); {
	case err == nil:
		return nil
	case errors.Is(err, xmlsig.ErrCertificate):
		return fmt.Errorf("%w: %w", CertExtractionError, err)
	default:
		return fmt.Errorf("%w: %w", XMLSignatureError, err)
	}
}

// CheckSigner checks the signer's certificate of a TSL at a time (TUC_PKI_011): validity (CertificateNotValidTime), key
// usage exactly nonRepudiation, extended key usage tslSigning, and that one of the trust anchors signed it (CANotLoaded
// when none fits by name and key). It returns the anchor.
func (l *List) CheckSigner(at time.Time, anchors []*x509ti.Certificate, v x509ti.Verifier) (*x509ti.Certificate, error) {
	signer, err := l.Signer()
	if err != nil {
		return nil, err
	}
	if !signer.ValidAt(at) {
		return nil, x509ti.CertificateNotValidTime
	}
	for _, f := range x509ti.TSLSIG.Judge(signer) {
		return nil, f.Err
	}
	anchor, err := signer.FindIssuer(anchors)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", CANotLoaded, err)
	}
	if !anchor.ValidAt(at) {
		return nil, fmt.Errorf("%w: trust anchor: %w", CANotLoaded, x509ti.CertificateNotValidTime)
	}
	if err := signer.CheckSignatureFromWith(v, anchor); err != nil {
		return nil, err
	}
	return anchor, nil
}

// Verify is CheckSigner (TUC_PKI_011) and VerifyXML (TUC_PKI_012) of a TSL.
func (l *List) Verify(at time.Time, anchors []*x509ti.Certificate, v x509ti.Verifier) (anchor *x509ti.Certificate, err error) {
	if anchor, err = l.CheckSigner(at, anchors, v); err != nil {
		return nil, err
	}
	return anchor, l.VerifyXML(v)
}

// VerifyVL checks a BNetzA-VL (TUC_PKI_036): its signer is octet by octet one of those that the TSL names (signers), and
// signed it.
func (l *List) VerifyVL(at time.Time, signers []*x509ti.Certificate, v x509ti.Verifier) error {
	signer, err := l.Signer()
	if err != nil {
		return err
	}
	listed := false
	for _, s := range signers {
		listed = listed || s.Fingerprint() == signer.Fingerprint()
	}
	switch {
	case !listed:
		return fmt.Errorf("%w: the signer is not in the TSL", CANotLoaded)
	case !signer.ValidAt(at):
		return x509ti.CertificateNotValidTime
	}
	return l.VerifyXML(v)
}

// Of returns the services of a type.
func (l *List) Of(kind string) []*Service {
	var out []*Service
	for i := range l.Services {
		if l.Services[i].Type == kind {
			out = append(out, &l.Services[i])
		}
	}
	return out
}

// Location returns the address in the pointer with that text, such as "1.2.276.0.76.4.120" for the primary download point;
// "" when the list has none.
func (l *List) Location(text string) string {
	for _, p := range l.Pointers {
		for _, t := range p.Text {
			if t == text {
				return p.Location
			}
		}
	}
	return ""
}

// The texts of the pointers to the list itself.
var (
	TextPrimary = x509ti.TI(120).String()
	TextBackup  = x509ti.TI(121).String()
)

// OIDPlaceholder stands in Extensions where an entry has none.
var OIDPlaceholder = x509ti.TI(124)

// Authorises reports whether the CA of this entry may issue certificates of that type (TUC_PKI_007).
func (s *Service) Authorises(kind x509ti.OID) bool {
	for _, oid := range s.Extensions {
		if oid.Equal(kind) {
			return true
		}
	}
	return false
}

// StateAt returns the state that was in force at a time, from the current one and the history; ok is false when the entry
// says nothing of that time.
func (s *Service) StateAt(t time.Time) (state State, ok bool) {
	if !s.Start.After(t) {
		state, ok = s.State, true
	}
	for i := range s.History {
		if h := &s.History[i]; !h.Start.After(t) && (!ok || h.Start.After(state.Start)) {
			state, ok = *h, true
		}
	}
	return state, ok
}
