// Package status finds out the status of certificates at the scale of billing checks: what is known already answers every
// earlier signing time, equal questions at one time become one request, requests keep to the rates that the responders
// promise (30 a second on the internet, 1100 in the central network of the telematics infrastructure), a responder that
// fails is asked again three times and then left alone for five minutes (a batch may wait for that), and certificates whose responder cannot be reached
// are asked about through a forwarder.
//
// What is known lies behind a small interface, [Store]; the default is bounded and in memory.
package status

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"ktradv/internal/ocsp"
	"ktradv/internal/redact"
	"ktradv/internal/x509ti"
	"ktradv/server/trust"
)

// Network says from where responders are asked.
type Network string

// The networks.
const (
	TI       Network = "ti"       // central network: the address of the CA's entry in the TSL
	Internet Network = "internet" // the address in the certificate (AuthorityInfoAccess)
)

// rates are the promised peak loads of a responder in requests per second.
var rates = map[Network]float64{TI: 1100, Internet: 30}

// Defaults.
const (
	DefaultGrace   = 10 * time.Minute // how old an answer may be at a reference time after it (gemSpec_PKI)
	DefaultRetries = 3
	DefaultPause   = 5 * time.Minute
	DefaultBackoff = time.Second
	DefaultEntries = 500_000
	maxResponders  = 512
)

// Forwarder is a service that passes OCSP requests on into the telematics infrastructure, such as that of the E-Rezept
// service. Its conventions are not public, so they are settings.
type Forwarder struct {
	URL    string        // base address
	Header string        // name of the header with the key; "" sends none
	Key    redact.String // the operator's key
	// Target says how the responder's address is passed: "path" (escaped, as the last segment), "query:NAME", "header:NAME",
	// or "" (not at all: the forwarder finds it itself).
	Target string
	// Profiles of certificates that go through it; none means C.FD.SIG and C.FD.OSIG, whose responder is not on the
	// internet.
	Profiles []string
}

// Config says how the status is found out. The zero value works from the internet.
type Config struct {
	Network       Network               // "" is Internet
	RatePerSecond float64               // per responder; 0 is that of the network
	Forwarder     *Forwarder            // nil: none
	HTTP          ocsp.Doer             // nil is ocsp.NewHTTPClient
	Clock         func() time.Time      // nil is time.Now
	Timeout       time.Duration         // of one request; 0 is ocsp.DefaultTimeout
	Grace         time.Duration         // 0 is DefaultGrace
	Retries       int                   // after the first try; 0 is DefaultRetries, below 0 none
	Backoff       time.Duration         // between tries; 0 is DefaultBackoff
	Pause         time.Duration         // after the last try; 0 is DefaultPause
	Wait          time.Duration         // for how long questions wait for a responder that fails, see Source.Status; 0: not at all
	KeepAnswers   bool                  // keep the answers themselves in Store
	RequireNonce  bool                  // see ocsp.Check
	Store         Store                 // nil is NewMemory(DefaultEntries)
	Metrics       prometheus.Registerer // nil: none
}

// Source finds out the status of certificates. It is safe for concurrent use.
type Source struct {
	c      Config
	flight singleflight.Group

	mu         sync.Mutex
	responders map[string]*responder // by host
	hurry      chan struct{}         // closed: nobody waits any more
	hurried    sync.Once

	requests *prometheus.CounterVec
	cached   *prometheus.CounterVec
	seconds  prometheus.Histogram
	paused   prometheus.Counter
}

// responder is what is known of one host.
type responder struct {
	limiter *rate.Limiter
	until   time.Time // not asked before
	failing time.Time // since when it has not answered; zero: it did
	waiting int       // questions that wait until it is asked again
}

var _ trust.StatusSource = (*Source)(nil)

// New makes a Source. It fails when the settings make no sense.
func New(c Config) (*Source, error) {
	if c.Network == "" {
		c.Network = Internet
	}
	if rates[c.Network] == 0 {
		return nil, fmt.Errorf("status: network %q is not known", c.Network)
	}
	if c.RatePerSecond == 0 {
		c.RatePerSecond = rates[c.Network]
	}
	if c.RatePerSecond < 0 || c.RatePerSecond > rates[c.Network] {
		return nil, fmt.Errorf("status: %g requests a second, responders promise %g", c.RatePerSecond, rates[c.Network])
	}
	if f := c.Forwarder; f != nil {
		u, err := url.Parse(f.URL)
		kind, name, named := strings.Cut(f.Target, ":")
		switch {
		case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
			return nil, fmt.Errorf("status: forwarder: address %q", f.URL)
		case f.Target != "" && f.Target != "path" && !((kind == "query" || kind == "header") && named && name != ""):
			return nil, fmt.Errorf("status: forwarder: target convention %q", f.Target)
		}
		if len(f.Profiles) == 0 {
			g := *f
			g.Profiles = []string{x509ti.FDSIG.Name, x509ti.FDOSIG.Name}
			c.Forwarder = &g
		}
	}
	setDefault(&c.Grace, DefaultGrace)
	setDefault(&c.Retries, DefaultRetries)
	setDefault(&c.Backoff, DefaultBackoff)
	setDefault(&c.Pause, DefaultPause)
	if c.HTTP == nil {
		c.HTTP = ocsp.NewHTTPClient()
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Store == nil {
		c.Store = NewMemory(DefaultEntries)
	}
	s := &Source{c: c, responders: map[string]*responder{}, hurry: make(chan struct{})}
	s.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "adv_ocsp_requests_total", Help: "Requests to OCSP responders by way and outcome."}, []string{"way", "outcome"})
	s.cached = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "adv_ocsp_cache_total", Help: "Questions by whether the store knew the answer."}, []string{"outcome"})
	s.seconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "adv_ocsp_request_seconds", Help: "Duration of requests to OCSP responders.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 12)})
	s.paused = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "adv_ocsp_pauses_total", Help: "How often a responder was left alone after it had failed."})
	if c.Metrics != nil {
		for _, m := range []prometheus.Collector{s.requests, s.cached, s.seconds, s.paused} {
			if err := c.Metrics.Register(m); err != nil {
				return nil, fmt.Errorf("status: metrics: %w", err)
			}
		}
	}
	return s, nil
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Interrupted is the error of a question that waited for a responder when Hurry was called. It says nothing about anything:
// the question is to be asked again another time.
var Interrupted = fmt.Errorf("%w: interrupted while waiting for the responder", ocsp.NotAvailable)

// Hurry ends all waiting for responders that fail, for good: questions that wait end with Interrupted.
func (s *Source) Hurry() { s.hurried.Do(func() { close(s.hurry) }) }

// Waiting names a responder that questions wait for, and when it is asked again.
func (s *Source) Waiting() (host string, until time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, r := range s.responders {
		if r.waiting > 0 && (!ok || name < host) {
			host, until, ok = name, r.until, true
		}
	}
	return host, until, ok
}

type interruptedKey struct{}

// WithInterrupted returns a context for questions that may wait (see Source.Status), and a mark that is set when one of them
// ended with Interrupted.
func WithInterrupted(ctx context.Context) (context.Context, *atomic.Bool) {
	mark := new(atomic.Bool)
	return context.WithValue(ctx, interruptedKey{}, mark), mark
}

// Status answers from the store or asks the responder. With Config.Wait a question about a responder that is left alone
// because it failed waits until it is asked again, unless it has been failing for Config.Wait already; but only one whose
// context is of WithInterrupted does.
func (s *Source) Status(ctx context.Context, q trust.StatusQuery) (trust.StatusAnswer, error) {
	key := q.Certificate.Fingerprint()
	record, known, err := s.c.Store.Load(ctx, key)
	if err != nil {
		return trust.StatusAnswer{}, fmt.Errorf("%w: store: %w", ocsp.NotAvailable, err)
	}
	if known {
		if a, ok := record.At(q, s.c.Grace); ok {
			s.cached.WithLabelValues("hit").Inc()
			return a, nil
		}
	}
	s.cached.WithLabelValues("miss").Inc()

	// One request answers everybody who asks about the certificate meanwhile, so it does not end with the first of them.
	ch := s.flight.DoChan(fmt.Sprintf("%s%t%t%t", key[:], q.ListedOnly, q.IgnoreCertHash, q.Nonce), func() (any, error) { return s.fetch(context.WithoutCancel(ctx), key, q) })
	select {
	case <-ctx.Done():
		return trust.StatusAnswer{}, fmt.Errorf("%w: %w", ocsp.NotAvailable, ctx.Err())
	case r := <-ch:
		if r.Err != nil {
			if mark, ok := ctx.Value(interruptedKey{}).(*atomic.Bool); ok && errors.Is(r.Err, Interrupted) {
				mark.Store(true)
			}
			return trust.StatusAnswer{}, r.Err
		}
		f := r.Val.(fetched)
		a := f.record.answer(q.At)
		a.Source, a.Raw = f.way, f.raw
		a.NextUpdate, a.Responder = f.result.NextUpdate, f.result.Responder
		return a, nil
	}
}

// fetched is what a request brought.
type fetched struct {
	record Record
	result ocsp.Result
	way    string
	raw    []byte
}

// The ways to a responder, as StatusAnswer.Source names them.
const (
	wayOnline    = "online"
	wayForwarder = "forwarder"
)

// fetch asks until there is an answer or the tries are used up.
func (s *Source) fetch(ctx context.Context, key [sha256.Size]byte, q trust.StatusQuery) (f fetched, err error) {
	client, host, way, err := s.client(q)
	if err != nil {
		return f, err
	}
	r := s.responder(host)
	wait := ctx.Value(interruptedKey{}) != nil
	for try := 0; ; try++ {
		if err := s.pause(r, wait); err != nil {
			return f, err
		}
		if err := r.limiter.Wait(ctx); err != nil {
			return f, fmt.Errorf("%w: %w", ocsp.NotAvailable, err)
		}
		start := s.c.Clock()
		result, raw, err := client.Ask(ctx, q.Certificate, q.Issuer)
		s.seconds.Observe(s.c.Clock().Sub(start).Seconds())
		s.requests.WithLabelValues(way, outcome(result, err)).Inc()
		if err == nil {
			s.answered(r)
			f = fetched{recordOf(result), result, way, raw}
			if s.c.KeepAnswers {
				f.record.Raw = raw
			}
			if err := s.c.Store.Save(ctx, key, f.record); err != nil {
				return f, fmt.Errorf("%w: store: %w", ocsp.NotAvailable, err)
			}
			return f, nil
		}
		if !temporary(err) {
			s.answered(r)
			return f, err
		}
		if try >= s.c.Retries {
			if !s.failed(r) || !wait {
				return f, err
			}
			try = -1
			continue
		}
		timer := time.NewTimer(s.c.Backoff)
		select {
		case <-ctx.Done():
			timer.Stop()
			return f, fmt.Errorf("%w: %w", ocsp.NotAvailable, ctx.Err())
		case <-timer.C:
		}
	}
}

// answered: the responder works.
func (s *Source) answered(r *responder) {
	s.mu.Lock()
	r.failing = time.Time{}
	s.mu.Unlock()
}

// failed leaves a responder alone for a while whose tries are used up. It reports whether a question may wait.
func (s *Source) failed(r *responder) bool {
	s.paused.Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.c.Clock()
	r.until = now.Add(s.c.Pause)
	if r.failing.IsZero() {
		r.failing = now
	}
	return s.patient(r)
}

// patient reports whether the responder is asked again before its time is up.
func (s *Source) patient(r *responder) bool {
	return s.c.Wait > 0 && !r.until.After(r.failing.Add(s.c.Wait))
}

// pause returns when the responder may be asked, or why it is not waited for.
func (s *Source) pause(r *responder, wait bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.c.Clock().Before(r.until) {
		if !wait || !s.patient(r) {
			return fmt.Errorf("%w: the responder failed lately and is left alone until %s", ocsp.NotAvailable, r.until.UTC().Format(time.RFC3339))
		}
		timer := time.NewTimer(r.until.Sub(s.c.Clock()))
		r.waiting++
		s.mu.Unlock()
		hurried := false
		select {
		case <-timer.C:
		case <-s.hurry:
			hurried = true
			timer.Stop()
		}
		s.mu.Lock()
		r.waiting--
		if hurried {
			return Interrupted
		}
	}
	return nil
}

// temporary: the responder did not answer, or says that it cannot now. Any other finding is an answer that asking again
// would not mend.
func temporary(err error) bool {
	var e *x509ti.Error
	if errors.As(err, &e) && e.Code == ocsp.StatusError.Code {
		return e.Detail == "tryLater" || e.Detail == "internalError"
	}
	return errors.Is(err, ocsp.NotAvailable)
}

func outcome(r ocsp.Result, err error) string {
	if err != nil {
		return "failed"
	}
	return strings.ToLower(r.Status.String())
}

// responder returns what is known of a host.
func (s *Source) responder(host string) *responder {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.responders[host]
	if r == nil {
		if len(s.responders) >= maxResponders {
			clear(s.responders)
		}
		// A burst of one and a microsecond more between two requests: no second ever sees more than the rate.
		between := time.Duration(float64(time.Second)/s.c.RatePerSecond) + time.Microsecond
		r = &responder{limiter: rate.NewLimiter(rate.Every(between), 1)}
		s.responders[host] = r
	}
	return r
}

// client prepares the request: directly, or through the forwarder. host is whose rate counts.
func (s *Source) client(q trust.StatusQuery) (c *ocsp.Client, host, way string, err error) {
	c = &ocsp.Client{
		HTTP: s.c.HTTP, Clock: s.c.Clock, Timeout: s.c.Timeout, Responders: q.Responders, ListedOnly: q.ListedOnly, Listed: q.Listed,
		IgnoreCertHash: q.IgnoreCertHash, Nonce: q.Nonce, RequireNonce: s.c.RequireNonce, Verifier: q.Verifier,
	}
	target := q.URL
	f := s.c.Forwarder
	forwarded := f != nil && slices.Contains(f.Profiles, q.Profile)
	if s.c.Network == Internet && !forwarded {
		target = ""
		if len(q.Certificate.OCSPURLs) > 0 {
			target = q.Certificate.OCSPURLs[0]
		}
	}
	if target == "" && !(forwarded && f.Target == "") {
		return nil, "", "", ocsp.ServiceSupplyPointMissing
	}
	if forwarded {
		return c, "forwarder", wayForwarder, s.forward(c, f, target)
	}
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return nil, "", "", ocsp.ServiceSupplyPointMissing
	}
	c.URL = target
	return c, u.Host, wayOnline, nil
}

// forward addresses the forwarder.
func (s *Source) forward(c *ocsp.Client, f *Forwarder, target string) error {
	c.URL, c.Header = f.URL, http.Header{}
	if f.Header != "" {
		c.Header.Set(f.Header, f.Key.Reveal())
	}
	u, err := url.Parse(f.URL)
	if err != nil {
		return fmt.Errorf("%w: forwarder: %w", ocsp.ServiceSupplyPointMissing, err)
	}
	switch kind, name, _ := strings.Cut(f.Target, ":"); kind {
	case "path":
		c.URL = strings.TrimSuffix(f.URL, "/") + "/" + url.PathEscape(target)
	case "query":
		values := u.Query()
		values.Set(name, target)
		u.RawQuery = values.Encode()
		c.URL = u.String()
	case "header":
		c.Header.Set(name, target)
	}
	return nil
}
