//go:build pkcs11

package keystore_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ktradv/internal/req"
	"ktradv/server/federation"
	"ktradv/server/internal/finding"
)

// TestProcesses: both ways with keys in the HSM, as an operator goes them: the program itself, process by process, the PIN on a
// descriptor.
func TestProcesses(t *testing.T) {
	req.Covers(t, "DKTIG-18")
	dir := t.TempDir()
	program := filepath.Join(dir, "adv-server")
	if out, err := exec.Command("go", "build", "-tags", "pkcs11", "-o", program, "ktradv/server/cmd/adv-server").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	run := func(pin string, status int, args ...string) (out, errs string) {
		t.Helper()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close() // it stays open while the program runs
		if _, err := io.WriteString(w, pin+"\n"); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, append([]string{args[0], args[1], "-passphrase-fd", "3", "-hsm-module", "/usr/lib/softhsm/libsofthsm2.so", "-hsm-token", "adv"}, args[2:]...)...)
		var o, e bytes.Buffer
		cmd.Dir, cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = dir, []*os.File{r}, &o, &e
		if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != status {
			t.Fatalf("%v: status %d, want %d\n%s%s", args, got, status, &o, &e)
		}
		return o.String(), e.String()
	}
	says := func(text string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%q is missing in\n%s", w, text)
			}
		}
	}

	// A certificate.
	run("1234", 0, "trustcenter", "init", "-ik", "260326822", "-organisation", "Muster GmbH", "-given-name", "Erika", "-surname", "Muster", "-email", "erika.muster@software.example", "-contract-until", "open")
	_, errs := run("9999", 2, "trustcenter", "request")
	says(errs, "HSM", "PIN")
	run("1234", 0, "trustcenter", "request")
	if out, err := exec.Command("openssl", "req", "-inform", "DER", "-in", filepath.Join(dir, "26032682.p10"), "-verify", "-noout", "-text").CombinedOutput(); err != nil || !bytes.Contains(out, []byte("Salt Length: 0x20")) || !bytes.Contains(out, []byte("(4096 bit)")) {
		t.Errorf("openssl: %s %v", out, err)
	}
	if err := os.Remove(filepath.Join(dir, "26032682.p10")); err != nil {
		t.Fatal(err)
	}
	run("1234", 0, "trustcenter", "request") // lost: the same key is used again
	_, errs = run("1234", 2, "trustcenter", "request", "-force")
	says(errs, "exists already", "vendor's tool")

	// A federation service.
	run("1234", 0, "federation", "init", "-environment", "TU", "-service", "https://adv.kasse.example", "-organisation", "Kasse", "-name", "AdV Kasse",
		"-email", "adv@kasse.example", "-group", "ORG-1234:BT-5678", "-redirect", "https://adv.kasse.example/cb")
	token, _ := run("1234", 0, "federation", "entity-statement")
	s, found := federation.ParseStatement([]byte(token), "")
	if s == nil {
		t.Fatal(found)
	}
	if found := federation.CheckStatement(s, federation.StatementOptions{Now: time.Now()}); found.Worst() != finding.Info {
		t.Error(found)
	}
	run("1234", 0, "federation", "keys", "new")
	_, errs = run("1234", 2, "federation", "keys", "new-client")
	says(errs, "exists already", "vendor's tool")
	_, errs = run("9999", 2, "federation", "entity-statement")
	says(errs, "HSM", "PIN")

	// No private key lies in a file.
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || path == program {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("PRIVATE KEY")) || bytes.Contains(b, []byte("1234\n")) {
			t.Errorf("%s holds a secret", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
