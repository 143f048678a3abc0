package visit

import (
	"bytes"
	"errors"
	"testing"

	"ktradv/hw/apdu"
	"ktradv/hw/sim/persona"
	"ktradv/internal/req"
	"ktradv/kiosk/view"
)

// reads counts the commands that read the insured person's data: EF.PD, EF.VD or EF.GVD by their short identifiers while
// DF.HCA is selected. Other applications have files with the same identifiers.
func reads(exchanges []Exchange) (n int) {
	inHCA := false
	for _, e := range exchanges {
		switch cmd := e.Command; cmd[1] {
		case 0xA4:
			inHCA = bytes.HasSuffix(cmd, []byte{0xD2, 0x76, 0x00, 0x00, 0x01, 0x02})
		case 0xB0:
			if inHCA && cmd[2] >= 0x81 && cmd[2] <= 0x83 {
				n++
			}
		}
	}
	return n
}

// A use case that is asked for before the session has started is not executed, wherever the start has come to
// (AdV-A_2451).
func TestUseCaseBeforeTheStart(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2451")
	r := newRig(t, TerminalConfig{})
	ask := func() { r.Choose("vsd.show") }
	ask() // at the neutral screen
	var tap *Tap
	tap = tapped(t, world, "healthy-g2", nil, func(int, []byte) []byte { ask(); return nil }) // and at every command
	r.insertTap(tap)
	r.screen(view.PIN)
	ask()
	r.enter("pin", oneWrong)
	r.screen(view.PINWrong)
	ask()
	r.Choose(view.ChoiceRetry)
	r.screen(view.PIN)
	r.enter("pin", persona.PIN)
	r.screen(view.Menu)
	if n := reads(tap.Exchanges()); n != 0 {
		t.Errorf("%d commands read data before the menu", n)
	}
	// The twin: from the menu it is executed, and the commands are recognised.
	ask()
	r.screen(view.Data)
	if n := reads(tap.Exchanges()); n != 3 {
		t.Errorf("%d commands read the data; want 3", n)
	}
}

// A session belongs to one card: another one in its place ends it and is not touched by it (AdV-A_2451, AdV-A_2448).
func TestCardIsExchanged(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2451", "AdV-A_2448")
	r := newRig(t, TerminalConfig{})
	r.toMenu("healthy-g21")
	other := tapped(t, world, "healthy-g2", nil, nil)
	r.Reader.Insert(other) // as fast as nobody can
	r.Choose("vsd.show")
	// Noticed at rest it ends without a word, noticed while reading with one.
	v := r.await("the end of the session", func(v view.View) bool { return v.Screen == view.Problem || v.Screen == view.TakeCard })
	if v.Screen == view.Problem {
		if v.Problem.Code != "CARD-REMOVED" {
			t.Errorf("problem %s", v.Problem.Code)
		}
		r.Choose(view.ChoiceEnd)
	}
	out := r.outcome(1)
	if !errors.Is(out.Err, apdu.ErrCardRemoved) {
		t.Errorf("the session ended with %v", out.Err)
	}
	if n := other.Count(); n != 0 {
		t.Errorf("the other card got %d commands", n)
	}
	for _, v := range r.Views() {
		if v.Screen == view.Data {
			t.Error("data were shown")
		}
	}
	r.Reader.Remove()
	r.screen(view.Neutral)
	r.insertTap(other)
	r.startToMenu()
}
