package oplist

import (
	"bytes"
	"errors"
	"image"
	"testing"

	"gioui.org/cpurender/internal/pages"
	"gioui.org/op"
)

func record(t testing.TB, page string) []byte {
	t.Helper()
	var list op.Ops
	pages.New().Build(page, &list, image.Pt(640, 480), pages.State{})
	data, err := Record(&list)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, page := range pages.Names() {
		data := record(t, page)
		var list op.Ops
		if err := Replay(data, &list); err != nil {
			t.Fatalf("%s: %v", page, err)
		}
		again, err := Record(&list)
		if err != nil {
			t.Fatalf("%s: %v", page, err)
		}
		if !bytes.Equal(data, again) {
			t.Errorf("%s: recording differs after a round trip", page)
		}
	}
}

func TestReplayRefuses(t *testing.T) {
	t.Parallel()
	data := record(t, "kiosk")
	u32 := func(v byte) []byte { return []byte{v, 0, 0, 0} }
	tests := map[string][]byte{
		"empty":           nil,
		"other magic":     append([]byte("gio-ops\x02"), data[8:]...),
		"cut off":         data[:len(data)-1],
		"many images":     append([]byte(magic), 0xff, 0xff, 0xff, 0x7f),
		"huge image":      append([]byte(magic), 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0),
		"unknown type":    append(append(append([]byte(magic), u32(0)...), u32(1)...), 7),
		"wrong size":      append(append(append([]byte(magic), u32(0)...), u32(2)...), 208, 0),
		"image not there": append(append(append(append([]byte(magic), u32(0)...), u32(2)...), 207, 0), u32(0)...),
		"empty operation": append(append([]byte(magic), u32(0)...), u32(0)...),
	}
	for name, data := range tests {
		if err := Replay(data, new(op.Ops)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func FuzzReplay(f *testing.F) {
	f.Add(record(f, "odd"))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		var list op.Ops
		if err := Replay(data, &list); err != nil && !errors.Is(err, ErrFormat) {
			t.Fatal(err)
		}
	})
}
