package ccid

import (
	"bytes"
	"context"
	"encoding/binary"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	simreader "ktradv/hw/sim/reader"
	"ktradv/qemu/usbredir"
)

// chip answers SELECT with 9000, VERIFY and CHANGE with 9000 and keeps the command, READ BINARY with as much as is asked.
type chip struct{ seen chan []byte }

func (c *chip) Reset(bool) []byte { return []byte{0x3B, 0x00} }
func (c *chip) Process(cmd []byte) []byte {
	select {
	case c.seen <- bytes.Clone(cmd):
	default:
	}
	if len(cmd) == 7 && cmd[1] == 0xB0 {
		b := make([]byte, int(cmd[5])<<8|int(cmd[6]))
		for i := range b {
			b[i] = byte(i * 7)
		}
		return append(b, 0x90, 0x00)
	}
	return []byte{0x90, 0x00}
}

type desk struct {
	t      *testing.T
	ctx    context.Context
	reader *simreader.Reader
	chip   *chip
	port   *usbredir.Port
	host   *usbredir.Host
	seq    byte
}

func start(t *testing.T, f simreader.Failures) *desk {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	p, err := usbredir.Listen(filepath.Join(t.TempDir(), "port"))
	must(t, err)
	t.Cleanup(func() { p.Close() })
	d := &desk{t: t, ctx: ctx, reader: simreader.New(simreader.Config{}), chip: &chip{make(chan []byte, 16)}, port: p}
	d.reader.SetFailures(f)
	go Follow(ctx, p, Config{Reader: d.reader, Extension: 20 * time.Millisecond})
	d.host, err = usbredir.Dial(p.Path())
	must(t, err)
	t.Cleanup(func() { d.host.Close() })
	must(t, d.host.WaitDevice(ctx, true))
	must(t, d.host.Configure(ctx))
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// send sends a message.
func (d *desk) send(kind byte, level uint16, data []byte) {
	d.t.Helper()
	d.seq++
	b := []byte{kind}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, 0, d.seq, 0)
	b = binary.LittleEndian.AppendUint16(b, level)
	d.raw(append(b, data...))
}

func (d *desk) raw(b []byte) {
	d.t.Helper()
	s, err := d.host.Out(d.ctx, epOut, b)
	must(d.t, err)
	if s != usbredir.StatusOK {
		d.t.Fatalf("message refused: %d", s)
	}
}

// receive gets the next message.
func (d *desk) receive() answer {
	d.t.Helper()
	b, s, err := d.host.In(d.ctx, epIn, maxMessage)
	must(d.t, err)
	if s != usbredir.StatusOK || len(b) < head || int(binary.LittleEndian.Uint32(b[1:])) != len(b)-head {
		d.t.Fatalf("status %d, message %x", s, b)
	}
	return answer{b[0], b[5], b[6], b[7], b[8], b[9], b[head:]}
}

// answered sends a message and gets its answer, over extensions of time.
func (d *desk) answered(kind byte, level uint16, data []byte) answer {
	d.t.Helper()
	d.send(kind, level, data)
	return d.result()
}

func (d *desk) result() answer {
	d.t.Helper()
	for {
		a := d.receive()
		if a.status&0xC0 == statusExtension {
			continue
		}
		if a.seq != d.seq {
			d.t.Fatalf("answer to %d, %d was sent", a.seq, d.seq)
		}
		return a
	}
}

func (d *desk) expect(what string, got answer, kind, status, err byte, data string) {
	d.t.Helper()
	if got.kind != kind || got.status != status || got.err != err || string(got.data) != data {
		d.t.Errorf("%s: got %+v, want kind %#x status %#x error %#x data %x", what, got, kind, status, err, data)
	}
}

func TestCard(t *testing.T) {
	t.Parallel()
	d := start(t, simreader.Failures{})
	d.expect("empty slot", d.answered(pcGetSlotStatus, 0, nil), rdrSlotStatus, cardAbsent, 0, "")
	d.expect("power without a card", d.answered(pcIccPowerOn, 0, nil), rdrDataBlock, statusFailed|cardAbsent, errMute, "")
	if _, err := d.host.Poll(d.ctx, epInterrupt, true); err != nil {
		t.Fatal(err)
	}
	slot := func(want string) {
		t.Helper()
		if b, err := d.host.Interrupt(d.ctx); err != nil || string(b) != want {
			t.Errorf("slot change %x (%v), want %x", b, err, want)
		}
	}
	d.reader.Insert(d.chip)
	slot("\x50\x03")
	d.expect("card", d.answered(pcGetSlotStatus, 0, nil), rdrSlotStatus, cardInactive, 0, "")
	d.expect("power", d.answered(pcIccPowerOn, 0, nil), rdrDataBlock, cardActive, 0, "\x3B\x00")
	d.expect("parameters", d.answered(pcGetParameters, 0, nil), rdrParameters, cardActive, 0, "\x18\x10\x00\x4D\x00\xFE\x00")
	d.expect("command", d.answered(pcXfrBlock, 0, []byte{0, 0xA4, 4, 0x0C}), rdrDataBlock, cardActive, 0, "\x90\x00")
	d.expect("escape", d.answered(pcEscape, 0, []byte{1}), rdrEscape, statusFailed|cardActive, errUnsupported, "")
	d.expect("other", d.answered(0x71, 0, nil), rdrSlotStatus, statusFailed|cardActive, errUnsupported, "")
	d.reader.Remove()
	slot("\x50\x02")
	d.expect("command without a card", d.answered(pcXfrBlock, 0, []byte{0, 0xA4, 4, 0x0C}), rdrDataBlock, statusFailed|cardAbsent, errMute, "")
	// A change while nobody asks is told when somebody does.
	if _, err := d.host.Poll(d.ctx, epInterrupt, false); err != nil {
		t.Fatal(err)
	}
	d.reader.Insert(d.chip)
	if _, err := d.host.Poll(d.ctx, epInterrupt, true); err != nil {
		t.Fatal(err)
	}
	slot("\x50\x03")
	d.expect("power", d.answered(pcIccPowerOn, 0, nil), rdrDataBlock, cardActive, 0, "\x3B\x00")
	d.expect("power off", d.answered(pcIccPowerOff, 0, nil), rdrSlotStatus, cardInactive, 0, "")
}

// TestChain moves a command and an answer that need several messages each.
func TestChain(t *testing.T) {
	t.Parallel()
	d := start(t, simreader.Failures{})
	d.reader.Insert(d.chip)
	d.answered(pcIccPowerOn, 0, nil)
	cmd := append([]byte{0, 0xD6, 0, 0, 0, 9, 0xC4}, make([]byte, 2500)...)
	for i := 7; i < len(cmd); i++ {
		cmd[i] = byte(i)
	}
	for i, level := range []uint16{chainBegin, chainMiddle, chainEnd} {
		a := d.answered(pcXfrBlock, level, cmd[i*maxData:min((i+1)*maxData, len(cmd))])
		if level != chainEnd && (a.last != chainEmpty || len(a.data) != 0) {
			t.Fatalf("answer %+v to a part of a command", a)
		}
	}
	if diff := cmp.Diff(cmd, <-d.chip.seen); diff != "" {
		t.Error(diff)
	}
	var got []byte
	a := d.answered(pcXfrBlock, 0, []byte{0, 0xB0, 0, 0, 0, 0x0B, 0xB8})
	var chain []byte
	for {
		got, chain = append(got, a.data...), append(chain, a.last)
		if a.last == chainWhole || a.last == chainEnd {
			break
		}
		a = d.answered(pcXfrBlock, chainEmpty, nil)
	}
	if string(chain) != "\x01\x03\x02" || len(got) != 3002 || got[700] != byte(700*7&0xFF) {
		t.Errorf("chain %x, %d octets", chain, len(got))
	}
	for what, m := range map[string]struct {
		level uint16
		data  []byte
	}{
		"more of nothing": {chainEmpty, nil}, "end of nothing": {chainEnd, []byte{1}}, "no such level": {7, []byte{1}},
	} {
		d.expect(what, d.answered(pcXfrBlock, m.level, m.data), rdrDataBlock, statusFailed, errLength, "")
	}
	d.raw([]byte{pcXfrBlock, 9, 0, 0, 0, 0, d.seq, 0, 0, 0, 1})
	d.expect("wrong length", d.result(), rdrDataBlock, statusFailed, errLength, "")
	d.raw([]byte{pcXfrBlock, 0, 0, 0, 0, 3, d.seq, 0, 0, 0})
	d.expect("wrong slot", d.result(), rdrDataBlock, statusFailed, errSlot, "")
	if s, err := d.host.Out(d.ctx, epOut, []byte{pcXfrBlock}); err != nil || s != usbredir.StatusStall {
		t.Errorf("stump of a message: %d, %v", s, err)
	}
}

// verifyRequest and modifyRequest are what libccid makes of the kiosk's requests.
var (
	verifyRequest = []byte("\x00\x1E\x89\x47\x04\x08\x06\x02\x01\x07\x04\x00\x00\x00\x00\x00\x20\x00\x01\x08\x20\xFF\xFF\xFF\xFF\xFF\xFF\xFF")
	modifyRequest = []byte("\x01\x1E\x89\x47\x04\x00\x08\x08\x06\x03\x02\x03\x07\x04\x00\x01\x02\x00\x00\x00\x00\x24\x00\x01\x10\x20\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x20\xFF\xFF\xFF\xFF\xFF\xFF\xFF")
)

func TestPIN(t *testing.T) {
	t.Parallel()
	d := start(t, simreader.Failures{})
	d.reader.Insert(d.chip)
	d.answered(pcIccPowerOn, 0, nil)
	enter := func(step, digits string) {
		t.Helper()
		must(t, d.reader.WaitAwaiting(d.ctx, step))
		must(t, d.reader.PressDigits(digits))
		must(t, d.reader.PressKey(simreader.KeyOK))
	}
	d.send(pcSecure, 0, verifyRequest)
	if a := d.receive(); a.status != statusExtension || a.err != 1 {
		t.Errorf("while the person types: %+v", a)
	}
	d.seq++ // a question in between
	d.raw([]byte{pcGetSlotStatus, 0, 0, 0, 0, 0, d.seq, 0, 0, 0})
	for {
		if a := d.receive(); a.seq == d.seq {
			d.expect("question in between", a, rdrSlotStatus, statusFailed, errBusy, "")
			break
		}
	}
	d.seq--
	enter("pin", "123456")
	d.expect("verify", d.result(), rdrDataBlock, cardActive, 0, "\x90\x00")
	if got := <-d.chip.seen; string(got) != "\x00\x20\x00\x01\x08\x26\x12\x34\x56\xFF\xFF\xFF\xFF" {
		t.Errorf("the card got %x", got)
	}
	d.send(pcSecure, 0, modifyRequest)
	enter("old", "123456")
	enter("new", "87654321")
	enter("repeat", "87654321")
	d.expect("modify", d.result(), rdrDataBlock, cardActive, 0, "\x90\x00")
	if got := <-d.chip.seen; string(got[5:]) != "\x26\x12\x34\x56\xFF\xFF\xFF\xFF\x28\x87\x65\x43\x21\xFF\xFF\xFF" {
		t.Errorf("the card got %x", got)
	}
	d.send(pcSecure, 0, verifyRequest)
	must(t, d.reader.WaitAwaiting(d.ctx, "pin"))
	must(t, d.reader.PressKey(simreader.KeyCancel))
	d.expect("cancel key", d.result(), rdrDataBlock, statusFailed, errCancelled, "")
	d.send(pcSecure, 0, verifyRequest)
	must(t, d.reader.WaitAwaiting(d.ctx, "pin"))
	d.reader.Remove()
	d.expect("card taken", d.result(), rdrDataBlock, statusFailed|cardAbsent, errMute, "")
	d.reader.Insert(d.chip)
	d.answered(pcIccPowerOn, 0, nil)
	wrong := bytes.Clone(verifyRequest)
	wrong[2] = 0x82
	d.expect("refused request", d.answered(pcSecure, 0, wrong), rdrDataBlock, cardActive, 0, "\x6B\x80")
	d.expect("short request", d.answered(pcSecure, 0, wrong[:9]), rdrDataBlock, statusFailed, errLength, "")
}

// TestAbort aborts a PIN entry with the two halves of an abort in both orders.
func TestAbort(t *testing.T) {
	t.Parallel()
	for name, messageFirst := range map[string]bool{"message first": true, "request first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := start(t, simreader.Failures{})
			d.reader.Insert(d.chip)
			d.answered(pcIccPowerOn, 0, nil)
			d.send(pcSecure, 0, verifyRequest)
			must(t, d.reader.WaitAwaiting(d.ctx, "pin"))
			request := func() {
				if _, s, err := d.host.Control(d.ctx, usbredir.Setup{RequestType: 0x21, Request: 1, Value: uint16(d.seq+1) << 8}, nil); err != nil || s != usbredir.StatusOK {
					t.Errorf("abort: %d, %v", s, err)
				}
			}
			if !messageFirst {
				request()
				d.seq += 4
				d.raw([]byte{pcGetSlotStatus, 0, 0, 0, 0, 0, d.seq, 0, 0, 0})
				for a := d.receive(); ; a = d.receive() {
					if a.seq == d.seq {
						d.expect("question within an abort", a, rdrSlotStatus, statusFailed, errAborted, "")
						break
					}
				}
				d.seq -= 4
			}
			d.send(pcAbort, 0, nil)
			if messageFirst {
				d.seq--
				request()
				d.seq++
			}
			for {
				a := d.receive()
				if a.status&0xC0 == statusExtension {
					continue
				}
				d.expect("abort", a, rdrSlotStatus, cardActive, 0, "")
				break
			}
			must(t, d.reader.WaitAwaiting(d.ctx, ""))
			d.expect("afterwards", d.answered(pcXfrBlock, 0, []byte{0, 0xA4, 4, 0x0C}), rdrDataBlock, cardActive, 0, "\x90\x00")
		})
	}
}

// TestFaults shows on USB what is wrong with a reader.
func TestFaults(t *testing.T) {
	t.Parallel()
	descriptor := func(d *desk) []byte {
		b, _, err := d.host.Control(d.ctx, usbredir.Setup{RequestType: 0x80, Request: 6, Value: 0x0200, Length: 255}, nil)
		must(d.t, err)
		return b[18:72]
	}
	for name, tt := range map[string]struct {
		f        simreader.Failures
		features uint32
		display  string
		pin      byte
	}{
		"good":          {simreader.Failures{}, 0x000406BA, "\x10\x03", 3},
		"no pad":        {simreader.Failures{NoPad: true}, 0x000406BA, "\x00\x00", 0},
		"verify only":   {simreader.Failures{VerifyOnly: true}, 0x000406BA, "\x10\x03", 1},
		"no display":    {simreader.Failures{NoDisplay: true}, 0x000406BA, "\x00\x00", 3},
		"no properties": {simreader.Failures{NoProperties: true}, 0x000406BA, "\x00\x00", 3},
		"short only":    {simreader.Failures{ShortOnly: true}, 0x000206BA, "\x10\x03", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := descriptor(start(t, tt.f))
			if c[0] != 54 || c[1] != 0x21 || binary.LittleEndian.Uint32(c[40:]) != tt.features || binary.LittleEndian.Uint32(c[44:]) != maxMessage ||
				string(c[50:52]) != tt.display || c[52] != tt.pin {
				t.Errorf("descriptor %x", c)
			}
		})
	}
	t.Run("mute card", func(t *testing.T) {
		t.Parallel()
		d := start(t, simreader.Failures{Mute: true})
		d.reader.Insert(d.chip)
		d.expect("power", d.answered(pcIccPowerOn, 0, nil), rdrDataBlock, statusFailed|cardInactive, errMute, "")
	})
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		d := start(t, simreader.Failures{Delay: 100 * time.Millisecond})
		d.reader.Insert(d.chip)
		d.answered(pcIccPowerOn, 0, nil)
		d.send(pcXfrBlock, 0, []byte{0, 0xA4, 4, 0x0C})
		if a := d.receive(); a.status != statusExtension {
			t.Errorf("%+v", a)
		}
		d.expect("slow command", d.result(), rdrDataBlock, cardActive, 0, "\x90\x00")
	})
	t.Run("hangs", func(t *testing.T) {
		t.Parallel()
		d := start(t, simreader.Failures{})
		d.reader.Insert(d.chip)
		d.answered(pcIccPowerOn, 0, nil)
		d.reader.HangNext()
		d.send(pcXfrBlock, 0, []byte{0, 0xA4, 4, 0x0C})
		must(t, d.reader.Wait(d.ctx, func(s simreader.State) bool { return s.Hung }))
		short, cancel := context.WithTimeout(d.ctx, 100*time.Millisecond) // five extensions of a good reader
		defer cancel()
		for {
			b, _, err := d.host.In(short, epIn, maxMessage)
			if err != nil {
				break
			}
			if b[7] != statusExtension { // one may have been on its way
				t.Errorf("the hanging reader says %x", b)
			}
		}
		must(t, d.reader.Wait(d.ctx, func(s simreader.State) bool { return !s.Hung })) // the host has given up
		d.expect("afterwards", d.answered(pcXfrBlock, 0, []byte{0, 0xA4, 4, 0x0C}), rdrDataBlock, cardActive, 0, "\x90\x00")
	})
	t.Run("unplugged", func(t *testing.T) {
		t.Parallel()
		d := start(t, simreader.Failures{})
		d.reader.Insert(d.chip)
		d.answered(pcIccPowerOn, 0, nil)
		d.send(pcSecure, 0, verifyRequest)
		must(t, d.reader.WaitAwaiting(d.ctx, "pin"))
		d.reader.Unplug()
		must(t, d.host.WaitDevice(d.ctx, false))
		d.reader.Plug()
		must(t, d.host.WaitDevice(d.ctx, true))
		must(t, d.host.Configure(d.ctx))
		d.expect("card", d.answered(pcGetSlotStatus, 0, nil), rdrSlotStatus, cardInactive, 0, "")
		if _, err := d.host.Poll(d.ctx, epInterrupt, true); err != nil {
			t.Fatal(err)
		}
		if b, err := d.host.Interrupt(d.ctx); err != nil || string(b) != "\x50\x03" {
			t.Errorf("slot change %x, %v", b, err)
		}
	})
}

func TestSecure(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		in, want string
		code     uint32
	}{
		"verify":          {string(verifyRequest), "\x1E\x00\x89\x47\x04\x08\x06\x02\x01\x07\x04\x00\x00\x00\x00\x0D\x00\x00\x00" + string(verifyRequest[15:]), codeVerify},
		"modify":          {string(modifyRequest), "\x1E\x00\x89\x47\x04\x00\x08\x08\x06\x03\x02\x03\x07\x04\x00\x01\x02\x00\x00\x00\x15\x00\x00\x00" + string(modifyRequest[20:]), codeModify},
		"one message":     {"\x01\x1E\x89\x47\x04\x00\x08\x08\x06\x03\x02\x01\x07\x04\x05\x06\x00\x00\x00\xAA", "\x1E\x00\x89\x47\x04\x00\x08\x08\x06\x03\x02\x01\x07\x04\x05\x06\x00\x00\x00\x00\x01\x00\x00\x00\xAA", codeModify},
		"no message":      {"\x01\x1E\x89\x47\x04\x00\x08\x08\x06\x03\x02\x00\x07\x04\x05\x00\x00\x00\xAA", "\x1E\x00\x89\x47\x04\x00\x08\x08\x06\x03\x02\x00\x07\x04\x05\x00\x00\x00\x00\x00\x01\x00\x00\x00\xAA", codeModify},
		"own number":      {"\x01\x1E\x89\x47\x04\x00\x08\x08\x06\x03\x02\xFF\x07\x04\x00\x01\x02\x00\x00\x00\xAA", "\x1E\x00\x89\x47\x04\x00\x08\x08\x06\x03\x02\xFF\x07\x04\x00\x01\x02\x00\x00\x00\x01\x00\x00\x00\xAA", codeModify},
		"empty":           {"", "", 0},
		"other operation": {"\x04\x1E\x89\x47\x04\x08\x06\x02\x01\x07\x04\x00\x00\x00\x00", "", 0},
		"short":           {"\x01\x1E\x89\x47\x04\x00\x08\x08\x06\x03\x02\x03\x07\x04\x00\x01", "", 0},
	} {
		code, got, err := secure([]byte(tt.in))
		if code != tt.code || (err != nil) != (tt.code == 0) || string(got) != tt.want {
			t.Errorf("%s: code %#x, %x, %v", name, code, got, err)
		}
	}
}

func FuzzOut(f *testing.F) {
	f.Add([]byte{pcXfrBlock, 1, 0, 0, 0, 0, 1, 0, 0, 0, 9}, verifyRequest)
	f.Fuzz(func(t *testing.T, m, s []byte) {
		if r, err := parse(m); err == nil && len(r.data) > maxData {
			t.Error("message too long")
		}
		if _, out, err := secure(s); err == nil && len(out) > len(s)+10 {
			t.Error("structure too long")
		}
	})
}
