package ui

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"gioui.org/f32"
	"gioui.org/io/event"
	"gioui.org/io/input"
	"gioui.org/io/key"
	"gioui.org/io/pointer"
	"gioui.org/io/semantic"
	"gioui.org/layout"
	"gioui.org/op"
	"github.com/google/go-cmp/cmp"

	"ktradv/hw/vsd"
	"ktradv/internal/redact"
	"ktradv/internal/req"
	"ktradv/kiosk/design"
	"ktradv/kiosk/fonts"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/text"
	"ktradv/kiosk/view"
)

// harness runs a UI without a window.
type harness struct {
	t      testing.TB
	u      *UI
	router input.Router
	ops    op.Ops
	now    time.Time
	size   image.Point
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	catalog, err := text.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, now: time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC), size: image.Pt(1280, 800)}
	h.u = New(Config{
		Shaper: fonts.Default().Shaper(), Catalog: catalog, Panel: Panel{Diagonal: 12.1, Pixels: h.size},
		Now: func() time.Time { return h.now },
	})
	return h
}

// frame runs one frame and returns the events of it.
func (h *harness) frame() []view.Event {
	h.ops.Reset()
	h.u.Layout(layout.Context{Ops: &h.ops, Now: h.now, Source: h.router.Source(), Constraints: layout.Exact(h.size)})
	h.router.Frame(&h.ops)
	return slices.Clone(h.u.Events())
}

// show sets a view and runs frames until it stands.
func (h *harness) show(v view.View) {
	h.u.SetView(v)
	h.frame()
	h.frame()
}

func (h *harness) queue(e event.Event) { h.router.Queue(e) }

// node finds a button by its label.
func (h *harness) node(label string) (image.Rectangle, bool) {
	for _, n := range h.router.AppendSemantics(nil) {
		if n.Desc.Class == semantic.Button && n.Desc.Label == label {
			return n.Desc.Bounds, true
		}
	}
	return image.Rectangle{}, false
}

// tap touches the button with the label.
func (h *harness) tap(label string) []view.Event {
	h.t.Helper()
	r, ok := h.node(label)
	if !ok {
		h.t.Fatalf("no button %q; there are %q", label, h.labels())
	}
	return h.tapAt(f32.Pt(float32(r.Min.X+r.Max.X)/2, float32(r.Min.Y+r.Max.Y)/2))
}

func (h *harness) tapAt(p f32.Point) []view.Event {
	h.queue(pointer.Event{Kind: pointer.Press, Source: pointer.Touch, Position: p})
	h.queue(pointer.Event{Kind: pointer.Release, Source: pointer.Touch, Position: p})
	ev := h.frame()
	h.frame()
	return ev
}

func (h *harness) labels() []string {
	var out []string
	for _, n := range h.router.AppendSemantics(nil) {
		if n.Desc.Class == semantic.Button {
			out = append(out, n.Desc.Label)
		}
	}
	return out
}

// words is all text on the screen.
func (h *harness) words() string {
	var b strings.Builder
	for _, e := range h.u.Elements() {
		b.WriteString(e.Label + "\n")
	}
	return b.String()
}

func touched() view.Event        { return view.Event{Kind: view.Touched} }
func choose(c string) view.Event { return view.Event{Kind: view.Choose, Choice: c} }
func (h *harness) english()      { h.u.Present(text.English, design.Light, design.Normal) }
func retryable(code string) *view.ProblemInfo {
	p := text.ProblemFor(code)
	return &view.ProblemInfo{Code: code, Text: p.Text, Next: p.Next, Prescribed: p.Prescribed, CanRetry: true}
}

func TestButtonsSendTheirChoice(t *testing.T) {
	t.Parallel()
	blocked := view.View{Screen: view.PINBlocked, CanEnd: true}
	for _, tc := range []struct {
		v      view.View
		label  string
		choice string
	}{
		{view.View{Screen: view.Menu, CanEnd: true}, "Sitzung beenden", view.ChoiceEnd},
		{view.View{Screen: view.Data, CanEnd: true, CanBack: true}, "Zurück", view.ChoiceBack},
		{view.View{Screen: view.Idle, Deadline: time.Date(2026, 3, 2, 9, 31, 0, 0, time.UTC)}, "Weiter", view.ChoiceContinue},
		{view.View{Screen: view.Problem, Problem: retryable("SERVER-LOST")}, "Noch einmal versuchen", view.ChoiceRetry},
		{view.View{Screen: view.PINWrong, TriesLeft: 2, Problem: retryable("WrongSecretWarning")}, "PIN noch einmal eingeben", view.ChoiceRetry},
		{blocked, "Ja, ich habe die PUK", view.ChoicePUKKnown},
		{blocked, "Nein, ich habe die PUK nicht", view.ChoicePUKUnknown},
		{view.View{Screen: view.Menu, Menu: []view.MenuItem{{UseCase: "vsd.show", Name: "TAB_ADV_473.ADV001.name"}}},
			"Versichertendaten anzeigen", "vsd.show"},
	} {
		h := newHarness(t)
		h.show(tc.v)
		want := []view.Event{choose(tc.choice), touched()}
		if diff := cmp.Diff(want, h.tap(tc.label)); diff != "" {
			t.Errorf("tap %q (-want +got):\n%s", tc.label, diff)
		}
	}
}

// TestEndIsAlwaysAtTheSamePlace: every screen that offers it has "end session" at the bottom left, and back beside it.
func TestEndIsAlwaysAtTheSamePlace(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	var first image.Rectangle
	for screen := range screens {
		if screen == view.Neutral {
			continue
		}
		h.show(view.View{Screen: screen, CanEnd: true, CanBack: true, Problem: retryable("SERVER-LOST"), Prompt: "PIN.VERIFY.PIN.CH"})
		end, ok := h.node("Sitzung beenden")
		back, ok2 := h.node("Zurück")
		if !ok || !ok2 {
			t.Errorf("%s: end %v, back %v; want both", screen, ok, ok2)
			continue
		}
		if first.Empty() {
			first = end
		}
		if end != first {
			t.Errorf("%s: end session at %v; elsewhere at %v", screen, end, first)
		}
		if end.Min.X > h.size.X/10 || end.Max.Y < h.size.Y*9/10 || back.Min.X <= end.Max.X || back.Max.Y != end.Max.Y {
			t.Errorf("%s: end %v, back %v; want bottom left and beside it", screen, end, back)
		}
	}
}

func TestNothingPersonalOnTheNeutralScreen(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2450")
	h := newHarness(t)
	const name = "Erika Canary-Mustermann"
	h.show(view.View{Screen: view.Data, Personal: true, Data: []view.Section{{Title: "data.title", Rows: []view.Row{
		{Label: "data.text", Value: redact.NewString(name), Kind: view.Text}}}}})
	if !strings.Contains(h.words(), name) {
		t.Fatal("the data screen does not show the value")
	}
	for _, screen := range []view.Screen{view.Blanked, view.Idle, view.TakeCard, view.Neutral} {
		h.show(view.View{Screen: screen})
		if strings.Contains(h.words(), name) {
			t.Errorf("%s shows personal data", screen)
		}
		for _, n := range h.router.AppendSemantics(nil) {
			if strings.Contains(n.Desc.Label, name) {
				t.Errorf("%s tells personal data to assistive software", screen)
			}
		}
	}
}

func TestPINIsAskedForAtTheReader(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2502")
	h := newHarness(t)
	h.show(view.View{Screen: view.PIN, Prompt: "PIN.VERIFY.PIN.CH", ReaderShowsPrompt: true, TriesLeft: 3})
	for _, want := range []string{"Eingabe Versicherten-PIN: ", "Geben Sie die PIN am Kartenleser ein, nicht hier.", "Der Kartenleser zeigt:"} {
		if !strings.Contains(h.words(), want) {
			t.Errorf("PIN screen lacks %q", want)
		}
	}
	h.show(view.View{Screen: view.PIN, Prompt: "PIN.VERIFY.PIN.CH", TriesLeft: -1})
	if w := h.words(); strings.Contains(w, "Der Kartenleser zeigt:") || strings.Contains(w, "Verbleibende") ||
		!strings.Contains(w, "einen eigenen Text") {
		t.Errorf("PIN screen for a reader with its own text says:\n%s", w)
	}
}

func TestKeepCardIsALargeWarning(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2446")
	h := newHarness(t)
	for _, screen := range []view.Screen{view.Reading, view.Connecting, view.Ending, view.PUK} {
		for _, keep := range []bool{true, false} {
			h.show(view.View{Screen: screen, KeepCard: keep, Prompt: "PIN.UNBLOCK.PIN.CH.puk", Steps: []view.Step{{ID: "step.log", State: view.Active}}})
			found := false
			for _, e := range h.u.Elements() {
				if e.Label == "Bitte Karte stecken lassen" {
					found = true
					if e.Em <= h.u.scene.metrics.Lead {
						t.Errorf("%s: the warning has %d px, want more than %d", screen, e.Em, h.u.scene.metrics.Lead)
					}
				}
			}
			if found != keep {
				t.Errorf("%s: warning shown = %v; want %v", screen, found, keep)
			}
		}
	}
}

func TestPrescribedTextsStandInGermanWithTheTranslationUnder(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.english()
	h.show(view.View{Screen: view.PINWrong, TriesLeft: 2, Problem: &view.ProblemInfo{
		Code: "WrongSecretWarning", Prescribed: "TAB_ADV_318.WrongSecretWarning", Args: map[string]string{"x": "2"},
		Text: "problem.WrongSecretWarning.text", Next: "problem.WrongSecretWarning.next"}})
	var german, english image.Rectangle
	for _, e := range h.u.Elements() {
		switch e.Label {
		case "Falsche PIN, verbleibende Eingabeversuche 2":
			german = e.Rect
		case "Wrong PIN, remaining attempts 2":
			english = e.Rect
		}
	}
	if german.Empty() || english.Empty() || english.Min.Y < german.Max.Y || english.Min.X != german.Min.X {
		t.Errorf("German at %v, English at %v; want the translation under the original", german, english)
	}
}

// TestHintsOfApplications: every section of the menu carries the display name and the hint of TAB_ADV_461, and a use
// case its hint.
func TestHintsOfApplications(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2547")
	h := newHarness(t)
	catalog := h.u.cfg.Catalog
	var items []view.MenuItem
	for _, g := range groups {
		for _, n := range []string{"001", "002"} {
			items = append(items, view.MenuItem{UseCase: g.app + n, Name: "TAB_ADV_473.ADV" + n + ".name", App: g.app})
		}
	}
	for _, g := range groups {
		h.show(view.View{Screen: view.Neutral})
		h.show(view.View{Screen: view.Menu, Menu: items, CanEnd: true})
		h.tap(catalog.Get(text.German, g.name, nil))
		w := h.words()
		for _, id := range []string{g.name, g.hint} {
			if want := catalog.Get(text.German, id, nil); !strings.Contains(w, want) {
				t.Errorf("%s: menu lacks %q", g.app, want)
			}
		}
		if got := h.tap("Versichertendaten anzeigen"); len(got) == 0 || got[0] != choose(g.app+"001") {
			t.Errorf("%s: tap sends %v; want %s001", g.app, got, g.app)
		}
		h.tap("Zurück")
		if _, ok := h.node(catalog.Get(text.German, groups[3].name, nil)); !ok {
			t.Errorf("%s: back does not lead to the first level", g.app)
		}
	}
	h.show(view.View{Screen: view.Neutral})
	h.show(view.View{Screen: view.Menu, Menu: []view.MenuItem{{UseCase: "x", Name: "TAB_ADV_473.ADV001.name", Hint: "TAB_ADV_473.ADV001.hint", App: "general"}}})
	if want := catalog.Get(text.German, "TAB_ADV_473.ADV001.hint", nil); !strings.Contains(h.words(), want) {
		t.Errorf("menu lacks the hint of the use case")
	}
}

func TestCountdown(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2568")
	h := newHarness(t)
	h.show(view.View{Screen: view.Idle, Deadline: h.now.Add(2500 * time.Millisecond), CanEnd: true})
	for _, want := range []string{"0:03", "0:02", "0:01", "0:00"} {
		if w := h.words(); !strings.Contains(w, want) {
			t.Errorf("countdown shows %q; want %s", w, want)
		}
		wake, ok := h.router.WakeupTime()
		if want == "0:00" {
			if ok {
				t.Errorf("a wake-up is due at %v though the countdown is over", wake)
			}
			break
		}
		if !ok || wake.Sub(h.now) > time.Second || !wake.After(h.now) {
			t.Fatalf("%s: wake-up at %v, %v; want within a second after %v", want, wake, ok, h.now)
		}
		h.now = wake
		h.frame()
	}
}

func TestNeutralScreenIsStill(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.frame()
	h.frame()
	if at, ok := h.router.WakeupTime(); ok {
		t.Fatalf("the neutral screen asks for a frame at %v", at)
	}
	// A touch plays the card once.
	h.tapAt(f32.Pt(700, 60))
	frames := 0
	for {
		at, ok := h.router.WakeupTime()
		if !ok {
			break
		}
		if at.After(h.now) {
			h.now = at
		}
		h.now = h.now.Add(20 * time.Millisecond)
		h.frame()
		if frames++; frames > 500 {
			t.Fatal("the animation does not end")
		}
	}
	if frames < 20 {
		t.Errorf("the animation had %d frames; want a movement", frames)
	}
	h.u.cfg.ReducedMotion = true
	h.tapAt(f32.Pt(700, 60))
	if at, ok := h.router.WakeupTime(); ok {
		t.Errorf("reduced motion: the neutral screen asks for a frame at %v", at)
	}
}

func TestPresentationLastsForOneVisit(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.frame()
	h.frame()
	h.tap("English")
	h.tap("Contrast")
	h.tap("Very large")
	want := presentation{text.English, design.Contrast, design.Huge}
	if h.u.pres != want {
		t.Fatalf("presentation = %+v; want %+v", h.u.pres, want)
	}
	for _, screen := range []view.Screen{view.Reading, view.PIN, view.Menu, view.TakeCard} {
		h.show(view.View{Screen: screen})
		if h.u.pres != want {
			t.Errorf("%s: presentation = %+v; want %+v", screen, h.u.pres, want)
		}
	}
	h.show(view.View{Screen: view.Neutral})
	if h.u.pres != standard {
		t.Errorf("after the visit: presentation = %+v; want the standard one", h.u.pres)
	}
	// Somebody who chose and left without a visit.
	h.tap("Dunkel")
	h.now = h.now.Add(forgetAfter - time.Second)
	h.frame()
	if h.u.pres.look != design.Dark {
		t.Error("the choice was forgotten too early")
	}
	if at, ok := h.router.WakeupTime(); !ok || at.Sub(h.now) > 2*time.Second {
		t.Errorf("wake-up = %v, %v; want when the choice is to be forgotten", at, ok)
	}
	h.now = h.now.Add(2 * time.Second)
	h.frame()
	if h.u.pres != standard {
		t.Error("a choice that was left is not forgotten")
	}
}

// manyRows is a body that scrolls.
func manyRows() view.View {
	v := view.View{Screen: view.Data, CanEnd: true, CanBack: true}
	for range 4 {
		s := view.Section{Title: "data.title"}
		for range 10 {
			s.Rows = append(s.Rows, view.Row{Label: "data.text", Value: redact.NewString("Wert"), Kind: view.Text})
		}
		v.Data = append(v.Data, s)
	}
	return v
}

func TestScrolling(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.show(manyRows())
	h.tap("Nach unten")
	step := h.u.scroll
	if view := float32(h.u.scene.bodyRect.Dy()); step < view/2 || step > view {
		t.Errorf("one page = %v of a view of %v", step, view)
	}
	for range 100 {
		h.tap("Nach unten")
	}
	end := float32(h.u.scene.bodyHeight - h.u.scene.bodyRect.Dy())
	if h.u.scroll != end {
		t.Errorf("scroll = %v at the end; want %v", h.u.scroll, end)
	}
	// The countdown does not lose the place.
	h.show(view.View{Screen: view.Idle, Deadline: h.now.Add(time.Minute)})
	h.show(manyRows())
	if h.u.scroll != end {
		t.Errorf("scroll = %v after the countdown; want %v", h.u.scroll, end)
	}
	h.show(view.View{Screen: view.Menu})
	h.show(manyRows())
	if h.u.scroll != 0 {
		t.Errorf("scroll = %v on a new visit of the screen; want 0", h.u.scroll)
	}
	// A finger drags, a wheel turns.
	p := f32.Pt(400, 500)
	h.queue(pointer.Event{Kind: pointer.Press, Source: pointer.Touch, Position: p})
	h.frame()
	for range 10 {
		p.Y -= 20
		h.queue(pointer.Event{Kind: pointer.Move, Source: pointer.Touch, Position: p})
		h.frame()
	}
	h.queue(pointer.Event{Kind: pointer.Release, Source: pointer.Touch, Position: p})
	h.frame()
	if h.u.scroll < 150 || h.u.scroll > 200 {
		t.Errorf("scroll = %v after dragging 200 px; want about that", h.u.scroll)
	}
	before := h.u.scroll
	h.queue(pointer.Event{Kind: pointer.Scroll, Source: pointer.Mouse, Position: p, Scroll: f32.Pt(0, 50)})
	h.frame()
	if h.u.scroll != before+50 {
		t.Errorf("scroll = %v after the wheel; want %v", h.u.scroll, before+50)
	}
}

func TestTouchForAnotherScreenDoesNothing(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.show(view.View{Screen: view.PINBlocked, CanEnd: true})
	r, _ := h.node("Ja, ich habe die PUK")
	p := f32.Pt(float32(r.Min.X+5), float32(r.Min.Y+5))
	h.queue(pointer.Event{Kind: pointer.Press, Source: pointer.Touch, Position: p})
	h.queue(pointer.Event{Kind: pointer.Release, Source: pointer.Touch, Position: p})
	h.u.SetView(view.View{Screen: view.Problem, Problem: retryable("CARD-REMOVED")})
	for _, e := range h.frame() {
		if e.Kind == view.Choose {
			t.Errorf("a touch on the old screen sent %q", e.Choice)
		}
	}
}

func TestTouchThatLeavesTheButtonDoesNothing(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.show(view.View{Screen: view.Menu, CanEnd: true})
	r, _ := h.node("Sitzung beenden")
	p := f32.Pt(float32(r.Min.X+5), float32(r.Min.Y+5))
	h.queue(pointer.Event{Kind: pointer.Press, Source: pointer.Touch, Position: p})
	h.frame()
	h.queue(pointer.Event{Kind: pointer.Move, Source: pointer.Touch, Position: f32.Pt(900, 300)})
	h.frame()
	h.queue(pointer.Event{Kind: pointer.Release, Source: pointer.Touch, Position: f32.Pt(900, 300)})
	if got := h.frame(); slices.Contains(got, choose(view.ChoiceEnd)) {
		t.Errorf("events = %v; want no choice", got)
	}
}

func TestKeyboard(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.show(view.View{Screen: view.Menu, CanEnd: true})
	h.router.MoveFocus(key.FocusForward)
	h.frame()
	h.queue(key.Event{Name: key.NameReturn, State: key.Press})
	if got := h.frame(); !slices.Contains(got, choose(view.ChoiceEnd)) || !slices.Contains(got, touched()) {
		t.Errorf("Return on the focused button gives %v; want the end of the session and activity", got)
	}
	h.queue(key.Event{Name: "A", State: key.Press})
	if got := h.frame(); !slices.Contains(got, touched()) {
		t.Errorf("any key gives %v; want activity", got)
	}
}

func TestLabelsAreThoseOfTheLanguage(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.english()
	h.show(view.View{Screen: view.Data, CanEnd: true, CanBack: true})
	if diff := cmp.Diff([]string{"End session", "Back"}, h.labels()); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.show(view.View{Screen: view.Data})
	for _, tc := range []struct {
		row view.Row
		de  string
		en  string
	}{
		{view.Row{Kind: view.Date, Value: redact.NewString("19410703")}, "03.07.1941", "3 July 1941"},
		{view.Row{Kind: view.Date, Value: redact.NewString("19410700")}, "07.1941", "July 1941"},
		{view.Row{Kind: view.Date, Value: redact.NewString("19410000")}, "1941", "1941"},
		{view.Row{Kind: view.Date, Value: redact.NewString("00000000")}, "unbekannt", "unknown"},
		{view.Row{Kind: view.Date, Value: redact.NewString("1941-7")}, "1941-7", "1941-7"},
		{view.Row{Kind: view.Date, Value: redact.NewString("19411399")}, "19411399", "19411399"},
		{view.Row{Kind: view.Date}, "unbekannt", "unknown"},
		{view.Row{Kind: view.Time}, "unbekannt", "unknown"},
		{view.Row{Kind: view.Time, At: time.Date(2026, 7, 1, 22, 5, 0, 0, time.UTC)}, "02.07.2026, 00:05 Uhr", "2 July 2026, 00:05"},
		{view.Row{Kind: view.Code, Value: redact.NewString("77")}, "Schlüssel 77", "Code 77"},
		{view.Row{Kind: view.Text, Value: redact.NewString("Ä<x>")}, "Ä<x>", "Ä<x>"},
		{view.Row{Kind: view.Text}, "unbekannt", "unknown"},
	} {
		for lang, want := range map[text.Lang]string{text.German: tc.de, text.English: tc.en} {
			h.u.pres.lang = lang
			h.frame()
			if got := newBuilder(h.u, h.u.scene).value(tc.row); got != want {
				t.Errorf("%s: value of a %s = %q; want %q", lang, tc.row.Kind, got, want)
			}
		}
	}
}

func TestUnknownElementIsShown(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.show(view.View{Screen: view.Data, Data: []view.Section{{Title: "data.title", Rows: []view.Row{
		{LabelText: redact.NewString("NeuesElement"), Value: redact.NewString("Inhalt"), Kind: view.Text}}}}})
	if w := h.words(); !strings.Contains(w, "Weitere Angabe (NeuesElement)") || !strings.Contains(w, "Inhalt") {
		t.Errorf("unknown element is not shown:\n%s", w)
	}
}

// TestSteadyFrameAllocates keeps a frame in which nothing changes lean.
func TestSteadyFrameAllocates(t *testing.T) {
	h := newHarness(t)
	h.show(manyRows())
	gtx := layout.Context{Ops: &h.ops, Now: h.now, Source: h.router.Source(), Constraints: layout.Exact(h.size)}
	n := testing.AllocsPerRun(50, func() {
		h.ops.Reset()
		h.u.Layout(gtx)
		h.u.Events()
	})
	if n > 20 {
		t.Errorf("a steady frame allocates %v times; want at most 20", n)
	}
	all := testing.AllocsPerRun(50, func() {
		h.ops.Reset()
		h.u.Layout(gtx)
		h.router.Frame(&h.ops)
		h.u.Events()
	})
	if all > 100 {
		t.Errorf("a steady frame with the router allocates %v times; want at most 100", all)
	}
	t.Logf("allocations: layout %v, with the router %v", n, all)
}

// TestOverlayChangesNoLayout: another insurer's colours, name and texts leave every button where it is.
func TestOverlayChangesNoLayout(t *testing.T) {
	t.Parallel()
	plain, other := newHarness(t), newHarness(t)
	tokens := design.Default()
	tokens.Name = "Musterkrankenkasse"
	tokens.Palettes[design.Light].Accent = color.NRGBA{R: 0x5A, G: 0x1A, B: 0x5E, A: 255}
	catalog, err := text.New(map[string]map[string]string{"de": {"neutral.text": "Willkommen bei Ihrer Musterkrankenkasse."}})
	if err != nil {
		t.Fatal(err)
	}
	other.u = New(Config{Shaper: fonts.Default().Shaper(), Catalog: catalog, Tokens: tokens,
		Panel: plain.u.cfg.Panel, Now: func() time.Time { return other.now }})
	buttons := func(h *harness) map[string]image.Rectangle {
		m := map[string]image.Rectangle{}
		for _, e := range h.u.Elements() {
			if e.Kind == ButtonElement {
				m[e.Label] = e.Rect
			}
		}
		return m
	}
	for screen := range screens {
		v := view.View{Screen: screen, CanEnd: screen != view.Neutral, Problem: retryable("SERVER-LOST"), Prompt: "PIN.VERIFY.PIN.CH", Steps: []view.Step{{ID: "step.log"}}}
		plain.show(v)
		other.show(v)
		if diff := cmp.Diff(buttons(plain), buttons(other)); diff != "" {
			t.Errorf("%s: the overlay moves buttons (-plain +overlay):\n%s", screen, diff)
		}
	}
	if w := other.words(); !strings.Contains(w, "Musterkrankenkasse") {
		t.Errorf("the insurer's name is not shown:\n%s", w)
	}
}

// TestEveryButtonCanBeReachedByKey: for a person with a keypad.
func TestEveryButtonCanBeReachedByKey(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.show(view.View{Screen: view.PINBlocked, CanEnd: true})
	reached := map[string]bool{}
	for range 6 {
		h.router.MoveFocus(key.FocusForward)
		h.frame()
		for _, b := range h.u.scene.buttons {
			if b.focused {
				reached[b.label] = true
			}
		}
	}
	if len(reached) != 3 {
		t.Errorf("keys reach %v; want all three buttons", reached)
	}
}

// TestUnknownScreenAndTextsDoNotFail: a view from a newer session shows something, never nothing.
func TestUnknownScreenAndTextsDoNotFail(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.show(view.View{Screen: "new_screen"})
	if !strings.Contains(h.words(), "außer Betrieb") {
		t.Error("an unknown screen is not shown as out of order")
	}
	h.show(view.View{Screen: view.Problem, CanEnd: true})
	h.show(view.View{Screen: view.Problem, Problem: &view.ProblemInfo{Code: "NEW-CODE", Text: "problem.NEW-CODE.text", Next: "x"}})
	if w := h.words(); !strings.Contains(w, "NEW-CODE") || !strings.Contains(w, "Es ist ein Fehler aufgetreten") {
		t.Errorf("an unknown problem shows:\n%s", w)
	}
	h.show(view.View{Screen: view.Menu, Validity: &view.Validity{Online: "odd"}, Apps: []view.AppStatus{{App: "new", State: "odd"}}})
	h.size = image.Pt(40, 30)
	for screen := range screens {
		h.show(view.View{Screen: screen, CanEnd: true, CanBack: true, Menu: []view.MenuItem{{UseCase: "a", Name: "b"}}})
	}
}

// TestStepsAreSpoken: what the sign beside a step tells the eye is in the words for assistive software.
func TestStepsAreSpoken(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.show(view.View{Screen: view.Connecting, Steps: []view.Step{
		{ID: "step.connect", State: view.Done}, {ID: "step.unlock", State: view.Active}, {ID: "step.log"}}})
	var got []string
	for _, n := range h.router.AppendSemantics(nil) {
		if strings.Contains(n.Desc.Label, ": ") {
			got = append(got, n.Desc.Label)
		}
	}
	want := []string{"1. Sichere Verbindung aufbauen: erledigt", "2. Karte freischalten: läuft", "3. Zugriff auf der Karte vermerken: wartet"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spoken steps (-want +got):\n%s", diff)
	}
}

// TestFailuresAreShownWithWhatToDo: every registered problem stands on the screen with its prescribed text word for word
// where there is one, what happened, what to do next and its code.
func TestFailuresAreShownWithWhatToDo(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2444")
	h := newHarness(t)
	c := h.u.cfg.Catalog
	for code, p := range text.Problems {
		info := &view.ProblemInfo{Code: code, Prescribed: p.Prescribed, Text: p.Text, Next: p.Next, Args: map[string]string{"x": "2"}}
		h.show(view.View{Screen: view.Problem, Problem: info, CanEnd: true})
		w := h.words()
		want := []string{c.Get(text.German, p.Title, nil), c.Get(text.German, p.Text, nil), c.Get(text.German, p.Next, nil), "Code: " + code}
		if p.Prescribed != "" {
			want = append(want, c.Get(text.German, p.Prescribed, info.Args))
		}
		for _, s := range want {
			if !strings.Contains(w, s+"\n") {
				t.Errorf("%s: the screen lacks %q", code, s)
			}
		}
		if _, ok := h.node("Sitzung beenden"); !ok {
			t.Errorf("%s: no next step to press", code)
		}
	}
}

// TestDataShowsEverything: each row with its label, the prescribed notices word for word.
func TestDataShowsEverything(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	v := view.View{Screen: view.Data, Notices: []view.Notice{{ID: "VSD.NOTICE.106"}, {ID: "VSD.NOTICE.107"}, {ID: "VSD.NOTICE.114"}, {ID: "VSD.CURRENT"}, {ID: "VSD.UPDATED"}}}
	var want []string
	for _, n := range v.Notices {
		want = append(want, h.u.cfg.Catalog.Get(text.German, n.ID, nil))
	}
	for i, s := range vsd.SectionIDs() {
		section := view.Section{Title: s}
		want = append(want, h.u.cfg.Catalog.Get(text.German, s, nil))
		for j, l := range vsd.LabelIDs() {
			if j%len(vsd.SectionIDs()) != i {
				continue
			}
			value := fmt.Sprintf("Wert %d", j)
			section.Rows = append(section.Rows, view.Row{Label: l, Value: redact.NewString(value), Kind: view.Text})
			want = append(want, h.u.cfg.Catalog.Get(text.German, l, nil), value)
		}
		v.Data = append(v.Data, section)
	}
	h.show(v)
	w := h.words()
	for _, s := range want {
		if !strings.Contains(w, s+"\n") {
			t.Errorf("the screen lacks %q", s)
		}
	}
	last := h.u.Elements()[len(h.u.Elements())-1]
	if last.Rect.Max.Y > h.u.scene.bodyHeight {
		t.Errorf("the last row ends at %d, beyond the %d that can be scrolled to", last.Rect.Max.Y, h.u.scene.bodyHeight)
	}
}

// TestRightToLeft: in a language that is written from the right the screens are mirrored, nothing leaves its room, and
// the way out stays where it is.
func TestRightToLeft(t *testing.T) {
	t.Parallel()
	h, ltr := newHarness(t), newHarness(t)
	h.u.langs = []text.Language{{Lang: text.German, Name: "Deutsch", RightToLeft: true}}
	for screen := range screens {
		v := view.View{Screen: screen, CanEnd: true, CanBack: true, Problem: retryable("SERVER-LOST"), Prompt: "PIN.VERIFY.PIN.CH",
			Steps: []view.Step{{ID: "step.log"}}, Menu: []view.MenuItem{{UseCase: "a", Name: "TAB_ADV_473.ADV001.name", App: "general"}},
			Data: manyRows().Data}
		h.show(v)
		ltr.show(v)
		if screen != view.Neutral {
			end, _ := h.node("Sitzung beenden")
			if want, _ := ltr.node("Sitzung beenden"); end != want {
				t.Errorf("%s: end session at %v; want %v", screen, end, want)
			}
		}
		for i, e := range h.u.Elements() {
			if e.Kind == TextElement && !e.Ink.In(e.Room) {
				t.Errorf("%s: %q at %v leaves %v", screen, e.Label, e.Ink, e.Room)
			}
			for _, o := range h.u.Elements()[:i] {
				if e.Kind == o.Kind && e.Kind == ButtonElement && e.Body == o.Body && e.Rect.Overlaps(o.Rect) {
					t.Errorf("%s: %q overlaps %q", screen, e.Label, o.Label)
				}
			}
		}
	}
	h.show(view.View{Screen: view.PIN, Prompt: "PIN.VERIFY.PIN.CH"})
	for _, e := range h.u.Elements() {
		if e.Label == "Bitte geben Sie Ihre PIN ein" && e.Rect.Max.X != h.size.X-h.u.scene.metrics.Margin {
			t.Errorf("heading at %v; want it at the right margin", e.Rect)
		}
	}
}

// TestWrongInsertionPlaysOnce: the picture of how to insert the card moves once when the card does not answer.
func TestWrongInsertionPlaysOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.show(view.View{Screen: view.Reading})
	h.show(view.View{Screen: view.Problem, Problem: retryable("CARD-MUTE")})
	if _, ok := h.router.WakeupTime(); !ok {
		t.Error("nothing moves after a wrong insertion")
	}
	h.now = h.now.Add(insertTime)
	h.frame()
	h.frame()
	if at, ok := h.router.WakeupTime(); ok {
		t.Errorf("the picture still asks for a frame at %v", at)
	}
	h.show(view.View{Screen: view.Problem, Problem: retryable("CARD-NOT-EGK")})
	if at, ok := h.router.WakeupTime(); ok {
		t.Errorf("another problem asks for a frame at %v", at)
	}
}

// TestTargetsFromTheMetric: without a configured panel, things to touch are as large as the display's own metric says: at
// least 20 mm.
func TestTargetsFromTheMetric(t *testing.T) {
	t.Parallel()
	catalog, err := text.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	size := image.Pt(1280, 800)
	for _, diagonal := range []int{257, 390, 545} { // 10.1, 15.4 and 21.5 inches
		m := platform.MetricForDiagonal(size, diagonal)
		u := New(Config{Shaper: fonts.Default().Shaper(), Catalog: catalog, ReducedMotion: true})
		u.SetView(view.View{Screen: view.Neutral})
		var ops op.Ops
		var router input.Router
		u.Layout(layout.Context{Ops: &ops, Now: time.Unix(0, 0), Source: router.Source(), Metric: m, Constraints: layout.Exact(size)})
		want := int(math.Ceil(20 * platform.PxPerMM(m)))
		smallest := size.X
		for _, e := range u.Elements() {
			if e.Kind == ButtonElement {
				smallest = min(smallest, e.Rect.Dx(), e.Rect.Dy())
			}
		}
		if smallest < want-1 || diagonal == 257 && smallest > want+1 {
			t.Errorf("diagonal of %d mm: smallest button %d px, want %d", diagonal, smallest, want)
		}
	}
}
