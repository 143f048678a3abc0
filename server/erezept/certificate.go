package erezept

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"ktradv/internal/cms"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
	"ktradv/server/trust"
)

// trustSteps says where the steps of the certificate check stand in a report.
var trustSteps = map[string]StepID{
	trust.StepList:          StepList,
	trust.StepCertTime:      StepCertTime,
	trust.StepModel:         StepCertTime,
	trust.StepCA:            StepCA,
	trust.StepCertSignature: StepCertSignature,
	trust.StepCAStatus:      StepCAStatus,
	trust.StepQCStatements:  StepQCStatements,
	trust.StepAdmissible:    StepAlgorithm,
	trust.StepStatus:        StepStatus,
	x509ti.StepKeyUsage:     StepKeyUsage,
	x509ti.StepExtKeyUsage:  StepKeyUsage,
	x509ti.StepCritical:     StepCritical,
	x509ti.StepType:         StepType,
	x509ti.StepRole:         StepRole,
}

var trustVerdicts = map[trust.Verdict]Verdict{trust.Valid: Valid, trust.Warnings: Warning, trust.Indeterminate: Indeterminate,
	trust.Invalid: Invalid}

// uncoded gives findings of steps a code that gemSpec_PKI has none for.
var uncoded = map[StepID]Code{StepCritical: CodeCritical, StepRole: CodeRole, StepList: CodeNoTrustAnchor, StepAlgorithm: CodeAlgorithm}

// certificate checks the signer's certificate at the signing time: everything that gemSpec_PKI asks for (ERP-10), the
// issuer in the list of that time (ERP-12, ERP-14), the status (ERP-11, ERP-13, ERP-15, ERP-20), the roles and profiles
// of the table of rules.
func (c *Checker) certificate(ctx context.Context, r *checked, rule rule, cert *x509ti.Certificate, sd *cms.SignedData,
	si *cms.SignerInfo, now time.Time) {
	l := r.ledger
	at := r.signed
	if at.IsZero() {
		at = now
	}
	at = at.UTC()
	r.rep.ReferenceTime = &at
	admitted := rule.admission(cert)
	if !admitted.profile.QES {
		l.release(StepQCStatements)
	}
	embedded := sd.OCSP
	if values, err := si.RevocationValues(); err == nil {
		embedded = append(embedded[:len(embedded):len(embedded)], values...)
	}
	res := c.Space().Check(ctx, cert, trust.Options{At: at, Now: now, Profiles: rule.profiles(), Embedded: embedded,
		MaxAge: c.MaxAge, Status: c.Status, Cache: c.Chains, Verifier: c.Verifier})
	worst := Valid
	for _, s := range res.Steps {
		if s.Verdict == trust.NotRun {
			continue
		}
		v := trustVerdicts[s.Verdict]
		id, ok := trustSteps[s.ID]
		if !ok || v == NotRun {
			id, v = StepCA, max(v, Indeterminate)
			s.Text = fmt.Sprintf("step %s: %s", s.ID, s.Text)
		}
		code := Code(s.Code)
		if code == 0 && v != Valid {
			if code = uncoded[id]; code == 0 {
				code = CodeUnexpectedFinding
			}
			switch {
			case id == StepAlgorithm && v == Warning:
				code = CodePhasedOut
			case id == StepCAStatus && v == Warning:
				code = CodeCAClosed
			case id == StepQCStatements && v == Warning:
				code = CodeNoSSCD
			}
		}
		if id == StepStatus && v == Indeterminate {
			code, s.Text = c.whyNoStatus(code, s.Text, cert, now)
		}
		worst = max(worst, v)
		l.put(id, v, code, s.Text)
	}
	if v := trustVerdicts[res.Verdict]; v != Valid && v > worst || v == NotRun {
		l.put(StepCA, max(v, Indeterminate), CodeUnexpectedFinding, "the certificate check as a whole says "+res.Verdict.String())
	}
	r.roles(rule, admitted, cert)
	r.rep.Signer.Admissible = x509ti.KeyAdmissible(cert.PublicKey, at).String()
	r.rep.Signer.Profile = res.Profile
	if res.List.SHA256 != "" {
		kind := "tsl"
		if res.List.Kind == tsl.VL {
			kind = "vl"
		}
		r.rep.Trust = &TrustList{Kind: kind, ID: res.List.ID, Sequence: int64(res.List.Sequence), SHA256: res.List.SHA256, Selected: res.List.Selected}
	}
	r.rep.Status = r.status(res.OCSP)
}

// whyNoStatus replaces the reason of a status that could not be found out by a more exact one: the certificate has expired, so that
// responders need not answer any more (ERP-21), or nobody was to be asked.
func (c *Checker) whyNoStatus(code Code, text string, cert *x509ti.Certificate, now time.Time) (Code, string) {
	switch {
	case now.After(cert.NotAfter):
		return CodeAged, join(fmt.Sprintf("certificate expired on %s; responders answer for its period of validity only",
			cert.NotAfter.UTC().Format(time.DateOnly)), join(code.String(), text))
	case c.Status == nil:
		return CodeNoStatusSource, join("no usable embedded response and no responder to be asked", text)
	}
	return code, text
}

// roles judges role and profile by the table of rules.
func (r *checked) roles(rule rule, a admission, cert *x509ti.Certificate) {
	l := r.ledger
	roles := cert.Roles()
	if a.roles == nil || slices.ContainsFunc(roles, func(have x509ti.OID) bool {
		return slices.ContainsFunc(a.roles, func(want x509ti.OID) bool { return want.Equal(have) })
	}) {
		l.pass(StepRole)
	} else {
		l.find(StepRole, CodeRole, "roles %s; a %s needs one of %s", oids(roles), rule.kind, oids(a.roles))
	}
	if a.profile.TypeOf(cert) == nil {
		l.find(StepType, 1018, "the certificate has none of the types of %s", rule.names())
	}
	if a.code != 0 && a.profile.TypeOf(cert) != nil {
		l.find(a.step, a.code, "profile %s", a.profile.Name)
		if a.transition != "" {
			r.apply(a.transition)
		}
	}
}

func (r *checked) status(f *trust.OCSPFacts) *Status {
	if f == nil {
		return nil
	}
	s := &Status{Source: f.Source, Status: strings.ToLower(f.Status), ProducedAt: set(f.ProducedAt), ThisUpdate: set(f.ThisUpdate),
		RevokedAt: set(f.RevokedAt), AgeAtSigning: time.Duration(f.AgeSeconds * float64(time.Second)).Round(time.Second).String(),
		Responder: f.Responder, ResponderHash: f.ResponderHash, Authorized: f.Authorised, CertHash: f.CertHash}
	if r.archive {
		s.Response = bytes.Clone(f.Raw) // it may be a part of a large message
	}
	return s
}

func set(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// countersignatures checks the signatures over the signature. They are evidence of their own: a wrong one is a warning, and one
// that cannot be checked to its end is noted; neither changes the signature below.
func (c *Checker) countersignatures(ctx context.Context, r *checked, sd *cms.SignedData, si *cms.SignerInfo, now time.Time) {
	l := r.ledger
	counters, err := si.Countersignatures()
	if err != nil {
		l.find(StepCountersign, CodeCountersignature, "%v", err)
		return
	}
	l.passf(StepCountersign, "%d", len(counters))
	for i := range counters {
		cs := c.countersignature(ctx, sd, si, &counters[i], now)
		r.rep.Countersignatures = append(r.rep.Countersignatures, cs)
		if cs.Verdict == Invalid {
			l.find(StepCountersign, CodeCountersignature, "countersignature %d: %s", i+1, cs.Detail)
		}
	}
}

// countersigners are the profiles with which the Fachdienst countersigns.
var countersigners = []x509ti.Profile{x509ti.FDOSIG, x509ti.FDSIG, x509ti.HCIOSIG, x509ti.HPQES}

func (c *Checker) countersignature(ctx context.Context, sd *cms.SignedData, si, counter *cms.SignerInfo, now time.Time) Countersignature {
	out := Countersignature{Verdict: Valid, SigningTime: set(counter.SigningTime)}
	worse := func(v Verdict, code Code, detail string) {
		if v > out.Verdict {
			out.Verdict, out.Code = v, code
		}
		if v != Valid {
			out.Detail = join(out.Detail, detail)
		}
	}
	var cert *x509ti.Certificate
	if der := sd.FindCertificate(counter); der == nil {
		worse(Indeterminate, CodeSignerCert, "certificate of the countersigner is not there")
	} else if parsed, err := c.parse(der); err != nil {
		worse(Code(1019).Finding().Verdict, 1019, err.Error())
	} else {
		cert = parsed
		d := describe(cert)
		out.Signer, out.Certificate = d.Subject, d.SHA256
	}
	core := si.VerifyCountersignature(counter, cert, c.Verifier)
	for i, f := range core {
		if v := coreVerdicts[f.Verdict]; v > Valid {
			worse(v, coreSteps[i].code, f.Reason.String())
		}
	}
	if !core.OK() && out.Verdict.OK() {
		worse(Indeterminate, CodeUnexpectedFinding, "the core check did not run to its end")
	}
	if cert == nil {
		return out
	}
	at := counter.SigningTime
	if at.IsZero() {
		// RFC 5652 chapter 11.4 asks for no time; then the countersignature is judged at the time of the signature below it.
		at = si.SigningTime
	}
	res := c.Space().Check(ctx, cert, trust.Options{At: at, Now: now, Profiles: countersigners, Embedded: sd.OCSP, MaxAge: c.MaxAge,
		Status: c.Status, Cache: c.Chains, Verifier: c.Verifier})
	for _, s := range res.Steps {
		if v := trustVerdicts[s.Verdict]; v > Valid {
			worse(v, Code(s.Code), s.Text)
		}
	}
	if v := trustVerdicts[res.Verdict]; !v.OK() && out.Verdict.OK() {
		worse(max(v, Indeterminate), CodeUnexpectedFinding, "certificate of the countersigner is "+res.Verdict.String())
	}
	return out
}

// cards of insured persons: their subject is never reported.
var insured = []x509ti.OID{x509ti.OIDEGKEnc, x509ti.OIDEGKEncV, x509ti.OIDEGKAut, x509ti.OIDEGKAutN, x509ti.OIDEGKAutAlt}

func describe(cert *x509ti.Certificate) *Signer {
	sum := cert.Fingerprint()
	s := &Signer{Issuer: commonName(cert.Issuer), Serial: cert.Serial.String(), SHA256: hex.EncodeToString(sum[:]),
		NotBefore: cert.NotBefore.UTC().Format(time.RFC3339), NotAfter: cert.NotAfter.UTC().Format(time.RFC3339),
		Policies: dotted(cert.Policies), Roles: dotted(cert.Roles()), KeyUsage: usages(cert.KeyUsage),
		Key: x509ti.KeyName(cert.PublicKey)}
	personal := false
	for _, p := range insured {
		personal = personal || cert.HasPolicy(p)
	}
	if !personal {
		s.Subject = cert.CommonName().Reveal()
		for _, a := range cert.Admissions {
			if a.Registration != "" {
				s.Registration = a.Registration
			}
		}
	}
	return s
}

func commonName(name []x509ti.Attribute) string {
	for _, a := range name {
		if a.OID.Equal(x509ti.OIDCommonName) {
			return a.Value.Reveal()
		}
	}
	return ""
}

func dotted(list []x509ti.OID) []string {
	var out []string
	for _, o := range list {
		out = append(out, o.String())
	}
	return out
}

func oids(list []x509ti.OID) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(dotted(list), ", ")
}

var usageNames = []struct {
	usage x509ti.KeyUsage
	name  string
}{{x509ti.DigitalSignature, "digitalSignature"}, {x509ti.NonRepudiation, "nonRepudiation"}, {x509ti.KeyEncipherment, "keyEncipherment"},
	{x509ti.DataEncipherment, "dataEncipherment"}, {x509ti.KeyAgreement, "keyAgreement"}, {x509ti.CertSign, "keyCertSign"}, {x509ti.CRLSign, "cRLSign"}}

func usages(u x509ti.KeyUsage) []string {
	var out []string
	for _, n := range usageNames {
		if u&n.usage != 0 {
			out = append(out, n.name)
		}
	}
	return out
}
