package usbredir

import (
	"net"
	"sync"
)

// maxQueued bounds what a device may have queued for one endpoint, in transfers.
const maxQueued = 4096

// Link is a device's way to the host, from Attached to Detached. Its methods may be called by any goroutine.
type Link struct {
	conn net.Conn
	out  *writer

	greeted, introduced bool // Port.mu guards them
	description         Description
	configuration       byte

	mu      sync.Mutex
	ended   bool
	asked   []request         // of the host, in their order
	ready   map[byte][][]byte // data that waits for the host to ask
	polling map[byte]bool     // interrupt endpoints that the host asks
	dying   bool
	budget  int // octets until the device is dead
}

// request is a bulk transfer that the host waits for.
type request struct {
	id uint64
	bulk
}

// writer sends messages in their order without making anyone wait for the peer.
type writer struct {
	mu     sync.Mutex
	wake   chan struct{}
	queue  []byte
	closed bool
}

func newLink(c net.Conn) *Link {
	l := &Link{conn: c, out: &writer{wake: make(chan struct{}, 1)}}
	l.clear()
	go l.out.run(c)
	return l
}

// renew is a link for the next device on the same connection.
func (l *Link) renew() *Link {
	n := &Link{conn: l.conn, out: l.out, greeted: true}
	n.clear()
	return n
}

func (l *Link) clear() { l.ready, l.polling = map[byte][][]byte{}, map[byte]bool{} }

func (w *writer) run(c net.Conn) {
	for range w.wake {
		w.mu.Lock()
		b, closed := w.queue, w.closed
		w.queue = nil
		w.mu.Unlock()
		if len(b) > 0 {
			if _, err := c.Write(b); err != nil {
				c.Close() // the reading side ends the connection
			}
		}
		if closed {
			return
		}
	}
}

func (w *writer) send(b []byte) {
	w.mu.Lock()
	if !w.closed {
		w.queue = append(w.queue, b...)
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (l *Link) stopWriting() {
	l.out.mu.Lock()
	l.out.closed = true
	l.out.mu.Unlock()
	select {
	case l.out.wake <- struct{}{}:
	default:
	}
}

func (l *Link) send(m message) { l.out.send(m.encode()) }

// end makes the link useless for its device.
func (l *Link) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.asked = nil
	l.clear()
}

// reset forgets all transfers, as a reset of the bus does.
func (l *Link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = nil
	l.clear()
}

func (l *Link) has(ep byte, k Kind) bool {
	for _, f := range l.description.Interfaces {
		for _, e := range f.Endpoints {
			if e.Address == ep && e.Kind == k {
				return true
			}
		}
	}
	return false
}

// poll notes that the host asks an interrupt endpoint, or does no more. It tells whether it began to.
func (l *Link) poll(ep byte, on bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	began := on && !l.polling[ep]
	l.polling[ep] = on
	return began
}

// ask notes a transfer that the host waits for.
func (l *Link) ask(id uint64, b bulk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.asked) >= maxQueued {
		b.status, b.length, b.data = StatusIOError, 0, nil
		l.send(message{typeBulk, id, b.encode()})
		return
	}
	b.data = nil
	l.asked = append(l.asked, request{id, b})
	l.match()
}

// match gives waiting data to waiting requests. l.mu is held.
func (l *Link) match() {
	for i := 0; i < len(l.asked); {
		r := l.asked[i]
		q := l.ready[r.endpoint]
		if r.endpoint&dirIn == 0 || len(q) == 0 || l.dying && l.budget <= 0 {
			i++
			continue
		}
		data := q[0]
		if len(data) > r.length { // the rest is for the next request
			l.ready[r.endpoint][0] = data[r.length:]
			data = data[:r.length]
		} else {
			l.ready[r.endpoint] = q[1:]
		}
		if l.dying && len(data) >= l.budget {
			// It dies inside this transfer, which therefore never ends.
			l.budget = 0
			i++
			continue
		}
		l.budget -= len(data)
		l.asked = append(l.asked[:i], l.asked[i+1:]...)
		r.data, r.length = data, len(data)
		l.send(message{typeBulk, r.id, r.encode()})
	}
}

// cancel ends a transfer without data. It tells to which endpoint it went.
func (l *Link) cancel(id uint64) (endpoint byte, found bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, r := range l.asked {
		if r.id == id {
			l.asked = append(l.asked[:i], l.asked[i+1:]...)
			r.status, r.length = StatusCancelled, 0
			l.send(message{typeBulk, id, r.encode()})
			return r.endpoint, true
		}
	}
	return 0, false
}

func (l *Link) dead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dying && l.budget <= 0
}

// In gives data to a bulk endpoint; it goes when the host asks. Each call is the end of a transfer. The error is ErrGone.
func (l *Link) In(endpoint byte, data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || len(l.ready[endpoint]) >= maxQueued {
		return ErrGone
	}
	l.ready[endpoint] = append(l.ready[endpoint], data)
	l.match()
	return nil
}

// Forget drops the data that waits at a bulk endpoint.
func (l *Link) Forget(endpoint byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.ready, endpoint)
}

// Interrupt gives data to an interrupt endpoint. It reports false, and drops the data, if the host does not ask that
// endpoint at present or is gone; [Device.Polled] tells when it begins to.
func (l *Link) Interrupt(endpoint byte, data []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || !l.polling[endpoint] || l.dying && l.budget <= 0 {
		return false
	}
	l.send(message{typeInterrupt, 0, interrupt(endpoint, StatusOK, data)})
	return true
}

// control answers a request on the control endpoint: the standard ones here, the others by the device.
func (l *Link) control(d Device, c control) ([]byte, bool) {
	const (
		getStatus, clearFeature, setFeature, getDescriptor = 0, 1, 3, 6
		standard                                           = 0x60 // bits of the request type, zero for standard requests
	)
	s := c.setup
	if c.endpoint&0x0F != 0 {
		return nil, false
	}
	if s.RequestType&standard == 0 {
		switch {
		case s.Request == getDescriptor && s.RequestType == dirIn:
			return l.description.descriptor(byte(s.Value>>8), byte(s.Value))
		case s.Request == getStatus && s.RequestType&dirIn != 0:
			return []byte{0, 0}, true
		case s.Request == clearFeature && s.RequestType == 2: // endpoint halt: nothing here halts for long
			return nil, true
		case s.Request == setFeature || s.Request == clearFeature:
			return nil, false
		}
	}
	return d.Control(s, c.data)
}
