// Package req ties tests to the requirements they prove.
//
// A test calls [Covers] with the requirement ids of the catalogue (tests/catalogue). When the environment variable
// REQ_TRACE names a directory, the outcome of every such test is appended there as JSON lines, from which `make trace`
// builds out/trace.json. Only a test that ran to its end without failing or skipping counts as a proof.
package req

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"
)

// Record is one line of a trace file: a test, what it claims to prove, and how it ended.
type Record struct {
	ID      string `json:"id"`
	Test    string `json:"test"`
	Package string `json:"package"` // folder of the test file, relative to the module root
	Result  string `json:"result"`  // pass, fail or skip
}

var idForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]+$`)

// Covers states that the running test proves the requirements with the given catalogue ids. It fails the test when an
// id is malformed; whether the id exists in the catalogue is checked when the trace is built and by a test of that
// package.
func Covers(t testing.TB, ids ...string) {
	t.Helper()
	if len(ids) == 0 {
		t.Fatal("req.Covers: no requirement id given")
	}
	for _, id := range ids {
		if !idForm.MatchString(id) {
			t.Fatalf("req.Covers: malformed requirement id %q", id)
		}
	}
	dir := os.Getenv("REQ_TRACE")
	if dir == "" {
		return
	}
	_, file, _, _ := runtime.Caller(1)
	pkg := filepath.Base(filepath.Dir(file))
	if root, err := moduleRoot(filepath.Dir(file)); err == nil {
		if rel, err := filepath.Rel(root, filepath.Dir(file)); err == nil {
			pkg = filepath.ToSlash(rel)
		}
	}
	t.Cleanup(func() {
		result := "pass"
		switch {
		case t.Failed():
			result = "fail"
		case t.Skipped():
			result = "skip"
		}
		if err := record(dir, ids, t.Name(), pkg, result); err != nil {
			t.Errorf("req.Covers: %v", err)
		}
	})
}

func record(dir string, ids []string, test, pkg, result string) error {
	// One file per process: appends of several test binaries never mix within a line.
	name := filepath.Join(dir, fmt.Sprintf("trace-%d.jsonl", os.Getpid()))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open trace file: %w", err)
	}
	enc := json.NewEncoder(f)
	for _, id := range ids {
		if err := enc.Encode(Record{ID: id, Test: test, Package: pkg, Result: result}); err != nil {
			f.Close()
			return fmt.Errorf("write trace record %s: %w", id, err)
		}
	}
	return f.Close()
}

// moduleRoot returns the outermost folder above dir that holds a go.mod.
func moduleRoot(dir string) (string, error) {
	found := ""
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			found = d
		}
		if filepath.Dir(d) == d {
			break
		}
	}
	if found == "" {
		return "", fmt.Errorf("no go.mod above %s", dir)
	}
	return found, nil
}
