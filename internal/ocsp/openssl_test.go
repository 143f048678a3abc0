package ocsp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"ktradv/internal/x509ti"
)

// TestOpenSSLResponder has OpenSSL's responder answer our requests.
func TestOpenSSLResponder(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl command is not installed")
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	load := func(name string) *x509ti.Certificate {
		t.Helper()
		found := certificatesIn(t, filepath.Join(dir, name))
		if len(found) != 1 {
			t.Fatalf("%s: %d certificates", name, len(found))
		}
		return found[0]
	}
	key := []string{"-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1", "-days", "30"}
	run(append([]string{"req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=CA", "-addext", "keyUsage=critical,keyCertSign"}, key...)...)
	for _, leaf := range [][]string{
		{"-keyout", "good.key", "-out", "good.pem", "-subj", "/CN=good", "-set_serial", "4097"},
		{"-keyout", "revoked.key", "-out", "revoked.pem", "-subj", "/CN=revoked", "-set_serial", "4098"},
		{"-keyout", "unknown.key", "-out", "unknown.pem", "-subj", "/CN=unknown", "-set_serial", "4099"},
		{"-keyout", "signer.key", "-out", "signer.pem", "-subj", "/CN=signer", "-addext", "extendedKeyUsage=OCSPSigning"},
	} {
		run(append(append([]string{"req", "-x509", "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"}, key...), leaf...)...)
	}
	until := time.Now().AddDate(1, 0, 0).UTC().Format("060102150405Z")
	index := fmt.Sprintf("V\t%s\t\t1001\tunknown\t/CN=good\nR\t%s\t250101120000Z,keyCompromise\t1002\tunknown\t/CN=revoked\n", until, until)
	if err := os.WriteFile(filepath.Join(dir, "index.txt"), []byte(index), 0o600); err != nil {
		t.Fatal(err)
	}
	ca := load("ca.pem")
	for name, want := range map[string]Status{"good": Good, "revoked": Revoked, "unknown": Unknown} {
		for _, byKey := range []bool{false, true} {
			cert := load(name + ".pem")
			request, err := NewRequest(cert, ca)
			if err != nil {
				t.Fatal(err)
			}
			nonce := []byte("sixteen octets..")
			if err := request.SetNonce(nonce); err != nil {
				t.Fatal(err)
			}
			der, err := request.DER()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "req.der"), der, 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"ocsp", "-index", "index.txt", "-rsigner", "signer.pem", "-rkey", "signer.key", "-CA", "ca.pem", "-reqin", "req.der", "-respout", "resp.der", "-nmin", "5"}
			if byKey {
				args = append(args, "-resp_key_id")
			}
			run(args...)
			raw, err := os.ReadFile(filepath.Join(dir, "resp.der"))
			if err != nil {
				t.Fatal(err)
			}
			response, err := ParseResponse(raw)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			check := Check{Certificate: cert, Issuer: ca, Now: response.ProducedAt, Nonce: nonce, IgnoreCertHash: true}
			if got, err := response.Verify(check); err != nil || got.Status != want {
				t.Errorf("%s (by key %v): %v, %v; want %v", name, byKey, got.Status, err, want)
			}
			check.IgnoreCertHash = false
			if _, err := response.Verify(check); !errors.Is(err, CertHashMissing) {
				t.Errorf("%s: an answer without certHash: %v", name, err)
			}
		}
	}
}
