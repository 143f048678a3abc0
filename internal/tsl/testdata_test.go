package tsl_test

import (
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ktradv/internal/longrun"
	"ktradv/internal/testdata"
	"ktradv/internal/testpki"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
)

func unpack(t testing.TB, path string) []byte {
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

func loadCert(t testing.TB, path string) *x509ti.Certificate {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	return parseCert(t, block.Bytes)
}

// TestPublicLists holds every published list in one table.
func TestPublicLists(t *testing.T) {
	t.Parallel()
	dir := testdata.Dir(t, "pki")
	ca51 := loadCert(t, filepath.Join(dir, "certs/ca/GEM.TSL-CA51-TEST-ONLY.pem"))
	seen := map[string]bool{}
	for _, tc := range []struct {
		file     string
		clock    string // "" is the time of issue
		anchors  []*x509ti.Certificate
		code     int
		reason   string // part of the text
		sequence uint64
		services int
		source   string
	}{
		{"ecc_valid_TSL_default", "", []*x509ti.Certificate{ca51}, 0, "", 420007, 316, "README: signature good, anchor GEM.TSL-CA51"},
		{"ecc_valid_TSL_default", "2031-01-01T00:00:00Z", []*x509ti.Certificate{ca51}, 1021, "", 420007, 316, "argued: the signer has run out (TUC_PKI_011)"},
		{"ecc_valid_TSL_default", "", nil, 1042, "", 420007, 316, "argued: no anchor is loaded (TUC_PKI_011)"},
		{"ecc_valid_TSL_altCA_revoked", "", []*x509ti.Certificate{ca51}, 0, "", 420005, 313, "README: three CAs revoked, signature good"},
		{"ecc_valid_TSL_TAchange", "", []*x509ti.Certificate{ca51}, 0, "", 420010, 313, "README: announces a new anchor, signature good"},
		{"ecc_invalid_TSL_invalid_Signature_broken", "", []*x509ti.Certificate{ca51}, 1013, "does not verify", 60, 313, "README: SignatureValue wrong"},
		{"ecc_invalid_TSL_invalid_xmlMalformed_altCA", "", nil, 1011, "malformed", 0, 0, "README: 1011"},
		{"rsa_valid_TSL_default", "2022-08-10T13:00:00Z", nil, 1042, "", 1, 147, "README: anchor GEM.TSL-CA4 is not included"},
		{"pkits_ECC-RSA_TSL-test", "", nil, 1042, "", 10554, 307, "README: re-indented; its anchor is not included"},
	} {
		seen[tc.file+".xml.gz"] = true
		t.Run(tc.file+tc.clock, func(t *testing.T) {
			t.Parallel()
			list, err := tsl.Parse(unpack(t, filepath.Join(dir, "tsl", tc.file+".xml.gz")))
			if err == nil {
				at := list.Issued
				if tc.clock != "" {
					if at, err = time.Parse(time.RFC3339, tc.clock); err != nil {
						t.Fatal(err)
					}
				}
				_, err = list.Verify(at, tc.anchors, nil)
			}
			if codeOf(err) != tc.code || (err == nil) != (tc.code == 0) || err != nil && !strings.Contains(err.Error(), tc.reason) {
				t.Errorf("%v, want code %d (%s)", err, tc.code, tc.source)
			}
			if list != nil && (list.Sequence != tc.sequence || len(list.Services) != tc.services || list.Kind != tsl.TSL) {
				t.Errorf("%s %d with %d services", list.Kind, list.Sequence, len(list.Services))
			}
		})
	}
	files, err := filepath.Glob(filepath.Join(dir, "tsl", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if !seen[filepath.Base(f)] {
			t.Errorf("%s stands in no row", filepath.Base(f))
		}
	}
	// The signatures alone: the RSA list's is good (RSASSA-PSS), the re-indented list has lost its digest.
	for file, want := range map[string]string{"rsa_valid_TSL_default": "", "pkits_ECC-RSA_TSL-test": "signed digest"} {
		list, err := tsl.Parse(unpack(t, filepath.Join(dir, "tsl", file+".xml.gz")))
		if err != nil {
			t.Fatal(err)
		}
		if err := list.VerifyXML(nil); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
	list, err := tsl.Parse(unpack(t, filepath.Join(dir, "tsl/ecc_valid_TSL_TAchange.xml.gz")))
	if err != nil {
		t.Fatal(err)
	}
	change := list.Of(tsl.TypeCertChange)
	if len(change) != 1 || len(change[0].Certificates) != 1 || change[0].Certificates[0].CommonName().Reveal() != "GEM.TSL-CA52 TEST-ONLY" || !change[0].Authorises(x509ti.OIDTSLCCACert) {
		t.Errorf("announced anchor: %v", change)
	}
	// Certificates of GEM.TSL-CA52 and the announced one are the same.
	if ca52 := loadCert(t, filepath.Join(dir, "certs/ca/GEM.TSL-CA52-TEST-ONLY.pem")); len(change) == 1 && ca52.Fingerprint() != change[0].Certificates[0].Fingerprint() {
		t.Error("announced anchor is another certificate")
	}
}

// TestDamagedLists: a published list cut and flipped at many places, a small one at every place, is never accepted and
// never makes the reader fail.
func TestDamagedLists(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	_, signer, err := p.NewTSLAuthority(1)
	if err != nil {
		t.Fatal(err)
	}
	small := sample(p)
	small.Services = small.Services[2:3]
	raw, err := p.WriteList(small, signer)
	if err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, b []byte, what string, at int) {
		list, err := tsl.Parse(b)
		if err == nil {
			err = list.VerifyXML(nil)
		}
		if err == nil {
			t.Errorf("%s at %d of %d octets is accepted: %q", what, at, len(b), b[max(0, at-40):min(len(b), at+40)])
		}
	}
	for i := range raw {
		check(t, raw[:i], "cut", i)
		b := bytes.Clone(raw)
		b[i] ^= 1 << (i % 7)
		if unsigned(raw, i) {
			continue
		}
		check(t, b, "flipped", i)
	}
	dir := testdata.Dir(t, "pki")
	big := unpack(t, filepath.Join(dir, "tsl/ecc_valid_TSL_default.xml.gz"))
	r := rand.New(rand.NewPCG(1, 1))
	for range 40 {
		i := r.IntN(len(big))
		check(t, big[:i], "cut", i)
		b := bytes.Clone(big)
		b[i] ^= 1
		if !unsigned(big, i) {
			check(t, b, "flipped", i)
		}
	}
}

// unsigned reports whether an octet belongs to what a signature does not cover by design and the reader does not look at:
// the names of Ids that nothing refers to, blanks in tags and Base64, prefixes.
func unsigned(raw []byte, i int) bool {
	start := bytes.Index(raw, []byte("<ds:Signature "))
	if i < start {
		return false
	}
	rest := raw[start:]
	at := i - start
	end := bytes.Index(rest, []byte(">"))
	return at < end || bytes.Contains(rest[max(0, at-12):min(len(rest), at+12)], []byte(`xmlns:xades="`))
}

// TestDifferentialXMLSec holds the judgement about signatures of generated and damaged lists next to that of xmlsec1. Version
// 1.2 of it does not know RSASSA-PSS, so all keys here are on brainpoolP256r1.
func TestDifferentialXMLSec(t *testing.T) {
	t.Parallel()
	xmlsec, err := exec.LookPath("xmlsec1")
	if err != nil {
		t.Skip("xmlsec1 is not installed (Debian package xmlsec1)")
	}
	n := 200 // some 30 ms each on an idle machine
	if longrun.Long() {
		n = 2000
	}
	p := newPKI(t)
	_, signer, err := p.NewTSLAuthority(1)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	path := filepath.Join(t.TempDir(), "list.xml")
	faults := []testpki.ListFault{testpki.ListNone, testpki.ListNone, testpki.ListNone, testpki.ListWrongDigest, testpki.ListWrongProps, testpki.ListWrongSignature}
	good, bad, stricter := 0, 0, map[string]int{}
	for i := range n {
		l := sample(p)
		l.Sequence, l.Loose = uint64(10000+i), r.IntN(2) == 0
		l.Services = l.Services[:1+r.IntN(len(l.Services))]
		fault := faults[r.IntN(len(faults))]
		raw, err := p.WriteList(l, signer, fault)
		if err != nil {
			t.Fatal(err)
		}
		if fault == testpki.ListNone && r.IntN(3) == 0 {
			at := r.IntN(len(raw))
			raw = bytes.Clone(raw)
			raw[at] = "abcXYZ019<>/ \n"[r.IntN(14)]
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		out, theirErr := exec.Command(xmlsec, "--verify", "--insecure", "--id-attr:Id", "http://uri.etsi.org/01903/v1.3.2#:SignedProperties", path).CombinedOutput()
		var ourErr error
		if list, err := tsl.Parse(raw); err != nil {
			ourErr = err
		} else {
			ourErr = list.VerifyXML(nil)
		}
		switch {
		case ourErr == nil && theirErr == nil:
			good++
		case ourErr != nil && theirErr != nil:
			bad++
		case ourErr == nil:
			t.Errorf("list %d: accepted here, refused by xmlsec1: %s", i, out)
		default:
			rule := ""
			for reason, why := range stricterThanXMLSec {
				if strings.Contains(ourErr.Error(), reason) {
					rule = why
				}
			}
			if rule == "" {
				t.Errorf("list %d: refused here and accepted by xmlsec1: %v", i, ourErr)
			}
			stricter[rule]++
		}
	}
	t.Logf("%d lists: %d accepted by both, %d refused by both, stricter here: %v", n, good, bad, stricter)
	if good < n/3 || bad < n/5 {
		t.Errorf("too few cases of one kind: %d good, %d bad", good, bad)
	}
}

// stricterThanXMLSec explains each kind of list that xmlsec1 accepts and this reader does not. xmlsec1 checks the XML
// signature and nothing of XAdES or of the list.
var stricterThanXMLSec = map[string]string{
	"SigningCertificate names another": "xmlsec1 knows nothing of XAdES: the certificate in KeyInfo is not the one that SignedProperties name",
	"IssuerSerial names another":       "the same",
	"signer certificate":               "KeyInfo has to hold exactly one certificate that can be read",
	"QualifyingProperties of another":  "Target has to name this signature",
	"an Id occurs twice":               "Ids are unique, whatever the case of the attribute's name",
	"TSL_SCHEMA_NOT_VALID":             "the list is not built as the schema asks",
	"has an unexpected":                "elements of the signature stand in their order and no others",
	"without":                          "the same",
}

// FuzzParse begins with the small lists in testdata/fuzz: TSL and VL, in canonical and in another form.
func FuzzParse(f *testing.F) {
	p := newPKI(f)
	_, signer, err := p.NewTSLAuthority(1)
	if err != nil {
		f.Fatal(err)
	}
	cert := parseCert(f, signer.Certificate)
	for _, q := range qualifySeeds {
		l := qualified(q, true)
		l.Services[0].History = []testpki.ListState{l.Services[0].ListState}
		raw, err := p.WriteList(l, signer)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := tsl.Parse(data)
		if err != nil {
			if codeOf(err) == 0 {
				t.Fatalf("error without a code: %v", err)
			}
			return
		}
		if err := list.VerifyXML(nil); err != nil && codeOf(err) == 0 {
			t.Fatalf("error without a code: %v", err)
		}
		for _, s := range list.Services {
			if state, ok := s.StateAt(now); ok {
				state.QualifiersOf(cert)
			}
		}
	})
}
