// Package xmlsig reads XML documents with an enveloped XAdES signature, such as the trusted lists of the telematics
// infrastructure and of the Bundesnetzagentur: a strict, bounded XML 1.0 reader, exclusive canonicalisation
// (http://www.w3.org/2001/10/xml-exc-c14n#) and the check of the signature, which Go's standard library and the usual
// packages cannot do for brainpool keys.
//
// The reader takes UTF-8 and nothing of a document type definition: no DOCTYPE, no entities beside the five of XML. The
// caller gets the content as the canonical octets that the signature's digest was made of ([Signed.Content]), so that
// nothing can be read that was not signed.
package xmlsig

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of a document.
const (
	MaxSize       = 8 << 20 // octets
	maxDepth      = 64      // elements in elements
	maxNodes      = 250_000 // elements and texts
	maxAttributes = 64      // of one element, namespace declarations among them
	maxName       = 1024    // octets
)

// ErrMalformed is wrapped by every error about a document that is not well-formed, or not the kind of XML read here.
var ErrMalformed = errors.New("xml: malformed document")

// xmlSpace is the namespace that the prefix xml stands for.
const (
	xmlSpace   = "http://www.w3.org/XML/1998/namespace"
	xmlnsSpace = "http://www.w3.org/2000/xmlns/"
)

type kind uint8

const (
	element kind = iota
	text
	instruction
)

// Attribute is one attribute that is no namespace declaration.
type Attribute struct {
	Space, Local, Value string
	prefix              string
}

// Node is an element; texts and processing instructions are kept for the canonical form.
type Node struct {
	Space, Local string
	Attributes   []Attribute

	kind     kind
	prefix   string
	data     string // of a text or an instruction
	declared []declaration
	children []*Node
	parent   *Node
}

type declaration struct{ prefix, space string }

// Document is a document as read.
type Document struct {
	Root          *Node
	before, after []*Node // instructions outside the root
}

// Elements returns the elements directly below n.
func (n *Node) Elements() []*Node {
	var out []*Node
	for _, c := range n.children {
		if c.kind == element {
			out = append(out, c)
		}
	}
	return out
}

// Child returns the first element of that name directly below n, nil when there is none.
func (n *Node) Child(space, local string) *Node {
	for _, c := range n.children {
		if c.kind == element && c.Local == local && c.Space == space {
			return c
		}
	}
	return nil
}

// Children returns every element of that name directly below n.
func (n *Node) Children(space, local string) []*Node {
	var out []*Node
	for _, c := range n.children {
		if c.kind == element && c.Local == local && c.Space == space {
			out = append(out, c)
		}
	}
	return out
}

// Attr returns the value of the attribute without a namespace of that name, "" when there is none.
func (n *Node) Attr(local string) string {
	for _, a := range n.Attributes {
		if a.Space == "" && a.Local == local {
			return a.Value
		}
	}
	return ""
}

// Text returns the text directly below n, without white space at its ends.
func (n *Node) Text() string {
	if len(n.children) == 1 && n.children[0].kind == text {
		return strings.Trim(n.children[0].data, " \t\r\n")
	}
	var b strings.Builder
	for _, c := range n.children {
		if c.kind == text {
			b.WriteString(c.data)
		}
	}
	return strings.Trim(b.String(), " \t\r\n")
}

// walk calls f for n and every element below it until f returns false.
func (n *Node) walk(f func(*Node) bool) bool {
	if !f(n) {
		return false
	}
	for _, c := range n.children {
		if c.kind == element && !c.walk(f) {
			return false
		}
	}
	return true
}

type parser struct {
	in    []byte
	at    int
	nodes int
	scope []declaration // namespaces in force, inner ones last
}

func (p *parser) fail(what string) error {
	return fmt.Errorf("%w: %s at octet %d", ErrMalformed, what, p.at)
}

// Parse reads a document.
func Parse(data []byte) (*Document, error) {
	p := &parser{in: data}
	if len(data) > MaxSize {
		return nil, p.fail("too long")
	}
	if !utf8.Valid(data) {
		return nil, p.fail("not UTF-8")
	}
	p.in = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if err := p.prolog(); err != nil {
		return nil, err
	}
	doc := &Document{}
	for p.at < len(p.in) {
		p.space()
		switch {
		case p.at == len(p.in):
		case p.has("<!--"):
			if err := p.comment(); err != nil {
				return nil, err
			}
		case p.has("<?"):
			n, err := p.instruction()
			if err != nil {
				return nil, err
			}
			if doc.Root == nil {
				doc.before = append(doc.before, n)
			} else {
				doc.after = append(doc.after, n)
			}
		case p.has("<!"):
			return nil, p.fail("document type definition")
		case p.has("<") && doc.Root == nil:
			root, err := p.element()
			if err != nil {
				return nil, err
			}
			doc.Root = root
		default:
			return nil, p.fail("something beside the root element")
		}
	}
	if doc.Root == nil {
		return nil, p.fail("no root element")
	}
	return doc, nil
}

func (p *parser) has(s string) bool {
	return len(p.in)-p.at >= len(s) && string(p.in[p.at:p.at+len(s)]) == s
}

func isSpace(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }

// space passes over white space and says whether there was any.
func (p *parser) space() bool {
	start := p.at
	for p.at < len(p.in) && isSpace(p.in[p.at]) {
		p.at++
	}
	return p.at > start
}

// prolog reads the XML declaration, which may be missing: version 1.0, and UTF-8 when it names an encoding.
func (p *parser) prolog() error {
	if !p.has("<?xml") || len(p.in) > 5 && !isSpace(p.in[5]) {
		return nil
	}
	end := bytes.Index(p.in, []byte("?>"))
	if end < 0 || end > 200 {
		return p.fail("XML declaration")
	}
	p.at = len("<?xml")
	for i, want := range []struct {
		name   string
		values []string
	}{{"version", []string{"1.0"}}, {"encoding", []string{"utf-8"}}, {"standalone", []string{"yes", "no"}}} {
		before := p.at
		if !p.space() || !p.has(want.name) {
			p.at = before
			if i == 0 {
				return p.fail("XML declaration without a version")
			}
			continue
		}
		p.at += len(want.name)
		p.space()
		if !p.has("=") {
			return p.fail("XML declaration")
		}
		p.at++
		p.space()
		if p.at >= end || p.in[p.at] != '"' && p.in[p.at] != '\'' {
			return p.fail("XML declaration")
		}
		quote := p.in[p.at]
		p.at++
		n := bytes.IndexByte(p.in[p.at:end], quote)
		if n < 0 {
			return p.fail("XML declaration")
		}
		value, ok := string(p.in[p.at:p.at+n]), false
		for _, v := range want.values {
			ok = ok || value == v || want.name == "encoding" && strings.EqualFold(value, v)
		}
		if !ok {
			return p.fail("XML declaration: " + want.name)
		}
		p.at += n + 1
	}
	p.space()
	if p.at != end {
		return p.fail("XML declaration")
	}
	p.at = end + 2
	return nil
}

// comment passes over a comment; the canonical form has none.
func (p *parser) comment() error {
	body := p.in[p.at+4:]
	end := bytes.Index(body, []byte("--"))
	if end < 0 || len(body) < end+3 || body[end+2] != '>' {
		return p.fail("comment")
	}
	if !charactersOK(body[:end]) {
		return p.fail("character that XML does not have")
	}
	p.at += 4 + end + 3
	return nil
}

func (p *parser) instruction() (*Node, error) {
	if err := p.count(); err != nil {
		return nil, err
	}
	p.at += 2
	target, err := p.ncName()
	if err != nil {
		return nil, err
	}
	if strings.EqualFold(target, "xml") {
		return nil, p.fail("XML declaration inside the document")
	}
	spaced := p.space()
	end := bytes.Index(p.in[p.at:], []byte("?>"))
	if end < 0 || end > 0 && !spaced || !charactersOK(p.in[p.at:p.at+end]) {
		return nil, p.fail("processing instruction")
	}
	data := normalizeLines(p.in[p.at : p.at+end])
	p.at += end + 2
	n := &Node{kind: instruction, Local: target, data: data}
	return n, nil
}

func (p *parser) count() error {
	if p.nodes++; p.nodes > maxNodes {
		return p.fail("too many nodes")
	}
	return nil
}

// element reads the element that starts here with everything in it. It keeps its own stack, so that depth costs no more
// than the bound allows.
func (p *parser) element() (*Node, error) {
	var root, open *Node
	depth := 0
	marks := make([]int, 0, maxDepth) // lengths of the scope outside of each open element
	for {
		switch {
		case p.at >= len(p.in):
			return nil, p.fail("end inside an element")
		case p.has("</"):
			if open == nil {
				return nil, p.fail("end tag of nothing")
			}
			p.at += 2
			prefix, local, err := p.qName()
			if err != nil {
				return nil, err
			}
			if prefix != open.prefix || local != open.Local {
				return nil, p.fail("end tag of another element")
			}
			p.space()
			if !p.has(">") {
				return nil, p.fail("end tag")
			}
			p.at++
			p.scope, marks = p.scope[:marks[len(marks)-1]], marks[:len(marks)-1]
			depth--
			if open = open.parent; open == nil {
				return root, nil
			}
		case p.has("<!--"):
			if err := p.comment(); err != nil {
				return nil, err
			}
		case p.has("<![CDATA["):
			p.at += len("<![CDATA[")
			end := bytes.Index(p.in[p.at:], []byte("]]>"))
			if end < 0 || !charactersOK(p.in[p.at:p.at+end]) {
				return nil, p.fail("CDATA section")
			}
			if err := p.addText(open, normalizeLines(p.in[p.at:p.at+end])); err != nil {
				return nil, err
			}
			p.at += end + 3
		case p.has("<?"):
			n, err := p.instruction()
			if err != nil {
				return nil, err
			}
			n.parent = open
			open.children = append(open.children, n)
		case p.has("<!"):
			return nil, p.fail("declaration inside an element")
		case p.has("<"):
			if depth == maxDepth {
				return nil, p.fail("nested too deeply")
			}
			mark := len(p.scope)
			n, closed, err := p.startTag()
			if err != nil {
				return nil, err
			}
			if n.parent = open; open != nil {
				open.children = append(open.children, n)
			} else {
				root = n
			}
			if closed {
				p.scope = p.scope[:mark]
				if open == nil {
					return root, nil
				}
				continue
			}
			depth++
			marks = append(marks, mark)
			open = n
		default:
			value, err := p.characters('<', false)
			if err != nil {
				return nil, err
			}
			if err := p.addText(open, value); err != nil {
				return nil, err
			}
		}
	}
}

// addText keeps texts that follow each other apart (comments and CDATA sections stand between them): the canonical form is
// the same, and joining them would cost time that grows with their square.
func (p *parser) addText(open *Node, value string) error {
	if value == "" {
		return nil
	}
	open.children = append(open.children, &Node{kind: text, data: value, parent: open})
	return p.count()
}

// startTag reads a start tag or an empty-element tag.
func (p *parser) startTag() (n *Node, closed bool, err error) {
	if err := p.count(); err != nil {
		return nil, false, err
	}
	p.at++
	n = &Node{}
	if n.prefix, n.Local, err = p.qName(); err != nil {
		return nil, false, err
	}
	for {
		spaced := p.space()
		if p.has("/>") {
			p.at, closed = p.at+2, true
			break
		}
		if p.has(">") {
			p.at++
			break
		}
		if !spaced {
			return nil, false, p.fail("start tag")
		}
		if len(n.Attributes)+len(n.declared) == maxAttributes {
			return nil, false, p.fail("too many attributes")
		}
		if err := p.attribute(n); err != nil {
			return nil, false, err
		}
	}
	p.scope = append(p.scope, n.declared...)
	ok := true
	if n.Space, ok = p.lookup(n.prefix); !ok || n.prefix == "xmlns" {
		return nil, false, p.fail("prefix that is not declared")
	}
	for i := range n.Attributes {
		a := &n.Attributes[i]
		if a.prefix == "" {
			continue // attributes do not take the default namespace
		}
		if a.Space, ok = p.lookup(a.prefix); !ok {
			return nil, false, p.fail("prefix that is not declared")
		}
	}
	for i, a := range n.Attributes {
		for _, b := range n.Attributes[:i] {
			if a.Local == b.Local && a.Space == b.Space {
				return nil, false, p.fail("attribute twice")
			}
		}
	}
	return n, closed, nil
}

func (p *parser) attribute(n *Node) error {
	prefix, local, err := p.qName()
	if err != nil {
		return err
	}
	p.space()
	if !p.has("=") {
		return p.fail("attribute without a value")
	}
	p.at++
	p.space()
	if p.at >= len(p.in) || p.in[p.at] != '"' && p.in[p.at] != '\'' {
		return p.fail("attribute value without quotes")
	}
	quote := p.in[p.at]
	p.at++
	value, err := p.characters(quote, true)
	if err != nil {
		return err
	}
	p.at++ // the quote
	switch {
	case (prefix == "xmlns" || prefix == "" && local == "xmlns") && value != "" && !absolute(value):
		return p.fail("namespace declaration: relative") // has no canonical form (Canonical XML 1.0 chapter 1.3)
	case prefix == "xmlns" && (local == "xmlns" || value == "" || value == xmlnsSpace || (local == "xml") != (value == xmlSpace)),
		prefix == "" && local == "xmlns" && (value == xmlnsSpace || value == xmlSpace):
		return p.fail("namespace declaration")
	case prefix == "xmlns", prefix == "" && local == "xmlns":
		d := declaration{prefix: local, space: value}
		if prefix == "" {
			d.prefix = ""
		}
		for _, other := range n.declared {
			if other.prefix == d.prefix {
				return p.fail("namespace declared twice")
			}
		}
		n.declared = append(n.declared, d)
	default:
		n.Attributes = append(n.Attributes, Attribute{prefix: prefix, Local: local, Value: value})
	}
	return nil
}

// absolute reports whether an address has a scheme (RFC 3986 chapter 3.1).
func absolute(s string) bool {
	for i := range len(s) {
		b := s[i] | 0x20
		switch {
		case b >= 'a' && b <= 'z':
		case i > 0 && s[i] == ':':
			return true
		case i > 0 && (s[i] >= '0' && s[i] <= '9' || s[i] == '+' || s[i] == '-' || s[i] == '.'):
		default:
			return false
		}
	}
	return false
}

// lookup returns the namespace of a prefix; the default one is "" without a declaration.
func (p *parser) lookup(prefix string) (string, bool) {
	if prefix == "xml" {
		return xmlSpace, true
	}
	for i := len(p.scope) - 1; i >= 0; i-- {
		if p.scope[i].prefix == prefix {
			return p.scope[i].space, true
		}
	}
	return "", prefix == ""
}

func (p *parser) qName() (prefix, local string, err error) {
	if local, err = p.ncName(); err != nil || !p.has(":") {
		return "", local, err
	}
	p.at++
	prefix = local
	local, err = p.ncName()
	return prefix, local, err
}

func (p *parser) ncName() (string, error) {
	start := p.at
	for p.at < len(p.in) {
		b := p.in[p.at]
		if b < utf8.RuneSelf {
			if !asciiName[b] && (p.at == start || !(b >= '0' && b <= '9' || b == '-' || b == '.')) {
				break
			}
			p.at++
			continue
		}
		r, size := utf8.DecodeRune(p.in[p.at:])
		if !nameStart(r) && (p.at == start || !nameOther(r)) {
			break
		}
		p.at += size
	}
	if p.at == start || p.at-start > maxName {
		return "", p.fail("name")
	}
	return string(p.in[start:p.at]), nil
}

var asciiName = func() (t [utf8.RuneSelf]bool) {
	for b := byte('a'); b <= 'z'; b++ {
		t[b], t[b-'a'+'A'] = true, true
	}
	t['_'] = true
	return t
}()

// nameStart and nameOther are the productions of XML 1.0 chapter 2.3 beyond ASCII.
func nameStart(r rune) bool {
	return within(r, 0xc0, 0xd6) || within(r, 0xd8, 0xf6) || within(r, 0xf8, 0x2ff) || within(r, 0x370, 0x37d) ||
		within(r, 0x37f, 0x1fff) || within(r, 0x200c, 0x200d) || within(r, 0x2070, 0x218f) || within(r, 0x2c00, 0x2fef) ||
		within(r, 0x3001, 0xd7ff) || within(r, 0xf900, 0xfdcf) || within(r, 0xfdf0, 0xfffd) || within(r, 0x10000, 0xeffff)
}

func nameOther(r rune) bool { return r == 0xb7 || within(r, 0x300, 0x36f) || within(r, 0x203f, 0x2040) }

func within(r, low, high rune) bool { return r >= low && r <= high }

func isChar(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || within(r, 0x20, 0xd7ff) || within(r, 0xe000, 0xfffd) || within(r, 0x10000, 0x10ffff)
}

func charactersOK(b []byte) bool {
	for len(b) > 0 {
		if b[0] >= 0x20 && b[0] < utf8.RuneSelf {
			b = b[1:]
			continue
		}
		r, size := utf8.DecodeRune(b)
		if !isChar(r) {
			return false
		}
		b = b[size:]
	}
	return true
}

// normalizeLines makes every line end "\n" (XML 1.0 chapter 2.11).
func normalizeLines(b []byte) string {
	if bytes.IndexByte(b, '\r') < 0 {
		return string(b)
	}
	return strings.ReplaceAll(strings.ReplaceAll(string(b), "\r\n", "\n"), "\r", "\n")
}

// characters reads text up to, not including, the end character; in an attribute white space becomes blanks, references do
// not (XML 1.0 chapter 3.3.3).
func (p *parser) characters(end byte, attribute bool) (string, error) {
	start := p.at
	plain := true
	for p.at < len(p.in) && p.in[p.at] != end {
		b := p.in[p.at]
		switch {
		case b == '&' || b == '\r' || attribute && (b == '\n' || b == '\t'):
			plain = false
		case b == '<':
			return "", p.fail("< inside an attribute value")
		case b == ']' && !attribute && p.has("]]>"):
			return "", p.fail("]]> in a text")
		}
		p.at++
	}
	if p.at >= len(p.in) {
		return "", p.fail("end inside a text")
	}
	raw := p.in[start:p.at]
	if !charactersOK(raw) {
		return "", p.fail("character that XML does not have")
	}
	if plain {
		return string(raw), nil
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		switch b := raw[i]; {
		case b == '&':
			n := bytes.IndexByte(raw[i:], ';')
			if n < 0 {
				return "", p.fail("reference")
			}
			r, ok := reference(string(raw[i+1 : i+n]))
			if !ok {
				return "", p.fail("reference")
			}
			out = utf8.AppendRune(out, r)
			i += n
		case b == '\r':
			if i+1 < len(raw) && raw[i+1] == '\n' {
				continue
			}
			out = append(out, lineEnd(attribute))
		case b == '\n':
			out = append(out, lineEnd(attribute))
		case b == '\t' && attribute:
			out = append(out, ' ')
		default:
			out = append(out, b)
		}
	}
	return string(out), nil
}

func lineEnd(attribute bool) byte {
	if attribute {
		return ' '
	}
	return '\n'
}

// reference resolves what stands between & and ;: the five entities of XML, and numbers of characters.
func reference(name string) (rune, bool) {
	switch name {
	case "amp":
		return '&', true
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	digits, base := strings.TrimPrefix(name, "#"), rune(10)
	if digits == name {
		return 0, false
	}
	if strings.HasPrefix(digits, "x") {
		digits, base = digits[1:], 16
	}
	var r rune
	for _, d := range digits {
		var v rune
		switch {
		case within(d, '0', '9'):
			v = d - '0'
		case base == 16 && within(d, 'a', 'f'):
			v = d - 'a' + 10
		case base == 16 && within(d, 'A', 'F'):
			v = d - 'A' + 10
		default:
			return 0, false
		}
		if r = r*base + v; r > 0x10ffff {
			return 0, false
		}
	}
	return r, digits != "" && isChar(r)
}
