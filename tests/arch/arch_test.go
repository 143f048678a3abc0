// Package arch keeps the house in order: which folder may import which, what a production binary may contain, that
// every package explains itself, and that no module is forgotten by the build.
package arch

import (
	"bytes"
	"encoding/json"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"

	"ktradv/internal/req"
)

const module = "ktradv/"

type pkg struct {
	ImportPath, Dir, Name string
	Imports, Deps         []string
	Standard              bool
}

// list asks the go command; every build of the product is one of these tag sets.
func list(t *testing.T, tags string, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Name,Imports,Deps,Standard", "-tags", tags}, args...)...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	return pkgs
}

// rule says what the packages below from may import of ours. The longest matching from counts.
type rule struct {
	from string
	may  []string
	not  []string
}

// The folder table of the architecture (README.md, "The house").
var rules = []rule{
	{from: "hw/", may: []string{"hw/", "internal/"}, not: []string{"internal/testpki", "hw/sim/"}},
	// A card or reader that reused the host's parsers would hide their bugs: curve arithmetic only.
	{from: "hw/sim/", may: []string{"hw/sim/", "internal/brainpool"}, not: []string{"hw/sim/adapter"}},
	{from: "hw/sim/persona", may: []string{"hw/sim/", "internal/brainpool", "internal/testpki"}},
	// The adapter is where a simulated reader meets the product's interface; it must know both.
	{from: "hw/sim/adapter", may: []string{"hw/sim/", "hw/apdu", "hw/reader"}},
	// The private pcscd of tests and demo is started by the product's own code.
	{from: "hw/sim/ifd", may: []string{"hw/sim/", "hw/reader/pcscd"}},
	{from: "kiosk/", may: []string{"kiosk/", "hw/", "internal/", "server/api"}, not: []string{"hw/sim/", "internal/testpki"}},
	{from: "server/", may: []string{"server/", "hw/", "internal/"}, not: []string{"hw/sim/", "server/tisim", "internal/testpki"}},
	{from: "server/tisim", may: []string{"server/tisim", "internal/"}},
	{from: "internal/", may: []string{"internal/"}, not: []string{"internal/testpki"}},
	{from: "internal/testpki", may: []string{"internal/brainpool"}},
	{from: "image/", may: []string{"image/", "internal/"}, not: []string{"internal/testpki"}},
	{from: "qemu/", may: []string{"qemu/", "hw/sim/", "internal/"}},
	{from: "tests/", may: []string{""}},
}

func ruleFor(path string) *rule {
	var best *rule
	for i := range rules {
		if r := &rules[i]; strings.HasPrefix(path+"/", strings.TrimSuffix(r.from, "/")+"/") && (best == nil || len(r.from) > len(best.from)) {
			best = r
		}
	}
	return best
}

// forbidden returns why the package at path may not import imp (both without the module's name), or "".
func forbidden(path, imp string) string {
	r := ruleFor(path)
	if r == nil {
		return "lives in a folder that the architecture does not name"
	}
	has := func(list []string) bool {
		for _, m := range list {
			if m == "" || strings.HasPrefix(imp+"/", strings.TrimSuffix(m, "/")+"/") {
				return true
			}
		}
		return false
	}
	if !has(r.may) || has(r.not) {
		return "may not import " + imp
	}
	return ""
}

const allTags = "pcsc window demo"

func TestImportRules(t *testing.T) {
	t.Parallel()
	for _, tags := range []string{"", allTags} {
		for _, p := range list(t, tags, "./...") {
			path := strings.TrimPrefix(p.ImportPath, module)
			for _, imp := range p.Imports {
				if !strings.HasPrefix(imp, module) {
					continue
				}
				if why := forbidden(path, strings.TrimPrefix(imp, module)); why != "" {
					t.Errorf("tags %q: %s %s", tags, path, why)
				}
			}
		}
	}
}

// The negative twin: the rules refuse what the architecture refuses.
func TestImportRulesRefuse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, imp string }{
		{"hw/cos", "kiosk/session"}, {"hw/cos", "hw/sim/card"}, {"hw/sim/card", "hw/apdu"}, {"hw/sim/card", "hw/cvc"},
		{"kiosk/session", "server/proxy"}, {"kiosk/session", "hw/sim/card"}, {"kiosk/ui", "internal/testpki"},
		{"server/proxy", "kiosk/session"}, {"server/proxy", "server/tisim"}, {"internal/advlog", "hw/apdu"},
		{"internal/x509ti", "internal/testpki"}, {"elsewhere", "internal/req"}, {"server/tisim", "server/proxy"},
	} {
		if forbidden(c.from, c.imp) == "" {
			t.Errorf("%s may import %s; want refused", c.from, c.imp)
		}
	}
	for _, c := range []struct{ from, imp string }{
		{"kiosk/session", "server/api"}, {"hw/sim/persona", "internal/testpki"}, {"hw/sim/card", "internal/brainpool"},
		{"tests/demo", "hw/sim/card"}, {"server/tisim", "internal/testpki"},
	} {
		if why := forbidden(c.from, c.imp); why != "" {
			t.Errorf("%s -> %s: %s; want allowed", c.from, c.imp, why)
		}
	}
}

// production are the binaries that reach a customer, with the build tags they are built with.
var production = []struct{ path, tags string }{
	{"./kiosk/cmd/adv-kiosk", "pcsc"},
	{"./kiosk/cmd/adv-kiosk", "pcsc window"},
	{"./server/cmd/adv-server", "pkcs11"},
}

var simulators = []string{"hw/sim/", "server/tisim", "internal/testpki", "kiosk/demodoor", "tests/"}

func linksSimulator(deps []string) string {
	for _, d := range deps {
		for _, s := range simulators {
			if strings.HasPrefix(strings.TrimPrefix(d, module)+"/", strings.TrimSuffix(s, "/")+"/") && strings.HasPrefix(d, module) {
				return d
			}
		}
		if d == "testing" {
			return d
		}
	}
	return ""
}

func TestProductionBinariesLinkNoSimulator(t *testing.T) {
	t.Parallel()
	for _, b := range production {
		for _, p := range list(t, b.tags, b.path) {
			if d := linksSimulator(p.Deps); d != "" {
				t.Errorf("%s (tags %q) links %s", b.path, b.tags, d)
			}
		}
	}
}

// The negative twin: the demo build of the kiosk does link the door that the production build must not have.
func TestDemoBuildIsSeen(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "pcsc demo", "./kiosk/cmd/adv-kiosk") {
		if linksSimulator(p.Deps) == "" {
			t.Error("the demo build links no demo door: this check could not fail")
		}
	}
}

func TestPackagesExplainThemselves(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, allTags, "./...") {
		explained, files := false, 0
		names, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		onlyTests := true
		for _, name := range names {
			if !strings.HasSuffix(name, "_test.go") {
				onlyTests = false
			}
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") && !onlyTests {
				continue
			}
			files++
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if f.Doc != nil && len(f.Doc.Text()) > 40 {
				explained = true
			}
		}
		if files > 0 && !explained {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// Go's ./... does not reach a nested module: the Makefile names every module, and this test keeps the list whole.
func TestMakefileNamesEveryModule(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	var found []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "out" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if d.Name() == "go.mod" {
			rel, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			found = append(found, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^MODULES\s*:?=\s*(.*)$`).FindSubmatch(b)
	if m == nil {
		t.Fatal("the Makefile has no MODULES")
	}
	named := strings.Fields(string(m[1]))
	sort.Strings(found)
	sort.Strings(named)
	if strings.Join(found, " ") != strings.Join(named, " ") {
		t.Errorf("modules in the tree: %v; the Makefile names %v", found, named)
	}
}

// The renderer is to be published on its own: it knows nothing of the project.
func TestRendererStandsAlone(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "list", "-deps", "./...")
	cmd.Dir = filepath.Join("..", "..", "kiosk", "cpurender")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, p := range strings.Fields(string(out)) {
		if strings.HasPrefix(p, module) {
			t.Errorf("the renderer imports %s", p)
		}
	}
}

// AdV-A_2509, AdV-A_2510, AdV-A_2511: the app reaches the services of the TI through the server's consumer adapter
// only. It links neither an OCSP client nor the adapter.
func TestKioskReachesTheTIThroughTheServerOnly(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2509", "AdV-A_2511")
	for _, p := range list(t, "pcsc", "./kiosk/cmd/adv-kiosk") {
		for _, d := range p.Deps {
			if strings.HasPrefix(d, module+"internal/ocsp") || strings.HasPrefix(d, module+"server/") && !strings.HasPrefix(d, module+"server/api") {
				t.Errorf("the kiosk links %s", d)
			}
		}
	}
}
