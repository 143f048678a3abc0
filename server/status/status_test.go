package status_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ktradv/internal/ocsp"
	"ktradv/internal/redact"
	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
	"ktradv/server/status"
	"ktradv/server/trust"
)

var start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // where synctest's clock begins

type world struct {
	pki       *testpki.PKI
	institute *x509ti.Certificate
	other     *x509ti.Certificate
	issuer    *x509ti.Certificate
	listed    []*x509ti.Certificate
}

var shared = sync.OnceValues(func() (*world, error) {
	p, err := testpki.New(testpki.Config{Now: start, Rand: mathrand.NewChaCha8([32]byte{33}), OCSPURL: "http://aia.invalid/ocsp"})
	if err != nil {
		return nil, err
	}
	w := &world{pki: p}
	for _, to := range []**x509ti.Certificate{&w.institute, &w.other} {
		id, err := p.IssueX509(&p.SMBCA, testpki.Template{
			Subject: []testpki.Attribute{{OID: []int{2, 5, 4, 3}, Value: "Praxis TEST-ONLY"}}, NotBefore: start.AddDate(-1, 0, 0), NotAfter: start.AddDate(4, 0, 0), KeyUsage: testpki.UsageNonRepudiation,
		})
		if err != nil {
			return nil, err
		}
		if *to, err = x509ti.Parse(id.Certificate); err != nil {
			return nil, err
		}
	}
	if w.issuer, err = x509ti.Parse(p.SMBCA.Certificate); err != nil {
		return nil, err
	}
	listed, err := x509ti.Parse(p.OtherOCSPSigner.Certificate)
	w.listed = []*x509ti.Certificate{listed}
	return w, err
})

func newWorld(t testing.TB) *world {
	t.Helper()
	w, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) query(cert *x509ti.Certificate, at, now time.Time) trust.StatusQuery {
	return trust.StatusQuery{Certificate: cert, Issuer: w.issuer, URL: "http://ti.invalid/ocsp", Responders: w.listed, ListedOnly: true, Profile: "C.HCI.OSIG", At: at, Now: now}
}

// responder is an OCSP responder as an http.Client sees it.
type responder struct {
	w      *world
	mu     sync.Mutex
	times  []time.Time
	last   *http.Request
	fail   int // that many requests fail first
	status int // of the failing answers; 0: no answer at all
	faults []testpki.OCSPFault
	what   testpki.Status
	gate   chan struct{} // not nil: answers wait for it
}

func (r *responder) Do(q *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.times = append(r.times, time.Now())
	r.last = q
	n, gate, faults := len(r.times), r.gate, r.faults
	r.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-q.Context().Done():
			return nil, q.Context().Err()
		}
	}
	if n <= r.fail {
		if r.status == 0 {
			return nil, errors.New("connection refused")
		}
		return &http.Response{StatusCode: r.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(""))}, nil
	}
	der, err := r.w.pki.OCSPResponse(body, func(*big.Int) testpki.Status { return r.what }, time.Now(), faults...)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/ocsp-response"}}, Body: io.NopCloser(bytes.NewReader(der))}, nil
}

func (r *responder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.times)
}

func source(t testing.TB, c status.Config) *status.Source {
	t.Helper()
	s, err := status.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestReuse: what is known answers earlier signing times.
func TestReuse(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-27", "ERP-20", "GS-A_4943")
	const grace = 10 * time.Minute
	now := start.AddDate(1, 0, 0)
	day := func(n int) time.Time { return now.AddDate(0, 0, n) }
	for _, tc := range []struct {
		name    string
		record  status.Record
		at      time.Time
		noReuse bool
		ok      bool
		want    ocsp.Status
	}{
		{"good, signed before", status.Record{Status: ocsp.Good, ProducedAt: day(-1)}, day(-30), false, true, ocsp.Good},
		{"good, signed at that second", status.Record{Status: ocsp.Good, ProducedAt: day(-1)}, day(-1), false, true, ocsp.Good},
		{"good, signed within the grace period after it", status.Record{Status: ocsp.Good, ProducedAt: day(-1)}, day(-1).Add(grace), false, true, ocsp.Good},
		{"good, signed later", status.Record{Status: ocsp.Good, ProducedAt: day(-1)}, day(-1).Add(grace + time.Second), false, false, 0},
		{"revoked before the signature", status.Record{Status: ocsp.Revoked, RevokedAt: day(-20), ProducedAt: day(-10)}, day(-5), false, true, ocsp.Revoked},
		{"revoked at that second", status.Record{Status: ocsp.Revoked, RevokedAt: day(-20), ProducedAt: day(-10)}, day(-20), false, true, ocsp.Revoked},
		{"revoked after the signature", status.Record{Status: ocsp.Revoked, RevokedAt: day(-20), ProducedAt: day(-10)}, day(-20).Add(-time.Second), false, true, ocsp.Good},
		{"unknown lately", status.Record{Status: ocsp.Unknown, ProducedAt: now.Add(-grace)}, day(-1), false, true, ocsp.Unknown},
		{"unknown a while ago", status.Record{Status: ocsp.Unknown, ProducedAt: now.Add(-grace - time.Second)}, day(-1), false, false, 0},
		{"health card, lately", status.Record{Status: ocsp.Good, ProducedAt: now.Add(-grace)}, now, true, true, ocsp.Good},
		{"health card, good and older", status.Record{Status: ocsp.Good, ProducedAt: now.Add(-grace - time.Second)}, day(-1), true, false, 0},
		{"health card, revoked and older", status.Record{Status: ocsp.Revoked, RevokedAt: day(-3), ProducedAt: now.Add(-grace - time.Second)}, now, true, false, 0},
		{"nothing known", status.Record{}, day(-1), false, false, 0},
	} {
		tc.record.Authorisation, tc.record.CertHash = ocsp.Listed, true
		q := trust.StatusQuery{At: tc.at, Now: now, NoReuse: tc.noReuse, ListedOnly: true}
		got, ok := tc.record.At(q, grace)
		if ok != tc.ok || got.Status != tc.want || ok && got.Source != "cache" {
			t.Errorf("%s: %v, %v; want %v, %v", tc.name, got.Status, ok, tc.want, tc.ok)
		}
		// Accepted by looser rules, it serves none of the questions with stricter ones.
		issued, bare := tc.record, tc.record
		issued.Authorisation, bare.CertHash = ocsp.Issued, false
		for _, loose := range []status.Record{issued, bare} {
			if _, ok := loose.At(q, grace); ok {
				t.Errorf("%s: %+v serves a stricter question", tc.name, loose)
			}
		}
		q.ListedOnly, q.IgnoreCertHash = false, true
		if _, ok := bare.At(q, grace); ok != tc.ok {
			t.Errorf("%s: a looser question: %v", tc.name, ok)
		}
	}
}

// TestOnlineAndCache: one request answers every earlier signing time.
func TestOnlineAndCache(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-15", "ERP-24", "ERP-27", "GS-A_4657-03")
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		r := &responder{w: w}
		metrics := prometheus.NewRegistry()
		s := source(t, status.Config{HTTP: r, Metrics: metrics})
		now := time.Now()
		a, err := s.Status(t.Context(), w.query(w.institute, now.AddDate(0, 0, -1), now))
		if err != nil || a.Status != ocsp.Good || a.Source != "online" || len(a.Raw) == 0 || a.Responder == nil || a.Authorisation != ocsp.Listed || !a.CertHash {
			t.Fatalf("%+v, %v", a, err)
		}
		if got := r.last.URL.String(); got != "http://aia.invalid/ocsp" || r.last.Method != http.MethodPost {
			t.Errorf("asked %s %s, want the address in the certificate", r.last.Method, got)
		}
		for _, at := range []time.Time{now, now.AddDate(0, -5, 0), now.Add(time.Minute)} {
			if a, err := s.Status(t.Context(), w.query(w.institute, at, now)); err != nil || a.Source != "cache" || a.Status != ocsp.Good {
				t.Errorf("at %s: %+v, %v", at, a, err)
			}
		}
		if r.count() != 1 {
			t.Errorf("%d requests, want 1", r.count())
		}
		// A record that was signed after the answer is asked about again; then the certificate is revoked.
		r.what = testpki.Revoked // a day before the answer
		time.Sleep(48 * time.Hour)
		later := time.Now()
		if a, err := s.Status(t.Context(), w.query(w.institute, later, later)); err != nil || a.Status != ocsp.Revoked || a.Source != "online" {
			t.Errorf("revoked: %+v, %v", a, err)
		}
		if a, err := s.Status(t.Context(), w.query(w.institute, now, later)); err != nil || a.Status != ocsp.Good || a.Source != "cache" {
			t.Errorf("signed before the revocation: %+v, %v", a, err)
		}
		if hits := counter(t, metrics, "adv_ocsp_cache_total", "hit"); hits != 4 {
			t.Errorf("%g hits", hits)
		}
	})
}

// TestRefusedResponder: a responder that the CA has issued does not count where the lists refuse it.
func TestRefusedResponder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, err := w.pki.IssueX509(&w.pki.EGKCA, testpki.Template{
		Subject: []testpki.Attribute{{OID: []int{2, 5, 4, 3}, Value: "TEST-ONLY"}}, NotBefore: start.AddDate(-1, 0, 0), NotAfter: start.AddDate(4, 0, 0), KeyUsage: testpki.UsageNonRepudiation,
	})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509ti.Parse(id.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := x509ti.Parse(w.pki.EGKCA.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		q := w.query(cert, time.Now(), time.Now())
		q.Issuer, q.Responders, q.ListedOnly = issuer, nil, false
		for _, refused := range []bool{false, true} {
			q.Listed = func(signer *x509ti.Certificate, _ time.Time) (bool, bool) { return false, refused }
			a, err := source(t, status.Config{HTTP: &responder{w: w}}).Status(t.Context(), q)
			if refused != errors.Is(err, ocsp.CertMissing) || !refused && (err != nil || a.Authorisation != ocsp.Issued) {
				t.Errorf("refused %v: %+v, %v", refused, a, err)
			}
		}
	})
}

// counter returns the value of a counter of a registry.
func counter(t testing.TB, r *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetValue() == label {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}

// TestRates: no second sees more requests than the responder promises.
func TestRates(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-22")
	w := newWorld(t)
	for network, limit := range map[status.Network]int{status.Internet: 30, status.TI: 1100} {
		synctest.Test(t, func(t *testing.T) {
			r := &responder{w: w, fail: 1 << 30, status: http.StatusNotFound}
			s := source(t, status.Config{HTTP: r, Network: network, Retries: -1, Pause: -1, Store: status.NewMemory(10)})
			n := 2*limit + limit/2
			var wg sync.WaitGroup
			for i := range n {
				// Every certificate is another one, so that no request stands for two.
				c := *w.institute
				der := append([]byte{}, w.institute.Raw...)
				der[len(der)-1-i%8] ^= byte(1 + i/8%255)
				der[len(der)-9-i/2040] ^= byte(i%255 + 1)
				parsed, err := x509ti.Parse(der)
				if err != nil {
					t.Fatal(err)
				}
				c = *parsed
				wg.Go(func() { s.Status(t.Context(), w.query(&c, time.Now(), time.Now())) })
			}
			wg.Wait()
			worst := 0
			for i, first := range r.times {
				in := 0
				for _, other := range r.times[i:] {
					if other.Sub(first) < time.Second {
						in++
					}
				}
				worst = max(worst, in)
			}
			if len(r.times) < n*9/10 || worst > limit || worst < limit-2 {
				t.Errorf("%s: %d requests, up to %d in a second, limit %d", network, len(r.times), worst, limit)
			}
		})
	}
	for _, c := range []status.Config{{RatePerSecond: 31}, {RatePerSecond: -1}, {Network: status.TI, RatePerSecond: 1101}, {Network: "elsewhere"}} {
		if _, err := status.New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

// TestSingleFlight: equal questions at one time are one request, and it outlives the one who asked first.
func TestSingleFlight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		r := &responder{w: w, gate: make(chan struct{})}
		s := source(t, status.Config{HTTP: r})
		now := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() {
			_, err := s.Status(ctx, w.query(w.institute, now, now))
			first <- err
		}()
		synctest.Wait()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				a, err := s.Status(t.Context(), w.query(w.institute, now.AddDate(0, 0, -i), now))
				if err != nil || a.Status != ocsp.Good {
					t.Errorf("%+v, %v", a, err)
				}
			})
		}
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) || !errors.Is(err, ocsp.NotAvailable) {
			t.Errorf("the one who gave up: %v", err)
		}
		close(r.gate)
		wg.Wait()
		if r.count() != 1 {
			t.Errorf("%d requests, want 1", r.count())
		}
	})
}

// TestRetries: three more tries, then five minutes without a question to this responder.
func TestRetries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tc := range []struct {
		name     string
		fail     int
		status   int
		faults   []testpki.OCSPFault
		requests int
		code     int
		paused   bool
	}{
		{name: "answers at the second try", fail: 1, requests: 2},
		{name: "answers at the last try", fail: 3, status: 503, requests: 4},
		{name: "never answers", fail: 100, requests: 4, code: 1032, paused: true},
		{name: "declines for now", faults: []testpki.OCSPFault{testpki.FaultTryLater}, requests: 4, code: 1058, paused: true},
		{name: "another's signature", faults: []testpki.OCSPFault{testpki.FaultSignature}, requests: 1, code: 1031},
		{name: "certHash of another", faults: []testpki.OCSPFault{testpki.FaultCertHash}, requests: 1, code: 1041},
		{name: "stale", faults: []testpki.OCSPFault{testpki.FaultStale}, requests: 1, code: 1029},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &responder{w: w, fail: tc.fail, status: tc.status, faults: tc.faults}
				store := status.NewMemory(10)
				s := source(t, status.Config{HTTP: r, Store: store})
				ask := func(c *x509ti.Certificate) int {
					_, err := s.Status(t.Context(), w.query(c, time.Now(), time.Now()))
					var e *x509ti.Error
					if errors.As(err, &e) {
						return e.Code
					}
					return 0
				}
				if got := ask(w.institute); got != tc.code || r.count() != tc.requests {
					t.Errorf("code %d after %d requests, want %d after %d", got, r.count(), tc.code, tc.requests)
				}
				if (store.Len() == 0) != (tc.code != 0) {
					t.Errorf("%d entries in the store", store.Len())
				}
				if !tc.paused {
					return
				}
				before := r.count()
				time.Sleep(5*time.Minute - 10*time.Second)
				if got := ask(w.other); got != 1032 || r.count() != before {
					t.Errorf("in the pause: code %d, %d requests more", got, r.count()-before)
				}
				r.mu.Lock()
				r.fail, r.faults = 0, nil
				r.mu.Unlock()
				time.Sleep(10 * time.Second)
				if got := ask(w.other); got != 0 || r.count() != before+1 {
					t.Errorf("after the pause: code %d, %d requests more", got, r.count()-before)
				}
			})
		})
	}
}

// TestWays: which address is asked, by network, profile and forwarder.
func TestWays(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-24", "ERP-25", "ERP-26")
	w := newWorld(t)
	const base = "https://forward.invalid/ocspf"
	key := redact.NewString("the key")
	for _, tc := range []struct {
		name    string
		network status.Network
		forward *status.Forwarder
		profile string
		url     string // in the TSL; "-" none
		want    string // address asked; "": none
		header  map[string]string
		code    int
		way     string
	}{
		{name: "TI: the TSL's address", network: status.TI, profile: "C.HCI.OSIG", want: "http://ti.invalid/ocsp", way: "online"},
		{name: "TI, none in the TSL", network: status.TI, profile: "C.HCI.OSIG", url: "-", code: 1026},
		{name: "internet: the certificate's address", profile: "C.HCI.OSIG", want: "http://aia.invalid/ocsp", way: "online"},
		{name: "forwarder for the service only", forward: &status.Forwarder{URL: base, Header: "X-Api-Key", Key: key}, profile: "C.HCI.OSIG", want: "http://aia.invalid/ocsp", header: map[string]string{"X-Api-Key": ""}, way: "online"},
		{name: "forwarder finds the responder", forward: &status.Forwarder{URL: base, Header: "X-Api-Key", Key: key}, profile: "C.FD.OSIG", url: "-", want: base, header: map[string]string{"X-Api-Key": "the key"}, way: "forwarder"},
		{name: "forwarder, address in the path", forward: &status.Forwarder{URL: base + "/", Target: "path"}, profile: "C.FD.SIG", want: base + "/http:%2F%2Fti.invalid%2Focsp", way: "forwarder"},
		{name: "forwarder, address in the query", forward: &status.Forwarder{URL: base + "?a=b", Target: "query:target"}, profile: "C.FD.OSIG", want: base + "?a=b&target=http%3A%2F%2Fti.invalid%2Focsp", way: "forwarder"},
		{name: "forwarder, address in a header", forward: &status.Forwarder{URL: base, Target: "header:Target"}, profile: "C.FD.OSIG", want: base, header: map[string]string{"Target": "http://ti.invalid/ocsp"}, way: "forwarder"},
		{name: "forwarder that needs an address, none in the TSL", forward: &status.Forwarder{URL: base, Target: "path"}, profile: "C.FD.OSIG", url: "-", code: 1026},
		{name: "forwarder for named profiles", forward: &status.Forwarder{URL: base, Profiles: []string{"C.HCI.OSIG"}}, profile: "C.HCI.OSIG", want: base, way: "forwarder"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &responder{w: w}
				s := source(t, status.Config{HTTP: r, Network: tc.network, Forwarder: tc.forward})
				q := w.query(w.institute, time.Now(), time.Now())
				q.Profile = tc.profile
				if tc.url == "-" {
					q.URL = ""
				}
				a, err := s.Status(t.Context(), q)
				var e *x509ti.Error
				if tc.code != 0 {
					if !errors.As(err, &e) || e.Code != tc.code || r.count() != 0 {
						t.Errorf("%v after %d requests, want code %d and none", err, r.count(), tc.code)
					}
					return
				}
				if err != nil || a.Source != tc.way {
					t.Fatalf("%+v, %v", a, err)
				}
				if got := r.last.URL.String(); got != tc.want {
					t.Errorf("asked %s, want %s", got, tc.want)
				}
				for name, want := range tc.header {
					if got := r.last.Header.Get(name); got != want {
						t.Errorf("header %s is %q, want %q", name, got, want)
					}
				}
			})
		})
	}
	for _, f := range []status.Forwarder{{URL: "forward"}, {URL: "ftp://x"}, {URL: base, Target: "body"}, {URL: base, Target: "query:"}, {URL: base, Target: "header"}} {
		if _, err := status.New(status.Config{Forwarder: &f}); err == nil {
			t.Errorf("forwarder %+v is taken", f)
		}
	}
}

// brokenStore fails.
type brokenStore struct{ load, save error }

func (b brokenStore) Load(context.Context, [32]byte) (status.Record, bool, error) {
	return status.Record{}, false, b.load
}
func (b brokenStore) Save(context.Context, [32]byte, status.Record) error { return b.save }

// TestBrokenStore: a store that fails is no answer.
func TestBrokenStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, store := range []brokenStore{{load: errors.New("away")}, {save: errors.New("full")}} {
		synctest.Test(t, func(t *testing.T) {
			s := source(t, status.Config{HTTP: &responder{w: w}, Store: store})
			if a, err := s.Status(t.Context(), w.query(w.institute, time.Now(), time.Now())); !errors.Is(err, ocsp.NotAvailable) || a.Status != ocsp.Indeterminate {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
}

// TestMemory: bounded, and never older than it was.
func TestMemory(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	m := status.NewMemory(320)
	for i := range 5000 {
		var key [32]byte
		key[0], key[1], key[2] = byte(i), byte(i>>8), byte(i*7)
		if err := m.Save(ctx, key, status.Record{Status: ocsp.Good, ProducedAt: start}); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.Len(); n > 320 || n < 100 {
		t.Errorf("%d entries", n)
	}
	key := [32]byte{1}
	for _, tc := range []struct {
		produced time.Time
		want     time.Time
	}{{start, start}, {start.Add(time.Hour), start.Add(time.Hour)}, {start, start.Add(time.Hour)}} {
		if err := m.Save(ctx, key, status.Record{Status: ocsp.Good, ProducedAt: tc.produced}); err != nil {
			t.Fatal(err)
		}
		if r, ok, err := m.Load(ctx, key); err != nil || !ok || !r.ProducedAt.Equal(tc.want) {
			t.Errorf("%+v, %v, %v", r, ok, err)
		}
	}
}

// TestNonce: responders for qualified certificates are sent one and have to repeat it.
func TestNonce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tc := range []struct {
		nonce   bool
		require bool
		faults  []testpki.OCSPFault
		code    int
		noted   bool
	}{
		{true, false, nil, 0, false},
		{true, true, nil, 0, false},
		{false, false, nil, 0, false},
		{false, true, []testpki.OCSPFault{testpki.FaultNoNonce}, 0, false}, // none was sent
		{true, false, []testpki.OCSPFault{testpki.FaultNonce}, 1051, false},
		{true, true, []testpki.OCSPFault{testpki.FaultNonce}, 1051, false},
		{true, false, []testpki.OCSPFault{testpki.FaultNoNonce}, 0, true},
		{true, true, []testpki.OCSPFault{testpki.FaultNoNonce}, 1051, false},
		{true, false, []testpki.OCSPFault{testpki.FaultNoNonce, testpki.FaultStale}, 1029, false}, // made in advance
	} {
		synctest.Test(t, func(t *testing.T) {
			s := source(t, status.Config{HTTP: &responder{w: w, faults: tc.faults}, RequireNonce: tc.require})
			q := w.query(w.institute, time.Now(), time.Now())
			q.Nonce = tc.nonce
			for _, from := range []string{"online", "cache"} {
				a, err := s.Status(t.Context(), q)
				var e *x509ti.Error
				if (err == nil) != (tc.code == 0) || err != nil && (!errors.As(err, &e) || e.Code != tc.code) || a.NoNonce != tc.noted || err == nil && a.Source != from {
					t.Errorf("%+v, %s: %v, noted %t, %v", tc, from, a.Source, a.NoNonce, err)
				}
			}
		})
	}
}

// TestWait: a batch waits while a responder is left alone, and its question is answered when the responder works again; it
// says for whom it waits, waits for no longer than it may, and an interruption ends the waiting and nothing else.
func TestWait(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-22")
	w := newWorld(t)
	const tries = 1 + status.DefaultRetries
	for _, tt := range []struct {
		name     string
		wait     time.Duration
		fail     int // requests that fail
		requests int
		took     time.Duration // at least
		ok       bool
	}{
		{"may not be interrupted", time.Hour, 1000, tries, 0, false},
		{"works", time.Hour, 0, 1, 0, true},
		{"one pause", time.Hour, tries, tries + 1, status.DefaultPause, true},
		{"three pauses", time.Hour, 3 * tries, 3*tries + 1, 3 * status.DefaultPause, true},
		{"as long as it may", 2 * status.DefaultPause, 1000, 2 * tries, status.DefaultPause, false},
		{"does not wait", 0, 1000, tries, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			r := &responder{w: w, fail: tt.fail, status: http.StatusServiceUnavailable}
			s := source(t, status.Config{HTTP: r, Wait: tt.wait})
			ctx, _ := status.WithInterrupted(t.Context())
			if tt.name == "may not be interrupted" {
				ctx = t.Context()
			}
			_, err := s.Status(ctx, w.query(w.institute, time.Now(), time.Now()))
			took := time.Since(began)
			if (err == nil) != tt.ok || err != nil && (!errors.Is(err, ocsp.NotAvailable) || errors.Is(err, status.Interrupted)) || r.count() != tt.requests || took < tt.took || took > tt.took+time.Minute+tt.took/2 {
				t.Errorf("%s: %d requests in %s, %v", tt.name, r.count(), took, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		r := &responder{w: w, fail: 1000, status: http.StatusServiceUnavailable}
		s := source(t, status.Config{HTTP: r, Wait: time.Hour})
		if _, _, ok := s.Waiting(); ok {
			t.Error("waits before anything was asked")
		}
		ctx, interrupted := status.WithInterrupted(t.Context())
		done := make(chan error, 2)
		for _, cert := range []*x509ti.Certificate{w.institute, w.other} {
			go func() {
				_, err := s.Status(ctx, w.query(cert, time.Now(), time.Now()))
				done <- err
			}()
		}
		time.Sleep(time.Minute) // of synctest's clock
		synctest.Wait()
		if host, until, ok := s.Waiting(); !ok || host != "aia.invalid" || until.Sub(time.Now()) > status.DefaultPause || interrupted.Load() {
			t.Errorf("waits for %q until %s: %t", host, until, ok)
		}
		s.Hurry()
		s.Hurry()
		for range 2 {
			if err := <-done; !errors.Is(err, status.Interrupted) || !errors.Is(err, ocsp.NotAvailable) {
				t.Errorf("interrupted: %v", err)
			}
		}
		if _, _, ok := s.Waiting(); ok || !interrupted.Load() {
			t.Error("the interruption is not to be seen")
		}
	})
}

// TestKeepAnswers: an answer that was given before comes with the answer of the responder when answers are kept, octet by
// octet, and they count against the bound of the store.
func TestKeepAnswers(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-21")
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		for _, keep := range []bool{true, false} {
			s := source(t, status.Config{HTTP: &responder{w: w}, KeepAnswers: keep})
			q := w.query(w.institute, time.Now(), time.Now())
			first, err := s.Status(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			second, err := s.Status(t.Context(), q)
			if err != nil || second.Source != "cache" || len(first.Raw) == 0 || bytes.Equal(first.Raw, second.Raw) != keep || !keep && second.Raw != nil {
				t.Errorf("kept %t: %d and %d octets from %s, %v", keep, len(first.Raw), len(second.Raw), second.Source, err)
			}
		}
	})
	const entries = 3200 // a hundred to a shard
	for raw, want := range map[int][2]int{0: {entries * 9 / 10, entries}, 2700: {entries / 11, entries / 9}, 1 << 20: {1, 32}} {
		m := status.NewMemory(entries)
		for i := range 4 * entries {
			var key [32]byte
			key[0], key[1], key[4], key[5] = byte(i), byte(i>>8), byte(i), byte(i>>8)
			if err := m.Save(t.Context(), key, status.Record{ProducedAt: start, Raw: make([]byte, raw)}); err != nil {
				t.Fatal(err)
			}
			// The same certificate with a younger answer takes the place of the older one.
			if err := m.Save(t.Context(), key, status.Record{ProducedAt: start.Add(time.Second), Raw: make([]byte, raw)}); err != nil {
				t.Fatal(err)
			}
		}
		if n := m.Len(); n < want[0] || n > want[1] {
			t.Errorf("%d certificates with answers of %d octets; want %d to %d", n, raw, want[0], want[1])
		}
	}
}

// TestThroughTheTrustSpace: a certificate is checked by a list, its status asked for at the list's responder and judged by
// the list's signers; later the answer serves every earlier signing time.
func TestThroughTheTrustSpace(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-15", "ERP-20", "ERP-27", "GS-A_4657-03")
	w := newWorld(t)
	id, err := w.pki.IssueX509(&w.pki.SMBCA, testpki.Template{
		Subject: []testpki.Attribute{{OID: []int{2, 5, 4, 3}, Value: "Apotheke TEST-ONLY"}}, NotBefore: start.AddDate(-1, 0, 0), NotAfter: start.AddDate(4, 0, 0),
		KeyUsage: testpki.UsageNonRepudiation, Policies: [][]int{x509ti.OIDPolicyOR, x509ti.OIDSMBOSig}, Admission: &testpki.Admission{Item: "Apotheke", OID: x509ti.OIDApotheke},
	})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509ti.Parse(id.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	list := func(responders ...*x509ti.Certificate) *trust.Space {
		service := func(kind string, certs ...*x509ti.Certificate) tsl.Service {
			return tsl.Service{State: tsl.State{Type: kind, Status: tsl.StatusInAccord, Start: start.AddDate(-1, 0, 0)}, Certificates: certs}
		}
		ca := service(tsl.TypeCAPKC, w.issuer)
		ca.SupplyPoints, ca.Extensions = []string{"http://ti.invalid/ocsp"}, []x509ti.OID{x509ti.OIDSMBOSig}
		space, err := trust.NewSpace(trust.Config{TSLs: []*tsl.List{{Kind: tsl.TSL, Issued: start.AddDate(0, -1, 0), NextUpdate: start.AddDate(3, 0, 0),
			Services: []tsl.Service{ca, service(tsl.TypeOCSP, responders...)}}}})
		if err != nil {
			t.Fatal(err)
		}
		return space
	}
	synctest.Test(t, func(t *testing.T) {
		r := &responder{w: w}
		s := source(t, status.Config{HTTP: r, Network: status.TI})
		check := func(space *trust.Space, at time.Time) trust.Result {
			return space.Check(t.Context(), cert, trust.Options{At: at, Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Status: s})
		}
		now := time.Now()
		if got := check(list(), now); got.Verdict != trust.Indeterminate || got.Step(trust.StepStatus).Code != 1030 {
			t.Errorf("responder not in the list: %v, %+v", got.Verdict, got.Steps)
		}
		space := list(w.listed...)
		for i, want := range []string{"online", "cache"} {
			got := check(space, now.AddDate(0, 0, -i))
			if got.Verdict != trust.Valid || got.OCSP == nil || got.OCSP.Source != want || r.last.URL.String() != "http://ti.invalid/ocsp" {
				t.Errorf("%v, %+v, facts %+v", got.Verdict, got.Steps, got.OCSP)
			}
		}
		if got := check(space, now); got.OCSP == nil || got.OCSP.Responder != "" || !got.OCSP.ProducedAt.Equal(now) {
			t.Errorf("facts from the cache %+v", got.OCSP)
		}
		r.what = testpki.Revoked // a day before the answer
		time.Sleep(72 * time.Hour)
		if got := check(space, time.Now()); got.Verdict != trust.Invalid || got.Step(trust.StepStatus).Code != 1047 || got.OCSP == nil || got.OCSP.RevokedAt.IsZero() {
			t.Errorf("revoked: %v, %+v", got.Verdict, got.Steps)
		}
		if got := check(space, now.AddDate(0, 0, 1)); got.Verdict != trust.Valid || got.Step(trust.StepStatus).Text == "" {
			t.Errorf("signed before the revocation: %v, %+v", got.Verdict, got.Steps)
		}
		if r.count() != 3 {
			t.Errorf("%d requests, want 3", r.count())
		}
	})
}
