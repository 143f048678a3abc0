package federation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// web answers addresses with texts, and remembers who was asked with which header.
type web struct {
	pages map[string]string
	asked map[string]http.Header
}

func (w *web) Do(r *http.Request) (*http.Response, error) {
	if w.asked == nil {
		w.asked = map[string]http.Header{}
	}
	w.asked[r.URL.String()] = r.Header
	page, ok := w.pages[r.URL.String()]
	if !ok {
		return nil, errors.New("no such host")
	}
	status := http.StatusOK
	if page == "" {
		status = http.StatusNotFound
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {ContentType}}, Body: io.NopCloser(strings.NewReader(page))}, nil
}

// TestPublishedKeySet: the published signed key set belongs to a published statement, verifies with it and is judged like jwks.
func TestPublishedKeySet(t *testing.T) {
	t.Parallel()
	const service, place = "https://idpfadi.dev.gematik.solutions", "https://idpfadi.dev.gematik.solutions/jws.json"
	statement, set := string(read(t, "es/rp-idpfadi-string-lists.jws")), strings.TrimSpace(string(read(t, "es/signed-jwks-typ-jwt.jws")))
	inspect := func(page, now string, offline bool) (Findings, *Statement) {
		w := &web{pages: map[string]string{service + WellKnown: statement, place: page}}
		s, _, found := Inspect(t.Context(), service, Inspection{Client: w, Now: day(now), Offline: offline})
		if _, asked := w.asked[place]; asked == offline {
			t.Errorf("offline %v, asked %v", offline, asked)
		}
		return found, s
	}
	about := func(found Findings) (of Findings) {
		for _, f := range found {
			if f.Code == "ES-JWKS-URI" || f.Source == place || strings.Contains(f.Field, "signed_jwks_uri") {
				of = append(of, f)
			}
		}
		return of
	}
	found, s := inspect(set, "2023-10-13 14:00", false)
	if of := about(found); len(of) != 0 {
		t.Errorf("the published set: %v", of)
	}
	if end := s.clientEnd(); end.Year() != 2024 {
		t.Errorf("the certificate behind signed_jwks_uri ends %s", end)
	}
	// Its certificate is judged, too.
	if of := about(first(inspect(set, "2026-11-22 12:00", false))); len(of) != 1 || of[0].Severity != Error || !strings.Contains(of[0].What, "expired") || of[0].Field != "metadata.openid_relying_party.signed_jwks_uri.keys[2]" {
		t.Errorf("later: %v", of)
	}
	// Damaged, missing, issued later, not looked at.
	if of := about(first(inspect(set[:len(set)-4]+"AAAA", "2023-10-13 14:00", false))); !of.Has("ES-JWKS-URI") {
		t.Errorf("damaged: %v", of)
	}
	if of := about(first(inspect("", "2023-10-13 14:00", false))); !of.Has("ES-HTTP") {
		t.Errorf("missing: %v", of)
	}
	if of := about(first(inspect(set, "2023-07-12 12:00", false))); len(of) != 1 || of[0].Field != "iat" {
		t.Errorf("issued later: %v", of)
	}
	if of := about(first(inspect(set, "2023-10-13 14:00", true))); len(of) != 1 || of[0].Severity != Warning || !strings.Contains(of[0].What, "not looked at") {
		t.Errorf("offline: %v", of)
	}
}

func first(f Findings, _ *Statement) Findings { return f }

// keySet signs a key set with a header and claims as they come.
func keySet(t testing.TB, key *ecdsa.PrivateKey, header map[string]any, claims map[string]any) string {
	t.Helper()
	b, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	opts := &jose.SignerOptions{}
	for name, v := range header {
		opts.WithHeader(jose.HeaderKey(name), v)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := s.Sign(b)
	if err != nil {
		t.Fatal(err)
	}
	text, err := sig.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestKeySetFaults breaks one thing of a signed key set at a time.
func TestKeySetFaults(t *testing.T) {
	t.Parallel()
	const service, place = "https://adv.kasse.example", "https://keys.kasse.example/jws"
	const kid = "01931f3e-7b2c-7d4a-9c1e-2f6a8b9c0d1e"
	type m = map[string]any
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	key, other := newKey(), newKey()
	pub, err := publicJWK(key.Public(), kid)
	if err != nil {
		t.Fatal(err)
	}
	enc := pub
	enc.KID, enc.Use, enc.Alg = "enc", "enc", "ECDH-ES"
	tls := pub
	tls.KID = "tls"
	tls.X5C = selfSigned(t, key, t0.Add(MaxKeyAge))
	statement := signStatement(t, key, kid, m{"iss": service, "sub": service, "iat": t0.Unix(), "exp": t0.Add(MaxLifetime).Unix(),
		"jwks": m{"keys": []jwk{pub}}, "authority_hints": []string{TU.Master()},
		"metadata": m{"federation_entity": m{"name": "AdV"}, "openid_relying_party": m{"signed_jwks_uri": place}}})
	header := m{"typ": "jwk-set+json", "kid": kid}
	claims := m{"iss": service, "iat": t0.Unix(), "keys": []jwk{enc, tls}}
	with := func(base m, name string, v any) m {
		c := maps.Clone(base)
		c[name] = v
		if v == nil {
			delete(c, name)
		}
		return c
	}
	inspect := func(page string) (*web, *Statement, Findings) {
		w := &web{pages: map[string]string{service + WellKnown: statement, place: page}}
		s, _, found := Inspect(t.Context(), service, Inspection{Client: w, Header: http.Header{"X-Authorization": {"secret"}}, Now: t0})
		var of Findings
		for _, f := range found {
			if f.Source == place || strings.Contains(f.Field, "jwks") && f.Code != "ES-JWKS" {
				of = append(of, f)
			}
		}
		return w, s, of
	}
	w, s, found := inspect(keySet(t, key, header, claims))
	if len(found) != 0 || len(s.clientKeys()) != 2 {
		t.Fatalf("the good set: %v", found)
	}
	if w.asked[service+WellKnown].Get("X-Authorization") == "" || w.asked[place].Get("X-Authorization") != "" {
		t.Error("a header for the service goes to another host, or not to the service")
	}
	for _, typ := range signedTypes {
		if _, _, found := inspect(keySet(t, key, with(header, "typ", typ), claims)); len(found) != 0 {
			t.Errorf("%s: %v", typ, found)
		}
	}
	for name, c := range map[string]struct {
		page, field string
		code        Code
	}{
		"typ of a statement": {keySet(t, key, with(header, "typ", statementType), claims), "header.typ", "ES-JWKS-URI"},
		"other key":          {keySet(t, other, header, claims), "signature", "ES-JWKS-URI"},
		"unknown kid":        {keySet(t, key, with(header, "kid", "k2"), claims), "header.kid", "ES-JWKS-URI"},
		"no kid":             {keySet(t, key, with(header, "kid", nil), claims), "header.kid", "ES-JWKS-URI"},
		"crit":               {keySet(t, key, header, with(claims, "crit", []string{"x"})), "crit", "ES-JWKS-URI"},
		"iss":                {keySet(t, key, header, with(claims, "iss", "https://other.example")), "iss", "ES-JWKS-URI"},
		"sub":                {keySet(t, key, header, with(claims, "sub", "https://other.example")), "sub", "ES-JWKS-URI"},
		"no iat":             {keySet(t, key, header, with(claims, "iat", nil)), "iat", "ES-JWKS-URI"},
		"iat in the future":  {keySet(t, key, header, with(claims, "iat", t0.Add(time.Hour).Unix())), "iat", "ES-JWKS-URI"},
		"expired":            {keySet(t, key, header, with(claims, "exp", t0.Unix())), "exp", "ES-JWKS-URI"},
		"exp a text":         {keySet(t, key, header, with(claims, "exp", "tomorrow")), "exp", "ES-JWKS-URI"},
		"no keys":            {keySet(t, key, header, with(claims, "keys", nil)), "keys", "ES-JWKS-URI"},
		"KEYS beside keys":   {keySet(t, key, header, with(claims, "KEYS", []jwk{enc})), "keys", "ES-JWKS-URI"},
		"set in jwks":        {keySet(t, key, header, with(with(claims, "keys", nil), "jwks", m{"keys": []jwk{enc, tls}})), "keys", "ES-JWKS-URI"},
		"no encryption key":  {keySet(t, key, header, with(claims, "keys", []jwk{tls})), "metadata.openid_relying_party.signed_jwks_uri", "ES-RP-WERT"},
		"no TLS key":         {keySet(t, key, header, with(claims, "keys", []jwk{enc})), "metadata.openid_relying_party.signed_jwks_uri", "ES-RP-WERT"},
		"alg none":           {"eyJhbGciOiJub25lIn0.e30.", "header.alg", "ES-JWKS-URI"},
		"JSON":               {`{"keys":[]}`, "", "ES-JWS"},
		"page":               {"<html>login</html>", "", "ES-JWS"},
	} {
		_, s, found := inspect(c.page)
		if !slices.ContainsFunc(found, func(f Finding) bool {
			return f.Code == c.code && f.Field == c.field && f.Severity == Error && f.Fix != ""
		}) {
			t.Errorf("%s: %v", name, found)
		}
		if c.code != "ES-RP-WERT" && len(s.clientKeys()) != 0 {
			t.Errorf("%s: keys were taken", name)
		}
	}
	// Nobody answers there: nothing is known.
	delete(w.pages, place)
	if _, _, found := Inspect(t.Context(), service, Inspection{Client: w, Now: t0}); !found.Has("ES-NETZ") {
		t.Error(found)
	}
}

// TestRefused: the code of a refusal decides, wherever digits like it stand.
func TestRefused(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]Code{
		`{"operation":"FETCH","error":"invalid_request","error_description":"Subjekt","gematik_timestamp":1,"gematik_uuid":"x","gematik_code":"6011"}`:                                 "FM-UNBEKANNT",
		`{"operation":"FETCH","error_description":"` + strings.Repeat("lang ", 100) + `","gematik_code":6011}`:                                                                         "FM-UNBEKANNT",
		`{"operation":"FETCH","error":"invalid_request","error_description":"iss","gematik_timestamp":1796011430,"gematik_uuid":"60116011-0000-4000-8000-6011","gematik_code":"6000"}`: "FM-ABLEHNUNG",
		`{"error":"invalid_subject","error_description":"6011"}`:                                                                                                                       "",
		`{"gematik_code":"6011","gematik_code":"6000"}`:                                                                                                                                "",
		`{"gematik_code":["6011"]}`:        "",
		`status 6011`:                      "",
		``:                                 "",
		`{"gematik_code":"6011"} and more`: "",
		`{"gematik_code":"` + strings.Repeat("6011", 1000) + `"}`: "FM-ABLEHNUNG",
	} {
		found := refused([]byte(body), "x")
		if got := codes(found, Error); len(got) == 0 && want != "" || len(got) == 1 && got[0] != string(want) {
			t.Errorf("%.120s: %v, not %s", body, found, want)
		}
		for _, f := range found {
			if len(f.What) > 700 || f.Fix == "" {
				t.Errorf("%#v", f)
			}
		}
	}
}

func TestAudience(t *testing.T) {
	t.Parallel()
	const us = "https://adv.kasse.example"
	for _, c := range []struct {
		aud  any
		want bool
	}{{nil, true}, {us, true}, {[]any{"https://other.example", us}, true}, {"", false}, {us + "/", false}, {[]any{}, false}, {[]any{"https://other.example"}, false}, {json.Number("7"), false}, {map[string]any{}, false}} {
		if got := (&Statement{claims: map[string]any{"aud": c.aud}}).isFor(us); got != c.want {
			t.Errorf("%v: %v", c.aud, got)
		}
	}
	s, _ := ParseStatement(read(t, "es/sub-about-rp-2044.jws"), "") // with null
	if !s.isFor("http://127.0.0.1:8084") || !s.Subordinate() {
		t.Error("the published one")
	}
}

// TestClientKeyAge is A_23185-01 for the key for ID tokens: noted when it is first published, once, and warned of.
func TestClientKeyAge(t *testing.T) {
	t.Parallel()
	now := t0
	s, _ := newService(t, &now)
	if _, _, err := s.Statement(); err != nil {
		t.Fatal(err)
	}
	client, err := ClientKeys(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	again, err := NoteClientKeys(s.Config, t0.Add(time.Hour))
	if err != nil || len(again.list) != 1 || !again.list[0].Created.Equal(t0) || !again.clientEnd(client).Equal(t0.Add(MaxKeyAge)) {
		t.Fatalf("%+v %v", again, err)
	}
	for after, want := range map[time.Duration]string{0: "", MaxKeyAge - RotateBefore: "", MaxKeyAge - RotateBefore + time.Second: "warning", MaxKeyAge - time.Second: "warning", MaxKeyAge: "error"} {
		got := ""
		if found := again.watchClient(client, t0.Add(after)); len(found) > 0 {
			got = found[0].Severity.String()
		}
		if got != want {
			t.Errorf("after %s: %q, not %q", after, got, want)
		}
	}
	// One of which nothing is known is said to be so, and the TLS key is none of these.
	if found := (&Keys{}).watchClient(client, t0); len(found) != 1 || found[0].Severity != Info || !(&Keys{}).clientEnd(client).IsZero() {
		t.Error(found)
	}
}

func FuzzSignedKeys(f *testing.F) {
	seeds(f, "es/*.jws")
	f.Add([]byte("e30.e30."))
	s := &Statement{Issuer: "https://idpfadi.dev.gematik.solutions"}
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, found := s.parseSignedKeys(b, "x", t0)
		if keys != nil || found.Worst() != Error { // the statement publishes no key: nothing can verify
			t.Fatalf("%v %v", keys, found)
		}
		for _, f := range refused(b, "x") {
			if bytes.ContainsAny([]byte(f.What), "\n\x00") {
				t.Fatalf("%q", f.What)
			}
		}
	})
}
