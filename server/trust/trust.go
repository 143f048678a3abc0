// Package trust is the trust space of the server (gemSpec_PKI chapter 8): which certificate authorities and OCSP responders
// count at which time, taken from every TSL and BNetzA-VL that was ever accepted, and the check of a certificate against
// them (TUC_PKI_018 and its parts, TUC_PKI_030 for qualified certificates).
//
// A [Space] is an immutable snapshot, safe for concurrent use; an [Updater] makes the next one. A result is built up from
// steps, and nothing is valid by omission: what could not be looked at is indeterminate.
package trust

import (
	"context"
	"time"

	"ktradv/internal/ocsp"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
)

// Verdict is what came of a step or of a whole check.
type Verdict int

// NotRun is the zero value: the step was not reached, or does not concern this certificate.
const (
	NotRun Verdict = iota
	Valid
	Warnings      // valid, and something has to be said about it
	Indeterminate // could not be checked
	Invalid
)

// String returns the word for reports.
func (v Verdict) String() string {
	switch v {
	case Valid:
		return "valid"
	case Warnings:
		return "valid-with-warnings"
	case Indeterminate:
		return "indeterminate"
	case Invalid:
		return "invalid"
	}
	return "not-run"
}

// MarshalText is String, for reports as JSON.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// Worse returns the worse of two verdicts; invalid is worse than indeterminate, because it is certain.
func (v Verdict) Worse(w Verdict) Verdict { return max(v, w) }

// Steps of the check of a certificate, beside those of x509ti (StepKeyUsage and so on).
const (
	StepList          = "list"          // a list that speaks of the reference time, and its age (1008, 1009)
	StepCertTime      = "certTime"      // TUC_PKI_002
	StepCA            = "caFound"       // TUC_PKI_003
	StepCertSignature = "certSignature" // TUC_PKI_004
	StepCAStatus      = "caStatus"      // TUC_PKI_018 step 5; TUC_PKI_030: qualified when it issued the certificate
	StepQCStatements  = "qcStatements"  // TUC_PKI_030
	StepAdmissible    = "algorithm"     // strength of the keys at the reference time
	StepStatus        = "ocsp"          // TUC_PKI_006
)

// Step is one step of a check.
type Step struct {
	ID      string  `json:"id"`
	Verdict Verdict `json:"verdict"`
	Code    int     `json:"code,omitempty"` // Tab_PKI_274, or 12037 to 12039 of this package; 0 when the step passed or its finding has none
	Text    string  `json:"text,omitempty"` // English, without personal data
}

// ListRef names the list that a result stands on.
type ListRef struct {
	Kind     tsl.Kind  `json:"kind"`
	ID       string    `json:"id,omitempty"`
	Sequence uint64    `json:"sequence"`
	SHA256   string    `json:"sha256"`
	Issued   time.Time `json:"issued"`
	// Selected says why this list: "at-time" (the one in force at the reference time) or "current" (no list of that time is
	// in the archive).
	Selected string `json:"selected"`
}

// OCSPFacts says what the status of a certificate stands on.
type OCSPFacts struct {
	Source        string    `json:"source"` // "embedded", "cache", "online" or "forwarder"
	Status        string    `json:"status"` // GOOD, REVOKED, UNKNOWN
	RevokedAt     time.Time `json:"revoked_at,omitzero"`
	ProducedAt    time.Time `json:"produced_at"`
	ThisUpdate    time.Time `json:"this_update,omitzero"`
	AgeSeconds    float64   `json:"age_seconds"` // reference time less ProducedAt; negative: the answer is younger
	Responder     string    `json:"responder,omitempty"`
	ResponderHash string    `json:"responder_sha256,omitempty"`
	Authorised    string    `json:"responder_authorised,omitempty"` // "listed" or "issued"
	CertHash      bool      `json:"cert_hash"`                      // present and checked
	Raw           []byte    `json:"-"`                              // the answer as it came, for the archive; nil from a cache
}

// Options say how a certificate is checked.
type Options struct {
	// At is the reference time: the signing time of a record, now for a connection. Zero is Now.
	At time.Time
	// Now is the time of the check; zero is the clock of the space.
	Now time.Time
	// Profiles of which the certificate must have one. Their QES flag decides which list counts. At least one.
	Profiles []x509ti.Profile
	// Embedded are OCSP responses (DER) that came with the certificate. They are input evidence only: one that cannot be
	// used is reported (1050) and the status is asked for elsewhere.
	Embedded [][]byte
	// MaxAge of an embedded response at the reference time; zero is that of [EmbeddedAge].
	MaxAge time.Duration
	// Status is asked when no embedded response counts; nil leaves the status indeterminate.
	Status StatusSource
	// Offline: the caller does without the status on purpose, as TUC_PKI_018 allows; reported as 1039.
	Offline bool
	// TolerateStatusFailure (TOLERATE_OCSP_FAILURE): a status that cannot be found out is a warning (1028).
	TolerateStatusFailure bool
	// Model of validity of the CA's own certificate.
	Model Model
	// Cache keeps what does not depend on the status; nil is none.
	Cache *ChainCache
	// Verifier for brainpool keys; nil is the plain one.
	Verifier x509ti.Verifier
}

// Result is what came of a check.
type Result struct {
	Verdict Verdict `json:"verdict"`
	Steps   []Step  `json:"steps"`

	Profile string              `json:"profile,omitempty"` // the one of Options.Profiles that fits
	Type    x509ti.OID          `json:"-"`                 // certificate type
	Roles   []x509ti.OID        `json:"-"`
	CA      *x509ti.Certificate `json:"-"`
	List    ListRef             `json:"list"`
	OCSP    *OCSPFacts          `json:"ocsp,omitempty"` // nil when no answer counted
}

// StatusQuery asks for the status of a certificate whose signature was checked before.
type StatusQuery struct {
	Certificate, Issuer *x509ti.Certificate
	URL                 string                // of the responder; "" when none is known
	Responders          []*x509ti.Certificate // trusted by name
	ListedOnly          bool                  // see ocsp.Check
	// Listed is as in ocsp.Check: the lists may refuse a responder that the CA has issued. Nil refuses none.
	Listed         func(signer *x509ti.Certificate, producedAt time.Time) (listed, refused bool)
	IgnoreCertHash bool
	Nonce          bool   // send one (responders for qualified certificates)
	Profile        string // of the certificate, for the way by which it is asked about
	At, Now        time.Time
	NoReuse        bool // never use an answer older than the grace period (certificates that may be suspended)
	Verifier       x509ti.Verifier
}

// StatusAnswer is an answer that passed every check.
type StatusAnswer struct {
	ocsp.Result
	Source string // "cache", "online" or "forwarder"
	Raw    []byte
}

// StatusSource finds out the status of a certificate. It must be safe for concurrent use. Errors are findings of package
// ocsp (x509ti.Error); any other error counts as OCSP_NOT_AVAILABLE.
type StatusSource interface {
	Status(ctx context.Context, q StatusQuery) (StatusAnswer, error)
}

// EmbeddedAge is the longest admissible age of an embedded response at the signing time when Options.MaxAge is zero: the
// grace periods of the E-Rezept service, 24 hours for C.FD.SIG and C.FD.OSIG, 12 hours for C.HP.QES and C.HCI.OSIG, one hour
// for everything else.
func EmbeddedAge(p x509ti.Profile) time.Duration {
	switch p.Name {
	case x509ti.FDSIG.Name, x509ti.FDOSIG.Name:
		return 24 * time.Hour
	case x509ti.HPQES.Name, x509ti.HCIOSIG.Name:
		return 12 * time.Hour
	}
	return time.Hour
}
