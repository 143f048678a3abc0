package usb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Bounds of a message of the kernel (UEVENT_BUFFER_SIZE is 2048).
const (
	maxUevent = 8 << 10
	maxProps  = 64
)

// Event is one message of the kernel about a device.
type Event struct {
	Action, Path string // "add", "/devices/..."
	Subsystem    string
	Type         string // DEVTYPE
	Node         string // DEVNAME below /dev, "" for a device without a node
	Major, Minor string
	props        []byte // KEY=VALUE, each ended by NUL
}

// ErrUevent marks a message that is none of the kernel's.
var ErrUevent = errors.New("uevent is malformed")

// ParseUevent reads a message: "action@path", then KEY=VALUE, each ended by NUL.
func ParseUevent(b []byte) (Event, error) {
	fail := func(what string) (Event, error) { return Event{}, fmt.Errorf("%w: %s", ErrUevent, what) }
	if len(b) == 0 || len(b) > maxUevent || b[len(b)-1] != 0 {
		return fail("length")
	}
	head, props, _ := bytes.Cut(b, []byte{0})
	action, path, ok := strings.Cut(string(head), "@")
	if !ok || action == "" || !validPath(path) {
		return fail("head")
	}
	e := Event{Action: action, Path: path, props: bytes.Clone(props)}
	n := 0
	for p := range bytes.SplitSeq(props, []byte{0}) {
		if len(p) == 0 {
			continue
		}
		if n++; n > maxProps {
			return fail("too many properties")
		}
		k, v, ok := strings.Cut(string(p), "=")
		if !ok || k == "" {
			return fail("property")
		}
		switch k {
		case "ACTION":
			if v != action {
				return fail("action")
			}
		case "DEVPATH":
			if v != path {
				return fail("path")
			}
		case "SUBSYSTEM":
			e.Subsystem = v
		case "DEVTYPE":
			e.Type = v
		case "DEVNAME":
			if e.Node = v; !validPath("/" + v) {
				return fail("node")
			}
		case "MAJOR", "MINOR":
			if v == "" || len(v) > 8 || strings.Trim(v, "0123456789") != "" {
				return fail("number")
			}
			if k == "MAJOR" {
				e.Major = v
			} else {
				e.Minor = v
			}
		}
	}
	return e, nil
}

// validPath allows absolute paths without "." and ".." elements and control characters.
func validPath(p string) bool {
	if len(p) < 2 || len(p) > 1024 || p[0] != '/' || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' }) {
		return false
	}
	return !slices.ContainsFunc(strings.Split(p[1:], "/"), func(e string) bool { return e == "" || e == "." || e == ".." })
}

// record is the name of the device's entry in libudev's database.
func (e Event) record() string {
	if e.Major != "" && e.Minor != "" {
		kind := "c"
		if e.Subsystem == "block" {
			kind = "b"
		}
		return kind + e.Major + ":" + e.Minor
	}
	return "+" + e.Subsystem + ":" + e.Path[strings.LastIndexByte(e.Path, '/')+1:]
}

// libudev's message: fixed header, then the kernel's properties.
const (
	udevMagic  = 0xfeedcafe
	udevHeader = 40
)

// Relayed is the message in the form in which libudev's monitors (pcscd, libusb) take it.
func (e Event) Relayed() []byte {
	b := make([]byte, udevHeader, udevHeader+len(e.props))
	copy(b, "libudev\x00")
	binary.BigEndian.PutUint32(b[8:], udevMagic)
	binary.NativeEndian.PutUint32(b[12:], udevHeader)
	binary.NativeEndian.PutUint32(b[16:], udevHeader)
	binary.NativeEndian.PutUint32(b[20:], uint32(len(e.props)))
	binary.BigEndian.PutUint32(b[24:], murmur2(e.Subsystem))
	if e.Type != "" {
		binary.BigEndian.PutUint32(b[28:], murmur2(e.Type))
	}
	// No tags: both words of the bloom filter stay 0.
	return append(b, e.props...)
}

// murmur2 is MurmurHash2 with seed 0, which libudev's socket filters compare.
func murmur2(s string) uint32 {
	const m, r = 0x5bd1e995, 24
	b := []byte(s)
	h := uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := binary.LittleEndian.Uint32(b) * m
		k ^= k >> r
		h = h*m ^ k*m
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(b[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
