package remote

import (
	"context"
	"errors"
	"fmt"
	"image"
	"net"
	"os"
	"sync"
	"time"

	"gioui.org/io/event"
	"gioui.org/io/key"
	"gioui.org/io/pointer"
	"golang.org/x/sys/unix"

	"ktradv/kiosk/platform"
)

// queueLen is how many messages wait for a session that does not read.
// The last few places are for what must not be dropped.
const (
	queueLen   = 256
	queueInput = queueLen - 16
)

// Host shares one display between session processes: it shows the picture of
// the active one and gives it the input. The others draw into their memory and
// are shown, in full, when they become active.
type Host struct {
	display platform.Platform
	now     func() time.Time

	mu       sync.Mutex // serialises Show and guards the rest
	sessions map[*Session]struct{}
	active   *Session
	black    *image.RGBA // shown when no session is active
	closed   bool
}

// Session is one session process as the host sees it.
type Session struct {
	host *Host
	conn *net.UnixConn
	out  chan outgoing
	done chan struct{}
	stop sync.Once

	// Guarded by host.mu.
	gen      uint32
	mem      []byte
	img      *image.RGBA
	drawn    bool // img holds a frame
	drawnCh  chan struct{}
	alive    time.Time
	overflow bool // input was dropped
	down     map[pointerKey]pointer.Event
	err      error
}

// pointerKey names a finger or the mouse.
type pointerKey struct {
	source pointer.Source
	id     pointer.ID
}

type outgoing struct {
	msg  any
	file *os.File // closed after sending
}

// NewHost returns a host for a display, which it does not close. now is the
// clock of Session.Alive, time.Now when nil.
func NewHost(display platform.Platform, now func() time.Time) *Host {
	if now == nil {
		now = time.Now
	}
	return &Host{display: display, now: now, sessions: make(map[*Session]struct{})}
}

// Run gives the input to the active session until ctx ends (returning its
// error) or the display ends (nil, or the error it gives). All sessions are
// cut off then.
func (h *Host) Run(ctx context.Context) error {
	defer h.shutdown()
	for {
		select {
		case e, ok := <-h.display.Events():
			if !ok {
				return nil
			}
			switch e := e.(type) {
			case platform.Resized:
				h.resize()
			case platform.Redraw:
				h.mu.Lock()
				h.showAll()
				h.mu.Unlock()
			case platform.Closed:
				return e.Err
			default:
				h.mu.Lock()
				h.active.input(e)
				h.mu.Unlock()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (h *Host) shutdown() {
	h.mu.Lock()
	h.closed = true
	var all []*Session
	for s := range h.sessions {
		all = append(all, s)
	}
	h.mu.Unlock()
	for _, s := range all {
		s.end(platform.ErrClosed)
	}
}

// Attach takes the host's end of a Pair over and configures the session
// process. The session draws, but is not shown before Activate.
func (h *Host) Attach(socket *os.File) (*Session, error) {
	conn, err := packetConn(socket)
	if err != nil {
		return nil, err
	}
	s := &Session{
		host: h, conn: conn, out: make(chan outgoing, queueLen), done: make(chan struct{}), drawnCh: make(chan struct{}),
		down: make(map[pointerKey]pointer.Event), alive: h.now(),
	}
	h.mu.Lock()
	if h.closed {
		err = platform.ErrClosed
	} else if err = s.configure(); err == nil {
		h.sessions[s] = struct{}{}
	}
	h.mu.Unlock()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("attach a session: %w", err)
	}
	go s.write()
	go s.read()
	return s, nil
}

// Activate makes s the session that is seen and gets the input; nil shows a
// black screen. What was pressed is cancelled in the session before.
func (h *Host) Activate(s *Session) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return platform.ErrClosed
	}
	if s != nil {
		if _, ok := h.sessions[s]; !ok {
			return fmt.Errorf("activate a session that has ended: %w", platform.ErrClosed)
		}
	}
	if h.active != s {
		h.active.cancelAll()
	}
	h.active = s
	if err := h.showAll(); err != nil {
		return err
	}
	return h.forget()
}

// forget has the display overwrite what it still holds of the session before; h.mu is held.
func (h *Host) forget() error {
	f, ok := h.display.(platform.Forgetter)
	if !ok {
		return nil
	}
	if err := f.Forget(h.picture()); err != nil && !errors.Is(err, platform.ErrSize) {
		return fmt.Errorf("overwrite old pictures: %w", err)
	}
	return nil
}

// showAll shows the active session's whole picture; h.mu is held.
func (h *Host) showAll() error { return h.show(platform.Full(h.picture())) }

// picture is what is to be seen; h.mu is held.
func (h *Host) picture() *image.RGBA {
	if h.active != nil && h.active.drawn {
		return h.active.img
	}
	return h.blackImage()
}

func (h *Host) blackImage() *image.RGBA {
	size := h.display.Size()
	if h.black == nil || h.black.Rect.Size() != size {
		h.black = image.NewRGBA(image.Rectangle{Max: size})
		for i := 3; i < len(h.black.Pix); i += 4 {
			h.black.Pix[i] = 0xff
		}
	}
	return h.black
}

// show ignores frames of a wrong size: the display's Resized event follows.
func (h *Host) show(f platform.Frame) error {
	if err := h.display.Show(f); err != nil && !errors.Is(err, platform.ErrSize) {
		return fmt.Errorf("show on the display: %w", err)
	}
	return nil
}

// resize gives every session new memory.
func (h *Host) resize() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.sessions {
		s.cancelAll()
		if err := s.configure(); err != nil {
			go s.end(err)
		}
	}
	h.showAll()
}

// configure makes new memory for the session and tells it; host.mu is held.
func (s *Session) configure() error {
	size := s.host.display.Size()
	n := size.X * size.Y * 4
	f, err := newMemory(n)
	if err != nil {
		return err
	}
	// Writable, so that what a session drew can be wiped.
	mem, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		f.Close()
		return fmt.Errorf("map %d bytes of picture: %w", n, err)
	}
	s.unmap()
	s.gen++
	s.mem, s.drawn = mem, false
	s.img = &image.RGBA{Pix: mem, Stride: size.X * 4, Rect: image.Rectangle{Max: size}}
	cfg := configure{Gen: s.gen, Size: size, Metric: s.host.display.Metric()}
	select {
	case s.out <- outgoing{cfg, f}:
		return nil
	default:
		f.Close()
		return fmt.Errorf("session does not read: %w", ErrMessage)
	}
}

// unmap wipes the picture and gives its memory back. Whoever else holds it mapped sees it wiped, too.
func (s *Session) unmap() {
	if s.mem != nil {
		clear(s.mem)
		// Unmapping what was mapped cannot fail.
		_ = unix.Munmap(s.mem)
	}
	s.mem, s.img, s.drawn = nil, nil, false
}

// input queues an event; host.mu is held. For a session that does not read,
// events are dropped, and gestures that lost one are cancelled later.
func (s *Session) input(e event.Event) {
	if s == nil {
		return
	}
	if s.overflow {
		if len(s.out) > queueLen/2 {
			return
		}
		s.overflow = false
		s.cancelAll()
	}
	if p, ok := e.(pointer.Event); ok {
		k := pointerKey{p.Source, p.PointerID}
		switch p.Kind {
		case pointer.Press:
			s.down[k] = p
		case pointer.Release, pointer.Cancel:
			if p.Buttons == 0 {
				delete(s.down, k)
			}
		}
	}
	if len(s.out) >= queueInput {
		s.overflow = true
		return
	}
	s.queue(e)
}

// queue reports whether there was room for the message.
func (s *Session) queue(m any) bool {
	select {
	case s.out <- outgoing{msg: m}:
		return true
	default:
		return false
	}
}

// cancelAll ends what is pressed; host.mu is held.
func (s *Session) cancelAll() {
	if s == nil || len(s.down) == 0 {
		return
	}
	clear(s.down)
	if !s.queue(pointer.Event{Kind: pointer.Cancel}) {
		s.overflow = true
	}
}

// write sends what is queued.
func (s *Session) write() {
	for {
		select {
		case o := <-s.out:
			err := send(s.conn, o.msg, o.file)
			o.file.Close()
			if err != nil {
				s.end(err)
				return
			}
		case <-s.done:
			return
		}
	}
}

// read takes the session's messages until the end.
func (s *Session) read() {
	buf := make([]byte, maxMessage+1)
	for {
		m, fd, err := receive(s.conn, buf)
		if err == nil && fd != nil {
			fd.Close()
			err = fmt.Errorf("descriptor from a session: %w", ErrMessage)
		}
		if err == nil {
			err = s.message(m)
		}
		if err != nil {
			s.end(err)
			return
		}
	}
}

// message handles one message of the session.
func (s *Session) message(m any) error {
	h := s.host
	h.mu.Lock()
	defer h.mu.Unlock()
	switch m := m.(type) {
	case alive:
		s.alive = h.now()
		return nil
	case frame:
		s.alive = h.now()
		if m.Gen > s.gen {
			return fmt.Errorf("frame of generation %d, current is %d: %w", m.Gen, s.gen, ErrMessage)
		}
		// A frame of memory that was replaced meanwhile shows nothing.
		if m.Gen == s.gen && s.img != nil {
			for _, r := range m.Damage {
				if !r.In(s.img.Rect) {
					return fmt.Errorf("frame with damage %v outside of %v: %w", r, s.img.Rect, ErrMessage)
				}
			}
			first := !s.drawn
			if first {
				s.drawn = true
				close(s.drawnCh)
				s.drawnCh = make(chan struct{})
			}
			if h.active == s {
				f := platform.Frame{Img: s.img, Damage: m.Damage}
				if first {
					f = platform.Full(s.img)
				}
				if err := h.show(f); err != nil {
					return err
				}
			}
		}
		if !s.queue(ack{m.Seq}) {
			return fmt.Errorf("session does not read: %w", ErrMessage)
		}
		return nil
	}
	return fmt.Errorf("%T from a session: %w", m, ErrMessage)
}

// end cuts the session off and frees its picture. If it was the active one,
// the screen becomes black until another is activated.
func (s *Session) end(err error) {
	if errors.Is(err, errPeerGone) {
		err = nil
	}
	s.stop.Do(func() {
		s.conn.Close()
		h := s.host
		h.mu.Lock()
		s.err = err
		delete(h.sessions, s)
		s.unmap()
		if h.active == s {
			h.active = nil
			if !h.closed {
				// The display reports its own failures through its events.
				_ = h.showAll()
				_ = h.forget()
			}
		}
		h.mu.Unlock()
		close(s.done)
		for {
			select {
			case o := <-s.out:
				o.file.Close()
			default:
				return
			}
		}
	})
}

// Ping asks the session's drawing loop for a sign of life (Alive).
func (s *Session) Ping() {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	s.input(platform.Ping{})
}

// Done is closed when the session has ended, by itself or by Close.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err says why the session ended: nil when its process closed the connection
// or Close was called, ErrMessage when it broke the protocol.
func (s *Session) Err() error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	return s.err
}

// Close cuts the session off.
func (s *Session) Close() error {
	s.end(nil)
	return nil
}

// Drawn waits until the session has drawn its first frame.
func (s *Session) Drawn(ctx context.Context) error {
	s.host.mu.Lock()
	drawn, ch := s.drawn, s.drawnCh
	s.host.mu.Unlock()
	if drawn {
		return nil
	}
	select {
	case <-ch:
		return nil
	case <-s.done:
		return fmt.Errorf("session ended before its first frame: %w", platform.ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("wait for the first frame: %w", ctx.Err())
	}
}

// Alive returns when the session last showed a frame or a sign of life.
func (s *Session) Alive() time.Time {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	return s.alive
}

var _ event.Event = key.Event{}
