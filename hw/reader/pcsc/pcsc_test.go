//go:build pcsc

package pcsc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ebfe/scard"
	"github.com/google/go-cmp/cmp"

	"ktradv/hw/apdu"
	"ktradv/hw/reader"
	"ktradv/hw/reader/pcscd"
	"ktradv/hw/sim/ifd"
	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/readers"
	"ktradv/internal/req"
)

// The C library reads the name of the socket once per process, so all tests share a folder, one after the other; each
// has its own daemon and its own simulated reader.
var (
	dir       string
	configDir string
	skip      string // why the tests cannot run
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		if err := child(mode); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(func() int {
		var err error
		if dir, err = os.MkdirTemp("", "pcsc"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		os.Setenv("PCSCLITE_CSOCK_NAME", ifd.PCSCDSocket(dir))
		if err := pcscd.Available(); err != nil {
			skip = err.Error()
		} else if configDir, err = ifd.Install(context.Background(), dir); errors.Is(err, ifd.ErrNoCompiler) {
			skip = err.Error()
		} else if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

type rig struct {
	sim    *simreader.Reader
	server *ifd.Server
	daemon *pcscd.Daemon
	reader *Reader
}

// limit is how long a test waits for something that should happen at once.
const limit = 10 * time.Second

// soon is how long what happens within a second on an idle machine may take on one that does much else: far less than any
// time-out of entry, reader or service.
const soon = 5 * time.Second

func newRig(t testing.TB, cfg simreader.Config, f simreader.Failures, ours Config) *rig {
	t.Helper()
	if skip != "" {
		t.Skip("no PC/SC on this machine: ", skip)
	}
	g := &rig{sim: simreader.New(cfg)}
	g.sim.SetFailures(f)
	var err error
	if g.server, err = ifd.Serve(g.sim, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.server.Close() })
	g.daemon, err = pcscd.Start(t.Context(), pcscd.Config{ConfigDir: configDir, Socket: ifd.PCSCDSocket(dir), Isolation: pcscd.Private})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.daemon.Close() })
	if g.reader, err = open(t, ours); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.reader.Close() })
	if err := g.reader.WaitReader(within(t)); err != nil {
		t.Fatal(err)
	}
	return g
}

// open waits for the reader of the test before to be gone entirely.
func open(t testing.TB, cfg Config) (*Reader, error) {
	ctx := within(t)
	for {
		r, err := Open(cfg)
		if !errors.Is(err, ErrOpen) || ctx.Err() != nil {
			return r, err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (g *rig) connect(t testing.TB, c simreader.Card) reader.Card {
	t.Helper()
	if c != nil {
		g.sim.Insert(c)
	}
	must(t, g.reader.WaitCard(within(t), true))
	k, err := g.reader.Connect(t.Context())
	must(t, err)
	t.Cleanup(func() { k.Disconnect() })
	return k
}

// tinyCard answers VERIFY and CHANGE REFERENCE DATA by comparing blocks; INS B0 gives as many octets as P1P2 say.
type tinyCard struct {
	mu   sync.Mutex
	pin  []byte
	left byte
	atr  []byte
	got  [][]byte
}

var atr = []byte{0x3B, 0x81, 0x81, 0x31, 0xFE, 0x45, 0x00, 0x4A ^ 0x00} // T=1

func newCard() *tinyCard {
	c := &tinyCard{pin: []byte{0x26, 0x12, 0x34, 0x56, 0xFF, 0xFF, 0xFF, 0xFF}, left: 3}
	c.atr = bytes.Clone(atr)
	check := byte(0)
	for _, b := range c.atr[1 : len(c.atr)-1] {
		check ^= b
	}
	c.atr[len(c.atr)-1] = check
	return c
}

func (c *tinyCard) Reset(bool) []byte { return c.atr }

func (c *tinyCard) Process(cmd []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.got) < 100 {
		c.got = append(c.got, bytes.Clone(cmd))
	}
	switch cmd[1] {
	case 0xB0:
		return append(make([]byte, int(cmd[2])<<8|int(cmd[3])), 0x90, 0)
	case 0xD6:
		return []byte{0x90, 0}
	case 0x20, 0x24:
		if !bytes.Equal(cmd[5:13], c.pin) {
			c.left--
			return []byte{0x63, 0xC0 | c.left}
		}
		if cmd[1] == 0x24 {
			c.pin = bytes.Clone(cmd[13:21])
		}
		return []byte{0x90, 0}
	}
	return []byte{0x6D, 0}
}

func (c *tinyCard) last() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got[len(c.got)-1]
}

func (c *tinyCard) block() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.pin)
}

func (c *tinyCard) commands() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

func verify() reader.PINRequest {
	return reader.PINRequest{
		Command: apdu.Command{INS: 0x20, P2: 1, Data: reader.Placeholder()}, Object: "PIN.CH", Action: reader.ActionVerify,
		MinLen: 6, MaxLen: 8,
	}
}

func change() reader.PINRequest {
	return reader.PINRequest{
		Command: apdu.Command{INS: 0x24, P2: 1, Data: append(reader.Placeholder(), reader.Placeholder()...)}, Object: "PIN.CH",
		Action: reader.ActionChange, MinLen: 6, MaxLen: 8,
	}
}

type outcome struct {
	res  reader.PINResult
	err  error
	took time.Duration
}

func start(f func() (reader.PINResult, error)) <-chan outcome {
	ch := make(chan outcome, 1)
	began := time.Now()
	go func() {
		res, err := f()
		ch <- outcome{res, err, time.Since(began)}
	}()
	return ch
}

func (g *rig) typeIn(t testing.TB, what, digits string) {
	t.Helper()
	must(t, g.sim.WaitAwaiting(within(t), what))
	must(t, g.sim.PressDigits(digits))
	must(t, g.sim.PressKey(simreader.KeyOK))
}

// manualClock lets a test end every timer at once.
type manualClock struct {
	mu     sync.Mutex
	timers map[int]func()
	last   time.Duration
	n      int
}

func (c *manualClock) AfterFunc(d time.Duration, f func()) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timers == nil {
		c.timers = map[int]func(){}
	}
	c.n++
	n := c.n
	c.timers[n], c.last = f, d
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.timers, n)
	}
}

func (c *manualClock) fire() time.Duration {
	c.mu.Lock()
	timers := c.timers
	c.timers = nil
	c.mu.Unlock()
	for _, f := range timers {
		f()
	}
	return c.last
}

func TestVerifyAndModify(t *testing.T) {
	for _, profile := range []simreader.Profile{simreader.CCID, simreader.MCT} {
		t.Run(string(profile), func(t *testing.T) {
			req.Covers(t, "AdV-A_2503", "AdV-A_2505", "AdV-A_2506", "AdV-A_2507")
			g := newRig(t, simreader.Config{Profile: profile}, simreader.Failures{}, Config{})
			if f := g.reader.Features(); f.Class != reader.Class3 || f.FreeText != (profile == simreader.MCT) {
				t.Fatalf("features %+v", f)
			}
			pc := newCard()
			k := g.connect(t, pc)
			if !bytes.Equal(k.ATR(), pc.atr) {
				t.Errorf("ATR %X", k.ATR())
			}
			way, display := reader.PromptReaderText, "Bitte PIN\neingeben:\n"
			if profile == simreader.MCT {
				way, display = reader.PromptFreeText, "Eingabe\nVersicherten-PIN:\n"
			}
			done := start(func() (reader.PINResult, error) {
				resp, res, err := reader.EnterSecret(t.Context(), k, reader.SecretInput{
					Identifier: "PIN.CH", Action: reader.ActionVerify, MinLength: 6, MaxLength: 8, CommandAPDUPart: verify().Command,
				})
				if resp.SW != res.SW {
					t.Errorf("response %v, status word %04X", resp, res.SW)
				}
				return res, err
			})
			must(t, g.sim.WaitAwaiting(within(t), "pin"))
			if got := g.sim.Display(); got != display {
				t.Errorf("display %q, want %q", got, display)
			}
			g.typeIn(t, "pin", "123456")
			o := <-done
			must(t, o.err)
			if diff := cmp.Diff(reader.PINResult{SW: 0x9000, PromptShown: way}, o.res); diff != "" {
				t.Error(diff)
			}
			if want := []byte{0, 0x20, 0, 1, 8, 0x26, 0x12, 0x34, 0x56, 0xFF, 0xFF, 0xFF, 0xFF}; !bytes.Equal(pc.last(), want) {
				t.Errorf("card got %X", pc.last())
			}
			done = start(func() (reader.PINResult, error) { return k.ModifyPIN(t.Context(), change()) })
			g.typeIn(t, "old", "123456")
			g.typeIn(t, "new", "7654321")
			g.typeIn(t, "repeat", "7654321")
			o = <-done
			must(t, o.err)
			if o.res.SW != 0x9000 || !bytes.Equal(pc.block(), []byte{0x27, 0x76, 0x54, 0x32, 0x1F, 0xFF, 0xFF, 0xFF}) {
				t.Errorf("after change: %04X", o.res.SW)
			}
			done = start(func() (reader.PINResult, error) { return k.VerifyPIN(t.Context(), verify()) })
			g.typeIn(t, "pin", "123456")
			if o = <-done; o.err != nil || o.res.SW != 0x63C2 {
				t.Errorf("old PIN after change: %04X, %v", o.res.SW, o.err)
			}
		})
	}
}

func TestSpellings(t *testing.T) {
	for spelling, f := range map[string]reader.PINFormat{
		readers.PINFormatBytes: reader.PINFormatBytes, readers.PINFormatBits: reader.PINFormatBits, readers.PINFormatFPIN2: reader.PINFormatFPIN2,
	} {
		t.Run(spelling, func(t *testing.T) {
			models := []reader.Model{{Name: "SIM eGK", PINFormat: spelling}}
			only := [3]byte{f.Format, f.Block, f.Length}
			g := newRig(t, simreader.Config{}, simreader.Failures{OnlyFormat: only}, Config{Models: models})
			k := g.connect(t, newCard())
			done := start(func() (reader.PINResult, error) { return k.VerifyPIN(t.Context(), verify()) })
			g.typeIn(t, "pin", "123456")
			if o := <-done; o.err != nil || o.res.SW != 0x9000 {
				t.Errorf("verify: %04X, %v", o.res.SW, o.err)
			}
			// The negative twin: another spelling is refused, and nothing reaches the card.
			only[0] ^= 0x08
			g.sim.SetFailures(simreader.Failures{OnlyFormat: only})
			if _, err := k.VerifyPIN(t.Context(), verify()); !errors.Is(err, reader.ErrPINStructure) {
				t.Errorf("wrong spelling: %v", err)
			}
		})
	}
}

func TestEntryEndsWithoutPIN(t *testing.T) {
	clock := &manualClock{}
	tests := map[string]struct {
		do   func(t *testing.T, g *rig)
		want error
	}{
		"cancel": {func(t *testing.T, g *rig) { must(t, g.sim.PressKey(simreader.KeyCancel)) }, reader.ErrPINCancelled},
		"time-out": {func(t *testing.T, g *rig) {
			if d := clock.fire(); d < 30*time.Second || d > 60*time.Second {
				t.Errorf("the reader waits %v", d)
			}
		}, reader.ErrPINTimeout},
		"card pulled": {func(_ *testing.T, g *rig) { g.sim.Remove() }, reader.ErrCardRemoved},
		"unplugged":   {func(_ *testing.T, g *rig) { g.sim.Unplug() }, reader.ErrReaderGone},
		"too short": {func(t *testing.T, g *rig) {
			must(t, g.sim.PressDigits("123"))
			must(t, g.sim.PressKey(simreader.KeyOK))
		}, reader.ErrPINLength},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, simreader.Config{Clock: clock}, simreader.Failures{}, Config{})
			k := g.connect(t, newCard())
			done := start(func() (reader.PINResult, error) { return k.VerifyPIN(t.Context(), verify()) })
			must(t, g.sim.WaitAwaiting(within(t), "pin"))
			began := time.Now()
			tc.do(t, g)
			o := <-done
			if !errors.Is(o.err, tc.want) {
				t.Errorf("got %v, want %v", o.err, tc.want)
			}
			if d := time.Since(began); d > soon {
				t.Errorf("told after %v", d)
			}
		})
	}
}

func TestRemovalThatTheReaderIgnoresDuringEntry(t *testing.T) {
	clock := &manualClock{}
	g := newRig(t, simreader.Config{Clock: clock}, simreader.Failures{IgnoreRemoval: true}, Config{})
	k := g.connect(t, newCard())
	done := start(func() (reader.PINResult, error) { return k.VerifyPIN(t.Context(), verify()) })
	must(t, g.sim.WaitAwaiting(within(t), "pin"))
	g.sim.Remove()
	g.typeIn(t, "pin", "123456")
	if o := <-done; !errors.Is(o.err, reader.ErrCardRemoved) {
		t.Errorf("got %v", o.err)
	}
}

func TestReaderWithoutUsablePad(t *testing.T) {
	for name, f := range map[string]simreader.Failures{"class 1": {NoPad: true}, "verify only": {VerifyOnly: true}} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, simreader.Config{}, f, Config{})
			pc := newCard()
			k := g.connect(t, pc)
			if _, err := k.VerifyPIN(t.Context(), verify()); !errors.Is(err, reader.ErrNoPINPad) {
				t.Errorf("got %v", err)
			}
			if n := pc.commands(); n != 0 {
				t.Errorf("card got %d commands", n)
			}
		})
	}
}

func TestReaderThatDisclosesThePIN(t *testing.T) {
	for _, profile := range []simreader.Profile{simreader.CCID, simreader.MCT} {
		t.Run(string(profile), func(t *testing.T) {
			req.Covers(t, "AdV-A_2504")
			g := newRig(t, simreader.Config{Profile: profile}, simreader.Failures{EchoPIN: true}, Config{})
			k := g.connect(t, newCard())
			done := start(func() (reader.PINResult, error) { return k.VerifyPIN(t.Context(), verify()) })
			g.typeIn(t, "pin", "123456")
			if o := <-done; !errors.Is(o.err, reader.ErrPINDisclosed) {
				t.Errorf("got %v", o.err)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	g := newRig(t, simreader.Config{}, simreader.Failures{}, Config{})
	const cycles = 50
	for i := range cycles {
		must(t, g.reader.WaitCard(within(t), false))
		g.sim.Insert(newCard())
		if err := g.reader.WaitCard(within(t), true); err != nil {
			t.Fatalf("cycle %d: %v", i, err)
		}
		g.sim.Remove()
	}
	must(t, g.reader.WaitCard(within(t), false))
	// A card that was changed for another between two looks is a removal too.
	g.sim.Insert(newCard())
	k := g.connect(t, nil)
	g.sim.Insert(newCard())
	for late := 0; ; {
		_, err := k.Transmit(within(t), apdu.Command{INS: 0xB0, P2: 1, Ne: 256})
		if errors.Is(err, reader.ErrCardRemoved) {
			break
		}
		// pcscd looks for a removal before it waits for the reader: one command, already past that look, can reach a card that
		// was changed in no time at all. No hand is that fast, but a busy machine is that slow.
		if err == nil && late == 0 {
			late++
			continue
		}
		if !errors.Is(err, reader.ErrTransmission) && !errors.Is(err, reader.ErrMute) {
			t.Fatalf("old connection: %v", err)
		}
	}
	must(t, k.Disconnect())
	g.connect(t, nil)
}

func TestUnplugAndReplug(t *testing.T) {
	g := newRig(t, simreader.Config{}, simreader.Failures{}, Config{})
	k := g.connect(t, newCard())
	g.sim.Unplug()
	if err := g.reader.WaitCard(within(t), false); !errors.Is(err, reader.ErrReaderGone) {
		t.Errorf("wait: %v", err)
	}
	if _, err := k.Transmit(t.Context(), apdu.Command{INS: 0xB0, P2: 1, Ne: 256}); !errors.Is(err, reader.ErrReaderGone) && !errors.Is(err, reader.ErrCardRemoved) {
		t.Errorf("transmit: %v", err)
	}
	must(t, k.Disconnect())
	if _, err := g.reader.Connect(t.Context()); !errors.Is(err, reader.ErrReaderGone) {
		t.Errorf("connect: %v", err)
	}
	g.sim.Plug()
	must(t, g.reader.WaitReader(within(t)))
	g.connect(t, nil)
}

func TestReaderProcessDiesAndComesBack(t *testing.T) {
	g := newRig(t, simreader.Config{}, simreader.Failures{}, Config{})
	g.sim.Insert(newCard())
	must(t, g.reader.WaitCard(within(t), true))
	must(t, g.server.Close())
	if err := g.reader.WaitCard(within(t), false); !errors.Is(err, reader.ErrReaderGone) {
		t.Errorf("wait: %v", err)
	}
	server, err := ifd.Serve(g.sim, dir)
	must(t, err)
	t.Cleanup(func() { server.Close() })
	must(t, g.reader.WaitReader(within(t)))
	g.connect(t, nil)
}

func TestMuteCardIsTold(t *testing.T) {
	g := newRig(t, simreader.Config{}, simreader.Failures{Mute: true}, Config{})
	g.sim.Insert(newCard())
	began := time.Now()
	must(t, g.reader.WaitCard(within(t), true))
	_, err := g.reader.Connect(t.Context())
	if !errors.Is(err, reader.ErrMute) {
		t.Errorf("connect: %v", err)
	}
	if d := time.Since(began); d > soon {
		t.Errorf("told after %v", d)
	}
	g.sim.Remove()
	must(t, g.reader.WaitCard(within(t), false))
	if _, err := g.reader.Connect(t.Context()); !errors.Is(err, reader.ErrCardRemoved) {
		t.Errorf("connect without card: %v", err)
	}
}

func TestExtendedLength(t *testing.T) {
	g := newRig(t, simreader.Config{}, simreader.Failures{}, Config{})
	pc := newCard()
	k := g.connect(t, pc)
	resp, err := k.Transmit(t.Context(), apdu.Command{INS: 0xB0, P1: 0x7D, P2: 0x00, Ne: 65536})
	must(t, err)
	if len(resp.Data) != 32000 || !resp.OK() {
		t.Errorf("response %v", resp)
	}
	if _, err = k.Transmit(t.Context(), apdu.Command{INS: 0xD6, Data: make([]byte, 32000)}); err != nil || len(pc.last()) != 32007 {
		t.Errorf("long command: %v", err)
	}
}

func TestShortReader(t *testing.T) {
	g := newRig(t, simreader.Config{}, simreader.Failures{ShortOnly: true}, Config{})
	k := g.connect(t, newCard())
	if _, err := k.Transmit(t.Context(), apdu.Command{INS: 0xB0, P1: 1, Ne: 300}); !errors.Is(err, reader.ErrExtended) {
		t.Errorf("extended: %v", err)
	}
	if _, err := k.Transmit(t.Context(), apdu.Command{INS: 0xB0, P2: 9, Ne: 256}); err != nil {
		t.Errorf("short: %v", err)
	}
}

func TestHungReaderAndReplacedDaemon(t *testing.T) {
	g := newRig(t, simreader.Config{}, simreader.Failures{}, Config{CallTimeout: time.Second})
	k := g.connect(t, newCard())
	g.sim.HangNext()
	began := time.Now()
	if _, err := k.Transmit(t.Context(), apdu.Command{INS: 0xB0, P2: 1, Ne: 256}); !errors.Is(err, reader.ErrHung) {
		t.Fatalf("transmit: %v", err)
	}
	if _, err := k.Transmit(t.Context(), apdu.Command{INS: 0xB0, P2: 1, Ne: 256}); !errors.Is(err, reader.ErrHung) {
		t.Errorf("transmit again: %v", err)
	}
	must(t, k.Disconnect())
	must(t, g.daemon.Restart(t.Context()))
	k = g.reconnect(t)
	if _, err := k.Transmit(t.Context(), apdu.Command{INS: 0xB0, P2: 1, Ne: 256}); err != nil {
		t.Errorf("transmit after the replacement: %v", err)
	}
	t.Logf("usable again %v after the command that hung", time.Since(began))
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

// reconnect connects as soon as the replaced daemon is noticed and works.
func (g *rig) reconnect(t *testing.T) reader.Card {
	t.Helper()
	ctx := within(t)
	for {
		must(t, g.reader.WaitReader(ctx))
		if g.reader.WaitCard(ctx, true) == nil {
			if k, err := g.reader.Connect(ctx); err == nil {
				t.Cleanup(func() { k.Disconnect() })
				return k
			}
		}
		must(t, ctx.Err())
	}
}

func TestHungDaemonIsReplaced(t *testing.T) {
	for name, entry := range map[string]bool{"idle": false, "during PIN entry": true} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, simreader.Config{}, simreader.Failures{}, Config{CallTimeout: 500 * time.Millisecond, CheckInterval: 500 * time.Millisecond})
			k := g.connect(t, newCard())
			var done <-chan outcome
			if entry {
				done = start(func() (reader.PINResult, error) { return k.VerifyPIN(context.Background(), verify()) })
				must(t, g.sim.WaitAwaiting(within(t), "pin"))
			}
			began := time.Now()
			must(t, syscall.Kill(g.daemon.Pid(), syscall.SIGSTOP))
			if err := g.reader.WaitCard(within(t), false); !errors.Is(err, reader.ErrHung) {
				t.Fatalf("wait: %v", err)
			}
			if entry {
				if o := <-done; !errors.Is(o.err, reader.ErrHung) {
					t.Errorf("entry: %v", o.err)
				}
			}
			must(t, k.Disconnect())
			must(t, g.daemon.Restart(t.Context()))
			k = g.reconnect(t)
			if _, err := k.Transmit(t.Context(), apdu.Command{INS: 0xB0, P2: 1, Ne: 256}); err != nil {
				t.Errorf("transmit after the replacement: %v", err)
			}
			if d := time.Since(began); d > 10*time.Second {
				t.Errorf("took %v", d)
			} else {
				t.Logf("usable again after %v", d)
			}
		})
	}
}

func TestDaemonComesLaterAndDies(t *testing.T) {
	if skip != "" {
		t.Skip("no PC/SC on this machine: ", skip)
	}
	r, err := open(t, Config{})
	must(t, err)
	t.Cleanup(func() { r.Close() })
	if _, err := r.Connect(t.Context()); !errors.Is(err, reader.ErrReaderGone) {
		t.Errorf("connect without daemon: %v", err)
	}
	sim := simreader.New(simreader.Config{})
	server, err := ifd.Serve(sim, dir)
	must(t, err)
	t.Cleanup(func() { server.Close() })
	daemon, err := pcscd.Start(t.Context(), pcscd.Config{ConfigDir: configDir, Socket: ifd.PCSCDSocket(dir), Isolation: pcscd.Private})
	must(t, err)
	t.Cleanup(func() { daemon.Close() })
	must(t, r.WaitReader(within(t)))
	sim.Insert(newCard())
	must(t, r.WaitCard(within(t), true))
	must(t, syscall.Kill(daemon.Pid(), syscall.SIGKILL))
	if err := r.WaitCard(within(t), false); !errors.Is(err, reader.ErrReaderGone) {
		t.Errorf("daemon died: %v", err)
	}
	must(t, daemon.Restart(t.Context()))
	(&rig{reader: r}).reconnect(t)
}

func TestSlowReader(t *testing.T) {
	g := newRig(t, simreader.Config{}, simreader.Failures{Delay: 300 * time.Millisecond}, Config{})
	k := g.connect(t, newCard())
	began := time.Now()
	if _, err := k.Transmit(t.Context(), apdu.Command{INS: 0xB0, P2: 1, Ne: 256}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d < 300*time.Millisecond {
		t.Errorf("took %v", d)
	}
	// Pulled during the exchange.
	g.sim.SetFailures(simreader.Failures{Delay: time.Minute})
	done := make(chan error, 1)
	go func() {
		_, err := k.Transmit(t.Context(), apdu.Command{INS: 0xB0, P2: 1, Ne: 256})
		done <- err
	}()
	g.sim.Remove()
	if err := <-done; !errors.Is(err, reader.ErrCardRemoved) {
		t.Errorf("pulled: %v", err)
	}
}

func TestReset(t *testing.T) {
	g := newRig(t, simreader.Config{}, simreader.Failures{}, Config{})
	k := g.connect(t, newCard())
	must(t, k.Reset(t.Context()))
	if _, err := k.Transmit(t.Context(), apdu.Command{INS: 0xB0, P2: 1, Ne: 256}); err != nil {
		t.Error(err)
	}
	g.sim.Remove()
	must(t, g.reader.WaitCard(within(t), false))
	if err := k.Reset(t.Context()); !errors.Is(err, reader.ErrCardRemoved) {
		t.Errorf("reset without card: %v", err)
	}
}

func TestExclusive(t *testing.T) {
	g := newRig(t, simreader.Config{}, simreader.Failures{}, Config{})
	k := g.connect(t, newCard())
	if _, err := g.reader.Connect(t.Context()); !errors.Is(err, reader.ErrInUse) {
		t.Errorf("second connection: %v", err)
	}
	must(t, k.Disconnect())
	g.connect(t, nil)
	if _, err := Open(Config{}); !errors.Is(err, ErrOpen) {
		t.Errorf("second reader: %v", err)
	}
}

// other is another program that has the card for itself, as the process of the session before is.
func other(t *testing.T) *scard.Card {
	t.Helper()
	sc, err := scard.EstablishContext()
	must(t, err)
	t.Cleanup(func() { sc.Release() })
	h, err := sc.Connect(ifd.ReaderName, scard.ShareExclusive, scard.ProtocolT1)
	must(t, err)
	return h
}

func TestWaitingWhileAnotherProcessHasTheCard(t *testing.T) {
	g := newRig(t, simreader.Config{}, simreader.Failures{}, Config{})
	g.sim.Insert(newCard())
	must(t, g.reader.WaitCard(within(t), true))
	must(t, g.reader.Close())
	for name, entering := range map[string]bool{"idle": false, "in a PIN entry": true} {
		t.Run(name, func(t *testing.T) {
			h := other(t)
			done := make(chan struct{})
			close(done)
			if entering {
				done = make(chan struct{})
				in, err := reader.PINVerify{
					Timeout: 30, Timeout2: 30, Format: reader.PINFormatBytes, Min: 6, Max: 8, EndAt: reader.EndAtOK,
					Command: append([]byte{0, 0x20, 0, 1, 8}, reader.Placeholder()...),
				}.Bytes()
				must(t, err)
				go func() {
					defer close(done)
					h.Control(0x42330006, in)
				}()
				must(t, g.sim.WaitAwaiting(within(t), "pin"))
			}
			r, err := open(t, Config{CallTimeout: 300 * time.Millisecond})
			must(t, err)
			t.Cleanup(func() { r.Close() })
			must(t, r.WaitReader(within(t)))
			must(t, r.WaitCard(within(t), true))
			if c := r.Features().Class; c != reader.ClassUnknown {
				t.Errorf("class %d of a reader that could not be asked", c)
			}
			if entering {
				must(t, g.sim.PressKey(simreader.KeyCancel))
			}
			<-done
			if _, err := r.Connect(t.Context()); !errors.Is(err, reader.ErrInUse) {
				t.Errorf("connect: %v", err)
			}
			must(t, h.Disconnect(scard.ResetCard))
			k, err := r.Connect(t.Context())
			must(t, err)
			if c := r.Features().Class; c != reader.Class3 {
				t.Errorf("class %d", c)
			}
			must(t, k.Disconnect())
		})
	}
}

func TestParallelClients(t *testing.T) {
	g := newRig(t, simreader.Config{}, simreader.Failures{}, Config{Shared: true})
	g.connect(t, newCard())
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			sc, err := scard.EstablishContext()
			if err != nil {
				t.Error(err)
				return
			}
			defer sc.Release()
			h, err := sc.Connect(ifd.ReaderName, scard.ShareShared, scard.ProtocolT1)
			if err != nil {
				t.Error(err)
				return
			}
			defer h.Disconnect(scard.LeaveCard)
			for range 200 {
				b, err := h.Transmit([]byte{0, 0xB0, 0, 5, 0})
				if err != nil || len(b) != 7 {
					t.Errorf("answer of %d octets, %v", len(b), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestShowText(t *testing.T) {
	g := newRig(t, simreader.Config{Profile: simreader.MCT}, simreader.Failures{}, Config{})
	k := g.connect(t, newCard())
	must(t, k.ShowText(t.Context(), "Bitte Karte entnehmen"))
	if got := g.sim.Display(); got != "Bitte Karte\nentnehmen" {
		t.Errorf("display %q", got)
	}
}

// BenchmarkHostOverhead is what our side, the library, the daemon and the driver add to one short command: the card
// behind it answers at once.
func BenchmarkHostOverhead(b *testing.B) {
	g := newRig(b, simreader.Config{}, simreader.Failures{}, Config{})
	var processing atomic.Int64
	k := g.connect(b, timedCard{newCard(), &processing})
	c := apdu.Command{CLA: 0x00, INS: 0xB0, P2: 16, Ne: 256}
	processing.Store(0)
	b.ResetTimer()
	for b.Loop() {
		if _, err := k.Transmit(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((b.Elapsed()-time.Duration(processing.Load())).Microseconds())/float64(b.N), "overhead_us/op")
}

// timedCard adds up the time the card takes.
type timedCard struct {
	*tinyCard
	took *atomic.Int64
}

func (c timedCard) Process(cmd []byte) []byte {
	began := time.Now()
	defer func() { c.took.Add(int64(time.Since(began))) }()
	return c.tinyCard.Process(cmd)
}

// BenchmarkExtended moves an answer of 32000 octets.
func BenchmarkExtended(b *testing.B) {
	g := newRig(b, simreader.Config{}, simreader.Failures{}, Config{})
	k := g.connect(b, newCard())
	for b.Loop() {
		if _, err := k.Transmit(b.Context(), apdu.Command{INS: 0xB0, P1: 0x7D, Ne: 65536}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCardEvent is the time from the card in the slot to the end of WaitCard.
func BenchmarkCardEvent(b *testing.B) {
	g := newRig(b, simreader.Config{}, simreader.Failures{}, Config{})
	c := newCard()
	ctx := b.Context()
	for b.Loop() {
		g.sim.Insert(c)
		if err := g.reader.WaitCard(ctx, true); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		g.sim.Remove()
		if err := g.reader.WaitCard(ctx, false); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	const kaan, other = "KOBIL KAAN Advanced (1234) 00 00", "Some Reader 01 00"
	for name, tc := range map[string]struct {
		names []string
		want  string
		is    string
		err   error
	}{
		"none":                          {nil, "", "", nil},
		"the only one":                  {[]string{kaan}, "", kaan, nil},
		"by name, in any case":          {[]string{other, kaan}, "kobil", kaan, nil},
		"the name is not there":         {[]string{other}, "kobil", "", nil},
		"two":                           {[]string{other, kaan}, "", "", reader.ErrSeveral},
		"two of the name":               {[]string{kaan, "KOBIL KAAN Advanced (5678) 01 00"}, "KOBIL", "", reader.ErrSeveral},
		"two slots of one reader":       {[]string{kaan, "KOBIL KAAN Advanced (1234) 00 01"}, "", kaan, nil},
		"a name without numbers at all": {[]string{"Reader"}, "", "Reader", nil},
	} {
		is, err := choose(tc.names, tc.want)
		if is != tc.is || !errors.Is(err, tc.err) {
			t.Errorf("%s: %q, %v", name, is, err)
		}
	}
}

// What is known of a reader's pad is not believed of the one that comes after it.
func TestAnotherReader(t *testing.T) {
	t.Parallel()
	r := &Reader{changed: make(chan struct{}), broken: make(chan struct{})}
	r.publish(slot{name: "one"})
	r.pad = &reader.Pad{}
	for _, same := range []slot{{name: "one", present: true}, {err: reader.ErrSeveral}, {err: reader.ErrReaderGone}, {name: "one"}} {
		if r.publish(same); r.pad == nil {
			t.Errorf("forgotten with %+v", same)
		}
	}
	if r.publish(slot{name: "two"}); r.pad != nil {
		t.Error("the pad of another reader")
	}
}

// The card loop answers while the reader is there, is away, and while the service hangs; a watcher that does not come round
// does not.
func TestAlive(t *testing.T) {
	g := newRig(t, simreader.Config{}, simreader.Failures{}, Config{CheckInterval: 50 * time.Millisecond, CallTimeout: 200 * time.Millisecond})
	if !g.reader.Alive() {
		t.Error("not alive with a reader")
	}
	must(t, syscall.Kill(g.daemon.Pid(), syscall.SIGSTOP))
	ctx := within(t)
	for err := error(nil); !errors.Is(err, reader.ErrHung); {
		if err = g.reader.WaitCard(ctx, true); ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if !g.reader.Alive() {
		t.Error("not alive while the service hangs, although it noticed")
	}
	must(t, g.daemon.Restart(t.Context()))
	must(t, g.reader.WaitReader(within(t)))
	if !g.reader.Alive() {
		t.Error("not alive after the service was replaced")
	}
	stuck := Reader{cfg: g.reader.cfg}
	stuck.turned.Store(time.Now().Add(-time.Minute).UnixNano())
	if stuck.Alive() {
		t.Error("alive without coming round")
	}
}

// While the service powers the card that it has found in a new reader it says nothing of the slot, which must not be taken for
// an empty one: the card would count as one that was put in afterwards.
func TestSlotOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state scard.StateFlag
		slot  slot
		known bool
	}{
		{scard.StateUnaware, slot{}, false},
		{scard.StateChanged, slot{}, false},
		{scard.StateChanged | scard.StateEmpty, slot{name: "r"}, true},
		{scard.StateChanged | scard.StatePresent, slot{name: "r", present: true}, true},
		{scard.StateChanged | scard.StatePresent | scard.StateInuse | 1<<16, slot{name: "r", present: true, seen: true}, true},
		{scard.StateEmpty | 2<<16, slot{name: "r", seen: true}, true},
		{scard.StateChanged | scard.StateUnknown, slot{err: reader.ErrReaderGone}, true},
		{scard.StateUnavailable | scard.StatePresent, slot{err: reader.ErrReaderGone}, true},
	} {
		if got, known := slotOf(c.state, "r"); got != c.slot || known != c.known {
			t.Errorf("%#x: %+v, %v; want %+v, %v", c.state, got, known, c.slot, c.known)
		}
	}
}

// A card that was in when the service began is not new; one that is put in afterwards is.
func TestCardIsNew(t *testing.T) {
	g := newRig(t, simreader.Config{}, simreader.Failures{}, Config{})
	if g.reader.CardIsNew() {
		t.Error("no card, but it is new")
	}
	g.sim.Insert(newCard())
	must(t, g.reader.WaitCard(within(t), true))
	if !g.reader.CardIsNew() {
		t.Error("a card that was put in is not new")
	}
	must(t, g.daemon.Restart(t.Context()))
	must(t, g.reader.WaitReader(within(t)))
	must(t, g.reader.WaitCard(within(t), true))
	if g.reader.CardIsNew() {
		t.Error("a card that was in when the service began is new")
	}
	g.sim.Remove()
	must(t, g.reader.WaitCard(within(t), false))
	g.sim.Insert(newCard())
	must(t, g.reader.WaitCard(within(t), true))
	if !g.reader.CardIsNew() {
		t.Error("the next card is not new")
	}
}
