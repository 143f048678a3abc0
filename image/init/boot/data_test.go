//go:build linux

package boot

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ktradv/image/init/data"
	"ktradv/image/init/sandbox"
	"ktradv/image/init/users"
)

// Somebody has had the disk in their hands: links in the place of folders lead nowhere, and the folders hold nothing that
// their service could stumble over. What belongs there stays.
func TestPlantedData(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	s := Setup{k, k.root}
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	path := func(name string) string { return filepath.Join(k.root, name) }
	must(os.MkdirAll(path("etc/adv"), 0o755), os.MkdirAll(path("data/log"), 0o755),
		os.Symlink(path("etc/adv"), path("data/log/kiosk")), unix.Mkfifo(path("data/init"), 0o600))
	if s.hasFolders(dataFolders) {
		t.Error("a link and a pipe count as folders")
	}
	if err := s.prepareData(); err == nil {
		t.Error("nothing is said about what was found")
	}
	if !s.hasFolders(dataFolders) {
		t.Error("not all folders are there")
	}
	if _, ok := k.owners["/etc/adv"]; ok {
		t.Error("the configuration was given away")
	}
	for _, name := range []string{"data/log/kiosk", "data/init", "data/log/init"} {
		if fi, err := os.Lstat(path(name)); err != nil || !fi.IsDir() || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v; want a folder of mode 0700", name, fi, err)
		}
	}
	if fi, err := os.Stat(path("etc/adv")); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("the folder that the link led to: %v, %v; want it untouched", fi, err)
	}
	if n := s.readReboots(); n != 0 {
		t.Errorf("count of reboots = %d", n)
	}
	if err := s.writeReboots(1); err != nil || s.readReboots() != 1 {
		t.Errorf("count = %d, %v; want 1", s.readReboots(), err)
	}
	must(os.Rename(path("data/init/reboots"), path("count")), os.Symlink(path("count"), path("data/init/reboots")))
	if n := s.readReboots(); n != 0 {
		t.Errorf("count behind a link = %d", n)
	}
	must(os.Remove(path("data/init/reboots")), unix.Mkfifo(path("data/init/reboots"), 0o600))
	if n := s.readReboots(); n != 0 { // and does not wait for a writer
		t.Errorf("count from a pipe = %d", n)
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	dir, me := t.TempDir(), users.ID(os.Getuid())
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	outside := filepath.Join(t.TempDir(), "outside")
	must(os.WriteFile(file("app.log"), []byte("entry"), 0o600), os.Mkdir(file("sub"), 0o700), os.WriteFile(file("sub/app.log"), nil, 0o600))
	if err := clean(dir, me, 0); err != nil {
		t.Errorf("a folder as it should be: %v", err)
	}
	must(os.WriteFile(outside, []byte("stays"), 0o600), os.Symlink(outside, file("link")), unix.Mkfifo(file("pipe"), 0o600), unix.Mkfifo(file("sub/pipe"), 0o600),
		os.WriteFile(file("two"), nil, 0o600), os.Link(file("two"), file("names")), os.MkdirAll(file("sub/a/b/c/d/e"), 0o700))
	if err := clean(dir, me, 0); err == nil {
		t.Error("nothing is said about what was found")
	}
	var left []string
	must(filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, name)
		left = append(left, rel)
		return err
	}))
	// Of two names of one file the first goes, and then the other is its only name.
	if diff := cmp.Diff([]string{".", "app.log", "sub", "sub/a", "sub/a/b", "sub/a/b/c", "sub/app.log", "two"}, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if b, err := os.ReadFile(outside); string(b) != "stays" {
		t.Errorf("what a link led to: %q, %v", b, err)
	}
	// What belongs to another user goes, whatever it is.
	if err := clean(dir, me+1, 0); err == nil {
		t.Error("nothing is said about files of another user")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
}

// The kiosk finds its folder of the data partition at the place that its sandbox knows, which is there before.
func TestLogsAreBound(t *testing.T) {
	t.Parallel()
	k := newKernel(t)
	s := Setup{k, k.root}
	if err := s.folders(folders); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(filepath.Join(k.root, kioskLogs)); err != nil || fi.Mode().Perm() != 0o755 || k.owners[kioskLogs] != [2]int{} {
		t.Errorf("%s before the partition is there: %v, %v, owner %v; want a folder of root", kioskLogs, fi, err, k.owners[kioskLogs])
	}
	if err := s.bind(kioskData, kioskLogs); !errors.Is(err, unix.ENOENT) {
		t.Errorf("without a folder: %v", err)
	}
	outside := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(k.root, "data/log"), 0o755), os.Symlink(outside, filepath.Join(k.root, kioskData))); err != nil {
		t.Fatal(err)
	}
	if err := s.bind(kioskData, kioskLogs); err == nil || len(k.mounts) != 0 {
		t.Errorf("a link was followed: %v, mounts %v", err, k.mounts)
	}
	if err := errors.Join(os.Remove(filepath.Join(k.root, kioskData)), s.prepareData(), s.bind(kioskData, kioskLogs)); err != nil {
		t.Fatal(err)
	}
	if k.mounts[kioskLogs] != unix.MS_BIND {
		t.Errorf("mounts %v; want %s bound", k.mounts, kioskLogs)
	}
	profile, err := sandbox.Find(sandbox.Kiosk)
	if err != nil || !slices.Contains(profile.WriteDirs, filepath.Dir(kioskLogs)) {
		t.Errorf("the kiosk may write to %v, %v; want the folder above %s", profile.WriteDirs, err, kioskLogs)
	}
	k.refuse = unix.EINVAL
	if err := s.bind(kioskData, kioskLogs); !errors.Is(err, unix.EINVAL) {
		t.Errorf("refused: %v", err)
	}
	k.refuse = nil
	if err := s.memoryLogs(); err != nil || k.mounts[kioskLogs] != data.Flags || k.owners[kioskLogs] != [2]int{int(users.Kiosk), int(users.Kiosk)} {
		t.Errorf("in memory: %v, mounts %v, owner %v", err, k.mounts, k.owners[kioskLogs])
	}
}
