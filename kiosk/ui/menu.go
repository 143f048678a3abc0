package ui

import (
	"ktradv/kiosk/text"
	"ktradv/kiosk/view"
)

// maxChoices is how many choices a screen offers at most; a menu with more is divided by application.
const maxChoices = 6

// groups are the sections of the menu in their order, with the texts that the specification prescribes for them
// (TAB_ADV_461). Use cases of no application stand with the card.
var groups = []struct{ app, name, hint string }{
	{"general", "TAB_ADV_461.ALLGEMEIN.name", "TAB_ADV_461.ALLGEMEIN.hint"},
	{"nfd", "TAB_ADV_461.NFD.name", "TAB_ADV_461.NFD.hint"},
	{"dpe", "TAB_ADV_461.DPE.name", "TAB_ADV_461.DPE.hint"},
	{"amts", "TAB_ADV_461.AMTS.name", "TAB_ADV_461.AMTS.hint"},
}

// fewChoices is up to how many use cases stand one under the other with their hints.
const fewChoices = 3

// groupOf is the section to which an item belongs.
func groupOf(app string) string {
	for _, g := range groups[1:] {
		if g.app == app {
			return app
		}
	}
	return groups[0].app
}

// menu shows what card, applications and PINs allow, beside the state of the card.
func (b *builder) menu() {
	v := &b.u.view
	items := v.Menu
	divided := len(items) > maxChoices
	pg := page{title: b.heading("menu.title")}
	var hint string
	switch {
	case divided && b.u.group == "":
	case divided:
		items = nil
		for _, it := range v.Menu {
			if groupOf(it.App) == b.u.group {
				items = append(items, it)
			}
		}
		for _, g := range groups {
			if g.app == b.u.group {
				pg.title, hint = b.said(b.title(), g.name, nil, b.inner()-b.brand().w-b.m.Space), g.hint
			}
		}
		pg.back = func(u *UI) { u.group, u.scroll = "", 0 }
	case len(items) > 0:
		app := groupOf(items[0].App)
		for _, it := range items {
			if groupOf(it.App) != app {
				app = ""
			}
		}
		for _, g := range groups {
			if g.app == app {
				hint = g.hint
			}
		}
	}
	pg.body = func(w, h int) block {
		var above block
		if hint != "" && b.less() == 0 {
			above = b.said(b.small(), hint, nil, w)
		}
		choices := func(w int) block {
			switch {
			case len(v.Menu) == 0:
				return b.text(b.lead(), b.t("menu.none"), w)
			case divided && b.u.group == "":
				return b.groupButtons(w)
			}
			return b.itemButtons(w, items)
		}
		notices := b.notices(w, v.Notices)
		if b.u.group != "" {
			return b.column(b.m.Space, notices, above, choices(w))
		}
		// The state of the card stands beside a short menu and under a long one.
		if sw := w * 34 / 100; b.besides(sw, h) && (len(items) <= fewChoices || divided) {
			mw := w - sw - b.m.Space
			if above.draw != nil {
				above = b.said(b.small(), hint, nil, mw)
			}
			return b.column(b.m.Space, notices,
				b.top(b.m.Space, b.wide(mw, b.column(b.m.Space, above, choices(mw))), b.status(sw)))
		}
		return b.column(b.space(), notices, above, choices(w), b.statusLines(w))
	}
	b.frame(pg)
}

// besides tells whether the state of the card can stand beside the menu: where nothing scrolls and its words fit.
func (b *builder) besides(w, h int) bool {
	if b.portrait() || b.tight() || h >= endless {
		return false
	}
	st := style{em: b.m.Small, bold: true}
	for _, id := range []string{"app.hca", "TAB_ADV_461.NFD.name", "TAB_ADV_461.DPE.name", "TAB_ADV_461.AMTS.name", "validity.online", "menu.apps"} {
		for _, l := range []text.Lang{text.German, b.lang.Lang} {
			if b.word(st, b.u.cfg.Catalog.Get(l, id, nil)) > w-2*b.m.Pad {
				return false
			}
		}
	}
	return true
}

// itemButtons are the use cases, in two columns when there are many and the words allow it. The hints that explain them
// stand with them as long as there are few.
func (b *builder) itemButtons(w int, items []view.MenuItem) block {
	few := len(items) <= fewChoices
	columns := 1
	if !few {
		names := make([]string, len(items))
		for i, it := range items {
			names[i] = it.Name
		}
		columns = b.columns(w, names)
	}
	cw := (w - (columns-1)*b.m.Gap) / columns
	buttons := make([]block, len(items))
	for i, it := range items {
		hint := it.Hint
		if !few || b.less() == fewest {
			hint = ""
		}
		buttons[i] = b.choice("use:"+it.UseCase, it.Name, hint, cw, func(u *UI) { u.send(it.UseCase) })
	}
	return b.grid(columns, buttons)
}

// columns is 2 when the words of all names fit choices of half the width, else 1.
func (b *builder) columns(w int, nameIDs []string) int {
	room := b.choiceText((w - b.m.Gap) / 2)
	for _, id := range nameIDs {
		for _, l := range []text.Lang{text.German, b.lang.Lang} {
			if b.word(b.choiceStyle(), b.u.cfg.Catalog.Get(l, id, nil)) > room {
				return 1
			}
		}
	}
	return 2
}

func (b *builder) choiceStyle() style {
	fg, bg, _ := b.buttonColours(choice)
	st := style{em: b.m.Lead, bold: true, fg: fg, bg: bg}
	if b.tight() {
		st.em = b.m.Body
	}
	return st
}

// choiceText is the room for words in a choice of the given width.
func (b *builder) choiceText(w int) int { return w - 3*b.m.Pad - b.m.Lead }

// groupButtons open a section of a menu that has more than fits one screen.
func (b *builder) groupButtons(w int) block {
	columns, cw := 1, w
	if b.tight() {
		names := make([]string, len(groups))
		for i, g := range groups {
			names[i] = g.name
		}
		if columns = b.columns(w, names); columns == 2 {
			cw = (w - b.m.Gap) / 2
		}
	}
	var buttons []block
	for _, g := range groups {
		for _, it := range b.u.view.Menu {
			if groupOf(it.App) == g.app {
				buttons = append(buttons, b.choice("group:"+g.app, g.name, "", cw, func(u *UI) { u.group, u.scroll = g.app, 0 }))
				break
			}
		}
	}
	return b.grid(columns, buttons)
}

// choice is one big button with a name, which may be prescribed, and perhaps a hint.
func (b *builder) choice(id, nameID, hintID string, w int, action func(*UI)) block {
	st := b.choiceStyle()
	tw := b.choiceText(w)
	name := b.said(st, nameID, nil, tw)
	var hint block
	if hintID != "" {
		hint = b.said(st.size(b.m.Small).coloured(b.p.Muted).light(), hintID, nil, tw)
	}
	words := b.wide(tw, b.column(b.m.Tight, name, hint))
	inner := b.row(b.m.Pad, words, b.icon(iconNext, b.p.Accent, b.m.Lead))
	pad := b.m.Pad
	if b.tight() {
		pad = b.m.Tight
	}
	return b.press(id, b.t(nameID), choice, w, inner.h+2*pad, inner, action)
}

// grid sets buttons in columns, the lines as high as their highest button.
func (b *builder) grid(columns int, buttons []block) block {
	var lines []block
	for len(buttons) > 0 {
		n := min(columns, len(buttons))
		lines = append(lines, b.even(b.m.Gap, buttons[:n]...))
		buttons = buttons[n:]
	}
	return b.column(b.m.Gap, lines...)
}

// status is the side panel: what the check of the card gave and which applications it holds.
func (b *builder) status(w int) block {
	iw := w - 2*b.m.Pad
	card, apps := b.cardState(iw), b.appStates(iw)
	if len(card)+len(apps) == 0 {
		return block{}
	}
	head := style{em: b.m.Small, bold: true, fg: b.p.Accent, bg: b.p.Sunken}
	var items []block
	add := func(id string, facts []fact) {
		if len(facts) == 0 {
			return
		}
		if len(items) > 0 {
			items = append(items, space(1, b.m.Tight))
		}
		items = append(items, b.text(head, b.t(id), iw))
		for _, f := range facts {
			if f.name.w+b.m.Tight/2+f.value.w <= iw {
				items = append(items, b.row(0, b.wide(iw-f.value.w, f.name), f.value))
			} else {
				items = append(items, b.column(0, f.name, f.value))
			}
		}
	}
	add("menu.card", card)
	add("menu.apps", apps)
	return b.box(b.m.Pad, b.m.Pad, b.p.Sunken, b.p.Hairline, b.m.Border, b.column(b.m.Tight, items...))
}

// statusLines is the same in as few lines as it needs.
func (b *builder) statusLines(w int) block {
	iw := w - 2*b.m.Pad
	var lines, line []block
	used := 0
	for _, f := range append(b.cardState(iw), b.appStates(iw)...) {
		it := b.row(b.m.Tight, f.name, f.value)
		if it.w > iw {
			it = b.column(0, f.name, f.value)
		}
		if len(line) > 0 && used+2*b.m.Space+it.w > iw {
			lines = append(lines, b.row(2*b.m.Space, line...))
			line, used = nil, 0
		}
		if len(line) > 0 {
			used += 2 * b.m.Space
		}
		used += it.w
		line = append(line, it)
	}
	if len(line) == 0 {
		return block{}
	}
	lines = append(lines, b.row(2*b.m.Space, line...))
	return b.box(b.m.Pad, b.m.Tight, b.p.Sunken, b.p.Hairline, b.m.Border, b.wide(iw, b.column(b.m.Tight/2, lines...)))
}

// fact is a name and what holds for it.
type fact struct{ name, value block }

// fact measures a line of the state, with a tick or a warning where it is good or bad to know.
func (b *builder) fact(w int, name block, value string, sign icon) fact {
	st := style{em: b.m.Small, bold: true, fg: b.p.Ink, bg: b.p.Sunken}
	return fact{name, b.row(b.m.Tight/2, b.icon(sign, b.p.Ink, b.m.Small), b.text(st, value, w-b.m.Small-b.m.Tight))}
}

// cardState is the result of the check of the card (TAB_ADV_304, PL_TUC_EGK_STATUS).
func (b *builder) cardState(w int) []fact {
	c := b.u.view.Validity
	if c == nil {
		return nil
	}
	st := style{em: b.m.Small, fg: b.p.Ink, bg: b.p.Sunken}
	state, sign, online := "validity.card.ok", iconCheck, iconWarn
	switch {
	case !c.MathValid:
		state, sign = "validity.card.invalid", iconWarn
	case !c.TimeValid:
		state, sign = "validity.card.expired", iconWarn
	}
	if c.Online == "good" {
		online = iconCheck
	}
	return []fact{
		b.fact(w, b.text(st, b.t("validity.card"), w), b.t(state), sign),
		b.fact(w, b.text(st, b.t("validity.online"), w), b.t("validity.online."+c.Online), online),
	}
}

// appStates lists the applications of the card (TAB_ADV_304, last activity).
func (b *builder) appStates(w int) []fact {
	st := style{em: b.m.Small, fg: b.p.Ink, bg: b.p.Sunken}
	var out []fact
	for _, a := range b.u.view.Apps {
		name, state, sign := b.text(st, b.t("app."+a.App), w), b.t("app.state."+a.State), noIcon
		for _, g := range groups[1:] {
			if g.app == a.App {
				name = b.said(st, g.name, nil, w)
			}
		}
		if a.App == "hca" && (a.State == "available" || a.State == "hidden") {
			state = b.t("app.hca." + a.State)
		}
		switch {
		case a.State == "available":
			sign = iconCheck
		case a.App == "hca":
			sign = iconWarn
		}
		out = append(out, b.fact(w, name, state, sign))
	}
	return out
}
