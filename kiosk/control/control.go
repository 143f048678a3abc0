// Package control is the conversation between the kiosk's supervisor process and its session processes: small JSON
// messages, one per line, over a socket that the session process inherits.
//
// The supervisor keeps one session process waiting and tells it when its turn has come ([Activate]). The session process
// says when it is ready and how the visit ended; that it is alive shows at the display it shares with the supervisor. The supervisor trusts none of it further than that:
// lines are bounded, unknown kinds end the conversation.
package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Kind says what a message means.
type Kind string

const (
	// Ready: the session process is set up and waits (session to supervisor).
	Ready Kind = "ready"
	// Activate: its turn has come (supervisor to session).
	Activate Kind = "activate"
	// Visible: the process has drawn what is to be seen in its turn (session to supervisor).
	Visible Kind = "visible"
	// Hung: the card service did not answer in its time and must be replaced (session to supervisor). The session goes on
	// to tell the person.
	Hung Kind = "hung"
	// Ended: the visit is over; Reason says how. The process exits next (session to supervisor).
	Ended Kind = "ended"
)

// Reason of [Ended].
type Reason string

const (
	// Served: a person was served, to whatever end.
	Served Reason = "served"
	// Broken: the process cannot go on; its log says why.
	Broken Reason = "broken"
)

// Message is one line.
type Message struct {
	Kind   Kind   `json:"kind"`
	Reason Reason `json:"reason,omitempty"`
	// NewCard, with Ended and Activate: a card was put in for the next visit.
	NewCard bool `json:"new_card,omitempty"`
}

// maxLine bounds a line in octets; every message is far shorter.
const maxLine = 512

// ErrProtocol is wrapped by errors about lines that are no message.
var ErrProtocol = errors.New("control protocol broken")

// Conn sends and receives messages. Send may be called concurrently.
type Conn struct {
	mu sync.Mutex
	rw io.ReadWriteCloser
	r  *bufio.Reader
}

// New wraps a socket.
func New(rw io.ReadWriteCloser) *Conn { return &Conn{rw: rw, r: bufio.NewReaderSize(rw, maxLine)} }

// Send writes one message.
func (c *Conn) Send(m Message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", m.Kind, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.rw.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("send %s: %w", m.Kind, err)
	}
	return nil
}

// Receive reads the next message. io.EOF means that the other side is gone.
func (c *Conn) Receive() (Message, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			return Message{}, fmt.Errorf("%w: line longer than %d octets", ErrProtocol, maxLine)
		}
		return Message{}, err
	}
	var m Message
	if err := json.Unmarshal(line, &m); err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	switch m.Kind {
	case Ready, Visible, Hung:
		if m.NewCard {
			return Message{}, fmt.Errorf("%w: %s with a new card", ErrProtocol, m.Kind)
		}
		fallthrough
	case Activate:
		if m.Reason != "" {
			return Message{}, fmt.Errorf("%w: %s with a reason", ErrProtocol, m.Kind)
		}
	case Ended:
		switch m.Reason {
		case Served, Broken:
		default:
			return Message{}, fmt.Errorf("%w: unknown reason", ErrProtocol)
		}
	default:
		return Message{}, fmt.Errorf("%w: unknown kind", ErrProtocol)
	}
	return m, nil
}

// Close ends the conversation.
func (c *Conn) Close() error { return c.rw.Close() }
