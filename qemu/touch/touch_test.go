package touch

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ktradv/qemu/usbredir"
)

func TestScreen(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	p, err := usbredir.Listen(filepath.Join(t.TempDir(), "port"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s := New(Config{})
	if err := s.Tap(Point{}); !errors.Is(err, ErrNotAsked) {
		t.Errorf("touch without a machine: %v", err)
	}
	p.Attach(s)
	h, err := usbredir.Dial(p.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := errors.Join(h.WaitDevice(ctx, true), h.Configure(ctx)); err != nil {
		t.Fatal(err)
	}
	control := func(kind, request byte, value, length uint16, data []byte) ([]byte, usbredir.Status) {
		t.Helper()
		b, status, err := h.Control(ctx, usbredir.Setup{RequestType: kind, Request: request, Value: value, Length: length}, data)
		if err != nil {
			t.Fatal(err)
		}
		return b, status
	}
	if b, _ := control(0x81, 6, 0x2200, 4096, nil); string(b) != string(descriptor) {
		t.Errorf("report descriptor %x", b)
	}
	if b, _ := control(0x81, 6, 0x2100, 9, nil); len(b) != 9 || int(b[7]) != len(descriptor)&0xFF {
		t.Errorf("HID descriptor %x", b)
	}
	if b, _ := control(0xA1, 1, 0x0302, 2, nil); string(b) != "\x02\x02" {
		t.Errorf("number of fingers %x", b)
	}
	if _, status := control(0x21, 0x0A, 0x0500, 0, nil); status != usbredir.StatusOK {
		t.Errorf("set idle: %d", status)
	}
	if b, _ := control(0xA1, 2, 0, 1, nil); string(b) != "\x05" {
		t.Errorf("idle %x", b)
	}
	if _, status := control(0x21, 0x0B, 0, 0, nil); status != usbredir.StatusStall {
		t.Errorf("set protocol: %d", status)
	}
	if _, err := h.Poll(ctx, epInterrupt, true); err != nil {
		t.Fatal(err)
	}
	<-s.Asked()
	want := func(what, report string) {
		t.Helper()
		b, err := h.Interrupt(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]byte(report), b); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	if err := s.Tap(Point{0.5, 1}); err != nil {
		t.Fatal(err)
	}
	want("finger down", "\x01\x03\x00\x00\x40\xFF\x7F\x00\x00\x00\x00\x00\x00\x01")
	want("finger up", "\x01\x00\x00\x00\x40\xFF\x7F\x00\x00\x00\x00\x00\x00\x01")
	for _, f := range [][]*Point{{{0, 0}, {1, 0}}, {nil, {2, -1}}, {}} {
		if err := s.Set(f...); err != nil {
			t.Fatal(err)
		}
	}
	want("two fingers", "\x01\x03\x01\x00\x00\x00\x00\x03\x02\xFF\x7F\x00\x00\x02")
	want("one left", "\x01\x00\x01\x00\x00\x00\x00\x03\x02\xFF\x7F\x00\x00\x02")
	want("none", "\x01\x00\x01\x00\x00\x00\x00\x00\x02\xFF\x7F\x00\x00\x01")
	if s.Set(nil, nil, nil) == nil {
		t.Error("three fingers")
	}
	p.Detach()
	if err := h.WaitDevice(ctx, false); err != nil {
		t.Fatal(err)
	}
	if err := s.Set(); !errors.Is(err, ErrNotAsked) {
		t.Errorf("touch of a screen that is unplugged: %v", err)
	}
}
