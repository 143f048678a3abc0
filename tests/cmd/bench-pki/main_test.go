package main

import (
	"context"
	"errors"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"ktradv/internal/brainpool"
	"ktradv/tests/figures"
)

func TestParseSpeed(t *testing.T) {
	t.Parallel()
	good := "+F4:16:256:3000.000000:4307.692308\n+F5:16:256:4556.666667:0.000219\n"
	got, err := parseSpeed([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]float64{"sign": 3000, "verify": 4307.692308, "ecdh": 4556.666667}, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"", "+F4:16:256:3000.0:4307.7\n", "+F4:16:256:3000.0\n+F5:16:256:1:1\n", "+F4:16:256:x:4307.7\n+F5:16:256:4556.7:0\n",
		"+F4:16:256:0.0003:0.0002\n+F5:16:256:4556.7:0\n"} { // seconds per operation are no rates
		if got, err := parseSpeed([]byte(bad)); err == nil {
			t.Errorf("%q gives %v", bad, got)
		}
	}
}

// The names are part of what people compare over time.
func TestBrainpoolNames(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl command is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	set := figures.Set{}
	if err := (comparison{brainpool.P256r1(), "brainpool", "brp256r1", 1, 10 * time.Millisecond, true}).measure(ctx, set); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"verify_ratio_openssl", "verify_cached_ratio_openssl", "sign_ratio_openssl", "ecdh_ratio_openssl"} {
		if f := set["brainpool."+name]; f.Value <= 0 || f.Unit != "ratio" || f.Goal == "" {
			t.Errorf("%s = %+v", name, f)
		}
	}
}

func TestPin(t *testing.T) { // not parallel: it moves the whole process
	m, err := newMachine()
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.GOMAXPROCS(0)
	wanted := errors.New("from inside")
	err = m.pin(1, func() error {
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(0, &set); err != nil {
			return err
		}
		if set.Count() != 1 || runtime.GOMAXPROCS(0) != 1 {
			t.Errorf("%d cores, %d threads of Go", set.Count(), runtime.GOMAXPROCS(0))
		}
		return wanted
	})
	if !errors.Is(err, wanted) {
		t.Errorf("error %v", err)
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil || set.Count() != len(m.cores) || runtime.GOMAXPROCS(0) != before {
		t.Errorf("afterwards %d cores (%v), %d threads of Go", set.Count(), err, runtime.GOMAXPROCS(0))
	}
	if err := m.pin(len(m.cores)+1, func() error { return nil }); err == nil {
		t.Error("pinned to more cores than there are")
	}
}
