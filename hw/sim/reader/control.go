package simreader

import (
	"context"
	"encoding/binary"
	"time"
)

// Control codes as the generic driver on Linux numbers them.
const (
	codeFeatures = 0x42000D48
	codeVerify   = 0x42330006
	codeModify   = 0x42330007
	codeMCT      = 0x42330009
	codePINProps = 0x4233000A
	codeTLVProps = 0x42330012
)

// Control is the reader's control channel. A PIN entry blocks until the person is done; the context ends when the
// driver that asked is gone.
func (r *Reader) Control(ctx context.Context, code uint32, in []byte) ([]byte, error) {
	r.mu.Lock()
	plugged, fail := r.plugged, r.fail
	r.mu.Unlock()
	if !plugged {
		return nil, ErrUnplugged
	}
	features := r.features(fail)
	if code == codeFeatures {
		var b []byte
		for _, f := range features {
			b = append(b, byte(f), 4)
			b = binary.BigEndian.AppendUint32(b, f)
		}
		return b, nil
	}
	offered := false
	for _, f := range features {
		offered = offered || f == code
	}
	if !offered {
		return nil, ErrUnsupported
	}
	columns, lines := byte(r.cfg.Columns), byte(r.cfg.Lines)
	if fail.NoDisplay {
		columns, lines = 0, 0
	}
	switch code {
	case codePINProps:
		return []byte{columns, lines, 0x07, 0x00}, nil
	case codeTLVProps:
		apdu := uint32(0x10000)
		if fail.ShortOnly {
			apdu = 0x105
		}
		b := []byte{0x01, 2, columns, lines, 0x02, 1, 0x07, 0x03, 1, 0x00, 0x0A, 4}
		b = binary.LittleEndian.AppendUint32(b, apdu)
		if fail.NoDisplay { // a product whose display nobody knows
			return b, nil
		}
		return append(b, 0x0B, 2, 0x46, 0x0D, 0x0C, 2, 0x02, 0x30), nil
	}
	r.slot.Lock()
	defer r.slot.Unlock()
	if code != codeMCT || len(in) > 5 && in[5] != 0x13 { // questions about the terminal need no card and do not hang
		if err := r.hangIfAsked(ctx); err != nil {
			return nil, err
		}
	}
	switch code {
	case codeVerify:
		return r.verify(ctx, fail, in)
	case codeModify:
		return r.modify(ctx, fail, in)
	}
	return r.mct(ctx, fail, in)
}

// features lists the control codes on offer; the low octet of each is its feature tag.
func (r *Reader) features(f Failures) []uint32 {
	if f.NoPad {
		return nil
	}
	list := []uint32{codeVerify, codeModify}
	if f.VerifyOnly {
		list = list[:1]
	}
	switch {
	case r.cfg.Profile == MCT:
		list = append(list, codeMCT)
	case !f.NoProperties:
		list = append(list, codePINProps, codeTLVProps)
	}
	return list
}

// formats are the spellings of a format-2 block in the field.
var formats = [][3]byte{{0x89, 0x47, 0x04}, {0x41, 0x48, 0x04}, {0x81, 0x48, 0x04}}

func formatAccepted(f Failures, got [3]byte) bool {
	if f.OnlyFormat != [3]byte{} {
		return got == f.OnlyFormat
	}
	for _, want := range formats {
		if got == want {
			return true
		}
	}
	return false
}

// texts are the reader's own texts by language and message number; German and English, others get English.
var texts = map[uint16][3]string{
	0x0407: {"Bitte PIN eingeben:", "Neue PIN eingeben:", "Neue PIN wiederholen:"},
	0x0409: {"Enter PIN:", "Enter new PIN:", "Repeat new PIN:"},
}

func ownText(lang uint16, message byte) string {
	t, ok := texts[lang]
	if !ok {
		t = texts[0x0409]
	}
	return t[message]
}

// template finds the command inside a structure, whose last head octets are the 32 bit length, and checks that it is
// a case 3 command with room for a block at each offset of its data.
func template(in []byte, head int, offsets ...byte) ([]byte, bool) {
	if len(in) < head+5 {
		return nil, false
	}
	cmd := in[head:]
	if binary.LittleEndian.Uint32(in[head-4:]) != uint32(len(cmd)) || int(cmd[4]) != len(cmd)-5 {
		return nil, false
	}
	for _, o := range offsets {
		if int(o)+8 > len(cmd)-5 {
			return nil, false
		}
	}
	return append([]byte(nil), cmd...), true
}

// timing reads the seconds until the first key and after it; 0 is the reader's own time.
func timing(first, after byte) (time.Duration, time.Duration) {
	const own = 30 * time.Second
	f, a := time.Duration(first)*time.Second, time.Duration(after)*time.Second
	if f == 0 {
		f = own
	}
	if a == 0 {
		a = f
	}
	return f, a
}

func limits(lo, hi, end byte) bool { return lo >= 1 && lo <= hi && hi <= 12 && end >= 1 && end <= 7 }

// verify is FEATURE_VERIFY_PIN_DIRECT.
func (r *Reader) verify(ctx context.Context, fail Failures, in []byte) ([]byte, error) {
	cmd, ok := template(in, 19, 0)
	if !ok || !formatAccepted(fail, [3]byte(in[2:5])) || !limits(in[6], in[5], in[7]) {
		return swRefused, nil
	}
	messages, message := in[8], in[11]
	if fail.OneMessage && messages != 1 || messages > 1 && messages != 0xFF || message > 2 {
		return swRefused, nil
	}
	e := &entry{min: int(in[6]), max: int(in[5]), endAtMax: in[7]&1 != 0, endAtOK: in[7]&2 != 0}
	e.firstKey, e.afterKey = timing(in[0], in[1])
	text := ""
	if messages != 0 {
		text = ownText(binary.LittleEndian.Uint16(in[9:]), message)
	}
	e.steps = []step{{stepPIN, text}}
	return r.perform(ctx, fail, e, cmd, map[int]int{0: 0})
}

// modify is FEATURE_MODIFY_PIN_DIRECT.
func (r *Reader) modify(ctx context.Context, fail Failures, in []byte) ([]byte, error) {
	if len(in) < 24 {
		return swRefused, nil
	}
	old, repeat := in[9]&2 != 0, in[9]&1 != 0
	offsets := []byte{in[6]}
	if old {
		offsets = []byte{in[5], in[6]}
		if in[5] == in[6] {
			return swRefused, nil
		}
	}
	cmd, ok := template(in, 24, offsets...)
	if !ok || in[9] > 3 || !formatAccepted(fail, [3]byte(in[2:5])) || !limits(in[8], in[7], in[10]) {
		return swRefused, nil
	}
	messages := in[11]
	if fail.OneMessage && messages != 1 || messages > 3 && messages != 0xFF || in[14] > 2 || in[15] > 2 || in[16] > 2 {
		return swRefused, nil
	}
	e := &entry{min: int(in[8]), max: int(in[7]), endAtMax: in[10]&1 != 0, endAtOK: in[10]&2 != 0}
	e.firstKey, e.afterKey = timing(in[0], in[1])
	lang, index := binary.LittleEndian.Uint16(in[12:]), in[14:17]
	add := func(name string) {
		text := ""
		if messages != 0 {
			text = ownText(lang, index[min(len(e.steps), 2)])
		}
		e.steps = append(e.steps, step{name, text})
	}
	put := map[int]int{int(in[6]): 0}
	if old {
		add(stepOld)
		put = map[int]int{int(in[5]): 0, int(in[6]): 1}
	}
	add(stepNew)
	if repeat {
		add(stepRepeat)
	}
	return r.perform(ctx, fail, e, cmd, put)
}

// perform asks for the PINs and sends the completed command to the card. put says which value goes to which offset of
// the command's data.
func (r *Reader) perform(ctx context.Context, fail Failures, e *entry, cmd []byte, put map[int]int) ([]byte, error) {
	defer e.wipe()
	defer clear(cmd)
	if fail.HangPIN {
		return nil, r.hang(ctx)
	}
	res := r.enter(ctx, e)
	switch res {
	case resultRemoved:
		return nil, ErrNoCard
	case resultUnplugged:
		return nil, ErrUnplugged
	case resultDone:
	default:
		return sw[res], nil
	}
	for offset, i := range put {
		copy(cmd[5+offset:], pinBlock(e.values[i]))
	}
	answer, err := r.exchange(ctx, cmd)
	if err == nil && fail.EchoPIN {
		answer = append(append([]byte(nil), cmd...), answer...)
	}
	return answer, err
}
