package vsd

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// Bounds against hostile content. A file of the card holds at most 1250 octets, real documents are some 2000 octets long.
const (
	MaxXML    = 1 << 20 // decompressed octets
	maxDepth  = 16      // nested elements
	maxLeaves = 500     // values
)

// openLengthPrefixed takes the compressed document from EF.PD and EF.GVD: two octets of length, then gzip. What stands
// behind is padding or older data and is not touched.
func openLengthPrefixed(b []byte) ([]byte, error) {
	if len(b) < 2 {
		return nil, fmt.Errorf("%w: %d octets", ErrUnreadable, len(b))
	}
	n := int(binary.BigEndian.Uint16(b))
	if n == 0 || n > len(b)-2 {
		return nil, fmt.Errorf("%w: length %d in a file of %d octets", ErrUnreadable, n, len(b))
	}
	return b[2 : 2+n], nil
}

// openVD takes the compressed document from EF.VD: start and end of the insurance data and of a copy of the protected
// data, then the data. Both ends are the position of the last octet itself. The copy is not read: the protected data are
// those of EF.GVD, behind their access rule (VSDM-A_2784).
func openVD(b []byte) ([]byte, error) {
	const header = 8
	if len(b) < header {
		return nil, fmt.Errorf("%w: %d octets", ErrUnreadable, len(b))
	}
	start, end := int(binary.BigEndian.Uint16(b)), int(binary.BigEndian.Uint16(b[2:]))
	if start < header || end < start || end >= len(b) {
		return nil, fmt.Errorf("%w: data from %d to %d in a file of %d octets", ErrUnreadable, start, end, len(b))
	}
	return b[start : end+1], nil
}

// decompress undoes gzip, checks its checksum and length, and stops at MaxXML.
func decompress(packed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("%w: gzip header: %w", ErrUnreadable, err)
	}
	z.Multistream(false)
	text, err := io.ReadAll(io.LimitReader(z, MaxXML+1))
	if err != nil {
		return nil, fmt.Errorf("%w: decompress: %w", ErrUnreadable, err)
	}
	if len(text) > MaxXML {
		return nil, fmt.Errorf("%w: %w: more than %d octets", ErrUnreadable, ErrTooLarge, MaxXML)
	}
	return text, nil
}

// namespace of all three documents in schema 5.2.
const namespace = "http://ws.gematik.de/fa/vsdm/vsd/v5.2"

// document is one of the three kinds.
type document struct {
	file string // name of the file without EF.
	id   string // prefix of ids
	root string // root element
}

var (
	documentPD  = document{"PD", "pd", "UC_PersoenlicheVersichertendatenXML"}
	documentVD  = document{"VD", "vd", "UC_AllgemeineVersicherungsdatenXML"}
	documentGVD = document{"GVD", "gvd", "UC_GeschuetzteVersichertendatenXML"}
)

// leaf is an element with a text: an element without children, or with text between its children.
type leaf struct {
	doc  string
	path string // names of the elements below the root, joined by slashes
	text string
	// group counts the element groups that may occur several times, so that their members stay together.
	group int
}

// read decompresses and parses a document into its leaves, in document order.
func (d document) read(packed []byte) ([]leaf, error) {
	text, err := decompress(packed)
	if err != nil {
		return nil, err
	}
	leaves, err := d.parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: XML: %w", ErrUnreadable, err)
	}
	return leaves, nil
}

// parse reads the XML. The root has to be that of the document in the namespace of schema 5.2; private insurers use the
// same root with other content. Document type declarations are refused.
func (d document) parse(text []byte) ([]leaf, error) {
	dec := xml.NewDecoder(bytes.NewReader(text))
	dec.CharsetReader = charset(text)
	type open struct {
		name     string
		text     strings.Builder
		children bool
	}
	var (
		stack  []*open
		leaves []leaf
		seen   bool
		group  int
	)
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, syntaxOnly(err)
		}
		switch t := token.(type) {
		case xml.Directive:
			return nil, errors.New("document type declaration")
		case xml.StartElement:
			if len(stack) == 0 {
				if seen || t.Name.Local != d.root || t.Name.Space != namespace {
					return nil, errors.New("unexpected root element or namespace")
				}
				seen = true
			} else {
				stack[len(stack)-1].children = true
			}
			if len(stack) == maxDepth {
				return nil, errors.New("elements nested too deeply")
			}
			stack = append(stack, &open{name: t.Name.Local})
		case xml.CharData:
			if len(stack) > 0 {
				stack[len(stack)-1].text.Write(t)
			} else if len(bytes.TrimSpace(t)) > 0 {
				return nil, errors.New("text outside the root element")
			}
		case xml.EndElement:
			top := stack[len(stack)-1]
			value := strings.Join(strings.Fields(top.text.String()), " ")
			if len(stack) > 1 && (!top.children || value != "") {
				if len(leaves) == maxLeaves {
					return nil, errors.New("too many elements")
				}
				names := make([]string, 0, len(stack)-1)
				for _, o := range stack[1:] {
					names = append(names, o.name)
				}
				leaves = append(leaves, leaf{doc: d.id, path: strings.Join(names, "/"), text: value, group: group})
			}
			if top.children {
				group++
			}
			stack = stack[:len(stack)-1]
		}
	}
	if !seen {
		return nil, errors.New("no root element")
	}
	return leaves, nil
}

// syntaxOnly keeps the position of an XML error and drops its text, which quotes names from the card.
func syntaxOnly(err error) error {
	var s *xml.SyntaxError
	if errors.As(err, &s) {
		return fmt.Errorf("syntax error in line %d", s.Line)
	}
	return errors.New("not well-formed")
}

// charset returns the reader for the encoding that the document declares. ISO-8859-15 is prescribed. Documents exist that
// declare it and are written in UTF-8 all the same; a text with letters beyond ASCII that is valid UTF-8 is not
// ISO-8859-15 by chance.
func charset(whole []byte) func(label string, in io.Reader) (io.Reader, error) {
	return func(label string, in io.Reader) (io.Reader, error) {
		switch strings.ToLower(label) {
		case "iso-8859-15":
			if utf8.Valid(whole) {
				return in, nil
			}
			return charmap.ISO8859_15.NewDecoder().Reader(in), nil
		case "iso-8859-1":
			return charmap.ISO8859_1.NewDecoder().Reader(in), nil
		}
		return nil, errors.New("unknown encoding")
	}
}
