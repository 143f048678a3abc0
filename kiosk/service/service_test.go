package service

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ktradv/internal/advlog"
	"ktradv/internal/initctl"
	"ktradv/kiosk/control"
)

// well is the state of a terminal that lacks nothing.
func well() initctl.State {
	return initctl.State{
		Reader: initctl.ReaderOne, Supported: 1, Network: initctl.NetworkUp, Clock: initctl.ClockOK, Data: initctl.DataOK,
		Services: map[string]initctl.Service{initctl.PCSCD: {State: initctl.ServiceRunning, Starts: 1}},
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for name, tc := range map[string]struct {
		change func(*initctl.State)
		want   []string
	}{
		"all is well":              {func(*initctl.State) {}, nil},
		"no reader: a screen says": {func(s *initctl.State) { s.Reader = initctl.ReaderNone }, nil},
		"clock not confirmed":      {func(s *initctl.State) { s.Clock = initctl.ClockUnset }, []string{"CLOCK-UNSET"}},
		"service starts again":     {func(s *initctl.State) { s.Services[initctl.PCSCD] = initctl.Service{State: initctl.ServiceRestarting} }, nil},
		"a foreign stick":          {func(s *initctl.State) { s.USBRefused = 3 }, nil},
		"unsupported reader":       {func(s *initctl.State) { s.Reader = initctl.ReaderUnsupported }, []string{"READER-UNSUPPORTED"}},
		"two readers":              {func(s *initctl.State) { s.Reader = initctl.ReaderSeveral }, []string{"READER-SEVERAL"}},
		"no link":                  {func(s *initctl.State) { s.Network = initctl.NetworkDown }, []string{"NETWORK-DOWN"}},
		"no address":               {func(s *initctl.State) { s.Network = initctl.NetworkNoAddress }, []string{"NETWORK-NO-ADDRESS"}},
		"wrong clock":              {func(s *initctl.State) { s.Clock = initctl.ClockWrong }, []string{"CLOCK-WRONG"}},
		"data full":                {func(s *initctl.State) { s.Data = initctl.DataFull }, []string{"DATA-FULL"}},
		"data damaged":             {func(s *initctl.State) { s.Data = initctl.DataDamaged }, []string{"DATA-DAMAGED"}},
		"data not there yet":       {func(s *initctl.State) { s.Data = initctl.DataOpening }, []string{"DATA-OPENING"}},
		"data missing":             {func(s *initctl.State) { s.Data = initctl.DataMissing }, []string{"DATA-MISSING"}},
		"module":                   {func(s *initctl.State) { s.Modules = []string{"i915"} }, []string{"MODULE-FAILED"}},
		"services given up": {func(s *initctl.State) {
			for _, n := range []string{initctl.PCSCD, "usb", "network", "time"} {
				s.Services[n] = initctl.Service{State: initctl.ServiceGivenUp}
			}
		}, []string{"PCSCD-FAILED", "USB-FAILED", "NETWORK-FAILED", "TIME-FAILED"}},
		"several things": {func(s *initctl.State) {
			s.Clock, s.Data, s.Network = initctl.ClockWrong, initctl.DataMissing, initctl.NetworkDown
		},
			[]string{"NETWORK-DOWN", "CLOCK-WRONG", "DATA-MISSING"}},
	} {
		s := well()
		tc.change(&s)
		got := Of(s)
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		for _, c := range got {
			seen[c] = true
		}
	}
	for _, n := range Notes {
		if !seen[n.Code] && n.Code != initGone {
			t.Errorf("nothing gives %s", n.Code)
		}
	}
}

// A module is named, many are counted; what needs no more words has none.
func TestShown(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("m", 55)
	for _, tc := range []struct {
		modules []string
		want    string
	}{
		{[]string{"8021q"}, "MODULE-FAILED 8021q"},
		{[]string{"8021q", "i915", "virtio_net"}, "MODULE-FAILED 8021q i915 virtio_net"},
		{[]string{"8021q", "i915", "r8169", "tg3", "virtio_net"}, "MODULE-FAILED 8021q i915 r8169 +2"},
		{slices.Repeat([]string{long}, 128), "MODULE-FAILED " + long + " " + long + " " + long + " +125"},
	} {
		s := well()
		s.Modules, s.Clock = tc.modules, initctl.ClockWrong
		got := shown(Of(s), s)
		if d := cmp.Diff([]string{"CLOCK-WRONG", tc.want}, got); d != "" {
			t.Error(d)
		}
		// The sessions are told exactly that.
		var wire bytes.Buffer
		c := control.New(struct {
			io.Reader
			io.Writer
			io.Closer
		}{&wire, &wire, nil})
		if err := c.Send(control.Message{Kind: control.Service, Codes: got}); err != nil {
			t.Fatal(err)
		}
		if m, err := c.Receive(); err != nil || !slices.Equal(m.Codes, got) {
			t.Errorf("told %q, %v", m.Codes, err)
		}
	}
}

// A disk that answers soon after power on is no word worth; one that does not is.
func TestOpening(t *testing.T) {
	t.Parallel()
	for late, want := range map[time.Duration][]string{opening - time.Second: nil, opening + time.Second: {"DATA-OPENING"}} {
		synctest.Test(t, func(t *testing.T) {
			m := &machine{state: well(), changed: make(chan struct{})}
			m.state.Data = initctl.DataOpening
			w := New(m)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { w.Run(ctx, nil); close(done) }()
			time.Sleep(late)
			synctest.Wait()
			if got, _ := w.Codes(); !slices.Equal(got, want) {
				t.Errorf("after %v: %q; want %q", late, got, want)
			}
			m.set(func() { m.state.Data = initctl.DataOK })
			synctest.Wait()
			if got, _ := w.Codes(); len(got) > 0 {
				t.Errorf("when it is there: %q", got)
			}
			cancel()
			<-done
		})
	}
}

// machine is a first process in the test's hand.
type machine struct {
	mu      sync.Mutex
	state   initctl.State
	err     error
	changed chan struct{}
}

func (m *machine) State() (initctl.State, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, m.changed
}

func (m *machine) Err() error { m.mu.Lock(); defer m.mu.Unlock(); return m.err }

func (m *machine) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
	close(m.changed)
	m.changed = make(chan struct{})
}

func TestWatch(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	log, err := advlog.Open(advlog.Config{Dir: dir, Component: advlog.Supervisor, Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		m := &machine{state: well(), changed: make(chan struct{})}
		m.state.Data = initctl.DataMissing
		w := New(m)
		codes := func(want ...string) <-chan struct{} {
			t.Helper()
			got, changed := w.Codes()
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			return changed
		}
		codes("DATA-MISSING") // known before it runs
		done := make(chan struct{})
		go func() { w.Run(t.Context(), log); close(done) }()
		synctest.Wait()
		changed := codes("DATA-MISSING")
		m.set(func() { m.state.USBRefused++ }) // nothing for the staff
		synctest.Wait()
		select {
		case <-changed:
			t.Error("a change of nothing")
		default:
		}
		m.set(func() { m.state.Network = initctl.NetworkDown })
		time.Sleep(settling - time.Second)
		m.set(func() { m.state.Network = initctl.NetworkUp }) // a cable that was plugged again
		time.Sleep(time.Minute)
		codes("DATA-MISSING")
		m.set(func() { m.state.Network = initctl.NetworkDown })
		time.Sleep(settling - time.Second)
		codes("DATA-MISSING")
		<-changed
		codes("NETWORK-DOWN", "DATA-MISSING")
		m.set(func() { m.state.Data = initctl.DataOK })
		synctest.Wait()
		codes("NETWORK-DOWN")
		m.set(func() { m.state.Modules = []string{"8021q"} })
		synctest.Wait()
		codes("NETWORK-DOWN", "MODULE-FAILED 8021q")
		m.set(func() { m.state.Modules = []string{"8021q", "i915"} }) // shown, and the code is logged once
		synctest.Wait()
		codes("NETWORK-DOWN", "MODULE-FAILED 8021q i915")
		m.set(func() { m.err = errors.New("gone") })
		<-done
		codes("NETWORK-DOWN", "MODULE-FAILED 8021q i915", "INIT-GONE")
	})
	if err := log.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	log.Close()
	f, err := os.Open(filepath.Join(dir, advlog.Supervisor.String()+"-error.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got []string
	for in := bufio.NewScanner(f); in.Scan(); {
		e, err := advlog.ParseEntry(in.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Text+" "+e.Result)
	}
	want := []string{"DATA-MISSING began", "NETWORK-DOWN began", "DATA-MISSING ended", "MODULE-FAILED began", "INIT-GONE began"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
