package service

import (
	"context"
	"errors"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ktradv/internal/initctl"
)

// process is a program that does what the test says.
type process struct {
	pid    int
	exited chan struct{}
	code   int
	deaf   map[syscall.Signal]bool // signals that it does not end by
	mu     sync.Mutex
	got    []syscall.Signal
	ended  bool
}

func (p *process) Pid() int                { return p.pid }
func (p *process) Exited() <-chan struct{} { return p.exited }
func (p *process) ExitCode() int           { return p.code }

func (p *process) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, s)
	if !p.deaf[s] {
		p.end()
	}
	return nil
}

// end is called with mu held.
func (p *process) end() {
	if !p.ended {
		p.ended = true
		close(p.exited)
	}
}

func (p *process) exit(code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.code = code
	p.end()
}

// world runs one service and notes what happens to it.
type world struct {
	*Service
	notes  chan Notification
	procs  []*process
	starts []time.Duration
	states []initctl.ServiceState
	causes []Cause
	last   int
	stuck  int
	deaf   map[syscall.Signal]bool // of the next process
	begin  time.Time
	end    func()
	now    initctl.Service
}

// start runs the service in the bubble; it ends with end().
func start(change func(*Config, *world)) *world {
	w := &world{notes: make(chan Notification, 16), begin: time.Now()}
	cfg := Config{
		Name: "s", Notifications: w.notes,
		Start: func(int) (Running, error) {
			p := &process{pid: len(w.procs) + 1, exited: make(chan struct{}), deaf: w.deaf}
			w.deaf = nil
			w.procs = append(w.procs, p)
			w.starts = append(w.starts, time.Since(w.begin))
			return p, nil
		},
		Changed: func(s initctl.Service) {
			w.now = s
			if len(w.states) == 0 || w.states[len(w.states)-1] != s.State {
				w.states = append(w.states, s.State)
			}
		},
		Replaced: func(c Cause, _ int) { w.causes = append(w.causes, c) },
		Last:     func() { w.last++ },
		Stuck:    func() { w.stuck++ },
	}
	if change != nil {
		change(&cfg, w)
	}
	w.Service = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	w.end = func() { cancel(); <-done }
	synctest.Wait()
	return w
}

func (w *world) ready() { w.notes <- Notification{Ready: true}; synctest.Wait() }

// newest is the newest process.
func (w *world) newest() *process { return w.procs[len(w.procs)-1] }

func sleep(d time.Duration) { time.Sleep(d); synctest.Wait() }

func TestReadyThenStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(nil)
		if w.now.State != initctl.ServiceStarting {
			t.Errorf("state before readiness = %s", w.now.State)
		}
		w.ready()
		w.end()
		if diff := cmp.Diff([]syscall.Signal{syscall.SIGTERM}, w.newest().got); diff != "" {
			t.Errorf("signals (-want +got):\n%s", diff)
		}
		want := []initctl.ServiceState{initctl.ServiceStarting, initctl.ServiceRunning, initctl.ServiceStopped}
		if diff := cmp.Diff(want, w.states); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if len(w.causes) != 0 {
			t.Errorf("an ordered stop was noted as %v", w.causes)
		}
	})
}

// A service that does not stop when asked is killed.
func TestStopOfADeafService(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(func(_ *Config, w *world) { w.deaf = map[syscall.Signal]bool{syscall.SIGTERM: true} })
		w.ready()
		w.end()
		if diff := cmp.Diff([]syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}, w.newest().got); diff != "" {
			t.Errorf("signals (-want +got):\n%s", diff)
		}
	})
}

// The pauses double, and after Limit failures the last rung is stepped on once.
func TestLadder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(func(c *Config, _ *world) {
			c.Pause, c.MaxPause, c.Limit, c.Retry, c.Ready = time.Second, 4*time.Second, 5, time.Minute, time.Hour
		})
		for range 6 {
			w.newest().exit(1)
			sleep(time.Minute)
		}
		// Each process ended at a full minute; what follows is its pause.
		var pauses []time.Duration
		for i := 1; i < len(w.starts); i++ {
			pauses = append(pauses, w.starts[i]-time.Duration(i-1)*time.Minute)
		}
		if diff := cmp.Diff([]time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second, time.Minute}, pauses[:5]); diff != "" {
			t.Errorf("pauses (-want +got):\n%s", diff)
		}
		if w.last != 1 {
			t.Errorf("last rung was called %d times; want once", w.last)
		}
		if w.now.State != initctl.ServiceGivenUp {
			t.Errorf("state = %s; want %s", w.now.State, initctl.ServiceGivenUp)
		}
		w.end()
	})
}

// Failures are forgiven after a healthy time, and not before.
func TestForgiveness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(func(c *Config, _ *world) { c.Forgive = time.Minute })
		w.newest().exit(1)
		sleep(time.Second)
		w.ready()
		sleep(59 * time.Second)
		if w.now.Failures != 1 {
			t.Errorf("failures after 59 s = %d; want 1", w.now.Failures)
		}
		sleep(2 * time.Second)
		if w.now.Failures != 0 || w.now.State != initctl.ServiceRunning {
			t.Errorf("after a minute: %+v; want no failures", w.now)
		}
		w.end()
	})
}

func TestWatchdog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(func(c *Config, _ *world) { c.Watchdog = 10 * time.Second })
		sleep(15 * time.Second) // not ready yet: no watchdog
		w.ready()
		for range 5 {
			sleep(9 * time.Second)
			w.notes <- Notification{Watchdog: true}
			synctest.Wait()
		}
		if len(w.procs) != 1 {
			t.Fatalf("a process that gave signs of life was replaced: %v", w.causes)
		}
		sleep(11 * time.Second)
		if diff := cmp.Diff([]Cause{CauseWatchdog}, w.causes); diff != "" {
			t.Errorf("causes (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]syscall.Signal{syscall.SIGKILL}, w.procs[0].got); diff != "" {
			t.Errorf("signals (-want +got):\n%s", diff)
		}
		if len(w.procs) != 2 || w.now.State != initctl.ServiceRestarting {
			t.Errorf("after the kill: %d processes, %+v", len(w.procs), w.now)
		}
		w.end()
	})
}

func TestNotReadyInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(func(c *Config, _ *world) { c.Ready = 5 * time.Second })
		sleep(6 * time.Second)
		if diff := cmp.Diff([]Cause{CauseNotReady}, w.causes); diff != "" {
			t.Errorf("causes (-want +got):\n%s", diff)
		}
		w.end()
	})
}

// A process that says it stops may take its time, but not for ever, and the watchdog leaves it alone.
func TestStopping(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(func(c *Config, _ *world) { c.Watchdog, c.Stop = time.Second, 5*time.Second })
		w.ready()
		w.notes <- Notification{Stopping: true}
		sleep(4 * time.Second)
		if len(w.causes) != 0 {
			t.Errorf("replaced while stopping: %v", w.causes)
		}
		sleep(2 * time.Second)
		if diff := cmp.Diff([]Cause{CauseNotReady}, w.causes); diff != "" {
			t.Errorf("causes (-want +got):\n%s", diff)
		}
		w.end()
	})
}

// The whole replacement of a hung service, asked for by the kiosk: killed, started, ready, answered.
func TestRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(nil)
		w.ready()
		began := time.Now()
		answer := make(chan initctl.Fault, 1)
		go func() { answer <- w.Restart(context.Background(), 1) }()
		synctest.Wait()
		if len(w.procs) != 2 || !slices.Equal(w.procs[0].got, []syscall.Signal{syscall.SIGKILL}) {
			t.Fatalf("%d processes, signals %v", len(w.procs), w.procs[0].got)
		}
		select {
		case f := <-answer:
			t.Fatalf("answered %q before the new one is ready", f)
		default:
		}
		w.ready()
		if f := <-answer; f != initctl.FaultNone {
			t.Errorf("answer = %q", f)
		}
		if w.now.Failures != 0 || time.Since(began) > time.Second {
			t.Errorf("a restart that was asked for counts as failure (%+v) or paused (%v)", w.now, time.Since(began))
		}
		// The same request again is about a process that is gone: the new one stays.
		if f := w.Restart(context.Background(), 1); f != initctl.FaultNone || len(w.procs) != 2 {
			t.Errorf("late restart: %q, %d processes", f, len(w.procs))
		}
		w.end()
	})
}

// A restart during a pause of the ladder ends the pause; one that never becomes ready is answered as failed.
func TestRestartDuringPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(func(c *Config, _ *world) { c.Pause, c.MaxPause, c.Limit = time.Hour, time.Hour, 2 })
		w.newest().exit(1)
		synctest.Wait()
		answer := make(chan initctl.Fault, 1)
		go func() { answer <- w.Restart(context.Background(), 1) }()
		synctest.Wait()
		if len(w.procs) != 2 {
			t.Fatalf("%d processes; want a second one at once", len(w.procs))
		}
		w.newest().exit(1)
		if f := <-answer; f != initctl.FaultFailed {
			t.Errorf("answer = %q; want %q", f, initctl.FaultFailed)
		}
		w.end()
	})
}

// What is stuck in the kernel does not end by SIGKILL: somebody hears of it, and no other is started beside it. One that ends
// after all is replaced within ten seconds; one that does not leads to the last rung, once, and is waited for still.
func TestStuck(t *testing.T) {
	t.Parallel()
	for name, hopeless := range map[string]bool{"ends after all": false, "hopeless": true} {
		synctest.Test(t, func(t *testing.T) {
			over := make(chan struct{})
			w := start(func(c *Config, w *world) {
				c.Kill, c.Hopeless = time.Second, 30*time.Second
				c.Stuck = func() { w.stuck++; <-over } // what should help hangs, too
				w.deaf = map[syscall.Signal]bool{syscall.SIGKILL: true, syscall.SIGTERM: true}
			})
			w.ready()
			began := time.Now()
			answer := make(chan initctl.Fault, 1)
			go func() { answer <- w.Restart(context.Background(), 1) }()
			sleep(1100 * time.Millisecond)
			if w.stuck != 1 || w.causes[0] != CauseStuck {
				t.Errorf("%s: stuck was reported %d times, causes %v", name, w.stuck, w.causes)
			}
			sleep(4 * time.Second)
			if len(w.procs) != 1 {
				t.Fatalf("%s: a process was started beside the one that is stuck", name)
			}
			if f := <-answer; f != initctl.FaultFailed {
				t.Errorf("%s: who asked for the restart was told %q", name, f)
			}
			if w.last != 0 || w.now.State != initctl.ServiceRestarting {
				t.Errorf("%s: after 5 s: last rung %d, %+v", name, w.last, w.now)
			}
			if hopeless {
				sleep(5 * time.Minute)
				if f := w.Restart(context.Background(), 0); f != initctl.FaultFailed {
					t.Errorf("a restart of what cannot be killed = %q", f)
				}
				if w.last != 1 || w.now.State != initctl.ServiceGivenUp || len(w.procs) != 1 {
					t.Errorf("hopeless: last rung %d, %+v, %d processes; want 1, given up and 1", w.last, w.now, len(w.procs))
				}
			}
			w.procs[0].exit(0)
			sleep(time.Second)
			if len(w.procs) != 2 {
				t.Fatalf("%s: no new process after the stuck one", name)
			}
			w.ready()
			if d := time.Since(began); !hopeless && d > 10*time.Second {
				t.Errorf("%s: replaced after %v", name, d)
			}
			if w.now.State != initctl.ServiceRunning || hopeless != (w.last == 1) {
				t.Errorf("%s: at the end %+v, last rung %d", name, w.now, w.last)
			}
			w.end()
			close(over)
		})
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		serves := false
		w := start(func(c *Config, _ *world) {
			c.Notifications = nil
			c.Probe = func(context.Context) error {
				if !serves {
					return errors.New("not yet")
				}
				return nil
			}
		})
		sleep(time.Second)
		if w.now.State != initctl.ServiceStarting {
			t.Errorf("state = %s before the probe agrees", w.now.State)
		}
		serves = true
		sleep(time.Second)
		if w.now.State != initctl.ServiceRunning {
			t.Errorf("state = %s after the probe agreed", w.now.State)
		}
		w.end()
	})
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(func(c *Config, _ *world) {
			c.Start = func(int) (Running, error) { return nil, errors.New("no such program") }
			c.Limit = 3
		})
		sleep(time.Minute)
		if w.last != 1 || w.causes[0] != CauseStart {
			t.Errorf("last rung %d times, causes %v", w.last, w.causes)
		}
		w.end()
	})
}

// A message of the process before does not make the next one ready.
func TestOldWordsDoNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(nil)
		w.newest().exit(1)
		synctest.Wait()
		w.notes <- Notification{Ready: true} // arrives during the pause
		sleep(time.Second)
		if w.now.State != initctl.ServiceRestarting {
			t.Errorf("state = %s; want %s", w.now.State, initctl.ServiceRestarting)
		}
		w.end()
	})
}

func TestFields(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []Field
		w := start(func(c *Config, _ *world) { c.Field = func(f Field) { got = append(got, f) } })
		w.notes <- Notification{Fields: []Field{{"A", "1"}, {"B", "2"}}}
		synctest.Wait()
		w.end()
		if diff := cmp.Diff([]Field{{"A", "1"}, {"B", "2"}}, got); diff != "" {
			t.Errorf("fields (-want +got):\n%s", diff)
		}
	})
}

func TestSteady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		ok, changed := false, make(chan struct{})
		set := func(v bool) {
			mu.Lock()
			defer mu.Unlock()
			ok = v
			close(changed)
			changed = make(chan struct{})
		}
		done := make(chan error, 1)
		begin := time.Now()
		var took time.Duration
		go func() {
			err := Steady(t.Context(), time.Minute, func() (bool, <-chan struct{}) { mu.Lock(); defer mu.Unlock(); return ok, changed })
			took = time.Since(begin)
			done <- err
		}()
		sleep(2 * time.Minute)
		set(true)
		sleep(50 * time.Second)
		set(false) // a break: counted from the start again
		sleep(time.Second)
		set(true)
		if err := <-done; err != nil || took != 3*time.Minute+51*time.Second {
			t.Errorf("Steady = %v after %v; want nil a minute after the break", err, took)
		}
	})
}
