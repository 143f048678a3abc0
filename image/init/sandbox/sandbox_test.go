//go:build linux && amd64

package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"ktradv/image/init/sandbox/probe"
	"ktradv/image/init/users"
)

// The test binary is helper and service, too: with Arg it puts itself into a sandbox and executes itself again, as
// "probe", which reports what it may do.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == Arg:
		self, err := os.Executable()
		if err == nil {
			self, err = filepath.EvalSymlinks(self)
		}
		if err != nil {
			os.Exit(ExitRefused)
		}
		for i := range Profiles {
			// Where the program lies differs from the appliance, and with cgo it needs libraries.
			Profiles[i].ReadFiles = append(Profiles[i].ReadFiles, self)
			Profiles[i].ReadDirs = append(Profiles[i].ReadDirs, "/lib", "/lib64", "/usr/lib", "/usr/lib64")
			if dir := os.Getenv("SANDBOX_SYS"); dir != "" { // the test's own folders in the place of the machine's
				for j, d := range Profiles[i].WriteDirs {
					if rest, ok := strings.CutPrefix(d, "/sys/"); ok {
						Profiles[i].WriteDirs[j] = filepath.Join(dir, rest)
					}
				}
			}
		}
		os.Exit(Enter(os.Args[2:], os.Environ()))
	case os.Getenv("SANDBOX_SYS") != "":
		for _, name := range os.Args[1:] {
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			fmt.Println(err == nil)
			if err == nil {
				f.Close()
			}
		}
		os.Exit(0)
	case os.Getenv("SANDBOX_PROBE") != "":
		probe.Report(func(l string) { fmt.Println(l) })
		os.Exit(0)
	}
	dir, err := copyMe()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// program is a copy of the test binary where every user may execute it; the binary itself lies in its owner's own folder.
var program string

// copyMe makes program. It runs before any process is started, so that none inherits the file open for writing.
func copyMe() (dir string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	if dir, err = os.MkdirTemp("", "sandbox"); err != nil {
		return "", err
	}
	program = filepath.Join(dir, "program")
	return dir, errors.Join(os.Chmod(dir, 0o755), os.WriteFile(program, b, 0o755), os.Chmod(program, 0o755))
}

// hasLandlock asks the kernel itself for the second version of Landlock: what else goes wrong with it is a failure, and no
// reason to skip.
func hasLandlock() bool {
	const createRulesetVersion = 1
	version, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, createRulesetVersion)
	return e == 0 && version >= 2
}

// run runs the probe in the sandbox of a profile, or outside any for "".
func run(t *testing.T, profile string) (map[string]string, string) {
	t.Helper()
	args := []string{}
	if profile != "" {
		args = []string{Arg, profile, program}
	}
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"SANDBOX_PROBE=1"}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == ExitRefused && !hasLandlock() {
		t.Skipf("this kernel has no Landlock: %s", out)
	}
	if err != nil {
		t.Fatalf("probe in %q: %v\n%s", profile, err, out)
	}
	outcomes, marks := probe.Parse(string(out))
	if !strings.Contains(string(out), "probe: end") {
		t.Fatalf("probe in %q did not come to its end:\n%s", profile, out)
	}
	return outcomes, marks
}

// Every service is refused everything that is not its own, by the kernel.
func TestServicesAreRefused(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root: the sandbox changes the user")
	}
	if st, err := os.Stat("/"); err != nil || st.Mode().Perm()&0o001 == 0 {
		t.Skip("the root folder of this machine is closed to other users: no program can be started as one")
	}
	// The twin: outside any sandbox the same attempts are not refused, so the probe can tell.
	free, marks := run(t, "")
	for _, a := range probe.Forbidden {
		if free[a.Name] == "refused" {
			t.Logf("%s is refused outside the sandbox, too: this machine cannot show the difference", a.Name)
		}
	}
	for _, name := range []string{"mount", "raw IP socket", "packet socket", "ptrace", "become root", "password file, to write", "reboot", "internet socket", "set clock", "change owner", "netlink to routes", "netlink to the firewall", "other devices, to write"} {
		if free[name] != "allowed" && free[name] != probe.Absent {
			t.Errorf("outside the sandbox %s is %q; the probe proves nothing", name, free[name])
		}
	}
	if strings.Contains(marks, "NoNewPrivs:true") {
		t.Errorf("outside the sandbox: %s", marks)
	}
	for _, p := range Profiles {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			got, marks := run(t, p.Name)
			for _, a := range probe.Forbidden {
				if got[a.Name] == probe.Absent {
					continue // this machine does not have it; the appliance does (tests/vm)
				}
				if got[a.Name] != "refused" {
					t.Errorf("%s: %q; want refused", a.Name, got[a.Name])
				}
			}
			for _, o := range probe.Own {
				if got[o.Name] == probe.Absent {
					continue
				}
				want := "refused"
				if slices.Contains(o.Allowed, p.Name) {
					want = "allowed"
				}
				if got[o.Name] != want {
					t.Errorf("%s: %q; want %s", o.Name, got[o.Name], want)
				}
			}
			var caps uint64
			for _, c := range p.Caps {
				caps |= 1 << c
			}
			for _, want := range []string{
				fmt.Sprintf("UID:%d GID:%d ", p.User, p.User), "NoNewPrivs:true", "Seccomp:true",
				fmt.Sprintf("Capabilities:%d ", caps), "CoreLimit:0 ", "SupplementGID:0",
			} {
				if !strings.Contains(marks, want) {
					t.Errorf("marks %s; want %s", marks, want)
				}
			}
		})
	}
}

// The USB relay may write to the host controllers that are there, which it finds by links, and to nothing else of the machine,
// although it is root.
func TestRelayWritesToControllersOnly(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root: the sandbox changes the user")
	}
	sys := t.TempDir()
	file := func(name string) string {
		name = filepath.Join(sys, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		return name
	}
	files := []string{
		file("devices/pci0/usb1/authorized_default"), file("devices/pci0/usb1/1-1/authorized"), file("devices/pci1/usb2/authorized_default"),
		file("devices/pci0/remove"), file("devices/system/cpu/online"), file("devices/pci1/usb3/authorized_default"),
	}
	links := filepath.Join(sys, "bus/usb/devices")
	if err := os.MkdirAll(links, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"usb1": "pci0/usb1", "usb2": "pci1/usb2", "1-1": "pci0/usb1/1-1"} { // usb3 came later
		if err := os.Symlink(filepath.Join(sys, "devices", to), filepath.Join(links, name)); err != nil {
			t.Fatal(err)
		}
	}
	for profile, want := range map[string]string{USB: "true\ntrue\ntrue\nfalse\nfalse\nfalse\n", "": strings.Repeat("true\n", len(files))} {
		args := files
		if profile != "" {
			args = append([]string{Arg, profile, program}, files...)
		}
		cmd := exec.Command(program, args...)
		cmd.Env = []string{"SANDBOX_SYS=" + sys}
		out, err := cmd.CombinedOutput()
		if err != nil && profile != "" && !hasLandlock() {
			t.Skipf("this kernel has no Landlock: %s", out)
		}
		if err != nil || string(out) != want {
			t.Errorf("in %q: %v\n%s; want\n%s", profile, err, out, want)
		}
	}
}

// A step that fails leaves no service: an unknown profile, a program that is not there.
func TestNoServiceWithoutSandbox(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
	}{
		"unknown profile": {[]string{Arg, "shell", self}, ExitRefused},
		"no program":      {[]string{Arg, PCSCD}, ExitRefused},
	} {
		cmd := exec.Command(self, c.args...)
		cmd.Env = []string{"SANDBOX_PROBE=1"}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != c.code || strings.Contains(string(out), "probe:") {
			t.Errorf("%s: %v\n%s; want exit code %d and no probe", name, err, out, c.code)
		}
	}
}

// judge runs a profile's filter on one call.
func judge(t *testing.T, vm *bpf.VM, arch, nr uint32, arg0, arg2 uint64) uint32 {
	t.Helper()
	data := make([]byte, 64) // the VM loads big endian, the kernel in its own order: write each word as the VM reads it
	binary.BigEndian.PutUint32(data[offNumber:], nr)
	binary.BigEndian.PutUint32(data[offArch:], arch)
	binary.BigEndian.PutUint32(data[offArg0Lo:], uint32(arg0))
	binary.BigEndian.PutUint32(data[offArg0Hi:], uint32(arg0>>32))
	binary.BigEndian.PutUint32(data[offArg2Lo:], uint32(arg2))
	binary.BigEndian.PutUint32(data[offArg2Hi:], uint32(arg2>>32))
	n, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// The filter, call by call and family by family.
func TestFilter(t *testing.T) {
	t.Parallel()
	for _, p := range Profiles {
		vm, err := bpf.NewVM(p.program())
		if err != nil {
			t.Fatal(err)
		}
		for nr := range uint32(512) {
			want := refuse.Val
			switch {
			case slices.Contains(common, uintptr(nr)) || slices.Contains(p.Syscalls, uintptr(nr)):
				want = allow.Val
			case nr == unix.SYS_CLONE3:
				want = absent.Val
			case nr == unix.SYS_CLONE:
				want = allow.Val
			}
			if got := judge(t, vm, unix.AUDIT_ARCH_X86_64, nr, 0, 0); got != want {
				t.Errorf("%s: call %d: %#x; want %#x", p.Name, nr, got, want)
			}
			if got := judge(t, vm, unix.AUDIT_ARCH_I386, nr, 0, 0); got != end.Val {
				t.Errorf("%s: call %d of the 32 bit ABI: %#x; want the end", p.Name, nr, got)
			}
			if got := judge(t, vm, unix.AUDIT_ARCH_X86_64, nr|x32, 0, 0); got != refuse.Val {
				t.Errorf("%s: call %d of the x32 ABI: %#x; want refused", p.Name, nr, got)
			}
		}
		for f := range uint32(64) {
			for protocol := range uint64(64) {
				want := refuse.Val
				if slices.Contains(p.Families, f) || f == unix.AF_NETLINK && slices.Contains(p.Netlink, uint32(protocol)) {
					want = allow.Val
				}
				for _, nr := range []uint32{unix.SYS_SOCKET, unix.SYS_SOCKETPAIR} {
					for _, high := range []uint64{0, 0xFFFFFFFF << 32} { // which the kernel does not look at
						if got := judge(t, vm, unix.AUDIT_ARCH_X86_64, nr, high|uint64(f), high|protocol); got != want {
							t.Errorf("%s: call %d with family %d and protocol %d: %#x; want %#x", p.Name, nr, f, protocol, got, want)
						}
					}
				}
			}
		}
		for bit := range 32 {
			want := allow.Val
			if namespaces>>bit&1 == 1 {
				want = refuse.Val
			}
			if got := judge(t, vm, unix.AUDIT_ARCH_X86_64, unix.SYS_CLONE, 1<<bit, 0); got != want {
				t.Errorf("%s: clone with bit %d: %#x; want %#x", p.Name, bit, got, want)
			}
		}
	}
}

// What no service may call is in no list.
func TestCommonCalls(t *testing.T) {
	t.Parallel()
	never := []uintptr{
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PTRACE, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_BPF, unix.SYS_UNSHARE,
		unix.SYS_SETNS, unix.SYS_SETUID, unix.SYS_SETRESUID, unix.SYS_CAPSET, unix.SYS_CHROOT, unix.SYS_REBOOT, unix.SYS_KEXEC_LOAD,
		unix.SYS_IO_URING_SETUP, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_MKNOD, unix.SYS_MKNODAT,
	}
	for _, p := range Profiles {
		for _, nr := range never {
			if slices.Contains(common, nr) || slices.Contains(p.Syscalls, nr) {
				t.Errorf("%s may call %d", p.Name, nr)
			}
		}
	}
}

// Through netlink a service reaches the part of the kernel that it needs: nobody but network the routes, nobody at all firewall
// and IPsec, and family and protocol cannot be mixed up.
func TestNetlink(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]uint32{
		Kiosk: {unix.NETLINK_KOBJECT_UEVENT}, PCSCD: {unix.NETLINK_KOBJECT_UEVENT}, USB: {unix.NETLINK_KOBJECT_UEVENT}, Network: {unix.NETLINK_ROUTE}, Time: nil,
	} {
		p, err := Find(name)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.Netlink, want) || slices.Contains(p.Families, unix.AF_NETLINK) {
			t.Errorf("%s: protocols %v of netlink, families %v", name, p.Netlink, p.Families)
		}
	}
}

// Each service has a profile, and only the one that sysfs needs is root.
func TestProfiles(t *testing.T) {
	t.Parallel()
	for _, n := range []string{Kiosk, PCSCD, USB, Network, Time} {
		p, err := Find(n)
		if err != nil {
			t.Fatal(err)
		}
		if (p.User == users.Root) != (n == USB) {
			t.Errorf("%s runs as %s", n, p.User)
		}
		if n == Kiosk || n == PCSCD {
			if len(p.Caps) != 0 {
				t.Errorf("%s keeps capabilities %v", n, p.Caps)
			}
		}
	}
	if _, err := Find("shell"); !errors.Is(err, ErrUnknown) {
		t.Errorf("Find(shell) = %v", err)
	}
}
