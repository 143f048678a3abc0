package main

import (
	"fmt"
	"image"
	"math"
	"os"

	"gioui.org/unit"

	"ktradv/internal/terminal"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/drm"
	"ktradv/kiosk/platform/memory"
)

// openDisplay opens the display that the configuration names.
func openDisplay(cfg terminal.Config) (platform.Platform, error) {
	d := cfg.Display
	switch d.Platform {
	case "memory":
		return memory.New(memory.Config{Size: image.Pt(d.Width, d.Height), Metric: metric(d)})
	case "drm":
		return drm.Open(drm.Config{
			Output: d.Output, Rotation: platform.Rotation(d.Rotation), Fallback: image.Pt(d.Width, d.Height),
			Failed: func(err error) { fmt.Fprintln(os.Stderr, "adv-kiosk: display:", err) },
		})
	case "window":
		return openWindow(d)
	}
	return nil, fmt.Errorf("no display %q", d.Platform)
}

// metric gives the panel's pixels per dp from its real size.
func metric(d terminal.Display) unit.Metric {
	diagonal := math.Hypot(float64(d.Width), float64(d.Height))
	return platform.MetricFor(d.Width, int(float64(d.DiagonalMM)*float64(d.Width)/diagonal))
}
