package req

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// ending is a test that ends in a chosen way: a real one would count among those that failed or were skipped.
type ending struct {
	testing.TB
	id              string
	failed, skipped bool
	cleanup         func()
}

func (e *ending) Helper()          {}
func (e *ending) Cleanup(f func()) { e.cleanup = f }
func (e *ending) Failed() bool     { return e.failed }
func (e *ending) Skipped() bool    { return e.skipped }
func (e *ending) Name() string     { return "ending of " + e.id }

func TestCoversRecordsOutcome(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("REQ_TRACE", dir)
	t.Run("passes", func(t *testing.T) { Covers(t, "AdV-A_0001", "ERP-01") })
	for _, ended := range []ending{{id: "AdV-A_0002", skipped: true}, {id: "AdV-A_0003", failed: true}, {id: "AdV-A_0004", failed: true, skipped: true}} {
		Covers(&ended, ended.id)
		ended.cleanup()
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(files) != 1 {
		t.Fatalf("trace files = %v, %v; want exactly one", files, err)
	}
	f, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := map[string]string{}
	for dec := json.NewDecoder(f); dec.More(); {
		var r Record
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if r.Package != "internal/req" {
			t.Errorf("package = %q; want internal/req", r.Package)
		}
		got[r.ID] = r.Result
	}
	want := map[string]string{"AdV-A_0001": "pass", "ERP-01": "pass", "AdV-A_0002": "skip", "AdV-A_0003": "fail", "AdV-A_0004": "fail"}
	for id, result := range want {
		if got[id] != result {
			t.Errorf("result of %s = %q; want %q", id, got[id], result)
		}
	}
}

func TestModuleRootIsTheOutermost(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	inner := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{root, filepath.Join(root, "a")} {
		if err := os.WriteFile(filepath.Join(d, "go.mod"), []byte("module x\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := moduleRoot(inner); err != nil || got != root {
		t.Errorf("moduleRoot = %q, %v; want %q", got, err, root)
	}
}
