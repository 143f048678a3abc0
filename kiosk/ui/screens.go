package ui

import (
	"image"
	"strconv"
	"strings"
	"time"

	"gioui.org/f32"

	"ktradv/kiosk/design"
	"ktradv/kiosk/text"
	"ktradv/kiosk/view"
)

// screens composes each screen of the contract.
var screens = map[view.Screen]func(*builder){
	view.Neutral:    (*builder).neutral,
	view.Reading:    (*builder).reading,
	view.PIN:        (*builder).pin,
	view.PINWrong:   (*builder).pinWrong,
	view.PINBlocked: (*builder).pinBlocked,
	view.PUK:        (*builder).puk,
	view.Connecting: (*builder).connecting,
	view.Menu:       (*builder).menu,
	view.Data:       (*builder).data,
	view.Idle:       (*builder).idle,
	view.Blanked:    (*builder).blanked,
	view.Ending:     (*builder).ending,
	view.TakeCard:   (*builder).takeCard,
	view.Problem:    (*builder).problem,
	view.OutOfOrder: (*builder).outOfOrder,
	view.Fault:      (*builder).fault,
}

func (b *builder) screen() {
	if f := screens[b.u.view.Screen]; f != nil {
		f(b)
		return
	}
	b.outOfOrder()
}

// neutral asks for the card; at the bottom everybody can make the screen theirs with one tap.
func (b *builder) neutral() {
	bar := b.settings(b.inner())
	H := b.m.Screen.Y
	barY := H - b.m.Margin*2/3 - bar.h
	bar.draw(image.Pt(b.m.Margin, barY))

	brand := b.brand()
	bx := b.m.Screen.X - b.m.Margin - brand.w
	if b.lang.RightToLeft {
		bx = b.m.Margin
	}
	brand.draw(image.Pt(bx, b.m.Margin*2/3))
	top := b.m.Margin*2/3 + brand.h
	if codes := b.u.view.Service; len(codes) > 0 {
		w := b.inner() - brand.w - b.m.Space
		x := b.m.Margin
		if b.lang.RightToLeft {
			x = b.m.Margin + brand.w + b.m.Space
		}
		note := b.text(b.small(), b.u.cfg.Catalog.Get(b.lang.Lang, "service.codes", map[string]string{"codes": joinCodes(codes)}), w)
		b.wide(w, note).draw(image.Pt(x, b.m.Margin*2/3+max(0, brand.h-note.h)/2))
		top = max(top, b.m.Margin*2/3+note.h+b.m.Tight)
	}

	place := image.Rect(b.m.Margin, top, b.m.Screen.X-b.m.Margin, barY-b.m.Space)
	room := b.room
	b.room = place
	b.hero(place.Dx(), place.Dy(), picInsert, "neutral.title", "neutral.text").draw(place.Min)
	b.room = room
}

// hero is a large heading with a sentence beside a picture.
func (b *builder) hero(w, h int, pic picture, titleID, textID string, more ...block) block {
	words := func(w, h int) block {
		rest := b.column(b.m.Space, append([]block{b.text(b.lead(), b.t(textID), w)}, more...)...)
		head := b.fit(w, h-rest.h-b.m.Space, b.t(titleID), b.display(), b.title(), b.lead().strong())
		return b.column(b.m.Space, head, rest)
	}
	if b.portrait() {
		c := words(w, h/2)
		ph := h - c.h - b.m.Space
		return b.column(b.m.Space, b.picture(pic, w, ph), c)
	}
	pw := min(w*42/100, h*fieldW/fieldH)
	c := words(w-pw-2*b.m.Space, h)
	return b.row(2*b.m.Space, centre(w-pw-2*b.m.Space, h, b.wide(w-pw-2*b.m.Space, c)), b.picture(pic, pw, h))
}

// option is one way to set language, text size or colours.
type option struct {
	id, label string
	on        bool
	action    func(*UI)
}

// settings are language, text size and colours, each option one tap away.
func (b *builder) settings(w int) block {
	var langs, sizes, looks []option
	for _, l := range b.u.langs {
		langs = append(langs, option{"lang:" + string(l.Lang), l.Name, l.Lang == b.u.pres.lang, func(u *UI) { u.pres.lang = l.Lang }})
	}
	for _, s := range design.Sizes {
		sizes = append(sizes, option{"size:" + s.ID(), b.t("size." + s.ID()), s == b.u.pres.size, func(u *UI) { u.pres.size = s }})
	}
	for _, l := range design.Looks {
		looks = append(looks, option{"look:" + l.ID(), b.t("look." + l.ID()), l == b.u.pres.look, func(u *UI) { u.pres.look = l }})
	}
	// All options are equally high, so that the groups of a line look alike.
	h := 0
	for _, g := range [][]option{langs, sizes, looks} {
		for _, o := range g {
			h = max(h, b.text(b.small().strong(), o.label, b.groupW(g)-2*b.m.Tight).h+2*b.m.Tight)
		}
	}
	return b.flow(w, []block{
		b.group("settings.language", langs, h), b.group("settings.size", sizes, h), b.group("settings.look", looks, h),
	})
}

// groupW is the width of the options of a group: that of the widest word.
func (b *builder) groupW(options []option) int {
	w := b.m.Target
	for _, o := range options {
		w = max(w, b.word(b.small().strong(), o.label)+2*b.m.Tight)
	}
	return w
}

// group sets options side by side under a caption.
func (b *builder) group(captionID string, options []option, h int) block {
	w := b.groupW(options)
	items := make([]block, len(options))
	for i, o := range options {
		look := quiet
		if o.on {
			look = selected
		}
		fg, bg, _ := b.buttonColours(look)
		label := b.text(b.small().strong().on(fg, bg).centred(), o.label, w-2*b.m.Tight)
		items[i] = b.press(o.id, o.label, look, w, h, label, o.action)
	}
	return b.column(b.m.Tight/2, b.text(b.small(), b.t(captionID), b.inner()), b.row(b.m.Gap, items...))
}

// flow sets groups in as few lines as they need.
func (b *builder) flow(w int, groups []block) block {
	gap := b.m.Gap + b.m.Tight
	var lines []block
	var line []block
	width := 0
	for _, g := range groups {
		if len(line) > 0 && width+gap+g.w > w {
			lines = append(lines, b.row(gap, line...))
			line, width = nil, 0
		}
		if len(line) > 0 {
			width += gap
		}
		width += g.w
		line = append(line, g)
	}
	lines = append(lines, b.row(gap, line...))
	return b.column(max(b.m.Gap-b.m.Small, b.m.Tight), lines...)
}

func (b *builder) reading() {
	b.frame(page{
		title: b.heading("reading.title"), lead: b.sentence("reading.text"),
		body: b.stepsBody(picKeepCard),
	})
}

func (b *builder) connecting() {
	b.frame(page{
		title: b.heading("connecting.title"), lead: b.sentence("connecting.text"),
		body: b.stepsBody(picKeepCard),
	})
}

func (b *builder) ending() {
	b.frame(page{
		title: b.heading("ending.title"), lead: b.sentence("ending.text"),
		body: b.stepsBody(picKeepCard),
	})
}

// stepsBody shows the steps beside a picture, above them the warning when the card must stay in.
func (b *builder) stepsBody(pic picture) func(w, h int) block {
	v := &b.u.view
	return func(w, h int) block {
		return b.split(w, h, pic, v.KeepCard, func(w int) block {
			var warn block
			if v.KeepCard {
				warn = b.keepCard(w)
			}
			return b.column(b.space(), b.notices(w, v.Notices), warn, b.steps(w, v.Steps, false))
		})
	}
}

// prompt mirrors what the reader asks for, in the words that the specification prescribes. It never shows digits.
func (b *builder) prompt(w int) block {
	v := &b.u.view
	intro := "pin.reader_own"
	if v.ReaderShowsPrompt {
		intro = "pin.reader_shows"
	}
	st := style{em: b.m.Lead, bold: true, fg: b.p.Ink, bg: b.p.Surface}
	said := b.said(st, v.Prompt, nil, w-2*b.m.Pad-2*b.m.Thick)
	return b.column(b.m.Tight,
		b.text(b.body(), b.t(intro), w),
		b.box(b.m.Pad+b.m.Thick, b.m.Pad, b.p.Surface, b.p.Accent, b.m.Thick, b.wide(w-2*b.m.Pad-2*b.m.Thick, said)))
}

// numbered is a list of things to do.
func (b *builder) numbered(w int, ids ...string) block {
	var items []block
	nw := b.m.Body * 3 / 2
	for i, id := range ids {
		items = append(items, b.top(b.m.Tight,
			b.wide(nw, b.text(b.body().strong().coloured(b.p.Accent), strconv.Itoa(i+1)+".", nw)),
			b.text(b.body(), b.t(id), w-nw-b.m.Tight)))
	}
	return b.column(b.m.Tight, items...)
}

func (b *builder) pin() {
	v := &b.u.view
	b.frame(page{
		title: b.heading("pin.title"), lead: b.sentence("pin.text"),
		body: func(w, h int) block {
			return b.split(w, h, picReader, true, func(w int) block {
				var cancel block
				if b.less() < fewest {
					cancel = b.text(b.body(), b.t("pin.how.cancel"), w)
				}
				return b.column(b.space(), b.notices(w, v.Notices), b.prompt(w),
					b.numbered(w, "pin.how.type", "pin.how.ok"), cancel, b.tries(w, true))
			})
		},
	})
}

// tries shows how many attempts are left, as dots and, where nothing else says it, in words; nothing when that is not
// known.
func (b *builder) tries(w int, words bool) block {
	n := b.u.view.TriesLeft
	if n < 0 {
		return block{}
	}
	const all = 3
	sz := b.m.Body
	dots := block{w: all*sz + (all-1)*b.m.Tight, h: sz, draw: func(at image.Point) {
		d := pen{ops: b.ops, p: b.p}
		for i := range all {
			x, y, r := float32(at.X+i*(sz+b.m.Tight))+float32(sz)/2, float32(at.Y)+float32(sz)/2, float32(sz)/2
			if i < n {
				d.disc(x, y, r, b.p.Accent)
			} else {
				d.ring(x, y, r-float32(b.m.Border), float32(b.m.Border)*1.5, b.p.Line)
			}
		}
	}}
	if !words {
		return dots
	}
	s := b.u.cfg.Catalog.Get(b.language(), "pin.tries", map[string]string{"x": strconv.Itoa(n)})
	return b.row(b.m.Pad, dots, b.text(b.body(), s, w-dots.w-b.m.Pad))
}

// pinWrong explains why the entry at the reader failed and offers it again.
func (b *builder) pinWrong() {
	v := &b.u.view
	titleID, pic := "pin_wrong.title", picReader
	p := v.Problem
	if p != nil && p.Code != "WrongSecretWarning" {
		titleID, pic = text.ProblemFor(p.Code).Title, pictureFor(p.Code)
	}
	b.frame(page{
		title: b.heading(titleID),
		body: func(w, h int) block {
			return b.split(w, h, pic, false, func(w int) block {
				var said, plain, next, last block
				if p != nil {
					if p.Prescribed != "" {
						said = b.said(b.lead().strong(), p.Prescribed, p.Args, w)
					} else {
						plain = b.text(b.lead(), b.arg(p.Text, p.Args), w)
					}
					next = b.text(b.body(), b.arg(p.Next, p.Args), w)
				}
				if v.TriesLeft == 1 {
					last = b.warning(w, "pin_wrong.last")
				}
				again := b.big(view.ChoiceRetry, "button.pin_again", primary, w)
				if b.less() == fewest {
					next = block{}
				}
				return b.column(b.space(), said, plain, b.tries(w, said.draw == nil), last, next, again)
			})
		},
	})
}

// warning is a sentence in the colours of a warning.
func (b *builder) warning(w int, id string) block {
	return b.notices(w, []view.Notice{{ID: id, Severity: view.Warning}})
}

func (b *builder) arg(id string, args map[string]string) string {
	return b.u.cfg.Catalog.Get(b.language(), id, args)
}

// big is a wide button with one of the fixed choices.
func (b *builder) big(choiceID, textID string, look buttonLook, w int) block {
	fg, bg, _ := b.buttonColours(look)
	label := b.t(textID)
	inner := b.wide(w-2*b.m.Pad, b.text(style{em: b.m.Lead, bold: true, fg: fg, bg: bg}, label, w-2*b.m.Pad))
	return b.press("choice:"+choiceID, label, look, w, 0, inner, func(u *UI) { u.send(choiceID) })
}

func (b *builder) pinBlocked() {
	v := &b.u.view
	b.frame(page{
		title: b.heading("pin_blocked.title"),
		body: func(w, h int) block {
			return b.split(w, h, picLetter, false, func(w int) block {
				var said block
				if v.Problem != nil && v.Problem.Prescribed != "" {
					said = b.said(b.body(), v.Problem.Prescribed, v.Problem.Args, w)
				}
				columns := 1
				if b.tight() {
					columns = 2
				}
				bw := (w - (columns-1)*b.m.Gap) / columns
				return b.column(b.space(), said, b.text(b.body(), b.t("pin_blocked.text"), w),
					b.text(b.lead().strong(), b.t("pin_blocked.question"), w),
					b.grid(columns, []block{
						b.big(view.ChoicePUKKnown, "button.puk_known", primary, bw),
						b.big(view.ChoicePUKUnknown, "button.puk_unknown", choice, bw),
					}))
			})
		},
	})
}

// pukStages are what the pad asks for in turn.
var pukStages = []string{"puk", "new", "repeat"}

func (b *builder) puk() {
	v := &b.u.view
	b.frame(page{
		title: b.heading("puk.title"), lead: b.sentence("puk.text"),
		body: func(w, h int) block {
			return b.split(w, h, picReader, true, func(w int) block {
				state := view.Done
				var steps []view.Step
				for _, st := range pukStages {
					if st == v.PadStage {
						state = view.Active
					}
					steps = append(steps, view.Step{ID: "puk.stage." + st, State: state})
					if st == v.PadStage {
						state = view.Pending
					}
				}
				var warn block
				if v.KeepCard {
					warn = b.keepCard(w)
				}
				how, stages := b.text(b.body(), b.t("puk.how.ok"), w), b.steps(w, steps, true)
				if b.less() == fewest {
					how, stages = block{}, b.activeStep(w, steps)
				}
				return b.column(b.space(), warn, b.notices(w, v.Notices), b.prompt(w), stages, how)
			})
		},
	})
}

func (b *builder) idle() {
	b.frame(page{
		title: b.heading("idle.title"), lead: b.sentence("idle.text"),
		body: func(w, h int) block {
			s := max(0, b.s.key.seconds)
			em := min(b.m.Giant, h/2)
			number := b.text(style{em: em, bold: true, fg: b.p.Ink, bg: b.p.Background}, clock(s), w)
			fg, bg, _ := b.buttonColours(primary)
			label := b.t("button.continue")
			inner := b.text(style{em: b.m.Display, bold: true, fg: fg, bg: bg}, label, w/2)
			bw := max(w/2, b.m.Target)
			bh := max(b.m.Target, min(h/3, 2*b.m.Target))
			button := b.press("choice:"+view.ChoiceContinue, label, primary, bw, bh, inner,
				func(u *UI) { u.send(view.ChoiceContinue) })
			return centre(w, h, b.column(b.m.Space, centre(bw, number.h, number), button))
		},
	})
}

func (b *builder) blanked() {
	b.frame(page{body: func(w, h int) block {
		return b.hero(w, h, picTouch, "blanked.title", "blanked.text")
	}})
}

func (b *builder) takeCard() {
	b.frame(page{body: func(w, h int) block {
		return b.hero(w, h, picTakeCard, "take_card.title", "take_card.text")
	}})
}

// problem says what happened, what to do next, and offers the next step.
func (b *builder) problem() { b.explain("", true) }

// joinCodes sets codes for the staff in one line.
func joinCodes(codes []string) string { return strings.Join(codes, " · ") }

func (b *builder) outOfOrder() { b.explain("out_of_order.title", false) }

func (b *builder) explain(titleID string, offer bool) {
	v := &b.u.view
	info := view.ProblemInfo{Code: text.ProblemFor("").Code}
	if v.Problem != nil {
		info = *v.Problem
	}
	if _, known := text.Problems[info.Code]; !known || info.Text == "" {
		p := text.ProblemFor(info.Code)
		info.Text, info.Next = p.Text, p.Next
	}
	if titleID == "" {
		titleID = text.ProblemFor(info.Code).Title
	}
	b.frame(page{
		title: b.heading(titleID), code: joinCodes(append([]string{info.Code}, v.Service...)),
		body: func(w, h int) block {
			return b.split(w, h, pictureFor(info.Code), false, func(w int) block {
				var said, retry block
				if info.Prescribed != "" {
					said = b.said(b.lead().strong(), info.Prescribed, info.Args, w)
				}
				if offer && info.CanRetry {
					retry = b.big(view.ChoiceRetry, "button.retry", primary, w)
				}
				next := b.column(b.m.Tight,
					b.text(style{em: b.m.Body, bold: true, fg: b.p.Accent, bg: b.p.Surface}, b.t("problem.next"), w-2*b.m.Pad),
					b.text(style{em: b.m.Lead, fg: b.p.Ink, bg: b.p.Surface}, b.arg(info.Next, info.Args), w-2*b.m.Pad))
				return b.column(b.space(), b.notices(w, v.Notices), said,
					b.text(b.lead(), b.arg(info.Text, info.Args), w),
					b.box(b.m.Pad, b.m.Pad, b.p.Surface, b.p.Hairline, b.m.Border, b.wide(w-2*b.m.Pad, next)), retry)
			})
		},
	})
}

func scaleAt(scale float32, at image.Point) f32.Affine2D {
	return f32.AffineId().Scale(f32.Point{}, f32.Pt(scale, scale)).Offset(f32.Pt(float32(at.X), float32(at.Y)))
}

func (b *builder) local(t time.Time) time.Time { return t.In(b.u.zone) }
