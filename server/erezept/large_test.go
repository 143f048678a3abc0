package erezept

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"ktradv/internal/brainpool"
	"ktradv/internal/longrun"
	"ktradv/internal/testpki"
	"ktradv/server/erezept/record"
	"ktradv/server/trust"
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
	if longrun.Long() {
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
		"FHIR":               {Receipt, read(testpki.BinaryXML("q", made.Receipt)), Valid, 0},
		"FHIR JSON":          {Receipt, read(testpki.BinaryJSON("q", made.Receipt)), Valid, 0},
		"signature":          {Unknown, read(testpki.SignedReceiptXML(made.ReceiptContent, made.Receipt)), Valid, 0},
		"PEM":                {Receipt, read([]byte("-----BEGIN CMS-----\n"), wrapped, []byte("\n-----END CMS-----\n")), Valid, 0},
		"twice":              {Receipt, read([]byte(base64.StdEncoding.EncodeToString(wrapped))), Valid, 0},
		"mark before":        {Receipt, read([]byte("\xef\xbb\xbf"), wrapped), Valid, 0},
		"FHIR, cut off":      {Receipt, read(testpki.BinaryXML("q", made.Receipt)[:7000]), Invalid, CodeContainer},
		"FHIR, no message":   {Receipt, read([]byte(`<Binary xmlns="http://hl7.org/fhir"/>`)), Invalid, CodeContainer},
		"PDF":                {Receipt, read([]byte("%PDF-1.7")), Invalid, CodeContainer},
		"nested":             {Receipt, read(bytes.Repeat([]byte("<a>"), 1000)), Indeterminate, CodeTooLarge},
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

// longRecord is a receipt whose content has so many octets, a comment behind its Bundle for the most part.
func longRecord(t *testing.T, r *rig, size int) []byte {
	t.Helper()
	made := r.made(t)
	content := fmt.Appendf(nil, "%s<!-- %s -->", made.ReceiptContent, strings.Repeat("x", size-len(made.ReceiptContent)))
	answer, err := r.b.Status(r.signers[testpki.Service], testpki.StatusAnswer{ProducedAt: rigTime.Add(-2 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	message, err := r.pki.SignCMS(content, &r.signers[testpki.Service].X509Identity, rigTime.Add(-time.Hour), testpki.CMSOptions{OCSP: [][]byte{answer}})
	if err != nil {
		t.Fatal(err)
	}
	return message
}

// TestLargeWrappers: a record that is too large to be held gets its verdict in every form that it may be wrapped in; with one
// octet changed it is wrong in every one.
func TestLargeWrappers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const held = 4 << 20 // what server/verify holds in memory
	good := longRecord(t, r, MaxContent-1<<10)
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 1
	text := func(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b)) }
	for name, wrap := range map[string]func([]byte) []byte{
		"FHIR":         func(m []byte) []byte { return testpki.BinaryXML("q", m) },
		"FHIR in JSON": func(m []byte) []byte { return testpki.BinaryJSON("q", m) },
		"FHIR, twice":  func(m []byte) []byte { return testpki.BinaryXML("q", text(m)) },
		"in a Bundle":  func(m []byte) []byte { return testpki.BundleXML("b", testpki.BinaryXML("q", m)) },
		"signature":    func(m []byte) []byte { return testpki.SignedReceiptXML(r.made(t).ReceiptContent, m) },
		"PEM": func(m []byte) []byte {
			return slices.Concat([]byte("-----BEGIN PKCS7-----\n"), text(m), []byte("\n-----END PKCS7-----\n"))
		},
		"base64":       text,
		"twice":        func(m []byte) []byte { return text(text(m)) },
		"mark, base64": func(m []byte) []byte { return append([]byte("\xef\xbb\xbf"), text(m)...) },
		"twice, FHIR":  func(m []byte) []byte { return text(text(testpki.BinaryXML("q", m))) },
		"twice, in PEM": func(m []byte) []byte {
			return slices.Concat([]byte("-----BEGIN CMS-----\n"), text(m), []byte("-----END CMS-----"))
		},
	} {
		for message, want := range map[*[]byte]Verdict{&good: Valid, &bad: Invalid} {
			in := wrap(*message)
			if len(in) <= held {
				t.Fatalf("%s: %d octets are no large input", name, len(in))
			}
			got := each(r.checker(), &Case{ID: "f", Single: true, Records: []Given{{Large: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(in)), nil }}}})
			if len(got) != 1 || got[0].Verdict != want || got[0].ID != "f" || got[0].Records[0].Input.Size != int64(len(in)) || got[0].Records[0].Input.Wrapper == "" {
				t.Errorf("%s: %v, want %s\n%s", name, outcomes(got), want, got[0].Text())
			}
			if noted := strings.Contains(stepOf(got[0].Records[0].Steps, StepContent).Detail, "not compared"); noted != (name == "signature") {
				t.Errorf("%s: the copy around the record was not compared: %t", name, noted)
			}
		}
	}
}

// billingStream is a billing file that is made while it is read: so many octets at least, each case with a number of its
// own. Of a hundred cases one has a wrong receipt and one has none.
type billingStream struct {
	r        *rig
	left     int64
	rest     []byte
	n, wrong int
	end      bool
}

func (s *billingStream) Read(b []byte) (int, error) {
	for len(s.rest) == 0 {
		switch {
		case s.end:
			return 0, io.EOF
		case s.left <= 0:
			s.rest, s.end = []byte("</Bundle>"), true
			continue
		}
		o := s.r.options()
		if s.n%100 == 0 {
			o.Receipt = func(c *testpki.CMSOptions) { c.Fault = testpki.CMSFaultSignature }
			s.wrong++
		}
		c, err := s.r.b.Case(o)
		if err != nil {
			return 0, err
		}
		if s.n == 0 {
			s.rest = []byte(`<?xml version="1.0" encoding="UTF-8"?><Bundle xmlns="http://hl7.org/fhir"><id value="TA7"/><type value="collection"/>`)
		}
		messages := [][]byte{c.Receipt, c.Prescription, c.Dispensing}
		if s.n%100 == 50 {
			messages = messages[1:]
			s.wrong++
		}
		for _, m := range messages {
			s.rest = slices.Concat(s.rest, []byte("<entry><resource>"), testpki.BinaryXML("m", m), []byte("</resource></entry>"))
		}
		s.n++
		s.left -= int64(len(s.rest))
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// TestLargeBillingFile: a billing file of any size is checked with flat memory, one report for each case. 64 MiB; with LONG a
// gigabyte under the same bound.
func TestLargeBillingFile(t *testing.T) { // not parallel: it measures memory
	size := int64(64 << 20)
	if longrun.Long() {
		size = 1 << 30
	}
	r := newRig(t)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	c := r.checker()
	c.Chains, c.Certificates, c.Verifier = trust.NewChainCache(1000), NewCertificateCache(1000), &brainpool.TableCache{MaxBytes: 16 << 20}
	source := &billingStream{r: r, left: size}
	before := heap()
	most, reports, counts := before, 0, map[Verdict]int{}
	c.CheckEach(context.Background(), &Case{ID: "ta7", Single: true, Records: []Given{{Large: func() (io.ReadCloser, error) { return io.NopCloser(source), nil }}}}, func(rep *CaseReport) {
		counts[rep.Verdict]++
		if reports++; reports%500 == 1 {
			most = max(most, heap())
		}
		if !strings.HasPrefix(rep.ID, "ta7#") {
			t.Errorf("%s", rep.Text())
		}
	})
	if reports != source.n || counts[Valid] != source.n-source.wrong || counts[Invalid] != source.wrong {
		t.Errorf("%d cases, %d of them wrong: %v", source.n, source.wrong, counts)
	}
	if grown := int64(most) - int64(before); grown > 48<<20 {
		t.Errorf("%d octets are held of a file of %d", grown, size)
	} else {
		t.Logf("%d cases, %d octets held at most", source.n, grown)
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
