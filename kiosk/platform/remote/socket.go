// Package remote carries a display between two processes: the supervisor owns
// the real platform, a session process draws into memory that both share and
// says what changed, input goes the other way.
//
// The two talk over a pair of SOCK_SEQPACKET sockets that the session process
// inherits. The supervisor makes the memory, seals its size and hands it over
// as a descriptor, so a session can neither pull it away under the supervisor
// nor make it larger. It trusts nothing else that comes from a session either:
// messages are bounded and strict, and a session that breaks the protocol is
// cut off. When a session process ends, its picture's memory is gone with it.
package remote

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// errPeerGone means that the other process closed its end.
var errPeerGone = errors.New("remote: the other process is gone")

// Pair makes the two ends of a connection: host for Host.Attach, session for
// the session process (exec.Cmd.ExtraFiles, then NewClient).
func Pair() (host, session *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "display-host"), os.NewFile(uintptr(fds[1]), "display-session"), nil
}

// packetConn takes a socket over.
func packetConn(socket *os.File) (*net.UnixConn, error) {
	defer socket.Close()
	conn, err := net.FileConn(socket)
	if err != nil {
		return nil, fmt.Errorf("remote display: take over the socket: %w", err)
	}
	u, ok := conn.(*net.UnixConn)
	if !ok || conn.LocalAddr().Network() != "unixpacket" {
		conn.Close()
		return nil, fmt.Errorf("remote display: not a packet socket but %s", conn.LocalAddr().Network())
	}
	return u, nil
}

// gone reports whether an error means that the connection has ended.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// send writes one message, with a descriptor if file is not nil.
func send(conn *net.UnixConn, m any, file *os.File) error {
	b := encode(m)
	if b == nil {
		return nil
	}
	var oob []byte
	if file != nil {
		oob = unix.UnixRights(int(file.Fd()))
	}
	if _, _, err := conn.WriteMsgUnix(b, oob, nil); err != nil {
		if gone(err) {
			err = errPeerGone
		}
		return fmt.Errorf("send %T: %w", m, err)
	}
	return nil
}

// receive reads one message and the descriptor that came with it, if any.
// Every other descriptor is closed at once.
func receive(conn *net.UnixConn, buf []byte) (any, *os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4*4))
	n, oobn, flags, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		if gone(err) {
			err = errPeerGone
		}
		return nil, nil, fmt.Errorf("receive: %w", err)
	}
	file, err := rights(oob[:oobn])
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = fmt.Errorf("message too long: %w", ErrMessage)
	}
	if err == nil && n == 0 {
		err = errPeerGone // end of file: there are no empty messages
	}
	var m any
	if err == nil {
		m, err = decode(buf[:n])
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return m, file, nil
}

// rights returns the one descriptor of the control data, nil if there is none.
func rights(oob []byte) (*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("control data: %w: %w", ErrMessage, err)
	}
	var fds []int
	for _, m := range msgs {
		if f, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, f...)
		}
	}
	if len(fds) == 1 {
		unix.CloseOnExec(fds[0])
		return os.NewFile(uintptr(fds[0]), "picture"), nil
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	if len(fds) > 1 {
		return nil, fmt.Errorf("%d descriptors: %w", len(fds), ErrMessage)
	}
	return nil, nil
}

// seals keep the size of a picture's memory as it is.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// newMemory makes n bytes of zeroed, sealed memory.
func newMemory(n int) (*os.File, error) {
	fd, err := unix.MemfdCreate("picture", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make the picture's memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "picture")
	if err = f.Truncate(int64(n)); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("make %d bytes of memory for the picture: %w", n, err)
	}
	return f, nil
}

// checkMemory refuses memory that is too small or whose size may change.
func checkMemory(f *os.File, n int) error {
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("the picture's memory: %w", err)
	}
	s, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || s&seals != seals || fi.Size() != int64(n) {
		return fmt.Errorf("the picture's memory has %d bytes, seals %#x, want %d and %#x: %w", fi.Size(), s, n, seals, ErrMessage)
	}
	return nil
}
