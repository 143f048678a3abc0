package fedcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ktradv/internal/req"
	"ktradv/server/federation"
	"ktradv/server/internal/tool"
	"ktradv/server/tisim/fedmaster"
)

// apart runs a command and returns what it wrote to each of the two outputs.
func (b *bench) apart(status int, args ...string) (out, errs string) {
	b.t.Helper()
	var o, e bytes.Buffer
	env := Env{tool.Env{Stdout: &o, Stderr: &e, Now: func() time.Time { return b.now }, Passphrase: ask}, b.net}
	if got := Run(context.Background(), env, append([]string{args[0], "-config", b.config()}, args[1:]...)); got != status {
		b.t.Fatalf("%v: status %d, want %d\n%s%s", args, got, status, &o, &e)
	}
	return o.String(), e.String()
}

// TestJSON: with -json the standard output is one JSON document, the same for the same state, whatever the command.
func TestJSON(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	form := filepath.Join(b.dir, "FDkasse0001TU.xml")
	for _, args := range [][]string{{"register", "-json", "-out", b.dir}, {"check", "-json", form}, {"keys", "-json"}, {"keys", "-json", "new"}, {"deregister", "-json", "-out", b.dir, "-force"}} {
		if out, _ := b.apart(tool.Clean, args...); !json.Valid([]byte(out)) {
			t.Errorf("%v writes no JSON:\n%s", args, out)
		}
	}
	n := newBench(t, federation.TU)
	n.register()
	for _, status := range []int{tool.Clean, tool.Unknown} { // and once without a Federation Master
		out, _ := n.apart(status, "watch", "-json")
		var r struct {
			Findings  []any
			Reached   bool
			KnownKids []string `json:"known_kids"`
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.Findings == nil || r.KnownKids == nil || r.Reached != (status == tool.Clean) {
			t.Errorf("%v %s", err, out)
		}
		n.master.SetFault(fedmaster.Down)
	}
	doc, err := os.ReadFile(form)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(form, bytes.ReplaceAll(doc, []byte("TU<"), []byte("XX<")), 0o600); err != nil {
		t.Fatal(err)
	}
	first, _ := b.apart(tool.Found, "check", "-json", form)
	var found []struct {
		Code, Severity, Source, Field, What, Fix string
		Line                                     int
	}
	if err := json.Unmarshal([]byte(first), &found); err != nil || len(found) == 0 {
		t.Fatalf("%v %s", err, first)
	}
	if f := found[0]; f.Code != "REG-ENV" || f.Severity != "error" || f.Source != form || f.Field != "betriebsumgebung" || f.Line != 3 || f.What == "" || f.Fix == "" {
		t.Errorf("%+v", f)
	}
	if again, _ := b.apart(tool.Found, "check", "-json", form); again != first {
		t.Errorf("the report changes:\n%s\n%s", first, again)
	}
}

// TestDeregistration: the form is judged as the others are, alone and with a statement.
func TestDeregistration(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-29")
	b := newBench(t, federation.TU)
	b.run(tool.Clean, "deregister", "-out", b.dir)
	path := filepath.Join(b.dir, "FDkasse0001TU.xml")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b.run(tool.Unknown, "deregister", "-out", b.dir) // the file exists
	if out := b.run(tool.Clean, "check", path); !strings.Contains(out, "0 errors, 0 warnings") {
		t.Error(out)
	}
	if out := b.run(tool.Clean, "check", path, service); !strings.Contains(out, "0 errors, 0 warnings") {
		t.Error(out)
	}
	for _, c := range []struct {
		old, new string
		status   int
		want     string
	}{
		{"<memberid>FDkasse0001TU</memberid>", "<memberid/>", tool.Found, "REG-MEMBER-LEER"},
		{"<memberid>FDkasse0001TU</memberid>", "", tool.Found, "REG-FELD-FEHLT"},
		{">TU<", ">PU<", tool.Clean, "ES-ENV"},
		{">TU<", "><", tool.Found, "REG-ENV"},
		{"https://adv.kasse.example", "https://other.kasse.example", tool.Clean, "ES-ISS-UNGLEICH"},
		{"https://adv.kasse.example", "http://adv.kasse.example", tool.Found, "REG-URI-SCHEMA"},
		{"Ungenutzt", "", tool.Found, "REG-GRUND-LEER"},
		{"Ungenutzt", "Umzug", tool.Clean, "REG-GRUND"},
		{"<grund>", "<kontaktemail/><grund>", tool.Found, "REG-ELEMENT"},
	} {
		if !bytes.Contains(good, []byte(c.old)) {
			t.Fatalf("%s is not in the form", c.old)
		}
		if err := os.WriteFile(path, bytes.Replace(good, []byte(c.old), []byte(c.new), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := b.run(c.status, "check", path, service); !strings.Contains(out, c.want) {
			t.Errorf("%s: %s is missing in\n%s", c.new, c.want, out)
		}
	}
	b.edit(`"member_id": "FDkasse0001TU"`, `"member_id": ""`)
	if out := b.run(tool.Found, "deregister", "-out", b.dir, "-force"); !strings.Contains(out, "REG-MEMBER-LEER") || !strings.Contains(out, "nothing was written") {
		t.Error(out)
	}
}

// TestInitGoesOn: what ends an init in the middle does not end the way.
func TestInitGoesOn(t *testing.T) {
	t.Parallel()
	dir, n := t.TempDir(), 0
	run := func(args ...string) (int, string) {
		var out bytes.Buffer
		env := Env{tool.Env{Stdout: &out, Stderr: &out, Now: time.Now, Passphrase: func(bool) ([]byte, error) {
			if n++; n == 1 {
				return nil, errors.New("the two passphrases differ: nothing was made, try again")
			}
			return []byte(secret), nil
		}}, &network{}}
		return Run(context.Background(), env, append([]string{"init", "-dir", dir, "-environment", "TU", "-service", service, "-organisation", "Kasse", "-name", "AdV",
			"-email", "adv@kasse.example", "-group", "ORG-1234:BT-5678", "-redirect", service + "/cb"}, args...)), out.String()
	}
	if status, out := run(); status != tool.Unknown || !strings.Contains(out, "differ") {
		t.Fatal(status, out)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.*")); len(left) != 0 {
		t.Errorf("nothing was made, but %v", left)
	}
	if status, out := run(); status != tool.Clean {
		t.Fatal(status, out)
	}
	keys, _ := filepath.Glob(filepath.Join(dir, "keys", "*.key.pem"))
	if status, out := run(); status != tool.Unknown || !strings.Contains(out, "--force") {
		t.Error(status, out)
	}
	if status, out := run("-force"); status != tool.Clean {
		t.Error(status, out)
	}
	if again, _ := filepath.Glob(filepath.Join(dir, "keys", "*.key.pem")); len(keys) != 3 || len(again) != 3 {
		t.Errorf("keys %v, then %v", keys, again)
	}
	if kept, _ := filepath.Glob(filepath.Join(dir, "federation.json.*.bak")); len(kept) != 1 {
		t.Errorf("kept: %v", kept)
	}
}

// TestClientKeys: the end of the TLS client certificate is warned of, and the next one is published.
func TestClientKeys(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	b.register()
	prom := filepath.Join(b.dir, "adv.prom")
	b.run(tool.Clean, "watch", "-metrics", prom)
	text, err := os.ReadFile(prom)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{"statement_expiry", "master_statement_expiry", "signing_key_end", "tls_client_certificate_end", "id_token_key_end", "watched"} {
		if !bytes.Contains(text, []byte("adv_federation_"+m+"_timestamp_seconds")) {
			t.Errorf("%s is missing in\n%s", m, text)
		}
	}
	b.run(tool.Clean, "keys", "new")
	b.now = b.now.Add(federation.MaxKeyAge - 5*24*time.Hour)
	out := b.run(tool.Found, "watch")
	if !strings.Contains(out, "TLS client certificate ends") || !strings.Contains(out, "keys new-client") || !strings.Contains(out, "error ES-KEY-ALTER") {
		t.Error(out)
	}
	if out := b.run(tool.Clean, "keys", "new-client"); !strings.Contains(out, "former") {
		t.Error(out)
	}
	for _, f := range []string{"tls-client.pem", "encryption.pem", "keys/tls-client.key.pem", "keys/encryption.key.pem"} {
		if kept, _ := filepath.Glob(filepath.Join(b.dir, f+".*.bak")); len(kept) != 1 {
			t.Errorf("%s: kept %v", f, kept)
		}
	}
	b.publish()
	if out := b.run(tool.Found, "watch"); strings.Contains(out, "warning ES-RP-WERT") {
		t.Error(out)
	}
	b.run(tool.Unknown, "keys", "other")
}

// TestTerminal: what files and servers say moves no cursor.
func TestTerminal(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	evil := filepath.Join(b.dir, "evil.xml")
	if err := os.WriteFile(evil, []byte("<registrierungtifoederation><\u009b31m/></registrierungtifoederation>"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.net.set("https://evil.example", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(500)
		_, _ = w.Write([]byte("\x1b]0;owned\x07 \u009b2J \u202e"))
	}))
	for _, out := range []string{b.run(tool.Found, "check", "-offline", evil), b.run(tool.Found, "check", "https://evil.example"), b.run(tool.Unknown, "check", "\x1b[2J")} {
		if strings.ContainsAny(out, "\x1b\x07\u009b\u202e") {
			t.Errorf("%q", out)
		}
	}
	b.run(tool.Unknown, "check", "-kind", "Diga", evil)
}

// TestEnvironments: each environment has a form of its own, TU comes before PU, and the office of one takes no form of another.
func TestEnvironments(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-02", "FED-07", "FED-25")
	tu, pu := newBench(t, federation.TU), newBench(t, federation.PU)
	if out := tu.run(tool.Clean, "register", "-out", tu.dir); !strings.Contains(out, "FDkasse0001TU.xml") || !strings.Contains(out, "idp-registrierung@gematik.de") {
		t.Error(out)
	}
	form, err := os.ReadFile(filepath.Join(tu.dir, "FDkasse0001TU.xml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := pu.master.Mail("FDkasse0001TU.xml", form); err == nil {
		t.Error("the office of PU took a form of TU")
	}
	tu.run(tool.Clean, "sent")
	pu.run(tool.Unknown, "register", "-out", pu.dir)
	// The two keep their records in one folder: then the registration in TU is known.
	pu.edit(`"records": "records"`, `"records": "`+filepath.Join(tu.dir, "records")+`"`)
	pu.run(tool.Clean, "register", "-out", pu.dir)
	if err := pu.mail("FDkasse0001PU.xml"); err != nil {
		t.Error(err)
	}
	pu.run(tool.Clean, "sent")
	for _, n := range []string{"registered-TU.xml", "registered-PU.xml"} {
		if _, err := os.Stat(filepath.Join(tu.dir, "records", n)); err != nil {
			t.Error(err)
		}
	}
}
