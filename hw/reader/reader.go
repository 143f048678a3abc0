// Package reader is what the product knows about card readers: the interface through which the terminal uses one
// ([Reader], [Card]), the rules by which a reader's security class and display are found out ([DetectPad]), and the
// messages that make a reader's own PIN pad ask for a PIN and send it to the card ([Pad]; PC/SC part 10 and, for
// readers that take free text, CT-BCS through FEATURE_MCT_UNIVERSAL).
//
// The PIN never comes near this package: a command with placeholders goes to the reader, a status word comes back. A
// reader without a pad, a command that already holds digits, and an answer that holds more than a status word are
// refused with errors of their own (gemSpec_KTR-AdV AdV-A_2501, AdV-A_2504, AdV-A_2562).
//
// Everything here is pure Go. Package ktradv/hw/reader/pcsc implements the interface over PC/SC.
package reader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ktradv/hw/apdu"
	"ktradv/hw/cos"
)

// Reader is one card reader with one slot. WaitReader and WaitCard may run at the same time as the other methods.
type Reader interface {
	// Name is the reader's name as the operating system gives it.
	Name() string
	// Features tells what the reader can do. The zero value stands until the reader was reached for the first time.
	Features() Features
	// WaitReader blocks until the reader is plugged in and its service answers. Only the context ends it early.
	WaitReader(ctx context.Context) error
	// WaitCard blocks until a card is in the slot (present) or none is (not present). A card that does not answer is
	// present. The error is ErrReaderGone (ErrSeveral), ErrHung or ErrNoService as soon as one of them holds.
	WaitCard(ctx context.Context, present bool) error
	// Connect powers the card and takes it for this process alone. Errors: ErrMute, ErrCardRemoved, ErrInUse,
	// ErrReaderGone, ErrHung, ErrNoService.
	Connect(ctx context.Context) (Card, error)
	// Close ends everything, also calls that wait.
	Close() error
}

// Card is a connection to the card in the slot. Its methods must not be called concurrently.
type Card interface {
	apdu.Transmitter
	// ATR is the card's answer to reset.
	ATR() []byte
	// VerifyPIN asks for one PIN on the reader's pad and sends the command with it to the card. Errors: see [PINResult].
	VerifyPIN(ctx context.Context, r PINRequest) (PINResult, error)
	// ModifyPIN asks for the old PIN (or PUK), where the command has a place for it, and twice for the new one.
	ModifyPIN(ctx context.Context, r PINRequest) (PINResult, error)
	// ShowText puts a text on the reader's display; ErrNoFreeText where the reader takes none.
	ShowText(ctx context.Context, text string) error
	// Reset resets the card (warm); all security states are gone after it.
	Reset(ctx context.Context) error
	// Disconnect ends the connection and takes the power off the card.
	Disconnect() error
}

// Errors of readers and cards, returned wrapped. The first three are those of package apdu.
var (
	ErrCardRemoved = apdu.ErrCardRemoved
	ErrMute        = apdu.ErrCardMute
	ErrReaderGone  = apdu.ErrReaderGone

	// ErrHung: a call was not answered within its own deadline. The card service (or the reader below it) hangs; only
	// replacing the service helps. It is an apdu.ErrTimeout too.
	ErrHung = fmt.Errorf("card service hangs: %w", apdu.ErrTimeout)
	// ErrNoService: the card service is not running or ended the connection. It is an apdu.ErrReaderGone too.
	ErrNoService = fmt.Errorf("card service not available: %w", apdu.ErrReaderGone)
	// ErrSeveral: more than one reader has the wanted name, so that nobody can say at which the card is expected, nor at
	// which a PIN may be typed. It is an apdu.ErrReaderGone too.
	ErrSeveral = fmt.Errorf("more than one card reader: %w", apdu.ErrReaderGone)
	// ErrInUse: another program holds the card.
	ErrInUse = errors.New("card is in use by another program")
	// ErrReset: another program reset the card, its security states are gone.
	ErrReset = errors.New("card was reset by another program")
	// ErrTransmission: the reader could not carry out the exchange although reader and card are there.
	ErrTransmission = errors.New("exchange with the card failed")
	// ErrExtended: the command needs extended length, the reader moves short commands only.
	ErrExtended = errors.New("reader takes no command of extended length")
	// ErrUnsupported: the reader's driver does not know the request.
	ErrUnsupported = errors.New("request not supported by the reader")
)

// Errors of a PIN entry. The card has not seen a PIN in any of these cases, except where ErrPINDisclosed says so.
var (
	// ErrPINCancelled: the person pressed cancel (6401).
	ErrPINCancelled = errors.New("pin entry cancelled at the reader")
	// ErrPINTimeout: nobody typed in time (6400).
	ErrPINTimeout = errors.New("pin entry timed out at the reader")
	// ErrPINMismatch: the new PIN and its repetition differ (6402).
	ErrPINMismatch = errors.New("new pin and repetition differ")
	// ErrPINLength: fewer or more digits than allowed (6403).
	ErrPINLength = errors.New("pin has a length that is not allowed")
	// ErrPINStructure: the reader refused the request itself (6B80); the reader's entry in the model table is wrong.
	ErrPINStructure = errors.New("reader refused the structure of the pin request")
	// ErrNoPINPad: the reader cannot take a PIN for the wanted command (class 1, or verify without modify).
	ErrNoPINPad = errors.New("reader has no usable pin pad")
	// ErrPINTemplate: the command does not hold placeholders only.
	ErrPINTemplate = errors.New("command is no pin template")
	// ErrPINDisclosed: the reader's answer holds more than a status word and might hold the PIN. The answer is wiped and
	// the operation is at an end (AdV-A_2501, AdV-A_2504); the card may have seen the PIN.
	ErrPINDisclosed = errors.New("reader disclosed data of a pin entry")
	// ErrNoFreeText: the reader cannot show a text of ours.
	ErrNoFreeText = errors.New("reader shows no free text")
)

// Actions of a PIN request, the parameter Aktion of ENV_TUC_SECRET_INPUT (AdV-A_2506).
const (
	ActionVerify  = "VERIFY"
	ActionChange  = "CHANGE"
	ActionUnblock = "UNBLOCK"
	ActionEnable  = "ENABLE"
	ActionDisable = "DISABLE"
)

// PINRequest describes a PIN entry.
type PINRequest struct {
	// Command is the command for the card with a [Placeholder] wherever the reader is to put a PIN.
	Command apdu.Command
	// Object is the PIN by its name in the object system, for example "PIN.CH"; Action one of the Action constants.
	Object, Action string
	// MinLen and MaxLen bound the number of digits; the same bounds hold for the old PIN and the new one, because the
	// reader's structure has no others.
	MinLen, MaxLen int
	// Prompt is shown while the (old) PIN is asked for, NewPrompt and RepeatPrompt with the new one. Where empty, the
	// prescribed texts for Object and Action are used ([PromptFor]).
	Prompt, NewPrompt, RepeatPrompt string
	// Timeout is how long the reader waits for a key, in whole seconds from 30 to 60; other values are moved into that
	// range. A PIN entry cannot be cancelled by the host, so the time must end by itself.
	Timeout time.Duration
}

// PromptWay tells what the person could read on the reader during a PIN entry.
type PromptWay int

const (
	// PromptNone: the reader has no display (class 2), or none that we know of.
	PromptNone PromptWay = iota
	// PromptReaderText: the reader showed a text of its own, chosen by message number and language.
	PromptReaderText
	// PromptFreeText: the reader showed our text.
	PromptFreeText
)

// String gives the way as a code for logs.
func (w PromptWay) String() string {
	switch w {
	case PromptFreeText:
		return "free_text"
	case PromptReaderText:
		return "reader_text"
	}
	return "none"
}

// PINResult is what a PIN entry gave when the command went to the card: the card's status word, whatever it is. A PIN
// entry that ended at the reader is an error instead (ErrPINCancelled, ErrPINTimeout, ErrPINMismatch, ErrPINLength). The
// prompt fields are valid with those errors, too.
type PINResult struct {
	SW uint16
	// PromptShown is the way in which the reader prompted; for the log.
	PromptShown PromptWay
	// PromptCut tells that our text was too long for the reader's display and lost its end.
	PromptCut bool
}

// Class is the security class of a reader (gemSpec_KTR-AdV 6.2.1).
type Class int

const (
	ClassUnknown Class = iota
	Class1             // contacts only
	Class2             // PIN pad
	Class3             // PIN pad and display
)

// Display is what is known about a reader's display.
type Display int

const (
	DisplayUnknown Display = iota
	DisplayNone
	DisplayPresent
)

// Features tells what a reader can do. The zero value means that the reader has not been asked yet.
type Features struct {
	Class Class
	// Verify and Modify tell that the driver offers the two PIN operations. A reader with only one of them counts as
	// class 1: readers are known that announce verify without having a pad.
	Verify, Modify bool
	// FreeText tells that the display takes our texts.
	FreeText bool
	Display  Display
	// Columns and Lines are the size of the display in characters, 0 when unknown.
	Columns, Lines int
	// MinPIN and MaxPIN are the reader's own limits on the number of digits, 0 when unknown.
	MinPIN, MaxPIN int
	// ShortOnly tells that the reader is known to move no extended commands.
	ShortOnly bool
	// PINFormat is how a format-2 PIN block is described to this reader.
	PINFormat PINFormat
}

// APDULimits are the longest command and response that card and reader move, in octets; package cos asks a card's
// connection for them.
func (f Features) APDULimits() (command, response int) {
	l := cos.MinimumLimits
	if f.ShortOnly {
		l = cos.ShortLimits
	}
	return l.Command, l.Response
}
