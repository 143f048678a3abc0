package main

import (
	"context"
	"io"
	"strings"
	"testing"
)

// TestBillingCases: what is measured are valid cases, each with signers of its own, and the measurement notices when one
// is not.
func TestBillingCases(t *testing.T) {
	t.Parallel()
	w, err := newBilling()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.grow(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if len(w.lines) != 4 || len(w.answers.byCertificate) != 4 {
		t.Fatalf("%d cases, %d pharmacies", len(w.lines), len(w.answers.byCertificate))
	}
	perCore, perSecond, err := w.rate(t.Context(), w.checker(), 2, 1, 9)
	if err != nil || perCore <= 0 || perSecond <= 0 {
		t.Errorf("%f, %f, %v", perCore, perSecond, err)
	}
	w.lines[2] = []byte(strings.Replace(string(w.lines[2]), `"abgabe":"M`, `"abgabe":"N`, 1))
	if err := w.check(context.Background(), w.checker(), 1, 0, 4); err == nil || !strings.Contains(err.Error(), "of 4 cases 3 are valid") {
		t.Errorf("a damaged case: %v", err)
	}
}

// TestCaseReader: lines come in turn, each with its own number.
func TestCaseReader(t *testing.T) {
	t.Parallel()
	b, err := io.ReadAll(&caseReader{lines: [][]byte{[]byte("a\n"), []byte("b\n")}, next: 9, left: 3})
	if want := "{\"id\":\"9\",b\n{\"id\":\"10\",a\n{\"id\":\"11\",b\n"; err != nil || string(b) != want {
		t.Errorf("%q, %v; want %q", b, err, want)
	}
	if n, err := resident(); err != nil || n < 1<<20 {
		t.Errorf("resident memory %d, %v", n, err)
	}
}
