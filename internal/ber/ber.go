// Package ber reads ASN.1 in the basic and the distinguished encoding rules (ITU-T X.690) from memory and from streams.
// Signed messages of the telematics infrastructure need both: a connector writes indefinite lengths and octet strings in
// pieces, certificates and status answers are DER, and what a signature covers is always the distinguished form.
//
// An [Input] hands out the elements of one level; [Element] values are slices of the input and own no memory. Depth is
// limited to [MaxDepth]; a length that is longer than what is left is refused when it is read, so nothing is ever
// allocated for a length that somebody merely claims. A [Stream] reads the same forms from an io.Reader with flat memory.
//
// An input is either DER, and then every deviation that shows in tags and lengths is an error, or BER. What BER allows
// and nobody writes is refused in both: lengths of more than eight octets, tag numbers above 2^28-1.
package ber

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxDepth is how deep elements may be nested.
const MaxDepth = 64

// Errors of this package; all that it returns wrap one of them, or come from the source of a stream.
var (
	ErrTruncated = errors.New("ber: input ends inside an element")
	ErrMalformed = errors.New("ber: malformed element")
	ErrDepth     = errors.New("ber: nested too deep")
	ErrTag       = errors.New("ber: another element was expected")
	ErrTooLong   = errors.New("ber: element is longer than allowed here")
)

// The errors below are made once: refusing an input costs no memory either.
var (
	errLength     = fmt.Errorf("%w: length", ErrMalformed)
	errNotMinimal = fmt.Errorf("%w: not the shortest form, as DER asks for", ErrMalformed)
	errIndefinite = fmt.Errorf("%w: indefinite length where it may not be", ErrMalformed)
	errForm       = fmt.Errorf("%w: constructed instead of primitive or the reverse", ErrMalformed)
	errEOC        = fmt.Errorf("%w: end-of-contents without a beginning", ErrMalformed)
	errTrailing   = fmt.Errorf("%w: octets after the last element", ErrMalformed)
	errInteger    = fmt.Errorf("%w: INTEGER", ErrMalformed)
	errOID        = fmt.Errorf("%w: OBJECT IDENTIFIER", ErrMalformed)
	errTime       = fmt.Errorf("%w: time", ErrMalformed)
	errTagNumber  = fmt.Errorf("%w: tag number", ErrMalformed)
)

// Tag is class and number of an element.
type Tag uint32

const classShift = 28

// Universal tags.
const (
	Boolean         Tag = 1
	Integer         Tag = 2
	BitString       Tag = 3
	OctetString     Tag = 4
	Null            Tag = 5
	ObjectID        Tag = 6
	Enumerated      Tag = 10
	UTF8String      Tag = 12
	Sequence        Tag = 16
	Set             Tag = 17
	PrintableString Tag = 19
	UTCTime         Tag = 23
	GeneralizedTime Tag = 24
)

// Context returns the context-specific tag with a number.
func Context(number uint8) Tag { return 2<<classShift | Tag(number) }

// Element is one element. Raw and Content are parts of the input.
type Element struct {
	Tag         Tag
	Constructed bool
	Indefinite  bool   // of indefinite length; Raw ends with end-of-contents, Content does not
	Raw         []byte // tag, length and content
	Content     []byte
}

// Input hands out the elements of one level, one after the other. The zero Input is empty. An Input is a value: a copy
// remembers the place.
type Input struct {
	rest  []byte
	der   bool
	depth uint8
}

// New reads data as BER.
func New(data []byte) Input { return Input{rest: data} }

// NewDER reads data as DER.
func NewDER(data []byte) Input { return Input{rest: data, der: true} }

// Empty reports whether all elements were read.
func (in *Input) Empty() bool { return len(in.rest) == 0 }

// Rest returns what was not read yet.
func (in *Input) Rest() []byte { return in.rest }

// End returns an error unless all elements were read.
func (in *Input) End() error {
	if len(in.rest) > 0 {
		return errTrailing
	}
	return nil
}

// Is reports whether the next element has this tag. It is false at the end and where no element can be read.
func (in *Input) Is(tag Tag) bool {
	h, err := readHeader(in.rest, in.der)
	return err == nil && h.tag == tag
}

// Next reads the next element.
func (in *Input) Next() (Element, error) {
	h, err := readHeader(in.rest, in.der)
	if err != nil {
		return Element{}, err
	}
	if h.tag == 0 {
		return Element{}, errEOC
	}
	e := Element{Tag: h.tag, Constructed: h.constructed}
	size := h.size + int(h.length)
	if h.length < 0 {
		end, err := endOfContents(in.rest[h.size:], MaxDepth-int(in.depth))
		if err != nil {
			return Element{}, err
		}
		size = h.size + end
		e.Indefinite = true
		e.Content = in.rest[h.size : size-2 : size-2]
	} else {
		e.Content = in.rest[h.size:size:size]
	}
	e.Raw = in.rest[:size:size]
	in.rest = in.rest[size:]
	return e, nil
}

// Read reads the next element, which must have this tag.
func (in *Input) Read(tag Tag) (Element, error) {
	before := in.rest
	e, err := in.Next()
	if err == nil && e.Tag != tag {
		in.rest = before
		return Element{}, ErrTag
	}
	return e, err
}

// Optional reads the next element if it has this tag.
func (in *Input) Optional(tag Tag) (e Element, ok bool, err error) {
	if !in.Is(tag) {
		return Element{}, false, nil
	}
	e, err = in.Next()
	return e, err == nil, err
}

// Enter returns the elements inside a constructed element of this input.
func (in *Input) Enter(e Element) (Input, error) {
	if !e.Constructed {
		return Input{}, errForm
	}
	if in.depth+1 >= MaxDepth {
		return Input{}, ErrDepth
	}
	return Input{rest: e.Content, der: in.der, depth: in.depth + 1}, nil
}

// Inside reads the next element, which must have this tag, and returns what is inside.
func (in *Input) Inside(tag Tag) (Input, error) {
	e, err := in.Read(tag)
	if err != nil {
		return Input{}, err
	}
	return in.Enter(e)
}

type head struct {
	tag         Tag
	constructed bool
	size        int   // of the header in octets
	length      int64 // of the content; -1: indefinite
}

// readHeader reads tag and length and checks that the content is there.
func readHeader(data []byte, der bool) (head, error) {
	h, err := decodeHeader(data, der)
	if err == nil && h.length > int64(len(data)-h.size) {
		return head{}, ErrTruncated
	}
	return h, err
}

// decodeHeader reads tag and length.
func decodeHeader(data []byte, der bool) (head, error) {
	if len(data) < 2 {
		return head{}, ErrTruncated
	}
	h := head{tag: Tag(data[0]>>6)<<classShift | Tag(data[0]&0x1f), constructed: data[0]&0x20 != 0, size: 1}
	if data[0]&0x1f == 0x1f {
		number := Tag(0)
		for {
			if h.size >= len(data) {
				return head{}, ErrTruncated
			}
			b := data[h.size]
			h.size++
			if h.size == 2 && b == 0x80 || h.size > 5 {
				return head{}, errTagNumber
			}
			number = number<<7 | Tag(b&0x7f)
			if b&0x80 == 0 {
				break
			}
		}
		if number < 0x1f { // would have fitted into the first octet (X.690 chapter 8.1.2.4)
			return head{}, errTagNumber
		}
		h.tag = h.tag>>classShift<<classShift | number
		if h.size >= len(data) {
			return head{}, ErrTruncated
		}
	}
	first := data[h.size]
	h.size++
	switch {
	case first < 0x80:
		h.length = int64(first)
	case first == 0x80:
		if der || !h.constructed {
			return head{}, errIndefinite
		}
		h.length = -1
	case first > 0x88:
		return head{}, errLength
	default:
		n := int(first & 0x7f)
		if len(data)-h.size < n {
			return head{}, ErrTruncated
		}
		length := uint64(0)
		for _, b := range data[h.size : h.size+n] {
			length = length<<8 | uint64(b)
		}
		if length > 1<<62 {
			return head{}, errLength
		}
		if der && (length < 0x80 || data[h.size] == 0) {
			return head{}, errNotMinimal
		}
		h.size += n
		h.length = int64(length)
	}
	return h, h.checkForm(der)
}

// checkForm refuses the universal types in a form they do not have.
func (h head) checkForm(der bool) error {
	if h.tag >= 1<<classShift {
		return nil
	}
	switch h.tag {
	case 0:
		if h.constructed || h.length != 0 {
			return errEOC
		}
	case Boolean, Integer, Null, ObjectID, Enumerated:
		if h.constructed {
			return errForm
		}
	case Sequence, Set:
		if !h.constructed {
			return errForm
		}
	default:
		if der && h.constructed && isString(h.tag) {
			return errForm
		}
	}
	return nil
}

// isString reports whether a universal type may be sent in pieces under BER.
func isString(tag Tag) bool {
	switch tag {
	case BitString, OctetString, UTF8String, 18, PrintableString, 20, 21, 22, UTCTime, GeneralizedTime, 25, 26, 27, 28, 30:
		return true
	}
	return false
}

// endOfContents returns the length of the content of indefinite length that data begins with, its end-of-contents octets
// included. One pass: elements of definite length are stepped over, those of indefinite length counted.
func endOfContents(data []byte, depth int) (int, error) {
	open := 1
	for pos := 0; ; {
		if open > depth {
			return 0, ErrDepth
		}
		h, err := readHeader(data[pos:], false)
		if err != nil {
			return 0, err
		}
		pos += h.size
		switch {
		case h.tag == 0:
			if open--; open == 0 {
				return pos, nil
			}
		case h.length < 0:
			open++
		default:
			pos += int(h.length)
		}
	}
}

// Octets returns the content of an OCTET STRING, whatever tag it goes under. When it was sent in pieces they are joined
// in memory of their own; otherwise the result is part of the input.
func (e Element) Octets() ([]byte, error) {
	if !e.Constructed {
		return e.Content, nil
	}
	// The pieces together are shorter than the content they come from, which is in memory already.
	in := Input{rest: e.Content}
	if first, err := in.Read(OctetString); err == nil && !first.Constructed && in.Empty() {
		return first.Content, nil
	}
	return appendPieces(make([]byte, 0, len(e.Content)), e.Content, OctetString, 1)
}

func appendPieces(dst, content []byte, tag Tag, depth uint8) ([]byte, error) {
	if depth >= MaxDepth {
		return nil, ErrDepth
	}
	in := Input{rest: content, depth: depth}
	for !in.Empty() {
		e, err := in.Read(tag)
		if err != nil {
			return nil, err
		}
		if !e.Constructed {
			dst = append(dst, e.Content...)
		} else if dst, err = appendPieces(dst, e.Content, tag, depth+1); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// Int returns an INTEGER or ENUMERATED that fits an int64. It must be in the shortest form, which BER asks for, too.
func (e Element) Int() (int64, error) {
	c, err := e.IntBytes()
	if err != nil {
		return 0, err
	}
	if len(c) > 8 {
		return 0, errInteger
	}
	v := int64(int8(c[0]))
	for _, b := range c[1:] {
		v = v<<8 | int64(b)
	}
	return v, nil
}

// IntBytes returns the content of an INTEGER, in two's complement and of the shortest form.
func (e Element) IntBytes() ([]byte, error) {
	c := e.Content
	if e.Constructed || len(c) == 0 || len(c) > 1 && (c[0] == 0 && c[1] < 0x80 || c[0] == 0xff && c[1] >= 0x80) {
		return nil, errInteger
	}
	return c, nil
}

// OID is an object identifier as the content octets of its encoding, which makes it comparable.
type OID string

// NewOID encodes an object identifier of at least two arcs.
func NewOID(arcs ...uint64) OID {
	var out []byte
	if len(arcs) < 2 {
		return ""
	}
	out = appendArc(out, arcs[0]*40+arcs[1])
	for _, arc := range arcs[2:] {
		out = appendArc(out, arc)
	}
	return OID(out)
}

func appendArc(out []byte, arc uint64) []byte {
	n := 1
	for v := arc >> 7; v > 0; v >>= 7 {
		n++
	}
	for i := n - 1; i >= 0; i-- {
		b := byte(arc>>(7*i)) & 0x7f
		if i > 0 {
			b |= 0x80
		}
		out = append(out, b)
	}
	return out
}

// String returns the dotted form.
func (o OID) String() string {
	var out strings.Builder
	arc, first := uint64(0), true
	for i := range len(o) {
		arc = arc<<7 | uint64(o[i]&0x7f)
		if o[i]&0x80 != 0 {
			continue
		}
		if first {
			root := min(arc/40, 2)
			out.WriteString(strconv.FormatUint(root, 10))
			arc -= root * 40
			first = false
		}
		out.WriteByte('.')
		out.WriteString(strconv.FormatUint(arc, 10))
		arc = 0
	}
	return out.String()
}

// maxOID is the longest object identifier that is read, in octets.
const maxOID = 64

// IsOID reports whether the element is this object identifier. It needs no memory.
func (e Element) IsOID(o OID) bool { return e.Tag == ObjectID && string(e.Content) == string(o) }

// OID returns an OBJECT IDENTIFIER.
func (e Element) OID() (OID, error) {
	if err := checkOID(e.Content); err != nil {
		return "", err
	}
	return OID(e.Content), nil
}

func checkOID(c []byte) error {
	if len(c) == 0 || len(c) > maxOID || c[len(c)-1]&0x80 != 0 {
		return errOID
	}
	start, length := true, 0
	for _, b := range c {
		if start && b == 0x80 {
			return errOID
		}
		length++
		if start = b&0x80 == 0; start {
			length = 0
		} else if length > 8 { // an arc of more than 63 bits is nobody's
			return errOID
		}
	}
	return nil
}

// Time reads UTCTime or GeneralizedTime in the forms of RFC 5652 chapter 11.3: UTC, with seconds, without fractions.
func (e Element) Time() (time.Time, error) {
	c := e.Content
	year := 0
	switch {
	case e.Constructed:
		return time.Time{}, errTime
	case e.Tag == UTCTime && len(c) == len("060102150405Z"):
		y, ok := decimal(c[:2])
		if !ok {
			return time.Time{}, errTime
		}
		if year = 1900 + y; y < 50 {
			year += 100
		}
		c = c[2:]
	case e.Tag == GeneralizedTime && len(c) == len("20060102150405Z"):
		hi, ok1 := decimal(c[:2])
		lo, ok2 := decimal(c[2:4])
		if !ok1 || !ok2 {
			return time.Time{}, errTime
		}
		year = hi*100 + lo
		c = c[4:]
	default:
		return time.Time{}, errTime
	}
	var part [5]int
	for i := range part {
		v, ok := decimal(c[2*i : 2*i+2])
		if !ok {
			return time.Time{}, errTime
		}
		part[i] = v
	}
	t := time.Date(year, time.Month(part[0]), part[1], part[2], part[3], part[4], 0, time.UTC)
	// Date moves what does not exist, such as the 31st of June, to somewhere else.
	if c[10] != 'Z' || part[0] < 1 || part[0] > 12 || t.Day() != part[1] || t.Hour() != part[2] || t.Minute() != part[3] || t.Second() != part[4] {
		return time.Time{}, errTime
	}
	return t, nil
}

func decimal(c []byte) (int, bool) {
	if c[0] < '0' || c[0] > '9' || c[1] < '0' || c[1] > '9' {
		return 0, false
	}
	return int(c[0]-'0')*10 + int(c[1]-'0'), true
}

// IsDER reports whether data is exactly one element in the distinguished encoding: shortest tags and lengths, none of them
// indefinite, strings in one piece, sets in order, truth as FF. Values of implicitly tagged types are looked into where
// they are constructed, since nothing tells which type they have.
func IsDER(data []byte) bool {
	size, ok := derElement(data, 0)
	return ok && size == len(data)
}

// derElement returns the size of the element in DER that data begins with.
func derElement(data []byte, depth int) (int, bool) {
	h, err := readHeader(data, true)
	if err != nil || h.tag == 0 || depth >= MaxDepth {
		return 0, false
	}
	end := h.size + int(h.length)
	if h.tag == Boolean && (h.length != 1 || data[h.size] != 0 && data[h.size] != 0xff) {
		return 0, false
	}
	if h.constructed {
		before := 0 // where the element before this one begins
		for pos := h.size; pos < end; {
			size, ok := derElement(data[pos:end], depth+1)
			if !ok || h.tag == Set && before > 0 && bytes.Compare(data[before:pos], data[pos:pos+size]) > 0 {
				return 0, false
			}
			before = pos
			pos += size
		}
	}
	return end, true
}

// DER returns the element in the distinguished encoding: the very octets where they are DER already.
func (e Element) DER() ([]byte, error) {
	if !e.Indefinite && IsDER(e.Raw) {
		return e.Raw, nil
	}
	return appendDER(make([]byte, 0, len(e.Raw)), e, 0)
}

func appendDER(dst []byte, e Element, depth uint8) ([]byte, error) {
	if depth+1 >= MaxDepth {
		return nil, ErrDepth
	}
	if !e.Constructed {
		content := e.Content
		if e.Tag == Boolean {
			if len(content) != 1 {
				return nil, errLength
			}
			if content[0] != 0 {
				content = []byte{0xff}
			}
		}
		return append(AppendHeader(dst, e.Tag, false, len(content)), content...), nil
	}
	if e.Tag < 1<<classShift && isString(e.Tag) {
		if e.Tag == BitString { // the pieces would have to be told apart by their numbers of unused bits
			return nil, errForm
		}
		piece := e.Tag
		if in := (Input{rest: e.Content}); !in.Is(piece) {
			piece = OctetString // X.690 chapter 8.21.3: pieces of a character string are octet strings
		}
		content, err := appendPieces(nil, e.Content, piece, depth+1)
		if err != nil {
			return nil, err
		}
		return append(AppendHeader(dst, e.Tag, false, len(content)), content...), nil
	}
	var parts [][]byte
	length := 0
	in := Input{rest: e.Content, depth: depth + 1}
	for !in.Empty() {
		child, err := in.Next()
		if err != nil {
			return nil, err
		}
		part, err := appendDER(nil, child, depth+1)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		length += len(part)
	}
	if e.Tag == Set {
		SortSetOf(parts)
	}
	dst = AppendHeader(dst, e.Tag, true, length)
	for _, part := range parts {
		dst = append(dst, part...)
	}
	return dst, nil
}

// AppendHeader appends tag and length in DER.
func AppendHeader(dst []byte, tag Tag, constructed bool, length int) []byte {
	first := byte(tag>>classShift) << 6
	if constructed {
		first |= 0x20
	}
	if number := tag & (1<<classShift - 1); number < 0x1f {
		dst = append(dst, first|byte(number))
	} else {
		dst = appendArc(append(dst, first|0x1f), uint64(number))
	}
	if length < 0x80 {
		return append(dst, byte(length))
	}
	n := 1
	for v := length >> 8; v > 0; v >>= 8 {
		n++
	}
	dst = append(dst, 0x80|byte(n))
	for i := n - 1; i >= 0; i-- {
		dst = append(dst, byte(length>>(8*i)))
	}
	return dst
}

// SortSetOf brings encodings into the order that DER has for the elements of a SET OF (X.690 chapter 11.6).
func SortSetOf(encodings [][]byte) { slices.SortStableFunc(encodings, bytes.Compare) }
