package record

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Namespace of FHIR resources. Elements of other namespaces (the XHTML of a narrative) are checked for form only.
const fhirNamespace = "http://hl7.org/fhir"

// Bounds inside a tag.
const (
	maxAttributes = 32
	maxPrefixes   = 16
)

// Classes of characters.
const (
	classPlain = iota // everything that may stand in a value
	classSpace
	classStop // quotes, angle brackets, ampersand and what may not be there at all
)

var valueClass, nameClass = classes()

func classes() (value, name [256]uint8) {
	for c := range 256 {
		switch {
		case c == '\t', c == '\n', c == '\r', c == ' ':
			value[c] = classSpace
		case c < 0x20, c == '<', c == '&', c == '"', c == '\'', c == ']':
			value[c] = classStop
		}
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == ':':
			name[c] = 2 // may begin a name
		case c >= '0' && c <= '9', c == '-', c == '.':
			name[c] = 1
		}
	}
	return value, name
}

// xmlParser reads XML 1.0 in UTF-8 as FHIR has it: no document type, no entities but the five of XML, names of ASCII. It
// checks well-formedness and needs no memory but for values with references.
type xmlParser struct {
	data []byte
	pos  int
	h    handler

	depth    int
	skip     int // elements open below one that the handler did not want, itself included
	names    [MaxDepth]span
	fhir     [MaxDepth + 1]bool // default namespace of each depth is that of FHIR
	foreign  [MaxDepth]bool     // element is of another namespace
	prefixes [maxPrefixes]prefix
	bound    int

	attributes [maxAttributes]attribute
	count      int
}

type span struct{ from, to int }

type prefix struct {
	name  []byte
	fhir  bool
	depth int
}

type attribute struct {
	name, value []byte
	escaped     bool // value has references
}

func (p *xmlParser) fail(what string) error {
	return fmt.Errorf("%w XML: %s at octet %d", ErrMalformed, what, p.pos)
}

// parseXML reports the elements of a document. inherited says that the default namespace outside is that of FHIR, for a
// part of a document.
func parseXML(data []byte, h handler, inherited bool) error {
	p := &xmlParser{data: data, h: h}
	p.fhir[0] = inherited
	if !utf8.Valid(data) {
		return fmt.Errorf("%w XML: not UTF-8", ErrMalformed)
	}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		p.pos = 3
	}
	if bytes.HasPrefix(data[p.pos:], []byte("<?xml")) && len(data) > p.pos+5 && valueClass[data[p.pos+5]] == classSpace {
		if err := p.declaration(); err != nil {
			return err
		}
	}
	root := false
	for {
		if err := p.text(); err != nil {
			return err
		}
		if p.pos == len(data) {
			break
		}
		rest := data[p.pos:]
		if len(rest) < 2 {
			return p.fail("end inside a tag")
		}
		var err error
		switch rest[1] {
		case '/':
			err = p.endTag()
		case '!':
			err = p.declarationOrComment()
		case '?':
			err = p.instruction()
		default:
			if p.depth == 0 {
				if root {
					return p.fail("second root element")
				}
				root = true
			}
			err = p.startTag()
		}
		if err != nil {
			return err
		}
	}
	if p.depth > 0 {
		return p.fail("end inside an element")
	}
	if !root {
		return p.fail("no element")
	}
	return nil
}

// declaration reads <?xml version="1.0" encoding="UTF-8" standalone="yes"?>.
func (p *xmlParser) declaration() error {
	end := bytes.Index(p.data[p.pos:], []byte("?>"))
	if end < 0 {
		return p.fail("declaration without an end")
	}
	inner := p.data[p.pos+5 : p.pos+end]
	sub := xmlParser{data: inner}
	if err := sub.readAttributes(); err != nil {
		return p.fail("declaration")
	}
	order := 0
	for _, a := range sub.attributes[:sub.count] {
		switch {
		case string(a.name) == "version" && order < 1 && string(a.value) == "1.0":
			order = 1
		case string(a.name) == "encoding" && order == 1 && (bytes.EqualFold(a.value, []byte("utf-8")) || bytes.EqualFold(a.value, []byte("us-ascii"))):
			order = 2
		case string(a.name) == "standalone" && (order == 1 || order == 2) && (string(a.value) == "yes" || string(a.value) == "no"):
			order = 3
		default:
			return p.fail("declaration of another version or encoding")
		}
	}
	if sub.pos != len(inner) || order == 0 {
		return p.fail("declaration")
	}
	p.pos += end + 2
	return nil
}

// text reads up to the next tag. FHIR has text in narratives only, which are not reported.
func (p *xmlParser) text() error {
	for p.pos < len(p.data) {
		c := p.data[p.pos]
		if c == '<' {
			return nil
		}
		switch valueClass[c] {
		case classStop:
			switch {
			case c == '&':
				n := reference(p.data[p.pos:], nil)
				if n == 0 || p.depth == 0 {
					return p.fail("reference to an entity")
				}
				p.pos += n
				continue
			case c == ']':
				if bytes.HasPrefix(p.data[p.pos:], []byte("]]>")) {
					return p.fail("]]> outside a CDATA section")
				}
			case c < 0x20:
				return p.fail("control character")
			}
			fallthrough
		case classPlain:
			if p.depth == 0 {
				return p.fail("text outside the root element")
			}
		}
		if c >= 0x80 && forbidden(p.data[p.pos:]) {
			return p.fail("character that XML does not have")
		}
		p.pos++
	}
	return nil
}

// forbidden reports whether text begins with U+FFFE or U+FFFF.
func forbidden(text []byte) bool {
	return len(text) > 2 && text[0] == 0xef && text[1] == 0xbf && text[2] >= 0xbe
}

// reference returns the length of the reference that text begins with, 0 when it is none of the five entities and no
// character. It appends the character to out when that is not nil.
func reference(text []byte, out *[]byte) int {
	end := bytes.IndexByte(text[:min(len(text), 12)], ';')
	if end < 2 {
		return 0
	}
	name := text[1:end]
	r := rune(0)
	switch string(name) {
	case "amp":
		r = '&'
	case "lt":
		r = '<'
	case "gt":
		r = '>'
	case "quot":
		r = '"'
	case "apos":
		r = '\''
	default:
		if name[0] != '#' || len(name) < 2 {
			return 0
		}
		digits, base := name[1:], 10
		if digits[0] == 'x' {
			digits, base = digits[1:], 16
		}
		if len(digits) == 0 || digits[0] == '+' || digits[0] == '-' {
			return 0
		}
		v, err := strconv.ParseUint(string(digits), base, 32)
		if err != nil || v > utf8.MaxRune {
			return 0
		}
		if r = rune(v); !utf8.ValidRune(r) || r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
			return 0
		}
	}
	if out != nil {
		*out = utf8.AppendRune(*out, r)
	}
	return end + 1
}

func unescape(value []byte) []byte {
	out := make([]byte, 0, len(value))
	for len(value) > 0 {
		i := bytes.IndexByte(value, '&')
		if i < 0 {
			return append(out, value...)
		}
		out = append(out, value[:i]...)
		value = value[i:]
		value = value[reference(value, &out):] // checked when the tag was read
	}
	return out
}

// declarationOrComment reads comments and CDATA sections. Document types are refused.
func (p *xmlParser) declarationOrComment() error {
	rest := p.data[p.pos:]
	switch {
	case bytes.HasPrefix(rest, []byte("<!--")):
		end := bytes.Index(rest[4:], []byte("--"))
		if end < 0 || len(rest) < 4+end+3 || rest[4+end+2] != '>' {
			return p.fail("comment")
		}
		if err := p.plain(rest[4 : 4+end]); err != nil {
			return err
		}
		p.pos += 4 + end + 3
		return nil
	case p.depth > 0 && bytes.HasPrefix(rest, []byte("<![CDATA[")):
		end := bytes.Index(rest, []byte("]]>"))
		if end < 0 {
			return p.fail("CDATA section")
		}
		if err := p.plain(rest[9:end]); err != nil {
			return err
		}
		p.pos += end + 3
		return nil
	}
	return p.fail("document type or other declaration")
}

// plain checks characters where nothing has a meaning.
func (p *xmlParser) plain(text []byte) error {
	for i, c := range text {
		if c < 0x20 && valueClass[c] != classSpace || c >= 0x80 && forbidden(text[i:]) {
			return p.fail("character that XML does not have")
		}
	}
	return nil
}

// instruction reads a processing instruction, which means nothing here.
func (p *xmlParser) instruction() error {
	rest := p.data[p.pos:]
	end := bytes.Index(rest, []byte("?>"))
	if end < 2 {
		return p.fail("processing instruction")
	}
	n := nameLength(rest[2:end])
	if n == 0 || 2+n < end && valueClass[rest[2+n]] != classSpace || bytes.EqualFold(rest[2:2+n], []byte("xml")) || bytes.IndexByte(rest[2:2+n], ':') >= 0 {
		return p.fail("processing instruction")
	}
	if err := p.plain(rest[2+n : end]); err != nil {
		return err
	}
	p.pos += end + 2
	return nil
}

func nameLength(text []byte) int {
	if len(text) == 0 || nameClass[text[0]] != 2 {
		return 0
	}
	for i, c := range text {
		if nameClass[c] == 0 {
			return i
		}
	}
	return len(text)
}

// readAttributes reads attributes up to the first character that belongs to none.
func (p *xmlParser) readAttributes() error {
	p.count = 0
	data := p.data
	for {
		spaces := p.pos
		for p.pos < len(data) && valueClass[data[p.pos]] == classSpace {
			p.pos++
		}
		n := nameLength(data[p.pos:])
		if n == 0 {
			return nil
		}
		if p.pos == spaces {
			return p.fail("attributes without space between them")
		}
		if p.count == maxAttributes {
			return fmt.Errorf("%w: attributes of an element", ErrLimit)
		}
		a := &p.attributes[p.count]
		a.name = data[p.pos : p.pos+n]
		p.pos += n
		for p.pos < len(data) && valueClass[data[p.pos]] == classSpace {
			p.pos++
		}
		if p.pos >= len(data) || data[p.pos] != '=' {
			return p.fail("attribute without a value")
		}
		p.pos++
		for p.pos < len(data) && valueClass[data[p.pos]] == classSpace {
			p.pos++
		}
		if p.pos >= len(data) || data[p.pos] != '"' && data[p.pos] != '\'' {
			return p.fail("attribute value without quotes")
		}
		quote := data[p.pos]
		p.pos++
		begin := p.pos
		a.escaped = false
	value:
		for {
			for p.pos < len(data) && valueClass[data[p.pos]] != classStop {
				if data[p.pos] == 0xef && forbidden(data[p.pos:]) {
					return p.fail("character that XML does not have")
				}
				p.pos++
			}
			if p.pos >= len(data) {
				return p.fail("attribute value without an end")
			}
			switch c := data[p.pos]; {
			case c == quote:
				break value
			case c == '"' || c == '\'' || c == ']':
				p.pos++
			case c == '&':
				n := reference(data[p.pos:], nil)
				if n == 0 {
					return p.fail("reference to an entity")
				}
				a.escaped = true
				p.pos += n
			default:
				return p.fail("character in an attribute value")
			}
		}
		a.value = data[begin:p.pos]
		p.pos++
		for i := range p.count {
			if bytes.Equal(p.attributes[i].name, a.name) {
				return p.fail("attribute twice")
			}
		}
		p.count++
	}
}

func (p *xmlParser) startTag() error {
	begin := p.pos
	p.pos++
	n := nameLength(p.data[p.pos:])
	if n == 0 {
		return p.fail("name of an element")
	}
	if p.depth == MaxDepth {
		return fmt.Errorf("%w: XML elements nested deeper than %d", ErrLimit, MaxDepth)
	}
	name := span{p.pos, p.pos + n}
	p.pos += n
	if err := p.readAttributes(); err != nil {
		return err
	}
	p.names[p.depth] = name
	p.depth++
	p.fhir[p.depth] = p.fhir[p.depth-1]
	var value, url *attribute
	for i := range p.count {
		a := &p.attributes[i]
		switch {
		case string(a.name) == "value":
			value = a
		case string(a.name) == "url":
			url = a
		case string(a.name) == "xmlns":
			p.fhir[p.depth] = a.is(fhirNamespace)
		case bytes.HasPrefix(a.name, []byte("xmlns:")):
			if p.bound == maxPrefixes {
				return fmt.Errorf("%w: XML namespaces", ErrLimit)
			}
			if len(a.value) == 0 || len(a.name) == len("xmlns:") {
				return p.fail("namespace without a name")
			}
			p.prefixes[p.bound] = prefix{a.name[len("xmlns:"):], a.is(fhirNamespace), p.depth}
			p.bound++
		}
	}
	for _, a := range p.attributes[:p.count] {
		if colon := bytes.IndexByte(a.name, ':'); colon >= 0 && string(a.name[:colon]) != "xmlns" {
			if _, ok := p.lookup(a.name[:colon]); !ok || colon == len(a.name)-1 || bytes.IndexByte(a.name[colon+1:], ':') >= 0 {
				return p.fail("prefix of an attribute")
			}
		}
	}
	local, fhir := p.data[name.from:name.to], p.fhir[p.depth]
	if colon := bytes.IndexByte(local, ':'); colon >= 0 {
		var ok bool
		if fhir, ok = p.lookup(local[:colon]); !ok || bytes.IndexByte(local[colon+1:], ':') >= 0 {
			return p.fail("prefix of an element")
		}
		if local = local[colon+1:]; nameLength(local) == 0 {
			return p.fail("name of an element")
		}
	}
	p.report(local, fhir, begin, value, url)
	data := p.data[p.pos:]
	switch {
	case len(data) > 0 && data[0] == '>':
		p.pos++
	case len(data) > 1 && data[0] == '/' && data[1] == '>':
		p.pos += 2
		p.close()
	default:
		return p.fail("tag")
	}
	return nil
}

// is compares a namespace.
func (a *attribute) is(name string) bool {
	if a.escaped {
		return string(unescape(a.value)) == name
	}
	return string(a.value) == name
}

// report tells the handler of an element that begins.
func (p *xmlParser) report(local []byte, fhir bool, begin int, value, url *attribute) {
	switch {
	case p.skip > 0:
		p.skip++
		return
	case !fhir:
		p.foreign[p.depth-1] = true
		p.skip = 1
		return
	}
	p.foreign[p.depth-1] = false
	if !p.h.start(local, begin) {
		p.skip = 1
		return
	}
	if url != nil {
		p.h.url(url.content())
	}
	if value != nil {
		p.h.value(value.content())
	}
}

func (a *attribute) content() []byte {
	if a.escaped {
		return unescape(a.value)
	}
	return a.value
}

// lookup reports whether a prefix stands for the namespace of FHIR; ok is false when it is not declared.
func (p *xmlParser) lookup(name []byte) (fhir, ok bool) {
	for i := p.bound - 1; i >= 0; i-- {
		if bytes.Equal(p.prefixes[i].name, name) {
			return p.prefixes[i].fhir, true
		}
	}
	return false, string(name) == "xml"
}

func (p *xmlParser) endTag() error {
	if p.depth == 0 {
		return p.fail("end of an element that did not begin")
	}
	p.pos += 2
	open := p.names[p.depth-1]
	length := open.to - open.from
	if len(p.data)-p.pos < length || !bytes.Equal(p.data[p.pos:p.pos+length], p.data[open.from:open.to]) {
		return p.fail("end of another element")
	}
	p.pos += length
	for p.pos < len(p.data) && valueClass[p.data[p.pos]] == classSpace {
		p.pos++
	}
	if p.pos >= len(p.data) || p.data[p.pos] != '>' {
		return p.fail("end of another element")
	}
	p.pos++
	p.close()
	return nil
}

// close ends the innermost element.
func (p *xmlParser) close() {
	for p.bound > 0 && p.prefixes[p.bound-1].depth == p.depth {
		p.bound--
	}
	p.depth--
	if p.skip > 1 {
		p.skip--
		return
	}
	p.skip = 0
	if !p.foreign[p.depth] {
		p.h.end(p.pos)
	}
}
