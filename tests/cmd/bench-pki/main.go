// Command bench-pki measures the PKI core: curve arithmetic beside `openssl speed`, and the check of billing cases. Both
// sides of a comparison run on one pinned core in turns, rates are per second of processor time, and the best turn of each
// counts, so that a busy machine disturbs neither. It writes a JSON object of name -> {value, unit}; a ratio is our operations per second over those
// of openssl, higher is better.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ktradv/tests/figures"
)

// suite is one part of the measurements. It adds its figures to the set.
type suite struct {
	name    string
	measure func(ctx context.Context, m *machine, set figures.Set) error
}

// suites are run in this order.
var suites = []suite{
	{"brainpool", measureBrainpool},
	{"erezept", measureErezept},
}

func main() {
	out := flag.String("o", "out/bench-pki.json", "file for the figures")
	only := flag.String("only", "", "run only this suite: "+suiteNames())
	cases := flag.Int(strings.TrimPrefix(growthFlag, "-"), 0, "only check a stream of `n` cases and print by how much the memory grew")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *cases > 0 {
		if err := growth(ctx, *cases); err != nil {
			fmt.Fprintln(os.Stderr, "bench-pki:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(ctx, *out, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench-pki:", err)
		os.Exit(1)
	}
}

func suiteNames() string {
	var names []string
	for _, s := range suites {
		names = append(names, s.name)
	}
	return strings.Join(names, ", ")
}

func run(ctx context.Context, out, only string) error {
	m, err := newMachine()
	if err != nil {
		return err
	}
	set, found := figures.Set{}, false
	for _, s := range suites {
		if only != "" && s.name != only {
			continue
		}
		found = true
		if err := s.measure(ctx, m, set); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if !found {
		return fmt.Errorf("no suite %q; there are: %s", only, suiteNames())
	}
	set.Print(os.Stdout)
	return set.Write(out)
}

// machine pins the process to some of the cores that it may use.
type machine struct{ cores []int }

func newMachine() (*machine, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("usable cores: %w", err)
	}
	m := &machine{}
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			m.cores = append(m.cores, i)
		}
	}
	if len(m.cores) == 0 {
		return nil, errors.New("no usable core")
	}
	return m, nil
}

// pin runs f with all threads of the process, and the programs that it starts, on n cores, and as many threads running Go
// code.
func (m *machine) pin(n int, f func() error) error {
	if n > len(m.cores) {
		return fmt.Errorf("%d cores are needed, there are %d", n, len(m.cores))
	}
	before := runtime.GOMAXPROCS(n)
	defer runtime.GOMAXPROCS(before)
	// The last ones: the first core often serves the interrupts.
	if err := setAffinity(m.cores[len(m.cores)-n:]); err != nil {
		return err
	}
	err := f()
	return errors.Join(err, setAffinity(m.cores))
}

// setAffinity moves every thread; new threads and processes inherit it.
func setAffinity(cores []int) error {
	var set unix.CPUSet
	for _, c := range cores {
		set.Set(c)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("threads of the process: %w", err)
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("thread %q: %w", t.Name(), err)
		}
		if err := unix.SchedSetaffinity(id, &set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("pin thread %d to cores %v: %w", id, cores, err)
		}
	}
	return nil
}

// rate calls f for the duration and returns calls per second of processor time, which is what openssl speed counts, too:
// another program on the core disturbs neither.
func rate(d time.Duration, f func(i int) error) (float64, error) {
	const batch = 16 // calls between two looks at the clock
	start, err := processorTime()
	if err != nil {
		return 0, err
	}
	for n := 0; ; {
		for range batch {
			if err := f(n); err != nil {
				return 0, err
			}
			n++
		}
		now, err := processorTime()
		if err != nil {
			return 0, err
		}
		if spent := now - start; spent >= d {
			return float64(n) / spent.Seconds(), nil
		}
	}
}

// processorTime is what all threads of the process have spent, the garbage collector's included.
func processorTime() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0, fmt.Errorf("processor time: %w", err)
	}
	return time.Duration(t.Nano()), nil
}
