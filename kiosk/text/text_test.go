package text

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ktradv/hw/vsd"
	"ktradv/internal/req"
)

func newCatalog(t testing.TB) *Catalog {
	t.Helper()
	c, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPrescribedTextsAreThoseOfTheCatalogue(t *testing.T) {
	t.Parallel()
	name := os.Getenv("KTRADV_REQUIREMENTS")
	if name == "" {
		name = filepath.Join("..", "..", "..", "shared", "requirements")
	}
	want, err := os.ReadFile(filepath.Join(name, "ui-texts.csv"))
	if os.IsNotExist(err) {
		t.Skip("no requirements catalogue beside the project (../shared/requirements, KTRADV_REQUIREMENTS)")
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(prescribedCSV, want) {
		t.Error("prescribed.csv differs from ui-texts.csv of the requirements catalogue")
	}
}

func TestEveryLanguageIsComplete(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	for _, l := range Languages {
		for _, id := range c.IDs() {
			s, ok := c.Lookup(l.Lang, id)
			if !ok || strings.TrimSpace(s) == "" {
				t.Errorf("%s: no text %s", l.Lang, id)
				continue
			}
			de, _ := c.Lookup(German, id)
			if !slices.Equal(placeholders(s), placeholders(de)) && !strings.HasPrefix(id, "format.") {
				t.Errorf("%s: %s: placeholders = %v; German has %v", l.Lang, id, placeholders(s), placeholders(de))
			}
			if strings.TrimSpace(s) != s && !strings.HasPrefix(id, "PIN.") {
				t.Errorf("%s: %s: blanks at the edge", l.Lang, id)
			}
		}
		for id := range c.texts[l.Lang] {
			if _, ok := c.Lookup(German, id); !ok {
				t.Errorf("%s: %s has no German original", l.Lang, id)
			}
		}
	}
	for id := range c.texts[German] {
		if c.Prescribed(id) {
			t.Errorf("de.csv repeats the prescribed text %s", id)
		}
	}
}

func TestPrescribedGermanIsVerbatim(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	for id, want := range map[string]string{
		"PIN.VERIFY.PIN.CH":              "Eingabe Versicherten-PIN: ",
		"TAB_ADV_318.WrongSecretWarning": "Falsche PIN, verbleibende Eingabeversuche <x>",
		"VSD.CURRENT":                    "Die Versichertendaten auf Ihrer Gesundheitskarte sind aktuell.",
	} {
		if got := c.Get(German, id, nil); got != want || !c.Prescribed(id) {
			t.Errorf("Get(de, %s) = %q, prescribed %v; want %q, true", id, got, c.Prescribed(id), want)
		}
	}
}

// TestEveryFailureIsExplained: every registered problem says in every language what happened and what to do next, and
// every code of TAB_ADV_318 is registered with its prescribed text.
func TestEveryFailureIsExplained(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2444")
	c := newCatalog(t)
	for _, l := range Languages {
		seen := map[string]string{}
		for code, p := range Problems {
			for _, id := range []string{p.Title, p.Text, p.Next} {
				if s, ok := c.Lookup(l.Lang, id); !ok || s == "" {
					t.Errorf("%s: problem %s: no text %s", l.Lang, code, id)
				}
			}
			s, _ := c.Lookup(l.Lang, p.Text)
			if other, twice := seen[s]; twice {
				t.Errorf("%s: problems %s and %s have the same text", l.Lang, code, other)
			}
			seen[s] = code
		}
	}
	found := 0
	for id := range c.prescribed {
		code, ok := strings.CutPrefix(id, "TAB_ADV_318.")
		if !ok {
			continue
		}
		found++
		if p := Problems[code]; p.Prescribed != id {
			t.Errorf("problem %s: prescribed text = %q; want %s", code, p.Prescribed, id)
		}
	}
	if found != 18 {
		t.Errorf("%d texts of TAB_ADV_318; want 18", found)
	}
	for code, p := range Problems {
		if p.Prescribed != "" && !c.Prescribed(p.Prescribed) {
			t.Errorf("problem %s names a prescribed text that does not exist: %s", code, p.Prescribed)
		}
	}
	if got := ProblemFor("NO-SUCH-CODE"); got.Code != codeInternal {
		t.Errorf("ProblemFor(unknown) = %s; want %s", got.Code, codeInternal)
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	if got, want := c.Get(English, "TAB_ADV_318.WrongSecretWarning", map[string]string{"x": "2"}), "Wrong PIN, remaining attempts 2"; got != want {
		t.Errorf("Get = %q; want %q", got, want)
	}
	if got := c.Get(English, "no.such.text", nil); got != "no.such.text" {
		t.Errorf("Get of an unknown id = %q; want the id", got)
	}
	if got := c.Get("tr", "button.end", nil); got != "Sitzung beenden" {
		t.Errorf("Get in a language without texts = %q; want the German text", got)
	}
	for _, tc := range []struct{ in, want string }{
		{"a <x> b <y>", "a 1 b <y>"}, {"<x", "<x"}, {"<<x>", "<<x>"}, {"", ""}, {"<x><x>", "11"},
	} {
		if got := Fill(tc.in, map[string]string{"x": "1"}); got != tc.want {
			t.Errorf("Fill(%q) = %q; want %q", tc.in, got, tc.want)
		}
	}
}

func TestOverlayTexts(t *testing.T) {
	t.Parallel()
	c, err := New(map[string]map[string]string{"de": {"neutral.title": "Guten Tag"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Get(German, "neutral.title", nil); got != "Guten Tag" {
		t.Errorf("Get = %q; want the overlay's text", got)
	}
	for name, o := range map[string]map[string]map[string]string{
		"prescribed":       {"de": {"VSD.CURRENT": "x"}},
		"its translation":  {"en": {"VSD.CURRENT": "x"}},
		"unknown id":       {"de": {"no.such": "x"}},
		"unknown language": {"xx": {"button.end": "x"}},
		"lost placeholder": {"de": {"pin.tries": "x"}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: New accepted the overlay", name)
		}
	}
}

// TestEveryFieldOfTheInsuranceDataHasWords: headings, labels and code values of the insurance data, all of them.
func TestEveryFieldOfTheInsuranceDataHasWords(t *testing.T) {
	t.Parallel()
	c := newCatalog(t)
	for _, l := range Languages {
		for _, id := range slices.Concat(vsd.SectionIDs(), vsd.LabelIDs(), vsd.ValueIDs()) {
			if s, ok := c.Lookup(l.Lang, id); !ok || s == "" {
				t.Errorf("%s: no text %s", l.Lang, id)
			}
		}
	}
	known := map[string]bool{}
	for _, id := range slices.Concat(vsd.SectionIDs(), vsd.LabelIDs(), vsd.ValueIDs()) {
		known[id] = true
	}
	for _, id := range c.IDs() {
		if strings.HasPrefix(id, "vsd.") && !known[id] {
			t.Errorf("text %s belongs to nothing", id)
		}
	}
}
