package advlog

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
)

// Operation is an operation id (Vorgangsbezeichner): a random UUID that tells nothing about the person.
type Operation struct{ id string }

// NewOperation makes an operation id from r; nil means crypto/rand.
func NewOperation(r io.Reader) Operation {
	var b [16]byte
	readRandom(r, b[:])
	b[6] = b[6]&0x0F | 0x40 // version 4, RFC 9562
	b[8] = b[8]&0x3F | 0x80
	h := hex.EncodeToString(b[:])
	return Operation{h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]}
}

// ParseOperation takes an operation id that another component made. Anything but a UUID in lower case is refused, so that
// no text can come in this way.
func ParseOperation(s string) (Operation, error) {
	if len(s) != 36 {
		return Operation{}, fmt.Errorf("parse operation id: %d characters, want 36", len(s))
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return Operation{}, fmt.Errorf("parse operation id: no hyphen at %d", i)
			}
		case !('0' <= c && c <= '9' || 'a' <= c && c <= 'f'):
			return Operation{}, fmt.Errorf("parse operation id: no hexadecimal digit at %d", i)
		}
	}
	return Operation{s}, nil
}

func (o Operation) String() string { return o.id }

// IsZero reports whether there is no id.
func (o Operation) IsZero() bool { return o.id == "" }

// Session is the pseudonymous id of one session: random, never derived from the card or the person.
type Session struct{ id string }

// NewSession makes a session id from r; nil means crypto/rand.
func NewSession(r io.Reader) Session {
	var b [8]byte
	readRandom(r, b[:])
	return Session{hex.EncodeToString(b[:])}
}

func (s Session) String() string { return s.id }

// IsZero reports whether there is no id.
func (s Session) IsZero() bool { return s.id == "" }

type operationKey struct{}
type sessionKey struct{}

// WithOperation puts the operation id into the context.
func WithOperation(ctx context.Context, o Operation) context.Context {
	return context.WithValue(ctx, operationKey{}, o)
}

// OperationFrom returns the operation id of the context, or the zero value.
func OperationFrom(ctx context.Context) Operation {
	o, _ := ctx.Value(operationKey{}).(Operation)
	return o
}

// WithSession puts the session id into the context.
func WithSession(ctx context.Context, s Session) context.Context {
	return context.WithValue(ctx, sessionKey{}, s)
}

// SessionFrom returns the session id of the context, or the zero value.
func SessionFrom(ctx context.Context) Session {
	s, _ := ctx.Value(sessionKey{}).(Session)
	return s
}
