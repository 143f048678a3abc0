package evdev

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gioui.org/io/event"
	"gioui.org/io/key"
	"golang.org/x/sys/unix"

	"ktradv/kiosk/platform/drm/nodes"
)

// maxDevices bounds the devices that are open at once.
const maxDevices = 32

// Device is an open input device.
type Device interface {
	io.ReadCloser
	// Caps asks for the device's capabilities.
	Caps() (Caps, error)
	// Grab keeps the device's events from everyone else, the kernel's
	// console with its key combinations included.
	Grab() error
}

// Config says where the devices are.
type Config struct {
	Dir   string // "/dev/input" when empty
	Space *Space
	// Names replaces the names of keys with unusual codes.
	Names map[uint16]key.Name
	// Share leaves the devices to other readers too.
	Share bool
	// Open opens a device; nil means the kernel's.
	Open func(path string) (Device, error)
	// Now and After are the clock; nil means package time.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
	// Failed is told why a device was not used or was given up.
	Failed func(error)
}

// Input reads all devices of a folder, those that come later included.
type Input struct {
	cfg    Config
	events chan<- event.Event
	start  time.Time
	wg     sync.WaitGroup

	mu   sync.Mutex
	open map[string]Device
}

// New returns an Input that Run starts.
func New(c Config, events chan<- event.Event) *Input {
	if c.Dir == "" {
		c.Dir = "/dev/input"
	}
	if c.Open == nil {
		c.Open = openDevice
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.After == nil {
		c.After = time.After
	}
	if c.Failed == nil {
		c.Failed = func(error) {}
	}
	return &Input{cfg: c, events: events, start: c.Now(), open: make(map[string]Device)}
}

// Run opens the devices that are there and those that appear, and delivers
// their events until ctx ends. A device that cannot be opened yet (init may
// still have to change its owner) is tried again when its attributes change.
// It returns when all devices are closed.
func (in *Input) Run(ctx context.Context) error {
	defer in.wg.Wait()
	defer in.closeAll()
	watch, err := nodes.Watch(in.cfg.Dir)
	if err != nil {
		return fmt.Errorf("watch %s for input devices: %w", in.cfg.Dir, err)
	}
	stop := context.AfterFunc(ctx, func() { watch.Close() })
	defer stop()
	defer watch.Close()
	entries, err := os.ReadDir(in.cfg.Dir)
	if err != nil {
		return fmt.Errorf("list input devices: %w", err)
	}
	for _, e := range entries {
		in.add(ctx, e.Name())
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := watch.Read(buf)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("watch %s for input devices: %w", in.cfg.Dir, err)
		}
		names, overflow := parseInotify(buf[:n])
		if overflow {
			if entries, err := os.ReadDir(in.cfg.Dir); err == nil {
				for _, e := range entries {
					names = append(names, e.Name())
				}
			}
		}
		for _, name := range names {
			in.add(ctx, name)
		}
	}
}

// parseInotify returns the names in a buffer of struct inotify_event, and
// whether the kernel had to drop some.
func parseInotify(b []byte) (names []string, overflow bool) {
	for len(b) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(b[4:])
		n := binary.NativeEndian.Uint32(b[12:])
		b = b[unix.SizeofInotifyEvent:]
		if uint64(n) > uint64(len(b)) {
			return names, true
		}
		name, _, _ := bytes.Cut(b[:n], []byte{0})
		b = b[n:]
		overflow = overflow || mask&unix.IN_Q_OVERFLOW != 0
		if isEventName(string(name)) {
			names = append(names, string(name))
		}
	}
	return names, overflow
}

// isEventName reports whether a file is called event0, event1, ...
func isEventName(s string) bool {
	const prefix = "event"
	if len(s) <= len(prefix) || len(s) > len(prefix)+5 || s[:len(prefix)] != prefix {
		return false
	}
	for _, c := range s[len(prefix):] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// add opens a device unless it is open already.
func (in *Input) add(ctx context.Context, name string) {
	if !isEventName(name) {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if _, ok := in.open[name]; ok || len(in.open) >= maxDevices || ctx.Err() != nil {
		return
	}
	dev, err := in.cfg.Open(filepath.Join(in.cfg.Dir, name))
	if err != nil {
		in.cfg.Failed(fmt.Errorf("open input device %s: %w", name, err))
		return
	}
	caps, err := dev.Caps()
	if err == nil && !caps.Useful() {
		dev.Close()
		return
	}
	if err == nil && !in.cfg.Share {
		err = dev.Grab()
	}
	if err != nil {
		dev.Close()
		in.cfg.Failed(fmt.Errorf("use input device %s: %w", name, err))
		return
	}
	in.open[name] = dev
	in.wg.Go(func() {
		err := in.serve(ctx, dev, caps)
		in.mu.Lock()
		delete(in.open, name)
		in.mu.Unlock()
		dev.Close()
		// A device that was pulled is no failure.
		if err != nil && ctx.Err() == nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
			in.cfg.Failed(fmt.Errorf("read input device %s: %w", name, err))
		}
	})
}

func (in *Input) closeAll() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, d := range in.open {
		d.Close()
	}
}

// chunk is what one read of a device brought.
type chunk struct {
	buf []byte
	err error
}

// serve decodes one device until it fails or ctx ends. Delivery blocks while
// nobody takes the events; then the kernel drops what the device sends and
// says so, and the decoder starts anew.
func (in *Input) serve(ctx context.Context, dev Device, caps Caps) error {
	d := NewDecoder(caps, in.cfg.Space, in.cfg.Names, in.start)
	chunks := make(chan chunk)
	free := make(chan []byte, 2)
	free <- make([]byte, 64*eventSize)
	free <- make([]byte, 64*eventSize)
	done := make(chan struct{})
	defer close(done)
	in.wg.Go(func() {
		for {
			var b []byte
			select {
			case b = <-free:
			case <-done:
				return
			}
			n, err := dev.Read(b[:cap(b)])
			select {
			case chunks <- chunk{b[:n], err}:
			case <-done:
				return
			}
			if err != nil {
				return
			}
		}
	})
	var out []event.Event
	deliver := func() bool {
		for _, e := range out {
			select {
			case in.events <- e:
			case <-ctx.Done():
				return false
			}
		}
		out = out[:0]
		return true
	}
	for {
		var timer <-chan time.Time
		if next, ok := d.Deadline(); ok {
			timer = in.cfg.After(next.Sub(in.cfg.Now()))
		}
		select {
		case c := <-chunks:
			out = d.Feed(out, c.buf, in.cfg.Now())
			if c.err != nil {
				out = d.Release(out, in.cfg.Now())
				deliver()
				return c.err
			}
			free <- c.buf
		case <-timer:
			out = d.Tick(out, in.cfg.Now())
		case <-ctx.Done():
			return ctx.Err()
		}
		if !deliver() {
			return ctx.Err()
		}
	}
}
