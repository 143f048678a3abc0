package record

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Scan finds the signed messages in an input of any size, in one pass and with memory that does not depend on it. It takes
// the forms that Open takes and calls found for each message as soon as it, and the resource that carries it, was read.
//
// A message that is too long to be held, or whose length is not known before, goes to large as a stream; what large returns
// stands in Message.Streamed. In such an input a resource that claims to carry a message and does not is a message, too,
// with Message.Err, and so is one with something inside that cannot be held. An error of found ends the scan.
//
// Errors wrap ErrUnknown, ErrMalformed, ErrNoMessage or ErrLimit, or are those of source or found. Messages before the
// place where the input is malformed were found.
func Scan(source io.Reader, large func(message io.Reader) any, found func(Message) error) error {
	s := scan{large, maxWindow, maxToken}
	return s.input(source, nil, found)
}

// scan is what a Scan hands on to.
type scan struct {
	large         func(io.Reader) any
	window, token int // bounds
}

const peeked = 16 // octets that tell a message

// input reads what was taken out of the given layers.
func (s *scan) input(source io.Reader, layers []Form, found func(Message) error) error {
	if len(layers) > maxLayers {
		return fmt.Errorf("%w: %d layers around a message", ErrLimit, len(layers))
	}
	in := bufio.NewReader(source)
	head, err := in.Peek(peeked)
	if len(head) == 0 {
		if err != io.EOF {
			return err
		}
		return fmt.Errorf("%w: it is empty", ErrUnknown)
	}
	if looksLikeCMS(head) {
		return found(Message{Forms: with(layers, CMS), Streamed: s.large(in)})
	}
	if bytes.HasPrefix(head, []byte("\xef\xbb\xbf")) {
		in.Discard(3) // cannot fail: they were there
	}
	for {
		if head, err = in.Peek(peeked); len(head) == 0 {
			if err != io.EOF {
				return err
			}
			return fmt.Errorf("%w: it is empty", ErrUnknown)
		}
		if head[0] != ' ' && head[0] != '\t' && head[0] != '\r' && head[0] != '\n' {
			break
		}
		in.Discard(1)
	}
	switch {
	case head[0] == '<':
		return s.resources(in, layers, false, found)
	case head[0] == '{':
		return s.resources(in, layers, true, found)
	case bytes.HasPrefix(head, []byte("-----BEGIN ")):
		return s.pem(in, layers, found)
	case strings.IndexByte(base64Alphabet, head[0]) < 0:
		return fmt.Errorf("%w: %s", ErrUnknown, describe(head))
	}
	text := decoder(in)
	if err := s.input(text, with(layers, Base64), found); !errors.Is(err, ErrUnknown) && !errors.Is(err, base64Error) {
		return err
	}
	return fmt.Errorf("%w: %s", ErrUnknown, describe(head))
}

const base64Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

var base64Error = errors.New("record: not base64")

// decoder decodes base64 text with any white space in it.
func decoder(text io.Reader) io.Reader {
	return &base64Errors{base64.NewDecoder(base64.StdEncoding, &base64Text{source: text})}
}

// base64Errors tells the decoder's errors from those of its source.
type base64Errors struct{ decoder io.Reader }

func (r *base64Errors) Read(b []byte) (int, error) {
	n, err := r.decoder.Read(b)
	var corrupt base64.CorruptInputError
	if errors.As(err, &corrupt) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = base64Error
	}
	return n, err
}

// base64Text takes white space out of base64 text and refuses text behind its end, of which the decoder is not sure to see.
type base64Text struct {
	source io.Reader
	padded bool
}

func (t *base64Text) Read(b []byte) (int, error) {
	for {
		n, err := t.source.Read(b)
		kept := b[:0]
		for _, c := range b[:n] {
			switch {
			case c == ' ' || c == '\t' || c == '\r' || c == '\n':
				continue
			case c == '=':
				t.padded = true
			case t.padded:
				return 0, fmt.Errorf("%w: something behind the base64 text", ErrMalformed)
			}
			kept = append(kept, c)
		}
		if len(kept) > 0 || err != nil || len(b) == 0 {
			return len(kept), err
		}
	}
}

// pem reads PEM blocks.
func (s *scan) pem(in *bufio.Reader, layers []Form, found func(Message) error) error {
	for n := 0; ; n++ {
		for {
			c, err := in.ReadByte()
			if err == io.EOF && n > 0 {
				return nil
			}
			if err != nil {
				return err
			}
			if valueClass[c] != classSpace {
				in.UnreadByte() // cannot fail: one was read
				break
			}
		}
		if err := expect(in, "-----BEGIN "); err != nil {
			return err
		}
		var label []byte
		for {
			next, err := in.Peek(1)
			if err != nil || len(label) > 64 {
				return fmt.Errorf("%w PEM", ErrMalformed)
			}
			if next[0] == '-' {
				break
			}
			label = append(label, next[0])
			in.Discard(1)
		}
		if err := expect(in, "-----"); err != nil {
			return err
		}
		if !pemLabels[strings.ToUpper(string(label))] {
			return fmt.Errorf("%w: PEM with something else than a signed message", ErrUnknown)
		}
		body := &pemBody{in}
		if err := found(Message{Forms: with(with(layers, PEM), CMS), Streamed: s.large(decoder(body))}); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			return err
		}
		if err := expect(in, "-----END "+string(label)+"-----"); err != nil {
			return err
		}
	}
}

// expect reads these octets.
func expect(in *bufio.Reader, text string) error {
	have := make([]byte, len(text))
	if _, err := io.ReadFull(in, have); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	} else if err != nil || string(have) != text {
		return fmt.Errorf("%w PEM", ErrMalformed)
	}
	return nil
}

// pemBody is what stands between the lines of a PEM block.
type pemBody struct{ in *bufio.Reader }

func (r *pemBody) Read(b []byte) (int, error) {
	next, err := r.in.Peek(1)
	if err != nil {
		return 0, err
	}
	next, _ = r.in.Peek(min(r.in.Buffered(), len(b)))
	if i := bytes.IndexByte(next, '-'); i == 0 {
		return 0, io.EOF
	} else if i > 0 {
		next = next[:i]
	}
	n := copy(b, next)
	r.in.Discard(n)
	return n, nil
}

// resources finds the messages in FHIR resources.
func (s *scan) resources(in io.Reader, layers []Form, json bool, found func(Message) error) error {
	h := scanner{scan: s, layers: layers, found: found, finder: finder{json: json}}
	var err error
	var w *window
	if json {
		p := &jsonParser{window: newWindow(in, s.window, s.token), h: &h}
		w, h.window, p.inner = &p.window, &p.window, h.inner
		err = p.document()
	} else {
		p := &xmlParser{window: newWindow(in, s.window, s.token), h: &h}
		w, h.window, p.inner = &p.window, &p.window, h.inner
		p.need(len("<?xml "))
		if bytes.HasPrefix(p.data, []byte("<?xml")) && len(p.data) > 5 && valueClass[p.data[5]] == classSpace {
			_, err = p.find(5, func(text []byte) int { return bytes.Index(text, []byte("?>")) }, 2)
			if err == nil {
				err = p.declaration()
			}
		}
		if err == nil {
			err = p.document()
		}
	}
	if h.failed != nil {
		return h.failed
	}
	if err = w.stop(err); err != nil {
		return err
	}
	if h.count == 0 {
		return ErrNoMessage
	}
	return nil
}

// scanner is the handler that hands messages on when the resource that carries them ends.
type scanner struct {
	finder
	scan   *scan
	window *window
	layers []Form
	found  func(Message) error
	failed error // of found
	count  int
}

func (s *scanner) start(name []byte, offset int) bool {
	open := len(s.open)
	ok := s.finder.start(name, offset)
	if len(s.open) > open && s.open[open].bundle && s.window.keep < 0 {
		s.window.keep = int64(offset)
	}
	return ok && s.failed == nil
}

// inner is the place of the next open Bundle inside one that does not fit into the window.
func (s *scanner) inner(outer int64) int64 {
	for _, c := range s.open {
		if c.bundle && int64(c.from) > outer {
			return int64(c.from)
		}
	}
	return -1
}

func (s *scanner) value(v []byte) {
	if len(s.open) > 0 && s.level <= len(s.names) && s.names[s.level-1] != "" {
		s.finder.value(bytes.Clone(v))
	}
}

func (s *scanner) wants(name []byte) bool {
	if len(s.open) == 0 || s.level >= len(s.names) || string(name) != "data" {
		return false
	}
	below := s.level + 1 - s.depth[len(s.depth)-1]
	if s.open[len(s.open)-1].bundle {
		return below == 2 && s.names[s.level-1] == "signature"
	}
	return below == 1
}

func (s *scanner) stream(value io.Reader) error {
	if s.failed != nil {
		return s.failed
	}
	c := &s.open[len(s.open)-1]
	layers := with(s.layers, c.form(s.json))
	c.streamed, c.big = true, nil
	c.problem = s.scan.input(decoder(value), layers, func(m Message) error {
		if m.ID == "" {
			m.ID = c.id
		}
		for _, f := range m.Forms[len(layers):] {
			if f != Base64 && f != CMS {
				return s.emit(m) // one of many perhaps
			}
		}
		c.big = &m // it is handed on with what the rest of the resource says
		return nil
	})
	return s.failed
}

func (s *scanner) emit(m Message) error {
	s.count++
	if s.failed == nil {
		if s.failed = s.found(m); s.failed != nil {
			s.window.ended, s.window.err = true, s.failed
		}
	}
	return s.failed
}

func (s *scanner) end(offset int) {
	last := len(s.depth) - 1
	if last < 0 || s.depth[last] != s.level {
		s.finder.end(offset)
		return
	}
	c := s.open[last]
	s.finder.end(offset)
	s.finder.found = s.finder.found[:0]
	outer := func(m *Message) {
		if c.bundle {
			if part := s.window.part(c.from, offset); part != nil {
				m.Outer = readCopy(part, s.json)
			}
			m.OuterUnread = m.Outer == nil
		}
	}
	forms := with(s.layers, c.form(s.json))
	if c.big != nil {
		c.big.ID = c.id
		outer(c.big)
		s.emit(*c.big)
	} else if c.streamed && c.problem != nil && (c.claimed() || errors.Is(c.problem, ErrLimit)) {
		s.emit(Message{Forms: with(forms, CMS), ID: c.id, Err: c.problem})
	}
	if c.has {
		messages, err := c.open(forms)
		if err != nil {
			messages = []Message{{Forms: with(forms, CMS), Err: err}}
		}
		for _, m := range messages {
			if m.ID == "" {
				m.ID = c.id
			}
			outer(&m)
			s.emit(m)
		}
	}
	if s.window.keep == int64(c.from) {
		s.window.keep = -1
	}
}
