//go:build vm

package vm

import (
	"strings"
	"testing"

	"ktradv/tests/demo/appliance"
)

// TestVisit is the visit of an insured person from power on to power off.
func TestVisit(t *testing.T) {
	r := boot(t, appliance.Options{})
	r.shows("neutral")
	r.touchable()
	r.visit("end")
	n := r.off()
	t.Log(n.codes())
	for f := range n.files {
		t.Log(f)
	}
	for _, e := range n.entries {
		t.Log(e)
	}
	if len(n.entries) == 0 || strings.Contains(string(n.raw), "Süßmilch") {
		t.Error("logs")
	}
}
