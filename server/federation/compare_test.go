package federation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"ktradv/internal/req"
)

// pairOf is a form and a statement that agree.
func pairOf(t *testing.T) (*Registration, *Statement, *Statement) {
	t.Helper()
	var keys [2]jwk
	var public [2]PublicKey
	for i, kid := range []string{"k1", "k2"} {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if keys[i], err = publicJWK(&k.PublicKey, kid); err != nil {
			t.Fatal(err)
		}
		public[i] = PublicKey{KID: kid, Key: &k.PublicKey}
	}
	const address = "https://adv.kasse.example"
	r := &Registration{Type: ParticipantType, Environment: TU, ContactEmail: "adv@kasse.example", Group: "ORG-1234:BT-5678", MemberID: "FDkasse0001TU", OrganisationName: "Kasse", ServiceName: "AdV",
		ServiceURI: address, Scopes: []string{"openid", "urn:telematik:email"}, Claims: []string{"birthdate"}, RedirectURIs: []string{address + "/a", address + "/b"}, Keys: public[:], lines: map[string]int{}}
	type m = map[string]any
	s := &Statement{KID: "k1", Issuer: address, Subject: address, Hints: []string{TU.Master()}, Keys: keys[:], claims: m{"metadata": m{
		"federation_entity": m{"name": "AdV"},
		"openid_relying_party": m{"organization_name": "Kasse", "client_name": "AdV", "scope": "urn:telematik:email openid", "claims": []any{"birthdate"},
			"redirect_uris": []any{address + "/b", address + "/a"}},
	}}}
	master := &Statement{Issuer: TU.Master(), Subject: address, Keys: slices.Clone(keys[:]), claims: m{"metadata": m{"openid_relying_party": m{
		"scope": "openid urn:telematik:email", "claims": []any{"birthdate"}, "redirect_uris": []any{address + "/a", address + "/b"}}}}}
	return r, s, master
}

// TestCompareFaults breaks one agreement at a time between form, statement and what the Federation Master publishes.
func TestCompareFaults(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-12", "FED-13", "FED-14", "FED-17", "FED-19", "FED-21", "FED-22", "FED-23", "FED-24", "FED-27")
	foreign := func(kid string) jwk {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		j, err := publicJWK(&k.PublicKey, kid)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	for name, c := range map[string]struct {
		change func(r *Registration, s, master *Statement)
		errors string // of form and statement, and of the Federation Master
		odd    string // warnings
	}{
		"agreement":       {func(*Registration, *Statement, *Statement) {}, "", ""},
		"organisation":    {func(_ *Registration, s, _ *Statement) { s.relyingParty()["organization_name"] = "kasse" }, "ES-ORG-UNGLEICH", ""},
		"no organisation": {func(_ *Registration, s, _ *Statement) { delete(s.relyingParty(), "organization_name") }, "ES-ORG-FEHLT", ""},
		"no name":         {func(_ *Registration, s, _ *Statement) { delete(s.entity(), "name") }, "ES-NAME-FEHLT", ""},
		"client_name":     {func(_ *Registration, s, _ *Statement) { s.relyingParty()["client_name"] = "AdV " }, "ES-NAME-UNGLEICH", ""},
		"three names":     {func(_ *Registration, s, _ *Statement) { s.relyingParty()["client_name"], s.entity()["name"] = "B", "C" }, "ES-NAME-UNGLEICH", ""},
		"slash":           {func(_ *Registration, s, _ *Statement) { s.Issuer += "/"; s.Subject += "/" }, "ES-ISS-UNGLEICH ES-SUB-UNGLEICH", ""},
		"sub only":        {func(_ *Registration, s, _ *Statement) { s.Subject = "https://other.example" }, "ES-SUB-UNGLEICH", ""},
		"environment":     {func(r *Registration, _, _ *Statement) { r.Environment = PU }, "ES-ENV", ""},
		"scope lacks":     {func(_ *Registration, s, _ *Statement) { s.relyingParty()["scope"] = "openid" }, "ES-SCOPE-FEHLT", ""},
		"scope more": {func(_ *Registration, s, _ *Statement) {
			s.relyingParty()["scope"] = "openid urn:telematik:email urn:telematik:alter"
		}, "ES-SCOPE-MEHR", ""},
		"claims": {func(_ *Registration, s, _ *Statement) { delete(s.relyingParty(), "claims") }, "ES-CLAIM-UNGLEICH", ""},
		"redirect lacks": {func(_ *Registration, s, _ *Statement) {
			s.relyingParty()["redirect_uris"] = []any{"https://adv.kasse.example/a"}
		}, "ES-REDIRECT-FEHLT", ""},
		"other key":          {func(r *Registration, _, _ *Statement) { r.Keys[0].Key, r.Keys[1].Key = r.Keys[1].Key, r.Keys[0].Key }, "ES-KEY-UNGLEICH FM-KEY", ""},
		"kid unknown":        {func(r *Registration, _, _ *Statement) { r.Keys[1].KID = "k3" }, "ES-KID-FEHLT", "ES-KID-MEHR FM-KEY"},
		"signer not in form": {func(r *Registration, _, _ *Statement) { r.Keys = r.Keys[1:] }, "ES-KID-HEADER", "FM-KEY"}, // ours, and published
		"foreign key":        {func(_ *Registration, _, m *Statement) { m.Keys = append(m.Keys, foreign("k9")) }, "FM-KEY", ""},
		"foreign key, our name": {func(r *Registration, s, m *Statement) {
			r.Keys, s.Keys = r.Keys[:1], s.Keys[:1]
			m.Keys[1] = foreign("k2") // the name of an own key that is not in the form
		}, "FM-KEY", ""},
		"own key, other name":  {func(_ *Registration, _, m *Statement) { k := m.Keys[1]; k.KID = "k9"; m.Keys = append(m.Keys, k) }, "FM-KEY", ""},
		"own key, not in form": {func(r *Registration, s, _ *Statement) { r.Keys, s.Keys = r.Keys[:1], s.Keys[:1] }, "", "FM-KEY"},
		"signer not known":     {func(_ *Registration, _, m *Statement) { m.Keys = m.Keys[1:] }, "FM-KEY", "FM-KEY"},
		"successor not yet":    {func(_ *Registration, _, m *Statement) { m.Keys = m.Keys[:1] }, "", "FM-KEY"},
		"master, scope":        {func(_ *Registration, _, m *Statement) { m.relyingParty()["scope"] = "openid" }, "FM-SCOPE", ""},
		"master, scope more": {func(_ *Registration, _, m *Statement) {
			m.relyingParty()["scope"] = "openid urn:telematik:email urn:telematik:alter"
		}, "", "FM-SCOPE"},
		"master, claims":    {func(_ *Registration, _, m *Statement) { m.relyingParty()["claims"] = []any{} }, "FM-CLAIM", ""},
		"master, redirects": {func(_ *Registration, _, m *Statement) { m.relyingParty()["redirect_uris"] = []any{} }, "FM-REDIRECT", ""},
		"master says less":  {func(_ *Registration, _, m *Statement) { m.claims = map[string]any{} }, "", ""},
	} {
		r, s, m := pairOf(t)
		own := &Keys{list: []SigningKey{{Public: s.Keys[0]}, {Public: s.Keys[1]}}}
		c.change(r, s, m)
		found := append(Compare(r, s), compareMaster(r, s, m, own)...)
		same(t, name, codes(found, Error), c.errors)
		var odd Findings
		for _, f := range found {
			if f.Severity == Warning {
				odd = append(odd, f)
			}
			if f.Fix == "" {
				t.Errorf("%s: %v says not what to do", name, f)
			}
		}
		same(t, name+", warnings", codes(odd, Warning), c.odd)
	}
	// A difference in a slash is hard to see: it is said.
	r, s, _ := pairOf(t)
	s.Issuer += "/"
	if found := Compare(r, s); !strings.Contains(found[0].What, "slash") {
		t.Error(found)
	}
}

// TestDifferences: a change is told, also one of a key under its old name; a live service of another configuration is seen.
func TestDifferences(t *testing.T) {
	t.Parallel()
	before, s, _ := pairOf(t)
	after, _, _ := pairOf(t)
	after.ServiceName, after.Scopes = "AdV 2", []string{"openid"}
	got := strings.Join(Differences(before, after), "|")
	if want := `fachdienstname: "AdV" becomes "AdV 2"|scopes: without "urn:telematik:email"|publickeysjwt: another key under "k1"|publickeysjwt: another key under "k2"`; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if d := Differences(before, before); len(d) != 0 {
		t.Error(d)
	}
	c := Config{Environment: TU, Service: s.Issuer, OrganisationName: "Kasse", ServiceName: "AdV", Scopes: before.Scopes, Claims: before.Claims, RedirectURIs: before.RedirectURIs,
		ContactEmail: before.ContactEmail, Group: before.Group, MemberID: before.MemberID}
	if found := c.Disagreements(FromStatement(c, s)); len(found) != 0 {
		t.Error(found)
	}
	c.ServiceName = "Other"
	if found := c.Disagreements(FromStatement(c, s)); !found.Has("ES-KONFIGURATION") {
		t.Error("another service answers, and nobody says so")
	}
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	s := &Statement{IssuedAt: t0, Expires: t0.Add(24 * time.Hour)}
	for after, want := range map[time.Duration]bool{0: false, 21 * time.Hour: false, 22 * time.Hour: true, 24 * time.Hour: false} { // then it has expired, which is another finding
		if got := renewal(s, "x", t0.Add(after)).Has("ES-ENDE"); got != want {
			t.Errorf("after %s: %v", after, got)
		}
	}
}

// TestMoreFormFaults are those that need a key or an address of their own.
func TestMoreFormFaults(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-15", "FED-22", "FED-24")
	good := goodForm(t)
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	_, pair, _ := strings.Cut(good, "<publickeysjwt>")
	pair, _, _ = strings.Cut(pair, "</publickeysjwt>")
	const address = "https://adv.kasse.example<"
	for name, c := range map[string]struct {
		old, new string
		code     Code
	}{
		"P-384":     {publicBody(good), base64.StdEncoding.EncodeToString(der), "REG-KEY-KURVE"},
		"kid twice": {pair, pair + pair, "REG-KID-DOPPELT"},
		"no key":    {pair, "", "REG-KEY-LEER"},
		"query":     {address, "https://adv.kasse.example?<", "REG-URI-QUERY"},
		"fragment":  {address, "https://adv.kasse.example#<", "REG-URI-FRAGMENT"},
		"port":      {address, "https://adv.kasse.example:0<", "REG-URI-PORT"},
	} {
		if _, found := ParseXML([]byte(strings.Replace(good, c.old, c.new, 1)), XMLOptions{}); !found.Has(c.code) || found.Worst() != Error {
			t.Errorf("%s: no %s in %v", name, c.code, found)
		}
	}
}
