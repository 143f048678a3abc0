package advlog

import (
	"encoding/json"
	"fmt"
	"time"
)

// TimeFormat is the form of all times: UTC with milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// The field names of every entry, the same in all streams.
const (
	FieldTime      = "ts"          // when the entry was made
	FieldSeverity  = "severity"    // Debug, Info, Warning, Error, Fatal
	FieldName      = "name"        // full name of the operation or event, dotted words
	FieldLog       = "log"         // stream
	FieldComponent = "component"   // program that wrote the entry
	FieldOperation = "op"          // operation id (Vorgangsbezeichner), the same along the call chain
	FieldSession   = "session"     // pseudonymous id of the session
	FieldStart     = "start"       // begin of the operation
	FieldEnd       = "end"         // end of the operation
	FieldDuration  = "duration_ms" // execution time in milliseconds
	FieldResult    = "result"      // outcome
	FieldCode      = "code"        // number of the error
	FieldText      = "text"        // text of the code
	FieldErrorType = "error_type"  // Technical, Security, Business
	FieldEvent     = "event_id"    // unique id of an error or security event
	FieldRemote    = "remote"      // the error was reported by the other side
	FieldPart      = "part"        // part of the component
	FieldSW        = "sw"          // status word of the card, four hexadecimal digits
	FieldICCSN     = "iccsn"       // card number: error stream, card-related errors, at most 180 days
	FieldValues    = "values"      // further figures: numbers, flags, labels
)

// Entry is one line of a log, for programs that read logs.
type Entry struct {
	Time      string         `json:"ts"`
	Severity  string         `json:"severity"`
	Name      string         `json:"name"`
	Log       string         `json:"log"`
	Component string         `json:"component"`
	Operation string         `json:"op,omitempty"`
	Session   string         `json:"session,omitempty"`
	Start     string         `json:"start,omitempty"`
	End       string         `json:"end,omitempty"`
	Duration  float64        `json:"duration_ms,omitempty"`
	Result    string         `json:"result,omitempty"`
	Code      int            `json:"code,omitempty"`
	Text      string         `json:"text,omitempty"`
	ErrorType string         `json:"error_type,omitempty"`
	Event     string         `json:"event_id,omitempty"`
	Remote    bool           `json:"remote,omitempty"`
	Part      string         `json:"part,omitempty"`
	SW        string         `json:"sw,omitempty"`
	ICCSN     string         `json:"iccsn,omitempty"`
	Values    map[string]any `json:"values,omitempty"`
}

// ParseEntry reads one line.
func ParseEntry(line []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, fmt.Errorf("parse log entry: %w", err)
	}
	return e, nil
}

// At is the time of the entry; an entry without a readable time gives the zero time.
func (e Entry) At() time.Time {
	t, err := time.Parse(TimeFormat, e.Time)
	if err != nil {
		return time.Time{}
	}
	return t
}
