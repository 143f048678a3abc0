package visit

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ktradv/hw/apdu"
	"ktradv/hw/reader"
	"ktradv/hw/sim/adapter"
	"ktradv/hw/sim/persona"
	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/advlog"
	"ktradv/internal/req"
	"ktradv/kiosk/session"
	"ktradv/kiosk/view"
)

// While the PIN is asked for, the reader's display asks for it, with the prescribed text where it can show one, and the
// screen says to enter it at the reader; the log tells by which way the prompt went (AdV-A_2502, AdV-A_2505).
func TestPromptWays(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2502", "AdV-A_2505")
	for name, c := range map[string]struct {
		profile  simreader.Profile
		failures simreader.Failures
		display  string // what the reader shows
		free     bool   // the prescribed text
		way      string
	}{
		"class 3, text of its own": {simreader.CCID, simreader.Failures{}, "Bitte PIN", false, "reader_text"},
		"class 3, free text":       {simreader.MCT, simreader.Failures{}, "Eingabe Versicherten-PIN:", true, "free_text"},
		"class 2":                  {simreader.CCID, simreader.Failures{NoDisplay: true}, "", false, "none"},
		"properties unknown":       {simreader.CCID, simreader.Failures{NoProperties: true}, "", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, read := appLog(t)
			r := newRig(t, TerminalConfig{Reader: simreader.Config{Profile: c.profile}, Log: log})
			r.Reader.SetFailures(c.failures)
			r.insert("healthy-g21")
			v := r.screen(view.PIN)
			if v.Prompt != "PIN.VERIFY.PIN.CH" || german(v.Prompt, nil) != "Eingabe Versicherten-PIN: " || v.PadStage != "pin" {
				t.Errorf("screen %+v", v)
			}
			if v.ReaderShowsPrompt != c.free {
				t.Errorf("the screen says that the reader shows the text: %v", v.ReaderShowsPrompt)
			}
			if err := r.Reader.WaitAwaiting(r.ctx, "pin"); err != nil {
				t.Fatal(err)
			}
			if d := strings.ReplaceAll(r.Reader.Display(), "\n", " "); c.display != "" && !strings.Contains(d, c.display) {
				t.Errorf("the reader shows %q", d)
			}
			r.enter("pin", persona.PIN)
			r.screen(view.Menu)
			ways := ""
			for _, e := range read() {
				if e.Name == "pin.prompt" {
					ways += e.Values["shown"].(string)
				}
			}
			if c.way != "" && ways != c.way {
				t.Errorf("log says %q; want %q", ways, c.way)
			}
		})
	}
}

// Whole visits with readers that differ in what they can do.
func TestReadersThatWork(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]simreader.Failures{
		"no properties":           {NoProperties: true},
		"no display":              {NoDisplay: true},
		"notices no removal":      {IgnoreRemoval: true},
		"PIN format A":            {OnlyFormat: [3]byte{0x89, 0x47, 0x04}},
		"one message in a prompt": {OneMessage: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, id := range []string{"healthy-g21", "healthy-g2"} {
				r := newRig(t, TerminalConfig{})
				r.Reader.SetFailures(f)
				r.insert(id)
				if code := r.visit(persona.PIN); code != "" {
					t.Errorf("%s: problem %s", id, code)
				}
			}
		})
	}
}

// Readers that must not be used for a PIN: refused with an explanation, and nothing stays open.
func TestReadersThatAreRefused(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2444")
	for name, c := range map[string]struct {
		f    simreader.Failures
		code string
	}{
		"no pad":                   {simreader.Failures{NoPad: true}, "READER-NO-PAD"},
		"verify only":              {simreader.Failures{VerifyOnly: true}, "READER-NO-PAD"},
		"structure not understood": {simreader.Failures{OnlyFormat: [3]byte{1, 2, 3}}, "READER-NO-PAD"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, TerminalConfig{})
			r.Reader.SetFailures(c.f)
			r.insert("healthy-g21")
			r.screen(view.PIN)
			r.problem(c.code)
			r.leave()
			sound(t, r.Views())
		})
	}
}

// A reader that gives the PIN away: the operation is aborted with an unambiguous message, in the security log too, and the
// card is reset although the PIN was right (AdV-A_2501, AdV-A_2504).
func TestReaderDisclosesThePIN(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2504", "AdV-A_2501")
	for name, class2 := range map[string]bool{"class 3": false, "class 2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, read := appLog(t)
			r := newRig(t, TerminalConfig{Log: log})
			r.Reader.SetFailures(simreader.Failures{EchoPIN: true, NoDisplay: class2})
			r.insert("healthy-g21")
			r.screen(view.PIN)
			r.enter("pin", persona.PIN)
			r.problem("PIN-READER-LEAK")
			if r.tap.PINVerified() {
				t.Error("the PIN is still verified")
			}
			if n := count(read(), func(e advlog.Entry) bool { return e.Log == "security" && e.Text == "PIN-READER-LEAK" }); n != 1 {
				t.Errorf("%d entries in the security log; want 1", n)
			}
			for _, e := range r.tap.Exchanges() {
				if e.Command[1] == 0x86 {
					t.Error("the session went on")
				}
			}
			r.leave()
			sound(t, r.Views())
		})
	}
}

// A card service that hangs is noticed by the session's own deadline and reported to whoever replaces it.
func TestReaderHangs(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2424", "AdV-A_2444")
	exchange, entry := adapter.Config{CallTimeout: 150 * time.Millisecond}, adapter.Config{EntryTimeout: 150 * time.Millisecond}
	for name, c := range map[string]struct {
		deadline adapter.Config
		reach    func(*rig)
	}{
		"reading": {exchange, func(r *rig) { r.Reader.HangNext(); r.insert("healthy-g21") }},
		"data": {exchange, func(r *rig) {
			r.toMenu("healthy-g21")
			r.Reader.HangNext()
			r.Choose("vsd.show")
		}},
		"pin": {entry, func(r *rig) { // which nobody but its deadline ends: keys and the card's removal do not
			r.Reader.SetFailures(simreader.Failures{HangPIN: true})
			r.insert("healthy-g21")
			r.screen(view.PIN)
		}},
		"puk": {entry, func(r *rig) {
			r.Reader.SetFailures(simreader.Failures{HangPIN: true})
			r.insert("pin-blocked")
			r.screen(view.PINBlocked)
			r.Choose(view.ChoicePUKKnown)
			r.screen(view.PUK)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var hung atomic.Int32
			log, read := appLog(t)
			r := newRig(t, TerminalConfig{
				Log:     log,
				Adapter: c.deadline,
				Change:  func(c *session.Config) { c.CardServiceHung = func() { hung.Add(1) } },
			})
			c.reach(r)
			r.problem("READER-HUNG")
			if hung.Load() == 0 {
				t.Error("nobody was told that the card service hangs")
			}
			r.Reader.Release()
			r.Reader.Remove()
			r.Choose(view.ChoiceEnd)
			r.screen(view.Neutral)
			sound(t, r.Views())
			aboutTheReader(t, read(), "READER-HUNG")
		})
	}
}

// aboutTheReader wants one error entry with a code, and no number of a card in it: that is for errors of the card alone.
func aboutTheReader(t *testing.T, entries []advlog.Entry, code string) {
	t.Helper()
	if n := count(entries, func(e advlog.Entry) bool { return e.Log == "error" && e.Text == code }); n != 1 {
		t.Errorf("%d entries %s in the error log; want 1", n, code)
	}
	if n := count(entries, func(e advlog.Entry) bool { return e.ICCSN != "" }); n != 0 {
		t.Errorf("%d entries with the number of the card, which has nothing to do with it", n)
	}
}

// deaf is a slot whose reader fails every exchange from some moment on, and answers to the order to reset the card as it is told.
type deaf struct {
	session.Slot
	failing *atomic.Bool
	reset   error
}

func (d deaf) Connect(ctx context.Context) (reader.Card, error) {
	c, err := d.Slot.Connect(ctx)
	return deafCard{c, d}, err
}

type deafCard struct {
	reader.Card
	deaf
}

func (c deafCard) Transmit(ctx context.Context, cmd apdu.Command) (apdu.Response, error) {
	if c.failing.Load() {
		return apdu.Response{}, fmt.Errorf("transmit: %w", reader.ErrTransmission)
	}
	return c.Card.Transmit(ctx, cmd)
}

func (c deafCard) Reset(ctx context.Context) error {
	if !c.failing.Load() {
		return c.Card.Reset(ctx)
	}
	return c.reset
}

// An exchange that fails may be the card's fault or the reader's: it is the reader's when that does not even answer to the
// order to reset the card. The person is told which, and the card service behind a reader that does not answer is replaced.
func TestReaderIsDeaf(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2424", "AdV-A_2444")
	for name, c := range map[string]struct {
		reset error
		code  string
	}{
		"reset fails":          {fmt.Errorf("reset: %w", reader.ErrTransmission), "READER-HUNG"},
		"reset takes too long": {context.DeadlineExceeded, "READER-HUNG"},
		"reset hangs":          {reader.ErrHung, "READER-HUNG"},
		"card is mute":         {reader.ErrMute, "CARD-READ-ERROR"},
		"card is reset":        {nil, "CARD-READ-ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var failing atomic.Bool
			var hung atomic.Int32
			log, read := appLog(t)
			r := newRig(t, TerminalConfig{Log: log, Change: func(s *session.Config) {
				s.Slot = deaf{s.Slot, &failing, c.reset}
				s.CardServiceHung = func() { hung.Add(1) }
			}})
			r.toMenu("healthy-g21")
			failing.Store(true)
			r.Choose("vsd.show")
			r.problem(c.code)
			if got, want := hung.Load() > 0, c.code == "READER-HUNG"; got != want {
				t.Errorf("the card service was said to hang: %v, want %v", got, want)
			}
			r.Reader.Remove()
			r.Choose(view.ChoiceEnd)
			r.screen(view.Neutral)
			sound(t, r.Views())
			aboutTheReader(t, read(), c.code)
		})
	}
}

// A card that does not answer to the reset of this reader, and then another one that does.
func TestMuteThenHealthy(t *testing.T) {
	t.Parallel()
	r := newRig(t, TerminalConfig{})
	for range 3 {
		r.insert("wrong-way")
		r.problem("CARD-MUTE")
		r.leave()
	}
	r.toMenu("healthy-g21")
}
