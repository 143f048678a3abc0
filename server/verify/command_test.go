package verify

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"ktradv/internal/testpki"
	"ktradv/server/erezept"
)

// childVariable makes the test program the command itself.
const childVariable = "ADV_VERIFY_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		// The journal is written behind every report, so that a kill meets it in every state.
		c := &command{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, now: time.Now, every: 1}
		os.Exit(c.run(context.Background(), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// world is a folder with lists and cases.
type world struct {
	pki                *testpki.PKI
	b                  *testpki.Billing
	lists              testpki.BillingLists
	o                  testpki.CaseOptions
	good, other, third *testpki.Case
}

var oneWorld = sync.OnceValues(func() (*world, error) {
	p, err := testpki.New(testpki.Config{Now: when})
	if err != nil {
		return nil, err
	}
	w := &world{pki: p}
	if w.b, err = p.NewBilling(); err != nil {
		return nil, err
	}
	if w.lists, err = w.b.Lists(testpki.ListOptions{}); err != nil {
		return nil, err
	}
	for profile, to := range map[testpki.SignerProfile]**testpki.Signer{testpki.Doctor: &w.o.Doctor, testpki.Pharmacy: &w.o.Pharmacy, testpki.Service: &w.o.Service} {
		if *to, err = w.b.Issue(profile, 1, testpki.BrainpoolKey, nil); err != nil {
			return nil, err
		}
	}
	answer, err := w.b.Status(w.o.Pharmacy, testpki.StatusAnswer{ProducedAt: when.AddDate(0, 0, -1)})
	if err != nil {
		return nil, err
	}
	w.o.Dispensing = func(c *testpki.CMSOptions) { c.OCSP = [][]byte{answer} }
	for _, to := range []**testpki.Case{&w.good, &w.other, &w.third} {
		if *to, err = w.b.Case(w.o); err != nil {
			return nil, err
		}
	}
	return w, nil
})

func newWorld(t testing.TB) (*world, string) {
	t.Helper()
	w, err := oneWorld()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, map[string][]byte{"anchor.der": w.lists.Anchor, "tsl.xml": w.lists.TSL, "vl.xml": w.lists.VL})
	return w, dir
}

func write(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for name, b := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// trustFlags are those of every call; the clock is fixed, because reports carry it.
func trustFlags(dir string) []string {
	return []string{"-test-pki", "-anchor", filepath.Join(dir, "anchor.der"), "-tsl", filepath.Join(dir, "tsl.xml"), "-vl", filepath.Join(dir, "vl.xml"),
		"-clock", when.Format(time.RFC3339), "-offline"}
}

func caseLine(id string, c *testpki.Case) string {
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`{"id":%q,"verordnung":%q,"abgabe":%q,"quittung":%q}`+"\n", id, text(c.Prescription), text(c.Dispensing), text(c.Receipt))
}

// billingFile puts the records of cases into one file.
func billingFile(cases ...*testpki.Case) []byte {
	var resources [][]byte
	for _, c := range cases {
		for i, m := range [][]byte{c.Prescription, c.Dispensing, c.Receipt} {
			resources = append(resources, testpki.BinaryXML(fmt.Sprint(i), m))
		}
	}
	return testpki.BundleXML("file", resources...)
}

func call(t *testing.T, stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = Command(t.Context(), args, stdin, &out, &errOut)
	return code, out.String(), errOut.String()
}

// TestCommand: files, folders, cases and streams, in both forms, with the exit status of the worst verdict.
func TestCommand(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t)
	wrong := bytes.Clone(w.good.Receipt)
	wrong[len(wrong)-1] ^= 1
	swapped := *w.other
	swapped.Receipt = wrong
	large := string(bytes.Replace(billingFile(w.good, &swapped, w.third), []byte("</Bundle>"), append(bytes.Repeat([]byte(" "), MaxRecord), "</Bundle>"...), 1))
	write(t, dir, map[string][]byte{
		"v.p7s": w.good.Prescription, "a.p7s": w.good.Dispensing, "q.p7s": w.good.Receipt, "wrong.p7s": wrong, "other.p7s": w.other.Receipt,
		"text.txt":  []byte("Hello"),
		"large.xml": []byte(large),
		"ta7.xml":   billingFile(w.good, w.other), "files/ta7.xml": billingFile(w.other, w.third), "files/bad.xml": billingFile(&swapped, w.third),
		"cases/1.verordnung.p7s": w.good.Prescription, "cases/1.abgabe.p7s": w.good.Dispensing, "cases/1.quittung.p7s": w.good.Receipt,
		"cases/sub/2.verordnung.p7s": w.other.Prescription, "cases/sub/2.quittung.p7s": w.other.Receipt, "cases/sub/2.abgabe.p7s": w.other.Dispensing,
		"good.ndjson":  []byte(caseLine("1", w.good) + caseLine("2", w.other)),
		"mixed.ndjson": []byte(caseLine("1", w.good) + "{\n" + `{"id":"3","verordnung_file":"v.p7s","abgabe_file":"a.p7s","quittung_file":"other.p7s"}` + "\n"),
	})
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, tt := range []struct {
		name   string
		args   []string
		stdin  string
		code   int
		stdout []string // in the output, in this order
		stderr string
	}{
		{"one file", []string{in("q.p7s")}, "", ExitValid, []string{`"verdict":"valid"`, `"kind":"quittung"`}, "1 checked: 1 valid"},
		{"three files", []string{"-case", in("q.p7s"), in("v.p7s"), in("a.p7s")}, "", ExitValid, []string{`"rezept_id":"` + w.good.ID + `"`}, "1 checked"},
		{"two files", []string{"-case", in("q.p7s"), in("v.p7s")}, "", ExitInvalid, []string{"12005"}, "1 invalid"},
		{"case as text", []string{"-report", "text", "-case", in("q.p7s"), in("v.p7s"), in("a.p7s")}, "", ExitValid, []string{"E-Rezept " + w.good.ID + ": GÜLTIG", "Verordnung: GÜLTIG"}, ""},
		{"another kind", []string{"-kind", "verordnung", in("q.p7s")}, "", ExitInvalid, []string{"12003"}, ""},
		{"wrong signature", []string{in("q.p7s"), in("wrong.p7s")}, "", ExitInvalid, []string{`"verdict":"valid"`, `"verdict":"invalid"`}, "1 valid, 0 valid with warnings, 0 indeterminate, 1 invalid"},
		{"text", []string{in("text.txt")}, "", ExitInvalid, []string{"12001"}, ""},
		{"folder", []string{in("cases")}, "", ExitValid, []string{w.good.ID, w.other.ID}, "2 checked: 2 valid"},
		{"a record from the standard input", []string{"-"}, string(w.good.Receipt), ExitValid, []string{`{"id":"-","verdict":"valid"`, `"kind":"quittung"`}, "1 checked: 1 valid"},
		{"as one of a case", []string{"-case", in("v.p7s"), "-", in("a.p7s")}, string(w.good.Receipt), ExitValid, []string{`"rezept_id":"` + w.good.ID + `"`}, "1 checked"},
		{"a billing file from there", []string{"-"}, string(billingFile(w.good, w.third)), ExitValid, []string{`"id":"-#` + w.good.ID, `"id":"-#` + w.third.ID}, "2 checked: 2 valid"},
		{"a large one", []string{in("q.p7s"), "-"}, large, ExitInvalid, []string{"q.p7s", `"id":"-#` + w.good.ID, `"id":"-#` + w.other.ID, `"id":"-#` + w.third.ID}, "4 checked: 2 valid"},
		{"nothing there", []string{"-"}, "", ExitInvalid, []string{"12001"}, "1 invalid"},
		{"twice there", []string{"-", "-"}, "", ExitFailed, nil, "once"},
		{"billing file", []string{in("ta7.xml")}, "", ExitValid, []string{"ta7.xml#" + w.good.ID, "ta7.xml#" + w.other.ID}, "2 checked: 2 valid"},
		{"large billing file", []string{in("large.xml")}, "", ExitInvalid, []string{"large.xml#" + w.good.ID, "large.xml#" + w.other.ID, "large.xml#" + w.third.ID}, "3 checked: 1 valid, 0 valid with warnings, 0 indeterminate, 2 invalid"},
		{"folder of billing files", []string{in("files")}, "", ExitInvalid, []string{"bad.xml#" + w.other.ID, "bad.xml#", "bad.xml#" + w.third.ID, "ta7.xml#" + w.other.ID}, "5 checked: 3 valid, 0 valid with warnings, 0 indeterminate, 2 invalid"},
		{"billing file in a line", []string{"-stream", "-", "-base", dir}, `{"id":"7","record_file":"ta7.xml"}` + "\n" + caseLine("8", w.third), ExitValid, []string{`"id":"7#` + w.good.ID, `"id":"7#` + w.other.ID, `"id":"8"`}, "3 checked: 3 valid"},
		{"stream", []string{"-stream", in("good.ndjson")}, "", ExitValid, []string{`"id":"1"`, `"id":"2"`}, "2 checked: 2 valid"},
		{"standard input", []string{"-stream", "-", "-quiet"}, caseLine("7", w.third), ExitValid, []string{`"id":"7"`}, ""},
		{"mixed stream", []string{"-base", dir, "-stream", in("mixed.ndjson")}, "", ExitInvalid, []string{`"id":"1"`, "12006", `"id":"3"`, "12061"}, "1 valid, 0 valid with warnings, 1 indeterminate, 1 invalid"},
		{"empty stream", []string{"-stream", "-"}, "", ExitValid, nil, "0 checked"},
		{"only unreadable", []string{"-stream", "-"}, "{}\n", ExitIndeterminate, []string{"12006"}, "1 indeterminate"},
		{"nothing named", nil, "", ExitUsage, nil, "-help"},
		{"no such flag", []string{"-wrong"}, "", ExitUsage, nil, "-wrong"},
		{"both", []string{"-stream", "-", in("q.p7s")}, "", ExitUsage, nil, "either"},
		{"jobs", []string{"-jobs", "0", in("q.p7s")}, "", ExitUsage, nil, "1024"},
		{"report", []string{"-report", "xml", in("q.p7s")}, "", ExitUsage, nil, "json or text"},
		{"no file", []string{in("missing")}, "", ExitFailed, nil, "missing"},
		{"resume without output", []string{"-resume", in("q.p7s")}, "", ExitUsage, nil, "-out"},
		{"help", []string{"-help"}, "", ExitValid, nil, "examples:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := call(t, strings.NewReader(tt.stdin), append(trustFlags(dir), tt.args...)...)
			if code != tt.code || !strings.Contains(stderr, tt.stderr) {
				t.Errorf("exit status %d, error output %q; want %d and %q\n%s", code, stderr, tt.code, tt.stderr, stdout)
			}
			rest := stdout
			for _, want := range tt.stdout {
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Errorf("%q is not in the rest of\n%s", want, stdout)
				}
				rest = after
			}
		})
	}
}

// TestLargeFile: a file that is too large to be held is checked as a stream, alone and named in a line; one octet more and it
// is wrong; what is no message is refused.
func TestLargeFile(t *testing.T) { // not parallel: it measures memory
	w, dir := newWorld(t)
	const size = 64 << 20
	content := func() io.Reader { return io.LimitReader(blanks{}, size) }
	message, err := w.pki.StreamCMS(content, &w.o.Pharmacy.X509Identity, when.Add(-48*time.Hour), testpki.CMSOptions{Piece: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, r := range map[string]io.Reader{"large.p7s": message, "large.txt": io.LimitReader(blanks{}, size), "large.xml": io.MultiReader(strings.NewReader("<Bundle>"), content())} {
		f, err := os.Create(path(name))
		if err == nil {
			_, err = io.Copy(f, r)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	copied, err := os.OpenFile(path("large.p7s"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	for _, tt := range []struct {
		name  string
		flags []string
		line  string
		code  int
		find  string
	}{
		{"dispensing record", []string{"-kind", "abgabe", path("large.p7s")}, "", ExitIndeterminate, `"code":12024`},
		{"of unknown kind", []string{path("large.p7s")}, "", ExitIndeterminate, `{"id":"signature","verdict":"valid"}`},
		{"in a line", []string{"-stream", "-", "-base", dir}, `{"record_file":"large.p7s","kind":"abgabe"}`, ExitIndeterminate, `{"id":"signature","verdict":"valid"}`},
		{"no message", []string{path("large.txt")}, "", ExitInvalid, `"code":12001`},
		{"FHIR that breaks off", []string{path("large.xml")}, "", ExitInvalid, `"code":12001`},
		{"wrong signature", []string{"-kind", "abgabe", path("large.p7s")}, "", ExitInvalid, `"code":12013`},
	} {
		if tt.name == "wrong signature" {
			if _, err := copied.WriteAt([]byte{'x'}, size/2); err != nil {
				t.Fatal(err)
			}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		code, stdout, stderr := call(t, strings.NewReader(tt.line), append(append(trustFlags(dir), "-jobs", "1"), tt.flags...)...)
		runtime.ReadMemStats(&after)
		if code != tt.code || !strings.Contains(stdout, tt.find) {
			t.Errorf("%s: exit %d\n%s%s", tt.name, code, stdout, stderr)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > size/2 {
			t.Errorf("%s: %d octets allocated", tt.name, grown)
		}
	}
}

// blanks is text without end.
type blanks struct{}

func (blanks) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// TestTrustIsNeeded: lists that are not to be trusted are refused before anything is checked.
func TestTrustIsNeeded(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t)
	changed := bytes.Replace(w.lists.TSL, []byte("SMC-B CA"), []byte("SMC-B XX"), 1)
	otherCA, _, err := w.pki.NewTSLAuthority(2)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string][]byte{"q.p7s": w.good.Receipt, "changed.xml": changed, "other.der": otherCA.Certificate})
	anchor, list, vl := filepath.Join(dir, "anchor.der"), filepath.Join(dir, "tsl.xml"), filepath.Join(dir, "vl.xml")
	clock := []string{"-clock", when.Format(time.RFC3339), "-offline", filepath.Join(dir, "q.p7s")}
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"nothing":          {[]string{"-test-pki"}, "no trust list"},
		"no anchor":        {[]string{"-test-pki", "-tsl", list}, "trust anchor"},
		"another anchor":   {[]string{"-test-pki", "-tsl", list, "-anchor", filepath.Join(dir, "other.der")}, "not to be trusted"},
		"changed list":     {[]string{"-test-pki", "-tsl", filepath.Join(dir, "changed.xml"), "-anchor", anchor}, "not to be trusted"},
		"test in real use": {[]string{"-tsl", list, "-anchor", anchor}, "other PKI"},
		"VL as TSL":        {[]string{"-test-pki", "-tsl", vl, "-anchor", anchor}, "is a BNetzA-VL"},
		"VL without TSL":   {[]string{"-test-pki", "-vl", vl, "-anchor", anchor}, "no trust list"},
	} {
		if code, stdout, stderr := call(t, nil, append(tt.args, clock...)...); code != ExitFailed || !strings.Contains(stderr, tt.want) || stdout != "" {
			t.Errorf("%s: exit status %d, %q; want %q", name, code, stderr, tt.want)
		}
	}
	if code, _, stderr := call(t, nil, append([]string{"-test-pki", "-tsl", list, "-anchor", anchor}, clock...)...); code != ExitValid {
		t.Errorf("exit status %d, %s", code, stderr)
	}
}

// TestArchive: lists that were accepted once are there for the next run.
func TestArchive(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t)
	write(t, dir, map[string][]byte{"q.p7s": w.good.Receipt})
	archive := filepath.Join(dir, "archive")
	args := []string{"-test-pki", "-trust", archive, "-clock", when.Format(time.RFC3339), "-offline", filepath.Join(dir, "q.p7s")}
	if code, _, stderr := call(t, nil, args...); code != ExitFailed || !strings.Contains(stderr, "anchor") {
		t.Errorf("empty archive: exit status %d, %s", code, stderr)
	}
	write(t, dir, map[string][]byte{"v.p7s": w.good.Prescription})
	args = append(args, filepath.Join(dir, "v.p7s"))
	first := append([]string{"-anchor", filepath.Join(dir, "anchor.der"), "-tsl", filepath.Join(dir, "tsl.xml"), "-vl", filepath.Join(dir, "vl.xml")}, args...)
	if code, _, stderr := call(t, nil, first...); code != ExitValid {
		t.Fatalf("first run: exit status %d, %s", code, stderr)
	}
	if code, _, stderr := call(t, nil, args...); code != ExitValid {
		t.Errorf("second run: exit status %d, %s", code, stderr)
	}
}

// TestOutputIsNeverOverwritten: an output that is there stays.
func TestOutputIsNeverOverwritten(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t)
	write(t, dir, map[string][]byte{"in.ndjson": []byte(caseLine("1", w.good))})
	out := filepath.Join(dir, "out.ndjson")
	args := append(trustFlags(dir), "-stream", filepath.Join(dir, "in.ndjson"), "-out", out)
	if code, _, stderr := call(t, nil, args...); code != ExitValid {
		t.Fatalf("exit status %d, %s", code, stderr)
	}
	before, err := os.ReadFile(out)
	if err != nil || !bytes.Contains(before, []byte(w.good.ID)) {
		t.Fatalf("%s, %v", before, err)
	}
	if code, _, stderr := call(t, nil, args...); code != ExitFailed || !strings.Contains(stderr, "there already") {
		t.Errorf("again: exit status %d, %s", code, stderr)
	}
	// Resuming what is complete says so once more and does nothing.
	if code, _, stderr := call(t, nil, append(args, "-resume")...); code != ExitValid || !strings.Contains(stderr, "1 checked: 1 valid") {
		t.Errorf("resumed: exit status %d, %s", code, stderr)
	}
	if after, err := os.ReadFile(out); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the output changed: %v", err)
	}
	if code, _, stderr := call(t, nil, append(args, "-resume", "-report", "text")...); code != ExitFailed || !strings.Contains(stderr, "other settings") {
		t.Errorf("other settings: exit status %d, %s", code, stderr)
	}
	write(t, dir, map[string][]byte{"bare.ndjson": []byte("x")})
	if code, _, stderr := call(t, nil, append(trustFlags(dir), "-stream", filepath.Join(dir, "in.ndjson"), "-out", filepath.Join(dir, "bare.ndjson"), "-resume")...); code != ExitFailed || !strings.Contains(stderr, "no journal") {
		t.Errorf("without journal: exit status %d, %s", code, stderr)
	}
	write(t, dir, map[string][]byte{"bare.ndjson.journal": []byte(`{"format":"something else"}`)})
	if code, _, stderr := call(t, nil, append(trustFlags(dir), "-stream", filepath.Join(dir, "in.ndjson"), "-out", filepath.Join(dir, "bare.ndjson"), "-resume")...); code != ExitFailed || !strings.Contains(stderr, "journal of this version") {
		t.Errorf("foreign journal: exit status %d, %s", code, stderr)
	}
}

// TestResumeAfterKill kills the program with SIGKILL again and again in the middle of a batch. In the end its output is the
// one of a run that nobody disturbed, to the octet, and so is the exit status.
func TestResumeAfterKill(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t)
	const lines = 60
	var in bytes.Buffer
	for i := range lines {
		switch i % 10 {
		case 3:
			in.WriteString("{\"id\":\"broken\n")
		case 7:
			wrong := *w.good
			wrong.Receipt = w.other.Receipt
			in.WriteString(caseLine(fmt.Sprint(i), &wrong))
		default:
			in.WriteString(caseLine(fmt.Sprint(i), []*testpki.Case{w.good, w.other, w.third}[i%3]))
		}
	}
	whole := in.Bytes()
	calm, disturbed := filepath.Join(dir, "calm.ndjson"), filepath.Join(dir, "disturbed.ndjson")
	flags := append(trustFlags(dir), "-jobs", "2", "-quiet", "-stream", "-")
	if code, _, stderr := call(t, bytes.NewReader(whole), append(flags, "-out", calm)...); code != ExitInvalid {
		t.Fatalf("undisturbed run: exit status %d, %s", code, stderr)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := func(feed int) (code int) {
		cmd := exec.CommandContext(t.Context(), self, append(flags, "-out", disturbed, "-resume")...)
		cmd.Env = append(os.Environ(), childVariable+"=1")
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// What the pipe has taken but for its last 64 KiB the program has read.
		if _, err := stdin.Write(whole[:feed]); err != nil {
			t.Errorf("feed: %v, %s", err, stderr.String())
		}
		if feed < len(whole) {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			cmd.Wait()
			return -1
		}
		stdin.Close()
		cmd.Wait()
		if cmd.ProcessState.ExitCode() != ExitInvalid {
			t.Errorf("last run: %s", stderr.String())
		}
		return cmd.ProcessState.ExitCode()
	}
	done := int64(0)
	for i := 1; i <= 8; i++ {
		child(len(whole) * i / 9)
		if j, err := readJournal(disturbed); err == nil {
			if j.Units < done {
				t.Errorf("kill %d: %d units after %d", i, j.Units, done)
			}
			done = j.Units
		} else if !os.IsNotExist(err) {
			t.Errorf("kill %d: %v", i, err)
		}
	}
	if done == 0 {
		t.Error("nothing was ever done before a kill")
	}
	if code := child(len(whole)); code != ExitInvalid {
		t.Errorf("exit status %d; want %d", code, ExitInvalid)
	}
	want, err := os.ReadFile(calm)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(disturbed)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the output differs: %d and %d octets", len(got), len(want))
	}
	j, err := readJournal(disturbed)
	if err != nil || !j.Done || j.Units != lines || j.Counts.Worst() != erezept.Invalid {
		t.Errorf("journal %+v, %v", j, err)
	}
}

// TestResumeWithAnotherInput: a journal fits only the input that it was begun with.
func TestResumeWithAnotherInput(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t)
	out := filepath.Join(dir, "out.ndjson")
	flags := append(trustFlags(dir), "-quiet", "-stream", "-", "-out", out, "-resume")
	one := caseLine("1", w.good)
	begun := &command{stdout: io.Discard, stderr: io.Discard}
	if err := begun.parse(flags); err != nil {
		t.Fatal(err)
	}
	o, err := openOutput(out, begun.settings(), false, when, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var counts Counts
	counts[erezept.Valid] = 1
	if err := errors.Join(o.save(mark{units: 1, input: int64(len(one)), crc: update(0, []byte(one)), counts: counts}, false), o.close()); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := call(t, strings.NewReader(caseLine("2", w.good)), flags...); code != ExitFailed || !strings.Contains(stderr, "not the one") {
		t.Errorf("exit status %d, %s", code, stderr)
	}
	if code, _, stderr := call(t, strings.NewReader("short\n"), flags...); code != ExitFailed || !strings.Contains(stderr, "done before") {
		t.Errorf("exit status %d, %s", code, stderr)
	}
	if code, _, stderr := call(t, strings.NewReader(one+caseLine("2", w.other)), flags...); code != ExitValid {
		t.Errorf("exit status %d, %s", code, stderr)
	}
	b, err := os.ReadFile(out)
	var r erezept.CaseReport
	if err != nil || json.Unmarshal(b, &r) != nil || r.ID != "2" {
		t.Errorf("%s, %v", b, err)
	}
}

// TestResumeWithOtherSettings: what decides about verdicts and reports must be the same when a batch goes on; what is not is
// named. Other lists are allowed and said.
func TestResumeWithOtherSettings(t *testing.T) {
	t.Parallel()
	w, dir := newWorld(t)
	newer, err := w.b.Lists(testpki.ListOptions{Issued: when.AddDate(0, 0, -2)})
	if err != nil {
		t.Fatal(err)
	}
	one := caseLine("1", w.good)
	write(t, dir, map[string][]byte{"in.ndjson": []byte(one + caseLine("2", w.other)), "other.xml": newer.TSL, "other.der": newer.Anchor})
	in := func(name string) string { return filepath.Join(dir, name) }
	begin := func(t *testing.T, name string) []string {
		flags := append(trustFlags(dir), "-base", dir, "-stream", in("in.ndjson"), "-out", in(name), "-resume")
		c := &command{stdout: io.Discard, stderr: io.Discard}
		if err := c.parse(flags); err != nil {
			t.Fatal(err)
		}
		opened, err := c.trust.Open(t.Context(), c.now, nil)
		if err != nil {
			t.Fatal(err)
		}
		o, err := openOutput(c.out, c.settings(), false, when, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		o.j.Lists = opened.Checker.Space().Identity()
		var counts Counts
		counts[erezept.Valid] = 1
		if err := errors.Join(o.save(mark{units: 1, input: int64(len(one)), crc: update(0, []byte(one)), counts: counts}, false), o.close()); err != nil {
			t.Fatal(err)
		}
		return flags
	}
	flags := begin(t, "out.ndjson")
	for name, tt := range map[string]struct {
		more []string
		want string
	}{
		"archive":   {[]string{"-archive"}, `-archive was "false" and is "true"`},
		"online":    {[]string{"-offline=false"}, `-offline was "true" and is "false"`},
		"age":       {[]string{"-ocsp-max-age", "1h"}, `-ocsp-max-age was "0s" and is "1h0m0s"`},
		"grace":     {[]string{"-tsl-grace", "24h"}, `-tsl-grace was "0s" and is "24h0m0s"`},
		"base":      {[]string{"-base", in("cases")}, "-base was"},
		"network":   {[]string{"-network", "ti"}, `-network was "internet" and is "ti"`},
		"nonce":     {[]string{"-ocsp-require-nonce"}, `-ocsp-require-nonce was "false" and is "true"`},
		"clock":     {[]string{"-clock", "2026-11-22T11:00:00Z"}, "-clock was"},
		"report":    {[]string{"-report", "text"}, `-report was "json" and is "text"`},
		"two of it": {[]string{"-report", "text", "-archive"}, `-archive was "false" and is "true", -report was`},
	} {
		if code, _, stderr := call(t, nil, append(flags, tt.more...)...); code != ExitFailed || !strings.Contains(stderr, tt.want) || !strings.Contains(stderr, "begin again with another -out") {
			t.Errorf("%s: exit status %d, %s; want %q", name, code, stderr, tt.want)
		}
	}
	code, _, stderr := call(t, nil, append(flags, "-jobs", "7", "-cache", "10", "-ocsp-wait", "1m")...)
	if code != ExitValid || strings.Contains(stderr, "not those that the batch was begun with") {
		t.Errorf("what does not decide about verdicts: exit status %d, %s", code, stderr)
	}
	flags = begin(t, "lists.ndjson")
	code, _, stderr = call(t, nil, append(flags, "-anchor", in("other.der"), "-tsl", in("other.xml"))...)
	if code != ExitValid || !strings.Contains(stderr, "not those that the batch was begun with") {
		t.Errorf("other lists: exit status %d, %s", code, stderr)
	}
}

// TestHalfAUnit: reports of a unit that is not done are not in what the journal knows of.
func TestHalfAUnit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	o, err := openOutput(path, settings{}, false, when, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var counts Counts
	counts[erezept.Valid] = 2
	done := mark{units: 1, input: 10, counts: counts}
	_, err1 := o.Write([]byte("one\ntwo\n"))
	err2 := o.after(done)
	_, err3 := o.Write([]byte("half of the next"))
	if err := errors.Join(err1, err2, err3, o.save(done, false), o.close()); err != nil {
		t.Fatal(err)
	}
	o, err = openOutput(path, settings{}, true, when, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, err1 = o.Write([]byte("three\n"))
	if err := errors.Join(err1, o.after(done), o.save(done, true), o.close()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "one\ntwo\nthree\n" {
		t.Errorf("%q, %v", b, err)
	}
}
