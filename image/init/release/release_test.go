package release

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestBuilt(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"ID=ktr-adv\nBUILD_ID=20260102030405\n": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"BUILD_ID=yesterday\n":                  {},
		"ID=ktr-adv\n":                          {},
	} {
		name := filepath.Join(t.TempDir(), "os-release")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Built(name); !got.Equal(want) {
			t.Errorf("Built(%q) = %v; want %v", text, got, want)
		}
	}
	if got := Built(filepath.Join(t.TempDir(), "none")); !got.IsZero() {
		t.Errorf("built without a file = %v", got)
	}
}
