// Command gallery draws every screen of the terminal in every language, look and size into one HTML page that holds all
// pictures, and says what breaks the rules of the design.
//
// Usage: gallery [-o out/gallery] [-overlay folder] [-panel 0|1|2]; the page is index.html in the folder -o.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"ktradv/kiosk/design"
	"ktradv/kiosk/ui/gallery"
)

func main() {
	log.SetFlags(0)
	out := flag.String("o", "out/gallery", "folder for the page index.html")
	overlay := flag.String("overlay", "", "folder with an insurer's ui.json")
	panel := flag.Int("panel", 0, "which of the panels: 0 = 1280x800, 1 = 1920x1080, 2 = 1024x768")
	flag.Parse()
	if err := run(*out, *overlay, *panel); err != nil {
		log.Fatalf("gallery: %v", err)
	}
}

func run(out, overlay string, panel int) error {
	if panel < 0 || panel >= len(gallery.Panels) {
		return fmt.Errorf("panel %d: want 0 to %d", panel, len(gallery.Panels)-1)
	}
	tokens := design.Default()
	if overlay != "" {
		var err error
		if tokens, err = design.LoadOverlay(os.DirFS(overlay)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	name := filepath.Join(out, "index.html")
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	faults, err := gallery.WriteHTML(f, tokens, gallery.Panels[panel])
	if err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	fmt.Printf("%s: %d screens, %d variants\n", name, len(gallery.Samples()), len(gallery.Variants(gallery.Panels[panel])))
	if len(faults) > 0 {
		return fmt.Errorf("%d faults, the first: %s", len(faults), faults[0])
	}
	return nil
}
