package verify

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzJournal: a journal is read strictly, and one that was accepted can be written and read again.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"format":"adv-server verify journal 2","setting":{"report":"json"},"lists":"00","started":"2026-11-22T10:00:00Z","units":2,"input":700,"crc":1,"output":90,"verdicts":{"valid":2},"done":false}`))
	f.Add([]byte(`{"format":"adv-server verify journal 2","units":-1,"verdicts":{"valid":-1}}`))
	f.Add([]byte(`{"format":"adv-server verify journal 2","units":1,"verdicts":{"other":1}}`))
	f.Add([]byte(`{`))
	out := filepath.Join(f.TempDir(), "out")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(journalPath(out), data, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := readJournal(out)
		if err != nil {
			return
		}
		if j.Units < 0 || j.Input < 0 || j.Output < 0 || j.Counts.Total() < j.Units {
			t.Fatalf("accepted %+v", j)
		}
		if err := j.write(out); err != nil {
			t.Fatal(err)
		}
		if again, err := readJournal(out); err != nil || again.Counts != j.Counts || !again.Started.Equal(j.Started) {
			t.Fatalf("%+v, %v; was %+v", again, err, j)
		}
	})
}
