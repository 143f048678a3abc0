package trust_test

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"ktradv/internal/ocsp"
	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
	"ktradv/server/trust"
)

// now is the time of the checks, at the signing time.
var (
	at  = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	now = at.AddDate(0, 0, 2)
)

// world is a PKI with lists.
type world struct {
	pki        *testpki.PKI
	anchor     *x509ti.Certificate
	tslCA      testpki.X509Authority
	tslSigner  testpki.X509Authority
	vlSigner   testpki.X509Authority
	qesCA      testpki.X509Authority
	qesSigner  testpki.X509Authority // OCSP signer that qesCA issued
	institute  *x509ti.Certificate   // C.HCI.OSIG
	receipt    *x509ti.Certificate   // C.FD.OSIG
	physician  *x509ti.Certificate   // C.HP.QES
	card       *x509ti.Certificate   // C.CH.AUTN
	ocspSigner *x509ti.Certificate
}

var sharedWorld = sync.OnceValues(makeWorld)

func newWorld(t testing.TB) *world {
	t.Helper()
	w, err := sharedWorld()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func makeWorld() (w *world, err error) {
	w = &world{}
	if w.pki, err = testpki.New(testpki.Config{Now: at, Rand: mathrand.NewChaCha8([32]byte{21})}); err != nil {
		return nil, err
	}
	if w.tslCA, w.tslSigner, err = w.pki.NewTSLAuthority(1); err != nil {
		return nil, err
	}
	if _, w.vlSigner, err = w.pki.NewTSLAuthority(9); err != nil {
		return nil, err
	}
	ca, err := w.pki.IssueX509(&w.pki.ComponentCA, testpki.Template{
		Subject: []testpki.Attribute{{OID: []int{2, 5, 4, 3}, Value: "ADV.HBA-qCA1 TEST-ONLY"}}, NotBefore: at.AddDate(-4, 0, 0), NotAfter: at.AddDate(4, 0, 0), CA: true,
		KeyUsage: testpki.UsageCertSign, Policies: [][]int{x509ti.OIDPolicyHBA},
	})
	if err != nil {
		return nil, err
	}
	w.qesCA = testpki.X509Authority{Key: ca.Key, Certificate: ca.Certificate}
	signer, err := w.pki.IssueX509(&w.qesCA, testpki.Template{
		Subject: []testpki.Attribute{{OID: []int{2, 5, 4, 3}, Value: "ADV.HBA-qCA1 OCSP TEST-ONLY"}}, NotBefore: at.AddDate(-3, 0, 0), NotAfter: at.AddDate(4, 0, 0),
		KeyUsage: testpki.UsageNonRepudiation, ExtKeyUsage: [][]int{x509ti.OIDOCSPSigning},
	})
	if err != nil {
		return nil, err
	}
	w.qesSigner = testpki.X509Authority{Key: signer.Key, Certificate: signer.Certificate}
	for _, c := range []struct {
		to      **x509ti.Certificate
		issuer  *testpki.X509Authority
		profile x509ti.Profile
		role    x509ti.OID
	}{
		{&w.institute, &w.pki.SMBCA, x509ti.HCIOSIG, x509ti.OIDApotheke},
		{&w.receipt, &w.pki.ComponentCA, x509ti.FDOSIG, x509ti.OIDERezept},
		{&w.physician, &w.qesCA, x509ti.HPQES, x509ti.OIDArzt},
		{&w.card, &w.pki.EGKCA, x509ti.EGKAUTN, x509ti.OIDVersicherter},
	} {
		id, err := w.pki.IssueX509(c.issuer, template(c.profile, c.role))
		if err != nil {
			return nil, err
		}
		if *c.to, err = x509ti.Parse(id.Certificate); err != nil {
			return nil, err
		}
	}
	if w.anchor, err = x509ti.Parse(w.tslCA.Certificate); err != nil {
		return nil, err
	}
	w.ocspSigner, err = x509ti.Parse(w.pki.OtherOCSPSigner.Certificate)
	return w, err
}

func template(p x509ti.Profile, role x509ti.OID) testpki.Template {
	t := testpki.Template{
		Subject: []testpki.Attribute{{OID: []int{2, 5, 4, 3}, Value: p.Name + " TEST-ONLY"}}, NotBefore: at.AddDate(-1, 0, 0), NotAfter: at.AddDate(4, 0, 0),
		KeyUsage: int(p.KeyUsage), Policies: [][]int{p.Policy, p.Type}, Admission: &testpki.Admission{Item: "Rolle", OID: role, Registration: "1-2"},
	}
	if p.ExtKeyUsage != nil {
		t.ExtKeyUsage = [][]int{p.ExtKeyUsage}
	}
	if p.QES {
		statements, _ := asn1.Marshal([]struct{ ID asn1.ObjectIdentifier }{{x509ti.OIDQcCompliance}, {x509ti.OIDQcSSCD}})
		t.Extra = []testpki.Extension{{OID: []int{1, 3, 6, 1, 5, 5, 7, 1, 3}, Value: statements}}
	}
	return t
}

func state(kind, status string, start time.Time, information ...string) testpki.ListState {
	return testpki.ListState{Type: kind, Status: status, Start: start, Information: information}
}

// tslSpec is a TSL that everything in the world is good by.
func (w *world) tslSpec() testpki.List {
	start := at.AddDate(-2, 0, 0)
	ca := func(a testpki.X509Authority, types ...string) testpki.ListService {
		return testpki.ListService{ListState: state(tsl.TypeCAPKC, tsl.StatusInAccord, start), Name: "CA", Certificates: [][]byte{a.Certificate},
			SupplyPoints: []string{"http://ocsp.ti.invalid/"}, Extensions: types}
	}
	return testpki.List{
		Sequence: 10100, Issued: at.AddDate(0, 0, -3), NextUpdate: at.AddDate(0, 0, 27), Primary: "https://tsl.invalid/tsl.xml", Backup: "https://bak.invalid/tsl.xml",
		Services: []testpki.ListService{
			ca(w.pki.SMBCA, x509ti.OIDSMBAut.String(), x509ti.OIDSMBOSig.String()),
			ca(w.pki.ComponentCA, x509ti.OIDFDSig.String(), x509ti.OIDFDOSig.String()),
			ca(w.pki.EGKCA, x509ti.OIDEGKAut.String(), x509ti.OIDEGKAutN.String()),
			{ListState: state(tsl.TypeOCSP, tsl.StatusInAccord, start), Name: "OCSP", Certificates: [][]byte{w.pki.OtherOCSPSigner.Certificate, w.pki.OCSPSigner.Certificate}},
			{ListState: state(tsl.TypeUnknown, tsl.StatusInAccord, start), Name: "other", Certificates: [][]byte{w.pki.RSAOCSPSigner.Certificate}},
			{ListState: state("http://example.invalid/unheard-of", tsl.StatusInAccord, start), Name: "unknown type"},
			{ListState: state(tsl.TypeVLSigner, tsl.StatusInAccord, start), Name: "VL", Certificates: [][]byte{w.vlSigner.Certificate},
				SupplyPoints: []string{"https://vl.invalid/de.xml"}, Redirects: [][2]string{{testpki.DefaultOCSPURL, "http://qes.ti.invalid/"}}},
		},
	}
}

// vlSpec is a BNetzA-VL by which the CA of qualified certificates is granted.
func (w *world) vlSpec() testpki.List {
	return testpki.List{
		VL: true, Sequence: 55, Issued: at.AddDate(0, 0, -10), NextUpdate: at.AddDate(0, 5, 0),
		Services: []testpki.ListService{{
			ListState: state(tsl.TypeCAQC, tsl.StatusGranted, at.AddDate(-3, 0, 0), tsl.ForeSignatures), Name: "qCA", Certificates: [][]byte{w.qesCA.Certificate},
		}},
	}
}

// list writes and reads a list; the signature is checked where lists are accepted.
func (w *world) list(t testing.TB, spec testpki.List) *tsl.List {
	t.Helper()
	signer := w.tslSigner
	if spec.VL {
		signer = w.vlSigner
	}
	raw, err := w.pki.WriteList(spec, signer)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tsl.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (w *world) space(t testing.TB, c trust.Config, specs ...testpki.List) *trust.Space {
	t.Helper()
	for _, spec := range specs {
		if spec.VL {
			c.VLs = append(c.VLs, w.list(t, spec))
		} else {
			c.TSLs = append(c.TSLs, w.list(t, spec))
		}
	}
	if c.Clock == nil {
		c.Clock = func() time.Time { return now }
	}
	s, err := trust.NewSpace(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answers is a StatusSource that gives one answer and remembers the question.
type answers struct {
	answer trust.StatusAnswer
	err    error
	mu     sync.Mutex
	asked  []trust.StatusQuery
}

func (a *answers) Status(_ context.Context, q trust.StatusQuery) (trust.StatusAnswer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, q)
	return a.answer, a.err
}

func good() *answers {
	return &answers{answer: trust.StatusAnswer{Result: ocsp.Result{Status: ocsp.Good, ProducedAt: now}, Source: "online"}}
}

func (w *world) ocsp(t testing.TB, cert *x509ti.Certificate, issuer, signer testpki.X509Authority, a testpki.OCSPAnswer) []byte {
	t.Helper()
	a.Certificate, a.Issuer = cert.Raw, issuer.Certificate
	raw, err := w.pki.AnswerOCSP(a, signer)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (w *world) issue(t testing.TB, issuer *testpki.X509Authority, tmpl testpki.Template) *x509ti.Certificate {
	t.Helper()
	id, err := w.pki.IssueX509(issuer, tmpl)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509ti.Parse(id.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCheck018 changes one thing at a time of a check that passes.
func TestCheck018(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_4652-01", "GS-A_4653-01", "GS-A_4654-01", "GS-A_4655-01", "GS-A_4749-01", "GS-A_4660-02", "GS-A_4661-01", "GS-A_4751",
		"GS-A_5336", "A_17700", "ERP-10", "ERP-14", "ERP-15")
	w := newWorld(t)
	long := template(x509ti.HCIOSIG, x509ti.OIDApotheke)
	long.NotAfter = at.AddDate(11, 0, 0)
	longLived := w.issue(t, &w.pki.SMBCA, long)
	type setup struct {
		spec    testpki.List
		cert    *x509ti.Certificate
		options trust.Options
		grace   time.Duration
		source  *answers
	}
	for _, tc := range []struct {
		name    string
		change  func(*setup)
		verdict trust.Verdict
		step    string // the one that decides; "" when everything is valid
		code    int
	}{
		{name: "good"},
		{name: "not yet valid", change: func(s *setup) { s.options.At = at.AddDate(-1, 0, -1) }, verdict: trust.Invalid, step: trust.StepCertTime, code: 1021},
		{name: "run out", change: func(s *setup) {
			s.options.At, s.options.Now, s.spec.NextUpdate = at.AddDate(4, 0, 1), at.AddDate(4, 0, 2), at.AddDate(9, 0, 0)
		}, verdict: trust.Invalid, step: trust.StepCertTime, code: 1021},
		{name: "another profile is asked for", change: func(s *setup) { s.options.Profiles = []x509ti.Profile{x509ti.HCIAUT} }, verdict: trust.Invalid, step: x509ti.StepType, code: 1018},
		{name: "key usage", change: func(s *setup) {
			tmpl := template(x509ti.HCIOSIG, x509ti.OIDApotheke)
			tmpl.KeyUsage = testpki.UsageDigitalSignature
			s.cert = w.issue(t, &w.pki.SMBCA, tmpl)
		}, verdict: trust.Invalid, step: x509ti.StepKeyUsage, code: 1016},
		{name: "no policies", change: func(s *setup) {
			tmpl := template(x509ti.HCIOSIG, x509ti.OIDApotheke)
			tmpl.Policies = nil
			s.cert = w.issue(t, &w.pki.SMBCA, tmpl)
		}, verdict: trust.Invalid, step: x509ti.StepType, code: 1033},
		{name: "critical extension", change: func(s *setup) {
			tmpl := template(x509ti.HCIOSIG, x509ti.OIDApotheke)
			tmpl.Extra = []testpki.Extension{{OID: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
			s.cert = w.issue(t, &w.pki.SMBCA, tmpl)
		}, verdict: trust.Invalid, step: x509ti.StepCritical},
		{name: "CA not in the list", change: func(s *setup) { s.spec.Services = s.spec.Services[1:] }, verdict: trust.Indeterminate, step: trust.StepCA, code: 1027},
		{name: "CA of that name with another key", change: func(s *setup) {
			s.cert = w.issue(t, w.namesake(t), template(x509ti.HCIOSIG, x509ti.OIDApotheke))
		}, verdict: trust.Indeterminate, step: trust.StepCA, code: 1023},
		{name: "signature", change: func(s *setup) { s.cert = damaged(t, s.cert) }, verdict: trust.Invalid, step: trust.StepCertSignature, code: 1024},
		{name: "CA may not issue that type", change: func(s *setup) { s.spec.Services[0].Extensions = []string{x509ti.OIDSMBAut.String()} }, verdict: trust.Invalid, step: x509ti.StepType, code: 1061},
		{name: "CA revoked before it issued the certificate", change: func(s *setup) {
			s.spec.Services[0].ListState = state(tsl.TypeCAPKC, tsl.StatusRevoked, s.cert.NotBefore.Add(-time.Second))
		}, verdict: trust.Invalid, step: trust.StepCAStatus, code: 1036},
		{name: "CA revoked at that second", change: func(s *setup) {
			s.spec.Services[0].ListState = state(tsl.TypeCAPKC, tsl.StatusRevoked, s.cert.NotBefore)
		}},
		{name: "CA revoked after it issued the certificate", change: func(s *setup) {
			s.spec.Services[0].ListState = state(tsl.TypeCAPKC, tsl.StatusRevoked, s.cert.NotBefore.Add(time.Second))
		}},
		{name: "CA of an unknown status", change: func(s *setup) {
			s.spec.Services[0].ListState = state(tsl.TypeCAPKC, "http://example.invalid/status", at.AddDate(-2, 0, 0))
		}, verdict: trust.Indeterminate, step: trust.StepCAStatus},
		{name: "entry is no CA", change: func(s *setup) {
			s.spec.Services[0].ListState = state(tsl.TypeUnknown, tsl.StatusInAccord, at.AddDate(-2, 0, 0))
		}, verdict: trust.Indeterminate, step: trust.StepCA, code: 1027},
		{name: "list in its grace period", change: func(s *setup) { s.spec.NextUpdate, s.grace = now.Add(-time.Hour), 2*time.Hour }, verdict: trust.Warnings, step: trust.StepList, code: 1008},
		{name: "list of yesterday has run out", change: func(s *setup) { s.spec.NextUpdate = now.AddDate(0, 0, -1) }, verdict: trust.Indeterminate, step: trust.StepList, code: 1009},
		{name: "list of last year", change: func(s *setup) {
			s.spec.Issued, s.spec.NextUpdate, s.grace = at.AddDate(-1, 0, 0), at.AddDate(-1, 1, 0), 30*24*time.Hour
		}, verdict: trust.Indeterminate, step: trust.StepList, code: 1009},
		{name: "revoked", change: func(s *setup) { s.source.answer.Status = ocsp.Revoked }, verdict: trust.Invalid, step: trust.StepStatus, code: 1047},
		{name: "unknown to the responder", change: func(s *setup) { s.source.answer.Status = ocsp.Unknown }, verdict: trust.Invalid, step: trust.StepStatus, code: 1044},
		{name: "unknown after its end", change: func(s *setup) {
			s.source.answer.Status, s.options.Now, s.spec.NextUpdate = ocsp.Unknown, at.AddDate(5, 0, 0), at.AddDate(9, 0, 0)
		}, verdict: trust.Indeterminate, step: trust.StepStatus, code: 1044},
		{name: "an answer without a status", change: func(s *setup) { s.source.answer.Status = ocsp.Indeterminate }, verdict: trust.Indeterminate, step: trust.StepStatus, code: 1029},
		{name: "no responder", change: func(s *setup) { s.source.err = ocsp.NotAvailable }, verdict: trust.Indeterminate, step: trust.StepStatus, code: 1032},
		{name: "no responder, tolerated", change: func(s *setup) { s.source.err, s.options.TolerateStatusFailure = ocsp.NotAvailable, true }, verdict: trust.Warnings, step: trust.StepStatus, code: 1028},
		{name: "certHash of another", change: func(s *setup) { s.source.err, s.options.TolerateStatusFailure = ocsp.CertHashMismatch, true }, verdict: trust.Invalid, step: trust.StepStatus, code: 1041},
		{name: "an error without a code", change: func(s *setup) { s.source.err = errors.New("broken") }, verdict: trust.Indeterminate, step: trust.StepStatus, code: 1032},
		{name: "nobody to ask", change: func(s *setup) { s.source = nil }, verdict: trust.Indeterminate, step: trust.StepStatus, code: 1039},
		{name: "offline on purpose", change: func(s *setup) { s.source, s.options.Offline = nil, true }, verdict: trust.Warnings, step: trust.StepStatus, code: 1039},
		{name: "no profile", change: func(s *setup) { s.options.Profiles = nil }, verdict: trust.Indeterminate, step: x509ti.StepType},
		{name: "the list decides, not the CA's own end", change: func(s *setup) {
			s.cert, s.options.At, s.options.Now, s.spec.NextUpdate = longLived, at.AddDate(9, 0, 0), at.AddDate(9, 0, 1), at.AddDate(10, 0, 0)
		}},
		{name: "chain model after the CA's end", change: func(s *setup) {
			s.cert, s.options.At, s.options.Now, s.spec.NextUpdate, s.options.Model = longLived, at.AddDate(9, 0, 0), at.AddDate(9, 0, 1), at.AddDate(10, 0, 0), trust.ChainModel
		}},
		{name: "shell model after the CA's end", change: func(s *setup) {
			s.cert, s.options.At, s.options.Now, s.spec.NextUpdate, s.options.Model = longLived, at.AddDate(9, 0, 0), at.AddDate(9, 0, 1), at.AddDate(10, 0, 0), trust.Shell
		}, verdict: trust.Invalid, step: trust.StepModel, code: 1021},
		{name: "chain model", change: func(s *setup) { s.options.Model = trust.ChainModel }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := &setup{spec: w.tslSpec(), cert: w.institute, source: good(), options: trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HPQES, x509ti.HCIOSIG}}}
			if tc.change != nil {
				tc.change(s)
			}
			if s.source != nil {
				s.options.Status = s.source
			}
			if tc.verdict == trust.NotRun {
				tc.verdict = trust.Valid
			}
			space := w.space(t, trust.Config{Grace: s.grace}, s.spec)
			for _, cache := range []*trust.ChainCache{nil, trust.NewChainCache(100)} {
				for range 2 { // the second time from the cache
					s.options.Cache = cache
					r := space.Check(context.Background(), s.cert, s.options)
					if r.Verdict != tc.verdict {
						t.Fatalf("verdict %v, want %v; %+v", r.Verdict, tc.verdict, r.Steps)
					}
					if tc.step == "" {
						if r.Profile != "C.HCI.OSIG" || !r.Type.Equal(x509ti.OIDSMBOSig) || len(r.Roles) != 1 || !r.Roles[0].Equal(x509ti.OIDApotheke) || r.CA == nil || r.OCSP == nil {
							t.Errorf("result %+v", r)
						}
						continue
					}
					if step := r.Step(tc.step); step.Verdict != tc.verdict || step.Code != tc.code {
						t.Errorf("step %+v, want %v with code %d", step, tc.verdict, tc.code)
					}
				}
			}
		})
	}
}

// namesake is a CA with the name of SMBCA and another key.
func (w *world) namesake(t testing.TB) *testpki.X509Authority {
	t.Helper()
	other, err := testpki.New(testpki.Config{Now: at, Rand: mathrand.NewChaCha8([32]byte{22})})
	if err != nil {
		t.Fatal(err)
	}
	return &other.SMBCA
}

// damaged flips a bit of the signature.
func damaged(t testing.TB, c *x509ti.Certificate) *x509ti.Certificate {
	t.Helper()
	der := slices.Clone(c.Raw)
	der[len(der)-1] ^= 1
	d, err := x509ti.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestQuestion: what the status source is asked, by profile.
func TestQuestion(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_4656")
	w := newWorld(t)
	space := w.space(t, trust.Config{}, w.tslSpec(), w.vlSpec())
	for _, tc := range []struct {
		cert                           *x509ti.Certificate
		profile                        x509ti.Profile
		url                            string
		listed, nonce, ignore, noReuse bool
		responders                     int
	}{
		{w.institute, x509ti.HCIOSIG, "http://ocsp.ti.invalid/", true, false, false, false, 2},
		{w.receipt, x509ti.FDOSIG, "http://ocsp.ti.invalid/", true, false, false, false, 2},
		{w.physician, x509ti.HPQES, "http://qes.ti.invalid/", false, true, false, false, 0}, // the TSL's redirect
		{w.card, x509ti.EGKAUTN, "http://ocsp.ti.invalid/", true, false, true, true, 2},
	} {
		source := good()
		r := space.Check(context.Background(), tc.cert, trust.Options{At: at, Profiles: []x509ti.Profile{tc.profile}, Status: source})
		if r.Verdict != trust.Valid || len(source.asked) != 1 {
			t.Errorf("%s: %+v", tc.profile.Name, r)
			continue
		}
		q := source.asked[0]
		if q.URL != tc.url || q.ListedOnly != tc.listed || q.Nonce != tc.nonce || q.IgnoreCertHash != tc.ignore || q.NoReuse != tc.noReuse || len(q.Responders) != tc.responders ||
			!q.At.Equal(at) || !q.Now.Equal(now) || q.Profile != tc.profile.Name {
			t.Errorf("%s: %+v", tc.profile.Name, q)
		}
	}
	// C.ZD.TLS-S of the role oid_stamp has no certHash, others have one.
	for role, ignore := range map[int]bool{184: true, 189: false} {
		spec := w.tslSpec()
		spec.Services[1].Extensions = append(spec.Services[1].Extensions, x509ti.OIDZDTLSS.String())
		source := good()
		cert := w.issue(t, &w.pki.ComponentCA, template(x509ti.ZDTLSS, x509ti.TI(role)))
		r := w.space(t, trust.Config{}, spec).Check(context.Background(), cert, trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.ZDTLSS}, Status: source})
		if r.Verdict != trust.Valid || len(source.asked) != 1 || source.asked[0].IgnoreCertHash != ignore {
			t.Errorf("role .%d: %v, asked %+v", role, r.Verdict, source.asked)
		}
	}
	// An entry without an address, and with the placeholder: nothing is made up.
	for _, points := range [][]string{nil, {"http://ocsp00.gematik.invalid/not-used"}} {
		spec := w.tslSpec()
		spec.Services[0].SupplyPoints = points
		source := good()
		w.space(t, trust.Config{}, spec).Check(context.Background(), w.institute, trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Status: source})
		if len(source.asked) != 1 || source.asked[0].URL != "" {
			t.Errorf("supply points %q: %+v", points, source.asked)
		}
	}
}

func parse(t testing.TB, der []byte) *x509ti.Certificate {
	t.Helper()
	c, err := x509ti.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEmbedded: responses that came with the certificate.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-11", "ERP-13", "ERP-15", "ERP-20", "GS-A_4657-03")
	w := newWorld(t)
	space := w.space(t, trust.Config{}, w.tslSpec(), w.vlSpec())
	hour := func(n int) time.Time { return at.Add(time.Duration(n) * time.Hour) }
	smb := func(a testpki.OCSPAnswer) []byte {
		return w.ocsp(t, w.institute, w.pki.SMBCA, w.pki.OtherOCSPSigner, a)
	}
	qes := func(a testpki.OCSPAnswer) []byte { return w.ocsp(t, w.physician, w.qesCA, w.qesSigner, a) }
	for _, tc := range []struct {
		name     string
		cert     *x509ti.Certificate
		embedded [][]byte
		source   *answers
		verdict  trust.Verdict
		code     int    // of the last step about the status
		used     string // source of the answer that counted
	}{
		{"nonQES, nine hours old", w.institute, [][]byte{smb(testpki.OCSPAnswer{ProducedAt: hour(-9)})}, nil, trust.Valid, 0, "embedded"},
		{"QES by the CA's own responder", w.physician, [][]byte{qes(testpki.OCSPAnswer{ProducedAt: hour(-9)})}, nil, trust.Valid, 0, "embedded"},
		{"QES, signed by a responder that is neither listed nor issued", w.physician, [][]byte{w.ocsp(t, w.physician, w.qesCA, w.pki.OtherOCSPSigner, testpki.OCSPAnswer{ProducedAt: at})}, nil, trust.Indeterminate, 1030, ""},
		{"nonQES by a responder of the CA that is not listed", w.institute, [][]byte{w.ocsp(t, w.institute, w.pki.SMBCA, w.qesSigner, testpki.OCSPAnswer{ProducedAt: at})}, nil, trust.Indeterminate, 1030, ""},
		{"too old, nobody to ask", w.institute, [][]byte{smb(testpki.OCSPAnswer{ProducedAt: hour(-13)})}, nil, trust.Indeterminate, 1029, ""},
		{"too old, asked online", w.institute, [][]byte{smb(testpki.OCSPAnswer{ProducedAt: hour(-13)})}, good(), trust.Warnings, 0, "online"},
		{"garbage, asked online", w.institute, [][]byte{{1, 2, 3}}, good(), trust.Warnings, 0, "online"},
		{"about another certificate, asked online", w.institute, [][]byte{w.ocsp(t, w.receipt, w.pki.ComponentCA, w.pki.OtherOCSPSigner, testpki.OCSPAnswer{ProducedAt: at})}, good(), trust.Warnings, 0, "online"},
		{"none, asked online", w.institute, nil, good(), trust.Valid, 0, "online"},
		{"revoked before", w.institute, [][]byte{smb(testpki.OCSPAnswer{Status: testpki.Revoked, RevokedAt: hour(-1), ProducedAt: hour(1)})}, good(), trust.Invalid, 1047, "embedded"},
		{"revoked after", w.institute, [][]byte{smb(testpki.OCSPAnswer{Status: testpki.Revoked, RevokedAt: hour(1), ProducedAt: hour(2)})}, nil, trust.Valid, 0, "embedded"},
		{"the youngest counts", w.institute, [][]byte{smb(testpki.OCSPAnswer{ProducedAt: hour(-9)}), smb(testpki.OCSPAnswer{Status: testpki.Revoked, RevokedAt: hour(-1), ProducedAt: hour(-1)}), smb(testpki.OCSPAnswer{ProducedAt: hour(-2)})}, nil, trust.Invalid, 1047, "embedded"},
		{"a younger one with a broken signature beside a good one", w.institute, [][]byte{broken(smb(testpki.OCSPAnswer{ProducedAt: at})), smb(testpki.OCSPAnswer{ProducedAt: hour(-1)})}, nil, trust.Valid, 0, "embedded"},
		{"certHash of another", w.institute, [][]byte{smb(testpki.OCSPAnswer{ProducedAt: at, HashOf: []byte("x")})}, good(), trust.Warnings, 0, "online"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, cache := range []*trust.ChainCache{nil, trust.NewChainCache(10)} {
				for range 2 {
					o := trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HPQES, x509ti.HCIOSIG}, Embedded: tc.embedded, Cache: cache}
					if tc.source != nil {
						o.Status = tc.source
					}
					r := space.Check(context.Background(), tc.cert, o)
					last := r.Steps[len(r.Steps)-1]
					if r.Verdict != tc.verdict || last.ID != trust.StepStatus || last.Code != tc.code {
						t.Fatalf("verdict %v, want %v; last step %+v, want code %d", r.Verdict, tc.verdict, last, tc.code)
					}
					if (r.OCSP == nil) != (tc.used == "") || r.OCSP != nil && r.OCSP.Source != tc.used {
						t.Errorf("facts %+v, want source %q", r.OCSP, tc.used)
					}
					if tc.used == "online" && len(tc.embedded) > 0 && r.Step(trust.StepStatus).Code != 1050 {
						t.Errorf("the embedded response that does not count is not reported: %+v", r.Steps)
					}
				}
			}
		})
	}
}

// broken flips a bit in the middle of an answer's signed part, its time.
func broken(raw []byte) []byte {
	b := slices.Clone(raw)
	for i := 60; i < len(b); i++ {
		if b[i] == 'Z' { // end of a time
			b[i-1] ^= 1
			break
		}
	}
	return b
}

// TestCheck030 is about qualified certificates.
func TestCheck030(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-12")
	w := newWorld(t)
	y := func(n int) time.Time { return at.AddDate(n, 0, 0) }
	plainQES := template(x509ti.HPQES, x509ti.OIDArzt)
	plainQES.Extra = nil
	for _, tc := range []struct {
		name    string
		states  []testpki.ListState // the first is the current one
		cert    *x509ti.Certificate
		noVL    bool
		change  func(*testpki.List)
		verdict trust.Verdict
		step    string
		code    int
	}{
		{name: "granted", states: []testpki.ListState{state(tsl.TypeCAQC, tsl.StatusGranted, y(-3), tsl.ForeSignatures)}, verdict: trust.Valid},
		{name: "no VL", noVL: true, verdict: trust.Indeterminate, step: trust.StepList, code: 1027},
		{name: "CA not in the VL", states: []testpki.ListState{state(tsl.TypeCAPKC, tsl.StatusGranted, y(-3), tsl.ForeSignatures)}, verdict: trust.Indeterminate, step: trust.StepCA, code: 1027},
		{name: "granted after the certificate was issued", states: []testpki.ListState{state(tsl.TypeCAQC, tsl.StatusGranted, at.AddDate(0, -1, 0), tsl.ForeSignatures)}, verdict: trust.Invalid, step: trust.StepCAStatus, code: 1059},
		{name: "withdrawn before the certificate was issued", states: []testpki.ListState{state(tsl.TypeCAQC, tsl.StatusWithdrawn, y(-2), tsl.ForeSignatures)}, verdict: trust.Invalid, step: trust.StepCAStatus, code: 1062},
		{name: "withdrawn, by the history after the signature", states: []testpki.ListState{
			state(tsl.TypeCAQC, tsl.StatusWithdrawn, at.Add(time.Hour), tsl.ForeSignatures), state(tsl.TypeCAQC, tsl.StatusGranted, y(-3), tsl.ForeSignatures)}, verdict: trust.Valid},
		{name: "withdrawn between certificate and signature", states: []testpki.ListState{
			state(tsl.TypeCAQC, tsl.StatusWithdrawn, at.Add(-time.Hour), tsl.ForeSignatures), state(tsl.TypeCAQC, tsl.StatusGranted, y(-3), tsl.ForeSignatures)}, verdict: trust.Warnings, step: trust.StepModel, code: 1062},
		{name: "granted again after the certificate was issued", states: []testpki.ListState{
			state(tsl.TypeCAQC, tsl.StatusGranted, at.AddDate(0, -1, 0), tsl.ForeSignatures), state(tsl.TypeCAQC, tsl.StatusWithdrawn, y(-2), tsl.ForeSignatures)}, verdict: trust.Invalid, step: trust.StepCAStatus, code: 1062},
		{name: "for seals only", states: []testpki.ListState{state(tsl.TypeCAQC, tsl.StatusGranted, y(-3), "http://uri.etsi.org/TrstSvc/TrustedList/SvcInfoExt/ForeSeals")}, verdict: trust.Invalid, step: trust.StepCAStatus, code: 1059},
		{name: "without additional information", states: []testpki.ListState{state(tsl.TypeCAQC, tsl.StatusGranted, y(-3))}, verdict: trust.Invalid, step: trust.StepCAStatus, code: 1059},
		{name: "accredited before eIDAS", states: []testpki.ListState{
			state(tsl.TypeCAQC, tsl.StatusGranted, at.Add(-time.Hour), tsl.ForeSignatures), state(tsl.TypeCAQC, "http://uri.etsi.org/TrstSvc/TrustedList/Svcstatus/accredited", y(-3))}, verdict: trust.Valid},
		{name: "no statements", states: []testpki.ListState{state(tsl.TypeCAQC, tsl.StatusGranted, y(-3), tsl.ForeSignatures)}, cert: w.issue(t, &w.qesCA, plainQES), verdict: trust.Invalid, step: trust.StepQCStatements, code: 1048},
		{name: "VL run out", states: []testpki.ListState{state(tsl.TypeCAQC, tsl.StatusGranted, y(-3), tsl.ForeSignatures)}, change: func(l *testpki.List) { l.NextUpdate = now.Add(-time.Second) }, verdict: trust.Indeterminate, step: trust.StepList, code: 1060},
		{name: "CA certificate not valid when it issued", states: []testpki.ListState{state(tsl.TypeCAQC, tsl.StatusGranted, y(-9), tsl.ForeSignatures)}, cert: w.issue(t, &w.qesCA, func() testpki.Template {
			tmpl := template(x509ti.HPQES, x509ti.OIDArzt)
			tmpl.NotBefore = y(-5)
			return tmpl
		}()), verdict: trust.Invalid, step: trust.StepModel, code: 1021},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cert := w.physician
			if tc.cert != nil {
				cert = tc.cert
			}
			specs := []testpki.List{w.tslSpec()}
			if !tc.noVL {
				vl := w.vlSpec()
				vl.Services[0].ListState, vl.Services[0].History = tc.states[0], tc.states[1:]
				if tc.change != nil {
					tc.change(&vl)
				}
				specs = append(specs, vl)
			}
			r := w.space(t, trust.Config{}, specs...).Check(context.Background(), cert, trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HPQES}, Status: good()})
			if r.Verdict != tc.verdict {
				t.Fatalf("verdict %v, want %v: %+v", r.Verdict, tc.verdict, r.Steps)
			}
			if step := r.Step(tc.step); tc.step != "" && (step.Code != tc.code || step.Verdict != tc.verdict) {
				t.Errorf("step %+v, want %v with code %d", step, tc.verdict, tc.code)
			}
		})
	}
}

// TestQESNotByTSL: the TSL's entries for qualified CAs count for nothing.
func TestQESNotByTSL(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.tslSpec()
	spec.Services = append(spec.Services, testpki.ListService{ListState: state(tsl.TypeCAQC, tsl.StatusInAccord, at.AddDate(-3, 0, 0)), Name: "qCA", Certificates: [][]byte{w.qesCA.Certificate},
		Extensions: []string{x509ti.OIDHBAQES.String()}})
	vl := w.vlSpec()
	vl.Services = nil
	r := w.space(t, trust.Config{}, spec, vl).Check(context.Background(), w.physician, trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HPQES}, Status: good()})
	if r.Verdict != trust.Indeterminate || r.Step(trust.StepCA).Code != 1027 || r.List.Kind != tsl.VL {
		t.Errorf("%+v", r)
	}
}

// TestSelection: the list of the reference time decides, years later, too.
func TestSelection(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-14")
	w := newWorld(t)
	month := func(n int) time.Time { return at.AddDate(0, n, 0) }
	spec := func(sequence uint64, issued time.Time, withCA bool) testpki.List {
		l := w.tslSpec()
		l.Sequence, l.Issued, l.NextUpdate = sequence, issued, issued.AddDate(0, 1, 0)
		if !withCA { // a compromised CA is taken out of the list altogether
			l.Services = l.Services[1:]
		}
		return l
	}
	clock := month(30)
	space := w.space(t, trust.Config{Clock: func() time.Time { return clock }},
		spec(4, month(30).Add(-time.Hour), false), spec(1, month(-2), false), spec(2, month(-1), true), spec(3, month(0), false))
	for _, tc := range []struct {
		name     string
		at       time.Time
		sequence uint64
		selected string
		verdict  trust.Verdict
	}{
		{"before the first list", month(-3), 4, trust.SelectedCurrent, trust.Indeterminate},
		{"while the CA was not yet in it", month(-1).Add(-time.Second), 1, trust.SelectedAtTime, trust.Indeterminate},
		{"the second of the list that names the CA", month(-1), 2, trust.SelectedAtTime, trust.Warnings}, // the newest does not name it

		{"its last second", month(0).Add(-time.Second), 2, trust.SelectedAtTime, trust.Warnings},
		{"after the CA was taken out", month(0), 3, trust.SelectedAtTime, trust.Indeterminate},
		{"in a gap of the archive", month(5), 4, trust.SelectedCurrent, trust.Indeterminate},
		{"now", clock, 4, trust.SelectedAtTime, trust.Indeterminate},
	} {
		r := space.Check(context.Background(), w.institute, trust.Options{At: tc.at, Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Status: good(), Cache: trust.NewChainCache(10)})
		if r.List.Sequence != tc.sequence || r.List.Selected != tc.selected || r.Verdict != tc.verdict {
			t.Errorf("%s: list %d (%s), %v; want %d (%s), %v", tc.name, r.List.Sequence, r.List.Selected, r.Verdict, tc.sequence, tc.selected, tc.verdict)
		}
	}
	if refs := space.Lists(); len(refs) != 4 || refs[0].Sequence != 1 || refs[3].Sequence != 4 {
		t.Errorf("lists %v", refs)
	}
}

// TestClosedList: a list that names no next update is closed; it is never as good as one that was issued today.
func TestClosedList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tc := range []struct {
		cert    *x509ti.Certificate
		profile x509ti.Profile
		closed  tsl.Kind
		verdict trust.Verdict
		code    int
	}{
		{w.institute, x509ti.HCIOSIG, tsl.TSL, trust.Indeterminate, 1009},
		{w.institute, x509ti.HCIOSIG, tsl.VL, trust.Valid, 0},
		{w.physician, x509ti.HPQES, tsl.VL, trust.Indeterminate, 1060},
		{w.physician, x509ti.HPQES, tsl.TSL, trust.Valid, 0},
	} {
		t1, vl := *w.list(t, w.tslSpec()), *w.list(t, w.vlSpec())
		if tc.closed == tsl.TSL {
			t1.NextUpdate = time.Time{}
		} else {
			vl.NextUpdate = time.Time{}
		}
		space, err := trust.NewSpace(trust.Config{TSLs: []*tsl.List{&t1}, VLs: []*tsl.List{&vl}, Clock: func() time.Time { return at }})
		if err != nil {
			t.Fatal(err)
		}
		r := space.Check(context.Background(), tc.cert, trust.Options{At: at, Profiles: []x509ti.Profile{tc.profile}, Status: good()})
		if r.Verdict != tc.verdict || r.Step(trust.StepList).Code != tc.code {
			t.Errorf("%s with a closed %s: %v, %+v", tc.profile.Name, tc.closed, r.Verdict, r.Step(trust.StepList))
		}
	}
}

// TestPhasedOut: RSA keys of 2048 bits are reported from 2026 on and never refused.
func TestPhasedOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, err := w.pki.IssueEGK(testpki.EGK{ICCSN: "80276003110000000048", KVNR: "X000000012", IK: "109500969", InsurerName: "K", GivenName: "A", Surname: "B", RSA: true})
	if err != nil {
		t.Fatal(err)
	}
	cert := parse(t, id.AUTN.Certificate)
	spec := w.tslSpec()
	spec.Services[2].Certificates = [][]byte{w.pki.EGKRSACA.Certificate}
	spec.Issued = at.AddDate(-1, 0, 0)
	for when, want := range map[time.Time]trust.Verdict{at: trust.Warnings, time.Date(2025, 12, 31, 23, 59, 59, 0, time.UTC): trust.Valid} {
		r := w.space(t, trust.Config{}, spec).Check(context.Background(), cert, trust.Options{At: when, Profiles: []x509ti.Profile{x509ti.EGKAUTN}, Status: good()})
		if r.Verdict != want || r.Step(trust.StepAdmissible).Verdict != want {
			t.Errorf("at %s: %v, %+v", when, r.Verdict, r.Steps)
		}
	}
}

// TestProduction: lists that the test PKI signed are refused.
func TestProduction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := trust.NewSpace(trust.Config{TSLs: []*tsl.List{w.list(t, w.tslSpec())}, Production: true}); !errors.Is(err, trust.ErrTestOnly) {
		t.Errorf("%v", err)
	}
	if _, err := trust.NewSpace(trust.Config{VLs: []*tsl.List{w.list(t, w.tslSpec())}}); err == nil {
		t.Error("a TSL passes as a VL")
	}
	if _, err := trust.NewSpace(trust.Config{TSLs: []*tsl.List{w.list(t, w.vlSpec())}}); err == nil {
		t.Error("a VL passes as a TSL")
	}
	empty, err := trust.NewSpace(trust.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []x509ti.Profile{x509ti.HCIOSIG, x509ti.HPQES} {
		if r := empty.Check(context.Background(), w.institute, trust.Options{Profiles: []x509ti.Profile{p}, Status: good()}); r.Verdict != trust.Indeterminate {
			t.Errorf("without lists: %v", r.Verdict)
		}
	}
	if r := empty.Check(context.Background(), nil, trust.Options{}); r.Verdict != trust.Indeterminate {
		t.Errorf("without a certificate: %v", r.Verdict)
	}
}

// TestZeroValuesAreNotValid: nothing is valid by omission.
func TestZeroValuesAreNotValid(t *testing.T) {
	t.Parallel()
	var r trust.Result
	if r.Verdict == trust.Valid || r.Verdict.String() != "not-run" {
		t.Errorf("%v", r.Verdict)
	}
	for _, tc := range []struct{ a, b, want trust.Verdict }{
		{trust.Valid, trust.NotRun, trust.Valid}, {trust.Valid, trust.Warnings, trust.Warnings}, {trust.Indeterminate, trust.Warnings, trust.Indeterminate},
		{trust.Indeterminate, trust.Invalid, trust.Invalid},
	} {
		if tc.a.Worse(tc.b) != tc.want || tc.b.Worse(tc.a) != tc.want {
			t.Errorf("%v and %v", tc.a, tc.b)
		}
	}
	names := map[string]bool{}
	for v := trust.NotRun; v <= trust.Invalid; v++ {
		text, err := v.MarshalText()
		if err != nil || names[string(text)] || fmt.Sprint(v) != string(text) {
			t.Errorf("%d is %s", v, text)
		}
		names[string(text)] = true
	}
}

// TestConcurrentCache: many goroutines, few entries.
func TestConcurrentCache(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	space := w.space(t, trust.Config{}, w.tslSpec(), w.vlSpec())
	cache := trust.NewChainCache(1) // one entry per shard
	var certs []*x509ti.Certificate
	for range 40 {
		certs = append(certs, w.issue(t, &w.pki.SMBCA, template(x509ti.HCIOSIG, x509ti.OIDApotheke)))
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 120 {
				c := certs[(i*7+g)%len(certs)]
				if r := space.Check(context.Background(), c, trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Status: good(), Cache: cache}); r.Verdict != trust.Valid {
					t.Errorf("%+v", r.Steps)
				}
			}
		})
	}
	wg.Wait()
	if n := cache.Len(); n == 0 || n > 64 {
		t.Errorf("%d entries", n)
	}
}

func BenchmarkCheckCached(b *testing.B) {
	w := newWorld(b)
	space := w.space(b, trust.Config{}, w.tslSpec())
	cache := trust.NewChainCache(1000)
	raw := w.ocsp(b, w.institute, w.pki.SMBCA, w.pki.OtherOCSPSigner, testpki.OCSPAnswer{ProducedAt: at.Add(-time.Hour)})
	for name, o := range map[string]trust.Options{
		"source":   {Status: good().fixed()},
		"embedded": {Embedded: [][]byte{raw}},
	} {
		o.At, o.Now, o.Cache, o.Profiles = at, now, cache, []x509ti.Profile{x509ti.HCIOSIG}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r := space.Check(context.Background(), w.institute, o); r.Verdict != trust.Valid {
					b.Fatal(r.Steps)
				}
			}
		})
	}
}

type fixed trust.StatusAnswer

func (a *answers) fixed() trust.StatusSource { return fixed(a.answer) }

func (f fixed) Status(context.Context, trust.StatusQuery) (trust.StatusAnswer, error) {
	return trust.StatusAnswer(f), nil
}

// TestCacheTellsQuestionsApart: the same certificate with another profile, also one of the same name, is another question.
func TestCacheTellsQuestionsApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	space := w.space(t, trust.Config{}, w.tslSpec())
	cache := trust.NewChainCache(100)
	strict := x509ti.HCIOSIG
	strict.Role = x509ti.OIDKrankenhaus
	for _, tc := range []struct {
		profile x509ti.Profile
		want    trust.Verdict
	}{{x509ti.HCIOSIG, trust.Valid}, {strict, trust.Invalid}, {x509ti.HCIAUT, trust.Invalid}, {x509ti.HCIOSIG, trust.Valid}} {
		r := space.Check(context.Background(), w.institute, trust.Options{At: at, Profiles: []x509ti.Profile{tc.profile}, Status: good(), Cache: cache})
		if r.Verdict != tc.want {
			t.Errorf("%s with role %v: %v", tc.profile.Name, tc.profile.Role, r.Verdict)
		}
	}
	// And by another list.
	spec := w.tslSpec()
	spec.Services[0].ListState = state(tsl.TypeCAPKC, tsl.StatusRevoked, at.AddDate(-2, 0, 0))
	if r := w.space(t, trust.Config{}, spec).Check(context.Background(), w.institute, trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Status: good(), Cache: cache}); r.Verdict != trust.Invalid {
		t.Errorf("by a list that revokes the CA: %v", r.Verdict)
	}
}
