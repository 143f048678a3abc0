package verify

import (
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// display shows how far a batch is: on a terminal one line that is drawn again, elsewhere a plain line now and then.
type display struct {
	w        io.Writer
	terminal bool
	progress *progress
	total    int64 // of the input, in octets or units; 0: not known
	began    int64 // position in the input at the start of this run
	before   int64 // units of earlier runs
	start    time.Time
	drawn    bool
	plain    time.Time // of the last plain line

	// waiting names a responder that the batch waits for, and until when; nil: it never waits.
	waiting func() (host string, until time.Time, ok bool)
}

const (
	drawEvery  = 250 * time.Millisecond
	plainEvery = 10 * time.Second
	barWidth   = 30
)

// tick draws, when it is time.
func (d *display) tick(now time.Time) {
	if d.terminal {
		fmt.Fprintf(d.w, "\r%s\x1b[K", d.line(now))
		d.drawn = true
		return
	}
	if now.Sub(d.plain) >= plainEvery {
		d.plain = now
		fmt.Fprintln(d.w, d.line(now))
	}
}

// end takes the bar away, so that what follows stands on a line of its own.
func (d *display) end() {
	if d.drawn {
		fmt.Fprint(d.w, "\r\x1b[K")
		d.drawn = false
	}
}

// line is for example
//
//	[##########····················]  33 %  120,000 checked  1,950/s  2m3s left
func (d *display) line(now time.Time) string {
	units, input := d.progress.reports.Load(), max(d.progress.input.Load(), d.began)
	took := now.Sub(d.start).Seconds()
	var rate, left float64
	known := false
	if took > 0 {
		rate = float64(units) / took
		if speed := float64(input-d.began) / took; speed > 0 && d.total > 0 {
			left, known = float64(d.total-input)/speed, true
		}
	}
	var b strings.Builder
	if d.total > 0 {
		share := min(float64(input)/float64(d.total), 1)
		full := int(share * barWidth)
		fmt.Fprintf(&b, "[%s%s] %3.0f %%  ", strings.Repeat("#", full), strings.Repeat("·", barWidth-full), share*100)
	}
	fmt.Fprintf(&b, "%s checked  %s/s", grouped(units+d.before), grouped(int64(rate)))
	if known { // not before a first unit is done
		fmt.Fprintf(&b, "  %s left", (time.Duration(max(left, 0)) * time.Second).String())
	}
	if d.waiting != nil {
		if host, until, ok := d.waiting(); ok {
			fmt.Fprintf(&b, "  waiting for %s until %s", host, until.Format(time.TimeOnly))
		}
	}
	return b.String()
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
