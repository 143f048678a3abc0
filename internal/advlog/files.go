package advlog

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Modes of directory and files: the owner alone (AdV-A_2442, AdV-A_2443).
const (
	dirMode  = 0o700
	fileMode = 0o600
)

// rotatedStamp stands in the names of rotated files, so that names sort by age.
const rotatedStamp = "20060102T150405"

// files is the set of log files of one component in one directory.
//
//	adv-server-error.log                      current
//	adv-server-error.20260102T150405.0.log    rotated then; the number tells files of one second apart
//	adv-server-error.log.tmp                  being rewritten; a leftover is removed
//
// A stream has a budget of bytes (its share of Config.MaxBytes) and an eighth of it per file: six eighths are for rotated
// files, one for the current one, one for a rewrite in progress.
type files struct {
	cfg Config
}

// appendFile is what a batch is appended to.
type appendFile interface {
	io.WriterAt
	io.ReaderAt
	Stat() (os.FileInfo, error)
	Truncate(size int64) error
	Close() error
}

func openAppend(name string) (appendFile, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, fileMode)
}

func openFiles(cfg Config) (*files, error) {
	if err := os.MkdirAll(cfg.Dir, dirMode); err != nil {
		return nil, fmt.Errorf("create log directory: %w", err)
	}
	if err := os.Chmod(cfg.Dir, dirMode); err != nil {
		return nil, fmt.Errorf("restrict log directory: %w", err)
	}
	f := &files{cfg: cfg}
	if err := f.maintain(cfg.Clock()); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *files) fileMax(s Stream) int64 {
	return f.cfg.MaxBytes * streamTable[s].share / 100 / fileParts
}

func (f *files) stem(s Stream) string { return f.cfg.Component.String() + "-" + s.String() }

func (f *files) current(s Stream) string { return filepath.Join(f.cfg.Dir, f.stem(s)+".log") }

// lock keeps other processes of the component out until the returned function is called. The lock ends with the process.
func (f *files) lock() (unlock func(), err error) {
	name := filepath.Join(f.cfg.Dir, f.cfg.Component.String()+".lock")
	l, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, fileMode)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	for {
		err = syscall.Flock(int(l.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("lock log directory: %w", err)
	}
	return func() { l.Close() }, nil
}

// append adds whole lines to the current file of s, or nothing. It splits the batch where a file is full.
func (f *files) append(s Stream, lines []byte, now time.Time) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	limit := f.fileMax(s)
	for len(lines) > 0 {
		file, err := f.cfg.open(f.current(s))
		if err != nil {
			return fmt.Errorf("open log file: %w", err)
		}
		st, err := file.Stat()
		if err != nil {
			file.Close()
			return fmt.Errorf("stat log file: %w", err)
		}
		size := st.Size()
		n := fit(lines, limit-size-1) // one byte for the repair of a torn line
		if n == 0 {
			file.Close()
			if size == 0 {
				return errors.New("append log: entry larger than a file may be")
			}
			if err := f.rotate(s, now); err != nil {
				return err
			}
			continue
		}
		err = writeWhole(file, size, lines[:n])
		if cerr := file.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("append log: %w", err)
		}
		lines = lines[n:]
	}
	return nil
}

// fit returns how many bytes of whole lines go into room.
func fit(lines []byte, room int64) int {
	if int64(len(lines)) <= room {
		return len(lines)
	}
	if room <= 0 {
		return 0
	}
	return bytes.LastIndexByte(lines[:room], '\n') + 1
}

// writeWhole writes b at the end of file, after repairing a line torn by a crash. A failed write is taken back.
func writeWhole(file appendFile, size int64, b []byte) error {
	at := size
	if size > 0 {
		var last [1]byte
		if _, err := file.ReadAt(last[:], size-1); err != nil {
			return fmt.Errorf("read last byte: %w", err)
		}
		if last[0] != '\n' {
			b = append([]byte{'\n'}, b...)
		}
	}
	if _, err := file.WriteAt(b, at); err != nil {
		return errors.Join(err, file.Truncate(size))
	}
	return nil
}

// rotate closes the current file of s and makes room. The caller holds the lock.
func (f *files) rotate(s Stream, now time.Time) error {
	stamp := now.UTC().Format(rotatedStamp)
	for i := range 1000 {
		name := filepath.Join(f.cfg.Dir, f.stem(s)+"."+stamp+"."+strconv.Itoa(i)+".log")
		// An existing file is never overwritten: whoever makes files here holds the lock. Hard links, which would see to it by
		// themselves, are forbidden to a confined program.
		switch _, err := os.Lstat(name); {
		case err == nil:
			continue
		case !errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("rotate log: %w", err)
		}
		if err := os.Rename(f.current(s), name); err != nil {
			return fmt.Errorf("rotate log: %w", err)
		}
		return f.bound(s, now)
	}
	return errors.New("rotate log: too many files in one second")
}

type rotated struct {
	path  string
	stamp string
	seq   int
	size  int64
}

// rotatedFiles lists the rotated files of s, oldest first.
func (f *files) rotatedFiles(s Stream) ([]rotated, error) {
	entries, err := os.ReadDir(f.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("list log directory: %w", err)
	}
	var list []rotated
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), f.stem(s)+".")
		if !ok || !e.Type().IsRegular() {
			continue
		}
		rest, ok = strings.CutSuffix(rest, ".log")
		stamp, seq, dot := strings.Cut(rest, ".")
		n, err := strconv.Atoi(seq)
		if !ok || !dot || err != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // deleted meanwhile
		}
		list = append(list, rotated{filepath.Join(f.cfg.Dir, e.Name()), stamp, n, info.Size()})
	}
	slices.SortFunc(list, func(a, b rotated) int {
		return cmp.Or(cmp.Compare(a.stamp, b.stamp), cmp.Compare(a.seq, b.seq))
	})
	return list, nil
}

// bound deletes rotated files of s, oldest first, until the budget holds, and those that are past retention.
func (f *files) bound(s Stream, now time.Time) error {
	list, err := f.rotatedFiles(s)
	if err != nil {
		return err
	}
	var total int64
	for _, r := range list {
		total += r.size
	}
	room := f.fileMax(s) * (fileParts - 2)
	for _, r := range list {
		at, err := time.Parse(rotatedStamp, r.stamp)
		expired := err != nil || now.Sub(at) > f.cfg.Retention
		if total <= room && !expired {
			continue
		}
		if err := os.Remove(r.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("delete old log file: %w", err)
		}
		total -= r.size
	}
	return nil
}

// maintain removes leftovers, rotates by age, keeps the bounds and removes expired card numbers from every file.
func (f *files) maintain(now time.Time) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	var errs []error
	for s := range streams {
		errs = append(errs, f.maintainStream(s, now))
	}
	return errors.Join(errs...)
}

func (f *files) maintainStream(s Stream, now time.Time) error {
	if err := os.Remove(f.current(s) + ".tmp"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove leftover: %w", err)
	}
	if st, err := os.Lstat(f.current(s)); err == nil && st.Size() > 0 {
		oldest := firstEntry(f.current(s))
		if now.Sub(oldest) >= f.cfg.MaxAge || st.Size() > f.fileMax(s) {
			if err := f.rotate(s, now); err != nil {
				return err
			}
		}
	}
	if err := f.bound(s, now); err != nil {
		return err
	}
	list, err := f.rotatedFiles(s)
	if err != nil {
		return err
	}
	paths := []string{f.current(s)}
	for _, r := range list {
		paths = append(paths, r.path)
	}
	var errs []error
	for _, p := range paths {
		errs = append(errs, f.expire(p, f.current(s)+".tmp", now))
	}
	return errors.Join(errs...)
}

// firstEntry is the time of the first line, or the zero time (which is old) where there is none to read.
func firstEntry(path string) time.Time {
	file, err := os.Open(path)
	if err != nil {
		return time.Time{}
	}
	defer file.Close()
	line, err := bufio.NewReader(io.LimitReader(file, maxLine)).ReadBytes('\n')
	if err != nil {
		return time.Time{}
	}
	e, err := ParseEntry(line)
	if err != nil {
		return time.Time{}
	}
	return e.At()
}

// expire rewrites path without the card numbers that have reached their age. The file is replaced in one step: a crash
// leaves either the old or the new one.
func (f *files) expire(path, tmp string, now time.Time) error {
	in, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open log file: %w", err)
	}
	defer in.Close()
	if changed, err := copyExpired(io.Discard, in, now); err != nil || !changed {
		return err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("rewrite log file: %w", err)
	}
	out, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return fmt.Errorf("rewrite log file: %w", err)
	}
	defer os.Remove(tmp) // fails harmlessly after the rename
	w := bufio.NewWriter(out)
	_, err = copyExpired(w, in, now)
	err = errors.Join(err, w.Flush(), out.Sync(), out.Close())
	if err != nil {
		return fmt.Errorf("rewrite log file: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("rewrite log file: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync log directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync log directory: %w", err)
	}
	return nil
}

var iccsnKey = []byte(`"` + FieldICCSN + `"`)

// copyExpired copies lines, removing card numbers that are too old, and reports whether anything differs. A line that holds
// a card number but cannot be read as an entry is left out: its age is unknown.
func copyExpired(w io.Writer, r io.Reader, now time.Time) (changed bool, err error) {
	br := bufio.NewReaderSize(r, 2*maxLine)
	for {
		line, err := br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			// Longer than any entry: not ours. Drop the whole line.
			changed = true
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = br.ReadSlice('\n')
			}
			line = nil
		}
		if err != nil && err != io.EOF {
			return changed, fmt.Errorf("read log file: %w", err)
		}
		if bytes.Contains(line, iccsnKey) {
			if kept := expireLine(line, now); len(kept) != len(line) {
				changed = true
				line = kept
			}
		}
		if _, werr := w.Write(line); werr != nil {
			return changed, fmt.Errorf("write log file: %w", werr)
		}
		if err == io.EOF {
			return changed, nil
		}
	}
}

// expireLine returns the line, the line without its card number, or nothing.
func expireLine(line []byte, now time.Time) []byte {
	e, err := ParseEntry(line)
	if err != nil {
		return nil
	}
	age := now.Sub(e.At())
	// An entry from the future was made with a wrong clock: nobody knows its age.
	if age < ICCSNAge-iccsnMargin && age > -iccsnMargin {
		return line
	}
	// The writer puts the field neither first nor escaped, so it ends at the next quote.
	start := bytes.Index(line, append([]byte{','}, iccsnKey...))
	if start < 0 {
		return nil
	}
	colon := start + 1 + len(iccsnKey)
	if colon+1 >= len(line) || line[colon] != ':' || line[colon+1] != '"' {
		return nil
	}
	end := bytes.IndexByte(line[colon+2:], '"')
	if end < 0 {
		return nil
	}
	kept := append(bytes.Clone(line[:start]), line[colon+2+end+1:]...)
	if bytes.Contains(kept, iccsnKey) {
		return nil
	}
	if _, err := ParseEntry(kept); err != nil {
		return nil
	}
	return kept
}
