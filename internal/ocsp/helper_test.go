package ocsp

import (
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"testing"

	"ktradv/internal/x509ti"
)

// bigAdd returns the next number.
func bigAdd(n *big.Int) *big.Int { return new(big.Int).Add(n, big.NewInt(1)) }

// code returns the code of Tab_PKI_274 of an error, 0 for others.
func code(err error) int {
	var finding *x509ti.Error
	if errors.As(err, &finding) {
		return finding.Code
	}
	return 0
}

// certificatesIn finds the certificates in a file: a PEM block, or DER anywhere inside.
func certificatesIn(t testing.TB, path string) []*x509ti.Certificate {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(raw); block != nil {
		raw = block.Bytes
	}
	var out []*x509ti.Certificate
	for i := 0; i+4 < len(raw); i++ {
		if raw[i] != 0x30 || raw[i+1] != 0x82 {
			continue
		}
		n := 4 + int(raw[i+2])<<8 + int(raw[i+3])
		if n > x509ti.MaxSize || i+n > len(raw) {
			continue
		}
		if c, err := x509ti.Parse(raw[i : i+n]); err == nil {
			out = append(out, c)
			i += n - 1
		}
	}
	return out
}
