//go:build vm

package vm

// Bad input: what a terminal meets when an overlay, a cable, a clock, a disk, a driver or a stranger's USB device is wrong.
// Each test brings one such thing from outside, sees that the screen says it to those whom it concerns (the person in a
// session, the staff in small letters, the technician), that the terminal serves as far as it can, and that the logs have it
// after a clean power off. The negative twins are the other boots: their neutral screens are compared pixel by pixel, too,
// and have no such words.

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ktradv/image/build"
	"ktradv/image/disk"
	"ktradv/tests/demo/appliance"
)

// TestData boots with a data partition that is full, damaged or missing: the terminal serves, and says so.
func TestData(t *testing.T) {
	offset := disk.Start(disk.Data)
	for name, tt := range map[string]struct {
		code  string
		spoil func(t *testing.T, file string) string
	}{
		"full": {"DATA-FULL", func(t *testing.T, file string) string {
			big := filepath.Join(t.TempDir(), "big")
			if err := os.WriteFile(big, bytes.Repeat([]byte("x"), 52<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("debugfs", "-w", "-R", "write "+big+" big", fmt.Sprintf("%s?offset=%d", file, offset))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return file
		}},
		"damaged": {"DATA-DAMAGED", func(t *testing.T, file string) string {
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			if err == nil {
				_, err = f.WriteAt(bytes.Repeat([]byte{0xA5}, 4096), offset)
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
			return file
		}},
		"missing": {"DATA-MISSING", func(t *testing.T, file string) string { return "none" }},
	} {
		t.Run(name, func(t *testing.T) {
			file := tt.spoil(t, copyFile(t, world.Image.Disk))
			r := boot(t, appliance.Options{Disk: file})
			r.showsView("data partition "+name, neutral(tt.code))
			r.touchable()
			r.insert(healthy)
			r.pin(pin)
			r.shows("menu")
			r.tap("menu", end)
			r.shows("take_card")
			r.remove()
			r.showsView("data partition "+name+", after a visit", neutral(tt.code))
			r.must(r.PowerButton(r.ctx))
			r.must(r.Wait(r.ctx))
			r.note("off")
		})
	}
}

// mistakes is a configuration with three of them.
const mistakes = `{"display": {"platform": "drm", "rotation": 45}, "server": {"address": "no port"}, "colour": "red"}`

// TestMistakes: the image builder refuses a configuration with mistakes and names all of them; a terminal that has one all
// the same shows them to the technician.
func TestMistakes(t *testing.T) {
	ctx := t.Context()
	_, err := world.Build(ctx, "mistakes", func(files map[string][]byte, _ map[string]any) { files["etc/adv/terminal.json"] = []byte(mistakes) })
	var problems build.ProblemsError
	if !errors.As(err, &problems) || len(problems) < 3 {
		t.Fatalf("the image builder says: %v", err)
	}
	for _, key := range []string{"display.rotation", "server.address", "colour"} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("the image builder does not name %s: %v", key, err)
		}
	}
	r := boot(t, appliance.Options{Image: with(t, world.Image, map[string][]byte{"etc/adv/terminal.json": []byte(mistakes)})})
	r.shows("fault_configuration")
	r.off()
}

// TestModule boots with a kernel module that is damaged: the terminal serves as far as it can, and says so.
func TestModule(t *testing.T) {
	name, content := moduleOf(t, world.Image, "virtio_net")
	content[len(content)/2] ^= 0xFF
	r := boot(t, appliance.Options{Image: with(t, world.Image, map[string][]byte{name: content})})
	r.showsView("module damaged", neutral("NETWORK-DOWN", "MODULE-FAILED"))
	n := r.off()
	if !bytes.Contains(n.raw, []byte("KERNEL-MODULE-NOT-LOADED")) && !bytes.Contains(n.raw, []byte("MODULE-FAILED")) {
		t.Errorf("it is not in the logs; codes %v", n.codes())
	}
}

// moduleOf takes a kernel module out of an image.
func moduleOf(t *testing.T, image build.Result, module string) (name string, content []byte) {
	t.Helper()
	return fileOf(t, image, func(name string) bool {
		return strings.ReplaceAll(filepath.Base(name), "-", "_") == module+".ko"
	})
}
