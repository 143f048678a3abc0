package erezept

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// billing are the kinds that make a case (ERP-01).
var billing = []Kind{Prescription, Dispensing, Receipt}

// reserve says that a record that is missing may be there all the same, in a part of the input that was not read: the zero
// value is that everything was.
type reserve struct {
	code Code
	text string
}

// assign finds the record of each kind and records what is missing, twice there or something else.
func assign(l *ledger, found []*checked, elsewhere reserve) map[Kind]*checked {
	records := map[Kind]*checked{}
	unread := 0
	l.pass(StepComplete)
	for i, r := range found {
		k := r.rep.Kind
		switch {
		case k == Unknown && r.unread:
			unread++
			l.find(StepComplete, CodeContentNotRead, "record %d", i+1)
		case !slices.Contains(billing, k):
			l.find(StepComplete, CodeUnknownKind, "record %d is none of a billing case", i+1)
		case records[k] != nil:
			l.find(StepComplete, CodeDuplicate, "%s", k)
		default:
			records[k] = r
		}
	}
	for _, k := range billing {
		switch {
		case records[k] != nil:
		case unread > 0: // this one may be what was not read
			unread--
		case elsewhere.code != 0:
			l.find(StepComplete, elsewhere.code, "%s: %s", k, elsewhere.text)
		default:
			l.find(StepComplete, CodeMissing, "%s", k)
		}
	}
	return records
}

// link checks what holds the records of a case together: the Rezept-ID (ERP-05), the digest that the receipt carries, the
// order of times; and the findings of a FHIR validation when there are some (ERP-18).
func (c *Checker) link(l *ledger, out *CaseReport, records map[Kind]*checked, fhir json.RawMessage) {
	sameIDs(l, out, records)
	sameDigest(l, records)
	order(l, records)
	if fhir != nil {
		if r := records[Receipt]; r != nil {
			c.fhirOf(r, fhir)
		}
	}
}

func sameIDs(l *ledger, out *CaseReport, records map[Kind]*checked) {
	ids := map[string][]Kind{}
	n := 0
	for _, k := range billing {
		r := records[k]
		if r == nil || len(r.ids) == 0 {
			continue
		}
		n++
		seen := map[string]bool{}
		for _, id := range r.ids {
			if !seen[id.Value] {
				seen[id.Value] = true
				ids[id.Value] = append(ids[id.Value], k)
			}
		}
	}
	if n < len(billing) {
		return // a record is missing or has none: that step says so, and this one did not run
	}
	var common []string
	for id, kinds := range ids {
		if len(kinds) == len(billing) {
			common = append(common, id)
		}
	}
	switch len(common) {
	case 0:
		l.find(StepLinkID, CodeIDsDiffer, "no Rezept-ID stands in all three records")
	case 1:
		out.PrescriptionID = common[0]
		l.pass(StepLinkID)
		if len(ids) > 1 {
			l.find(StepLinkID, CodeIDsWithin, "a record names a further Rezept-ID")
		}
	default:
		l.find(StepLinkID, CodeIDsWithin, "several Rezept-IDs stand in all three records")
	}
}

func sameDigest(l *ledger, records map[Kind]*checked) {
	v, q := records[Prescription], records[Receipt]
	if v == nil || q == nil || !v.hashed {
		return
	}
	switch {
	case q.facts == nil || q.rep.Found != Receipt:
		return // there is no content to read a digest from
	case q.facts.Digests > 1:
		l.find(StepLinkHash, CodeHashExpected, "the receipt carries %d digests", q.facts.Digests)
	case q.facts.Digests == 0 && !digestOptional(q.facts):
		l.find(StepLinkHash, CodeHashExpected, "profile %.200s", q.rep.Profile)
	case q.facts.Digests == 0:
		l.find(StepLinkHash, CodeNoHash, "profile %.200s", q.rep.Profile)
	case !bytes.Equal(q.facts.Digest, v.hash[:]):
		l.find(StepLinkHash, CodePrescriptionHash, "the receipt carries %.64x, the prescription has %x", q.facts.Digest, v.hash)
	default:
		l.pass(StepLinkHash)
	}
}

// order compares the signing times: a prescription comes before dispensing and receipt.
func order(l *ledger, records map[Kind]*checked) {
	v, a, q := records[Prescription], records[Dispensing], records[Receipt]
	if v == nil || a == nil || q == nil {
		return
	}
	if v.signed.IsZero() || a.signed.IsZero() || q.signed.IsZero() {
		l.find(StepTimeOrder, CodeNoTime, "a record has no signing time")
		return
	}
	l.pass(StepTimeOrder)
	for _, later := range []*checked{a, q} {
		if d := v.signed.Sub(later.signed); d > orderTolerance {
			l.find(StepTimeOrder, CodeTimeOrder, "the prescription was signed %s after the %s", d, later.rep.Kind)
		}
	}
}

// outcome is what is read of a FHIR OperationOutcome.
type outcome struct {
	ResourceType string `json:"resourceType"`
	Issue        []struct {
		Severity    string   `json:"severity"`
		Code        string   `json:"code"`
		Diagnostics string   `json:"diagnostics"`
		Expression  []string `json:"expression"`
		Location    []string `json:"location"`
		Details     struct {
			Text string `json:"text"`
		} `json:"details"`
	} `json:"issue"`
}

// cardinality are the ways in which validators say that Bundle.signature is missing: the start of the message or the
// place, and what must stand in it.
var cardinality = []struct{ start, inside string }{
	{"Bundle.signature: minimum required = 1", "only found 0"},
	{"Bundle.signature: Mindestens erforderlich = 1", "0 gefunden"},
	{"Instance count for 'Bundle.signature' is 0", "cardinality of 1..1"},
}

const maxOutcome = 64 << 10

// fhirOf judges the result of a FHIR validation of the receipt: errors that concern nothing but the cardinality of Bundle.signature count
// as none (transition rule (c)).
func (c *Checker) fhirOf(receipt *checked, raw json.RawMessage) {
	if receipt.rep.Kind != Receipt {
		receipt.ledger.find(StepContent, CodeInput, "a FHIR validation of a receipt beside a record that is none")
		return
	}
	o, err := readOutcome(raw)
	if err != nil {
		receipt.ledger.put(StepContent, Indeterminate, CodeInput, err.Error())
		return
	}
	var other, only int
	for _, i := range o.Issue {
		if i.Severity != "error" && i.Severity != "fatal" {
			continue
		}
		text := i.Diagnostics
		if text == "" {
			text = i.Details.Text
		}
		if slices.ContainsFunc(cardinality, func(p struct{ start, inside string }) bool {
			return strings.HasPrefix(text, p.start) && strings.Contains(text, p.inside)
		}) && receipt.facts != nil && !receipt.facts.HasSignature {
			only++
		} else {
			other++
		}
	}
	switch {
	case other > 0:
		receipt.ledger.find(StepContent, CodeFHIR, "%d errors of the FHIR validation that no rule excuses", other)
	case only > 0:
		receipt.ledger.find(StepContent, CodeFHIRCardinality, "%d errors of the FHIR validation about Bundle.signature alone", only)
		receipt.apply(TransitionCardinality)
	}
}

func readOutcome(raw []byte) (outcome, error) {
	var o outcome
	if len(raw) > maxOutcome {
		return o, fmt.Errorf("OperationOutcome larger than %d octets", maxOutcome)
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return o, errors.New("OperationOutcome cannot be read")
	}
	if o.ResourceType != "OperationOutcome" || len(o.Issue) == 0 {
		return o, errors.New("not an OperationOutcome with issues")
	}
	for _, i := range o.Issue {
		switch i.Severity {
		case "fatal", "error", "warning", "information":
		default:
			return o, errors.New("OperationOutcome with an unknown severity")
		}
	}
	return o, nil
}
