package evdev

import (
	"context"
	"errors"
	"image"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"gioui.org/io/event"
	"gioui.org/io/key"
	"github.com/google/go-cmp/cmp"

	"ktradv/kiosk/platform"
)

// pipeDevice is an input device whose bytes the test writes.
type pipeDevice struct {
	io.ReadCloser
	caps    Caps
	capsErr error
	mu      *sync.Mutex
	grabbed *bool
}

func (d pipeDevice) Caps() (Caps, error) { return d.caps, d.capsErr }
func (d pipeDevice) Grab() error {
	d.mu.Lock()
	*d.grabbed = true
	d.mu.Unlock()
	return nil
}

type inputRig struct {
	t       *testing.T
	dir     string
	events  chan event.Event
	ctx     context.Context
	mu      sync.Mutex
	grabbed bool
	opened  chan *io.PipeWriter
	refuse  bool
	failed  chan error
}

func newInputRig(t *testing.T, caps Caps) *inputRig {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	r := &inputRig{t: t, dir: t.TempDir(), events: make(chan event.Event), ctx: ctx, opened: make(chan *io.PipeWriter, 100), failed: make(chan error, 100)}
	r.plug("event0")
	r.plug("mouse0") // not one of ours
	in := New(Config{
		Dir: r.dir, Space: NewSpace(image.Pt(100, 100), platform.Rotate0, Identity),
		Open: func(path string) (Device, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.refuse {
				return nil, os.ErrPermission
			}
			pr, pw := io.Pipe()
			r.opened <- pw
			return pipeDevice{ReadCloser: pr, caps: caps, mu: &r.mu, grabbed: &r.grabbed}, nil
		},
		Failed: func(err error) { r.failed <- err },
	}, r.events)
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
	return r
}

func (r *inputRig) plug(name string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), nil, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *inputRig) device() *io.PipeWriter {
	r.t.Helper()
	select {
	case w := <-r.opened:
		return w
	case <-r.ctx.Done():
		r.t.Fatal("no device was opened")
		return nil
	}
}

func (r *inputRig) text() string {
	r.t.Helper()
	for {
		select {
		case e := <-r.events:
			if s, ok := e.(platform.Text); ok {
				return s.Text
			}
		case <-r.ctx.Done():
			r.t.Fatal("no text")
		}
	}
}

func TestHotPlug(t *testing.T) {
	t.Parallel()
	r := newInputRig(t, keys)
	first := r.device()
	first.Write(stream(typed(30)...))
	if got := r.text(); got != "a" {
		t.Errorf("typed %q", got)
	}
	if r.mu.Lock(); !r.grabbed {
		t.Error("device was not grabbed")
	}
	// A second device whose node does not belong to us yet.
	r.refuse = true
	r.mu.Unlock()
	r.plug("event1")
	select {
	case err := <-r.failed:
		if !errors.Is(err, os.ErrPermission) {
			t.Errorf("failed with %v", err)
		}
	case <-r.ctx.Done():
		t.Fatal("no failure reported")
	}
	r.mu.Lock()
	r.refuse = false
	r.mu.Unlock()
	if err := os.Chmod(filepath.Join(r.dir, "event1"), 0o640); err != nil {
		t.Fatal(err)
	}
	second := r.device()
	second.Write(stream(typed(31)...))
	if got := r.text(); got != "s" {
		t.Errorf("typed %q", got)
	}
	// The first is pulled with a key down.
	first.Write(stream(ev{evKey, 28, 1}, syn))
	first.Close()
	want := lines("Press ⏎", "Release ⏎")
	var got []event.Event
	for len(got) < 2 {
		select {
		case e := <-r.events:
			if k, ok := e.(key.Event); ok && k.Name == key.NameReturn {
				got = append(got, e)
			}
		case <-r.ctx.Done():
			t.Fatal("no release")
		}
	}
	if d := cmp.Diff(want, show(got)); d != "" {
		t.Error(d)
	}
}

// TestFlood writes faster than anyone reads: nothing grows, nothing is stuck.
func TestFlood(t *testing.T) {
	t.Parallel()
	r := newInputRig(t, mouse)
	w := r.device()
	flood := stream(ev{evRel, relX, 1}, syn)
	for range 12 {
		flood = append(flood, flood...)
	}
	n, err := len(flood)/eventSize/2, make(chan error, 1)
	go func() { _, e := w.Write(flood); err <- e }()
	for range n {
		select {
		case <-r.events:
		case <-r.ctx.Done():
			t.Fatal("stuck")
		}
	}
	if e := <-err; e != nil {
		t.Error(e)
	}
}

func TestManyDevices(t *testing.T) {
	t.Parallel()
	r := newInputRig(t, keys)
	for i := range 2 * maxDevices {
		r.plug("event" + string(rune('0'+i/10)) + string(rune('0'+i%10)))
	}
	for range maxDevices {
		r.device()
	}
	r.plug("mouse1")
	select {
	case <-r.opened:
		t.Errorf("more than %d devices open", maxDevices)
	default:
	}
}
