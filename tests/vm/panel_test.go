//go:build vm

package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"strings"
	"testing"

	"ktradv/internal/req"
	"ktradv/tests/demo"
	"ktradv/tests/demo/appliance"
	"ktradv/tests/demo/panel"
)

// byPanel is a program in front of the control panel: all that it sees and does goes through the HTTP interface.
type byPanel struct {
	*run
	demo.Client
}

// ask sends a request and returns status and body.
func (p byPanel) ask(method, path, body string) (int, []byte, error) {
	q, err := http.NewRequestWithContext(p.ctx, method, p.URL+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// picture is the terminal's screen.
func (p byPanel) picture(context.Context) (*image.RGBA, error) {
	code, body, err := p.ask("GET", "/api/screen.png", "")
	if err != nil {
		return nil, err
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("screen.png: %d %s", code, body)
	}
	img, err := png.Decode(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	rgba, ok := img.(*image.RGBA)
	if !ok {
		return nil, errors.New("screen.png: not a picture of true colours")
	}
	return rgba, nil
}

// wants sends a request and checks the answer.
func (p byPanel) wants(status int, says, method, path, body string) {
	p.t.Helper()
	got, text, err := p.ask(method, path, body)
	p.must(err)
	if got != status || !strings.Contains(string(text), says) {
		p.t.Errorf("%s %s %s: %d %s; want %d %s", method, path, body, got, text, status, says)
	}
}

// touch touches the button of a screen by its coordinates.
func (p byPanel) touch(screen, label string) {
	p.t.Helper()
	l, err := sample(screen)
	p.must(err)
	at, err := l.button(label)
	p.must(err)
	p.wants(http.StatusOK, "{}", "POST", "/api/touch", fmt.Sprintf(`{"x":%d,"y":%d}`, at.X, at.Y))
	p.note("touch by coordinates: %s", label)
}

// awaits waits until the pad asks for something, and gives the state then.
func (p byPanel) awaits(what string) (s panel.State) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	p.must(p.Wait(ctx, "the pad", func(now panel.State) bool { s = now; return now.PadAwaiting == what }))
	return s
}

// TestPanel plays a first visit by nothing but the control panel's HTTP interface, as a program outside does. What only a
// kiosk with an entrance for programs could answer is answered with 501 and the reason.
func TestPanel(t *testing.T) {
	req.Covers(t, "AdV-A_2405")
	r := boot(t, appliance.Options{})
	r.must(world.ServePanel(r.Terminal))
	p := byPanel{r, demo.Client{URL: world.PanelURL}}
	r.eyes = p.picture
	r.shows("neutral")
	r.touchable()
	r.attentive()

	const why = "production build"
	for _, q := range [][3]string{
		{"GET", "/api/semantics", ""}, {"GET", "/api/screen", ""}, {"POST", "/api/touch", `{"label":"` + showData + `"}`},
	} {
		p.wants(http.StatusNotImplemented, why, q[0], q[1], q[2])
	}
	for _, at := range []string{
		fmt.Sprintf(`{"x":%d,"y":10}`, appliance.Width), fmt.Sprintf(`{"x":10,"y":%d}`, appliance.Height), `{"x":-1,"y":10}`, `{"x":10,"y":-1}`,
	} {
		p.wants(http.StatusBadRequest, "1280 by 800 pixels", "POST", "/api/touch", at)
	}
	before, err := p.State(r.ctx)
	r.must(err)
	if before.CardPresent || before.Persona != "" || !before.Plugged || before.PadAwaiting != "" {
		t.Errorf("state before the visit: %+v", before)
	}

	r.must(p.Insert(r.ctx, healthy))
	r.note("card in: %s", healthy)
	s := p.awaits("pin")
	if !s.CardPresent || s.Persona != healthy || !strings.Contains(s.ReaderDisplay, "PIN") || s.PadDigits != 0 {
		t.Errorf("state while the pad waits: %+v", s)
	}
	if s.Screen != "" || s.Session != "" || string(s.LastOperation) != "{}" || s.Frame != 0 {
		t.Errorf("the state tells of a kiosk that has no entrance: %+v", s)
	}
	r.shows("pin")
	p.wants(http.StatusOK, "{}", "POST", "/api/pad", `{"digits":"`+pin+`"}`)
	if s, err = p.State(r.ctx); err != nil || s.PadDigits != len(pin) {
		t.Errorf("%d digits typed (%v); want %d", s.PadDigits, err, len(pin))
	}
	p.wants(http.StatusOK, "{}", "POST", "/api/pad", `{"key":"ok"}`)
	r.note("PIN typed at the pad")
	r.shows("menu")
	p.touch("menu", showData)
	r.shows("data")
	p.touch("data", end)
	r.shows("take_card")
	r.must(p.Client.Remove(r.ctx))
	r.note("card out")
	r.shows("neutral")
	if s, err = p.State(r.ctx); err != nil || s.CardPresent || s.Persona != "" {
		t.Errorf("state after the visit: %+v, %v", s, err)
	}

	p.wants(http.StatusOK, "{}", "POST", "/api/reader", `{"plugged":false}`)
	r.note("reader unplugged")
	r.showsView("no reader", outOfOrder("READER-GONE"))
	if s, err = p.State(r.ctx); err != nil || s.Plugged {
		t.Errorf("state without a reader: %+v, %v", s, err)
	}
	p.wants(http.StatusOK, "{}", "POST", "/api/reader", `{"plugged":true}`)
	r.note("reader plugged in")
	r.showsView("the reader again", neutral())
	r.logged(r.off(), map[string]string{"component": "adv-app", "log": "flow", "name": "vsd.show", "result": "ok"})
}
