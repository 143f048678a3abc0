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
	defaultJobs   = 2
	maxStreams    = 32      // requests at the same time on one connection
	maxAnswer     = MaxLine // octets of the reports for one unit, where they are not written as they come
)

// errAnswer refuses a container of so many records that their reports are not held for one answer.
var errAnswer = fmt.Errorf("the reports for the container are larger than %d octets; divide it", maxAnswer)

// CheckPath is where the HTTP form is served.
const CheckPath = "/v1/erezept/check"

// ServiceConfig says how the service works.
type ServiceConfig struct {
	Checker Checker
	// Checks is how many checks run at the same time, and how many streams are served at the same time; more wait, and what
	// they want checked is not read before it is their turn. 0 is 64.
	Checks int
	// Jobs is how many checks of one stream run at the same time; 0 is 2.
	Jobs int
	// Archive puts status answers into every report; without it a request may ask for them.
	Archive bool
	// Metrics counts checks; nil leaves this out.
	Metrics *Metrics
}

// Service serves the check over gRPC and HTTP.
type Service struct {
	c       ServiceConfig
	limit   *limited
	streams chan struct{} // one for each stream that is served
	grpc    *grpc.Server
	now     func() time.Time
	idle    time.Duration // how long a caller may be silent
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
		c.Jobs = defaultJobs
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	s := &Service{c: c, now: time.Now, idle: idleTimeout, grpc: grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage)),
		limit: &limited{c.Checker, make(chan struct{}, c.Checks), c.Metrics}, streams: make(chan struct{}, c.Checks)}
	verifyapi.RegisterVerifyServer(s.grpc, rpc{s: s})
	return s
}

// limited is a checker that does so much at the same time and no more, and counts.
type limited struct {
	checker Checker
	slots   chan struct{}
	metrics *Metrics
}

// slot says in a context that the caller has a slot already.
type slot struct{}

// take waits for a turn. Each turn is given back.
func take(ctx context.Context, turns chan struct{}) error {
	select {
	case turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// CheckEach implements [Checker]. The slot is given back while a report is handed over: that may have to wait for reports
// of a check that has no slot yet.
func (l *limited) CheckEach(ctx context.Context, in *erezept.Case, emit func(*erezept.CaseReport)) {
	own := false // a slot was taken here
	if ctx.Value(slot{}) == nil {
		if err := take(ctx, l.slots); err != nil {
			emit(erezept.Unreadable(in.ID, erezept.CodeInterrupted, "%v", err))
			return
		}
		own = true
	}
	start := time.Now()
	l.checker.CheckEach(ctx, in, func(r *erezept.CaseReport) {
		l.metrics.checked.WithLabelValues(r.Verdict.String()).Inc()
		if !own {
			emit(r)
			return
		}
		<-l.slots
		emit(r)
		own = take(ctx, l.slots) == nil // else nobody wants the rest
	})
	if own {
		<-l.slots
	}
	l.metrics.seconds.Observe(time.Since(start).Seconds())
}

// Handler serves gRPC and HTTP on one address.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+CheckPath, s.post)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			s.call(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// patience is the key in a context of the function that gives the caller of a gRPC stream more time.
type patience struct{}

// call serves gRPC: a message is read when it is its turn, and a caller who is silent for too long is gone.
func (s *Service) call(w http.ResponseWriter, r *http.Request) {
	ctx, turns := r.Context(), s.streams
	if r.URL.Path == verifyapi.Verify_Check_FullMethodName {
		ctx, turns = context.WithValue(ctx, slot{}, true), s.limit.slots
	}
	if take(ctx, turns) != nil {
		return // the caller is gone
	}
	defer func() { <-turns }()
	rc := http.NewResponseController(w)
	extend := func() error {
		until := s.now().Add(s.idle)
		return errors.Join(rc.SetReadDeadline(until), rc.SetWriteDeadline(until))
	}
	r = r.WithContext(context.WithValue(ctx, patience{}, extend))
	r.Body = struct {
		io.Reader
		io.Closer
	}{deadlineBody{r.Body, extend}, r.Body}
	s.grpc.ServeHTTP(w, r)
}

// Server makes the HTTP server: both sides show certificates, and the client's must be one of clients.
func (s *Service) Server(certificate tls.Certificate, clients *tlspolicy.TrustStore) (*http.Server, error) {
	policy, err := tlspolicy.MutualServerConfig(certificate, clients, s.now)
	if err != nil {
		return nil, err
	}
	policy.NextProtos = []string{"h2", "http/1.1"}
	return &http.Server{Handler: s.Handler(), TLSConfig: policy, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idleTimeout,
		MaxHeaderBytes: 16 << 10, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams}}, nil
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

// archive reports whether the reports are to hold the status answers.
func (s *Service) archive(r *http.Request) bool {
	return s.c.Archive || r.URL.Query().Get("status_answers") == "true"
}

func (s *Service) postOne(w http.ResponseWriter, r *http.Request) {
	if take(r.Context(), s.limit.slots) != nil {
		return // the caller is gone
	}
	defer func() { <-s.limit.slots }()
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(s.now().Add(s.idle)); err != nil {
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
	u.archive = s.archive(r)
	form, contentType := format(r)
	var out []byte
	reports, failed := 0, error(nil)
	u.check(context.WithValue(r.Context(), slot{}, true), s.limit, func(report *erezept.CaseReport) {
		if len(out) > maxAnswer {
			return
		}
		var err error
		out, err = form.append(out, report)
		failed = errors.Join(failed, err)
		reports++
	})
	switch {
	case failed != nil:
		http.Error(w, "report cannot be written", http.StatusInternalServerError)
		return
	case len(out) > maxAnswer:
		s.c.Metrics.refused.Inc()
		http.Error(w, errAnswer.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	if reports > 1 && form == JSON {
		contentType = "application/x-ndjson"
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
	if take(r.Context(), s.streams) != nil {
		return // the caller is gone
	}
	defer func() { <-s.streams }()
	e := &Engine{Checker: s.limit, Format: form, Jobs: s.c.Jobs, Archive: s.archive(r), Started: s.now().UTC().Truncate(time.Second)}
	in := deadlineBody{r.Body, func() error { return rc.SetReadDeadline(s.now().Add(s.idle)) }}
	out := flushing{w, rc, func() error { return rc.SetWriteDeadline(s.now().Add(s.idle)) }}
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
	u.archive = a.s.c.Archive || m.GetWithStatusAnswers()
	var all []*verifyapi.CheckResponse
	worst, failed, octets := erezept.NotRun, error(nil), 0
	u.check(ctx, a.s.limit, func(r *erezept.CaseReport) {
		if octets > maxAnswer {
			return
		}
		b, err := JSON.append(nil, r)
		failed = errors.Join(failed, err)
		one := &verifyapi.CheckResponse{Id: r.ID, Verdict: wireVerdicts[r.Verdict], Report: bytes.TrimSuffix(b, []byte("\n"))}
		if m.GetWithText() {
			one.Text = r.Text()
		}
		octets += len(one.Report) + len(one.Text)
		all, worst = append(all, one), max(worst, r.Verdict)
	})
	switch {
	case failed != nil:
		return nil, status.Error(codes.Internal, "report cannot be written")
	case octets > maxAnswer:
		a.s.c.Metrics.refused.Inc()
		return nil, status.Error(codes.ResourceExhausted, errAnswer.Error())
	case len(all) == 1:
		return all[0], nil
	}
	return &verifyapi.CheckResponse{Id: u.ID, Verdict: wireVerdicts[worst], Cases: all}, nil
}

// Check implements verifyapi.VerifyServer.
func (a rpc) Check(ctx context.Context, m *verifyapi.CheckRequest) (*verifyapi.CheckResponse, error) {
	return a.answer(ctx, m)
}

// CheckStream implements verifyapi.VerifyServer. A request that is malformed ends the stream.
func (a rpc) CheckStream(stream verifyapi.Verify_CheckStreamServer) error {
	extend, ok := stream.Context().Value(patience{}).(func() error)
	if !ok {
		return status.Error(codes.Internal, "connection without deadlines")
	}
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
		if err := errors.Join(extend(), stream.Send(r.m)); err != nil {
			return err
		}
	}
	return nil
}
