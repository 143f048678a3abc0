package egk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"

	"ktradv/hw/cos"
	"ktradv/hw/tlv"
	"ktradv/internal/redact"
)

// ErrMalformed is wrapped by every error about a file of the card that has not the prescribed form.
var ErrMalformed = errors.New("malformed card data")

// Version is a version number in EF.Version2: major, minor, revision, one binary octet each.
type Version [3]byte

// String returns for example "4.5.2".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

// Less reports whether v is older than w.
func (v Version) Less(w Version) bool { return bytes.Compare(v[:], w[:]) < 0 }

// The first versions of the generations (egk-card.md 5.3).
var (
	firstG1Plus = Version{3, 0, 3}
	firstG2     = Version{4, 0, 0}
	firstG21    = Version{4, 4, 0}
)

// Generation tells to which generation an object system of this version belongs. Versions above all known ones count
// as G2.1.
func (v Version) Generation() Generation {
	switch {
	case v.Less(firstG1Plus):
		return G1
	case v.Less(firstG2):
		return G1Plus
	case v.Less(firstG21):
		return G2
	}
	return G21
}

// Version2 is the content of EF.Version2. A version that the card does not state is zero.
type Version2 struct {
	Filling      Version // C0: filling rule
	ObjectSystem Version // C1: decides the generation
	Product      Product // C2
	GDO          Version // C4: filling rule of EF.GDO
	ATR          Version // C5: filling rule of EF.ATR
	Logging      Version // C7: filling rule of EF.Logging
}

// Product names a product: manufacturer (5 characters), product (8 characters) and version. Simulator images do not keep
// to that split.
type Product struct {
	Manufacturer string
	Name         string
	Version      Version
}

// ParseVersion2 decodes EF.Version2: EF{C0, C1, C2, ...}. Data objects that it does not know are passed over, C1 has to
// be there, nothing may stand twice. Octets behind the template are unused space of the file.
func ParseVersion2(b []byte) (Version2, error) {
	var v Version2
	o, _, err := tlv.Next(b)
	if err != nil || o.Tag != 0xEF {
		return v, fmt.Errorf("EF.Version2: %w: %w", ErrMalformed, errors.Join(err, errors.New("no template EF")))
	}
	parts, err := tlv.Parse(o.Value)
	if err != nil {
		return v, fmt.Errorf("EF.Version2: %w: %w", ErrMalformed, err)
	}
	versions := map[uint32]*Version{0xC0: &v.Filling, 0xC1: &v.ObjectSystem, 0xC4: &v.GDO, 0xC5: &v.ATR, 0xC7: &v.Logging}
	seen := map[uint32]bool{}
	for _, p := range parts {
		if seen[p.Tag] {
			return v, fmt.Errorf("EF.Version2: %w: tag %X twice", ErrMalformed, p.Tag)
		}
		seen[p.Tag] = true
		switch {
		case versions[p.Tag] != nil:
			if len(p.Value) != 3 {
				return v, fmt.Errorf("EF.Version2: %w: tag %X with %d octets", ErrMalformed, p.Tag, len(p.Value))
			}
			*versions[p.Tag] = Version(p.Value)
		case p.Tag == 0xC2:
			if v.Product, err = parseProduct(p.Value); err != nil {
				return v, fmt.Errorf("EF.Version2: %w", err)
			}
		}
	}
	if !seen[0xC1] {
		return v, fmt.Errorf("EF.Version2: %w: no version of the object system", ErrMalformed)
	}
	return v, nil
}

func parseProduct(b []byte) (Product, error) {
	if len(b) != 16 {
		return Product{}, fmt.Errorf("%w: product identification of %d octets", ErrMalformed, len(b))
	}
	return Product{Manufacturer: printable(b[:5]), Name: printable(b[5:13]), Version: Version(b[13:])}, nil
}

// printable keeps the visible ASCII characters; the rest, which no product name has, becomes a dot.
func printable(b []byte) string {
	b = bytes.TrimRight(b, " \x00")
	out := make([]byte, len(b))
	for i, c := range b {
		if c < 0x20 || c > 0x7E {
			c = '.'
		}
		out[i] = c
	}
	return string(out)
}

// ParseGDO decodes EF.GDO: 5A 0A and the ICCSN of 20 digits.
func ParseGDO(b []byte) (redact.ICCSN, error) {
	o, _, err := tlv.Next(b)
	if err != nil || o.Tag != 0x5A || len(o.Value) != 10 {
		return redact.ICCSN{}, fmt.Errorf("EF.GDO: %w: no ICCSN of 10 octets", ErrMalformed)
	}
	n, err := redact.NewICCSN(hex.EncodeToString(o.Value))
	if err != nil {
		return redact.ICCSN{}, fmt.Errorf("EF.GDO: %w: %w", ErrMalformed, err)
	}
	return n, nil
}

// ATR is what EF.ATR states about sizes and products.
type ATR struct {
	Plain  cos.Limits // without secure messaging
	Secure cos.Limits // with secure messaging
	COS    Version    // product type version of the operating system (D0); zero when absent
	Chip   Product    // D2
	System Product    // D3: operating system
	Object Product    // D4: initialised object system
}

// ParseATR decodes EF.ATR. Cards without the template E0 get the sizes that every card has to offer. Data objects that
// are not known are passed over.
func ParseATR(b []byte) (ATR, error) {
	a := ATR{Plain: cos.MinimumLimits, Secure: cos.Limits{Command: 1033, Response: 1033}}
	for len(bytes.TrimLeft(b, "\x00")) > 0 {
		o, rest, err := tlv.Next(b)
		if err != nil {
			return a, fmt.Errorf("EF.ATR: %w: %w", ErrMalformed, err)
		}
		b = rest
		products := map[uint32]*Product{0xD2: &a.Chip, 0xD3: &a.System, 0xD4: &a.Object}
		switch {
		case o.Tag == 0xE0:
			sizes, err := parseSizes(o.Value)
			if err != nil {
				return a, fmt.Errorf("EF.ATR: %w", err)
			}
			a.Plain = cos.Limits{Command: sizes[0], Response: sizes[1]}
			a.Secure = cos.Limits{Command: sizes[2], Response: sizes[3]}
		case o.Tag == 0xD0 && len(o.Value) == 3:
			a.COS = Version(o.Value)
		case products[o.Tag] != nil && len(o.Value) == 16:
			*products[o.Tag], _ = parseProduct(o.Value)
		}
	}
	return a, nil
}

// parseSizes decodes the four INTEGERs of the template E0. Every size has to hold at least a short APDU.
func parseSizes(b []byte) (sizes [4]int, err error) {
	parts, err := tlv.Parse(b)
	if err != nil || len(parts) != 4 {
		return sizes, fmt.Errorf("%w: buffer sizes: %d numbers", ErrMalformed, len(parts))
	}
	for i, p := range parts {
		if p.Tag != 0x02 || len(p.Value) == 0 || len(p.Value) > 3 || p.Value[0]&0x80 != 0 {
			return sizes, fmt.Errorf("%w: buffer size %d", ErrMalformed, i+1)
		}
		for _, x := range p.Value {
			sizes[i] = sizes[i]<<8 | int(x)
		}
		if sizes[i] < cos.ShortLimits.Response {
			return sizes, fmt.Errorf("%w: buffer size %d is %d octets", ErrMalformed, i+1, sizes[i])
		}
	}
	return sizes, nil
}

// ParseDIRRecord decodes one record of EF.DIR: 61{4F application identifier}.
func ParseDIRRecord(b []byte) (aid []byte, err error) {
	inner, err := tlv.Only(b, 0x61)
	if err != nil {
		return nil, fmt.Errorf("EF.DIR: %w: %w", ErrMalformed, err)
	}
	o, _, err := tlv.Next(inner)
	if err != nil || o.Tag != 0x4F || len(o.Value) < 5 || len(o.Value) > 16 {
		return nil, fmt.Errorf("EF.DIR: %w: no application identifier", ErrMalformed)
	}
	return o.Value, nil
}

// Sizes of a record of EF.Logging.
const (
	logRecordSize = 46
	logActorSize  = 30
	logActorStart = 16
)

// Letters of EF.Logging that the KTR-AdV writes (TAB_ADV_304, 306, 307).
const (
	LogDataAdV  byte = 'v' // applications of the insured person in the KTR-AdV environment
	LogDataNFD  byte = 'b'
	LogDataDPE  byte = 'c'
	LogDataAMTS byte = 'e'

	LogAccessGeneral byte = 'Z' // general access; read and edit
	LogAccessHide    byte = 'V'
	LogAccessShow    byte = 'S'
)

// LogEntry is one entry of the access log that the insured person finds on the card (EF.Logging,
// gemSpec_Karten_Fach_TIP).
type LogEntry struct {
	Time   time.Time // whole seconds from 1970 to 2106
	Data   byte      // which data, see LogData constants; other letters exist
	Access byte      // which kind of access
	// ActorICCSN is the card number of the SM-B or HBA that unlocked the card.
	ActorICCSN redact.ICCSN
	// ActorName is the common name in the certificate of the actor. On the card it is cut to 30 octets.
	ActorName redact.String
}

// Encode makes the 46 octets of the record: seconds since 1970, the two letters, the ICCSN in BCD, and the name in
// UTF-8, cut to 30 octets between two characters and filled with blanks. A name without any octet, letters that are not
// printable ASCII and times that 32 bits cannot hold are refused: such an entry would tell the insured person nothing.
func (e LogEntry) Encode() ([]byte, error) {
	sec := e.Time.Unix()
	if e.Time.IsZero() || sec <= 0 || sec > 0xFFFFFFFF {
		return nil, errors.New("log entry: time cannot be stored")
	}
	for _, c := range []byte{e.Data, e.Access} {
		if c <= 0x20 || c > 0x7E {
			return nil, fmt.Errorf("log entry: letter %02X is not printable", c)
		}
	}
	actor, err := hex.DecodeString(e.ActorICCSN.Reveal())
	if err != nil || len(actor) != 10 {
		return nil, errors.New("log entry: no ICCSN of the actor")
	}
	name := cut(e.ActorName.Reveal(), logActorSize)
	if name == "" {
		return nil, errors.New("log entry: no name of the actor")
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, logRecordSize), uint32(sec))
	b = append(b, e.Data, e.Access)
	b = append(b, actor...)
	b = append(b, name...)
	for len(b) < logRecordSize {
		b = append(b, ' ')
	}
	return b, nil
}

// cut returns the longest prefix of s with at most n octets that does not split a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// DecodeLog decodes a record of EF.Logging. used is false for a record that was never written: its data type is 00,
// whatever stands in the other fields (public card images number their unused records). Octets that are no UTF-8 are
// read as ISO-8859-15, which other files of the card use. An ICCSN that is not made of digits is left empty.
func DecodeLog(b []byte) (e LogEntry, used bool, err error) {
	if len(b) != logRecordSize {
		return e, false, fmt.Errorf("EF.Logging: %w: record of %d octets", ErrMalformed, len(b))
	}
	if b[4] == 0 {
		return e, false, nil
	}
	e.Time = time.Unix(int64(binary.BigEndian.Uint32(b)), 0).UTC()
	e.Data, e.Access = b[4], b[5]
	if n, err := redact.NewICCSN(hex.EncodeToString(b[6:logActorStart])); err == nil {
		e.ActorICCSN = n
	}
	name := bytes.TrimRight(b[logActorStart:], " \x00")
	text := string(name)
	if !utf8.Valid(name) {
		text = ""
		for _, c := range name {
			text += string(charmap.ISO8859_15.DecodeByte(c))
		}
	}
	e.ActorName = redact.NewString(text)
	return e, true, nil
}
