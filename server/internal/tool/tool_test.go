package tool

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestParse: options stand where people write them.
func TestParse(t *testing.T) {
	t.Parallel()
	for line, c := range map[string]struct {
		words   []string
		fd      int
		many    []string
		refused string
	}{
		"":                          {nil, -1, nil, ""},
		"new":                       {[]string{"new"}, -1, nil, ""},
		"-passphrase-fd 3 new":      {[]string{"new"}, 3, nil, ""},
		"new -passphrase-fd 3":      {[]string{"new"}, 3, nil, ""},
		"new --passphrase-fd=3 old": {[]string{"new", "old"}, 3, nil, ""},
		"-m a new -m b old -m c":    {[]string{"new", "old"}, -1, []string{"a", "b", "c"}, ""},
		"new -- -passphrase-fd":     {[]string{"new", "-passphrase-fd"}, -1, nil, ""},
		"-- -m":                     {[]string{"-m"}, -1, nil, ""},
		"new - -m a":                {[]string{"new", "-"}, -1, []string{"a"}, ""},
		"a b c":                     {nil, -1, nil, `takes 0 to 2 arguments besides its options, not 3 ["a" "b" "c"]`},
		"new -passphrase-fd":        {nil, -1, nil, "needs an argument"},
		"new -nothing":              {nil, -1, nil, "not defined"},
		"new -passphrase-fd three":  {nil, -1, nil, "invalid value"},
	} {
		var said bytes.Buffer
		var words, many []string
		fd, ended := -1, true
		run := func(_ context.Context, c *Call) int {
			m := c.Many("m", "many")
			var status int
			if status, ended = c.Parse(0, 2); ended {
				return status
			}
			words, many, fd = c.Flags.Args(), *m, *c.fd
			return Clean
		}
		env := Env{Stdout: &said, Stderr: &said, Now: time.Now}
		status := Tool{Name: "tool", Commands: []Command{{"keys", run}}}.Run(context.Background(), env, append([]string{"keys"}, strings.Fields(line)...))
		if c.refused != "" {
			if status != Unknown || !ended || !strings.Contains(said.String(), c.refused) {
				t.Errorf("%q: status %d, %s", line, status, &said)
			}
			continue
		}
		if status != Clean || fd != c.fd || !cmp.Equal(words, append([]string{}, c.words...)) || !cmp.Equal(many, c.many) {
			t.Errorf("%q: status %d, descriptor %d, words %q, many %q: %s", line, status, fd, words, many, &said)
		}
	}
	var said bytes.Buffer
	help := func(_ context.Context, c *Call) int {
		status, ended := c.Parse(0, 0)
		if !ended {
			t.Error("goes on after the help")
		}
		return status
	}
	if got := (Tool{Name: "tool", Commands: []Command{{"keys", help}}}).Run(context.Background(), Env{Stdout: &said, Stderr: &said}, []string{"keys", "word", "-h"}); got != Clean || !strings.Contains(said.String(), "-passphrase-fd") {
		t.Errorf("status %d: %s", got, &said)
	}
}
