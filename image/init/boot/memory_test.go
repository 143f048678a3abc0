//go:build linux

package boot

import (
	"os"
	"path/filepath"
	"testing"

	"ktradv/image/init/users"
)

func TestMemoryOf(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for pid, status := range map[string]string{
		"7": "Name:\ta\nUid:\t1000\t1000\t1000\t1000\nRssAnon:\t     100 kB\n", "8": "Uid:\t1000\t0\t0\t0\nRssAnon:\t 20 kB\n",
		"9": "Uid:\t1001\t1001\nRssAnon:\t 5 kB\n", "10": "Uid:\t1000\n", "11": "RssAnon:\t 7 kB\nUid:\n", "x": "Uid:\t1000\nRssAnon:\t1 kB\n",
	} {
		dir := filepath.Join(root, "proc", pid)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "status"), []byte(status), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := MemoryOf(root, users.Kiosk), (Memory{2, 120 << 10}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
