package tsl_test

import (
	"errors"
	"testing"
	"time"

	"ktradv/internal/testpki"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newPKI(t testing.TB) *testpki.PKI {
	t.Helper()
	p, err := testpki.New(testpki.Config{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func parseCert(t testing.TB, der []byte) *x509ti.Certificate {
	t.Helper()
	c, err := x509ti.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func state(kind, status string, start time.Time, information ...string) testpki.ListState {
	return testpki.ListState{Type: kind, Status: status, Start: start, Information: information}
}

// sample is a TSL with one entry of each kind that the reader treats in its own way.
func sample(p *testpki.PKI) testpki.List {
	start := now.AddDate(-1, 0, 0)
	return testpki.List{
		Sequence: 10017, Issued: now.Add(-time.Hour), NextUpdate: now.AddDate(0, 0, 30), Primary: "https://a.invalid/tsl.xml", Backup: "https://b.invalid/tsl.xml",
		Services: []testpki.ListService{
			{ListState: state(tsl.TypeCAPKC, tsl.StatusInAccord, start), Name: "SMC-B CA", Certificates: [][]byte{p.SMBCA.Certificate},
				SupplyPoints: []string{"http://ocsp.invalid/smcb"}, Extensions: []string{"1.2.276.0.76.4.77", "1.2.276.0.76.4.78"}},
			{ListState: state(tsl.TypeOCSP, tsl.StatusInAccord, start), Name: "OCSP signer", Certificates: [][]byte{p.OtherOCSPSigner.Certificate}},
			{ListState: state("http://example.invalid/new-kind", tsl.StatusInAccord, start), Name: "new kind", Certificates: [][]byte{{0x30, 0}}},
			{ListState: state(tsl.TypeVLSigner, tsl.StatusInAccord, start), Name: "VL", SupplyPoints: []string{"https://vl.invalid/de.xml"},
				Redirects: [][2]string{{"http://q.invalid/a", "http://ti.invalid/b"}}},
		},
	}
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	ca, signer, err := p.NewTSLAuthority(1)
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, err := p.NewTSLAuthority(2)
	if err != nil {
		t.Fatal(err)
	}
	rsaSigner := testpki.X509Authority{RSA: p.RSAOCSPSigner.RSA, Certificate: p.RSAOCSPSigner.Certificate}
	anchors := []*x509ti.Certificate{parseCert(t, ca.Certificate)}
	for _, tc := range []struct {
		name   string
		signer testpki.X509Authority
		loose  bool
		fault  testpki.ListFault
		at     time.Time
		code   int // 0: accepted
	}{
		{name: "canonical", signer: signer},
		{name: "another form of the same document", signer: signer, loose: true},
		{name: "content changed", signer: signer, fault: testpki.ListWrongDigest, code: 1013},
		{name: "SignedProperties changed", signer: signer, fault: testpki.ListWrongProps, code: 1013},
		{name: "signature over something else", signer: signer, fault: testpki.ListWrongSignature, code: 1013},
		{name: "SigningCertificate of another", signer: signer, fault: testpki.ListWrongCert, code: 1013},
		{name: "no signature", signer: signer, fault: testpki.ListNoSignature, code: 1002},
		{name: "two signatures", signer: signer, fault: testpki.ListTwoSignatures, code: 1012},
		{name: "signature not last", signer: signer, fault: testpki.ListSignatureFirst, code: 1002},
		{name: "Id twice", signer: signer, fault: testpki.ListDoubleID, code: 1002},
		{name: "no enveloped transform", signer: signer, fault: testpki.ListNoTransform, code: 1013},
		{name: "ECDSA as DER", signer: signer, fault: testpki.ListDERSignature, code: 1013},
		{name: "signer below another anchor", signer: foreign, code: 1042},
		{name: "signer that may not sign lists, RSA", signer: rsaSigner, code: 1017},
		{name: "signer run out", signer: signer, at: now.AddDate(6, 0, 0), code: 1021},
		{name: "anchor run out before its signer was", signer: signer, at: now.AddDate(-3, 0, -1), code: 1021},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := sample(p)
			l.Loose = tc.loose
			raw, err := p.WriteList(l, tc.signer, tc.fault)
			if err != nil {
				t.Fatal(err)
			}
			list, err := tsl.Parse(raw)
			if err != nil {
				if codeOf(err) != tc.code {
					t.Fatalf("Parse: %v, want code %d", err, tc.code)
				}
				return
			}
			at := tc.at
			if at.IsZero() {
				at = now
			}
			_, err = list.Verify(at, anchors, nil)
			if got := codeOf(err); got != tc.code || (err == nil) != (tc.code == 0) {
				t.Errorf("Verify: %v, want code %d", err, tc.code)
			}
		})
	}
}

// TestRSASignature: the RSA list uses RSASSA-PSS.
func TestRSASignature(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	for fault, good := range map[testpki.ListFault]bool{testpki.ListNone: true, testpki.ListWrongSignature: false} {
		raw, err := p.WriteList(sample(p), p.RSAOCSPSigner, fault)
		if err != nil {
			t.Fatal(err)
		}
		list, err := tsl.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := list.VerifyXML(nil); (err == nil) != good || !good && !errors.Is(err, tsl.XMLSignatureError) {
			t.Errorf("fault %d: VerifyXML: %v", fault, err)
		}
	}
}

// TestChainInKeyInfo: KeyInfo of a VL may hold the chain, that of a TSL holds one certificate.
func TestChainInKeyInfo(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	ca, signer, err := p.NewTSLAuthority(1)
	if err != nil {
		t.Fatal(err)
	}
	named := parseCert(t, signer.Certificate)
	for _, tc := range []struct {
		name          string
		vl            bool
		before, after [][]byte
		fault         testpki.ListFault
		code          int
	}{
		{name: "VL, one certificate", vl: true},
		{name: "VL, the CA after it", vl: true, after: [][]byte{ca.Certificate}},
		{name: "VL, the CA before it", vl: true, before: [][]byte{ca.Certificate}},
		{name: "VL, what is not looked at", vl: true, before: [][]byte{{0x30, 0}}},
		{name: "VL, SigningCertificate names one that is not there", vl: true, after: [][]byte{ca.Certificate}, fault: testpki.ListWrongCert, code: 1002},
		{name: "VL, SigningCertificate names the other", vl: true, after: [][]byte{p.EGKCA.Certificate}, fault: testpki.ListWrongCert, code: 1042},
		{name: "TSL, one certificate"},
		{name: "TSL, the CA after it", after: [][]byte{ca.Certificate}, code: 1002},
		{name: "TSL, the CA before it", before: [][]byte{ca.Certificate}, code: 1002},
	} {
		l := sample(p)
		l.VL, l.Before, l.After = tc.vl, tc.before, tc.after
		raw, err := p.WriteList(l, signer, tc.fault)
		if err != nil {
			t.Fatal(err)
		}
		list, err := tsl.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if tc.vl {
			err = list.VerifyVL(now, []*x509ti.Certificate{named}, nil)
		} else {
			_, err = list.Verify(now, []*x509ti.Certificate{parseCert(t, ca.Certificate)}, nil)
		}
		if codeOf(err) != tc.code || (err == nil) != (tc.code == 0) {
			t.Errorf("%s: %v, want code %d", tc.name, err, tc.code)
		}
	}
}

func codeOf(err error) int {
	var e *x509ti.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

func TestContent(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	_, signer, err := p.NewTSLAuthority(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, loose := range []bool{false, true} {
		l := sample(p)
		l.Loose = loose
		raw, err := p.WriteList(l, signer)
		if err != nil {
			t.Fatal(err)
		}
		list, err := tsl.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if list.Kind != tsl.TSL || list.Sequence != 10017 || !list.Issued.Equal(l.Issued) || !list.NextUpdate.Equal(l.NextUpdate) ||
			list.Location(tsl.TextPrimary) != "https://a.invalid/tsl.xml" || list.Location(tsl.TextBackup) != "https://b.invalid/tsl.xml" || list.Location("x") != "" {
			t.Errorf("loose %v: head of the list: %+v", loose, list.Pointers)
		}
		if len(list.Services) != 4 || list.Services[2].Unreadable != 1 || len(list.Of(tsl.TypeCAPKC)) != 1 {
			t.Fatalf("loose %v: %d services", loose, len(list.Services))
		}
		ca := list.Services[0]
		if !ca.Authorises(x509ti.OIDSMBOSig) || ca.Authorises(x509ti.OIDFDSig) || ca.SupplyPoints[0] != "http://ocsp.invalid/smcb" || ca.Name != "SMC-B CA" || ca.Provider != "TEST-ONLY provider" {
			t.Errorf("loose %v: CA %+v", loose, ca)
		}
		if r := list.Services[3].Redirects; len(r) != 1 || r[0] != (tsl.Redirect{From: "http://q.invalid/a", To: "http://ti.invalid/b"}) {
			t.Errorf("loose %v: redirects %v", loose, r)
		}
	}
}

// TestHistory: states of the BNetzA-VL at a time.
func TestHistory(t *testing.T) {
	t.Parallel()
	y := func(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }
	s := tsl.Service{State: tsl.State{Status: "c", Start: y(2024)}, History: []tsl.State{{Status: "a", Start: y(2016)}, {Status: "b", Start: y(2020)}}}
	for at, want := range map[time.Time]string{y(2015): "", y(2016): "a", y(2019): "a", y(2020): "b", y(2024).Add(-time.Second): "b", y(2024): "c", y(2030): "c"} {
		got, ok := s.StateAt(at)
		if got.Status != want || ok != (want != "") {
			t.Errorf("StateAt(%s) = %q, %v, want %q", at, got.Status, ok, want)
		}
	}
}
