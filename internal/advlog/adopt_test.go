package advlog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// logged are the counts of all flow entries of a component in a folder, in the order of its files and lines.
func logged(t *testing.T, dir string, c Component) (out []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, c.String()+"-flow.*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(b)) {
			e, err := ParseEntry([]byte(l))
			if err != nil {
				t.Fatalf("%s: %v", n, err)
			}
			out = append(out, fmt.Sprint(e.Values["n"]))
		}
	}
	return out
}

func note(t *testing.T, cfg Config, from, to int) {
	t.Helper()
	log, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for n := from; n <= to; n++ {
		log.Flow(context.Background(), FlowEvent{Name: L("x"), Result: ResultOK, Values: []Value{Int("n", int64(n))}})
	}
	if err := log.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// Entries of the time before the place of the logs was there come to the others, each once, whatever was rotated; those of
// other components stay.
func TestAdopt(t *testing.T) {
	t.Parallel()
	early, place := filepath.Join(t.TempDir(), "early"), filepath.Join(t.TempDir(), "place")
	cfg := Config{Dir: early, Component: App, Enabled: true, MaxBytes: MinMaxBytes}
	other := cfg
	other.Component = Supervisor
	note(t, cfg, 1, 400) // more than one file holds
	note(t, other, 1, 2)
	root, err := os.OpenRoot(early)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	cfg.Dir = place
	note(t, cfg, 1000, 1001)
	off := cfg
	off.Enabled = false
	if err := Adopt(off, root); err != nil || len(logged(t, early, App)) != 400 {
		t.Errorf("a log that is off has moved %d entries, %v", 400-len(logged(t, early, App)), err)
	}
	// Half a line of a crash is no entry.
	torn, err := os.OpenFile(filepath.Join(early, "adv-app-flow.log"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(torn, `{"ts":"20`)
	torn.Close()
	if files, _ := filepath.Glob(filepath.Join(early, "adv-app-flow.*")); len(files) < 2 {
		t.Fatalf("nothing was rotated: %v", files)
	}
	if err := Adopt(cfg, root); err != nil {
		t.Fatal(err)
	}
	want := []string{"1000", "1001"}
	for n := 1; n <= 400; n++ {
		want = append(want, fmt.Sprint(n))
	}
	if d := cmp.Diff(want, logged(t, place, App)); d != "" {
		t.Error(d)
	}
	if left, _ := filepath.Glob(filepath.Join(early, "adv-app-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if got := logged(t, early, Supervisor); len(got) != 2 || len(logged(t, place, Supervisor)) != 0 {
		t.Errorf("of another component are left: %v", got)
	}
	if err := Adopt(cfg, root); err != nil || len(logged(t, place, App)) != len(want) {
		t.Errorf("again: %v, %d entries", err, len(logged(t, place, App)))
	}
}

// Who is still writing to the old folder is waited for, and may rotate meanwhile.
func TestAdoptWaits(t *testing.T) {
	t.Parallel()
	early := filepath.Join(t.TempDir(), "early")
	cfg := Config{Dir: early, Component: App, Enabled: true}
	note(t, cfg, 1, 1)
	root, err := os.OpenRoot(early)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	unlock, err := (&files{cfg: cfg}).lock()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Dir = filepath.Join(t.TempDir(), "place")
	done := make(chan error, 1)
	go func() { done <- Adopt(cfg, root) }()
	for {
		if _, err := os.Stat(filepath.Join(cfg.Dir, "adv-app.lock")); err == nil {
			break // there is something to move, and the lock is what is missing
		}
		select {
		case err := <-done:
			t.Fatalf("has not waited: %v", err)
		default:
			runtime.Gosched()
		}
	}
	current := filepath.Join(early, "adv-app-flow.log")
	b, err := os.ReadFile(current)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(current, filepath.Join(early, "adv-app-flow.20260102T150405.0.log")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(current, []byte(strings.Replace(string(b), `"n":1`, `"n":2`, 1)), fileMode); err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"1", "2"}, logged(t, cfg.Dir, App)); d != "" {
		t.Error(d)
	}
}

// What cannot be moved stays where it is; what is no log file is not taken for one.
func TestAdoptFails(t *testing.T) {
	t.Parallel()
	early := filepath.Join(t.TempDir(), "early")
	cfg := Config{Dir: early, Component: App, Enabled: true}
	note(t, cfg, 1, 1)
	root, err := os.OpenRoot(early)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []Config{{Dir: file, Component: App, Enabled: true}, {Dir: early, Enabled: true}, {Component: App, Enabled: true}} {
		if err := Adopt(bad, root); err == nil || len(logged(t, early, App)) != 1 {
			t.Errorf("%+v: %v, %d entries left", bad, err, len(logged(t, early, App)))
		}
	}
	if err := os.Symlink(file, filepath.Join(early, "adv-app-flow.20260102T150405.0.log")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(early, "adv-app-error.log"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = filepath.Join(t.TempDir(), "place")
	if err := Adopt(cfg, root); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff([]string{"1"}, logged(t, cfg.Dir, App)); d != "" {
		t.Error(d)
	}
}
