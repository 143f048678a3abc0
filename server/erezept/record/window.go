package record

import (
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Bounds of what is held of a stream.
const (
	maxWindow = 256 << 10 // octets of the input
	maxToken  = 64 << 10  // octets of a tag, a comment or a string; a longer value is handed on as a stream
)

// window is the part of an input that a parser sees: all of an input in memory, or what moves along a stream.
type window struct {
	data []byte
	pos  int

	source  io.Reader               // nil: data is all there is
	size    int                     // octets that data may have
	longest int                     // octets that a token may have
	base    int64                   // place of data[0] in the input
	keep    int64                   // place from which octets should stay as long as they fit, -1 for none
	pinned  bool                    // what begins at keep must not go
	inner   func(outer int64) int64 // the next place to be kept when one does not fit, -1 for none; nil: none
	full    bool                    // more was wanted than a pinned window holds
	checked int                     // data up to here is UTF-8
	ended   bool
	err     error // what ended the source, other than its end
}

// newWindow is a window on a stream.
func newWindow(source io.Reader, size, token int) window {
	return window{source: source, size: size, longest: token, keep: -1}
}

// offset is the place in the input of a place in the window.
func (w *window) offset(at int) int { return int(w.base) + at }

// more reports whether there is anything at the place, and brings it into the window.
func (w *window) more() bool { return w.pos < len(w.data) || w.need(1) }

// need brings n octets from the place on into the window. It is false when the input has fewer, or the window has no room.
func (w *window) need(n int) bool {
	for len(w.data)-w.pos < n {
		if w.source == nil || w.ended || !w.read() {
			return false
		}
	}
	return true
}

// read reads once, after it has made room.
func (w *window) read() bool {
	if w.data == nil {
		w.data = make([]byte, 0, w.size)
	}
	if len(w.data) == cap(w.data) {
		for w.keep >= 0 && !w.pinned && int(w.keep-w.base) < cap(w.data)/4 {
			if w.inner == nil {
				w.keep = -1
			} else {
				w.keep = w.inner(w.keep)
			}
		}
		from := w.pos
		if w.keep >= w.base {
			from = min(from, int(w.keep-w.base))
		}
		from = min(from, w.checked) // a character that is not complete stays
		if from == 0 {
			w.full = true
			return false
		}
		w.data = w.data[:copy(w.data, w.data[from:])]
		w.pos, w.base, w.checked = w.pos-from, w.base+int64(from), w.checked-from
	}
	n, err := w.source.Read(w.data[len(w.data):cap(w.data)])
	w.data = w.data[:len(w.data)+n]
	if err != nil {
		w.ended = true
		if !errors.Is(err, io.EOF) {
			w.err = err
		}
	}
	if !w.valid() {
		w.ended, w.err = true, fmt.Errorf("%w: not UTF-8", ErrMalformed)
	}
	return n > 0 || err == nil
}

// valid checks what was read for UTF-8, but for a character at the end that is not complete.
func (w *window) valid() bool {
	end := len(w.data)
	if !w.ended {
		for i := end - 1; i >= 0 && i >= end-utf8.UTFMax; i-- {
			if utf8.RuneStart(w.data[i]) {
				if !utf8.FullRune(w.data[i:]) {
					end = i
				}
				break
			}
		}
	}
	if end <= w.checked {
		return true
	}
	ok := utf8.Valid(w.data[w.checked:end])
	w.checked = end
	return ok
}

// part is a part of the input, nil when it is no longer in the window.
func (w *window) part(from, to int) []byte {
	if int64(from) < w.base || to-int(w.base) > len(w.data) {
		return nil
	}
	return w.data[from-int(w.base) : to-int(w.base)]
}

// stop returns why the source ended, in place of what a parser says about a truncated input.
func (w *window) stop(err error) error {
	switch {
	case err == nil:
		return w.err
	case w.err != nil:
		return w.err
	}
	return err
}
