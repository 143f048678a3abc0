//go:build vm

package vm

import (
	"testing"

	"ktradv/internal/req"
	"ktradv/tests/demo/appliance"
)

// TestSlowDisk boots with a disk that takes eight seconds for every block: the terminal serves meanwhile, and says what is
// the matter. When the disk answers, what was logged before stands on it with the rest.
func TestSlowDisk(t *testing.T) {
	req.Covers(t, "AdV-A_2423")
	r := boot(t, appliance.Options{})
	disk := func(bytesPerSecond int) {
		t.Helper()
		_, err := r.Execute(r.ctx, "block_set_io_throttle", map[string]any{
			"device": "disk0", "bps": bytesPerSecond, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0,
		})
		r.must(err)
	}
	disk(512)
	r.note("the disk hardly answers")
	r.showsView("the data partition is being looked for", neutral("DATA-OPENING"))
	r.touchable()
	disk(0)
	r.note("the disk answers")
	r.showsView("all is well", neutral())
	r.visit("end")
	// The first entry was written when the partition was not there.
	r.logged(r.off(), began("DATA-OPENING"), ended("DATA-OPENING"),
		map[string]string{"component": "adv-app", "log": "flow", "name": "vsd.show", "result": "ok"})
}
