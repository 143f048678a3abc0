// Package figures holds measured figures, prints them and writes them in the form that people compare over time: a JSON
// object of name -> {value, unit}.
package figures

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
)

// Figure is one measured value.
type Figure struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Goal  string  `json:"-"` // as text, empty when there is none
}

// Set holds figures by name.
type Set map[string]Figure

// Add puts a figure into the set; goal may be empty.
func (s Set) Add(name string, value float64, unit, goal string) { s[name] = Figure{value, unit, goal} }

// Print writes one line per figure, sorted by name.
func (s Set) Print(w io.Writer) {
	names := make([]string, 0, len(s))
	for n := range s {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		f, goal := s[n], ""
		if f.Goal != "" {
			goal = "goal " + f.Goal
		}
		fmt.Fprintf(w, "  %-46s %14.3f %-14s %s\n", n, f.Value, f.Unit, goal)
	}
}

// Write writes the file and the folder it is in.
func (s Set) Write(file string) error {
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return fmt.Errorf("figures: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("figures: %w", err)
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("figures: %w", err)
	}
	return nil
}
