package service

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxDatagram bounds a notify message.
const maxDatagram = 4096

// Notification is what a service said through sd_notify.
type Notification struct {
	Ready, Watchdog, Stopping bool
	// Fields are the messages with the prefix X_, of programs of the image itself, in the order sent, prefix cut off.
	Fields []Field
}

// Field is one X_ message.
type Field struct{ Key, Value string }

const maxFields = 32

// ErrNotification marks a datagram that is none of sd_notify's.
var ErrNotification = errors.New("not a notification")

// ParseNotification reads a datagram: lines of KEY=VALUE. Keys that are not known are ignored, as sd_notify wants it.
func ParseNotification(b []byte) (Notification, error) {
	var n Notification
	if len(b) == 0 || len(b) > maxDatagram || bytes.IndexByte(b, 0) >= 0 {
		return Notification{}, ErrNotification
	}
	for l := range bytes.SplitSeq(b, []byte("\n")) {
		if len(l) == 0 {
			continue
		}
		k, v, ok := bytes.Cut(l, []byte("="))
		if !ok || len(k) == 0 {
			return Notification{}, ErrNotification
		}
		switch string(k) {
		case "READY":
			n.Ready = n.Ready || string(v) == "1"
		case "WATCHDOG":
			n.Watchdog = n.Watchdog || string(v) == "1"
		case "STOPPING":
			n.Stopping = n.Stopping || string(v) == "1"
		default:
			if x, ok := bytes.CutPrefix(k, []byte("X_")); ok {
				if len(n.Fields) == maxFields {
					return Notification{}, ErrNotification
				}
				n.Fields = append(n.Fields, Field{string(x), string(v)})
			}
		}
	}
	return n, nil
}

// Listen opens the notify socket of a service, for messages of one uid only, and passes them on until stop is closed.
// accept says whether a process may speak for the service.
func Listen(path string, uid uint32, accept func(pid int) bool) (<-chan Notification, func(), error) {
	_ = os.Remove(path)
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, nil, fmt.Errorf("notify socket: %w", err)
	}
	raw, err := c.SyscallConn()
	if err == nil {
		var serr error
		err = raw.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
		err = errors.Join(err, serr)
	}
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err == nil && int(uid) != os.Getuid() {
		err = os.Chown(path, int(uid), -1)
	}
	if err != nil {
		c.Close()
		return nil, nil, fmt.Errorf("notify socket %s: %w", path, err)
	}
	ch := make(chan Notification, 16)
	go func() {
		defer close(ch)
		buf, oob := make([]byte, maxDatagram+1), make([]byte, 256)
		for {
			n, on, _, _, err := c.ReadMsgUnix(buf, oob)
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				time.Sleep(10 * time.Millisecond) // an error of one datagram, never a busy loop
				continue
			}
			pid, from, ok := credentials(oob[:on])
			if !ok || from != uid || accept != nil && !accept(pid) {
				continue
			}
			if m, err := ParseNotification(buf[:n]); err == nil {
				ch <- m
			}
		}
	}()
	return ch, func() { c.Close() }, nil
}

// credentials finds who sent a datagram; descriptors that came with it are closed.
func credentials(oob []byte) (pid int, uid uint32, ok bool) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, 0, false
	}
	for i := range msgs {
		if fds, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
		}
		if cred, err := unix.ParseUnixCredentials(&msgs[i]); err == nil {
			pid, uid, ok = int(cred.Pid), cred.Uid, true
		}
	}
	return pid, uid, ok
}
