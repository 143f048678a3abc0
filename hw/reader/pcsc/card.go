//go:build pcsc

package pcsc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ebfe/scard"

	"ktradv/hw/apdu"
	"ktradv/hw/reader"
)

// Connect powers the card in the slot and connects to it. A reader that is in use is tried again for a moment: the
// terminal's other process may be asking for the features just then, or may not have let go of the card yet.
func (r *Reader) Connect(ctx context.Context) (reader.Card, error) {
	const patience, pause = 500 * time.Millisecond, 5 * time.Millisecond
	last := time.NewTimer(patience)
	defer last.Stop()
	for {
		c, err := r.connect(ctx)
		if !errors.Is(err, reader.ErrInUse) {
			return c, err
		}
		select {
		case <-time.After(pause):
		case <-last.C:
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (r *Reader) connect(ctx context.Context) (reader.Card, error) {
	s, _ := r.current()
	if s.err != nil {
		return nil, fmt.Errorf("connect: %w", s.err)
	}
	sc, err := r.establish(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	mode := scard.ShareExclusive
	if r.cfg.Shared {
		mode = scard.ShareShared
	}
	h, err := r.handle(ctx, sc, s.name, mode, scard.ProtocolT1)
	if err != nil {
		release(sc)
		return nil, r.judge(err)
	}
	c := &card{r: r, sc: sc, h: h}
	c.Transmitter = apdu.FromRaw(apdu.RawFunc(c.transmit))
	if err := c.begin(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect: %w", err), c.Disconnect())
	}
	return c, nil
}

// judge looks at the slot when an exchange failed without a reason: a card or reader that is gone is the reason.
func (r *Reader) judge(err error) error {
	if !errors.Is(err, reader.ErrTransmission) {
		return err
	}
	// pcscd asks for presence as soon as the failed exchange is over, and the watcher learns of it at once.
	const patience = 500 * time.Millisecond
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	var reason error
	if r.wait(ctx, func(s slot) (bool, error) {
		if reason = s.err; reason == nil && !s.present {
			reason = reader.ErrCardRemoved
		}
		return reason != nil, nil
	}) == nil {
		return fmt.Errorf("%w: %w", reason, err)
	}
	return err
}

// card is a connection to a card.
type card struct {
	apdu.Transmitter
	r   *Reader
	sc  *scard.Context
	h   *scard.Card
	pad *reader.Pad
	atr []byte

	mu   sync.Mutex
	dead error // why no further call is made
}

var _ reader.Card = (*card)(nil)

// APDULimits keeps package cos from sending what the reader cannot move.
func (c *card) APDULimits() (command, response int) { return c.pad.Features().APDULimits() }

// begin reads the ATR and, if nobody did before, the reader's features.
func (c *card) begin(ctx context.Context) error {
	if err := c.readATR(ctx); err != nil {
		return err
	}
	var err error
	c.pad, err = c.detect(ctx)
	return err
}

func (c *card) readATR(ctx context.Context) error {
	st, err := do(ctx, c, "status", c.r.cfg.CallTimeout, c.h.Status)
	if err != nil {
		return err
	}
	c.atr = st.Atr
	return nil
}

// detect returns the reader's pad, asking for it if it is not known yet.
func (c *card) detect(ctx context.Context) (*reader.Pad, error) {
	r := c.r
	r.mu.Lock()
	pad, name := r.pad, r.slot.name
	r.mu.Unlock()
	if pad != nil {
		return pad, nil
	}
	pad, err := reader.DetectPad(ctx, controller{c, r.cfg.CallTimeout}, name, r.cfg.Models)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slot.name == name {
		r.pad = pad
	}
	return pad, nil
}

// do makes one call on the card's handle. A call that did not return, or that was given up, makes the connection dead:
// the library's lock is held by the call that was left behind.
func do[T any](ctx context.Context, c *card, op string, timeout time.Duration, f func() (T, error)) (T, error) {
	var zero T
	c.mu.Lock()
	dead := c.dead
	c.mu.Unlock()
	if dead != nil {
		return zero, fmt.Errorf("%s: %w", op, dead)
	}
	_, broken := c.r.current()
	v, err := call(ctx, timeout, broken, c.r.cause, f, nil)
	var e scard.Error
	if err != nil && !errors.As(err, &e) {
		c.mu.Lock()
		c.dead = err
		c.mu.Unlock()
	}
	if err != nil {
		return zero, c.r.judge(translate(op, err))
	}
	return v, nil
}

// ATR is the answer to reset.
func (c *card) ATR() []byte { return c.atr }

// transmit moves one command. The library reads the first octet unasked, so there has to be one.
func (c *card) transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if len(cmd) < 4 {
		return nil, fmt.Errorf("transmit: %w: %d octets", apdu.ErrMalformedCommand, len(cmd))
	}
	if c.pad.Features().ShortOnly && len(cmd) > 5 && cmd[4] == 0 {
		return nil, fmt.Errorf("transmit: %w", reader.ErrExtended)
	}
	return do(ctx, c, "transmit", c.r.cfg.CallTimeout, func() ([]byte, error) { return c.h.Transmit(cmd) })
}

type controller struct {
	c       *card
	timeout time.Duration
}

func (k controller) Control(ctx context.Context, code uint32, in []byte) ([]byte, error) {
	return do(ctx, k.c, "control", k.timeout, func() ([]byte, error) { return k.c.h.Control(code, in) })
}

// VerifyPIN blocks while the person types. The end of the context ends the waiting, and the connection with it, but not
// the entry at the reader: only the person, the removal of the card or the time-out do that.
func (c *card) VerifyPIN(ctx context.Context, q reader.PINRequest) (reader.PINResult, error) {
	return c.pad.Verify(ctx, controller{c, reader.VerifyDeadline}, q)
}

// ModifyPIN is as VerifyPIN.
func (c *card) ModifyPIN(ctx context.Context, q reader.PINRequest) (reader.PINResult, error) {
	return c.pad.Modify(ctx, controller{c, reader.ModifyDeadline}, q)
}

// ShowText shows a text at the reader.
func (c *card) ShowText(ctx context.Context, text string) error {
	return c.pad.ShowText(ctx, controller{c, c.r.cfg.CallTimeout}, text)
}

// Reset resets the card.
func (c *card) Reset(ctx context.Context) error {
	mode := scard.ShareExclusive
	if c.r.cfg.Shared {
		mode = scard.ShareShared
	}
	_, err := do(ctx, c, "reset", c.r.cfg.CallTimeout, func() (struct{}, error) {
		return struct{}{}, c.h.Reconnect(mode, scard.ProtocolT1, scard.ResetCard)
	})
	if err != nil {
		return err
	}
	return c.readATR(ctx)
}

var errDisconnected = errors.New("card connection closed")

// Disconnect takes the power off the card. A card that is gone, or whose service is, is disconnected already.
func (c *card) Disconnect() error { return c.disconnect(scard.UnpowerCard) }

func (c *card) disconnect(d scard.Disposition) error {
	c.mu.Lock()
	dead := c.dead
	c.dead = errDisconnected
	c.mu.Unlock()
	if errors.Is(dead, errDisconnected) {
		return nil
	}
	defer release(c.sc)
	if dead != nil {
		go c.h.Disconnect(d) // waits for the call that was left behind
		return nil
	}
	_, broken := c.r.current()
	_, err := call(context.Background(), c.r.cfg.CallTimeout, broken, c.r.cause, func() (struct{}, error) {
		return struct{}{}, c.h.Disconnect(d)
	}, nil)
	err = translate("disconnect", err)
	for _, gone := range []error{reader.ErrCardRemoved, reader.ErrReaderGone, reader.ErrReset, reader.ErrHung} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	return err
}
