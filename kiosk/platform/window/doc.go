//go:build !window

// Package window shows the kiosk in a desktop window. It is empty without the
// build tag window, which needs cgo and the libraries of X11 and Wayland.
package window
