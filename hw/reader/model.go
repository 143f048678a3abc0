package reader

import "strings"

// Model says what has to be known about a kind of reader because the reader itself does not say it, or says it wrongly.
type Model struct {
	// Match is a part of the reader's PC/SC name, compared without regard to case. The first match in the table counts.
	Match string
	// PINFormat is the spelling of the format-2 PIN block; zero means PINFormatBytes.
	PINFormat PINFormat
	// Display says whether there is a display, where the driver reports none or nothing.
	Display Display
	// VerifyMessages and ModifyMessages are the numbers of messages to ask for; nil means: 1 for verify, one per step for
	// modify where there is a display, none where there is none.
	VerifyMessages, ModifyMessages *byte
	// NoFreeText keeps us from using FEATURE_MCT_UNIVERSAL although the driver offers it.
	NoFreeText bool
}

// Models is the table of known readers. Source: readers' descriptors as libccid lists them and the makers' handbooks.
// Drivers report no display for many readers that have one; a reader that is neither in this table nor reports a
// display counts as class 2, and the screen alone prompts.
var Models = []Model{
	// The maker's handbook spells format 2 its own way. The driver libifd-cyberjack reports no properties at all.
	{Match: "REINER SCT", PINFormat: PINFormatFPIN2, Display: DisplayPresent},
	{Match: "KOBIL KAAN Advanced", Display: DisplayPresent}, // has a display, reports none
	// The driver replaces a message count for modify other than 0.
	{Match: "Cherry SmartTerminal ST-2", Display: DisplayNone, ModifyMessages: messages(0)},
	// Keyboard without display; refuses modify without messages.
	{Match: "Cherry KC 1000 SC", Display: DisplayNone, ModifyMessages: messages(3)},
	// Exactly one message, in every request.
	{Match: "GemPC Pinpad", VerifyMessages: messages(1), ModifyMessages: messages(1)},
	{Match: "GemPCPinpad", VerifyMessages: messages(1), ModifyMessages: messages(1)},
	{Match: "SPR 532", Display: DisplayNone},
	{Match: "SPRx32", Display: DisplayNone},
}

func messages(n byte) *byte { return &n }

// modelOf finds a reader's entry by its name; the zero Model stands for readers without one.
func modelOf(models []Model, name string) Model {
	name = strings.ToLower(name)
	m := Model{}
	for _, c := range models {
		if strings.Contains(name, strings.ToLower(c.Match)) {
			m = c
			break
		}
	}
	if m.PINFormat == (PINFormat{}) {
		m.PINFormat = PINFormatBytes
	}
	return m
}
