package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonParser reads JSON (RFC 8259) and reports it as the XML of the same FHIR resource would be. It is strict: UTF-8, no
// comments, no trailing commas, no numbers in other forms.
type jsonParser struct {
	window
	h     handler
	depth int
}

func (p *jsonParser) fail(what string) error {
	return fmt.Errorf("%w JSON: %s at octet %d", ErrMalformed, what, p.offset(p.pos))
}

// parseJSON reports the resource of a document. Elements are a document's objects with resourceType, under the name of
// their type, and the members of objects, under their names.
func parseJSON(data []byte, h handler) error {
	p := &jsonParser{window: window{data: data}, h: h}
	if !utf8.Valid(data) {
		return fmt.Errorf("%w JSON: not UTF-8", ErrMalformed)
	}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		p.pos = 3
	}
	return p.document()
}

// document reads the one object.
func (p *jsonParser) document() error {
	p.space()
	if p.peek() != '{' {
		return p.fail("no object")
	}
	if err := p.object(nil, true); err != nil {
		return err
	}
	p.space()
	if p.more() {
		return p.fail("something after the object")
	}
	return nil
}

func (p *jsonParser) space() {
	for p.more() && valueClass[p.data[p.pos]] == classSpace {
		p.pos++
	}
}

// peek returns the next octet, 0 at the end.
func (p *jsonParser) peek() byte {
	if p.more() {
		return p.data[p.pos]
	}
	return 0
}

// value reads the value of the member name of an object named parent. live: the handler wants it.
func (p *jsonParser) value(parent, name []byte, live bool) error {
	switch c := p.peek(); {
	case c == '{':
		if !live {
			return p.object(name, false)
		}
		inside := p.h.start(name, p.offset(p.pos))
		err := p.object(name, inside)
		p.h.end(p.offset(p.pos))
		return err
	case c == '[':
		return p.list(']', func() error { return p.value(parent, name, live) })
	case c == '"':
		begin := p.offset(p.pos)
		if p.source != nil && !p.whole() {
			return p.long(name, live)
		}
		text, err := p.text(live)
		if err != nil || !live {
			return err
		}
		if string(name) == "url" && isExtension(parent) {
			p.h.url(text)
			return nil
		}
		p.primitive(name, begin, text)
		return nil
	default:
		if p.source != nil {
			p.need(maxLiteral)
		}
		begin := p.pos
		if err := p.literal(); err != nil {
			return err
		}
		if text := p.data[begin:p.pos]; live && string(text) != "null" {
			p.primitive(name, p.offset(begin), text)
		}
		return nil
	}
}

// maxLiteral is how much of a number is brought into the window of a stream.
const maxLiteral = 512

// whole reports whether the string at the place ends within the longest that a token may be, and brings it into the window.
func (p *jsonParser) whole() bool {
	for i := 1; i < p.longest && p.need(i+1); i++ {
		switch p.data[p.pos+i] {
		case '"':
			return true
		case '\\':
			i++
		}
	}
	return false
}

// long hands the value on as a stream when the handler wants it, and passes over it otherwise.
func (p *jsonParser) long(name []byte, live bool) error {
	h, ok := p.h.(streamHandler)
	if !live || !ok || !h.wants(name) {
		_, err := p.text(false)
		return err
	}
	begin := p.offset(p.pos)
	p.pos++
	v := &jsonValue{p: p}
	if err := h.stream(v); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, v); err != nil {
		return err
	}
	p.pos++
	p.h.start(name, begin)
	p.h.end(p.offset(p.pos))
	return nil
}

// jsonValue is the content of a string, as a stream. It ends before the closing quote.
type jsonValue struct {
	p    *jsonParser
	rest []byte // of an escape
}

func (v *jsonValue) Read(b []byte) (int, error) {
	p := v.p
	for {
		if len(v.rest) > 0 {
			n := copy(b, v.rest)
			v.rest = v.rest[n:]
			return n, nil
		}
		if !p.more() {
			return 0, p.stop(p.fail("string without an end"))
		}
		n := 0
		for n < len(b) && p.pos < len(p.data) && !jsonStop[p.data[p.pos]] {
			b[n] = p.data[p.pos]
			n++
			p.pos++
		}
		if n > 0 || len(b) == 0 {
			return n, nil
		}
		switch c := p.data[p.pos]; {
		case c == '"':
			return 0, io.EOF
		case c < 0x20:
			return 0, p.fail("control character")
		}
		p.need(2 * maxReference)
		length := escapeLength(p.data[p.pos:])
		if length == 0 {
			return 0, p.fail("escape")
		}
		if second, ok := hex4(p.data[p.pos:]); ok && utf16.IsSurrogate(second) {
			if _, ok := hex4(p.data[min(p.pos+length, len(p.data)):]); ok {
				length *= 2
			}
		}
		v.rest = unescapeJSON(p.data[p.pos : p.pos+length])
		p.pos += length
	}
}

func isExtension(name []byte) bool {
	return string(name) == "extension" || string(name) == "modifierExtension"
}

func (p *jsonParser) primitive(name []byte, begin int, text []byte) {
	if string(name) == "resourceType" {
		return
	}
	if p.h.start(name, begin) {
		p.h.value(text)
	}
	p.h.end(p.offset(p.pos))
}

// object reads the object that is the value of a member. One with resourceType is an element with the name of its type.
func (p *jsonParser) object(name []byte, live bool) error {
	var resource []byte
	if live && (name == nil || string(name) == "resource" || string(name) == "contained") {
		var err error
		if resource, err = p.resourceType(); err != nil {
			return err
		}
	}
	assumed := p.full && resource == nil
	if assumed {
		// The type stands so far behind that it is not in the window. The resource with a value as long as that is a Binary.
		p.full, resource = false, []byte("Binary")
	}
	if resource != nil {
		live = p.h.start(resource, p.offset(p.pos))
	}
	err := p.members(func(member []byte) error {
		if assumed && string(member) == "resourceType" && p.peek() == '"' && (p.source == nil || p.whole()) {
			text, err := p.text(true)
			assumed = string(text) != "Binary"
			return err
		}
		return p.value(name, member, live)
	})
	if err == nil && assumed {
		err = fmt.Errorf("%w: resourceType does not come first in a large resource", ErrLimit)
	}
	if resource != nil {
		p.h.end(p.offset(p.pos))
	}
	return err
}

// resourceType looks ahead for the member of that name in the object at the place; nil when it is not there, or not in the
// window of a stream (then full is set). Nearly always it is the first one.
func (p *jsonParser) resourceType() (resource []byte, err error) {
	at, depth, keep := p.offset(p.pos), p.depth, p.keep
	p.keep, p.pinned, p.full = int64(at), true, false
	err = p.members(func(name []byte) error {
		if string(name) == "resourceType" && p.peek() == '"' && (p.source == nil || p.whole()) {
			text, err := p.text(true)
			if err != nil {
				return err
			}
			resource = text
			return errFound
		}
		return p.value(nil, name, false)
	})
	p.pos, p.depth, p.keep, p.pinned = at-int(p.base), depth, keep, false
	if err == errFound || p.full {
		err = nil
	}
	if p.source != nil {
		resource = bytes.Clone(resource)
	}
	return resource, err
}

// errFound ends the look ahead of resourceType.
var errFound = errors.New("record: found")

// members reads the object at the place and calls f at the value of each member.
func (p *jsonParser) members(f func(name []byte) error) error {
	return p.list('}', func() error {
		if p.peek() != '"' {
			return p.fail("member without a name")
		}
		if p.source != nil && !p.whole() && !p.ended {
			return fmt.Errorf("%w: name of a member", ErrLimit)
		}
		name, err := p.text(true)
		if err != nil {
			return err
		}
		if p.source != nil {
			name = bytes.Clone(name)
		}
		p.space()
		if p.peek() != ':' {
			return p.fail("member without a value")
		}
		p.pos++
		p.space()
		return f(name)
	})
}

// list reads what stands between brackets and commas and calls f at each part.
func (p *jsonParser) list(closing byte, f func() error) error {
	if p.depth++; p.depth > MaxDepth {
		return fmt.Errorf("%w: JSON nested deeper than %d", ErrLimit, MaxDepth)
	}
	p.pos++
	p.space()
	if p.peek() == closing {
		p.pos++
		p.depth--
		return nil
	}
	for {
		p.space()
		if err := f(); err != nil {
			return err
		}
		p.space()
		switch p.peek() {
		case ',':
			p.pos++
		case closing:
			p.pos++
			p.depth--
			return nil
		default:
			return p.fail("neither a comma nor the end of a list")
		}
	}
}

// text reads a string. It is part of the input, or of memory of its own when it has escapes and is wanted.
func (p *jsonParser) text(wanted bool) ([]byte, error) {
	p.pos++
	begin := p.pos
	escaped := false
	for {
		for p.pos < len(p.data) && !jsonStop[p.data[p.pos]] {
			p.pos++
		}
		if p.pos == len(p.data) {
			if p.more() {
				continue
			}
			return nil, p.fail("string without an end")
		}
		switch c := p.data[p.pos]; {
		case c == '"':
			if !wanted {
				p.pos++
				return nil, nil
			}
			text := p.data[begin:p.pos]
			p.pos++
			if escaped && wanted {
				return unescapeJSON(text), nil
			}
			return text, nil
		case c < 0x20:
			return nil, p.fail("control character")
		default:
			escaped = true
			if p.source != nil {
				p.need(maxReference)
			}
			n := escapeLength(p.data[p.pos:])
			if n == 0 {
				return nil, p.fail("escape")
			}
			p.pos += n
		}
	}
}

// jsonStop are the octets that end a run of plain ones in a string: quote, backslash and control characters.
var jsonStop = func() (stop [256]bool) {
	for c := range 0x20 {
		stop[c] = true
	}
	stop['"'], stop['\\'] = true, true
	return stop
}()

// escapeLength returns the length of the escape that text begins with, 0 when it is none.
func escapeLength(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	if text[1] != 'u' {
		if bytes.IndexByte([]byte(`"\/bfnrt`), text[1]) < 0 {
			return 0
		}
		return 2
	}
	if _, ok := hex4(text); !ok {
		return 0
	}
	return 6
}

// hex4 reads \uXXXX.
func hex4(text []byte) (rune, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	r := rune(0)
	for _, c := range text[2:6] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// unescapeJSON resolves escapes that escapeLength has accepted. Half a surrogate pair becomes U+FFFD.
func unescapeJSON(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		if text[i] != '\\' {
			out = append(out, text[i])
			i++
			continue
		}
		switch c := text[i+1]; c {
		case 'u':
			r, _ := hex4(text[i:])
			i += 6
			if utf16.IsSurrogate(r) {
				low, ok := hex4(text[i:])
				if r = utf16.DecodeRune(r, low); ok && r != utf8.RuneError {
					i += 6
				} else {
					r = utf8.RuneError
				}
			}
			out = utf8.AppendRune(out, r)
			continue
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		default:
			out = append(out, c)
		}
		i += 2
	}
	return out
}

// literal reads a number, true, false or null.
func (p *jsonParser) literal() error {
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(p.data[p.pos:], []byte(word)) {
			p.pos += len(word)
			return nil
		}
	}
	// What moves the window would lose the beginning of the number.
	next := func() byte {
		if p.pos < len(p.data) {
			return p.data[p.pos]
		}
		return 0
	}
	digits := func() bool {
		begin := p.pos
		for c := next(); c >= '0' && c <= '9'; c = next() {
			p.pos++
		}
		return p.pos > begin
	}
	if next() == '-' {
		p.pos++
	}
	if next() == '0' {
		p.pos++
	} else if !digits() {
		return p.fail("value")
	}
	if next() == '.' {
		p.pos++
		if !digits() {
			return p.fail("number")
		}
	}
	if c := next(); c == 'e' || c == 'E' {
		p.pos++
		if c := next(); c == '+' || c == '-' {
			p.pos++
		}
		if !digits() {
			return p.fail("number")
		}
	}
	return nil
}
