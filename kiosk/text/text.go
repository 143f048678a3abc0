// Package text is the text catalogue of the terminal: every word that a person reads, in every language that is offered.
//
// Start with [New], then [Catalog.Get]. Two kinds of text live here. Those that the specification prescribes come word
// for word from its own table (prescribed.csv, the ids of which are kept) and cannot be replaced; in other languages they
// have a translation, which is shown under the German original ([Catalog.Prescribed] tells the two apart). All others are
// the product's own, one file per language (lang/de.csv, lang/en.csv); a language is added by adding its file and a line
// to [Languages]. The package also registers the problems a person can be told ([Problems]).
package text

import (
	"bytes"
	"embed"
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gioui.org/io/system"
)

// Lang is the tag of a language, BCP 47.
type Lang string

// The languages for which there are texts.
const (
	German  Lang = "de"
	English Lang = "en"
)

// Language describes one offered language.
type Language struct {
	Lang Lang
	// Name is the language's name in itself, as it stands on its button.
	Name string
	// RightToLeft tells the writing direction.
	RightToLeft bool
}

// Locale is the language as the text shaper wants it.
func (l Language) Locale() system.Locale {
	loc := system.Locale{Language: string(l.Lang)}
	if l.RightToLeft {
		loc.Direction = system.RTL
	}
	return loc
}

// Languages lists the offered languages, German first; their order is that of the buttons.
var Languages = []Language{
	{Lang: German, Name: "Deutsch"},
	{Lang: English, Name: "English"},
}

//go:embed prescribed.csv
var prescribedCSV []byte

//go:embed lang/*.csv
var langFS embed.FS

// Catalog holds the texts of all languages. It is immutable and safe for concurrent use.
type Catalog struct {
	prescribed map[string]string          // id -> German text of the specification
	texts      map[Lang]map[string]string // own texts and translations
}

// New reads the embedded catalogue and puts the texts of an insurer's overlay over it (language -> id -> text; nil for
// none). It fails when the overlay names a language or an id that does not exist, a prescribed id, or leaves out a
// placeholder.
func New(overlay map[string]map[string]string) (*Catalog, error) {
	rows, err := readCSV(prescribedCSV, "id", "context", "text")
	if err != nil {
		return nil, fmt.Errorf("prescribed texts: %w", err)
	}
	c := &Catalog{prescribed: make(map[string]string, len(rows)), texts: make(map[Lang]map[string]string)}
	for _, r := range rows {
		c.prescribed[r[0]] = r[2]
	}
	for _, l := range Languages {
		raw, err := langFS.ReadFile("lang/" + string(l.Lang) + ".csv")
		if err != nil {
			return nil, fmt.Errorf("texts of %s: %w", l.Lang, err)
		}
		rows, err := readCSV(raw, "id", "text")
		if err != nil {
			return nil, fmt.Errorf("texts of %s: %w", l.Lang, err)
		}
		m := make(map[string]string, len(rows))
		for _, r := range rows {
			if _, twice := m[r[0]]; twice {
				return nil, fmt.Errorf("texts of %s: id %s stands twice", l.Lang, r[0])
			}
			m[r[0]] = r[1]
		}
		c.texts[l.Lang] = m
	}
	return c, c.apply(overlay)
}

func (c *Catalog) apply(overlay map[string]map[string]string) error {
	for lang, texts := range overlay {
		m, ok := c.texts[Lang(lang)]
		if !ok {
			return fmt.Errorf("overlay texts: no language %q", lang)
		}
		for id, s := range texts {
			if _, fixed := c.prescribed[id]; fixed {
				return fmt.Errorf("overlay texts: %s is prescribed and cannot be replaced", id)
			}
			old, ok := m[id]
			if !ok {
				return fmt.Errorf("overlay texts: no text %s/%s", lang, id)
			}
			if !slices.Equal(placeholders(old), placeholders(s)) {
				return fmt.Errorf("overlay texts: %s/%s: placeholders differ from %v", lang, id, placeholders(old))
			}
			m[id] = s
		}
	}
	return nil
}

func readCSV(raw []byte, header ...string) ([][]string, error) {
	r := csv.NewReader(bytes.NewReader(raw))
	r.FieldsPerRecord = len(header)
	rows, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || !slices.Equal(rows[0], header) {
		return nil, fmt.Errorf("want header %v", header)
	}
	return rows[1:], nil
}

// Lookup returns the text with the id in the language, placeholders and all. A prescribed text in German is that of the
// specification.
func (c *Catalog) Lookup(lang Lang, id string) (string, bool) {
	if lang == German {
		if s, ok := c.prescribed[id]; ok {
			return s, true
		}
	}
	s, ok := c.texts[lang][id]
	return s, ok
}

// Get returns the text with the id in the language, its placeholders <name> replaced from args. Where the language has
// no such text it gives the German one, and where there is none either the id itself, so that nothing is ever silently
// left out.
func (c *Catalog) Get(lang Lang, id string, args map[string]string) string {
	s, ok := c.Lookup(lang, id)
	if !ok {
		if s, ok = c.Lookup(German, id); !ok {
			return id
		}
	}
	return Fill(s, args)
}

// Fill replaces each placeholder <name> of s for which args has a value.
func Fill(s string, args map[string]string) string {
	if len(args) == 0 || !strings.Contains(s, "<") {
		return s
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			break
		}
		j := strings.IndexByte(s[i:], '>')
		if j < 0 {
			break
		}
		b.WriteString(s[:i])
		if v, ok := args[s[i+1:i+j]]; ok {
			b.WriteString(v)
		} else {
			b.WriteString(s[i : i+j+1])
		}
		s = s[i+j+1:]
	}
	b.WriteString(s)
	return b.String()
}

// placeholders lists the names between < and > in s, sorted.
func placeholders(s string) []string {
	var names []string
	for {
		_, rest, ok := strings.Cut(s, "<")
		if !ok {
			break
		}
		name, rest, ok := strings.Cut(rest, ">")
		if !ok {
			break
		}
		names = append(names, name)
		s = rest
	}
	slices.Sort(names)
	return names
}

// Prescribed reports whether the specification prescribes the German words of the text.
func (c *Catalog) Prescribed(id string) bool {
	_, ok := c.prescribed[id]
	return ok
}

// IDs lists the ids of all texts, prescribed and own, sorted.
func (c *Catalog) IDs() []string {
	all := maps.Clone(c.texts[German])
	maps.Copy(all, c.prescribed)
	return slices.Sorted(maps.Keys(all))
}
