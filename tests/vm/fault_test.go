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

	"github.com/u-root/u-root/pkg/cpio"

	"ktradv/image/build"
	"ktradv/internal/req"
	"ktradv/tests/demo/appliance"
)

type imageRGBA = image.RGBA

// TestServer boots into a world without a server, which comes later. (Without a network, and under a wrong clock:
// TestNetworkClockModule.)
func TestServer(t *testing.T) {
	req.Covers(t, "AdV-A_2423")
	world.StopServer()
	defer func() { // whatever happened, the other tests want it
		if err := world.StartServer(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	r := boot(t, appliance.Options{})
	r.showsView("no server", neutral())
	r.touchable()
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
	for _, want := range []map[string]string{
		{"component": "adv-app", "log": "error", "text": "SERVER-UNREACHABLE"}, {"component": "adv-app", "log": "flow", "name": "vsd.show", "result": "ok"},
	} {
		if !n.has(want) {
			t.Errorf("no log entry %v; codes %v", want, n.codes())
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
		if err := w.WriteRecord(cpio.StaticFile(name, string(content), 0o755)); err != nil {
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
