// Package finding is what the operator's tools find wrong with a file, a statement or a certificate: each with its place, its
// gravity and what to do about it, as text for people and as JSON for programs.
package finding

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText bounds one finding as a text, in characters.
const maxText = 1000

// Safe makes a text that may come from files or the network fit for a terminal and a log: one line, no control sequences, no
// characters that change the direction of writing, of bounded length. What is not visible is written as its code point.
func Safe(s string) string {
	var b strings.Builder
	n := 0
	for i, r := range s {
		if n++; n > maxText {
			return b.String() + "..."
		}
		_, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, "\\x%02x", s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	return b.String()
}

// Severity says how grave a finding is.
type Severity int

// The severities.
const (
	Info    Severity = iota // worth knowing
	Warning                 // the other side will probably take it, something is odd
	Error                   // the other side would refuse it, or it would not work
)

func (s Severity) String() string { return [...]string{"info", "warning", "error"}[s] }

// MarshalText writes the word for JSON reports.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Code names a finding for programs, for example ES-ISS-UNGLEICH.
type Code string

// Finding is one violation or disagreement.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	// Source is the file or URL, Line the line in it (0: none), Field the element, member or attribute.
	Source string `json:"source,omitempty"`
	Line   int    `json:"line,omitempty"`
	Field  string `json:"field,omitempty"`
	// What is wrong, and Fix what to do about it.
	What string `json:"what"`
	Fix  string `json:"fix"`
}

// String is the finding on one line, without the fix, safe for a terminal.
func (f Finding) String() string {
	var b strings.Builder
	if f.Source != "" {
		b.WriteString(f.Source)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
		}
		b.WriteString(": ")
	}
	fmt.Fprintf(&b, "%s %s", f.Severity, f.Code)
	if f.Field != "" {
		fmt.Fprintf(&b, " %s", f.Field)
	}
	return Safe(b.String() + ": " + f.What)
}

// List is the result of a check.
type List []Finding

// At sets where the findings are, where they do not say it themselves.
func (fs List) At(source string, line int, field string) List {
	for i := range fs {
		f := &fs[i]
		f.Source = cmp.Or(f.Source, source)
		f.Line = cmp.Or(f.Line, line)
		f.Field = cmp.Or(f.Field, field)
	}
	return fs
}

// Worst is the gravest severity, Info where there is nothing.
func (fs List) Worst() Severity {
	w := Info
	for _, f := range fs {
		w = max(w, f.Severity)
	}
	return w
}

// Has says whether a finding has the code.
func (fs List) Has(c Code) bool {
	return slices.ContainsFunc(fs, func(f Finding) bool { return f.Code == c })
}

// WriteText writes the findings as a text for people: errors first, each with what to do.
func (fs List) WriteText(w io.Writer) error {
	sorted := slices.Clone(fs)
	slices.SortStableFunc(sorted, func(a, b Finding) int { return int(b.Severity) - int(a.Severity) })
	for _, f := range sorted {
		if _, err := fmt.Fprintf(w, "%s\n    to do: %s\n", f, Safe(f.Fix)); err != nil {
			return err
		}
	}
	count := map[Severity]int{}
	for _, f := range fs {
		count[f.Severity]++
	}
	_, err := fmt.Fprintf(w, "%d errors, %d warnings, %d notes\n", count[Error], count[Warning], count[Info])
	return err
}
