package ui

import (
	"image"
	"image/color"
	"math"

	"gioui.org/f32"
	"gioui.org/op"
	"gioui.org/op/clip"
	"gioui.org/op/paint"

	"ktradv/kiosk/design"
)

// picture is one of the product's drawings. They show what hands must do, in line and one accent colour, and are drawn
// in a field of 400 by 320 units that is scaled into its place.
type picture int

const (
	picInsert   picture = iota // a card above the slot of the reader
	picReader                  // the reader's display and pad
	picKeepCard                // a card in the reader, locked
	picTakeCard                // a card coming out
	picWrongWay                // the wrong and the right way to hold the card
	picCard                    // a card with a mark
	picLink                    // a connection that is broken
	picUnplug                  // a reader without its cable
	picLetter                  // the letter that holds PIN and PUK
	picTouch                   // a finger on the screen
	picHourglass
)

func (p picture) name() string {
	return [...]string{"insert", "reader", "keep card", "take card", "wrong way", "card", "link", "unplugged", "letter",
		"touch", "time"}[p]
}

// moves tells whether the picture can be animated.
func (p picture) moves() bool { return p == picInsert || p == picWrongWay }

// pictureFor chooses the drawing that explains a problem.
func pictureFor(code string) picture {
	switch code {
	case "CARD-MUTE":
		return picWrongWay
	case "CARD-REMOVED":
		return picInsert
	case "SERVER-UNREACHABLE", "SERVER-NOT-TRUSTED", "SERVER-REFUSED", "SERVER-LOST", "NO-INSURER-IDENTITY":
		return picLink
	case "READER-GONE", "READER-HUNG", "READER-NO-PAD", "READER-SEVERAL", "READER-UNSUPPORTED":
		return picUnplug
	case "PIN-TRANSPORT", "PUK-UNKNOWN", "PUK-USED-UP", "PasswordBlocked":
		return picLetter
	case "PIN-LENGTH", "PIN-CANCELLED", "PIN-MISMATCH", "PIN-READER-LEAK", "PIN-STATUS-NOT-SET", "WrongSecretWarning",
		"ErrorUserVerification":
		return picReader
	case "PIN-TIMEOUT", "IDLE-TIMEOUT", "TERMINAL-CLOCK":
		return picHourglass
	}
	return picCard
}

// The field in which pictures are drawn.
const fieldW, fieldH = 400, 320

// rest is the moment of an animation that its still picture shows.
const rest = -1

// drawPicture draws pic as large as fits into r, in the middle. t runs from 0 to 1 while the picture moves.
func drawPicture(ops *op.Ops, p *design.Palette, r image.Rectangle, pic picture, t float32) {
	scale := min(float32(r.Dx())/fieldW, float32(r.Dy())/fieldH)
	off := f32.Pt(
		float32(r.Min.X)+(float32(r.Dx())-scale*fieldW)/2,
		float32(r.Min.Y)+(float32(r.Dy())-scale*fieldH)/2,
	)
	defer op.Affine(f32.AffineId().Scale(f32.Point{}, f32.Pt(scale, scale)).Offset(off)).Push(ops).Pop()
	d := pen{ops: ops, p: p}
	switch pic {
	case picInsert:
		d.insert(t)
	case picReader:
		d.reader(95, 14, 210, 284, true)
	case picKeepCard:
		d.card(140, 34, 120, 190, false)
		d.reader(90, 130, 220, 180, false)
		d.padlock(290, 70)
	case picTakeCard:
		d.card(140, 6, 120, 190, false)
		d.reader(90, 170, 220, 140, false)
		d.arrow(320, 130, 320, 30)
	case picWrongWay:
		d.wrongWay(t)
	case picCard:
		d.card(140, 20, 150, 238, false)
		d.disc(270, 250, 46, p.Accent)
		d.bar(270, 224, 270, 256, 11, p.OnAccent)
		d.disc(270, 274, 7, p.OnAccent)
	case picLink:
		d.link()
	case picUnplug:
		d.reader(40, 60, 170, 230, true)
		d.cable()
	case picLetter:
		d.letter()
	case picTouch:
		d.touch()
	case picHourglass:
		d.clock()
	}
}

// pen draws shapes in the units of the field.
type pen struct {
	ops *op.Ops
	p   *design.Palette
}

const (
	lineWidth = 5
	kappa     = 0.5522848 // of a circle by four cubic curves
)

// rounded begins a path around a rounded rectangle.
func (d pen) rounded(x, y, w, h, r float32) clip.PathSpec {
	var p clip.Path
	p.Begin(d.ops)
	k := r * (1 - kappa)
	p.MoveTo(f32.Pt(x+r, y))
	p.LineTo(f32.Pt(x+w-r, y))
	p.CubeTo(f32.Pt(x+w-k, y), f32.Pt(x+w, y+k), f32.Pt(x+w, y+r))
	p.LineTo(f32.Pt(x+w, y+h-r))
	p.CubeTo(f32.Pt(x+w, y+h-k), f32.Pt(x+w-k, y+h), f32.Pt(x+w-r, y+h))
	p.LineTo(f32.Pt(x+r, y+h))
	p.CubeTo(f32.Pt(x+k, y+h), f32.Pt(x, y+h-k), f32.Pt(x, y+h-r))
	p.LineTo(f32.Pt(x, y+r))
	p.CubeTo(f32.Pt(x, y+k), f32.Pt(x+k, y), f32.Pt(x+r, y))
	p.Close()
	return p.End()
}

// plate is a filled rounded rectangle with an outline in the accent.
func (d pen) plate(x, y, w, h, r float32, fill color.NRGBA) {
	d.fill(d.rounded(x, y, w, h, r), fill)
	d.stroke(d.rounded(x, y, w, h, r), lineWidth, d.p.Accent)
}

func (d pen) block(x, y, w, h, r float32, fill color.NRGBA) { d.fill(d.rounded(x, y, w, h, r), fill) }

func (d pen) disc(x, y, r float32, c color.NRGBA) { d.fill(d.rounded(x-r, y-r, 2*r, 2*r, r), c) }

func (d pen) ring(x, y, r, w float32, c color.NRGBA) {
	d.stroke(d.rounded(x-r, y-r, 2*r, 2*r, r), w, c)
}

func (d pen) fill(p clip.PathSpec, c color.NRGBA) {
	paint.FillShape(d.ops, c, clip.Outline{Path: p}.Op())
}

func (d pen) stroke(p clip.PathSpec, w float32, c color.NRGBA) {
	paint.FillShape(d.ops, c, clip.Stroke{Path: p, Width: w}.Op())
}

// bar is a line with round ends.
func (d pen) bar(x0, y0, x1, y1, w float32, c color.NRGBA) {
	l := float32(math.Hypot(float64(x1-x0), float64(y1-y0)))
	if l == 0 {
		return
	}
	angle := float32(math.Atan2(float64(y1-y0), float64(x1-x0)))
	t := op.Affine(f32.AffineId().Rotate(f32.Point{}, angle).Offset(f32.Pt(x0, y0))).Push(d.ops)
	d.fill(d.rounded(-w/2, -w/2, l+w, w, w/2), c)
	t.Pop()
}

func (d pen) polygon(c color.NRGBA, pts ...f32.Point) {
	var p clip.Path
	p.Begin(d.ops)
	p.MoveTo(pts[0])
	for _, q := range pts[1:] {
		p.LineTo(q)
	}
	p.Close()
	d.fill(p.End(), c)
}

// arrow points from (x0,y0) to (x1,y1).
func (d pen) arrow(x0, y0, x1, y1 float32) {
	l := float32(math.Hypot(float64(x1-x0), float64(y1-y0)))
	angle := float32(math.Atan2(float64(y1-y0), float64(x1-x0)))
	t := op.Affine(f32.AffineId().Rotate(f32.Point{}, angle).Offset(f32.Pt(x0, y0))).Push(d.ops)
	const head, half, shaft = 36, 30, 15
	d.polygon(d.p.Accent, f32.Pt(0, -shaft/2), f32.Pt(l-head, -shaft/2), f32.Pt(l-head, -half), f32.Pt(l, 0),
		f32.Pt(l-head, half), f32.Pt(l-head, shaft/2), f32.Pt(0, shaft/2))
	t.Pop()
}

// card is an eGK held upright, the chip at the lower end unless flipped.
func (d pen) card(x, y, w, h float32, flipped bool) {
	d.plate(x, y, w, h, w*0.09, d.p.Surface)
	mirror := func(top, height float32) float32 {
		if flipped {
			return y + h - (top - y) - height
		}
		return top
	}
	// a coloured band at the end that is held, two lines of print, the chip at the other end
	band := h * 0.2
	d.block(x+w*0.1, mirror(y+h*0.07, band), w*0.8, band, w*0.05, d.p.AccentSoft)
	d.stroke(d.rounded(x+w*0.1, mirror(y+h*0.07, band), w*0.8, band, w*0.05), 2.5, d.p.Accent)
	for i := range 2 {
		hh := h * 0.032
		d.block(x+w*0.1, mirror(y+h*(0.36+0.085*float32(i)), hh), w*(0.62-0.2*float32(i)), hh, hh/2, d.p.Accent)
	}
	cw, ch := w*0.4, h*0.2
	cx, cy := x+w*0.3, mirror(y+h*0.68, ch)
	d.block(cx, cy, cw, ch, cw*0.14, d.p.AccentSoft)
	d.stroke(d.rounded(cx, cy, cw, ch, cw*0.14), 4, d.p.Accent)
	d.bar(cx, cy+ch/3, cx+cw*0.34, cy+ch/3, 3, d.p.Accent)
	d.bar(cx, cy+2*ch/3, cx+cw*0.34, cy+2*ch/3, 3, d.p.Accent)
	d.bar(cx+cw*0.66, cy+ch/3, cx+cw, cy+ch/3, 3, d.p.Accent)
	d.bar(cx+cw*0.66, cy+2*ch/3, cx+cw, cy+2*ch/3, 3, d.p.Accent)
	d.stroke(d.rounded(cx+cw*0.34, cy+ch*0.18, cw*0.32, ch*0.64, cw*0.06), 3, d.p.Accent)
}

// reader is a card reader with display and pad from the front; the keys bear no digits. full shows all rows of keys.
func (d pen) reader(x, y, w, h float32, full bool) {
	d.plate(x, y, w, h, 20, d.p.Surface)
	// the slot is a dark line along the upper edge
	d.bar(x+w*0.16, y+15, x+w*0.84, y+15, 6, d.p.Accent)
	m := w * 0.11
	dispY := y + 32
	dispH := w * 0.30
	d.block(x+m, dispY, w-2*m, dispH, 8, d.p.AccentSoft)
	d.stroke(d.rounded(x+m, dispY, w-2*m, dispH, 8), 4, d.p.Accent)
	if full {
		// places for the digits; what is typed is shown nowhere
		for i := range 6 {
			px, py := x+m+w*(0.08+float32(i)*0.085), dispY+dispH*0.74
			d.bar(px, py, px+w*0.045, py, 4, d.p.Accent)
		}
	}
	d.bar(x+m+w*0.08, dispY+dispH*0.34, x+w-m-w*0.18, dispY+dispH*0.34, 5, d.p.Accent)
	keysY := dispY + dispH + w*0.09
	cols, rows := 4, 4
	if !full {
		rows = 1
	}
	gap := w * 0.045
	kw := (w - 2*m - gap*float32(cols-1)) / float32(cols)
	kh := min(kw*0.86, (y+h-14-keysY-gap*float32(rows-1))/float32(rows))
	if kh < kw/2 {
		return
	}
	for r := range rows {
		for c := range cols {
			kx, ky := x+m+float32(c)*(kw+gap), keysY+float32(r)*(kh+gap)
			if c < 3 || !full {
				if r == 3 && c != 1 {
					continue
				}
				d.block(kx, ky, kw, kh, 6, d.p.AccentSoft)
				d.stroke(d.rounded(kx, ky, kw, kh, 6), 2.5, d.p.Accent)
				continue
			}
			switch r {
			case 0: // cancel: red
				d.key(kx, ky, kw, kh, d.p.AlertLine)
				d.bar(kx+kw*0.36, ky+kh*0.32, kx+kw*0.64, ky+kh*0.68, 4, d.p.Surface)
				d.bar(kx+kw*0.64, ky+kh*0.32, kx+kw*0.36, ky+kh*0.68, 4, d.p.Surface)
			case 1: // clear: yellow
				d.key(kx, ky, kw, kh, d.p.WarnLine)
				d.bar(kx+kw*0.32, ky+kh*0.5, kx+kw*0.68, ky+kh*0.5, 4, d.p.Surface)
			case 3: // confirm: green, with a ring that draws the eye
				d.key(kx, ky, kw, kh, d.p.Good)
				d.bar(kx+kw*0.32, ky+kh*0.52, kx+kw*0.45, ky+kh*0.68, 4.5, d.p.Surface)
				d.bar(kx+kw*0.45, ky+kh*0.68, kx+kw*0.7, ky+kh*0.32, 4.5, d.p.Surface)
				d.stroke(d.rounded(kx-7, ky-7, kw+14, kh+14, 11), 3.5, d.p.Good)
			}
		}
	}
}

func (d pen) key(x, y, w, h float32, c color.NRGBA) { d.block(x, y, w, h, 6, c) }

// insert: the card moves down into the slot, stays, and the still picture shows it above with an arrow.
func (d pen) insert(t float32) {
	depth := float32(0)
	if t >= 0 {
		depth = 120 * ease(min(1, t*1.35))
	}
	d.card(140, 4+depth, 120, 190, false)
	d.reader(90, 206, 220, 110, false)
	if t < 0 {
		d.arrow(330, 60, 330, 168)
	}
}

func ease(t float32) float32 { return t * t * (3 - 2*t) }

// wrongWay shows the card upside down with a cross and the right way round with a tick.
func (d pen) wrongWay(t float32) {
	depth := float32(0)
	if t >= 0 {
		depth = 70 * ease(min(1, t*1.35))
	}
	for i, x := range []float32{30, 230} {
		right := i == 1
		y := float32(2)
		if right {
			y += depth
		}
		d.card(x+20, y, 100, 158, !right)
		d.plate(x, 176, 140, 70, 14, d.p.Surface)
		d.bar(x+24, 190, x+116, 190, 6, d.p.Accent)
		cx, cy := x+70, float32(284)
		if right {
			d.disc(cx, cy, 30, d.p.Good)
			d.bar(cx-13, cy+1, cx-3, cy+12, 7, d.p.Surface)
			d.bar(cx-3, cy+12, cx+14, cy-11, 7, d.p.Surface)
		} else {
			d.disc(cx, cy, 30, d.p.AlertLine)
			d.bar(cx-11, cy-11, cx+11, cy+11, 7, d.p.Surface)
			d.bar(cx+11, cy-11, cx-11, cy+11, 7, d.p.Surface)
		}
	}
}

func (d pen) padlock(x, y float32) {
	d.stroke(d.arc(float64(x+35), float64(y+6), 22, math.Pi, 2*math.Pi), 10, d.p.Accent)
	d.bar(x+13, y+6, x+13, y+26, 10, d.p.Accent)
	d.bar(x+57, y+6, x+57, y+26, 10, d.p.Accent)
	d.block(x, y+24, 70, 54, 10, d.p.Accent)
	d.disc(x+35, y+46, 8, d.p.OnAccent)
	d.bar(x+35, y+48, x+35, y+62, 6, d.p.OnAccent)
}

// arc is an open arc around (x,y) from angle a to b.
func (d pen) arc(x, y, r, a, b float64) clip.PathSpec {
	var p clip.Path
	p.Begin(d.ops)
	n := max(1, int(math.Ceil((b-a)/(math.Pi/4))))
	step := (b - a) / float64(n)
	k := 4.0 / 3 * math.Tan(step/4) * r
	at := func(t float64) (pt, tangent f32.Point) {
		s, c := math.Sincos(t)
		return f32.Pt(float32(x+r*c), float32(y+r*s)), f32.Pt(float32(-s*k), float32(c*k))
	}
	p0, t0 := at(a)
	p.MoveTo(p0)
	for i := range n {
		p1, t1 := at(a + float64(i+1)*step)
		p.CubeTo(p0.Add(t0), p1.Sub(t1), p1)
		p0, t0 = p1, t1
	}
	return p.End()
}

// link: the terminal, a line that is interrupted, and a house.
func (d pen) link() {
	d.plate(14, 96, 120, 92, 12, d.p.Surface)
	d.block(28, 110, 92, 64, 4, d.p.AccentSoft)
	d.bar(74, 190, 74, 220, 10, d.p.Accent)
	d.bar(38, 224, 110, 224, 10, d.p.Accent)
	d.bar(152, 150, 172, 150, 8, d.p.Accent)
	d.bar(228, 150, 248, 150, 8, d.p.Accent)
	d.bar(182, 132, 218, 168, 9, d.p.AlertLine)
	d.bar(218, 132, 182, 168, 9, d.p.AlertLine)
	d.plate(276, 108, 110, 118, 8, d.p.Surface)
	d.polygon(d.p.Accent, f32.Pt(264, 110), f32.Pt(331, 62), f32.Pt(398, 110))
	for r := range 2 {
		for c := range 2 {
			d.block(292+float32(c)*44, 126+float32(r)*44, 30, 28, 4, d.p.AccentSoft)
			d.stroke(d.rounded(292+float32(c)*44, 126+float32(r)*44, 30, 28, 4), 2.5, d.p.Accent)
		}
	}
}

// cable: the plug lies apart from its socket.
func (d pen) cable() {
	d.bar(212, 240, 250, 240, 9, d.p.Accent)
	d.block(250, 222, 34, 36, 6, d.p.Accent)
	d.bar(286, 232, 298, 232, 6, d.p.Accent)
	d.bar(286, 248, 298, 248, 6, d.p.Accent)
	d.block(330, 218, 30, 44, 6, d.p.Accent)
	d.bar(362, 240, 392, 240, 9, d.p.Accent)
	d.bar(312, 190, 312, 204, 6, d.p.AlertLine)
	d.bar(292, 196, 298, 207, 6, d.p.AlertLine)
	d.bar(332, 196, 326, 207, 6, d.p.AlertLine)
}

// letter: a sheet with the field that holds the number.
func (d pen) letter() {
	d.plate(100, 12, 200, 280, 10, d.p.Surface)
	d.block(126, 40, 70, 14, 7, d.p.Accent)
	for i := range 3 {
		d.block(126, 84+float32(i)*26, 148-float32(i)*24, 9, 4.5, d.p.AccentSoft)
		d.stroke(d.rounded(126, 84+float32(i)*26, 148-float32(i)*24, 9, 4.5), 1.5, d.p.Accent)
	}
	d.plate(126, 178, 148, 66, 10, d.p.AccentSoft)
	for i := range 4 {
		d.disc(154+float32(i)*31, 211, 9, d.p.Accent)
	}
}

// touch: a fingertip on the glass.
func (d pen) touch() {
	d.plate(60, 14, 280, 190, 16, d.p.AccentSoft)
	d.ring(200, 110, 58, 4, d.p.Accent)
	d.ring(200, 110, 36, 6, d.p.Accent)
	d.plate(178, 92, 44, 220, 22, d.p.Surface)
	d.stroke(d.arc(200, 116, 12, math.Pi*1.1, math.Pi*1.9), 4, d.p.Accent)
}

func (d pen) clock() {
	d.disc(200, 160, 130, d.p.Surface)
	d.ring(200, 160, 130, 9, d.p.Accent)
	for i := range 12 {
		s, c := math.Sincos(float64(i) * math.Pi / 6)
		d.bar(float32(200+106*c), float32(160+106*s), float32(200+114*c), float32(160+114*s), 6, d.p.Accent)
	}
	d.bar(200, 160, 200, 78, 11, d.p.Accent)
	d.bar(200, 160, 256, 192, 11, d.p.Accent)
	d.disc(200, 160, 12, d.p.Accent)
}

// icon is a small sign on a button or in a list.
type icon int

const (
	noIcon icon = iota
	iconBack
	iconEnd
	iconUp
	iconDown
	iconNext
	iconCheck
	iconCross
	iconInfo
	iconWarn
)

// drawIcon draws in a field of 24 units; signs that point along the line are mirrored where one reads from the right.
func drawIcon(ops *op.Ops, k icon, c color.NRGBA, r image.Rectangle, rtl bool) {
	scale := float32(r.Dx()) / 24
	tr := f32.AffineId().Scale(f32.Point{}, f32.Pt(scale, scale))
	if rtl && (k == iconBack || k == iconNext) {
		tr = f32.AffineId().Scale(f32.Point{}, f32.Pt(-scale, scale)).Offset(f32.Pt(float32(r.Dx()), 0))
	}
	defer op.Affine(tr.Offset(f32.Pt(float32(r.Min.X), float32(r.Min.Y)))).Push(ops).Pop()
	d := pen{ops: ops}
	const w = 3
	switch k {
	case iconBack:
		d.bar(4, 12, 20, 12, w, c)
		d.bar(4, 12, 11, 5, w, c)
		d.bar(4, 12, 11, 19, w, c)
	case iconEnd:
		// a way out: a frame with an opening and an arrow through it
		d.bar(4, 4, 4, 20, w, c)
		d.bar(4, 4, 12, 4, w, c)
		d.bar(4, 20, 12, 20, w, c)
		d.bar(10, 12, 21, 12, w, c)
		d.bar(21, 12, 16, 7, w, c)
		d.bar(21, 12, 16, 17, w, c)
	case iconUp:
		d.bar(4, 16, 12, 8, w+1, c)
		d.bar(12, 8, 20, 16, w+1, c)
	case iconDown:
		d.bar(4, 8, 12, 16, w+1, c)
		d.bar(12, 16, 20, 8, w+1, c)
	case iconNext:
		d.bar(9, 4, 17, 12, w, c)
		d.bar(17, 12, 9, 20, w, c)
	case iconCheck:
		d.bar(4, 13, 9, 18, w, c)
		d.bar(9, 18, 20, 6, w, c)
	case iconCross:
		d.bar(5, 5, 19, 19, w, c)
		d.bar(19, 5, 5, 19, w, c)
	case iconInfo:
		d.ring(12, 12, 10, 2.4, c)
		d.bar(12, 11, 12, 17, 2.6, c)
		d.disc(12, 7, 1.6, c)
	case iconWarn:
		d.stroke(d.triangle(), 2.4, c)
		d.bar(12, 9.5, 12, 14.5, 2.6, c)
		d.disc(12, 18, 1.5, c)
	}
}

func (d pen) triangle() clip.PathSpec {
	var p clip.Path
	p.Begin(d.ops)
	p.MoveTo(f32.Pt(12, 2.5))
	p.LineTo(f32.Pt(22.5, 21.5))
	p.LineTo(f32.Pt(1.5, 21.5))
	p.Close()
	return p.End()
}

// drawSpinner is the sign of a running step: a ring with a part that goes round.
func drawSpinner(ops *op.Ops, p *design.Palette, r image.Rectangle, t float32) {
	d := pen{ops: ops, p: p}
	size := float32(r.Dx())
	x, y := float32(r.Min.X)+size/2, float32(r.Min.Y)+size/2
	d.ring(x, y, size*0.40, size*0.07, p.Hairline)
	a := float64(t) * 2 * math.Pi
	d.stroke(d.arc(float64(x), float64(y), float64(size)*0.40, a, a+math.Pi*0.7), size*0.15, p.Accent)
}
