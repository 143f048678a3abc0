package ui

import (
	"cmp"
	"strconv"
	"strings"

	"ktradv/internal/terminal"
)

// fault lists for the technician why the terminal cannot serve. Nobody else is asked to do anything: the heading says that
// the terminal is out of order. What and how to mend it comes in the words of those who found it.
func (b *builder) fault() {
	f := b.u.view.Fault
	if f == nil {
		b.outOfOrder()
		return
	}
	lead := b.arg("fault."+string(f.Cause), map[string]string{"n": strconv.Itoa(f.Total)})
	if len(f.Problems) < f.Total {
		lead += " " + b.arg("fault.part", map[string]string{"a": strconv.Itoa(f.First + 1), "b": strconv.Itoa(f.First + len(f.Problems))})
	}
	b.frame(page{
		title: b.heading("out_of_order.title"), lead: b.text(b.body(), lead, b.inner()),
		body: func(w, h int) block {
			var items []block
			for _, p := range f.Problems {
				items = append(items, b.mistake(w, p))
			}
			var facts []string
			for _, x := range f.Facts {
				facts = append(facts, x.Name+" "+x.Value)
			}
			if len(facts) > 0 {
				st := b.small()
				st.free = true
				items = append(items, b.text(st, strings.Join(facts, " · "), w))
			}
			return b.column(b.space(), items...)
		},
	})
}

// mistake is one problem: where, what, and what mends it.
func (b *builder) mistake(w int, p terminal.Problem) block {
	iw := w - 2*b.m.Pad
	small := style{em: b.m.Small, fg: b.p.Muted, bg: b.p.Surface, free: true}
	place := b.text(small.strong().coloured(b.p.Accent), cmp.Or(p.Key, p.File), iw)
	if p.Key != "" {
		if file := b.text(small, p.File, iw); place.w+b.m.Space+file.w <= iw {
			place = b.row(b.m.Space, place, file)
		} else {
			place = b.column(0, place, file)
		}
	}
	return b.box(b.m.Pad, b.m.Tight, b.p.Surface, b.p.Hairline, b.m.Border, b.wide(iw, b.column(0, place,
		b.text(small.coloured(b.p.Ink), p.What, iw),
		b.text(small.coloured(b.p.Ink), b.arg("fault.fix", map[string]string{"fix": p.Fix}), iw))))
}
