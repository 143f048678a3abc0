package erezept

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ktradv/internal/ocsp"
	"ktradv/internal/req"
	"ktradv/internal/testdata"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
	"ktradv/server/trust"
)

// qesCAs are the issuers of qualified test certificates, the stand-in for a BNetzA-VL of the test environment, which is
// not available.
var qesCAs = []string{"gem.hba-qca6_test-only.pem", "gem.hba-qca24_test-only.pem", "gem.hba-qca51_test-only.pem"}

func readGzip(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readCertificate(t testing.TB, path string) *x509ti.Certificate {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("%s holds no PEM", path)
	}
	c, err := x509ti.Parse(block.Bytes)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return c
}

// standInVL is a trusted list of these CAs, qualified since before any of them was made.
func standInVL(cas ...*x509ti.Certificate) *tsl.List {
	l := &tsl.List{Kind: tsl.VL, ID: "stand-in", Sequence: 1, Issued: time.Date(2016, 7, 1, 0, 0, 0, 0, time.UTC),
		NextUpdate: time.Date(2035, 1, 1, 0, 0, 0, 0, time.UTC), Hash: sha256.Sum256([]byte("stand-in"))}
	for _, ca := range cas {
		l.Services = append(l.Services, tsl.Service{Name: "QES CA", Certificates: []*x509ti.Certificate{ca},
			State: tsl.State{Type: tsl.TypeCAQC, Status: tsl.StatusGranted, Start: l.Issued, Information: []string{tsl.ForeSignatures}}})
	}
	return l
}

// stores are the trust spaces of the table.
func stores(t testing.TB, dir string) map[string]*trust.Space {
	t.Helper()
	list := func(name string) *tsl.List {
		l, err := tsl.Parse(readGzip(t, filepath.Join(dir, "tsl", name)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return l
	}
	// The genuine content of the test environment's list of November 2024. It ran out a month later; with its end moved it
	// stands for the lists that followed, which have the same entries for the CAs of the records.
	tu := list("pkits_ECC-RSA_TSL-test.xml.gz")
	later := list("pkits_ECC-RSA_TSL-test.xml.gz")
	later.NextUpdate = day("2029-01-01")
	var qes []*x509ti.Certificate
	for _, name := range qesCAs {
		qes = append(qes, readCertificate(t, filepath.Join(dir, "certs", "ca", name)))
	}
	glp := list("ecc_valid_TSL_default.xml.gz")
	glp.NextUpdate = day("2029-01-01")
	space := func(c trust.Config) *trust.Space {
		s, err := trust.NewSpace(c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	return map[string]*trust.Space{
		"tu+qes":  space(trust.Config{TSLs: []*tsl.List{later}, VLs: []*tsl.List{standInVL(qes...)}}),
		"tu":      space(trust.Config{TSLs: []*tsl.List{later}}),
		"tu 2024": space(trust.Config{TSLs: []*tsl.List{tu}, VLs: []*tsl.List{standInVL(qes...)}}),
		"glp+qes": space(trust.Config{TSLs: []*tsl.List{glp}, VLs: []*tsl.List{standInVL(qes...)}}),
		"empty":   space(trust.Config{}),
	}
}

// fixedStatus answers for every certificate: good, or revoked at a time.
type fixedStatus struct{ revoked time.Time }

func (f fixedStatus) Status(_ context.Context, q trust.StatusQuery) (trust.StatusAnswer, error) {
	a := trust.StatusAnswer{Source: "online", Result: ocsp.Result{Status: ocsp.Good, ProducedAt: q.Now, ThisUpdate: q.Now, CertHash: true}}
	if !f.revoked.IsZero() {
		a.Status, a.RevokedAt = ocsp.Revoked, f.revoked
		if f.revoked.After(q.At) {
			a.Status = ocsp.Good
		}
	}
	return a, nil
}

func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}

// row is a line of the table: what is checked, how, and what must come of it.
type row struct {
	file   string
	kind   Kind   // "" takes what the content says
	clock  string // day of the check
	store  string // see stores
	status trust.StatusSource
	want   Verdict
	step   StepID // that decides, with its code; none for Valid
	code   Code
	source string // README of the data, section of the reference, or why
}

var revokedLater, revokedBefore = fixedStatus{revoked: day("2026-01-01")}, fixedStatus{revoked: day("2019-01-01")}

// publicTable has every file of the public data that is a record, in every situation that makes a difference.
var publicTable = []row{
	// A: one prescription of March 2025.
	{"cms/A1_verordnung_ber.p7s", Prescription, "2025-04-01", "tu+qes", fixedStatus{}, Valid, 0, 0, "README: as the practice has it; ERP-15: no embedded answer, so online"},
	{"cms/A1_verordnung_ber.p7s", Prescription, "2025-04-01", "tu+qes", nil, Indeterminate, StepStatus, CodeNoStatusSource, "ERP-15: nobody to be asked"},
	{"cms/A1_verordnung_ber.p7s", Prescription, "2025-04-01", "tu+qes", revokedBefore, Invalid, StepStatus, 1047, "ERP-20: revoked before signing"},
	{"cms/A1_verordnung_ber.p7s", Prescription, "2026-04-01", "tu+qes", revokedLater, Valid, 0, 0, "ERP-20: revoked after signing"},
	{"cms/A1_verordnung_ber.p7s", Prescription, "2029-04-01", "tu+qes", nil, Indeterminate, StepStatus, CodeAged, "ERP-21: certificate ended in 2028"},
	{"cms/A1_verordnung_ber.p7s", Prescription, "2025-04-01", "tu", fixedStatus{}, Indeterminate, StepList, 1027, "ERP-12: no BNetzA-VL"},
	{"cms/A1_verordnung_ber.p7s", Prescription, "2024-04-01", "tu+qes", fixedStatus{}, Indeterminate, StepSigningTime, CodeSignedInFuture, "wrong clock"},
	{"cms/A1_verordnung_ber.p7s", Dispensing, "2025-04-01", "tu+qes", fixedStatus{}, Invalid, StepKind, CodeWrongKind, "a prescription in the place of another record"},
	{"cms/A1_verordnung_ber.p7s", Receipt, "2025-04-01", "tu+qes", fixedStatus{}, Invalid, StepType, 1018, "a doctor signs no receipt"},
	{"cms/A2_verordnung_der_ocsp.p7s", Prescription, "2025-04-01", "tu+qes", nil, Valid, 0, 0, "README: same signature with embedded answer (ERP-11)"},
	{"cms/A2_verordnung_der_ocsp.p7s", Prescription, "2031-04-01", "tu+qes", nil, Valid, 0, 0, "an embedded answer does not age with the certificate"},
	{"cms/A2_verordnung_der_ocsp.p7s", Prescription, "2025-04-01", "empty", nil, Indeterminate, StepList, 1027, "no list at all"},
	{"cms/A3_abgabe_ber_smcb.p7s", Dispensing, "2025-04-01", "tu+qes", fixedStatus{}, Valid, 0, 0, "README: SMC-B, no embedded answer (ERP-07)"},
	{"cms/A3_abgabe_ber_smcb.p7s", Dispensing, "2025-04-01", "tu+qes", nil, Indeterminate, StepStatus, CodeNoStatusSource, "ERP-15"},
	{"cms/A3_abgabe_ber_smcb.p7s", Dispensing, "2025-04-01", "tu+qes", revokedBefore, Invalid, StepStatus, 1047, "ERP-20"},
	{"cms/A3_abgabe_ber_smcb.p7s", Dispensing, "2025-04-01", "tu 2024", fixedStatus{}, Indeterminate, StepList, 1009, "the list had run out, and there is no other (GS-A_5336)"},
	{"cms/A3_abgabe_ber_smcb.p7s", Prescription, "2025-04-01", "tu+qes", fixedStatus{}, Invalid, StepType, 1018, "a pharmacy signs no prescription"},
	{"cms/A4_quittung_osig_ocsp.p7s", Receipt, "2025-04-01", "tu+qes", nil, Valid, 0, 0, "README: C.FD.OSIG with answer"},
	{"cms/A4_quittung_osig_ocsp.p7s", Receipt, "2025-04-01", "tu", nil, Valid, 0, 0, "nonQES needs no BNetzA-VL"},
	{"cms/A4_quittung_osig_ocsp.p7s", Receipt, "2025-04-01", "glp+qes", nil, Valid, 0, 0, "KOMP-CA56 and its responder are in this list, too"},
	{"cms/A5_abgabe_smcb_fdcountersigned_ocsp.p7s", Dispensing, "2025-04-01", "tu+qes", nil, Valid, 0, 0, "README: countersigned, two certificates; the answer is that of the SMC-B; status of the countersigner is noted as unknown"},
	{"cms/A5_abgabe_smcb_fdcountersigned_ocsp.p7s", Dispensing, "2025-04-01", "tu+qes", fixedStatus{}, Valid, 0, 0, "README"},
	{"cms/A6_verordnung_fdsigned_ocsp.p7s", Prescription, "2025-04-01", "tu+qes", fixedStatus{}, Invalid, StepType, 1018, "re-signed by the Fachdienst: no QES of a doctor"},
	{"cms/A6_verordnung_fdsigned_ocsp.p7s", Unknown, "2025-04-01", "tu", nil, Invalid, StepType, 1018, "the same when nobody says what is expected"},
	{"cms/A6_verordnung_fdsigned_ocsp.p7s", Document, "2025-04-01", "tu+qes", nil, Valid, 0, 0, "the signature as such is one of the Fachdienst"},
	// B: one prescription of February 2024, older CAs.
	{"cms/B1_verordnung_der.p7s", Prescription, "2024-12-01", "tu+qes", fixedStatus{}, Valid, 0, 0, "README"},
	{"cms/B1_verordnung_der.p7s", Prescription, "2024-12-01", "tu+qes", nil, Indeterminate, StepStatus, CodeNoStatusSource, "ERP-15"},
	{"cms/B2_verordnung_der_ocsp.p7s", Prescription, "2024-12-01", "tu+qes", nil, Valid, 0, 0, "README"},
	{"cms/B3_abgabe_der_smcb.p7s", Dispensing, "2024-12-01", "tu 2024", fixedStatus{}, Valid, 0, 0, "README; the list as published, in its time"},
	{"cms/B3_abgabe_der_smcb.p7s", Dispensing, "2024-12-13", "tu 2024", nil, Indeterminate, StepStatus, CodeAged, "ERP-21: certificate ended on 11 December 2024"},
	{"cms/B4_quittung_osig_ocsp.p7s", Receipt, "2024-12-01", "tu 2024", nil, Valid, 0, 0, "README; the list as published, in its time"},
	{"cms/B4_quittung_osig_ocsp.p7s", Receipt, "2024-12-26", "tu 2024", nil, Indeterminate, StepList, 1009, "the same list one day after its end"},
	{"cms/B5_abgabe_smcb_ocsp.p7s", Dispensing, "2024-12-01", "tu 2024", nil, Valid, 0, 0, "README: B3 with answer (ERP-13)"},
	// C: what is special.
	{"cms/C1_quittung_fdsig_2021_noocsp.p7s", Receipt, "2024-12-01", "tu 2024", fixedStatus{}, Warning, StepKeyUsage, CodeDigitalSignature, "README: transition rule (b); ERP-08, ERP-17"},
	{"cms/C1_quittung_fdsig_2021_noocsp.p7s", Receipt, "2024-12-01", "tu 2024", nil, Indeterminate, StepStatus, CodeNoStatusSource, "ERP-15"},
	{"cms/C1_quittung_fdsig_2021_noocsp.p7s", Receipt, "2026-11-22", "tu+qes", nil, Indeterminate, StepStatus, CodeAged, "ERP-21: certificate ended in August 2025"},
	{"cms/C2_quittung_pu_ca6_ocsp.p7s", Receipt, "2024-12-01", "tu 2024", fixedStatus{}, Indeterminate, StepCA, 1027, "README: production; its CA is not in the test list"},
	{"cms/C3_verordnung_rsapss_baddigest.p7s", Prescription, "2024-12-01", "tu 2024", fixedStatus{}, Invalid, StepDigest, CodeDigest, "README: content does not match messageDigest"},
	{"cms/C4_verordnung_smcb_signed_wrong_type.p7s", Prescription, "2024-12-01", "tu 2024", fixedStatus{}, Invalid, StepType, 1018, "README: C.HCI.AUT in place of a QES"},
	{"cms/C4_verordnung_smcb_signed_wrong_type.p7s", Prescription, "2024-12-01", "tu 2024", fixedStatus{}, Invalid, StepKeyUsage, 1016, "the same: key usage"},
	{"cms/C4_verordnung_smcb_signed_wrong_type.p7s", Dispensing, "2024-12-01", "tu 2024", fixedStatus{}, Invalid, StepType, 1018, "nor C.HCI.OSIG"},
	{"cms/C5_helloworld_qes.p7s", Document, "2024-12-01", "tu 2024", fixedStatus{}, Valid, 0, 0, "README: QES, RSA with PKCS#1 v1.5, over a text"},
	{"cms/C5_helloworld_qes.p7s", Prescription, "2024-12-01", "tu 2024", fixedStatus{}, Invalid, StepKind, CodeContent, "a text is no prescription"},
	{"cms/C5_helloworld_qes.p7s", Unknown, "2024-12-01", "tu 2024", fixedStatus{}, Indeterminate, StepKind, CodeUnknownKind, "nobody says what it should be"},
	{"cms/C6_helloworld_qes_badsig.p7s", Document, "2024-12-01", "tu 2024", fixedStatus{}, Invalid, StepSignature, CodeSignature, "README: broken signature"},
	// Wrappers.
	{"fhir/accept_response_bundle_binary_verordnung.xml", Prescription, "2025-04-01", "tu+qes", fixedStatus{}, Valid, 0, 0, "README: Binary.data in a Bundle"},
	{"fhir/quittung_response_bundle_signature_data.xml", Receipt, "2025-04-01", "tu+qes", nil, Valid, 0, 0, "README: Bundle.signature.data"},
	{"fhir/verordnung_signed_document.b64", Prescription, "2025-04-01", "tu+qes", fixedStatus{}, Valid, 0, 0, "README: base64 text"},
	// What is no record.
	{"cms/MANIFEST.tsv", Unknown, "2025-04-01", "tu+qes", fixedStatus{}, Invalid, StepContainer, CodeContainer, "a table"},
	{"ocsp/A2_verordnung_der_ocsp.ocsp.der", Unknown, "2025-04-01", "tu+qes", fixedStatus{}, Invalid, StepContainer, CodeContainer, "a status answer"},
	{"certs/ee-valid/erzpecc.pem", Unknown, "2025-04-01", "tu+qes", fixedStatus{}, Invalid, StepContainer, CodeContainer, "a certificate"},
}

// TestPublicRecords: every published record gets the verdict of the table, for the reason that the table says.
func TestPublicRecords(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-02", "ERP-03", "ERP-04", "ERP-06", "ERP-07", "ERP-08", "ERP-10", "ERP-11", "ERP-12", "ERP-13", "ERP-14",
		"ERP-15", "ERP-16", "ERP-17", "ERP-19", "ERP-20", "ERP-21")
	dir := testdata.Dir(t, "pki")
	spaces := stores(t, dir)
	seen := map[string]bool{}
	for _, r := range publicTable {
		seen[r.file] = true
		t.Run(strings.Join([]string{r.file, string(r.kind), r.clock, r.store}, " "), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(r.file)))
			if err != nil {
				t.Fatal(err)
			}
			c := &Checker{Space: func() *trust.Space { return spaces[r.store] }, Clock: func() time.Time { return day(r.clock) }, Status: r.status}
			rep := c.Check(context.Background(), &Case{Single: true, Records: []Given{{Kind: r.kind, Data: data}}})
			if rep.Verdict != r.want || rep.Records[0].Verdict != r.want {
				t.Errorf("verdict %s; want %s (%s)\n%s", rep.Verdict, r.want, r.source, rep.Text())
			}
			if r.code == 0 {
				return
			}
			if s := stepOf(rep.Records[0].Steps, r.step); s.Code != r.code {
				t.Errorf("step %s has %s %d %q; want code %d (%s)", r.step, s.Verdict, s.Code, s.Detail, r.code, r.source)
			}
		})
	}
	for _, folder := range []string{"cms/*.p7s", "fhir/*"} {
		files, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(folder)))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", folder, len(files), err)
		}
		for _, f := range files {
			if name, _ := filepath.Rel(dir, f); !seen[filepath.ToSlash(name)] {
				t.Errorf("%s does not stand in the table", name)
			}
		}
	}
}

// tables says which test has the table of the files of a folder; each of them fails for a file that has no row.
var tables = map[string]string{
	"cms/*.p7s":        "TestPublicRecords",
	"fhir/*":           "TestPublicRecords",
	"cms/MANIFEST.tsv": "TestPublicRecords; its columns: internal/cms TestPublicMessages",
	"certs/ca/*.pem":   "server/trust TestPublicAuthorities",
	"certs/ee-*/*.pem": "server/trust TestPublicCertificates",
	"ocsp/*.ocsp.der":  "server/trust TestPublicResponses",
	"tsl/*.xml.gz":     "internal/tsl TestPublicLists",
	"README.md":        "the source of verdicts",
}

// TestPublicDataIsComplete: no file of the public data is of a kind that no table knows.
func TestPublicDataIsComplete(t *testing.T) {
	t.Parallel()
	dir := testdata.Dir(t, "pki")
	seen := map[string]int{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		known := false
		for pattern := range tables {
			if ok, _ := filepath.Match(pattern, path); ok {
				seen[pattern]++
				known = true
			}
		}
		if !known {
			t.Errorf("%s stands in no table", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pattern, test := range tables {
		if seen[pattern] == 0 {
			t.Errorf("no file is %s (%s)", pattern, test)
		}
	}
}

func stepOf(steps []Step, id StepID) Step {
	for _, s := range steps {
		if s.ID == id {
			return s
		}
	}
	return Step{ID: id}
}

// caseRow is a case made of published records.
type caseRow struct {
	name   string
	files  []string
	store  string
	clock  string
	want   Verdict
	step   StepID
	code   Code
	source string
}

var publicCases = []caseRow{
	{"A", []string{"A1_verordnung_ber", "A3_abgabe_ber_smcb", "A4_quittung_osig_ocsp"}, "tu+qes", "2025-04-01", Valid, 0, 0, "README; ERP-01, ERP-05"},
	{"A as handed out", []string{"A2_verordnung_der_ocsp", "A5_abgabe_smcb_fdcountersigned_ocsp", "A4_quittung_osig_ocsp"}, "tu+qes", "2025-04-01", Valid, 0, 0, "README"},
	{"A in another order", []string{"A4_quittung_osig_ocsp", "A1_verordnung_ber", "A3_abgabe_ber_smcb"}, "tu+qes", "2025-04-01", Valid, 0, 0, "what a record is is read from its content"},
	{"B", []string{"B2_verordnung_der_ocsp", "B5_abgabe_smcb_ocsp", "B4_quittung_osig_ocsp"}, "tu 2024", "2024-12-01", Valid, 0, 0, "README"},
	{"copy of the Fachdienst", []string{"A6_verordnung_fdsigned_ocsp", "A3_abgabe_ber_smcb", "A4_quittung_osig_ocsp"}, "tu+qes", "2025-04-01", Invalid, StepLinkHash, CodePrescriptionHash, "reference section 0 number 5"},
	{"prescription of another case", []string{"B2_verordnung_der_ocsp", "A3_abgabe_ber_smcb", "A4_quittung_osig_ocsp"}, "tu+qes", "2025-04-01", Invalid, StepLinkID, CodeIDsDiffer, "ERP-05"},
	{"receipt of another case", []string{"A1_verordnung_ber", "A3_abgabe_ber_smcb", "B4_quittung_osig_ocsp"}, "tu+qes", "2025-04-01", Invalid, StepLinkHash, CodePrescriptionHash, "reference section 0 number 5"},
	{"dispensing record of another case", []string{"A1_verordnung_ber", "B5_abgabe_smcb_ocsp", "A4_quittung_osig_ocsp"}, "tu+qes", "2025-04-01", Invalid, StepLinkID, CodeIDsDiffer, "ERP-05"},
	{"no receipt", []string{"A1_verordnung_ber", "A3_abgabe_ber_smcb"}, "tu+qes", "2025-04-01", Invalid, StepComplete, CodeMissing, "ERP-01"},
	{"nothing", nil, "tu+qes", "2025-04-01", Invalid, StepComplete, CodeMissing, "ERP-01"},
	{"prescription twice", []string{"A1_verordnung_ber", "A2_verordnung_der_ocsp", "A3_abgabe_ber_smcb", "A4_quittung_osig_ocsp"}, "tu+qes", "2025-04-01", Invalid, StepComplete, CodeDuplicate, "ERP-01"},
	{"a text among them", []string{"A1_verordnung_ber", "A3_abgabe_ber_smcb", "A4_quittung_osig_ocsp", "C5_helloworld_qes"}, "tu+qes", "2025-04-01", Indeterminate, StepComplete, CodeUnknownKind, "ERP-01: exactly three"},
}

// TestPublicCases: published records put together, rightly and wrongly.
func TestPublicCases(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-01", "ERP-05")
	dir := testdata.Dir(t, "pki")
	spaces := stores(t, dir)
	for _, r := range publicCases {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			in := &Case{ID: r.name}
			for _, f := range r.files {
				data, err := os.ReadFile(filepath.Join(dir, "cms", f+".p7s"))
				if err != nil {
					t.Fatal(err)
				}
				in.Records = append(in.Records, Given{Data: data})
			}
			c := &Checker{Space: func() *trust.Space { return spaces[r.store] }, Clock: func() time.Time { return day(r.clock) }, Status: fixedStatus{}}
			rep := c.Check(context.Background(), in)
			if rep.Verdict != r.want {
				t.Errorf("verdict %s; want %s (%s)\n%s", rep.Verdict, r.want, r.source, rep.Text())
			}
			if s := stepOf(rep.Steps, r.step); r.code != 0 && s.Code != r.code {
				t.Errorf("step %s has %s %d %q; want code %d (%s)", r.step, s.Verdict, s.Code, s.Detail, r.code, r.source)
			}
			if (rep.PrescriptionID != "") != (stepOf(rep.Steps, StepLinkID).Verdict == Valid) {
				t.Errorf("prescription id %q", rep.PrescriptionID)
			}
		})
	}
}
