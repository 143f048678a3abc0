package erezept

import (
	"fmt"
	"slices"
	"time"
)

// Verdict is the outcome of a step, of a record or of a case. The zero value says that nothing was checked, so that a
// forgotten step never looks like a good one.
type Verdict uint8

// The verdicts.
const (
	NotRun        Verdict = iota // not reached, or not applicable
	Valid                        // checked and in order
	Warning                      // valid, with something that a person should know
	Indeterminate                // could not be checked; says nothing against the record
	Invalid                      // checked and wrong
)

var verdictNames = [...]string{"not-run", "valid", "valid-with-warnings", "indeterminate", "invalid"}

// String returns the name that stands in reports.
func (v Verdict) String() string {
	if int(v) >= len(verdictNames) {
		return fmt.Sprintf("verdict %d", uint8(v))
	}
	return verdictNames[v]
}

// MarshalText writes the name.
func (v Verdict) MarshalText() ([]byte, error) {
	if int(v) >= len(verdictNames) {
		return nil, fmt.Errorf("erezept: no such verdict: %d", uint8(v))
	}
	return []byte(verdictNames[v]), nil
}

// UnmarshalText reads the name.
func (v *Verdict) UnmarshalText(b []byte) error {
	i := slices.Index(verdictNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("erezept: no such verdict: %q", b)
	}
	*v = Verdict(i)
	return nil
}

// OK reports whether the thing may be accepted: valid, with or without warnings.
func (v Verdict) OK() bool { return v == Valid || v == Warning }

// Kind is what a record is.
type Kind string

// The kinds. The first three make a case.
const (
	Prescription Kind = "verordnung" // Verordnungsdatensatz: QES of a doctor
	Dispensing   Kind = "abgabe"     // Abgabedatensatz: QES of a pharmacist or signature of the pharmacy
	Receipt      Kind = "quittung"   // Quittung: signature of the Fachdienst
	SickNote     Kind = "eau"        // elektronische Arbeitsunfähigkeitsbescheinigung: checked on its own (ERP-29)
	Document     Kind = "dokument"   // anything else that is signed: the signature is checked, the content is not read
	Unknown      Kind = ""           // as a wish: take what the content says
)

// ParseKind reads a kind as reports, streams and the command line spell it; "" and "auto" are Unknown.
func ParseKind(s string) (Kind, error) {
	switch k := Kind(s); k {
	case Prescription, Dispensing, Receipt, SickNote, Document, Unknown:
		return k, nil
	case "auto":
		return Unknown, nil
	}
	return Unknown, fmt.Errorf("no such kind of record: %q; want verordnung, abgabe, quittung, eau, dokument or auto", s)
}

// StepID names a step of the check. The steps of a record come in this order, then those of a case.
type StepID uint8

// The steps.
const (
	StepContainer      StepID = iota // the bytes hold one CMS SignedData with one signer and content
	StepKind                         // the content is the kind of record that was asked for
	StepSigner                       // the certificate that SignerInfo.sid names is there
	StepAttributes                   // signed attributes: present once, contentType fits
	StepDigest                       // messageDigest is the hash of the content octets
	StepSignature                    // the core signature
	StepReference                    // signingCertificate(V2) names the signer's certificate
	StepAlgorithm                    // algorithms, key type and size; cmsAlgorithmProtection
	StepSigningTime                  // signingTime is there and not in the future
	StepList                         // a trust list speaks of the reference time
	StepCertTime                     // TUC_PKI_002
	StepCA                           // TUC_PKI_003: issuer in TSL or trusted list
	StepCertSignature                // TUC_PKI_004
	StepCAStatus                     // issuer valid at signing time
	StepQCStatements                 // TUC_PKI_030: qualified certificates only
	StepType                         // TUC_PKI_007: certificate type
	StepRole                         // TUC_PKI_009: role
	StepKeyUsage                     // key usage
	StepCritical                     // critical extensions are known ones (GS-A_4661)
	StepStatus                       // revocation status at signing time
	StepCountersign                  // countersignatures
	StepPrescriptionID               // the record's Rezept-ID: there, equal at all places, check digits
	StepContent                      // content rules: inner Bundle without signature, outer copy equal
	StepComplete                     // the case has all three records, one of each kind
	StepLinkID                       // one Rezept-ID in all three
	StepLinkHash                     // the digest in the receipt is the one of the prescription
	StepTimeOrder                    // prescription before dispensing and receipt
	numSteps
)

// numRecordSteps is the number of steps of a record; those of a case follow.
const numRecordSteps = StepComplete

var stepNames = [...]string{"container", "kind", "signer", "signed-attributes", "message-digest", "signature",
	"certificate-reference", "algorithm", "signing-time", "trust-list", "certificate-time", "ca", "certificate-signature", "ca-status",
	"qc-statements", "certificate-type", "role", "key-usage", "critical-extensions", "status", "countersignatures",
	"rezept-id", "content", "complete", "same-rezept-id", "prescription-digest", "order-of-times"}

// String returns the name that stands in reports.
func (s StepID) String() string {
	if int(s) >= len(stepNames) {
		return fmt.Sprintf("step %d", uint8(s))
	}
	return stepNames[s]
}

// MarshalText writes the name.
func (s StepID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name.
func (s *StepID) UnmarshalText(b []byte) error {
	i := slices.Index(stepNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("erezept: no such step: %q", b)
	}
	*s = StepID(i)
	return nil
}

// Step is the outcome of one step.
type Step struct {
	ID      StepID  `json:"id"`
	Verdict Verdict `json:"verdict"`
	// Code is the number of the finding: 1000 to 1099 of gemSpec_PKI Tab_PKI_274, 12000 and above of this package
	// (Findings). 0 when there is nothing to say.
	Code Code `json:"code,omitempty"`
	// Detail says in English what was found, without data of persons.
	Detail string `json:"detail,omitempty"`
}

// Report is the result for one record. It holds everything that an archive needs (ERP-28) and no data of the insured
// person.
type Report struct {
	Kind    Kind    `json:"kind"`            // asked for, or found when nothing was asked for
	Found   Kind    `json:"found,omitempty"` // what the content says it is
	Profile string  `json:"profile,omitempty"`
	Verdict Verdict `json:"verdict"`
	Input   Input   `json:"input"`

	PrescriptionIDs []PlacedID `json:"rezept_ids,omitempty"`
	Digest          string     `json:"prescription_digest,omitempty"` // that the receipt carries, hexadecimal
	ContentDigest   string     `json:"content_sha256,omitempty"`      // of the signed content

	SigningTime   *time.Time `json:"signing_time,omitempty"`   // as the signer claims
	ReferenceTime *time.Time `json:"reference_time,omitempty"` // for which certificate and issuer were judged

	Signer            *Signer            `json:"signer,omitempty"`
	Trust             *TrustList         `json:"trust,omitempty"`
	Status            *Status            `json:"status,omitempty"`
	Steps             []Step             `json:"steps"`
	Countersignatures []Countersignature `json:"countersignatures,omitempty"`
	OtherCertificates []string           `json:"other_certificates,omitempty"` // SHA-256 of certificates that are not the signer's
	Transitions       []string           `json:"transitions,omitempty"`        // names of the transition rules that were applied
}

// Input identifies what was checked: what was given, or of a container with several messages the message.
type Input struct {
	SHA256   string `json:"sha256,omitempty"`
	Size     int64  `json:"size"`
	Encoding string `json:"encoding,omitempty"` // BER or DER
	Wrapper  string `json:"wrapper,omitempty"`  // in what the container was wrapped
}

// PlacedID is a Rezept-ID and where it stands.
type PlacedID struct {
	ID    string `json:"id"`
	Place string `json:"place"`
}

// Signer describes the certificate of the signer.
type Signer struct {
	Subject      string   `json:"subject,omitempty"`
	Issuer       string   `json:"issuer,omitempty"`
	Serial       string   `json:"serial"`
	SHA256       string   `json:"sha256"`
	NotBefore    string   `json:"not_before"`
	NotAfter     string   `json:"not_after"`
	Profile      string   `json:"profile,omitempty"`
	Policies     []string `json:"policies,omitempty"` // with the certificate type among them
	Roles        []string `json:"roles,omitempty"`
	Registration string   `json:"telematik_id,omitempty"`
	KeyUsage     []string `json:"key_usage,omitempty"`
	Key          string   `json:"key"`
	Admissible   string   `json:"admissible"` // ok, phased out or not admissible, at the reference time; "" without one
}

// TrustList identifies the list by which the issuer was judged.
type TrustList struct {
	Kind     string `json:"kind"` // tsl or vl
	ID       string `json:"id,omitempty"`
	Sequence int64  `json:"sequence,omitempty"`
	SHA256   string `json:"sha256,omitempty"`
	// Selected is "at-time" for the list that was in force at the reference time and "current" when that one is not in the
	// archive.
	Selected string `json:"selected,omitempty"`
}

// Status says how the revocation status was found.
type Status struct {
	Source        string     `json:"source"` // embedded, cache, online or forwarder
	Status        string     `json:"status"` // good, revoked or unknown
	ProducedAt    *time.Time `json:"produced_at,omitempty"`
	ThisUpdate    *time.Time `json:"this_update,omitempty"`
	RevokedAt     *time.Time `json:"revoked_at,omitempty"`
	AgeAtSigning  string     `json:"age_at_signing,omitempty"` // reference time minus producedAt; negative when it is younger
	Responder     string     `json:"responder,omitempty"`
	ResponderHash string     `json:"responder_sha256,omitempty"`
	Authorized    string     `json:"responder_authorized_by,omitempty"`
	CertHash      bool       `json:"cert_hash"`          // the answer has the hash of the certificate, and it fits
	Response      []byte     `json:"response,omitempty"` // the OCSP response, for the archive
}

// Countersignature is the outcome of the check of one countersignature. It never makes a record better.
type Countersignature struct {
	Signer      string     `json:"signer,omitempty"`
	Certificate string     `json:"certificate_sha256,omitempty"`
	SigningTime *time.Time `json:"signing_time,omitempty"`
	Verdict     Verdict    `json:"verdict"`
	Code        Code       `json:"code,omitempty"`
	Detail      string     `json:"detail,omitempty"`
}

// CaseReport is the result for one billing case, or for one record that was checked on its own.
type CaseReport struct {
	ID             string    `json:"id,omitempty"` // the caller's
	Verdict        Verdict   `json:"verdict"`
	PrescriptionID string    `json:"rezept_id,omitempty"` // when all three agree
	CheckedAt      time.Time `json:"checked_at"`
	ClockSet       bool      `json:"clock_set,omitempty"` // checked_at is not the real time
	Tool           string    `json:"tool"`
	Steps          []Step    `json:"steps,omitempty"` // of the case; none for a single record
	Records        []*Report `json:"records,omitempty"`
}
