package x509ti_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"ktradv/internal/brainpool"
	"ktradv/internal/req"
	"ktradv/internal/testdata"
	"ktradv/internal/testpki"
	"ktradv/internal/x509ti"
)

// TestProfilesAgainstReference holds every row of the reference's table of profiles next to the table here.
func TestProfilesAgainstReference(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(testdata.Dir(t, ""), "../reference/pki.md"))
	if err != nil {
		t.Skip("the reference is not there: ", err)
	}
	_, table, ok := strings.Cut(string(raw), "| Profile | type OID |")
	if !ok {
		t.Fatal("the reference has no table of profiles")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	number := regexp.MustCompile(`\.(\d+)`)
	usages := map[string]x509ti.KeyUsage{
		"digitalSignature": x509ti.DigitalSignature, "nonRepudiation": x509ti.NonRepudiation, "keyAgreement": x509ti.KeyAgreement, "keyCertSign": x509ti.CertSign,
	}
	purposes := map[string]x509ti.OID{
		"clientAuth": x509ti.OIDClientAuth, "serverAuth": x509ti.OIDServerAuth, "OCSPSigning": x509ti.OIDOCSPSigning, "id-tsl-kp-tslSigning": x509ti.OIDTSLSigning,
	}
	word := regexp.MustCompile(`[A-Za-z][A-Za-z-]*`)
	rows := 0
	var above string // "as ENC" speaks of the row before
	plain := func(s string) string { return strings.Trim(strings.TrimSpace(s), "*") }
	for _, line := range strings.Split(table, "\n")[2:] {
		cells := strings.Split(line, "|")
		if len(cells) < 9 {
			t.Fatalf("row %q", line)
		}
		rows++
		name := plain(cells[1])
		p, err := x509ti.ProfileByName(name)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		var types []int
		for _, m := range number.FindAllStringSubmatch(cells[2], -1) {
			n, _ := strconv.Atoi(m[1])
			types = append(types, n)
		}
		for i, oid := range []x509ti.OID{p.Type, p.AltType} {
			if n, ok := x509ti.TINumber(oid); ok != (i < len(types)) || ok && n != types[i] {
				t.Errorf("%s: type %d is %v, want %v", name, i, oid, types)
			}
		}
		m := number.FindStringSubmatch(cells[3])
		if n, ok := x509ti.TINumber(p.Policy); !ok || m == nil || strconv.Itoa(n) != m[1] {
			t.Errorf("%s: policy %v, want %q", name, p.Policy, cells[3])
		}
		if strings.TrimSpace(cells[5]) == "as ENC" {
			cells[5] = above
		}
		above = cells[5]
		usage := word.FindString(cells[5])
		if usages[usage] == 0 || p.KeyUsage != usages[usage] {
			t.Errorf("%s: key usage %b, want %q", name, p.KeyUsage, cells[5])
		}
		wantRSA := x509ti.KeyUsage(0)
		if usage == "keyAgreement" { // the RSA variant stands in brackets
			wantRSA = x509ti.KeyEncipherment | x509ti.DataEncipherment
		}
		if p.RSAKeyUsage != wantRSA {
			t.Errorf("%s: key usage with RSA %b, want %b", name, p.RSAKeyUsage, wantRSA)
		}
		purpose := word.FindString(cells[6])
		if (purpose == "none" || purpose == "") != (p.ExtKeyUsage == nil) || p.ExtKeyUsage != nil && !p.ExtKeyUsage.Equal(purposes[purpose]) {
			t.Errorf("%s: extended key usage %v, want %q", name, p.ExtKeyUsage, cells[6])
		}
		if p.ExtKeyUsageOptional != strings.Contains(cells[6], "optional") {
			t.Errorf("%s: extended key usage optional: %v, want %q", name, p.ExtKeyUsageOptional, cells[6])
		}
		if health := strings.HasPrefix(name, "C.CH."); health != (p.Role != nil && p.Role.Equal(x509ti.OIDVersicherter)) || health != p.NoCertHash || health != p.Suspendable {
			t.Errorf("%s: role %v, certHash off %v, suspendable %v", name, p.Role, p.NoCertHash, p.Suspendable)
		}
		if p.QES != (name == "C.HP.QES") || p.CA != strings.Contains(name, "CA") {
			t.Errorf("%s: QES %v, CA %v", name, p.QES, p.CA)
		}
	}
	if rows != len(x509ti.Profiles) {
		t.Errorf("the reference has %d profiles, the table %d", rows, len(x509ti.Profiles))
	}
}

// TestOIDNumbers holds the names of roles and types next to the reference's list of identifiers.
func TestOIDNumbers(t *testing.T) {
	t.Parallel()
	for number, oid := range map[int]x509ti.OID{
		30: x509ti.OIDArzt, 31: x509ti.OIDZahnarzt, 32: x509ti.OIDApotheker, 33: x509ti.OIDApothekerassistent, 34: x509ti.OIDPharmazieingenieur,
		38: x509ti.OIDApothekenassistent, 45: x509ti.OIDPsychotherapeut, 49: x509ti.OIDVersicherter, 50: x509ti.OIDPraxisArzt,
		51: x509ti.OIDZahnarztpraxis, 52: x509ti.OIDPraxisPsychotherapie, 53: x509ti.OIDKrankenhaus, 54: x509ti.OIDApotheke,
		55: x509ti.OIDKrankenhausapotheke, 56: x509ti.OIDBundeswehrapotheke, 59: x509ti.OIDKostentraeger, 184: x509ti.OIDStamp,
		189: x509ti.OIDTSL, 190: x509ti.OIDAdVKTR, 259: x509ti.OIDERezept, 270: x509ti.OIDAbrechnung, 284: x509ti.OIDWeitereKostentraeger,
		164: x509ti.OIDTSLCCACert, 145: x509ti.OIDPolicyHBA, 163: x509ti.OIDPolicyOR, 176: x509ti.OIDPolicyTSLSigner,
	} {
		if n, ok := x509ti.TINumber(oid); !ok || n != number {
			t.Errorf("%v has number %d, want %d", oid, n, number)
		}
	}
	for _, oid := range []x509ti.OID{nil, {1, 2, 276, 0, 76, 4}, {1, 2, 276, 0, 76, 5, 70}, {1, 2, 276, 0, 76, 4, 70, 1}} {
		if _, ok := x509ti.TINumber(oid); ok {
			t.Errorf("%v counts as one of the telematics infrastructure", oid)
		}
	}
}

// template of a certificate that fits a profile; the parts are changed by the tests.
func template(profile x509ti.Profile) testpki.Template {
	t := testpki.Template{
		Subject: []testpki.Attribute{{OID: []int{2, 5, 4, 3}, Value: "Test TEST-ONLY"}}, NotBefore: testNow.AddDate(-1, 0, 0), NotAfter: testNow.AddDate(4, 0, 0),
		KeyUsage: int(profile.KeyUsage), Policies: [][]int{profile.Policy},
	}
	if profile.Type != nil {
		t.Policies = append(t.Policies, profile.Type)
	}
	if profile.ExtKeyUsage != nil {
		t.ExtKeyUsage = [][]int{profile.ExtKeyUsage}
	}
	if profile.Role != nil {
		t.Admission = &testpki.Admission{Item: "Rolle", OID: profile.Role}
	}
	return t
}

func TestJudge(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_4661-01", "GS-A_4751")
	p := pki(t)
	for _, profile := range x509ti.Profiles {
		if profile.CA {
			continue
		}
		for _, tc := range []struct {
			name   string
			change func(*testpki.Template)
			skip   bool
			step   string // "": nothing is found
			err    error
		}{
			{name: "as it should be"},
			{name: "no key usage", change: func(t *testpki.Template) { t.KeyUsage = 0 }, step: x509ti.StepKeyUsage, err: x509ti.WrongKeyUsage},
			{name: "another key usage", change: func(t *testpki.Template) { t.KeyUsage = testpki.UsageCRLSign }, step: x509ti.StepKeyUsage, err: x509ti.WrongKeyUsage},
			{name: "one more key usage", change: func(t *testpki.Template) { t.KeyUsage |= testpki.UsageCRLSign }, skip: profile.Name == "C.TSL.SIG"},
			{name: "one more key usage of a TSL signer", change: func(t *testpki.Template) { t.KeyUsage |= testpki.UsageDigitalSignature }, skip: profile.Name != "C.TSL.SIG",
				step: x509ti.StepKeyUsage, err: x509ti.WrongKeyUsage},
			{name: "no extended key usage", change: func(t *testpki.Template) { t.ExtKeyUsage = nil }, skip: profile.ExtKeyUsage == nil || profile.ExtKeyUsageOptional,
				step: x509ti.StepExtKeyUsage, err: x509ti.WrongExtendedKeyUsage},
			{name: "no extended key usage where it is optional", change: func(t *testpki.Template) { t.ExtKeyUsage = nil }, skip: !profile.ExtKeyUsageOptional},
			{name: "another extended key usage", change: func(t *testpki.Template) { t.ExtKeyUsage = [][]int{{1, 3, 6, 1, 5, 5, 7, 3, 4}} }, skip: profile.ExtKeyUsage == nil,
				step: x509ti.StepExtKeyUsage, err: x509ti.WrongExtendedKeyUsage},
			{name: "no policies", change: func(t *testpki.Template) { t.Policies = nil }, skip: profile.Type == nil, step: x509ti.StepType, err: x509ti.CertTypeInfoMissing},
			{name: "another type", change: func(t *testpki.Template) { t.Policies = [][]int{profile.Policy, {1, 2, 276, 0, 76, 4, 75}} }, skip: profile.Type == nil,
				step: x509ti.StepType, err: x509ti.CertTypeMismatch},
			{name: "the second type", change: func(t *testpki.Template) { t.Policies = [][]int{profile.AltType} }, skip: profile.AltType == nil},
			{name: "no role", change: func(t *testpki.Template) { t.Admission = nil }, skip: profile.Role == nil, step: x509ti.StepRole, err: x509ti.ErrRole},
			{name: "another role", change: func(t *testpki.Template) { t.Admission.OID = x509ti.OIDArzt }, skip: profile.Role == nil, step: x509ti.StepRole, err: x509ti.ErrRole},
			{name: "a CA", change: func(t *testpki.Template) { t.CA = true }, step: x509ti.StepCritical, err: x509ti.ErrCritical},
			{name: "unknown critical extension", change: func(t *testpki.Template) {
				t.Extra = []testpki.Extension{{OID: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
			}, step: x509ti.StepCritical, err: x509ti.ErrCritical},
			{name: "known extension made critical", change: func(t *testpki.Template) {
				t.Extra = []testpki.Extension{{OID: []int{2, 5, 29, 17}, Critical: true, Value: []byte{0x30, 3, 0x82, 1, 'a'}}}
			}, step: x509ti.StepCritical, err: x509ti.ErrCritical},
			{name: "unknown extension", change: func(t *testpki.Template) {
				t.Extra = []testpki.Extension{{OID: []int{1, 2, 3}, Value: []byte{5, 0}}}
			}},
		} {
			if tc.skip {
				continue
			}
			tmpl := template(profile)
			if tc.change != nil {
				tc.change(&tmpl)
			}
			id, err := p.IssueX509(&p.SMBCA, tmpl)
			if err != nil {
				t.Fatal(err)
			}
			found := profile.Judge(parse(t, id.Certificate))
			switch {
			case tc.step == "" && len(found) > 0:
				t.Errorf("%s, %s: %v", profile.Name, tc.name, found)
			case tc.step != "" && (len(found) != 1 || found[0].Step != tc.step || !errors.Is(found[0].Err, tc.err)):
				t.Errorf("%s, %s: %v, want %s: %v", profile.Name, tc.name, found, tc.step, tc.err)
			}
		}
	}
}

// TestRSAKeyUsage: certificates with RSA keys have other usages for encryption.
func TestRSAKeyUsage(t *testing.T) {
	t.Parallel()
	id, err := pki(t).IssueEGK(testpki.EGK{ICCSN: "80276003110000000024", KVNR: "X000000012", IK: "109500969", InsurerName: "K", GivenName: "A", Surname: "B", RSA: true})
	if err != nil {
		t.Fatal(err)
	}
	enc, err := x509ti.ProfileByName("C.CH.ENC")
	if err != nil {
		t.Fatal(err)
	}
	if found := enc.Judge(parse(t, id.ENC.Certificate)); len(found) > 0 {
		t.Errorf("%v", found)
	}
	if found := enc.Judge(parse(t, id.AUT.Certificate)); len(found) == 0 {
		t.Error("a certificate for signing passes as one for encryption")
	}
}

func TestQCStatements(t *testing.T) {
	t.Parallel()
	p := pki(t)
	der := func(oids ...x509ti.OID) []byte {
		var statements []struct{ ID asn1.ObjectIdentifier }
		for _, oid := range oids {
			statements = append(statements, struct{ ID asn1.ObjectIdentifier }{oid})
		}
		b, err := asn1.Marshal(statements)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, tc := range map[string]struct {
		value []byte
		good  bool
	}{
		"compliance and device": {der(x509ti.OIDQcCompliance, x509ti.OIDQcSSCD), true},
		"device only":           {der(x509ti.OIDQcSSCD), false},
		"empty":                 {[]byte{0x30, 0}, false},
		"not a sequence":        {[]byte{0x05, 0}, false},
		"damaged":               {[]byte{0x30, 2, 0x30, 9}, false},
		"absent":                {nil, false},
	} {
		tmpl := template(x509ti.HPQES)
		if tc.value != nil {
			tmpl.Extra = []testpki.Extension{{OID: []int{1, 3, 6, 1, 5, 5, 7, 1, 3}, Value: tc.value}}
		}
		id, err := p.IssueX509(&p.SMBCA, tmpl)
		if err != nil {
			t.Fatal(err)
		}
		if err := parse(t, id.Certificate).CheckQC(); (err == nil) != tc.good || err != nil && !errors.Is(err, x509ti.QCStatementError) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyAdmissible(t *testing.T) {
	t.Parallel()
	before, after := time.Date(2025, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	rsaKey := func(bits uint) any { return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), bits-1), E: 65537} }
	priv, err := brainpool.GenerateKey(brainpool.P256r1(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		key  any
		at   time.Time
		want x509ti.Admissibility
		name string
	}{
		{rsaKey(2048), before, x509ti.Admissible, "RSA 2048"},
		{rsaKey(2048), after, x509ti.PhasedOut, "RSA 2048"},
		{rsaKey(2999), after, x509ti.PhasedOut, "RSA 2999"},
		{rsaKey(3000), after, x509ti.Admissible, "RSA 3000"},
		{rsaKey(4096), after, x509ti.Admissible, "RSA 4096"},
		{rsaKey(2047), before, x509ti.NeverAdmissible, "RSA 2047"},
		{priv.Public(), after, x509ti.Admissible, "brainpoolP256r1"},
		{&ecdsa.PublicKey{Curve: elliptic.P256()}, after, x509ti.Admissible, "P-256"},
		{&ecdsa.PublicKey{Curve: elliptic.P384()}, after, x509ti.Admissible, "P-384"},
		{&ecdsa.PublicKey{Curve: elliptic.P521()}, after, x509ti.NeverAdmissible, "P-521"},
		{nil, after, x509ti.NeverAdmissible, "unknown"},
	} {
		if got := x509ti.KeyAdmissible(tc.key, tc.at); got != tc.want || x509ti.KeyName(tc.key) != tc.name {
			t.Errorf("%s at %s: %v, %s", tc.name, tc.at, got, x509ti.KeyName(tc.key))
		}
	}
}

// counting is a verifier that counts and refuses on demand.
type counting struct {
	n      int
	refuse bool
}

func (c *counting) VerifyECDSA(key *brainpool.PublicKey, digest, rs []byte) bool {
	c.n++
	return !c.refuse && key.Verify(digest, rs)
}

// TestVerifierSeam: a verifier decides about signatures on brainpool curves.
func TestVerifierSeam(t *testing.T) {
	t.Parallel()
	p := pki(t)
	cert, ca := parse(t, issueEGK(t).AUT.Certificate), parse(t, p.EGKCA.Certificate)
	v := &counting{}
	if err := cert.CheckSignatureFromWith(v, ca); err != nil || v.n != 1 {
		t.Errorf("%v after %d calls", err, v.n)
	}
	if err := cert.CheckSignatureFromWith(&counting{refuse: true}, ca); !errors.Is(err, x509ti.CertificateNotValidMath) {
		t.Errorf("a verifier that refuses: %v", err)
	}
}

func TestTestOnly(t *testing.T) {
	t.Parallel()
	dir := testdata.Dir(t, "pki")
	if !parse(t, readPEM(t, filepath.Join(dir, "certs/ca/GEM.TSL-CA51-TEST-ONLY.pem"))).TestOnly() {
		t.Error("a test CA does not count as one")
	}
	// Components have the mark in the organisation only.
	if !parse(t, readPEM(t, filepath.Join(dir, "certs/ee-valid/tp-fqdn-test-rsa.pem"))).TestOnly() {
		t.Error("a test component does not count as one")
	}
}

// TestEveryOctet: a certificate with any octet changed does not pass.
func TestEveryOctet(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_4655-01")
	ca := parse(t, pki(t).EGKCA.Certificate)
	der := issueEGK(t).AUTN.Certificate
	if err := parse(t, der).CheckSignatureFrom(ca); err != nil {
		t.Fatal(err)
	}
	for i := range der {
		changed := append([]byte{}, der...)
		changed[i] ^= 1 << (i % 8)
		c, err := x509ti.Parse(changed)
		if err != nil {
			if !errors.Is(err, x509ti.ErrMalformed) {
				t.Errorf("octet %d: %v", i, err)
			}
			continue
		}
		if c.CheckSignatureFrom(ca) == nil {
			t.Errorf("octet %d of %d changed: passes", i, len(der))
		}
	}
}
