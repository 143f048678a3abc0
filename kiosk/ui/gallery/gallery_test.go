package gallery

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"ktradv/kiosk/design"
	"ktradv/kiosk/fonts"
	"ktradv/kiosk/text"
	"ktradv/kiosk/ui"
	"ktradv/kiosk/view"
)

// approve, when set, makes TestApproved write what it sees instead of comparing.
var approve = os.Getenv("KTRADV_APPROVE") != ""

func newDrawer(t testing.TB) *Drawer {
	t.Helper()
	d, err := NewDrawer(nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestRules measures every screen in every language, look and size on every panel, and on two more: a small one and an
// upright one.
func TestRules(t *testing.T) {
	t.Parallel()
	panels := append(slices.Clone(Panels), ui.Panel{Diagonal: 10.1, Pixels: image.Pt(1280, 800)}, ui.Panel{Diagonal: 21.5, Pixels: image.Pt(1080, 1920)})
	for _, panel := range panels {
		t.Run(fmt.Sprintf("%v-%.1f", panel.Pixels, panel.Diagonal), func(t *testing.T) {
			t.Parallel()
			d := newDrawer(t)
			for _, v := range Variants(panel) {
				if v.Look == design.Dark && panel != Panels[0] {
					continue // set exactly like the light look
				}
				for _, s := range Samples() {
					for _, fault := range Check(v, d.Elements(s, v)) {
						t.Errorf("%s %s: %s", s.Name, v, fault)
					}
				}
			}
		})
	}
}

// approvedFile lists the SHA-256 of the pixels of every approved picture.
const approvedFile = "testdata/approved.sha256"

// kept are the pictures that lie beside the list, for people.
var kept = map[string]bool{
	"neutral-1280x800-de-light-normal": true, "pin-1280x800-de-light-normal": true, "menu-1280x800-de-light-normal": true,
	"data-1280x800-de-light-normal": true, "problem_mute-1280x800-de-light-normal": true, "idle-1280x800-de-light-normal": true,
	"neutral-1280x800-de-contrast-huge": true, "pin-1280x800-en-contrast-huge": true, "data-1280x800-en-dark-large": true,
	"connecting-1280x800-de-dark-normal": true, "take_card-1280x800-en-light-normal": true,
}

// TestApproved draws every screen in every language, look and size and compares it with the approved picture, exactly;
// on the way it measures the contrast of the text in the pixels.
func TestApproved(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("approved pictures are those of amd64; layout on other architectures may differ by a pixel")
	}
	want := readApproved(t)
	var mu sync.Mutex
	got, wrong := map[string]string{}, 0
	t.Run("draw", func(t *testing.T) {
		for _, look := range design.Looks {
			t.Run(look.ID(), func(t *testing.T) {
				t.Parallel()
				d := newDrawer(t)
				for _, v := range Variants(Panels[0]) {
					if v.Look != look {
						continue
					}
					for _, s := range Samples() {
						img, elements := d.Draw(s, v)
						for _, fault := range Measure(img, elements) {
							t.Errorf("%s %s: %s", s.Name, v, fault)
						}
						name := s.Name + "-" + v.String()
						sum := fmt.Sprintf("%x", sha256.Sum256(img.Pix))
						mu.Lock()
						got[name] = sum
						mu.Unlock()
						if kept[name] {
							compareKept(t, name, img)
						}
						if w, ok := want[name]; !approve && w != sum {
							reason := "differs from the approved one"
							if !ok {
								reason = "has not been approved"
							}
							mu.Lock()
							if wrong++; wrong <= 10 {
								t.Errorf("picture %s %s", name, reason)
							}
							mu.Unlock()
						}
					}
				}
			})
		}
	})
	if wrong > 0 {
		t.Errorf("%d pictures in all: look at them with the tool kiosk/cmd/gallery; approve with KTRADV_APPROVE=1", wrong)
	}
	for name := range want {
		if _, ok := got[name]; !ok && !approve {
			t.Errorf("approved picture %s is not drawn any more", name)
		}
	}
	if approve && !t.Failed() {
		writeApproved(t, got)
	}
}

func readApproved(t *testing.T) map[string]string {
	t.Helper()
	want := map[string]string{}
	f, err := os.Open(approvedFile)
	if err != nil {
		if approve {
			return want
		}
		t.Fatal(err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if sum, name, ok := strings.Cut(sc.Text(), "  "); ok {
			want[name] = sum
		}
	}
	return want
}

func writeApproved(t *testing.T, got map[string]string) {
	t.Helper()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(got)) {
		fmt.Fprintf(&b, "%s  %s\n", got[name], name)
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(approvedFile, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func compareKept(t *testing.T, name string, img *image.RGBA) {
	t.Helper()
	file := filepath.Join("testdata", name+".png")
	if approve {
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		enc := png.Encoder{CompressionLevel: png.BestCompression}
		if err := enc.Encode(f, img); err != nil {
			t.Fatal(err)
		}
		return
	}
	f, err := os.Open(file)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	want, err := png.Decode(f)
	if err != nil {
		t.Error(err)
		return
	}
	if want.Bounds() != img.Bounds() {
		t.Errorf("%s: size = %v; want %v", name, img.Bounds(), want.Bounds())
		return
	}
	differ := 0
	for y := range img.Rect.Dy() {
		for x := range img.Rect.Dx() {
			r, g, b, _ := want.At(x, y).RGBA()
			if c := pixel(img, x, y); c != (color.NRGBA{R: uint8(r >> 8), G: uint8(g >> 8), B: uint8(b >> 8), A: 255}) {
				differ++
			}
		}
	}
	if differ > 0 {
		t.Errorf("%s: %d pixels differ from the approved picture", name, differ)
	}
}

// TestRulesFindFaults is the negative twin: each rule is broken once and must be reported.
func TestRulesFindFaults(t *testing.T) {
	t.Parallel()
	v := Variant{Panel: Panels[0], Lang: text.German}
	screen := image.Rectangle{Max: v.Panel.Pixels}
	black, white, grey := color.NRGBA{A: 255}, color.NRGBA{255, 255, 255, 255}, color.NRGBA{150, 150, 150, 255}
	txt := func(label string, x, y int) ui.Element {
		r := image.Rect(x, y, x+100, y+30)
		return ui.Element{Kind: ui.TextElement, Label: label, Rect: r, Ink: r, Room: screen, FG: black, BG: white, Em: 28}
	}
	btn := func(label string, x, y int) ui.Element {
		return ui.Element{Kind: ui.ButtonElement, Label: label, Rect: image.Rect(x, y, x+200, y+100), Room: screen, FG: black, BG: white}
	}
	change := func(e ui.Element, f func(*ui.Element)) ui.Element { f(&e); return e }
	for want, elements := range map[string][]ui.Element{
		"":                   {txt("a", 10, 10), txt("b", 10, 60), btn("c", 10, 200), btn("d", 300, 200)},
		"cut off":            {change(txt("a", 10, 10), func(e *ui.Element) { e.Room = image.Rect(0, 0, 50, 50) })},
		"leaves the screen":  {change(txt("a", 1250, 10), func(e *ui.Element) { e.Ink = image.Rect(1250, 10, 1270, 40) })},
		"sticks out":         {change(btn("a", 10, 10), func(e *ui.Element) { e.Room = image.Rect(0, 0, 50, 50) })},
		"broken":             {change(txt("a", 10, 10), func(e *ui.Element) { e.Split = true })},
		"at least 24":        {change(txt("a", 10, 10), func(e *ui.Element) { e.Em = 20 })},
		"contrast":           {change(txt("a", 10, 10), func(e *ui.Element) { e.FG = grey })},
		"no glyph":           {txt("\U00013000", 10, 10)},
		"at least 99":        {change(btn("a", 10, 10), func(e *ui.Element) { e.Rect = image.Rect(10, 10, 110, 60) })},
		"two buttons":        {btn("a", 10, 10), btn("a", 10, 300)},
		"closer than":        {btn("a", 10, 10), btn("b", 220, 10)},
		"overlaps":           {txt("a", 10, 10), txt("b", 50, 20)},
		"too close to what":  {btn("a", 10, 10), {Kind: ui.BodyElement, Rect: image.Rect(0, 120, 500, 300), Room: screen}},
		"border of contrast": {change(btn("a", 10, 10), func(e *ui.Element) { e.FG = color.NRGBA{220, 220, 220, 255} })},
	} {
		faults := Check(v, elements)
		if want == "" {
			if len(faults) > 0 {
				t.Errorf("good screen has faults: %q", faults)
			}
			continue
		}
		if len(faults) != 1 || !strings.Contains(faults[0], want) {
			t.Errorf("faults = %q; want one with %q", faults, want)
		}
	}
	img := image.NewRGBA(screen)
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	for x := 30; x < 60; x++ {
		img.SetRGBA(x, 20, color.RGBA{150, 150, 150, 255})
	}
	if faults := Measure(img, []ui.Element{txt("a", 10, 10)}); len(faults) != 1 {
		t.Errorf("Measure of grey on white = %q; want one fault", faults)
	}
}

// TestEverySampleScreen: the samples show every screen of the contract.
func TestEverySampleScreen(t *testing.T) {
	t.Parallel()
	have := map[view.Screen]bool{}
	names := map[string]bool{}
	for _, s := range Samples() {
		have[s.View.Screen] = true
		if names[s.Name] {
			t.Errorf("two samples are called %s", s.Name)
		}
		names[s.Name] = true
	}
	for _, s := range []view.Screen{
		view.Neutral, view.Reading, view.PIN, view.PINWrong, view.PINBlocked, view.PUK, view.Connecting, view.Menu, view.Data,
		view.Idle, view.Blanked, view.Ending, view.TakeCard, view.Problem, view.OutOfOrder,
	} {
		if !have[s] {
			t.Errorf("no sample of screen %s", s)
		}
	}
}

// TestEveryProblemFits draws every registered problem, with the widest pictures and the largest text.
func TestEveryProblemFits(t *testing.T) {
	t.Parallel()
	d := newDrawer(t)
	for code := range text.Problems {
		for _, lang := range text.Languages {
			for _, size := range design.Sizes {
				v := Variant{Panel: Panels[0], Lang: lang.Lang, Size: size}
				p := problem(code)
				p.CanRetry = true
				s := Sample{code, view.View{Screen: view.Problem, Problem: p, CanEnd: true}}
				for _, fault := range Check(v, d.Elements(s, v)) {
					t.Errorf("%s %s: %s", code, v, fault)
				}
			}
		}
	}
}

// TestGlyphs: the fonts have a picture for every character of every text.
func TestGlyphs(t *testing.T) {
	t.Parallel()
	c, err := text.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range text.Languages {
		for _, id := range append(c.IDs(), "") {
			s := c.Get(l.Lang, id, nil)
			if id == "" {
				s = l.Name
			}
			if missing := fonts.Missing(s); len(missing) > 0 {
				t.Errorf("%s %s: no glyph for %q", l.Lang, id, missing)
			}
		}
	}
}
