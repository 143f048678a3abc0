package visit

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"ktradv/hw/sim/card"
	"ktradv/hw/sim/persona"
	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/req"
	"ktradv/kiosk/view"
)

// wholeVisit is the number of commands that the card of a persona gets in a visit with the data, its end included, and the
// number of the one that writes the protocol entry (0 for none).
func wholeVisit(t testing.TB, id string) (commands, entry int) {
	t.Helper()
	r := newRig(t, TerminalConfig{})
	r.insert(id)
	if code := r.visit(persona.PIN); code != "" {
		t.Fatalf("healthy card: problem %s", code)
	}
	all := r.tap.Exchanges()
	return len(all), 1 + slices.IndexFunc(all, func(e Exchange) bool { return e.Command[1] == 0xE2 })
}

// pullAt lets the person take the card at the n-th command, before or after the card has worked.
func pullAt(r *simreader.Reader, n int, when simreader.Pull) {
	var seen atomic.Int64 // the reader asks twice for every command: before and after
	r.PullOn(func([]byte) simreader.Pull {
		k := seen.Add(1)
		if when == simreader.PullBefore && k == int64(2*n-1) || when == simreader.PullAfter && k == int64(2*n) {
			return when
		}
		return simreader.PullNone
	})
}

// The card is pulled at every single command of a whole visit, before and after it takes effect: the session ends, says
// why, and leaves the terminal neutral; a write is whole or absent; the card works as before when it is put in again
// (AdV-A_2448, AdV-A_2449, AdV-A_2450).
func TestPullAtEveryCommand(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2448", "AdV-A_2449", "AdV-A_2450")
	for _, id := range []string{"healthy-g21", "healthy-g2"} {
		commands, entry := wholeVisit(t, id)
		if commands < 30 || (entry > 0) != (id == "healthy-g2") {
			t.Fatalf("%s: %d commands, entry by the %d.", id, commands, entry)
		}
		for _, when := range []simreader.Pull{simreader.PullBefore, simreader.PullAfter} {
			for n := 1; n <= commands; n++ {
				moment := map[simreader.Pull]string{simreader.PullBefore: "before", simreader.PullAfter: "after"}[when]
				t.Run(fmt.Sprintf("%s/%s_%02d", id, moment, n), func(t *testing.T) {
					t.Parallel()
					r := newRig(t, TerminalConfig{})
					tap := tapped(t, world, id, nil, nil)
					before := len(entries(t, tap.Card))
					pullAt(r.Reader, n, when)
					r.insertTap(tap)
					r.pulled(n == commands)
					want := before
					if entry > 0 && (n > entry || n == entry && when == simreader.PullAfter) {
						want++
					}
					if got := len(entries(t, tap.Card)); got != want {
						t.Errorf("%d entries; want %d", got, want)
					}
					if tries := retries(t, tap.Card); tries != 3 {
						t.Errorf("%d tries left", tries)
					}
					// In again: everything works.
					r.Reader.PullOn(nil)
					r.insertTap(tap)
					if code := r.visit(persona.PIN); code != "" {
						t.Errorf("afterwards: problem %s", code)
					}
					sound(t, r.Views())
				})
			}
		}
	}
}

func retries(t testing.TB, c *card.Card) (n int) {
	t.Helper()
	c.View(func(s *card.System) { n = password(t, s).Retry })
	return n
}

// pulled plays a visit that ends because the card goes. reset tells that the card goes with its reset: then the session
// was over already, and nothing needs to be explained.
func (r *rig) pulled(reset bool) {
	r.t.Helper()
	seen := false
	for {
		v := r.await("the end of the visit", func(v view.View) bool {
			return v.Screen != view.Reading && v.Screen != view.Connecting && v.Screen != view.Ending
		})
		switch v.Screen {
		case view.PIN:
			r.enter("pin", persona.PIN)
		case view.Menu:
			if seen {
				r.Choose(view.ChoiceEnd)
			} else {
				r.Choose("vsd.show")
			}
			seen = true
		case view.Data:
			r.Choose(view.ChoiceBack)
		case view.Problem:
			if v.Problem.Code != "CARD-REMOVED" {
				r.t.Errorf("problem %s; want CARD-REMOVED", v.Problem.Code)
			}
			r.Choose(view.ChoiceEnd)
		case view.TakeCard:
			if !reset {
				r.t.Error("asked to take a card that is gone")
			}
		case view.Neutral:
			return
		default:
			r.t.Fatalf("unexpected screen %q", v.Screen)
		}
	}
}

// A card that falls silent at any command of a visit: explained, and the terminal is neutral as soon as it is out.
func TestMuteAtEveryCommand(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2444")
	commands, _ := wholeVisit(t, "healthy-g2")
	for n := 1; n < commands-1; n++ {
		t.Run(fmt.Sprintf("%02d", n), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, TerminalConfig{})
			tap := tapped(t, world, "healthy-g2", nil, nil)
			tap.Card.SetFaults(card.Faults{MuteAfter: n})
			r.insertTap(tap)
			code := r.visit(persona.PIN)
			if code != "CARD-READ-ERROR" && code != "CARD-MUTE" {
				t.Errorf("problem %q", code)
			}
			tap.Card.SetFaults(card.Faults{})
			if tap.PINVerified() || tap.Unlocked() {
				t.Error("the card kept a security state")
			}
			sound(t, r.Views())
		})
	}
}
