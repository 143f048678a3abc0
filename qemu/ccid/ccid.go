// Package ccid is the simulated class-3 reader as a USB device: a CCID (the USB device class of chip card readers) with PIN
// pad and display over the reader of package ktradv/hw/sim/reader, at a port of package ktradv/qemu/usbredir. A guest's
// kernel, libccid and pcscd see what they would see of a real reader: PIN verification and modification at the pad, slot
// events, time extensions while a person types, answers in several messages, abort.
//
// [Follow] keeps the device in a port for as long as the reader is plugged in. What goes wrong with the reader
// (simreader.Failures, HangNext, Unplug) goes wrong on USB in the way it does there; usbredir.Port.StopAfter is the fault
// that only USB has.
//
// Source: USB Device Class: Smart Card CCID, revision 1.1.
package ccid

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	simreader "ktradv/hw/sim/reader"
	"ktradv/qemu/usbredir"
)

// Endpoints of the device.
const (
	epOut       = 0x02
	epIn        = 0x81
	epInterrupt = 0x83

	// SlotEvents is the endpoint that tells of cards; a driver at work asks it all the time.
	SlotEvents = epInterrupt
)

// Config describes the device.
type Config struct {
	Reader *simreader.Reader
	// Vendor and Product identify the model; zero is a KOBIL KAAN Advanced, 0D46:3002, which the guest's driver knows and
	// for which it has no special treatment.
	Vendor, Product uint16
	// Name of the product; "" is that of the model above.
	Name string
	// Extension is the time between two extensions of time while a command runs; 0 is a second.
	Extension time.Duration
}

// Device is the reader as a USB device.
type Device struct {
	cfg Config

	mu      sync.Mutex
	link    *usbredir.Link
	stop    context.CancelFunc // of everything that runs for the link
	ctx     context.Context
	running *running
	chain   []byte // command that comes in several messages
	rest    []byte // of an answer that goes in several messages
	abort   struct {
		control *byte    // sequence number of an abort on the control endpoint
		message *request // an abort as message
	} // both have to come, in any order
	notice *byte // slot change that the host has not seen
}

// running is a command in progress.
type running struct {
	request request
	cancel  context.CancelFunc
}

// New returns the device of a reader, for a port.
func New(cfg Config) *Device {
	if cfg.Vendor == 0 {
		cfg.Vendor, cfg.Product = 0x0D46, 0x3002
	}
	if cfg.Name == "" {
		cfg.Name = "KAAN Advanced"
	}
	if cfg.Extension == 0 {
		cfg.Extension = time.Second
	}
	return &Device{cfg: cfg}
}

// Follow keeps the device of a reader in a port while the reader is plugged in, until the context ends.
func Follow(ctx context.Context, port *usbredir.Port, cfg Config) {
	d := New(cfg)
	in := false
	for {
		changed := cfg.Reader.Changed()
		switch plugged, _, _ := cfg.Reader.Presence(); {
		case plugged && !in:
			port.Attach(d)
			in = true
		case !plugged && in:
			port.Detach()
			in = false
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if in {
				port.Detach()
			}
			return
		}
	}
}

// abilities are what the reader's driver face says about pad, display and length of commands.
func (d *Device) abilities() (pin, columns, lines byte, extended bool) {
	ask := func(code uint32) []byte {
		b, err := d.cfg.Reader.Control(context.Background(), code, nil)
		if err != nil {
			return nil
		}
		return b
	}
	extended = true
	for b := ask(codeFeatures); len(b) >= 6; b = b[6:] {
		switch code := binary.BigEndian.Uint32(b[2:]); code {
		case codeVerify:
			pin |= 1
		case codeModify:
			pin |= 2
		case codePINProps:
			if p := ask(code); len(p) == 4 {
				columns, lines = p[0], p[1]
			}
		case codeTLVProps:
			extended = !bytes.Contains(ask(code), []byte{0x0A, 4, 0x05, 0x01, 0x00, 0x00})
		}
	}
	return pin, columns, lines, extended
}

// Describe implements usbredir.Device.
func (d *Device) Describe() usbredir.Description {
	pin, columns, lines, extended := d.abilities()
	features := uint32(0x000406BA) // parameters, voltage, clock, baud rate, PPS, NAD, IFSD by itself; short and extended APDU
	if !extended {
		features = 0x000206BA
	}
	class := []byte{54, 0x21, 0x10, 0x01, 0, 7} // CCID 1.10, one slot, 5, 3 and 1.8 V
	u32 := func(v ...uint32) {
		for _, v := range v {
			class = binary.LittleEndian.AppendUint32(class, v)
		}
	}
	u32(3, 4000, 4000)        // T=0 and T=1; clock in kHz
	class = append(class, 0)  // number of clocks
	u32(10752, 344105)        // data rate in bit/s
	class = append(class, 0)  // number of data rates
	u32(254, 0, 0)            // IFSD, no synchronous cards, no mechanics
	u32(features, maxMessage) //
	class = append(class, 0xFF, 0xFF, columns, lines, pin, 1)
	return usbredir.Description{
		Speed: usbredir.FullSpeed, Vendor: d.cfg.Vendor, Product: d.cfg.Product, Version: 0x0100,
		Maker: "KOBIL Systems", Name: d.cfg.Name,
		Interfaces: []usbredir.Interface{{Class: 0x0B, Extra: class, Endpoints: []usbredir.Endpoint{
			{Address: epOut, Kind: usbredir.Bulk, MaxPacket: 64},
			{Address: epIn, Kind: usbredir.Bulk, MaxPacket: 64},
			{Address: epInterrupt, Kind: usbredir.Interrupt, MaxPacket: 8, Interval: 24},
		}}},
	}
}

// Attached implements usbredir.Device.
func (d *Device) Attached(l *usbredir.Link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.link = l
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.running, d.chain, d.rest, d.notice = nil, nil, nil, nil
	d.abort.control, d.abort.message = nil, nil
	if _, card, _ := d.cfg.Reader.Presence(); card {
		d.notice = slotBits(true)
	}
	go d.watch(d.ctx)
}

// Detached implements usbredir.Device: without power everything is forgotten.
func (d *Device) Detached() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stop()
	d.link, d.running = nil, nil
	go d.cfg.Reader.PowerOff() // a no-op for a reader that is unplugged; it may have to wait for the end of an exchange
}

func slotBits(card bool) *byte {
	b := byte(0x02) // changed
	if card {
		b |= 0x01
	}
	return &b
}

// watch tells the host of every change of the slot.
func (d *Device) watch(ctx context.Context) {
	_, card, seen := d.cfg.Reader.Presence()
	for d.cfg.Reader.WaitGeneration(ctx, seen) == nil {
		was := card
		_, card, seen = d.cfg.Reader.Presence()
		d.mu.Lock()
		if ctx.Err() == nil {
			if was && card { // taken and put in again
				d.tell(slotBits(false))
			}
			d.tell(slotBits(card))
		}
		d.mu.Unlock()
	}
}

// tell sends a slot change, now or when the host asks for it. d.mu is held.
func (d *Device) tell(bits *byte) {
	d.notice = nil
	if !d.link.Interrupt(epInterrupt, []byte{rdrSlotChange, *bits}) {
		d.notice = bits
	}
}

// Polled implements usbredir.Device.
func (d *Device) Polled(byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.notice != nil {
		d.tell(d.notice)
	}
}

// Control implements usbredir.Device: the one class request is the abort of a command.
func (d *Device) Control(s usbredir.Setup, _ []byte) ([]byte, bool) {
	const classOutInterface, abort = 0x21, 1
	if s.RequestType != classOutInterface || s.Request != abort || byte(s.Value) != 0 {
		return nil, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	seq := byte(s.Value >> 8)
	d.abort.control = &seq
	d.endAbort()
	return nil, true
}

// endAbort ends the running command when both halves of an abort have come (CCID section 5.3.1). d.mu is held.
func (d *Device) endAbort() {
	m := d.abort.message
	if m == nil || d.abort.control == nil || *d.abort.control != m.seq {
		return
	}
	d.abort.control, d.abort.message = nil, nil
	d.giveUp()
	d.reply(*m, answer{})
}

// giveUp forgets the running command and what is left of its answer. d.mu is held.
func (d *Device) giveUp() {
	if d.running != nil {
		d.running.cancel()
		d.running = nil
	}
	d.rest, d.chain = nil, nil
	d.link.Forget(epIn)
}

// Cancelled implements usbredir.Device. A host that reads no more has lost interest in what the reader is doing, and the
// reader gives it up.
func (d *Device) Cancelled(byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.giveUp()
}

// card is the status of the card in the slot.
func (d *Device) card() byte {
	switch s := d.cfg.Reader.State(); {
	case !s.Card:
		return cardAbsent
	case !s.Powered:
		return cardInactive
	}
	return cardActive
}

// reply answers a request. d.mu is held.
func (d *Device) reply(r request, a answer) {
	a.kind, a.slot, a.seq = answerKind(r.kind), r.slot, r.seq
	a.status |= d.card()
	d.link.In(epIn, a.encode())
}

func (d *Device) refuse(r request, code byte) { d.reply(r, answer{status: statusFailed, err: code}) }

// Out implements usbredir.Device: one transfer is one message.
func (d *Device) Out(_ byte, data []byte) bool {
	r, err := parse(bytes.Clone(data))
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil && len(data) < head:
		return false
	case err != nil:
		d.refuse(r, errLength)
	case r.slot != 0:
		d.refuse(r, errSlot)
	case r.kind == pcAbort:
		d.abort.message = &r
		d.endAbort()
	case d.abort.control != nil || d.abort.message != nil:
		d.refuse(r, errAborted)
	case d.running != nil:
		d.refuse(r, errBusy)
	default:
		d.command(r)
	}
	return true
}

// command starts or does a command. d.mu is held, and nothing is running.
func (d *Device) command(r request) {
	switch r.kind {
	case pcGetSlotStatus:
		d.reply(r, answer{})
	case pcGetParameters, pcResetParams, pcSetParameters:
		d.reply(r, answer{last: 1, data: []byte{0x18, 0x10, 0x00, 0x4D, 0x00, 0xFE, 0x00}}) // T=1
	case pcIccPowerOn:
		d.start(r, func(context.Context) ([]byte, error) { return d.cfg.Reader.Power(d.cfg.Reader.State().Powered) })
	case pcIccPowerOff:
		d.start(r, func(context.Context) ([]byte, error) {
			if err := d.cfg.Reader.PowerOff(); errors.Is(err, simreader.ErrUnplugged) {
				return nil, err
			}
			return nil, nil
		})
	case pcXfrBlock:
		d.transfer(r)
	case pcSecure:
		code, structure, err := secure(r.data)
		if err != nil || r.level() != 0 {
			d.refuse(r, errLength)
			return
		}
		d.start(r, func(ctx context.Context) ([]byte, error) { return d.cfg.Reader.Control(ctx, code, structure) })
	default: // escapes, too: the reader has none
		d.refuse(r, errUnsupported)
	}
}

// transfer takes one message of a command, or is asked for the next of an answer.
func (d *Device) transfer(r request) {
	level := r.level()
	if level == chainEmpty {
		if len(r.data) != 0 || d.rest == nil {
			d.refuse(r, errLength)
			return
		}
		d.next(r, chainMiddle, chainEnd)
		return
	}
	d.rest = nil
	first := level == chainWhole || level == chainBegin
	if level > chainMiddle || first != (d.chain == nil) || len(d.chain)+len(r.data) > maxAPDU {
		d.chain = nil
		d.refuse(r, errLength)
		return
	}
	d.chain = append(d.chain, r.data...)
	if level == chainBegin || level == chainMiddle {
		d.reply(r, answer{last: chainEmpty})
		return
	}
	cmd := d.chain
	d.chain = nil
	d.start(r, func(ctx context.Context) ([]byte, error) { return d.cfg.Reader.Transmit(ctx, cmd) })
}

// next sends the next message of an answer. d.mu is held.
func (d *Device) next(r request, more, end byte) {
	data, last := d.rest, end
	d.rest = nil
	if len(data) > maxData {
		data, d.rest, last = data[:maxData], data[maxData:], more
	}
	d.reply(r, answer{last: last, data: data})
}

// start runs a command that may take its time, and answers it. d.mu is held.
func (d *Device) start(r request, do func(context.Context) ([]byte, error)) {
	ctx, cancel := context.WithCancel(d.ctx)
	run := &running{r, cancel}
	d.running = run
	go func() {
		defer cancel()
		done := make(chan struct{})
		go d.extend(ctx, run, done)
		out, err := do(ctx)
		close(done)
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.running != run { // the host is gone, or wants it no more
			return
		}
		d.running = nil
		switch {
		case errors.Is(err, simreader.ErrUnplugged):
			return // there is nobody left to answer
		case err == nil:
			d.finish(r, out)
		case errors.Is(err, simreader.ErrNoCard), errors.Is(err, simreader.ErrPower):
			d.refuse(r, errMute)
		case errors.Is(err, simreader.ErrUnsupported):
			d.refuse(r, errUnsupported)
		default:
			d.refuse(r, errHardware)
		}
	}()
}

// finish answers a command that the reader has done. d.mu is held.
func (d *Device) finish(r request, out []byte) {
	if r.kind == pcSecure {
		switch string(out) { // status words of the reader itself, which CCID has errors for
		case "\x64\x00":
			d.refuse(r, errTimeout)
			return
		case "\x64\x01":
			d.refuse(r, errCancelled)
			return
		}
	}
	d.rest = out
	d.next(r, chainBegin, chainWhole)
}

// extend asks the host for more time while a command runs. A reader that hangs does not.
func (d *Device) extend(ctx context.Context, run *running, done <-chan struct{}) {
	t := time.NewTicker(d.cfg.Extension)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if d.cfg.Reader.State().Hung {
				continue
			}
			d.mu.Lock()
			if d.running == run {
				d.reply(run.request, answer{status: statusExtension, err: 1})
			}
			d.mu.Unlock()
		case <-done:
			return
		case <-ctx.Done():
			return
		}
	}
}
