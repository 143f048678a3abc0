package ccid

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Messages of the host, CCID 1.1 section 6.1.
const (
	pcIccPowerOn    = 0x62
	pcIccPowerOff   = 0x63
	pcGetSlotStatus = 0x65
	pcSecure        = 0x69
	pcEscape        = 0x6B
	pcGetParameters = 0x6C
	pcResetParams   = 0x6D
	pcSetParameters = 0x61
	pcXfrBlock      = 0x6F
	pcAbort         = 0x72
)

// Messages of the reader, section 6.2 and 6.3.
const (
	rdrDataBlock  = 0x80
	rdrSlotStatus = 0x81
	rdrParameters = 0x82
	rdrEscape     = 0x83
	rdrSlotChange = 0x50
)

// Errors of the reader, section 6.2.6.
const (
	errUnsupported = 0x00
	errLength      = 0x01
	errSlot        = 0x05
	errBusy        = 0xE0
	errCancelled   = 0xEF
	errTimeout     = 0xF0
	errHardware    = 0xFB
	errMute        = 0xFE
	errAborted     = 0xFF
)

// Status of the command and of the card in the slot.
const (
	statusFailed    = 0x40
	statusExtension = 0x80

	cardActive   = 0
	cardInactive = 1
	cardAbsent   = 2
)

const (
	head = 10
	// maxMessage is the longest message either way, dwMaxCCIDMessageLength; maxData what it carries.
	maxMessage = 1014
	maxData    = maxMessage - head
	// maxAPDU is the longest command that is put together from several messages: a case 4 command of extended length.
	maxAPDU = 65544
)

// Level parameter of a transfer to the reader, and chain parameter of one from it (section 6.1.4 and 6.2.1).
const (
	chainWhole  = 0
	chainBegin  = 1
	chainEnd    = 2
	chainMiddle = 3
	chainEmpty  = 0x10 // no data: the other side shall go on
)

var errMessage = errors.New("malformed message")

// request is a message of the host.
type request struct {
	kind, slot, seq byte
	parameters      [3]byte
	data            []byte
}

// parse reads one message, which is one transfer.
func parse(b []byte) (request, error) {
	if len(b) < head || len(b) > maxMessage {
		return request{}, fmt.Errorf("%w: %d octets", errMessage, len(b))
	}
	r := request{kind: b[0], slot: b[5], seq: b[6], parameters: [3]byte(b[7:10]), data: b[head:]}
	if n := binary.LittleEndian.Uint32(b[1:]); n != uint32(len(r.data)) {
		return r, fmt.Errorf("%w: %d octets of data, %d announced", errMessage, len(r.data), n)
	}
	return r, nil
}

// level is the level parameter of a transfer or of a secure request.
func (r request) level() uint16 { return binary.LittleEndian.Uint16(r.parameters[1:]) }

// answer is a message of the reader. Last is the chain parameter, the protocol or the clock status.
type answer struct {
	kind, slot, seq, status, err, last byte
	data                               []byte
}

func (a answer) encode() []byte {
	b := make([]byte, head, head+len(a.data))
	b[0] = a.kind
	binary.LittleEndian.PutUint32(b[1:], uint32(len(a.data)))
	b[5], b[6], b[7], b[8], b[9] = a.slot, a.seq, a.status, a.err, a.last
	return append(b, a.data...)
}

// answerKind is the kind of message that answers a request.
func answerKind(kind byte) byte {
	switch kind {
	case pcIccPowerOn, pcXfrBlock, pcSecure:
		return rdrDataBlock
	case pcGetParameters, pcResetParams, pcSetParameters:
		return rdrParameters
	case pcEscape:
		return rdrEscape
	}
	return rdrSlotStatus
}

// Control codes of the reader's driver face for PIN entries, PC/SC part 10.
const (
	codeFeatures = 0x42000D48
	codeVerify   = 0x42330006
	codeModify   = 0x42330007
	codePINProps = 0x4233000A
	codeTLVProps = 0x42330012
)

// secure turns the data of a secure request into the PC/SC structure that the reader's driver face takes: that one has
// the second time-out, all message numbers and the length of the command besides (CCID section 6.1.11, PC/SC part 10
// sections 2.5.2 and 2.5.3).
func secure(data []byte) (code uint32, structure []byte, err error) {
	if len(data) == 0 {
		return 0, nil, fmt.Errorf("%w: empty secure request", errMessage)
	}
	op, b := data[0], data[1:]
	take := func(n int) []byte {
		if len(b) < n {
			err = fmt.Errorf("%w: secure request too short", errMessage)
			return make([]byte, n)
		}
		out := b[:n]
		b = b[n:]
		return out
	}
	switch op {
	case 0: // verify
		structure = append(structure, take(1)...)
		structure = append(structure, 0)
		structure = append(structure, take(10+3)...)
		code = codeVerify
	case 1: // modify
		structure = append(structure, take(1)...)
		structure = append(structure, 0)
		structure = append(structure, take(12)...)
		messages := structure[11]
		index := [3]byte{take(1)[0]}
		if messages != 0 {
			index[1] = take(1)[0]
		}
		if messages >= 3 {
			index[2] = take(1)[0]
		}
		structure = append(structure, index[:]...)
		structure = append(structure, take(3)...)
		code = codeModify
	default:
		return 0, nil, fmt.Errorf("%w: secure request of operation %#x", errMessage, op)
	}
	if err != nil {
		return 0, nil, err
	}
	structure = binary.LittleEndian.AppendUint32(structure, uint32(len(b)))
	return code, append(structure, b...), nil
}
