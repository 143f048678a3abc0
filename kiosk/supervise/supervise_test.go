package supervise

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ktradv/internal/advlog"
	"ktradv/internal/initctl"
	"ktradv/internal/req"
	"ktradv/kiosk/control"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/memory"
	"ktradv/kiosk/platform/remote"
)

// The test binary plays the session processes, too: TestMain runs child when behaviourEnv names what to do.
const (
	behaviourEnv = "SUPERVISE_TEST_CHILD" // comma separated: the n-th process does the n-th, the last repeats
	dirEnv       = "SUPERVISE_TEST_DIR"
)

func TestMain(m *testing.M) {
	if os.Getenv(behaviourEnv) != "" {
		child()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// number hands out consecutive numbers to the children of one test.
func number(dir string) int {
	for n := 0; ; n++ {
		f, err := os.OpenFile(filepath.Join(dir, "child-"+strconv.Itoa(n)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err == nil {
			fmt.Fprint(f, os.Getpid())
			f.Close()
			return n
		}
	}
}

// shade is the grey in which process n draws.
func shade(n int) color.RGBA { v := uint8(20 + 20*n); return color.RGBA{v, v, v, 255} }

func child() {
	n := number(os.Getenv(dirEnv))
	all := strings.Split(os.Getenv(behaviourEnv), ",")
	behaviour := all[min(n, len(all)-1)]
	if behaviour == "die" {
		os.Exit(1)
	}
	f := os.NewFile(ControlFD, "control")
	c, err := net.FileConn(f)
	if err != nil {
		os.Exit(2)
	}
	conn := control.New(c)
	if behaviour == "rubbish" {
		c.Write(bytes.Repeat([]byte("x"), 4096))
		select {}
	}
	client, err := remote.NewClient(os.NewFile(DisplayFD, "display"), nil)
	if err != nil {
		os.Exit(3)
	}
	size := client.Size()
	img := image.NewRGBA(image.Rectangle{Max: size})
	draw.Draw(img, img.Rect, image.NewUniform(shade(n)), image.Point{}, draw.Src)
	if err := client.Show(platform.Full(img)); err != nil {
		os.Exit(4)
	}
	if behaviour == "notready" {
		select {}
	}
	conn.Send(control.Message{Kind: control.Ready})
	// heard writes down what the supervisor says.
	heard := func() control.Message {
		m, err := conn.Receive()
		if err != nil {
			os.Exit(5)
		}
		f, err := os.OpenFile(filepath.Join(os.Getenv(dirEnv), "heard-"+strconv.Itoa(n)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			os.Exit(6)
		}
		fmt.Fprintf(f, "%s %s %v %s\n", m.Kind, m.Slot, m.Wait, strings.Join(m.Codes, ","))
		f.Close()
		return m
	}
	for heard().Kind != control.Activate {
	}
	go func() {
		for {
			heard()
		}
	}()
	if behaviour == "invisible" {
		select {}
	}
	conn.Send(control.Message{Kind: control.Visible})
	if behaviour != "silent" { // a stuck one does not answer
		go func() {
			for e := range client.Events() {
				if e == (platform.Ping{}) {
					client.Alive()
				}
			}
		}()
	}
	switch behaviour {
	case "draw":
		go func() {
			for range time.Tick(50 * time.Millisecond) {
				client.Show(platform.Full(img))
			}
		}()
		select {}
	case "serve":
		conn.Send(control.Message{Kind: control.Ended, Reason: control.Served, Slot: control.SlotEmpty})
	case "visit", "visit-die", "visit-end", "visit-card":
		conn.Send(control.Message{Kind: control.Empty})
		conn.Send(control.Message{Kind: control.Visit})
		switch behaviour {
		case "visit":
			select {}
		case "visit-die":
			os.Exit(7)
		}
		slot := control.SlotEmpty
		if behaviour == "visit-card" {
			slot = control.SlotCard
		}
		conn.Send(control.Message{Kind: control.Ended, Reason: control.Served, Slot: slot})
	case "hung":
		conn.Send(control.Message{Kind: control.Hung})
		select {}
	default: // "stay", "silent"
		select {}
	}
}

type cards struct {
	mu       sync.Mutex
	restarts int
	dead     bool
	slow     chan struct{} // Restart waits for it, if it is set
	exited   chan struct{}
	changed  chan struct{}
}

func newCards() *cards { return &cards{exited: make(chan struct{}), changed: make(chan struct{}, 100)} }

func (c *cards) Ping(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errors.New("no answer")
	}
	return nil
}

func (c *cards) Restart(ctx context.Context) error {
	if c.slow != nil {
		select {
		case <-c.slow:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.restarts++
	c.dead = false
	c.exited = make(chan struct{})
	c.changed <- struct{}{}
	return nil
}

func (c *cards) Exited() <-chan struct{} { c.mu.Lock(); defer c.mu.Unlock(); return c.exited }

type rig struct {
	t       *testing.T
	dir     string
	display *memory.Display
	screen  *screen
	log     *advlog.Log
	logDir  string
	done    chan error
	ready   chan struct{} // a value when the supervisor says that it is ready
	living  chan struct{} // a value at every sign of life for the init system
}

// screen is a display whose driver hangs from the moment that the test says so until it is free.
type screen struct {
	*memory.Display
	hangs, free chan struct{}
}

func (s *screen) Show(f platform.Frame) error {
	select {
	case <-s.hangs:
		<-s.free
	default:
	}
	return s.Display.Show(f)
}

// start runs a supervisor whose children behave as named.
func start(t *testing.T, behaviour string, c CardService, more ...func(*Config)) *rig {
	t.Helper()
	r := &rig{
		t: t, dir: t.TempDir(), logDir: filepath.Join(t.TempDir(), "log"), done: make(chan error, 1),
		ready: make(chan struct{}, 100), living: make(chan struct{}, 1000),
	}
	var err error
	if r.display, err = memory.New(memory.Config{Size: image.Pt(64, 48)}); err != nil {
		t.Fatal(err)
	}
	if r.log, err = advlog.Open(advlog.Config{Dir: r.logDir, Component: advlog.Supervisor, Enabled: true}); err != nil {
		t.Fatal(err)
	}
	r.screen = &screen{Display: r.display, hangs: make(chan struct{}), free: make(chan struct{})}
	host := remote.NewHost(r.screen, nil)
	cfg := Config{
		Host: host, Cards: c, OpenLog: func(context.Context) (*advlog.Log, error) { return r.log, nil }, ReadyIn: 5 * time.Second, SilentFor: time.Second,
		Command: func() *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), behaviourEnv+"="+behaviour, dirEnv+"="+r.dir)
			return cmd
		},
		Ready: func() { r.ready <- struct{}{} }, Alive: func() { r.living <- struct{}{} },
	}
	for _, f := range more {
		f(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go host.Run(ctx)
	go func() { r.done <- s.Run(ctx) }()
	t.Cleanup(func() {
		close(r.screen.free)
		cancel()
		select {
		case <-r.done:
		case <-time.After(10 * time.Second):
			t.Error("the supervisor does not stop")
		}
		r.log.Close()
		r.display.Close()
	})
	return r
}

// shows waits until the picture of process n is on the display.
func (r *rig) shows(n int) {
	r.t.Helper()
	want := shade(n)
	deadline := time.After(15 * time.Second)
	for {
		updated := r.display.Updated()
		if img := r.display.Image(); img != nil && img.RGBAAt(10, 10) == want {
			return
		}
		select {
		case <-updated:
		case <-deadline:
			r.t.Fatalf("process %d is never shown; pixel is %v", n, r.display.Image().RGBAAt(10, 10))
		}
	}
}

// heard waits until process n has heard a line.
func (r *rig) heard(n int, want string) {
	r.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; {
		b, _ := os.ReadFile(filepath.Join(r.dir, "heard-"+strconv.Itoa(n)))
		if slices.Contains(strings.Split(string(b), "\n"), want) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("process %d never heard %q, but\n%s", n, want, b)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (r *rig) errors() []string {
	r.t.Helper()
	if err := r.log.Flush(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(r.logDir, advlog.Supervisor.String()+"-error.log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	var texts []string
	for dec := json.NewDecoder(bytes.NewReader(b)); dec.More(); {
		var e advlog.Entry
		if err := dec.Decode(&e); err != nil {
			r.t.Fatal(err)
		}
		texts = append(texts, e.Text)
	}
	return texts
}

func (r *rig) alive(n int) bool {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, "child-"+strconv.Itoa(n)))
	if err != nil {
		r.t.Fatal(err)
	}
	_, err = os.Stat("/proc/" + string(b))
	return err == nil
}

// One process for one person: the next one is shown, and the one before is gone.
func TestOneProcessPerPerson(t *testing.T) {
	t.Parallel()
	r := start(t, "serve,serve,stay", nil)
	r.shows(2)
	for deadline := time.Now().Add(5 * time.Second); r.alive(0) || r.alive(1); {
		if time.Now().After(deadline) {
			t.Fatal("a process that served somebody is still there")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if got := r.errors(); len(got) != 0 {
		t.Errorf("errors logged for orderly ends: %v", got)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, behaviour string
		shown           int
		logged          string
	}{
		{"dies before it is ready", "die,stay", 1, "SESSION-PROCESS-FAILED"},
		{"breaks the protocol", "rubbish,stay", 1, "SESSION-PROCESS-FAILED"},
		{"gives no sign of life", "silent,stay", 1, "SESSION-PROCESS-SILENT"},
		{"shows nothing in its turn", "invisible,stay", 1, "SESSION-PROCESS-FAILED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, c.behaviour, nil)
			r.shows(c.shown)
			if got := strings.Join(r.errors(), " "); !strings.Contains(got, c.logged) {
				t.Errorf("logged %q; want %s", got, c.logged)
			}
		})
	}
}

// The last picture of a session that hangs may be a page of somebody's data, and nobody can turn it away: the screen is dark
// at once, and not only when there is another picture.
func TestHungSessionIsDarkened(t *testing.T) {
	t.Parallel()
	dark := -1 // shade of no process
	r := start(t, "silent,notready", nil, func(c *Config) { c.ReadyIn = time.Minute })
	r.shows(0)
	r.shows(dark)
	for deadline := time.Now().Add(15 * time.Second); r.alive(0); time.Sleep(5 * time.Millisecond) { // its number goes a moment later
		if time.Now().After(deadline) {
			t.Fatal("the process that hangs still lives")
		}
	}
}

func TestCardServiceIsReplaced(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, behaviour string
		break_          func(*cards)
	}{
		{"a session says that it hangs", "hung", func(*cards) {}},
		{"it dies", "stay", func(c *cards) { c.mu.Lock(); defer c.mu.Unlock(); close(c.exited) }},
		{"it gives no sign of life", "stay", func(c *cards) { c.mu.Lock(); defer c.mu.Unlock(); c.dead = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			svc := newCards()
			r := start(t, c.behaviour, svc)
			r.shows(0)
			c.break_(svc)
			select {
			case <-svc.changed:
			case <-time.After(10 * time.Second):
				t.Fatal("the card service is not replaced")
			}
			if !r.alive(0) {
				t.Error("the session process was ended although it can tell the person")
			}
		})
	}
}

// After a visit the card service, whose memory held the card's answers, is replaced: the next picture does not wait for
// that, the next reader does.
func TestCardServiceIsReplacedAfterAVisit(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2409")
	svc := newCards()
	svc.slow = make(chan struct{})
	r := start(t, "serve,stay", svc)
	r.shows(1)
	r.heard(1, "activate empty true ")
	select {
	case <-svc.changed:
		t.Fatal("the neutral screen waited for the card service")
	default:
	}
	close(svc.slow)
	<-svc.changed
	r.heard(1, "cards  false ")
	svc.mu.Lock()
	defer svc.mu.Unlock()
	if svc.restarts != 1 {
		t.Errorf("replaced %d times", svc.restarts)
	}
}

// The negative twin: a card service that is well, and served nobody, is left alone.
func TestHealthyCardServiceIsLeftAlone(t *testing.T) {
	t.Parallel()
	svc := newCards()
	r := start(t, "stay", svc)
	r.shows(0)
	r.heard(0, "activate first false ")
	for range 2 * cardsEvery { // two of them ask the service
		<-r.living
	}
	svc.mu.Lock()
	defer svc.mu.Unlock()
	if svc.restarts != 0 {
		t.Errorf("replaced %d times", svc.restarts)
	}
}

// The place of the logs may come after the first picture: sessions that get their turn before wait with log and reader, no
// card service is touched meanwhile, and what went wrong is written down then.
func TestSessionsWaitForTheLogs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, behaviour string
		own             bool // card service
		n               int  // process that is shown
		activated       string
	}{
		{"first session", "stay", true, 0, "activate first true "},
		{"first session, card service of the system", "stay", false, 0, "activate first true "},
		{"second session", "die,stay", true, 1, "activate  true "},
		{"second session, card service of the system", "die,stay", false, 1, "activate  true "},
		{"after a visit", "serve,stay", true, 1, "activate empty true "},
		{"after a visit, card service of the system", "serve,stay", false, 1, "activate empty true "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mounted := make(chan struct{})
			cards := newCards()
			var service CardService
			if c.own {
				service = cards
			}
			r := start(t, c.behaviour, service, func(cfg *Config) {
				open := cfg.OpenLog
				cfg.OpenLog = func(ctx context.Context) (*advlog.Log, error) {
					select {
					case <-mounted:
						return open(ctx)
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				}
			})
			r.shows(c.n)
			r.heard(c.n, c.activated)
			<-r.living // it has been watched for a while
			if b, err := os.ReadFile(filepath.Join(r.dir, "heard-"+strconv.Itoa(c.n))); err != nil || strings.Contains(string(b), "cards") {
				t.Errorf("told before there was a place for logs: %q, %v", b, err)
			}
			cards.mu.Lock()
			restarts := cards.restarts
			cards.mu.Unlock()
			if got := r.errors(); len(got) != 0 || restarts != 0 {
				t.Errorf("logged %q, card service replaced %d times before there was a place for logs", got, restarts)
			}
			close(mounted)
			r.heard(c.n, "cards  false ")
			want := ""
			if strings.HasPrefix(c.behaviour, "die") {
				want = "SESSION-PROCESS-FAILED"
			}
			for end := time.Now().Add(10 * time.Second); !strings.Contains(strings.Join(r.errors(), " "), want); {
				if time.Now().After(end) {
					t.Fatalf("logged %q; want %q", r.errors(), want)
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
}

// A log that cannot be opened for any other reason than its medium is a mistake in the configuration: the supervisor ends.
func TestLogThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	wrong := errors.New("no such folder")
	r := start(t, "stay", nil, func(c *Config) {
		c.OpenLog = func(context.Context) (*advlog.Log, error) { return nil, wrong }
	})
	select {
	case err := <-r.done:
		if !errors.Is(err, wrong) {
			t.Errorf("%v; want %v", err, wrong)
		}
		r.done <- err
	case <-time.After(10 * time.Second):
		t.Fatal("the supervisor goes on")
	}
}

// Readiness is told once, when the first picture is on the display; signs of life for as long as the session answers.
func TestSignsForInit(t *testing.T) {
	t.Parallel()
	first := start(t, "stay", nil)
	<-first.ready
	if first.display.Image().RGBAAt(10, 10) != shade(0) {
		t.Error("ready before a picture was on the display")
	}
	r := start(t, "serve,stay", nil)
	<-r.ready
	r.shows(1)
	for range 3 {
		<-r.living
	}
	if len(r.ready) != 0 {
		t.Error("ready twice")
	}
}

// A session that is stuck gives the init system no sign of life on the supervisor's behalf: nor does one that shows nothing.
func TestNoSignsForInit(t *testing.T) {
	t.Parallel()
	for behaviour, shown := range map[string]bool{"silent": true, "invisible": false, "die": false} {
		t.Run(behaviour, func(t *testing.T) {
			t.Parallel()
			r := start(t, behaviour, nil)
			for len(r.errors()) < 2 { // two processes were tried
				time.Sleep(10 * time.Millisecond)
			}
			if n := len(r.living); n != 0 {
				t.Errorf("%d signs of life", n)
			}
			if ready := len(r.ready) > 0; ready != shown {
				t.Errorf("ready %v, want %v", ready, shown)
			}
		})
	}
}

// A display that hangs is no sign of life either, although the session's loop turns.
func TestNoSignsFromAHangingDisplay(t *testing.T) {
	t.Parallel()
	r := start(t, "draw", nil)
	r.shows(0)
	<-r.living
	close(r.screen.hangs)
	time.Sleep(1200 * time.Millisecond) // a sign that was under way
	n := len(r.living)
	time.Sleep(1200 * time.Millisecond)
	if got := len(r.living); got != n {
		t.Errorf("%d signs of life while the display hangs", got-n)
	}
}

// terminalState is a service in the test's hand.
type terminalState struct {
	mu      sync.Mutex
	codes   []string
	changed chan struct{}
}

func (s *terminalState) Codes() ([]string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.codes, s.changed
}

// The sessions hear how the terminal is: before they are seen, and at every change.
func TestServiceIsTold(t *testing.T) {
	t.Parallel()
	st := &terminalState{codes: []string{"CLOCK-WRONG"}, changed: make(chan struct{})}
	r := start(t, "stay", nil, func(c *Config) { c.Service = st })
	r.shows(0)
	r.heard(0, "service  false CLOCK-WRONG")
	st.mu.Lock()
	st.codes = []string{"DATA-FULL", "NETWORK-DOWN"}
	close(st.changed)
	st.changed = make(chan struct{})
	st.mu.Unlock()
	r.heard(0, "service  false DATA-FULL,NETWORK-DOWN")
}

// What the sessions know about the slot is told, in the order in which it happened: a visit begins, and ends with an empty slot
// or not; one whose session dies leaves its card in, for all that anybody knows.
func TestSlotIsTold(t *testing.T) {
	t.Parallel()
	begins := []initctl.Slot{initctl.SlotEmpty, initctl.SlotVisit}
	for behaviour, want := range map[string][]initctl.Slot{
		"visit":           begins,
		"visit-end,stay":  append(slices.Clone(begins), initctl.SlotEmpty),
		"visit-card,stay": append(slices.Clone(begins), initctl.SlotCard),
		"visit-die,stay":  append(slices.Clone(begins), initctl.SlotCard),
		"stay":            nil,
		"die,stay":        nil,
	} {
		t.Run(behaviour, func(t *testing.T) {
			t.Parallel()
			told := make(chan initctl.Slot, 100)
			r := start(t, behaviour, nil, func(c *Config) { c.Slot = func(s initctl.Slot) { told <- s } })
			r.shows(strings.Count(behaviour, ","))
			var got []initctl.Slot
			for range want {
				select {
				case s := <-told:
					got = append(got, s)
				case <-time.After(15 * time.Second):
				}
			}
			if !slices.Equal(got, want) || len(told) != 0 {
				t.Errorf("told %q and %d more; want %q", got, len(told), want)
			}
		})
	}
}

// The first session hears whether nobody's card of before can be in the slot, as soon as the machine remembers: its picture does
// not wait for that. A later session hears nothing of the kind (the twin).
func TestSlotIsRemembered(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, behaviour string
		change          func(*Config) // nil: the machine remembers that the slot is free
		n               int
		heard           []string
	}{
		{"free", "stay", nil, 0, []string{"activate first false ", "free empty false "}},
		{"not free", "stay", func(c *Config) {
			c.Free = func(context.Context) bool { return false }
		}, 0, []string{"activate first false ", "free  false "}},
		{"nobody remembers", "stay", func(c *Config) { c.Free = nil }, 0, []string{"activate first false ", "free  false "}},
		{"after a visit", "visit-card,stay", nil, 1, []string{"activate card false "}},
		{"after one that died", "visit-die,stay", nil, 1, []string{"activate  false "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			remembers := make(chan struct{})
			r := start(t, c.behaviour, nil, func(cfg *Config) {
				cfg.Free = func(ctx context.Context) bool {
					select {
					case <-remembers:
						return true
					case <-ctx.Done():
						return false
					}
				}
				if c.change != nil {
					c.change(cfg)
				}
			})
			r.shows(c.n)
			r.heard(c.n, c.heard[0])
			close(remembers)
			for _, line := range c.heard[1:] {
				r.heard(c.n, line)
			}
			if c.n > 0 {
				<-r.living // it has been watched for a while
				if b, err := os.ReadFile(filepath.Join(r.dir, "heard-"+strconv.Itoa(c.n))); err != nil || strings.Contains(string(b), "free") {
					t.Errorf("heard %q, %v", b, err)
				}
			}
		})
	}
}
