//go:build vm

package vm

import (
	"testing"

	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/req"
	"ktradv/qemu/ccid"
	"ktradv/tests/demo/appliance"
)

// TestSeveralReaders switches a terminal on that has two readers and a configuration that names none: it cannot know which
// one is meant, is out of order, and says what to do. One of them pulled out, it serves with the other; plugged in again
// during a visit, it disturbs nobody, and the terminal is out of order afterwards. (A second reader that comes while nobody is
// there: TestReaders; a configuration that names one of two: TestHardware.)
func TestSeveralReaders(t *testing.T) {
	req.Covers(t, "AdV-A_2405", "AdV-A_2423")
	one, two := simreader.New(simreader.Config{}), simreader.New(simreader.Config{})
	r := boot(t, appliance.Options{Readers: []ccid.Config{{Reader: one}, {Reader: two}}})
	r.showsView("two readers at power on", outOfOrder("READER-SEVERAL"))
	two.Unplug()
	r.note("unplugged: the second reader")
	r.showsView("one reader left", neutral())
	r.touchable()
	r.visit("data")
	two.Plug()
	r.note("plugged in: the second reader")
	r.tap("data", end)
	r.shows("take_card")
	r.remove()
	r.showsView("two readers after a visit", outOfOrder("READER-SEVERAL"))
	n := r.off()
	r.logged(n, began("READER-SEVERAL"), ended("READER-SEVERAL"), map[string]string{"component": "adv-app", "log": "flow", "name": "vsd.show", "result": "ok"})
}
