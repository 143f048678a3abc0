// Package control is the conversation between the kiosk's supervisor process and its session processes: small JSON
// messages, one per line, over a socket that the session process inherits.
//
// The supervisor keeps one session process waiting and tells it when its turn has come ([Activate]), when the card
// service is fresh ([Cards]) and how the terminal is ([Service]). The session process says when it is ready and how the
// visit ended; that it is alive shows at the display it shares with the supervisor. The supervisor trusts none of it
// further than that: lines are bounded, unknown kinds end the conversation.
package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// Kind says what a message means.
type Kind string

const (
	// Ready: the session process is set up and waits (session to supervisor).
	Ready Kind = "ready"
	// Activate: its turn has come (supervisor to session). With Wait the card service is being replaced, or the place of the
	// logs is not there yet: neither reader nor log is opened before Cards.
	Activate Kind = "activate"
	// Cards: what Wait was for is there (supervisor to session, after an Activate with Wait).
	Cards Kind = "cards"
	// Free: whether a card that was in the slot at power on can be nobody's of before is known now (supervisor to session, once
	// after an Activate with SlotFirst): Slot is SlotEmpty when it is nobody's.
	Free Kind = "free"
	// Service: how the terminal is, for the staff (supervisor to session, at any time after Ready).
	Service Kind = "service"
	// Visible: the process has drawn what is to be seen in its turn (session to supervisor).
	Visible Kind = "visible"
	// Visit: a card is being served from now on (session to supervisor).
	Visit Kind = "visit"
	// Empty: the slot was seen empty before a visit (session to supervisor).
	Empty Kind = "empty"
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

// Slot is what a session process last knew about the reader's slot, for the next one.
type Slot string

const (
	SlotUnknown Slot = ""
	SlotFirst   Slot = "first" // nobody was served since the terminal was switched on
	SlotEmpty   Slot = "empty" // it was seen empty: a card that is there now belongs to the next person
	SlotCard    Slot = "card"  // the card of the person who was served is still in
	SlotNew     Slot = "new"   // a card was put in for the next visit
)

// Message is one line.
type Message struct {
	Kind   Kind   `json:"kind"`
	Reason Reason `json:"reason,omitempty"`
	// Slot with Ended, with Activate what the process before said, and with Free.
	Slot Slot `json:"slot,omitempty"`
	// Wait with Activate.
	Wait bool `json:"wait,omitempty"`
	// Codes with Service: for the staff, each a short word of capitals, digits and hyphens, and behind a space what it is about:
	// names of the machine's parts, small letters, digits and _ + space.
	Codes []string `json:"codes,omitempty"`
}

// Bounds of a message.
const (
	maxLine  = 1024 // octets
	maxCodes = 16
	maxCode  = 32  // letters
	maxAbout = 180 // letters
)

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
	if err := m.check(); err != nil {
		return Message{}, err
	}
	return m, nil
}

// fields says which fields belong to which kind.
var fields = map[Kind]struct{ reason, slot, wait, codes bool }{
	Ready: {}, Visible: {}, Hung: {}, Cards: {}, Visit: {}, Empty: {},
	Free:     {slot: true},
	Activate: {slot: true, wait: true},
	Service:  {codes: true},
	Ended:    {reason: true, slot: true},
}

func (m Message) check() error {
	f, known := fields[m.Kind]
	switch {
	case !known:
		return fmt.Errorf("%w: unknown kind", ErrProtocol)
	case m.Reason != "" && !f.reason, m.Slot != "" && !f.slot, m.Wait && !f.wait, m.Codes != nil && !f.codes:
		return fmt.Errorf("%w: %s with a field of another kind", ErrProtocol, m.Kind)
	case f.reason && m.Reason != Served && m.Reason != Broken:
		return fmt.Errorf("%w: unknown reason", ErrProtocol)
	case !slices.Contains([]Slot{SlotUnknown, SlotFirst, SlotEmpty, SlotCard, SlotNew}, m.Slot):
		return fmt.Errorf("%w: unknown slot", ErrProtocol)
	case len(m.Codes) > maxCodes:
		return fmt.Errorf("%w: %d codes", ErrProtocol, len(m.Codes))
	}
	for _, c := range m.Codes {
		word, about, more := strings.Cut(c, " ")
		if word == "" || len(word) > maxCode || strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" ||
			more && about == "" || len(about) > maxAbout || strings.Trim(about, "abcdefghijklmnopqrstuvwxyz0123456789_+ ") != "" {
			return fmt.Errorf("%w: code", ErrProtocol)
		}
	}
	return nil
}

// Close ends the conversation.
func (c *Conn) Close() error { return c.rw.Close() }
