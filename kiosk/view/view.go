// Package view is the contract between the session, which decides, and the screens, which draw.
//
// The session publishes one [View] after the other: which screen a person sees and everything that stands on it, as
// identifiers and typed values, never as finished sentences and never as pixels. The screens turn a View into a
// picture in the person's language and send back an [Event]. A View that is drawn twice gives the same picture; a screen
// keeps no knowledge of its own beyond presentation (language, look, size, scroll position).
package view

import (
	"time"

	"ktradv/internal/redact"
	"ktradv/internal/terminal"
)

// Screen identifies what a person sees. The values are stable: they are part of the demo's HTTP interface.
type Screen string

// The screens of the main job (design/ui.md; gemSpec_KTR-AdV 6.1.1).
const (
	Neutral    Screen = "neutral"      // nobody is served; asks for the card (AdV-A_2450)
	Reading    Screen = "reading"      // the card is being read and its authenticity checked
	PIN        Screen = "pin"          // the reader asks for PIN.CH; the screen mirrors the prompt
	PINWrong   Screen = "pin_wrong"    // wrong PIN, tries left; again or end
	PINBlocked Screen = "pin_blocked"  // PIN blocked; does the person know the PUK?
	PUK        Screen = "puk"          // the reader asks for PUK and new PIN
	Connecting Screen = "connecting"   // steps of server connection, unlocking, checks
	Menu       Screen = "menu"         // what card, applications and PINs allow
	Data       Screen = "data"         // the insured person's data (VSD)
	Idle       Screen = "idle"         // countdown: are you still there? (AdV-A_2568)
	Blanked    Screen = "blanked"      // personal data hidden until a touch
	Ending     Screen = "ending"       // finishing a write, resetting the card, closing the connection
	TakeCard   Screen = "take_card"    // please take your card (AdV-A_2449)
	Problem    Screen = "problem"      // what happened and what to do next (AdV-A_2444)
	OutOfOrder Screen = "out_of_order" // no reader, no card service: this terminal cannot serve anyone now
	Fault      Screen = "fault"        // mistakes in the configuration, or a kiosk that does not start: for the technician
)

// View is everything one screen shows.
type View struct {
	Screen Screen

	// Prompt is the id of the prescribed text that the reader shows or that stands for it (ui-texts.csv, for example
	// "PIN.VERIFY.PIN.CH"); set on PIN and PUK.
	Prompt string
	// ReaderShowsPrompt tells that the reader's display shows exactly this prompt; otherwise the reader shows a text of
	// its own and the screen says so.
	ReaderShowsPrompt bool
	// PadStage is what the pad waits for, where the reader asks several things in turn (PUK: "puk", "new", "repeat").
	PadStage string

	// TriesLeft is the number of PIN tries left (PIN, PINWrong), or -1 when unknown.
	TriesLeft int

	// Steps are the parts of something slow, in order (Reading, Connecting, Ending).
	Steps []Step
	// KeepCard asks in large letters to leave the card in (AdV-A_2446).
	KeepCard bool

	// Notices stand above the content (Menu, Data, PIN after unblocking).
	Notices []Notice
	// Menu is what the person may choose (Menu).
	Menu []MenuItem
	// Apps lists the applications of the card and their state (Menu).
	Apps []AppStatus
	// Validity is the result of the online check (Menu); nil before it.
	Validity *Validity

	// Data are the sections to show (Data).
	Data []Section

	// Problem says what happened and what comes next (Problem, OutOfOrder).
	Problem *ProblemInfo

	// Service are codes that tell the staff how the terminal is (Neutral, OutOfOrder); empty when all is well.
	Service []string

	// Fault is what the technician has to know (Fault).
	Fault *FaultInfo

	// Deadline is when the countdown ends (Idle), zero otherwise.
	Deadline time.Time

	// Personal tells that the screen holds personal data, so that it is blanked after a minute without a touch.
	Personal bool
	// CanEnd tells that "end session" is offered; CanBack that "back" is.
	CanEnd, CanBack bool
	// Session is the pseudonymous id of the running session, "" outside one.
	Session string
	// Operation is the id and name of the last operation, for logs and the demo.
	Operation Operation
}

// Operation names what the terminal last did for the person.
type Operation struct {
	ID   string // operation id (UUID), the same in every log along the call chain
	Name string // for example "session.start"
}

// StepState is how far a step is.
type StepState int

const (
	Pending StepState = iota
	Active
	Done
	Failed
)

// Step is one part of something slow.
type Step struct {
	ID    string // text id, for example "step.connect"
	State StepState
}

// Severity of a notice.
type Severity int

const (
	Info Severity = iota
	Warning
	Alert
)

// Notice is a short text above the content. ID is a text id; prescribed texts keep the ids of ui-texts.csv.
type Notice struct {
	ID       string
	Severity Severity
	Args     map[string]string // placeholders of the text, never personal data
}

// MenuItem is one use case that is admissible now (AdV-A_2452, TAB_ADV_384).
type MenuItem struct {
	UseCase string // stable id, for example "vsd.show"; sent back in the event
	Name    string // text id of its name, for example "TAB_ADV_473.ADV001.name"
	Hint    string // text id of the hint, "" when there is none
	App     string // "general", "nfd", "dpe", "amts": the section it belongs to
}

// AppStatus is an application of the card and its state.
type AppStatus struct {
	App   string // "hca", "nfd", "dpe", "amts"
	State string // "available", "hidden", "absent", "terminated"
}

// Validity is what the check of the card gave (TAB_ADV_304, PL_TUC_EGK_STATUS).
type Validity struct {
	MathValid bool   // the certificate is mathematically valid
	TimeValid bool   // it is within its period
	Online    string // "good", "revoked", "unknown"
}

// Section is a group of rows with a heading.
type Section struct {
	Title string // text id of the heading
	Rows  []Row
}

// Kind tells how a row's value is to be shown.
type Kind string

const (
	Text  Kind = "text"  // Value as it is
	Date  Kind = "date"  // Value is YYYYMMDD, unknown parts 00
	Time  Kind = "time"  // At is an instant, shown in local time
	Code  Kind = "code"  // ValueID is a text id; when "" Value is shown as an unknown key
	Title Kind = "title" // Value is a heading inside the section, or a label of an unknown element
)

// Row is one labelled value. Value is personal: it prints as [redacted] everywhere but on the screen.
type Row struct {
	Label string // text id; for elements the product does not know, "" and LabelText holds the element's name
	LabelText,
	Value redact.String
	ValueID string
	Kind    Kind
	At      time.Time
}

// ProblemInfo explains a failure. All three are text ids of one registered problem.
type ProblemInfo struct {
	Code       string // stable code shown small for the technician, for example "PIN-BLOCKED"
	Prescribed string // id of a prescribed text (TAB_ADV_318.*), "" when the specification has none
	Args       map[string]string
	Text       string // text id: what happened, in plain words
	Next       string // text id: what to do next
	CanRetry   bool   // offers "try again"
}

// FaultInfo is a part of a terminal.Fault: as many problems as go onto one screen.
type FaultInfo struct {
	Cause    terminal.Cause
	Problems []terminal.Problem
	First    int // of Problems among all of them, from 0
	Total    int
	Facts    []terminal.Fact
}

// EventKind is what a person did.
type EventKind int

const (
	// Choose is a button: Choice says which.
	Choose EventKind = iota
	// Touched is any touch, key or movement; it restarts the idle time and lifts a blanked screen.
	Touched
)

// The choices of the fixed buttons. A menu item sends its UseCase instead.
const (
	ChoiceEnd        = "end"         // end session
	ChoiceBack       = "back"        // back to the menu
	ChoiceContinue   = "continue"    // I am still here
	ChoiceRetry      = "retry"       // try again
	ChoicePUKKnown   = "puk_known"   // I have the PUK
	ChoicePUKUnknown = "puk_unknown" // I do not have the PUK
)

// Event goes from the screen to the session.
type Event struct {
	Kind   EventKind
	Choice string
}
