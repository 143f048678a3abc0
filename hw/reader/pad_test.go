package reader

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ktradv/hw/apdu"
	"ktradv/internal/req"
)

// script is a control channel that answers from a table and keeps what it was asked.
type script struct {
	answers map[uint32]func(in []byte) ([]byte, error)
	asked   map[uint32][][]byte
}

func (s *script) Control(_ context.Context, code uint32, in []byte) ([]byte, error) {
	if s.asked == nil {
		s.asked = map[uint32][][]byte{}
	}
	s.asked[code] = append(s.asked[code], bytes.Clone(in))
	f, ok := s.answers[code]
	if !ok {
		return nil, ErrUnsupported
	}
	return f(in)
}

const (
	codeVerify = 0x42330006
	codeModify = 0x42330007
	codeMCT    = 0x42330009
)

func always(b ...byte) func([]byte) ([]byte, error) {
	return func([]byte) ([]byte, error) { return bytes.Clone(b), nil }
}

// driver builds a driver that announces features and answers property questions.
func driver(tags ...byte) *script {
	s := &script{answers: map[uint32]func([]byte) ([]byte, error){}}
	var list []byte
	for _, tag := range tags {
		list = append(list, tag, 4)
		list = binary.BigEndian.AppendUint32(list, 0x42330000|uint32(tag))
	}
	s.answers[ControlGetFeatures] = always(list...)
	return s
}

func (s *script) with(code uint32, f func([]byte) ([]byte, error)) *script {
	s.answers[code] = f
	return s
}

// mct answers GET STATUS with units and everything else with sw.
func mct(units []byte, sw ...byte) func([]byte) ([]byte, error) {
	return func(in []byte) ([]byte, error) {
		answer := sw
		if in[5] == insStatus {
			answer = append(append([]byte{tagUnits, byte(len(units))}, units...), 0x90, 0)
		}
		out := []byte{addrTerminal, addrHost}
		out = binary.LittleEndian.AppendUint16(out, uint16(len(answer)))
		return append(out, answer...), nil
	}
}

func TestClassAndDisplay(t *testing.T) {
	t.Parallel()
	fails := func([]byte) ([]byte, error) { return nil, fmt.Errorf("broken: %w", ErrTransmission) }
	tests := map[string]struct {
		c    *script
		name string
		want Features
	}{
		"contacts only": {&script{}, "Some Reader", Features{Class: Class1, Display: DisplayNone, PINFormat: PINFormatBytes}},
		"no features":   {driver(), "Some Reader", Features{Class: Class1, Display: DisplayNone, PINFormat: PINFormatBytes}},
		"verify without modify is no pad": {
			driver(6), "QEMU USB SmartCard Reader", Features{Class: Class1, Verify: true, Display: DisplayNone, PINFormat: PINFormatBytes},
		},
		"pad, display by properties": {
			driver(6, 7, 0x0A).with(0x4233000A, always(0x10, 0x03, 0x07, 0)), "Some Reader",
			Features{Class: Class3, Verify: true, Modify: true, Display: DisplayPresent, Columns: 16, Lines: 3, PINFormat: PINFormatBytes},
		},
		"pad, display by TLV properties, short commands": {
			driver(6, 7, 0x0A, 0x12).with(0x42330012, always(1, 2, 16, 2, 6, 1, 4, 7, 1, 12, 0x0A, 4, 0x05, 1, 0, 0)), "Some Reader",
			Features{Class: Class3, Verify: true, Modify: true, Display: DisplayPresent, Columns: 16, Lines: 2, MinPIN: 4, MaxPIN: 12, ShortOnly: true, PINFormat: PINFormatBytes},
		},
		"TLV properties malformed, PIN properties good": {
			driver(6, 7, 0x0A, 0x12).with(0x42330012, always(1, 9)).with(0x4233000A, always(16, 2, 7, 0)), "Some Reader",
			Features{Class: Class3, Verify: true, Modify: true, Display: DisplayPresent, Columns: 16, Lines: 2, PINFormat: PINFormatBytes},
		},
		"TLV properties without display, PIN properties with": {
			driver(6, 7, 0x0A, 0x12).with(0x42330012, always(6, 1, 4, 7, 1, 12)).with(0x4233000A, always(16, 2, 7, 0)), "Some Reader",
			Features{Class: Class3, Verify: true, Modify: true, Display: DisplayPresent, Columns: 16, Lines: 2, MinPIN: 4, MaxPIN: 12, PINFormat: PINFormatBytes},
		},
		"pad, display reported as none": {
			driver(6, 7, 0x0A).with(0x4233000A, always(0, 0, 7, 0)), "Some Reader",
			Features{Class: Class2, Verify: true, Modify: true, Display: DisplayNone, PINFormat: PINFormatBytes},
		},
		"display reported as none, but known to be there": {
			driver(6, 7, 0x0A).with(0x4233000A, always(0, 0, 7, 0)), "KOBIL KAAN Advanced 00 00",
			Features{Class: Class3, Verify: true, Modify: true, Display: DisplayPresent, PINFormat: PINFormatBytes},
		},
		"driver without properties, known display and spelling": {
			driver(6, 7), "REINER SCT cyberJack RFID standard 00 00",
			Features{Class: Class3, Verify: true, Modify: true, Display: DisplayPresent, PINFormat: PINFormatFPIN2},
		},
		"known by its USB id, under a name of its own": {
			driver(6, 7, 0x12).with(0x42330012, always(0x0B, 2, 0x46, 0x0D, 0x0C, 2, 0x02, 0x30)), "Some OEM Terminal",
			Features{Class: Class3, Verify: true, Modify: true, Display: DisplayPresent, PINFormat: PINFormatBytes},
		},
		"another product of the same vendor": {
			driver(6, 7, 0x12).with(0x42330012, always(0x0B, 2, 0x46, 0x0D, 0x0C, 2, 0x03, 0x30)), "Some OEM Terminal",
			Features{Class: Class2, Verify: true, Modify: true, Display: DisplayNone, PINFormat: PINFormatBytes},
		},
		"free text": {
			driver(6, 7, 9).with(codeMCT, mct([]byte{1, unitDisplay, unitKeypad})), "Some Reader",
			Features{Class: Class3, Verify: true, Modify: true, FreeText: true, Display: DisplayPresent, PINFormat: PINFormatBytes},
		},
		"terminal without display": {
			driver(6, 7, 9).with(codeMCT, mct([]byte{1, unitKeypad})), "Some Reader",
			Features{Class: Class2, Verify: true, Modify: true, Display: DisplayNone, PINFormat: PINFormatBytes},
		},
		"properties and units fail": {
			driver(6, 7, 9, 0x12).with(codeMCT, fails).with(0x42330012, fails), "Some Reader",
			Features{Class: Class2, Verify: true, Modify: true, Display: DisplayNone, PINFormat: PINFormatBytes},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := DetectPad(t.Context(), tc.c, tc.name, Models)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, p.Features()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDetectReportsAReaderThatIsGone(t *testing.T) {
	t.Parallel()
	gone := func([]byte) ([]byte, error) { return nil, ErrReaderGone }
	for _, c := range []*script{
		driver().with(ControlGetFeatures, gone), driver(6, 7, 0x0A).with(0x4233000A, gone), driver(6, 7, 9).with(codeMCT, gone),
	} {
		if _, err := DetectPad(t.Context(), c, "r", nil); !errors.Is(err, ErrReaderGone) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := DetectPad(t.Context(), driver().with(ControlGetFeatures, always(6, 4)), "r", nil); !errors.Is(err, ErrPart10) {
		t.Errorf("malformed feature list: %v", err)
	}
}

func template1() apdu.Command { return apdu.Command{INS: 0x20, P2: 1, Data: Placeholder()} }

func request() PINRequest {
	return PINRequest{Command: template1(), Object: "PIN.CH", Action: ActionVerify, MinLen: 6, MaxLen: 8, Timeout: 30 * time.Second}
}

func changeRequest() PINRequest {
	r := request()
	r.Command = apdu.Command{INS: 0x24, P2: 1, Data: append(Placeholder(), Placeholder()...)}
	r.Action = ActionChange
	return r
}

func pad(t *testing.T, c Controller, name string) *Pad {
	t.Helper()
	p, err := DetectPad(t.Context(), c, name, Models)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPart10Requests(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2500")
	display := always(16, 2, 7, 0)
	none := always(0, 0, 7, 0)
	first := changeRequest()
	first.Command = apdu.Command{INS: 0x24, P1: 1, P2: 0x0D, Data: Placeholder()}
	tests := map[string]struct {
		lcd    func([]byte) ([]byte, error)
		reader string
		q      PINRequest
		want   string
	}{
		"verify":                {display, "r", request(), verifyVector},
		"verify, no display":    {none, "r", request(), "1E1E894704080602 00 0704 00 000000 0D000000 00200001 08 20FFFFFFFFFFFFFF"},
		"verify, REINER SCT":    {none, "REINER SCT cyberJack", request(), "1E1E814804080602 01 0704 00 000000 0D000000 00200001 08 20FFFFFFFFFFFFFF"},
		"verify, one message":   {none, "GemPC Pinpad 00 00", request(), "1E1E894704080602 01 0704 00 000000 0D000000 00200001 08 20FFFFFFFFFFFFFF"},
		"modify":                {display, "r", changeRequest(), modifyVector},
		"modify, Cherry ST-2":   {none, "Cherry SmartTerminal ST-2xxx", changeRequest(), "1E1E894704 00 08 0806 03 02 00 0704 000102 000000 15000000 00240001 10 20FFFFFFFFFFFFFF 20FFFFFFFFFFFFFF"},
		"modify, Cherry KC1000": {none, "Cherry KC 1000 SC", changeRequest(), "1E1E894704 00 08 0806 03 02 03 0704 000102 000000 15000000 00240001 10 20FFFFFFFFFFFFFF 20FFFFFFFFFFFFFF"},
		"new PIN only":          {display, "r", first, "1E1E894704 00 00 0806 01 02 02 0704 010202 000000 0D000000 0024010D 08 20FFFFFFFFFFFFFF"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := driver(6, 7, 0x0A).with(0x4233000A, tc.lcd).with(codeVerify, always(0x90, 0)).with(codeModify, always(0x90, 0))
			p := pad(t, c, tc.reader)
			code, run := uint32(codeVerify), p.Verify
			if tc.q.Action == ActionChange {
				code, run = codeModify, p.Modify
			}
			res, err := run(t.Context(), c, tc.q)
			if err != nil || res.SW != 0x9000 {
				t.Fatalf("%04X, %v", res.SW, err)
			}
			if got := c.asked[code]; len(got) != 1 || !bytes.Equal(got[0], unhex(t, tc.want)) {
				t.Errorf("reader got %X\nwant %X", got, unhex(t, tc.want))
			}
		})
	}
}

func TestFreeTextRequests(t *testing.T) {
	t.Parallel()
	c := driver(6, 7, 9).with(codeMCT, mct([]byte{unitDisplay, unitKeypad}, 0x90, 0))
	p := pad(t, c, "r")
	res, err := p.Verify(t.Context(), c, request())
	if err != nil || res.SW != 0x9000 || res.PromptShown != PromptFreeText || res.PromptCut {
		t.Fatalf("%+v, %v", res, err)
	}
	want := "02 01 3500 20 18 01 00 30 50 1A 45696E676162652056657273696368657274656E2D50494E3A20 80 01 1E 52 0F 02 06 00200001 08 20FFFFFFFFFFFFFF"
	if got := c.asked[codeMCT][1]; !bytes.Equal(got, unhex(t, want)) {
		t.Errorf("verify: %X", got)
	}
	if _, err := p.Modify(t.Context(), c, changeRequest()); err != nil {
		t.Fatal(err)
	}
	got := c.asked[codeMCT][2]
	for name, part := range map[string][]byte{
		"old":     append([]byte{0x50, 31}, "Eingabe alte Versicherten-PIN: "...),
		"new":     append([]byte{0x61, 31}, "Eingabe neue Versicherten-PIN: "...),
		"repeat":  append([]byte{0x62, byte(len(repeatPrompt))}, repeatPrompt...),
		"command": unhex(t, "52 18 02 06 0E 00240001 10 20FFFFFFFFFFFFFF 20FFFFFFFFFFFFFF"),
	} {
		if !bytes.Contains(got, part) {
			t.Errorf("modify lacks %s: %X", name, got)
		}
	}
}

// An answer that is longer than a status word might hold the PIN: it is wiped and nobody gets it.
func TestDisclosureIsAnError(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2501", "AdV-A_2504")
	echo := unhex(t, "0020000108 26123456FFFFFFFF 9000")
	for name, class := range map[string][]byte{"class 2": {0, 0, 7, 0}, "class 3": {16, 2, 7, 0}} {
		for _, answer := range [][]byte{echo, {0x26, 0x90, 0x00}, {0x90}, {}} {
			given := bytes.Clone(answer)
			c := driver(6, 7, 0x0A).with(0x4233000A, always(class...)).with(codeVerify, func([]byte) ([]byte, error) { return given, nil })
			res, err := pad(t, c, "r").Verify(t.Context(), c, request())
			if !errors.Is(err, ErrPINDisclosed) || res.SW != 0 {
				t.Errorf("%s, answer of %d octets: %04X, %v", name, len(answer), res.SW, err)
			}
			if !bytes.Equal(given, make([]byte, len(given))) {
				t.Errorf("%s: the answer was not wiped: %X", name, given)
			}
			if bytes.Contains([]byte(fmt.Sprint(err)), []byte("123456")) {
				t.Errorf("the message tells the PIN: %v", err)
			}
		}
	}
	for _, answer := range [][]byte{{1, 2, 9, 0, 0x26, 0x12, 0x34, 0x56, 0xFF, 0xFF, 0xFF, 0x90, 0}, {1, 2, 3, 0, 0x26, 0x12, 0x34, 0x56}, {0x90, 0}} {
		given := bytes.Clone(answer)
		c := driver(6, 7, 9).with(codeMCT, mct([]byte{unitDisplay, unitKeypad}))
		p := pad(t, c, "r")
		c.with(codeMCT, func([]byte) ([]byte, error) { return given, nil })
		if _, err := p.Verify(t.Context(), c, request()); !errors.Is(err, ErrPINDisclosed) {
			t.Errorf("free text, answer of %d octets: %v", len(answer), err)
		}
		if !bytes.Equal(given, make([]byte, len(given))) {
			t.Errorf("the answer was not wiped: %X", given)
		}
	}
	// The negative twin: a status word alone is no disclosure.
	c := driver(6, 7).with(codeVerify, always(0x63, 0xC2))
	if res, err := pad(t, c, "r").Verify(t.Context(), c, request()); err != nil || res.SW != 0x63C2 {
		t.Errorf("%04X, %v", res.SW, err)
	}
}

func TestOnlyTemplatesGoToTheReader(t *testing.T) {
	t.Parallel()
	with := func(f func(*PINRequest)) PINRequest {
		q := request()
		f(&q)
		return q
	}
	tests := map[string]struct {
		q    PINRequest
		want error
	}{
		"a PIN in it":       {with(func(q *PINRequest) { q.Command.Data = unhex(t, "26123456FFFFFFFF") }), ErrPINTemplate},
		"no data":           {with(func(q *PINRequest) { q.Command.Data = nil }), ErrPINTemplate},
		"half a block":      {with(func(q *PINRequest) { q.Command.Data = q.Command.Data[:4] }), ErrPINTemplate},
		"octets behind it":  {with(func(q *PINRequest) { q.Command.Data = append(q.Command.Data, 1) }), ErrPINTemplate},
		"two blocks":        {with(func(q *PINRequest) { q.Command.Data = append(q.Command.Data, Placeholder()...) }), ErrPINTemplate},
		"answer wanted":     {with(func(q *PINRequest) { q.Command.Ne = 256 }), ErrPINTemplate},
		"extended":          {with(func(q *PINRequest) { q.Command.Extended = true }), ErrPINTemplate},
		"no length":         {with(func(q *PINRequest) { q.MinLen, q.MaxLen = 0, 0 }), ErrPINLength},
		"lengths crossed":   {with(func(q *PINRequest) { q.MinLen, q.MaxLen = 8, 6 }), ErrPINLength},
		"more than a block": {with(func(q *PINRequest) { q.MaxLen = 13 }), ErrPINLength},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := driver(6, 7).with(codeVerify, always(0x90, 0))
			if _, err := pad(t, c, "r").Verify(t.Context(), c, tc.q); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if len(c.asked[codeVerify]) != 0 {
				t.Errorf("reader got %X", c.asked[codeVerify])
			}
		})
	}
	for name, c := range map[string]*script{"class 1": driver(), "verify only": driver(6), "modify only": driver(7)} {
		if _, err := pad(t, c, "r").Verify(t.Context(), c, request()); !errors.Is(err, ErrNoPINPad) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStatusWordsOfTheReader(t *testing.T) {
	t.Parallel()
	for sw, want := range map[uint16]error{
		0x6400: ErrPINTimeout, 0x6401: ErrPINCancelled, 0x6402: ErrPINMismatch, 0x6403: ErrPINLength, 0x6B80: ErrPINStructure,
		0x0000: apdu.ErrMalformedResponse, 0x9000: nil, 0x6983: nil,
	} {
		c := driver(6, 7).with(codeVerify, always(byte(sw>>8), byte(sw)))
		res, err := pad(t, c, "r").Verify(t.Context(), c, request())
		if !errors.Is(err, want) || want == nil && res.SW != sw || want != nil && res.SW != 0 {
			t.Errorf("%04X: %04X, %v; want %v", sw, res.SW, err, want)
		}
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]byte{0: 30, 29 * time.Second: 30, 45 * time.Second: 45, time.Hour: 60} {
		if got := entrySeconds(d); got != want {
			t.Errorf("%v: %d s, want %d", d, got, want)
		}
	}
	// A reader that hangs is noticed before the countdown of the idle session, one that works ends the entry before that.
	for _, d := range []time.Duration{VerifyDeadline, ModifyDeadline} {
		if d <= 2*maxEntry || d >= 4*time.Minute {
			t.Errorf("deadline %v", d)
		}
	}
}

func TestReaderLimitsNarrowThePIN(t *testing.T) {
	t.Parallel()
	c := driver(6, 7, 0x12).with(0x42330012, always(1, 2, 16, 2, 6, 1, 4, 7, 1, 7)).with(codeVerify, always(0x90, 0))
	p := pad(t, c, "r")
	if _, err := p.Verify(t.Context(), c, request()); err != nil {
		t.Fatal(err)
	}
	if v, err := ParsePINVerify(c.asked[codeVerify][0]); err != nil || v.Min != 6 || v.Max != 7 {
		t.Errorf("%d to %d digits, %v", v.Min, v.Max, err)
	}
	q := request()
	q.MinLen = 8 // a PUK
	if _, err := p.Verify(t.Context(), c, q); !errors.Is(err, ErrPINLength) {
		t.Errorf("PUK at a reader for 7 digits: %v", err)
	}
}

type cardFake struct {
	Card
	sent   []apdu.Command
	verify []PINRequest
	modify []PINRequest
}

func (c *cardFake) Transmit(_ context.Context, cmd apdu.Command) (apdu.Response, error) {
	c.sent = append(c.sent, cmd)
	return apdu.Response{SW: 0x63C3}, nil
}

func (c *cardFake) VerifyPIN(_ context.Context, q PINRequest) (PINResult, error) {
	c.verify = append(c.verify, q)
	return PINResult{SW: 0x9000}, nil
}

func (c *cardFake) ModifyPIN(_ context.Context, q PINRequest) (PINResult, error) {
	c.modify = append(c.modify, q)
	return PINResult{}, ErrPINCancelled
}

func TestEnterSecret(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2506", "AdV-A_2507")
	c := &cardFake{}
	in := SecretInput{Identifier: "PIN.CH", Action: ActionVerify, MinLength: 6, MaxLength: 8, CommandAPDUPart: template1()}
	resp, _, err := EnterSecret(t.Context(), c, in)
	if err != nil || resp.SW != 0x9000 || len(c.verify) != 1 {
		t.Fatalf("%v, %v", resp, err)
	}
	if q := c.verify[0]; q.Prompt != "Eingabe Versicherten-PIN: " || q.MinLen != 6 || q.MaxLen != 8 {
		t.Errorf("%q, %d to %d", q.Prompt, q.MinLen, q.MaxLen)
	}
	in.Action, in.CommandAPDUPart = ActionUnblock, apdu.Command{INS: 0x2C, P2: 1, Data: append(Placeholder(), Placeholder()...)}
	if _, _, err := EnterSecret(t.Context(), c, in); !errors.Is(err, ErrPINCancelled) || len(c.modify) != 1 {
		t.Errorf("unblock: %v", err)
	}
	if q := c.modify[0]; q.Prompt != "Eingabe PUK: " || q.NewPrompt != "Eingabe neue Versicherten-PIN: " {
		t.Errorf("%q, %q", q.Prompt, q.NewPrompt)
	}
	in.CommandAPDUPart = apdu.Command{INS: 0x2C, P1: 1, P2: 1, Data: Placeholder()} // PUK alone
	if _, _, err := EnterSecret(t.Context(), c, in); err != nil || len(c.verify) != 2 {
		t.Errorf("unblock with the PUK alone: %v", err)
	}
	// A command without a secret goes to the card as it is.
	in.CommandAPDUPart = apdu.Command{INS: 0x26, P1: 1, P2: 3}
	if resp, _, err := EnterSecret(t.Context(), c, in); err != nil || resp.SW != 0x63C3 || len(c.sent) != 1 {
		t.Errorf("without secret: %v, %v", resp, err)
	}
	in = SecretInput{Identifier: "PIN.QES", Action: ActionVerify, MinLength: 6, MaxLength: 8, CommandAPDUPart: template1()}
	if _, _, err := EnterSecret(t.Context(), c, in); err == nil || len(c.verify) != 2 {
		t.Errorf("PIN that no use case knows: %v", err)
	}
}

func TestShowText(t *testing.T) {
	t.Parallel()
	c := driver(6, 7, 9).with(codeMCT, mct([]byte{unitDisplay, unitKeypad}, 0x90, 0))
	p := pad(t, c, "r")
	if err := p.ShowText(t.Context(), c, "Hallo"); err != nil {
		t.Fatal(err)
	}
	if got := c.asked[codeMCT][1]; !bytes.Equal(got, unhex(t, "02 01 0C00 20 17 40 00 07 50 05 48616C6C6F")) {
		t.Errorf("%X", got)
	}
	c.with(codeMCT, mct(nil, 0x6A, 0))
	if err := p.ShowText(t.Context(), c, "Hallo"); !errors.Is(err, ErrTransmission) {
		t.Errorf("refused: %v", err)
	}
	c = driver(6, 7)
	if err := pad(t, c, "r").ShowText(t.Context(), c, "Hallo"); !errors.Is(err, ErrNoFreeText) {
		t.Errorf("no free text: %v", err)
	}
}
