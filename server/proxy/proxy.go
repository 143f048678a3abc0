// Package proxy is the server's end of the session stream: one app proxy per connection, which carries all its state, so
// that any copy of the server can serve any terminal.
//
// [Proxy.Session] runs the unlocking of an eGK (gemSpec_KTR-AdV 5.1.3): it chooses the identity of the insurer by the IK
// (AdV-A_2570), authenticates card and server to each other with the profile-0 certificate, has the card tell the state of
// PIN.CH inside the trusted channel (A_15112, A_15114), unlocks the card with the profile-1 certificate (A_15115), and
// checks the card's certificate C.CH.AUTN. Anything that does not fit ends the conversation (AdV-A_2421). The
// cryptography is that of hw/c2c; this package adds the conversation, its limits and its deadlines, and says in the logs
// what happened, with the operation id of the app.
//
// Of the insured person nothing is kept: what arrived is overwritten when the stream ends (AdV-A_2407, AdV-A_2409).
package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"ktradv/hw/c2c"
	"ktradv/hw/cvc"
	"ktradv/internal/advlog"
	"ktradv/internal/ocsp"
	"ktradv/internal/x509ti"
	"ktradv/server/api"
	"ktradv/server/identity"
)

// Defaults of [Config].
const (
	DefaultSessions       = 500
	DefaultStepTimeout    = 30 * time.Second
	DefaultSessionTimeout = time.Hour

	// startTimeout is for the first message, which needs no card: a client that only occupies a session goes soon.
	startTimeout = 5 * time.Second
)

// StatusSource tells the revocation status of a certificate: the consumer adapter.
type StatusSource interface {
	Status(ctx context.Context, cert, issuer *x509ti.Certificate) (ocsp.Status, error)
}

// Config is what a Proxy needs.
type Config struct {
	// Identities of the insurers.
	Identities identity.Store
	// Roots of the CV certificates.
	Roots cvc.Roots
	// EGKCAs are the CA certificates that issue C.CH.AUTN.
	EGKCAs []*x509ti.Certificate
	// Status asks for revocation.
	Status StatusSource
	// Sessions at the same time; zero means DefaultSessions.
	Sessions int
	// StepTimeout for each answer of the app while the card is being unlocked; zero means DefaultStepTimeout.
	StepTimeout time.Duration
	// SessionTimeout ends a session whatever happens; zero means DefaultSessionTimeout.
	SessionTimeout time.Duration
	// Log takes entries; nil is off.
	Log *advlog.Log
	// Metrics counts; nil counts nothing.
	Metrics *Metrics
	// Clock is the time; nil means time.Now.
	Clock func() time.Time
	// Rand is the source of ephemeral keys; nil means crypto/rand.
	Rand io.Reader
}

// Proxy serves sessions. It is safe for concurrent use.
type Proxy struct {
	api.UnimplementedAdVServer
	cfg   Config
	slots chan struct{}

	verified c2c.Verified // chains of the insurers under cfg.Roots

	drainOnce sync.Once
	draining  chan struct{}
}

var _ api.AdVServer = (*Proxy)(nil)

// New makes a Proxy.
func New(cfg Config) (*Proxy, error) {
	switch {
	case cfg.Identities == nil || cfg.Identities.Len() == 0:
		return nil, errors.New("new proxy: no identities")
	case len(cfg.Roots) == 0:
		return nil, errors.New("new proxy: no CVC roots")
	case len(cfg.EGKCAs) == 0:
		return nil, errors.New("new proxy: no CA certificates of health cards")
	case cfg.Status == nil:
		return nil, errors.New("new proxy: no source of revocation status")
	}
	if cfg.Sessions <= 0 {
		cfg.Sessions = DefaultSessions
	}
	if cfg.StepTimeout <= 0 {
		cfg.StepTimeout = DefaultStepTimeout
	}
	if cfg.SessionTimeout <= 0 {
		cfg.SessionTimeout = DefaultSessionTimeout
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	return &Proxy{cfg: cfg, slots: make(chan struct{}, cfg.Sessions), draining: make(chan struct{})}, nil
}

// Register adds the service to a gRPC server made with [ServerOptions].
func (p *Proxy) Register(s grpc.ServiceRegistrar) { api.RegisterAdVServer(s, p) }

// ServerOptions bound what a client can make gRPC hold or do: message size, one stream per connection, idle and dead
// connections.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(api.MaxMessageBytes),
		grpc.MaxSendMsgSize(api.MaxMessageBytes),
		grpc.MaxConcurrentStreams(1),
		grpc.MaxHeaderListSize(8 << 10),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: 30 * time.Second,
			Time:              20 * time.Second,
			Timeout:           10 * time.Second,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second}),
	}
}

// Active is the number of running sessions.
func (p *Proxy) Active() int { return len(p.slots) }

// Drain makes the proxy refuse new sessions and end those whose card is unlocked already, so that the server can be
// stopped; a start in progress may finish. It may be called more than once.
func (p *Proxy) Drain() { p.drainOnce.Do(func() { close(p.draining) }) }

// Session serves one stream.
func (p *Proxy) Session(stream grpc.BidiStreamingServer[api.AppMessage, api.ServerMessage]) (err error) {
	select {
	case <-p.draining:
		return p.refuse(stream, errShutdown)
	default:
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		return p.refuse(stream, errBusy)
	}
	p.cfg.Metrics.active.Inc()
	defer p.cfg.Metrics.active.Dec()

	ctx, cancel := context.WithTimeout(stream.Context(), p.cfg.SessionTimeout)
	defer cancel()
	ctx = advlog.WithSession(ctx, advlog.NewSession(nil))
	c := &conversation{proxy: p, stream: stream, in: make(chan received)}
	defer c.wipe()
	defer func() {
		// A fault in one session must not end the others. What it says goes nowhere, because it may hold personal data; where
		// it happened does.
		if r := recover(); r != nil {
			pc, line := faultPlace()
			p.cfg.Log.Error(ctx, advlog.ErrorEvent{Code: codeFault, Severity: advlog.Fatal, Name: nameSession,
				Part: partProxy, Result: advlog.ResultFailed, Values: []advlog.Value{advlog.Int("pc", pc), advlog.Int("line", line)}})
			p.cfg.Metrics.sessions.WithLabelValues("fault").Inc()
			err = status.Error(codes.Internal, "internal error")
		}
	}()
	go c.receive(ctx)
	return c.run(ctx)
}

// faultPlace is the program counter (for addr2line) and the line of the code that panicked. It is called by the deferred
// function that recovers.
func faultPlace() (pc, line int64) {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") {
			return int64(f.PC), int64(f.Line)
		}
		if !more {
			return 0, 0
		}
	}
}

// refuse answers a stream that gets no session.
func (p *Proxy) refuse(stream grpc.BidiStreamingServer[api.AppMessage, api.ServerMessage], why error) error {
	f := classify(why)
	p.cfg.Log.Error(stream.Context(), advlog.ErrorEvent{Code: f.log, Severity: f.severity, Type: f.kind, Name: nameSession,
		Part: partProxy, Result: f.result})
	p.cfg.Metrics.sessions.WithLabelValues(f.result.String()).Inc()
	return stream.Send(failureMessage(f))
}

// Ready reports whether another session can be taken.
func (p *Proxy) Ready() bool {
	select {
	case <-p.draining:
		return false
	default:
		return len(p.slots) < cap(p.slots)
	}
}
