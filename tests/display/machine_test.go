//go:build vm

package display

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// bootTime is how long an emulated machine may take for anything.
const bootTime = 90 * time.Second

// machine is a running virtual machine.
type machine struct {
	t     *testing.T
	dir   string
	stdin io.Writer
	lines chan string
	log   []string
	qmp   *json.Decoder
	conn  net.Conn
}

// boot starts a machine with a display adapter of QEMU and waits for its init.
func boot(t *testing.T, adapter string) *machine {
	t.Helper()
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal("qemu-system-x86_64 is missing: make deps-display installs it")
	}
	k, err := getKernel()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: t.TempDir(), lines: make(chan string, 4096)}
	sock := filepath.Join(m.dir, "qmp")
	cmd := exec.Command(qemu, "-M", "q35", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "256", "-display", "none", "-vga", "none",
		"-no-reboot", "-nodefaults", "-serial", "stdio", "-qmp", "unix:"+sock+",server=on,wait=off",
		"-kernel", k.image, "-initrd", initramfs(t, k), "-append", "console=ttyS0 quiet loglevel=3 panic=1",
		"-device", adapter, "-device", "virtio-tablet-pci", "-device", "virtio-keyboard-pci")
	cmd.Stderr = os.Stderr
	if m.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("last lines of the machine:\n%s", strings.Join(m.log[max(0, len(m.log)-40):], "\n"))
		}
	})
	go func() {
		defer close(m.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			m.lines <- strings.TrimRight(s.Text(), "\r")
		}
	}()
	m.wait(`^init: ready$`)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if m.conn, err = net.Dial("unix", sock); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { m.conn.Close() })
	m.qmp = json.NewDecoder(m.conn)
	m.monitor("qmp_capabilities", nil)
	return m
}

// wait waits for a line of the machine that matches and returns the groups.
func (m *machine) wait(pattern string) []string {
	m.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(bootTime)
	for {
		select {
		case l, ok := <-m.lines:
			if !ok {
				m.t.Fatalf("the machine ended while waiting for %q", pattern)
			}
			m.log = append(m.log, l)
			if g := re.FindStringSubmatch(l); g != nil {
				return g
			}
			if strings.Contains(l, "init: failed") || strings.Contains(l, "Kernel panic") {
				m.t.Fatal(l)
			}
		case <-timeout:
			m.t.Fatalf("no line %q in %v", pattern, bootTime)
		}
	}
}

// command gives init a command and waits until it is done.
func (m *machine) command(format string, a ...any) {
	m.t.Helper()
	c := fmt.Sprintf(format, a...)
	fmt.Fprintf(m.stdin, "%s\n", c)
	name, _, _ := strings.Cut(c, " ")
	if g := m.wait(`^init: ` + name + `(.*)$`); g[1] != " done" {
		m.t.Fatalf("%s%s", name, g[1])
	}
}

// monitor gives QEMU a command.
func (m *machine) monitor(name string, args any) {
	m.t.Helper()
	b, err := json.Marshal(map[string]any{"execute": name, "arguments": args})
	if args == nil {
		b, err = json.Marshal(map[string]any{"execute": name})
	}
	if err == nil {
		_, err = m.conn.Write(b)
	}
	for err == nil {
		var r struct {
			Return json.RawMessage `json:"return"`
			Error  json.RawMessage `json:"error"`
		}
		if err = m.qmp.Decode(&r); err == nil && r.Error != nil {
			err = errors.New(string(r.Error))
		}
		if r.Return != nil {
			return
		}
	}
	m.t.Fatalf("monitor: %s: %v", name, err)
}

type object = map[string]any

// click moves the pointer of the tablet and presses its button.
func (m *machine) click(p image.Point) {
	m.t.Helper()
	axis := func(name string, v, n int) object {
		// The middle of the pixel, in 0..32767.
		return object{"type": "abs", "data": object{"axis": name, "value": (2*v + 1) * 32767 / (2 * n)}}
	}
	button := func(down bool) object {
		return object{"type": "btn", "data": object{"button": "left", "down": down}}
	}
	m.monitor("input-send-event", object{"events": []object{axis("x", p.X, 1280), axis("y", p.Y, 800)}})
	m.monitor("input-send-event", object{"events": []object{button(true)}})
	m.monitor("input-send-event", object{"events": []object{button(false)}})
}

// keys presses keys at once, without waiting for what they do. Each is a name of QEMU, or
// several held together.
func (m *machine) keys(keys ...string) {
	m.t.Helper()
	event := func(name string, down bool) object {
		return object{"type": "key", "data": object{"down": down, "key": object{"type": "qcode", "data": name}}}
	}
	for _, k := range keys {
		var ev []object
		parts := strings.Split(k, "+")
		for _, p := range parts {
			ev = append(ev, event(p, true))
		}
		for i := len(parts) - 1; i >= 0; i-- {
			ev = append(ev, event(parts[i], false))
		}
		m.monitor("input-send-event", object{"events": ev})
	}
}

// screen takes a screen shot.
func (m *machine) screen() *image.RGBA {
	m.t.Helper()
	name := filepath.Join(m.dir, "screen.ppm")
	m.monitor("screendump", object{"filename": name})
	b, err := os.ReadFile(name)
	if err != nil {
		m.t.Fatal(err)
	}
	img, err := parsePPM(b)
	if err != nil {
		m.t.Fatal(err)
	}
	return img
}

// parsePPM reads a binary PPM of 8 bits per channel.
func parsePPM(b []byte) (*image.RGBA, error) {
	var f [4]string
	for i := range f {
		j := bytes.IndexAny(b, " \n")
		if j < 0 {
			return nil, errors.New("ppm: short header")
		}
		f[i], b = string(b[:j]), b[j+1:]
	}
	w, err1 := strconv.Atoi(f[1])
	h, err2 := strconv.Atoi(f[2])
	if f[0] != "P6" || f[3] != "255" || err1 != nil || err2 != nil || len(b) != 3*w*h {
		return nil, fmt.Errorf("ppm: header %q with %d bytes", f, len(b))
	}
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		copy(img.Pix[4*i:], b[3*i:3*i+3])
		img.Pix[4*i+3] = 0xff
	}
	return img, nil
}
