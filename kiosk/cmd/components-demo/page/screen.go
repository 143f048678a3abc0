package page

import (
	"fmt"
	"image"

	"gioui.org/layout"

	"ktradv/kiosk/fonts"
	"ktradv/kiosk/text"
	"ktradv/kiosk/ui"
	"ktradv/kiosk/ui/gallery"
)

// Screen returns the layout function of a screen of the product in one of the
// situations of the gallery. Its components work (looks, sizes, languages,
// groups), but no session stands behind it: what is chosen leads nowhere.
func Screen(name string, size image.Point) (func(layout.Context), error) {
	catalog, err := text.New(nil)
	if err != nil {
		return nil, fmt.Errorf("show screen %q: %w", name, err)
	}
	var names []string
	for _, s := range gallery.Samples() {
		if s.Name == name {
			u := ui.New(ui.Config{Shaper: fonts.Default().Shaper(), Catalog: catalog, Panel: ui.Panel{Pixels: size}, ReducedMotion: true})
			u.SetView(s.View)
			return func(gtx layout.Context) {
				u.Layout(gtx)
				u.Events() // nobody answers them
			}, nil
		}
		names = append(names, s.Name)
	}
	return nil, fmt.Errorf("show screen %q: there is none, only %v", name, names)
}
