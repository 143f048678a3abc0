package trust_test

import (
	"compress/gzip"
	"context"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ktradv/internal/cms"
	"ktradv/internal/req"
	"ktradv/internal/testdata"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
	"ktradv/server/trust"
)

func publicList(t testing.TB, name string) *tsl.List {
	t.Helper()
	f, err := os.Open(filepath.Join(testdata.Dir(t, "pki"), "tsl", name+".xml.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tsl.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func publicCert(t testing.TB, path string) *x509ti.Certificate {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(testdata.Dir(t, "pki"), "certs", path))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	return parse(t, block.Bytes)
}

func clock(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestPublicCertificates holds every published certificate of an end entity in one table. The status is left out on purpose
// (1039), so that a good one is valid with a warning.
func TestPublicCertificates(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_4652-01", "GS-A_4751", "ERP-10")
	const during, before = "2025-07-24T00:00:00Z", "2025-05-08T00:00:00Z"
	lists := map[string]*tsl.List{"default": publicList(t, "ecc_valid_TSL_default"), "altCA_revoked": publicList(t, "ecc_valid_TSL_altCA_revoked")}
	good := trust.Warnings
	rows := []struct {
		file, profile, clock, list string
		verdict                    trust.Verdict
		step                       string
		code                       int
		source                     string
	}{
		{"ee-valid/80276001011699901340-C_SMCB_OSIG_R2048_X509.pem", "C.HCI.OSIG", during, "default", good, trust.StepStatus, 1039, "README: valid"},
		{"ee-valid/Aschoffsche_Apotheke-AUT-twoCertTypes-ECC.pem", "C.HCI.AUT", during, "default", good, trust.StepStatus, 1039, "README: valid; one of its two types is asked for"},
		{"ee-valid/BabetteBeyer-missing-admission.pem", "C.HCI.AUT", during, "default", good, trust.StepStatus, 1039, "reference TUC_PKI_009: no role is no error"},
		{"ee-valid/BabetteBeyer.pem", "C.HCI.AUT", during, "default", trust.Invalid, x509ti.StepType, 1018, "argued: it is a C.HP.AUT (.75)"},
		{"ee-valid/LetitiaBeutelsbacher.pem", "C.CH.AUT", during, "default", good, trust.StepStatus, 1039, "README: valid"},
		{"ee-valid/PraxisBabetteBeyer.pem", "C.HCI.AUT", during, "default", good, trust.StepStatus, 1039, "README: valid"},
		{"ee-valid/cm_tls_nist_p256.pem", "C.HCI.AUT", during, "default", trust.Invalid, x509ti.StepType, 1018, "argued: it is a cm_tls_c (.175); the P-256 signature is good"},
		{"ee-valid/ee_komp_nist_test.pem", "C.FD.TLS-C", during, "default", good, trust.StepStatus, 1039, "README: P-256 key, valid"},
		{"ee-valid/egk_CCHAUT_default.pem", "C.CH.AUT", during, "default", good, trust.StepStatus, 1039, "README: valid"},
		{"ee-valid/egk_CCHAUT_default.pem", "C.CH.AUTN", during, "default", trust.Invalid, x509ti.StepType, 1018, "argued: AUT where AUTN is asked for"},
		{"ee-valid/erzpecc.pem", "C.FD.OSIG", during, "default", good, trust.StepStatus, 1039, "README: C.FD.OSIG"},
		{"ee-valid/erzpecc.pem", "C.FD.SIG", during, "default", trust.Invalid, x509ti.StepKeyUsage, 1016, "argued: nonRepudiation where digitalSignature is asked for"},
		{"ee-valid/erzprsa.pem", "C.FD.OSIG", during, "default", good, trust.StepStatus, 1039, "README: valid"},
		{"ee-valid/erzprsa.pem", "C.FD.OSIG", "2026-06-01T00:00:00Z", "default", good, trust.StepAdmissible, 0, "reference 1.3: RSA 2048 phased out, a warning (list extended)"},
		{"ee-valid/erzpecc.pem", "C.FD.OSIG", "2027-02-01T00:00:00Z", "default", trust.Invalid, trust.StepCertTime, 1021, "argued: run out by a wrong clock (list extended)"},
		{"ee-valid/fdsig_erezept.pem", "C.FD.SIG", during, "default", good, trust.StepStatus, 1039, "README: C.FD.SIG"},
		{"ee-valid/hci_aut_oid_adv_ktr.pem", "C.HCI.AUT", during, "default", good, trust.StepStatus, 1039, "README: identity of the KTR-AdV"},
		{"ee-valid/hci_aut_oid_adv_ktr.pem", "C.HCI.AUT", before, "default", trust.Invalid, trust.StepCertTime, 1021, "argued: a day too early"},
		{"ee-valid/hci_aut_oid_kostentraeger.pem", "C.HCI.AUT", during, "default", good, trust.StepStatus, 1039, "README: valid"},
		{"ee-valid/tp-fqdn-test-rsa.pem", "C.FD.TLS-S", during, "default", good, trust.StepStatus, 1039, "README: its CA is in the TSL only"},
		{"ee-invalid/BabetteBeyer-expired.pem", "C.HCI.AUT", during, "default", trust.Invalid, trust.StepCertTime, 1021, "README"},
		{"ee-invalid/BabetteBeyer-invalid-certificate-type.pem", "C.HCI.AUT", during, "default", trust.Invalid, x509ti.StepType, 1018, "README"},
		{"ee-invalid/BabetteBeyer-invalid-keyusage.pem", "C.HCI.AUT", during, "default", trust.Invalid, x509ti.StepKeyUsage, 1016, "README"},
		{"ee-invalid/BabetteBeyer-missing-keyUsage.pem", "C.HCI.AUT", during, "default", trust.Invalid, x509ti.StepKeyUsage, 1016, "README"},
		{"ee-invalid/BabetteBeyer-invalid-signature.pem", "C.HCI.AUT", during, "default", trust.Invalid, trust.StepCertSignature, 1024, "README"},
		{"ee-invalid/BabetteBeyer-missing-policyId.pem", "C.HCI.AUT", during, "default", trust.Invalid, x509ti.StepType, 1033, "README"},
		{"ee-invalid/BabetteBeyer-selfsigned.pem", "C.HCI.AUT", during, "default", trust.Indeterminate, trust.StepCA, 1027, "README: issuer not in the list"},
		{"ee-invalid/egk_CCHAUT_expired.pem", "C.CH.AUT", during, "default", trust.Invalid, trust.StepCertTime, 1021, "README"},
		{"ee-invalid/egk_CCHAUT_invalid-signature.pem", "C.CH.AUT", during, "default", trust.Invalid, trust.StepCertSignature, 1024, "README"},
	}
	seen := map[string]bool{}
	for _, row := range rows {
		seen[row.file] = true
		profile, err := x509ti.ProfileByName(row.profile)
		if err != nil {
			t.Fatal(err)
		}
		at := clock(t, row.clock)
		list := *lists[row.list]
		if at.After(list.NextUpdate) {
			list.NextUpdate = at.AddDate(1, 0, 0)
		}
		space, err := trust.NewSpace(trust.Config{TSLs: []*tsl.List{&list}, Clock: func() time.Time { return at }})
		if err != nil {
			t.Fatal(err)
		}
		r := space.Check(context.Background(), publicCert(t, row.file), trust.Options{Profiles: []x509ti.Profile{profile}, Offline: true})
		if step := r.Step(row.step); r.Verdict != row.verdict || step.Verdict != row.verdict || step.Code != row.code {
			t.Errorf("%s as %s: %v, step %+v; want %v with code %d (%s)", row.file, row.profile, r.Verdict, step, row.verdict, row.code, row.source)
		}
	}
	files, err := filepath.Glob(filepath.Join(testdata.Dir(t, "pki"), "certs/ee-*/*.pem"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, f := range files {
		if name := filepath.Join(filepath.Base(filepath.Dir(f)), filepath.Base(f)); !seen[name] {
			t.Errorf("%s stands in no row", name)
		}
	}
}

// TestRevokedCAs: in the list that revokes three CAs, what they issued afterwards is refused.
func TestRevokedCAs(t *testing.T) {
	t.Parallel()
	list := publicList(t, "ecc_valid_TSL_altCA_revoked")
	n := 0
	for _, s := range list.Of(tsl.TypeCAPKC) {
		if s.Status != tsl.StatusRevoked {
			continue
		}
		n++
		if len(s.Certificates) != 1 || !s.Certificates[0].IsCA {
			t.Errorf("%s: %d certificates", s.Name, len(s.Certificates))
		}
	}
	if n != 3 {
		t.Errorf("%d CAs are revoked, the README says three", n)
	}
}

// TestPublicAuthorities: which of the published CA certificates are CAs of which list.
func TestPublicAuthorities(t *testing.T) {
	t.Parallel()
	lists := []*tsl.List{publicList(t, "ecc_valid_TSL_default"), publicList(t, "pkits_ECC-RSA_TSL-test")}
	rows := []struct {
		file            string
		inDefault, inTU bool
	}{
		{"GEM.EGK-CA51-TEST-ONLY.pem", true, true},
		{"GEM.EGK-CA52_TEST-ONLY.pem", true, false},
		{"GEM.EGK-CA57-TEST-ONLY.pem", true, true},
		{"GEM.HBA-CA57-TEST-ONLY.pem", true, true},
		{"GEM.KOMP-CA50-TEST-ONLY.pem", true, true},
		{"GEM.KOMP-CA51.pem", true, true},
		{"GEM.KOMP-CA54.pem", true, true},
		{"GEM.KOMP-CA57-TEST-ONLY.pem", true, true},
		{"GEM.KOMP-CA61-TEST-ONLY.pem", true, true},
		{"GEM.KOMP-CA62_TEST-ONLY.pem", true, false},
		{"GEM.SMCB-CA41.pem", true, true},
		{"GEM.SMCB-CA51-TEST-ONLY.pem", true, true},
		{"GEM.SMCB-CA57-TEST-ONLY.pem", true, true},
		{"GEM.SMCB-CA58_TEST-ONLY.pem", true, false},
		{"GEM.TSL-CA40-TEST-ONLY.pem", false, false},
		{"GEM.TSL-CA51-TEST-ONLY.pem", true, false},
		{"GEM.TSL-CA52-TEST-ONLY.pem", false, false},
		{"GEM.TSL-CA54-TEST-ONLY_expired.pem", false, false},
		{"gem.hba-qca24_test-only.pem", false, false},
		{"gem.hba-qca51_test-only.pem", false, false},
		{"gem.hba-qca6_test-only.pem", false, false},
	}
	for _, row := range rows {
		ca := publicCert(t, "ca/"+row.file)
		if !ca.IsCA || ca.KeyUsage&x509ti.CertSign == 0 || !ca.TestOnly() {
			t.Errorf("%s: CA %v, key usage %b, test %v", row.file, ca.IsCA, ca.KeyUsage, ca.TestOnly())
		}
		for i, want := range []bool{row.inDefault, row.inTU} {
			found := false
			for _, s := range lists[i].Of(tsl.TypeCAPKC) {
				for _, c := range s.Certificates {
					found = found || c.Fingerprint() == ca.Fingerprint()
				}
			}
			if found != want {
				t.Errorf("%s in list %d: %v, want %v", row.file, i, found, want)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(testdata.Dir(t, "pki"), "certs/ca/*.pem"))
	if err != nil || len(files) != len(rows) {
		t.Errorf("%d files, %d rows, %v", len(files), len(rows), err)
	}
}

// TestPublicResponses holds every published OCSP response in one table: the signer's certificate of the record it was
// embedded in, at the signing time, with the TU list and a stand-in for the BNetzA-VL.
func TestPublicResponses(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-11", "ERP-13")
	tu := *publicList(t, "pkits_ECC-RSA_TSL-test")
	tu.NextUpdate = clock(t, "2030-01-01T00:00:00Z") // the newest list there is
	vl := &tsl.List{Kind: tsl.VL, Sequence: 1, Issued: clock(t, "2023-01-01T00:00:00Z"), NextUpdate: tu.NextUpdate}
	for _, file := range []string{"gem.hba-qca51_test-only.pem", "gem.hba-qca24_test-only.pem", "gem.hba-qca6_test-only.pem"} {
		ca := publicCert(t, "ca/"+file)
		vl.Services = append(vl.Services, tsl.Service{Name: file, Certificates: []*x509ti.Certificate{ca},
			State: tsl.State{Type: tsl.TypeCAQC, Status: tsl.StatusGranted, Start: ca.NotBefore, Information: []string{tsl.ForeSignatures}}})
	}
	space, err := trust.NewSpace(trust.Config{TSLs: []*tsl.List{&tu}, VLs: []*tsl.List{vl}})
	if err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		file, profile, at string
		verdict           trust.Verdict
		code              int // of the step about the status
		authorised        string
		source            string
	}{
		{"A2_verordnung_der_ocsp", "C.HP.QES", "2025-03-28T08:08:44Z", trust.Valid, 0, "issued", "MANIFEST: good, responder not in the TSL; reference 3: issued by the QES CA"},
		{"A4_quittung_osig_ocsp", "C.FD.OSIG", "2025-03-28T08:08:45Z", trust.Valid, 0, "listed", "MANIFEST: good, responder in the TSL"},
		{"A5_abgabe_smcb_fdcountersigned_ocsp", "C.HCI.OSIG", "2025-03-28T08:08:45Z", trust.Valid, 0, "listed", "MANIFEST: good, responder in the TSL, of another CA"},
		{"A6_verordnung_fdsigned_ocsp", "C.FD.OSIG", "2025-03-28T08:08:45Z", trust.Valid, 0, "listed", "MANIFEST: good; as the service's signature it is what it says"},
		{"B2_verordnung_der_ocsp", "C.HP.QES", "2024-02-08T18:20:30Z", trust.Valid, 0, "issued", "MANIFEST: good, responder not in the TSL"},
		{"B4_quittung_osig_ocsp", "C.FD.OSIG", "2024-02-08T18:20:32Z", trust.Valid, 0, "listed", "MANIFEST: good, responder in the TSL"},
		{"B5_abgabe_smcb_ocsp", "C.HCI.OSIG", "2024-02-08T18:20:34Z", trust.Valid, 0, "listed", "MANIFEST: good, responder in the TSL"},
		{"B5_abgabe_smcb_ocsp", "C.HCI.OSIG", "2024-02-09T18:20:34Z", trust.Indeterminate, 1029, "", "argued: a day later it is older than the longest age"},
		{"C2_quittung_pu_ca6_ocsp", "C.FD.OSIG", "2023-07-05T06:13:31Z", trust.Indeterminate, 0, "", "README: CA and responder are not in the test TSL; nothing is asked"},
	}
	seen := map[string]bool{}
	for _, row := range rows {
		seen[row.file] = true
		dir := testdata.Dir(t, "pki")
		response, err := os.ReadFile(filepath.Join(dir, "ocsp", row.file+".ocsp.der"))
		if err != nil {
			t.Fatal(err)
		}
		record, err := os.ReadFile(filepath.Join(dir, "cms", row.file+".p7s"))
		if err != nil {
			t.Fatal(err)
		}
		profile, err := x509ti.ProfileByName(row.profile)
		if err != nil {
			t.Fatal(err)
		}
		signer := signerOf(t, record, profile)
		at := clock(t, row.at)
		r := space.Check(context.Background(), signer, trust.Options{At: at, Now: at.AddDate(0, 0, 1), Profiles: []x509ti.Profile{profile}, Embedded: [][]byte{response}})
		step := r.Step(trust.StepStatus)
		if r.Verdict != row.verdict || step.Code != row.code || (r.OCSP == nil) != (row.authorised == "") || r.OCSP != nil && r.OCSP.Authorised != row.authorised {
			t.Errorf("%s: %v, %+v, facts %+v; want %v, code %d, %q (%s)", row.file, r.Verdict, step, r.OCSP, row.verdict, row.code, row.authorised, row.source)
		}
		if row.file == "C2_quittung_pu_ca6_ocsp" && r.Step(trust.StepCA).Code != 1027 {
			t.Errorf("%s: %+v", row.file, r.Steps)
		}
	}
	files, err := filepath.Glob(filepath.Join(testdata.Dir(t, "pki"), "ocsp/*.ocsp.der"))
	if err != nil || len(files) != len(seen) {
		t.Errorf("%d files, %d in rows, %v", len(files), len(seen), err)
	}
}

// signerOf returns the certificate of a record that has the profile's type.
func signerOf(t testing.TB, record []byte, profile x509ti.Profile) *x509ti.Certificate {
	t.Helper()
	sd, err := cms.Parse(record)
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range sd.Certificates {
		if c := parse(t, der); profile.TypeOf(c) != nil {
			return c
		}
	}
	t.Fatalf("no certificate of profile %s", profile.Name)
	return nil
}
