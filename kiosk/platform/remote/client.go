package remote

import (
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
	"gioui.org/unit"
	"golang.org/x/sys/unix"

	"ktradv/kiosk/platform"
)

// helloTimeout bounds the wait for the first configuration.
const helloTimeout = 10 * time.Second

// Client is the platform of a session process: the display and the input
// devices belong to the process at the other end of a socket.
type Client struct {
	conn   *net.UnixConn
	events chan event.Event
	quit   chan struct{}
	once   sync.Once

	mu     sync.Mutex
	cond   *sync.Cond // a frame was acknowledged, or the memory changed, or the end
	cfg    configure
	mem    []byte      // mapped picture, nil after the end
	img    *image.RGBA // over mem
	fresh  bool        // mem has no picture yet
	seq    uint32
	inAir  bool // frame seq is not acknowledged
	closed bool
	alive  time.Time
	now    func() time.Time

	lost bool // events were dropped; used by the reading goroutine only
}

var _ platform.Platform = (*Client)(nil)

// NewClient takes over the session's end of a socket pair (see Pair), as the
// session process inherited it, and waits for the first configuration. now is
// the clock of Alive, time.Now when nil.
func NewClient(socket *os.File, now func() time.Time) (*Client, error) {
	conn, err := packetConn(socket)
	if err != nil {
		return nil, err
	}
	if now == nil {
		now = time.Now
	}
	c := &Client{conn: conn, events: make(chan event.Event, 256), quit: make(chan struct{}), now: now}
	c.cond = sync.NewCond(&c.mu)
	if err := conn.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("remote display: %w", err)
	}
	m, fd, err := receive(conn, make([]byte, maxMessage+1))
	if err == nil {
		cfg, ok := m.(configure)
		if !ok {
			err = fmt.Errorf("first message is %T: %w", m, ErrMessage)
		} else {
			err = c.configure(cfg, fd)
			fd = nil
		}
	}
	fd.Close()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("remote display: %w", err)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		c.Close()
		return nil, fmt.Errorf("remote display: %w", err)
	}
	go c.read()
	return c, nil
}

// configure maps new memory; it takes fd.
func (c *Client) configure(cfg configure, fd *os.File) error {
	if fd == nil {
		return fmt.Errorf("configuration without memory: %w", ErrMessage)
	}
	defer fd.Close()
	n := cfg.Size.X * cfg.Size.Y * 4
	if err := checkMemory(fd, n); err != nil {
		return err
	}
	mem, err := unix.Mmap(int(fd.Fd()), 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map %d bytes of picture: %w", n, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unmap()
	if c.closed {
		return errors.Join(platform.ErrClosed, unix.Munmap(mem))
	}
	c.cfg, c.mem, c.fresh, c.inAir = cfg, mem, true, false
	c.img = &image.RGBA{Pix: mem, Stride: cfg.Size.X * 4, Rect: image.Rectangle{Max: cfg.Size}}
	c.cond.Broadcast()
	return nil
}

// unmap gives the picture's memory back; c.mu is held.
func (c *Client) unmap() {
	if c.mem != nil {
		// Unmapping what was mapped cannot fail.
		_ = unix.Munmap(c.mem)
	}
	c.mem, c.img = nil, nil
}

// read takes messages until the end and turns them into events.
func (c *Client) read() {
	buf := make([]byte, maxMessage+1)
	err := func() error {
		for {
			m, fd, err := receive(c.conn, buf)
			if err != nil {
				return err
			}
			cfg, isCfg := m.(configure)
			if fd != nil && !isCfg {
				fd.Close()
				return fmt.Errorf("descriptor with %T: %w", m, ErrMessage)
			}
			var e event.Event
			switch m := m.(type) {
			case configure:
				if err := c.configure(cfg, fd); err != nil {
					return err
				}
				e = platform.Resized{}
			case ack:
				c.mu.Lock()
				if m.Seq == c.seq {
					c.inAir = false
				}
				c.cond.Broadcast()
				c.mu.Unlock()
				continue
			case pointer.Event:
				e = m
			case key.Event:
				e = m
			case platform.Text:
				e = m
			case platform.Redraw:
				e = m
			case platform.Ping:
				e = m
			default:
				return fmt.Errorf("%T from the supervisor: %w", m, ErrMessage)
			}
			c.deliver(e)
		}
	}()
	if errors.Is(err, errPeerGone) {
		err = nil
	}
	select {
	case c.events <- platform.Closed{Err: err}:
	case <-c.quit:
	}
	c.Close()
	close(c.events)
}

// deliver never blocks: the loop may wait in Show for an acknowledgement that
// only the reading goroutine can take. Input for a loop that does not take it
// is dropped; what was pressed is cancelled, and the page drawn again, when it
// takes input again.
func (c *Client) deliver(e event.Event) {
	if c.lost {
		if len(c.events) > cap(c.events)/2 {
			return
		}
		c.lost = false
		c.events <- pointer.Event{Kind: pointer.Cancel}
		c.events <- platform.Resized{}
	}
	select {
	case c.events <- e:
	default:
		c.lost = true
	}
}

// Size implements platform.Platform.
func (c *Client) Size() image.Point {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cfg.Size
}

// Metric implements platform.Platform.
func (c *Client) Metric() unit.Metric {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cfg.Metric
}

// Events implements platform.Platform.
func (c *Client) Events() <-chan event.Event { return c.events }

// Show implements platform.Platform. It waits until the supervisor has shown
// the frame before, then writes the changed parts into the shared memory.
func (c *Client) Show(f platform.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.inAir && !c.closed {
		c.cond.Wait()
	}
	if c.closed {
		return platform.ErrClosed
	}
	if f.Img.Rect != c.img.Rect {
		return fmt.Errorf("remote display of %v: show frame of %v: %w", c.cfg.Size, f.Img.Rect.Size(), platform.ErrSize)
	}
	damage := platform.ClipDamage(nil, f.Damage, c.img.Rect)
	if c.fresh {
		damage = append(damage[:0], c.img.Rect)
	}
	if len(damage) == 0 {
		return nil
	}
	for _, r := range damage {
		platform.CopyRect(c.img, f.Img, r)
	}
	c.seq++
	if err := send(c.conn, frame{Gen: c.cfg.Gen, Seq: c.seq, Damage: damage}, nil); err != nil {
		return fmt.Errorf("remote display: show: %w", err)
	}
	c.fresh, c.inAir = false, true
	return nil
}

// Alive tells the supervisor that the loop runs, at most once in 250 ms; it is
// meant for the loop's Alive hook. A Ping of the supervisor makes the loop turn.
func (c *Client) Alive() {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || now.Sub(c.alive) < 250*time.Millisecond {
		return
	}
	c.alive = now
	// A supervisor that is gone shows in the reading goroutine.
	_ = send(c.conn, alive{}, nil)
}

// Close implements platform.Platform. Events is closed soon after.
func (c *Client) Close() error {
	c.once.Do(func() {
		close(c.quit)
		c.conn.Close()
		c.mu.Lock()
		c.closed = true
		c.unmap()
		c.cond.Broadcast()
		c.mu.Unlock()
	})
	return nil
}
