//go:build linux

package usb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"ktradv/image/init/users"
)

// groups of NETLINK_KOBJECT_UEVENT.
const (
	groupKernel = 1
	groupUdev   = 2
)

// Netlink is the kernel's own side of [Kernel].
type Netlink struct {
	in  *os.File
	out int
}

// OpenNetlink opens the sockets. It must be done before the first scan, so that nothing is missed between.
func OpenNetlink() (*Netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("uevent socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20) // the default works, too: losses are noticed
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groupKernel}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("uevent socket: %w", err)
	}
	out, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("uevent socket: %w", err)
	}
	return &Netlink{os.NewFile(uintptr(fd), "uevent"), out}, nil
}

// Receive waits for a message of the kernel; messages of others are passed over.
func (n *Netlink) Receive(ctx context.Context, within time.Duration) ([]byte, error) {
	var end time.Time
	if within > 0 {
		end = time.Now().Add(within)
	}
	if err := n.in.SetReadDeadline(end); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { n.in.Close() })
	defer stop()
	raw, err := n.in.SyscallConn()
	if err != nil {
		return nil, err
	}
	buf := make([]byte, maxUevent)
	for {
		var m int
		var from unix.Sockaddr
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			m, from, rerr = unix.Recvfrom(int(fd), buf, 0)
			return !errors.Is(rerr, unix.EAGAIN)
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, ErrQuiet
		case err != nil:
			return nil, err
		case errors.Is(rerr, unix.EINTR):
			continue
		case errors.Is(rerr, unix.ENOBUFS):
			return nil, ErrLost
		case rerr != nil:
			return nil, rerr
		}
		if a, ok := from.(*unix.SockaddrNetlink); ok && a.Pid == 0 && a.Groups == groupKernel {
			return buf[:m], nil
		}
	}
}

// Broadcast sends to libudev's group. That nobody listens is no error.
func (n *Netlink) Broadcast(msg []byte) error {
	err := unix.Sendto(n.out, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groupUdev})
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	return err
}

// Chgrp gives a file to a group.
func (n *Netlink) Chgrp(name string, group users.ID) error { return os.Chown(name, -1, int(group)) }
