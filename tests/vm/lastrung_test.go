//go:build vm

package vm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"ktradv/internal/terminal"
	"ktradv/qemu/machine"
	"ktradv/tests/demo/appliance"
)

// program builds a program that takes the place of one of the image's.
func program(t *testing.T, pkg string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLastRung has a kiosk that ends whenever it is started. The first process starts it anew, then the whole machine, and
// after the third time in a row gives up: the technician's screen says so. The log has every rung, and a kiosk that comes up
// again serves.
func TestLastRung(t *testing.T) {
	_, kiosk := fileOf(t, world.Image, func(name string) bool { return name == "usr/bin/adv-kiosk" })
	unwell := with(t, world.Image, map[string][]byte{"usr/bin/adv-kiosk": program(t, "./tests/vm/unwell"), "usr/bin/adv-kiosk.real": kiosk})
	disk := copyFile(t, world.Image.Disk)
	r := boot(t, appliance.Options{Image: unwell, Disk: disk, Change: func(c *machine.Config) { c.Reboot = true }})
	given := []terminal.Problem{{
		File: "/usr/bin/adv-kiosk", What: "the program does not start or does not stay up",
		Fix: "switch the terminal off and on; if it stays so, write the image anew",
	}}
	const boots = 4
	r.seesMistakes(terminal.CauseKiosk, 0, given, len(given), boots*patience)
	for off := false; !off; { // nobody hears the button before the set-up is over
		_ = r.PowerButton(r.ctx) // an error where the machine is off by now
		select {
		case <-r.Ended():
			off = true
		case <-r.ctx.Done():
			t.Fatal("the machine does not go off")
		case <-time.After(5 * time.Second):
		}
	}
	r.note("off")
	r.clean()
	n := r.noted()
	counts := map[string][]string{}
	for _, e := range n.entries {
		if e["component"] != "adv-init" {
			continue
		}
		v, _ := e["values"].(map[string]any)
		switch {
		case e["log"] == "error":
			text := fmt.Sprint(e["text"])
			counts[text] = append(counts[text], fmt.Sprint(v["count"]))
		case e["name"] == "boot.init":
			counts["boot"] = append(counts["boot"], "")
		}
	}
	if got, want := counts["KIOSK-GIVEN-UP-REBOOT"], []string{"1", "2", "3"}; !slices.Equal(got, want) {
		t.Errorf("the machine started itself anew for the times %v; want %v", got, want)
	}
	if got := len(counts["boot"]); got != boots {
		t.Errorf("%d boots in the log; want %d", got, boots)
	}
	if got := len(counts["KIOSK-GIVEN-UP"]); got != 1 {
		t.Errorf("the kiosk was given up %d times; want once", got)
	}

	r.on(appliance.Options{Disk: disk})
	r.showsView("with a kiosk that comes up", neutral())
	r.attentive() // and the first process is through with its set-up, so that it hears the power button
	r.off()
}
