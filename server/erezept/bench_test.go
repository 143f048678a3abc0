package erezept

import (
	"context"
	"testing"

	"ktradv/internal/brainpool"
	"ktradv/internal/ocsp"
	"ktradv/internal/testpki"
	"ktradv/server/trust"
)

// answers are status answers by certificate; each is checked as one from the network is.
type answers map[string][]byte

func (a answers) Status(_ context.Context, q trust.StatusQuery) (trust.StatusAnswer, error) {
	raw := a[string(q.Certificate.Raw)]
	r, err := ocsp.ParseResponse(raw)
	if err != nil {
		return trust.StatusAnswer{}, err
	}
	res, err := r.Verify(ocsp.Check{Certificate: q.Certificate, Issuer: q.Issuer, Responders: q.Responders, ListedOnly: q.ListedOnly,
		Now: q.Now, Reference: q.At, Verifier: q.Verifier, IgnoreCertHash: q.IgnoreCertHash})
	return trust.StatusAnswer{Result: res, Source: "online", Raw: raw}, err
}

// benchPool makes cases of n doctors and n pharmacies.
func benchPool(b *testing.B, n int) ([]*Case, answers) {
	r := newRig(b)
	var cases []*Case
	known := answers{}
	for i := range n {
		d, err := r.b.Issue(testpki.Doctor, 1000+i, testpki.BrainpoolKey, nil)
		if err != nil {
			b.Fatal(err)
		}
		p, err := r.b.Issue(testpki.Pharmacy, 1000+i, testpki.BrainpoolKey, nil)
		if err != nil {
			b.Fatal(err)
		}
		known[string(p.Certificate)], err = r.b.Status(p, testpki.StatusAnswer{ProducedAt: rigTime})
		if err != nil {
			b.Fatal(err)
		}
		o := r.options()
		o.Doctor, o.Pharmacy = d, p
		c, err := r.b.Case(o)
		if err != nil {
			b.Fatal(err)
		}
		cases = append(cases, given(c))
	}
	return cases, known
}

// BenchmarkCase checks cases: with doctor and pharmacy new in each, and with everything seen before.
func BenchmarkCase(b *testing.B) {
	const n = 400
	cases, known := benchPool(b, n)
	fresh := func() *Checker {
		c := newRig(b).checker()
		c.Chains, c.Certificates, c.Verifier, c.Status = trust.NewChainCache(4*n), NewCertificateCache(4*n), &brainpool.TableCache{MaxBytes: 256 << 20}, known
		return c
	}
	run := func(b *testing.B, c *Checker, in *Case, out []byte) []byte {
		r := c.Check(context.Background(), in)
		if r.Verdict != Valid {
			b.Fatal(r.Text())
		}
		out, err := r.AppendJSON(out[:0])
		if err != nil {
			b.Fatal(err)
		}
		return out
	}
	b.Run("new signers", func(b *testing.B) {
		b.ReportAllocs()
		var c *Checker
		var out []byte
		for i := range b.N {
			if i%(n-100) == 0 {
				b.StopTimer()
				c = fresh()
				for _, in := range cases[n-100:] {
					out = run(b, c, in, out)
				}
				b.StartTimer()
			}
			out = run(b, c, cases[i%(n-100)], out)
		}
	})
	b.Run("known signers", func(b *testing.B) {
		b.ReportAllocs()
		c := fresh()
		var out []byte
		for range 4 {
			for _, in := range cases {
				out = run(b, c, in, out)
			}
		}
		b.ResetTimer()
		for i := range b.N {
			out = run(b, c, cases[i%n], out)
		}
	})
}
