package tlv

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := Parse(unhex(t, "5A0280278181025F295F290170E000"+"870101"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range got {
		out = append(out, hex.EncodeToString(appendBig(nil, o.Tag))+":"+hex.EncodeToString(o.Value))
	}
	if have, want := strings.Join(out, " "), "5a:8027 81:5f29 5f29:70 e0: 87:01"; have != want {
		t.Errorf("have %s, want %s", have, want)
	}
	if !got[3].Constructed() || got[2].Constructed() {
		t.Error("E0 is constructed, 5F29 is not")
	}
}

func TestRejects(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"00", "FF00", "5A", "5F", "5F29", "5A02FF", "5A80", "5A8100FF80", "5A83000001AA", "5A8201", "5F818181", "7FFFFFFF00"} {
		if o, err := Parse(unhex(t, in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("Parse(%s) = %v, %v, want ErrMalformed", in, o, err)
		}
	}
	for _, in := range []string{"", "5A0180", "5B018099", "5B01805B00"} {
		if _, err := Only(unhex(t, in), 0x5B); !errors.Is(err, ErrMalformed) {
			t.Errorf("Only(%s) = %v, want ErrMalformed", in, err)
		}
	}
	if v, err := Only(unhex(t, "5B0180"), 0x5B); err != nil || !bytes.Equal(v, []byte{0x80}) {
		t.Errorf("Only = %x, %v", v, err)
	}
}

func TestAppendLengths(t *testing.T) {
	t.Parallel()
	for n, header := range map[int]string{0: "7f4900", 127: "7f497f", 128: "7f498180", 255: "7f4981ff", 256: "7f49820100", 65535: "7f4982ffff", 65536: "7f4983010000"} {
		b := Append(nil, 0x7F49, make([]byte, n/2), make([]byte, n-n/2))
		if got := hex.EncodeToString(b[:len(b)-n]); got != header {
			t.Errorf("%d octets: header %s, want %s", n, got, header)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(unhex(f, "5A0280278181025F295F290170"))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := Parse(b)
		if err != nil {
			return
		}
		var raw, canonical []byte
		for _, o := range all {
			raw = append(raw, o.Raw...)
			canonical = Append(canonical, o.Tag, o.Value)
		}
		if !bytes.Equal(raw, b) {
			t.Fatalf("raw parts of %x give %x", b, raw)
		}
		again, err := Parse(canonical)
		if err != nil || len(again) != len(all) {
			t.Fatalf("%x written as %x parses as %d objects, %v", b, canonical, len(again), err)
		}
	})
}
