// Package oplist writes the painting operations of a Gio operation list to
// bytes and reads them back, so that the very same list can be drawn on another
// machine: layout computes coordinates, and those may differ in the last bit
// from one processor to another.
//
// The format is for tests. It holds what Gio's reader returns, macros and
// deferred operations resolved: images first, then operations, each with its
// raw bytes. Operations that paint nothing are left out.
package oplist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"

	"gioui.org/internal/ops"
	"gioui.org/op"
)

// magic starts each recording; its last byte is the version of the format.
const magic = "gio-ops\x01"

// Limits of Replay.
const (
	maxImages = 1 << 10
	maxSide   = 1 << 12
	maxPixels = 1 << 22
)

// ErrFormat is wrapped by the errors of Replay.
var ErrFormat = errors.New("not a recorded operation list")

// kept tells which operations paint, with their sizes.
var kept = map[ops.OpType]int{
	ops.TypeTransform:      ops.TypeTransformLen,
	ops.TypePopTransform:   ops.TypePopTransformLen,
	ops.TypePushOpacity:    ops.TypePushOpacityLen,
	ops.TypePopOpacity:     ops.TypePopOpacityLen,
	ops.TypeImage:          ops.TypeImageLen,
	ops.TypePaint:          ops.TypePaintLen,
	ops.TypeColor:          ops.TypeColorLen,
	ops.TypeLinearGradient: ops.TypeLinearGradientLen,
	ops.TypeSave:           ops.TypeSaveLen,
	ops.TypeLoad:           ops.TypeLoadLen,
	ops.TypeClip:           ops.TypeClipLen,
	ops.TypePopClip:        ops.TypePopClipLen,
	ops.TypePath:           ops.TypePathLen,
	ops.TypeStroke:         ops.TypeStrokeLen,
	ops.TypeAux:            0, // any size
}

// Record returns the painting operations of a list.
func Record(list *op.Ops) ([]byte, error) {
	var images []*image.RGBA
	index := make(map[any]int) // by handle
	var body []byte
	var r ops.Reader
	r.Reset(&list.Internal)
	for {
		e, ok := r.Decode()
		if !ok {
			break
		}
		if len(e.Data) == 0 {
			return nil, errors.New("record operations: unknown operation")
		}
		t := ops.OpType(e.Data[0])
		if _, ok := kept[t]; !ok {
			continue
		}
		body = binary.LittleEndian.AppendUint32(body, uint32(len(e.Data)))
		body = append(body, e.Data...)
		if t == ops.TypeImage {
			src, ok := e.Refs[0].(*image.RGBA)
			if !ok {
				return nil, errors.New("record operations: image without pixels")
			}
			i, ok := index[e.Refs[1]]
			if !ok {
				i = len(images)
				index[e.Refs[1]] = i
				images = append(images, src)
			}
			body = binary.LittleEndian.AppendUint32(body, uint32(i))
		}
	}
	out := []byte(magic)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(images)))
	for _, m := range images {
		w, h := m.Rect.Dx(), m.Rect.Dy()
		out = binary.LittleEndian.AppendUint32(out, uint32(w))
		out = binary.LittleEndian.AppendUint32(out, uint32(h))
		for y := range h {
			out = append(out, m.Pix[y*m.Stride:y*m.Stride+4*w]...)
		}
	}
	return append(out, body...), nil
}

// Replay appends a recording to a list. Sizes are checked, contents are not:
// the list may hold any coordinates, and pops without pushes.
func Replay(data []byte, list *op.Ops) error { return ReplayFunc(data, list, nil) }

// ReplayFunc is Replay with a function that may exchange operations without
// references for others; nil keeps all.
func ReplayFunc(data []byte, list *op.Ops, exchange func(ops.OpType, []byte) []byte) error {
	p := parser{data: data}
	if string(p.take(len(magic))) != magic {
		return fmt.Errorf("%w: bad magic", ErrFormat)
	}
	n := int(p.uint32())
	if n > maxImages {
		return fmt.Errorf("%w: %d images", ErrFormat, n)
	}
	var images []*image.RGBA
	var handles []any
	pixels := 0
	for range n {
		w, h := int(p.uint32()), int(p.uint32())
		if w > maxSide || h > maxSide {
			return fmt.Errorf("%w: image of %d by %d", ErrFormat, w, h)
		}
		if pixels += w * h; pixels > maxPixels {
			return fmt.Errorf("%w: too many pixels", ErrFormat)
		}
		pix := p.take(4 * w * h)
		if p.short {
			break
		}
		images = append(images, &image.RGBA{Pix: append([]byte(nil), pix...), Stride: 4 * w, Rect: image.Rect(0, 0, w, h)})
		handles = append(handles, new(int))
	}
	o := &list.Internal
	for len(p.data) > 0 && !p.short {
		b := p.take(int(min(p.uint32(), 1<<30)))
		if p.short || len(b) == 0 {
			return fmt.Errorf("%w: short operation", ErrFormat)
		}
		t := ops.OpType(b[0])
		size, ok := kept[t]
		if !ok || size != 0 && size != len(b) {
			return fmt.Errorf("%w: operation %d of %d bytes", ErrFormat, t, len(b))
		}
		index := uint32(0)
		if t == ops.TypeImage {
			index = p.uint32()
			if p.short || index >= uint32(len(images)) {
				return fmt.Errorf("%w: image %d of %d", ErrFormat, index, len(images))
			}
		}
		if exchange != nil {
			b = exchange(t, b)
			t = ops.OpType(b[0])
		}
		switch t {
		case ops.TypeAux:
			m := op.Record(list)
			ops.BeginMulti(o)
			copy(ops.WriteMulti(o, len(b)), b)
			ops.EndMulti(o)
			m.Stop().Add(list)
		case ops.TypeImage:
			copy(ops.Write2(o, len(b), images[index], handles[index]), b)
		default:
			copy(ops.Write(o, len(b)), b)
		}
	}
	if p.short {
		return fmt.Errorf("%w: cut off", ErrFormat)
	}
	return nil
}

// parser reads fields; after the end it returns zeros and sets short.
type parser struct {
	data  []byte
	short bool
}

func (p *parser) take(n int) []byte {
	if n < 0 || n > len(p.data) {
		p.short = true
		p.data = nil
		return nil
	}
	b := p.data[:n]
	p.data = p.data[n:]
	return b
}

func (p *parser) uint32() uint32 {
	b := p.take(4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}
