//go:build vm

package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"image"
	"image/png"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	simreader "ktradv/hw/sim/reader"
	"ktradv/image/disk"
	"ktradv/kiosk/session"
	"ktradv/kiosk/view"
	"ktradv/qemu/ccid"
	"ktradv/tests/demo/appliance"
)

const (
	root = "../.."
	// patience is how long a test waits for a screen: an emulated machine on a busy host is slow. How fast the terminal has
	// to be is measured by the tests of times and by make bench-vm.
	patience = 60 * time.Second
)

// world is what all tests share: the services and the image.
var world *appliance.World

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "vm-") // sockets need a short path
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		var said bytes.Buffer
		world, err = appliance.New(context.Background(), appliance.Config{Root: root, Out: filepath.Join(root, "out", "vm"), Dir: dir, Panel: "127.0.0.1:0", Output: &said})
		if err != nil {
			fmt.Fprintf(os.Stderr, "%v\n%s", err, &said)
			return 1
		}
		defer world.Close()
		code := m.Run()
		if err := writeIndex(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}())
}

// step is one line of a time line.
type step struct {
	MS   float64 `json:"ms"` // since the power switch
	What string  `json:"what"`
	Shot string  `json:"shot,omitempty"`
}

// run is a terminal under test.
type run struct {
	*appliance.Terminal
	t     *testing.T
	ctx   context.Context
	start time.Time
	dir   string
	told  int64 // answers of the time server before power on
	looks bool  // the terminal looks for cards since power on
	// eyes see the screen in place of the display's own picture; nil is that.
	eyes func(context.Context) (*image.RGBA, error)

	mu    sync.Mutex
	steps []step
}

// timelines of all tests, for the page.
var (
	timelines sync.Mutex
	played    []timeline
)

type timeline struct {
	Name   string
	Folder string
	Steps  []step
}

// boot switches a terminal on.
func boot(t *testing.T, o appliance.Options) *run {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	r := &run{t: t, ctx: ctx, start: time.Now(), dir: filepath.Join(root, "out", "vm", strings.ReplaceAll(t.Name(), "/", "-"))}
	if err := errors.Join(os.RemoveAll(r.dir), os.MkdirAll(r.dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.record)
	r.on(o)
	return r
}

// on switches the machine on.
func (r *run) on(o appliance.Options) {
	r.t.Helper()
	r.told, r.looks = world.Time.Told(), false
	t, err := world.Start(r.ctx, o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Terminal = t
	r.t.Cleanup(func() {
		if r.t.Failed() {
			if img, err := t.Screen(context.Background()); err == nil {
				r.shot("the screen at the failure", img)
			}
		}
		t.Close()
	})
	r.note("power on")
}

// record writes the time line.
func (r *run) record() {
	b, err := json.MarshalIndent(r.steps, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(r.dir, "timeline.json"), append(b, '\n'), 0o644)
	}
	if err != nil {
		r.t.Error(err)
	}
	timelines.Lock()
	defer timelines.Unlock()
	played = append(played, timeline{r.t.Name(), filepath.Base(r.dir), r.steps})
}

// note adds a line to the time line.
func (r *run) note(format string, a ...any) { r.add(fmt.Sprintf(format, a...), "") }

func (r *run) add(what, shot string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ms := float64(time.Since(r.start).Microseconds()) / 1000
	r.steps = append(r.steps, step{ms, what, shot})
	r.t.Logf("%9.0f ms  %s", ms, what)
}

// shot adds a line with a picture.
func (r *run) shot(what string, img *image.RGBA) {
	name := fmt.Sprintf("%02d.png", len(r.steps))
	f, err := os.Create(filepath.Join(r.dir, name))
	if err == nil {
		err = (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(f, img)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		r.t.Error(err)
	}
	r.add(what, name)
}

// must ends the test with the screen that is shown.
func (r *run) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// see waits until the screen fulfils a condition and returns it.
func (r *run) see(what string, within time.Duration, ok func(*image.RGBA) bool) *image.RGBA {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, within)
	defer cancel()
	eyes := r.eyes
	if eyes == nil {
		eyes = r.Screen
	}
	for {
		img, err := eyes(r.ctx)
		if err == nil && ok(img) {
			r.shot(what, img)
			return img
		}
		select {
		case <-ctx.Done():
			r.t.Fatalf("%s: not within %v (%v)", what, within, err)
		case <-r.Ended():
			r.t.Fatalf("%s: the machine is off", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// shows waits for a screen of the gallery, recognised by its title.
func (r *run) shows(name string) *image.RGBA {
	r.t.Helper()
	l, err := sample(name)
	r.must(err)
	return r.see("screen "+name, patience, func(img *image.RGBA) bool { ok, _ := l.in(img, false); return ok })
}

// showsView waits for a screen with exactly these texts.
func (r *run) showsView(name string, v view.View) *image.RGBA {
	r.t.Helper()
	l, err := draw(name, v)
	r.must(err)
	missing := ""
	defer func() {
		if r.t.Failed() {
			r.t.Logf("%s: the text %q is missing", name, missing)
		}
	}()
	return r.see("screen "+name, patience, func(img *image.RGBA) (ok bool) { ok, missing = l.in(img, true); return ok })
}

// tap touches the button of a screen of the gallery.
func (r *run) tap(screen, label string) {
	r.t.Helper()
	l, err := sample(screen)
	r.must(err)
	p, err := l.button(label)
	r.must(err)
	r.must(r.Tap(p.X, p.Y))
	r.note("touch: %s", label)
}

// insert puts a persona's card in.
func (r *run) insert(id string) {
	r.t.Helper()
	c, err := world.Card(id)
	r.must(err)
	r.put(c, id)
}

// put puts a card in.
func (r *run) put(c simreader.Card, what string) {
	r.t.Helper()
	r.attentive()
	r.Reader().Insert(c)
	r.note("card in: %s", what)
}

// attentive waits until a card that is put in will be noticed as new. The first screen is there a moment before the card
// service, and a card that the terminal finds in the slot when it begins to look is one that somebody has forgotten.
func (r *run) attentive() {
	r.t.Helper()
	if r.looks {
		return
	}
	r.online()
	for end := time.Now().Add(patience); !r.Ports[0].Polled(ccid.SlotEvents); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatal("no driver asks the reader for cards")
		}
	}
	time.Sleep(time.Second) // the kiosk asks the card service, which cannot be seen from outside
	r.looks = true
}

func (r *run) remove() {
	r.Reader().Remove()
	r.note("card out")
}

// pad waits until the pad asks for something.
func (r *run) pad(what string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	r.must(r.Reader().WaitAwaiting(ctx, what))
}

// online waits until the terminal has asked for the time, and so has a network: it shows its first screen before that, and
// no person is as quick as a test.
func (r *run) online() {
	r.t.Helper()
	for end := time.Now().Add(patience); !world.Time.Muted() && world.Time.Told() == r.told; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatal("the terminal does not ask for the time")
		}
	}
}

// problem waits for a problem that the person is told, recognised by its title and its code.
func (r *run) problem(code string) {
	r.t.Helper()
	v := session.OutOfOrder(code)
	v.Screen, v.CanEnd = view.Problem, true
	l, err := draw("problem "+code, v)
	r.must(err)
	r.see("problem "+code, patience, func(img *image.RGBA) bool {
		ok, _ := l.in(img, false)
		for _, e := range l.texts(true) {
			if strings.Contains(e.Label, code) {
				ok = ok && same(img, l.picture, e.Ink)
			}
		}
		return ok
	})
}

// pin types a PIN when the pad asks for one.
func (r *run) pin(digits string) {
	r.t.Helper()
	r.online()
	r.pad("pin")
	r.must(r.Reader().PressDigits(digits))
	r.must(r.Reader().PressKey(simreader.KeyOK))
	r.note("PIN typed at the pad")
}

// touchable waits until the terminal listens to the touch screen.
func (r *run) touchable() {
	r.t.Helper()
	select {
	case <-r.Touch.Asked():
	case <-time.After(patience):
		r.t.Fatal("nobody listens to the touch screen")
	}
}

const (
	healthy = "healthy-g21"
	pin     = "123456"
	// Buttons.
	showData = "Versichertendaten anzeigen"
	end      = "Sitzung beenden"
)

// visit plays a visit from the neutral screen up to a screen: pin, menu, data or the end (neutral again).
func (r *run) visit(upTo string) {
	r.t.Helper()
	r.insert(healthy)
	r.follow(upTo)
}

// follow goes on with a visit whose card was put in.
func (r *run) follow(upTo string) {
	r.t.Helper()
	r.pad("pin")
	r.shows("pin")
	if upTo == "pin" {
		return
	}
	r.pin(pin)
	r.shows("menu")
	if upTo == "menu" {
		return
	}
	r.tap("menu", showData)
	r.shows("data")
	if upTo == "data" {
		return
	}
	r.tap("data", end)
	r.shows("take_card")
	r.remove()
	r.shows("neutral")
}

// off presses the power button and waits until the machine is off. It returns what the terminal has noted.
func (r *run) off() noted {
	r.t.Helper()
	r.must(r.PowerButton(r.ctx))
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	r.must(r.Wait(ctx))
	r.note("off")
	if r.Disk == "none" {
		return noted{}
	}
	r.clean()
	return r.noted()
}

// noted are the entries of a terminal's logs.
type noted struct {
	entries []map[string]any
	files   map[string]fs.FileInfo
	raw     []byte
}

// noted reads the logs from the data partition; the machine must be off.
func (r *run) noted() noted {
	r.t.Helper()
	dir := r.t.TempDir()
	// debugfs of e2fsprogs reads the partition without mounting it.
	cmd := exec.Command("debugfs", "-R", "rdump /log "+dir, fmt.Sprintf("%s?offset=%d", r.Disk, disk.Start(disk.Data)))
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("read the data partition: %v\n%s", err, out)
	}
	n := noted{files: map[string]fs.FileInfo{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		n.files[filepath.ToSlash(rel)] = fi
		if err != nil || !fi.Mode().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		n.raw = append(n.raw, b...)
		for line := range bytes.Lines(b) {
			var e map[string]any
			if err := json.Unmarshal(line, &e); err != nil {
				return fmt.Errorf("%s: %q: %w", rel, line, err)
			}
			e["file"] = rel
			n.entries = append(n.entries, e)
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// has tells whether there is an entry with these values.
func (n noted) has(want map[string]string) bool {
	return slices.ContainsFunc(n.entries, func(e map[string]any) bool {
		for k, v := range want {
			if fmt.Sprint(e[k]) != v {
				return false
			}
		}
		return true
	})
}

// codes are the codes of all entries, each once.
func (n noted) codes() (out []string) {
	for _, e := range n.entries {
		if c, ok := e["code"].(string); ok && c != "" && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// superblock reads the superblock of the data partition's ext4.
func (r *run) superblock() []byte {
	r.t.Helper()
	f, err := os.Open(r.Disk)
	r.must(err)
	defer f.Close()
	b := make([]byte, 1024)
	_, err = f.ReadAt(b, disk.Start(disk.Data)+1024)
	r.must(err)
	return b
}

// clean checks that the data partition was left in order: unmounted, with nothing in its journal.
func (r *run) clean() {
	r.t.Helper()
	const (
		state, incompatible = 0x3A, 0x60
		valid, recover      = 1, 4
	)
	b := r.superblock()
	if s, f := binary.LittleEndian.Uint16(b[state:]), binary.LittleEndian.Uint32(b[incompatible:]); s != valid || f&recover != 0 {
		r.t.Errorf("the data partition was not left in order: state %d, features %#x", s, f)
	}
}

var page = template.Must(template.New("").Parse(`<!doctype html><meta charset="utf-8"><title>KTR-AdV terminal in a virtual machine</title>
<style>body{font:16px sans-serif;margin:2em}figure{display:inline-block;margin:.5em;vertical-align:top;width:20em}img{width:100%;border:1px solid #888}li{margin:.2em 0}</style>
<h1>The terminal in a virtual machine</h1>{{range .}}{{$f := .Folder}}<h2>{{.Name}}</h2><ol>{{range .Steps}}<li>{{printf "%.2f" .Seconds}} s {{.What}}</li>{{end}}</ol>
{{range .Steps}}{{if .Shot}}<figure><img loading="lazy" src="{{$f}}/{{.Shot}}" alt="{{.What}}"><figcaption>{{printf "%.2f" .Seconds}} s {{.What}}</figcaption></figure>{{end}}{{end}}{{end}}
`))

// Seconds since the power switch.
func (s step) Seconds() float64 { return s.MS / 1000 }

func writeIndex() error {
	f, err := os.Create(filepath.Join(root, "out", "vm", "index.html"))
	if err != nil {
		return err
	}
	return errors.Join(page.Execute(f, played), f.Close())
}

// copyFile copies a file that may have holes.
func copyFile(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "disk.img")
	if err := appliance.CopySparse(to, from); err != nil {
		t.Fatal(err)
	}
	return to
}
