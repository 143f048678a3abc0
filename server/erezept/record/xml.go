package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"unicode/utf8"
)

// Namespace of FHIR resources. Elements of other namespaces (the XHTML of a narrative) are checked for form only.
const fhirNamespace = "http://hl7.org/fhir"

// Bounds inside a tag.
const (
	maxAttributes = 32
	maxPrefixes   = 16
	maxReference  = 12 // octets of a reference
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
	window
	h handler

	depth    int
	skip     int            // elements open below one that the handler did not want, itself included
	names    [MaxDepth]span // in data, or in stack when data moves
	stack    []byte
	fhir     [MaxDepth + 1]bool // default namespace of each depth is that of FHIR
	foreign  [MaxDepth]bool     // element is of another namespace
	prefixes [maxPrefixes]prefix
	bound    int

	attributes [maxAttributes]attribute
	count      int
	elided     bool // the value of the tag was handed on as a stream
}

// parsers are parsers for documents in memory; each has some 8 KiB.
var parsers = sync.Pool{New: func() any { return new(xmlParser) }}

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
	return fmt.Errorf("%w XML: %s at octet %d", ErrMalformed, what, p.offset(p.pos))
}

// parseXML reports the elements of a document. inherited says that the default namespace outside is that of FHIR, for a
// part of a document.
func parseXML(data []byte, h handler, inherited bool) error {
	p := parsers.Get().(*xmlParser)
	defer func() {
		*p = xmlParser{}
		parsers.Put(p)
	}()
	p.data, p.h = data, h
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
	return p.document()
}

// document reads everything behind the declaration.
func (p *xmlParser) document() error {
	root := false
	for {
		if err := p.text(); err != nil {
			return err
		}
		if p.pos == len(p.data) {
			break
		}
		if p.source != nil {
			if done, err := p.token(); err != nil {
				return err
			} else if done {
				root = true
				continue
			}
		}
		rest := p.data[p.pos:]
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
	sub := xmlParser{window: window{data: inner}}
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
	for p.pos < len(p.data) || p.source != nil && p.more() {
		c := p.data[p.pos]
		if c == '<' {
			return nil
		}
		if p.source != nil && (c == '&' || c == ']' || c == 0xef) {
			p.need(maxReference)
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
	end := bytes.IndexByte(text[:min(len(text), maxReference)], ';')
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
	if p.source != nil {
		from := 0
		if p.depth > 0 {
			from = p.names[p.depth-1].to
		}
		p.stack = append(p.stack[:from], p.data[name.from:name.to]...)
		p.names[p.depth] = span{from, len(p.stack)}
	}
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
			bound := a.name[len("xmlns:"):]
			if p.source != nil {
				bound = bytes.Clone(bound)
			}
			p.prefixes[p.bound] = prefix{bound, a.is(fhirNamespace), p.depth}
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
	local, fhir, err := p.resolve(p.data[name.from:name.to])
	if err != nil {
		return err
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

// resolve takes the prefix off the name of an element and says whether its namespace is that of FHIR.
func (p *xmlParser) resolve(name []byte) (local []byte, fhir bool, err error) {
	colon := bytes.IndexByte(name, ':')
	if colon < 0 {
		return name, p.fhir[p.depth], nil
	}
	fhir, ok := p.lookup(name[:colon])
	if !ok || bytes.IndexByte(name[colon+1:], ':') >= 0 {
		return nil, false, p.fail("prefix of an element")
	}
	if local = name[colon+1:]; nameLength(local) == 0 {
		return nil, false, p.fail("name of an element")
	}
	return local, fhir, nil
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
	if !p.h.start(local, p.offset(begin)) {
		p.skip = 1
		return
	}
	if url != nil {
		p.h.url(url.content())
	}
	if value != nil && !p.elided {
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
	open, names := p.names[p.depth-1], p.data
	if p.source != nil {
		names = p.stack
	}
	length := open.to - open.from
	if len(p.data)-p.pos < length || !bytes.Equal(p.data[p.pos:p.pos+length], names[open.from:open.to]) {
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
		p.h.end(p.offset(p.pos))
	}
}

// token brings the tag, comment, section or instruction at the place into the window. A start tag with a value that is too
// long for that it reads itself, and done is true.
func (p *xmlParser) token() (done bool, err error) {
	p.need(len("<![CDATA["))
	rest := p.data[p.pos:]
	for _, t := range []struct {
		begin, end string
	}{{"<!--", "-->"}, {"<![CDATA[", "]]>"}, {"<?", "?>"}} {
		if bytes.HasPrefix(rest, []byte(t.begin)) {
			_, err := p.find(len(t.begin), func(text []byte) int { return bytes.Index(text, []byte(t.end)) }, len(t.end))
			return false, err
		}
	}
	quote, from := byte(0), 1
	for {
		at, err := p.find(from, func(text []byte) int {
			if quote != 0 {
				return bytes.IndexByte(text, quote)
			}
			return bytes.IndexAny(text, `>"'`)
		}, 1)
		if err != nil {
			if quote != 0 && errors.Is(err, ErrLimit) {
				return true, p.longTag(from, quote)
			}
			return false, err
		}
		from = at + 1
		switch c := p.data[p.pos+at]; {
		case quote != 0:
			quote = 0
		case c == '>':
			return false, nil
		default:
			quote = c
		}
	}
}

// find looks for something from an octet of the token on and brings what is up to its end into the window. It returns where
// it was found; ErrLimit means that it is not among the first so many octets. At the end of the input the parser is left to
// find out itself that something is missing.
func (p *xmlParser) find(from int, index func([]byte) int, length int) (int, error) {
	for {
		if from < len(p.data)-p.pos {
			if i := index(p.data[p.pos+from:]); i >= 0 {
				return from + i, nil
			}
		}
		have := len(p.data) - p.pos
		if have >= p.longest {
			return 0, fmt.Errorf("%w: %d octets of XML without the end of a tag or a comment", ErrLimit, have)
		}
		from = max(from, have-length+1)
		if !p.need(have + 1) {
			return 0, p.stop(p.fail("end inside a tag"))
		}
	}
}

// longTag reads a start tag whose attribute value, which begins at an octet of it, is too long for the window: the value is
// handed on or passed over, and what is left is read as a tag whose value is empty.
func (p *xmlParser) longTag(value int, quote byte) error {
	tag := bytes.Clone(p.data[p.pos : p.pos+value])
	begin := p.offset(p.pos)
	name := bytes.TrimRight(tag[:len(tag)-1], " \t\r\n")
	name = bytes.TrimRight(bytes.TrimSuffix(name, []byte("=")), " \t\r\n")
	if !bytes.HasSuffix(name, []byte("value")) || len(name) == len("value") || valueClass[name[len(name)-len("value")-1]] != classSpace ||
		bytes.Contains(tag, []byte("xmlns")) {
		return fmt.Errorf("%w: %d octets of an attribute that is no value", ErrLimit, p.longest)
	}
	local, fhir, err := p.resolve(tag[1 : 1+nameLength(tag[1:])])
	if err != nil {
		return err
	}
	p.pos += value
	v := &xmlValue{p: p, quote: quote}
	if h, ok := p.h.(streamHandler); ok && p.skip == 0 && fhir && h.wants(local) {
		if err := h.stream(v); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, v); err != nil {
		return err
	}
	inside := byte(0)
	for i := 1; ; i++ { // from behind the closing quote
		if i >= p.longest {
			return fmt.Errorf("%w: %d octets of a tag behind a long value", ErrLimit, i)
		}
		if !p.need(i + 1) {
			return p.stop(p.fail("tag"))
		}
		c := p.data[p.pos+i]
		if inside == 0 && c == '>' {
			tag = append(tag, p.data[p.pos:p.pos+i+1]...)
			p.pos += i + 1
			break
		}
		if inside == c {
			inside = 0
		} else if inside == 0 && (c == '"' || c == '\'') {
			inside = c
		}
	}
	if bytes.Contains(tag, []byte("xmlns")) || p.depth == 0 {
		return fmt.Errorf("%w: tag with a long value and a namespace", ErrLimit)
	}
	outside := p.window
	p.window = window{data: tag, source: p.source, base: int64(begin), ended: true}
	p.elided = true
	err = p.startTag()
	if err == nil && p.pos != len(tag) {
		err = p.fail("tag")
	}
	p.window, p.elided = outside, false
	return err
}

// xmlValue is the value of an attribute as a stream. It ends before the closing quote.
type xmlValue struct {
	p     *xmlParser
	quote byte
	rest  []byte // of a reference
}

func (v *xmlValue) Read(b []byte) (int, error) {
	p := v.p
	for {
		if len(v.rest) > 0 {
			n := copy(b, v.rest)
			v.rest = v.rest[n:]
			return n, nil
		}
		if !p.more() {
			return 0, p.stop(p.fail("attribute value without an end"))
		}
		n := 0
		for n < len(b) && p.pos < len(p.data) && valueClass[p.data[p.pos]] != classStop && p.data[p.pos] != 0xef {
			b[n] = p.data[p.pos]
			n++
			p.pos++
		}
		if n > 0 || len(b) == 0 {
			return n, nil
		}
		p.need(maxReference)
		switch c := p.data[p.pos]; {
		case c == v.quote:
			return 0, io.EOF
		case c == 0xef && forbidden(p.data[p.pos:]):
			return 0, p.fail("character that XML does not have")
		case c == '"' || c == '\'' || c == ']' || c == 0xef:
			v.rest = []byte{c}
			p.pos++
		case c == '&':
			n := reference(p.data[p.pos:], &v.rest)
			if n == 0 {
				return 0, p.fail("reference to an entity")
			}
			p.pos += n
		default:
			return 0, p.fail("character in an attribute value")
		}
	}
}
