package erezept

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"ktradv/internal/ber"
	"ktradv/internal/cms"
	"ktradv/internal/x509ti"
	"ktradv/server/erezept/record"
	"ktradv/server/trust"
)

// Tool names the program in reports.
const Tool = "ktradv adv-server, erezept check 1"

// Tolerance is how far a signing time may lie in the future, and how far clocks of the parties may differ from each other
// without a remark: 37.5 seconds for the clock (GS-A_5215), five minutes between parties.
const (
	futureTolerance = 37500 * time.Millisecond
	orderTolerance  = 5 * time.Minute
)

// Checker checks records and cases. It is safe for concurrent use; its fields must not be changed after the first use.
type Checker struct {
	// Space is the trust space of the moment.
	Space func() *trust.Space
	// Status is asked for the revocation status of certificates when no embedded response counts; nil: never ask.
	Status trust.StatusSource
	// Clock is the time; nil is time.Now.
	Clock func() time.Time
	// ClockSet says that Clock is not the real time; it stands in the reports.
	ClockSet bool
	// Chains keeps verdicts about certificates, nil keeps none. Verifier checks brainpool signatures, nil without tables.
	Chains   *trust.ChainCache
	Verifier x509ti.Verifier
	// Certificates keeps certificates as parsed; nil keeps none.
	Certificates *CertificateCache
	// MaxAge replaces the longest age of an embedded status answer at the signing time; zero is that of trust.EmbeddedAge.
	MaxAge time.Duration
	// Archive puts status answers into the reports (ERP-21, ERP-28).
	Archive bool
}

// Given is a record as it came in.
type Given struct {
	Kind Kind   // what it must be; Unknown takes what its content says
	Data []byte // in any form that package record opens

	// Large opens an input that is too large to be held in memory, in place of Data, in any form that package record scans.
	// It is read as a stream in one pass; of a content that is larger than MaxContent no facts are read, which the report
	// says and which is never valid for a billing record.
	Large func() (io.ReadCloser, error)
}

// Case is what is to be checked.
type Case struct {
	ID      string // the caller's
	Single  bool   // one input: a record on its own, or a container whose records are sorted into cases
	Records []Given
	// FHIR is the OperationOutcome (JSON) of a validation of the receipt that somebody else made; nil without one. It is
	// judged by the transition rule about Bundle.signature.
	FHIR json.RawMessage
	// Archive puts status answers into the reports of this case, as Checker.Archive does for all.
	Archive bool
}

// Check checks a case, or a single record, and never fails: what cannot be checked stands in the report. Of a container with
// several cases it is the report with the worst verdict; CheckEach gives all.
func (c *Checker) Check(ctx context.Context, in *Case) *CaseReport {
	var worst *CaseReport
	c.CheckEach(ctx, in, func(r *CaseReport) {
		if worst == nil || r.Verdict > worst.Verdict {
			worst = r
		}
	})
	return worst
}

// CheckEach checks what was given and hands over its reports, at least one: a single one for a case or a record, and one for
// each case of a container with several, such as a billing file (see sorter). It never fails.
func (c *Checker) CheckEach(ctx context.Context, in *Case, emit func(*CaseReport)) {
	now := c.now()
	if !in.Single {
		emit(c.asCase(ctx, in, now))
		return
	}
	if len(in.Records) != 1 {
		emit(Unreadable(in.ID, CodeInput, "%d records where one was expected", len(in.Records)))
		return
	}
	s := sorter{c: c, in: in, now: now, emit: emit}
	s.finish(c.records(ctx, in, in.Records[0], now, s.add))
}

// records checks what was given, record by record, until found fails. It returns that error, or why a container was not read
// to its end.
func (c *Checker) records(ctx context.Context, in *Case, g Given, now time.Time, found func(*checked) error) error {
	if g.Large != nil {
		return c.scan(ctx, in, g, now, found)
	}
	for _, o := range open(g, in.Archive) {
		if err := found(c.check(ctx, o, now)); err != nil {
			return err
		}
	}
	return nil
}

// asCase checks records that the caller has put together.
func (c *Checker) asCase(ctx context.Context, in *Case, now time.Time) *CaseReport {
	var found []*checked
	for _, g := range in.Records {
		err := c.records(ctx, in, g, now, func(r *checked) error {
			if len(found) == maxMessages {
				return errSeveral
			}
			found = append(found, r)
			return nil
		})
		if errors.Is(err, errSeveral) {
			return Unreadable(in.ID, CodeSeveral, "%v", err)
		}
		if err != nil {
			found = append(found, c.check(ctx, opened{kind: g.Kind, err: err}, now))
		}
	}
	return c.caseReport(in.ID, found, in.FHIR, now, reserve{})
}

// begin begins a report.
func (c *Checker) begin(id string, now time.Time) *CaseReport {
	return &CaseReport{ID: id, CheckedAt: now.UTC().Truncate(time.Second), ClockSet: c.ClockSet, Tool: Tool}
}

// recordReport is the report for a record on its own.
func (c *Checker) recordReport(id string, r *checked, fhir json.RawMessage, now time.Time) *CaseReport {
	out := c.begin(id, now)
	if fhir != nil {
		c.fhirOf(r, fhir)
	}
	out.Records, out.Verdict = []*Report{r.report()}, r.ledger.verdict()
	out.PrescriptionID = r.prescriptionID()
	return out
}

// caseReport is the report for records that belong together.
func (c *Checker) caseReport(id string, found []*checked, fhir json.RawMessage, now time.Time, missing reserve) *CaseReport {
	out := c.begin(id, now)
	l := caseLedger()
	records := assign(l, found, missing)
	c.link(l, out, records, fhir)
	out.Verdict = l.verdict()
	for _, r := range found {
		rep := r.report()
		out.Records = append(out.Records, rep)
		switch {
		case rep.Verdict > out.Verdict:
			out.Verdict = rep.Verdict
		case !rep.Verdict.OK() && out.Verdict.OK():
			out.Verdict = Indeterminate
		}
	}
	out.Steps = l.list()
	return out
}

// Unreadable is the report about input that could not be read so far that a check could begin.
func Unreadable(id string, code Code, format string, a ...any) *CaseReport {
	l := newLedger(StepContainer, StepContainer+1)
	l.find(StepContainer, code, format, a...)
	return &CaseReport{ID: id, Verdict: l.verdict(), Tool: Tool, Steps: l.list()}
}

func (c *Checker) now() time.Time {
	if c.Clock == nil {
		return time.Now()
	}
	return c.Clock()
}

// checked is a record in the course of its check.
type checked struct {
	rep    Report
	ledger *ledger
	facts  *record.Facts // nil when the content could not be read
	ids    []record.ID
	hash   [sha256.Size]byte // of the content
	hashed bool
	signed time.Time
	unread bool // the content is too large to be read
	octets int  // that weigh gave

	archive bool // the status answer stands in the report
}

func (r *checked) report() *Report {
	r.rep.Verdict = r.ledger.verdict()
	r.rep.Steps = r.ledger.list()
	return &r.rep
}

// weigh gives about how many octets are held of the record: much of it is text from outside.
func (r *checked) weigh() int {
	var w writer
	w.report(r.report())
	n := len(w.b)
	if f := r.facts; f != nil {
		n += len(f.Bundle) + len(f.Digest) + len(f.Beneficiary) + len(f.Authored) + len(f.HandedOver)
	}
	return n
}

// prescriptionID is the record's Rezept-ID, "" when it has none or several.
func (r *checked) prescriptionID() string {
	if len(r.ids) == 0 {
		return ""
	}
	for _, id := range r.ids[1:] {
		if id.Value != r.ids[0].Value {
			return ""
		}
	}
	return r.ids[0].Value
}

// opened is a signed message that was found in what was given, or why there is none.
type opened struct {
	kind Kind
	data []byte // what was given; of a container with several messages the message itself
	msg  record.Message
	err  error

	archive bool // as in Case
}

// maxMessages is how many signed messages are checked that the caller says are one case. A case has three; with a few more
// the report can say which are there twice.
const maxMessages = 8

// errSeveral says that there are more.
var errSeveral = fmt.Errorf("more than %d signed messages in one case, which has three", maxMessages)

// open finds the messages in what was given. A container with several of them, such as a billing file, gives each.
func open(g Given, archive bool) []opened {
	messages, err := record.Open(g.Data)
	if err != nil || len(messages) == 0 {
		return []opened{{kind: g.Kind, data: g.Data, err: err}}
	}
	out := make([]opened, len(messages))
	for i, m := range messages {
		out[i] = opened{kind: g.Kind, data: g.Data, msg: m, archive: archive}
		if len(messages) > 1 {
			out[i].data = m.Data
		}
	}
	return out
}

// check runs the steps of one record. A step that cannot run because an earlier one failed stays as not run.
func (c *Checker) check(ctx context.Context, o opened, now time.Time) *checked {
	r := &checked{rep: Report{Kind: o.kind}, ledger: recordLedger(), archive: c.Archive || o.archive}
	l := r.ledger
	sd, signer := r.parse(o)
	if sd == nil {
		return r
	}
	r.content(o.kind, sd, &o.msg)
	rule, known := ruleOf(r.rep.Kind)
	if !known && r.unread {
		rule, known = ruleOf(Document) // what can be said without the content
	}

	cert := c.signer(r, sd, signer)
	core := sd.Verify(signer, cert, c.Verifier)
	r.core(&core)
	if signer.SigningTime.IsZero() {
		l.find(StepSigningTime, CodeNoSigningTime, "no readable signingTime among the signed attributes")
	} else {
		r.signed = signer.SigningTime.UTC()
		t := r.signed
		r.rep.SigningTime = &t
		if r.signed.After(now.Add(futureTolerance)) {
			l.find(StepSigningTime, CodeSignedInFuture, "signed %s after the clock of the check", r.signed.Sub(now).Round(time.Second))
		} else {
			l.pass(StepSigningTime)
		}
	}
	if cert == nil {
		return r
	}
	r.rep.Signer = describe(cert)
	if !known {
		return r
	}
	c.certificate(ctx, r, rule, cert, sd, signer, now)
	c.countersignatures(ctx, r, sd, signer, now)
	return r
}

// parse reads the signed message, which has one signer.
func (r *checked) parse(o opened) (*cms.SignedData, *cms.SignerInfo) {
	l := r.ledger
	sd, err := r.readMessage(o)
	if err != nil {
		l.find(StepContainer, containerCode(err), "%v", err)
		return nil, nil
	}
	r.rep.Input.Encoding = "BER"
	if sd.DER {
		r.rep.Input.Encoding = "DER"
	}
	if len(sd.Signers) != 1 {
		l.find(StepContainer, CodeSeveral, "%d signers", len(sd.Signers))
		return nil, nil
	}
	return sd, &sd.Signers[0]
}

// containerCode is the finding for an input that could not be read.
func containerCode(err error) Code {
	switch {
	case errors.Is(err, record.ErrLimit), errors.Is(err, cms.ErrLimit), errors.Is(err, ber.ErrTooLong):
		return CodeTooLarge
	case errors.Is(err, errInput):
		return CodeInput
	}
	return CodeContainer
}

// readMessage reads the message and says in the report what was read.
func (r *checked) readMessage(o opened) (*cms.SignedData, error) {
	var forms []string
	for _, f := range o.msg.Forms {
		if f != record.CMS {
			forms = append(forms, f.String())
		}
	}
	wrapper := strings.Join(forms, ", ")
	if s, ok := o.msg.Streamed.(*streamed); ok && o.err == nil {
		r.rep.Input = s.input
		r.rep.Input.Wrapper = wrapper
		r.unread = s.err == nil && !s.sd.Detached && s.sd.ContentLength > MaxContent
		return s.sd, s.err
	}
	sum := sha256.Sum256(o.data)
	r.rep.Input = Input{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(o.data)), Wrapper: wrapper}
	if o.err != nil {
		return nil, o.err
	}
	return cms.Parse(o.msg.Data)
}

// kinds maps what the content says to kinds of this package.
var kinds = map[record.Kind]Kind{record.Prescription: Prescription, record.Dispensing: Dispensing, record.Receipt: Receipt}

// sickNoteProfile is the profile of an eAU Bundle of the KBV.
const sickNoteProfile = "https://fhir.kbv.de/StructureDefinition/KBV_PR_EAU_Bundle"

// content reads the facts of the signed content: kind, Rezept-IDs, the receipt's digest, rules about the content. Facts
// come from the signed octets alone.
func (r *checked) content(want Kind, sd *cms.SignedData, msg *record.Message) {
	l := r.ledger
	// A copy: what is held of a record must not hold its message.
	r.hashed = copy(r.hash[:], sd.ContentDigest(crypto.SHA256)) == len(r.hash)
	if r.hashed {
		r.rep.ContentDigest = hex.EncodeToString(r.hash[:])
	}
	if rule, ok := ruleOf(want); ok && rule.any {
		l.pass(StepKind)
		l.release(StepPrescriptionID)
		l.release(StepContent)
		return
	}
	if r.unread {
		for _, step := range []StepID{StepKind, StepPrescriptionID, StepContent} {
			l.find(step, CodeContentNotRead, "content of %d octets; at most %d are read", sd.ContentLength, MaxContent)
		}
		return
	}
	facts, err := record.ReadFacts(sd.Content)
	if err != nil {
		switch {
		case errors.Is(err, record.ErrLimit): // beyond what is read, which says nothing against it
			l.find(StepKind, CodeTooLarge, "%v", err)
		case want == Unknown:
			l.find(StepKind, CodeUnknownKind, "%v", err)
		default:
			l.find(StepKind, CodeContent, "%v", err)
		}
		return
	}
	r.facts = facts
	found := kinds[facts.Kind]
	if found == Unknown && facts.Profile == sickNoteProfile {
		found = SickNote
	}
	r.rep.Found, r.rep.Profile = found, facts.Profile
	if facts.Version != "" {
		r.rep.Profile += "|" + facts.Version
	}
	if want == Unknown {
		r.rep.Kind = found
	}
	switch {
	case want == Unknown && found == Unknown:
		l.find(StepKind, CodeUnknownKind, "the content has the profile %.200q", facts.Profile)
	case want != Unknown && found != want:
		l.find(StepKind, CodeWrongKind, "expected %s, the content has the profile %.200q", want, facts.Profile)
	default:
		l.passf(StepKind, "%s", found)
	}
	r.identifiers(r.rep.Kind)
	r.contentRules(found, msg)
}

// identifiers checks the Rezept-IDs of one record among themselves (ERP-05).
func (r *checked) identifiers(kind Kind) {
	l := r.ledger
	r.ids = r.facts.IDs
	for _, id := range r.ids {
		r.rep.PrescriptionIDs = append(r.rep.PrescriptionIDs, PlacedID{id.Value, id.Place.String()})
	}
	if rule, ok := ruleOf(kind); ok && !rule.billing {
		l.release(StepPrescriptionID)
		return
	}
	if len(r.ids) == 0 {
		l.find(StepPrescriptionID, CodeNoID, "no identifier of a prescription in the content")
		return
	}
	l.pass(StepPrescriptionID)
	if r.prescriptionID() == "" {
		l.find(StepPrescriptionID, CodeIDsWithin, "the record has different Rezept-IDs at different places")
	}
	for _, id := range r.ids {
		if !id.Form || !id.CheckDigit {
			l.find(StepPrescriptionID, CodeCheckDigits, "at %s", id.Place)
		}
	}
}

// contentRules checks what the signature's form says about the content: the receipt inside has no signature element, whatever its profile
// demands (ERP-18, ERP-19), and an unsigned copy around it says the same.
func (r *checked) contentRules(found Kind, msg *record.Message) {
	l := r.ledger
	l.pass(StepContent)
	if found == Receipt {
		r.rep.Digest = hex.EncodeToString(r.facts.Digest)
		switch {
		case r.facts.HasSignature:
			l.find(StepContent, CodeInnerSignature, "Bundle.signature inside the signed content")
		case demandsSignature(r.facts.Profile):
			r.apply(TransitionCardinality)
		}
	}
	if msg.OuterUnread {
		l.passf(StepContent, "the unsigned copy around the message was not compared: it is too large to be held")
	}
	if msg.Outer == nil {
		return
	}
	if diff := r.facts.Differences(msg.Outer); len(diff) > 0 {
		l.find(StepContent, CodeOuterCopy, "the unsigned copy differs: %s", strings.Join(diff, ", "))
	}
}

func (r *checked) apply(transition string) {
	for _, t := range r.rep.Transitions {
		if t == transition {
			return
		}
	}
	r.rep.Transitions = append(r.rep.Transitions, transition)
}

// signer finds the certificate that SignerInfo.sid names; the order of certificates says nothing.
func (c *Checker) signer(r *checked, sd *cms.SignedData, si *cms.SignerInfo) *x509ti.Certificate {
	der := sd.FindCertificate(si)
	for _, other := range sd.Certificates {
		if !bytes.Equal(other, der) {
			sum := sha256.Sum256(other)
			r.rep.OtherCertificates = append(r.rep.OtherCertificates, hex.EncodeToString(sum[:]))
		}
	}
	if der == nil {
		r.ledger.find(StepSigner, CodeSignerCert, "none of %d certificates is the one that sid names", len(sd.Certificates))
		return nil
	}
	cert, err := c.parse(der)
	if err != nil {
		r.ledger.find(StepSigner, 1019, "%v", err)
		return nil
	}
	r.ledger.pass(StepSigner)
	return cert
}

func (c *Checker) parse(der []byte) (*x509ti.Certificate, error) {
	if c.Certificates == nil {
		return x509ti.Parse(der)
	}
	return c.Certificates.parse(der)
}

// coreSteps says where the steps of the core check stand in a report, and with which finding when one is not in order.
var coreSteps = [cms.StepCount]struct {
	step StepID
	code Code
}{
	cms.StepContainer:           {StepContainer, CodeContainer},
	cms.StepSignedAttributes:    {StepAttributes, CodeAttribute},
	cms.StepMessageDigest:       {StepDigest, CodeDigest},
	cms.StepSignature:           {StepSignature, CodeSignature},
	cms.StepCertReference:       {StepReference, CodeReference},
	cms.StepAlgorithmProtection: {StepAlgorithm, CodeAlgorithmBinding},
}

// coreCodes are findings that are more exact than that of their step.
var coreCodes = map[cms.Reason]Code{
	cms.DigestNotAdmissible:     CodeAlgorithm,
	cms.SignatureNotAdmissible:  CodeAlgorithm,
	cms.SaltLength:              CodeAlgorithm,
	cms.ContentTypeMismatch:     CodeContentType,
	cms.ContentTypeMissing:      CodeContentType,
	cms.MessageDigestMissing:    CodeAttribute,
	cms.ReferenceMissing:        CodeNoReference,
	cms.ReferenceSHA1:           CodeOldReference,
	cms.CertificateMissing:      CodeSignerCert,
	cms.ContentMissing:          CodeDetached,
	cms.NoSignedAttributes:      CodeAttribute,
	cms.SignatureDigestMismatch: CodeAlgorithm,
}

// core takes over the steps of the core check. The verdict is that of package cms; a code explains it.
func (r *checked) core(core *cms.Result) {
	for i, to := range coreSteps {
		f := core[i]
		if cms.Step(i) == cms.StepCountersignature || f.Verdict == cms.NotRun {
			continue
		}
		v := coreVerdicts[f.Verdict]
		if v == Valid {
			r.ledger.put(to.step, Valid, 0, f.Reason.String())
			continue
		}
		code, ok := coreCodes[f.Reason]
		if !ok {
			code = to.code
		}
		r.ledger.put(to.step, v, code, f.Reason.String())
	}
}

var coreVerdicts = [...]Verdict{cms.NotRun: NotRun, cms.Valid: Valid, cms.Warning: Warning, cms.Indeterminate: Indeterminate,
	cms.Invalid: Invalid}
