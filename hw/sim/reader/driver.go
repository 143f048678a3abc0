package simreader

import (
	"context"
	"time"
)

// Presence tells a driver whether the reader is plugged in and holds a card, and which generation of the slot that is.
func (r *Reader) Presence() (plugged, card bool, generation uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.plugged, r.card != nil, r.gen
}

// WaitGeneration blocks until the slot's generation is another than seen. So no change between a look at the slot and
// the wait is lost.
func (r *Reader) WaitGeneration(ctx context.Context, seen uint64) error {
	for {
		r.mu.Lock()
		c, gen := r.changed, r.gen
		r.mu.Unlock()
		if gen != seen {
			return nil
		}
		select {
		case <-c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Power switches the card on (or resets it, warm) and returns its ATR.
func (r *Reader) Power(warm bool) ([]byte, error) {
	r.slot.Lock()
	defer r.slot.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.plugged:
		return nil, ErrUnplugged
	case r.card == nil:
		return nil, ErrNoCard
	}
	r.powered = false
	r.notify()
	if r.fail.Mute {
		return nil, ErrPower
	}
	atr := r.card.Reset(warm)
	if len(atr) == 0 {
		return nil, ErrPower
	}
	r.powered = true
	return atr, nil
}

// PowerOff takes the power off the card.
func (r *Reader) PowerOff() error {
	r.slot.Lock()
	defer r.slot.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.plugged {
		return ErrUnplugged
	}
	r.powerOff()
	r.text = ""
	r.notify()
	return nil
}

// Transmit moves one command to the card and its answer back. The context ends when the driver that asked is gone.
func (r *Reader) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	r.slot.Lock()
	defer r.slot.Unlock()
	if err := r.hangIfAsked(ctx); err != nil {
		return nil, err
	}
	return r.exchange(ctx, cmd)
}

// hangIfAsked blocks if HangNext was called.
func (r *Reader) hangIfAsked(ctx context.Context) error {
	r.mu.Lock()
	asked := r.hangNext
	r.hangNext = false
	r.mu.Unlock()
	if !asked {
		return nil
	}
	return r.hang(ctx)
}

// hang blocks until Release is called or the driver goes away.
func (r *Reader) hang(ctx context.Context) error {
	r.mu.Lock()
	r.hung++
	release := r.release
	r.notify()
	r.mu.Unlock()
	select {
	case <-release:
	case <-ctx.Done():
	}
	r.mu.Lock()
	r.hung--
	r.notify()
	r.mu.Unlock()
	return ErrComm
}

// exchange is one command and response. r.slot is held.
func (r *Reader) exchange(ctx context.Context, cmd []byte) ([]byte, error) {
	r.mu.Lock()
	fail, removed, pull := r.fail, r.removed, r.pull
	err := r.ready()
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if fail.ShortOnly && extended(cmd) {
		return nil, ErrComm
	}
	if fail.Delay > 0 {
		if err := r.sleep(ctx, fail.Delay, removed); err != nil {
			return nil, err
		}
	}
	if pull != nil && pull(cmd) == PullBefore {
		r.Remove()
	}
	answer, err := r.process(cmd)
	if err != nil {
		return nil, err
	}
	if pull != nil && pull(cmd) == PullAfter {
		r.Remove()
		return nil, ErrNoCard
	}
	if len(answer) == 0 {
		return nil, ErrComm
	}
	return answer, nil
}

func (r *Reader) process(cmd []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ready(); err != nil { // it may have gone meanwhile
		return nil, err
	}
	return r.card.Process(cmd), nil
}

// Pull says at which moment of an exchange a person takes the card.
type Pull int

const (
	PullNone   Pull = iota
	PullBefore      // before the card has worked: the command has no effect
	PullAfter       // after it: the command has its effect and the answer is lost
)

// PullOn lets a person take the card during the exchanges that choose says; nil ends it. choose is called twice for
// every command, holds no lock of the reader and must not keep cmd.
func (r *Reader) PullOn(choose func(cmd []byte) Pull) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pull = choose
}

// ready tells whether there is a powered card. r.mu is held.
func (r *Reader) ready() error {
	switch {
	case !r.plugged:
		return ErrUnplugged
	case r.card == nil:
		return ErrNoCard
	case !r.powered:
		return ErrPower
	}
	return nil
}

func (r *Reader) sleep(ctx context.Context, d time.Duration, removed <-chan struct{}) error {
	over := make(chan struct{})
	stop := r.cfg.Clock.AfterFunc(d, func() { close(over) })
	defer stop()
	select {
	case <-over:
		return nil
	case <-removed:
		return ErrNoCard
	case <-ctx.Done():
		return ErrComm
	}
}

// extended tells whether a command has the extended form: Lc or Le of three octets, the first of them zero.
func extended(cmd []byte) bool { return len(cmd) > 5 && cmd[4] == 0 }
