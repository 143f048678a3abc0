// Package appliance runs the terminal as it is delivered: the production image in a virtual machine, with the simulated
// class-3 reader and the simulated touch screen at its USB ports, and with the services of package demo around it. Nothing
// in the guest knows of tests; what happens to it comes from outside: USB, network, disk, power, the debug stub.
//
// [New] brings up the services and builds the image for them; [World.Start] switches a machine on. `make vm` is a thin
// command over it, and the tests of tests/vm use it.
package appliance

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"ktradv/hw/sim/persona"
	simreader "ktradv/hw/sim/reader"
	"ktradv/image/build"
	"ktradv/qemu/ccid"
	"ktradv/qemu/machine"
	"ktradv/qemu/touch"
	"ktradv/qemu/usbredir"
	"ktradv/tests/demo"
	"ktradv/tests/demo/panel"
)

// Size of the display, in pixels.
const (
	Width  = 1280
	Height = 800
)

// Config says what the world around the machine is made of.
type Config struct {
	// Root is the folder of the project. Out takes the overlay and the image; Dir is for sockets and must be short.
	Root, Out, Dir string
	// Panel is the address of the control panel; "" is none.
	Panel string
	// Modules are kernel modules beside those of the demo's overlay.
	Modules []string
	// Output takes what the server says; nil means os.Stderr.
	Output io.Writer
	// Log hears what the image builder does; nil drops it.
	Log func(format string, args ...any)
}

// World is what a terminal needs around it, and its image.
type World struct {
	*demo.Env
	Image build.Result
	// Time answers the guest's questions for the time.
	Time *TimeServer

	cfg Config
}

// New brings up the services and builds the image.
func New(ctx context.Context, cfg Config) (_ *World, err error) {
	bin := filepath.Join(cfg.Out, "bin")
	if err := demo.BuildServer(ctx, cfg.Root, bin); err != nil {
		return nil, err
	}
	w := &World{cfg: cfg}
	w.Env, err = demo.StartServices(ctx, demo.Config{Dir: cfg.Dir, Bin: bin, Panel: cfg.Panel, Output: cfg.Output})
	if err != nil {
		return nil, err
	}
	if w.Time, err = ServeTime("127.0.0.1:0"); err == nil {
		w.Image, err = w.Build(ctx, "image", nil)
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Close takes everything down.
func (w *World) Close() {
	if w.Time != nil {
		w.Time.Close()
	}
	w.Env.Close()
}

// object is a JSON object.
type object = map[string]any

// Build makes an image with an overlay of its own: the demo's, with this world's addresses and trust, changed by change
// (nil: not). Mistakes that the image builder finds are its error.
func (w *World) Build(ctx context.Context, name string, change func(files map[string][]byte, terminal map[string]any)) (build.Result, error) {
	files, err := w.overlay(change)
	if err != nil {
		return build.Result{}, err
	}
	dir := filepath.Join(w.cfg.Out, name+"-overlay")
	if err := os.RemoveAll(dir); err != nil {
		return build.Result{}, fmt.Errorf("overlay: %w", err)
	}
	for _, f := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, filepath.FromSlash(f))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return build.Result{}, fmt.Errorf("overlay: %w", err)
		}
		if err := os.WriteFile(path, files[f], 0o644); err != nil {
			return build.Result{}, fmt.Errorf("overlay: %w", err)
		}
	}
	return build.Build(ctx, build.Config{
		Root: w.cfg.Root, Overlays: []string{dir}, Out: filepath.Join(w.cfg.Out, name), Cache: filepath.Join(w.cfg.Root, "out", "cache"), Log: w.cfg.Log,
	})
}

// overlay is the demo's overlay with this world's addresses and trust.
func (w *World) overlay(change func(map[string][]byte, map[string]any)) (map[string][]byte, error) {
	const config = "etc/adv/terminal.json"
	b, err := os.ReadFile(filepath.Join(w.cfg.Root, "overlays", "demo", filepath.FromSlash(config)))
	if err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	var t object
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, fmt.Errorf("overlay: %s: %w", config, err)
	}
	guest := func(addr string) string { return demo.GuestHost.String() + addr[strings.LastIndexByte(addr, ':'):] }
	t["server"] = object{"address": guest(w.ServerAddr())}
	t["time"] = object{"servers": []string{guest(w.Time.Addr())}}
	if len(w.cfg.Modules) > 0 {
		m, _ := t["modules"].(object)
		extra, _ := m["extra"].([]any)
		for _, name := range w.cfg.Modules {
			extra = append(extra, name)
		}
		t["modules"] = object{"extra": extra}
	}
	files := map[string][]byte{"etc/adv/trust/cvc/root.cvc": w.PKI.Root.Certificate}
	if files["etc/adv/trust/tls/server.pem"], err = os.ReadFile(filepath.Join(w.Dir, "kiosk", "trust", "server.pem")); err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	if change != nil {
		change(files, t)
	}
	if _, ok := files[config]; !ok { // a test may have put another one there
		if files[config], err = json.MarshalIndent(t, "", "\t"); err != nil {
			return nil, fmt.Errorf("overlay: %w", err)
		}
	}
	return files, nil
}

// Options say what a machine has that is not usual.
type Options struct {
	// Image is the image that is started; nil is the world's.
	Image *build.Result
	// UKI boots the disk by its firmware, not the kernel directly.
	UKI bool
	// Disk is the disk; "" is a fresh copy of the image's. "none" is none.
	Disk string
	// Readers are the readers at its ports; nil is one good reader. Real is one of this machine, as VVVV:PPPP, instead.
	Readers []ccid.Config
	Real    string
	// Rotation is how far the picture has to be turned clockwise to stand upright for the person: 0, 90, 180 or 270 degrees.
	// The display hangs turned the other way.
	Rotation int
	// Sends is what the touch panel sends for a touch of a point of the display; nil is that point.
	Sends func(touch.Point) touch.Point
	// Change may change everything else.
	Change func(*machine.Config)
}

// Terminal is a machine with what is plugged into it.
type Terminal struct {
	*machine.Machine
	Readers []*simreader.Reader
	Touch   *touch.Screen
	// Ports are those of the readers, TouchPort that of the touch screen.
	Ports     []*usbredir.Port
	TouchPort *usbredir.Port
	Disk      string

	rotation int
	sends    func(touch.Point) touch.Point
	stop     []func()
	once     sync.Once
}

// Reader is the first reader.
func (t *Terminal) Reader() *simreader.Reader { return t.Readers[0] }

// Close cuts the power and takes the USB devices away.
func (t *Terminal) Close() {
	t.once.Do(func() {
		if t.Machine != nil {
			t.Cut()
		}
		for i := len(t.stop) - 1; i >= 0; i-- {
			t.stop[i]()
		}
	})
}

// Screen is the picture as the person sees it in front of the display, however that hangs; Machine.Screen is the display's own.
func (t *Terminal) Screen(ctx context.Context) (*image.RGBA, error) {
	img, err := t.Machine.Screen(ctx)
	if err != nil {
		return nil, err
	}
	return upright(img, t.rotation), nil
}

// Tap touches a pixel of that picture.
func (t *Terminal) Tap(x, y int) error {
	display := image.Pt(Width, Height)
	at := onDisplay(image.Pt(x, y), display, t.rotation)
	p := touch.Point{X: (float64(at.X) + 0.5) / Width, Y: (float64(at.Y) + 0.5) / Height}
	if t.sends != nil {
		p = t.sends(p)
	}
	return t.Touch.Tap(p)
}

// onDisplay is the pixel of a display on which a pixel of the picture lies that is turned clockwise on it.
func onDisplay(p, display image.Point, rotation int) image.Point {
	switch rotation {
	case 90:
		return image.Pt(display.X-1-p.Y, p.X)
	case 180:
		return image.Pt(display.X-1-p.X, display.Y-1-p.Y)
	case 270:
		return image.Pt(p.Y, display.Y-1-p.X)
	}
	return p
}

// upright is the picture that is turned clockwise on a display.
func upright(display *image.RGBA, rotation int) *image.RGBA {
	size := display.Rect.Size()
	switch rotation {
	case 0:
		return display
	case 90, 270:
		size.X, size.Y = size.Y, size.X
	}
	out := image.NewRGBA(image.Rectangle{Max: size})
	for y := range size.Y {
		for x := range size.X {
			at := onDisplay(image.Pt(x, y), display.Rect.Size(), rotation)
			i, j := out.PixOffset(x, y), display.PixOffset(at.X, at.Y)
			copy(out.Pix[i:i+4], display.Pix[j:j+4])
		}
	}
	return out
}

// Start switches a machine on.
func (w *World) Start(ctx context.Context, o Options) (_ *Terminal, err error) {
	dir, err := os.MkdirTemp(w.Dir, "vm")
	if err != nil {
		return nil, fmt.Errorf("start terminal: %w", err)
	}
	t := &Terminal{Touch: touch.New(touch.Config{}), rotation: o.Rotation, sends: o.Sends}
	defer func() {
		if err != nil {
			t.Close()
			err = fmt.Errorf("start terminal: %w", err)
		}
	}()
	t.stop = append(t.stop, func() { os.RemoveAll(dir) })
	from := w.Image
	if o.Image != nil {
		from = *o.Image
	}
	cmdline, err := os.ReadFile(from.Cmdline)
	if err != nil {
		return nil, err
	}
	cfg := machine.Config{Dir: dir, Network: true, Debug: true}
	if !o.UKI {
		cfg.Kernel, cfg.Initrd, cfg.Cmdline = from.Kernel, from.Initramfs, strings.TrimSpace(string(cmdline))
	}
	switch t.Disk = o.Disk; t.Disk {
	case "none":
	case "":
		t.Disk = filepath.Join(dir, "disk.img")
		if err := CopySparse(t.Disk, from.Disk); err != nil {
			return nil, err
		}
		fallthrough
	default:
		cfg.Disks = []string{t.Disk}
	}
	port := func(name string) (*usbredir.Port, error) {
		p, err := usbredir.Listen(filepath.Join(dir, name))
		if err == nil {
			t.stop = append(t.stop, func() { p.Close() })
			cfg.USB = append(cfg.USB, p.Path())
		}
		return p, err
	}
	if t.TouchPort, err = port("touch"); err != nil {
		return nil, err
	}
	t.TouchPort.Attach(t.Touch)
	readers := o.Readers
	if readers == nil && o.Real == "" {
		readers = []ccid.Config{{Reader: simreader.New(simreader.Config{})}}
	}
	if o.Real != "" {
		vendor, product, _ := strings.Cut(o.Real, ":")
		cfg.Devices = append(cfg.Devices, "usb-host,bus=xhci.0,vendorid=0x"+vendor+",productid=0x"+product)
	}
	for i, r := range readers {
		p, err := port(fmt.Sprintf("reader%d", i))
		if err != nil {
			return nil, err
		}
		follow, cancel := context.WithCancel(context.WithoutCancel(ctx))
		t.stop = append(t.stop, cancel)
		go ccid.Follow(follow, p, r)
		t.Readers, t.Ports = append(t.Readers, r.Reader), append(t.Ports, p)
	}
	if o.Change != nil {
		o.Change(&cfg)
	}
	t.Machine, err = machine.Start(ctx, cfg)
	return t, err
}

// ServePanel serves the control panel for a machine.
func (w *World) ServePanel(t *Terminal) error {
	cfg := panel.Config{Screen: t.Screen, Touch: func(_ context.Context, x, y int) error { return t.Tap(x, y) }}
	if len(t.Readers) > 0 {
		cfg.Reader = t.Reader()
	} else {
		cfg.Reader = simreader.New(simreader.Config{}) // nothing is at the other end of it
	}
	return w.Env.ServePanel(cfg)
}

// PIN is the PIN of every persona's card, if it has one.
func PIN(id string) string {
	for _, p := range persona.List() {
		if p.ID == id {
			return p.PIN
		}
	}
	return ""
}

// CopySparse copies a file and leaves holes where it holds zeros.
func CopySparse(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	defer func() {
		if cerr := out.Close(); err == nil {
			err = cerr
		}
	}()
	const block = 1 << 20
	b, zero := make([]byte, block), make([]byte, block)
	var at int64
	for {
		n, err := io.ReadFull(in, b)
		if n > 0 && string(b[:n]) != string(zero[:n]) {
			if _, err := out.WriteAt(b[:n], at); err != nil {
				return fmt.Errorf("copy: %w", err)
			}
		}
		at += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return out.Truncate(at)
		}
		if err != nil {
			return fmt.Errorf("copy: %w", err)
		}
	}
}
