package ber

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	out, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestNext reads one element under each of the rules; "" stands for refused.
func TestNext(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		ber, der error
		content  string
	}{
		{"short length", "02 01 05", nil, nil, "05"},
		{"long length", "04 81 80" + strings.Repeat("00", 128), nil, nil, strings.Repeat("00", 128)},
		{"long length where short does", "04 81 01 00", nil, ErrMalformed, "00"},
		{"length with a zero before it", "04 82 00 80" + strings.Repeat("00", 128), nil, ErrMalformed, strings.Repeat("00", 128)},
		{"indefinite", "30 80 05 00 00 00", nil, ErrMalformed, "05 00"},
		{"indefinite, nested", "30 80 30 80 00 00 05 00 00 00", nil, ErrMalformed, "30 80 00 00 05 00"},
		{"indefinite inside definite", "30 06 30 80 05 00 00 00", nil, nil, "30 80 05 00 00 00"},
		{"indefinite, primitive", "04 80 00 00", ErrMalformed, ErrMalformed, ""},
		{"indefinite without an end", "30 80 05 00 00", ErrTruncated, ErrMalformed, ""},
		{"end without a beginning", "00 00", ErrMalformed, ErrMalformed, ""},
		{"end with a content", "30 80 00 01 00 00 00", ErrMalformed, ErrMalformed, ""},
		{"reserved length", "04 ff", ErrMalformed, ErrMalformed, ""},
		{"length of nine octets", "04 89 00 00 00 00 00 00 00 00 01 00", ErrMalformed, ErrMalformed, ""},
		{"4 GiB", "04 84 ff ff ff ff 00", ErrTruncated, ErrTruncated, ""},
		{"2^63", "04 88 80 00 00 00 00 00 00 00", ErrMalformed, ErrMalformed, ""},
		{"empty", "", ErrTruncated, ErrTruncated, ""},
		{"tag alone", "30", ErrTruncated, ErrTruncated, ""},
		{"one octet short", "04 02 00", ErrTruncated, ErrTruncated, ""},
		{"high tag", "5f 1f 01 aa", nil, nil, "aa"},
		{"high tag that is low", "5f 1e 01 aa", ErrMalformed, ErrMalformed, ""},
		{"high tag with a zero before it", "5f 80 1f 01 aa", ErrMalformed, ErrMalformed, ""},
		{"high tag without an end", "5f ff ff ff ff ff 01", ErrMalformed, ErrMalformed, ""},
		{"INTEGER constructed", "22 03 02 01 05", ErrMalformed, ErrMalformed, ""},
		{"SEQUENCE primitive", "10 00", ErrMalformed, ErrMalformed, ""},
		{"OCTET STRING constructed", "24 03 04 01 05", nil, ErrMalformed, "04 01 05"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			data := unhex(t, c.in)
			for name, r := range map[string]struct {
				in   Input
				want error
			}{"BER": {New(data), c.ber}, "DER": {NewDER(data), c.der}} {
				e, err := r.in.Next()
				if !errors.Is(err, r.want) || (err == nil) != (r.want == nil) {
					t.Errorf("%s: %v, want %v", name, err, r.want)
				}
				if err == nil && (!bytes.Equal(e.Content, unhex(t, c.content)) || !bytes.Equal(e.Raw, data) || !r.in.Empty()) {
					t.Errorf("%s: %+v", name, e)
				}
			}
			// A stream reads the same.
			s := NewStream(iotest.OneByteReader(bytes.NewReader(data)))
			e, err := s.Element(1 << 20)
			if (err == nil) != (c.ber == nil) {
				t.Errorf("stream: %v, want %v", err, c.ber)
			}
			if err == nil && !bytes.Equal(e.Raw, data) {
				t.Errorf("stream: % x", e.Raw)
			}
		})
	}
}

// TestDER brings BER into DER.
func TestDER(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"DER already", "30 03 02 01 05", "30 03 02 01 05"},
		{"lengths", "30 82 00 04 02 81 01 05", "30 03 02 01 05"},
		{"indefinite", "30 80 31 80 02 01 05 00 00 00 00", "30 05 31 03 02 01 05"},
		{"pieces", "24 80 04 01 61 24 04 04 02 62 63 00 00", "04 03 61 62 63"},
		{"pieces of text", "2c 80 04 01 61 04 01 62 00 00", "0c 02 61 62"},
		{"order of a set", "31 06 02 01 07 02 01 05", "31 06 02 01 05 02 01 07"},
		{"truth", "01 01 01", "01 01 ff"},
		{"untruth", "01 01 00", "01 01 00"},
		{"implicit", "a0 80 02 01 05 00 00", "a0 03 02 01 05"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in := New(unhex(t, c.in))
			e, err := in.Next()
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.DER()
			if err != nil {
				t.Fatal(err)
			}
			if want := unhex(t, c.want); !bytes.Equal(got, want) {
				t.Errorf("% x, want % x", got, want)
			}
			if !IsDER(got) {
				t.Error("the result is no DER")
			}
			if IsDER(e.Raw) != (strings.ReplaceAll(c.in, " ", "") == strings.ReplaceAll(c.want, " ", "")) {
				t.Errorf("IsDER of the input: %v", IsDER(e.Raw))
			}
		})
	}
	bits := New(unhex(t, "23 80 03 02 00 61 03 02 00 62 00 00"))
	if e, err := bits.Next(); err != nil {
		t.Error(err)
	} else if _, err := e.DER(); !errors.Is(err, ErrMalformed) {
		t.Errorf("BIT STRING in pieces: %v", err)
	}
}

func TestIntegers(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{"02 01 00": 0, "02 01 7f": 127, "02 02 00 80": 128, "02 01 80": -128, "02 08 7f ff ff ff ff ff ff ff": 1<<63 - 1} {
		input := New(unhex(t, in))
		e, _ := input.Next()
		if got, err := e.Int(); err != nil || got != want {
			t.Errorf("%s: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"02 00", "02 02 00 7f", "02 02 ff 80", "02 09 01 00 00 00 00 00 00 00 00"} {
		input := New(unhex(t, in))
		e, _ := input.Next()
		if got, err := e.Int(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %d, %v", in, got, err)
		}
	}
}

func TestOIDs(t *testing.T) {
	t.Parallel()
	for _, arcs := range [][]int{{1, 2, 840, 113549, 1, 7, 2}, {2, 5, 4, 3}, {0, 4, 0, 194112, 1, 2}, {2, 999, 1}, {1, 2, 276, 0, 76, 4, 283}} {
		der, err := asn1.Marshal(asn1.ObjectIdentifier(arcs))
		if err != nil {
			t.Fatal(err)
		}
		wide := make([]uint64, len(arcs))
		for i, arc := range arcs {
			wide[i] = uint64(arc)
		}
		oid := NewOID(wide...)
		if string(oid) != string(der[2:]) || oid.String() != asn1.ObjectIdentifier(arcs).String() {
			t.Errorf("%v: % x, %s", arcs, string(oid), oid)
		}
		in := NewDER(der)
		if e, err := in.Next(); err != nil || !e.IsOID(oid) {
			t.Errorf("%v: %v", arcs, err)
		} else if got, err := e.OID(); err != nil || got != oid {
			t.Errorf("%v: %v %v", arcs, got, err)
		}
	}
	for _, in := range []string{"06 00", "06 01 80", "06 02 2a 80", "06 02 80 01", "06 03 2a 80 01", "06 0b 2a ff ff ff ff ff ff ff ff ff 7f"} {
		input := New(unhex(t, in))
		e, _ := input.Next()
		if oid, err := e.OID(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %s, %v", in, oid, err)
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	element := func(tag Tag, text string) Element { return Element{Tag: tag, Content: []byte(text)} }
	for _, c := range []struct {
		e    Element
		want time.Time
	}{
		{element(UTCTime, "250328080844Z"), time.Date(2025, 3, 28, 8, 8, 44, 0, time.UTC)},
		{element(UTCTime, "500101000000Z"), time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC)},
		{element(GeneralizedTime, "20600229235959Z"), time.Date(2060, 2, 29, 23, 59, 59, 0, time.UTC)},
	} {
		if got, err := c.e.Time(); err != nil || !got.Equal(c.want) {
			t.Errorf("%s: %v, %v", c.e.Content, got, err)
		}
	}
	for _, e := range []Element{
		element(UTCTime, "2503280808Z"), element(UTCTime, "250328080844+0100"), element(UTCTime, "250230080844Z"), element(UTCTime, "251328080844Z"),
		element(UTCTime, "250328080860Z"), element(UTCTime, "250328080844z"), element(UTCTime, "25032808084 Z"), element(GeneralizedTime, "20250328080844.5Z"),
		element(GeneralizedTime, "2025x328080844Z"), element(Integer, "250328080844Z"), {Tag: UTCTime, Constructed: true, Content: []byte("250328080844Z")},
	} {
		if got, err := e.Time(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, %v", e.Content, got, err)
		}
	}
}

// TestOctets joins pieces and keeps single ones where they are.
func TestOctets(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"04 02 61 62": "ab", "24 04 04 02 61 62": "ab", "24 80 04 01 61 24 80 04 01 62 00 00 04 00 00 00": "ab", "24 00": "", "a0 04 04 02 61 62": "ab"} {
		input := New(unhex(t, in))
		e, err := input.Next()
		if err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		if got, err := e.Octets(); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"24 02 05 00", "24 03 04 05 61", "24 80 0c 01 61 00 00"} {
		input := New(unhex(t, in))
		e, err := input.Next()
		if err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		if got, err := e.Octets(); err == nil {
			t.Errorf("%s: %q", in, got)
		}
	}
}

func TestInput(t *testing.T) {
	t.Parallel()
	in := New(unhex(t, "30 06 02 01 05 a0 01 00"))
	if _, err := in.Read(Set); !errors.Is(err, ErrTag) {
		t.Errorf("another tag: %v", err)
	}
	seq, err := in.Inside(Sequence)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := seq.Optional(Context(0)); ok || err != nil {
		t.Errorf("optional element that is not there: %v, %v", ok, err)
	}
	number, err := seq.Read(Integer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seq.Enter(number); !errors.Is(err, ErrMalformed) {
		t.Errorf("inside of a number: %v", err)
	}
	if err := seq.End(); !errors.Is(err, ErrMalformed) {
		t.Errorf("not at the end: %v", err)
	}
	if _, ok, err := seq.Optional(Context(0)); !ok || err != nil || !seq.Empty() || seq.End() != nil {
		t.Errorf("optional element: %v, %v", ok, err)
	}
}

// TestDepth: an input that is nested deeper than allowed is refused on every way.
func TestDepth(t *testing.T) {
	t.Parallel()
	nested := []byte{5, 0}
	for range MaxDepth + 5 {
		nested = append(AppendHeader(nil, Sequence, true, len(nested)), nested...)
	}
	if IsDER(nested) {
		t.Error("IsDER")
	}
	in := New(nested)
	var err error
	for err == nil {
		in, err = in.Inside(Sequence)
	}
	if !errors.Is(err, ErrDepth) {
		t.Error(err)
	}
	whole := New(nested)
	e, _ := whole.Next()
	e.Indefinite = true // so that it is brought into DER
	if _, err := e.DER(); !errors.Is(err, ErrDepth) {
		t.Error(err)
	}
	indefinite := append(bytes.Repeat([]byte{0x30, 0x80}, MaxDepth+1), make([]byte, 2*(MaxDepth+1))...)
	in = New(indefinite)
	if _, err := in.Next(); !errors.Is(err, ErrDepth) {
		t.Error(err)
	}
	if _, err := NewStream(bytes.NewReader(indefinite)).Element(1 << 20); !errors.Is(err, ErrDepth) {
		t.Error(err)
	}
}

// TestStream walks through a stream by hand.
func TestStream(t *testing.T) {
	t.Parallel()
	data := unhex(t, "30 80 02 01 05 24 80 04 02 61 62 24 05 04 03 63 64 65 00 00 31 02 05 00 00 00")
	s := NewStream(iotest.HalfReader(bytes.NewReader(data)))
	var out bytes.Buffer
	steps := []error{s.Enter(Sequence)}
	_, err := s.Element(10)
	steps = append(steps, err)
	n, err := s.CopyOctets(&out, 5)
	steps = append(steps, err, s.Enter(Set))
	more, err := s.More()
	steps = append(steps, err)
	_, err = s.Element(2)
	steps = append(steps, err, s.Leave(), s.Leave())
	for i, err := range steps {
		if err != nil {
			t.Errorf("step %d: %v", i, err)
		}
	}
	rest, err := s.More()
	if n != 5 || out.String() != "abcde" || !more || rest || err != nil || s.Position() != int64(len(data)) || s.DER() {
		t.Errorf("%d octets %q, more %v, rest %v %v, position %d, DER %v", n, out.String(), more, rest, err, s.Position(), s.DER())
	}
}

func TestStreamRefuses(t *testing.T) {
	t.Parallel()
	failing := errors.New("disk on fire")
	long := io.MultiReader(bytes.NewReader(unhex(t, "04 84 ff ff ff ff")), bytes.NewReader(make([]byte, 100)))
	for _, c := range []struct {
		name string
		do   func() error
		want error
	}{
		{"element beyond the limit", func() error { _, err := NewStream(bytes.NewReader(make([]byte, 0, 1))).Element(10); return err }, ErrTruncated},
		{"4 GiB as an element", func() error {
			_, err := NewStream(bytes.NewReader(unhex(t, "04 84 ff ff ff ff 00"))).Element(1 << 20)
			return err
		}, ErrTooLong},
		{"4 GiB of content, beyond the limit", func() error {
			_, err := NewStream(bytes.NewReader(unhex(t, "04 84 ff ff ff ff 00"))).CopyOctets(io.Discard, 1<<20)
			return err
		}, ErrTooLong},
		{"4 GiB of content that is not there", func() error { _, err := NewStream(long).CopyOctets(io.Discard, 1<<40); return err }, ErrTruncated},
		{"indefinite beyond the limit", func() error {
			_, err := NewStream(bytes.NewReader(unhex(t, "30 80 04 02 00 00 04 02 00 00 00 00"))).Element(9)
			return err
		}, ErrTooLong},
		{"pieces beyond the limit", func() error {
			_, err := NewStream(bytes.NewReader(unhex(t, "24 80 04 02 00 00 04 02 00 00 00 00"))).CopyOctets(io.Discard, 3)
			return err
		}, ErrTooLong},
		{"element longer than the one around", func() error {
			s := NewStream(bytes.NewReader(unhex(t, "30 03 04 02 00 00")))
			if err := s.Enter(Sequence); err != nil {
				return err
			}
			_, err := s.Element(100)
			return err
		}, ErrTruncated},
		{"no end of contents inside a definite length", func() error {
			s := NewStream(bytes.NewReader(unhex(t, "30 02 30 80 00 00")))
			if err := s.Enter(Sequence); err != nil {
				return err
			}
			if err := s.Enter(Sequence); err != nil {
				return err
			}
			return s.Leave()
		}, ErrTruncated},
		{"left too early", func() error {
			s := NewStream(bytes.NewReader(unhex(t, "30 02 05 00")))
			if err := s.Enter(Sequence); err != nil {
				return err
			}
			return s.Leave()
		}, ErrMalformed},
		{"another tag", func() error { return NewStream(bytes.NewReader(unhex(t, "31 00"))).Enter(Sequence) }, ErrTag},
		{"no octets", func() error {
			_, err := NewStream(bytes.NewReader(unhex(t, "05 00"))).CopyOctets(io.Discard, 1)
			return err
		}, ErrTag},
		{"source fails", func() error {
			_, err := NewStream(io.MultiReader(bytes.NewReader(unhex(t, "04 05 00")), iotest.ErrReader(failing))).Element(100)
			return err
		}, failing},
		{"consumer fails", func() error {
			_, err := NewStream(bytes.NewReader(unhex(t, "04 01 00"))).CopyOctets(failWriter{failing}, 100)
			return err
		}, failing},
	} {
		if err := c.do(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

type failWriter struct{ err error }

func (w failWriter) Write([]byte) (int, error) { return 0, w.err }

// TestRefusingIsFree: refusing what claims to be long needs no memory.
func TestRefusingIsFree(t *testing.T) {
	data := unhex(t, "30 84 ff ff ff ff 04 84 ff ff ff ff")
	if n := testing.AllocsPerRun(100, func() {
		in := New(data)
		if _, err := in.Next(); err == nil {
			t.Error("accepted")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzReader: nothing panics, memory and stream agree, and what is brought into DER is DER and stays so.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{"30 03 02 01 05", "30 80 24 80 04 01 61 00 00 00 00", "31 06 02 01 07 02 01 05", "04 84 ff ff ff ff", "5f 1f 01 aa", "a0 80 a1 00 00 00", "2c 80 0c 01 61 00 00"} {
		f.Add(unhex(f, seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := New(data)
		e, err := in.Next()
		s := NewStream(bytes.NewReader(data))
		streamed, streamErr := s.Element(1 << 20)
		if (err == nil) != (streamErr == nil) {
			t.Fatalf("memory: %v, stream: %v", err, streamErr)
		}
		if err != nil {
			return
		}
		if diff := cmp.Diff(e, streamed); diff != "" {
			t.Fatal(diff)
		}
		if len(e.Raw)+len(in.Rest()) != len(data) {
			t.Fatal("octets got lost")
		}
		der, err := e.DER()
		if err != nil {
			return
		}
		if !IsDER(der) {
			t.Fatalf("% x is no DER", der)
		}
		strict := NewDER(der)
		again, err := strict.Next()
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := again.DER(); err != nil || !bytes.Equal(twice, der) {
			t.Fatalf("% x, %v", twice, err)
		}
		e.Octets()
		e.Int()
		e.OID()
		e.Time()
	})
}
