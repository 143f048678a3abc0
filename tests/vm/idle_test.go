//go:build vm

package vm

import (
	"image"
	"testing"
	"time"

	"ktradv/internal/req"
	"ktradv/tests/demo/appliance"
)

// TestIdle is a person who walks away from the page of data: the countdown, and the end of the session, on a terminal whose
// configuration makes the five minutes short. The twin comes first: whoever touches the countdown goes on.
func TestIdle(t *testing.T) {
	req.Covers(t, "AdV-A_2410")
	const warn, end = 12 * time.Second, 20 * time.Second
	short, err := world.Build(t.Context(), "idle", func(_ map[string][]byte, c map[string]any) {
		c["idle"] = map[string]any{"warn_seconds": int(warn.Seconds()), "end_seconds": int(end.Seconds())}
	})
	if err != nil {
		t.Fatal(err)
	}
	r := boot(t, appliance.Options{Image: &short})
	r.shows("neutral")
	r.touchable()
	r.visit("data")
	page, err := sample("data")
	r.must(err)
	covered := func(img *image.RGBA) bool { ok, _ := page.in(img, false); return !ok }
	r.see("countdown", patience, covered)
	r.must(r.Tap(640, 20))
	touched := time.Now()
	r.note("touched")
	r.shows("data")
	r.see("countdown again", patience, covered)
	if d := time.Since(touched); d < warn-time.Second {
		t.Errorf("counts down after %v; want %v without a touch", d, warn)
	}
	r.problem("IDLE-TIMEOUT")
	if d := time.Since(touched); d < end-time.Second {
		t.Errorf("ended after %v; want %v without a touch", d, end)
	}
	r.remove()
	r.shows("neutral")
	n := r.off()
	for _, want := range []map[string]string{
		{"component": "adv-app", "log": "error", "text": "IDLE-TIMEOUT"}, {"component": "adv-app", "log": "flow", "name": "session.end"},
	} {
		if !n.has(want) {
			t.Errorf("no log entry %v", want)
		}
	}
}
