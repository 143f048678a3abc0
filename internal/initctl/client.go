package initctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// ErrNoInit says that adv-init does not answer.
var ErrNoInit = errors.New("init does not answer")

// Client is the kiosk's side. It follows the state from [Dial] on and is a card service for kiosk/supervise.
type Client struct {
	conn net.Conn
	// ping asks the card service for a sign of life.
	ping func(context.Context) error

	write sync.Mutex // one message at a time

	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]chan Fault
	state   State
	known   bool          // state holds something
	changed chan struct{} // closed and replaced when state changes
	exited  chan struct{} // closed when the start counted in starts is gone
	starts  int
	err     error // why the conversation ended; nil while it goes on
}

// stateID is the id of the one state request.
const stateID = 1

// Dial connects to the adv-init behind a socket and returns when the first state is there. ping asks the card service
// itself for a sign of life (hw/reader/pcscd.Ping on its socket).
func Dial(ctx context.Context, socket string, ping func(context.Context) error) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoInit, err)
	}
	c := newClient(conn, ping)
	if err := c.send(Request{ID: stateID, Op: OpState}); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%w: %w", ErrNoInit, err)
	}
	go c.listen()
	if _, err := c.Wait(ctx, func(State) bool { return true }); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%w: %w", ErrNoInit, err)
	}
	return c, nil
}

func newClient(conn net.Conn, ping func(context.Context) error) *Client {
	return &Client{
		conn: conn, ping: ping, nextID: stateID, waiting: make(map[uint64]chan Fault),
		changed: make(chan struct{}), exited: make(chan struct{}),
	}
}

// Close ends the conversation.
func (c *Client) Close() error { return c.conn.Close() }

// State is the newest state, and a channel that is closed when there is a newer one or the conversation ends.
func (c *Client) State() (State, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Clone(), c.changed
}

// Err is why the conversation ended, nil while it goes on.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Wait returns the first state that satisfies ok. It fails when ctx or the conversation ends.
func (c *Client) Wait(ctx context.Context, ok func(State) bool) (State, error) {
	for {
		c.mu.Lock()
		s, known, changed, err := c.state.Clone(), c.known, c.changed, c.err
		c.mu.Unlock()
		if known && ok(s) {
			return s, nil
		}
		if err != nil {
			return State{}, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return State{}, context.Cause(ctx)
		}
	}
}

// Ping asks the card service for a sign of life.
func (c *Client) Ping(ctx context.Context) error {
	if c.ping == nil {
		return nil
	}
	return c.ping(ctx)
}

// Exited is closed when the present process of the card service is gone, or adv-init is.
func (c *Client) Exited() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exited
}

// Restart has the present process of the card service killed and returns when the next one is ready. If adv-init has
// replaced it already, the new one is left alone.
func (c *Client) Restart(ctx context.Context) error {
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	c.nextID++
	id, done := c.nextID, make(chan Fault, 1)
	c.waiting[id] = done
	start := c.starts
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	if err := c.send(Request{ID: id, Op: OpRestart, Service: PCSCD, Start: start}); err != nil {
		return fmt.Errorf("restart %s: %w", PCSCD, err)
	}
	var fault Fault
	select {
	case f, ok := <-done:
		if !ok {
			return fmt.Errorf("restart %s: %w", PCSCD, c.Err())
		}
		fault = f
	case <-ctx.Done():
		return fmt.Errorf("restart %s: %w", PCSCD, context.Cause(ctx))
	}
	if fault != FaultNone {
		return fmt.Errorf("restart %s: %w", PCSCD, fault)
	}
	// The caller asks Exited next: it must be about the new process.
	_, err := c.Wait(ctx, func(s State) bool { v := s.Services[PCSCD]; return v.Starts > start && v.State == ServiceRunning })
	if err != nil {
		return fmt.Errorf("restart %s: %w", PCSCD, err)
	}
	return nil
}

// SetSlot has adv-init remember what is in the reader's slot. It returns when that is said, not when it is done.
func (c *Client) SetSlot(slot Slot) error {
	c.mu.Lock()
	c.nextID++
	id := c.nextID
	c.mu.Unlock()
	if err := c.send(Request{ID: id, Op: OpSlot, Slot: slot}); err != nil {
		return fmt.Errorf("remember the slot: %w", err)
	}
	return nil
}

func (c *Client) send(r Request) error {
	b, err := encode(r)
	if err != nil {
		return err
	}
	c.write.Lock()
	defer c.write.Unlock()
	c.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, err = c.conn.Write(b)
	return err
}

func (c *Client) listen() {
	in := bufio.NewScanner(c.conn)
	in.Buffer(make([]byte, 0, 4096), MaxLine)
	var err error
	for in.Scan() {
		var r Reply
		if r, err = ParseReply(in.Bytes()); err != nil {
			break
		}
		c.take(r)
	}
	c.conn.Close()
	if err == nil {
		if err = in.Err(); err == nil {
			err = io.EOF
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = fmt.Errorf("%w: %w", ErrNoInit, err)
	close(c.changed)
	c.changed = make(chan struct{})
	if !c.gone() {
		close(c.exited)
	}
	for id, w := range c.waiting {
		close(w)
		delete(c.waiting, id)
	}
}

func (c *Client) take(r Reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.ID != stateID {
		if w := c.waiting[r.ID]; w != nil {
			delete(c.waiting, r.ID)
			w <- r.Error
		}
		return
	}
	if r.State == nil {
		return
	}
	c.state, c.known = *r.State, true
	// A start is gone when it is not the newest any more or no longer runs; Exited is then about the next one as soon as
	// that is ready.
	v := r.State.Services[PCSCD]
	up := v.State == ServiceRunning
	if (v.Starts != c.starts || !up) && !c.gone() {
		close(c.exited)
	}
	if up && c.gone() {
		c.exited = make(chan struct{})
	}
	c.starts = v.Starts
	close(c.changed)
	c.changed = make(chan struct{})
}

// gone reports whether exited is closed; mu is held.
func (c *Client) gone() bool {
	select {
	case <-c.exited:
		return true
	default:
		return false
	}
}
