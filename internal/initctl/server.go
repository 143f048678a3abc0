package initctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Handler is what a server needs of adv-init.
type Handler interface {
	// State is the present state and a channel that is closed when there is a newer one.
	State() (State, <-chan struct{})
	// Restart replaces a service (see Request) and returns when the new one is ready.
	Restart(ctx context.Context, service string, start int) Fault
	// SetSlot remembers what is in the reader's slot; it returns at once.
	SetSlot(Slot)
}

// Bounds of the server.
const (
	maxConns    = 8
	maxRestarts = 4 // of one connection at a time
	writeIn     = 2 * time.Second
)

// Serve answers on a listener until ctx ends. allow says which uid may speak; it is asked with what the kernel says about
// the peer. A peer that does not read its state fast enough misses states in between, but not the newest; one that does
// not read at all is cut off.
func Serve(ctx context.Context, l *net.UnixListener, allow func(uid uint32) bool, h Handler) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	places := make(chan struct{}, maxConns)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("init conversation: accept: %w", err)
		}
		uid, err := peer(c)
		if err != nil || !allow(uid) {
			c.Close()
			continue
		}
		select {
		case places <- struct{}{}:
			wg.Go(func() {
				serveConn(ctx, c, h)
				<-places
			})
		default:
			c.Close()
		}
	}
}

// peer is the uid of the process at the other end.
func peer(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if cerr != nil {
		return 0, cerr
	}
	return cred.Uid, nil
}

func serveConn(ctx context.Context, c net.Conn, h Handler) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	var write sync.Mutex
	send := func(r Reply) bool {
		b, err := encode(r)
		if err != nil {
			return false
		}
		write.Lock()
		defer write.Unlock()
		c.SetWriteDeadline(time.Now().Add(writeIn))
		if _, err := c.Write(b); err != nil {
			cancel()
			return false
		}
		return true
	}
	subscribed := false
	restarts := make(chan struct{}, maxRestarts)
	in := bufio.NewScanner(c)
	in.Buffer(make([]byte, 0, 1024), MaxLine)
	for in.Scan() {
		r, err := ParseRequest(in.Bytes())
		if err != nil {
			return
		}
		switch r.Op {
		case OpState:
			if subscribed {
				return
			}
			subscribed = true
			wg.Go(func() {
				for {
					s, newer := h.State()
					if !send(Reply{ID: r.ID, State: &s}) {
						return
					}
					select {
					case <-newer:
					case <-ctx.Done():
						return
					}
				}
			})
		case OpSlot:
			h.SetSlot(r.Slot)
		case OpRestart:
			select {
			case restarts <- struct{}{}:
				wg.Go(func() {
					f := h.Restart(ctx, r.Service, r.Start)
					<-restarts
					send(Reply{ID: r.ID, Error: f})
				})
			default:
				if !send(Reply{ID: r.ID, Error: FaultBusy}) {
					return
				}
			}
		}
	}
}
