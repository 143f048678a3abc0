package erezept

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/server/erezept/record"
)

// each are the reports of an input.
func each(c *Checker, in *Case) []*CaseReport {
	var out []*CaseReport
	c.CheckEach(context.Background(), in, func(r *CaseReport) { out = append(out, r) })
	return out
}

// billingFile puts messages into a Bundle as a billing file does.
func billingFile(messages ...[]byte) []byte {
	var resources [][]byte
	for i, m := range messages {
		resources = append(resources, testpki.BinaryXML(fmt.Sprint(i), m))
	}
	return testpki.BundleXML("file", resources...)
}

func container(data []byte) *Case {
	return &Case{ID: "file", Single: true, Records: []Given{{Data: data}}}
}

// outcomes are the verdicts by ID, with the codes of the steps that hold the records together.
func outcomes(reports []*CaseReport) map[string]string {
	out := map[string]string{}
	for _, r := range reports {
		text := r.Verdict.String()
		for _, s := range r.Steps {
			if s.Code != 0 {
				text += fmt.Sprintf(" %d", int(s.Code))
			}
		}
		if _, ok := out[r.ID]; ok {
			text = "ID twice"
		}
		out[r.ID] = text
	}
	return out
}

// TestBillingFile: a file with the records of several cases gives one report for each case, whatever the order of the
// records; what is wrong with one case is not said of another, and nothing is left out.
func TestBillingFile(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-01", "ERP-05")
	r := newRig(t)
	var cases []*testpki.Case
	for range 4 {
		cases = append(cases, r.made(t))
	}
	a, b := cases[0], cases[1]
	o := r.options()
	o.Receipt = func(c *testpki.CMSOptions) { c.Fault = testpki.CMSFaultSignature }
	bad, err := r.b.Case(o)
	if err != nil {
		t.Fatal(err)
	}
	// A dispensing record that names its own case in one place and another number in the other.
	o = r.options()
	o.ID = testpki.PrescriptionID(160, 777_001)
	o.DispensingID, o.OtherID = testpki.PrescriptionID(160, 777_002), o.ID
	torn, err := r.b.Case(o)
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.b.Case(func() testpki.CaseOptions { o := r.options(); o.ID, o.Digest = a.ID, make([]byte, 32); return o }())
	if err != nil {
		t.Fatal(err)
	}
	all := func(c *testpki.Case) [][]byte { return [][]byte{c.Prescription, c.Dispensing, c.Receipt} }
	id := func(c *testpki.Case) string { return "file#" + c.ID }
	truncated := a.Receipt[:200]
	for name, tt := range map[string]struct {
		messages [][]byte
		want     map[string]string
	}{
		"one case":                {all(a), map[string]string{"file": "valid"}},
		"one record":              {[][]byte{a.Receipt}, map[string]string{"file": "valid"}},
		"two cases":               {slices.Concat(all(a), all(b)), map[string]string{id(a): "valid", id(b): "valid"}},
		"in mixed order":          {[][]byte{b.Receipt, a.Dispensing, a.Receipt, b.Prescription, b.Dispensing, a.Prescription}, map[string]string{id(a): "valid", id(b): "valid"}},
		"a bad one between":       {slices.Concat(all(a), all(bad), all(b)), map[string]string{id(a): "valid", id(bad): "invalid", id(b): "valid"}},
		"a record is missing":     {slices.Concat(all(a), all(b)[:2]), map[string]string{id(a): "valid", id(b): "invalid 12005"}},
		"a record is there twice": {slices.Concat(all(a), all(b), [][]byte{b.Receipt}), map[string]string{id(a): "valid", id(b): "invalid 12007"}},
		"of two prescriptions":    {slices.Concat(all(a), all(b), [][]byte{second.Prescription}), map[string]string{id(a): "invalid 12007", id(b): "valid"}},
		"other records of one ID": {slices.Concat(all(b), [][]byte{a.Prescription, second.Dispensing, second.Receipt}), map[string]string{id(b): "valid", id(a): "invalid 12064"}},
		"two IDs in one record":   {slices.Concat([][]byte{torn.Dispensing}, all(a), [][]byte{torn.Receipt, torn.Prescription}), map[string]string{id(a): "valid", id(torn): "valid-with-warnings 12062"}},
		"no message":              {slices.Concat(all(a), [][]byte{truncated}), map[string]string{id(a): "valid", "file#4": "invalid"}},
		"only what is no message": {[][]byte{truncated, truncated}, map[string]string{"file#1": "invalid", "file#2": "invalid"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, outcomes(each(r.checker(), container(billingFile(tt.messages...))))); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("fifty cases", func(t *testing.T) {
		t.Parallel()
		var messages [][]byte
		want := map[string]string{}
		for range 50 {
			c := r.made(t)
			messages = append(messages, all(c)...)
			want[id(c)] = "valid"
		}
		rand.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
		if diff := cmp.Diff(want, outcomes(each(r.checker(), container(billingFile(messages...))))); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("of one kind", func(t *testing.T) {
		t.Parallel()
		in := container(billingFile(a.Receipt, b.Receipt, a.Prescription))
		in.Records[0].Kind = Receipt
		got := each(r.checker(), in)
		if len(got) != 3 || got[0].Verdict != Valid || got[1].Verdict != Valid || got[2].Verdict != Invalid || len(got[0].Steps) != 0 {
			t.Errorf("%v", outcomes(got))
		}
	})
	t.Run("order of reports", func(t *testing.T) {
		t.Parallel()
		got := each(r.checker(), container(billingFile(b.Receipt, a.Dispensing, a.Receipt, b.Prescription, b.Dispensing, a.Prescription)))
		if len(got) != 2 || got[0].ID != id(b) || got[1].ID != id(a) || got[0].PrescriptionID != b.ID {
			t.Errorf("%v", outcomes(got))
		}
		if worst := r.checker().Check(context.Background(), container(billingFile(slices.Concat(all(a), all(bad), all(b))...))); worst.ID != id(bad) {
			t.Errorf("Check gives the report of %s", worst.ID)
		}
	})
	t.Run("FHIR validation of nobody knows which receipt", func(t *testing.T) {
		t.Parallel()
		in := container(billingFile(slices.Concat(all(a), all(b))...))
		in.FHIR = []byte(`{"resourceType":"OperationOutcome","issue":[{"severity":"information"}]}`)
		for _, rep := range each(r.checker(), in) {
			if rep.Verdict != Indeterminate || stepOf(rep.Records[2].Steps, StepContent).Code != CodeInput {
				t.Errorf("%s", rep.Text())
			}
		}
	})
}

// stand is a record that passed every check, for the sorter alone.
func stand(k Kind, id string) *checked {
	r := &checked{rep: Report{Kind: k}, ledger: recordLedger()}
	for i := range numRecordSteps {
		r.ledger.pass(i)
	}
	if id != "" {
		r.ids = []record.ID{{Value: id}}
	}
	return r
}

// TestSorterBounds: of a container without end only so much is held. Cases whose records lie far apart are never valid and
// never wrongly invalid, and a record that comes once more after its case was reported is noticed.
func TestSorterBounds(t *testing.T) {
	t.Parallel()
	got := map[string][]*CaseReport{}
	most := 0
	s := sorter{c: &Checker{}, in: &Case{ID: "f", Single: true, Records: []Given{{}}}, now: time.Now()}
	s.emit = func(r *CaseReport) { got[r.ID] = append(got[r.ID], r) }
	add := func(k Kind, id string) {
		if err := s.add(stand(k, id)); err != nil {
			t.Fatal(err)
		}
		most = max(most, s.held)
	}
	add(Prescription, "far")
	add(Receipt, "whole")
	add(Prescription, "whole")
	add(Dispensing, "whole")
	const n = 3 * maxHeld
	for i := range n {
		for _, k := range billing {
			add(k, fmt.Sprint(i))
		}
	}
	for i := range n { // never complete
		add(Receipt, fmt.Sprint("half", i))
	}
	add(Receipt, "whole") // long reported
	add(Dispensing, "far")
	s.finish(nil)
	if most > maxHeld+1 {
		t.Errorf("%d records were held", most)
	}
	code := func(r *CaseReport) Code { return stepOf(r.Steps, StepComplete).Code }
	for i := range n {
		if r := got[fmt.Sprint("f#", i)]; len(r) != 1 || code(r[0]) != 0 || len(r[0].Records) != 3 {
			t.Fatalf("case %d: %v", i, r)
		}
	}
	if r := got["f#whole"]; len(r) != 2 || code(r[0]) != 0 || r[1].Verdict != Invalid || code(r[1]) != CodeDuplicate {
		t.Errorf("duplicate after its case: %v", outcomes(r))
	}
	if r := got["f#far"]; len(r) != 2 || r[0].Verdict != Indeterminate || r[1].Verdict != Indeterminate || code(r[0]) != CodeTooLarge || code(r[1]) != CodeTooLarge {
		t.Errorf("case with its records far apart: %v", r)
	}
	if r := got["f#half0"]; len(r) != 1 || r[0].Verdict != Indeterminate {
		t.Errorf("half a case in the middle: %v", r)
	}
	if r := got[fmt.Sprint("f#half", n-1)]; len(r) != 1 || r[0].Verdict != Invalid || code(r[0]) != CodeMissing {
		t.Errorf("half a case at the end: %v", r)
	}
}

// TestSorterWeight: records with much text from outside are held in smaller numbers.
func TestSorterWeight(t *testing.T) {
	t.Parallel()
	reports, most := 0, 0
	s := sorter{c: &Checker{}, in: &Case{ID: "f", Single: true, Records: []Given{{}}}, now: time.Now(), emit: func(*CaseReport) { reports++ }}
	for i := range 200 {
		r := stand(Receipt, fmt.Sprint(i))
		r.facts = &record.Facts{Beneficiary: strings.Repeat("x", 1<<20)}
		r.rep.Profile = r.facts.Beneficiary
		if err := s.add(r); err != nil {
			t.Fatal(err)
		}
		most = max(most, s.octets)
	}
	s.finish(nil)
	if most > maxOctets || s.octets != 0 || s.held != 0 || reports != 200 {
		t.Errorf("%d octets were held, %d are left, %d reports", most, s.octets, reports)
	}
}

// TestBrokenContainer: of a container that breaks off what was read is reported, and the container itself.
func TestBrokenContainer(t *testing.T) {
	t.Parallel()
	var got []*CaseReport
	s := sorter{c: &Checker{}, in: &Case{ID: "f", Single: true, Records: []Given{{}}}, now: time.Now(), emit: func(r *CaseReport) { got = append(got, r) }}
	for _, r := range []*checked{stand(Prescription, "a"), stand(Dispensing, "a"), stand(Receipt, "a"), stand(Prescription, "b")} {
		if err := s.add(r); err != nil {
			t.Fatal(err)
		}
	}
	s.finish(fmt.Errorf("%w: %w", errInput, io.ErrUnexpectedEOF))
	if len(got) != 3 || stepOf(got[0].Steps, StepComplete).Verdict != Valid || stepOf(got[1].Steps, StepComplete).Code != CodeInput || got[1].Verdict != Indeterminate ||
		got[2].ID != "f" || got[2].Verdict != Indeterminate {
		t.Errorf("%v", outcomes(got))
	}
}
