package main

import (
	"fmt"
	"image"
	"math"

	"gioui.org/unit"

	"ktradv/kiosk/config"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/memory"
)

// openDisplay opens the display that the configuration names.
func openDisplay(d config.Display) (platform.Platform, error) {
	switch d.Platform {
	case "memory":
		return memory.New(memory.Config{Size: image.Pt(d.Width, d.Height), Metric: metric(d)})
	case "drm":
		return openDRM(d)
	case "window":
		return openWindow(d)
	}
	return nil, fmt.Errorf("no display %q", d.Platform)
}

// metric gives the panel's pixels per dp from its real size.
func metric(d config.Display) unit.Metric {
	diagonal := math.Hypot(float64(d.Width), float64(d.Height))
	return platform.MetricFor(d.Width, int(float64(d.DiagonalMM)*float64(d.Width)/diagonal))
}
