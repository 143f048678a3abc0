package cpurender_test

import (
	"fmt"
	"image"
	"image/color"

	"gioui.org/cpurender"
	"gioui.org/op"
	"gioui.org/op/clip"
	"gioui.org/op/paint"
)

// A square moves over a white page. Only what it left and what it reached is
// painted and reported.
func Example() {
	r := cpurender.New(cpurender.Options{})
	dst := image.NewRGBA(image.Rect(0, 0, 640, 480))
	var ops op.Ops
	for _, x := range []int{10, 10, 400} {
		ops.Reset()
		paint.Fill(&ops, color.NRGBA{R: 255, G: 255, B: 255, A: 255})
		square := clip.Rect{Min: image.Pt(x, 40), Max: image.Pt(x+20, 60)}
		paint.FillShape(&ops, color.NRGBA{R: 200, A: 255}, square.Op())

		damage := r.Frame(dst, &ops)
		fmt.Println(len(damage), damage)
	}
	fmt.Println(dst.At(410, 50), dst.At(15, 50))
	// Output:
	// 1 [(0,0)-(640,480)]
	// 0 []
	// 2 [(0,32)-(64,64) (384,32)-(448,64)]
	// {200 0 0 255} {255 255 255 255}
}

// BGRX is the order of a DRM framebuffer: the bytes can be copied to it as they
// are.
func ExampleRenderer_Frame_bgrx() {
	r := cpurender.New(cpurender.Options{Order: cpurender.BGRX})
	dst := image.NewRGBA(image.Rect(0, 0, 2, 1))
	var ops op.Ops
	paint.Fill(&ops, color.NRGBA{R: 1, G: 2, B: 3, A: 255})
	r.Frame(dst, &ops)
	fmt.Println(dst.Pix)
	// Output: [3 2 1 255 3 2 1 255]
}
