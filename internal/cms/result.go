package cms

import "ktradv/internal/x509ti"

// Verdict is the result of a step.
type Verdict uint8

// The verdicts, from the best to the worst.
const (
	NotRun        Verdict = iota // there was nothing to check
	Valid                        // checked and found right; a Reason beside it is a note
	Warning                      // right, but something must be reported, such as a protection that is missing
	Indeterminate                // could not be checked, for example because a certificate is missing
	Invalid                      // checked and found wrong
)

var verdictNames = [...]string{"not-run", "valid", "warning", "indeterminate", "invalid"}

// String returns the verdict as reports have it, for example "not-run".
func (v Verdict) String() string { return verdictNames[v] }

// Step is one part of the core check.
type Step uint8

// The steps, in the order in which they run.
const (
	StepContainer           Step = iota // the message as such: version, digest algorithms, content
	StepSignedAttributes                // each attribute once, with one value; contentType is that of the content
	StepMessageDigest                   // messageDigest is the digest of the content
	StepSignature                       // the signature itself
	StepCertReference                   // sid and signingCertificateV2 name the certificate that the signature was checked with
	StepAlgorithmProtection             // cmsAlgorithmProtection names the algorithms that were used
	StepCountersignature                // countersignatures on this signature; run by VerifyAll
	StepCount
)

var stepNames = [...]string{"container", "signedAttrs", "messageDigest", "signature", "certReference", "algorithmProtection", "countersignature"}

// String returns the step's name as reports have it, for example "messageDigest".
func (s Step) String() string { return stepNames[s] }

// Finding is the result of one step.
type Finding struct {
	Verdict Verdict
	Reason  Reason
}

// Result is what the core check of one signature found, by step.
type Result [StepCount]Finding

// Core returns the worst verdict of the steps that say whether this signature is right. Countersignatures are signatures of
// others: a wrong one does not make this one wrong and is left out.
func (r *Result) Core() Verdict {
	worst := NotRun
	for step, f := range r {
		if Step(step) != StepCountersignature {
			worst = max(worst, f.Verdict)
		}
	}
	return worst
}

// OK reports whether the signature is right, with warnings or without: every step that must run has run, none is worse.
func (r *Result) OK() bool {
	for _, step := range []Step{StepContainer, StepMessageDigest, StepSignature} {
		if r[step].Verdict == NotRun {
			return false
		}
	}
	return r.Core() <= Warning
}

// SignerResult is the core check of one signature with those of its countersignatures.
type SignerResult struct {
	Signer           *SignerInfo
	RawCertificate   []byte              // as in the message; nil when the message does not have it
	Certificate      *x509ti.Certificate // nil when it is missing or cannot be read
	Err              error               // why the certificate, or the countersignatures, cannot be read
	Result           Result
	Countersignature []SignerResult
}

// Reason says why a step has its verdict, or is a note beside Valid.
type Reason uint8

// The reasons.
const (
	NoReason                  Reason = iota
	VersionNote                      // version is not the one that RFC 5652 chapters 5.1 and 5.3 have for such a message
	ContentMissing                   // detached signature without its content
	DigestNotAdmissible              // digest algorithm is not SHA-256, SHA-384 or SHA-512
	DigestNotDeclared                // digest algorithm is not in SignedData.digestAlgorithms
	NoSignedAttributes               // the signature is over the content alone
	AttributesAsContent              // without signed attributes, over a content that is itself a set of signed attributes
	AttributeTwice                   // an attribute that may be there once is there again
	AttributeValues                  // an attribute has no value or several, or one of the wrong kind
	ContentTypeMissing               // no contentType
	ContentTypeMismatch              // contentType is not eContentType
	ContentTypePresent               // a countersignature has a contentType (RFC 5652 chapter 11.4 forbids it)
	MessageDigestMissing             // no messageDigest
	MessageDigestMismatch            // messageDigest is not the digest of the content
	AttributesNotSorted              // signed attributes are signed in the order sent, which is not that of DER
	SignatureNotAdmissible           // signature algorithm or its parameters are not admissible
	SignatureDigestMismatch          // signature algorithm names another digest than digestAlgorithm
	KeyMismatch                      // the certificate's key is of another kind than the signature algorithm
	SignatureEncoding                // ECDSA signature is not DER SEQUENCE { r, s } of numbers that fit the curve
	SignatureMismatch                // the signature does not verify
	SaltLength                       // RSASSA-PSS with a salt that is not as long as the digest
	CertificateMissing               // the signer's certificate is not there or cannot be read
	SignerIDMismatch                 // sid names another certificate
	ReferenceMissing                 // no signingCertificateV2: nothing signed says which certificate was meant
	ReferenceMalformed               // signingCertificate(V2) cannot be read
	ReferenceMismatch                // signingCertificate(V2) names another certificate
	ReferenceSHA1                    // only the old signingCertificate with a SHA-1 hash
	ProtectionMissing                // no cmsAlgorithmProtection
	ProtectionMalformed              // cmsAlgorithmProtection cannot be read
	ProtectionMismatch               // cmsAlgorithmProtection names other algorithms
	CountersignatureMalformed        // countersignature cannot be read
	CountersignatureInvalid          // a countersignature is wrong
	CountersignatureUnchecked        // a countersignature could not be checked
	reasonCount
)

var reasonNames = [reasonCount]string{
	"", "version-differs", "content-missing", "digest-algorithm-not-admissible", "digest-algorithm-not-declared",
	"no-signed-attributes", "signed-attributes-as-content", "attribute-twice", "attribute-values", "content-type-missing",
	"content-type-mismatch", "content-type-in-countersignature", "message-digest-missing", "message-digest-mismatch",
	"signed-attributes-not-sorted", "signature-algorithm-not-admissible", "signature-algorithm-digest-mismatch",
	"key-mismatch", "signature-encoding", "signature-mismatch", "pss-salt-length", "certificate-missing",
	"signer-id-mismatch", "certificate-reference-missing", "certificate-reference-malformed",
	"certificate-reference-mismatch", "certificate-reference-sha1", "algorithm-protection-missing",
	"algorithm-protection-malformed", "algorithm-protection-mismatch", "countersignature-malformed",
	"countersignature-invalid", "countersignature-not-checked",
}

// String returns the reason as reports have it, for example "message-digest-mismatch"; "" for NoReason.
func (r Reason) String() string { return reasonNames[r] }
