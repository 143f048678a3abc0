package visit

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"ktradv/hw/apdu"
	"ktradv/hw/sim/persona"
	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/req"
	"ktradv/kiosk/view"
)

// manageChannelReset is the command of PL_TUC_CARD_RESET.
var manageChannelReset = []byte{0x00, 0x70, 0x40, 0x01}

// wasReset tells whether the last command that the card got was PL_TUC_CARD_RESET, answered 9000.
func wasReset(exchanges []Exchange) bool {
	if len(exchanges) == 0 {
		return false
	}
	last := exchanges[len(exchanges)-1]
	return bytes.Equal(last.Command, manageChannelReset) && bytes.Equal(last.Response, []byte{0x90, 0x00})
}

// orderly checks the end of a session with the card still in: card reset and without security state, connection closed, card
// asked for, and a neutral screen when it is out (AdV-A_2449, AdV-A_2450).
func (r *rig) orderly(srv *Server) {
	r.t.Helper()
	r.screen(view.TakeCard)
	if !wasReset(r.tap.Exchanges()) {
		r.t.Error("the last command was not PL_TUC_CARD_RESET")
	}
	if r.tap.PINVerified() || r.tap.Unlocked() {
		r.t.Error("the card kept a security state")
	}
	if err := srv.WaitUnconnected(r.ctx); err != nil {
		r.t.Error(err)
	}
	r.leave()
	sound(r.t, r.Views())
}

func TestEndOfSession(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2447", "AdV-A_2449", "AdV-A_2450")
	for name, end := range map[string]func(*rig){
		"at the PIN": func(r *rig) {
			r.screen(view.PIN)
			if err := r.Reader.WaitAwaiting(r.ctx, "pin"); err != nil {
				r.t.Fatal(err)
			}
			r.Choose(view.ChoiceEnd)
			// The pad cannot be called off from here: the screen asks for its cancel key.
			if v := r.screen(view.Ending); v.PadStage != "cancel" {
				r.t.Errorf("ending screen %+v", v)
			}
			r.key(simreader.KeyCancel)
		},
		"at the PIN, typing on": func(r *rig) {
			r.screen(view.PIN)
			if err := r.Reader.WaitAwaiting(r.ctx, "pin"); err != nil {
				r.t.Fatal(err)
			}
			r.Choose(view.ChoiceEnd)
			r.screen(view.Ending)
			r.enter("pin", persona.PIN) // verified, and reset all the same
		},
		"after a wrong PIN": func(r *rig) {
			r.screen(view.PIN)
			r.enter("pin", oneWrong)
			r.screen(view.PINWrong)
			r.Choose(view.ChoiceEnd)
		},
		"in the menu": func(r *rig) {
			r.startToMenu()
			r.Choose(view.ChoiceEnd)
		},
		"at the data": func(r *rig) {
			r.startToMenu()
			r.Choose("vsd.show")
			r.screen(view.Data)
			r.Choose(view.ChoiceEnd)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := serve(t, world, ServerConfig{})
			r := newRig(t, TerminalConfig{Dial: dialer(srv)})
			r.insertTap(tapped(t, world, "healthy-g21", nil, nil))
			end(r)
			r.orderly(srv)
		})
	}
	t.Run("at the blocked PIN", func(t *testing.T) {
		t.Parallel()
		srv := serve(t, world, ServerConfig{})
		r := newRig(t, TerminalConfig{Dial: dialer(srv)})
		r.insert("pin-blocked")
		r.screen(view.PINBlocked)
		r.Choose(view.ChoiceEnd)
		r.orderly(srv)
	})
	t.Run("at the PUK", func(t *testing.T) {
		t.Parallel()
		srv := serve(t, world, ServerConfig{})
		r := newRig(t, TerminalConfig{Dial: dialer(srv)})
		r.insert("pin-blocked")
		r.screen(view.PINBlocked)
		r.Choose(view.ChoicePUKKnown)
		r.screen(view.PUK)
		if err := r.Reader.WaitAwaiting(r.ctx, "old"); err != nil {
			t.Fatal(err)
		}
		r.Choose(view.ChoiceEnd)
		r.screen(view.Ending)
		if err := r.Reader.PressKey(simreader.KeyCancel); err != nil {
			t.Fatal(err)
		}
		r.orderly(srv)
	})
}

// A failure ends the session in the same way: the card is reset before the person reads what happened.
func TestEndAfterFailure(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2449")
	srv := serve(t, world, ServerConfig{})
	r := newRig(t, TerminalConfig{Dial: dialer(srv)})
	r.insert("damaged-vsd")
	r.startToMenu()
	if !r.tap.Unlocked() {
		t.Fatal("the card is not unlocked: this test could not fail")
	}
	r.Choose("vsd.show")
	r.problem("VSD-3011")
	if !wasReset(r.tap.Exchanges()) || r.tap.PINVerified() || r.tap.Unlocked() {
		t.Error("the card was not reset")
	}
	if err := srv.WaitUnconnected(r.ctx); err != nil {
		t.Error(err)
	}
	r.leave()
	sound(t, r.Views())
}

// The negative twin: in the menu the card is unlocked, verified and connected, so that the checks above can fail.
func TestOpenSessionIsSeen(t *testing.T) {
	t.Parallel()
	srv := serve(t, world, ServerConfig{})
	r := newRig(t, TerminalConfig{Dial: dialer(srv)})
	r.toMenu("healthy-g21")
	if !r.tap.PINVerified() || !r.tap.Unlocked() {
		t.Error("the card of an open session has no security state")
	}
	if open, ever := srv.Connections(); open != 1 || ever != 1 {
		t.Errorf("%d connections of %d", open, ever)
	}
	if wasReset(r.tap.Exchanges()) {
		t.Error("the card was reset")
	}
}

// A card that does not understand PL_TUC_CARD_RESET is reset by its contacts.
func TestResetByContacts(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2449")
	r := newRig(t, TerminalConfig{})
	r.insertTap(tapped(t, world, "healthy-g21", nil, func(_ int, cmd []byte) []byte {
		if bytes.Equal(cmd, manageChannelReset) {
			return []byte{0x6D, 0x00}
		}
		return nil
	}))
	r.startToMenu()
	r.Choose(view.ChoiceEnd)
	r.screen(view.TakeCard)
	if r.tap.PINVerified() || r.tap.Unlocked() {
		t.Error("the card kept a security state")
	}
}

// A session that ends while the protocol entry is being written waits for it (AdV-A_2449), and the screen has said that the
// card must stay (AdV-A_2446).
func TestEndWaitsForTheWrite(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2446", "AdV-A_2449")
	srv := serve(t, world, ServerConfig{})
	var r *rig
	reached, goOn := make(chan struct{}), make(chan struct{})
	tap := tapped(t, world, "healthy-g2", nil, func(_ int, cmd []byte) []byte {
		if cmd[1] == 0xE2 {
			close(reached)
			<-goOn
		}
		return nil
	})
	before := len(entries(t, tap.Card))
	r = newRig(t, TerminalConfig{Dial: dialer(srv)})
	r.insertTap(tap)
	r.screen(view.PIN)
	r.enter("pin", persona.PIN)
	select {
	case <-reached:
	case <-r.ctx.Done():
		t.Fatal("nothing is written")
	}
	views := r.Views()
	if v := views[len(views)-1]; v.Screen != view.Connecting || !v.KeepCard || v.Steps[2].ID != "step.log" {
		t.Errorf("while the card is written the screen is %+v", v)
	}
	r.Choose(view.ChoiceEnd)
	close(goOn)
	r.orderly(srv)
	if n := len(entries(t, tap.Card)); n != before+1 {
		t.Errorf("%d new entries; want 1", n-before)
	}
	for _, v := range r.Views() {
		if v.Screen == view.Menu {
			t.Error("the session went on")
		}
	}
}

// Cards that must not be taken: the views of writes say so (AdV-A_2446), and those of a menu do not.
func TestKeepCard(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2446")
	r := newRig(t, TerminalConfig{})
	r.insert("healthy-g2")
	r.visit(persona.PIN)
	for _, v := range r.Views() {
		if want := v.Screen == view.Connecting; v.KeepCard != want {
			t.Errorf("%s: keep the card %v", v.Screen, v.KeepCard)
		}
	}
}

// Pulling the card at a menu or at data ends the session at once and without a word; the next person finds a neutral screen
// (AdV-A_2448).
func TestPullAtRest(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2448", "AdV-A_2450")
	for name, rest := range map[string]func(*rig){
		"menu": func(r *rig) { r.startToMenu() },
		"data": func(r *rig) { r.startToMenu(); r.Choose("vsd.show"); r.screen(view.Data) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := serve(t, world, ServerConfig{})
			r := newRig(t, TerminalConfig{Dial: dialer(srv)})
			r.insert("healthy-g21")
			rest(r)
			n := r.tap.Count()
			r.Reader.Remove()
			r.screen(view.Neutral)
			out := r.outcome(1)
			if !out.Served || !errors.Is(out.Err, apdu.ErrCardRemoved) {
				t.Errorf("outcome %+v", out)
			}
			if err := srv.WaitUnconnected(r.ctx); err != nil {
				t.Error(err)
			}
			if r.tap.Count() != n {
				t.Error("the card got commands after it was pulled")
			}
			for _, v := range r.Views() {
				if v.Screen == view.Problem {
					t.Errorf("problem %+v", v.Problem)
				}
			}
			sound(t, r.Views())
		})
	}
}

// Pulling it where the reader or a question waits ends the session too, with a word.
func TestPullWhileAsked(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2448")
	for name, c := range map[string]struct {
		id string
		at func(*rig)
	}{
		"PIN pad": {"healthy-g21", func(r *rig) {
			r.screen(view.PIN)
			if err := r.Reader.WaitAwaiting(r.ctx, "pin"); err != nil {
				r.t.Fatal(err)
			}
		}},
		"wrong PIN":   {"healthy-g21", func(r *rig) { r.screen(view.PIN); r.enter("pin", oneWrong); r.screen(view.PINWrong) }},
		"blocked PIN": {"pin-blocked", func(r *rig) { r.screen(view.PINBlocked) }},
		"PUK": {"pin-blocked", func(r *rig) {
			r.screen(view.PINBlocked)
			r.Choose(view.ChoicePUKKnown)
			if err := r.Reader.WaitAwaiting(r.ctx, "old"); err != nil {
				r.t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, TerminalConfig{})
			r.insert(c.id)
			c.at(r)
			r.Reader.Remove()
			r.problem("CARD-REMOVED")
			r.Choose(view.ChoiceEnd)
			r.screen(view.Neutral)
			sound(t, r.Views())
		})
	}
}

// A reader that does not notice during a PIN entry that the card is gone must not hold up the end of the session.
func TestPullUnnoticedByThePad(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2448")
	r := newRig(t, TerminalConfig{})
	r.Reader.SetFailures(simreader.Failures{IgnoreRemoval: true})
	r.insert("healthy-g21")
	r.screen(view.PIN)
	if err := r.Reader.WaitAwaiting(r.ctx, "pin"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	r.Reader.Remove()
	r.problem("CARD-REMOVED")
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("told after %v", d)
	}
}

// A card that is left in is not served again: its holder is asked to take it, and nothing of it is read (AdV-A_2449).
func TestCardLeftIn(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2449")
	r := newRig(t, TerminalConfig{})
	r.toMenu("healthy-g21")
	r.Choose(view.ChoiceEnd)
	r.screen(view.TakeCard)
	r.outcome(1)
	n := r.tap.Count()
	r.screen(view.TakeCard) // of the next session
	r.Choose(view.ChoiceContinue)
	r.leave()
	if r.tap.Count() != n {
		t.Error("the card was read again")
	}
	// In again, it is served.
	r.insertTap(r.tap)
	r.startToMenu()
}
