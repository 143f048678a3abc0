package cpurender

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gioui.org/internal/ops"
	"gioui.org/op"
)

// TestPinnedVersion fails when the version of Gio in go.mod is not the one this
// package was checked against.
func TestPinnedVersion(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^\s*(?:require )?gioui\.org (v\S+)`).FindSubmatch(mod)
	if m == nil {
		t.Fatal("go.mod does not require gioui.org")
	}
	if got := string(m[1]); got != GioVersion {
		t.Errorf("go.mod requires gioui.org %s, this package decodes %s: read the differences of gpu/gpu.go, internal/ops and internal/scene, then run the oracle test", got, GioVersion)
	}
}

// TestEveryOperationIsKnown walks all operation types of Gio: each is drawn or
// on the list of those that paint nothing.
func TestEveryOperationIsKnown(t *testing.T) {
	t.Parallel()
	drawn := map[ops.OpType]bool{
		ops.TypeMacro: true, ops.TypeCall: true, ops.TypeDefer: true, // resolved by the reader
		ops.TypeTransform: true, ops.TypePopTransform: true, ops.TypePushOpacity: true, ops.TypePopOpacity: true,
		ops.TypeImage: true, ops.TypePaint: true, ops.TypeColor: true, ops.TypeLinearGradient: true,
		ops.TypeSave: true, ops.TypeLoad: true, ops.TypeAux: true, ops.TypeClip: true, ops.TypePopClip: true,
		ops.TypePath: true, ops.TypeStroke: true,
	}
	for k := ops.TypeMacro; k <= ops.TypeActionInput; k++ {
		if drawn[k] == ignored[k] {
			t.Errorf("operation %d: drawn %v, ignored %v", k, drawn[k], ignored[k])
		}
		if k.Size() == 0 {
			t.Errorf("operation %d has no size", k)
		}
	}
	if (ops.TypeActionInput + 1).Size() != 0 {
		t.Error("Gio has an operation after the last one known")
	}
}

// TestImports: the package depends on the standard library and Gio alone, and
// needs no cgo.
func TestImports(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}} {{len .CgoFiles}}{{end}}", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("go list: %v", err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		path, cgo, _ := strings.Cut(line, " ")
		if path != "gioui.org" && !strings.HasPrefix(path, "gioui.org/") {
			t.Errorf("imports %s", path)
		}
		if strings.HasPrefix(path, "gioui.org/app") || strings.HasPrefix(path, "gioui.org/gpu") {
			t.Errorf("imports %s", path)
		}
		if cgo != "0" {
			t.Errorf("%s needs cgo", path)
		}
	}
}

// TestNoFusing looks for floating point sums of products without a rounding in
// between, which a compiler may fuse where the processor can: it disassembles
// the package for such a processor.
func TestNoFusing(t *testing.T) {
	if testing.Short() {
		t.Skip("builds for another processor")
	}
	bin := filepath.Join(t.TempDir(), "arm64.test")
	buildTest(t, bin, "GOARCH=arm64")
	out, err := exec.Command("go", "tool", "objdump", "-s", `^gioui.org/cpurender\.`, bin).Output()
	if err != nil {
		t.Fatalf("disassemble: %v", err)
	}
	fused := regexp.MustCompile(`\bFN?M(ADD|SUB)[SD]\b`)
	source, inTests := "", 0
	for _, line := range strings.Split(string(out), "\n") {
		switch {
		case strings.HasPrefix(line, "TEXT "):
			source = line
		case !fused.MatchString(line):
		case strings.Contains(source, "_test.go"):
			inTests++
		default:
			t.Errorf("fused: %s\n  in %s", strings.TrimSpace(line), source)
		}
	}
	// The tests' own reference is not so careful: proof that fusing happens.
	if inTests == 0 {
		t.Error("nothing is fused in the tests either; is the pattern right?")
	}
}

// buildTest builds the tests of this package for another processor.
func buildTest(t testing.TB, bin string, env ...string) {
	t.Helper()
	build := exec.Command("go", "test", "-c", "-o", bin, ".")
	build.Env = append(append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0"), env...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build for %v: %v\n%s", env, err, out)
	}
}

// TestBytesOfColors: decoding and encoding gives each byte back, and the tables
// rise.
func TestBytesOfColors(t *testing.T) {
	t.Parallel()
	for v := range uint32(256) {
		px := v | v<<8 | v<<16 | v<<24
		if got := encode(decode(px)); got != px {
			t.Errorf("%08x becomes %08x", px, got)
		}
		if v > 0 && toLinear[v] <= toLinear[v-1] {
			t.Errorf("toLinear does not rise at %d", v)
		}
	}
	for i := 1; i < len(toSRGB); i++ {
		if toSRGB[i] < toSRGB[i-1] {
			t.Errorf("toSRGB falls at %d", i)
		}
	}
	over := linear{c0: 1 << 20, c1: 65536, c2: 70000, a: 1 << 17}
	if got := encode(over); got != 0xffffffff {
		t.Errorf("too bright a colour becomes %08x", got)
	}
}

// TestEmptyList draws nothing and reports nothing.
func TestEmptyList(t *testing.T) {
	t.Parallel()
	var list op.Ops
	img := render(t, fullScreen, &list)
	for i, b := range img.Pix {
		if b != 0 {
			t.Fatalf("byte %d is %d", i, b)
		}
	}
}
