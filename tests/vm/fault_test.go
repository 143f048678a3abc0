//go:build vm

package vm

import (
	"bytes"
	"context"
	"image"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"ktradv/image/build"
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
	defer func() { // whatever happened, the other tests want it
		if err := world.StartServer(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	r := boot(t, appliance.Options{Change: func(c *machine.Config) { c.Clock = time.Date(2019, 5, 6, 7, 8, 9, 0, time.UTC) }})
	r.shows("neutral")
	r.must(r.SetLink(r.ctx, false))
	r.note("network cable out")
	r.showsView("no network, wrong time", neutral("NETWORK-DOWN", "CLOCK-WRONG"))
	r.touchable()
	r.insert(healthy)
	r.problem("CARD-NOT-AUTHENTIC") // its certificates are of a future that this clock does not know
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
	r.problem("SERVER-UNREACHABLE")
	r.remove()
	r.shows("neutral")
	r.must(world.StartServer(r.ctx))
	r.note("the server is up")
	r.visit("end")
	world.StopServer()
	n := r.off()
	for _, code := range []string{"NETWORK-DOWN", "CLOCK-WRONG", "SERVER-UNREACHABLE"} {
		if !n.has(map[string]string{"code": code}) && !bytes.Contains(n.raw, []byte(code)) {
			t.Errorf("%s is not in the logs; codes %v", code, n.codes())
		}
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
