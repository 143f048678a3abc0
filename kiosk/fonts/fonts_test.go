package fonts_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	arabic "eliasnaur.com/font/noto/sans/arabic/regular"
	"eliasnaur.com/font/roboto/robotoregular"
	"gioui.org/font"
	"gioui.org/io/system"
	"gioui.org/text"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/image/math/fixed"

	"ktradv/kiosk/fonts"
)

// alphabets holds the letters of the languages of the terminal.
var alphabets = map[string]string{
	"German":    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÜẞ abcdefghijklmnopqrstuvwxyzäöüß 0123456789 .,:;!?-–—…„“‚‘»«›‹()[]{}/\\&%§€@#*+=<>_|~^°²³'\"",
	"Turkish":   "ÇçĞğIıİiÖöŞşÜüÂâÎîÛû",
	"Polish":    "ĄąĆćĘęŁłŃńÓóŚśŹźŻż",
	"Russian":   "АБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдеёжзийклмнопрстуфхцчшщъыьэюя№",
	"Ukrainian": "ҐґЄєІіЇї’ʼ",
	"Arabic":    "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىيًٌٍَُِّْ،؛؟٠١٢٣٤٥٦٧٨٩ـ",
	"card data": iso8859_15(),
}

// iso8859_15 is the character set of the records on the card.
func iso8859_15() (s string) {
	for c := rune(0xa0); c <= 0xff; c++ {
		if r, ok := map[rune]rune{0xa4: '€', 0xa6: 'Š', 0xa8: 'š', 0xb4: 'Ž', 0xb8: 'ž', 0xbc: 'Œ', 0xbd: 'œ', 0xbe: 'Ÿ'}[c]; ok {
			s += string(r)
		} else {
			s += string(c)
		}
	}
	return s
}

func TestAlphabets(t *testing.T) {
	t.Parallel()
	for name, letters := range alphabets {
		if m := fonts.Missing(letters); len(m) > 0 {
			t.Errorf("%s: missing %q", name, string(m))
		}
	}
}

func TestEmbeddedFaces(t *testing.T) {
	t.Parallel()
	var got []font.Font
	for _, f := range fonts.Default().Collection() {
		got = append(got, f.Font)
	}
	want := []font.Font{
		{Typeface: "Roboto"}, {Typeface: "Roboto", Weight: font.Medium}, {Typeface: "Roboto", Weight: font.Bold},
		{Typeface: "Noto Sans Arabic"}, {Typeface: "Noto Sans Arabic", Weight: font.Bold},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	// Han characters and an unassigned code point, unsorted and repeated; the
	// direction marks and the line feed have no picture.
	if got, want := string(fonts.Missing("a漢\u200f字\n漢\U000E0999")), "字漢\U000E0999"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := fonts.Missing(""); got != nil {
		t.Errorf("empty text: %q", got)
	}
}

type glyph struct {
	ID text.GlyphID
	X  fixed.Int26_6
}

func shape(s *text.Shaper, str string, dir system.TextDirection) (g []glyph) {
	s.LayoutString(text.Parameters{PxPerEm: fixed.I(28), MaxWidth: 1 << 20, Locale: system.Locale{Direction: dir}}, str)
	for {
		gl, ok := s.NextGlyph()
		if !ok {
			return g
		}
		g = append(g, glyph{gl.ID, gl.X})
	}
}

// TestArabicIsShaped proves joined forms and the direction: the letter beh has
// another glyph alone, at the start, in the middle and at the end of a word,
// and the word runs from the right.
func TestArabicIsShaped(t *testing.T) {
	t.Parallel()
	s := fonts.Default().Shaper()
	alone := shape(s, "ب", system.RTL)
	word := shape(s, "ببب", system.RTL)
	if len(alone) == 0 || len(word) < 3 {
		t.Fatalf("shaped to %d and %d glyphs", len(alone), len(word))
	}
	forms := map[text.GlyphID]bool{alone[0].ID: true}
	for _, g := range word[:3] {
		forms[g.ID] = true
	}
	if len(forms) != 4 {
		t.Errorf("beh alone and in a word has %d forms, want 4", len(forms))
	}
	if word[0].X <= word[2].X {
		t.Errorf("first letter at %v, last at %v: not right to left", word[0].X, word[2].X)
	}
}

// TestShaperIsDeterministic shapes mixed text with two shapers, one of which
// has shaped other things before.
func TestShaperIsDeterministic(t *testing.T) {
	t.Parallel()
	a, b := fonts.Default().Shaper(), fonts.Default().Shaper()
	for _, s := range alphabets {
		shape(b, s, system.LTR)
	}
	mixed := "Grüße, مرحبا 123 Привіт Łódź"
	if d := cmp.Diff(shape(a, mixed, system.LTR), shape(b, mixed, system.LTR)); d != "" {
		t.Error(d)
	}
}

func TestWithFolder(t *testing.T) {
	t.Parallel()
	ok := &fstest.MapFile{Data: arabic.TTF}
	many := fstest.MapFS{}
	for i := range fonts.MaxFiles + 1 {
		many["fonts/"+strings.Repeat("x", i+1)+".ttf"] = ok
	}
	tests := map[string]struct {
		fsys  fstest.MapFS
		first font.Typeface
		bad   bool
		font  bool // the error is ErrFont
	}{
		"no folder":  {fsys: fstest.MapFS{}, first: "Roboto"},
		"own font":   {fsys: fstest.MapFS{"fonts/a.ttf": ok, "fonts/LICENSE": {Data: []byte("text")}}, first: "Noto Sans Arabic"},
		"no font":    {fsys: fstest.MapFS{"fonts/a.ttf": {Data: []byte("MZ")}}, bad: true, font: true},
		"empty":      {fsys: fstest.MapFS{"fonts/a.otf": {}}, bad: true, font: true},
		"cut":        {fsys: fstest.MapFS{"fonts/a.ttf": {Data: arabic.TTF[:len(arabic.TTF)/2]}}, bad: true, font: true},
		"too large":  {fsys: fstest.MapFS{"fonts/a.ttf": {Data: make([]byte, fonts.MaxFileSize+1)}}, bad: true, font: true},
		"too many":   {fsys: many, bad: true},
		"one is bad": {fsys: fstest.MapFS{"fonts/a.ttf": ok, "fonts/b.ttf": {Data: []byte("no")}}, bad: true, font: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := fonts.Default().WithFolder(tt.fsys, "fonts")
			if (err != nil) != tt.bad || errors.Is(err, fonts.ErrFont) != tt.font {
				t.Fatalf("error %v", err)
			}
			if err == nil && s.Collection()[0].Font.Typeface != tt.first {
				t.Errorf("first face %v, want %v", s.Collection()[0].Font, tt.first)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("OTTO\x00\x01"))
	f.Add(arabic.TTF[:4096])
	f.Add(robotoregular.TTF)
	f.Fuzz(func(t *testing.T, b []byte) {
		faces, err := fonts.Parse(b)
		if err != nil && !errors.Is(err, fonts.ErrFont) {
			t.Errorf("untyped error %v", err)
		}
		if err == nil && len(faces) == 0 {
			t.Error("no faces and no error")
		}
	})
}
