package ui

import (
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
		choices := func(w int) block {
			var above block
			if hint != "" {
				above = b.said(b.small(), hint, nil, w)
			}
			switch {
			case len(v.Menu) == 0:
				return b.text(b.lead(), b.t("menu.none"), w)
			case divided && b.u.group == "":
				return b.column(b.m.Space, above, b.groupButtons(w))
			}
			return b.column(b.m.Space, above, b.itemButtons(w, items))
		}
		notices := b.notices(w, v.Notices)
		free := h
		if notices.draw != nil {
			free -= notices.h + b.m.Space
		}
		if b.u.group != "" {
			return b.column(b.m.Space, notices, choices(w))
		}
		if !b.portrait() {
			sw := w * 34 / 100
			side := b.status(sw)
			main := choices(w - sw - b.m.Space)
			if beside := b.top(b.m.Space, b.wide(w-sw-b.m.Space, main), side); beside.h <= free || h > 1<<19 && b.m.Size == 0 {
				return b.column(b.m.Space, notices, beside)
			}
		}
		return b.column(b.m.Space, notices, choices(w), b.status(w))
	}
	b.frame(pg)
}

// itemButtons are the use cases, in two columns when there are many. The hints that explain them stand with them as long
// as there are few.
func (b *builder) itemButtons(w int, items []view.MenuItem) block {
	columns := 1
	if len(items) > 3 && !b.portrait() {
		columns = 2
	}
	cw := (w - (columns-1)*b.m.Gap) / columns
	buttons := make([]block, len(items))
	for i, it := range items {
		hint := it.Hint
		if len(items) > 3 {
			hint = ""
		}
		buttons[i] = b.choice("use:"+it.UseCase, it.Name, hint, cw, func(u *UI) { u.send(it.UseCase) })
	}
	return b.grid(columns, buttons)
}

// groupButtons open a section of a menu that has more than fits one screen.
func (b *builder) groupButtons(w int) block {
	var buttons []block
	for _, g := range groups {
		for _, it := range b.u.view.Menu {
			if groupOf(it.App) == g.app {
				buttons = append(buttons, b.choice("group:"+g.app, g.name, "", w, func(u *UI) { u.group, u.scroll = g.app, 0 }))
				break
			}
		}
	}
	return b.grid(1, buttons)
}

// choice is one big button with a name, which may be prescribed, and perhaps a hint.
func (b *builder) choice(id, nameID, hintID string, w int, action func(*UI)) block {
	fg, bg, _ := b.buttonColours(choice)
	sign := b.m.Lead
	tw := w - 3*b.m.Pad - sign
	name := b.said(style{em: b.m.Lead, bold: true, fg: fg, bg: bg}, nameID, nil, tw)
	var hint block
	if hintID != "" {
		hint = b.said(style{em: b.m.Small, fg: b.p.Muted, bg: bg}, hintID, nil, tw)
	}
	words := b.wide(tw, b.column(b.m.Tight, name, hint))
	inner := b.row(b.m.Pad, words, b.icon(iconNext, b.p.Accent, sign))
	return b.press(id, b.t(nameID), choice, w, 0, inner, true, action)
}

// grid sets buttons in columns, the lines as high as their highest button.
func (b *builder) grid(columns int, buttons []block) block {
	var lines []block
	for len(buttons) > 0 {
		n := min(columns, len(buttons))
		lines = append(lines, b.top(b.m.Gap, buttons[:n]...))
		buttons = buttons[n:]
	}
	return b.column(b.m.Gap, lines...)
}

// status is the side panel: what the check of the card gave and which applications it holds.
func (b *builder) status(w int) block {
	v := &b.u.view
	iw := w - 2*b.m.Pad
	st := style{em: b.m.Small, fg: b.p.Ink, bg: b.p.Sunken}
	head := style{em: b.m.Small, bold: true, fg: b.p.Accent, bg: b.p.Sunken}
	if v.Validity == nil && len(v.Apps) == 0 {
		return block{}
	}
	pair := func(name block, value string, good bool) block {
		sign := iconCheck
		if !good {
			sign = iconWarn
		}
		mark := b.icon(sign, b.p.Ink, b.m.Small)
		val := b.row(b.m.Tight/2, mark, b.text(st.strong(), value, iw-b.m.Small-b.m.Tight))
		if name.w+b.m.Tight+val.w <= iw {
			return b.row(0, b.wide(iw-val.w, name), val)
		}
		return b.column(0, name, val)
	}
	var items []block
	if c := v.Validity; c != nil {
		state := "validity.card.ok"
		switch {
		case !c.MathValid:
			state = "validity.card.invalid"
		case !c.TimeValid:
			state = "validity.card.expired"
		}
		items = append(items, b.text(head, b.t("menu.card"), iw),
			pair(b.text(st, b.t("validity.card"), iw), b.t(state), c.MathValid && c.TimeValid),
			pair(b.text(st, b.t("validity.online"), iw), b.t("validity.online."+c.Online), c.Online == "good"))
	}
	if len(v.Apps) > 0 {
		if len(items) > 0 {
			items = append(items, space(1, b.m.Tight))
		}
		items = append(items, b.text(head, b.t("menu.apps"), iw))
		for _, a := range v.Apps {
			name := b.text(st, b.t("app.hca"), iw)
			state := b.t("app.state." + a.State)
			for _, g := range groups[1:] {
				if g.app == a.App {
					name = b.said(st, g.name, nil, iw)
				}
			}
			if a.App == "hca" && (a.State == "available" || a.State == "hidden") {
				state = b.t("app.hca." + a.State)
			}
			items = append(items, pair(name, state, a.State == "available"))
		}
	}
	return b.box(b.m.Pad, b.m.Pad, b.p.Sunken, b.p.Hairline, b.m.Border, b.column(b.m.Tight, items...))
}
