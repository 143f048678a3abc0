// Package usb lets USB devices in, or not: the terminal's host controllers admit nothing by themselves
// (authorized_default=0), and this relay decides about each device by what it says about itself ([Policy.Judge]). It is a
// process of its own, uid 0 with two capabilities, because sysfs and libudev's messages belong to root.
//
// What is let in gets its node given to the service that needs it, an entry in libudev's database, and its uevents sent on
// to libudev's listeners, which is how pcscd learns of readers that come and go. There is no udevd. What is refused stays
// as the kernel has it: without a driver, without a node that anybody could open; it is counted and reported.
//
// Events are taken as hints only: what is done about a device depends on what sysfs says about it at that moment.
//
// The relay's sandbox lets it write to the host controllers that were there when it started, and to nothing else below /sys.
// With a controller that comes later it ends ([ErrController]), and is started again, with a sandbox that knows it.
package usb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"ktradv/image/init/users"
)

// Kernel is the part of the kernel that is not a file.
type Kernel interface {
	// Receive waits for the next message of the kernel. ErrLost says that some did not fit, ErrQuiet that none came within
	// that time; zero waits on.
	Receive(ctx context.Context, within time.Duration) ([]byte, error)
	// Broadcast sends a message to libudev's listeners.
	Broadcast(msg []byte) error
	// Chgrp gives a file to a group.
	Chgrp(name string, group users.ID) error
}

// Errors of Kernel.Receive after which it goes on.
var (
	ErrLost  = errors.New("uevents were lost")
	ErrQuiet = errors.New("no uevent came")
)

// ErrController: there is a host controller that this process may not write to.
var ErrController = errors.New("a host controller came after the start")

// Config of a relay.
type Config struct {
	Policy Policy
	Kernel Kernel
	// Root is put before /sys, /dev and /run; "" is the machine's own.
	Root string
	// Count hears the number of readers that are in, and of readers that are refused because no list has them.
	Count func(readers, unsupported int)
	// Refused hears of each refused device.
	Refused func(Device, Reason)
	// Settled is called once, when every device that was there at the start has been decided about.
	Settled func()
	// Alive is called after every message and, when none comes, every Beat: the relay does not hang. Nil is allowed.
	Alive func()
	Beat  time.Duration
}

// Relay decides about devices.
type Relay struct {
	cfg     Config
	devices map[string]*device // by path in sysfs ("/devices/..."), USB devices only
	counted [2]int
	late    bool // a host controller has come, see ErrController
}

type device struct {
	Device
	kind   Kind
	reason Reason
}

// New prepares a relay.
func New(cfg Config) *Relay {
	return &Relay{cfg: cfg, devices: make(map[string]*device), counted: [2]int{-1, -1}}
}

func (r *Relay) sys(elem ...string) string {
	return filepath.Join(r.cfg.Root, "/sys", filepath.Join(elem...))
}

// Run decides about what is there, and then about what comes, until ctx ends.
func (r *Relay) Run(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(r.cfg.Root, "/run/udev/data"), 0o755); err != nil {
		return fmt.Errorf("usb: %w", err)
	}
	r.scan()
	if r.cfg.Settled != nil {
		r.cfg.Settled()
	}
	for {
		if r.late {
			return fmt.Errorf("usb: %w", ErrController)
		}
		b, err := r.cfg.Kernel.Receive(ctx, r.cfg.Beat)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrQuiet):
		case errors.Is(err, ErrLost):
			r.scan()
		case err != nil:
			return fmt.Errorf("usb: receive: %w", err)
		default:
			if e, err := ParseUevent(b); err == nil {
				r.event(e)
			}
		}
		if r.cfg.Alive != nil {
			r.cfg.Alive()
		}
	}
}

// scan looks at everything that sysfs has.
func (r *Relay) scan() {
	entries, _ := os.ReadDir(r.sys("bus/usb/devices")) // missing where USB did not load: nothing to do
	present := make(map[string]bool)
	for _, e := range entries {
		if strings.Contains(e.Name(), ":") {
			continue // an interface
		}
		if path, ok := r.resolve(r.sys("bus/usb/devices", e.Name())); ok {
			present[path] = true
			r.plugged(path)
		}
	}
	for path := range r.devices {
		if !present[path] {
			delete(r.devices, path)
		}
	}
	inputs, _ := filepath.Glob(r.sys("class/input/event*"))
	for _, i := range inputs {
		if path, ok := r.resolve(i); ok {
			r.input(path)
		}
	}
	r.count()
}

// resolve turns a link of sysfs into the device's path.
func (r *Relay) resolve(link string) (string, bool) {
	p, err := filepath.EvalSymlinks(link)
	if err != nil {
		return "", false
	}
	root, err := filepath.EvalSymlinks(r.sys())
	if err != nil {
		return "", false
	}
	p, ok := strings.CutPrefix(p, root)
	return p, ok && validPath(p)
}

func (r *Relay) event(e Event) {
	switch {
	case e.Subsystem == "usb" && e.Type == "usb_device" && e.Action == "add":
		r.plugged(e.Path)
		r.count()
	case e.Subsystem == "usb" && e.Type == "usb_device" && e.Action == "remove":
		if d := r.devices[e.Path]; d != nil {
			delete(r.devices, e.Path)
			r.forget(e)
			if d.kind != Refused {
				r.cfg.Kernel.Broadcast(e.Relayed())
			}
			r.count()
		}
	case e.Subsystem == "usb":
		// An interface, or a driver that took one.
		if d := r.owner(e.Path); d == nil || d.kind == Refused {
			return
		}
		if e.Action == "remove" {
			r.forget(e)
		} else {
			r.record(e)
		}
		r.cfg.Kernel.Broadcast(e.Relayed())
	case e.Subsystem == "input" && strings.HasPrefix(e.Node, "input/event") && e.Action == "add":
		r.input(e.Path)
	}
}

// owner is the USB device that a path lies in, nil for none.
func (r *Relay) owner(path string) *device {
	for p := path; len(p) > 1; p = filepath.Dir(p) {
		if d := r.devices[p]; d != nil {
			return d
		}
	}
	return nil
}

// plugged decides about a USB device.
func (r *Relay) plugged(path string) {
	name := filepath.Base(path)
	if strings.HasPrefix(name, "usb") { // a host controller's own hub
		r.late = r.write(r.sys(path, "authorized_default"), "0") || r.late
		return
	}
	// The handle belongs to the device that is there now. If another one takes its place before the end of this function,
	// writing fails: what is let in is always the device whose descriptors were judged.
	admit, err := os.OpenFile(r.sys(path, "authorized"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return // gone again
	}
	if err == nil {
		defer admit.Close()
	}
	d := &device{}
	var b []byte
	if err == nil {
		b, err = r.read(r.sys(path, "descriptors"), maxDescriptors)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return // gone again
	}
	if err == nil {
		d.Device, err = ParseDescriptors(b)
	}
	if err != nil {
		d.reason = ReasonMalformed
	} else {
		d.kind, d.reason = r.cfg.Policy.Judge(d.Device)
	}
	old := r.devices[path]
	if old != nil && old.reason == ReasonKeys && old.ID == d.ID {
		d.kind, d.reason = old.kind, old.reason // what has typed once is not tried again before it has been pulled
	}
	r.devices[path] = d
	if d.kind == Refused {
		r.write(r.sys(path, "authorized"), "0")
		if old == nil || old.ID != d.ID || old.kind != Refused {
			r.refused(d)
		}
		return
	}
	e, err := r.describe(path)
	if err != nil {
		return
	}
	if d.kind == Reader && e.Node != "" {
		r.give(e.Node, users.PCSCD)
	}
	r.record(e)
	if old == nil || old.kind == Refused {
		r.cfg.Kernel.Broadcast(e.Relayed())
	}
	if !isAuthorized(admit) {
		set(admit, "1")
	}
}

// set writes an open attribute. A device that is gone needs it no more, so the error says nothing.
func set(f *os.File, value string) {
	if _, err := f.Seek(0, io.SeekStart); err == nil {
		f.WriteString(value)
	}
}

// isAuthorized reads the attribute of an open device.
func isAuthorized(f *os.File) bool {
	b := make([]byte, 16)
	n, _ := f.ReadAt(b, 0)
	return strings.TrimSpace(string(b[:n])) == "1"
}

// describe builds the event "add" of a device from its file uevent. libudev drops events with the number 0.
func (r *Relay) describe(path string) (Event, error) {
	b, err := r.read(r.sys(path, "uevent"), maxUevent/2)
	if err != nil {
		return Event{}, err
	}
	msg := "add@" + path + "\x00ACTION=add\x00DEVPATH=" + path + "\x00SUBSYSTEM=usb\x00SEQNUM=1\x00"
	for l := range strings.Lines(string(b)) {
		if l = strings.TrimRight(l, "\n"); l != "" {
			msg += l + "\x00"
		}
	}
	return ParseUevent([]byte(msg))
}

// input gives a touch screen's node to the kiosk: a device with positions and without keys, built in or on an allowed USB
// device. A USB device that turns out to type is shut out.
func (r *Relay) input(path string) {
	keys, err1 := r.bits(r.sys(path, "device/capabilities/key"))
	abs, err2 := r.bits(r.sys(path, "device/capabilities/abs"))
	if err1 != nil || err2 != nil {
		return
	}
	usbPath, d := "", (*device)(nil)
	for p := path; len(p) > 1; p = filepath.Dir(p) {
		if d = r.devices[p]; d != nil {
			usbPath = p
			break
		}
	}
	if d != nil && d.kind != Touch {
		return
	}
	if keys.anyBelow(firstButton) {
		if d != nil {
			d.kind, d.reason = Refused, ReasonKeys
			r.write(r.sys(usbPath, "authorized"), "0")
			r.refused(d)
		}
		return
	}
	if abs.has(absX) && abs.has(absY) || abs.has(absMTX) && abs.has(absMTY) {
		r.give("input/"+filepath.Base(path), users.Kiosk)
	}
}

// Codes of linux/input-event-codes.h. Below firstButton are the keys of keyboards (KEY_RESERVED is none).
const (
	firstButton = 0x100
	absX, absY  = 0x00, 0x01
	absMTX      = 0x35
	absMTY      = 0x36
)

type bitmap []uint64 // lowest first

// bits reads a bitmap of sysfs: hexadecimal words, highest first.
func (r *Relay) bits(name string) (bitmap, error) {
	b, err := r.read(name, 4096)
	if err != nil {
		return nil, err
	}
	f := strings.Fields(string(b))
	if len(f) > 64 {
		return nil, fmt.Errorf("%s: too long", name)
	}
	slices.Reverse(f)
	var m bitmap
	for _, w := range f {
		v, err := strconv.ParseUint(w, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		m = append(m, v)
	}
	return m, nil
}

func (m bitmap) has(n int) bool { return n/64 < len(m) && m[n/64]>>(n%64)&1 == 1 }

func (m bitmap) anyBelow(n int) bool {
	for i := 1; i < n; i++ {
		if m.has(i) {
			return true
		}
	}
	return false
}

func (r *Relay) give(node string, group users.ID) {
	name := filepath.Join(r.cfg.Root, "/dev", node)
	if os.Chmod(name, 0o660) == nil {
		r.cfg.Kernel.Chgrp(name, group)
	}
}

// record writes a device's entry in libudev's database: that it is initialised is all that there is to say.
func (r *Relay) record(e Event) {
	name := filepath.Join(r.cfg.Root, "/run/udev/data", e.record())
	if os.WriteFile(name, []byte("I:1\nV:1\n"), 0o644) == nil {
		os.Chmod(name, 0o644) // whatever the umask
	}
}

func (r *Relay) forget(e Event) {
	_ = os.Remove(filepath.Join(r.cfg.Root, "/run/udev/data", e.record()))
}

func (r *Relay) refused(d *device) {
	if r.cfg.Refused != nil {
		r.cfg.Refused(d.Device, d.reason)
	}
}

func (r *Relay) count() {
	var n [2]int
	for _, d := range r.devices {
		switch {
		case d.kind == Reader:
			n[0]++
		case d.reason == ReasonReader || d.reason == ReasonFirmware:
			n[1]++
		}
	}
	if n != r.counted && r.cfg.Count != nil {
		r.counted = n
		r.cfg.Count(n[0], n[1])
	}
}

func (r *Relay) read(name string, limit int) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, limit+1)
	n := 0
	for n < len(b) {
		m, err := f.Read(b[n:])
		n += m
		if err != nil || m == 0 {
			break
		}
	}
	if n > limit {
		return nil, fmt.Errorf("%s: longer than %d bytes", name, limit)
	}
	return b[:n], nil
}

// write sets an attribute of sysfs, and tells whether that is forbidden. A device that is gone needs it no more, so another error
// says nothing.
func (r *Relay) write(name, value string) (forbidden bool) {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return errors.Is(err, fs.ErrPermission)
	}
	f.WriteString(value)
	f.Close()
	return false
}

// Reset takes every card reader that is in from its driver and gives it back after pause has returned: what hangs in the
// kernel on behalf of a reader gets an error then. It is for adv-init, which calls it when a card service cannot be killed.
func Reset(root string, pause func()) {
	names, _ := filepath.Glob(filepath.Join(root, "/sys/bus/usb/devices/*/authorized"))
	var out []*os.File
	for _, n := range names {
		// The handle belongs to this device: one that takes its place during the pause is not let in by it.
		f, err := os.OpenFile(n, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		defer f.Close()
		b, err := os.ReadFile(filepath.Join(filepath.Dir(n), "descriptors"))
		if err != nil {
			continue
		}
		d, err := ParseDescriptors(b)
		if err != nil || !slices.ContainsFunc(d.Interfaces, func(i Interface) bool { return i.Class == ClassCCID || i.Class == ClassVendor }) || !isAuthorized(f) {
			continue // another device, or a refused one
		}
		out = append(out, f)
	}
	for _, v := range []string{"0", "1"} {
		for _, f := range out {
			set(f, v)
		}
		if v == "0" {
			pause()
		}
	}
}
