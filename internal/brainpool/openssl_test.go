package brainpool

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

type subjectPublicKey struct {
	Algorithm struct{ Algorithm, Curve asn1.ObjectIdentifier }
	Key       asn1.BitString
}

type ecPrivateKey struct {
	Version int
	Key     []byte
	Curve   asn1.ObjectIdentifier `asn1:"explicit,tag:0"`
	Public  asn1.BitString        `asn1:"explicit,tag:1"`
}

var oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}

// openssl runs the command in dir and returns its standard output.
func openssl(t *testing.T, dir string, wantFail bool, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if (err != nil) != wantFail {
		t.Fatalf("openssl %v: %v\n%s%s", args, err, out, stderr.Bytes())
	}
	return out
}

// TestAgainstOpenSSL signs and agrees keys in both directions with OpenSSL's own implementation.
func TestAgainstOpenSSL(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl command is not installed")
	}
	eachCurve(t, func(t *testing.T, c *Curve, _ slow) {
		dir := t.TempDir()
		ours := mustKey(t, c, 20)
		write(t, dir, "ours.pub", pemPublicKey(t, ours.Public()))

		// A key of OpenSSL.
		openssl(t, dir, false, "ecparam", "-name", c.Name(), "-genkey", "-noout", "-out", "theirs.key")
		openssl(t, dir, false, "pkey", "-in", "theirs.key", "-pubout", "-out", "theirs.pub")
		raw, err := os.ReadFile(filepath.Join(dir, "theirs.key"))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(raw)
		var ec ecPrivateKey
		if _, err := asn1.Unmarshal(block.Bytes, &ec); err != nil {
			t.Fatal(err)
		}
		theirs, err := NewPrivateKey(c, ec.Key)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(theirs.Public().Bytes(), ec.Public.Bytes) {
			t.Error("public keys of one scalar differ")
		}

		// The token that the card signs without a hash is among the messages; OpenSSL takes it as the digest.
		digest := sha256.Sum256([]byte("message"))
		for _, e := range [][]byte{digest[:], bytes.Repeat([]byte{0x5a}, 25), bytes.Repeat([]byte{0xff}, 64)} {
			write(t, dir, "digest", e)
			der, err := ours.SignASN1(nil, e)
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, "sig", der)
			openssl(t, dir, false, "pkeyutl", "-verify", "-pubin", "-inkey", "ours.pub", "-in", "digest", "-sigfile", "sig")
			openssl(t, dir, true, "pkeyutl", "-verify", "-pubin", "-inkey", "theirs.pub", "-in", "digest", "-sigfile", "sig")
			sig := openssl(t, dir, false, "pkeyutl", "-sign", "-inkey", "theirs.key", "-in", "digest")
			if !theirs.Public().VerifyASN1(e, sig) {
				t.Errorf("signature of openssl over %d octets refused", len(e))
			}
			if ours.Public().VerifyASN1(e, sig) {
				t.Error("signature of openssl verifies under another key")
			}
		}
		shared := openssl(t, dir, false, "pkeyutl", "-derive", "-inkey", "theirs.key", "-peerkey", "ours.pub")
		got, err := ours.ECDH(theirs.Public())
		if err != nil || !bytes.Equal(got, shared) {
			t.Errorf("shared secret %x (%v), openssl has %x", got, err, shared)
		}
	})
}
