package x509ti_test

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ktradv/internal/testdata"
	"ktradv/internal/x509ti"
)

// TestCardImage reads the certificates of a published image of a health card G2.1 and judges its C.CH.AUTN.
func TestCardImage(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(testdata.Dir(t, "cards"), "images", "IMG_eGK_G21_TU_root6_80276883110000152715.xml"))
	if err != nil {
		t.Fatal(err)
	}
	ca := parse(t, readPEM(t, filepath.Join(testdata.Dir(t, "pki"), "certs", "ca", "GEM.EGK-CA51-TEST-ONLY.pem")))
	spaces := regexp.MustCompile(`\s+`)
	var autn, aut []*x509ti.Certificate
	found := 0
	for _, m := range regexp.MustCompile(`>\s*(3082[0-9a-fA-F\s]{600,})`).FindAllStringSubmatch(string(raw), -1) {
		text := spaces.ReplaceAllString(m[1], "")
		b, err := hex.DecodeString(text[:len(text)/2*2])
		if err != nil {
			t.Fatal(err)
		}
		n := 4 + int(b[2])<<8 + int(b[3])
		if n > len(b) {
			t.Fatalf("certificate of %d octets in a file of %d", n, len(b))
		}
		c := parse(t, b[:n])
		found++
		if ik, err := c.IK(); err != nil || ik != "109500969" {
			t.Errorf("IK %q, %v", ik, err)
		}
		if !strings.HasPrefix(string(c.PublicKeyBits), "\x04") || len(c.PublicKeyBits) != 65 {
			continue // RSA, issued by another CA
		}
		switch {
		case c.HasPolicy(x509ti.OIDEGKAutN):
			autn = append(autn, c)
		case c.HasPolicy(x509ti.OIDEGKAut):
			aut = append(aut, c)
		}
	}
	if found != 8 || len(autn) != 1 || len(aut) != 1 {
		t.Fatalf("%d certificates, %d AUTN, %d AUT", found, len(autn), len(aut))
	}
	at := func(y int) time.Time { return time.Date(y, 6, 1, 0, 0, 0, 0, time.UTC) }
	if math, valid, err := x509ti.CheckEGKAUTN(autn[0], ca, at(2026)); !math || !valid || err != nil {
		t.Errorf("C.CH.AUTN: %v, %v, %v", math, valid, err)
	}
	if math, valid, err := x509ti.CheckEGKAUTN(autn[0], ca, at(2030)); !math || valid || !errors.Is(err, x509ti.CertificateNotValidTime) {
		t.Errorf("C.CH.AUTN in 2030: %v, %v, %v", math, valid, err)
	}
	if math, _, err := x509ti.CheckEGKAUTN(aut[0], ca, at(2026)); math || !errors.Is(err, x509ti.CertTypeMismatch) {
		t.Errorf("C.CH.AUT taken for C.CH.AUTN: %v, %v", math, err)
	}
	if k, err := aut[0].KVNR(); err != nil || k.Reveal() != "X110540756" {
		t.Errorf("KVNR: %v", err)
	}
}

func BenchmarkParse(b *testing.B) {
	der := issueEGK(b).AUTN.Certificate
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x509ti.Parse(der); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckEGKAUTN(b *testing.B) {
	cert, issuer := parse(b, issueEGK(b).AUTN.Certificate), parse(b, pki(b).EGKCA.Certificate)
	for b.Loop() {
		if math, _, err := x509ti.CheckEGKAUTN(cert, issuer, testNow); !math {
			b.Fatal(err)
		}
	}
}
