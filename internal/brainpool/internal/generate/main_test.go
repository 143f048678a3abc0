package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"ktradv/internal/brainpool/internal/rfc5639"
)

// TestFilesAreUpToDate compares the files of package brainpool with what the template and the parameters give.
func TestFilesAreUpToDate(t *testing.T) {
	t.Parallel()
	for i := range rfc5639.Domains {
		file, want, err := generate(&rfc5639.Domains[i])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join("../..", file)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what its template gives (%v): run go generate ./internal/brainpool", file, err)
		}
	}
}
