package visit

import (
	"bytes"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"ktradv/hw/egk"
	"ktradv/hw/sim/card"
	"ktradv/hw/sim/persona"
	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/internal/x509ti"
	"ktradv/kiosk/text"
	"ktradv/kiosk/view"
	"ktradv/server/tisim"
)

// catalog holds the texts that a person reads.
var catalog = func() *text.Catalog {
	c, err := text.New(nil)
	if err != nil {
		panic(err)
	}
	return c
}()

func german(id string, args map[string]string) string { return catalog.Get(text.German, id, args) }

// row is one row of TAB_ADV_304 with a course that leads through it.
type row struct {
	activity string // as in the table
	row      string // return value or condition, as in the table
	what     string // the course, where a row needs several
	play     func(t *testing.T)
}

// oneWrong is a PIN of the right length that no persona has.
const oneWrong = "654321"

// rows are all rows of TAB_ADV_304.
var rows = []row{
	// Einlesen der Karte, PL_TUC_CARD_INFORMATION.
	{"Einlesen der Karte", "Kartentyp: MUSS vom Typ eGK sein", "eGK", reaches("healthy-g21", nil, view.PIN)},
	{"Einlesen der Karte", "Kartentyp: MUSS vom Typ eGK sein", "SMC-B", refused("not-an-egk", nil, "CARD-NOT-EGK")},
	{"Einlesen der Karte", "Produkttypversion: MUSS G2 oder höher sein", "G2", reaches("healthy-g2", nil, view.PIN)},
	{"Einlesen der Karte", "Produkttypversion: MUSS G2 oder höher sein", "G2.1", reaches("healthy-g21", nil, view.PIN)},
	{"Einlesen der Karte", "Produkttypversion: MUSS G2 oder höher sein", "G1+ by its version", refused("healthy-g21", oldVersion, "CARD-TOO-OLD")},
	{"Einlesen der Karte", "Produkttypversion: MUSS G2 oder höher sein", "G1 by its root", refused("healthy-g21", oldRoot, "CARD-TOO-OLD")},
	{"Einlesen der Karte", "Echtheit: MUSS für echt befunden sein", "copy", refused("copied-card", nil, "CARD-NOT-AUTHENTIC")},
	{"Einlesen der Karte", "Echtheit: MUSS für echt befunden sein", "foreign root", refused("foreign-root", nil, "CARD-NOT-AUTHENTIC")},
	{"Einlesen der Karte", "Echtheit: MUSS für echt befunden sein", "other card number", refused("healthy-g21", otherNumber, "CARD-NOT-AUTHENTIC")},
	{"Einlesen der Karte", "Status der PIN.CH \"PIN gesperrt\"", "", reaches("pin-blocked", nil, view.PINBlocked)},

	// Einverständnis des Versicherten einholen, PL_TUC_CARD_VERIFY_PIN.
	{"Benutzerverifikation", "OK", "", func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		if v := r.toMenu("healthy-g21"); v.Screen != view.Menu || !r.tap.PINVerified() {
			t.Error("PIN.CH is not verified in the menu")
		}
	}},
	{"Benutzerverifikation", "WrongSecretWarning.X", "again", func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		r.insert("healthy-g21")
		if v := r.screen(view.PIN); v.TriesLeft != 3 {
			t.Errorf("%d tries left at first; want 3", v.TriesLeft)
		}
		r.enter("pin", oneWrong)
		v := r.screen(view.PINWrong)
		if v.TriesLeft != 2 || !v.Problem.CanRetry || !v.CanEnd || german(v.Problem.Prescribed, v.Problem.Args) != "Falsche PIN, verbleibende Eingabeversuche 2" {
			t.Errorf("after a wrong PIN: %+v %+v", v, v.Problem)
		}
		r.Choose(view.ChoiceRetry)
		if v := r.screen(view.PIN); v.TriesLeft != 2 {
			t.Errorf("%d tries left; want 2", v.TriesLeft)
		}
		r.enter("pin", persona.PIN)
		r.screen(view.Menu)
	}},
	{"Benutzerverifikation", "WrongSecretWarning.X", "end", func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		r.insert("healthy-g21")
		r.screen(view.PIN)
		r.enter("pin", oneWrong)
		r.screen(view.PINWrong)
		r.Choose(view.ChoiceEnd)
		r.screen(view.TakeCard)
		r.leave()
	}},
	{"Benutzerverifikation", "PasswordBlocked", "third wrong PIN", func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		r.insert("healthy-g21")
		for left := 2; left > 0; left-- {
			r.screen(view.PIN)
			r.enter("pin", oneWrong)
			if v := r.screen(view.PINWrong); v.TriesLeft != left {
				t.Errorf("%d tries left; want %d", v.TriesLeft, left)
			}
			r.Choose(view.ChoiceRetry)
		}
		r.screen(view.PIN)
		r.enter("pin", oneWrong)
		blocked(t, r.screen(view.PINBlocked))
	}},
	{"Benutzerverifikation", "PasswordBlocked", "blocked meanwhile", func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		r.insert("healthy-g21")
		r.screen(view.PIN)
		r.tap.Card.View(func(s *card.System) { password(t, s).Retry = 0 })
		r.enter("pin", persona.PIN)
		blocked(t, r.screen(view.PINBlocked))
	}},
	{"Benutzerverifikation", "Weitere Fehlerfälle", "transport PIN", refused("transport-pin", nil, "PIN-TRANSPORT")},
	{"Benutzerverifikation", "Weitere Fehlerfälle", "memory of the card", func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		r.insert("healthy-g21")
		r.screen(view.PIN)
		r.tap.Card.SetFaults(card.Faults{MemoryFailure: 1})
		r.enter("pin", oneWrong)
		r.problem("MemoryFailure")
		r.leave()
	}},
	{"Benutzerverifikation", "Weitere Fehlerfälle", "6982", atVerify(0x6982, "SecurityStatusNotSatisfied")},
	{"Benutzerverifikation", "Weitere Fehlerfälle", "6A88", atVerify(0x6A88, "ObjectNotFound")},
	{"Benutzerverifikation", "Weitere Fehlerfälle", "6F00", atVerify(0x6F00, "ErrorUserVerification")},

	// Versicherten-PIN entsperren.
	{"Versicherten-PIN entsperren", "PUK bekannt: entsperren, dann Benutzerverifikation wiederholen", "", func(t *testing.T) {
		req.Covers(t, "AdV-A_2466")
		r := newRig(t, TerminalConfig{})
		r.insert("pin-blocked")
		blocked(t, r.screen(view.PINBlocked))
		r.Choose(view.ChoicePUKKnown)
		if v := r.screen(view.PUK); v.Prompt != "PIN.UNBLOCK.PIN.CH.puk" || !v.KeepCard {
			t.Errorf("PUK screen %+v", v)
		}
		r.enter("old", persona.PUK)
		r.enter("new", "777777")
		r.enter("repeat", "777777")
		if v := r.screen(view.PIN); len(v.Notices) != 1 || v.Notices[0].ID != "notice.pin_unblocked" {
			t.Errorf("notices %+v", v.Notices)
		}
		r.enter("pin", "777777")
		r.screen(view.Menu)
	}},
	{"Versicherten-PIN entsperren", "PUK nicht bekannt", "", func(t *testing.T) {
		req.Covers(t, "AdV-A_2466")
		r := newRig(t, TerminalConfig{})
		r.insert("pin-blocked")
		r.screen(view.PINBlocked)
		r.Choose(view.ChoicePUKUnknown)
		r.problem("PUK-UNKNOWN")
		r.leave()
	}},
	{"Versicherten-PIN entsperren", "PIN nicht entsperrt", "wrong PUK", func(t *testing.T) {
		req.Covers(t, "AdV-A_2467")
		r := newRig(t, TerminalConfig{})
		r.insert("pin-blocked")
		r.screen(view.PINBlocked)
		r.Choose(view.ChoicePUKKnown)
		r.screen(view.PUK)
		r.enter("old", "87654321")
		r.enter("new", "777777")
		r.enter("repeat", "777777")
		r.problem("WrongSecretWarning")
		r.leave()
	}},
	{"Versicherten-PIN entsperren", "PIN nicht entsperrt", "PUK used up", func(t *testing.T) {
		req.Covers(t, "AdV-A_2467")
		r := newRig(t, TerminalConfig{})
		r.insert("puk-used-up")
		r.screen(view.PINBlocked)
		r.Choose(view.ChoicePUKKnown)
		r.enter("old", persona.PUK)
		r.enter("new", "777777")
		r.enter("repeat", "777777")
		r.problem("PUK-USED-UP")
		r.leave()
	}},
	{"Versicherten-PIN entsperren", "technischer Fehler", "", func(t *testing.T) {
		req.Covers(t, "AdV-A_2467")
		r := newRig(t, TerminalConfig{})
		r.insert("pin-blocked")
		r.screen(view.PINBlocked)
		r.Choose(view.ChoicePUKKnown)
		r.screen(view.PUK)
		r.tap.Card.SetFaults(card.Faults{MemoryFailure: 1})
		r.enter("old", persona.PUK)
		r.enter("new", "777777")
		r.enter("repeat", "777777")
		r.problem("MemoryFailure")
		r.leave()
	}},

	// Verbindungsaufbau zum AdV-Server und Freischaltung eGK (5.1.3). Its failures have tests of their own.
	{"Verbindungsaufbau und Freischaltung", "OK", "", func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		r.toMenu("healthy-g21")
		if !r.tap.Unlocked() {
			t.Error("the card is not unlocked in the menu")
		}
	}},
	{"Verbindungsaufbau und Freischaltung", "Fehler", "no SM-B of the insurer", func(t *testing.T) {
		req.Covers(t, "AdV-A_2570", "A_15116")
		r := newRig(t, TerminalConfig{})
		r.insert("insurer-without-smb")
		r.screen(view.PIN)
		r.enter("pin", persona.PIN)
		r.problem("NO-INSURER-IDENTITY")
		if r.tap.Unlocked() {
			t.Error("the card is unlocked")
		}
		r.leave()
	}},

	// Protokollieren des eGK-Zugriffs, PL_TUC_EGK_APPEND_PROTOCOL.
	{"Protokollieren des eGK-Zugriffs", "OK", "G2: exactly one entry", protocolEntry("healthy-g2", 1)},
	{"Protokollieren des eGK-Zugriffs", "OK", "G2.1: none", protocolEntry("healthy-g21", 0)},
	{"Protokollieren des eGK-Zugriffs", "OK", "G2, memory of the card retried", func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		var tap *Tap
		tap = tapped(t, world, "healthy-g2", nil, func(_ int, cmd []byte) []byte {
			if cmd[1] != 0xE2 {
				return nil
			}
			tap.Card.Process(cmd)
			return []byte{0x63, 0xC3}
		})
		r.insertTap(tap)
		v := r.startToMenu()
		if !slices.ContainsFunc(v.Notices, func(n view.Notice) bool { return n.ID == "TAB_ADV_318.UpdateRetryWarning" }) {
			t.Errorf("no warning among %+v", v.Notices)
		}
	}},
	{"Protokollieren des eGK-Zugriffs", "Fehlerfälle", "memory of the card", func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		var tap *Tap
		tap = tapped(t, world, "healthy-g2", nil, func(_ int, cmd []byte) []byte {
			if cmd[1] == 0xE2 {
				tap.Card.SetFaults(card.Faults{MemoryFailure: 1})
			}
			return nil
		})
		before := entries(t, tap.Card)
		r.insertTap(tap)
		r.screen(view.PIN)
		r.enter("pin", persona.PIN)
		r.problem("MemoryFailure")
		if n := len(entries(t, tap.Card)); n != len(before) {
			t.Errorf("%d entries; want %d", n, len(before))
		}
		r.leave()
	}},
	{"Protokollieren des eGK-Zugriffs", "Fehlerfälle", "6982", atAppend(0x6982, "SecurityStatusNotSatisfied")},
	{"Protokollieren des eGK-Zugriffs", "Fehlerfälle", "6F00", atAppend(0x6F00, "LOG-ENTRY-FAILED")},

	// Online-Gültigkeitsprüfung der eGK, PL_TUC_EGK_STATUS.
	{"Online-Gültigkeitsprüfung", "Gesundheitsanwendung aktiv", "", func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		v := r.toMenu("healthy-g21")
		expectMenu(t, v, "TAB_ADV_473.ADV001.name")
		expectNotices(t, v)
	}},
	{"Online-Gültigkeitsprüfung", "Gesundheitsanwendung nicht-aktiv", "", func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		v := r.toMenu("health-app-locked")
		expectMenu(t, v, "UC.VSD_ANZEIGEN.alt")
		expectNotices(t, v, "notice.hca_inactive")
		if got := german(v.Menu[0].Name, nil); got != "Entsperren der Gesundheitsanwendung prüfen" {
			t.Errorf("the use case is called %q", got)
		}
		r.Choose(v.Menu[0].UseCase)
		if v := r.screen(view.Data); v.Personal || len(v.Data) != 0 || len(v.Notices) != 1 || v.Notices[0].ID != "VSD.NOTICE.114" {
			t.Errorf("data view %+v", v)
		}
		r.Choose(view.ChoiceBack)
		r.screen(view.Menu)
	}},
	{"Online-Gültigkeitsprüfung", "Gesundheitsanwendung Prüffehler", "terminated", healthApplication(func(t testing.TB, s *card.System) {
		folder(t, s, "MF/DF.HCA").State = card.Terminated
	})},
	{"Online-Gültigkeitsprüfung", "Gesundheitsanwendung Prüffehler", "absent", healthApplication(func(_ testing.TB, s *card.System) {
		s.Root.Children = slices.DeleteFunc(s.Root.Children, func(o card.Object) bool {
			f, ok := o.(*card.Folder)
			return ok && f.Name == "DF.HCA"
		})
	})},
	{"Online-Gültigkeitsprüfung", "Zertifikat mathematisch gültig", "", validity(nil, tisim.None, view.Validity{MathValid: true, TimeValid: true, Online: "good"}, true)},
	{"Online-Gültigkeitsprüfung", "Zertifikat mathematisch ungültig oder Prüffehler", "signature", validity(func(b []byte) []byte {
		return append(b[:len(b)-1:len(b)-1], b[len(b)-1]^1)
	}, tisim.None, view.Validity{TimeValid: true, Online: "unknown"}, false, "notice.cert_invalid", "notice.online_unknown")},
	{"Online-Gültigkeitsprüfung", "Zertifikat mathematisch ungültig oder Prüffehler", "no certificate at all", validity(func([]byte) []byte {
		return []byte{0x30, 0x03, 0x02, 0x01, 0x01}
	}, tisim.None, view.Validity{Online: "unknown"}, false, "notice.cert_invalid", "notice.cert_expired", "notice.online_unknown")},
	{"Online-Gültigkeitsprüfung", "Zertifikat mathematisch ungültig oder Prüffehler", "no DER", validity(func([]byte) []byte {
		return []byte("this is no certificate")
	}, tisim.None, view.Validity{Online: "unknown"}, false, "notice.cert_invalid", "notice.cert_expired", "notice.online_unknown")},
	{"Online-Gültigkeitsprüfung", "Zertifikat mathematisch ungültig oder Prüffehler", "empty file", validity(func([]byte) []byte {
		return nil
	}, tisim.None, view.Validity{Online: "unknown"}, false, "notice.cert_invalid", "notice.cert_expired", "notice.online_unknown")},
	{"Online-Gültigkeitsprüfung", "Zertifikat zeitlich gültig", "", validity(nil, tisim.None, view.Validity{MathValid: true, TimeValid: true, Online: "good"}, true)},
	{"Online-Gültigkeitsprüfung", "Zertifikat zeitlich ungültig oder Prüffehler", "expired", func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		v := r.toMenu("cert-expired")
		if v.Validity.TimeValid || !v.Validity.MathValid {
			t.Errorf("validity %+v", v.Validity)
		}
		expectMenu(t, v) // TAB_ADV_384: K3 FALSE leaves none of the product's use cases
		expectNotices(t, v, "notice.cert_expired")
	}},
	{"Online-Gültigkeitsprüfung", "Online gesperrt", "", func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		v := r.toMenu("cert-revoked")
		if *v.Validity != (view.Validity{MathValid: true, TimeValid: true, Online: "revoked"}) {
			t.Errorf("validity %+v", v.Validity)
		}
		expectMenu(t, v, "TAB_ADV_473.ADV001.name") // K4 REVOKED permits the data
		expectNotices(t, v, "notice.cert_revoked")
		r.Choose("vsd.show")
		if v := r.screen(view.Data); len(v.Notices) != 1 || v.Notices[0].ID != "VSD.NOTICE.106" {
			t.Errorf("notices %+v", v.Notices)
		}
	}},
	{"Online-Gültigkeitsprüfung", "Onlinestatus unbekannt", "responder does not know it", func(t *testing.T) {
		tap := tapped(t, world, "healthy-g21", nil, nil)
		cert, err := x509ti.Parse(autn(t, tap.Card))
		if err != nil {
			t.Fatal(err)
		}
		world.Responder.SetStatus(cert.Serial, testpki.Unknown)
		r := newRig(t, TerminalConfig{})
		r.insertTap(tap)
		v := r.startToMenu()
		if *v.Validity != (view.Validity{MathValid: true, TimeValid: true, Online: "unknown"}) {
			t.Errorf("validity %+v", v.Validity)
		}
		expectMenu(t, v, "TAB_ADV_473.ADV001.name")
		expectNotices(t, v, "notice.online_unknown")
	}},
	{"Online-Gültigkeitsprüfung", "Onlinestatus Prüffehler", "responder down", validity(nil, tisim.Down, view.Validity{MathValid: true, TimeValid: true, Online: "unknown"}, true, "notice.online_unknown")},
	{"Online-Gültigkeitsprüfung", "Onlinestatus Prüffehler", "wrong signature", validity(nil, tisim.WrongSignature, view.Validity{MathValid: true, TimeValid: true, Online: "unknown"}, true, "notice.online_unknown")},

	// Verfügbare Anwendungen anzeigen.
	{"Verfügbare Anwendungen anzeigen", "Status der Fachanwendungen", "", func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		tap := tapped(t, world, "healthy-g21", nil, nil)
		tap.Card.View(func(s *card.System) {
			folder(t, s, "MF/DF.HCA/DF.NFD").State = card.Deactivated
			folder(t, s, "MF/DF.HCA/DF.DPE").State = card.Terminated
		})
		r.insertTap(tap)
		v := r.startToMenu()
		want := []view.AppStatus{{App: "hca", State: "available"}, {App: "nfd", State: "hidden"}, {App: "dpe", State: "terminated"}, {App: "amts", State: "available"}}
		if !slices.Equal(v.Apps, want) {
			t.Errorf("applications %+v\nwant %+v", v.Apps, want)
		}
		expectMenu(t, v, "TAB_ADV_473.ADV001.name") // does not depend on them
	}},
	{"Verfügbare Anwendungen anzeigen", "Ist DF.HCA gesperrt, nur PIN.CH und VSD", "", func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		v := r.toMenu("health-app-locked")
		for _, m := range v.Menu {
			if m.App != "general" {
				t.Errorf("menu offers %+v", m)
			}
		}
	}},
}

func TestTAB304(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2445", "TIP1-A_6901", "TIP1-A_6902")
	if names := activities(); len(names) != 7 {
		t.Errorf("activities %q; TAB_ADV_304 has seven", names)
	}
	for _, c := range rows {
		name := c.activity + "/" + c.row
		if c.what != "" {
			name += "/" + c.what
		}
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) { t.Parallel(); c.play(t) })
	}
}

func activities() []string {
	var names []string
	for _, c := range rows {
		if !slices.Contains(names, c.activity) {
			names = append(names, c.activity)
		}
	}
	return names
}

// alter changes a card after it was personalised.
type alter func(t testing.TB, s *card.System)

// reaches: the course goes on as it should.
func reaches(id string, change alter, want view.Screen) func(*testing.T) {
	return func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		r.insertTap(changed(t, id, change))
		r.screen(want)
	}
}

// refused: the session ends before anybody is asked for a PIN, with an explanation.
func refused(id string, change alter, code string) func(*testing.T) {
	return func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		r.insertTap(changed(t, id, change))
		r.problem(code)
		r.leave()
		r.course(view.Neutral, view.Reading, view.Problem, view.Neutral)
		if d := r.Reader.Display(); strings.Contains(d, "PIN") {
			t.Errorf("the reader shows %q", d)
		}
	}
}

func changed(t testing.TB, id string, change alter) *Tap {
	tap := tapped(t, world, id, nil, nil)
	if change != nil {
		tap.Card.View(func(s *card.System) { change(t, s) })
	}
	return tap
}

func oldVersion(t testing.TB, s *card.System) {
	f := file(t, s, "MF/EF.Version2")
	i := bytes.Index(f.Body, []byte{0xC1, 0x03})
	copy(f.Body[i+2:], []byte{3, 0, 3})
}

func oldRoot(_ testing.TB, s *card.System) { s.Root.AID = []byte{0xD2, 0x76, 0x00, 0x00, 0x01, 0x01} }

func otherNumber(t testing.TB, s *card.System) {
	f := file(t, s, "MF/EF.GDO")
	f.Body[len(f.Body)-1] ^= 0x01
}

func file(t testing.TB, s *card.System, path string) *card.File {
	t.Helper()
	f, ok := s.Root.Lookup(path).(*card.File)
	if !ok {
		t.Fatalf("no file %s", path)
	}
	return f
}

func folder(t testing.TB, s *card.System, path string) *card.Folder {
	t.Helper()
	f, ok := s.Root.Lookup(path).(*card.Folder)
	if !ok {
		t.Fatalf("no folder %s", path)
	}
	return f
}

func password(t testing.TB, s *card.System) *card.Password {
	t.Helper()
	p, ok := s.Root.Lookup("MF/PIN.CH").(*card.Password)
	if !ok {
		t.Fatalf("no PIN.CH")
	}
	return p
}

func autn(t testing.TB, c *card.Card) []byte {
	t.Helper()
	var b []byte
	c.View(func(s *card.System) { b = bytes.Clone(file(t, s, "MF/DF.ESIGN/EF.C.CH.AUTN.E256").Body) })
	return b
}

func blocked(t testing.TB, v view.View) {
	t.Helper()
	if v.Problem == nil || v.Problem.Prescribed != "TAB_ADV_318.PasswordBlocked" || !v.CanEnd {
		t.Errorf("blocked PIN: %+v, problem %+v", v, v.Problem)
	}
}

// answers is a tap that replaces the answer to every command with the instruction.
func answers(t testing.TB, id string, ins byte, sw uint16) *Tap {
	t.Helper()
	return tapped(t, world, id, nil, func(_ int, cmd []byte) []byte {
		if cmd[1] == ins && cmd[0] == 0 {
			return []byte{byte(sw >> 8), byte(sw)}
		}
		return nil
	})
}

func atVerify(sw uint16, code string) func(*testing.T) {
	return func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		r.insertTap(answers(t, "healthy-g21", 0x20, sw))
		r.screen(view.PIN)
		r.enter("pin", persona.PIN)
		r.problem(code)
		r.leave()
	}
}

func atAppend(sw uint16, code string) func(*testing.T) {
	return func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		r.insertTap(answers(t, "healthy-g2", 0xE2, sw))
		r.screen(view.PIN)
		r.enter("pin", persona.PIN)
		r.problem(code)
		r.leave()
	}
}

// entries are the used records of EF.Logging, newest first.
func entries(t testing.TB, c *card.Card) []egk.LogEntry {
	t.Helper()
	var out []egk.LogEntry
	c.View(func(s *card.System) {
		for _, rec := range file(t, s, "MF/DF.HCA/EF.Logging").Records {
			if e, used, err := egk.DecodeLog(rec.Data); err != nil {
				t.Errorf("record % X: %v", rec.Data, err)
			} else if used {
				out = append(out, e)
			}
		}
	})
	return out
}

func protocolEntry(id string, want int) func(*testing.T) {
	return func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		tap := tapped(t, world, id, nil, nil)
		before := len(entries(t, tap.Card))
		r.insertTap(tap)
		r.startToMenu()
		r.Choose("vsd.show") // no further entry for what the session does later
		r.screen(view.Data)
		r.Choose(view.ChoiceEnd)
		r.screen(view.TakeCard)
		after := entries(t, tap.Card)
		if len(after) != before+want {
			t.Fatalf("%d new entries; want %d", len(after)-before, want)
		}
		appends := 0
		for _, e := range tap.Exchanges() {
			if e.Command[1] == 0xE2 {
				appends++
			}
		}
		if appends != want {
			t.Errorf("%d commands APPEND RECORD; want %d", appends, want)
		}
		if want == 0 {
			return
		}
		e := after[0]
		if e.Data != 'v' || e.Access != 'Z' || e.ActorICCSN.Reveal() != InsurerICCSN || e.ActorName.Reveal() != InsurerName {
			t.Errorf("entry %c/%c of %s, %q", e.Data, e.Access, e.ActorICCSN.Reveal(), e.ActorName.Reveal())
		}
		if d := time.Since(e.Time); d < -time.Second || d > time.Hour {
			t.Errorf("entry of %v", e.Time)
		}
	}
}

// healthApplication: its state cannot be found out; the session ends with an explanation.
func healthApplication(change alter) func(*testing.T) {
	return func(t *testing.T) {
		r := newRig(t, TerminalConfig{})
		r.insertTap(changed(t, "healthy-g21", change))
		r.screen(view.PIN)
		r.enter("pin", persona.PIN)
		r.problem("HCA-CHECK-FAILED")
		r.leave()
	}
}

// validity plays a start with another C.CH.AUTN on the card and a responder that fails; the session goes on and tells.
func validity(change func([]byte) []byte, fault tisim.Fault, want view.Validity, data bool, notices ...string) func(*testing.T) {
	return func(t *testing.T) {
		srv := server
		if fault != tisim.None {
			responder := tisim.New(world.PKI, nil)
			responder.SetFault(fault)
			h := httptest.NewServer(responder)
			t.Cleanup(h.Close)
			srv = serve(t, world, ServerConfig{OCSPURL: h.URL})
		}
		r := newRig(t, TerminalConfig{Dial: dialer(srv)})
		r.insertTap(changed(t, "healthy-g21", func(t testing.TB, s *card.System) {
			if change != nil {
				f := file(t, s, "MF/DF.ESIGN/EF.C.CH.AUTN.E256")
				f.Body = change(bytes.Clone(f.Body))
			}
		}))
		v := r.startToMenu()
		if *v.Validity != want {
			t.Errorf("validity %+v; want %+v", *v.Validity, want)
		}
		expectNotices(t, v, notices...)
		if data {
			expectMenu(t, v, "TAB_ADV_473.ADV001.name")
		} else {
			expectMenu(t, v)
		}
		if !v.CanEnd {
			t.Error("the session cannot be ended")
		}
	}
}

func expectMenu(t testing.TB, v view.View, names ...string) {
	t.Helper()
	var got []string
	for _, m := range v.Menu {
		got = append(got, m.Name)
	}
	if !slices.Equal(got, names) {
		t.Errorf("menu %q; want %q", got, names)
	}
}

func expectNotices(t testing.TB, v view.View, ids ...string) {
	t.Helper()
	var got []string
	for _, n := range v.Notices {
		got = append(got, n.ID)
		if catalog.Get(text.German, n.ID, nil) == n.ID {
			t.Errorf("notice %s has no text", n.ID)
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("notices %q; want %q", got, ids)
	}
}

// serve starts a server for one test.
func serve(t testing.TB, w *World, cfg ServerConfig) *Server {
	t.Helper()
	s, err := w.Serve(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// The negative twin of the check above: an entry by another actor would be seen.
func TestEntryOfAnotherActorIsSeen(t *testing.T) {
	t.Parallel()
	tap := tapped(t, world, "healthy-g2", nil, nil)
	for _, e := range entries(t, tap.Card) {
		if e.ActorICCSN.Reveal() == InsurerICCSN || e.Data == 'v' {
			t.Errorf("the card comes with an entry of the insurer: %c", e.Data)
		}
	}
	if len(entries(t, tap.Card)) == 0 {
		t.Error("the card comes with no entries: they could be overwritten unseen")
	}
}
