// Package verify checks E-Rezept billing records in bulk and one by one: the batch engine behind `adv-server verify`, with
// streams, folders, ordered output and resumption, and the service form of the same check over gRPC and HTTP.
//
// An [Engine] takes units (cases, single records, or containers with several cases) from an input, has them checked by several
// workers and writes their reports in the order of the input. What it holds is bounded by the number of workers, whatever the
// input is. [Command] is the
// command line.
package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"ktradv/server/erezept"
	"ktradv/server/status"
)

// Checker checks records; *erezept.Checker is one. It hands over one report, or several when one input holds several cases. It
// must be safe for concurrent use.
type Checker interface {
	CheckEach(ctx context.Context, in *erezept.Case, emit func(*erezept.CaseReport))
}

// Format is the form of reports.
type Format string

// The formats.
const (
	JSON Format = "json" // one object per line
	Text Format = "text" // German, for a clerk
)

// append adds the report in this form.
func (f Format) append(out []byte, r *erezept.CaseReport) ([]byte, error) {
	if f == Text {
		return append(append(out, r.Text()...), '\n'), nil
	}
	return r.AppendJSON(out)
}

// Counts are numbers of reports by verdict.
type Counts [erezept.Invalid + 1]int64

// Worst is the worst verdict among the reports, NotRun without any.
func (c *Counts) Worst() erezept.Verdict {
	for v := erezept.Invalid; v > erezept.NotRun; v-- {
		if c[v] > 0 {
			return v
		}
	}
	return erezept.NotRun
}

// Total is the number of reports.
func (c *Counts) Total() int64 {
	var n int64
	for _, v := range c {
		n += v
	}
	return n
}

func (c *Counts) add(more *Counts) {
	for v, n := range more {
		c[v] += n
	}
}

// Engine runs a batch.
type Engine struct {
	Checker Checker
	Format  Format
	Jobs    int    // units at the same time; at least 1
	Base    string // folder from which names of files in a stream start
	Files   bool   // a stream may name files
	Archive bool   // status answers stand in the reports
	// Wait says that questions about statuses may wait for a responder and may be interrupted (see status.Source.Hurry). A unit
	// to which that happened is not done, and nothing behind it.
	Wait    bool
	Started time.Time // stands in the reports as the time of the check, so that a resumed batch gives the same ones

	progress progress
}

// progress is what a display reads while the batch runs.
type progress struct {
	reports atomic.Int64 // written in this run
	input   atomic.Int64 // position in the input
}

// task is a piece of work on its way through the engine. Tasks and their buffers are used again.
type task struct {
	line    []byte
	tooLong bool
	parts   []part
	asCase  bool
	number  int64  // of the unit in the input, from 1
	end     int64  // position in the input behind the unit
	crc     uint32 // of the input up to end

	unit   Unit
	out    []byte
	counts Counts // of the reports in out
	err    error
	cut    *atomic.Bool  // a question was interrupted; nil: it cannot be
	done   chan bool     // false: out is full and is to be written, then the worker goes on; true: the unit is done
	next   chan struct{} // goes on
}

// full is how much of a unit's reports is held before it is written.
const full = 256 << 10

// mark is a place up to which the batch is done.
type mark struct {
	units, input int64
	crc          uint32
	counts       Counts
}

// Run checks a stream: one unit per line of in (see [Unit.ParseLine]), its reports to out, in the same order. When ctx ends it
// finishes what was begun and returns the error of ctx.
func (e *Engine) Run(ctx context.Context, in io.Reader, out io.Writer) (Counts, error) {
	m, complete, err := e.run(ctx, newLines(in, 0), out, mark{}, func(mark) error { return nil })
	if err == nil && !complete {
		err = ctx.Err()
	}
	return m.counts, err
}

// run takes units from src until its end or until ctx ends, and writes their reports to w in order. ctx ending stops the intake
// only: units that were begun are finished and written. after is called behind each report with the place reached. It returns the
// place reached and whether the input was read to its end.
func (e *Engine) run(ctx context.Context, src source, w io.Writer, from mark, after func(mark) error) (mark, bool, error) {
	jobs := max(e.Jobs, 1)
	window := 2*jobs + 2
	free := make(chan *task, window)
	for range window {
		free <- &task{done: make(chan bool, 1), next: make(chan struct{})}
	}
	work := make(chan *task, window)
	order := make(chan *task, window)
	// Work that was begun is finished even when ctx has ended; quit ends it when the output has failed.
	quit, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	var workers sync.WaitGroup
	for range jobs {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for t := range work {
				e.do(quit, t)
				t.done <- true
			}
		}()
	}
	// The reader may hang in a read that nothing can interrupt, so nobody waits for it.
	type got struct {
		t   *task
		err error
	}
	read := make(chan got)
	go func() {
		for number := from.units + 1; ; number++ {
			var t *task
			select {
			case <-quit.Done():
				return
			case t = <-free:
			}
			t.number, t.parts, t.line = number, nil, t.line[:0]
			err := src.next(t)
			select {
			case <-quit.Done():
				return
			case read <- got{t, err}:
			}
			if err != nil {
				return
			}
		}
	}()
	var readErr error
	complete := false
	go func() {
		defer close(order)
		defer close(work)
		for {
			if ctx.Err() != nil {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-quit.Done():
				return
			case g := <-read:
				switch {
				case errors.Is(g.err, io.EOF):
					complete = true
					return
				case g.err != nil:
					readErr = fmt.Errorf("read input: %w", g.err)
					return
				}
				order <- g.t
				work <- g.t
			}
		}
	}()

	at := from
	var failed error
	for t := range order {
		var counts Counts // of the unit
		// The workers have taken every unit before this one, so that they never wait for each other.
		for done := false; !done; {
			done = <-t.done
			if failed == nil {
				failed = t.err
			}
			if failed == nil && t.cut != nil && t.cut.Load() {
				failed = errCut
			}
			if failed == nil {
				if _, err := w.Write(t.out); err != nil {
					failed = fmt.Errorf("write report: %w", err)
				}
			}
			if failed == nil {
				counts.add(&t.counts)
				e.progress.reports.Add(t.counts.Total())
			} else {
				cancel()
			}
			if !done {
				t.next <- struct{}{}
			}
		}
		if failed == nil {
			at.units, at.input, at.crc = t.number, t.end, t.crc
			at.counts.add(&counts)
			e.progress.input.Store(t.end)
			failed = after(at)
		}
		if failed != nil {
			cancel()
		}
		t.trim()
		free <- t
	}
	workers.Wait()
	if failed == nil {
		failed = readErr
	}
	if failed == errCut {
		return at, false, nil
	}
	return at, complete && failed == nil, failed
}

// errCut ends a batch before a unit whose check was interrupted.
var errCut = errors.New("interrupted")

// trim lets go of buffers of unusual size.
func (t *task) trim() {
	if cap(t.line) > keep {
		t.line = nil
	}
	if cap(t.out) > keep {
		t.out = nil
	}
}

// do checks one unit and makes its reports.
func (e *Engine) do(ctx context.Context, t *task) {
	t.out, t.counts, t.err = t.out[:0], Counts{}, nil
	if e.Wait {
		ctx, t.cut = status.WithInterrupted(ctx)
	}
	e.check(ctx, t, func(r *erezept.CaseReport) {
		if len(t.out) >= full {
			t.done <- false
			<-t.next
			t.out, t.counts = t.out[:0], Counts{}
		}
		r.CheckedAt = e.Started
		var err error
		if t.out, err = e.Format.append(t.out, r); err != nil && t.err == nil {
			t.err = err
		}
		t.counts[r.Verdict]++
	})
}

func (e *Engine) check(ctx context.Context, t *task, emit func(*erezept.CaseReport)) {
	u := &t.unit
	switch {
	case t.tooLong:
		u.reset()
		emit(erezept.Unreadable(fmt.Sprintf("line %d", t.number), erezept.CodeTooLarge, "line longer than %d octets", MaxLine))
		return
	case t.parts != nil:
		u.reset()
		u.parts = append(u.parts, t.parts...)
		u.Case = t.asCase
		u.ID = t.parts[0].path
	default:
		if err := u.ParseLine(t.line, e.Files); err != nil {
			emit(erezept.Unreadable(fmt.Sprintf("line %d", t.number), erezept.CodeInput, "%v", err))
			return
		}
	}
	if u.ID == "" {
		u.ID = fmt.Sprintf("line %d", t.number)
	}
	if err := u.load(e.Base); err != nil {
		emit(erezept.Unreadable(u.ID, erezept.CodeInput, "%v", err))
		return
	}
	u.archive = e.Archive
	u.check(ctx, e.Checker, emit)
}

// check has the unit, whose records are in memory, checked.
func (u *Unit) check(ctx context.Context, c Checker, emit func(*erezept.CaseReport)) {
	in := erezept.Case{ID: u.ID, Single: !u.Case, FHIR: u.Outcome, Archive: u.archive}
	for _, p := range u.parts {
		in.Records = append(in.Records, erezept.Given{Kind: p.kind, Data: p.data, Large: p.large})
	}
	c.CheckEach(ctx, &in, emit)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func update(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }

// MarshalJSON writes the counts by the names of verdicts.
func (c Counts) MarshalJSON() ([]byte, error) {
	m := map[string]int64{}
	for v, n := range c {
		if n > 0 {
			m[erezept.Verdict(v).String()] = n
		}
	}
	return json.Marshal(m)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (c *Counts) UnmarshalJSON(b []byte) error {
	m := map[erezept.Verdict]int64{}
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	*c = Counts{}
	for v, n := range m {
		if n < 0 {
			return fmt.Errorf("count of %s: %d", v, n)
		}
		c[v] = n
	}
	return nil
}
