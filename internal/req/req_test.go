package req

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func TestCoversRecordsOutcome(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("REQ_TRACE", dir)
	t.Run("passes", func(t *testing.T) { Covers(t, "AdV-A_0001", "ERP-01") })
	t.Run("skips", func(t *testing.T) { Covers(t, "AdV-A_0002"); t.Skip("on purpose: a skipped test proves nothing") })
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
	want := map[string]string{"AdV-A_0001": "pass", "ERP-01": "pass", "AdV-A_0002": "skip"}
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
