package gallery

import (
	"fmt"
	"image"
	"image/color"

	"ktradv/kiosk/design"
	"ktradv/kiosk/fonts"
	"ktradv/kiosk/ui"
)

// Check measures a screen against the rules of the design and returns what breaks them: text that is cut off or broken
// inside a word, things that overlap, touch targets that are too small or too close, text that is too small, contrast
// that is too low, characters without a picture, labels that are not unique.
func Check(v Variant, elements []ui.Element) []string {
	m := design.NewMetrics(v.Panel, v.Panel.Pixels, v.Look, v.Size)
	small := design.NewMetrics(v.Panel, v.Panel.Pixels, v.Look, design.Normal).Small
	var faults []string
	report := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }

	labels := map[string]bool{}
	for i, e := range elements {
		if e.Kind != ui.TextElement && !e.Rect.In(e.Room) {
			report("%q sticks out: %v of %v", e.Label, e.Rect, e.Room)
		}
		if !e.Body && !e.Rect.In(image.Rectangle{Max: v.Panel.Pixels}) {
			report("%q leaves the screen: %v", e.Label, e.Rect)
		}
		switch e.Kind {
		case ui.TextElement:
			if !e.Ink.In(e.Room) {
				report("text %q is cut off: ink %v in %v", e.Label, e.Ink, e.Room)
			}
			if e.Split {
				report("text %q has a word that is broken", e.Label)
			}
			if e.Em < small {
				report("text %q has %d px, at least %d", e.Label, e.Em, small)
			}
			if r := design.Ratio(e.FG, e.BG); r < design.MinTextRatio {
				report("text %q has contrast %.2f", e.Label, r)
			}
			if missing := fonts.Missing(e.Label); len(missing) > 0 {
				report("text %q has no glyph for %q", e.Label, missing)
			}
		case ui.ButtonElement:
			if e.Rect.Dx() < m.Target || e.Rect.Dy() < m.Target {
				report("button %q is %v, at least %d", e.Label, e.Rect.Size(), m.Target)
			}
			if r := design.Ratio(e.FG, e.BG); r < design.MinLineRatio {
				report("button %q has a border of contrast %.2f", e.Label, r)
			}
			if labels[e.Label] {
				report("two buttons are called %q", e.Label)
			}
			labels[e.Label] = true
		}
		for _, o := range elements[:i] {
			if fault := clash(e, o, m); fault != "" {
				report("%s", fault)
			}
		}
	}
	return faults
}

// clash says how two elements get into each other's way, "" when they do not.
func clash(a, b ui.Element, m design.Metrics) string {
	if a.Kind == ui.BodyElement {
		a, b = b, a
	}
	if b.Kind == ui.BodyElement {
		room := b.Rect
		if a.Kind == ui.ButtonElement {
			room = room.Inset(-m.Gap)
		}
		if !a.Body && a.Kind != ui.BodyElement && a.Rect.Overlaps(room) {
			return fmt.Sprintf("%q is too close to what scrolls", a.Label)
		}
		return ""
	}
	if a.Body != b.Body || a.Owner != "" && a.Owner == b.Label || b.Owner != "" && b.Owner == a.Label {
		return ""
	}
	ra, rb := area(a), area(b)
	if a.Kind == ui.ButtonElement && b.Kind == ui.ButtonElement {
		if ra.Inset(-m.Gap).Overlaps(rb) {
			return fmt.Sprintf("buttons %q and %q are closer than %d", a.Label, b.Label, m.Gap)
		}
		return ""
	}
	if ra.Overlaps(rb) {
		return fmt.Sprintf("%q overlaps %q", a.Label, b.Label)
	}
	return ""
}

func area(e ui.Element) image.Rectangle {
	if e.Kind == ui.TextElement {
		return e.Ink
	}
	return e.Rect
}

// Measure reads the contrast of every text that lies open from the pixels of the picture.
func Measure(img *image.RGBA, elements []ui.Element) []string {
	var faults []string
	var body image.Rectangle
	for _, e := range elements {
		if e.Kind == ui.BodyElement {
			body = e.Rect
		}
	}
	for _, e := range elements {
		if e.Kind != ui.TextElement || e.Ink.Empty() {
			continue
		}
		r := e.Ink
		if e.Body {
			if r = r.Add(body.Min); !r.In(body) {
				continue
			}
		}
		ground := common(img, r)
		best := 0.0
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				if c := pixel(img, x, y); c != ground {
					best = max(best, design.Ratio(c, ground))
				}
			}
		}
		if ground != e.BG {
			faults = append(faults, fmt.Sprintf("text %q stands on %v, declared %v", e.Label, ground, e.BG))
		}
		if best < design.MinTextRatio {
			faults = append(faults, fmt.Sprintf("text %q has a measured contrast of %.2f", e.Label, best))
		}
	}
	return faults
}

// common is the most frequent colour of the border of r, which is ground and hardly ever ink.
func common(img *image.RGBA, r image.Rectangle) color.NRGBA {
	r = r.Inset(-2).Intersect(img.Rect)
	count := map[color.NRGBA]int{}
	var best color.NRGBA
	add := func(x, y int) {
		c := pixel(img, x, y)
		if count[c]++; count[c] > count[best] {
			best = c
		}
	}
	for x := r.Min.X; x < r.Max.X; x++ {
		add(x, r.Min.Y)
		add(x, r.Max.Y-1)
	}
	for y := r.Min.Y; y < r.Max.Y; y++ {
		add(r.Min.X, y)
		add(r.Max.X-1, y)
	}
	return best
}

func pixel(img *image.RGBA, x, y int) color.NRGBA {
	i := img.PixOffset(x, y)
	return color.NRGBA{R: img.Pix[i], G: img.Pix[i+1], B: img.Pix[i+2], A: img.Pix[i+3]}
}
