package redact

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestNothingPrints(t *testing.T) {
	t.Parallel()
	const iccsnDigits, kvnrText, text = "80276003110000000001", "X000012347", "Erika Mustermann"
	iccsn, err := NewICCSN(iccsnDigits)
	if err != nil {
		t.Fatal(err)
	}
	kvnr, err := NewKVNR(kvnrText)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{
		iccsnDigits: iccsn, kvnrText: kvnr, text: NewString(text), "4d4e4f": NewBytes([]byte("MNO")),
	}
	for plain, v := range values {
		var buf bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&buf, verb, v)
			fmt.Fprintf(&buf, verb, struct{ A any }{v})
			fmt.Fprintf(&buf, verb, []any{v})
		}
		if err := json.NewEncoder(&buf).Encode(map[string]any{"v": v}); err != nil {
			t.Fatal(err)
		}
		slog.New(slog.NewTextHandler(&buf, nil)).Info("x", "v", v)
		out := buf.String()
		if strings.Contains(strings.ToLower(out), strings.ToLower(plain)) || strings.Contains(out, "MNO") {
			t.Errorf("%T leaks its value: %s", v, out)
		}
		if !strings.Contains(out, Mark) {
			t.Errorf("%T does not print %s", v, Mark)
		}
	}
	if iccsn.Reveal() != iccsnDigits || kvnr.Reveal() != kvnrText {
		t.Error("Reveal does not give the value back")
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "8027600311000000000", "8027600311000000000A", "802760031100000000011"} {
		if _, err := NewICCSN(bad); err == nil {
			t.Errorf("NewICCSN(%q) accepted", bad)
		}
	}
	for _, bad := range []string{"", "x000012347", "X00001234", "X0000123477", "1000012347", "Ä00012347"} {
		if _, err := NewKVNR(bad); err == nil {
			t.Errorf("NewKVNR(%q) accepted", bad)
		}
	}
}
