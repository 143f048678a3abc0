//go:build vm

package slots

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"

	"ktradv/image/debian"
	"ktradv/image/disk"
	"ktradv/image/kernel"
	"ktradv/image/uki"
	"ktradv/qemu/machine"
)

const root = "../.."

type parts struct {
	kernel, stub, initrd []byte
	version              string
}

// getParts takes the kernel and the EFI stub as the image builder does, and packs the test's init.
var getParts = sync.OnceValues(func() (p parts, err error) {
	ctx := context.Background()
	store := &debian.Store{Dir: filepath.Join(root, "out", "cache", "debian")}
	list, err := store.Fetch(ctx, []string{"systemd-boot-efi"})
	if err != nil {
		return p, err
	}
	if p.stub, err = list[0].Read("usr/lib/systemd/boot/efi/linuxx64.efi.stub"); err != nil {
		return p, err
	}
	k, err := kernel.Fetch(ctx, store)
	if err != nil {
		return p, err
	}
	tree, err := kernel.Open(k)
	if err != nil {
		return p, err
	}
	p.version = tree.Version
	if p.kernel, err = k.Read("boot/vmlinuz-" + tree.Version); err != nil {
		return p, err
	}
	mods, err := tree.Closure([]string{"efivarfs"})
	if err != nil {
		return p, err
	}
	dir, err := os.MkdirTemp("", "slots-")
	if err != nil {
		return p, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "init")
	cmd := exec.Command("go", "build", "-o", program, "-ldflags=-s -w", "./tests/slots/init")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return p, fmt.Errorf("build the init: %w\n%s", err, out)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return p, err
	}
	var b bytes.Buffer
	w := cpio.Newc.Writer(&b)
	records := []cpio.Record{cpio.Directory("dev", 0o755), cpio.CharDev("dev/null", 0o666, 1, 3), cpio.Directory("proc", 0o755), cpio.Directory("sys", 0o755),
		cpio.Directory("modules", 0o755), cpio.StaticFile("init", string(data), 0o755)}
	for i, m := range mods {
		records = append(records, cpio.StaticFile(fmt.Sprintf("modules/%d.ko", i), string(m.Data), 0o644))
	}
	err = errors.Join(cpio.WriteRecords(w, records), cpio.WriteTrailer(w))
	p.initrd = b.Bytes()
	return p, err
})

// slot makes a kernel image that knows which slot it is for.
func slot(t *testing.T, name, more string) []byte {
	t.Helper()
	p, err := getParts()
	if err != nil {
		t.Fatal(err)
	}
	b, err := uki.Write(uki.Image{Stub: p.stub, OSRel: []byte("ID=slottest\n"), Cmdline: "quiet console=null panic=1 cryptomgr.notests slottest.slot=" + name + " " + more,
		Uname: p.version, Kernel: p.kernel, Initrd: p.initrd})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// boot runs a machine with this disk until it ends and returns what the inits said.
func boot(t *testing.T, a, b []byte, reboot bool) []string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sl") // a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	img := filepath.Join(dir, "disk.img")
	if err := disk.Write(ctx, img, disk.Config{A: a, B: b, Time: time.Unix(1e9, 0)}); err != nil {
		t.Fatal(err)
	}
	console := filepath.Join(dir, "console")
	m, err := machine.Start(ctx, machine.Config{Dir: dir, Disks: []string{img}, MemoryMB: 256, Console: console, Reboot: reboot, Stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	// A firmware that finds nothing to boot waits for ever.
	if err := m.Wait(ctx); err != nil {
		m.Cut()
		t.Logf("the machine did not end by itself: %v", err)
	}
	said, err := os.ReadFile(console)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range regexp.MustCompile(`slots: [^\r\n]*`).FindAll(said, -1) {
		lines = append(lines, strings.TrimPrefix(string(l), "slots: "))
	}
	return lines
}

// Without any setting the firmware starts slot A, and slot B where A holds nothing that starts. An image with a sound head
// and a damaged body is started, though, and fails: only a signature would tell. That is why a new image gets its name
// when all of it is on the disk, and is tried with BootNext first (TestTrial).
func TestFirmwareTakesWhatStarts(t *testing.T) {
	a, b := slot(t, "a", ""), slot(t, "b", "")
	for _, c := range []struct {
		name string
		a, b []byte
		want []string
	}{
		{"both good", a, b, []string{"running a"}},
		{"b damaged", a, b[:len(b)/3], []string{"running a"}},
		{"a empty", nil, b, []string{"running b"}},
		{"a with a damaged head", append(make([]byte, 512), a[512:]...), b, []string{"running b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, boot(t, c.a, c.b, false)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// A slot can be tried once: if it does not confirm itself, the firmware goes back by itself.
func TestTrial(t *testing.T) {
	want := []string{"running a", "running b", "running a", "back in a"}
	if d := cmp.Diff(want, boot(t, slot(t, "a", "slottest.trial=1"), slot(t, "b", "slottest.trial=1"), true)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
