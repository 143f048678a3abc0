package main

import "testing"

func TestParse(t *testing.T) {
	t.Parallel()
	out := []byte("goos: linux\nBenchmarkX/a-2   \t 100\t 12.5 ns/op\t 3.25 p99-ms\t 0 allocs/op\nPASS\n")
	if v, err := parse(out, "p99-ms"); err != nil || v != 3.25 {
		t.Errorf("parse = %v, %v; want 3.25", v, err)
	}
	if v, err := parse(out, "us"); err == nil {
		t.Errorf("a metric that is not there gives %v", v)
	}
	if v, err := parse([]byte("PASS\n"), "ns/op"); err == nil {
		t.Errorf("a benchmark that did not run gives %v", v)
	}
}

// The names are part of what people compare over time.
func TestNames(t *testing.T) {
	t.Parallel()
	want := map[string]bool{"apdu.host_overhead_us": true, "insert_to_screen_ms": true, "frame_p99_ms_1080p": true,
		"frame_allocs": true, "server.session_starts_per_core_per_s": true}
	for _, s := range sources {
		if !want[s.name] {
			t.Errorf("unknown name %s", s.name)
		}
		delete(want, s.name)
	}
	if len(want) != 0 {
		t.Errorf("missing: %v", want)
	}
}
