//go:build linux

package programs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ktradv/internal/terminal"
)

func TestServers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	own := terminal.Config{Time: terminal.Time{Servers: []string{"ntp.example"}}}
	if got := servers(terminal.Config{}, dir); got != nil {
		t.Errorf("servers of nobody = %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "ntp"), []byte("192.0.2.1\n192.0.2.2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"192.0.2.1", "192.0.2.2"}, servers(terminal.Config{}, dir)); diff != "" {
		t.Errorf("servers of DHCP (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"ntp.example"}, servers(own, dir)); diff != "" {
		t.Errorf("the configuration's come before DHCP's (-want +got):\n%s", diff)
	}
	if err := os.WriteFile(filepath.Join(dir, "ntp"), []byte(strings.Repeat("x ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := servers(terminal.Config{}, dir); got != nil {
		t.Errorf("servers of a file that is too long = %d", len(got))
	}
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	if err := Run("shell"); err == nil {
		t.Error("a service that does not exist ran")
	}
}
