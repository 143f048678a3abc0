// Package service starts the terminal's services, watches them and starts them again: the part of adv-init that knows
// sd_notify and the ladder of restarts, and nothing about what the services do.
//
//	state       leaves it when                         and becomes
//	----------  -------------------------------------  -----------------------------------------------
//	starting    says READY=1 (or needs not)            running
//	            ends, or is not ready in time          restarting
//	running     ends, misses its watchdog              restarting (a failure)
//	            somebody asks for a restart            restarting (no failure)
//	restarting  pause over                             started anew: running when ready
//	            Limit failures not forgiven            given-up: Last is called, then tried at long intervals
//	            the process before does not end        given-up after Hopeless: Last is called; started anew when it has ended
//	any         Run's context ends                     stopped
//
// Pauses double with every failure in a row; failures are forgiven after Forgive of healthy running. A service is ended by
// SIGTERM (on stop) or SIGKILL (on restart: what hangs is not asked); one that does not even end by SIGKILL, because it is
// stuck in the kernel, is reported to Stuck. No other is started beside it.
package service

import (
	"context"
	"syscall"
	"time"

	"ktradv/internal/initctl"
)

// Running is a started process; *Process is the real one.
type Running interface {
	Pid() int
	Exited() <-chan struct{}
	ExitCode() int
	Signal(syscall.Signal) error
}

// Cause says why a process was replaced.
type Cause string

// The causes.
const (
	CauseExit     Cause = "exit"      // ended by itself
	CauseNotReady Cause = "not-ready" // not ready in time
	CauseWatchdog Cause = "watchdog"  // no sign of life in time
	CauseAsked    Cause = "asked"     // somebody asked for it
	CauseStart    Cause = "start"     // could not be started
	CauseStuck    Cause = "stuck"     // could not be killed
)

// Config of a service.
type Config struct {
	Name string
	// Start starts the process; number counts the starts.
	Start func(number int) (Running, error)
	// Notifications are the service's messages; nil for a service that sends none and counts as ready when it runs.
	Notifications <-chan Notification
	// Probe asks a service that sends no READY=1 whether it serves; nil does not ask. It is asked until it agrees or Ready
	// is over.
	Probe func(ctx context.Context) error
	// Ready is how long the process may take to become ready. Zero means 30 s.
	Ready time.Duration
	// Watchdog is the longest time between two signs of life after it became ready; zero asks for none.
	Watchdog time.Duration
	// Stop is how long it may take to end when asked. Zero means 3 s.
	Stop time.Duration
	// Kill is how long the kernel may take to end it. Zero means 2 s.
	Kill time.Duration
	// Pause is the first pause after a failure; it doubles up to MaxPause. Zero means 100 ms and 10 s.
	Pause, MaxPause time.Duration
	// Forgive is the healthy time after which failures are forgotten. Zero means 60 s.
	Forgive time.Duration
	// Limit is the number of failures at which the service is given up. Zero means 8.
	Limit int
	// Retry is the interval of tries of a given-up service. Zero means 60 s.
	Retry time.Duration
	// Hopeless is how long a process that does not end by SIGKILL is waited for until the service is given up. Zero means 30 s.
	Hopeless time.Duration
	// Last is called once when the service is given up: the last rung of the ladder. Nil is allowed.
	Last func()
	// Stuck is called when a process does not end by SIGKILL, in a goroutine of its own: what it does may get stuck as well. Nil
	// is allowed.
	Stuck func()
	// Changed hears every change of state. Nil is allowed. Calls come from one goroutine.
	Changed func(initctl.Service)
	// Replaced hears why a process had to be replaced. Nil is allowed.
	Replaced func(Cause, int)
	// Field hears X_ messages. Nil is allowed.
	Field func(Field)
}

// Service is a service under watch.
type Service struct {
	cfg     Config
	restart chan request
	cur     initctl.Service // owned by Run
}

type request struct {
	start int
	done  chan initctl.Fault
}

// New prepares a service.
func New(cfg Config) *Service {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&cfg.Ready, 30*time.Second)
	def(&cfg.Stop, 3*time.Second)
	def(&cfg.Kill, 2*time.Second)
	def(&cfg.Pause, 100*time.Millisecond)
	def(&cfg.MaxPause, 10*time.Second)
	def(&cfg.Forgive, time.Minute)
	def(&cfg.Retry, time.Minute)
	def(&cfg.Hopeless, 30*time.Second)
	if cfg.Limit <= 0 {
		cfg.Limit = 8
	}
	return &Service{cfg: cfg, restart: make(chan request), cur: initctl.Service{State: initctl.ServiceStarting}}
}

// Restart replaces the process unless a later one than start runs already, and returns when the new one is ready. A start
// of 0 means the present one.
func (s *Service) Restart(ctx context.Context, start int) initctl.Fault {
	r := request{start, make(chan initctl.Fault, 1)}
	select {
	case s.restart <- r:
	case <-ctx.Done():
		return initctl.FaultTimeout
	}
	select {
	case f := <-r.done:
		return f
	case <-ctx.Done():
		return initctl.FaultTimeout
	}
}

// Run keeps the service running until ctx ends, and returns when its last process has ended.
func (s *Service) Run(ctx context.Context) {
	s.set(initctl.ServiceStarting)
	var asked []request // waiting for the next process to be ready
	answer := func(f initctl.Fault) {
		for _, r := range asked {
			r.done <- f
		}
		asked = nil
	}
	defer answer(initctl.FaultFailed)
	for ctx.Err() == nil {
		s.cur.Starts++
		s.publish()
		p, cause, code := s.once(ctx, &asked, answer)
		if ctx.Err() != nil {
			break
		}
		if s.cfg.Replaced != nil {
			s.cfg.Replaced(cause, code)
		}
		if p != nil && !s.ended(ctx, p, answer) {
			break
		}
		if cause == CauseAsked {
			s.set(initctl.ServiceRestarting)
			continue
		}
		s.cur.Failures++
		pause := min(s.cfg.Pause<<min(s.cur.Failures-1, 16), s.cfg.MaxPause)
		if s.cur.Failures >= s.cfg.Limit {
			answer(initctl.FaultFailed)
			if s.cur.State != initctl.ServiceGivenUp {
				s.set(initctl.ServiceGivenUp)
				if s.cfg.Last != nil && s.cur.Failures == s.cfg.Limit {
					s.cfg.Last()
				}
			}
			pause = s.cfg.Retry
		} else {
			s.set(initctl.ServiceRestarting)
		}
		s.wait(ctx, pause, &asked)
	}
	s.set(initctl.ServiceStopped)
}

// ended waits until a process has ended, and tells whether it has before ctx did. It matters for one that is stuck in the
// kernel: another beside it would find taken what that one holds.
func (s *Service) ended(ctx context.Context, p Running, answer func(initctl.Fault)) bool {
	select {
	case <-p.Exited():
		return true
	default:
	}
	answer(initctl.FaultFailed)
	s.set(initctl.ServiceRestarting)
	hopeless := time.NewTimer(s.cfg.Hopeless)
	defer hopeless.Stop()
	for {
		select {
		case <-p.Exited():
			return true
		case <-ctx.Done():
			return false
		case r := <-s.restart:
			r.done <- initctl.FaultFailed
		case <-hopeless.C:
			s.set(initctl.ServiceGivenUp)
			if s.cfg.Last != nil {
				s.cfg.Last()
			}
		}
	}
}

// once runs one process to its end; nil for one that could not be started.
func (s *Service) once(ctx context.Context, asked *[]request, answer func(initctl.Fault)) (Running, Cause, int) {
	drain(s.cfg.Notifications) // words of the process before are not this one's
	p, err := s.cfg.Start(s.cur.Starts)
	if err != nil {
		return nil, CauseStart, 0
	}
	notes := s.cfg.Notifications
	ready := time.NewTimer(s.cfg.Ready)
	defer ready.Stop()
	watchdog := time.NewTimer(time.Hour)
	watchdog.Stop()
	defer watchdog.Stop()
	forgive := time.NewTimer(time.Hour)
	forgive.Stop()
	defer forgive.Stop()
	up := false
	serves := func() {
		if up {
			return
		}
		up = true
		ready.Stop()
		if s.cfg.Watchdog > 0 {
			watchdog.Reset(s.cfg.Watchdog)
		}
		if s.cur.Failures > 0 {
			forgive.Reset(s.cfg.Forgive)
		}
		s.set(initctl.ServiceRunning)
		answer(initctl.FaultNone)
	}
	probed := make(chan error, 1)
	pctx, cancel := context.WithCancel(ctx)
	defer cancel()
	switch {
	case s.cfg.Probe != nil:
		go func() { probed <- s.probe(pctx) }()
	case notes == nil:
		serves()
	}
	for {
		select {
		case <-ctx.Done():
			s.stop(p)
			return p, CauseAsked, 0
		case <-p.Exited():
			return p, CauseExit, p.ExitCode()
		case err := <-probed:
			if err == nil {
				serves()
			}
		case n, ok := <-notes:
			if !ok {
				notes = nil
				continue
			}
			for _, f := range n.Fields {
				if s.cfg.Field != nil {
					s.cfg.Field(f)
				}
			}
			if n.Ready {
				serves()
			}
			if (n.Watchdog || n.Ready) && up && s.cfg.Watchdog > 0 {
				watchdog.Reset(s.cfg.Watchdog)
			}
			if n.Stopping {
				watchdog.Stop()
				ready.Reset(s.cfg.Stop) // it ends by itself, or is ended
			}
		case <-ready.C:
			s.kill(p)
			return p, CauseNotReady, 0
		case <-watchdog.C:
			s.kill(p)
			return p, CauseWatchdog, 0
		case <-forgive.C:
			s.cur.Failures = 0
			s.publish()
		case r := <-s.restart:
			switch {
			case r.start != 0 && r.start < s.cur.Starts && up:
				r.done <- initctl.FaultNone // a later one runs already
			case r.start != 0 && r.start < s.cur.Starts:
				*asked = append(*asked, r) // a later one is on its way
			default:
				*asked = append(*asked, r)
				s.set(initctl.ServiceRestarting)
				s.kill(p)
				return p, CauseAsked, 0
			}
		}
	}
}

// probe asks until the service agrees or ctx ends.
func (s *Service) probe(ctx context.Context) error {
	for {
		err := s.cfg.Probe(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// wait pauses, but not longer than until somebody asks for a restart.
func (s *Service) wait(ctx context.Context, d time.Duration, asked *[]request) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			return
		case r := <-s.restart:
			*asked = append(*asked, r)
			return
		}
	}
}

// stop ends a process in order.
func (s *Service) stop(p Running) {
	p.Signal(syscall.SIGTERM)
	t := time.NewTimer(s.cfg.Stop)
	defer t.Stop()
	select {
	case <-p.Exited():
	case <-t.C:
		s.kill(p)
	}
}

// kill ends a process at once. One that is stuck in the kernel is reported, and waited for once more; it may be there still.
func (s *Service) kill(p Running) {
	for try := range 2 {
		p.Signal(syscall.SIGKILL)
		t := time.NewTimer(s.cfg.Kill)
		select {
		case <-p.Exited():
			t.Stop()
			return
		case <-t.C:
		}
		if try == 0 {
			if s.cfg.Replaced != nil {
				s.cfg.Replaced(CauseStuck, 0)
			}
			if s.cfg.Stuck != nil {
				go s.cfg.Stuck()
			}
		}
	}
}

func drain(ch <-chan Notification) {
	for {
		select {
		case _, ok := <-ch:
			if !ok {
				return
			}
		default:
			return
		}
	}
}

func (s *Service) set(st initctl.ServiceState) {
	s.cur.State = st
	s.publish()
}

func (s *Service) publish() {
	if s.cfg.Changed != nil {
		s.cfg.Changed(s.cur)
	}
}

// Steady returns nil when what ok asks has been true for d without a break, or an error when ctx ends. ok also gives a
// channel that is closed when the answer may have changed.
func Steady(ctx context.Context, d time.Duration, ok func() (bool, <-chan struct{})) error {
	t := time.NewTimer(d)
	defer t.Stop()
	was := false
	for {
		now, changed := ok()
		if now != was {
			t.Reset(d)
		}
		was = now
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-t.C:
			if was {
				return nil
			}
			t.Reset(d)
		}
	}
}
