package main

import (
	"testing"

	"ktradv/internal/terminal"
)

// On the appliance a fault is shown on the terminal's own display, whatever the configuration says about it: that may be
// what is wrong.
func TestFaultDisplay(t *testing.T) {
	t.Parallel()
	for _, platform := range []string{"drm", "window", "memory"} {
		d := terminal.Display{Platform: platform, Width: 640, Rotation: 90}
		if got := faultDisplay(d, false); got != d {
			t.Errorf("%s on a desk: %+v", platform, got)
		}
		d.Platform = "drm"
		if got := faultDisplay(terminal.Display{Platform: platform, Width: 640, Rotation: 90}, true); got != d {
			t.Errorf("%s on the appliance: %+v; want %+v", platform, got, d)
		}
	}
}
