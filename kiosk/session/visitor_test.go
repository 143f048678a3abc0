package session

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ktradv/hw/reader"
	"ktradv/kiosk/view"
)

// slotOf is a slot whose card comes and goes when a test says so.
type slotOf struct {
	mu      sync.Mutex
	changed chan struct{}
	present bool
	seen    bool // the card was put in while somebody watched
}

func (s *slotOf) put(present, seen bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.present, s.seen = present, seen
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *slotOf) WaitReader(context.Context) error { return nil }

func (s *slotOf) WaitCard(ctx context.Context, present bool) error {
	for {
		s.mu.Lock()
		is, changed := s.present == present, s.changed
		s.mu.Unlock()
		if is {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *slotOf) Connect(context.Context) (reader.Card, error) { return nil, errors.New("no card") }

func (s *slotOf) CardIsNew() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.present && s.seen
}

// Whether the first card after power on is served or asked for to be taken: one that was put in while somebody watched is
// served at whatever moment it comes; of one that was there already the terminal must remember that it can be nobody's.
func TestFirstVisitor(t *testing.T) {
	t.Parallel()
	const never = -1
	for name, c := range map[string]struct {
		comes  time.Duration // when the card is put in; never: it was there before
		takes  time.Duration // after its start: how long the terminal takes to remember
		free   bool          // and what
		leaves bool          // the card is taken and put in again
		asks   bool          // for it to be taken
	}{
		"as soon as the picture stands":           {comes: 1 * time.Millisecond},
		"a moment later":                          {comes: 50 * time.Millisecond},
		"later":                                   {comes: time.Hour},
		"before, and nobody remembers":            {comes: never, asks: true, leaves: true},
		"before, and nobody's":                    {comes: never, free: true},
		"before, and nobody's, remembered slowly": {comes: never, free: true, takes: 15 * time.Second},
		"before, and somebody's":                  {comes: never, takes: 15 * time.Second, asks: true, leaves: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				slot := &slotOf{changed: make(chan struct{})}
				if c.comes == never {
					slot.put(true, false)
				} else {
					time.AfterFunc(c.comes, func() { slot.put(true, true) })
				}
				var mu sync.Mutex
				var screens []view.Screen
				asked := 0
				s, err := New(Config{
					Slot: slot, First: true, Dial: func(context.Context) (Server, error) { return nil, errors.New("no server") },
					Publish: func(v view.View) { mu.Lock(); defer mu.Unlock(); screens = append(screens, v.Screen) },
					Free:    func(context.Context) bool { asked++; time.Sleep(c.takes); return c.free },
				})
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan error, 1)
				go func() { done <- s.visitor(t.Context()) }()
				if c.leaves {
					time.Sleep(time.Minute)
					slot.put(false, false)
					time.Sleep(time.Second)
					slot.put(true, true)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if got := slices.Contains(screens, view.TakeCard); got != c.asks {
					t.Errorf("asked to take the card: %v, want %v; screens %v", got, c.asks, screens)
				}
				if want := c.comes == never; (asked > 0) != want || asked > 1 {
					t.Errorf("asked %d times what is remembered", asked)
				}
			})
		})
	}
}
