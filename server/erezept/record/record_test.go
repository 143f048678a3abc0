package record

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ktradv/internal/brainpool"
	"ktradv/internal/cms"
	"ktradv/internal/req"
	"ktradv/internal/testdata"
)

func readFile(t testing.TB, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestPublicWrappers opens the three FHIR wrappers and the base64 text of the public data.
func TestPublicWrappers(t *testing.T) {
	t.Parallel()
	dir := testdata.Dir(t, "pki")
	for _, c := range []struct {
		file  string
		forms []Form
		kind  Kind
		outer bool
	}{
		{"accept_response_bundle_binary_verordnung.xml", []Form{XMLBinary, CMS}, Prescription, false},
		{"quittung_response_bundle_signature_data.xml", []Form{XMLSignature, CMS}, Receipt, true},
		{"verordnung_signed_document.b64", []Form{Base64, CMS}, Prescription, false},
	} {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			messages, err := Open(readFile(t, dir, "fhir", c.file))
			if err != nil {
				t.Fatal(err)
			}
			if len(messages) != 1 {
				t.Fatalf("%d messages", len(messages))
			}
			if diff := cmp.Diff(c.forms, messages[0].Forms); diff != "" {
				t.Error(diff)
			}
			facts := factsOf(t, messages[0].Data)
			if facts.Kind != c.kind || facts.ID() != "200.000.002.425.337.30" {
				t.Errorf("%v %q", facts.Kind, facts.ID())
			}
			if (messages[0].Outer != nil) != c.outer {
				t.Fatalf("facts of the outer copy: %v", messages[0].Outer)
			}
			if c.outer {
				if d := facts.Differences(messages[0].Outer); len(d) != 0 || !messages[0].Outer.HasSignature || facts.HasSignature {
					t.Errorf("differences %v, signature outside %v, inside %v", d, messages[0].Outer.HasSignature, facts.HasSignature)
				}
			}
		})
	}
}

func factsOf(t testing.TB, message []byte) *Facts {
	t.Helper()
	sd, err := cms.Parse(message)
	if err != nil {
		t.Fatal(err)
	}
	facts, err := ReadFacts(sd.Content)
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

// TestPublicFacts reads kind and prescription ID of every published record.
func TestPublicFacts(t *testing.T) {
	t.Parallel()
	dir := testdata.Dir(t, "pki")
	const a, b = "200.000.002.425.333.42", "200.000.002.096.553.86"
	for _, c := range []struct {
		file   string
		kind   Kind
		ids    []string
		digest bool
	}{
		{"A1_verordnung_ber", Prescription, []string{a}, false},
		{"A2_verordnung_der_ocsp", Prescription, []string{a}, false},
		{"A3_abgabe_ber_smcb", Dispensing, []string{a, a}, false},
		{"A4_quittung_osig_ocsp", Receipt, []string{a}, true},
		{"A5_abgabe_smcb_fdcountersigned_ocsp", Dispensing, []string{a, a}, false},
		{"A6_verordnung_fdsigned_ocsp", Prescription, []string{a}, false},
		{"B1_verordnung_der", Prescription, []string{b}, false},
		{"B2_verordnung_der_ocsp", Prescription, []string{b}, false},
		{"B3_abgabe_der_smcb", Dispensing, []string{b, b}, false},
		{"B4_quittung_osig_ocsp", Receipt, []string{b}, true},
		{"B5_abgabe_smcb_ocsp", Dispensing, []string{b, b}, false},
		{"C1_quittung_fdsig_2021_noocsp", Receipt, []string{"160.000.964.477.700.36"}, false},
		{"C2_quittung_pu_ca6_ocsp", Receipt, []string{"160.000.006.708.177.19"}, true},
		{"C3_verordnung_rsapss_baddigest", Prescription, []string{"160.123.456.789.123.58"}, false},
		{"C4_verordnung_smcb_signed_wrong_type", Prescription, []string{"160.000.000.000.123.76"}, false},
	} {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			facts := factsOf(t, readFile(t, dir, "cms", c.file+".p7s"))
			var ids []string
			for _, id := range facts.IDs {
				ids = append(ids, id.Value)
				if !id.Form || !id.CheckDigit {
					t.Errorf("%s: form %v, check digits %v", id.Value, id.Form, id.CheckDigit)
				}
			}
			if diff := cmp.Diff(c.ids, ids); diff != "" {
				t.Error(diff)
			}
			if facts.Kind != c.kind || facts.Digests == 1 != c.digest || c.digest && len(facts.Digest) != 32 || facts.HasSignature {
				t.Errorf("%+v", facts)
			}
			if c.kind == Receipt && (facts.Beneficiary == "" || facts.PeriodStart.IsZero() || facts.PeriodEnd.Before(facts.PeriodStart)) {
				t.Errorf("%+v", facts)
			}
			if c.kind == Receipt {
				req.Covers(t, "ERP-19")
			}
		})
	}
}

// agree takes every signature for right: the digest alone must show that a content is another one. It saves most of the time.
type agree struct{}

func (agree) VerifyECDSA(*brainpool.PublicKey, []byte, []byte) bool { return true }

// TestWrappersDamaged cuts the public wrappers at every place and changes every octet: either it is refused, or the
// message inside is untouched, or the change is in a part of the message that is not signed.
func TestWrappersDamaged(t *testing.T) {
	t.Parallel()
	dir := testdata.Dir(t, "pki")
	for _, file := range []string{"accept_response_bundle_binary_verordnung.xml", "quittung_response_bundle_signature_data.xml", "verordnung_signed_document.b64"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			data := readFile(t, dir, "fhir", file)
			messages, err := Open(data)
			if err != nil {
				t.Fatal(err)
			}
			whole := messages[0].Data
			sd, err := cms.Parse(whole)
			if err != nil {
				t.Fatal(err)
			}
			judge := func(what string, pos int, in []byte) {
				got, err := Open(in)
				if err != nil {
					return
				}
				for _, m := range got {
					if bytes.Equal(m.Data, whole) {
						continue
					}
					changed, err := cms.Parse(m.Data)
					if err != nil {
						continue
					}
					for _, r := range changed.VerifyAll(nil, agree{}) {
						if r.Result.OK() && !bytes.Equal(changed.Content, sd.Content) {
							t.Errorf("%s at %d: accepted with another content", what, pos)
						}
					}
				}
			}
			for pos := range data {
				judge("cut", pos, data[:pos])
				changed := bytes.Clone(data)
				changed[pos] ^= 1 << (pos % 8)
				judge("changed", pos, changed)
			}
		})
	}
}
