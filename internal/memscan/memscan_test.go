package memscan

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The test binary is its own victim: started with this variable it keeps what it is told to, and waits.
const victimMode = "MEMSCAN_VICTIM"

func TestMain(m *testing.M) {
	if os.Getenv(victimMode) != "" {
		victim()
		return
	}
	os.Exit(m.Run())
}

// kept keeps the victim's secret alive.
var kept []byte

// victim reads hexadecimal octets whose every bit is inverted, so that the pattern never passes through its memory
// unasked, restores them when it is told to keep them, and wipes what it read.
func victim() {
	in := bufio.NewReaderSize(os.Stdin, 16)
	var b [256]byte
	n, err := io.ReadFull(in, b[:1])
	if err != nil || n != 1 {
		return
	}
	size := int(b[0])
	if _, err := io.ReadFull(in, b[:size]); err != nil {
		return
	}
	if os.Getenv(victimMode) == "keep" {
		kept = make([]byte, size)
		for i := range kept {
			kept[i] = ^b[i]
		}
	}
	fmt.Println("ready")
	io.Copy(io.Discard, in)
	if len(kept) > 0 {
		fmt.Println(len(kept))
	}
}

func startVictim(t *testing.T, mode string, pattern []byte) int {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), victimMode+"="+mode)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); c.Wait() })
	inverted := []byte{byte(len(pattern))}
	for _, b := range pattern {
		inverted = append(inverted, ^b)
	}
	if _, err := in.Write(inverted); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("victim: %q, %v", line, err)
	}
	return c.Process.Pid
}

func randomPattern(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestProcess(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"PIN block": 8, "long": 64} {
		pattern, other := randomPattern(t, n), randomPattern(t, n)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clean, err := Process(startVictim(t, "drop", pattern), other, pattern)
			if err != nil {
				t.Fatal(err)
			}
			if len(clean.Hits) != 0 {
				t.Errorf("found in a process that does not hold it: %+v", clean.Hits)
			}
			if clean.Mappings < 5 || clean.Octets < 1<<20 {
				t.Errorf("read %d octets of %d mappings", clean.Octets, clean.Mappings)
			}
			// The negative twin: the same search finds the same pattern in a process that holds it.
			dirty, err := Process(startVictim(t, "keep", pattern), other, pattern)
			if err != nil {
				t.Fatal(err)
			}
			if len(dirty.Hits) == 0 {
				t.Fatal("not found in a process that holds it")
			}
			for _, h := range dirty.Hits {
				if h.Pattern != 1 {
					t.Errorf("hit of pattern %d", h.Pattern)
				}
			}
		})
	}
}

func TestProcessErrors(t *testing.T) {
	t.Parallel()
	if _, err := Process(os.Getpid(), []byte("12345")); !errors.Is(err, ErrPattern) {
		t.Errorf("short pattern: %v", err)
	}
	if _, err := Process(1<<30, []byte("12345678")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no process: %v", err)
	}
}

func TestSearchFindsAcrossPieces(t *testing.T) {
	t.Parallel()
	mem := make([]byte, 3<<20)
	pattern := []byte("26123456FFFF")
	places := []int{0, 100, 1<<20 - 5, 2<<20 - len(pattern), 2 << 20, len(mem) - len(pattern)}
	for _, at := range places {
		copy(mem[at:], pattern)
	}
	var res Result
	res.search(bytes.NewReader(mem), mapping{end: uint64(len(mem)), readable: true, name: "x"}, [][]byte{pattern}, len(pattern)-1)
	var got []int
	for _, h := range res.Hits {
		got = append(got, int(h.Address))
	}
	if diff := cmp.Diff(places, got); diff != "" {
		t.Error(diff)
	}
	if res.Octets != uint64(len(mem)) || res.Mappings != 1 {
		t.Errorf("read %d octets of %d mappings", res.Octets, res.Mappings)
	}
}

// holes is memory with pages that cannot be read.
type holes struct {
	data []byte
	bad  int64
}

func (h holes) ReadAt(b []byte, at int64) (int, error) {
	if at >= h.bad && at < h.bad+4096 {
		return 0, errors.New("input/output error")
	}
	end := int64(len(h.data))
	if at < h.bad {
		end = h.bad
	}
	n := copy(b, h.data[at:end])
	if n < len(b) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

func TestSearchGoesOnBehindAPageItCannotRead(t *testing.T) {
	t.Parallel()
	mem := make([]byte, 5*4096)
	pattern := []byte("26123456FFFF")
	copy(mem[10:], pattern)
	copy(mem[4*4096:], pattern)
	var res Result
	res.search(holes{mem, 4096}, mapping{end: uint64(len(mem)), readable: true}, [][]byte{pattern}, len(pattern)-1)
	if len(res.Hits) != 2 {
		t.Errorf("hits %+v", res.Hits)
	}
}

func TestParseMaps(t *testing.T) {
	t.Parallel()
	got, err := parseMaps(strings.NewReader("00400000-0056c000 r-xp 00000000 fe:01 1234 /opt/a b\n7ffc0000-7ffd0000 ---p 00000000 00:00 0\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []mapping{{0x400000, 0x56c000, true, "/opt/a b"}, {0x7ffc0000, 0x7ffd0000, false, ""}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mapping{})); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"x\n", "12 r--p 0 0 0\n", "zz-01 r--p 0 0 0\n", "2000-1000 r--p 0 0 0\n", "1000-2000 r 0 0 0\n"} {
		if _, err := parseMaps(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func FuzzParseMaps(f *testing.F) {
	f.Add("00400000-0056c000 r-xp 00000000 fe:01 1234 /opt/a b\n")
	f.Fuzz(func(t *testing.T, s string) {
		list, err := parseMaps(strings.NewReader(s))
		if err != nil && list != nil {
			t.Error("half a result")
		}
		for _, m := range list {
			if m.end < m.start {
				t.Errorf("range %x-%x", m.start, m.end)
			}
		}
	})
}
