package verify

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ktradv/server/erezept"
)

// double stands in for the check itself: the first octet of the first record is the verdict. Units finish in an order of
// their own.
type double struct {
	checked atomic.Int64
	hold    chan struct{} // when set, every check waits for it or for its context
}

func (d *double) CheckEach(ctx context.Context, in *erezept.Case, emit func(*erezept.CaseReport)) {
	d.checked.Add(1)
	if d.hold != nil {
		select {
		case <-d.hold:
		case <-ctx.Done():
		}
	}
	for range rand.IntN(3) {
		runtime.Gosched()
	}
	r := &erezept.CaseReport{ID: in.ID, Tool: "double", Verdict: erezept.Indeterminate}
	if len(in.Records) > 0 && len(in.Records[0].Data) > 0 {
		r.Verdict = erezept.Verdict(in.Records[0].Data[0]%4) + 1
	}
	for _, g := range in.Records {
		r.Records = append(r.Records, &erezept.Report{Kind: g.Kind, Input: erezept.Input{Size: int64(len(g.Data))}})
	}
	emit(r)
}

var when = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func streamOf(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		rec := base64.StdEncoding.EncodeToString(append([]byte{byte(i % 2)}, bytes.Repeat([]byte("x"), i%50)...))
		fmt.Fprintf(&b, `{"id":"case %d","verordnung":%q,"abgabe":%q,"quittung":%q}`+"\n", i, rec, rec, rec)
	}
	return b.Bytes()
}

func runAll(t *testing.T, e *Engine, in []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	m, complete, err := e.run(context.Background(), newLines(bytes.NewReader(in), int64(len(in))), &out, mark{}, func(mark) error { return nil })
	if err != nil || !complete || m.input != int64(len(in)) {
		t.Fatalf("run: %+v, complete %t, %v", m, complete, err)
	}
	return out.Bytes()
}

// TestOrder: whatever the number of workers, there is one report per line, in the order of the lines.
func TestOrder(t *testing.T) {
	t.Parallel()
	in := streamOf(500)
	var first []byte
	for _, jobs := range []int{1, 2, 7, 64} {
		e := &Engine{Checker: &double{}, Format: JSON, Jobs: jobs, Started: when}
		out := runAll(t, e, in)
		if first == nil {
			first = out
		}
		if !bytes.Equal(out, first) {
			t.Errorf("%d jobs give another output", jobs)
		}
	}
	for i, line := range bytes.Split(bytes.TrimSpace(first), []byte("\n")) {
		var r erezept.CaseReport
		if err := json.Unmarshal(line, &r); err != nil || r.ID != fmt.Sprintf("case %d", i) || !r.CheckedAt.Equal(when) {
			t.Fatalf("report %d: %s, %v", i, line, err)
		}
	}
}

// many gives for each unit as many reports as its record has octets.
type many struct{}

func (many) CheckEach(_ context.Context, in *erezept.Case, emit func(*erezept.CaseReport)) {
	for i := range in.Records[0].Data {
		emit(&erezept.CaseReport{ID: fmt.Sprintf("%s#%d", in.ID, i), Tool: strings.Repeat("x", 1000), Verdict: erezept.Valid})
	}
}

// TestManyReports: reports of units with many of them are written in order, as they come and not at the end of the unit, and
// the place reached counts units.
func TestManyReports(t *testing.T) {
	t.Parallel()
	var in bytes.Buffer
	var want []string
	for i := range 12 {
		n := 1 + i%4*600
		fmt.Fprintf(&in, `{"id":"%d","record":%q}`+"\n", i, base64.StdEncoding.EncodeToString(make([]byte, n)))
		for j := range n {
			want = append(want, fmt.Sprintf("%d#%d", i, j))
		}
	}
	for _, jobs := range []int{1, 3} {
		e := &Engine{Checker: many{}, Format: JSON, Jobs: jobs, Started: when}
		longest := 0
		pr, pw := io.Pipe()
		var got []string
		read := make(chan error)
		go func() {
			buf := make([]byte, 8<<20)
			rest := []byte{}
			for {
				n, err := pr.Read(buf)
				longest = max(longest, n)
				rest = append(rest, buf[:n]...)
				if err != nil {
					break
				}
			}
			for line := range bytes.Lines(rest) {
				var r erezept.CaseReport
				if err := json.Unmarshal(line, &r); err != nil {
					read <- err
					return
				}
				got = append(got, r.ID)
			}
			read <- nil
		}()
		m, complete, err := e.run(context.Background(), newLines(bytes.NewReader(in.Bytes()), 0), pw, mark{}, func(mark) error { return nil })
		pw.Close()
		if err := errors.Join(err, <-read); err != nil || !complete || m.units != 12 || m.counts.Total() != int64(len(want)) {
			t.Fatalf("%+v, %v", m, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d jobs: %s", jobs, diff)
		}
		if longest > full+8<<10 {
			t.Errorf("%d octets were held", longest)
		}
	}
}

// TestHalfAUnitIsNotCounted: when the output fails in the middle of a unit's reports, the place reached is behind the unit
// before, and so are the counts, which a resumed batch goes on from.
func TestHalfAUnitIsNotCounted(t *testing.T) {
	t.Parallel()
	var in bytes.Buffer
	for i, n := range []int{1, 600} {
		fmt.Fprintf(&in, `{"id":"%d","record":%q}`+"\n", i, base64.StdEncoding.EncodeToString(make([]byte, n)))
	}
	e := &Engine{Checker: many{}, Format: JSON, Jobs: 1, Started: when}
	m, complete, err := e.run(context.Background(), newLines(bytes.NewReader(in.Bytes()), 0), &failingAfter{2}, mark{}, func(mark) error { return nil })
	if !errors.Is(err, errFull) || complete || m.units != 1 || m.counts.Total() != 1 {
		t.Errorf("%+v, complete %t, %v", m, complete, err)
	}
}

// failingAfter is an output that takes so many pieces.
type failingAfter struct{ left int }

func (f *failingAfter) Write(b []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

var errFull = errors.New("full")

// TestHostileLines: each wrong line gives one report that says so, and the lines around it are checked.
func TestHostileLines(t *testing.T) {
	t.Parallel()
	good := `{"id":"good","record":"AAAA"}`
	for name, bad := range map[string]string{
		"empty object":      `{}`,
		"no object":         `[1,2]`,
		"half":              `{"record":"AA`,
		"trailing":          `{"record":"AAAA"} {}`,
		"unknown field":     `{"recrod":"AAAA"}`,
		"twice":             `{"abgabe":"AAAA","abgabe":"AAAA"}`,
		"file and data":     `{"abgabe":"AAAA","abgabe_file":"x"}`,
		"both kinds":        `{"abgabe":"AAAA","record":"AAAA"}`,
		"kind of a case":    `{"abgabe":"AAAA","kind":"abgabe"}`,
		"no such kind":      `{"record":"AAAA","kind":"rezept"}`,
		"no base64":         `{"record":"A*AA"}`,
		"number":            `{"record":7}`,
		"nested":            `{"record":{"a":"b"}}`,
		"long id":           `{"record":"AAAA","id":"` + strings.Repeat("x", maxID+1) + `"}`,
		"missing file":      `{"record_file":"no/such/file"}`,
		"folder":            `{"record_file":"/"}`,
		"device":            `{"record_file":"/dev/zero"}`,
		"nul":               "\x00",
		"invalid utf-8":     "{\"id\":\"\xff\",\"record\":\"AAAA\"}",
		"outcome alone":     `{"record":"AAAA","quittung_outcome":{}}`,
		"outcome no object": `{"quittung":"AAAA","quittung_outcome":"x"}`,
		"too long":          `{"record":"` + strings.Repeat("A", MaxLine) + `"}`,
		"too large":         `{"record":"` + strings.Repeat("A", MaxRecord/3*4+8) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &Engine{Checker: &double{}, Format: JSON, Jobs: 2, Started: when, Files: true}
			lines := bytes.Split(bytes.TrimSpace(runAll(t, e, []byte(good+"\n"+bad+"\n\n"+good))), []byte("\n"))
			if len(lines) != 3 {
				t.Fatalf("%d reports", len(lines))
			}
			for i, line := range lines {
				var r erezept.CaseReport
				if err := json.Unmarshal(line, &r); err != nil {
					t.Fatal(err)
				}
				if want := i != 1; (r.Tool == "double") != want || r.Verdict.OK() != want {
					t.Errorf("line %d: %s", i+1, line)
				}
			}
		})
	}
}

// TestFilesAreRefusedInService: names of files in a line are for the command line only.
func TestFilesAreRefusedInService(t *testing.T) {
	t.Parallel()
	var u Unit
	line := []byte(`{"record_file":"/etc/hostname"}`)
	if err := u.ParseLine(line, false); !errors.Is(err, ErrLine) {
		t.Errorf("error %v", err)
	}
	if err := u.ParseLine(line, true); err != nil {
		t.Error(err)
	}
}

// TestEscapes: JSON may escape what it likes.
func TestEscapes(t *testing.T) {
	t.Parallel()
	var u Unit
	err := u.ParseLine([]byte(` { "\u0069d" : "a\"b\u00e4" , "record" : "\/\/\/\/" , "kind":"eau"} `), false)
	if err != nil || u.ID != `a"bä` || u.Case || u.parts[0].kind != erezept.SickNote || !bytes.Equal(u.parts[0].data, []byte{255, 255, 255}) {
		t.Errorf("%+v, %v", u, err)
	}
	err = u.ParseLine([]byte(`{"quittung":"AAAA","quittung_outcome":{"a":["}"]},"abgabe":"AAAA"}`), false)
	if err != nil || string(u.Outcome) != `{"a":["}"]}` || len(u.parts) != 2 || !u.Case {
		t.Errorf("%+v, %v", u, err)
	}
}

// TestInterrupt: when the context ends, nothing more is taken in, what was begun is finished and written, and the place is
// the one to go on from. It does so even when the input hangs.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	in := streamOf(5)
	pr, pw := io.Pipe()
	defer pw.Close()
	d := &double{hold: make(chan struct{})}
	e := &Engine{Checker: d, Format: JSON, Jobs: 2, Started: when}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		pw.Write(in) // and then nothing more ever comes
		cancel()
		close(d.hold)
	}()
	var out bytes.Buffer
	m, complete, err := e.run(ctx, newLines(pr, 0), &out, mark{}, func(mark) error { return nil })
	if err != nil || complete {
		t.Fatalf("complete %t, %v", complete, err)
	}
	if n := int64(bytes.Count(out.Bytes(), []byte("\n"))); n != m.units || n != d.checked.Load() {
		t.Errorf("%d reports, %d units, %d checked", n, m.units, d.checked.Load())
	}
	whole := runAll(t, &Engine{Checker: &double{}, Format: JSON, Jobs: 1, Started: when}, in)
	if !bytes.HasPrefix(whole, out.Bytes()) {
		t.Error("what was written is not the beginning of the whole output")
	}
}

// brokenWriter takes n octets and then fails.
type brokenWriter struct{ n int }

func (w *brokenWriter) Write(b []byte) (int, error) {
	if w.n -= len(b); w.n < 0 {
		return 0, errors.New("disk full")
	}
	return len(b), nil
}

// TestBrokenOutput: a batch ends when its output does.
func TestBrokenOutput(t *testing.T) {
	t.Parallel()
	in := streamOf(1000)
	e := &Engine{Checker: &double{}, Format: JSON, Jobs: 4, Started: when}
	_, complete, err := e.run(context.Background(), newLines(bytes.NewReader(in), 0), &brokenWriter{2000}, mark{}, func(mark) error { return nil })
	if err == nil || complete || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("complete %t, %v", complete, err)
	}
}

// endless makes lines for ever.
type endless struct {
	line []byte
	rest []byte
	left int
}

func (r *endless) Read(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		if len(r.rest) == 0 {
			if r.left == 0 {
				if n == 0 {
					return 0, io.EOF
				}
				return n, nil
			}
			r.left--
			r.rest = r.line
		}
		m := copy(b[n:], r.rest)
		r.rest, n = r.rest[m:], n+m
	}
	return n, nil
}

// TestFlatMemory: what the engine holds does not grow with the input; a line without end counts as one.
func TestFlatMemory(t *testing.T) {
	e := &Engine{Checker: &double{}, Format: JSON, Jobs: 2, Started: when}
	run := func(lines int, line string) uint64 {
		_, _, err := e.run(context.Background(), newLines(&endless{line: []byte(line), left: lines}, 0), io.Discard, mark{}, func(mark) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	line := `{"record":"` + strings.Repeat("A", 20000) + "\"}\n"
	before := run(50, line)
	if after := run(5000, line); after > before+8<<20 {
		t.Errorf("heap grew from %d to %d octets", before, after)
	}
	if after := run(1<<10, strings.Repeat("A", 1<<18)); after > before+64<<20 {
		t.Errorf("heap grew from %d to %d octets by a line of 256 MiB", before, after)
	}
}

// TestGroups: files of a folder become cases by their names.
func TestGroups(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a/1.Verordnung.p7s", "a/1.abgabe.p7s", "a/1.quittung.p7s", "a/2_verordnung.der", "a/2_quittung.der",
		"a/A1_verordnung_ber.p7s", "a/A4_quittung_osig.p7s", "a/note.txt", "a/.hidden", "b/verordnung", "b/abgabe", "b/quittung", "z.p7s"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte{0, 1}, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := newFiles([]string{dir, filepath.Join(dir, "z.p7s")}, nil, erezept.Unknown, false)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		var task task
		if err := s.next(&task); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range task.parts {
			rel, _ := filepath.Rel(dir, p.path)
			names = append(names, fmt.Sprintf("%s=%s", rel, p.kind))
		}
		got = append(got, fmt.Sprintf("%t %s", task.asCase, strings.Join(names, " ")))
	}
	want := []string{
		"true a/1.Verordnung.p7s=verordnung a/1.abgabe.p7s=abgabe a/1.quittung.p7s=quittung",
		"true a/2_quittung.der=quittung a/2_verordnung.der=verordnung",
		"false a/A1_verordnung_ber.p7s=",
		"false a/A4_quittung_osig.p7s=",
		"false a/note.txt=",
		"true b/abgabe=abgabe b/quittung=quittung b/verordnung=verordnung",
		"false z.p7s=",
		"false z.p7s=",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestProgressLine holds the line of the display against known figures.
func TestProgressLine(t *testing.T) {
	t.Parallel()
	var p progress
	p.reports.Store(2000)
	p.input.Store(600)
	d := &display{progress: &p, total: 1000, began: 200, before: 1234567, start: when}
	got := d.line(when.Add(2 * time.Second))
	want := "[##################············]  60 %  1,236,567 checked  1,000/s  2s left"
	if got != want {
		t.Errorf("%q; want %q", got, want)
	}
	d.began = 600 // in the middle of the first unit of this run
	if got := d.line(when.Add(2 * time.Second)); !strings.HasSuffix(got, "1,000/s") {
		t.Errorf("%q", got)
	}
	d.began, d.total = 200, 0
	if got := d.line(when.Add(2 * time.Second)); got != "1,236,567 checked  1,000/s" {
		t.Errorf("%q", got)
	}
	var out bytes.Buffer
	d.w, d.plain = &out, when
	d.tick(when.Add(time.Second))
	if out.Len() != 0 {
		t.Errorf("a plain line after a second: %q", out.String())
	}
	d.tick(when.Add(11 * time.Second))
	if !strings.HasSuffix(out.String(), "/s\n") {
		t.Errorf("plain line %q", out.String())
	}
	out.Reset()
	d.terminal = true
	d.tick(when.Add(12 * time.Second))
	d.end()
	if s := out.String(); !strings.HasPrefix(s, "\r") || !strings.HasSuffix(s, "\r\x1b[K") {
		t.Errorf("bar %q", s)
	}
}

// FuzzParseLine: no line makes the parser panic or hold more than the limits.
func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"id":"1","verordnung":"AAAA","abgabe":"AAAA","quittung":"AAAA","quittung_outcome":{"a":1}}`))
	f.Add([]byte(`{"record":"\u0041AAA","kind":"eau"}`))
	f.Add([]byte(`{"record_file":"x"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var u Unit
		if err := u.ParseLine(line, true); err != nil {
			if !errors.Is(err, ErrLine) {
				t.Errorf("error %v", err)
			}
			return
		}
		if len(u.parts) == 0 || len(u.parts) > 3 || !json.Valid(bytes.TrimSpace(line)) {
			t.Errorf("accepted: %q", line)
		}
	})
}
