// Package nodes tells when device nodes appear in a folder, or become ours: the kernel makes a node, and init gives it to
// the kiosk a moment later by changing its owner and mode.
package nodes

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Watch returns a file from which struct inotify_event can be read whenever a file of the folder appears or changes its
// owner or mode. Reads wait; Close ends them. The error wraps that of the system call, ENOENT for a folder that is not
// there.
func Watch(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_ATTRIB|unix.IN_MOVED_TO); err != nil {
		f.Close()
		return nil, fmt.Errorf("inotify: %w", err)
	}
	return f, nil
}
