package usbredir

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
)

// Host is the other side of the wire: what QEMU is to a port. It serves the tests of devices without a virtual machine.
type Host struct {
	conn net.Conn

	mu        sync.Mutex
	id        uint64
	waiting   map[uint64]chan message
	connected bool
	changed   chan struct{}
	// interrupts are the packets of interrupt endpoints.
	interrupts chan []byte
}

// Dial connects a host to a port.
func Dial(path string) (*Host, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("usb host: %w", err)
	}
	h := &Host{conn: c, waiting: map[uint64]chan message{}, changed: make(chan struct{}), interrupts: make(chan []byte, 64)}
	in := bufio.NewReader(c)
	if _, err = c.Write(hello()); err == nil {
		_, _, err = readHello(in)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	go h.read(in)
	return h, nil
}

// Close takes the host away.
func (h *Host) Close() error { return h.conn.Close() }

func (h *Host) read(in *bufio.Reader) {
	for {
		m, err := readMessage(in)
		h.mu.Lock()
		switch {
		case err != nil, m.kind == typeDeviceDisconnect:
			h.connected = false
			for id, c := range h.waiting {
				close(c)
				delete(h.waiting, id)
			}
			if err == nil {
				h.conn.Write(message{kind: typeDisconnectAck}.encode())
			}
			h.notify()
		case m.kind == typeDeviceConnect:
			h.connected = true
			h.notify()
		case m.kind == typeInterrupt && len(m.body) > 4:
			select {
			case h.interrupts <- m.body[4:]:
			default:
			}
		case h.waiting[m.id] != nil:
			h.waiting[m.id] <- m
			delete(h.waiting, m.id)
		}
		h.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (h *Host) notify() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// WaitDevice waits until a device is there, or is not.
func (h *Host) WaitDevice(ctx context.Context, there bool) error {
	for {
		h.mu.Lock()
		now, c := h.connected, h.changed
		h.mu.Unlock()
		if now == there {
			return nil
		}
		select {
		case <-c:
		case <-ctx.Done():
			return fmt.Errorf("usb host: wait for a device: %w", ctx.Err())
		}
	}
}

// ask sends a message and waits for the answer with its number. When the context ends, the transfer is cancelled.
func (h *Host) ask(ctx context.Context, kind uint32, body []byte) ([]byte, error) {
	h.mu.Lock()
	h.id++
	id, c := h.id, make(chan message, 1)
	h.waiting[id] = c
	h.mu.Unlock()
	if _, err := h.conn.Write(message{kind, id, body}.encode()); err != nil {
		return nil, fmt.Errorf("usb host: %w", err)
	}
	select {
	case m, ok := <-c:
		if !ok {
			return nil, ErrGone
		}
		return m.body, nil
	case <-ctx.Done():
		h.conn.Write(message{typeCancelData, id, nil}.encode())
		return nil, ctx.Err()
	}
}

// Configure selects the configuration, as the guest's kernel does first.
func (h *Host) Configure(ctx context.Context) error {
	_, err := h.ask(ctx, typeSetConfiguration, []byte{1})
	return err
}

// Control sends a request on the control endpoint.
func (h *Host) Control(ctx context.Context, s Setup, data []byte) ([]byte, Status, error) {
	b := []byte{s.RequestType & dirIn, s.Request, s.RequestType, 0}
	for _, v := range []uint16{s.Value, s.Index, s.Length} {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	b, err := h.ask(ctx, typeControl, append(b, data...))
	if err != nil {
		return nil, 0, err
	}
	if len(b) < headControl {
		return nil, 0, ErrProtocol
	}
	return b[headControl:], Status(b[3]), nil
}

// Out sends a transfer to a bulk endpoint.
func (h *Host) Out(ctx context.Context, endpoint byte, data []byte) (Status, error) {
	b, err := h.ask(ctx, typeBulk, bulk{endpoint: endpoint, length: len(data), data: data}.encode())
	if err != nil {
		return 0, err
	}
	p, err := parseBulkAnswer(b)
	return p.status, err
}

// In asks a bulk endpoint for up to n octets.
func (h *Host) In(ctx context.Context, endpoint byte, n int) ([]byte, Status, error) {
	b, err := h.ask(ctx, typeBulk, bulk{endpoint: endpoint, length: n}.encode())
	if err != nil {
		return nil, 0, err
	}
	p, err := parseBulkAnswer(b)
	return p.data, p.status, err
}

func parseBulkAnswer(b []byte) (bulk, error) {
	if len(b) < headBulk {
		return bulk{}, ErrProtocol
	}
	return bulk{endpoint: b[0], status: Status(b[1]), data: b[headBulk:]}, nil
}

// Poll begins to ask an interrupt endpoint, or ends it.
func (h *Host) Poll(ctx context.Context, endpoint byte, on bool) (Status, error) {
	kind := uint32(typeStartInterrupt)
	if !on {
		kind = typeStopInterrupt
	}
	b, err := h.ask(ctx, kind, []byte{endpoint})
	if err != nil || len(b) < 2 {
		return 0, err
	}
	return Status(b[0]), nil
}

// Interrupt waits for a packet of an interrupt endpoint.
func (h *Host) Interrupt(ctx context.Context) ([]byte, error) {
	select {
	case b := <-h.interrupts:
		return b, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("usb host: wait for an interrupt packet: %w", ctx.Err())
	}
}
