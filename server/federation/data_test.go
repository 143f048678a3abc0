package federation

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ktradv/internal/req"
	"ktradv/internal/testdata"
)

// read returns a file of the public registration data.
func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testdata.Dir(t, "registration"), filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// codes are the codes of findings of at least a severity, each once, sorted.
func codes(fs Findings, least Severity) []string {
	var out []string
	for _, f := range fs {
		if c := string(f.Code); f.Severity >= least && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return out
}

func same(t *testing.T, what string, got []string, want string) {
	t.Helper()
	if w := strings.Fields(want); !slices.Equal(got, w) && len(got)+len(w) > 0 {
		t.Errorf("%s:\n got %v\nwant %v", what, got, w)
	}
}

func day(s string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", s)
	if err != nil {
		panic(err)
	}
	return t
}

// TestPublishedStatements judges every published statement. The source of each verdict is the README of the data, with the
// rules of the reference for what that leaves open.
func TestPublishedStatements(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-01")
	rp := "metadata.openid_relying_party"
	for _, c := range []struct {
		file, now, signedBy string
		errors, warnings    string
	}{
		// The Federation Master has no superior and is no Fachdienst; all else is right.
		{"fedmaster-ru-2023", "2023-05-10 12:00", "", "ES-HINTS ES-RP-FEHLT ES-RP-WERT", ""},
		{"fedmaster-ru-2023", "2023-05-12 12:00", "", "ES-EXP ES-HINTS ES-RP-FEHLT ES-RP-WERT", ""},
		{"fedmaster-ru-2023", "2023-05-09 12:00", "", "ES-HINTS ES-IAT ES-RP-FEHLT ES-RP-WERT", ""},
		{"fedmaster-wrong-typ-jwt", "2022-10-21 12:00", "", "ES-DAUER ES-HINTS ES-ISS-URI ES-RP-FEHLT ES-RP-WERT ES-TYP", ""},
		{"rp-localhost-valid-2043", "2026-11-22 12:00", "", "ES-DAUER ES-ISS-URI ES-RP-WERT", ""}, // signed_jwks_uri begins with http, as iss does
		{"rp-idpfadi-string-lists", "2026-11-22 12:00", "", "ES-DAUER ES-RP-WERT", ""},            // its TLS client certificate has expired, too
		{"rp-idpfadi-string-lists", "2023-07-12 12:00", "", "ES-DAUER", "ES-DAUER ES-RP-WERT"},
		{"rp-expired-2023", "2026-11-22 12:00", "", "ES-EXP ES-HINTS ES-ISS-URI ES-RP-WERT", ""},
		{"rp-expired-2023", "2023-03-09 12:00", "", "ES-HINTS ES-ISS-URI ES-RP-WERT", ""},
		{"rp-bad-signature-a", "2026-11-22 12:00", "", "ES-DAUER ES-ISS-URI ES-RP-WERT ES-SIG", ""},
		{"idp-sektoral-gsi-2024", "2024-02-03 12:00", "", "ES-DAUER ES-META ES-RP-FEHLT", ""},
		{"sub-about-rp-2044", "2026-11-22 12:00", "", "ES-ISS-SUB", ""}, // taken for a service's own: recognised
		{"sub-about-rp-tu-2024", "2024-01-22 17:00", "", "ES-ISS-SUB", "ES-ISS-SUB"},
		{"sub-about-rp-2044", "2026-11-22 12:00", "fedmaster-ru-2023", "ES-DAUER ES-KID-HEADER", ""}, // of a local master
		{"sub-about-rp-tu-2024", "2024-01-22 17:00", "fedmaster-ru-2023", "ES-SIG", ""},              // of another master: the name of the key alone proves nothing
	} {
		var o StatementOptions
		if c.signedBy != "" {
			m, found := ParseStatement(read(t, "es/"+c.signedBy+".jws"), c.signedBy)
			if m == nil {
				t.Fatal(found)
			}
			o.SignedBy = m.Keys
		}
		s, found := ParseStatement(read(t, "es/"+c.file+".jws"), c.file)
		if s == nil {
			t.Errorf("%s: %v", c.file, found)
			continue
		}
		o.Now = day(c.now)
		found = CheckStatement(s, o)
		same(t, c.file+" "+c.now, codes(found, Error), c.errors)
		if c.warnings != "" {
			same(t, c.file+" with warnings", codes(found, Warning), c.warnings)
		}
		for _, f := range found {
			if f.What == "" || f.Fix == "" {
				t.Errorf("%s: %v says not what to do", c.file, f)
			}
			if c.file == "rp-localhost-valid-2043" && strings.HasPrefix(f.Field, rp) && f.Field != rp+".signed_jwks_uri" && f.Severity > Info {
				t.Errorf("%s: %v", c.file, f)
			}
		}
	}
	// The one without a signature is no JWS at all: the base64 of its header has padding. What is worse is said, too.
	if s, found := ParseStatement(read(t, "es/rp-alg-none.jws"), ""); s != nil || !found.Has("ES-JWS") || !slices.ContainsFunc(found, func(f Finding) bool { return f.Code == "ES-ALG" && f.What == `alg is "none"` }) {
		t.Errorf("rp-alg-none: %v", found)
	}
	// What the README says is in them.
	for file, want := range map[string]string{
		"fedmaster-ru-2023":       `"federation_list_endpoint" "federation_fetch_endpoint" "idp_list_endpoint"`,
		"rp-localhost-valid-2043": `iss: "http://localhost:8084": the address does not begin with https`,
		"sub-about-rp-tu-2024":    `what the Federation Master of TU says about a service|federation watch`,
		"rp-idpfadi-string-lists": `contacts: the value is a text, not a list|default_acr_values: the value is a text, not a list`,
		"rp-expired-2023":         `token_endpoint_auth_method: the value is private_key_jwt|"http://gsltucd01.ltu.int.gematik.de:4014" is no Federation Master`,
	} {
		s, _ := ParseStatement(read(t, "es/"+file+".jws"), file)
		var said strings.Builder
		if err := CheckStatement(s, StatementOptions{Now: day("2026-11-22 12:00")}).WriteText(&said); err != nil {
			t.Fatal(err)
		}
		for n := range s.entity() {
			said.WriteString(strconv.Quote(n) + " ")
		}
		for w := range strings.FieldsFuncSeq(want, func(r rune) bool { return r == '|' || r == ' ' && strings.HasPrefix(want, `"`) }) {
			if !strings.Contains(said.String(), w) {
				t.Errorf("%s: %s is missing in\n%s", file, w, &said)
			}
		}
	}
	sub, _ := ParseStatement(read(t, "es/sub-about-rp-2044.jws"), "")
	if rp := sub.relyingParty(); sub.Issuer == sub.Subject || len(list(rp, "redirect_uris")) != 4 || len(list(rp, "claims")) != 0 || text(rp, "scope") == "" {
		t.Errorf("sub-about-rp-2044: %v", rp)
	}
	// A signed key set is no statement either, and is recognised.
	s, _ := ParseStatement(read(t, "es/signed-jwks-typ-jwt.jws"), "")
	same(t, "signed-jwks", codes(CheckStatement(s, StatementOptions{Now: day("2023-10-13 14:00")}), Error), "ES-TYP")
}

// TestPublishedForms judges every published form, alone and with its statement.
func TestPublishedForms(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-04", "FED-12", "FED-13", "FED-14", "FED-17", "FED-19", "FED-21", "FED-22", "FED-23", "FED-24", "FED-29")
	statement, found := ParseStatement(read(t, "es/rp-idpfadi-string-lists.jws"), "")
	if statement == nil {
		t.Fatal(found)
	}
	for _, c := range []struct {
		file, alone, together string
	}{
		{"register-tu-peer", "", ""},
		{"deregister-ru-peer", "", ""},
		{"pair-idpfadi-match", "", "-"},
		{"pair-idpfadi-oneline-pem", "", "-"},
		{"pair-idpfadi-wrong-env", "", "ES-ENV"},
		{"pair-idpfadi-many-faults", "REG-ORG-ZEICHEN REG-REDIRECT-FORM REG-SCOPE-OPENID REG-URI-WELLKNOWN REG-VFS-FEHLT REG-ZWG-FORM",
			"ES-ENV ES-ISS-UNGLEICH ES-KID-FEHLT ES-KID-HEADER ES-NAME-UNGLEICH ES-ORG-UNGLEICH ES-REDIRECT-FEHLT ES-REDIRECT-MEHR ES-SCOPE-FEHLT ES-SCOPE-MEHR ES-SUB-UNGLEICH"},
	} {
		r, found := ParseXML(read(t, "xml/"+c.file+".xml"), XMLOptions{Source: c.file})
		if r == nil {
			t.Errorf("%s: %v", c.file, found)
			continue
		}
		same(t, c.file, codes(found, Error), c.alone)
		if c.together != "" {
			same(t, c.file+" with its statement", codes(Compare(r, statement), Error), strings.Trim(c.together, "-"))
		}
		for _, f := range append(found, Compare(r, statement)...) {
			if f.Line == 0 || f.Source == "" || f.Fix == "" {
				t.Errorf("%s: %#v lacks line, source or fix", c.file, f)
			}
		}
	}
	r, found := ParseXML(read(t, "xml/register-old-format-tu.xml"), XMLOptions{})
	if r != nil || !found.Has("REG-ALTFORMAT") || !strings.Contains(found[0].Fix, "federation register") {
		t.Errorf("old format: %v", found)
	}
	// The line is that of the element.
	r, found = ParseXML(read(t, "xml/pair-idpfadi-many-faults.xml"), XMLOptions{})
	for _, f := range found {
		if f.Code == "REG-ZWG-FORM" && f.Line != 7 {
			t.Errorf("zuweisungsgruppe stands in line 7, not %d", f.Line)
		}
	}
	if r.lines["fachdiensturi"] != 11 {
		t.Errorf("fachdiensturi stands in line 11, not %d", r.lines["fachdiensturi"])
	}
}

func TestNameOracle(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-12", "FED-13")
	runs := []int{128, 129}
	for _, r := range rows(t, "java-regex-names.tsv") {
		name := r[0]
		if c, ok := strings.CutSuffix(name, "*n"); ok {
			name, runs = strings.Repeat(c, runs[0]), runs[1:]
		}
		found := checkName("NAME")(ruleContext{}, name)
		if got := len(found) == 0; got != (r[1] == "true") {
			t.Errorf("%q: accepted %v, Java's matches() says %s", name, got, r[1])
		}
	}
	if len(runs) != 0 {
		t.Error("the table has no runs any more")
	}
	if f := checkName("ORG")(ruleContext{}, "A (b), c"); len(f) != 1 || f[0].What != `not allowed: '(' ')' ','` {
		t.Errorf("the characters are not named: %v", f)
	}
}
