package advlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
)

// Adopt moves the log files of cfg.Component out of the folder from into cfg.Dir: the entries of a time in which cfg.Dir was
// not there yet and another folder, in memory, had its name. Whoever still writes to the old folder has finished when its
// files are read, and what is written by name from then on goes to cfg.Dir. Entries keep their order within a file; the
// bounds of cfg hold. With an error what was not moved is still in from. A Config that is not enabled adopts nothing.
func Adopt(cfg Config, from *os.Root) error {
	if !cfg.Enabled {
		return nil
	}
	err := cfg.complete()
	if err != nil {
		return fmt.Errorf("adopt log: %w", err)
	}
	own, err := filesOf(cfg.Component, from)
	if err != nil || len(own) == 0 {
		return err
	}
	f, err := openFiles(cfg)
	if err != nil {
		return fmt.Errorf("adopt log: %w", err)
	}
	lock, err := from.OpenFile(cfg.Component.String()+".lock", os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, fileMode)
	if err != nil {
		return fmt.Errorf("adopt log: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("adopt log: lock: %w", err)
	}
	if own, err = filesOf(cfg.Component, from); err != nil { // who has finished only now may have rotated
		return err
	}
	var errs []error
	for s := range streams {
		for _, e := range own { // rotated files come before the current one
			if rest, ok := strings.CutPrefix(e.Name(), f.stem(s)+"."); ok && strings.HasSuffix(rest, "log") && e.Type().IsRegular() {
				errs = append(errs, f.adopt(s, from, e.Name()))
			}
		}
	}
	return errors.Join(errs...)
}

// filesOf lists the files of a component, sorted by name.
func filesOf(c Component, from *os.Root) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(from.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("adopt log: %w", err)
	}
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), c.String()+"-") }), nil
}

// adopt moves one file.
func (f *files) adopt(s Stream, from *os.Root, name string) error {
	file, err := from.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("adopt log: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, f.cfg.MaxBytes))
	if err != nil {
		return fmt.Errorf("adopt log: %w", err)
	}
	// What a crash has torn is no entry.
	if b = b[:bytes.LastIndexByte(b, '\n')+1]; len(b) > 0 {
		if err := f.append(s, b, f.cfg.Clock()); err != nil {
			return fmt.Errorf("adopt log: %w", err)
		}
	}
	if err := from.Remove(name); err != nil {
		return fmt.Errorf("adopt log: %w", err)
	}
	return nil
}
