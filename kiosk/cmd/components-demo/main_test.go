package main

import (
	"context"
	"fmt"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]options{
		"page":   {platform: "memory", size: "640x400", scale: 1, trace: true},
		"screen": {platform: "memory", size: "1280x800", scale: 1, screen: "neutral", trace: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.png = filepath.Join(t.TempDir(), "out.png")
			var out strings.Builder
			if err := run(context.Background(), o, &out); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(out.String(), "frame input=false ") {
				t.Errorf("trace %q", out.String())
			}
			f, err := os.Open(o.png)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			c, err := png.DecodeConfig(f)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%dx%d", c.Width, c.Height); got != o.size {
				t.Errorf("picture of %s, want %s", got, o.size)
			}
		})
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]options{
		"size":     {platform: "memory", size: "large"},
		"huge":     {platform: "memory", size: "99999x99999"},
		"platform": {platform: "paper", size: "640x400"},
		"screen":   {platform: "memory", size: "640x400", screen: "no such screen"},
		"rotation": {platform: "drm", size: "640x400", rotate: 45},
		"window":   {platform: "window", size: "0x0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := run(context.Background(), o, io.Discard); err == nil {
				t.Error("was accepted")
			}
		})
	}
}
