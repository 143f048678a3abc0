package proxy_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ktradv/hw/apdu"
	"ktradv/hw/c2c"
	"ktradv/hw/cvc"
	"ktradv/hw/egk"
	"ktradv/hw/sim/card"
	"ktradv/hw/sim/persona"
	"ktradv/internal/advlog"
	"ktradv/internal/ocsp"
	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/internal/x509ti"
	"ktradv/server/api"
	"ktradv/server/consumer"
	"ktradv/server/identity"
	"ktradv/server/internal/terminal"
	"ktradv/server/proxy"
	"ktradv/server/tisim"
)

const (
	ikWithSMB = "109500969"
	smbICCSN  = "80276001081699900578"
	smbName   = "Test-Krankenkasse KTR-AdV"
)

// world is everything around the server that tests share; it does not change.
type world struct {
	pki        *testpki.PKI
	identities *identity.Files
	roots      cvc.Roots
	cas        []*x509ti.Certificate
}

func newWorld(dir string) (*world, error) {
	pki, err := testpki.New(testpki.Config{})
	if err != nil {
		return nil, err
	}
	id, err := pki.IssueKTRAdV(ikWithSMB, smbName, smbICCSN)
	if err != nil {
		return nil, err
	}
	err = identity.WriteFile(dir, identity.File{IK: ikWithSMB, Name: smbName, ICCSN: smbICCSN, CA: id.CACVC,
		Null: identity.KeyPair{Certificate: id.Null.Certificate, Key: id.Null.Key.Bytes()},
		AUTR: identity.KeyPair{Certificate: id.AUTR.Certificate, Key: id.AUTR.Key.Bytes()}})
	if err != nil {
		return nil, err
	}
	ids, err := identity.OpenFiles(dir, false)
	if err != nil {
		return nil, err
	}
	roots := cvc.Roots{}
	if err := roots.AddCertificate(pki.Root.Certificate); err != nil {
		return nil, err
	}
	var cas []*x509ti.Certificate
	for _, der := range [][]byte{pki.EGKCA.Certificate, pki.EGKRSACA.Certificate} {
		ca, err := x509ti.Parse(der)
		if err != nil {
			return nil, err
		}
		cas = append(cas, ca)
	}
	return &world{pki, ids, roots, cas}, nil
}

var sharedWorld = sync.OnceValues(func() (*world, error) {
	dir, err := os.MkdirTemp("", "identities")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return newWorld(dir)
})

func theWorld(t testing.TB) *world {
	t.Helper()
	w, err := sharedWorld()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// noStatus is a source of revocation status for tests that do not get that far, or that want a fixed answer.
type fixedStatus struct {
	status ocsp.Status
	err    error
}

func (f fixedStatus) Status(context.Context, *x509ti.Certificate, *x509ti.Certificate) (ocsp.Status, error) {
	return f.status, f.err
}

func newProxy(t testing.TB, change func(*proxy.Config)) *proxy.Proxy {
	t.Helper()
	w := theWorld(t)
	cfg := proxy.Config{Identities: w.identities, Roots: w.roots, EGKCAs: w.cas, Status: fixedStatus{status: ocsp.Good}}
	if change != nil {
		change(&cfg)
	}
	p, err := proxy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pipe is a session stream without a network. The two ends share no memory.
type pipe struct {
	grpc.ServerStream
	ctx      context.Context
	cancel   context.CancelFunc
	toServer chan *api.AppMessage
	toClient chan *api.ServerMessage
	recvErr  chan error
	closed   chan struct{}
	once     sync.Once

	mu        sync.Mutex
	delivered []*api.AppMessage // what the server was given
}

func newPipe(ctx context.Context) *pipe {
	ctx, cancel := context.WithCancel(ctx)
	return &pipe{ctx: ctx, cancel: cancel, toServer: make(chan *api.AppMessage), toClient: make(chan *api.ServerMessage),
		recvErr: make(chan error, 1), closed: make(chan struct{})}
}

// serverEnd and clientEnd name the two ends; the method sets clash otherwise.
type serverEnd struct{ *pipe }
type clientEnd struct{ *pipe }

func (s serverEnd) Context() context.Context { return s.ctx }

func (s serverEnd) Send(m *api.ServerMessage) error {
	select {
	case s.toClient <- proto.CloneOf(m):
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s serverEnd) Recv() (*api.AppMessage, error) {
	select {
	case m := <-s.toServer:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.delivered = append(s.delivered, m)
		return m, nil
	case err := <-s.recvErr:
		return nil, err
	case <-s.closed:
		return nil, io.EOF
	case <-s.ctx.Done():
		return nil, status.FromContextError(s.ctx.Err()).Err()
	}
}

func (c clientEnd) Send(m *api.AppMessage) error {
	select {
	case c.toServer <- proto.CloneOf(m):
		return nil
	case <-c.ctx.Done():
		return io.EOF
	}
}

func (c clientEnd) Recv() (*api.ServerMessage, error) {
	m, ok := <-c.toClient
	if !ok {
		return nil, io.EOF
	}
	return m, nil
}

func (c clientEnd) CloseSend() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// connect runs a session of p; the result of the handler arrives on the channel.
func connect(t testing.TB, p *proxy.Proxy) (clientEnd, <-chan error) {
	t.Helper()
	pp := newPipe(t.Context())
	done := make(chan error, 1)
	go func() {
		err := p.Session(serverEnd{pp})
		close(pp.toClient)
		pp.cancel()
		done <- err
	}()
	return clientEnd{pp}, done
}

// insured is a card in a reader, with PIN.CH verified.
type insured struct {
	card  *card.Card
	info  persona.Info
	start terminal.Start
}

const operationID = "0b1c2d3e-aaaa-4bbb-8ccc-dddddddddddd"

func insert(t testing.TB, id string) insured {
	t.Helper()
	c, err := persona.Build(id, theWorld(t).pki, time.Now())
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
	generation := api.Generation_GENERATION_G2_1
	if in.info.Generation == "G2" {
		generation = api.Generation_GENERATION_G2
	}
	in.start = terminal.Start{OperationID: operationID, IK: in.info.IK, Generation: generation,
		AUTCVC: in.run(t, "00A4040C", "00B0860000"), CACVC: in.run(t, "00B0870000")}
	return in
}

// run sends commands in hexadecimal, which must succeed, and returns the data of the last answer.
func (in insured) run(t testing.TB, commands ...string) (data []byte) {
	t.Helper()
	for _, cmd := range commands {
		raw, err := hex.DecodeString(cmd)
		if err != nil {
			t.Fatal(err)
		}
		r := in.card.Process(raw)
		if !bytes.HasSuffix(r, []byte{0x90, 0x00}) {
			t.Fatalf("%s: card answers %X", cmd, r)
		}
		data = r[:len(r)-2]
	}
	return data
}

func (in insured) verifyPIN(t testing.TB) insured {
	t.Helper()
	in.run(t, "00200001082"+"6"+in.info.PIN+"FFFFFFFF")
	return in
}

func (in insured) autn(t testing.TB) []byte {
	t.Helper()
	generation := egk.G21
	if in.info.Generation == "G2" {
		generation = egk.G2
	}
	raw := apdu.RawFunc(func(_ context.Context, cmd []byte) ([]byte, error) { return in.card.Process(cmd), nil })
	der, err := egk.ReadCertificate(t.Context(), apdu.FromRaw(raw), generation, egk.CertAUTN)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// visit runs a session start and waits for its end.
func visit(t testing.TB, p *proxy.Proxy, in insured, o terminal.Options) (terminal.Result, *pipe) {
	t.Helper()
	if o.AUTN == nil {
		o.AUTN = func() []byte { return in.autn(t) }
	}
	c, done := connect(t, p)
	r, err := terminal.Unlock(c, in.start, in.card.Process, o)
	if err != nil {
		t.Fatal(err)
	}
	c.CloseSend()
	if err := <-done; err != nil {
		t.Errorf("the handler returned %v", err)
	}
	return r, c.pipe
}

func TestSessionStart(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_15112", "A_15114", "A_15115", "AdV-A_2570", "A_15118", "AdV-A_2514")
	for _, id := range []string{"healthy-g21", "healthy-g2"} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			in := insert(t, id).verifyPIN(t)
			r, pp := visit(t, newProxy(t, nil), in, terminal.Options{})
			if r.Unlocked == nil {
				t.Fatalf("not unlocked: %v", r.Failure)
			}
			want := &api.CertificateResult{MathValid: true, TimeValid: true, Online: api.OnlineStatus_ONLINE_STATUS_GOOD}
			if !proto.Equal(r.Unlocked.Certificate, want) {
				t.Errorf("certificate result %v; want %v", r.Unlocked.Certificate, want)
			}
			if r.RoundTrips > 6 {
				t.Errorf("%d round trips; the goal is 6", r.RoundTrips)
			}
			if r.Actor.GetName() != smbName || r.Actor.GetIccsn() != smbICCSN {
				t.Errorf("actor %v", r.Actor)
			}
			// The order of ABB_ADV_333: key agreement, PIN status in the channel, challenge, authentication.
			heads := []string{"10860000", "8c200001", "00840000", "00820000"}
			for i, b := range r.Batches {
				if got := hex.EncodeToString(b[:4]); got != heads[i] {
					t.Errorf("batch %d ends with %s; want %s", i+1, got, heads[i])
				}
			}
			// The card really carries the rights now: C.CH.AUTN could be read above, and EF.Logging can be written.
			in.run(t, "00A4040C06D27600000102")
			in.run(t, "00E200302E"+strings.Repeat("20", 46))
			// Nothing of the insured person is left in what arrived (AdV-A_2409).
			for i, m := range pp.delivered {
				for _, b := range [][]byte{m.GetStart().GetCvcEgkAut(), m.GetStart().GetCvcEgkCa(),
					m.GetResponses().GetCertificateCheck().GetCertAutn()} {
					if len(bytes.Trim(b, "\x00")) != 0 {
						t.Errorf("message %d still holds %d octets", i+1, len(b))
					}
				}
				for _, b := range m.GetResponses().GetApdu() {
					if len(bytes.Trim(b, "\x00")) != 0 {
						t.Errorf("message %d still holds a response", i+1)
					}
				}
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2421", "A_15112", "A_15114", "AdV-A_2570")
	corrupt := func(step api.Step, change func(r *api.Responses)) terminal.Options {
		return terminal.Options{Answer: func(s api.Step, m *api.AppMessage) *api.AppMessage {
			if s == step {
				change(m.GetResponses())
			}
			return m
		}}
	}
	last := func(r *api.Responses) *[]byte { return &r.Apdu[len(r.Apdu)-1] }
	const (
		open   = api.Step_STEP_CHANNEL_OPEN
		pin    = api.Step_STEP_PIN_STATUS
		role   = api.Step_STEP_ROLE_IMPORT
		unlock = api.Step_STEP_ROLE_AUTHENTICATE
	)
	tests := []struct {
		name    string
		persona string
		noPIN   bool
		change  func(*insured)
		options terminal.Options
		want    api.FailureCode
		sw      uint32
		code    int  // in the error log
		iccsn   bool // a card-related error names the card (AdV-A_2424)
	}{
		{name: "PIN not verified", persona: "healthy-g21", noPIN: true, want: api.FailureCode_FAILURE_CODE_PIN_NOT_VERIFIED, code: 11022, iccsn: true},
		{name: "PIN blocked", persona: "pin-blocked", noPIN: true, want: api.FailureCode_FAILURE_CODE_PIN_NOT_VERIFIED, code: 11022, iccsn: true},
		{name: "transport PIN", persona: "transport-pin", noPIN: true, want: api.FailureCode_FAILURE_CODE_PIN_NOT_VERIFIED, code: 11022, iccsn: true},
		{name: "insurer without SM-B", persona: "insurer-without-smb", want: api.FailureCode_FAILURE_CODE_IDENTITY_UNAVAILABLE, code: 11010},
		{name: "copied card", persona: "copied-card", want: api.FailureCode_FAILURE_CODE_CARD_NOT_AUTHENTIC, code: 11021, iccsn: true},
		{name: "foreign root", persona: "foreign-root", want: api.FailureCode_FAILURE_CODE_CARD_NOT_AUTHENTIC, code: 11020, iccsn: true},
		{name: "forged PIN status", persona: "healthy-g21", noPIN: true, options: corrupt(pin, func(r *api.Responses) {
			*last(r) = []byte{0x90, 0x00} // without secure messaging
		}), want: api.FailureCode_FAILURE_CODE_CARD_NOT_AUTHENTIC, code: 11021, iccsn: true},
		{name: "PIN status with changed status word", persona: "healthy-g21", noPIN: true, options: corrupt(pin, func(r *api.Responses) {
			b := bytes.Clone(*last(r)) // 99 02 SW 8E 08 MAC SW
			copy(b[2:4], []byte{0x90, 0x00})
			copy(b[len(b)-2:], []byte{0x90, 0x00})
			*last(r) = b
		}), want: api.FailureCode_FAILURE_CODE_CARD_NOT_AUTHENTIC, code: 11021, iccsn: true},
		{name: "changed MAC", persona: "healthy-g21", options: corrupt(pin, func(r *api.Responses) {
			b := bytes.Clone(*last(r))
			b[len(b)-3] ^= 1
			*last(r) = b
		}), want: api.FailureCode_FAILURE_CODE_CARD_NOT_AUTHENTIC, code: 11021, iccsn: true},
		{name: "ephemeral key not on the curve", persona: "healthy-g21", options: corrupt(open, func(r *api.Responses) {
			b := bytes.Clone(*last(r))
			b[10] ^= 1
			*last(r) = b
		}), want: api.FailureCode_FAILURE_CODE_PROTOCOL, code: 11030},
		{name: "response of one octet", persona: "healthy-g21", options: corrupt(open, func(r *api.Responses) {
			*last(r) = []byte{0x90}
		}), want: api.FailureCode_FAILURE_CODE_PROTOCOL, code: 11030},
		{name: "response that is none", persona: "healthy-g21", options: corrupt(open, func(r *api.Responses) {
			*last(r) = []byte{0x12, 0x34}
		}), want: api.FailureCode_FAILURE_CODE_PROTOCOL, code: 11030},
		{name: "too few responses", persona: "healthy-g21", options: corrupt(open, func(r *api.Responses) {
			r.Apdu = r.Apdu[:2]
		}), want: api.FailureCode_FAILURE_CODE_PROTOCOL, code: 11030},
		{name: "too many responses", persona: "healthy-g21", options: corrupt(role, func(r *api.Responses) {
			r.Apdu = append(r.Apdu, []byte{0x90, 0x00})
		}), want: api.FailureCode_FAILURE_CODE_PROTOCOL, code: 11030},
		{name: "short challenge", persona: "healthy-g21", options: corrupt(role, func(r *api.Responses) {
			*last(r) = []byte{1, 2, 3, 0x90, 0x00}
		}), want: api.FailureCode_FAILURE_CODE_PROTOCOL, code: 11030},
		{name: "card refuses the import", persona: "healthy-g21", options: corrupt(role, func(r *api.Responses) {
			r.Apdu = [][]byte{{0x90, 0x00}, {0x6A, 0x80}}
		}), want: api.FailureCode_FAILURE_CODE_IMPORT_REFUSED, sw: 0x6A80, code: 11023, iccsn: true},
		{name: "card does not know the root", persona: "healthy-g21", options: corrupt(open, func(r *api.Responses) {
			r.Apdu = [][]byte{{0x90, 0x00}, {0x90, 0x00}, {0x6A, 0x88}}
		}), want: api.FailureCode_FAILURE_CODE_IMPORT_REFUSED, sw: 0x6A88, code: 11024, iccsn: true},
		{name: "card refuses the role", persona: "healthy-g21", options: corrupt(unlock, func(r *api.Responses) {
			r.Apdu, r.CertificateCheck = [][]byte{{0x63, 0x00}}, nil
		}), want: api.FailureCode_FAILURE_CODE_CARD_REFUSED, sw: 0x6300, code: 11023, iccsn: true},
		{name: "certificate too early", persona: "healthy-g21", options: corrupt(pin, func(r *api.Responses) {
			r.CertificateCheck = &api.CertificateCheck{CertAutn: []byte{1}}
		}), want: api.FailureCode_FAILURE_CODE_PROTOCOL, code: 11030},
		{name: "stated insurer is not the card's", persona: "insurer-without-smb", change: func(in *insured) {
			in.start.IK = ikWithSMB
		}, want: api.FailureCode_FAILURE_CODE_PROTOCOL, code: 11032, iccsn: true},
		{name: "no IK", persona: "healthy-g21", change: func(in *insured) { in.start.IK = "12345" },
			want: api.FailureCode_FAILURE_CODE_PROTOCOL, code: 11030},
		{name: "no operation id", persona: "healthy-g21", change: func(in *insured) { in.start.OperationID = "" },
			want: api.FailureCode_FAILURE_CODE_PROTOCOL, code: 11030},
		{name: "certificate is garbage", persona: "healthy-g21", change: func(in *insured) { in.start.AUTCVC = []byte("garbage") },
			want: api.FailureCode_FAILURE_CODE_CARD_NOT_AUTHENTIC, code: 11020},
		{name: "certificate of the CA as the card's", persona: "healthy-g21", change: func(in *insured) {
			in.start.AUTCVC = in.start.CACVC
		}, want: api.FailureCode_FAILURE_CODE_CARD_NOT_AUTHENTIC, code: 11020},
		{name: "start twice", persona: "healthy-g21", options: terminal.Options{Answer: func(s api.Step, m *api.AppMessage) *api.AppMessage {
			return &api.AppMessage{Body: &api.AppMessage_Start{Start: &api.Start{OperationId: operationID, Ik: ikWithSMB, AppVersion: "1",
				CvcEgkAut: []byte{1}, CvcEgkCa: []byte{1}, Generation: api.Generation_GENERATION_G2}}}
		}}, want: api.FailureCode_FAILURE_CODE_PROTOCOL, code: 11030},
		{name: "empty message", persona: "healthy-g21", options: terminal.Options{Answer: func(api.Step, *api.AppMessage) *api.AppMessage {
			return &api.AppMessage{}
		}}, want: api.FailureCode_FAILURE_CODE_PROTOCOL, code: 11030},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := insert(t, tt.persona)
			if !tt.noPIN {
				in.verifyPIN(t)
			}
			if tt.change != nil {
				tt.change(&in)
			}
			log, dir := openLog(t)
			r, _ := visit(t, newProxy(t, func(c *proxy.Config) { c.Log = log }), in, tt.options)
			if r.Failure == nil {
				t.Fatal("the card was unlocked")
			}
			if r.Failure.Code != tt.want || r.Failure.Sw != tt.sw {
				t.Errorf("failure %v %04X; want %v %04X", r.Failure.Code, r.Failure.Sw, tt.want, tt.sw)
			}
			es := readLog(t, log, dir, "error")
			if len(es) != 1 || es[0].Code != tt.code || es[0].ErrorType == "" || es[0].Severity != "Error" {
				t.Fatalf("error log %+v; want one entry with code %d", es, tt.code)
			}
			if ik := es[0].Values["ik"]; tt.code == 11010 && fmt.Sprintf("%.0f", ik) != in.info.IK {
				t.Errorf("the entry names the insurer %v; want %s", ik, in.info.IK)
			}
			if want := in.info.ICCSN; tt.iccsn && es[0].ICCSN != want || !tt.iccsn && es[0].ICCSN != "" {
				t.Errorf("card number in the error log: %q; card-related %t", es[0].ICCSN, tt.iccsn)
			}
			// However it failed, the card gives nothing away: C.CH.AUTN needs the rights of the KTR-AdV.
			raw := apdu.RawFunc(func(_ context.Context, cmd []byte) ([]byte, error) { return in.card.Process(cmd), nil })
			if tt.code != 11032 && tt.name != "card refuses the role" {
				if _, err := egk.ReadCertificate(t.Context(), apdu.FromRaw(raw), egk.G21, egk.CertAUTN); err == nil {
					t.Error("C.CH.AUTN can be read")
				}
			}
		})
	}
}

func openLog(t testing.TB) (*advlog.Log, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	log, err := advlog.Open(advlog.Config{Dir: dir, Component: advlog.Server, Enabled: true, Level: advlog.Info})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log, dir
}

func readLog(t testing.TB, log *advlog.Log, dir, stream string) (es []advlog.Entry) {
	t.Helper()
	if err := log.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "adv-server-"+stream+".log"))
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

func TestLogsOfASession(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2428", "AdV-A_2430", "AdV-A_2440", "AdV-A_2422", "AdV-A_2424", "AdV-A_2412", "AdV-A_2411", "AdV-A_2407")
	w := theWorld(t)
	log, dir := openLog(t)
	responder := tisim.New(w.pki, nil)
	srv := httptest.NewServer(responder)
	defer srv.Close()
	adapter := consumer.New(consumer.Config{OCSPURL: srv.URL, Log: log})
	p := newProxy(t, func(c *proxy.Config) { c.Log, c.Status = log, adapter })

	in := insert(t, "healthy-g21").verifyPIN(t)
	var autn []byte
	r, _ := visit(t, p, in, terminal.Options{AUTN: func() []byte { autn = in.autn(t); return autn }})
	if r.Unlocked.GetCertificate().GetOnline() != api.OnlineStatus_ONLINE_STATUS_GOOD {
		t.Fatalf("result %+v", r)
	}
	visit(t, p, insert(t, "healthy-g21"), terminal.Options{}) // PIN not verified: a card-related error
	cert, err := x509ti.Parse(autn)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, stream := range []string{"flow", "performance", "error", "security"} {
		for _, e := range readLog(t, log, dir, stream) {
			if e.Operation != operationID || e.Session == "" {
				t.Errorf("%s: operation %q, session %q: %+v", stream, e.Operation, e.Session, e)
			}
			if stream == "flow" && (e.Start == "" || e.End == "" || e.Name == "" || e.Result == "" || (e.Result == "ok") != (e.Code == 0)) {
				t.Errorf("flow entry is incomplete: %+v", e)
			}
			if v := e.Values; e.Name == "server.session_start" && stream == "flow" && e.Result == "ok" &&
				(v["app_major"] != 1.0 || v["app_minor"] != 2.0 || v["app_patch"] != 3.0 || v["generation"] != 2.0 || v["round_trips"] != 4.0) {
				t.Errorf("figures of the session start: %v", v)
			}
			names[stream+" "+e.Name]++
		}
	}
	for name, want := range map[string]int{"flow server.session_start": 2, "flow server.session": 2, "flow ocsp.request": 1,
		"flow server.certificate_check": 1, "performance server.card_batch": 6, "error server.session": 1, "security server.session": 1} {
		if names[name] != want {
			t.Errorf("%d entries %q; want %d", names[name], name, want)
		}
	}
	// The canary: nothing of the person in any file; the card number once, in the error log.
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{in.info.KVNR, in.info.Name, in.info.PIN, cert.Serial.String(), cert.Serial.Text(16), hex.EncodeToString(in.start.AUTCVC[:40])}
	secrets = append(secrets, strings.Fields(in.info.Name)...)
	found := 0
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range secrets {
			if strings.Contains(strings.ToLower(string(b)), strings.ToLower(s)) {
				t.Errorf("%s holds %q", f.Name(), s)
			}
		}
		if n := strings.Count(string(b), in.info.ICCSN); n > 0 {
			found += n
			if f.Name() != "adv-server-error.log" {
				t.Errorf("%s holds the card number", f.Name())
			}
		}
	}
	if found != 1 {
		t.Errorf("the card number stands %d times in the logs; want once, for the card-related error", found)
	}
}

func TestCertificateResults(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	type result = api.CertificateResult
	const (
		good    = api.OnlineStatus_ONLINE_STATUS_GOOD
		revoked = api.OnlineStatus_ONLINE_STATUS_REVOKED
		unknown = api.OnlineStatus_ONLINE_STATUS_UNKNOWN
		failed  = api.OnlineStatus_ONLINE_STATUS_CHECK_FAILED
	)
	status := func(s testpki.Status) func(*tisim.Responder, *big.Int) {
		return func(r *tisim.Responder, serial *big.Int) { r.SetStatus(serial, s) }
	}
	fault := func(f tisim.Fault) func(*tisim.Responder, *big.Int) {
		return func(r *tisim.Responder, _ *big.Int) { r.SetFault(f) }
	}
	tests := []struct {
		name      string
		persona   string
		responder func(*tisim.Responder, *big.Int)
		autn      func(der []byte) []byte
		cas       []*x509ti.Certificate // nil: all
		want      *result
		requests  int
		code      int // in the error log, 0: no entry
		iccsn     bool
	}{
		{name: "good", persona: "healthy-g21", want: &result{MathValid: true, TimeValid: true, Online: good}, requests: 1},
		{name: "good, RSA", persona: "healthy-g2", want: &result{MathValid: true, TimeValid: true, Online: good}, requests: 1},
		{name: "RSA, wrong signature of the responder", persona: "healthy-g2", responder: fault(tisim.WrongSignature), want: &result{MathValid: true, TimeValid: true, Online: failed}, requests: 1, code: 11052},
		{name: "RSA, signature changed", persona: "healthy-g2", autn: func(der []byte) []byte {
			der[len(der)-1] ^= 1
			return der
		}, want: &result{TimeValid: true, Online: failed}, code: 11050, iccsn: true},
		{name: "RSA, its CA is not trusted", persona: "healthy-g2", cas: w.cas[:1], want: &result{TimeValid: true, Online: failed}, code: 11050, iccsn: true},
		{name: "revoked at the responder", persona: "healthy-g21", responder: status(testpki.Revoked), want: &result{MathValid: true, TimeValid: true, Online: revoked}, requests: 1, code: 11051, iccsn: true},
		{name: "unknown", persona: "healthy-g21", responder: status(testpki.Unknown), want: &result{MathValid: true, TimeValid: true, Online: unknown}, requests: 1, code: 11051, iccsn: true},
		{name: "persona revoked", persona: "cert-revoked", want: &result{MathValid: true, TimeValid: true, Online: revoked}, requests: 1, code: 11051, iccsn: true},
		{name: "persona expired", persona: "cert-expired", want: &result{MathValid: true, TimeValid: false, Online: good}, requests: 1, code: 11050, iccsn: true},
		{name: "responder down", persona: "healthy-g21", responder: fault(tisim.Down), want: &result{MathValid: true, TimeValid: true, Online: failed}, requests: 1, code: 11052},
		{name: "responder slow", persona: "healthy-g21", responder: fault(tisim.Slow), want: &result{MathValid: true, TimeValid: true, Online: failed}, requests: 1, code: 11052},
		{name: "responder wrong signature", persona: "healthy-g21", responder: fault(tisim.WrongSignature), want: &result{MathValid: true, TimeValid: true, Online: failed}, requests: 1, code: 11052},
		{name: "responder stale", persona: "healthy-g21", responder: fault(tisim.Stale), want: &result{MathValid: true, TimeValid: true, Online: failed}, requests: 1, code: 11052},
		{name: "signature changed", persona: "healthy-g21", autn: func(der []byte) []byte {
			der[len(der)-1] ^= 1
			return der
		}, want: &result{MathValid: false, TimeValid: true, Online: failed}, code: 11050, iccsn: true},
		{name: "garbage", persona: "healthy-g21", autn: func([]byte) []byte { return []byte("garbage") },
			want: &result{Online: failed}, code: 11050, iccsn: true},
		{name: "could not be read", persona: "healthy-g21", autn: func([]byte) []byte { return nil },
			want: &result{Online: failed}, code: 11053, iccsn: true},
		{name: "certificate of a CA", persona: "healthy-g21", autn: func([]byte) []byte { return theWorld(t).pki.EGKCA.Certificate },
			want: &result{TimeValid: true, Online: failed}, code: 11050, iccsn: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := insert(t, tt.persona).verifyPIN(t)
			log, dir := openLog(t)
			responder := tisim.New(w.pki, nil)
			srv := httptest.NewServer(responder)
			defer srv.Close()
			adapter := consumer.New(consumer.Config{OCSPURL: srv.URL, OCSPTimeout: 300 * time.Millisecond})
			p := newProxy(t, func(c *proxy.Config) {
				c.Log, c.Status = log, adapter
				if tt.cas != nil {
					c.EGKCAs = tt.cas
				}
			})
			r, _ := visit(t, p, in, terminal.Options{AUTN: func() []byte {
				der := in.autn(t)
				if tt.responder != nil {
					cert, err := x509ti.Parse(der)
					if err != nil {
						t.Fatal(err)
					}
					tt.responder(responder, cert.Serial)
				}
				if tt.autn != nil {
					der = tt.autn(der)
				}
				return der
			}})
			if r.Unlocked == nil {
				t.Fatalf("an invalid certificate ended the session: %v", r.Failure)
			}
			if !proto.Equal(r.Unlocked.Certificate, tt.want) {
				t.Errorf("result %v; want %v", r.Unlocked.Certificate, tt.want)
			}
			if responder.Requests() != tt.requests {
				t.Errorf("%d OCSP requests; want %d", responder.Requests(), tt.requests)
			}
			es := readLog(t, log, dir, "error")
			if tt.code == 0 && len(es) != 0 || tt.code != 0 && (len(es) != 1 || es[0].Code != tt.code || (es[0].ICCSN != "") != tt.iccsn) {
				t.Errorf("error log %+v; want code %d, card number %t", es, tt.code, tt.iccsn)
			}
		})
	}
}

func TestAppGivesUp(t *testing.T) {
	t.Parallel()
	for code, want := range map[api.AbortCode]int{
		api.AbortCode_ABORT_CODE_CARD_GONE: 11025, api.AbortCode_ABORT_CODE_READER_GONE: 11025,
		api.AbortCode_ABORT_CODE_COMMAND_REFUSED: 11031, api.AbortCode_ABORT_CODE_USER: 11046,
		api.AbortCode_ABORT_CODE_INTERNAL: 11045, api.AbortCode(99): 11045,
	} {
		in := insert(t, "healthy-g21").verifyPIN(t)
		log, dir := openLog(t)
		p := newProxy(t, func(c *proxy.Config) { c.Log = log })
		c, done := connect(t, p)
		_, err := terminal.Unlock(c, in.start, in.card.Process, terminal.Options{Answer: func(s api.Step, m *api.AppMessage) *api.AppMessage {
			if s == api.Step_STEP_PIN_STATUS {
				return &api.AppMessage{Body: &api.AppMessage_Abort{Abort: &api.Abort{Code: code}}}
			}
			return m
		}})
		if !errors.Is(err, io.EOF) {
			t.Errorf("%v: stream ended with %v", code, err)
		}
		if err := <-done; err != nil {
			t.Errorf("%v: handler returned %v", code, err)
		}
		es := readLog(t, log, dir, "error")
		if len(es) != 1 || es[0].Code != want || !es[0].Remote {
			t.Errorf("%v: error log %+v; want code %d", code, es, want)
		}
	}
}

func TestAppDisappears(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2422")
	for _, step := range []api.Step{api.Step_STEP_CHANNEL_OPEN, api.Step_STEP_PIN_STATUS, api.Step_STEP_ROLE_IMPORT, api.Step_STEP_ROLE_AUTHENTICATE} {
		for _, how := range []string{"closes", "breaks"} {
			in := insert(t, "healthy-g21").verifyPIN(t)
			log, dir := openLog(t)
			p := newProxy(t, func(c *proxy.Config) { c.Log = log })
			c, done := connect(t, p)
			_, err := terminal.Unlock(c, in.start, in.card.Process, terminal.Options{Answer: func(s api.Step, m *api.AppMessage) *api.AppMessage {
				if s != step {
					return m
				}
				if how == "breaks" {
					c.cancel()
				}
				return nil
			}})
			if err != nil {
				t.Errorf("%v: %v", step, err)
			}
			<-done
			if p.Active() != 0 {
				t.Errorf("%v %s: %d sessions left", step, how, p.Active())
			}
			if es := readLog(t, log, dir, "error"); len(es) != 1 || es[0].Code != 11041 {
				t.Errorf("%v %s: error log %+v; want code 11041", step, how, es)
			}
		}
	}
}

func TestBrokenMessages(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"oversize":   status.Error(codes.ResourceExhausted, "larger than max"),
		"no message": status.Error(codes.Internal, "cannot parse"),
	} {
		p := newProxy(t, nil)
		c, done := connect(t, p)
		c.recvErr <- err
		m, rerr := c.Recv()
		if rerr != nil || m.GetFailure().GetCode() != api.FailureCode_FAILURE_CODE_PROTOCOL {
			t.Errorf("%s: %v, %v; want a protocol failure", name, m, rerr)
		}
		<-done
	}
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	in := insert(t, "healthy-g21").verifyPIN(t)
	w := theWorld(t)
	config := proxy.Config{Identities: w.identities, Roots: w.roots, EGKCAs: w.cas, Status: fixedStatus{status: ocsp.Good},
		StepTimeout: 30 * time.Second, SessionTimeout: time.Hour}
	real := time.Now()
	expect := func(t *testing.T, c clientEnd, after time.Duration, want api.FailureCode) {
		t.Helper()
		begin := time.Now()
		m, err := c.Recv()
		if err != nil || m.GetFailure().GetCode() != want {
			t.Errorf("received %v, %v; want %v", m, err, want)
		}
		if d := time.Since(begin); d != after {
			t.Errorf("after %v; want %v", d, after)
		}
	}
	// The bubble's clock stands in another year; certificates are checked against the real one.
	config.Clock = func() time.Time { return real }
	t.Run("no start", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, err := proxy.New(config)
			if err != nil {
				t.Fatal(err)
			}
			c, done := connect(t, p)
			expect(t, c, 5*time.Second, api.FailureCode_FAILURE_CODE_TIMEOUT)
			<-done
		})
	})
	t.Run("no answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, err := proxy.New(config)
			if err != nil {
				t.Fatal(err)
			}
			c, done := connect(t, p)
			s := in.start
			if err := c.Send(&api.AppMessage{Body: &api.AppMessage_Start{Start: &api.Start{OperationId: s.OperationID, Ik: s.IK,
				AppVersion: "test", CvcEgkAut: s.AUTCVC, CvcEgkCa: s.CACVC, Generation: s.Generation}}}); err != nil {
				t.Fatal(err)
			}
			if m, err := c.Recv(); err != nil || m.GetCommands() == nil {
				t.Fatalf("received %v, %v", m, err)
			}
			expect(t, c, 30*time.Second, api.FailureCode_FAILURE_CODE_TIMEOUT)
			<-done
		})
	})
	t.Run("session without end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, err := proxy.New(config)
			if err != nil {
				t.Fatal(err)
			}
			c, done := connect(t, p)
			if _, err := terminal.Unlock(c, in.start, in.card.Process, terminal.Options{AUTN: func() []byte { return in.autn(t) }}); err != nil {
				t.Fatal(err)
			}
			expect(t, c, time.Hour, api.FailureCode_FAILURE_CODE_TIMEOUT)
			<-done
		})
	})
}

func TestSessionLimit(t *testing.T) {
	t.Parallel()
	p := newProxy(t, func(c *proxy.Config) { c.Sessions = 1 })
	in := insert(t, "healthy-g21").verifyPIN(t)
	first, done := connect(t, p)
	if r, err := terminal.Unlock(first, in.start, in.card.Process, terminal.Options{AUTN: func() []byte { return in.autn(t) }}); err != nil || r.Unlocked == nil {
		t.Fatal(r.Failure, err)
	}
	if p.Ready() || p.Active() != 1 {
		t.Errorf("ready %t with %d sessions of 1", p.Ready(), p.Active())
	}
	second, busy := connect(t, p)
	m, err := second.Recv()
	if err != nil || m.GetFailure().GetCode() != api.FailureCode_FAILURE_CODE_BUSY {
		t.Errorf("second session: %v, %v; want busy", m, err)
	}
	<-busy
	first.CloseSend()
	<-done
	if !p.Ready() {
		t.Error("not ready after the session has ended")
	}
	in = insert(t, "healthy-g21").verifyPIN(t)
	if r, _ := visit(t, p, in, terminal.Options{}); r.Unlocked == nil {
		t.Errorf("no session after the first one has ended: %v", r.Failure)
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	idle, starting := insert(t, "healthy-g21").verifyPIN(t), insert(t, "healthy-g2").verifyPIN(t)
	c1, done1 := connect(t, p)
	if r, err := terminal.Unlock(c1, idle.start, idle.card.Process, terminal.Options{AUTN: func() []byte { return idle.autn(t) }}); err != nil || r.Unlocked == nil {
		t.Fatal(r.Failure, err)
	}
	// The second session is being started when the server is told to stop: it finishes its start.
	c2, done2 := connect(t, p)
	r, err := terminal.Unlock(c2, starting.start, starting.card.Process, terminal.Options{
		AUTN: func() []byte { return starting.autn(t) },
		Answer: func(s api.Step, m *api.AppMessage) *api.AppMessage {
			if s == api.Step_STEP_PIN_STATUS {
				p.Drain()
				p.Drain()
			}
			return m
		}})
	if err != nil || r.Unlocked == nil {
		t.Errorf("the session being started ended with %v, %v", r.Failure, err)
	}
	for i, c := range []clientEnd{c1, c2} {
		if m, err := c.Recv(); err != nil || m.GetFailure().GetCode() != api.FailureCode_FAILURE_CODE_SHUTDOWN {
			t.Errorf("session %d: %v, %v; want shutdown", i+1, m, err)
		}
	}
	<-done1
	<-done2
	c3, done3 := connect(t, p)
	if m, err := c3.Recv(); err != nil || m.GetFailure().GetCode() != api.FailureCode_FAILURE_CODE_SHUTDOWN {
		t.Errorf("new session: %v, %v; want shutdown", m, err)
	}
	<-done3
	if p.Ready() {
		t.Error("ready while being stopped")
	}
}

func TestMessageAfterUnlocking(t *testing.T) {
	t.Parallel()
	in := insert(t, "healthy-g21").verifyPIN(t)
	c, done := connect(t, newProxy(t, nil))
	if _, err := terminal.Unlock(c, in.start, in.card.Process, terminal.Options{AUTN: func() []byte { return in.autn(t) }}); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(&api.AppMessage{Body: &api.AppMessage_Responses{Responses: &api.Responses{Apdu: [][]byte{{0x90, 0}}}}}); err != nil {
		t.Fatal(err)
	}
	if m, err := c.Recv(); err != nil || m.GetFailure().GetCode() != api.FailureCode_FAILURE_CODE_PROTOCOL {
		t.Errorf("received %v, %v; want a protocol failure", m, err)
	}
	<-done
}

// brokenStore has an identity that fails in ways of an HSM.
type brokenStore struct {
	identity.Store
	fault string
}

type brokenIdentity struct {
	identity.Identity
	fault string
}

var faultLine atomic.Int64 // where the identity panics

func (s brokenStore) Lookup(ctx context.Context, ik string) (identity.Identity, error) {
	if s.fault == "unavailable" {
		return nil, identity.ErrUnavailable
	}
	id, err := s.Store.Lookup(ctx, ik)
	return brokenIdentity{id, s.fault}, err
}

func (i brokenIdentity) Certificates(ctx context.Context, p c2c.Profile) (c2c.Certificates, error) {
	if i.fault == "wrong profile" {
		p = c2c.ProfileNull
	}
	return i.Identity.Certificates(ctx, p)
}

func (i brokenIdentity) SignRoleToken(ctx context.Context, m []byte) ([]byte, error) {
	switch i.fault {
	case "error":
		return nil, errors.New("hsm: slot is empty")
	case "short signature":
		return []byte{1, 2, 3}, nil
	case "panic":
		var nothing []byte
		_, _, line, _ := runtime.Caller(0)
		faultLine.Store(int64(line) + 2)
		return nothing[5:], nil
	}
	return i.Identity.SignRoleToken(ctx, m)
}

func TestIdentityFails(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2570")
	for fault, want := range map[string]api.FailureCode{
		"unavailable":     api.FailureCode_FAILURE_CODE_IDENTITY_UNAVAILABLE,
		"error":           api.FailureCode_FAILURE_CODE_INTERNAL,
		"short signature": api.FailureCode_FAILURE_CODE_IDENTITY_UNSUITABLE,
		"wrong profile":   api.FailureCode_FAILURE_CODE_IDENTITY_UNSUITABLE,
	} {
		log, dir := openLog(t)
		p := newProxy(t, func(c *proxy.Config) { c.Identities, c.Log = brokenStore{c.Identities, fault}, log })
		r, _ := visit(t, p, insert(t, "healthy-g21").verifyPIN(t), terminal.Options{})
		if r.Failure.GetCode() != want {
			t.Errorf("%s: %+v; want %v", fault, r, want)
		}
		if es := readLog(t, log, dir, "error"); len(es) != 1 || es[0].Severity != "Fatal" || es[0].ICCSN != "" {
			t.Errorf("%s: error log %+v; want one fatal entry", fault, es)
		}
	}
}

// A fault in the code of one session ends that session and no other.
func TestFaultInOneSession(t *testing.T) {
	t.Parallel()
	log, dir := openLog(t)
	p := newProxy(t, func(c *proxy.Config) { c.Identities, c.Log = brokenStore{c.Identities, "panic"}, log })
	in := insert(t, "healthy-g21").verifyPIN(t)
	c, done := connect(t, p)
	if _, err := terminal.Unlock(c, in.start, in.card.Process, terminal.Options{}); err == nil {
		t.Error("the session goes on")
	}
	if err := <-done; status.Code(err) != codes.Internal || strings.Contains(err.Error(), "slice") {
		t.Errorf("handler returned %v", err)
	}
	if es := readLog(t, log, dir, "error"); len(es) != 1 || es[0].Code != 11090 || es[0].Values["line"] != float64(faultLine.Load()) {
		t.Errorf("error log %+v; want code 11090 and line %d", es, faultLine.Load())
	}
	if p.Active() != 0 {
		t.Errorf("%d sessions left", p.Active())
	}
}

func TestNewRefusesIncompleteConfigurations(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	full := proxy.Config{Identities: w.identities, Roots: w.roots, EGKCAs: w.cas, Status: fixedStatus{}}
	for name, change := range map[string]func(*proxy.Config){
		"identities": func(c *proxy.Config) { c.Identities = nil }, "roots": func(c *proxy.Config) { c.Roots = nil },
		"CAs": func(c *proxy.Config) { c.EGKCAs = nil }, "status": func(c *proxy.Config) { c.Status = nil },
	} {
		cfg := full
		change(&cfg)
		if _, err := proxy.New(cfg); err == nil {
			t.Errorf("a proxy without %s was made", name)
		}
	}
}

// Whatever the app answers, the server neither fails nor unlocks, and ends the conversation by itself.
func FuzzResponses(f *testing.F) {
	in := insert(f, "healthy-g21").verifyPIN(f)
	f.Add(byte(1), []byte{0x90, 0x00}, []byte{0x69, 0x88})
	f.Add(byte(2), []byte("\x99\x02\x90\x00\x8e\x08\x00\x00\x00\x00\x00\x00\x00\x00\x90\x00"), []byte{0x90, 0x00})
	f.Add(byte(3), []byte{0x6A, 0x88}, []byte{})
	f.Add(byte(1), append([]byte{0x7C, 0x43, 0x85, 0x41, 0x04}, make([]byte, 66)...), []byte{0x90, 0x00})
	p := newProxy(f, nil)
	f.Fuzz(func(t *testing.T, step byte, a, b []byte) {
		c, done := connect(t, p)
		in.card.Reset(false)
		in.run(t, "00A4040C")
		in.verifyPIN(t)
		r, err := terminal.Unlock(c, in.start, in.card.Process, terminal.Options{Answer: func(s api.Step, m *api.AppMessage) *api.AppMessage {
			if byte(s) == 1+step%3 {
				list := m.GetResponses().Apdu
				list[len(list)-1] = a
				if len(b) > 0 {
					list[0] = b
				}
			}
			return m
		}})
		if err != nil || r.Unlocked != nil {
			t.Errorf("%+v, %v; want a failure", r, err)
		}
		<-done
	})
}
