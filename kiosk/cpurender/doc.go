// Package cpurender paints Gio operation lists in plain Go: no GPU, no cgo, no
// shared library.
//
// It takes the same [gioui.org/op.Ops] that Gio's own renderer takes and draws
// into a byte image, pixel for pixel by Gio's rules: colours are blended in
// linear light on an 8-bit sRGB target, coverage is the exact signed area of a
// shape, clips multiply, an opacity layer is a picture of its own.
//
//	r := cpurender.New(cpurender.Options{})
//	dst := image.NewRGBA(image.Rect(0, 0, 1280, 800))
//	for {
//		ops.Reset()
//		layoutUI(&ops)
//		damage := r.Frame(dst, &ops)
//		show(dst, damage)
//	}
//
// The target keeps the last frame. Frame compares a hash of the commands of
// every 64x32 tile with that of the frame before, repaints the tiles that
// differ and returns them as rectangles, so the caller needs no damage
// bookkeeping of its own. A frame in which nothing changed paints nothing and
// allocates nothing.
//
// # What is supported
//
// All that Gio core v0.10.3 can express: affine transforms; rectangle, rounded
// rectangle, ellipse and path clips nested to any depth; strokes (round joins
// and caps); colours, two-stop linear gradients with Gio's quirks under
// transforms; images with linear (mip-mapped when shrunk) and nearest filter;
// opacity layers; deferred operations, save and load.
//
// # Same bytes everywhere
//
// The picture depends on the operation list alone: not on the number of
// workers, not on which tiles were repainted when, not on the processor.
// Blending is integer arithmetic, and every floating point product that is
// added to something is rounded explicitly, so that no compiler may fuse the
// two on arm64. (Lists laid out on different processors may differ in the last
// bit of a coordinate, because Gio's own packages give no such promise.)
//
// # Limits
//
// Coverage masks are kept in a cache with a byte budget. What one frame may use
// beyond that is bounded too (see [Options]); a list that asks for more is
// drawn up to that point and reported once. Opacity layers nest 32 deep; what is
// deeper is drawn into the innermost. Coordinates that are not finite, or beyond
// 67 million, make the shape they belong to disappear. A panic while drawing is
// recovered: the caches are dropped, the frame is painted again in full and the
// incident reported through [Options.Report].
//
// A shape that is moved by parts of a pixel is drawn at the nearest eighth, so
// that moving text finds its masks again; rotated and scaled shapes are drawn
// where they are.
//
// An operation list that calls itself, which the public API of Gio cannot
// build without reusing a list that is still referenced, makes Gio's reader
// loop and cannot be caught here.
//
// # Why the module name
//
// The encoding of operation lists lives in internal packages of Gio. Go judges
// "internal" by import path, so a module named gioui.org/cpurender, brought in
// by a replace directive, may import them. They carry no promise of stability:
// constants in this package stop the build when an encoding changes, and
// [GioVersion] names the one version this package was checked against.
package cpurender
