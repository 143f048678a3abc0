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
	Responders  []*x509ti.Certificate // responders trusted by name (TSL entries Certstatus/OCSP)

	Now       time.Time
	Tolerance time.Duration // zero is Tolerance (37.5 s)
	Nonce     []byte        // of the request; nil without one

	// IgnoreCertHash switches the certHash check off (ENFORCE_CERTHASH_CHECK = false), which gemSpec_PKI allows for some
	// certificates, those of health cards among them.
	IgnoreCertHash bool
}

// Result is an answer that passed every check.
type Result struct {
	Status                 Status
	RevokedAt              time.Time // with Revoked
	ProducedAt, ThisUpdate time.Time
}

// Verify judges the answer (TUC_PKI_006). The status counts only when the error is nil:
//
//   - CertMissing: no responder certificate in the answer is trusted and fits its name;
//   - SignatureError: the signature does not verify under the responder's key;
//   - CheckRevocationError: the answer is about another certificate, or its times are outside the tolerance;
//   - CertHashMissing, CertHashMismatch: it is not about these very octets;
//   - NonceMismatch: it does not answer this request.
//
// A revocation later than Now leaves the certificate good at that time.
func (r *Response) Verify(c Check) (Result, error) {
	if c.Tolerance == 0 {
		c.Tolerance = Tolerance
	}
	if err := r.verifySigner(c); err != nil {
		return Result{}, err
	}
	if c.Nonce != nil && !bytes.Equal(r.nonce, c.Nonce) {
		return Result{}, NonceMismatch
	}
	s, err := r.find(c)
	if err != nil {
		return Result{}, err
	}
	if off := c.Now.Sub(r.ProducedAt).Abs(); off > c.Tolerance {
		return Result{}, because(CheckRevocationError, "producedAt is outside the tolerance")
	}
	if s.thisUpdate.Sub(c.Now) > c.Tolerance {
		return Result{}, because(CheckRevocationError, "thisUpdate lies in the future")
	}
	if !s.nextUpdate.IsZero() && c.Now.Sub(s.nextUpdate) > c.Tolerance {
		return Result{}, because(CheckRevocationError, "nextUpdate is past")
	}
	if !c.IgnoreCertHash {
		if !s.hasCertHash {
			return Result{}, CertHashMissing
		}
		if s.certHashFunction == 0 || !bytes.Equal(s.certHash, digest(s.certHashFunction, c.Certificate.Raw)) {
			return Result{}, CertHashMismatch
		}
	}
	result := Result{Status: s.status, ProducedAt: r.ProducedAt, ThisUpdate: s.thisUpdate}
	if s.status == Revoked {
		if s.revokedAt.After(c.Now) {
			result.Status = Good
		} else {
			result.RevokedAt = s.revokedAt
		}
	}
	return result, nil
}

// verifySigner looks for the responder among the certificates of the answer and checks its signature.
func (r *Response) verifySigner(c Check) error {
	found := false
	for _, signer := range r.certificates {
		if !r.namedBy(signer) || !trusted(signer, c) {
			continue
		}
		found = true
		if x509ti.CheckSignature(signer.PublicKey, r.algorithm, r.tbs, r.signature) == nil {
			return nil
		}
	}
	if found {
		return SignatureError
	}
	return CertMissing
}

// namedBy reports whether the answer names this certificate as its responder.
func (r *Response) namedBy(signer *x509ti.Certificate) bool {
	if r.responderName != nil {
		return bytes.Equal(r.responderName, signer.RawSubject)
	}
	key := sha1.Sum(signer.PublicKeyBits)
	return bytes.Equal(r.responderKey, key[:])
}

// trusted: in the list octet by octet, or issued by the certificate's CA for signing OCSP answers and valid now.
func trusted(signer *x509ti.Certificate, c Check) bool {
	for _, t := range c.Responders {
		if bytes.Equal(t.Raw, signer.Raw) {
			return true
		}
	}
	return signer.HasExtKeyUsage(x509ti.OIDOCSPSigning) && signer.ValidAt(c.Now) && len(signer.UnhandledCritical) == 0 &&
		signer.CheckSignatureFrom(c.Issuer) == nil
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
