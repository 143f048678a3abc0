// Package gallery draws every screen of the terminal in every look, size and language without a window, for people to
// look at and for tests to compare. It is linked by tests and by the tool kiosk/cmd/gallery only.
//
// [Samples] are the screens, [Variants] the ways of showing them; a [Drawer] turns one into a picture and its elements.
package gallery

import (
	"fmt"
	"image"
	"time"

	"gioui.org/cpurender"
	"gioui.org/io/input"
	"gioui.org/layout"
	"gioui.org/op"
	gtext "gioui.org/text"
	"gioui.org/unit"

	"ktradv/kiosk/design"
	"ktradv/kiosk/fonts"
	"ktradv/kiosk/text"
	"ktradv/kiosk/ui"
)

// Panels are the screens for which the pictures are drawn.
var Panels = []ui.Panel{
	{Diagonal: 12.1, Pixels: image.Pt(1280, 800)},
	{Diagonal: 21.5, Pixels: image.Pt(1920, 1080)},
	{Diagonal: 15, Pixels: image.Pt(1024, 768)},
}

// Variant is one way of showing a screen.
type Variant struct {
	Panel ui.Panel
	Lang  text.Lang
	Look  design.Look
	Size  design.Size
}

// String names the variant in files.
func (v Variant) String() string {
	return fmt.Sprintf("%dx%d-%s-%s-%s", v.Panel.Pixels.X, v.Panel.Pixels.Y, v.Lang, v.Look.ID(), v.Size.ID())
}

// Variants lists every combination of language, look and size on the panel.
func Variants(panel ui.Panel) []Variant {
	var out []Variant
	for _, l := range text.Languages {
		for _, look := range design.Looks {
			for _, size := range design.Sizes {
				out = append(out, Variant{panel, l.Lang, look, size})
			}
		}
	}
	return out
}

// Drawer draws samples. It belongs to one goroutine.
type Drawer struct {
	shaper   *gtext.Shaper
	catalog  *text.Catalog
	tokens   *design.Tokens
	renderer *cpurender.Renderer
	ops      op.Ops
}

// NewDrawer returns a drawer for the tokens; nil means the product's own.
func NewDrawer(tokens *design.Tokens) (*Drawer, error) {
	if tokens == nil {
		tokens = design.Default()
	}
	catalog, err := text.New(tokens.Texts)
	if err != nil {
		return nil, err
	}
	return &Drawer{
		shaper: fonts.Default().Shaper(), catalog: catalog, tokens: tokens, renderer: cpurender.New(cpurender.Options{}),
	}, nil
}

// UI returns a UI that shows the sample in the variant.
func (d *Drawer) UI(s Sample, v Variant) *ui.UI {
	u := ui.New(ui.Config{
		Shaper: d.shaper, Catalog: d.catalog, Tokens: d.tokens, Panel: v.Panel, Now: func() time.Time { return Now },
		ReducedMotion: true,
	})
	u.Present(v.Lang, v.Look, v.Size)
	u.SetView(s.View)
	return u
}

// Elements composes the sample without drawing it and returns what stands on it.
func (d *Drawer) Elements(s Sample, v Variant) []ui.Element {
	u := d.UI(s, v)
	d.ops.Reset()
	var router input.Router
	u.Layout(layout.Context{
		Ops: &d.ops, Now: Now, Source: router.Source(), Metric: unit.Metric{PxPerDp: 1, PxPerSp: 1},
		Constraints: layout.Exact(v.Panel.Pixels),
	})
	return u.Elements()
}

// Draw returns the picture of the sample and what stands on it.
func (d *Drawer) Draw(s Sample, v Variant) (*image.RGBA, []ui.Element) {
	elements := d.Elements(s, v)
	img := image.NewRGBA(image.Rectangle{Max: v.Panel.Pixels})
	d.renderer.Frame(img, &d.ops)
	return img, elements
}
