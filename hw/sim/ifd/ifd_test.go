package ifd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	simreader "ktradv/hw/sim/reader"
)

type card struct{}

func (card) Reset(bool) []byte         { return []byte{0x3B, 0x80} }
func (card) Process(cmd []byte) []byte { return append(bytes.Clone(cmd), 0x90, 0) }

func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ifd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func serve(t *testing.T) (*simreader.Reader, string) {
	t.Helper()
	r, dir := simreader.New(simreader.Config{}), folder(t)
	s, err := Serve(r, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return r, dir
}

// driver is one connection of a driver.
type driver struct {
	t *testing.T
	c net.Conn
}

func dial(t *testing.T, dir string) driver {
	t.Helper()
	c, err := net.Dial("unix", readerSocket(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return driver{t, c}
}

func (d driver) send(op byte, argument uint32, data ...byte) {
	d.t.Helper()
	b := []byte{op}
	b = binary.LittleEndian.AppendUint32(b, argument)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	if _, err := d.c.Write(append(b, data...)); err != nil {
		d.t.Fatal(err)
	}
}

func (d driver) reply() (rc uint32, out []byte) {
	d.t.Helper()
	var head [8]byte
	if _, err := io.ReadFull(d.c, head[:]); err != nil {
		d.t.Fatal(err)
	}
	out = make([]byte, binary.LittleEndian.Uint32(head[4:]))
	if _, err := io.ReadFull(d.c, out); err != nil {
		d.t.Fatal(err)
	}
	return binary.LittleEndian.Uint32(head[:]), out
}

func (d driver) ask(op byte, argument uint32, data ...byte) (uint32, []byte) {
	d.t.Helper()
	d.send(op, argument, data...)
	return d.reply()
}

func (d driver) want(rc uint32, op byte, argument uint32, data ...byte) []byte {
	d.t.Helper()
	got, out := d.ask(op, argument, data...)
	if got != rc {
		d.t.Errorf("operation %d gives %d, want %d", op, got, rc)
	}
	return out
}

const minute = 60000

func TestCalls(t *testing.T) {
	t.Parallel()
	r, dir := serve(t)
	d := dial(t, dir)
	d.want(rcOK, opOpen, 0)
	d.want(rcAbsent, opPresence, 0)
	d.want(rcAbsent, opPower, powerUp)
	r.Insert(card{})
	d.want(rcPresent, opPresence, 0)
	d.want(rcPower, opTransmit, 1, 1, 2, 3, 4)
	if atr := d.want(rcOK, opPower, powerUp); !bytes.Equal(atr, []byte{0x3B, 0x80}) {
		t.Errorf("ATR %X", atr)
	}
	if out := d.want(rcOK, opTransmit, 1, 1, 2, 3, 4); !bytes.Equal(out, []byte{1, 2, 3, 4, 0x90, 0}) {
		t.Errorf("answer %X", out)
	}
	d.want(rcOK, opPower, reset)
	d.want(rcOK, opPower, powerDown)
	d.want(rcNotSupported, opPower, 7)
	d.want(rcNotSupported, opControl, 0x1234)
	d.want(rcNotSupported, 99, 0)
	r.SetFailures(simreader.Failures{Mute: true})
	d.want(rcPower, opPower, powerUp)
	r.Unplug()
	d.want(rcNoDevice, opPresence, 0)
	d.want(rcNoDevice, opPower, powerUp)
	d.want(rcNoDevice, opTransmit, 1, 1, 2, 3, 4)
	d.want(rcNoDevice, opControl, 0x42000D48)
}

// A change between the question for presence and the wait ends the wait at once.
func TestNoEventIsLostBeforeTheWait(t *testing.T) {
	t.Parallel()
	r, dir := serve(t)
	calls, events := dial(t, dir), dial(t, dir)
	events.want(rcOK, opPoll, minute) // the first wait of a connection ends at once: it knows nothing
	calls.want(rcAbsent, opPresence, 0)
	r.Insert(card{})
	events.want(rcOK, opPoll, minute)
	calls.want(rcPresent, opPresence, 0)
	events.send(opPoll, minute)
	r.Remove()
	events.reply()
	calls.want(rcAbsent, opPresence, 0)
}

// A wait whose end was never delivered counts for nothing.
func TestNoEventIsLostWithAConnection(t *testing.T) {
	t.Parallel()
	r, dir := serve(t)
	calls, events := dial(t, dir), dial(t, dir)
	events.want(rcOK, opPoll, minute)
	calls.want(rcAbsent, opPresence, 0)
	events.send(opPoll, minute)
	events.c.Close()
	r.Insert(card{})
	again := dial(t, dir)
	again.want(rcOK, opPoll, minute)
	calls.want(rcPresent, opPresence, 0)
}

// A card that was changed for another is reported as gone once, whoever else asks meanwhile.
func TestSwappedCard(t *testing.T) {
	t.Parallel()
	r, dir := serve(t)
	calls, events := dial(t, dir), dial(t, dir)
	r.Insert(card{})
	events.want(rcOK, opPoll, minute)
	calls.want(rcPresent, opPresence, 0)
	r.Insert(card{})
	calls.want(rcAbsent, opPresence, 0) // not the event loop
	events.want(rcOK, opPoll, minute)
	calls.want(rcAbsent, opPresence, 0) // the event loop
	events.want(rcOK, opPoll, minute)
	calls.want(rcPresent, opPresence, 0)
	calls.want(rcPresent, opPresence, 0)
	// Taken out for good while the swap was on.
	r.Insert(card{})
	calls.want(rcAbsent, opPresence, 0)
	r.Remove()
	calls.want(rcAbsent, opPresence, 0)
	events.want(rcOK, opPoll, minute)
	r.Insert(card{})
	events.want(rcOK, opPoll, minute)
	calls.want(rcPresent, opPresence, 0)
}

func TestTheEndOfAConnectionEndsACallThatHangs(t *testing.T) {
	t.Parallel()
	r, dir := serve(t)
	r.Insert(card{})
	d := dial(t, dir)
	d.want(rcOK, opPower, powerUp)
	r.HangNext()
	d.send(opTransmit, 1, 1, 2, 3, 4)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := r.Wait(ctx, func(s simreader.State) bool { return s.Hung }); err != nil {
		t.Fatal(err)
	}
	d.c.Close()
	if err := r.Wait(ctx, func(s simreader.State) bool { return !s.Hung }); err != nil {
		t.Fatal(err)
	}
}

func TestCloseBreaksConnections(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	s, err := Serve(simreader.New(simreader.Config{}), dir)
	if err != nil {
		t.Fatal(err)
	}
	d := dial(t, dir)
	d.want(rcOK, opOpen, 0)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := d.c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && err == nil {
		t.Errorf("read: %v", err)
	}
	// A socket that is left over does not stand in the way.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: readerSocket(dir), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if s, err = Serve(simreader.New(simreader.Config{}), dir); err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestInstall(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	conf, err := Install(t.Context(), dir)
	if errors.Is(err, ErrNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(conf, "sim"))
	if err != nil || !strings.Contains(string(b), "DEVICENAME sock:"+dir+"/reader.sock\n") {
		t.Errorf("%s, %v", b, err)
	}
	for _, bad := range []string{"relative", "/" + strings.Repeat("long", 30)} {
		if _, err := Install(t.Context(), bad); err == nil {
			t.Errorf("installed in %s", bad)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{3, 1, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4})
	f.Add([]byte{3, 1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := readFrame(bytes.NewReader(b))
		if err == nil && len(fr.data)+9 > len(b) {
			t.Errorf("%d octets of data from %d", len(fr.data), len(b))
		}
	})
}
