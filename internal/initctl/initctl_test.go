package initctl

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// machine is a Handler whose card service is a pair of numbers.
type machine struct {
	mu      sync.Mutex
	state   State
	changed chan struct{}
	asked   []int // Start of every restart that was carried out
	fault   Fault
	block   chan struct{} // restarts wait for it, when set
	arrived chan struct{} // closed by the one restart that waits, when set
}

func newMachine() *machine {
	return &machine{changed: make(chan struct{}), state: State{
		Reader: ReaderOne, Supported: 1, Network: NetworkUp, Clock: ClockOK, Data: DataOK,
		Services: map[string]Service{PCSCD: {State: ServiceRunning, Starts: 1}}, Modules: []string{"virtio_net"},
	}}
}

func (m *machine) State() (State, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Clone(), m.changed
}

func (m *machine) update(f func(*State)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.state)
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *machine) set(starts int, st ServiceState) {
	m.update(func(s *State) { s.Services[PCSCD] = Service{State: st, Starts: starts} })
}

func (m *machine) Restart(ctx context.Context, service string, start int) Fault {
	if service != PCSCD {
		return FaultRefused
	}
	if m.block != nil {
		if m.arrived != nil {
			close(m.arrived)
		}
		select {
		case <-m.block:
		case <-ctx.Done():
			return FaultTimeout
		}
	}
	s, _ := m.State()
	if m.fault != FaultNone || s.Services[PCSCD].Starts > start {
		return m.fault
	}
	m.mu.Lock()
	m.asked = append(m.asked, start)
	m.mu.Unlock()
	m.set(start, ServiceRestarting)
	m.set(start+1, ServiceRunning)
	return FaultNone
}

func (m *machine) SetSlot(slot Slot) { m.update(func(s *State) { s.Slot = slot }) }

func serve(t *testing.T, h Handler, allow func(uint32) bool) string {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: sock, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, allow, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return sock
}

func self(uid uint32) bool { return int(uid) == os.Getuid() }

func dial(t *testing.T, sock string) *Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := Dial(ctx, sock, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestClientFollowsTheState(t *testing.T) {
	t.Parallel()
	m := newMachine()
	c := dial(t, serve(t, m, self))
	got, changed := c.State()
	if diff := cmp.Diff(m.state, got); diff != "" {
		t.Errorf("first state (-want +got):\n%s", diff)
	}
	m.update(func(s *State) { s.Network, s.USBRefused, s.Reader = NetworkDown, 2, ReaderNone })
	<-changed
	got, err := c.Wait(t.Context(), func(s State) bool { return s.Network == NetworkDown })
	if err != nil || got.USBRefused != 2 || got.Reader != ReaderNone {
		t.Errorf("Wait = %+v, %v; want the new state", got, err)
	}
	got.Services["x"] = Service{}
	if again, _ := c.State(); len(again.Services) != 1 {
		t.Error("a state handed out shares its map with the client")
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	m := newMachine()
	c := dial(t, serve(t, m, self))
	before := c.Exited()
	select {
	case <-before:
		t.Fatal("Exited of a running service is closed")
	default:
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-before // the one of before is gone
	select {
	case <-c.Exited():
		t.Error("Exited after a restart is about the process of before")
	default:
	}
	if diff := cmp.Diff([]int{1}, m.asked); diff != "" {
		t.Errorf("restarts (-want +got):\n%s", diff)
	}
}

// A service that dies by itself is replaced by adv-init; the kiosk, which sees it too and asks for a restart, must not
// have the fresh one killed.
func TestRestartOfWhatIsReplacedAlready(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.block, m.arrived = make(chan struct{}), make(chan struct{})
	c := dial(t, serve(t, m, self))
	before := c.Exited()
	m.set(1, ServiceRestarting)
	<-before
	done := make(chan error, 1)
	go func() { done <- c.Restart(t.Context()) }()
	<-m.arrived // it asks to be rid of the first one
	m.set(2, ServiceRunning)
	close(m.block)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(m.asked) != 0 {
		t.Errorf("restarts carried out = %v; want none", m.asked)
	}
}

func TestRestartFails(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.fault = FaultFailed
	c := dial(t, serve(t, m, self))
	if err := c.Restart(t.Context()); !errors.Is(err, FaultFailed) {
		t.Errorf("Restart = %v; want %v", err, FaultFailed)
	}
	m.block = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Restart(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Restart with a context that ended = %v", err)
	}
}

// What the kiosk tells about the slot is state from then on, in the order told.
func TestSlot(t *testing.T) {
	t.Parallel()
	c := dial(t, serve(t, newMachine(), self))
	if s, _ := c.State(); s.Slot != SlotUnknown {
		t.Errorf("at first the slot is %q", s.Slot)
	}
	for _, slot := range []Slot{SlotVisit, SlotCard, SlotEmpty, SlotVisit} {
		if err := c.SetSlot(slot); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Wait(t.Context(), func(s State) bool { return s.Slot == slot }); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	if err := c.SetSlot(SlotCard); err == nil {
		t.Error("told to nobody, and no error")
	}
}

func TestInitGone(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	c := newClient(a, nil)
	go c.listen()
	exited := c.Exited()
	b.Close()
	<-exited
	if _, err := c.Wait(t.Context(), func(State) bool { return true }); !errors.Is(err, ErrNoInit) {
		t.Errorf("Wait = %v; want %v", err, ErrNoInit)
	}
	if err := c.Restart(t.Context()); !errors.Is(err, ErrNoInit) {
		t.Errorf("Restart = %v; want %v", err, ErrNoInit)
	}
	if _, err := Dial(t.Context(), filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, ErrNoInit) {
		t.Errorf("Dial = %v; want %v", err, ErrNoInit)
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	want := errors.New("silent")
	c := newClient(nil, func(context.Context) error { return want })
	if err := c.Ping(t.Context()); err != want {
		t.Errorf("Ping = %v; want %v", err, want)
	}
}

func TestPeerIsChecked(t *testing.T) {
	t.Parallel()
	asked := make(chan uint32, 8)
	sock := serve(t, newMachine(), func(uid uint32) bool { asked <- uid; return false })
	conn, err := net.Dial("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte(`{"id":1,"op":"state"}` + "\n"))
	if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
		t.Errorf("a peer that is not allowed got %q", line)
	}
	if uid := <-asked; uid != uint32(os.Getuid()) || len(asked) != 0 {
		t.Errorf("asked about uid %d and %d more; want %d alone", uid, len(asked), os.Getuid())
	}
}

// Whoever breaks the contract is cut off and disturbs nobody else.
func TestBadPeers(t *testing.T) {
	t.Parallel()
	sock := serve(t, newMachine(), self)
	for name, text := range map[string]string{
		"no JSON":          "hello\n",
		"unknown op":       `{"id":1,"op":"poweroff"}` + "\n",
		"unknown field":    `{"id":1,"op":"state","x":1}` + "\n",
		"no id":            `{"op":"state"}` + "\n",
		"two values":       `{"id":1,"op":"state"}{}` + "\n",
		"name of a path":   `{"id":1,"op":"restart","service":"../x"}` + "\n",
		"slot unknown":     `{"id":1,"op":"slot","slot":""}` + "\n",
		"slot of a word":   `{"id":1,"op":"slot","slot":"full"}` + "\n",
		"slot to restart":  `{"id":1,"op":"restart","service":"pcscd","slot":"card"}` + "\n",
		"slot to state":    `{"id":1,"op":"state","slot":"card"}` + "\n",
		"slot and service": `{"id":1,"op":"slot","slot":"card","service":"pcscd"}` + "\n",
		"too long":         strings.Repeat("x", MaxLine+1) + "\n",
		"state, then junk": "\x00\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("unix", sock)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			conn.Write([]byte(text))
			if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
				t.Errorf("got %q; want the end of the conversation", line)
			}
		})
	}
	t.Run("others", func(t *testing.T) { dial(t, sock) })
}

func TestOtherServicesAreRefused(t *testing.T) {
	t.Parallel()
	sock := serve(t, newMachine(), self)
	conn, err := net.Dial("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte(`{"id":7,"op":"restart","service":"kiosk"}` + "\n"))
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseReply(line)
	if err != nil || r.ID != 7 || r.Error != FaultRefused {
		t.Errorf("reply = %+v, %v; want %q", r, err, FaultRefused)
	}
}

// A peer cannot pile up restarts.
func TestRestartsAreBounded(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.block = make(chan struct{})
	defer close(m.block)
	conn, err := net.Dial("unix", serve(t, m, self))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for id := range maxRestarts + 1 {
		b, _ := encode(Request{ID: uint64(id + 1), Op: OpRestart, Service: PCSCD, Start: 1})
		conn.Write(b)
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	if r, err := ParseReply(line); err != nil || r.Error != FaultBusy || r.ID != maxRestarts+1 {
		t.Errorf("reply = %+v, %v; want %q to the last", r, err, FaultBusy)
	}
}

func TestReaderState(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		supported, unsupported int
		want                   Readers
	}{{0, 0, ReaderNone}, {1, 0, ReaderOne}, {1, 3, ReaderOne}, {2, 0, ReaderSeveral}, {0, 1, ReaderUnsupported}} {
		if got := ReaderState(c.supported, c.unsupported); got != c.want {
			t.Errorf("ReaderState(%d, %d) = %s; want %s", c.supported, c.unsupported, got, c.want)
		}
	}
}

func TestStateIsChecked(t *testing.T) {
	t.Parallel()
	good := func() State { return newMachine().state }
	if _, err := ParseReply(reply(t, good())); err != nil {
		t.Fatalf("good state: %v", err)
	}
	for name, spoil := range map[string]func(*State){
		"reader":         func(s *State) { s.Reader = "broken" },
		"network":        func(s *State) { s.Network = "" },
		"clock":          func(s *State) { s.Clock = "late" },
		"data":           func(s *State) { s.Data = "OK" },
		"slot":           func(s *State) { s.Slot = "full" },
		"count":          func(s *State) { s.USBRefused = -1 },
		"service state":  func(s *State) { s.Services[PCSCD] = Service{State: "well"} },
		"service name":   func(s *State) { s.Services["a b"] = Service{State: ServiceRunning} },
		"module name":    func(s *State) { s.Modules = []string{"x\n"} },
		"too many":       func(s *State) { s.Modules = make([]string, maxModules+1) },
		"service starts": func(s *State) { s.Services[PCSCD] = Service{State: ServiceRunning, Starts: -1} },
	} {
		s := good()
		spoil(&s)
		if _, err := ParseReply(reply(t, s)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v; want %v", name, err, ErrProtocol)
		}
		if name != "too many" && s.Equal(good()) {
			t.Errorf("%s: Equal does not see the difference", name)
		}
	}
}

func reply(t *testing.T, s State) []byte {
	t.Helper()
	b, err := json.Marshal(Reply{ID: 1, State: &s})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id":1,"op":"state"}`))
	f.Add([]byte(`{"id":3,"op":"slot","slot":"visit"}`))
	f.Add([]byte(`{"id":2,"op":"restart","service":"pcscd","start":3}`))
	f.Add([]byte(`{"id":1,"state":{"reader":"one","network":"up","clock":"ok","data":"ok","services":{"pcscd":{"state":"running"}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseRequest(b); err != nil {
			if r != (Request{}) {
				t.Error("half a request with an error")
			}
		} else if line, err := encode(r); err != nil {
			t.Error(err)
		} else if again, err := ParseRequest(line); err != nil || again != r {
			t.Errorf("ParseRequest(encode(%+v)) = %+v, %v", r, again, err)
		}
		if r, err := ParseReply(b); err == nil && r.State != nil {
			if err := r.State.check(); err != nil {
				t.Error(err)
			}
		}
	})
}
