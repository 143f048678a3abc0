//go:build vm

package vm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/req"
	"ktradv/qemu/ccid"
	"ktradv/qemu/machine"
	"ktradv/qemu/touch"
	"ktradv/tests/demo/appliance"
)

// lan is the switch between the terminal and the rest of the world: every frame passes here and is noted. The terminal's port
// carries one VLAN, tagged (IEEE 802.1Q), or, with tag 0, no tags at all; what comes with another tag goes no further.
type lan struct {
	tag              uint16
	terminal, uplink *net.UnixConn
	nic, world       string // where QEMU's ends are

	mu   sync.Mutex
	seen map[frame]int
}

// frame is what is noted of a frame that the terminal has sent.
type frame struct {
	Tag  uint16
	Type uint16     // EtherType behind the tag
	From netip.Addr // IPv4 alone, as is what follows
	To   netip.Addr
	DHCP bool
	Next string // hardware address of the next hop
}

const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeVLAN = 0x8100
)

// dissect reads a frame of the terminal.
func dissect(b []byte) (f frame, ok bool) {
	if len(b) < 14 {
		return f, false
	}
	f.Next = net.HardwareAddr(b[:6]).String()
	f.Type, b = binary.BigEndian.Uint16(b[12:]), b[14:]
	if f.Type == typeVLAN {
		if len(b) < 4 {
			return f, false
		}
		f.Tag, f.Type, b = binary.BigEndian.Uint16(b)&0xFFF, binary.BigEndian.Uint16(b[2:]), b[4:]
	}
	if f.Type != typeIPv4 || len(b) < 24 {
		f.Next = ""
		return f, true
	}
	f.From, f.To = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	const udp, server = 17, 67
	if head := int(b[0]&0xF) * 4; b[9] == udp && len(b) >= head+4 {
		f.DHCP = binary.BigEndian.Uint16(b[head+2:]) == server
	}
	return f, true
}

// connect makes the switch, for a machine with its configuration.
func connect(t *testing.T, tag uint16) (*lan, func(*machine.Config)) {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	l := &lan{tag: tag, nic: at("nic"), world: at("world"), seen: map[frame]int{}}
	for name, c := range map[string]**net.UnixConn{"port": &l.terminal, "uplink": &l.uplink} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at(name), Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		*c = conn
	}
	go l.carry(l.terminal, l.uplink, l.world, l.leave)
	go l.carry(l.uplink, l.terminal, l.nic, l.enter)
	end := func(id, own, other string) string {
		return fmt.Sprintf("dgram,id=%s,local.type=unix,local.path=%s,remote.type=unix,remote.path=%s", id, at(own), at(other))
	}
	return l, func(c *machine.Config) {
		c.Network = false
		c.Args = append(c.Args, "-netdev", end("lan", "nic", "port"), "-device", "virtio-net-pci,netdev=lan,id=nic,romfile=",
			"-netdev", end("up", "world", "uplink"), "-netdev", "hubport,id=p0,hubid=0,netdev=up",
			"-netdev", "user,id=world,ipv6=off", "-netdev", "hubport,id=p1,hubid=0,netdev=world")
	}
}

// carry takes frames from one side to the other until the switch is taken down.
func (l *lan) carry(from, to *net.UnixConn, end string, pass func([]byte) []byte) {
	b := make([]byte, 1<<16)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if out := pass(b[:n]); out != nil {
			// Where nobody listens, as with a machine that is off, a frame is lost.
			_, _ = to.WriteToUnix(out, &net.UnixAddr{Name: end, Net: "unixgram"})
		}
	}
}

// nowhere is an address that only a router could know the way to (RFC 5737).
var nowhere = netip.MustParseAddr("192.0.2.1")

// leave notes what the terminal sends, and gives what goes out into the world.
func (l *lan) leave(b []byte) []byte {
	f, ok := dissect(b)
	if !ok {
		return nil
	}
	l.mu.Lock()
	l.seen[f]++
	l.mu.Unlock()
	switch {
	case f.Tag != l.tag || f.To == nowhere:
		return nil
	case f.Tag != 0:
		return append(bytes.Clone(b[:12]), b[16:]...)
	}
	return b
}

// enter gives what reaches the terminal of what the world sends.
func (l *lan) enter(b []byte) []byte {
	if l.tag == 0 || len(b) < 14 {
		return b
	}
	tag := binary.BigEndian.AppendUint16([]byte{typeVLAN >> 8, typeVLAN & 0xFF}, l.tag)
	return append(append(bytes.Clone(b[:12]), tag...), b[12:]...)
}

// sent counts the frames of the terminal that fulfil a condition.
func (l *lan) sent(is func(frame) bool) (n int) {
	l.mu.Lock()
	seen := maps.Clone(l.seen)
	l.mu.Unlock()
	for f, count := range seen {
		if is(f) {
			n += count
		}
	}
	return n
}

// noted is everything that was seen, for a failure.
func (l *lan) noted() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out strings.Builder
	for f, count := range l.seen {
		fmt.Fprintf(&out, "%5d  %+v\n", count, f)
	}
	return out.String()
}

// TestHardware has a terminal whose overlay says everything about its hardware that an overlay can: a display that hangs on
// its side, a touch panel that is mirrored and measures beside itself, an address of its own in place of DHCP, a reader that
// the product does not know, with its own spelling of the PIN block and without a display, beside one that is not meant. A
// person visits it as any other.
func TestHardware(t *testing.T) {
	req.Covers(t, "AdV-A_2405")
	const own, gateway = "10.0.2.77", "10.0.2.2"
	calibration := [6]float64{-1.25, 0, 1.2, 0, 1.1, -0.05}
	built, err := world.Build(t.Context(), "hardware", func(_ map[string][]byte, c map[string]any) {
		c["display"] = map[string]any{"platform": "drm", "width": appliance.Height, "height": appliance.Width, "diagonal_mm": 390, "rotation": 90}
		c["touch"] = map[string]any{"calibration": calibration}
		c["network"] = map[string]any{"mode": "static", "address": own + "/24", "gateway": gateway}
		servers, _ := c["time"].(map[string]any)["servers"].([]string)
		c["time"] = map[string]any{"servers": append([]string{nowhere.String()}, servers...)}
		c["reader"] = map[string]any{"name": "xx1x"}
		c["readers"] = []any{map[string]any{"usb": "046A:0070", "display": false, "pin_format": "41/48/04"}}
	})
	if err != nil {
		t.Fatal(err)
	}
	facing = image.Pt(appliance.Height, appliance.Width)
	t.Cleanup(func() { facing = image.Pt(appliance.Width, appliance.Height) })
	// What a panel that needs this calibration sends: the matrix turned round.
	sends := func(p touch.Point) touch.Point {
		return touch.Point{X: (p.X - calibration[2]) / calibration[0], Y: (p.Y - calibration[5]) / calibration[4]}
	}
	meant, other := simreader.New(simreader.Config{}), simreader.New(simreader.Config{})
	meant.SetFailures(simreader.Failures{NoDisplay: true, OnlyFormat: [3]byte{0x41, 0x48, 0x04}})
	network, plug := connect(t, 0)
	// Nobody answers questions for the time until the one to the server behind the router was seen: asked between address and
	// route, it goes nowhere, and once another server has answered it is not asked again for long.
	world.Time.Mute(true)
	defer world.Time.Mute(false)
	r := boot(t, appliance.Options{
		Image: &built, Rotation: 90, Sends: sends, Change: plug,
		Readers: []ccid.Config{{Reader: meant, Vendor: 0x046A, Product: 0x0070, Name: "SmartTerminal XX1X"}, {Reader: other}},
	})
	r.showsView("neutral, on its side", neutral())
	raw, err := r.Machine.Screen(r.ctx)
	r.must(err)
	if raw.Rect != image.Rect(0, 0, appliance.Width, appliance.Height) {
		t.Fatalf("the display itself shows %v", raw.Rect)
	}
	r.shot("the display itself", raw)
	byRouter := func(f frame) bool { // to the gateway's hardware address, where the way to all others leads
		return f.To == nowhere && network.sent(func(g frame) bool { return g.To == netip.MustParseAddr(gateway) && g.Next == f.Next }) > 0
	}
	for end := time.Now().Add(patience); network.sent(byRouter) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the terminal does not send to strangers by its router:\n%s", network.noted())
		}
	}
	world.Time.Mute(false)
	r.touchable()
	r.visit("pin")
	if s := meant.State(); strings.Contains(s.Display, "PIN") {
		t.Errorf("a reader that is said to have no display shows %q", s.Display)
	}
	if s := other.State(); s.Powered || s.Awaiting != "" {
		t.Errorf("the reader that is not meant: %+v", s)
	}
	r.pin(pin)
	r.shows("menu")
	r.beside(sends, "menu", showData)
	r.tap("menu", showData)
	r.shows("data")
	r.beside(sends, "data", end)
	r.tap("data", end)
	r.shows("take_card")
	r.remove()
	r.showsView("neutral after a visit", neutral())

	n := r.off()
	r.logged(n, map[string]string{"component": "adv-app", "log": "flow", "name": "vsd.show", "result": "ok"})
	from := netip.MustParseAddr(own)
	for what, wrong := range map[string]bool{
		"asks for an address":  network.sent(func(f frame) bool { return f.DHCP }) > 0,
		"uses another address": network.sent(func(f frame) bool { return f.Type == typeIPv4 && f.From != from }) > 0,
		"sends tags":           network.sent(func(f frame) bool { return f.Tag != 0 }) > 0,
	} {
		if wrong {
			t.Errorf("the terminal %s:\n%s", what, network.noted())
		}
	}
}

// beside makes sure that a touch of a button means something only by the calibration: taken as it is sent, it would miss.
func (r *run) beside(sends func(touch.Point) touch.Point, screen, label string) {
	r.t.Helper()
	l, err := sample(screen)
	r.must(err)
	at, err := l.button(label)
	r.must(err)
	p := sends(touch.Point{X: 1 - float64(at.Y)/appliance.Width, Y: float64(at.X) / appliance.Height})
	taken := image.Pt(int(p.Y*appliance.Height), int((1-p.X)*appliance.Width))
	for _, e := range l.elements {
		if e.Label == label && taken.In(e.Rect) {
			r.t.Fatalf("a touch of %q at %v is sent as %v, which is on it as well", label, at, taken)
		}
	}
}

// TestVLAN has a terminal in a VLAN, where it gets its address by DHCP and reaches server and time. Nothing of it leaves
// without the tag.
func TestVLAN(t *testing.T) {
	req.Covers(t, "AdV-A_2405")
	const tag = 7
	image, err := world.Build(t.Context(), "vlan", func(_ map[string][]byte, c map[string]any) {
		c["network"] = map[string]any{"mode": "dhcp", "vlan": tag}
	})
	if err != nil {
		t.Fatal(err)
	}
	network, plug := connect(t, tag)
	r := boot(t, appliance.Options{Image: &image, Change: plug})
	r.showsView("in a VLAN", neutral())
	r.touchable()
	r.visit("end")
	r.showsView("in a VLAN, after a visit", neutral())
	n := r.off()
	r.logged(n, map[string]string{"component": "adv-app", "log": "flow", "name": "vsd.show", "result": "ok"})
	for what, wrong := range map[string]bool{
		"does not ask for an address in its VLAN": network.sent(func(f frame) bool { return f.Tag == tag && f.DHCP }) == 0,
		"sends without its tag":                   network.sent(func(f frame) bool { return f.Tag != tag }) > 0,
	} {
		if wrong {
			t.Errorf("the terminal %s:\n%s", what, network.noted())
		}
	}
	for _, e := range n.entries {
		if e["component"] == "adv-init" && (e["name"] == "service.network" || e["text"] == "SET-UP-STEP-FAILED") {
			t.Errorf("the first process notes %v", e)
		}
	}
}
