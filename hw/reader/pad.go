package reader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"ktradv/hw/apdu"
)

// Controller is a reader's control channel, SCardControl. Errors are those of this package; ErrUnsupported where the
// driver does not know the code.
type Controller interface {
	Control(ctx context.Context, code uint32, in []byte) ([]byte, error)
}

// blockLen is the length of a format-2 PIN block (ISO 9564-1, gemSpec_COS).
const blockLen = 8

// Placeholder is what stands in a command where the reader puts a PIN block: the control octet of format 2 without a
// length, and filler. No PIN has this block.
func Placeholder() []byte {
	return []byte{0x20, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
}

// Pad drives the PIN pad of one reader. It is immutable.
type Pad struct {
	features            Features
	model               quirks
	verify, modify, mct uint32 // control codes, 0 = not offered
}

// DetectPad asks a reader what it can do. The name is the reader's PC/SC name, models usually [Models].
//
// The rules: verify and modify both offered make a PIN pad, one of them alone does not. A display is believed when the
// reader reports its size or, through CT-BCS, the unit; otherwise the model table decides; otherwise there is none.
func DetectPad(ctx context.Context, c Controller, name string, models []Model) (*Pad, error) {
	p := &Pad{}
	features := map[byte]uint32{}
	answer, err := c.Control(ctx, ControlGetFeatures, nil)
	switch {
	case errors.Is(err, ErrUnsupported): // class 1
	case err != nil:
		return nil, fmt.Errorf("ask %s for its features: %w", name, err)
	default:
		if features, err = ParseFeatures(answer); err != nil {
			return nil, fmt.Errorf("features of %s: %w", name, err)
		}
	}
	p.verify, p.modify = features[FeatureVerifyPIN], features[FeatureModifyPIN]
	f := &p.features
	f.Verify, f.Modify = p.verify != 0, p.modify != 0

	props, err := properties(ctx, c, features)
	if err != nil {
		return nil, fmt.Errorf("properties of %s: %w", name, err)
	}
	p.model = quirksOf(models, name, props.USB)
	f.PINFormat = p.model.format
	display := false
	if props.Columns != nil && *props.Columns > 0 && *props.Lines > 0 {
		display, f.Columns, f.Lines = true, *props.Columns, *props.Lines
	}
	if props.MinPIN != nil {
		f.MinPIN = *props.MinPIN
	}
	if props.MaxPIN != nil {
		f.MaxPIN = *props.MaxPIN
	}
	f.ShortOnly = props.MaxAPDU != nil && *props.MaxAPDU < 1<<16

	mct := features[FeatureMCTUniversal]
	keypad := false
	if mct != 0 && (p.model.FreeText == nil || *p.model.FreeText) {
		answer, err := c.Control(ctx, mct, envelope(ctUnits()))
		if err != nil && !soft(err) {
			return nil, fmt.Errorf("functional units of %s: %w", name, err)
		}
		if units, e := parseEnvelope(answer); err == nil && e == nil {
			if d, k, e := parseUnits(units); e == nil {
				display, keypad = display || d, k
			}
		}
	}
	switch {
	case display:
		f.Display = DisplayPresent
	case p.model.display != DisplayUnknown:
		f.Display = p.model.display
	default:
		f.Display = DisplayNone
	}
	if f.FreeText = f.Display == DisplayPresent && keypad; f.FreeText {
		p.mct = mct
	}
	switch {
	case !f.Verify || !f.Modify:
		f.Class = Class1
	case f.Display == DisplayPresent:
		f.Class = Class3
	default:
		f.Class = Class2
	}
	return p, nil
}

// soft tells that a reader which was asked for a property could not answer, but is still there.
func soft(err error) bool { return errors.Is(err, ErrUnsupported) || errors.Is(err, ErrTransmission) }

// properties reads what the driver says about the pad: the TLV properties, and the older structure for the size of the
// display where they do not have it. A malformed answer counts as none: the reader can be used without.
func properties(ctx context.Context, c Controller, features map[byte]uint32) (Properties, error) {
	var p Properties
	for _, way := range []struct {
		tag   byte
		parse func([]byte) (Properties, error)
	}{
		{FeatureTLVProperties, ParseTLVProperties},
		{FeaturePINProperties, ParsePINProperties},
	} {
		code, offered := features[way.tag]
		if !offered || p.Columns != nil {
			continue
		}
		answer, err := c.Control(ctx, code, nil)
		if err != nil {
			if soft(err) {
				continue
			}
			return Properties{}, err
		}
		found, err := way.parse(answer)
		switch {
		case err != nil:
		case way.tag == FeatureTLVProperties:
			p = found
		default:
			p.Columns, p.Lines = found.Columns, found.Lines
		}
	}
	return p, nil
}

// Features tells what was found out about the reader.
func (p *Pad) Features() Features { return p.features }

// Bounds of the time-out that is given to readers. Nobody can cancel an entry but the person, so it is never 0.
const (
	minEntry = 30 * time.Second
	maxEntry = 60 * time.Second
)

// Deadlines after which a reader that has not answered a PIN request must be taken for hung. Until then nobody but the reader
// knows what goes on at it: pcscd does not even report that the card was pulled. A reader that works ends an entry by itself
// when no key is pressed for its time (minEntry to maxEntry), so that what has to be allowed beyond maxEntry is the time in which
// a slow person types: 90 s for a PIN. For an old PIN or PUK, a new one and its repetition it is less for each, so that the person
// is told about the reader before the countdown of a session without activity begins (4 minutes, AdV-A_2568).
const (
	VerifyDeadline = maxEntry + 100*time.Second
	ModifyDeadline = 230 * time.Second
)

func entrySeconds(d time.Duration) byte { return byte(min(max(d, minEntry), maxEntry) / time.Second) }

// Verify has the reader ask for one PIN and complete r.Command with it.
func (p *Pad) Verify(ctx context.Context, c Controller, r PINRequest) (PINResult, error) {
	return p.run(ctx, c, r, 1, 1, false)
}

// Modify has the reader ask for the old PIN (where r.Command has two placeholders) and twice for the new one.
func (p *Pad) Modify(ctx context.Context, c Controller, r PINRequest) (PINResult, error) {
	return p.run(ctx, c, r, 1, 2, true)
}

func (p *Pad) run(ctx context.Context, c Controller, r PINRequest, minBlocks, maxBlocks int, modify bool) (PINResult, error) {
	if p.features.Class < Class2 {
		return PINResult{}, fmt.Errorf("%s %s: %w", r.Action, r.Object, ErrNoPINPad)
	}
	command, blocks, err := template(r.Command)
	if err != nil {
		return PINResult{}, err
	}
	if blocks < minBlocks || blocks > maxBlocks {
		return PINResult{}, fmt.Errorf("%w: %d placeholders", ErrPINTemplate, blocks)
	}
	if r, err = p.narrow(r); err != nil {
		return PINResult{}, err
	}
	if p.features.FreeText && r.Prompt != "" {
		return p.freeText(ctx, c, r, command, blocks, modify)
	}
	return p.part10(ctx, c, r, command, blocks, modify)
}

// template checks that a command holds placeholders and nothing else, so that no PIN can be in it, and that the answer
// will be a status word only.
func template(c apdu.Command) (encoded []byte, blocks int, err error) {
	d := c.Data
	for ; len(d) >= blockLen && bytes.Equal(d[:blockLen], Placeholder()); d = d[blockLen:] {
		blocks++
	}
	if len(d) > 0 || blocks == 0 || c.Ne != 0 || c.IsExtended() {
		return nil, 0, fmt.Errorf("%w: %v", ErrPINTemplate, c)
	}
	encoded, err = c.Bytes()
	return encoded, blocks, err
}

// narrow brings the PIN's length within the reader's limits and fills in the prescribed prompts.
func (p *Pad) narrow(r PINRequest) (PINRequest, error) {
	if p.features.MinPIN > 0 {
		r.MinLen = max(r.MinLen, p.features.MinPIN)
	}
	if p.features.MaxPIN > 0 {
		r.MaxLen = min(r.MaxLen, p.features.MaxPIN)
	}
	if r.MinLen < 1 || r.MinLen > r.MaxLen || r.MaxLen > 12 { // 12 digits is what format 2 holds
		return r, fmt.Errorf("%w: %d to %d digits", ErrPINLength, r.MinLen, r.MaxLen)
	}
	if s := p.model.EntryTimeoutS; s > 0 {
		r.Timeout = time.Duration(s) * time.Second
	}
	prescribed, _ := PromptFor(r.Object, r.Action)
	if r.Prompt == "" {
		r.Prompt = prescribed.Text
	}
	if r.NewPrompt == "" {
		r.NewPrompt = prescribed.NewText
	}
	if r.RepeatPrompt == "" {
		r.RepeatPrompt = repeatPrompt
	}
	return r, nil
}

func (p *Pad) part10(ctx context.Context, c Controller, r PINRequest, command []byte, blocks int, modify bool) (PINResult, error) {
	res := PINResult{PromptShown: PromptNone}
	if p.features.Display == DisplayPresent {
		res.PromptShown = PromptReaderText
	}
	seconds := entrySeconds(r.Timeout)
	count := func(quirk *int, otherwise byte) byte {
		switch {
		case quirk != nil:
			return byte(*quirk)
		case res.PromptShown == PromptNone:
			return MessagesNone
		}
		return otherwise
	}
	code := p.verify
	var in []byte
	var err error
	if !modify {
		in, err = PINVerify{
			Timeout: seconds, Timeout2: seconds, Format: p.model.format, Min: byte(r.MinLen), Max: byte(r.MaxLen),
			EndAt: EndAtOK, Messages: count(p.model.VerifyMessages, 1), Lang: LangGerman, Command: command,
		}.Bytes()
	} else {
		code = p.modify
		m := PINModify{
			Timeout: seconds, Timeout2: seconds, Format: p.model.format, Min: byte(r.MinLen), Max: byte(r.MaxLen),
			Confirm: ConfirmNew, EndAt: EndAtOK, Messages: count(p.model.ModifyMessages, 2), Lang: LangGerman,
			Message: [3]byte{1, 2, 2}, Command: command,
		}
		if blocks == 2 {
			m.OffsetNew, m.Confirm = blockLen, ConfirmNew|AskOld
			m.Messages, m.Message = count(p.model.ModifyMessages, 3), [3]byte{0, 1, 2}
		}
		in, err = m.Bytes()
	}
	if err != nil {
		return res, err
	}
	answer, err := c.Control(ctx, code, in)
	if err != nil {
		return res, fmt.Errorf("pin entry for %s: %w", r.Object, err)
	}
	return judge(res, r, answer, answer)
}

func (p *Pad) freeText(ctx context.Context, c Controller, r PINRequest, command []byte, blocks int, modify bool) (PINResult, error) {
	res := PINResult{PromptShown: PromptFreeText}
	fit := func(text string) string {
		fitted, cut := FitDisplay(text, p.features.Columns, p.features.Lines)
		res.PromptCut = res.PromptCut || cut || len(latin1(fitted)) > maxText
		return fitted
	}
	var in []byte
	var err error
	switch {
	case !modify:
		in, err = ctVerify(fit(r.Prompt), entrySeconds(r.Timeout), command)
	case blocks == 2:
		in, err = ctModify(fit(r.Prompt), fit(r.NewPrompt), fit(r.RepeatPrompt), firstDataPosition, firstDataPosition+blockLen, command)
	default:
		in, err = ctModify("", fit(r.NewPrompt), fit(r.RepeatPrompt), firstDataPosition, firstDataPosition, command)
	}
	if err != nil {
		return res, err
	}
	answer, err := c.Control(ctx, p.mct, envelope(in))
	if err != nil {
		return res, fmt.Errorf("pin entry for %s: %w", r.Object, err)
	}
	sw, err := parseEnvelope(answer)
	if err != nil {
		clear(answer)
		return res, fmt.Errorf("pin entry for %s: %w: %w", r.Object, ErrPINDisclosed, err)
	}
	return judge(res, r, sw, answer)
}

// judge turns the reader's answer into a result. Whatever is not exactly a status word might hold the PIN: it is wiped,
// and nobody gets to see it.
func judge(res PINResult, r PINRequest, answer, whole []byte) (PINResult, error) {
	if len(answer) != 2 {
		n := len(answer)
		clear(whole)
		return res, fmt.Errorf("pin entry for %s: %w: answer of %d octets", r.Object, ErrPINDisclosed, n)
	}
	sw := uint16(answer[0])<<8 | uint16(answer[1])
	for _, e := range []struct {
		sw  uint16
		err error
	}{
		{0x6400, ErrPINTimeout}, {0x6401, ErrPINCancelled}, {0x6402, ErrPINMismatch}, {0x6403, ErrPINLength}, {0x6B80, ErrPINStructure},
	} {
		if sw == e.sw {
			return res, fmt.Errorf("pin entry for %s: %w", r.Object, e.err)
		}
	}
	if _, err := apdu.ParseResponse(answer); err != nil {
		return res, fmt.Errorf("pin entry for %s: %w", r.Object, err)
	}
	res.SW = sw
	return res, nil
}

// ShowText puts a text on the display of a reader that takes free text.
func (p *Pad) ShowText(ctx context.Context, c Controller, text string) error {
	if !p.features.FreeText {
		return ErrNoFreeText
	}
	fitted, _ := FitDisplay(text, p.features.Columns, p.features.Lines)
	in, err := ctOutput(fitted)
	if err != nil {
		return err
	}
	answer, err := c.Control(ctx, p.mct, envelope(in))
	if err != nil {
		return fmt.Errorf("show text: %w", err)
	}
	sw, err := parseEnvelope(answer)
	if err != nil {
		return fmt.Errorf("show text: %w", err)
	}
	if !bytes.Equal(sw, []byte{0x90, 0}) {
		return fmt.Errorf("show text: reader answers %X: %w", sw, ErrTransmission)
	}
	return nil
}
