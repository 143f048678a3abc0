// Package page is the page of components-demo: buttons, a list, a text field,
// text in three scripts and an area that shows every finger that touches it.
// It has no animation: the same input gives the same picture on every
// platform, and nothing is drawn while nothing happens.
package page

import (
	"fmt"
	"image"
	"image/color"
	"slices"
	"strconv"
	"time"

	"gioui.org/f32"
	"gioui.org/font"
	"gioui.org/io/event"
	"gioui.org/io/pointer"
	"gioui.org/io/semantic"
	"gioui.org/io/system"
	"gioui.org/layout"
	"gioui.org/op"
	"gioui.org/op/clip"
	"gioui.org/op/paint"
	"gioui.org/text"
	"gioui.org/unit"
	"gioui.org/widget"

	"ktradv/kiosk/design"
)

// Labels of the elements, as tests and speech output find them.
const (
	Next     = "Weiter"
	Back     = "Zurück"
	Off      = "Nicht möglich"
	Look     = "Kontrast"
	Field    = "Eingabe"
	Surface  = "Berührungsfläche"
	rowLabel = "Zeile %d"
	rows     = 40
)

// Row is the label of a row of the list.
func Row(i int) string { return fmt.Sprintf(rowLabel, i) }

// Page is the page's state. It belongs to the loop's goroutine.
type Page struct {
	shaper  *text.Shaper
	tokens  *design.Tokens
	look    design.Look
	buttons [4]widget.Clickable
	list    widget.List
	row     [rows]widget.Clickable
	editor  widget.Editor
	typing  bool // the editor has the focus

	presses  int
	selected int
	fingers  []finger // that are down, in the order in which they came
	most     int      // the most fingers at once
}

type finger struct {
	id pointer.ID
	at f32.Point
}

// New returns the page in the product's own look.
func New(shaper *text.Shaper) *Page {
	p := &Page{shaper: shaper, tokens: design.Default(), selected: -1}
	p.list.Axis = layout.Vertical
	p.editor.SingleLine = true
	return p
}

// Presses is how often Next and Back were pressed, less the times of Back.
func (p *Page) Presses() int { return p.presses }

// Typing reports whether what is typed goes into the field.
func (p *Page) Typing() bool { return p.typing }

// Text is what the text field holds.
func (p *Page) Text() string { return p.editor.Text() }

// Fingers is how many fingers touch the surface now, and the most there were.
func (p *Page) Fingers() (now, most int) { return len(p.fingers), p.most }

// Layout lays the page out.
func (p *Page) Layout(gtx layout.Context) {
	p.update(gtx)
	c := p.tokens.Palettes[p.look]
	paint.Fill(gtx.Ops, c.Background)
	layout.UniformInset(24).Layout(gtx, func(gtx layout.Context) layout.Dimensions {
		return layout.Flex{Axis: layout.Vertical, Spacing: layout.SpaceEnd}.Layout(gtx,
			layout.Rigid(func(gtx layout.Context) layout.Dimensions {
				return p.label(gtx, 40, font.Bold, c.Ink, "Bausteine der Oberfläche")
			}),
			layout.Rigid(func(gtx layout.Context) layout.Dimensions {
				return layout.Flex{}.Layout(gtx,
					p.state(c, "Gedrückt: ", p.presses), p.state(c, " · Zeile: ", p.selected+1), p.state(c, " · Finger: ", len(p.fingers)),
					layout.Rigid(func(gtx layout.Context) layout.Dimensions {
						gtx.Constraints.Min = image.Point{}
						return p.label(gtx, 24, font.Normal, c.Muted, " · Привіт, мир! · Günaydın, dzień dobry")
					}),
				)
			}),
			layout.Rigid(func(gtx layout.Context) layout.Dimensions {
				gtx.Locale = system.Locale{Language: "ar", Direction: system.RTL}
				return p.label(gtx, 24, font.Normal, c.Muted, "مرحبا، أدخل بطاقتك الصحية 123")
			}),
			layout.Rigid(layout.Spacer{Height: 16}.Layout),
			layout.Rigid(func(gtx layout.Context) layout.Dimensions { return p.bar(gtx, c) }),
			layout.Rigid(layout.Spacer{Height: 24}.Layout),
			layout.Rigid(func(gtx layout.Context) layout.Dimensions { return p.field(gtx, c) }),
			layout.Rigid(layout.Spacer{Height: 24}.Layout),
			layout.Flexed(1, func(gtx layout.Context) layout.Dimensions {
				return layout.Flex{}.Layout(gtx,
					layout.Flexed(1, func(gtx layout.Context) layout.Dimensions { return p.rows(gtx, c) }),
					layout.Rigid(layout.Spacer{Width: 24}.Layout),
					layout.Flexed(1, func(gtx layout.Context) layout.Dimensions { return p.surface(gtx, c) }),
				)
			}),
		)
	})
}

// update handles the input.
func (p *Page) update(gtx layout.Context) {
	for p.buttons[0].Clicked(gtx) {
		p.presses++
	}
	for p.buttons[1].Clicked(gtx) {
		p.presses--
	}
	for p.buttons[3].Clicked(gtx) {
		p.look = (p.look + 1) % design.Look(len(design.Looks))
	}
	for i := range p.row {
		for p.row[i].Clicked(gtx) {
			p.selected = i
		}
	}
	for {
		e, ok := gtx.Event(pointer.Filter{Target: &p.fingers, Kinds: pointer.Press | pointer.Drag | pointer.Release | pointer.Cancel})
		if !ok {
			break
		}
		if e, ok := e.(pointer.Event); ok {
			p.touch(e)
		}
	}
}

func (p *Page) touch(e pointer.Event) {
	i := slices.IndexFunc(p.fingers, func(f finger) bool { return f.id == e.PointerID })
	switch {
	case e.Kind == pointer.Cancel:
		p.fingers = nil
	case e.Kind == pointer.Press && i < 0:
		p.fingers = append(p.fingers, finger{e.PointerID, e.Position})
		p.most = max(p.most, len(p.fingers))
	case e.Kind == pointer.Drag && i >= 0:
		p.fingers[i].at = e.Position
	case e.Kind == pointer.Release && i >= 0:
		p.fingers = slices.Delete(p.fingers, i, i+1)
	}
}

func (p *Page) label(gtx layout.Context, size unit.Sp, w font.Weight, c color.NRGBA, s string) layout.Dimensions {
	gtx.Constraints.Min.Y = 0
	return widget.Label{MaxLines: 1}.Layout(gtx, p.shaper, font.Font{Weight: w}, size, s, ink(gtx, c))
}

// state shows a number; the text beside it is laid out once only.
func (p *Page) state(c design.Palette, name string, v int) layout.FlexChild {
	return layout.Rigid(func(gtx layout.Context) layout.Dimensions {
		gtx.Constraints.Min = image.Point{}
		return layout.Flex{}.Layout(gtx,
			layout.Rigid(func(gtx layout.Context) layout.Dimensions { return p.label(gtx, 24, font.Normal, c.Muted, name) }),
			layout.Rigid(func(gtx layout.Context) layout.Dimensions {
				return p.label(gtx, 24, font.Normal, c.Muted, strconv.Itoa(v))
			}),
		)
	})
}

// ink records a colour as the material of text.
func ink(gtx layout.Context, c color.NRGBA) op.CallOp {
	m := op.Record(gtx.Ops)
	paint.ColorOp{Color: c}.Add(gtx.Ops)
	return m.Stop()
}

// box draws a rounded rectangle with a border inside of size.
func box(gtx layout.Context, size image.Point, ground, line color.NRGBA, width unit.Dp) {
	w := gtx.Dp(width)
	r := clip.UniformRRect(image.Rectangle{Max: size}.Inset((w+1)/2), gtx.Dp(12))
	paint.FillShape(gtx.Ops, ground, r.Op(gtx.Ops))
	paint.FillShape(gtx.Ops, line, clip.Stroke{Path: r.Path(gtx.Ops), Width: float32(w)}.Op())
}

func (p *Page) bar(gtx layout.Context, c design.Palette) layout.Dimensions {
	button := func(i int, label string, ground, fg color.NRGBA, enabled bool) layout.FlexChild {
		return layout.Rigid(func(gtx layout.Context) layout.Dimensions {
			return layout.Inset{Right: 16}.Layout(gtx, func(gtx layout.Context) layout.Dimensions {
				if !enabled {
					gtx = gtx.Disabled()
				}
				return p.button(gtx, &p.buttons[i], label, ground, fg, c)
			})
		})
	}
	return layout.Flex{}.Layout(gtx,
		button(0, Next, c.Accent, c.OnAccent, true),
		button(1, Back, c.Surface, c.Ink, true),
		button(2, Off, c.Sunken, c.Muted, false),
		button(3, Look, c.Surface, c.Ink, true),
	)
}

func (p *Page) button(gtx layout.Context, b *widget.Clickable, label string, ground, fg color.NRGBA, c design.Palette) layout.Dimensions {
	size := image.Pt(gtx.Dp(250), gtx.Dp(96))
	gtx.Constraints = layout.Exact(size)
	line, width := c.Line, unit.Dp(2)
	if gtx.Focused(b) {
		line, width = c.Ink, 6
	}
	if b.Pressed() {
		ground = c.AccentSoft
		fg = c.Ink
	}
	return b.Layout(gtx, func(gtx layout.Context) layout.Dimensions {
		defer clip.Rect{Max: size}.Push(gtx.Ops).Pop()
		semantic.Button.Add(gtx.Ops)
		semantic.LabelOp(label).Add(gtx.Ops)
		semantic.EnabledOp(gtx.Enabled()).Add(gtx.Ops)
		box(gtx, size, ground, line, width)
		return layout.Center.Layout(gtx, func(gtx layout.Context) layout.Dimensions {
			gtx.Constraints.Min = image.Point{}
			return p.label(gtx, 28, font.Medium, fg, label)
		})
	})
}

func (p *Page) field(gtx layout.Context, c design.Palette) layout.Dimensions {
	size := image.Pt(gtx.Constraints.Max.X, gtx.Dp(72))
	gtx.Constraints = layout.Exact(size)
	line, width := c.Line, unit.Dp(2)
	p.editor.Update(gtx) // first: it takes the focus with the touch
	p.typing = gtx.Focused(&p.editor)
	if p.typing {
		line, width = c.Accent, 4
	}
	box(gtx, size, c.Surface, line, width)
	defer clip.Rect{Max: size}.Push(gtx.Ops).Pop()
	semantic.LabelOp(Field).Add(gtx.Ops)
	// A caret that stands still: it is drawn as if the last key was long ago.
	gtx.Now = gtx.Now.Add(time.Hour)
	return layout.UniformInset(16).Layout(gtx, func(gtx layout.Context) layout.Dimensions {
		return p.editor.Layout(gtx, p.shaper, font.Font{}, 28, ink(gtx, c.Ink), ink(gtx, c.AccentSoft))
	})
}

func (p *Page) rows(gtx layout.Context, c design.Palette) layout.Dimensions {
	defer clip.Rect{Max: gtx.Constraints.Max}.Push(gtx.Ops).Pop()
	return p.list.Layout(gtx, rows, func(gtx layout.Context, i int) layout.Dimensions {
		return layout.Inset{Bottom: 8}.Layout(gtx, func(gtx layout.Context) layout.Dimensions {
			size := image.Pt(gtx.Constraints.Max.X, gtx.Dp(64))
			gtx.Constraints = layout.Exact(size)
			ground := c.Surface
			if i == p.selected {
				ground = c.AccentSoft
			}
			return p.row[i].Layout(gtx, func(gtx layout.Context) layout.Dimensions {
				defer clip.Rect{Max: size}.Push(gtx.Ops).Pop()
				semantic.LabelOp(Row(i + 1)).Add(gtx.Ops)
				box(gtx, size, ground, c.Hairline, 2)
				layout.UniformInset(16).Layout(gtx, func(gtx layout.Context) layout.Dimensions {
					return p.label(gtx, 24, font.Normal, c.Ink, Row(i+1))
				})
				return layout.Dimensions{Size: size}
			})
		})
	})
}

func (p *Page) surface(gtx layout.Context, c design.Palette) layout.Dimensions {
	size := gtx.Constraints.Max
	box(gtx, size, c.Sunken, c.Line, 2)
	defer clip.Rect{Max: size}.Push(gtx.Ops).Pop()
	semantic.LabelOp(Surface).Add(gtx.Ops)
	event.Op(gtx.Ops, &p.fingers)
	for _, f := range p.fingers {
		r := gtx.Dp(40)
		at := f.at.Round()
		dot := clip.Ellipse{Min: at.Sub(image.Pt(r, r)), Max: at.Add(image.Pt(r, r))}
		paint.FillShape(gtx.Ops, c.Accent, dot.Op(gtx.Ops))
	}
	return layout.Dimensions{Size: size}
}
