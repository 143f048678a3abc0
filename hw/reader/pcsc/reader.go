//go:build pcsc

package pcsc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebfe/scard"

	"ktradv/hw/reader"
)

// Config of a reader.
type Config struct {
	// Name is a part of the name of the wanted reader, compared without regard to case; "" takes the only one there is. With
	// more than one of the name there is no reader (ErrSeveral), whichever came first: the card service lists readers one after
	// the other. Only one that has a card in its slot is kept until that is out.
	Name string
	// Shared lets other programs use the card at the same time; the default is a card for us alone.
	Shared bool
	// CallTimeout is the deadline of a call that does not wait for a person; 0 is 5 s. The longest command of an eGK takes
	// less than 2 s.
	CallTimeout time.Duration
	// CheckInterval is how often the service is asked for a sign of life while nothing happens; 0 is 3 s. A daemon that
	// hangs is noticed after CheckInterval and CallTimeout at the latest.
	CheckInterval time.Duration
	// Models is the table of models; nil is reader.Models.
	Models []reader.Model
}

// slot is what the watcher last saw.
type slot struct {
	err     error // why nothing is known: ErrReaderGone, ErrNoService, ErrHung; nil when the reader is there
	present bool
	seen    bool   // the card service has seen a card come or go
	name    string // of the reader, "" until it was found once
}

// Reader is a reader under pcscd.
type Reader struct {
	cfg  Config
	ctx  context.Context // ends with Close
	stop context.CancelFunc
	done chan struct{} // closed when the watcher has ended

	stuck chan struct{} // closed when a status call that was left behind has returned; nil if there is none; the watcher's

	detecting sync.Mutex // held while the features are asked for

	mu      sync.Mutex
	slot    slot
	changed chan struct{} // closed at every change of slot or asked, then replaced
	broken  chan struct{} // closed while the service hangs or is gone, fresh otherwise
	pad     *reader.Pad
	asked   bool // the reader was asked for its features since it came, with whatever result

	turned atomic.Int64 // when the watcher last came round, in nanoseconds of the clock
	parked atomic.Bool  // the watcher waits for a call that was left behind, as long as it takes
}

var _ reader.Reader = (*Reader)(nil)

// ErrOpen: there is a Reader in this process already. The wrapper's status call keeps one buffer per reader name for the
// whole process, so that a second watcher could take it away from the first.
var ErrOpen = errors.New("a PC/SC reader is open in this process already")

// watching is held by the one Reader of the process.
var watching sync.Mutex

// Open starts watching for a reader. It does not wait for one: see Reader.WaitReader. The error is ErrOpen.
func Open(cfg Config) (*Reader, error) {
	if !watching.TryLock() {
		return nil, ErrOpen
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = 5 * time.Second
	}
	if cfg.CheckInterval == 0 {
		cfg.CheckInterval = 3 * time.Second
	}
	if cfg.Models == nil {
		cfg.Models = reader.Models
	}
	r := &Reader{
		cfg: cfg, done: make(chan struct{}), changed: make(chan struct{}), broken: make(chan struct{}),
		slot: slot{err: reader.ErrReaderGone},
	}
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.turn()
	go r.watch()
	return r, nil
}

// Close ends the watcher and everything that waits. While a call of the watcher hangs in the library, no other Reader can
// be opened.
func (r *Reader) Close() error {
	r.stop()
	<-r.done
	return nil
}

// Name is the PC/SC name, or the configured part of it until the reader was found.
func (r *Reader) Name() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slot.name != "" {
		return r.slot.name
	}
	return r.cfg.Name
}

// Features are known as soon as the reader was reached once; the zero value stands before.
func (r *Reader) Features() reader.Features {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pad == nil {
		return reader.Features{}
	}
	return r.pad.Features()
}

// WaitReader blocks until the reader is there and was asked for its features. The features stay unknown until Connect
// when another program has the card for itself.
func (r *Reader) WaitReader(ctx context.Context) error {
	return r.wait(ctx, func(s slot) (bool, error) { return s.err == nil && r.asked, nil })
}

// WaitCard blocks until the slot is as wanted, or the reader is not there.
func (r *Reader) WaitCard(ctx context.Context, present bool) error {
	return r.wait(ctx, func(s slot) (bool, error) { return s.present == present, s.err })
}

// wait blocks until ok, which is called with r.mu held.
func (r *Reader) wait(ctx context.Context, ok func(slot) (bool, error)) error {
	for {
		r.mu.Lock()
		s, c := r.slot, r.changed
		is, err := ok(s)
		r.mu.Unlock()
		if err != nil {
			return fmt.Errorf("wait at reader %s: %w", r.Name(), err)
		}
		if is {
			return nil
		}
		select {
		case <-c:
		case <-ctx.Done():
			return ctx.Err()
		case <-r.ctx.Done():
			return fmt.Errorf("wait: reader closed: %w", reader.ErrReaderGone)
		}
	}
}

// publish makes s known. A service that hangs or is gone ends the calls that are under way.
func (r *Reader) publish(s slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.name == "" {
		s.name = r.slot.name
	}
	if s.name != r.slot.name {
		r.pad = nil // another reader may want its PIN block spelled another way
	}
	dead := errors.Is(s.err, reader.ErrHung) || errors.Is(s.err, reader.ErrNoService)
	select {
	case <-r.broken:
		if !dead {
			r.broken = make(chan struct{})
		}
	default:
		if dead {
			close(r.broken)
		}
	}
	same := s.present == r.slot.present && s.name == r.slot.name && (s.err == nil) == (r.slot.err == nil) &&
		errors.Is(s.err, reader.ErrHung) == errors.Is(r.slot.err, reader.ErrHung) &&
		errors.Is(s.err, reader.ErrSeveral) == errors.Is(r.slot.err, reader.ErrSeveral)
	r.slot = s
	if s.err != nil {
		r.asked = false
	}
	if !same {
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

// CardIsNew tells that the card in the slot was put in while the card service watched it; a card that was there when the
// service began, or when the reader was plugged in, is not.
func (r *Reader) CardIsNew() bool {
	s, _ := r.current()
	return s.err == nil && s.present && s.seen
}

// Alive reports whether the watcher comes round within its own deadlines. It does so with a hanging service, too, of which
// it learns by those deadlines; a watcher that does not is stuck itself, and only a new process helps.
func (r *Reader) Alive() bool {
	const slack = 2 * time.Second
	return r.parked.Load() || time.Since(time.Unix(0, r.turned.Load())) < r.cfg.CheckInterval+r.cfg.CallTimeout+slack
}

// turn notes that the watcher came round.
func (r *Reader) turn() { r.turned.Store(time.Now().UnixNano()) }

func (r *Reader) current() (s slot, broken <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.slot, r.broken
}

// cause says why broken was closed.
func (r *Reader) cause() error {
	s, _ := r.current()
	if s.err == nil { // repaired meanwhile
		return reader.ErrNoService
	}
	return s.err
}

// establish opens a context to the daemon.
func (r *Reader) establish(ctx context.Context) (*scard.Context, error) {
	sc, err := call(ctx, r.cfg.CallTimeout, nil, nil, scard.EstablishContext, func(sc *scard.Context, err error) {
		if err == nil {
			release(sc)
		}
	})
	return sc, translate("reach pcscd", err)
}

// release gives a context back without waiting for it.
func release(sc *scard.Context) {
	go sc.Release()
}

// watch is the watcher: the only goroutine that calls GetStatusChange, because the wrapper keeps one buffer per reader
// name for the whole process.
func (r *Reader) watch() {
	defer close(r.done)
	defer func() {
		if r.stuck == nil {
			watching.Unlock()
			return
		}
		go func() { <-r.stuck; watching.Unlock() }()
	}()
	// A service that was replaced is found soon, one that is missing for good costs little.
	const soon, seldom = 50 * time.Millisecond, time.Second
	pause := soon
	for r.ctx.Err() == nil {
		r.turn()
		sc, err := r.establish(r.ctx)
		if err == nil {
			pause = soon
			err = r.follow(sc)
			go func(stuck <-chan struct{}) {
				if stuck != nil { // the cancel must reach a context that still exists
					sc.Cancel()
					<-stuck
				}
				sc.Release()
			}(r.stuck)
		}
		if r.ctx.Err() != nil {
			return
		}
		if !errors.Is(err, reader.ErrHung) && !errors.Is(err, reader.ErrReaderGone) {
			err = fmt.Errorf("%w: %w", reader.ErrNoService, err)
		}
		r.publish(slot{err: err})
		select {
		case <-time.After(pause):
		case <-r.ctx.Done():
		}
		pause = min(2*pause, seldom)
		if r.stuck != nil { // one status call at a time, see ErrOpen; it ends when the daemon is replaced
			r.parked.Store(true)
			select {
			case <-r.stuck:
				r.stuck = nil
			case <-r.ctx.Done():
			}
			r.turn()
			r.parked.Store(false)
		}
	}
}

// pnp is the pseudo reader whose state changes when a reader comes or goes.
const pnp = `\\?PnP?\Notification`

// slotOf reads what the service says about a reader. known is false while it does not say whether there is a card: a card that
// is found in a new reader is powered before it is told of, and until then it says nothing.
func slotOf(s scard.StateFlag, name string) (_ slot, known bool) {
	const counter = 16 // of events, in the upper half
	switch {
	case s&(scard.StateUnknown|scard.StateUnavailable|scard.StateIgnore) != 0:
		return slot{err: reader.ErrReaderGone}, true
	case s&(scard.StatePresent|scard.StateEmpty) == 0:
		return slot{}, false
	}
	return slot{present: s&scard.StatePresent != 0, seen: s>>counter > 0, name: name}, true
}

// unknownAgain is how long the service is left alone when it does not know the state of a slot.
const unknownAgain = 20 * time.Millisecond

// follow keeps the slot up to date until the service fails.
func (r *Reader) follow(sc *scard.Context) error {
	state := scard.ReaderState{}
	notify := scard.ReaderState{Reader: pnp}
	var since time.Time // when the reader was seen first of which the service does not know yet whether it has a card
	for r.ctx.Err() == nil {
		r.turn()
		// A reader that comes between two calls is reported by none: pcsc-lite compares with the begin of the call. So the list is
		// looked at before each.
		if state.CurrentState&scard.StatePresent == 0 {
			name, err := r.find(sc)
			r.turn()
			switch {
			case errors.Is(err, reader.ErrSeveral):
				state = scard.ReaderState{}
				r.publish(slot{err: err})
			case err != nil:
				return err
			case name == "":
				state = scard.ReaderState{}
				r.publish(slot{err: reader.ErrReaderGone})
			case name != state.Reader:
				state = scard.ReaderState{Reader: name}
			}
		}
		states := []scard.ReaderState{notify}
		timeout := r.cfg.CheckInterval
		if state.Reader != "" {
			states = append(states, state)
			if state.CurrentState == scard.StateUnaware {
				timeout = 0 // answers at once with the present state
			}
		}
		returned := make(chan struct{})
		_, err := call(r.ctx, timeout+r.cfg.CallTimeout, nil, nil, func() (struct{}, error) {
			defer close(returned)
			return struct{}{}, sc.GetStatusChange(states, timeout)
		}, nil)
		select {
		case <-returned:
		default:
			r.stuck = returned
		}
		switch {
		case errors.Is(err, scard.ErrTimeout):
			continue
		case errors.Is(err, scard.ErrUnknownReader), errors.Is(err, scard.ErrReaderUnavailable):
			state = scard.ReaderState{}
			r.publish(slot{err: reader.ErrReaderGone})
			continue
		case err != nil:
			return translate("watch reader", err)
		}
		// The state is handed back without CHANGED but with the counter in its upper half, so that a change that happens
		// between two calls is reported by the next.
		notify.CurrentState = states[0].EventState &^ scard.StateChanged
		if state.Reader == "" {
			continue
		}
		now := states[1].EventState
		next, known := slotOf(now, state.Reader)
		if !known {
			// Nobody may take the slot for empty meanwhile, and a reader with which the service does not come to an end hangs.
			if since.IsZero() {
				since = time.Now()
			}
			if time.Since(since) > 4*r.cfg.CallTimeout { // a mute card is tried with every voltage
				return fmt.Errorf("watch reader: no state of the slot: %w", reader.ErrHung)
			}
			select {
			case <-time.After(unknownAgain):
			case <-r.ctx.Done():
			}
			continue
		}
		since = time.Time{}
		if r.publish(next); next.err == nil {
			go r.ask(state.Reader, now&(scard.StateInuse|scard.StateExclusive) != 0)
		}
		if now&scard.StateUnknown != 0 {
			state = scard.ReaderState{} // not listed any more; look for it anew
			continue
		}
		state.CurrentState = now &^ scard.StateChanged
	}
	return r.ctx.Err()
}

// ask asks the reader for its features over a connection without card, unless they are known or a program, which we
// would disturb, uses the reader.
func (r *Reader) ask(name string, inUse bool) {
	r.detecting.Lock()
	defer r.detecting.Unlock()
	r.mu.Lock()
	known := r.pad != nil
	r.mu.Unlock()
	if !known && !inUse {
		// Nothing can be done about an error here: Connect asks again, and reports it.
		_ = r.direct(name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slot.err == nil && !r.asked {
		r.asked = true
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

func (r *Reader) direct(name string) error {
	sc, err := r.establish(r.ctx)
	if err != nil {
		return err
	}
	h, err := r.handle(r.ctx, sc, name, scard.ShareDirect, scard.ProtocolUndefined)
	if err != nil {
		release(sc)
		return err
	}
	c := &card{r: r, sc: sc, h: h}
	_, err = c.detect(r.ctx)
	return errors.Join(err, c.disconnect(scard.LeaveCard))
}

// handle connects to the reader.
func (r *Reader) handle(ctx context.Context, sc *scard.Context, name string, mode scard.ShareMode, protocol scard.Protocol) (*scard.Card, error) {
	_, broken := r.current()
	h, err := call(ctx, r.cfg.CallTimeout, broken, r.cause, func() (*scard.Card, error) {
		return sc.Connect(name, mode, protocol)
	}, func(h *scard.Card, err error) {
		if err == nil {
			go h.Disconnect(scard.UnpowerCard)
		}
	})
	return h, translate("connect to "+name, err)
}

// find looks for the wanted reader among those listed; "" if it is not there, ErrSeveral if more than one could be meant.
func (r *Reader) find(sc *scard.Context) (string, error) {
	names, err := call(r.ctx, r.cfg.CallTimeout, nil, nil, sc.ListReaders, nil)
	if err != nil && !errors.Is(err, scard.ErrNoReadersAvailable) {
		return "", translate("list readers", err)
	}
	return choose(names, r.cfg.Name)
}

// choose takes the only reader that has want in its name.
func choose(names []string, want string) (string, error) {
	found := ""
	for _, n := range names {
		switch {
		case !strings.Contains(strings.ToLower(n), strings.ToLower(want)):
		case found == "":
			found = n
		case device(n) != device(found):
			return "", fmt.Errorf("%q and %q: %w", found, n, reader.ErrSeveral)
		}
	}
	return found, nil
}

// device is what the names of all slots of one reader have in common: PC/SC appends the number of the reader and that of
// the slot, two hexadecimal digits each.
func device(name string) string {
	if i := strings.LastIndexByte(name, ' '); i >= 0 {
		return name[:i]
	}
	return name
}
