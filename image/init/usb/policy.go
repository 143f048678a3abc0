package usb

import (
	"slices"

	"ktradv/internal/readers"
	"ktradv/internal/terminal"
)

// Kind is what a device is to the terminal.
type Kind uint8

// The kinds.
const (
	Refused Kind = iota
	Hub
	Reader // card reader of a model that the product or the configuration knows
	Touch  // input device that the configuration allows
)

// Reason says why a device is refused.
type Reason uint8

// The reasons.
const (
	ReasonNone       Reason = iota
	ReasonMalformed         // descriptors that cannot be read
	ReasonUnknown           // in no list
	ReasonReader            // a card reader of a model that is in no list
	ReasonInterfaces        // of a listed model, but with interfaces that such a device has not (keyboard, storage, ...)
	ReasonFirmware          // a listed reader with firmware that does not work
	ReasonKeys              // an allowed input device that turned out to type
)

// Policy decides which devices are let in.
type Policy struct {
	Readers []readers.Model
	Allow   []terminal.USBDevice
}

// NewPolicy is the policy of a configuration.
func NewPolicy(c *terminal.Config) Policy { return Policy{c.Models(), c.USB.Allow} }

// keyboard reports whether an interface says that it is a keyboard (HID boot protocol).
func (i Interface) keyboard() bool { return i.Class == ClassHID && i.Protocol == 1 }

// Judge decides about a device by vendor, product and every interface of every configuration.
//
//	a hub       has hub interfaces only
//	a reader    is a model of the table or allowed as "reader", with CCID or vendor specific interfaces only
//	a touch     is allowed as "touch", with HID interfaces only, none of them a keyboard
func (p Policy) Judge(d Device) (Kind, Reason) {
	only := func(ok func(Interface) bool) bool {
		return !slices.ContainsFunc(d.Interfaces, func(i Interface) bool { return !ok(i) })
	}
	if d.Class == ClassHub || slices.ContainsFunc(d.Interfaces, func(i Interface) bool { return i.Class == ClassHub }) {
		if d.Class == ClassHub && only(func(i Interface) bool { return i.Class == ClassHub }) {
			return Hub, ReasonNone
		}
		return Refused, ReasonInterfaces
	}
	reader := func() (Kind, Reason) {
		if !only(func(i Interface) bool { return i.Class == ClassCCID || i.Class == ClassVendor }) {
			return Refused, ReasonInterfaces
		}
		return Reader, ReasonNone
	}
	for _, a := range p.Allow {
		if id, err := readers.ParseUSB(a.ID); err != nil || id != d.ID {
			continue
		}
		switch a.Class {
		case terminal.USBTouch:
			if !only(func(i Interface) bool { return i.Class == ClassHID && !i.keyboard() }) {
				return Refused, ReasonInterfaces
			}
			return Touch, ReasonNone
		case terminal.USBReader:
			return reader()
		}
	}
	if m, ok := readers.FindUSB(p.Readers, d.ID); ok {
		if m.MinFirmware != "" {
			if least, err := readers.ParseFirmware(m.MinFirmware); err != nil || d.Firmware < least {
				return Refused, ReasonFirmware
			}
		}
		return reader()
	}
	if slices.ContainsFunc(d.Interfaces, func(i Interface) bool { return i.Class == ClassCCID }) {
		return Refused, ReasonReader
	}
	return Refused, ReasonUnknown
}
