//go:build window

package main

import (
	"image"

	"ktradv/kiosk/config"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/window"
)

func openWindow(d config.Display) (platform.Platform, error) {
	return window.Open(window.Config{Title: "KTR-AdV", Size: image.Pt(d.Width, d.Height)})
}
