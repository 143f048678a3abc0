package adapter

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ktradv/hw/apdu"
	"ktradv/hw/reader"
	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/req"
)

// pinCard is the smallest card: it answers VERIFY and CHANGE REFERENCE DATA by comparing blocks and echoes the rest.
type pinCard struct {
	pin, puk []byte
	left     int
	resets   int
	got      [][]byte
}

func newPINCard() *pinCard {
	return &pinCard{pin: block("123456"), puk: block("12345678"), left: 3}
}

func block(digits string) []byte {
	s := "2" + string("0123456789ABC"[len(digits)]) + digits + "FFFFFFFFFFFFFF"
	b := make([]byte, 8)
	for i := range b {
		b[i] = nibble(s[2*i])<<4 | nibble(s[2*i+1])
	}
	return b
}

func nibble(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c - 'A' + 10
}

func (c *pinCard) Reset(bool) []byte { c.resets++; return []byte{0x3B, 0x80} }

func (c *pinCard) Process(cmd []byte) []byte {
	c.got = append(c.got, bytes.Clone(cmd))
	wrong := func() []byte {
		c.left--
		return []byte{0x63, 0xC0 | byte(c.left)}
	}
	switch cmd[1] {
	case 0x20:
		if bytes.Equal(cmd[5:], c.pin) {
			return []byte{0x90, 0}
		}
		return wrong()
	case 0x24, 0x2C:
		secret := map[byte][]byte{0x24: c.pin, 0x2C: c.puk}[cmd[1]]
		d := cmd[5:]
		if len(d) == 16 {
			if !bytes.Equal(d[:8], secret) {
				return wrong()
			}
			d = d[8:]
		}
		c.pin = bytes.Clone(d)
		return []byte{0x90, 0}
	}
	return []byte{0x90, 0}
}

func verify() reader.PINRequest {
	return reader.PINRequest{
		Command: apdu.Command{INS: 0x20, P2: 1, Data: reader.Placeholder()}, Object: "PIN.CH", Action: reader.ActionVerify,
		MinLen: 6, MaxLen: 8,
	}
}

func modify(ins byte, blocks int) reader.PINRequest {
	r := reader.PINRequest{
		Command: apdu.Command{INS: ins, P2: 1, Data: bytes.Repeat(reader.Placeholder(), blocks)}, Object: "PIN.CH",
		Action: reader.ActionChange, MinLen: 6, MaxLen: 8,
	}
	if ins == 0x2C {
		r.Action = reader.ActionUnblock
	}
	return r
}

type outcome struct {
	res reader.PINResult
	err error
}

func connect(t *testing.T, sim *simreader.Reader) (reader.Card, *Reader) {
	t.Helper()
	r := New(sim, Config{})
	t.Cleanup(func() { r.Close() })
	c, err := r.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c, r
}

func start(f func() (reader.PINResult, error)) <-chan outcome {
	ch := make(chan outcome, 1)
	go func() {
		res, err := f()
		ch <- outcome{res, err}
	}()
	return ch
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, sim *simreader.Reader, what string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	must(t, sim.WaitAwaiting(ctx, what))
}

func TestVerifyOnThePad(t *testing.T) {
	t.Parallel()
	tests := map[simreader.Profile]struct {
		way            reader.PromptWay
		prompt, masked string
	}{
		simreader.CCID: {reader.PromptReaderText, "Bitte PIN\neingeben:\n", "Bitte PIN\neingeben:\n******"},
		simreader.MCT:  {reader.PromptFreeText, "Eingabe\nVersicherten-PIN:\n", "Eingabe\nVersicherten-PIN:\n******"},
	}
	for profile, want := range tests {
		t.Run(string(profile), func(t *testing.T) {
			t.Parallel()
			req.Covers(t, "AdV-A_2503", "AdV-A_2505")
			sim := simreader.New(simreader.Config{Profile: profile})
			pc := newPINCard()
			sim.Insert(pc)
			c, r := connect(t, sim)
			if got := r.Features().Class; got != reader.Class3 {
				t.Fatalf("class %d", got)
			}
			done := start(func() (reader.PINResult, error) { return c.VerifyPIN(t.Context(), verify()) })
			await(t, sim, "pin")
			if got := sim.Display(); got != want.prompt {
				t.Errorf("display %q, want %q", got, want.prompt)
			}
			must(t, sim.PressDigits("99"))
			must(t, sim.PressKey(simreader.KeyClear))
			must(t, sim.PressDigits("123456"))
			if got := sim.Display(); got != want.masked {
				t.Errorf("display %q, want %q", got, want.masked)
			}
			must(t, sim.PressKey(simreader.KeyOK))
			o := <-done
			must(t, o.err)
			if diff := cmp.Diff(reader.PINResult{SW: 0x9000, PromptShown: want.way}, o.res); diff != "" {
				t.Error(diff)
			}
			if got := pc.got[len(pc.got)-1]; !bytes.Equal(got, append([]byte{0, 0x20, 0, 1, 8}, block("123456")...)) {
				t.Errorf("card got %X", got)
			}
		})
	}
}

func TestEveryEndOfAnEntry(t *testing.T) {
	t.Parallel()
	type do = func(t *testing.T, s *simreader.Reader)
	press := func(digits string) do {
		return func(t *testing.T, s *simreader.Reader) {
			must(t, s.PressDigits(digits))
			must(t, s.PressKey(simreader.KeyOK))
		}
	}
	tests := map[string]struct {
		steps []string
		do    []do
		q     reader.PINRequest
		want  error
		sw    uint16
	}{
		"right":            {[]string{"pin"}, []do{press("123456")}, verify(), nil, 0x9000},
		"wrong":            {[]string{"pin"}, []do{press("654321")}, verify(), nil, 0x63C2},
		"too short":        {[]string{"pin"}, []do{press("12345")}, verify(), reader.ErrPINLength, 0},
		"cancel":           {[]string{"pin"}, []do{func(t *testing.T, s *simreader.Reader) { must(t, s.PressKey(simreader.KeyCancel)) }}, verify(), reader.ErrPINCancelled, 0},
		"card pulled":      {[]string{"pin"}, []do{func(_ *testing.T, s *simreader.Reader) { s.Remove() }}, verify(), reader.ErrCardRemoved, 0},
		"unplugged":        {[]string{"pin"}, []do{func(_ *testing.T, s *simreader.Reader) { s.Unplug() }}, verify(), reader.ErrReaderGone, 0},
		"change":           {[]string{"old", "new", "repeat"}, []do{press("123456"), press("7654321"), press("7654321")}, modify(0x24, 2), nil, 0x9000},
		"change, mismatch": {[]string{"old", "new", "repeat"}, []do{press("123456"), press("7654321"), press("765432")}, modify(0x24, 2), reader.ErrPINMismatch, 0},
		"change, old bad":  {[]string{"old", "new", "repeat"}, []do{press("123457"), press("765432"), press("765432")}, modify(0x24, 2), nil, 0x63C2},
		"unblock":          {[]string{"old", "new", "repeat"}, []do{press("12345678"), press("765432"), press("765432")}, modify(0x2C, 2), nil, 0x9000},
		"first PIN":        {[]string{"new", "repeat"}, []do{press("765432"), press("765432")}, modify(0x24, 1), nil, 0x9000},
	}
	for _, profile := range []simreader.Profile{simreader.CCID, simreader.MCT} {
		for name, tc := range tests {
			t.Run(string(profile)+"/"+name, func(t *testing.T) {
				t.Parallel()
				if profile == simreader.MCT && name == "too short" {
					t.Skip("CT-BCS leaves the length to the reader")
				}
				sim := simreader.New(simreader.Config{Profile: profile})
				sim.Insert(newPINCard())
				c, _ := connect(t, sim)
				enter := c.VerifyPIN
				if tc.q.Action != reader.ActionVerify {
					enter = c.ModifyPIN
				}
				done := start(func() (reader.PINResult, error) { return enter(t.Context(), tc.q) })
				for i, s := range tc.steps {
					await(t, sim, s)
					tc.do[i](t, sim)
				}
				o := <-done
				if !errors.Is(o.err, tc.want) || o.res.SW != tc.sw {
					t.Errorf("got %04X, %v; want %04X, %v", o.res.SW, o.err, tc.sw, tc.want)
				}
				if got := sim.Awaiting(); got != "" {
					t.Errorf("pad still awaits %q", got)
				}
			})
		}
	}
}

func TestEndsOfAConnection(t *testing.T) {
	t.Parallel()
	get := apdu.Command{INS: 0xB0, Ne: 256}
	sim := simreader.New(simreader.Config{})
	r := New(sim, Config{CallTimeout: 50 * time.Millisecond})
	if _, err := r.Connect(t.Context()); !errors.Is(err, reader.ErrCardRemoved) {
		t.Errorf("without card: %v", err)
	}
	pc := newPINCard()
	sim.Insert(pc)
	must(t, r.WaitCard(t.Context(), true))
	c, err := r.Connect(t.Context())
	must(t, err)
	if _, err := r.Connect(t.Context()); !errors.Is(err, reader.ErrInUse) {
		t.Errorf("second connection: %v", err)
	}
	must(t, c.Reset(t.Context()))
	if pc.resets != 2 {
		t.Errorf("%d resets", pc.resets)
	}
	sim.Insert(newPINCard()) // another card: the connection is over
	if _, err := c.Transmit(t.Context(), get); !errors.Is(err, reader.ErrCardRemoved) {
		t.Errorf("another card: %v", err)
	}
	must(t, c.Disconnect())

	c, err = r.Connect(t.Context())
	must(t, err)
	sim.HangNext()
	if _, err := c.Transmit(t.Context(), get); !errors.Is(err, reader.ErrHung) || !errors.Is(err, apdu.ErrTimeout) {
		t.Errorf("hung: %v", err)
	}
	sim.Release()
	must(t, c.Disconnect())
	if _, err := c.Transmit(t.Context(), get); !errors.Is(err, reader.ErrCardRemoved) {
		t.Errorf("after disconnect: %v", err)
	}

	sim.SetFailures(simreader.Failures{Mute: true})
	if _, err := r.Connect(t.Context()); !errors.Is(err, reader.ErrMute) {
		t.Errorf("mute: %v", err)
	}
	sim.Unplug()
	if err := r.WaitCard(t.Context(), true); !errors.Is(err, reader.ErrReaderGone) {
		t.Errorf("unplugged: %v", err)
	}
	sim.Plug()
	must(t, r.WaitReader(t.Context()))
	must(t, r.Close())
	if err := r.WaitCard(t.Context(), false); !errors.Is(err, reader.ErrReaderGone) {
		t.Errorf("closed: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		f    simreader.Failures
		do   func(reader.Card) error
		want error
	}{
		"class 1": {simreader.Failures{NoPad: true}, func(c reader.Card) error {
			_, err := c.VerifyPIN(context.Background(), verify())
			return err
		}, reader.ErrNoPINPad},
		"verify only": {simreader.Failures{VerifyOnly: true}, func(c reader.Card) error {
			_, err := c.ModifyPIN(context.Background(), modify(0x24, 2))
			return err
		}, reader.ErrNoPINPad},
		"other spelling": {simreader.Failures{OnlyFormat: [3]byte{0x81, 0x48, 0x04}}, func(c reader.Card) error {
			_, err := c.VerifyPIN(context.Background(), verify())
			return err
		}, reader.ErrPINStructure},
		"short commands only": {simreader.Failures{ShortOnly: true}, func(c reader.Card) error {
			_, err := c.Transmit(context.Background(), apdu.Command{INS: 0xB0, Ne: 65536})
			return err
		}, reader.ErrExtended},
		"no free text": {simreader.Failures{}, func(c reader.Card) error { return c.ShowText(context.Background(), "x") }, reader.ErrNoFreeText},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := simreader.New(simreader.Config{})
			sim.SetFailures(tc.f)
			pc := newPINCard()
			sim.Insert(pc)
			c, _ := connect(t, sim)
			if err := tc.do(c); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if len(pc.got) != 0 {
				t.Errorf("card got %X", pc.got)
			}
		})
	}
}

// A reader whose display is reported as none is of class 2: nothing can be said about what the person reads there.
func TestDisplayReportedAsNone(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2500")
	sim := simreader.New(simreader.Config{})
	sim.SetFailures(simreader.Failures{NoDisplay: true})
	sim.Insert(newPINCard())
	c, r := connect(t, sim)
	if got := r.Features().Class; got != reader.Class2 {
		t.Errorf("class %d", got)
	}
	done := start(func() (reader.PINResult, error) { return c.VerifyPIN(t.Context(), verify()) })
	await(t, sim, "pin")
	must(t, sim.PressDigits("123456"))
	must(t, sim.PressKey(simreader.KeyOK))
	if o := <-done; o.err != nil || o.res.SW != 0x9000 || o.res.PromptShown != reader.PromptNone {
		t.Errorf("%+v, %v", o.res, o.err)
	}
}
