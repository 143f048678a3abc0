package kms

import (
	"encoding/binary"
	"image"

	"ktradv/kiosk/platform"
)

// onPanel maps a rectangle of the picture to the panel.
func onPanel(r image.Rectangle, panel image.Point, rot platform.Rotation) image.Rectangle {
	switch rot {
	case platform.Rotate90:
		return image.Rect(panel.X-r.Max.Y, r.Min.X, panel.X-r.Min.Y, r.Max.X)
	case platform.Rotate180:
		return image.Rect(panel.X-r.Max.X, panel.Y-r.Max.Y, panel.X-r.Min.X, panel.Y-r.Min.Y)
	case platform.Rotate270:
		return image.Rect(r.Min.Y, panel.Y-r.Max.X, r.Max.Y, panel.Y-r.Min.X)
	}
	return r
}

// draw copies a rectangle of the picture into a buffer, turning it and
// changing R G B A bytes to the buffer's B G R X. The buffer is only written,
// row by row in its own order: it may be memory that is slow to read.
func draw(b Buffer, panel image.Point, img *image.RGBA, r image.Rectangle, rot platform.Rotation) {
	dst := onPanel(r, panel, rot)
	// The pixel of the picture that is at dst.Min, and the steps in img.Pix
	// for one pixel to the right and one row down on the panel.
	at, right, down := r.Min, 4, img.Stride
	switch rot {
	case platform.Rotate90:
		at, right, down = image.Pt(r.Min.X, r.Max.Y-1), -img.Stride, 4
	case platform.Rotate180:
		at, right, down = r.Max.Sub(image.Pt(1, 1)), -4, -img.Stride
	case platform.Rotate270:
		at, right, down = image.Pt(r.Max.X-1, r.Min.Y), img.Stride, -4
	}
	src := img.PixOffset(at.X, at.Y)
	n := dst.Dx()
	for y := dst.Min.Y; y < dst.Max.Y; y++ {
		row := b.Pix[y*b.Pitch+4*dst.Min.X:][:4*n]
		s := src
		for len(row) >= 4 {
			v := binary.LittleEndian.Uint32(img.Pix[s : s+4])
			binary.LittleEndian.PutUint32(row, v&0xff00ff00|v>>16&0xff|v&0xff<<16)
			row, s = row[4:], s+right
		}
		src += down
	}
}
