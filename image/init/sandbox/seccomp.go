//go:build linux && amd64

package sandbox

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data: number, architecture, low and high half of arguments 0 and 2. The kernel looks at the low
// half of a family, a protocol and flags, and so does the filter.
const (
	offNumber = 0
	offArch   = 4
	offArg0Lo = 16
	offArg0Hi = 20
	offArg2Lo = 32
	offArg2Hi = 36
)

// x32 marks numbers of the x32 ABI, a second way to every call.
const x32 = 0x40000000

// namespaces are the flags of clone that make a namespace.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// What becomes of a call.
var (
	allow  = bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}
	refuse = bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)}
	absent = bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}
	end    = bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS}
)

// program is the filter: the calls of the table are allowed, clone if it makes no namespace, socket and socketpair with
// the families of the profile, of netlink with its protocols only; every other call fails with EPERM. clone3 has its flags in memory, where a filter cannot
// look: it does not exist (ENOSYS), and libraries fall back to clone. A call of another architecture ends the process.
func (p Profile) program() []bpf.Instruction {
	prog := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AUDIT_ARCH_X86_64, SkipTrue: 1},
		end,
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: x32, SkipFalse: 1},
		refuse,
	}
	is := func(nr uintptr, then ...bpf.Instruction) {
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(nr), SkipFalse: uint8(len(then))})
		prog = append(prog, then...)
	}
	numbers := slices.Concat(common, p.Syscalls)
	slices.Sort(numbers)
	for _, nr := range slices.Compact(numbers) {
		is(nr, allow)
	}
	is(unix.SYS_CLONE3, absent)
	is(unix.SYS_CLONE,
		bpf.LoadAbsolute{Off: offArg0Lo, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: namespaces, SkipFalse: 1}, refuse,
		allow)
	family := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArg0Lo, Size: 4},
	}
	for _, f := range p.Families {
		family = append(family, bpf.JumpIf{Cond: bpf.JumpEqual, Val: f, SkipFalse: 1}, allow)
	}
	family = append(family, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_NETLINK, SkipTrue: 1}, refuse, bpf.LoadAbsolute{Off: offArg2Lo, Size: 4})
	for _, n := range p.Netlink {
		family = append(family, bpf.JumpIf{Cond: bpf.JumpEqual, Val: n, SkipFalse: 1}, allow)
	}
	family = append(family, refuse)
	is(unix.SYS_SOCKET, family...)
	is(unix.SYS_SOCKETPAIR, family...)
	return append(prog, refuse)
}

func (p Profile) filter() (filter, error) {
	raw, err := bpf.Assemble(p.program())
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	return raw, nil
}

type filter []bpf.RawInstruction

// load puts the filter on this thread. It needs no_new_privs.
func (f filter) load() error {
	prog := make([]unix.SockFilter, len(f))
	for i, in := range f {
		prog[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	_, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(prog)
	if e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	return nil
}
