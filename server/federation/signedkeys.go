package federation

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// signedKeys is what was found behind signed_jwks_uri; keys is nil where nothing there is to be trusted.
type signedKeys struct{ keys []jwk }

// signedTypes are the types a signed key set may have in its header: the two that published ones have, and that of OpenID
// Federation.
var signedTypes = []string{"JWT", "jwk-set+json", "jwk-set+jwt"}

// signedAddress reads the member signed_jwks_uri.
func signedAddress(v any) (string, error) {
	address, _ := v.(string)
	u, err := parseJavaURI(address)
	if err != nil {
		return "", fmt.Errorf("%q: %w", bounded(address), err)
	}
	if u.scheme != "https" || u.host == "" || u.hasFragment || u.user || badPort(u) {
		return "", fmt.Errorf("%q is not an absolute https address without user and fragment", bounded(address))
	}
	return address, nil
}

// FetchSignedKeys gets the key set behind signed_jwks_uri, which stands for jwks, verifies it with the keys of the statement and
// keeps it for [CheckStatement]. It does nothing where the statement names no such address. header is sent to the host of the
// service only.
func (s *Statement) FetchSignedKeys(ctx context.Context, client Doer, header http.Header, now time.Time) Findings {
	address, err := signedAddress(s.relyingParty()["signed_jwks_uri"])
	if err != nil { // CheckStatement says so
		return nil
	}
	service, err1 := url.Parse(s.Issuer)
	if u, err2 := url.Parse(address); err1 != nil || err2 != nil || service.Scheme != u.Scheme || service.Host != u.Host {
		header = nil
	}
	s.signed = &signedKeys{}
	doc, found := fetch(ctx, client, header, address, "")
	if doc.body == nil {
		return found
	}
	s.signed.keys, found = s.parseSignedKeys(doc.body, address, now)
	return found
}

// parseSignedKeys reads and verifies a signed key set.
func (s *Statement) parseSignedKeys(b []byte, source string, now time.Time) ([]jwk, Findings) {
	raw, header, payload, found := parseJWS(b, source, "a signed key set")
	add := func(field, what, fix string) {
		found = append(found, Finding{Code: "ES-JWKS-URI", Severity: Error, Source: source, Field: field, What: what, Fix: fix})
	}
	if found != nil {
		return nil, found
	}
	if typ := text(header, "typ"); !slices.Contains(signedTypes, typ) {
		add("header.typ", fmt.Sprintf("typ is %q", typ), fmt.Sprintf("set it to one of %v", signedTypes))
	}
	_, inHeader := header["crit"]
	_, inPayload := payload["crit"]
	if inHeader || inPayload {
		add("crit", "critical members are named", "leave crit out: nobody understands what is named there")
	}
	kid, alg := text(header, "kid"), text(header, "alg")
	k, known := keyByID(s.Keys, kid)
	key, err := k.public()
	switch {
	case alg != algorithm:
		add("header.alg", fmt.Sprintf("alg is %q", alg), "sign with "+algorithm)
	case kid == "" || !known:
		add("header.kid", fmt.Sprintf("kid %q is not among the jwks of the statement", kid), "sign the key set with a key that the statement publishes")
	case err != nil: // said of the statement
		add("header.kid", fmt.Sprintf("key %q of the statement cannot verify: %v", kid, err), "sign the key set with a good key of the statement")
	case (&Statement{raw: raw}).verify(key) != nil:
		add("signature", fmt.Sprintf("the signature does not verify with key %q of the statement", kid), "sign it with the private key that belongs to the published one")
	}
	if iss := text(payload, "iss"); iss != s.Issuer {
		add("iss", fmt.Sprintf("iss is %q, the statement's is %q", iss, s.Issuer), "the service itself signs its key set")
	}
	if sub, given := payload["sub"]; given && sub != s.Issuer {
		add("sub", fmt.Sprintf("sub is %s, the service is %q", bounded(fmt.Sprint(sub)), s.Issuer), "the key set is that of the service")
	}
	iat, ok := instant(payload, "iat")
	switch {
	case !ok:
		add("iat", "iat is missing or of the wrong kind", "add it: seconds since 1970")
	case iat.After(now.Add(leeway)):
		add("iat", "issued in the future, "+stamp(iat), "set the clocks, here and of the service")
	}
	if _, given := payload["exp"]; given {
		if exp, ok := instant(payload, "exp"); !ok || !exp.After(now) {
			add("exp", "the key set has expired, or exp is no time", "publish a fresh one")
		}
	}
	keys, err := parseKeys(map[string]any{"keys": payload["keys"]})
	if err == nil {
		err = exactNames(payload, "keys")
	}
	if err != nil {
		add("keys", err.Error(), "publish the keys for ID token encryption and TLS")
	}
	if len(found) > 0 { // nothing in it is to be trusted
		return nil, found
	}
	return keys, nil
}

// instant reads a member that is a time in seconds since 1970.
func instant(m map[string]any, name string) (time.Time, bool) {
	n, ok := m[name].(json.Number)
	if !ok {
		return time.Time{}, false
	}
	v, err := n.Float64()
	if err != nil || v <= 0 || v >= 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(v), 0), true
}

// Inspection says how a service's statement is judged.
type Inspection struct {
	Client Doer
	Header http.Header // to the service only
	Now    time.Time
	// Offline leaves the key set behind signed_jwks_uri alone: CheckStatement then says that it was not looked at.
	Offline bool
}

// Inspect gets the live statement of a service and judges it with all that it points to. The statement is nil where there is
// none.
func Inspect(ctx context.Context, service string, o Inspection) (*Statement, string, Findings) {
	s, address, found := FetchStatement(ctx, o.Client, o.Header, service)
	if s == nil {
		return nil, address, found
	}
	if !o.Offline && !s.Subordinate() {
		found = append(found, s.FetchSignedKeys(ctx, o.Client, o.Header, o.Now)...)
	}
	return s, address, append(found, CheckStatement(s, StatementOptions{Source: address, Now: o.Now, URL: address})...)
}
