package federation

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"

	"ktradv/server/keystore"
)

// ContentType of an Entity Statement.
const ContentType = "application/entity-statement+jwt"

// Build makes and signs the statement of the service. clientKeys are those for ID token encryption and TLS.
func Build(c Config, keys *Keys, store keystore.Store, clientKeys []jwk, now time.Time) (string, error) {
	current, err := keys.Current(now)
	if err != nil {
		return "", err
	}
	signer, err := store.Open(current.Public.KID)
	if err != nil {
		return "", err
	}
	if pub, err := current.Public.public(); err != nil || !pub.Equal(signer.Public()) {
		return "", fmt.Errorf("the key store holds another key %s than %s says; next: bring the right files back", current.Public.KID, keysFile)
	}
	var published []jwk
	for _, k := range keys.Published(now) {
		published = append(published, k.Public)
	}
	type set struct {
		Keys []jwk `json:"keys"`
	}
	rp := map[string]any{
		"organization_name": c.OrganisationName, "client_name": c.ServiceName, "redirect_uris": c.RedirectURIs,
		"response_types": []string{"code"}, "client_registration_types": []string{"automatic"}, "grant_types": []string{"authorization_code"},
		"require_pushed_authorization_requests": true, "token_endpoint_auth_method": "self_signed_tls_client_auth",
		"default_acr_values": c.ACR, "id_token_signed_response_alg": algorithm,
		"id_token_encrypted_response_alg": "ECDH-ES", "id_token_encrypted_response_enc": "A256GCM",
		"scope": strings.Join(c.Scopes, " "), "jwks": set{clientKeys},
		"ti_features_supported": map[string]any{"id_token_version_supported": c.IDTokenVersions},
	}
	fe := map[string]any{"name": c.ServiceName, "organization_name": c.OrganisationName}
	if c.Homepage != "" {
		fe["homepage_uri"] = c.Homepage
	}
	if c.Logo != "" {
		rp["logo_uri"] = c.Logo
	}
	if len(c.Claims) > 0 {
		rp["claims"] = c.Claims
	}
	if len(c.Contacts) > 0 {
		fe["contacts"] = c.Contacts
	}
	claims, err := json.Marshal(map[string]any{
		"iss": c.Service, "sub": c.Service, "iat": now.Unix(), "exp": now.Add(time.Duration(c.Lifetime)).Unix(),
		"jwks": set{published}, "authority_hints": []string{c.Environment.Master()},
		"metadata": map[string]any{"openid_relying_party": rp, "federation_entity": fe},
	})
	if err != nil {
		return "", fmt.Errorf("write Entity Statement: %w", err)
	}
	return sign(signer, current.Public.KID, claims)
}

func sign(signer crypto.Signer, kid string, claims []byte) (string, error) {
	key := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: cryptosigner.Opaque(signer), KeyID: kid}}
	s, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType(statementType))
	if err != nil {
		return "", fmt.Errorf("sign Entity Statement: %w", err)
	}
	sig, err := s.Sign(claims)
	if err != nil {
		return "", fmt.Errorf("sign Entity Statement: %w", err)
	}
	return sig.CompactSerialize()
}

// ClientKeys reads the keys for ID token encryption and TLS that the configuration names.
func ClientKeys(c Config) ([]jwk, error) {
	der, err := readPEM(c.EncryptionKey, "PUBLIC KEY")
	if err != nil {
		return nil, fmt.Errorf("encryption_key: %w", err)
	}
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("encryption_key: %s: %w", c.EncryptionKey, err)
	}
	enc, err := publicJWK(pub, "enc")
	if err != nil {
		return nil, fmt.Errorf("encryption_key: %w", err)
	}
	enc.Use, enc.Alg = "enc", "ECDH-ES"
	if der, err = readPEM(c.TLSCertificate, "CERTIFICATE"); err != nil {
		return nil, fmt.Errorf("tls_certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("tls_certificate: %s: %w", c.TLSCertificate, err)
	}
	tls, err := publicJWK(cert.PublicKey, "tls")
	if err != nil {
		return nil, fmt.Errorf("tls_certificate: %w", err)
	}
	tls.X5C = []string{base64.StdEncoding.EncodeToString(cert.Raw)}
	for _, k := range []*jwk{&enc, &tls} { // the kid changes with the key
		k.KID += "-" + k.X[:12]
	}
	return []jwk{enc, tls}, nil
}

func readPEM(path, kind string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s does not begin with a PEM block %s", path, kind)
	}
	return block.Bytes, nil
}

// Service serves the statement under WellKnown and signs it anew when half of its time is over.
type Service struct {
	// Config, Store and Now are needed.
	Config Config
	Store  keystore.Store
	Now    func() time.Time
	// Failed is told what goes wrong at signing, and what will; nil leaves that out. The former statement is served while it is
	// valid.
	Failed func(error)

	signing sync.Mutex // held while a statement is signed
	tried   time.Time  // when that failed last

	mu     sync.Mutex // guards what follows
	token  string
	issued time.Time
}

// retry is how long after a failure the next attempt to sign is made: opening a key is slow by intention, and whoever asks for
// the statement must not be able to keep the machine busy with it.
const retry = time.Minute

// Statement returns the statement to serve now. It may be called from many goroutines: one signs, the others get the present
// statement while it is valid, and wait where there is none.
func (s *Service) Statement() (token string, left time.Duration, err error) {
	now := s.Now()
	token, left, due := s.present(now)
	if !due {
		return token, left, nil
	}
	if left > 0 {
		if !s.signing.TryLock() {
			return token, left, nil
		}
	} else {
		s.signing.Lock()
	}
	defer s.signing.Unlock()
	if token, left, due = s.present(now); !due { // another one has signed meanwhile
		return token, left, nil
	}
	err = fmt.Errorf("signing failed at %s, the next attempt is a minute later", stamp(s.tried))
	if since := now.Sub(s.tried); since >= retry || since < 0 {
		var fresh string
		if fresh, err = s.renew(now); err == nil {
			s.mu.Lock()
			s.token, s.issued = fresh, now
			s.mu.Unlock()
			s.tried = time.Time{}
			return fresh, time.Duration(s.Config.Lifetime), nil
		}
		s.tried = now
		s.tell(err)
	}
	if left <= 0 {
		return "", 0, fmt.Errorf("no valid Entity Statement: %w", err)
	}
	return token, left, nil
}

// present is the statement that was signed last, "" where it is not valid; due says that the next one is to be signed.
func (s *Service) present(now time.Time) (token string, left time.Duration, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	life := time.Duration(s.Config.Lifetime)
	left = s.issued.Add(life).Sub(now)
	if s.token == "" || left <= 0 {
		return "", 0, true
	}
	return s.token, left, left <= life/2 || now.Before(s.issued) // the clock was set back
}

func (s *Service) tell(err error) {
	if s.Failed != nil {
		s.Failed(err)
	}
}

// lookEvery is how often Run looks.
const lookEvery = 5 * time.Minute

// Run signs in time also while nobody asks, so that keys get their successors and failures are told before a login needs the
// statement. It returns when ctx ends.
func (s *Service) Run(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			_, _, _ = s.Statement() // Failed was told
		}
	}
}

// renew makes a successor of the signing key where one is due, and a statement.
func (s *Service) renew(now time.Time) (string, error) {
	keys, err := LoadKeys(s.Config.Keys) // a key may have been added or deposited since
	if err != nil {
		return "", err
	}
	if err := keys.Rotate(s.Store, now); err != nil {
		// The present key may still sign; where it may not, Build says so.
		s.tell(fmt.Errorf("successor of the signing key: %w", err))
	}
	for _, f := range keys.watch(now) {
		s.tell(fmt.Errorf("%s; next: %s", f.What, f.Fix))
	}
	client, err := ClientKeys(s.Config)
	if err != nil {
		return "", err
	}
	if noted, err := NoteClientKeys(s.Config, now); err != nil {
		s.tell(fmt.Errorf("age of the key for ID tokens: %w", err)) // no reason not to sign
	} else {
		for _, f := range noted.watchClient(client, now) {
			s.tell(fmt.Errorf("%s; next: %s", f.What, f.Fix))
		}
	}
	return Build(s.Config, keys, s.Store, client, now)
}

// ServeHTTP answers WellKnown below the path of the service's address, and nothing else.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u, err := parseJavaURI(s.Config.Service)
	if err != nil || r.URL.EscapedPath() != strings.TrimSuffix(u.path, "/")+WellKnown {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	token, left, err := s.Statement()
	if err != nil {
		http.Error(w, "no valid Entity Statement at the moment", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", ContentType)
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(min(left, time.Duration(s.Config.Lifetime)/2).Seconds())))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodGet {
		_, _ = w.Write([]byte(token)) // a client that went away
	}
}
