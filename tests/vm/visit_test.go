//go:build vm

package vm

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/req"
	"ktradv/tests/demo/appliance"
)

// TestVisit is a day of the terminal, from power on to power off: a visit, a card that is pulled out on the page of data and
// one while it is read, a visit that is ended while the terminal writes to the card, a wrong PIN, a PIN that is unblocked at
// the pad. Afterwards the logs are on the data partition.
func TestVisit(t *testing.T) {
	req.Covers(t, "AdV-A_2405", "AdV-A_2423", "AdV-A_2429", "AdV-A_2431", "AdV-A_2441", "AdV-A_2443", "AdV-A_2448", "AdV-A_2449", "AdV-A_2450")
	r := boot(t, appliance.Options{})
	neutral := r.shows("neutral")
	r.touchable()
	r.visit("end")
	if after := r.shows("neutral"); !bytes.Equal(after.Pix, neutral.Pix) {
		t.Error("the neutral screen after the visit is another than before it")
	}

	r.visit("data")
	r.connected(true)
	r.remove()
	pulled := time.Now()
	if after := r.shows("neutral"); !bytes.Equal(after.Pix, neutral.Pix) {
		t.Error("the neutral screen after the card was pulled out is another than before")
	}
	if d := time.Since(pulled); d > atOnce {
		t.Errorf("the session ended %v after the card was pulled out", d)
	}
	r.connected(false)
	r.pulledWhileReading()
	r.endedWhileWriting()

	r.insert(healthy)
	r.pin("654321")
	r.shows("pin_wrong")
	r.tap("pin_wrong", "PIN noch einmal eingeben")
	r.pin(pin)
	r.shows("menu")
	r.tap("menu", end)
	r.shows("take_card")
	r.remove()
	r.shows("neutral")

	r.insert("pin-blocked")
	r.shows("pin_blocked")
	r.tap("pin_blocked", "Ja, ich habe die PUK")
	for what, digits := range map[string]string{"old": "12345678"} {
		r.pad(what)
		r.must(r.Reader().PressDigits(digits))
		r.must(r.Reader().PressKey(simreader.KeyOK))
	}
	for range 2 {
		r.must(r.Reader().Wait(r.ctx, func(s simreader.State) bool { return s.Awaiting == "new" || s.Awaiting == "repeat" }))
		r.must(r.Reader().PressDigits(pin))
		r.must(r.Reader().PressKey(simreader.KeyOK))
	}
	r.note("PIN unblocked at the pad")
	r.pad("pin")
	r.remove()
	r.shows("neutral")

	n := r.off()
	for _, want := range []map[string]string{
		{"log": "flow", "name": "card.log", "result": "ok"}, {"log": "error", "component": "adv-app", "text": "CARD-REMOVED"},
		{"log": "flow", "name": "card.read", "result": "ok"}, {"log": "flow", "name": "pin.verify", "result": "ok"},
		{"log": "flow", "name": "vsd.show", "result": "ok"}, {"log": "flow", "name": "session.end", "result": "ok"},
		{"log": "performance", "name": "vsd.show"}, {"log": "performance", "name": "boot.kiosk"}, {"log": "error", "component": "adv-app"},
	} {
		if !n.has(want) {
			t.Errorf("no log entry %v", want)
		}
	}
	// One operation has one identifier in all logs.
	ops := map[string][]string{}
	for _, e := range n.entries {
		if op, ok := e["op"].(string); ok {
			ops[op] = append(ops[op], fmt.Sprint(e["log"]))
		}
	}
	both := 0
	for _, logs := range ops {
		if slices.Contains(logs, "flow") && slices.Contains(logs, "performance") {
			both++
		}
	}
	if both < 4 {
		t.Errorf("%d operations are in both flow and performance log", both)
	}
	// Only the owner may read them.
	for name, fi := range n.files {
		if strings.Contains(name, "/") && !fi.IsDir() && fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s may be read by others: %v", name, fi.Mode())
		}
	}
	for _, what := range []string{"Süßmilch", "S\xfc\xdfmilch", "X000001014", "26123456"} {
		if bytes.Contains(n.raw, []byte(what)) {
			t.Errorf("the logs hold %q", what)
		}
	}
	for _, f := range []string{"log/init", "log/kiosk"} {
		if fi, ok := n.files[f]; !ok || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v", f, fi)
		}
	}
}

// TestPowerCut boots by UEFI firmware, pulls the mains plug in the middle of a session, and boots again with the card still in:
// it belongs to the visit before, begins no other, and its holder is asked to take it.
func TestPowerCut(t *testing.T) {
	req.Covers(t, "AdV-A_2407", "AdV-A_2450")
	disk := copyFile(t, world.Image.Disk)
	r := boot(t, appliance.Options{UKI: true, Disk: disk})
	r.shows("neutral")
	r.touchable()
	r.visit("data")
	r.Close()
	r.note("mains plug pulled")
	// What lies on the disk now says nothing about the person.
	raw, err := os.ReadFile(disk)
	r.must(err)
	for _, what := range []string{"Süßmilch", "S\xfc\xdfmilch", "X000001014", "S\x00\xfc\x00\xdf\x00m\x00"} {
		if bytes.Contains(raw, []byte(what)) {
			t.Errorf("the disk holds %q", what)
		}
	}
	r.on(appliance.Options{UKI: true, Disk: disk})
	c, err := world.Card(healthy)
	r.must(err)
	r.Reader().Insert(c)
	r.note("the card is still in")
	r.shows("take_card")
	r.remove()
	r.shows("neutral")
	r.touchable()
	r.visit("end")
	n := r.off()
	if !n.has(map[string]string{"log": "flow", "name": "session.end", "result": "ok"}) {
		t.Error("the visit after the power cut is not in the log")
	}
}
