//go:build window

package main

import (
	"image"

	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/window"
)

func openWindow(size image.Point) (platform.Platform, error) {
	return window.Open(window.Config{Title: "components-demo", Size: size})
}
