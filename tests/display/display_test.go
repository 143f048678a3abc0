//go:build vm

package display

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gioui.org/cpurender"
	"gioui.org/io/key"
	"gioui.org/io/pointer"
	"gioui.org/layout"

	"ktradv/kiosk/cmd/components-demo/page"
	"ktradv/kiosk/fonts"
	"ktradv/kiosk/loop"
	"ktradv/kiosk/platform/memory"
)

var benchOut = flag.String("bench-out", "", "`file` that gets the figures of TestFigures, merged into what it holds")

// mirror is the same page on the memory platform.
type mirror struct {
	t       *testing.T
	ctx     context.Context
	display *memory.Display
	loop    *loop.Loop
}

func newMirror(t *testing.T, size image.Point, show func(layout.Context)) *mirror {
	t.Helper()
	d, err := memory.New(memory.Config{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	l, err := loop.New(loop.Config{Platform: d, Renderer: cpurender.New(cpurender.Options{}), Layout: show})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	m := &mirror{t, ctx, d, l}
	m.do(nil)
	return m
}

// demoPage is the demo's own page.
func demoPage() func(layout.Context) { return page.New(fonts.Default().Shaper()).Layout }

// do waits until input is drawn.
func (m *mirror) do(err error) {
	m.t.Helper()
	if err == nil {
		err = m.loop.Settle(m.ctx)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// middle is the middle of the element with a label.
func (m *mirror) middle(label string) image.Point {
	m.t.Helper()
	r, err := m.loop.Locate(m.ctx, label)
	if err != nil {
		m.t.Fatal(err)
	}
	return r.Min.Add(r.Max).Div(2)
}

// same waits until the machine's screen is the picture, turned for the panel.
func same(t *testing.T, m *virtual, what string, want *image.RGBA) *image.RGBA {
	t.Helper()
	var got *image.RGBA
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = m.screen(); got.Rect == want.Rect && bytes.Equal(got.Pix, want.Pix) {
			t.Logf("%s: screen shot equals the memory platform's picture", what)
			return got
		}
	}
	save(t, what+"-machine.png", got)
	save(t, what+"-memory.png", want)
	t.Fatalf("%s: the machine shows another picture than the memory platform: %v differs; see out/display", what, difference(got, want))
	return nil
}

func save(t *testing.T, name string, img *image.RGBA) {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "out", "display", strings.ReplaceAll(name, " ", "-")), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// difference is the rectangle in which two pictures differ.
func difference(a, b *image.RGBA) (r image.Rectangle) {
	for y := range a.Rect.Dy() {
		for x := range a.Rect.Dx() {
			if a.RGBAAt(x, y) != b.RGBAAt(x, y) {
				r = r.Union(image.Rect(x, y, x+1, y+1))
			}
		}
	}
	return r
}

// turned turns a picture clockwise by 90 degrees, as it lies on the panel.
func turned(img *image.RGBA) *image.RGBA {
	w, h := img.Rect.Dy(), img.Rect.Dx()
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			out.SetRGBA(x, y, img.RGBAAt(y, w-1-x))
		}
	}
	return out
}

// darkLook is the label of the button for the dark look.
const darkLook = "Dunkel"

// TestDemo runs the demo on two display adapters: one that is told the damage
// and one that flips between two buffers.
func TestDemo(t *testing.T) {
	for name, tt := range map[string]struct{ adapter, flips string }{
		"virtio-vga": {"virtio-vga,xres=1280,yres=800", "false"},
		"bochs":      {"VGA,xres=1280,yres=800", "true"},
	} {
		t.Run(name, func(t *testing.T) {
			mirror := newMirror(t, image.Pt(1280, 800), demoPage())
			m := boot(t, tt.adapter)
			m.command("start -platform drm -mode 1280x800 -trace")
			if g := m.wait(`^demo: display (\S+) flips=(\S+) size=\(1280,800\)$`); g[1] != "Virtual-1" || g[2] != tt.flips {
				t.Errorf("output %s, flips %s; want Virtual-1, %s", g[1], g[2], tt.flips)
			}
			before := same(t, m, name+" start", mirror.display.Image())
			save(t, name+"-before.png", before)
			unprivileged(t, m)

			// Mouse: only the button and the line that counts change.
			next := mirror.middle(page.Next)
			m.click(next)
			m.wait(` presses=1 `)
			mirror.do(mirror.display.Click(mirror.ctx, next))
			after := same(t, m, name+" click", mirror.display.Image())
			if d := difference(before, after); d.Empty() || !d.In(image.Rect(0, 60, 800, 270)) {
				t.Errorf("the click changed %v", d)
			}
			// A button that is not possible does nothing.
			m.click(image.Pt(680, 216))
			m.click(next)
			m.wait(` presses=2 `)
			mirror.do(mirror.display.Click(mirror.ctx, next))

			// Keyboard, as fast as the machine takes it: the German layout on the
			// places of an American keyboard.
			field := image.Pt(640, 324)
			m.click(field)
			m.wait(` typing=true `) // nobody types within the same frame as the touch
			m.keys("shift+g", "r", "bracket_left", "minus", "e", "spc", "shift+y", "bracket_left", "r", "i", "c", "h", "spc",
				"alt_r+q", "alt_r+e", "equal", "e", "x", "backspace", "1", "2", "3")
			m.wait(` text="Grüße Zürich @€é123"`)
			mirror.do(mirror.display.Click(mirror.ctx, field))
			mirror.do(mirror.display.Type(mirror.ctx, "Grüße Zürich @€éx"))
			mirror.do(mirror.display.Key(mirror.ctx, key.NameDeleteBackward, 0))
			mirror.do(mirror.display.Type(mirror.ctx, "123"))
			typed := same(t, m, name+" typed", mirror.display.Image())
			if d := difference(after, typed); !d.In(image.Rect(0, 60, 1280, 370)) {
				t.Errorf("typing changed %v", d)
			}

			// A touch screen is plugged in; two fingers.
			m.command("touchdev")
			surface := image.Pt(800, 500)
			fingers := []image.Point{surface, surface.Add(image.Pt(250, 120))}
			touch := func(slot, id int, p image.Point) { m.command("touch %d %d %d %d", slot, id, p.X, p.Y) }
			touch(0, 100, fingers[0])
			touch(1, 101, fingers[1])
			m.command("sync")
			waitFingers := func(now, most int) { m.wait(" fingers=" + strconv.Itoa(now) + " most=" + strconv.Itoa(most) + " ") }
			waitFingers(2, 2)
			for i, p := range fingers {
				mirror.do(mirror.display.Touch(mirror.ctx, i+1, pointer.Press, p))
			}
			same(t, m, name+" two fingers", mirror.display.Image())
			fingers[1] = fingers[1].Sub(image.Pt(60, 90))
			touch(1, 101, fingers[1])
			m.command("sync")
			mirror.do(mirror.display.Touch(mirror.ctx, 2, pointer.Move, fingers[1]))
			save(t, name+"-fingers.png", same(t, m, name+" dragged", mirror.display.Image()))
			touch(0, -1, fingers[0])
			m.command("sync")
			waitFingers(1, 2)
			touch(1, -1, fingers[1])
			m.command("sync")
			waitFingers(0, 2)
			for i, p := range fingers {
				mirror.do(mirror.display.Touch(mirror.ctx, i+1, pointer.Release, p))
			}
			// One finger on a button presses it.
			touch(0, 102, next)
			m.command("sync")
			touch(0, -1, next)
			m.command("sync")
			m.wait(` presses=3 `)
			mirror.do(mirror.display.Tap(mirror.ctx, next))
			save(t, name+"-after.png", same(t, m, name+" end", mirror.display.Image()))
			m.command("stop")

			// The picture turned on the panel, and the touch screen with it.
			upright := newMirror(t, image.Pt(800, 1280), demoPage())
			m.command("start -platform drm -mode 1280x800 -rotate 90 -trace")
			same(t, m, name+" turned", turned(upright.display.Image()))
			next = upright.middle(page.Next)
			panel := image.Pt(1279-next.Y, next.X)
			touch(0, 103, panel)
			m.command("sync")
			touch(0, -1, panel)
			m.command("sync")
			m.wait(` presses=1 `)
			upright.do(upright.display.Tap(upright.ctx, next))
			same(t, m, name+" turned press", turned(upright.display.Image()))
			m.command("stop")

			// A screen of the product, and another look of it.
			show, err := page.Screen("neutral", image.Pt(1280, 800))
			if err != nil {
				t.Fatal(err)
			}
			product := newMirror(t, image.Pt(1280, 800), show)
			m.command("start -platform drm -mode 1280x800 -screen neutral -trace")
			before = same(t, m, name+" product", product.display.Image())
			look := product.middle(darkLook)
			m.click(look)
			product.do(product.display.Click(product.ctx, look))
			after = same(t, m, name+" product dark", product.display.Image())
			if bytes.Equal(before.Pix, after.Pix) {
				t.Error("the other look is the same")
			}
		})
	}
}

// unprivileged checks that the demo is an ordinary user without capabilities.
func unprivileged(t *testing.T, m *virtual) map[string]string {
	t.Helper()
	s := status(m)
	for k, want := range map[string]string{"Uid": "1000,1000,1000,1000", "Gid": "1000,1000,1000,1000", "CapEff": strings.Repeat("0", 16), "CapPrm": strings.Repeat("0", 16)} {
		if s[k] != want {
			t.Errorf("the demo runs with %s %s, want %s", k, s[k], want)
		}
	}
	return s
}

func status(m *virtual) map[string]string {
	m.t.Helper()
	m.stdin.Write([]byte("status\n"))
	s := make(map[string]string)
	for _, f := range strings.Fields(m.wait(`^status: (.*)$`)[1]) {
		k, v, _ := strings.Cut(f, "=")
		s[k] = v
	}
	m.wait(`^init: status done$`)
	return s
}

var frameLine = regexp.MustCompile(`^demo: frame input=(\S+) layout=(\d+) draw=(\d+) show=(\d+) `)

// TestFigures measures the demo on the emulated machine: frames that answer a
// click, memory after the clicks, frames of a still page. The emulator shares
// the host with whatever else runs there, so of three rounds of clicks the one
// that was disturbed least counts.
func TestFigures(t *testing.T) {
	const rounds, clicks = 3, 150
	m := boot(t, "virtio-vga,xres=1280,yres=800")
	m.command("start -platform drm -mode 1280x800 -trace")
	m.wait(`^demo: frame `)
	mirror := newMirror(t, image.Pt(1280, 800), demoPage())
	next := mirror.middle(page.Next)
	for range 10 { // the caches of the emulator and of the renderer
		m.click(next)
	}
	m.wait(` presses=10 `)
	p99 := math.Inf(1)
	for round := range rounds {
		mark := len(m.log)
		for i := range clicks {
			m.click(next)
			m.wait(` presses=` + strconv.Itoa(11+round*clicks+i) + ` `)
		}
		ms := frameTimes(t, m.log[mark:])
		if len(ms) < clicks {
			t.Fatalf("%d frames answer %d clicks", len(ms), clicks)
		}
		at := func(percent int) float64 { return ms[len(ms)*percent/100] }
		t.Logf("click frames, round %d: p50 %.1f ms, p90 %.1f, p99 %.1f, max %.1f (%d frames)", round+1, at(50), at(90), at(99), ms[len(ms)-1], len(ms))
		p99 = min(p99, at(99))
	}
	rss, err := strconv.ParseFloat(strings.TrimSuffix(status(m)["VmRSS"], ",kB"), 64)
	if err != nil {
		t.Fatal(err)
	}
	idle := 0
	for timeout := time.After(60 * time.Second); timeout != nil; {
		select {
		case l := <-m.lines:
			if frameLine.MatchString(l) {
				idle++
			}
		case <-timeout:
			timeout = nil
		}
	}
	figures := map[string]figure{
		"render.tcg_click_frame_p99_ms": {p99, "ms"},
		"render.rss_bytes":              {rss * 1024, "bytes"},
		"render.idle_frames":            {float64(idle), "frames"},
	}
	t.Logf("resident %.1f MB, idle frames %d", rss*1024/1e6, idle)
	if idle != 0 {
		t.Errorf("%d frames of a still page in 60 s", idle)
	}
	if v := figures["render.rss_bytes"].Value; v > 40e6 {
		t.Errorf("%.0f bytes resident, at most 40e6 wanted", v)
	}
	if *benchOut != "" {
		if err := merge(*benchOut, figures); err != nil {
			t.Fatal(err)
		}
	}
}

// frameTimes returns layout, drawing and showing of the frames that answer
// input, in milliseconds and in order of length.
func frameTimes(t *testing.T, log []string) (ms []float64) {
	t.Helper()
	for _, l := range log {
		g := frameLine.FindStringSubmatch(l)
		if g == nil || g[1] != "true" {
			continue
		}
		var sum float64
		for _, f := range g[2:] {
			us, err := strconv.ParseFloat(f, 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += us / 1000
		}
		ms = append(ms, sum)
	}
	slices.Sort(ms)
	return ms
}

type figure struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// merge writes figures into a file and keeps the others that it holds.
func merge(name string, figures map[string]figure) error {
	all := make(map[string]json.RawMessage)
	b, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for k, v := range figures {
		if all[k], err = json.Marshal(v); err != nil {
			return err
		}
	}
	if b, err = json.MarshalIndent(all, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}
