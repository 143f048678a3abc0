//go:build vm

package vm

import (
	"bytes"
	"errors"
	"image"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"fmt"

	"ktradv/image/build"
	"ktradv/image/disk"
	"ktradv/internal/req"
	"ktradv/qemu/machine"
	"ktradv/tests/demo/appliance"
)

type imageRGBA = image.RGBA

// TestServerNetworkTime boots into a world without a server, without a network and with the wrong time, which comes back
// bit by bit.
func TestServerNetworkTime(t *testing.T) {
	req.Covers(t, "AdV-A_2423")
	world.Time.Mute(true)
	defer world.Time.Mute(false)
	world.StopServer()
	r := boot(t, appliance.Options{Change: func(c *machine.Config) { c.Clock = time.Date(2019, 5, 6, 7, 8, 9, 0, time.UTC) }})
	r.shows("neutral")
	r.must(r.SetLink(r.ctx, false))
	r.note("network cable out")
	r.showsView("no network, wrong time", neutral("NETWORK-DOWN", "CLOCK-WRONG"))
	r.touchable()
	r.insert(healthy)
	r.pin(pin)
	r.shows("problem_mute")
	r.remove()
	r.showsView("still no network", neutral("NETWORK-DOWN", "CLOCK-WRONG"))
	r.must(r.SetLink(r.ctx, true))
	r.note("network cable in")
	r.showsView("network, but wrong time", neutral("CLOCK-WRONG"))
	world.Time.Mute(false)
	r.note("the time server answers")
	r.showsView("the right time", neutral())
	r.insert(healthy)
	r.pin(pin)
	r.shows("problem_mute") // still no server
	r.remove()
	r.shows("neutral")
	r.must(world.StartServer(r.ctx))
	r.note("the server is up")
	r.visit("end")
	n := r.off()
	for _, code := range []string{"NETWORK-DOWN", "CLOCK-WRONG", "SERVER-UNREACHABLE"} {
		if !n.has(map[string]string{"code": code}) && !bytes.Contains(n.raw, []byte(code)) {
			t.Errorf("%s is not in the logs; codes %v", code, n.codes())
		}
	}
}

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

// with appends files to an initramfs, where they take the place of those with the same name.
func with(t *testing.T, image build.Result, files map[string][]byte) *build.Result {
	t.Helper()
	b, err := os.ReadFile(image.Initramfs)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	w := cpio.Newc.Writer(&archive)
	for name, content := range files {
		if err := w.WriteRecord(cpio.StaticFile(name, string(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	for len(b)%512 != 0 {
		b = append(b, 0)
	}
	image.Initramfs = filepath.Join(t.TempDir(), "initramfs")
	if err := os.WriteFile(image.Initramfs, append(b, archive.Bytes()...), 0o600); err != nil {
		t.Fatal(err)
	}
	return &image
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

// fileOf takes a file out of an image.
func fileOf(t *testing.T, image build.Result, is func(name string) bool) (name string, content []byte) {
	t.Helper()
	cmd := exec.Command("zstd", "-dcq", image.Initramfs)
	plain, err := cmd.Output() // what follows the first archive need not be compressed
	if len(plain) == 0 {
		t.Fatal(err)
	}
	r := cpio.Newc.Reader(bytes.NewReader(plain))
	for {
		rec, err := r.ReadRecord()
		if err != nil {
			t.Fatalf("file of the image: %v", err)
		}
		if is(rec.Name) {
			content = make([]byte, rec.FileSize)
			if _, err := rec.ReadAt(content, 0); err != nil {
				t.Fatal(err)
			}
			return rec.Name, content
		}
	}
}
