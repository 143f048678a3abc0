package terminal

import (
	"encoding/hex"
	"fmt"
	"math"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ktradv/internal/advlog"
	"ktradv/internal/readers"
)

// Field is what may stand at one key of the file.
type Field struct {
	// Key is the place, as in "display.width"; "[]" stands for every element of a list.
	Key string
	// Values says what may stand there.
	Values string
	// Default is the value when it is left out, as JSON; "" where Absent says in words what holds then.
	Default string
	Absent  string
	// Doc says what it means.
	Doc string

	ok   func(v any) bool // nil takes every value of the type; for lists of texts and numbers: every element
	path bool             // made absolute
	max  int              // elements of a list
}

// required is the word of Absent for keys that must not be left out.
const required = "**required**"

// Fields is the table of all keys, in the order of the handbook.
var Fields = []Field{
	{Key: "display.platform", Values: "`drm`, `window`, `memory`", Default: `"drm"`, ok: among("drm", "window", "memory"),
		Doc: "where the screens go: the terminal's own display; a desktop window (a build with the tag `window`); nowhere (demo)"},
	{Key: "display.width", Values: "640 to 7680", Default: "1280", ok: within(640, 7680),
		Doc: "pixels, as the person sees it, after rotation. With `drm` the display's own mode counts, and this only until there is one; the right size spares a second layout at power on"},
	{Key: "display.height", Values: "480 to 7680", Default: "800", ok: within(480, 7680), Doc: "likewise"},
	{Key: "display.diagonal_mm", Values: "150 to 2000", Absent: "what the display says about itself, else 390", ok: within(150, 2000),
		Doc: "diagonal of the panel, for touch targets of the right size"},
	{Key: "display.rotation", Values: "0, 90, 180, 270", Default: "0", ok: among(0, 90, 180, 270), Doc: "`drm`: how far the picture is turned, clockwise; touches turn with it"},
	{Key: "display.output", Values: "for example `HDMI-A-1`", Absent: "the first one with a display", ok: text(1, 32), Doc: "`drm`: the connector"},
	{Key: "touch.calibration", Values: "six numbers from -100 to 100", Absent: "none", ok: element,
		Doc: "libinput's calibration matrix `[a, b, c, d, e, f]`: x' = ax + by + c, y' = dx + ey + f, both axes from 0 to 1 on the unturned panel. Mirrored: `[-1, 0, 1, 0, 1, 0]`; axes exchanged: `[0, 1, 0, 1, 0, 0]`"},
	{Key: "reader.name", Values: "part of the PC/SC name", Absent: "the only one", ok: text(1, 128), Doc: "which reader, upper and lower case alike, where several are plugged in"},
	{Key: "reader.socket", Values: "path", Absent: "the system's", ok: text(1, 100), path: true, Doc: "pcscd's socket"},
	{Key: "reader.pcscd_config", Values: "folder", Absent: "pcscd belongs to the system", ok: text(1, 1024), path: true,
		Doc: "the kiosk runs and supervises a pcscd of its own with these `reader.conf` files (needs `reader.socket`); for demonstrations"},
	{Key: "reader.pcscd_private", Values: "`true`, `false`", Default: "false", Doc: "hide that pcscd from the system's own, on a machine that has both (needs `reader.pcscd_config`)"},
	{Key: "readers", Values: "list", Absent: "the models of the handbook", max: 64, Doc: "reader models that the handbook does not list, or lists differently; these come first"},
	{Key: "readers[].name", Values: "part of the PC/SC name", Absent: "picked by `usb` alone", ok: text(3, 128), Doc: "the model's name, upper and lower case alike"},
	{Key: "readers[].usb", Values: "`VVVV:PPPP`, hexadecimal", Absent: "picked by `name` alone", ok: usbID, Doc: "vendor and product. A USB reader is let in only if a model has its number; the card service's driver, libccid, has to know it, too"},
	{Key: "readers[].pin_format", Values: "`89/47/04`, `41/48/04`, `81/48/04`", Absent: "`89/47/04`",
		ok:  among(readers.PINFormatBytes, readers.PINFormatBits, readers.PINFormatFPIN2),
		Doc: "how the PIN block is described to the reader. **Try with a test card only**: a wrong spelling costs PIN tries"},
	{Key: "readers[].display", Values: "`true`, `false`", Absent: "what the driver says", Doc: "whether the reader has a display"},
	{Key: "readers[].verify_messages", Values: "0 to 255", Absent: "by the display", ok: within(0, 255), Doc: "number of messages in a request for a PIN (PC/SC part 10)"},
	{Key: "readers[].modify_messages", Values: "0 to 255", Absent: "by the display", ok: within(0, 255), Doc: "the same for a new PIN"},
	{Key: "readers[].free_text", Values: "`true`, `false`", Absent: "what the driver says", Doc: "`false`: do not use the display's free text although the driver offers it"},
	{Key: "readers[].entry_timeout_s", Values: "30 to 60", Absent: "30", ok: within(30, 60), Doc: "seconds that the reader waits for a key"},
	{Key: "readers[].min_firmware", Values: "`N.NN`", Absent: "every one", ok: firmware, Doc: "lowest firmware (bcdDevice of the USB device) with which the reader works"},
	{Key: "usb.allow", Values: "list", Absent: "none", max: 64, Doc: "USB devices that are let in beside hubs and readers of known models. Everything else is refused and logged"},
	{Key: "usb.allow[].id", Values: "`VVVV:PPPP`, hexadecimal", Absent: required, ok: usbID, Doc: "vendor and product"},
	{Key: "usb.allow[].class", Values: "`touch`, `reader`", Absent: required, ok: among(USBTouch, USBReader), Doc: "what it is; a device with an interface of another class is refused"},
	{Key: "network.mode", Values: "`dhcp`, `static`", Default: `"dhcp"`, ok: among(NetworkDHCP, NetworkStatic), Doc: "where the terminal's address comes from"},
	{Key: "network.interface", Values: "for example `eth0`", Absent: "the first Ethernet interface", ok: matches(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,14}$`), Doc: "the interface"},
	{Key: "network.vlan", Values: "1 to 4094", Absent: "untagged", ok: within(1, 4094), Doc: "VLAN tag"},
	{Key: "network.address", Values: "address/length, for example `192.0.2.10/24`", Absent: "by DHCP", ok: prefix, Doc: "`static`: the terminal's address; required there"},
	{Key: "network.gateway", Values: "address", Absent: "by DHCP, or none", ok: address, Doc: "`static`: the router"},
	{Key: "network.dns", Values: "list of addresses", Absent: "by DHCP, or none", ok: address, max: 3, Doc: "`static`: name servers; needed when `server.address` is a name"},
	{Key: "time.servers", Values: "list of `host` or `host:port`", Absent: "by DHCP", ok: hostMaybePort, max: 4, Doc: "NTP servers"},
	{Key: "time.max_offset_s", Values: "1 to 86400", Default: "60", ok: within(1, 86400), Doc: "how wrong the clock may be before the terminal says so, in seconds"},
	{Key: "modules.extra", Values: "list of names", Absent: "none", ok: matches(`^[a-z0-9][a-z0-9_-]{0,55}$`), max: 64,
		Doc: "kernel modules beside those that the image always loads, for example the display's driver"},
	{Key: "data.min_free_mib", Values: "1 to 64", Default: "16", ok: within(1, MaxFreeMiB), Doc: "free space on the data partition below which it counts as full, in MiB"},
	{Key: "server.address", Values: "`host:port`", Absent: required, ok: hostPort, Doc: "the AdV-Server. The host must stand in its certificate"},
	{Key: "server.trust_store", Values: "folder", Default: `"trust/tls"`, ok: text(1, 1024), path: true,
		Doc: "the server's own TLS certificate(s), `*.pem`. Neither folder nor file may be writable for group or others; CA certificates are refused"},
	{Key: "server.trust_digest", Values: "64 hexadecimal digits", Absent: "the folder's protection counts", ok: hexDigits(64),
		Doc: "SHA-256 over the trust store's certificates (DER, sorted), which `adv-kiosk -check` prints: with it nobody can exchange them (AdV-A_2417)"},
	{Key: "card_roots", Values: "folder", Default: `"trust/cvc"`, ok: text(1, 1024), path: true, Doc: "pinned CVC roots, `*.cvc` (self-signed) or public keys"},
	{Key: "log.enabled", Values: "`true`, `false`", Default: "false", Doc: "logs are off unless this is a terminal (AdV-A_2437)"},
	{Key: "log.dir", Values: "folder", Default: `"/log/kiosk"`, ok: text(1, 1024), path: true, Doc: "where the log files go; on the appliance `log/kiosk` of the data partition, which stands there, and no other place"},
	{Key: "log.level", Values: "`debug` (with `log.test`), `info`, `warning`, `error`, `fatal`", Default: `"info"`, ok: severity, Doc: "lowest severity in the error log (AdV-A_2439)"},
	{Key: "log.test", Values: "`true`, `false`", Default: "false", Doc: "allows the debug stream; never in production"},
	{Key: "design", Values: "folder", Absent: "the product's own", ok: text(1, 1024), path: true, Doc: "the insurer's `ui.json`: name, logo, colours, texts"},
	{Key: "idle.end_seconds", Values: "1 to 300", Default: "300", ok: within(1, 300), Doc: "end of the session without activity (AdV-A_2410)"},
	{Key: "idle.warn_seconds", Values: "1 to 240", Absent: "240, or four fifths of `end_seconds`", ok: within(1, 240), Doc: "when the countdown appears"},
	{Key: "idle.blank_seconds", Values: "1 to 60", Default: "60", ok: within(1, 60), Doc: "when personal data are hidden until a touch"},
	{Key: "terminal_id", Values: "16 hexadecimal digits", Default: `"0000000000000000"`, ok: hexDigits(16), Doc: "names this terminal in the token that the card signs"},
	{Key: "door", Values: "path", Absent: "none", ok: text(1, 100), path: true, Doc: "demo builds only; a production build refuses the file"},
}

// The checks. Each gets a value of the type of its field.

func among[T comparable](values ...T) func(any) bool {
	return func(v any) bool { t, ok := v.(T); return ok && slices.Contains(values, t) }
}

func within(low, high int) func(any) bool {
	return func(v any) bool { n, ok := v.(int); return ok && n >= low && n <= high }
}

func text(low, high int) func(any) bool {
	return func(v any) bool {
		s := v.(string)
		return len(s) >= low && len(s) <= high && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7F })
	}
}

// matches compiles its pattern when it is first needed: most terminals never need it, and all of them boot in a hurry.
func matches(pattern string) func(any) bool {
	re := sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
	return func(v any) bool { return re().MatchString(v.(string)) }
}

func hexDigits(n int) func(any) bool {
	return func(v any) bool {
		b, err := hex.DecodeString(v.(string))
		return err == nil && len(b) == n/2
	}
}

func element(v any) bool { f := v.(float64); return math.Abs(f) <= 100 }

func usbID(v any) bool { _, err := readers.ParseUSB(v.(string)); return err == nil }

func firmware(v any) bool { _, err := readers.ParseFirmware(v.(string)); return err == nil }

func prefix(v any) bool {
	p, err := netip.ParsePrefix(v.(string))
	return err == nil && p.Addr().Zone() == "" && unicast(p.Addr())
}

func address(v any) bool {
	a, err := netip.ParseAddr(v.(string))
	return err == nil && a.Zone() == "" && unicast(a)
}

func unicast(a netip.Addr) bool { return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() }

func severity(v any) bool { _, err := advlog.ParseSeverity(v.(string)); return err == nil }

var hostName = matches(`^([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?\.)*[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?$`)

func host(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil || len(s) <= 253 && hostName(s)
}

func hostPort(v any) bool {
	h, p, err := net.SplitHostPort(v.(string))
	n, perr := strconv.ParseUint(p, 10, 16)
	return err == nil && perr == nil && n > 0 && host(h)
}

func hostMaybePort(v any) bool { return host(v.(string)) || hostPort(v) }

// Table gives the fields as the handbook's table (Markdown).
func Table() string {
	var b strings.Builder
	b.WriteString("| field | values | when left out | means |\n|---|---|---|---|\n")
	for _, f := range Fields {
		absent := f.Absent
		if absent == "" {
			absent = "`" + strings.Trim(f.Default, `"`) + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Key, f.Values, absent, f.Doc)
	}
	return b.String()
}
