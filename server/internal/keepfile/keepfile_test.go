package keepfile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key.pem")
	content := func(name, want string) {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil || string(b) != want {
			t.Fatalf("%s: %q, %v; want %q", name, b, err, want)
		}
	}
	if b, err := Write(path, []byte("one"), Options{}); err != nil || b != "" {
		t.Fatal(b, err)
	}
	content(path, "one")
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Fatalf("permissions %v", st.Mode())
	}
	if _, err := Write(path, []byte("two"), Options{}); !errors.Is(err, ErrExists) {
		t.Fatalf("replaced without force: %v", err)
	}
	content(path, "one")
	now := func() time.Time { return time.Unix(0, 0) }
	var backups []string
	for _, s := range []string{"two", "three"} {
		b, err := Write(path, []byte(s), Options{Force: true, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		backups = append(backups, b)
	}
	content(path, "three")
	content(backups[0], "one")
	content(backups[1], "two")
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := Write(filepath.Join(path, "x"), nil, Options{}); err == nil {
		t.Error("a file below a file")
	}
}

// TestNoLinks: memory sticks have file systems without links; what exists is kept there all the same.
func TestNoLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "key.pem")
	none := func(from, to string) error { return &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.EPERM} }
	now := func() time.Time { return time.Unix(0, 0) }
	if _, err := write(path, []byte("one"), Options{Now: now}, none); err != nil {
		t.Fatal(err)
	}
	if _, err := write(path, []byte("two"), Options{Now: now}, none); !errors.Is(err, ErrExists) {
		t.Fatalf("replaced without force: %v", err)
	}
	for i, want := range []string{"one", "two"} {
		backup, err := write(path, []byte([]string{"two", "three"}[i]), Options{Force: true, Now: now}, none)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(backup); err != nil || string(b) != want {
			t.Errorf("%s: %q %v, want %q", backup, b, err, want)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "three" {
		t.Errorf("%q %v", b, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("permissions %v %v", st.Mode(), err)
	}
	if there, _ := os.ReadDir(dir); len(there) != 3 {
		t.Errorf("left behind: %v", there)
	}
}

// TestNoPermissions: where a file system has no permissions, what it shows decides: others must not read a key.
func TestNoPermissions(t *testing.T) {
	t.Parallel()
	refuse := func(*os.File, os.FileMode) error { return syscall.EPERM }
	silent := func(*os.File, os.FileMode) error { return nil } // says that it did it
	for _, c := range []struct {
		mounted, wanted os.FileMode
		chmod           func(*os.File, os.FileMode) error
		open            bool
	}{
		{0o755, 0o600, refuse, true}, {0o755, 0o600, silent, true}, {0o777, 0o644, refuse, true}, {0o640, 0o600, refuse, true}, {0o602, 0o600, silent, true},
		{0o700, 0o600, refuse, false}, {0o755, 0o644, refuse, false}, {0o600, 0o600, silent, false}, {0o755, 0o600, (*os.File).Chmod, false},
	} {
		f, err := os.Create(filepath.Join(t.TempDir(), "x"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Chmod(c.mounted); err != nil {
			t.Fatal(err)
		}
		if err := permit(f, c.wanted, c.chmod); errors.Is(err, ErrOpen) != c.open || (err != nil) != c.open {
			t.Errorf("%o for %o: %v", c.mounted, c.wanted, err)
		}
	}
}

func TestSetAside(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "page.pdf")
	now := func() time.Time { return time.Unix(0, 0) }
	if backup, err := SetAside(path, now); err != nil || backup != "" {
		t.Fatalf("a file that is not there: %q %v", backup, err)
	}
	seen := map[string]bool{}
	for _, content := range []string{"one", "two"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		backup, err := SetAside(path, now)
		if b, readErr := os.ReadFile(backup); err != nil || readErr != nil || string(b) != content || seen[backup] {
			t.Errorf("%s: %q %v %v", backup, b, err, readErr)
		}
		seen[backup] = true
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it is still there: %v", err)
		}
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	for _, s := range []string{"one", "two"} {
		if err := Replace(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != s {
			t.Fatalf("%q %v", b, err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if err := Replace(filepath.Join(path, "x"), nil, 0o600); err == nil {
		t.Error("a file below a file")
	}
}
