// Package service tells the staff how a terminal is: what the first process knows about network, clock, data partition,
// reader, kernel modules and services becomes a few stable codes. They stand in small letters on the screens of a terminal
// that serves nobody, and every one that comes or goes is an entry of the supervisor's error log.
//
// None of them keeps the terminal from serving: a session that cannot go on says so in words of its own.
package service

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"ktradv/internal/advlog"
	"ktradv/internal/initctl"
)

// ReaderUnsupported: a card reader is plugged in, but none that the configuration names.
const ReaderUnsupported = "READER-UNSUPPORTED"

// Note is one thing that may be wrong with a terminal.
type Note struct {
	// Code is shown and logged; the technician's handbook explains it.
	Code string
	log  advlog.Code
	// holds tells whether it is so.
	holds func(initctl.State) bool
	// grace is how long it may be so before it is worth a word: every boot begins without network and with a clock that
	// nobody has confirmed.
	grace time.Duration
	// more names what it is about, behind the code; nil where the code says all.
	more func(initctl.State) string
}

// settling is the grace for what comes into order by itself after power on, or when a cable is plugged again.
const settling = 20 * time.Second

// opening is the grace for the data partition, which is there a moment after the first picture.
const opening = 5 * time.Second

// asking is the grace for a time server that has not answered yet: the clock may be right all the same.
const asking = time.Minute

func givenUp(name string) func(initctl.State) bool {
	return func(s initctl.State) bool { return s.Services[name].State == initctl.ServiceGivenUp }
}

// Notes is the table, in the order in which codes are shown.
var Notes = []Note{
	{ReaderUnsupported, advlog.NewCode(11201, "READER-UNSUPPORTED"), func(s initctl.State) bool { return s.Reader == initctl.ReaderUnsupported }, 0, nil},
	{"READER-SEVERAL", advlog.NewCode(11202, "READER-SEVERAL"), func(s initctl.State) bool { return s.Reader == initctl.ReaderSeveral }, 0, nil},
	{"NETWORK-DOWN", advlog.NewCode(11211, "NETWORK-DOWN"), func(s initctl.State) bool { return s.Network == initctl.NetworkDown }, settling, nil},
	{"NETWORK-NO-ADDRESS", advlog.NewCode(11212, "NETWORK-NO-ADDRESS"), func(s initctl.State) bool { return s.Network == initctl.NetworkNoAddress }, settling, nil},
	{"CLOCK-WRONG", advlog.NewCode(11221, "CLOCK-WRONG"), func(s initctl.State) bool { return s.Clock == initctl.ClockWrong }, settling, nil},
	{"CLOCK-UNSET", advlog.NewCode(11222, "CLOCK-UNSET"), func(s initctl.State) bool { return s.Clock == initctl.ClockUnset }, asking, nil},
	{"DATA-OPENING", advlog.NewCode(11234, "DATA-OPENING"), func(s initctl.State) bool { return s.Data == initctl.DataOpening }, opening, nil},
	{"DATA-FULL", advlog.NewCode(11231, "DATA-FULL"), func(s initctl.State) bool { return s.Data == initctl.DataFull }, 0, nil},
	{"DATA-DAMAGED", advlog.NewCode(11232, "DATA-DAMAGED"), func(s initctl.State) bool { return s.Data == initctl.DataDamaged }, 0, nil},
	{"DATA-MISSING", advlog.NewCode(11233, "DATA-MISSING"), func(s initctl.State) bool { return s.Data == initctl.DataMissing }, 0, nil},
	{"MODULE-FAILED", advlog.NewCode(11241, "MODULE-FAILED"), func(s initctl.State) bool { return len(s.Modules) > 0 }, 0, failedModules},
	{"PCSCD-FAILED", advlog.NewCode(11251, "PCSCD-FAILED"), givenUp(initctl.PCSCD), 0, nil},
	{"USB-FAILED", advlog.NewCode(11252, "USB-FAILED"), givenUp("usb"), 0, nil},
	{"NETWORK-FAILED", advlog.NewCode(11253, "NETWORK-FAILED"), givenUp("network"), 0, nil},
	{"TIME-FAILED", advlog.NewCode(11254, "TIME-FAILED"), givenUp("time"), 0, nil},
	{"INIT-GONE", codeInitGone, func(initctl.State) bool { return false }, 0, nil},
}

// failedModules names the kernel modules that did not load: the first ones, and how many more there are.
func failedModules(s initctl.State) string {
	const most = 3
	names := strings.Join(s.Modules[:min(len(s.Modules), most)], " ")
	if n := len(s.Modules) - most; n > 0 {
		names += fmt.Sprintf(" +%d", n)
	}
	return names
}

// initGone is the code of a terminal whose first process does not speak any more.
const initGone = "INIT-GONE"

var codeInitGone = advlog.NewCode(11261, "INIT-GONE")

// Of gives the codes that hold for a state.
func Of(s initctl.State) (codes []string) {
	for _, n := range Notes {
		if n.holds(s) {
			codes = append(codes, n.Code)
		}
	}
	return codes
}

// shown are codes as the staff reads them: with what they are about.
func shown(codes []string, s initctl.State) []string {
	out := slices.Clone(codes)
	for i, c := range out {
		for _, n := range Notes {
			if n.Code == c && n.more != nil {
				out[i] += " " + n.more(s)
			}
		}
	}
	return out
}

// Source is the first process, as initctl.Client knows it.
type Source interface {
	// State is the newest state, and a channel that is closed when there is a newer one or the conversation ends.
	State() (initctl.State, <-chan struct{})
	// Err is why the conversation ended, nil while it goes on.
	Err() error
}

// Watch follows the state. Make it with New and let Run run.
type Watch struct {
	source Source
	log    *advlog.Log          // Run's
	since  map[string]time.Time // when a code began to hold

	mu      sync.Mutex
	codes   []string
	shown   []string // codes with what they are about
	changed chan struct{}
}

// New returns a watch that knows what holds from the start.
func New(source Source) *Watch {
	w := &Watch{source: source, changed: make(chan struct{}), since: make(map[string]time.Time)}
	state, _ := source.State()
	w.codes, _ = w.due(Of(state))
	w.shown = shown(w.codes, state)
	return w
}

// Codes are the present codes, each with what it is about where the code alone does not say that ("MODULE-FAILED 8021q"), and
// a channel that is closed when there are others.
func (w *Watch) Codes() ([]string, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.shown), w.changed
}

// Run follows the state until ctx or the conversation ends, and logs what holds at the start, comes and goes.
func (w *Watch) Run(ctx context.Context, log *advlog.Log) {
	w.log = log
	w.note(ctx, nil, w.codes)
	for {
		state, changed := w.source.State()
		codes, gone := Of(state), w.source.Err() != nil
		if gone {
			codes = append(codes, initGone)
		}
		codes, wait := w.due(codes)
		w.set(ctx, codes, shown(codes, state))
		if gone {
			return
		}
		var later <-chan time.Time
		if wait > 0 {
			later = time.After(wait)
		}
		select {
		case <-changed:
		case <-later:
		case <-ctx.Done():
			return
		}
	}
}

// due gives those of the codes that have held for their grace, and after what time there are more; 0 for none. Only one
// goroutine calls it at a time.
func (w *Watch) due(codes []string) (now []string, wait time.Duration) {
	for _, n := range Notes {
		if !slices.Contains(codes, n.Code) {
			delete(w.since, n.Code)
			continue
		}
		since, known := w.since[n.Code]
		if !known {
			since = time.Now()
			w.since[n.Code] = since
		}
		left := n.grace - time.Since(since)
		switch {
		case left <= 0:
			now = append(now, n.Code)
		case wait == 0 || left < wait:
			wait = left
		}
	}
	return now, wait
}

func (w *Watch) set(ctx context.Context, codes, shown []string) {
	w.mu.Lock()
	before := w.codes
	same := slices.Equal(w.shown, shown)
	if !same {
		w.codes, w.shown = codes, shown
		close(w.changed)
		w.changed = make(chan struct{})
	}
	w.mu.Unlock()
	if !same {
		w.note(ctx, before, codes)
	}
}

// note logs what came and what went.
func (w *Watch) note(ctx context.Context, before, now []string) {
	for _, n := range Notes {
		was, is := slices.Contains(before, n.Code), slices.Contains(now, n.Code)
		ev := advlog.ErrorEvent{Code: n.log, Name: advlog.L("terminal.state")}
		switch {
		case is && !was:
			ev.Severity, ev.Result = advlog.Warning, advlog.L("began")
		case was && !is:
			ev.Severity, ev.Result = advlog.Info, advlog.L("ended")
		default:
			continue
		}
		w.log.Error(ctx, ev)
	}
}
