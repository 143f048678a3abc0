package session

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"slices"
	"strings"

	"ktradv/kiosk/view"
)

//go:embed admissibility.csv
var admissibilityCSV string

// Conditions are the six criteria of TAB_ADV_384 (AdV-A_2452) with the values that the table uses.
type Conditions struct {
	Genuine string // K1: ja, nein, Prüffehler
	HCA     string // K2: aktiv, nicht aktiv, Prüffehler
	InTime  string // K3: TRUE, FALSE
	Online  string // K4: OK, REVOKED, UNKOWN (spelling of the table)
	App     string // K5: AVAILABLE, HIDDEN, ABSENT, TERMINATED
	PIN     string // K6: OK, BLOCKED, DISABLED, VERIFYABLE (spelling of the table)
}

// table is TAB_ADV_384: use case -> permitted values of K1 to K6.
type table map[string][6][]string

// loadTable reads TAB_ADV_384 as it stands beside the specification.
func loadTable(text string) (table, error) {
	r := csv.NewReader(strings.NewReader(text))
	r.FieldsPerRecord = 7
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("admissibility table: %w", err)
	}
	if len(rows) < 2 || strings.Join(rows[0], ",") != "use_case,k1,k2,k3,k4,k5,k6" {
		return nil, fmt.Errorf("admissibility table: wrong header")
	}
	t := table{}
	for _, row := range rows[1:] {
		var ks [6][]string
		for i := range ks {
			ks[i] = strings.Split(row[i+1], "|")
		}
		t[row[0]] = ks
	}
	return t, nil
}

// admissible tells whether the table permits the use case under c for the given PIN object. A use case that the table
// does not name is not permitted.
func (t table) admissible(useCase string, c Conditions, pin string) bool {
	ks, ok := t[useCase]
	if !ok {
		return false
	}
	for i, v := range [6]string{c.Genuine, c.HCA, c.InTime, c.Online, c.App, c.PIN} {
		if slices.Contains(ks[i], "immer") || slices.Contains(ks[i], "n/a") || slices.Contains(ks[i], "immer("+pin+")") {
			continue
		}
		if !slices.Contains(ks[i], v) {
			return false
		}
	}
	return true
}

// useCase is one entry of the menu.
type useCase struct {
	id   string // sent back by the screen
	row  string // its row in TAB_ADV_384
	name string // text id
	alt  string // text id of the name while the health application is not active, "" for none
	hint string
	app  string
	pin  string
}

// useCases are the ones that this product executes, in the order of the menu.
var useCases = []useCase{
	{id: "vsd.show", row: "VSD von eGK anzeigen", name: "TAB_ADV_473.ADV001.name", alt: "UC.VSD_ANZEIGEN.alt",
		hint: "TAB_ADV_473.ADV001.hint", app: "general", pin: "PIN.CH"},
}

// menu returns the use cases that are admissible now (AdV-A_2452; TAB_ADV_304, last activity).
func (t table) menu(c Conditions) []view.MenuItem {
	var items []view.MenuItem
	for _, u := range useCases {
		if !t.admissible(u.row, c, u.pin) {
			continue
		}
		name := u.name
		if c.HCA != "aktiv" && u.alt != "" {
			name = u.alt
		}
		items = append(items, view.MenuItem{UseCase: u.id, Name: name, Hint: u.hint, App: u.app})
	}
	return items
}
