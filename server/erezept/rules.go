package erezept

import (
	"strings"

	"ktradv/internal/x509ti"
	"ktradv/server/erezept/record"
)

// admission is a certificate profile with which a record of a kind may be signed.
type admission struct {
	profile x509ti.Profile
	roles   []x509ti.OID // any of these; nil: any
	// code is a finding that is reported although the record may be signed so; 0 is none. transition names the rule of
	// Transitions that allows it.
	code       Code
	step       StepID // where code is reported
	transition string
}

// rule says how records of a kind are checked.
type rule struct {
	kind     Kind
	german   string // what clerks call it
	admitted []admission
	// billing: part of a billing case, so it carries a Rezept-ID.
	billing bool
	// any: the content may be anything; only the signature is checked.
	any bool
}

var (
	prescribers = []x509ti.OID{x509ti.OIDArzt, x509ti.OIDZahnarzt, x509ti.OIDPsychotherapeut, x509ti.OIDPsychologischerPT,
		x509ti.OIDKJPsychotherapeut}
	pharmacists = []x509ti.OID{x509ti.OIDApotheker, x509ti.OIDApothekerassistent, x509ti.OIDPharmazieingenieur,
		x509ti.OIDApothekenassistent}
	pharmacies = []x509ti.OID{x509ti.OIDApotheke, x509ti.OIDKrankenhausapotheke, x509ti.OIDBundeswehrapotheke}
	practices  = []x509ti.OID{x509ti.OIDPraxisArzt, x509ti.OIDZahnarztpraxis, x509ti.OIDKrankenhaus}
	service    = []x509ti.OID{x509ti.OIDERezept}
)

// rules is the table of who may sign what (ERP-02, ERP-03, ERP-04, ERP-17, ERP-29). The first admission whose certificate
// type the signer's certificate has is the one that counts.
var rules = []rule{
	{Prescription, "Verordnung", []admission{
		{profile: x509ti.HPQES, roles: prescribers},
	}, true, false},
	{Dispensing, "Abgabedaten", []admission{
		{profile: x509ti.HPQES, roles: pharmacists},
		{profile: x509ti.HCIOSIG, roles: pharmacies},
	}, true, false},
	{Receipt, "Quittung", []admission{
		{profile: x509ti.FDOSIG, roles: service},
		{profile: x509ti.FDSIG, roles: service, code: CodeDigitalSignature, step: StepKeyUsage, transition: TransitionKeyUsage},
	}, true, false},
	{SickNote, "Arbeitsunfähigkeitsbescheinigung", []admission{
		{profile: x509ti.HPQES, roles: prescribers},
		{profile: x509ti.HCIOSIG, roles: practices, code: CodeNotQualified, step: StepType},
	}, false, false},
	{Document, "Signiertes Dokument", []admission{
		{profile: x509ti.HPQES},
		{profile: x509ti.HCIOSIG},
		{profile: x509ti.FDOSIG},
		{profile: x509ti.FDSIG, code: CodeDigitalSignature, step: StepKeyUsage},
	}, false, true},
}

func ruleOf(k Kind) (rule, bool) {
	for _, r := range rules {
		if r.kind == k {
			return r, true
		}
	}
	return rule{}, false
}

// profiles are those of all admissions.
func (r rule) profiles() []x509ti.Profile {
	var ps []x509ti.Profile
	for _, a := range r.admitted {
		ps = append(ps, a.profile)
	}
	return ps
}

// names are those of the profiles.
func (r rule) names() string {
	var names []string
	for _, a := range r.admitted {
		names = append(names, a.profile.Name)
	}
	return strings.Join(names, ", ")
}

// admission returns the one for a certificate: by its type, the first one when no type fits.
func (r rule) admission(cert *x509ti.Certificate) admission {
	for _, a := range r.admitted {
		if a.profile.TypeOf(cert) != nil {
			return a
		}
	}
	return r.admitted[0]
}

// Names of the transition rules.
const (
	TransitionKeyUsage    = "receipt-digital-signature"
	TransitionCardinality = "receipt-bundle-signature-cardinality"
)

// Transition is a rule that holds for a time of transition only.
type Transition struct {
	Name    string
	Applies Kind
	English string
	German  string
}

// Transitions are the transition rules of gematik's document on the signatures of billing information, version 1.2.0,
// limitations (b) and (c). A report names those that were applied.
var Transitions = []Transition{
	{TransitionKeyUsage, Receipt, "receipts signed with a certificate of profile C.FD.SIG (keyUsage digitalSignature) are accepted",
		"Quittungen mit einem Zertifikat des Profils C.FD.SIG (keyUsage digitalSignature) werden anerkannt."},
	{TransitionCardinality, Receipt, "receipts that are rejected in FHIR validation solely because Bundle.signature is missing count as valid",
		"Quittungen, die bei der FHIR-Prüfung nur wegen des fehlenden Bundle.signature abgewiesen werden, gelten als gültig."},
}

// signatureRequired says which receipt profiles demand Bundle.signature (cardinality 1..1) inside the signed content,
// where it cannot be: those before the correction of 2021.
var signatureRequired = []string{"https://gematik.de/fhir/StructureDefinition/ErxReceipt"}

// digestOptional says whether a receipt may come without the digest of the prescription: those of 2021, and those before
// version 1.2 of the profile that followed.
func digestOptional(f *record.Facts) bool {
	if demandsSignature(f.Profile) {
		return true
	}
	return f.Version == "1.0" || f.Version == "1.1" || strings.HasPrefix(f.Version, "1.0.") || strings.HasPrefix(f.Version, "1.1.")
}

func demandsSignature(profile string) bool {
	name, _, _ := strings.Cut(profile, "|")
	for _, p := range signatureRequired {
		if p == name {
			return true
		}
	}
	return false
}
