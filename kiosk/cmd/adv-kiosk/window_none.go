//go:build !window

package main

import (
	"context"
	"errors"

	"ktradv/kiosk/config"
	"ktradv/kiosk/platform"
)

// openWindow of a build without desktop window.
func openWindow(config.Display) (platform.Platform, error) {
	return nil, errors.New("this build has no desktop window: build with -tags window, or use display.platform memory or drm")
}

// runMain runs the program; without a desktop window nothing needs the main thread.
func runMain(_ context.Context, _ platform.Platform, run func() error) error { return run() }
