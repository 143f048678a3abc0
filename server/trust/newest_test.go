package trust_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
	"ktradv/server/trust"
)

// TestNewestListOfCA: the list of the signing time names the CA; what the newest list says of it counts, too, because the
// signing time is a claim.
func TestNewestListOfCA(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-14", "GS-A_4652-01")
	w := newWorld(t)
	issued := w.institute.NotBefore
	revokedAt := func(start time.Time) func(*testpki.List) {
		return func(l *testpki.List) { l.Services[0].ListState = state(tsl.TypeCAPKC, tsl.StatusRevoked, start) }
	}
	removed := func(l *testpki.List) { l.Services = l.Services[1:] }
	for _, tc := range []struct {
		name         string
		then, newest func(*testpki.List)
		verdict      trust.Verdict
		code         int
		text         string // part of it
	}{
		{name: "unchanged", verdict: trust.Valid},
		{name: "revoked since before it issued the certificate", newest: revokedAt(issued.Add(-time.Second)), verdict: trust.Invalid, code: 1036, text: "by the newest list, with sequence number 10102"},
		{name: "revoked since that second", newest: revokedAt(issued), verdict: trust.Valid, text: "by the newest list"},
		{name: "revoked since then", newest: revokedAt(issued.Add(time.Second)), verdict: trust.Valid, text: "by the newest list, with sequence number 10102: revoked"},
		{name: "revoked after the signature", newest: revokedAt(at.Add(time.Hour)), verdict: trust.Valid, text: "by the newest list"},
		{name: "taken out", newest: removed, verdict: trust.Warnings, code: 12037, text: "ADV.SMCB"},
		{name: "another one of that name", newest: func(l *testpki.List) { l.Services[0].Certificates = [][]byte{w.namesake(t).Certificate} }, verdict: trust.Warnings, code: 12037, text: "not in the newest list"},
		{name: "of a status that is not known", newest: func(l *testpki.List) { l.Services[0].Status = "http://example.invalid/status" }, verdict: trust.Indeterminate, text: "by the newest list"},
		{name: "revoked then, in accord now", then: revokedAt(issued.Add(-time.Second)), verdict: trust.Invalid, code: 1036},
		{name: "not named then, in accord now", then: removed, verdict: trust.Indeterminate},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			spec := func(sequence uint64, day int, change func(*testpki.List)) testpki.List {
				l := w.tslSpec()
				l.Sequence, l.Issued, l.NextUpdate = sequence, at.AddDate(0, 0, day), at.AddDate(0, 0, day+30)
				if change != nil {
					change(&l)
				}
				return l
			}
			then := w.space(t, trust.Config{}, spec(10100, -3, tc.then))
			both := w.space(t, trust.Config{}, spec(10100, -3, tc.then), spec(10101, 1, removed), spec(10102, 2, tc.newest))
			for _, cache := range []*trust.ChainCache{nil, trust.NewChainCache(100)} {
				o := trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Status: good(), Cache: cache}
				alone := then.Check(context.Background(), w.institute, o) // the same cache must not mix them up
				if tc.then == nil && alone.Verdict != trust.Valid {
					t.Fatalf("alone: %+v", alone)
				}
				for range 2 {
					r := both.Check(context.Background(), w.institute, o)
					step := r.Step(trust.StepCAStatus)
					if r.Verdict != tc.verdict || r.List.Sequence != 10100 || r.List.Selected != trust.SelectedAtTime || step.Code != tc.code || !strings.Contains(step.Text, tc.text) {
						t.Errorf("%v by %d (%s), step %+v; want %v, code %d, %q", r.Verdict, r.List.Sequence, r.List.Selected, step, tc.verdict, tc.code, tc.text)
					}
				}
			}
		})
	}
}

// TestResponderOfAnotherTime: an answer counts when its signer was a responder at the time when it was made, by the list of
// the signing time or by the newest one.
func TestResponderOfAnotherTime(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-11", "ERP-13", "ERP-14")
	w := newWorld(t)
	y := func(n int) time.Time { return at.AddDate(n, 0, 0) }
	day := func(n int) time.Time { return at.AddDate(0, 0, n) }
	responder := func(a testpki.X509Authority, states ...testpki.ListState) testpki.ListService {
		return testpki.ListService{ListState: states[0], History: states[1:], Name: "OCSP", Certificates: [][]byte{a.Certificate}}
	}
	inAccord := state(tsl.TypeOCSP, tsl.StatusInAccord, y(-2))
	clock := day(40)
	answer := func(signer testpki.X509Authority, made time.Time) []byte {
		return w.ocsp(t, w.institute, w.pki.SMBCA, signer, testpki.OCSPAnswer{ProducedAt: made})
	}
	a, b := w.pki.OtherOCSPSigner, w.pki.OCSPSigner
	for _, tc := range []struct {
		name         string
		then, newest []testpki.ListService
		answer       []byte
		code         int  // 0: the answer counts
		former       bool // and its signer does not answer any more
	}{
		{"of both lists", []testpki.ListService{responder(a, inAccord)}, []testpki.ListService{responder(a, inAccord)}, answer(a, at), 0, false},
		{"of the newest list, made after the signature", []testpki.ListService{responder(a, inAccord)}, []testpki.ListService{responder(b, state(tsl.TypeOCSP, tsl.StatusInAccord, day(20)))}, answer(b, day(30)), 0, false},
		{"of the newest list, made before its start", []testpki.ListService{responder(a, inAccord)}, []testpki.ListService{responder(b, state(tsl.TypeOCSP, tsl.StatusInAccord, day(20)))}, answer(b, day(10)), 0, false},
		{"of the list of that time alone", []testpki.ListService{responder(a, inAccord)}, []testpki.ListService{responder(b, inAccord)}, answer(a, at), 0, true},
		{"of no list", []testpki.ListService{responder(a, inAccord)}, []testpki.ListService{responder(a, inAccord)}, answer(b, at), 1030, false},
		{"revoked by the newest list before the answer", []testpki.ListService{responder(a, inAccord)}, []testpki.ListService{responder(a, state(tsl.TypeOCSP, tsl.StatusRevoked, day(-1)))}, answer(a, at), 1030, false},
		{"revoked by the newest list after the answer", []testpki.ListService{responder(a, inAccord)}, []testpki.ListService{responder(a, state(tsl.TypeOCSP, tsl.StatusRevoked, day(1)))}, answer(a, at), 0, true},
		{"revoked by the newest list, and never listed before", nil, []testpki.ListService{responder(a, state(tsl.TypeOCSP, tsl.StatusRevoked, day(1)))}, answer(a, at), 1030, false},
		{"of another type", []testpki.ListService{responder(a, state(tsl.TypeUnknown, tsl.StatusInAccord, y(-2)))}, nil, answer(a, at), 1030, false},
	} {
		spec := func(sequence uint64, issued time.Time, responders []testpki.ListService) testpki.List {
			l := w.tslSpec()
			l.Sequence, l.Issued, l.NextUpdate = sequence, issued, issued.AddDate(0, 0, 30)
			l.Services = append(l.Services[:3:3], responders...)
			return l
		}
		then, newest := spec(10100, day(-3), tc.then), spec(10101, day(25), tc.newest)
		space := w.space(t, trust.Config{Clock: func() time.Time { return clock }}, then, newest)
		cache := trust.NewChainCache(10)
		w.space(t, trust.Config{Clock: func() time.Time { return clock }}, then).Check(context.Background(), w.institute,
			trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Embedded: [][]byte{tc.answer}, Cache: cache}) // by one list another outcome
		for range 2 {
			r := space.Check(context.Background(), w.institute, trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Embedded: [][]byte{tc.answer}, Cache: cache})
			want := trust.Valid
			if tc.code != 0 {
				want = trust.Indeterminate
			}
			step := r.Step(trust.StepStatus)
			if r.Verdict != want || step.Code != tc.code || r.List.Sequence != 10100 {
				t.Errorf("%s: %v, %+v; want %v, code %d", tc.name, r.Verdict, step, want, tc.code)
			}
			if strings.Contains(step.Text, "not in force by the newest list") != tc.former {
				t.Errorf("%s: says %q", tc.name, step.Text)
			}
		}
	}

	// Qualified certificates: the BNetzA-VL has its history inside.
	granted := state(tsl.TypeOCSPQC, tsl.StatusGranted, y(-3))
	for _, tc := range []struct {
		name   string
		states []testpki.ListState // the first is the current one
		made   time.Time
		code   int
	}{
		{"granted", []testpki.ListState{granted}, at, 0},
		{"withdrawn a day after the answer", []testpki.ListState{state(tsl.TypeOCSPQC, tsl.StatusWithdrawn, day(1)), granted}, at, 0},
		{"withdrawn a day before the answer", []testpki.ListState{state(tsl.TypeOCSPQC, tsl.StatusWithdrawn, day(-1)), granted}, at, 1030},
		{"withdrawn, the answer is younger", []testpki.ListState{state(tsl.TypeOCSPQC, tsl.StatusWithdrawn, day(1)), granted}, day(2), 1030},
		{"granted later", []testpki.ListState{state(tsl.TypeOCSPQC, tsl.StatusGranted, day(1))}, at, 1030},
		{"of another type then", []testpki.ListState{granted, state(tsl.TypeUnknown, tsl.StatusGranted, y(-4))}, at, 0},
		{"no responder any more", []testpki.ListState{state(tsl.TypeUnknown, tsl.StatusGranted, day(1)), granted}, at, 0},
	} {
		vl := w.vlSpec()
		vl.Services = append(vl.Services, responder(a, tc.states...))
		raw := w.ocsp(t, w.physician, w.qesCA, a, testpki.OCSPAnswer{ProducedAt: tc.made})
		r := w.space(t, trust.Config{Clock: func() time.Time { return clock }}, w.tslSpec(), vl).Check(context.Background(), w.physician,
			trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HPQES}, Embedded: [][]byte{raw}})
		if step := r.Step(trust.StepStatus); step.Code != tc.code || (r.OCSP != nil) != (tc.code == 0) {
			t.Errorf("QES, %s: %+v, want code %d", tc.name, step, tc.code)
		}
	}

	// One that the CA issued needs no entry; of one that has an entry, the entry decides.
	withdrawn := state(tsl.TypeOCSPQC, tsl.StatusWithdrawn, day(-1))
	for _, tc := range []struct {
		name   string
		states []testpki.ListState
		code   int
	}{
		{"no entry", nil, 0},
		{"granted", []testpki.ListState{granted}, 0},
		{"withdrawn before the answer", []testpki.ListState{withdrawn, granted}, 1030},
		{"granted after the answer", []testpki.ListState{state(tsl.TypeOCSPQC, tsl.StatusGranted, day(1))}, 0},
	} {
		vl := w.vlSpec()
		if len(tc.states) > 0 {
			vl.Services = append(vl.Services, responder(w.qesSigner, tc.states...))
		}
		raw := w.ocsp(t, w.physician, w.qesCA, w.qesSigner, testpki.OCSPAnswer{ProducedAt: at})
		r := w.space(t, trust.Config{Clock: func() time.Time { return clock }}, w.tslSpec(), vl).Check(context.Background(), w.physician,
			trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HPQES}, Embedded: [][]byte{raw}})
		if step := r.Step(trust.StepStatus); step.Code != tc.code || (r.OCSP != nil) != (tc.code == 0) {
			t.Errorf("QES, issued by the CA, %s: %+v, want code %d", tc.name, step, tc.code)
		}
	}
}

// TestQuestionOfAnotherTime: whoever is asked today is a responder of today, at the address of today. Of the signing time are
// those alone who are asked about a CA that the newest list does not name any more.
func TestQuestionOfAnotherTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := func(sequence uint64, issued time.Time, change func([]testpki.ListService) []testpki.ListService) testpki.List {
		l := w.tslSpec()
		l.Sequence, l.Issued, l.NextUpdate = sequence, issued, issued.AddDate(0, 0, 30)
		l.Services = change(l.Services)
		return l
	}
	const before, moved = "http://ocsp.ti.invalid/", "http://moved.ti.invalid/"
	first, second := w.pki.OtherOCSPSigner.Certificate, w.pki.OCSPSigner.Certificate
	then := spec(1, at.AddDate(0, 0, -3), func(s []testpki.ListService) []testpki.ListService {
		s[3].Certificates = [][]byte{first}
		return s
	})
	another := func(s []testpki.ListService) []testpki.ListService {
		s[0].SupplyPoints, s[3].Certificates = []string{moved}, [][]byte{second}
		return s
	}
	for _, tc := range []struct {
		name       string
		newest     func([]testpki.ListService) []testpki.ListService
		verdict    trust.Verdict
		address    string
		responders [][]byte
	}{
		{"another responder", another, trust.Valid, moved, [][]byte{second}},
		{"another responder, and the CA is taken out", func(s []testpki.ListService) []testpki.ListService { return another(s)[1:] }, trust.Warnings, before, [][]byte{second, first}},
		{"the responder is revoked", func(s []testpki.ListService) []testpki.ListService {
			s[3].Certificates, s[3].Status = [][]byte{first}, tsl.StatusRevoked
			return s
		}, trust.Valid, before, nil},
		{"the responder is revoked, and the CA is taken out", func(s []testpki.ListService) []testpki.ListService {
			s[3].Certificates, s[3].Status = [][]byte{first}, tsl.StatusRevoked
			return s[1:]
		}, trust.Warnings, before, nil},
	} {
		space, cache := w.space(t, trust.Config{}, then, spec(2, at.AddDate(0, 0, 1), tc.newest)), trust.NewChainCache(10)
		for range 2 {
			source := good()
			r := space.Check(context.Background(), w.institute, trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Status: source, Cache: cache})
			if r.Verdict != tc.verdict || r.List.Sequence != 1 || len(source.asked) != 1 {
				t.Fatalf("%s: %+v, asked %+v", tc.name, r, source.asked)
			}
			q := source.asked[0]
			var asked [][]byte
			for _, c := range q.Responders {
				asked = append(asked, c.Raw)
			}
			if q.URL != tc.address || !slices.EqualFunc(asked, tc.responders, bytes.Equal) {
				t.Errorf("%s: asked %s, %d responders", tc.name, q.URL, len(asked))
			}
		}
	}
}

// TestQuestionRefusesWhomTheListRefuses: a responder that the CA has issued needs no entry to be asked; of one that has an entry, the
// entry decides.
func TestQuestionRefusesWhomTheListRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	clock := at.Add(time.Hour)
	signer, err := x509ti.Parse(w.qesSigner.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		states []testpki.ListState
		want   bool
	}{
		{"no entry", nil, false},
		{"granted", []testpki.ListState{state(tsl.TypeOCSPQC, tsl.StatusGranted, at.AddDate(-1, 0, 0))}, false},
		{"withdrawn", []testpki.ListState{state(tsl.TypeOCSPQC, tsl.StatusWithdrawn, at.AddDate(0, 0, -1)), state(tsl.TypeOCSPQC, tsl.StatusGranted, at.AddDate(-1, 0, 0))}, true},
	} {
		vl := w.vlSpec()
		if len(tc.states) > 0 {
			vl.Services = append(vl.Services, testpki.ListService{
				ListState: tc.states[0], History: tc.states[1:], Name: "OCSP", Certificates: [][]byte{w.qesSigner.Certificate},
			})
		}
		source := good()
		w.space(t, trust.Config{Clock: func() time.Time { return clock }}, w.tslSpec(), vl).Check(context.Background(), w.physician,
			trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HPQES}, Status: source})
		if len(source.asked) != 1 || source.asked[0].Listed == nil {
			t.Fatalf("%s: asked %+v", tc.name, source.asked)
		}
		if listed, refused := source.asked[0].Listed(signer, clock); listed || refused != tc.want {
			t.Errorf("%s: listed %v, refused %v; want refused %v", tc.name, listed, refused, tc.want)
		}
	}
}

// TestOfflineSaysWhy: a response that came with the record and does not count is reported also when nobody is asked.
func TestOfflineSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.space(t, trust.Config{}, w.tslSpec()).Check(context.Background(), w.institute,
		trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Embedded: [][]byte{{1}}, Offline: true})
	var codes []int
	for _, s := range r.Steps {
		if s.ID == trust.StepStatus {
			codes = append(codes, s.Code)
		}
	}
	if r.Verdict != trust.Warnings || !slices.Equal(codes, []int{1050, 1039}) {
		t.Errorf("%v, %v", r.Verdict, codes)
	}
}
