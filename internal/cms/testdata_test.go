package cms

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ktradv/internal/req"
	"ktradv/internal/testdata"
)

type manifestRow struct {
	file, core, encoding, algorithm, signingTime string
	ocsp                                         bool
	data                                         []byte
}

// manifest reads MANIFEST.tsv of the public messages with the messages.
func manifest(t testing.TB) []manifestRow {
	dir := testdata.Dir(t, "pki")
	text, err := os.ReadFile(filepath.Join(dir, "cms", "MANIFEST.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []manifestRow
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		f := strings.Split(line, "\t")
		if i == 0 {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f[0])))
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, manifestRow{file: strings.TrimPrefix(f[0], "cms/"), core: f[1], encoding: f[2], algorithm: f[4], signingTime: f[14], ocsp: f[15] != "none", data: data})
	}
	if len(rows) != 17 {
		t.Fatalf("%d rows in the manifest, 17 were expected", len(rows))
	}
	return rows
}

// TestPublicMessages gives every published message the core verdict of the manifest, from memory and from a stream, with
// the reason where it is not valid.
func TestPublicMessages(t *testing.T) {
	t.Parallel()
	type want struct {
		step    Step
		finding Finding
	}
	special := map[string][]want{
		"C3_verordnung_rsapss_baddigest.p7s":      {{StepMessageDigest, Finding{Invalid, MessageDigestMismatch}}, {StepSignature, Finding{Verdict: Valid}}},
		"C6_helloworld_qes_badsig.p7s":            {{StepMessageDigest, Finding{Verdict: Valid}}, {StepSignature, Finding{Invalid, SignatureMismatch}}},
		"A5_abgabe_smcb_fdcountersigned_ocsp.p7s": {{StepCountersignature, Finding{Verdict: Valid}}},
	}
	for _, row := range manifest(t) {
		t.Run(row.file, func(t *testing.T) {
			t.Parallel()
			sd, err := Parse(row.data)
			if err != nil {
				t.Fatal(err)
			}
			var content bytes.Buffer
			streamed, err := ParseStream(bytes.NewReader(row.data), &content, StreamOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(content.Bytes(), sd.Content) || streamed.ContentLength != sd.ContentLength {
				t.Error("stream: another content")
			}
			for name, sd := range map[string]*SignedData{"memory": sd, "stream": streamed} {
				if sd.DER != (row.encoding == "DER") {
					t.Errorf("%s: DER %v, manifest says %s", name, sd.DER, row.encoding)
				}
				if (len(sd.OCSP) > 0) != row.ocsp {
					t.Errorf("%s: %d OCSP responses, manifest: %v", name, len(sd.OCSP), row.ocsp)
				}
				if row.ocsp {
					want, err := os.ReadFile(filepath.Join(testdata.Dir(t, "pki"), "ocsp", strings.TrimSuffix(row.file, ".p7s")+".ocsp.der"))
					if err != nil {
						t.Fatal(err)
					}
					if len(sd.OCSP) != 1 || !bytes.Equal(sd.OCSP[0], want) {
						t.Errorf("%s: the embedded OCSP response is not the one published beside", name)
					}
				}
				results := sd.VerifyAll(nil, nil)
				if len(results) != 1 {
					t.Fatalf("%s: %d signatures", name, len(results))
				}
				r := results[0]
				if r.Err != nil {
					t.Fatalf("%s: %v", name, r.Err)
				}
				if at := r.Signer.SigningTime.Format("Jan _2 15:04:05 2006 GMT"); at != row.signingTime {
					t.Errorf("%s: signing time %s, manifest %s", name, at, row.signingTime)
				}
				if r.Result.OK() != (row.core == "valid") {
					t.Errorf("%s: core %v, manifest %s", name, r.Result.OK(), row.core)
				}
				if strings.Contains(row.file, "quittung") {
					req.Covers(t, "ERP-16") // the signature of receipts, which a connector cannot check
				}
				for step, f := range r.Result {
					t.Logf("%s: %s: %s %s", name, Step(step), f.Verdict, f.Reason)
				}
				for _, w := range special[row.file] {
					if r.Result[w.step] != w.finding {
						t.Errorf("%s: %s is %v, want %v", name, w.step, r.Result[w.step], w.finding)
					}
				}
			}
		})
	}
}
