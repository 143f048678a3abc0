//go:build pcsc

// Package desk tests visits through everything real: the product's own programs as processes, a real pcscd with the
// simulated class-3 reader under it, TLS on the loopback interface, and every frame drawn.
package desk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ktradv/hw/reader/pcscd"
	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/memscan"
	"ktradv/internal/req"
	"ktradv/tests/demo"
	"ktradv/tests/demo/panel"
)

var bin string // folder with the programs, "" when they could not be built

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if pcscd.Available() != nil {
			return m.Run() // every test says why it skips
		}
		dir, err := os.MkdirTemp("", "desk-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := demo.Build(context.Background(), filepath.Join("..", ".."), dir, false); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		bin = dir
		return m.Run()
	}())
}

type desk struct {
	*demo.Env
	*demo.Client
	t   *testing.T
	ctx context.Context
	out *bytes.Buffer
}

func start(t *testing.T, cfg demo.Config) *desk {
	t.Helper()
	if err := pcscd.Available(); err != nil {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "desk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	t.Cleanup(cancel)
	d := &desk{t: t, ctx: ctx, out: new(bytes.Buffer)}
	cfg.Dir, cfg.Bin, cfg.Panel, cfg.Output, cfg.Logs = dir, bin, "127.0.0.1:0", d.out, true
	if d.Env, err = demo.Start(ctx, cfg); err != nil {
		t.Fatalf("%v\n%s", err, d.out)
	}
	t.Cleanup(d.Close)
	d.Client = &demo.Client{URL: d.PanelURL, HTTP: http.DefaultClient}
	return d
}

func (d *desk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatalf("%v\n%s", err, d.out)
	}
}

// upTo brings a healthy card's visit to a screen: pin, menu or data.
func (d *desk) upTo(persona, screen string) {
	d.t.Helper()
	d.must(d.Insert(d.ctx, persona))
	d.must(d.waitPad("pin"))
	d.must(d.Screen(d.ctx, "pin"))
	if screen == "pin" {
		return
	}
	d.must(d.PIN(d.ctx, "123456"))
	d.must(d.Screen(d.ctx, "menu"))
	if screen == "menu" {
		return
	}
	d.must(d.Touch(d.ctx, "Versichertendaten anzeigen"))
	d.must(d.Screen(d.ctx, "data"))
}

func (d *desk) waitPad(what string) error {
	return d.Wait(d.ctx, "pad "+what, func(s panel.State) bool { return s.PadAwaiting == what })
}

// kiosk returns the processes of the kiosk: the supervisor and its children (session processes and its pcscd).
func (d *desk) kiosk() (pids []int) {
	d.t.Helper()
	all, err := os.ReadDir("/proc")
	d.must(err)
	parent := map[int]int{}
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		_, rest, ok := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); ok && len(f) > 1 {
			parent[pid], _ = strconv.Atoi(f[1])
		}
	}
	for pid := range parent {
		for p := pid; p > 1; p = parent[p] {
			if p == d.KioskPID {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// program returns those of the kiosk's processes that run the named program: adv-kiosk or pcscd.
func (d *desk) program(name string) (pids []int) {
	d.t.Helper()
	for _, pid := range d.kiosk() {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err == nil && filepath.Base(exe) == name {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (d *desk) finds(pids []int, patterns ...[]byte) (hits int) {
	d.t.Helper()
	for _, pid := range pids {
		r, err := memscan.Process(pid, patterns...)
		if errors.Is(err, os.ErrPermission) {
			d.t.Skip("reading the memory of another process needs root or the right to trace")
		}
		d.must(err)
		if r.Octets < 1<<20 {
			d.t.Errorf("only %d octets of process %d were read: this proves nothing", r.Octets, pid)
		}
		hits += len(r.Hits)
	}
	return hits
}

func (d *desk) picture() []byte {
	d.t.Helper()
	f := filepath.Join(d.t.TempDir(), "shot.png")
	d.must(d.Shot(d.ctx, f))
	b, err := os.ReadFile(f)
	d.must(err)
	img, err := png.Decode(bytes.NewReader(b))
	d.must(err)
	if img.Bounds().Dx() != 1280 || img.Bounds().Dy() != 800 {
		d.t.Errorf("picture is %v", img.Bounds())
	}
	return b
}

// A whole visit with both kinds of reader; every screen is drawn and differs from the one before.
func TestVisit(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2445", "AdV-A_2447", "AdV-A_2450", "AdV-A_2503", "AdV-A_2505")
	for _, profile := range []simreader.Profile{simreader.MCT, simreader.CCID} {
		t.Run(string(profile), func(t *testing.T) {
			t.Parallel()
			d := start(t, demo.Config{Profile: profile})
			neutral := d.picture()
			d.upTo("healthy-g21", "pin")
			s, err := d.State(d.ctx)
			d.must(err)
			want := map[simreader.Profile]string{simreader.MCT: "Versicherten-PIN", simreader.CCID: "PIN"}[profile]
			if !strings.Contains(strings.ReplaceAll(s.ReaderDisplay, "\n", ""), want) {
				t.Errorf("the reader shows %q; want a prompt with %q", s.ReaderDisplay, want)
			}
			pin := d.picture()
			d.must(d.PIN(d.ctx, "123456"))
			d.must(d.Screen(d.ctx, "menu"))
			menu := d.picture()
			d.must(d.Touch(d.ctx, "Versichertendaten anzeigen"))
			d.must(d.Screen(d.ctx, "data"))
			data := d.picture()
			for i, a := range [][]byte{neutral, pin, menu, data} {
				for _, b := range [][]byte{neutral, pin, menu, data}[i+1:] {
					if bytes.Equal(a, b) {
						t.Error("two screens have the same picture")
					}
				}
			}
			d.must(d.Touch(d.ctx, "Sitzung beenden"))
			d.must(d.Screen(d.ctx, "take_card"))
			d.must(d.Remove(d.ctx))
			d.must(d.Screen(d.ctx, "neutral"))
			if !bytes.Equal(d.picture(), neutral) {
				t.Error("the neutral screen after the visit is another than before it")
			}
		})
	}
}

// pinBlock is what the reader sends to the card for the digits.
func pinBlock(digits string) []byte {
	b := []byte{0x20 | byte(len(digits))}
	for i := 0; i < 14; i += 2 {
		v := byte(0xFF)
		if i < len(digits) {
			v = digits[i]<<4 | 0x0F
		}
		if i+1 < len(digits) {
			v = v&0xF0 | digits[i+1]&0x0F
		}
		b = append(b, v)
	}
	return b
}

// AdV-A_2504, AdV-A_2562: a PIN typed at the pad is never in the kiosk's memory, neither while the pad waits nor after.
func TestPINIsNeverInTheKiosk(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2499", "AdV-A_2504", "AdV-A_2562")
	const wrong = "73915482"
	d := start(t, demo.Config{Profile: simreader.MCT})
	d.upTo("healthy-g21", "pin")
	patterns := [][]byte{pinBlock(wrong), []byte(wrong)}
	kiosk := d.program("adv-kiosk")
	if len(kiosk) < 2 {
		t.Fatalf("kiosk processes: %v; want supervisor and sessions", kiosk)
	}
	d.must(d.Reader.PressDigits(wrong))
	if n := d.finds(kiosk, patterns...); n != 0 {
		t.Errorf("the PIN that is being typed is %d times in the memory of the kiosk", n)
	}
	d.must(d.Key(d.ctx, "ok"))
	d.must(d.Screen(d.ctx, "pin_wrong"))
	if n := d.finds(kiosk, patterns...); n != 0 {
		t.Errorf("the wrong PIN is %d times in the memory of the kiosk", n)
	}
	// The negative twin: the card's number was read by the kiosk, and the same search finds it there.
	number := d.cardNumber("healthy-g21")
	if n := d.finds(kiosk, []byte(fmt.Sprintf("%X", number)), number); n == 0 {
		t.Error("the search does not even find the card's number: it could not find a PIN")
	}
}

// What the kiosk held of a person is gone with the session's process; the supervisor never had it. The card service, whose
// buffers the card's answers went through, is another one after the visit (AdV-A_2409).
func TestNothingOfThePersonRemains(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2409")
	d := start(t, demo.Config{Profile: simreader.MCT})
	d.upTo("healthy-g21", "pin")
	// What the card said went through the card service's buffers.
	pcscdBefore := d.program("pcscd")
	said := d.cardNumber("healthy-g21")
	if n := d.finds(pcscdBefore, said); n == 0 {
		t.Fatal("the card's number is not in the card service's memory: this test could not fail")
	}
	d.must(d.PIN(d.ctx, "123456"))
	d.must(d.Screen(d.ctx, "menu"))
	d.must(d.Touch(d.ctx, "Versichertendaten anzeigen"))
	d.must(d.Screen(d.ctx, "data"))
	patterns := [][]byte{[]byte("Süßmilch-Große"), []byte("S\xfc\xdfmilch-Gro\xdfe")}
	if n := d.finds(d.program("adv-kiosk"), patterns...); n == 0 {
		t.Fatal("the name on the screen is not in the kiosk's memory: this test could not fail")
	}
	d.must(d.Touch(d.ctx, "Sitzung beenden"))
	d.must(d.Remove(d.ctx))
	d.must(d.Screen(d.ctx, "neutral"))
	d.must(d.waitFor(func() bool {
		return len(d.program("adv-kiosk")) >= 2 && d.finds(d.program("adv-kiosk"), patterns...) == 0
	}))
	d.must(d.waitFor(func() bool {
		now := d.program("pcscd")
		return len(now) == 1 && now[0] != pcscdBefore[0] && d.finds(now, said) == 0
	}))
}

// cardNumber is the number of a card as the card says it.
func (d *desk) cardNumber(persona string) []byte {
	d.t.Helper()
	card, err := d.Card(persona)
	d.must(err)
	gdo := card.Process([]byte{0x00, 0xB0, 0x82, 0x00, 0x00})
	if len(gdo) < 12 {
		d.t.Fatalf("EF.GDO of the card: %X", gdo)
	}
	return gdo[2:12]
}

func (d *desk) waitFor(ok func() bool) error {
	for !ok() {
		select {
		case <-d.ctx.Done():
			return d.ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// pcscd hangs because the reader stops answering in the middle of a transfer: the person is told, pcscd is replaced
// within 10 s, and the next visit works.
func TestHungReader(t *testing.T) {
	t.Parallel()
	d := start(t, demo.Config{Profile: simreader.MCT})
	before := d.program("pcscd")
	if len(before) != 1 {
		t.Fatalf("card services of the kiosk: %v; want one", before)
	}
	d.Reader.HangNext()
	begin := time.Now()
	d.must(d.Insert(d.ctx, "healthy-g21"))
	d.must(d.waitFor(func() bool {
		now := d.program("pcscd")
		return len(now) == 1 && now[0] != before[0]
	}))
	if took := time.Since(begin); took > 10*time.Second+5*time.Second { // own deadline of 5 s, then at most 10 s
		t.Errorf("replaced after %v", took)
	}
	d.must(d.Wait(d.ctx, "the person being told", func(s panel.State) bool { return s.Screen == "problem" || s.Screen == "out_of_order" }))
	d.Reader.Release()
	d.must(d.Remove(d.ctx))
	d.must(d.Screen(d.ctx, "neutral"))
	d.upTo("healthy-g21", "menu")
}

// A frozen pcscd is noticed without a card, too.
func TestFrozenPCSCD(t *testing.T) {
	t.Parallel()
	d := start(t, demo.Config{Profile: simreader.MCT})
	before := d.program("pcscd")
	if len(before) != 1 {
		t.Fatalf("card services of the kiosk: %v; want one", before)
	}
	d.must(syscall.Kill(before[0], syscall.SIGSTOP))
	d.must(d.waitFor(func() bool {
		now := d.program("pcscd")
		return len(now) == 1 && now[0] != before[0]
	}))
	d.must(d.Screen(d.ctx, "neutral"))
	d.upTo("healthy-g21", "menu")
}

// The card service dies before, at the beginning and at the end of a visit: the person is told, a new service runs, the same kiosk serves the next
// visit. On the neutral screen nobody notices.
func TestCardServiceDies(t *testing.T) {
	t.Parallel()
	d := start(t, demo.Config{Profile: simreader.MCT})
	supervisor := d.KioskPID
	for _, phase := range []string{"neutral", "pin", "data"} {
		if phase != "neutral" {
			d.upTo("healthy-g21", phase)
		}
		before := d.program("pcscd")
		if len(before) != 1 {
			t.Fatalf("%s: card services of the kiosk: %v; want one", phase, before)
		}
		d.must(syscall.Kill(before[0], syscall.SIGKILL))
		if phase != "neutral" {
			d.must(d.Wait(d.ctx, "the person being told", func(s panel.State) bool { return s.Screen == "problem" }))
		}
		d.must(d.waitFor(func() bool {
			now := d.program("pcscd")
			return len(now) == 1 && now[0] != before[0]
		}))
		if phase != "neutral" {
			d.must(d.Remove(d.ctx))
		}
		d.must(d.Screen(d.ctx, "neutral"))
	}
	d.upTo("healthy-g21", "menu")
	if pids := d.program("adv-kiosk"); !slices.Contains(pids, supervisor) {
		t.Errorf("the kiosk was started anew: %v without %d", pids, supervisor)
	}
}

func TestReaderUnpluggedAndBack(t *testing.T) {
	t.Parallel()
	d := start(t, demo.Config{Profile: simreader.CCID})
	d.Reader.Unplug()
	d.must(d.Screen(d.ctx, "out_of_order"))
	d.Reader.Plug()
	d.must(d.Screen(d.ctx, "neutral"))
	d.upTo("healthy-g2", "menu")
	d.Reader.Unplug()
	d.must(d.Screen(d.ctx, "problem"))
	d.must(d.Remove(d.ctx))
	d.Reader.Plug()
	d.must(d.Screen(d.ctx, "neutral"))
}

// The server dies in the middle of a session's life: the next start tells so, and the terminal serves on.
func TestServerGone(t *testing.T) {
	t.Parallel()
	d := start(t, demo.Config{Profile: simreader.MCT})
	d.must(syscall.Kill(d.ServerPID, syscall.SIGKILL))
	d.upTo("healthy-g21", "pin")
	d.must(d.PIN(d.ctx, "123456"))
	d.must(d.Screen(d.ctx, "problem"))
	d.must(d.Remove(d.ctx))
	d.must(d.Screen(d.ctx, "neutral"))
}

// A session process that dies in the middle of a visit is replaced, and the card is asked for.
func TestSessionProcessDies(t *testing.T) {
	t.Parallel()
	d := start(t, demo.Config{Profile: simreader.MCT})
	d.upTo("healthy-g21", "menu")
	s, err := d.State(d.ctx)
	d.must(err)
	for _, pid := range d.program("adv-kiosk") {
		if pid != d.KioskPID {
			d.must(syscall.Kill(pid, syscall.SIGKILL))
		}
	}
	d.must(d.Screen(d.ctx, "take_card"))
	after, err := d.State(d.ctx)
	d.must(err)
	if after.Session == s.Session && s.Session != "" {
		t.Error("the session of the dead process goes on")
	}
	d.must(d.Remove(d.ctx))
	d.must(d.Screen(d.ctx, "neutral"))
}

// A card pulled in the middle of an operation and put in again while the screen explains begins a new visit.
func TestCardPutInAgain(t *testing.T) {
	t.Parallel()
	d := start(t, demo.Config{Profile: simreader.MCT})
	d.upTo("healthy-g21", "pin")
	d.must(d.Remove(d.ctx))
	d.must(d.Screen(d.ctx, "problem"))
	d.upTo("healthy-g21", "menu")
}

// A production build refuses a configuration with a door, and -check says what is wrong.
func TestProductionKioskHasNoDoor(t *testing.T) {
	t.Parallel()
	if err := pcscd.Available(); err != nil {
		t.Skip(err)
	}
	d := start(t, demo.Config{Profile: simreader.MCT})
	exe := filepath.Join(t.TempDir(), "adv-kiosk")
	build := exec.Command("go", "build", "-tags", "pcsc", "-o", exe, "./kiosk/cmd/adv-kiosk")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(exe, "-config", filepath.Join(d.Dir, "kiosk.json"), "-check").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "door") {
		t.Errorf("a production build takes a configuration with a door: %v, %s", err, out)
	}
	b, err := os.ReadFile(exe)
	d.must(err)
	if bytes.Contains(b, []byte("/screen.png")) || bytes.Contains(b, []byte("kiosk/demodoor")) {
		t.Error("the production build holds parts of the door")
	}
	// The negative twin: the demo build does.
	b, err = os.ReadFile(filepath.Join(bin, "adv-kiosk"))
	d.must(err)
	if !bytes.Contains(b, []byte("kiosk/demodoor")) {
		t.Error("the demo build holds no door: this check could not fail")
	}
}
