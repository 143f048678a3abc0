//go:build vm

package vm

import (
	"testing"

	"ktradv/internal/req"
	"ktradv/qemu/ccid"
	"ktradv/tests/demo/appliance"
)

// TestLogLevel: how fine the error log is stands in the configuration (AdV-A_2439). The same fault, a terminal without a
// reader, is in the log of a terminal as delivered and not in that of one that keeps only what is fatal. The latter is in
// test operation, and so it alone keeps a debug log (AdV-A_2433).
func TestLogLevel(t *testing.T) {
	req.Covers(t, "AdV-A_2433", "AdV-A_2439")
	coarse, err := world.Build(t.Context(), "level", func(_ map[string][]byte, c map[string]any) {
		c["log"] = map[string]any{"enabled": true, "level": "fatal", "test": true}
	})
	if err != nil {
		t.Fatal(err)
	}
	debug := map[string]string{"component": "adv-app", "log": "debug", "name": "screen", "severity": "Debug", "values": "map[shown:out_of_order]"}
	gone := map[string]string{"component": "adv-app", "log": "error", "text": "READER-GONE"}
	for _, c := range []struct {
		name string
		o    appliance.Options
		want bool
	}{
		{"as delivered", appliance.Options{Readers: []ccid.Config{}}, true},
		{"only what is fatal", appliance.Options{Readers: []ccid.Config{}, Image: &coarse}, false},
	} {
		r := boot(t, c.o)
		r.shows("out_of_order")
		n := r.off()
		if got := n.has(gone); got != c.want {
			t.Errorf("%s: the fault is in the log: %v", c.name, got)
		}
		if got := n.has(debug); got == c.want {
			t.Errorf("%s: there is a debug log: %v", c.name, got)
		}
		if len(n.files) == 0 {
			t.Errorf("%s: no logs at all", c.name)
		}
	}
}
