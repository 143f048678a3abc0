package disk

import (
	"encoding/binary"
	"os"
	"testing"

	"ktradv/image/init/data"
	"ktradv/internal/advlog"
	"ktradv/internal/terminal"
)

// The partitions lie one behind the other at multiples of a megabyte, the slots are big enough for FAT32 and what the
// builder allows for an image, and everything has an id of its own.
func TestLayout(t *testing.T) {
	t.Parallel()
	end := int64(mib)
	ids := map[string]bool{diskGUID: true}
	for _, p := range []Partition{SlotA, SlotB, Data} {
		if Start(p) != end || p.Size%mib != 0 {
			t.Errorf("%s begins at %d with %d bytes; want it at %d", p.Name, Start(p), p.Size, end)
		}
		end += p.Size
		for _, id := range []string{p.GUID, p.volume, p.Name} {
			if ids[id] {
				t.Errorf("%s: %s is there already", p.Name, id)
			}
			ids[id] = true
		}
		// FAT32 has at least 65525 clusters, here of 1 KiB.
		if p.kind == kindESP && (p.Size < 65525*1024+mib || p.Size < 24e6) {
			t.Errorf("%s has %d bytes", p.Name, p.Size)
		}
	}
}

// A terminal that is well never fills its data partition: all logs as large as they may be, in as many files as they may
// have, leave the largest reserve that a configuration may ask for.
func TestLogsFit(t *testing.T) {
	t.Parallel()
	tools := &tool{ctx: t.Context(), dir: t.TempDir(), env: []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}}
	name, err := tools.data()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := data.CheckSuperblock(f); err != nil {
		t.Fatal(err)
	}
	super := make([]byte, 1024)
	if _, err := f.ReadAt(super, 1024); err != nil {
		t.Fatal(err)
	}
	number := func(at int) int64 { return int64(binary.LittleEndian.Uint32(super[at:])) }
	const block, streams = 4096, 5
	free, freeInodes := number(0x0C)*block, number(0x10)
	components := []advlog.Component{advlog.App, advlog.Supervisor, advlog.Init}
	var bytes int64
	for _, c := range components {
		if b := (terminal.Log{}).Bytes(c); b < advlog.MinMaxBytes {
			t.Errorf("%s may write %d bytes", c, b)
		} else {
			bytes += b
		}
	}
	// A file is rotated once a day at the latest, and its last block is half empty at the worst.
	files := int64(len(components)) * streams * (int64(advlog.DefaultRetention/advlog.DefaultMaxAge) + 4)
	const folders = 1 << 20
	if need := bytes + files*block + folders + terminal.MaxFreeMiB<<20; need > free {
		t.Errorf("logs and reserve need %d bytes, of %d only %d are free", need, Data.Size, free)
	}
	if files+100 > freeInodes {
		t.Errorf("logs need %d files, and there is room for %d", files, freeInodes)
	}
}
