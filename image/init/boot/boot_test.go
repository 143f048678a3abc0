//go:build linux

package boot

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ktradv/image/init/sandbox"
	"ktradv/image/init/service"
	"ktradv/image/init/users"
	"ktradv/internal/advlog"
	"ktradv/internal/initctl"
	"ktradv/internal/req"
	"ktradv/internal/terminal"
)

// kernel is a Kernel that notes what it was asked for.
type kernel struct {
	root   string
	mu     sync.Mutex // guards the rest
	mounts map[string]uintptr
	owners map[string][2]int
	refuse error

	unmounts int
}

func newKernel(t *testing.T) *kernel {
	return &kernel{root: t.TempDir(), mounts: make(map[string]uintptr), owners: make(map[string][2]int)}
}

func (k *kernel) rel(name string) string { return strings.TrimPrefix(name, k.root) }

func (k *kernel) Mount(_, target, _ string, flags uintptr, _ string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mounts[k.rel(target)] = flags
	return k.refuse
}
func (k *kernel) Unmount(string) error { k.mu.Lock(); defer k.mu.Unlock(); k.unmounts++; return nil }
func (k *kernel) Chown(name string, uid, gid int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.owners[k.rel(name)] = [2]int{uid, gid}
	return nil
}
func (k *kernel) Hostname(string) error { return nil }

// Every mount forbids what it does not need: only /dev has devices, nothing but the root has programs.
func TestMounts(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	if err := (Setup{k, k.root}).Mounts(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/proc", "/sys", "/dev", "/run"} {
		flags, ok := k.mounts[name]
		want := uintptr(unix.MS_NOSUID | unix.MS_NOEXEC)
		if name != "/dev" {
			want |= unix.MS_NODEV
		}
		if !ok || flags&want != want {
			t.Errorf("%s: flags %#x; want %#x", name, flags, want)
		}
	}
	// What does not mount is told, and the rest is done all the same.
	k = newKernel(t)
	k.refuse = unix.ENOMEM
	if err := (Setup{k, k.root}).Mounts(); !errors.Is(err, unix.ENOMEM) || len(k.mounts) != len(mounts) {
		t.Errorf("Mounts = %v after %d mounts", err, len(k.mounts))
	}
}

// The log folders belong to those who write them and to nobody else (AdV-A_2443).
func TestLogFolders(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	// A folder of before with the wrong mode is put right.
	if err := os.MkdirAll(filepath.Join(k.root, "data/log/kiosk"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := (Setup{k, k.root}).folders(dataFolders); err != nil {
		t.Fatal(err)
	}
	for name, owner := range map[string]users.ID{"/data/log/kiosk": users.Kiosk, "/data/log/init": users.Root} {
		fi, err := os.Stat(filepath.Join(k.root, name))
		if err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v; want mode 0700", name, fi, err)
		}
		if got := k.owners[name]; got != [2]int{int(owner), int(owner)} {
			t.Errorf("%s belongs to %v; want %s", name, got, owner)
		}
	}
	// No other service may even see them.
	for _, p := range sandbox.Profiles {
		for _, list := range [][]string{p.ReadDirs, p.WriteDirs} {
			for _, d := range list {
				if (d == "/" || strings.HasPrefix(d, "/data")) && p.Name != sandbox.Kiosk {
					t.Errorf("%s may reach %s", p.Name, d)
				}
			}
		}
	}
	req.Covers(t, "AdV-A_2443")
}

// A folder of devices that a sandbox names is there before the service, and stays when its last device goes: a touch screen
// or a reader that is plugged in later is seen.
func TestDeviceFoldersAreThere(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	if err := (Setup{k, k.root}).folders(folders); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range sandbox.Profiles {
		for _, d := range append(slices.Clone(p.ReadDirs), p.WriteDirs...) {
			if !strings.HasPrefix(d, "/dev/") {
				continue
			}
			n++
			if fi, err := os.Stat(filepath.Join(k.root, d)); err != nil || fi.Mode() != os.ModeDir|0o755 {
				t.Errorf("%s of %s: %v, %v; want a folder before anything is plugged in", d, p.Name, fi, err)
			}
		}
	}
	if n == 0 {
		t.Error("no sandbox names a folder of devices")
	}
}

func TestNameServers(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	s := Setup{k, k.root}
	if err := s.links(); err == nil {
		t.Error("linked where there is no /etc")
	}
	if err := os.Mkdir(filepath.Join(k.root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is there stays
		if err := s.links(); err != nil {
			t.Error(err)
		}
	}
	if got, err := os.Readlink(filepath.Join(k.root, "etc/resolv.conf")); got != "/run/net/resolv.conf" {
		t.Errorf("resolv.conf leads to %q, %v", got, err)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	s := Setup{k, k.root}
	for _, v := range append(slices.Clone(settings), lastSettings...) {
		if v.name == "net/core/bpf_jit_harden" {
			continue // this kernel does not have it
		}
		name := filepath.Join(k.root, "proc/sys", v.name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.set(settings); err == nil || !strings.Contains(err.Error(), "bpf_jit_harden") {
		t.Errorf("set = %v; want the one that is missing", err)
	}
	for name, want := range map[string]string{"kernel/sysrq": "0", "kernel/ctrl-alt-del": "0", "kernel/yama/ptrace_scope": "3", "kernel/kptr_restrict": "2", "kernel/dmesg_restrict": "1", "kernel/unprivileged_bpf_disabled": "1", "fs/suid_dumpable": "0"} {
		if b, err := os.ReadFile(filepath.Join(k.root, "proc/sys", name)); string(b) != want {
			t.Errorf("%s = %q, %v; want %s", name, b, err, want)
		}
	}
	if b, _ := os.ReadFile(filepath.Join(k.root, "proc/sys/kernel/modules_disabled")); len(b) != 0 {
		t.Error("modules are forbidden before they are loaded")
	}
	if err := s.set(lastSettings); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(filepath.Join(k.root, "proc/sys/kernel/modules_disabled")); string(b) != "1" {
		t.Error("modules are not forbidden at the end")
	}
}

func TestReboots(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	s := Setup{k, k.root}
	if n := s.readReboots(); n != 0 {
		t.Errorf("count without a file = %d", n)
	}
	if err := s.writeReboots(1); err == nil {
		t.Error("counted where there is no folder")
	}
	if err := os.MkdirAll(filepath.Join(k.root, "data/init"), 0o700); err != nil {
		t.Fatal(err)
	}
	for n := range 4 {
		if err := s.writeReboots(n); err != nil {
			t.Fatal(err)
		}
		if got := s.readReboots(); got != n {
			t.Errorf("count = %d; want %d", got, n)
		}
	}
	for _, text := range []string{"-1", "99999", "x", strings.Repeat("1", 20)} {
		os.WriteFile(filepath.Join(k.root, rebootsFile), []byte(text), 0o600)
		if got := s.readReboots(); got != 0 {
			t.Errorf("count of %q = %d; want 0", text, got)
		}
	}
}

// Nobody but pcscd can be restarted from outside; one that was never started holds nothing and will be a fresh one.
func TestRestartOfOthers(t *testing.T) {
	t.Parallel()
	m := newMachine(Setup{newKernel(t), ""})
	for _, name := range []string{sandbox.Kiosk, sandbox.USB, "x"} {
		if f := m.Restart(t.Context(), name, 0); f != initctl.FaultRefused {
			t.Errorf("Restart(%s) = %q; want %q", name, f, initctl.FaultRefused)
		}
	}
	if f := m.Restart(t.Context(), sandbox.PCSCD, 0); f != initctl.FaultNone {
		t.Errorf("Restart of a service that has not started yet = %q", f)
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	early, late := split([]string{"virtio-gpu", "virtio_blk", "evdev", "8021q", "i915"})
	if diff := cmp.Diff([]string{"virtio_gpu", "evdev", "i915"}, early); diff != "" {
		t.Errorf("early (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"virtio_blk", "8021q"}, late); diff != "" {
		t.Errorf("late (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"crc32c_generic", "ext4", "virtio_blk"}, disks(late)); diff != "" {
		t.Errorf("disks (-want +got):\n%s", diff)
	}
}

func event(kind, code uint16, value uint32) []byte {
	b := make([]byte, inputEvent)
	binary.NativeEndian.PutUint16(b[16:], kind)
	binary.NativeEndian.PutUint16(b[18:], code)
	binary.NativeEndian.PutUint32(b[20:], value)
	return b
}

func TestPowerPressed(t *testing.T) {
	t.Parallel()
	press, release := event(evKey, keyPower, 1), event(evKey, keyPower, 0)
	for _, c := range []struct {
		b    []byte
		want bool
	}{
		{slices.Concat(press, event(0, 0, 0)), true},
		{slices.Concat(event(0, 0, 0), press), true},
		{release, false},
		{event(evKey, 30, 1), false},
		{event(2, keyPower, 1), false},
		{press[:inputEvent-1], false},
		{nil, false},
	} {
		if got := PowerPressed(c.b); got != c.want {
			t.Errorf("PowerPressed(%x) = %v; want %v", c.b, got, c.want)
		}
	}
}

func FuzzPowerPressed(f *testing.F) {
	f.Add(event(evKey, keyPower, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if PowerPressed(b) && len(b) < inputEvent {
			t.Error("pressed by half an event")
		}
	})
}

// What is noted before the log is open is written when it is, with typed values and nothing else.
func TestJournal(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	j := newJournal(nil)
	j.step(stepInit)
	j.problem(stepData, errors.New("free text that belongs in no log"))
	j.problem(stepData, nil)
	j.refused(0x0951, 0x1666, 2)
	j.replaced(sandbox.PCSCD, service.CauseWatchdog, 0)
	j.open(dir, terminal.Log{Enabled: true, Level: "info"})
	j.service(sandbox.Kiosk)
	j.network(initctl.NetworkUp)
	j.clock(initctl.ClockWrong)
	j.stepped(-1500)
	j.modules([]string{"8021q", "x", "Erika Mustermann"}, []string{"8021q", "Erika Mustermann"})
	j.close()
	j.step(stepStopped) // after the end: dropped, not a panic
	got := make(map[string]advlog.Entry)
	var loads []string
	files, _ := filepath.Glob(filepath.Join(dir, "adv-init-*.log"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "free text") || strings.Contains(string(b), "Erika") {
			t.Errorf("%s holds free text", f)
		}
		for l := range strings.Lines(string(b)) {
			var e advlog.Entry
			if err := json.Unmarshal([]byte(l), &e); err != nil {
				t.Fatal(err)
			}
			got[e.Log+" "+e.Name] = e
			if m, ok := e.Values["module"].(string); ok {
				loads = append(loads, e.Text+" "+m)
			}
		}
	}
	for _, want := range []string{"performance boot.init", "performance boot.kiosk", "error boot.data", "security usb.refused", "error service.pcscd", "flow network.state", "security clock.state", "security clock.set", "error terminal"} {
		if _, ok := got[want]; !ok {
			t.Errorf("no entry %q", want)
		}
	}
	// One entry for each module, and no word that is not the image's.
	if diff := cmp.Diff([]string{"KERNEL-MODULE-NOT-LOADED 8021q", "KERNEL-MODULE-NOT-LOADED other", "KERNEL-MODULE-NOT-LOADED other"}, loads); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
	if v := got["security usb.refused"].Values; fmt.Sprint(v["vendor"], v["product"], v["reason"]) != "2385 5734 2" {
		t.Errorf("values of the refused device = %v", v)
	}
	if d := got["performance boot.init"].Duration; d <= 0 {
		t.Errorf("duration since the kernel's start = %v", d)
	}
}

// A log that is off leaves no file.
func TestJournalOff(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	j := newJournal(nil)
	j.step(stepInit)
	j.open(dir, terminal.Log{})
	j.step(stepData)
	j.close()
	if _, err := os.Stat(dir); err == nil {
		t.Error("a log that is off made its folder")
	}
}

// With a configuration that cannot be read nobody knows the display's driver: all that the image has are tried.
func TestAllModules(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	s := Setup{k, k.root}
	if got := s.allModules(); got != nil {
		t.Errorf("modules of an image without = %q", got)
	}
	dir := filepath.Join(k.root, "lib/modules/6.1.0")
	text := "kernel/drivers/gpu/drm/virtio/virtio-gpu.ko: kernel/drivers/gpu/drm/drm.ko\nkernel/drivers/gpu/drm/drm.ko:\njunk\n"
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "modules.dep"), []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"virtio_gpu", "drm"}, s.allModules()); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
	m := newMachine(s)
	m.config.Modules.Extra = []string{"not-there"}
	for _, want := range []string{"virtio_gpu", "8021q", "not_there"} { // of the files, of every terminal, of the configuration
		if !slices.Contains(m.moduleNames(), want) {
			t.Errorf("the log does not know %s: %q", want, m.moduleNames())
		}
	}
}

// Two readers are one too many, unless the configuration names which one serves.
func TestReader(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                   string
		supported, unsupported int
		want                   initctl.Readers
	}{
		{"", 2, 0, initctl.ReaderSeveral}, {"KOBIL", 2, 0, initctl.ReaderOne}, {"KOBIL", 0, 1, initctl.ReaderUnsupported}, {"KOBIL", 0, 0, initctl.ReaderNone},
	} {
		m := newMachine(Setup{})
		m.config.Reader.Name = tc.name
		if got := m.reader(tc.supported, tc.unsupported); got != tc.want {
			t.Errorf("%q, %d, %d: %s, want %s", tc.name, tc.supported, tc.unsupported, got, tc.want)
		}
	}
}

func TestHostname(t *testing.T) {
	t.Parallel()
	if got := hostname(terminal.Config{TerminalID: "00000000000000D0"}); got != "ktr-adv-00000000000000d0" || len(got) > 64 {
		t.Errorf("hostname = %q", got)
	}
}

// After the set-up nothing can be loaded, the root is read-only, and the modules' files hold no memory any more.
func TestSeal(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	closed, module := filepath.Join(k.root, "proc/sys/kernel/modules_disabled"), filepath.Join(k.root, "lib/modules/6.1.0/kernel/drm.ko")
	for _, f := range []string{closed, module} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(f), 0o700), os.WriteFile(f, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	newMachine(Setup{k, k.root}).seal()
	if b, err := os.ReadFile(closed); err != nil || string(b) != "1" {
		t.Errorf("modules_disabled = %q, %v", b, err)
	}
	if _, err := os.Stat(module); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the module's file: %v", err)
	}
	if _, err := os.Stat(filepath.Join(k.root, "lib")); err != nil {
		t.Error(err)
	}
	if k.mounts[""]&unix.MS_RDONLY == 0 && k.mounts["/"]&unix.MS_RDONLY == 0 {
		t.Errorf("the root is not read-only: %v", k.mounts)
	}
}
