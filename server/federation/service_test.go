package federation

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ktradv/server/keystore"
)

// memory is a key store for tests.
type memory struct {
	mu     sync.Mutex
	keys   map[string]*ecdsa.PrivateKey
	opened atomic.Int32
	err    error         // of the next openings
	wait   chan struct{} // an opening waits for it
}

func (m *memory) Create(name string, _ keystore.Kind) (crypto.Signer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if m.keys == nil {
		m.keys = map[string]*ecdsa.PrivateKey{}
	}
	m.keys[name] = k
	return k, err
}

func (m *memory) Open(name string) (crypto.Signer, error) {
	m.opened.Add(1)
	if m.wait != nil {
		<-m.wait
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	k, ok := m.keys[name]
	if !ok {
		return nil, keystore.ErrNotFound
	}
	return k, nil
}

var t0 = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// newService is a service in a folder of its own whose clock is now.
func newService(t *testing.T, now *time.Time) (*Service, *memory) {
	t.Helper()
	dir, store := t.TempDir(), &memory{}
	c, err := parseConfig([]byte(`{"environment":"TU","service":"https://adv.kasse.example/adv","organisation_name":"Kasse","service_name":"AdV Kasse","scopes":["openid"],
		"redirect_uris":["https://adv.kasse.example/cb"],"kind":"other","contact_email":"adv@kasse.example","assignment_group":"ORG-1234:BT-5678",
		"keys":"keys","tls_certificate":"tls.pem","encryption_key":"enc.pem","records":"records","master_keys":"master.jwks"}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Locate(dir)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: t0.Add(-time.Hour), NotAfter: t0.Add(3 * MaxKeyAge)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{c.EncryptionKey: {Type: "PUBLIC KEY", Bytes: spki}, c.TLSCertificate: {Type: "CERTIFICATE", Bytes: cert}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &Service{Config: c, Store: store, Now: func() time.Time { return *now }}, store
}

func signerOf(t *testing.T, token string, now time.Time) string {
	t.Helper()
	s, found := ParseStatement([]byte(token), "")
	if s == nil {
		t.Fatal(found)
	}
	if found := CheckStatement(s, StatementOptions{Now: now}); found.Worst() == Error {
		t.Fatalf("%s: %v", now, found)
	}
	return s.KID
}

// TestTwoYears: a service that runs for two years without anybody at the desk always has a valid statement, and a successor
// that the Federation Master comes to know signs in time; one that it never learns of signs only when nothing else may.
func TestTwoYears(t *testing.T) {
	t.Parallel()
	for name, deposited := range map[string]bool{"changes are sent": true, "changes are never sent": false} {
		now := t0
		s, _ := newService(t, &now)
		var told []string
		var client []string // of the key for ID tokens
		s.Failed = func(err error) {
			if strings.Contains(err.Error(), "ID tokens") {
				client = append(client, err.Error())
			} else {
				told = append(told, err.Error())
			}
		}
		var signers []string
		since := map[string]time.Time{}
		for ; now.Before(t0.Add(800 * 24 * time.Hour)); now = now.Add(13 * time.Hour) {
			token, left, err := s.Statement()
			if err != nil || left <= 0 {
				t.Fatalf("%s, %s: %v", name, now, err)
			}
			// Nobody makes the key for ID tokens anew: from 30 days before its end every signature says so (A_23185-01).
			if due := !now.Before(t0.Add(MaxKeyAge - RotateBefore)); (len(client) > 0) != due {
				t.Fatalf("%s, %s: told of the key for ID tokens: %v, due: %v", name, now, client, due)
			}
			client = nil
			kid := signerOf(t, token, now)
			if !slices.Contains(signers, kid) {
				signers = append(signers, kid)
				since[kid] = now
			}
			keys, err := LoadKeys(s.Config.Keys)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range keys.list {
				if k.Public.KID == kid && !now.Before(k.Ends()) {
					t.Fatalf("%s: %s signs on %s, it ended on %s", name, kid, now, k.Ends())
				}
				if deposited && k.Public.KID == kid && len(signers) > 1 && since[kid].Equal(now) && now.Sub(k.Deposited) < KeyNotice {
					t.Fatalf("%s signs on %s, it is known since %s", kid, now, k.Deposited)
				}
			}
			if deposited {
				if err := keys.Deposit(Report{known: published(keys, now)}, now); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(signers) != 3 {
			t.Errorf("%s: %d keys signed", name, len(signers))
		}
		// Once when a successor was made; every time while nobody learns of it.
		if n := len(told); n != 2 && deposited || n < 50 && !deposited {
			t.Errorf("%s: told %d times, %q", name, n, told)
		}
	}
}

func published(k *Keys, now time.Time) (out []jwk) {
	for _, s := range k.Published(now) {
		out = append(out, s.Public)
	}
	return out
}

// TestKeysTogether: the service, the watch and the operator change the list from processes of their own; nobody's change is
// lost, and a key that only has the name of one of ours is not taken for known.
func TestKeysTogether(t *testing.T) {
	t.Parallel()
	dir, store := t.TempDir(), &memory{}
	load := func() *Keys {
		k, err := LoadKeys(dir)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	service, watch := load(), load()
	first, err := service.New(store, t0)
	if err != nil {
		t.Fatal(err)
	}
	watch = load() // the watch begins,
	second, err := service.New(store, t0)
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Deposit(Report{known: []jwk{first.Public}}, t0); err != nil { // and ends after the service made a key
		t.Fatal(err)
	}
	now := load()
	if len(now.list) != 2 || now.list[0].Deposited.IsZero() || !now.list[1].Deposited.IsZero() {
		t.Fatalf("%+v", now.list)
	}
	other := second.Public
	other.X, other.Y = first.Public.X, first.Public.Y
	if err := now.Deposit(Report{known: []jwk{other}}, t0); err != nil || !load().list[1].Deposited.IsZero() {
		t.Errorf("another key of the same name was taken for known (%v)", err)
	}
	// Two services start at once: one successor.
	var wg sync.WaitGroup
	due := t0.Add(MaxKeyAge - RotateBefore)
	for range 4 {
		k := load()
		wg.Go(func() {
			if err := k.Rotate(store, due); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(load().list); n != 3 {
		t.Errorf("%d keys, not 3", n)
	}
	// The store's passphrase is not that of the present key: no successor is made.
	store.err = keystore.ErrPassphrase
	if _, err := load().New(store, t0); !errors.Is(err, keystore.ErrPassphrase) || len(load().list) != 3 {
		t.Errorf("a key under another passphrase: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, keysFile), []byte(`[{"public":{}}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeys(dir); err == nil || !strings.Contains(err.Error(), "next:") {
		t.Errorf("a damaged list: %v", err)
	}
}

// TestKeyTimes: what the monitoring hears about the end of a key.
func TestKeyTimes(t *testing.T) {
	t.Parallel()
	key := func(kid string, created, deposited time.Time) SigningKey {
		return SigningKey{Public: jwk{KID: kid}, Created: created, Deposited: deposited}
	}
	end := t0.Add(MaxKeyAge)
	for name, c := range map[string]struct {
		list []SigningKey
		now  time.Time
		want Severity
		n    int
	}{
		"fresh":                         {[]SigningKey{key("a", t0, t0)}, t0, Info, 0},
		"29 days, no successor":         {[]SigningKey{key("a", t0, t0)}, end.Add(-29 * 24 * time.Hour), Warning, 1},
		"9 days, no successor":          {[]SigningKey{key("a", t0, t0)}, end.Add(-9 * 24 * time.Hour), Error, 1},
		"29 days, not known":            {[]SigningKey{key("a", t0, t0), key("b", end, time.Time{})}, end.Add(-29 * 24 * time.Hour), Warning, 2},
		"9 days, not known":             {[]SigningKey{key("a", t0, t0), key("b", t0.Add(time.Hour), time.Time{})}, end.Add(-9 * 24 * time.Hour), Error, 1},
		"9 days, known, not yet a day":  {[]SigningKey{key("a", t0, t0), key("b", end.Add(-20*24*time.Hour), end.Add(-9*24*time.Hour))}, end.Add(-9 * 24 * time.Hour), Info, 0},
		"over":                          {[]SigningKey{key("a", t0, t0)}, end, Error, 1},
		"made by a clock in the future": {[]SigningKey{key("a", t0.Add(time.Hour), t0)}, t0, Warning, 1},
	} {
		found := (&Keys{list: c.list}).watch(c.now)
		if len(found) != c.n || found.Worst() != c.want {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// TestServiceFailing: a key that cannot be opened does not end the service before the statement expires, and whoever asks for
// the statement cannot make the machine try all the time.
func TestServiceFailing(t *testing.T) {
	t.Parallel()
	now := t0
	s, store := newService(t, &now) // and nobody is told: Failed is nil
	first, _, err := s.Statement()
	if err != nil {
		t.Fatal(err)
	}
	store.err = errors.New("the HSM is away")
	now = t0.Add(12 * time.Hour)
	before := store.opened.Load()
	for range 100 {
		if token, left, err := s.Statement(); err != nil || token != first || left != 12*time.Hour {
			t.Fatal(left, err)
		}
	}
	if n := store.opened.Load() - before; n != 1 {
		t.Errorf("tried %d times at once", n)
	}
	now = now.Add(retry)
	if _, _, err := s.Statement(); err != nil || store.opened.Load()-before != 2 {
		t.Error("no second attempt after a minute", err)
	}
	now = t0.Add(24 * time.Hour)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/adv"+WellKnown, nil))
	if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "HSM") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	store.err = nil
	now = now.Add(retry)
	if token, _, err := s.Statement(); err != nil || token == first {
		t.Error("it does not recover", err)
	}
	// The clock is set back: a statement of the future is of no use to anybody.
	now = t0
	if token, _, err := s.Statement(); err != nil {
		t.Error(err)
	} else if st, _ := ParseStatement([]byte(token), ""); !st.IssuedAt.Equal(t0) {
		t.Errorf("issued %s at %s", st.IssuedAt, t0)
	}
	// Another key lies under the name of the published one.
	for name := range store.keys {
		if _, err := store.Create(name, keystore.P256); err != nil {
			t.Fatal(err)
		}
	}
	now = t0.Add(48 * time.Hour)
	if _, _, err := s.Statement(); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("signed with a key that is not published: %v", err)
	}
}

// TestServiceTogether: while one request signs, the others get the present statement at once.
func TestServiceTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := t0
		s, store := newService(t, &now)
		first, _, err := s.Statement()
		if err != nil {
			t.Fatal(err)
		}
		now = t0.Add(13 * time.Hour)
		store.wait = make(chan struct{})
		slow := make(chan string)
		go func() { token, _, _ := s.Statement(); slow <- token }()
		synctest.Wait() // the HSM takes its time
		if token, _, err := s.Statement(); err != nil || token != first {
			t.Errorf("another request waits or fails: %v", err)
		}
		close(store.wait)
		if token := <-slow; token == first {
			t.Error("nothing was signed")
		}
	})
}

// TestServiceRun signs though nobody asks.
func TestServiceRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, store := newService(t, new(time.Time))
		s.Now = func() time.Time { return t0.Add(time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))) }
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.Run(ctx); close(done) }()
		time.Sleep(49*time.Hour + time.Second) // of the bubble's clock
		if n := store.opened.Load(); n < 4 || n > 6 {
			t.Errorf("signed %d times in 49 hours", n)
		}
		stop()
		<-done
	})
}

// TestServiceHTTP: what is answered, and what not.
func TestServiceHTTP(t *testing.T) {
	t.Parallel()
	now := t0
	s, _ := newService(t, &now)
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/adv" + WellKnown, 200}, {"HEAD", "/adv" + WellKnown, 200}, {"GET", "/adv" + WellKnown + "?x=y", 200}, {"POST", "/adv" + WellKnown, 405},
		{"GET", WellKnown, 404}, {"GET", "/adv" + WellKnown + "/", 404}, {"GET", "/adv/%2ewell-known/openid-federation", 404}, {"GET", "/", 404},
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.status || c.status == 200 && (w.Header().Get("Content-Type") != ContentType || w.Header().Get("Cache-Control") != "public, max-age=43200") || c.method == "HEAD" && w.Body.Len() > 0 {
			t.Errorf("%s %s: %d %v", c.method, c.path, w.Code, w.Header())
		}
	}
}
