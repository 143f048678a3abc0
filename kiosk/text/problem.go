package text

// Problem is a fault that a person can be told: what happened in plain words and what to do next (AdV-A_2444). All fields
// but Code are text ids.
type Problem struct {
	Code       string // stable, shown small for the technician
	Prescribed string // the text that TAB_ADV_318 prescribes, "" when there is none
	Title      string
	Text       string
	Next       string
}

// Problems are all registered problems by code. Codes without a hyphen are the results of the platform's building blocks
// in TAB_ADV_318, in the spelling of the specification.
var Problems = register(
	"CARD-NOT-EGK", "CARD-TOO-OLD", "CARD-NOT-AUTHENTIC", "CARD-MUTE", "CARD-REMOVED", "CARD-READ-ERROR",
	"CardTerminated", "CorruptDataWarning", "DataTooBig", "ErrorAuthentication", "ErrorImportCVC",
	"ErrorUserVerification", "FileNotFound", "MemoryFailure", "NotEnoughtMemorySpace", "ObjectNotFound",
	"ObjectTerminated", "OffsetTooBig", "PasswordBlocked", "PasswordDisabled", "SecurityStatusNotSatisfied",
	"UpdateRetryWarning", "WrongSecretWarning", "WrongEndEntityCVC",
	"PIN-TRANSPORT", "PIN-LENGTH", "PIN-CANCELLED", "PIN-TIMEOUT", "PIN-MISMATCH", "PIN-READER-LEAK",
	"PUK-UNKNOWN", "PUK-USED-UP",
	"SERVER-UNREACHABLE", "SERVER-NOT-TRUSTED", "SERVER-REFUSED", "SERVER-LOST", "SERVER-FORBIDDEN-COMMAND",
	"NO-INSURER-IDENTITY", "PIN-STATUS-NOT-SET", "LOG-ENTRY-FAILED", "HCA-CHECK-FAILED",
	"VSD-3001", "VSD-3011",
	"READER-GONE", "READER-HUNG", "READER-NO-PAD", "READER-SEVERAL", "READER-UNSUPPORTED",
	"TERMINAL-STARTING", "TERMINAL-CLOCK", "IDLE-TIMEOUT", codeInternal,
)

const codeInternal = "INTERNAL"

// prescribedCodes are the codes of TAB_ADV_318.
var prescribedCodes = map[string]bool{
	"CardTerminated": true, "CorruptDataWarning": true, "DataTooBig": true, "ErrorAuthentication": true,
	"ErrorImportCVC": true, "ErrorUserVerification": true, "FileNotFound": true, "MemoryFailure": true,
	"NotEnoughtMemorySpace": true, "ObjectNotFound": true, "ObjectTerminated": true, "OffsetTooBig": true,
	"PasswordBlocked": true, "PasswordDisabled": true, "SecurityStatusNotSatisfied": true,
	"UpdateRetryWarning": true, "WrongSecretWarning": true, "WrongEndEntityCVC": true,
}

func register(codes ...string) map[string]Problem {
	m := make(map[string]Problem, len(codes))
	for _, code := range codes {
		p := Problem{
			Code: code, Title: "problem." + code + ".title", Text: "problem." + code + ".text", Next: "problem." + code + ".next",
		}
		if prescribedCodes[code] {
			p.Prescribed = "TAB_ADV_318." + code
		}
		m[code] = p
	}
	return m
}

// ProblemFor returns the registered problem with the code, or the internal error for a code that nobody registered.
func ProblemFor(code string) Problem {
	if p, ok := Problems[code]; ok {
		return p
	}
	return Problems[codeInternal]
}
