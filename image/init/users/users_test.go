package users

import (
	"strings"
	"testing"
)

// Nobody can log in, numbers are unique, and both files name the same.
func TestFiles(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for l := range strings.Lines(string(Passwd())) {
		f := strings.Split(strings.TrimSpace(l), ":")
		if len(f) != 7 || f[1] != "*" || f[6] != "/nonexistent" || f[2] != f[3] || seen[f[2]] {
			t.Errorf("passwd line %q", l)
			continue
		}
		seen[f[2]] = true
		if !strings.Contains(string(Group()), f[0]+":*:"+f[2]+":\n") {
			t.Errorf("group has no line for %s", f[0])
		}
	}
	for _, id := range []ID{Root, Kiosk, PCSCD, Net, Time} {
		if strings.Trim(id.String(), "0123456789") == "" {
			t.Errorf("user %d has no name", id)
		}
	}
	if got := ID(77).String(); got != "77" {
		t.Errorf("name of an unknown user = %q", got)
	}
}
