package apdu

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// plain compares commands field by field; Command itself refuses to print its data.
type plain Command

func TestEncodings(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte{0xAB}, 256)
	tests := map[string]struct {
		c    Command
		want string
	}{
		"case 1":                       {Command{CLA: 0x80, INS: 0x20, P2: 1}, "80200001"},
		"case 2 short":                 {Command{INS: 0x84, Ne: 16}, "0084000010"},
		"case 2 short wildcard":        {Command{INS: 0xB0, P1: 0x91, Ne: 256}, "00B0910000"},
		"case 3 short":                 {Command{INS: 0xA4, P1: 4, P2: 0xC, Data: []byte{0xD2, 0x76}}, "00A4040C02D276"},
		"case 4 short":                 {Command{INS: 0x88, Data: []byte{1}, Ne: 256}, "00880000010100"},
		"case 2 extended":              {Command{INS: 0xB0, Ne: 65536, Extended: true}, "00B00000000000"},
		"case 2 extended forced":       {Command{INS: 0xB0, Ne: 16, Extended: true}, "00B00000000010"},
		"case 2 extended by Ne":        {Command{INS: 0xB0, Ne: 257, Extended: true}, "00B00000000101"},
		"case 3 extended by data":      {Command{INS: 0xD6, Data: long, Extended: true}, "00D60000000100" + strings.Repeat("ab", 256)},
		"case 3 extended forced":       {Command{INS: 0xD6, Data: []byte{7}, Extended: true}, "00D6000000000107"},
		"case 4 extended":              {Command{INS: 0x86, Data: []byte{0x7C, 0}, Ne: 65536, Extended: true}, "008600000000027C000000"},
		"case 1 has no extended form":  {Command{INS: 0x44}, "00440000"},
		"largest short data and Ne":    {Command{INS: 1, Data: long[:255], Ne: 256}, "00010000ff" + strings.Repeat("ab", 255) + "00"},
		"smallest extended Ne by data": {Command{INS: 1, Data: long, Ne: 1, Extended: true}, "00010000000100" + strings.Repeat("ab", 256) + "0001"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := tc.c.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(b); got != strings.ToLower(tc.want) {
				t.Errorf("Bytes = %s, want %s", got, tc.want)
			}
			back, err := Parse(unhex(t, tc.want))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(plain(tc.c), plain(back)); diff != "" {
				t.Errorf("Parse differs: %s", diff)
			}
		})
	}
}

func TestExtendedFormIsChosenByNeed(t *testing.T) {
	t.Parallel()
	for _, c := range []Command{{Data: make([]byte, 256)}, {Ne: 257}, {Data: []byte{1}, Ne: 300}} {
		if !c.IsExtended() {
			t.Errorf("%v is not extended", c)
		}
	}
	for _, c := range []Command{{Data: make([]byte, 255)}, {Ne: 256}, {Extended: true}} {
		if c.IsExtended() {
			t.Errorf("%v is extended", c)
		}
	}
}

func TestParseRejects(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"", "00", "00A404", // no header
		"00A4040C02D2",           // Lc beyond the end
		"00A4040C02D2760000",     // octets behind Le
		"00A4040C0001",           // no complete extended length field
		"00A4040C00000001",       // extended Lc 0
		"00A4040C00000201",       // extended Lc beyond the end
		"00A4040C0000010100",     // half an extended Le
		"00A4040C000001010000FF", // octets behind the extended Le
	} {
		c, err := Parse(unhex(t, in))
		if !errors.Is(err, ErrMalformedCommand) {
			t.Errorf("Parse(%s) = %v, %v, want ErrMalformedCommand", in, c, err)
		}
	}
}

func TestBytesRejects(t *testing.T) {
	t.Parallel()
	for _, c := range []Command{{Ne: -1}, {Ne: MaxNe + 1}, {Data: make([]byte, MaxData+1)}} {
		if _, err := c.Bytes(); !errors.Is(err, ErrMalformedCommand) {
			t.Errorf("%v: error %v, want ErrMalformedCommand", c, err)
		}
	}
}

func TestResponses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"9000", "6A82", "6CFF", "63C3", "5A0A9000"} {
		r, err := ParseResponse(unhex(t, in))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.ToUpper(hex.EncodeToString(r.Bytes())); got != in {
			t.Errorf("round trip of %s gives %s", in, got)
		}
		if r.OK() != strings.HasSuffix(in, "9000") {
			t.Errorf("OK of %s is %v", in, r.OK())
		}
	}
	for _, in := range []string{"", "90", "0000", "6000", "7000", "FFFF"} {
		if r, err := ParseResponse(unhex(t, in)); !errors.Is(err, ErrMalformedResponse) {
			t.Errorf("ParseResponse(%s) = %v, %v, want ErrMalformedResponse", in, r, err)
		}
	}
	if _, err := ParseResponse(make([]byte, maxResponse+1)); !errors.Is(err, ErrMalformedResponse) {
		t.Errorf("oversized response: %v", err)
	}
}

func TestNothingPrintsTheData(t *testing.T) {
	t.Parallel()
	secret := []byte("123456SECRET")
	for _, v := range []any{Command{INS: 0x20, Data: secret}, Response{Data: secret, SW: SWOK}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
			for _, out := range []string{fmt.Sprintf(verb, v), fmt.Sprintf(verb, struct{ V any }{v})} {
				if strings.Contains(out, "SECRET") || strings.Contains(strings.ToLower(out), "313233343536") || strings.Contains(out, "49 50 51") {
					t.Errorf("%s prints the data: %s", verb, out)
				}
			}
		}
	}
}

func TestFromRaw(t *testing.T) {
	t.Parallel()
	get := Command{INS: 0x84, Ne: 8}
	tests := map[string]struct {
		answer []byte
		err    error
		want   error
	}{
		"ok":              {answer: []byte{1, 2, 3, 4, 5, 6, 7, 8, 0x90, 0}},
		"no status word":  {answer: []byte{0x90}, want: ErrCardMute},
		"too much data":   {answer: []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 0x90, 0}, want: ErrMalformedResponse},
		"card taken away": {err: fmt.Errorf("slot 0: %w", ErrCardRemoved), want: ErrCardRemoved},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent []byte
			tr := FromRaw(RawFunc(func(_ context.Context, cmd []byte) ([]byte, error) {
				sent = cmd
				return tc.answer, tc.err
			}))
			r, err := tr.Transmit(t.Context(), get)
			if !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
			if tc.want == nil && (len(r.Data) != 8 || !r.OK()) {
				t.Errorf("response %v", r)
			}
			if got := hex.EncodeToString(sent); got != "0084000008" {
				t.Errorf("sent %s", got)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never := FromRaw(RawFunc(func(context.Context, []byte) ([]byte, error) {
		t.Error("sent although the context has ended")
		return nil, nil
	}))
	if _, err := never.Transmit(ctx, get); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled context gives %v", err)
	}
	if _, err := never.Transmit(t.Context(), Command{Ne: -1}); !errors.Is(err, ErrMalformedCommand) {
		t.Errorf("impossible command gives %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"80200001", "0084000010", "00A4040C02D276", "00880000010100", "00B00000000000", "00D6000000000107", "008600000000027C000000"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			return
		}
		back, err := c.Bytes()
		if err != nil {
			t.Fatalf("parsed %x but cannot encode it: %v", b, err)
		}
		if !bytes.Equal(b, back) {
			t.Fatalf("%x parsed and encoded gives %x", b, back)
		}
	})
}

func FuzzBytes(f *testing.F) {
	f.Add([]byte{0, 0xA4, 4, 0xC}, []byte{1, 2}, 256, false)
	f.Add([]byte{0, 0xA4, 4, 0xC}, []byte{}, 0, true)
	f.Fuzz(func(t *testing.T, header, data []byte, ne int, extended bool) {
		if len(header) < 4 {
			return
		}
		c := Command{CLA: header[0], INS: header[1], P1: header[2], P2: header[3], Data: data, Ne: ne, Extended: extended}
		b, err := c.Bytes()
		if err != nil {
			return
		}
		back, err := Parse(b)
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		if !bytes.Equal(back.Data, c.Data) || back.Ne != c.Ne || back.Extended != c.IsExtended() || back.INS != c.INS {
			t.Fatalf("%x parses as %v of %v", b, back, c)
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	f.Add([]byte{0x90, 0})
	f.Add([]byte{1, 2, 0x6A, 0x82})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseResponse(b)
		if err == nil && !bytes.Equal(r.Bytes(), b) {
			t.Fatalf("%x parsed and encoded gives %x", b, r.Bytes())
		}
	})
}
