package visit

import (
	"testing"

	"ktradv/hw/sim/persona"
	"ktradv/internal/req"
	"ktradv/kiosk/view"
)

// courses are the personas with what their visit looks like, up to the neutral screen for the next person. A visit types
// the persona's PIN, opens the data if the menu has them, and ends by the menu.
var courses = map[string]struct {
	screens []view.Screen
	problem string
}{
	"healthy-g21":         {screens: whole},
	"healthy-g2":          {screens: whole},
	"health-app-locked":   {screens: short},
	"cert-revoked":        {screens: whole},
	"cert-expired":        {screens: menuOnly},
	"damaged-vsd":         {screens: []view.Screen{view.Neutral, view.Reading, view.PIN, view.Connecting, view.Menu, view.Reading, view.Problem, view.Neutral}, problem: "VSD-3011"},
	"copied-card":         {screens: atReading, problem: "CARD-NOT-AUTHENTIC"},
	"foreign-root":        {screens: atReading, problem: "CARD-NOT-AUTHENTIC"},
	"not-an-egk":          {screens: atReading, problem: "CARD-NOT-EGK"},
	"mute":                {screens: atReading, problem: "CARD-MUTE"},
	"wrong-way":           {screens: atReading, problem: "CARD-MUTE"},
	"transport-pin":       {screens: atReading, problem: "PIN-TRANSPORT"},
	"insurer-without-smb": {screens: []view.Screen{view.Neutral, view.Reading, view.PIN, view.Connecting, view.Problem, view.Neutral}, problem: "NO-INSURER-IDENTITY"},
	"pin-blocked": {screens: []view.Screen{view.Neutral, view.Reading, view.PINBlocked, view.PUK, view.PIN, view.Connecting, view.Menu,
		view.Reading, view.Data, view.Menu, view.Ending, view.TakeCard, view.Neutral}},
	"puk-used-up": {screens: []view.Screen{view.Neutral, view.Reading, view.PINBlocked, view.PUK, view.Problem, view.Neutral}, problem: "PUK-USED-UP"},
}

var (
	whole = []view.Screen{view.Neutral, view.Reading, view.PIN, view.Connecting, view.Menu, view.Reading, view.Data, view.Menu,
		view.Ending, view.TakeCard, view.Neutral}
	short = []view.Screen{view.Neutral, view.Reading, view.PIN, view.Connecting, view.Menu, view.Data, view.Menu,
		view.Ending, view.TakeCard, view.Neutral}
	menuOnly  = []view.Screen{view.Neutral, view.Reading, view.PIN, view.Connecting, view.Menu, view.Ending, view.TakeCard, view.Neutral}
	atReading = []view.Screen{view.Neutral, view.Reading, view.Problem, view.Neutral}
)

func TestEveryPersona(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2444", "AdV-A_2447")
	infos := persona.List()
	if len(infos) != len(courses) {
		t.Errorf("%d personas, %d courses", len(infos), len(courses))
	}
	for _, info := range infos {
		t.Run(info.ID, func(t *testing.T) {
			t.Parallel()
			want, ok := courses[info.ID]
			if !ok {
				t.Fatal("no course is known for this persona")
			}
			r := newRig(t, TerminalConfig{})
			r.insert(info.ID)
			code := r.visit(info.PIN)
			if code != want.problem {
				t.Errorf("problem %q; want %q", code, want.problem)
			}
			r.course(want.screens...)
			sound(t, r.Views())
		})
	}
}

// visit does at each screen what a person does who wants to see the data, until the neutral screen is back. It returns the
// code of the problem that ended the session, "" when none did.
func (r *rig) visit(pin string) (problem string) {
	r.t.Helper()
	seen := false
	for {
		v := r.await("a screen that asks for something", func(v view.View) bool {
			switch v.Screen {
			case view.Reading, view.Connecting, view.Ending:
				return false
			}
			return true
		})
		switch v.Screen {
		case view.PIN:
			r.enter("pin", pin)
		case view.PINBlocked:
			r.Choose(view.ChoicePUKKnown)
		case view.PUK:
			r.enter("old", persona.PUK)
			r.enter("new", pin)
			r.enter("repeat", pin)
		case view.Menu:
			if len(v.Menu) > 0 && !seen {
				seen = true
				r.Choose(v.Menu[0].UseCase)
			} else {
				r.Choose(view.ChoiceEnd)
			}
		case view.Data:
			r.Choose(view.ChoiceBack)
		case view.Problem:
			problem = v.Problem.Code
			r.Reader.Remove()
		case view.TakeCard:
			r.Reader.Remove()
		case view.Neutral:
			return problem
		default:
			r.t.Fatalf("unexpected screen %q; so far %v", v.Screen, r.Screens())
		}
	}
}
