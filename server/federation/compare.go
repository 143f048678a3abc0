package federation

import (
	"fmt"
	"slices"
	"strings"
)

// agreement is one value that the registration and the statement must have in common.
type agreement struct {
	Field string // of the XML
	Place string // in the statement
	XML   func(r *Registration) string
	ES    func(s *Statement) string
	// Missing is the code where the statement lacks it, Code where it differs.
	Missing, Code Code
}

// agreements are the single values that are compared exactly (FED-12, FED-13, FED-14).
var agreements = []agreement{
	{"organisationsname", "metadata.openid_relying_party.organization_name",
		func(r *Registration) string { return r.OrganisationName },
		func(s *Statement) string { return text(s.relyingParty(), "organization_name") }, "ES-ORG-FEHLT", "ES-ORG-UNGLEICH"},
	{"fachdienstname", "metadata.federation_entity.name",
		func(r *Registration) string { return r.ServiceName },
		func(s *Statement) string { return text(s.entity(), "name") }, "ES-NAME-FEHLT", "ES-NAME-UNGLEICH"},
	{"fachdienstname", "metadata.openid_relying_party.client_name",
		func(r *Registration) string { return r.ServiceName },
		func(s *Statement) string { return text(s.relyingParty(), "client_name") }, "ES-NAME-FEHLT", "ES-NAME-UNGLEICH"},
	{"fachdiensturi", "iss",
		func(r *Registration) string { return r.ServiceURI },
		func(s *Statement) string { return s.Issuer }, "ES-CLAIM-FEHLT", "ES-ISS-UNGLEICH"},
	{"fachdiensturi", "sub",
		func(r *Registration) string { return r.ServiceURI },
		func(s *Statement) string { return s.Subject }, "ES-CLAIM-FEHLT", "ES-SUB-UNGLEICH"},
}

// setAgreement is a list that is compared as a set.
type setAgreement struct {
	Field, Place string
	XML          func(r *Registration) []string
	ES           func(s *Statement) []string
	// Lack: in the XML only. More: in the statement only.
	Lack, More Code
}

// setAgreements are the lists (FED-17, FED-19, FED-21).
var setAgreements = []setAgreement{
	{"scopes", "metadata.openid_relying_party.scope",
		func(r *Registration) []string { return r.Scopes },
		func(s *Statement) []string { return strings.Fields(text(s.relyingParty(), "scope")) }, "ES-SCOPE-FEHLT", "ES-SCOPE-MEHR"},
	{"claims", "metadata.openid_relying_party.claims",
		func(r *Registration) []string { return r.Claims },
		func(s *Statement) []string { return list(s.relyingParty(), "claims") }, "ES-CLAIM-UNGLEICH", "ES-CLAIM-UNGLEICH"},
	{"redirect_uris", "metadata.openid_relying_party.redirect_uris",
		func(r *Registration) []string { return r.RedirectURIs },
		func(s *Statement) []string { return list(s.relyingParty(), "redirect_uris") }, "ES-REDIRECT-FEHLT", "ES-REDIRECT-MEHR"},
}

// Compare returns every disagreement between a registration form and the statement of the service.
func Compare(r *Registration, s *Statement) (found Findings) {
	add := func(sev Severity, code Code, field string, line int, what, fix string) {
		found = append(found, Finding{Code: code, Severity: sev, Source: r.source, Line: line, Field: field, What: what, Fix: fix})
	}
	environment := func(sev Severity) {
		if m := r.Environment.Master(); m != "" && len(s.Hints) > 0 && !slices.Contains(s.Hints, m) {
			add(sev, "ES-ENV", "betriebsumgebung", r.lines["betriebsumgebung"],
				fmt.Sprintf("the environment is %s, the statement's authority_hints name %s", r.Environment, strings.Join(s.Hints, ", ")),
				fmt.Sprintf("a service of %s names %s", r.Environment, m))
		}
	}
	if r.Deregister {
		if r.ServiceURI != s.Issuer {
			add(Warning, "ES-ISS-UNGLEICH", "fachdiensturi", r.lines["fachdiensturi"], fmt.Sprintf("the statement's iss is %q", s.Issuer), "check that the right service is taken out")
		}
		environment(Warning)
		return found
	}
	for _, a := range agreements {
		x, e := a.XML(r), a.ES(s)
		switch {
		case x == e:
		case e == "":
			add(Error, a.Missing, a.Field, r.lines[a.Field], fmt.Sprintf("the statement has no %s", a.Place), "add it to the statement, with exactly the value of the registration")
		case strings.TrimSuffix(x, "/") == strings.TrimSuffix(e, "/"):
			add(Error, a.Code, a.Field, r.lines[a.Field], fmt.Sprintf("%q here, %q in %s: they differ in the slash at the end", x, e, a.Place), "write the same in both: the text is compared")
		default:
			add(Error, a.Code, a.Field, r.lines[a.Field], fmt.Sprintf("%q here, %q in %s", x, e, a.Place), "make them equal, letter by letter")
		}
	}
	if rp, fe := text(s.relyingParty(), "client_name"), text(s.entity(), "name"); rp != fe && rp != "" && fe != "" {
		add(Error, "ES-NAME-UNGLEICH", "fachdienstname", r.lines["fachdienstname"],
			fmt.Sprintf("in the statement client_name is %q and federation_entity.name is %q", rp, fe), "the two must be identical to each other")
	}
	for _, a := range setAgreements {
		x, e := a.XML(r), a.ES(s)
		for _, v := range x {
			if !slices.Contains(e, v) {
				add(Error, a.Lack, a.Field, r.lines[a.Field+"/"+v], fmt.Sprintf("%q is not in the statement's %s", v, a.Place), "add it to the statement, or remove it here")
			}
		}
		for _, v := range e {
			if !slices.Contains(x, v) {
				add(Error, a.More, a.Field, r.lines[a.Field], fmt.Sprintf("%q stands in the statement's %s only", v, a.Place), "register it here, or remove it from the statement")
			}
		}
	}
	environment(Error)
	return append(found, compareKeys(r, s)...)
}

// compareKeys compares the keys (FED-22, FED-23, FED-24).
func compareKeys(r *Registration, s *Statement) (found Findings) {
	add := func(sev Severity, code Code, field string, line int, what, fix string) {
		found = append(found, Finding{Code: code, Severity: sev, Source: r.source, Line: line, Field: field, What: what, Fix: fix})
	}
	registered := func(kid string) bool {
		return slices.ContainsFunc(r.Keys, func(k PublicKey) bool { return k.KID == kid })
	}
	for _, k := range r.Keys {
		j, ok := keyByID(s.Keys, k.KID)
		if !ok {
			add(Error, "ES-KID-FEHLT", "kid", k.line, fmt.Sprintf("kid %q is not in the statement's jwks", k.KID), "copy kid and key from the statement's jwks.keys")
			continue
		}
		if key, err := j.public(); err == nil && k.Key != nil && !key.Equal(k.Key) {
			add(Error, "ES-KEY-UNGLEICH", "key", k.line, fmt.Sprintf("kid %q names another key in the statement", k.KID), "take the key from the statement: `adv-server federation register` writes it")
		}
	}
	if s.KID != "" && !registered(s.KID) {
		add(Error, "ES-KID-HEADER", "kid", r.lines["publickeysjwt"], fmt.Sprintf("the statement is signed with %q, which is not registered here", s.KID), "register the signing key")
	}
	for _, k := range s.Keys {
		if k.KID != "" && k.KID != s.KID && !registered(k.KID) {
			add(Warning, "ES-KID-MEHR", "kid", r.lines["publickeysjwt"], fmt.Sprintf("the statement publishes key %q, which is not registered here", k.KID), "register it before it signs, at least 24 hours ahead (A_24607)")
		}
	}
	return found
}
