package cpurender

import (
	"gioui.org/internal/ops"
	"gioui.org/internal/scene"
)

// GioVersion is the version of gioui.org whose operation encoding this package
// decodes. A test compares it with go.mod: whoever raises the version must
// first read the differences in gpu/gpu.go, internal/ops, internal/scene and
// run the oracle test.
const GioVersion = "v0.10.3"

// The build breaks here, on purpose, when Gio changes the layout of an
// operation, the size of a path command, or adds an operation.
var (
	_ [0]struct{} = [ops.TypeTransformLen - 26]struct{}{}
	_ [0]struct{} = [ops.TypePushOpacityLen - 5]struct{}{}
	_ [0]struct{} = [ops.TypeClipLen - 19]struct{}{}
	_ [0]struct{} = [ops.TypePathLen - 9]struct{}{}
	_ [0]struct{} = [ops.TypeStrokeLen - 5]struct{}{}
	_ [0]struct{} = [ops.TypeColorLen - 5]struct{}{}
	_ [0]struct{} = [ops.TypeLinearGradientLen - 25]struct{}{}
	_ [0]struct{} = [ops.TypeImageLen - 2]struct{}{}
	_ [0]struct{} = [ops.TypePaintLen - 1]struct{}{}
	_ [0]struct{} = [ops.TypeAuxLen - 1]struct{}{}
	_ [0]struct{} = [ops.TypeSaveLen - 5]struct{}{}
	_ [0]struct{} = [ops.TypeLoadLen - 5]struct{}{}
	_ [0]struct{} = [scene.CommandSize - 36]struct{}{}
	_ [0]struct{} = [int(scene.OpLine) - 1]struct{}{}
	_ [0]struct{} = [int(scene.OpQuad) - 2]struct{}{}
	_ [0]struct{} = [int(scene.OpCubic) - 3]struct{}{}
	_ [0]struct{} = [int(scene.OpGap) - 11]struct{}{}
	_ [0]struct{} = [int(ops.TypeMacro) - 200]struct{}{}
	_ [0]struct{} = [int(ops.TypeActionInput) - 228]struct{}{} // the last operation known
)

// pathStride is the size of one encoded path command: contour number and
// command.
const pathStride = scene.CommandSize + 4

// ignored lists the operations that paint nothing.
var ignored = [256]bool{
	ops.TypePass:             true,
	ops.TypePopPass:          true,
	ops.TypeInput:            true,
	ops.TypeKeyInputHint:     true,
	ops.TypeCursor:           true,
	ops.TypeSemanticLabel:    true,
	ops.TypeSemanticDesc:     true,
	ops.TypeSemanticClass:    true,
	ops.TypeSemanticSelected: true,
	ops.TypeSemanticEnabled:  true,
	ops.TypeActionInput:      true,
}
