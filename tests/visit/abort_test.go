package visit

import (
	"testing"

	"ktradv/hw/sim/persona"
	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/advlog"
	"ktradv/internal/req"
	"ktradv/kiosk/view"
)

// What the server's log says about the end of a session: nothing about one that ended in order, and otherwise why the
// terminal gave up, with the card's number where the card was the reason (AdV-A_2422, AdV-A_2424).
func TestServerLearnsWhy(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2422", "AdV-A_2424")
	const role, entry = 0x82, 0xE2
	play := func(t *testing.T, text string, card bool, id string, answer func(r **rig) func(int, []byte) []byte, run func(r *rig)) {
		t.Helper()
		log, read := openLog(t, t.TempDir(), advlog.Server)
		srv := serve(t, world, ServerConfig{Log: log})
		r := newRig(t, TerminalConfig{Dial: dialer(srv)})
		var f func(int, []byte) []byte
		if answer != nil {
			f = answer(&r)
		}
		r.insertTap(tapped(t, world, id, nil, f))
		run(r)
		if err := srv.WaitUnconnected(r.ctx); err != nil {
			t.Fatal(err)
		}
		srv.Close() // its sessions have written everything
		var errs []advlog.Entry
		for _, e := range read() {
			if e.Log == "error" {
				errs = append(errs, e)
			}
		}
		switch {
		case text == "" && len(errs) != 0:
			t.Errorf("entry %q for a session that ended in order", errs[0].Text)
		case text != "" && (len(errs) != 1 || errs[0].Text != text || (errs[0].ICCSN != "") != card):
			t.Errorf("entries %+v; want %q, with the card's number: %v", errs, text, card)
		}
	}
	startOnly := func(r *rig) { r.screen(view.PIN); r.enter("pin", persona.PIN) }
	t.Run("in order", func(t *testing.T) {
		t.Parallel()
		play(t, "", false, "healthy-g2", nil, func(r *rig) { r.visit(persona.PIN) })
	})
	t.Run("pulled at the menu", func(t *testing.T) {
		t.Parallel()
		play(t, "", false, "healthy-g21", nil, func(r *rig) { r.startToMenu(); r.Reader.Remove(); r.screen(view.Neutral) })
	})
	t.Run("pulled while it is unlocked", func(t *testing.T) {
		t.Parallel()
		play(t, "card or reader is gone", true, "healthy-g21", nil, func(r *rig) {
			r.Reader.PullOn(func(cmd []byte) simreader.Pull {
				if cmd[1] == role {
					return simreader.PullBefore
				}
				return simreader.PullNone
			})
			startOnly(r)
			r.problem("CARD-REMOVED")
		})
	})
	t.Run("ended while it is unlocked", func(t *testing.T) {
		t.Parallel()
		play(t, "insured person ended the session", false, "healthy-g21", func(r **rig) func(int, []byte) []byte {
			return func(_ int, cmd []byte) []byte {
				if cmd[1] == role {
					(*r).Choose(view.ChoiceEnd)
				}
				return nil
			}
		}, func(r *rig) { startOnly(r); r.screen(view.TakeCard) })
	})
	t.Run("entry refused", func(t *testing.T) {
		t.Parallel()
		play(t, "app gave up because of a fault", false, "healthy-g2", func(**rig) func(int, []byte) []byte {
			return func(_ int, cmd []byte) []byte {
				if cmd[1] == entry {
					return []byte{0x65, 0x81}
				}
				return nil
			}
		}, func(r *rig) { startOnly(r); r.problem("MemoryFailure") })
	})
}
