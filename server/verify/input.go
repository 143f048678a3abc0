package verify

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"ktradv/server/erezept"
)

// Limits of what is read. They bound what a hostile input can make the program hold.
const (
	// MaxRecord is the largest record that is held in memory, in octets; published ones have about 15,000. A larger file is
	// checked as a stream.
	MaxRecord = 4 << 20
	// MaxLine is the longest line of a stream: three records in base64 and some room.
	MaxLine = 3*(MaxRecord/3*4+4) + 64<<10
	maxID   = 256
	// keep is the largest buffer that is kept for the next unit.
	keep = 512 << 10
)

// part is one record of a unit of work: its octets, or the file they are in.
type part struct {
	kind erezept.Kind
	data []byte
	path string

	large func() (io.ReadCloser, error) // the file is too large for data
	stdin io.Reader                     // in place of a file
}

// Unit is one billing case or one record, as it came in.
type Unit struct {
	ID string
	// Case says that Parts are the records of a case; otherwise there is exactly one.
	Case    bool
	parts   []part
	archive bool            // status answers stand in the report
	Outcome json.RawMessage // of a FHIR validation of the receipt, made by somebody else; nil without one
	space   [3][]byte       // buffers for decoded records
}

func (u *Unit) reset() {
	u.ID, u.Case, u.parts, u.archive, u.Outcome = "", false, u.parts[:0], false, nil
	for i := range u.space {
		if cap(u.space[i]) > keep {
			u.space[i] = nil
		}
	}
}

// lineFields are the fields of an input line: the record that each carries, and whether as a file's name.
var lineFields = map[string]struct {
	kind erezept.Kind
	file bool
	one  bool // a record on its own
}{
	"verordnung":      {erezept.Prescription, false, false},
	"abgabe":          {erezept.Dispensing, false, false},
	"quittung":        {erezept.Receipt, false, false},
	"verordnung_file": {erezept.Prescription, true, false},
	"abgabe_file":     {erezept.Dispensing, true, false},
	"quittung_file":   {erezept.Receipt, true, false},
	"record":          {erezept.Unknown, false, true},
	"record_file":     {erezept.Unknown, true, true},
}

// ErrLine is wrapped by every error about a line of a stream.
var ErrLine = errors.New("input line")

// ParseLine reads one line of a stream into u:
//
//	{"id": "4711", "verordnung": BASE64, "abgabe": BASE64, "quittung": BASE64}
//	{"id": "4711", "verordnung_file": "a.p7s", "abgabe_file": "b.p7s", "quittung_file": "c.p7s"}
//	{"id": "4711", "record": BASE64, "kind": "quittung"}      one record; kind: verordnung, abgabe, quittung, eau or auto
//	{"id": "4711", "record_file": "c.p7s"}
//
// "id" is the caller's own and may be left out. A case may leave out records (the report says which are missing) and may
// carry "quittung_outcome", the FHIR OperationOutcome of a validator. Records are base64 of any form that package record
// reads. Unknown and repeated fields are refused. Files are allowed only when files is true. The unit refers to buffers of its
// own and to line.
func (u *Unit) ParseLine(line []byte, files bool) error {
	u.reset()
	p := &lineParser{rest: line}
	kind, kindSet, idSet, ones, cases := erezept.Unknown, false, false, 0, 0
	err := p.object(func(key string) error {
		switch key {
		case "id":
			s, err := p.text(maxID)
			if err != nil || idSet {
				return fmt.Errorf("id: want one text of at most %d octets", maxID)
			}
			u.ID, idSet = s, true
			return nil
		case "kind":
			s, err := p.text(16)
			if err != nil || kindSet {
				return errors.New("kind: want one short text")
			}
			kind, err = erezept.ParseKind(s)
			kindSet = true
			return err
		case "quittung_outcome":
			raw, err := p.raw()
			if err != nil || u.Outcome != nil {
				return errors.New("quittung_outcome: want one JSON object")
			}
			u.Outcome = raw
			return nil
		}
		f, ok := lineFields[key]
		if !ok {
			return fmt.Errorf("unknown field %.32q", key)
		}
		for _, have := range u.parts {
			if have.kind == f.kind {
				return fmt.Errorf("%s: given twice", key)
			}
		}
		if f.one {
			ones++
		} else {
			cases++
		}
		if f.file {
			if !files {
				return fmt.Errorf("%s: files cannot be named here", key)
			}
			s, err := p.text(4096)
			if err != nil || s == "" {
				return fmt.Errorf("%s: want the name of a file", key)
			}
			u.parts = append(u.parts, part{kind: f.kind, path: s})
			return nil
		}
		value, err := p.octets()
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if len(u.parts) == len(u.space) {
			return errors.New("more records than a case has")
		}
		space := &u.space[len(u.parts)]
		n := base64.StdEncoding.DecodedLen(len(value))
		if n > MaxRecord+3 {
			return fmt.Errorf("%s: larger than %d octets", key, MaxRecord)
		}
		if cap(*space) < n {
			*space = make([]byte, n+n/4)
		}
		b := (*space)[:n]
		n, err = base64.StdEncoding.Decode(b, value)
		if err != nil {
			return fmt.Errorf("%s: not base64", key)
		}
		u.parts = append(u.parts, part{kind: f.kind, data: b[:n]})
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrLine, err)
	case ones+cases == 0:
		return fmt.Errorf("%w: no record", ErrLine)
	case ones > 0 && cases > 0:
		return fmt.Errorf("%w: a record on its own and records of a case", ErrLine)
	case kindSet && cases > 0:
		return fmt.Errorf("%w: kind is for a record on its own", ErrLine)
	case u.Outcome != nil && cases == 0:
		return fmt.Errorf("%w: quittung_outcome is for cases", ErrLine)
	}
	u.Case = cases > 0
	if !u.Case {
		u.parts[0].kind = kind
	}
	return nil
}

// lineParser reads a flat JSON object without copying its long strings.
type lineParser struct{ rest []byte }

var errJSON = errors.New("not a JSON object of texts")

func (p *lineParser) space() {
	for len(p.rest) > 0 && (p.rest[0] == ' ' || p.rest[0] == '\t' || p.rest[0] == '\r' || p.rest[0] == '\n') {
		p.rest = p.rest[1:]
	}
}

func (p *lineParser) eat(c byte) bool {
	p.space()
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *lineParser) object(field func(key string) error) error {
	if !p.eat('{') {
		return errJSON
	}
	for first := true; !p.eat('}'); first = false {
		if !first && !p.eat(',') {
			return errJSON
		}
		key, err := p.text(64)
		if err != nil {
			return err
		}
		if !p.eat(':') {
			return errJSON
		}
		if err := field(key); err != nil {
			return err
		}
	}
	p.space()
	if len(p.rest) != 0 {
		return errors.New("something after the JSON object")
	}
	return nil
}

// octets returns the content of a string. One with escapes is decoded into memory of its own.
func (p *lineParser) octets() ([]byte, error) {
	if !p.eat('"') {
		return nil, errJSON
	}
	end := bytes.IndexByte(p.rest, '"')
	if end < 0 {
		return nil, errJSON
	}
	if s := p.rest[:end]; bytes.IndexByte(s, '\\') < 0 {
		p.rest = p.rest[end+1:]
		return s, nil
	}
	end = 0
	for ; end < len(p.rest) && p.rest[end] != '"'; end++ {
		if p.rest[end] == '\\' {
			end++
		}
	}
	if end >= len(p.rest) {
		return nil, errJSON
	}
	var s string
	quoted := append(append([]byte{'"'}, p.rest[:end]...), '"')
	if err := json.Unmarshal(quoted, &s); err != nil {
		return nil, errJSON
	}
	p.rest = p.rest[end+1:]
	return []byte(s), nil
}

func (p *lineParser) text(longest int) (string, error) {
	b, err := p.octets()
	if err != nil {
		return "", err
	}
	if len(b) > longest || !utf8.Valid(b) || bytes.ContainsFunc(b, func(c rune) bool { return c < ' ' }) {
		return "", errJSON
	}
	return string(b), nil
}

// raw returns an object as it stands.
func (p *lineParser) raw() (json.RawMessage, error) {
	p.space()
	if len(p.rest) == 0 || p.rest[0] != '{' {
		return nil, errJSON
	}
	dec := json.NewDecoder(bytes.NewReader(p.rest))
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return nil, errJSON
	}
	p.rest = p.rest[dec.InputOffset():]
	return raw, nil
}

// load reads the files of the unit, but for those that are checked as streams. base is the folder that relative names start from. It returns the first problem; the
// parts before it are loaded.
func (u *Unit) load(base string) error {
	for i := range u.parts {
		p := &u.parts[i]
		if p.path == "" {
			continue
		}
		if p.stdin != nil {
			if err := p.readStdin(); err != nil {
				return err
			}
			continue
		}
		path := p.path
		if !filepath.IsAbs(path) {
			path = filepath.Join(base, path)
		}
		b, err := readFile(path, u.space[i%len(u.space)][:0])
		if errors.Is(err, errTooLarge) {
			p.large = func() (io.ReadCloser, error) { return os.Open(path) }
			continue
		}
		if err != nil {
			return err
		}
		p.data, u.space[i%len(u.space)] = b, b
	}
	return nil
}

// readStdin reads the standard input, or its beginning when it is too large to be held.
func (p *part) readStdin() error {
	head, err := io.ReadAll(io.LimitReader(p.stdin, MaxRecord+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the standard input: %w", err)
	case len(head) <= MaxRecord:
		p.data = head
	default:
		all := io.NopCloser(io.MultiReader(bytes.NewReader(head), p.stdin))
		p.large = func() (io.ReadCloser, error) { return all, nil }
	}
	return nil
}

// errTooLarge means that a file or a line is larger than is read.
var errTooLarge = errors.New("larger than is read")

// readFile reads a regular file of at most MaxRecord octets into buf.
func readFile(path string, buf []byte) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if st.Size() > MaxRecord {
		return nil, fmt.Errorf("%s: %w (%d octets; at most %d)", path, errTooLarge, st.Size(), MaxRecord)
	}
	b := bytes.NewBuffer(buf)
	if n, err := io.Copy(b, io.LimitReader(f, MaxRecord+1)); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	} else if n > MaxRecord {
		return nil, fmt.Errorf("%s: %w (at most %d octets)", path, errTooLarge, MaxRecord)
	}
	return b.Bytes(), nil
}

// source hands out the units of a batch in their order.
type source interface {
	// next fills t with the next piece of work; io.EOF at the end.
	next(t *task) error
	// total is what progress is measured against, octets or units; 0 when it is not known.
	total() int64
}

// lines is a stream of NDJSON.
type lines struct {
	r    *bufio.Reader
	size int64
	at   int64 // octets consumed
	crc  uint32
}

func newLines(r io.Reader, size int64) *lines {
	return &lines{r: bufio.NewReaderSize(r, 256<<10), size: size}
}

func (l *lines) total() int64 { return l.size }

// next reads a line; a line of whitespace is passed over. Of a line that is too long only the beginning is kept.
func (l *lines) next(t *task) error {
	for {
		t.line, t.tooLong = t.line[:0], false
		for {
			chunk, err := l.r.ReadSlice('\n')
			l.at += int64(len(chunk))
			l.crc = update(l.crc, chunk)
			if len(t.line)+len(chunk) > MaxLine {
				t.tooLong = true
			} else if !t.tooLong {
				t.line = append(t.line, chunk...)
			}
			if err == nil {
				break
			}
			if errors.Is(err, bufio.ErrBufferFull) {
				continue
			}
			if errors.Is(err, io.EOF) && (len(bytes.TrimSpace(t.line)) > 0 || t.tooLong) {
				break
			}
			return err
		}
		if t.tooLong || len(bytes.TrimSpace(t.line)) > 0 {
			t.end, t.crc = l.at, l.crc
			return nil
		}
	}
}

// skip reads n octets and returns their checksum: the part of the input that an earlier run has done.
func (l *lines) skip(n int64) (uint32, error) {
	buf := make([]byte, 64<<10)
	for l.at < n {
		m, err := l.r.Read(buf[:min(int64(len(buf)), n-l.at)])
		l.at += int64(m)
		l.crc = update(l.crc, buf[:m])
		if err != nil {
			return l.crc, fmt.Errorf("pass over what was done before: %w", err)
		}
	}
	return l.crc, nil
}

// files is a list of files and folders, and of streams among them.
type files struct {
	kind  erezept.Kind
	dirs  []pending // stack of what is still to be handed out
	units int64
	known int64
	crc   uint32
	walk  func(dir string) ([]fs.DirEntry, error)
}

// pending is a group of files that make a unit, or a folder to be read.
type pending struct {
	dir   string // a folder; "" for a group
	parts []part
	isOne bool
}

// stdinName is the argument that means the standard input.
const stdinName = "-"

// newFiles makes the source for the arguments of a command line. With asCase the arguments are the files of one case. One of
// the arguments may be the standard input.
func newFiles(args []string, stdin io.Reader, kind erezept.Kind, asCase bool) (*files, error) {
	s := &files{kind: kind, walk: os.ReadDir}
	if i := slices.Index(args, stdinName); i >= 0 && slices.Contains(args[i+1:], stdinName) {
		return nil, errors.New("the standard input (-) can be read once")
	}
	if asCase {
		g, err := group(args, stdin)
		if err != nil {
			return nil, err
		}
		s.dirs = []pending{{parts: g}}
		s.known = 1
		return s, nil
	}
	for i := len(args) - 1; i >= 0; i-- {
		if args[i] == stdinName {
			s.dirs = append(s.dirs, pending{parts: []part{{kind: kind, path: stdinName, stdin: stdin}}, isOne: true})
			continue
		}
		st, err := os.Stat(args[i])
		if err != nil {
			return nil, err
		}
		if st.IsDir() {
			s.dirs = append(s.dirs, pending{dir: args[i]})
		} else {
			s.dirs = append(s.dirs, pending{parts: []part{{kind: kind, path: args[i]}}, isOne: true})
		}
	}
	if !anyDir(s.dirs) {
		s.known = int64(len(s.dirs))
	}
	return s, nil
}

func anyDir(p []pending) bool {
	for _, d := range p {
		if d.dir != "" {
			return true
		}
	}
	return false
}

func (s *files) total() int64 { return s.known }

// next hands out files in the order of their names, folder by folder.
func (s *files) next(t *task) error {
	for len(s.dirs) > 0 {
		last := s.dirs[len(s.dirs)-1]
		s.dirs = s.dirs[:len(s.dirs)-1]
		if last.dir == "" {
			s.units++
			t.parts, t.asCase = last.parts, !last.isOne
			for _, p := range last.parts {
				s.crc = update(s.crc, []byte(p.path))
			}
			t.end, t.crc = s.units, s.crc
			return nil
		}
		entries, err := s.walk(last.dir)
		if err != nil {
			return fmt.Errorf("read folder: %w", err)
		}
		inside := s.groups(last.dir, entries)
		for i := len(inside) - 1; i >= 0; i-- {
			s.dirs = append(s.dirs, inside[i])
		}
	}
	return io.EOF
}

// names are the words in a file's name by which the records of a case are told apart.
var names = []struct {
	word string
	kind erezept.Kind
}{{"verordnung", erezept.Prescription}, {"abgabe", erezept.Dispensing}, {"quittung", erezept.Receipt}}

// stem takes the word for the kind out of a file's name; "" when there is none.
func stem(name string) (string, erezept.Kind) {
	lower := strings.ToLower(name)
	for _, n := range names {
		if i := strings.Index(lower, n.word); i >= 0 {
			return lower[:i] + "*" + lower[i+len(n.word):], n.kind
		}
	}
	return "", erezept.Unknown
}

// groups sorts the entries of a folder into cases, single records and folders. Files whose names differ only in the words
// verordnung, abgabe and quittung make a case when there are two of them at least; all others are records on their own.
// Hidden files, streams, and files that are no regular ones are passed over.
func (s *files) groups(dir string, entries []fs.DirEntry) []pending {
	var out []pending
	at := map[string]int{}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") {
			continue
		}
		path := filepath.Join(dir, name)
		if e.IsDir() {
			out = append(out, pending{dir: path})
			continue
		}
		if !e.Type().IsRegular() {
			continue
		}
		key, kind := stem(name)
		if i, ok := at[key]; ok && key != "" && s.kind == erezept.Unknown && !has(out[i].parts, kind) {
			out[i].parts = append(out[i].parts, part{kind: kind, path: path})
			out[i].isOne = false
			continue
		}
		if key != "" {
			at[key] = len(out)
		}
		out = append(out, pending{parts: []part{{kind: kind, path: path}}, isOne: true})
	}
	for i := range out {
		if out[i].isOne {
			out[i].parts[0].kind = s.kind
		}
	}
	return out
}

func has(parts []part, kind erezept.Kind) bool {
	for _, p := range parts {
		if p.kind == kind {
			return true
		}
	}
	return false
}

// group makes the files of one case; what each file is is read from its content.
func group(args []string, stdin io.Reader) ([]part, error) {
	if len(args) == 0 || len(args) > len(names) {
		return nil, fmt.Errorf("-case wants one to three files, not %d", len(args))
	}
	var g []part
	for _, a := range args {
		if a == stdinName {
			g = append(g, part{path: a, stdin: stdin})
			continue
		}
		if st, err := os.Stat(a); err != nil {
			return nil, err
		} else if st.IsDir() {
			return nil, fmt.Errorf("-case wants files; %s is a folder", a)
		}
		g = append(g, part{path: a})
	}
	return g, nil
}
