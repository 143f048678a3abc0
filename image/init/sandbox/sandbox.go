//go:build linux && amd64

// Package sandbox takes from a process everything that it does not need, and then makes it the service: adv-init starts
// itself anew with [Arg], and that process calls [Enter], which never returns.
//
// What a service keeps is a row of [Profiles]; nothing else in the program decides about it. In the order of doing:
//
//	limits         processes, open files, no core files (RLIMITs); every descriptor but those given is closed on exec
//	Landlock       files and folders that it may read or write; the rest of the file system does not exist for it
//	user           its own uid and gid, no further groups
//	capabilities   all sets empty, the bounding set too, but for those that the row names
//	no_new_privs   no program that it executes can gain anything back
//	seccomp        the system calls of the table; every other one fails with EPERM
//
// A step that the kernel refuses ends the process before the service has run: there is no service without its sandbox.
package sandbox

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"

	"ktradv/image/init/users"
)

// Arg is the first argument that makes adv-init a sandbox helper: adv-init sandbox PROFILE PROGRAM [ARG...].
const Arg = "sandbox"

// Exit codes of a helper whose service never ran.
const (
	ExitRefused = 126 // a step of the sandbox failed
	ExitNoExec  = 127 // the program could not be executed
)

// firstFree is the first descriptor that a service does not get: 0 to 2 are its standard ones, 3 is the socket of socket
// activation.
const firstFree = 4

// Limit is one RLIMIT.
type Limit struct {
	Resource int
	Max      uint64
}

// Profile is what a service keeps.
type Profile struct {
	Name string
	User users.ID
	// Caps are capabilities kept (ambient), by number.
	Caps []uintptr
	// Families are the socket families that it may open, but for netlink, of which it may open these protocols: each is a door
	// of its own into the kernel.
	Families []uint32
	Netlink  []uint32
	// Syscalls are allowed beside the common ones.
	Syscalls []uintptr
	// ReadDirs and WriteDirs are folders with all below them; ReadFiles and WriteFiles single files and device nodes. A name may
	// be a pattern (filepath.Match), and a link stands for what it leads to. What does not exist is left out.
	ReadDirs, WriteDirs, ReadFiles, WriteFiles []string
	Limits                                     []Limit
}

// ErrUnknown is the error for a profile that is not in the table.
var ErrUnknown = errors.New("no such sandbox profile")

// Find returns the profile of a name.
func Find(name string) (Profile, error) {
	i := slices.IndexFunc(Profiles, func(p Profile) bool { return p.Name == name })
	if i < 0 {
		return Profile{}, fmt.Errorf("sandbox %q: %w", name, ErrUnknown)
	}
	return Profiles[i], nil
}

// Enter applies the profile named by args[0] to this process and executes args[1:] in it with the environment env. It
// returns the exit code only when that fails; the reason goes to standard error.
func Enter(args, env []string) int {
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "sandbox: want a profile and a program")
		return ExitRefused
	}
	p, err := Find(args[0])
	if err == nil {
		// Credentials and filters belong to a thread; exec makes this one the whole process.
		runtime.LockOSThread()
		err = p.apply()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		return ExitRefused
	}
	if slices.Contains(env, "LISTEN_FDS=1") {
		env = append(env, "LISTEN_PID="+strconv.Itoa(os.Getpid())) // socket activation wants the process's own number
	}
	err = unix.Exec(args[1], args[1:], env)
	fmt.Fprintf(os.Stderr, "sandbox: execute %s: %v\n", args[1], err)
	return ExitNoExec
}

func (p Profile) apply() error {
	filter, err := p.filter()
	if err != nil {
		return err
	}
	unix.Umask(0o077)
	for _, l := range append([]Limit{{unix.RLIMIT_CORE, 0}}, p.Limits...) {
		if err := unix.Setrlimit(l.Resource, &unix.Rlimit{Cur: l.Max, Max: l.Max}); err != nil {
			return fmt.Errorf("set limit %d: %w", l.Resource, err)
		}
	}
	// The descriptors of adv-init are closed on exec already; a forgotten one is not the service's.
	if err := unix.CloseRange(firstFree, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close descriptors on exec: %w", err)
	}
	if err := p.landlock(); err != nil {
		return err
	}
	if err := p.identity(); err != nil {
		return err
	}
	return filter.load()
}

func (p Profile) landlock() error {
	exist := func(patterns []string) (names []string) {
		for _, p := range patterns {
			found, _ := filepath.Glob(p) // the patterns are of this program
			for _, n := range found {
				if _, err := os.Stat(n); err == nil {
					names = append(names, n)
				}
			}
		}
		return names
	}
	rules := []landlock.Rule{
		landlock.RODirs(exist(p.ReadDirs)...), landlock.RWDirs(exist(p.WriteDirs)...),
		landlock.ROFiles(exist(p.ReadFiles)...), landlock.RWFiles(exist(p.WriteFiles)...),
	}
	if err := landlock.V2.RestrictPaths(rules...); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	return nil
}

// identity changes user and capabilities of this thread.
func (p Profile) identity() error {
	fail := func(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fail("keep capabilities", err)
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if slices.Contains(p.Caps, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: the kernel has fewer
			return fail("drop capability "+strconv.Itoa(int(c)), err)
		}
	}
	id := uintptr(p.User)
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
		return fail("leave groups", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, id, id, id); e != 0 {
		return fail("become group", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, id, id, id); e != 0 {
		return fail("become user", e)
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var set [2]unix.CapUserData
	for _, c := range p.Caps {
		bit := uint32(1) << (c % 32)
		set[c/32].Permitted |= bit
		set[c/32].Effective |= bit
		set[c/32].Inheritable |= bit
	}
	if err := unix.Capset(&hdr, &set[0]); err != nil {
		return fail("set capabilities", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fail("clear ambient capabilities", err)
	}
	for _, c := range p.Caps {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0); err != nil {
			return fail("raise capability "+strconv.Itoa(int(c)), err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fail("no new privileges", err)
	}
	return nil
}
