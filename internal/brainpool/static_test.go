package brainpool

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// publicConditions are all the conditions that code which may see secrets branches on, and why each may be known.
var publicConditions = map[string]string{
	"i+1 < len(table)":                   "loop counter",
	"at > 0":                             "position in the scalar",
	"at == 0":                            "position in the scalar",
	"at%64 > 58 && at/64+1 < len(k)":     "position in the scalar",
	"at < 64*len(bits)":                  "position in the scalar",
	"column < table.columns-1":           "loop counter",
	"k.setBytes(nonce)&^k.isZero() != 1": "a nonce that is thrown away",
	"d.setBytes(k)&^d.isZero() != 1":     "a private key that is refused",
	"r.isZero()|s.isZero() == 1":         "a signature that is thrown away",
	"left.equal(&right) != 1":            "point of a public key",
	"x.setBytes(coordinates[:size])&y.setBytes(coordinates[size:]) != 1": "coordinates of a public key",
}

// TestSecretPathsDoNotBranch reads the source of everything that may see a secret: it calls nothing that is named Vartime,
// branches on listed conditions only, and indexes by loop counters and positions only.
func TestSecretPathsDoNotBranch(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("curve_p*.go")
	if err != nil || len(files) != 3 {
		t.Fatalf("generated files: %v, %v", files, err)
	}
	checked := map[string]bool{}
	for _, file := range append(files, "group.go") {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range secretFaults(t, file, source, checked) {
			t.Error(fault)
		}
	}
	for _, name := range []string{"mul", "sqr", "add", "sub", "half", "invert", "choose", "pick", "mult", "baseMult", "affine", "sign", "ecdh", "public",
		"recode", "digit", "boothDigit"} {
		if !checked[name] {
			t.Errorf("%s was not looked at", name)
		}
	}
}

// The twin: each of these would be found.
func TestSecretFaultsAreFound(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"if k[0] == 1 { return }", "switch k[0] {}", "x := k[0] > 1 && k[1] > 1; _ = x", "x := k[0] / 3; _ = x", "x := k[0] % k[1]; _ = x",
		"x := table[k[0]]; _ = x", "x := table[digit]; _ = x", "k.invertVartime(k)", "for k[0] != 0 {}",
	} {
		if len(secretFaults(t, "x.go", []byte("package x\nfunc f() {\n"+body+"\n}\n"), map[string]bool{})) == 0 {
			t.Errorf("%s is not found", body)
		}
	}
	fine := "package x\nfunc f() { for i := 0; i < len(table); i++ { k[i] &= mask } }\nfunc gVartime() { if k[0] == 1 { return } }\n"
	if faults := secretFaults(t, "x.go", []byte(fine), map[string]bool{}); len(faults) != 0 {
		t.Errorf("found in sound code: %v", faults)
	}
}

func secretFaults(t *testing.T, file string, source []byte, checked map[string]bool) (faults []string) {
	t.Helper()
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, file, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	width := regexp.MustCompile(`8\*[468]`)
	text := func(n ast.Node) string {
		var b bytes.Buffer
		printer.Fprint(&b, fset, n)
		return width.ReplaceAllString(b.String(), "size")
	}
	// public reports whether an expression is made of counters alone.
	public := func(n ast.Node, names *regexp.Regexp) bool {
		ok := true
		ast.Inspect(n, func(x ast.Node) bool {
			if id, is := x.(*ast.Ident); is && !names.MatchString(id.Name) {
				ok = false
			}
			return true
		})
		return ok
	}
	for _, d := range parsed.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || !maySeeSecrets(f, text) {
			continue
		}
		checked[f.Name.Name] = true
		ast.Inspect(f.Body, func(n ast.Node) bool {
			fault := ""
			switch n := n.(type) {
			case *ast.IfStmt:
				if publicConditions[text(n.Cond)] == "" {
					fault = "branches on " + text(n.Cond)
				}
			case *ast.ForStmt:
				if n.Cond != nil && !public(n.Cond, loops) {
					fault = "loops while " + text(n.Cond)
				}
			case *ast.SwitchStmt, *ast.TypeSwitchStmt, *ast.SelectStmt, *ast.GoStmt:
				fault = "branches"
			case *ast.BinaryExpr:
				switch {
				case (n.Op == token.LAND || n.Op == token.LOR) && publicConditions[text(n)] == "":
					fault = "may skip a part of " + text(n)
				case (n.Op == token.QUO || n.Op == token.REM) && !public(n, indexes): // division takes its time
					fault = "divides " + text(n)
				}
			case *ast.IndexExpr:
				if !public(n.Index, indexes) {
					fault = "index " + text(n)
				}
			case *ast.CallExpr:
				if strings.Contains(text(n.Fun), "Vartime") {
					fault = "calls " + text(n.Fun)
				}
			}
			if fault != "" {
				faults = append(faults, fmt.Sprintf("%v in %s: %s", fset.Position(n.Pos()), f.Name.Name, fault))
			}
			return true
		})
	}
	return faults
}

// Names that may stand in indexes and divisions (counters, positions in a scalar, and the constant in which the inversion
// looks up its exponent), and in the conditions of loops.
var (
	indexes = regexp.MustCompile(`^(i|j|at|p\d+(Field|Scalar)Less2)$`)
	loops   = regexp.MustCompile(`^(i|at|column|len|table|pow)$`)
)

// maySeeSecrets leaves out what is named Vartime, the points that only such functions add, and the making of constants and
// layouts.
func maySeeSecrets(f *ast.FuncDecl, text func(ast.Node) string) bool {
	switch {
	case strings.HasSuffix(f.Name.Name, "Vartime"), strings.HasPrefix(f.Name.Name, "new") && strings.HasSuffix(f.Name.Name, "Group"),
		strings.HasSuffix(strings.ToLower(f.Name.Name), "layout"):
		return false
	case f.Recv == nil:
		return true
	}
	return f.Name.Name == "double" || !strings.HasSuffix(text(f.Recv.List[0].Type), "Jacobian")
}
