package remote

import (
	"bytes"
	"errors"
	"image"
	"testing"

	"gioui.org/f32"
	"gioui.org/io/key"
	"gioui.org/io/pointer"
	"gioui.org/unit"
	"github.com/google/go-cmp/cmp"

	"ktradv/kiosk/platform"
)

var messages = []any{
	configure{Gen: 3, Size: image.Pt(1280, 800), Metric: unit.Metric{PxPerDp: 1.5, PxPerSp: 2}},
	ack{77},
	pointer.Event{Kind: pointer.Move, Source: pointer.Touch, PointerID: 9, Position: f32.Pt(-1, 1e9), Time: -5},
	key.Event{Name: key.NameReturn, State: key.Release, Modifiers: key.ModAlt},
	platform.Text{Text: "مر"},
	platform.Redraw{},
	platform.Ping{},
	frame{Gen: 1, Seq: 1 << 31, Damage: []image.Rectangle{image.Rect(0, 0, 1, 1), image.Rect(5, 6, 8192, 8000)}},
	frame{Gen: 2},
	alive{},
}

func TestWire(t *testing.T) {
	t.Parallel()
	for _, m := range messages {
		got, err := decode(encode(m))
		if err != nil {
			t.Errorf("%T: %v", m, err)
		}
		if d := cmp.Diff(m, got); d != "" {
			t.Errorf("%T: %s", m, d)
		}
		// Neither one byte less nor one more is a message of the type.
		b := encode(m)
		for _, bad := range [][]byte{b[:len(b)-1], append(bytes.Clone(b), 0xff)} {
			if m, err := decode(bad); !errors.Is(err, ErrMessage) {
				t.Errorf("%x: got %v, %v", bad, m, err)
			}
		}
	}
	for _, m := range []any{key.Event{Name: key.Name(make([]byte, 33))}, platform.Text{Text: string(make([]byte, platform.MaxText+1))}, "no message"} {
		if b := encode(m); b != nil {
			t.Errorf("%T was encoded", m)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range messages {
		f.Add(encode(m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		if !bytes.Equal(encode(m), b) {
			t.Errorf("%x decodes to %#v, which encodes to %x", b, m, encode(m))
		}
	})
}
