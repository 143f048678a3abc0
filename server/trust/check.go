package trust

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ktradv/internal/ocsp"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
)

// Findings of this package, beside those of x509ti, ocsp and tsl.
var (
	CARevokedInTSL    = &x509ti.Error{Code: 1036, Name: "CA_CERTIFICATE_REVOKED_IN_TSL"}
	NoOCSPCheck       = &x509ti.Error{Code: 1039, Name: "NO_OCSP_CHECK"}
	CertUnknown       = &x509ti.Error{Code: 1044, Name: "CERT_UNKNOWN"}
	CertRevoked       = &x509ti.Error{Code: 1047, Name: "CERT_REVOKED"}
	ProvidedOCSP      = &x509ti.Error{Code: 1050, Name: "PROVIDED_OCSP_RESPONSE_NOT_VALID"}
	CANotQualified    = &x509ti.Error{Code: 1059, Name: "CA_CERTIFICATE_NOT_QES_QUALIFIED"}
	CATypeNotAllowed  = &x509ti.Error{Code: 1061, Name: "CERT_TYPE_CA_NOT_AUTHORIZED"}
	CARevokedInVL     = &x509ti.Error{Code: 1062, Name: "CA_CERTIFICATE_REVOKED_IN_BNETZA_VL"}
	RevocationSkipped = &x509ti.Error{Code: 1028, Name: "OCSP_CHECK_REVOCATION_FAILED"}

	// CANotListed: the list of the reference time names the CA and the newest one does not. Compromised CAs are removed from
	// the TSL altogether, and so are those that have ended; the list does not say which it was. Tab_PKI_274 has no number for
	// that.
	CANotListed = &x509ti.Error{Code: 12037, Name: "CA_NOT_LISTED_ANY_MORE"}
	// QualificationUndecided: the BNetzA-VL says something of some certificates of the CA, and it is not understood whether of
	// this one, or what it says.
	QualificationUndecided = &x509ti.Error{Code: 12038, Name: "QUALIFICATION_UNDECIDED"}
	// NoQSCDByList: the BNetzA-VL says that the keys of such certificates are not in a qualified signature creation device.
	NoQSCDByList = &x509ti.Error{Code: 12039, Name: "NO_QSCD_BY_LIST"}
)

// verdictOf says what a finding means for the certificate. A finding that leaves open whether the certificate is good is
// indeterminate; the others are certain.
var verdictOf = map[int]Verdict{
	1008: Warnings, 1009: Indeterminate, 1060: Indeterminate,
	1019: Indeterminate,                      // cannot be read
	1023: Indeterminate, 1027: Indeterminate, // ETSI EN 319 102-1: no chain found
	1026: Indeterminate, 1028: Warnings, 1029: Indeterminate, 1030: Indeterminate, 1031: Indeterminate, 1032: Indeterminate,
	1039: Warnings, 1040: Indeterminate, 1041: Invalid, 1044: Invalid, 1047: Invalid, 1050: Warnings, 1051: Indeterminate,
	1058: Indeterminate,
	1016: Invalid, 1017: Invalid, 1018: Invalid, 1021: Invalid, 1024: Invalid, 1033: Invalid, 1036: Invalid, 1048: Invalid,
	1059: Invalid, 1061: Invalid, 1062: Invalid,
	12037: Warnings, 12038: Indeterminate, 12039: Warnings,
}

// stepOf makes the step of a finding.
func stepOf(id string, err error) Step {
	var finding *x509ti.Error
	if errors.As(err, &finding) {
		verdict := verdictOf[finding.Code]
		if verdict == NotRun {
			verdict = Indeterminate
		}
		return Step{id, verdict, finding.Code, err.Error()}
	}
	if errors.Is(err, x509ti.ErrCritical) || errors.Is(err, x509ti.ErrRole) {
		return Step{id, Invalid, 0, err.Error()}
	}
	return Step{id, Indeterminate, 0, err.Error()}
}

// chain is what does not depend on reference time and status.
type chain struct {
	steps     []Step
	worst     Verdict
	profile   *x509ti.Profile
	kind      x509ti.OID
	roles     []x509ti.OID
	authority *authority // nil: no CA found, and everything that needs one did not run
	today     *authority // the same CA by the newest list; nil when that does not name it any more
	signed    bool       // the CA's signature was checked and is good
}

// pick returns the profile that the certificate is to be judged by: the one whose type it has, else one whose policy it
// has, else the first that is qualified as the certificate says it is, else the first.
func pick(profiles []x509ti.Profile, cert *x509ti.Certificate) *x509ti.Profile {
	for i := range profiles {
		if profiles[i].TypeOf(cert) != nil {
			return &profiles[i]
		}
	}
	for i := range profiles {
		if profiles[i].Policy != nil && cert.HasPolicy(profiles[i].Policy) {
			return &profiles[i]
		}
	}
	for i := range profiles {
		if profiles[i].QES == (len(cert.QCStatements) > 0 || cert.QCMalformed) {
			return &profiles[i]
		}
	}
	return &profiles[0]
}

// judged are the steps of Profile.Judge in their order.
var judged = []string{x509ti.StepKeyUsage, x509ti.StepExtKeyUsage, x509ti.StepCritical, x509ti.StepType, x509ti.StepRole}

// build runs every step that does not depend on reference time and status.
func build(cert *x509ti.Certificate, profile *x509ti.Profile, l lists, verifier x509ti.Verifier) *chain {
	c := &chain{profile: profile, kind: profile.TypeOf(cert), roles: cert.Roles(), steps: make([]Step, 0, 10)}
	add := func(step Step) {
		c.steps = append(c.steps, step)
		c.worst = c.worst.Worse(step.Verdict)
	}
	pass := func(id string, err error) bool {
		if err != nil {
			add(stepOf(id, err))
			return false
		}
		add(Step{ID: id, Verdict: Valid})
		return true
	}
	if profile.QES {
		if err := cert.CheckQC(); err != nil || cert.HasQCStatement(x509ti.OIDQcSSCD) {
			pass(StepQCStatements, err)
		} else { // the profile has it, TUC_PKI_030 does not ask for it
			add(Step{StepQCStatements, Warnings, 0, "QcSSCD is missing: nothing says that the key is in a qualified signature creation device"})
		}
	}
	findings := map[string]error{}
	for _, f := range profile.Judge(cert) {
		findings[f.Step] = f.Err
	}
	ca, err := findCA(cert, l.at, profile.QES)
	if ca != nil && findings[x509ti.StepType] == nil && !profile.QES && profile.Type != nil && !ca.service.Authorises(c.kind) {
		findings[x509ti.StepType] = CATypeNotAllowed
	}
	for _, id := range judged {
		pass(id, findings[id])
	}
	if !pass(StepCA, err) {
		for _, id := range []string{StepCertSignature, StepCAStatus} {
			add(Step{ID: id, Text: "no CA"})
		}
		return c
	}
	c.authority, c.today = ca, ca
	c.signed = pass(StepCertSignature, cert.CheckSignatureFromWith(verifier, ca.cert))
	if profile.QES {
		pass(StepCAStatus, qualifiedFor(ca.service, cert))
	} else {
		step := caStatus(ca.service, cert.NotBefore)
		if l.newest != l.at {
			c.today = caToday(cert, ca, l.newest)
			step = worse(step, statusToday(cert, ca, c.today, l.newest))
		}
		add(step)
	}
	return c
}

// caToday is the CA that the list of the reference time names as the newest list has it, nil when that does not name it.
func caToday(cert *x509ti.Certificate, was *authority, newest *view) *authority {
	ca, err := findCA(cert, newest, false)
	if err != nil || !bytes.Equal(ca.cert.PublicKeyBits, was.cert.PublicKeyBits) {
		return nil
	}
	return ca
}

// statusToday is what the newest list says of the CA that the list of the reference time names: the reference time is the
// signer's claim, and so is the time in the certificate when the CA's key is in the wrong hands.
func statusToday(cert *x509ti.Certificate, was, today *authority, newest *view) Step {
	if today == nil {
		return stepOf(StepCAStatus, CANotListed.Because(fmt.Sprintf("%s is not in the newest list, with sequence number %d",
			was.cert.CommonName().Reveal(), newest.ref.Sequence)))
	}
	step := caStatus(today.service, cert.NotBefore)
	if step.Text != "" {
		step.Text = fmt.Sprintf("by the newest list, with sequence number %d: %s", newest.ref.Sequence, step.Text)
	}
	return step
}

// worse returns the worse of two outcomes of a step; of equal ones the second when it has something to say.
func worse(a, b Step) Step {
	if a.Verdict > b.Verdict || a.Verdict == b.Verdict && b.Text == "" {
		return a
	}
	return b
}

// findCA looks for the issuer in a list (TUC_PKI_003). A CA that has several entries is judged by the best one: in the VL
// by that which was qualified when the certificate was issued.
func findCA(cert *x509ti.Certificate, v *view, qes bool) (*authority, error) {
	entries := v.cas[string(cert.RawIssuer)]
	if len(entries) == 0 {
		return nil, x509ti.CACertMissing
	}
	var found *authority
	for _, a := range entries {
		if len(cert.AuthorityKeyID) == 0 || !bytes.Equal(a.cert.SubjectKeyID, cert.AuthorityKeyID) {
			continue
		}
		if found == nil || qes && qualified(found.service, cert.NotBefore) != nil || !qes && caStatus(found.service, cert.NotBefore).Verdict != Valid {
			found = a
		}
	}
	if found == nil {
		return nil, x509ti.AuthorityKeyIDDifferent
	}
	return found, nil
}

// caStatus is TUC_PKI_018 step 5: a CA that is revoked in the list issues nothing more; what it issued before stays valid.
func caStatus(s *tsl.Service, issued time.Time) Step {
	switch s.Status {
	case tsl.StatusInAccord:
	case tsl.StatusRevoked:
		if s.Start.Before(issued) {
			return stepOf(StepCAStatus, CARevokedInTSL)
		}
		return Step{StepCAStatus, Valid, 0, "revoked in the list since " + s.Start.UTC().Format(time.RFC3339) + ", after it issued the certificate, which stays valid"}
	case tsl.StatusExpired:
		if s.Start.Before(issued) {
			return Step{StepCAStatus, Warnings, 0, "the list says that the CA had ceased to operate when it issued the certificate"}
		}
	default:
		return Step{StepCAStatus, Indeterminate, 0, "the list gives the CA a status that is not known"}
	}
	return Step{ID: StepCAStatus, Verdict: Valid}
}

// states of qualified CAs before the regulation eIDAS, which a history may hold.
var formerlyQualified = map[string]bool{
	"http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/accredited":             true,
	"http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/undersupervision":       true,
	"http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/supervisionincessation": true,
}

// qualified is the step of TUC_PKI_030 about the CA: by the list it was a qualified CA for signatures at a time.
func qualified(s *tsl.Service, at time.Time) error {
	state, ok := s.StateAt(at)
	switch {
	case !ok:
		return CANotQualified.Because("the list says nothing of the CA at that time")
	case state.Type != tsl.TypeCAQC:
		return CANotQualified.Because("not a CA for qualified certificates at that time")
	case formerlyQualified[state.Status]:
		return nil
	case state.Status == tsl.StatusWithdrawn:
		return CARevokedInVL
	case state.Status != tsl.StatusGranted:
		return CANotQualified.Because("neither granted nor withdrawn at that time")
	}
	for _, info := range state.Information {
		if info == tsl.ForeSignatures {
			return nil
		}
	}
	return CANotQualified.Because("not a CA for signatures")
}

// qualifiedFor is qualified for one certificate: when it was issued the CA was qualified, and the list did not say otherwise
// of certificates like this one (ETSI TS 119 612 clause 5.5.9.2). Of several elements that speak of the certificate, all
// count; a certificate is for signatures, for seals or for web sites, and where they contradict each other it stays open.
func qualifiedFor(s *tsl.Service, cert *x509ti.Certificate) error {
	if err := qualified(s, cert.NotBefore); err != nil {
		return err
	}
	state, _ := s.StateAt(cert.NotBefore)
	qualifiers, certain := state.QualifiersOf(cert)
	says := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(qualifiers, name) })
	}
	switch {
	case says(tsl.NotQualified):
		return CANotQualified.Because("the list says of such certificates that they are not qualified")
	case !certain:
		return QualificationUndecided.Because("the list has a critical condition or qualifier that is not known")
	case says(tsl.QCForESig) && says(tsl.QCForESeal, tsl.QCForWSA):
		return QualificationUndecided.Because("the list says of such certificates that they are for signatures and that they are not")
	case says(tsl.QCForESeal, tsl.QCForWSA):
		return CANotQualified.Because("the list says of such certificates that they are not for signatures")
	case says(tsl.QCNoQSCD, tsl.QCNoSSCD):
		return NoQSCDByList
	}
	return nil
}

// Check checks a certificate (TUC_PKI_018; TUC_PKI_030 for qualified ones). It runs every step that can be run, also after
// one that failed, so that the result tells everything; the verdict is the worst of the steps, and a step that had to run
// and could not makes it indeterminate at least.
func (s *Space) Check(ctx context.Context, cert *x509ti.Certificate, o Options) Result {
	if cert == nil {
		return Result{Verdict: Indeterminate, Steps: []Step{stepOf(StepCertTime, x509ti.CertReadError)}}
	}
	if len(o.Profiles) == 0 {
		return Result{Verdict: Indeterminate, Steps: []Step{{x509ti.StepType, Indeterminate, 0, "no profile was asked for"}}}
	}
	if o.Now.IsZero() {
		o.Now = s.clock()
	}
	if o.At.IsZero() {
		o.At = o.Now
	}
	profile := pick(o.Profiles, cert)
	handle, selected := s.choose(profile.QES, o.At)
	if handle == nil {
		return Result{Verdict: Indeterminate, Profile: profile.Name, Type: profile.TypeOf(cert), Roles: cert.Roles(),
			Steps: []Step{{StepList, Indeterminate, 1027, "there is no list to check against"}}}
	}
	l, err := s.lists(handle)
	if err != nil {
		return Result{Verdict: Indeterminate, Profile: profile.Name, Steps: []Step{{StepList, Indeterminate, 0, err.Error()}}}
	}
	c := s.chainOf(cert, profile, l, o)

	r := Result{Type: c.kind, Roles: c.roles, List: handle.ref, Verdict: c.worst, Steps: make([]Step, 0, len(c.steps)+7)}
	r.List.Selected = selected
	if c.kind != nil || profile.Type == nil {
		r.Profile = profile.Name
	}
	if c.authority != nil {
		r.CA = c.authority.cert
	}
	r.add(s.freshness(handle, selected, o.At, o.Now))
	r.add(certTime(cert, o.At))
	r.add(admissible(cert, o.At))
	if o.Model != ByList && c.authority != nil || profile.QES && c.authority != nil {
		r.add(model(cert, c.authority, o, profile.QES))
	}
	r.Steps = append(r.Steps, c.steps...)
	s.status(ctx, &r, cert, c, l, o)
	return r
}

func (r *Result) add(step Step) {
	r.Steps = append(r.Steps, step)
	r.Verdict = r.Verdict.Worse(step.Verdict)
}

// Step returns the first step with that name; a zero Step when the check has none.
func (r *Result) Step(id string) Step {
	for _, s := range r.Steps {
		if s.ID == id {
			return s
		}
	}
	return Step{}
}

// chainOf takes the chain from the cache or builds it.
func (s *Space) chainOf(cert *x509ti.Certificate, profile *x509ti.Profile, l lists, o Options) *chain {
	if o.Cache == nil {
		return build(cert, profile, l, o.Verifier)
	}
	key := cacheKey{cert.Fingerprint(), l.hash, profilesKey(o.Profiles)}
	if c, ok := o.Cache.chains.get(key); ok {
		return c
	}
	kept := *profile // the caller's slice is its own
	c := build(cert, &kept, l, o.Verifier)
	o.Cache.chains.put(key, c)
	return c
}

func certTime(cert *x509ti.Certificate, at time.Time) Step {
	if !cert.ValidAt(at) {
		return stepOf(StepCertTime, x509ti.CertificateNotValidTime)
	}
	return Step{ID: StepCertTime, Verdict: Valid}
}

// admissible judges the strength of the key: what was phased out is a warning and never a refusal (A_23458).
func admissible(cert *x509ti.Certificate, at time.Time) Step {
	switch x509ti.KeyAdmissible(cert.PublicKey, at) {
	case x509ti.Admissible:
		return Step{ID: StepAdmissible, Verdict: Valid}
	case x509ti.PhasedOut:
		return Step{StepAdmissible, Warnings, 0, x509ti.KeyName(cert.PublicKey) + " is phased out"}
	}
	return Step{StepAdmissible, Invalid, 1024, x509ti.KeyName(cert.PublicKey) + " is not admissible"}
}

// Model says at which time the CA's own certificate must have been valid.
type Model int

// ByList is the zero value.
const (
	ByList     Model = iota // the list decides, as TUC_PKI_018 has it
	Shell                   // valid at the reference time
	ChainModel              // valid when it issued the certificate; qualified certificates always
)

// StepModel is the step of the validity model.
const StepModel = "validityModel"

// model checks the CA certificate's period, and for qualified certificates whether the CA was still qualified when the
// signature was made: withdrawn after it issued the certificate leaves the certificate valid and is reported (ERP-12).
func model(cert *x509ti.Certificate, a *authority, o Options, qes bool) Step {
	at := o.At
	if qes || o.Model == ChainModel {
		at = cert.NotBefore
	}
	if !a.cert.ValidAt(at) {
		return stepOf(StepModel, x509ti.CertificateNotValidTime.Because("CA certificate"))
	}
	if qes {
		if err := qualified(a.service, o.At); err != nil && qualified(a.service, cert.NotBefore) == nil {
			code := 1062
			if !errors.Is(err, CARevokedInVL) {
				code = 1059
			}
			return Step{StepModel, Warnings, code, "the CA was qualified when it issued the certificate and not any more at the reference time"}
		}
	}
	return Step{ID: StepModel, Verdict: Valid}
}

// status finds out the status of the certificate (TUC_PKI_006): from the embedded responses, from the source, or not at
// all, which leaves the result indeterminate.
func (s *Space) status(ctx context.Context, r *Result, cert *x509ti.Certificate, c *chain, l lists, o Options) {
	if !c.signed {
		// An answer about a certificate that the CA did not sign says nothing, and its issuer may be anybody.
		r.add(Step{ID: StepStatus, Text: "not asked for: the chain is not sound"})
		if r.Verdict < Indeterminate {
			r.Verdict = Indeterminate
		}
		return
	}
	check := ocsp.Check{
		Certificate: cert, Issuer: c.authority.cert, ListedOnly: !c.profile.QES,
		Now: o.Now, Reference: o.At, IgnoreCertHash: ignoreCertHash(c), Verifier: o.Verifier,
	}
	provided := s.embedded(r, check, l, c, o)
	if provided == nil && r.OCSP != nil {
		return
	}
	if o.Status == nil {
		switch {
		case o.Offline:
			if provided != nil {
				r.add(Step{StepStatus, Warnings, ProvidedOCSP.Code, "embedded response: " + provided.Error()})
			}
			r.add(stepOf(StepStatus, NoOCSPCheck))
		case provided != nil:
			r.add(Step{StepStatus, Indeterminate, codeOf(provided), provided.Error()})
		default:
			r.add(Step{StepStatus, Indeterminate, NoOCSPCheck.Code, "there is no answer of an OCSP responder and nobody to ask"})
		}
		return
	}
	if provided != nil {
		r.add(Step{StepStatus, Warnings, ProvidedOCSP.Code, "embedded response: " + provided.Error()})
	}
	s.ask(ctx, r, check, c, l, o)
}

func codeOf(err error) int {
	var e *x509ti.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// ignoreCertHash: health cards, and C.ZD.TLS-S of the role oid_stamp.
func ignoreCertHash(c *chain) bool {
	if c.profile.NoCertHash {
		return true
	}
	if c.profile.Name != x509ti.ZDTLSS.Name {
		return false
	}
	for _, role := range c.roles {
		if role.Equal(x509ti.OIDStamp) {
			return true
		}
	}
	return false
}

// embedded judges the responses that came with the certificate, the youngest one about it first. It returns why none
// counts, nil when there are none or one does; the latter is in r.OCSP.
func (s *Space) embedded(r *Result, check ocsp.Check, l lists, c *chain, o Options) error {
	if len(o.Embedded) == 0 {
		return nil
	}
	check.Embedded = true
	if check.MaxAge = o.MaxAge; check.MaxAge == 0 {
		check.MaxAge = EmbeddedAge(*c.profile)
	}
	type candidate struct {
		*signedResponse
		raw []byte
	}
	var candidates []candidate
	var problem error
	for i, raw := range o.Embedded {
		if i == maxEmbedded {
			break
		}
		sr := s.signedResponse(raw, check, l, o)
		switch {
		case sr.response == nil:
			problem = errors.Join(problem, sr.err)
		case sr.response.About(check.Certificate, check.Issuer):
			candidates = append(candidates, candidate{sr, raw})
		default:
			problem = errors.Join(problem, ocsp.CheckRevocationError.Because("about another certificate"))
		}
	}
	for len(candidates) > 0 {
		youngest := 0
		for i := range candidates {
			if candidates[i].response.ProducedAt.After(candidates[youngest].response.ProducedAt) {
				youngest = i
			}
		}
		next := candidates[youngest]
		candidates = append(candidates[:youngest:youngest], candidates[youngest+1:]...)
		err := next.err
		if err == nil {
			var result ocsp.Result
			if result, err = next.response.Judge(check, next.signer); err == nil {
				a := StatusAnswer{Result: result, Source: "embedded", Raw: next.raw}
				s.conclude(r, a, check, next.names, a.Authorisation == ocsp.Listed && l.former(a.Responder))
				return nil
			}
		}
		problem = errors.Join(problem, err)
	}
	return problem
}

// maxEmbedded bounds the work that the unsigned part of a record can cause.
const maxEmbedded = 8

// signedResponse parses a response and checks its signature, or knows what came of it.
func (s *Space) signedResponse(raw []byte, check ocsp.Check, l lists, o Options) *signedResponse {
	var key cacheKey
	if o.Cache != nil {
		fp := check.Certificate.Fingerprint()
		key = cacheKey{sha256.Sum256(raw), l.hash, uint64FromHash(fp)}
		if sr, ok := o.Cache.responses.get(key); ok {
			return sr
		}
	}
	sr, certificate := &signedResponse{}, x509ti.Parse
	if o.Cache != nil {
		certificate, check.Issued = o.Cache.responder, o.Cache.issuedBy(o.Verifier)
	}
	check.Listed = l.responder
	if sr.response, sr.err = ocsp.ParseResponseWith(raw, certificate); sr.err == nil {
		sr.signer, sr.err = sr.response.VerifySigner(check)
		sr.names = namesOf(sr.signer.Certificate)
		sr.response.Compact()
	}
	if o.Cache != nil {
		o.Cache.responses.put(key, sr)
	}
	return sr
}

// ask has the source find out the status.
func (s *Space) ask(ctx context.Context, r *Result, check ocsp.Check, c *chain, l lists, o Options) {
	q := StatusQuery{
		Certificate: check.Certificate, Issuer: check.Issuer, Profile: c.profile.Name, ListedOnly: check.ListedOnly, IgnoreCertHash: check.IgnoreCertHash,
		Nonce: c.profile.QES, At: o.At, Now: o.Now, NoReuse: c.profile.Suspendable, Verifier: o.Verifier,
		URL: s.address(c, check.Certificate), Responders: l.responders(c.today != nil), Listed: l.refused,
	}
	answer, err := o.Status.Status(ctx, q)
	if err != nil {
		step := stepOf(StepStatus, err)
		switch {
		case o.TolerateStatusFailure && step.Verdict == Indeterminate:
			step.Verdict, step.Code = Warnings, RevocationSkipped.Code
		case step.Verdict < Indeterminate: // an error is never an answer
			step.Verdict = Indeterminate
		case step.Code == 0:
			step.Code = ocsp.NotAvailable.Code
		}
		r.add(step)
		return
	}
	s.conclude(r, answer, check, namesOf(answer.Responder), false)
}

// address is where the responder listens: the CA's entry in the newest TSL that has one (TUC_PKI_005); for qualified certificates the address
// in the certificate, or where the TSL sends requests for it.
func (s *Space) address(c *chain, cert *x509ti.Certificate) string {
	if !c.profile.QES {
		if c.today != nil {
			return addressOf(c.today.service)
		}
		return addressOf(c.authority.service)
	}
	if len(cert.OCSPURLs) == 0 {
		return ""
	}
	if len(s.tsls) > 0 {
		if v, err := s.tsls[len(s.tsls)-1].load(); err == nil && v.redirects[cert.OCSPURLs[0]] != "" {
			return v.redirects[cert.OCSPURLs[0]]
		}
	}
	return cert.OCSPURLs[0]
}

// conclude turns an answer that passed every check into the step and the facts. former: the responder is not in force any
// more, and that the answer is as old as it says, nobody else vouches for; whoever keeps the report has to be able to see it.
func (s *Space) conclude(r *Result, a StatusAnswer, check ocsp.Check, responder responderNames, former bool) {
	facts := &OCSPFacts{
		Source: a.Source, Status: a.Status.String(), RevokedAt: a.RevokedAt, ProducedAt: a.ProducedAt, ThisUpdate: a.ThisUpdate,
		AgeSeconds: check.Reference.Sub(a.ProducedAt).Seconds(), Authorised: string(a.Authorisation), CertHash: a.CertHash, Raw: a.Raw,
	}
	facts.Responder, facts.ResponderHash = responder.name, responder.hash
	r.OCSP = facts
	switch a.Status {
	case ocsp.Good:
		var notes []string
		if !a.RevokedAt.IsZero() {
			notes = append(notes, "revoked after the reference time")
		}
		if a.NoNonce {
			notes = append(notes, "the answer does not repeat the nonce of the request, its time was checked")
		}
		if former {
			notes = append(notes, "the responder was one of its time and is not in force by the newest list")
		}
		r.add(Step{ID: StepStatus, Verdict: Valid, Text: strings.Join(notes, "; ")})
	case ocsp.Revoked:
		r.add(stepOf(StepStatus, CertRevoked))
	case ocsp.Unknown:
		step := stepOf(StepStatus, CertUnknown)
		if check.Now.After(check.Certificate.NotAfter) {
			// Responders answer for the life of a certificate only (about five years).
			step.Verdict, step.Text = Indeterminate, fmt.Sprintf("%s: the certificate has run out, responders do not know it any more", step.Text)
		}
		r.add(step)
	default:
		r.add(Step{StepStatus, Indeterminate, ocsp.CheckRevocationError.Code, "the answer has no status"})
	}
}
