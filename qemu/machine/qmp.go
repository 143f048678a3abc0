package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

// maxLine bounds one message of the monitor.
const maxLine = 16 << 20

// Event is what the machine tells by itself.
type Event struct {
	Name string
	Data json.RawMessage
}

// MonitorError is the monitor's refusal of a command.
type MonitorError struct{ Command, Class, Text string }

func (e *MonitorError) Error() string {
	return fmt.Sprintf("monitor: %s: %s (%s)", e.Command, e.Text, e.Class)
}

// ErrEnded: the machine is not running any more.
var ErrEnded = errors.New("the machine has ended")

// Monitor speaks QMP, QEMU's control protocol: one JSON object per line. Its methods may be called by several goroutines.
type Monitor struct {
	conn net.Conn

	command sync.Mutex // one command at a time
	answers chan qmpMessage

	mu     sync.Mutex
	events []Event
	wake   chan struct{} // closed at the next event or the end
	err    error         // of the reading side
}

// qmpMessage is everything that the monitor may say.
type qmpMessage struct {
	Greeting json.RawMessage `json:"QMP"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

// parseQMP reads one line.
func parseQMP(line []byte) (qmpMessage, error) {
	var m qmpMessage
	if err := json.Unmarshal(line, &m); err != nil {
		return m, fmt.Errorf("monitor: %w", err)
	}
	n := 0
	for _, is := range []bool{m.Greeting != nil, m.Return != nil, m.Error != nil, m.Event != ""} {
		if is {
			n++
		}
	}
	if n != 1 {
		return m, errors.New("monitor: a message that is neither greeting, answer nor event")
	}
	return m, nil
}

// newMonitor does the greeting.
func newMonitor(c net.Conn) (*Monitor, error) {
	m := &Monitor{conn: c, answers: make(chan qmpMessage), wake: make(chan struct{})}
	go m.read()
	g, ok := <-m.answers
	if !ok {
		return nil, m.failure()
	}
	if g.Greeting == nil {
		return nil, errors.New("monitor: no greeting")
	}
	_, err := m.Execute(context.Background(), "qmp_capabilities", nil)
	return m, err
}

func (m *Monitor) read() {
	in := bufio.NewScanner(m.conn)
	in.Buffer(make([]byte, 1<<16), maxLine)
	var err error
	for in.Scan() {
		var q qmpMessage
		if q, err = parseQMP(in.Bytes()); err != nil {
			break
		}
		if q.Event == "" {
			m.answers <- q
			continue
		}
		m.mu.Lock()
		m.events = append(m.events, Event{q.Event, q.Data})
		close(m.wake)
		m.wake = make(chan struct{})
		m.mu.Unlock()
	}
	m.conn.Close()
	m.mu.Lock()
	if m.err = errors.Join(err, in.Err()); m.err == nil {
		m.err = ErrEnded
	}
	close(m.wake)
	m.mu.Unlock()
	close(m.answers)
}

func (m *Monitor) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Execute gives a command; args is encoded as its arguments, nil for none.
func (m *Monitor) Execute(ctx context.Context, command string, args any) (json.RawMessage, error) {
	m.command.Lock()
	defer m.command.Unlock()
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, args})
	if err != nil {
		return nil, fmt.Errorf("monitor: %s: %w", command, err)
	}
	if _, err := m.conn.Write(append(b, '\n')); err != nil {
		return nil, fmt.Errorf("monitor: %s: %w", command, errors.Join(err, ErrEnded))
	}
	select {
	case q, ok := <-m.answers:
		switch {
		case !ok:
			return nil, fmt.Errorf("monitor: %s: %w", command, m.failure())
		case q.Error != nil:
			return nil, &MonitorError{command, q.Error.Class, q.Error.Desc}
		}
		return q.Return, nil
	case <-ctx.Done(): // its answer would be taken for the next command's
		m.conn.Close()
		return nil, fmt.Errorf("monitor: %s: %w", command, ctx.Err())
	}
}

// Events returns how many events there have been.
func (m *Monitor) Events() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.events)
}

// WaitEvent waits for an event, among those after the first n.
func (m *Monitor) WaitEvent(ctx context.Context, n int, name string) (Event, error) {
	for {
		m.mu.Lock()
		for ; n < len(m.events); n++ {
			if e := m.events[n]; e.Name == name {
				m.mu.Unlock()
				return e, nil
			}
		}
		err, wake := m.err, m.wake
		m.mu.Unlock()
		if err != nil {
			return Event{}, fmt.Errorf("monitor: wait for event %s: %w", name, err)
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return Event{}, fmt.Errorf("monitor: wait for event %s: %w", name, ctx.Err())
		}
	}
}
