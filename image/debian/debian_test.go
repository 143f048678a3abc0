package debian

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParsePackage(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("ab", 32)
	got, err := parsePackage([]byte("Package: libgcc-s1\nSource: gcc-12 (12.2.0-14)\nVersion: 12.2.0-14+b1\nArchitecture: amd64\nDescription: text\n Version: 9\nDepends: gcc-12-base (= 12), libc6 | musl\nSHA256: " + sum + "\n\nPackage: other\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Package{Name: "libgcc-s1", Version: "12.2.0-14+b1", Architecture: "amd64", Source: "gcc-12", SourceVersion: "12.2.0-14", SHA256: sum, Depends: "gcc-12-base (= 12), libc6 | musl"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"gcc-12-base", "libc6"}, got.DependsOn()); d != "" {
		t.Errorf("depends (-want +got):\n%s", d)
	}
	for _, bad := range []string{
		"", "Package: x\n", "Package: ../x\nVersion: 1\nArchitecture: amd64\nSHA256: " + sum, "Package: xy\nVersion: 1/2\nArchitecture: amd64\nSHA256: " + sum,
		"Package: xy\nVersion: 1\nArchitecture: amd64\nSHA256: 12",
	} {
		if p, err := parsePackage([]byte(bad)); err == nil {
			t.Errorf("%q is taken as %+v", bad, p)
		}
	}
}

// store makes a cache with one package, as after a download.
func store(t *testing.T) (*Store, Package) {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("dpkg-deb is missing: not a Debian machine")
	}
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	for name, text := range map[string]string{"DEBIAN/control": "Package: pack\nVersion: 1:2-3\nArchitecture: all\nMaintainer: x\nDescription: x\n", "usr/lib/libx.so.1.0": "library"} {
		file := filepath.Join(src, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"libx.so.1": "libx.so.1.0", "loop": "loop", "gone": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(src, "usr/lib", link)); err != nil {
			t.Fatal(err)
		}
	}
	p := Package{Name: "pack", Version: "1:2-3", Architecture: "all"}
	s := &Store{Dir: dir}
	if out, err := exec.Command("dpkg-deb", "-b", "--root-owner-group", src, s.file(p)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(s.file(p))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	p.SHA256 = hex.EncodeToString(sum[:])
	index, err := json.Marshal(map[string]Package{"pack": p})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, indexName), index, 0o644); err != nil {
		t.Fatal(err)
	}
	return s, p
}

// A package that the cache knows is taken from there; nobody is asked.
func TestFetchFromCache(t *testing.T) {
	t.Parallel()
	s, p := store(t)
	list, err := s.Fetch(context.Background(), []string{"pack"})
	if err != nil {
		t.Fatal(err)
	}
	a := list[0]
	defer a.Close()
	if d := cmp.Diff(p, a.Package); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for _, name := range []string{"usr/lib/libx.so.1.0", "usr/lib/libx.so.1"} {
		if b, err := a.Read(name); err != nil || string(b) != "library" {
			t.Errorf("%s holds %q (%v)", name, b, err)
		}
	}
	for _, name := range []string{"usr/lib/loop", "usr/lib/gone", "usr/lib", "usr/lib/other"} {
		if _, err := a.Read(name); err == nil {
			t.Errorf("%s can be read", name)
		}
	}
}

// A package that was changed after the download is refused.
func TestFetchRefusesChanged(t *testing.T) {
	t.Parallel()
	s, p := store(t)
	b, err := os.ReadFile(s.file(p))
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(s.file(p), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fetch(context.Background(), []string{"pack"}); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("got %v; want an error about the sum", err)
	}
}

func TestIndexRefusesDevices(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]*tar.Header{
		"device":               {Name: "dev/mem", Typeflag: tar.TypeChar, ModTime: time.Unix(0, 0)},
		"link to a later file": {Name: "a", Typeflag: tar.TypeLink, Linkname: "b"},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Close()
		file := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		a := &Archive{file: f, files: make(map[string]*File)}
		if err := a.index(); err == nil {
			t.Errorf("%s: taken", name)
		}
		f.Close()
	}
}

func FuzzParsePackage(f *testing.F) {
	f.Add([]byte("Package: a\nVersion: 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) { parsePackage(b) })
}
