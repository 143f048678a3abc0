package federation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"ktradv/internal/req"
)

// goodForm is a form without a fault.
func goodForm(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	err = WriteXML(&b, &Registration{
		Type: ParticipantType, Environment: TU, ContactEmail: "adv@kasse.example", Group: "ORG-1234:BT-5678", MemberID: "FDkasse0001TU",
		OrganisationName: "Kasse & Söhne", ServiceName: "AdV Kasse", ServiceURI: "https://adv.kasse.example", Scopes: []string{"openid"},
		RedirectURIs: []string{"https://adv.kasse.example/cb"}, Keys: []PublicKey{{KID: "01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e", Key: &key.PublicKey}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestFormFaults breaks one thing at a time: the finding names it, and the unbroken form has none.
func TestFormFaults(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-04", "FED-05", "FED-06", "FED-08", "FED-09", "FED-10", "FED-11", "FED-17", "FED-19", "FED-20", "FED-22", "FED-28")
	good := goodForm(t)
	r, found := ParseXML([]byte(good), XMLOptions{Kind: Other, FileName: "FDkasse0001TU.xml"})
	if r == nil || len(found) != 0 || r.OrganisationName != "Kasse & Söhne" {
		t.Fatalf("the good form: %v", found)
	}
	list := strings.Repeat("<claims>", 20) + strings.Repeat("</claims>", 20)
	for name, c := range map[string]struct {
		old, new string
		opts     XMLOptions
		code     Code
	}{
		"type":                {"Fachdienst<", "IDP<", XMLOptions{}, "REG-TYP"},
		"environment":         {">TU<", ">tu<", XMLOptions{}, "REG-ENV"},
		"PU without TU":       {">TU<", ">PU<", XMLOptions{}, "REG-TU-ZUERST"},
		"PU without VFS":      {">TU<", ">PU<", XMLOptions{}, "REG-VFS-FEHLT"},
		"VFS":                 {"<vfsbestaetigung/>", "<vfsbestaetigung>vfs_1</vfsbestaetigung>", XMLOptions{}, "REG-VFS-FORM"},
		"mail missing":        {"adv@kasse.example", "", XMLOptions{}, "REG-MAIL-LEER"},
		"mail with name":      {"adv@kasse.example", "AdV &lt;adv@kasse.example&gt;", XMLOptions{}, "REG-MAIL-FORM"},
		"group":               {"ORG-1234", "ORG-12", XMLOptions{}, "REG-ZWG-FORM"},
		"old group":           {"ORG-1234:BT-5678", oldGroup, XMLOptions{}, "REG-ZWG-ALT"},
		"group of a DiGA":     {"ORG-1234:BT-5678", DiGAGroup, XMLOptions{Kind: Other}, "REG-ZWG-DIGA"},
		"DiGA, other group":   {"AdV Kasse", "DiGA Kasse", XMLOptions{Kind: DiGA}, "REG-ZWG-DIGA"},
		"member missing":      {"FDkasse0001TU", "", XMLOptions{}, "REG-MEMBER-LEER"},
		"member, other env":   {"FDkasse0001TU", "FDkasse0001RU", XMLOptions{}, "REG-MEMBER-ENV"},
		"member, path":        {"FDkasse0001TU", "../x", XMLOptions{}, "REG-MEMBER-FORM"},
		"file name":           {"AdV Kasse", "AdV Kasse 2", XMLOptions{FileName: "form.xml"}, "REG-MEMBER-DATEI"},
		"change, other id":    {"AdV Kasse", "AdV Kasse 2", XMLOptions{Purpose: Change, Registered: &Registration{MemberID: "FDother"}}, "REG-MEMBER-ANDERS"},
		"name empty":          {"AdV Kasse", "", XMLOptions{}, "REG-NAME-LEER"},
		"name with comma":     {"AdV Kasse", "AdV, Kasse", XMLOptions{}, "REG-NAME-ZEICHEN"},
		"name too long":       {"AdV Kasse", strings.Repeat("Ä", 129), XMLOptions{}, "REG-NAME-LANG"},
		"address":             {"https://adv.kasse.example<", "https://adv_kasse.example<", XMLOptions{}, "REG-URI-HOST"},
		"address with blank":  {"https://adv.kasse.example<", "https://adv.kasse.example <", XMLOptions{}, "REG-URI-FORM"},
		"no openid":           {"<scope>openid", "<scope>urn:telematik:email", XMLOptions{}, "REG-SCOPE-OPENID"},
		"unknown scope":       {"<scope>openid", "<scope>profile", XMLOptions{}, "REG-SCOPE-UNBEKANNT"},
		"scope twice":         {"<scope>openid</scope>", "<scope>openid</scope><scope>openid</scope>", XMLOptions{}, "REG-DOPPELT"},
		"both styles":         {"<scope>openid</scope>\n  </scopes>\n  <claims/>", "<scope>openid</scope><scope>urn:telematik:email</scope></scopes><claims><claim>birthdate</claim></claims>", XMLOptions{}, "REG-STIL"},
		"unknown claim":       {"<claims/>", "<claims><claim>shoe_size</claim></claims>", XMLOptions{}, "REG-CLAIM-UNBEKANNT"},
		"empty claim":         {"<claims/>", "<claims><claim/></claims>", XMLOptions{}, "REG-CLAIM-LEER"},
		"redirect with query": {"/cb<", "/cb?a=b<", XMLOptions{}, "REG-REDIRECT-FORM"},
		"redirect, http":      {"https://adv.kasse.example/cb", "http://adv.kasse.example/cb", XMLOptions{}, "REG-REDIRECT-FORM"},
		"no redirect":         {"<redirect_uri>https://adv.kasse.example/cb</redirect_uri>", "", XMLOptions{}, "REG-REDIRECT-LEER"},
		"kid empty":           {"<kid>01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e</kid>", "<kid/>", XMLOptions{}, "REG-KID-LEER"},
		"private key":         {"BEGIN PUBLIC KEY", "BEGIN PRIVATE KEY", XMLOptions{}, "REG-KEY-PRIVAT"},
		"damaged key":         {pemBegin + pemBreak + "M", pemBegin + pemBreak + "N", XMLOptions{}, "REG-KEY-PEM"},
		"half a key":          {"-----END PUBLIC KEY-----", "", XMLOptions{}, "REG-KEY-PEM"},
		"unknown element":     {"<claims/>", "<claims/><extra/>", XMLOptions{}, "REG-ELEMENT"},
		"element twice":       {"<claims/>", "<claims/><claims/>", XMLOptions{}, "REG-ELEMENT"},
		"misplaced":           {"<claims/>", "<memberid>x</memberid>", XMLOptions{}, "REG-ELEMENT"},
		"element missing":     {"  <claims/>\n", "", XMLOptions{}, "REG-FELD-FEHLT"},
		"attribute":           {"<claims/>", `<claims a="b"/>`, XMLOptions{}, "REG-ELEMENT"},
		"namespace":           {"<registrierungtifoederation>", `<registrierungtifoederation xmlns="urn:x">`, XMLOptions{}, "REG-ELEMENT"},
		"elements in text":    {"AdV Kasse", "AdV <b>Kasse</b>", XMLOptions{}, "REG-ELEMENT"},
		"text in list":        {"<claims/>", "<claims>birthdate</claims>", XMLOptions{}, "REG-ELEMENT"},
		"other root":          {"registrierungtifoederation>", "anmeldung>", XMLOptions{}, "REG-ELEMENT"},
		"white space":         {"AdV Kasse", " AdV Kasse", XMLOptions{}, "REG-LEERRAUM"},
		"white space in list": {"<scope>openid</scope>", "<scope>openid </scope>", XMLOptions{}, "REG-LEERRAUM"},
		"white space in kid":  {"<kid>01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e</kid>", "<kid>\nk1</kid>", XMLOptions{}, "REG-LEERRAUM"},
		"elements in scope":   {"<scope>openid</scope>", "<scope>openid<b/></scope>", XMLOptions{}, "REG-ELEMENT"},
		"elements in kid":     {"<kid>01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e</kid>", "<kid>01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e<b/></kid>", XMLOptions{}, "REG-ELEMENT"},
		"elements in key":     {"<key>", "<key><b/>", XMLOptions{}, "REG-ELEMENT"},
		"text in publickey":   {"<kid>01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e</kid>", "01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e<kid>01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e</kid>", XMLOptions{}, "REG-ELEMENT"},
		"redirect, port":      {"kasse.example/cb", "kasse.example:99999/cb", XMLOptions{}, "REG-REDIRECT-FORM"},
		"redirect, fragment":  {"/cb<", "/cb#<", XMLOptions{}, "REG-REDIRECT-FORM"},
		"redirect, user":      {"https://adv.kasse.example/cb", "https://me@adv.kasse.example/cb", XMLOptions{}, "REG-REDIRECT-FORM"},
		"well-known inside":   {"https://adv.kasse.example<", "https://adv.kasse.example" + WellKnown + "/x<", XMLOptions{}, "REG-URI-WELLKNOWN"},
		"DiGA, old group":     {"ORG-1234:BT-5678", oldGroup, XMLOptions{Kind: DiGA}, "REG-ZWG-DIGA"},
		"private JWK":         {"-----BEGIN PUBLIC KEY-----", `{"kty":"EC", "d" : "AAAA"}`, XMLOptions{}, "REG-KEY-PRIVAT"},
		"private as public":   {publicBody(good), privatePEM(t), XMLOptions{}, "REG-KEY-PRIVAT"},
		"private in kid":      {"<kid>01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e</kid>", "<kid>" + privatePEM(t) + "</kid>", XMLOptions{}, "REG-KEY-PRIVAT"},
		"private in a name":   {"AdV Kasse", "\n " + privatePEM(t)[:64] + "\n " + privatePEM(t)[64:], XMLOptions{}, "REG-KEY-PRIVAT"},
		"private, with words": {pemBegin, "my key:" + pemBegin + privatePEM(t) + pemEnd + "and " + pemBegin, XMLOptions{}, "REG-KEY-PRIVAT"},
		"private, other mark": {pemBegin, "-----BEGIN CERTIFICATE-----" + privatePEM(t) + "-----END CERTIFICATE-----" + pemBegin, XMLOptions{}, "REG-KEY-PRIVAT"},
		"private in the mail": {"adv@kasse.example", strings.ReplaceAll(privatePEM(t), "+", "-"), XMLOptions{}, "REG-KEY-PRIVAT"},
		"kid, no UUID":        {"01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e", "puk_fd_sig", XMLOptions{}, "REG-KID-FORM"},
		"kid, UUID of v4":     {"01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e", "c0ffee00-0000-4000-8000-000000000000", XMLOptions{}, "REG-KID-FORM"},
		"private as entity":   {"-----BEGIN PUBLIC KEY-----", "-----BEGIN PRIVATE&#32;KEY-----", XMLOptions{}, "REG-KEY-PRIVAT"},
		"private elsewhere":   {"<kid>01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e</kid>", "<kid>-----BEGIN EC PRIVATE KEY-----secret</kid>", XMLOptions{}, "REG-KEY-PRIVAT"},
		"no declaration":      {`<?xml version="1.0" encoding="UTF-8"?>` + "\n", "", XMLOptions{}, "REG-XML"},
		"late declaration":    {"<?xml ", "\n<?xml ", XMLOptions{}, "REG-XML"},
		"instruction":         {"<claims/>", "<?php x?><claims/>", XMLOptions{}, "REG-XML"},
		"text before":         {"<registrierungtifoederation>", "x<registrierungtifoederation>", XMLOptions{}, "REG-XML"},
		"text after":          {"</registrierungtifoederation>", "</registrierungtifoederation>x", XMLOptions{}, "REG-XML"},
		"DOCTYPE":             {"<registrierungtifoederation>", "<!DOCTYPE registrierungtifoederation><registrierungtifoederation>", XMLOptions{}, "REG-XML"},
		"external entity":     {"<registrierungtifoederation>", `<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><registrierungtifoederation>`, XMLOptions{}, "REG-XML"},
		"entity":              {"AdV Kasse", "AdV &x; Kasse", XMLOptions{}, "REG-XML"},
		"encoding":            {`encoding="UTF-8"`, `encoding="ISO-8859-1"`, XMLOptions{}, "REG-XML"},
		"not UTF-8":           {"Söhne", "S\xf6hne", XMLOptions{}, "REG-XML"},
		"nested":              {"<claims/>", list, XMLOptions{}, "REG-XML"},
		"many":                {"<claims/>", "<claims>" + strings.Repeat("<claim>birthdate</claim>", maxNodes) + "</claims>", XMLOptions{}, "REG-XML"},
		"long":                {"AdV Kasse", strings.Repeat("A", MaxXML), XMLOptions{}, "REG-XML"},
		"unclosed":            {"</registrierungtifoederation>", "", XMLOptions{}, "REG-XML"},
		"two roots":           {"</registrierungtifoederation>", "</registrierungtifoederation><registrierungtifoederation/>", XMLOptions{}, "REG-XML"},
	} {
		if !strings.Contains(good, c.old) {
			t.Fatalf("%s: %q does not stand in the form", name, c.old)
		}
		_, found := ParseXML([]byte(strings.ReplaceAll(good, c.old, c.new)), c.opts)
		if !found.Has(c.code) {
			t.Errorf("%s: no %s in %v", name, c.code, found)
		}
		for _, f := range found {
			if f.Fix == "" || f.Line == 0 && name != "long" || c.code == "REG-KEY-PRIVAT" && (len(found) != 1 || strings.Contains(f.What, "MFkw") || strings.Contains(f.What, "MIG") || strings.Contains(f.What, "secret")) {
				t.Errorf("%s: %#v", name, f)
			}
		}
	}
}

// TestFileName: the office wants the Member-ID as the name of what is sent (FED-25). That is wrong for what goes out under another
// name, and odd for a file that only lies somewhere.
func TestFileName(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-25")
	var taken bytes.Buffer
	if err := WriteXML(&taken, &Registration{Deregister: true, Environment: TU, MemberID: "FDkasse0001TU", ServiceURI: "https://adv.kasse.example", Reason: ReasonUnused}); err != nil {
		t.Fatal(err)
	}
	for form, doc := range map[string]string{"registration": goodForm(t), "deregistration": taken.String()} {
		for _, c := range []struct {
			name string
			sent bool
			want Severity // Info: nothing is found
		}{{"FDkasse0001TU.xml", false, Info}, {"FDkasse0001TU.xml", true, Info}, {"", true, Info}, {"form.xml", false, Warning}, {"form.xml", true, Error}, {"fdkasse0001tu.xml", true, Error}, {"FDkasse0001TU.XML", true, Error}, {"FDkasse0001TU", true, Error}} {
			_, found := ParseXML([]byte(doc), XMLOptions{FileName: c.name, Sent: c.sent})
			if found.Worst() != c.want || found.Has("REG-MEMBER-DATEI") != (c.want != Info) {
				t.Errorf("%s as %q, sent %v: %v", form, c.name, c.sent, found)
			}
		}
	}
}

// publicBody is the base64 of the key in a form.
func publicBody(form string) string {
	_, form, _ = strings.Cut(form, pemBegin)
	body, _, _ := strings.Cut(form, pemEnd)
	return body
}

// privateDER is a private key as it stands in a file of its own.
func privateDER(t testing.TB) string {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(privatePEM(t))
	if err != nil {
		t.Fatal(err)
	}
	return string(der)
}

// privatePEM is the base64 of a private key, which somebody could have put between the marks of a public one.
func privatePEM(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// TestFormGoesOn: what does not belong into a form does not hide what else is wrong with it.
func TestFormGoesOn(t *testing.T) {
	t.Parallel()
	good := strings.Replace(goodForm(t), ">TU<", ">tu<", 1)
	for name, c := range map[string]struct {
		old, new string
		want     int // findings besides those about the environment
	}{
		"schema":    {"<registrierungtifoederation>", `<registrierungtifoederation xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="RP_register.xsd">`, 1},
		"namespace": {"<registrierungtifoederation>", `<registrierungtifoederation xmlns="urn:x">`, 1}, // said once, not of every element in it
		"attribute": {"<claims/>", `<claims id="1"/>`, 1},
		"two":       {"<claims/>", "<claims id=\"1\"/>\n<?php x?>", 2},
		"prefix":    {"<claims/>", `<x:claims xmlns:x="urn:x"/>`, 1},
	} {
		r, found := ParseXML([]byte(strings.Replace(good, c.old, c.new, 1)), XMLOptions{Source: "form"})
		if r == nil || !found.Has("REG-ENV") || len(found) != c.want+2 {
			t.Errorf("%s: %v", name, found)
		}
		for _, f := range found {
			if f.Line == 0 || f.Source != "form" || f.Severity != Error && f.Code != "REG-MEMBER-ENV" {
				t.Errorf("%s: %#v", name, f)
			}
		}
	}
	// A document type ends it: what it names could be drawn in.
	if r, found := ParseXML([]byte(strings.Replace(good, "<registrierungtifoederation>", "<!DOCTYPE r><registrierungtifoederation>", 1)), XMLOptions{}); r != nil || len(found) != 1 {
		t.Error(found)
	}
}

// TestOneLinePEM: the form has the key as the office's template prints it.
func TestOneLinePEM(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-24")
	_, key, _ := strings.Cut(goodForm(t), "<key>")
	key, _, _ = strings.Cut(key, "</key>")
	if lines := strings.Split(key, pemBreak); strings.Contains(key, "\n") || len(lines) != 4 || lines[0] != pemBegin || len(lines[1]) != 64 || lines[3] != pemEnd {
		t.Errorf("%q", key)
	}
	// It is, character by character, what stands in the sample that was made by somebody else.
	sample := read(t, "xml/pair-idpfadi-oneline-pem.xml")
	r, found := ParseXML(sample, XMLOptions{})
	if found.Worst() == Error {
		t.Fatal(found)
	}
	text, err := publicPEM(r.Keys[0].Key)
	if err != nil || !bytes.Contains(sample, []byte("<key>"+text+"</key>")) {
		t.Errorf("%q %v", text, err)
	}
}

// TestFormLines: a finding about one value of a list stands at the line of the value.
func TestFormLines(t *testing.T) {
	t.Parallel()
	good := goodForm(t)
	old := "<redirect_uri>https://adv.kasse.example/cb</redirect_uri>"
	form := strings.Replace(good, old, old+"\n    <redirect_uri>http://b</redirect_uri>", 1)
	want := 1 + strings.Count(form[:strings.Index(form, "http://b<")], "\n")
	r, found := ParseXML([]byte(form), XMLOptions{})
	if len(found) != 1 || found[0].Line != want {
		t.Errorf("line %d is wanted: %v", want, found)
	}
	s := &Statement{claims: map[string]any{"metadata": map[string]any{"openid_relying_party": map[string]any{"redirect_uris": []any{"https://adv.kasse.example/cb"}}}}}
	for _, f := range Compare(r, s) {
		if f.Code == "ES-REDIRECT-FEHLT" && f.Line != want {
			t.Errorf("line %d is wanted: %v", want, f)
		}
	}
	// Other encodings are named, not guessed.
	wide := []byte{0xff, 0xfe}
	for _, c := range []byte(strings.ReplaceAll(good, "ö", "o")) {
		wide = append(wide, c, 0)
	}
	latin := strings.Replace(good, "ö", "\xf6", 1)
	for _, b := range [][]byte{wide, []byte(latin)} {
		r, found := ParseXML(b, XMLOptions{})
		if r != nil || !IsXML(b) || len(found) != 1 || !strings.Contains(found[0].What, "UTF-8") || found[0].Line != 1+strings.Count(string(b[:max(0, strings.Index(string(b), "\xf6"))]), "\n") {
			t.Errorf("%.10q: %v", b, found)
		}
	}
	// A byte order mark is no text.
	if r, found := ParseXML([]byte("\ufeff"+good), XMLOptions{}); r == nil || len(found) != 0 {
		t.Errorf("with a byte order mark: %v", found)
	}
}

// signStatement makes a statement with a header and claims as they come.
func signStatement(t testing.TB, key *ecdsa.PrivateKey, kid string, claims map[string]any) string {
	t.Helper()
	b, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sign(key, kid, b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// selfSigned is x5c with a certificate of a key, valid at t0.
func selfSigned(t testing.TB, by *ecdsa.PrivateKey, end time.Time) []string {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: t0.Add(-time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &by.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return []string{base64.StdEncoding.EncodeToString(der)}
}

// TestStatementFaults breaks one thing at a time.
func TestStatementFaults(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-01")
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := publicJWK(key.Public(), "01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e")
	if err != nil {
		t.Fatal(err)
	}
	enc, tls := pub, pub
	enc.Use = "enc"
	certificate := func(by *ecdsa.PrivateKey, end time.Time) []string { return selfSigned(t, by, end) }
	tls.X5C = certificate(key, now.Add(MaxKeyAge))
	type m = map[string]any
	x5c := func(v ...string) m { k := tls; k.X5C = v; return m{"keys": []jwk{enc, k}} }
	renamed := func(k jwk, from, to string) m {
		b, err := json.Marshal(k)
		var v m
		if err := errors.Join(err, json.Unmarshal(b, &v)); err != nil {
			t.Fatal(err)
		}
		if from != "" {
			v[to] = v[from]
			delete(v, from)
		}
		return v
	}
	private := func() m {
		b, err := json.Marshal(jose.JSONWebKey{Key: key, KeyID: "01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e", Use: "sig", Algorithm: "ES256"})
		var v m
		if err := errors.Join(err, json.Unmarshal(b, &v)); err != nil {
			t.Fatal(err)
		}
		return v
	}
	base := func() m {
		return m{"iss": "https://adv.kasse.example", "sub": "https://adv.kasse.example", "iat": now.Unix(), "exp": now.Add(MaxLifetime).Unix(),
			"jwks": m{"keys": []jwk{pub}}, "authority_hints": []string{TU.Master()},
			"metadata": m{"federation_entity": m{"name": "AdV Kasse"}, "openid_relying_party": m{
				"organization_name": "Kasse", "client_name": "AdV Kasse", "redirect_uris": []string{"https://adv.kasse.example/cb"}, "response_types": []string{"code"},
				"client_registration_types": []string{"automatic"}, "grant_types": []string{"authorization_code"}, "require_pushed_authorization_requests": true,
				"token_endpoint_auth_method": "self_signed_tls_client_auth", "default_acr_values": []string{"gematik-ehealth-loa-high"},
				"id_token_signed_response_alg": "ES256", "id_token_encrypted_response_alg": "ECDH-ES", "id_token_encrypted_response_enc": "A256GCM",
				"scope": "openid", "jwks": m{"keys": []jwk{enc, tls}},
				"ti_features_supported": m{"id_token_version_supported": []string{"1.0.0"}}}}}
	}
	// All others are errors.
	odd := map[string]Severity{"certificate ends": Warning, "no versions": Info, "keys elsewhere": Warning, "kid, no UUID": Info}
	rp := func(c m) m { return c["metadata"].(m)["openid_relying_party"].(m) }
	judge := func(token string, o StatementOptions) Findings {
		s, found := ParseStatement([]byte(token), "")
		if s == nil {
			return found
		}
		if o.Now.IsZero() {
			o.Now = now
		}
		return append(found, CheckStatement(s, o)...)
	}
	good := signStatement(t, key, "01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e", base())
	if found := judge(good, StatementOptions{URL: "https://adv.kasse.example" + WellKnown}); len(found) != 0 {
		t.Fatalf("the good statement: %v", found)
	}
	for name, c := range map[string]struct {
		change func(c m)
		code   Code
	}{
		"iss and sub":       {func(c m) { c["sub"] = "https://other.example" }, "ES-ISS-SUB"},
		"iss missing":       {func(c m) { delete(c, "iss") }, "ES-CLAIM-FEHLT"},
		"future":            {func(c m) { c["iat"] = now.Add(2 * time.Minute).Unix() }, "ES-IAT"},
		"expired":           {func(c m) { c["iat"], c["exp"] = now.Add(-2*time.Hour).Unix(), now.Unix() }, "ES-EXP"},
		"24 h and a second": {func(c m) { c["exp"] = now.Add(MaxLifetime + time.Second).Unix() }, "ES-DAUER"},
		"exp before iat":    {func(c m) { c["iat"], c["exp"] = now.Add(time.Minute).Unix(), now.Add(time.Second).Unix() }, "ES-DAUER"},
		"exp a text":        {func(c m) { c["exp"] = "tomorrow" }, "ES-CLAIM-FEHLT"},
		"no keys":           {func(c m) { c["jwks"] = m{"keys": []jwk{}} }, "ES-JWKS"},
		"key set a list":    {func(c m) { c["jwks"] = []int{1} }, "ES-JWKS"},
		"kid not published": {func(c m) { k := pub; k.KID = "k2"; c["jwks"] = m{"keys": []jwk{k}} }, "ES-KID-HEADER"},
		"kid twice": {func(c m) {
			k, _ := publicJWK(other.Public(), "01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e")
			c["jwks"] = m{"keys": []jwk{pub, k}}
		}, "ES-JWKS"},
		"other key": {func(c m) {
			k, _ := publicJWK(other.Public(), "01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e")
			c["jwks"] = m{"keys": []jwk{k}}
		}, "ES-SIG"},
		"other curve":          {func(c m) { k := pub; k.CRV = "P-384"; c["jwks"] = m{"keys": []jwk{k}} }, "ES-JWKS"},
		"coordinate, lines":    {func(c m) { k := pub; k.X = k.X[:5] + "\n" + k.X[5:]; c["jwks"] = m{"keys": []jwk{k}} }, "ES-JWKS"},
		"point off the curve":  {func(c m) { k := pub; k.X = k.Y; c["jwks"] = m{"keys": []jwk{k}} }, "ES-JWKS"},
		"no hints":             {func(c m) { delete(c, "authority_hints") }, "ES-HINTS"},
		"two hints":            {func(c m) { c["authority_hints"] = []string{TU.Master(), PU.Master()} }, "ES-HINTS"},
		"foreign hint":         {func(c m) { c["authority_hints"] = []string{"https://example.com"} }, "ES-HINTS"},
		"null":                 {func(c m) { rp(c)["logo_uri"] = nil }, "ES-META"},
		"policy":               {func(c m) { c["metadata_policy"] = m{} }, "ES-META"},
		"another part":         {func(c m) { c["metadata"].(m)["openid_provider"] = m{} }, "ES-META"},
		"no relying party":     {func(c m) { delete(c["metadata"].(m), "openid_relying_party") }, "ES-RP-FEHLT"},
		"no federation entity": {func(c m) { delete(c["metadata"].(m), "federation_entity") }, "ES-META"},
		"no client keys":       {func(c m) { delete(rp(c), "jwks") }, "ES-RP-WERT"},
		"no encryption key":    {func(c m) { rp(c)["jwks"] = m{"keys": []jwk{tls}} }, "ES-RP-WERT"},
		"no TLS key":           {func(c m) { rp(c)["jwks"] = m{"keys": []jwk{enc}} }, "ES-RP-WERT"},
		"two certificates":     {func(c m) { k := tls; k.X5C = []string{"AA", "AA"}; rp(c)["jwks"] = m{"keys": []jwk{enc, k}} }, "ES-RP-WERT"},
		"certificate, text":    {func(c m) { rp(c)["jwks"] = x5c("AAAA") }, "ES-RP-WERT"},
		"certificate, base64":  {func(c m) { rp(c)["jwks"] = x5c("!") }, "ES-RP-WERT"},
		"certificate, key":     {func(c m) { rp(c)["jwks"] = x5c(certificate(other, now.Add(MaxKeyAge))...) }, "ES-RP-WERT"},
		"certificate over":     {func(c m) { rp(c)["jwks"] = x5c(certificate(key, now)...) }, "ES-RP-WERT"},
		"certificate ends":     {func(c m) { rp(c)["jwks"] = x5c(certificate(key, now.Add(RotateBefore-time.Hour))...) }, "ES-RP-WERT"},
		"iss with http":        {func(c m) { c["iss"], c["sub"] = "http://adv.kasse.example", "http://adv.kasse.example" }, "ES-ISS-URI"},
		"iss with query":       {func(c m) { c["iss"], c["sub"] = "https://adv.kasse.example?", "https://adv.kasse.example?" }, "ES-ISS-URI"},
		"crit":                 {func(c m) { c["crit"] = []string{"x"} }, "ES-CRIT"},
		"hint a text":          {func(c m) { c["authority_hints"] = TU.Master() }, "ES-HINTS"},
		"hint a number":        {func(c m) { c["authority_hints"] = []any{TU.Master(), 7} }, "ES-HINTS"},
		"key for ES384":        {func(c m) { k := pub; k.Alg = "ES384"; c["jwks"] = m{"keys": []jwk{k}} }, "ES-JWKS"},
		"many keys":            {func(c m) { c["jwks"] = m{"keys": slices.Repeat([]jwk{pub}, maxKeys+1)} }, "ES-JWKS"},
		"private key":          {func(c m) { c["jwks"] = m{"keys": []m{private()}} }, "ES-KEY-PRIVAT"},
		"private client key":   {func(c m) { rp(c)["jwks"] = m{"keys": []any{enc, tls, private()}} }, "ES-KEY-PRIVAT"},
		"redirects a text":     {func(c m) { rp(c)["redirect_uris"] = "https://adv.kasse.example/cb" }, "ES-RP-WERT"},
		"redirects mixed":      {func(c m) { rp(c)["redirect_uris"] = []any{"https://adv.kasse.example/cb", 7} }, "ES-RP-WERT"},
		"redirect with query":  {func(c m) { rp(c)["redirect_uris"] = []string{"https://adv.kasse.example/cb?a"} }, "ES-RP-WERT"},
		"no openid":            {func(c m) { rp(c)["scope"] = "urn:telematik:email" }, "ES-RP-WERT"},
		"name with comma":      {func(c m) { rp(c)["client_name"] = "AdV, Kasse" }, "ES-RP-WERT"},
		"claims a text":        {func(c m) { rp(c)["claims"] = "birthdate" }, "ES-RP-WERT"},
		"no versions":          {func(c m) { delete(rp(c), "ti_features_supported") }, "ES-RP-WERT"},
		"keys elsewhere":       {func(c m) { delete(rp(c), "jwks"); rp(c)["signed_jwks_uri"] = "https://adv.kasse.example/jws" }, "ES-RP-WERT"},
		"keys elsewhere, http": {func(c m) { rp(c)["signed_jwks_uri"] = "http://adv.kasse.example/jws" }, "ES-RP-WERT"},
		"keys elsewhere, null": {func(c m) { rp(c)["signed_jwks_uri"] = 7 }, "ES-RP-WERT"},
		"member KID":           {func(c m) { c["jwks"] = m{"keys": []any{renamed(pub, "kid", "KID")}} }, "ES-JWKS"},
		"member X":             {func(c m) { c["jwks"] = m{"keys": []any{renamed(pub, "x", "X")}} }, "ES-JWKS"},
		"kid and KID": {func(c m) {
			k := renamed(pub, "", "")
			k["KID"] = "other"
			c["jwks"] = m{"keys": []any{k}}
		}, "ES-JWKS"},
		"member KEYS":       {func(c m) { c["jwks"] = m{"KEYS": []any{pub}} }, "ES-JWKS"},
		"client member USE": {func(c m) { rp(c)["jwks"] = m{"keys": []any{renamed(enc, "use", "USE"), tls}} }, "ES-RP-WERT"},
		"kid a number":      {func(c m) { k := renamed(pub, "", ""); k["kid"] = 7; c["jwks"] = m{"keys": []any{k}} }, "ES-JWKS"},
		"key a text":        {func(c m) { c["jwks"] = m{"keys": []any{"key"}} }, "ES-JWKS"},
		"x5c a text":        {func(c m) { k := renamed(tls, "", ""); k["x5c"] = tls.X5C[0]; rp(c)["jwks"] = m{"keys": []any{enc, k}} }, "ES-RP-WERT"},
		"kid twice, other y": {func(c m) {
			k, _ := publicJWK(other.Public(), pub.KID)
			k.X = pub.X
			c["jwks"] = m{"keys": []jwk{pub, k}}
		}, "ES-JWKS"},
		"kid, no UUID":    {func(c m) { k, _ := publicJWK(other.Public(), "next"); c["jwks"] = m{"keys": []jwk{pub, k}} }, "ES-KID-FORM"},
		"metadata a text": {func(c m) { c["metadata"] = "x" }, "ES-CLAIM-FEHLT"},
	} {
		claims := base()
		c.change(claims)
		found := judge(signStatement(t, key, "01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e", claims), StatementOptions{})
		if !found.Has(c.code) {
			t.Errorf("%s: no %s in %v", name, c.code, found)
		}
		want := Error
		if w, ok := odd[name]; ok {
			want = w
		}
		if found.Worst() != want {
			t.Errorf("%s: %s, not %s: %v", name, found.Worst(), want, found)
		}
	}
	// Every member that the rules name is missed when it is missing, and refused when it is another.
	for _, r := range relyingPartyRules {
		for _, v := range []any{nil, 7} {
			if v == nil && r.Optional {
				continue
			}
			claims := base()
			delete(rp(claims), r.Name)
			if v != nil {
				rp(claims)[r.Name] = v
			}
			found := judge(signStatement(t, key, "01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e", claims), StatementOptions{})
			if !slices.ContainsFunc(found, func(f Finding) bool { return f.Field == "metadata.openid_relying_party."+r.Name && f.Severity == Error }) {
				t.Errorf("%s = %v: %v", r.Name, v, found)
			}
		}
	}
	// The header.
	head, payload, _ := strings.Cut(good, ".")
	payload, sig, _ := strings.Cut(payload, ".")
	header := func(change func(h m)) string {
		b, _ := base64.RawURLEncoding.DecodeString(head)
		var h m
		if err := json.Unmarshal(b, &h); err != nil {
			t.Fatal(err)
		}
		h = maps.Clone(h)
		change(h)
		b, _ = json.Marshal(h)
		return base64.RawURLEncoding.EncodeToString(b) + "." + payload + "." + sig
	}
	raw := base64.RawURLEncoding.EncodeToString
	for name, c := range map[string]struct {
		token string
		code  Code
	}{
		"typ":           {header(func(h m) { h["typ"] = "JWT" }), "ES-TYP"},
		"alg none":      {header(func(h m) { h["alg"] = "none" }), "ES-ALG"},
		"alg HS256":     {header(func(h m) { h["alg"] = "HS256" }), "ES-ALG"},
		"no kid":        {header(func(h m) { delete(h, "kid") }), "ES-KID-HEADER"},
		"crit":          {header(func(h m) { h["crit"] = []string{"x"} }), "ES-CRIT"},
		"changed":       {header(func(h m) { h["cty"] = "x" }), "ES-SIG"},
		"no signature":  {head + "." + payload + ".", "ES-SIG"},
		"two parts":     {head + "." + payload, "ES-JWS"},
		"padding":       {head + "=." + payload + "." + sig, "ES-JWS"},
		"lines":         {head + ".\n" + payload + "." + sig, "ES-JWS"},
		"page":          {"<html>login</html>", "ES-JWS"},
		"JSON":          {`{"keys":[]}`, "ES-JWS"},
		"none, padding": {raw([]byte(`{"alg":"none"}`)) + "=." + payload + "." + sig, "ES-ALG"},
		"public JWK":    {`{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`, "ES-JWS"},
		"private JWK":   {`{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"AA"}`, "REG-KEY-PRIVAT"},
		"private set":   {`[{"kty":"oct", "k" : "AA"}]`, "REG-KEY-PRIVAT"},
		"private PEM":   {"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "REG-KEY-PRIVAT"},
		"private text":  {privatePEM(t) + "\n", "REG-KEY-PRIVAT"},
		"private DER":   {privateDER(t), "REG-KEY-PRIVAT"},
		"no object":     {raw([]byte(`[1]`)) + "." + payload + "." + sig, "ES-JWS"},
		"member twice":  {raw([]byte(`{"alg":"ES256","alg":"none"}`)) + "." + payload + "." + sig, "ES-JWS"},
		"more after it": {raw([]byte(`{} {}`)) + "." + payload + "." + sig, "ES-JWS"},
		"nested":        {head + "." + raw([]byte(strings.Repeat(`{"a":`, 1000)+"1"+strings.Repeat("}", 1000))) + "." + sig, "ES-JWS"},
		"long":          {strings.Repeat("a", MaxStatement+1), "ES-JWS"},
	} {
		if found := judge(c.token, StatementOptions{}); !found.Has(c.code) {
			t.Errorf("%s: no %s in %v", name, c.code, found)
		}
	}
	if found := judge(good, StatementOptions{URL: "https://elsewhere.example" + WellKnown}); !found.Has("ES-ISS-URL") {
		t.Errorf("found elsewhere: %v", found)
	}
	if found := judge(good, StatementOptions{SignedBy: []jwk{pub}}); !found.Has("ES-ISS-SUB") {
		t.Errorf("own statement as one about a subordinate: %v", found)
	}
}

// seeds adds the public files to a fuzz test, where they are.
func seeds(f *testing.F, pattern string) {
	names, _ := filepath.Glob(filepath.Join("..", "..", "..", "shared", "testdata", "registration", filepath.FromSlash(pattern)))
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil {
			f.Add(b)
		}
	}
}

func FuzzXML(f *testing.F) {
	seeds(f, "xml/*.xml")
	f.Add([]byte(goodForm(f)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, found := ParseXML(b, XMLOptions{})
		if r == nil && found.Worst() != Error {
			t.Fatal("nothing was read and nothing is wrong")
		}
		if r == nil || r.Deregister || found.Worst() == Error {
			return
		}
		// What is right is written and read again as the same.
		var out bytes.Buffer
		if err := WriteXML(&out, r); err != nil {
			t.Fatal(err)
		}
		again, more := ParseXML(out.Bytes(), XMLOptions{})
		if again == nil || more.Worst() == Error || len(Differences(r, again)) > 0 {
			t.Fatalf("%v %v", more, Differences(r, again))
		}
	})
}

func FuzzStatement(f *testing.F) {
	seeds(f, "es/*.jws")
	f.Add([]byte("e30.e30."))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, found := ParseStatement(b, "")
		if s == nil {
			if found.Worst() != Error {
				t.Fatal("nothing was read and nothing is wrong")
			}
			return
		}
		found = CheckStatement(s, StatementOptions{Now: time.Unix(1_689_100_000, 0)})
		Compare(&Registration{lines: map[string]int{}}, s)
		if s.Alg != "ES256" && found.Worst() != Error {
			t.Fatal("accepted without a signature")
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"environment":"TU","service":"https://adv.kasse.example","organisation_name":"Kasse","service_name":"AdV","scopes":["openid"],"redirect_uris":["https://adv.kasse.example/cb"],
		"kind":"other","contact_email":"adv@kasse.example","assignment_group":"ORG-1234:BT-5678","keys":"keys","records":"records","lifetime":"1h"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConfig(b)
		if err != nil {
			return
		}
		// What is taken is written and read again as the same, and makes a form that the office takes.
		text, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseConfig(text); err != nil || len(Differences(c.registration(nil), again.registration(nil))) > 0 {
			t.Fatalf("%v\n%s", err, text)
		}
		var form bytes.Buffer
		if err := WriteXML(&form, c.registration(nil)); err != nil {
			t.Fatal(err)
		}
		if _, found := ParseXML(form.Bytes(), XMLOptions{Kind: c.Kind, TURegistered: true}); found.Worst() == Error && !found.Has("REG-KEY-LEER") {
			t.Fatalf("%v\n%s", found, &form)
		}
	})
}

func FuzzMasterKeys(f *testing.F) {
	seeds(f, "es/fedmaster*.jws")
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"9bJs27YAflMUWK5nxuiF6XAG0JazuvwRi1EpFK0XKik","y":"P8lzNVROgTuwbDqsd8rT1AI3zez94HBsTDpOvajP0rY"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := ParseMasterKeys(b)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
	})
}

func FuzzSigningKeys(f *testing.F) {
	f.Add([]byte(`[{"public":{"kty":"EC","crv":"P-256","kid":"a","x":"9bJs27YAflMUWK5nxuiF6XAG0JazuvwRi1EpFK0XKik","y":"P8lzNVROgTuwbDqsd8rT1AI3zez94HBsTDpOvajP0rY"},"created":"2026-11-22T09:00:00Z"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseSigningKeys(b)
		if err != nil {
			return
		}
		k := &Keys{list: list}
		k.watch(t0)
		if c, err := k.Current(t0); err == nil && !t0.Before(c.Ends()) {
			t.Fatal("a key signs after its end")
		}
	})
}

// TestMasterKeys: what is pinned is read from both forms, and nothing else is taken.
func TestMasterKeys(t *testing.T) {
	t.Parallel()
	set := `{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"9bJs27YAflMUWK5nxuiF6XAG0JazuvwRi1EpFK0XKik","y":"P8lzNVROgTuwbDqsd8rT1AI3zez94HBsTDpOvajP0rY"}]}`
	if keys, err := ParseMasterKeys([]byte(" " + set + "\n")); err != nil || len(keys) != 1 {
		t.Error(err)
	}
	if keys, err := ParseMasterKeys(read(t, "es/fedmaster-ru-2023.jws")); err != nil || keys[0].KID != "puk_fedmaster_sig" {
		t.Error(err)
	}
	for _, b := range []string{"", "{}", `{"keys":[]}`, set + set, strings.Replace(set, "P-256", "P-384", 1), strings.Replace(set, "XKik", "XKil", 1), strings.Repeat(" ", MaxStatement+1), "a.b.c"} {
		if keys, err := ParseMasterKeys([]byte(b)); err == nil {
			t.Errorf("%.60q: %v", b, keys)
		}
	}
}
