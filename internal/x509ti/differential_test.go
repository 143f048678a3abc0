package x509ti_test

import (
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ktradv/internal/longrun"
	"ktradv/internal/testpki"
	"ktradv/internal/x509ti"
)

// TestDifferentialOpenSSL holds the judgement about generated and damaged certificates next to that of "openssl verify":
// form, issuer, signature, period of validity, critical extensions.
func TestDifferentialOpenSSL(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl command is not installed")
	}
	n := 150
	if longrun.Long() {
		n = 3000
	}
	p := pki(t)
	foreign, err := testpki.New(testpki.Config{Now: testNow, Rand: mathrand.NewChaCha8([32]byte{77})})
	if err != nil {
		t.Fatal(err)
	}
	// A certificate of the CA that is none itself, and issues all the same.
	middle, err := p.IssueX509(&p.SMBCA, testpki.Template{
		Subject: []testpki.Attribute{{OID: []int{2, 5, 4, 3}, Value: "no CA"}}, NotBefore: testNow.AddDate(-1, 0, 0), NotAfter: testNow.AddDate(1, 0, 0), KeyUsage: testpki.UsageDigitalSignature,
	})
	if err != nil {
		t.Fatal(err)
	}
	noCA := testpki.X509Authority{Key: middle.Key, Certificate: middle.Certificate}
	dir := t.TempDir()
	write := func(name string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	r := mathrand.New(mathrand.NewPCG(8, 9))
	good, bad, explained := 0, 0, map[string]int{}
	for i := range n {
		issuers := []*testpki.X509Authority{&p.SMBCA, &p.EGKRSACA, &p.SMBCA, &p.EGKRSACA, &p.SMBCA, &foreign.SMBCA, &p.EGKCA, &noCA}
		issuer := issuers[r.IntN(len(issuers))]
		anchor := issuer // who is trusted
		if issuer != &p.SMBCA && issuer != &p.EGKRSACA {
			anchor = &p.SMBCA
		}
		if issuer == &noCA {
			anchor = &noCA
		}
		profile := x509ti.Profiles[r.IntN(len(x509ti.Profiles)-1)]
		tmpl := template(profile)
		switch r.IntN(8) {
		case 0:
			tmpl.NotAfter = testNow.Add(-time.Second)
		case 1:
			tmpl.NotBefore = testNow.Add(time.Second)
		case 2:
			tmpl.Extra = []testpki.Extension{{OID: []int{1, 2, 3, r.IntN(100)}, Critical: true, Value: []byte{5, 0}}}
		case 3:
			tmpl.Extra = []testpki.Extension{{OID: []int{1, 2, 3, r.IntN(100)}, Value: []byte{5, 0}}}
		case 4:
			tmpl.NotAfter = testNow
		}
		id, err := p.IssueX509(issuer, tmpl)
		if err != nil {
			t.Fatal(err)
		}
		der := append([]byte{}, id.Certificate...)
		damaged := r.IntN(4) == 0
		if damaged {
			der[r.IntN(len(der))] ^= 1 << r.IntN(8)
		}
		args := []string{"verify", "-no-CApath", "-no-CAstore", "-partial_chain", "-auth_level", "0", "-attime", fmt.Sprint(testNow.Unix()), "-CAfile", write("ca.pem", anchor.Certificate), write("ee.pem", der)}
		out, theirErr := exec.Command("openssl", args...).CombinedOutput()
		ourErr := judge(der, anchor.Certificate)
		switch {
		case ourErr == nil && theirErr == nil:
			good++
		case ourErr != nil && theirErr != nil:
			bad++
		default:
			rule := ""
			text := string(out)
			if ourErr != nil {
				text = ourErr.Error()
			}
			for reason, why := range otherThanOpenSSL {
				if strings.Contains(text, reason) {
					rule = why
				}
			}
			if strings.Contains(text, "expired") && !tmpl.NotAfter.Equal(testNow) {
				rule = ""
			}
			if rule == "" {
				t.Errorf("certificate %d of %s, damaged %v: here %v, there %v\n%s", i, profile.Name, damaged, ourErr, theirErr, out)
			}
			explained[rule]++
		}
	}
	t.Logf("%d certificates: %d accepted by both, %d refused by both, explained: %v", n, good, bad, explained)
	if good < n/8 || bad < n/4 {
		t.Errorf("too few cases of one kind: %d good, %d bad", good, bad)
	}
}

// judge is what "openssl verify" looks at.
func judge(der, anchor []byte) error {
	c, err := x509ti.Parse(der)
	if err != nil {
		return err
	}
	ca, err := x509ti.Parse(anchor)
	if err != nil {
		return err
	}
	if err := c.CheckSignatureFrom(ca); err != nil {
		return err
	}
	if !c.ValidAt(testNow) {
		return x509ti.CertificateNotValidTime
	}
	if len(c.UnhandledCritical) > 0 {
		return x509ti.ErrCritical
	}
	return nil
}

// otherThanOpenSSL explains each kind of certificate about which the two disagree, by a part of the refusal.
var otherThanOpenSSL = map[string]string{
	"certificate has expired": "RFC 5280 counts the last second to the period of validity; OpenSSL calls a certificate expired in it",
	"the issuer is no CA":     "with -partial_chain OpenSSL trusts any certificate of the store as an issuer",
}
