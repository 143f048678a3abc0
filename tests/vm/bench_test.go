//go:build vm && bench

package vm

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ktradv/qemu/machine"
	"ktradv/qemu/touch"
	"ktradv/tests/demo/appliance"
	"ktradv/tests/figures"
)

var (
	benchOut = flag.String("bench-out", "", "`file` for the figures, merged into what it holds")
	rounds   = flag.Int("rounds", 5, "how often is measured; the median counts")
)

// samples are the measured values of each figure.
type samples map[string][]float64

func (f samples) add(name string, v float64) { f[name] = append(f[name], v) }

// table is what is measured, and the goals.
var table = []struct{ name, unit, goal string }{
	{"boot.kernel_to_touchable_s", "s", "3"}, {"boot.power_to_screen_s", "s", "5.5"}, {"boot.uki_power_to_screen_s", "s", "9"},
	{"touch_to_pixels_ms", "ms", "100"}, {"insert_to_pixels_ms", "ms", "300"},
	{"image.compressed_bytes", "bytes", "20e6"}, {"image.slot_bytes", "bytes", "24e6"},
	{"kiosk.anon_bytes", "bytes", "60e6"}, {"guest.ram_needed_bytes", "bytes", "201326592"},
	{"idle_frames_per_min", "frames", "0"}, {"idle_host_cpu_percent", "%", ""},
}

// ahead is how far the time server's clock is ahead of this side's: so far that the guest sets its clock and does not slew
// it, which would take minutes.
const ahead = time.Minute

// memory is that of the machine that is measured, in MiB: a third more than it may need.
const memory = 256

// TestBench measures the terminal with all its hardening on.
//
// The machine is watched without being disturbed: a screen shot holds up the emulated processors, so that one is taken only
// when the guest has something shown, which QEMU traces. Power on is the start of the QEMU process. The guest kernel's time
// 0 is known from the guest's own log, read from the data partition when it is off: an entry of its end names the time since
// the kernel's time 0 and the time of day, which the guest has from this side's time server, to a few milliseconds. A touch
// or a card counts as answered when a changed picture has been seen.
//
// The machine has memory MiB. More makes the boot longer, not shorter: the kernel wipes all of it when it starts
// (init_on_free), and every page that an emulator's guest touches for the first time is one that this side has to find.
func TestBench(t *testing.T) {
	f := samples{}
	size := func(names ...string) (n float64) {
		for _, name := range names {
			fi, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			n += float64(fi.Size())
		}
		return n
	}
	world.Time.SetOffset(ahead)
	t.Cleanup(func() { world.Time.SetOffset(0) })
	f.add("image.compressed_bytes", size(world.Image.Kernel, world.Image.Initramfs))
	f.add("image.slot_bytes", size(world.Image.UKI))
	// Firmware that has never been on writes most of its variables, octet by octet, which takes it almost a second. A terminal
	// does that on its first day.
	variables := filepath.Join(t.TempDir(), "variables")
	t.Run("first day", func(t *testing.T) { t.Logf("%v", watch(t, appliance.Options{UKI: true}, variables).neutral()) })
	for i := range *rounds {
		t.Run(fmt.Sprintf("boot %d", i+1), func(t *testing.T) { f.boot(t) })
		t.Run(fmt.Sprintf("uki %d", i+1), func(t *testing.T) {
			f.add("boot.uki_power_to_screen_s", watch(t, appliance.Options{UKI: true}, variables).neutral().Seconds())
		})
	}
	t.Run("memory", func(t *testing.T) { f.memory(t) })
	out := figures.Set{}
	if *benchOut != "" { // the figures of the kiosk that this one is compared with stay
		b, err := os.ReadFile(*benchOut)
		if err == nil {
			err = json.Unmarshal(b, &out)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	for _, row := range table {
		v := f[row.name]
		if len(v) == 0 {
			t.Errorf("no figure %s", row.name)
			continue
		}
		t.Logf("%s: %v", row.name, v)
		slices.Sort(v)
		out.Add(row.name, v[len(v)/2], row.unit, row.goal)
	}
	out.Print(os.Stdout)
	if *benchOut != "" {
		if err := out.Write(*benchOut); err != nil {
			t.Fatal(err)
		}
	}
}

// flush is what QEMU traces whenever the guest has a part of its picture shown.
const flush = "virtio_gpu_cmd_res_flush"

// eye watches a machine.
type eye struct {
	*run
	trace *lockedBuffer
	seen  int // flushes before the last look
}

// watch switches on a machine that is watched, with the firmware's variables of a file.
func watch(t *testing.T, o appliance.Options, variables string) *eye {
	e := &eye{trace: &lockedBuffer{}}
	o.Change = func(c *machine.Config) {
		c.Variables, c.MemoryMB, c.Stderr, c.Args = variables, memory, e.trace, append(c.Args, "-trace", flush)
	}
	e.run = boot(t, o)
	return e
}

// flushes is how often the guest has had something shown.
func (e *eye) flushes() int { return strings.Count(e.trace.Since(0), flush) }

// look waits until the guest shows something that fulfils a condition, and tells when it was seen: the zero time if there
// was nothing.
func (e *eye) look(within time.Duration, ok func(*image.RGBA) bool) time.Time {
	e.t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(time.Millisecond) {
		n := e.flushes()
		if n == e.seen {
			continue
		}
		e.seen = n
		img, err := e.Screen(e.ctx)
		e.must(err)
		if now := time.Now(); ok(img) {
			return now
		}
	}
	return time.Time{}
}

// neutral waits for the neutral screen and returns the time since power on.
func (e *eye) neutral() time.Duration {
	e.t.Helper()
	l, err := sample("neutral")
	e.must(err)
	at := e.look(patience, func(img *image.RGBA) bool { ok, _ := l.in(img, false); return ok })
	if at.IsZero() {
		e.t.Fatal("no neutral screen")
	}
	return at.Sub(e.Began())
}

// changed waits for another picture than one.
func (e *eye) changed(from *image.RGBA, within time.Duration) time.Time {
	e.t.Helper()
	return e.look(within, func(img *image.RGBA) bool { return !bytes.Equal(img.Pix, from.Pix) })
}

// still returns the picture when the guest has shown nothing new for a while.
func (e *eye) still(d time.Duration) *image.RGBA {
	e.t.Helper()
	for since := time.Now(); time.Since(since) < d; time.Sleep(5 * time.Millisecond) {
		if n := e.flushes(); n != e.seen {
			e.seen, since = n, time.Now()
		}
	}
	img, err := e.Screen(e.ctx)
	e.must(err)
	return img
}

// answered does something and returns the milliseconds until the picture changes.
func (e *eye) answered(what string, shown *image.RGBA, do func()) float64 {
	e.t.Helper()
	start := time.Now()
	do()
	at := e.changed(shown, patience)
	if at.IsZero() {
		e.t.Fatalf("%s is not answered", what)
	}
	return float64(at.Sub(start).Microseconds()) / 1000
}

// boot measures power on, the first touch, more touches, a card, a minute in which nothing happens, and the memory at the
// end.
func (f samples) boot(t *testing.T) {
	e := watch(t, appliance.Options{}, "")
	l, err := sample("neutral")
	e.must(err)
	var buttons [2]touch.Point
	for i, label := range []string{"English", "Deutsch"} {
		p, err := l.button(label)
		e.must(err)
		buttons[i] = point(p)
	}
	power := e.neutral()
	f.add("boot.power_to_screen_s", power.Seconds())
	e.touchable()
	shown, err := e.Screen(e.ctx)
	e.must(err)
	// The first touch that is answered; earlier ones may fall on a device that the kiosk has not opened yet.
	var touched time.Time
	for end := time.Now().Add(patience); touched.IsZero() && time.Now().Before(end); {
		e.must(e.Touch.Set(&buttons[0]))
		touched = e.changed(shown, 50*time.Millisecond)
		e.must(e.Touch.Set(nil))
	}
	if touched.IsZero() {
		t.Fatal("no touch is answered")
	}
	var ms []float64
	for i := range 10 {
		shown = e.still(500 * time.Millisecond)
		ms = append(ms, e.answered("a touch", shown, func() { e.must(e.Touch.Set(&buttons[(i+1)%2])) }))
		e.must(e.Touch.Set(nil))
	}
	t.Logf("touches: %v", ms)
	slices.Sort(ms)
	f.add("touch_to_pixels_ms", ms[len(ms)/2])

	e.attentive()
	c, err := world.Card(healthy)
	e.must(err)
	shown = e.still(2 * time.Second)
	f.add("insert_to_pixels_ms", e.answered("a card", shown, func() { e.Reader().Insert(c) }))
	e.pad("pin")
	e.remove()
	e.shows("neutral")

	e.still(10 * time.Second) // the next visitor's process is ready, the card service is a fresh one
	used, frames := cpuTime(t, e.PID()), e.flushes()
	const span = time.Minute
	time.Sleep(span)
	f.add("idle_host_cpu_percent", 100*(cpuTime(t, e.PID())-used).Seconds()/span.Seconds())
	f.add("idle_frames_per_min", float64(e.flushes()-frames))

	for _, entry := range e.off().entries {
		switch entry["name"] {
		case "stop.begin":
			zero, err := time.Parse(time.RFC3339Nano, fmt.Sprint(entry["start"]))
			e.must(err)
			zero = zero.Add(-ahead)
			if since := zero.Sub(e.Began()); since < 0 || since > power {
				t.Errorf("the kernel's time 0 is %v after power on, which is impossible", since)
			}
			f.add("boot.kernel_to_touchable_s", touched.Sub(zero).Seconds())
		case "memory.kiosk":
			v, _ := entry["values"].(map[string]any)
			b, _ := v["anon_bytes"].(float64)
			f.add("kiosk.anon_bytes", b)
		}
	}
}

// cpuTime is the processor time that a process has used.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	var ticks int64
	for _, i := range []int{11, 12} { // utime, stime
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	const perSecond = 100
	return time.Duration(ticks) * time.Second / perSecond
}

// memory finds the smallest memory that passes a visit, in steps of 8 MiB.
func (f samples) memory(t *testing.T) {
	const step = 8
	low, high := 64, 256 // too small, enough
	for high-low > step {
		mib := (low + high) / 2 / step * step
		enough := false
		t.Run(fmt.Sprintf("%d MiB", mib), func(t *testing.T) { enough = serves(t, mib) })
		if enough {
			high = mib
		} else {
			low = mib
		}
	}
	f.add("guest.ram_needed_bytes", float64(high)*(1<<20))
}

// serves tells whether a machine with so much memory passes a visit.
func serves(t *testing.T, mib int) bool {
	r := boot(t, appliance.Options{Change: func(c *machine.Config) { c.MemoryMB = mib }})
	if !r.within(25*time.Second, "neutral") {
		return false
	}
	r.touchable()
	c, err := world.Card(healthy)
	r.must(err)
	r.attentive()
	r.Reader().Insert(c)
	for end := time.Now().Add(20 * time.Second); r.Reader().Awaiting() != "pin"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	r.pin(pin)
	if !r.within(20*time.Second, "menu") {
		return false
	}
	r.tap("menu", showData)
	if !r.within(20*time.Second, "data") {
		return false
	}
	r.tap("data", end)
	if !r.within(20*time.Second, "take_card") {
		return false
	}
	r.remove()
	return r.within(20*time.Second, "neutral")
}

// within tells whether a screen comes in time.
func (r *run) within(d time.Duration, name string) bool {
	l, err := sample(name)
	r.must(err)
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		img, err := r.Screen(r.ctx)
		if errors.Is(err, machine.ErrEnded) {
			return false
		}
		if err == nil {
			if ok, _ := l.in(img, false); ok {
				return true
			}
		}
	}
	return false
}

// point is a pixel as a place on the touch screen.
func point(p image.Point) touch.Point {
	return touch.Point{X: (float64(p.X) + 0.5) / appliance.Width, Y: (float64(p.Y) + 0.5) / appliance.Height}
}

// lockedBuffer takes what a process says while it is read.
type lockedBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	return len(p), nil
}

// Since is what came after so many octets.
func (l *lockedBuffer) Since(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b[n:])
}
