package erezept

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"ktradv/internal/testpki"
	"ktradv/server/erezept/record"
)

// zeros is a content of any size; at counts from its beginning and is 1 instead of 0.
type zeros struct{ size, at, read int64 }

func (z *zeros) Read(b []byte) (int, error) {
	if z.read == z.size {
		return 0, io.EOF
	}
	n := min(int64(len(b)), z.size-z.read)
	clear(b[:n])
	if z.at >= z.read && z.at < z.read+n {
		b[z.at-z.read] = 1
	}
	z.read += n
	return int(n), nil
}

// TestLargeRecord: a record that is far larger than memory allows is checked as a stream: signature and certificate get
// their verdict, and a billing record whose content was not read is never valid. 64 MiB; with LONG a gigabyte.
func TestLargeRecord(t *testing.T) { // not parallel: it measures memory
	size := int64(64 << 20)
	if os.Getenv("LONG") != "" {
		size = 1 << 30
	}
	r := newRig(t)
	signed := rigTime.Add(-time.Hour)
	stream := func(damaged int64) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) {
			calls := 0
			m, err := r.pki.StreamCMS(func() io.Reader {
				if calls++; calls == 1 { // for the digest
					return &zeros{size: size, at: -1}
				}
				return &zeros{size: size, at: damaged}
			}, &r.signers[testpki.Pharmacy].X509Identity, signed, testpki.CMSOptions{Piece: 64 << 10})
			return io.NopCloser(m), err
		}
	}
	for _, tt := range []struct {
		name               string
		kind               Kind
		damaged            int64
		want               Verdict
		content, signature Verdict
	}{
		{"document", Document, -1, Valid, NotRun, Valid},
		{"document, one octet changed", Document, size - 1, Invalid, NotRun, Valid},
		{"dispensing record", Dispensing, -1, Indeterminate, Indeterminate, Valid},
		{"of no kind", Unknown, -1, Indeterminate, Indeterminate, Valid},
		{"signed by the wrong party", Receipt, -1, Invalid, Indeterminate, Valid},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out := r.checker().Check(context.Background(), &Case{Single: true, Records: []Given{{Kind: tt.kind, Large: stream(tt.damaged)}}})
		runtime.ReadMemStats(&after)
		rep := out.Records[0]
		if out.Verdict != tt.want || stepOf(rep.Steps, StepContent).Verdict != tt.content || stepOf(rep.Steps, StepSignature).Verdict != tt.signature {
			t.Errorf("%s: %s\n%s", tt.name, out.Verdict, out.Text())
		}
		if tt.content == Indeterminate && stepOf(rep.Steps, StepContent).Code != CodeContentNotRead {
			t.Errorf("%s: %v", tt.name, stepOf(rep.Steps, StepContent))
		}
		if rep.Signer == nil || stepOf(rep.Steps, StepStatus).Verdict != Valid || rep.Input.Size < size || len(rep.Input.SHA256) != 64 || len(rep.ContentDigest) != 64 {
			t.Errorf("%s: %+v", tt.name, rep)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 24<<20 {
			t.Errorf("%s: %d octets allocated", tt.name, grown)
		}
	}
	// In a case, what was not read is not missing, and the case is not valid.
	made := r.made(t)
	in := given(made)
	in.Records[1] = Given{Large: stream(-1)}
	in.Records[0].Kind, in.Records[2].Kind = Unknown, Unknown
	if out := r.checker().Check(context.Background(), in); out.Verdict != Indeterminate {
		t.Errorf("case: %s\n%s", out.Verdict, out.Text())
	}
}

// TestLargeForms: streamed, a message gets the report that it gets from memory, as such and as base64 text; what cannot be
// read as a stream, and what breaks off, is said and never valid.
func TestLargeForms(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	made := r.made(t)
	text := []byte(base64.StdEncoding.EncodeToString(made.Receipt))
	wrapped := append(append(bytes.Clone(text[:100]), "\r\n  "...), text[100:]...)
	read := func(parts ...[]byte) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(bytes.Join(parts, nil))), nil
		}
	}
	broken := errors.New("disk is broken")
	for name, tt := range map[string]struct {
		kind Kind
		open func() (io.ReadCloser, error)
		want Verdict
		code Code // of the container
	}{
		"message":            {Receipt, read(made.Receipt), Valid, 0},
		"kind by content":    {Unknown, read(made.Receipt), Valid, 0},
		"base64":             {Receipt, read(wrapped), Valid, 0},
		"another kind":       {Dispensing, read(made.Receipt), Invalid, 0},
		"text behind base64": {Receipt, read(wrapped, []byte("\nAAAA")), Invalid, CodeContainer},
		"something behind":   {Receipt, read(made.Receipt, []byte{0}), Invalid, CodeContainer},
		"truncated":          {Receipt, read(made.Receipt[:len(made.Receipt)-1]), Invalid, CodeContainer},
		"nothing":            {Receipt, read(nil), Invalid, CodeContainer},
		"FHIR":               {Receipt, read(testpki.BinaryXML("q", made.Receipt)), Indeterminate, CodeTooLarge},
		"cannot be opened":   {Receipt, func() (io.ReadCloser, error) { return nil, broken }, Indeterminate, CodeInput},
		"breaks off": {Receipt, func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(made.Receipt[:200]), failing{broken})), nil
		}, Indeterminate, CodeInput},
		"breaks off at the end": {Receipt, func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(made.Receipt), failing{broken})), nil
		}, Indeterminate, CodeInput},
	} {
		out := r.checker().Check(context.Background(), &Case{Single: true, Records: []Given{{Kind: tt.kind, Large: tt.open}}})
		if out.Verdict != tt.want || stepOf(out.Records[0].Steps, StepContainer).Code != tt.code {
			t.Errorf("%s: %s, %v", name, out.Verdict, stepOf(out.Records[0].Steps, StepContainer))
		}
	}
	same := func(g Given) string {
		out := r.checker().Check(context.Background(), &Case{Single: true, Records: []Given{g}})
		b, err := out.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, message := range [][]byte{made.Prescription, made.Dispensing, made.Receipt} {
		if a, b := same(Given{Data: message}), same(Given{Large: read(message)}); a != b {
			t.Errorf("from memory:\n%s\nstreamed:\n%s", a, b)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// FuzzLarge: a message gets the same verdict from memory and as a stream, but that a part of unusual length is not looked
// for in a stream; nothing panics.
func FuzzLarge(f *testing.F) {
	r := newRig(f)
	made := r.made(f)
	for _, message := range [][]byte{made.Prescription, made.Dispensing, made.Receipt, []byte(base64.StdEncoding.EncodeToString(made.Receipt)), []byte("MA== A"), []byte("0\x80\x06\x860000000")} {
		f.Add(message)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(g Given) *CaseReport {
			return r.checker().Check(context.Background(), &Case{Single: true, Records: []Given{g}})
		}
		streamed := check(Given{Large: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }})
		if messages, err := record.Open(data); err != nil || len(messages) != 1 || len(messages[0].Forms) != 1 {
			return // another form than the message itself
		}
		if held := check(Given{Data: data}); held.Verdict != streamed.Verdict && stepOf(streamed.Records[0].Steps, StepContainer).Code != CodeTooLarge {
			t.Fatalf("from memory:\n%s\nstreamed:\n%s", held.Text(), streamed.Text())
		}
	})
}

// FuzzOutcome: what a validator is said to have found is read strictly; nothing panics, and what cannot be read is never an
// outcome without errors.
func FuzzOutcome(f *testing.F) {
	f.Add([]byte(`{"resourceType":"OperationOutcome","issue":[{"severity":"error","diagnostics":"Bundle.signature: minimum required = 1, but only found 0"}]}`))
	f.Add([]byte(`{"resourceType":"OperationOutcome","issue":[{"severity":"information","details":{"text":"All OK"}}]}`))
	f.Add([]byte(`{"resourceType":"OperationOutcome","issue":[]}`))
	f.Add([]byte(`[{"severity":"fatal"}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec := &checked{rep: Report{Kind: Receipt}, ledger: recordLedger()}
		rec.ledger.pass(StepContent)
		(&Checker{}).fhirOf(rec, data)
		s := stepOf(rec.ledger.list(), StepContent)
		if _, err := readOutcome(data); err != nil && s.Verdict != Indeterminate {
			t.Fatalf("%v, but %+v", err, s)
		}
	})
}
