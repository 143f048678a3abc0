package appliance

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestCopySparse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	content := make([]byte, 9<<20+77)
	copy(content[5<<20-3:], "in the middle")
	copy(content[len(content)-3:], "end")
	if err := os.WriteFile(from, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CopySparse(to, from); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(to)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("the copy is another file (%v)", err)
	}
	fi, err := os.Stat(to)
	if err != nil {
		t.Fatal(err)
	}
	if used := fi.Sys().(*syscall.Stat_t).Blocks * 512; used > 5<<20 {
		t.Errorf("the copy takes %d octets of the disk", used)
	}
	if CopySparse(to, filepath.Join(dir, "none")) == nil {
		t.Error("a file that is not there was copied")
	}
}

func TestTimeServer(t *testing.T) {
	t.Parallel()
	s, err := ServeTime("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := net.Dial("udp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func(mode byte, wait time.Duration) []byte {
		t.Helper()
		q := make([]byte, 48)
		q[0] = 4<<3 | mode
		copy(q[40:], "CLIENTTS")
		if _, err := c.Write(q); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(wait))
		b := make([]byte, 100)
		n, err := c.Read(b)
		if err != nil {
			return nil
		}
		return b[:n]
	}
	for _, offset := range []time.Duration{0, -time.Hour} {
		s.SetOffset(offset)
		b := ask(3, 10*time.Second)
		if len(b) != 48 || b[0] != 4<<3|4 || string(b[24:32]) != "CLIENTTS" {
			t.Fatalf("answer %x", b)
		}
		at := time.Unix(int64(binary.BigEndian.Uint32(b[40:]))-2208988800, 0)
		if d := time.Until(at) - offset; d.Abs() > 10*time.Second {
			t.Errorf("the time is %v beside what it is to be", d)
		}
	}
	if b := ask(4, 50*time.Millisecond); b != nil {
		t.Errorf("a server's packet is answered with %x", b)
	}
	s.Mute(true)
	if b := ask(3, 50*time.Millisecond); b != nil {
		t.Errorf("the mute server says %x", b)
	}
}

// TestUpright: a picture of three by two is turned clockwise on displays; each of its pixels is where a person who turns the
// head finds it, and a touch of it lands there.
func TestUpright(t *testing.T) {
	t.Parallel()
	const w, h = 3, 2
	for rotation, rows := range map[int][]string{
		0:   {"abc", "def"},
		90:  {"da", "eb", "fc"},
		180: {"fed", "cba"},
		270: {"cf", "be", "ad"},
	} {
		display := image.NewRGBA(image.Rect(0, 0, len(rows[0]), len(rows)))
		for y, row := range rows {
			for x := range row {
				display.SetRGBA(x, y, color.RGBA{R: row[x], A: 255})
			}
		}
		got := upright(display, rotation)
		if got.Rect != image.Rect(0, 0, w, h) {
			t.Errorf("%d degrees: a picture of %v", rotation, got.Rect)
			continue
		}
		for i, want := range []byte("abcdef") {
			p := image.Pt(i%w, i/w)
			at := onDisplay(p, display.Rect.Size(), rotation)
			if c := got.RGBAAt(p.X, p.Y); c.R != want || display.RGBAAt(at.X, at.Y) != c {
				t.Errorf("%d degrees: at %v is %c, on the display %c; want %c", rotation, p, c.R, display.RGBAAt(at.X, at.Y).R, want)
			}
		}
	}
}
