//go:build linux

package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"ktradv/internal/initctl"
)

// slotFile remembers over a power cut whether the card of somebody's visit may be in the reader's slot: the first octet is
// slotFree or slotTaken. It is overwritten in place, which needs no room on a disk that is full.
const (
	slotFile  = "/data/init/slot"
	slotFree  = '0'
	slotTaken = '1'
)

// SetSlot implements initctl.Handler.
func (m *Machine) SetSlot(slot initctl.Slot) {
	m.store.Update(func(s *initctl.State) { s.Slot = slot })
}

// dataIs notes what holds /data and what is remembered there. What the kiosk has told about the slot meanwhile, which serves
// already when the disk is slow, is newer.
func (m *Machine) dataIs(data initctl.Data, slot initctl.Slot) {
	m.store.Update(func(s *initctl.State) {
		s.Data, s.Reboots = data, m.setup.readReboots()
		if s.Slot == initctl.SlotUnknown {
			s.Slot = slot
		}
	})
}

// visitOver notes that the kiosk, and with it a visit, has ended without a word about the slot.
func (m *Machine) visitOver() {
	m.store.Update(func(s *initctl.State) {
		if s.Slot == initctl.SlotVisit {
			s.Slot = initctl.SlotCard
		}
	})
}

// keepSlot writes down what the kiosk tells about the slot until ctx ends. It writes at the begin of a visit and when the slot
// has been seen empty after it, and at no other time.
func (m *Machine) keepSlot(ctx context.Context, was initctl.Slot) {
	taken := was != initctl.SlotEmpty
	for {
		s, changed := m.store.State()
		if now := s.Slot != initctl.SlotEmpty; now != taken {
			err := m.setup.writeSlot(now)
			m.journal.problem(stepData, err)
			if err == nil {
				taken = now
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// readSlot is what is remembered. A data partition that remembers nothing has not seen a visit yet, if it can remember one;
// whatever else stands there is no proof that the slot is free.
func (s Setup) readSlot() (initctl.Slot, error) {
	f, err := os.OpenFile(s.path(slotFile), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.writeSlot(false); err != nil {
			return initctl.SlotUnknown, err
		}
		return initctl.SlotEmpty, nil
	}
	if err != nil {
		return initctl.SlotCard, fmt.Errorf("what was in the slot: %w", err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if n, err := f.Read(b); err != nil || n != 1 || b[0] != slotFree {
		return initctl.SlotCard, err
	}
	return initctl.SlotEmpty, nil
}

// doubtSlot marks a data partition that is not used for as long as the machine runs: nobody writes down there what happens in
// the slot meanwhile, so that what it remembers from before is no proof at the next start.
func (m *Machine) doubtSlot() {
	m.journal.problem(stepData, errors.Join(m.setup.folders(dataFolders), m.setup.writeSlot(true)))
}

// writeSlot remembers over the power cut that may follow.
func (s Setup) writeSlot(taken bool) error {
	b := []byte{slotFree, '\n'}
	if taken {
		b[0] = slotTaken
	}
	f, err := os.OpenFile(s.path(slotFile), os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return fmt.Errorf("remember the slot: %w", err)
	}
	_, err = f.WriteAt(b, 0)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("remember the slot: %w", err)
	}
	return nil
}
