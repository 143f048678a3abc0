package erezept

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ktradv/internal/brainpool"
	"ktradv/internal/cms"
	"ktradv/internal/longrun"
	"ktradv/internal/req"
	"ktradv/internal/testdata"
	"ktradv/internal/testpki"
	"ktradv/server/trust"
)

// stride is how far apart the damaged octets of most records are; of one record, and with LONG=1 of all, it is each.
func stride(name string) int {
	if longrun.Long() || name == "receipt" {
		return 1
	}
	return 53
}

// TestDamaged changes octets of records and cuts them off, one place after the other. A record that was cut off is never
// accepted, nor is one whose content, signature or signer's certificate was changed. No damaged record is accepted for
// something else than what was signed: where it is still valid, what was damaged was not part of it.
func TestDamaged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	o := r.options()
	o.Dispensing = func(c *testpki.CMSOptions) { c.BER, c.Countersigner = true, &r.signers[testpki.Service].X509Identity }
	made, err := r.b.Case(o)
	if err != nil {
		t.Fatal(err)
	}
	type record struct {
		kind  Kind
		data  []byte
		check *Checker
	}
	records := map[string]record{
		"prescription": {Prescription, made.Prescription, r.checker()},
		"dispensing":   {Dispensing, made.Dispensing, r.checker()},
		"receipt":      {Receipt, made.Receipt, r.checker()},
		"wrapped":      {Receipt, testpki.SignedReceiptXML(made.ReceiptContent, made.Receipt), r.checker()},
	}
	for name, rec := range records {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			damagedAt(t, rec.check, rec.kind, rec.data, stride(name))
		})
	}
	t.Run("published", func(t *testing.T) {
		t.Parallel()
		dir := testdata.Dir(t, "pki")
		space := stores(t, dir)["tu+qes"]
		for _, f := range []string{"A1_verordnung_ber.p7s", "A5_abgabe_smcb_fdcountersigned_ocsp.p7s", "A4_quittung_osig_ocsp.p7s"} {
			data, err := os.ReadFile(filepath.Join(dir, "cms", f))
			if err != nil {
				t.Fatal(err)
			}
			damagedAt(t, &Checker{Space: func() *trust.Space { return space }, Clock: func() time.Time { return day("2025-04-01") }, Status: fixedStatus{}}, Unknown, data, stride(f))
		}
	})
}

func damagedAt(t *testing.T, c *Checker, kind Kind, data []byte, stride int) {
	t.Helper()
	c.Chains, c.Certificates, c.Verifier = trust.NewChainCache(1000), NewCertificateCache(1000), &brainpool.TableCache{MaxBytes: 8 << 20}
	check := func(b []byte) *Report {
		return c.Check(context.Background(), &Case{Single: true, Records: []Given{{Kind: kind, Data: b}}}).Records[0]
	}
	// What a verdict stands for.
	essence := func(r *Report) string {
		return fmt.Sprint(r.ContentDigest, r.Signer.SHA256, r.SigningTime, r.PrescriptionIDs)
	}
	good := check(data)
	if good.Verdict != Valid {
		t.Fatalf("undamaged: %s", good.Text())
	}
	// Parts of a message that is not wrapped; content in pieces has none that is looked for.
	protected := make([]bool, len(data))
	bare := len(data) > 0 && data[0] == 0x30
	if bare {
		sd, err := cms.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range [][]byte{sd.Content, sd.Signers[0].Signature, sd.FindCertificate(&sd.Signers[0])} {
			if at := bytes.Index(data, part); at >= 0 {
				for i := range part {
					protected[at+i] = true
				}
			}
		}
	}
	b := make([]byte, len(data))
	for i := 0; i < len(data); i += stride {
		for _, flip := range []byte{1 << (i % 8), 0x80 >> (i % 7)}[:1+min(stride-1, 1)] {
			copy(b, data)
			b[i] ^= flip
			if r := check(b); r.Verdict.OK() && (protected[i] || essence(r) != essence(good)) {
				t.Errorf("octet %d changed by %#x: accepted as\n%s", i, flip, r.Text())
			}
		}
		if r := check(data[:i]); r.Verdict.OK() && (bare || essence(r) != essence(good)) {
			t.Errorf("first %d octets: accepted as\n%s", i, r.Text())
		}
	}
}

// FuzzCheck: nothing that comes in makes the check panic, and nothing that was not signed is accepted.
func FuzzCheck(f *testing.F) {
	r := newRig(f)
	signed := map[string]bool{}
	for range 2 {
		made := r.made(f)
		for _, data := range [][]byte{made.Prescription, made.Dispensing, made.Receipt, testpki.BinaryXML("v", made.Prescription), testpki.BinaryJSON("a", made.Dispensing),
			testpki.SignedReceiptXML(made.ReceiptContent, made.Receipt)} {
			f.Add(data)
		}
		for _, content := range [][]byte{made.PrescriptionContent, made.DispensingContent, made.ReceiptContent} {
			signed[fmt.Sprintf("%x", sha256.Sum256(content))] = true
		}
	}
	c := r.checker()
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, rec := range c.Check(context.Background(), &Case{Single: true, Records: []Given{{Data: data}}}).Records {
			if rec.Verdict.OK() && !signed[rec.ContentDigest] {
				t.Errorf("accepted: %s", rec.Text())
			}
		}
	})
}

// TestLengthsWithoutContent: lengths that claim gigabytes cost nothing.
func TestLengthsWithoutContent(t *testing.T) {
	t.Parallel()
	c := newRig(t).checker()
	for _, b := range [][]byte{
		{0x30, 0x84, 0xff, 0xff, 0xff, 0xff},
		{0x30, 0x85, 0x01, 0, 0, 0, 0},
		{0x30, 0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		bytes.Repeat([]byte{0x30, 0x80}, 100_000),
		bytes.Repeat([]byte{0x24, 0x80}, 100_000),
		[]byte(strings.Repeat("<a>", 100_000)),
		[]byte(strings.Repeat(`{"a":`, 100_000)),
		nil,
		bytes.Repeat([]byte("MA"), 1<<20),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := c.Check(context.Background(), &Case{Single: true, Records: []Given{{Data: b}}})
		runtime.ReadMemStats(&after)
		if r.Verdict.OK() {
			t.Errorf("% .16x: %s", b, r.Verdict)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 512<<20 {
			t.Errorf("% .16x: %d octets allocated", b, grown)
		}
	}
}

// counter counts core operations.
type counter struct {
	brainpool.TableCache
	signatures atomic.Int64
}

func (c *counter) VerifyECDSA(key *brainpool.PublicKey, e, rs []byte) bool {
	c.signatures.Add(1)
	return c.TableCache.VerifyECDSA(key, e, rs)
}

// countedStatus counts questions.
type countedStatus struct {
	fixedStatus
	asked atomic.Int64
}

func (c *countedStatus) Status(ctx context.Context, q trust.StatusQuery) (trust.StatusAnswer, error) {
	c.asked.Add(1)
	return c.fixedStatus.Status(ctx, q)
}

// TestCosts: with chains and statuses of the signers known, a case costs its three core signatures and nothing else, so that a
// million records of ten thousand signers cost a million core signatures and ten thousand chains.
func TestCosts(t *testing.T) {
	t.Parallel()
	req.Covers(t, "ERP-30")
	r := newRig(t)
	// With LONG it is the million: five thousand doctors and as many pharmacies, one case of each pair again and again.
	signers, made, rounds := 5, 4, 4
	if longrun.Long() {
		signers, made, rounds = 5000, 1, 67
	}
	cases := make([][]*Case, made)
	for range signers {
		o := r.options()
		o.Doctor, o.Pharmacy = r.issue(t, testpki.Doctor, testpki.BrainpoolKey, nil), r.issue(t, testpki.Pharmacy, testpki.BrainpoolKey, nil)
		for _, s := range []*testpki.Signer{o.Doctor, o.Pharmacy, o.Service} {
			answer, err := r.b.Status(s, testpki.StatusAnswer{ProducedAt: rigTime.AddDate(0, 0, -1).Add(-time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			switch s {
			case o.Doctor:
				o.PrescriptionStatus = nil
				s.Answer = answer
			case o.Pharmacy:
				o.Dispensing = func(c *testpki.CMSOptions) { c.BER, c.OCSP = true, [][]byte{answer} }
			default:
				clone := *s
				clone.Answer = answer
				o.Service = &clone
			}
		}
		for round := range cases {
			one, err := r.b.Case(o)
			if err != nil {
				t.Fatal(err)
			}
			cases[round] = append(cases[round], given(one))
		}
	}
	count := &counter{}
	c := r.checker()
	status := &countedStatus{}
	c.Chains, c.Certificates, c.Verifier, c.Status = trust.NewChainCache(50_000), NewCertificateCache(50_000), count, status
	for round := range rounds {
		before := count.signatures.Load()
		for _, in := range cases[round%made] {
			if rep := c.Check(context.Background(), in); rep.Verdict != Valid {
				t.Fatal(rep.Text())
			}
		}
		spent := count.signatures.Load() - before
		switch {
		// Of every signer the certificate, of every record the status answer (each case has one of its own about the service),
		// and once that the CA of doctors issued its responder.
		case round == 0 && spent != int64(3*signers+(2*signers+1)+3*signers+1):
			t.Errorf("first round: %d signatures", spent)
		case round > 0 && spent != int64(3*signers):
			t.Errorf("round %d: %d signatures for %d records", round, spent, 3*signers)
		}
	}
	if n := status.asked.Load(); n != 0 {
		t.Errorf("%d questions about statuses that were embedded", n)
	}
	if n := c.Certificates.Misses.Load(); n != int64(2*signers+1) {
		t.Errorf("%d certificates were parsed; %d signers", n, 2*signers+1)
	}
}

// TestConcurrent checks the same cases from many goroutines with one checker and small caches; the reports are those of a
// checker that works alone.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var cases []*Case
	var want []string
	for i := range 12 {
		o := r.options()
		if i%3 == 0 {
			o.Receipt = func(c *testpki.CMSOptions) { c.Fault = testpki.CMSFaultSignature }
		}
		o.Doctor = r.issue(t, testpki.Doctor, testpki.BrainpoolKey, nil)
		made, err := r.b.Case(o)
		if err != nil {
			t.Fatal(err)
		}
		cases = append(cases, given(made))
		line, err := r.checker().Check(context.Background(), given(made)).AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, string(line))
	}
	c := r.checker()
	c.Chains, c.Certificates, c.Verifier = trust.NewChainCache(4), NewCertificateCache(4), &brainpool.TableCache{MaxBytes: 1 << 20}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 3 * len(cases) {
				n := (i + worker) % len(cases)
				line, err := c.Check(context.Background(), cases[n]).AppendJSON(nil)
				if err != nil || string(line) != want[n] {
					t.Errorf("case %d: %v\n%s", n, err, cmp.Diff(want[n], string(line)))
				}
			}
		}()
	}
	wg.Wait()
}

// fill sets every field of a value to something, so that none is forgotten in a comparison.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(rigTime.Add(time.Duration(*n) * time.Millisecond)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d <\"ä\\\x01>", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(uint64(*n % 5))
	default:
		v.SetInt(int64(*n))
	}
}

// TestAppendJSON holds the writer next to encoding/json: with every field set, with none, and for real reports.
func TestAppendJSON(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	made := r.made(t)
	full, n := &CaseReport{}, 0
	fill(reflect.ValueOf(full).Elem(), &n)
	if n < 150 {
		t.Fatalf("only %d values are set", n)
	}
	for name, rep := range map[string]*CaseReport{"full": full, "empty": {}, "empty record": {Records: []*Report{{}}}, "real": r.checker().Check(context.Background(), given(made)),
		"unreadable": Unreadable("x", CodeInput, "y"), "damaged": r.checker().Check(context.Background(), &Case{Single: true, Records: []Given{{Data: made.Receipt[:100]}}})} {
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(rep); err != nil {
			t.Fatal(err)
		}
		got, err := rep.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.String(), string(got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestReportComesBack: a report survives JSON, and holds nothing of the insured person.
func TestReportComesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	made := r.made(t)
	c := r.checker()
	c.Archive = true
	rep := c.Check(context.Background(), given(made))
	line, err := rep.AppendJSON([]byte("x"))
	if err != nil || !bytes.HasPrefix(line, []byte(`x{"`)) || !bytes.HasSuffix(line, []byte("}\n")) || bytes.Count(line, []byte("\n")) != 1 {
		t.Fatalf("%s, %v", line, err)
	}
	var back CaseReport
	if err := json.Unmarshal(line[1:], &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rep, &back); diff != "" {
		t.Error(diff)
	}
	if len(rep.Records[0].Status.Response) == 0 {
		t.Error("the status answer is not in the report for the archive")
	}
	for _, content := range [][]byte{made.PrescriptionContent, made.DispensingContent} {
		for _, element := range []string{"family", "birthDate", "text"} {
			for _, part := range bytes.Split(content, []byte("<"+element+` value="`))[1:] {
				value, _, _ := bytes.Cut(part, []byte(`"`))
				if len(value) > 3 && bytes.Contains(line, value) && !strings.Contains(rep.Records[0].Signer.Subject, string(value)) {
					t.Errorf("the report holds the %s %q of the content", element, value)
				}
			}
		}
	}
}
