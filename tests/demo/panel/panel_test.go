package panel

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
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ktradv/hw/apdu"
	"ktradv/hw/cos"
	"ktradv/hw/reader"
	"ktradv/hw/sim/adapter"
	simreader "ktradv/hw/sim/reader"
)

// chip is a card that agrees with everything.
type chip struct{}

func (chip) Reset(bool) []byte     { return []byte{0x3B, 0x80, 0x01, 0x81} }
func (chip) Process([]byte) []byte { return []byte{0x90, 0x00} }

// desk is a panel in front of a simulated reader.
type desk struct {
	t      testing.TB
	reader *simreader.Reader
	url    string
}

func newDesk(t testing.TB, door string) *desk {
	t.Helper()
	r := simreader.New(simreader.Config{})
	p := New(Config{
		Reader: r, Door: door,
		Personas: []Persona{{ID: "one", Title: "One", Description: "The first.", PIN: "123456", PUK: "12345678"}},
		Card: func(id string) (simreader.Card, error) {
			if id != "one" {
				return nil, errors.New("no such persona")
			}
			return chip{}, nil
		},
	})
	p.wait = 500 * time.Millisecond
	srv := httptest.NewServer(p.Handler())
	t.Cleanup(func() { r.Release(); srv.Close() })
	return &desk{t, r, srv.URL}
}

// do sends a request and returns status and body.
func (d *desk) do(method, path, body string, header ...string) (int, string) {
	d.t.Helper()
	q, err := http.NewRequestWithContext(d.t.Context(), method, d.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			q.Host = header[i+1]
		}
		q.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (d *desk) want(status int, method, path, body string, header ...string) string {
	d.t.Helper()
	got, text := d.do(method, path, body, header...)
	if got != status {
		d.t.Errorf("%s %s %s %v: %d %s; want %d", method, path, body, header, got, text, status)
	}
	return text
}

func (d *desk) state() State {
	d.t.Helper()
	var s State
	if err := json.Unmarshal([]byte(d.want(200, "GET", "/api/state", "")), &s); err != nil {
		d.t.Fatal(err)
	}
	return s
}

// The fields of GET /api/state are part of the interface: nothing goes, and nothing comes unnoticed.
func TestStateFields(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "")
	var fields map[string]any
	if err := json.Unmarshal([]byte(d.want(200, "GET", "/api/state", "")), &fields); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"screen": "", "reader_display": d.reader.Display(), "pad_awaiting": "", "pad_digits": 0.0, "card_present": false,
		"persona": "", "reader_plugged": true, "session": "", "last_operation": map[string]any{}, "frame": 0.0,
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Error(diff)
	}
}

func TestPageAndPersonas(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "")
	if page := d.want(200, "GET", "/", ""); !strings.Contains(page, "<html") {
		t.Error("no page")
	}
	var list []map[string]string
	if err := json.Unmarshal([]byte(d.want(200, "GET", "/api/personas", "")), &list); err != nil {
		t.Fatal(err)
	}
	want := []map[string]string{{"id": "one", "title": "One", "description": "The first.", "pin": "123456", "puk": "12345678"}}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	d.want(404, "GET", "/api/nothing", "")
	d.want(404, "GET", "/other", "")
	d.want(405, "PUT", "/api/card", "")
}

func TestCard(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "")
	d.want(200, "DELETE", "/api/card", "") // an empty slot is what was asked for
	d.want(404, "POST", "/api/card", `{"persona":"nobody"}`)
	for _, bad := range []string{"", "{", `{"persona":1}`, `{"card":"one"}`, `{"persona":"one"} x`, `["one"]`, `{"persona":"` + strings.Repeat("x", 5000) + `"}`} {
		d.want(400, "POST", "/api/card", bad)
	}
	if s := d.state(); s.CardPresent || s.Persona != "" {
		t.Errorf("after refused requests: %+v", s)
	}
	d.want(200, "POST", "/api/card", `{"persona":"one"}`)
	if s := d.state(); !s.CardPresent || s.Persona != "one" {
		t.Errorf("card in: %+v", s)
	}
	d.want(409, "POST", "/api/card", `{"persona":"one"}`)
	d.want(200, "DELETE", "/api/card", "")
	if s := d.state(); s.CardPresent || s.Persona != "" {
		t.Errorf("card out: %+v", s)
	}
}

// Two cards at once do not go into one slot.
func TestCardsAtOnce(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "")
	var mu sync.Mutex
	var got []int
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			status, _ := d.do("POST", "/api/card", `{"persona":"one"}`)
			mu.Lock()
			defer mu.Unlock()
			got = append(got, status)
		})
	}
	wg.Wait()
	slices.Sort(got)
	if want := []int{200, 409, 409, 409, 409, 409, 409, 409}; !slices.Equal(got, want) {
		t.Errorf("status %v; want %v", got, want)
	}
}

func TestPad(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "")
	for _, bad := range []string{"", "{}", `{"digits":""}`, `{"digits":"12a4"}`, `{"digits":"12345678901234567"}`, `{"key":"enter"}`,
		`{"digits":"1","key":"ok"}`, `{"digits":123456}`, `{"digit":"1"}`} {
		d.want(400, "POST", "/api/pad", bad)
	}
	d.want(409, "POST", "/api/pad", `{"digits":"123456"}`) // the pad waits for nothing
	d.want(409, "POST", "/api/pad", `{"key":"ok"}`)

	d.want(200, "POST", "/api/card", `{"persona":"one"}`)
	rd := adapter.New(d.reader, adapter.Config{})
	defer rd.Close()
	card, err := rd.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	type result struct {
		r   apdu.Response
		err error
	}
	entered := make(chan result, 1)
	go func() {
		r, _, err := reader.EnterSecret(t.Context(), card, reader.SecretInput{Identifier: "PIN.CH", Action: reader.ActionVerify,
			MinLength: 6, MaxLength: 8, CommandAPDUPart: cos.VerifyTemplate(1), Timeout: 20 * time.Second})
		entered <- result{r, err}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := d.reader.WaitAwaiting(ctx, "pin"); err != nil {
		t.Fatal(err)
	}
	d.want(200, "POST", "/api/pad", `{"digits":"12"}`)
	if s := d.state(); s.PadAwaiting != "pin" || s.PadDigits != 2 || strings.Contains(s.ReaderDisplay, "12") {
		t.Errorf("while typing: %+v", s)
	}
	d.want(200, "POST", "/api/pad", `{"key":"clear"}`)
	if s := d.state(); s.PadDigits != 0 {
		t.Errorf("after clear: %+v", s)
	}
	d.want(200, "POST", "/api/pad", `{"digits":"123456"}`)
	d.want(200, "POST", "/api/pad", `{"key":"ok"}`)
	if got := <-entered; got.err != nil || got.r.SW != apdu.SWOK {
		t.Errorf("the card said %04X, %v", got.r.SW, got.err)
	}
	if s := d.state(); s.PadAwaiting != "" || s.PadDigits != 0 {
		t.Errorf("afterwards: %+v", s)
	}
}

func TestReaderPlug(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "")
	d.want(400, "POST", "/api/reader", "{}")
	d.want(400, "POST", "/api/reader", `{"plugged":"no"}`)
	d.want(200, "POST", "/api/reader", `{"plugged":false}`)
	if d.state().Plugged {
		t.Error("still plugged in")
	}
	d.want(200, "POST", "/api/reader", `{"plugged":true}`)
	if !d.state().Plugged {
		t.Error("not plugged in again")
	}
}

// A kiosk without a door, which is what a production build is: the reader's side works, the screen's says why not.
func TestKioskWithoutDoor(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "")
	for _, r := range [][2]string{{"GET", "/api/screen.png"}, {"GET", "/api/semantics"}, {"GET", "/api/screen"}, {"POST", "/api/touch"}} {
		if text := d.want(501, r[0], r[1], `{"label":"x"}`); !strings.Contains(text, "production") {
			t.Errorf("%s: %s", r[1], text)
		}
	}
}

// A production build in a virtual machine: its display is seen and touched from outside, by points alone.
func TestKioskSeenFromOutside(t *testing.T) {
	t.Parallel()
	shown := image.NewRGBA(image.Rect(0, 0, 8, 4))
	shown.SetRGBA(3, 2, color.RGBA{1, 2, 3, 255})
	var touched []image.Point
	p := New(Config{
		Reader: simreader.New(simreader.Config{}),
		Screen: func(context.Context) (*image.RGBA, error) { return shown, nil },
		Touch: func(_ context.Context, x, y int) error {
			if touched = append(touched, image.Pt(x, y)); x == 0 {
				return errors.New("nobody listens to the touch screen")
			}
			return nil
		},
	})
	srv := httptest.NewServer(p.Handler())
	t.Cleanup(srv.Close)
	ask := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, srv.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	code, body := ask("GET", "/api/screen.png", "")
	img, err := png.Decode(strings.NewReader(body))
	if code != 200 || err != nil || img.Bounds() != shown.Rect {
		t.Fatalf("picture: %d, %v", code, err)
	}
	if r, g, b, _ := img.At(3, 2).RGBA(); r>>8 != 1 || g>>8 != 2 || b>>8 != 3 {
		t.Errorf("pixel %d %d %d", r>>8, g>>8, b>>8)
	}
	for _, tt := range []struct {
		method, path, body string
		code               int
	}{
		{"POST", "/api/touch", `{"x":5,"y":2}`, 200},
		{"POST", "/api/touch", `{"x":0,"y":2}`, 502},
		{"POST", "/api/touch", `{"x":7,"y":3}`, 200},
		{"POST", "/api/touch", `{"x":8,"y":2}`, 400},
		{"POST", "/api/touch", `{"x":5,"y":4}`, 400},
		{"POST", "/api/touch", `{"x":-1,"y":2}`, 400},
		{"POST", "/api/touch", `{"x":5,"y":-1}`, 400},
		{"POST", "/api/touch", `{"x":9223372036854775807,"y":2}`, 400},
		{"POST", "/api/touch", `{"x":5}`, 400},
		{"POST", "/api/touch", `{"y":2}`, 400},
		{"POST", "/api/touch", `{}`, 400},
		{"POST", "/api/touch", `{"x":"5","y":2}`, 400},
		{"POST", "/api/touch", `{"x":5,"y":2,"z":1}`, 400},
		{"POST", "/api/touch", `{"x":5,"y":2} {}`, 400},
		{"POST", "/api/touch", `x`, 400},
		{"POST", "/api/touch", `{"label":"Weiter"}`, 501},
		{"GET", "/api/semantics", "", 501},
		{"GET", "/api/screen", "", 501},
		{"GET", "/api/state", "", 200},
	} {
		if code, body := ask(tt.method, tt.path, tt.body); code != tt.code || code == 501 && !strings.Contains(body, "production") {
			t.Errorf("%s %s %s: %d %s", tt.method, tt.path, tt.body, code, body)
		}
	}
	if want := []image.Point{{X: 5, Y: 2}, {X: 0, Y: 2}, {X: 7, Y: 3}}; !slices.Equal(touched, want) {
		t.Errorf("touched %v, want %v", touched, want)
	}
}

// door is a kiosk's entrance; its socket has a short path, because a socket's path may be no longer than 107 octets.
func door(t testing.TB, h http.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "panel")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "door")
	if h == nil {
		return path // nobody listens
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return path
}

// What the kiosk answers reaches the caller as it is; what it does not answer yet is asked again.
func TestKioskWithDoor(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	early := 2 // answers before the first picture
	touched := ""
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"screen":"menu","session":"s1","operation":{"ID":"o1","Name":"vsd.show"},"frame":7}`)
	})
	mux.HandleFunc("GET /screen.png", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if early--; early >= 0 {
			http.Error(w, "nothing has been drawn yet", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "image/png")
		io.WriteString(w, "picture")
	})
	mux.HandleFunc("GET /semantics", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "[]") })
	mux.HandleFunc("POST /touch", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		touched = string(b)
		mu.Unlock()
		http.Error(w, "no such element", http.StatusNotFound)
	})
	d := newDesk(t, door(t, mux))
	s := d.state()
	if s.Screen != "menu" || s.Session != "s1" || s.Frame != 7 || string(s.LastOperation) != `{"id":"o1","name":"vsd.show"}` {
		t.Errorf("state %+v", s)
	}
	if got := d.want(200, "GET", "/api/screen.png", ""); got != "picture" {
		t.Errorf("picture %q", got)
	}
	if got := d.want(200, "GET", "/api/semantics", ""); got != "[]" {
		t.Errorf("semantics %q", got)
	}
	d.want(404, "POST", "/api/touch", `{"label":"Exit"}`)
	if touched != `{"label":"Exit"}` {
		t.Errorf("the kiosk got %q", touched)
	}
}

func TestKioskDoesNotAnswer(t *testing.T) {
	t.Parallel()
	d := newDesk(t, door(t, nil))
	if s := d.state(); s.Screen != "" || !s.Plugged {
		t.Errorf("state %+v", s)
	}
	d.want(502, "GET", "/api/screen.png", "")
}

// Only programs on this machine and the panel's own page reach the interface.
func TestGuard(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "")
	for _, host := range []string{"evil.example", "evil.example:80", "10.0.0.1", "192.0.2.7:8080", "localhost.evil.example", "[2001:db8::1]:80"} {
		d.want(403, "GET", "/api/state", "", "Host", host)
		d.want(403, "GET", "/", "", "Host", host)
		d.want(403, "POST", "/api/card", `{"persona":"one"}`, "Host", host)
	}
	for _, host := range []string{"localhost", "localhost:8080", "127.0.0.1", "127.0.0.2:1", "[::1]:80", "[::1]"} {
		d.want(200, "GET", "/api/state", "", "Host", host)
	}
	for _, site := range []string{"cross-site", "same-site"} {
		for _, r := range [][3]string{{"POST", "/api/card", `{"persona":"one"}`}, {"DELETE", "/api/card", ""}, {"POST", "/api/pad", `{"key":"ok"}`}, {"POST", "/api/reader", `{"plugged":false}`}, {"POST", "/api/touch", `{"label":"x"}`}} {
			d.want(403, r[0], r[1], r[2], "Sec-Fetch-Site", site)
		}
	}
	if s := d.state(); s.CardPresent || !s.Plugged {
		t.Errorf("a foreign page had its way: %+v", s)
	}
	d.want(200, "POST", "/api/card", `{"persona":"one"}`, "Sec-Fetch-Site", "same-origin")
	d.want(200, "DELETE", "/api/card", "", "Sec-Fetch-Site", "none")
}
