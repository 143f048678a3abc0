package reader

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// CT-BCS, the basic commands of a card terminal (MKT specification part 4), as they travel through
// FEATURE_MCT_UNIVERSAL: every request is an envelope of SAD, DAD, a 16 bit length (little endian) and the command; the
// answer has the same envelope.
const (
	addrTerminal = 1
	addrHost     = 2

	ctCLA       = 0x20
	insStatus   = 0x13
	insOutput   = 0x17
	insVerify   = 0x18
	insModify   = 0x19
	unitICC1    = 0x01
	unitDisplay = 0x40
	unitKeypad  = 0x50

	tagText       = 0x50 // prompt; with modify the one for the old PIN
	tagTextNew    = 0x61
	tagTextRepeat = 0x62
	tagCommand    = 0x52 // command to perform
	tagTimeout    = 0x80 // seconds
	tagUnits      = 0x81 // functional units, answer of GET STATUS

	// controlFormat2 is the first octet of tagCommand: variable length (high nibble 0), format-2 PIN block.
	controlFormat2 = 0x02
	// firstDataPosition is the position of a command's first data octet; CLA has position 1.
	firstDataPosition = 6
)

// ErrCTBCS marks an octet string that is no CT-BCS message.
var ErrCTBCS = errors.New("malformed CT-BCS message")

// maxText is the longest text for a display; no display in the field holds more.
const maxText = 120

func envelope(command []byte) []byte {
	b := []byte{addrHost, addrTerminal}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(command)))
	return append(b, command...)
}

// parseEnvelope returns the answer inside an envelope, at least a status word.
func parseEnvelope(b []byte) ([]byte, error) {
	if len(b) < 6 || len(b) > 4+65535 {
		return nil, fmt.Errorf("%w: envelope of %d octets", ErrCTBCS, len(b))
	}
	if n := binary.LittleEndian.Uint16(b[2:]); int(n) != len(b)-4 {
		return nil, fmt.Errorf("%w: length field %d with %d octets behind it", ErrCTBCS, n, len(b)-4)
	}
	return b[4:], nil
}

// ctCommand builds a CT-BCS command. Its data are short by construction: texts are limited and the card's command is a
// PIN template.
func ctCommand(ins, p1 byte, data []byte) ([]byte, error) {
	if len(data) > 255 {
		return nil, fmt.Errorf("%w: %d octets of data", ErrCTBCS, len(data))
	}
	b := []byte{ctCLA, ins, p1, 0}
	if len(data) > 0 {
		b = append(append(b, byte(len(data))), data...)
	}
	return b, nil
}

func object(b []byte, tag byte, value ...byte) []byte {
	return append(append(b, tag, byte(len(value))), value...)
}

func textObject(b []byte, tag byte, text string) []byte {
	t := latin1(text)
	return object(b, tag, t[:min(len(t), maxText)]...)
}

// ctUnits asks for the functional units of the terminal.
func ctUnits() []byte { return []byte{ctCLA, insStatus, 0, tagUnits, 0} }

// parseUnits reads the answer to ctUnits: whether there is a display, and whether there is a keypad.
func parseUnits(b []byte) (display, keypad bool, err error) {
	n := len(b) - 2
	if n < 2 || b[n] != 0x90 || b[n+1] != 0 || b[0] != tagUnits || int(b[1]) != n-2 {
		return false, false, fmt.Errorf("%w: list of functional units", ErrCTBCS)
	}
	for _, u := range b[2:n] {
		display = display || u == unitDisplay
		keypad = keypad || u == unitKeypad
	}
	return display, keypad, nil
}

// ctOutput shows a text.
func ctOutput(text string) ([]byte, error) {
	return ctCommand(insOutput, unitDisplay, textObject(nil, tagText, text))
}

// ctVerify is PERFORM VERIFICATION.
func ctVerify(text string, seconds byte, command []byte) ([]byte, error) {
	d := textObject(nil, tagText, text)
	d = object(d, tagTimeout, seconds)
	d = object(d, tagCommand, append([]byte{controlFormat2, firstDataPosition}, command...)...)
	return ctCommand(insVerify, unitICC1, d)
}

// ctModify is MODIFY VERIFICATION DATA. Equal positions of old and new PIN mean that only the new one is asked for. It
// has no time-out of its own: the terminal's applies.
func ctModify(old, new, repeat string, posOld, posNew byte, command []byte) ([]byte, error) {
	var d []byte
	if posOld != posNew {
		d = textObject(d, tagText, old)
	}
	d = textObject(d, tagTextNew, new)
	d = textObject(d, tagTextRepeat, repeat)
	d = object(d, tagCommand, append([]byte{controlFormat2, posOld, posNew}, command...)...)
	return ctCommand(insModify, unitICC1, d)
}
