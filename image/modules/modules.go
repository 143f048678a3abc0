// Package modules names the kernel modules that every terminal has, whatever its hardware. The image builder puts them and
// what they depend on into the image, the init process loads them. What only one kind of hardware needs (display, network
// and disk controllers) is named by the overlay, in terminal.json under modules.extra.
package modules

// Module is one kernel module.
type Module struct {
	Name   string // with underscores
	Reason string // why every terminal has it
}

// Base lists the modules in the order of loading; those that they depend on come first by themselves.
var Base = []Module{
	{"evdev", "touch screen as /dev/input/event*"},
	{"xhci_pci", "USB 3 host: card reader, touch screen"},
	{"usbhid", "touch screens on USB"},
	{"hid_generic", "touch screens on USB: one finger"},
	{"hid_multitouch", "touch screens on USB: several fingers"},
	{"crc32c_generic", "checksum that ext4 asks the kernel for by name, not as a dependency"},
	{"ext4", "data partition"},
	{"button", "power button: ordered stop"},
	{"8021q", "VLAN"},
}
