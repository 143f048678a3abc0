package simreader

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// echo is a card that answers 9000 and keeps what it got.
type echo struct {
	mu   sync.Mutex
	got  [][]byte
	off  int
	cold int
	warm int
}

func (c *echo) Reset(warm bool) []byte {
	if warm {
		c.warm++
	} else {
		c.cold++
	}
	return []byte{0x3B, 0x80}
}

func (c *echo) PowerDown() { c.off++ }

func (c *echo) Process(cmd []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, bytes.Clone(cmd))
	return []byte{0x90, 0}
}

type clock struct {
	mu  sync.Mutex
	run map[int]func()
	n   int
	d   []time.Duration
}

func (c *clock) AfterFunc(d time.Duration, f func()) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == nil {
		c.run = map[int]func(){}
	}
	c.n++
	n := c.n
	c.run[n] = f
	c.d = append(c.d, d)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.run, n)
	}
}

func (c *clock) fire() {
	c.mu.Lock()
	run := c.run
	c.run = nil
	c.mu.Unlock()
	for _, f := range run {
		f()
	}
}

const (
	verifyOK = "1E0F 894704 0806 02 01 0704 00 000000 0D000000 0020000108 20FFFFFFFFFFFFFF"
	modifyOK = "1E0F 894704 00 08 0806 03 02 03 0704 000102 000000 15000000 0024000110 20FFFFFFFFFFFFFF 20FFFFFFFFFFFFFF"
)

type answer struct {
	b   []byte
	err error
}

func control(r *Reader, code uint32, in []byte) <-chan answer {
	ch := make(chan answer, 1)
	go func() {
		b, err := r.Control(context.Background(), code, in)
		ch <- answer{b, err}
	}()
	return ch
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, r *Reader, what string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	must(t, r.WaitAwaiting(ctx, what))
}

func ready(t *testing.T, cfg Config) (*Reader, *echo) {
	t.Helper()
	r, c := New(cfg), &echo{}
	r.Insert(c)
	_, err := r.Power(false)
	must(t, err)
	return r, c
}

func TestPINBlock(t *testing.T) {
	t.Parallel()
	for digits, want := range map[string]string{
		"1234": "241234FFFFFFFFFF", "12345": "2512345FFFFFFFFF", "123456": "26123456FFFFFFFF", "12345678": "2812345678FFFFFF",
		"123456789012": "2C123456789012FF",
	} {
		if got := pinBlock([]byte(digits)); !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("%s: %X", digits, got)
		}
	}
}

func TestVerifyShowsItsOwnTextAndStars(t *testing.T) {
	t.Parallel()
	for lang, want := range map[string][2]string{
		"0704": {"Bitte PIN\neingeben:\n", "Bitte PIN\neingeben:\n***"}, "0904": {"Enter PIN:\n", "Enter PIN:\n***"},
		"0C04": {"Enter PIN:\n", "Enter PIN:\n***"}, // a language it does not have
	} {
		r, c := ready(t, Config{})
		done := control(r, codeVerify, unhex(t, strings.Replace(verifyOK, "0704", lang, 1)))
		await(t, r, "pin")
		if got := r.Display(); got != want[0] {
			t.Errorf("%s: %q", lang, got)
		}
		must(t, r.PressDigits("654"))
		if got := r.State(); got.Display != want[1] || got.Digits != 3 {
			t.Errorf("%s: %+v", lang, got)
		}
		must(t, r.PressKey(KeyClear))
		must(t, r.PressDigits("1234567899")) // more than the maximum is ignored
		must(t, r.PressKey(KeyOK))
		if a := <-done; a.err != nil || !bytes.Equal(a.b, []byte{0x90, 0}) {
			t.Errorf("%s: %X, %v", lang, a.b, a.err)
		}
		if want := unhex(t, "0020000108 2812345678FFFFFF"); len(c.got) != 1 || !bytes.Equal(c.got[0], want) {
			t.Errorf("%s: card got %X", lang, c.got)
		}
		if err := r.PressDigits("1"); !errors.Is(err, ErrNotAwaiting) {
			t.Errorf("key after the entry: %v", err)
		}
	}
}

func TestStrictness(t *testing.T) {
	t.Parallel()
	change := func(from, to string) string { return strings.Replace(verifyOK, from, to, 1) }
	modify := func(from, to string) string { return strings.Replace(modifyOK, from, to, 1) }
	tests := map[string]struct {
		code uint32
		in   string
		f    Failures
	}{
		"unknown spelling":           {codeVerify, change("894704", "824804"), Failures{}},
		"another spelling than its":  {codeVerify, verifyOK, Failures{OnlyFormat: [3]byte{0x81, 0x48, 0x04}}},
		"two messages for one step":  {codeVerify, change("02 01", "02 02"), Failures{}},
		"no message where one must":  {codeVerify, change("02 01", "02 00"), Failures{OneMessage: true}},
		"unknown message":            {codeVerify, change("0704 00", "0704 03"), Failures{}},
		"limits crossed":             {codeVerify, change("0806", "0608"), Failures{}},
		"no way to end":              {codeVerify, change("0806 02", "0806 00"), Failures{}},
		"length field":               {codeVerify, change("0D000000", "0E000000"), Failures{}},
		"Lc":                         {codeVerify, change("0020000108", "0020000107"), Failures{}},
		"empty":                      {codeVerify, "", Failures{}},
		"modify: same offsets":       {codeModify, modify("00 08", "00 00"), Failures{}},
		"modify: offset outside":     {codeModify, modify("00 08", "00 09"), Failures{}},
		"modify: unknown spelling":   {codeModify, modify("894704", "894705"), Failures{}},
		"modify: too many messages":  {codeModify, modify("02 03", "02 04"), Failures{}},
		"modify: unknown message":    {codeModify, modify("000102", "000103"), Failures{}},
		"modify: one message wanted": {codeModify, modifyOK, Failures{OneMessage: true}},
		"modify: empty":              {codeModify, "", Failures{}},
	}
	for name, tc := range tests {
		r, c := ready(t, Config{})
		r.SetFailures(tc.f)
		got, err := r.Control(t.Context(), tc.code, unhex(t, tc.in))
		if err != nil || !bytes.Equal(got, swRefused) || len(c.got) != 0 {
			t.Errorf("%s: %X, %v, card got %X", name, got, err, c.got)
		}
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	cl := &clock{}
	r, _ := ready(t, Config{Clock: cl})
	done := control(r, codeVerify, unhex(t, verifyOK))
	await(t, r, "pin")
	must(t, r.PressDigits("1"))
	cl.fire()
	if a := <-done; !bytes.Equal(a.b, []byte{0x64, 0}) {
		t.Errorf("%X, %v", a.b, a.err)
	}
	if diff := cmp.Diff([]time.Duration{30 * time.Second, 15 * time.Second}, cl.d); diff != "" {
		t.Error(diff)
	}
}

func TestPowerIsLostWithTheCard(t *testing.T) {
	t.Parallel()
	r, c := ready(t, Config{})
	must(t, r.PowerOff())
	if c.off != 1 {
		t.Errorf("card lost power %d times", c.off)
	}
	if _, err := r.Transmit(t.Context(), []byte{0, 0, 0, 0}); !errors.Is(err, ErrPower) {
		t.Errorf("without power: %v", err)
	}
	_, err := r.Power(true)
	must(t, err)
	if c.cold != 1 || c.warm != 1 {
		t.Errorf("%d cold, %d warm", c.cold, c.warm)
	}
	r.Remove()
	if _, err := r.Transmit(t.Context(), []byte{0, 0, 0, 0}); !errors.Is(err, ErrNoCard) {
		t.Errorf("without card: %v", err)
	}
	if _, err := r.Power(false); !errors.Is(err, ErrNoCard) {
		t.Errorf("power without card: %v", err)
	}
	r.Insert(c)
	r.Unplug()
	for name, err := range map[string]error{
		"power":    second(r.Power(false)),
		"off":      r.PowerOff(),
		"transmit": second(r.Transmit(t.Context(), []byte{0, 0, 0, 0})),
		"control":  second(r.Control(t.Context(), codeFeatures, nil)),
	} {
		if !errors.Is(err, ErrUnplugged) {
			t.Errorf("%s unplugged: %v", name, err)
		}
	}
	if s := r.State(); s.Plugged || s.Display != "" || !s.Card {
		t.Errorf("unplugged: %+v", s)
	}
	r.Plug()
	if s := r.State(); !s.Plugged || s.Powered {
		t.Errorf("plugged again: %+v", s)
	}
}

func second(_ []byte, err error) error { return err }

func TestHang(t *testing.T) {
	t.Parallel()
	hung := func(s State) bool { return s.Hung }
	// Released by a person.
	r, c := ready(t, Config{})
	r.HangNext()
	done := make(chan error, 1)
	go func() { done <- second(r.Transmit(context.Background(), []byte{0, 0, 0, 0})) }()
	must(t, r.Wait(t.Context(), hung))
	r.Release()
	if err := <-done; !errors.Is(err, ErrComm) {
		t.Errorf("released: %v", err)
	}
	// The driver goes away.
	ctx, cancel := context.WithCancel(t.Context())
	r.HangNext()
	go func() { done <- second(r.Control(ctx, codeVerify, unhex(t, verifyOK))) }()
	must(t, r.Wait(t.Context(), hung))
	cancel()
	if err := <-done; !errors.Is(err, ErrComm) {
		t.Errorf("driver gone: %v", err)
	}
	if len(c.got) != 0 {
		t.Errorf("card got %X", c.got)
	}
	// The next one works.
	if _, err := r.Transmit(t.Context(), []byte{0, 0, 0, 0}); err != nil {
		t.Error(err)
	}
}

// A PIN entry that hangs: keys and the card's removal do not end it, exchanges with the card are not concerned.
func TestHangPIN(t *testing.T) {
	t.Parallel()
	r, _ := ready(t, Config{})
	r.SetFailures(Failures{HangPIN: true})
	if _, err := r.Transmit(t.Context(), []byte{0, 0, 0, 0}); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- second(r.Control(ctx, codeVerify, unhex(t, verifyOK))) }()
	must(t, r.Wait(t.Context(), func(s State) bool { return s.Hung }))
	if err := r.PressKey(KeyOK); err == nil {
		t.Error("a pad that hangs took a key")
	}
	r.Remove()
	if s := r.State(); !s.Hung || s.Awaiting != "" {
		t.Errorf("after the card was pulled: %+v", s)
	}
	cancel()
	if err := <-done; !errors.Is(err, ErrComm) {
		t.Errorf("driver gone: %v", err)
	}
}

func TestEntryEndsWhenTheDriverIsGone(t *testing.T) {
	t.Parallel()
	r, c := ready(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- second(r.Control(ctx, codeVerify, unhex(t, verifyOK))) }()
	await(t, r, "pin")
	cancel()
	if err := <-done; !errors.Is(err, ErrUnplugged) || len(c.got) != 0 {
		t.Errorf("%v, card got %X", err, c.got)
	}
}

func TestPulledDuringAnExchange(t *testing.T) {
	t.Parallel()
	for when, processed := range map[Pull]int{PullBefore: 0, PullAfter: 1} {
		r, c := ready(t, Config{})
		r.PullOn(func(cmd []byte) Pull {
			if cmd[1] == 0xE2 {
				return when
			}
			return PullNone
		})
		if _, err := r.Transmit(t.Context(), []byte{0, 0xA4, 0, 0}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Transmit(t.Context(), []byte{0, 0xE2, 0, 0}); !errors.Is(err, ErrNoCard) {
			t.Errorf("pulled: %v", err)
		}
		if len(c.got) != 1+processed {
			t.Errorf("%d commands processed, want %d", len(c.got), 1+processed)
		}
	}
}

func TestSlowness(t *testing.T) {
	t.Parallel()
	cl := &clock{}
	r, _ := ready(t, Config{Clock: cl})
	r.SetFailures(Failures{Delay: time.Hour})
	done := make(chan error, 1)
	go func() { done <- second(r.Transmit(context.Background(), []byte{0, 0, 0, 0})) }()
	for { // until the exchange has started its timer
		cl.mu.Lock()
		n := len(cl.run)
		cl.mu.Unlock()
		if n > 0 {
			break
		}
	}
	select {
	case err := <-done:
		t.Fatalf("not slow: %v", err)
	default:
	}
	cl.fire()
	must(t, <-done)
}

func TestFeatures(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		p    Profile
		f    Failures
		want string
	}{
		"ccid":          {CCID, Failures{}, "0604 42330006 0704 42330007 0A04 4233000A 1204 42330012"},
		"mct":           {MCT, Failures{}, "0604 42330006 0704 42330007 0904 42330009"},
		"no properties": {CCID, Failures{NoProperties: true}, "0604 42330006 0704 42330007"},
		"verify only":   {CCID, Failures{VerifyOnly: true, NoProperties: true}, "0604 42330006"},
		"no pad":        {MCT, Failures{NoPad: true}, ""},
	}
	for name, tc := range tests {
		r := New(Config{Profile: tc.p})
		r.SetFailures(tc.f)
		got, err := r.Control(t.Context(), codeFeatures, nil)
		if err != nil || !bytes.Equal(got, unhex(t, tc.want)) {
			t.Errorf("%s: %X, %v", name, got, err)
		}
	}
	r := New(Config{})
	r.SetFailures(Failures{NoPad: true})
	if _, err := r.Control(t.Context(), codeVerify, unhex(t, verifyOK)); !errors.Is(err, ErrUnsupported) {
		t.Errorf("verify without pad: %v", err)
	}
	r.SetFailures(Failures{NoDisplay: true})
	if b, err := r.Control(t.Context(), codePINProps, nil); err != nil || !bytes.Equal(b, []byte{0, 0, 7, 0}) {
		t.Errorf("display reported as none: %X, %v", b, err)
	}
}

func TestCTBCS(t *testing.T) {
	t.Parallel()
	r, c := ready(t, Config{Profile: MCT})
	ask := func(in string) []byte {
		b, err := r.Control(t.Context(), codeMCT, unhex(t, in))
		must(t, err)
		return b
	}
	for name, tc := range map[string][2]string{
		"units":            {"0201 0500 2013008100", "0102 0700 81 03 01 40 50 9000"},
		"to the card":      {"0200 0400 00A40000", "0002 0200 9000"},
		"unknown command":  {"0201 0500 2014010000", "0102 0200 6D00"},
		"another class":    {"0201 0500 8013008100", "0102 0200 6E00"},
		"length":           {"0201 0500 2017400005", "0102 0200 6700"},
		"no text":          {"0201 0700 2017400002 5100", "0102 0200 6A00"},
		"objects broken":   {"0201 0700 2017400002 5005", "0102 0200 6A00"},
		"no card command":  {"0201 0700 2018010002 5200", "0102 0200 6A00"},
		"position outside": {"0201 1400 201801000F 52 0D 02 0F 0020000108 20FFFFFFFFFF", "0102 0200 6A00"},
	} {
		if got := ask(tc[0]); !bytes.Equal(got, unhex(t, tc[1])) {
			t.Errorf("%s: %X", name, got)
		}
	}
	ask("0201 0B00 2017400006 5004 48616CFC")
	if got := r.Display(); got != "Halü" {
		t.Errorf("display %q", got)
	}
	if len(c.got) != 1 {
		t.Errorf("card got %X", c.got)
	}
	for _, bad := range []string{"", "0201", "0201 0600 2013008100", "0301 0500 2013008100", "0207 0500 2013008100"} {
		if _, err := r.Control(t.Context(), codeMCT, unhex(t, bad)); !errors.Is(err, ErrComm) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"":                           nil,
		"Eingabe Versicherten-PIN: ": {"Eingabe", "Versicherten-PIN", ":"},
		"Bitte PIN eingeben:":        {"Bitte PIN", "eingeben:"},
		"Eingabe         PUK: ":      {"Eingabe", "PUK:"},
	} {
		if diff := cmp.Diff(want, wrap(in, 16)); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	r, _ := ready(t, Config{})
	if err := r.PressKey("enter"); err == nil {
		t.Error("there is a key enter")
	}
	err := r.PressDigits("12a456")
	if err == nil || strings.Contains(err.Error(), "12") {
		t.Errorf("letters: %v", err)
	}
}

func FuzzControl(f *testing.F) {
	for _, s := range []string{verifyOK, modifyOK, "0201 0500 2013008100", "0201 0B00 2017400006 5004 48616CFC"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := New(Config{Profile: MCT})
		r.Insert(&echo{})
		if _, err := r.Power(false); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // an entry that starts ends at once
		for _, code := range []uint32{codeVerify, codeModify, codeMCT} {
			_, _ = r.Control(ctx, code, in)
			_ = r.State()
		}
	})
}
