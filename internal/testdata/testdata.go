// Package testdata finds the public test data (card images, traces, certificates, sample files) that lies beside the
// project and is never part of it.
package testdata

import (
	"os"
	"path/filepath"
	"testing"
)

// Dir returns the folder sub of the public test data and skips the test, saying why, where the data is absent. The
// folder is looked for as ../shared/testdata beside the module root, or where KTRADV_TESTDATA points. Where
// the data is present a test that asked for it must not skip: `make test` counts such skips as failures.
func Dir(t testing.TB, sub string) string {
	t.Helper()
	base := os.Getenv("KTRADV_TESTDATA")
	if base == "" {
		wd, err := os.Getwd()
		if err != nil {
			t.Fatalf("working directory: %v", err)
		}
		for d := wd; ; d = filepath.Dir(d) {
			cand := filepath.Join(d, "shared", "testdata")
			if st, err := os.Stat(cand); err == nil && st.IsDir() {
				base = cand
				break
			}
			if filepath.Dir(d) == d {
				break
			}
		}
	}
	if base == "" {
		t.Skip("testdata: no public test data beside the project (../shared/testdata)")
	}
	dir := filepath.Join(base, sub)
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("testdata: %v", err)
	}
	return dir
}
