package verify

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"ktradv/server/erezept"
	"ktradv/server/status"
	"ktradv/server/trust"
)

// Exit statuses of the command, by the worst verdict.
const (
	ExitValid         = 0
	ExitFailed        = 1 // the program could not do its work
	ExitUsage         = 2
	ExitWarnings      = 3 // everything valid, some of it with warnings
	ExitIndeterminate = 4 // something could not be checked, nothing is invalid
	ExitInvalid       = 5 // something is invalid
	ExitInterrupted   = 6 // stopped before the end; -resume goes on
)

// exits maps verdicts to exit statuses.
var exits = map[erezept.Verdict]int{
	erezept.NotRun: ExitValid, erezept.Valid: ExitValid, erezept.Warning: ExitWarnings,
	erezept.Indeterminate: ExitIndeterminate, erezept.Invalid: ExitInvalid,
}

const usage = `adv-server verify checks the signatures of E-Rezept billing records.

usage:
  adv-server verify [flags] FILE|FOLDER ...       every record; cases by the names of files; - is the standard input
  adv-server verify [flags] -case FILE FILE FILE  the three records of one case
  adv-server verify [flags] -stream FILE          one case or record per line (NDJSON); - is the standard input
  adv-server verify -trust FOLDER -cross-anchor CA -cross-cert CERT -cross-tsl TSL    change of the trust space

examples:
  adv-server verify -trust /etc/adv-server/pki quittung.p7s
  adv-server verify -trust pki -report text -case verordnung.p7s abgabe.p7s quittung.p7s
  adv-server verify -trust pki -stream 2026-11.ndjson -out 2026-11.report.ndjson
  adv-server verify -trust pki -stream 2026-11.ndjson -out 2026-11.report.ndjson -resume
  zstdcat batch.zst | adv-server verify -trust pki -stream - -jobs 8 > report.ndjson

A line of a stream is {"id": "4711", "verordnung": BASE64, "abgabe": BASE64, "quittung": BASE64}, or names files:
{"id": "4711", "verordnung_file": "a.p7s", "abgabe_file": "b.p7s", "quittung_file": "c.p7s"}, or holds one record:
{"record": BASE64, "kind": "quittung"} or {"record_file": "c.p7s"}. Reports come in the order of the lines.

In a folder, files whose names differ only in the words verordnung, abgabe and quittung are one case; every other file is
a record on its own. Hidden files are passed over.

exit status:
  0  everything is valid               4  something could not be checked, nothing is invalid
  1  the program could not work        5  something is invalid
  2  wrong usage                       6  interrupted; with -out it can be resumed
  3  everything is valid, some of it with warnings

flags:
`

// Command is the command line of `adv-server verify`. It returns the exit status. The first end of ctx stops the intake: what was begun is
// finished, written and noted in the journal, but for what waits for a responder.
func Command(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &command{stdin: stdin, stdout: stdout, stderr: stderr, now: time.Now, every: time.Second}
	return c.run(ctx, args)
}

type command struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time
	every          time.Duration // between two journals
	trust          TrustOptions

	stream, out, report, kind, base, at string
	asCase, resume, quiet               bool
	jobs                                int
	args                                []string
}

func (c *command) fail(status int, err error) int {
	fmt.Fprintf(c.stderr, "adv-server verify: %v\n", err)
	return status
}

func (c *command) parse(args []string) error {
	flags := flag.NewFlagSet("adv-server verify", flag.ContinueOnError)
	flags.SetOutput(c.stderr)
	flags.Usage = func() {
		fmt.Fprint(c.stderr, usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&c.stream, "stream", "", "read one case or record per line from `file`; - is the standard input")
	flags.BoolVar(&c.asCase, "case", false, "the files are the records of one case; what each is is read from its content")
	flags.StringVar(&c.kind, "kind", "auto", "what single records must be: verordnung, abgabe, quittung, eau or auto")
	flags.StringVar(&c.base, "base", ".", "`folder` from which names of files in a stream start")
	flags.StringVar(&c.out, "out", "", "write the reports to `file`, with a journal beside it; the file must not be there yet")
	flags.BoolVar(&c.resume, "resume", false, "go on with an interrupted batch that writes to -out")
	flags.StringVar(&c.report, "report", "json", "form of the reports: json (one line each) or text (German)")
	flags.IntVar(&c.jobs, "jobs", runtime.GOMAXPROCS(0), "how many cases are checked at the same time, 1 to 1024")
	flags.BoolVar(&c.quiet, "quiet", false, "no progress and no summary on the standard error output")
	flags.StringVar(&c.at, "clock", "", "check as if it were this `time` (RFC 3339), for re-examining archived batches; stands in the reports")
	c.trust.flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	c.args = flags.Args()
	switch {
	case c.stream == "" && len(c.args) == 0 && !c.trust.crossing():
		return errors.New("name files, folders or a stream; see -help")
	case c.stream != "" && len(c.args) > 0:
		return fmt.Errorf("-stream and %q: either a stream or files", c.args[0])
	case c.stream != "" && c.asCase:
		return errors.New("-case is for files; a line of a stream says itself what it holds")
	case c.jobs < 1 || c.jobs > 1024:
		return fmt.Errorf("-jobs %d: want 1 to 1024", c.jobs)
	case Format(c.report) != JSON && Format(c.report) != Text:
		return fmt.Errorf("-report %q: want json or text", c.report)
	case c.resume && c.out == "":
		return errors.New("-resume goes on with the batch that writes to -out; name it")
	}
	k, err := erezept.ParseKind(c.kind)
	if err != nil {
		return fmt.Errorf("-kind: %w", err)
	}
	if k != erezept.Unknown && (c.stream != "" || c.asCase) {
		return errors.New("-kind is for files that are records on their own")
	}
	if c.at != "" {
		t, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			return fmt.Errorf("-clock %q: want a time such as 2026-11-22T10:00:00Z", c.at)
		}
		c.now = func() time.Time { return t }
	}
	return nil
}

func (c *command) run(ctx context.Context, args []string) int {
	if err := c.parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return ExitValid
		}
		return c.fail(ExitUsage, err)
	}
	var src source
	var stream *lines
	if c.stream != "" {
		in, size := c.stdin, int64(0)
		if c.stream != "-" {
			f, err := os.Open(c.stream)
			if err != nil {
				return c.fail(ExitFailed, err)
			}
			defer f.Close()
			if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
				size = st.Size()
			}
			in = f
		}
		stream = newLines(in, size)
		src = stream
	} else if len(c.args) > 0 {
		kind, _ := erezept.ParseKind(c.kind)
		s, err := newFiles(c.args, c.stdin, kind, c.asCase)
		if err != nil {
			return c.fail(ExitFailed, err)
		}
		src = s
	}
	opened, err := c.trust.Open(ctx, c.now, func(e trust.Event) {
		if !c.quiet {
			fmt.Fprintf(c.stderr, "%s: %s\n", e.Kind, e.Text)
		}
	})
	if err == nil && c.trust.Update {
		err = updateLists(ctx, opened.Updater)
	}
	if err != nil {
		return c.fail(ExitFailed, err)
	}
	if src == nil {
		return ExitValid
	}
	checker := opened.Checker
	checker.ClockSet = c.at != ""

	e := &Engine{Checker: checker, Format: Format(c.report), Jobs: c.jobs, Base: c.base, Files: true,
		Started: c.now().UTC().Truncate(time.Second)}
	var from mark
	to := io.Writer(c.stdout)
	after := func(mark) error { return nil }
	var out *output
	if c.out != "" {
		out, err = openOutput(c.out, c.settings(), c.resume, e.Started, c.every)
		if errors.Is(err, errComplete) {
			return c.summary(out.j.Counts, true, nil)
		}
		if err != nil {
			return c.fail(ExitFailed, err)
		}
		defer out.close()
		e.Started = out.j.Started
		if lists := checker.Space().Identity(); lists != out.j.Lists {
			if out.j.Lists != "" && !c.quiet {
				fmt.Fprintln(c.stderr, "the trust lists are not those that the batch was begun with; each report names the list it was made with")
			}
			out.j.Lists = lists
		}
		from = mark{units: out.j.Units, input: out.j.Input, crc: out.j.CRC, counts: out.j.Counts}
		if err := skip(src, from); err != nil {
			return c.fail(ExitFailed, err)
		}
		to, after = out, out.after
	}
	source, _ := checker.Status.(*status.Source)
	if source != nil {
		e.Wait = true
		defer context.AfterFunc(ctx, source.Hurry)()
	}
	stopShowing := c.show(e, src, from, source)
	reached, complete, err := e.run(ctx, src, to, from, after)
	if out != nil {
		err = errors.Join(err, out.save(reached, complete))
	}
	stopShowing()
	return c.summary(reached.counts, complete, err)
}

// settings are what must be the same when a batch goes on.
func (c *command) settings() settings {
	t := &c.trust
	s := settings{"report": c.report, "kind": c.kind, "case": fmt.Sprint(c.asCase), "stream": fmt.Sprint(c.stream != ""), "clock": c.at,
		"test-pki": fmt.Sprint(t.Test), "offline": fmt.Sprint(t.Offline), "archive": fmt.Sprint(t.Archive), "tsl-grace": t.Grace.String(),
		"ocsp-max-age": t.MaxAge.String(), "ocsp-require-nonce": fmt.Sprint(t.Status.RequireNonce), "network": t.Status.Network}
	if c.stream != "" {
		s["base"] = c.base
		if absolute, err := filepath.Abs(c.base); err == nil {
			s["base"] = absolute
		}
	}
	return s
}

// updateLists brings the archive up to date.
func updateLists(ctx context.Context, u *trust.Updater) error {
	if _, err := u.Update(ctx); err != nil {
		return fmt.Errorf("update TSL: %w", err)
	}
	if _, err := u.UpdateVL(ctx); err != nil {
		return fmt.Errorf("update trusted list: %w", err)
	}
	return nil
}

// skip passes over the part of the input that earlier runs did, and checks that it is the same input.
func skip(src source, from mark) error {
	if from.units == 0 {
		return nil
	}
	var crc uint32
	switch s := src.(type) {
	case *lines:
		var err error
		if crc, err = s.skip(from.input); err != nil {
			return err
		}
	case *files:
		var t task
		for s.units < from.units {
			if err := s.next(&t); err != nil {
				return fmt.Errorf("pass over what was done before: %w", err)
			}
		}
		crc = s.crc
	}
	if crc != from.crc {
		return errors.New("the input is not the one that the batch was begun with")
	}
	return nil
}

// show draws the progress until the returned function is called.
func (c *command) show(e *Engine, src source, from mark, statuses *status.Source) func() {
	if c.quiet {
		return func() {}
	}
	start := time.Now()
	d := &display{w: c.stderr, terminal: isTerminal(c.stderr), progress: &e.progress, total: src.total(), began: from.input,
		before: from.counts.Total(), start: start, plain: start}
	if statuses != nil {
		d.waiting = statuses.Waiting
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticks := time.NewTicker(drawEvery)
		defer ticks.Stop()
		for {
			select {
			case <-stop:
				d.end()
				return
			case now := <-ticks.C:
				d.tick(now)
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}

// summary says what came of it and returns the exit status.
func (c *command) summary(counts Counts, complete bool, err error) int {
	if err != nil {
		return c.fail(ExitFailed, err)
	}
	if !c.quiet {
		fmt.Fprintf(c.stderr, "%s checked: %s valid, %s valid with warnings, %s indeterminate, %s invalid\n",
			grouped(counts.Total()), grouped(counts[erezept.Valid]), grouped(counts[erezept.Warning]),
			grouped(counts[erezept.Indeterminate]), grouped(counts[erezept.Invalid]))
	}
	if !complete {
		if !c.quiet {
			fmt.Fprintln(c.stderr, "interrupted before the end of the input")
		}
		return ExitInterrupted
	}
	return exits[counts.Worst()]
}
