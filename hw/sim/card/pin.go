package card

import (
	"crypto/subtle"
	"fmt"
)

// Block is a secret as a format-2 PIN block (ISO 9564-1): control nibble 2,
// number of digits, the digits, padding F.
type Block [8]byte

// String hides the secret.
func (Block) String() string { return "[redacted]" }

// GoString hides the secret.
func (Block) GoString() string { return "[redacted]" }

// NoSecret is the block without digits that a card with the transport state
// EmptyPIN holds.
var NoSecret = Block{0x20, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}

// NewBlock codes 0 to 12 digits.
func NewBlock(digits string) (Block, error) {
	b := NoSecret
	if len(digits) > 12 {
		return b, fmt.Errorf("PIN of %d digits", len(digits))
	}
	b[0] |= byte(len(digits))
	for i, d := range []byte(digits) {
		if d < '0' || d > '9' {
			return NoSecret, fmt.Errorf("PIN: position %d is not a digit", i+1)
		}
		n := d - '0'
		if i%2 == 0 {
			b[1+i/2] = n<<4 | 0x0F
		} else {
			b[1+i/2] = b[1+i/2]&0xF0 | n
		}
	}
	return b, nil
}

// digits returns the number of digits of a well-formed block with 4 to 12.
func (b Block) digits() (int, bool) {
	n := int(b[0] & 0x0F)
	if b[0]>>4 != 2 || n < 4 || n > 12 {
		return 0, false
	}
	for i := range 14 {
		d := b[1+i/2]
		if i%2 == 0 {
			d >>= 4
		}
		d &= 0x0F
		if i < n && d > 9 || i >= n && d != 0x0F {
			return 0, false
		}
	}
	return n, true
}

// equal compares two blocks in constant time.
func (b Block) equal(o Block) bool { return subtle.ConstantTimeCompare(b[:], o[:]) == 1 }
