package app_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gioui.org/cpurender"
	"github.com/google/go-cmp/cmp"

	"ktradv/hw/apdu"
	"ktradv/hw/reader"
	"ktradv/hw/sim/adapter"
	"ktradv/hw/sim/persona"
	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/terminal"
	"ktradv/kiosk/app"
	"ktradv/kiosk/control"
	"ktradv/kiosk/loop"
	"ktradv/kiosk/platform/memory"
	"ktradv/kiosk/platform/remote"
	"ktradv/kiosk/view"
	"ktradv/tests/visit"
)

// patience is far more than anything takes.
const patience = 30 * time.Second

var theWorld = sync.OnceValues(func() (*visit.World, error) {
	dir, err := os.MkdirTemp("", "app-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return visit.NewWorld(dir, time.Now())
})

// watch keeps what the process shows.
type watch struct {
	mu     sync.Mutex
	loop   *loop.Loop
	views  []view.View
	turns  int
	change chan struct{}
}

func (w *watch) SetLoop(l *loop.Loop) { w.mu.Lock(); w.loop = l; w.mu.Unlock() }
func (w *watch) Turn(context.Context) { w.mu.Lock(); w.turns++; w.mu.Unlock() }

func (w *watch) SetView(v view.View) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.views = append(w.views, v)
	close(w.change)
	w.change = make(chan struct{})
}

// process is a session process inside the test, and the supervisor's ends of what it holds.
type process struct {
	t       testing.TB
	ctx     context.Context
	display *memory.Display
	host    *remote.Host
	session *remote.Session
	control *control.Conn
	said    chan control.Message // what the process says, but for
	slot    chan control.Kind    // what it says about the slot
	watch   *watch
	reader  *simreader.Reader
	world   *visit.World
	cfg     app.Config
	ended   chan error
	seen    int
}

// prepare makes everything that a session process gets from outside.
func prepare(t testing.TB) *process {
	t.Helper()
	world, err := theWorld()
	if err != nil {
		t.Fatal(err)
	}
	certPEM, _, err := world.PKI.IssueTLSServer([]string{"localhost"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"roots/root.cvc": world.PKI.Root.Certificate, "trust/server.pem": certPEM} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	k, problems := terminal.Parse([]byte(`{"display":{"platform":"memory"},"server":{"address":"localhost:1","trust_store":"trust"},"card_roots":"roots",
		"log":{"enabled":true,"dir":"log"}}`), filepath.Join(dir, "terminal.json"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p := &process{t: t, ctx: ctx, watch: &watch{change: make(chan struct{})}, reader: simreader.New(simreader.Config{}),
		world: world, ended: make(chan error, 1)}
	if p.display, err = memory.New(memory.Config{}); err != nil {
		t.Fatal(err)
	}
	p.host = remote.NewHost(p.display, nil)
	hostDone := make(chan struct{})
	go func() { defer close(hostDone); _ = p.host.Run(ctx) }()
	hostEnd, sessionEnd, err := remote.Pair()
	if err != nil {
		t.Fatal(err)
	}
	if p.session, err = p.host.Attach(hostEnd); err != nil {
		t.Fatal(err)
	}
	client, err := remote.NewClient(sessionEnd, nil)
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := net.Pipe()
	p.control, p.said, p.slot = control.New(mine), make(chan control.Message, 64), make(chan control.Kind, 64)
	go p.listen()
	p.cfg = app.Config{
		Kiosk: k, Platform: client, Renderer: cpurender.New(cpurender.Options{}), Control: control.New(theirs), Alive: client.Alive, Watch: p.watch,
		OpenReader: func() (reader.Reader, error) { return adapter.New(p.reader, adapter.Config{}), nil },
	}
	t.Cleanup(func() {
		mine.Close()
		client.Close()
		p.session.Close()
		cancel()
		p.reader.Release()
		<-hostDone
		p.display.Close()
	})
	return p
}

// listen takes what the process says: about the slot, and everything else.
func (p *process) listen() {
	defer close(p.said)
	for {
		m, err := p.control.Receive()
		switch {
		case err != nil:
			return
		case m.Kind == control.Visit, m.Kind == control.Empty:
			p.slot <- m.Kind
		default:
			p.said <- m
		}
	}
}

func (p *process) start() { go func() { p.ended <- app.Run(p.ctx, p.cfg) }() }

// says waits for the process's next message.
func (p *process) says(want control.Message) {
	p.t.Helper()
	if got := <-p.said; !cmp.Equal(got, want) {
		p.t.Fatalf("the process says %+v; want %+v", got, want)
	}
}

// activate plays the supervisor's part of a hand-over.
func (p *process) activate() { p.t.Helper(); p.activateWith(control.Message{Kind: control.Activate}) }

func (p *process) activateWith(m control.Message) {
	p.t.Helper()
	p.says(control.Message{Kind: control.Ready})
	if err := p.host.Activate(p.session); err != nil {
		p.t.Fatal(err)
	}
	p.tell(m)
	p.says(control.Message{Kind: control.Visible})
}

func (p *process) tell(m control.Message) {
	p.t.Helper()
	if err := p.control.Send(m); err != nil {
		p.t.Fatal(err)
	}
}

// screen waits until a screen is on the display.
func (p *process) screen(want view.Screen) view.View {
	p.t.Helper()
	for {
		p.watch.mu.Lock()
		change := p.watch.change
		for p.seen < len(p.watch.views) {
			v := p.watch.views[p.seen]
			p.seen++
			if v.Screen == want {
				p.watch.mu.Unlock()
				return v
			}
		}
		p.watch.mu.Unlock()
		select {
		case <-change:
		case err := <-p.ended:
			p.t.Fatalf("the process ended while %q was waited for: %v", want, err)
		case <-p.ctx.Done():
			p.t.Fatalf("no screen %q", want)
		}
	}
}

func (p *process) end() error {
	p.t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-p.ctx.Done():
		p.t.Fatal("the process does not end")
		return nil
	}
}

// One person: the process waits for its turn, draws every screen, explains that the server cannot be reached, and ends as
// one that has served; what remains on the display holds nothing personal.
func TestVisit(t *testing.T) {
	t.Parallel()
	p := prepare(t)
	p.start()
	p.activate()
	p.screen(view.Neutral)
	neutral := slices.Clone(p.display.Image().Pix)
	card, err := p.world.Card("healthy-g21", nil)
	if err != nil {
		t.Fatal(err)
	}
	p.reader.Insert(card)
	p.screen(view.PIN)
	for { // the display belongs to another process, which shows what this one has drawn a moment later
		updated := p.display.Updated()
		if !slices.Equal(neutral, p.display.Image().Pix) {
			break
		}
		select {
		case <-updated:
		case <-p.ctx.Done():
			t.Fatal("the display still shows the neutral screen")
		}
	}
	if err := p.reader.WaitAwaiting(p.ctx, "pin"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.reader.PressDigits(persona.PIN), p.reader.PressKey(simreader.KeyOK)); err != nil {
		t.Fatal(err)
	}
	if v := p.screen(view.Problem); v.Problem.Code != "SERVER-UNREACHABLE" || v.Personal {
		t.Errorf("problem %+v", v.Problem)
	}
	p.reader.Remove()
	p.says(control.Message{Kind: control.Ended, Reason: control.Served, Slot: control.SlotEmpty})
	if err := p.end(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if a, b := <-p.slot, <-p.slot; a != control.Empty || b != control.Visit || len(p.slot) != 0 {
		t.Errorf("told about the slot: %s, %s and %d more; want that it was empty, then that a visit begins", a, b, len(p.slot))
	}
	p.watch.mu.Lock()
	defer p.watch.mu.Unlock()
	if p.watch.turns != 1 {
		t.Errorf("%d turns; want 1", p.watch.turns)
	}
	if files, err := filepath.Glob(filepath.Join(p.cfg.Kiosk.Log.Dir, "*.log")); err != nil || len(files) == 0 {
		t.Errorf("no log was written: %v", err)
	}
}

// A touch on the display reaches the session: the way out ends the visit.
func TestTouchEndsTheVisit(t *testing.T) {
	t.Parallel()
	p := prepare(t)
	p.start()
	p.activate()
	card, err := p.world.Card("pin-blocked", nil)
	if err != nil {
		t.Fatal(err)
	}
	p.reader.Insert(card)
	p.screen(view.PINBlocked)
	p.watch.mu.Lock()
	l := p.watch.loop
	p.watch.mu.Unlock()
	if err := l.Settle(p.ctx); err != nil {
		t.Fatal(err)
	}
	nodes, err := l.Semantics(p.ctx)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(nodes, func(n loop.Node) bool { return n.Clickable && strings.Contains(n.Label, "eenden") })
	if i < 0 {
		t.Fatalf("no way out on the screen: %+v", nodes)
	}
	if err := p.display.Tap(p.ctx, nodes[i].Rect.Min.Add(image.Pt(nodes[i].Rect.Dx()/2, nodes[i].Rect.Dy()/2))); err != nil {
		t.Fatal(err)
	}
	p.screen(view.TakeCard)
	p.says(control.Message{Kind: control.Ended, Reason: control.Served, Slot: control.SlotCard})
	_ = p.end()
}

// While the reader cannot be reached the terminal says so, and goes on when it can.
func TestReaderComesLater(t *testing.T) {
	t.Parallel()
	p := prepare(t)
	open, tries := p.cfg.OpenReader, 0
	p.cfg.OpenReader = func() (reader.Reader, error) {
		if tries++; tries == 1 {
			return nil, fmt.Errorf("open: %w", apdu.ErrReaderGone)
		}
		return open()
	}
	p.start()
	p.activate()
	if v := p.screen(view.OutOfOrder); v.Problem.Code != "READER-GONE" {
		t.Errorf("problem %+v", v.Problem)
	}
	p.screen(view.Neutral)
}

// While the card service is replaced the neutral screen stands, no reader is opened, and a card that is put in meanwhile
// is served when the service is back. Without the knowledge that the slot was empty, its holder is asked to take it.
func TestCardServiceIsReplaced(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		slot, free  control.Slot // free: word about the first session, control.SlotFirst for none
		first, want view.Screen
	}{
		{control.SlotEmpty, control.SlotFirst, view.Neutral, view.PIN},
		{control.SlotNew, control.SlotFirst, view.Neutral, view.PIN},
		{control.SlotCard, control.SlotFirst, view.TakeCard, view.TakeCard},
		{control.SlotFirst, "", view.Neutral, view.TakeCard},                     // this reader saw no card come
		{control.SlotUnknown, control.SlotFirst, view.OutOfOrder, view.TakeCard}, // nobody is asked to put a card in
		// A machine that remembers that no card of before can be in: the one that is, was put in for this visit.
		{control.SlotFirst, control.SlotEmpty, view.Neutral, view.PIN},
	} {
		t.Run("slot "+string(c.slot+" "+c.free), func(t *testing.T) {
			t.Parallel()
			p := prepare(t)
			var opened atomic.Int32
			open := p.cfg.OpenReader
			p.cfg.OpenReader = func() (reader.Reader, error) { opened.Add(1); return open() }
			p.start()
			p.activateWith(control.Message{Kind: control.Activate, Slot: c.slot, Wait: true})
			p.screen(c.first)
			card, err := p.world.Card("healthy-g21", nil)
			if err != nil {
				t.Fatal(err)
			}
			p.reader.Insert(card)
			if n := opened.Load(); n != 0 {
				t.Errorf("the reader was opened %d times before the card service was there", n)
			}
			p.tell(control.Message{Kind: control.Cards})
			if c.free != control.SlotFirst {
				if len(p.slot) != 0 {
					t.Error("a visit began before it was known whose card is in the slot")
				}
				p.tell(control.Message{Kind: control.Free, Slot: c.free})
			}
			p.screen(c.want)
			if c.want == view.TakeCard {
				if n := len(p.slot); n != 0 {
					t.Errorf("told %d things about a slot with a card of before", n)
				}
				p.reader.Remove()
				p.screen(view.Neutral)
				if k := <-p.slot; k != control.Empty {
					t.Errorf("told about the slot: %s; want that it is empty", k)
				}
			} else if k := <-p.slot; k != control.Visit {
				t.Errorf("told about the slot: %s; want that a visit begins", k)
			}
		})
	}
}

// The place of the logs may come after the process: with the word that it is there the log is opened, before the reader.
func TestLogComesLater(t *testing.T) {
	t.Parallel()
	for name, mounted := range map[string]bool{"in time": true, "never": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := prepare(t)
			p.t = t
			place := filepath.Join(t.TempDir(), "place")
			if err := os.WriteFile(place, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			p.cfg.Kiosk.Log = terminal.Log{Enabled: true, Dir: filepath.Join(place, "log"), Level: "info"}
			p.start()
			p.activateWith(control.Message{Kind: control.Activate, Slot: control.SlotFirst, Wait: true})
			p.screen(view.Neutral)
			if !mounted {
				p.tell(control.Message{Kind: control.Cards})
				p.says(control.Message{Kind: control.Ended, Reason: control.Broken})
				if err := p.end(); !errors.Is(err, syscall.ENOTDIR) {
					t.Errorf("%v; want %v", err, syscall.ENOTDIR)
				}
				return
			}
			if err := errors.Join(os.Remove(place), os.Mkdir(place, 0o700)); err != nil {
				t.Fatal(err)
			}
			card, err := p.world.Card("healthy-g21", nil)
			if err != nil {
				t.Fatal(err)
			}
			p.reader.Insert(card)
			p.tell(control.Message{Kind: control.Cards})
			p.tell(control.Message{Kind: control.Free})
			p.screen(view.TakeCard)
			if files, err := os.ReadDir(p.cfg.Kiosk.Log.Dir); err != nil || len(files) == 0 {
				t.Errorf("log %v, %v", files, err)
			}
		})
	}
}

// What the supervisor knows about the terminal stands on the screens of a terminal that serves nobody, and on no other.
func TestStaffIsTold(t *testing.T) {
	t.Parallel()
	p := prepare(t)
	open := p.cfg.OpenReader
	var there atomic.Bool
	there.Store(true)
	p.cfg.OpenReader = func() (reader.Reader, error) {
		if !there.Load() {
			return nil, fmt.Errorf("open: %w", apdu.ErrReaderGone)
		}
		return open()
	}
	p.start()
	p.says(control.Message{Kind: control.Ready})
	p.tell(control.Message{Kind: control.Service, Codes: []string{"DATA-MISSING"}})
	if err := p.host.Activate(p.session); err != nil {
		t.Fatal(err)
	}
	there.Store(false)
	p.tell(control.Message{Kind: control.Activate})
	p.says(control.Message{Kind: control.Visible})
	if v := p.screen(view.OutOfOrder); v.Problem.Code != "READER-GONE" || !cmp.Equal(v.Service, []string{"DATA-MISSING"}) {
		t.Errorf("%+v, codes %v", v.Problem, v.Service)
	}
	// The first process knows why there is no reader.
	p.tell(control.Message{Kind: control.Service, Codes: []string{"READER-UNSUPPORTED", "DATA-MISSING"}})
	for {
		v := p.screen(view.OutOfOrder)
		if v.Problem.Code == "READER-UNSUPPORTED" {
			if !cmp.Equal(v.Service, []string{"DATA-MISSING"}) {
				t.Errorf("codes %v", v.Service)
			}
			break
		}
	}
	there.Store(true)
	p.tell(control.Message{Kind: control.Service})
	if v := p.screen(view.Neutral); len(v.Service) != 0 {
		t.Errorf("codes %v", v.Service)
	}
	p.tell(control.Message{Kind: control.Service, Codes: []string{"CLOCK-WRONG"}})
	if v := p.screen(view.Neutral); !cmp.Equal(v.Service, []string{"CLOCK-WRONG"}) {
		t.Errorf("codes %v", v.Service)
	}
	card, err := p.world.Card("healthy-g21", nil)
	if err != nil {
		t.Fatal(err)
	}
	p.reader.Insert(card)
	if v := p.screen(view.PIN); len(v.Service) != 0 {
		t.Errorf("codes on the PIN screen: %v", v.Service)
	}
}

// loopReader is a reader whose card loop the test stops.
type loopReader struct {
	reader.Reader
	stuck *atomic.Bool
}

func (l loopReader) Alive() bool { return !l.stuck.Load() }

// A process whose card loop is stuck gives no sign of life, although its drawing loop turns; it does when the loop answers.
func TestSignOfLifeNeedsTheCardLoop(t *testing.T) {
	t.Parallel()
	p := prepare(t)
	var stuck atomic.Bool
	open := p.cfg.OpenReader
	opened := make(chan struct{})
	p.cfg.OpenReader = func() (reader.Reader, error) {
		defer close(opened)
		rd, err := open()
		return loopReader{rd, &stuck}, err
	}
	var signs, turns atomic.Int32
	p.cfg.Alive = func() { signs.Add(1) }
	p.start()
	p.activate()
	<-opened
	p.screen(view.Neutral)
	p.watch.mu.Lock()
	l := p.watch.loop
	p.watch.mu.Unlock()
	ask := func() (answered bool) {
		t.Helper()
		before := signs.Load()
		p.session.Ping()
		for range 3 { // the ping has been taken when the loop has turned for what came after it
			if err := l.Post(p.ctx, func() { turns.Add(1) }); err != nil {
				t.Fatal(err)
			}
			if err := l.Settle(p.ctx); err != nil {
				t.Fatal(err)
			}
		}
		return signs.Load() > before
	}
	if !ask() {
		t.Error("a healthy process gives no sign of life")
	}
	stuck.Store(true)
	ask() // a turn that was under way
	if ask() {
		t.Error("a process with a stuck card loop gives a sign of life")
	}
	stuck.Store(false)
	if !ask() {
		t.Error("a process whose card loop answers again gives no sign of life")
	}
}

// What a process cannot do without ends it, and the supervisor hears of it.
func TestBroken(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*process){
		"no roots":       func(p *process) { p.cfg.Kiosk.CardRoots = filepath.Join(p.t.TempDir(), "none") },
		"no trust store": func(p *process) { p.cfg.Kiosk.Server.TrustStore = p.t.TempDir() },
		"no design":      func(p *process) { p.cfg.Kiosk.Design = filepath.Join(p.t.TempDir(), "none") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := prepare(t)
			p.t = t
			change(p)
			p.start()
			p.says(control.Message{Kind: control.Ended, Reason: control.Broken})
			if err := p.end(); err == nil {
				t.Error("no error")
			}
		})
	}
	mine := errors.New("no such driver")
	for name, tc := range map[string]struct {
		change func(*process)
		want   error
	}{
		"reader of another kind": {func(p *process) { p.cfg.OpenReader = func() (reader.Reader, error) { return nil, mine } }, mine},
		"no log folder":          {func(p *process) { p.cfg.Kiosk.Log.Dir = filepath.Join(os.DevNull, "log") }, syscall.ENOTDIR},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := prepare(t)
			p.t = t
			tc.change(p)
			p.start()
			p.says(control.Message{Kind: control.Ready})
			if err := p.control.Send(control.Message{Kind: control.Activate}); err != nil {
				t.Fatal(err)
			}
			for m := range p.said {
				if m.Kind == control.Ended {
					if m.Reason != control.Broken {
						t.Errorf("reason %s", m.Reason)
					}
					break
				}
			}
			if err := p.end(); !errors.Is(err, tc.want) {
				t.Errorf("%v; want %v", err, tc.want)
			}
		})
	}
	t.Run("supervisor says something else", func(t *testing.T) {
		t.Parallel()
		p := prepare(t)
		p.start()
		p.says(control.Message{Kind: control.Ready})
		if err := p.control.Send(control.Message{Kind: control.Hung}); err != nil {
			t.Fatal(err)
		}
		p.says(control.Message{Kind: control.Ended, Reason: control.Broken})
		if err := p.end(); !errors.Is(err, control.ErrProtocol) {
			t.Errorf("%v; want %v", err, control.ErrProtocol)
		}
	})
	t.Run("supervisor is gone", func(t *testing.T) {
		t.Parallel()
		p := prepare(t)
		p.start()
		p.says(control.Message{Kind: control.Ready})
		p.session.Close() // with the supervisor its end of the display goes
		if err := p.end(); !errors.Is(err, app.ErrSupervisorGone) {
			t.Errorf("%v; want %v", err, app.ErrSupervisorGone)
		}
	})
}

// TestCheck: what the files hold is checked, too, and every mistake has its file, key and fix.
func TestCheck(t *testing.T) {
	t.Parallel()
	p := prepare(t)
	now := time.Now()
	if problems := app.Check(p.cfg.Kiosk, now); len(problems) > 0 {
		t.Errorf("a good configuration: %v", problems)
	}
	digest := strings.Repeat("0", 64)
	for key, tc := range map[string]struct {
		now    time.Time
		change func(*terminal.Config)
		want   string
	}{
		"card_roots":               {now, func(k *terminal.Config) { k.CardRoots = t.TempDir() }, "no"},
		"server.trust_store":       {now, func(k *terminal.Config) { k.Server.TrustStore = t.TempDir() }, "no"},
		"server.trust_store ":      {now, func(k *terminal.Config) { k.Server.TrustDigest = digest }, "digest"},
		"server.trust_store early": {now.AddDate(-9, 0, 0), func(*terminal.Config) {}, "valid from"},
		"server.trust_store late":  {now.AddDate(9, 0, 0), func(*terminal.Config) {}, "valid until"},
		"server.address":           {now, func(k *terminal.Config) { k.Server.Address = "elsewhere.example:443" }, "elsewhere.example"},
		"design":                   {now, func(k *terminal.Config) { k.Design = filepath.Join(t.TempDir(), "none") }, "ui.json"},
	} {
		k := p.cfg.Kiosk
		tc.change(&k)
		problems := app.Check(k, tc.now)
		key, _, _ := strings.Cut(key, " ")
		if len(problems) != 1 || problems[0].Key != key || !strings.Contains(problems[0].What, tc.want) || problems[0].Fix == "" || problems[0].File == "" {
			t.Errorf("%s: %v", key, problems)
		}
	}
	bad := p.cfg.Kiosk
	bad.CardRoots, bad.Design = t.TempDir(), t.TempDir()
	found := []terminal.Problem{{File: "terminal.json", Key: "display.rotation"}, {File: "terminal.json", Key: "design", What: "is a file"}}
	var keys []string
	for _, p := range app.AllMistakes(bad, found, now) {
		keys = append(keys, p.Key)
	}
	if d := cmp.Diff([]string{"display.rotation", "design", "card_roots"}, keys); d != "" {
		t.Errorf("all mistakes, each once (-want +got):\n%s", d)
	}
	if all := app.AllMistakes(p.cfg.Kiosk, nil, now); len(all) > 0 {
		t.Errorf("a good configuration: %v", all)
	}
	k := p.cfg.Kiosk
	k.CardRoots, k.Server.TrustStore, k.Design = t.TempDir(), t.TempDir(), t.TempDir()
	if problems := app.Check(k, now); len(problems) != 3 {
		t.Errorf("three mistakes: %v", problems)
	}
	// A terminal whose clock is not set yet starts all the same.
	if problems := app.Check(p.cfg.Kiosk, time.Time{}); len(problems) > 0 {
		t.Errorf("without a clock: %v", problems)
	}
}
