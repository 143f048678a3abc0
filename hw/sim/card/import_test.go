package card_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// allowed says what of this module the code of the simulated card may use.
var allowed = map[string][]string{
	"hw/sim/card":        {"ktradv/internal/brainpool"},
	"hw/sim/card/objsys": {"ktradv/internal/brainpool", "ktradv/hw/sim/card"},
	"hw/sim/image":       {"ktradv/internal/brainpool", "ktradv/hw/sim/card"},
	"hw/sim/persona":     {"ktradv/internal/brainpool", "ktradv/internal/testpki", "ktradv/hw/sim/card", "ktradv/hw/sim/card/objsys"},
	"hw/sim/trace":       {"ktradv/internal/brainpool"},
}

// The card shares curve arithmetic with the product, nothing else: a card
// that reused the host's parsers would hide their mistakes.
func TestImports(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..", "..")
	for dir, may := range allowed {
		if err := foreignImports(os.DirFS(filepath.Join(root, filepath.FromSlash(dir))), may); err != "" {
			t.Errorf("%s imports %s", dir, err)
		}
	}
	// The check finds what it looks for.
	if foreignImports(os.DirFS(filepath.Join(root, "hw", "sim", "persona")), nil) == "" {
		t.Error("the check is blind")
	}
}

func foreignImports(dir fs.FS, may []string) string {
	names, err := fs.Glob(dir, "*.go")
	if err != nil || len(names) == 0 {
		return "(no Go files)"
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := fs.ReadFile(dir, name)
		if err != nil {
			return err.Error()
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		if err != nil {
			return err.Error()
		}
	imports:
		for _, i := range f.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err.Error()
			}
			for _, m := range may {
				if path == m {
					continue imports
				}
			}
			if strings.HasPrefix(path, "ktradv/") || strings.Contains(strings.SplitN(path, "/", 2)[0], ".") {
				return path + " in " + name
			}
		}
	}
	return ""
}
