package app_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"ktradv/internal/advlog"
	"ktradv/internal/terminal"
	"ktradv/kiosk/app"
)

// A data partition that became read-only keeps no terminal from serving; a folder that cannot be one is a mistake of the
// configuration, and told.
func TestOpenLog(t *testing.T) {
	t.Parallel()
	open := func(dir string) (*advlog.Log, error) {
		return app.OpenLog(terminal.Log{Enabled: true, Dir: dir}, advlog.App)
	}
	log, err := open(t.TempDir())
	if log == nil || err != nil {
		t.Errorf("a sound folder: %v, %v", log, err)
	}
	log.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if log, err := open(filepath.Join(file, "log")); log != nil || err == nil {
		t.Errorf("below a file: %v, %v; want an error", log, err)
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Skipf("a read-only file system needs the right to mount: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, 0) })
	if log, err := open(filepath.Join(dir, "log")); log != nil || err != nil {
		t.Errorf("on a read-only file system: %v, %v; want no log and no error", log, err)
	}
}
