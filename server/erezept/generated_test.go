package erezept

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"ktradv/internal/brainpool"
	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
	"ktradv/server/trust"
)

var rigTime = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// rig is a billing PKI with one signer of each kind.
type rig struct {
	pki     *testpki.PKI
	b       *testpki.Billing
	signers map[testpki.SignerProfile]*testpki.Signer
	space   *trust.Space
}

var oneRig = sync.OnceValues(func() (*rig, error) {
	p, err := testpki.New(testpki.Config{Now: rigTime})
	if err != nil {
		return nil, err
	}
	r := &rig{pki: p, signers: map[testpki.SignerProfile]*testpki.Signer{}}
	if r.b, err = p.NewBilling(); err != nil {
		return nil, err
	}
	for i := testpki.Doctor; i <= testpki.OldService; i++ {
		if r.signers[i], err = r.b.Issue(i, int(i)+1, testpki.BrainpoolKey, nil); err != nil {
			return nil, err
		}
	}
	r.space, err = r.newSpace(testpki.ListOptions{}, 0)
	return r, err
})

// newSpace reads and verifies lists with the rig's authorities as an updater does.
func (r *rig) newSpace(o testpki.ListOptions, grace time.Duration) (*trust.Space, error) {
	lists, err := r.b.Lists(o)
	if err != nil {
		return nil, err
	}
	anchor, err := x509ti.Parse(lists.Anchor)
	if err != nil {
		return nil, err
	}
	t, err := tsl.Parse(lists.TSL)
	if err != nil {
		return nil, err
	}
	if _, err := t.Verify(rigTime, []*x509ti.Certificate{anchor}, nil); err != nil {
		return nil, err
	}
	v, err := tsl.Parse(lists.VL)
	if err != nil {
		return nil, err
	}
	var signers []*x509ti.Certificate
	for _, s := range t.Of(tsl.TypeVLSigner) {
		signers = append(signers, s.Certificates...)
	}
	if err := v.VerifyVL(rigTime, signers, nil); err != nil {
		return nil, err
	}
	return trust.NewSpace(trust.Config{TSLs: []*tsl.List{t}, VLs: []*tsl.List{v}, Grace: grace, Clock: func() time.Time { return rigTime }})
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r, err := oneRig()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) checker() *Checker {
	return &Checker{Space: func() *trust.Space { return r.space }, Clock: func() time.Time { return rigTime }, Status: fixedStatus{}}
}

func (r *rig) options() testpki.CaseOptions {
	return testpki.CaseOptions{Doctor: r.signers[testpki.Doctor], Pharmacy: r.signers[testpki.Pharmacy], Service: r.signers[testpki.Service]}
}

func (r *rig) issue(t testing.TB, p testpki.SignerProfile, kind testpki.KeyKind, change func(*testpki.Template)) *testpki.Signer {
	t.Helper()
	s, err := r.b.Issue(p, 100, kind, change)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// made is a case with nothing wrong.
func (r *rig) made(t testing.TB) *testpki.Case {
	t.Helper()
	c, err := r.b.Case(r.options())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func given(c *testpki.Case) *Case {
	return &Case{ID: c.ID, Records: []Given{{Kind: Prescription, Data: c.Prescription}, {Kind: Dispensing, Data: c.Dispensing}, {Kind: Receipt, Data: c.Receipt}}}
}

// fault is a row: what is done to a case, and what must be found where.
type fault struct {
	name   string
	do     func(t *testing.T, r *rig, o *testpki.CaseOptions, c *Checker)
	want   Verdict
	record Kind // "" for a step of the case
	step   StepID
	code   Code
}

func space(t *testing.T, r *rig, o testpki.ListOptions) func() *trust.Space {
	return graceful(t, r, o, 0)
}

func graceful(t *testing.T, r *rig, o testpki.ListOptions, grace time.Duration) func() *trust.Space {
	s, err := r.newSpace(o, grace)
	if err != nil {
		t.Fatal(err)
	}
	return func() *trust.Space { return s }
}

// cmsFault writes one record with a fault.
func cmsFault(kind Kind, f testpki.CMSFault) func(*testing.T, *rig, *testpki.CaseOptions, *Checker) {
	return cmsOption(kind, func(o *testpki.CMSOptions) { o.Fault = f })
}

func cmsOption(kind Kind, change func(*testpki.CMSOptions)) func(*testing.T, *rig, *testpki.CaseOptions, *Checker) {
	return func(_ *testing.T, _ *rig, o *testpki.CaseOptions, _ *Checker) {
		switch kind {
		case Prescription:
			o.Prescription = change
		case Dispensing:
			o.Dispensing = change
		default:
			o.Receipt = change
		}
	}
}

// receiptStatus changes the embedded answer of the receipt; there is nobody else to ask.
func receiptStatus(change func(*testpki.StatusAnswer)) func(*testing.T, *rig, *testpki.CaseOptions, *Checker) {
	return func(t *testing.T, r *rig, o *testpki.CaseOptions, c *Checker) {
		c.Status = onlyFor{r.signers[testpki.Pharmacy].Certificate}
		o.ReceiptStatus = func(a testpki.StatusAnswer) *testpki.StatusAnswer {
			change(&a)
			return &a
		}
	}
}

// onlyFor answers about one certificate.
type onlyFor struct{ der []byte }

func (f onlyFor) Status(ctx context.Context, q trust.StatusQuery) (trust.StatusAnswer, error) {
	if !bytes.Equal(q.Certificate.Raw, f.der) {
		return trust.StatusAnswer{}, context.DeadlineExceeded
	}
	return fixedStatus{}.Status(ctx, q)
}

// basicOf takes the BasicOCSPResponse out of an OCSPResponse.
func basicOf(t *testing.T, response []byte) []byte {
	s := cryptobyte.String(response)
	var basic cryptobyte.String
	if !s.ReadASN1(&s, asn1.SEQUENCE) || !s.SkipASN1(asn1.ENUM) || !s.ReadASN1(&s, asn1.Tag(0).Constructed().ContextSpecific()) ||
		!s.ReadASN1(&s, asn1.SEQUENCE) || !s.SkipASN1(asn1.OBJECT_IDENTIFIER) || !s.ReadASN1(&basic, asn1.OCTET_STRING) {
		t.Fatal("OCSP response cannot be read")
	}
	return basic
}

func signer(p testpki.SignerProfile, kind testpki.KeyKind, change func(*testpki.Template), to func(*testpki.CaseOptions) **testpki.Signer) func(*testing.T, *rig, *testpki.CaseOptions, *Checker) {
	return func(t *testing.T, r *rig, o *testpki.CaseOptions, _ *Checker) { *to(o) = r.issue(t, p, kind, change) }
}

func doctor(o *testpki.CaseOptions) **testpki.Signer   { return &o.Doctor }
func pharmacy(o *testpki.CaseOptions) **testpki.Signer { return &o.Pharmacy }
func receipts(o *testpki.CaseOptions) **testpki.Signer { return &o.Service }

var generated = []fault{
	{"nothing wrong", func(*testing.T, *rig, *testpki.CaseOptions, *Checker) {}, Valid, "", 0, 0},
	{"dentist", signer(testpki.Dentist, testpki.BrainpoolKey, nil, doctor), Valid, "", 0, 0},
	{"pharmacist's QES", signer(testpki.Pharmacist, testpki.BrainpoolKey, nil, pharmacy), Valid, "", 0, 0},
	{"P-256", signer(testpki.Doctor, testpki.P256Key, nil, doctor), Valid, "", 0, 0},
	{"RSA after its time", signer(testpki.Doctor, testpki.RSAKey, nil, doctor), Warning, Prescription, StepAlgorithm, CodePhasedOut},
	{"RSA with PSS", func(t *testing.T, r *rig, o *testpki.CaseOptions, _ *Checker) {
		o.Doctor = r.issue(t, testpki.Doctor, testpki.RSAKey, nil)
		o.Prescription = func(c *testpki.CMSOptions) { c.PSS = true }
	}, Warning, Prescription, StepAlgorithm, CodePhasedOut},
	{"subject key identifier", cmsOption(Receipt, func(o *testpki.CMSOptions) { o.SubjectKeyID = true }), Valid, "", 0, 0},
	{"status in revocation-values", func(t *testing.T, r *rig, o *testpki.CaseOptions, c *Checker) {
		c.Status = onlyFor{r.signers[testpki.Pharmacy].Certificate}
		o.Receipt = func(c *testpki.CMSOptions) { c.OCSP, c.RevocationValues = nil, [][]byte{basicOf(t, c.OCSP[0])} }
	}, Valid, "", 0, 0},
	{"signer's certificate is not the first", func(_ *testing.T, r *rig, o *testpki.CaseOptions, _ *Checker) {
		o.Receipt = func(c *testpki.CMSOptions) {
			c.Before = [][]byte{r.signers[testpki.OldService].Certificate}
			c.After = [][]byte{r.signers[testpki.Doctor].Certificate}
		}
	}, Valid, "", 0, 0},
	{"countersigned", func(_ *testing.T, r *rig, o *testpki.CaseOptions, _ *Checker) {
		o.Dispensing = func(c *testpki.CMSOptions) { c.Countersigner = &r.signers[testpki.Service].X509Identity }
	}, Valid, "", 0, 0},

	// Core signature.
	{"content changed", cmsFault(Prescription, testpki.CMSFaultContent), Invalid, Prescription, StepDigest, CodeDigest},
	{"digest of something else", cmsFault(Dispensing, testpki.CMSFaultMessageDigest), Invalid, Dispensing, StepDigest, CodeDigest},
	{"another key", cmsFault(Receipt, testpki.CMSFaultKey), Invalid, Receipt, StepSignature, CodeSignature},
	{"signature changed", cmsFault(Prescription, testpki.CMSFaultSignature), Invalid, Prescription, StepSignature, CodeSignature},
	{"signature as r||s", cmsFault(Dispensing, testpki.CMSFaultSignatureForm), Invalid, Dispensing, StepSignature, CodeSignature},
	{"wrong contentType", cmsFault(Receipt, testpki.CMSFaultContentType), Invalid, Receipt, StepAttributes, CodeContentType},
	{"no contentType", cmsFault(Receipt, testpki.CMSFaultNoContentType), Invalid, Receipt, StepAttributes, CodeContentType},
	{"no messageDigest", cmsFault(Receipt, testpki.CMSFaultNoMessageDigest), Invalid, Receipt, StepDigest, CodeAttribute},
	{"attribute twice", cmsFault(Receipt, testpki.CMSFaultAttributeTwice), Invalid, Receipt, StepAttributes, CodeAttribute},
	{"reference to another certificate", cmsFault(Receipt, testpki.CMSFaultReference), Invalid, Receipt, StepReference, CodeReference},
	{"reference with another number", cmsFault(Receipt, testpki.CMSFaultReferenceIssuer), Invalid, Receipt, StepReference, CodeReference},
	{"no reference", cmsOption(Receipt, func(o *testpki.CMSOptions) { o.NoReference = true }), Warning, Receipt, StepReference, CodeNoReference},
	{"reference with SHA-1", cmsOption(Receipt, func(o *testpki.CMSOptions) { o.SHA1Reference = true }), Warning, Receipt, StepReference, CodeOldReference},
	{"other algorithms stated", cmsFault(Receipt, testpki.CMSFaultProtection), Invalid, Receipt, StepAlgorithm, CodeAlgorithmBinding},
	{"digest not declared", cmsFault(Receipt, testpki.CMSFaultUndeclaredDigest), Invalid, Receipt, StepContainer, CodeContainer},
	{"sid of nobody", cmsFault(Receipt, testpki.CMSFaultSigner), Indeterminate, Receipt, StepSigner, CodeSignerCert},
	{"certificate left out", cmsOption(Receipt, func(o *testpki.CMSOptions) { o.NoCertificate = true }), Indeterminate, Receipt, StepSigner, CodeSignerCert},
	{"truncated", cmsFault(Prescription, testpki.CMSFaultTruncated), Invalid, Prescription, StepContainer, CodeContainer},
	{"no signing time", cmsOption(Receipt, func(o *testpki.CMSOptions) { o.NoSigningTime = true }), Indeterminate, Receipt, StepSigningTime, CodeNoSigningTime},
	{"detached", cmsOption(Receipt, func(o *testpki.CMSOptions) { o.Detached = true }), Invalid, Receipt, StepKind, CodeContent},
	{"second signer", func(_ *testing.T, r *rig, o *testpki.CaseOptions, _ *Checker) {
		o.Receipt = func(c *testpki.CMSOptions) {
			c.SecondSigner, c.SecondSignerTime = &r.signers[testpki.OldService].X509Identity, rigTime.AddDate(0, 0, -1)
		}
	}, Indeterminate, Receipt, StepContainer, CodeSeveral},
	{"wrong countersignature", func(_ *testing.T, r *rig, o *testpki.CaseOptions, _ *Checker) {
		o.Dispensing = func(c *testpki.CMSOptions) {
			c.Countersigner, c.Fault = &r.signers[testpki.Service].X509Identity, testpki.CMSFaultCountersignature
		}
	}, Warning, Dispensing, StepCountersign, CodeCountersignature},

	// Certificate.
	{"certificate had ended", signer(testpki.Doctor, testpki.BrainpoolKey, func(t *testpki.Template) { t.NotAfter = rigTime.AddDate(0, 0, -3) }, doctor), Invalid, Prescription, StepCertTime, 1021},
	{"certificate had not begun", signer(testpki.Pharmacy, testpki.BrainpoolKey, func(t *testpki.Template) { t.NotBefore = rigTime.Add(-time.Hour) }, pharmacy), Invalid, Dispensing, StepCertTime, 1021},
	{"no policies", signer(testpki.Pharmacy, testpki.BrainpoolKey, func(t *testpki.Template) { t.Policies = nil }, pharmacy), Invalid, Dispensing, StepType, 1033},
	{"another type", signer(testpki.Pharmacy, testpki.BrainpoolKey, func(t *testpki.Template) { t.Policies[1] = testpki.OIDSMBAut }, pharmacy), Invalid, Dispensing, StepType, 1018},
	{"another key usage", signer(testpki.Pharmacy, testpki.BrainpoolKey, func(t *testpki.Template) { t.KeyUsage = testpki.UsageDigitalSignature }, pharmacy), Invalid, Dispensing, StepKeyUsage, 1016},
	{"no key usage", signer(testpki.Pharmacy, testpki.BrainpoolKey, func(t *testpki.Template) { t.KeyUsage = 0 }, pharmacy), Invalid, Dispensing, StepKeyUsage, 1016},
	{"no QCStatements", signer(testpki.Doctor, testpki.BrainpoolKey, func(t *testpki.Template) { t.Extra = t.Extra[1:] }, doctor), Invalid, Prescription, StepQCStatements, 1048},
	{"no QcSSCD", signer(testpki.Doctor, testpki.BrainpoolKey, func(t *testpki.Template) {
		t.Extra[0].Value = []byte{0x30, 10, 0x30, 8, 6, 6, 4, 0, 0x8e, 0x46, 1, 1}
	}, doctor), Warning, Prescription, StepQCStatements, CodeNoSSCD},
	{"no QcCompliance", signer(testpki.Doctor, testpki.BrainpoolKey, func(t *testpki.Template) {
		t.Extra[0].Value = []byte{0x30, 10, 0x30, 8, 6, 6, 4, 0, 0x8e, 0x46, 1, 4}
	}, doctor), Invalid, Prescription, StepQCStatements, 1048},
	{"no admission", signer(testpki.Doctor, testpki.BrainpoolKey, func(t *testpki.Template) { t.Admission = nil }, doctor), Invalid, Prescription, StepRole, CodeRole},
	{"critical extension", signer(testpki.Pharmacy, testpki.BrainpoolKey, func(t *testpki.Template) {
		t.Extra = append(t.Extra, testpki.Extension{OID: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
	}, pharmacy), Invalid, Dispensing, StepCritical, CodeCritical},
	{"pharmacist as doctor", signer(testpki.Pharmacist, testpki.BrainpoolKey, nil, doctor), Invalid, Prescription, StepRole, CodeRole},
	{"computing centre as pharmacy", signer(testpki.Pharmacy, testpki.BrainpoolKey, func(t *testpki.Template) { t.Admission.OID = []int{1, 2, 276, 0, 76, 4, 270} }, pharmacy), Invalid, Dispensing, StepRole, CodeRole},
	{"doctor as pharmacist", signer(testpki.Doctor, testpki.BrainpoolKey, nil, pharmacy), Invalid, Dispensing, StepRole, CodeRole},
	{"service as doctor", signer(testpki.Service, testpki.BrainpoolKey, nil, doctor), Invalid, Prescription, StepType, 1018},
	{"pharmacy as service", signer(testpki.Pharmacy, testpki.BrainpoolKey, nil, receipts), Invalid, Receipt, StepType, 1018},
	{"old service", signer(testpki.OldService, testpki.BrainpoolKey, nil, receipts), Warning, Receipt, StepKeyUsage, CodeDigitalSignature},
	{"old service as pharmacy", signer(testpki.OldService, testpki.BrainpoolKey, nil, pharmacy), Invalid, Dispensing, StepType, 1018},

	// Issuer.
	{"CA of another PKI", func(t *testing.T, r *rig, o *testpki.CaseOptions, _ *Checker) {
		other, err := r.pki.NewBilling()
		if err != nil {
			t.Fatal(err)
		}
		if o.Pharmacy, err = other.Issue(testpki.Pharmacy, 1, testpki.BrainpoolKey, nil); err != nil {
			t.Fatal(err)
		}
	}, Indeterminate, Dispensing, StepCA, 1023},
	{"CA revoked before issue", func(t *testing.T, r *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Space = space(t, r, testpki.ListOptions{SMCBRevoked: rigTime.AddDate(-2, 0, 0)})
	}, Invalid, Dispensing, StepCAStatus, 1036},
	{"CA revoked after issue", func(t *testing.T, r *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Space = space(t, r, testpki.ListOptions{SMCBRevoked: rigTime.AddDate(0, -1, 0)})
	}, Valid, "", 0, 0},
	{"CA may not issue this type", func(t *testing.T, r *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Space = space(t, r, testpki.ListOptions{NotAuthorized: true})
	}, Invalid, Dispensing, StepType, 1061},
	{"CA withdrawn before issue", func(t *testing.T, r *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Space = space(t, r, testpki.ListOptions{QESWithdrawn: rigTime.AddDate(-2, 0, 0)})
	}, Invalid, Prescription, StepCAStatus, 1062},
	{"CA withdrawn after issue", func(t *testing.T, r *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Space = space(t, r, testpki.ListOptions{QESWithdrawn: rigTime.AddDate(0, -1, 0)})
	}, Warning, Prescription, StepCertTime, 1062},
	{"CA not qualified for signatures", func(t *testing.T, r *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Space = space(t, r, testpki.ListOptions{NotQualified: true})
	}, Invalid, Prescription, StepCAStatus, 1059},
	{"list of last year", func(t *testing.T, r *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Space = space(t, r, testpki.ListOptions{Issued: rigTime.AddDate(-1, 0, 0)})
	}, Indeterminate, Dispensing, StepList, 1009},
	{"list of yesterday", func(t *testing.T, r *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Space = space(t, r, testpki.ListOptions{Issued: rigTime.AddDate(0, 0, -1)})
	}, Valid, "", 0, 0},
	{"list that ran out yesterday", func(t *testing.T, r *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Space = space(t, r, testpki.ListOptions{Issued: rigTime.AddDate(0, 0, -31)})
	}, Indeterminate, Dispensing, StepList, 1009},
	{"list that runs out now", func(t *testing.T, r *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Space = space(t, r, testpki.ListOptions{Issued: rigTime.AddDate(0, 0, -30)})
	}, Indeterminate, Receipt, StepList, 1009},
	{"list that runs out in a second", func(t *testing.T, r *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Space = space(t, r, testpki.ListOptions{Issued: rigTime.AddDate(0, 0, -30).Add(time.Second)})
	}, Valid, "", 0, 0},
	{"list in its grace period", func(t *testing.T, r *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Space = graceful(t, r, testpki.ListOptions{Issued: rigTime.AddDate(0, 0, -31)}, 48*time.Hour)
	}, Warning, Receipt, StepList, 1008},
	{"list after its grace period", func(t *testing.T, r *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Space = graceful(t, r, testpki.ListOptions{Issued: rigTime.AddDate(0, 0, -32)}, 48*time.Hour)
	}, Indeterminate, Receipt, StepList, 1009},
	{"clock of the check is a year ahead", func(_ *testing.T, _ *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Clock = func() time.Time { return rigTime.AddDate(1, 0, 0) }
	}, Indeterminate, Receipt, StepList, 1009},

	// Status.
	{"nobody to ask", func(_ *testing.T, _ *rig, _ *testpki.CaseOptions, c *Checker) { c.Status = nil }, Indeterminate, Dispensing, StepStatus, CodeNoStatusSource},
	{"responder does not answer", func(_ *testing.T, _ *rig, _ *testpki.CaseOptions, c *Checker) { c.Status = onlyFor{} }, Indeterminate, Dispensing, StepStatus, 1032},
	{"revoked before", func(_ *testing.T, _ *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Status = fixedStatus{revoked: rigTime.AddDate(0, 0, -5)}
	}, Invalid, Dispensing, StepStatus, 1047},
	{"revoked after", func(_ *testing.T, _ *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Status = fixedStatus{revoked: rigTime.Add(-time.Hour)}
	}, Valid, "", 0, 0},
	{"embedded answer: revoked before", receiptStatus(func(a *testpki.StatusAnswer) {
		a.Status, a.RevokedAt = testpki.Revoked, rigTime.AddDate(0, 0, -5)
	}), Invalid, Receipt, StepStatus, 1047},
	{"embedded answer: unknown", receiptStatus(func(a *testpki.StatusAnswer) { a.Status = testpki.Unknown }), Invalid, Receipt, StepStatus, 1044},
	{"embedded answer of eleven hours", receiptStatus(func(a *testpki.StatusAnswer) { a.ProducedAt = a.ProducedAt.Add(-10 * time.Hour) }), Valid, "", 0, 0},
	{"embedded answer too old", receiptStatus(func(a *testpki.StatusAnswer) { a.ProducedAt = a.ProducedAt.AddDate(0, 0, -2) }), Indeterminate, Receipt, StepStatus, 1032},
	{"embedded answer later than the signature", receiptStatus(func(a *testpki.StatusAnswer) { a.ProducedAt = rigTime.Add(-time.Hour) }), Valid, "", 0, 0},
	{"embedded answer of tomorrow", receiptStatus(func(a *testpki.StatusAnswer) { a.ProducedAt = rigTime.AddDate(0, 0, 1) }), Indeterminate, Receipt, StepStatus, 1032},
	{"embedded answer with wrong signature", receiptStatus(func(a *testpki.StatusAnswer) { a.BadSignature = true }), Indeterminate, Receipt, StepStatus, 1032},
	{"embedded answer about another certificate", receiptStatus(func(a *testpki.StatusAnswer) { a.WrongSerial = true }), Indeterminate, Receipt, StepStatus, 1032},
	{"embedded answer without certHash", receiptStatus(func(a *testpki.StatusAnswer) { a.NoCertHash = true }), Indeterminate, Receipt, StepStatus, 1032},
	{"embedded answer with another certHash", receiptStatus(func(a *testpki.StatusAnswer) { a.WrongCertHash = true }), Indeterminate, Receipt, StepStatus, 1032},
	{"embedded answer of a responder not listed", func(t *testing.T, r *rig, o *testpki.CaseOptions, c *Checker) {
		c.Space = space(t, r, testpki.ListOptions{NoResponders: true})
		c.Status = onlyFor{r.signers[testpki.Pharmacy].Certificate}
	}, Indeterminate, Receipt, StepStatus, 1032},
	{"embedded answer not usable, but one online", func(t *testing.T, r *rig, o *testpki.CaseOptions, c *Checker) {
		receiptStatus(func(a *testpki.StatusAnswer) { a.BadSignature = true })(t, r, o, c)
		c.Status = fixedStatus{}
	}, Warning, Receipt, StepStatus, 1050},

	// Links.
	{"dispensing record of another prescription", func(_ *testing.T, _ *rig, o *testpki.CaseOptions, _ *Checker) {
		o.DispensingID = testpki.PrescriptionID(160, 99)
	}, Invalid, "", StepLinkID, CodeIDsDiffer},
	{"receipt of another prescription", func(_ *testing.T, _ *rig, o *testpki.CaseOptions, _ *Checker) {
		o.ReceiptID = testpki.PrescriptionID(160, 99)
	}, Invalid, "", StepLinkID, CodeIDsDiffer},
	{"dispensing record contradicts itself", func(_ *testing.T, _ *rig, o *testpki.CaseOptions, _ *Checker) {
		o.OtherID = testpki.PrescriptionID(160, 99)
	}, Warning, Dispensing, StepPrescriptionID, CodeIDsWithin},
	{"check digits", func(_ *testing.T, _ *rig, o *testpki.CaseOptions, _ *Checker) {
		o.ID = "160.000.000.000.123.77"
	}, Warning, Receipt, StepPrescriptionID, CodeCheckDigits},
	{"receipt about another content", func(_ *testing.T, _ *rig, o *testpki.CaseOptions, _ *Checker) {
		o.Digest = bytes.Repeat([]byte{7}, 32)
	}, Invalid, "", StepLinkHash, CodePrescriptionHash},
	{"signed in the future", func(_ *testing.T, _ *rig, o *testpki.CaseOptions, _ *Checker) {
		o.At = rigTime.Add(time.Hour)
	}, Indeterminate, Prescription, StepSigningTime, CodeSignedInFuture},
	{"clock of the check is a year behind", func(_ *testing.T, _ *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Clock = func() time.Time { return rigTime.AddDate(-1, 0, 0) }
	}, Indeterminate, Prescription, StepSigningTime, CodeSignedInFuture},
	{"status no longer to be had", func(_ *testing.T, _ *rig, _ *testpki.CaseOptions, c *Checker) {
		c.Clock = func() time.Time { return rigTime.AddDate(6, 0, 0) }
		c.Status = onlyFor{}
	}, Indeterminate, Dispensing, StepStatus, CodeAged},
}

// TestGeneratedCases makes cases with one thing wrong each; the first rows are cases without.
func TestGeneratedCases(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-01", "ERP-02", "ERP-03", "ERP-04", "ERP-05", "ERP-10", "ERP-11", "ERP-12", "ERP-13", "ERP-14", "ERP-15",
		"ERP-16", "ERP-17", "ERP-20", "ERP-21")
	for _, f := range generated {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			o, c := r.options(), r.checker()
			f.do(t, r, &o, c)
			made, err := r.b.Case(o)
			if err != nil {
				t.Fatal(err)
			}
			rep := c.Check(context.Background(), given(made))
			if rep.Verdict != f.want {
				t.Errorf("verdict %s; want %s\n%s", rep.Verdict, f.want, rep.Text())
			}
			if f.code == 0 {
				return
			}
			steps := rep.Steps
			for _, rec := range rep.Records {
				if rec.Kind == f.record {
					steps = rec.Steps
				}
			}
			if s := stepOf(steps, f.step); s.Code != f.code {
				t.Errorf("step %s has %s %d %q; want code %d\n%s", f.step, s.Verdict, s.Code, s.Detail, f.code, rep.Text())
			}
		})
	}
}

// TestOtherForms: cached and uncached, with tables and without, in every wrapper, the verdict is the same.
func TestOtherForms(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	made := r.made(t)
	c := r.checker()
	c.Chains, c.Certificates, c.Verifier = trust.NewChainCache(100), NewCertificateCache(100), &brainpool.TableCache{MaxBytes: 1 << 20}
	ta7 := testpki.BundleXML("ta7", testpki.BinaryXML("v", made.Prescription), testpki.BinaryXML("a", made.Dispensing), testpki.BinaryXML("q", made.Receipt))
	for range 4 {
		for name, in := range map[string]*Case{
			"as signed": given(made),
			"wrapped": {Records: []Given{{Kind: Prescription, Data: testpki.BinaryXML("v", made.Prescription)}, {Kind: Dispensing, Data: testpki.BinaryJSON("a", made.Dispensing)},
				{Kind: Receipt, Data: testpki.SignedReceiptXML(made.ReceiptContent, made.Receipt)}}},
			"one file with all three":        {Records: []Given{{Kind: Unknown, Data: ta7}}},
			"one file as a record of itself": {Single: true, Records: []Given{{Kind: Unknown, Data: ta7}}},
		} {
			if rep := c.Check(context.Background(), in); rep.Verdict != Valid || rep.PrescriptionID != made.ID {
				t.Errorf("%s: %s\n%s", name, rep.Verdict, rep.Text())
			}
		}
	}
}

// TestSickNote: an electronic sick note is checked in the same way (ERP-29).
func TestSickNote(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-29")
	r := newRig(t)
	note := []byte(`<Bundle xmlns="http://hl7.org/fhir"><id value="e1"/><meta><profile value="` + sickNoteProfile + `|1.1.0"/></meta><type value="document"/></Bundle>`)
	at := rigTime.AddDate(0, 0, -1)
	for _, tt := range []struct {
		signer *testpki.Signer
		want   Verdict
		step   StepID
		code   Code
	}{
		{r.signers[testpki.Doctor], Valid, 0, 0},
		{r.signers[testpki.Pharmacist], Invalid, StepRole, CodeRole},
		{r.signers[testpki.Service], Invalid, StepType, 1018},
		{r.issue(t, testpki.Pharmacy, testpki.BrainpoolKey, func(t *testpki.Template) { t.Admission.OID = []int{1, 2, 276, 0, 76, 4, 50} }), Warning, StepType, CodeNotQualified},
	} {
		msg, err := r.pki.SignCMS(note, &tt.signer.X509Identity, at, testpki.CMSOptions{BER: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []Kind{SickNote, Unknown} {
			rep := r.checker().Check(context.Background(), &Case{Single: true, Records: []Given{{Kind: kind, Data: msg}}})
			if rep.Verdict != tt.want || rep.Records[0].Found != SickNote || (tt.code != 0 && stepOf(rep.Records[0].Steps, tt.step).Code != tt.code) {
				t.Errorf("%s; want %s\n%s", rep.Verdict, tt.want, rep.Text())
			}
		}
		if rep := r.checker().Check(context.Background(), &Case{Single: true, Records: []Given{{Kind: Prescription, Data: msg}}}); rep.Verdict != Invalid {
			t.Errorf("a sick note as prescription is %s", rep.Verdict)
		}
	}
}

// TestFHIRFindings: what a FHIR validator found counts, except when it is nothing but the missing Bundle.signature (ERP-18).
func TestFHIRFindings(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-18")
	const cardinality = `{"severity":"error","code":"structure","diagnostics":"Bundle.signature: minimum required = 1, but only found 0 (from https://gematik.de/fhir/StructureDefinition/ErxReceipt)","expression":["Bundle"]}`
	const other = `{"severity":"error","code":"structure","diagnostics":"Bundle.entry: minimum required = 2, but only found 1","expression":["Bundle"]}`
	const warning = `{"severity":"warning","code":"structure","diagnostics":"something small"}`
	const similar = `{"severity":"error","code":"structure","diagnostics":"Bundle.signature: minimum required = 1, but it is malformed","expression":["Bundle.signature"]}`
	r := newRig(t)
	made := r.made(t)
	for _, tt := range []struct {
		name, issues string
		want         Verdict
		code         Code
	}{
		{"nothing", warning, Valid, 0},
		{"cardinality alone", cardinality, Warning, CodeFHIRCardinality},
		{"cardinality and a warning", warning + "," + cardinality, Warning, CodeFHIRCardinality},
		{"cardinality and another error", cardinality + "," + other, Invalid, CodeFHIR},
		{"another error", other, Invalid, CodeFHIR},
		{"another error about the same element", similar, Invalid, CodeFHIR},
		{"no issue", "", Indeterminate, CodeInput},
	} {
		in := given(made)
		in.FHIR = json.RawMessage(`{"resourceType":"OperationOutcome","issue":[` + tt.issues + `]}`)
		rep := r.checker().Check(context.Background(), in)
		rec := rep.Records[2]
		if rep.Verdict != tt.want || stepOf(rec.Steps, StepContent).Code != tt.code {
			t.Errorf("%s: %s; want %s\n%s", tt.name, rep.Verdict, tt.want, rep.Text())
		}
		if applied := strings.Join(rec.Transitions, ","); (applied == TransitionCardinality) != (tt.code == CodeFHIRCardinality) {
			t.Errorf("%s: transition rules %q", tt.name, applied)
		}
	}
}

// TestCacheHoldsNoVerdictOfAnother: a certificate that is revoked for one signing time and good for another keeps both
// verdicts with warm caches.
func TestCacheHoldsNoVerdictOfAnother(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-20")
	r := newRig(t)
	c := r.checker()
	c.Chains, c.Certificates = trust.NewChainCache(100), NewCertificateCache(100)
	c.Status = fixedStatus{revoked: rigTime.AddDate(0, 0, -10)}
	for range 3 {
		for _, tt := range []struct {
			days int
			want Verdict
		}{{-5, Invalid}, {-15, Valid}} {
			o := r.options()
			o.At = rigTime.AddDate(0, 0, tt.days)
			made, err := r.b.Case(o)
			if err != nil {
				t.Fatal(err)
			}
			if rep := c.Check(context.Background(), given(made)); rep.Verdict != tt.want {
				t.Errorf("%d days: %s; want %s\n%s", tt.days, rep.Verdict, tt.want, rep.Text())
			}
		}
	}
}

// TestRevokedLaterIsSaid: a CA that was revoked after it issued the certificate changes no verdict, and the report says so.
func TestRevokedLaterIsSaid(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	made := r.made(t)
	c := r.checker()
	c.Space = space(t, r, testpki.ListOptions{SMCBRevoked: rigTime.AddDate(0, -1, 0)})
	rep := c.Check(context.Background(), &Case{Single: true, Records: []Given{{Data: made.Dispensing}}})
	if s := stepOf(rep.Records[0].Steps, StepCAStatus); rep.Verdict != Valid || s.Verdict != Valid || !strings.Contains(s.Detail, "revoked in the list since 2026-10-22") {
		t.Errorf("%s, %+v", rep.Verdict, s)
	}
}

// TestDeepContent: a content beyond what is read is not called wrong, and one that is no document is.
func TestDeepContent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for content, want := range map[string]Verdict{
		`<Bundle xmlns="http://hl7.org/fhir">` + strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100) + "</Bundle>": Indeterminate,
		`<Bundle xmlns="http://hl7.org/fhir"><a></Bundle>`:                                                              Invalid,
	} {
		message, err := r.pki.SignCMS([]byte(content), &r.signers[testpki.Service].X509Identity, rigTime.Add(-time.Hour), testpki.CMSOptions{})
		if err != nil {
			t.Fatal(err)
		}
		rep := r.checker().Check(context.Background(), &Case{Single: true, Records: []Given{{Kind: Receipt, Data: message}}})
		if rep.Verdict != want {
			t.Errorf("%.60s: %s", content, rep.Text())
		}
	}
}

// TestReceiptDigest: the digest of the prescription may be missing in the receipts of old profiles and in no other, and there
// is one: with two of them nobody knows which prescription is meant.
func TestReceiptDigest(t *testing.T) {
	t.Parallel()
	const bundle, digest = "GEM_ERP_PR_Bundle|1.4", "GEM_ERP_PR_Digest"
	r := newRig(t)
	made := r.made(t)
	text := string(made.ReceiptContent)
	without := strings.Replace(text, digest, "Another", 1)
	from := strings.LastIndex(text, "<entry>")
	entry := text[from : strings.LastIndex(text, "</entry>")+len("</entry>")]
	for _, tt := range []struct {
		name, content string
		want          Verdict
		code          Code
	}{
		{"as it is", text, Valid, 0},
		{"without", without, Indeterminate, CodeHashExpected},
		{"without, version 1.2", strings.Replace(without, bundle, "GEM_ERP_PR_Bundle|1.2", 1), Indeterminate, CodeHashExpected},
		{"without, no version", strings.Replace(without, bundle, "GEM_ERP_PR_Bundle", 1), Indeterminate, CodeHashExpected},
		{"without, version 1.1.1", strings.Replace(without, bundle, "GEM_ERP_PR_Bundle|1.1.1", 1), Warning, CodeNoHash},
		{"without, version 1.10", strings.Replace(without, bundle, "GEM_ERP_PR_Bundle|1.10", 1), Indeterminate, CodeHashExpected},
		{"without, of 2021", strings.Replace(without, "fhir/erp/StructureDefinition/"+bundle, "fhir/StructureDefinition/ErxReceipt", 1), Warning, CodeNoHash},
		{"two", text[:from] + entry + text[from:], Indeterminate, CodeHashExpected},
	} {
		receipt, err := r.pki.SignCMS([]byte(tt.content), &r.signers[testpki.Service].X509Identity, made.ReceiptSignedAt, testpki.CMSOptions{})
		if err != nil {
			t.Fatal(err)
		}
		in := given(made)
		in.Records[2].Data = receipt
		rep := r.checker().Check(context.Background(), in)
		if s := stepOf(rep.Steps, StepLinkHash); rep.Verdict != tt.want || s.Code != tt.code {
			t.Errorf("%s: %s, %+v; want %s, %d\n%s", tt.name, rep.Verdict, s, tt.want, tt.code, rep.Text())
		}
	}
}

// TestFHIROfSingleRecord: findings of a validation count for a receipt on its own, too, and beside any other record nobody knows what
// they mean.
func TestFHIROfSingleRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	made := r.made(t)
	findings := json.RawMessage(`{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"structure","diagnostics":"Bundle.entry: minimum required = 2"}]}`)
	for _, tt := range []struct {
		data []byte
		want Verdict
		code Code
	}{{made.Receipt, Invalid, CodeFHIR}, {made.Prescription, Indeterminate, CodeInput}} {
		rep := r.checker().Check(context.Background(), &Case{Single: true, Records: []Given{{Data: tt.data}}, FHIR: findings})
		if rep.Verdict != tt.want || stepOf(rep.Records[0].Steps, StepContent).Code != tt.code {
			t.Errorf("%s; want %s\n%s", rep.Verdict, tt.want, rep.Text())
		}
	}
}

// TestClosedCA: a CA that had ceased to operate when it issued the certificate is named, with a code of its own; one that
// ceased later is not.
func TestClosedCA(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	made := r.made(t)
	lists, err := r.b.Lists(testpki.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for closed, want := range map[time.Time]Verdict{rigTime.AddDate(-4, 0, 0): Warning, rigTime.AddDate(0, 0, -1): Valid} {
		l, err := tsl.Parse(lists.TSL)
		if err != nil {
			t.Fatal(err)
		}
		for i := range l.Services {
			if s := &l.Services[i]; s.Type == tsl.TypeCAPKC {
				s.Status, s.Start = tsl.StatusExpired, closed
			}
		}
		space, err := trust.NewSpace(trust.Config{TSLs: []*tsl.List{l}, Clock: func() time.Time { return rigTime }})
		if err != nil {
			t.Fatal(err)
		}
		c := r.checker()
		c.Space = func() *trust.Space { return space }
		rep := c.Check(context.Background(), &Case{Single: true, Records: []Given{{Kind: Receipt, Data: made.Receipt}}})
		if s := stepOf(rep.Records[0].Steps, StepCAStatus); rep.Verdict != want || (s.Code == CodeCAClosed) != (want == Warning) {
			t.Errorf("closed %s: %s\n%s", closed, rep.Verdict, rep.Text())
		}
	}
}
