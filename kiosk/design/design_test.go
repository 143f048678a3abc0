package design

import (
	"bytes"
	"errors"
	"image"
	"image/png"
	"strings"
	"testing"
	"testing/fstest"
)

func TestContrastOfEveryPair(t *testing.T) {
	t.Parallel()
	tokens := Default()
	for _, look := range Looks {
		p := tokens.Palettes[look]
		for _, pair := range p.Pairs() {
			if r := Ratio(pair.FG, pair.BG); r < MinTextRatio {
				t.Errorf("%s: %s: contrast = %.2f; want at least %.0f", look.ID(), pair.Name, r, MinTextRatio)
			}
		}
		for name, bg := range map[string]Pair{
			"line on background": {FG: p.Line, BG: p.Background}, "line on surface": {FG: p.Line, BG: p.Surface},
			"warning line": {FG: p.WarnLine, BG: p.Warn}, "good on surface": {FG: p.Good, BG: p.Surface},
		} {
			if r := Ratio(bg.FG, bg.BG); r < MinLineRatio {
				t.Errorf("%s: %s: contrast = %.2f; want at least %.0f", look.ID(), name, r, MinLineRatio)
			}
		}
	}
}

func TestRatio(t *testing.T) {
	t.Parallel()
	if r := Ratio(black, rgb(0xFFFFFF)); r < 20.99 || r > 21.01 {
		t.Errorf("Ratio(black, white) = %.3f; want 21", r)
	}
	if r := Ratio(rgb(0x777777), rgb(0xFFFFFF)); r < 4.47 || r > 4.49 {
		t.Errorf("Ratio(#777777, white) = %.3f; want 4.48", r)
	}
}

func TestHighContrastIsBlackAndYellow(t *testing.T) {
	t.Parallel()
	for _, pair := range Default().Palettes[Contrast].Pairs() {
		if (pair.FG != black && pair.FG != yellow) || (pair.BG != black && pair.BG != yellow) {
			t.Errorf("%s: %v on %v; want black and yellow only", pair.Name, pair.FG, pair.BG)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	m := NewMetrics(Panel{Diagonal: 12.1, Pixels: image.Pt(1280, 800)}, image.Pt(1280, 800), Light, Normal)
	if m.Small < 24 || m.Body < 28 {
		t.Errorf("text = %d, body = %d at 1280x800; want at least 24 and 28", m.Small, m.Body)
	}
	for _, panel := range []Panel{
		{10.1, image.Pt(1280, 800)}, {12.1, image.Pt(1280, 800)}, {15, image.Pt(1024, 768)}, {21.5, image.Pt(1920, 1080)},
	} {
		m := NewMetrics(panel, panel.Pixels, Light, Normal)
		if mm := float64(m.Target) / panel.PxPerMM(); mm < 20 || mm > 20.5 {
			t.Errorf("target on %v = %.2f mm; want 20", panel, mm)
		}
		if mm := float64(m.Gap) / panel.PxPerMM(); mm < 8 || mm > 8.5 {
			t.Errorf("gap on %v = %.2f mm; want 8", panel, mm)
		}
	}
	if got, want := (Panel{}).PxPerMM(), (Panel{12.1, image.Pt(1280, 800)}).PxPerMM(); got != want {
		t.Errorf("PxPerMM of the zero panel = %v; want %v", got, want)
	}
}

func logoPNG(t testing.TB, w, h int) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := png.Encode(&buf, image.NewRGBA(image.Rect(0, 0, w, h))); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestLoadOverlay(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{
		"ui.json": {Data: []byte(`{"name":"Musterkasse","logo":"logo.png","light":{"accent":"#5A1A5E"},
			"texts":{"de":{"neutral.title":"Guten Tag"}}}`)},
		"logo.png": {Data: logoPNG(t, 200, 50)},
	}
	tokens, err := LoadOverlay(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if tokens.Name != "Musterkasse" || tokens.Logo == nil || tokens.Palettes[Light].Accent != rgb(0x5A1A5E) ||
		tokens.Texts["de"]["neutral.title"] != "Guten Tag" {
		t.Errorf("overlay not applied: %+v", tokens)
	}
	if tokens.Palettes[Contrast] != Default().Palettes[Contrast] {
		t.Error("overlay changed the high-contrast look")
	}
}

func TestLoadOverlayRefuses(t *testing.T) {
	t.Parallel()
	for name, fsys := range map[string]fstest.MapFS{
		"weak accent":       {"ui.json": {Data: []byte(`{"light":{"accent":"#33AACC"}}`)}},
		"unknown member":    {"ui.json": {Data: []byte(`{"margin":12}`)}},
		"contrast look":     {"ui.json": {Data: []byte(`{"contrast":{"accent":"#FFFFFF"}}`)}},
		"trailing data":     {"ui.json": {Data: []byte(`{} {}`)}},
		"bad colour":        {"ui.json": {Data: []byte(`{"dark":{"accent":"red"}}`)}},
		"long name":         {"ui.json": {Data: []byte(`{"name":"` + strings.Repeat("x", 41) + `"}`)}},
		"empty text":        {"ui.json": {Data: []byte(`{"texts":{"de":{"a":""}}}`)}},
		"too large":         {"ui.json": {Data: []byte(`{"name":"` + strings.Repeat("x", maxOverlayBytes) + `"}`)}},
		"logo no PNG":       {"ui.json": {Data: []byte(`{"logo":"l.png"}`)}, "l.png": {Data: []byte("GIF89a")}},
		"logo too wide":     {"ui.json": {Data: []byte(`{"logo":"l.png"}`)}, "l.png": {Data: logoPNG(t, maxLogoSide+1, 1)}},
		"not UTF-8":         {"ui.json": {Data: []byte("{\"name\":\"\xff\"}")}},
		"not a JSON object": {"ui.json": {Data: []byte(`[]`)}},
	} {
		if tokens, err := LoadOverlay(fsys); !errors.Is(err, ErrOverlay) || tokens != nil {
			t.Errorf("%s: LoadOverlay = %v, %v; want nil and ErrOverlay", name, tokens, err)
		}
	}
	if _, err := LoadOverlay(fstest.MapFS{}); err == nil {
		t.Error("LoadOverlay of an empty folder gave no error")
	}
	if _, err := LoadOverlay(fstest.MapFS{"ui.json": {Data: []byte(`{"logo":"../secret.png"}`)}}); err == nil {
		t.Error("LoadOverlay followed a path out of its folder")
	}
}

func FuzzOverlay(f *testing.F) {
	f.Add([]byte(`{"name":"x","light":{"accent":"#5A1A5E"},"texts":{"de":{"a":"b"}}}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tokens, err := LoadOverlay(fstest.MapFS{"ui.json": {Data: raw}})
		if (err == nil) == (tokens == nil) {
			t.Fatalf("LoadOverlay = %v, %v; want exactly one", tokens, err)
		}
		if err != nil {
			return
		}
		for _, look := range Looks {
			for _, pair := range tokens.Palettes[look].Pairs() {
				if Ratio(pair.FG, pair.BG) < MinTextRatio {
					t.Fatalf("accepted overlay has weak %s", pair.Name)
				}
			}
		}
	})
}
