//go:build linux

package boot

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"ktradv/image/init/data"
	"ktradv/image/init/users"
	"ktradv/internal/initctl"
)

// A disk that does not answer keeps nobody waiting: memory takes its place, and what the kernel mounts at last is taken away.
// What it remembers of the slot is no proof at the next start, when nobody has written down there what happened in this one.
func TestDiskThatHangs(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	synctest.Test(t, func(t *testing.T) {
		m := machineOn(t, k)
		if slot, err := m.setup.readSlot(); slot != initctl.SlotEmpty || err != nil {
			t.Fatalf("slot %q, %v", slot, err)
		}
		if st, early, err := m.mountData(func() (initctl.Data, error) { time.Sleep(time.Second); return initctl.DataFull, nil }); st != initctl.DataFull || early || err != nil {
			t.Errorf("a disk that answers: %v, early %v, %v", st, early, err)
		}
		if len(k.mounts) != 0 {
			t.Errorf("mounted %v beside it", k.mounts)
		}
		start, answer := time.Now(), make(chan struct{})
		st, early, err := m.mountData(func() (initctl.Data, error) { <-answer; return initctl.DataOK, nil })
		if d := time.Since(start); st != initctl.DataDamaged || !early || err == nil || d != dataIn {
			t.Errorf("a disk that hangs: %v, early %v, %v after %v", st, early, err, d)
		}
		if _, ok := k.mounts["/data"]; !ok || k.unmounts != 0 {
			t.Errorf("mounts %v, %d taken away; want memory at /data", k.mounts, k.unmounts)
		}
		if slot, err := m.setup.readSlot(); slot != initctl.SlotEmpty || err != nil {
			t.Errorf("before it answers: slot %q, %v", slot, err)
		}
		close(answer)
		synctest.Wait()
		if slot, err := m.setup.readSlot(); slot != initctl.SlotCard || err != nil {
			t.Errorf("a partition that was not used remembers %q, %v; want that a card may be in", slot, err)
		}
		if k.unmounts != 1 {
			t.Errorf("%d mounts taken away; want the late one", k.unmounts)
		}
	})
}

// A disk that is slow gets its time, and the kiosk a place of its own for what it logs meanwhile.
func TestDiskThatIsSlow(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(Setup{k, k.root})
		st, early, err := m.mountData(func() (initctl.Data, error) {
			time.Sleep(dataSoon - time.Millisecond)
			k.mu.Lock()
			if len(k.mounts) > 0 {
				t.Errorf("mounted %v too early", k.mounts)
			}
			k.mu.Unlock()
			time.Sleep(2 * time.Second)
			k.mu.Lock()
			defer k.mu.Unlock()
			if k.mounts[kioskLogs] != data.Flags || k.owners[kioskLogs] != [2]int{int(users.Kiosk), int(users.Kiosk)} {
				t.Errorf("mounts %v, owners %v; want memory for the kiosk", k.mounts, k.owners)
			}
			if k.mounts[earlyLogs] != unix.MS_BIND {
				t.Errorf("mounts %v; want the memory at %s, too", k.mounts, earlyLogs)
			}
			return initctl.DataOK, nil
		})
		if st != initctl.DataOK || !early || err != nil {
			t.Errorf("%v, early %v, %v", st, early, err)
		}
		if _, ok := k.mounts["/data"]; ok || k.unmounts != 0 {
			t.Errorf("mounts %v, %d taken away; want nothing in place of the partition", k.mounts, k.unmounts)
		}
	})
}

// What hangs holds the end of the machine up for so long and no longer; what does not, not at all.
func TestWithin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start, free := time.Now(), make(chan struct{})
		within(time.Minute, func() { time.Sleep(time.Second) })
		if d := time.Since(start); d != time.Second {
			t.Errorf("waited %v for something that takes 1 s", d)
		}
		start = time.Now()
		within(time.Minute, func() { <-free })
		if d := time.Since(start); d != time.Minute {
			t.Errorf("waited %v for something that hangs; want 1 min", d)
		}
		close(free)
	})
}
