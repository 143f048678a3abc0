package terminal

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFault(t *testing.T) {
	t.Parallel()
	want := Fault{Cause: CauseKiosk, Problems: []Problem{{"/etc/adv/terminal.json", "display.width", "is wrong", "mend it"}}, Facts: []Fact{{"kernel", "6.1"}}}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseFault(b)
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	for _, bad := range []string{"", "[]", "{}", `{"cause":"?"}`, `{"cause":"kiosk","problems":7}`, strings.Repeat(" ", maxFault+1)} {
		if f, err := ParseFault([]byte(bad)); !errors.Is(err, ErrFault) {
			t.Errorf("%.20q: %+v, %v", bad, f, err)
		}
	}
	want.Problems = make([]Problem, 2*maxProblems)
	want.Problems[0].What = "two\nlines\x00" + strings.Repeat("x", 2*maxFaultText)
	if b, err = json.Marshal(want); err != nil {
		t.Fatal(err)
	}
	got, err = ParseFault(b)
	if err != nil || len(got.Problems) != maxProblems || !strings.HasPrefix(got.Problems[0].What, "two lines?xx") || len(got.Problems[0].What) > maxFaultText+3 {
		t.Errorf("too much: %d problems, %.20q, %v", len(got.Problems), got.Problems[0].What, err)
	}
}

func FuzzFault(f *testing.F) {
	f.Add([]byte(`{"cause":"configuration","problems":[{"file":"a","what":"b","fix":"c"}],"facts":[{"name":"a","value":"b"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseFault(b)
		if err != nil && !errors.Is(err, ErrFault) {
			t.Errorf("untyped error %v", err)
		}
		if len(got.Problems) > maxProblems || len(got.Facts) > maxFacts {
			t.Error("unbounded")
		}
	})
}
