package cpurender

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"image"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"gioui.org/cpurender/internal/oplist"
	"gioui.org/cpurender/internal/pages"
	"gioui.org/op"
)

var update = flag.Bool("update", false, "write the approved pictures and lists in testdata anew")

// fullScreen is the size of the approved pictures.
var fullScreen = image.Pt(1280, 800)

// randomScenes is the number of recorded random pictures.
const randomScenes = 8

var randomSize = image.Pt(400, 300)

// TestGoldenPages lays the pages out and compares them with the approved
// pictures: exactly on the processor they were approved on; elsewhere layout
// may move a coordinate by its last bit.
func TestGoldenPages(t *testing.T) {
	set := pages.New()
	for _, page := range pages.Names() {
		var list op.Ops
		set.Build(page, &list, fullScreen, pages.State{})
		got := render(t, fullScreen, &list)
		name := filepath.Join("testdata", page+".png")
		if *update {
			writePNG(t, name, got)
			record(t, page, &list)
			continue
		}
		d := compareImages(got, readPNG(t, name))
		switch {
		case runtime.GOARCH == "amd64" && d.max != 0:
			t.Errorf("%s differs from the approved picture: %v", page, d)
		case d.max > 1 || d.percent(0) > 0.1:
			t.Errorf("%s: %v; want at most 1 in 0.1 %% of the pixels", page, d)
		}
	}
}

// TestGoldenReplay draws the recorded lists. Their pictures must be the same on
// every processor.
func TestGoldenReplay(t *testing.T) {
	if *update {
		rng := rand.New(rand.NewPCG(2024, 1))
		for i := range randomScenes {
			var list op.Ops
			newScene(rng, 14).build(&list, randomSize)
			record(t, fmt.Sprintf("random%d", i), &list)
			writePNG(t, filepath.Join("testdata", fmt.Sprintf("random%d.png", i)), render(t, randomSize, &list))
		}
	}
	for _, name := range recordings() {
		var list op.Ops
		replay(t, name, &list)
		want := readPNG(t, filepath.Join("testdata", name+".png"))
		for _, workers := range []int{1, 2, 5} {
			got := image.NewRGBA(want.Rect)
			New(Options{Workers: workers}).Frame(got, &list)
			if err := sameBytes(got, want); err != nil {
				t.Errorf("%s, %d workers: %v", name, workers, err)
			}
			if workers == 1 {
				t.Logf("picture %s %x", name, sha256.Sum256(got.Pix))
			}
		}
	}
}

func recordings() []string {
	names := pages.Names()
	for i := range randomScenes {
		names = append(names, fmt.Sprintf("random%d", i))
	}
	return names
}

func record(t testing.TB, name string, list *op.Ops) {
	t.Helper()
	data, err := oplist.Record(list)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", name+".ops.gz"), buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func replay(t testing.TB, name string, list *op.Ops) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".ops.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(io.LimitReader(z, 64<<20))
	if err != nil {
		t.Fatal(err)
	}
	if err := oplist.Replay(data, list); err != nil {
		t.Fatal(err)
	}
}

// TestOtherProcessor draws the lists recorded here with an arm64 build under
// emulation: the same bytes, list by list.
func TestOtherProcessor(t *testing.T) {
	if testing.Short() {
		t.Skip("emulates another processor")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("compares amd64 with arm64")
	}
	qemu, err := exec.LookPath("qemu-aarch64")
	if err != nil {
		if qemu, err = exec.LookPath("qemu-aarch64-static"); err != nil {
			t.Skip("qemu-aarch64 (package qemu-user) is not installed")
		}
	}
	bin := filepath.Join(t.TempDir(), "arm64.test")
	buildTest(t, bin, "GOARCH=arm64")
	samePictures(t, exec.Command(qemu, bin, "-test.run", "^(TestGoldenReplay|TestGoldenPages)$", "-test.v"))
}

// TestNewerProcessor does the same with a build for processors that can fuse
// products and sums.
func TestNewerProcessor(t *testing.T) {
	if testing.Short() {
		t.Skip("builds for another processor")
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if runtime.GOARCH != "amd64" || err != nil || !strings.Contains(string(info), " fma ") || !strings.Contains(string(info), " avx2 ") {
		t.Skip("no amd64 processor of level v3")
	}
	bin := filepath.Join(t.TempDir(), "v3.test")
	buildTest(t, bin, "GOAMD64=v3")
	samePictures(t, exec.Command(bin, "-test.run", "^(TestGoldenReplay|TestGoldenPages)$", "-test.v"))
}

// samePictures runs tests of another build and compares the pictures they
// drew with the approved ones.
func samePictures(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	theirs := make(map[string]string)
	for _, line := range strings.Split(string(out), "\n") {
		if f := strings.Fields(line); len(f) == 4 && f[1] == "picture" {
			theirs[f[2]] = f[3]
		}
	}
	for _, name := range recordings() {
		want := fmt.Sprintf("%x", sha256.Sum256(readPNG(t, filepath.Join("testdata", name+".png")).Pix))
		if theirs[name] != want {
			t.Errorf("%s: the other build draws %s, this one %s", name, theirs[name], want)
		}
	}
	if !strings.Contains(string(out), "--- PASS: TestGoldenPages") {
		t.Errorf("pages were not compared:\n%s", out)
	}
}

// TestGoldenComplete: no approved picture is left over or missing.
func TestGoldenComplete(t *testing.T) {
	want := make(map[string]bool)
	for _, name := range recordings() {
		want[name+".png"], want[name+".ops.gz"] = true, true
	}
	entries, err := os.ReadDir("testdata")
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatal("no testdata")
	}
	for _, e := range entries {
		if !e.IsDir() && !want[e.Name()] {
			t.Errorf("testdata/%s is used by no test", e.Name())
		}
		delete(want, e.Name())
	}
	for name := range want {
		t.Errorf("testdata/%s is missing", name)
	}
}
