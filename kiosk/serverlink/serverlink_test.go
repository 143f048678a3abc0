package serverlink_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"ktradv/hw/apdu"
	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/internal/tlspolicy"
	"ktradv/kiosk/serverlink"
	"ktradv/server/api"
)

type stream = grpc.BidiStreamingServer[api.AppMessage, api.ServerMessage]

// played is a server that does what a test says.
type played struct {
	api.UnimplementedAdVServer
	play func(stream) error
}

func (p played) Session(s stream) error { return p.play(s) }

// site is a server and the trust store that knows it.
type site struct {
	addr string
	tls  *tls.Config
}

var thePKI = sync.OnceValues(func() (*testpki.PKI, error) { return testpki.New(testpki.Config{}) })

// certificate issues one for a server.
func certificate(t testing.TB) (tls.Certificate, *tlspolicy.TrustStore) {
	t.Helper()
	pki, err := thePKI()
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := pki.IssueTLSServer([]string{"localhost"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(certPEM)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	store, err := tlspolicy.NewTrustStore(leaf)
	if err != nil {
		t.Fatal(err)
	}
	return pair, store
}

// serve starts a server that plays its part in every stream.
func serve(t testing.TB, play func(stream) error) site {
	t.Helper()
	pair, store := certificate(t)
	policy, err := tlspolicy.ServerConfig(pair)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(policy)))
	api.RegisterAdVServer(srv, played{play: play})
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	client, err := tlspolicy.ClientConfig(store, "localhost", nil)
	if err != nil {
		t.Fatal(err)
	}
	return site{l.Addr().String(), client}
}

func (s site) config() serverlink.Config {
	return serverlink.Config{Address: s.addr, TLS: s.tls, AnswerTimeout: 20 * time.Second}
}

func dial(t testing.TB, cfg serverlink.Config) *serverlink.Link {
	t.Helper()
	l, err := serverlink.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

var start = serverlink.Start{
	OperationID: "01234567-89ab-4cde-8f01-23456789abcd", IK: "109500969", AppVersion: "1.2.3",
	AUTCVC: []byte{0x7F, 0x21, 1}, CACVC: []byte{0x7F, 0x21, 2}, G2: true,
}

var selectMF = []byte{0x00, 0xA4, 0x04, 0x0C}

// commands is a batch of n commands in one step.
func commands(step api.Step, n int) *api.Commands {
	c := &api.Commands{Step: step}
	for range n {
		c.Command = append(c.Command, &api.Command{Apdu: selectMF, ExpectedSw: []uint32{0x9000}})
	}
	if step == api.Step_STEP_ROLE_AUTHENTICATE {
		c.Actor = &api.Actor{Name: "Testkasse", Iccsn: "80276003110000000017"}
	}
	return c
}

func batch(c *api.Commands) *api.ServerMessage {
	return &api.ServerMessage{Body: &api.ServerMessage_Commands{Commands: c}}
}

func unlocked(online api.OnlineStatus) *api.ServerMessage {
	return &api.ServerMessage{Body: &api.ServerMessage_Unlocked{Unlocked: &api.Unlocked{Certificate: &api.CertificateResult{
		MathValid: true, Online: online}}}}
}

func refusal(code api.FailureCode, sw uint32) *api.ServerMessage {
	return &api.ServerMessage{Body: &api.ServerMessage_Failure{Failure: &api.Failure{Code: code, Sw: sw}}}
}

var order = []api.Step{api.Step_STEP_CHANNEL_OPEN, api.Step_STEP_PIN_STATUS, api.Step_STEP_ROLE_IMPORT, api.Step_STEP_ROLE_AUTHENTICATE}

// honest plays the whole conversation and keeps what the app sent.
type honest struct {
	mu       sync.Mutex
	messages []*api.AppMessage
	// at may answer in place of the honest message n, from 0 on; nil is the honest one.
	at map[int]*api.ServerMessage
	// end is called when everything was said.
	end func(stream) error
}

func (h *honest) play(s stream) error {
	for n := range len(order) + 1 {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		h.mu.Lock()
		h.messages = append(h.messages, m)
		h.mu.Unlock()
		answer := h.at[n]
		switch {
		case answer != nil:
		case n < len(order):
			answer = batch(commands(order[n], 2))
		default:
			answer = unlocked(api.OnlineStatus_ONLINE_STATUS_GOOD)
		}
		if err := s.Send(answer); err != nil {
			return err
		}
	}
	if h.end != nil {
		return h.end(s)
	}
	m, err := s.Recv()
	if err == nil {
		h.mu.Lock()
		h.messages = append(h.messages, m)
		h.mu.Unlock()
		return nil
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// card answers every command of a batch with the same status word.
func card(sw uint16) serverlink.Run {
	return func(_ context.Context, b []serverlink.Command) ([]apdu.Response, error) {
		var out []apdu.Response
		for _, c := range b {
			r := apdu.Response{SW: sw}
			out = append(out, r)
			if !c.Expects(r) {
				break
			}
		}
		return out, nil
	}
}

func TestWholeConversation(t *testing.T) {
	t.Parallel()
	h := &honest{}
	l := dial(t, serve(t, h.play).config())
	actor, err := l.Unlock(t.Context(), start, card(0x9000))
	if err != nil {
		t.Fatal(err)
	}
	if actor.Name != "Testkasse" || actor.ICCSN.Reveal() != "80276003110000000017" {
		t.Errorf("actor %q", actor.Name)
	}
	v, err := l.CheckCertificate(t.Context(), []byte("certificate"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (serverlink.Validity{MathValid: true, Online: api.OnlineStatus_ONLINE_STATUS_GOOD}); v != want {
		t.Errorf("validity %+v; want %+v", v, want)
	}
	if l.RoundTrips() != 5 {
		t.Errorf("%d round trips; want 5", l.RoundTrips())
	}
	select {
	case <-l.Gone():
		t.Error("the server is said to be gone")
	default:
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.messages[0].GetStart()
	if s.GetIk() != start.IK || s.GetOperationId() != start.OperationID || !bytes.Equal(s.GetCvcEgkAut(), start.AUTCVC) ||
		!bytes.Equal(s.GetCvcEgkCa(), start.CACVC) || s.GetGeneration() != api.Generation_GENERATION_G2 {
		t.Errorf("start %v", s)
	}
	for i, m := range h.messages[1:] {
		r := m.GetResponses()
		if len(r.GetApdu()) != 2 || (string(r.GetCertificateCheck().GetCertAutn()) == "certificate") != (i == 3) {
			t.Errorf("message %d: %v", i+1, m)
		}
	}
}

// What a server may not say ends the conversation, and no command of it reaches the card.
func TestServerBreaksTheContract(t *testing.T) {
	t.Parallel()
	huge := commands(api.Step_STEP_CHANNEL_OPEN, 1)
	huge.Command[0].Apdu = make([]byte, 80<<10)
	long := commands(api.Step_STEP_CHANNEL_OPEN, 1)
	long.Command[0].Apdu = make([]byte, api.MaxCommandBytes+1)
	broken := commands(api.Step_STEP_CHANNEL_OPEN, 1)
	broken.Command[0].Apdu = []byte{0x00, 0xA4, 0x04, 0x0C, 0x09, 0x01}
	nobody := commands(api.Step_STEP_ROLE_AUTHENTICATE, 1)
	nobody.Actor = nil
	for name, tc := range map[string]struct {
		n      int // message that is replaced
		answer *api.ServerMessage
	}{
		"empty message":               {0, &api.ServerMessage{}},
		"step too early":              {0, batch(commands(api.Step_STEP_ROLE_IMPORT, 1))},
		"step again":                  {1, batch(commands(api.Step_STEP_CHANNEL_OPEN, 1))},
		"step left out":               {1, batch(commands(api.Step_STEP_ROLE_IMPORT, 1))},
		"step without number":         {0, batch(commands(api.Step_STEP_UNSPECIFIED, 1))},
		"unlocked at once":            {0, unlocked(api.OnlineStatus_ONLINE_STATUS_GOOD)},
		"unlocked before the role":    {3, unlocked(api.OnlineStatus_ONLINE_STATUS_GOOD)},
		"no commands":                 {0, batch(commands(api.Step_STEP_CHANNEL_OPEN, 0))},
		"too many commands":           {0, batch(commands(api.Step_STEP_CHANNEL_OPEN, api.MaxCommands+1))},
		"command too long":            {0, batch(long)},
		"message too long":            {0, batch(huge)},
		"command that is none":        {0, batch(broken)},
		"role without an actor":       {3, batch(nobody)},
		"commands for a result":       {4, batch(commands(api.Step_STEP_CHANNEL_OPEN, 1))},
		"result without certificate":  {4, &api.ServerMessage{Body: &api.ServerMessage_Unlocked{Unlocked: &api.Unlocked{}}}},
		"result without online state": {4, unlocked(api.OnlineStatus_ONLINE_STATUS_UNSPECIFIED)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &honest{at: map[int]*api.ServerMessage{tc.n: tc.answer}}
			l := dial(t, serve(t, h.play).config())
			batches := 0
			_, err := l.Unlock(t.Context(), start, func(ctx context.Context, b []serverlink.Command) ([]apdu.Response, error) {
				batches++
				return card(0x9000)(ctx, b)
			})
			if err == nil {
				_, err = l.CheckCertificate(t.Context(), nil)
			}
			if !errors.Is(err, serverlink.ErrProtocol) {
				t.Errorf("%v; want %v", err, serverlink.ErrProtocol)
			}
			if batches != tc.n {
				t.Errorf("%d batches were run; want %d", batches, tc.n)
			}
		})
	}
}

// The card's refusal is told to the server, whose word counts; a server that goes on all the same is none of ours.
func TestCardRefuses(t *testing.T) {
	t.Parallel()
	h := &honest{at: map[int]*api.ServerMessage{1: refusal(api.FailureCode_FAILURE_CODE_CARD_REFUSED, 0x6A88)}}
	l := dial(t, serve(t, h.play).config())
	_, err := l.Unlock(t.Context(), start, card(0x6A88))
	var refused *serverlink.Refused
	if !errors.As(err, &refused) || refused.Code != api.FailureCode_FAILURE_CODE_CARD_REFUSED || refused.SW != 0x6A88 {
		t.Errorf("%v; want the server's refusal", err)
	}
	h.mu.Lock()
	if got := h.messages[1].GetResponses().GetApdu(); len(got) != 1 || !bytes.Equal(got[0], []byte{0x6A, 0x88}) {
		t.Errorf("the server was told %X", got)
	}
	h.mu.Unlock()

	l = dial(t, serve(t, (&honest{}).play).config())
	if _, err := l.Unlock(t.Context(), start, card(0x6A88)); !errors.Is(err, serverlink.ErrProtocol) {
		t.Errorf("a server that goes on: %v; want %v", err, serverlink.ErrProtocol)
	}
}

// Whatever the app's own side says while a batch runs comes back as it is.
func TestRunFails(t *testing.T) {
	t.Parallel()
	l := dial(t, serve(t, (&honest{}).play).config())
	mine := errors.New("refused by the filter")
	if _, err := l.Unlock(t.Context(), start, func(context.Context, []serverlink.Command) ([]apdu.Response, error) { return nil, mine }); !errors.Is(err, mine) {
		t.Errorf("%v; want %v", err, mine)
	}
	if _, err := l.CheckCertificate(t.Context(), nil); err == nil {
		t.Error("the certificate was checked for a card that is not unlocked")
	}
}

func TestServerGoesAway(t *testing.T) {
	t.Parallel()
	for name, play := range map[string]func(stream) error{
		"ends in order":   func(stream) error { return nil },
		"ends with error": func(stream) error { return status.Error(codes.Internal, "fault") },
		"after a message": func(s stream) error {
			if _, err := s.Recv(); err != nil {
				return err
			}
			return s.Send(batch(commands(order[0], 1)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := dial(t, serve(t, play).config())
			if _, err := l.Unlock(t.Context(), start, card(0x9000)); !errors.Is(err, serverlink.ErrLost) {
				t.Errorf("%v; want %v", err, serverlink.ErrLost)
			}
		})
	}
}

func TestServerIsSilent(t *testing.T) {
	t.Parallel()
	silent := func(s stream) error { <-s.Context().Done(); return s.Context().Err() }
	cfg := serve(t, silent).config()
	cfg.AnswerTimeout = 50 * time.Millisecond
	if _, err := dial(t, cfg).Unlock(t.Context(), start, card(0x9000)); !errors.Is(err, serverlink.ErrLost) {
		t.Errorf("%v; want %v", err, serverlink.ErrLost)
	}
	// The session's own end comes first where it does.
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("card pulled")
	cancel(why)
	if _, err := dial(t, serve(t, silent).config()).Unlock(ctx, start, card(0x9000)); !errors.Is(err, why) {
		t.Errorf("%v; want %v", err, why)
	}
}

// After the last word the end of the stream is noticed at once, however it comes.
func TestGone(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(stream) error{
		"ends":        func(stream) error { return nil },
		"fails":       func(stream) error { return status.Error(codes.Unavailable, "shutdown") },
		"is stopped":  func(s stream) error { return s.Send(refusal(api.FailureCode_FAILURE_CODE_SHUTDOWN, 0)) },
		"talks again": func(s stream) error { return s.Send(batch(commands(order[0], 1))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			say := make(chan struct{})
			h := &honest{end: func(s stream) error { <-say; return end(s) }}
			l := dial(t, serve(t, h.play).config())
			if _, err := l.Unlock(t.Context(), start, card(0x9000)); err != nil {
				t.Fatal(err)
			}
			if _, err := l.CheckCertificate(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			select {
			case <-l.Gone():
				t.Error("gone before it went")
			default:
			}
			close(say)
			select {
			case <-l.Gone():
			case <-time.After(20 * time.Second):
				t.Error("nobody noticed")
			}
		})
	}
}

// An app that gives up says why, once and only while the conversation is open.
func TestAbort(t *testing.T) {
	t.Parallel()
	got := make(chan *api.AppMessage, 1)
	cfg := serve(t, func(s stream) error {
		m, err := s.Recv()
		got <- m
		return err
	}).config()
	l := dial(t, cfg)
	l.Abort(api.AbortCode_ABORT_CODE_CARD_GONE)
	l.Close()
	if m := <-got; m.GetAbort().GetCode() != api.AbortCode_ABORT_CODE_CARD_GONE {
		t.Errorf("the server got %v", m)
	}

	h := &honest{}
	l = dial(t, serve(t, h.play).config())
	if _, err := l.Unlock(t.Context(), start, card(0x9000)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.CheckCertificate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	l.Abort(api.AbortCode_ABORT_CODE_USER)
	l.Close()
	<-l.Gone()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.messages) != 5 {
		t.Errorf("%d messages; want nothing after the end of the conversation", len(h.messages))
	}
}

func TestWrongServer(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2418")
	here, there := serve(t, (&honest{}).play), serve(t, (&honest{}).play)
	cfg := here.config()
	cfg.TLS = there.tls // knows another server's certificate, of the same issuer
	if l, err := serverlink.Dial(t.Context(), cfg); !errors.Is(err, serverlink.ErrNotTrusted) {
		t.Errorf("%v, %v; want %v", l, err, serverlink.ErrNotTrusted)
	}
	if _, err := serverlink.Dial(t.Context(), serverlink.Config{Address: here.addr}); err == nil {
		t.Error("connected without a policy")
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	s := serve(t, (&honest{}).play)
	mute, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	rude, err := net.Listen("tcp", "127.0.0.1:0") // hangs up at once
	if err != nil {
		t.Fatal(err)
	}
	defer rude.Close()
	go func() {
		for {
			c, err := rude.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	for name, change := range map[string]func(*serverlink.Config){
		"no route":   func(c *serverlink.Config) { c.DialNet = refuse },
		"silent":     func(c *serverlink.Config) { c.Address, c.ConnectTimeout = mute.Addr().String(), 50*time.Millisecond },
		"hangs up":   func(c *serverlink.Config) { c.Address = rude.Addr().String() },
		"never done": func(c *serverlink.Config) { c.DialNet, c.ConnectTimeout = never, 50*time.Millisecond },
	} {
		cfg := s.config()
		change(&cfg)
		if l, err := serverlink.Dial(t.Context(), cfg); !errors.Is(err, serverlink.ErrUnreachable) {
			t.Errorf("%s: %v, %v; want %v", name, l, err, serverlink.ErrUnreachable)
		}
	}
}

func refuse(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("no route to host")
}

func never(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A link has one connection: when it is gone there is no second one (A_15116).
func TestNoReconnect(t *testing.T) {
	t.Parallel()
	cfg := serve(t, (&honest{}).play).config()
	var mu sync.Mutex
	var conns []net.Conn
	cfg.DialNet = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, c)
		return c, err
	}
	l := dial(t, cfg)
	_, err := l.Unlock(t.Context(), start, func(ctx context.Context, b []serverlink.Command) ([]apdu.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		conns[0].Close()
		return card(0x9000)(ctx, b)
	})
	if !errors.Is(err, serverlink.ErrLost) {
		t.Errorf("%v; want %v", err, serverlink.ErrLost)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(conns) != 1 {
		t.Errorf("%d connections; want 1", len(conns))
	}
}

// Errors name what failed and nothing of the card.
func TestErrorsAreDiscreet(t *testing.T) {
	t.Parallel()
	secret := serverlink.Start{OperationID: start.OperationID, IK: start.IK, AppVersion: "1", AUTCVC: []byte("Kanarienvogel"), CACVC: []byte("x")}
	l := dial(t, serve(t, func(stream) error { return nil }).config())
	_, err := l.Unlock(t.Context(), secret, card(0x9000))
	if err == nil || slices.ContainsFunc([]string{"Kanarien", start.IK, start.OperationID}, func(s string) bool { return strings.Contains(err.Error(), s) }) {
		t.Errorf("error %v", err)
	}
}
