package erezept

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// tolerated are findings that package trust gives as warnings to callers who have asked to tolerate them. A billing check
// never does, so that in its table they stand for what they mean.
var tolerated = map[Code]bool{1028: true, 1039: true}

// TestEveryFinding: every code that the check of a certificate, of a status or of a list can give has a row with a text for a
// clerk, under the name that it has there, and the verdict that package trust draws from it.
func TestEveryFinding(t *testing.T) {
	t.Parallel()
	code := regexp.MustCompile(`Error\{Code: (\d+), Name: "([A-Z0-9_]+)"\}`)
	given := map[Code]string{}
	for _, dir := range []string{"../../internal/x509ti", "../../internal/ocsp", "../../internal/tsl", "../trust"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", dir, err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			source, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range code.FindAllSubmatch(source, -1) {
				n, _ := strconv.Atoi(string(m[1]))
				given[Code(n)] = string(m[2])
			}
		}
	}
	source, err := os.ReadFile("../trust/check.go")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(source), "var verdictOf = map[int]Verdict{")
	table, _, end := strings.Cut(table, "\n}")
	if !found || !end {
		t.Fatal("package trust has no table of verdicts any more")
	}
	verdicts := map[string]Verdict{"Warnings": Warning, "Indeterminate": Indeterminate, "Invalid": Invalid}
	drawn := map[Code]Verdict{}
	for _, m := range regexp.MustCompile(`(\d{4,5}): ([A-Z]\w+)`).FindAllStringSubmatch(table, -1) {
		n, _ := strconv.Atoi(m[1])
		drawn[Code(n)] = verdicts[m[2]]
		if _, ok := given[Code(n)]; !ok {
			given[Code(n)] = ""
		}
	}
	if len(given) < 40 || len(drawn) < 25 {
		t.Fatalf("%d codes and %d verdicts were found", len(given), len(drawn))
	}
	for c, name := range given {
		row, ok := findings[c]
		want, judged := drawn[c]
		if !judged {
			want = Indeterminate // what stepOf makes of it
		}
		switch {
		case !ok:
			t.Errorf("%d %s has no row", int(c), name)
		case name != "" && row.Name != name:
			t.Errorf("%d is %s here and %s there", int(c), row.Name, name)
		case row.Verdict != want && !tolerated[c]:
			t.Errorf("%d %s is %s here and %s there", int(c), row.Name, row.Verdict, want)
		case row.German == "" || row.German == findings[CodeUnexpectedFinding].German:
			t.Errorf("%d %s has no text", int(c), row.Name)
		}
	}
	seen := map[Code]bool{}
	for _, f := range Findings {
		if seen[f.Code] {
			t.Errorf("%d stands twice in the table", int(f.Code))
		}
		seen[f.Code] = true
	}
}
