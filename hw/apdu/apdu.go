// Package apdu holds the two messages that a smart card understands, the command APDU and the response APDU of
// ISO/IEC 7816-3/-4, and the one seam through which the whole product talks to a card: [Transmitter].
//
// A reader on the desk, a simulated card in a test and the relay from the server through the terminal all implement
// Transmitter, so that everything above it (typed commands, card-to-card, file codecs) is written once.
//
// Parsing is strict: an octet string is either exactly one of the seven encodings (cases 1, 2, 3, 4, the last three in
// short and extended form) or an error. Printing a command or a response never prints its data, which may hold a PIN
// or personal data; only the header, the lengths and the status word appear.
package apdu

import (
	"errors"
	"fmt"
)

// Limits of the encodings, in octets.
const (
	MaxShortData = 255   // longest data field of a short command
	MaxShortNe   = 256   // Ne of a short command with Le = 00
	MaxData      = 65535 // longest data field of an extended command
	MaxNe        = 65536 // Ne of an extended command with Le = 0000

	maxResponse = MaxNe + 2
)

// Errors of the codecs. They arrive wrapped with what was wrong.
var (
	ErrMalformedCommand  = errors.New("malformed command APDU")
	ErrMalformedResponse = errors.New("malformed response APDU")
)

// Command is a command APDU. The zero values of Data and Ne mean that the field is absent.
type Command struct {
	CLA, INS, P1, P2 byte
	// Data is the command data field, at most 65535 octets.
	Data []byte
	// Ne is the greatest number of response octets expected: 0 none (Le absent), 256 with the short form the
	// wildcard 00, 65536 with the extended form the wildcard 0000.
	Ne int
	// Extended forces the extended length form. Without it the short form is used whenever Data and Ne fit. It has no
	// effect on a command with neither data nor Le, which has one encoding only.
	Extended bool
}

// IsExtended reports whether Bytes uses the extended length form.
func (c Command) IsExtended() bool {
	if len(c.Data) == 0 && c.Ne == 0 {
		return false
	}
	return c.Extended || len(c.Data) > MaxShortData || c.Ne > MaxShortNe
}

// Bytes encodes the command. It fails only when a field is out of range.
func (c Command) Bytes() ([]byte, error) {
	if len(c.Data) > MaxData {
		return nil, fmt.Errorf("%w: %d data octets, at most %d", ErrMalformedCommand, len(c.Data), MaxData)
	}
	if c.Ne < 0 || c.Ne > MaxNe {
		return nil, fmt.Errorf("%w: Ne %d is not within 0 to %d", ErrMalformedCommand, c.Ne, MaxNe)
	}
	b := make([]byte, 0, 4+3+len(c.Data)+2)
	b = append(b, c.CLA, c.INS, c.P1, c.P2)
	n := len(c.Data)
	if !c.IsExtended() {
		if n > 0 {
			b = append(b, byte(n))
			b = append(b, c.Data...)
		}
		if c.Ne > 0 {
			b = append(b, byte(c.Ne)) // 256 becomes 00
		}
		return b, nil
	}
	b = append(b, 0)
	if n > 0 {
		b = append(b, byte(n>>8), byte(n))
		b = append(b, c.Data...)
	}
	if c.Ne > 0 {
		b = append(b, byte(c.Ne>>8), byte(c.Ne)) // 65536 becomes 0000
	}
	return b, nil
}

// Parse decodes a command APDU. Data refers to b, it is not copied. Extended is set exactly when b has the extended
// form, so that Bytes gives b back.
func Parse(b []byte) (Command, error) {
	if len(b) < 4 {
		return Command{}, fmt.Errorf("%w: %d octets are no header", ErrMalformedCommand, len(b))
	}
	c := Command{CLA: b[0], INS: b[1], P1: b[2], P2: b[3]}
	body := b[4:]
	switch {
	case len(body) == 0: // case 1
		return c, nil
	case len(body) == 1: // case 2 short
		c.Ne = shortNe(body[0])
		return c, nil
	case body[0] != 0: // case 3 or 4 short
		n := int(body[0])
		rest := body[1:]
		switch len(rest) {
		case n:
			c.Data = rest
		case n + 1:
			c.Data, c.Ne = rest[:n:n], shortNe(rest[n])
		default:
			return Command{}, fmt.Errorf("%w: Lc %d with %d octets behind it", ErrMalformedCommand, n, len(rest))
		}
		return c, nil
	}
	c.Extended = true
	if len(body) < 3 {
		return Command{}, fmt.Errorf("%w: length field of %d octets", ErrMalformedCommand, len(body))
	}
	if len(body) == 3 { // case 2 extended
		c.Ne = extendedNe(body[1:])
		return c, nil
	}
	n := int(body[1])<<8 | int(body[2])
	if n == 0 {
		return Command{}, fmt.Errorf("%w: extended Lc 0", ErrMalformedCommand)
	}
	rest := body[3:]
	switch len(rest) {
	case n:
		c.Data = rest
	case n + 2:
		c.Data, c.Ne = rest[:n:n], extendedNe(rest[n:])
	default:
		return Command{}, fmt.Errorf("%w: extended Lc %d with %d octets behind it", ErrMalformedCommand, n, len(rest))
	}
	return c, nil
}

func shortNe(le byte) int {
	if le == 0 {
		return MaxShortNe
	}
	return int(le)
}

func extendedNe(le []byte) int {
	if n := int(le[0])<<8 | int(le[1]); n != 0 {
		return n
	}
	return MaxNe
}

// String names the header and the lengths, never the data.
func (c Command) String() string {
	return fmt.Sprintf("%02X%02X%02X%02X[Nc %d, Ne %d]", c.CLA, c.INS, c.P1, c.P2, len(c.Data), c.Ne)
}

// Format prints the same for every verb, so that %x or %+v cannot show the data either.
func (c Command) Format(w fmt.State, _ rune) { fmt.Fprint(w, c.String()) }

// Response is a response APDU.
type Response struct {
	Data []byte
	SW   uint16 // status word SW1‖SW2, 9000 = success
}

// SWOK is the status word of success.
const SWOK uint16 = 0x9000

// OK reports whether the status word is 9000.
func (r Response) OK() bool { return r.SW == SWOK }

// Bytes encodes the response.
func (r Response) Bytes() []byte {
	b := make([]byte, 0, len(r.Data)+2)
	b = append(b, r.Data...)
	return append(b, byte(r.SW>>8), byte(r.SW))
}

// ParseResponse decodes a response APDU. Data refers to b, it is not copied. The status word has to be one that
// ISO/IEC 7816-3 allows: 61xx to 6Fxx or 9xxx.
func ParseResponse(b []byte) (Response, error) {
	if len(b) < 2 {
		return Response{}, fmt.Errorf("%w: %d octets hold no status word", ErrMalformedResponse, len(b))
	}
	if len(b) > maxResponse {
		return Response{}, fmt.Errorf("%w: %d octets, at most %d", ErrMalformedResponse, len(b), maxResponse)
	}
	n := len(b) - 2
	sw := uint16(b[n])<<8 | uint16(b[n+1])
	if c := sw >> 12; c != 0x6 && c != 0x9 || sw>>8 == 0x60 {
		return Response{}, fmt.Errorf("%w: %04X is no status word", ErrMalformedResponse, sw)
	}
	r := Response{SW: sw}
	if n > 0 {
		r.Data = b[:n:n]
	}
	return r, nil
}

// String names the length of the data and the status word, never the data.
func (r Response) String() string { return fmt.Sprintf("[Nr %d] %04X", len(r.Data), r.SW) }

// Format prints the same for every verb.
func (r Response) Format(w fmt.State, _ rune) { fmt.Fprint(w, r.String()) }
