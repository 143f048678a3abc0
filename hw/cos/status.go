package cos

import (
	"errors"
	"fmt"

	"ktradv/hw/apdu"
)

// Result is the result name that the platform blocks PL_TUC_CARD_* return (gemSpec_Systemprozesse_dezTI). Most of them
// have a prescribed text in TAB_ADV_318.
type Result string

// The results. Those marked "own" are not in the platform's lists.
const (
	ResultOK                         Result = "OK"
	ResultCardTerminated             Result = "CardTerminated"
	ResultCorruptDataWarning         Result = "CorruptDataWarning"
	ResultDataTooBig                 Result = "DataTooBig"
	ResultErrorAuthentication        Result = "ErrorAuthentication"
	ResultErrorImportCVC             Result = "ErrorImportCVC"
	ResultFileDeactivated            Result = "FileDeactivated"
	ResultFullRecordList             Result = "FullRecordList"
	ResultKeyInvalid                 Result = "KeyInvalid"
	ResultMemoryFailure              Result = "MemoryFailure"
	ResultNotEnoughMemorySpace       Result = "NotEnoughtMemorySpace" // spelled as in the specification
	ResultObjectNotFound             Result = "ObjectNotFound"
	ResultObjectTerminated           Result = "ObjectTerminated"
	ResultOffsetTooBig               Result = "OffsetTooBig"
	ResultPasswordBlocked            Result = "PasswordBlocked"
	ResultPasswordDisabled           Result = "PasswordDisabled"
	ResultPasswordProtected          Result = "PasswordProtected"
	ResultRecordDeactivated          Result = "RecordDeactivated"
	ResultRecordNotFound             Result = "RecordNotFound"
	ResultSecurityStatusNotSatisfied Result = "SecurityStatusNotSatisfied"
	ResultUpdateRetryWarning         Result = "UpdateRetryWarning"
	ResultWrongEndEntityCVC          Result = "WrongEndEntityCVC"
	ResultWrongLength                Result = "WrongLength"
	ResultWrongRecordLength          Result = "WrongRecordLength"
	ResultWrongSecretWarning         Result = "WrongSecretWarning"
	ResultWrongToken                 Result = "WrongToken"
	ResultPasswordNotVerified        Result = "PasswordEnabledNotVerified"
	ResultUnexpectedStatus           Result = "UnexpectedStatus" // own: a status word that the command cannot give
)

// StatusError is a status word other than success.
type StatusError struct {
	Command string // gemSpec_COS name of the command, e.g. "VERIFY"
	SW      uint16
	Name    string // gemSpec_COS name of the status word for this command, "" when it has none
	Result  Result
	Left    int  // the counter X of 63CX: tries left of a PIN, or uses left of a PUK
	Carried bool // a warning: the command was carried out all the same
}

// Error names command and status word; it holds no data of the card.
func (e *StatusError) Error() string {
	name := e.Name
	if name == "" {
		name = string(e.Result)
	}
	return fmt.Sprintf("%s: status %04X %s", e.Command, e.SW, name)
}

// IsResult reports whether err is a [StatusError] with the given result.
func IsResult(err error, r Result) bool {
	var s *StatusError
	return errors.As(err, &s) && s.Result == r
}

// IsWarning reports whether err only warns: the command was carried out.
func IsWarning(err error) bool {
	var s *StatusError
	return errors.As(err, &s) && s.Carried
}

// row is one line of a status table. from and to are equal except for the counter words 63C0 to 63CF.
type row struct {
	from, to uint16
	name     string
	result   Result
	carried  bool
}

func sw(v uint16, name string, r Result) row { return row{from: v, to: v, name: name, result: r} }

func warn(v uint16, name string, r Result) row {
	return row{from: v, to: v, name: name, result: r, carried: true}
}

// Rows that several commands share.
var (
	updateRetry  = row{from: 0x63C0, to: 0x63CF, name: "UpdateRetryWarning", result: ResultUpdateRetryWarning, carried: true}
	wrongSecret  = row{from: 0x63C1, to: 0x63CF, name: "WrongSecretWarning", result: ResultWrongSecretWarning}
	lastSecret   = sw(0x63C0, "WrongSecretWarning", ResultPasswordBlocked) // no try left: blocked from now on
	lastPUK      = sw(0x63C0, "WrongSecretWarning", ResultWrongSecretWarning)
	memory       = sw(0x6581, "MemoryFailure", ResultMemoryFailure)
	wrongFile    = sw(0x6981, "WrongFileType", ResultObjectNotFound)
	noCurrentEF  = sw(0x6986, "NoCurrentEF", ResultObjectNotFound)
	fileNotFound = sw(0x6A82, "FileNotFound", ResultObjectNotFound)
	noRecord     = sw(0x6A83, "RecordNotFound", ResultRecordNotFound)
	recordOff    = sw(0x6287, "RecordDeactivated", ResultRecordDeactivated)
	offsetTooBig = sw(0x6B00, "OffsetTooBig", ResultOffsetTooBig)
	corrupt      = warn(0x6281, "CorruptDataWarning", ResultCorruptDataWarning)
	pinNotFound  = sw(0x6A88, "PasswordNotFound", ResultObjectNotFound)
	pinNotFound2 = sw(0x6988, "PasswordNotFound", ResultObjectNotFound) // as some public sources have it
	pinBlocked   = sw(0x6983, "PasswordBlocked", ResultPasswordBlocked)
	pinUnusable  = sw(0x6985, "PasswordNotUsable", ResultPasswordProtected)
	pinLength    = sw(0x6985, "WrongPasswordLength", ResultWrongLength)
	badAlgorithm = sw(0x6A81, "UnsupportedFunction", ResultErrorAuthentication)
	keyNotFound  = sw(0x6A88, "KeyNotFound", ResultErrorAuthentication)
	noKey        = sw(0x6985, "NoKeyReference", ResultErrorAuthentication)
	keyExpired   = sw(0x6983, "KeyExpired", ResultErrorAuthentication)
	keyInvalid   = sw(0x6400, "KeyInvalid", ResultKeyInvalid)
)

// common rows apply to every command that has no row of its own for the status word.
var common = []row{
	sw(0x6881, "ChannelClosed", ResultSecurityStatusNotSatisfied),
	sw(0x6982, "SecurityStatusNotSatisfied", ResultSecurityStatusNotSatisfied),
	sw(0x6988, "IncorrectSmDo", ResultErrorAuthentication),
	sw(0x6D00, "InstructionNotSupported", ResultUnexpectedStatus),
}

// operation is one command as the status tables see it. p1 and p2 of -1 match every value.
type operation struct {
	name   string
	cla    byte // 00 or 80: interindustry or proprietary
	ins    byte
	p1, p2 int
	rows   []row
}

// operations are tried from the top: special forms stand before general ones. Source: egk-card.md 2.4 (gemSpec_COS 16.2
// and the tables of the single commands), results after gemSpec_Systemprozesse_dezTI.
var operations = []operation{
	{"SELECT", 0x00, 0xA4, -1, -1, []row{
		sw(0x6283, "FileDeactivated", ResultFileDeactivated), sw(0x6285, "FileTerminated", ResultObjectTerminated), fileNotFound}},
	{"READ BINARY", 0x00, 0xB0, -1, -1, []row{
		corrupt, warn(0x6282, "EndOfFileWarning", ResultOK), wrongFile, noCurrentEF, fileNotFound, offsetTooBig}},
	{"UPDATE BINARY", 0x00, 0xD6, -1, -1, []row{
		updateRetry, memory, wrongFile, noCurrentEF, fileNotFound, sw(0x6A84, "DataTooBig", ResultDataTooBig), offsetTooBig}},
	{"ERASE BINARY", 0x00, 0x0E, -1, -1, []row{updateRetry, memory, wrongFile, noCurrentEF, fileNotFound, offsetTooBig}},
	{"SET LOGICAL EOF", 0x80, 0x0E, -1, -1, []row{updateRetry, memory, wrongFile, noCurrentEF, fileNotFound, offsetTooBig}},
	{"READ RECORD", 0x00, 0xB2, -1, -1, []row{
		corrupt, warn(0x6282, "EndOfRecordWarning", ResultOK), recordOff, wrongFile, noCurrentEF, fileNotFound, noRecord}},
	{"APPEND RECORD", 0x00, 0xE2, -1, -1, []row{
		updateRetry, memory, sw(0x6700, "WrongRecordLength", ResultWrongRecordLength), wrongFile, noCurrentEF, fileNotFound,
		sw(0x6A84, "FullRecordList", ResultFullRecordList)}},
	{"ACTIVATE", 0x00, 0x44, -1, -1, []row{
		updateRetry, sw(0x6400, "ObjectTerminated", ResultObjectTerminated), memory,
		sw(0x6981, "VolatileKeyWithoutLcs", ResultObjectNotFound), sw(0x6A88, "KeyNotFound", ResultObjectNotFound)}},
	{"DEACTIVATE", 0x00, 0x04, -1, -1, []row{
		updateRetry, sw(0x6400, "ObjectTerminated", ResultObjectTerminated), memory,
		sw(0x6981, "VolatileKeyWithoutLcs", ResultObjectNotFound), sw(0x6A88, "KeyNotFound", ResultObjectNotFound)}},
	{"VERIFY", 0x00, 0x20, 0, -1, []row{wrongSecret, lastSecret, memory, pinBlocked, pinUnusable, pinNotFound, pinNotFound2}},
	{"CHANGE REFERENCE DATA", 0x00, 0x24, -1, -1, []row{
		wrongSecret, lastSecret, memory, pinBlocked, pinLength, pinNotFound, pinNotFound2}},
	{"RESET RETRY COUNTER", 0x00, 0x2C, -1, -1, []row{
		wrongSecret, lastPUK, memory, sw(0x6983, "CommandBlocked", ResultPasswordBlocked), pinLength, pinNotFound, pinNotFound2}},
	{"DISABLE VERIFICATION REQUIREMENT", 0x00, 0x26, -1, -1, []row{
		wrongSecret, lastSecret, memory, pinBlocked, pinUnusable, pinNotFound, pinNotFound2}},
	{"ENABLE VERIFICATION REQUIREMENT", 0x00, 0x28, -1, -1, []row{
		wrongSecret, lastSecret, memory, pinBlocked, pinUnusable, pinNotFound, pinNotFound2}},
	{"GET PIN STATUS", 0x80, 0x20, 0, -1, []row{
		sw(0x62C1, "TransportStatus (Transport-PIN)", ResultPasswordProtected),
		sw(0x62C7, "TransportStatus (Leer-PIN)", ResultPasswordProtected),
		sw(0x62D0, "PasswordDisabled", ResultPasswordDisabled),
		sw(0x63C0, "RetryCounter", ResultPasswordBlocked),
		{from: 0x63C1, to: 0x63CF, name: "RetryCounter", result: ResultPasswordNotVerified}, pinNotFound, pinNotFound2}},
	{"MANAGE SECURITY ENVIRONMENT", 0x00, 0x22, 0x81, 0xB6, []row{
		sw(0x6A81, "UnsupportedFunction", ResultErrorImportCVC), sw(0x6A88, "KeyNotFound", ResultErrorImportCVC)}},
	{"MANAGE SECURITY ENVIRONMENT", 0x00, 0x22, -1, -1, []row{badAlgorithm, keyNotFound}},
	{"PSO VERIFY CERTIFICATE", 0x00, 0x2A, 0x00, 0xBE, []row{
		updateRetry, memory,
		sw(0x6983, "KeyExpired", ResultErrorImportCVC), sw(0x6985, "NoKeyReference", ResultErrorImportCVC),
		sw(0x6A80, "VerificationError", ResultErrorImportCVC), sw(0x6A88, "InconsistentKeyReference", ResultErrorImportCVC)}},
	{"INTERNAL AUTHENTICATE", 0x00, 0x88, -1, -1, []row{
		keyInvalid, noKey, sw(0x6A80, "WrongToken", ResultWrongToken), badAlgorithm, keyNotFound}},
	{"EXTERNAL AUTHENTICATE", 0x00, 0x82, -1, -1, []row{
		sw(0x6300, "AuthenticationFailure", ResultErrorAuthentication), keyExpired,
		sw(0x6985, "NoRandom", ResultErrorAuthentication), badAlgorithm, keyNotFound}},
	{"GENERAL AUTHENTICATE", 0x00, 0x86, -1, -1, []row{
		sw(0x6300, "AuthenticationFailure", ResultErrorAuthentication), sw(0x6400, "ParameterMismatch", ResultErrorAuthentication),
		keyExpired, noKey, sw(0x6A80, "NumberPreconditionWrong", ResultErrorAuthentication), badAlgorithm, keyNotFound}},
	{"MANAGE CHANNEL", 0x00, 0x70, -1, -1, []row{sw(0x6981, "NoMoreChannelsAvailable", ResultUnexpectedStatus)}},
	{"GET CHALLENGE", 0x00, 0x84, -1, -1, nil},
	{"LIST PUBLIC KEY", 0x80, 0xCA, 0x01, -1, []row{warn(0x6200, "DataTruncated", ResultOK)}},
}

// Name returns the gemSpec_COS name of the command, or its header in hexadecimal when it is none of those that this
// package knows. Logical channel, chaining and secure messaging bits of the class octet do not matter.
func Name(c apdu.Command) string {
	if op := find(c); op != nil {
		return op.name
	}
	return fmt.Sprintf("%02X%02X%02X%02X", c.CLA, c.INS, c.P1, c.P2)
}

func find(c apdu.Command) *operation {
	for i := range operations {
		op := &operations[i]
		if op.cla == c.CLA&0x80 && op.ins == c.INS && (op.p1 < 0 || op.p1 == int(c.P1)) && (op.p2 < 0 || op.p2 == int(c.P2)) {
			return op
		}
	}
	return nil
}

// Check translates the status word that a card gave to the command: nil for 9000, else a [*StatusError]. The meaning of
// a status word depends on the command, so there is no translation without one. It serves results that did not come
// through a [Card] as well, such as those of a PIN pad.
//
// 6985 of a command that sets a new PIN is reported as WrongLength although a card gives it for a PIN in transport state
// too; who must tell them apart asks GET PIN STATUS before.
func Check(c apdu.Command, status uint16) error {
	if status == apdu.SWOK {
		return nil
	}
	e := &StatusError{Command: Name(c), SW: status, Result: ResultUnexpectedStatus}
	tables := [][]row{common}
	if op := find(c); op != nil {
		tables = [][]row{op.rows, common}
	}
	for _, rows := range tables {
		for _, r := range rows {
			if r.from <= status && status <= r.to {
				e.Name, e.Result, e.Carried = r.name, r.result, r.carried
				if status&0xFFF0 == 0x63C0 {
					e.Left = int(status & 0xF)
				}
				return e
			}
		}
	}
	return e
}
