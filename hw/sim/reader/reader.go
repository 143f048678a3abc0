// Package simreader is a simulated card reader of security class 3: a slot, a PIN pad, a display.
//
// It is one model with two faces. To the person (a test, or the demo's control panel) it has a slot to put a card in, keys
// to press and a display to read: [Reader.Insert], [Reader.PressDigits], [Reader.PressKey], [Reader.State]. To a driver it
// has power, transfer and control calls with the driver's return codes: [Reader.Power], [Reader.Transmit],
// [Reader.Control]; package ktradv/hw/sim/ifd puts them under a real pcscd, ktradv/hw/sim/adapter under a unit test.
//
// It shares no code with the product: it reads the PC/SC part 10 structures and the CT-BCS commands with its own
// parsers, refuses what a strict reader refuses, and builds the format-2 PIN block itself. The product never sees a PIN.
package simreader

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Card is what sits in the slot.
type Card interface {
	// Reset powers the card (cold) or resets it (warm) and returns its answer to reset; empty if it stays mute. All
	// security states are gone afterwards.
	Reset(warm bool) []byte
	// Process answers a command APDU; empty if the card stays mute.
	Process(cmd []byte) []byte
}

// powerer is a card that wants to know when its power goes.
type powerer interface{ PowerDown() }

// Profile is the kind of reader.
type Profile string

const (
	// CCID is a reader under the generic driver: it shows texts of its own, chosen by message number and language.
	CCID Profile = "ccid"
	// MCT is a reader whose driver offers FEATURE_MCT_UNIVERSAL with CT-BCS, so that it shows free text. Its driver
	// reports no display size and no properties.
	MCT Profile = "mct"
)

// Key is a key of the pad that is not a digit.
type Key string

const (
	KeyOK     Key = "ok"
	KeyCancel Key = "cancel"
	KeyClear  Key = "clear"
)

// Errors for a driver. The codes of the IFD handler that stand for them are in package ifd.
var (
	ErrUnplugged   = errors.New("reader unplugged")
	ErrNoCard      = errors.New("no card in the slot")
	ErrPower       = errors.New("card does not answer to reset")
	ErrComm        = errors.New("communication with the card failed")
	ErrUnsupported = errors.New("control code not supported")
)

// ErrNotAwaiting tells a person that the pad waits for nothing: the key was lost.
var ErrNotAwaiting = errors.New("the pad is not waiting for input")

// Clock starts timers; the zero Config has the real one.
type Clock interface {
	// AfterFunc calls f after d unless stop was called before.
	AfterFunc(d time.Duration, f func()) (stop func())
}

type realClock struct{}

func (realClock) AfterFunc(d time.Duration, f func()) func() {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}

// Config describes a reader.
type Config struct {
	Profile Profile // "" is CCID
	// Columns and Lines are the size of the display; 0 is 16 by 3, with MCT 20 by 5.
	Columns, Lines int
	// Clock measures the time of a PIN entry and of slowness; nil is the real time.
	Clock Clock
}

// Failures are the ways in which real readers misbehave. The zero value is a good reader.
type Failures struct {
	// Delay makes every exchange with the card take this long.
	Delay time.Duration
	// Mute makes the card not answer to a reset, as if it were damaged or the wrong way round.
	Mute bool
	// NoDisplay reports that there is no display (CCID), or not the unit (MCT). The display itself works.
	NoDisplay bool
	// NoProperties leaves out the properties of pad and display, as some drivers do.
	NoProperties bool
	// VerifyOnly announces PIN verification without modification.
	VerifyOnly bool
	// NoPad is a reader of class 1: no features at all.
	NoPad bool
	// ShortOnly refuses commands of extended length.
	ShortOnly bool
	// IgnoreRemoval does not end a PIN entry when the card is taken; only keys and time do.
	IgnoreRemoval bool
	// HangPIN makes every PIN entry hang: it never ends by itself, and neither keys nor the card's removal change that. Exchanges
	// with the card work until then. See HangNext for what ends it.
	HangPIN bool
	// OneMessage refuses every PIN request that does not ask for exactly one message.
	OneMessage bool
	// OnlyFormat accepts this spelling of the format-2 block alone: bmFormatString, bmPINBlockString,
	// bmPINLengthFormat. Zero accepts the three that are in the field.
	OnlyFormat [3]byte
	// EchoPIN answers a PIN entry with the command that was sent to the card: a dangerous misconfiguration.
	EchoPIN bool
}

// State is a snapshot of what a person sees at the reader.
type State struct {
	Profile  Profile `json:"profile"`
	Display  string  `json:"display"`  // lines separated by a line feed, right-trimmed
	Awaiting string  `json:"awaiting"` // "", or what the pad asks for: "pin", "old", "new", "repeat"
	Digits   int     `json:"digits"`   // number of digits typed so far
	Card     bool    `json:"card"`     // a card is in the slot
	Powered  bool    `json:"powered"`  // and it has power
	Plugged  bool    `json:"plugged"`  // the reader is plugged in
	Hung     bool    `json:"hung"`     // an exchange is stuck and will not end by itself
}

// Reader is a simulated reader. All methods may be called from several goroutines.
type Reader struct {
	cfg Config

	slot sync.Mutex // held during an exchange with the card, as a driver serialises them

	mu       sync.Mutex
	card     Card
	powered  bool
	plugged  bool
	gen      uint64 // counts changes of the slot and the plug
	fail     Failures
	pull     func(cmd []byte) Pull
	entry    *entry
	text     string // what a host put on the display outside a PIN entry
	hangNext bool
	hung     int
	release  chan struct{} // closed by Release
	removed  chan struct{} // closed when the present card goes
	changed  chan struct{} // closed at every change, then replaced
}

// New returns a plugged-in reader without a card.
func New(cfg Config) *Reader {
	if cfg.Profile == "" {
		cfg.Profile = CCID
	}
	if cfg.Columns == 0 || cfg.Lines == 0 {
		cfg.Columns, cfg.Lines = 16, 3
		if cfg.Profile == MCT {
			cfg.Columns, cfg.Lines = 20, 5
		}
	}
	if cfg.Clock == nil {
		cfg.Clock = realClock{}
	}
	return &Reader{
		cfg: cfg, plugged: true, release: make(chan struct{}), removed: make(chan struct{}), changed: make(chan struct{}),
	}
}

// notify wakes everyone who waits for a change. r.mu is held.
func (r *Reader) notify() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Changed returns a channel that is closed at the next change of anything that [Reader.State] shows. Ask for it before
// reading the state, so that no change is missed.
func (r *Reader) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// State returns what a person sees now.
func (r *Reader) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := State{
		Profile: r.cfg.Profile, Display: r.display(), Card: r.card != nil, Powered: r.powered, Plugged: r.plugged, Hung: r.hung > 0,
	}
	if r.entry != nil {
		s.Awaiting, s.Digits = r.entry.step().name, len(r.entry.typed)
	}
	return s
}

// Display returns the text on the display, lines separated by a line feed.
func (r *Reader) Display() string { return r.State().Display }

// Awaiting returns what the pad asks for: "" nothing, "pin", "old", "new", "repeat".
func (r *Reader) Awaiting() string { return r.State().Awaiting }

// Wait blocks until the state fulfils a condition.
func (r *Reader) Wait(ctx context.Context, ok func(State) bool) error {
	for {
		c := r.Changed()
		if ok(r.State()) {
			return nil
		}
		select {
		case <-c:
		case <-ctx.Done():
			return fmt.Errorf("wait for the simulated reader, which shows %+v: %w", r.State(), ctx.Err())
		}
	}
}

// WaitAwaiting blocks until the pad asks for the given thing.
func (r *Reader) WaitAwaiting(ctx context.Context, what string) error {
	return r.Wait(ctx, func(s State) bool { return s.Awaiting == what })
}

// SetFailures replaces the failures of the reader.
func (r *Reader) SetFailures(f Failures) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = f
	r.notify()
}

// HangNext makes the next exchange with the card, a PIN entry included, never end by itself. It ends when [Reader.Release]
// is called, or when the driver that waits for it goes away.
func (r *Reader) HangNext() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hangNext = true
}

// Release ends all exchanges that hang; they fail.
func (r *Reader) Release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hangNext = false
	close(r.release)
	r.release = make(chan struct{})
}

// Unplug pulls the reader's plug. A card stays in the slot, without power.
func (r *Reader) Unplug() { r.plug(false) }

// Plug plugs the reader in again.
func (r *Reader) Plug() { r.plug(true) }

func (r *Reader) plug(in bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.plugged == in {
		return
	}
	r.plugged = in
	if !in {
		r.powerOff()
		if r.entry != nil {
			r.finish(r.entry, resultUnplugged)
		}
		r.text = ""
	}
	r.gen++
	r.notify()
}

// Insert puts a card into the slot; a card that is in it is taken out first.
func (r *Reader) Insert(c Card) {
	r.Remove()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.card = c
	r.gen++
	r.notify()
}

// Remove takes the card out, whatever it is doing.
func (r *Reader) Remove() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.card == nil {
		return
	}
	r.powerOff()
	r.card = nil
	close(r.removed)
	r.removed = make(chan struct{})
	if r.entry != nil && !r.fail.IgnoreRemoval {
		r.finish(r.entry, resultRemoved)
	}
	r.text = ""
	r.gen++
	r.notify()
}

func (r *Reader) powerOff() {
	if p, ok := r.card.(powerer); ok && r.powered {
		p.PowerDown()
	}
	r.powered = false
}

// PressDigits presses digit keys one after the other.
func (r *Reader) PressDigits(digits string) error {
	for _, d := range digits {
		if d < '0' || d > '9' {
			return errors.New("press digits: there are keys 0 to 9 only") // not naming it: it may be part of a PIN
		}
	}
	for i := range len(digits) {
		if err := r.press(func(e *entry) { r.digit(e, digits[i]) }); err != nil {
			return err
		}
	}
	return nil
}

// PressKey presses one of the other keys.
func (r *Reader) PressKey(k Key) error {
	switch k {
	case KeyOK:
		return r.press(r.ok)
	case KeyCancel:
		return r.press(func(e *entry) { r.finish(e, resultCancelled) })
	case KeyClear:
		return r.press(func(e *entry) { e.wipeTyped() })
	}
	return fmt.Errorf("press key: no key %q", k)
}

func (r *Reader) press(do func(*entry)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entry
	if e == nil {
		return ErrNotAwaiting
	}
	r.arm(e, e.afterKey)
	do(e)
	r.notify()
	return nil
}

// display composes the text on the display. r.mu is held.
func (r *Reader) display() string {
	if !r.plugged {
		return ""
	}
	text := r.text
	stars := ""
	switch {
	case r.entry != nil:
		text, stars = r.entry.step().text, strings.Repeat("*", len(r.entry.typed))
	case text != "":
	case r.card == nil:
		text = "Bitte Karte einstecken"
	default:
		text = "Karte gesteckt"
	}
	// The last line is the digits' while a PIN is entered.
	lines := r.cfg.Lines
	if r.entry != nil {
		lines--
	}
	out := wrap(text, r.cfg.Columns)
	out = out[:min(len(out), lines)]
	if r.entry != nil {
		out = append(out, stars[:min(len(stars), r.cfg.Columns)])
	}
	return strings.Join(out, "\n")
}

// wrap breaks a text into lines between words, blanks counting as part of the word before them; a word that is too long
// for a line is broken hard.
func wrap(text string, columns int) []string {
	var out []string
	var line []rune
	flush := func() {
		out = append(out, strings.TrimRight(string(line), " "))
		line = nil
	}
	for word := range strings.SplitAfterSeq(text, " ") {
		if len(line) > 0 && len(line)+len([]rune(strings.TrimRight(word, " "))) > columns {
			flush()
		}
		for _, c := range word {
			if len(line) == columns {
				flush()
				if c == ' ' {
					continue
				}
			}
			line = append(line, c)
		}
	}
	if len(line) > 0 {
		flush()
	}
	return out
}
