package cms

import (
	"bytes"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"ktradv/internal/ber"
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
	certs, err := ParseCertificates(block.Bytes, 4)
	if err != nil || len(certs) != 1 {
		t.Fatalf("%d certificates, %v", len(certs), err)
	}
	if _, err := Parse(block.Bytes); !errors.Is(err, ErrMalformed) {
		t.Errorf("as a signed message: %v", err)
	}
	for n := range block.Bytes {
		if _, err := ParseCertificates(block.Bytes[:n], 4); err == nil {
			t.Fatalf("cut at %d it was read", n)
		}
	}
}

// TestParseCertificatesBound: the caller says how many certificates are read, and what was read before a fault is not lost.
func TestParseCertificatesBound(t *testing.T) {
	t.Parallel()
	wrap := func(tag ber.Tag, content []byte) []byte {
		return append(ber.AppendHeader(nil, tag, true, len(content)), content...)
	}
	type parts struct{ certificates, after []byte }
	message := func(p parts) []byte {
		b := append([]byte{2, 1, 1}, wrap(ber.Set, nil)...)
		b = append(b, wrap(ber.Sequence, append(ber.AppendHeader(nil, ber.ObjectID, false, len(oidData)), oidData...))...)
		b = append(append(b, wrap(ber.Context(0), p.certificates)...), p.after...)
		oid := append(ber.AppendHeader(nil, ber.ObjectID, false, len(oidSignedData)), oidSignedData...)
		return wrap(ber.Sequence, append(oid, wrap(ber.Context(0), wrap(ber.Sequence, b))...))
	}
	one := wrap(ber.Sequence, []byte{2, 1, 1})
	signers := wrap(ber.Set, nil)
	for name, c := range map[string]struct {
		parts parts
		max   int
		want  int
		err   error
	}{
		"none":                  {parts{nil, signers}, 2, 0, nil},
		"more than of a signed": {parts{bytes.Repeat(one, 3000), signers}, 5000, 3000, nil},
		"as many as allowed":    {parts{bytes.Repeat(one, 8), signers}, 8, 8, nil},
		"one too many":          {parts{bytes.Repeat(one, 9), signers}, 8, 8, ErrLimit},
		"a part is cut":         {parts{append(bytes.Repeat(one, 3), 0x30, 0x05, 0), signers}, 8, 3, ber.ErrTruncated},
		"lists damaged":         {parts{bytes.Repeat(one, 3), append(wrap(ber.Context(1), []byte{0x30, 9}), signers...)}, 8, 3, ber.ErrTruncated},
		"nothing after":         {parts{bytes.Repeat(one, 3), nil}, 8, 3, ber.ErrTag},
	} {
		certs, err := ParseCertificates(message(c.parts), c.max)
		if len(certs) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %d certificates, %v; want %d, %v", name, len(certs), err, c.want, c.err)
		}
	}
}
