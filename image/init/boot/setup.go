//go:build linux

// Package boot is the life of the terminal's first process: what it sets up, in which order it starts the services, and
// how it ends. The parts are in the packages beside it; here is what belongs to the machine as a whole.
//
// Nothing waits for what it does not need, and what a person waits for comes first. The kiosk starts at once and waits for
// the display itself, whose drivers are loaded beside it, then those of the touch screen. When the neutral screen stands, the
// card service, the data partition with everybody's logs, network and time follow. What fails is noted in the state, and the
// boot goes on: an appliance that shows what is wrong is better than a black screen.
package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"ktradv/image/init/data"
	"ktradv/image/init/users"
)

// Kernel is what the set-up needs of the kernel beside files.
type Kernel interface {
	Mount(source, target, fstype string, flags uintptr, data string) error
	Unmount(target string) error
	Chown(name string, uid, gid int) error
	Hostname(name string) error
}

// Setup prepares the machine. Root is put before all paths; "" is the machine's own.
type Setup struct {
	Kernel Kernel
	Root   string
}

func (s Setup) path(name string) string { return filepath.Join(s.Root, name) }

// Mounts mounts the file systems. Errors are collected, not obeyed.
func (s Setup) Mounts() error {
	var errs []error
	for _, m := range mounts {
		if err := os.MkdirAll(s.path(m.target), 0o755); err != nil {
			errs = append(errs, fmt.Errorf("make %s: %w", m.target, err))
			continue
		}
		if err := s.Kernel.Mount(m.source, s.path(m.target), m.fstype, m.flags, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, fmt.Errorf("mount %s: %w", m.target, err))
		}
	}
	return errors.Join(errs...)
}

// folders makes folders. What stands in the place of one and is none, a link above all, is taken away and reported: the
// data partition is the part of a terminal that somebody could have written to, and nothing on it may lead out of it.
func (s Setup) folders(list []folder) error {
	var errs []error
	for _, f := range list {
		name := s.path(f.name)
		if fi, err := os.Lstat(name); err == nil && !fi.IsDir() {
			errs = append(errs, fmt.Errorf("make %s: there was %v, which is no folder", f.name, fi.Mode()), os.Remove(name))
		}
		err := os.MkdirAll(name, 0o700)
		if err == nil {
			err = os.Chmod(name, os.FileMode(f.mode))
		}
		if err == nil {
			err = s.Kernel.Chown(name, int(f.uid), int(f.gid))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("make %s: %w", f.name, err))
		}
	}
	return errors.Join(errs...)
}

// hasFolders tells whether all folders are there.
func (s Setup) hasFolders(list []folder) bool {
	return !slices.ContainsFunc(list, func(f folder) bool {
		fi, err := os.Lstat(s.path(f.name))
		return err != nil || !fi.IsDir() || uint32(fi.Mode().Perm()) != f.mode
	})
}

// clean takes from a folder everything but plain files and folders of the one who writes there: what a service does not
// make itself could keep it waiting (a pipe), lead it elsewhere (a link) or stand in its way (what it may not write to). It is
// for folders of the data partition, before their service runs.
func clean(name string, owner users.ID, depth int) error {
	entries, err := os.ReadDir(name)
	errs := []error{err}
	for _, e := range entries {
		file := filepath.Join(name, e.Name())
		if fi, err := e.Info(); err == nil {
			st, ok := fi.Sys().(*syscall.Stat_t)
			own := ok && st.Uid == uint32(owner)
			if own && fi.Mode().IsRegular() && st.Nlink == 1 {
				continue
			}
			if own && fi.IsDir() && depth < maxDepth {
				errs = append(errs, clean(file, owner, depth+1))
				continue
			}
		}
		errs = append(errs, fmt.Errorf("clean %s: took away what does not belong there (%v)", name, e.Type()), os.RemoveAll(file))
	}
	return errors.Join(errs...)
}

// maxDepth is how deep folders of the data partition may lie in each other.
const maxDepth = 4

// prepareData makes the folders of the data partition and cleans those that belong to one user.
func (s Setup) prepareData() error {
	errs := []error{s.folders(dataFolders)}
	for _, f := range dataFolders {
		if f.mode == 0o700 {
			errs = append(errs, clean(s.path(f.name), f.uid, 0))
		}
	}
	return errors.Join(errs...)
}

// bind shows the kiosk a folder of its own, with the flags of the file system that it is on, at a place that its sandbox knows.
func (s Setup) bind(folder, place string) error {
	// The folder itself, wherever its name may lead a moment later.
	fd, err := unix.Open(s.path(folder), unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = s.Kernel.Mount("/proc/self/fd/"+strconv.Itoa(fd), s.path(place), "", unix.MS_BIND, "")
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("bind %s to %s: %w", folder, place, err)
	}
	return nil
}

// memoryLogs gives the kiosk a folder in memory where there is none of the data partition.
func (s Setup) memoryLogs() error {
	err := data.Memory(s.Kernel, s.path(kioskLogs))
	if err == nil {
		err = s.folders([]folder{{kioskLogs, 0o700, users.Kiosk, users.Kiosk}})
	}
	if err != nil {
		return fmt.Errorf("logs of the kiosk in memory: %w", err)
	}
	return nil
}

// links points the C library and Go to the name servers that the network found. A file that the overlay brings stays.
func (s Setup) links() error {
	name := s.path("/etc/resolv.conf")
	if err := os.Symlink("/run/net/resolv.conf", name); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return nil
}

// set writes settings below /proc/sys.
func (s Setup) set(list []setting) error {
	var errs []error
	for _, v := range list {
		f, err := os.OpenFile(s.path("/proc/sys/"+v.name), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(v.value)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("set %s: %w", v.name, err))
		}
	}
	return errors.Join(errs...)
}

// Linux is the kernel itself.
type Linux struct{}

// Mount implements Kernel.
func (Linux) Mount(source, target, fstype string, flags uintptr, data string) error {
	return unix.Mount(source, target, fstype, flags, data)
}

// Unmount implements Kernel.
func (Linux) Unmount(target string) error { return unix.Unmount(target, 0) }

// Chown implements Kernel.
func (Linux) Chown(name string, uid, gid int) error { return os.Chown(name, uid, gid) }

// Hostname implements Kernel.
func (Linux) Hostname(name string) error { return unix.Sethostname([]byte(name)) }
