package x509ti_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ktradv/internal/brainpool"
	"ktradv/internal/req"
	"ktradv/internal/testdata"
	"ktradv/internal/testpki"
	"ktradv/internal/x509ti"
)

var testNow = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

var sharedPKI = sync.OnceValues(func() (*testpki.PKI, error) {
	return testpki.New(testpki.Config{Rand: mathrand.NewChaCha8([32]byte{3}), Now: testNow})
})

func pki(t testing.TB) *testpki.PKI {
	t.Helper()
	p, err := sharedPKI()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func issueEGK(t testing.TB) testpki.EGKIdentity {
	t.Helper()
	id, err := pki(t).IssueEGK(testpki.EGK{
		ICCSN: "80276003110000000017", KVNR: "X000000012", IK: "109500969", InsurerName: "Testkasse", GivenName: "Jördis", Surname: "Müller",
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func parse(t testing.TB, der []byte) *x509ti.Certificate {
	t.Helper()
	c, err := x509ti.Parse(der)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return c
}

func readPEM(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		t.Fatalf("%s holds no PEM block", path)
	}
	return block.Bytes
}

func TestCardCertificate(t *testing.T) {
	t.Parallel()
	id := issueEGK(t)
	aut, autn := parse(t, id.AUT.Certificate), parse(t, id.AUTN.Certificate)
	if k, err := aut.KVNR(); err != nil || k.Reveal() != "X000000012" {
		t.Errorf("KVNR of C.CH.AUT: %v", err)
	}
	if _, err := autn.KVNR(); !errors.Is(err, x509ti.ErrNoKVNR) {
		t.Errorf("KVNR of C.CH.AUTN: %v", err)
	}
	for name, c := range map[string]*x509ti.Certificate{"AUT": aut, "AUTN": autn} {
		if ik, err := c.IK(); err != nil || ik != "109500969" {
			t.Errorf("IK of %s: %q, %v", name, ik, err)
		}
		if !c.PublicKey.(*brainpool.PublicKey).Equal(map[string]*brainpool.PrivateKey{"AUT": id.AUT.Key, "AUTN": id.AUTN.Key}[name].Public()) {
			t.Errorf("%s: key differs", name)
		}
		if c.KeyUsage != x509ti.DigitalSignature || !c.HasExtKeyUsage(x509ti.OIDClientAuth) || c.IsCA || len(c.UnhandledCritical) != 0 {
			t.Errorf("%s: usage %b, purposes %v", name, c.KeyUsage, c.ExtKeyUsage)
		}
		want := []x509ti.Admission{{Items: []string{"Versicherte/-r"}, OIDs: []x509ti.OID{x509ti.OIDVersicherter}}}
		if diff := cmp.Diff(want, c.Admissions); diff != "" {
			t.Errorf("%s: admission:\n%s", name, diff)
		}
		if diff := cmp.Diff([]string{testpki.DefaultOCSPURL}, c.OCSPURLs); diff != "" {
			t.Errorf("%s: addresses:\n%s", name, diff)
		}
	}
	if !aut.HasPolicy(x509ti.OIDEGKAut) || aut.HasPolicy(x509ti.OIDEGKAutN) || !autn.HasPolicy(x509ti.OIDEGKAutN) {
		t.Error("certificate types")
	}
	if cn := aut.SubjectValues(x509ti.OIDCommonName); len(cn) != 1 || cn[0].Reveal() != "Jördis Müller TEST-ONLY" {
		t.Error("common name")
	}
}

// TestInstitutionNumberForms: KVNR and IK are found by form, and only when there is exactly one.
func TestInstitutionNumberForms(t *testing.T) {
	t.Parallel()
	unit := []int{2, 5, 4, 11}
	for _, tc := range []struct {
		name     string
		units    []string
		kvnr, ik string
	}{
		{"IK first", []string{"109500969", "X000000012"}, "X000000012", "109500969"},
		{"KVNR first", []string{"X000000012", "109500969"}, "X000000012", "109500969"},
		{"others beside", []string{"Geschäftsstelle", "109500969", "X000000012", "1095009691"}, "X000000012", "109500969"},
		{"two IK", []string{"109500969", "101575519", "X000000012"}, "X000000012", ""},
		{"two KVNR", []string{"109500969", "X000000012", "Y000000012"}, "", "109500969"},
		{"wrong forms", []string{"10950096", "x000000012", "X00000001Ä"}, "", ""},
		{"none", nil, "", ""},
	} {
		var subject []testpki.Attribute
		for _, u := range tc.units {
			subject = append(subject, testpki.Attribute{OID: unit, Value: u})
		}
		id, err := pki(t).IssueX509(&pki(t).EGKCA, testpki.Template{Subject: subject, NotBefore: testNow, NotAfter: testNow, KeyUsage: 1})
		if err != nil {
			t.Fatal(err)
		}
		c := parse(t, id.Certificate)
		if k, err := c.KVNR(); k.Reveal() != tc.kvnr || (err == nil) != (tc.kvnr != "") {
			t.Errorf("%s: KVNR %q, %v", tc.name, k.Reveal(), err)
		}
		if ik, err := c.IK(); ik != tc.ik || (err == nil) != (tc.ik != "") {
			t.Errorf("%s: IK %q, %v", tc.name, ik, err)
		}
	}
}

// TestCheckEGKAUTN changes one thing at a time: each check must fail alone and with its own finding.
func TestCheckEGKAUTN(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_4655-01", "GS-A_4653-01", "GS-A_4661-01")
	p := pki(t)
	issuer := parse(t, p.EGKCA.Certificate)
	good := func() testpki.Template {
		return testpki.Template{
			Subject:   []testpki.Attribute{{OID: []int{2, 5, 4, 11}, Value: "109500969"}},
			NotBefore: testNow.Add(-time.Hour), NotAfter: testNow.Add(time.Hour), KeyUsage: testpki.UsageDigitalSignature,
			ExtKeyUsage: [][]int{x509ti.OIDClientAuth}, Policies: [][]int{testpki.OIDPolicyCP, testpki.OIDEGKAutN},
			Admission: &testpki.Admission{Item: "Versicherte/-r", OID: testpki.OIDVersicherter},
		}
	}
	for _, tc := range []struct {
		name       string
		edit       func(*testpki.Template)
		by         *testpki.X509Authority
		now        time.Time
		math, time bool
		want       error
	}{
		{name: "good", math: true, time: true},
		{name: "first second", now: testNow.Add(-time.Hour), math: true, time: true},
		{name: "last second", now: testNow.Add(time.Hour), math: true, time: true},
		{name: "not yet valid", now: testNow.Add(-time.Hour - time.Second), math: true, want: x509ti.CertificateNotValidTime},
		{name: "expired", now: testNow.Add(time.Hour + time.Second), math: true, want: x509ti.CertificateNotValidTime},
		{name: "key agreement only", edit: func(t *testpki.Template) { t.KeyUsage = testpki.UsageKeyAgreement }, time: true, want: x509ti.WrongKeyUsage},
		{name: "no key usage", edit: func(t *testpki.Template) { t.KeyUsage = 0 }, time: true, want: x509ti.WrongKeyUsage},
		{name: "more key usage", edit: func(t *testpki.Template) { t.KeyUsage |= testpki.UsageKeyAgreement }, math: true, time: true},
		{name: "no extended key usage", edit: func(t *testpki.Template) { t.ExtKeyUsage = nil }, time: true, want: x509ti.WrongExtendedKeyUsage},
		{name: "other extended key usage", edit: func(t *testpki.Template) { t.ExtKeyUsage = [][]int{x509ti.OIDOCSPSigning} }, time: true, want: x509ti.WrongExtendedKeyUsage},
		{name: "type oid_egk_aut", edit: func(t *testpki.Template) { t.Policies = [][]int{testpki.OIDPolicyCP, testpki.OIDEGKAut} }, time: true, want: x509ti.CertTypeMismatch},
		{name: "no policies", edit: func(t *testpki.Template) { t.Policies = nil }, time: true, want: x509ti.CertTypeInfoMissing},
		{name: "role of an SM-B", edit: func(t *testpki.Template) { t.Admission.OID = testpki.OIDAdVKTR }, time: true, want: x509ti.ErrRole},
		{name: "no role", edit: func(t *testpki.Template) { t.Admission = nil }, time: true, want: x509ti.ErrRole},
		{name: "unknown critical extension", edit: func(t *testpki.Template) {
			t.Extra = []testpki.Extension{{OID: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}, time: true, want: x509ti.ErrCritical},
		{name: "unknown other extension", edit: func(t *testpki.Template) {
			t.Extra = []testpki.Extension{{OID: []int{1, 2, 3, 4}, Value: []byte{5, 0}}}
		}, math: true, time: true},
		{name: "other issuer", by: &p.SMBCA, time: true, want: x509ti.CACertMissing},
		{name: "issuer's name, other key", by: &testpki.X509Authority{Key: p.SMBCA.Key, Certificate: p.EGKCA.Certificate}, time: true, want: x509ti.AuthorityKeyIDDifferent},
	} {
		template := good()
		if tc.edit != nil {
			tc.edit(&template)
		}
		by, now := &p.EGKCA, testNow
		if tc.by != nil {
			by = tc.by
		}
		if !tc.now.IsZero() {
			now = tc.now
		}
		id, err := p.IssueX509(by, template)
		if err != nil {
			t.Fatal(err)
		}
		math, valid, err := x509ti.CheckEGKAUTN(parse(t, id.Certificate), issuer, now)
		if math != tc.math || valid != tc.time || !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: math %v, time %v, %v; want %v, %v, %v", tc.name, math, valid, err, tc.math, tc.time, tc.want)
		}
	}

	// A signature that does not verify: the same certificate with one bit of its content changed.
	id, err := p.IssueX509(&p.EGKCA, good())
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(id.Certificate, []byte("109500969"))
	id.Certificate[at] ^= 8 // another digit
	forged := parse(t, id.Certificate)
	if math, valid, err := x509ti.CheckEGKAUTN(forged, issuer, testNow); math || !valid || !errors.Is(err, x509ti.CertificateNotValidMath) {
		t.Errorf("forged: %v, %v, %v", math, valid, err)
	}
	// An end-entity certificate is no issuer even when name and key fit.
	leaf := parse(t, issueEGK(t).AUT.Certificate)
	leafIssuer := testpki.X509Authority(issueEGK(t).AUT)
	leafIssuer.Certificate = leaf.Raw
	id, err = p.IssueX509(&leafIssuer, good())
	if err != nil {
		t.Fatal(err)
	}
	leafCert := *leaf
	leafCert.SubjectKeyID = parse(t, id.Certificate).AuthorityKeyID
	if math, _, err := x509ti.CheckEGKAUTN(parse(t, id.Certificate), &leafCert, testNow); math || !errors.Is(err, x509ti.CertificateNotValidMath) {
		t.Errorf("issued by a leaf: %v, %v", math, err)
	}
	if math, _, err := x509ti.CheckEGKAUTN(parse(t, id.Certificate), nil, testNow); math || !errors.Is(err, x509ti.CACertMissing) {
		t.Errorf("no issuer: %v, %v", math, err)
	}
	if math, valid, err := x509ti.CheckEGKAUTN(nil, issuer, testNow); math || valid || !errors.Is(err, x509ti.CertReadError) {
		t.Errorf("no certificate: %v, %v, %v", math, valid, err)
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	for err, want := range map[*x509ti.Error]string{
		x509ti.WrongKeyUsage: "WRONG_KEYUSAGE (1016)", x509ti.WrongExtendedKeyUsage: "WRONG_EXTENDEDKEYUSAGE (1017)",
		x509ti.CertTypeMismatch: "CERT_TYPE_MISMATCH (1018)", x509ti.CertReadError: "CERT_READ_ERROR (1019)",
		x509ti.CertificateNotValidTime: "CERTIFICATE_NOT_VALID_TIME (1021)", x509ti.AuthorityKeyIDDifferent: "AUTHORITYKEYID_DIFFERENT (1023)",
		x509ti.CertificateNotValidMath: "CERTIFICATE_NOT_VALID_MATH (1024)", x509ti.CACertMissing: "CA_CERT_MISSING (1027)",
		x509ti.CertTypeInfoMissing: "CERT_TYPE_INFO_MISSING (1033)",
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err.Error(), want)
		}
	}
	if errors.Is(x509ti.WrongKeyUsage, x509ti.WrongExtendedKeyUsage) {
		t.Error("two findings are equal")
	}
}

func TestCertificatePrintsRedacted(t *testing.T) {
	t.Parallel()
	c := parse(t, issueEGK(t).AUT.Certificate)
	out := fmt.Sprintf("%v %+v %#v %s %x", c, c, c, c, c) + fmt.Sprintf("%+v", c.Subject)
	for _, personal := range []string{"X000000012", "Müller", "Jördis"} {
		if strings.Contains(out, personal) {
			t.Errorf("printed %q", personal)
		}
	}
}

// TestStandardLibraryKeys: RSA and NIST certificates as Go's own writer makes them.
func TestStandardLibraryKeys(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec := func(c elliptic.Curve) crypto.Signer {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for _, tc := range []struct {
		name string
		key  crypto.Signer
		algo x509.SignatureAlgorithm
	}{
		{"P-256", ec(elliptic.P256()), x509.ECDSAWithSHA256},
		{"P-384", ec(elliptic.P384()), x509.ECDSAWithSHA384},
		{"P-521", ec(elliptic.P521()), x509.ECDSAWithSHA512},
		{"RSA PKCS #1 v1.5", rsaKey, x509.SHA256WithRSA},
		{"RSA PKCS #1 v1.5 SHA-512", rsaKey, x509.SHA512WithRSA},
		{"RSA-PSS", rsaKey, x509.SHA256WithRSAPSS},
		{"RSA-PSS SHA-384", rsaKey, x509.SHA384WithRSAPSS},
	} {
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: tc.name}, NotBefore: testNow, NotAfter: testNow.AddDate(60, 0, 0), IsCA: true,
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SignatureAlgorithm: tc.algo, SubjectKeyId: []byte{1, 2}, AuthorityKeyId: []byte{1, 2},
		}, &x509.Certificate{Subject: pkix.Name{CommonName: tc.name}, SubjectKeyId: []byte{1, 2}}, tc.key.Public(), tc.key)
		if err != nil {
			t.Fatal(err)
		}
		c := parse(t, der)
		if err := c.CheckSignatureFrom(c); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if !c.IsCA || c.PathLen != -1 || c.NotAfter.Year() != 2086 {
			t.Errorf("%s: CA %v, path length %d, until %v", tc.name, c.IsCA, c.PathLen, c.NotAfter)
		}
		der[len(der)-1] ^= 1
		if err := parse(t, der).CheckSignatureFrom(c); !errors.Is(err, x509ti.CertificateNotValidMath) {
			t.Errorf("%s, signature changed: %v", tc.name, err)
		}
	}
}

// TestSignatureAlgorithms refuses what gemSpec_Krypt does not admit, and mixed-up kinds of key.
func TestSignatureAlgorithms(t *testing.T) {
	t.Parallel()
	key, err := brainpool.GenerateKey(brainpool.P256r1(), nil)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256Sum([]byte("signed"))
	sig, err := key.SignASN1(nil, digest)
	if err != nil {
		t.Fatal(err)
	}
	ecdsaSHA256 := []byte{0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}
	if err := x509ti.CheckSignature(key.Public(), ecdsaSHA256, []byte("signed"), sig); err != nil {
		t.Errorf("good: %v", err)
	}
	rsaPublic := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}
	for name, tc := range map[string]struct {
		key any
		alg []byte
	}{
		"other text's key type":  {rsaPublic, ecdsaSHA256},
		"no key":                 {nil, ecdsaSHA256},
		"ECDSA with parameters":  {key.Public(), []byte{0x30, 0x0c, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2, 5, 0}},
		"ecdsa-with-SHA1":        {key.Public(), []byte{0x30, 0x09, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1}},
		"sha1WithRSA":            {rsaPublic, []byte{0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5, 5, 0}},
		"RSA algorithm, EC key":  {key.Public(), []byte{0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0}},
		"PSS without parameters": {rsaPublic, []byte{0x30, 0x0b, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10}},
		"PSS, SHA-1 by default":  {rsaPublic, []byte{0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10, 0x30, 0}},
		"empty":                  {key.Public(), nil},
		"no identifier":          {key.Public(), []byte{0x30, 0}},
	} {
		if err := x509ti.CheckSignature(tc.key, tc.alg, []byte("signed"), sig); !errors.Is(err, x509ti.CertificateNotValidMath) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func sha256Sum(b []byte) []byte {
	h := crypto.SHA256.New()
	h.Write(b)
	return h.Sum(nil)
}

// TestPublicCertificates runs over the published test certificates: all parse, their issuers are found where they are
// there, and the wrong ones fail for the reason in their name.
func TestPublicCertificates(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(testdata.Dir(t, "pki"), "certs")
	var cas []*x509ti.Certificate
	files, err := filepath.Glob(filepath.Join(dir, "ca", "*.pem"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d CA files, %v", len(files), err)
	}
	for _, f := range files {
		c, err := x509ti.Parse(readPEM(t, f))
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(f), err)
			continue
		}
		if !c.IsCA || c.KeyUsage&x509ti.CertSign == 0 {
			t.Errorf("%s is no CA", filepath.Base(f))
		}
		cas = append(cas, c)
	}
	if files, err = filepath.Glob(filepath.Join(dir, "ee-valid", "*.pem")); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := filepath.Base(f)
		c, err := x509ti.Parse(readPEM(t, f))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ca, err := c.FindIssuer(cas)
		if name == "tp-fqdn-test-rsa.pem" { // its issuer was not published beside it
			if !errors.Is(err, x509ti.CACertMissing) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := c.CheckSignatureFrom(ca); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, other := range cas {
			if !bytes.Equal(other.RawSPKI, ca.RawSPKI) && c.CheckSignatureFrom(other) == nil {
				t.Errorf("%s verifies under two CAs", name)
			}
		}
	}

	egk := parse(t, readPEM(t, filepath.Join(dir, "ee-valid", "egk_CCHAUT_default.pem")))
	kvnr, err1 := egk.KVNR()
	ik, err2 := egk.IK()
	if err1 != nil || err2 != nil || kvnr.Reveal() != "X110481951" || ik != "999567890" {
		t.Errorf("egk_CCHAUT_default: KVNR and IK: %v, %v", err1, err2)
	}
	if !egk.HasPolicy(x509ti.OIDEGKAut) || !slices.ContainsFunc(egk.Roles(), x509ti.OIDVersicherter.Equal) {
		t.Error("egk_CCHAUT_default: type or role")
	}
	adv := parse(t, readPEM(t, filepath.Join(dir, "ee-valid", "hci_aut_oid_adv_ktr.pem")))
	want := []x509ti.Admission{{Items: []string{"AdV-Umgebung bei Kostenträger"}, OIDs: []x509ti.OID{x509ti.OIDAdVKTR}, Registration: "9-11-AdV"}}
	if diff := cmp.Diff(want, adv.Admissions); diff != "" {
		t.Errorf("hci_aut_oid_adv_ktr: admission:\n%s", diff)
	}

	profile := x509ti.Profile{Type: x509ti.OIDSMBAut, KeyUsage: x509ti.DigitalSignature, ExtKeyUsage: x509ti.OIDClientAuth}
	cardProfile := x509ti.Profile{Type: x509ti.OIDEGKAut, Role: x509ti.OIDVersicherter, KeyUsage: x509ti.DigitalSignature}
	at := func(y int) time.Time { return time.Date(y, 6, 1, 0, 0, 0, 0, time.UTC) }
	for _, tc := range []struct {
		file    string
		profile x509ti.Profile
		want    error
		expired bool
	}{
		{"ee-valid/egk_CCHAUT_default.pem", cardProfile, nil, false},
		{"ee-valid/hci_aut_oid_adv_ktr.pem", profile, nil, false},
		{"ee-invalid/egk_CCHAUT_expired.pem", cardProfile, nil, true},
		{"ee-invalid/egk_CCHAUT_invalid-signature.pem", cardProfile, x509ti.CertificateNotValidMath, false},
		{"ee-invalid/BabetteBeyer-invalid-signature.pem", profile, x509ti.CertificateNotValidMath, false},
		{"ee-invalid/BabetteBeyer-invalid-certificate-type.pem", profile, x509ti.CertTypeMismatch, false},
		{"ee-invalid/BabetteBeyer-missing-policyId.pem", profile, x509ti.CertTypeInfoMissing, false},
		{"ee-invalid/BabetteBeyer-missing-keyUsage.pem", profile, x509ti.WrongKeyUsage, false},
		{"ee-invalid/BabetteBeyer-invalid-keyusage.pem", profile, x509ti.WrongKeyUsage, false},
		{"ee-invalid/BabetteBeyer-selfsigned.pem", profile, x509ti.CACertMissing, false},
	} {
		c, err := x509ti.Parse(readPEM(t, filepath.Join(dir, tc.file)))
		if err != nil {
			t.Errorf("%s: %v", tc.file, err)
			continue
		}
		ca, err := c.FindIssuer(cas)
		if err == nil {
			err = tc.profile.Check(c, ca)
		}
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v, want %v", tc.file, err, tc.want)
		}
		if c.ValidAt(at(2026)) == tc.expired {
			t.Errorf("%s: valid in 2026 is %v (%v to %v)", tc.file, !tc.expired, c.NotBefore, c.NotAfter)
		}
	}
}

// TestParseRefuses bends a good certificate in ways that a lenient reader would let through.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := issueEGK(t).AUT.Certificate
	if _, err := x509ti.Parse(good); err != nil {
		t.Fatal(err)
	}
	replace := func(old, new []byte) []byte {
		if n := bytes.Count(good, old); n != 1 {
			t.Fatalf("pattern %x occurs %d times", old, n)
		}
		return bytes.Replace(good, old, new, 1)
	}
	versionField := []byte{0xa0, 3, 2, 1, 2}
	for name, der := range map[string][]byte{
		"nothing":              nil,
		"trailing octet":       append(bytes.Clone(good), 0),
		"truncated":            good[:len(good)-1],
		"too long":             make([]byte, x509ti.MaxSize+1),
		"version 1":            replace(versionField, []byte{0xa0, 3, 2, 1, 0}),
		"version 4":            replace(versionField, []byte{0xa0, 3, 2, 1, 3}),
		"indefinite length":    append([]byte{0x30, 0x80}, append(bytes.Clone(good[4:]), 0, 0)...),
		"time without seconds": replace([]byte("250304000000Z"), []byte("2503040000+00")),
		"33rd of March":        replace([]byte("250304000000Z"), []byte("250333000000Z")),
		"invalid UTF-8":        replace([]byte("Jördis Müller"), []byte("J\xff\xb6rdis Müller")),
		"point off the curve":  replace(parse(t, good).PublicKeyBits[1:33], make([]byte, 32)),
		"unknown curve":        replace([]byte{0x2b, 0x24, 3, 3, 2, 8, 1, 1, 7}, []byte{0x2b, 0x24, 3, 3, 2, 8, 1, 1, 9}),
		"algorithms differ":    append(bytes.Clone(good[:bytes.LastIndex(good, []byte{4, 3, 2, 3})]), append([]byte{4, 3, 3}, good[bytes.LastIndex(good, []byte{4, 3, 2, 3})+3:]...)...),
	} {
		if _, err := x509ti.Parse(der); !errors.Is(err, x509ti.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Whole extensions, issued on purpose.
	for name, e := range map[string]testpki.Extension{
		"key usage twice":                {OID: []int{2, 5, 29, 15}, Value: []byte{3, 2, 7, 0x80}},
		"unknown twice":                  {OID: []int{2, 5, 29, 14}, Value: []byte{4, 1, 1}},
		"admission without content":      {OID: []int{1, 3, 36, 8, 3, 3}, Value: []byte{0x30, 0}},
		"key purposes empty":             {OID: []int{2, 5, 29, 37}, Value: []byte{0x30, 0}},
		"trailing octets after purposes": {OID: []int{2, 5, 29, 37}, Value: []byte{0x30, 3, 6, 1, 1, 0}},
	} {
		id, err := pki(t).IssueX509(&pki(t).EGKCA, testpki.Template{NotBefore: testNow, NotAfter: testNow, KeyUsage: 1, Extra: []testpki.Extension{e}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x509ti.Parse(id.Certificate); !errors.Is(err, x509ti.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTruncations: no prefix of a certificate parses and none panics.
func TestTruncations(t *testing.T) {
	t.Parallel()
	good := issueEGK(t).AUT.Certificate
	for i := range good {
		if _, err := x509ti.Parse(good[:i]); !errors.Is(err, x509ti.ErrMalformed) {
			t.Fatalf("prefix of %d octets: %v", i, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(issueEGK(f).AUT.Certificate)
	f.Add(pki(f).EGKCA.Certificate)
	adv, err := pki(f).IssueKTRAdV("109500969", "AdV", "80276003110000000501")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(adv.HCI.Certificate)
	f.Add(pki(f).TLSCA)
	issuer := parse(f, pki(f).EGKCA.Certificate)
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := x509ti.Parse(der)
		if err != nil {
			if !errors.Is(err, x509ti.ErrMalformed) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if !bytes.Equal(c.Raw, der) || len(c.Raw) > x509ti.MaxSize {
			t.Fatal("Raw differs")
		}
		c.KVNR()
		c.IK()
		x509ti.CheckEGKAUTN(c, issuer, testNow)
	})
}
