//go:build linux && amd64

package sandbox

import (
	"golang.org/x/sys/unix"

	"ktradv/image/init/users"
	"ktradv/internal/terminal"
)

// Names of the profiles, which are the names of the services.
const (
	Kiosk   = "kiosk"
	PCSCD   = "pcscd"
	USB     = "usb"
	Network = "network"
	Time    = "time"
)

// Profiles is the table of what each service keeps.
var Profiles = []Profile{
	{
		Name: Kiosk, User: users.Kiosk,
		Families:  []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6},
		Netlink:   []uint32{unix.NETLINK_KOBJECT_UEVENT}, // displays that come and go
		ReadDirs:  []string{"/usr", "/lib", "/lib64", "/etc", "/proc", "/run/net"},
		WriteDirs: []string{"/log", "/dev/dri", "/dev/input"},
		ReadFiles: []string{"/dev/urandom", terminal.FaultPath}, WriteFiles: []string{"/dev/null", "/dev/console"},
		Limits: []Limit{{unix.RLIMIT_NPROC, 256}, {unix.RLIMIT_NOFILE, 512}},
	},
	{
		Name: PCSCD, User: users.PCSCD,
		Families:  []uint32{unix.AF_UNIX},
		Netlink:   []uint32{unix.NETLINK_KOBJECT_UEVENT}, // libudev's messages
		ReadDirs:  []string{"/usr", "/lib", "/lib64", "/etc", "/sys", "/run/udev"},
		WriteDirs: []string{"/run/pcscd", "/dev/bus/usb"},
		ReadFiles: []string{"/dev/urandom"}, WriteFiles: []string{"/dev/null"},
		Limits: []Limit{{unix.RLIMIT_NPROC, 64}, {unix.RLIMIT_NOFILE, 256}},
	},
	{
		Name: USB, User: users.Root, // sysfs and libudev's messages are root's
		Caps:      []uintptr{unix.CAP_CHOWN, unix.CAP_NET_ADMIN},
		Families:  []uint32{unix.AF_UNIX},
		Netlink:   []uint32{unix.NETLINK_KOBJECT_UEVENT},
		ReadDirs:  []string{"/sys", "/etc/adv"},
		WriteDirs: []string{"/sys/bus/usb/devices/usb*", "/run/udev", "/dev/bus/usb", "/dev/input"}, // the host controllers
		ReadFiles: []string{"/init"}, WriteFiles: []string{"/dev/null", "/dev/console"},
		Syscalls: []uintptr{unix.SYS_FCHOWNAT, unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_FCHOWN},
		Limits:   []Limit{{unix.RLIMIT_NPROC, 64}, {unix.RLIMIT_NOFILE, 64}},
	},
	{
		Name: Network, User: users.Net,
		Caps:      []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE}, // DHCP answers come to port 68
		Families:  []uint32{unix.AF_UNIX, unix.AF_INET},
		Netlink:   []uint32{unix.NETLINK_ROUTE},
		ReadDirs:  []string{"/etc/adv", "/sys/class/net", "/sys/devices", "/proc"},
		WriteDirs: []string{"/run/net", "/proc/sys/net"},
		ReadFiles: []string{"/init"}, WriteFiles: []string{"/dev/null", "/dev/console"},
		Limits: []Limit{{unix.RLIMIT_NPROC, 64}, {unix.RLIMIT_NOFILE, 64}},
	},
	{
		Name: Time, User: users.Time,
		Caps:      []uintptr{unix.CAP_SYS_TIME},
		Families:  []uint32{unix.AF_UNIX, unix.AF_INET},
		ReadDirs:  []string{"/etc", "/run/net"},
		ReadFiles: []string{"/init"}, WriteFiles: []string{"/dev/null", "/dev/console"},
		Syscalls: []uintptr{unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX},
		Limits:   []Limit{{unix.RLIMIT_NPROC, 64}, {unix.RLIMIT_NOFILE, 64}},
	},
}

// common are the system calls of every service: what the C library and the Go runtime need, files, sockets and memory.
// What is not here: modules, mounts, namespaces, tracing, other processes' memory, keys, BPF, performance counters,
// io_uring, userfaultfd, clocks, host name, swap, quota, reboot, raw port access.
var common = []uintptr{
	// files
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_OPEN, unix.SYS_OPENAT, unix.SYS_CLOSE, unix.SYS_STAT, unix.SYS_FSTAT, unix.SYS_LSTAT,
	unix.SYS_NEWFSTATAT, unix.SYS_STATX, unix.SYS_STATFS, unix.SYS_FSTATFS, unix.SYS_LSEEK, unix.SYS_PREAD64, unix.SYS_PWRITE64,
	unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_ACCESS, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_PIPE, unix.SYS_PIPE2,
	unix.SYS_DUP, unix.SYS_DUP2, unix.SYS_DUP3, unix.SYS_FCNTL, unix.SYS_FLOCK, unix.SYS_FSYNC, unix.SYS_FDATASYNC,
	unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_GETDENTS64, unix.SYS_GETCWD, unix.SYS_CHDIR, unix.SYS_RENAME, unix.SYS_RENAMEAT,
	unix.SYS_RENAMEAT2, unix.SYS_MKDIR, unix.SYS_MKDIRAT, unix.SYS_RMDIR, unix.SYS_UNLINK, unix.SYS_UNLINKAT, unix.SYS_CHMOD,
	unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_READLINK, unix.SYS_READLINKAT, unix.SYS_UMASK, unix.SYS_IOCTL,
	unix.SYS_INOTIFY_INIT1, unix.SYS_INOTIFY_ADD_WATCH, unix.SYS_INOTIFY_RM_WATCH, unix.SYS_SENDFILE, unix.SYS_UTIMENSAT,
	unix.SYS_CLOSE_RANGE, unix.SYS_COPY_FILE_RANGE, unix.SYS_MEMFD_CREATE,
	// waiting
	unix.SYS_POLL, unix.SYS_PPOLL, unix.SYS_SELECT, unix.SYS_PSELECT6, unix.SYS_EPOLL_CREATE, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL,
	unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD, unix.SYS_EVENTFD2, unix.SYS_SIGNALFD4, unix.SYS_TIMERFD_CREATE,
	unix.SYS_TIMERFD_SETTIME, unix.SYS_TIMERFD_GETTIME, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_FUTEX,
	unix.SYS_RESTART_SYSCALL,
	// memory
	unix.SYS_MMAP, unix.SYS_MPROTECT, unix.SYS_MUNMAP, unix.SYS_BRK, unix.SYS_MREMAP, unix.SYS_MSYNC, unix.SYS_MINCORE, unix.SYS_MADVISE,
	unix.SYS_MLOCK, unix.SYS_MUNLOCK, unix.SYS_MEMBARRIER,
	// sockets (socket and socketpair by family)
	unix.SYS_CONNECT, unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SENDMSG, unix.SYS_RECVMSG,
	unix.SYS_SENDMMSG, unix.SYS_RECVMMSG, unix.SYS_SHUTDOWN, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,
	unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKOPT,
	// the process itself and its children (clone by flags)
	unix.SYS_EXECVE, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_WAIT4, unix.SYS_WAITID, unix.SYS_VFORK, unix.SYS_KILL, unix.SYS_TKILL,
	unix.SYS_TGKILL, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK,
	unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGTIMEDWAIT, unix.SYS_RT_SIGPENDING, unix.SYS_SIGALTSTACK, unix.SYS_GETPID, unix.SYS_GETTID,
	unix.SYS_GETPPID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_GETRESUID, unix.SYS_GETRESGID,
	unix.SYS_GETGROUPS, unix.SYS_GETPGRP, unix.SYS_GETPGID, unix.SYS_GETSID, unix.SYS_SETSID, unix.SYS_SETPGID, unix.SYS_PRCTL,
	unix.SYS_ARCH_PRCTL, unix.SYS_SET_TID_ADDRESS, unix.SYS_SET_ROBUST_LIST, unix.SYS_GET_ROBUST_LIST, unix.SYS_RSEQ,
	unix.SYS_GETRLIMIT, unix.SYS_SETRLIMIT, unix.SYS_PRLIMIT64, unix.SYS_GETRUSAGE, unix.SYS_TIMES, unix.SYS_SCHED_YIELD,
	unix.SYS_SCHED_GETAFFINITY, unix.SYS_SETITIMER, unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE,
	// time, chance, the machine
	unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY, unix.SYS_TIME, unix.SYS_GETRANDOM, unix.SYS_UNAME,
	unix.SYS_SYSINFO, unix.SYS_GETCPU,
}
