package keepfile

import (
	"errors"
	"os"
	"path/filepath"
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
