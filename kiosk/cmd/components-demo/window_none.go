//go:build !window

package main

import (
	"errors"
	"image"

	"ktradv/kiosk/platform"
)

func openWindow(image.Point) (platform.Platform, error) {
	return nil, errors.New("built without the tag window")
}
