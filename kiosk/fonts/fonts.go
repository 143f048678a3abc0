// Package fonts holds the typefaces of the kiosk and says which characters
// they can show.
//
// The files come embedded from pinned Go modules, never from the system, so a
// picture has the same bytes on every machine: Roboto (Latin, Cyrillic, Greek;
// Apache-2.0) and Noto Sans Arabic (SIL OFL 1.1), both from the module
// eliasnaur.com/font. A third family for arrows and other symbols would cost
// several megabytes of memory per process; the screens draw such signs
// themselves. An overlay may put fonts of its own in front of them.
package fonts

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"unicode"

	arabicbold "eliasnaur.com/font/noto/sans/arabic/bold"
	arabic "eliasnaur.com/font/noto/sans/arabic/regular"
	"eliasnaur.com/font/roboto/robotobold"
	"eliasnaur.com/font/roboto/robotomedium"
	"eliasnaur.com/font/roboto/robotoregular"
	"gioui.org/font"
	"gioui.org/font/opentype"
	"gioui.org/text"
	"github.com/go-text/typesetting/di"
	gotext "github.com/go-text/typesetting/font"
	"github.com/go-text/typesetting/language"
	"github.com/go-text/typesetting/shaping"
	"golang.org/x/image/math/fixed"
)

// Limits of a font folder of an overlay.
const (
	MaxFiles    = 16       // files in the folder
	MaxFileSize = 16 << 20 // bytes of one file
	MaxFaces    = 32       // faces in all files together
	maxGlyphs   = 65535
	maxProbes   = 20000 // glyph outlines read to find a broken file
)

// ErrFont is wrapped by the errors for a file that is not a usable font.
var ErrFont = errors.New("not a usable font")

// Set is an immutable, ordered list of faces: the first that has a character
// shows it.
type Set struct{ faces []font.FontFace }

var builtin = sync.OnceValue(func() *Set {
	files := [][]byte{
		robotoregular.TTF, robotomedium.TTF, robotobold.TTF,
		arabic.TTF, arabicbold.TTF,
	}
	// Side by side: it is the slowest part of the start of a terminal.
	parsed := make([][]font.FontFace, len(files))
	var wg sync.WaitGroup
	for i, ttf := range files {
		wg.Go(func() {
			// The files are part of the program; a test parses every one.
			parsed[i], _ = opentype.ParseCollection(ttf)
		})
	}
	wg.Wait()
	return &Set{faces: slices.Concat(parsed...)}
})

// Default returns the embedded faces. They are parsed at the first call; a program that needs them soon calls it early, in
// a goroutine.
func Default() *Set { return builtin() }

// Missing returns the characters of s that no embedded face can show, sorted
// and without repetition.
func Missing(s string) []rune { return Default().Missing(s) }

// Collection returns the faces in order, for text.WithCollection.
func (s *Set) Collection() []font.FontFace { return slices.Clone(s.faces) }

// Shaper returns a new shaper that knows exactly these faces and no system
// fonts. A shaper belongs to one goroutine.
func (s *Set) Shaper() *text.Shaper {
	return text.NewShaper(text.NoSystemFonts(), text.WithCollection(s.Collection()))
}

// Missing returns the characters of str that no face of the set can show,
// sorted and without repetition. Control and format characters, which have no
// picture, are never missing.
func (s *Set) Missing(str string) []rune {
	var missing []rune
	seen := make(map[rune]bool)
	for _, r := range str {
		if seen[r] || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Variation_Selector) {
			continue
		}
		seen[r] = true
		if !slices.ContainsFunc(s.faces, func(f font.FontFace) bool {
			_, ok := f.Face.Face().NominalGlyph(r)
			return ok
		}) {
			missing = append(missing, r)
		}
	}
	slices.Sort(missing)
	return missing
}

// WithFolder returns a set that has the faces of the .ttf and .otf files in
// dir of fsys, in the order of their names, before those of s. A folder that
// does not exist is an empty one. The limits of this package hold; a file
// that cannot be read and drawn completely is refused with ErrFont, and then
// no file of the folder is used.
func (s *Set) WithFolder(fsys fs.FS, dir string) (*Set, error) {
	entries, err := fs.ReadDir(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read font folder %q: %w", dir, err)
	}
	if len(entries) > MaxFiles {
		return nil, fmt.Errorf("read font folder %q: %d entries, at most %d allowed", dir, len(entries), MaxFiles)
	}
	var faces []font.FontFace
	for _, e := range entries {
		ext := strings.ToLower(path.Ext(e.Name()))
		if ext != ".ttf" && ext != ".otf" {
			continue
		}
		f, err := load(fsys, path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if faces = append(faces, f...); len(faces) > MaxFaces {
			return nil, fmt.Errorf("read font folder %q: more than %d faces", dir, MaxFaces)
		}
	}
	return &Set{faces: append(faces, s.faces...)}, nil
}

func load(fsys fs.FS, name string) ([]font.FontFace, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open font: %w", err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("font %q is not a regular file: %w", name, ErrFont)
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read font %q: %w", name, err)
	}
	if len(b) > MaxFileSize {
		return nil, fmt.Errorf("font %q is larger than %d bytes: %w", name, MaxFileSize, ErrFont)
	}
	faces, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("font %q: %w", name, err)
	}
	return faces, nil
}

// Parse reads a TrueType or OpenType file or collection from an untrusted
// source. It reads every glyph that a character leads to and shapes a sample,
// so that a file which would fail later, in the middle of a frame, is refused
// here with ErrFont.
func Parse(b []byte) (faces []font.FontFace, err error) {
	defer func() {
		if p := recover(); p != nil {
			faces, err = nil, fmt.Errorf("parsing failed with %v: %w", p, ErrFont)
		}
	}()
	faces, err = opentype.ParseCollection(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFont, err)
	}
	if len(faces) == 0 || len(faces) > MaxFaces {
		return nil, fmt.Errorf("%d faces: %w", len(faces), ErrFont)
	}
	for _, f := range faces {
		if err := probe(f.Face.Face()); err != nil {
			return nil, err
		}
	}
	return faces, nil
}

// probe exercises a face the way shaping and drawing will.
func probe(f *gotext.Face) error {
	if f.Upem() == 0 {
		return fmt.Errorf("no units per em: %w", ErrFont)
	}
	var sample []rune
	n := 0
	for it := f.Cmap.Iter(); it.Next(); {
		r, gid := it.Char()
		if n++; n > maxProbes {
			break
		}
		if gid > maxGlyphs {
			return fmt.Errorf("character %U leads to glyph %d: %w", r, gid, ErrFont)
		}
		f.GlyphData(gid)
		f.HorizontalAdvance(gid)
		if len(sample) < 512 && unicode.IsGraphic(r) {
			sample = append(sample, r)
		}
	}
	if len(sample) == 0 {
		return fmt.Errorf("no characters: %w", ErrFont)
	}
	var sh shaping.HarfbuzzShaper
	for _, script := range []language.Script{language.Latin, language.Cyrillic, language.Arabic} {
		dir := di.DirectionLTR
		if script == language.Arabic {
			dir = di.DirectionRTL
		}
		sh.Shape(shaping.Input{Text: sample, RunEnd: len(sample), Direction: dir, Face: f, Size: fixed.I(28), Script: script, Language: "de"})
	}
	return nil
}
