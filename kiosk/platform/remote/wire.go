package remote

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"math"
	"time"
	"unicode/utf8"

	"gioui.org/f32"
	"gioui.org/io/event"
	"gioui.org/io/key"
	"gioui.org/io/pointer"
	"gioui.org/unit"

	"ktradv/kiosk/platform"
)

// maxMessage is the largest message in bytes: a Text event.
const maxMessage = 3 + platform.MaxText

// maxKeyName is the longest name of a key in bytes.
const maxKeyName = 32

// ErrMessage is wrapped by the errors for messages that break the protocol.
var ErrMessage = errors.New("remote: malformed message")

// Types of messages, the first byte of each. All numbers are little endian.
const (
	// supervisor to session
	typeConfigure = 'C' // gen, width, height u32; pxPerDp, pxPerSp f32; the memory's descriptor
	typeAck       = 'A' // seq u32: the frame is shown, its memory may be written again
	typePointer   = 'P' // kind, source, buttons u8; id u16; modifiers u32; time i64; x, y, scroll x, scroll y f32
	typeKey       = 'K' // state u8, modifiers u32, name
	typeText      = 'T' // length u16, text
	typeRedraw    = 'R'
	typePing      = 'Q' // answer with an alive
	// session to supervisor
	typeFrame = 'F' // gen, seq u32; n u8; n times x0, y0, x1, y1 u16
	typeAlive = 'L'
)

// configure announces new memory for the picture.
type configure struct {
	Gen    uint32
	Size   image.Point
	Metric unit.Metric
}

// ack answers a frame.
type ack struct{ Seq uint32 }

// frame says what changed in the memory of a generation.
type frame struct {
	Gen, Seq uint32
	Damage   []image.Rectangle
}

// alive is the session's sign of life.
type alive struct{}

var le = binary.LittleEndian

func f32bits(b []byte, v float32) []byte { return le.AppendUint32(b, math.Float32bits(v)) }

// encode returns the wire form of a message. Events that have none give nil.
func encode(m any) []byte {
	switch m := m.(type) {
	case configure:
		b := []byte{typeConfigure}
		b = le.AppendUint32(b, m.Gen)
		b = le.AppendUint32(b, uint32(m.Size.X))
		b = le.AppendUint32(b, uint32(m.Size.Y))
		return f32bits(f32bits(b, m.Metric.PxPerDp), m.Metric.PxPerSp)
	case ack:
		return le.AppendUint32([]byte{typeAck}, m.Seq)
	case pointer.Event:
		b := []byte{typePointer, kindByte(m.Kind), byte(m.Source), byte(m.Buttons)}
		b = le.AppendUint16(b, uint16(m.PointerID))
		b = le.AppendUint32(b, uint32(m.Modifiers))
		b = le.AppendUint64(b, uint64(m.Time))
		for _, v := range []float32{m.Position.X, m.Position.Y, m.Scroll.X, m.Scroll.Y} {
			b = f32bits(b, v)
		}
		return b
	case key.Event:
		if len(m.Name) > maxKeyName {
			return nil
		}
		b := le.AppendUint32([]byte{typeKey, byte(m.State)}, uint32(m.Modifiers))
		return append(b, m.Name...)
	case platform.Text:
		if len(m.Text) > platform.MaxText {
			return nil
		}
		return append(le.AppendUint16([]byte{typeText}, uint16(len(m.Text))), m.Text...)
	case platform.Redraw:
		return []byte{typeRedraw}
	case platform.Ping:
		return []byte{typePing}
	case frame:
		b := le.AppendUint32([]byte{typeFrame}, m.Gen)
		b = le.AppendUint32(b, m.Seq)
		b = append(b, byte(len(m.Damage)))
		for _, r := range m.Damage {
			for _, v := range []int{r.Min.X, r.Min.Y, r.Max.X, r.Max.Y} {
				b = le.AppendUint16(b, uint16(v))
			}
		}
		return b
	case alive:
		return []byte{typeAlive}
	}
	return nil
}

// pointerKinds are the kinds that come from devices; the index is the byte on
// the wire.
var pointerKinds = [...]pointer.Kind{pointer.Cancel, pointer.Press, pointer.Release, pointer.Move, pointer.Scroll}

func kindByte(k pointer.Kind) byte {
	for i, p := range pointerKinds {
		if p == k {
			return byte(i)
		}
	}
	return 0 // anything else ends the gesture
}

// decode parses a message completely or fails with ErrMessage.
func decode(b []byte) (any, error) {
	bad := func(what string) (any, error) { return nil, fmt.Errorf("%s: %w", what, ErrMessage) }
	if len(b) == 0 || len(b) > maxMessage {
		return bad(fmt.Sprintf("%d bytes", len(b)))
	}
	t, b := b[0], b[1:]
	if n, fixed := fixedSize[t]; fixed && len(b) != n {
		return bad(fmt.Sprintf("message %q with %d bytes, want %d", t, len(b), n))
	}
	float := func(i int) float32 { return math.Float32frombits(le.Uint32(b[i:])) }
	switch t {
	case typeConfigure:
		c := configure{Gen: le.Uint32(b), Metric: unit.Metric{PxPerDp: float(12), PxPerSp: float(16)}}
		w, h := le.Uint32(b[4:]), le.Uint32(b[8:])
		if w > platform.MaxSide || h > platform.MaxSide {
			return bad("configure: size")
		}
		if c.Size = image.Pt(int(w), int(h)); !platform.ValidSize(c.Size) {
			return bad("configure: size")
		}
		for _, v := range []float32{c.Metric.PxPerDp, c.Metric.PxPerSp} {
			if !(v > 0 && v <= 64) {
				return bad("configure: metric")
			}
		}
		return c, nil
	case typeAck:
		return ack{le.Uint32(b)}, nil
	case typePointer:
		if int(b[0]) >= len(pointerKinds) || b[1] > byte(pointer.Touch) {
			return bad("pointer: kind or source")
		}
		return pointer.Event{
			Kind: pointerKinds[b[0]], Source: pointer.Source(b[1]), Buttons: pointer.Buttons(b[2]),
			PointerID: pointer.ID(le.Uint16(b[3:])), Modifiers: key.Modifiers(le.Uint32(b[5:])), Time: time.Duration(le.Uint64(b[9:])),
			Position: f32.Pt(float(17), float(21)), Scroll: f32.Pt(float(25), float(29)),
		}, nil
	case typeKey:
		if len(b) < 6 || len(b) > 5+maxKeyName || b[0] > byte(key.Release) || !utf8.Valid(b[5:]) {
			return bad("key")
		}
		return key.Event{State: key.State(b[0]), Modifiers: key.Modifiers(le.Uint32(b[1:])), Name: key.Name(b[5:])}, nil
	case typeText:
		if len(b) < 3 || int(le.Uint16(b)) != len(b)-2 || !utf8.Valid(b[2:]) {
			return bad("text")
		}
		return platform.Text{Text: string(b[2:])}, nil
	case typeRedraw:
		return platform.Redraw{}, nil
	case typePing:
		return platform.Ping{}, nil
	case typeFrame:
		if len(b) < 9 || b[8] > platform.MaxDamage || len(b) != 9+8*int(b[8]) {
			return bad("frame")
		}
		f := frame{Gen: le.Uint32(b), Seq: le.Uint32(b[4:])}
		for b := b[9:]; len(b) > 0; b = b[8:] {
			r := image.Rectangle{
				Min: image.Pt(int(le.Uint16(b)), int(le.Uint16(b[2:]))),
				Max: image.Pt(int(le.Uint16(b[4:])), int(le.Uint16(b[6:]))),
			}
			if r.Empty() || r.Max.X > platform.MaxSide || r.Max.Y > platform.MaxSide {
				return bad("frame: rectangle")
			}
			f.Damage = append(f.Damage, r)
		}
		return f, nil
	case typeAlive:
		return alive{}, nil
	}
	return bad(fmt.Sprintf("type %q", t))
}

// fixedSize has the length of the messages that have one, without the type.
var fixedSize = map[byte]int{
	typeConfigure: 20, typeAck: 4, typePointer: 33, typeRedraw: 0, typePing: 0, typeAlive: 0,
}

var _ event.Event = pointer.Event{}
