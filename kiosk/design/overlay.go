package design

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"io/fs"
	"strconv"
	"unicode/utf8"
)

// Bounds of an overlay. What exceeds them is refused, not cut.
const (
	maxOverlayBytes = 256 << 10
	maxLogoBytes    = 512 << 10
	maxLogoSide     = 2048
	maxTexts        = 2000
	maxTextRunes    = 1000
	maxNameRunes    = 40
)

// ErrOverlay wraps every reason for which an overlay is refused.
var ErrOverlay = errors.New("overlay refused")

// overlayFile is the JSON of an overlay. Unknown members are refused.
type overlayFile struct {
	Name     string                       `json:"name"`      // the insurer's name as shown
	Logo     string                       `json:"logo"`      // PNG beside the file
	LogoDark string                       `json:"logo_dark"` // PNG for dark grounds
	Light    *overlayColours              `json:"light"`
	Dark     *overlayColours              `json:"dark"`
	Texts    map[string]map[string]string `json:"texts"` // language -> text id -> text
}

// overlayColours are the colours that an insurer may set, as "#RRGGBB". The high-contrast look cannot be changed.
type overlayColours struct {
	Accent     string `json:"accent"`
	OnAccent   string `json:"on_accent"`
	AccentSoft string `json:"accent_soft"`
	Background string `json:"background"`
	Surface    string `json:"surface"`
}

// LoadOverlay reads the overlay "ui.json" in fsys and applies it to the product's own tokens. It fails, wrapping
// [ErrOverlay], when the file is malformed or too large, holds unknown members, names a colour pair with too little
// contrast, or a logo that is no PNG within bounds. An overlay is taken whole or not at all.
func LoadOverlay(fsys fs.FS) (*Tokens, error) {
	raw, err := readBounded(fsys, "ui.json", maxOverlayBytes)
	if err != nil {
		return nil, err
	}
	o, err := parseOverlay(raw)
	if err != nil {
		return nil, fmt.Errorf("ui.json: %w: %w", ErrOverlay, err)
	}
	t := Default()
	t.Name, t.Texts = o.Name, o.Texts
	for _, part := range []struct {
		look Look
		c    *overlayColours
	}{{Light, o.Light}, {Dark, o.Dark}} {
		if part.c == nil {
			continue
		}
		if err := part.c.apply(&t.Palettes[part.look]); err != nil {
			return nil, fmt.Errorf("ui.json: %s: %w: %w", part.look.ID(), ErrOverlay, err)
		}
	}
	if t.Logo, err = readLogo(fsys, o.Logo); err != nil {
		return nil, err
	}
	if t.LogoDark, err = readLogo(fsys, o.LogoDark); err != nil {
		return nil, err
	}
	return t, nil
}

func parseOverlay(raw []byte) (*overlayFile, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var o overlayFile
	if err := dec.Decode(&o); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("data after the object")
	}
	if n := utf8.RuneCountInString(o.Name); n > maxNameRunes {
		return nil, fmt.Errorf("name has %d characters, at most %d", n, maxNameRunes)
	}
	count := 0
	for lang, texts := range o.Texts {
		count += len(texts)
		for id, s := range texts {
			if n := utf8.RuneCountInString(s); n == 0 || n > maxTextRunes {
				return nil, fmt.Errorf("text %s/%s has %d characters, want 1 to %d", lang, id, n, maxTextRunes)
			}
		}
	}
	if count > maxTexts {
		return nil, fmt.Errorf("%d texts, at most %d", count, maxTexts)
	}
	return &o, nil
}

func (c *overlayColours) apply(p *Palette) error {
	for _, f := range []struct {
		name, value string
		dst         *color.NRGBA
	}{
		{"accent", c.Accent, &p.Accent}, {"on_accent", c.OnAccent, &p.OnAccent}, {"accent_soft", c.AccentSoft, &p.AccentSoft},
		{"background", c.Background, &p.Background}, {"surface", c.Surface, &p.Surface},
	} {
		if f.value == "" {
			continue
		}
		v, err := parseColour(f.value)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		*f.dst = v
	}
	for _, pair := range p.Pairs() {
		if r := Ratio(pair.FG, pair.BG); r < MinTextRatio {
			return fmt.Errorf("%s: contrast %.2f, want at least %.0f", pair.Name, r, MinTextRatio)
		}
	}
	return nil
}

func parseColour(s string) (color.NRGBA, error) {
	if len(s) != 7 || s[0] != '#' {
		return color.NRGBA{}, fmt.Errorf("colour %q: want #RRGGBB", s)
	}
	v, err := strconv.ParseUint(s[1:], 16, 24)
	if err != nil {
		return color.NRGBA{}, fmt.Errorf("colour %q: want #RRGGBB", s)
	}
	return rgb(uint32(v)), nil
}

func readLogo(fsys fs.FS, name string) (image.Image, error) {
	if name == "" {
		return nil, nil
	}
	raw, err := readBounded(fsys, name, maxLogoBytes)
	if err != nil {
		return nil, err
	}
	cfg, err := png.DecodeConfig(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("logo %s: %w: %w", name, ErrOverlay, err)
	}
	if cfg.Width < 1 || cfg.Height < 1 || cfg.Width > maxLogoSide || cfg.Height > maxLogoSide {
		return nil, fmt.Errorf("logo %s: %w: %dx%d pixels, at most %d", name, ErrOverlay, cfg.Width, cfg.Height, maxLogoSide)
	}
	img, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("logo %s: %w: %w", name, ErrOverlay, err)
	}
	return img, nil
}

func readBounded(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open overlay file: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("read %s: %w: more than %d bytes", name, ErrOverlay, limit)
	}
	return raw, nil
}
