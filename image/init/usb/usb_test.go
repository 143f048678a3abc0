package usb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ktradv/image/init/users"
	"ktradv/internal/readers"
	"ktradv/internal/terminal"
)

// describe builds descriptors: one configuration with an interface for each element, an endpoint behind each.
func describe(vendor, product, firmware uint16, class byte, interfaces ...Interface) []byte {
	b := []byte{18, 1, 0, 2, class, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
	binary.LittleEndian.PutUint16(b[8:], vendor)
	binary.LittleEndian.PutUint16(b[10:], product)
	binary.LittleEndian.PutUint16(b[12:], firmware)
	c := []byte{9, 2, 0, 0, byte(len(interfaces)), 1, 0, 0x80, 50}
	for n, i := range interfaces {
		c = append(c, 9, 4, byte(n), 0, 1, i.Class, i.SubClass, i.Protocol, 0)
		c = append(c, 7, 5, 0x81, 3, 8, 0, 10)
	}
	binary.LittleEndian.PutUint16(c[2:], uint16(len(c)))
	return append(b, c...)
}

var (
	ccid     = Interface{ClassCCID, 0, 0}
	touch    = Interface{ClassHID, 0, 0}
	mouse    = Interface{ClassHID, 1, 2}
	keyboard = Interface{ClassHID, 1, 1}
	stick    = Interface{ClassStorage, 6, 0x50}
	hub      = Interface{ClassHub, 0, 0}
	vendor   = Interface{ClassVendor, 0, 0}
)

func TestParseDescriptors(t *testing.T) {
	t.Parallel()
	b := describe(0x0D46, 0x3002, 0x0100, 0, ccid, keyboard)
	want := Device{readers.USBID{Vendor: 0x0D46, Product: 0x3002}, 0x0100, 0, []Interface{ccid, keyboard}}
	got, err := ParseDescriptors(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A second configuration hides nothing.
	two := bytes.Clone(b)
	two[17] = 2
	second := describe(0, 0, 0, 0, stick)[18:]
	got, err = ParseDescriptors(append(two, second...))
	if err != nil || len(got.Interfaces) != 3 || got.Interfaces[2] != stick {
		t.Errorf("two configurations: %+v, %v", got, err)
	}
	spoil := func(f func([]byte) []byte) []byte { return f(bytes.Clone(b)) }
	for name, b := range map[string][]byte{
		"empty":                   nil,
		"short":                   b[:17],
		"no configuration":        b[:18],
		"cut":                     b[:len(b)-1],
		"more":                    append(bytes.Clone(b), 0),
		"type":                    spoil(func(b []byte) []byte { b[1] = 2; return b }),
		"configuration type":      spoil(func(b []byte) []byte { b[19] = 4; return b }),
		"configuration too long":  spoil(func(b []byte) []byte { b[20] = 0xFF; return b }),
		"configuration too short": spoil(func(b []byte) []byte { b[20] = 8; return b }),
		"interface count":         spoil(func(b []byte) []byte { b[22] = 1; return b }),
		"descriptor of length 0":  spoil(func(b []byte) []byte { b[27] = 0; return b }),
		"descriptor of length 1":  spoil(func(b []byte) []byte { b[27] = 1; return b }),
		"interface too short":     spoil(func(b []byte) []byte { b[27] = 8; return b }),
		"device in configuration": spoil(func(b []byte) []byte { b[28] = 1; return b }),
		"no interface":            describe(1, 2, 3, 0),
		"no configurations":       spoil(func(b []byte) []byte { b[17] = 0; return b[:18] }),
		"too many interfaces":     describe(1, 2, 3, 0, make([]Interface, maxInterfaces+1)...),
		"too long":                make([]byte, maxDescriptors+1),
	} {
		d, err := ParseDescriptors(b)
		if !errors.Is(err, ErrDescriptor) || d.Interfaces != nil || d.ID != (readers.USBID{}) {
			t.Errorf("%s: %+v, %v; want %v and nothing", name, d, err, ErrDescriptor)
		}
	}
}

func FuzzParseDescriptors(f *testing.F) {
	f.Add(describe(0x0D46, 0x3002, 0x0100, 0, ccid))
	f.Add(describe(1, 2, 3, 9, hub, touch, keyboard))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDescriptors(b)
		if err != nil && d.Interfaces != nil || err == nil && (len(d.Interfaces) == 0 || len(d.Interfaces) > maxInterfaces) {
			t.Errorf("%+v, %v", d, err)
		}
	})
}

var policy = Policy{
	Readers: readers.Known,
	Allow:   []terminal.USBDevice{{ID: "1209:0ADF", Class: terminal.USBTouch}, {ID: "1234:5678", Class: terminal.USBReader}},
}

// The table of who is let in, and the twin of each row that is not.
func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		device []byte
		kind   Kind
		reason Reason
	}{
		{"hub", describe(0x1D6B, 2, 0, 9, hub), Hub, ReasonNone},
		{"hub with a keyboard", describe(0x1D6B, 2, 0, 9, hub, keyboard), Refused, ReasonInterfaces},
		{"reader that hides a hub", describe(0x0D46, 0x3002, 0x100, 0, ccid, hub), Refused, ReasonInterfaces},
		{"known reader", describe(0x0D46, 0x3002, 0x0037, 0, ccid), Reader, ReasonNone},
		{"known reader, old firmware", describe(0x0D46, 0x3002, 0x0036, 0, ccid), Refused, ReasonFirmware},
		{"known reader, vendor interface", describe(0x0C4B, 0x0500, 1, 0, vendor), Reader, ReasonNone},
		{"known reader with a keyboard", describe(0x0D46, 0x3002, 0x100, 0, ccid, keyboard), Refused, ReasonInterfaces},
		{"known reader with a stick", describe(0x0D46, 0x3002, 0x100, 0, ccid, stick), Refused, ReasonInterfaces},
		{"known reader that is only a mouse", describe(0x0D46, 0x3002, 0x100, 0, mouse), Refused, ReasonInterfaces},
		{"reader allowed by the overlay", describe(0x1234, 0x5678, 0, 0, ccid), Reader, ReasonNone},
		{"the same as a stick", describe(0x1234, 0x5678, 0, 0, stick), Refused, ReasonInterfaces},
		{"reader in no list", describe(0x1111, 0x2222, 0, 0, ccid), Refused, ReasonReader},
		{"touch", describe(0x1209, 0x0ADF, 0, 0, touch), Touch, ReasonNone},
		{"touch with a mouse mode", describe(0x1209, 0x0ADF, 0, 0, touch, mouse), Touch, ReasonNone},
		{"touch with a keyboard", describe(0x1209, 0x0ADF, 0, 0, touch, keyboard), Refused, ReasonInterfaces},
		{"touch with a stick", describe(0x1209, 0x0ADF, 0, 0, touch, stick), Refused, ReasonInterfaces},
		{"other touch", describe(0x1209, 0x0AD0, 0, 0, touch), Refused, ReasonUnknown},
		{"keyboard", describe(0x046D, 0xC31C, 0, 0, keyboard), Refused, ReasonUnknown},
		{"stick", describe(0x0951, 0x1666, 0, 0, stick), Refused, ReasonUnknown},
		{"network adapter", describe(0x0BDA, 0x8153, 0, 0xFF, vendor), Refused, ReasonUnknown},
	} {
		d, err := ParseDescriptors(c.device)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if kind, reason := policy.Judge(d); kind != c.kind || reason != c.reason {
			t.Errorf("%s: Judge = %d, %d; want %d, %d", c.name, kind, reason, c.kind, c.reason)
		}
	}
}

func message(lines ...string) []byte { return []byte(strings.Join(lines, "\x00") + "\x00") }

func TestParseUevent(t *testing.T) {
	t.Parallel()
	path := "/devices/pci0000:00/0000:00:04.0/usb1/1-1"
	good := message("add@"+path, "ACTION=add", "DEVPATH="+path, "SUBSYSTEM=usb", "DEVNAME=bus/usb/001/002", "DEVTYPE=usb_device", "MAJOR=189", "MINOR=1", "SEQNUM=7")
	e, err := ParseUevent(good)
	if err != nil {
		t.Fatal(err)
	}
	if e.Action != "add" || e.Path != path || e.Subsystem != "usb" || e.Type != "usb_device" || e.Node != "bus/usb/001/002" || e.record() != "c189:1" {
		t.Errorf("event = %+v, record %s", e, e.record())
	}
	if e, err := ParseUevent(message("add@/devices/a/1-1:1.0", "SUBSYSTEM=usb")); err != nil || e.record() != "+usb:1-1:1.0" {
		t.Errorf("record of a device without a node = %q, %v", e.record(), err)
	}
	many := []string{"add@/devices/a"}
	for i := range maxProps + 1 {
		many = append(many, fmt.Sprintf("P%d=x", i))
	}
	for name, b := range map[string][]byte{
		"empty":              nil,
		"not ended":          []byte("add@/devices/a"),
		"libudev's own":      append([]byte("libudev\x00\xfe\xed\xca\xfe"), 0),
		"no path":            message("add@"),
		"relative":           message("add@devices/a"),
		"out of sysfs":       message("add@/devices/../../etc"),
		"node out of dev":    message("add@/devices/a", "DEVNAME=../etc/passwd"),
		"other path":         message("add@/devices/a", "DEVPATH=/devices/b"),
		"other action":       message("add@/devices/a", "ACTION=remove"),
		"no value":           message("add@/devices/a", "SUBSYSTEM"),
		"number of letters":  message("add@/devices/a", "MAJOR=../1"),
		"control characters": message("add@/devices/a\nb"),
		"too long":           message("add@/devices/a", "X="+strings.Repeat("x", maxUevent)),
		"too many":           message(many...),
	} {
		if e, err := ParseUevent(b); !errors.Is(err, ErrUevent) || e.Action != "" {
			t.Errorf("%s: %+v, %v; want %v", name, e, err, ErrUevent)
		}
	}
}

// The header is byte for byte what libudev 252 sends for the same device (hashes by its own MurmurHash2).
func TestRelayed(t *testing.T) {
	t.Parallel()
	e, err := ParseUevent(message("add@/devices/a/1-1", "ACTION=add", "DEVPATH=/devices/a/1-1", "SUBSYSTEM=usb", "DEVTYPE=usb_device"))
	if err != nil {
		t.Fatal(err)
	}
	got := e.Relayed()
	props := "ACTION=add\x00DEVPATH=/devices/a/1-1\x00SUBSYSTEM=usb\x00DEVTYPE=usb_device\x00"
	want := []byte("libudev\x00\xfe\xed\xca\xfe")
	for _, v := range []uint32{40, 40, uint32(len(props))} {
		want = binary.NativeEndian.AppendUint32(want, v)
	}
	want = binary.BigEndian.AppendUint32(want, 0x577c5e5)  // "usb"
	want = binary.BigEndian.AppendUint32(want, 0x27f8f50c) // "usb_device"
	want = append(want, make([]byte, 8)...)
	if diff := cmp.Diff(append(want, props...), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzParseUevent(f *testing.F) {
	f.Add(message("add@/devices/a", "ACTION=add", "DEVNAME=input/event0", "MAJOR=13", "MINOR=64"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseUevent(b)
		if err != nil {
			return
		}
		if strings.Contains(e.record(), "/") || strings.Contains(e.Path, "/../") || len(e.Relayed()) != udevHeader+len(e.props) {
			t.Errorf("%+v", e)
		}
	})
}

// kernel is a machine's USB bus in a folder.
type kernel struct {
	t      *testing.T
	root   string
	events chan []byte // what Receive returns; nil for ErrLost, empty for ErrQuiet
	sent   []string    // heads of what was broadcast
	groups map[string]users.ID
	given  func() // called when a node is given away, nil for nothing
}

func newKernel(t *testing.T) *kernel {
	k := &kernel{t: t, root: t.TempDir(), events: make(chan []byte), groups: make(map[string]users.ID)}
	k.mkdir("sys/bus/usb/devices")
	k.mkdir("sys/class/input")
	k.mkdir("dev/input")
	k.mkdir("dev/bus/usb/001")
	return k
}

func (k *kernel) mkdir(name string) {
	if err := os.MkdirAll(filepath.Join(k.root, name), 0o755); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) write(name, text string) {
	k.mkdir(filepath.Dir(name))
	if err := os.WriteFile(filepath.Join(k.root, name), []byte(text), 0o644); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) read(name string) string {
	b, err := os.ReadFile(filepath.Join(k.root, name))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

const bus = "/devices/pci/usb1"

// plug makes a device appear in sysfs, and returns its path.
func (k *kernel) plug(name string, number int, descriptors []byte) string {
	path := bus + "/" + name
	k.write("sys"+path+"/descriptors", string(descriptors))
	k.write("sys"+path+"/authorized", "0\n")
	node := fmt.Sprintf("bus/usb/001/%03d", number)
	k.write("sys"+path+"/uevent", fmt.Sprintf("MAJOR=189\nMINOR=%d\nDEVNAME=%s\nDEVTYPE=usb_device\n", number-1, node))
	k.write("dev/"+node, "")
	os.Symlink(filepath.Join(k.root, "sys", path), filepath.Join(k.root, "sys/bus/usb/devices", name))
	return path
}

func (k *kernel) input(path, name, keys, abs string) string {
	path += "/input/input5/" + name
	k.write("sys"+path+"/device/capabilities/key", keys+"\n")
	k.write("sys"+path+"/device/capabilities/abs", abs+"\n")
	k.write("dev/input/"+name, "")
	os.Symlink(filepath.Join(k.root, "sys", path), filepath.Join(k.root, "sys/class/input", name))
	return path
}

func (k *kernel) Receive(ctx context.Context, _ time.Duration) ([]byte, error) {
	select {
	case b := <-k.events:
		switch {
		case b == nil:
			return nil, ErrLost
		case len(b) == 0:
			return nil, ErrQuiet
		}
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (k *kernel) Broadcast(msg []byte) error {
	head, _, _ := strings.Cut(string(msg[udevHeader:]), "\x00SUBSYSTEM")
	k.sent = append(k.sent, strings.ReplaceAll(head, "\x00", " "))
	return nil
}

func (k *kernel) Chgrp(name string, g users.ID) error {
	rel, _ := filepath.Rel(k.root, name)
	k.groups[rel] = g
	if k.given != nil {
		k.given()
	}
	return nil
}

// relay runs a relay; flush returns when it has handled everything so far.
type running struct {
	counts  []string
	refused []string
	flush   func()
}

func run(t *testing.T, k *kernel) *running {
	t.Helper()
	r := &running{}
	settled := make(chan struct{})
	relay := New(Config{
		Policy: policy, Kernel: k, Root: k.root,
		Count:   func(a, b int) { r.counts = append(r.counts, fmt.Sprintf("%d/%d", a, b)) },
		Refused: func(d Device, why Reason) { r.refused = append(r.refused, fmt.Sprintf("%s %d", d.ID, why)) },
		Settled: func() { close(settled) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-settled
	r.flush = func() { k.events <- []byte("x"); k.events <- []byte("x") } // taken only when all before is done
	return r
}

func usbDevice(action, path string) []byte {
	return message(action+"@"+path, "ACTION="+action, "DEVPATH="+path, "SUBSYSTEM=usb", "DEVTYPE=usb_device", "MAJOR=189", "MINOR=3", "DEVNAME=bus/usb/001/004")
}

func usbInterface(action, path string) []byte {
	return message(action+"@"+path, "ACTION="+action, "DEVPATH="+path, "SUBSYSTEM=usb", "DEVTYPE=usb_interface")
}

func TestColdPlug(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	k.write("sys/bus/usb/devices/usb1/authorized_default", "1\n")
	reader := k.plug("1-1", 2, describe(0x0D46, 0x3002, 0x100, 0, ccid))
	foreign := k.plug("1-2", 3, describe(0x046D, 0xC31C, 0, 0, keyboard))
	k.write("sys"+foreign+"/authorized", "1\n") // let in before we came
	r := run(t, k)
	if got := k.read("sys/bus/usb/devices/usb1/authorized_default"); got != "0\n" && got != "0" {
		t.Errorf("authorized_default = %q; want 0", got)
	}
	if got := k.read("sys" + reader + "/authorized"); got[:1] != "1" {
		t.Errorf("reader is authorized = %q; want 1", got)
	}
	if got := k.read("sys" + foreign + "/authorized"); got[:1] != "0" {
		t.Errorf("keyboard is authorized = %q; want 0", got)
	}
	if diff := cmp.Diff(map[string]users.ID{"dev/bus/usb/001/002": users.PCSCD}, k.groups); diff != "" {
		t.Errorf("nodes given (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"1/0"}, r.counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"046D:C31C 2"}, r.refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	if got := k.read("run/udev/data/c189:1"); !strings.HasPrefix(got, "I:") {
		t.Errorf("database entry of the reader = %q", got)
	}
	if len(k.sent) != 1 || !strings.HasPrefix(k.sent[0], "ACTION=add DEVPATH="+reader) {
		t.Errorf("broadcast = %q; want the reader only", k.sent)
	}
}

func TestHotPlug(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	r := run(t, k)
	path := k.plug("1-1", 4, describe(0x0D46, 0x3002, 0x100, 0, ccid))
	k.events <- usbDevice("add", path)
	k.events <- usbInterface("add", path+"/1-1:1.0")
	k.events <- usbInterface("bind", path+"/1-1:1.0")
	r.flush()
	if got := k.read("sys" + path + "/authorized"); got[:1] != "1" {
		t.Errorf("reader is authorized = %q; want 1", got)
	}
	os.RemoveAll(filepath.Join(k.root, "sys", path))
	k.events <- usbInterface("remove", path+"/1-1:1.0")
	k.events <- usbDevice("remove", path)
	r.flush()
	want := []string{"ACTION=add DEVPATH=" + path, "ACTION=add DEVPATH=" + path + "/1-1:1.0", "ACTION=bind DEVPATH=" + path + "/1-1:1.0", "ACTION=remove DEVPATH=" + path + "/1-1:1.0", "ACTION=remove DEVPATH=" + path}
	if diff := cmp.Diff(want, k.sent); diff != "" {
		t.Errorf("broadcast (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"0/0", "1/0", "0/0"}, r.counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(k.root, "run/udev/data/c189:3")); err == nil {
		t.Error("database entry of a reader that is gone is still there")
	}
}

// A stick that is plugged in, its interfaces and its end reach nobody.
func TestForeignDeviceIsInvisible(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	r := run(t, k)
	path := k.plug("1-1", 4, describe(0x0951, 0x1666, 0, 0, stick))
	for range 2 { // told twice, reported once
		k.events <- usbDevice("add", path)
	}
	k.events <- usbInterface("add", path+"/1-1:1.0")
	k.events <- usbDevice("remove", path)
	r.flush()
	if len(k.sent) != 0 || len(k.groups) != 0 {
		t.Errorf("broadcast %q, nodes given %v; want nothing", k.sent, k.groups)
	}
	if diff := cmp.Diff([]string{"0951:1666 2"}, r.refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	// An event about a device that sysfs does not have decides nothing.
	k.events <- usbDevice("add", bus+"/9-9")
	k.events <- usbInterface("add", bus+"/9-9/9-9:1.0")
	r.flush()
	if len(k.sent) != 0 || len(r.refused) != 1 {
		t.Errorf("an invented event had an effect: %q %q", k.sent, r.refused)
	}
}

func TestReadersAreCounted(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	k.plug("1-1", 2, describe(0x0D46, 0x3002, 0x100, 0, ccid))
	k.plug("1-2", 3, describe(0x08E6, 0x3478, 0x100, 0, ccid))
	k.plug("1-3", 4, describe(0x1111, 0x2222, 0x100, 0, ccid))
	k.plug("1-4", 5, []byte("junk"))
	r := run(t, k)
	if diff := cmp.Diff([]string{"2/1"}, r.counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"1111:2222 3", "0000:0000 1"}, r.refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}

// Capabilities as the kernel prints them: a HID touch screen, a mouse, a keyboard.
const (
	touchKeys, touchAbs = "400 0 0 0 0 0", "2608000 3"
	keyboardKeys        = "1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe"
)

func TestInput(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	panel := k.plug("1-1", 2, describe(0x1209, 0x0ADF, 0, 0, touch))
	k.input(panel, "event1", touchKeys, touchAbs)
	k.input("/devices/platform/i2c", "event2", touchKeys, touchAbs)
	k.input("/devices/platform/i8042", "event3", keyboardKeys, "0")
	k.input("/devices/LNXSYSTM:00/LNXPWRBN:00", "event4", "10000000000000 0", "0")
	foreign := k.plug("1-2", 3, describe(0x1209, 0x0AD0, 0, 0, touch))
	k.input(foreign, "event5", touchKeys, touchAbs)
	r := run(t, k)
	want := map[string]users.ID{"dev/input/event1": users.Kiosk, "dev/input/event2": users.Kiosk}
	if diff := cmp.Diff(want, k.groups); diff != "" {
		t.Errorf("nodes given (-want +got):\n%s", diff)
	}
	// Later: a node of an allowed panel.
	path := k.input(panel, "event6", touchKeys, touchAbs)
	k.events <- message("add@"+path, "ACTION=add", "SUBSYSTEM=input", "DEVNAME=input/event6", "MAJOR=13", "MINOR=70")
	r.flush()
	if k.groups["dev/input/event6"] != users.Kiosk {
		t.Error("the node of a panel that was plugged in later was not given to the kiosk")
	}
}

// A "touch screen" whose input device types is shut out, though its descriptors looked right.
func TestTouchThatTypes(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	panel := k.plug("1-1", 2, describe(0x1209, 0x0ADF, 0, 0, touch))
	r := run(t, k)
	path := k.input(panel, "event1", keyboardKeys, touchAbs)
	k.events <- message("add@"+path, "ACTION=add", "SUBSYSTEM=input", "DEVNAME=input/event1", "MAJOR=13", "MINOR=65")
	r.flush()
	if len(k.groups) != 0 {
		t.Errorf("nodes given: %v", k.groups)
	}
	if got := k.read("sys" + panel + "/authorized"); got[:1] != "0" {
		t.Errorf("it is authorized = %q; want 0", got)
	}
	// When everything is looked at anew it stays out, and is told once.
	os.RemoveAll(filepath.Join(k.root, "sys", path))
	os.Remove(filepath.Join(k.root, "sys/class/input/event1"))
	k.events <- nil
	r.flush()
	if got := k.read("sys" + panel + "/authorized"); got[:1] != "0" {
		t.Errorf("after another look it is authorized = %q; want 0", got)
	}
	if diff := cmp.Diff([]string{fmt.Sprintf("1209:0ADF %d", ReasonKeys)}, r.refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}

// When the kernel had more to say than fitted, everything is looked at anew.
func TestLostEvents(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	gone := k.plug("1-1", 2, describe(0x0D46, 0x3002, 0x100, 0, ccid))
	r := run(t, k)
	os.RemoveAll(filepath.Join(k.root, "sys", gone))
	os.Remove(filepath.Join(k.root, "sys/bus/usb/devices/1-1"))
	k.plug("1-2", 3, describe(0x0D46, 0x3002, 0x100, 0, ccid))
	k.plug("1-3", 4, describe(0x08E6, 0x3478, 0x100, 0, ccid))
	k.events <- nil
	r.flush()
	if diff := cmp.Diff([]string{"1/0", "2/0"}, r.counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	in := k.plug("1-1", 2, describe(0x0D46, 0x3002, 0x100, 0, ccid))
	k.write("sys"+in+"/authorized", "1\n")
	out := k.plug("1-2", 3, describe(0x0D46, 0x3002, 0x100, 0, ccid, stick)) // refused
	panel := k.plug("1-3", 4, describe(0x1209, 0x0ADF, 0, 0, touch))
	k.write("sys"+panel+"/authorized", "untouched")
	Reset(k.root, func() {
		if got := k.read("sys" + in + "/authorized"); got[:1] != "0" {
			t.Errorf("reader: %q in the pause; want it taken away", got)
		}
	})
	if got := k.read("sys" + in + "/authorized"); got[:1] != "1" || len(got) != 2 {
		t.Errorf("reader: %q; want it given back", got)
	}
	if got := k.read("sys" + out + "/authorized"); got != "0\n" {
		t.Errorf("refused device: %q; want it left as it was", got)
	}
	if got := k.read("sys" + panel + "/authorized"); got != "untouched" {
		t.Errorf("touch screen: %q; want it left alone", got)
	}
}

// swap puts another device into the same port, as the kernel does: files of the old one stay with who holds them open.
func (k *kernel) swap(path string, descriptors []byte) {
	if err := errors.Join(os.RemoveAll(filepath.Join(k.root, "sys", path)), os.Remove(filepath.Join(k.root, "sys/bus/usb/devices", filepath.Base(path)))); err != nil {
		k.t.Error(err)
	}
	k.plug(filepath.Base(path), 2, descriptors)
}

// A device that takes the place of another one between the look at its descriptors and the decision is not let in by the
// decision about the other; its own event is judged later.
func TestDeviceSwappedWhileJudged(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	path := k.plug("1-1", 2, describe(0x0D46, 0x3002, 0x100, 0, ccid))
	k.given = func() {
		k.given = nil
		k.swap(path, describe(0x0D46, 0x3002, 0x100, 0, ccid, keyboard))
	}
	r := run(t, k)
	if k.given != nil {
		t.Fatal("nothing was swapped")
	}
	if got := k.read("sys" + path + "/authorized"); got[:1] != "0" {
		t.Errorf("the device that came in between is authorized = %q; want 0", got)
	}
	k.events <- usbDevice("remove", path)
	k.events <- usbDevice("add", path)
	r.flush()
	if diff := cmp.Diff([]string{fmt.Sprintf("0D46:3002 %d", ReasonInterfaces)}, r.refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}

// The same for the pause of a reset.
func TestDeviceSwappedWhileReset(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	path := k.plug("1-1", 2, describe(0x0D46, 0x3002, 0x100, 0, ccid))
	k.write("sys"+path+"/authorized", "1\n")
	Reset(k.root, func() { k.swap(path, describe(0x046D, 0xC31C, 0, 0, keyboard)) })
	if got := k.read("sys" + path + "/authorized"); got != "0\n" {
		t.Errorf("the keyboard that came in between is authorized = %q; want it untouched", got)
	}
}

// A relay that turns says so, with and without events; one that hangs in the kernel does not (the twin).
func TestAlive(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	hangs, goOn := make(chan struct{}), make(chan struct{})
	k.given = func() { close(hangs); <-goOn }
	alive, settled := make(chan struct{}, 8), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- New(Config{
			Policy: policy, Kernel: k, Root: k.root, Settled: func() { close(settled) }, Alive: func() { alive <- struct{}{} }, Beat: time.Second,
		}).Run(ctx)
	}()
	<-settled
	for _, e := range [][]byte{{}, nil, []byte("x")} { // quiet, lost, foreign
		k.events <- e
		<-alive
	}
	k.events <- usbDevice("add", k.plug("1-1", 2, describe(0x0D46, 0x3002, 0x0100, 0, ccid)))
	<-hangs
	if len(alive) != 0 {
		t.Error("a relay that hangs says that it is alive")
	}
	close(goOn)
	<-alive
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The kernel's own socket says that nothing came, and goes on.
func TestQuiet(t *testing.T) {
	t.Parallel()
	n, err := OpenNetlink()
	if err != nil {
		t.Skipf("no uevent socket on this machine: %v", err)
	}
	for range 3 {
		// A message of this machine's own may come in between.
		if b, err := n.Receive(t.Context(), time.Millisecond); err != nil && !errors.Is(err, ErrQuiet) {
			t.Errorf("Receive = %q, %v; want %v", b, err, ErrQuiet)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for { // without a limit it waits, for the end, too
		if _, err := n.Receive(ctx, 0); err != nil {
			if errors.Is(err, ErrQuiet) {
				t.Errorf("Receive without a limit = %v", err)
			}
			break
		}
	}
}

// With a host controller that its sandbox does not know the relay ends, to be started again; with one that it knows, or that is
// gone again, it goes on (the twins).
func TestControllerComesLater(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mode os.FileMode
		want error
	}{"forbidden": {0o400, ErrController}, "known": {0o600, nil}, "gone": {0, nil}} {
		k := newKernel(t)
		settled := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread, without root's power over files, ends with the test
			hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var set [2]unix.CapUserData
			if err := unix.Capset(&hdr, &set[0]); err != nil {
				t.Error(err)
			}
			done <- New(Config{Policy: policy, Kernel: k, Root: k.root, Settled: func() { close(settled) }}).Run(ctx)
		}()
		<-settled
		const hub, attribute = "/devices/pci/usb2", "/authorized_default"
		if c.mode != 0 {
			k.write("sys"+hub+attribute, "1")
			if err := os.Chmod(filepath.Join(k.root, "sys", hub, attribute), c.mode); err != nil {
				t.Fatal(err)
			}
		}
		k.events <- usbDevice("add", hub)
		if c.want == nil {
			k.events <- []byte("x") // taken only when all before is done
			if got := k.read("sys" + hub + attribute); c.mode != 0 && got != "0" {
				t.Errorf("%s: authorized_default = %q", name, got)
			}
			cancel()
		}
		if err := <-done; !errors.Is(err, c.want) {
			t.Errorf("%s: %v; want %v", name, err, c.want)
		}
		cancel()
	}
}
