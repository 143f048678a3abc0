package erezept

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"ktradv/internal/cms"
	"ktradv/server/erezept/record"
)

// MaxContent is the largest content of a large record whose facts are read, in octets; published contents have about
// 12,000. The signature of a larger one is checked all the same.
const MaxContent = 4 << 20

// errInput says that the record could not be read to its end, which says nothing about the record.
var errInput = errors.New("reading the record failed")

// streamed is a message that was read as a stream. Memory does not depend on its size: the content is hashed as it arrives
// and kept up to MaxContent.
type streamed struct {
	sd    *cms.SignedData
	err   error
	input Input // the message itself
}

// readStream reads a message in one pass.
func readStream(message io.Reader) any {
	in := measured{source: message, hash: sha256.New()}
	var content beginning
	sd, err := cms.ParseStream(&in, &content, cms.StreamOptions{})
	if err == nil && !sd.Detached && sd.ContentLength <= MaxContent {
		sd.Content = append([]byte{}, content.Bytes()...) // never nil: an empty content is one
	}
	return &streamed{sd, err, Input{SHA256: hex.EncodeToString(in.hash.Sum(nil)), Size: in.size}}
}

// scan checks the messages of an input that is too large to be held, as they come. When there is one alone its report names
// the whole input, otherwise each names its message. err is why the input was not read to its end.
func (c *Checker) scan(ctx context.Context, in *Case, g Given, now time.Time, found func(*checked) error) error {
	source, err := g.Large()
	if err != nil {
		return found(c.check(ctx, opened{kind: g.Kind, err: fmt.Errorf("%w: %w", errInput, err)}, now))
	}
	defer source.Close()
	all := &measured{source: source, hash: sha256.New()}
	var only *checked
	n := 0
	// The first record is held back until the next one comes, because its report depends on that.
	err = record.Scan(all, readStream, func(m record.Message) error {
		if all.err != nil {
			m.Streamed, m.Err = nil, fmt.Errorf("%w: %w", errInput, all.err)
		}
		r := c.check(ctx, opened{kind: g.Kind, msg: m, data: m.Data, err: m.Err, archive: in.Archive}, now)
		if n++; n == 1 {
			only = r
			return nil
		}
		if only != nil {
			first := only
			only = nil
			if err := found(first); err != nil {
				return err
			}
		}
		return found(r)
	})
	// The report names the whole input, also when what was looked for ended before.
	if _, drained := io.Copy(io.Discard, all); drained != nil && all.err == nil {
		all.err = drained
	}
	if all.err != nil {
		err = fmt.Errorf("%w: %w", errInput, all.err)
	}
	whole := Input{SHA256: hex.EncodeToString(all.hash.Sum(nil)), Size: all.size}
	switch {
	case n == 0:
		only = c.check(ctx, opened{kind: g.Kind, err: cmp.Or(err, record.ErrNoMessage)}, now)
	case n > 1:
		return err
	case err != nil:
		only.ledger.find(StepContainer, containerCode(err), "%v", err)
	}
	only.rep.Input.SHA256, only.rep.Input.Size = whole.SHA256, whole.Size
	return found(only)
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
