package disk

import "testing"

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
