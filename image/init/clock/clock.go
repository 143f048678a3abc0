// Package clock sets the terminal's time from time servers (SNTP): certificates are worth nothing under a wrong clock. It
// is a process of its own with the user "time" and the one capability to set the clock.
//
//	start                                        unset, or wrong when the clock is before the image was built or a decade after
//	servers agree, offset small                  ok: the clock is slewed
//	servers agree, offset large, first time      ok: the clock is set
//	servers agree, offset large, later           wrong until it is set (at once); reported as a jump
//	no server answers                            as before; what was confirmed once stays so for Trust
//
// It asks again at growing intervals; while there is no network, every second, so that a cable that is put in counts at once.
package clock

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"ktradv/internal/initctl"
)

// Answer is what a server said.
type Answer struct {
	Offset time.Duration // to be added to the clock
}

// Clock is the machine's clock.
type Clock interface {
	Now() time.Time
	// Step sets the clock.
	Step(offset time.Duration) error
	// Slew lets the clock drift to where it should be.
	Slew(offset time.Duration) error
}

// Config of a keeper.
type Config struct {
	// Servers names the servers to ask this time.
	Servers func() []string
	// Query asks one.
	Query func(ctx context.Context, server string) (Answer, error)
	Clock Clock
	// Built is when the image was made; the clock cannot be before it. Zero checks nothing.
	Built time.Time
	// MaxOffset is how wrong a confirmed clock may get before that is reported. Zero means 5 s.
	MaxOffset time.Duration
	// State hears every change.
	State func(initctl.Clock)
	// Stepped hears how far the clock was set, in milliseconds. Nil is allowed.
	Stepped func(ms int64)
	// Alive is called at every turn, and every Beat while there is nothing to do: the keeper does not hang. Nil is allowed.
	Alive func()
	Beat  time.Duration
}

// Times of the keeper.
const (
	stepFrom   = 200 * time.Millisecond // below, the clock is slewed
	every      = 17 * time.Minute
	retryFirst = time.Second
	retryMost  = 2 * time.Minute
	queryIn    = 3 * time.Second
	Trust      = 24 * time.Hour // how long a confirmed clock needs no confirmation
	maxServers = 6
)

// farFuture is how long after the image was built a clock can be right. Neither the kernel that Debian mends nor the roots
// of cards and servers that lie in an image last that long: whoever meets a later date has a clock that is wrong.
const farFuture = 10 * 365 * 24 * time.Hour

// Keeper keeps the clock.
type Keeper struct {
	cfg       Config
	state     initctl.Clock
	confirmed time.Duration // monotonic time of the last confirmation since start; negative for none
	start     time.Time
}

// New prepares a keeper.
func New(cfg Config) *Keeper {
	if cfg.MaxOffset <= 0 {
		cfg.MaxOffset = 5 * time.Second
	}
	return &Keeper{cfg: cfg, confirmed: -1, start: time.Now()}
}

func (k *Keeper) say(s initctl.Clock) {
	if s != k.state {
		k.state = s
		k.cfg.State(s)
	}
}

// Run keeps the clock until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	k.judge()
	retry := retryFirst
	for ctx.Err() == nil {
		pause := every
		switch err := k.once(ctx); {
		case err == nil:
			retry = retryFirst
		case errors.Is(err, syscall.ENETUNREACH): // nobody was asked
			pause, retry = retryFirst, retryFirst
		default:
			pause, retry = retry, min(2*retry, retryMost)
		}
		k.judge()
		k.wait(ctx, pause)
	}
}

// wait returns after d or when ctx ends.
func (k *Keeper) wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		var beat <-chan time.Time
		if k.cfg.Alive != nil {
			k.cfg.Alive()
			beat = time.After(k.cfg.Beat)
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-beat:
			continue
		}
		return
	}
}

// judge says what is known without asking anybody. A clock that is wrong stays so until it has been set.
func (k *Keeper) judge() {
	switch {
	case !Plausible(k.cfg.Clock.Now(), k.cfg.Built):
		k.say(initctl.ClockWrong)
	case k.state == "", k.state == initctl.ClockOK && time.Since(k.start)-k.confirmed >= Trust:
		k.say(initctl.ClockUnset)
	}
}

// Plausible reports whether a clock can be right: not before the image was built, and not a decade after.
func Plausible(now, built time.Time) bool {
	return built.IsZero() || !now.Before(built) && now.Before(built.Add(farFuture))
}

// once asks the servers and corrects the clock; nil says that the clock is confirmed.
func (k *Keeper) once(ctx context.Context) error {
	a, err := k.ask(ctx)
	if err != nil {
		return err
	}
	if !Plausible(k.cfg.Clock.Now().Add(a.Offset), k.cfg.Built) {
		return errImplausible
	}
	big := a.Offset.Abs() > k.cfg.MaxOffset
	if big && k.confirmed >= 0 {
		k.say(initctl.ClockWrong)
	}
	if a.Offset.Abs() >= stepFrom {
		if err := k.cfg.Clock.Step(a.Offset); err != nil {
			if big {
				k.say(initctl.ClockWrong)
			}
			return err
		}
		if k.cfg.Stepped != nil {
			k.cfg.Stepped(a.Offset.Milliseconds())
		}
	} else if err := k.cfg.Clock.Slew(a.Offset); err != nil {
		return err
	}
	k.confirmed = time.Since(k.start)
	k.say(initctl.ClockOK)
	return nil
}

var (
	errNoServer    = errors.New("no time server answers")
	errImplausible = errors.New("a time server is wrong itself")
)

// ask gives the answer in the middle: one server that is wrong among three does no harm. Without any, the error is that of
// the server that was asked last.
func (k *Keeper) ask(ctx context.Context) (Answer, error) {
	servers := k.cfg.Servers()
	servers = servers[:min(len(servers), maxServers)]
	ctx, cancel := context.WithTimeout(ctx, queryIn)
	defer cancel()
	type result struct {
		answer Answer
		err    error
	}
	results := make(chan result, len(servers))
	for _, s := range servers {
		go func() {
			a, err := k.cfg.Query(ctx, s)
			results <- result{a, err}
		}()
	}
	var all []Answer
	last := errNoServer
	for range servers {
		if r := <-results; r.err == nil {
			all = append(all, r.answer)
		} else {
			last = r.err
		}
	}
	if len(all) == 0 {
		return Answer{}, last
	}
	slices.SortFunc(all, func(a, b Answer) int { return int(a.Offset - b.Offset) })
	return all[len(all)/2], nil
}
