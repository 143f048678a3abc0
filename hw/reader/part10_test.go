package reader

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ktradv/internal/readers"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The two vectors went through a generic driver and an own driver of a simulated reader before this package existed.
const (
	verifyVector = "1E 1E 89 47 04 08 06 02 01 07 04 00 00 00 00 0D 00 00 00 00 20 00 01 08 20 FF FF FF FF FF FF FF"
	modifyVector = "1E 1E 89 47 04 00 08 08 06 03 02 03 07 04 00 01 02 00 00 00 15 00 00 00 00 24 00 01 10 " +
		"20 FF FF FF FF FF FF FF 20 FF FF FF FF FF FF FF"
)

func TestPINVerifyLayout(t *testing.T) {
	t.Parallel()
	v := PINVerify{
		Timeout: 30, Timeout2: 30, Format: PINFormatBytes, Min: 6, Max: 8, EndAt: EndAtOK, Messages: 1, Lang: LangGerman,
		Command: append(unhex(t, "0020000108"), Placeholder()...),
	}
	b, err := v.Bytes()
	if err != nil || !bytes.Equal(b, unhex(t, verifyVector)) {
		t.Fatalf("%X, %v", b, err)
	}
	back, err := ParsePINVerify(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v, back); diff != "" {
		t.Error(diff)
	}
}

func TestPINModifyLayout(t *testing.T) {
	t.Parallel()
	m := PINModify{
		Timeout: 30, Timeout2: 30, Format: PINFormatBytes, OffsetNew: 8, Min: 6, Max: 8, Confirm: ConfirmNew | AskOld, EndAt: EndAtOK,
		Messages: 3, Lang: LangGerman, Message: [3]byte{0, 1, 2},
		Command: append(append(unhex(t, "0024000110"), Placeholder()...), Placeholder()...),
	}
	b, err := m.Bytes()
	if err != nil || !bytes.Equal(b, unhex(t, modifyVector)) {
		t.Fatalf("%X, %v", b, err)
	}
	back, err := ParsePINModify(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, back); diff != "" {
		t.Error(diff)
	}
}

func TestStructuresRejectWhatTheyAreNot(t *testing.T) {
	t.Parallel()
	good := unhex(t, verifyVector)
	for name, b := range map[string][]byte{
		"empty": {}, "head only": good[:19], "cut": good[:len(good)-1], "one more": append(bytes.Clone(good), 0),
		"prologue": append(append(bytes.Clone(good[:12]), 1), good[13:]...), "too long": make([]byte, 1000),
	} {
		if _, err := ParsePINVerify(b); !errors.Is(err, ErrPart10) {
			t.Errorf("verify, %s: %v", name, err)
		}
	}
	if _, err := ParsePINModify(good); !errors.Is(err, ErrPart10) {
		t.Errorf("verify read as modify: %v", err)
	}
	for _, n := range []int{0, 3, maxPINCommand + 1} {
		if _, err := (PINVerify{Command: make([]byte, n)}).Bytes(); !errors.Is(err, ErrPart10) {
			t.Errorf("verify of a command of %d octets: %v", n, err)
		}
		if _, err := (PINModify{Command: make([]byte, n)}).Bytes(); !errors.Is(err, ErrPart10) {
			t.Errorf("modify of a command of %d octets: %v", n, err)
		}
	}
}

func TestFeatureList(t *testing.T) {
	t.Parallel()
	m, err := ParseFeatures(unhex(t, "06 04 42330006 07 04 42330007 0A 04 4233000A 12 04 42330012"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[byte]uint32{FeatureVerifyPIN: 0x42330006, FeatureModifyPIN: 0x42330007, FeaturePINProperties: 0x4233000A, FeatureTLVProperties: 0x42330012}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"06", "06 04 423300", "06 03 42330006", "06 04 42330006 06 04 42330007"} {
		if _, err := ParseFeatures(unhex(t, bad)); !errors.Is(err, ErrPart10) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestProperties(t *testing.T) {
	t.Parallel()
	n := func(i int) *int { return &i }
	p, err := ParsePINProperties(unhex(t, "10 03 07 00"))
	if diff := cmp.Diff(Properties{Columns: n(16), Lines: n(3)}, p); diff != "" || err != nil {
		t.Error(diff, err)
	}
	p, err = ParseTLVProperties(unhex(t, "01 02 1002 02 01 07 06 01 04 07 01 0C 08 03 414243 0A 04 00000100 0B 02 460D 0C 02 0230"))
	if diff := cmp.Diff(Properties{Columns: n(16), Lines: n(2), MinPIN: n(4), MaxPIN: n(12), MaxAPDU: n(65536), USB: readers.USBID{Vendor: 0x0D46, Product: 0x3002}}, p); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for _, bad := range []string{"01", "01 02 10", "01 01 10", "0A 02 0001", "06 00"} {
		if _, err := ParseTLVProperties(unhex(t, bad)); !errors.Is(err, ErrPart10) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := ParsePINProperties(unhex(t, "100307")); !errors.Is(err, ErrPart10) {
		t.Errorf("short PIN properties: %v", err)
	}
}

func FuzzPart10(f *testing.F) {
	f.Add(unhex(f, verifyVector))
	f.Add(unhex(f, modifyVector))
	f.Add(unhex(f, "0604423300060704423300070A044233000A"))
	f.Add(unhex(f, "01021002020107060104"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := ParsePINVerify(b); err == nil {
			if again, err := v.Bytes(); err != nil || len(again) != len(b) {
				t.Errorf("verify: %X becomes %X, %v", b, again, err)
			}
		}
		if m, err := ParsePINModify(b); err == nil {
			if again, err := m.Bytes(); err != nil || !bytes.Equal(again, b) {
				t.Errorf("modify: %X becomes %X, %v", b, again, err)
			}
		}
		_, _ = ParseFeatures(b)
		_, _ = ParsePINProperties(b)
		_, _ = ParseTLVProperties(b)
	})
}

func FuzzCTBCS(f *testing.F) {
	f.Add([]byte{2, 1, 5, 0, 0x81, 1, 0x40, 0x90, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if answer, err := parseEnvelope(b); err == nil {
			if len(answer) < 2 {
				t.Errorf("answer %X", answer)
			}
			_, _, _ = parseUnits(answer)
		}
	})
}
