package advlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ktradv/internal/redact"
	"ktradv/internal/req"
)

const iccsnDigits = "80276003110000000001"

var testTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// movedClock is a clock that the test moves.
type movedClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *movedClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *movedClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func testICCSN(t testing.TB) redact.ICCSN {
	t.Helper()
	n, err := redact.NewICCSN(iccsnDigits)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func open(t testing.TB, cfg Config) (*Log, *movedClock) {
	t.Helper()
	clock := &movedClock{t: testTime}
	if cfg.Clock == nil {
		cfg.Clock = clock.now
	}
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "log")
	}
	if cfg.Component == 0 {
		cfg.Component = Server
	}
	cfg.Enabled = true
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, clock
}

func flush(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// readAll returns the content of every file below dir.
func readAll(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[filepath.Base(path)] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func entries(t testing.TB, b []byte) []Entry {
	t.Helper()
	var out []Entry
	for line := range bytes.Lines(b) {
		e, err := ParseEntry(line)
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		out = append(out, e)
	}
	return out
}

func countICCSN(files map[string][]byte) int {
	n := 0
	for _, b := range files {
		n += bytes.Count(b, []byte(iccsnDigits))
	}
	return n
}

var codeTest = NewCode(19999, "a test error")

func TestStreamsShareFieldNamesAndOperation(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2440", "AdV-A_2441", "AdV-A_2424")
	for _, c := range []Component{Server, App} {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			l, clock := open(t, Config{TestMode: true, Level: Debug, Component: c})
			op, session := NewOperation(nil), NewSession(nil)
			ctx := WithSession(WithOperation(t.Context(), op), session)
			span := l.Begin(ctx, L("session.start"))
			clock.advance(1500 * time.Microsecond * 1000)
			span.End(ResultFailed, codeTest, Int("round_trips", 5))
			l.Error(ctx, ErrorEvent{Code: codeTest, Severity: Error, Type: Security, Name: L("session.start"), Part: L("c2c"),
				Result: ResultRefused, SW: 0x6982, ICCSN: testICCSN(t), Remote: true})
			l.Debug(ctx, DebugEvent{Name: L("c2c.batch"), Values: []Value{Int("commands", 7), Flag("ok", true),
				Word("step", L("open"))}})
			l.Security(ctx, SecurityEvent{Name: L("tls.refused"), Severity: Warning, Result: ResultRefused, Code: codeTest})
			flush(t, l)

			all := readAll(t, l.cfg.Dir)
			for s := range streams {
				es := entries(t, all[c.String()+"-"+s.String()+".log"])
				if len(es) != 1 {
					t.Fatalf("stream %s has %d entries; want 1", s, len(es))
				}
				e := es[0]
				if e.Log != s.String() || e.Component != c.String() || e.Name == "" || e.Severity == "" || e.At().IsZero() {
					t.Errorf("stream %s: fixed fields missing: %+v", s, e)
				}
				if e.Operation != op.String() || e.Session != session.String() {
					t.Errorf("stream %s: operation %q, session %q; want %s, %s", s, e.Operation, e.Session, op, session)
				}
				if s != StreamError && e.ICCSN != "" {
					t.Errorf("stream %s holds a card number", s)
				}
			}
			flow := entries(t, all[c.String()+"-flow.log"])[0]
			if flow.Start != "2026-03-01T12:00:00.000Z" || flow.End != "2026-03-01T12:00:01.500Z" ||
				flow.Result != "failed" || flow.Code != 19999 || flow.Text != "a test error" || flow.Duration != 1500 {
				t.Errorf("flow entry %+v", flow)
			}
			er := entries(t, all[c.String()+"-error.log"])[0]
			if er.ICCSN != iccsnDigits || er.SW != "6982" || !er.Remote || er.ErrorType != "Security" || er.Part != "c2c" ||
				er.Severity != "Error" || len(er.Event) != 16 {
				t.Errorf("error entry %+v", er)
			}
		})
	}
}

func TestOffByDefault(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2437")
	dir := filepath.Join(t.TempDir(), "log")
	l, err := Open(Config{Dir: dir, Component: App})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	l.Error(ctx, ErrorEvent{Code: codeTest, Severity: Fatal, ICCSN: testICCSN(t)})
	l.Begin(ctx, L("x")).End(ResultOK, Code{})
	l.Perf(ctx, PerfEvent{Name: L("x")})
	l.Debug(ctx, DebugEvent{Name: L("x")})
	l.Security(ctx, SecurityEvent{Name: L("x")})
	l.SetLevel(Debug)
	if err := errors.Join(l.Flush(ctx), l.Maintain(ctx), l.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a log that is off created %s (%v)", dir, err)
	}
	// The twin: the same configuration, enabled, does write.
	on, _ := open(t, Config{Dir: dir, Component: App})
	on.Error(ctx, ErrorEvent{Code: codeTest, Severity: Fatal})
	flush(t, on)
	if n := len(entries(t, readAll(t, dir)["adv-app-error.log"])); n != 1 {
		t.Errorf("enabled log has %d entries; want 1", n)
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2438", "AdV-A_2439", "AdV-A_2432", "AdV-A_2433")
	severities := []Severity{Debug, Info, Warning, Error, Fatal}
	tests := []struct {
		level    Severity
		testMode bool
		want     int // error entries of the five
		debug    int
	}{
		{Debug, true, 5, 1}, {Debug, false, 4, 0}, {Info, true, 4, 1}, {Info, false, 4, 0},
		{Warning, false, 3, 0}, {Error, false, 2, 0}, {Fatal, true, 1, 1},
	}
	for _, c := range []Component{Server, App} {
		for _, tt := range tests {
			t.Run(fmt.Sprint(c, tt.level, tt.testMode), func(t *testing.T) {
				t.Parallel()
				l, _ := open(t, Config{TestMode: tt.testMode, Component: c})
				l.SetLevel(tt.level)
				for _, s := range severities {
					l.Error(t.Context(), ErrorEvent{Code: codeTest, Severity: s})
				}
				l.Debug(t.Context(), DebugEvent{Name: L("x")})
				flush(t, l)
				all := readAll(t, l.cfg.Dir)
				if n := len(entries(t, all[c.String()+"-error.log"])); n != tt.want {
					t.Errorf("%d error entries; want %d", n, tt.want)
				}
				es := entries(t, all[c.String()+"-debug.log"])
				if len(es) != tt.debug {
					t.Fatalf("%d debug entries; want %d", len(es), tt.debug)
				}
				for _, e := range es {
					if e.Severity != "Debug" {
						t.Errorf("debug entry with severity %s", e.Severity)
					}
				}
			})
		}
	}
}

func TestParseSeverity(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Severity{"debug": Debug, "info": Info, "warning": Warning, "error": Error, "fatal": Fatal} {
		got, err := ParseSeverity(text)
		if err != nil || got != want || !strings.EqualFold(got.String(), text) {
			t.Errorf("ParseSeverity(%s) = %v, %v", text, got, err)
		}
	}
	if _, err := ParseSeverity("loud"); err == nil {
		t.Error("ParseSeverity accepted loud")
	}
}

func TestFileModes(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2442", "AdV-A_2443")
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.MkdirAll(dir, 0o755); err != nil { // somebody created it too wide
		t.Fatal(err)
	}
	l, clock := open(t, Config{Dir: dir, TestMode: true, MaxBytes: MinMaxBytes})
	for s := range 3 {
		l.Error(t.Context(), ErrorEvent{Code: codeTest, Severity: Error, ICCSN: testICCSN(t), Values: []Value{Int("n", int64(s))}})
		l.Debug(t.Context(), DebugEvent{Name: L("x")})
		flush(t, l)
		clock.advance(25 * time.Hour)
		if err := l.Maintain(t.Context()); err != nil { // rotates
			t.Fatal(err)
		}
	}
	clock.advance(170 * 24 * time.Hour) // rewrites some
	if err := l.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(dir)
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("directory mode %v, %v; want 0700", st.Mode(), err)
	}
	n := 0
	for name := range readAll(t, dir) {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v; want 0600", name, st.Mode(), err)
		}
		n++
	}
	if n < 4 {
		t.Errorf("only %d files looked at", n)
	}
}

func TestCardNumbersLeaveEveryFile(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2426")
	// Large retention: entries stay, so that the number must be cut out of them.
	l, clock := open(t, Config{Retention: 10 * 365 * 24 * time.Hour})
	for range 3 { // two rotated files and the current one
		l.Error(t.Context(), ErrorEvent{Code: codeTest, Severity: Error, SW: 0x6982, ICCSN: testICCSN(t)})
		l.Error(t.Context(), ErrorEvent{Code: codeTest, Severity: Error})
		flush(t, l)
		clock.advance(24 * time.Hour)
		if err := l.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l.Error(t.Context(), ErrorEvent{Code: codeTest, Severity: Error, SW: 0x6982, ICCSN: testICCSN(t)})
	flush(t, l)
	if n := countICCSN(readAll(t, l.cfg.Dir)); n != 4 {
		t.Fatalf("%d card numbers before their time; want 4", n)
	}
	// 170 days later all are still there: the removal is not the rotation's doing.
	clock.advance(170 * 24 * time.Hour)
	if err := l.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := countICCSN(readAll(t, l.cfg.Dir)); n != 4 {
		t.Fatalf("%d card numbers after 170 days; want 4", n)
	}
	// 180 days after the first entries these are gone; the ones of the next day too, because the job works with a day to
	// spare; the younger ones stay.
	clock.advance(7 * 24 * time.Hour)
	if err := l.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := countICCSN(readAll(t, l.cfg.Dir)); n != 2 {
		t.Errorf("%d card numbers 180 days after the first; want 2", n)
	}
	// 180 days after the last one none is left, and the entries are still there.
	clock.advance(3 * 24 * time.Hour)
	if err := l.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := readAll(t, l.cfg.Dir)
	if n := countICCSN(all); n != 0 {
		t.Errorf("%d card numbers after 180 days; want none", n)
	}
	total := 0
	for name, b := range all {
		for _, e := range entries(t, b) {
			total++
			if e.ICCSN != "" || e.Code != 19999 {
				t.Errorf("%s: entry %+v", name, e)
			}
		}
	}
	if total != 7 {
		t.Errorf("%d entries left; want all 7", total)
	}
}

func TestCardNumbersLeaveAtOpen(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2426")
	dir := filepath.Join(t.TempDir(), "log")
	l, _ := open(t, Config{Dir: dir, Retention: 10 * 365 * 24 * time.Hour})
	l.Error(t.Context(), ErrorEvent{Code: codeTest, Severity: Error, ICCSN: testICCSN(t)})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// The terminal was off for half a year, and a crash left a torn line and a working copy.
	f, err := os.OpenFile(filepath.Join(dir, "adv-server-error.log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, `{"ts":"2026-03-01T12:00:00.000Z","iccsn":"%s`, iccsnDigits)
	f.Close()
	if err := os.WriteFile(filepath.Join(dir, "adv-server-error.log.tmp"), []byte(iccsnDigits), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := countICCSN(readAll(t, dir)); n != 3 {
		t.Fatalf("%d card numbers on disk; want 3", n)
	}
	later := &movedClock{t: testTime.Add(180 * 24 * time.Hour)}
	open(t, Config{Dir: dir, Clock: later.now, Retention: 10 * 365 * 24 * time.Hour})
	if n := countICCSN(readAll(t, dir)); n != 0 {
		t.Errorf("%d card numbers after Open; want none", n)
	}
}

func TestMaintenanceRunsByItself(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2426")
	dir := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(Config{Dir: dir, Component: Server, Enabled: true, Retention: 10 * 365 * 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		e := fmt.Sprintf(`{"ts":%q,"severity":"Error","name":"x","log":"error","iccsn":%q,"code":1}`+"\n",
			time.Now().Add(-179*24*time.Hour+2*time.Hour).UTC().Format(TimeFormat), iccsnDigits)
		if err := os.WriteFile(filepath.Join(dir, "adv-server-error.log"), []byte(e), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		if n := countICCSN(readAll(t, dir)); n != 1 {
			t.Errorf("%d card numbers before the time; want 1", n)
		}
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		if n := countICCSN(readAll(t, dir)); n != 0 {
			t.Errorf("%d card numbers after the time; want none", n)
		}
	})
}

func TestBoundOnDisk(t *testing.T) {
	t.Parallel()
	l, clock := open(t, Config{MaxBytes: MinMaxBytes, TestMode: true})
	l.Error(t.Context(), ErrorEvent{Code: codeTest, Severity: Error})
	flush(t, l)
	// A flood in the debug stream: ten times its budget.
	for range 60 {
		for range 100 {
			l.Debug(t.Context(), DebugEvent{Name: L("flood"), Values: []Value{Int("n", 1)}})
		}
		clock.advance(time.Second)
		flush(t, l)
		var total int64
		for _, b := range readAll(t, l.cfg.Dir) {
			total += int64(len(b))
		}
		if total > MinMaxBytes*streamTable[StreamDebug].share/100 {
			t.Fatalf("%d bytes on disk; the debug stream may have %d%% of %d", total, streamTable[StreamDebug].share, MinMaxBytes)
		}
	}
	if l.Dropped() != 0 {
		t.Errorf("%d entries dropped", l.Dropped())
	}
	all := readAll(t, l.cfg.Dir)
	if len(entries(t, all["adv-server-error.log"])) != 1 {
		t.Error("the flood pushed out the error log")
	}
	newest := 0
	for name, b := range all {
		if strings.Contains(name, "-debug.") {
			newest += len(entries(t, b))
		}
	}
	if newest < 100 {
		t.Errorf("only %d debug entries kept", newest)
	}
}

func TestRetentionDeletesOldFiles(t *testing.T) {
	t.Parallel()
	l, clock := open(t, Config{})
	l.Begin(t.Context(), L("old")).End(ResultOK, Code{})
	flush(t, l)
	clock.advance(25 * time.Hour)
	if err := l.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	clock.advance(179 * 24 * time.Hour)
	l.Begin(t.Context(), L("new")).End(ResultOK, Code{})
	if err := l.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := readAll(t, l.cfg.Dir); len(all) != 5 { // two streams, rotated and current, and the lock
		t.Errorf("%d files after 180 days; want 5", len(all))
	}
	clock.advance(2 * 24 * time.Hour)
	if err := l.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, b := range readAll(t, l.cfg.Dir) {
		if bytes.Contains(b, []byte(`"old"`)) {
			t.Errorf("%s is past its retention", name)
		}
	}
}

// fullDisk refuses to grow files while full, after writing part of what it was given, as a real file system may.
type fullDisk struct {
	appendFile
	full *bool
}

func (d fullDisk) WriteAt(b []byte, at int64) (int, error) {
	if *d.full {
		n, err := d.appendFile.WriteAt(b[:len(b)/2], at)
		if err != nil {
			return n, err
		}
		return n, syscall.ENOSPC
	}
	return d.appendFile.WriteAt(b, at)
}

func TestFullDiskLosesEntriesNotTheProgram(t *testing.T) {
	t.Parallel()
	full := false
	l, _ := open(t, Config{open: func(name string) (appendFile, error) {
		f, err := openAppend(name)
		return fullDisk{f, &full}, err
	}})
	log := func(n int) {
		for i := range n {
			l.Error(t.Context(), ErrorEvent{Code: codeTest, Severity: Error, Values: []Value{Int("i", int64(i))}})
		}
		flush(t, l)
	}
	log(3)
	full = true
	log(5)
	if l.Dropped() != 5 {
		t.Errorf("dropped %d; want 5", l.Dropped())
	}
	full = false
	log(1)
	es := entries(t, readAll(t, l.cfg.Dir)["adv-server-error.log"])
	if len(es) != 5 {
		t.Fatalf("%d entries; want 3 before, the notice and 1 after", len(es))
	}
	if n := es[3]; n.Name != "log.dropped" || n.Values["count"] != 5.0 || n.Severity != "Warning" {
		t.Errorf("notice %+v", n)
	}
}

func TestHungDiskDoesNotBlock(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	l, _ := open(t, Config{open: func(name string) (appendFile, error) {
		<-release
		return openAppend(name)
	}})
	for range 3 * queueLen { // returns although no entry can be written
		l.Error(t.Context(), ErrorEvent{Code: codeTest, Severity: Error})
	}
	// The queue holds as many, and the writer as many again and the one that woke it.
	if want := uint64(3*queueLen - (2*queueLen + 1)); l.Dropped() < want {
		t.Errorf("dropped %d of %d; want at least %d", l.Dropped(), 3*queueLen, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Flush = %v; want canceled", err)
	}
	close(release)
	flush(t, l)
	written := len(entries(t, readAll(t, l.cfg.Dir)["adv-server-error.log"]))
	if uint64(written)+l.Dropped() < 3*queueLen {
		t.Errorf("%d written and %d dropped of %d: some vanished", written, l.Dropped(), 3*queueLen)
	}
}

func TestSeveralWritersShareADirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	const writers, each = 3, 400
	var wg sync.WaitGroup
	for range writers {
		l, _ := open(t, Config{Dir: dir, Component: App, MaxBytes: 4 << 20})
		wg.Go(func() {
			for i := range each {
				l.Error(t.Context(), ErrorEvent{Code: codeTest, Severity: Error, Values: []Value{Int("i", int64(i))}})
				if i%50 == 0 {
					l.Flush(t.Context())
				}
			}
			l.Flush(t.Context())
		})
	}
	wg.Wait()
	total := 0
	for name, b := range readAll(t, dir) {
		if strings.HasPrefix(name, "adv-app-error.") || name == "adv-app-error.log" {
			total += len(entries(t, b))
		}
	}
	if total != writers*each {
		t.Errorf("%d entries; want %d", total, writers*each)
	}
}

func TestTornLineIsRepaired(t *testing.T) {
	t.Parallel()
	l, _ := open(t, Config{})
	torn := `{"ts":"2026-03-01T11:`
	name := filepath.Join(l.cfg.Dir, "adv-server-error.log")
	if err := os.WriteFile(name, []byte(torn), 0o600); err != nil {
		t.Fatal(err)
	}
	l.Error(t.Context(), ErrorEvent{Code: codeTest, Severity: Error})
	flush(t, l)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	rest, ok := bytes.CutPrefix(b, []byte(torn+"\n"))
	if !ok || len(entries(t, rest)) != 1 {
		t.Errorf("file is %q", b)
	}
}

func TestSymlinkIsNotFollowed(t *testing.T) {
	t.Parallel()
	l, _ := open(t, Config{})
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.Symlink(victim, filepath.Join(l.cfg.Dir, "adv-server-error.log")); err != nil {
		t.Fatal(err)
	}
	l.Error(t.Context(), ErrorEvent{Code: codeTest, Severity: Error})
	flush(t, l)
	if _, err := os.Stat(victim); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("wrote through a symbolic link (%v)", err)
	}
	if l.Dropped() != 1 {
		t.Errorf("dropped %d; want 1", l.Dropped())
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, cfg := range map[string]Config{
		"no component": {Dir: dir, Enabled: true},
		"no directory": {Component: Server, Enabled: true},
		"tiny bound":   {Dir: dir, Component: Server, Enabled: true, MaxBytes: 1000},
		"not a folder": {Dir: "/dev/null/x", Component: Server, Enabled: true},
	} {
		if l, err := Open(cfg); err == nil {
			l.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTextFromOutsideDoesNotCompile(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2411", "AdV-A_2412")
	build := func(pkg string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, pkg)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := build("./testdata/outside"); err == nil || !strings.Contains(out, "constant") {
		t.Errorf("a variable became a Label: %v\n%s", err, out)
	}
	if out, err := build("./testdata/constants"); err != nil {
		t.Errorf("the twin with constants does not build: %v\n%s", err, out)
	}
}

func TestOneOf(t *testing.T) {
	t.Parallel()
	if got := OneOf("b", "a", "b").String(); got != "b" {
		t.Errorf("OneOf = %s; want b", got)
	}
	if got := OneOf("Erika Mustermann", "a", "b").String(); got != "other" {
		t.Errorf("OneOf = %s; want other", got)
	}
}

// The name of a module is the image's own or none, whatever the caller takes for the image's.
func TestAuthority(t *testing.T) {
	t.Parallel()
	got := Authority([32]byte{0: 0xab, 31: 1}).attr
	if want := "ab" + strings.Repeat("0", 61) + "1"; got.Key != "authority_sha256" || got.Value.String() != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func TestModule(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("m", maxModule)
	image := []string{"8021q", "snd-hda", long, long + "m", "Erika", "a b", "", "80276001011699901234\n"}
	for name, want := range map[string]string{"8021q": "8021q", "snd-hda": "snd-hda", long: long, long + "m": "other", "i915": "other", "Erika": "other",
		"a b": "other", "": "other", "80276001011699901234\n": "other"} {
		if got := Module(name, image).attr; got.Key != "module" || got.Value.String() != want {
			t.Errorf("Module(%q) = %v; want %s", name, got, want)
		}
	}
	if got := Module("8021q", nil).attr.Value.String(); got != "other" {
		t.Errorf("of an image without modules: %s", got)
	}
}

func TestInsurer(t *testing.T) {
	t.Parallel()
	for ik, want := range map[string]int64{"109500969": 109500969, "101575519": 101575519, "109500968": 0, "10950096": 0,
		"1095009690": 0, "X00001234": 0, "": 0, "1095Ü0969": 0} {
		if got := Insurer(ik).attr.Value.Int64(); got != want {
			t.Errorf("Insurer(%q) = %d; want %d", ik, got, want)
		}
	}
}

func TestOperationID(t *testing.T) {
	t.Parallel()
	a, b := NewOperation(nil), NewOperation(nil)
	if a == b {
		t.Error("two operations have the same id")
	}
	got, err := ParseOperation(a.String())
	if err != nil || got != a {
		t.Errorf("ParseOperation = %v, %v; want %v", got, err, a)
	}
	fixed := NewOperation(bytes.NewReader(make([]byte, 16))).String()
	if fixed != "00000000-0000-4000-8000-000000000000" {
		t.Errorf("id from zeros = %s", fixed)
	}
	if OperationFrom(t.Context()) != (Operation{}) || SessionFrom(t.Context()) != (Session{}) {
		t.Error("an empty context holds an id")
	}
}

func FuzzParseOperation(f *testing.F) {
	f.Add("0b1c2d3e-0000-4000-8000-0123456789ab")
	f.Add("Erika Mustermann                    ")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := ParseOperation(s); err == nil && strings.Trim(s, "0123456789abcdef-") != "" {
			t.Errorf("accepted %q", s)
		}
	})
}

// Whatever stands in a log file, an old card number does not survive in an entry that the writer made, and nothing panics.
func FuzzExpire(f *testing.F) {
	old := testTime.Add(-200 * 24 * time.Hour).Format(TimeFormat)
	f.Add([]byte(`{"ts":"`+old+`","log":"error","iccsn":"`+iccsnDigits+`","values":{"a":1}}`+"\n"), false)
	f.Add([]byte(`{"ts":"`+old+`","iccsn":"`+iccsnDigits), true)
	f.Add([]byte(`{"iccsn":"`+iccsnDigits+`"}`), true)
	f.Fuzz(func(t *testing.T, b []byte, twice bool) {
		var out bytes.Buffer
		changed, err := copyExpired(&out, bytes.NewReader(b), testTime)
		if err != nil {
			t.Fatal(err)
		}
		if !changed && !bytes.Equal(out.Bytes(), b) {
			t.Error("content differs, but no change was reported")
		}
		for line := range bytes.Lines(out.Bytes()) {
			if !bytes.Contains(line, iccsnKey) {
				continue
			}
			if e, err := ParseEntry(line); err != nil || testTime.Sub(e.At()) >= ICCSNAge {
				t.Errorf("kept %q", line)
			}
		}
		again, err := copyExpired(&bytes.Buffer{}, bytes.NewReader(out.Bytes()), testTime)
		if err != nil || again && twice {
			t.Errorf("a second run changes again: %v", err)
		}
	})
}

func BenchmarkError(b *testing.B) {
	l, _ := open(b, Config{})
	for b.Loop() {
		l.Error(b.Context(), ErrorEvent{Code: codeTest, Severity: Error})
	}
}
