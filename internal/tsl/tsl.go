// Package tsl reads the lists of trusted services on which certificate checks stand: the TSL of the telematics
// infrastructure (gemSpec_TSL, ETSI TS 102 231) and the trusted list of the Bundesnetzagentur for qualified certificates
// (BNetzA-VL, ETSI TS 119 612). Both are the same kind of XML document with an enveloped XAdES signature.
//
// [Parse] takes the content from the canonical octets that the signature covers and from nowhere else; nothing in a List is
// true before [List.Verify] says so. Findings are values of type *[x509ti.Error] with the codes of Tab_PKI_274.
package tsl

import (
	"crypto/sha256"
	"time"

	"ktradv/internal/x509ti"
)

// MaxSize is the largest list that is read, in octets. Those of the telematics infrastructure have below a million.
const MaxSize = 16 << 20

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
}

// Service is one entry of a list.
type Service struct {
	Provider string // name of the trust service provider
	Name     string
	Type     string
	State            // the current one
	History  []State // older ones, youngest first; the TSL has none

	Certificates []*x509ti.Certificate // of X509Certificate
	Unreadable   int                   // certificates of this entry that cannot be read
	Other        [][]byte              // content of Other, such as CVC keys
	SupplyPoints []string              // the first is the OCSP responder's address
	Extensions   []x509ti.OID          // certificate types that the CA may issue, and marks
}

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

	Hash   [sha256.Size]byte   // of the file as it came
	Signer *x509ti.Certificate // the certificate in KeyInfo, untrusted before Verify

	signature signature
}
