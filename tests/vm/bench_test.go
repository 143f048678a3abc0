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

// TestBench measures the terminal with all its hardening on.
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
	f.add("image.compressed_bytes", size(world.Image.Kernel, world.Image.Initramfs))
	f.add("image.slot_bytes", size(world.Image.UKI))
	for i := range *rounds {
		t.Run(fmt.Sprintf("boot %d", i+1), func(t *testing.T) { f.boot(t) })
		t.Run(fmt.Sprintf("uki %d", i+1), func(t *testing.T) {
			r := boot(t, appliance.Options{UKI: true})
			f.add("boot.uki_power_to_screen_s", f.screen(r))
		})
		t.Run(fmt.Sprintf("idle %d", i+1), func(t *testing.T) { f.idle(t) })
	}
	t.Run("memory", func(t *testing.T) { f.memory(t) })
	out := figures.Set{}
	for _, row := range table {
		v := f[row.name]
		if len(v) == 0 {
			t.Errorf("no figure %s", row.name)
			continue
		}
		slices.Sort(v)
		out.Add(row.name, v[len(v)/2], row.unit, row.goal)
		t.Logf("%s: %v", row.name, v)
	}
	out.Print(os.Stdout)
	if *benchOut != "" {
		if err := merge(*benchOut, out); err != nil {
			t.Fatal(err)
		}
	}
}

// screen waits for the neutral screen and returns the seconds since power on.
func (f samples) screen(r *run) float64 {
	r.t.Helper()
	l, err := sample("neutral")
	r.must(err)
	r.see("neutral screen", patience, func(img *image.RGBA) bool { ok, _ := l.in(img, false); return ok })
	return time.Since(r.Began()).Seconds()
}

// changed waits for another picture and returns when it was there.
func (f samples) changed(r *run, from *image.RGBA) (*image.RGBA, time.Time) {
	r.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		img, err := r.Screen(r.ctx)
		r.must(err)
		if !bytes.Equal(img.Pix, from.Pix) {
			return img, time.Now()
		}
	}
	r.t.Fatal("the picture does not change")
	return nil, time.Time{}
}

// boot measures power on, the first touch, touches and a card.
func (f samples) boot(t *testing.T) {
	r := boot(t, appliance.Options{})
	l, err := sample("neutral")
	r.must(err)
	power := f.screen(r)
	shown, err := r.Screen(r.ctx)
	r.must(err)
	var at [2]image.Point
	for i, label := range []string{"English", "Deutsch"} {
		at[i], err = l.button(label)
		r.must(err)
	}
	r.touchable()
	// The first touch that is answered; earlier ones may fall on a device that nobody has opened yet.
	var touched time.Time
	for end := time.Now().Add(patience); touched.IsZero(); {
		r.must(r.Tap(at[0].X, at[0].Y))
		for again := time.Now().Add(300 * time.Millisecond); time.Now().Before(again) && touched.IsZero(); {
			img, err := r.Screen(r.ctx)
			r.must(err)
			if !bytes.Equal(img.Pix, shown.Pix) {
				shown, touched = img, time.Now()
			}
		}
		if time.Now().After(end) {
			t.Fatal("no touch is answered")
		}
	}
	f.add("boot.power_to_screen_s", power)
	var ms []float64
	for i := range 10 {
		time.Sleep(300 * time.Millisecond)
		if shown, err = r.Screen(r.ctx); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		p := at[(i+1)%2]
		r.must(r.Touch.Tap(point(p)))
		var end time.Time
		shown, end = f.changed(r, shown)
		ms = append(ms, float64(end.Sub(start).Microseconds())/1000)
	}
	slices.Sort(ms)
	f.add("touch_to_pixels_ms", ms[len(ms)/2])
	time.Sleep(time.Second)
	shown, err = r.Screen(r.ctx)
	r.must(err)
	c, err := world.Card(healthy)
	r.must(err)
	start := time.Now()
	r.Reader().Insert(c)
	_, end := f.changed(r, shown)
	f.add("insert_to_pixels_ms", float64(end.Sub(start).Microseconds())/1000)
	r.pad("pin")
	r.remove()
	r.shows("neutral")
	time.Sleep(2 * time.Second) // the next visitor's process is ready
	n := r.off()
	// The time of the kernel's start stands in the log, by the clock that the time server has set.
	for _, e := range n.entries {
		switch e["name"] {
		case "stop.begin":
			zero, err := time.Parse(time.RFC3339Nano, fmt.Sprint(e["start"]))
			r.must(err)
			f.add("boot.kernel_to_touchable_s", touched.Sub(zero).Seconds())
		case "memory.kiosk":
			v, _ := e["values"].(map[string]any)
			b, _ := v["anon_bytes"].(float64)
			f.add("kiosk.anon_bytes", b)
		}
	}
}

// idle counts frames and processor time of a minute in which nothing happens. QEMU traces every flush of the display.
func (f samples) idle(t *testing.T) {
	var trace lockedBuffer
	r := boot(t, appliance.Options{Change: func(c *machine.Config) { c.Stderr = &trace }})
	r.shows("neutral")
	r.touchable()
	time.Sleep(10 * time.Second) // boot is over
	_, err := r.Execute(r.ctx, "trace-event-set-state", map[string]any{"name": "virtio_gpu_cmd_res_flush", "enable": true})
	r.must(err)
	before, from := cpuTime(t, r.PID()), trace.Len()
	const span = 60 * time.Second
	time.Sleep(span)
	used := cpuTime(t, r.PID()) - before
	f.add("idle_frames_per_min", float64(strings.Count(trace.Since(from), "virtio_gpu_cmd_res_flush")))
	f.add("idle_host_cpu_percent", 100*used.Seconds()/span.Seconds())
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

func (l *lockedBuffer) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.b)
}

// Since is what came after so many octets.
func (l *lockedBuffer) Since(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b[n:])
}

// merge writes figures into a file and keeps the others that it holds.
func merge(name string, add figures.Set) error {
	all := map[string]json.RawMessage{}
	b, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for k, v := range add {
		if all[k], err = json.Marshal(v); err != nil {
			return err
		}
	}
	if b, err = json.MarshalIndent(all, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}
