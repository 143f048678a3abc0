package visit

import (
	"testing"

	"ktradv/kiosk/text"
	"ktradv/kiosk/view"
)

// sound checks what holds for every view of every visit:
//   - a problem is a registered one, with texts in every language and the prescribed text where there is one (AdV-A_2444);
//   - prompts and notices have texts;
//   - from the PIN on a session can be ended (AdV-A_2447);
//   - screens of nobody hold nothing of anybody (AdV-A_2450);
//   - personal data stand on the data screen only, and it is marked for blanking.
func sound(t testing.TB, views []view.View) {
	t.Helper()
	for _, fault := range faults(views) {
		t.Error(fault)
	}
}

func faults(views []view.View) []string {
	var out []string
	for i, v := range views {
		add := func(what string) { out = append(out, what+" on "+string(v.Screen)) }
		has := func(id string) {
			for _, l := range text.Languages {
				if s, ok := catalog.Lookup(l.Lang, id); !ok || s == "" {
					add("no text " + id + " in " + string(l.Lang))
				}
			}
		}
		if p := v.Problem; p != nil {
			known, ok := text.Problems[p.Code]
			if !ok || known.Text != p.Text || known.Next != p.Next || known.Prescribed != p.Prescribed {
				add("unregistered problem " + p.Code)
			}
			has(p.Text)
			has(p.Next)
			if p.Prescribed != "" && !catalog.Prescribed(p.Prescribed) {
				add("prescribed text " + p.Prescribed + " is none")
			}
		}
		if v.Prompt != "" && !catalog.Prescribed(v.Prompt) {
			add("prompt " + v.Prompt + " is not prescribed")
		}
		for _, n := range v.Notices {
			has(n.ID)
		}
		for _, s := range v.Steps {
			has(s.ID)
		}
		switch v.Screen {
		case view.Neutral, view.TakeCard, view.OutOfOrder:
			if len(v.Data)+len(v.Menu)+len(v.Apps)+len(v.Notices) != 0 || v.Validity != nil || v.Personal || v.TriesLeft != -1 {
				add("something of a person")
			}
		case view.PIN, view.PINWrong, view.PINBlocked, view.PUK, view.Connecting, view.Menu, view.Data, view.Idle, view.Blanked:
			if !v.CanEnd {
				add("no way to end the session")
			}
			if v.Session == "" || v.Operation.ID == "" {
				add("no session or operation id")
			}
		case view.Problem:
			if v.Problem == nil {
				add("no problem")
			}
		}
		if len(v.Data) != 0 && (v.Screen != view.Data || !v.Personal) {
			add("personal data")
		}
		if i > 0 && v.Screen == view.Neutral && v.Session != "" {
			add("the session of the person before")
		}
	}
	return out
}

// The negative twin: each of the faults is seen.
func TestUnsoundViewsAreSeen(t *testing.T) {
	t.Parallel()
	session := view.View{Session: "s", Operation: view.Operation{ID: "o"}, CanEnd: true, TriesLeft: -1}
	with := func(change func(*view.View)) view.View {
		v := session
		change(&v)
		return v
	}
	for name, v := range map[string]view.View{
		"unregistered problem": with(func(v *view.View) { v.Screen, v.Problem = view.Problem, &view.ProblemInfo{Code: "WHATEVER"} }),
		"texts of another problem": with(func(v *view.View) {
			p := text.Problems["CARD-MUTE"]
			v.Screen, v.Problem = view.Problem, &view.ProblemInfo{Code: "CARD-NOT-EGK", Text: p.Text, Next: p.Next}
		}),
		"problem without one":   with(func(v *view.View) { v.Screen = view.Problem }),
		"unknown prompt":        with(func(v *view.View) { v.Screen, v.Prompt = view.PIN, "PIN.PLEASE" }),
		"unknown notice":        with(func(v *view.View) { v.Screen, v.Notices = view.Menu, []view.Notice{{ID: "notice.nothing"}} }),
		"menu without end":      with(func(v *view.View) { v.Screen, v.CanEnd = view.Menu, false }),
		"menu without session":  with(func(v *view.View) { v.Screen, v.Session = view.Menu, "" }),
		"neutral with data":     with(func(v *view.View) { v.Screen, v.Data = view.Neutral, []view.Section{{}} }),
		"neutral with validity": with(func(v *view.View) { v.Screen, v.Validity = view.Neutral, &view.Validity{} }),
		"take card with notice": with(func(v *view.View) { v.Screen, v.Notices = view.TakeCard, []view.Notice{{ID: "notice.cert_expired"}} }),
		"data not for blanking": with(func(v *view.View) { v.Screen, v.Data = view.Data, []view.Section{{}} }),
		"neutral with session":  with(func(v *view.View) { v.Screen = view.Neutral }),
	} {
		if len(faults([]view.View{session, v})) == 0 {
			t.Errorf("%s is not seen", name)
		}
	}
	if f := faults([]view.View{with(func(v *view.View) { v.Screen = view.Menu })}); len(f) != 0 {
		t.Errorf("a sound view has faults: %q", f)
	}
}
