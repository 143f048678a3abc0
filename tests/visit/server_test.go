package visit

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ktradv/hw/cvc"
	"ktradv/hw/sim/persona"
	"ktradv/internal/advlog"
	"ktradv/internal/req"
	"ktradv/internal/tlspolicy"
	"ktradv/kiosk/serverlink"
	"ktradv/kiosk/session"
	"ktradv/kiosk/view"
	"ktradv/server/api"
)

// appLog opens a log of the app and returns a function that reads what is in it.
func appLog(t testing.TB) (*advlog.Log, func() []advlog.Entry) {
	t.Helper()
	return openLog(t, t.TempDir(), advlog.App)
}

func openLog(t testing.TB, dir string, component advlog.Component) (*advlog.Log, func() []advlog.Entry) {
	t.Helper()
	log, err := advlog.Open(advlog.Config{Dir: dir, Component: component, Enabled: true, TestMode: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log, func() []advlog.Entry {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := log.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		return readLogs(t, dir)
	}
}

func readLogs(t testing.TB, dir string) []advlog.Entry {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	var out []advlog.Entry
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			e, err := advlog.ParseEntry(line)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			out = append(out, e)
		}
	}
	return out
}

func count(entries []advlog.Entry, ok func(advlog.Entry) bool) (n int) {
	for _, e := range entries {
		if ok(e) {
			n++
		}
	}
	return n
}

// ended checks that a failure at the server's side ended the session in order, and gave nothing away.
func (r *rig) ended(srv *Server) {
	r.t.Helper()
	if r.tap.PINVerified() || r.tap.Unlocked() {
		r.t.Error("the card kept a security state")
	}
	if err := srv.WaitUnconnected(r.ctx); err != nil {
		r.t.Error(err)
	}
	r.leave()
	for _, v := range r.Views() {
		if v.Screen == view.Menu {
			r.t.Error("the session went on to the menu")
		}
	}
	sound(r.t, r.Views())
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// imports is PSO VERIFY CERTIFICATE of a certificate (7F21).
func imports(t testing.TB, certificate []byte) []byte {
	t.Helper()
	c, err := cvc.Parse(certificate)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{0x00, 0x2A, 0x00, 0xBE, byte(len(c.Content))}, c.Content...)
}

// A server sends commands outside the allow-list: none of them reaches the card, the session ends, and the person is told.
func TestForbiddenCommands(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_15117", "A_15113", "A_15116")
	chr := hex.EncodeToString(world.Insurer.AUTR.CHR[:])
	role := imports(t, world.Insurer.AUTR.Certificate)
	null := imports(t, world.Insurer.Null.Certificate)
	for _, c := range []struct {
		name  string
		step  api.Step
		place int
		raw   []byte
	}{
		{"select the health application", steps[0], 0, unhex(t, "00A4040C06D27600000102")},
		{"read personal data", steps[0], 0, unhex(t, "00B0810000")},
		{"read the card number", steps[0], 0, unhex(t, "00B0820000")},
		{"read the access log", steps[0], 0, unhex(t, "00B2013400")},
		{"PIN status without the channel", steps[0], 0, unhex(t, "80200001")},
		{"guess the PIN", steps[0], 0, unhex(t, "0020000108 26123456FFFFFFFF")},
		{"change the PIN", steps[0], 0, unhex(t, "0024000110 26123456FFFFFFFF 26111111FFFFFFFF")},
		{"profile CHA.1 for the channel", steps[0], -2, role},
		{"another private key", steps[0], 0, unhex(t, "002241A406840182800154")},
		{"authenticate the card", steps[0], 0, unhex(t, "0088000018"+strings.Repeat("AB", 24)+"00")},
		{"channel for a key never imported", steps[0], -2, unhex(t, "108600001E7C1CC31A"+strings.Repeat("00", 26)+"00")},
		{"channel with a key of another phase", steps[0], 0, unhex(t, "10860000107C0EC30C"+chr+"00")},
		{"role before the channel", steps[0], 0, unhex(t, "0082000040"+strings.Repeat("01", 64))},
		{"challenge before the channel", steps[0], 0, unhex(t, "0084000010")},
		{"open a logical channel", steps[0], 0, unhex(t, "0070000001")},
		{"proprietary", steps[0], 0, unhex(t, "80CA000000")},
		{"second step twice", steps[1], 1, nil}, // a copy of the first command
		{"read through the channel", steps[1], 1, unhex(t, "0CB081000D9701008E08"+strings.Repeat("11", 8)+"00")},
		{"status of another PIN", steps[1], 1, unhex(t, "8C2000020A8E08"+strings.Repeat("11", 8)+"00")},
		{"status with data", steps[1], 1, unhex(t, "8C20000116870A01"+strings.Repeat("22", 9)+"8E08"+strings.Repeat("11", 8)+"00")},
		{"leave out the PIN status", steps[1], 1, unhex(t, "00A4040C")},
		{"read before the role", steps[2], 0, unhex(t, "00B0830000")},
		{"profile CHA.0 for the role", steps[2], -2, null},
		{"role with another algorithm", steps[2], -2, unhex(t, "002281A411830C"+chr+"800154")},
		{"short challenge", steps[2], -1, unhex(t, "0084000008")},
		{"select in between", steps[2], -1, unhex(t, "00A4040C06D27600000102")},
		{"read the unlocked card", steps[3], -1, unhex(t, "00A4040C06D27600000102")},
		{"read protected data", steps[3], -1, unhex(t, "00B0830000")},
		{"write to the unlocked card", steps[3], -1, unhex(t, "00D683000100")},
		{"hide the health application", steps[3], -1, unhex(t, "00040000")},
		{"second role", steps[3], -1, unhex(t, "0082000040"+strings.Repeat("01", 64))},
		{"reset", steps[3], -1, unhex(t, "00704001")},
		{"shorter proof", steps[3], 0, unhex(t, "0082000020"+strings.Repeat("01", 32))},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var before [][]byte // what the server may send up to the forbidden command
			srv := serve(t, world, ServerConfig{Service: &rogue{world: world, commands: func(_ stream, b *api.Commands) (*api.Commands, error) {
				place := len(b.Command)
				if b.Step == c.step {
					raw := c.raw
					if raw == nil {
						raw = b.Command[0].Apdu
					}
					place = insert(b, c.place, raw)
				}
				for _, x := range b.Command[:place] {
					before = append(before, x.Apdu)
				}
				return b, nil
			}}})
			log, read := appLog(t)
			r := newRig(t, TerminalConfig{Dial: dialer(srv), Log: log})
			r.insert("healthy-g21")
			r.screen(view.PIN)
			r.enter("pin", persona.PIN)
			r.problem("SERVER-FORBIDDEN-COMMAND")
			// At the card: its own certificate, what the server may send, and then the reset, nothing else.
			all := r.tap.Exchanges()
			if !wasReset(all) {
				t.Error("the last command was not PL_TUC_CARD_RESET")
			}
			all = all[:len(all)-1]
			from := len(all) - len(before)
			for i, cmd := range before {
				if !bytes.Equal(all[from+i].Command, cmd) {
					t.Fatalf("command %d at the card is % X", i+1, all[from+i].Command)
				}
			}
			if h := all[from-1].Command; h[1] != 0xB0 {
				t.Errorf("before the server's commands the card got % X", h)
			}
			if n := count(read(), func(e advlog.Entry) bool { return e.Log == "security" && e.Text == "SERVER-FORBIDDEN-COMMAND" }); n != 1 {
				t.Errorf("%d entries in the security log; want 1", n)
			}
			r.ended(srv)
		})
	}
}

// The negative twin: the same rogue, honest, unlocks the card.
func TestHonestRogue(t *testing.T) {
	t.Parallel()
	srv := serve(t, world, ServerConfig{Service: &rogue{world: world}})
	r := newRig(t, TerminalConfig{Dial: dialer(srv)})
	r.toMenu("healthy-g21")
	if !r.tap.Unlocked() {
		t.Error("the card is not unlocked")
	}
}

// The server disappears at each step, in every way.
func TestServerDisappears(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_15116", "AdV-A_2444")
	ways := map[string]func(srv *Server, s stream) error{
		"in order":   func(*Server, stream) error { return errVanish },
		"with error": func(*Server, stream) error { return errors.New("fault") },
		"cut":        func(srv *Server, s stream) error { srv.Cut(); return errVanish },
		"silent":     func(_ *Server, s stream) error { <-s.Context().Done(); return errVanish },
	}
	for way, vanish := range ways {
		for i := range len(steps) + 1 {
			name := "at the result"
			if i < len(steps) {
				name = stepName(steps[i])
			}
			t.Run(way+"/"+name, func(t *testing.T) {
				t.Parallel()
				var srv *Server
				ready := make(chan struct{})
				g := &rogue{world: world}
				if i < len(steps) {
					g.commands = at(steps[i], func(s stream, _ *api.Commands) (*api.Commands, error) {
						<-ready
						return nil, vanish(srv, s)
					})
				} else {
					g.result = func(s stream) (*api.ServerMessage, error) { <-ready; return nil, vanish(srv, s) }
				}
				srv = serve(t, world, ServerConfig{Service: g})
				close(ready)
				r := newRig(t, TerminalConfig{Dial: impatient(srv.Addr(), world.trusted, 300*time.Millisecond)})
				r.insert("healthy-g21")
				r.screen(view.PIN)
				r.enter("pin", persona.PIN)
				r.problem("SERVER-LOST")
				r.ended(srv)
			})
		}
	}
}

// impatient connects to an address and waits only so long for each answer.
func impatient(addr string, trusted *tlspolicy.TrustStore, wait time.Duration) func(context.Context) (session.Server, error) {
	return func(ctx context.Context) (session.Server, error) {
		policy, err := tlspolicy.ClientConfig(trusted, serverName, nil)
		if err != nil {
			return nil, err
		}
		return serverlink.Dial(ctx, serverlink.Config{Address: addr, TLS: policy, AnswerTimeout: wait})
	}
}

// The server sends what the contract does not allow.
func TestServerSendsRubbish(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_15116", "AdV-A_2444")
	message := func(b *api.Commands) *api.ServerMessage {
		return &api.ServerMessage{Body: &api.ServerMessage_Commands{Commands: b}}
	}
	select1 := func(raw []byte) *api.Commands {
		return &api.Commands{Step: steps[0], Command: []*api.Command{{Apdu: raw, ExpectedSw: []uint32{0x9000}}}}
	}
	mf := unhex(t, "00A4040C")
	many := &api.Commands{Step: steps[0]}
	for range api.MaxCommands + 1 {
		insert(many, 0, mf)
	}
	for name, m := range map[string]*api.ServerMessage{
		"no body":                     {},
		"unlocked at once":            {Body: &api.ServerMessage_Unlocked{Unlocked: &api.Unlocked{Certificate: &api.CertificateResult{Online: api.OnlineStatus_ONLINE_STATUS_GOOD}}}},
		"unlocked without result":     {Body: &api.ServerMessage_Unlocked{Unlocked: &api.Unlocked{}}},
		"no commands":                 message(&api.Commands{Step: steps[0]}),
		"too many commands":           message(many),
		"another step":                message(&api.Commands{Step: steps[1], Command: select1(mf).Command}),
		"no step":                     message(&api.Commands{Command: select1(mf).Command}),
		"no APDU":                     message(select1(nil)),
		"short APDU":                  message(select1([]byte{0, 0xA4, 4})),
		"APDU with wrong length":      message(select1(unhex(t, "00A4040CFF0102"))),
		"APDU of 5000 octets":         message(select1(make([]byte, 5000))),
		"no expected status":          message(&api.Commands{Step: steps[0], Command: []*api.Command{{Apdu: mf}}}),
		"status of three octets":      message(&api.Commands{Step: steps[0], Command: []*api.Command{{Apdu: mf, ExpectedSw: []uint32{0x19000}}}}),
		"actor too early":             message(&api.Commands{Step: steps[0], Command: select1(mf).Command, Actor: &api.Actor{Name: "x", Iccsn: InsurerICCSN}}),
		"larger than the limit":       message(select1(make([]byte, api.MaxMessageBytes+1))),
		"failure with a status of 17": {Body: &api.ServerMessage_Failure{Failure: &api.Failure{Sw: 0x10000}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := serve(t, world, ServerConfig{Service: &rogue{world: world, commands: at(steps[0], func(s stream, _ *api.Commands) (*api.Commands, error) {
				if err := s.Send(m); err != nil {
					return nil, err
				}
				_, err := s.Recv()
				return nil, err
			})}})
			r := newRig(t, TerminalConfig{Dial: dialer(srv)})
			r.insert("healthy-g21")
			r.screen(view.PIN)
			n := r.tap.Count()
			r.enter("pin", persona.PIN)
			r.problem("SERVER-LOST")
			for _, e := range r.tap.Exchanges()[n:] {
				if bytes.Equal(e.Command, mf) {
					t.Error("a command of the message reached the card")
				}
			}
			r.ended(srv)
		})
	}
	for name, actor := range map[string]*api.Actor{
		"no actor": nil, "actor without name": {Iccsn: InsurerICCSN}, "actor without number": {Name: InsurerName},
		"actor with letters for digits": {Name: InsurerName, Iccsn: strings.Repeat("A", 20)},
		"actor with a long name":        {Name: strings.Repeat("x", 65), Iccsn: InsurerICCSN},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := serve(t, world, ServerConfig{Service: &rogue{world: world, commands: at(steps[3], func(_ stream, c *api.Commands) (*api.Commands, error) {
				c.Actor = actor
				return c, nil
			})}})
			r := newRig(t, TerminalConfig{Dial: dialer(srv)})
			tap := tapped(t, world, "healthy-g2", nil, nil)
			before := len(entries(t, tap.Card))
			r.insertTap(tap)
			r.screen(view.PIN)
			r.enter("pin", persona.PIN)
			r.problem("SERVER-LOST")
			if len(entries(t, tap.Card)) != before {
				t.Error("an entry was written")
			}
			r.ended(srv)
		})
	}
}

// Every reason that a server may give for its refusal is told as a problem of its own.
func TestServerRefuses(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_15116", "AdV-A_2444")
	want := map[api.FailureCode]string{
		api.FailureCode_FAILURE_CODE_UNSPECIFIED:          "SERVER-REFUSED",
		api.FailureCode_FAILURE_CODE_PROTOCOL:             "SERVER-REFUSED",
		api.FailureCode_FAILURE_CODE_IDENTITY_UNAVAILABLE: "NO-INSURER-IDENTITY",
		api.FailureCode_FAILURE_CODE_CARD_NOT_AUTHENTIC:   "CARD-NOT-AUTHENTIC",
		api.FailureCode_FAILURE_CODE_PIN_NOT_VERIFIED:     "PIN-STATUS-NOT-SET",
		api.FailureCode_FAILURE_CODE_CARD_REFUSED:         "ErrorAuthentication",
		api.FailureCode_FAILURE_CODE_TIMEOUT:              "SERVER-LOST",
		api.FailureCode_FAILURE_CODE_BUSY:                 "SERVER-REFUSED",
		api.FailureCode_FAILURE_CODE_SHUTDOWN:             "SERVER-UNREACHABLE",
		api.FailureCode_FAILURE_CODE_INTERNAL:             "SERVER-REFUSED",
		api.FailureCode_FAILURE_CODE_IDENTITY_UNSUITABLE:  "WrongEndEntityCVC",
		api.FailureCode_FAILURE_CODE_IMPORT_REFUSED:       "ErrorImportCVC",
		99: "SERVER-REFUSED", // of a newer server
	}
	for n := range api.FailureCode_name {
		if _, ok := want[api.FailureCode(n)]; !ok {
			t.Errorf("no problem is expected for %v", api.FailureCode(n))
		}
	}
	for code, problem := range want {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			srv := serve(t, world, ServerConfig{Service: &rogue{world: world, commands: at(steps[1], func(s stream, _ *api.Commands) (*api.Commands, error) {
				return nil, errors.Join(s.Send(failure(code)), errVanish)
			})}})
			r := newRig(t, TerminalConfig{Dial: dialer(srv)})
			r.insert("healthy-g21")
			r.screen(view.PIN)
			r.enter("pin", persona.PIN)
			r.problem(problem)
			r.ended(srv)
		})
	}
}

// The terminal claims that the PIN is verified; the server asks the card through the channel, and refuses (A_15114).
func TestPINStatusIsAskedInTheChannel(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_15114", "A_15112", "A_15116")
	r := newRig(t, TerminalConfig{})
	r.insertTap(tapped(t, world, "healthy-g21", nil, func(_ int, cmd []byte) []byte {
		if bytes.Equal(cmd, []byte{0x80, 0x20, 0x00, 0x01}) {
			return []byte{0x90, 0x00}
		}
		return nil
	}))
	r.problem("PIN-STATUS-NOT-SET")
	r.course(view.Neutral, view.Reading, view.Connecting, view.Problem) // no PIN was asked for
	for _, e := range r.tap.Exchanges() {
		if e.Command[1] == 0x82 {
			t.Error("the role was authenticated")
		}
	}
	if r.tap.Unlocked() {
		t.Error("the card is unlocked")
	}
}

// The order of 5.1.3 on the wire and at the card: connection after the PIN, channel with CHA.0, status of PIN.CH in it, role
// with CHA.1 (A_15110, A_15112, A_15114, A_15115).
func TestOrderOfUnlocking(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_15110", "A_15112", "A_15114", "A_15115")
	srv := serve(t, world, ServerConfig{})
	r := newRig(t, TerminalConfig{Dial: dialer(srv)})
	r.insert("healthy-g21")
	r.screen(view.PIN)
	if _, ever := srv.Connections(); ever != 0 {
		t.Error("connected before the PIN")
	}
	r.enter("pin", persona.PIN)
	r.screen(view.Menu)
	if open, ever := srv.Connections(); open != 1 || ever != 1 {
		t.Errorf("%d connections, %d ever; want one for the session", open, ever)
	}
	null, role := imports(t, world.Insurer.Null.Certificate), imports(t, world.Insurer.AUTR.Certificate)
	landmarks := []struct {
		name string
		is   func([]byte) bool
	}{
		{"VERIFY", func(c []byte) bool { return c[0] == 0 && c[1] == 0x20 }},
		{"import CHA.0", func(c []byte) bool { return bytes.Equal(c, null) }},
		{"GENERAL AUTHENTICATE 1", func(c []byte) bool { return c[0] == 0x10 && c[1] == 0x86 }},
		{"GENERAL AUTHENTICATE 2", func(c []byte) bool { return c[0] == 0 && c[1] == 0x86 }},
		{"GET PIN STATUS secured", func(c []byte) bool { return c[0] == 0x8C && c[1] == 0x20 }},
		{"import CHA.1", func(c []byte) bool { return bytes.Equal(c, role) }},
		{"EXTERNAL AUTHENTICATE", func(c []byte) bool { return c[1] == 0x82 }},
	}
	next := 0
	for _, e := range r.tap.Exchanges() {
		for i, l := range landmarks {
			if !l.is(e.Command) {
				continue
			}
			if i != next {
				t.Errorf("%s out of order", l.name)
			}
			next = i + 1
		}
	}
	if next != len(landmarks) {
		t.Errorf("%s never came", landmarks[next].name)
	}
}

// Servers that cannot be reached, or are none.
func TestServerUnreachable(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2416", "A_15116", "AdV-A_2444")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	fail := func(t *testing.T, dial func(context.Context) (session.Server, error), code string) {
		t.Helper()
		r := newRig(t, TerminalConfig{Dial: dial})
		r.insert("healthy-g21")
		r.screen(view.PIN)
		r.enter("pin", persona.PIN)
		r.problem(code)
		if r.tap.PINVerified() {
			t.Error("the card kept a security state")
		}
		r.leave()
		sound(t, r.Views())
	}
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		fail(t, impatient(closed.Addr().String(), world.trusted, time.Second), "SERVER-UNREACHABLE")
	})
	t.Run("no network", func(t *testing.T) {
		t.Parallel()
		fail(t, func(context.Context) (session.Server, error) { return nil, ErrNoNetwork }, "SERVER-UNREACHABLE")
	})
	t.Run("no such name", func(t *testing.T) {
		t.Parallel()
		fail(t, impatient("adv-server.invalid:443", world.trusted, time.Second), "SERVER-UNREACHABLE")
	})
	t.Run("nobody answers", func(t *testing.T) {
		t.Parallel()
		addr := listen(t, func(c net.Conn) { io.Copy(io.Discard, c) })
		policy, err := tlspolicy.ClientConfig(world.trusted, serverName, nil)
		if err != nil {
			t.Fatal(err)
		}
		fail(t, func(ctx context.Context) (session.Server, error) {
			return serverlink.Dial(ctx, serverlink.Config{Address: addr, TLS: policy, ConnectTimeout: 200 * time.Millisecond})
		}, "SERVER-UNREACHABLE")
	})
	t.Run("hangs up", func(t *testing.T) {
		t.Parallel()
		addr := listen(t, func(c net.Conn) {})
		fail(t, impatient(addr, world.trusted, time.Second), "SERVER-UNREACHABLE")
	})
	t.Run("no TLS", func(t *testing.T) {
		t.Parallel()
		var mu sync.Mutex
		var got bytes.Buffer
		addr := listen(t, func(c net.Conn) {
			b := make([]byte, 4096)
			n, _ := c.Read(b)
			mu.Lock()
			got.Write(b[:n])
			mu.Unlock()
			c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
			n, _ = c.Read(b)
			mu.Lock()
			got.Write(b[:n])
			mu.Unlock()
		})
		fail(t, impatient(addr, world.trusted, time.Second), "SERVER-NOT-TRUSTED")
		mu.Lock()
		defer mu.Unlock()
		if got.Len() == 0 || got.Bytes()[0] != 0x16 || bytes.Contains(got.Bytes(), []byte(InsurerIK)) {
			t.Errorf("in the clear: %q", got.Bytes())
		}
	})
	t.Run("TLS and then rubbish", func(t *testing.T) {
		t.Parallel()
		cfg, err := tlspolicy.ServerConfig(world.pair)
		if err != nil {
			t.Fatal(err)
		}
		addr := listen(t, func(c net.Conn) {
			s := tls.Server(c, cfg)
			s.Write(bytes.Repeat([]byte("rubbish "), 100))
			io.Copy(io.Discard, s)
		})
		fail(t, impatient(addr, world.trusted, time.Second), "SERVER-LOST")
	})
}

func listen(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); serve(c) }()
		}
	}()
	return l.Addr().String()
}

// A server with another certificate, even of the same issuer, gets no message (AdV-A_2418).
func TestWrongServerCertificate(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2418", "AdV-A_2416")
	other, otherStore, err := world.TLSIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		pair  tls.Certificate
		store *tlspolicy.TrustStore
		code  string // "" is accepted: the twin
	}{
		"another certificate of the same issuer": {other, world.trusted, "SERVER-NOT-TRUSTED"},
		"a store that does not know the server":  {world.pair, otherStore, "SERVER-NOT-TRUSTED"},
		"the pinned certificate":                 {other, otherStore, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			messages := 0
			srv := serve(t, world, ServerConfig{TLS: &c.pair, Received: func(*api.AppMessage) { mu.Lock(); messages++; mu.Unlock() }})
			log, read := appLog(t)
			r := newRig(t, TerminalConfig{Dial: impatient(srv.Addr(), c.store, time.Minute), Log: log})
			r.insert("healthy-g21")
			r.screen(view.PIN)
			r.enter("pin", persona.PIN)
			if c.code == "" {
				r.screen(view.Menu)
				return
			}
			r.problem(c.code)
			if n := count(read(), func(e advlog.Entry) bool { return e.Log == "security" && e.Text == c.code }); n != 1 {
				t.Errorf("%d entries in the security log; want 1", n)
			}
			r.ended(srv)
			mu.Lock()
			defer mu.Unlock()
			if messages != 0 {
				t.Errorf("the server got %d messages", messages)
			}
		})
	}
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		block, err := x509.ParseCertificate(world.pair.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		srv := serve(t, world, ServerConfig{})
		r := newRig(t, TerminalConfig{Dial: func(ctx context.Context) (session.Server, error) {
			policy, err := tlspolicy.ClientConfig(world.trusted, serverName, func() time.Time { return block.NotAfter.Add(time.Hour) })
			if err != nil {
				return nil, err
			}
			return serverlink.Dial(ctx, serverlink.Config{Address: srv.Addr(), TLS: policy})
		}})
		r.insert("healthy-g21")
		r.screen(view.PIN)
		r.enter("pin", persona.PIN)
		r.problem("SERVER-NOT-TRUSTED")
		r.ended(srv)
	})
}
