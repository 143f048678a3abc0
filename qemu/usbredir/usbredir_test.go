package usbredir

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// thing is a device that gives back what it gets.
type thing struct {
	attached, detached, polled chan struct{}
	cancelled                  chan byte
	link                       *Link
}

func newThing() *thing {
	return &thing{make(chan struct{}, 9), make(chan struct{}, 9), make(chan struct{}, 9), make(chan byte, 9), nil}
}

func (d *thing) Describe() Description {
	return Description{Speed: FullSpeed, Vendor: 0x1234, Product: 0x5678, Version: 0x0102, Maker: "Maker", Name: "Größe",
		Interfaces: []Interface{{Class: 0xFF, SubClass: 1, Protocol: 2, Extra: []byte{3, 0x21, 7}, Endpoints: []Endpoint{
			{Address: 0x02, Kind: Bulk, MaxPacket: 64}, {Address: 0x81, Kind: Bulk, MaxPacket: 64}, {Address: 0x83, Kind: Interrupt, MaxPacket: 8, Interval: 24},
		}}}}
}
func (d *thing) Attached(l *Link) { d.link = l; d.attached <- struct{}{} }
func (d *thing) Detached()        { d.detached <- struct{}{} }
func (d *thing) Polled(byte)      { d.polled <- struct{}{} }
func (d *thing) Cancelled(e byte) { d.cancelled <- e }
func (d *thing) Control(s Setup, data []byte) ([]byte, bool) {
	return append([]byte{s.Request}, data...), s.Request != 0x55
}
func (d *thing) Out(_ byte, data []byte) bool {
	if len(data) == 0 {
		return false
	}
	return d.link.In(0x81, bytes.Clone(data)) == nil
}

func rig(t *testing.T) (context.Context, *Port, *thing, *Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	p, err := Listen(filepath.Join(t.TempDir(), "port"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	d := newThing()
	p.Attach(d)
	h, err := Dial(p.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	must(t, h.WaitDevice(ctx, true))
	must(t, h.Configure(ctx))
	return ctx, p, d, h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wait[T any](t *testing.T, ctx context.Context, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
	return v
}

func TestDescriptors(t *testing.T) {
	t.Parallel()
	ctx, _, _, h := rig(t)
	for name, tt := range map[string]struct {
		value uint16
		want  []byte
		stall bool
	}{
		"device":        {0x0100, []byte{18, 1, 0, 2, 0, 0, 0, 64, 0x34, 0x12, 0x78, 0x56, 2, 1, 1, 2, 0, 1}, false},
		"configuration": {0x0200, []byte{9, 2, 42, 0, 1, 1, 0, 0x80, 50, 9, 4, 0, 0, 3, 0xFF, 1, 2, 0, 3, 0x21, 7, 7, 5, 2, 2, 64, 0, 0, 7, 5, 0x81, 2, 64, 0, 0, 7, 5, 0x83, 3, 8, 0, 24}, false},
		"languages":     {0x0300, []byte{4, 3, 9, 4}, false},
		"name":          {0x0302, []byte{12, 3, 'G', 0, 'r', 0, 0xF6, 0, 0xDF, 0, 'e', 0}, false},
		"no serial":     {0x0303, nil, true},
		"no such text":  {0x0309, nil, true},
		"qualifier":     {0x0600, nil, true},
	} {
		got, status, err := h.Control(ctx, Setup{RequestType: 0x80, Request: 6, Value: tt.value, Length: 255}, nil)
		must(t, err)
		if stall := status == StatusStall; stall != tt.stall {
			t.Errorf("%s: status %d", name, status)
		}
		if diff := cmp.Diff(tt.want, got, cmp.Transformer("octets", func(b []byte) string { return string(b) })); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	short, _, err := h.Control(ctx, Setup{RequestType: 0x80, Request: 6, Value: 0x0100, Length: 8}, nil)
	if must(t, err); len(short) != 8 {
		t.Errorf("%d octets of a descriptor, 8 asked", len(short))
	}
}

func TestTransfers(t *testing.T) {
	t.Parallel()
	ctx, p, d, h := rig(t)
	data := bytes.Repeat([]byte("abcdefg"), 1000)
	status, err := h.Out(ctx, 2, data)
	if must(t, err); status != StatusOK {
		t.Fatalf("out: status %d", status)
	}
	var got []byte
	for len(got) < len(data) { // in two requests
		b, status, err := h.In(ctx, 0x81, 4000)
		if must(t, err); status != StatusOK || len(b) == 0 {
			t.Fatalf("in: status %d, %d octets", status, len(b))
		}
		got = append(got, b...)
	}
	if !bytes.Equal(got, data) {
		t.Error("other octets came back")
	}
	if status, err = h.Out(ctx, 2, nil); err != nil || status != StatusStall {
		t.Errorf("refused transfer: status %d, %v", status, err)
	}
	if status, err = h.Out(ctx, 5, data); err != nil || status != StatusInvalid {
		t.Errorf("endpoint that is not there: status %d, %v", status, err)
	}
	if _, status, err = h.Control(ctx, Setup{RequestType: 0x40, Request: 0x55}, nil); err != nil || status != StatusStall {
		t.Errorf("refused request: status %d, %v", status, err)
	}
	if b, status, err := h.Control(ctx, Setup{RequestType: 0xC0, Request: 0x11, Length: 9}, nil); err != nil || status != StatusOK || string(b) != "\x11" {
		t.Errorf("request: %x, status %d, %v", b, status, err)
	}
	// A request that nobody answers is cancelled.
	short, cancel := context.WithCancel(ctx)
	go func() {
		<-d.polled
		cancel()
	}()
	d.Polled(0) // the test's own sign, so that nothing sleeps
	if _, _, err := h.In(short, 0x81, 64); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled transfer: %v", err)
	}
	if e := wait(t, ctx, d.cancelled); e != 0x81 {
		t.Errorf("transfer to endpoint %#x was cancelled", e)
	}
	p.Detach()
	must(t, h.WaitDevice(ctx, false))
	if wait(t, ctx, d.detached); d.link.In(0x81, data) == nil {
		t.Error("data for a host that is gone were taken")
	}
}

func TestInterrupts(t *testing.T) {
	t.Parallel()
	ctx, p, d, h := rig(t)
	if d.link.Interrupt(0x83, []byte{1}) || p.Polled(0x83) {
		t.Error("a packet was taken that nobody asks for")
	}
	if s, err := h.Poll(ctx, 0x85, true); err != nil || s != StatusInvalid {
		t.Errorf("endpoint that is not there: status %d, %v", s, err)
	}
	if s, err := h.Poll(ctx, 0x83, true); err != nil || s != StatusOK {
		t.Fatalf("status %d, %v", s, err)
	}
	wait(t, ctx, d.polled)
	if !p.Polled(0x83) || !d.link.Interrupt(0x83, []byte{0x50, 3}) {
		t.Fatal("packet not taken")
	}
	if b, err := h.Interrupt(ctx); err != nil || string(b) != "\x50\x03" {
		t.Errorf("%x, %v", b, err)
	}
	if _, err := h.Poll(ctx, 0x83, false); err != nil || d.link.Interrupt(0x83, []byte{1}) {
		t.Error("a packet was taken after the end", err)
	}
}

// TestPlug plugs devices in and out with a host there and without.
func TestPlug(t *testing.T) {
	t.Parallel()
	ctx, p, d, h := rig(t)
	wait(t, ctx, d.attached)
	other := newThing()
	p.Attach(other)
	wait(t, ctx, d.detached)
	wait(t, ctx, other.attached)
	must(t, h.WaitDevice(ctx, true))
	h.Close() // the mains plug of the machine
	wait(t, ctx, other.detached)
	p.Detach()
	p.Attach(d)
	for {
		again, err := Dial(p.Path())
		if err != nil { // the port is still busy with the end of the other
			continue
		}
		defer again.Close()
		must(t, again.WaitDevice(ctx, true))
		break
	}
	wait(t, ctx, d.attached)
	if !p.Connected() {
		t.Error("not connected")
	}
}

// TestStopAfter lets the device die in the middle of a transfer; a new plug revives it.
func TestStopAfter(t *testing.T) {
	t.Parallel()
	ctx, p, d, h := rig(t)
	p.StopAfter(150)
	send := func() {
		t.Helper()
		if _, err := h.Out(ctx, 2, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	send()
	if b, _, err := h.In(ctx, 0x81, 100); err != nil || len(b) != 100 {
		t.Fatalf("%d octets, %v", len(b), err)
	}
	send()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, _, err := h.In(short, 0x81, 100); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the dead device answers: %v", err)
	}
	short, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, _, err := h.Control(short, Setup{RequestType: 0x80, Request: 6, Value: 0x0100, Length: 18}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the dead device answers: %v", err)
	}
	p.Detach()
	must(t, h.WaitDevice(ctx, false))
	p.Attach(d)
	must(t, h.WaitDevice(ctx, true))
	must(t, h.Configure(ctx))
	send()
	if b, _, err := h.In(ctx, 0x81, 100); err != nil || len(b) != 100 {
		t.Errorf("after the new plug: %d octets, %v", len(b), err)
	}
}

// TestPeer connects hosts that do not keep the protocol: the port outlives them.
func TestPeer(t *testing.T) {
	t.Parallel()
	weak := hello()
	binary.LittleEndian.PutUint32(weak[headHello+versionLen:], capDeviceVersion)
	long := message{kind: typeBulk}.encode()
	binary.LittleEndian.PutUint32(long[4:], maxMessage+1)
	for name, say := range map[string][]byte{
		"lacks capabilities": weak,
		"no hello":           message{kind: typeReset}.encode(),
		"endless message":    append(hello(), long...),
		"unknown message":    append(hello(), message{kind: 99}.encode()...),
		"short bulk packet":  append(hello(), message{kind: typeBulk, body: []byte{2}}.encode()...),
		"lying bulk packet":  append(hello(), message{kind: typeBulk, body: bulk{endpoint: 2, length: 5, data: []byte{1}}.encode()}.encode()...),
		"short control":      append(hello(), message{kind: typeControl, body: []byte{2}}.encode()...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := Listen(filepath.Join(t.TempDir(), "port"))
			must(t, err)
			defer p.Close()
			p.Attach(newThing())
			c, err := net.Dial("unix", p.Path())
			must(t, err)
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			c.Write(say)
			for b := make([]byte, 4096); ; {
				if _, err := c.Read(b); err != nil {
					if errors.Is(err, net.ErrClosed) {
						t.Fatal(err)
					}
					var timeout net.Error
					if errors.As(err, &timeout) && timeout.Timeout() {
						t.Fatal("the port goes on with a peer that breaks the protocol")
					}
					return
				}
			}
		})
	}
}

func FuzzWire(f *testing.F) {
	f.Add(hello())
	f.Add(message{kind: typeControl, id: 7, body: control{}.answer(0, []byte{1, 2})}.encode())
	f.Add(message{kind: typeBulk, id: 7, body: bulk{endpoint: 2, length: 2, data: []byte{1, 2}}.encode()}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, _, err := readHello(bytes.NewReader(b)); err == nil && len(v) > versionLen {
			t.Error("name too long")
		}
		m, err := readMessage(bytes.NewReader(b))
		if err != nil {
			return
		}
		if got := m.encode(); !bytes.Equal(got, b[:len(got)]) {
			t.Error("message is not what was read")
		}
		if c, err := parseControl(m.body); err == nil && len(c.data) > len(m.body) {
			t.Error("more data than there are")
		}
		if p, err := parseBulk(m.body); err == nil && p.endpoint&dirIn == 0 && p.length != len(p.data) {
			t.Error("length")
		}
		p := &Port{}
		d := newThing()
		c, s := net.Pipe()
		defer c.Close()
		defer s.Close()
		p.device, p.link = d, &Link{conn: s, out: &writer{wake: make(chan struct{}, 1)}, greeted: true}
		p.link.clear()
		p.introduce()
		p.handle(m)
	})
}
