package demodoor

import (
	"context"
	"encoding/json"
	"errors"
	"image"
	"image/color"
	"image/png"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"gioui.org/cpurender"
	"gioui.org/io/semantic"
	"gioui.org/layout"
	"gioui.org/op"
	"gioui.org/op/clip"
	"gioui.org/op/paint"
	"gioui.org/widget"

	"ktradv/kiosk/loop"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/memory"
	"ktradv/kiosk/view"
)

// page is a red area with a button on it and something that is switched off.
type page struct {
	on     widget.Clickable
	clicks atomic.Int32
}

func (p *page) layout(gtx layout.Context) {
	paint.Fill(gtx.Ops, color.NRGBA{R: 200, A: 255})
	for p.on.Clicked(gtx) {
		p.clicks.Add(1)
	}
	at := func(x, y int) func() {
		o := op.Offset(image.Pt(x, y)).Push(gtx.Ops)
		gtx.Constraints = layout.Exact(image.Pt(100, 40))
		return o.Pop
	}
	pop := at(20, 10)
	p.on.Layout(gtx, func(gtx layout.Context) layout.Dimensions {
		semantic.LabelOp("On").Add(gtx.Ops)
		return layout.Dimensions{Size: gtx.Constraints.Max}
	})
	pop()
	defer at(20, 60)()
	defer clip.Rect{Max: gtx.Constraints.Max}.Push(gtx.Ops).Pop()
	semantic.LabelOp("Off").Add(gtx.Ops)
	semantic.EnabledOp(false).Add(gtx.Ops)
}

// open returns a door in front of a running page.
func open(t *testing.T) (*Door, *page) {
	t.Helper()
	display, err := memory.New(memory.Config{Size: image.Pt(640, 480)})
	if err != nil {
		t.Fatal(err)
	}
	d, p := Wrap(display), &page{}
	l, err := loop.New(loop.Config{Platform: d, Renderer: cpurender.New(cpurender.Options{}), Layout: p.layout})
	if err != nil {
		t.Fatal(err)
	}
	d.SetLoop(l)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		display.Close()
	})
	if err := l.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d, p
}

func ask(t testing.TB, d *Door, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
	return w
}

func TestScreenIsWhatTheDisplayShows(t *testing.T) {
	t.Parallel()
	d, _ := open(t)
	img, err := png.Decode(ask(t, d, "GET", "/screen.png", "").Body)
	if err != nil {
		t.Fatal(err)
	}
	shown := d.Platform.(*memory.Display).Image()
	if img.Bounds() != shown.Bounds() {
		t.Fatalf("picture %v; display %v", img.Bounds(), shown.Bounds())
	}
	for _, p := range []image.Point{{}, {300, 200}, {639, 479}} {
		if got, want := color.NRGBAModel.Convert(img.At(p.X, p.Y)), color.NRGBAModel.Convert(shown.At(p.X, p.Y)); got != want || want == (color.NRGBA{}) {
			t.Errorf("at %v: %v; the display has %v", p, got, want)
		}
	}
}

// Only what changed is copied; the picture is whole all the same.
func TestDamageOnly(t *testing.T) {
	t.Parallel()
	display, err := memory.New(memory.Config{Size: image.Pt(640, 480)})
	if err != nil {
		t.Fatal(err)
	}
	defer display.Close()
	d := Wrap(display)
	img := image.NewRGBA(image.Rect(0, 0, 640, 480))
	if err := d.Show(platform.Frame{Img: img, Damage: []image.Rectangle{img.Rect}}); err != nil {
		t.Fatal(err)
	}
	changed := image.Rect(10, 10, 20, 20)
	for y := range 480 {
		for x := range 640 {
			img.SetRGBA(x, y, color.RGBA{G: 255, A: 255})
		}
	}
	if err := d.Show(platform.Frame{Img: img, Damage: []image.Rectangle{changed}}); err != nil {
		t.Fatal(err)
	}
	out, err := png.Decode(ask(t, d, "GET", "/screen.png", "").Body)
	if err != nil {
		t.Fatal(err)
	}
	for p, green := range map[image.Point]bool{{10, 10}: true, {19, 19}: true, {20, 20}: false, {9, 10}: false} {
		if _, g, _, _ := out.At(p.X, p.Y).RGBA(); (g != 0) != green {
			t.Errorf("at %v green is %t; want %t", p, g != 0, green)
		}
	}
	var s State
	if err := json.Unmarshal(ask(t, d, "GET", "/state", "").Body.Bytes(), &s); err != nil || s.Frame != 2 {
		t.Errorf("state %+v, %v; want two pictures", s, err)
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	d, _ := open(t)
	d.SetView(view.View{Screen: view.Menu, Session: "s", Operation: view.Operation{ID: "o", Name: "vsd.show"}})
	var s State
	if err := json.Unmarshal(ask(t, d, "GET", "/state", "").Body.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if s.Screen != view.Menu || s.Session != "s" || s.Operation != (view.Operation{ID: "o", Name: "vsd.show"}) || s.Frame < 1 {
		t.Errorf("state %+v", s)
	}
}

func TestSemantics(t *testing.T) {
	t.Parallel()
	d, _ := open(t)
	var got []Element
	if err := json.Unmarshal(ask(t, d, "GET", "/semantics", "").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]Element{
		"On":  {Label: "On", X: 20, Y: 10, W: 100, H: 40, Clickable: true},
		"Off": {Label: "Off", X: 20, Y: 60, W: 100, H: 40, Disabled: true},
	}
	for _, e := range got {
		w, ok := want[e.Label]
		if !ok || e != w {
			t.Errorf("%+v; want %+v", e, w)
		}
		delete(want, e.Label)
	}
	if len(want) != 0 {
		t.Errorf("missing: %v", want)
	}
}

func TestTouch(t *testing.T) {
	t.Parallel()
	d, p := open(t)
	clicks := int32(0)
	for _, tc := range []struct {
		body   string
		status int
		hits   bool
	}{
		{`{"label":"On"}`, 200, true},
		{`{"x":25,"y":15}`, 200, true},
		{`{"x":0,"y":0}`, 200, false},
		{`{"x":119,"y":49}`, 200, true},
		{`{"label":"Nobody"}`, 404, false},
		{`{"x":25}`, 400, false},
		{`{"x":-1,"y":5}`, 400, false},
		{`{"x":640,"y":5}`, 400, false},
		{`{}`, 400, false},
		{``, 400, false},
		{`{"label":1}`, 400, false},
		{`{"button":"On"}`, 400, false},
		{`{"x":1e99,"y":1}`, 400, false},
		{`{"label":"` + strings.Repeat("x", 5000) + `"}`, 400, false},
	} {
		w := ask(t, d, "POST", "/touch", tc.body)
		if w.Code != tc.status {
			t.Errorf("%.40s: %d %s; want %d", tc.body, w.Code, w.Body, tc.status)
		}
		if tc.hits {
			clicks++
		}
		if got := p.clicks.Load(); got != clicks {
			t.Errorf("%.40s: %d clicks; want %d", tc.body, got, clicks)
			clicks = got
		}
	}
}

// Before the first picture there is nothing to show, read or touch, and the door says so.
func TestBeforeTheFirstPicture(t *testing.T) {
	t.Parallel()
	display, err := memory.New(memory.Config{Size: image.Pt(640, 480)})
	if err != nil {
		t.Fatal(err)
	}
	defer display.Close()
	d := Wrap(display)
	for _, r := range [][2]string{{"GET", "/screen.png"}, {"GET", "/semantics"}, {"POST", "/touch"}} {
		if w := ask(t, d, r[0], r[1], `{"label":"On"}`); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d", r[1], w.Code)
		}
	}
	for _, r := range [][2]string{{"GET", "/"}, {"GET", "/touch"}, {"DELETE", "/state"}} {
		if w := ask(t, d, r[0], r[1], ""); w.Code != http.StatusNotFound && w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s %s: %d", r[0], r[1], w.Code)
		}
	}
}

// One process takes the socket over from the one before, whatever is left of it, and the end of the elder does not take the
// path away from the younger.
func TestServeTakesOver(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "door") // short: the path of a socket has at most 107 octets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "door")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	session := func() string {
		for {
			resp, err := client.Get("http://door/state")
			if err != nil { // not there yet
				if t.Context().Err() != nil {
					t.Fatal(err)
				}
				continue
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			var s State
			if err = errors.Join(err, json.Unmarshal(b, &s)); err != nil {
				t.Fatal(err)
			}
			return s.Session
		}
	}
	start := func(name string) (stop func()) {
		display, err := memory.New(memory.Config{})
		if err != nil {
			t.Fatal(err)
		}
		d := Wrap(display)
		d.SetView(view.View{Session: name})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Serve(ctx, path) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			display.Close()
		}
	}
	stopElder := start("elder")
	if got := session(); got != "elder" {
		t.Errorf("session %q", got)
	}
	stopYounger := start("younger")
	for session() != "younger" {
	}
	stopElder()
	if got := session(); got != "younger" {
		t.Errorf("after the elder's end: %q", got)
	}
	stopYounger()
	display, err := memory.New(memory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer display.Close()
	if err := Wrap(display).Serve(t.Context(), filepath.Join(dir, strings.Repeat("x", 200))); err == nil || !strings.Contains(err.Error(), "demo door") {
		t.Errorf("a path too long for a socket: %v", err)
	}
}
