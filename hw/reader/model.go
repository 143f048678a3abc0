package reader

import (
	"ktradv/internal/readers"
)

// Model is an entry in the table of reader models.
type Model = readers.Model

// Models is the table of known readers. Drivers report no display for many readers that have one; a reader that is neither
// in this table nor reports a display counts as class 2, and the screen alone prompts.
var Models = readers.Known

// quirks is a reader's entry in the table of models (ktradv/internal/readers), in the terms of this package.
type quirks struct {
	readers.Model
	format  PINFormat
	display Display
}

// pinFormats are the spellings of a format-2 PIN block that the table names.
var pinFormats = map[string]PINFormat{
	"": PINFormatBytes, readers.PINFormatBytes: PINFormatBytes, readers.PINFormatBits: PINFormatBits, readers.PINFormatFPIN2: PINFormatFPIN2,
}

// quirksOf finds a reader's entry by its PC/SC name or, where no name fits, by its USB id; readers without one have no
// quirks.
func quirksOf(models []Model, name string, id readers.USBID) quirks {
	m, _ := readers.Find(models, name, id)
	q := quirks{Model: m, format: pinFormats[m.PINFormat]}
	if m.Display != nil {
		q.display = DisplayNone
		if *m.Display {
			q.display = DisplayPresent
		}
	}
	return q
}
