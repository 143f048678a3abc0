package ber

import (
	"bufio"
	"errors"
	"io"
)

// Stream reads BER from a source whose size nobody knows, in one pass and with flat memory. It keeps the elements that
// were entered on a stack; everything it hands out as octets is limited by the caller.
type Stream struct {
	source *bufio.Reader
	read   int64
	open   []int64 // position where each entered element ends; -1: indefinite length
	der    bool    // no deviation from DER seen in the headers so far
}

// Header is tag and length of an element of a stream, whose content was not read yet.
type Header struct {
	Tag         Tag
	Constructed bool
	Length      int64 // -1: indefinite

	raw [16]byte
	n   int
}

// NewStream reads from source.
func NewStream(source io.Reader) *Stream {
	return &Stream{source: bufio.NewReaderSize(source, 32*1024), der: true}
}

// Position returns how many octets were read.
func (s *Stream) Position() int64 { return s.read }

// DER reports whether the headers that the stream itself has read so far were those of DER.
func (s *Stream) DER() bool { return s.der }

// left returns how many octets the innermost element of definite length has left, -1 when there is none.
func (s *Stream) left() int64 {
	for i := len(s.open) - 1; i >= 0; i-- {
		if s.open[i] >= 0 {
			return s.open[i] - s.read
		}
	}
	return -1
}

// truncated turns the end of the source into ErrTruncated.
func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	return err
}

// More reports whether the innermost entered element has another element, or the source when none is entered.
func (s *Stream) More() (bool, error) {
	if len(s.open) > 0 && s.open[len(s.open)-1] >= 0 {
		return s.read < s.open[len(s.open)-1], nil
	}
	next, err := s.source.Peek(2)
	if len(s.open) == 0 {
		if len(next) == 0 && errors.Is(err, io.EOF) {
			return false, nil
		}
		return true, nil
	}
	if err != nil {
		return false, truncated(err)
	}
	return next[0] != 0 || next[1] != 0, nil
}

// Header reads tag and length of the next element.
func (s *Stream) Header() (Header, error) {
	var h Header
	data, err := s.source.Peek(len(h.raw))
	decoded, decodeErr := decodeHeader(data, false)
	if decodeErr != nil {
		if errors.Is(decodeErr, ErrTruncated) && err != nil {
			return Header{}, truncated(err)
		}
		return Header{}, decodeErr
	}
	left := s.left()
	if left >= 0 && (int64(decoded.size) > left || decoded.length > left-int64(decoded.size)) {
		return Header{}, ErrTruncated
	}
	if _, err := decodeHeader(data, true); err != nil {
		s.der = false
	}
	h.Tag, h.Constructed, h.Length, h.n = decoded.tag, decoded.constructed, decoded.length, decoded.size
	copy(h.raw[:], data[:h.n])
	n, err := s.source.Discard(h.n)
	s.read += int64(n)
	return h, err
}

// Enter reads the header of the next element, which must be constructed and have this tag, and goes inside.
func (s *Stream) Enter(tag Tag) error {
	h, err := s.Header()
	if err != nil {
		return err
	}
	if h.Tag != tag {
		return ErrTag
	}
	return s.enter(h)
}

func (s *Stream) enter(h Header) error {
	if !h.Constructed {
		return errForm
	}
	if len(s.open) >= MaxDepth {
		return ErrDepth
	}
	end := int64(-1)
	if h.Length >= 0 {
		end = s.read + h.Length
	}
	s.open = append(s.open, end)
	return nil
}

// Leave goes out of the innermost entered element, which must have been read to its end.
func (s *Stream) Leave() error {
	more, err := s.More()
	if err != nil {
		return err
	}
	if more {
		return errTrailing
	}
	last := len(s.open) - 1
	if s.open[last] < 0 {
		if left := s.left(); left >= 0 && left < 2 {
			return ErrTruncated
		}
		n, err := s.source.Discard(2)
		s.read += int64(n)
		if err != nil {
			return truncated(err)
		}
	}
	s.open = s.open[:last]
	return nil
}

// Element reads the next element whole, at most max octets with its header. Memory grows with what arrives, not with the
// length that is claimed.
func (s *Stream) Element(max int) (Element, error) {
	h, err := s.Header()
	if err != nil {
		return Element{}, err
	}
	if h.Length > int64(max-h.n) {
		return Element{}, ErrTooLong
	}
	out := append([]byte(nil), h.raw[:h.n]...)
	if h.Length >= 0 {
		if out, err = s.take(out, h.Length); err != nil {
			return Element{}, err
		}
	} else if out, err = s.takeIndefinite(out, max); err != nil {
		return Element{}, err
	}
	in := Input{rest: out, depth: uint8(len(s.open))}
	return in.Next()
}

// take appends the next n octets to out.
func (s *Stream) take(out []byte, n int64) ([]byte, error) {
	for n > 0 {
		chunk := min(n, int64(s.source.Size()))
		data, err := s.source.Peek(int(chunk))
		out = append(out, data...)
		n -= int64(len(data))
		s.read += int64(len(data))
		s.source.Discard(len(data)) // cannot fail: they were there
		if err != nil {
			return nil, truncated(err)
		}
	}
	return out, nil
}

func (s *Stream) takeIndefinite(out []byte, max int) ([]byte, error) {
	for open := 1; open > 0; {
		if open+len(s.open) > MaxDepth {
			return nil, ErrDepth
		}
		h, err := s.Header()
		if err != nil {
			return nil, err
		}
		if len(out)+h.n > max || h.Length > int64(max-len(out)-h.n) {
			return nil, ErrTooLong
		}
		out = append(out, h.raw[:h.n]...)
		switch {
		case h.Tag == 0:
			open--
		case h.Length < 0:
			open++
		default:
			if out, err = s.take(out, h.Length); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// CopyOctets reads the next element, an OCTET STRING in one piece or in many, and writes its content to w as it arrives,
// at most max octets.
func (s *Stream) CopyOctets(w io.Writer, max int64) (int64, error) {
	h, err := s.Header()
	if err != nil {
		return 0, err
	}
	return s.copyOctets(h, w, max)
}

func (s *Stream) copyOctets(h Header, w io.Writer, max int64) (int64, error) {
	if h.Tag != OctetString {
		return 0, ErrTag
	}
	if h.Length > max && !h.Constructed {
		return 0, ErrTooLong
	}
	if !h.Constructed {
		return h.Length, s.copy(w, h.Length)
	}
	s.der = false
	if err := s.enter(h); err != nil {
		return 0, err
	}
	total := int64(0)
	for {
		more, err := s.More()
		if err != nil {
			return total, err
		}
		if !more {
			return total, s.Leave()
		}
		piece, err := s.Header()
		if err != nil {
			return total, err
		}
		n, err := s.copyOctets(piece, w, max-total)
		total += n
		if err != nil {
			return total, err
		}
	}
}

func (s *Stream) copy(w io.Writer, n int64) error {
	for n > 0 {
		data, err := s.source.Peek(int(min(n, int64(s.source.Size()))))
		if len(data) > 0 {
			if _, err := w.Write(data); err != nil {
				return err
			}
			n -= int64(len(data))
			s.read += int64(len(data))
			s.source.Discard(len(data))
		}
		if err != nil && n > 0 {
			return truncated(err)
		}
	}
	return nil
}
