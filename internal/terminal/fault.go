package terminal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// FaultPath is where the init process leaves what the technician's screen shows (`adv-kiosk -fault`).
const FaultPath = "/run/adv/fault.json"

// Cause is why a terminal shows its technician's screen instead of the neutral one.
type Cause string

// The causes.
const (
	CauseConfiguration Cause = "configuration" // terminal.json has mistakes
	CauseKiosk         Cause = "kiosk"         // the kiosk could not be started, again and again
)

// Fault is what the technician's screen shows.
type Fault struct {
	Cause    Cause     `json:"cause"`
	Problems []Problem `json:"problems"`
	// Facts are versions and devices, in the order in which they are shown.
	Facts []Fact `json:"facts"`
}

// Fact is one line about the terminal, for example {"display", "/dev/dri/card0"}.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Bounds of a fault file.
const (
	maxFault     = 256 << 10 // octets
	maxFacts     = 40
	maxFaultText = 1000 // characters of one text
)

// ErrFault is wrapped by the errors of ParseFault.
var ErrFault = errors.New("not a fault file")

// LoadFault reads a fault file.
func LoadFault(path string) (Fault, error) {
	file, err := os.Open(path)
	if err != nil {
		return Fault{}, fmt.Errorf("fault: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxFault+1))
	if err != nil {
		return Fault{}, fmt.Errorf("fault: %w", err)
	}
	return ParseFault(b)
}

// ParseFault reads a fault. Too much of something is cut: what is left helps the technician more than an error.
func ParseFault(b []byte) (Fault, error) {
	if len(b) > maxFault {
		return Fault{}, fmt.Errorf("%w: more than %d octets", ErrFault, maxFault)
	}
	var f Fault
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&f); err != nil {
		return Fault{}, fmt.Errorf("%w: %w", ErrFault, err)
	}
	if f.Cause != CauseConfiguration && f.Cause != CauseKiosk {
		return Fault{}, fmt.Errorf("%w: cause %.20q", ErrFault, f.Cause)
	}
	f.Problems = f.Problems[:min(len(f.Problems), maxProblems)]
	f.Facts = f.Facts[:min(len(f.Facts), maxFacts)]
	for i := range f.Problems {
		p := &f.Problems[i]
		for _, s := range []*string{&p.File, &p.Key, &p.What, &p.Fix} {
			*s = printable(*s)
		}
	}
	for i := range f.Facts {
		f.Facts[i] = Fact{printable(f.Facts[i].Name), printable(f.Facts[i].Value)}
	}
	return f, nil
}

// printable makes a text one that a screen can show: one line, valid, bounded.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < ' ' || r == 0x7F || r == utf8.RuneError:
			return '?'
		}
		return r
	}, s)
	if r := []rune(s); len(r) > maxFaultText {
		return string(r[:maxFaultText]) + "…"
	}
	return s
}
