// Package keepfile writes files that must not get lost: keys, requests, registrations. A file is there whole or not at all,
// what exists is not replaced unless that is asked for, and then it is kept beside the new one. On file systems without links
// (memory sticks) an empty file can be left where the machine stops in between.
package keepfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// ErrExists is wrapped where a file exists and Force is not set.
var ErrExists = errors.New("exists already")

// Options say how a file is written.
type Options struct {
	// Perm are the permissions; zero means 0600.
	Perm fs.FileMode
	// Force replaces what exists; the former file is kept as <name>.<time>.bak.
	Force bool
	// Now names the backup; nil means the system's clock.
	Now func() time.Time
}

// Replace writes the present state of something: the former content is not kept, but a reader sees the old or the new one.
func Replace(path string, data []byte, perm fs.FileMode) error {
	name, err := temp(path, data, perm)
	if err == nil {
		err = os.Rename(name, path)
	}
	if err != nil {
		os.Remove(name)
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// temp writes a file beside path and returns its name.
func temp(path string, data []byte, perm fs.FileMode) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return "", err
	}
	if err := permit(f, perm, (*os.File).Chmod); err != nil { // before there is anything to read
		return f.Name(), errors.Join(err, f.Close())
	}
	_, err = f.Write(data)
	return f.Name(), errors.Join(err, f.Sync(), f.Close())
}

// ErrOpen is wrapped where a file system cannot keep others from a file.
var ErrOpen = errors.New("this file system (FAT, exFAT?) lets others read or change the file; next: take a folder on another one, or mount it with umask=077")

// permit sets the permissions. Some file systems, those of memory sticks above all, have none of their own: what they show is
// taken where it lets others do no more.
func permit(f *os.File, perm fs.FileMode, chmod func(*os.File, fs.FileMode) error) error {
	changed := chmod(f, perm)
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Mode().Perm()&0o066&^perm != 0 {
		return errors.Join(ErrOpen, changed)
	}
	return nil
}

// move gives a file another name and never replaces one. link makes the second name; where the file system has no links, the
// name is taken with an empty file first, which is then replaced.
func move(from, to string, link func(from, to string) error) error {
	err := link(from, to)
	switch {
	case err == nil:
		return os.Remove(from)
	case errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist):
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = f.Close(); err == nil {
		err = os.Rename(from, to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(to)) // it is the empty one
	}
	return nil
}

// Write writes a file and returns the name under which a former one was kept, "" where there was none.
func Write(path string, data []byte, o Options) (backup string, err error) {
	return write(path, data, o, os.Link)
}

func write(path string, data []byte, o Options, link func(from, to string) error) (backup string, err error) {
	if o.Perm == 0 {
		o.Perm = 0o600
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	name, err := temp(path, data, o.Perm)
	defer os.Remove(name) // it has its name by then, or none
	if err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	for err = move(name, path, link); errors.Is(err, fs.ErrExist); err = move(name, path, link) {
		if !o.Force {
			return "", fmt.Errorf("%s %w; use --force to replace it, the former one is kept", path, ErrExists)
		}
		if backup, err = keep(path, o.Now(), link); err != nil {
			return "", err
		}
	}
	if err != nil {
		return backup, fmt.Errorf("write %s: %w", path, err)
	}
	return backup, nil
}

// SetAside moves a file to the name that a backup has, and returns that; "" where there is no such file. now nil means the
// system's clock.
func SetAside(path string, now func() time.Time) (backup string, err error) {
	if now == nil {
		now = time.Now
	}
	if backup, err = keep(path, now(), os.Link); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return backup, err
}

// keep moves a file to a name of its own.
func keep(path string, now time.Time, link func(from, to string) error) (string, error) {
	base := path + now.UTC().Format(".20060102T150405Z")
	for i := 0; ; i++ {
		name := base + ".bak"
		if i > 0 {
			name = fmt.Sprintf("%s-%d.bak", base, i)
		}
		switch err := move(path, name, link); {
		case errors.Is(err, fs.ErrExist):
		case err != nil:
			return "", fmt.Errorf("keep %s: %w", path, err)
		default:
			return name, nil
		}
	}
}
