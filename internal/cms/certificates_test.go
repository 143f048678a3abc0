package cms

import (
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"ktradv/internal/testdata"
)

// TestParseCertificates: a message without a signature gives its certificates, and stays refused as a signed message.
func TestParseCertificates(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(testdata.Dir(t, "registration"), "trustcenter", "peer-chain-pem.p7c"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	certs, err := ParseCertificates(block.Bytes)
	if err != nil || len(certs) != 1 {
		t.Fatalf("%d certificates, %v", len(certs), err)
	}
	if _, err := Parse(block.Bytes); !errors.Is(err, ErrMalformed) {
		t.Errorf("as a signed message: %v", err)
	}
	for n := range block.Bytes {
		if _, err := ParseCertificates(block.Bytes[:n]); err == nil {
			t.Fatalf("cut at %d it was read", n)
		}
	}
}
