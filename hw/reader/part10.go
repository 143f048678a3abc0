package reader

import (
	"encoding/binary"
	"errors"
	"fmt"

	"ktradv/internal/readers"
)

// Control codes and feature tags, PC/SC part 10 section 2.2 and pcsc-lite's SCARD_CTL_CODE.
const (
	// ControlGetFeatures is CM_IOCTL_GET_FEATURE_REQUEST.
	ControlGetFeatures uint32 = 0x42000000 + 3400

	FeatureVerifyPIN     byte = 0x06
	FeatureModifyPIN     byte = 0x07
	FeatureMCTUniversal  byte = 0x09
	FeaturePINProperties byte = 0x0A
	FeatureTLVProperties byte = 0x12
)

// ErrPart10 marks an octet string that is not the PC/SC part 10 structure it should be.
var ErrPart10 = errors.New("malformed PC/SC part 10 structure")

// PINFormat describes to a reader how to build a format-2 PIN block: bmFormatString, bmPINBlockString and
// bmPINLengthFormat of PC/SC part 10.
type PINFormat struct{ Format, Block, Length byte }

// The spellings of one and the same format-2 block that are in the field. A reader that takes another than the one it is
// given may build a wrong block, which the card counts as a wrong PIN: try a new model with a test card only.
var (
	// PINFormatBytes says: PIN in BCD from octet 1, left, block of 7 octets with a length of 4 bits, length at bit 4.
	PINFormatBytes = PINFormat{0x89, 0x47, 0x04}
	// PINFormatBits says: PIN in BCD from bit 8, block of 8 octets with a length of 4 bits, length at bit 4.
	PINFormatBits = PINFormat{0x41, 0x48, 0x04}
	// PINFormatFPIN2 is REINER SCT's: PIN from octet 0 of a block of 8, which its firmware reads as "format 2".
	PINFormatFPIN2 = PINFormat{0x81, 0x48, 0x04}
)

// Message counts with a meaning of their own.
const (
	MessagesNone    byte = 0x00
	MessagesDefault byte = 0xFF
)

// LangGerman is the language of the reader's own texts that we ask for.
const LangGerman uint16 = 0x0407

// Conditions under which an entry ends, bits of bEntryValidationCondition.
const (
	EndAtMaxLength byte = 1
	EndAtOK        byte = 2
	EndAtTimeout   byte = 4
)

const (
	verifyHead = 19
	modifyHead = 24
	// maxPINCommand bounds the command inside a structure: header, two blocks and Le need 22 octets.
	maxPINCommand = 261
)

// PINVerify is PIN_VERIFY_STRUCTURE, PC/SC part 10 section 2.5.2.
type PINVerify struct {
	Timeout, Timeout2 byte // seconds until the first key and after it; 0 = the reader's own
	Format            PINFormat
	Min, Max          byte
	EndAt             byte
	Messages          byte
	Lang              uint16
	Message           byte // index of the first message
	Command           []byte
}

// Bytes encodes the structure, 16 and 32 bit fields little endian as on every machine that runs pcsc-lite for us.
func (v PINVerify) Bytes() ([]byte, error) {
	if len(v.Command) < 4 || len(v.Command) > maxPINCommand {
		return nil, fmt.Errorf("%w: command of %d octets", ErrPart10, len(v.Command))
	}
	b := make([]byte, 0, verifyHead+len(v.Command))
	b = append(b, v.Timeout, v.Timeout2, v.Format.Format, v.Format.Block, v.Format.Length, v.Max, v.Min, v.EndAt, v.Messages)
	b = binary.LittleEndian.AppendUint16(b, v.Lang)
	b = append(b, v.Message, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(v.Command)))
	return append(b, v.Command...), nil
}

// ParsePINVerify decodes a PIN_VERIFY_STRUCTURE. Command refers to b.
func ParsePINVerify(b []byte) (PINVerify, error) {
	cmd, err := pinCommand(b, verifyHead)
	if err != nil {
		return PINVerify{}, err
	}
	return PINVerify{
		Timeout: b[0], Timeout2: b[1], Format: PINFormat{b[2], b[3], b[4]}, Max: b[5], Min: b[6], EndAt: b[7],
		Messages: b[8], Lang: binary.LittleEndian.Uint16(b[9:]), Message: b[11], Command: cmd,
	}, nil
}

// Bits of bConfirmPIN.
const (
	ConfirmNew byte = 1 // the new PIN is asked for twice
	AskOld     byte = 2 // the old PIN is asked for
)

// PINModify is PIN_MODIFY_STRUCTURE, PC/SC part 10 section 2.5.3.
type PINModify struct {
	Timeout, Timeout2    byte
	Format               PINFormat
	OffsetOld, OffsetNew byte // octets from the start of the command's data field
	Min, Max             byte
	Confirm              byte
	EndAt                byte
	Messages             byte
	Lang                 uint16
	Message              [3]byte // always all three: some readers do not work without the third
	Command              []byte
}

// Bytes encodes the structure.
func (m PINModify) Bytes() ([]byte, error) {
	if len(m.Command) < 4 || len(m.Command) > maxPINCommand {
		return nil, fmt.Errorf("%w: command of %d octets", ErrPart10, len(m.Command))
	}
	b := make([]byte, 0, modifyHead+len(m.Command))
	b = append(b, m.Timeout, m.Timeout2, m.Format.Format, m.Format.Block, m.Format.Length, m.OffsetOld, m.OffsetNew,
		m.Max, m.Min, m.Confirm, m.EndAt, m.Messages)
	b = binary.LittleEndian.AppendUint16(b, m.Lang)
	b = append(b, m.Message[0], m.Message[1], m.Message[2], 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Command)))
	return append(b, m.Command...), nil
}

// ParsePINModify decodes a PIN_MODIFY_STRUCTURE. Command refers to b.
func ParsePINModify(b []byte) (PINModify, error) {
	cmd, err := pinCommand(b, modifyHead)
	if err != nil {
		return PINModify{}, err
	}
	return PINModify{
		Timeout: b[0], Timeout2: b[1], Format: PINFormat{b[2], b[3], b[4]}, OffsetOld: b[5], OffsetNew: b[6],
		Max: b[7], Min: b[8], Confirm: b[9], EndAt: b[10], Messages: b[11],
		Lang: binary.LittleEndian.Uint16(b[12:]), Message: [3]byte{b[14], b[15], b[16]}, Command: cmd,
	}, nil
}

// pinCommand returns what stands behind a head, whose last four octets give its length and the three before them are
// the prologue of T=1, always zero here.
func pinCommand(b []byte, head int) ([]byte, error) {
	if len(b) < head+4 || len(b) > head+maxPINCommand {
		return nil, fmt.Errorf("%w: %d octets", ErrPart10, len(b))
	}
	if n := binary.LittleEndian.Uint32(b[head-4:]); uint64(n) != uint64(len(b)-head) {
		return nil, fmt.Errorf("%w: length field %d with %d octets behind it", ErrPart10, n, len(b)-head)
	}
	if p := b[head-7 : head-4]; p[0]|p[1]|p[2] != 0 {
		return nil, fmt.Errorf("%w: prologue is not zero", ErrPart10)
	}
	return b[head:len(b):len(b)], nil
}

// ParseFeatures decodes the answer to GET_FEATURE_REQUEST: feature tag to control code. Control codes are big endian.
func ParseFeatures(b []byte) (map[byte]uint32, error) {
	const record = 6
	if len(b)%record != 0 || len(b) > 256*record {
		return nil, fmt.Errorf("%w: feature list of %d octets", ErrPart10, len(b))
	}
	m := make(map[byte]uint32, len(b)/record)
	for ; len(b) > 0; b = b[record:] {
		if b[1] != 4 {
			return nil, fmt.Errorf("%w: feature %02X with %d octets", ErrPart10, b[0], b[1])
		}
		if _, twice := m[b[0]]; twice {
			return nil, fmt.Errorf("%w: feature %02X twice", ErrPart10, b[0])
		}
		m[b[0]] = binary.BigEndian.Uint32(b[2:])
	}
	return m, nil
}

// Properties are the properties of a pad and its driver that matter to us. Pointers are nil where the driver is silent.
type Properties struct {
	Columns, Lines *int // of the display; 0 and 0 mean "none", which many readers with a display say, too
	MinPIN, MaxPIN *int
	MaxAPDU        *int          // greatest command data in octets; 65536 stands for extended length
	USB            readers.USBID // zero where the driver does not say
}

// ParsePINProperties decodes PIN_PROPERTIES_STRUCTURE: wLcdLayout (columns, then lines), bEntryValidationCondition,
// bTimeOut2.
func ParsePINProperties(b []byte) (Properties, error) {
	if len(b) != 4 {
		return Properties{}, fmt.Errorf("%w: PIN properties of %d octets", ErrPart10, len(b))
	}
	return Properties{Columns: ptr(b[0]), Lines: ptr(b[1])}, nil
}

// Tags of the TLV properties, PC/SC part 10 section 2.6.14.
const (
	tlvLCDLayout = 0x01
	tlvMinPIN    = 0x06
	tlvMaxPIN    = 0x07
	tlvMaxAPDU   = 0x0A
	tlvVendor    = 0x0B
	tlvProduct   = 0x0C
)

// ParseTLVProperties decodes the answer to FEATURE_GET_TLV_PROPERTIES. Unknown tags are skipped.
func ParseTLVProperties(b []byte) (Properties, error) {
	var p Properties
	if len(b) > 4096 {
		return p, fmt.Errorf("%w: TLV properties of %d octets", ErrPart10, len(b))
	}
	want := map[byte]int{tlvLCDLayout: 2, tlvMinPIN: 1, tlvMaxPIN: 1, tlvMaxAPDU: 4, tlvVendor: 2, tlvProduct: 2}
	for len(b) > 0 {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return Properties{}, fmt.Errorf("%w: TLV properties end inside a property", ErrPart10)
		}
		tag, v := b[0], b[2:2+int(b[1])]
		b = b[2+len(v):]
		if n, known := want[tag]; known && n != len(v) {
			return Properties{}, fmt.Errorf("%w: property %02X with %d octets", ErrPart10, tag, len(v))
		}
		switch tag {
		case tlvLCDLayout:
			p.Columns, p.Lines = ptr(v[0]), ptr(v[1])
		case tlvMinPIN:
			p.MinPIN = ptr(v[0])
		case tlvMaxPIN:
			p.MaxPIN = ptr(v[0])
		case tlvMaxAPDU:
			n := int(min(binary.LittleEndian.Uint32(v), 1<<16))
			p.MaxAPDU = &n
		case tlvVendor:
			p.USB.Vendor = binary.LittleEndian.Uint16(v)
		case tlvProduct:
			p.USB.Product = binary.LittleEndian.Uint16(v)
		}
	}
	return p, nil
}

func ptr(b byte) *int { n := int(b); return &n }
