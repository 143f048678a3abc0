// Package design holds the design system of the terminal: colours, type scale, spacing and shapes as tokens, and the
// loader for an insurer's overlay that replaces some of them.
//
// Start with [Default], which gives the [Tokens] of the product itself, and [NewMetrics], which turns a panel and a
// chosen text size into pixels. The package draws nothing and knows no screen; screens hold no numbers of their own.
// The rules behind the values are those of the design chapter: contrast of at least 7:1 for every text, touch targets of
// at least 20 mm with 8 mm between them on the real panel, text of at least 24 px and a body of 28 px at 1280x800.
package design

import (
	"image"
	"image/color"
	"math"
)

// Look is one of the three colour schemes.
type Look int

const (
	Light    Look = iota // dark ink on warm white
	Dark                 // light ink on blue black
	Contrast             // yellow on black, nothing else
)

// Looks lists all looks in the order in which they are offered.
var Looks = [...]Look{Light, Dark, Contrast}

// ID names the look in text ids, for example "look.light".
func (l Look) ID() string { return [...]string{"light", "dark", "contrast"}[l] }

// Size is one of the three text sizes.
type Size int

const (
	Normal Size = iota
	Large
	Huge
)

// Sizes lists all sizes in the order in which they are offered.
var Sizes = [...]Size{Normal, Large, Huge}

// ID names the size in text ids, for example "size.normal".
func (s Size) ID() string { return [...]string{"normal", "large", "huge"}[s] }

// factor scales the reading text.
func (s Size) factor() float64 { return [...]float64{1, 1.2, 1.42}[s] }

// headFactor scales headings: they are large already and grow more slowly, so that they keep their lines.
func (s Size) headFactor() float64 { return [...]float64{1, 1.12, 1.25}[s] }

// Palette is the set of colours of one look. Each pair that ever stands together as text on ground is listed in
// [Palette.Pairs].
type Palette struct {
	Background color.NRGBA // of the page
	Surface    color.NRGBA // of cards, buttons, rows
	Sunken     color.NRGBA // of areas that lie back: the side panel, the bar of settings
	Ink        color.NRGBA // text
	Muted      color.NRGBA // secondary text
	Line       color.NRGBA // borders of things to touch, at least 3:1
	Hairline   color.NRGBA // separators; carry no meaning
	Accent     color.NRGBA // the one accent: primary button, progress, pictures
	OnAccent   color.NRGBA // text on the accent
	AccentSoft color.NRGBA // large quiet surfaces in pictures
	Warn       color.NRGBA // ground of a warning
	OnWarn     color.NRGBA // text on it
	WarnLine   color.NRGBA // its border
	Alert      color.NRGBA // ground of an alert
	OnAlert    color.NRGBA // text on it
	AlertLine  color.NRGBA // its border
	Good       color.NRGBA // sign of success
}

// Pair is a colour of text on a colour of ground.
type Pair struct {
	Name   string
	FG, BG color.NRGBA
}

// Pairs lists every combination of text and ground that the components use.
func (p Palette) Pairs() []Pair {
	return []Pair{
		{"ink on background", p.Ink, p.Background},
		{"ink on surface", p.Ink, p.Surface},
		{"ink on sunken", p.Ink, p.Sunken},
		{"muted on background", p.Muted, p.Background},
		{"muted on surface", p.Muted, p.Surface},
		{"muted on sunken", p.Muted, p.Sunken},
		{"accent on background", p.Accent, p.Background},
		{"accent on surface", p.Accent, p.Surface},
		{"text on accent", p.OnAccent, p.Accent},
		{"text on warning", p.OnWarn, p.Warn},
		{"text on alert", p.OnAlert, p.Alert},
	}
}

// Tokens are everything an insurer may replace in looks: colours, name and logo. Layout is not among them.
type Tokens struct {
	// Name is shown beside the logo, "" for none.
	Name string
	// Logo stands in the top right corner; nil shows the product's own mark.
	Logo image.Image
	// LogoDark is the logo for dark grounds; nil means Logo.
	LogoDark image.Image
	// Palettes are the colours, indexed by Look.
	Palettes [len(Looks)]Palette
	// Texts replaces texts by language and id. Prescribed texts cannot be replaced.
	Texts map[string]map[string]string
}

// Default returns the tokens of the product itself.
func Default() *Tokens {
	return &Tokens{Palettes: [...]Palette{
		Light: {
			Background: rgb(0xF7F5F0), Surface: rgb(0xFFFFFF), Sunken: rgb(0xEDEAE2),
			Ink: rgb(0x14212B), Muted: rgb(0x3B4751), Line: rgb(0x5E6B75), Hairline: rgb(0xD8D4CA),
			Accent: rgb(0x00505F), OnAccent: rgb(0xFFFFFF), AccentSoft: rgb(0xCFE4E6),
			Warn: rgb(0xFFF0C2), OnWarn: rgb(0x2E2400), WarnLine: rgb(0x8A6400),
			Alert: rgb(0xFBE3DF), OnAlert: rgb(0x4A0A05), AlertLine: rgb(0x9C2318),
			Good: rgb(0x0B5D36),
		},
		Dark: {
			Background: rgb(0x0E161C), Surface: rgb(0x1A252D), Sunken: rgb(0x141E25),
			Ink: rgb(0xF2F5F7), Muted: rgb(0xC2CCD3), Line: rgb(0x8FA0AB), Hairline: rgb(0x2F3D47),
			Accent: rgb(0x8AD7E3), OnAccent: rgb(0x06222A), AccentSoft: rgb(0x1F4650),
			Warn: rgb(0x3D3000), OnWarn: rgb(0xFFECB0), WarnLine: rgb(0xF0C24A),
			Alert: rgb(0x4A1410), OnAlert: rgb(0xFFE3DE), AlertLine: rgb(0xFF9C8F),
			Good: rgb(0x8FE0B0),
		},
		Contrast: {
			Background: black, Surface: black, Sunken: black,
			Ink: yellow, Muted: yellow, Line: yellow, Hairline: yellow,
			Accent: yellow, OnAccent: black, AccentSoft: black,
			Warn: black, OnWarn: yellow, WarnLine: yellow,
			Alert: yellow, OnAlert: black, AlertLine: yellow,
			Good: yellow,
		},
	}}
}

var (
	black  = rgb(0x000000)
	yellow = rgb(0xFFF000)
)

func rgb(v uint32) color.NRGBA {
	return color.NRGBA{R: uint8(v >> 16), G: uint8(v >> 8), B: uint8(v), A: 255}
}

// Ratio is the contrast ratio of two opaque colours as WCAG 2 defines it, from 1 to 21.
func Ratio(a, b color.NRGBA) float64 {
	la, lb := luminance(a), luminance(b)
	if la < lb {
		la, lb = lb, la
	}
	return (la + 0.05) / (lb + 0.05)
}

// luminance is the relative luminance of WCAG 2.
func luminance(c color.NRGBA) float64 {
	return 0.2126*linear(c.R) + 0.7152*linear(c.G) + 0.0722*linear(c.B)
}

func linear(v uint8) float64 {
	f := float64(v) / 255
	if f <= 0.04045 {
		return f / 12.92
	}
	return math.Pow((f+0.055)/1.055, 2.4)
}

// Limits of the contrast and of the sizes of touch targets.
const (
	MinTextRatio = 7.0  // text on its ground
	MinLineRatio = 3.0  // border of a thing to touch on the page
	TargetMM     = 20.0 // smallest side of a touch target
	GapMM        = 8.0  // between two touch targets
)

// Panel is the screen as it is built into the terminal.
type Panel struct {
	// Diagonal of the visible area in inches. Zero means 12.1.
	Diagonal float64
	// Pixels of the visible area. The zero value means 1280x800.
	Pixels image.Point
}

// Defaults of a panel that is not configured.
const defaultDiagonal = 12.1

var defaultPixels = image.Pt(1280, 800)

// PxPerMM is the number of pixels in a millimetre.
func (p Panel) PxPerMM() float64 {
	if p.Diagonal <= 0 {
		p.Diagonal = defaultDiagonal
	}
	if p.Pixels.X <= 0 || p.Pixels.Y <= 0 {
		p.Pixels = defaultPixels
	}
	return math.Hypot(float64(p.Pixels.X), float64(p.Pixels.Y)) / (p.Diagonal * 25.4)
}

// Metrics are the sizes of one panel and one text size, in pixels.
type Metrics struct {
	Screen image.Point
	Look   Look
	Size   Size

	// The type scale: sizes of an em.
	Small, Body, Lead, Title, Display, Giant int

	Target int // smallest side of a thing to touch
	Gap    int // between two things to touch
	Margin int // at the edge of the screen
	Space  int // between blocks
	Tight  int // between things that belong together
	Pad    int // inside a card or a button
	Radius int // of corners
	Border int // of a thing to touch
	Thick  int // of a chosen or focused thing
	LogoH  int // height of the logo
}

// LineScale is the distance of baselines in ems.
const LineScale = 1.28

// NewMetrics computes the sizes for a screen of the given pixels on the panel.
func NewMetrics(p Panel, screen image.Point, look Look, size Size) Metrics {
	mm := p.PxPerMM()
	// The unit is 1 at 1280x800 and follows the square root of the area, so that other aspects keep a like measure.
	// An upright screen is limited by its width.
	unit := math.Sqrt(float64(screen.X) * float64(screen.Y) / float64(defaultPixels.X*defaultPixels.Y))
	unit = min(unit, 1.25*float64(screen.X)/float64(defaultPixels.X))
	px := func(v float64) int { return int(math.Round(v * unit)) }
	f, h := size.factor(), size.headFactor()
	m := Metrics{
		Screen: screen, Look: look, Size: size,
		Small: px(24 * f), Body: px(28 * f), Lead: px(32 * f), Title: px(44 * h), Display: px(58 * h), Giant: px(200),
		Target: int(math.Ceil(TargetMM * mm)), Gap: int(math.Ceil(GapMM * mm)),
		Margin: px(44), Space: px(28), Tight: px(12), Pad: px(22),
		Radius: px(16), Border: max(2, px(2)), Thick: max(4, px(5)), LogoH: px(52),
	}
	if look == Contrast {
		m.Border = max(3, px(4))
		m.Thick = max(6, px(8))
	}
	return m
}
