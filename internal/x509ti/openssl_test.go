package x509ti_test

import (
	"errors"
	"os/exec"
	"path/filepath"
	"testing"

	"ktradv/internal/x509ti"
)

// TestOpenSSLCertificates reads certificates that OpenSSL wrote, of each kind of key and signature.
func TestOpenSSLCertificates(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl command is not installed")
	}
	run := func(t *testing.T, dir string, args ...string) {
		t.Helper()
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	ec := func(curve string) []string {
		return []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:" + curve}
	}
	for _, tc := range []struct {
		name string
		key  []string
		sign []string
		bad  bool
	}{
		{name: "brainpoolP256r1", key: ec("brainpoolP256r1"), sign: []string{"-sha256"}},
		{name: "brainpoolP384r1", key: ec("brainpoolP384r1"), sign: []string{"-sha384"}},
		{name: "brainpoolP512r1", key: ec("brainpoolP512r1"), sign: []string{"-sha512"}},
		{name: "brainpoolP512r1 with SHA-256", key: ec("brainpoolP512r1"), sign: []string{"-sha256"}},
		{name: "brainpoolP256r1 with SHA-512", key: ec("brainpoolP256r1"), sign: []string{"-sha512"}},
		{name: "P-384", key: ec("P-384"), sign: []string{"-sha384"}},
		{name: "RSA", key: []string{"-newkey", "rsa:2048"}, sign: []string{"-sha256"}},
		{name: "RSA-PSS", key: []string{"-newkey", "rsa:2048"}, sign: []string{"-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"}},
		{name: "RSA-PSS, short salt", key: []string{"-newkey", "rsa:2048"}, sign: []string{"-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:20"}},
		{name: "RSA-PSS key", key: []string{"-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"}, sign: []string{"-sha256", "-sigopt", "rsa_pss_saltlen:32"}},
		{name: "RSA-PSS, other mask", key: []string{"-newkey", "rsa:2048"}, sign: []string{"-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_mgf1_md:sha512"}, bad: true},
		{name: "RSA with SHA-1", key: []string{"-newkey", "rsa:2048"}, sign: []string{"-sha1"}, bad: true},
		{name: "brainpoolP256r1 with SHA-1", key: ec("brainpoolP256r1"), sign: []string{"-sha1"}, bad: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			args := append([]string{"req", "-x509", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "30", "-subj", "/C=DE/O=Test/CN=Root/OU=109500969",
				"-addext", "keyUsage=critical,keyCertSign,cRLSign", "-addext", "certificatePolicies=1.2.276.0.76.4.163"}, tc.key...)
			run(t, dir, append(args, tc.sign...)...)
			c := parse(t, readPEM(t, filepath.Join(dir, "cert.pem")))
			err := c.CheckSignatureFrom(c)
			if tc.bad && !errors.Is(err, x509ti.CertificateNotValidMath) || !tc.bad && err != nil {
				t.Errorf("signature: %v", err)
			}
			if ik, err := c.IK(); err != nil || ik != "109500969" {
				t.Errorf("IK %q, %v", ik, err)
			}
			if !c.IsCA || c.KeyUsage != x509ti.CertSign|x509ti.CRLSign || !c.HasPolicy(x509ti.OID{1, 2, 276, 0, 76, 4, 163}) {
				t.Errorf("CA %v, usage %b, policies %v", c.IsCA, c.KeyUsage, c.Policies)
			}
		})
	}
	// Keys that are too small or not given by name are refused.
	dir := t.TempDir()
	for name, key := range map[string][]string{
		"RSA 1024":              {"-newkey", "rsa:1024"},
		"explicit parameters":   append(ec("brainpoolP256r1"), "-pkeyopt", "ec_param_enc:explicit"),
		"curve of another kind": ec("secp256k1"),
	} {
		run(t, dir, append([]string{"req", "-x509", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=x"}, key...)...)
		if _, err := x509ti.Parse(readPEM(t, filepath.Join(dir, "cert.pem"))); !errors.Is(err, x509ti.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
