package testpki

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ktradv/internal/brainpool"
)

var testNow = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

var card = EGK{
	ICCSN: "80276003110000000017", KVNR: "X000000012", IK: "109500969", InsurerName: "Testkasse",
	Title: "Dr.", GivenName: "Jördis", Surname: "Müller-Übelhör",
}

func mustPKI(t testing.TB) *PKI {
	t.Helper()
	p, err := New(Config{Rand: rand.NewChaCha8([32]byte{7}), Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustEGK(t testing.TB, p *PKI, c EGK) EGKIdentity {
	t.Helper()
	id, err := p.IssueEGK(c)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestCVCLayout checks each field of the certificates at the offset where real cards have it.
func TestCVCLayout(t *testing.T) {
	t.Parallel()
	p := mustPKI(t)
	egk := mustEGK(t, p, card)
	adv, err := p.IssueKTRAdV("109500969", "AdV Testkasse", "80276003110000000501")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name     string
		cvc      []byte
		issuer   *brainpool.PublicKey
		own      *brainpool.PublicKey
		car, chr string
		oid      string
		flags    string
		ced, cxd string
	}{
		{"root", p.Root.Certificate, p.Root.Key.Public(), p.Root.Key.Public(), "4445414456810226", "4445414456810226", "2a8648ce3d040302", "ffffffffffffff", "020400030004", "030500030004"},
		{"card CA", egk.CACVC, p.Root.Key.Public(), p.CardCA.Key.Public(), "4445414456810226", "4445414456110226", "2a8648ce3d040302", "80000000000000", "020400030004", "030300030004"},
		{"KTR-AdV CA", adv.CACVC, p.Root.Key.Public(), p.KTRAdVCA.Key.Public(), "4445414456810226", "4445414456120226", "2a8648ce3d040302", "80ae1acdc1dc04", "020400030004", "030300030004"},
		{"foreign CA", p.ForeignCA.Certificate, p.ForeignRoot.Key.Public(), p.ForeignCA.Key.Public(), "44455a5a5a810226", "44455a5a5a110226", "2a8648ce3d040302", "80000000000000", "020400030004", "030300030004"},
		{"eGK", egk.CVC.Certificate, p.CardCA.Key.Public(), egk.CVC.Key.Public(), "4445414456110226", "000980276003110000000017", "2b2403050301", "00000000000000", "020500030004", "030000030004"},
		{"CHAT.0", adv.Null.Certificate, p.KTRAdVCA.Key.Public(), adv.Null.Key.Public(), "4445414456120226", "000680276003110000000501", "2b2403050301", "00000000000000", "020500030004", "030000030004"},
		{"CHAT.1", adv.AUTR.Certificate, p.KTRAdVCA.Key.Public(), adv.AUTR.Key.Public(), "4445414456120226", "000580276003110000000501", "2b2403050301", "00ae1acdc1dc00", "020500030004", "030000030004"},
	} {
		isCA := len(tc.chr) == 16
		body := "5f290170" + "4208" + tc.car
		if isCA {
			body += "7f494d0608"
		} else {
			body += "7f494b0606"
		}
		body += tc.oid + "8641" + hex.EncodeToString(tc.own.Bytes())
		if isCA {
			body += "5f2008"
		} else {
			body += "5f200c"
		}
		body += tc.chr + "7f4c1306082a8214004c0481185307" + tc.flags + "5f2506" + tc.ced + "5f2406" + tc.cxd
		head, size := "7f2181da7f4e8193", 222
		if isCA {
			head, size = "7f2181d87f4e8191", 220
		}
		want := head + body + "5f3740"
		got := hex.EncodeToString(tc.cvc)
		if len(tc.cvc) != size || !strings.HasPrefix(got, want) {
			t.Errorf("%s:\n have %s\n want %s...", tc.name, got, want)
			continue
		}
		digest := sha256.Sum256(tc.cvc[4 : len(tc.cvc)-67])
		if !tc.issuer.Verify(digest[:], tc.cvc[len(tc.cvc)-64:]) {
			t.Errorf("%s: signature does not verify", tc.name)
		}
	}
	if adv.Null.CHR == adv.AUTR.CHR {
		t.Error("the two KTR-AdV certificates share a CHR: the second would replace the first in a card")
	}
	foreign := card
	foreign.Foreign = true
	if id := mustEGK(t, p, foreign); id.RootCAR != p.ForeignRoot.CHR || !bytes.Equal(id.CACVC, p.ForeignCA.Certificate) || !id.RootKey.Equal(p.ForeignRoot.Key.Public()) {
		t.Error("a foreign card does not hang under the foreign root")
	}
}

func TestCVCOfLargerCurves(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		curve   *brainpool.Curve
		trailer int  // tag and length of the signature
		oid     byte // last octet of the key's OID
	}{{brainpool.P384r1(), 3, 2}, {brainpool.P512r1(), 4, 3}} {
		key, err := brainpool.GenerateKey(tc.curve, nil)
		if err != nil {
			t.Fatal(err)
		}
		der, err := WriteCVC(nil, CVC{Profile: 0x70, CAR: make([]byte, 8), PublicKey: key.Public(), CHR: make([]byte, 12), CED: testNow, CXD: testNow}, key)
		if err != nil {
			t.Fatal(err)
		}
		signature := der[len(der)-2*tc.curve.Size():]
		body := der[bytes.Index(der, []byte{0x7f, 0x4e}) : len(der)-len(signature)-tc.trailer]
		if !key.Public().Verify(digestFor(tc.curve, body), signature) {
			t.Errorf("%v: signature over 7F4E does not verify", tc.curve)
		}
		if at := bytes.Index(der, oidAuthS); at < 0 || der[at+len(oidAuthS)] != tc.oid {
			t.Errorf("%v: key OID does not name the curve's size", tc.curve)
		}
	}
}

// openssl runs the command in dir, skips without it, and returns standard output and error together.
func openssl(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl command is not installed")
	}
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func writePEM(t *testing.T, dir, name, kind string, blocks ...[]byte) {
	t.Helper()
	var b bytes.Buffer
	for _, der := range blocks {
		pem.Encode(&b, &pem.Block{Type: kind, Bytes: der})
	}
	if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestX509AgainstOpenSSL has OpenSSL read the certificates and verify their chains.
func TestX509AgainstOpenSSL(t *testing.T) {
	t.Parallel()
	p := mustPKI(t)
	egk := mustEGK(t, p, card)
	adv, err := p.IssueKTRAdV("109500969", "AdV Testkasse", "80276003110000000501")
	if err != nil {
		t.Fatal(err)
	}
	g2 := card
	g2.RSA = true
	old := mustEGK(t, p, g2)
	dir := t.TempDir()
	writePEM(t, dir, "egkca.pem", "CERTIFICATE", p.EGKCA.Certificate)
	writePEM(t, dir, "egkca2.pem", "CERTIFICATE", p.EGKRSACA.Certificate)
	writePEM(t, dir, "smbca.pem", "CERTIFICATE", p.SMBCA.Certificate)
	writePEM(t, dir, "kompca.pem", "CERTIFICATE", p.ComponentCA.Certificate)
	for _, tc := range []struct {
		name, ca string
		cert     []byte
		has      []string
		hasNot   []string
	}{
		{"CA", "egkca.pem", p.EGKCA.Certificate, []string{"CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign"}, nil},
		{"AUT", "egkca.pem", egk.AUT.Certificate,
			[]string{"brainpoolP256r1", "C = DE, O = Testkasse NOT-VALID, OU = 109500969, OU = X000000012, SN = ", "title = Dr.", "Policy: 1.2.276.0.76.4.70", "Policy: 1.2.276.0.76.4.163",
				"1.2.276.0.76.4.49", "Versicherte/-r", "X509v3 Key Usage: critical", "Digital Signature", "TLS Web Client Authentication", "CA:FALSE", "OCSP - URI:" + DefaultOCSPURL,
				"Not Before: Mar  4 00:00:00 2025 GMT", "Not After : Mar  3 23:59:59 2030 GMT"}, nil},
		{"AUTN", "egkca.pem", egk.AUTN.Certificate,
			[]string{"OU = 109500969, CN = ", "Policy: 1.2.276.0.76.4.71", "TLS Web Client Authentication", "Digital Signature"},
			[]string{"X000000012", "SN =", "GN =", "title ="}},
		{"ENC", "egkca.pem", egk.ENC.Certificate, []string{"Key Agreement", "Policy: 1.2.276.0.76.4.68", "X000000012"}, []string{"Digital Signature", "Client Authentication"}},
		{"ENCV", "egkca.pem", egk.ENCV.Certificate, []string{"Key Agreement", "Policy: 1.2.276.0.76.4.69"}, []string{"Digital Signature", "X000000012"}},
		{"HCI", "smbca.pem", adv.HCI.Certificate, []string{"CN = AdV Testkasse TEST-ONLY", "Policy: 1.2.276.0.76.4.77", "1.2.276.0.76.4.190", "registrationNumber: 7-109500969"}, nil},
		{"RSA CA", "egkca2.pem", p.EGKRSACA.Certificate, []string{"CA:TRUE, pathlen:0", "sha256WithRSAEncryption", "2048 bit"}, []string{"brainpool"}},
		{"RSA AUT", "egkca2.pem", old.AUT.Certificate,
			[]string{"2048 bit", "sha256WithRSAEncryption", "OU = X000000012", "Policy: 1.2.276.0.76.4.70", "Digital Signature, Key Encipherment", "TLS Web Client Authentication"}, nil},
		{"RSA AUTN", "egkca2.pem", old.AUTN.Certificate, []string{"2048 bit", "OU = 109500969, CN = ", "Policy: 1.2.276.0.76.4.71"}, []string{"X000000012", "SN ="}},
		{"RSA ENC", "egkca2.pem", old.ENC.Certificate, []string{"2048 bit", "Key Encipherment, Data Encipherment", "Policy: 1.2.276.0.76.4.68"}, []string{"Digital Signature", "Key Agreement"}},
		{"RSA ENCV", "egkca2.pem", old.ENCV.Certificate, []string{"2048 bit", "Key Encipherment, Data Encipherment", "Policy: 1.2.276.0.76.4.69"}, []string{"X000000012"}},
		{"RSA OCSP", "egkca2.pem", p.RSAOCSPSigner.Certificate, []string{"OCSP Signing", "Non Repudiation", "2048 bit"}, nil},
		{"OCSP", "egkca.pem", p.OCSPSigner.Certificate, []string{"OCSP Signing", "Non Repudiation"}, nil},
		{"OCSP2", "kompca.pem", p.OtherOCSPSigner.Certificate, []string{"OCSP Signing", "Non Repudiation"}, nil},
	} {
		writePEM(t, dir, tc.name+".pem", "CERTIFICATE", tc.cert)
		text, err := openssl(t, dir, "x509", "-in", tc.name+".pem", "-noout", "-text")
		if err != nil {
			t.Errorf("%s: %v\n%s", tc.name, err, text)
		}
		for _, s := range tc.has {
			if !strings.Contains(text, s) {
				t.Errorf("%s lacks %q:\n%s", tc.name, s, text)
			}
		}
		for _, s := range tc.hasNot {
			if strings.Contains(text, s) {
				t.Errorf("%s has %q", tc.name, s)
			}
		}
		at := "1772625600" // testNow
		if out, err := openssl(t, dir, "verify", "-x509_strict", "-check_ss_sig", "-attime", at, "-CAfile", tc.ca, tc.name+".pem"); err != nil {
			t.Errorf("%s does not verify: %v\n%s", tc.name, err, out)
		}
		other := map[string]string{"egkca.pem": "smbca.pem", "smbca.pem": "kompca.pem", "kompca.pem": "egkca2.pem", "egkca2.pem": "egkca.pem"}[tc.ca]
		if out, err := openssl(t, dir, "verify", "-attime", at, "-CAfile", other, tc.name+".pem"); err == nil {
			t.Errorf("%s verifies under another authority\n%s", tc.name, out)
		}
	}
}

// TestOCSPAgainstOpenSSL has OpenSSL ask and judge.
func TestOCSPAgainstOpenSSL(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p, err := New(Config{Rand: rand.NewChaCha8([32]byte{9}), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	egk := mustEGK(t, p, card)
	bad := card
	bad.Revoked = true
	revoked := mustEGK(t, p, bad)
	old := card
	old.RSA = true
	rsaCard := mustEGK(t, p, old)
	stranger, err := New(Config{Rand: rand.NewChaCha8([32]byte{10}), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writePEM(t, dir, "ca.pem", "CERTIFICATE", p.EGKCA.Certificate)
	writePEM(t, dir, "rsaca.pem", "CERTIFICATE", p.EGKRSACA.Certificate)
	for _, tc := range []struct {
		name   string
		cert   []byte
		faults []OCSPFault
		has    []string
		fails  bool
	}{
		{"good", egk.AUTN.Certificate, nil, []string{"Response verify OK", "good.pem: good"}, false},
		{"revoked", revoked.AUTN.Certificate, nil, []string{"Response verify OK", "revoked.pem: revoked"}, false},
		{"unknown", mustEGK(t, stranger, card).AUTN.Certificate, nil, []string{"Response verify OK", "unknown.pem: unknown"}, false},
		{"signature", egk.AUTN.Certificate, []OCSPFault{FaultSignature}, []string{"Response Verify Failure"}, true},
		{"rogue", egk.AUTN.Certificate, []OCSPFault{FaultRogueResponder}, []string{"Response Verify Failure"}, true},
		{"nosigner", egk.AUTN.Certificate, []OCSPFault{FaultNotASigner}, []string{"Response Verify Failure"}, true},
		{"stale", egk.AUTN.Certificate, []OCSPFault{FaultStale}, []string{"status too old"}, true},
		{"future", egk.AUTN.Certificate, []OCSPFault{FaultFuture}, []string{"status not yet valid"}, true},
		{"expired", egk.AUTN.Certificate, []OCSPFault{FaultExpired}, []string{"status expired"}, true},
		{"serial", egk.AUTN.Certificate, []OCSPFault{FaultOtherSerial}, []string{"No Status found"}, true},
		{"issuer", egk.AUTN.Certificate, []OCSPFault{FaultOtherIssuer}, []string{"No Status found"}, true},
		{"later", egk.AUTN.Certificate, []OCSPFault{FaultTryLater}, []string{"trylater"}, true},
		{"nonce repeated", egk.AUTN.Certificate, nil, []string{"Response verify OK"}, false},
		{"rsa", rsaCard.AUTN.Certificate, nil, []string{"Response verify OK", "rsa.pem: good"}, false},
		{"rsa signature", rsaCard.AUTN.Certificate, []OCSPFault{FaultSignature}, []string{"Response Verify Failure"}, true},
		{"nonce", egk.AUTN.Certificate, []OCSPFault{FaultNonce}, []string{"Nonce Verify error"}, true},
	} {
		writePEM(t, dir, tc.name+".pem", "CERTIFICATE", tc.cert)
		// A request with a nonce is judged as it was sent; the others by name, for which openssl builds the request again.
		ca := "ca.pem"
		if strings.HasPrefix(tc.name, "rsa") {
			ca = "rsaca.pem"
		}
		ask := []string{"ocsp", "-issuer", ca, "-cert", tc.name + ".pem", "-reqout", "req.der"}
		judge := []string{"ocsp", "-reqin", "req.der"}
		if !strings.HasPrefix(tc.name, "nonce") {
			ask = append(ask, "-no_nonce")
			judge = []string{"ocsp", "-no_nonce", "-issuer", ca, "-cert", tc.name + ".pem"}
		}
		if out, err := openssl(t, dir, ask...); err != nil {
			t.Fatalf("%s: %v\n%s", tc.name, err, out)
		}
		req, err := os.ReadFile(filepath.Join(dir, "req.der"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := p.OCSPResponse(req, p.StatusOf, now, tc.faults...)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, "resp.der"), resp, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := openssl(t, dir, append(judge, "-CAfile", ca, "-respin", "resp.der", "-status_age", "60", "-validity_period", "10")...)
		for _, s := range tc.has {
			if !strings.Contains(out, s) {
				t.Errorf("%s lacks %q (error %v):\n%s", tc.name, s, err, out)
			}
		}
		if !tc.fails && (err != nil || strings.Contains(out, "WARNING")) {
			t.Errorf("%s: %v\n%s", tc.name, err, out)
		}
		hash := sha256.Sum256(tc.cert)
		if tc.name == "good" && !bytes.Contains(resp, hash[:]) {
			t.Error("the response lacks the certificate's hash")
		}
	}
}

func TestOCSPOfNonsense(t *testing.T) {
	t.Parallel()
	p := mustPKI(t)
	statusOf := func(*big.Int) Status { t.Error("asked for a status"); return Good }
	for name, req := range map[string][]byte{"nothing": nil, "text": []byte("GET / HTTP/1.1"), "empty sequence": {0x30, 0}} {
		resp, err := p.OCSPResponse(req, statusOf, testNow)
		if err != nil || !bytes.Equal(resp, []byte{0x30, 3, 0x0a, 1, 1}) {
			t.Errorf("%s: %x, %v", name, resp, err)
		}
	}
}

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := Load(dir, Config{}); !errors.Is(err, ErrNoPKI) {
		t.Fatalf("load from nowhere: %v", err)
	}
	p := mustPKI(t)
	before := mustEGK(t, p, card)
	if err := p.Save(dir); err != nil {
		t.Fatal(err)
	}
	q, err := Load(dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if q.Root.CHR != p.Root.CHR || !q.Root.Key.Public().Equal(p.Root.Key.Public()) || !bytes.Equal(q.EGKCA.Certificate, p.EGKCA.Certificate) ||
		!q.EGKRSACA.RSA.Equal(p.EGKRSACA.RSA) || !bytes.Equal(q.RSAOCSPSigner.Certificate, p.RSAOCSPSigner.Certificate) || !q.Now().Equal(testNow) {
		t.Error("the loaded PKI differs")
	}
	// What one process issues and revokes, the other one knows.
	revoked := card
	revoked.Revoked = true
	after := mustEGK(t, p, revoked)
	for _, tc := range []struct {
		name string
		cert []byte
		want Status
	}{{"before", before.AUTN.Certificate, Good}, {"after", after.AUTN.Certificate, Revoked}} {
		serial, err := serialOf(tc.cert)
		if err != nil {
			t.Fatal(err)
		}
		if got := q.StatusOf(serial); got != tc.want {
			t.Errorf("%s: status %d, want %d", tc.name, got, tc.want)
		}
		if !bytes.Equal(q.Certificate(serial), tc.cert) {
			t.Errorf("%s: certificate is not in the register", tc.name)
		}
	}
	if got := q.StatusOf(big.NewInt(42)); got != Unknown {
		t.Errorf("status of a stranger: %d", got)
	}
	err = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(`{}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, Config{}); err == nil || errors.Is(err, ErrNoPKI) {
		t.Errorf("damaged folder: %v", err)
	}
}

func TestIssueTLSServer(t *testing.T) {
	t.Parallel()
	p, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := p.IssueTLSServer([]string{"adv.test"}, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "cert.pem"), cert, 0o600), os.WriteFile(filepath.Join(dir, "key.pem"), key, 0o600)); err != nil {
		t.Fatal(err)
	}
	writePEM(t, dir, "ca.pem", "CERTIFICATE", p.TLSCA)
	for _, id := range [][]string{{"-verify_hostname", "adv.test"}, {"-verify_ip", "127.0.0.1"}} {
		args := append([]string{"verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem"}, append(id, "cert.pem")...)
		if out, err := openssl(t, dir, args...); err != nil {
			t.Errorf("%v: %v\n%s", id, err, out)
		}
	}
	if out, err := openssl(t, dir, "verify", "-verify_hostname", "other.test", "-CAfile", "ca.pem", "cert.pem"); err == nil {
		t.Errorf("verifies for another name: %s", out)
	}
}

// TestConcurrentUse issues and answers from several goroutines; the race detector judges.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	p := mustPKI(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			id, err := p.IssueEGK(card)
			if err != nil {
				t.Error(err)
				return
			}
			serial, err := serialOf(id.AUTN.Certificate)
			if err != nil || p.StatusOf(serial) != Good {
				t.Errorf("status of what was just issued: %v", err)
			}
		})
	}
	wg.Wait()
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	p := mustPKI(t)
	for name, edit := range map[string]func(*EGK){
		"short ICCSN": func(c *EGK) { c.ICCSN = c.ICCSN[1:] }, "letter in ICCSN": func(c *EGK) { c.ICCSN = "8027600311000000001A" },
		"short IK": func(c *EGK) { c.IK = "12345678" }, "no KVNR": func(c *EGK) { c.KVNR = "" },
	} {
		c := card
		edit(&c)
		if _, err := p.IssueEGK(c); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
	if _, err := p.IssueKTRAdV("1", "x", "80276003110000000501"); err == nil {
		t.Error("KTR-AdV with a short IK issued")
	}
	if _, err := p.IssueKTRAdV("109500969", "x", "8"); err == nil {
		t.Error("KTR-AdV with a short ICCSN issued")
	}
	if _, err := New(Config{Rand: io.LimitReader(rand.NewChaCha8([32]byte{1}), 100)}); err == nil {
		t.Error("a PKI came out of a random source that ran dry")
	}
}

// TestCertificateIsDER: the standard library's DER reader takes every octet.
func TestCertificateIsDER(t *testing.T) {
	t.Parallel()
	p := mustPKI(t)
	var v asn1.RawValue
	if rest, err := asn1.Unmarshal(mustEGK(t, p, card).AUT.Certificate, &v); err != nil || len(rest) != 0 {
		t.Errorf("rest %d, %v", len(rest), err)
	}
}
