package clock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ktradv/internal/initctl"
)

var built = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// machine has a clock that is off by an offset which Step removes.
type machine struct {
	wrong   time.Duration // clock minus truth
	truth   func() time.Time
	steps   []time.Duration
	slews   []time.Duration
	refuse  error
	answers map[string]time.Duration // servers by their own error; missing: no answer
	states  []initctl.Clock
}

func (m *machine) Now() time.Time { return m.truth().Add(m.wrong) }

func (m *machine) Step(d time.Duration) error {
	if m.refuse != nil {
		return m.refuse
	}
	m.steps = append(m.steps, d)
	m.wrong += d
	return nil
}

func (m *machine) Slew(d time.Duration) error {
	m.slews = append(m.slews, d)
	m.wrong += d
	return nil
}

func (m *machine) query(_ context.Context, server string) (Answer, error) {
	off, ok := m.answers[server]
	if !ok {
		return Answer{}, errors.New("no answer")
	}
	return Answer{Offset: off - m.wrong}, nil
}

// run keeps the clock of m for a time.
func run(t *testing.T, m *machine, servers []string, d time.Duration, during func()) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		m.truth = func() time.Time { return built.Add(24*time.Hour + time.Since(begin)) }
		k := New(Config{
			Servers: func() []string { return servers }, Query: m.query, Clock: m, Built: built,
			State: func(s initctl.Clock) { m.states = append(m.states, s) },
		})
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		if during != nil {
			time.AfterFunc(d/2, during)
		}
		k.Run(ctx)
	})
}

func TestSetAtStart(t *testing.T) {
	t.Parallel()
	m := &machine{wrong: -90 * 24 * time.Hour, answers: map[string]time.Duration{"a": 0}} // a flat battery
	run(t, m, []string{"a"}, time.Minute, nil)
	if diff := cmp.Diff([]initctl.Clock{initctl.ClockWrong, initctl.ClockOK}, m.states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	if len(m.steps) != 1 || m.wrong != 0 {
		t.Errorf("steps = %v, still wrong by %v", m.steps, m.wrong)
	}
}

func TestSlewedLater(t *testing.T) {
	t.Parallel()
	m := &machine{wrong: time.Second, answers: map[string]time.Duration{"a": 0}}
	run(t, m, []string{"a"}, time.Hour, func() { m.wrong = 100 * time.Millisecond })
	if len(m.steps) != 1 || m.steps[0] != -time.Second {
		t.Errorf("steps = %v; want one of -1 s", m.steps)
	}
	found := false
	for _, s := range m.slews {
		found = found || s == -100*time.Millisecond
	}
	if !found {
		t.Errorf("slews = %v; want one of -100 ms", m.slews)
	}
	if diff := cmp.Diff([]initctl.Clock{initctl.ClockUnset, initctl.ClockOK}, m.states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

// A confirmed clock that jumps away is reported, and set.
func TestJump(t *testing.T) {
	t.Parallel()
	m := &machine{answers: map[string]time.Duration{"a": 0}}
	run(t, m, []string{"a"}, time.Hour, func() { m.wrong = time.Hour })
	want := []initctl.Clock{initctl.ClockUnset, initctl.ClockOK, initctl.ClockWrong, initctl.ClockOK}
	if diff := cmp.Diff(want, m.states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	if m.wrong != 0 {
		t.Errorf("still wrong by %v", m.wrong)
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	m := &machine{}
	run(t, m, nil, time.Hour, nil)
	run(t, m, []string{"silent"}, time.Hour, nil)
	for _, s := range m.states {
		if s != initctl.ClockUnset {
			t.Errorf("states = %v; want unset only", m.states)
		}
	}
	m = &machine{wrong: -1000 * 24 * time.Hour}
	run(t, m, nil, time.Hour, nil)
	if diff := cmp.Diff([]initctl.Clock{initctl.ClockWrong}, m.states); diff != "" {
		t.Errorf("a clock before the image (-want +got):\n%s", diff)
	}
	m = &machine{wrong: 11 * 365 * 24 * time.Hour}
	run(t, m, nil, time.Hour, nil)
	if diff := cmp.Diff([]initctl.Clock{initctl.ClockWrong}, m.states); diff != "" {
		t.Errorf("a clock eleven years after the image (-want +got):\n%s", diff)
	}
	m = &machine{wrong: 9 * 365 * 24 * time.Hour} // an image may be old
	run(t, m, nil, time.Hour, nil)
	if diff := cmp.Diff([]initctl.Clock{initctl.ClockUnset}, m.states); diff != "" {
		t.Errorf("a clock nine years after the image (-want +got):\n%s", diff)
	}
}

// The clock comes up later than the terminal: asked again at growing intervals, then confirmed.
func TestServerComesLater(t *testing.T) {
	t.Parallel()
	m := &machine{answers: map[string]time.Duration{}}
	run(t, m, []string{"a"}, 20*time.Minute, func() { m.answers["a"] = 0 })
	if diff := cmp.Diff([]initctl.Clock{initctl.ClockUnset, initctl.ClockOK}, m.states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

// A keeper that turns gives signs of life as often as it should; one whose question never ends gives none (the twin).
func TestAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const beat = 20 * time.Second
		begin, end := time.Now(), make(chan struct{})
		hangs := false
		var alive []time.Time
		m := &machine{truth: func() time.Time { return built.Add(24*time.Hour + time.Since(begin)) }}
		k := New(Config{
			Servers: func() []string { return []string{"a"} }, Clock: m, Built: built, State: func(initctl.Clock) {},
			Query: func(context.Context, string) (Answer, error) {
				if hangs {
					<-end
				}
				return Answer{}, nil
			},
			Alive: func() { alive = append(alive, time.Now()) }, Beat: beat,
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); k.Run(ctx) }()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		last := begin
		for _, at := range append(alive, time.Now()) {
			if d := at.Sub(last); d > beat {
				t.Errorf("no sign of life for %v", d)
			}
			last = at
		}
		hangs = true
		time.Sleep(every)
		synctest.Wait()
		n := len(alive)
		time.Sleep(time.Hour)
		if len(alive) != n {
			t.Errorf("a keeper that hangs gave %d signs of life", len(alive)-n)
		}
		cancel()
		close(end)
		<-done
	})
}

// Without a network nobody is asked, and the first answer after it is there counts; with one, a silent server is not asked
// every second (the twin).
func TestNetworkComesLater(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err   error
		soon  bool
		least int
	}{{syscall.ENETUNREACH, true, 250}, {errors.New("no answer"), false, 5}} {
		synctest.Test(t, func(t *testing.T) {
			begin, asked := time.Now(), 0
			const there = 5 * time.Minute
			m := &machine{truth: func() time.Time { return built.Add(24*time.Hour + time.Since(begin)) }}
			var confirmed time.Duration
			k := New(Config{
				Servers: func() []string { return []string{"a"} }, Clock: m, Built: built,
				Query: func(context.Context, string) (Answer, error) {
					if asked++; time.Since(begin) < there {
						return Answer{}, fmt.Errorf("ask: %w", &net.OpError{Op: "dial", Err: tc.err})
					}
					return Answer{}, nil
				},
				State: func(s initctl.Clock) {
					if s == initctl.ClockOK {
						confirmed = time.Since(begin)
					}
				},
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			k.Run(ctx)
			if soon := confirmed > 0 && confirmed <= there+retryFirst; soon != tc.soon {
				t.Errorf("%v: confirmed after %v", tc.err, confirmed)
			}
			if asked < tc.least || !tc.soon && asked > 20 {
				t.Errorf("%v: asked %d times", tc.err, asked)
			}
		})
	}
}

// One liar among three is outvoted; a server from before the image is not believed.
func TestLiars(t *testing.T) {
	t.Parallel()
	m := &machine{answers: map[string]time.Duration{"a": 0, "b": 5 * 365 * 24 * time.Hour, "c": 10 * time.Millisecond}}
	run(t, m, []string{"a", "b", "c"}, time.Minute, nil)
	if m.wrong > time.Second {
		t.Errorf("wrong by %v", m.wrong)
	}
	m = &machine{answers: map[string]time.Duration{"a": -365 * 24 * time.Hour}}
	run(t, m, []string{"a"}, time.Minute, nil)
	if len(m.steps) != 0 || m.states[len(m.states)-1] != initctl.ClockUnset {
		t.Errorf("steps %v, states %v; want neither believed nor followed", m.steps, m.states)
	}
}

// A confirmed clock that nobody confirms any more is unset again after a day.
func TestTrustEnds(t *testing.T) {
	t.Parallel()
	m := &machine{answers: map[string]time.Duration{"a": 0}}
	run(t, m, []string{"a"}, 60*time.Hour, func() { delete(m.answers, "a") })
	if diff := cmp.Diff([]initctl.Clock{initctl.ClockUnset, initctl.ClockOK, initctl.ClockUnset}, m.states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

func TestClockCannotBeSet(t *testing.T) {
	t.Parallel()
	m := &machine{wrong: time.Hour, refuse: errors.New("not permitted"), answers: map[string]time.Duration{"a": 0}}
	run(t, m, []string{"a"}, time.Minute, nil)
	if last := m.states[len(m.states)-1]; last != initctl.ClockWrong {
		t.Errorf("states = %v; want wrong at the end", m.states)
	}
}

// The query against a server of our own, and against one whose answer RFC 5905 forbids to believe.
func TestQuery(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stratum byte
		ok      bool
	}{"synchronised": {1, true}, "kiss of death": {0, false}, "unsynchronised": {16, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			go func() {
				b := make([]byte, 512)
				n, from, err := conn.ReadFrom(b)
				if err != nil || n < 48 {
					return
				}
				r := make([]byte, 48)
				r[0], r[1] = 4<<3|4, c.stratum // version 4, server
				copy(r[24:32], b[40:48])       // what the client sent
				now := time.Now().Add(time.Hour)
				secs := uint32(now.Unix() + 2208988800)
				for _, off := range []int{16, 32, 40} {
					r[off], r[off+1], r[off+2], r[off+3] = byte(secs>>24), byte(secs>>16), byte(secs>>8), byte(secs)
				}
				conn.WriteTo(r, from)
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			a, err := Query(ctx, conn.LocalAddr().String())
			if (err == nil) != c.ok {
				t.Fatalf("Query = %+v, %v", a, err)
			}
			if c.ok && (a.Offset < 59*time.Minute || a.Offset > 61*time.Minute) {
				t.Errorf("offset = %v; want about an hour", a.Offset)
			}
			if !c.ok && !strings.Contains(err.Error(), "time server") {
				t.Errorf("error = %v", err)
			}
		})
	}
}
