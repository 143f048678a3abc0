package reader

import "strings"

// Prompt holds the texts of one PIN entry in the language of the readers, German. The IDs are those of the catalogue of
// prescribed texts, under which the screen shows the same.
type Prompt struct {
	ID, Text       string // for the PIN, the old PIN or the PUK
	NewID, NewText string // for the new PIN, where there is one
}

// repeatPrompt asks for the new PIN a second time; the specification prescribes no text for that.
const repeatPrompt = "Neue PIN wiederholen: "

type promptKey struct{ action, object string }

// The texts end in a blank, as the specification prints them.
var prompts = func() map[promptKey]Prompt {
	m := map[promptKey]Prompt{
		{ActionVerify, "PIN.CH"}: {ID: "PIN.VERIFY.PIN.CH", Text: "Eingabe Versicherten-PIN: "},
		{ActionChange, "PIN.AMTS_REP"}: {
			ID: "PIN.CHANGE.PIN.AMTS_REP.old", Text: "Eingabe Versicherten-PIN: ",
			NewID: "PIN.CHANGE.PIN.AMTS_REP.new", NewText: "Eingabe neue Vertreter-PIN: ",
		},
		{ActionUnblock, "PIN.AMTS_REP"}: {
			ID: "PIN.UNBLOCK.PIN.AMTS_REP.pinch", Text: "Eingabe Versicherten-PIN: ",
			NewID: "PIN.UNBLOCK.PIN.AMTS_REP.new", NewText: "Eingabe neue Vertreter-PIN: ",
		},
		{ActionEnable, "MRPIN.NFD"}:   {ID: "PIN.ENABLE.MRPIN.NFD", Text: "PIN-Schutz für Notfalldaten einschalten - Versicherten-PIN: "},
		{ActionEnable, "MRPIN.DPE"}:   {ID: "PIN.ENABLE.MRPIN.DPE", Text: "PIN-Schutz für Pers. Erklärungen einschalten - Versicherten-PIN: "},
		{ActionEnable, "MRPIN.AMTS"}:  {ID: "PIN.ENABLE.MRPIN.AMTS", Text: "PIN-Schutz für Medikationsplan einschalten - Versicherten-PIN: "},
		{ActionDisable, "MRPIN.NFD"}:  {ID: "PIN.DISABLE.MRPIN.NFD", Text: "PIN-Schutz für Notfalldaten ausschalten - Versicherten-PIN: "},
		{ActionDisable, "MRPIN.DPE"}:  {ID: "PIN.DISABLE.MRPIN.DPE", Text: "PIN-Schutz für Pers. Erklärungen ausschalten - Versicherten-PIN: "},
		{ActionDisable, "MRPIN.AMTS"}: {ID: "PIN.DISABLE.MRPIN.AMTS", Text: "PIN-Schutz für Medikationsplan ausschalten - Versicherten-PIN: "},
	}
	for _, object := range []string{"PIN.CH", "MRPIN.NFD", "MRPIN.DPE", "MRPIN.AMTS"} { // one secret (TAB_ADV_313, TAB_ADV_317)
		m[promptKey{ActionChange, object}] = Prompt{
			ID: "PIN.CHANGE.PIN.CH.old", Text: "Eingabe alte Versicherten-PIN: ",
			NewID: "PIN.CHANGE.PIN.CH.new", NewText: "Eingabe neue Versicherten-PIN: ",
		}
		m[promptKey{ActionUnblock, object}] = Prompt{
			ID: "PIN.UNBLOCK.PIN.CH.puk", Text: "Eingabe PUK: ",
			NewID: "PIN.UNBLOCK.PIN.CH.new", NewText: "Eingabe neue Versicherten-PIN: ",
		}
	}
	return m
}()

// PromptFor returns the prescribed texts for an action on a PIN (TAB_ADV_304, 309, 311, 313, 317). There is none for
// pairs that no use case knows.
func PromptFor(object, action string) (Prompt, bool) {
	p, ok := prompts[promptKey{action, object}]
	return p, ok
}

// FitDisplay lays a text out on a display of so many columns and lines: broken between words, or after a hyphen, lines
// padded with blanks to the full width, the end cut off where it does not fit. Unknown sizes (0) leave the text as it is.
func FitDisplay(text string, columns, lines int) (fitted string, cut bool) {
	if columns <= 0 || lines <= 0 {
		return text, false
	}
	var out []string
	line, width := "", 0
	flush := func() {
		out = append(out, line+strings.Repeat(" ", columns-width))
		line, width = "", 0
	}
	for _, w := range breakable(text) {
		if width > 0 && width+len([]rune(strings.TrimRight(w, " "))) > columns {
			flush()
		}
		for r := []rune(w); ; flush() {
			take := min(len(r), columns-width)
			line, width, r = line+string(r[:take]), width+take, r[take:]
			if strings.TrimRight(string(r), " ") == "" { // blanks at the end of a line need no line of their own
				break
			}
		}
	}
	if width > 0 {
		flush()
	}
	if len(out) > lines {
		return strings.Join(out[:lines], ""), true
	}
	return strings.Join(out, ""), false
}

// breakable splits a text behind blanks and hyphens.
func breakable(text string) []string {
	var words []string
	start := 0
	for i, r := range text {
		if r == ' ' || r == '-' {
			words = append(words, text[start:i+1])
			start = i + 1
		}
	}
	if start < len(text) {
		words = append(words, text[start:])
	}
	return words
}

// latin1 encodes a text in ISO 8859-1, which CT-BCS texts use; other characters become a question mark.
func latin1(text string) []byte {
	var b []byte
	for _, r := range text {
		if r < 0x20 || r > 0xFF {
			r = '?'
		}
		b = append(b, byte(r))
	}
	return b
}
