//go:build vm

package vm

import (
	"bytes"
	"fmt"
	"image"
	"sync"

	"ktradv/kiosk/text"
	"ktradv/kiosk/ui"
	"ktradv/kiosk/ui/gallery"
	"ktradv/kiosk/view"
	"ktradv/tests/demo/appliance"
)

// diagonal is that of the demo overlay's display, in inches.
const diagonal = 390 / 25.4

// look is a screen of the product as this side draws it.
type look struct {
	picture  *image.RGBA
	elements []ui.Element
}

// facing is the size of the picture that the person in front of the terminal sees; a test with a turned display changes it.
var facing = image.Pt(appliance.Width, appliance.Height)

var (
	drawing sync.Mutex
	drawer  *gallery.Drawer
	looks   = map[string]look{}
)

// draw draws a screen; one that was drawn before under the same name is kept.
func draw(name string, v view.View) (look, error) {
	drawing.Lock()
	defer drawing.Unlock()
	key := fmt.Sprint(name, facing)
	if l, ok := looks[key]; ok {
		return l, nil
	}
	if drawer == nil {
		var err error
		if drawer, err = gallery.NewDrawer(nil); err != nil {
			return look{}, err
		}
	}
	panel := ui.Panel{Diagonal: diagonal, Pixels: facing}
	img, elements := drawer.Draw(gallery.Sample{Name: name, View: v}, gallery.Variant{Panel: panel, Lang: text.German})
	looks[key] = look{img, append([]ui.Element(nil), elements...)}
	return looks[key], nil
}

// sample is a screen of the gallery by its name.
func sample(name string) (look, error) {
	for _, s := range gallery.Samples() {
		if s.Name == name {
			return draw(s.Name, s.View)
		}
	}
	return look{}, fmt.Errorf("the gallery has no screen %q", name)
}

// texts are the elements that a shot is compared by: the title alone, or all texts that do not scroll.
func (l look) texts(all bool) (out []ui.Element) {
	largest := 0
	for _, e := range l.elements {
		if e.Kind == ui.TextElement && !e.Body {
			largest = max(largest, e.Em)
		}
	}
	for _, e := range l.elements {
		if e.Kind == ui.TextElement && !e.Body && (all || e.Em == largest) {
			out = append(out, e)
		}
	}
	return out
}

// in tells whether a shot shows the texts, pixel by pixel, and which one it does not show.
func (l look) in(shot *image.RGBA, all bool) (bool, string) {
	if shot.Rect != l.picture.Rect {
		return false, fmt.Sprintf("a screen of %v", shot.Rect)
	}
	texts := l.texts(all)
	for _, e := range texts {
		if !same(shot, l.picture, e.Ink.Inset(-1).Intersect(shot.Rect)) {
			return false, e.Label
		}
	}
	return len(texts) > 0, ""
}

// same compares two pictures of one size in a rectangle.
func same(a, b *image.RGBA, r image.Rectangle) bool {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		i, j := a.PixOffset(r.Min.X, y), a.PixOffset(r.Max.X, y)
		if !bytes.Equal(a.Pix[i:j], b.Pix[i:j]) {
			return false
		}
	}
	return true
}

// button is the middle of the button with a label.
func (l look) button(label string) (image.Point, error) {
	for _, e := range l.elements {
		if e.Kind == ui.ButtonElement && e.Label == label {
			return e.Rect.Min.Add(e.Rect.Max).Div(2), nil
		}
	}
	return image.Point{}, fmt.Errorf("no button %q", label)
}
