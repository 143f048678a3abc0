package remote_test

import (
	"bytes"
	"image"
	"image/color"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ktradv/internal/req"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/memory"
	"ktradv/kiosk/platform/remote"
)

// memoryOf takes the descriptor of the picture's memory out of the session's end, as a session process does.
func (r *rig) memoryOf(sock *os.File) []byte {
	r.t.Helper()
	conn, err := net.FileConn(sock)
	r.check(err)
	r.t.Cleanup(func() { conn.Close() })
	buf, oob := make([]byte, 100), make([]byte, 100)
	_, n, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(buf, oob)
	r.check(err)
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	r.check(err)
	fds, err := unix.ParseUnixRights(&msgs[0])
	r.check(err)
	defer unix.Close(fds[0])
	mem, err := unix.Mmap(fds[0], 0, size.X*size.Y*4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	r.check(err)
	r.t.Cleanup(func() { unix.Munmap(mem) })
	return mem
}

// TestPictureIsWiped: when a session has ended, the memory of its picture holds nothing of it, for whoever still has it;
// before, it does.
func TestPictureIsWiped(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2409")
	r := newRig(t)
	s, sock := r.attachRaw()
	defer sock.Close()
	mem := r.memoryOf(sock)
	page := bytes.Repeat([]byte{0x4B, 0x56, 0x4E, 0x52}, 16)
	copy(mem[1000:], page)
	if !bytes.Contains(mem, page) {
		t.Fatal("the picture is not where this test looks for it")
	}
	s.Close()
	if bytes.Contains(mem, page) || !bytes.Equal(mem, make([]byte, len(mem))) {
		t.Error("the picture of a session that has ended is still in memory")
	}
}

// forgetful notes what the display is told to forget with.
type forgetful struct {
	*memory.Display
	mu   sync.Mutex
	with []color.RGBA
}

func (f *forgetful) Forget(img *image.RGBA) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.with = append(f.with, img.RGBAAt(5, 5))
	return nil
}

// TestDisplayForgets: whenever another session is shown, or none, the display overwrites what it holds of the one before,
// and not while a session draws.
func TestDisplayForgets(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2409")
	d, err := memory.New(memory.Config{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	f := &forgetful{Display: d}
	host := remote.NewHost(f, nil)
	r := &rig{t: t, ctx: t.Context(), display: d, host: host}
	done := make(chan error, 1)
	go func() { done <- host.Run(t.Context()) }()
	a, ca := r.attach()
	b, cb := r.attach()
	r.check(ca.Show(platform.Full(picture(size, red))))
	r.check(cb.Show(platform.Full(picture(size, green))))
	r.check(a.Drawn(r.ctx))
	r.check(b.Drawn(r.ctx))
	forgot := func(want ...color.RGBA) {
		t.Helper()
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.with) != len(want) {
			t.Fatalf("told to forget %d times, want %d", len(f.with), len(want))
		}
		for i := range want {
			if f.with[i] != want[i] {
				t.Errorf("forgets with %v, want %v", f.with[i], want[i])
			}
		}
	}
	r.check(host.Activate(a))
	forgot(red)
	r.check(ca.Show(platform.Full(picture(size, red))))
	r.check(ca.Show(platform.Full(picture(size, red)))) // the one before was taken
	forgot(red)
	r.check(host.Activate(b))
	forgot(red, green)
	b.Close() // the process died: nothing is shown, and nothing left
	forgot(red, green, black)
	d.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestPing: the supervisor's question reaches the loop of the session, whose answer is a sign of life.
func TestPing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, c := r.attach()
	s.Ping()
	select {
	case e := <-c.Events():
		if e != (platform.Ping{}) {
			t.Fatalf("got %T", e)
		}
	case <-r.ctx.Done():
		t.Fatal("the question does not arrive")
	}
	before := s.Alive()
	c.Alive()
	for !s.Alive().After(before) {
		select {
		case <-r.ctx.Done():
			t.Fatal("the answer does not arrive")
		case <-time.After(time.Millisecond):
		}
	}
}
