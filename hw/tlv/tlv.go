// Package tlv reads and writes the BER-TLV data objects of ISO/IEC 7816-4 as far as cards use them: tags of one to
// three octets, definite lengths up to 65535. Values refer to the input, nothing is copied.
package tlv

import (
	"errors"
	"fmt"
)

// ErrMalformed is wrapped by every error of this package.
var ErrMalformed = errors.New("malformed data object")

// Object is one data object.
type Object struct {
	Tag   uint32 // all tag octets, big-endian: 5F29 is 0x5F29
	Value []byte
	Raw   []byte // tag, length and value as they stand in the input
}

// Constructed reports whether the value itself consists of data objects.
func (o Object) Constructed() bool {
	t := o.Tag
	for t > 0xFF {
		t >>= 8
	}
	return t&0x20 != 0
}

// Next reads the first data object of b and returns what follows it.
func Next(b []byte) (Object, []byte, error) {
	if len(b) == 0 {
		return Object{}, nil, fmt.Errorf("%w: no octets", ErrMalformed)
	}
	tag, n := uint32(b[0]), 1
	if tag == 0 || tag == 0xFF {
		return Object{}, nil, fmt.Errorf("%w: tag %02X", ErrMalformed, tag)
	}
	if tag&0x1F == 0x1F {
		for {
			if n == len(b) || n == 3 {
				return Object{}, nil, fmt.Errorf("%w: tag does not end", ErrMalformed)
			}
			tag = tag<<8 | uint32(b[n])
			n++
			if b[n-1]&0x80 == 0 {
				break
			}
		}
	}
	if n == len(b) {
		return Object{}, nil, fmt.Errorf("%w: tag %X without length", ErrMalformed, tag)
	}
	length := int(b[n])
	n++
	if length >= 0x80 {
		k := length & 0x7F
		if k == 0 || k > 2 || n+k > len(b) {
			return Object{}, nil, fmt.Errorf("%w: tag %X with length field of %d octets", ErrMalformed, tag, k)
		}
		length = 0
		for _, x := range b[n : n+k] {
			length = length<<8 | int(x)
		}
		n += k
	}
	if length > len(b)-n {
		return Object{}, nil, fmt.Errorf("%w: tag %X with length %d, %d octets left", ErrMalformed, tag, length, len(b)-n)
	}
	end := n + length
	return Object{Tag: tag, Value: b[n:end:end], Raw: b[:end:end]}, b[end:], nil
}

// Parse reads data objects until b is used up.
func Parse(b []byte) ([]Object, error) {
	var all []Object
	for len(b) > 0 {
		o, rest, err := Next(b)
		if err != nil {
			return nil, fmt.Errorf("data object %d: %w", len(all)+1, err)
		}
		all, b = append(all, o), rest
	}
	return all, nil
}

// Only reads one data object that has to have the given tag and to fill b, and returns its value.
func Only(b []byte, tag uint32) ([]byte, error) {
	o, rest, err := Next(b)
	if err != nil {
		return nil, fmt.Errorf("want tag %X: %w", tag, err)
	}
	if o.Tag != tag {
		return nil, fmt.Errorf("%w: want tag %X, have %X", ErrMalformed, tag, o.Tag)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d octets behind tag %X", ErrMalformed, len(rest), tag)
	}
	return o.Value, nil
}

// Append writes one data object with the shortest length field behind dst. The value is the concatenation of the parts.
func Append(dst []byte, tag uint32, parts ...[]byte) []byte {
	length := 0
	for _, p := range parts {
		length += len(p)
	}
	dst = appendBig(dst, tag)
	switch {
	case length < 0x80:
		dst = append(dst, byte(length))
	case length <= 0xFF:
		dst = append(dst, 0x81, byte(length))
	case length <= 0xFFFF:
		dst = append(dst, 0x82, byte(length>>8), byte(length))
	default:
		l := appendBig(nil, uint32(length))
		dst = append(dst, 0x80|byte(len(l)))
		dst = append(dst, l...)
	}
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return dst
}

func appendBig(dst []byte, v uint32) []byte {
	for shift := 24; shift >= 0; shift -= 8 {
		if v>>shift != 0 || shift == 0 {
			dst = append(dst, byte(v>>shift))
		}
	}
	return dst
}
