//go:build vm

package display

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// root is the root of the project.
const root = "../.."

// modules are the kernel modules of the machine; what they depend on is added.
var modules = []string{"virtio_pci", "virtio-gpu", "bochs", "evdev", "virtio_input", "uinput"}

// kernel holds what the machine needs of the kernel package.
type kernel struct {
	image   string            // file
	modules map[string][]byte // by name, with underscores
}

var getKernel = sync.OnceValues(fetchKernel)

// fetchKernel downloads Debian's kernel package once and unpacks its parts.
func fetchKernel() (kernel, error) {
	dir := filepath.Join(root, "out", "display")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return kernel{}, err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "linux-image-*.deb"))
	if err != nil {
		return kernel{}, err
	}
	if len(debs) == 0 {
		err := download(dir)
		if err != nil {
			// The package list may be missing or old.
			if out, uerr := exec.Command("apt-get", "update", "-q").CombinedOutput(); uerr != nil {
				return kernel{}, fmt.Errorf("%w; then update the package list: %w\n%s", err, uerr, out)
			}
			err = download(dir)
		}
		if err != nil {
			return kernel{}, err
		}
		if debs, err = filepath.Glob(filepath.Join(dir, "linux-image-*.deb")); err != nil || len(debs) == 0 {
			return kernel{}, errors.New("the kernel package was not downloaded")
		}
	}
	k := kernel{image: filepath.Join(dir, "vmlinuz"), modules: make(map[string][]byte)}
	var errOut bytes.Buffer
	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", debs[len(debs)-1])
	cmd.Stderr = &errOut
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return kernel{}, err
	}
	if err := cmd.Start(); err != nil {
		return kernel{}, err
	}
	for r := tar.NewReader(pipe); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return kernel{}, fmt.Errorf("unpack the kernel package: %w", err)
		}
		base := path.Base(h.Name)
		switch {
		case strings.HasPrefix(base, "vmlinuz-"):
			b, err := io.ReadAll(r)
			if err == nil {
				err = os.WriteFile(k.image, b, 0o644)
			}
			if err != nil {
				return kernel{}, err
			}
		case strings.HasSuffix(base, ".ko") && regexp.MustCompile(`/drivers/(gpu/drm/[^/]*|gpu/drm/(tiny|ttm|virtio)/[^/]*|virtio/[^/]*|input/.*)$`).MatchString(h.Name):
			b, err := io.ReadAll(r)
			if err != nil {
				return kernel{}, err
			}
			k.modules[moduleName(strings.TrimSuffix(base, ".ko"))] = b
		}
	}
	if err := cmd.Wait(); err != nil {
		return kernel{}, fmt.Errorf("unpack the kernel package: %w: %s", err, &errOut)
	}
	return k, nil
}

// download fetches the package of the current kernel; linux-image-amd64 itself
// only depends on it.
func download(dir string) error {
	out, err := exec.Command("apt-cache", "depends", "linux-image-amd64").Output()
	if err != nil {
		return fmt.Errorf("ask for the kernel package: %w", err)
	}
	name := regexp.MustCompile(`linux-image-[0-9][^\s]*-amd64`).FindString(string(out))
	if name == "" {
		return errors.New("linux-image-amd64 is not known to apt-get")
	}
	cmd := exec.Command("apt-get", "download", name)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("download %s: %w\n%s", name, err, out)
	}
	return nil
}

func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// closure lists modules in the order in which they have to be loaded.
func (k kernel) closure(names []string) ([]string, error) {
	var order []string
	seen := make(map[string]bool)
	var add func(name string) error
	add = func(name string) error {
		name = moduleName(name)
		if seen[name] {
			return nil
		}
		seen[name] = true
		b, ok := k.modules[name]
		if !ok {
			return fmt.Errorf("module %s is not in the kernel package", name)
		}
		// The .modinfo section holds NUL-ended strings.
		if m := regexp.MustCompile(`\x00depends=([^\x00]*)\x00`).FindSubmatch(b); m != nil {
			for _, d := range strings.FieldsFunc(string(m[1]), func(r rune) bool { return r == ',' }) {
				if err := add(d); err != nil {
					return fmt.Errorf("%s needs: %w", name, err)
				}
			}
		}
		order = append(order, name)
		return nil
	}
	for _, n := range names {
		if err := add(n); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// build compiles a static program for the machine.
func build(t *testing.T, pkg string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// initramfs writes the machine's file system and returns its file name.
func initramfs(t *testing.T, k kernel) string {
	t.Helper()
	order, err := k.closure(modules)
	if err != nil {
		t.Fatal(err)
	}
	var c cpio
	for _, d := range []string{"dev", "proc", "sys", "modules"} {
		c.add(d, 0o40755, nil)
	}
	c.add("init", 0o100755, build(t, "./tests/display/init"))
	c.add("demo", 0o100755, build(t, "./kiosk/cmd/components-demo"))
	for i, m := range order {
		c.add(fmt.Sprintf("modules/%02d-%s.ko", i, m), 0o100644, k.modules[m])
	}
	c.add("TRAILER!!!", 0, nil)
	name := filepath.Join(t.TempDir(), "initramfs")
	if err := os.WriteFile(name, c.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// cpio writes an archive in the format newc.
type cpio struct {
	bytes.Buffer
	inode int
}

func (c *cpio) add(name string, mode int, data []byte) {
	c.inode++
	fmt.Fprintf(c, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	c.WriteString(name)
	c.WriteByte(0)
	c.pad()
	c.Write(data)
	c.pad()
}

func (c *cpio) pad() {
	for c.Len()%4 != 0 {
		c.WriteByte(0)
	}
}
