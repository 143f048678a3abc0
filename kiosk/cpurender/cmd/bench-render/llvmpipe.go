//go:build oracle

package main

import (
	"image"
	"log"
	"os"
	"slices"
	"time"

	"gioui.org/cpurender/internal/pages"
	"gioui.org/gpu/headless"
	"gioui.org/op"
)

// llvmpipe draws the dense page with Gio's own renderer and reads the picture
// back, as a program without a window system has to.
func llvmpipe(n int) []time.Duration {
	if os.Getenv("EGL_PLATFORM") == "" {
		os.Setenv("EGL_PLATFORM", "surfaceless")
		os.Setenv("LIBGL_ALWAYS_SOFTWARE", "1")
	}
	win, err := headless.NewWindow(fullHD.X, fullHD.Y)
	if err != nil {
		log.Printf("no comparison: %v", err)
		return nil
	}
	defer win.Release()
	set := pages.New()
	img := image.NewRGBA(image.Rectangle{Max: fullHD})
	var list op.Ops
	var times []time.Duration
	for i := range n + 5 {
		set.Build("dense", &list, fullHD, pages.State{})
		start := time.Now()
		if err := win.Frame(&list); err != nil {
			log.Printf("no comparison: %v", err)
			return nil
		}
		if err := win.Screenshot(img); err != nil {
			log.Printf("no comparison: %v", err)
			return nil
		}
		if i >= 5 {
			times = append(times, time.Since(start))
		}
	}
	slices.Sort(times)
	return times
}
