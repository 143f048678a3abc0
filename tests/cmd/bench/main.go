// Command bench runs the product's benchmarks and writes the figures that people compare: a JSON object of
// name -> {value, unit}. The benchmarks themselves are ordinary Go benchmarks beside the code that they measure; the
// table below says which metric of which benchmark a name stands for.
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"ktradv/tests/figures"
	"ktradv/tests/visit"
)

// source is where a figure comes from.
type source struct {
	name, unit string
	pkg, tags  string
	bench      string // as `go test -bench` wants it
	metric     string // unit of the metric in the benchmark's line
	time       string // -benchtime
	goal       string
}

var sources = []source{
	{"apdu.host_overhead_us", "us", "./hw/reader/pcsc", "pcsc", "^BenchmarkHostOverhead$", "overhead_us/op", "2s", ""},
	{"insert_to_screen_ms", "ms", "./tests/desk", "pcsc", "^BenchmarkInsertToScreen$", "insert-ms", "20x", "50"},
	{"frame_p99_ms_1080p", "ms", "./kiosk/ui", "", "^BenchmarkDensestFrame$/^compose$", "p99-ms", "400x", "8"},
	{"frame_allocs", "allocs/frame", "./kiosk/ui", "", "^BenchmarkDensestFrame$/^scroll$", "allocs/op", "400x", "100"},
	{"server.session_starts_per_core_per_s", "1/s", "./server/proxy", "", "^BenchmarkSessionStart$", "session_starts_per_core_per_s", "3s", ""},
}

func main() {
	out := flag.String("o", "out/bench.json", "file for the figures")
	flag.Parse()
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(out string) error {
	set := figures.Set{}
	for _, s := range sources {
		v, err := measure(s)
		if err != nil {
			return err
		}
		set.Add(s.name, v, s.unit, s.goal)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	apdus, trips, err := visit.MeasureStart(ctx)
	if err != nil {
		return err
	}
	set.Add("session.apdus", float64(apdus), "APDUs", "")
	set.Add("session.round_trips", float64(trips), "round trips", "6")
	set.Print(os.Stdout)
	return set.Write(out)
}

// measure runs one benchmark and returns its metric.
func measure(s source) (float64, error) {
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", s.bench, "-benchtime", s.time, "-benchmem", "-tags", s.tags, s.pkg)
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", s.name, err, b)
	}
	v, err := parse(b, s.metric)
	if err != nil {
		return 0, fmt.Errorf("%s: %w in the output of %s:\n%s", s.name, err, s.pkg, b)
	}
	return v, nil
}

// parse finds the metric in the line of a benchmark: name, number of runs, then pairs of value and unit.
func parse(output []byte, metric string) (float64, error) {
	for sc := bufio.NewScanner(bytes.NewReader(output)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		for i := 2; i+1 < len(f); i += 2 {
			if f[i+1] == metric {
				return strconv.ParseFloat(f[i], 64)
			}
		}
	}
	return 0, fmt.Errorf("no metric %q", metric)
}
