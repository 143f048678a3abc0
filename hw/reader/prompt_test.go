package reader

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ktradv/internal/testdata"
)

// The prescribed texts are in the requirements, which are next to the project where they are available.
func TestPromptsAreThePrescribedTexts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(filepath.Dir(testdata.Dir(t, "")), "requirements")
	f, err := os.Open(filepath.Join(dir, "ui-texts.csv"))
	if err != nil {
		t.Skip("no catalogue of prescribed texts: ", err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, r := range rows[1:] {
		if strings.HasPrefix(r[0], "PIN.") && r[0] != "PIN.MASK" {
			want[r[0]] = r[2]
		}
	}
	seen := map[string]bool{}
	check := func(id, text string) {
		if want[id] != text {
			t.Errorf("%s is %q, prescribed %q", id, text, want[id])
		}
		seen[id] = true
	}
	for _, p := range prompts {
		check(p.ID, p.Text)
		if p.NewID != "" {
			check(p.NewID, p.NewText)
		}
	}
	for id := range want {
		if !seen[id] {
			t.Errorf("%s is not in the table", id)
		}
	}
}

func TestPromptFor(t *testing.T) {
	t.Parallel()
	if p, ok := PromptFor("PIN.CH", ActionVerify); !ok || p.Text != "Eingabe Versicherten-PIN: " {
		t.Errorf("%q, %v", p.Text, ok)
	}
	if p, ok := PromptFor("PIN.CH", ActionUnblock); !ok || p.Text != "Eingabe PUK: " || p.NewText != "Eingabe neue Versicherten-PIN: " {
		t.Errorf("%q, %q, %v", p.Text, p.NewText, ok)
	}
	if _, ok := PromptFor("PIN.QES", ActionVerify); ok {
		t.Error("there is a text for a PIN that no use case knows")
	}
}

func TestFitDisplay(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text           string
		columns, lines int
		want           string
		cut            bool
	}{
		{"Eingabe Versicherten-PIN: ", 20, 2, "Eingabe             |Versicherten-PIN:   ", false},
		{"Eingabe Versicherten-PIN: ", 16, 2, "Eingabe         |Versicherten-   ", true},
		{"Eingabe Versicherten-PIN: ", 16, 3, "Eingabe         |Versicherten-   |PIN:            ", false},
		{"Eingabe PUK: ", 12, 1, "Eingabe PUK:", false},
		{"Eingabe PUK: ", 0, 0, "Eingabe PUK: ", false},
		{"PIN-Schutz für Notfalldaten", 14, 2, "PIN-Schutz für|Notfalldaten  ", false},
		{"Donaudampfschiff", 5, 4, "Donau|dampf|schif|f    ", false},
		{"", 16, 2, "", false},
	}
	for _, tc := range tests {
		got, cut := FitDisplay(tc.text, tc.columns, tc.lines)
		if want := strings.ReplaceAll(tc.want, "|", ""); got != want || cut != tc.cut {
			t.Errorf("%q on %d×%d: %q, %v; want %q, %v", tc.text, tc.columns, tc.lines, got, cut, want, tc.cut)
		}
	}
}

func FuzzFitDisplay(f *testing.F) {
	f.Add("Eingabe Versicherten-PIN: ", 16, 2)
	f.Fuzz(func(t *testing.T, text string, columns, lines int) {
		columns, lines = columns%64, lines%16
		got, _ := FitDisplay(text, columns, lines)
		if n := len([]rune(got)); columns > 0 && lines > 0 && (n > columns*lines || n%columns != 0) {
			t.Errorf("%d characters on %d×%d", n, columns, lines)
		}
	})
}

func TestLatin1(t *testing.T) {
	t.Parallel()
	if got := latin1("für €\n"); string(got) != "f\xFCr ??" {
		t.Errorf("%q", got)
	}
}
