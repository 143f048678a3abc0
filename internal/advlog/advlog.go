// Package advlog writes the logs of gemSpec_KTR-AdV chapter 5.2 for app and server alike: five streams (error, flow,
// performance, debug, security) as NDJSON, one object per line, with the field names of [Entry].
//
// What may stand in a log is decided by types, not by care. A caller can pass numbers, durations, flags and [Label]
// values, and a Label is made from a constant of the program only: text that came from a card, a person or the network does
// not compile. Names of kernel modules are those of the image ([Module]). The one exception is the ICCSN, which [ErrorEvent]
// alone accepts, for card-related errors (AdV-A_2424), and which leaves every file, rotated ones included, before it is
// 180 days old (AdV-A_2426).
//
//	stream       file                      holds                                          requirement
//	-----------  ------------------------  ---------------------------------------------  -------------------
//	error        <component>-error.log     local and remote errors, from Config.Level on  AdV-A_2422 .. 2424
//	flow         <component>-flow.log      each operation: start, end, name, result       AdV-A_2428, 2429
//	performance  <component>-performance.log  execution times                             AdV-A_2430, 2431
//	debug        <component>-debug.log     test operation only                            AdV-A_2432, 2433
//	security     <component>-security.log  security relevant events                       AdV-A_2434, 2435
//
// All entries of one operation carry the same operation id along the call chain and across all logs (AdV-A_2440,
// AdV-A_2441): [WithOperation] puts it into the context, every method takes it from there.
//
// A log is off unless Config.Enabled is set (AdV-A_2437): then nothing is created and nothing is written. A nil *Log is a
// log that is off. Directory and files belong to their owner alone (modes 0700 and 0600; AdV-A_2442, AdV-A_2443).
//
// Logging never holds up the program: entries go through a bounded queue to one goroutine; what does not fit, or what a
// full or broken disk refuses, is counted and reported by the next entry that succeeds ("log.dropped"). Several processes
// may write to the same directory (the kiosk has a process per insured person): each batch is appended under a file lock,
// and no file stays open between batches.
package advlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Stream is one of the five logs.
type Stream uint8

// The streams.
const (
	StreamError Stream = iota
	StreamFlow
	StreamPerformance
	StreamDebug
	StreamSecurity
	streams // how many there are
)

// streamTable: name in file names and in the field "log", and the share of Config.MaxBytes in percent. A flood in one
// stream cannot push out another one.
var streamTable = [streams]struct {
	name  string
	share int64
}{
	StreamError:       {"error", 40},
	StreamFlow:        {"flow", 30},
	StreamPerformance: {"performance", 10},
	StreamDebug:       {"debug", 10},
	StreamSecurity:    {"security", 10},
}

func (s Stream) String() string {
	if s < streams {
		return streamTable[s].name
	}
	return "unknown"
}

// Severity orders the entries of the error stream (gemSpec_OM).
type Severity int

// The severities; Debug is for test operation only.
const (
	Debug   = Severity(slog.LevelDebug)
	Info    = Severity(slog.LevelInfo)
	Warning = Severity(slog.LevelWarn)
	Error   = Severity(slog.LevelError)
	Fatal   = Severity(slog.LevelError + 4)
)

func (s Severity) String() string {
	switch {
	case s >= Fatal:
		return "Fatal"
	case s >= Error:
		return "Error"
	case s >= Warning:
		return "Warning"
	case s >= Info:
		return "Info"
	default:
		return "Debug"
	}
}

// ParseSeverity reads a severity as configuration files spell it: debug, info, warning, error or fatal.
func ParseSeverity(s string) (Severity, error) {
	switch s {
	case "debug":
		return Debug, nil
	case "info":
		return Info, nil
	case "warning":
		return Warning, nil
	case "error":
		return Error, nil
	case "fatal":
		return Fatal, nil
	}
	return 0, fmt.Errorf("log level %q: want debug, info, warning, error or fatal", s)
}

// Component is the program that writes; it stands in file names and entries.
type Component uint8

// The components.
const (
	App        Component = iota + 1 // a session process of the kiosk
	Supervisor                      // the kiosk's supervisor process
	Server                          // adv-server
	Init                            // adv-init, the terminal's first process
)

func (c Component) String() string {
	switch c {
	case App:
		return "adv-app"
	case Supervisor:
		return "adv-supervisor"
	case Server:
		return "adv-server"
	case Init:
		return "adv-init"
	}
	return ""
}

// Defaults of [Config].
const (
	DefaultMaxBytes  = 64 << 20
	DefaultMaxAge    = 24 * time.Hour
	DefaultRetention = 180 * 24 * time.Hour
	// MinMaxBytes is the smallest total that leaves each stream room for files that hold something.
	MinMaxBytes = 1 << 20
)

// ICCSNAge is the longest time that a card number stays in a log (AdV-A_2426). The job that removes it works with
// iccsnMargin to spare, so that it is never late while the program runs.
const (
	ICCSNAge      = 180 * 24 * time.Hour
	iccsnMargin   = 24 * time.Hour
	maintainEvery = time.Hour
)

const (
	queueLen  = 1024
	maxLine   = 4096 // bytes of one entry; events are far smaller by construction
	fileParts = 8    // a stream's budget is spent on this many files
)

// Config says where and how much to log.
type Config struct {
	// Dir is the log directory; it is created with mode 0700.
	Dir string
	// Component writes the entries.
	Component Component
	// Enabled switches logging on. False is the default: nothing is created (AdV-A_2437).
	Enabled bool
	// TestMode allows the debug stream and severity Debug (AdV-A_2432, AdV-A_2433). Never set in production.
	TestMode bool
	// Level is the lowest severity that the error stream keeps (AdV-A_2438, AdV-A_2439). Zero is Info.
	Level Severity
	// MaxBytes bounds what all files of this component occupy together, working copies included. 0 means
	// DefaultMaxBytes; less than MinMaxBytes is refused.
	MaxBytes int64
	// MaxAge rotates a file when its oldest entry is older. 0 means DefaultMaxAge.
	MaxAge time.Duration
	// Retention deletes a rotated file when its newest entry is older. 0 means DefaultRetention.
	Retention time.Duration
	// Clock is the time; nil means time.Now.
	Clock func() time.Time
	// Rand makes event ids; nil means crypto/rand.
	Rand io.Reader

	// open replaces the file that a batch is appended to; tests simulate a full disk with it.
	open func(name string) (appendFile, error)
}

// Log is an open set of streams. Its methods may be called from several goroutines. A nil Log is off.
type Log struct {
	cfg     Config
	level   atomic.Int64
	dropped atomic.Uint64 // total, never reset

	mu       sync.Mutex // guards buf, handlers and sending on queue against Close
	buf      bytes.Buffer
	handlers [streams]slog.Handler
	closed   bool

	queue chan item
	done  chan struct{}
	files *files
}

type item struct {
	stream Stream
	line   []byte
	flush  chan struct{} // closed when everything before it has been handled
	force  bool          // run the maintenance now
}

// Open prepares the directory, removes card numbers that are too old and starts the writer. A log that is off is returned
// for a Config that does not enable it.
func Open(cfg Config) (*Log, error) {
	if !cfg.Enabled {
		return nil, nil
	}
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &Log{cfg: cfg, queue: make(chan item, queueLen), done: make(chan struct{})}
	l.level.Store(int64(cfg.Level))
	for s := range streams {
		l.handlers[s] = slog.NewJSONHandler(&l.buf, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: fieldNames})
	}
	f, err := openFiles(cfg)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l.files = f
	go l.run()
	return l, nil
}

// complete checks a configuration and fills in what is left out.
func (cfg *Config) complete() error {
	if cfg.Component.String() == "" {
		return errors.New("no component given")
	}
	if cfg.Dir == "" {
		return errors.New("no directory given")
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	if cfg.MaxBytes < MinMaxBytes {
		return fmt.Errorf("bound of %d bytes is below the minimum of %d", cfg.MaxBytes, MinMaxBytes)
	}
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = DefaultMaxAge
	}
	if cfg.Retention <= 0 {
		cfg.Retention = DefaultRetention
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.open == nil {
		cfg.open = openAppend
	}
	return nil
}

// SetLevel changes the lowest severity that the error stream keeps.
func (l *Log) SetLevel(s Severity) {
	if l != nil {
		l.level.Store(int64(s))
	}
}

// Dropped is the number of entries lost since Open: queue full, disk full or broken.
func (l *Log) Dropped() uint64 {
	if l == nil {
		return 0
	}
	return l.dropped.Load()
}

// Flush waits until everything logged so far is in the files or counted as dropped, or until ctx ends.
func (l *Log) Flush(ctx context.Context) error { return l.sync(ctx, false) }

// Maintain rotates by age, deletes what is too old and removes expired card numbers now; the writer does the same by
// itself once an hour.
func (l *Log) Maintain(ctx context.Context) error { return l.sync(ctx, true) }

func (l *Log) sync(ctx context.Context, force bool) error {
	if l == nil {
		return nil
	}
	it := item{flush: make(chan struct{}), force: force}
	select {
	case l.queue <- it:
	case <-l.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-it.flush:
		return nil
	case <-l.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close writes what is queued, waits for it at most two seconds, and ends the writer. Later entries are ignored. It is
// safe to call Close more than once.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.queue)
	}
	l.mu.Unlock()
	t := time.NewTimer(2 * time.Second)
	defer t.Stop()
	select {
	case <-l.done:
		return nil
	case <-t.C:
		return errors.New("close log: the disk does not take the last entries")
	}
}

// write forms one entry and queues it. It never blocks.
func (l *Log) write(ctx context.Context, s Stream, sev Severity, name Label, attrs ...slog.Attr) {
	r := slog.NewRecord(l.cfg.Clock(), slog.Level(sev), name.String(), 0)
	r.AddAttrs(slog.String(FieldLog, s.String()), slog.String(FieldComponent, l.cfg.Component.String()))
	if op := OperationFrom(ctx); !op.IsZero() {
		r.AddAttrs(slog.String(FieldOperation, op.String()))
	}
	if se := SessionFrom(ctx); !se.IsZero() {
		r.AddAttrs(slog.String(FieldSession, se.String()))
	}
	r.AddAttrs(attrs...)

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.buf.Reset()
	if err := l.handlers[s].Handle(ctx, r); err != nil || l.buf.Len() > maxLine {
		l.dropped.Add(1)
		return
	}
	select {
	case l.queue <- item{stream: s, line: bytes.Clone(l.buf.Bytes())}:
	default:
		l.dropped.Add(1)
	}
}

// fieldNames renames slog's own keys to the fixed names and brings times into the fixed form.
func fieldNames(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 {
		switch a.Key {
		case slog.TimeKey:
			a.Key = FieldTime
		case slog.LevelKey:
			if lv, ok := a.Value.Any().(slog.Level); ok {
				return slog.String(FieldSeverity, Severity(lv).String())
			}
		case slog.MessageKey:
			a.Key = FieldName
		}
	}
	if a.Value.Kind() == slog.KindTime {
		a.Value = slog.StringValue(a.Value.Time().UTC().Format(TimeFormat))
	}
	return a
}

// run is the only goroutine that touches the files.
func (l *Log) run() {
	defer close(l.done)
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	var reported uint64
	for {
		select {
		case it, ok := <-l.queue:
			if !ok {
				return
			}
			reported = l.handle(it, reported)
		case <-tick.C:
			l.maintain()
		}
	}
}

// handle writes it and whatever else is queued as one batch per stream, and returns how many drops are on record.
func (l *Log) handle(first item, reported uint64) uint64 {
	var batch [streams][]byte
	var count [streams]uint64
	var flushed []chan struct{}
	force := false
	add := func(it item) {
		if it.flush != nil {
			flushed = append(flushed, it.flush)
			force = force || it.force
			return
		}
		batch[it.stream] = append(batch[it.stream], it.line...)
		count[it.stream]++
	}
	add(first)
	for range queueLen {
		select {
		case it, ok := <-l.queue:
			if ok {
				add(it)
				continue
			}
		default:
		}
		break
	}
	if d := l.dropped.Load(); d > reported {
		line := l.dropNotice(d - reported)
		if err := l.files.append(StreamError, line, l.cfg.Clock()); err == nil {
			reported = d
		}
	}
	for s := range streams {
		if len(batch[s]) == 0 {
			continue
		}
		if err := l.files.append(s, batch[s], l.cfg.Clock()); err != nil {
			l.dropped.Add(count[s])
		}
	}
	if force {
		l.maintain()
	}
	for _, c := range flushed {
		close(c)
	}
	return reported
}

// maintain runs the periodic work; an entry tells when it failed, because a card number may then be kept too long.
func (l *Log) maintain() {
	if err := l.files.maintain(l.cfg.Clock()); err != nil {
		l.files.append(StreamError, l.maintenanceFailed(), l.cfg.Clock())
	}
}
