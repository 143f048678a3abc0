// Package platform is the seam between the kiosk's drawing loop and whatever
// shows its pictures and brings its input: a DRM output with evdev devices on
// the terminal, memory in tests and in the control panel, a desktop window, or
// the supervisor process at the other end of a socket.
//
// The package holds the interface, the events that Gio has no type for, and
// the little geometry that all implementations share. Pointer and key events
// are Gio's own types, so nothing is translated twice.
package platform

import (
	"errors"
	"image"
	"math"

	"gioui.org/f32"
	"gioui.org/io/event"
	"gioui.org/unit"
)

// Limits that hold for every platform. They bound what a broken driver, a
// hostile peer or a wrong configuration can make the kiosk allocate.
const (
	// MaxSide is the largest width or height of a picture in pixels.
	MaxSide = 8192
	// MaxPixels is the largest number of pixels of a picture (8K UHD).
	MaxPixels = 7680 * 4320
	// MaxDamage is the largest number of damage rectangles a platform keeps
	// apart; more are united to their bounding box.
	MaxDamage = 64
	// MaxText is the largest number of bytes of one Text event.
	MaxText = 1024
)

var (
	// ErrClosed is returned by Show after Close, or when the display is gone
	// for good.
	ErrClosed = errors.New("platform: closed")
	// ErrSize is returned by Show for a frame whose size is not that of the
	// display; a Resized event is on its way.
	ErrSize = errors.New("platform: frame does not have the size of the display")
)

// Frame is one picture for a display.
type Frame struct {
	// Img holds the whole picture, opaque, with its origin at (0,0). It
	// belongs to the caller again when Show returns.
	Img *image.RGBA
	// Damage lists what differs from the last frame that Show accepted, in
	// pixels of Img. Empty means that nothing differs.
	Damage []image.Rectangle
}

// Full returns a frame that replaces the whole picture.
func Full(img *image.RGBA) Frame {
	return Frame{Img: img, Damage: []image.Rectangle{img.Rect}}
}

// Platform shows frames and brings input. Show is called by one goroutine;
// the other methods may be called by any.
type Platform interface {
	// Size is the size of the picture in pixels as the person sees it, after
	// rotation. It is never empty: a platform without a display keeps the
	// last (or the configured) size and drops the frames.
	Size() image.Point
	// Metric says how many pixels a dp and an sp have.
	Metric() unit.Metric
	// Show brings a frame onto the display. It returns when the frame's
	// memory may be changed again, at the latest one display period after
	// the frame before it became visible.
	Show(Frame) error
	// Events delivers pointer.Event, key.Event and the types of this package
	// in the order in which they happened. It is closed by Close.
	Events() <-chan event.Event
	// Close gives the display and the devices back.
	Close() error
}

// Blanker is implemented by platforms that can switch the display off (DPMS)
// and on again. Switching on brings a Redraw event.
type Blanker interface {
	Blank(off bool) error
}

// Forgetter is implemented by platforms that keep pixels of frames that are no longer seen, in a second buffer for
// example.
type Forgetter interface {
	// Forget overwrites every pixel that the platform holds of earlier frames with those of img, which is the picture that
	// Show accepted last.
	Forget(img *image.RGBA) error
}

// Text is text that was typed, after keyboard layout and dead keys.
type Text struct{ Text string }

// Resized says that Size or Metric changed; the next frame must be a full one.
type Resized struct{}

// Redraw says that the display lost its content (it was plugged in again,
// switched on, or another program had it); the next frame must be a full one.
type Redraw struct{}

// Ping asks the drawing loop for a sign of life: it turns once and does nothing else.
type Ping struct{}

// Closed says that the platform ended by itself: the window was closed, the
// supervisor is gone. Err is nil for an orderly end.
type Closed struct{ Err error }

// ImplementsEvent makes Text an event.Event.
func (Text) ImplementsEvent() {}

// ImplementsEvent makes Resized an event.Event.
func (Resized) ImplementsEvent() {}

// ImplementsEvent makes Redraw an event.Event.
func (Redraw) ImplementsEvent() {}

// ImplementsEvent makes Ping an event.Event.
func (Ping) ImplementsEvent() {}

// ImplementsEvent makes Closed an event.Event.
func (Closed) ImplementsEvent() {}

// ValidSize reports whether a picture of this size is neither empty nor
// beyond the limits.
func ValidSize(s image.Point) bool {
	return s.X > 0 && s.Y > 0 && s.X <= MaxSide && s.Y <= MaxSide && s.X*s.Y <= MaxPixels
}

// ClipDamage cuts rectangles to bounds, drops the empty ones and unites them
// when there are more than MaxDamage. It appends to dst and returns it.
func ClipDamage(dst, damage []image.Rectangle, bounds image.Rectangle) []image.Rectangle {
	n := len(dst)
	for i, r := range damage {
		r = r.Intersect(bounds)
		if r.Empty() {
			continue
		}
		if len(dst)-n == MaxDamage {
			u := r
			for _, o := range dst[n:] {
				u = u.Union(o)
			}
			for _, o := range damage[i+1:] {
				u = u.Union(o.Intersect(bounds))
			}
			return append(dst[:n], u)
		}
		dst = append(dst, r)
	}
	return dst
}

// CopyRect copies the pixels of r from src to dst; both have the same origin
// and contain r.
func CopyRect(dst, src *image.RGBA, r image.Rectangle) {
	r = r.Intersect(src.Rect).Intersect(dst.Rect)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		d := dst.PixOffset(r.Min.X, y)
		s := src.PixOffset(r.Min.X, y)
		copy(dst.Pix[d:d+4*r.Dx()], src.Pix[s:s+4*r.Dx()])
	}
}

// ClampPoint brings a coordinate from outside into the picture: non-finite
// and gigantic values end up on its border.
func ClampPoint(p f32.Point, size image.Point) f32.Point {
	return f32.Pt(clamp(p.X, size.X), clamp(p.Y, size.Y))
}

func clamp(v float32, n int) float32 {
	switch {
	case math.IsNaN(float64(v)), v < 0:
		return 0
	case v > float32(n):
		return float32(n)
	}
	return v
}

// DefaultDiagonalMM is the diagonal of a panel of which nothing is known, in
// millimetres: 15.4 inches.
const DefaultDiagonalMM = 390

// MetricFor returns the metric of a panel with the given size in pixels and in
// millimetres: one dp is 1/160 inch, as everywhere in Gio. Unknown and absurd
// sizes (the EDID of many panels is wrong) give the metric of a panel with the
// default diagonal.
func MetricFor(pixels, millimetres image.Point) unit.Metric {
	if millimetres.X < 50 || millimetres.X > 3000 {
		return MetricForDiagonal(pixels, DefaultDiagonalMM)
	}
	return metric(float64(pixels.X) / float64(millimetres.X))
}

// MetricForDiagonal returns the metric of a panel with the given size in
// pixels and the given diagonal in millimetres.
func MetricForDiagonal(pixels image.Point, millimetres int) unit.Metric {
	return metric(math.Hypot(float64(pixels.X), float64(pixels.Y)) / float64(millimetres))
}

// metric keeps pixels per millimetre within what panels have: from a 50-inch
// screen of few pixels to a telephone.
func metric(perMM float64) unit.Metric {
	s := float32(min(max(perMM*25.4/160, 0.25), 4))
	return unit.Metric{PxPerDp: s, PxPerSp: s}
}

// PxPerMM is the number of pixels in a millimetre of a panel with a metric.
func PxPerMM(m unit.Metric) float64 { return float64(m.PxPerDp) * 160 / 25.4 }

// Rotation is how far the picture is turned clockwise on the panel.
type Rotation int

// The four rotations, in degrees.
const (
	Rotate0   Rotation = 0
	Rotate90  Rotation = 90
	Rotate180 Rotation = 180
	Rotate270 Rotation = 270
)

// Valid reports whether r is one of the four rotations.
func (r Rotation) Valid() bool {
	return r == Rotate0 || r == Rotate90 || r == Rotate180 || r == Rotate270
}
