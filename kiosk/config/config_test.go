package config

import (
	"errors"
	"strings"
	"testing"

	"ktradv/internal/advlog"
	"ktradv/internal/req"
)

const good = `{"display":{"platform":"memory"},"reader":{},"server":{"address":"localhost:8443","trust_store":"trust"},
"card_roots":"roots","log":{"enabled":false},"idle":{},"terminal_id":"0011223344556677"}`

func TestDefaults(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2437")
	c, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if c.Display.Width != 1280 || c.Display.Height != 800 || c.Log.Enabled {
		t.Errorf("defaults: %+v", c)
	}
	if id, err := c.Terminal(); err != nil || id != [8]byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77} {
		t.Errorf("Terminal = %x, %v", id, err)
	}
	// A file that says nothing about logging leaves it off.
	c, err = Parse([]byte(strings.Replace(good, `"log":{"enabled":false},`, "", 1)))
	if err != nil || c.Log.Enabled {
		t.Errorf("without log section: enabled = %v, %v; want off", c.Log.Enabled, err)
	}
}

// The level of the error log can be set.
func TestLogLevel(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2439")
	for section, want := range map[string]advlog.Severity{
		`{}`: advlog.Info, `{"level":"warning"}`: advlog.Warning, `{"level":"fatal"}`: advlog.Fatal, `{"level":"debug","test":true}`: advlog.Debug,
	} {
		c, err := Parse([]byte(strings.Replace(good, `{"enabled":false}`, section, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Log.Severity(); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", section, got, err, want)
		}
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	for _, change := range []struct{ old, new string }{
		{`"memory"`, `"vga"`},
		{`"platform":"memory"`, `"platform":"memory","width":10,"height":10`},
		{`"platform":"memory"`, `"platform":"memory","colour":1`},
		{`"platform":"memory"`, `"platform":"memory","rotation":45`},
		{`localhost:8443`, `localhost`},
		{`"trust_store":"trust"`, `"trust_store":""`},
		{`"card_roots":"roots"`, `"card_roots":""`},
		{`{"enabled":false}`, `{"enabled":true}`},
		{`{"enabled":false}`, `{"level":"loud"}`},
		{`{"enabled":false}`, `{"level":"debug"}`},
		{`"idle":{}`, `"idle":{"end_seconds":301}`},
		{`"idle":{}`, `"idle":{"warn_seconds":241}`},
		{`"idle":{}`, `"idle":{"blank_seconds":61}`},
		{`"reader":{}`, `"reader":{"pcscd_config":"x"}`},
		{`"reader":{}`, `"reader":{"socket":"s","pcscd_private":true}`},
		{`0011223344556677`, `00112233445566`},
		{`0011223344556677`, `zz11223344556677`},
	} {
		in := strings.Replace(good, change.old, change.new, 1)
		if in == good {
			t.Fatalf("the change %q does nothing", change.old)
		}
		if _, err := Parse([]byte(in)); !errors.Is(err, ErrInvalid) {
			t.Errorf("with %s: %v; want refused", change.new, err)
		}
	}
	for _, in := range []string{"", "{}", good + "{}", strings.Repeat(" ", maxFile+1)} {
		if _, err := Parse([]byte(in)); !errors.Is(err, ErrInvalid) {
			t.Errorf("Parse(%.20q) = %v; want refused", in, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := Parse(b); err != nil && c != (Config{}) {
			t.Error("an error with half a configuration")
		}
	})
}
