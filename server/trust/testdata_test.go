package trust_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ktradv/internal/cms"
	"ktradv/internal/req"
	"ktradv/internal/testdata"
	"ktradv/internal/testpki"
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
		{"ee-valid/hci_aut_oid_adv_ktr.pem", "C.HCI.AUT", during, "altCA_revoked", good, trust.StepStatus, 1039, "README: other CAs are revoked"},
		{"ee-valid/egk_CCHAUT_default.pem", "C.CH.AUT", during, "altCA_revoked", good, trust.StepStatus, 1039, "README: other CAs are revoked"},
		{"ee-valid/erzpecc.pem", "C.FD.OSIG", during, "altCA_revoked", good, trust.StepStatus, 1039, "README: other CAs are revoked"},
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

// TestRevokedCAs: the published list that revokes three CAs. Nobody has published a certificate that one of them issued, so
// certificates are made that name them as issuers, with the key identifiers of the published CA certificates; the signature
// is wrong and said so in its own step. Published certificates are then judged by the published revocation as that of their
// own CA, where nothing else is wrong.
func TestRevokedCAs(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_4652-01", "GS-A_4751")
	const during = "2025-07-24T00:00:00Z"
	list := publicList(t, "ecc_valid_TSL_altCA_revoked")
	space := func(l *tsl.List) *trust.Space {
		s, err := trust.NewSpace(trust.Config{TSLs: []*tsl.List{l}, Clock: func() time.Time { return clock(t, during) }})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	w := newWorld(t)
	var revoked []tsl.State
	for _, s := range list.Of(tsl.TypeCAPKC) {
		if s.Status != tsl.StatusRevoked {
			continue
		}
		revoked = append(revoked, s.State)
		if len(s.Certificates) != 1 || !s.Certificates[0].IsCA {
			t.Fatalf("%s: %d certificates", s.Name, len(s.Certificates))
		}
		ca := s.Certificates[0]
		for _, tc := range []struct {
			issued time.Time
			code   int
		}{{s.Start.Add(time.Second), 1036}, {s.Start.AddDate(3, 0, 0), 1036}, {s.Start, 0}, {s.Start.Add(-time.Second), 0}} {
			tmpl := template(x509ti.HCIOSIG, x509ti.OIDApotheke)
			tmpl.NotBefore = tc.issued
			cert := w.issue(t, &testpki.X509Authority{Key: w.pki.SMBCA.Key, Certificate: ca.Raw}, tmpl)
			cert = parse(t, bytes.Replace(cert.Raw, cert.AuthorityKeyID, ca.SubjectKeyID, 1))
			r := space(list).Check(context.Background(), cert, trust.Options{Profiles: []x509ti.Profile{x509ti.HCIOSIG}, Offline: true})
			if r.Step(trust.StepCA).Verdict != trust.Valid || r.Step(trust.StepCertSignature).Code != 1024 {
				t.Fatalf("%s: %+v", s.Name, r.Steps)
			}
			if step := r.Step(trust.StepCAStatus); step.Code != tc.code || (step.Verdict == trust.Invalid) != (tc.code != 0) {
				t.Errorf("%s, issued %s: %+v, want code %d", s.Name, tc.issued, step, tc.code)
			}
		}
	}
	if len(revoked) != 3 {
		t.Fatalf("%d CAs are revoked, the README says three", len(revoked))
	}
	for _, row := range []struct{ file, profile string }{
		{"ee-valid/hci_aut_oid_adv_ktr.pem", "C.HCI.AUT"}, {"ee-valid/egk_CCHAUT_default.pem", "C.CH.AUT"}, {"ee-valid/erzpecc.pem", "C.FD.OSIG"},
	} {
		cert := publicCert(t, row.file)
		profile, err := x509ti.ProfileByName(row.profile)
		if err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			start   time.Time // of the revocation
			verdict trust.Verdict
			code    int
		}{{revoked[0].Start, trust.Invalid, 1036}, {cert.NotBefore, trust.Warnings, 0}, {cert.NotBefore.Add(-time.Second), trust.Invalid, 1036}} {
			copied := *list
			copied.Services = slices.Clone(list.Services)
			for i := range copied.Services {
				s := &copied.Services[i]
				if s.Type == tsl.TypeCAPKC && bytes.Equal(s.Certificates[0].RawSubject, cert.RawIssuer) {
					s.State = revoked[0]
					s.Start = tc.start
				}
			}
			r := space(&copied).Check(context.Background(), cert, trust.Options{Profiles: []x509ti.Profile{profile}, Offline: true})
			if r.Verdict != tc.verdict || r.Step(trust.StepCAStatus).Code != tc.code {
				t.Errorf("%s, CA revoked since %s: %v, %+v; want %v, code %d", row.file, tc.start, r.Verdict, r.Step(trust.StepCAStatus), tc.verdict, tc.code)
			}
			if n := r.Step(trust.StepCertSignature); n.Verdict != trust.Valid {
				t.Errorf("%s: %+v", row.file, n)
			}
		}
	}
}

// TestPublicAnchorChange drives the updater through the published lists: the anchor that the third announces takes over.
func TestPublicAnchorChange(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_4643")
	old, next := publicCert(t, "ca/GEM.TSL-CA51-TEST-ONLY.pem"), publicCert(t, "ca/GEM.TSL-CA52-TEST-ONLY.pem")
	list := func(name string) []byte { return publicList(t, name).Raw }
	revokes, plain, change := list("ecc_valid_TSL_altCA_revoked"), list("ecc_valid_TSL_default"), list("ecc_valid_TSL_TAchange")
	start := publicList(t, "ecc_valid_TSL_TAchange").Of(tsl.TypeCertChange)[0].Start
	for _, tc := range []struct {
		name     string
		accepted time.Time
		from     time.Time // of the new anchor
	}{
		{"before its start", start.Add(-time.Minute), start},
		{"after its start, as the list is published", start.Add(time.Hour), start.Add(time.Hour)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			u := &updating{t: t, dir: t.TempDir(), web: &web{}, now: tc.accepted.Add(-2 * time.Hour)}
			u.config = trust.UpdaterConfig{Anchors: []*x509ti.Certificate{old}, HTTP: u.web, Clock: func() time.Time { return u.now },
				Report: func(e trust.Event) { u.events = append(u.events, e) }}
			u.open()
			ctx := context.Background()
			for _, raw := range [][]byte{revokes, plain} {
				if ok, err := u.updater.Accept(ctx, raw); err != nil || !ok {
					t.Fatalf("%v, %v", ok, err)
				}
			}
			u.now, u.events = tc.accepted, nil
			if ok, err := u.updater.Accept(ctx, change); err != nil || !ok {
				t.Fatalf("%v, %v", ok, err)
			}
			if want := "trust anchor announced, from " + tc.from.Format(time.RFC3339); !strings.Contains(u.texts(), want) {
				t.Errorf("says %q, want %q", u.texts(), want)
			}
			raw, err := os.ReadFile(filepath.Join(u.dir, "index.json"))
			if err != nil {
				t.Fatal(err)
			}
			line, _, _ := bytes.Cut(raw, []byte("\n"))
			var index struct {
				Anchors []struct {
					Certificate  []byte
					From, Until  time.Time
					Origin, OCSP string
				}
			}
			if err := json.Unmarshal(line, &index); err != nil || len(index.Anchors) != 2 {
				t.Fatalf("%v, %d anchors", err, len(index.Anchors))
			}
			was, is := index.Anchors[0], index.Anchors[1]
			if !bytes.Equal(was.Certificate, old.Raw) || !was.Until.Equal(tc.from) || !bytes.Equal(is.Certificate, next.Raw) || !is.From.Equal(tc.from) ||
				!is.Until.IsZero() || is.Origin != "announced" || is.OCSP != "http://127.0.0.1:8083/ocsp/420010" {
				t.Errorf("anchors %+v and %+v", was, is)
			}
			u.now = tc.from.Add(time.Hour)
			u.open() // the old anchor's file is still in the configuration
			if refs := u.updater.Space().Lists(); len(refs) != 3 || refs[2].Sequence != 420010 {
				t.Errorf("lists %v", refs)
			}
			// The old lists are read below the anchor that was replaced.
			cert := publicCert(t, "ee-valid/hci_aut_oid_adv_ktr.pem")
			for _, ref := range u.updater.Space().Lists() {
				r := u.updater.Space().Check(ctx, cert, trust.Options{At: ref.Issued, Profiles: []x509ti.Profile{x509ti.HCIAUT}, Offline: true})
				if r.Verdict != trust.Warnings || r.List.Sequence != ref.Sequence || r.Step(trust.StepStatus).Code != 1039 {
					t.Errorf("by list %d: %v by %d, %+v", ref.Sequence, r.Verdict, r.List.Sequence, r.Steps)
				}
			}
		})
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
