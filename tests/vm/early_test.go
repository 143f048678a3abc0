//go:build vm

package vm

import (
	"image"
	"testing"

	"ktradv/tests/demo/appliance"
)

// TestEarlyCard puts a card in while the terminal starts, before there is a card service: it is served,
// and its holder is not asked to take it. So is the first card of the next day, although that of the day before was put in, too.
// The twin is TestPowerCut.
func TestEarlyCard(t *testing.T) {
	r := boot(t, appliance.Options{Disk: copyFile(t, world.Image.Disk)})
	for day := range 2 {
		if day > 0 {
			r.on(appliance.Options{Disk: r.Disk})
		}
		c, err := world.Card(healthy)
		r.must(err)
		r.Reader().Insert(c)
		r.note("card in: %s", healthy)
		take, err := sample("take_card")
		r.must(err)
		asks, err := sample("pin")
		r.must(err)
		r.see("screen pin", patience, func(img *image.RGBA) bool {
			if refused, _ := take.in(img, false); refused {
				t.Error("the card that the screen asked for is refused")
				return true
			}
			ok, _ := asks.in(img, false)
			return ok
		})
		if t.Failed() {
			return
		}
		r.online() // which the early card is not about: without a server there is no session
		r.pin(pin)
		r.shows("menu")
		r.tap("menu", end)
		r.shows("take_card")
		r.remove()
		r.shows("neutral")
		r.off()
	}
}
