//go:build pkcs11

package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"ktradv/internal/req"
)

const softhsm = "/usr/lib/softhsm/libsofthsm2.so"

// TestMain makes a token; SoftHSM reads its configuration from the environment, once.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "softhsm")
	if err != nil {
		panic(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		panic(err)
	}
	os.Setenv("SOFTHSM2_CONF", conf)
	code := 1
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "adv", "--so-pin", "12345678", "--pin", "1234").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "softhsm2-util: %v %s\n", err, out)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func TestHSM(t *testing.T) {
	req.Covers(t, "DKTIG-18")
	// First of all: a process that is logged in stays so, whatever PIN comes next.
	if _, err := (HSM{Module: softhsm, Token: "adv", PIN: pass("9999")}).Open(); err == nil {
		t.Error("a wrong PIN opens the token")
	}
	store, err := HSM{Module: softhsm, Token: "adv", PIN: pass("1234")}.Open()
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	for name, kind := range map[string]Kind{"sig-1": P256, "tc-1": RSA4096} {
		made, err := store.Create(name, kind)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := store.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		var opts crypto.SignerOpts = crypto.SHA256
		if kind == RSA4096 {
			opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
		}
		sig, err := opened.Sign(rand.Reader, digest[:], opts)
		if err != nil {
			t.Fatal(err)
		}
		switch pub := made.Public().(type) {
		case *ecdsa.PublicKey:
			if !ecdsa.VerifyASN1(pub, digest[:], sig) {
				t.Error("another key signed")
			}
		case *rsa.PublicKey:
			if pub.N.BitLen() != 4096 || rsa.VerifyPSS(pub, crypto.SHA256, digest[:], sig, &rsa.PSSOptions{SaltLength: 32}) != nil {
				t.Error("another key signed, or not with PSS and salt 32")
			}
		}
		if _, err := store.Create(name, kind); !errors.Is(err, ErrExists) {
			t.Errorf("%s was made twice: %v", name, err)
		}
	}
	if _, err := store.Open("nothing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	if _, err := (HSM{Module: softhsm, Token: "other", PIN: pass("1234")}).Open(); err == nil {
		t.Error("a token that is not there was opened")
	}
}
