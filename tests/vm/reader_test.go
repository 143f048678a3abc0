//go:build vm

package vm

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
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
	req.Covers(t, "AdV-A_2405", "AdV-A_2409")
	one, two, stranger := simreader.New(simreader.Config{}), simreader.New(simreader.Config{}), simreader.New(simreader.Config{})
	for _, r := range []*simreader.Reader{one, two, stranger} {
		r.Unplug()
	}
	r := boot(t, appliance.Options{
		Readers: []ccid.Config{{Reader: one}, {Reader: two}, {Reader: stranger, Vendor: 0x1209, Product: 0x0ADE, Name: "Stranger"}},
		Change:  small,
	})
	r.showsView("no reader", outOfOrder("READER-GONE"))
	plug := func(x *simreader.Reader, what string) { x.Plug(); r.note("plugged in: %s", what) }
	unplug := func(x *simreader.Reader, what string) { x.Unplug(); r.note("unplugged: %s", what) }
	plug(one, "a reader")
	r.showsView("a reader after boot", neutral())
	r.attentive()
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
	p, c := canary(t)
	what := secrets(t, p, c)
	empty := r.shows("neutral")
	r.put(c, "the canary")
	r.follow("data")
	data := r.shows("data")
	pix := pixels(t, data, empty)
	unplug(one, "the reader, in the middle of a session")
	r.see("data gone", patience, func(img *imageRGBA) bool { return !bytes.Equal(img.Pix, data.Pix) })
	one.Remove()
	r.showsView("out of order", outOfOrder("READER-GONE"))
	plug(one, "the reader")
	r.showsView("in order", neutral())
	r.forgotten("the reader went", what, pix)

	n := r.off()
	if !slices.ContainsFunc(n.entries, func(e map[string]any) bool {
		v, _ := e["values"].(map[string]any)
		return e["log"] == "security" && e["name"] == "usb.refused" && v["vendor"] == float64(0x1209) && v["product"] == float64(0x0ADE) && v["reason"] == float64(usb.ReasonReader)
	}) {
		t.Errorf("the refused reader is not in the security log; codes %v", n.codes())
	}
	r.logged(n, began("READER-UNSUPPORTED"), ended("READER-UNSUPPORTED"), began("READER-SEVERAL"), ended("READER-SEVERAL"))
}

// TestFrozen is a reader that stops: one that asks for more time for ever, so that the card service behind it hangs; one that
// dies in the middle of a transfer; one that leaves a single exchange unanswered. The person is told what is wrong, the card
// service is replaced, everything is as good as before, and nothing of the person stays.
func TestFrozen(t *testing.T) {
	req.Covers(t, "AdV-A_2409")
	r := boot(t, appliance.Options{Change: small})
	r.shows("neutral")
	r.touchable()
	p, c := canary(t)
	what := secrets(t, p, c)

	r.put(c, "the canary")
	r.follow("data")
	during := r.dump("with the page of data", what)
	for _, form := range live {
		if during[form] == "" {
			t.Errorf("%s: not found during the session, so that not finding it afterwards would prove nothing", form)
		}
	}
	r.tap("data", "Zurück")
	r.shows("menu")
	r.Reader().SetFailures(simreader.Failures{Delay: time.Hour})
	r.note("the reader is to ask for more time, for ever")
	r.tap("menu", showData)
	r.problem("READER-HUNG")
	r.Reader().SetFailures(simreader.Failures{})
	r.remove()
	r.shows("neutral")
	r.forgotten("the card service hung", what, nil)

	r.put(c, "the canary")
	r.follow("menu")
	r.Ports[0].StopAfter(300)
	r.note("the reader is to die in the middle of a transfer")
	r.tap("menu", showData)
	r.problem("READER-HUNG")
	r.remove()
	r.Reader().Unplug()
	r.note("reader unplugged")
	r.showsView("no reader", outOfOrder("READER-GONE"))
	r.Reader().Plug()
	r.note("reader plugged in anew")
	r.shows("neutral")
	r.forgotten("the reader died", what, nil)

	r.Reader().HangNext()
	r.insert(healthy)
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	r.must(r.Reader().Wait(ctx, func(s simreader.State) bool { return s.Hung }))
	r.note("an exchange hangs")
	r.problem("CARD-READ-ERROR")
	r.remove()
	r.shows("neutral")
	r.visit("end")
	n := r.off()

	// After every visit the card service is replaced; in one in which the reader hung it is replaced before that, too.
	visits := n.visits()
	for _, v := range visits {
		t.Logf("visit: %+v", v)
	}
	if len(visits) != 4 {
		t.Fatalf("%d visits in the logs", len(visits))
	}
	for i, hung := range []bool{true, true, false, false} {
		v, want := visits[i], 1
		if hung {
			want = 2
		}
		if v.hung != hung {
			t.Errorf("visit %d: it is in the log that the reader hung: %v", i+1, v.hung)
		}
		if v.asked < want || len(v.replaced) < want {
			t.Errorf("visit %d: the card service was to be replaced %d times; the first process did so %d times, the supervisor waited for %d", i+1, want, v.asked, len(v.replaced))
		}
		for _, ms := range v.replaced {
			if ms >= 10_000 { // by the terminal's own clock, which stands while a test looks into the memory
				t.Errorf("visit %d: to replace the card service took %.0f ms", i+1, ms)
			}
		}
	}
}

// visited is what the logs tell of the reader and its service from the begin of one visit to that of the next.
type visited struct {
	hung     bool      // the person was told that the reader hangs
	asked    int       // the first process replaced the card service because it was asked to
	replaced []float64 // how long the supervisor waited for that, in milliseconds
}

// visits reads the logs of all visits in the order of the terminal's clock.
func (n noted) visits() (out []visited) {
	at := func(e map[string]any) string {
		if s, ok := e["start"].(string); ok {
			return s
		}
		return fmt.Sprint(e["ts"])
	}
	entries := slices.Clone(n.entries)
	slices.SortStableFunc(entries, func(a, b map[string]any) int { return strings.Compare(at(a), at(b)) })
	for _, e := range entries {
		values, _ := e["values"].(map[string]any)
		is := func(component, log, name string) bool {
			return e["component"] == component && e["log"] == log && e["name"] == name
		}
		if is("adv-app", "flow", "card.read") {
			out = append(out, visited{})
		}
		if len(out) == 0 {
			continue
		}
		v := &out[len(out)-1]
		switch {
		case e["component"] == "adv-app" && e["log"] == "error" && e["text"] == "READER-HUNG":
			v.hung = true
		case is("adv-init", "flow", "service.pcscd") && values["cause"] == "asked":
			v.asked++
		case is("adv-supervisor", "flow", "cards.replace") && e["result"] == "ok":
			ms, _ := e["duration_ms"].(float64)
			v.replaced = append(v.replaced, ms)
		}
	}
	return out
}
