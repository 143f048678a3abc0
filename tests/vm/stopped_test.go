//go:build vm

package vm

import (
	"bytes"
	"context"
	"debug/elf"
	"debug/gosym"
	"slices"
	"testing"
	"time"

	"ktradv/internal/req"
	"ktradv/qemu/machine"
	"ktradv/tests/demo/appliance"
)

// show is the function of the kiosk that brings a picture onto the display.
const show = "ktradv/kiosk/platform/drm.(*Display).Show"

// addresses finds functions of the kiosk in the image, and an endless loop of one instruction: the runtime's own, where a
// program that cannot go on stays.
func addresses(t *testing.T, functions ...string) (entries map[string]uint64, loop uint64) {
	t.Helper()
	_, program := fileOf(t, world.Image, func(name string) bool { return name == "usr/bin/adv-kiosk" })
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_EXEC {
		t.Fatalf("the kiosk is of type %v: its functions have no fixed address", f.Type)
	}
	text := f.Section(".text")
	code, err := text.Data()
	if err != nil {
		t.Fatal(err)
	}
	lines, err := f.Section(".gopclntab").Data()
	if err != nil {
		t.Fatal(err)
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(lines, 0)) // addresses from the beginning of the Go code
	if err != nil {
		t.Fatal(err)
	}
	// Where the Go code begins behind that of the C library, no header says. runtime.abort is a breakpoint and an endless
	// loop, which stand nowhere else.
	abort := table.LookupFunc("runtime.abort")
	abortCode := []byte{0xCC, 0xCD, 0x03, 0xEB, 0xFE} // padding before it, int 3, jmp to itself
	i := bytes.Index(code, abortCode)
	if abort == nil || i < 0 || bytes.Contains(code[i+1:], abortCode) {
		t.Fatalf("runtime.abort: %v at %d", abort, i)
	}
	entries = map[string]uint64{}
	for _, name := range functions {
		fn := table.LookupFunc(name)
		if fn == nil {
			t.Fatalf("the kiosk has no function %s", name)
		}
		entries[name] = fn.Entry + text.Addr + uint64(i) + 1 - abort.Entry
	}
	// The loop to stay in is another one, behind the system call that ends a thread: who is interrupted in abort dies of it.
	endless := bytes.Index(code, []byte{0x0F, 0x05, 0xCD, 0x03, 0xEB, 0xFE})
	if endless < 0 {
		t.Fatal("no endless loop in the kiosk")
	}
	return entries, text.Addr + uint64(endless) + 4
}

// stopsAt does something, and waits until the kiosk comes to one of its functions because of it. The guest stands still then,
// before the function's first instruction; it goes on when the stub is closed or told to continue.
func (r *run) stopsAt(entry uint64, act func()) *machine.Stub {
	r.t.Helper()
	stub, err := r.Debug(r.ctx)
	r.must(err)
	r.at(stub, entry, act)
	return stub
}

// at is stopsAt for a guest that stands already.
func (r *run) at(stub *machine.Stub, entry uint64, act func()) {
	r.t.Helper()
	r.must(stub.Break(entry, true))
	hit := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(r.ctx, patience)
		defer cancel()
		hit <- stub.Continue(ctx)
	}()
	act()
	r.must(<-hit)
	if rip, err := stub.Register("rip"); err != nil || rip != entry {
		r.t.Fatalf("the processor stands at %#x (%v), want %#x", rip, err, entry)
	}
	r.must(stub.Break(entry, false))
}

// TestStopped stops the kiosk from outside, in the middle of drawing and while a person's data are on the screen: the
// debug stub sends the thread that draws into an endless loop. The watchdog replaces the kiosk, which had no time to forget
// anything: the data are gone all the same, from the screen and from the memory, and the terminal serves again.
func TestStopped(t *testing.T) {
	req.Covers(t, "AdV-A_2450", "AdV-A_2409")
	functions, loop := addresses(t, show)
	entry := functions[show]
	r := boot(t, appliance.Options{Change: small})
	empty := r.shows("neutral")
	r.touchable()
	p, c := canary(t)
	what := secrets(t, p, c)
	r.put(c, "the canary")
	r.follow("data")
	data := r.shows("data")
	pix := pixels(t, data, empty)

	l, err := sample("data")
	r.must(err)
	button, err := l.button(end)
	r.must(err)
	stub := r.stopsAt(entry, func() { r.must(r.Tap(button.X, button.Y)) })
	r.must(stub.SetRegister("rip", loop))
	r.must(stub.Close())
	stopped := time.Now()
	r.note("the thread that draws is in an endless loop")
	if img := r.see("the screen stands still", patience, func(*imageRGBA) bool { return true }); !bytes.Equal(img.Pix, data.Pix) {
		t.Error("the screen goes on")
	}
	during := r.dump("while the kiosk hangs", append(slices.Clone(what), pix...))
	for _, form := range live {
		if during[form] == "" {
			t.Errorf("%s: not found while the kiosk hangs, so that not finding it afterwards would prove nothing", form)
		}
	}
	if !found(pix, during) || r.video(pix) == 0 {
		t.Error("the pixels on the screen are not found while the kiosk hangs")
	}
	r.see("the data are gone", patience, func(img *imageRGBA) bool { ok, _ := l.in(img, false); return !ok })
	if d := time.Since(stopped); d < 3*time.Second {
		t.Errorf("the kiosk was replaced after %v: something else than a watchdog did that", d)
	}
	r.note("after %.1f s", time.Since(stopped).Seconds())
	r.remove()
	r.shows("neutral")
	r.forgotten("the kiosk was replaced", what, pix)
	r.visit("end")
	n := r.off()
	replaced := false
	for _, e := range n.entries {
		if e["component"] == "adv-init" && e["name"] == "service.kiosk" {
			v, _ := e["values"].(map[string]any)
			t.Logf("kiosk replaced: %v", v)
			replaced = replaced || v["cause"] == "watchdog"
		}
	}
	if !replaced {
		t.Errorf("that the watchdog replaced the kiosk is not in the log of the first process; codes %v", n.codes())
	}
}
