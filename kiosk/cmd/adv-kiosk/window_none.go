//go:build !window

package main

import (
	"errors"

	"ktradv/kiosk/config"
	"ktradv/kiosk/platform"
)

// openWindow of a build without desktop window.
func openWindow(config.Display) (platform.Platform, error) {
	return nil, errors.New("this build has no desktop window: build with -tags window, or use display.platform memory or drm")
}
