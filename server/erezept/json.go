package erezept

import (
	"bytes"
	"encoding/json"
)

// AppendJSON adds the report as one line of JSON, with its newline.
func (r *CaseReport) AppendJSON(out []byte) ([]byte, error) {
	b := bytes.NewBuffer(out)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return out, err
	}
	return b.Bytes(), nil
}
