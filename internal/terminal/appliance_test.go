package terminal

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What would leave a terminal black, without cards or without logs is named, each with its key; what the handbook gives as
// examples, and the defaults, are not.
func TestAppliance(t *testing.T) {
	t.Parallel()
	for section, want := range map[string][]string{
		``:                                                   nil,
		`"display":{"platform":"drm"},`:                      nil,
		`"display":{"platform":"memory"},`:                   {"display.platform"},
		`"display":{"platform":"window"},`:                   {"display.platform"},
		`"display":{"platform":"vga"},`:                      nil, // Load names it, and takes the default
		`"reader":{"name":"KOBIL"},`:                         nil,
		`"reader":{"socket":"/run/other"},`:                  {"reader.socket"},
		`"reader":{"socket":"pcscd.comm"},`:                  {"reader.socket"},
		`"reader":{"pcscd_private":true},`:                   {"reader.pcscd_private"}, // Load names it, too
		`"reader":{"pcscd_config":"conf"},`:                  {"reader.pcscd_config"},
		`"log":{"enabled":true},`:                            nil,
		`"log":{"enabled":false,"dir":"x"},`:                 nil,
		`"log":{"enabled":true,"dir":"/log/kiosk/more"},`:    nil,
		`"log":{"enabled":true,"dir":"/data/log/kiosk"},`:    {"log.dir"},
		`"log":{"enabled":true,"dir":"/log"},`:               {"log.dir"},
		`"log":{"enabled":true,"dir":"/tmp/log"},`:           {"log.dir"},
		`"log":{"enabled":true,"dir":"/log/kiosk/../init"},`: {"log.dir"},
		`"reader":{"socket":"` + CardSocket + `"},`:          nil,
		`"reader":{"socket":"/s","pcscd_config":"c","pcscd_private":true},"display":{"platform":"memory"},"log":{"enabled":true,"dir":"x"},`: {
			"display.platform", "reader.socket", "reader.pcscd_config", "reader.pcscd_private", "log.dir",
		},
	} {
		c, _ := Parse([]byte(strings.Replace(smallest, "{", "{"+section, 1)), file)
		var got []string
		for _, p := range c.Appliance(file) {
			got = append(got, p.Key)
			if p.File != file || p.What == "" || p.Fix == "" {
				t.Errorf("%s: %+v; want file, what is wrong and what mends it", section, p)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", section, d)
		}
	}
	empty, _ := Parse([]byte(`{}`), file)
	if p := empty.Appliance(file); len(p) > 0 { // what a file that cannot be read leaves
		t.Errorf("defaults: %v", p)
	}
}
