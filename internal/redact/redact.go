// Package redact holds the types for secrets and personal data. Whatever verb or encoder prints them, they come out
// as "[redacted]"; only an explicit Reveal gives the value, so that `grep Reveal` lists every place where personal data
// leaves its type.
package redact

import (
	"fmt"
	"io"
)

// Mark is what every redacted value prints as.
const Mark = "[redacted]"

// String is a secret or personal text, for example a name or an address.
type String struct{ v string }

// NewString wraps v.
func NewString(v string) String { return String{v} }

// Reveal returns the text itself.
func (s String) Reveal() string { return s.v }

// IsZero reports whether there is no text.
func (s String) IsZero() bool { return s.v == "" }

func (String) String() string               { return Mark }
func (String) GoString() string             { return Mark }
func (String) Format(w fmt.State, _ rune)   { io.WriteString(w, Mark) }
func (String) MarshalText() ([]byte, error) { return []byte(Mark), nil }

// Bytes are secret or personal octets, for example a key or the content of a protected file.
type Bytes struct{ v []byte }

// NewBytes wraps v without copying it.
func NewBytes(v []byte) Bytes { return Bytes{v} }

// Reveal returns the octets themselves, not a copy.
func (b Bytes) Reveal() []byte { return b.v }

// IsZero reports whether there are no octets.
func (b Bytes) IsZero() bool { return len(b.v) == 0 }

// Wipe overwrites the octets with zeros.
func (b Bytes) Wipe() { clear(b.v) }

func (Bytes) String() string               { return Mark }
func (Bytes) GoString() string             { return Mark }
func (Bytes) Format(w fmt.State, _ rune)   { io.WriteString(w, Mark) }
func (Bytes) MarshalText() ([]byte, error) { return []byte(Mark), nil }

// ICCSN is the number of a card: 20 digits, 80 276 issuer(5) serial(10). The specification allows it in card-related
// error logs only, for at most 180 days (AdV-A_2424, AdV-A_2426).
type ICCSN struct{ v string }

// NewICCSN checks the form (20 decimal digits) and wraps the number.
func NewICCSN(digits string) (ICCSN, error) {
	if len(digits) != 20 || !allDigits(digits) {
		return ICCSN{}, fmt.Errorf("iccsn: want 20 decimal digits, have %d characters", len(digits))
	}
	return ICCSN{digits}, nil
}

// Reveal returns the 20 digits, or "" for the zero value.
func (n ICCSN) Reveal() string { return n.v }

// IsZero reports whether there is no number.
func (n ICCSN) IsZero() bool { return n.v == "" }

func (ICCSN) String() string               { return Mark }
func (ICCSN) GoString() string             { return Mark }
func (ICCSN) Format(w fmt.State, _ rune)   { io.WriteString(w, Mark) }
func (ICCSN) MarshalText() ([]byte, error) { return []byte(Mark), nil }

// KVNR is the unchangeable part of a health insurance number: one letter and nine digits.
type KVNR struct{ v string }

// NewKVNR checks the form (A-Z and nine digits; the check digit is not judged) and wraps the number.
func NewKVNR(s string) (KVNR, error) {
	if len(s) != 10 || s[0] < 'A' || s[0] > 'Z' || !allDigits(s[1:]) {
		return KVNR{}, fmt.Errorf("kvnr: want a letter and nine digits, have %d characters", len(s))
	}
	return KVNR{s}, nil
}

// Reveal returns the ten characters, or "" for the zero value.
func (n KVNR) Reveal() string { return n.v }

// IsZero reports whether there is no number.
func (n KVNR) IsZero() bool { return n.v == "" }

func (KVNR) String() string               { return Mark }
func (KVNR) GoString() string             { return Mark }
func (KVNR) Format(w fmt.State, _ rune)   { io.WriteString(w, Mark) }
func (KVNR) MarshalText() ([]byte, error) { return []byte(Mark), nil }

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
