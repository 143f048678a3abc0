package keystore

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"ktradv/internal/req"
)

func pass(s string) func(bool) ([]byte, error) {
	return func(bool) ([]byte, error) { return []byte(s), nil }
}

const secret = "correct horse battery"

func TestFiles(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-18")
	f := &Files{Dir: t.TempDir() + "/keys", Passphrase: pass(secret)}
	made, err := f.Create("sig-1", P256)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Path("sig-1"))
	if err != nil || !bytes.HasPrefix(b, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----")) {
		t.Fatalf("%.40s %v", b, err)
	}
	if st, _ := os.Stat(f.Path("sig-1")); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	opened, err := (&Files{Dir: f.Dir, Passphrase: pass(secret)}).Open("sig-1")
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	sig, err := opened.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil || !ecdsa.VerifyASN1(made.Public().(*ecdsa.PublicKey), digest[:], sig) {
		t.Errorf("another key came back: %v", err)
	}
	if text := fmt.Sprintf("%v %+v %#v", f, f, *f); strings.Contains(text, secret) || strings.Contains(text, fmt.Sprint([]byte(secret))) {
		t.Errorf("the store prints its passphrase: %.400s", text)
	}
	// The negative twins.
	if _, err := (&Files{Dir: f.Dir, Passphrase: pass(secret + "x")}).Open("sig-1"); !errors.Is(err, ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	if _, err := f.Create("sig-1", P256); !errors.Is(err, ErrExists) {
		t.Errorf("replaced: %v", err)
	}
	if _, err := f.Open("sig-2"); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	for _, name := range []string{"../x", "", "a b", strings.Repeat("a", 65)} {
		if _, err := f.Create(name, P256); !errors.Is(err, ErrName) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if _, err := (&Files{Dir: f.Dir, Passphrase: pass("short")}).Create("sig-3", P256); err == nil {
		t.Error("a short passphrase for a new key")
	}
	if err := os.Chmod(f.Path("sig-1"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open("sig-1"); !errors.Is(err, ErrMode) {
		t.Errorf("readable by others: %v", err)
	}
	for _, damage := range [][]byte{nil, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), append(b, b...)} {
		if err := os.WriteFile(f.Path("bad"), damage, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Open("bad"); err == nil {
			t.Errorf("damaged file %.60q was opened", damage)
		}
	}
}

// TestOpenSSL: the file is what others expect of a private key with a passphrase.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	f := &Files{Dir: t.TempDir(), Passphrase: pass(secret)}
	if _, err := f.Create("k", P256); err != nil {
		t.Fatal(err)
	}
	show := func(p string) (string, error) {
		out, err := exec.Command(tool, "pkey", "-in", f.Path("k"), "-passin", "pass:"+p, "-text_pub", "-noout").CombinedOutput()
		return string(out), err
	}
	if out, err := show(secret); err != nil || !strings.Contains(out, "P-256") {
		t.Errorf("openssl: %s %v", out, err)
	}
	if out, err := show("another one altogether"); err == nil {
		t.Errorf("openssl with a wrong passphrase: %s", out)
	}
}

// TestPassphraseChange: the way that docs/registration.md describes, with openssl; the file is as private as before.
func TestPassphraseChange(t *testing.T) {
	t.Parallel()
	req.Covers(t, "DKTIG-18")
	tool, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	f := &Files{Dir: t.TempDir(), Passphrase: pass(secret)}
	made, err := f.Create("k", P256)
	if err != nil {
		t.Fatal(err)
	}
	const next = "another battery staple"
	if out, err := exec.Command(tool, "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256", "-iter", "600000", "-in", f.Path("k"), "-passin", "pass:"+secret,
		"-passout", "pass:"+next, "-out", f.Path("new")).CombinedOutput(); err != nil {
		t.Fatalf("%s %v", out, err)
	}
	if err := os.Rename(f.Path("new"), f.Path("k")); err != nil {
		t.Fatal(err)
	}
	opened, err := (&Files{Dir: f.Dir, Passphrase: pass(next)}).Open("k")
	if err != nil || !opened.Public().(*ecdsa.PublicKey).Equal(made.Public()) {
		t.Fatalf("with the new passphrase: %v", err)
	}
	if _, err := (&Files{Dir: f.Dir, Passphrase: pass(secret)}).Open("k"); !errors.Is(err, ErrPassphrase) {
		t.Errorf("with the former passphrase: %v", err)
	}
}

// TestPassphraseOpenPipe: who hands the passphrase over need not close the descriptor.
func TestPassphraseOpenPipe(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.WriteString(secret + "\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := FromDescriptor(r.Fd())(false); err != nil || string(b) != secret {
		t.Errorf("%q %v", b, err)
	}
}

func TestReadPassphrase(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"secret\n": "secret", "secret\r\nmore": "secret", "secret": "secret"} {
		if b, err := readPassphrase(strings.NewReader(in)); err != nil || string(b) != want {
			t.Errorf("%q: %q %v", in, b, err)
		}
	}
	for _, in := range []string{"", "\n", strings.Repeat("x", maxPassphrase+1)} {
		if _, err := readPassphrase(strings.NewReader(in)); err == nil {
			t.Errorf("%.10q is no passphrase", in)
		}
	}
}

func TestNoHSM(t *testing.T) {
	t.Parallel()
	if openHSM != nil {
		t.Skip("this build has HSM support")
	}
	if _, err := (HSM{Module: "x", Token: "y"}).Deferred().Open("k"); !errors.Is(err, ErrNoHSM) {
		t.Error(err)
	}
}
