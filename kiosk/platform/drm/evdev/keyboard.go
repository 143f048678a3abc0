package evdev

import (
	"time"
	"unicode"

	"gioui.org/io/event"
	"gioui.org/io/key"

	"ktradv/kiosk/platform"
)

// Times of key repetition, those of common desktops.
const (
	repeatDelay  = 500 * time.Millisecond
	repeatPeriod = 33 * time.Millisecond
)

// Codes of keys with a meaning of their own (linux/input-event-codes.h).
const (
	keyLeftCtrl   = 29
	keyLeftShift  = 42
	keyRightShift = 54
	keyLeftAlt    = 56
	keyCapsLock   = 58
	keyRightCtrl  = 97
	keyRightAlt   = 100
	keyLeftMeta   = 125
	keyRightMeta  = 126
)

// named are the keys that type nothing.
var named = map[uint16]key.Name{
	1: key.NameEscape, 14: key.NameDeleteBackward, 15: key.NameTab, 28: key.NameReturn, 96: key.NameEnter,
	102: key.NameHome, 103: key.NameUpArrow, 104: key.NamePageUp, 105: key.NameLeftArrow, 106: key.NameRightArrow,
	107: key.NameEnd, 108: key.NameDownArrow, 109: key.NamePageDown, 111: key.NameDeleteForward, 158: key.NameBack,
	// Keys of tactile keypads: cancel, clear, OK, select.
	223: key.NameEscape, 355: key.NameDeleteBackward, 352: key.NameReturn, 353: key.NameReturn,
	59: key.NameF1, 60: key.NameF2, 61: key.NameF3, 62: key.NameF4, 63: key.NameF5, 64: key.NameF6,
	65: key.NameF7, 66: key.NameF8, 67: key.NameF9, 68: key.NameF10, 87: key.NameF11, 88: key.NameF12,
}

// german is the German layout: without modifier, with Shift, with AltGr. Zero
// types nothing. The keypad types digits whatever NumLock says: a tactile
// keypad has no NumLock.
var german = map[uint16][3]rune{
	2: {'1', '!'}, 3: {'2', '"', '²'}, 4: {'3', '§', '³'}, 5: {'4', '$'}, 6: {'5', '%'}, 7: {'6', '&'},
	8: {'7', '/', '{'}, 9: {'8', '(', '['}, 10: {'9', ')', ']'}, 11: {'0', '=', '}'}, 12: {'ß', '?', '\\'}, 13: {'´', '`'},
	16: {'q', 'Q', '@'}, 17: {'w', 'W'}, 18: {'e', 'E', '€'}, 19: {'r', 'R'}, 20: {'t', 'T'}, 21: {'z', 'Z'},
	22: {'u', 'U'}, 23: {'i', 'I'}, 24: {'o', 'O'}, 25: {'p', 'P'}, 26: {'ü', 'Ü'}, 27: {'+', '*', '~'},
	30: {'a', 'A'}, 31: {'s', 'S', 'ẞ'}, 32: {'d', 'D'}, 33: {'f', 'F'}, 34: {'g', 'G'}, 35: {'h', 'H'}, 36: {'j', 'J'},
	37: {'k', 'K'}, 38: {'l', 'L'}, 39: {'ö', 'Ö'}, 40: {'ä', 'Ä'}, 41: {'^', '°'}, 43: {'#', '\''},
	86: {'<', '>', '|'}, 44: {'y', 'Y'}, 45: {'x', 'X'}, 46: {'c', 'C'}, 47: {'v', 'V'}, 48: {'b', 'B'}, 49: {'n', 'N'},
	50: {'m', 'M', 'µ'}, 51: {',', ';'}, 52: {'.', ':'}, 53: {'-', '_'}, 57: {' ', ' '},
	55: {'*', '*'}, 74: {'-', '-'}, 78: {'+', '+'}, 98: {'/', '/'}, 83: {',', ','},
	71: {'7', '7'}, 72: {'8', '8'}, 73: {'9', '9'}, 75: {'4', '4'}, 76: {'5', '5'}, 77: {'6', '6'},
	79: {'1', '1'}, 80: {'2', '2'}, 81: {'3', '3'}, 82: {'0', '0'},
	// Digits and signs of remote controls and telephone-like keypads.
	512: {'0', '0'}, 513: {'1', '1'}, 514: {'2', '2'}, 515: {'3', '3'}, 516: {'4', '4'}, 517: {'5', '5'}, 518: {'6', '6'},
	519: {'7', '7'}, 520: {'8', '8'}, 521: {'9', '9'}, 522: {'*', '*'}, 523: {'#', '#'},
}

// dead are the accents that wait for the next letter, and what they make.
var dead = map[rune]map[rune]rune{
	'´': pairs("aáeéiíoóuúyýcćnńsśzźlĺrŕAÁEÉIÍOÓUÚYÝCĆNŃSŚZŹLĹRŔ"),
	'`': pairs("aàeèiìoòuùAÀEÈIÌOÒUÙ"),
	'^': pairs("aâeêiîoôuûcĉgĝhĥjĵsŝwŵyŷAÂEÊIÎOÔUÛCĈGĜHĤJĴSŜWŴYŶ"),
}

func pairs(s string) map[rune]rune {
	m := make(map[rune]rune)
	r := []rune(s)
	for i := 0; i+1 < len(r); i += 2 {
		m[r[i]] = r[i+1]
	}
	return m
}

// keyboard is the state of one keyboard or keypad.
type keyboard struct {
	extra map[uint16]key.Name
	held  map[uint16]bool // modifiers that are down
	caps  bool
	dead  rune

	repeat uint16    // the key that repeats
	next   time.Time // when; zero: none
	down   [32]uint16
	nDown  int
}

func (k *keyboard) modifiers() (m key.Modifiers) {
	for code, mod := range modifierKeys {
		if k.held[code] {
			m |= mod
		}
	}
	return m
}

var modifierKeys = map[uint16]key.Modifiers{
	keyLeftShift: key.ModShift, keyRightShift: key.ModShift, keyLeftCtrl: key.ModCtrl, keyRightCtrl: key.ModCtrl,
	keyLeftAlt: key.ModAlt, keyLeftMeta: key.ModSuper, keyRightMeta: key.ModSuper,
	keyRightAlt: 0, // AltGr chooses a character
}

// key handles a key: value 0 up, 1 down, 2 the kernel's own repetition, which
// not all keypads have and which is therefore ignored.
func (k *keyboard) key(dst []event.Event, code uint16, value int32, now time.Time) []event.Event {
	if value != 0 && value != 1 {
		return dst
	}
	down := value == 1
	if _, ok := modifierKeys[code]; ok {
		if k.held == nil {
			k.held = make(map[uint16]bool)
		}
		k.held[code] = down
		k.next = time.Time{}
		return dst
	}
	if code == keyCapsLock {
		if down {
			k.caps = !k.caps
		}
		return dst
	}
	if !down {
		if !k.up(code) {
			return dst
		}
		if code == k.repeat {
			k.next = time.Time{}
		}
		if name := k.name(code); name != "" {
			dst = append(dst, key.Event{Name: name, Modifiers: k.modifiers(), State: key.Release})
		}
		return dst
	}
	if !k.press(code) {
		return dst
	}
	k.repeat, k.next = code, time.Time{}
	if k.repeats(code) {
		k.next = now.Add(repeatDelay)
	}
	return k.emit(dst, code)
}

// press and up keep the list of keys that are down; a key cannot go down
// twice, nor up without having been down.
func (k *keyboard) press(code uint16) bool {
	for _, c := range k.down[:k.nDown] {
		if c == code {
			return false
		}
	}
	if k.nDown == len(k.down) {
		return false
	}
	k.down[k.nDown] = code
	k.nDown++
	return true
}

func (k *keyboard) up(code uint16) bool {
	for i, c := range k.down[:k.nDown] {
		if c == code {
			k.nDown--
			k.down[i] = k.down[k.nDown]
			return true
		}
	}
	return false
}

// repeats reports whether a held key repeats: what confirms or cancels does
// not, so that a heavy hand does not answer the next question too.
func (k *keyboard) repeats(code uint16) bool {
	switch k.name(code) {
	case key.NameReturn, key.NameEnter, key.NameEscape, key.NameTab, key.NameBack, "":
		return false
	}
	return true
}

// tick repeats the held key. Times that were missed are not made up for.
func (k *keyboard) tick(dst []event.Event, now time.Time) []event.Event {
	if k.next.IsZero() || now.Before(k.next) {
		return dst
	}
	k.next = now.Add(repeatPeriod)
	return k.emit(dst, k.repeat)
}

// release lets go of all keys.
func (k *keyboard) release(dst []event.Event) []event.Event {
	clear(k.held)
	for _, c := range k.down[:k.nDown] {
		if name := k.name(c); name != "" {
			dst = append(dst, key.Event{Name: name, State: key.Release})
		}
	}
	k.nDown, k.dead, k.next = 0, 0, time.Time{}
	return dst
}

// char is what the key types with the modifiers that are down, 0 for nothing.
func (k *keyboard) char(code uint16) rune {
	if _, ok := k.extra[code]; ok {
		return 0
	}
	g := german[code]
	level := 0
	switch {
	case k.held[keyRightAlt]:
		level = 2
	case k.held[keyLeftShift] || k.held[keyRightShift]:
		level = 1
	}
	r := g[level]
	if k.caps && level < 2 && unicode.IsLetter(r) && g[0] != 'ß' {
		r = g[1-level]
	}
	return r
}

// name is the key's name for shortcuts: letters as capitals, as Gio has it.
func (k *keyboard) name(code uint16) key.Name {
	if n, ok := k.extra[code]; ok {
		return n
	}
	if n, ok := named[code]; ok {
		return n
	}
	switch r := german[code][0]; {
	case r == 0:
		return ""
	case r == ' ':
		return key.NameSpace
	case k.held[keyLeftShift] || k.held[keyRightShift]:
		return key.Name(unicode.ToUpper(german[code][1]))
	default:
		return key.Name(unicode.ToUpper(r))
	}
}

// emit appends what a press of the key gives: a key event, and text unless the
// press is a shortcut.
func (k *keyboard) emit(dst []event.Event, code uint16) []event.Event {
	name, mods := k.name(code), k.modifiers()
	if name != "" {
		dst = append(dst, key.Event{Name: name, Modifiers: mods, State: key.Press})
	}
	r := k.char(code)
	if mods&(key.ModCtrl|key.ModAlt|key.ModSuper) != 0 || r == 0 && name == "" {
		return dst
	}
	if r == 0 {
		k.dead = 0 // a key that types nothing ends a dead key
		return dst
	}
	text := string(r)
	switch accent := k.dead; {
	case accent != 0:
		k.dead = 0
		if c, ok := dead[accent][r]; ok {
			text = string(c)
		} else if r == ' ' || r == accent {
			text = string(accent)
		} else {
			text = string(accent) + text
		}
	case dead[r] != nil:
		k.dead = r
		return dst
	}
	return append(dst, platform.Text{Text: text})
}
