//go:build linux

package boot

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"ktradv/internal/initctl"
)

// What is remembered about the slot over a power cut: free only where that is certain.
func TestSlotIsRemembered(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	s := Setup{k, k.root}
	name := filepath.Join(k.root, slotFile)
	if got, err := s.readSlot(); got != initctl.SlotUnknown || err == nil {
		t.Errorf("where nothing can be written: %q, %v; want unknown", got, err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := s.readSlot(); got != initctl.SlotEmpty || err != nil {
		t.Errorf("a new data partition: %q, %v; want empty", got, err)
	}
	for _, taken := range []bool{false, true, true, false, true} {
		if err := s.writeSlot(taken); err != nil {
			t.Fatal(err)
		}
		want := initctl.SlotEmpty
		if taken {
			want = initctl.SlotCard
		}
		if got, err := s.readSlot(); got != want || err != nil {
			t.Errorf("after writeSlot(%v): %q, %v", taken, got, err)
		}
	}
	for _, text := range []string{"", "1", "\x00", "empty"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, _ := s.readSlot(); got != initctl.SlotCard {
			t.Errorf("%q: %q; want the careful way", text, got)
		}
	}
	// A link leads nowhere.
	other := filepath.Join(k.root, "other")
	if err := os.WriteFile(other, []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, name); err != nil {
		t.Fatal(err)
	}
	if got, err := s.readSlot(); got != initctl.SlotCard || err == nil {
		t.Errorf("a link: %q, %v; want the careful way", got, err)
	}
	if err := s.writeSlot(true); err == nil {
		t.Error("wrote through a link")
	}
	if b, _ := os.ReadFile(other); string(b) != "0\n" {
		t.Errorf("the file behind a link holds %q", b)
	}
}

// The begin of a visit and the empty slot after it are written, once each; a kiosk that ends in a visit leaves its card in.
func TestSlotIsKept(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	synctest.Test(t, func(t *testing.T) {
		m := machineOn(t, k)
		name := filepath.Join(k.root, slotFile)
		slot, err := m.setup.readSlot()
		if err != nil {
			t.Fatal(err)
		}
		m.store.Update(func(s *initctl.State) { s.Data, s.Slot = initctl.DataOK, slot })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); m.keepSlot(ctx, slot) }()
		for _, step := range []struct {
			what   string
			do     func()
			writes bool
			want   initctl.Slot
		}{
			{"nothing", func() {}, false, initctl.SlotEmpty},
			{"seen empty again", func() { m.SetSlot(initctl.SlotEmpty) }, false, initctl.SlotEmpty},
			{"another state", func() { m.store.Update(func(s *initctl.State) { s.USBRefused++ }) }, false, initctl.SlotEmpty},
			{"kiosk ends beside a visit", m.visitOver, false, initctl.SlotEmpty},
			{"visit", func() { m.SetSlot(initctl.SlotVisit) }, true, initctl.SlotCard},
			{"kiosk ends in a visit", m.visitOver, false, initctl.SlotCard},
			{"seen empty", func() { m.SetSlot(initctl.SlotEmpty) }, true, initctl.SlotEmpty},
			{"visit again", func() { m.SetSlot(initctl.SlotVisit) }, true, initctl.SlotCard},
			{"card stays", func() { m.SetSlot(initctl.SlotCard) }, false, initctl.SlotCard},
		} {
			if err := os.Remove(name); err != nil && !os.IsNotExist(err) { // so that a write shows
				t.Fatal(err)
			}
			step.do()
			synctest.Wait()
			_, err := os.Stat(name)
			if wrote := err == nil; wrote != step.writes {
				t.Errorf("%s: written %v; want %v", step.what, wrote, step.writes)
			}
			if step.writes {
				if got, err := m.setup.readSlot(); got != step.want || err != nil {
					t.Errorf("%s: remembered %q, %v; want %q", step.what, got, err, step.want)
				}
			}
		}
		if s, _ := m.store.State(); s.Slot != initctl.SlotCard {
			t.Errorf("state at the end: %q", s.Slot)
		}
		cancel()
		<-done
	})
}

// A data partition that comes when the kiosk serves already does not take back what the kiosk has told, and remembers it from
// then on.
func TestSlotIsToldBeforeTheDisk(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ told, remembered, want initctl.Slot }{
		{initctl.SlotUnknown, initctl.SlotEmpty, initctl.SlotEmpty},
		{initctl.SlotUnknown, initctl.SlotCard, initctl.SlotCard},
		{initctl.SlotVisit, initctl.SlotEmpty, initctl.SlotVisit},
		{initctl.SlotEmpty, initctl.SlotCard, initctl.SlotEmpty},
		{initctl.SlotCard, initctl.SlotEmpty, initctl.SlotCard},
	} {
		k := newKernel(t)
		synctest.Test(t, func(t *testing.T) {
			m := machineOn(t, k)
			if err := m.setup.writeSlot(c.remembered == initctl.SlotCard); err != nil {
				t.Fatal(err)
			}
			if c.told != initctl.SlotUnknown {
				m.SetSlot(c.told)
			}
			m.dataIs(initctl.DataOK, c.remembered)
			if s, _ := m.store.State(); s.Slot != c.want || s.Data != initctl.DataOK {
				t.Errorf("told %q, remembered %q: %+v; want %q", c.told, c.remembered, s, c.want)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); m.keepSlot(ctx, c.remembered) }()
			synctest.Wait()
			want := c.want
			if want == initctl.SlotVisit {
				want = initctl.SlotCard
			}
			if got, err := m.setup.readSlot(); got != want || err != nil {
				t.Errorf("told %q, remembered %q: %q is remembered now, %v; want %q", c.told, c.remembered, got, err, want)
			}
			cancel()
			<-done
		})
	}
}
