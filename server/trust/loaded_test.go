package trust

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"ktradv/internal/testpki"
	"ktradv/internal/x509ti"
)

// TestLazyView: a list is read once while it is in memory, what was not asked for lately goes first, and an error passes.
func TestLazyView(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	loaded := &loadedViews{limit: 3}
	reads := make([]int, 5)
	broken := errors.New("disk")
	var fail error
	views := make([]*lazyView, len(reads))
	for i := range views {
		views[i] = &lazyView{loaded: loaded, clock: func() time.Time { return now }, read: func() (*view, error) {
			if reads[i]++; fail != nil {
				return nil, fail
			}
			return &view{}, nil
		}}
	}
	load := func(i int, wantReads int, wantErr error) {
		t.Helper()
		v, err := views[i].load()
		if !errors.Is(err, wantErr) || (v == nil) != (err != nil) || reads[i] != wantReads {
			t.Errorf("list %d: %v, %d reads; want %v, %d", i, err, reads[i], wantErr, wantReads)
		}
	}
	fail = broken
	load(0, 1, broken)
	fail = nil
	now = now.Add(retryRead - time.Second)
	load(0, 1, broken) // the error stands
	now = now.Add(time.Second)
	load(0, 2, nil)
	load(0, 2, nil)
	load(1, 1, nil)
	load(2, 1, nil)
	load(0, 2, nil)
	load(2, 1, nil)
	load(3, 1, nil) // in the place of 1, which was not asked for again
	load(0, 2, nil)
	load(2, 1, nil)
	load(1, 2, nil)
	inMemory := 0
	for _, v := range views {
		if v.view.Load() != nil {
			inMemory++
		}
	}
	if inMemory != 3 || len(loaded.ring) != 3 {
		t.Errorf("%d lists in memory, %d places", inMemory, len(loaded.ring))
	}
}

// TestPool: equal certificates are one, and nothing stays that nobody has.
func TestPool(t *testing.T) {
	t.Parallel()
	pki, err := testpki.New(testpki.Config{Rand: rand.NewChaCha8([32]byte{5})})
	if err != nil {
		t.Fatal(err)
	}
	parse := func(der []byte) *x509ti.Certificate {
		c, err := x509ti.Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	p := newPool()
	kept := p.get(parse(pki.SMBCA.Certificate))
	func() {
		first := p.get(parse(pki.EGKCA.Certificate))
		if again := p.get(parse(pki.EGKCA.Certificate)); again != first {
			t.Error("two of one certificate")
		}
		if n := p.len(); n != 2 {
			t.Errorf("%d certificates", n)
		}
		runtime.KeepAlive(first)
	}()
	for end := time.Now().Add(30 * time.Second); p.len() > 1 && time.Now().Before(end); {
		runtime.GC() // drops it; the note of it goes a little later
	}
	if n := p.len(); n != 1 {
		t.Errorf("%d certificates after nobody has the second any more", n)
	}
	if p.get(parse(pki.SMBCA.Certificate)) != kept {
		t.Error("one that is there was forgotten")
	}
	runtime.KeepAlive(kept)
}
