//go:build vm

package vm

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	simreader "ktradv/hw/sim/reader"
	"ktradv/image/init/usb"
	"ktradv/internal/req"
	"ktradv/kiosk/session"
	"ktradv/kiosk/view"
	"ktradv/qemu/ccid"
	"ktradv/tests/demo/appliance"
)

func neutral(codes ...string) view.View { return view.View{Screen: view.Neutral, Service: codes} }

func outOfOrder(code string, codes ...string) view.View {
	v := session.OutOfOrder(code)
	v.Service = codes
	return v
}

// TestReaders plugs readers in and out: none at boot, one, two, one that no list has, one that goes in the middle of a
// session. (What has no business at a terminal at all: TestStrangers.)
func TestReaders(t *testing.T) {
	req.Covers(t, "AdV-A_2405")
	one, two, stranger := simreader.New(simreader.Config{}), simreader.New(simreader.Config{}), simreader.New(simreader.Config{})
	for _, r := range []*simreader.Reader{one, two, stranger} {
		r.Unplug()
	}
	r := boot(t, appliance.Options{
		Readers: []ccid.Config{{Reader: one}, {Reader: two}, {Reader: stranger, Vendor: 0x1209, Product: 0x0ADE, Name: "Stranger"}},
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

	n := r.off()
	if !slices.ContainsFunc(n.entries, func(e map[string]any) bool {
		v, _ := e["values"].(map[string]any)
		return e["log"] == "security" && e["name"] == "usb.refused" && v["vendor"] == float64(0x1209) && v["product"] == float64(0x0ADE) && v["reason"] == float64(usb.ReasonReader)
	}) {
		t.Errorf("the refused reader is not in the security log; codes %v", n.codes())
	}
	r.logged(n, began("READER-UNSUPPORTED"), ended("READER-UNSUPPORTED"), began("READER-SEVERAL"), ended("READER-SEVERAL"))
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
	r.remove()
	r.Reader().Unplug()
	r.note("reader unplugged")
	r.showsView("no reader", outOfOrder("READER-GONE"))
	r.Reader().Plug()
	r.note("reader plugged in anew")
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
	r.off()
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
