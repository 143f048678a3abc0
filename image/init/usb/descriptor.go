package usb

import (
	"encoding/binary"
	"errors"
	"fmt"

	"ktradv/internal/readers"
)

// Interface classes (USB-IF).
const (
	ClassHID     = 0x03
	ClassStorage = 0x08
	ClassHub     = 0x09
	ClassCCID    = 0x0B
	ClassVendor  = 0xFF
)

// Device is what a device says about itself.
type Device struct {
	ID       readers.USBID
	Firmware uint16 // bcdDevice
	Class    byte
	// Interfaces of all configurations and alternate settings.
	Interfaces []Interface
}

// Interface is one interface.
type Interface struct{ Class, SubClass, Protocol byte }

// Bounds of what is read from a device.
const (
	maxDescriptors = 64 << 10
	maxInterfaces  = 64
)

// ErrDescriptor marks descriptors that do not keep the standard.
var ErrDescriptor = errors.New("usb descriptors are malformed")

// Descriptor types and sizes (USB 2.0, chapter 9.6).
const (
	typeDevice, typeConfig, typeInterface = 1, 2, 4
	lenDevice, lenConfig, lenInterface    = 18, 9, 9
)

// ParseDescriptors reads the device descriptor and all configuration descriptors as the kernel gives them in the file
// "descriptors" of a device's folder in sysfs. A device without an interface, or with one byte out of place, is malformed:
// what cannot be read whole is not admitted.
func ParseDescriptors(b []byte) (Device, error) {
	fail := func(what string) (Device, error) { return Device{}, fmt.Errorf("%w: %s", ErrDescriptor, what) }
	if len(b) > maxDescriptors {
		return fail("too long")
	}
	if len(b) < lenDevice || b[0] != lenDevice || b[1] != typeDevice {
		return fail("device descriptor")
	}
	d := Device{
		ID:       readers.USBID{Vendor: binary.LittleEndian.Uint16(b[8:]), Product: binary.LittleEndian.Uint16(b[10:])},
		Firmware: binary.LittleEndian.Uint16(b[12:]), Class: b[4],
	}
	configs := int(b[17])
	b = b[lenDevice:]
	for n := range configs {
		if len(b) < lenConfig || b[0] != lenConfig || b[1] != typeConfig {
			return fail(fmt.Sprintf("configuration %d", n))
		}
		total, want := int(binary.LittleEndian.Uint16(b[2:])), int(b[4])
		if total < lenConfig || total > len(b) {
			return fail(fmt.Sprintf("length of configuration %d", n))
		}
		seen := make(map[byte]bool)
		for c := b[lenConfig:total]; len(c) > 0; {
			l := int(c[0])
			if l < 2 || l > len(c) {
				return fail(fmt.Sprintf("descriptor in configuration %d", n))
			}
			switch c[1] {
			case typeInterface:
				if l < lenInterface || len(d.Interfaces) == maxInterfaces {
					return fail(fmt.Sprintf("interface in configuration %d", n))
				}
				seen[c[2]] = true
				d.Interfaces = append(d.Interfaces, Interface{c[5], c[6], c[7]})
			case typeDevice, typeConfig:
				return fail(fmt.Sprintf("descriptor in configuration %d", n))
			}
			c = c[l:]
		}
		if len(seen) != want {
			return fail(fmt.Sprintf("number of interfaces of configuration %d", n))
		}
		b = b[total:]
	}
	if len(b) > 0 {
		return fail("more than the configurations")
	}
	if len(d.Interfaces) == 0 {
		return fail("no interface")
	}
	return d, nil
}
