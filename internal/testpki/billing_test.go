package testpki

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// newBilling makes a small billing PKI for tests.
func newBilling(t testing.TB) (*PKI, *Billing) {
	t.Helper()
	p, err := New(Config{Now: time.Date(2025, 6, 15, 9, 0, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.NewBilling()
	if err != nil {
		t.Fatal(err)
	}
	return p, b
}

func issueSigner(t testing.TB, b *Billing, profile SignerProfile, n int, kind KeyKind) *Signer {
	t.Helper()
	s, err := b.Issue(profile, n, kind, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCaseOpenSSL has OpenSSL check the messages of a case: a writer of our own is only worth something when somebody
// else reads what it writes.
func TestCaseOpenSSL(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	_, b := newBilling(t)
	for _, kind := range []KeyKind{BrainpoolKey, RSAKey, P256Key} {
		c, err := b.Case(CaseOptions{
			Doctor: issueSigner(t, b, Doctor, 1, kind), Pharmacy: issueSigner(t, b, Pharmacy, 1, kind), Service: issueSigner(t, b, Service, 1, kind),
			Prescription: func(o *CMSOptions) { o.PSS = true },
			Dispensing: func(o *CMSOptions) {
				x := issueSigner(t, b, Service, 2, BrainpoolKey).X509Identity
				o.Countersigner = &x
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		for name, message := range map[string][]byte{"prescription": c.Prescription, "dispensing": c.Dispensing, "receipt": c.Receipt} {
			file := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(file, message, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("openssl", "cms", "-verify", "-noverify", "-inform", "DER", "-in", file, "-out", os.DevNull).CombinedOutput()
			if err != nil {
				t.Errorf("%v %s: %v: %s", kind, name, err, out)
			}
		}
	}
}

// TestPrescriptionID checks two published IDs.
func TestPrescriptionID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flow   int
		number uint64
		want   string
	}{{200, 2425333, "200.000.002.425.333.42"}, {160, 6708177, "160.000.006.708.177.19"}} {
		if got := PrescriptionID(c.flow, c.number); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

// BenchmarkIssue measures what one signer of a pool costs.
func BenchmarkIssue(b *testing.B) {
	_, billing := newBilling(b)
	for b.Loop() {
		issueSigner(b, billing, Doctor, 1, BrainpoolKey)
	}
}

// BenchmarkCase measures what one case costs when signers and status answers are there.
func BenchmarkCase(b *testing.B) {
	_, billing := newBilling(b)
	o := CaseOptions{Doctor: issueSigner(b, billing, Doctor, 1, BrainpoolKey), Pharmacy: issueSigner(b, billing, Pharmacy, 1, BrainpoolKey), Service: issueSigner(b, billing, Service, 1, BrainpoolKey)}
	var err error
	for _, s := range []*Signer{o.Doctor, o.Service} {
		if s.Answer, err = billing.Status(s, StatusAnswer{ProducedAt: billing.pki.Now().Add(-25 * time.Hour)}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		c, err := billing.Case(o)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(c.Prescription) + len(c.Dispensing) + len(c.Receipt)))
	}
}
