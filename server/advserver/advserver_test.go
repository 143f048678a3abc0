package advserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"ktradv/hw/apdu"
	"ktradv/hw/egk"
	"ktradv/hw/sim/card"
	"ktradv/hw/sim/persona"
	"ktradv/internal/advlog"
	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/internal/tlspolicy"
	"ktradv/server/advserver"
	"ktradv/server/api"
	"ktradv/server/config"
	"ktradv/server/identity"
	"ktradv/server/internal/terminal"
	"ktradv/server/tisim"
)

const (
	ik        = "109500969"
	smbICCSN  = "80276001081699900578"
	operation = "0b1c2d3e-aaaa-4bbb-8ccc-dddddddddddd"
)

var sharedPKI = sync.OnceValues(func() (*testpki.PKI, error) { return testpki.New(testpki.Config{}) })

// site is a data centre: a configured server with everything it reads, a responder, and the trust store of its terminals.
type site struct {
	pki       *testpki.PKI
	dir       string
	config    map[string]any
	responder *tisim.Responder
	trust     *tlspolicy.TrustStore
}

func newSite(t testing.TB) *site {
	t.Helper()
	pki, err := sharedPKI()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{pki: pki, dir: t.TempDir(), responder: tisim.New(pki, nil)}
	id, err := pki.IssueKTRAdV(ik, "Test-Krankenkasse", smbICCSN)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := pki.IssueTLSServer([]string{"adv.example"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"tls", "identities", "cvc", "egk-ca"} {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range map[string][]byte{"tls/cert.pem": certPEM, "tls/key.pem": keyPEM, "cvc/root.cvc": pki.Root.Certificate,
		"egk-ca/ca.der": pki.EGKCA.Certificate, "egk-ca/rsa.der": pki.EGKRSACA.Certificate} {
		if err := os.WriteFile(filepath.Join(s.dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err = identity.WriteFile(filepath.Join(s.dir, "identities"), identity.File{IK: ik, Name: "Test-Krankenkasse", ICCSN: smbICCSN,
		CA: id.CACVC, Null: identity.KeyPair{Certificate: id.Null.Certificate, Key: id.Null.Key.Bytes()},
		AUTR: identity.KeyPair{Certificate: id.AUTR.Certificate, Key: id.AUTR.Key.Bytes()}})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(certPEM)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if s.trust, err = tlspolicy.NewTrustStore(leaf); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.responder.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-served })
	s.config = map[string]any{
		"mode": "test", "listen": "127.0.0.1:0", "ops_listen": "127.0.0.1:0",
		"tls":        map[string]any{"certificate": "tls/cert.pem", "key": "tls/key.pem"},
		"identities": map[string]any{"kind": "file", "dir": "identities"},
		"trust":      map[string]any{"cvc_roots": "cvc", "egk_cas": "egk-ca"},
		"ocsp":       map[string]any{"url": "http://" + l.Addr().String()},
		"limits":     map[string]any{"drain_timeout": "5s"},
		"log":        map[string]any{"dir": "log"},
	}
	return s
}

func (s *site) parse(t testing.TB) config.Config {
	t.Helper()
	b, err := json.Marshal(s.config)
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse(b, s.dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type running struct {
	*advserver.Server
	stop    context.CancelFunc
	stopped chan error
}

func (s *site) run(t testing.TB) running {
	t.Helper()
	srv, err := advserver.Start(s.parse(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := running{srv, cancel, make(chan error, 1)}
	go func() {
		r.stopped <- srv.Run(ctx)
		close(r.stopped)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.stopped
	})
	return r
}

func (r running) halt(t testing.TB) {
	t.Helper()
	r.stop()
	if err := <-r.stopped; err != nil {
		t.Errorf("Run = %v", err)
	}
}

// dial opens a session stream as a terminal does.
func (s *site) dial(t testing.TB, addr net.Addr) api.AdV_SessionClient {
	t.Helper()
	stream, _ := s.dialConn(t, addr)
	return stream
}

// dialConn also returns what closes the connection.
func (s *site) dialConn(t testing.TB, addr net.Addr) (stream api.AdV_SessionClient, hangUp func()) {
	t.Helper()
	cfg, err := tlspolicy.ClientConfig(s.trust, "adv.example", nil)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, addr, credentials.NewTLS(cfg))
}

func open(t testing.TB, addr net.Addr, creds credentials.TransportCredentials) (stream api.AdV_SessionClient, hangUp func()) {
	t.Helper()
	conn, err := grpc.NewClient(addr.String(), grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	stream, err = api.NewAdVClient(conn).Session(t.Context())
	if err != nil {
		return failedStream{err: err}, func() {}
	}
	return stream, func() { conn.Close() }
}

type failedStream struct {
	api.AdV_SessionClient
	err error
}

func (f failedStream) Send(*api.AppMessage) error        { return f.err }
func (f failedStream) Recv() (*api.ServerMessage, error) { return nil, f.err }
func (f failedStream) CloseSend() error                  { return f.err }

type insured struct {
	card  *card.Card
	info  persona.Info
	start terminal.Start
}

func (s *site) insert(t testing.TB, id string) insured {
	t.Helper()
	c, err := persona.Build(id, s.pki, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c.Reset(false)
	in := insured{card: c}
	for _, info := range persona.List() {
		if info.ID == id {
			in.info = info
		}
	}
	run := func(cmd string) []byte {
		raw, err := hex.DecodeString(cmd)
		if err != nil {
			t.Fatal(err)
		}
		r := c.Process(raw)
		if !bytes.HasSuffix(r, []byte{0x90, 0x00}) {
			t.Fatalf("%s: card answers %X", cmd, r)
		}
		return r[:len(r)-2]
	}
	run("00A4040C")
	in.start = terminal.Start{OperationID: operation, IK: in.info.IK, Generation: api.Generation_GENERATION_G2_1,
		AUTCVC: run("00B0860000"), CACVC: run("00B0870000")}
	run("002000010826" + in.info.PIN + "FFFFFFFF")
	return in
}

func (in insured) options(t testing.TB) terminal.Options {
	return terminal.Options{AUTN: func() []byte {
		raw := apdu.RawFunc(func(_ context.Context, cmd []byte) ([]byte, error) { return in.card.Process(cmd), nil })
		der, err := egk.ReadCertificate(t.Context(), apdu.FromRaw(raw), egk.G21, egk.CertAUTN)
		if err != nil {
			t.Error(err)
		}
		return der
	}}
}

func (in insured) unlock(t testing.TB, stream api.AdV_SessionClient) terminal.Result {
	t.Helper()
	r, err := terminal.Unlock(stream, in.start, in.card.Process, in.options(t))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func get(t testing.TB, addr net.Addr, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + addr.String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (s *site) log(t testing.TB, stream string) (es []advlog.Entry) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "log", "adv-server-"+stream+".log"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		e, err := advlog.ParseEntry(line)
		if err != nil {
			t.Fatal(err)
		}
		es = append(es, e)
	}
	return es
}

func TestSessionOverTLS(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_15112", "A_15114", "A_15115", "AdV-A_2416")
	s := newSite(t)
	srv := s.run(t)
	stream := s.dial(t, srv.Addr())
	in := s.insert(t, "healthy-g21")
	r := in.unlock(t, stream)
	if r.Unlocked.GetCertificate().GetOnline() != api.OnlineStatus_ONLINE_STATUS_GOOD || r.RoundTrips != 5 {
		t.Errorf("result %+v", r)
	}
	if code, body := get(t, srv.OpsAddr(), "/metrics"); code != http.StatusOK || !strings.Contains(body, "adv_sessions_active 1") ||
		!strings.Contains(body, "adv_log_entries_dropped_total 0") ||
		!strings.Contains(body, `adv_ocsp_seconds_count{outcome="good"} 1`) || !strings.Contains(body, `adv_card_batch_seconds_count{step="pin_status"} 1`) {
		t.Errorf("metrics: %d\n%s", code, body)
	} else if strings.Contains(body, in.info.ICCSN) || strings.Contains(body, in.info.KVNR) {
		t.Error("metrics hold data of the insured person")
	}
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/": 404} {
		if code, _ := get(t, srv.OpsAddr(), path); code != want {
			t.Errorf("%s: %d; want %d", path, code, want)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the session: %v", err)
	}
	srv.halt(t)
	flow := s.log(t, "flow")
	if len(flow) != 4 {
		t.Fatalf("%d flow entries; want 4: %+v", len(flow), flow)
	}
	for _, e := range flow {
		if e.Operation != operation || e.Result != "ok" {
			t.Errorf("flow entry %+v", e)
		}
	}
}

func TestOnlyTLSAndOnlyThePinnedServer(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2421", "AdV-A_2416", "AdV-A_2418", "AdV-A_2434")
	s := newSite(t)
	srv := s.run(t)
	other := newSite(t) // a terminal of another site trusts another certificate
	if _, err := other.dial(t, srv.Addr()).Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("terminal with another trust store: %v", err)
	}
	plain, _ := open(t, srv.Addr(), insecure.NewCredentials())
	if _, err := plain.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("without TLS: %v", err)
	}
	old := &tls.Config{ServerName: "adv.example", MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10, InsecureSkipVerify: true}
	if c, err := tls.Dial("tcp", srv.Addr().String(), old); err == nil {
		c.Close()
		t.Error("TLS 1.1 was accepted")
	}
	conn, err := net.Dial("tcp", srv.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\n\r\n")
	if b, _ := io.ReadAll(conn); strings.Contains(string(b), "200") {
		t.Errorf("plain HTTP was answered: %q", b)
	}
	if r := s.insert(t, "healthy-g21").unlock(t, s.dial(t, srv.Addr())); r.Unlocked == nil {
		t.Errorf("the twin with the right trust store: %v", r.Failure)
	}
	srv.halt(t)
	refused := 0
	for _, e := range s.log(t, "security") {
		if e.Name == "server.tls_handshake" && e.Code == 11060 && e.Result == "refused" {
			refused++
		}
	}
	if refused < 4 {
		t.Errorf("%d refused connections in the security log; want one for each attempt (4)", refused)
	}
}

func TestServerResumesNoSession(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_16395")
	s := newSite(t)
	srv := s.run(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg, err := tlspolicy.ClientConfig(s.trust, "adv.example", nil)
		if err != nil {
			t.Fatal(err)
		}
		// A client that would resume if it got a ticket.
		cfg.ClientSessionCache, cfg.SessionTicketsDisabled, cfg.MaxVersion = tls.NewLRUClientSessionCache(4), false, version
		for i := range 2 {
			c, err := tls.Dial("tcp", srv.Addr().String(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 1)); err != nil { // HTTP/2 settings; tickets come before them
				t.Fatal(err)
			}
			if c.ConnectionState().DidResume {
				t.Errorf("%s: connection %d resumed", tls.VersionName(version), i+1)
			}
			c.Close()
		}
		if _, ok := cfg.ClientSessionCache.Get("adv.example"); ok {
			t.Errorf("%s: the server gave out a ticket", tls.VersionName(version))
		}
	}
}

func TestOversizeMessage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	srv := s.run(t)
	stream := s.dial(t, srv.Addr())
	err := stream.Send(&api.AppMessage{Body: &api.AppMessage_Start{Start: &api.Start{CvcEgkAut: make([]byte, api.MaxMessageBytes+1)}}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.Recv()
	if err == nil && m.GetFailure().GetCode() != api.FailureCode_FAILURE_CODE_PROTOCOL || err != nil && status.Code(err) != codes.ResourceExhausted {
		t.Errorf("received %v, %v; want a refusal", m, err)
	}
	// The server goes on.
	if r := s.insert(t, "healthy-g21").unlock(t, s.dial(t, srv.Addr())); r.Unlocked == nil {
		t.Errorf("after the oversize message: %v", r.Failure)
	}
}

func TestTerminalDisappears(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.config["limits"] = map[string]any{"sessions": 1, "drain_timeout": "5s"}
	srv := s.run(t)
	for range 3 { // with one session at a time, each further one needs the one before to be gone
		in := s.insert(t, "healthy-g21")
		cfg, err := tlspolicy.ClientConfig(s.trust, "adv.example", nil)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient(srv.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
		if err != nil {
			t.Fatal(err)
		}
		stream, err := api.NewAdVClient(conn).Session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o := in.options(t)
		o.Answer = func(step api.Step, m *api.AppMessage) *api.AppMessage {
			if step == api.Step_STEP_ROLE_IMPORT {
				conn.Close() // in the middle of card-to-card
			}
			return m
		}
		r, err := terminal.Unlock(stream, in.start, in.card.Process, o)
		if err == nil {
			t.Fatalf("session ended with %+v", r)
		}
		for { // the server notices by itself
			if _, body := get(t, srv.OpsAddr(), "/metrics"); strings.Contains(body, "adv_sessions_active 0") {
				break
			}
		}
	}
	srv.halt(t)
	if es := s.log(t, "error"); len(es) != 3 || es[0].Code != 11041 || es[0].Operation != operation {
		t.Errorf("error log %+v; want three lost connections", es)
	}
}

func TestStopLetsAStartFinish(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	srv := s.run(t)
	in := s.insert(t, "healthy-g21")
	stream := s.dial(t, srv.Addr())
	o := in.options(t)
	o.Answer = func(step api.Step, m *api.AppMessage) *api.AppMessage {
		if step == api.Step_STEP_CHANNEL_OPEN {
			srv.stop()
		}
		return m
	}
	r, err := terminal.Unlock(stream, in.start, in.card.Process, o)
	if err != nil || r.Unlocked == nil {
		t.Errorf("the start in progress ended with %v, %v", r.Failure, err)
	}
	if m, err := stream.Recv(); err != nil || m.GetFailure().GetCode() != api.FailureCode_FAILURE_CODE_SHUTDOWN {
		t.Errorf("received %v, %v; want shutdown", m, err)
	}
	if err := <-srv.stopped; err != nil {
		t.Errorf("Run = %v", err)
	}
	if _, err := net.Dial("tcp", srv.Addr().String()); err == nil {
		t.Error("the port is still open")
	}
}

func TestStopCutsOffWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.config["limits"] = map[string]any{"drain_timeout": "50ms"}
	srv := s.run(t)
	in := s.insert(t, "healthy-g21")
	o := in.options(t)
	o.Answer = func(step api.Step, m *api.AppMessage) *api.AppMessage {
		if step == api.Step_STEP_CHANNEL_OPEN {
			srv.stop()
			<-srv.stopped // the terminal hangs
		}
		return m
	}
	if r, err := terminal.Unlock(s.dial(t, srv.Addr()), in.start, in.card.Process, o); err == nil {
		t.Errorf("the session ended with %+v", r)
	}
	found := false
	for _, e := range s.log(t, "error") {
		found = found || e.Code == 11061
	}
	if !found {
		t.Error("no entry about sessions that were cut off")
	}
}

// Two copies of the server share nothing but their configuration.
func TestServersAreReplaceable(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.run(t)
	s.config["log"] = map[string]any{"dir": "log2"}
	second := s.run(t)
	for _, srv := range []running{first, second} {
		if r := s.insert(t, "healthy-g21").unlock(t, s.dial(t, srv.Addr())); r.Unlocked == nil {
			t.Errorf("failure %v", r.Failure)
		}
	}
	first.halt(t)
	if r := s.insert(t, "healthy-g21").unlock(t, s.dial(t, second.Addr())); r.Unlocked == nil {
		t.Errorf("after the first has stopped: %v", r.Failure)
	}
}

func TestStartSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, want string
		change     func(t *testing.T, s *site)
	}{
		{"identities", "identities", func(t *testing.T, s *site) { s.config["identities"] = map[string]any{"kind": "file", "dir": "nowhere"} }},
		{"roots", "CVC roots", func(t *testing.T, s *site) { remove(t, s, "cvc/root.cvc") }},
		{"CA", "CA certificates", func(t *testing.T, s *site) { remove(t, s, "egk-ca/ca.der"); remove(t, s, "egk-ca/rsa.der") }},
		{"damaged CA", "ca.der", func(t *testing.T, s *site) { write(t, s, "egk-ca/ca.der", []byte{1, 2}) }},
		{"huge CA", "ca.der", func(t *testing.T, s *site) { write(t, s, "egk-ca/ca.der", make([]byte, 1<<20)) }},
		{"responders", "OCSP responders", func(t *testing.T, s *site) {
			s.config["trust"] = map[string]any{"cvc_roots": "cvc", "egk_cas": "egk-ca", "ocsp_signers": "tls"}
		}},
		{"TLS key", "TLS certificate and key", func(t *testing.T, s *site) { remove(t, s, "tls/key.pem") }},
		{"log", "log", func(t *testing.T, s *site) { s.config["log"] = map[string]any{"dir": "tls/cert.pem/log"} }},
		{"address", "listen for terminals", func(t *testing.T, s *site) { s.config["listen"] = "192.0.2.1:1" }},
		{"ops address", "health and metrics", func(t *testing.T, s *site) { s.config["ops_listen"] = "127.0.0.1:99999" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			tt.change(t, s)
			_, err := advserver.Start(s.parse(t))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Start = %v; want an error with %q", err, tt.want)
			}
		})
	}
}

// Even a configuration that got past the check of its file is refused: production has no identities in files.
func TestProductionRefusesFileIdentities(t *testing.T) {
	t.Parallel()
	c := newSite(t).parse(t)
	c.Mode = config.Production
	if _, err := advserver.Start(c); !errors.Is(err, identity.ErrProduction) {
		t.Errorf("Start = %v; want ErrProduction", err)
	}
	c.Mode = ""
	if _, err := advserver.Start(c); !errors.Is(err, identity.ErrProduction) {
		t.Errorf("Start without a mode = %v; want ErrProduction", err)
	}
}

func remove(t *testing.T, s *site, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, s *site, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}
