package session

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ktradv/internal/req"
	"ktradv/internal/testdata"
	"ktradv/kiosk/text"
)

func load(t testing.TB) table {
	t.Helper()
	tab, err := loadTable(admissibilityCSV)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// The product's own copy of TAB_ADV_384 is the one beside the specification.
func TestTableIsTheSpecifications(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2452")
	raw, err := os.ReadFile(filepath.Join(testdata.Dir(t, ".."), "requirements", "admissibility.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if string(raw) != admissibilityCSV {
		t.Error("kiosk/session/admissibility.csv differs")
	}
}

// The values that K1 to K6 can have (AdV-A_2452).
var values = [6][]string{
	{"ja", "nein", "Prüffehler"}, {"aktiv", "nicht aktiv", "Prüffehler"}, {"TRUE", "FALSE"}, {"OK", "REVOKED", "UNKOWN"},
	{"AVAILABLE", "HIDDEN", "ABSENT", "TERMINATED"}, {"OK", "BLOCKED", "DISABLED", "VERIFYABLE"},
}

// tab384 is TAB_ADV_384 as it is printed, each cell with its values. "always" permits every value, "PIN.CH" every value
// for PIN.CH.
var tab384 = map[string][6]string{
	"Beenden einer eGK Sitzung":                 {"always", "always", "always", "always", "always", "always"},
	"VSD von eGK anzeigen":                      {"ja", "aktiv,nicht aktiv", "TRUE", "OK,REVOKED,UNKOWN", "always", "OK,VERIFYABLE"},
	"Zugriffsprotokoll von eGK lesen":           {"ja", "aktiv", "TRUE,FALSE", "OK,REVOKED,UNKOWN", "always", "OK,VERIFYABLE"},
	"PIN ändern":                                {"ja", "aktiv,PIN.CH", "TRUE", "OK,UNKOWN", "AVAILABLE,HIDDEN", "OK,DISABLED,VERIFYABLE"},
	"PIN auf eGK entsperren":                    {"ja", "aktiv,PIN.CH", "TRUE,FALSE", "OK,REVOKED,UNKOWN", "AVAILABLE,HIDDEN", "BLOCKED"},
	"Datenübertragung bei Kartentausch":         {"ja", "aktiv", "TRUE,FALSE", "OK,REVOKED,UNKOWN", "AVAILABLE,HIDDEN", "OK,DISABLED,VERIFYABLE"},
	"PIN für Fachanwendung einschalten":         {"ja", "aktiv", "TRUE", "OK,UNKOWN", "AVAILABLE,HIDDEN", "DISABLED"},
	"PIN für Fachanwendung ausschalten":         {"ja", "aktiv", "TRUE", "OK,UNKOWN", "AVAILABLE,HIDDEN", "OK,VERIFYABLE"},
	"Daten von Fachanwendung anzeigen":          {"ja", "aktiv", "TRUE,FALSE", "OK,REVOKED,UNKOWN", "AVAILABLE", "OK,DISABLED,VERIFYABLE"},
	"Daten von Fachanwendung ändern":            {"ja", "aktiv", "TRUE", "OK,UNKOWN", "AVAILABLE", "OK,DISABLED,VERIFYABLE"},
	"Daten von Fachanwendung löschen":           {"ja", "aktiv", "TRUE", "OK,UNKOWN", "AVAILABLE", "OK,DISABLED,VERIFYABLE"},
	"Fachanwendung verbergen":                   {"ja", "aktiv", "TRUE", "OK,UNKOWN", "AVAILABLE", "OK,DISABLED,VERIFYABLE"},
	"Fachanwendung sichtbar machen":             {"ja", "aktiv", "TRUE,FALSE", "OK,REVOKED,UNKOWN", "HIDDEN", "OK,DISABLED,VERIFYABLE"},
	"Zertifikat von eGK lesen":                  {"ja", "aktiv", "TRUE,FALSE", "OK,REVOKED,UNKOWN", "always", "OK,VERIFYABLE"},
	"Authentisierungsrequest mit eGK signieren": {"ja", "aktiv", "TRUE", "OK,UNKOWN", "always", "OK,VERIFYABLE"},
	"Mit eGK verschlüsseln":                     {"ja", "aktiv", "TRUE", "OK,UNKOWN", "always", "OK,VERIFYABLE"},
	"Mit eGK entschlüsseln":                     {"ja", "aktiv", "TRUE,FALSE", "OK,REVOKED,UNKOWN", "always", "OK,VERIFYABLE"},
}

// printed tells what the printed table says.
func printed(row [6]string, k [6]string, pin string) bool {
	for i := range row {
		cell := strings.Split(row[i], ",")
		if !slices.Contains(cell, "always") && !slices.Contains(cell, k[i]) && !(pin == "PIN.CH" && slices.Contains(cell, "PIN.CH")) {
			return false
		}
	}
	return true
}

// every calls do for each of the combinations of K1 to K6.
func every(do func(k [6]string)) (n int) {
	var k [6]string
	var rest func(i int)
	rest = func(i int) {
		if i == len(k) {
			n++
			do(k)
			return
		}
		for _, v := range values[i] {
			k[i] = v
			rest(i + 1)
		}
	}
	rest(0)
	return n
}

// Every row and column: all combinations of the criteria, for every use case and PIN object, against the printed table.
func TestEveryCombination(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2452")
	tab := load(t)
	if len(tab) != len(tab384) {
		t.Errorf("%d use cases; the table has %d", len(tab), len(tab384))
	}
	for useCase, row := range tab384 {
		if _, ok := tab[useCase]; !ok {
			t.Errorf("%s is missing", useCase)
		}
		permitted := map[string]int{}
		n := every(func(k [6]string) {
			c := Conditions{k[0], k[1], k[2], k[3], k[4], k[5]}
			for _, pin := range []string{"PIN.CH", "MRPIN.NFD"} {
				got, want := tab.admissible(useCase, c, pin), printed(row, k, pin)
				if got != want {
					t.Errorf("%s with %+v for %s: admissible %v; want %v", useCase, c, pin, got, want)
				}
				if got {
					permitted[pin]++
				}
			}
		})
		// The twin: each row permits something, and but for the end of a session not everything.
		if permitted["PIN.CH"] == 0 || useCase != "Beenden einer eGK Sitzung" && permitted["PIN.CH"] == n {
			t.Errorf("%s: %d of %d combinations are permitted", useCase, permitted["PIN.CH"], n)
		}
	}
}

// Every column on its own: starting from what is permitted, each other value of one criterion is refused where the table
// does not name it.
func TestEachCriterionCounts(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2452")
	tab := load(t)
	for useCase, row := range tab384 {
		var good [6]string
		for i := range row {
			good[i] = strings.Split(row[i], ",")[0]
			if good[i] == "always" {
				good[i] = values[i][0]
			}
		}
		c := func(k [6]string) Conditions { return Conditions{k[0], k[1], k[2], k[3], k[4], k[5]} }
		if !tab.admissible(useCase, c(good), "MRPIN.NFD") {
			t.Errorf("%s is refused with %+v", useCase, good)
		}
		for i := range row {
			for _, v := range append(slices.Clone(values[i]), "", "something else") {
				k := good
				k[i] = v
				named := slices.Contains(strings.Split(row[i], ","), v) || row[i] == "always"
				if got := tab.admissible(useCase, c(k), "MRPIN.NFD"); got != named {
					t.Errorf("%s with K%d %q: admissible %v; want %v", useCase, i+1, v, got, named)
				}
			}
		}
	}
}

// What the table does not name is not permitted, and a damaged table is refused.
func TestUnknownUseCases(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2452")
	tab := load(t)
	best := Conditions{"ja", "aktiv", "TRUE", "OK", "AVAILABLE", "OK"}
	for _, name := range []string{"", "VSD von eGK löschen", "vsd von egk anzeigen"} {
		if tab.admissible(name, best, "PIN.CH") {
			t.Errorf("%q is permitted", name)
		}
	}
	for name, csv := range map[string]string{
		"empty": "", "header only": "use_case,k1,k2,k3,k4,k5,k6\n", "another header": "a,b,c,d,e,f,g\nx,ja,aktiv,TRUE,OK,n/a,OK\n",
		"short row": "use_case,k1,k2,k3,k4,k5,k6\nx,ja\n", "open quote": "use_case,k1,k2,k3,k4,k5,k6\n\"x,ja,aktiv,TRUE,OK,n/a,OK\n",
	} {
		if _, err := loadTable(csv); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Every use case of the menu has a row in the table and texts, and appears exactly when the table permits it.
func TestMenu(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2452")
	tab := load(t)
	catalog, err := text.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range useCases {
		if _, ok := tab[u.row]; !ok {
			t.Errorf("%s: no row %q", u.id, u.row)
		}
		for _, id := range []string{u.name, u.hint, u.alt} {
			if id != "" && !catalog.Prescribed(id) {
				t.Errorf("%s: text %s is not prescribed", u.id, id)
			}
		}
		every(func(k [6]string) {
			c := Conditions{k[0], k[1], k[2], k[3], k[4], k[5]}
			shown := ""
			for _, item := range tab.menu(c) {
				if item.UseCase == u.id {
					shown = item.Name
				}
			}
			want := ""
			if printed(tab384[u.row], k, u.pin) {
				want = u.name
				if c.HCA != "aktiv" && u.alt != "" {
					want = u.alt
				}
			}
			if shown != want {
				t.Errorf("%s with %+v: shown as %q; want %q", u.id, c, shown, want)
			}
		})
	}
}

// Every registered problem has a number in the error log, and no number stands for two.
func TestEveryProblemHasALogCode(t *testing.T) {
	t.Parallel()
	numbers := map[int]string{}
	for code := range text.Problems {
		c, ok := logCodes[code]
		if !ok {
			t.Errorf("problem %s has no number", code)
			continue
		}
		if c.String() != code || c.Number() <= 10010 || c.Number() > 40999 {
			t.Errorf("problem %s is logged as %d %s", code, c.Number(), c)
		}
		if other, twice := numbers[c.Number()]; twice {
			t.Errorf("%s and %s share a number", code, other)
		}
		numbers[c.Number()] = code
	}
	for code := range logCodes {
		if _, ok := text.Problems[code]; !ok {
			t.Errorf("log code %s is no registered problem", code)
		}
	}
	for _, c := range causes {
		if _, ok := text.Problems[c.code]; !ok {
			t.Errorf("%v is told as %s, which is not registered", c.err, c.code)
		}
	}
	for refusal, code := range refusals {
		if _, ok := text.Problems[code]; !ok {
			t.Errorf("%v is told as %s, which is not registered", refusal, code)
		}
	}
}
