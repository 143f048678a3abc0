//go:build image

package build

import (
	"bytes"
	"context"
	"debug/elf"
	"debug/pe"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
	"github.com/u-root/u-root/pkg/kmodule"
	"golang.org/x/sys/unix"

	"ktradv/image/disk"
	"ktradv/image/kernel"
	"ktradv/image/modules"
)

// copied is the project in a folder of its own: other work on the tree must not come between two builds.
var copied = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "first"), copyProject(project, filepath.Join(dir, "first"))
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := copied(); err == nil {
		os.RemoveAll(filepath.Dir(dir))
	}
	os.Exit(code)
}

func copyProject(from, to string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		if rel == "out" || rel == ".git" {
			return fs.SkipDir
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.Join(err, os.WriteFile(filepath.Join(to, rel), b, 0o644))
	})
}

var first = sync.OnceValues(func() (Result, error) {
	root, err := copied()
	if err != nil {
		return Result{}, err
	}
	return Build(context.Background(), Config{
		Root: root, Overlays: []string{filepath.Join(root, "overlays", "demo")}, Out: filepath.Join(root, "out", "image"), Cache: filepath.Join(project, "out", "cache"),
	})
})

func built(t *testing.T) Result {
	t.Helper()
	r, err := first()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// unpack reads the initramfs as the kernel does: archive after archive, the later file in place of the earlier one.
func unpack(t *testing.T, packed []byte) map[string]cpio.Record {
	t.Helper()
	plain := decode(t, packed)
	files := make(map[string]cpio.Record)
	for len(plain) > 0 {
		end := bytes.Index(plain, []byte("TRAILER!!!"))
		if end < 0 {
			t.Fatalf("%d bytes behind the last archive", len(plain))
		}
		end = (end + len("TRAILER!!!") + 1 + 3) &^ 3
		r := cpio.Newc.Reader(bytes.NewReader(plain[:end]))
		for {
			e, err := r.ReadRecord()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			files[e.Name] = e
		}
		plain = plain[end:]
	}
	return files
}

// decode unpacks frame after frame; between frames lie zero bytes, as the kernel allows.
func decode(t *testing.T, packed []byte) []byte {
	t.Helper()
	var plain []byte
	magic := []byte{0x28, 0xb5, 0x2f, 0xfd}
	for len(packed) > 0 {
		// The second archive begins at a multiple of four; what looks like its beginning by chance does not decode.
		for i := 4; ; i += 4 {
			if i < len(packed) && !bytes.HasPrefix(packed[i:], magic) {
				continue
			}
			z, err := zstd.NewReader(nil, zstd.WithDecoderMaxWindow(32<<20))
			if err != nil {
				t.Fatal(err)
			}
			frame := packed[:min(i, len(packed))]
			var out []byte
			for range 4 {
				if out, err = z.DecodeAll(frame, nil); err == nil || len(frame) == 0 || frame[len(frame)-1] != 0 {
					break
				}
				frame = frame[:len(frame)-1]
			}
			z.Close()
			if err == nil {
				plain, packed = append(plain, out...), packed[min(i, len(packed)):]
				break
			}
			if i >= len(packed) {
				t.Fatalf("unpack: %v", err)
			}
		}
	}
	return plain
}

func content(t *testing.T, e cpio.Record) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(e.ReaderAt, 0, int64(e.FileSize)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The only programs of the image.
var programNames = []string{"init", "usr/bin/adv-kiosk", "usr/sbin/pcscd"}

// Packages of ours that are for tests, by what the linker leaves of them in a program.
var testCode = []string{"ktradv/hw/sim", "ktradv/server/proxy", "ktradv/server/tisim", "ktradv/server/cmd", "ktradv/internal/testpki", "ktradv/internal/req", "ktradv/tests/", "ktradv/qemu/", "ktradv/kiosk/demodoor", "testing."}

// offences says what of an image must not be there.
func offences(t *testing.T, files map[string]cpio.Record) []string {
	var bad []string
	shell := regexp.MustCompile(`(^|/)((ba|da|z|k|c|a)?sh|busybox|toybox|bb|getty|agetty|login|su|sudo|passwd|insmod|modprobe|python[0-9.]*|perl|gdb|strace|sshd|telnetd|nc)$`)
	for name, e := range files {
		mode := e.Mode
		data := content(t, e)
		switch {
		case shell.MatchString(name) && mode&cpio.S_IFMT != cpio.S_IFDIR && name != "etc/passwd":
			bad = append(bad, name+": a program to log in or look around with")
		case mode&(cpio.S_ISUID|cpio.S_ISGID) != 0:
			bad = append(bad, name+": setuid")
		case mode&cpio.S_IFMT == cpio.S_IFREG && mode&0o111 != 0 && !strings.Contains(name, ".so") && !slices.Contains(programNames, name):
			bad = append(bad, name+": a program that nobody named")
		case (mode&cpio.S_IFMT == cpio.S_IFBLK || mode&cpio.S_IFMT == cpio.S_IFCHR) && name != "dev/null":
			bad = append(bad, name+": a device")
		case mode&0o022 != 0 && name != "dev/null" && mode&cpio.S_IFMT != cpio.S_IFLNK:
			bad = append(bad, name+": others may write to it")
		case bytes.Contains(data, []byte("PRIVATE KEY-----\n")) && !bytes.HasPrefix(data, []byte(elf.ELFMAG)):
			bad = append(bad, name+": a private key")
		case e.UID != 0 || e.GID != 0 || e.MTime != 0:
			bad = append(bad, name+": owner or time")
		}
		if slices.Contains(programNames, name) {
			for _, c := range testCode {
				if bytes.Contains(data, []byte(c)) {
					bad = append(bad, name+": holds "+c)
				}
			}
		}
	}
	return bad
}

func TestContent(t *testing.T) {
	r := built(t)
	files := unpack(t, read(t, r.Initramfs))
	for _, n := range append(programNames, "etc/adv/terminal.json", "etc/passwd", "etc/group", "etc/os-release", "dev/null", "proc", "sys", "run", "tmp", "data",
		"lib/x86_64-linux-gnu/libgcc_s.so.1", "lib64/ld-linux-x86-64.so.2", "usr/share/zoneinfo/Europe/Berlin",
		"usr/lib/pcsc/drivers/ifd-ccid.bundle/Contents/Info.plist", "usr/lib/pcsc/drivers/ifd-ccid.bundle/Contents/Linux/libccid.so") {
		if _, ok := files[n]; !ok {
			t.Errorf("%s is missing", n)
		}
	}
	for _, o := range offences(t, files) {
		t.Error(o)
	}
	// The search for test code sees what is there.
	if !bytes.Contains(content(t, files["usr/bin/adv-kiosk"]), []byte("ktradv/kiosk/session")) {
		t.Error("the kiosk does not hold its own packages' names: the search for test code proves nothing")
	}
	// Every library that is asked for is there, under the name by which it is asked for.
	for n, e := range files {
		libs, loader, err := needs(content(t, e))
		if err != nil {
			t.Errorf("%s: %v", n, err)
		}
		if loader != "" {
			libs = append(libs, loader)
		}
		for _, l := range libs {
			if !slices.ContainsFunc(append(libraryDirs, "lib64", ""), func(d string) bool { _, ok := files[strings.TrimPrefix(path.Join(d, l), "/")]; return ok }) {
				t.Errorf("%s needs %s, which is missing", n, l)
			}
		}
	}
	// The list beside the image names every file and no other, each with a reason.
	listed := make(map[string]bool)
	for i, l := range strings.Split(strings.TrimSpace(string(read(t, r.Files))), "\n") {
		f := strings.Split(l, "\t")
		if len(f) != 7 || f[6] == "" || f[5] == "" {
			t.Fatalf("files.tsv line %d: %q", i+1, l)
		}
		if name, ok := strings.CutPrefix(f[0], "/"); ok {
			listed[name] = true
			if _, ok := files[name]; !ok {
				t.Errorf("files.tsv names %s, which is not in the image", name)
			}
		}
	}
	for n := range files {
		if !listed[n] {
			t.Errorf("files.tsv does not name %s", n)
		}
	}
}

// The negative twin: what must not be in an image is found where it is.
func TestOffencesAreFound(t *testing.T) {
	reg := func(perm uint64, data string) cpio.Record {
		return cpio.StaticRecord([]byte(data), cpio.Info{Mode: cpio.S_IFREG | perm})
	}
	files := map[string]cpio.Record{
		"bin/sh": reg(0o755, "x"), "usr/bin/busybox": reg(0o755, "x"), "usr/bin/tool": reg(0o755, "x"), "usr/bin/suid": reg(0o644|cpio.S_ISUID, "x"),
		"etc/open": reg(0o666, "x"), "etc/adv/key.pem": reg(0o644, "-----BEGIN PRIVATE KEY-----\n"), "init": reg(0o755, "... ktradv/hw/sim/card.New ..."),
		"dev/mem": {Info: cpio.Info{Mode: cpio.S_IFCHR | 0o600}, ReaderAt: bytes.NewReader(nil)},
	}
	found := strings.Join(offences(t, files), "\n")
	for n := range files {
		if !strings.Contains(found, n+": ") {
			t.Errorf("%s is not found", n)
		}
	}
	if bad := offences(t, map[string]cpio.Record{"etc/hosts": reg(0o644, "x")}); len(bad) > 0 {
		t.Errorf("harmless: %v", bad)
	}
}

func TestSizes(t *testing.T) {
	r := built(t)
	var m Manifest
	if err := json.Unmarshal(read(t, r.Manifest), &m); err != nil {
		t.Fatal(err)
	}
	size := func(name string) int64 { return m.Outputs[name].Size }
	t.Logf("kernel %d, initramfs %d, slot %d bytes", size("vmlinuz"), size("initramfs.cpio.zst"), size("adv.efi"))
	if n := size("vmlinuz") + size("initramfs.cpio.zst"); n == 0 || n > 20e6 {
		t.Errorf("kernel and initramfs have %d bytes; want at most 20e6", n)
	}
	if n := size("adv.efi"); n == 0 || n > 24e6 || n > disk.SlotA.Size {
		t.Errorf("the slot has %d bytes; want at most 24e6", n)
	}
	for name, o := range m.Outputs {
		if b := read(t, filepath.Join(filepath.Dir(r.Manifest), name)); int64(len(b)) != o.Size || sum(b) != o.SHA256 {
			t.Errorf("manifest.json is wrong about %s", name)
		}
	}
}

// The kernel's modules can be loaded with u-root's kmodule, each after those that it needs, and are signed.
func TestModules(t *testing.T) {
	r := built(t)
	files := unpack(t, read(t, r.Initramfs))
	var m Manifest
	if err := json.Unmarshal(read(t, r.Manifest), &m); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for n, e := range files {
		if !strings.HasPrefix(n, "lib/modules/") || e.Mode&cpio.S_IFMT != cpio.S_IFREG {
			continue
		}
		data := content(t, e)
		write(t, filepath.Join(root, n), string(data))
		if strings.HasSuffix(n, ".ko") && !kernel.Signed(data) {
			t.Errorf("%s is not signed", n)
		}
	}
	var order []string
	p, err := kmodule.NewProber(kmodule.ProbeOpts{RootDir: root, KVer: m.Kernel, IgnoreProcMods: true, DryRunCB: func(p string) { order = append(order, path.Base(p)) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, mod := range modules.Base {
		if err := p.Probe(mod.Name, ""); err != nil {
			t.Errorf("%s: %v", mod.Name, err)
		}
	}
	before := func(a, b string) {
		if i, j := slices.Index(order, a), slices.Index(order, b); i < 0 || j < 0 || i > j {
			t.Errorf("%s is not loaded before %s: %v", a, b, order)
		}
	}
	before("usbcore.ko", "xhci-hcd.ko")
	before("jbd2.ko", "ext4.ko")
	before("crc32c_generic.ko", "ext4.ko")
	before("hid.ko", "usbhid.ko")
}

func TestUKI(t *testing.T) {
	r := built(t)
	f, err := pe.Open(r.UKI)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, want := range map[string][]byte{".linux": read(t, r.Kernel), ".initrd": read(t, r.Initramfs), ".cmdline": []byte(Cmdline + "\x00")} {
		s := f.Section(name)
		if s == nil {
			t.Fatalf("no section %s", name)
		}
		if b, err := s.Data(); err != nil || !bytes.Equal(b[:s.VirtualSize], want) {
			t.Errorf("section %s differs (%v)", name, err)
		}
	}
	out, err := exec.Command("objdump", "-h", r.UKI).CombinedOutput() // a reader that is not ours
	if err != nil || !regexp.MustCompile(`\.osrel(?s:.*)\.cmdline(?s:.*)\.uname(?s:.*)\.linux(?s:.*)\.initrd`).Match(out) {
		t.Errorf("objdump: %v\n%s", err, out)
	}
}

// The tools of the file systems find nothing to mend, and the kernel image is where the firmware looks.
func TestDisk(t *testing.T) {
	r := built(t)
	img := read(t, r.Disk)
	for _, p := range []disk.Partition{disk.SlotA, disk.SlotB, disk.Data} {
		part := filepath.Join(t.TempDir(), p.Name)
		if err := os.WriteFile(part, img[disk.Start(p):][:p.Size], 0o644); err != nil {
			t.Fatal(err)
		}
		check := exec.Command("/usr/sbin/fsck.fat", "-n", part)
		if p.Name == disk.Data.Name {
			check = exec.Command("/usr/sbin/e2fsck", "-fn", part)
		}
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", p.Name, err, out)
		}
		if p.Name == disk.Data.Name {
			continue
		}
		to := filepath.Join(t.TempDir(), "uki")
		if out, err := exec.Command("mcopy", "-i", part, "::EFI/BOOT/BOOTX64.EFI", to).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", p.Name, err, out)
		}
		if !bytes.Equal(read(t, to), read(t, r.UKI)) {
			t.Errorf("%s holds something else than adv.efi", p.Name)
		}
	}
	out, err := exec.Command("/usr/sbin/sfdisk", "--verify", r.Disk).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No errors") {
		t.Errorf("partition table: %v\n%s", err, out)
	}
}

// Built again in another folder, from other caches: the same bytes. Built with a changed overlay: others, and the kernel
// and the system's part of the initramfs stay.
func TestReproducible(t *testing.T) {
	a := built(t)
	root, err := copied()
	if err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(t.TempDir(), "a", "longer", "path")
	if err := copyProject(root, second); err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(second, "out", "cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	// The packages are input; everything that was made of them is not.
	debs, err := filepath.Abs(filepath.Join(project, "out", "cache", "debian"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(debs, filepath.Join(cache, "debian")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCACHE", t.TempDir())
	t.Setenv("TZ", "Asia/Tokyo")
	t.Setenv("LC_ALL", "C.UTF-8")
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("GOFLAGS", "-tags=demo")
	t.Setenv("GOAMD64", "v3")
	t.Setenv("GOFIPS140", "latest")
	t.Setenv("CGO_CFLAGS", "-O0 -g")
	defer unix.Umask(unix.Umask(0o077))
	b, err := Build(context.Background(), Config{Root: second, Overlays: []string{filepath.Join(second, "overlays", "demo")}, Out: filepath.Join(second, "image"), Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	names := func(r Result) []string {
		return []string{r.Kernel, r.Initramfs, r.Cmdline, r.UKI, r.Disk, r.SBOM, r.Files, r.Manifest}
	}
	for i, name := range names(a) {
		if !bytes.Equal(read(t, name), read(t, names(b)[i])) {
			t.Errorf("%s differs between two builds", filepath.Base(name))
		}
	}
	over := filepath.Join(second, "overlays", "demo")
	conf := filepath.Join(over, "etc/adv/terminal.json")
	write(t, conf, strings.Replace(string(read(t, conf)), `"diagonal_mm": 390`, `"diagonal_mm": 391`, 1))
	c, err := Build(context.Background(), Config{Root: second, Overlays: []string{over}, Out: filepath.Join(second, "changed"), Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"initramfs.cpio.zst", "adv.efi", "disk.img", "files.tsv", "manifest.json"} {
		if bytes.Equal(read(t, filepath.Join(filepath.Dir(a.Kernel), name)), read(t, filepath.Join(filepath.Dir(c.Kernel), name))) {
			t.Errorf("%s does not show a change of the overlay", name)
		}
	}
	x, y := read(t, a.Initramfs), read(t, c.Initramfs)
	same := 0
	for same < min(len(x), len(y)) && x[same] == y[same] {
		same++
	}
	if same < len(x)*9/10 {
		t.Errorf("the initramfs changes from byte %d of %d on; the system's part should stay", same, len(x))
	}
}

// The kiosk itself looks at what the configuration names.
func TestKioskChecksOverlay(t *testing.T) {
	built(t)
	root, err := copied()
	if err != nil {
		t.Fatal(err)
	}
	over := filepath.Join(t.TempDir(), "over")
	write(t, filepath.Join(over, "etc/adv/trust/cvc/example.cvc"), "no certificate")
	_, err = Build(context.Background(), Config{Root: root, Overlays: []string{filepath.Join(root, "overlays", "demo"), over}, Out: t.TempDir(), Cache: filepath.Join(project, "out", "cache")})
	if err == nil || !strings.Contains(err.Error(), filepath.Join(over, "etc/adv/trust/cvc")+": card_roots:") {
		t.Errorf("got %v; want the folder with the wrong file", err)
	}
	// Beside that, drivers that the kernel does not have: all mistakes at once.
	config := filepath.Join(over, "etc/adv/terminal.json")
	write(t, config, `{"server": {"address": "adv.insurer.example:8443"}, "modules": {"extra": ["virtio_blk", "virtio_glk", "i919"]}}`)
	_, err = Build(context.Background(), Config{Root: root, Overlays: []string{filepath.Join(root, "overlays", "demo"), over}, Out: t.TempDir(), Cache: filepath.Join(project, "out", "cache")})
	var wrong ProblemsError
	if !errors.As(err, &wrong) || len(wrong) != 2 {
		t.Fatalf("got %v; want two modules as problems", err)
	}
	for i, want := range []string{config + ": modules.extra[1]: kernel ", config + ": modules.extra[2]: kernel "} {
		if !strings.HasPrefix(wrong[i].String(), want) {
			t.Errorf("%v; want %s", wrong[i], want)
		}
	}
	if !strings.Contains(err.Error(), "card_roots:") {
		t.Errorf("%v; want the folder with the wrong file, too", err)
	}
}
