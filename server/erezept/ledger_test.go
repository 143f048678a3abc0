package erezept

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// full is a ledger in which every step is in order.
func full(l *ledger) *ledger {
	for i := l.first; i < l.end; i++ {
		l.pass(i)
	}
	return l
}

// TestNeverValidByOmission takes each step out of a ledger that is in order: none of them leaves it acceptable. The twin is
// the complete ledger, which is valid.
func TestNeverValidByOmission(t *testing.T) {
	t.Parallel()
	for name, fresh := range map[string]func() *ledger{"record": recordLedger, "case": caseLedger} {
		if v := fresh().verdict(); v.OK() {
			t.Errorf("%s: a ledger without any step is %s", name, v)
		}
		if v := full(fresh()).verdict(); v != Valid {
			t.Errorf("%s: a complete ledger is %s", name, v)
		}
		l := fresh()
		for id := l.first; id < l.end; id++ {
			l := full(fresh())
			l.steps[id] = Step{ID: id}
			if v := l.verdict(); v != Indeterminate {
				t.Errorf("%s without step %s is %s; want indeterminate", name, id, v)
			}
			if n := len(l.list()); n != int(l.end-l.first) {
				t.Errorf("%s without step %s lists %d steps", name, id, n)
			}
			l.release(id)
			if v := l.verdict(); v != Valid {
				t.Errorf("%s with step %s released is %s", name, id, v)
			}
		}
	}
	if v := (&ledger{}).verdict(); v.OK() {
		t.Errorf("a ledger that nobody made is %s", v)
	}
}

// TestWorstOutcomeStays: nothing that comes later makes a step better, and each outcome of each step decides the verdict.
func TestWorstOutcomeStays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ code Code }{{CodeDigest}, {CodeMissing}, {1027}, {CodeNoHash}} {
		want := c.code.Finding().Verdict
		for id := StepID(0); id < numRecordSteps; id++ {
			l := full(recordLedger())
			l.find(id, c.code, "found")
			l.pass(id)
			l.passf(id, "and something else")
			if v := l.verdict(); v != want {
				t.Errorf("%s at %s: verdict %s; want %s", c.code, id, v, want)
			}
			if got := l.steps[id]; got.Code != c.code {
				t.Errorf("%s at %s: code %s stands in the report", c.code, id, got.Code)
			}
		}
	}
	l := full(recordLedger())
	l.find(StepStatus, 1050, "first")
	l.find(StepStatus, 1047, "second")
	l.find(StepStatus, 1032, "third")
	want := Step{ID: StepStatus, Verdict: Invalid, Code: 1047, Detail: "second; first; third"}
	if diff := cmp.Diff(want, l.steps[StepStatus]); diff != "" {
		t.Error(diff)
	}
}

// TestFindings: every code stands once in the table, has a text for the clerk and a verdict that says something.
func TestFindings(t *testing.T) {
	t.Parallel()
	seen := map[Code]bool{}
	for _, f := range Findings {
		if seen[f.Code] || f.Name == "" || f.German == "" || f.Verdict <= Valid || f.Verdict > Invalid {
			t.Errorf("finding %d: %+v", f.Code, f)
		}
		seen[f.Code] = true
	}
	if f := Code(4711).Finding(); f.Verdict != Indeterminate || f.German == "" {
		t.Errorf("unknown code: %+v", f)
	}
}

// TestNames: verdicts and steps go into JSON by name and come back.
func TestNames(t *testing.T) {
	t.Parallel()
	for v := NotRun; v <= Invalid; v++ {
		b, err := json.Marshal(v)
		var back Verdict
		if err != nil || json.Unmarshal(b, &back) != nil || back != v {
			t.Errorf("verdict %d: %s, %v", v, b, err)
		}
	}
	seen := map[string]bool{}
	for s := StepID(0); s < numSteps; s++ {
		b, err := json.Marshal(s)
		var back StepID
		if err != nil || json.Unmarshal(b, &back) != nil || back != s || seen[string(b)] {
			t.Errorf("step %d: %s, %v", s, b, err)
		}
		seen[string(b)] = true
	}
	if len(stepNames) != int(numSteps) {
		t.Errorf("%d names for %d steps", len(stepNames), numSteps)
	}
	if _, err := json.Marshal(Verdict(9)); err == nil {
		t.Error("a verdict that does not exist was written")
	}
	var v Verdict
	if err := json.Unmarshal([]byte(`"perfect"`), &v); err == nil {
		t.Error("a verdict that does not exist was read")
	}
}

// TestTransitionTable: every transition rule that the table of rules names is explained.
func TestTransitionTable(t *testing.T) {
	t.Parallel()
	explained := map[string]bool{}
	for _, tr := range Transitions {
		explained[tr.Name] = tr.German != "" && tr.English != ""
	}
	for _, r := range rules {
		for _, a := range r.admitted {
			if a.transition != "" && !explained[a.transition] {
				t.Errorf("transition %q is not explained", a.transition)
			}
			if a.profile.Name == "" || (len(a.roles) == 0 && !r.any) {
				t.Errorf("%s: admission without profile or roles: %+v", r.kind, a)
			}
		}
	}
	if !explained[TransitionCardinality] {
		t.Error("the rule about Bundle.signature is not explained")
	}
}
