package main

import (
	"cmp"
	"fmt"
	"image"
	"os"

	"ktradv/internal/terminal"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/drm"
	"ktradv/kiosk/platform/drm/evdev"
	"ktradv/kiosk/platform/memory"
)

// openDisplay opens the display that the configuration names.
func openDisplay(cfg terminal.Config) (platform.Platform, error) {
	d := cfg.Display
	size := image.Pt(d.Width, d.Height)
	switch d.Platform {
	case "memory":
		return memory.New(memory.Config{Size: size, Metric: platform.MetricForDiagonal(size, cmp.Or(d.DiagonalMM, platform.DefaultDiagonalMM))})
	case "drm":
		return drm.Open(drm.Config{
			Output: d.Output, Rotation: platform.Rotation(d.Rotation), Fallback: size, DiagonalMM: d.DiagonalMM, Calibration: calibration(cfg.Touch),
			Failed: func(err error) { fmt.Fprintln(os.Stderr, "adv-kiosk: display:", err) },
		})
	case "window":
		return openWindow(d)
	}
	return nil, fmt.Errorf("no display %q", d.Platform)
}

// calibration is the touch screen's matrix; the zero value leaves positions alone.
func calibration(t terminal.Touch) (m evdev.Matrix) {
	if t.Calibration != nil {
		for i, v := range t.Calibration {
			m[i] = float32(v)
		}
	}
	return m
}
