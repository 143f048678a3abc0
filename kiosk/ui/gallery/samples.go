package gallery

import (
	"time"

	"ktradv/internal/redact"
	"ktradv/kiosk/view"
)

// Sample is a screen in one situation.
type Sample struct {
	Name string
	View view.View
}

// Now is the moment at which all samples are drawn.
var Now = time.Date(2026, time.March, 2, 9, 30, 0, 0, time.UTC)

func steps(active int, ids ...string) []view.Step {
	out := make([]view.Step, len(ids))
	for i, id := range ids {
		out[i] = view.Step{ID: id}
		switch {
		case i+1 < active:
			out[i].State = view.Done
		case i+1 == active:
			out[i].State = view.Active
		}
	}
	return out
}

func problem(code string) *view.ProblemInfo {
	p := &view.ProblemInfo{Code: code, Text: "problem." + code + ".text", Next: "problem." + code + ".next"}
	if code[1] >= 'a' && code[1] <= 'z' {
		p.Prescribed = "TAB_ADV_318." + code
	}
	return p
}

var (
	apps = []view.AppStatus{
		{App: "hca", State: "available"}, {App: "nfd", State: "available"}, {App: "dpe", State: "hidden"}, {App: "amts", State: "absent"},
	}
	valid   = &view.Validity{MathValid: true, TimeValid: true, Online: "good"}
	expired = &view.Validity{MathValid: true, TimeValid: false, Online: "unknown"}
)

func item(n, app string) view.MenuItem {
	return view.MenuItem{UseCase: "case." + n, Name: "TAB_ADV_473.ADV" + n + ".name", Hint: "TAB_ADV_473.ADV" + n + ".hint", App: app}
}

// Samples returns every screen in the situations that shape its layout.
func Samples() []Sample {
	connecting := []string{"step.connect", "step.unlock", "step.log", "step.validity"}
	general := []view.MenuItem{item("001", "general"), item("002", "general"), item("003", "general"), item("004", "general"), item("005", "general")}
	all := append(append([]view.MenuItem{}, general...),
		item("008", "nfd"), item("010", "nfd"), item("012", "dpe"), item("013", "dpe"), item("014", "dpe"), item("015", "dpe"),
		item("018", "dpe"), item("025", "amts"))
	retry := problem("SERVER-LOST")
	retry.CanRetry = true
	wrong := problem("WrongSecretWarning")
	wrong.CanRetry, wrong.Args = true, map[string]string{"x": "2"}
	last := problem("WrongSecretWarning")
	last.CanRetry, last.Args = true, map[string]string{"x": "1"}
	cancelled := problem("PIN-CANCELLED")
	cancelled.CanRetry = true
	return []Sample{
		{"neutral", view.View{Screen: view.Neutral}},
		{"reading", view.View{Screen: view.Reading, Steps: steps(2, "step.read", "step.authentic"), CanEnd: true}},
		{"pin", view.View{Screen: view.PIN, Prompt: "PIN.VERIFY.PIN.CH", ReaderShowsPrompt: true, PadStage: "pin", TriesLeft: 3, CanEnd: true}},
		{"pin_own_text", view.View{Screen: view.PIN, Prompt: "PIN.VERIFY.PIN.CH", PadStage: "pin", TriesLeft: -1, CanEnd: true,
			Notices: []view.Notice{{ID: "notice.pin_unblocked"}}}},
		{"pin_wrong", view.View{Screen: view.PINWrong, TriesLeft: 2, Problem: wrong, CanEnd: true}},
		{"pin_wrong_last", view.View{Screen: view.PINWrong, TriesLeft: 1, Problem: last, CanEnd: true}},
		{"pin_cancelled", view.View{Screen: view.PINWrong, TriesLeft: 3, Problem: cancelled, CanEnd: true}},
		{"pin_blocked", view.View{Screen: view.PINBlocked, Problem: problem("PasswordBlocked"), CanEnd: true}},
		{"puk", view.View{Screen: view.PUK, Prompt: "PIN.UNBLOCK.PIN.CH.puk", ReaderShowsPrompt: true, PadStage: "puk", TriesLeft: -1, KeepCard: true, CanEnd: true}},
		{"puk_new", view.View{Screen: view.PUK, Prompt: "PIN.UNBLOCK.PIN.CH.new", PadStage: "new", TriesLeft: -1, CanEnd: true}},
		{"connecting", view.View{Screen: view.Connecting, Steps: steps(3, connecting...), KeepCard: true, CanEnd: true}},
		{"menu", view.View{Screen: view.Menu, Menu: general[:1], Apps: apps, Validity: valid, CanEnd: true}},
		{"menu_notices", view.View{Screen: view.Menu, Apps: []view.AppStatus{{App: "hca", State: "hidden"}}, Validity: expired, CanEnd: true,
			Menu:    []view.MenuItem{{UseCase: "vsd.show", Name: "UC.VSD_ANZEIGEN.alt", Hint: "TAB_ADV_473.ADV001.hint", App: "general"}},
			Notices: []view.Notice{{ID: "notice.cert_expired", Severity: view.Warning}, {ID: "notice.hca_inactive", Severity: view.Warning}}}},
		{"menu_revoked", view.View{Screen: view.Menu, Menu: nil, Apps: apps, CanEnd: true,
			Validity: &view.Validity{MathValid: false, TimeValid: true, Online: "revoked"},
			Notices:  []view.Notice{{ID: "notice.cert_invalid", Severity: view.Alert}}}},
		{"menu_five", view.View{Screen: view.Menu, Menu: general, Apps: apps, Validity: valid, CanEnd: true}},
		{"menu_all", view.View{Screen: view.Menu, Menu: all, Apps: apps, Validity: valid, CanEnd: true}},
		{"data", view.View{Screen: view.Data, Data: person(), Personal: true, CanEnd: true, CanBack: true,
			Notices: []view.Notice{{ID: "VSD.CURRENT"}}}},
		{"data_expired", view.View{Screen: view.Data, Data: person()[:1], Personal: true, CanEnd: true, CanBack: true,
			Notices: []view.Notice{{ID: "VSD.NOTICE.107", Severity: view.Warning}, {ID: "VSD.NOTICE.114", Severity: view.Alert},
				{ID: "VSD.NOTICE.106", Severity: view.Alert}}}},
		{"idle", view.View{Screen: view.Idle, Deadline: Now.Add(47 * time.Second), CanEnd: true}},
		{"blanked", view.View{Screen: view.Blanked, CanEnd: true}},
		{"ending", view.View{Screen: view.Ending, Steps: steps(2, "step.finish", "step.reset", "step.disconnect"), KeepCard: true}},
		{"take_card", view.View{Screen: view.TakeCard}},
		{"problem_mute", view.View{Screen: view.Problem, Problem: problem("CARD-MUTE"), CanEnd: true}},
		{"problem_card", view.View{Screen: view.Problem, Problem: problem("CARD-NOT-EGK"), CanEnd: true}},
		{"problem_retry", view.View{Screen: view.Problem, Problem: retry, CanEnd: true}},
		{"problem_prescribed", view.View{Screen: view.Problem, Problem: problem("NotEnoughtMemorySpace"), CanEnd: true}},
		{"problem_letter", view.View{Screen: view.Problem, Problem: problem("PUK-USED-UP"), CanEnd: true}},
		{"problem_idle", view.View{Screen: view.Problem, Problem: problem("IDLE-TIMEOUT"), CanEnd: true}},
		{"problem_removed", view.View{Screen: view.Problem, Problem: problem("CARD-REMOVED")}},
		{"out_of_order", view.View{Screen: view.OutOfOrder, Problem: problem("READER-GONE")}},
	}
}

// person is an invented insured person whose data uses every kind of row, the longest values that the schema allows,
// an unknown code and an unknown element.
func person() []view.Section {
	s := redact.NewString
	text := func(label, value string) view.Row { return view.Row{Label: label, Value: s(value), Kind: view.Text} }
	date := func(label, value string) view.Row { return view.Row{Label: label, Value: s(value), Kind: view.Date} }
	code := func(label, value, id string) view.Row {
		return view.Row{Label: label, Value: s(value), ValueID: id, Kind: view.Code}
	}
	return []view.Section{
		{Title: "vsd.section.person", Rows: []view.Row{
			text("vsd.pd.name", "Dr. Friederike-Wilhelmine Freifrau von und zu Musterhausen-Beispielhofen"),
			date("vsd.pd.birthdate", "19410000"), code("vsd.pd.sex", "W", "vsd.code.sex.W"),
			text("vsd.pd.insurant_id", "X000012347"),
			{LabelText: s("NeuesElement"), Value: s("Inhalt"), Kind: view.Text},
		}},
	}
}
