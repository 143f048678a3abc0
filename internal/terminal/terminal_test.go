package terminal

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ktradv/internal/advlog"
	"ktradv/internal/readers"
	"ktradv/internal/req"
)

const smallest = `{"server":{"address":"adv.example:8443"}}`

const file = "/etc/adv/terminal.json"

func TestDefaults(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2437")
	c, problems := Parse([]byte(smallest), file)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := Config{
		Display: Display{Platform: "drm", Width: 1280, Height: 800},
		Network: Network{Mode: NetworkDHCP}, Time: Time{MaxOffsetS: 60}, Data: Data{MinFreeMiB: 16},
		Server:    Server{Address: "adv.example:8443", TrustStore: "/etc/adv/trust/tls"},
		CardRoots: "/etc/adv/trust/cvc",
		Log:       Log{Dir: "/log/kiosk", Level: "info"}, // off
		Idle:      Idle{EndSeconds: 300, WarnSeconds: 240, BlankSeconds: 60}, TerminalID: "0000000000000000",
	}
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
}

// everything is a file with every key of the table.
const everything = `{
  "display": {"platform": "drm", "width": 1920, "height": 1080, "diagonal_mm": 545, "rotation": 90, "output": "HDMI-A-1"},
  "touch": {"calibration": [0, 1, 0, -1, 0, 1]},
  "reader": {"name": "KOBIL", "socket": "run/pcscd.comm", "pcscd_config": "conf", "pcscd_private": true},
  "readers": [
    {"name": "Some Reader", "usb": "dead:BEEF", "pin_format": "41/48/04", "display": true, "verify_messages": 0,
     "modify_messages": 3, "free_text": false, "entry_timeout_s": 45, "min_firmware": "1.20"},
    {"usb": "1234:5678"}
  ],
  "usb": {"allow": [{"id": "222A:0001", "class": "touch"}, {"id": "222A:0002", "class": "reader"}]},
  "network": {"mode": "static", "interface": "eth0", "vlan": 7, "address": "192.0.2.10/24", "gateway": "192.0.2.1", "dns": ["192.0.2.53", "2001:db8::53"]},
  "time": {"servers": ["ntp.example", "192.0.2.2:123"], "max_offset_s": 5},
  "modules": {"extra": ["i915"]},
  "data": {"min_free_mib": 32},
  "server": {"address": "[2001:db8::1]:443", "trust_store": "/tls", "trust_digest": "` + "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff" + `"},
  "card_roots": "cvc",
  "log": {"enabled": true, "dir": "log", "level": "debug", "test": true},
  "design": "design",
  "idle": {"end_seconds": 120, "warn_seconds": 100, "blank_seconds": 30},
  "terminal_id": "0011223344556677",
  "door": "door.sock"
}`

func ptr[T any](v T) *T { return &v }

func TestEverything(t *testing.T) {
	t.Parallel()
	c, problems := Parse([]byte(everything), file)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := Config{
		Display: Display{Platform: "drm", Width: 1920, Height: 1080, DiagonalMM: 545, Rotation: 90, Output: "HDMI-A-1"},
		Touch:   Touch{Calibration: &[6]float64{0, 1, 0, -1, 0, 1}},
		Reader:  Reader{Name: "KOBIL", Socket: "/etc/adv/run/pcscd.comm", PCSCDConfig: "/etc/adv/conf", PCSCDPrivate: true},
		Readers: []readers.Model{
			{Name: "Some Reader", USB: "dead:BEEF", PINFormat: "41/48/04", Display: ptr(true), VerifyMessages: ptr(0), ModifyMessages: ptr(3),
				FreeText: ptr(false), EntryTimeoutS: 45, MinFirmware: "1.20"},
			{USB: "1234:5678"},
		},
		USB:     USB{Allow: []USBDevice{{"222A:0001", USBTouch}, {"222A:0002", USBReader}}},
		Network: Network{Mode: NetworkStatic, Interface: "eth0", VLAN: 7, Address: "192.0.2.10/24", Gateway: "192.0.2.1", DNS: []string{"192.0.2.53", "2001:db8::53"}},
		Time:    Time{Servers: []string{"ntp.example", "192.0.2.2:123"}, MaxOffsetS: 5}, Modules: Modules{Extra: []string{"i915"}},
		Data:      Data{MinFreeMiB: 32},
		Server:    Server{Address: "[2001:db8::1]:443", TrustStore: "/tls", TrustDigest: "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"},
		CardRoots: "/etc/adv/cvc", Log: Log{Enabled: true, Dir: "/etc/adv/log", Level: "debug", Test: true}, Design: "/etc/adv/design",
		Idle: Idle{EndSeconds: 120, WarnSeconds: 100, BlankSeconds: 30}, TerminalID: "0011223344556677", Door: "/etc/adv/door.sock",
	}
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
	if id := c.Terminal(); id != [8]byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77} {
		t.Errorf("Terminal = %x", id)
	}
	if m, ok := readers.Find(c.Models(), "Some Reader 00 00", readers.USBID{}); !ok || m.PINFormat != "41/48/04" {
		t.Errorf("model %+v, %v", m, ok)
	}
	if got := c.Network.Prefix().String(); got != "192.0.2.10/24" {
		t.Errorf("prefix %s", got)
	}
}

// TestFieldsAreTheTypes: the table, the types and the file with everything agree, and all defaults are allowed values.
func TestFieldsAreTheTypes(t *testing.T) {
	t.Parallel()
	var types []string
	var walk func(reflect.Type, string)
	walk = func(ty reflect.Type, key string) {
		switch {
		case ty.Kind() == reflect.Pointer:
			walk(ty.Elem(), key)
		case ty.Kind() == reflect.Struct:
			for f := range ty.Fields() {
				walk(f.Type, join(key, f.Tag.Get("json")))
			}
		case ty.Kind() == reflect.Slice && ty.Elem().Kind() == reflect.Struct:
			types = append(types, key)
			walk(ty.Elem(), key+"[]")
		default:
			types = append(types, key)
		}
	}
	walk(reflect.TypeFor[Config](), "")
	var table []string
	for _, f := range Fields {
		table = append(table, f.Key)
		if f.Doc == "" || f.Values == "" || (f.Default == "") == (f.Absent == "") {
			t.Errorf("%s: the table wants meaning, values, and either a default or what holds without", f.Key)
		}
		if f.Default == "" {
			continue
		}
		v := at(reflect.ValueOf(&Config{}).Elem(), f.Key)
		if err := json.Unmarshal([]byte(f.Default), v.Addr().Interface()); err != nil {
			t.Errorf("%s: default: %v", f.Key, err)
		}
		if f.ok != nil && !f.ok(v.Interface()) {
			t.Errorf("%s: the default %s is not allowed", f.Key, f.Default)
		}
	}
	slices.Sort(types)
	slices.Sort(table)
	if d := cmp.Diff(types, table); d != "" {
		t.Errorf("types and table: %s", d)
	}
	p := &parser{file: file, set: map[string]bool{}}
	p.object(new(Config), []byte(everything))
	for _, k := range table {
		if !strings.Contains(everything, fmt.Sprintf("%q:", k[strings.LastIndex(k, ".")+1:])) {
			t.Errorf("%s is not in the file with everything", k)
		}
	}
}

func TestLogLevel(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2439")
	for section, want := range map[string]advlog.Severity{
		`{}`: advlog.Info, `{"level":"warning"}`: advlog.Warning, `{"level":"fatal"}`: advlog.Fatal, `{"level":"debug","test":true}`: advlog.Debug,
	} {
		c, problems := Parse([]byte(strings.Replace(smallest, "{", `{"log":`+section+",", 1)), file)
		if got := c.Log.Severity(); got != want || len(problems) > 0 {
			t.Errorf("%s: %v, %v; want %v", section, got, problems, want)
		}
	}
}

// TestEveryMistake: one file with many mistakes gives one problem for each, at its place, with a way to mend it.
func TestEveryMistake(t *testing.T) {
	t.Parallel()
	_, problems := Parse([]byte(`{
  "dispaly": {"width": 1},
  "display": {"platform": "vga", "width": 10, "height": "800", "diagonal_mm": 3.5, "rotation": 45, "with": 1280, "Width": 1},
  "touch": {"calibration": [1, 2, 0, 2, 4, 0]},
  "reader": {"pcscd_config": "x", "vlan": 2},
  "readers": [{"pin_format": "1/2/3"}, {"name": "ABC", "usb": "D46:3002"}, {"name": "abc", "usb": "0D46:3002"}, {"usb": "0d46:3002", "entry_timeout_s": 10}, 7],
  "usb": {"allow": [{"id": "222A:0001"}, {"id": "222a:0001", "class": "keyboard"}]},
  "network": {"mode": "static", "vlan": 4095, "gateway": "host", "dns": ["192.0.2.1", "", "::1", "x"]},
  "modules": {"extra": ["../evil"]},
  "server": {"address": "localhost", "trust_digest": "12", "address": "x:1"},
  "log": {"enabled": 1, "level": "debug"},
  "idle": {"end_seconds": 301, "warn_seconds": null, "blank_seconds": 0},
  "time": [],
  "terminal_id": "zz"
}`), file)
	want := map[string]string{ // key: what, and how to mend it
		"dispaly":                    `is no key of this file; did you mean "display"?`,
		"display.platform":           "\"vga\" is not allowed; write `drm`, `window`, `memory`",
		"display.width":              "10 is not allowed; write 640 to 7680",
		"display.height":             "holds a text where a whole number belongs; write 480 to 7680",
		"display.diagonal_mm":        "holds the number 3.5 where a whole number belongs; write 150 to 2000",
		"display.rotation":           "45 is not allowed; write 0, 90, 180, 270",
		"display.with":               `is no key of this file; did you mean "display.width"?`,
		"display.Width":              `is no key of this file; did you mean "display.width"?`,
		"touch.calibration":          "maps all touches onto one line; measure again: the first two columns must not be multiples of each other",
		"reader.socket":              "is missing; reader.pcscd_config needs it: the path of the socket to make",
		"reader.vlan":                `is no key of this file; did you mean "network.vlan"?`,
		"readers[0]":                 "names no reader; add name or usb",
		"readers[0].pin_format":      "\"1/2/3\" is not allowed; write `89/47/04`, `41/48/04`, `81/48/04`",
		"readers[1].usb":             "\"D46:3002\" is not allowed; write `VVVV:PPPP`, hexadecimal",
		"readers[2].name":            "stands in readers[1] already; keep one of them",
		"readers[3].usb":             "stands in readers[2] already; keep one of them",
		"readers[3].entry_timeout_s": "10 is not allowed; write 30 to 60",
		"readers[4]":                 "holds the number 7 where an object belongs; write {…} there, or leave it out",
		"usb.allow[0].class":         "is missing; add it: `touch`, `reader`",
		"usb.allow[1].id":            "stands in usb.allow[0] already; keep one of them",
		"usb.allow[1].class":         "\"keyboard\" is not allowed; write `touch`, `reader`",
		"network.vlan":               "4095 is not allowed; write 1 to 4094",
		"network.address":            `is missing; add it, for example "192.0.2.10/24", or set network.mode to "dhcp"`,
		"network.gateway":            `"host" is not allowed; write address`,
		"network.dns":                "has 4 elements; write at most 3",
		"modules.extra[0]":           `"../evil" is not allowed; write list of names`,
		"server.address":             "stands twice; keep one of them",
		"server.address ":            "\"localhost\" is not allowed; write `host:port`",
		"server.trust_digest":        `"12" is not allowed; write 64 hexadecimal digits`,
		"log.enabled":                "holds the number 1 where true or false belongs; write `true`, `false`",
		"log.level":                  `"debug" is for test operation; use info, or set log.test on a test terminal`,
		"idle.end_seconds":           "301 is not allowed; write 1 to 300",
		"idle.warn_seconds":          "holds null where a whole number belongs; write 1 to 240",
		"idle.blank_seconds":         "0 is not allowed; write 1 to 60",
		"time":                       "holds a list where an object belongs; write {…} there, or leave it out",
		"time.servers":               "is missing; add an NTP server: there is no DHCP to name one, and certificates need the right time",
		"terminal_id":                `"zz" is not allowed; write 16 hexadecimal digits`,
	}
	got := map[string]string{}
	for _, p := range problems {
		if p.File != file {
			t.Errorf("%v names the file %s", p, p.File)
		}
		k := p.Key
		if _, twice := got[k]; twice {
			k += " "
		}
		got[k] = p.What + "; " + p.Fix
	}
	// The order of the two at server.address is the file's.
	if got["server.address"] != want["server.address"] {
		got["server.address"], got["server.address "] = got["server.address "], got["server.address"]
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFit(t *testing.T) {
	t.Parallel()
	static := `"network":{"mode":"static","address":"192.0.2.10/24"%s},"time":{"servers":["192.0.2.1"]},"server":{"address":"%s:1"}`
	for in, want := range map[string]string{
		fmt.Sprintf(static, "", "192.0.2.99"):                                     "",
		fmt.Sprintf(static, `,"dns":["192.0.2.1"]`, "adv.example"):                "",
		fmt.Sprintf(static, "", "adv.example"):                                    "network.dns: is missing, and server.address has the name adv.example",
		fmt.Sprintf(static, `,"gateway":"198.51.100.1"`, "192.0.2.99"):            "network.gateway: 198.51.100.1 is not in 192.0.2.0/24",
		fmt.Sprintf(static, `,"gateway":"192.0.2.10"`, "192.0.2.99"):              "network.gateway: is the terminal's own address",
		`"network":{"address":"192.0.2.1/24"},"server":{"address":"a:1"}`:         "network.address: has no meaning with dhcp",
		`"network":{"dns":["192.0.2.1"]},"server":{"address":"a:1"}`:              "network.dns: has no meaning with dhcp",
		`"idle":{"end_seconds":60},"server":{"address":"a:1"}`:                    "", // the countdown comes earlier, too
		`"idle":{"end_seconds":60,"warn_seconds":60},"server":{"address":"a:1"}`:  "idle.warn_seconds: 60 is not before the end at 60",
		`"reader":{"socket":"s","pcscd_private":true},"server":{"address":"a:1"}`: "reader.pcscd_private: needs reader.pcscd_config",
		`"touch":{"calibration":[1,0]},"server":{"address":"a:1"}`:                "touch.calibration: has 2 elements",
		`"touch":{"calibration":[1,0,0,0,1,"x"]},"server":{"address":"a:1"}`:      "touch.calibration[5]: holds a text where a number belongs",
		`"touch":{"calibration":[1,0,0,0,1e9,0]},"server":{"address":"a:1"}`:      "touch.calibration[4]: 1e+09 is not allowed",
		``: "server.address: is missing",
	} {
		_, problems := Parse([]byte("{"+in+"}"), file)
		switch {
		case want == "" && len(problems) > 0:
			t.Errorf("%s: %v", in, problems)
		case want != "" && (len(problems) != 1 || !strings.Contains(problems[0].String(), want)):
			t.Errorf("%s: %v; want %s", in, problems, want)
		}
	}
}

func TestSyntax(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                "is empty",
		"{\n  \"display\": {,}\n}":        "line 2, column 15",
		smallest + "{}":                   "no JSON at line 1",
		strings.Repeat(" ", MaxFile+1):    "longer than",
		"[1]":                             "where an object belongs",
		"null":                            "where an object belongs",
		strings.Repeat(`{"display":`, 20): "no JSON",
		strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20): "levels",
	} {
		_, problems := Parse([]byte(in), file)
		if len(problems) == 0 || !strings.Contains(problems[0].What, want) || problems[0].Fix == "" {
			t.Errorf("%.30q: %v; want %s", in, problems, want)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "terminal.json")
	put := func(name, content string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, problems := Load(path); len(problems) != 1 || problems[0].File != path || !strings.Contains(problems[0].What, "no such file") {
		t.Errorf("no file: %v", problems)
	}
	put("terminal.json", `{"server":{"address":"x:1"},"design":"look"}`)
	put("trust/tls/README", "")
	_, problems := Load(path)
	got := map[string]string{}
	for _, p := range problems {
		got[p.Key] = p.File
	}
	want := map[string]string{
		"server.trust_store": filepath.Join(dir, "trust/tls"), "card_roots": filepath.Join(dir, "trust/cvc"), "design": filepath.Join(dir, "look"),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	put("trust/tls/server.pem", "x")
	put("trust/cvc/0011223344556677_ELC-PublicKey.der", "x")
	put("look/ui.json", "{}")
	if c, problems := Load(path); len(problems) > 0 || c.Server.TrustStore != filepath.Join(dir, "trust/tls") {
		t.Errorf("all there: %v, %+v", problems, c)
	}
}

// TestHandbook holds the handbook's table to the one of the program.
func TestHandbook(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/technician.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), Table()) {
		t.Errorf("docs/technician.md does not hold the table of the program; replace it with:\n%s", Table())
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(smallest))
	f.Add([]byte(everything))
	f.Add([]byte(`{"display":[{}],"x":{"a":[[[]]]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, problems := Parse(b, file)
		for _, p := range problems {
			if p.File != file || p.What == "" || p.Fix == "" {
				t.Errorf("half a problem: %+v", p)
			}
		}
		// Whatever stands in the file, what comes out may be used: values are within their bounds.
		if c.Display.Width < 640 || c.Idle.EndSeconds < 1 || c.Idle.EndSeconds > 300 || c.Idle.BlankSeconds > 60 || c.Server.TrustStore == "" {
			t.Errorf("out of bounds: %+v", c)
		}
		if len(problems) == 0 && c.Server.Address == "" {
			t.Error("nothing wrong without a server")
		}
	})
}
