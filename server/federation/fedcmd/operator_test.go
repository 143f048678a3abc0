package fedcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ktradv/internal/req"
	"ktradv/internal/testdata"
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
	for _, args := range [][]string{{"register", "-json", "-out", b.dir}, {"check", "-json", form}, {"keys", "-json"}, {"keys", "-json", "new"}, {"sent", "-json"}, {"deregister", "-json", "-out", b.dir, "-force"}, {"sent", "-json", "-discard"}} {
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

// TestOnePassphrase: what goes on with another passphrase than that of the keys that are there makes nothing.
func TestOnePassphrase(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	with := func(passphrase string, args ...string) (int, string) {
		var out bytes.Buffer
		env := Env{tool.Env{Stdout: &out, Stderr: &out, Now: func() time.Time { return b.now }, Passphrase: func(bool) ([]byte, error) { return []byte(passphrase), nil }}, b.net}
		return Run(context.Background(), env, args), out.String()
	}
	init := []string{"init", "-dir", b.dir, "-environment", "TU", "-service", service, "-organisation", "Kasse", "-name", "AdV", "-email", "adv@kasse.example", "-group", "ORG-1234:BT-5678", "-redirect", service + "/cb"}
	list := func() string {
		files, _ := filepath.Glob(filepath.Join(b.dir, "keys", "*.pem"))
		return strings.Join(files, " ")
	}
	remove := func(names ...string) {
		t.Helper()
		for _, n := range names {
			if err := os.Remove(filepath.Join(b.dir, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Interrupted after the signing key; then after the client keys, whose list of signing keys got lost.
	for _, missing := range [][]string{{"federation.json", "tls-client.pem", "keys/tls-client.key.pem"}, {"keys/signing-keys.json"}} {
		remove(missing...)
		before := list()
		if status, out := with("another passphrase", init...); status != tool.Unknown || !strings.Contains(out, "passphrase of the keys that are there") {
			t.Errorf("%v: %d %s", missing, status, out)
		}
		if after := list(); after != before {
			t.Errorf("%v: made %s", missing, after)
		}
	}
	if status, out := with("another passphrase", "keys", "-config", b.config(), "new-client"); status != tool.Unknown {
		t.Error(out)
	}
	if status, out := with(secret, init...); status != tool.Clean {
		t.Error(out)
	}
	if status, out := with(secret, "entity-statement", "-config", b.config()); status != tool.Clean {
		t.Error(out)
	}
}

// TestPromptWithoutLock: nobody waits for somebody who types a passphrase: the list of keys is not locked meanwhile.
func TestPromptWithoutLock(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	lock, err := os.OpenFile(filepath.Join(b.dir, "keys", "signing-keys.json.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	asked := 0
	var out bytes.Buffer
	env := Env{tool.Env{Stdout: &out, Stderr: &out, Now: func() time.Time { return b.now }, Passphrase: func(bool) ([]byte, error) {
		asked++
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			t.Errorf("the list is locked at the prompt: %v", err)
		}
		return []byte(secret), syscall.Flock(int(lock.Fd()), syscall.LOCK_UN)
	}}, b.net}
	if status := Run(context.Background(), env, []string{"keys", "-config", b.config(), "new"}); status != tool.Clean || asked != 1 {
		t.Errorf("status %d, asked %d times: %s", status, asked, &out)
	}
}

// TestDamagedLists: what is said about a damaged list of keys is true of that list.
func TestDamagedLists(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	b.register()
	for _, c := range []struct{ name, want, not string }{
		{"client-keys.json", "or remove it", "of no use without it"},
		{"signing-keys.json", "of no use without it", "remove it"},
	} {
		path := filepath.Join(b.dir, "keys", c.name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, good[:len(good)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		if out := b.run(tool.Unknown, "watch"); !strings.Contains(out, c.name) || !strings.Contains(out, c.want) || strings.Contains(out, c.not) {
			t.Errorf("%s: %s", c.name, out)
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// As it is said: without the list the watch goes on, and knows less.
	if err := os.Remove(filepath.Join(b.dir, "keys", "client-keys.json")); err != nil {
		t.Fatal(err)
	}
	if out := b.run(tool.Clean, "watch"); !strings.Contains(out, "when this key for ID tokens was made is not known here") {
		t.Error(out)
	}
}

// TestDeregisterOther: what was registered is taken out, and nothing else.
func TestDeregisterOther(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-29")
	b := newBench(t, federation.TU)
	if out := b.run(tool.Clean, "deregister", "-out", b.dir); !strings.Contains(out, "warning REG-UNREGISTRIERT") {
		t.Error(out)
	}
	b.run(tool.Clean, "sent", "-discard")
	b.run(tool.Clean, "register", "-out", b.dir, "-force")
	b.send()
	for _, c := range []struct{ old, new, want string }{
		{`"member_id": "FDkasse0001TU"`, `"member_id": "FDkasse0002TU"`, "REG-MEMBER-ANDERS"},
		{`"service": "https://adv.kasse.example"`, `"service": "https://adv2.kasse.example"`, "REG-URI-ANDERS"},
	} {
		b.edit(c.old, c.new)
		if out := b.run(tool.Found, "deregister", "-out", b.dir, "-force"); !strings.Contains(out, c.want) || !strings.Contains(out, "nothing was written") {
			t.Errorf("%s is missing in\n%s", c.want, out)
		}
		b.edit(c.new, c.old)
	}
	if out := b.run(tool.Clean, "deregister", "-out", b.dir, "-force"); !strings.Contains(out, "0 warnings") || !strings.Contains(out, "the former one is") {
		t.Error(out)
	}
	b.send()
}

// TestIDTokenKeyAge: the watch warns of the key for ID tokens before its 398 days are over, and a new one ends that.
func TestIDTokenKeyAge(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	b.register()
	prom := filepath.Join(b.dir, "adv.prom")
	want := "id_token_key_end_timestamp_seconds " + strconv.FormatFloat(float64(b.now.Add(federation.MaxKeyAge).Unix()), 'g', -1, 64)
	if out := b.run(tool.Clean, "watch", "-metrics", prom); strings.Contains(out, "ES-KEY-ALTER") || !strings.Contains(out, "key for ID tokens ends 2027-12-25") {
		t.Error(out)
	}
	if text, err := os.ReadFile(prom); err != nil || !bytes.Contains(text, []byte(want)) {
		t.Errorf("%s is missing in\n%s%v", want, text, err)
	}
	b.now = b.now.Add(federation.MaxKeyAge - 20*24*time.Hour)
	if out := b.run(tool.Clean, "watch"); !strings.Contains(out, "the key for ID tokens must not be used after 2027-12-25") {
		t.Error(out)
	}
	b.run(tool.Clean, "keys", "new-client")
	b.publish()
	if out := b.run(tool.Clean, "watch"); strings.Contains(out, "ID tokens must not") {
		t.Error(out)
	}
}

// TestDataFiles judges every public file under its own name, as an operator would call it. The statuses and words are those of the
// README of the data.
func TestDataFiles(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-04", "FED-29")
	dir := testdata.Dir(t, "registration")
	b := &bench{t: t, dir: t.TempDir(), net: &network{hosts: map[string]http.Handler{}}}
	const idpfadi = "es/rp-idpfadi-string-lists.jws"
	at := func(s string) time.Time {
		t.Helper()
		v, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	seen := map[string]bool{}
	for _, c := range []struct {
		files, now string
		status     int
		has, not   string // codes and words, by blanks
	}{
		{"xml/register-tu-peer.xml", "", tool.Clean, "REG-MEMBER-DATEI", "error"},
		{"xml/deregister-ru-peer.xml", "", tool.Clean, "REG-MEMBER-DATEI", "error"},
		{"xml/pair-idpfadi-match.xml", "", tool.Clean, "", "error"},
		{"xml/pair-idpfadi-oneline-pem.xml", "", tool.Clean, "", "error"},
		{"xml/pair-idpfadi-wrong-env.xml", "", tool.Clean, "", "error"}, // alone nothing is wrong with it
		{"xml/pair-idpfadi-many-faults.xml", "", tool.Found, "REG-VFS-FEHLT REG-ZWG-FORM REG-MEMBER-LEER REG-ORG-ZEICHEN REG-URI-WELLKNOWN REG-SCOPE-OPENID REG-REDIRECT-FORM", ""},
		{"xml/register-old-format-tu.xml", "", tool.Found, "REG-ALTFORMAT", ""},
		{"xml/pair-idpfadi-match.xml " + idpfadi, "2023-07-12 12:00", tool.Found, "ES-DAUER", "UNGLEICH FEHLT MEHR ES-ENV ES-KID-HEADER"}, // of the statement itself
		{"xml/pair-idpfadi-oneline-pem.xml " + idpfadi, "2023-07-12 12:00", tool.Found, "ES-DAUER", "UNGLEICH FEHLT MEHR ES-ENV ES-KID-HEADER"},
		{"xml/pair-idpfadi-wrong-env.xml " + idpfadi, "2023-07-12 12:00", tool.Found, "ES-ENV", "UNGLEICH FEHLT MEHR"},
		{"xml/pair-idpfadi-many-faults.xml " + idpfadi, "2023-07-12 12:00", tool.Found, "ES-ENV ES-ORG-UNGLEICH ES-NAME-UNGLEICH ES-ISS-UNGLEICH ES-SCOPE-FEHLT ES-SCOPE-MEHR ES-REDIRECT-MEHR ES-KID-FEHLT", ""},
		{"xml/pair-idpfadi-match.xml es/sub-about-rp-2044.jws", "", tool.Found, "ES-ISS-SUB", "UNGLEICH FEHLT MEHR ES-ENV"},
		{"es/fedmaster-ru-2023.jws", "2023-05-10 12:00", tool.Found, "ES-RP-FEHLT", "ES-SIG ES-EXP ES-DAUER"},
		{"es/fedmaster-wrong-typ-jwt.jws", "2022-10-21 12:00", tool.Found, "ES-TYP", "ES-SIG"},
		{"es/idp-sektoral-gsi-2024.jws", "2024-02-03 12:00", tool.Found, "ES-RP-FEHLT", "ES-SIG"},
		{"es/rp-alg-none.jws", "", tool.Found, "ES-JWS ES-ALG none", ""},
		{"es/rp-bad-signature-a.jws", "", tool.Found, "ES-SIG", ""},
		{"es/rp-expired-2023.jws", "", tool.Found, "ES-EXP private_key_jwt", "ES-SIG"},
		{idpfadi, "2023-07-12 12:00", tool.Found, "ES-DAUER contacts default_acr_values", "ES-SIG"},
		{"es/rp-localhost-valid-2043.jws", "", tool.Found, "ES-DAUER ES-ISS-URI signed_jwks_uri", "ES-SIG"},
		{"es/signed-jwks-typ-jwt.jws", "2023-10-13 14:00", tool.Found, "ES-TYP signed_jwks_uri", "ES-HINTS ES-JWKS"},
		{"es/sub-about-rp-2044.jws", "", tool.Found, "ES-ISS-SUB watch", "ES-HINTS ES-KID ES-META ES-RP"},
		{"es/sub-about-rp-tu-2024.jws", "", tool.Found, "ES-ISS-SUB watch", "ES-HINTS ES-KID ES-META ES-RP"},
	} {
		if b.now = at("2026-11-22 12:00"); c.now != "" {
			b.now = at(c.now)
		}
		args := []string{"check", "-offline"}
		for _, f := range strings.Fields(c.files) {
			seen[f] = true
			args = append(args, filepath.Join(dir, filepath.FromSlash(f)))
		}
		out := b.run(c.status, args...)
		for _, w := range strings.Fields(c.has) {
			if !strings.Contains(out, w) {
				t.Errorf("%s: %s is missing in\n%s", c.files, w, out)
			}
		}
		for _, w := range strings.Fields(c.not) {
			if strings.Contains(out, " "+w+" ") || w != "error" && strings.Contains(out, w) {
				t.Errorf("%s: %s stands in\n%s", c.files, w, out)
			}
		}
	}
	for _, pattern := range []string{"xml/*", "es/*"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) == 0 {
			t.Fatal(err, pattern)
		}
		for _, f := range files {
			if name := filepath.ToSlash(strings.TrimPrefix(f, dir+string(filepath.Separator))); !seen[name] {
				t.Errorf("%s was not judged", name)
			}
		}
	}
}

// TestPrivateFile: a private key that is named as the file to judge is recognised, and nothing of it is repeated.
func TestPrivateFile(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	keys, err := filepath.Glob(filepath.Join(b.dir, "keys", "*.key.pem"))
	if err != nil || len(keys) == 0 {
		t.Fatal(err)
	}
	jwk := filepath.Join(b.dir, "key.json")
	if err := os.WriteFile(jwk, []byte(`{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"c2VjcmV0"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{keys[0], jwk} {
		out := b.run(tool.Found, "check", f)
		if !strings.Contains(out, "REG-KEY-PRIVAT") || strings.Contains(out, "c2VjcmV0") || !strings.Contains(out, "1 errors") {
			t.Errorf("%s: %s", f, out)
		}
	}
	if out := b.run(tool.Found, "check", filepath.Join(b.dir, "encryption.pem")); strings.Contains(out, "PRIVAT") { // a public one is only the wrong file
		t.Error(out)
	}
}
