package terminal

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Places of the appliance that a configuration may name, and gains nothing by naming.
const (
	// LogDir is the one folder that the confined kiosk may write to.
	LogDir = "/log/kiosk"
	// EarlyLogDir is where to find, when LogDir is on the data partition, what was in LogDir in memory before.
	EarlyLogDir = "/log/early"
	// CardSocket is where the first process has the card service listen.
	CardSocket = "/run/pcscd/pcscd.comm"
)

// desks lists what is right on a desk and cannot work on the appliance: there the first process runs the card service, the
// display is the terminal's own, and the kiosk is confined.
var desks = []struct {
	key   string
	value func(*Config) string // what to tell, "" when nothing is wrong
	fix   string
}{
	{"display.platform", func(c *Config) string {
		if c.Display.Platform == "drm" {
			return ""
		}
		return fmt.Sprintf("%q leaves the terminal's own display black", short(c.Display.Platform))
	}, "write `drm`, or leave it out"},
	{"reader.socket", func(c *Config) string {
		if c.Reader.Socket == "" || c.Reader.Socket == CardSocket {
			return ""
		}
		return fmt.Sprintf("%q is not where the terminal's card service listens", short(c.Reader.Socket))
	}, "leave it out"},
	{"reader.pcscd_config", func(c *Config) string {
		if c.Reader.PCSCDConfig == "" {
			return ""
		}
		return "the terminal's first process runs the card service; the kiosk may start no other"
	}, "leave it out: readers on USB need no reader.conf"},
	{"reader.pcscd_private", func(c *Config) string {
		if !c.Reader.PCSCDPrivate {
			return ""
		}
		return "the terminal has one card service, which nothing hides"
	}, "leave it out"},
	{"log.dir", func(c *Config) string {
		if !c.Log.Enabled || c.Log.Dir == LogDir || strings.HasPrefix(filepath.Clean(c.Log.Dir), LogDir+"/") {
			return ""
		}
		return fmt.Sprintf("%q is a folder that the kiosk may not write to", short(c.Log.Dir))
	}, "leave it out, or name " + LogDir},
}

// Appliance names what a configuration says that is right on a desk and cannot work on the appliance: with it the screen
// would stay black, no card would be read, nothing would be logged. The image builder refuses it, and so does the first
// process. path names the file in the problems. It looks at a configuration that Load has read, whatever Load found.
func (c *Config) Appliance(path string) (problems []Problem) {
	for _, d := range desks {
		if what := d.value(c); what != "" {
			problems = append(problems, Problem{path, d.key, what, d.fix})
		}
	}
	return problems
}
