package ui

import (
	"fmt"
	"image"
	"strconv"
	"time"

	"gioui.org/op/clip"
	"gioui.org/op/paint"

	"ktradv/kiosk/view"
)

// data shows everything that the card holds about the insured person, with labels that a patient understands.
func (b *builder) data() {
	v := &b.u.view
	var lead block
	if len(v.Data) > 0 {
		lead = b.sentence("data.text")
	}
	b.frame(page{
		title: b.heading("data.title"), lead: lead, long: true,
		body: func(w, h int) block {
			items := []block{b.notices(w, v.Notices)}
			lw := b.labelW(w - 2*b.m.Pad)
			for _, s := range v.Data {
				items = append(items, b.section(w, lw, s))
			}
			return b.column(b.m.Space, items...)
		},
	})
}

// section is a card with a heading and rows.
func (b *builder) section(w, lw int, s view.Section) block {
	iw := w - 2*b.m.Pad
	items := []block{b.text(style{em: b.m.Lead, bold: true, fg: b.p.Accent, bg: b.p.Surface}, b.t(s.Title), iw)}
	for _, r := range s.Rows {
		items = append(items, b.line(iw), b.dataRow(iw, lw, r))
	}
	return b.box(b.m.Pad, b.m.Pad, b.p.Surface, b.p.Hairline, b.m.Border, b.column(b.m.Tight, items...))
}

// line separates rows.
func (b *builder) line(w int) block {
	return block{w: w, h: 2, draw: func(at image.Point) {
		paint.FillShape(b.ops, b.p.Hairline, clip.Rect{Min: at, Max: at.Add(image.Pt(w, 2))}.Op())
	}}
}

// labelW is the width of the column of labels in rows of width w: wide enough for the longest word, 0 when the values
// would get too little room, so that they stand under their labels.
func (b *builder) labelW(w int) int {
	lw := min(w*38/100, b.m.Small*16)
	for _, s := range b.u.view.Data {
		for _, r := range s.Rows {
			if r.Label != "" {
				lw = max(lw, b.word(style{em: b.m.Small}, b.t(r.Label)))
			}
		}
	}
	if lw > w/2 {
		return 0
	}
	return lw
}

// dataRow is a label and a value, side by side where there is room.
func (b *builder) dataRow(w, lw int, r view.Row) block {
	label := r.LabelText.Reveal()
	if r.Label != "" {
		label = b.t(r.Label)
	} else if r.Kind != view.Title {
		label = b.arg("data.element", map[string]string{"name": label})
	}
	small := style{em: b.m.Small, fg: b.p.Muted, bg: b.p.Surface, free: r.Label == ""}
	st := style{em: b.m.Body, fg: b.p.Ink, bg: b.p.Surface, free: true}
	if r.Kind == view.Title {
		if v := r.Value.Reveal(); v != "" {
			label = v
		}
		return b.text(st.strong(), label, w)
	}
	value := b.value(r)
	if lw == 0 {
		return b.column(0, b.text(small, label, w), b.text(st, value, w))
	}
	// The first lines of both stand on one base line.
	name, val := b.text(small, label, lw), b.text(st, value, w-lw-b.m.Pad)
	return b.top(b.m.Pad, b.wide(lw, b.column(0, space(1, max(0, val.base-name.base)), name)), val)
}

// value writes a row's value in the chosen language. This is where personal data leaves its type.
func (b *builder) value(r view.Row) string {
	s := r.Value.Reveal()
	switch r.Kind {
	case view.Date:
		return b.date(s)
	case view.Time:
		if r.At.IsZero() {
			return b.t("data.unknown")
		}
		return b.instant(r.At)
	case view.Code:
		if r.ValueID != "" {
			return b.t(r.ValueID)
		}
		return b.arg("data.code", map[string]string{"code": s})
	}
	if s == "" {
		return b.t("data.unknown")
	}
	return s
}

// date writes YYYYMMDD, whose month and day may be 00 for unknown. What is no date is shown as it is.
func (b *builder) date(s string) string {
	if len(s) != 8 {
		return orUnknown(b, s)
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return orUnknown(b, s)
	}
	year, month, day := n/10000, n/100%100, n%100
	if year == 0 || month > 12 || day > 31 {
		return orUnknown(b, s)
	}
	switch {
	case month == 0:
		return b.format("format.year", year, 1, 1)
	case day == 0:
		return b.format("format.month", year, month, 1)
	}
	return b.format("format.date", year, month, day)
}

func orUnknown(b *builder, s string) string {
	if s == "" || s == "00000000" {
		return b.t("data.unknown")
	}
	return s
}

func (b *builder) format(id string, year, month, day int) string {
	return b.arg(id, map[string]string{
		"yyyy": fmt.Sprintf("%04d", year), "mm": fmt.Sprintf("%02d", month), "dd": fmt.Sprintf("%02d", day),
		"d": strconv.Itoa(day), "month": b.t("month." + strconv.Itoa(month)),
	})
}

// instant writes a moment in German local time.
func (b *builder) instant(t time.Time) string {
	t = b.local(t)
	return b.arg("format.time", map[string]string{
		"date": b.format("format.date", t.Year(), int(t.Month()), t.Day()),
		"HH":   fmt.Sprintf("%02d", t.Hour()), "MM": fmt.Sprintf("%02d", t.Minute()),
	})
}
