package erezept

import (
	"fmt"
	"strings"
)

// ledger collects the outcome of steps and draws the verdict. It is the only place where a verdict of a record or a case
// comes from. A verdict that may be accepted needs every required step to have run with an outcome that may be accepted:
// a ledger that is new, a step that was left out and a step that is unknown here all end as something else.
type ledger struct {
	steps    [numSteps]Step
	first    StepID
	end      StepID // one behind the last
	required uint64 // bit per step
}

// recordLedger is for a record.
func recordLedger() *ledger { return newLedger(0, numRecordSteps) }

// caseLedger is for a case.
func caseLedger() *ledger { return newLedger(numRecordSteps, numSteps) }

func newLedger(first, end StepID) *ledger {
	l := &ledger{first: first, end: end}
	for i := first; i < end; i++ {
		l.steps[i].ID = i
		l.required |= 1 << i
	}
	return l
}

// release says that a step need not run.
func (l *ledger) release(id StepID) { l.required &^= 1 << id }

// pass records that a step is in order.
func (l *ledger) pass(id StepID) { l.put(id, Valid, 0, "") }

// passf records that a step is in order, with a detail for the reader.
func (l *ledger) passf(id StepID, format string, a ...any) {
	l.put(id, Valid, 0, fmt.Sprintf(format, a...))
}

// find records a finding; its verdict is the one of the table of findings.
func (l *ledger) find(id StepID, c Code, format string, a ...any) {
	l.put(id, c.Finding().Verdict, c, fmt.Sprintf(format, a...))
}

// put records an outcome. Of several outcomes of one step the worst one stays; of equally bad ones the first, with the
// details of all.
func (l *ledger) put(id StepID, v Verdict, c Code, detail string) {
	s := &l.steps[id]
	switch {
	case v > s.Verdict:
		if s.Code != 0 && c != 0 {
			detail = join(detail, s.Detail)
		}
		s.Verdict, s.Code, s.Detail = v, c, detail
	case c != 0 || s.Detail == "":
		s.Detail = join(s.Detail, detail)
	}
}

func join(a, b string) string {
	switch {
	case a == "" || a == b:
		return b
	case b == "" || strings.Contains(a, b):
		return a
	}
	return a + "; " + b
}

// verdict is the worst of all steps; a required step that did not run counts as indeterminate.
func (l *ledger) verdict() Verdict {
	if l.end <= l.first {
		return Indeterminate
	}
	worst := Valid
	for i := l.first; i < l.end; i++ {
		v := l.steps[i].Verdict
		if v == NotRun {
			if l.required&(1<<i) == 0 {
				continue
			}
			v = Indeterminate
		}
		worst = max(worst, v)
	}
	return worst
}

// list returns the steps for the report: those that ran and those that should have.
func (l *ledger) list() []Step {
	out := make([]Step, 0, l.end-l.first)
	for i := l.first; i < l.end; i++ {
		if l.steps[i].Verdict != NotRun || l.required&(1<<i) != 0 {
			out = append(out, l.steps[i])
		}
	}
	return out
}
