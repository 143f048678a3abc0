package kms

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"os"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"ktradv/kiosk/platform"
)

// Bounds on what a driver may report.
const (
	maxIDs   = 64
	maxModes = 256
	maxProps = 64
)

// flipTimeout is how long a flip may take: many periods of the slowest display.
const flipTimeout = 250 * time.Millisecond

// Numbers of the requests (include/uapi/drm/drm.h), all of them 'd'.
const (
	nrVersion      = 0x00
	nrGetResources = 0xa0
	nrSetCRTC      = 0xa2
	nrGetEncoder   = 0xa6
	nrGetConnector = 0xa7
	nrGetProperty  = 0xaa
	nrSetProperty  = 0xab
	nrAddFB        = 0xae
	nrRmFB         = 0xaf
	nrPageFlip     = 0xb0
	nrDirtyFB      = 0xb1
	nrCreateDumb   = 0xb2
	nrMapDumb      = 0xb3
	nrDestroyDumb  = 0xb4

	flipEvent   = 1 // DRM_MODE_PAGE_FLIP_EVENT
	eventFlip   = 2 // DRM_EVENT_FLIP_COMPLETE
	connected   = 1
	eventHeader = 8 // bytes of struct drm_event
)

// The arguments of the requests, laid out as the kernel has them
// (include/uapi/drm/drm_mode.h). Pointers are 64 bits wide on every machine.
type (
	cVersion struct {
		Major, Minor, Patch int32
		_                   int32
		NameLen, Name       uint64
		DateLen, Date       uint64
		DescLen, Desc       uint64
	}
	cResources struct {
		FBs, CRTCs, Connectors, Encoders     uint64
		NFBs, NCRTCs, NConnectors, NEncoders uint32
		MinW, MaxW, MinH, MaxH               uint32
	}
	cCRTC struct {
		Connectors                uint64
		NConnectors, ID, FB, X, Y uint32
		GammaSize, ModeValid      uint32
		Mode                      Mode
	}
	cEncoder   struct{ ID, Type, CRTC, PossibleCRTCs, PossibleClones uint32 }
	cConnector struct {
		Encoders, Modes, Props, PropValues uint64
		NModes, NProps, NEncoders          uint32
		Encoder, ID, Type, TypeID          uint32
		Connection, MMWidth, MMHeight      uint32
		Subpixel, _                        uint32
	}
	cProperty struct {
		Values, Enums   uint64
		ID, Flags       uint32
		Name            [32]byte
		NValues, NEnums uint32
	}
	cSetProperty struct {
		Value         uint64
		ID, Connector uint32
	}
	cFB struct {
		ID, Width, Height, Pitch, BPP, Depth, Handle uint32
	}
	cFlip struct {
		CRTC, FB, Flags, _ uint32
		UserData           uint64
	}
	cDirty struct {
		FB, Flags, Color, NClips uint32
		Clips                    uint64
	}
	cClip       struct{ X1, Y1, X2, Y2 uint16 }
	cCreateDumb struct {
		Height, Width, BPP, Flags uint32
		Handle, Pitch             uint32
		Size                      uint64
	}
	cMapDumb struct {
		Handle, _ uint32
		Offset    uint64
	}
)

// connectorTypes are the kernel's names of connector types, by number.
var connectorTypes = [...]string{
	"Unknown", "VGA", "DVI-I", "DVI-D", "DVI-A", "Composite", "SVIDEO", "LVDS", "Component", "DIN", "DP",
	"HDMI-A", "HDMI-B", "TV", "eDP", "Virtual", "DSI", "DPI", "Writeback", "SPI", "USB",
}

func connectorName(typ, id uint32) string {
	name := connectorTypes[0]
	if int(typ) < len(connectorTypes) {
		name = connectorTypes[typ]
	}
	return name + "-" + strconv.FormatUint(uint64(id), 10)
}

// kernelCard is a card of the running kernel.
type kernelCard struct {
	f *os.File
}

// Open opens a card's device node.
func Open(path string) (Card, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open display card: %w", err)
	}
	return &kernelCard{f}, nil
}

// ioctl makes one request. Slices whose address is in arg must be pinned.
func ioctl[T any](c *kernelCard, nr uintptr, arg *T) error {
	conn, err := c.f.SyscallConn()
	if err != nil {
		return err
	}
	// Read and write: the kernel's macros say so for all of these.
	req := 3<<30 | unsafe.Sizeof(*arg)<<16 | 'd'<<8 | nr
	var errno unix.Errno
	err = conn.Control(func(fd uintptr) {
		for range 100 {
			_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, req, uintptr(unsafe.Pointer(arg)))
			if errno != unix.EINTR && errno != unix.EAGAIN {
				return
			}
		}
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return err
}

// ptr is the address of a slice's first element for a request.
func ptr[T any](s []T) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(s)))) }

// pin keeps a slice at its place while a request has its address as a number.
func pin[T any](p *runtime.Pinner, s []T) {
	if cap(s) > 0 {
		p.Pin(unsafe.SliceData(s))
	}
}

// Driver implements Card.
func (c *kernelCard) Driver() (string, error) {
	var p runtime.Pinner
	defer p.Unpin()
	name := make([]byte, 32)
	pin(&p, name)
	v := cVersion{NameLen: uint64(len(name)), Name: ptr(name)}
	if err := ioctl(c, nrVersion, &v); err != nil {
		return "", fmt.Errorf("ask for the driver: %w", err)
	}
	return string(name[:min(v.NameLen, uint64(len(name)))]), nil
}

// Resources implements Card.
func (c *kernelCard) Resources() (Resources, error) {
	var p runtime.Pinner
	defer p.Unpin()
	r := Resources{CRTCs: make([]uint32, maxIDs), Connectors: make([]uint32, maxIDs)}
	pin(&p, r.CRTCs)
	pin(&p, r.Connectors)
	a := cResources{CRTCs: ptr(r.CRTCs), Connectors: ptr(r.Connectors), NCRTCs: maxIDs, NConnectors: maxIDs}
	if err := ioctl(c, nrGetResources, &a); err != nil {
		return Resources{}, fmt.Errorf("list outputs: %w", err)
	}
	r.CRTCs, r.Connectors = r.CRTCs[:min(a.NCRTCs, maxIDs)], r.Connectors[:min(a.NConnectors, maxIDs)]
	return r, nil
}

// Connector implements Card.
func (c *kernelCard) Connector(id uint32) (Connector, error) {
	var p runtime.Pinner
	defer p.Unpin()
	encoders, modes := make([]uint32, maxIDs), make([]Mode, maxModes)
	props, values := make([]uint32, maxProps), make([]uint64, maxProps)
	pin(&p, encoders)
	pin(&p, modes)
	pin(&p, props)
	pin(&p, values)
	// The kernel probes the output in a request with room for no modes, and
	// fills in lists only where they fit.
	probe := cConnector{ID: id}
	if err := ioctl(c, nrGetConnector, &probe); err != nil {
		return Connector{}, fmt.Errorf("probe output %d: %w", id, err)
	}
	a := cConnector{
		ID: id, Encoders: ptr(encoders), Modes: ptr(modes), Props: ptr(props), PropValues: ptr(values),
		NModes: maxModes, NProps: maxProps, NEncoders: maxIDs,
	}
	if err := ioctl(c, nrGetConnector, &a); err != nil {
		return Connector{}, fmt.Errorf("ask for output %d: %w", id, err)
	}
	out := Connector{
		ID: id, Name: connectorName(a.Type, a.TypeID), Connected: a.Connection == connected, Encoder: a.Encoder,
		Encoders: encoders[:min(a.NEncoders, maxIDs)], MM: image.Pt(int(min(a.MMWidth, 1<<16)), int(min(a.MMHeight, 1<<16))),
	}
	if a.NModes <= maxModes {
		out.Modes = modes[:a.NModes]
	}
	if a.NProps <= maxProps {
		for _, id := range props[:a.NProps] {
			prop := cProperty{ID: id}
			if err := ioctl(c, nrGetProperty, &prop); err == nil && unix.ByteSliceToString(prop.Name[:]) == "DPMS" {
				out.DPMS = id
			}
		}
	}
	return out, nil
}

// Encoder implements Card.
func (c *kernelCard) Encoder(id uint32) (Encoder, error) {
	a := cEncoder{ID: id}
	if err := ioctl(c, nrGetEncoder, &a); err != nil {
		return Encoder{}, fmt.Errorf("ask for encoder %d: %w", id, err)
	}
	return Encoder{CRTC: a.CRTC, Possible: a.PossibleCRTCs}, nil
}

// Create implements Card.
func (c *kernelCard) Create(size image.Point) (b Buffer, err error) {
	if !platform.ValidSize(size) {
		return Buffer{}, fmt.Errorf("create a buffer of %v: %w", size, platform.ErrSize)
	}
	d := cCreateDumb{Width: uint32(size.X), Height: uint32(size.Y), BPP: 32}
	if err := ioctl(c, nrCreateDumb, &d); err != nil {
		return Buffer{}, fmt.Errorf("create a buffer of %v: %w", size, err)
	}
	b.Handle, b.Pitch = d.Handle, int(d.Pitch)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Destroy(b))
			b = Buffer{}
		}
	}()
	if err := checkBuffer(size, uint64(d.Pitch), d.Size); err != nil {
		return b, err
	}
	fb := cFB{Width: d.Width, Height: d.Height, Pitch: d.Pitch, BPP: 32, Depth: 24, Handle: d.Handle}
	if err := ioctl(c, nrAddFB, &fb); err != nil {
		return b, fmt.Errorf("register a buffer of %v: %w", size, err)
	}
	b.FB = fb.ID
	m := cMapDumb{Handle: d.Handle}
	if err := ioctl(c, nrMapDumb, &m); err != nil {
		return b, fmt.Errorf("map a buffer of %v: %w", size, err)
	}
	conn, err := c.f.SyscallConn()
	if err != nil {
		return b, err
	}
	cerr := conn.Control(func(fd uintptr) {
		b.Pix, err = unix.Mmap(int(fd), int64(m.Offset), int(d.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	})
	if err = errors.Join(err, cerr); err != nil {
		return b, fmt.Errorf("map a buffer of %v: %w", size, err)
	}
	return b, nil
}

// checkBuffer refuses a buffer that cannot hold the picture.
func checkBuffer(size image.Point, pitch, bytes uint64) error {
	if pitch < 4*uint64(size.X) || pitch > 1<<20 || bytes > 1<<31 || pitch*uint64(size.Y-1)+4*uint64(size.X) > bytes {
		return fmt.Errorf("buffer of %v with pitch %d has %d bytes: %w", size, pitch, bytes, platform.ErrSize)
	}
	return nil
}

// Destroy implements Card.
func (c *kernelCard) Destroy(b Buffer) error {
	var errs []error
	if b.Pix != nil {
		errs = append(errs, unix.Munmap(b.Pix))
	}
	if b.FB != 0 {
		errs = append(errs, ioctl(c, nrRmFB, &b.FB))
	}
	if b.Handle != 0 {
		errs = append(errs, ioctl(c, nrDestroyDumb, &b.Handle))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("destroy a buffer: %w", err)
	}
	return nil
}

// SetMode implements Card.
func (c *kernelCard) SetMode(crtc, connector, fb uint32, m Mode) error {
	var p runtime.Pinner
	defer p.Unpin()
	ids := []uint32{connector}
	pin(&p, ids)
	a := cCRTC{ID: crtc}
	if fb != 0 {
		a.Connectors, a.NConnectors, a.FB, a.ModeValid, a.Mode = ptr(ids), 1, fb, 1, m
	}
	if err := ioctl(c, nrSetCRTC, &a); err != nil {
		return fmt.Errorf("set mode %v: %w", m.Size(), err)
	}
	return nil
}

// Flip implements Card.
func (c *kernelCard) Flip(crtc, fb uint32) error {
	a := cFlip{CRTC: crtc, FB: fb, Flags: flipEvent}
	return supported("flip", ioctl(c, nrPageFlip, &a))
}

// supported gives the errors of drivers without an operation one name.
func supported(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTTY):
		return fmt.Errorf("%s: %w: %w", what, ErrNotSupported, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// WaitFlip implements Card.
func (c *kernelCard) WaitFlip() error {
	if err := c.f.SetReadDeadline(time.Now().Add(flipTimeout)); err != nil {
		return fmt.Errorf("wait for the flip: %w", err)
	}
	buf := make([]byte, 1024)
	for {
		n, err := c.f.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return ErrTimeout
		}
		if err != nil {
			return fmt.Errorf("wait for the flip: %w", err)
		}
		if hasFlip(buf[:n]) {
			return nil
		}
	}
}

// hasFlip looks for a completed flip in a buffer of struct drm_event.
func hasFlip(b []byte) bool {
	for len(b) >= eventHeader {
		typ, n := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])
		if typ == eventFlip {
			return true
		}
		if n < eventHeader || uint64(n) > uint64(len(b)) {
			return false
		}
		b = b[n:]
	}
	return false
}

// Dirty implements Card.
func (c *kernelCard) Dirty(fb uint32, damage []image.Rectangle) error {
	var p runtime.Pinner
	defer p.Unpin()
	clips := make([]cClip, 0, platform.MaxDamage)
	for _, r := range damage {
		clips = append(clips, cClip{uint16(r.Min.X), uint16(r.Min.Y), uint16(r.Max.X), uint16(r.Max.Y)})
	}
	pin(&p, clips)
	a := cDirty{FB: fb, NClips: uint32(len(clips)), Clips: ptr(clips)}
	return supported("report damage", ioctl(c, nrDirtyFB, &a))
}

// SetDPMS implements Card.
func (c *kernelCard) SetDPMS(connector, property uint32, value uint64) error {
	a := cSetProperty{Value: value, ID: property, Connector: connector}
	if err := ioctl(c, nrSetProperty, &a); err != nil {
		return fmt.Errorf("set DPMS to %d: %w", value, err)
	}
	return nil
}

// Close implements Card.
func (c *kernelCard) Close() error { return c.f.Close() }
