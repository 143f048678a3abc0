package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"ktradv/internal/brainpool"
	"ktradv/internal/longrun"
	"ktradv/internal/ocsp"
	"ktradv/internal/testpki"
	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
	"ktradv/server/erezept"
	"ktradv/server/trust"
	"ktradv/server/verify"
	"ktradv/tests/figures"
)

// The billing cases that are measured. Every case is a line of NDJSON with three records in base64, goes through the whole
// batch engine and comes out as a report in JSON: what `adv-server verify -stream` does.
const (
	newCases     = 1500   // with doctor and pharmacy new in each
	repeatCases  = 10_000 // doctors and pharmacies that come again and again
	growthCases  = 500    // pool of the memory measurement
	warmUp       = 60     // cases before a turn with new signers, to make CAs, responders and receipt signer known
	erezeptTurns = 4      // the best one counts
	tableBytes   = 256 << 20
	cacheEntries = 50_000
)

var benchTime = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// billing is a PKI with cases.
type billing struct {
	b       *testpki.Billing
	space   *trust.Space
	service *testpki.Signer
	lines   [][]byte // without id, see caseReader
	answers statusAnswers
}

// statusAnswers are status answers by certificate. Each is read and checked as one from the network is; the responder, whose
// certificate comes with every answer, is known as CAs are.
type statusAnswers struct {
	byCertificate map[string][]byte
	responders    *sync.Map // certificates as parsed, by their octets
}

// Status implements trust.StatusSource.
func (a statusAnswers) Status(_ context.Context, q trust.StatusQuery) (trust.StatusAnswer, error) {
	raw := a.byCertificate[string(q.Certificate.Raw)]
	r, err := ocsp.ParseResponseWith(raw, func(der []byte) (*x509ti.Certificate, error) {
		if known, ok := a.responders.Load(string(der)); ok {
			return known.(*x509ti.Certificate), nil
		}
		c, err := x509ti.Parse(der)
		if err == nil {
			a.responders.Store(string(der), c)
		}
		return c, err
	})
	if err != nil {
		return trust.StatusAnswer{}, err
	}
	res, err := r.Verify(ocsp.Check{Certificate: q.Certificate, Issuer: q.Issuer, Responders: q.Responders, ListedOnly: q.ListedOnly,
		Now: q.Now, Reference: q.At, Verifier: q.Verifier, IgnoreCertHash: q.IgnoreCertHash})
	return trust.StatusAnswer{Result: res, Source: "online", Raw: raw}, err
}

// newBilling makes a PKI with its lists, read and verified, and one signer of receipts.
func newBilling() (*billing, error) {
	p, err := testpki.New(testpki.Config{Now: benchTime})
	if err != nil {
		return nil, err
	}
	w := &billing{answers: statusAnswers{map[string][]byte{}, &sync.Map{}}}
	if w.b, err = p.NewBilling(); err != nil {
		return nil, err
	}
	if w.service, err = w.b.Issue(testpki.Service, 1, testpki.BrainpoolKey, nil); err != nil {
		return nil, err
	}
	lists, err := w.b.Lists(testpki.ListOptions{})
	if err != nil {
		return nil, err
	}
	anchor, err := x509ti.Parse(lists.Anchor)
	if err != nil {
		return nil, err
	}
	t, err := tsl.Parse(lists.TSL)
	if err != nil {
		return nil, err
	}
	if _, err := t.Verify(benchTime, []*x509ti.Certificate{anchor}, nil); err != nil {
		return nil, err
	}
	v, err := tsl.Parse(lists.VL)
	if err != nil {
		return nil, err
	}
	var signers []*x509ti.Certificate
	for _, s := range t.Of(tsl.TypeVLSigner) {
		signers = append(signers, s.Certificates...)
	}
	if err := v.VerifyVL(benchTime, signers, nil); err != nil {
		return nil, err
	}
	w.space, err = trust.NewSpace(trust.Config{TSLs: []*tsl.List{t}, VLs: []*tsl.List{v}, Clock: func() time.Time { return benchTime }})
	return w, err
}

// grow makes cases until there are n, each with a doctor and a pharmacy of its own.
func (w *billing) grow(ctx context.Context, n int) error {
	from := len(w.lines)
	if n <= from {
		return nil
	}
	type made struct {
		line, certificate, answer []byte
	}
	all := make([]made, n-from)
	g, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		g.Go(func() error {
			for i := worker; i < len(all) && ctx.Err() == nil; i += workers {
				doctor, err := w.b.Issue(testpki.Doctor, from+i, testpki.BrainpoolKey, nil)
				if err != nil {
					return err
				}
				pharmacy, err := w.b.Issue(testpki.Pharmacy, from+i, testpki.BrainpoolKey, nil)
				if err != nil {
					return err
				}
				c, err := w.b.Case(testpki.CaseOptions{Doctor: doctor, Pharmacy: pharmacy, Service: w.service})
				if err != nil {
					return err
				}
				answer, err := w.b.Status(pharmacy, testpki.StatusAnswer{ProducedAt: benchTime})
				if err != nil {
					return err
				}
				text := base64.StdEncoding.EncodeToString
				all[i] = made{certificate: pharmacy.Certificate, answer: answer,
					line: fmt.Appendf(nil, `"verordnung":"%s","abgabe":"%s","quittung":"%s"}`+"\n", text(c.Prescription), text(c.Dispensing), text(c.Receipt))}
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("make cases: %w", err)
	}
	for _, m := range all {
		w.lines = append(w.lines, m.line)
		w.answers.byCertificate[string(m.certificate)] = m.answer
	}
	return nil
}

// checker is one with nothing in its caches.
func (w *billing) checker() *erezept.Checker {
	return &erezept.Checker{Space: func() *trust.Space { return w.space }, Status: w.answers, Clock: func() time.Time { return benchTime },
		Chains: trust.NewChainCache(cacheEntries), Certificates: erezept.NewCertificateCache(cacheEntries),
		Verifier: &brainpool.TableCache{MaxBytes: tableBytes}}
}

// caseReader is a stream of cases from the pool in turn, each with a number of its own.
type caseReader struct {
	lines [][]byte
	next  int
	left  int
	rest  [2][]byte // of the present line
	id    []byte
}

// Read implements io.Reader.
func (r *caseReader) Read(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		if len(r.rest[0]) == 0 {
			r.rest[0], r.rest[1] = r.rest[1], nil
		}
		if len(r.rest[0]) == 0 {
			if r.left == 0 {
				break
			}
			r.left--
			r.id = append(strconv.AppendInt(append(r.id[:0], `{"id":"`...), int64(r.next), 10), `",`...)
			r.rest = [2][]byte{r.id, r.lines[r.next%len(r.lines)]}
			r.next++
		}
		m := copy(b[n:], r.rest[0])
		r.rest[0], n = r.rest[0][m:], n+m
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// check has n cases checked, from the case with the number first on. All must be valid.
func (w *billing) check(ctx context.Context, c *erezept.Checker, jobs, first, n int) error {
	e := &verify.Engine{Checker: c, Format: verify.JSON, Jobs: jobs, Started: benchTime}
	counts, err := e.Run(ctx, &caseReader{lines: w.lines, next: first, left: n}, io.Discard)
	if err != nil {
		return err
	}
	if counts[erezept.Valid] != int64(n) {
		return fmt.Errorf("of %d cases %d are valid", n, counts[erezept.Valid])
	}
	return nil
}

// rate checks n cases and returns cases per second of processor time and per second of the clock. Processor time is that of
// the whole process, the collection of garbage with it: what one core does in a second whether or not others use it, too,
// as `openssl speed` measures.
func (w *billing) rate(ctx context.Context, c *erezept.Checker, jobs, first, n int) (perCore, perSecond float64, err error) {
	start := time.Now()
	before, err := processorTime()
	if err != nil {
		return 0, 0, err
	}
	if err := w.check(ctx, c, jobs, first, n); err != nil {
		return 0, 0, err
	}
	after, err := processorTime()
	return float64(n) / (after - before).Seconds(), float64(n) / time.Since(start).Seconds(), err
}

func measureErezept(ctx context.Context, m *machine, set figures.Set) error {
	w, err := newBilling()
	if err != nil {
		return err
	}
	if err := w.grow(ctx, repeatCases); err != nil {
		return err
	}
	if err := w.measureNew(ctx, m, set); err != nil {
		return err
	}
	if err := w.measureRepeat(ctx, m, set); err != nil {
		return err
	}
	return measureGrowth(ctx, set)
}

// measureNew measures cases whose doctor and pharmacy were never seen: caches and tables are empty but for what the warm-up
// put there.
func (w *billing) measureNew(ctx context.Context, m *machine, set figures.Set) error {
	var best, allocations float64
	err := m.pin(1, func() error {
		for turn := range erezeptTurns {
			c := w.checker()
			first := turn * (newCases + warmUp)
			if err := w.check(ctx, c, 1, first, warmUp); err != nil {
				return err
			}
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, _, err := w.rate(ctx, c, 1, first+warmUp, newCases)
			if err != nil {
				return err
			}
			runtime.ReadMemStats(&after)
			best, allocations = max(best, got), float64(after.Mallocs-before.Mallocs)/newCases
		}
		return nil
	})
	set.Add("erezept.cases_per_core_per_s", best, "1/s", "2000")
	set.Add("erezept.allocs_per_case", allocations, "allocations", "")
	return err
}

// measureRepeat measures cases of doctors and pharmacies that were all seen before, on one core and on two.
func (w *billing) measureRepeat(ctx context.Context, m *machine, set figures.Set) error {
	c := w.checker()
	for range 4 {
		if err := w.check(ctx, c, runtime.GOMAXPROCS(0), 0, repeatCases); err != nil {
			return err
		}
	}
	var perCore float64
	var best [3]float64 // by number of cores
	for range erezeptTurns {
		for cores := 1; cores <= min(2, len(m.cores)); cores++ {
			err := m.pin(cores, func() error {
				core, second, err := w.rate(ctx, c, cores, 0, repeatCases)
				if cores == 1 {
					perCore = max(perCore, core)
				}
				best[cores] = max(best[cores], second)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	set.Add("erezept.cases_repeat_signers_per_core_per_s", perCore, "1/s", "3500")
	if best[2] > 0 {
		set.Add("erezept.scaling_2_cores", best[2]/best[1], "ratio", "1.9")
	}
	return nil
}

// growthFlag makes the program the child that measures its memory.
const growthFlag = "-erezept-growth"

// measureGrowth runs the stream in a process of its own, whose memory holds nothing else.
func measureGrowth(ctx context.Context, set figures.Set) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	long := "1000000"
	if longrun.Long() {
		long = "10000000"
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, self, growthFlag, long)
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("memory of a long stream: %w", err)
	}
	grown, err := strconv.ParseFloat(strings.TrimSpace(out.String()), 64)
	if err != nil {
		return fmt.Errorf("memory of a long stream: %q", out.String())
	}
	set.Add("erezept.rss_growth_10k_to_1M_bytes", grown, "bytes", "16777216")
	if long == "10000000" {
		set.Add("erezept.rss_growth_10k_to_10M_bytes", grown, "bytes", "16777216")
	}
	return nil
}

// growth is the child: it checks a stream of n cases and prints by how many octets the largest resident memory after the
// first ten thousand grew until the end.
func growth(ctx context.Context, n int) error {
	const early = 10_000
	if n <= early {
		return errors.New("the stream is too short")
	}
	w, err := newBilling()
	if err != nil {
		return err
	}
	if err := w.grow(ctx, growthCases); err != nil {
		return err
	}
	c, jobs := w.checker(), runtime.GOMAXPROCS(0)
	var first, last int64
	watch := &residentReader{caseReader: caseReader{lines: w.lines, left: n}, early: early, first: &first, last: &last}
	e := &verify.Engine{Checker: c, Format: verify.JSON, Jobs: jobs, Started: benchTime}
	counts, err := e.Run(ctx, watch, io.Discard)
	if err != nil {
		return err
	}
	if counts[erezept.Valid] != int64(n) {
		return fmt.Errorf("of %d cases %d are valid", n, counts[erezept.Valid])
	}
	_, err = fmt.Println(max(last-first, 0))
	return err
}

// residentReader looks at the process's memory while the stream is read: the largest until early cases, and the largest
// until the end.
type residentReader struct {
	caseReader
	early       int
	looked      int
	first, last *int64
}

// Read implements io.Reader.
func (r *residentReader) Read(b []byte) (int, error) {
	if r.next/100 != r.looked {
		r.looked = r.next / 100
		now, err := resident()
		if err != nil {
			return 0, err
		}
		if r.next <= r.early {
			*r.first = max(*r.first, now)
		}
		*r.last = max(*r.last, now)
	}
	return r.caseReader.Read(b)
}

// resident is the resident memory of this process in octets.
func resident() (int64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, errors.New("/proc/self/statm cannot be read")
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
