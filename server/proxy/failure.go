package proxy

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ktradv/hw/apdu"
	"ktradv/hw/c2c"
	"ktradv/hw/cos"
	"ktradv/hw/cvc"
	"ktradv/hw/egk"
	"ktradv/internal/advlog"
	"ktradv/server/api"
	"ktradv/server/identity"
)

// Errors of the conversation itself.
var (
	errTimeout    = errors.New("the app does not answer in time")
	errGone       = errors.New("the app has gone")
	errShutdown   = errors.New("the server is being stopped")
	errBusy       = errors.New("too many sessions")
	errProtocol   = errors.New("message does not fit the conversation")
	errSessionEnd = errors.New("the session has lasted too long")
	errOtherIK    = errors.New("certificate of another insurer's card")
)

// abortError is what the app said when it gave up.
type abortError struct{ code api.AbortCode }

func (e *abortError) Error() string { return "the app gave up: " + e.code.String() }

// Error codes of the AdV-Server (GS-A_4858: 10000 to 40999).
var (
	codeIdentity      = advlog.NewCode(11010, "no SM-B of the card's insurer")
	codeIdentityFault = advlog.NewCode(11011, "SM-B of the insurer cannot be used")
	codeForeignCard   = advlog.NewCode(11020, "CV certificate of the card is not trusted")
	codeNotAuthentic  = advlog.NewCode(11021, "card did not prove its key")
	codePIN           = advlog.NewCode(11022, "PIN.CH is not verified")
	codeCardRefused   = advlog.NewCode(11023, "card refused a command")
	codeRootUnknown   = advlog.NewCode(11024, "card does not know the root of the SM-B")
	codeCardGone      = advlog.NewCode(11025, "card or reader is gone")
	codeProtocol      = advlog.NewCode(11030, "message of the app breaks the protocol")
	codeFiltered      = advlog.NewCode(11031, "app refused a command of the server")
	codeOtherIK       = advlog.NewCode(11032, "card belongs to another insurer than the app stated")
	codeTimeout       = advlog.NewCode(11040, "app did not answer in time")
	codeGone          = advlog.NewCode(11041, "connection to the app was lost")
	codeBusy          = advlog.NewCode(11042, "too many sessions")
	codeShutdown      = advlog.NewCode(11043, "server is being stopped")
	codeSessionEnd    = advlog.NewCode(11044, "session lasted too long")
	codeAppFault      = advlog.NewCode(11045, "app gave up because of a fault")
	codeAborted       = advlog.NewCode(11046, "insured person ended the session")
	codeFault         = advlog.NewCode(11090, "fault of the server")
	codeCertificate   = advlog.NewCode(11050, "certificate of the card is not valid")
	codeRevoked       = advlog.NewCode(11051, "certificate of the card is revoked or unknown")
	codeUnread        = advlog.NewCode(11053, "certificate of the card could not be read")
	codeNoStatus      = advlog.NewCode(11052, "revocation status could not be determined")
)

// failure is how an error is told and logged.
type failure struct {
	code     api.FailureCode // 0: nothing is sent, because nobody is there to read it
	sw       uint16
	log      advlog.Code
	kind     advlog.ErrorType
	severity advlog.Severity
	result   advlog.Label
	card     bool // the error is about the card: its number stands in the log (AdV-A_2424)
	remote   bool // the app reported it
}

// failures maps errors to failures; the first entry whose error is in the chain counts.
var failures = []struct {
	err error
	failure
}{
	{errBusy, failure{code: api.FailureCode_FAILURE_CODE_BUSY, log: codeBusy, severity: advlog.Warning, result: advlog.ResultRefused}},
	{errShutdown, failure{code: api.FailureCode_FAILURE_CODE_SHUTDOWN, log: codeShutdown, result: advlog.ResultAborted}},
	{errTimeout, failure{code: api.FailureCode_FAILURE_CODE_TIMEOUT, log: codeTimeout, severity: advlog.Error, result: advlog.ResultTimeout}},
	{errSessionEnd, failure{code: api.FailureCode_FAILURE_CODE_TIMEOUT, log: codeSessionEnd, severity: advlog.Warning, result: advlog.ResultTimeout}},
	{errGone, failure{log: codeGone, severity: advlog.Warning, result: advlog.ResultAborted, remote: true}},
	{errOtherIK, failure{code: api.FailureCode_FAILURE_CODE_PROTOCOL, log: codeOtherIK, kind: advlog.Security, severity: advlog.Error, result: advlog.ResultRefused, card: true}},
	{identity.ErrUnknownIK, failure{code: api.FailureCode_FAILURE_CODE_IDENTITY_UNAVAILABLE, log: codeIdentity, kind: advlog.Business, severity: advlog.Error, result: advlog.ResultRefused}},
	{identity.ErrUnavailable, failure{code: api.FailureCode_FAILURE_CODE_IDENTITY_UNAVAILABLE, log: codeIdentityFault, severity: advlog.Fatal, result: advlog.ResultFailed}},
	{c2c.ErrIdentity, failure{code: api.FailureCode_FAILURE_CODE_IDENTITY_UNSUITABLE, log: codeIdentityFault, severity: advlog.Fatal, result: advlog.ResultFailed}},
	{c2c.ErrPINNotVerified, failure{code: api.FailureCode_FAILURE_CODE_PIN_NOT_VERIFIED, log: codePIN, kind: advlog.Security, severity: advlog.Error, result: advlog.ResultRefused, card: true}},
	{c2c.ErrChannel, failure{code: api.FailureCode_FAILURE_CODE_CARD_NOT_AUTHENTIC, log: codeNotAuthentic, kind: advlog.Security, severity: advlog.Error, result: advlog.ResultRefused, card: true}},
	{c2c.ErrRootUnknown, failure{code: api.FailureCode_FAILURE_CODE_IMPORT_REFUSED, log: codeRootUnknown, severity: advlog.Error, result: advlog.ResultFailed, card: true, remote: true}},
	{c2c.ErrProtocol, failure{code: api.FailureCode_FAILURE_CODE_PROTOCOL, log: codeProtocol, kind: advlog.Security, severity: advlog.Error, result: advlog.ResultRefused, remote: true}},
	{apdu.ErrMalformedResponse, failure{code: api.FailureCode_FAILURE_CODE_PROTOCOL, log: codeProtocol, kind: advlog.Security, severity: advlog.Error, result: advlog.ResultRefused, remote: true}},
	{api.ErrMalformed, failure{code: api.FailureCode_FAILURE_CODE_PROTOCOL, log: codeProtocol, kind: advlog.Security, severity: advlog.Error, result: advlog.ResultRefused, remote: true}},
	{errProtocol, failure{code: api.FailureCode_FAILURE_CODE_PROTOCOL, log: codeProtocol, kind: advlog.Security, severity: advlog.Error, result: advlog.ResultRefused, remote: true}},
	{egk.ErrNotAuthentic, failure{code: api.FailureCode_FAILURE_CODE_CARD_NOT_AUTHENTIC, log: codeForeignCard, kind: advlog.Security, severity: advlog.Error, result: advlog.ResultRefused, card: true}},
	{egk.ErrMalformed, failure{code: api.FailureCode_FAILURE_CODE_CARD_NOT_AUTHENTIC, log: codeForeignCard, kind: advlog.Security, severity: advlog.Error, result: advlog.ResultRefused, card: true}},
	{cvc.ErrMalformed, failure{code: api.FailureCode_FAILURE_CODE_CARD_NOT_AUTHENTIC, log: codeForeignCard, kind: advlog.Security, severity: advlog.Error, result: advlog.ResultRefused, card: true}},
}

// aborts maps what the app says when it gives up; nothing is sent back.
var aborts = map[api.AbortCode]failure{
	api.AbortCode_ABORT_CODE_CARD_GONE:       {log: codeCardGone, severity: advlog.Warning, result: advlog.ResultAborted, card: true},
	api.AbortCode_ABORT_CODE_READER_GONE:     {log: codeCardGone, severity: advlog.Warning, result: advlog.ResultAborted},
	api.AbortCode_ABORT_CODE_COMMAND_REFUSED: {log: codeFiltered, kind: advlog.Security, severity: advlog.Error, result: advlog.ResultRefused},
	api.AbortCode_ABORT_CODE_USER:            {log: codeAborted, severity: advlog.Info, result: advlog.ResultAborted},
}

// classify tells how an error is told and logged. An error that is in no table is a fault of the server.
func classify(err error) failure {
	var a *abortError
	if errors.As(err, &a) {
		f, ok := aborts[a.code]
		if !ok {
			f = failure{log: codeAppFault, severity: advlog.Error, result: advlog.ResultFailed}
		}
		f.remote = true
		return f
	}
	for _, entry := range failures {
		if errors.Is(err, entry.err) {
			f := entry.failure
			f.sw = statusWord(err)
			return f
		}
	}
	if sw := statusWord(err); sw != 0 {
		code := api.FailureCode_FAILURE_CODE_CARD_REFUSED
		if cos.IsResult(err, cos.ResultErrorImportCVC) {
			code = api.FailureCode_FAILURE_CODE_IMPORT_REFUSED
		}
		return failure{code: code, sw: sw, log: codeCardRefused, severity: advlog.Error,
			result: advlog.ResultFailed, card: true, remote: true}
	}
	return failure{code: api.FailureCode_FAILURE_CODE_INTERNAL, log: codeFault, severity: advlog.Fatal, result: advlog.ResultFailed}
}

func statusWord(err error) uint16 {
	var s *cos.StatusError
	if errors.As(err, &s) {
		return s.SW
	}
	return 0
}

func failureMessage(f failure) *api.ServerMessage {
	return &api.ServerMessage{Body: &api.ServerMessage_Failure{Failure: &api.Failure{Code: f.code, Sw: uint32(f.sw)}}}
}

// receiveError tells a broken contract from a connection that has ended.
func receiveError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return io.EOF
	case status.Code(err) == codes.ResourceExhausted: // larger than the limit
		return errors.Join(errProtocol, err)
	case status.Code(err) == codes.Internal: // does not decode
		return errors.Join(errProtocol, err)
	case errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return errSessionEnd
	default:
		return errGone
	}
}
