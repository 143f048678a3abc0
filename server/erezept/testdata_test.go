package erezept

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ktradv/internal/ocsp"
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

func TestDumpPublic(t *testing.T) {
	dir := testdata.Dir(t, "pki")
	sp := stores(t, dir)
	files, _ := filepath.Glob(filepath.Join(dir, "cms", "*.p7s"))
	more, _ := filepath.Glob(filepath.Join(dir, "fhir", "*"))
	for _, f := range append(files, more...) {
		data, _ := os.ReadFile(f)
		for _, st := range []trust.StatusSource{nil, fixedStatus{}} {
			c := &Checker{Space: func() *trust.Space { return sp["tu+qes"] }, Clock: func() time.Time { return day("2025-04-01") }, Status: st}
			r := c.Check(context.Background(), &Case{ID: filepath.Base(f), Single: true, Records: []Given{{Data: bytes.Clone(data)}}})
			t.Logf("%s %v %s %s", r.ID, st, r.Verdict, r.Records[0].Kind)
			for _, s := range r.Records[0].Steps {
				if s.Verdict != Valid {
					t.Logf("     %s %s %d %s", s.ID, s.Verdict, s.Code, s.Detail)
				}
			}
			t.Logf("     %s", r.Records[0].Transitions)
		}
	}
}
