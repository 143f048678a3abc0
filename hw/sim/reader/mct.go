package simreader

import (
	"context"
	"encoding/binary"
	"time"
)

var (
	swOK       = []byte{0x90, 0x00}
	swLength   = []byte{0x67, 0x00}
	swParams   = []byte{0x6A, 0x00}
	swNoINS    = []byte{0x6D, 0x00}
	swBadClass = []byte{0x6E, 0x00}
)

// mct is FEATURE_MCT_UNIVERSAL: an envelope (SAD, DAD, length, command) around a CT-BCS command.
func (r *Reader) mct(ctx context.Context, fail Failures, in []byte) ([]byte, error) {
	if len(in) < 8 || int(binary.LittleEndian.Uint16(in[2:])) != len(in)-4 || in[0] != 2 {
		return nil, ErrComm
	}
	var answer []byte
	var err error
	switch in[1] {
	case 0: // the card itself
		answer, err = r.exchange(ctx, in[4:])
	case 1:
		answer, err = r.ctbcs(ctx, fail, in[4:])
	default:
		return nil, ErrComm
	}
	if err != nil {
		return nil, err
	}
	out := []byte{in[1], in[0]}
	out = binary.LittleEndian.AppendUint16(out, uint16(len(answer)))
	return append(out, answer...), nil
}

// ctbcs carries out a basic command of a card terminal.
func (r *Reader) ctbcs(ctx context.Context, fail Failures, c []byte) ([]byte, error) {
	if c[0] != 0x20 {
		return swBadClass, nil
	}
	if c[1] == 0x13 { // GET STATUS
		if c[3] != 0x81 || len(c) != 5 {
			return swParams, nil
		}
		units := []byte{0x01, 0x40, 0x50}
		if fail.NoDisplay {
			units = []byte{0x01, 0x50}
		}
		return append(append([]byte{0x81, byte(len(units))}, units...), swOK...), nil
	}
	if len(c) < 5 || int(c[4]) != len(c)-5 {
		return swLength, nil
	}
	objects, ok := tlv(c[5:])
	if !ok {
		return swParams, nil
	}
	switch c[1] {
	case 0x17: // OUTPUT
		if c[2] != 0x40 || objects[0x50] == nil {
			return swParams, nil
		}
		r.mu.Lock()
		r.text = text(objects[0x50])
		r.notify()
		r.mu.Unlock()
		return swOK, nil
	case 0x18, 0x19: // PERFORM VERIFICATION, MODIFY VERIFICATION DATA
		if c[2] != 0x01 {
			return swParams, nil
		}
		return r.ctPIN(ctx, fail, c[1] == 0x19, objects)
	}
	return swNoINS, nil
}

// Limits of the terminal for a PIN whose length the host leaves open, and its own time-out.
const (
	ctMinPIN  = 4
	ctMaxPIN  = 12
	ctTimeout = 60 * time.Second
)

func (r *Reader) ctPIN(ctx context.Context, fail Failures, modify bool, objects map[byte][]byte) ([]byte, error) {
	head := 2
	if modify {
		head = 3
	}
	do := objects[0x52]
	if len(do) < head+5 || do[0]&0x03 != 2 { // format-2 block is the only one a card of this kind knows
		return swParams, nil
	}
	cmd := append([]byte(nil), do[head:]...)
	if int(cmd[4]) != len(cmd)-5 {
		return swParams, nil
	}
	offset := func(position byte) (int, bool) { // positions count from 1 at CLA
		o := int(position) - 6
		return o, o >= 0 && o+8 <= len(cmd)-5
	}
	e := &entry{min: ctMinPIN, max: ctMaxPIN, endAtOK: true, firstKey: ctTimeout, afterKey: ctTimeout}
	if n := int(do[0] >> 4); n != 0 {
		e.min, e.max, e.endAtMax = n, n, true
	}
	if t := objects[0x80]; len(t) == 1 && t[0] != 0 {
		e.firstKey = time.Duration(t[0]) * time.Second
		e.afterKey = e.firstKey
	}
	first, ok := offset(do[1])
	if !ok {
		return swParams, nil
	}
	prompt := func(tag byte, otherwise string) string {
		if t := objects[tag]; t != nil {
			return text(t)
		}
		return otherwise
	}
	if !modify {
		e.steps = []step{{stepPIN, prompt(0x50, ownText(0x0407, 0))}}
		return r.perform(ctx, fail, e, cmd, map[int]int{first: 0})
	}
	second, ok := offset(do[2])
	if !ok {
		return swParams, nil
	}
	put := map[int]int{second: 0}
	if first != second {
		e.steps = append(e.steps, step{stepOld, prompt(0x50, ownText(0x0407, 0))})
		put = map[int]int{first: 0, second: 1}
	}
	e.steps = append(e.steps, step{stepNew, prompt(0x61, ownText(0x0407, 1))}, step{stepRepeat, prompt(0x62, ownText(0x0407, 2))})
	return r.perform(ctx, fail, e, cmd, put)
}

// tlv splits simple data objects with one-octet lengths; a tag stands at most once.
func tlv(b []byte) (map[byte][]byte, bool) {
	m := map[byte][]byte{}
	for len(b) > 0 {
		if len(b) < 2 || len(b) < 2+int(b[1]) || m[b[0]] != nil {
			return nil, false
		}
		m[b[0]] = b[2 : 2+int(b[1])]
		b = b[2+int(b[1]):]
	}
	return m, true
}

// text decodes ISO 8859-1.
func text(b []byte) string {
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}
