//go:build window

package main

import (
	"image"

	"ktradv/internal/terminal"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/window"
)

func openWindow(d terminal.Display) (platform.Platform, error) {
	return window.Open(window.Config{Title: "KTR-AdV", Size: image.Pt(d.Width, d.Height), DiagonalMM: d.DiagonalMM})
}
