package verify

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"ktradv/server/erezept"
	"ktradv/server/verify/verifyapi"
)

// counted counts what is read of a body.
type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += n
	return n, err
}

func (c *counted) Close() error { return nil }

// patient is a response whose connection has deadlines.
type patient struct{ *httptest.ResponseRecorder }

func (patient) SetReadDeadline(time.Time) error  { return nil }
func (patient) SetWriteDeadline(time.Time) error { return nil }

// TestTurns: what is to be checked is not read before it is its turn, in any form; then it is.
func TestTurns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path, contentType string
		stream                  bool
	}{
		{"HTTP", CheckPath, "application/json", false},
		{"HTTP stream", CheckPath, "application/x-ndjson", true},
		{"gRPC", verifyapi.Verify_Check_FullMethodName, "application/grpc", false},
		{"gRPC stream", verifyapi.Verify_CheckStream_FullMethodName, "application/grpc", true},
	} {
		s := NewService(ServiceConfig{Checker: &double{}, Checks: 1})
		turns := s.limit.slots
		if tt.stream {
			turns = s.streams
		}
		ask := func(ctx context.Context) int {
			body := &counted{Reader: strings.NewReader(`{"record":"AAAA"}`)}
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, tt.path, nil)
			r.Body = body
			r.Header.Set("Content-Type", tt.contentType)
			r.Header.Set("TE", "trailers")
			r.ProtoMajor, r.ProtoMinor, r.Proto = 2, 0, "HTTP/2.0"
			s.Handler().ServeHTTP(patient{httptest.NewRecorder()}, r)
			return body.n
		}
		turns <- struct{}{}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if n := ask(ctx); n != 0 {
			t.Errorf("%s: %d octets were read before it was its turn", tt.name, n)
		}
		<-turns
		if n := ask(t.Context()); n == 0 {
			t.Errorf("%s: nothing was read when it was its turn", tt.name)
		}
		if len(s.limit.slots) != 0 || len(s.streams) != 0 {
			t.Errorf("%s: a turn was not given back", tt.name)
		}
	}
}

// overtaking gives so many reports that the second unit has to wait for the first, which begins when that is so.
type overtaking struct{ ahead chan struct{} }

func (o overtaking) CheckEach(_ context.Context, in *erezept.Case, emit func(*erezept.CaseReport)) {
	for i := range 3 {
		if i == 1 && in.ID == "2" {
			close(o.ahead) // the next report waits until those of the first unit are written
		}
		emit(&erezept.CaseReport{ID: in.ID, Tool: strings.Repeat("x", full), Verdict: erezept.Valid})
	}
}

// late lets the first unit begin when the second one waits for it.
type late struct {
	l     *limited
	ahead chan struct{}
}

func (c late) CheckEach(ctx context.Context, in *erezept.Case, emit func(*erezept.CaseReport)) {
	if in.ID == "1" {
		<-c.ahead
	}
	c.l.CheckEach(ctx, in, emit)
}

// TestSlotsAndOrder: a check whose reports wait for those of an earlier unit holds nothing that the earlier one needs.
func TestSlotsAndOrder(t *testing.T) {
	t.Parallel()
	ahead := make(chan struct{})
	s := NewService(ServiceConfig{Checker: overtaking{ahead}, Checks: 1})
	e := &Engine{Checker: late{s.limit, ahead}, Format: JSON, Jobs: 2, Started: when}
	out := runAll(t, e, []byte(`{"id":"1","record":"AAAA"}`+"\n"+`{"id":"2","record":"AAAA"}`+"\n"))
	var got []string
	for line := range bytes.Lines(out) {
		got = append(got, string(line[:len(`{"id":"1"`)]))
	}
	if want := []string{`{"id":"1"`, `{"id":"1"`, `{"id":"1"`, `{"id":"2"`, `{"id":"2"`, `{"id":"2"`}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if len(s.limit.slots) != 0 {
		t.Error("a slot was not given back")
	}
}

// TestTooManyReports: a container whose reports are too large for one answer is refused; a smaller one is not.
func TestTooManyReports(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		reports, status int
		code            codes.Code
	}{{3, http.StatusOK, codes.OK}, {maxAnswer/1000 + 1000, http.StatusRequestEntityTooLarge, codes.ResourceExhausted}} {
		s := NewService(ServiceConfig{Checker: many{}})
		data := make([]byte, tt.reports)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, CheckPath, strings.NewReader(fmt.Sprintf(`{"record":%q}`, base64.StdEncoding.EncodeToString(data))))
		r.Header.Set("Content-Type", "application/json")
		w := patient{httptest.NewRecorder()}
		s.Handler().ServeHTTP(w, r)
		if w.Code != tt.status || w.Body.Len() > maxAnswer {
			t.Errorf("%d reports: status %d, %d octets", tt.reports, w.Code, w.Body.Len())
		}
		m := &verifyapi.CheckRequest{Input: &verifyapi.CheckRequest_Record{Record: &verifyapi.Record{Data: data}}}
		if _, err := (rpc{s: s}).Check(t.Context(), m); status.Code(err) != tt.code {
			t.Errorf("%d reports: %v", tt.reports, err)
		}
	}
}

// TestSilentCaller: a caller of a gRPC stream who says nothing for too long is cut off; one who does is not.
func TestSilentCaller(t *testing.T) {
	t.Parallel()
	serve := func(idle time.Duration) verifyapi.VerifyClient {
		s := NewService(ServiceConfig{Checker: &double{}})
		s.idle = idle
		server := httptest.NewUnstartedServer(s.Handler())
		server.EnableHTTP2 = true
		server.StartTLS()
		t.Cleanup(server.Close)
		policy := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		policy.NextProtos = []string{"h2"}
		conn, err := grpc.NewClient("passthrough:///"+server.Listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(policy)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return verifyapi.NewVerifyClient(conn)
	}
	// Only a hang ends it.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	one := &verifyapi.CheckRequest{Id: "1", Input: &verifyapi.CheckRequest_Record{Record: &verifyapi.Record{Data: []byte{1}}}}

	stream, err := serve(200 * time.Millisecond).CheckStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stream.Send(one)
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) || status.Code(err) == codes.DeadlineExceeded && ctx.Err() != nil {
		t.Errorf("a silent caller: %v", err)
	}
	stream, err = serve(time.Hour).CheckStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := stream.Send(one); err != nil {
			t.Fatal(err)
		}
		if m, err := stream.Recv(); err != nil || m.Id != "1" {
			t.Fatalf("%v, %v", m, err)
		}
	}
	stream.CloseSend()
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
}

// wished notes which checks were to give status answers.
type wished struct{ archive []bool }

func (w *wished) CheckEach(_ context.Context, in *erezept.Case, emit func(*erezept.CaseReport)) {
	w.archive = append(w.archive, in.Archive)
	emit(&erezept.CaseReport{ID: in.ID, Verdict: erezept.Valid})
}

// TestStatusAnswersOnRequest: a request may ask for the status answers, and the configuration may give them to all.
func TestStatusAnswersOnRequest(t *testing.T) {
	t.Parallel()
	for _, all := range []bool{false, true} {
		w := &wished{}
		s := NewService(ServiceConfig{Checker: w, Archive: all})
		for _, tt := range []struct{ query, contentType string }{{"", "application/json"}, {"?status_answers=true", "application/json"},
			{"", "application/x-ndjson"}, {"?status_answers=true", "application/x-ndjson"}, {"?status_answers=1", "application/json"}} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, CheckPath+tt.query, strings.NewReader(`{"record":"AAAA"}`))
			r.Header.Set("Content-Type", tt.contentType)
			r.ProtoMajor = 2
			s.Handler().ServeHTTP(patient{httptest.NewRecorder()}, r)
		}
		for _, with := range []bool{false, true} {
			m := &verifyapi.CheckRequest{Input: &verifyapi.CheckRequest_Record{Record: &verifyapi.Record{Data: []byte{1}}}, WithStatusAnswers: with}
			if _, err := (rpc{s: s}).Check(t.Context(), m); err != nil {
				t.Error(err)
			}
		}
		want := []bool{all, true, all, true, all, all, true}
		for i := range want {
			if len(w.archive) != len(want) || w.archive[i] != want[i] {
				t.Fatalf("for all %t: %v; want %v", all, w.archive, want)
			}
		}
	}
}
