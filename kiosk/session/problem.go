package session

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"ktradv/hw/apdu"
	"ktradv/hw/cos"
	"ktradv/hw/cvc"
	"ktradv/hw/egk"
	"ktradv/hw/reader"
	"ktradv/hw/vsd"
	"ktradv/internal/advlog"
	"ktradv/kiosk/filter"
	"ktradv/kiosk/serverlink"
	"ktradv/kiosk/text"
	"ktradv/kiosk/view"
	"ktradv/server/api"
)

// Codes of problems that the session itself decides on. The texts of all codes live in kiosk/text.
const (
	codeInternal   = "INTERNAL"
	codeReaderGone = "READER-GONE"
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

// causes maps what went wrong to the problem that the person is told: the first match counts. A status word of the card
// that nothing here explains is told by the result name of the specification (TAB_ADV_318).
var causes = []struct {
	err  error
	code string
}{
	{apdu.ErrCardRemoved, "CARD-REMOVED"},
	{reader.ErrHung, codeReaderHung},
	{reader.ErrSeveral, "READER-SEVERAL"},
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
	{cvc.ErrNotYetValid, "TERMINAL-CLOCK"}, // a card is issued with a certificate that is valid: the clock is behind
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
	api.FailureCode_FAILURE_CODE_CARD_REFUSED:         string(cos.ResultErrorAuthentication),
	api.FailureCode_FAILURE_CODE_IMPORT_REFUSED:       string(cos.ResultErrorImportCVC),
	api.FailureCode_FAILURE_CODE_IDENTITY_UNSUITABLE:  string(cos.ResultWrongEndEntityCVC),
	api.FailureCode_FAILURE_CODE_TIMEOUT:              "SERVER-LOST",
	api.FailureCode_FAILURE_CODE_BUSY:                 "SERVER-REFUSED",
	api.FailureCode_FAILURE_CODE_SHUTDOWN:             "SERVER-UNREACHABLE",
	api.FailureCode_FAILURE_CODE_INTERNAL:             "SERVER-REFUSED",
}

// ours are the result names without a prescribed text and the problems that stand for them.
var ours = map[cos.Result]string{cos.ResultPasswordProtected: codeTransport, cos.ResultWrongLength: "PIN-LENGTH"}

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
		if code, ok := ours[sw.Result]; ok {
			return code
		}
		if p, ok := text.Problems[string(sw.Result)]; ok {
			return p.Code
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

// problemInfo names a registered problem: the prescribed text where there is one, and always one in plain words with
// what to do next (AdV-A_2444).
func problemInfo(code string, err error) *view.ProblemInfo {
	t := text.ProblemFor(code)
	p := &view.ProblemInfo{Code: t.Code, Prescribed: t.Prescribed, Text: t.Text, Next: t.Next}
	var sw *cos.StatusError
	if errors.As(err, &sw) && sw.Result == cos.ResultWrongSecretWarning {
		p.Args = map[string]string{"x": strconv.Itoa(sw.Left)}
	}
	return p
}

// errLogEntry: the protocol entry could not be written.
var errLogEntry = errors.New("protocol entry not written")

// aborts maps what ended a session to the word with which the server is left; the first match counts.
var aborts = []struct {
	err  error
	code api.AbortCode
}{
	{errEnd, api.AbortCode_ABORT_CODE_USER},
	{errIdle, api.AbortCode_ABORT_CODE_USER},
	{reader.ErrHung, api.AbortCode_ABORT_CODE_READER_GONE},
	{apdu.ErrReaderGone, api.AbortCode_ABORT_CODE_READER_GONE},
	{apdu.ErrCardRemoved, api.AbortCode_ABORT_CODE_CARD_GONE},
	{apdu.ErrCardMute, api.AbortCode_ABORT_CODE_CARD_GONE},
	{reader.ErrTransmission, api.AbortCode_ABORT_CODE_CARD_GONE},
	{errLogEntry, api.AbortCode_ABORT_CODE_LOG_ENTRY},
}

func abortCode(err error) api.AbortCode {
	var forbidden *filter.Forbidden
	if errors.As(err, &forbidden) {
		return api.AbortCode_ABORT_CODE_COMMAND_REFUSED
	}
	for _, a := range aborts {
		if errors.Is(err, a.err) {
			return a.code
		}
	}
	return api.AbortCode_ABORT_CODE_INTERNAL
}

// OutOfOrder is the view of a terminal that cannot serve anyone for the given reason.
func OutOfOrder(code string) view.View {
	return view.View{Screen: view.OutOfOrder, Problem: problemInfo(code, nil), TriesLeft: -1}
}

// cardRelated tells whether an error concerns the eGK, so that its number belongs into the error log (AdV-A_2424).
func cardRelated(err error) bool {
	if errors.Is(err, reader.ErrHung) { // a time-out, too, but the reader's
		return false
	}
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

// logCodes gives every problem its number in the error log (vendor codes, GS-A_4858) with the code as its text. 10001 to
// 10010 belong to the log itself. A test keeps the table complete.
var logCodes = map[string]advlog.Code{
	codeInternal:                 advlog.NewCode(10011, "INTERNAL"),
	"CARD-NOT-EGK":               advlog.NewCode(10101, "CARD-NOT-EGK"),
	"CARD-TOO-OLD":               advlog.NewCode(10102, "CARD-TOO-OLD"),
	"CARD-NOT-AUTHENTIC":         advlog.NewCode(10103, "CARD-NOT-AUTHENTIC"),
	"CARD-MUTE":                  advlog.NewCode(10104, "CARD-MUTE"),
	"CARD-REMOVED":               advlog.NewCode(10105, "CARD-REMOVED"),
	"CARD-READ-ERROR":            advlog.NewCode(10106, "CARD-READ-ERROR"),
	codeHCACheck:                 advlog.NewCode(10107, "HCA-CHECK-FAILED"),
	codeLogEntry:                 advlog.NewCode(10108, "LOG-ENTRY-FAILED"),
	"VSD-3001":                   advlog.NewCode(10111, "VSD-3001"),
	"VSD-3011":                   advlog.NewCode(10112, "VSD-3011"),
	codeTransport:                advlog.NewCode(10201, "PIN-TRANSPORT"),
	"PIN-LENGTH":                 advlog.NewCode(10202, "PIN-LENGTH"),
	"PIN-CANCELLED":              advlog.NewCode(10203, "PIN-CANCELLED"),
	"PIN-TIMEOUT":                advlog.NewCode(10204, "PIN-TIMEOUT"),
	"PIN-MISMATCH":               advlog.NewCode(10205, "PIN-MISMATCH"),
	"PIN-READER-LEAK":            advlog.NewCode(10206, "PIN-READER-LEAK"),
	codePUKUnknown:               advlog.NewCode(10207, "PUK-UNKNOWN"),
	codePUKUsedUp:                advlog.NewCode(10208, "PUK-USED-UP"),
	"PIN-STATUS-NOT-SET":         advlog.NewCode(10209, "PIN-STATUS-NOT-SET"),
	codeReaderGone:               advlog.NewCode(10301, "READER-GONE"),
	codeReaderHung:               advlog.NewCode(10302, "READER-HUNG"),
	"READER-NO-PAD":              advlog.NewCode(10303, "READER-NO-PAD"),
	"READER-SEVERAL":             advlog.NewCode(10304, "READER-SEVERAL"),
	"READER-UNSUPPORTED":         advlog.NewCode(10305, "READER-UNSUPPORTED"),
	"SERVER-UNREACHABLE":         advlog.NewCode(10401, "SERVER-UNREACHABLE"),
	"SERVER-NOT-TRUSTED":         advlog.NewCode(10402, "SERVER-NOT-TRUSTED"),
	"SERVER-REFUSED":             advlog.NewCode(10403, "SERVER-REFUSED"),
	"SERVER-LOST":                advlog.NewCode(10404, "SERVER-LOST"),
	"SERVER-FORBIDDEN-COMMAND":   advlog.NewCode(10405, "SERVER-FORBIDDEN-COMMAND"),
	"NO-INSURER-IDENTITY":        advlog.NewCode(10406, "NO-INSURER-IDENTITY"),
	"TERMINAL-STARTING":          advlog.NewCode(10503, "TERMINAL-STARTING"),
	"TERMINAL-CLOCK":             advlog.NewCode(10502, "TERMINAL-CLOCK"),
	"IDLE-TIMEOUT":               advlog.NewCode(10501, "IDLE-TIMEOUT"),
	"CardTerminated":             advlog.NewCode(10601, "CardTerminated"),
	"CorruptDataWarning":         advlog.NewCode(10602, "CorruptDataWarning"),
	"DataTooBig":                 advlog.NewCode(10603, "DataTooBig"),
	"ErrorAuthentication":        advlog.NewCode(10604, "ErrorAuthentication"),
	"ErrorImportCVC":             advlog.NewCode(10605, "ErrorImportCVC"),
	"ErrorUserVerification":      advlog.NewCode(10606, "ErrorUserVerification"),
	"FileNotFound":               advlog.NewCode(10607, "FileNotFound"),
	"MemoryFailure":              advlog.NewCode(10608, "MemoryFailure"),
	"NotEnoughtMemorySpace":      advlog.NewCode(10609, "NotEnoughtMemorySpace"),
	"ObjectNotFound":             advlog.NewCode(10610, "ObjectNotFound"),
	"ObjectTerminated":           advlog.NewCode(10611, "ObjectTerminated"),
	"OffsetTooBig":               advlog.NewCode(10612, "OffsetTooBig"),
	"PasswordBlocked":            advlog.NewCode(10613, "PasswordBlocked"),
	"PasswordDisabled":           advlog.NewCode(10614, "PasswordDisabled"),
	"SecurityStatusNotSatisfied": advlog.NewCode(10615, "SecurityStatusNotSatisfied"),
	"UpdateRetryWarning":         advlog.NewCode(10616, "UpdateRetryWarning"),
	"WrongSecretWarning":         advlog.NewCode(10617, "WrongSecretWarning"),
	"WrongEndEntityCVC":          advlog.NewCode(10618, "WrongEndEntityCVC"),
}

// logError records a failure; the number of the card stands with card-related ones only (AdV-A_2423, AdV-A_2424).
func (s *Session) logError(ctx context.Context, code string, err error, card bool) {
	ctx = s.logContext(ctx)
	ev := advlog.ErrorEvent{Code: logCodes[code], Severity: advlog.Error, Name: s.opName, Result: advlog.ResultFailed}
	var sw *cos.StatusError
	if errors.As(err, &sw) {
		ev.SW = sw.SW
	}
	if card {
		ev.ICCSN = s.iccsn()
	}
	var refused *serverlink.Refused
	if errors.As(err, &refused) {
		ev.Remote, ev.SW = true, refused.SW
	}
	s.cfg.Log.Error(ctx, ev)
	var forbidden *filter.Forbidden
	if errors.As(err, &forbidden) || errors.Is(err, serverlink.ErrNotTrusted) || errors.Is(err, reader.ErrPINDisclosed) {
		s.cfg.Log.Security(ctx, advlog.SecurityEvent{Name: s.opName, Severity: advlog.Error, Code: logCodes[code], Result: advlog.ResultRefused})
	}
}

// span starts the entry of one executed activity in flow and performance log (AdV-A_2429, AdV-A_2431).
func (s *Session) span(ctx context.Context, name advlog.Label) func(error) {
	sp := s.cfg.Log.Begin(s.logContext(ctx), name)
	return func(err error) {
		if code := problemOf(err); code != "" {
			sp.End(advlog.ResultFailed, logCodes[code])
		} else if err != nil {
			sp.End(advlog.ResultAborted, advlog.Code{})
		} else {
			sp.End(advlog.ResultOK, advlog.Code{})
		}
	}
}

func (s *Session) logContext(ctx context.Context) context.Context {
	return advlog.WithSession(advlog.WithOperation(ctx, s.opID), s.sid)
}
