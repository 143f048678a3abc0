// Package keepfile writes files that must not get lost: keys, requests, registrations. A file is there whole or not at all,
// what exists is not replaced unless that is asked for, and then it is kept beside the new one.
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
	_, err = f.Write(data)
	return f.Name(), errors.Join(err, f.Chmod(perm), f.Sync(), f.Close())
}

// Write writes a file and returns the name under which a former one was kept, "" where there was none.
func Write(path string, data []byte, o Options) (backup string, err error) {
	if o.Perm == 0 {
		o.Perm = 0o600
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	name, err := temp(path, data, o.Perm)
	defer os.Remove(name) // it has its own name by then, or none
	if err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	// A link, unlike a renaming, never replaces.
	for err = os.Link(name, path); errors.Is(err, fs.ErrExist); err = os.Link(name, path) {
		if !o.Force {
			return "", fmt.Errorf("%s %w; use --force to replace it, the former one is kept", path, ErrExists)
		}
		if backup, err = keep(path, o.Now()); err != nil {
			return "", err
		}
	}
	if err != nil {
		return backup, fmt.Errorf("write %s: %w", path, err)
	}
	return backup, nil
}

// keep moves a file to a name of its own.
func keep(path string, now time.Time) (string, error) {
	base := path + now.UTC().Format(".20060102T150405Z")
	for i := 0; ; i++ {
		name := base + ".bak"
		if i > 0 {
			name = fmt.Sprintf("%s-%d.bak", base, i)
		}
		err := os.Link(path, name)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil {
			return "", fmt.Errorf("keep %s: %w", path, err)
		}
		return name, nil
	}
}
