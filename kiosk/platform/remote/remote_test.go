package remote_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"gioui.org/f32"
	"gioui.org/io/event"
	"gioui.org/io/key"
	"gioui.org/io/pointer"
	"gioui.org/unit"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/memory"
	"ktradv/kiosk/platform/remote"
)

// sessionEnv makes the test binary a session process that shows one red
// picture and waits for the end of its display.
const sessionEnv = "KTRADV_TEST_REMOTE_SESSION"

func TestMain(m *testing.M) {
	if os.Getenv(sessionEnv) != "" {
		os.Exit(session())
	}
	os.Exit(m.Run())
}

func session() int {
	c, err := remote.NewClient(os.NewFile(3, "display"), nil)
	if err != nil {
		return 1
	}
	if err := c.Show(platform.Full(picture(c.Size(), red))); err != nil {
		return 2
	}
	for e := range c.Events() {
		if _, ok := e.(platform.Closed); ok {
			return 0
		}
	}
	return 0
}

var (
	red   = color.RGBA{200, 0, 0, 255}
	green = color.RGBA{0, 200, 0, 255}
	black = color.RGBA{0, 0, 0, 255}
	size  = image.Pt(64, 48)
)

func picture(size image.Point, c color.RGBA) *image.RGBA {
	img := image.NewRGBA(image.Rectangle{Max: size})
	fill(img, img.Rect, c)
	return img
}

func fill(img *image.RGBA, r image.Rectangle, c color.RGBA) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			img.SetRGBA(x, y, c)
		}
	}
}

type rig struct {
	t       *testing.T
	ctx     context.Context
	display *memory.Display
	host    *remote.Host
}

func newRig(t *testing.T) *rig {
	t.Helper()
	d, err := memory.New(memory.Config{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	h := remote.NewHost(d, nil)
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		d.Close()
		if err := <-done; err != nil {
			t.Errorf("host ended with %v", err)
		}
		cancel()
	})
	return &rig{t, ctx, d, h}
}

// attach connects a client in this process.
func (r *rig) attach() (*remote.Session, *remote.Client) {
	r.t.Helper()
	s, sock := r.attachRaw()
	c, err := remote.NewClient(sock, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return s, c
}

func (r *rig) attachRaw() (*remote.Session, *os.File) {
	r.t.Helper()
	hs, cs, err := remote.Pair()
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := r.host.Attach(hs)
	if err != nil {
		r.t.Fatal(err)
	}
	return s, cs
}

// shown waits until the display shows the picture.
func (r *rig) shown(want *image.RGBA) {
	r.t.Helper()
	for {
		next := r.display.Updated()
		got := r.display.Image()
		if got.Rect == want.Rect && bytes.Equal(got.Pix, want.Pix) {
			return
		}
		select {
		case <-next:
		case <-r.ctx.Done():
			r.t.Fatalf("display shows %v at (0,0), want %v", got.At(0, 0), want.At(0, 0))
		}
	}
}

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) next(c *remote.Client) event.Event {
	r.t.Helper()
	select {
	case e := <-c.Events():
		return e
	case <-r.ctx.Done():
		r.t.Fatal("no event")
		return nil
	}
}

func (r *rig) ended(s *remote.Session) error {
	r.t.Helper()
	select {
	case <-s.Done():
		return s.Err()
	case <-r.ctx.Done():
		r.t.Fatal("session did not end")
		return nil
	}
}

func TestSwitch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s1, c1 := r.attach()
	s2, c2 := r.attach()
	if c1.Size() != size || c1.Metric() != r.display.Metric() {
		t.Errorf("client has size %v, metric %v", c1.Size(), c1.Metric())
	}
	p1, p2 := picture(size, red), picture(size, green)
	r.check(c1.Show(platform.Full(p1)))
	r.check(c2.Show(platform.Full(p2)))
	r.check(s1.Drawn(r.ctx))
	r.check(s2.Drawn(r.ctx))
	if n := r.display.Frames(); n != 0 {
		t.Errorf("%d frames shown before a session was active", n)
	}

	r.check(r.host.Activate(s1))
	r.shown(p1)
	r.display.Changed()
	r1 := image.Rect(3, 4, 10, 12)
	fill(p1, r1, green)
	r.check(c1.Show(platform.Frame{Img: p1, Damage: []image.Rectangle{r1}}))
	r.shown(p1)
	if d := cmp.Diff([]image.Rectangle{r1}, r.display.Changed()); d != "" {
		t.Errorf("damage: %s", d)
	}

	// A change in the waiting session is not seen, but is there after the switch.
	fill(p2, r1, red)
	r.check(c2.Show(platform.Frame{Img: p2, Damage: []image.Rectangle{r1}}))
	// The next Show waits for the answer to the one before.
	r.check(c2.Show(platform.Frame{Img: p2, Damage: []image.Rectangle{r1}}))
	r.shown(p1)
	r.check(r.host.Activate(s2))
	r.shown(p2)

	// The picture goes with the session.
	c2.Close()
	if err := r.ended(s2); err != nil {
		t.Errorf("session ended with %v", err)
	}
	r.shown(picture(size, black))
	r.check(r.host.Activate(s1))
	r.shown(p1)
	if err := r.host.Activate(s2); !errors.Is(err, platform.ErrClosed) {
		t.Errorf("activate an ended session: %v", err)
	}
	if err := c2.Show(platform.Full(p2)); !errors.Is(err, platform.ErrClosed) {
		t.Errorf("show after the end: %v", err)
	}
}

func TestInputGoesToTheActiveSession(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s1, c1 := r.attach()
	s2, c2 := r.attach()
	r.check(r.host.Activate(s1))
	press := pointer.Event{
		Kind: pointer.Press, Source: pointer.Touch, PointerID: 7, Position: f32.Pt(1.5, 2.25), Scroll: f32.Pt(-3, 4), Time: 5 * time.Second,
		Buttons: pointer.ButtonPrimary | pointer.ButtonTertiary, Modifiers: key.ModShift,
	}
	sent := []event.Event{
		press, key.Event{Name: key.NameDeleteBackward, Modifiers: key.ModCtrl, State: key.Release},
		platform.Text{Text: "ß€"}, pointer.Event{Kind: pointer.Scroll, Source: pointer.Mouse}, platform.Redraw{},
	}
	for _, e := range sent[:4] {
		r.check(r.display.Send(r.ctx, e))
	}
	for _, want := range sent[:4] {
		if d := cmp.Diff(want, r.next(c1)); d != "" {
			t.Error(d)
		}
	}
	// The finger is still down when the other session becomes active.
	r.check(r.host.Activate(s2))
	if d := cmp.Diff(event.Event(pointer.Event{Kind: pointer.Cancel}), r.next(c1)); d != "" {
		t.Error(d)
	}
	r.check(r.display.Send(r.ctx, platform.Text{Text: "zwei"}))
	if d := cmp.Diff(event.Event(platform.Text{Text: "zwei"}), r.next(c2)); d != "" {
		t.Error(d)
	}
	select {
	case e := <-c1.Events():
		t.Errorf("session that is not active got %v", e)
	default:
	}
}

func TestResize(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, c := r.attach()
	r.check(r.host.Activate(s))
	r.check(c.Show(platform.Full(picture(size, red))))
	bigger := image.Pt(100, 80)
	r.check(r.display.Resize(r.ctx, bigger, unit.Metric{PxPerDp: 2, PxPerSp: 3}))
	if e := r.next(c); e != (platform.Resized{}) {
		t.Fatalf("got %v", e)
	}
	if c.Size() != bigger || c.Metric() != (unit.Metric{PxPerDp: 2, PxPerSp: 3}) {
		t.Errorf("size %v, metric %v", c.Size(), c.Metric())
	}
	if err := c.Show(platform.Full(picture(size, red))); !errors.Is(err, platform.ErrSize) {
		t.Errorf("frame of the old size: %v", err)
	}
	// New memory is empty: the first frame is a full one whatever its damage says.
	p := picture(bigger, green)
	r.check(c.Show(platform.Frame{Img: p, Damage: []image.Rectangle{{Max: image.Pt(1, 1)}}}))
	r.shown(p)
}

func TestDisplayEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, c := r.attach()
	r.display.Close()
	if e := r.next(c); e != (platform.Closed{}) {
		t.Errorf("got %v", e)
	}
	if err := r.ended(s); !errors.Is(err, platform.ErrClosed) {
		t.Errorf("session ended with %v", err)
	}
	if _, ok := <-c.Events(); ok {
		t.Error("events after the end")
	}
	hs, _, err := remote.Pair()
	r.check(err)
	if _, err := r.host.Attach(hs); !errors.Is(err, platform.ErrClosed) {
		t.Errorf("attach after the end: %v", err)
	}
}

// maps counts the pictures that this process has mapped.
func maps(t *testing.T) (n int) {
	t.Helper()
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Skip("no /proc/self/maps here")
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.Contains(s.Text(), "memfd:picture") {
			n++
		}
	}
	return n
}

// TestProcess runs sessions as processes: one ends by itself, one is killed.
// Not parallel: it counts the mappings of the whole process.
func TestProcess(t *testing.T) {
	before := maps(t)
	r := newRig(t)
	start := func() (*remote.Session, *exec.Cmd) {
		s, sock := r.attachRaw()
		cmd := exec.CommandContext(r.ctx, os.Args[0])
		cmd.Env = append(os.Environ(), sessionEnv+"=1")
		cmd.ExtraFiles = []*os.File{sock}
		r.check(cmd.Start())
		sock.Close()
		r.check(s.Drawn(r.ctx))
		return s, cmd
	}
	a, cmdA := start()
	b, cmdB := start()
	r.check(r.host.Activate(a))
	r.shown(picture(size, red))
	if n := maps(t) - before; n != 2 {
		t.Errorf("%d pictures mapped, want 2", n)
	}
	r.check(cmdA.Process.Signal(syscall.SIGKILL))
	r.ended(a)
	r.shown(picture(size, black))
	r.check(r.host.Activate(b))
	r.shown(picture(size, red))
	b.Close()
	if err := cmdB.Wait(); err != nil {
		t.Errorf("session process: %v", err)
	}
	cmdA.Wait()
	if n := maps(t) - before; n != 0 {
		t.Errorf("%d pictures still mapped after the sessions", n)
	}
}

// TestHostileSession sends what a session must not send.
func TestHostileSession(t *testing.T) {
	t.Parallel()
	rightsOf := func(t *testing.T, n int) []byte {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		var fds []int
		for range n {
			fds = append(fds, int(f.Fd()))
		}
		return unix.UnixRights(fds...)
	}
	tests := map[string]struct {
		msg    []byte
		rights int
	}{
		"unknown type":         {msg: []byte("?")},
		"short frame":          {msg: []byte("F\x01\x00\x00")},
		"frame of the future":  {msg: []byte("F\x02\x00\x00\x00\x01\x00\x00\x00\x00")},
		"damage outside":       {msg: []byte("F\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x41\x00\x01\x00")},
		"empty damage":         {msg: []byte("F\x01\x00\x00\x00\x01\x00\x00\x00\x01\x05\x00\x00\x00\x05\x00\x01\x00")},
		"too many rectangles":  {msg: append([]byte("F\x01\x00\x00\x00\x01\x00\x00\x00\x41"), bytes.Repeat([]byte("\x00\x00\x00\x00\x01\x00\x01\x00"), 65)...)},
		"too long":             {msg: make([]byte, 100<<10)},
		"a supervisor message": {msg: []byte("R")},
		"a descriptor":         {msg: []byte("L"), rights: 1},
		"three descriptors":    {msg: []byte("L"), rights: 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s, sock := r.attachRaw()
			defer sock.Close()
			r.check(r.host.Activate(s))
			conn, err := net.FileConn(sock)
			r.check(err)
			defer conn.Close()
			var oob []byte
			if tt.rights > 0 {
				oob = rightsOf(t, tt.rights)
			}
			_, _, err = conn.(*net.UnixConn).WriteMsgUnix(tt.msg, oob, nil)
			r.check(err)
			if err := r.ended(s); !errors.Is(err, remote.ErrMessage) {
				t.Errorf("session ended with %v", err)
			}
			// The host goes on.
			s2, c := r.attach()
			r.check(r.host.Activate(s2))
			p := picture(size, green)
			r.check(c.Show(platform.Full(p)))
			r.shown(p)
		})
	}
}

// TestSessionThatDoesNotRead floods a session with input: the host stays
// responsive, keeps a bounded queue and serves the next session.
func TestSessionThatDoesNotRead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, sock := r.attachRaw()
	defer sock.Close()
	r.check(r.host.Activate(s))
	for range 20000 {
		r.check(r.display.Send(r.ctx, platform.Text{Text: "x"}))
	}
	s2, c := r.attach()
	r.check(r.host.Activate(s2))
	p := picture(size, red)
	r.check(c.Show(platform.Full(p)))
	r.shown(p)
}

// TestLoopThatDoesNotTakeInput floods a client whose loop is busy: Show still
// gets its answer, and later input is preceded by a cancel.
func TestLoopThatDoesNotTakeInput(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, c := r.attach()
	r.check(r.host.Activate(s))
	for range 5000 {
		r.check(r.display.Send(r.ctx, pointer.Event{Kind: pointer.Press, Source: pointer.Touch, PointerID: 1}))
	}
	p := picture(size, red)
	for range 5 {
		r.check(c.Show(platform.Full(p)))
	}
	r.shown(p)
	cancelled := false
	for !cancelled {
		select {
		case e := <-c.Events():
			p, ok := e.(pointer.Event)
			cancelled = ok && p.Kind == pointer.Cancel
		case <-r.ctx.Done():
			t.Fatal("no cancel after lost input")
		default:
			r.check(r.display.Send(r.ctx, platform.Redraw{}))
			r.check(r.display.Send(r.ctx, platform.Text{Text: "x"}))
		}
	}
}

// TestSealedMemory proves that a session cannot change the size of the memory
// that the supervisor reads.
func TestSealedMemory(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, sock := r.attachRaw()
	defer sock.Close()
	conn, err := net.FileConn(sock)
	r.check(err)
	defer conn.Close()
	buf, oob := make([]byte, 100), make([]byte, 100)
	_, n, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(buf, oob)
	r.check(err)
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	r.check(err)
	fds, err := unix.ParseUnixRights(&msgs[0])
	r.check(err)
	defer unix.Close(fds[0])
	for _, n := range []int64{0, 1 << 20} {
		if err := unix.Ftruncate(fds[0], n); !errors.Is(err, unix.EPERM) {
			t.Errorf("truncate to %d: %v", n, err)
		}
	}
	s.Close()
}

func TestAlive(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, c := r.attach()
	first := s.Alive()
	c.Alive()
	// Frames follow the sign of life on the same connection.
	r.check(c.Show(platform.Full(picture(size, red))))
	r.check(s.Drawn(r.ctx))
	if !s.Alive().After(first) {
		t.Error("no sign of life")
	}
}

func TestClientNeedsAPacketSocket(t *testing.T) {
	t.Parallel()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fds[1])
	if _, err := remote.NewClient(os.NewFile(uintptr(fds[0]), "stream"), nil); err == nil {
		t.Error("a stream socket was accepted")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.NewClient(null, nil); err == nil {
		t.Error("a file was accepted")
	}
}
