// Package pcsclite knows the beginning of pcsc-lite's own protocol: as much as tells whether a pcscd serves its clients.
package pcsclite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// ErrNoAnswer says that nobody serves behind a socket.
var ErrNoAnswer = errors.New("pcscd does not answer")

// Message of pcsc-lite's protocol (winscard_msg.h): header (size of the body, command), then the body, all 32 bit words in
// the byte order of the machine. The version exchange is the first thing that every client does.
const (
	cmdVersion    = 0x11
	versionSize   = 12
	protocolMajor = 4
	protocolMinor = 4
)

// Ping asks the pcscd behind a socket for its version, as every client does first. It says whether the daemon serves
// clients; a driver of a single reader may hang all the same. The error is ErrNoAnswer.
func Ping(ctx context.Context, socket string) error {
	var dial net.Dialer
	c, err := dial.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	var m []byte
	for _, word := range []uint32{versionSize, cmdVersion, protocolMajor, protocolMinor, 0} {
		m = binary.NativeEndian.AppendUint32(m, word)
	}
	if _, err := c.Write(m); err != nil {
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	if _, err := io.ReadFull(c, make([]byte, versionSize)); err != nil {
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	return nil
}
