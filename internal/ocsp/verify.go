package ocsp

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	"time"

	"ktradv/internal/x509ti"
)

// Check is what an answer is judged against.
type Check struct {
	Certificate *x509ti.Certificate   // the certificate that was asked about
	Issuer      *x509ti.Certificate   // its CA, found and checked before
	Responders  []*x509ti.Certificate // responders trusted by name (entries Certstatus/OCSP of TSL or VL)
	// Listed finds responders trusted by name beside Responders, for the time when the answer was made; nil is none. refused
	// says that the list knows the signer and does not let it answer then: such a one does not count although the
	// certificate's CA issued it.
	Listed func(signer *x509ti.Certificate, producedAt time.Time) (listed, refused bool)

	// ListedOnly accepts a responder only when it stands in Responders or Listed octet by octet: the rule for certificates below the
	// TSL. Without it a responder is accepted, too, that the certificate's CA issued for signing OCSP answers: the rule for
	// qualified certificates, and for a caller without a list.
	ListedOnly bool

	Now       time.Time     // when the answer arrived; the bound of what it may say about the future
	Tolerance time.Duration // zero is Tolerance (37.5 s)
	Nonce     []byte        // of the request; nil without one
	// RequireNonce refuses an answer that does not repeat the nonce of the request (RFC 6960 leaves that to the client; an
	// answer made in advance cannot). Without it the time of the answer decides; another nonce is always refused.
	RequireNonce bool

	// Reference is the time for which the status is wanted, the signing time for signed records; zero is Now. A
	// certificate that was revoked later than that was good then.
	Reference time.Time
	// Embedded says that the answer was kept with the signature or in a cache: not its distance from Now counts but its
	// age at Reference, which may be MaxAge. An answer made after Reference may have any age.
	Embedded bool
	MaxAge   time.Duration

	// IgnoreCertHash switches the certHash check off (ENFORCE_CERTHASH_CHECK = false), which gemSpec_PKI allows for some
	// certificates, those of health cards among them.
	IgnoreCertHash bool

	Verifier x509ti.Verifier // for brainpool keys; nil is the plain one

	// Issued checks that issuer signed the responder's certificate, as x509ti.Certificate.CheckSignatureFromWith does; nil is
	// that one. A caller who sees the same responder again and again may remember what came of it.
	Issued func(signer, issuer *x509ti.Certificate) error
}

// Authorisation says why a responder was accepted.
type Authorisation string

// The reasons.
const (
	Listed Authorisation = "listed" // octet by octet in the list of responders
	Issued Authorisation = "issued" // by the certificate's CA, for signing OCSP answers
)

// Result is an answer that passed every check.
type Result struct {
	Status                 Status
	RevokedAt              time.Time // with Revoked, and with Good when the revocation came after the reference time
	ProducedAt, ThisUpdate time.Time
	NextUpdate             time.Time           // zero: absent
	Age                    time.Duration       // reference time less ProducedAt; negative when the answer is younger
	Responder              *x509ti.Certificate // who signed it
	Authorisation          Authorisation
	CertHash               bool // the answer carries the hash of the certificate, and it was checked
	NoNonce                bool // the request had a nonce and the answer has none
}

// Verify judges the answer (TUC_PKI_006). The status counts only when the error is nil:
//
//   - CertMissing: no responder certificate in the answer is trusted and fits its name;
//   - SignatureError: the signature does not verify under the responder's key;
//   - CheckRevocationError: the answer is about another certificate, or its times are outside the tolerance;
//   - CertHashMissing, CertHashMismatch: it is not about these very octets;
//   - NonceMismatch: it does not answer this request; an answer without a nonce is one when RequireNonce is set.
//
// A revocation later than the reference time leaves the certificate good at that time.
func (r *Response) Verify(c Check) (Result, error) {
	signer, err := r.VerifySigner(c)
	if err != nil {
		return Result{}, err
	}
	return r.Judge(c, signer)
}

// Signer is who signed an answer, and why that counts.
type Signer struct {
	Certificate   *x509ti.Certificate
	Authorisation Authorisation
}

// Judge is the part of Verify that comes after VerifySigner, whose outcome for the same issuer and responders may be kept:
// it costs no signature check.
func (r *Response) Judge(c Check, signer Signer) (Result, error) {
	if c.Tolerance == 0 {
		c.Tolerance = Tolerance
	}
	if c.Reference.IsZero() {
		c.Reference = c.Now
	}
	result := Result{
		ProducedAt: r.ProducedAt, Age: c.Reference.Sub(r.ProducedAt), Responder: signer.Certificate, Authorisation: signer.Authorisation,
	}
	switch {
	case c.Nonce == nil || bytes.Equal(r.nonce, c.Nonce):
	case r.nonce == nil && !c.RequireNonce:
		result.NoNonce = true
	default:
		return Result{}, NonceMismatch
	}
	s, err := r.find(c)
	if err != nil {
		return Result{}, err
	}
	result.ThisUpdate, result.NextUpdate = s.thisUpdate, s.nextUpdate
	if err := r.checkTimes(c, s); err != nil {
		return Result{}, err
	}
	if !c.IgnoreCertHash {
		if !s.hasCertHash {
			return Result{}, CertHashMissing
		}
		if s.certHashFunction == 0 || !bytes.Equal(s.certHash, digest(s.certHashFunction, c.Certificate.Raw)) {
			return Result{}, CertHashMismatch
		}
		result.CertHash = true
	}
	result.Status = s.status
	if s.status == Revoked {
		result.RevokedAt = s.revokedAt
		if s.revokedAt.After(c.Reference) {
			result.Status = Good
		}
	}
	return result, nil
}

// checkTimes: an online answer was made now; a kept one before now and, when it is older than the reference time, not by
// more than MaxAge. thisUpdate and nextUpdate hold at the time for which the answer stands.
func (r *Response) checkTimes(c Check, s *single) error {
	at := c.Now
	switch {
	case !c.Embedded:
		if c.Now.Sub(r.ProducedAt).Abs() > c.Tolerance {
			return because(CheckRevocationError, "producedAt is outside the tolerance")
		}
	case r.ProducedAt.Sub(c.Now) > c.Tolerance:
		return because(CheckRevocationError, "producedAt lies in the future")
	case c.Reference.Sub(r.ProducedAt) > c.MaxAge:
		return because(CheckRevocationError, "older than the longest admissible age at the reference time")
	default:
		at = c.Reference
		if r.ProducedAt.After(at) {
			at = r.ProducedAt
		}
	}
	if s.thisUpdate.Sub(at) > c.Tolerance {
		return because(CheckRevocationError, "thisUpdate lies in the future")
	}
	if !s.nextUpdate.IsZero() && at.Sub(s.nextUpdate) > c.Tolerance {
		return because(CheckRevocationError, "nextUpdate is past")
	}
	return nil
}

// VerifySigner looks for the responder among the certificates of the answer and checks its signature: CertMissing and
// SignatureError, as Verify has them.
func (r *Response) VerifySigner(c Check) (Signer, error) {
	found := false
	for _, signer := range r.certificates {
		if !r.namedBy(signer) {
			continue
		}
		who := authorised(signer, c, r.ProducedAt)
		if who.Certificate == nil {
			continue
		}
		found = true
		if x509ti.CheckSignatureWith(c.Verifier, signer.PublicKey, r.algorithm, r.tbs, r.signature) == nil {
			return who, nil
		}
	}
	if found {
		return Signer{}, SignatureError
	}
	return Signer{}, CertMissing
}

// namedBy reports whether the answer names this certificate as its responder.
func (r *Response) namedBy(signer *x509ti.Certificate) bool {
	if r.responderName != nil {
		return bytes.Equal(r.responderName, signer.RawSubject)
	}
	key := sha1.Sum(signer.PublicKeyBits)
	return bytes.Equal(r.responderKey, key[:])
}

// Compact drops what only VerifySigner needs, for answers that are kept in memory.
func (r *Response) Compact() { r.certificates, r.tbs, r.algorithm, r.signature = nil, nil, nil, nil }

// authorised says why the signer may answer, with no certificate when it may not: in the list octet by octet (then it is the
// list's own certificate), or issued by the certificate's CA for signing OCSP answers and valid when it made this one.
func authorised(signer *x509ti.Certificate, c Check, producedAt time.Time) Signer {
	for _, t := range c.Responders {
		if bytes.Equal(t.Raw, signer.Raw) {
			return Signer{t, Listed}
		}
	}
	if c.Listed != nil {
		switch listed, refused := c.Listed(signer, producedAt); {
		case listed:
			return Signer{signer, Listed}
		case refused:
			return Signer{}
		}
	}
	if !c.ListedOnly && signer.HasExtKeyUsage(x509ti.OIDOCSPSigning) && signer.ValidAt(producedAt) && len(signer.UnhandledCritical) == 0 &&
		c.issued(signer) == nil {
		return Signer{signer, Issued}
	}
	return Signer{}
}

// issued checks that the certificate's CA signed the responder's certificate.
func (c *Check) issued(signer *x509ti.Certificate) error {
	if c.Issued != nil {
		return c.Issued(signer, c.Issuer)
	}
	return signer.CheckSignatureFromWith(c.Verifier, c.Issuer)
}

// About reports whether the answer has a single response whose CertID is that of the certificate.
func (r *Response) About(cert, issuer *x509ti.Certificate) bool {
	_, err := r.find(Check{Certificate: cert, Issuer: issuer})
	return err == nil
}

// find returns the one answer whose CertID is that of the certificate.
func (r *Response) find(c Check) (*single, error) {
	var found *single
	for i := range r.singles {
		s := &r.singles[i]
		if s.serial.Cmp(c.Certificate.Serial) != 0 || !bytes.Equal(s.nameHash, digest(s.hash, c.Certificate.RawIssuer)) ||
			!bytes.Equal(s.keyHash, digest(s.hash, c.Issuer.PublicKeyBits)) {
			continue
		}
		if found != nil {
			return nil, because(CheckRevocationError, "two answers about the certificate")
		}
		found = s
	}
	if found == nil {
		return nil, because(CheckRevocationError, "no answer about the certificate")
	}
	return found, nil
}

func digest(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}
