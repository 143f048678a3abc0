package fedcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"ktradv/internal/req"
	"ktradv/server/federation"
	"ktradv/server/internal/tool"
	"ktradv/server/keystore"
	"ktradv/server/tisim/fedmaster"
)

// net is the internet of a test: hosts are handlers, nothing leaves the process.
type network struct {
	mu    sync.Mutex
	hosts map[string]http.Handler
}

func (n *network) Do(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	h := n.hosts[r.URL.Scheme+"://"+r.URL.Host]
	n.mu.Unlock()
	if h == nil {
		return nil, fmt.Errorf("lookup %s: no such host", r.URL.Host)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}

func (n *network) set(host string, h http.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[host] = h
}

// bench is a service and a Federation Master.
type bench struct {
	t       *testing.T
	dir     string
	now     time.Time
	net     *network
	master  *fedmaster.Master
	service *federation.Service
}

const (
	service = "https://adv.kasse.example"
	secret  = "correct horse battery"
)

func ask(bool) ([]byte, error) { return []byte(secret), nil }

// run runs a command; the configuration is the bench's.
func (b *bench) run(status int, args ...string) string {
	b.t.Helper()
	var out, errs bytes.Buffer
	env := Env{tool.Env{Stdout: &out, Stderr: &errs, Now: func() time.Time { return b.now }, Passphrase: ask}, b.net}
	if args[0] != "init" {
		args = append([]string{args[0], "-config", b.config()}, args[1:]...)
	}
	if got := Run(context.Background(), env, args); got != status {
		b.t.Fatalf("%v: status %d, want %d\n%s%s", args, got, status, &out, &errs)
	}
	return out.String() + errs.String()
}

func (b *bench) config() string { return filepath.Join(b.dir, "federation.json") }

// edit changes the configuration.
func (b *bench) edit(old, new string) {
	b.t.Helper()
	text, err := os.ReadFile(b.config())
	if err != nil || !bytes.Contains(text, []byte(old)) {
		b.t.Fatalf("%s is not in the configuration (%v)", old, err)
	}
	if err := os.WriteFile(b.config(), bytes.ReplaceAll(text, []byte(old), []byte(new)), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// publish serves the statement of the present configuration.
func (b *bench) publish() {
	b.t.Helper()
	cfg, err := federation.LoadConfig(b.config())
	if err != nil {
		b.t.Fatal(err)
	}
	b.service = &federation.Service{Config: cfg, Store: &keystore.Files{Dir: cfg.Keys, Passphrase: ask}, Now: func() time.Time { return b.now }, Failed: func(err error) { b.t.Log(err) }}
	b.net.set(service, b.service)
}

// mail sends a form to the office.
func (b *bench) mail(name string) error {
	doc, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return b.master.Mail(name, doc)
}

// made is what init makes, by environment: making keys is slow by intention, and every test begins with them.
var made = struct {
	sync.Mutex
	files map[federation.Environment]map[string]madeFile
}{files: map[federation.Environment]map[string]madeFile{}}

type madeFile struct {
	data []byte
	mode fs.FileMode
}

// initialise makes the folder of a service as init does.
func (b *bench) initialise(env federation.Environment) {
	b.t.Helper()
	made.Lock()
	defer made.Unlock()
	if made.files[env] == nil {
		b.run(tool.Clean, "init", "-dir", b.dir, "-environment", string(env), "-service", service, "-organisation", "Test Kasse", "-name", "AdV Test Kasse",
			"-email", "adv@kasse.example", "-member-id", "FDkasse0001"+string(env), "-group", "ORG-1234:BT-5678", "-vfs", "VFS_KASSE_1",
			"-redirect", service+"/federation/callback", "-scope", "urn:telematik:versicherter")
		files := map[string]madeFile{}
		err := filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			st, err := d.Info()
			if err != nil {
				return err
			}
			data, err := os.ReadFile(path)
			files[strings.TrimPrefix(path, b.dir)] = madeFile{data, st.Mode()}
			return err
		})
		if err != nil {
			b.t.Fatal(err)
		}
		made.files[env] = files
		return
	}
	for name, f := range made.files[env] {
		path := filepath.Join(b.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, f.data, f.mode), os.Chmod(path, f.mode)); err != nil {
			b.t.Fatal(err)
		}
	}
}

// newBench makes a service that is published and not yet registered.
func newBench(t *testing.T, env federation.Environment) *bench {
	b := &bench{t: t, dir: t.TempDir(), now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), net: &network{hosts: map[string]http.Handler{}}}
	var err error
	if b.master, err = fedmaster.New(string(env), env.Master(), b.net, func() time.Time { return b.now }); err != nil {
		t.Fatal(err)
	}
	b.net.set(env.Master(), b.master)
	b.initialise(env)
	if err := os.WriteFile(filepath.Join(b.dir, "federation-master.jwks"), b.master.PublicKeys(), 0o600); err != nil {
		t.Fatal(err)
	}
	b.publish()
	return b
}

// register brings the service to a registration in force.
func (b *bench) register() {
	b.t.Helper()
	b.run(tool.Clean, "register", "-out", b.dir)
	b.send()
}

// send mails the form and notes it.
func (b *bench) send() {
	b.t.Helper()
	if err := b.mail("FDkasse0001TU.xml"); err != nil {
		b.t.Fatal(err)
	}
	b.run(tool.Clean, "sent")
}

func TestRegistration(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-01", "FED-02", "FED-04", "FED-05", "FED-06", "FED-08", "FED-10", "FED-11", "FED-16", "FED-25", "FED-27", "FED-28", "FED-29")
	b := newBench(t, federation.TU)
	b.register()
	xml := filepath.Join(b.dir, "FDkasse0001TU.xml")
	if out := b.run(tool.Clean, "check", xml); !strings.Contains(out, "0 errors") {
		t.Error(out)
	}
	out := b.run(tool.Clean, "watch", "-metrics", filepath.Join(b.dir, "adv.prom"))
	if !strings.Contains(out, "keys known to the Federation Master") || !strings.Contains(out, "0 errors, 0 warnings") {
		t.Error(out)
	}
	prom, err := os.ReadFile(filepath.Join(b.dir, "adv.prom"))
	if err != nil || !bytes.Contains(prom, []byte("adv_federation_errors 0")) || !bytes.Contains(prom, []byte("adv_federation_reached 1")) {
		t.Errorf("%s %v", prom, err)
	}
	// A second registration and a change without a registration are refused.
	b.run(tool.Unknown, "register", "-out", b.dir)

	// A change is announced before the statement shows it. While nothing differs there is none to write.
	form, err := os.ReadFile(xml)
	if err != nil {
		t.Fatal(err)
	}
	if out = b.run(tool.Unknown, "change", "-out", b.dir, "-force"); !strings.Contains(out, "nothing differs") || !strings.Contains(out, "--statement") {
		t.Error(out)
	}
	if same, err := os.ReadFile(xml); err != nil || !bytes.Equal(form, same) {
		t.Error("an empty change was written")
	}
	b.edit("/federation/callback", "/federation/elsewhere")
	if out = b.run(tool.Found, "change", "-out", b.dir, "-force"); !strings.Contains(out, "ES-KONFIGURATION") || !strings.Contains(out, "change --statement") {
		t.Error(out) // the live statement is not what is to be announced, and the way is said
	}
	next := filepath.Join(b.dir, "next.jws")
	b.run(tool.Clean, "entity-statement", "-out", next)
	if out = b.run(tool.Unknown, "change", "-out", b.dir, "-statement", next); !strings.Contains(out, "--force") {
		t.Error(out) // the file exists
	}
	out = b.run(tool.Clean, "change", "-out", b.dir, "-force", "-statement", next)
	if !strings.Contains(out, `without "https://adv.kasse.example/federation/callback"`) || !strings.Contains(out, "the former one is") || !strings.Contains(out, "publish the new statement when") {
		t.Error(out)
	}
	// Written, not sent: nothing has changed, and the watch says that something lies there.
	if out = b.run(tool.Clean, "watch"); !strings.Contains(out, "REG-UNGESENDET") {
		t.Error(out)
	}
	b.run(tool.Clean, "sent")
	// Sent, but not yet in force: the watch sees what the Master still publishes.
	if out = b.run(tool.Found, "watch"); !strings.Contains(out, "FM-REDIRECT") || strings.Contains(out, "REG-UNGESENDET") {
		t.Error(out)
	}
	if err := b.mail("FDkasse0001TU.xml"); err != nil {
		t.Fatal(err)
	}
	b.publish()
	b.run(tool.Clean, "watch")

	// Drift: the service publishes what nobody registered.
	b.edit("/federation/elsewhere", "/federation/drift")
	b.publish()
	out = b.run(tool.Found, "watch")
	for _, want := range []string{"ES-REDIRECT-MEHR", "ES-REDIRECT-FEHLT", "to do:"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is missing in\n%s", want, out)
		}
	}
	b.run(tool.Clean, "change", "-out", b.dir, "-force") // it is published already: the live statement does
	b.send()
	b.run(tool.Clean, "watch")

	// The end. A deregistration that nobody sent takes nothing out.
	b.run(tool.Clean, "deregister", "-out", b.dir, "-force")
	if out = b.run(tool.Clean, "watch"); !strings.Contains(out, "REG-UNGESENDET") {
		t.Error(out)
	}
	b.send()
	b.run(tool.Unknown, "watch") // nothing registered any more
	b.run(tool.Clean, "register", "-out", b.dir, "-force")
}

// TestXMLLint judges the form with somebody else's parser.
func TestXMLLint(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("xmllint"); err != nil {
		t.Skip("xmllint (Debian package libxml2-utils, tests/setup.sh base) is not installed")
	}
	b := newBench(t, federation.TU)
	b.run(tool.Clean, "register", "-out", b.dir)
	xml := filepath.Join(b.dir, "FDkasse0001TU.xml")
	if out, err := exec.Command("xmllint", "--noout", xml).CombinedOutput(); err != nil {
		t.Errorf("xmllint: %v %s", err, out)
	}
	// The order and number of elements as it reads them, and the key on one line.
	for path, want := range map[string]string{
		"count(/registrierungtifoederation/*)":    "13",
		"name(/registrierungtifoederation/*[13])": "publickeysjwt",
		"count(//@*)":                                  "0",
		"contains(//publickey/key, '\n')":              "false",
		"string(/registrierungtifoederation/memberid)": "FDkasse0001TU",
	} {
		out, err := exec.Command("xmllint", "--xpath", path, xml).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%s: %s, not %s (%v)", path, out, want, err)
		}
	}
	// The twin: what is not well-formed it refuses.
	doc, err := os.ReadFile(xml)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(xml, bytes.Replace(doc, []byte("</memberid>"), nil, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("xmllint", "--noout", xml).Run(); err == nil {
		t.Error("xmllint takes a broken form")
	}
}

// TestSent: what counts as registered is what was noted as sent, and nothing of it gets lost.
func TestSent(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	form := filepath.Join(b.dir, "FDkasse0001TU.xml")
	b.run(tool.Unknown, "sent") // nothing was written
	b.run(tool.Unknown, "sent", "-discard")
	b.run(tool.Clean, "register", "-out", b.dir)
	if out := b.run(tool.Unknown, "watch"); !strings.Contains(out, "not noted as sent") {
		t.Error(out)
	}
	b.run(tool.Unknown, "change", "-out", b.dir) // nothing is registered
	if out := b.run(tool.Unknown, "register", "-out", b.dir, "-force", "-statement", form); !strings.Contains(out, "is a form, not an Entity Statement") {
		t.Error(out)
	}
	if out := b.run(tool.Unknown, "entity-statement", "-out", filepath.Join(b.dir, "next.jws"), "-serve", "127.0.0.1:0"); !strings.Contains(out, "name one of the two") {
		t.Error(out)
	}
	// A slip is mended and the form written again.
	b.edit("adv@kasse.example", "adv2@kasse.example")
	if out := b.run(tool.Unknown, "register", "-out", b.dir); !strings.Contains(out, "--force") {
		t.Error(out)
	}
	b.run(tool.Clean, "register", "-out", b.dir, "-force")
	doc, err := os.ReadFile(form)
	if err != nil || !bytes.Contains(doc, []byte("adv2@kasse.example")) {
		t.Errorf("%s %v", doc, err)
	}
	// By hand once more, and that is sent: under the name that the office wants.
	byHand := filepath.Join(b.dir, "corrected", "FDkasse0001TU.xml")
	if err := os.Mkdir(filepath.Dir(byHand), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(byHand, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Replace(string(doc), "adv2@", "adv3@", 1))
	misnamed := filepath.Join(b.dir, "by-hand.xml")
	if err := os.Link(byHand, misnamed); err != nil {
		t.Fatal(err)
	}
	b.run(tool.Clean, "check", "-offline", misnamed)
	if out := b.run(tool.Found, "sent", misnamed); !strings.Contains(out, "error REG-MEMBER-DATEI") || !strings.Contains(out, "nothing was noted") {
		t.Error(out)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "records", "registered-TU.xml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what went out under another name is noted: %v", err)
	}
	if out := b.run(tool.Clean, "sent", byHand); !strings.Contains(out, "0 warnings") {
		t.Error(out)
	}
	for name, want := range map[string]string{"registered-TU.xml": "adv3@", "discarded-TU.xml": "adv2@", "written-TU.xml": ""} {
		b, err := os.ReadFile(filepath.Join(b.dir, "records", name))
		if !bytes.Contains(b, []byte(want)) || (err != nil) != (want == "") {
			t.Errorf("%s: %s %v", name, b, err)
		}
	}
	b.run(tool.Unknown, "register", "-out", b.dir, "-force") // use change
	b.run(tool.Unknown, "sent")
	// What the office would refuse, or what is about another service, is not noted.
	for _, c := range []struct {
		old, new string
		status   int
		want     string
	}{
		{"<betriebsumgebung>TU", "<betriebsumgebung>RU", tool.Unknown, "in RU"},
		{"<fachdiensturi>https://adv.", "<fachdiensturi>https://other.", tool.Unknown, "https://other.kasse.example"},
		{"<scope>openid</scope>", "", tool.Found, "REG-SCOPE-OPENID"},
		{"FDkasse0001TU", "FDkasse0002TU", tool.Found, "REG-MEMBER-ANDERS"},
		{"<registrierungtifoederation>", "<!DOCTYPE x><registrierungtifoederation>", tool.Found, "REG-XML"},
	} {
		write(strings.Replace(string(doc), c.old, c.new, 1))
		if out := b.run(c.status, "sent", byHand); !strings.Contains(out, c.want) {
			t.Errorf("%s: %s is missing in\n%s", c.new, c.want, out)
		}
	}
	b.run(tool.Unknown, "sent", filepath.Join(b.dir, "nothing.xml"))
	// A change that is taken back.
	b.edit("adv2@kasse.example", "adv4@kasse.example")
	b.run(tool.Clean, "change", "-out", b.dir, "-force")
	b.run(tool.Unknown, "sent", "-discard", byHand)
	b.run(tool.Clean, "sent", "-discard")
	if kept, _ := filepath.Glob(filepath.Join(b.dir, "records", "discarded-TU.xml*")); len(kept) != 2 {
		t.Errorf("kept: %v", kept)
	}
	if doc, err := os.ReadFile(filepath.Join(b.dir, "records", "registered-TU.xml")); err != nil || !bytes.Contains(doc, []byte("adv3@")) {
		t.Errorf("%s %v", doc, err)
	}
}

// TestRotation: a new key is published, deposited and known for a day before it signs (A_23185-01, A_24607).
func TestRotation(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	b.register()
	b.run(tool.Clean, "watch")
	signer := func() string {
		token, _, err := b.service.Statement()
		if err != nil {
			t.Fatal(err)
		}
		s, _ := federation.ParseStatement([]byte(token), "")
		return s.KID
	}
	first := signer()
	b.now = b.now.Add(federation.MaxKeyAge - federation.RotateBefore)
	if signer() != first {
		t.Fatal("the successor signs before anybody knows it")
	}
	if out := b.run(tool.Clean, "keys"); strings.Count(out, "\n") != 2 || !strings.Contains(out, "not yet known") {
		t.Fatalf("no successor 30 days ahead:\n%s", out)
	}
	if out := b.run(tool.Clean, "watch"); !strings.Contains(out, "ES-KID-MEHR") {
		t.Fatalf("the watch does not ask for a change:\n%s", out)
	}
	// The change can be written of the next statement as well as of the live one.
	b.run(tool.Clean, "entity-statement", "-out", filepath.Join(b.dir, "next.jws"))
	if out := b.run(tool.Clean, "change", "-out", b.dir, "-force", "-statement", filepath.Join(b.dir, "next.jws")); !strings.Contains(out, "publickeysjwt: with") {
		t.Error(out)
	}
	b.run(tool.Clean, "change", "-out", b.dir, "-force")
	b.send()
	b.run(tool.Clean, "watch")
	b.now = b.now.Add(federation.KeyNotice - time.Minute)
	if signer() != first {
		t.Fatal("the successor signs before 24 hours are over")
	}
	b.now = b.now.Add(13 * time.Hour) // and the present statement is half through
	if signer() == first {
		t.Fatal("the successor does not sign after 24 hours")
	}
	if out := b.run(tool.Clean, "watch"); !strings.Contains(out, "0 errors") {
		t.Error(out)
	}
}

// TestSignerUnknown is the twin: a key that signs without being registered makes every login fail, and the watch says so.
func TestSignerUnknown(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	b.register()
	for _, f := range []string{"keys", "tls-client.pem", "encryption.pem", "federation.json"} {
		if err := os.RemoveAll(filepath.Join(b.dir, f)); err != nil {
			t.Fatal(err)
		}
	}
	b.run(tool.Clean, "init", "-dir", b.dir, "-environment", "TU", "-service", service, "-organisation", "Test Kasse", "-name", "AdV Test Kasse",
		"-email", "adv@kasse.example", "-member-id", "FDkasse0001TU", "-group", "ORG-1234:BT-5678", "-vfs", "VFS_KASSE_1",
		"-redirect", service+"/federation/callback", "-scope", "urn:telematik:versicherter")
	b.publish()
	if out := b.run(tool.Found, "watch"); !strings.Contains(out, "every login fails") {
		t.Error(out)
	}
}

func TestMasterFaults(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	b.register()
	for fault, want := range map[fedmaster.Fault]struct {
		status int
		text   string
	}{
		fedmaster.Down: {tool.Unknown, "ES-HTTP"}, fedmaster.Page: {tool.Unknown, "HTML"}, fedmaster.BadSignature: {tool.Unknown, "FM-AUSSAGE"},
		fedmaster.OtherKey: {tool.Unknown, "puk_unknown"}, fedmaster.Expired: {tool.Unknown, "expired"}, fedmaster.OtherSubject: {tool.Unknown, "speaks about"},
		fedmaster.ForeignURLs: {tool.Unknown, "not an https address of the Federation Master itself"}, fedmaster.NotListed: {tool.Found, "FM-LISTE"},
		fedmaster.OldKeys: {tool.Found, "FM-KEY"}, fedmaster.ForeignKey: {tool.Found, `"somebody-else" is published for the service, and you neither registered nor made it`},
		fedmaster.OtherAudience: {tool.Unknown, "it is for https://somebody-else.example"}, fedmaster.LongRefusal: {tool.Clean, "0 errors"}, fedmaster.OtherRefusal: {tool.Unknown, "FM-ABLEHNUNG"},
	} {
		b.master.SetFault(fault)
		if out := b.run(want.status, "watch"); !strings.Contains(out, want.text) || strings.Contains(out, "FM-UNBEKANNT") {
			t.Errorf("fault %d: %q is missing in, or the service is called unknown in\n%s", fault, want.text, out)
		}
		b.master.SetFault(fedmaster.None)
		b.run(tool.Clean, "watch")
	}
	b = newBench(t, federation.TU)
	b.run(tool.Clean, "register", "-out", b.dir)
	b.run(tool.Clean, "sent") // and lost on its way
	for _, fault := range []fedmaster.Fault{fedmaster.None, fedmaster.LongRefusal} {
		b.master.SetFault(fault)
		if out := b.run(tool.Unknown, "watch"); !strings.Contains(out, "FM-UNBEKANNT") {
			t.Errorf("%v: %s", fault, out)
		}
	}
}

// TestTUBeforePU is FED-07 and FED-09.
func TestTUBeforePU(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-07", "FED-09")
	b := newBench(t, federation.PU)
	if out := b.run(tool.Unknown, "register", "-out", b.dir); !strings.Contains(out, "TU first") {
		t.Error(out)
	}
	b.run(tool.Clean, "register", "-out", b.dir, "-tu-registered")
	if err := b.mail("FDkasse0001PU.xml"); err != nil {
		t.Error(err)
	}
	b.edit("VFS_KASSE_1", "KASSE_1")
	if out := b.run(tool.Unknown, "entity-statement"); !strings.Contains(out, "vfsbestaetigung") {
		t.Error(out)
	}
}

// TestLiveService: what is wrong with the way a statement is served, each with its own word.
func TestLiveService(t *testing.T) {
	t.Parallel()
	req.Covers(t, "FED-16")
	b := newBench(t, federation.TU)
	token, _, err := b.service.Statement()
	if err != nil {
		t.Fatal(err)
	}
	reply := func(status int, kind, location, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			if location != "" {
				w.Header().Set("Location", location)
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		})
	}
	for name, c := range map[string]struct {
		h      http.Handler
		status int
		text   string
	}{
		"right":     {b.service, tool.Clean, "0 errors"},
		"not found": {http.NotFoundHandler(), tool.Found, "ES-HTTP"},
		"login":     {reply(302, "text/html", "https://login.example", ""), tool.Found, "redirected"},
		"bot page":  {reply(200, "text/html", "", "<html>Are you human?"), tool.Found, "HTML"},
		"type":      {reply(200, "application/jwt", "", token), tool.Found, "ES-CTYPE"},
		"endless":   {reply(200, federation.ContentType, "", strings.Repeat("a", federation.MaxStatement+1)), tool.Found, "longer than"},
	} {
		b.net.set(service, c.h)
		if out := b.run(c.status, "check", service); !strings.Contains(out, c.text) {
			t.Errorf("%s: %q is missing in\n%s", name, c.text, out)
		}
	}
	if out := b.run(tool.Unknown, "check", "https://nobody.example"); !strings.Contains(out, "ES-NETZ") {
		t.Error(out)
	}
	if out := b.run(tool.Unknown, "check", filepath.Join(b.dir, "nothing.xml")); !strings.Contains(out, "ES-DATEI") {
		t.Error(out)
	}
}

// TestSecondLibrary checks the statement with another JOSE library, and shows that it would see damage.
func TestSecondLibrary(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	token := strings.TrimSpace(b.run(tool.Clean, "entity-statement"))
	msg, err := jws.ParseString(token)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		ISS  string
		IAT  int64
		EXP  int64
		JWKS json.RawMessage
	}
	if err := json.Unmarshal(msg.Payload(), &claims); err != nil {
		t.Fatal(err)
	}
	set, err := jwk.Parse(claims.JWKS)
	if err != nil {
		t.Fatal(err)
	}
	kid, _ := msg.Signatures()[0].ProtectedHeaders().KeyID()
	key, ok := set.LookupKeyID(kid)
	if !ok {
		t.Fatalf("key %q is not published", kid)
	}
	if _, err := jws.Verify([]byte(token), jws.WithKey(jwa.ES256(), key)); err != nil {
		t.Errorf("the other library refuses the signature: %v", err)
	}
	if claims.ISS != service || claims.EXP-claims.IAT != 86400 {
		t.Errorf("%+v", claims)
	}
	damaged := []byte(token)
	damaged[len(damaged)-10] ^= 1
	if _, err := jws.Verify(damaged, jws.WithKey(jwa.ES256(), key)); err == nil {
		t.Error("the other library accepts a damaged signature")
	}
}

// TestNothingOverwritten: what exists stays, with the reason.
func TestNothingOverwritten(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	before, err := os.ReadFile(b.config())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	env := Env{tool.Env{Stdout: &out, Stderr: &out, Now: func() time.Time { return b.now }, Passphrase: ask}, b.net}
	if got := Run(context.Background(), env, []string{"init", "-dir", b.dir, "-environment", "TU", "-service", service, "-organisation", "Other", "-name", "Other",
		"-email", "adv@kasse.example", "-group", "ORG-1234:BT-5678", "-redirect", service + "/cb"}); got != tool.Unknown || !strings.Contains(out.String(), "exists already") {
		t.Errorf("%d %s", got, &out)
	}
	if after, _ := os.ReadFile(b.config()); !bytes.Equal(before, after) {
		t.Error("the configuration was replaced")
	}
	file := filepath.Join(b.dir, "es.jws")
	b.run(tool.Clean, "entity-statement", "-out", file)
	b.run(tool.Unknown, "entity-statement", "-out", file)
	b.run(tool.Clean, "entity-statement", "-out", file, "-force")
	if kept, _ := filepath.Glob(file + ".*.bak"); len(kept) != 1 {
		t.Errorf("kept: %v", kept)
	}
}

// TestSecretsStay: no command prints any of a private key or the passphrase.
func TestSecretsStay(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	all := b.run(tool.Clean, "entity-statement") + b.run(tool.Clean, "register", "-out", b.dir) + b.run(tool.Clean, "keys") + b.run(tool.Clean, "keys", "new")
	form, _ := os.ReadFile(filepath.Join(b.dir, "FDkasse0001TU.xml"))
	all += string(form)
	if strings.Contains(all, "PRIVATE") || strings.Contains(all, secret) || strings.Contains(all, `"d":`) {
		t.Error("something secret was printed")
	}
	files, _ := filepath.Glob(filepath.Join(b.dir, "keys", "*"))
	if len(files) != 8 { // two signing keys, two others, two lists and their locks
		t.Errorf("%v", files)
	}
	for _, f := range files {
		if st, _ := os.Stat(f); st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f, st.Mode())
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	env := Env{Env: tool.Env{Stdout: &out, Stderr: &out, Now: time.Now}}
	for args, want := range map[string]int{"": tool.Unknown, "help": tool.Clean, "nonsense": tool.Unknown, "check": tool.Unknown, "check -h": tool.Clean, "check -nonsense x": tool.Unknown} {
		if got := Run(context.Background(), env, strings.Fields(args)); got != want {
			t.Errorf("%q: %d, want %d", args, got, want)
		}
	}
	for _, c := range commands {
		if !strings.Contains(usage, "\n  "+c.name) {
			t.Errorf("%s is not explained", c.name)
		}
	}
}

// TestServe: the command serves the statement over HTTP and stops when it is told to.
func TestServe(t *testing.T) {
	t.Parallel()
	b := newBench(t, federation.TU)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	done := make(chan int, 1)
	go func() {
		defer pw.Close()
		done <- Run(ctx, Env{tool.Env{Stdout: pw, Stderr: os.Stderr, Now: func() time.Time { return b.now }, Passphrase: ask}, b.net}, []string{"entity-statement", "-config", b.config(), "-serve", "127.0.0.1:0"})
	}()
	buf := make([]byte, 256)
	n, err := pr.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(buf[:n]))
	resp, err := http.Get("http://" + fields[len(fields)-1] + federation.WellKnown)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != federation.ContentType {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	stop()
	if got := <-done; got != tool.Clean {
		t.Errorf("status %d", got)
	}
}
