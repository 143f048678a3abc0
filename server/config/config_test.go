package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const good = `{
  "mode": "test",
  "tls": {"certificate": "tls/cert.pem", "key": "/etc/adv/key.pem"},
  "identities": {"kind": "file", "dir": "identities"},
  "trust": {"cvc_roots": "trust/cvc", "egk_cas": "trust/egk-ca"},
  "ocsp": {"url": "http://127.0.0.1:8080/ocsp", "timeout": "3s"},
  "log": {"dir": "log"}
}`

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := Parse([]byte(good), "/srv")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Mode = Test
	want.TLS = TLS{"/srv/tls/cert.pem", "/etc/adv/key.pem"}
	want.Identities = Identities{"file", "/srv/identities"}
	want.Trust = Trust{CVCRoots: "/srv/trust/cvc", EGKCAs: "/srv/trust/egk-ca"}
	want.OCSP = OCSP{"http://127.0.0.1:8080/ocsp", Duration(3 * time.Second)}
	want.Log.Dir = "/srv/log"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBadConfigurationsSayWhatToDo(t *testing.T) {
	t.Parallel()
	replace := func(old, new string) string {
		s := strings.Replace(good, old, new, 1)
		if s == good {
			t.Fatalf("%q is not in the good configuration", old)
		}
		return s
	}
	tests := []struct{ name, json, want string }{
		{"empty", "", "read JSON"},
		{"not JSON", "listen = 1", "read JSON"},
		{"unknown field", replace(`"mode"`, `"debug": true, "mode"`), "debug"},
		{"unknown inner field", replace(`"timeout": "3s"`, `"time_out": "3s"`), "time_out"},
		{"text behind", good + "{}", "text after"},
		{"mode", replace(`"test"`, `"live"`), "mode"},
		{"file identities in production", replace(`"mode": "test",`, ``), "for tests only"},
		{"identity kind", replace(`"kind": "file"`, `"kind": "usb"`), "identities.kind"},
		{"no identities", replace(`"dir": "identities"`, `"dir": ""`), "identities.dir"},
		{"no certificate", replace(`"certificate": "tls/cert.pem", `, ``), "tls"},
		{"no roots", replace(`"cvc_roots": "trust/cvc", `, ``), "trust.cvc_roots"},
		{"no CAs", replace(`, "egk_cas": "trust/egk-ca"`, ``), "trust.egk_cas"},
		{"no log", replace(`"log": {"dir": "log"}`, `"log": {}`), "log.dir"},
		{"log level", replace(`{"dir": "log"}`, `{"dir": "log", "level": "loud"}`), "log.level"},
		{"log bound", replace(`{"dir": "log"}`, `{"dir": "log", "max_bytes": 10}`), "log.max_bytes"},
		{"listen", replace(`"mode"`, `"listen": "8443", "mode"`), "listen"},
		{"metrics for everybody", replace(`"mode"`, `"ops_listen": "0.0.0.0:9443", "mode"`), "ops_listen"},
		{"metrics by name", replace(`"mode"`, `"ops_listen": "adv.example:9443", "mode"`), "ops_listen"},
		{"ocsp url", replace(`http://127.0.0.1:8080/ocsp`, `ftp://x`), "ocsp.url"},
		{"duration", replace(`"3s"`, `"3"`), "duration"},
		{"negative duration", replace(`"3s"`, `"-3s"`), "duration"},
		{"no session", replace(`"mode"`, `"limits": {"sessions": -1}, "mode"`), "limits.sessions"},
		{"timeouts", replace(`"mode"`, `"limits": {"step_timeout": "2h"}, "mode"`), "limits.step_timeout"},
		{"too large", good + strings.Repeat(" ", maxFile), "larger"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(tt.json), "/srv")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse = %v; want an error with %q", err, tt.want)
			}
		})
	}
}

// TestVerify: every knob of the verification service is read, has its default, and refuses what makes no sense.
func TestVerify(t *testing.T) {
	t.Parallel()
	with := func(verify string) string {
		return strings.Replace(good, `"mode"`, `"verify": {"listen": ":8444", "clients": "clients", "pki": {"dir": "pki"}`+verify+`}, "mode"`, 1)
	}
	c, err := Parse([]byte(with("")), "/srv")
	if err != nil || c.Verify.Checks != 64 || c.Verify.Jobs != 2 || c.Verify.Archive || time.Duration(c.Verify.PKI.Status.Timeout) != 10*time.Second || c.Verify.PKI.Status.MaxAge != 0 || c.Verify.PKI.Status.RequireNonce {
		t.Errorf("defaults: %+v, %v", c.Verify, err)
	}
	c, err = Parse([]byte(strings.Replace(with(`, "checks": 9, "jobs": 16, "archive": true`), `"dir": "pki"`, `"dir": "pki", "status": {"timeout": "3s", "max_age": "6h", "require_nonce": true}`, 1)), "/srv")
	if err != nil || c.Verify.Checks != 9 || c.Verify.Jobs != 16 || !c.Verify.Archive || time.Duration(c.Verify.PKI.Status.Timeout) != 3*time.Second ||
		time.Duration(c.Verify.PKI.Status.MaxAge) != 6*time.Hour || !c.Verify.PKI.Status.RequireNonce {
		t.Errorf("all set: %+v, %v", c.Verify, err)
	}
	for _, wrong := range []string{`, "jobs": 0`, `, "jobs": 5000`, `, "checks": 0`, `, "archive": "yes"`} {
		if _, err := Parse([]byte(with(wrong)), "/srv"); err == nil {
			t.Errorf("%s is accepted", wrong)
		}
	}
}

func TestProductionRefusesKeysInFiles(t *testing.T) {
	t.Parallel()
	if _, err := Parse([]byte(strings.Replace(good, `"test"`, `"production"`, 1)), "/"); err == nil {
		t.Error("production mode accepts identities from files")
	}
	if _, err := Parse([]byte(good), "/"); err != nil {
		t.Errorf("test mode refuses them: %v", err)
	}
}

func TestDebugLevelNeedsTestMode(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte(strings.Replace(good, `{"dir": "log"}`, `{"dir": "log", "level": "debug"}`, 1)), "/")
	if err != nil {
		t.Fatal(err)
	}
	c.Mode = Production
	if err := c.check(); err == nil || !strings.Contains(err.Error(), "log.level") {
		t.Errorf("check = %v; want a finding about log.level", err)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "server.json")
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil || c.Log.Dir != filepath.Join(dir, "log") {
		t.Errorf("Load = %+v, %v", c.Log, err)
	}
	if _, err := Load(filepath.Join(dir, "missing.json")); err == nil {
		t.Error("a missing file was read")
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v does not name the file", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"ocsp":{"timeout":"1s"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b, "/srv")
		if err == nil && c.Mode == Production && c.Identities.Kind == IdentityFile {
			t.Error("production with keys in files")
		}
	})
}
