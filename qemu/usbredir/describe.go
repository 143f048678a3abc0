package usbredir

import (
	"encoding/binary"
	"unicode/utf16"
)

// dirIn is the direction bit of an endpoint address and of a request type: towards the host.
const dirIn = 0x80

// Speed of a device.
type Speed byte

// Speeds.
const (
	FullSpeed Speed = 1
	HighSpeed Speed = 2
)

// Kind of an endpoint.
type Kind byte

// Kinds of endpoints.
const (
	Bulk      Kind = 2
	Interrupt Kind = 3
)

// Endpoint of an interface. Interval is in milliseconds at full speed.
type Endpoint struct {
	Address   byte
	Kind      Kind
	MaxPacket uint16
	Interval  byte
}

// Interface of the one configuration of a device.
type Interface struct {
	Class, SubClass, Protocol byte
	// Extra are class descriptors between the descriptor of the interface and those of its endpoints.
	Extra     []byte
	Endpoints []Endpoint
}

// Description is what a device tells about itself. Texts are in American English, as nearly all devices have them.
type Description struct {
	Speed                    Speed
	Class                    byte
	Vendor, Product, Version uint16
	Maker, Name, Serial      string // "" is none
	Interfaces               []Interface
}

// Types of descriptors, USB 2.0 table 9-5.
const (
	descDevice        = 1
	descConfiguration = 2
	descString        = 3
)

// descriptor answers a request for a standard descriptor.
func (d Description) descriptor(kind, number byte) ([]byte, bool) {
	switch {
	case kind == descDevice && number == 0:
		b := []byte{18, descDevice, 0x00, 0x02, d.Class, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
		binary.LittleEndian.PutUint16(b[8:], d.Vendor)
		binary.LittleEndian.PutUint16(b[10:], d.Product)
		binary.LittleEndian.PutUint16(b[12:], d.Version)
		for i, s := range []string{d.Maker, d.Name, d.Serial} {
			if s != "" {
				b[14+i] = byte(i + 1)
			}
		}
		return b, true
	case kind == descConfiguration && number == 0:
		b := []byte{9, descConfiguration, 0, 0, byte(len(d.Interfaces)), 1, 0, 0x80, 50}
		for i, f := range d.Interfaces {
			b = append(b, 9, 4, byte(i), 0, byte(len(f.Endpoints)), f.Class, f.SubClass, f.Protocol, 0)
			b = append(b, f.Extra...)
			for _, e := range f.Endpoints {
				b = append(b, 7, 5, e.Address, byte(e.Kind), byte(e.MaxPacket), byte(e.MaxPacket>>8), e.Interval)
			}
		}
		binary.LittleEndian.PutUint16(b[2:], uint16(len(b)))
		return b, true
	case kind == descString && number == 0:
		return []byte{4, descString, 0x09, 0x04}, true
	case kind == descString && number <= 3:
		s := []string{d.Maker, d.Name, d.Serial}[number-1]
		if s == "" {
			return nil, false
		}
		b := []byte{0, descString}
		for _, u := range utf16.Encode([]rune(s)) {
			b = binary.LittleEndian.AppendUint16(b, u)
		}
		b = b[:min(len(b), 254)]
		b[0] = byte(len(b))
		return b, true
	}
	return nil, false
}
