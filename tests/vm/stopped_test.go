//go:build vm

package vm

import (
	"bytes"
	"context"
	"debug/elf"
	"debug/gosym"
	"testing"
	"time"

	"ktradv/internal/req"
	"ktradv/tests/demo/appliance"
)

// show is the function of the kiosk that brings a picture onto the display.
const show = "ktradv/kiosk/platform/drm.(*Display).Show"

// addresses finds a function of the kiosk in the image, and an endless loop of one instruction: the runtime's own, where a
// program that cannot go on stays.
func addresses(t *testing.T, function string) (entry, loop uint64) {
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
	fn, abort := table.LookupFunc(function), table.LookupFunc("runtime.abort")
	abortCode := []byte{0xCC, 0xCD, 0x03, 0xEB, 0xFE} // padding before it, int 3, jmp to itself
	i := bytes.Index(code, abortCode)
	if fn == nil || abort == nil || i < 0 || bytes.Contains(code[i+1:], abortCode) {
		t.Fatalf("function %s: %v; runtime.abort: %v at %d", function, fn, abort, i)
	}
	// The loop to stay in is another one, behind the system call that ends a thread: who is interrupted in abort dies of it.
	endless := bytes.Index(code, []byte{0x0F, 0x05, 0xCD, 0x03, 0xEB, 0xFE})
	if endless < 0 {
		t.Fatal("no endless loop in the kiosk")
	}
	return fn.Entry + text.Addr + uint64(i) + 1 - abort.Entry, text.Addr + uint64(endless) + 4
}

// TestStopped stops the kiosk from outside, in the middle of drawing and while a person's data are on the screen: the
// debug stub sends the thread that draws into an endless loop. The watchdog replaces the kiosk, the data are gone, and the
// terminal serves again.
func TestStopped(t *testing.T) {
	req.Covers(t, "AdV-A_2450")
	entry, loop := addresses(t, show)
	r := boot(t, appliance.Options{})
	r.shows("neutral")
	r.touchable()
	r.visit("data")
	data := r.shows("data")

	stub, err := r.Debug(r.ctx)
	r.must(err)
	r.must(stub.Break(entry, true))
	hit := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(r.ctx, patience)
		defer cancel()
		hit <- stub.Continue(ctx)
	}()
	l, err := sample("data")
	r.must(err)
	p, err := l.button(end)
	r.must(err)
	r.must(r.Tap(p.X, p.Y))
	r.must(<-hit)
	if rip, err := stub.Register("rip"); err != nil || rip != entry {
		t.Fatalf("the processor stands at %#x (%v), want %#x", rip, err, entry)
	}
	r.must(stub.SetRegister("rip", loop))
	r.must(stub.Break(entry, false))
	r.must(stub.Close())
	stopped := time.Now()
	r.note("the thread that draws is in an endless loop")
	if img := r.see("the screen stands still", patience, func(*imageRGBA) bool { return true }); !bytes.Equal(img.Pix, data.Pix) {
		t.Error("the screen goes on")
	}
	r.see("the data are gone", patience, func(img *imageRGBA) bool { ok, _ := l.in(img, false); return !ok })
	if d := time.Since(stopped); d < 3*time.Second {
		t.Errorf("the kiosk was replaced after %v: something else than a watchdog did that", d)
	}
	r.note("after %.1f s", time.Since(stopped).Seconds())
	r.remove()
	r.shows("neutral")
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
