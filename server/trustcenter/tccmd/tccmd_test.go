package tccmd

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ktradv/internal/req"
	"ktradv/server/internal/tool"
	"ktradv/server/tisim/trustcenter"
	product "ktradv/server/trustcenter"
)

// desk is the applicant's folder.
type desk struct {
	t   *testing.T
	dir string
	now time.Time
}

const secret = "correct horse battery"

func (d *desk) path(name string) string { return filepath.Join(d.dir, name) }

// run runs a command.
func (d *desk) run(status int, args ...string) string {
	d.t.Helper()
	var out bytes.Buffer
	env := tool.Env{Stdout: &out, Stderr: &out, Now: func() time.Time { return d.now }, Passphrase: func(bool) ([]byte, error) { return []byte(secret), nil }}
	args = append([]string{args[0], "-config", d.path("trustcenter.json")}, args[1:]...)
	if got := Run(context.Background(), env, args); got != status {
		d.t.Fatalf("%v: status %d, want %d\n%s", args, got, status, &out)
	}
	if strings.Contains(out.String(), secret) || strings.Contains(out.String(), "PRIVATE KEY") {
		d.t.Errorf("%v prints something secret", args)
	}
	return out.String()
}

func (d *desk) read(name string) []byte {
	d.t.Helper()
	b, err := os.ReadFile(d.path(name))
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

func has(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing in\n%s", w, text)
		}
	}
}

// need skips without the tools of the simulated TrustCenter.
func need(t *testing.T, tools ...string) {
	for _, n := range tools {
		if _, err := exec.LookPath(n); err != nil {
			t.Skipf("%s is not installed", n)
		}
	}
}

// otherPage is the page of another request of the same applicant.
func otherPage(t *testing.T, now time.Time) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	s := product.Sheet{IK: "590326822", Organisation: "Mueller und Soehne Software GmbH", GivenName: "Zoe", Surname: "Gross", TrustCenter: product.DKTIG}
	p10, err := product.CreateRequest(s, key)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := product.WritePDF(&b, product.PDF{Sheet: s, Request: p10, FileName: "59032682.p10", Made: now}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestWholeWay goes from an empty folder to an imported certificate, with a TrustCenter made of openssl.
func TestWholeWay(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "pdftotext")
	req.Covers(t, "DKTIG-06", "DKTIG-07", "DKTIG-12", "DKTIG-13", "DKTIG-14", "DKTIG-15", "DKTIG-16", "DKTIG-17", "DKTIG-18", "DKTIG-23", "DKTIG-25", "DKTIG-27", "DKTIG-29", "DKTIG-32")
	d := &desk{t, t.TempDir(), time.Now()}
	center, err := trustcenter.New(t.TempDir(), func() time.Time { return d.now })
	if err != nil {
		t.Fatal(err)
	}
	sheet := []string{"init", "-ik", "IK 59 03 2682 2", "-organisation", "Müller & Söhne Software GmbH", "-given-name", "Zoë", "-surname", "Groß", "-email", "zoe.gross@software.example", "-contract-until", "open"}
	has(t, d.run(tool.Found, sheet...), "Mueller und Soehne Software GmbH", "Gross", "nothing was written")
	if _, err := os.Stat(d.path("trustcenter.json")); err == nil {
		t.Fatal("a data sheet with errors was written")
	}
	d.run(tool.Clean, append(sheet, "-transliterate")...)
	d.run(tool.Clean, "done", "1")
	d.run(tool.Clean, "done", "2")
	has(t, d.run(tool.Clean, "status"), ">  3", "a new code every 30 seconds", "a code for 60 seconds")
	for _, step := range []string{"3", "4", "5"} {
		d.run(tool.Clean, "done", step)
	}
	has(t, d.run(tool.Clean, "status"), ">  6", "turn: you")
	d.run(tool.Clean, "check")
	d.run(tool.Unknown, "fingerprint") // there is no request yet
	d.run(tool.Clean, "request")
	d.run(tool.Clean, "check", d.path("59032682.p10"))
	if out, err := exec.Command("openssl", "req", "-inform", "DER", "-in", d.path("59032682.p10"), "-verify", "-noout").CombinedOutput(); err != nil {
		t.Errorf("openssl req -verify: %s", out)
	}
	has(t, d.run(tool.Clean, "status"), "x  6", ">  7", "the file was written on") // and it was not sent yet
	before := d.read("59032682.p10")
	has(t, d.run(tool.Unknown, "request"), "--force")
	if !bytes.Equal(before, d.read("59032682.p10")) {
		t.Fatal("the request was replaced")
	}

	// By mail, and the certificate is not there yet.
	d.run(tool.Clean, "mail", "certificate")
	if _, _, err := center.Receive(d.read("certificate.eml")); err == nil {
		t.Error("the responder sent a certificate that does not exist")
	}
	d.run(tool.Clean, "mail", "request")
	if _, _, err := center.Receive(d.read("request.eml")); err != nil {
		t.Fatal(err)
	}
	d.run(tool.Clean, "done", "7")
	printed := d.run(tool.Clean, "fingerprint")
	has(t, d.run(tool.Clean, "status"), "x  7", ">  8", "turn: you", "the file was written on") // signing and uploading is ours, too
	var hash string
	for line := range strings.SplitSeq(printed, "\n") {
		if h, ok := strings.CutPrefix(line, "public key  "); ok {
			hash = h
		}
	}
	has(t, d.run(tool.Clean, "fingerprint", "-compare", strings.ToUpper(hash[:4]+" "+hash[4:8]+":"+hash[8:])), "public key")
	d.run(tool.Found, "fingerprint", "-compare", strings.Repeat("0", 64))
	page := d.read("59032682-fingerprint.pdf")
	if err := center.Apply("590326822", page, "000000"); err == nil {
		t.Error("the portal took a wrong code")
	}
	if err := center.Apply("590326822", page, center.TOTP(d.now.Add(-30*time.Second))); err == nil {
		t.Error("the portal took the code of 30 seconds ago")
	}
	sms := center.SMS()
	d.now = d.now.Add(61 * time.Second)
	if err := center.Apply("590326822", page, sms); err == nil {
		t.Error("the portal took an SMS code after 61 seconds")
	}
	if err := center.Apply("590326822", otherPage(t, d.now), center.TOTP(d.now)); err == nil || !strings.Contains(err.Error(), "fingerprint") {
		t.Errorf("the portal took the page of another request: %v", err)
	}
	sms = center.SMS()
	d.now = d.now.Add(59 * time.Second)
	if err := center.Apply("590326822", page, sms); err != nil {
		t.Fatal(err)
	}
	_, p7c, err := center.Receive(d.read("certificate.eml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.path("59032682.p7c"), p7c, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("openssl", "pkcs7", "-in", d.path("59032682.p7c"), "-print_certs", "-noout").CombinedOutput(); err != nil || bytes.Count(out, []byte("subject=")) != 2 {
		t.Errorf("openssl pkcs7: %s %v", out, err)
	}
	d.run(tool.Clean, "done", "8")
	has(t, d.run(tool.Clean, "status"), ">  9", "turn: the other side")
	has(t, d.run(tool.Clean, "import", d.path("59032682.p7c")), "P7C-SPERRLISTE", "valid until")
	d.run(tool.Unknown, "import", d.path("59032682.p7c")) // it is there
	crl := func() {
		b, err := center.CRL()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d.path("list.crl"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	crl()
	if out := d.run(tool.Clean, "import", "-force", "-crl", d.path("list.crl"), d.path("59032682.p7c")); strings.Contains(out, "P7C-SPERRLISTE") {
		t.Error(out)
	}
	if err := center.Revoke("59032682"); err != nil {
		t.Fatal(err)
	}
	crl()
	has(t, d.run(tool.Found, "import", "-force", "-crl", d.path("list.crl"), d.path("59032682.p7c")), "P7C-GESPERRT", "nothing was taken over")

	// The keys of the receiving offices.
	d.run(tool.Clean, "mail", "directory")
	name, list, err := center.Receive(d.read("directory.eml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.path(name), list, 0o600); err != nil {
		t.Fatal(err)
	}
	has(t, d.run(tool.Clean, "directory", "-ik", "590326822", d.path(name)), "590326822", "Mueller und Soehne")
	has(t, d.run(tool.Clean, "directory", d.path(name)), "2 certificates", "TrustCenter")
	d.run(tool.Unknown, "directory", "-ik", "109905003", d.path(name))

	out := d.run(tool.Clean, "status", "-metrics", d.path("tc.prom"))
	has(t, out, "x 10", "x 11", "certificate valid until", "revoked at once")
	has(t, string(d.read("tc.prom")), "adv_trustcenter_certificate_expiry_timestamp_seconds", "adv_trustcenter_next_step 0")
	for days, want := range map[int]string{100: "", 80: "within 90 days", 20: "within 30 days", 5: "within 7 days"} {
		d.now = time.Now().AddDate(0, 0, 1095-days)
		out := d.run(tool.Clean, "status")
		if want != "" {
			has(t, out, want, "level=WARN")
		} else if strings.Contains(out, "TC-ENDE") {
			t.Errorf("%d days before the end: %s", days, out)
		}
	}
	d.now = time.Now().AddDate(0, 0, 1096)
	has(t, d.run(tool.Found, "status"), "expired")

	// A new key does not fit the old answer; the old key is kept.
	d.now = time.Now()
	has(t, d.run(tool.Clean, "request", "-force"), "59032682-fingerprint.pdf was about the former request", "request.eml was", "certificate.eml was")
	for name, kept := range map[string]int{"59032682-fingerprint.pdf": 1, "request.eml": 1, "certificate.eml": 1, "directory.eml": 0} {
		if backups, _ := filepath.Glob(d.path(name + ".*.bak")); len(backups) != kept {
			t.Errorf("%s: kept as %v", name, backups)
		}
		if _, err := os.Stat(d.path(name)); (err == nil) != (kept == 0) {
			t.Errorf("%s: %v", name, err)
		}
	}
	has(t, d.run(tool.Clean, "status"), "x  6", ">  7", "   8  Application", "  10  Certificate", "  11  Publication", "TC-NACHFOLGER", "certificate valid until") // the way begins again, the present one still counts
	has(t, d.run(tool.Found, "import", "-force", d.path("59032682.p7c")), "P7C-KEY")
	kept, _ := filepath.Glob(d.path("keys/*.bak"))
	if len(kept) != 1 {
		t.Errorf("kept keys: %v", kept)
	}
	for _, n := range append(kept, d.path("keys/trustcenter-590326822.key.pem")) {
		b, err := os.ReadFile(n)
		st, _ := os.Stat(n)
		if block, _ := pem.Decode(b); err != nil || block.Type != "ENCRYPTED PRIVATE KEY" || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", n, err, st.Mode())
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	env := tool.Env{Stdout: &out, Stderr: &out, Now: time.Now}
	for args, want := range map[string]int{"": tool.Unknown, "help": tool.Clean, "nonsense": tool.Unknown, "mail": tool.Unknown, "mail -h": tool.Clean, "check -config nothing.json": tool.Unknown} {
		if got := Run(context.Background(), env, strings.Fields(args)); got != want {
			t.Errorf("%q: %d, want %d", args, got, want)
		}
	}
	for _, c := range commands {
		if !strings.Contains(usage, "\n  "+c.Name) {
			t.Errorf("%s is not explained", c.Name)
		}
	}
}

// TestDesk: what goes wrong at the desk, and what programs read.
func TestDesk(t *testing.T) {
	t.Parallel()
	d := &desk{t, t.TempDir(), time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	keys := filepath.Join(t.TempDir(), "keys")
	sheet := []string{"init", "-json", "-ik", "590326822", "-organisation", "Muster GmbH", "-given-name", "Erika", "-surname", "Muster", "-email", "info@software.example"}
	alone := func(status int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		env := tool.Env{Stdout: &out, Stderr: io.Discard, Now: func() time.Time { return d.now }}
		if got := Run(context.Background(), env, append([]string{args[0], "-config", d.path("trustcenter.json")}, args[1:]...)); got != status {
			t.Fatalf("%v: status %d\n%s", args, got, &out)
		}
		return out.String()
	}
	if out := alone(tool.Clean, sheet...); !json.Valid([]byte(out)) {
		t.Errorf("no JSON: %s", out)
	}
	has(t, d.run(tool.Unknown, sheet...), "--force")
	d.run(tool.Clean, append(sheet, "-force", "-contract-until", "open", "-email", "erika.muster@software.example")...)
	has(t, alone(tool.Clean, "status", "-json"), `"findings": []`, `"next": 1`)
	d.run(tool.Clean, append(sheet, "-force")...)

	// The note changes nothing but the note.
	text := bytes.Replace(d.read("trustcenter.json"), []byte(`"keys": "keys"`), []byte(`"keys": "`+keys+`"`), 1)
	if err := os.WriteFile(d.path("trustcenter.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	d.run(tool.Clean, "done", "-on", "2026-11-20", "5")
	has(t, string(d.read("trustcenter.json")), `"keys": "`+keys+`"`, `"folder": "."`, `"5": "2026-11-20"`)
	has(t, d.run(tool.Clean, "status"), "2026-11-20", "TC-MAIL-SAMMEL")
	d.run(tool.Clean, "done", "-undo", "5")
	if bytes.Contains(d.read("trustcenter.json"), []byte("2026-11-20")) {
		t.Error("the note is still there")
	}
	for _, args := range [][]string{{"12"}, {"0"}, {"five"}, {"-on", "yesterday", "5"}, {"-on", "", "5"}} {
		d.run(tool.Unknown, append([]string{"done"}, args...)...)
	}

	// Damaged files are named, and the steps are shown all the same.
	for name, want := range map[string]string{"59032682.p10": "P10-FORM", "59032682.pem": "TC-ZERTIFIKAT"} {
		for _, content := range []string{"", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
			if err := os.WriteFile(d.path(name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			out := d.run(tool.Found, "status")
			has(t, out, want, " 11  Publication", "to do:", "  10  Certificate")
			if !json.Valid([]byte(alone(tool.Found, "status", "-json"))) {
				t.Error("status writes no JSON")
			}
		}
		if err := os.Remove(d.path(name)); err != nil {
			t.Fatal(err)
		}
	}

	// A directory that somebody wrote for our terminal.
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(255), Subject: pkix.Name{CommonName: "\x1b[2J", OrganizationalUnit: []string{"IK109905003", "\x1b]0;owned\x07"}}, NotBefore: d.now, NotAfter: d.now.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.path("evil.key"), []byte(base64.StdEncoding.EncodeToString(der)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := d.run(tool.Found, "directory", d.path("evil.key")); strings.ContainsAny(out, "\x1b\x07") || !strings.Contains(out, "109905003") {
		t.Errorf("%q", out)
	}
	has(t, alone(tool.Found, "directory", "-json", d.path("evil.key")), `"ik": "109905003"`, `"serial": "ff"`, "VZ-KETTE", `"verified": false`, `"usable": false`)
	has(t, d.run(tool.Found, "directory", "-ik", "109905003", "-out", d.path("one.pem"), d.path("evil.key")), "nothing was written", "VZ-UNBRAUCHBAR")
	if _, err := os.Stat(d.path("one.pem")); err == nil {
		t.Error("a certificate that nobody vouches for was written")
	}
}

// TestDirectoryOut: a directory in which somebody put an entry of his own gives the real one, and none where there is none.
func TestDirectoryOut(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-32")
	d := &desk{t, t.TempDir(), time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	serial := int64(0)
	issue := func(by *x509.Certificate, name pkix.Name, from, to time.Time) *x509.Certificate {
		serial++
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: name, NotBefore: from, NotAfter: to, SignatureAlgorithm: x509.SHA256WithRSAPSS}
		if by == nil {
			by = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		return c
	}
	from, to := d.now.AddDate(-1, 0, 0), d.now.AddDate(2, 0, 0)
	of := func(ik string) pkix.Name {
		return pkix.Name{CommonName: "Office", OrganizationalUnit: []string{"IK" + ik}}
	}
	ca := issue(nil, pkix.Name{Organization: []string{product.DKTIG}}, from, to)
	good, evil := issue(ca, of("109905003"), from, to), issue(nil, of("109905003"), d.now.Add(-time.Hour), to.AddDate(9, 0, 0))
	over := issue(ca, of("101097008"), from, d.now.Add(-time.Hour))
	var text strings.Builder
	for _, c := range []*x509.Certificate{ca, good, over, evil} {
		text.WriteString(base64.StdEncoding.EncodeToString(c.Raw) + "\n\n")
	}
	write := func(name string, b []byte) {
		if err := os.WriteFile(d.path(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(d.path(name), d.now, d.now); err != nil {
			t.Fatal(err)
		}
	}
	list := d.path("annahme-rsa4096.key")
	write("annahme-rsa4096.key", []byte(text.String()))
	sum := sha256.Sum256(ca.Raw)
	root := hex.EncodeToString(sum[:])
	has(t, d.run(tool.Found, "directory", "-ik", "109905003", "-out", d.path("one.pem"), list), "VZ-KETTE block 4", "VZ-WURZEL", root, "not verified")
	if block, _ := pem.Decode(d.read("one.pem")); block == nil || !bytes.Equal(block.Bytes, good.Raw) {
		t.Error("not the certificate that the TrustCenter issued was written")
	}
	// Without it all is well, and what is there is not replaced.
	write("annahme-rsa4096.key", []byte(strings.TrimSuffix(text.String(), base64.StdEncoding.EncodeToString(evil.Raw)+"\n\n")))
	has(t, d.run(tool.Unknown, "directory", "-ik", "109905003", "-out", d.path("one.pem"), list), "--force")
	if out := d.run(tool.Clean, "directory", list, "-ik", "109905003", "-root", strings.ToUpper(root), "-out", d.path("one.pem"), "-force"); strings.Contains(out, "VZ-WURZEL") || !strings.Contains(out, "VZ-ALTER") {
		t.Error(out)
	}
	has(t, d.run(tool.Found, "directory", "-root", strings.Repeat("0", 64), list), "VZ-WURZEL", "VZ-KETTE")
	d.run(tool.Unknown, "directory", "-root", "00", list)
	d.run(tool.Unknown, "directory", "-out", d.path("two.pem"), list) // whose?
	has(t, d.run(tool.Found, "directory", "-ik", "101097008", "-out", d.path("two.pem"), list), "expired on")
	if _, err := os.Stat(d.path("two.pem")); err == nil {
		t.Error("an expired certificate was written")
	}
	// The revocation list takes it away.
	parent := *ca
	parent.KeyUsage, parent.SubjectKeyId = x509.KeyUsageCRLSign, []byte{1}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: d.now, NextUpdate: d.now.AddDate(0, 0, 7), RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: good.SerialNumber, RevocationTime: d.now}}}, &parent, key)
	if err != nil {
		t.Fatal(err)
	}
	write("list.crl", der)
	has(t, d.run(tool.Found, "directory", "-ik", "109905003", "-root", root, "-crl", d.path("list.crl"), "-out", d.path("two.pem"), list), "VZ-GESPERRT", "nothing was written")
	if _, err := os.Stat(d.path("two.pem")); err == nil {
		t.Error("a revoked certificate was written")
	}
	// It was fetched long ago, and status says so, too.
	d.run(tool.Clean, "init", "-ik", "590326822", "-organisation", "Muster GmbH", "-given-name", "Erika", "-surname", "Muster", "-email", "erika.muster@software.example", "-contract-until", "open")
	if out := d.run(tool.Clean, "status"); strings.Contains(out, "VZ-") {
		t.Errorf("the directory is new: %s", out)
	}
	d.now = d.now.AddDate(0, 0, 100)
	has(t, d.run(tool.Clean, "directory", "-ik", "109905003", list), "VZ-ALTER", "100 days ago")
	has(t, d.run(tool.Clean, "status"), "VZ-ALTER", "100 days ago")
	d.now = to.AddDate(0, 0, -30)
	has(t, d.run(tool.Clean, "status"), "VZ-ENDE")
	write("annahme-rsa4096.key", []byte("garbage"))
	has(t, d.run(tool.Found, "status"), "VZ-LEER", " 11  Publication")
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(list, 0o700); err != nil { // something that cannot be read
		t.Fatal(err)
	}
	has(t, d.run(tool.Found, "status"), "VZ-FORM", "cannot be read", " 11  Publication")
}

// TestContractOver: without a contract nothing can be applied for; what was applied for is taken over and shown all the same.
func TestContractOver(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "pdftotext")
	d := &desk{t, t.TempDir(), time.Now()}
	center, err := trustcenter.New(t.TempDir(), func() time.Time { return d.now })
	if err != nil {
		t.Fatal(err)
	}
	last := d.now.AddDate(0, 0, 200)
	d.run(tool.Clean, "init", "-ik", "590326822", "-organisation", "Muster GmbH", "-given-name", "Erika", "-surname", "Muster", "-email", "erika.muster@software.example", "-contract-until", last.Format(time.DateOnly))
	d.run(tool.Clean, "request", "-pem")
	made := time.Date(2026, 7, 1, 10, 30, 0, 0, time.UTC)
	if err := os.Chtimes(d.path("59032682.p10"), made, made); err != nil {
		t.Fatal(err)
	}
	d.run(tool.Clean, "mail", "request")
	d.run(tool.Clean, "fingerprint")
	// The page says when the request was made, and what kind of file it is.
	page, err := exec.Command("pdftotext", "-layout", d.path("59032682-fingerprint.pdf"), "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	has(t, string(page), "01.07.2026, 12:30 Uhr CEST", fmt.Sprintf("59032682.p10, %d Byte (PEM)", len(d.read("59032682.p10"))))
	if _, _, err := center.Receive(d.read("request.eml")); err != nil {
		t.Fatal(err)
	}
	if err := center.Apply("590326822", d.read("59032682-fingerprint.pdf"), center.TOTP(d.now)); err != nil {
		t.Fatal(err)
	}

	d.now = time.Date(last.Year(), last.Month(), last.Day(), 12, 0, 0, 0, time.UTC) // the last day
	d.run(tool.Clean, "mail", "-force", "request")
	d.now = d.now.AddDate(0, 0, 1)
	for _, args := range [][]string{{"request", "-force"}, {"fingerprint", "-force"}, {"mail", "-force", "request"}} {
		has(t, d.run(tool.Found, args...), "TC-VERTRAG-ENDE", "nothing was done")
	}
	has(t, d.run(tool.Found, "status"), "error TC-VERTRAG-ENDE", "   7") // something is still to be applied for
	has(t, d.run(tool.Clean, "mail", "certificate"), "warning TC-VERTRAG-ENDE")
	_, p7c, err := center.Receive(d.read("certificate.eml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.path("59032682.p7c"), p7c, 0o600); err != nil {
		t.Fatal(err)
	}
	has(t, d.run(tool.Clean, "import", d.path("59032682.p7c")), "warning TC-VERTRAG-ENDE", "valid until")
	has(t, d.run(tool.Clean, "status"), "warning TC-VERTRAG-ENDE", "x 10")
}

// TestStalePage: a page of another request is never taken for that of the present one.
func TestStalePage(t *testing.T) {
	t.Parallel()
	d := &desk{t, t.TempDir(), time.Now()}
	d.run(tool.Clean, "init", "-ik", "590326822", "-organisation", "Mueller und Soehne Software GmbH", "-given-name", "Zoe", "-surname", "Gross", "-email", "zoe.gross@software.example", "-contract-until", "open")
	d.run(tool.Clean, "request")
	d.run(tool.Clean, "fingerprint")
	d.run(tool.Clean, "done", "8")
	has(t, d.run(tool.Clean, "status"), "x  8")
	if err := os.WriteFile(d.path("59032682-fingerprint.pdf"), otherPage(t, d.now), 0o600); err != nil {
		t.Fatal(err)
	}
	has(t, d.run(tool.Found, "status"), "TC-PDF", "   8  Application")
	d.run(tool.Clean, "fingerprint", "-force")
	has(t, d.run(tool.Clean, "status"), "x  8")

	// The request got lost: the one that is written in its place has the same key, and another hash.
	if err := os.Remove(d.path("59032682.p10")); err != nil {
		t.Fatal(err)
	}
	has(t, d.run(tool.Clean, "request"), "59032682-fingerprint.pdf was about the former request")
}
