package session

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"ktradv/hw/apdu"
	"ktradv/hw/cos"
	"ktradv/hw/egk"
	"ktradv/hw/reader"
	"ktradv/hw/vsd"
	"ktradv/internal/advlog"
	"ktradv/internal/redact"
	"ktradv/kiosk/filter"
	"ktradv/kiosk/serverlink"
	"ktradv/kiosk/view"
	"ktradv/server/api"
)

// Codes of problems that the session itself decides on. The texts of all codes live in kiosk/text.
const (
	codeInternal   = "INTERNAL"
	codeReaderHung = "READER-HUNG"
	codePUKUnknown = "PUK-UNKNOWN"
	codePUKUsedUp  = "PUK-USED-UP"
	codeTransport  = "PIN-TRANSPORT"
	codeHCACheck   = "HCA-CHECK-FAILED"
	codeLogEntry   = "LOG-ENTRY-FAILED"
)

// Failure is a reason to end the session that the person is told. Code names a registered problem.
type Failure struct {
	Code string
	Err  error
}

func (f *Failure) Error() string {
	if f.Err == nil {
		return f.Code
	}
	return fmt.Sprintf("%s: %v", f.Code, f.Err)
}

func (f *Failure) Unwrap() error { return f.Err }

// fail gives err the code of a problem. What already has a more exact one keeps it.
func fail(code string, err error) error {
	if err == nil {
		return nil
	}
	return &Failure{Code: codeOf(err, code), Err: err}
}

// causes maps what went wrong to the problem that the person is told: the first match counts. Status words of the card
// come with the result name of the specification (TAB_ADV_318) and are looked up before this table.
var causes = []struct {
	err  error
	code string
}{
	{apdu.ErrCardRemoved, "CARD-REMOVED"},
	{reader.ErrHung, codeReaderHung},
	{apdu.ErrReaderGone, "READER-GONE"},
	{reader.ErrPINStructure, "READER-NO-PAD"},
	{reader.ErrReset, "CARD-READ-ERROR"},
	{reader.ErrInUse, "CARD-READ-ERROR"},
	{reader.ErrTransmission, "CARD-READ-ERROR"},
	{reader.ErrPINDisclosed, "PIN-READER-LEAK"},
	{reader.ErrNoPINPad, "READER-NO-PAD"},
	{reader.ErrPINCancelled, "PIN-CANCELLED"},
	{reader.ErrPINTimeout, "PIN-TIMEOUT"},
	{reader.ErrPINMismatch, "PIN-MISMATCH"},
	{reader.ErrPINLength, "PIN-LENGTH"},
	{egk.ErrNotEGK, "CARD-NOT-EGK"},
	{egk.ErrGenerationTooOld, "CARD-TOO-OLD"},
	{egk.ErrNotAuthentic, "CARD-NOT-AUTHENTIC"},
	{vsd.ErrInconsistent, "VSD-3001"},
	{vsd.ErrUnreadable, "VSD-3011"},
	{serverlink.ErrNotTrusted, "SERVER-NOT-TRUSTED"},
	{serverlink.ErrUnreachable, "SERVER-UNREACHABLE"},
	{serverlink.ErrProtocol, "SERVER-LOST"},
	{serverlink.ErrLost, "SERVER-LOST"},
	{apdu.ErrCardMute, "CARD-MUTE"},
	{apdu.ErrTimeout, "CARD-MUTE"},
}

// refusals maps the server's own word to the problem that the person is told.
var refusals = map[api.FailureCode]string{
	api.FailureCode_FAILURE_CODE_PROTOCOL:             "SERVER-REFUSED",
	api.FailureCode_FAILURE_CODE_IDENTITY_UNAVAILABLE: "NO-INSURER-IDENTITY",
	api.FailureCode_FAILURE_CODE_CARD_NOT_AUTHENTIC:   "CARD-NOT-AUTHENTIC",
	api.FailureCode_FAILURE_CODE_PIN_NOT_VERIFIED:     "PIN-STATUS-NOT-SET",
	api.FailureCode_FAILURE_CODE_CARD_REFUSED:         "ErrorAuthentication",
	api.FailureCode_FAILURE_CODE_TIMEOUT:              "SERVER-LOST",
	api.FailureCode_FAILURE_CODE_BUSY:                 "SERVER-REFUSED",
	api.FailureCode_FAILURE_CODE_SHUTDOWN:             "SERVER-UNREACHABLE",
	api.FailureCode_FAILURE_CODE_INTERNAL:             "SERVER-REFUSED",
}

// prescribed are the result names for which the specification prescribes a text (TAB_ADV_318).
var prescribed = map[string]bool{
	"CardTerminated": true, "CorruptDataWarning": true, "DataTooBig": true, "ErrorAuthentication": true,
	"ErrorImportCVC": true, "ErrorUserVerification": true, "FileNotFound": true, "MemoryFailure": true,
	"NotEnoughtMemorySpace": true, "ObjectNotFound": true, "ObjectTerminated": true, "OffsetTooBig": true,
	"PasswordBlocked": true, "PasswordDisabled": true, "SecurityStatusNotSatisfied": true, "UpdateRetryWarning": true,
	"WrongSecretWarning": true, "WrongEndEntityCVC": true,
}

// ours are the result names without a prescribed text and the problems that stand for them.
var ours = map[string]string{"PasswordProtected": codeTransport, "WrongLength": "PIN-LENGTH"}

// codeOf returns the code of the problem behind err, or fallback when nothing more exact is known.
func codeOf(err error, fallback string) string {
	var f *Failure
	if errors.As(err, &f) {
		return f.Code
	}
	var forbidden *filter.Forbidden
	if errors.As(err, &forbidden) {
		return "SERVER-FORBIDDEN-COMMAND"
	}
	var refused *serverlink.Refused
	if errors.As(err, &refused) {
		if code, ok := refusals[refused.Code]; ok {
			return code
		}
		return "SERVER-REFUSED"
	}
	for _, c := range causes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	var sw *cos.StatusError
	if errors.As(err, &sw) {
		if r := string(sw.Result); prescribed[r] {
			return r
		} else if code, ok := ours[r]; ok {
			return code
		}
	}
	return fallback
}

// problemOf returns the problem to explain at the end of a session, "" when the session ended as the person wanted. A
// card that is pulled while nothing runs ends the session without a word (AdV-A_2448).
func problemOf(err error) string {
	switch {
	case err == nil, errors.Is(err, errEnd), errors.Is(err, errStopped), errors.Is(err, context.Canceled), errors.Is(err, errPulledAtRest):
		return ""
	case errors.Is(err, errIdle):
		return "IDLE-TIMEOUT"
	}
	return codeOf(err, codeInternal)
}

// errPulledAtRest: the card was taken while a menu or data were shown, the ordinary way to leave.
var errPulledAtRest = errors.New("card taken at rest")

// problemInfo names the texts of a problem: the prescribed one where there is one, and always one in plain words with
// what to do next (AdV-A_2444).
func problemInfo(code string, err error) *view.ProblemInfo {
	p := &view.ProblemInfo{Code: code, Text: "problem." + code + ".text", Next: "problem." + code + ".next"}
	if prescribed[code] {
		p.Prescribed = "TAB_ADV_318." + code
	}
	var sw *cos.StatusError
	if errors.As(err, &sw) && sw.Left >= 0 {
		p.Args = map[string]string{"x": strconv.Itoa(sw.Left)}
	}
	return p
}

// cardRelated tells whether an error concerns the eGK, so that its number belongs into the error log (AdV-A_2424).
func cardRelated(err error) bool {
	var sw *cos.StatusError
	if errors.As(err, &sw) {
		return true
	}
	for _, e := range []error{apdu.ErrCardMute, apdu.ErrTimeout, egk.ErrNotAuthentic, vsd.ErrInconsistent, vsd.ErrUnreadable} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *Session) logError(ctx context.Context, code string, err error, card bool) {
	if s.cfg.Log == nil {
		return
	}
	ev := advlog.ErrorEvent{Code: advlog.Code(code), Operation: advlog.Name(s.op.Name), Severity: advlog.Error}
	var sw *cos.StatusError
	if errors.As(err, &sw) {
		ev.SW = sw.SW
	}
	if card {
		ev.ICCSN = s.iccsn()
	} else {
		ev.ICCSN = redact.ICCSN{}
	}
	s.cfg.Log.Error(s.withOp(ctx), ev)
	var forbidden *filter.Forbidden
	if errors.As(err, &forbidden) || errors.Is(err, serverlink.ErrNotTrusted) {
		s.cfg.Log.Security(s.withOp(ctx), advlog.SecurityEvent{Code: advlog.Code(code)})
	}
}

// logFlow records one executed operation with begin, end and result (AdV-A_2429) and its duration (AdV-A_2431).
func (s *Session) logFlow(ctx context.Context, name string, start time.Time, errs ...error) {
	if s.cfg.Log == nil {
		return
	}
	result := "OK"
	if err := errors.Join(errs...); err != nil {
		if result = problemOf(err); result == "" {
			result = "OK"
		}
	}
	end := s.cfg.Now()
	ctx = s.withOp(ctx)
	s.cfg.Log.Flow(ctx, advlog.FlowEvent{Name: advlog.Name(name), Start: start, End: end, Result: advlog.Code(result)})
	s.cfg.Log.Perf(ctx, advlog.PerfEvent{Name: advlog.Name(name), Duration: end.Sub(start)})
}

func (s *Session) withOp(ctx context.Context) context.Context {
	if s.op.ID == "" {
		return ctx
	}
	return advlog.WithOperation(ctx, s.op.ID)
}
