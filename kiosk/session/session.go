// Package session runs one insured person's visit, from the card's insertion to its removal, without a screen.
//
// A [Session] is the state machine of TAB_ADV_303 and TAB_ADV_304 (gemSpec_KTR-AdV 6.1.1). It is fed with events (card
// in, card out, the result at the pad, a choice on the screen, time) and publishes one [view.View] after the other.
// [Session.Run] serves exactly one person and returns; the process ends with it, so that nothing of the person remains
// (AdV-A_2409).
//
//	                   | card present                      | card absent
//	-------------------+-----------------------------------+------------------------------
//	before the session | ask to take the card of before    | neutral screen, wait
//	reading            | type, generation, authenticity    | explain, end
//	PIN                | the reader's pad asks             | explain, end
//	session            | menu, use cases, idle watch       | end at once (AdV-A_2448)
//	ending             | finish a write, reset, close, ask | done
//
// The session talks to the card and the server through small interfaces and never to a screen. It holds personal data
// in types that cannot be printed, and hands them only to the view.
package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"ktradv/hw/apdu"
	"ktradv/hw/cvc"
	"ktradv/hw/egk"
	"ktradv/hw/reader"
	"ktradv/internal/advlog"
	"ktradv/internal/redact"
	"ktradv/kiosk/serverlink"
	"ktradv/kiosk/view"
	"ktradv/server/api"
)

// Slot is the reader as the session sees it: one slot that holds a card or not.
type Slot interface {
	// WaitReader blocks until the reader is plugged in and its service answers.
	WaitReader(ctx context.Context) error
	// WaitCard returns when a card is (or is no longer) in the slot. An error that wraps apdu.ErrReaderGone means
	// that the reader went away.
	WaitCard(ctx context.Context, present bool) error
	// Connect powers the card.
	Connect(ctx context.Context) (reader.Card, error)
}

// Observer is a Slot that saw the card come.
type Observer interface {
	// CardIsNew tells that the card in the slot was put in while the card service watched it.
	CardIsNew() bool
}

// Server is the conversation with the AdV-Server for one session (kiosk/serverlink).
type Server interface {
	Unlock(ctx context.Context, s serverlink.Start, run serverlink.Run) (serverlink.Actor, error)
	CheckCertificate(ctx context.Context, autn []byte) (serverlink.Validity, error)
	// Gone is closed when the server goes away after the certificate was checked.
	Gone() <-chan struct{}
	// Abort tells why the session ends, if it does before the conversation is over.
	Abort(code api.AbortCode)
	Close() error
}

// Config holds everything a session needs from outside.
type Config struct {
	Slot Slot
	// Dial opens the conversation with the AdV-Server.
	Dial func(ctx context.Context) (Server, error)
	// Roots are the pinned roots of the card CVCs.
	Roots cvc.Roots
	// TerminalID are eight octets that name this terminal inside the authentication token of the card.
	TerminalID [8]byte
	// Publish shows a view. It must return quickly.
	Publish func(view.View)
	// NewCard tells that a card in the slot was put in for this visit: the visit before saw it come, or saw the slot empty.
	// Otherwise a card that is there belongs to the visit before, and its holder is asked to take it.
	NewCard bool
	// First tells that nobody was served since the terminal was switched on: the slot is asked whether a card that is there
	// was put in meanwhile ([Observer]), and if it does not know, Free.
	First bool
	// Free tells that a card that is in the slot at first can be nobody's of before: the terminal remembers that the last visit
	// ended with an empty slot. It may take its time to remember; meanwhile the screen stays as it is. Nil is never.
	Free func(context.Context) bool
	// Patience is how long a reader or its service may be away before the terminal says that it is out of order; a service
	// that is replaced is back before. Zero means 3 s.
	Patience time.Duration
	// Begins is called when a card is being served from now on, Empty when the slot was seen empty before that. They must return
	// quickly; nil is allowed.
	Begins, Empty func()
	// CardServiceHung is called when the card service did not answer in its time; whoever started it replaces it. Nil is
	// allowed.
	CardServiceHung func()
	// Log is where operations are recorded; nil records nothing.
	Log *advlog.Log
	// Version of the app, told to the server.
	Version string

	// IdleEnd ends the session after this time without activity: zero and everything above mean 5 minutes
	// (AdV-A_2410, configurable downwards only).
	IdleEnd time.Duration
	// IdleWarn shows the countdown after this time without activity: zero and everything above mean 4 minutes
	// (AdV-A_2568). It is kept below IdleEnd.
	IdleWarn time.Duration
	// Blank hides personal data after this time without a touch: zero and everything above mean 60 s.
	Blank time.Duration
	// PINTimeout is how long the pad waits for a person. Zero means 45 s.
	PINTimeout time.Duration

	// Rand is the source of randomness; nil means crypto/rand.
	Rand io.Reader
	// Now is the wall clock for log entries and validity; nil means time.Now.
	Now func() time.Time
}

// Limits of AdV-A_2410 and design/ui.md; a configuration may lower them, never raise them.
const (
	maxIdleEnd  = 5 * time.Minute
	maxIdleWarn = 4 * time.Minute
	maxBlank    = 60 * time.Second
)

// Why a session ended, as the cause of its context.
var (
	errEnd     = errors.New("ended by the insured person")
	errIdle    = errors.New("ended after five idle minutes")
	errStopped = errors.New("terminal is being stopped")
)

// Session serves one person. Create it with [New], call [Session.Run] once, and send it what the person does with
// [Session.Handle].
type Session struct {
	cfg    Config
	events chan view.Event

	mu       sync.Mutex
	base     view.View // what the flow shows
	overlay  view.Screen
	noted    view.Screen // the last one in the debug log
	deadline time.Time   // of the idle countdown
	active   time.Time   // of the last activity
	slot     SlotState   // what is known about the slot at the end
	started  bool        // a card is being served: the idle watch runs
	bump     chan struct{}

	cancel context.CancelCauseFunc // ends the flow; nil before it runs
	watch  sync.WaitGroup          // what watches the flow from beside
	sid    advlog.Session
	opID   advlog.Operation
	opName advlog.Label

	card   reader.Card
	info   *egk.Info
	server Server
	actor  serverlink.Actor
	valid  view.Validity
	hca    bool // health application active
	worn   bool // the card's memory needed several attempts to write (UpdateRetryWarning)
}

// New prepares a session. It touches neither card nor network.
func New(cfg Config) (*Session, error) {
	if cfg.Slot == nil || cfg.Dial == nil || cfg.Publish == nil {
		return nil, errors.New("session: slot, server and publisher are needed")
	}
	bound := func(d *time.Duration, most time.Duration) {
		if *d <= 0 || *d > most {
			*d = most
		}
	}
	bound(&cfg.IdleEnd, maxIdleEnd)
	bound(&cfg.IdleWarn, maxIdleWarn)
	bound(&cfg.Blank, maxBlank)
	if cfg.IdleWarn >= cfg.IdleEnd {
		cfg.IdleWarn = cfg.IdleEnd * 4 / 5
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 3 * time.Second
	}
	if cfg.PINTimeout <= 0 {
		cfg.PINTimeout = 45 * time.Second
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Session{cfg: cfg, opName: advlog.L("terminal.wait"), events: make(chan view.Event, 16), bump: make(chan struct{}, 1)}, nil
}

// Outcome tells the process how the visit ended.
type Outcome struct {
	// Served tells that a card was read: this process must end now.
	Served bool
	// Slot is what is known about the slot.
	Slot SlotState
	// Err is nil when the visit ended in order, else why not (also logged).
	Err error
}

// SlotState is what a session knows about the slot when it ends.
type SlotState int

const (
	SlotUnknown SlotState = iota // the reader is gone, or hangs
	SlotEmpty                    // it was seen empty
	SlotCard                     // the card of the person who was served is still in
	SlotNew                      // a card was put in while the end was being explained; see Config.NewCard
)

// Run waits for a card and serves its holder once. It returns when the session is over, the card is reset and the
// server connection closed, or when ctx ends.
func (s *Session) Run(ctx context.Context) Outcome {
	if err := s.waitForVisitor(ctx); err != nil {
		return Outcome{Err: err}
	}
	if s.cfg.Begins != nil {
		s.cfg.Begins()
	}
	s.begin(advlog.L("session.start"))
	flow, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.mu.Lock()
	s.sid = advlog.NewSession(s.cfg.Rand)
	s.cancel, s.started, s.active = cancel, true, time.Now()
	s.mu.Unlock()

	s.watch.Go(func() { s.watchIdle(flow) })
	s.watch.Go(func() { s.watchCard(flow) })

	err := s.serve(flow)
	if cause := context.Cause(flow); cause != nil && !errors.Is(err, cause) {
		err = cause // why the flow was cut short counts, not where
	}
	s.mu.Lock()
	s.started, s.overlay = false, ""
	s.mu.Unlock()
	cancel(errEnd)
	s.watch.Wait()
	s.finish(ctx, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	return Outcome{Served: true, Slot: s.slot, Err: err}
}

// waitForVisitor shows the neutral screen until a card is put in. A card that is still there belongs to the visit
// before: its holder is asked to take it, and nothing of it is read.
func (s *Session) waitForVisitor(ctx context.Context) error {
	for patient := false; ; {
		err := s.visitor(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, reader.ErrNoService) && !patient {
			patient = true // it may be back before anybody notices
			continue
		}
		patient = false
		code := codeOf(err, codeReaderGone)
		if code == codeReaderHung {
			s.hung()
		}
		if !s.isOutOfOrder(code) {
			s.logError(ctx, code, err, false)
			s.show(OutOfOrder(code))
		}
	}
}

// isOutOfOrder tells whether the terminal says already that it is out of order for this reason.
func (s *Session) isOutOfOrder(code string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.base.Screen == view.OutOfOrder && s.base.Problem.Code == code
}

// visitor waits for a card once. It is patient with a reader that is not there.
func (s *Session) visitor(ctx context.Context) error {
	soon, cancel := context.WithTimeout(ctx, s.cfg.Patience)
	err := s.cfg.Slot.WaitReader(soon)
	if err != nil && ctx.Err() == nil && soon.Err() != nil {
		// It did not come. Why not, the slot says at once, if it knows.
		if err = s.cfg.Slot.WaitCard(soon, true); err == nil || errors.Is(err, soon.Err()) {
			err = fmt.Errorf("wait for the reader: %w", apdu.ErrReaderGone)
		}
	}
	cancel()
	if err != nil {
		return err
	}
	if s.cfg.NewCard && s.holdsCard(ctx) {
		return nil
	}
	// Whether a card is there is asked with a wait for its absence that may not take long.
	quick, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	err = s.cfg.Slot.WaitCard(quick, false)
	late := quick.Err() != nil
	cancel()
	if err != nil && late && ctx.Err() == nil {
		if s.isNobodys(ctx) && s.holdsCard(ctx) {
			return nil
		}
		s.show(view.View{Screen: view.TakeCard})
		err = s.cfg.Slot.WaitCard(ctx, false)
	}
	if err != nil {
		return err
	}
	s.show(view.View{Screen: view.Neutral})
	// The slot was seen empty: a card that is there after a failure of reader or card service was put in meanwhile.
	s.cfg.NewCard = true
	if s.cfg.Empty != nil {
		s.cfg.Empty()
	}
	return s.cfg.Slot.WaitCard(ctx, true)
}

// isNobodys tells whether a card that is there at first after power on can be nobody's of before.
func (s *Session) isNobodys(ctx context.Context) bool {
	if o, ok := s.cfg.Slot.(Observer); ok && s.cfg.First && o.CardIsNew() {
		s.cfg.NewCard = true
	}
	if s.cfg.First && !s.cfg.NewCard && s.cfg.Free != nil {
		s.cfg.NewCard, s.cfg.Free = s.cfg.Free(ctx), nil // it is said once
	}
	return s.cfg.NewCard
}

// holdsCard tells whether there is a card in the slot now.
func (s *Session) holdsCard(ctx context.Context) bool {
	quick, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	return s.cfg.Slot.WaitCard(quick, true) == nil
}

// Handle takes what the person did. It never blocks.
func (s *Session) Handle(ev view.Event) {
	s.mu.Lock()
	if !s.started {
		s.mu.Unlock()
		s.offer(ev)
		return
	}
	overlay := s.overlay
	// Any activity restarts the time (AdV-A_2410), also during the countdown.
	s.active = time.Now()
	s.overlay = ""
	cancel := s.cancel
	changed := overlay != s.overlay
	s.mu.Unlock()
	if ev.Kind == view.Choose && ev.Choice == view.ChoiceEnd {
		cancel(errEnd)
		return
	}
	if changed {
		s.republish()
	}
	s.poke()
	if overlay == "" && ev.Kind == view.Choose {
		s.offer(ev)
	}
}

func (s *Session) offer(ev view.Event) {
	select {
	case s.events <- ev:
	default: // sixteen unanswered presses: the seventeenth says nothing new
	}
}

// poke wakes the idle watch.
func (s *Session) poke() {
	select {
	case s.bump <- struct{}{}:
	default:
	}
}

// show makes v what the person sees, below a countdown or blanking that may lie over it.
func (s *Session) show(v view.View) {
	s.mu.Lock()
	v.Session, v.Operation = s.public()
	s.mu.Unlock()
	if v.Screen != view.PIN && v.Screen != view.PINWrong {
		v.TriesLeft = -1
	}
	s.mu.Lock()
	s.base = v
	s.mu.Unlock()
	s.republish()
	s.poke()
}

func (s *Session) republish() {
	s.mu.Lock()
	v := s.base
	switch s.overlay {
	case view.Idle:
		v = view.View{Screen: view.Idle, Deadline: s.deadline, CanEnd: true, TriesLeft: -1}
		v.Session, v.Operation = s.public()
	case view.Blanked:
		v = view.View{Screen: view.Blanked, CanEnd: true, TriesLeft: -1}
		v.Session, v.Operation = s.public()
	}
	s.note(v.Screen)
	s.mu.Unlock()
	s.cfg.Publish(v)
}

// activity restarts the idle time for something the person did away from the screen, at the pad.
func (s *Session) activity() {
	s.mu.Lock()
	s.active = time.Now()
	changed := s.overlay != ""
	s.overlay = ""
	s.mu.Unlock()
	if changed {
		s.republish()
	}
	s.poke()
}

// ask shows v and returns the person's choice among the given ones.
func (s *Session) ask(ctx context.Context, v view.View, choices ...string) (string, error) {
	for drained := false; !drained; { // presses on the screen before do not answer this one
		select {
		case <-s.events:
		default:
			drained = true
		}
	}
	s.show(v)
	for {
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case ev := <-s.events:
			for _, c := range choices {
				if ev.Kind == view.Choose && ev.Choice == c {
					return c, nil
				}
			}
		}
	}
}

// watchIdle shows the countdown, blanks personal data and ends the session, each after its time without activity
// (AdV-A_2410, AdV-A_2568).
func (s *Session) watchIdle(ctx context.Context) {
	for {
		s.mu.Lock()
		last, personal := s.active, s.base.Personal
		s.mu.Unlock()
		idle := time.Since(last)
		next := s.cfg.IdleEnd
		want := view.Screen("")
		switch {
		case idle >= s.cfg.IdleEnd:
			s.cancel(errIdle)
			return
		case idle >= s.cfg.IdleWarn:
			want = view.Idle
		default:
			next = s.cfg.IdleWarn
			if personal {
				if idle >= s.cfg.Blank {
					want = view.Blanked
				} else if s.cfg.Blank < next {
					next = s.cfg.Blank
				}
			}
		}
		s.mu.Lock()
		changed := s.active.Equal(last) && s.overlay != want
		if changed {
			s.overlay, s.deadline = want, last.Add(s.cfg.IdleEnd)
		}
		s.mu.Unlock()
		if changed {
			s.republish()
		}
		timer := time.NewTimer(next - idle)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.bump:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// watchCard ends the session when the card is pulled (AdV-A_2448) or the reader goes away.
func (s *Session) watchCard(ctx context.Context) {
	err := s.cfg.Slot.WaitCard(ctx, false)
	switch {
	case ctx.Err() != nil:
	case err == nil:
		s.cancel(fmt.Errorf("watch card: %w", apdu.ErrCardRemoved))
	default:
		s.cancel(fmt.Errorf("watch card: %w", err))
	}
}

// watchServer ends the session when the server goes away.
func (s *Session) watchServer(ctx context.Context, gone <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-gone:
		s.cancel(fmt.Errorf("watch server: %w", serverlink.ErrLost))
	}
}

// finish ends the session in order (AdV-A_2449): reset the card, close the connection, forget everything, and say what
// the person has to know. A use case that was writing has finished by now: writes do not run under the flow's context.
func (s *Session) finish(ctx context.Context, err error) {
	stopped := ctx // a terminal that is being stopped resets the card, but explains nothing for a minute
	ctx = context.WithoutCancel(ctx)
	ended := s.span(ctx, advlog.L("session.end"))
	code := problemOf(err)
	gone := cardGone(err)
	if errors.Is(err, reader.ErrHung) {
		s.hung()
	}
	if code == "" && !gone {
		s.show(view.View{Screen: view.Ending, Steps: steps(1, "step.finish", "step.reset", "step.disconnect")})
	}
	var resetErr error
	if s.card != nil {
		if !gone {
			rctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			resetErr = egk.Reset(rctx, s.card)
			if resetErr != nil {
				resetErr = s.card.Reset(rctx) // a card that no longer understands is reset by its contacts
			}
			cancel()
		}
		s.card.Disconnect()
	}
	if deaf(err, resetErr) {
		err = &Failure{Code: codeReaderHung, Err: fmt.Errorf("%w: %w", reader.ErrHung, err)}
		code, gone = codeReaderHung, true
		s.hung()
	}
	if err != nil && code != "" {
		s.logError(ctx, code, err, cardRelated(err))
	}
	if s.server != nil {
		s.server.Abort(abortCode(err))
		s.server.Close()
	}
	s.forget()
	ended(resetErr)

	switch {
	case code != "":
		s.explain(stopped, err, code)
	case !gone:
		s.leave(SlotCard)
		s.show(view.View{Screen: view.TakeCard})
	}
}

func (s *Session) leave(is SlotState) { s.mu.Lock(); s.slot = is; s.mu.Unlock() }

// cardGone tells that nothing can be said to the card any more: it was pulled, or its reader is gone or hangs.
func cardGone(err error) bool {
	for _, e := range []error{apdu.ErrCardRemoved, apdu.ErrReaderGone, reader.ErrHung} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// deaf tells that an exchange failed and that the reader did not even answer to the order to reset the card: the person is
// not sent away to clean a card that is in order.
func deaf(err, reset error) bool {
	if !errors.Is(err, reader.ErrTransmission) {
		return false
	}
	for _, e := range []error{reader.ErrTransmission, reader.ErrHung, context.DeadlineExceeded} {
		if errors.Is(reset, e) {
			return true
		}
	}
	return false
}

// begin opens an operation: all log entries from here to the OCSP request carry its id (AdV-A_2440, AdV-A_2441).
func (s *Session) begin(name advlog.Label) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opID, s.opName = advlog.NewOperation(s.cfg.Rand), name
}

// public gives session and operation as the view shows them; s.mu is held.
func (s *Session) public() (string, view.Operation) {
	if s.sid.IsZero() {
		return "", view.Operation{}
	}
	return s.sid.String(), view.Operation{ID: s.opID.String(), Name: s.opName.String()}
}

func (s *Session) hung() {
	if s.cfg.CardServiceHung != nil {
		s.cfg.CardServiceHung()
	}
}

// explain shows what happened until the card is taken, the person says so, or a minute has passed.
func (s *Session) explain(ctx context.Context, err error, code string) {
	v := view.View{Screen: view.Problem, Problem: problemInfo(code, err), CanEnd: true}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if !cardGone(err) {
		s.leave(SlotCard)
		go func() {
			if s.cfg.Slot.WaitCard(ctx, false) == nil {
				s.leave(SlotEmpty)
				cancel()
			}
		}()
	} else {
		if errors.Is(err, apdu.ErrCardRemoved) {
			s.leave(SlotEmpty)
			go func() { // a card put in now begins the next visit
				if s.cfg.Slot.WaitCard(ctx, true) == nil {
					s.leave(SlotNew)
					cancel()
				}
			}()
		}
		go func() { // the next person must not have to read this
			select {
			case <-ctx.Done():
			case <-time.After(12 * time.Second):
				cancel()
			}
		}()
	}
	_, _ = s.ask(ctx, v, view.ChoiceEnd)
}

// forget drops everything that belongs to the person. The process ends soon after; this keeps the time short.
func (s *Session) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base, s.info, s.card, s.server = view.View{}, nil, nil, nil
	s.actor, s.valid = serverlink.Actor{}, view.Validity{}
}

func steps(active int, ids ...string) []view.Step {
	out := make([]view.Step, len(ids))
	for i, id := range ids {
		out[i].ID = id
		switch {
		case i+1 < active:
			out[i].State = view.Done
		case i+1 == active:
			out[i].State = view.Active
		}
	}
	return out
}

// iccsn is the number of the card being served, for card-related error entries only (AdV-A_2424).
func (s *Session) iccsn() redact.ICCSN {
	if s.info == nil {
		return redact.ICCSN{}
	}
	return s.info.ICCSN
}
