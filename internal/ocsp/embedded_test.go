package ocsp

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
	"ktradv/internal/req"
	"ktradv/internal/testpki"
	"ktradv/internal/x509ti"
)

// world is a PKI with an institution's certificate and answers about it.
type world struct {
	pki    *testpki.PKI
	cert   *x509ti.Certificate
	issuer *x509ti.Certificate
	listed *x509ti.Certificate // the responder of the list; the CA did not issue it
	signer testpki.X509Authority
	issued testpki.X509Authority // a responder that the CA did issue
}

var signed = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC) // the signing time

func newWorld(t testing.TB) *world {
	t.Helper()
	p, err := testpki.New(testpki.Config{Now: signed, Rand: mathrand.NewChaCha8([32]byte{9})})
	if err != nil {
		t.Fatal(err)
	}
	id, err := p.IssueX509(&p.EGKCA, testpki.Template{
		Subject: []testpki.Attribute{{OID: []int{2, 5, 4, 3}, Value: "Praxis"}}, NotBefore: signed.AddDate(-1, 0, 0), NotAfter: signed.AddDate(4, 0, 0),
		KeyUsage: testpki.UsageNonRepudiation, Policies: [][]int{testpki.OIDPolicyCP},
	})
	if err != nil {
		t.Fatal(err)
	}
	parse := func(der []byte) *x509ti.Certificate {
		c, err := x509ti.Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	return &world{p, parse(id.Certificate), parse(p.EGKCA.Certificate), parse(p.OtherOCSPSigner.Certificate), p.OtherOCSPSigner, p.OCSPSigner}
}

func (w *world) answer(t testing.TB, a testpki.OCSPAnswer, signer testpki.X509Authority) []byte {
	t.Helper()
	a.Certificate, a.Issuer = w.cert.Raw, w.issuer.Raw
	raw, err := w.pki.AnswerOCSP(a, signer)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestEmbedded judges answers that were kept with a signature at the signing time.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-20")
	w := newWorld(t)
	const maxAge = 12 * time.Hour
	at := func(d time.Duration) time.Time { return signed.Add(d) }
	for _, tc := range []struct {
		name   string
		answer testpki.OCSPAnswer
		signer *testpki.X509Authority // nil: the listed one
		change func(*Check)
		want   Status
		code   int
	}{
		{name: "made with the signature", answer: testpki.OCSPAnswer{ProducedAt: signed}, want: Good},
		{name: "nine hours old, as in the field", answer: testpki.OCSPAnswer{ProducedAt: at(-9 * time.Hour)}, want: Good},
		{name: "at the longest age", answer: testpki.OCSPAnswer{ProducedAt: at(-maxAge)}, want: Good},
		{name: "older than the longest age", answer: testpki.OCSPAnswer{ProducedAt: at(-maxAge - time.Second)}, code: 1029},
		{name: "of last year", answer: testpki.OCSPAnswer{ProducedAt: signed.AddDate(-1, 0, 0)}, code: 1029},
		{name: "a second after the signature", answer: testpki.OCSPAnswer{ProducedAt: at(time.Second)}, want: Good},
		{name: "a year after the signature", answer: testpki.OCSPAnswer{ProducedAt: signed.AddDate(1, 0, 0)}, want: Good},
		{name: "in the future of the check", answer: testpki.OCSPAnswer{ProducedAt: signed.AddDate(2, 0, 1)}, code: 1029},
		{name: "thisUpdate after producedAt", answer: testpki.OCSPAnswer{ProducedAt: signed, ThisUpdate: at(time.Minute)}, code: 1029},
		{name: "nextUpdate before the signature", answer: testpki.OCSPAnswer{ProducedAt: at(-2 * time.Hour), NextUpdate: at(-time.Hour)}, code: 1029},
		{name: "nextUpdate after the signature", answer: testpki.OCSPAnswer{ProducedAt: at(-2 * time.Hour), NextUpdate: at(time.Hour)}, want: Good},
		{name: "revoked before", answer: testpki.OCSPAnswer{Status: testpki.Revoked, RevokedAt: at(-time.Hour), ProducedAt: signed}, want: Revoked},
		{name: "revoked at that second", answer: testpki.OCSPAnswer{Status: testpki.Revoked, RevokedAt: signed, ProducedAt: at(time.Hour)}, want: Revoked},
		{name: "revoked a second later", answer: testpki.OCSPAnswer{Status: testpki.Revoked, RevokedAt: at(time.Second), ProducedAt: at(time.Hour)}, want: Good},
		{name: "unknown", answer: testpki.OCSPAnswer{Status: testpki.Unknown, ProducedAt: signed}, want: Unknown},
		{name: "no certHash", answer: testpki.OCSPAnswer{ProducedAt: signed, NoCertHash: true}, code: 1040},
		{name: "no certHash where none is asked for", answer: testpki.OCSPAnswer{ProducedAt: signed, NoCertHash: true}, change: func(c *Check) { c.IgnoreCertHash = true }, want: Good},
		{name: "certHash of another", answer: testpki.OCSPAnswer{ProducedAt: signed, HashOf: []byte("other")}, code: 1041},
		{name: "certHash of another where none is asked for", answer: testpki.OCSPAnswer{ProducedAt: signed, HashOf: []byte("other")}, change: func(c *Check) { c.IgnoreCertHash = true }, want: Good},
		{name: "responder by key", answer: testpki.OCSPAnswer{ProducedAt: signed, ByKey: true}, want: Good},
		{name: "issued by the CA, but not listed", answer: testpki.OCSPAnswer{ProducedAt: signed}, signer: &w.issued, code: 1030},
		{name: "issued by the CA, QES", answer: testpki.OCSPAnswer{ProducedAt: signed}, signer: &w.issued, change: func(c *Check) { c.ListedOnly = false }, want: Good},
		{name: "listed, QES", answer: testpki.OCSPAnswer{ProducedAt: signed}, change: func(c *Check) { c.ListedOnly = false }, want: Good},
		{name: "neither listed nor issued", answer: testpki.OCSPAnswer{ProducedAt: signed}, change: func(c *Check) { c.ListedOnly, c.Responders = false, nil }, code: 1030},
		{name: "signed by the CA itself, which is no responder", answer: testpki.OCSPAnswer{ProducedAt: signed}, signer: &w.pki.EGKCA, change: func(c *Check) { c.ListedOnly = false }, code: 1030},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			signer := w.signer
			if tc.signer != nil {
				signer = *tc.signer
			}
			response, err := ParseResponse(w.answer(t, tc.answer, signer))
			if err != nil {
				t.Fatal(err)
			}
			check := Check{
				Certificate: w.cert, Issuer: w.issuer, Responders: []*x509ti.Certificate{w.listed}, ListedOnly: true,
				Now: signed.AddDate(2, 0, 0), Reference: signed, Embedded: true, MaxAge: maxAge,
			}
			if tc.change != nil {
				tc.change(&check)
			}
			got, err := response.Verify(check)
			if code(err) != tc.code || (err == nil) != (tc.code == 0) || got.Status != tc.want {
				t.Fatalf("%v, %v; want %v, code %d", got.Status, err, tc.want, tc.code)
			}
			if err != nil {
				return
			}
			if want := Listed; tc.signer == nil && got.Authorisation != want || tc.signer != nil && got.Authorisation != Issued {
				t.Errorf("authorised as %q", got.Authorisation)
			}
			if got.Age != signed.Sub(tc.answer.ProducedAt) || got.CertHash == check.IgnoreCertHash || got.Responder == nil {
				t.Errorf("facts %+v", got)
			}
		})
	}
}

// TestDamagedAnswers: an answer cut anywhere, and with any octet changed, never passes. Its certificates are not signed by
// it: a change there leaves the answer without a responder.
func TestDamagedAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	raw := w.answer(t, testpki.OCSPAnswer{ProducedAt: signed}, w.signer)
	check := Check{Certificate: w.cert, Issuer: w.issuer, Responders: []*x509ti.Certificate{w.listed}, ListedOnly: true, Now: signed}
	judge := func(b []byte) error {
		r, err := ParseResponse(b)
		if err != nil {
			return err
		}
		_, err = r.Verify(check)
		return err
	}
	if err := judge(raw); err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		if judge(raw[:i]) == nil {
			t.Errorf("cut at %d passes", i)
		}
		for bit := range 8 {
			if bit != i%8 && bit != 7 {
				continue
			}
			b := append([]byte{}, raw...)
			b[i] ^= 1 << bit
			if err := judge(b); err == nil {
				t.Errorf("octet %d with bit %d flipped passes", i, bit)
			} else if code(err) == 0 {
				t.Errorf("octet %d: error without a code: %v", i, err)
			}
		}
	}
}

// TestClaimedLengths: a length of four gigabytes costs nothing, at any depth.
func TestClaimedLengths(t *testing.T) { // AllocsPerRun wants no company
	w := newWorld(t)
	raw := w.answer(t, testpki.OCSPAnswer{ProducedAt: signed}, w.signer)
	for i := range min(len(raw)-6, 400) {
		b := append([]byte{}, raw...)
		copy(b[i:], []byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})
		if r, err := ParseResponse(b); err == nil {
			if _, err := r.Verify(Check{Certificate: w.cert, Issuer: w.issuer, Responders: []*x509ti.Certificate{w.listed}, Now: signed}); err == nil {
				t.Errorf("octet %d: passes", i)
			}
		}
	}
	huge := []byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x0a, 0x01, 0x00}
	if n := testing.AllocsPerRun(10, func() { ParseResponse(huge) }); n > 20 {
		t.Errorf("%g allocations", n)
	}
	if _, err := ParseResponse(make([]byte, MaxSize+1)); code(err) != 1029 {
		t.Errorf("too long: %v", err)
	}
}

// TestDifferentialOpenSSL holds the judgement about generated answers next to that of "openssl ocsp".
func TestDifferentialOpenSSL(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl command is not installed")
	}
	n := 120
	if longrun.Long() {
		n = 2500
	}
	w := newWorld(t)
	dir := t.TempDir()
	write := func(name string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca, ee := write("ca.pem", w.issuer.Raw), write("ee.pem", w.cert.Raw)
	listed := write("listed.pem", w.listed.Raw)
	noSigner, err := w.pki.IssueX509(&w.pki.EGKCA, testpki.Template{
		Subject: []testpki.Attribute{{OID: []int{2, 5, 4, 3}, Value: "no signer"}}, NotBefore: signed.AddDate(-1, 0, 0), NotAfter: signed.AddDate(1, 0, 0), KeyUsage: testpki.UsageDigitalSignature,
	})
	if err != nil {
		t.Fatal(err)
	}
	signers := []testpki.X509Authority{w.signer, w.issued, w.pki.RSAOCSPSigner, {Key: noSigner.Key, Certificate: noSigner.Certificate}}
	r := mathrand.New(mathrand.NewPCG(11, 12))
	counts := map[string]int{}
	for i := range n {
		a := testpki.OCSPAnswer{
			Status: testpki.Status(r.IntN(3)), RevokedAt: signed.Add(-time.Duration(r.IntN(1000)) * time.Hour), ProducedAt: signed,
			ByKey: r.IntN(2) == 0, NoCertHash: r.IntN(4) == 0,
		}
		signer := signers[r.IntN(len(signers))]
		if r.IntN(2) == 0 {
			signer = signers[r.IntN(2)]
		}
		raw := w.answer(t, a, signer)
		damaged := r.IntN(3) == 0
		if damaged {
			raw[r.IntN(len(raw))] ^= 1 << r.IntN(8)
		}
		path := filepath.Join(dir, "response.der")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		out, _ := exec.Command("openssl", "ocsp", "-respin", path, "-issuer", ca, "-cert", ee, "-CAfile", ca, "-VAfile", listed, "-no_nonce",
			"-validity_period", "1000000000", "-attime", fmt.Sprint(signed.Unix())).CombinedOutput()
		theirs := "refused"
		if strings.Contains(string(out), "Response verify OK") {
			for text, name := range map[string]string{": good": "GOOD", ": revoked": "REVOKED", ": unknown": "UNKNOWN"} {
				if strings.Contains(string(out), "ee.pem"+text) {
					theirs = name
				}
			}
		}
		ours := "refused"
		var ourErr error
		response, err := ParseResponse(raw)
		if err == nil {
			var result Result
			if result, err = response.Verify(Check{
				Certificate: w.cert, Issuer: w.issuer, Responders: []*x509ti.Certificate{w.listed}, Now: signed, Tolerance: 1000 * time.Hour, IgnoreCertHash: true,
			}); err == nil {
				ours = result.Status.String()
			}
		}
		ourErr = err
		if ours == theirs {
			counts[ours]++
			continue
		}
		why := ""
		if ours == "refused" {
			for reason, rule := range stricterThanOpenSSL {
				if strings.Contains(ourErr.Error(), reason) {
					why = rule
				}
			}
		}
		if why == "" {
			t.Errorf("answer %d (%+v, damaged %v): %s here (%v), %s there\n%s", i, a, damaged, ours, ourErr, theirs, out)
		}
		counts["explained: "+why]++
	}
	t.Logf("%d answers: %v", n, counts)
	for _, kind := range []string{"GOOD", "REVOKED", "UNKNOWN", "refused"} {
		if counts[kind] < n/20 {
			t.Errorf("too few %s: %v", kind, counts)
		}
	}
}

// stricterThanOpenSSL explains each kind of answer that "openssl ocsp" accepts and this package does not.
var stricterThanOpenSSL = map[string]string{
	"OCSP_CERT_MISSING": "the responder's certificate stands in the answer and is listed or issued for OCSP octet by octet; with -VAfile OpenSSL uses its own copy of the certificate",
	"responder: ":       "the same: a damaged certificate in the answer is not looked at there",
}
