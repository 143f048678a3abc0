//go:build vm

package display

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"

	"ktradv/image/debian"
	"ktradv/image/kernel"
)

// root is the root of the project.
const root = "../.."

// modules are the kernel modules of the machine; what they depend on is added.
var modules = []string{"virtio_pci", "virtio-gpu", "bochs", "evdev", "virtio_input", "uinput"}

// parts are what the machine needs of the kernel package.
type parts struct {
	image   string // file
	modules []kernel.Module
}

var getKernel = sync.OnceValues(fetchKernel)

// fetchKernel takes Debian's kernel as the image builder does, out of the same cache.
func fetchKernel() (p parts, err error) {
	ctx := context.Background()
	store := &debian.Store{Dir: filepath.Join(root, "out", "cache", "debian")}
	k, err := kernel.Fetch(ctx, store)
	if err != nil {
		return p, err
	}
	defer k.Close()
	tree, err := kernel.Open(k)
	if err != nil {
		return p, err
	}
	if p.modules, err = tree.Closure(modules); err != nil {
		return p, err
	}
	b, err := k.Read("boot/vmlinuz-" + tree.Version)
	if err != nil {
		return p, err
	}
	dir := filepath.Join(root, "out", "display")
	p.image = filepath.Join(dir, "vmlinuz")
	return p, errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(p.image, b, 0o644))
}

// build compiles a static program for the machine.
func build(t *testing.T, pkg string) string {
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
	return string(b)
}

// initramfs writes the machine's file system and returns its file name.
func initramfs(t *testing.T, k parts) string {
	t.Helper()
	records := []cpio.Record{
		cpio.Directory("dev", 0o755), cpio.Directory("proc", 0o755), cpio.Directory("sys", 0o755), cpio.Directory("modules", 0o755),
		cpio.StaticFile("init", build(t, "./tests/display/init"), 0o755), cpio.StaticFile("demo", build(t, "./kiosk/cmd/components-demo"), 0o755),
	}
	for i, m := range k.modules {
		records = append(records, cpio.StaticFile(fmt.Sprintf("modules/%02d-%s.ko", i, m.Name), string(m.Data), 0o644))
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "initramfs"))
	if err != nil {
		t.Fatal(err)
	}
	w := cpio.Newc.Writer(f)
	if err := errors.Join(cpio.WriteRecords(w, records), cpio.WriteTrailer(w), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}
