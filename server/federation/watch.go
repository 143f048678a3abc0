package federation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// WatchConfig says what is compared.
type WatchConfig struct {
	// Registered is the form that was sent last.
	Registered *Registration
	// MasterKeys are the pinned keys of the Federation Master (A_23046).
	MasterKeys []jwk
	// Keys are the own signing keys, nil leaves their times out: no key is then known to be ours. ClientKeys are those for ID
	// tokens, nil leaves their times out.
	Keys, ClientKeys *Keys
	Client           Doer
	Header           http.Header
	Now              time.Time
}

// Report is the result of a watch.
type Report struct {
	Findings Findings `json:"findings"`
	// Reached is false where something could not be fetched: then nothing is known about it.
	Reached bool `json:"reached"`
	// Known are the kids that the Federation Master publishes for the service.
	Known []string `json:"known_kids"`
	// StatementExpires, MasterExpires, KeyEnds and ClientEnds (of the TLS client certificate) are the next ends, zero where
	// unknown.
	StatementExpires time.Time `json:"statement_expires,omitzero"`
	MasterExpires    time.Time `json:"master_statement_expires,omitzero"`
	KeyEnds          time.Time `json:"key_ends,omitzero"`
	ClientEnds       time.Time `json:"tls_client_certificate_ends,omitzero"`
	// EncryptionEnds is when the key for ID tokens has been used for MaxKeyAge.
	EncryptionEnds time.Time `json:"id_token_key_ends,omitzero"`

	known []jwk // as Known
}

// Watch compares what was registered, what the service publishes now and what the Federation Master publishes about it
// (FED-27): each disagreement with what comes of it and what to do.
func Watch(ctx context.Context, c WatchConfig) Report {
	r := Report{Reached: true, Findings: Findings{}, Known: []string{}} // lists in JSON also where they are empty
	unreached := func(found Findings) {
		r.Reached = false
		r.Findings = append(r.Findings, found...)
	}
	live, address, found := Inspect(ctx, c.Registered.ServiceURI, Inspection{Client: c.Client, Header: c.Header, Now: c.Now})
	if live == nil || found.Has("ES-NETZ") || found.Has("ES-HTTP") { // of the statement or the key set that it points to
		unreached(found)
	} else {
		r.Findings = append(r.Findings, found...)
	}
	if live != nil {
		r.Findings = append(r.Findings, Compare(c.Registered, live)...)
		r.Findings = append(r.Findings, renewal(live, address, c.Now)...)
		r.StatementExpires, r.ClientEnds = live.Expires, live.clientEnd()
	}
	published, found := fetchSubordinate(ctx, c)
	if published == nil {
		unreached(found)
	} else {
		r.Findings = append(r.Findings, found...)
		r.Findings = append(r.Findings, compareMaster(c.Registered, live, published, c.Keys)...)
		r.MasterExpires = published.Expires
		r.known = published.Keys
		for _, k := range published.Keys {
			r.Known = append(r.Known, k.KID)
		}
	}
	if c.Keys != nil {
		now := Keys{list: slices.Clone(c.Keys.list)} // what was learned just now counts; [Keys.Deposit] is what keeps it
		now.mark(r.known, c.Now)
		r.Findings = append(r.Findings, now.watch(c.Now)...)
		if k, err := c.Keys.Current(c.Now); err == nil {
			r.KeyEnds = k.Ends()
		}
	}
	if c.ClientKeys != nil && live != nil {
		r.Findings = append(r.Findings, c.ClientKeys.watchClient(live.clientKeys(), c.Now)...)
		r.EncryptionEnds = c.ClientKeys.clientEnd(live.clientKeys())
	}
	return r
}

// renewal warns of a statement that nobody renews: this service's is signed anew at half of its time.
func renewal(live *Statement, address string, now time.Time) Findings {
	left, life := live.Expires.Sub(now), live.Expires.Sub(live.IssuedAt)
	if live.Expires.IsZero() || live.IssuedAt.IsZero() || left <= 0 || left >= life/10 {
		return nil
	}
	return Findings{{Code: "ES-ENDE", Severity: Warning, Source: address, Field: "exp", What: fmt.Sprintf("expires in %s and was not renewed", left.Round(time.Minute)),
		Fix: "look into the log of `adv-server federation entity-statement`: it says why it does not sign"}}
}

// fetchSubordinate asks the environment's Federation Master for its statement about the service.
func fetchSubordinate(ctx context.Context, c WatchConfig) (*Statement, Findings) {
	master := c.Registered.Environment.Master()
	fail := func(code Code, source, what, fix string) (*Statement, Findings) {
		return nil, Findings{{Code: code, Severity: Error, Source: source, What: what, Fix: fix}}
	}
	own, address, found := FetchStatement(ctx, c.Client, nil, master)
	if own == nil {
		return nil, found
	}
	// The master has no superior, so the rules for a subordinate statement serve, with its own keys pinned.
	for _, f := range CheckStatement(own, StatementOptions{Source: address, Now: c.Now, SignedBy: c.MasterKeys}) {
		if f.Severity == Error && f.Code != "ES-ISS-SUB" {
			f.Code, f.Fix = "FM-AUSSAGE", "do not trust it; compare the pinned keys with gematik's publication, then ask the office"
			found = append(found, f)
		}
	}
	if own.Issuer != master || own.Subject != master {
		found = append(found, Finding{Code: "FM-AUSSAGE", Severity: Error, Source: address, Field: "iss", What: fmt.Sprintf("it speaks for %q", own.Issuer), Fix: "ask the office"})
	}
	if found.Worst() == Error {
		return nil, found
	}
	members, err := endpoint(master, text(own.entity(), "federation_list_endpoint"), nil)
	if err != nil {
		return fail("FM-AUSSAGE", address, "federation_list_endpoint: "+err.Error(), "ask the office")
	}
	doc, lf := fetch(ctx, c.Client, nil, members, "")
	var listed []string
	if doc.body == nil {
		found = append(found, lf...)
	} else if err := json.Unmarshal(doc.body, &listed); err != nil {
		found = append(found, Finding{Code: "FM-LISTE", Severity: Warning, Source: members, What: "the list is no JSON array of texts", Fix: "ask the office if it stays so"})
	} else if !slices.Contains(listed, c.Registered.ServiceURI) {
		found = append(found, Finding{Code: "FM-LISTE", Severity: Error, Source: members, What: fmt.Sprintf("%q is not in the list", c.Registered.ServiceURI), Fix: "the registration is not in force, or under another address: ask the office"})
	}
	query := url.Values{"iss": {master}, "sub": {c.Registered.ServiceURI}, "aud": {c.Registered.ServiceURI}}
	ask, err := endpoint(master, text(own.entity(), "federation_fetch_endpoint"), query)
	if err != nil {
		return fail("FM-AUSSAGE", address, "federation_fetch_endpoint: "+err.Error(), "ask the office")
	}
	doc, ff := fetch(ctx, c.Client, nil, ask, ContentType)
	if doc.body == nil {
		if f := refused(doc.refusal, ask); f != nil {
			ff = f
		}
		return nil, append(found, ff...)
	}
	s, more := ParseStatement(doc.body, ask)
	found = append(append(found, ff...), more...)
	if s == nil {
		return nil, found
	}
	for _, f := range CheckStatement(s, StatementOptions{Source: ask, Now: c.Now, SignedBy: c.MasterKeys}) {
		if f.Severity == Error {
			f.Code, f.Fix = "FM-AUSSAGE", "nothing in it is to be trusted; try again, then ask the office"
			found = append(found, f)
		}
	}
	if s.Issuer != master || s.Subject != c.Registered.ServiceURI {
		found = append(found, Finding{Code: "FM-AUSSAGE", Severity: Error, Source: ask, Field: "sub", What: fmt.Sprintf("%q speaks about %q", s.Issuer, s.Subject), Fix: "ask the office"})
	}
	if !s.isFor(c.Registered.ServiceURI) {
		found = append(found, Finding{Code: "FM-AUSSAGE", Severity: Error, Source: ask, Field: "aud", What: fmt.Sprintf("it is for %s, not for the service", bounded(fmt.Sprint(s.claims["aud"]))), Fix: "nothing in it is to be trusted; try again, then ask the office"})
	}
	if found.Has("FM-AUSSAGE") {
		return nil, found
	}
	return s, found
}

// isFor says whether a statement names nobody else as the one it was made for. It may name nobody: published ones have null there.
func (s *Statement) isFor(service string) bool {
	return s.claims["aud"] == nil || slices.Contains(list(s.claims, "aud"), service)
}

// unknownSubject is the Federation Master's code for a service that is not registered.
const unknownSubject = "6011"

// refused reads the Federation Master's answer to a request that it refuses, nil where the body is none. The code decides, and
// nothing else in the answer: its description and its time are whatever they are.
func refused(body []byte, source string) Findings {
	m, err := parseObject(body)
	if err != nil {
		return nil
	}
	var code string
	switch v := m["gematik_code"].(type) {
	case string:
		code = v
	case json.Number:
		code = v.String()
	}
	if code == "" {
		return nil
	}
	f := Finding{Code: "FM-ABLEHNUNG", Severity: Error, Source: source, What: fmt.Sprintf("refused with %s, code %s: %s", bounded(text(m, "error")), bounded(code), bounded(text(m, "error_description"))), Fix: "try again, then ask the office"}
	if code == unknownSubject {
		f.Code, f.Fix = "FM-UNBEKANNT", "the service is not registered in this environment, or under another address: compare fachdiensturi, then ask the office"
	}
	return Findings{f}
}

// masterValues are the values of the relying party that the Federation Master carries into its statement.
var masterValues = []struct {
	Name   string
	Field  string
	Code   Code
	Values func(m map[string]any) []string
	XML    func(r *Registration) []string
	Effect string
}{
	{"redirect_uris", "redirect_uris", "FM-REDIRECT", func(m map[string]any) []string { return list(m, "redirect_uris") }, func(r *Registration) []string { return r.RedirectURIs }, "IdPs take the published set and answer invalid_request"},
	{"scope", "scopes", "FM-SCOPE", func(m map[string]any) []string { return strings.Fields(text(m, "scope")) }, func(r *Registration) []string { return r.Scopes }, "IdPs answer invalid_scope or leave the data out"},
	{"claims", "claims", "FM-CLAIM", func(m map[string]any) []string { return list(m, "claims") }, func(r *Registration) []string { return r.Claims }, "IdPs leave the data out"},
}

// compareMaster compares what the Federation Master publishes with the form, the own signing keys and, where it was reached, the
// live statement.
func compareMaster(r *Registration, live, published *Statement, own *Keys) (found Findings) {
	add := func(sev Severity, code Code, field, what, fix string) {
		found = append(found, Finding{Code: code, Severity: sev, Source: published.Issuer, Field: field, What: what, Fix: fix})
	}
	for _, k := range r.Keys {
		j, ok := keyByID(published.Keys, k.KID)
		key, err := j.public()
		switch {
		case !ok:
			add(Warning, "FM-KEY", "jwks", fmt.Sprintf("key %q was registered and is not published", k.KID), "a change takes some working days; do not sign with this key before")
		case err != nil || k.Key != nil && !key.Equal(k.Key):
			add(Error, "FM-KEY", "jwks", fmt.Sprintf("kid %q is another key there", k.KID), "send a change with the right key at once: logins fail")
		}
	}
	for _, k := range published.Keys {
		if slices.ContainsFunc(r.Keys, func(p PublicKey) bool { return p.KID == k.KID }) {
			continue
		}
		if own.holds(k) {
			add(Warning, "FM-KEY", "jwks", fmt.Sprintf("key %q is published and is yours, but does not stand in the form that was registered last", k.KID), "send a change that names it, or one without it where it signs no more")
			continue
		}
		add(Error, "FM-KEY", "jwks", fmt.Sprintf("key %q is published for the service, and you neither registered nor made it: whoever holds it can speak as the service", k.KID),
			"ask the office at once who registered it ("+Office+"), and have it taken out")
	}
	if live != nil {
		if _, ok := keyByID(published.Keys, live.KID); !ok {
			add(Error, "FM-KEY", "jwks", fmt.Sprintf("the service signs with %q, which the Federation Master does not know: every login fails", live.KID), "sign with the former key again, and send a change")
		}
	}
	rp := published.relyingParty()
	for _, v := range masterValues {
		if _, ok := rp[v.Name]; !ok {
			continue // not every Master publishes all of it
		}
		there, here := v.Values(rp), v.XML(r)
		for _, x := range here {
			if !slices.Contains(there, x) {
				add(Error, v.Code, v.Field, fmt.Sprintf("%q was registered and is not published: %s", x, v.Effect), "ask the office whether the last change is in force")
			}
		}
		for _, x := range there {
			if !slices.Contains(here, x) {
				add(Warning, v.Code, v.Field, fmt.Sprintf("%q is published and was not registered by the last form", x), "ask the office whether the last change is in force")
			}
		}
	}
	return found
}

// watch warns of the times of the signing keys.
func (k *Keys) watch(now time.Time) (found Findings) {
	add := func(sev Severity, kid, what, fix string) {
		found = append(found, Finding{Code: "ES-KEY-ALTER", Severity: sev, Field: kid, What: what, Fix: fix})
	}
	current, err := k.Current(now)
	if err != nil {
		add(Error, "", "no key may sign any more", "make a key with `adv-server federation keys new` and send a change")
		return found
	}
	for _, s := range k.list {
		if s.Created.After(now.Add(leeway)) {
			add(Warning, s.Public.KID, "the key was made in the future, "+stamp(s.Created), "set the clocks; make another one with `adv-server federation keys new`, for this one would be used too long")
		}
	}
	left := current.Ends().Sub(now)
	if left >= RotateBefore {
		return found
	}
	sev, days := Warning, int(left/(24*time.Hour))
	if left < rotateUrgent {
		sev = Error
	}
	alive := k.Published(now)
	switch next := alive[len(alive)-1]; {
	case next.Public.KID == current.Public.KID:
		add(sev, current.Public.KID, fmt.Sprintf("the signing key ends in %d days, there is no successor", days), "make one with `adv-server federation keys new` and send a change")
	case next.Deposited.IsZero():
		add(sev, current.Public.KID, fmt.Sprintf("the signing key ends in %d days, its successor %s is not yet known to the Federation Master", days, next.Public.KID), "send a change if that was not done, and ask the office")
	}
	return found
}

// ParseMasterKeys reads the pinned keys: a JSON Web Key Set, or an Entity Statement of the Federation Master that came from
// a trusted source.
func ParseMasterKeys(b []byte) ([]jwk, error) {
	if len(b) > MaxStatement {
		return nil, fmt.Errorf("keys of the Federation Master: longer than %d octets", MaxStatement)
	}
	b = bytes.TrimSpace(b)
	var keys []jwk
	if bytes.HasPrefix(b, []byte("{")) {
		set, err := parseObject(b)
		if err == nil {
			keys, err = parseKeys(set)
		}
		if err != nil {
			return nil, fmt.Errorf("keys of the Federation Master: %w", err)
		}
	} else {
		s, found := ParseStatement(b, "")
		if s == nil {
			return nil, fmt.Errorf("keys of the Federation Master: %s", found[0].What)
		}
		keys = s.Keys
	}
	for _, k := range keys {
		if _, err := k.public(); err != nil {
			return nil, fmt.Errorf("keys of the Federation Master: %q: %w", k.KID, err)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("keys of the Federation Master: none")
	}
	return keys, nil
}
