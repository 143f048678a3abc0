package ui

import (
	"cmp"
	"image"
	"image/color"
	"math"
	"strings"

	"gioui.org/f32"
	"gioui.org/font"
	"gioui.org/io/semantic"
	"gioui.org/op"
	"gioui.org/op/clip"
	"gioui.org/op/paint"
	gtext "gioui.org/text"
	"golang.org/x/image/math/fixed"

	"ktradv/kiosk/design"
	"ktradv/kiosk/text"
)

// A block is a measured part of a screen that can be drawn anywhere.
type block struct {
	w, h int
	base int // of a text: its first base line
	draw func(at image.Point)
	// stretch returns the same block with another height; nil where that makes no sense.
	stretch func(h int) block
}

// builder composes one scene. Its methods measure blocks; nothing is drawn before a block's draw is called.
type builder struct {
	u      *UI
	s      *scene
	ops    *op.Ops
	p      *design.Palette
	m      design.Metrics
	lang   text.Language
	stamp  int
	inBody bool
	room   image.Rectangle // what is drawn must stay in here
	owner  string
	level  int // how closely the body is set, see levels
}

func newBuilder(u *UI, s *scene) *builder {
	b := &builder{
		u: u, s: s, ops: &s.ops, p: s.palette, m: s.metrics, stamp: u.stamp,
		room: image.Rectangle{Max: s.key.size},
	}
	for _, l := range u.langs {
		if l.Lang == u.pres.lang {
			b.lang = l
		}
	}
	return b
}

// t returns a text in the chosen language.
func (b *builder) t(id string) string { return b.u.cfg.Catalog.Get(b.lang.Lang, id, nil) }

// style says how a text is set.
type style struct {
	em     int
	bold   bool
	fg, bg color.NRGBA
	align  gtext.Alignment
	lines  int    // at most, 0 for any number
	spoken string // what assistive software says, "" for the text itself
	free   bool   // not from the catalogue: a value of any length, whose words may have to be broken
}

func (s style) strong() style                 { s.bold = true; return s }
func (s style) light() style                  { s.bold = false; return s }
func (s style) centred() style                { s.align = gtext.Middle; return s }
func (s style) on(fg, bg color.NRGBA) style   { s.fg, s.bg = fg, bg; return s }
func (s style) size(em int) style             { s.em = em; return s }
func (s style) coloured(fg color.NRGBA) style { s.fg = fg; return s }

// The styles of the page.
func (b *builder) body() style  { return style{em: b.m.Body, fg: b.p.Ink, bg: b.p.Background} }
func (b *builder) small() style { return style{em: b.m.Small, fg: b.p.Muted, bg: b.p.Background} }
func (b *builder) lead() style  { return style{em: b.m.Lead, fg: b.p.Ink, bg: b.p.Background} }
func (b *builder) title() style {
	return style{em: b.m.Title, bold: true, fg: b.p.Ink, bg: b.p.Background}
}
func (b *builder) display() style {
	return style{em: b.m.Display, bold: true, fg: b.p.Ink, bg: b.p.Background}
}

// glyphRun is one line of shaped text.
type glyphRun struct {
	off  f32.Point
	path clip.PathSpec
}

// text measures s set in lines of at most width pixels.
func (b *builder) text(st style, s string, width int) block { return b.textIn(st, s, width, b.lang) }

func (b *builder) textIn(st style, s string, width int, lang text.Language) block {
	f := font.Font{Weight: font.Normal}
	if st.bold {
		f.Weight = font.Bold
	}
	sh := b.u.cfg.Shaper
	minWidth := 0
	if st.align != gtext.Start {
		minWidth = width
	}
	sh.LayoutString(gtext.Parameters{
		Font: f, PxPerEm: fixed.I(st.em), MinWidth: minWidth, MaxWidth: width, Alignment: st.align,
		LineHeight: fixed.I(st.em), LineHeightScale: design.LineScale, Locale: lang.Locale(), MaxLines: st.lines,
	}, s)
	var (
		runs      []glyphRun
		line      []gtext.Glyph
		ink       fixed.Rectangle26_6
		first     = true
		base, end int
		left      fixed.Int26_6 = math.MaxInt32
		right     fixed.Int26_6
		broken    bool
		lastSpace = true
		runesSeen int
	)
	all := []rune(s)
	for {
		g, ok := sh.NextGlyph()
		if !ok {
			break
		}
		y := fixed.I(int(g.Y))
		r := fixed.Rectangle26_6{
			Min: fixed.Point26_6{X: g.X + g.Bounds.Min.X, Y: y + g.Bounds.Min.Y},
			Max: fixed.Point26_6{X: g.X + g.Bounds.Max.X, Y: y + g.Bounds.Max.Y},
		}
		if r.Min.X < r.Max.X && r.Min.Y < r.Max.Y {
			if ink.Min == ink.Max {
				ink = r
			}
			ink.Min.X, ink.Min.Y = min(ink.Min.X, r.Min.X), min(ink.Min.Y, r.Min.Y)
			ink.Max.X, ink.Max.Y = max(ink.Max.X, r.Max.X), max(ink.Max.Y, r.Max.Y)
		}
		if first {
			base, first = int(g.Y), false
		}
		end = int(g.Y) + g.Descent.Ceil()
		left, right = min(left, g.X), max(right, g.X+g.Advance)
		runesSeen += int(g.Runes)
		if runesSeen > 0 && runesSeen <= len(all) {
			lastSpace = strings.ContainsRune(" \n-/–", all[runesSeen-1])
		}
		line = append(line, g)
		if g.Flags&gtext.FlagLineBreak != 0 {
			if runesSeen < len(all) && !lastSpace && all[runesSeen] != ' ' && all[runesSeen] != '\n' {
				broken = true
			}
			runs = append(runs, glyphRun{
				off:  f32.Pt(float32(line[0].X)/64, float32(line[0].Y)),
				path: sh.Shape(line),
			})
			line = line[:0]
		}
	}
	// Lines that start at the right are set against the full width; the block is as wide as its words.
	shift := 0
	if minWidth == 0 && lang.RightToLeft && len(runs) > 0 {
		shift = left.Floor()
	}
	w := right.Ceil() - shift
	if minWidth > 0 {
		w = width
	}
	h := end
	inkRect := image.Rect(ink.Min.X.Floor(), ink.Min.Y.Floor(), ink.Max.X.Ceil(), ink.Max.Y.Ceil()).Sub(image.Pt(shift, 0))
	return block{w: w, h: h, base: base, draw: func(at image.Point) {
		rect := image.Rectangle{Min: at, Max: at.Add(image.Pt(w, h))}
		area := clip.Rect(rect.Inset(-st.em / 4)).Push(b.ops)
		if b.owner == "" {
			semantic.LabelOp(cmp.Or(st.spoken, s)).Add(b.ops)
		}
		paint.ColorOp{Color: st.fg}.Add(b.ops)
		for _, r := range runs {
			t := op.Affine(f32.AffineId().Offset(r.off.Add(f32.Pt(float32(at.X-shift), float32(at.Y))))).Push(b.ops)
			c := clip.Outline{Path: r.path}.Op().Push(b.ops)
			paint.PaintOp{}.Add(b.ops)
			c.Pop()
			t.Pop()
		}
		area.Pop()
		b.s.elements = append(b.s.elements, Element{
			Kind: TextElement, Label: s, Rect: rect, Room: b.room, Ink: inkRect.Add(at), FG: st.fg, BG: st.bg, Em: st.em,
			Split: broken && !st.free, Body: b.inBody, Owner: b.owner,
		})
	}}
}

// wordKey finds the width of the widest word of a text of the catalogue in a size.
type wordKey struct {
	em   int
	bold bool
	s    string
}

// word is the width of the widest word of a text of the catalogue.
func (b *builder) word(st style, s string) int {
	k := wordKey{st.em, st.bold, s}
	if w, ok := b.u.words[k]; ok {
		return w
	}
	w := 0
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\n' || r == '-' }) {
		w = max(w, b.text(st, f, endless).w)
	}
	if len(b.u.words) >= maxWords {
		clear(b.u.words)
	}
	b.u.words[k] = w
	return w
}

// said measures a text of the catalogue. One that the specification prescribes stands in German as prescribed, with the
// translation under it when another language is chosen.
func (b *builder) said(st style, id string, args map[string]string, width int) block {
	c := b.u.cfg.Catalog
	own := b.text(st, c.Get(b.lang.Lang, id, args), width)
	if b.lang.Lang == text.German || !c.Prescribed(id) {
		return own
	}
	german := b.textIn(st, c.Get(text.German, id, args), width, text.Languages[0])
	own = b.text(st.size(max(b.m.Small, st.em*7/8)).coloured(b.second(st)), c.Get(b.lang.Lang, id, args), width)
	return b.column(b.m.Tight/3, german, own)
}

// second is the colour of a translation under its original.
func (b *builder) second(st style) color.NRGBA {
	if st.fg == b.p.Ink {
		return b.p.Muted
	}
	return st.fg
}

// space is an empty block.
func space(w, h int) block { return block{w: w, h: h, draw: func(image.Point) {}} }

// column stacks blocks, starting at the left or, in languages written so, at the right.
func (b *builder) column(gap int, items ...block) block {
	items = present(items)
	w, h := 0, 0
	for i, it := range items {
		w = max(w, it.w)
		if i > 0 {
			h += gap
		}
		h += it.h
	}
	return block{w: w, h: h, draw: func(at image.Point) {
		for _, it := range items {
			x := at.X
			if b.lang.RightToLeft {
				x += w - it.w
			}
			it.draw(image.Pt(x, at.Y))
			at.Y += it.h + gap
		}
	}}
}

// row sets blocks side by side, middle to middle.
func (b *builder) row(gap int, items ...block) block {
	items = present(items)
	w, h := 0, 0
	for i, it := range items {
		h = max(h, it.h)
		if i > 0 {
			w += gap
		}
		w += it.w
	}
	return block{w: w, h: h, draw: func(at image.Point) {
		x := at.X
		if b.lang.RightToLeft {
			x += w
		}
		for _, it := range items {
			if b.lang.RightToLeft {
				x -= it.w
			}
			it.draw(image.Pt(x, at.Y+(h-it.h)/2))
			if b.lang.RightToLeft {
				x -= gap
			} else {
				x += it.w + gap
			}
		}
	}}
}

// even is a row of blocks that are all as high as the highest.
func (b *builder) even(gap int, items ...block) block {
	h := 0
	for _, it := range items {
		h = max(h, it.h)
	}
	for i, it := range items {
		if it.stretch != nil {
			items[i] = it.stretch(h)
		}
	}
	return b.row(gap, items...)
}

// top is a row whose blocks start at the same height.
func (b *builder) top(gap int, items ...block) block {
	h := 0
	for _, it := range items {
		h = max(h, it.h)
	}
	for i, it := range items {
		if it.draw != nil {
			items[i] = block{w: it.w, h: h, draw: it.draw}
		}
	}
	return b.row(gap, items...)
}

// present leaves out blocks that are not there.
func present(items []block) []block {
	out := items[:0:0]
	for _, it := range items {
		if it.draw != nil {
			out = append(out, it)
		}
	}
	return out
}

// wide widens a block to w, its content at the start of the line.
func (b *builder) wide(w int, it block) block {
	if it.draw == nil || it.w >= w {
		return it
	}
	return block{w: w, h: it.h, draw: func(at image.Point) {
		if b.lang.RightToLeft {
			at.X += w - it.w
		}
		it.draw(at)
	}}
}

// centre puts a block into the middle of a place of the given size.
func centre(w, h int, it block) block {
	return block{w: max(w, it.w), h: max(h, it.h), draw: func(at image.Point) {
		it.draw(at.Add(image.Pt(max(0, w-it.w)/2, max(0, h-it.h)/2)))
	}}
}

// box draws a rounded ground with a border under a block, with pad around it.
func (b *builder) box(padX, padY int, ground, line color.NRGBA, border int, it block) block {
	w, h := it.w+2*padX, it.h+2*padY
	return block{w: w, h: h, draw: func(at image.Point) {
		b.ground(image.Rectangle{Min: at, Max: at.Add(image.Pt(w, h))}, b.m.Radius, ground, line, border)
		room := b.room
		b.room = image.Rectangle{Min: at, Max: at.Add(image.Pt(w, h))}
		it.draw(at.Add(image.Pt(padX, padY)))
		b.room = room
	}}
}

// ground fills a rounded rectangle and draws its border inside.
func (b *builder) ground(r image.Rectangle, radius int, fill, line color.NRGBA, border int) {
	if border > 0 && line != fill {
		paint.FillShape(b.ops, line, clip.UniformRRect(r, radius).Op(b.ops))
		r = r.Inset(border)
		radius = max(0, radius-border)
	}
	paint.FillShape(b.ops, fill, clip.UniformRRect(r, radius).Op(b.ops))
}

// buttonLook is how a button is drawn.
type buttonLook int

const (
	quiet    buttonLook = iota // fixed ways out, settings
	primary                    // the one thing to do next
	choice                     // one of several
	selected                   // the setting that is on
)

func (b *builder) buttonColours(look buttonLook) (fg, bg, line color.NRGBA) {
	switch look {
	case primary, selected:
		return b.p.OnAccent, b.p.Accent, b.p.Accent
	}
	return b.p.Ink, b.p.Surface, b.p.Line
}

// press measures a button of at least the size of a touch target around content. label is its meaning in the current
// language, action what it does.
func (b *builder) press(id, label string, look buttonLook, minW, minH int, content block, action func(*UI)) block {
	fg, bg, line := b.buttonColours(look)
	w := max(minW, b.m.Target, content.w)
	h := max(minH, b.m.Target, content.h+2*b.m.Tight)
	draw := func(at image.Point) {
		r := image.Rectangle{Min: at, Max: at.Add(image.Pt(w, h))}
		b.ground(r, b.m.Radius, bg, line, b.m.Border)
		bt := b.u.button(id)
		bt.label, bt.action, bt.rect, bt.radius, bt.inBody = label, action, r, b.m.Radius, b.inBody
		bt.fg, bt.seq = fg, b.stamp
		b.s.buttons = append(b.s.buttons, bt)
		b.s.elements = append(b.s.elements, Element{
			Kind: ButtonElement, Label: label, Rect: r, Room: b.room, FG: line, BG: b.p.Background, Body: b.inBody,
		})
		room, owner := b.room, b.owner
		b.room, b.owner = r, label
		content.draw(at.Add(image.Pt((w-content.w)/2, (h-content.h)/2)))
		b.room, b.owner = room, owner
	}
	return block{w: w, h: h, draw: draw, stretch: func(h int) block {
		return b.press(id, label, look, w, h, content, action)
	}}
}

// fixed measures one of the buttons that send a fixed choice.
func (b *builder) fixed(choiceID, textID string, look buttonLook, sign icon, minW, maxW int) block {
	fg, bg, _ := b.buttonColours(look)
	label := b.t(textID)
	st := b.body().strong().on(fg, bg)
	inner := b.row(b.m.Tight, b.icon(sign, fg, b.m.Body), b.text(st, label, maxW-2*b.m.Pad-b.m.Body-b.m.Tight))
	return b.press("choice:"+choiceID, label, look, max(minW, inner.w+2*b.m.Pad), 0, inner, func(u *UI) { u.send(choiceID) })
}

// icon measures a small sign.
func (b *builder) icon(k icon, c color.NRGBA, size int) block {
	if k == noIcon {
		return block{}
	}
	return block{w: size, h: size, draw: func(at image.Point) {
		drawIcon(b.ops, k, c, image.Rectangle{Min: at, Max: at.Add(image.Pt(size, size))}, b.lang.RightToLeft)
	}}
}

// picture measures a drawing in a place of the given size.
func (b *builder) picture(pic picture, w, h int) block {
	if w < 2*b.m.Target || h < 2*b.m.Target {
		return block{}
	}
	return block{w: w, h: h, draw: func(at image.Point) {
		r := image.Rectangle{Min: at, Max: at.Add(image.Pt(w, h))}
		macro := op.Record(b.ops)
		drawPicture(b.ops, b.p, r, pic, rest)
		still := macro.Stop()
		if pic.moves() && !b.inBody {
			b.s.moving = append(b.s.moving, movingPicture{pic: pic, rect: r, still: still})
		} else {
			still.Add(b.ops)
		}
		b.s.elements = append(b.s.elements, Element{Kind: PictureElement, Label: pic.name(), Rect: r, Room: b.room, Body: b.inBody})
	}}
}
