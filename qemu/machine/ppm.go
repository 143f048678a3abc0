package machine

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"strconv"
)

// maxSide bounds a screen shot.
const maxSide = 16384

// parsePPM reads a binary PPM of 8 bits per channel, as QEMU writes screen shots.
func parsePPM(b []byte) (*image.RGBA, error) {
	var f [4]string
	for i := range f {
		j := bytes.IndexAny(b, " \n")
		if j < 0 || j > 8 {
			return nil, errors.New("ppm: malformed header")
		}
		f[i], b = string(b[:j]), b[j+1:]
	}
	w, err1 := strconv.Atoi(f[1])
	h, err2 := strconv.Atoi(f[2])
	if f[0] != "P6" || f[3] != "255" || err1 != nil || err2 != nil || w < 1 || h < 1 || w > maxSide || h > maxSide || len(b) != 3*w*h {
		return nil, fmt.Errorf("ppm: header %q with %d octets", f, len(b))
	}
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		copy(img.Pix[4*i:4*i+3], b[3*i:3*i+3])
		img.Pix[4*i+3] = 0xff
	}
	return img, nil
}
