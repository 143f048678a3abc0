package finding

import (
	"bytes"
	"strings"
	"testing"
)

// TestSafe: what files and the network say moves no cursor and hides nothing.
func TestSafe(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Söhne & Töchter, 日本":     "Söhne & Töchter, 日本",
		"\x1b[2J\x1b]0;title\x07": `\u001b[2J\u001b]0;title\u0007`,
		"a\r\nb\tc":               `a\u000d\u000ab\u0009c`,
		"\u009b31m":               `\u009b31m`, // the eight-bit form of ESC [
		"user\u202egnp.exe":       `user\u202egnp.exe`,
		"\xff\x9b":                `\xff\x9b`,
		"\ufffd":                  "\ufffd",
	} {
		if got := Safe(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := Safe(strings.Repeat("ä", 5000)); len(got) > 2*maxText+3 {
		t.Errorf("%d octets", len(got))
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	l := List{
		{Code: "A", Severity: Info, What: "note", Fix: "nothing"},
		{Code: "B", Severity: Error, What: "bad \x1b[31m", Fix: "mend\nit", Field: "f"},
		{Code: "C", Severity: Warning, What: "odd", Fix: "look"},
	}
	var b bytes.Buffer
	if err := l.At("form.xml", 7, "g").WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := `form.xml:7: error B f: bad \u001b[31m
    to do: mend\u000ait
form.xml:7: warning C g: odd
    to do: look
form.xml:7: info A g: note
    to do: nothing
1 errors, 1 warnings, 1 notes
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &b, want)
	}
	if l.Worst() != Error || !l.Has("C") || l.Has("D") || (List{}).Worst() != Info {
		t.Error("the gravest or the codes are not right")
	}
}
