// Package fedmaster simulates the Federation Master of the TI-Föderation and the registration office in front of it: it
// takes a registration XML as the office would get it by mail, fetches the service's Entity Statement, refuses what the
// office refuses, and publishes what was registered (OpenID Federation: own statement, fetch, list).
//
// It reads forms and statements and signs with code of its own, so that what the product writes is judged by somebody else.
// What can go wrong at the real one is switched on with [Master.SetFault]. No production binary links it.
package fedmaster

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault is what goes wrong.
type Fault int

// The faults.
const (
	None          Fault = iota
	Down                // status 503
	BadSignature        // statements are signed with another key
	OtherKey            // statements name and are signed with a key nobody knows
	Expired             // statements are of yesterday
	OtherSubject        // statements are about somebody else
	ForeignURLs         // the own statement sends people to another host
	Page                // an HTML page instead of a statement
	NotListed           // the list lacks the services
	OldKeys             // the published keys are damaged
	ForeignKey          // a key is published that the service never registered
	OtherAudience       // statements are made for somebody else
	LongRefusal         // refusals explain themselves at length
	OtherRefusal        // every fetch is refused for another reason, at a time that looks like the code for an unknown service
)

// Master is the simulated Federation Master of one environment.
type Master struct {
	address string
	env     string
	key     *ecdsa.PrivateKey
	now     func() time.Time
	client  interface {
		Do(*http.Request) (*http.Response, error)
	}

	mu      sync.Mutex
	fault   Fault
	members map[string]*member // by address
}

// member is a registered service.
type member struct {
	id       string
	form     form
	keys     []map[string]any
	metadata map[string]any
}

// New makes a Master for an environment ("RU", "TU", "PU") at an address; client fetches the statements of services.
func New(env, address string, client interface {
	Do(*http.Request) (*http.Response, error)
}, now func() time.Time) (*Master, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return &Master{address: address, env: env, key: key, now: now, client: client, members: map[string]*member{}}, nil
}

// SetFault switches what goes wrong.
func (m *Master) SetFault(f Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

const (
	kid       = "puk_fedmaster_sig"
	wellKnown = "/.well-known/openid-federation"
	mediaType = "application/entity-statement+jwt"
)

// PublicKeys is the key set that gematik publishes for pinning.
func (m *Master) PublicKeys() []byte {
	b, _ := json.Marshal(map[string]any{"keys": []any{jwkOf(&m.key.PublicKey, kid)}}) // maps of texts cannot fail
	return b
}

func jwkOf(k *ecdsa.PublicKey, id string) map[string]any {
	var x, y [32]byte
	k.X.FillBytes(x[:])
	k.Y.FillBytes(y[:])
	enc := base64.RawURLEncoding.EncodeToString
	return map[string]any{"kty": "EC", "crv": "P-256", "x": enc(x[:]), "y": enc(y[:]), "kid": id, "use": "sig", "alg": "ES256"}
}

// sign makes a compact JWS.
func (m *Master) sign(claims map[string]any) string {
	id, key := kid, m.key
	if m.fault == OtherKey || m.fault == BadSignature {
		key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // rand.Reader does not fail
		if m.fault == OtherKey {
			id = "puk_unknown"
		}
	}
	at := m.now()
	if m.fault == Expired {
		at = at.Add(-25 * time.Hour)
	}
	claims["iat"], claims["exp"] = at.Unix(), at.Add(24*time.Hour).Unix()
	head, _ := json.Marshal(map[string]any{"typ": "entity-statement+jwt", "kid": id, "alg": "ES256"})
	body, _ := json.Marshal(claims)
	enc := base64.RawURLEncoding.EncodeToString
	text := enc(head) + "." + enc(body)
	hash := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, hash[:])
	if err != nil {
		return ""
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + enc(sig)
}

// ServeHTTP answers as the Federation Master does.
func (m *Master) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.fault {
	case Down:
		http.Error(w, "maintenance", http.StatusServiceUnavailable)
		return
	case Page:
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!DOCTYPE html><title>Are you human?</title>")
		return
	}
	switch r.URL.Path {
	case wellKnown:
		base := m.address
		if m.fault == ForeignURLs {
			base = "https://elsewhere.example.com"
		}
		m.answer(w, m.sign(map[string]any{
			"iss": m.address, "sub": m.address, "jwks": map[string]any{"keys": []any{jwkOf(&m.key.PublicKey, kid)}},
			"metadata": map[string]any{"federation_entity": map[string]any{
				"federation_fetch_endpoint": base + "/federation/fetch", "federation_list_endpoint": base + "/federation/list",
				"idp_list_endpoint": base + "/federation/listidps"}},
		}))
	case "/federation/list":
		names := []string{}
		for a := range m.members {
			if m.fault != NotListed {
				names = append(names, a)
			}
		}
		slices.Sort(names)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(names)
	case "/federation/fetch":
		q := r.URL.Query()
		if q.Get("iss") != m.address {
			m.refuse(w, "6000", "Issuer entspricht nicht dem Entity Identifier des Federation Masters", m.now())
			return
		}
		if m.fault == OtherRefusal {
			m.refuse(w, "6000", "Issuer entspricht nicht dem Entity Identifier des Federation Masters", time.Unix(1796011430, 0))
			return
		}
		c, ok := m.members[q.Get("sub")]
		if !ok {
			text := "Subjekt ist unbekannt"
			if m.fault == LongRefusal {
				text = strings.Repeat("Das angefragte Subjekt konnte im Verzeichnis der Teilnehmer nicht gefunden werden. ", 5)
			}
			m.refuse(w, "6011", text, m.now())
			return
		}
		sub := q.Get("sub")
		if m.fault == OtherSubject {
			sub += "/other"
		}
		keys := c.keys
		if m.fault == OldKeys {
			other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			keys = []map[string]any{jwkOf(&other.PublicKey, keys[0]["kid"].(string))}
		}
		if m.fault == ForeignKey {
			other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			keys = append(slices.Clone(keys), jwkOf(&other.PublicKey, "somebody-else"))
		}
		aud := q.Get("aud")
		if m.fault == OtherAudience {
			aud = "https://somebody-else.example"
		}
		m.answer(w, m.sign(map[string]any{"iss": m.address, "sub": sub, "aud": aud, "jwks": map[string]any{"keys": keys},
			"metadata": map[string]any{"openid_relying_party": c.metadata}}))
	default:
		http.NotFound(w, r)
	}
}

func (m *Master) answer(w http.ResponseWriter, token string) {
	w.Header().Set("Content-Type", mediaType+";charset=UTF-8")
	fmt.Fprint(w, token)
}

// refuse answers as gematik's implementation does, its members in their order.
func (m *Master) refuse(w http.ResponseWriter, code, text string, at time.Time) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(struct {
		Operation   string `json:"operation"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Timestamp   int64  `json:"gematik_timestamp"`
		UUID        string `json:"gematik_uuid"`
		Code        string `json:"gematik_code"`
	}{"FETCH", "invalid_request", text, at.Unix(), "c0ffee00-0000-4000-8000-000000000000", code})
}

// form is the XML as the office reads it.
type form struct {
	XMLName      xml.Name
	Type         string   `xml:"teilnehmertyp"`
	Environment  string   `xml:"betriebsumgebung"`
	Email        string   `xml:"kontaktemail"`
	VFS          string   `xml:"vfsbestaetigung"`
	Group        string   `xml:"zuweisungsgruppe"`
	Member       string   `xml:"memberid"`
	Organisation string   `xml:"organisationsname"`
	Name         string   `xml:"fachdienstname"`
	Address      string   `xml:"fachdiensturi"`
	Scopes       []string `xml:"scopes>scope"`
	Claims       []string `xml:"claims>claim"`
	Redirects    []string `xml:"redirect_uris>redirect_uri"`
	Keys         []struct {
		KID string `xml:"kid"`
		PEM string `xml:"key"`
	} `xml:"publickeysjwt>publickey"`
	Reason string `xml:"grund"`
}

// order is the sequence of the office's schema.
var order = []string{"teilnehmertyp", "betriebsumgebung", "kontaktemail", "vfsbestaetigung", "zuweisungsgruppe", "memberid", "organisationsname",
	"fachdienstname", "fachdiensturi", "scopes", "claims", "redirect_uris", "publickeysjwt"}

// ErrRefused is wrapped by every refusal.
var ErrRefused = errors.New("refused by the registration office")

// Mail is what happens when a form arrives as an attachment: registration, change or deregistration. The live statement has to
// agree with the form. A change may come ahead: then the statement still agrees with the form that is in force.
func (m *Master) Mail(fileName string, document []byte) error {
	no := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, a...))
	}
	var f form
	if err := xml.Unmarshal(document, &f); err != nil {
		return no("the XML cannot be read: %v", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.Environment != m.env {
		return no("this is the office of %s", m.env)
	}
	if f.Member == "" || fileName != f.Member+".xml" {
		return no("the file is not named after the Member-ID")
	}
	known := m.members[f.Address]
	if f.XMLName.Local == "deregistrierungtifoederation" {
		if known == nil || known.id != f.Member || f.Reason == "" {
			return no("no such registration, or no reason")
		}
		delete(m.members, f.Address)
		return nil
	}
	if f.XMLName.Local != "registrierungtifoederation" {
		return no("unknown form %s", f.XMLName.Local)
	}
	if got := childNames(document); !slices.Equal(got, order) {
		return no("the elements are %v, the schema wants %v", got, order)
	}
	if known != nil && known.id != f.Member {
		return no("the service is registered under another Member-ID")
	}
	for a, c := range m.members {
		if c.id == f.Member && a != f.Address {
			return no("the Member-ID belongs to another service")
		}
	}
	if f.Type != "Fachdienst" || m.env == "PU" && !strings.HasPrefix(f.VFS, "VFS_") || f.Group == "" || f.Organisation == "" || f.Name == "" || len(f.Keys) == 0 || len(f.Redirects) == 0 || !slices.Contains(f.Scopes, "openid") {
		return no("a mandatory value is missing")
	}
	head, claims, signed, sig, err := m.statementOf(f.Address)
	if err != nil {
		return no("the Entity Statement: %v", err)
	}
	meta, _ := claims["metadata"].(map[string]any)
	rp, _ := meta["openid_relying_party"].(map[string]any)
	fe, _ := meta["federation_entity"].(map[string]any)
	disagreement := func(f form) error {
		for what, pair := range map[string][2]any{
			"iss": {claims["iss"], f.Address}, "sub": {claims["sub"], f.Address}, "organization_name": {rp["organization_name"], f.Organisation},
			"client_name": {rp["client_name"], f.Name}, "federation_entity.name": {fe["name"], f.Name}, "scope": {sorted(strings.Fields(fmt.Sprint(rp["scope"]))), sorted(f.Scopes)},
			"redirect_uris": {sorted(texts(rp["redirect_uris"])), sorted(f.Redirects)}, "claims": {sorted(texts(rp["claims"])), sorted(f.Claims)},
		} {
			if pair[0] != pair[1] {
				return no("%s is %v in the statement and %v in the form", what, pair[0], pair[1])
			}
		}
		return nil
	}
	if err := disagreement(f); err != nil && (known == nil || disagreement(known.form) != nil) {
		return err
	}
	c := &member{id: f.Member, form: f}
	verified := false
	for _, k := range f.Keys {
		body := strings.Join(strings.Fields(strings.NewReplacer("-----BEGIN PUBLIC KEY-----", "", "-----END PUBLIC KEY-----", "").Replace(k.PEM)), "")
		der, err := base64.StdEncoding.DecodeString(body)
		if err != nil {
			return no("key %s: %v", k.KID, err)
		}
		pub, err := x509.ParsePKIXPublicKey(der)
		key, ok := pub.(*ecdsa.PublicKey)
		if err != nil || !ok || key.Curve != elliptic.P256() {
			return no("key %s is no P-256 key", k.KID)
		}
		c.keys = append(c.keys, jwkOf(key, k.KID))
		if head["kid"] == k.KID {
			hash := sha256.Sum256(signed)
			verified = len(sig) == 64 && ecdsa.Verify(key, hash[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
		}
	}
	if !verified {
		return no("the statement does not verify with the registered key")
	}
	c.metadata = map[string]any{"client_registration_types": []string{"automatic"}, "claims": notNil(f.Claims), "redirect_uris": f.Redirects, "scope": strings.Join(f.Scopes, " ")}
	m.members[f.Address] = c
	return nil
}

// statementOf fetches a service's statement.
func (m *Master) statementOf(address string) (head, claims map[string]any, signed, sig []byte, err error) {
	req, err := http.NewRequest(http.MethodGet, strings.TrimSuffix(address, "/")+wellKnown, nil)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, nil, nil, nil, err
	}
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), mediaType) {
		return nil, nil, nil, nil, fmt.Errorf("status %d, type %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	parts := bytes.Split(b, []byte("."))
	if len(parts) != 3 {
		return nil, nil, nil, nil, errors.New("not a compact JWS")
	}
	var raw [3][]byte
	for i, p := range parts {
		if raw[i], err = base64.RawURLEncoding.DecodeString(string(p)); err != nil {
			return nil, nil, nil, nil, err
		}
	}
	if err := errors.Join(json.Unmarshal(raw[0], &head), json.Unmarshal(raw[1], &claims)); err != nil {
		return nil, nil, nil, nil, err
	}
	iat, _ := claims["iat"].(float64)
	exp, _ := claims["exp"].(float64)
	now := float64(m.now().Unix())
	hints := texts(claims["authority_hints"])
	if head["typ"] != "entity-statement+jwt" || head["alg"] != "ES256" || iat > now+60 || exp <= now || exp-iat > 86400 || !slices.Contains(hints, m.address) {
		return nil, nil, nil, nil, errors.New("type, algorithm, times or authority_hints are not right")
	}
	return head, claims, b[:len(parts[0])+1+len(parts[1])], raw[2], nil
}

func texts(v any) (out []string) {
	a, _ := v.([]any)
	for _, e := range a {
		out = append(out, fmt.Sprint(e))
	}
	return out
}

func sorted(s []string) string {
	s = slices.Clone(s)
	slices.Sort(s)
	return strings.Join(s, " ")
}

func notNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// childNames are the names of the root's children.
func childNames(document []byte) (names []string) {
	d := xml.NewDecoder(bytes.NewReader(document))
	for depth := 0; ; {
		t, err := d.Token()
		if err != nil {
			return names
		}
		switch t := t.(type) {
		case xml.StartElement:
			if depth++; depth == 2 {
				names = append(names, t.Name.Local)
			}
		case xml.EndElement:
			depth--
		}
	}
}
