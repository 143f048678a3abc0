// Package config is the kiosk's configuration: one JSON file in the image's overlay, read once at start. Unknown fields
// are refused, so that a misspelt name does not silently leave a default in force.
package config

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"ktradv/internal/advlog"
)

// Config is the whole file. Paths that are not absolute are taken relative to the file's folder by the caller.
type Config struct {
	// Display says where the screens go.
	Display Display `json:"display"`
	// Reader says how cards are reached.
	Reader Reader `json:"reader"`
	// Server is the AdV-Server.
	Server Server `json:"server"`
	// CardRoots is the folder with the pinned roots of the card CVCs (self-signed .cvc files or .der public keys).
	CardRoots string `json:"card_roots"`
	// Log says where logs go. Off by default (AdV-A_2437).
	Log Log `json:"log"`
	// Overlay is the folder of the insurer's design (tokens, logo, texts), "" for the product's own.
	Overlay string `json:"overlay,omitempty"`
	// Idle are the times of the idle watch; zero means the highest permitted values.
	Idle Idle `json:"idle"`
	// TerminalID names this terminal: 16 hexadecimal digits, in the token of the card's authentication.
	TerminalID string `json:"terminal_id"`
	// Door is the unix socket of the demo's own entrance; builds without the tag demo refuse it.
	Door string `json:"door,omitempty"`
}

// Display says where the screens go.
type Display struct {
	// Platform is drm, window or memory.
	Platform string `json:"platform"`
	// Width and Height are the size in pixels for window and memory; zero means 1280x800.
	Width  int `json:"width,omitempty"`
	Height int `json:"height,omitempty"`
	// DiagonalMM is the diagonal of the panel in millimetres, for touch targets of the right size; zero means 390 (15.4").
	DiagonalMM int `json:"diagonal_mm,omitempty"`
	// Rotation is 0, 90, 180 or 270 degrees.
	Rotation int `json:"rotation,omitempty"`
	// Output is the connector for drm, "" for the first one.
	Output string `json:"output,omitempty"`
}

// Reader says how cards are reached.
type Reader struct {
	// Name is the beginning of the reader's PC/SC name, "" for the first one.
	Name string `json:"name,omitempty"`
	// Socket is pcscd's socket; "" means the system's.
	Socket string `json:"socket,omitempty"`
	// PCSCDConfig makes the kiosk's supervisor start (and replace) a pcscd of its own with this folder of reader.conf
	// files, listening on Socket; "" leaves pcscd to the system.
	PCSCDConfig string `json:"pcscd_config,omitempty"`
	// PCSCDPrivate hides the supervisor's pcscd from the system's one, on machines that have both: a demonstration, a test. A
	// terminal has one pcscd and leaves it false.
	PCSCDPrivate bool `json:"pcscd_private,omitempty"`
	// PINFormat overrides how a format-2 PIN block is described to the reader: "89/47/04", "41/48/04" or "81/48/04".
	PINFormat string `json:"pin_format,omitempty"`
}

// Server is the AdV-Server.
type Server struct {
	// Address is host:port.
	Address string `json:"address"`
	// TrustStore is the folder with the server's pinned TLS certificates (AdV-A_2417).
	TrustStore string `json:"trust_store"`
}

// Log says where logs go.
type Log struct {
	// Enabled switches logging on; only on a KTR-AdV terminal (AdV-A_2437).
	Enabled bool `json:"enabled"`
	// Dir is the folder of the log files.
	Dir string `json:"dir,omitempty"`
	// Level is the lowest severity that the error log keeps (AdV-A_2439): debug (with test only), info, warning, error or
	// fatal; "" is info.
	Level string `json:"level,omitempty"`
	// Test allows the debug stream (AdV-A_2433); never in production.
	Test bool `json:"test,omitempty"`
}

// Severity gives the level of the error log.
func (l Log) Severity() (advlog.Severity, error) {
	if l.Level == "" {
		return advlog.Info, nil
	}
	s, err := advlog.ParseSeverity(l.Level)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: log.level: %w", ErrInvalid, err)
	case s < advlog.Info && !l.Test:
		return 0, fmt.Errorf("%w: log.level: debug needs log.test", ErrInvalid)
	}
	return s, nil
}

// Idle are the times of the idle watch in seconds; higher values than permitted are refused.
type Idle struct {
	EndSeconds   int `json:"end_seconds,omitempty"`   // at most 300 (AdV-A_2410)
	WarnSeconds  int `json:"warn_seconds,omitempty"`  // at most 240
	BlankSeconds int `json:"blank_seconds,omitempty"` // at most 60
}

// Durations gives the times, zero where the default holds.
func (i Idle) Durations() (end, warn, blank time.Duration) {
	return time.Duration(i.EndSeconds) * time.Second, time.Duration(i.WarnSeconds) * time.Second, time.Duration(i.BlankSeconds) * time.Second
}

// maxFile bounds the configuration file in octets.
const maxFile = 64 << 10

// ErrInvalid is wrapped by every error about the content of a configuration.
var ErrInvalid = errors.New("configuration is not valid")

// Load reads and checks a configuration file.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	c, err := Parse(b)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// Parse decodes and checks a configuration.
func Parse(b []byte) (Config, error) {
	if len(b) > maxFile {
		return Config{}, fmt.Errorf("%w: longer than %d octets", ErrInvalid, maxFile)
	}
	var c Config
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Config{}, fmt.Errorf("%w: something follows the configuration", ErrInvalid)
	}
	if err := c.check(); err != nil {
		return Config{}, err
	}
	return c, nil
}

func (c *Config) check() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, a...))
	}
	d := &c.Display
	if d.Width == 0 && d.Height == 0 {
		d.Width, d.Height = 1280, 800
	}
	if d.DiagonalMM == 0 {
		d.DiagonalMM = 390
	}
	if c.TerminalID == "" {
		c.TerminalID = "0000000000000000"
	}
	switch {
	case d.Platform != "drm" && d.Platform != "window" && d.Platform != "memory":
		return bad("display.platform is %q, not drm, window or memory", d.Platform)
	case d.Width < 640 || d.Width > 7680 || d.Height < 480 || d.Height > 7680:
		return bad("display size %dx%d", d.Width, d.Height)
	case d.DiagonalMM < 150 || d.DiagonalMM > 2000:
		return bad("display.diagonal_mm %d is not within 150 to 2000", d.DiagonalMM)
	case d.Rotation != 0 && d.Rotation != 90 && d.Rotation != 180 && d.Rotation != 270:
		return bad("display.rotation %d", d.Rotation)
	case c.Reader.PCSCDConfig != "" && c.Reader.Socket == "":
		return bad("reader.pcscd_config needs reader.socket")
	case c.Reader.PCSCDPrivate && c.Reader.PCSCDConfig == "":
		return bad("reader.pcscd_private needs reader.pcscd_config")
	case c.Server.TrustStore == "":
		return bad("server.trust_store is missing")
	case c.CardRoots == "":
		return bad("card_roots is missing")
	case c.Log.Enabled && c.Log.Dir == "":
		return bad("log.enabled needs log.dir")
	case c.Idle.EndSeconds < 0 || c.Idle.EndSeconds > 300:
		return bad("idle.end_seconds %d: at most 300 (AdV-A_2410)", c.Idle.EndSeconds)
	case c.Idle.WarnSeconds < 0 || c.Idle.WarnSeconds > 240:
		return bad("idle.warn_seconds %d: at most 240", c.Idle.WarnSeconds)
	case c.Idle.BlankSeconds < 0 || c.Idle.BlankSeconds > 60:
		return bad("idle.blank_seconds %d: at most 60", c.Idle.BlankSeconds)
	}
	if _, _, err := net.SplitHostPort(c.Server.Address); err != nil {
		return bad("server.address: %v", err)
	}
	if _, err := c.Log.Severity(); err != nil {
		return err
	}
	_, err := c.Terminal()
	return err
}

// Terminal returns the terminal's name as octets.
func (c *Config) Terminal() (id [8]byte, err error) {
	b, err := hex.DecodeString(c.TerminalID)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%w: terminal_id is not 16 hexadecimal digits", ErrInvalid)
	}
	copy(id[:], b)
	return id, nil
}
