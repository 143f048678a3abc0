// Package pages builds the operation lists that tests and benchmarks draw: a
// kiosk page with a few large buttons, a dense page full of small text, and a
// page of odd shapes that uses everything Gio can express.
//
// The pages depend only on their arguments: no clock, no system fonts.
package pages

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"time"

	"gioui.org/f32"
	"gioui.org/font/gofont"
	"gioui.org/io/input"
	"gioui.org/layout"
	"gioui.org/op"
	"gioui.org/op/clip"
	"gioui.org/op/paint"
	"gioui.org/text"
	"gioui.org/unit"
	"gioui.org/widget"
	"gioui.org/widget/material"
)

// State is what changes on a page from frame to frame.
type State struct {
	Scroll int    // pixels by which the list of the dense page is scrolled
	Line   string // a line of text on the kiosk and the dense page
	Red    int    // the button drawn in red, counted from one
}

// Set builds pages. It is not safe for concurrent use.
type Set struct {
	theme   *material.Theme
	router  input.Router
	editor  widget.Editor
	buttons [12]widget.Clickable
	picture paint.ImageOp
	glass   paint.ImageOp
	checker paint.ImageOp
}

// New returns a set of pages with the Go fonts.
func New() *Set {
	s := &Set{theme: material.NewTheme()}
	s.theme.Shaper = text.NewShaper(text.NoSystemFonts(), text.WithCollection(gofont.Collection()))
	s.editor.SingleLine = true
	s.editor.SetText("Äpfel, Öl und Übermaß: 12,50 €")
	s.picture = paint.NewImageOp(landscape(160, 100))
	s.glass = paint.NewImageOp(glass(48, 48))
	s.checker = paint.NewImageOp(checker(64, 64))
	return s
}

// Names lists the pages.
func Names() []string { return []string{"kiosk", "dense", "odd"} }

// Build replaces the content of list with a page.
func (s *Set) Build(name string, list *op.Ops, size image.Point, st State) {
	list.Reset()
	gtx := layout.Context{
		Ops:         list,
		Now:         time.Unix(1_700_000_000, 0),
		Metric:      unit.Metric{PxPerDp: 1, PxPerSp: 1},
		Constraints: layout.Exact(size),
		Source:      s.router.Source(),
	}
	paint.Fill(list, rgb(0xffffff))
	switch name {
	case "kiosk":
		s.kiosk(gtx, st)
	case "dense":
		s.dense(gtx, st)
	case "odd":
		s.odd(gtx)
	default:
		panic("no page " + name)
	}
	s.router.Frame(list)
}

func rgb(c uint32) color.NRGBA { return rgba(c, 255) }

func rgba(c uint32, a uint8) color.NRGBA {
	return color.NRGBA{R: uint8(c >> 16), G: uint8(c >> 8), B: uint8(c), A: a}
}

// landscape draws a smooth opaque picture.
func landscape(w, h int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			hill := 60 + (x*x/40+x*3)%30
			c := color.RGBA{R: uint8(90 + y), G: uint8(140 + y/2), B: 235, A: 255}
			if y > hill {
				c = color.RGBA{R: uint8(40 + x/4), G: uint8(150 - y/3), B: 60, A: 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	return img
}

// glass draws a translucent disc.
func glass(w, h int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			dx, dy := 2*x-w+1, 2*y-h+1
			if d := dx*dx + dy*dy; d < w*w {
				a := 40 + 180*d/(w*w)
				img.SetRGBA(x, y, color.RGBA{R: uint8(a / 4), G: uint8(a / 2), B: uint8(a), A: uint8(a)})
			}
		}
	}
	return img
}

// checker draws squares of four pixels.
func checker(w, h int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.RGBA{R: 250, G: 250, B: 250, A: 255}
			if (x/4+y/4)%2 == 1 {
				c = color.RGBA{R: 30, G: 30, B: 120, A: 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	return img
}

// at calls f with the origin moved and the space limited.
func at(gtx layout.Context, x, y, w, h int, f func(gtx layout.Context)) {
	defer op.Offset(image.Pt(x, y)).Push(gtx.Ops).Pop()
	gtx.Constraints = layout.Constraints{Max: image.Pt(w, h)}
	f(gtx)
}

func (s *Set) label(gtx layout.Context, x, y int, size float32, c color.NRGBA, txt string) {
	at(gtx, x, y, 4000, 200, func(gtx layout.Context) {
		l := material.Label(s.theme, unit.Sp(size), txt)
		l.Color = c
		l.MaxLines = 1
		l.Layout(gtx)
	})
}

func (s *Set) button(gtx layout.Context, i, x, y, w, h int, red bool, txt string) {
	at(gtx, x, y, w, h, func(gtx layout.Context) {
		gtx.Constraints.Min = gtx.Constraints.Max
		b := material.Button(s.theme, &s.buttons[i], txt)
		b.CornerRadius = 10
		b.TextSize = unit.Sp(min(float32(h)/3, 28))
		if red {
			b.Background = rgb(0xb01020)
		}
		b.Layout(gtx)
	})
}

func (s *Set) kiosk(gtx layout.Context, st State) {
	size := gtx.Constraints.Max
	s.label(gtx, 48, 36, 44, rgb(0x102040), "Willkommen. Was möchten Sie tun?")
	line := st.Line
	if line == "" {
		line = "Bitte wählen Sie: größere Schrift, andere Sprache, Übersicht"
	}
	s.label(gtx, 48, 104, 24, rgb(0x404040), line)
	names := []string{"Karte prüfen", "PIN ändern", "Daten ansehen", "Erklärungen", "Protokoll", "Sitzung beenden"}
	w, h := (size.X-48*2-32*2)/3, (size.Y-170-160-32)/2
	for i, n := range names {
		s.button(gtx, i, 48+(i%3)*(w+32), 170+(i/3)*(h+32), w, h, st.Red == i+1, n)
	}
	at(gtx, 48, size.Y-120, size.X-96, 60, func(gtx layout.Context) {
		gtx.Constraints.Min = gtx.Constraints.Max
		widget.Border{Color: rgb(0x7080a0), Width: 2, CornerRadius: 6}.Layout(gtx, func(gtx layout.Context) layout.Dimensions {
			return layout.UniformInset(14).Layout(gtx, material.Editor(s.theme, &s.editor, "Name").Layout)
		})
	})
}

func (s *Set) dense(gtx layout.Context, st State) {
	o, size := gtx.Ops, gtx.Constraints.Max
	// Header with a gradient.
	header := clip.Rect{Max: image.Pt(size.X, 64)}.Push(o)
	paint.LinearGradientOp{
		Stop1: f32.Pt(0, 0), Color1: rgb(0x1b4f9c),
		Stop2: f32.Pt(float32(size.X), 0), Color2: rgb(0x62b0e8),
	}.Add(o)
	paint.PaintOp{}.Add(o)
	header.Pop()
	s.label(gtx, 20, 16, 26, rgb(0xffffff), "Übersicht der Versichertendaten")
	// List of rows, scrolled.
	listW := size.X * 55 / 100
	at(gtx, 0, 64, listW, size.Y-64, func(gtx layout.Context) {
		defer clip.Rect{Max: gtx.Constraints.Max}.Push(o).Pop()
		defer op.Offset(image.Pt(0, -st.Scroll)).Push(o).Pop()
		for i := range 42 {
			y := i * 26
			if i%2 == 1 {
				paint.FillShape(o, rgb(0xf0f4fa), clip.Rect{Min: image.Pt(0, y), Max: image.Pt(listW, y+26)}.Op())
			}
			s.label(gtx, 16, y+4, 14, rgb(0x202020), fmt.Sprintf("%02d. Leistung vom %02d.%02d.2024, Praxis für Allgemeinmedizin Nr. %d, geprüft und gültig", i+1, i%28+1, i%12+1, 1000+i*37))
			s.label(gtx, listW-110, y+4, 14, rgb(0x205020), fmt.Sprintf("%d,%02d €", 12+i*3, i*7%100))
		}
	})
	// Scroll bar.
	paint.FillShape(o, rgba(0x000000, 40), clip.UniformRRect(image.Rect(listW-10, 70, listW-4, size.Y-6), 3).Op(o))
	paint.FillShape(o, rgba(0x000000, 120), clip.UniformRRect(image.Rect(listW-10, 70+st.Scroll/3, listW-4, 230+st.Scroll/3), 3).Op(o))
	// Card with a shadow of eight steps, a border and a picture.
	card := image.Rect(listW+30, 90, size.X-30, 540)
	for i := 8; i > 0; i-- {
		paint.FillShape(o, rgba(0x000000, 9), clip.UniformRRect(card.Inset(-i).Add(image.Pt(0, 3)), 14+i).Op(o))
	}
	func() {
		defer clip.UniformRRect(card, 14).Push(o).Pop()
		paint.Fill(o, rgb(0xfdfdfd))
		at(gtx, card.Min.X+16, card.Min.Y+16, 0, 0, func(gtx layout.Context) {
			defer op.Affine(f32.AffineId().Scale(f32.Point{}, f32.Pt(0.75, 0.75))).Push(o).Pop()
			s.picture.Add(o)
			paint.PaintOp{}.Add(o)
		})
		for i := range 18 {
			txt := fmt.Sprintf("Feld %d: Inhalt mit Umlauten äöüß und Ziffern %d", i+1, 4711*i)
			if i == 2 && st.Line != "" {
				txt = st.Line
			}
			s.label(gtx, card.Min.X+150, card.Min.Y+14+i*23, 13, rgb(0x303438), txt)
		}
	}()
	var border clip.Path
	border.Begin(o)
	roundRect(&border, card, 14)
	paint.FillShape(o, rgb(0x9aa8bc), clip.Stroke{Path: border.End(), Width: 1.5}.Op())
	// Buttons.
	w := (size.X - listW - 60 - 3*12) / 4
	for i := range 12 {
		s.button(gtx, i, listW+30+(i%4)*(w+12), 560+(i/4)*56, w, 44, st.Red == i+1, fmt.Sprintf("Taste %d", i+1))
	}
}

// roundRect adds a rounded rectangle to a path.
func roundRect(p *clip.Path, r image.Rectangle, radius float32) {
	const k = 0.44771526
	x0, y0, x1, y1 := float32(r.Min.X), float32(r.Min.Y), float32(r.Max.X), float32(r.Max.Y)
	q := radius * k
	p.MoveTo(f32.Pt(x0+radius, y0))
	p.LineTo(f32.Pt(x1-radius, y0))
	p.CubeTo(f32.Pt(x1-q, y0), f32.Pt(x1, y0+q), f32.Pt(x1, y0+radius))
	p.LineTo(f32.Pt(x1, y1-radius))
	p.CubeTo(f32.Pt(x1, y1-q), f32.Pt(x1-q, y1), f32.Pt(x1-radius, y1))
	p.LineTo(f32.Pt(x0+radius, y1))
	p.CubeTo(f32.Pt(x0+q, y1), f32.Pt(x0, y1-q), f32.Pt(x0, y1-radius))
	p.LineTo(f32.Pt(x0, y0+radius))
	p.CubeTo(f32.Pt(x0, y0+q), f32.Pt(x0+q, y0), f32.Pt(x0+radius, y0))
	p.Close()
}

func (s *Set) odd(gtx layout.Context) {
	o := gtx.Ops
	// Star whose outline crosses itself.
	var star clip.Path
	star.Begin(o)
	for i := range 5 {
		a := float64(i) * 4 * math.Pi / 5
		p := f32.Pt(140+100*float32(math.Sin(a)), 130-100*float32(math.Cos(a)))
		if i == 0 {
			star.MoveTo(p)
		} else {
			star.LineTo(p)
		}
	}
	star.Close()
	paint.FillShape(o, rgb(0xd08010), clip.Outline{Path: star.End()}.Op())
	// Strokes: open, closed, curved, thin, under a transform.
	var wave clip.Path
	wave.Begin(o)
	wave.MoveTo(f32.Pt(280, 120))
	wave.CubeTo(f32.Pt(340, 0), f32.Pt(400, 240), f32.Pt(470, 90))
	wave.LineTo(f32.Pt(490, 180))
	wave.QuadTo(f32.Pt(420, 250), f32.Pt(300, 210))
	paint.FillShape(o, rgb(0x207050), clip.Stroke{Path: wave.End(), Width: 11}.Op())
	var thin clip.Path
	thin.Begin(o)
	thin.MoveTo(f32.Pt(520, 40))
	thin.LineTo(f32.Pt(620, 70))
	thin.LineTo(f32.Pt(540, 200))
	thin.Close()
	paint.FillShape(o, rgb(0x901030), clip.Stroke{Path: thin.End(), Width: 1.25}.Op())
	paint.FillShape(o, rgb(0x303090), clip.Stroke{Path: clip.Ellipse{Min: image.Pt(530, 210), Max: image.Pt(630, 270)}.Path(o), Width: 4}.Op())
	func() {
		defer op.Affine(f32.AffineId().Scale(f32.Point{}, f32.Pt(3, 1)).Offset(f32.Pt(660, 40))).Push(o).Pop()
		paint.FillShape(o, rgb(0x606060), clip.Stroke{Path: clip.Ellipse{Max: image.Pt(60, 60)}.Path(o), Width: 5}.Op())
	}()
	// Ellipse, rotated, scaled, sheared rectangles and text.
	paint.FillShape(o, rgb(0x9030a0), clip.Ellipse{Min: image.Pt(40, 270), Max: image.Pt(260, 380)}.Op(o))
	func() {
		defer op.Affine(f32.AffineId().Rotate(f32.Pt(380, 340), 0.5)).Push(o).Pop()
		paint.FillShape(o, rgb(0x20a0c0), clip.Rect{Min: image.Pt(310, 300), Max: image.Pt(450, 380)}.Op())
		s.label(gtx, 318, 325, 20, rgb(0xffffff), "gedreht 0,5 rad")
	}()
	func() {
		defer op.Affine(f32.AffineId().Shear(f32.Point{}, 0.4, 0).Offset(f32.Pt(340, 300))).Push(o).Pop()
		paint.FillShape(o, rgb(0x70b020), clip.UniformRRect(image.Rect(0, 0, 120, 70), 12).Op(o))
		s.label(gtx, 10, 20, 22, rgb(0x102000), "geschert")
	}()
	func() {
		defer op.Affine(f32.AffineId().Scale(f32.Point{}, f32.Pt(2.5, 1.3)).Offset(f32.Pt(660, 150))).Push(o).Pop()
		s.label(gtx, 0, 0, 18, rgb(0x000000), "gestreckt")
	}()
	// Images: as is, enlarged, nearest, shrunk, rotated, translucent.
	s.image(o, s.picture, f32.AffineId().Offset(f32.Pt(660, 200)))
	s.image(o, s.picture, f32.AffineId().Scale(f32.Point{}, f32.Pt(1.7, 1.7)).Offset(f32.Pt(840, 200)))
	near := s.checker
	near.Filter = paint.FilterNearest
	s.image(o, near, f32.AffineId().Scale(f32.Point{}, f32.Pt(2.5, 2.5)).Offset(f32.Pt(660, 320)))
	s.image(o, s.picture, f32.AffineId().Scale(f32.Point{}, f32.Pt(0.23, 0.31)).Offset(f32.Pt(1130, 200)))
	s.image(o, s.picture, f32.AffineId().Rotate(f32.Pt(80, 50), -0.35).Offset(f32.Pt(850, 400)))
	s.image(o, s.glass, f32.AffineId().Scale(f32.Point{}, f32.Pt(2, 2)).Offset(f32.Pt(700, 340)))
	s.image(o, s.glass, f32.AffineId().Offset(f32.Pt(80, 300)))
	// Nested clips.
	func() {
		defer clip.Ellipse{Min: image.Pt(40, 410), Max: image.Pt(300, 590)}.Push(o).Pop()
		defer clip.UniformRRect(image.Rect(60, 420, 280, 560), 30).Push(o).Pop()
		defer op.Affine(f32.AffineId().Rotate(f32.Pt(170, 500), 0.7)).Push(o).Pop()
		defer clip.Rect{Min: image.Pt(80, 440), Max: image.Pt(260, 560)}.Push(o).Pop()
		paint.LinearGradientOp{Stop1: f32.Pt(60, 420), Color1: rgb(0xff2020), Stop2: f32.Pt(280, 560), Color2: rgb(0x2020ff)}.Add(o)
		paint.PaintOp{}.Add(o)
		s.label(gtx, 90, 480, 30, rgb(0xffffff), "Beschnitt")
	}()
	// Nested opacity.
	func() {
		defer paint.PushOpacity(o, 0.6).Pop()
		paint.FillShape(o, rgb(0xd02020), clip.UniformRRect(image.Rect(330, 420, 450, 540), 20).Op(o))
		func() {
			defer paint.PushOpacity(o, 0.5).Pop()
			paint.FillShape(o, rgb(0x20d020), clip.Ellipse{Min: image.Pt(390, 440), Max: image.Pt(530, 570)}.Op(o))
			s.label(gtx, 400, 480, 24, rgb(0x000000), "Schichten")
		}()
		paint.FillShape(o, rgba(0x2020d0, 128), clip.Rect{Min: image.Pt(350, 520), Max: image.Pt(500, 560)}.Op())
	}()
	// Deferred: painted last.
	macro := op.Record(o)
	s.label(gtx, 560, 480, 22, rgb(0x804000), "aufgeschoben")
	op.Defer(o, macro.Stop())
	paint.FillShape(o, rgb(0xfff0c0), clip.Rect{Min: image.Pt(550, 470), Max: image.Pt(650, 520)}.Op())
	// Ramps of alpha on white and on black.
	paint.FillShape(o, rgb(0x000000), clip.Rect{Min: image.Pt(40, 640), Max: image.Pt(680, 670)}.Op())
	for i := range 32 {
		x := 40 + i*20
		paint.FillShape(o, rgba(0x3060ff, uint8(i*8+7)), clip.Rect{Min: image.Pt(x, 610), Max: image.Pt(x+20, 670)}.Op())
	}
	// Gradients: with alpha, under a scale, vertical.
	func() {
		defer clip.Rect{Min: image.Pt(40, 690), Max: image.Pt(360, 740)}.Push(o).Pop()
		paint.LinearGradientOp{Stop1: f32.Pt(40, 0), Color1: rgba(0x00a000, 255), Stop2: f32.Pt(360, 0), Color2: rgba(0xa000a0, 0)}.Add(o)
		paint.PaintOp{}.Add(o)
	}()
	func() {
		defer op.Affine(f32.AffineId().Scale(f32.Point{}, f32.Pt(2, 2)).Offset(f32.Pt(380, 690))).Push(o).Pop()
		defer clip.Rect{Max: image.Pt(100, 25)}.Push(o).Pop()
		paint.LinearGradientOp{Stop1: f32.Pt(0, 0), Color1: rgb(0xffffff), Stop2: f32.Pt(100, 25), Color2: rgb(0x000000)}.Add(o)
		paint.PaintOp{}.Add(o)
	}()
	func() {
		defer clip.UniformRRect(image.Rect(600, 690, 680, 760), 20).Push(o).Pop()
		paint.LinearGradientOp{Stop1: f32.Pt(0, 690), Color1: rgb(0xf0e020), Stop2: f32.Pt(0, 760), Color2: rgb(0x104080)}.Add(o)
		paint.PaintOp{}.Add(o)
	}()
	// Parts of a pixel.
	func() {
		defer op.Affine(f32.AffineId().Offset(f32.Pt(720.25, 610.5))).Push(o).Pop()
		paint.FillShape(o, rgb(0x404040), clip.Rect{Max: image.Pt(60, 40)}.Op())
		s.label(gtx, 70, 8, 20, rgb(0x404040), "Viertelpixel")
	}()
}

func (s *Set) image(o *op.Ops, img paint.ImageOp, t f32.Affine2D) {
	defer op.Affine(t).Push(o).Pop()
	img.Add(o)
	paint.PaintOp{}.Add(o)
}
