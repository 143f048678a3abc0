package image

import (
	"os"
	"path/filepath"
	"testing"

	"ktradv/hw/sim/card"
	"ktradv/internal/testdata"
)

func load(t testing.TB, name string) *card.System {
	t.Helper()
	f, err := os.Open(filepath.Join(testdata.Dir(t, "cards"), "images", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sys, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return sys
}

func TestPublicImages(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"IMG_eGK_G21_TU_root6_80276883110000152715.xml",
		"EGKG2_80276883110000017222_gema5.xml",
		"EGKG2_80276883110000017222_gema5-leerPIN.xml",
		"SMC_B_80276883110000168650_gema5.xml",
		"HBA_80276883110000220885_gema5.xml",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sys := load(t, name)
			c, err := card.New(sys, card.Config{})
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			sys.Root.Walk(func(string, card.Object) { n++ })
			t.Logf("%s: %d objects, ATR %X", c.Name(), n, c.ATR())
		})
	}
}
