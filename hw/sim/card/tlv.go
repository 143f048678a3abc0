package card

import "errors"

var errTLV = errors.New("malformed data object")

// nextTLV splits the first BER-TLV data object off b. Tags have at most two
// octets and lengths are definite, shortest form, of at most three octets, as
// everywhere in gemSpec_COS.
func nextTLV(b []byte) (tag uint16, value, rest []byte, err error) {
	if len(b) < 2 {
		return 0, nil, nil, errTLV
	}
	tag, b = uint16(b[0]), b[1:]
	if tag&0x1F == 0x1F {
		if b[0]&0x80 != 0 || b[0] < 0x1F {
			return 0, nil, nil, errTLV
		}
		tag, b = tag<<8|uint16(b[0]), b[1:]
	}
	if len(b) == 0 {
		return 0, nil, nil, errTLV
	}
	n, size := int(b[0]), 1
	switch {
	case n == 0x81 && len(b) >= 2 && b[1] >= 0x80:
		n, size = int(b[1]), 2
	case n == 0x82 && len(b) >= 3 && b[1] != 0:
		n, size = int(b[1])<<8|int(b[2]), 3
	case n >= 0x80:
		return 0, nil, nil, errTLV
	}
	if n > len(b)-size {
		return 0, nil, nil, errTLV
	}
	return tag, b[size : size+n], b[size+n:], nil
}

// expectTLV is nextTLV for a known tag.
func expectTLV(b []byte, want uint16) (value, rest []byte, err error) {
	tag, v, rest, err := nextTLV(b)
	if err != nil {
		return nil, nil, err
	}
	if tag != want {
		return nil, nil, errTLV
	}
	return v, rest, nil
}

// onlyTLV is expectTLV for the last object in b.
func onlyTLV(b []byte, want uint16) ([]byte, error) {
	v, rest, err := expectTLV(b, want)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, errTLV
	}
	return v, nil
}

// appendTLV appends a data object. Values are shorter than 64 KiB.
func appendTLV(b []byte, tag uint16, value ...byte) []byte {
	if tag > 0xFF {
		b = append(b, byte(tag>>8))
	}
	b = append(b, byte(tag))
	switch n := len(value); {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 0x100:
		b = append(b, 0x81, byte(n))
	default:
		b = append(b, 0x82, byte(n>>8), byte(n))
	}
	return append(b, value...)
}
