package verify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ktradv/internal/tlspolicy"
	"ktradv/server/erezept"
	"ktradv/server/verify/verifyapi"
)

// Limits of the service.
const (
	maxMessage    = MaxLine // a gRPC message or an HTTP body with one unit
	idleTimeout   = 2 * time.Minute
	defaultChecks = 64
)

// CheckPath is where the HTTP form is served.
const CheckPath = "/v1/erezept/check"

// ServiceConfig says how the service works.
type ServiceConfig struct {
	Checker Checker
	// Checks is how many checks run at the same time; more wait. 0 is 64.
	Checks int
	// Jobs is how many checks of one stream run at the same time; 0 is 2.
	Jobs int
	// Metrics counts checks; nil leaves this out.
	Metrics *Metrics
}

// Service serves the check over gRPC and HTTP.
type Service struct {
	c    ServiceConfig
	grpc *grpc.Server
	now  func() time.Time
}

// Metrics are the figures of the service. No label has a value from outside.
type Metrics struct {
	checked *prometheus.CounterVec
	seconds prometheus.Histogram
	refused prometheus.Counter
}

// NewMetrics makes the figures and registers them; a nil registerer leaves them unregistered.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		checked: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "adv_erezept_checks_total",
			Help: "Checked billing cases and records, by verdict."}, []string{"verdict"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "adv_erezept_check_seconds",
			Help: "Time of a check.", Buckets: []float64{.0005, .001, .0025, .005, .01, .05, .1, .5, 1, 5, 30}}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "adv_erezept_refused_total",
			Help: "Requests that were malformed or too large."}),
	}
	if r != nil {
		r.MustRegister(m.checked, m.seconds, m.refused)
	}
	return m
}

// NewService makes the service.
func NewService(c ServiceConfig) *Service {
	if c.Checks <= 0 {
		c.Checks = defaultChecks
	}
	if c.Jobs <= 0 {
		c.Jobs = 2
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	s := &Service{c: c, now: time.Now, grpc: grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage))}
	s.c.Checker = &limited{c.Checker, make(chan struct{}, c.Checks), c.Metrics}
	verifyapi.RegisterVerifyServer(s.grpc, rpc{s: s})
	return s
}

// limited is a checker that does so much at the same time and no more, and counts.
type limited struct {
	checker Checker
	slots   chan struct{}
	metrics *Metrics
}

// Check implements [Checker].
func (l *limited) Check(ctx context.Context, in *erezept.Case) *erezept.CaseReport {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return erezept.Unreadable(in.ID, erezept.CodeInterrupted, "%v", context.Cause(ctx))
	}
	start := time.Now()
	r := l.checker.Check(ctx, in)
	l.metrics.seconds.Observe(time.Since(start).Seconds())
	l.metrics.checked.WithLabelValues(r.Verdict.String()).Inc()
	return r
}

// Handler serves gRPC and HTTP on one address.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+CheckPath, s.post)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			s.grpc.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// Server makes the HTTP server: both sides show certificates, and the client's must be one of clients.
func (s *Service) Server(certificate tls.Certificate, clients *tlspolicy.TrustStore) (*http.Server, error) {
	policy, err := tlspolicy.MutualServerConfig(certificate, clients, s.now)
	if err != nil {
		return nil, err
	}
	policy.NextProtos = []string{"h2", "http/1.1"}
	return &http.Server{Handler: s.Handler(), TLSConfig: policy, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idleTimeout,
		MaxHeaderBytes: 16 << 10}, nil
}

// post answers one object, or a stream of lines.
func (s *Service) post(w http.ResponseWriter, r *http.Request) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		kind = ""
	}
	switch kind {
	case "application/json":
		s.postOne(w, r)
	case "application/x-ndjson":
		s.postStream(w, r)
	default:
		s.c.Metrics.refused.Inc()
		http.Error(w, "Content-Type: want application/json or application/x-ndjson", http.StatusUnsupportedMediaType)
	}
}

// format is the form of the answer that the caller accepts.
func format(r *http.Request) (Format, string) {
	for accept := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		if kind, _, err := mime.ParseMediaType(accept); err == nil && kind == "text/plain" {
			return Text, "text/plain; charset=utf-8"
		}
	}
	return JSON, "application/json"
}

func (s *Service) postOne(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(s.now().Add(idleTimeout)); err != nil {
		http.Error(w, "connection without deadlines", http.StatusInternalServerError)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		s.c.Metrics.refused.Inc()
		http.Error(w, fmt.Sprintf("larger than %d octets", maxMessage), http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		return // the caller is gone
	}
	var u Unit
	if err := u.ParseLine(body, false); err != nil {
		s.c.Metrics.refused.Inc()
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	report := u.check(r.Context(), s.c.Checker)
	form, contentType := format(r)
	out, err := form.append(nil, report)
	if err != nil {
		http.Error(w, "report cannot be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Write(out)
}

// deadlineBody gives the caller some time for each piece.
type deadlineBody struct {
	io.Reader
	extend func() error
}

func (d deadlineBody) Read(b []byte) (int, error) {
	if err := d.extend(); err != nil {
		return 0, err
	}
	return d.Reader.Read(b)
}

// flushing sends each report when it is there.
type flushing struct {
	io.Writer
	rc     *http.ResponseController
	extend func() error
}

func (f flushing) Write(b []byte) (int, error) {
	if err := f.extend(); err != nil {
		return 0, err
	}
	n, err := f.Writer.Write(b)
	if err == nil {
		err = f.rc.Flush()
	}
	return n, err
}

func (s *Service) postStream(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	if r.ProtoMajor == 1 {
		if err := rc.EnableFullDuplex(); err != nil {
			http.Error(w, "connection cannot carry both directions", http.StatusInternalServerError)
			return
		}
	}
	form, contentType := format(r)
	if form == JSON {
		contentType = "application/x-ndjson"
	}
	w.Header().Set("Content-Type", contentType)
	e := &Engine{Checker: s.c.Checker, Format: form, Jobs: s.c.Jobs, Started: s.now().UTC().Truncate(time.Second)}
	in := deadlineBody{r.Body, func() error { return rc.SetReadDeadline(s.now().Add(idleTimeout)) }}
	out := flushing{w, rc, func() error { return rc.SetWriteDeadline(s.now().Add(idleTimeout)) }}
	if _, err := e.Run(r.Context(), in, out); err != nil {
		// The answer has begun; only its breaking off can tell the caller.
		panic(http.ErrAbortHandler)
	}
}

// rpc is the gRPC form.
type rpc struct {
	verifyapi.UnimplementedVerifyServer
	s *Service
}

var wireVerdicts = map[erezept.Verdict]verifyapi.Verdict{
	erezept.Valid:         verifyapi.Verdict_VERDICT_VALID,
	erezept.Warning:       verifyapi.Verdict_VERDICT_VALID_WITH_WARNINGS,
	erezept.Indeterminate: verifyapi.Verdict_VERDICT_INDETERMINATE,
	erezept.Invalid:       verifyapi.Verdict_VERDICT_INVALID,
}

// unit reads a request.
func unit(m *verifyapi.CheckRequest) (*Unit, error) {
	u := &Unit{ID: m.GetId()}
	add := func(kind erezept.Kind, data []byte) error {
		if len(data) > MaxRecord {
			return fmt.Errorf("%s larger than %d octets", kind, MaxRecord)
		}
		if len(data) > 0 {
			u.parts = append(u.parts, part{kind: kind, data: data})
		}
		return nil
	}
	if len(u.ID) > maxID {
		return nil, fmt.Errorf("id longer than %d octets", maxID)
	}
	switch in := m.GetInput().(type) {
	case *verifyapi.CheckRequest_Case:
		u.Case = true
		u.Outcome = in.Case.GetQuittungOutcome()
		if len(u.Outcome) == 0 {
			u.Outcome = nil
		}
		err := errors.Join(add(erezept.Prescription, in.Case.GetVerordnung()), add(erezept.Dispensing, in.Case.GetAbgabe()),
			add(erezept.Receipt, in.Case.GetQuittung()))
		if err == nil && len(u.parts) == 0 {
			err = errors.New("case without records")
		}
		return u, err
	case *verifyapi.CheckRequest_Record:
		kind, err := erezept.ParseKind(in.Record.GetKind())
		if err != nil {
			return nil, err
		}
		if len(in.Record.GetData()) == 0 {
			return nil, errors.New("record is empty")
		}
		return u, add(kind, in.Record.GetData())
	}
	return nil, errors.New("neither a case nor a record")
}

func (a rpc) answer(ctx context.Context, m *verifyapi.CheckRequest) (*verifyapi.CheckResponse, error) {
	u, err := unit(m)
	if err != nil {
		a.s.c.Metrics.refused.Inc()
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	r := u.check(ctx, a.s.c.Checker)
	out := &verifyapi.CheckResponse{Id: r.ID, Verdict: wireVerdicts[r.Verdict]}
	b, err := JSON.append(nil, r)
	if err != nil {
		return nil, status.Error(codes.Internal, "report cannot be written")
	}
	out.Report = bytes.TrimSuffix(b, []byte("\n"))
	if m.GetWithText() {
		out.Text = r.Text()
	}
	return out, nil
}

// Check implements verifyapi.VerifyServer.
func (a rpc) Check(ctx context.Context, m *verifyapi.CheckRequest) (*verifyapi.CheckResponse, error) {
	return a.answer(ctx, m)
}

// CheckStream implements verifyapi.VerifyServer. A request that is malformed ends the stream.
func (a rpc) CheckStream(stream verifyapi.Verify_CheckStreamServer) error {
	type result struct {
		m   *verifyapi.CheckResponse
		err error
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	order := make(chan chan result, a.s.c.Jobs)
	go func() {
		defer close(order)
		for {
			done := make(chan result, 1)
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return
			}
			select {
			case order <- done:
			case <-ctx.Done():
				return
			}
			if err != nil {
				done <- result{nil, err}
				return
			}
			go func() {
				m, err := a.answer(ctx, m)
				done <- result{m, err}
			}()
		}
	}()
	for done := range order {
		r := <-done
		if r.err != nil {
			return r.err
		}
		if err := stream.Send(r.m); err != nil {
			return err
		}
	}
	return nil
}
