package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func TestMerge(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "out", "bench.json")
	if err := merge(name, map[string]figure{"a": {1, "ms"}, "b": {2, "x"}}); err != nil {
		t.Fatal(err)
	}
	if err := merge(name, map[string]figure{"b": {3, "x"}, "c": {4, "ms"}}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]figure
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]figure{"a": {1, "ms"}, "b": {3, "x"}, "c": {4, "ms"}}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for n, f := range want {
		if got[n] != f {
			t.Errorf("%s: %v, want %v", n, got[n], f)
		}
	}
	if err := os.WriteFile(name, []byte("no json"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := merge(name, want); err == nil {
		t.Error("a file that is no JSON was overwritten")
	}
}

// TestMeasure runs every series with a few frames: the figures the report
// needs are there, and a frame that needs no new shape allocates nothing.
func TestMeasure(t *testing.T) {
	m := measure(3, 2)
	for _, name := range []string{
		"render.dense_full_p99_ms_1080p", "render.dense_cold_p99_ms_1080p",
		"render.scroll_p99_ms_1080p", "render.line_p99_ms_1080p", "render.allocs_steady",
	} {
		f, ok := m[name]
		if !ok || f.Unit == "" || name != "render.allocs_steady" && f.Value <= 0 {
			t.Errorf("%s: %v, present %v", name, f, ok)
		}
	}
	if f := m["render.allocs_steady"]; f.Value != 0 {
		t.Errorf("%v allocations per steady frame", f.Value)
	}
}
