package visit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"ktradv/hw/sim/adapter"
	"ktradv/hw/sim/card"
	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/advlog"
	"ktradv/kiosk/session"
	"ktradv/kiosk/view"
)

// TerminalConfig says how a terminal is to be.
type TerminalConfig struct {
	// Dial opens the conversation with the server; nil is a terminal without network.
	Dial func(ctx context.Context) (session.Server, error)
	// Reader is the kind of reader and its clock.
	Reader simreader.Config
	// Adapter changes how the reader is driven.
	Adapter adapter.Config
	// Log of the app; nil is off.
	Log *advlog.Log
	// Change may alter what the sessions are made with.
	Change func(*session.Config)
}

// ErrNoNetwork is what a terminal without network gets.
var ErrNoNetwork = errors.New("no network")

// Terminal is a kiosk without a screen: a reader, and one session after the other, as the supervisor starts them.
type Terminal struct {
	Reader *simreader.Reader

	stop  context.CancelFunc
	ended sync.WaitGroup

	mu       sync.Mutex
	views    []view.View
	next     int // the first view that no Await has seen
	current  *session.Session
	outcomes []session.Outcome
	failed   error
	moved    chan struct{}
}

// NewTerminal starts a terminal; it shows the neutral screen as soon as it can.
func (w *World) NewTerminal(cfg TerminalConfig) (*Terminal, error) {
	t := &Terminal{Reader: simreader.New(cfg.Reader), moved: make(chan struct{})}
	slot := adapter.New(t.Reader, cfg.Adapter)
	sc := session.Config{
		Slot: slot, Dial: cfg.Dial, Roots: w.Roots, TerminalID: [8]byte{'K', 'T', 'R', 'A', 'D', 'V', 0, 1},
		Publish: t.publish, Log: cfg.Log, Version: "test",
	}
	if sc.Dial == nil {
		sc.Dial = func(context.Context) (session.Server, error) { return nil, ErrNoNetwork }
	}
	if cfg.Change != nil {
		cfg.Change(&sc)
	}
	ctx, stop := context.WithCancel(context.Background())
	t.stop = func() { stop(); slot.Close(); t.Reader.Release() }
	first, err := session.New(sc)
	if err != nil {
		t.stop()
		return nil, err
	}
	t.current = first
	t.ended.Go(func() { t.run(ctx, sc, first) })
	return t, nil
}

// run lets one session follow the other, each new from the start.
func (t *Terminal) run(ctx context.Context, cfg session.Config, s *session.Session) {
	for {
		out := s.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		next, err := session.New(cfg)
		t.mu.Lock()
		t.outcomes = append(t.outcomes, out)
		if !out.Served {
			err = fmt.Errorf("session served nobody: %w", out.Err)
		}
		t.current, t.failed = next, err
		t.change()
		t.mu.Unlock()
		if err != nil {
			return
		}
		s = next
	}
}

// Close stops the terminal and waits for its session.
func (t *Terminal) Close() {
	t.stop()
	t.ended.Wait()
}

func (t *Terminal) publish(v view.View) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.views = append(t.views, v)
	t.change()
}

// change wakes everyone who waits. t.mu is held.
func (t *Terminal) change() {
	close(t.moved)
	t.moved = make(chan struct{})
}

// Views returns everything that was shown so far.
func (t *Terminal) Views() []view.View {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]view.View(nil), t.views...)
}

// Screens returns the course of screens so far; views of one screen that follow each other count once.
func (t *Terminal) Screens() []view.Screen {
	var out []view.Screen
	for _, v := range t.Views() {
		if len(out) == 0 || out[len(out)-1] != v.Screen {
			out = append(out, v.Screen)
		}
	}
	return out
}

// Await waits for the next view that fulfils the condition, beginning with the one after that which the Await before
// returned.
func (t *Terminal) Await(ctx context.Context, ok func(view.View) bool) (view.View, error) {
	for {
		t.mu.Lock()
		for t.next < len(t.views) {
			v := t.views[t.next]
			t.next++
			if ok(v) {
				t.mu.Unlock()
				return v, nil
			}
		}
		moved, failed := t.moved, t.failed
		t.mu.Unlock()
		if failed != nil {
			return view.View{}, failed
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return view.View{}, fmt.Errorf("waited for a view in vain; screens so far: %v: %w", t.Screens(), ctx.Err())
		}
	}
}

// AwaitScreen waits for the next view of a screen.
func (t *Terminal) AwaitScreen(ctx context.Context, want view.Screen) (view.View, error) {
	v, err := t.Await(ctx, func(v view.View) bool { return v.Screen == want })
	if err != nil {
		return v, fmt.Errorf("screen %q: %w", want, err)
	}
	return v, nil
}

// AwaitOutcome waits until so many sessions have ended and returns how the last of them did.
func (t *Terminal) AwaitOutcome(ctx context.Context, n int) (session.Outcome, error) {
	for {
		t.mu.Lock()
		if len(t.outcomes) >= n {
			defer t.mu.Unlock()
			return t.outcomes[n-1], nil
		}
		moved := t.moved
		t.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return session.Outcome{}, fmt.Errorf("session %d does not end; screens: %v: %w", n, t.Screens(), ctx.Err())
		}
	}
}

// Handle is what the person does on the screen.
func (t *Terminal) Handle(ev view.Event) {
	t.mu.Lock()
	s := t.current
	t.mu.Unlock()
	s.Handle(ev)
}

// Choose presses a button.
func (t *Terminal) Choose(choice string) {
	t.Handle(view.Event{Kind: view.Choose, Choice: choice})
}

// EnterPIN types digits at the pad when it asks for what, and confirms them.
func (t *Terminal) EnterPIN(ctx context.Context, what, digits string) error {
	if err := t.Reader.WaitAwaiting(ctx, what); err != nil {
		return err
	}
	if err := t.Reader.PressDigits(digits); err != nil {
		return err
	}
	return t.Reader.PressKey(simreader.KeyOK)
}

// Exchange is one command and its answer, as they went over the contacts.
type Exchange struct {
	Command, Response []byte
	At                time.Time
}

// Tap is a card under observation: it records every exchange and may replace answers that no simulated fault produces.
type Tap struct {
	Card *card.Card

	mu        sync.Mutex
	exchanges []Exchange
	resets    int
	answer    func(n int, cmd []byte) []byte
}

// NewTap puts a card under observation. answer may be nil; otherwise it is asked before the card, with the number of the
// exchange from 1 on, and what it returns, if anything, is the answer. It must not call the reader.
func NewTap(c *card.Card, answer func(n int, cmd []byte) []byte) *Tap {
	return &Tap{Card: c, answer: answer}
}

// Reset implements simreader.Card.
func (t *Tap) Reset(warm bool) []byte {
	t.mu.Lock()
	t.resets++
	t.mu.Unlock()
	return t.Card.Reset(warm)
}

// Process implements simreader.Card.
func (t *Tap) Process(cmd []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := Exchange{Command: append([]byte(nil), cmd...), At: time.Now()}
	if t.answer != nil {
		e.Response = t.answer(len(t.exchanges)+1, cmd)
	}
	if e.Response == nil {
		e.Response = t.Card.Process(cmd)
	}
	t.exchanges = append(t.exchanges, e)
	return e.Response
}

// Exchanges returns what went over the contacts so far.
func (t *Tap) Exchanges() []Exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Exchange(nil), t.exchanges...)
}

// Count is the number of exchanges so far.
func (t *Tap) Count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.exchanges)
}

// PINVerified asks the card itself, past the reader, whether PIN.CH is verified now.
func (t *Tap) PINVerified() bool {
	r := t.Card.Process([]byte{0x80, 0x20, 0x00, 0x01})
	return len(r) == 2 && r[0] == 0x90 && r[1] == 0x00
}

// Unlocked asks the card itself, past the reader, whether it would give away protected data (EF.GVD needs PIN.CH and
// card-to-card).
func (t *Tap) Unlocked() bool {
	t.Card.Process([]byte{0x00, 0xA4, 0x04, 0x0C, 0x06, 0xD2, 0x76, 0x00, 0x00, 0x01, 0x02})
	r := t.Card.Process([]byte{0x00, 0xB0, 0x83, 0x00, 0x00})
	return len(r) >= 2 && r[len(r)-2] == 0x90
}
