package trust_test

import (
	"context"
	"testing"
	"time"

	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
	"ktradv/server/trust"
)

// TestQualifications: what the BNetzA-VL says of some certificates of a qualified CA (ETSI TS 119 612 clause 5.5.9.2), by the
// state in force when the certificate was issued.
func TestQualifications(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-12")
	w := newWorld(t)
	says := func(criteria string, qualifiers ...string) string {
		out := "<ecc:QualificationElement><ecc:Qualifiers>"
		for _, q := range qualifiers {
			out += `<ecc:Qualifier uri="` + q + `"></ecc:Qualifier>`
		}
		return out + "</ecc:Qualifiers>" + criteria + "</ecc:QualificationElement>"
	}
	policy := func(oid x509ti.OID) string {
		return `<ecc:CriteriaList assert="all"><ecc:PolicySet><ecc:PolicyIdentifier><xades:Identifier>` + oid.String() + `</xades:Identifier></ecc:PolicyIdentifier></ecc:PolicySet></ecc:CriteriaList>`
	}
	its, others, strange := policy(x509ti.OIDHBAQES), policy(x509ti.OIDSMBOSig), `<ecc:CriteriaList assert="all"><ecc:otherCriteriaList><tslx:Unheard></tslx:Unheard></ecc:otherCriteriaList></ecc:CriteriaList>`
	granted := func(start time.Time, critical bool, qualify string) testpki.ListState {
		s := state(tsl.TypeCAQC, tsl.StatusGranted, start, tsl.ForeSignatures)
		s.Qualify, s.Critical = qualify, critical
		return s
	}
	y, issued := func(n int) time.Time { return at.AddDate(n, 0, 0) }, w.physician.NotBefore
	for _, tc := range []struct {
		name    string
		states  []testpki.ListState // the first is the current one
		verdict trust.Verdict
		code    int
	}{
		{"nothing", []testpki.ListState{granted(y(-3), true, "")}, trust.Valid, 0},
		{"not qualified", []testpki.ListState{granted(y(-3), true, says(its, tsl.NotQualified))}, trust.Invalid, 1059},
		{"not qualified, not critical", []testpki.ListState{granted(y(-3), false, says(its, tsl.NotQualified))}, trust.Invalid, 1059},
		{"others are not qualified", []testpki.ListState{granted(y(-3), true, says(others, tsl.NotQualified))}, trust.Valid, 0},
		{"for signatures", []testpki.ListState{granted(y(-3), true, says(its, tsl.QCForESig))}, trust.Valid, 0},
		{"for seals", []testpki.ListState{granted(y(-3), true, says(its, tsl.QCForESeal))}, trust.Invalid, 1059},
		{"for web sites", []testpki.ListState{granted(y(-3), true, says(its, tsl.QCForWSA))}, trust.Invalid, 1059},
		{"for seals and signatures", []testpki.ListState{granted(y(-3), true, says(its, tsl.QCForESeal)+says(its, tsl.QCForESig))}, trust.Indeterminate, 12038},
		{"for web sites and signatures in one breath", []testpki.ListState{granted(y(-3), false, says(its, tsl.QCForESig, tsl.QCForWSA))}, trust.Indeterminate, 12038},
		{"for signatures, and others for seals", []testpki.ListState{granted(y(-3), true, says(its, tsl.QCForESig)+says(others, tsl.QCForESeal))}, trust.Valid, 0},
		{"for seals and web sites", []testpki.ListState{granted(y(-3), true, says(its, tsl.QCForESeal, tsl.QCForWSA))}, trust.Invalid, 1059},
		{"qualified and not qualified", []testpki.ListState{granted(y(-3), true, says(its, "http://uri.etsi.org/TrstSvc/TrustedList/SvcInfoExt/QCStatement")+says(its, tsl.NotQualified))}, trust.Invalid, 1059},
		{"not qualified, beside a criterion that is not known", []testpki.ListState{granted(y(-3), false, says(strange, tsl.QCForESig)+says(its, tsl.NotQualified))}, trust.Invalid, 1059},
		{"no creation device", []testpki.ListState{granted(y(-3), true, says(its, tsl.QCNoQSCD))}, trust.Warnings, 12039},
		{"no creation device, in the old word", []testpki.ListState{granted(y(-3), true, says(its, tsl.QCNoSSCD))}, trust.Warnings, 12039},
		{"in a creation device", []testpki.ListState{granted(y(-3), true, says(its, "http://uri.etsi.org/TrstSvc/TrustedList/SvcInfoExt/QCWithQSCD"))}, trust.Valid, 0},
		{"critical criterion that is not known", []testpki.ListState{granted(y(-3), true, says(strange, tsl.NotQualified))}, trust.Indeterminate, 12038},
		{"criterion that is not known", []testpki.ListState{granted(y(-3), false, says(strange, tsl.NotQualified))}, trust.Valid, 0},
		{"critical qualifier that is not known", []testpki.ListState{granted(y(-3), true, says(its, "http://example.invalid/gold"))}, trust.Indeterminate, 12038},
		{"not qualified is certain beside it", []testpki.ListState{granted(y(-3), true, says(strange, tsl.QCForESig)+says(its, tsl.NotQualified))}, trust.Invalid, 1059},
		{"not qualified since after it was issued", []testpki.ListState{granted(issued.Add(time.Second), true, says(its, tsl.NotQualified)), granted(y(-3), true, "")}, trust.Valid, 0},
		{"not qualified since that second", []testpki.ListState{granted(issued, true, says(its, tsl.NotQualified)), granted(y(-3), true, "")}, trust.Invalid, 1059},
		{"qualified since after it was issued", []testpki.ListState{granted(issued.Add(time.Second), true, ""), granted(y(-3), true, says(its, tsl.NotQualified))}, trust.Invalid, 1059},
	} {
		vl := w.vlSpec()
		vl.Services[0].ListState, vl.Services[0].History = tc.states[0], tc.states[1:]
		r := w.space(t, trust.Config{}, w.tslSpec(), vl).Check(context.Background(), w.physician, trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HPQES}, Status: good()})
		if step := r.Step(trust.StepCAStatus); r.Verdict != tc.verdict || step.Code != tc.code || step.Verdict != tc.verdict {
			t.Errorf("%s: %v, %+v; want %v, code %d", tc.name, r.Verdict, step, tc.verdict, tc.code)
		}
	}
}
