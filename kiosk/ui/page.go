package ui

import (
	"fmt"
	"image"
	"strconv"

	"gioui.org/op"
	"gioui.org/op/clip"
	"gioui.org/op/paint"

	"ktradv/kiosk/design"
	"ktradv/kiosk/text"
	"ktradv/kiosk/view"
)

// levels are how closely a body is tried to be set before it scrolls: each step leaves out something that explains but
// is not needed, first with wide, then with narrow distances.
const (
	levels = 6
	fewest = 2 // the last step of leaving out
)

// tight tells that distances are narrow at the present level.
func (b *builder) tight() bool { return b.level%2 == 1 }

// less is how much is left out at the present level, from 0 to fewest.
func (b *builder) less() int { return b.level / 2 }

// endless is the height of the place for a body that scrolls.
const endless = 1 << 20

// space is the distance of blocks at the present level.
func (b *builder) space() int {
	if b.tight() {
		return b.m.Tight
	}
	return b.m.Space
}

// page is what every screen of a visit has: a heading that says where one is, at most one sentence, the body, and the
// ways out at the bottom, always in the same place.
type page struct {
	title block
	lead  block
	// body composes the content for the given place. It may be higher than the place: then it scrolls.
	body func(w, h int) block
	long bool      // the body is made for scrolling: setting it closer is not tried
	back func(*UI) // "back" within the menu; nil sends the event where the session offers it
	code string    // of a problem, for the technician
}

// inner is the width between the margins.
func (b *builder) inner() int { return b.m.Screen.X - 2*b.m.Margin }

// portrait tells that pictures stand above the text rather than beside it.
func (b *builder) portrait() bool { return b.m.Screen.X < b.m.Screen.Y }

// brand measures the insurer's logo and name, which stand in the upper right corner.
func (b *builder) brand() block {
	i := 0
	if b.m.Look != design.Light {
		i = 1
	}
	var mark block
	if size := b.u.logoSize[i]; size.X > 0 {
		img := b.u.logo[i]
		h := b.m.LogoH
		w := min(h*size.X/size.Y, b.m.Screen.X/4)
		mark = block{w: w, h: h, draw: func(at image.Point) {
			b.image(img, size, image.Rectangle{Min: at, Max: at.Add(image.Pt(w, h))})
		}}
	} else {
		mark = b.ownMark()
	}
	name := b.u.cfg.Tokens.Name
	if name == "" {
		name = b.t("product.name")
	}
	st := b.small().strong().size(b.brandEm())
	st.lines = 2
	return b.row(b.m.Tight, b.text(st, name, max(b.m.Screen.X/5, b.word(st, name))), mark)
}

// brandEm keeps the name from growing with the text size: it is a sign, not something to read.
func (b *builder) brandEm() int {
	return design.NewMetrics(b.u.panel, b.m.Screen, b.m.Look, design.Normal).Small
}

// ownMark is the product's own sign: a card with its chip.
func (b *builder) ownMark() block {
	h := b.m.LogoH
	w := h * 5 / 4
	return block{w: w, h: h, draw: func(at image.Point) {
		d := pen{ops: b.ops, p: b.p}
		t := op.Offset(at).Push(b.ops)
		fw, fh := float32(w), float32(h)
		d.fill(d.rounded(0, fh*0.08, fw, fh*0.84, fh*0.16), b.p.Accent)
		d.fill(d.rounded(fw*0.14, fh*0.30, fw*0.28, fh*0.30, fh*0.06), b.p.OnAccent)
		d.bar(fw*0.56, fh*0.38, fw*0.84, fh*0.38, fh*0.07, b.p.OnAccent)
		d.bar(fw*0.56, fh*0.56, fw*0.74, fh*0.56, fh*0.07, b.p.OnAccent)
		t.Pop()
	}}
}

// image scales a picture into r, keeping its sides.
func (b *builder) image(img paint.ImageOp, size image.Point, r image.Rectangle) {
	scale := min(float32(r.Dx())/float32(size.X), float32(r.Dy())/float32(size.Y))
	defer clip.Rect(r).Push(b.ops).Pop()
	defer op.Affine(scaleAt(scale, r.Min)).Push(b.ops).Pop()
	img.Filter = paint.FilterLinear
	img.Add(b.ops)
	paint.PaintOp{}.Add(b.ops)
}

// frame composes a page.
func (b *builder) frame(pg page) {
	W, H := b.m.Screen.X, b.m.Screen.Y
	// Heading and mark share the first line.
	brand := b.brand()
	top := b.m.Margin * 2 / 3
	headH := b.m.LogoH
	brandX := W - b.m.Margin - brand.w
	if b.lang.RightToLeft {
		brandX = b.m.Margin
	}
	brand.draw(image.Pt(brandX, top+max(0, headH-brand.h)/2))
	titleW := b.inner() - brand.w - b.m.Space
	x := b.m.Margin
	if b.lang.RightToLeft {
		x = b.m.Margin + brand.w + b.m.Space
	}
	y := top
	if pg.title.draw != nil {
		title := b.wide(titleW, pg.title)
		title.draw(image.Pt(x, y+max(0, headH-title.h)/2))
		y += max(headH, title.h)
	} else {
		y += headH
	}
	if pg.lead.draw != nil {
		y += b.m.Tight / 2
		b.wide(b.inner(), pg.lead).draw(image.Pt(b.m.Margin, y))
		y += pg.lead.h
	}

	// The ways out.
	bottom := H - b.m.Margin*2/3
	foot := b.footer(pg)
	if foot.draw != nil {
		bottom -= foot.h
		foot.draw(image.Pt(b.m.Margin, bottom))
		bottom -= max(b.m.Space, b.m.Gap)
	}
	y += b.m.Space
	if pg.body == nil {
		return
	}
	place := image.Rect(b.m.Margin, y, W-b.m.Margin, bottom)
	var body block
	for b.level = range levels {
		if body = pg.body(place.Dx(), place.Dy()); body.h <= place.Dy() || pg.long {
			break
		}
	}
	if body.h > place.Dy() {
		b.level = 0
		b.scrolled(place, pg)
		return
	}
	room := b.room
	b.room = place
	b.wide(place.Dx(), body).draw(place.Min)
	b.room = room
}

// scrolled composes a body that is higher than its place, with large buttons beside it to scroll.
func (b *builder) scrolled(place image.Rectangle, pg page) {
	most := (place.Dy() - b.m.Gap) / 2
	w := b.scrollW(false)
	up, down := b.scrollButton("button.up", -1, iconUp, w, most), b.scrollButton("button.down", 1, iconDown, w, most)
	if max(up.h, down.h) > most {
		w = b.scrollW(true)
		up, down = b.scrollButton("button.up", -1, iconUp, w, most), b.scrollButton("button.down", 1, iconDown, w, most)
	}
	bodyW := place.Dx() - w - b.m.Gap - b.m.Tight - b.m.Pad
	x, bodyX := place.Max.X-w, place.Min.X
	if b.lang.RightToLeft {
		x, bodyX = place.Min.X, place.Max.X-bodyW
	}
	up.draw(image.Pt(x, place.Min.Y))
	down.draw(image.Pt(x, place.Max.Y-down.h))

	s := b.s
	s.bodyRect = image.Rect(bodyX, place.Min.Y, bodyX+bodyW, place.Max.Y)
	trackX := s.bodyRect.Max.X + b.m.Tight
	if b.lang.RightToLeft {
		trackX = s.bodyRect.Min.X - 2*b.m.Tight
	}
	s.track = image.Rect(trackX, place.Min.Y, trackX+max(8, b.m.Tight*2/3), place.Max.Y)
	body := pg.body(bodyW, endless)
	s.bodyHeight = max(body.h, place.Dy()+1)

	s.elements = append(s.elements, Element{Kind: BodyElement, Rect: s.bodyRect, Room: b.room})
	room := b.room
	b.room, b.inBody = image.Rect(0, 0, bodyW, s.bodyHeight), true
	macro := op.Record(b.ops)
	b.wide(bodyW, body).draw(image.Point{})
	s.body = macro.Stop()
	b.room, b.inBody = room, false
}

// scrollButton is one of the buttons to scroll: an arrow over its name.
func (b *builder) scrollButton(id string, dir float32, sign icon, w, most int) block {
	st := b.small().strong().on(b.p.Ink, b.p.Surface)
	label := b.t(id)
	inner := b.column(b.m.Tight/2,
		centre(w-2*b.m.Pad, b.m.Lead, b.icon(sign, b.p.Ink, b.m.Lead)),
		b.text(st.centred(), label, w-2*b.m.Pad))
	return b.press(id, label, quiet, w, min(most, 2*b.m.Target), inner, func(u *UI) { u.page(dir) })
}

// scrollW is the width of the buttons to scroll, with their names in one line or broken between words.
func (b *builder) scrollW(oneLine bool) int {
	st := b.small().strong()
	w := b.m.Target
	for _, id := range []string{"button.up", "button.down"} {
		if s := b.t(id); oneLine {
			w = max(w, b.text(st, s, endless).w+2*b.m.Pad)
		} else {
			w = max(w, b.word(st, s)+2*b.m.Pad)
		}
	}
	return w
}

// footer is the bottom line: "end session" at the left, "back" beside it, then the time that is left and the code of a
// problem.
func (b *builder) footer(pg page) block {
	v := &b.u.view
	var end, back, note block
	maxW := b.inner() / 2
	if v.CanEnd {
		look := quiet
		if v.Screen == view.Problem && (v.Problem == nil || !v.Problem.CanRetry) {
			look = primary
		}
		end = b.fixed(view.ChoiceEnd, "button.end", look, iconEnd, 0, maxW)
	}
	switch {
	case pg.back != nil:
		label := b.t("button.back")
		st := b.body().strong().on(b.p.Ink, b.p.Surface)
		inner := b.row(b.m.Tight, b.icon(iconBack, b.p.Ink, b.m.Body), b.text(st, label, maxW))
		back = b.press("menu.back", label, quiet, inner.w+2*b.m.Pad, 0, inner, pg.back)
	case v.CanBack:
		back = b.fixed(view.ChoiceBack, "button.back", quiet, iconBack, 0, maxW)
	}
	if pg.code != "" {
		note = b.text(b.small(), b.u.cfg.Catalog.Get(b.lang.Lang, "problem.code", map[string]string{"code": pg.code}), b.inner()/2)
	} else if s := b.s.key.seconds; s >= 0 && v.Screen != view.Idle {
		note = b.text(b.body(), b.u.cfg.Catalog.Get(b.lang.Lang, "remaining", map[string]string{"time": clock(s)}), b.inner()/2)
	}
	if end.draw == nil && back.draw == nil && note.draw == nil {
		return block{}
	}
	h := max(end.h, back.h, note.h)
	// The way out is at the left whatever the direction of the writing: it is always in the same place.
	return block{w: b.inner(), h: h, draw: func(at image.Point) {
		right := at.X + b.inner()
		for _, it := range present([]block{end, back}) {
			it.draw(image.Pt(at.X, at.Y+h-it.h))
			at.X += it.w + b.m.Gap
		}
		if note.draw != nil {
			note.draw(image.Pt(right-note.w, at.Y+h-note.h))
		}
	}}
}

// clock writes seconds as minutes and seconds.
func clock(s int) string { return fmt.Sprintf("%d:%02d", s/60, s%60) }

// notices measures the notices of the view, the most serious in the strongest colours.
func (b *builder) notices(w int, list []view.Notice) block {
	var items []block
	for _, n := range list {
		fg, bg, line, sign := b.p.Ink, b.p.Surface, b.p.Accent, iconInfo
		switch n.Severity {
		case view.Warning:
			fg, bg, line, sign = b.p.OnWarn, b.p.Warn, b.p.WarnLine, iconWarn
		case view.Alert:
			fg, bg, line, sign = b.p.OnAlert, b.p.Alert, b.p.AlertLine, iconWarn
		}
		sz := b.m.Lead
		st := style{em: b.m.Body, fg: fg, bg: bg}
		if b.less() == fewest {
			st.em = b.m.Small
		}
		inner := b.row(b.m.Pad, b.icon(sign, fg, sz), b.said(st, n.ID, n.Args, w-3*b.m.Pad-sz))
		items = append(items, b.box(b.m.Pad, b.m.Tight, bg, line, b.m.Border, b.wide(w-2*b.m.Pad, inner)))
	}
	if len(items) == 0 {
		return block{}
	}
	return b.column(b.m.Tight, items...)
}

// keepCard is the warning in large letters that the card must stay in (AdV-A_2446).
func (b *builder) keepCard(w int) block {
	pad := b.m.Pad
	if b.tight() {
		pad = b.m.Tight
	}
	inner := w - 3*b.m.Pad - b.m.Title
	st := style{bold: true, fg: b.p.OnWarn, bg: b.p.Warn}
	words := b.fit(inner, b.m.Title*3/2, b.t("keep_card"), st.size(b.m.Title), st.size(b.m.Lead*5/4), st.size(b.m.Lead))
	return b.box(b.m.Pad, pad, b.p.Warn, b.p.WarnLine, b.m.Thick,
		b.wide(w-2*b.m.Pad, b.row(b.m.Pad, b.icon(iconWarn, b.p.OnWarn, b.m.Title), words)))
}

// stepStates are the words for view.Pending, Active, Done and Failed.
var stepStates = [...]string{"step.state.pending", "step.state.active", "step.state.done", "step.state.failed"}

// steps measures the list of the parts of something slow. A part that runs has a sign that turns; where the terminal
// waits for the person (waiting) it stands still.
func (b *builder) steps(w int, list []view.Step, waiting bool) block {
	var items []block
	sz := b.m.Body * 3 / 2
	for i, s := range list {
		st := b.body()
		state := s.State
		var mark block
		switch state {
		case view.Done:
			mark = block{w: sz, h: sz, draw: func(at image.Point) {
				d := pen{ops: b.ops, p: b.p}
				r := float32(sz) / 2
				d.disc(float32(at.X)+r, float32(at.Y)+r, r*0.92, b.p.Accent)
				q := sz / 4
				drawIcon(b.ops, iconCheck, b.p.OnAccent, image.Rect(at.X+q, at.Y+q, at.X+sz-q, at.Y+sz-q), false)
			}}
		case view.Failed:
			mark = b.icon(iconWarn, b.p.Ink, sz)
			st = st.strong()
		case view.Active:
			st = st.strong()
			mark = block{w: sz, h: sz, draw: func(at image.Point) {
				if waiting {
					d := pen{ops: b.ops, p: b.p}
					r := float32(sz) / 2
					d.ring(float32(at.X)+r, float32(at.Y)+r, r*0.8, r*0.28, b.p.Accent)
					return
				}
				b.s.spinners = append(b.s.spinners, spinner{image.Rectangle{Min: at, Max: at.Add(image.Pt(sz, sz))}, b.inBody})
			}}
		default:
			st = st.coloured(b.p.Muted)
			mark = block{w: sz, h: sz, draw: func(at image.Point) {
				d := pen{ops: b.ops, p: b.p}
				r := float32(sz) / 2
				d.ring(float32(at.X)+r, float32(at.Y)+r, r*0.8, float32(b.m.Border)*1.5, b.p.Line)
			}}
		}
		name := strconv.Itoa(i+1) + ". " + b.t(s.ID)
		// The sign says to the eye how far the step is; the ear is told.
		st.spoken = name + ": " + b.t(stepStates[min(max(int(s.State), 0), len(stepStates)-1)])
		items = append(items, b.row(b.m.Pad, mark, b.text(st, name, w-sz-b.m.Pad)))
	}
	if len(items) == 0 {
		return block{}
	}
	gap := b.m.Pad
	if b.tight() {
		gap = b.m.Tight / 2
	}
	return b.column(gap, items...)
}

// activeStep measures only the step that runs, where there is no room for all.
func (b *builder) activeStep(w int, list []view.Step) block {
	for i, s := range list {
		if s.State == view.Active {
			return b.text(b.body().strong(), strconv.Itoa(i+1)+". "+b.t(s.ID), w)
		}
	}
	return block{}
}

// split sets a picture beside the content (above it on an upright screen). The content gets the larger part. Where the
// place is too small for both the picture goes; one that must be seen goes only when closer setting does not help.
func (b *builder) split(w, h int, pic picture, must bool, content func(w int) block) block {
	if b.portrait() {
		c := content(w)
		ph := min(h-c.h-b.m.Space, w*4/5)
		if ph < 3*b.m.Target || h >= endless {
			return c
		}
		return b.column(b.m.Space, b.picture(pic, w, ph), c)
	}
	if h >= endless {
		return content(w)
	}
	for _, part := range []int{40, 32, 25} {
		pw := w * part / 100
		c := content(w - pw - b.m.Space)
		if c.h <= h {
			ph := min(h, pw*fieldH/fieldW+b.m.Space)
			return b.row(b.m.Space, b.wide(w-pw-b.m.Space, c), b.picture(pic, pw, ph))
		}
	}
	if must && b.level < levels-1 {
		return space(w, h+1)
	}
	return content(w)
}

// fit returns the first of the styles in which the text fits the height.
func (b *builder) fit(w, h int, s string, styles ...style) block {
	var t block
	for _, st := range styles {
		if t = b.text(st, s, w); t.h <= h {
			return t
		}
	}
	return t
}

// heading is the title of a page from the catalogue.
func (b *builder) heading(id string) block {
	w := b.inner() - b.brand().w - b.m.Space
	return b.text(b.title(), b.t(id), w)
}

// sentence is the one sentence under the heading.
func (b *builder) sentence(id string) block { return b.text(b.lead(), b.t(id), b.inner()) }

func (b *builder) language() text.Lang { return b.lang.Lang }
