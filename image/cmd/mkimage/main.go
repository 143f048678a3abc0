// Command mkimage builds the image of a terminal.
//
//	mkimage [-out out/image] [-cache out/cache] [-update] [-packages manifest.json] OVERLAY...
//
// An overlay is the name of a folder under overlays/ or the path of one; each is laid over those before it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"ktradv/image/build"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func run() error {
	root := flag.String("root", ".", "folder of the project")
	out := flag.String("out", filepath.Join("out", "image"), "folder for the image")
	cache := flag.String("cache", filepath.Join("out", "cache"), "folder for downloads")
	update := flag.Bool("update", false, "take the newest Debian packages instead of those in the cache")
	packages := flag.String("packages", "", "take the Debian packages of the image with this `manifest`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	cfg := build.Config{Root: *root, Out: *out, Cache: *cache, Update: *update,
		Log: func(format string, args ...any) { fmt.Fprintf(os.Stderr, "mkimage: "+format+"\n", args...) }}
	if *packages != "" {
		var err error
		if cfg.Pins, err = build.Pins(*packages); err != nil {
			return err
		}
	}
	for _, o := range flag.Args() {
		if !strings.ContainsRune(o, filepath.Separator) {
			o = filepath.Join(*root, "overlays", o)
		}
		cfg.Overlays = append(cfg.Overlays, o)
	}
	_, err := build.Build(ctx, cfg)
	return err
}
