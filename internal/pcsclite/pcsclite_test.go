package pcsclite

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
)

// daemon answers one client with n octets after it has heard what it wanted.
func daemon(t *testing.T, n int) (socket string, heard <-chan string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	ch := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 20)
		io.ReadFull(c, b)
		ch <- hex.EncodeToString(b)
		c.Write(make([]byte, n))
		if n < versionSize {
			io.Copy(io.Discard, c) // silent until the client gives up
		}
	}()
	return socket, ch
}

func TestPing(t *testing.T) {
	t.Parallel()
	socket, heard := daemon(t, versionSize)
	if err := Ping(t.Context(), socket); err != nil {
		t.Fatal(err)
	}
	// Little endian: size 12, command 0x11, version 4:4, no error yet.
	if got, want := <-heard, "0c00000011000000040000000400000000000000"; got != want {
		t.Errorf("asked %s; want %s", got, want)
	}
}

func TestPingOfNobody(t *testing.T) {
	t.Parallel()
	if err := Ping(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("Ping = %v; want %v", err, ErrNoAnswer)
	}
	socket, heard := daemon(t, 3) // hangs in the middle
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-heard; cancel() }()
	if err := Ping(ctx, socket); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("Ping = %v; want %v", err, ErrNoAnswer)
	}
}
