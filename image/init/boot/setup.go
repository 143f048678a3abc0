//go:build linux

// Package boot is the life of the terminal's first process: what it sets up, in which order it starts the services, and
// how it ends. The parts are in the packages beside it; here is what belongs to the machine as a whole.
//
// Nothing waits for what it does not need. The kiosk starts as soon as a display is there and the place of its logs is
// known; card service, USB, network and time start beside it, each when its drivers are loaded. What fails is noted in the
// state, and the boot goes on: an appliance that shows what is wrong is better than a black screen.
package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
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

// Folders makes folders.
func (s Setup) folders(list []folder) error {
	var errs []error
	for _, f := range list {
		name := s.path(f.name)
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
