package simreader

import (
	"context"
	"time"
)

// result is how an entry at the pad ended.
type result int

const (
	resultNone result = iota
	resultDone
	resultTimeout
	resultCancelled
	resultMismatch
	resultLength
	resultRemoved
	resultUnplugged
)

// sw are the status words of the reader itself, PC/SC part 10 section 2.5.
var sw = map[result][]byte{
	resultTimeout:   {0x64, 0x00},
	resultCancelled: {0x64, 0x01},
	resultMismatch:  {0x64, 0x02},
	resultLength:    {0x64, 0x03},
}

var swRefused = []byte{0x6B, 0x80}

// step is one thing that the pad asks for.
type step struct{ name, text string }

// Names of steps, as State shows them.
const (
	stepPIN    = "pin"
	stepOld    = "old"
	stepNew    = "new"
	stepRepeat = "repeat"
)

// entry is a PIN entry in progress. Reader.mu guards it.
type entry struct {
	steps             []step
	index             int
	min, max          int
	endAtMax, endAtOK bool
	firstKey          time.Duration
	afterKey          time.Duration

	typed  []byte   // digits of this step
	values [][]byte // digits of the steps before
	result result
	done   chan struct{}
	stop   func() // of the timer
	armed  int    // number of the timer that counts
}

func (e *entry) step() step { return e.steps[e.index] }

func (e *entry) wipeTyped() {
	clear(e.typed[:cap(e.typed)])
	e.typed = e.typed[:0]
}

func (e *entry) wipe() {
	e.wipeTyped()
	for _, v := range e.values {
		clear(v)
	}
	e.values = nil
}

// enter runs a PIN entry to its end and returns the digits of its steps. The caller wipes them with entry.wipe. r.slot
// is held, so there is one entry at a time.
func (r *Reader) enter(ctx context.Context, e *entry) result {
	const maxDigits = 12
	e.typed = make([]byte, 0, maxDigits)
	e.done = make(chan struct{})
	r.mu.Lock()
	if err := r.ready(); err != nil {
		r.mu.Unlock()
		if err == ErrUnplugged {
			return resultUnplugged
		}
		return resultRemoved
	}
	r.entry = e
	r.arm(e, e.firstKey)
	r.notify()
	r.mu.Unlock()
	select {
	case <-e.done:
	case <-ctx.Done(): // the driver is gone: a reader that lost its host gives up
		r.mu.Lock()
		r.finish(e, resultUnplugged)
		r.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return e.result
}

// arm starts the time for the next key. r.mu is held.
func (r *Reader) arm(e *entry, d time.Duration) {
	if e.stop != nil {
		e.stop()
	}
	e.armed++
	n := e.armed
	e.stop = r.cfg.Clock.AfterFunc(d, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if e.armed == n {
			r.finish(e, resultTimeout)
		}
	})
}

// finish ends an entry; only the first end counts. r.mu is held.
func (r *Reader) finish(e *entry, res result) {
	if e.result != resultNone {
		return
	}
	e.result = res
	e.armed++
	e.stop()
	if r.entry == e {
		r.entry = nil
	}
	close(e.done)
	r.notify()
}

// digit takes one digit; more than the maximum is ignored, as a pad beeps. r.mu is held.
func (r *Reader) digit(e *entry, d byte) {
	if e.result != resultNone || len(e.typed) >= e.max {
		return
	}
	e.typed = append(e.typed, d)
	if e.endAtMax && len(e.typed) == e.max {
		r.next(e)
	}
}

// ok takes the OK key. r.mu is held.
func (r *Reader) ok(e *entry) {
	if e.result != resultNone || !e.endAtOK {
		return
	}
	if len(e.typed) < e.min {
		r.finish(e, resultLength)
		return
	}
	r.next(e)
}

// next goes on to the next thing to ask for, or ends the entry.
func (r *Reader) next(e *entry) {
	e.values = append(e.values, append(make([]byte, 0, len(e.typed)), e.typed...))
	e.wipeTyped()
	if e.step().name == stepRepeat {
		n := len(e.values)
		if string(e.values[n-1]) != string(e.values[n-2]) {
			r.finish(e, resultMismatch)
			return
		}
	}
	if e.index+1 == len(e.steps) {
		r.finish(e, resultDone)
		return
	}
	e.index++
}

// pinBlock is the format-2 block of digits: control nibble 2, length nibble, digits in BCD, filled with F.
func pinBlock(digits []byte) []byte {
	b := []byte{0x20 | byte(len(digits)), 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	for i, d := range digits {
		n := d - '0'
		if i%2 == 0 {
			b[1+i/2] = n<<4 | 0x0F
		} else {
			b[1+i/2] = b[1+i/2]&0xF0 | n
		}
	}
	return b
}
