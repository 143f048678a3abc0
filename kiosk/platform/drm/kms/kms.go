// Package kms shows pictures on a display through the kernel's mode setting
// (DRM/KMS): dumb buffers, page flips, damage reports. It needs the device
// node /dev/dri/cardN and no rights beyond opening it: the first that opens it
// is its master.
//
// Card is the small part of the kernel's interface that the package uses. The
// running kernel implements it (Open); tests implement it with kernels that
// have no display, refuse modes or use odd pitches.
package kms

import (
	"errors"
	"image"
)

// Mode is a display mode as the kernel describes it (struct drm_mode_modeinfo).
// All fields travel back to the kernel unchanged.
type Mode struct {
	Clock                                         uint32
	HDisplay, HSyncStart, HSyncEnd, HTotal, HSkew uint16
	VDisplay, VSyncStart, VSyncEnd, VTotal, VScan uint16
	VRefresh, Flags, Type                         uint32
	RawName                                       [32]byte
}

// typePreferred marks the mode that the display prefers.
const typePreferred = 1 << 3

// Size is the visible size in pixels.
func (m Mode) Size() image.Point { return image.Pt(int(m.HDisplay), int(m.VDisplay)) }

// Preferred reports whether the display prefers the mode.
func (m Mode) Preferred() bool { return m.Type&typePreferred != 0 }

// Connector is an output.
type Connector struct {
	ID        uint32
	Name      string // as the kernel names it: HDMI-A-1, eDP-1, Virtual-1
	Connected bool
	Modes     []Mode
	Encoders  []uint32
	Encoder   uint32      // the one in use, 0 if none
	MM        image.Point // size of the panel, 0 if unknown
	DPMS      uint32      // id of the property, 0 if there is none
}

// Encoder connects CRTCs to connectors.
type Encoder struct {
	CRTC     uint32 // the one in use, 0 if none
	Possible uint32 // bit n: the n-th CRTC of Resources
}

// Resources lists what a card has.
type Resources struct {
	CRTCs, Connectors []uint32
}

// Buffer is a dumb buffer, mapped and registered as a framebuffer.
type Buffer struct {
	FB, Handle uint32
	Pitch      int // bytes per row
	Pix        []byte
}

// Card is an open DRM device. Its methods are called by one goroutine at a
// time, except Close.
type Card interface {
	Driver() (string, error)
	Resources() (Resources, error)
	Connector(id uint32) (Connector, error)
	Encoder(id uint32) (Encoder, error)
	// Create makes a buffer of 32 bits per pixel, x8r8g8b8.
	Create(size image.Point) (Buffer, error)
	Destroy(Buffer) error
	// SetMode shows fb on a connector; fb 0 switches the CRTC off.
	SetMode(crtc, connector, fb uint32, m Mode) error
	// Flip shows fb from the next vertical blank on; WaitFlip waits for that.
	Flip(crtc, fb uint32) error
	WaitFlip() error
	// Dirty tells the driver what changed in fb.
	Dirty(fb uint32, r []image.Rectangle) error
	// SetDPMS sets the property of a connector: 0 on, 3 off.
	SetDPMS(connector, property uint32, value uint64) error
	Close() error
}

var (
	// ErrNoDisplay means that no output can be used now: none is connected,
	// or every mode was refused.
	ErrNoDisplay = errors.New("kms: no display")
	// ErrNotSupported means that the driver does not do it: flips, damage.
	ErrNotSupported = errors.New("kms: not supported by the driver")
	// ErrTimeout is returned by WaitFlip when the flip does not happen.
	ErrTimeout = errors.New("kms: page flip did not happen")
)
