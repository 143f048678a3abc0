// Package terminal is the configuration of a terminal: one JSON file, laid into the image beside the files that it
// names, and read by everything that has to know the terminal: the image builder, which refuses to build with mistakes;
// the init process, which sets up network, clock and USB with it; and the kiosk.
//
// [Load] names every mistake of a file, not only the first, each with its place and what mends it ([Problem]): a person
// with a screwdriver in the other hand reads them on the terminal's own screen. What a key may hold, and what holds when
// it is left out, stands in one table, [Fields]; the technician's handbook is made of it.
package terminal

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"

	"ktradv/internal/advlog"
	"ktradv/internal/readers"
)

// Path is where the appliance has the file.
const Path = "/etc/adv/terminal.json"

// Config is the whole file, with defaults filled in and all paths absolute.
type Config struct {
	// Display says where the screens go.
	Display Display `json:"display"`
	// Touch says how touches map to the picture.
	Touch Touch `json:"touch"`
	// Reader says how cards are reached.
	Reader Reader `json:"reader"`
	// Readers are models in addition to readers.Known; they come first. Use Models.
	Readers []readers.Model `json:"readers"`
	// USB says which devices are let in.
	USB USB `json:"usb"`
	// Network is the terminal's own address.
	Network Network `json:"network"`
	// Time is the time service.
	Time Time `json:"time"`
	// Modules are kernel modules.
	Modules Modules `json:"modules"`
	// Data is the data partition.
	Data Data `json:"data"`
	// Server is the AdV-Server.
	Server Server `json:"server"`
	// CardRoots is the folder with the pinned roots of the card CVCs (self-signed .cvc files or .der public keys).
	CardRoots string `json:"card_roots"`
	// Log says where logs go. Off by default (AdV-A_2437).
	Log Log `json:"log"`
	// Design is the folder of the insurer's design (tokens, logo, texts), "" for the product's own.
	Design string `json:"design"`
	// Idle are the times of the idle watch.
	Idle Idle `json:"idle"`
	// TerminalID names this terminal: 16 hexadecimal digits, in the token of the card's authentication.
	TerminalID string `json:"terminal_id"`
	// Door is the unix socket of the demo's own entrance; builds without the tag demo refuse it.
	Door string `json:"door"`
}

// Display says where the screens go.
type Display struct {
	// Platform is drm, window or memory.
	Platform string `json:"platform"`
	// Width and Height are the size in pixels for window and memory, and for drm while there is no display.
	Width  int `json:"width"`
	Height int `json:"height"`
	// DiagonalMM is the diagonal of the panel in millimetres, for touch targets of the right size; zero takes what the
	// display says about itself.
	DiagonalMM int `json:"diagonal_mm"`
	// Rotation is 0, 90, 180 or 270 degrees.
	Rotation int `json:"rotation"`
	// Output is the connector for drm, "" for the first one.
	Output string `json:"output"`
}

// Touch says how touches map to the picture.
type Touch struct {
	// Calibration is libinput's matrix: x' = c[0]x + c[1]y + c[2], y' = c[3]x + c[4]y + c[5], both axes from 0 to 1 on the
	// unrotated panel; nil leaves positions alone.
	Calibration *[6]float64 `json:"calibration"`
}

// Reader says how cards are reached.
type Reader struct {
	// Name is a part of the reader's PC/SC name, upper and lower case alike; "" for the only one.
	Name string `json:"name"`
	// Socket is pcscd's socket; "" means the system's.
	Socket string `json:"socket"`
	// PCSCDConfig makes the kiosk's supervisor start (and replace) a pcscd of its own with this folder of reader.conf
	// files, listening on Socket; "" leaves pcscd to the system.
	PCSCDConfig string `json:"pcscd_config"`
	// PCSCDPrivate hides the supervisor's pcscd from the system's one, on machines that have both: a demonstration, a test. A
	// terminal has one pcscd and leaves it false.
	PCSCDPrivate bool `json:"pcscd_private"`
}

// USB says which devices are let in. Hubs and readers of known models always are.
type USB struct {
	Allow []USBDevice `json:"allow"`
}

// USB classes that may be allowed.
const (
	USBTouch  = "touch"  // HID: a touch screen
	USBReader = "reader" // a card reader that is in no table of models
)

// USBDevice is one device that is let in, with interfaces of this class only.
type USBDevice struct {
	// ID is vendor and product, as in "222A:0001".
	ID string `json:"id"`
	// Class is USBTouch or USBReader.
	Class string `json:"class"`
}

// Network modes.
const (
	NetworkDHCP   = "dhcp"
	NetworkStatic = "static"
)

// Network is the terminal's own address.
type Network struct {
	// Mode is NetworkDHCP or NetworkStatic.
	Mode string `json:"mode"`
	// Interface is its name, "" for the first Ethernet interface.
	Interface string `json:"interface"`
	// VLAN is the tag, 0 for none.
	VLAN int `json:"vlan"`
	// Address with prefix length, Gateway and DNS: with NetworkStatic.
	Address string   `json:"address"`
	Gateway string   `json:"gateway"`
	DNS     []string `json:"dns"`
}

// Time is the time service.
type Time struct {
	// Servers are NTP servers, host or host:port; empty takes those that DHCP names.
	Servers []string `json:"servers"`
	// MaxOffsetS is how wrong the clock may be, in seconds, before the terminal says so.
	MaxOffsetS int `json:"max_offset_s"`
}

// Modules are kernel modules.
type Modules struct {
	// Extra are names of modules to load beside those that the image always loads.
	Extra []string `json:"extra"`
}

// MaxFreeMiB is the largest reserve of the data partition: beside it there is room for all logs.
const MaxFreeMiB = 64

// Data is the data partition.
type Data struct {
	// MinFreeMiB is how little free space counts as full.
	MinFreeMiB int `json:"min_free_mib"`
}

// Server is the AdV-Server.
type Server struct {
	// Address is host:port.
	Address string `json:"address"`
	// TrustStore is the folder with the server's pinned TLS certificates (AdV-A_2417).
	TrustStore string `json:"trust_store"`
	// TrustDigest is the SHA-256 of the trust store's content (tlspolicy.TrustStore.Digest), in hexadecimal; "" trusts the
	// folder's own protection.
	TrustDigest string `json:"trust_digest"`
}

// Log says where logs go.
type Log struct {
	// Enabled switches logging on; only on a KTR-AdV terminal (AdV-A_2437).
	Enabled bool `json:"enabled"`
	// Dir is the folder of the log files.
	Dir string `json:"dir"`
	// Level is the lowest severity that the error log keeps (AdV-A_2439): debug (with test only), info, warning, error or
	// fatal.
	Level string `json:"level"`
	// Test allows the debug stream (AdV-A_2433); never in production.
	Test bool `json:"test"`
}

// Severity is the level of the error log.
func (l Log) Severity() advlog.Severity {
	s, err := advlog.ParseSeverity(l.Level)
	if err != nil {
		return advlog.Info
	}
	return s
}

// logBytes bounds the logs of the programs of a terminal, in bytes. The session processes write something for every visit; the
// others only when something happens to the terminal itself.
var logBytes = map[advlog.Component]int64{advlog.App: 64 << 20, advlog.Supervisor: 8 << 20, advlog.Init: 8 << 20}

// Bytes is what all log files of a program of the terminal may occupy together. The data partition (image/disk) has room for
// all of them.
func (Log) Bytes(c advlog.Component) int64 { return logBytes[c] }

// Idle are the times of the idle watch in seconds.
type Idle struct {
	EndSeconds   int `json:"end_seconds"`   // at most 300 (AdV-A_2410)
	WarnSeconds  int `json:"warn_seconds"`  // at most 240
	BlankSeconds int `json:"blank_seconds"` // at most 60
}

// Durations gives the times.
func (i Idle) Durations() (end, warn, blank time.Duration) {
	return time.Duration(i.EndSeconds) * time.Second, time.Duration(i.WarnSeconds) * time.Second, time.Duration(i.BlankSeconds) * time.Second
}

// Terminal returns the terminal's name as octets.
func (c *Config) Terminal() (id [8]byte) {
	if b, err := hex.DecodeString(c.TerminalID); err == nil {
		copy(id[:], b)
	}
	return id
}

// Models are all reader models, those of the file first.
func (c *Config) Models() []readers.Model {
	return append(append([]readers.Model(nil), c.Readers...), readers.Known...)
}

// Prefix is the static address; the zero value where there is none.
func (n Network) Prefix() netip.Prefix { p, _ := netip.ParsePrefix(n.Address); return p }

// Problem is one mistake.
type Problem struct {
	// File is the file or folder with the mistake.
	File string `json:"file"`
	// Key is the place in the configuration, as in "readers[1].usb"; "" for the file as a whole.
	Key string `json:"key,omitempty"`
	// What is wrong, in words.
	What string `json:"what"`
	// Fix says what mends it.
	Fix string `json:"fix"`
}

// String gives all on one line.
func (p Problem) String() string {
	if p.Key == "" {
		return fmt.Sprintf("%s: %s; %s", p.File, p.What, p.Fix)
	}
	return fmt.Sprintf("%s: %s: %s; %s", p.File, p.Key, p.What, p.Fix)
}
