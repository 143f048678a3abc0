package advlog

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"ktradv/internal/redact"
)

// constant is a string that a caller outside this package can only give as a constant of the program: a variable does not
// convert to it, and the type cannot be named.
type constant string

// Label is a word of the program's own vocabulary: a name, a result, a step. It is made of a constant only, so a value
// from outside can never be one.
type Label struct{ s constant }

// L makes a Label of a constant such as "session.start".
func L(s constant) Label { return Label{s} }

// OneOf returns the Label among the constants allowed that equals v, or the Label "other". It is the way to log a value
// that came from outside but is one of a known set.
func OneOf(v string, allowed ...constant) Label {
	for _, a := range allowed {
		if v == string(a) {
			return Label{a}
		}
	}
	return Label{"other"}
}

func (l Label) String() string { return string(l.s) }

// IsZero reports whether the Label is empty.
func (l Label) IsZero() bool { return l.s == "" }

// Common results of flow entries.
var (
	ResultOK        = L("ok")
	ResultFailed    = L("failed")
	ResultAborted   = L("aborted")   // ended by the person or by pulling the card
	ResultRefused   = L("refused")   // not permitted
	ResultTimeout   = L("timeout")   // no answer in time
	ResultTolerated = L("tolerated") // failed, and the operation goes on without it
)

// ErrorType is the kind of an error (TelematikError).
type ErrorType uint8

// The error types.
const (
	Technical ErrorType = iota
	Security
	Business
)

func (t ErrorType) String() string {
	switch t {
	case Security:
		return "Security"
	case Business:
		return "Business"
	default:
		return "Technical"
	}
}

// Code is an entry of a component's error table: a number (vendor codes 10000 to 40999, GS-A_4858) and its text.
type Code struct {
	number int
	text   constant
}

// NewCode defines a code; codes live in one table per component.
func NewCode(number int, text constant) Code { return Code{number, text} }

// Number is the code's number.
func (c Code) Number() int { return c.number }

func (c Code) String() string { return string(c.text) }

// Value is one further figure of an entry. It stands in the object "values".
type Value struct{ attr slog.Attr }

// Int is a number or count.
func Int(key constant, v int64) Value { return Value{slog.Int64(string(key), v)} }

// Flag is a yes or no.
func Flag(key constant, v bool) Value { return Value{slog.Bool(string(key), v)} }

// Word is a Label.
func Word(key constant, v Label) Value { return Value{slog.String(string(key), v.String())} }

// Insurer is the Institutskennzeichen of an insurer, which names an organisation and no person. Anything but nine digits
// with the right check digit is left out (0), so that another number can hardly come in this way.
func Insurer(ik string) Value {
	var n int64
	sum := 0
	for i := range len(ik) {
		d := int(ik[i]) - '0'
		if d < 0 || d > 9 || len(ik) != 9 {
			return Value{slog.Int64("ik", 0)}
		}
		n = n*10 + int64(d)
		if i >= 2 && i < 8 { // digits 3 to 8, every other one doubled and its digits added
			if i%2 == 0 {
				d = d*2/10 + d*2%10
			}
			sum += d
		}
	}
	if n%10 != int64(sum%10) {
		n = 0
	}
	return Value{slog.Int64("ik", n)}
}

// Authority is the SHA-256 of the certificate of a certificate authority, which names an organisation and no person.
func Authority(sha256 [32]byte) Value {
	return Value{slog.String("authority_sha256", hex.EncodeToString(sha256[:]))}
}

// maxModule is the longest name that the kernel has for a module.
const maxModule = 55

// Module is the name of a kernel module, which names a part of a machine and no person. It is one of the image's own modules;
// anything else is logged as "other", and so is what no module can be called.
func Module(name string, image []string) Value {
	if len(name) > maxModule || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" || name == "" || !slices.Contains(image, name) {
		name = "other"
	}
	return Value{slog.String("module", name)}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// ErrorEvent is an entry of the error stream.
type ErrorEvent struct {
	Code     Code
	Severity Severity // zero is Info; use Error for a failed operation
	Type     ErrorType
	Name     Label  // what was being done
	Part     Label  // the part of the component that found the error
	Result   Label  // what became of the operation
	Remote   bool   // the error was reported by the other side
	SW       uint16 // status word of the card, 0 if none
	// ICCSN of the card concerned: set it for card-related errors and for nothing else.
	ICCSN  redact.ICCSN
	Values []Value
}

// FlowEvent is an entry of the flow stream: one operation with its outcome.
type FlowEvent struct {
	Name       Label
	Start, End time.Time
	Result     Label
	Code       Code // of the error, zero for success
	Values     []Value
}

// PerfEvent is an entry of the performance stream.
type PerfEvent struct {
	Name     Label
	Start    time.Time
	Duration time.Duration
	Values   []Value
}

// DebugEvent is an entry of the debug stream.
type DebugEvent struct {
	Name   Label
	Values []Value
}

// SecurityEvent is an entry of the security stream.
type SecurityEvent struct {
	Name     Label
	Severity Severity
	Result   Label
	Code     Code
	Values   []Value
}

// Error writes e if its severity reaches the level; the debug severity needs Config.TestMode.
func (l *Log) Error(ctx context.Context, e ErrorEvent) {
	if l == nil || int64(e.Severity) < l.level.Load() || e.Severity < Info && !l.cfg.TestMode {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs, codeAttrs(e.Code)...)
	attrs = append(attrs,
		slog.String(FieldErrorType, e.Type.String()),
		slog.String(FieldEvent, l.eventID()),
		slog.Bool(FieldRemote, e.Remote))
	if !e.Part.IsZero() {
		attrs = append(attrs, slog.String(FieldPart, e.Part.String()))
	}
	if !e.Result.IsZero() {
		attrs = append(attrs, slog.String(FieldResult, e.Result.String()))
	}
	if e.SW != 0 {
		attrs = append(attrs, slog.String(FieldSW, hex4(e.SW)))
	}
	if !e.ICCSN.IsZero() {
		attrs = append(attrs, slog.String(FieldICCSN, e.ICCSN.Reveal()))
	}
	l.write(ctx, StreamError, e.Severity, e.Name, appendValues(attrs, e.Values)...)
}

// Flow writes e.
func (l *Log) Flow(ctx context.Context, e FlowEvent) {
	if l == nil {
		return
	}
	attrs := []slog.Attr{
		slog.Time(FieldStart, e.Start), slog.Time(FieldEnd, e.End),
		slog.Float64(FieldDuration, millis(e.End.Sub(e.Start))), slog.String(FieldResult, e.Result.String()),
	}
	attrs = append(attrs, codeAttrs(e.Code)...)
	l.write(ctx, StreamFlow, Info, e.Name, appendValues(attrs, e.Values)...)
}

// Perf writes e.
func (l *Log) Perf(ctx context.Context, e PerfEvent) {
	if l == nil {
		return
	}
	attrs := []slog.Attr{slog.Time(FieldStart, e.Start), slog.Float64(FieldDuration, millis(e.Duration))}
	l.write(ctx, StreamPerformance, Info, e.Name, appendValues(attrs, e.Values)...)
}

// Debug writes e in test operation, and nothing otherwise.
func (l *Log) Debug(ctx context.Context, e DebugEvent) {
	if l == nil || !l.cfg.TestMode {
		return
	}
	l.write(ctx, StreamDebug, Debug, e.Name, appendValues(nil, e.Values)...)
}

// Security writes e.
func (l *Log) Security(ctx context.Context, e SecurityEvent) {
	if l == nil {
		return
	}
	attrs := []slog.Attr{slog.String(FieldResult, e.Result.String()), slog.String(FieldEvent, l.eventID())}
	attrs = append(attrs, codeAttrs(e.Code)...)
	l.write(ctx, StreamSecurity, max(e.Severity, Info), e.Name, appendValues(attrs, e.Values)...)
}

// Span is a running operation; its end is one entry in the flow stream and one in the performance stream.
type Span struct {
	log   *Log
	ctx   context.Context
	name  Label
	start time.Time
}

// Begin starts a Span. On a log that is off the Span does nothing.
func (l *Log) Begin(ctx context.Context, name Label) Span {
	if l == nil {
		return Span{}
	}
	return Span{l, ctx, name, l.cfg.Clock()}
}

// End writes the entries of the Span. code is zero for success.
func (s Span) End(result Label, code Code, values ...Value) {
	if s.log == nil {
		return
	}
	end := s.log.cfg.Clock()
	s.log.Flow(s.ctx, FlowEvent{Name: s.name, Start: s.start, End: end, Result: result, Code: code, Values: values})
	s.log.Perf(s.ctx, PerfEvent{Name: s.name, Start: s.start, Duration: end.Sub(s.start)})
}

func codeAttrs(c Code) []slog.Attr {
	if c == (Code{}) {
		return nil
	}
	return []slog.Attr{slog.Int(FieldCode, c.number), slog.String(FieldText, c.String())}
}

func appendValues(attrs []slog.Attr, vs []Value) []slog.Attr {
	if len(vs) == 0 {
		return attrs
	}
	g := make([]slog.Attr, len(vs))
	for i, v := range vs {
		g[i] = v.attr
	}
	return append(attrs, slog.Attr{Key: FieldValues, Value: slog.GroupValue(g...)})
}

func (l *Log) eventID() string {
	var b [8]byte
	readRandom(l.cfg.Rand, b[:])
	return hex.EncodeToString(b[:])
}

func hex4(v uint16) string { return hex.EncodeToString([]byte{byte(v >> 8), byte(v)}) }

// readRandom fills b from r, or from crypto/rand where r is nil or fails.
func readRandom(r io.Reader, b []byte) {
	if r != nil {
		if _, err := io.ReadFull(r, b); err == nil {
			return
		}
	}
	rand.Read(b) // never fails
}

// Codes of the log itself.
var (
	codeDropped     = NewCode(10001, "log entries were lost")
	codeMaintenance = NewCode(10002, "log maintenance failed: card numbers may be kept too long")
)

// dropNotice and maintenanceFailed are formed by the writer goroutine, past the queue.
func (l *Log) dropNotice(n uint64) []byte {
	return l.ownLine(L("log.dropped"), Warning, codeDropped, Int("count", int64(n)))
}

func (l *Log) maintenanceFailed() []byte {
	return l.ownLine(L("log.maintenance"), Error, codeMaintenance)
}

func (l *Log) ownLine(name Label, sev Severity, c Code, vs ...Value) []byte {
	r := slog.NewRecord(l.cfg.Clock(), slog.Level(sev), name.String(), 0)
	r.AddAttrs(slog.String(FieldLog, StreamError.String()), slog.String(FieldComponent, l.cfg.Component.String()))
	r.AddAttrs(codeAttrs(c)...)
	r.AddAttrs(slog.String(FieldErrorType, Technical.String()), slog.String(FieldEvent, l.eventID()))
	r.AddAttrs(appendValues(nil, vs)...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Reset()
	if err := l.handlers[StreamError].Handle(context.Background(), r); err != nil {
		return nil
	}
	return append([]byte(nil), l.buf.Bytes()...)
}
