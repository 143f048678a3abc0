package brainpool

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoBigIntegers: math/big works in variable time, so nothing but tests may use it here.
func TestNoBigIntegers(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 5 {
		t.Fatalf("files of the package: %v, %v", files, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imported := range file.Imports {
			switch imported.Path.Value {
			case `"math/big"`, `"crypto/elliptic"`:
				t.Errorf("%s imports %s", name, imported.Path.Value)
			}
		}
	}
}
