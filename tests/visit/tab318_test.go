package visit

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"ktradv/hw/cos"
	"ktradv/hw/sim/card"
	"ktradv/hw/sim/persona"
	"ktradv/internal/req"
	"ktradv/kiosk/serverlink"
	"ktradv/kiosk/session"
	"ktradv/kiosk/text"
	"ktradv/kiosk/view"
	"ktradv/server/api"
)

// tab318 is TAB_ADV_318, word by word.
var tab318 = map[cos.Result]string{
	"CardTerminated":             "Ihre Gesundheitskarte ist gesperrt, bitte wenden Sie sich an Ihre Krankenkasse.",
	"CorruptDataWarning":         "Fehler beim Lesen von der eGK. Daten möglicherweise verfälscht.",
	"DataTooBig":                 "Technischer Fehler. Fehler beim Schreiben auf die eGK. Die Daten sind zu groß.",
	"ErrorAuthentication":        "Technischer Fehler. Kartenfreischaltung fehlgeschlagen.",
	"ErrorImportCVC":             "Technischer Fehler. Kartenfreischaltung fehlgeschlagen.",
	"ErrorUserVerification":      "Technischer Fehler. Kartenfreischaltung fehlgeschlagen.",
	"FileNotFound":               "Technischer Fehler. Die Daten wurden auf der eGK nicht gefunden.",
	"MemoryFailure":              "Ihre Gesundheitskarte ist beschädigt, bitte wenden Sie sich an Ihre Krankenkasse.",
	"NotEnoughtMemorySpace":      "Technischer Fehler. Fehler beim Schreiben auf die eGK. Die Daten sind zu groß.",
	"ObjectNotFound":             "Technischer Fehler. Die Daten wurden auf der eGK nicht gefunden.",
	"ObjectTerminated":           "Technischer Fehler. Das Objekt auf der eGK ist nicht mehr verwendbar.",
	"OffsetTooBig":               "Technischer Fehler. Die Daten auf der eGK werden nicht korrekt adressiert.",
	"PasswordBlocked":            "Das Passwort wurde – nach zu häufiger falscher PIN/PUK Eingabe – blockiert.",
	"PasswordDisabled":           "Das Passwort ist abgeschaltet.",
	"SecurityStatusNotSatisfied": "Technischer Fehler. Es fehlen Zugriffsrechte für die Ausführung des Anwendungsfalls.",
	"UpdateRetryWarning":         "Die Operation war erfolgreich, musste jedoch mehrmals für die eGK wiederholt werden. Wegen dieses Speicherfehlers ist es angebracht, die Smart Card baldmöglichst zu ersetzen.",
	"WrongSecretWarning":         "Falsche PIN, verbleibende Eingabeversuche <x>",
	"WrongEndEntityCVC":          "Technischer Fehler. Kartenfreischaltung fehlgeschlagen.",
}

// failing is a server whose unlocking ends with an error.
type failing struct{ err error }

// Unlock implements session.Server.
func (f failing) Unlock(context.Context, serverlink.Start, serverlink.Run) (serverlink.Actor, error) {
	return serverlink.Actor{}, f.err
}

// CheckCertificate implements session.Server.
func (f failing) CheckCertificate(context.Context, []byte) (serverlink.Validity, error) {
	return serverlink.Validity{}, f.err
}

// Gone implements session.Server.
func (failing) Gone() <-chan struct{} { return nil }

// Abort implements session.Server.
func (failing) Abort(api.AbortCode) {}

// Close implements session.Server.
func (failing) Close() error { return nil }

// told is the German text that the person reads for a problem.
func told(v view.View) string {
	if v.Problem == nil {
		return ""
	}
	if v.Problem.Prescribed != "" {
		return german(v.Problem.Prescribed, v.Problem.Args)
	}
	return german(v.Problem.Text, v.Problem.Args)
}

// Every result of the building blocks that TAB_ADV_318 names is told with its text, and what it advises.
func TestTAB318(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2444")
	for result, want := range tab318 {
		t.Run(string(result), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, TerminalConfig{Dial: func(context.Context) (session.Server, error) {
				return failing{fmt.Errorf("unlock: %w", &cos.StatusError{Command: "TEST", SW: 0x6F01, Result: result, Left: 2})}, nil
			}})
			r.insert("healthy-g21")
			r.screen(view.PIN)
			r.enter("pin", persona.PIN)
			v := r.problem(string(result))
			if result == "WrongSecretWarning" {
				want = "Falsche PIN, verbleibende Eingabeversuche 2"
			}
			if got := told(v); got != want {
				t.Errorf("told %q\nwant %q", got, want)
			}
			for _, l := range text.Languages {
				if next, ok := catalog.Lookup(l.Lang, v.Problem.Next); !ok || next == "" {
					t.Errorf("no advice in %s", l.Lang)
				}
			}
			r.leave()
			sound(t, r.Views())
		})
	}
	// Results without a prescribed text get one of the product's own.
	for _, result := range []cos.Result{cos.ResultKeyInvalid, cos.ResultFullRecordList, cos.ResultWrongToken, cos.ResultUnexpectedStatus, "Invented"} {
		t.Run(string(result), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, TerminalConfig{Dial: func(context.Context) (session.Server, error) {
				return failing{&cos.StatusError{Result: result}}, nil
			}})
			r.insert("healthy-g21")
			r.screen(view.PIN)
			r.enter("pin", persona.PIN)
			r.problem("ErrorAuthentication")
			r.leave()
			sound(t, r.Views())
		})
	}
}

// The texts stand where the card says so: status words of real commands, from the card's insertion to the data.
func TestTAB318WhereItBelongs(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2444")
	on := func(ins byte, sw uint16) func(int, []byte) []byte {
		return func(_ int, cmd []byte) []byte {
			if cmd[1] == ins {
				return []byte{byte(sw >> 8), byte(sw)}
			}
			return nil
		}
	}
	once := func(ins, p1 byte, sw uint16) func(int, []byte) []byte {
		return func(_ int, cmd []byte) []byte {
			if cmd[1] == ins && cmd[2] == p1 {
				return []byte{byte(sw >> 8), byte(sw)}
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		id     string
		alter  alter
		answer func(int, []byte) []byte
		code   string
		text   cos.Result
	}{
		"root terminated":         {"healthy-g21", func(_ testing.TB, s *card.System) { s.Root.State = card.Terminated }, nil, "CardTerminated", "CardTerminated"},
		"root deactivated":        {"healthy-g21", func(_ testing.TB, s *card.System) { s.Root.State = card.Deactivated }, nil, "CardTerminated", "CardTerminated"},
		"PSO VERIFY CERT 6A80":    {"healthy-g21", nil, on(0x2A, 0x6A80), "ErrorImportCVC", "ErrorImportCVC"},
		"PSO VERIFY CERT 6983":    {"healthy-g21", nil, on(0x2A, 0x6983), "ErrorImportCVC", "ErrorImportCVC"},
		"MSE root unknown":        {"healthy-g21", nil, once(0x22, 0x81, 0x6A88), "ErrorImportCVC", "ErrorImportCVC"},
		"GENERAL AUTH 1 6A88":     {"healthy-g21", nil, on(0x86, 0x6A88), "ErrorAuthentication", "ErrorAuthentication"},
		"EXTERNAL AUTH 6300":      {"healthy-g21", nil, on(0x82, 0x6300), "ErrorAuthentication", "ErrorAuthentication"},
		"GET CHALLENGE 6D00":      {"healthy-g21", nil, on(0x84, 0x6D00), "ErrorAuthentication", "ErrorAuthentication"},
		"APPEND RECORD 6581":      {"healthy-g2", nil, on(0xE2, 0x6581), "MemoryFailure", "MemoryFailure"},
		"APPEND RECORD 6982":      {"healthy-g2", nil, on(0xE2, 0x6982), "SecurityStatusNotSatisfied", "SecurityStatusNotSatisfied"},
		"APPEND RECORD 6A82":      {"healthy-g2", nil, on(0xE2, 0x6A82), "ObjectNotFound", "ObjectNotFound"},
		"APPEND RECORD 6A84":      {"healthy-g2", nil, on(0xE2, 0x6A84), "LOG-ENTRY-FAILED", ""},
		"DF.ESIGN away":           {"healthy-g21", func(t testing.TB, s *card.System) { folder(t, s, "MF/DF.ESIGN").State = card.Terminated }, nil, "CARD-READ-ERROR", ""},
		"INTERNAL AUTH refused":   {"healthy-g21", nil, on(0x88, 0x6A88), "ErrorAuthentication", "ErrorAuthentication"},
		"EF.C.eGK.AUT_CVC absent": {"healthy-g21", nil, once(0xB0, 0x86, 0x6A82), "ObjectNotFound", "ObjectNotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, TerminalConfig{})
			tap := tapped(t, world, c.id, nil, c.answer)
			if c.alter != nil {
				tap.Card.View(func(s *card.System) { c.alter(t, s) })
			}
			r.insertTap(tap)
			v := r.await("PIN or problem", func(v view.View) bool { return v.Screen == view.PIN || v.Screen == view.Problem })
			if v.Screen == view.PIN {
				r.enter("pin", persona.PIN)
				v = r.screen(view.Problem)
			}
			if v.Problem.Code != c.code {
				t.Errorf("problem %s; want %s", v.Problem.Code, c.code)
			}
			if c.text != "" && told(v) != tab318[c.text] {
				t.Errorf("told %q; want %q", told(v), tab318[c.text])
			}
			r.leave()
			sound(t, r.Views())
		})
	}
	t.Run("EF.PD 6281", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, TerminalConfig{})
		var tap *Tap
		tap = tapped(t, world, "healthy-g21", nil, func(_ int, cmd []byte) []byte {
			if cmd[1] != 0xB0 || cmd[2] != 0x81 {
				return nil
			}
			b := bytes.Clone(tap.Card.Process(cmd))
			copy(b[len(b)-2:], []byte{0x62, 0x81})
			return b
		})
		r.insertTap(tap)
		r.startToMenu()
		r.Choose("vsd.show")
		v := r.screen(view.Data)
		if len(v.Notices) != 1 || german(v.Notices[0].ID, nil) != tab318["CorruptDataWarning"] || len(v.Data) == 0 {
			t.Errorf("notices %+v, %d sections", v.Notices, len(v.Data))
		}
	})
	t.Run("retries", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, TerminalConfig{})
		var tap *Tap
		tap = tapped(t, world, "healthy-g21", nil, func(_ int, cmd []byte) []byte {
			if cmd[1] != 0x2A {
				return nil
			}
			tap.Card.Process(cmd)
			return []byte{0x63, 0xC2}
		})
		r.insertTap(tap)
		v := r.startToMenu()
		if len(v.Notices) != 1 || german(v.Notices[0].ID, nil) != tab318["UpdateRetryWarning"] {
			t.Errorf("notices %+v", v.Notices)
		}
	})
	t.Run("blocked PIN", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, TerminalConfig{})
		r.insert("pin-blocked")
		if v := r.screen(view.PINBlocked); told(v) != tab318["PasswordBlocked"] {
			t.Errorf("told %q", told(v))
		}
	})
}
