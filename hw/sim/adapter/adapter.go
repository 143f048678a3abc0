// Package adapter puts the simulated reader directly behind the product's reader interface, without pcscd and without
// cgo, for unit tests of everything above a reader. It behaves as ktradv/hw/reader/pcsc does over a real pcscd: calls
// have a deadline, a PIN entry cannot be cancelled by the host, a connection dies with its card.
//
// It is the only non-test code in hw/sim that knows types of the product.
package adapter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"ktradv/hw/apdu"
	"ktradv/hw/reader"
	simreader "ktradv/hw/sim/reader"
)

// Config of a direct reader.
type Config struct {
	// Name is the reader's name; "" is "Simulated reader".
	Name string
	// Models is the table of models; nil is reader.Models.
	Models []reader.Model
	// CallTimeout is the deadline of a call without PIN entry; 0 is 5 s.
	CallTimeout time.Duration
	// EntryTimeout is the deadline of a PIN entry; 0 is the product's (reader.VerifyDeadline, ModifyDeadline).
	EntryTimeout time.Duration
}

// Reader is a simulated reader behind the product's interface.
type Reader struct {
	cfg  Config
	sim  *simreader.Reader
	ctx  context.Context // ends with Close
	stop context.CancelFunc

	mu    sync.Mutex
	pad   *reader.Pad
	inUse bool
}

var (
	_ reader.Reader = (*Reader)(nil)
	_ reader.Card   = (*card)(nil)
)

// New returns a reader over sim. Several may share one sim; only one of them gets the card.
func New(sim *simreader.Reader, cfg Config) *Reader {
	if cfg.Name == "" {
		cfg.Name = "Simulated reader"
	}
	if cfg.Models == nil {
		cfg.Models = reader.Models
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = 5 * time.Second
	}
	r := &Reader{cfg: cfg, sim: sim}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// Name returns the name that was configured.
func (r *Reader) Name() string { return r.cfg.Name }

// Features asks the reader the first time.
func (r *Reader) Features() reader.Features {
	p, err := r.detect(r.ctx)
	if err != nil {
		return reader.Features{}
	}
	return p.Features()
}

func (r *Reader) detect(ctx context.Context) (*reader.Pad, error) {
	r.mu.Lock()
	p := r.pad
	r.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p, err := reader.DetectPad(ctx, controller{r, r.cfg.CallTimeout}, r.cfg.Name, r.cfg.Models)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pad = p
	return p, nil
}

// WaitReader blocks until the reader is plugged in.
func (r *Reader) WaitReader(ctx context.Context) error {
	return r.wait(ctx, func(s simreader.State) bool { return s.Plugged })
}

// WaitCard blocks until the slot is as wanted.
func (r *Reader) WaitCard(ctx context.Context, present bool) error {
	gone := false
	err := r.wait(ctx, func(s simreader.State) bool {
		gone = !s.Plugged
		return gone || s.Card == present
	})
	if err == nil && gone {
		return fmt.Errorf("wait for card: %w", reader.ErrReaderGone)
	}
	return err
}

func (r *Reader) wait(ctx context.Context, ok func(simreader.State) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	err := r.sim.Wait(ctx, ok)
	if err != nil && r.ctx.Err() != nil {
		return fmt.Errorf("wait: reader closed: %w", reader.ErrReaderGone)
	}
	return err
}

// Connect powers the card.
func (r *Reader) Connect(ctx context.Context) (reader.Card, error) {
	pad, err := r.detect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inUse {
		return nil, fmt.Errorf("connect: %w", reader.ErrInUse)
	}
	_, _, generation := r.sim.Presence()
	atr, err := call(ctx, r, r.cfg.CallTimeout, func(context.Context) ([]byte, error) { return r.sim.Power(false) })
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	r.inUse = true
	c := &card{r: r, pad: pad, atr: atr, generation: generation}
	c.Transmitter = apdu.FromRaw(apdu.RawFunc(c.transmit))
	return c, nil
}

// Close ends all waiting.
func (r *Reader) Close() error {
	r.stop()
	return nil
}

type controller struct {
	r       *Reader
	timeout time.Duration
}

func (c controller) Control(ctx context.Context, code uint32, in []byte) ([]byte, error) {
	return call(ctx, c.r, c.timeout, func(ctx context.Context) ([]byte, error) { return c.r.sim.Control(ctx, code, in) })
}

// call runs f in a goroutine of its own and waits for it until the deadline, as one does with calls that may never
// return.
func call(ctx context.Context, r *Reader, timeout time.Duration, f func(context.Context) ([]byte, error)) ([]byte, error) {
	type outcome struct {
		b   []byte
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		b, err := f(r.ctx)
		done <- outcome{b, err}
	}()
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case o := <-done:
		return o.b, translate(o.err)
	case <-t.C:
		return nil, reader.ErrHung
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func translate(err error) error {
	for _, e := range []struct{ sim, product error }{
		{simreader.ErrUnplugged, reader.ErrReaderGone},
		{simreader.ErrNoCard, reader.ErrCardRemoved},
		{simreader.ErrPower, reader.ErrMute},
		{simreader.ErrComm, reader.ErrTransmission},
		{simreader.ErrUnsupported, reader.ErrUnsupported},
	} {
		if errors.Is(err, e.sim) {
			return fmt.Errorf("%w: %w", e.product, err)
		}
	}
	return err
}

type card struct {
	apdu.Transmitter
	r          *Reader
	pad        *reader.Pad
	atr        []byte
	generation uint64
	closed     bool
}

func (c *card) ATR() []byte { return c.atr }

// APDULimits keeps the product from sending what the reader cannot move.
func (c *card) APDULimits() (command, response int) { return c.pad.Features().APDULimits() }

// alive tells whether this is still the card, and the reader, that was connected to.
func (c *card) alive() error {
	plugged, _, generation := c.r.sim.Presence()
	switch {
	case !plugged:
		return reader.ErrReaderGone
	case c.closed || generation != c.generation:
		return reader.ErrCardRemoved
	}
	return nil
}

func (c *card) transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if err := c.alive(); err != nil {
		return nil, err
	}
	if c.pad.Features().ShortOnly && len(cmd) > 5 && cmd[4] == 0 {
		return nil, reader.ErrExtended
	}
	return call(ctx, c.r, c.r.cfg.CallTimeout, func(ctx context.Context) ([]byte, error) { return c.r.sim.Transmit(ctx, cmd) })
}

// entry is the deadline of a PIN entry.
func (r *Reader) entry(otherwise time.Duration) time.Duration {
	if r.cfg.EntryTimeout > 0 {
		return r.cfg.EntryTimeout
	}
	return otherwise
}

func (c *card) VerifyPIN(ctx context.Context, q reader.PINRequest) (reader.PINResult, error) {
	if err := c.alive(); err != nil {
		return reader.PINResult{}, err
	}
	return c.pad.Verify(ctx, controller{c.r, c.r.entry(reader.VerifyDeadline)}, q)
}

func (c *card) ModifyPIN(ctx context.Context, q reader.PINRequest) (reader.PINResult, error) {
	if err := c.alive(); err != nil {
		return reader.PINResult{}, err
	}
	return c.pad.Modify(ctx, controller{c.r, c.r.entry(reader.ModifyDeadline)}, q)
}

func (c *card) ShowText(ctx context.Context, text string) error {
	return c.pad.ShowText(ctx, controller{c.r, c.r.cfg.CallTimeout}, text)
}

func (c *card) Reset(ctx context.Context) error {
	if err := c.alive(); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	atr, err := call(ctx, c.r, c.r.cfg.CallTimeout, func(context.Context) ([]byte, error) { return c.r.sim.Power(true) })
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	c.atr = atr
	return nil
}

func (c *card) Disconnect() error {
	if c.closed {
		return nil
	}
	alive := c.alive() == nil
	c.closed = true
	c.r.mu.Lock()
	c.r.inUse = false
	c.r.mu.Unlock()
	if !alive {
		return nil
	}
	_, err := call(context.Background(), c.r, c.r.cfg.CallTimeout, func(context.Context) ([]byte, error) { return nil, c.r.sim.PowerOff() })
	return err
}
