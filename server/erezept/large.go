package erezept

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"ktradv/internal/cms"
	"ktradv/server/erezept/record"
)

// MaxContent is the largest content of a large record whose facts are read, in octets; published contents have about
// 12,000. The signature of a larger one is checked all the same.
const MaxContent = 4 << 20

// errInput says that the record could not be read to its end, which says nothing about the record.
var errInput = errors.New("reading the record failed")

// stream reads a message in one pass. Memory does not depend on its size: the content is hashed as it arrives and kept up
// to MaxContent.
func (r *checked) stream(open func() (io.ReadCloser, error)) (*cms.SignedData, error) {
	source, err := open()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInput, err)
	}
	defer source.Close()
	in := &measured{source: source, hash: sha256.New()}
	sd, content, err := r.parseStream(in)
	// The report names the whole input, also when the message ended before.
	if _, drained := io.Copy(io.Discard, in); drained != nil && in.err == nil {
		in.err = drained
	}
	r.rep.Input.SHA256, r.rep.Input.Size = hex.EncodeToString(in.hash.Sum(nil)), in.size
	switch {
	case in.err != nil:
		return nil, fmt.Errorf("%w: %w", errInput, in.err)
	case err != nil:
		return nil, err
	}
	switch {
	case sd.Detached:
	case sd.ContentLength > MaxContent:
		r.unread = true
	default:
		sd.Content = append([]byte{}, content...) // never nil: an empty content is one
	}
	return sd, nil
}

// parseStream reads the message, which is there as such or as base64 text.
func (r *checked) parseStream(in io.Reader) (*cms.SignedData, []byte, error) {
	buffered := bufio.NewReader(in)
	first, err := buffered.Peek(1)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: it is empty", record.ErrUnknown)
	}
	var message io.Reader = buffered
	switch first[0] {
	case 0x30: // SEQUENCE, and also the digit 0: base64 of a message begins with M
	case 'M', ' ', '\t', '\r', '\n':
		r.rep.Input.Wrapper = record.Base64.String()
		message = base64.NewDecoder(base64.StdEncoding, &base64Text{source: buffered})
	default:
		return nil, nil, fmt.Errorf("%w: of this size only a message and the base64 text of one are read", record.ErrLimit)
	}
	var content beginning
	sd, err := cms.ParseStream(message, &content, cms.StreamOptions{})
	return sd, content.Bytes(), err
}

// measured counts and hashes what is read. err is what stopped it, other than the end.
type measured struct {
	source io.Reader
	hash   interface {
		io.Writer
		Sum([]byte) []byte
	}
	size int64
	err  error
}

func (m *measured) Read(b []byte) (int, error) {
	n, err := m.source.Read(b)
	m.hash.Write(b[:n])
	m.size += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		m.err = err
	}
	return n, err
}

// beginning keeps what is written to it up to MaxContent.
type beginning struct{ bytes.Buffer }

func (k *beginning) Write(b []byte) (int, error) {
	if room := MaxContent - k.Len(); room > 0 {
		k.Buffer.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

// base64Text takes white space out of base64 text and refuses text behind its end, of which the decoder is not sure to see.
type base64Text struct {
	source *bufio.Reader
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
				return 0, fmt.Errorf("%w: something behind the base64 text", record.ErrMalformed)
			}
			kept = append(kept, c)
		}
		if len(kept) > 0 || err != nil {
			return len(kept), err
		}
	}
}
