// Package supervise is the kiosk's supervisor process: it owns the display and the card service, and runs one session
// process for each insured person.
//
// The next session process always waits, set up and with the neutral screen drawn, so that the change between two
// people takes no longer than showing another picture. The process that served somebody ends with the session; what it
// held in memory goes back to the kernel (AdV-A_2409). The supervisor itself never sees card, PIN or personal data, only
// pixels on their way to the display.
//
//	session process   what the supervisor does
//	----------------  -------------------------------------------------------------
//	started           waits until it is ready and has drawn
//	waiting           nothing
//	its turn          waits until it has something to show; the picture of the one before stands until then
//	active            shows it, gives it the input, watches that it lives
//	says: hung        replaces the card service; the process goes on
//	ended             shows the next one, and replaces the card service, whose memory held the card's answers
//	dead or silent    kills it, which darkens the screen, notes it, shows the next one
package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"ktradv/internal/advlog"
	"ktradv/internal/initctl"
	"ktradv/kiosk/control"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/remote"
)

// CardService is the card service that the supervisor started (hw/reader/pcscd).
type CardService interface {
	// Ping asks for a sign of life.
	Ping(ctx context.Context) error
	// Restart kills what runs and starts it anew.
	Restart(ctx context.Context) error
	// Exited is closed when the present process is gone.
	Exited() <-chan struct{}
}

// The descriptors that a session process inherits.
const (
	DisplayFD = 3 // its end of remote.Pair
	ControlFD = 4 // its end of the control conversation
)

// Service tells how the terminal is, in codes for the staff.
type Service interface {
	// Codes are the present codes, and a channel that is closed when there are others.
	Codes() ([]string, <-chan struct{})
}

// Config holds everything a supervisor needs from outside.
type Config struct {
	// Command prepares the command of a session process; the supervisor adds the descriptors.
	Command func() *exec.Cmd
	// Host shows the pictures of the session processes.
	Host *remote.Host
	// Cards is the card service to watch and replace, nil where the system runs it.
	Cards CardService
	// Service is told to the sessions, which show it; nil where nobody knows.
	Service Service
	// Free tells that nobody's card of before can be in the slot although no session has looked: the machine remembers how the
	// last visit before power on ended. It is asked for the first session, and may take its time until the machine remembers;
	// only who finds a card in the slot waits for it. Nil is never.
	Free func(context.Context) bool
	// Slot is told what the slot holds, as far as the sessions know, for Free at the next start. It must return quickly; calls
	// do not overlap, and what is said twice is no news. Nil is allowed.
	Slot func(initctl.Slot)
	// OpenLog opens the log of what the supervisor does; no log records nothing. It is called once, beside the first session,
	// and may wait for the place of the logs: sessions that get their turn before wait with log and reader. An error ends Run.
	// Nil is no log.
	OpenLog func(context.Context) (*advlog.Log, error)

	// ReadyIn is how long a session process may take to set itself up. Zero means 30 s.
	ReadyIn time.Duration
	// SilentFor is how long the active session process may give no sign of life. Zero means 10 s.
	SilentFor time.Duration
	// Ready is called once, when the first picture of a session is on the display: the place for the readiness message to
	// the init system. Nil is allowed.
	Ready func()
	// Alive is called whenever the active session gave a sign of life since the last call: its drawing loop turned and its
	// card loop answered, and the display took what there was to show. It is the place for the watchdog message to the init
	// system; while a session is stuck, or none can be shown, it is not called. Nil is allowed.
	Alive func()
}

// Codes of the supervisor's error log.
var (
	codeSessionFailed = advlog.NewCode(11001, "SESSION-PROCESS-FAILED")
	codeSessionSilent = advlog.NewCode(11002, "SESSION-PROCESS-SILENT")
	codeCardsReplaced = advlog.NewCode(11003, "CARD-SERVICE-REPLACED")
	codeCardsBroken   = advlog.NewCode(11004, "CARD-SERVICE-NOT-REPLACED")
)

// Supervisor runs session processes.
type Supervisor struct {
	cfg    Config
	opened <-chan struct{} // closed when log is there
	log    *advlog.Log
}

// New prepares a supervisor.
func New(cfg Config) (*Supervisor, error) {
	if cfg.Command == nil || cfg.Host == nil {
		return nil, errors.New("supervise: command and display are needed")
	}
	if cfg.ReadyIn <= 0 {
		cfg.ReadyIn = 30 * time.Second
	}
	if cfg.SilentFor <= 0 {
		cfg.SilentFor = 10 * time.Second
	}
	if cfg.Ready == nil {
		cfg.Ready = func() {}
	}
	return &Supervisor{cfg: cfg}, nil
}

// process is one session process.
type process struct {
	cmd     *exec.Cmd
	display *remote.Session
	control *control.Conn
	ready   chan struct{}        // closed when it is set up
	visible chan struct{}        // closed when it has something to show
	slot    func(initctl.Slot)   // hears what it knows about the slot
	serves  bool                 // it said that it serves a card; valid when heard is closed
	hung    chan struct{}        // a value when it says that the card service hangs
	ended   chan control.Message // one value, when it says so
	heard   chan struct{}        // closed when nothing more comes from it
	exited  chan struct{}        // closed when it is gone
	once    [2]sync.Once
}

// Run shows one session after the other until ctx ends.
func (s *Supervisor) Run(ctx context.Context) error {
	var shown, waiting *process // shown served before and is still seen
	defer func() { shown.kill(); waiting.kill() }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() { cancel(nil); <-s.opened }()
	last := control.Message{Slot: control.SlotFirst} // how the visit before ended
	// Closed when the card service runs anew, at first when there is a log; nil when nothing has to be waited for.
	replaced := s.openLog(ctx, cancel)
	ready := sync.OnceFunc(s.cfg.Ready)
	for failures := 0; ctx.Err() == nil; {
		if failures > 0 && !pause(ctx, failures) {
			break
		}
		active := waiting
		waiting = nil
		err := s.turn(ctx, &active, func() control.Message {
			select {
			case <-replaced: // while the process started
				replaced = nil
			default:
			}
			return control.Message{Kind: control.Activate, Slot: last.Slot, Wait: replaced != nil}
		})
		last = control.Message{}
		shown.kill() // only now: its last picture stood until there was another
		shown = nil
		if err != nil {
			active.kill()
			s.cfg.Host.Activate(nil) // better a dark screen than the picture of the person before
			if active != nil {
				s.left(active, control.SlotUnknown)
			}
			if ctx.Err() == nil {
				failures++
				s.failed(ctx, codeSessionFailed)
			}
			continue
		}
		ready()
		// The next one is set up while this one serves.
		next := make(chan *process, 1)
		nctx, stop := context.WithCancel(ctx)
		go func() {
			p, err := s.start(nctx)
			if err != nil {
				p = nil
			}
			next <- p
		}()
		said, ok := s.watch(ctx, active, replaced)
		last = said
		if !ok {
			active.kill() // what stands on the screen may be personal, and nobody can turn it away any more: dark at once
		}
		if ctx.Err() == nil {
			s.left(active, said.Slot)
		}
		if ok && said.Reason != control.Broken {
			failures = 0
		} else {
			failures++
		}
		// The card service's memory holds what went through it: a person's card is followed by a fresh service
		// (AdV-A_2409). The neutral screen does not wait for that, only the reader does.
		replaced = s.replace(ctx)
		select {
		case waiting = <-next:
		case <-time.After(s.cfg.ReadyIn):
			stop()
			waiting = <-next
		}
		stop()
		shown = active
	}
	return context.Cause(ctx)
}

// free tells the first session what the machine remembers about the slot. A process that is gone needs it no more.
func (s *Supervisor) free(ctx context.Context, p *process) {
	m := control.Message{Kind: control.Free}
	if s.cfg.Free != nil && s.cfg.Free(ctx) {
		m.Slot = control.SlotEmpty
	}
	_ = p.control.Send(m)
}

// left tells in which state a session that has ended left the slot.
func (s *Supervisor) left(p *process, slot control.Slot) {
	<-p.heard // what it said about the slot comes before
	switch {
	case slot == control.SlotEmpty, slot == control.SlotNew:
		p.slot(initctl.SlotEmpty)
	case p.serves:
		p.slot(initctl.SlotCard)
	}
}

// openLog opens the log, and closes the channel when that is done. An error goes to failed.
func (s *Supervisor) openLog(ctx context.Context, failed func(error)) <-chan struct{} {
	opened := make(chan struct{})
	s.opened = opened
	go func() {
		defer close(opened)
		if s.cfg.OpenLog == nil {
			return
		}
		var err error
		if s.log, err = s.cfg.OpenLog(ctx); err != nil {
			failed(fmt.Errorf("open log: %w", err))
		}
	}()
	return opened
}

// turn gives a process its turn, starting it first where none waits, and shows it as soon as it has something to show: the
// neutral screen, or that a card is still in the slot.
func (s *Supervisor) turn(ctx context.Context, p **process, activate func() control.Message) error {
	if *p == nil {
		var err error
		if *p, err = s.start(ctx); err != nil {
			return err
		}
	}
	if _, err := s.tell(*p); err != nil {
		return err
	}
	m := activate()
	if err := (*p).control.Send(m); err != nil {
		return err
	}
	if m.Slot == control.SlotFirst {
		go s.free(ctx, *p)
	}
	limit := time.NewTimer(s.cfg.SilentFor)
	defer limit.Stop()
	select {
	case <-(*p).visible:
	case <-(*p).exited:
		<-(*p).heard // its last words may still be on their way: that it showed something, and how it ended
		select {
		case <-(*p).visible:
		default:
			return errors.New("session process ended before it showed anything")
		}
	case <-limit.C:
		return errors.New("session process shows nothing")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	err := s.cfg.Host.Activate((*p).display)
	if errors.Is(err, platform.ErrClosed) && (*p).left() {
		return s.cfg.Host.Activate(nil) // it has served and gone already; watch hears how
	}
	return err
}

// left says whether a process ends, or has ended, with a word about how.
func (p *process) left() bool {
	select {
	case <-p.heard:
		return len(p.ended) > 0
	case <-time.After(time.Second):
		return false
	}
}

// tell says to a session how the terminal is; the channel is closed when that changes.
func (s *Supervisor) tell(p *process) (<-chan struct{}, error) {
	if s.cfg.Service == nil {
		return nil, nil
	}
	codes, changed := s.cfg.Service.Codes()
	return changed, p.control.Send(control.Message{Kind: control.Service, Codes: codes})
}

// cardsEvery is after how many turns of the watch the card service is asked for a sign of life. The session that uses it
// notices a service that hangs before; this is for the time in which none does.
const cardsEvery = 4

// watch returns when the active process has ended: how, and whether it said so itself. replaced is closed when the card
// service, which the process waits for, runs anew.
func (s *Supervisor) watch(ctx context.Context, p *process, replaced <-chan struct{}) (control.Message, bool) {
	tick := time.NewTicker(s.cfg.SilentFor / 2)
	defer tick.Stop()
	waits := replaced != nil
	seen, silence := p.display.Alive(), time.Now()
	changed, _ := s.tell(p) // a process that does not listen is silent, too
	pinged, pinging := make(chan bool, 1), false
	for turn := 1; ; {
		exited := s.cardsExited()
		if replaced != nil {
			exited = nil
		}
		again := false
		select {
		case <-ctx.Done():
			return control.Message{Reason: control.Broken}, true
		case said := <-p.ended:
			return said, true
		case <-p.exited:
			<-p.heard // its last words may still be on their way
			select {
			case said := <-p.ended:
				return said, true
			default:
			}
			s.failed(ctx, codeSessionFailed)
			return control.Message{Reason: control.Broken}, false
		case <-changed:
			changed, _ = s.tell(p)
		case <-replaced:
			replaced = nil
			if waits {
				waits = false
				_ = p.control.Send(control.Message{Kind: control.Cards}) // a process that is gone has exited
			}
		case <-p.hung:
			again = true
		case ok := <-pinged:
			pinging = false
			again = !ok
		case <-exited:
			again = true // the card service died by itself: a new one before the next card
		case <-tick.C:
			// The display answers this, too: a host that hangs in it gives no sign of life either.
			switch now := p.display.Alive(); {
			case now.After(seen):
				seen, silence = now, time.Now()
				if s.cfg.Alive != nil {
					s.cfg.Alive()
				}
			case time.Since(silence) > s.cfg.SilentFor:
				s.failed(ctx, codeSessionSilent)
				return control.Message{Reason: control.Broken}, false
			}
			p.display.Ping()
			if turn++; turn%cardsEvery == 0 && s.cfg.Cards != nil && !pinging && replaced == nil {
				pinging = true
				go func() { pinged <- s.cfg.Cards.Ping(ctx) == nil || ctx.Err() != nil }()
			}
		}
		if again && replaced == nil {
			replaced = s.replace(ctx)
		}
	}
}

func (s *Supervisor) cardsExited() <-chan struct{} {
	if s.cfg.Cards == nil {
		return nil
	}
	return s.cfg.Cards.Exited()
}

// replace kills the card service and starts another (at most 10 s). The channel is closed when that is done, however it
// went; it is nil where the service is the system's.
func (s *Supervisor) replace(ctx context.Context) <-chan struct{} {
	if s.cfg.Cards == nil {
		select {
		case <-s.opened:
			return nil
		default:
			return s.opened
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-s.opened:
		case <-ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		span := s.log.Begin(ctx, advlog.L("cards.replace"))
		if err := s.cfg.Cards.Restart(ctx); err != nil {
			span.End(advlog.ResultFailed, codeCardsBroken)
			if context.Cause(ctx) == nil || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				s.failed(ctx, codeCardsBroken)
			}
			return
		}
		span.End(advlog.ResultOK, codeCardsReplaced)
	}()
	return done
}

func (s *Supervisor) failed(ctx context.Context, code advlog.Code) {
	note := func() {
		s.log.Error(ctx, advlog.ErrorEvent{Code: code, Severity: advlog.Error, Name: advlog.L("session.process"), Result: advlog.ResultFailed})
	}
	select {
	case <-s.opened:
		note()
	default:
		go func() {
			select {
			case <-s.opened:
				note()
			case <-ctx.Done():
			}
		}()
	}
}

// pause waits a little longer after every failure in a row, and tells whether to go on.
func pause(ctx context.Context, failures int) bool {
	d := min(100*time.Millisecond<<min(failures, 6), 5*time.Second)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// start runs a session process and returns when it is set up and has drawn.
func (s *Supervisor) start(ctx context.Context) (_ *process, err error) {
	hostEnd, sessionEnd, err := remote.Pair()
	if err != nil {
		return nil, fmt.Errorf("start session process: %w", err)
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		hostEnd.Close()
		sessionEnd.Close()
		return nil, fmt.Errorf("start session process: socket pair: %w", err)
	}
	mine, theirs := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	conn, err := net.FileConn(mine)
	mine.Close()
	if err != nil {
		hostEnd.Close()
		sessionEnd.Close()
		theirs.Close()
		return nil, fmt.Errorf("start session process: %w", err)
	}
	cmd := s.cfg.Command()
	cmd.ExtraFiles = []*os.File{sessionEnd, theirs} // DisplayFD, ControlFD
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // no session outlives its supervisor
	startErr := startLocked(cmd)
	sessionEnd.Close()
	theirs.Close()
	if startErr != nil {
		hostEnd.Close()
		conn.Close()
		return nil, fmt.Errorf("start session process: %w", startErr)
	}
	p := &process{
		cmd: cmd, control: control.New(conn), ready: make(chan struct{}), visible: make(chan struct{}), hung: make(chan struct{}, 1),
		ended: make(chan control.Message, 1), heard: make(chan struct{}), exited: make(chan struct{}), slot: s.cfg.Slot,
	}
	if p.slot == nil {
		p.slot = func(initctl.Slot) {}
	}
	go func() { cmd.Wait(); close(p.exited) }()
	p.display, err = s.cfg.Host.Attach(hostEnd)
	go p.listen()
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("start session process: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ReadyIn)
	defer cancel()
	select {
	case <-p.ready:
	case <-p.exited:
		p.kill()
		return nil, errors.New("start session process: it ended before it was ready")
	case <-ctx.Done():
		p.kill()
		return nil, fmt.Errorf("start session process: not ready: %w", context.Cause(ctx))
	}
	if err := p.display.Drawn(ctx); err != nil {
		p.kill()
		return nil, fmt.Errorf("start session process: nothing drawn: %w", err)
	}
	return p, nil
}

// starter is the thread that starts session processes: the kernel ends a child with Pdeathsig when the thread that
// started it ends, so that thread has to live as long as the supervisor.
var starter = sync.OnceValue(func() chan func() {
	ch := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range ch {
			f()
		}
	}()
	return ch
})

func startLocked(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	starter() <- func() { done <- cmd.Start() }
	return <-done
}

// listen takes what the process says until it ends or breaks the protocol.
func (p *process) listen() {
	defer close(p.heard)
	for {
		m, err := p.control.Receive()
		if errors.Is(err, control.ErrProtocol) {
			p.kill()
		}
		if err != nil {
			return
		}
		switch m.Kind {
		case control.Ready:
			p.once[0].Do(func() { close(p.ready) })
		case control.Visible:
			p.once[1].Do(func() { close(p.visible) })
		case control.Hung:
			select {
			case p.hung <- struct{}{}:
			default: // it was said already and is being done
			}
		case control.Visit:
			p.serves = true
			p.slot(initctl.SlotVisit)
		case control.Empty:
			p.slot(initctl.SlotEmpty)
		case control.Ended:
			select {
			case p.ended <- m:
			default:
			}
			return
		default:
			p.kill()
			return
		}
	}
}

// kill ends the process and everything that belongs to it. A process that is gone is left alone.
func (p *process) kill() {
	if p == nil {
		return
	}
	select {
	case <-p.exited:
	default:
		p.cmd.Process.Kill()
		<-p.exited
	}
	if p.display != nil {
		p.display.Close()
	}
	p.control.Close()
}
