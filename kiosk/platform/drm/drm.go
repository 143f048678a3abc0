// Package drm is the platform of the terminal: the picture goes through
// Linux's mode setting to the display (package kms), input comes from evdev
// devices (package evdev). It needs no X, no Wayland, no GPU driver and no
// rights beyond opening the device nodes.
//
// A terminal without a display, or whose display is pulled, keeps running: the
// frames are dropped, and when a display appears the picture is drawn anew.
package drm

import (
	"context"
	"errors"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"gioui.org/io/event"
	"gioui.org/io/key"
	"gioui.org/unit"
	"golang.org/x/sys/unix"

	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/drm/evdev"
	"ktradv/kiosk/platform/drm/kms"
	"ktradv/kiosk/platform/drm/nodes"
)

const (
	// retryEvery is how often a missing display is looked for.
	retryEvery = 2 * time.Second
	// settleTime lets a display that was just plugged in become ready, and
	// bounds how often a loose plug can make us probe.
	settleTime = 200 * time.Millisecond
)

// Config describes the terminal's display and input. The zero value takes the
// first display and all input devices.
type Config struct {
	// Card is the device node, "" for the first card of CardDir that works.
	Card string
	// CardDir is the folder of the cards, "/dev/dri" when empty. A card that appears there, or that becomes ours, is taken
	// at once while there is no display.
	CardDir string
	// Output, Mode and Rotation: see kms.Config.
	Output   string
	Mode     string
	Rotation platform.Rotation
	// Fallback is the size of the picture while there is no display
	// (1280x800 when zero), after rotation.
	Fallback image.Point
	// DiagonalMM is the diagonal of the panel in millimetres; 0 takes the size
	// that the display reports.
	DiagonalMM int
	// Scale is the number of pixels of a dp, whatever the size; 0 computes it.
	Scale float32

	// InputDir is the folder of the input devices, "/dev/input" when empty.
	InputDir string
	// Calibration corrects a touch screen; the zero value leaves it alone.
	Calibration evdev.Matrix
	// KeyNames gives names to keys of keypads with unusual codes.
	KeyNames map[uint16]key.Name
	// Share leaves the input devices to other programs too.
	Share bool

	// Failed is told of what the platform survives: no display, a device that
	// cannot be used. The same text is reported once in a row.
	Failed func(error)

	// OpenCard and OpenInput replace the kernel's devices.
	OpenCard  func() (kms.Card, error)
	OpenInput func(path string) (evdev.Device, error)
	// HotPlug delivers a value when the kernel reports a change at a display;
	// nil listens to the kernel.
	HotPlug <-chan struct{}
	// After is the clock for retries; nil means time.After.
	After func(time.Duration) <-chan time.Time
}

// Display is the platform.
type Display struct {
	cfg    Config
	events chan event.Event
	space  *evdev.Space
	cancel context.CancelFunc
	ctx    context.Context
	wg     sync.WaitGroup
	once   sync.Once
	lost   chan struct{} // Show found the display lost

	failMu   sync.Mutex
	lastFail string

	mu     sync.Mutex
	out    *kms.Output
	size   image.Point
	metric unit.Metric
}

var _ platform.Platform = (*Display)(nil)
var _ platform.Blanker = (*Display)(nil)
var _ platform.Forgetter = (*Display)(nil)

// Open starts the platform. It does not wait for a display; it fails only for
// a configuration that cannot work.
func Open(c Config) (*Display, error) {
	if c.Fallback == (image.Point{}) {
		c.Fallback = image.Pt(1280, 800)
	}
	if c.Calibration == (evdev.Matrix{}) {
		c.Calibration = evdev.Identity
	}
	if c.After == nil {
		c.After = time.After
	}
	if c.CardDir == "" {
		c.CardDir = "/dev/dri"
	}
	if c.OpenCard == nil {
		c.OpenCard = func() (kms.Card, error) { return openCard(c.CardDir, c.Card) }
	}
	if !platform.ValidSize(c.Fallback) || !c.Calibration.Valid() || c.DiagonalMM < 0 || c.DiagonalMM > 10000 || c.Scale < 0 || c.Scale > 16 {
		return nil, fmt.Errorf("configure display: fallback %v, calibration %v, diagonal %v or scale %v", c.Fallback, c.Calibration, c.DiagonalMM, c.Scale)
	}
	out, err := kms.NewOutput(kms.Config{Open: c.OpenCard, Output: c.Output, Mode: c.Mode, Rotation: c.Rotation})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &Display{
		cfg: c, events: make(chan event.Event, 256), space: evdev.NewSpace(c.Fallback, c.Rotation, c.Calibration),
		ctx: ctx, cancel: cancel, lost: make(chan struct{}, 1), out: out, size: c.Fallback, metric: metric(c, c.Fallback, image.Point{}),
	}
	cards := d.cards() // before the first look, so that no card comes in between
	ok := d.probe(false)
	in := evdev.New(evdev.Config{
		Dir: c.InputDir, Space: d.space, Names: c.KeyNames, Share: c.Share, Open: c.OpenInput, Failed: d.failed,
	}, d.events)
	d.wg.Go(func() {
		// Without devices there may be no folder yet.
		for {
			err := in.Run(ctx)
			if ctx.Err() != nil {
				return
			}
			d.failed(err)
			select {
			case <-c.After(retryEvery):
			case <-ctx.Done():
				return
			}
		}
	})
	d.wg.Go(func() { d.watch(ok, cards) })
	return d, nil
}

// openCard opens a card by path, or the first one of a folder that has outputs.
func openCard(dir, path string) (kms.Card, error) {
	if path != "" {
		return kms.Open(path)
	}
	cards, err := filepath.Glob(filepath.Join(dir, "card*"))
	if err != nil || len(cards) == 0 {
		return nil, fmt.Errorf("no card in %s: %w", dir, os.ErrNotExist)
	}
	var errs []error
	for _, path := range cards {
		c, err := kms.Open(path)
		if err == nil {
			var r kms.Resources
			if r, err = c.Resources(); err == nil && len(r.Connectors) > 0 {
				return c, nil
			}
			c.Close()
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func metric(c Config, size, mm image.Point) unit.Metric {
	if c.Scale > 0 {
		return unit.Metric{PxPerDp: c.Scale, PxPerSp: c.Scale}
	}
	if c.DiagonalMM > 0 {
		return platform.MetricForDiagonal(size, c.DiagonalMM)
	}
	return platform.MetricFor(size, mm)
}

// failed reports an error, but not the same one again and again.
func (d *Display) failed(err error) {
	if d.cfg.Failed == nil {
		return
	}
	d.failMu.Lock()
	defer d.failMu.Unlock()
	if s := err.Error(); s != d.lastFail {
		d.lastFail = s
		d.cfg.Failed(err)
	}
}

// probe looks for the display and reports whether there is one. With tell it
// sends what the loop has to know.
func (d *Display) probe(tell bool) bool {
	d.mu.Lock()
	redraw, err := d.out.Probe()
	var e event.Event
	if err == nil && redraw {
		e = platform.Redraw{}
		size := d.out.Size()
		if m := metric(d.cfg, size, d.out.MM()); size != d.size || m != d.metric {
			d.size, d.metric = size, m
			d.space.Resize(size)
			e = platform.Resized{}
		}
	}
	d.mu.Unlock()
	if err != nil {
		d.failed(err)
		return false
	}
	if redraw {
		d.failMu.Lock()
		d.lastFail = ""
		d.failMu.Unlock()
	}
	if tell && e != nil {
		d.send(e)
	}
	return true
}

func (d *Display) send(e event.Event) {
	select {
	case d.events <- e:
	case <-d.ctx.Done():
	}
}

// watch waits for changes at the display, and for cards while there is none.
func (d *Display) watch(ok bool, cards <-chan struct{}) {
	hot := d.cfg.HotPlug
	polling := false
	if hot == nil {
		var err error
		if hot, err = d.uevents(); err != nil {
			// Without the kernel's messages we look from time to time.
			d.failed(err)
			polling = true
		}
	}
	for {
		var retry <-chan time.Time
		if !ok || polling {
			retry = d.cfg.After(retryEvery)
		}
		select {
		case <-hot:
			ours := cards
			if ok {
				ours = nil
			}
			select {
			case <-d.cfg.After(settleTime):
			case <-ours: // init has given it to us meanwhile
			case <-d.ctx.Done():
				return
			}
		case <-d.lost:
		case <-cards:
			if ok {
				continue
			}
		case <-retry:
			if ok && d.unchanged() {
				continue
			}
		case <-d.ctx.Done():
			return
		}
		ok = d.probe(true)
	}
}

// cards tells when a node of the cards' folder appears or changes. Where there is no such folder, nobody tells.
func (d *Display) cards() <-chan struct{} {
	f, err := nodes.Watch(d.cfg.CardDir)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			d.failed(fmt.Errorf("watch %s for displays: %w", d.cfg.CardDir, err))
		}
		return nil
	}
	return d.signals(f, func([]byte) bool { return true })
}

// signals reads messages until the platform ends and sends a value for those that count. Messages that were lost count.
func (d *Display) signals(f *os.File, counts func([]byte) bool) <-chan struct{} {
	ch := make(chan struct{}, 1)
	context.AfterFunc(d.ctx, func() { f.Close() })
	d.wg.Go(func() {
		buf := make([]byte, 8<<10)
		for {
			n, err := f.Read(buf)
			lost := errors.Is(err, unix.ENOBUFS)
			if err != nil && !lost {
				return
			}
			if lost || counts(buf[:n]) {
				select {
				case ch <- struct{}{}:
				default:
				}
			}
		}
	})
	return ch
}

// unchanged reports whether polling finds the display as it was.
func (d *Display) unchanged() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.out.Connected()
}

// uevents listens to the kernel's messages about displays.
func (d *Display) uevents() (<-chan struct{}, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listen for displays: %w", err)
	}
	f := os.NewFile(uintptr(fd), "uevent")
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		f.Close()
		return nil, fmt.Errorf("listen for displays: %w", err)
	}
	return d.signals(f, isDisplayEvent), nil
}

// isDisplayEvent reports whether a kernel message (ACTION@path, then KEY=VALUE
// strings, each ended by a NUL) is about a display card.
func isDisplayEvent(b []byte) bool {
	return strings.Contains(string(b), "\x00SUBSYSTEM=drm\x00")
}

// Size implements platform.Platform.
func (d *Display) Size() image.Point {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.size
}

// Metric implements platform.Platform.
func (d *Display) Metric() unit.Metric {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.metric
}

// Output returns the name of the output in use, "" without a display, and
// whether it shows frames by page flips.
func (d *Display) Output() (name string, flips bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.out.Active() {
		return "", false
	}
	return d.out.Name(), d.out.Flips()
}

// Show implements platform.Platform. Without a display it drops the frame.
func (d *Display) Show(f platform.Frame) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		return platform.ErrClosed
	}
	if f.Img.Rect.Size() != d.size {
		return fmt.Errorf("display of %v: show frame of %v: %w", d.size, f.Img.Rect.Size(), platform.ErrSize)
	}
	err := d.out.Show(f)
	if err != nil {
		// The display is gone; a Redraw follows when it is back.
		d.failed(err)
		select {
		case d.lost <- struct{}{}:
		default:
		}
	}
	return nil
}

// Forget implements platform.Forgetter.
func (d *Display) Forget(img *image.RGBA) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		return platform.ErrClosed
	}
	return d.out.Forget(img)
}

// Blank implements platform.Blanker.
func (d *Display) Blank(off bool) error {
	d.mu.Lock()
	err := d.out.Blank(off)
	d.mu.Unlock()
	if err != nil {
		return err
	}
	if !off {
		d.send(platform.Redraw{})
	}
	return nil
}

// Events implements platform.Platform.
func (d *Display) Events() <-chan event.Event { return d.events }

// Close implements platform.Platform.
func (d *Display) Close() error {
	d.once.Do(func() {
		d.cancel()
		d.wg.Wait()
		d.mu.Lock()
		d.out.Close()
		d.mu.Unlock()
		close(d.events)
	})
	return nil
}
