package visit

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"ktradv/hw/sim/persona"
	"ktradv/kiosk/serverlink"
	"ktradv/kiosk/session"
	"ktradv/kiosk/view"
)

// MeasureStart plays the start of a session with a healthy G2.1 card, from the card's insertion to the menu, and counts
// the APDUs that went to the card (the one that the PIN pad sent included) and the round trips between app and server.
func MeasureStart(ctx context.Context) (apdus, roundTrips int, err error) {
	dir, err := os.MkdirTemp("", "ktradv-measure-")
	if err != nil {
		return 0, 0, fmt.Errorf("measure session start: %w", err)
	}
	defer os.RemoveAll(dir)
	w, err := NewWorld(dir, time.Now())
	if err != nil {
		return 0, 0, err
	}
	defer w.Close()
	return w.MeasureStart(ctx, "healthy-g21")
}

// MeasureStart is the same in a world that exists, with the card of any persona that gets as far as the menu.
func (w *World) MeasureStart(ctx context.Context, id string) (apdus, roundTrips int, err error) {
	srv, err := w.Serve(ServerConfig{})
	if err != nil {
		return 0, 0, err
	}
	defer srv.Close()
	var mu sync.Mutex
	var link *serverlink.Link
	t, err := w.NewTerminal(TerminalConfig{Dial: func(ctx context.Context) (session.Server, error) {
		l, err := srv.Dial(ctx)
		mu.Lock()
		link = l
		mu.Unlock()
		return l, err
	}})
	if err != nil {
		return 0, 0, err
	}
	defer t.Close()
	c, err := w.Card(id, nil)
	if err != nil {
		return 0, 0, err
	}
	tap := NewTap(c, nil)
	if _, err := t.AwaitScreen(ctx, view.Neutral); err != nil {
		return 0, 0, err
	}
	t.Reader.Insert(tap)
	if _, err := t.AwaitScreen(ctx, view.PIN); err != nil {
		return 0, 0, err
	}
	if err := t.EnterPIN(ctx, "pin", persona.PIN); err != nil {
		return 0, 0, err
	}
	if _, err := t.AwaitScreen(ctx, view.Menu); err != nil {
		return 0, 0, err
	}
	mu.Lock()
	defer mu.Unlock()
	return tap.Count(), link.RoundTrips(), nil
}
