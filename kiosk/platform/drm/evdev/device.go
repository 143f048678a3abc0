package evdev

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of linux/input.h: the direction, the size of the argument, the
// letter E and a number.
const (
	iocRead     = 2
	iocWrite    = 1
	eviocGrab   = iocWrite<<30 | 4<<16 | 'E'<<8 | 0x90
	nrName      = 0x06
	nrProp      = 0x09
	nrBit       = 0x20
	nrAbs       = 0x40
	propDirect  = 1
	propPointer = 0
)

// kernelDevice is a device of the running kernel.
type kernelDevice struct{ *os.File }

// openDevice opens a device node. Reads wait in the runtime's poller, so that
// Close ends them.
func openDevice(path string) (Device, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil || fi.Mode()&os.ModeCharDevice == 0 {
		f.Close()
		return nil, fmt.Errorf("%s is not a character device", path)
	}
	return kernelDevice{f}, nil
}

func (d kernelDevice) ioctl(req uintptr, arg unsafe.Pointer) error {
	conn, err := d.SyscallConn()
	if err != nil {
		return err
	}
	var errno unix.Errno
	err = conn.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, req, uintptr(arg))
	})
	runtime.KeepAlive(arg)
	if err == nil && errno != 0 {
		err = errno
	}
	return err
}

// bytes asks for a bit field or string.
func (d kernelDevice) bytes(nr uintptr, b []byte) error {
	return d.ioctl(iocRead<<30|uintptr(len(b))<<16|'E'<<8|nr, unsafe.Pointer(&b[0]))
}

// Grab implements Device.
func (d kernelDevice) Grab() error {
	// EVIOCGRAB takes its argument by value: any pointer that is not nil.
	var one int32
	if err := d.ioctl(eviocGrab, unsafe.Pointer(&one)); err != nil {
		return fmt.Errorf("grab: %w", err)
	}
	return nil
}

// bits is a bit field of the kernel: little endian longs on all machines that
// this program runs on.
type bits []byte

func (b bits) has(n int) bool { return n/8 < len(b) && b[n/8]&(1<<(n%8)) != 0 }

// Caps implements Device.
func (d kernelDevice) Caps() (Caps, error) {
	types, keys, rel, abs, props := make(bits, 8), make(bits, 96), make(bits, 8), make(bits, 8), make(bits, 8)
	var name [64]byte
	if err := d.bytes(nrBit, types); err != nil {
		return Caps{}, fmt.Errorf("ask for event types: %w", err)
	}
	for _, q := range []struct {
		typ int
		b   bits
	}{{evKey, keys}, {evRel, rel}, {evAbs, abs}} {
		if types.has(q.typ) {
			if err := d.bytes(nrBit+uintptr(q.typ), q.b); err != nil {
				return Caps{}, fmt.Errorf("ask for codes of type %d: %w", q.typ, err)
			}
		}
	}
	// Old drivers know neither name nor properties.
	_ = d.bytes(nrName, name[:])
	_ = d.bytes(nrProp, props)
	c := capsOf(keys, rel, abs, props)
	c.Name = unix.ByteSliceToString(name[:])
	for _, a := range []struct {
		want bool
		code uintptr
		axis *Axis
	}{{c.Abs, absX, &c.X}, {c.Abs, absY, &c.Y}, {c.MT, absMTX, &c.MTX}, {c.MT, absMTY, &c.MTY}} {
		if !a.want {
			continue
		}
		var info struct{ value, min, max, fuzz, flat, resolution int32 }
		if err := d.ioctl(iocRead<<30|unsafe.Sizeof(info)<<16|'E'<<8|(nrAbs+a.code), unsafe.Pointer(&info)); err != nil {
			return Caps{}, fmt.Errorf("ask for the range of axis %#x: %w", a.code, err)
		}
		*a.axis = Axis{info.min, info.max}
	}
	return c, nil
}

// capsOf decides what a device is from its bit fields.
func capsOf(keys, rel, abs, props bits) Caps {
	c := Caps{
		Rel: rel.has(relX) && rel.has(relY),
		Abs: abs.has(absX) && abs.has(absY),
		MT:  abs.has(absMTSlot) && abs.has(absMTX) && abs.has(absMTY),
	}
	for code := range german {
		c.Keys = c.Keys || keys.has(int(code))
	}
	for code := range named {
		c.Keys = c.Keys || keys.has(int(code))
	}
	c.Touch = props.has(propDirect) || keys.has(btnTouch) && !keys.has(btnLeft)
	if props.has(propPointer) && !props.has(propDirect) {
		// A touch pad: its slots are not places on the screen.
		c.MT, c.Abs, c.Touch = false, false, false
	}
	return c
}
