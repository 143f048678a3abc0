//go:build linux && amd64

// Package probe tries, as a program that somebody has taken over would, what a sandbox must refuse. It is for tests: on the
// developer's machine and, in the place of a service, in the virtual machine. No production program links it.
//
// Every attempt is made in a way that does no harm where it is allowed: with arguments that the kernel refuses for another
// reason than permission. So an attempt is "refused" when the answer is EPERM or EACCES, "absent" for a file that is not
// there, and "allowed" otherwise.
package probe

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Attempt is one thing to try.
type Attempt struct {
	Name string
	Do   func() error
}

func call(nr uintptr, a ...uintptr) func() error {
	return func() error {
		var x [6]uintptr
		copy(x[:], a)
		if _, _, e := unix.Syscall6(nr, x[0], x[1], x[2], x[3], x[4], x[5]); e != 0 {
			return e
		}
		return nil
	}
}

func socket(family, kind, proto int) func() error {
	return func() error {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, proto)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

// errAbsent is the answer for a file that is not there, or that nobody may write to where it is: it says nothing about permission.
var errAbsent = errors.New("not there")

func open(name string, flags int) func() error {
	return func() error {
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0)
		switch {
		case err == nil:
			unix.Close(fd)
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EROFS):
			return errAbsent
		}
		return err
	}
}

const bad = ^uintptr(0)

// Attempts that no service is allowed.
var Forbidden = []Attempt{
	{"mount", func() error { return unix.Mount("none", "/nonexistent", "tmpfs", 0, "") }},
	{"unmount", func() error { return unix.Unmount("/nonexistent", 0) }},
	{"raw IP socket", socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)},
	{"packet socket", socket(unix.AF_PACKET, unix.SOCK_RAW, 0)},
	{"vsock", socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)},
	{"bluetooth socket", socket(unix.AF_BLUETOOTH, unix.SOCK_RAW, 1)},
	{"ptrace", call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, bad>>1)},
	{"other memory", call(unix.SYS_PROCESS_VM_READV, bad>>1)},
	{"load module", call(unix.SYS_INIT_MODULE, 0, 0, 0)},
	{"load module by file", call(unix.SYS_FINIT_MODULE, bad, 0, 0)},
	{"delete module", call(unix.SYS_DELETE_MODULE, 0, 0)},
	{"kexec", call(unix.SYS_KEXEC_LOAD, 0, 0, 0, bad)},
	{"reboot", call(unix.SYS_REBOOT, 0, 0, 0)},
	{"become root", call(unix.SYS_SETRESUID, 0, 0, 0)},
	{"unshare user", call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER)},
	{"clone with namespace", call(unix.SYS_CLONE, unix.CLONE_NEWUSER|unix.CLONE_SIGHAND)}, // SIGHAND without VM: EINVAL where allowed
	{"join namespace", call(unix.SYS_SETNS, bad, 0)},
	{"chroot", func() error { return unix.Chroot("/nonexistent") }},
	{"pivot root", call(unix.SYS_PIVOT_ROOT, 0, 0)},
	{"device node", func() error { return unix.Mknod("/nonexistent/x", unix.S_IFCHR, 0) }},
	{"bpf", call(unix.SYS_BPF, bad, 0, 0)},
	{"perf", call(unix.SYS_PERF_EVENT_OPEN, 0, 0, bad, bad, 0)},
	{"keys", call(unix.SYS_KEYCTL, bad)},
	{"io_uring", call(unix.SYS_IO_URING_SETUP, 0, 0)},
	{"userfaultfd", call(unix.SYS_USERFAULTFD, bad)},
	{"host name", call(unix.SYS_SETHOSTNAME, 0, bad)},
	{"quota", call(unix.SYS_QUOTACTL, bad, 0, 0, 0)},
	{"ports", call(unix.SYS_IOPL, 77)},
	{"x32 call", call(0x40000000 + unix.SYS_GETPID)},
	{"kernel memory", open("/dev/mem", unix.O_RDONLY)},
	{"password file, to write", open("/etc/passwd", unix.O_WRONLY)},
	{"notify sockets", open("/run/adv/notify", unix.O_RDONLY|unix.O_DIRECTORY)},
	{"other devices, to write", open("/sys/devices/system/cpu/uevent", unix.O_WRONLY)},
	{"netlink to the firewall", socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER)},
	{"netlink to IPsec", socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_XFRM)},
	{"netlink to families made at run time", socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_GENERIC)},
	{"logs of init", open("/data/log/init", unix.O_RDONLY|unix.O_DIRECTORY)},
}

// Own are attempts that single services are allowed, by name of the profile.
var Own = []struct {
	Attempt
	Allowed []string
}{
	{Attempt{"set clock", call(unix.SYS_CLOCK_SETTIME, 99, 0)}, []string{"time"}},
	{Attempt{"adjust clock", call(unix.SYS_ADJTIMEX, 0)}, []string{"time"}},
	{Attempt{"internet socket", socket(unix.AF_INET, unix.SOCK_DGRAM, 0)}, []string{"kiosk", "network", "time"}},
	{Attempt{"netlink to uevents", socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT)}, []string{"kiosk", "pcscd", "usb"}},
	{Attempt{"netlink to routes", socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)}, []string{"network"}},
	{Attempt{"unix socket", socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)}, []string{"kiosk", "pcscd", "usb", "network", "time"}},
	{Attempt{"change owner", func() error { return unix.Lchown("/nonexistent", 0, 0) }}, []string{"usb"}},
	{Attempt{"logs of the kiosk", open("/log/kiosk", unix.O_RDONLY|unix.O_DIRECTORY)}, []string{"kiosk"}},
	{Attempt{"USB nodes", open("/dev/bus/usb", unix.O_RDONLY|unix.O_DIRECTORY)}, []string{"pcscd", "usb"}},
	{Attempt{"input nodes", open("/dev/input", unix.O_RDONLY|unix.O_DIRECTORY)}, []string{"kiosk", "usb"}},
}

// Outcomes of an attempt in a report.
const (
	Allowed     = "allowed"
	RefusedWord = "refused"
	Absent      = "absent" // a file that is not there
)

// Refused reports whether an error of an attempt means that it was not permitted.
func Refused(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}

// Marks is what the kernel says about this process.
type Marks struct {
	UID, GID      int
	NoNewPrivs    bool
	Seccomp       bool
	Capabilities  uint64 // permitted, effective, inheritable, bounding and ambient together
	CoreLimit     uint64
	SupplementGID int
}

// Self reads the marks of this process.
func Self() Marks {
	m := Marks{UID: os.Getuid(), GID: os.Getgid()}
	nnp, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	m.NoNewPrivs = nnp == 1
	sec, _ := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	m.Seccomp = sec == 2
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &lim) == nil {
		m.CoreLimit = lim.Max
	}
	groups, _ := os.Getgroups()
	m.SupplementGID = len(groups)
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		if v, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err == nil && v == 1 {
			m.Capabilities |= 1 << c
		}
		if v, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, c, 0, 0); err == nil && v == 1 {
			m.Capabilities |= 1 << c
		}
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var set [2]unix.CapUserData
	// capget is not among the calls of a service; where it is refused the other sets have to do.
	if _, _, e := unix.RawSyscall(unix.SYS_CAPGET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&set[0])), 0); e == 0 {
		for i, s := range set {
			m.Capabilities |= uint64(s.Permitted|s.Effective|s.Inheritable) << (32 * i)
		}
	}
	return m
}

// Report tries everything and prints a line "probe: NAME: OUTCOME" for each, then the marks and "probe: end".
func Report(print func(string)) {
	all := append([]Attempt(nil), Forbidden...)
	for _, o := range Own {
		all = append(all, o.Attempt)
	}
	for _, a := range all {
		outcome := Allowed
		switch err := a.Do(); {
		case Refused(err):
			outcome = RefusedWord
		case errors.Is(err, errAbsent):
			outcome = Absent
		}
		print(fmt.Sprintf("probe: %s: %s", a.Name, outcome))
	}
	print(fmt.Sprintf("probe: marks: %+v", Self()))
	print("probe: end")
}

// Parse reads a report: the outcome of each attempt, and the marks as text.
func Parse(text string) (outcomes map[string]string, marks string) {
	outcomes = make(map[string]string)
	for l := range strings.Lines(text) {
		_, l, ok := strings.Cut(strings.TrimSpace(l), "probe: ")
		if !ok {
			continue
		}
		name, outcome, ok := strings.Cut(l, ": ")
		switch {
		case ok && name == "marks":
			marks = outcome
		case ok:
			outcomes[name] = outcome
		}
	}
	return outcomes, marks
}
