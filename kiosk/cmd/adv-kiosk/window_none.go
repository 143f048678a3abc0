//go:build !window

package main

import (
	"errors"

	"ktradv/internal/terminal"
	"ktradv/kiosk/platform"
)

// openWindow of a build without desktop window.
func openWindow(terminal.Display) (platform.Platform, error) {
	return nil, errors.New("this build has no desktop window: build with -tags window, or use display.platform memory or drm")
}
