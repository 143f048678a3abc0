//go:build vm

package vm

import (
	"bytes"
	"context"
	"testing"
	"time"

	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/req"
	"ktradv/kiosk/session"
	"ktradv/kiosk/view"
	"ktradv/qemu/ccid"
	"ktradv/qemu/machine"
	"ktradv/tests/demo/appliance"
)

func neutral(codes ...string) view.View { return view.View{Screen: view.Neutral, Service: codes} }

func outOfOrder(code string, codes ...string) view.View {
	v := session.OutOfOrder(code)
	v.Service = codes
	return v
}

// TestReaders plugs readers in and out: none at boot, one, two, one that no list has, one that goes in the middle of a
// session; and what has no business at a terminal: a keyboard and a stick.
func TestReaders(t *testing.T) {
	req.Covers(t, "AdV-A_2405")
	one, two, stranger := simreader.New(simreader.Config{}), simreader.New(simreader.Config{}), simreader.New(simreader.Config{})
	for _, r := range []*simreader.Reader{one, two, stranger} {
		r.Unplug()
	}
	stick := copyFile(t, world.Image.Cmdline) // any file
	r := boot(t, appliance.Options{
		Readers: []ccid.Config{{Reader: one}, {Reader: two}, {Reader: stranger, Vendor: 0x1209, Product: 0x0ADE, Name: "Stranger"}},
		Change: func(c *machine.Config) {
			c.Args = append(c.Args, "-drive", "if=none,format=raw,readonly=on,id=stick,file="+stick)
		},
	})
	r.showsView("no reader", outOfOrder("READER-GONE"))
	plug := func(x *simreader.Reader, what string) { x.Plug(); r.note("plugged in: %s", what) }
	unplug := func(x *simreader.Reader, what string) { x.Unplug(); r.note("unplugged: %s", what) }
	plug(one, "a reader")
	r.showsView("a reader after boot", neutral())
	plug(two, "a second reader")
	r.showsView("two readers", outOfOrder("READER-SEVERAL"))
	unplug(two, "the second reader")
	r.showsView("one reader left", neutral())
	unplug(one, "the reader")
	r.showsView("no reader again", outOfOrder("READER-GONE"))
	plug(stranger, "a reader that no list has")
	r.showsView("unsupported reader", outOfOrder("READER-UNSUPPORTED"))
	unplug(stranger, "that reader")
	plug(one, "the reader")
	r.showsView("the reader again", neutral())

	// A reader that goes in the middle of a session ends it, and comes back.
	r.touchable()
	r.visit("data")
	data := r.shows("data")
	unplug(one, "the reader, in the middle of a session")
	r.see("data gone", patience, func(img *imageRGBA) bool { return !bytes.Equal(img.Pix, data.Pix) })
	one.Remove()
	r.showsView("out of order", outOfOrder("READER-GONE"))
	plug(one, "the reader")
	r.showsView("in order", neutral())

	// A keyboard and a stick are not let in: keys change nothing, and the log names both.
	calm := r.shows("neutral")
	r.must(r.Plug(r.ctx, "usb-kbd,bus=xhci.0,id=kbd"))
	r.must(r.Plug(r.ctx, "usb-storage,bus=xhci.0,id=stickdev,drive=stick"))
	r.note("plugged in: a keyboard and a stick")
	for _, k := range [][]string{{"ctrl", "alt", "delete"}, {"alt", "f2"}, {"alt", "sysrq", "b"}, {"ret"}} {
		var keys []map[string]string
		for _, q := range k {
			keys = append(keys, map[string]string{"type": "qcode", "data": q})
		}
		_, err := r.Execute(r.ctx, "send-key", map[string]any{"keys": keys, "hold-time": 30})
		r.must(err)
	}
	r.visit("end")
	if img := r.shows("neutral"); !bytes.Equal(img.Pix, calm.Pix) {
		t.Error("the screen has changed")
	}
	n := r.off()
	refused := 0
	for _, e := range n.entries {
		if e["code"] == "USB-REFUSED" || e["name"] == "usb.refused" {
			refused++
		}
	}
	if refused < 3 {
		t.Errorf("%d refused devices in the logs (codes %v), want the stranger, the keyboard and the stick", refused, n.codes())
	}
}

// TestFrozen is a reader that stops answering in the middle of a transfer: the card service behind it is replaced, the
// person is told within ten seconds, and a new plug brings everything back.
func TestFrozen(t *testing.T) {
	r := boot(t, appliance.Options{})
	r.shows("neutral")
	r.touchable()
	r.visit("menu")
	r.Ports[0].StopAfter(300)
	r.note("the reader is to stop in the middle of a transfer")
	r.tap("menu", showData)
	asked := time.Now()
	r.see("the person is told", patience, told(r, "reading", "menu", "data", "connecting"))
	if d := time.Since(asked); d > 10*time.Second {
		t.Errorf("the person was told after %v", d)
	}
	r.Reader().Remove()
	r.Reader().Unplug()
	r.Reader().Plug()
	r.note("card out, reader plugged in anew")
	r.shows("neutral")
	r.visit("end")

	// One exchange that never ends, while the card is read; afterwards the reader is as good as before.
	r.Reader().HangNext()
	r.insert(healthy)
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	r.must(r.Reader().Wait(ctx, func(s simreader.State) bool { return s.Hung }))
	asked = time.Now()
	r.note("an exchange hangs")
	r.see("the person is told", patience, told(r, "reading", "neutral"))
	if d := time.Since(asked); d > 10*time.Second {
		t.Errorf("the person was told after %v", d)
	}
	r.remove()
	r.shows("neutral")
	r.visit("end")
	n := r.off()
	if !n.has(map[string]string{"component": "adv-init", "name": "service.pcscd"}) {
		t.Errorf("the replaced card service is not in the logs; codes %v", n.codes())
	}
}

// told is a screen with none of these titles.
func told(r *run, not ...string) func(*imageRGBA) bool {
	return func(img *imageRGBA) bool {
		for _, n := range not {
			l, err := sample(n)
			r.must(err)
			if ok, _ := l.in(img, false); ok {
				return false
			}
		}
		return true
	}
}
