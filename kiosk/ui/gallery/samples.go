package gallery

import (
	"time"

	"ktradv/internal/redact"
	"ktradv/internal/terminal"
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

// mistakes are problems as terminal.Load and the first process word them.
var mistakes = []terminal.Problem{
	{File: "/etc/adv/terminal.json", Key: "display.with", What: "is no key of this file", Fix: `did you mean "display.width"?`},
	{File: "/etc/adv/terminal.json", Key: "readers[0].pin_format", What: `"89/47" is not allowed`, Fix: "write `89/47/04`, `41/48/04`, `81/48/04`"},
	{File: "/etc/adv/terminal.json", Key: "network.gateway", What: "198.51.100.1 is not in 192.0.2.0/24", Fix: "write a router of the terminal's own network, or mend the prefix length"},
	{File: "/etc/adv/trust/tls", Key: "server.trust_store", What: "the folder holds none of what belongs there", Fix: "put the AdV-Server's TLS certificate (*.pem) into it"},
	{File: "adv-kiosk", What: "ended with status 1 five times within a minute", Fix: "read the log on the data partition; if the display is new, add its driver to modules.extra"},
}

var facts = []terminal.Fact{{Name: "adv-kiosk", Value: "0.1.0"}, {Name: "kernel", Value: "6.1.0-56-amd64"}, {Name: "display", Value: "/dev/dri/card0"}, {Name: "reader", Value: "0D46:3002"}}

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
		{"fault_configuration", view.View{Screen: view.Fault, Fault: &view.FaultInfo{
			Cause: terminal.CauseConfiguration, Problems: mistakes[:4], Total: 7, Facts: facts,
		}}},
		{"fault_kiosk", view.View{Screen: view.Fault, Fault: &view.FaultInfo{
			Cause: terminal.CauseKiosk, Problems: mistakes[4:], Total: 1, Facts: facts,
		}}},
		{"neutral_staff", view.View{Screen: view.Neutral, Service: []string{"NETWORK-DOWN", "CLOCK-WRONG", "DATA-MISSING"}}},
		{"out_of_order_staff", view.View{Screen: view.OutOfOrder, Problem: problem("READER-UNSUPPORTED"), Service: []string{"NETWORK-DOWN", "DATA-FULL"}}},
		{"out_of_order", view.View{Screen: view.OutOfOrder, Problem: problem("READER-GONE")}},
	}
}

// person is an invented insured person whose data uses every kind of row, values as long as the schema allows, an
// unknown code and an unknown element: the densest screen of the product.
func person() []view.Section {
	secret := redact.NewString
	text := func(label, value string) view.Row {
		return view.Row{Label: label, Value: secret(value), Kind: view.Text}
	}
	date := func(label, value string) view.Row {
		return view.Row{Label: label, Value: secret(value), Kind: view.Date}
	}
	code := func(label, value, id string) view.Row {
		return view.Row{Label: label, Value: secret(value), ValueID: id, Kind: view.Code}
	}
	const yes, no = "vsd.value.ja", "vsd.value.nein"
	return []view.Section{
		{Title: "vsd.section.person", Rows: []view.Row{
			text("vsd.pd.titel", "Prof. Dr."), text("vsd.pd.vorname", "Friederike-Wilhelmine Maria Adelheid"),
			text("vsd.pd.namenszusatz", "Freifrau"), text("vsd.pd.vorsatzwort", "von und zu"),
			text("vsd.pd.nachname", "Musterhausen-Beispielhofen-Großkleinstetten"),
			date("vsd.pd.geburtsdatum", "19410703"), code("vsd.pd.geschlecht", "W", "vsd.value.geschlecht.w"),
			text("vsd.pd.versicherten_id", "X000012347"),
			{LabelText: secret("NeuesElement"), Value: secret("Inhalt, den das Terminal nicht kennt"), Kind: view.Text},
		}},
		{Title: "vsd.section.wohnanschrift", Rows: []view.Row{
			text("vsd.pd.strasse", "Straße des ehemaligen Postamts"), text("vsd.pd.hausnummer", "12 a"),
			text("vsd.pd.anschriftenzusatz", "Hinterhaus, 3. Etage"), text("vsd.pd.postleitzahl", "01234"),
			text("vsd.pd.ort", "Bad Beispielstadt"), code("vsd.pd.land", "D", "vsd.value.land.d"),
		}},
		{Title: "vsd.section.versicherung", Rows: []view.Row{
			text("vsd.vd.kostentraeger.name", "Musterkrankenkasse"), text("vsd.vd.kostentraeger.kennung", "109500969"),
			code("vsd.vd.kostentraeger.land", "D", "vsd.value.land.d"),
			date("vsd.vd.beginn", "20010401"), code("vsd.vd.versichertenart", "5", "vsd.value.versichertenart.5"),
			code("vsd.vd.wop", "78", "vsd.value.wop.78"),
			code("vsd.vd.kostenerstattung.aerztlich", "0", no), code("vsd.vd.kostenerstattung.zahnaerztlich", "1", yes),
			code("vsd.vd.kostenerstattung.stationaer", "0", no), code("vsd.vd.kostenerstattung.veranlasst", "0", no),
		}},
		{Title: "vsd.section.geschuetzt", Rows: []view.Row{
			code("vsd.gvd.zuzahlung.befreit", "1", yes), date("vsd.gvd.zuzahlung.bis", "20261231"),
			code("vsd.gvd.personengruppe", "4", "vsd.value.personengruppe.4"), code("vsd.gvd.dmp", "53", "vsd.value.dmp.53"),
			code("vsd.gvd.selektiv.aerztlich", "7", ""), code("vsd.gvd.selektiv.zahnaerztlich", "9", "vsd.value.selektiv.9"),
			code("vsd.gvd.selektiv.art.hausarzt", "1", yes), code("vsd.gvd.selektiv.art.dmp", "0", no),
			code("vsd.gvd.selektiv.art.integriert", "0", no),
			date("vsd.gvd.ruhen.beginn", "20260100"), code("vsd.gvd.ruhen.art", "2", "vsd.value.ruhen.2"),
		}},
		{Title: "vsd.section.stand", Rows: []view.Row{
			{Label: "vsd.status.aktualisiert", Kind: view.Time, At: time.Date(2026, time.January, 14, 7, 21, 40, 0, time.UTC)},
		}},
	}
}
