// Command testreport reads the output of one or more `go test -json` runs on standard input and prints what people
// want to know: failures with their output, the slowest packages, and at the end the number of tests that passed, failed
// and were skipped, with the reason of every skip. It exits with 1 when a test or package failed, and when a test
// skipped for want of the public test data although -shared says that the data is there.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
	ImportPath                    string
}

type key struct{ pkg, test string }

type report struct {
	passed, failed int
	skips          map[key]string
	output         map[key][]string
	failures       []key
	packages       map[string]float64
	cached         int
}

func main() {
	shared := flag.Bool("shared", false, "the public test data is there: a skip for want of it is a failure")
	flag.Parse()
	r, err := read(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if !r.print(os.Stdout, *shared) {
		os.Exit(1)
	}
}

func read(in io.Reader, live io.Writer) (*report, error) {
	r := &report{skips: map[key]string{}, output: map[key][]string{}, packages: map[string]float64{}}
	sc := bufio.NewScanner(in)
	sc.Buffer(make([]byte, 1<<20), 16<<20)
	for sc.Scan() {
		line := sc.Bytes()
		var e event
		if len(line) == 0 || line[0] != '{' || json.Unmarshal(line, &e) != nil {
			fmt.Fprintln(live, string(line)) // a compiler's or a tool's own words
			continue
		}
		k := key{e.Package, e.Test}
		switch e.Action {
		case "output", "build-output":
			if e.Action == "build-output" {
				k = key{e.ImportPath, ""}
				fmt.Fprint(live, e.Output)
			}
			if len(r.output[k]) < 2000 {
				r.output[k] = append(r.output[k], e.Output)
			}
		case "pass":
			if e.Test != "" {
				r.passed++
				delete(r.output, k)
			} else {
				r.packages[e.Package] = e.Elapsed
				fmt.Fprintf(live, "ok    %-44s %6.1f s\n", e.Package, e.Elapsed)
			}
		case "skip":
			if e.Test != "" {
				r.skips[k] = reason(r.output[k])
			}
		case "fail":
			r.failures = append(r.failures, k)
			if e.Test != "" {
				r.failed++
			} else {
				fmt.Fprintf(live, "FAIL  %-44s %6.1f s\n", e.Package, e.Elapsed)
			}
		}
	}
	return r, sc.Err()
}

// reason is the last message that a skipped test printed.
func reason(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		s := strings.TrimSpace(lines[i])
		if s == "" || strings.HasPrefix(s, "---") || strings.HasPrefix(s, "===") {
			continue
		}
		if _, after, ok := strings.Cut(s, ".go:"); ok {
			if _, msg, ok := strings.Cut(after, ": "); ok {
				return msg
			}
		}
		return s
	}
	return "no reason given"
}

func (r *report) print(w io.Writer, shared bool) bool {
	ok := true
	for _, k := range r.failures {
		ok = false
		fmt.Fprintf(w, "\n--- failed: %s %s\n", k.pkg, k.test)
		for _, l := range r.output[k] {
			fmt.Fprint(w, "    ", l)
		}
	}
	byReason := map[string][]string{}
	for k, why := range r.skips {
		byReason[why] = append(byReason[why], k.pkg+"."+k.test)
	}
	reasons := make([]string, 0, len(byReason))
	for why := range byReason {
		reasons = append(reasons, why)
	}
	sort.Strings(reasons)
	fmt.Fprintf(w, "\nskipped tests: %d\n", len(r.skips))
	for _, why := range reasons {
		fmt.Fprintf(w, "  %3d  %s\n", len(byReason[why]), why)
		if shared && strings.HasPrefix(why, "testdata:") {
			ok = false
			sort.Strings(byReason[why])
			fmt.Fprintf(w, "       the public test data is there, so these may not skip: %s\n", strings.Join(byReason[why], ", "))
		}
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, len(r.skips))
	return ok
}
