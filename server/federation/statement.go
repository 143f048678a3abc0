package federation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// What a statement's header says.
const (
	statementType = "entity-statement+jwt"
	algorithm     = string(jose.ES256)
)

// MaxStatement bounds a statement in octets.
const MaxStatement = 256 << 10

// jwk is one key of a key set.
type jwk struct {
	KTY string   `json:"kty"`
	CRV string   `json:"crv,omitempty"`
	Use string   `json:"use,omitempty"`
	KID string   `json:"kid,omitempty"`
	Alg string   `json:"alg,omitempty"`
	X   string   `json:"x,omitempty"`
	Y   string   `json:"y,omitempty"`
	X5C []string `json:"x5c,omitempty"`

	private bool // the key set that was read holds the private part, too
}

// public returns the key, an error unless it is one on P-256.
func (k jwk) public() (*ecdsa.PublicKey, error) {
	if k.KTY != "EC" || k.CRV != "P-256" {
		return nil, fmt.Errorf("kty %q and crv %q, not EC on P-256", k.KTY, k.CRV)
	}
	point := []byte{4}
	for _, c := range []string{k.X, k.Y} {
		b, err := base64.RawURLEncoding.Strict().DecodeString(c)
		if err != nil || len(b) != 32 || strings.ContainsAny(c, "\r\n") { // which the decoder skips
			return nil, fmt.Errorf("a coordinate is not 32 octets in base64url without padding")
		}
		point = append(point, b...)
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

// Statement is an Entity Statement that was read, not necessarily a good one.
type Statement struct {
	Typ, Alg, KID string // of the header
	Crit          bool   // header or payload name critical members

	Issuer, Subject string
	IssuedAt        time.Time
	Expires         time.Time
	Hints           []string // authority_hints
	Keys            []jwk    // jwks.keys

	raw     string         // the compact form
	claims  map[string]any // the payload
	missing []string       // claims that are not there or of the wrong kind
	keysErr error          // why Keys are missing
	signed  *signedKeys    // what stands behind signed_jwks_uri, nil where that was not fetched
}

// Subordinate says whether the statement is one about somebody else that does not hold the key of who made it: what the
// Federation Master publishes about a service.
func (s *Statement) Subordinate() bool {
	_, own := keyByID(s.Keys, s.KID)
	return s.Issuer != "" && s.Subject != "" && s.Issuer != s.Subject && s.claims["authority_hints"] == nil && !own
}

// metadata returns the named part of the metadata, nil where it is missing.
func (s *Statement) metadata(part string) map[string]any {
	m, _ := s.claims["metadata"].(map[string]any)
	p, _ := m[part].(map[string]any)
	return p
}

// relyingParty and entity are the two parts of a service's metadata.
func (s *Statement) relyingParty() map[string]any { return s.metadata("openid_relying_party") }
func (s *Statement) entity() map[string]any       { return s.metadata("federation_entity") }

// text returns a member that is a text, "" otherwise.
func text(m map[string]any, name string) string {
	v, _ := m[name].(string)
	return v
}

// list returns a member that is a list of texts. A plain text counts as a list of one: published statements have that.
func list(m map[string]any, name string) []string {
	switch v := m[name].(type) {
	case string:
		return []string{v}
	case []any:
		out := make([]string, 0, len(v))
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// parseJWS takes a JWS in compact form apart; what it is called in findings.
func parseJWS(b []byte, source, what string) (raw string, header, payload map[string]any, found Findings) {
	fail := func(code Code, what, fix string) {
		found = append(found, Finding{Code: code, Severity: Error, Source: source, What: what, Fix: fix})
	}
	form := what + " is three parts of base64url without padding, joined by dots, and nothing else"
	if len(b) > MaxStatement {
		fail("ES-JWS", fmt.Sprintf("longer than %d octets", MaxStatement), form)
		return "", nil, nil, found
	}
	raw = strings.TrimRight(string(b), "\r\n")
	parts := strings.Split(raw, ".")
	switch t := strings.TrimSpace(raw); {
	case strings.HasPrefix(t, "<"):
		fail("ES-JWS", "this is a page (HTML or XML), not "+what, "look at the address in a browser: a login, a bot check or an error page stands in front of the service")
	case strings.HasPrefix(t, "{"), strings.HasPrefix(t, "["), strings.HasPrefix(t, "-----BEGIN"):
		fail("ES-JWS", "this is JSON or PEM, not "+what, form)
	case strings.ContainsAny(raw, "\r\n"): // the decoder would skip them
		fail("ES-JWS", "line ends stand inside", form)
	case len(parts) != 3:
		fail("ES-JWS", fmt.Sprintf("%d parts joined by dots", len(parts)), form)
	}
	if found != nil {
		return raw, nil, nil, found
	}
	for i, to := range []*map[string]any{&header, &payload} {
		part := []string{"header", "payload"}[i]
		d, err := base64.RawURLEncoding.Strict().DecodeString(parts[i])
		if err != nil {
			fail("ES-JWS", fmt.Sprintf("the %s is not base64url without padding: %v", part, err), form)
			// Padding is a slip; an algorithm that is none is not, and must be said before somebody removes the padding.
			d, _ = base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[0], "="))
			if h, err := parseObject(d); err == nil && text(h, "alg") != algorithm {
				found = append(found, wrongAlgorithm(text(h, "alg")).At(source, 0, "")...)
			}
			return raw, nil, nil, found
		}
		if *to, err = parseObject(d); err != nil {
			fail("ES-JWS", fmt.Sprintf("the %s is not a JSON object: %v", part, err), "each member once, no text after the object")
			return raw, nil, nil, found
		}
	}
	return raw, header, payload, nil
}

func wrongAlgorithm(alg string) Findings {
	return Findings{{Code: "ES-ALG", Severity: Error, Field: "header.alg", What: fmt.Sprintf("alg is %q", alg), Fix: "sign with " + algorithm + "; a statement without a signature is worth nothing"}}
}

// ParseStatement reads a statement in compact form. It is nil where the text is none; the findings then say why.
func ParseStatement(b []byte, source string) (*Statement, Findings) {
	if holdsPrivateKey(b) {
		return nil, Findings{{Code: "REG-KEY-PRIVAT", Severity: Error, Source: source, What: "this is a PRIVATE key, neither a form nor a statement", // and nothing of it is repeated
			Fix: "name the registration XML or the Entity Statement; if this file was published, sent or copied, make a new key at once"}}
	}
	raw, header, payload, found := parseJWS(b, source, "an Entity Statement")
	if found != nil {
		return nil, found
	}
	s := &Statement{raw: raw, claims: payload, Typ: text(header, "typ"), Alg: text(header, "alg"), KID: text(header, "kid")}
	_, inHeader := header["crit"]
	_, inPayload := payload["crit"]
	s.Crit = inHeader || inPayload
	s.Issuer, s.Subject = text(payload, "iss"), text(payload, "sub")
	for name, to := range map[string]*time.Time{"iat": &s.IssuedAt, "exp": &s.Expires} {
		var ok bool
		if *to, ok = instant(payload, name); !ok {
			s.missing = append(s.missing, name)
		}
	}
	for name, v := range map[string]string{"iss": s.Issuer, "sub": s.Subject} {
		if v == "" {
			s.missing = append(s.missing, name)
		}
	}
	s.Hints = list(payload, "authority_hints")
	if _, ok := payload["metadata"].(map[string]any); !ok {
		s.missing = append(s.missing, "metadata")
	}
	if s.Keys, s.keysErr = parseKeys(payload["jwks"]); s.keysErr != nil {
		s.missing = append(s.missing, "jwks")
	}
	slices.Sort(s.missing)
	return s, nil
}

// maxNesting bounds the depth of JSON.
const maxNesting = 16

// parseObject reads one JSON object in which no member stands twice.
func parseObject(b []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, err := parseValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows it")
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("it is another value")
	}
	return m, nil
}

func parseValue(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth++; depth > maxNesting {
		return nil, fmt.Errorf("nested deeper than %d", maxNesting)
	}
	if delim == '[' {
		a := []any{}
		for d.More() {
			v, err := parseValue(d, depth)
			if err != nil {
				return nil, err
			}
			a = append(a, v)
		}
		_, err := d.Token()
		return a, err
	}
	m := map[string]any{}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := k.(string)
		if !ok {
			return nil, fmt.Errorf("a member without a name")
		}
		if _, ok := m[name]; ok {
			return nil, fmt.Errorf("member %q stands there twice", name)
		}
		if m[name], err = parseValue(d, depth); err != nil {
			return nil, err
		}
	}
	_, err = d.Token()
	return m, err
}

// maxKeys bounds a key set.
const maxKeys = 100

// errNoKeys is returned for a key set that is not there or holds nothing.
var errNoKeys = errors.New("the key set is missing or empty")

// parseKeys reads a JSON Web Key Set from a parsed value. The names of members are compared exactly: what another reader could
// take for kid or x must not pass beside the real one.
func parseKeys(v any) ([]jwk, error) {
	set, _ := v.(map[string]any)
	if err := exactNames(set, "keys"); err != nil {
		return nil, err
	}
	entries, _ := set["keys"].([]any)
	switch n := len(entries); {
	case n == 0:
		return nil, errNoKeys
	case n > maxKeys:
		return nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	keys := make([]jwk, len(entries))
	for i, e := range entries {
		m, ok := e.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("keys[%d] is %s, not an object", i, kindOf(e))
		}
		k := &keys[i]
		members := map[string]*string{"kty": &k.KTY, "crv": &k.CRV, "use": &k.Use, "kid": &k.KID, "alg": &k.Alg, "x": &k.X, "y": &k.Y}
		if err := exactNames(m, append(slices.Sorted(maps.Keys(members)), "x5c", "d", "k")...); err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
		for name, to := range members {
			v, given := m[name]
			if *to, ok = v.(string); given && !ok {
				return nil, fmt.Errorf("keys[%d]: %s is %s, not a text", i, name, kindOf(v))
			}
		}
		if v, given := m["x5c"]; given {
			if !isTexts(v) {
				return nil, fmt.Errorf("keys[%d]: x5c is not a list of texts", i)
			}
			k.X5C = list(m, "x5c")
		}
		k.private = isPrivateJWK(m)
	}
	return keys, nil
}

// exactNames is an error where a member has one of the names in other letters.
func exactNames(m map[string]any, names ...string) error {
	for _, got := range slices.Sorted(maps.Keys(m)) {
		for _, name := range names {
			if got != name && strings.EqualFold(got, name) {
				return fmt.Errorf("member %q: it is written %q", got, name)
			}
		}
	}
	return nil
}

// isPrivateJWK says whether a key holds the private part of an elliptic-curve, RSA or symmetric key.
func isPrivateJWK(m map[string]any) bool { return m["d"] != nil || m["k"] != nil }

// keyByID returns the key of the set with this kid.
func keyByID(keys []jwk, kid string) (jwk, bool) {
	i := slices.IndexFunc(keys, func(k jwk) bool { return k.KID == kid })
	if i < 0 {
		return jwk{}, false
	}
	return keys[i], true
}

// verify checks the signature with a key.
func (s *Statement) verify(key *ecdsa.PublicKey) error {
	sig, err := jose.ParseSignedCompact(s.raw, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return err
	}
	_, err = sig.Verify(key)
	return err
}

// StatementOptions say how a statement is judged.
type StatementOptions struct {
	Source string
	Now    time.Time
	// URL is where it was found, "" where unknown.
	URL string
	// SignedBy are the keys of the Federation Master: the statement is one about a subordinate and is checked with them. Nil
	// means a statement of a service about itself.
	SignedBy []jwk
}

// value is what a rule demands of a member of the metadata.
type value struct {
	Name     string
	Want     any // string: exactly; []string: contains; true: exactly; nil: anything of the kind
	Array    bool
	Lenient  bool // a text instead of a list of one is odd, not wrong: published statements have that
	Optional bool
	Why      string
}

// relyingPartyRules are the members of metadata.openid_relying_party that sectoral IdPs look at.
var relyingPartyRules = []value{
	{Name: "organization_name", Why: "it is compared with organisationsname of the registration"},
	{Name: "client_name", Why: "it is compared with fachdienstname of the registration"},
	{Name: "redirect_uris", Array: true, Why: "it is compared with redirect_uris of the registration"},
	{Name: "response_types", Want: []string{"code"}, Array: true, Why: "the authorization code flow is the only one"},
	{Name: "client_registration_types", Want: []string{"automatic"}, Array: true, Why: "IdPs refuse a statement without it"},
	{Name: "grant_types", Want: []string{"authorization_code"}, Array: true, Why: "the authorization code flow is the only one"},
	{Name: "require_pushed_authorization_requests", Want: true, Why: "pushed authorization requests are mandatory"},
	{Name: "token_endpoint_auth_method", Want: "self_signed_tls_client_auth", Why: "IdPs refuse a statement without it; private_key_jwt is outdated"},
	{Name: "default_acr_values", Array: true, Lenient: true, Why: "IdPs refuse a statement without it; gematik-ehealth-loa-high or gematik-ehealth-loa-substantial"},
	{Name: "id_token_signed_response_alg", Want: "ES256", Why: "the ID token is signed with it"},
	{Name: "id_token_encrypted_response_alg", Want: "ECDH-ES", Why: "the ID token is encrypted with it"},
	{Name: "id_token_encrypted_response_enc", Want: "A256GCM", Why: "the ID token is encrypted with it"},
	{Name: "scope", Why: "it is compared with scopes of the registration"},
	{Name: "claims", Array: true, Optional: true},
}

// entityRules are the members of metadata.federation_entity.
var entityRules = []value{
	{Name: "name", Why: "it is compared with fachdienstname of the registration"},
	{Name: "contacts", Array: true, Lenient: true, Optional: true},
}

// check judges a member.
func (v value) check(m map[string]any, part string) (found []Finding) {
	field := "metadata." + part + "." + v.Name
	add := func(sev Severity, what, fix string) {
		found = append(found, Finding{Code: "ES-RP-WERT", Severity: sev, Field: field, What: what, Fix: fix})
	}
	got, ok := m[v.Name]
	switch {
	case !ok && v.Optional:
		return nil
	case !ok:
		add(Error, "the member is missing", "add it: "+v.Why)
		return found
	}
	switch want := v.Want.(type) {
	case string:
		if got != want {
			add(Error, "the value is "+bounded(fmt.Sprint(got)), fmt.Sprintf("set it to %q: %s", want, v.Why))
		}
	case bool:
		if got != want {
			add(Error, "the value is "+bounded(fmt.Sprint(got)), fmt.Sprintf("set it to %v: %s", want, v.Why))
		}
	default:
		isList := isTexts(got)
		_, isText := got.(string)
		switch {
		case v.Array && v.Lenient && isText:
			add(Warning, "the value is a text, not a list", "write it as a list of one: some IdPs refuse the text")
		case v.Array && !isList, !v.Array && !isText:
			add(Error, fmt.Sprintf("the value is of the wrong kind: %s", kindOf(got)), "write a "+map[bool]string{true: "list of texts", false: "text"}[v.Array])
			return found
		}
		for _, w := range append([]string{}, asStrings(want)...) {
			if !slices.Contains(list(m, v.Name), w) {
				add(Error, fmt.Sprintf("%q is missing", w), v.Why)
			}
		}
		if !v.Array && got == "" {
			add(Error, "the value is empty", v.Why)
		}
	}
	return found
}

// isTexts says whether a value is a list of texts.
func isTexts(v any) bool {
	l, ok := v.([]any)
	return ok && !slices.ContainsFunc(l, func(e any) bool { _, ok := e.(string); return !ok })
}

// kindOf is the word of JSON for a value.
func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a text"
	case []any:
		return "a list that holds other than texts"
	case map[string]any:
		return "an object"
	case nil:
		return "null"
	}
	return fmt.Sprintf("%v", v)
}

func asStrings(v any) []string {
	s, _ := v.([]string)
	return s
}

// CheckStatement returns every violation of the rules for an Entity Statement, in the order in which OpenID Federation
// validates.
func CheckStatement(s *Statement, o StatementOptions) (found Findings) {
	add := func(sev Severity, code Code, field, what, fix string) {
		found = append(found, Finding{Code: code, Severity: sev, Source: o.Source, Field: field, What: what, Fix: fix})
	}
	self := o.SignedBy == nil
	if self && s.Subordinate() {
		by := "what a Federation Master"
		for _, e := range environments {
			if e.Master() == s.Issuer {
				by = "what the Federation Master of " + string(e)
			}
		}
		add(Error, "ES-ISS-SUB", "sub", fmt.Sprintf("this is %s says about a service (%q about %q), not the service's own statement", by, s.Issuer, s.Subject),
			"check the service's own one: its address + "+WellKnown+"; `adv-server federation watch` fetches this one, verifies it with the pinned keys and compares it with the registration")
		return found
	}
	if self && s.claims["keys"] != nil && s.claims["jwks"] == nil && s.claims["metadata"] == nil {
		add(Error, "ES-TYP", "keys", "this is a signed key set, what stands behind signed_jwks_uri, not an Entity Statement", "check the service's address: the key set is then fetched and judged together with the statement")
		return found
	}
	if s.Typ != statementType {
		add(Error, "ES-TYP", "header.typ", fmt.Sprintf("typ is %q", s.Typ), "set it to "+statementType)
	}
	if s.Alg != algorithm {
		found = append(found, wrongAlgorithm(s.Alg).At(o.Source, 0, "")...)
	}
	for _, name := range s.missing {
		if name == "jwks" {
			add(Error, "ES-JWKS", "jwks", s.keysErr.Error(), "publish the signing keys in jwks.keys")
			continue
		}
		add(Error, "ES-CLAIM-FEHLT", name, fmt.Sprintf("%s is missing or of the wrong kind", name), "add it; iat and exp are seconds since 1970")
	}
	switch same := s.Issuer == s.Subject; {
	case self && !same:
		add(Error, "ES-ISS-SUB", "sub", fmt.Sprintf("iss is %q, sub is %q", s.Issuer, s.Subject), "a service speaks about itself: both are its address")
	case !self && same:
		add(Error, "ES-ISS-SUB", "sub", "iss and sub are equal", "a statement about a subordinate names another subject: ask the fetch endpoint, not the well-known address")
	}
	if self && s.Issuer != "" {
		_, wrong := checkServiceURI(s.Issuer)
		for _, f := range wrong {
			add(f.Severity, "ES-ISS-URI", "iss", fmt.Sprintf("%q: %s", s.Issuer, f.What), f.Fix)
		}
	}
	if o.URL != "" && self && o.URL != strings.TrimSuffix(s.Issuer, "/")+WellKnown {
		add(Error, "ES-ISS-URL", "iss", fmt.Sprintf("iss is %q, the statement was found at %s", s.Issuer, o.URL), "publish it at iss + "+WellKnown)
	}
	if !s.IssuedAt.IsZero() && s.IssuedAt.After(o.Now.Add(leeway)) {
		add(Error, "ES-IAT", "iat", fmt.Sprintf("issued in the future, %s", stamp(s.IssuedAt)), "set the clocks, here and of the service")
	}
	if !s.Expires.IsZero() && !s.Expires.After(o.Now) {
		add(Error, "ES-EXP", "exp", fmt.Sprintf("expired on %s", stamp(s.Expires)), "publish a fresh one: the service signs it anew before it expires")
	}
	if !s.IssuedAt.IsZero() && !s.Expires.IsZero() {
		switch d := s.Expires.Sub(s.IssuedAt); {
		case d > MaxLifetime:
			add(Error, "ES-DAUER", "exp", fmt.Sprintf("valid for %s", d), "at most 24 hours (A_23034)")
		case d <= 0:
			add(Error, "ES-DAUER", "exp", "exp is not after iat", "set exp after iat, at most 24 hours")
		}
	}
	found = append(found, s.checkKeys(o, self)...)
	if s.Crit {
		add(Error, "ES-CRIT", "crit", "critical members are named", "leave crit out: nobody understands what is named there")
	}
	if self {
		found = append(found, s.checkHints(o)...)
		for _, name := range []string{"metadata_policy", "constraints"} {
			if _, ok := s.claims[name]; ok {
				add(Error, "ES-META", name, name+" stands in a statement of the service about itself", "remove it: only a superior sets it")
			}
		}
	}
	meta, given := s.claims["metadata"]
	if path := findNull(meta, "metadata"); given && path != "" {
		add(Error, "ES-META", path, "the value is null", "leave members without a value out")
	}
	if self && !slices.Contains(s.missing, "metadata") {
		found = append(found, s.checkMetadata(o)...)
	}
	return found
}

// checkKeys judges the key set and the signature.
func (s *Statement) checkKeys(o StatementOptions, self bool) (found Findings) {
	add := func(sev Severity, code Code, field, what, fix string) {
		found = append(found, Finding{Code: code, Severity: sev, Source: o.Source, Field: field, What: what, Fix: fix})
	}
	for i, k := range s.Keys {
		field := fmt.Sprintf("jwks.keys[%d]", i)
		if _, err := k.public(); err != nil {
			add(Error, "ES-JWKS", field, err.Error(), "use EC keys on P-256 (A_23196)")
		}
		if k.KID == "" {
			add(Error, "ES-JWKS", field, "the key has no kid", "give each key a kid")
		} else if o, _ := keyByID(s.Keys, k.KID); o.X != k.X || o.Y != k.Y {
			add(Error, "ES-JWKS", field, fmt.Sprintf("kid %q names two keys", k.KID), "give each key a kid of its own")
		}
		if k.private {
			add(Error, "ES-KEY-PRIVAT", field, "this is a PRIVATE key, and it is published", "take the statement off the net at once; make a new key, for this one is disclosed")
		}
		if k.Alg != "" && k.Alg != algorithm {
			add(Error, "ES-JWKS", field, fmt.Sprintf("alg is %q", k.Alg), "leave it out, or set it to "+algorithm)
		}
		if self && k.KID != "" {
			found = append(found, Findings(checkKID("ES", k.KID)).At(o.Source, 0, field)...)
		}
		if k.Use != "sig" {
			add(Warning, "ES-JWKS", field, fmt.Sprintf("use is %q", k.Use), "set it to sig: the set holds the keys for statements")
		}
	}
	signers := s.Keys
	where := "jwks of the statement"
	if !self {
		signers, where = o.SignedBy, "keys of the Federation Master"
	}
	if s.KID == "" {
		add(Error, "ES-KID-HEADER", "header.kid", "the header names no key", "set kid to that of the signing key")
		return found
	}
	k, ok := keyByID(signers, s.KID)
	if !ok {
		add(Error, "ES-KID-HEADER", "header.kid", fmt.Sprintf("kid %q is not among the %s", s.KID, where), "publish the key, or sign with a published one")
		return found
	}
	key, err := k.public()
	if err != nil || s.Alg != algorithm {
		return found // said above
	}
	if err := s.verify(key); err != nil {
		add(Error, "ES-SIG", "signature", fmt.Sprintf("the signature does not verify with key %q", s.KID), "sign with the private key that belongs to the published one, and change nothing afterwards")
	}
	return found
}

// checkHints judges authority_hints.
func (s *Statement) checkHints(o StatementOptions) (found Findings) {
	add := func(what, fix string) {
		found = append(found, Finding{Code: "ES-HINTS", Severity: Error, Source: o.Source, Field: "authority_hints", What: what, Fix: fix})
	}
	hints, given := s.claims["authority_hints"]
	switch {
	case given && !isTexts(hints):
		add("the value is "+kindOf(hints), "write it as a list of one text")
	case len(s.Hints) == 0:
		add("the list is missing or empty", "name the Federation Master of the environment")
	case len(s.Hints) > 1:
		add(fmt.Sprintf("%d entries", len(s.Hints)), "name one Federation Master; each environment has a service of its own")
	case !slices.ContainsFunc(environments, func(e Environment) bool { return e.Master() == s.Hints[0] }):
		add(fmt.Sprintf("%q is no Federation Master", s.Hints[0]), "name one of "+strings.Join([]string{RU.Master(), TU.Master(), PU.Master()}, ", "))
	}
	return found
}

// checkMetadata judges the metadata of a service.
func (s *Statement) checkMetadata(o StatementOptions) (found Findings) {
	add := func(sev Severity, code Code, field, what, fix string) {
		found = append(found, Finding{Code: code, Severity: sev, Field: field, What: what, Fix: fix})
	}
	rp, fe := s.relyingParty(), s.entity()
	if rp == nil {
		add(Error, "ES-RP-FEHLT", "metadata.openid_relying_party", "the statement is not one of a Fachdienst", "publish the metadata of the relying party; a sectoral IdP has another form of registration")
	}
	if fe == nil {
		add(Error, "ES-META", "metadata.federation_entity", "the part is missing", "add it with name: the registration compares it")
	}
	meta, _ := s.claims["metadata"].(map[string]any)
	for name := range meta {
		if name != "openid_relying_party" && name != "federation_entity" {
			add(Error, "ES-META", "metadata."+name, "a part that does not belong to a Fachdienst", "publish openid_relying_party and federation_entity only")
		}
	}
	if rp != nil {
		for _, r := range relyingPartyRules {
			found = append(found, r.check(rp, "openid_relying_party")...)
		}
		found = append(found, checkValues(rp)...)
		found = append(found, s.checkClientKeys(rp, o.Now)...)
	}
	if fe != nil {
		for _, r := range entityRules {
			found = append(found, r.check(fe, "federation_entity")...)
		}
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return strings.Compare(a.Field, b.Field) })
	return found.At(o.Source, 0, "")
}

// checkValues judges what will stand in the registration, before the office does: it would refuse the form.
func checkValues(rp map[string]any) (found []Finding) {
	take := func(name string, wrong []Finding) {
		for _, f := range wrong {
			if f.Code != "REG-STIL" && f.Code != "REG-CLAIM-UNBEKANNT" { // a choice, said of the form
				f.Code, f.Field = "ES-RP-WERT", "metadata.openid_relying_party."+name
				found = append(found, f)
			}
		}
	}
	for _, n := range []string{"organization_name", "client_name"} {
		if v := text(rp, n); v != "" {
			take(n, checkName("NAME")(ruleContext{}, v))
		}
	}
	if v := text(rp, "scope"); v != "" {
		take("scope", checkScopes(strings.Fields(v), nil))
	}
	if v, ok := rp["redirect_uris"]; ok && isTexts(v) {
		take("redirect_uris", checkRedirects(list(rp, "redirect_uris"), nil))
	}
	if v, ok := rp["claims"]; ok && isTexts(v) {
		take("claims", checkClaims(list(rp, "claims"), nil, nil))
	}
	features, _ := rp["ti_features_supported"].(map[string]any)
	if len(list(features, "id_token_version_supported")) == 0 {
		found = append(found, Finding{Code: "ES-RP-WERT", Severity: Info, Field: "metadata.openid_relying_party.ti_features_supported",
			What: "id_token_version_supported is not given", Fix: `newer IdPs look at it: add {"id_token_version_supported": ["1.0.0", "2.0.0"]}, as far as the service can read them`})
	}
	return found
}

// clientCertificate is how long before its end the TLS client certificate is warned of.
const clientCertificate = RotateBefore

// checkClientKeys judges the keys for encryption and TLS, in jwks and behind signed_jwks_uri: an IdP may read either, so each set
// that is given has to do.
func (s *Statement) checkClientKeys(rp map[string]any, now time.Time) (found []Finding) {
	add := func(sev Severity, field, what, fix string) {
		found = append(found, Finding{Code: "ES-RP-WERT", Severity: sev, Field: "metadata.openid_relying_party." + field, What: what, Fix: fix})
	}
	set, given := rp["jwks"]
	address, elsewhere := rp["signed_jwks_uri"]
	if !given && !elsewhere {
		add(Error, "jwks", "neither jwks nor signed_jwks_uri is given", "publish the keys for ID token encryption and TLS")
	}
	if given {
		if keys, err := parseKeys(set); err != nil {
			add(Error, "jwks", err.Error(), "publish the keys for ID token encryption and TLS")
		} else {
			found = append(found, checkClientSet(keys, "jwks", now)...)
		}
	}
	if !elsewhere {
		return found
	}
	switch _, err := signedAddress(address); {
	case err != nil:
		add(Error, "signed_jwks_uri", err.Error(), "write https://host/path")
	case s.signed == nil:
		add(Warning, "signed_jwks_uri", "the keys for ID token encryption and TLS behind this address were not looked at",
			"check the statement at its address, not offline: the key set is then fetched, verified and judged")
	case s.signed.keys != nil:
		found = append(found, checkClientSet(s.signed.keys, "signed_jwks_uri", now)...)
	}
	return found
}

// checkClientSet judges one set of client keys.
func checkClientSet(keys []jwk, place string, now time.Time) (found []Finding) {
	const rp = "metadata.openid_relying_party."
	add := func(sev Severity, field, what, fix string) {
		found = append(found, Finding{Code: "ES-RP-WERT", Severity: sev, Field: rp + field, What: what, Fix: fix})
	}
	enc, tls := 0, 0
	for i, k := range keys {
		field := fmt.Sprintf("%s.keys[%d]", place, i)
		if _, err := k.public(); err != nil {
			add(Error, field, err.Error(), "use EC keys on P-256 (A_23196)")
		}
		if k.private {
			found = append(found, Finding{Code: "ES-KEY-PRIVAT", Severity: Error, Field: rp + field,
				What: "this is a PRIVATE key, and it is published", Fix: "take the statement off the net at once; make a new key, for this one is disclosed"})
		}
		switch {
		case k.Use == "enc":
			enc++
		case k.Use == "sig" && k.X5C != nil && len(k.X5C) != 1:
			add(Error, field, fmt.Sprintf("x5c has %d certificates", len(k.X5C)), "exactly one: the TLS client certificate (A_23183)")
		case k.Use == "sig" && len(k.X5C) == 1:
			tls++
			cert, err := k.certificate()
			switch {
			case err != nil:
				add(Error, field, err.Error(), "put the TLS client certificate of this key there, DER in base64 (A_23183)")
			case !now.Before(cert.NotAfter):
				add(Error, field, "the TLS client certificate expired on "+stamp(cert.NotAfter), clientFix)
			case now.Before(cert.NotBefore):
				add(Error, field, "the TLS client certificate is valid only from "+stamp(cert.NotBefore), "set the clocks, or wait")
			case cert.NotAfter.Sub(now) < clientCertificate:
				add(Warning, field, "the TLS client certificate ends on "+stamp(cert.NotAfter), clientFix)
			}
		}
	}
	if enc == 0 {
		add(Error, place, "no key with use enc", "publish one: the ID token is encrypted for it (A_23194)")
	}
	if tls == 0 {
		add(Error, place, "no key with use sig and the TLS client certificate in x5c", "publish one (A_23183)")
	}
	return found
}

const clientFix = "make a new one with `adv-server federation keys new-client`; IdPs see it when they fetch the statement anew"

// certificate reads the one in x5c, which must be of the key.
func (k jwk) certificate() (*x509.Certificate, error) {
	der, err := base64.StdEncoding.DecodeString(k.X5C[0])
	if err != nil {
		return nil, errors.New("x5c is not base64")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, errors.New("x5c holds no certificate")
	}
	pub, err := k.public()
	if err == nil && !pub.Equal(cert.PublicKey) {
		err = errors.New("the certificate in x5c is of another key")
	}
	return cert, err
}

// clientEnd is when the first TLS client certificate of the statement ends, zero where it has none.
func (s *Statement) clientEnd() (end time.Time) {
	for _, k := range s.clientKeys() {
		if len(k.X5C) != 1 {
			continue
		}
		if c, err := k.certificate(); err == nil && (end.IsZero() || c.NotAfter.Before(end)) {
			end = c.NotAfter
		}
	}
	return end
}

// clientKeys are the keys for encryption and TLS, as far as they can be read.
func (s *Statement) clientKeys() []jwk {
	keys, _ := parseKeys(s.relyingParty()["jwks"]) // what cannot be read was said by CheckStatement
	if s.signed != nil {
		keys = append(keys, s.signed.keys...)
	}
	return keys
}

// findNull returns the path of a null in v, "" where there is none.
func findNull(v any, path string) string {
	switch v := v.(type) {
	case nil:
		return path
	case map[string]any:
		names := make([]string, 0, len(v))
		for n := range v {
			names = append(names, n)
		}
		slices.Sort(names)
		for _, n := range names {
			if p := findNull(v[n], path+"."+n); p != "" {
				return p
			}
		}
	case []any:
		for i, e := range v {
			if p := findNull(e, fmt.Sprintf("%s[%d]", path, i)); p != "" {
				return p
			}
		}
	}
	return ""
}

// stamp writes an instant for people.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
