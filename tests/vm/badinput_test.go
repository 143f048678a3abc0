//go:build vm

package vm

// Bad input: what a terminal meets when an overlay, a cable, a clock, a disk, a driver or a stranger's USB device is wrong.
// Each test brings such a thing from outside, sees that the screen says it to those whom it concerns (the person in a
// session, the staff in small letters, the technician), that the terminal serves as far as it can, and that the logs have it
// after a clean power off. The negative twins are the other boots: their neutral screens are compared pixel by pixel, too,
// and say nothing of the kind.

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	simreader "ktradv/hw/sim/reader"
	"ktradv/image/build"
	"ktradv/image/disk"
	"ktradv/image/init/usb"
	"ktradv/internal/req"
	"ktradv/internal/terminal"
	"ktradv/kiosk/view"
	"ktradv/qemu/ccid"
	"ktradv/qemu/machine"
	"ktradv/qemu/usbredir"
	"ktradv/tests/demo/appliance"
)

// anywhere tells whether a piece of a picture is in a shot, as far left as there, at any height.
func anywhere(shot, picture *image.RGBA, r image.Rectangle) bool {
	if r = r.Intersect(picture.Rect); r.Empty() {
		return false
	}
	for dy := shot.Rect.Min.Y - r.Min.Y; r.Max.Y+dy <= shot.Rect.Max.Y; dy++ {
		if sameMoved(shot, picture, r, dy) {
			return true
		}
	}
	return false
}

// sameMoved compares a rectangle of b with the one that lies dy lower in a.
func sameMoved(a, b *image.RGBA, r image.Rectangle, dy int) bool {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		i, j, n := a.PixOffset(r.Min.X, y+dy), b.PixOffset(r.Min.X, y), 4*r.Dx()
		if !bytes.Equal(a.Pix[i:i+n], b.Pix[j:j+n]) {
			return false
		}
	}
	return true
}

// began and ended are entries of the supervisor's error log about the terminal itself.
func began(code string) map[string]string {
	return map[string]string{"log": "error", "component": "adv-supervisor", "name": "terminal.state", "text": code, "result": "began"}
}

func ended(code string) map[string]string {
	e := began(code)
	e["result"] = "ended"
	return e
}

func (r *run) logged(n noted, want ...map[string]string) {
	r.t.Helper()
	for _, w := range want {
		if !n.has(w) {
			r.t.Errorf("no log entry %v", w)
		}
	}
}

// TestNetworkClockModule boots on a network where nobody answers, years in the past, and with a kernel module that is damaged.
// The cable is pulled, too; everything but the module comes back bit by bit.
func TestNetworkClockModule(t *testing.T) {
	req.Covers(t, "AdV-A_2423")
	world.Time.Mute(true)
	defer world.Time.Mute(false)
	const failed, named = "MODULE-FAILED", "MODULE-FAILED 8021q" // as the log and as the staff read it
	module, content := moduleOf(t, world.Image, "8021q")
	content[len(content)/2] ^= 0xFF
	r := boot(t, appliance.Options{Image: with(t, world.Image, map[string][]byte{module: content}), Change: func(c *machine.Config) {
		c.Clock = time.Date(2019, 5, 6, 7, 8, 9, 0, time.UTC)
		// The terminal is at a switch of its own, which has a cable to the rest of the world.
		c.Network = false
		c.Args = append(c.Args, "-netdev", "hubport,id=port,hubid=0", "-device", "virtio-net-pci,netdev=port,id=nic,romfile=",
			"-netdev", "user,id=world,ipv6=off", "-netdev", "hubport,id=uplink,hubid=0,netdev=world")
	}})
	uplink := func(up bool) {
		_, err := r.Execute(r.ctx, "set_link", map[string]any{"name": "uplink", "up": up})
		r.must(err)
	}
	uplink(false)
	r.note("a cable, and nobody behind the switch")
	r.showsView("no address, wrong time, a module", neutral("NETWORK-NO-ADDRESS", "CLOCK-WRONG", named))
	r.touchable()
	r.must(r.SetLink(r.ctx, false))
	r.note("network cable out")
	r.showsView("no cable", neutral("NETWORK-DOWN", "CLOCK-WRONG", named))
	uplink(true)
	r.must(r.SetLink(r.ctx, true))
	r.note("network cable in; no time server answers")
	r.showsView("wrong time", neutral("CLOCK-WRONG", named))
	r.insert(healthy)
	r.problem("TERMINAL-CLOCK")
	r.remove()
	world.Time.Mute(false)
	r.note("the time server answers")
	r.showsView("the right time", neutral(named))
	r.must(r.SetLink(r.ctx, false))
	r.note("network cable out")
	r.insert(healthy)
	r.pin(pin)
	r.problem("SERVER-UNREACHABLE")
	r.remove()
	r.shows("neutral")
	r.must(r.SetLink(r.ctx, true))
	r.note("network cable in")
	r.visit("end")
	r.showsView("after a visit", neutral(named))
	n := r.off()
	r.logged(n, began("NETWORK-DOWN"), ended("NETWORK-DOWN"), began("NETWORK-NO-ADDRESS"), ended("NETWORK-NO-ADDRESS"),
		began("CLOCK-WRONG"), ended("CLOCK-WRONG"), began(failed),
		map[string]string{"component": "adv-init", "text": "KERNEL-MODULE-NOT-LOADED", "values": "map[module:8021q]"},
		map[string]string{"component": "adv-init", "log": "security", "name": "clock.state", "text": "CLOCK-WRONG"},
		map[string]string{"component": "adv-app", "log": "error", "text": "SERVER-UNREACHABLE"},
		map[string]string{"component": "adv-app", "log": "error", "text": "TERMINAL-CLOCK"},
		map[string]string{"component": "adv-app", "log": "flow", "name": "vsd.show", "result": "ok"})
	if n.has(ended(failed)) {
		t.Error("the module is said to have loaded after all")
	}
	if ms := n.clockSet(); ms < float64((5 * 365 * 24 * time.Hour).Milliseconds()) {
		t.Errorf("the clock was set by %.0f ms; want years", ms)
	}
}

// clockSet is by how many milliseconds the clock was set first, 0 when it was not.
func (n noted) clockSet() float64 {
	for _, e := range n.entries {
		if values, _ := e["values"].(map[string]any); e["name"] == "clock.set" {
			ms, _ := values["offset_ms"].(float64)
			return ms
		}
	}
	return 0
}

// partition is where the data partition lies in the image of a disk.
func partition(t *testing.T, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, disk.Data.Size)
	if _, err := f.ReadAt(b, disk.Start(disk.Data)); err != nil {
		t.Fatal(err)
	}
	return b
}

func debugfs(t *testing.T, file, command string, write bool) string {
	t.Helper()
	args := []string{"-R", command, fmt.Sprintf("%s?offset=%d", file, disk.Start(disk.Data))}
	if write {
		args = append([]string{"-w"}, args...)
	}
	out, err := exec.Command("debugfs", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("debugfs %s: %v\n%s", command, err, out)
	}
	return string(out)
}

// TestData boots with a data partition that is full, damaged or missing: the terminal serves, and says so. A partition that
// is not used is not written to.
func TestData(t *testing.T) {
	req.Covers(t, "AdV-A_2405")
	for _, tt := range []struct {
		name, code string
		spoil      func(t *testing.T, file string) string
	}{
		{"full", "DATA-FULL", func(t *testing.T, file string) string {
			big := filepath.Join(t.TempDir(), "big")
			if err := os.WriteFile(big, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			size, block := disk.Data.Size-17<<20, int64(4096) // ten of the sixteen MiB of the reserve are left
			debugfs(t, file, "write "+big+" big", true)
			debugfs(t, file, fmt.Sprintf("fallocate big 0 %d", size/block-1), true)
			debugfs(t, file, fmt.Sprintf("sif big size %d", size), true)
			if out := debugfs(t, file, "stat big", false); !strings.Contains(out, fmt.Sprintf("Size: %d\n", size)) || !strings.Contains(out, fmt.Sprintf("Blockcount: %d\n", size/512)) {
				t.Fatalf("the partition did not take the file:\n%s", out)
			}
			return file
		}},
		{"damaged", "DATA-DAMAGED", func(t *testing.T, file string) string {
			// The superblock is as it should be; what it describes is not there.
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			if err == nil {
				_, err = f.WriteAt(bytes.Repeat([]byte{0xA5}, 4096), disk.Start(disk.Data)+4096)
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
			return file
		}},
		{"missing", "DATA-MISSING", func(*testing.T, string) string { return "none" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := tt.spoil(t, copyFile(t, world.Image.Disk))
			before := [32]byte{}
			if file != "none" {
				before = sha256.Sum256(partition(t, file))
			}
			r := boot(t, appliance.Options{Disk: file})
			r.showsView("data partition "+tt.name, neutral(tt.code))
			r.touchable()
			r.visit("end")
			r.showsView("data partition "+tt.name+", after a visit", neutral(tt.code))
			r.must(r.PowerButton(r.ctx))
			r.must(r.Wait(r.ctx))
			r.note("off")
			switch tt.name {
			case "damaged":
				if sha256.Sum256(partition(t, file)) != before {
					t.Error("the damaged partition was written to")
				}
			case "full":
				r.clean()
				if out := debugfs(t, file, "ls -p /log", false); strings.Contains(out, "adv-app") {
					t.Errorf("logs on a partition that is full:\n%s", out)
				}
			}
		})
	}
}

// mistake is what is wrong in an overlay, and words of what the builder and the terminal must say about it.
type mistake struct{ file, key, what, fix string }

const configFile = "etc/adv/terminal.json"

// TestMistakes: the image builder refuses an overlay with mistakes and names all of them with file, key and remedy; a
// terminal that has such an overlay all the same shows each of them to the technician, page after page.
func TestMistakes(t *testing.T) {
	req.Covers(t, "AdV-A_2405")
	wants := []mistake{
		{configFile, "display.rotation", "45", "write 0, 90, 180, 270"},
		{configFile, "display.platform", "memory", "write `drm`"},
		{configFile, "usb.allow[0].class", "keyboard", "write `touch`"},
		{configFile, "network.vlan", "5000", "write 1 to 4094"},
		{configFile, "time.max_offset_s", "a text", "write 1 to 86400"},
		{configFile, "server.adress", "is no key", "did you mean \"server.address\"?"},
		{configFile, "server.address", "is missing", "add it: `host:port`"},
		{"etc/adv/trust/tls", "server.trust_store", "server.pem", "put the AdV-Server's own TLS certificate"},
	}
	spoiled := map[string][]byte{}
	_, err := world.Build(t.Context(), "mistakes", func(files map[string][]byte, c map[string]any) {
		c["display"] = map[string]any{"platform": "memory", "rotation": 45} // told on the display all the same
		c["usb"] = map[string]any{"allow": []any{map[string]any{"id": "1209:0ADF", "class": "keyboard"}}}
		c["network"] = map[string]any{"vlan": 5000}
		c["time"] = map[string]any{"max_offset_s": "a minute"}
		c["server"] = map[string]any{"adress": "adv.insurer.example:8443"}
		b, err := json.MarshalIndent(c, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		spoiled[configFile] = b
		spoiled["etc/adv/trust/tls/server.pem"] = []byte("-----BEGIN CERTIFICATE-----\nbm8gY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n")
		maps.Copy(files, spoiled)
	})
	if wrong := (build.ProblemsError)(nil); !errors.As(err, &wrong) {
		t.Fatalf("the image builder says: %v", err)
	}
	overlay, aerr := filepath.Abs(filepath.Join(root, "out", "vm", "mistakes-overlay"))
	if aerr != nil {
		t.Fatal(aerr)
	}
	// What the builder says of the overlay is what the terminal says of its own files, in the same order.
	said := strings.NewReplacer(overlay+"/", "/", filepath.Join(root, "out", "vm", "mistakes-overlay")+"/", "/").Replace(err.Error())
	var problems []terminal.Problem
	for line := range strings.Lines(said) {
		for _, w := range wants {
			text, ok := strings.CutPrefix(strings.TrimSpace(line), "/"+w.file+": "+w.key+": ")
			if what, fix, both := strings.Cut(text, "; "+w.fix); ok && both && strings.Contains(what, w.what) {
				problems = append(problems, terminal.Problem{File: "/" + w.file, Key: w.key, What: what, Fix: w.fix + fix})
			}
		}
	}
	if len(problems) != len(wants) || strings.Count(said, "\n") != len(wants) {
		t.Errorf("the image builder names %v, want %v; it says: %v", problems, wants, said)
	}

	r := boot(t, appliance.Options{Image: with(t, world.Image, spoiled)})
	const page = 4
	for first := 0; first < len(problems); first += page {
		r.seesMistakes(terminal.CauseConfiguration, first, problems[first:min(first+page, len(problems))], len(problems), patience)
	}
	r.logged(r.off(), map[string]string{"component": "adv-init", "log": "error", "text": "TERMINAL-CONFIGURATION-WRONG"})
}

// seesMistakes waits for a page of the technician's screen.
func (r *run) seesMistakes(cause terminal.Cause, first int, problems []terminal.Problem, total int, within time.Duration) {
	r.t.Helper()
	facts := []terminal.Fact{{Name: "about as much as a terminal knows of itself", Value: strings.Repeat("0 ", 60)}}
	l, err := draw(fmt.Sprintf("mistakes, %s, from %d", cause, first), view.View{Screen: view.Fault, TriesLeft: -1, Fault: &view.FaultInfo{
		Cause: cause, Problems: problems, First: first, Total: total, Facts: facts,
	}})
	r.must(err)
	missing := ""
	defer func() {
		if missing != "" {
			r.t.Logf("not on the technician's screen: %s", missing)
		}
	}()
	r.see(fmt.Sprintf("mistakes %d to %d", first+1, first+len(problems)), within, func(img *image.RGBA) bool {
		missing = ""
		for _, e := range l.elements {
			ours := slices.ContainsFunc(problems, func(p terminal.Problem) bool {
				return e.Label != "" && (e.Label == p.Key || e.Label == p.File || e.Label == p.What || strings.Contains(e.Label, p.Fix))
			})
			if ours && !anywhere(img, l.picture, e.Ink) {
				missing = e.Label
				return false
			}
		}
		title, _ := l.in(img, false)
		return title
	})
}

// stranger is a USB device that has no business at a terminal. It hears whether a driver has taken it.
type stranger struct {
	usbredir.Description
	taken atomic.Int64
}

func (s *stranger) Describe() usbredir.Description { return s.Description }
func (s *stranger) Attached(*usbredir.Link)        {}
func (s *stranger) Detached()                      {}
func (s *stranger) Control(usbredir.Setup, []byte) ([]byte, bool) {
	s.taken.Add(1)
	return nil, false
}
func (s *stranger) Out(byte, []byte) bool { s.taken.Add(1); return false }
func (s *stranger) Cancelled(byte)        { s.taken.Add(1) }
func (s *stranger) Polled(byte)           { s.taken.Add(1) }

// keys is the interface of a keyboard: HID, boot protocol 1.
var keys = usbredir.Interface{
	Class: 3, SubClass: 1, Protocol: 1, Extra: []byte{9, 0x21, 0x11, 0x01, 0, 1, 0x22, 63, 0},
	Endpoints: []usbredir.Endpoint{{Address: 0x84, Kind: usbredir.Interrupt, MaxPacket: 8, Interval: 10}},
}

// TestStrangers boots with USB devices that are not to be let in, and plugs more in later: a keyboard, a stick that says it
// is the data partition, a reader of a known model that types as well. They are refused and noted as security events; the
// terminal serves. Its clock is years ahead meanwhile, and is set right before anybody comes. What is typed at a keyboard that
// is refused comes nowhere; that the kernel does not heed Ctrl-Alt-Del and SysRq from one that is not is a setting, which
// TestServicesAreConfined reads.
func TestStrangers(t *testing.T) {
	req.Covers(t, "AdV-A_2405")
	stick := copyFile(t, world.Image.Disk)
	stickBefore := sha256.Sum256(partition(t, stick))
	reader := simreader.New(simreader.Config{})
	typing := &stranger{Description: ccid.New(ccid.Config{Reader: reader}).Describe()}
	typing.Interfaces = append(slices.Clone(typing.Interfaces), keys)
	later := &stranger{Description: usbredir.Description{
		Speed: usbredir.FullSpeed, Vendor: 0x1209, Product: 0x0BAD, Version: 0x0100, Maker: "Nobody", Name: "Keys", Interfaces: []usbredir.Interface{keys},
	}}
	dir := t.TempDir()
	var ports []*usbredir.Port
	for i := range 2 {
		p, err := usbredir.Listen(filepath.Join(dir, fmt.Sprint("p", i)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		ports = append(ports, p)
	}
	ports[0].Attach(typing)
	r := boot(t, appliance.Options{Readers: []ccid.Config{{Reader: reader}}, Change: func(c *machine.Config) {
		c.Clock = time.Now().AddDate(5, 0, 0)
		c.USB = append(c.USB, ports[0].Path(), ports[1].Path())
		c.Devices = append(c.Devices, "usb-kbd,bus=xhci.0,id=kbd")
		c.Args = append(c.Args, "-drive", "if=none,format=raw,id=stick,file="+stick)
	}})
	r.showsView("a keyboard and a reader that types, at boot", neutral())
	r.touchable()
	calm := r.shows("neutral")
	ports[1].Attach(later)
	r.must(r.Plug(r.ctx, "usb-storage,bus=xhci.0,id=stickdev,drive=stick"))
	r.note("plugged in: another keyboard and a stick")
	for _, combination := range []string{"ctrl alt delete", "alt f2", "alt sysrq b", "ret", "a"} {
		var press []map[string]string
		for key := range strings.FieldsSeq(combination) {
			press = append(press, map[string]string{"type": "qcode", "data": key})
		}
		_, err := r.Execute(r.ctx, "send-key", map[string]any{"keys": press, "hold-time": 30})
		r.must(err)
	}
	r.note("keys pressed at the refused keyboard")
	r.online() // and the clock is right
	r.visit("end")
	if img := r.showsView("neutral after it all", neutral()); !bytes.Equal(img.Pix, calm.Pix) {
		t.Error("the screen has changed")
	}
	n := r.off()
	got := map[string]int{}
	for _, e := range n.entries {
		if v, _ := e["values"].(map[string]any); e["log"] == "security" && e["component"] == "adv-init" && e["name"] == "usb.refused" && e["result"] == "refused" {
			num := func(k string) int { f, _ := v[k].(float64); return int(f) }
			got[fmt.Sprintf("%04X:%04X", num("vendor"), num("product"))] = num("reason")
		}
	}
	want := map[string]int{
		"0627:0001": int(usb.ReasonUnknown),    // QEMU's keyboard
		"46F4:0001": int(usb.ReasonUnknown),    // QEMU's stick
		"1209:0BAD": int(usb.ReasonUnknown),    // ours
		"0D46:3002": int(usb.ReasonInterfaces), // a reader's number, and keys
	}
	if !maps.Equal(got, want) {
		t.Errorf("refused devices in the log (with reasons): %v, want %v", got, want)
	}
	for name, s := range map[string]*stranger{"the reader that types": typing, "the keyboard": later} {
		if n := s.taken.Load(); n != 0 {
			t.Errorf("a driver has taken %s (%d requests)", name, n)
		}
	}
	if sha256.Sum256(partition(t, stick)) != stickBefore {
		t.Error("the stick was written to")
	}
	if ms := n.clockSet(); ms > -float64((4 * 365 * 24 * time.Hour).Milliseconds()) {
		t.Errorf("the clock was set by %.0f ms; want years back", ms)
	}
	r.logged(n, map[string]string{"component": "adv-app", "log": "flow", "name": "vsd.show", "result": "ok"})
	if n.has(began("CLOCK-WRONG")) || n.has(began("READER-SEVERAL")) {
		t.Error("a fault was noted that the terminal did not have")
	}
}

// moduleOf takes a kernel module out of an image.
func moduleOf(t *testing.T, image build.Result, module string) (name string, content []byte) {
	t.Helper()
	return fileOf(t, image, func(name string) bool {
		return strings.ReplaceAll(filepath.Base(name), "-", "_") == module+".ko"
	})
}
