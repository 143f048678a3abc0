//go:build linux

package boot

import (
	"golang.org/x/sys/unix"

	"ktradv/image/init/users"
)

// mountPoint is one file system of the running terminal beside the root.
type mountPoint struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mounts in the order of mounting.
var mounts = []mountPoint{
	{"proc", "/proc", "proc", quiet, "hidepid=invisible"}, // a service sees its own processes only
	{"sysfs", "/sys", "sysfs", quiet, ""},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0755"},
	{"tmpfs", "/run", "tmpfs", quiet, "mode=0755,size=8m,nr_inodes=4k"},
}

// folder is made at boot.
type folder struct {
	name string
	mode uint32
	uid  users.ID
	gid  users.ID
}

var folders = []folder{
	{"/run/adv", 0o755, users.Root, users.Root},
	{"/run/adv/notify", 0o711, users.Root, users.Root},
	{"/run/pcscd", 0o755, users.PCSCD, users.PCSCD},
	{"/run/udev", 0o755, users.Root, users.Root},
	{"/run/udev/data", 0o755, users.Root, users.Root},
	{"/run/net", 0o755, users.Net, users.Net},
	// Where the kiosk finds its folder of the data partition. The place is there before the partition, so that the kiosk's
	// sandbox can hold on to it and the kiosk need not wait.
	{logPlace, 0o755, users.Root, users.Root},
	{kioskLogs, 0o755, users.Root, users.Root},
	{earlyLogs, 0o755, users.Root, users.Root},
	// Sandboxes hold on to these folders themselves, not to their names. The kernel would make each with its first device,
	// which may come after the service, and take it away with its last; what we have made stays.
	{"/dev/dri", 0o755, users.Root, users.Root},
	{"/dev/input", 0o755, users.Root, users.Root},
	{"/dev/bus", 0o755, users.Root, users.Root},
	{"/dev/bus/usb", 0o755, users.Root, users.Root},
}

// dataFolders are made on the data partition, each after the one that it lies in. Those that only one user may enter hold
// plain files of that user and nothing else.
var dataFolders = []folder{
	{"/data/log", 0o755, users.Root, users.Root},
	{"/data/log/init", 0o700, users.Root, users.Root},
	{kioskData, 0o700, users.Kiosk, users.Kiosk},
	{"/data/init", 0o700, users.Root, users.Root},
}

// setting is one value below /proc/sys.
type setting struct{ name, value string }

// settings of the kernel, as early as /proc is there. A value that this kernel does not have is reported and passed over.
var settings = []setting{
	{"kernel/sysrq", "0"},
	{"kernel/ctrl-alt-del", "0"}, // Ctrl-Alt-Del becomes a signal to us, which we drop
	{"kernel/kptr_restrict", "2"},
	{"kernel/dmesg_restrict", "1"},
	{"kernel/perf_event_paranoid", "3"},
	{"kernel/unprivileged_bpf_disabled", "1"},
	{"kernel/yama/ptrace_scope", "3"},
	{"kernel/kexec_load_disabled", "1"},
	{"kernel/core_pattern", "|/nonexistent"}, // no core files, whoever asks
	{"kernel/printk", "0 4 0 7"},
	{"kernel/unprivileged_userns_clone", "0"},
	{"user/max_user_namespaces", "0"},
	{"vm/unprivileged_userfaultfd", "0"},
	{"vm/swappiness", "0"},
	{"fs/suid_dumpable", "0"},
	{"fs/protected_hardlinks", "1"},
	{"fs/protected_symlinks", "1"},
	{"fs/protected_fifos", "2"},
	{"fs/protected_regular", "2"},
	{"dev/tty/ldisc_autoload", "0"},
	{"net/ipv4/conf/all/accept_redirects", "0"},
	{"net/ipv4/conf/default/accept_redirects", "0"},
	{"net/ipv4/conf/all/send_redirects", "0"},
	{"net/ipv4/conf/all/accept_source_route", "0"},
	{"net/ipv4/icmp_echo_ignore_broadcasts", "1"},
	{"net/ipv4/tcp_syncookies", "1"},
	{"net/ipv6/conf/all/disable_ipv6", "1"}, // the terminal's network is IPv4
	{"net/ipv6/conf/default/disable_ipv6", "1"},
	{"net/core/bpf_jit_harden", "2"},
}

// lastSettings come when nothing more is to be loaded.
var lastSettings = []setting{{"kernel/modules_disabled", "1"}}
