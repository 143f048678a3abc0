package machine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/color"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestArgs(t *testing.T) {
	t.Parallel()
	has := func(a []string, want ...string) bool {
		for i := range a {
			if i+len(want) <= len(a) && slices.Equal(a[i:i+len(want)], want) {
				return true
			}
		}
		return false
	}
	a := Config{Kernel: "k", Initrd: "i", Cmdline: "quiet x", USB: []string{"/s"}, Network: true, Clock: time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)}.args("q", "d", "v")
	for _, want := range [][]string{
		{"-kernel", "k", "-initrd", "i", "-append", "quiet x"}, {"-chardev", "socket,id=cusb0,path=/s"}, {"-no-reboot"}, {"-m", "512"},
		{"-rtc", "base=2020-01-02T03:04:05"}, {"-netdev", "user,id=net,ipv6=off"}, {"-display", "none"}, {"-serial", "none"},
	} {
		if !has(a, want...) {
			t.Errorf("%q is not in %q", want, a)
		}
	}
	a = Config{Disks: []string{"/d"}, Reboot: true, Debug: true, Window: "gtk", Console: "/c", MemoryMB: 192, CPUs: 1}.args("q", "d", "v")
	for _, want := range [][]string{
		{"-drive", "if=pflash,format=raw,unit=1,file=v"}, {"-drive", "if=none,format=raw,id=disk0,file=/d"}, {"-gdb", "chardev:debug"},
		{"-display", "gtk"}, {"-serial", "file:/c"}, {"-m", "192"}, {"-smp", "1"}, {"-nic", "none"},
	} {
		if !has(a, want...) {
			t.Errorf("%q is not in %q", want, a)
		}
	}
	if has(a, "-no-reboot") || has(a, "-kernel") {
		t.Errorf("%q", a)
	}
}

// What the firmware has written is there the next time; a machine without a file for it has never been on.
func TestVariablesAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kept := filepath.Join(dir, "kept")
	if err := os.WriteFile(kept, []byte("written by firmware"), 0o600); err != nil {
		t.Fatal(err)
	}
	if name, err := (Config{Variables: kept}).variables(dir); name != kept || err != nil {
		t.Errorf("%s, %v; want %s", name, err, kept)
	}
	if b, err := os.ReadFile(kept); string(b) != "written by firmware" {
		t.Errorf("%q, %v", b, err)
	}
	if name, err := (Config{Variables: filepath.Join(dir, "new")}).variables(dir); !errors.Is(err, ErrMissing) {
		if fi, serr := os.Stat(name); err != nil || serr != nil || fi.Size() == 0 || fi.Mode().Perm() != 0o600 {
			t.Errorf("a new one: %v, %v", err, serr)
		}
	}
	if name, err := (Config{}).variables(dir); name == kept || err != nil && !errors.Is(err, ErrMissing) {
		t.Errorf("without a file: %s, %v", name, err)
	}
}

func TestPPM(t *testing.T) {
	t.Parallel()
	img, err := parsePPM([]byte("P6\n2 1\n255\n\x01\x02\x03\x04\x05\x06"))
	if err != nil || img.RGBAAt(1, 0) != (color.RGBA{4, 5, 6, 255}) {
		t.Errorf("%v, %v", img, err)
	}
	for _, b := range []string{"", "P6\n2 1\n255\n\x01", "P5\n1 1\n255\n123", "P6\n-1 -1\n255\n123", "P6\n1 1\n65535\n123", "P6\n100000 100000\n255\n"} {
		if _, err := parsePPM([]byte(b)); err == nil {
			t.Errorf("%q is taken", b)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("P6\n2 1\n255\n\x01\x02\x03\x04\x05\x06"))
	f.Add([]byte(`{"return":{}}`))
	f.Add([]byte("$T05thread:p01.02;#1b"))
	f.Add([]byte(`<feature><reg name="rax" bitsize="64"/></feature>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if img, err := parsePPM(b); err == nil && len(img.Pix) > 2*len(b) {
			t.Error("picture larger than the file")
		}
		parseQMP(b)
		p, err := readPacket(bufio.NewReader(bytes.NewReader(b)))
		if err == nil && len(p) > maxPacket+256 {
			t.Error("packet too long")
		}
		stopReply(b)
		includes(b)
		parseRegisters(b, map[string]register{}, 0)
	})
}

// pair connects a monitor with a script: each command gets the lines that the script gives.
func pair(t *testing.T, script func(command string) []string) *Monitor {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	go func() {
		fmt.Fprintln(theirs, `{"QMP":{"version":{}}}`)
		in := bufio.NewScanner(theirs)
		for in.Scan() {
			for _, l := range script(in.Text()) {
				fmt.Fprintln(theirs, l)
			}
		}
	}()
	m, err := newMonitor(ours)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMonitor(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	m := pair(t, func(command string) []string {
		switch command {
		case `{"execute":"qmp_capabilities"}`:
			return []string{`{"return":{}}`}
		case `{"execute":"x","arguments":{"a":1}}`:
			return []string{`{"event":"RESET","data":{"guest":true}}`, `{"return":{"y":2}}`}
		case `{"execute":"bad"}`:
			return []string{`{"error":{"class":"GenericError","desc":"no"}}`}
		}
		return []string{"rubbish"}
	})
	b, err := m.Execute(ctx, "x", map[string]int{"a": 1})
	if err != nil || string(b) != `{"y":2}` {
		t.Errorf("%s, %v", b, err)
	}
	if e, err := m.WaitEvent(ctx, 0, "RESET"); err != nil || string(e.Data) != `{"guest":true}` || m.Events() != 1 {
		t.Errorf("%v, %v", e, err)
	}
	var refused *MonitorError
	if _, err := m.Execute(ctx, "bad", nil); !errors.As(err, &refused) || refused.Text != "no" {
		t.Errorf("%v", err)
	}
	if _, err := m.Execute(ctx, "other", nil); err == nil {
		t.Error("rubbish was taken for an answer")
	}
	if _, err := m.WaitEvent(ctx, 0, "SHUTDOWN"); err == nil {
		t.Error("an event after the end")
	}
	if _, err := m.Execute(ctx, "x", nil); err == nil {
		t.Error("a command after the end")
	}
}

const targetXML = `<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target><xi:include href="core.xml"/></target>`

var coreXML = `<feature name="core">` + strings.Repeat(`<reg name="f" bitsize="80"/>`, 3) + `<reg name="rip" bitsize="64"/><reg name="eflags" bitsize="32"/><reg name="cr3" bitsize="64"/></feature>`

// TestStub speaks with a stub that is a script.
func TestStub(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	path := filepath.Join(t.TempDir(), "debug")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var got []string
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "$T02thread:01;#04")
		in := bufio.NewReader(c)
		for {
			b, err := readPacket(in)
			if err != nil {
				return
			}
			got = append(got, string(b))
			answer := "OK"
			switch p := string(b); {
			case strings.HasPrefix(p, "qSupported"):
				answer = "PacketSize=1000"
			case strings.HasPrefix(p, "qXfer:features:read:target.xml:0"):
				answer = "m" + targetXML[:20]
			case strings.HasPrefix(p, "qXfer:features:read:target.xml"):
				answer = "l" + targetXML[20:]
			case strings.HasPrefix(p, "qXfer:features:read:core.xml"):
				answer = "l" + coreXML
			case p == "p5":
				answer = "001000000000000}\x10" // an escape
			case p == "p3":
				answer = "E01"
			case p == "c":
				answer = "T05thread:p01.02;"
			}
			sum := checksum([]byte(answer))
			fmt.Fprintf(c, "+$%s#%02x", answer, sum)
		}
	}()
	m := &Machine{dir: filepath.Dir(path), ended: make(chan struct{})}
	s, err := m.Debug(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := s.Register("cr3"); err != nil || v != 0x1000 {
		t.Errorf("cr3 %#x, %v", v, err)
	}
	if _, err := s.Register("rip"); !errors.Is(err, ErrStub) {
		t.Errorf("refused register: %v", err)
	}
	if err := errors.Join(s.Break(0x401000, true), s.Continue(ctx), s.SetRegister("rip", 0x401005), s.Break(0x401000, false), s.Close()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"p5", "p3", "Z0,401000,1", "c", "Hgp01.02", "P3=0510400000000000", "z0,401000,1", "D"}, got[4:]); diff != "" {
		t.Error(diff)
	}
	for _, b := range []string{"", "x$OK#9a", "$OK#00", "$O", "$}#7d", "$*#2a"} {
		if p, err := readPacket(bufio.NewReader(strings.NewReader(b))); err == nil {
			t.Errorf("packet %q is taken as %q", b, p)
		}
	}
	if p, err := readPacket(bufio.NewReader(strings.NewReader("$0* #7a"))); err != nil || string(p) != "0000" {
		t.Errorf("run length: %q, %v", p, err)
	}
}

// TestMachine switches a machine on that has nothing to boot, and looks at it from all sides.
func TestMachine(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	dir, err := os.MkdirTemp("", "machine") // sockets need a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	boot := filepath.Join(dir, "boot.img")
	// A boot sector that writes a word to memory and waits.
	sector := append([]byte{0xC7, 0x06, 0x00, 0x05, 0x34, 0x12, 0xFB, 0xF4, 0xEB, 0xFC}, make([]byte, 502)...)
	sector[510], sector[511] = 0x55, 0xAA
	if err := os.WriteFile(boot, append(sector, make([]byte, 1<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Start(ctx, Config{Dir: dir, MemoryMB: 32, CPUs: 1, Kernel: "", Network: true, Debug: true, Display: "VGA", Stderr: io.Discard,
		Disks: []string{boot}, Args: []string{"-blockdev", "null-co,node-name=nothing,read-zeroes=on"}})
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Cut)
	img, err := m.Screen(ctx)
	if err != nil || img.Rect.Empty() {
		t.Fatalf("screen %v, %v", img, err)
	}
	if err := errors.Join(m.SetLink(ctx, false), m.SetLink(ctx, true), m.Plug(ctx, "usb-kbd,bus=xhci.0,id=kbd"), m.Unplug(ctx, "kbd")); err != nil {
		t.Error(err)
	}
	s, err := m.Debug(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Register("cr3"); err != nil {
		t.Error(err)
	}
	// A machine that stands is dumped and stands on; one that goes goes on.
	for _, going := range []bool{false, true} {
		if going {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		dump := filepath.Join(dir, "memory")
		if err := m.Dump(ctx, dump); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(dump); err != nil || fi.Size() != 32<<20 {
			t.Errorf("dump of %v octets, %v", fi.Size(), err)
		}
		if got, err := m.running(ctx); err != nil || got != going {
			t.Errorf("after the dump the machine goes: %v, %v; want %v", got, err, going)
		}
	}
	m.Cut()
	if err := m.Wait(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the cut: %v", err)
	}
	if _, err := m.Screen(ctx); err == nil {
		t.Error("a screen without power")
	}
}
