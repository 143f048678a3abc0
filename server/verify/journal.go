package verify

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// journalFormat is the first thing in a journal.
const journalFormat = "adv-server verify journal 2"

// journal stands beside the output of a batch and says how far it is. It is replaced as a whole, after the output it
// speaks of is on the disk, so that after any kind of end the two fit together: what the output has beyond the journal is
// cut off and made again.
type journal struct {
	Format  string    `json:"format"`
	Setting settings  `json:"setting"` // what must not change
	Lists   string    `json:"lists"`   // trust.Space.Identity of the last run
	Started time.Time `json:"started"`
	Units   int64     `json:"units"`  // of the input that are done
	Input   int64     `json:"input"`  // position in the input
	CRC     uint32    `json:"crc"`    // of the input up to there
	Output  int64     `json:"output"` // octets of the output
	Counts  Counts    `json:"verdicts"`
	Done    bool      `json:"done"`
}

// settings are what decides about the verdicts and the form of the reports, by flag: a batch that goes on with others would
// say two things in one file.
type settings map[string]string

// differences names what is not the same, for a person.
func (s settings) differences(now settings) string {
	var out []string
	for name, v := range s {
		if now[name] != v {
			out = append(out, fmt.Sprintf("-%s was %q and is %q", name, v, now[name]))
		}
	}
	for name, v := range now {
		if _, ok := s[name]; !ok {
			out = append(out, fmt.Sprintf("-%s was not set and is %q", name, v))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func journalPath(out string) string { return out + ".journal" }

// maxJournal is the largest journal that is read.
const maxJournal = 16 << 10

// readJournal reads the journal beside an output; fs.ErrNotExist when there is none.
func readJournal(out string) (journal, error) {
	f, err := os.Open(journalPath(out))
	if err != nil {
		return journal{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxJournal+1))
	if err != nil {
		return journal{}, fmt.Errorf("read journal: %w", err)
	}
	var j journal
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&j); err != nil || len(b) > maxJournal || j.Format != journalFormat {
		return journal{}, fmt.Errorf("%s is no journal of this version", journalPath(out))
	}
	if j.Units < 0 || j.Input < 0 || j.Output < 0 || j.Units > j.Counts.Total() {
		return journal{}, fmt.Errorf("%s contradicts itself", journalPath(out))
	}
	return j, nil
}

// write replaces the journal.
func (j *journal) write(out string) error {
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}
	path := journalPath(out)
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// output is the file of the reports with its journal.
type output struct {
	path    string
	f       *os.File
	w       *bufio.Writer
	j       journal
	written int64
	whole   int64         // octets of units that are done
	every   time.Duration // between two journals
	last    time.Time     // of the last one, by the real clock
}

// errComplete means that the batch was finished by an earlier run.
var errComplete = errors.New("the batch is complete")

// openOutput makes the output, or opens the one of an interrupted run. Without resume an output that is there is never touched.
// started is the time of the check for a batch that begins.
func openOutput(path string, setting settings, resume bool, started time.Time, every time.Duration) (*output, error) {
	o := &output{path: path, every: every, last: time.Now()}
	if resume {
		j, err := readJournal(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if _, err := os.Lstat(path); err == nil {
				return nil, fmt.Errorf("%s has no journal, so it cannot be resumed", path)
			}
		case err != nil:
			return nil, err
		case j.Setting.differences(setting) != "":
			return nil, fmt.Errorf("%s was begun with other settings: %s; go on with those, or begin again with another -out", path, j.Setting.differences(setting))
		case j.Done:
			o.j = j
			return o, errComplete
		default:
			return o, o.reopen(j)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("%s is there already; resume it, or name another output", path)
		}
		return nil, fmt.Errorf("make output: %w", err)
	}
	o.f, o.w = f, bufio.NewWriterSize(f, 256<<10)
	o.j = journal{Format: journalFormat, Setting: setting, Started: started}
	if err := o.j.write(path); err != nil {
		f.Close()
		return nil, err
	}
	return o, nil
}

// reopen cuts the output to what the journal knows of.
func (o *output) reopen(j journal) error {
	f, err := os.OpenFile(o.path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	st, err := f.Stat()
	if err == nil && st.Size() < j.Output {
		err = fmt.Errorf("%s is shorter than its journal says", o.path)
	}
	if err == nil {
		err = f.Truncate(j.Output)
	}
	if err == nil {
		_, err = f.Seek(j.Output, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("resume: %w", err)
	}
	o.f, o.w, o.j, o.written, o.whole = f, bufio.NewWriterSize(f, 256<<10), j, j.Output, j.Output
	return nil
}

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	o.written += int64(n)
	return n, err
}

// after is called behind the last report of each unit, and writes a journal when it is time.
func (o *output) after(m mark) error {
	o.whole = o.written
	if now := time.Now(); now.Sub(o.last) >= o.every {
		o.last = now
		return o.save(m, false)
	}
	return nil
}

// save brings output and journal to the disk. Reports of a unit that is not done are behind what the journal knows of.
func (o *output) save(m mark, done bool) error {
	if err := o.w.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if err := o.f.Sync(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	o.j.Units, o.j.Input, o.j.CRC, o.j.Counts, o.j.Output, o.j.Done = m.units, m.input, m.crc, m.counts, o.whole, done
	return o.j.write(o.path)
}

func (o *output) close() error {
	if o.f == nil {
		return nil
	}
	return o.f.Close()
}
