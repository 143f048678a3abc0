//go:build vm

package display

import (
	"bufio"
	"context"
	"fmt"
	"image"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"ktradv/qemu/machine"
)

// bootTime is how long an emulated machine may take for anything.
const bootTime = 90 * time.Second

// virtual is a running virtual machine.
type virtual struct {
	*machine.Machine
	t     *testing.T
	ctx   context.Context
	stdin io.Writer
	lines chan string
	log   []string
}

// boot starts a machine with a display adapter of QEMU and waits for its init.
func boot(t *testing.T, adapter string) *virtual {
	t.Helper()
	k, err := getKernel()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "display") // sockets need a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	hears, says := io.Pipe()
	out, writes := io.Pipe()
	m := &virtual{t: t, ctx: t.Context(), stdin: says, lines: make(chan string, 4096)}
	go func() {
		defer close(m.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			m.lines <- strings.TrimRight(s.Text(), "\r")
		}
	}()
	m.Machine, err = machine.Start(m.ctx, machine.Config{
		Dir: dir, MemoryMB: 256, Display: adapter, Devices: []string{"virtio-tablet-pci", "virtio-keyboard-pci"},
		Kernel: k.image, Initrd: initramfs(t, k), Cmdline: "console=ttyS0 quiet loglevel=3 panic=1",
		Console: "stdio", Stdin: hears, Stdout: writes,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		says.Close() // or the process is waited for until somebody types
		m.Cut()
		writes.Close()
		if t.Failed() {
			t.Logf("last lines of the machine:\n%s", strings.Join(m.log[max(0, len(m.log)-40):], "\n"))
		}
	})
	m.wait(`^init: ready$`)
	return m
}

// wait waits for a line of the machine that matches and returns the groups.
func (m *virtual) wait(pattern string) []string {
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
func (m *virtual) command(format string, a ...any) {
	m.t.Helper()
	c := fmt.Sprintf(format, a...)
	fmt.Fprintf(m.stdin, "%s\n", c)
	name, _, _ := strings.Cut(c, " ")
	if g := m.wait(`^init: ` + name + `(.*)$`); g[1] != " done" {
		m.t.Fatalf("%s%s", name, g[1])
	}
}

// monitor gives QEMU a command.
func (m *virtual) monitor(name string, args any) {
	m.t.Helper()
	if _, err := m.Execute(m.ctx, name, args); err != nil {
		m.t.Fatal(err)
	}
}

type object = map[string]any

// click moves the pointer of the tablet and presses its button.
func (m *virtual) click(p image.Point) {
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
func (m *virtual) keys(keys ...string) {
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
func (m *virtual) screen() *image.RGBA {
	m.t.Helper()
	img, err := m.Screen(m.ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	return img
}
