package federation

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ktradv/internal/req"
	"ktradv/internal/testdata"
)

// rows reads a table of tab-separated values; \n and \t in a cell stand for the characters.
func rows(t *testing.T, name string) [][]string {
	t.Helper()
	f, err := os.Open(filepath.Join(testdata.Dir(t, "registration"), "oracle", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out [][]string
	for s := bufio.NewScanner(f); s.Scan(); {
		cells := strings.Split(s.Text(), "\t")
		for i := range cells {
			cells[i] = strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(cells[i])
		}
		out = append(out, cells)
	}
	return out[1:]
}

func TestURIOracle(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-15")
	table := rows(t, "java-net-uri.tsv")
	if len(table) != 42 {
		t.Fatalf("%d rows, not 42", len(table))
	}
	null := func(s string, ok bool) string {
		if !ok {
			return "null"
		}
		return s
	}
	for _, r := range table {
		u, err := parseJavaURI(r[0])
		if got := err == nil; got != (r[1] == "true") {
			t.Errorf("%q: parses %v, Java says %s (%v)", r[0], got, r[1], err)
			continue
		}
		if err == nil {
			got := []string{null(u.scheme, u.scheme != ""), null(u.host, u.host != ""), null(u.query, u.hasQuery), null(u.fragment, u.hasFragment)}
			if want := []string{r[2], r[3], r[5], r[6]}; strings.Join(got, "|") != strings.Join(want, "|") {
				t.Errorf("%q: %q, Java says %q", r[0], got, want)
			}
		}
		rule, found := checkServiceURI(r[0])
		if (rule == "") != (r[7] == "accept") || rule != r[8] {
			t.Errorf("%q: broken rule %q, want %q %q", r[0], rule, r[7], r[8])
		}
		if rule != "" && Findings(found).Worst() != Error {
			t.Errorf("%q: refused without an error", r[0])
		}
		for _, f := range found {
			if f.Fix == "" || f.What == "" {
				t.Errorf("%q: %v says not what to do", r[0], f)
			}
		}
	}
}

func TestURIWarnings(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"https://user@fd.example.com", "https://192.168.0.1", "https://[2001:db8::1]:443", "https://localhost", "https://fd.example.com."} {
		if _, found := checkServiceURI(s); !Findings(found).Has("REG-URI-UNGEWOEHNLICH") {
			t.Errorf("%q: no warning", s)
		}
	}
	if _, found := checkServiceURI("https://fd.example.com/adv"); len(found) != 0 {
		t.Errorf("an ordinary address: %v", found)
	}
}

func FuzzURI(f *testing.F) {
	for _, s := range []string{"https://fd.example.com:8443/a?b#c", "https://[::1]", "https:a", "//h", "https://%zz@h", "https://ü", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rule, found := checkServiceURI(s)
		if rule == "" && Findings(found).Worst() == Error {
			t.Fatalf("%q: accepted with an error", s)
		}
		if u, err := parseJavaURI(s); rule == "" && (err != nil || u.scheme != "https" || u.host == "" || strings.ContainsAny(s, "?#")) {
			t.Fatalf("%q: accepted as %+v, %v", s, u, err)
		}
	})
}
