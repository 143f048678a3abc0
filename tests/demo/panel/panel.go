// Package panel is the control panel of the demo: a page on the loopback interface with the terminal's live screen, the
// reader's display and pad, a card slot and a wallet of personas, and the HTTP interface that does the same for programs.
//
// The simulated reader and card live in this process, never in the kiosk's. The screen, the labels on it and touches
// come from the kiosk's own demo door. Where a kiosk has none, a production image in a virtual machine, its display is
// seen and touched by coordinates from outside, and what only the door could answer answers 501 and says why.
package panel

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	simreader "ktradv/hw/sim/reader"
)

//go:embed page.html
var page []byte

// Persona is one card of the wallet.
type Persona struct {
	ID          string `json:"id"`
	Title       string `json:"title"`
	Description string `json:"description"`
	PIN         string `json:"pin"`
	PUK         string `json:"puk"`
}

// Config says what the panel shows.
type Config struct {
	// Reader is the simulated reader that the kiosk uses.
	Reader *simreader.Reader
	// Personas are the cards of the wallet, and Card makes the card of one of them: the same card each time, so that
	// its counters and its log stay between two visits.
	Personas []Persona
	Card     func(id string) (simreader.Card, error)
	// Door is the unix socket of the kiosk's demo door, "" for a kiosk without one.
	Door string
	// Screen and Touch reach the display of a kiosk without a door from outside: the picture that is shown, and a touch
	// of one of its pixels. Both or none of them.
	Screen func(context.Context) (*image.RGBA, error)
	Touch  func(ctx context.Context, x, y int) error
}

// Panel serves the page and the interface.
type Panel struct {
	cfg  Config
	door *http.Client
	wait time.Duration // how long a request waits for the kiosk

	mu      sync.Mutex
	persona string // in the slot, ""
}

// New returns a panel.
func New(cfg Config) *Panel {
	p := &Panel{cfg: cfg, wait: 4 * time.Second}
	p.door = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, // each visitor has a process of its own behind the socket
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", cfg.Door)
		},
	}}
	return p
}

// State is what GET /api/state answers. The fields are stable.
type State struct {
	Screen        string          `json:"screen"`         // what the terminal shows, "" while nobody draws
	ReaderDisplay string          `json:"reader_display"` // lines separated by a line feed
	PadAwaiting   string          `json:"pad_awaiting"`   // "", "pin", "old", "new" or "repeat"
	PadDigits     int             `json:"pad_digits"`     // number of digits typed so far
	CardPresent   bool            `json:"card_present"`
	Persona       string          `json:"persona"`
	Plugged       bool            `json:"reader_plugged"`
	Session       string          `json:"session"`
	LastOperation json.RawMessage `json:"last_operation"`
	Frame         int             `json:"frame"` // number of the picture on the screen
}

// Handler answers the page and every request of the interface. Requests that do not come from this machine's own page
// or programs (another host name, another site's form) are refused.
func (p *Panel) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'")
		w.Write(page)
	})
	mux.HandleFunc("GET /api/state", func(w http.ResponseWriter, r *http.Request) { reply(w, p.State(r.Context())) })
	mux.HandleFunc("GET /api/personas", func(w http.ResponseWriter, _ *http.Request) { reply(w, p.cfg.Personas) })
	mux.HandleFunc("POST /api/card", p.insert)
	mux.HandleFunc("DELETE /api/card", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		p.cfg.Reader.Remove()
		p.persona = ""
		p.mu.Unlock()
		reply(w, struct{}{})
	})
	mux.HandleFunc("POST /api/pad", p.pad)
	mux.HandleFunc("POST /api/reader", p.reader)
	mux.HandleFunc("POST /api/touch", func(w http.ResponseWriter, r *http.Request) {
		if p.outside() {
			p.touch(w, r)
			return
		}
		b, err := io.ReadAll(io.LimitReader(r.Body, 4096))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		p.forward(w, r.Context(), http.MethodPost, "/touch", b)
	})
	mux.HandleFunc("GET /api/screen.png", func(w http.ResponseWriter, r *http.Request) {
		if p.outside() {
			p.screen(w, r.Context())
			return
		}
		p.forward(w, r.Context(), http.MethodGet, "/screen.png", nil)
	})
	mux.HandleFunc("GET /api/screen", func(w http.ResponseWriter, r *http.Request) {
		if p.cfg.Door == "" {
			http.Error(w, noDoor, http.StatusNotImplemented)
			return
		}
		reply(w, map[string]string{"screen": p.State(r.Context()).Screen})
	})
	mux.HandleFunc("GET /api/semantics", func(w http.ResponseWriter, r *http.Request) {
		p.forward(w, r.Context(), http.MethodGet, "/semantics", nil)
	})
	return guard(mux)
}

// outside tells that the display is reached from outside, past the kiosk.
func (p *Panel) outside() bool { return p.cfg.Door == "" && p.cfg.Screen != nil && p.cfg.Touch != nil }

// guard refuses what a page of another site could send through the visitor's browser.
func guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if ip := net.ParseIP(strings.Trim(host, "[]")); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "the control panel answers on the loopback interface only", http.StatusForbidden)
			return
		}
		if r.Method != http.MethodGet {
			if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
				http.Error(w, "request of another site", http.StatusForbidden)
				return
			}
		}
		w.Header().Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}

// State asks reader and kiosk.
func (p *Panel) State(ctx context.Context) State {
	r := p.cfg.Reader.State()
	s := State{ReaderDisplay: r.Display, PadAwaiting: r.Awaiting, PadDigits: r.Digits, CardPresent: r.Card, Plugged: r.Plugged, LastOperation: json.RawMessage("{}")}
	p.mu.Lock()
	s.Persona = p.persona
	p.mu.Unlock()
	if p.cfg.Door == "" {
		return s
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resp, err := p.ask(ctx, http.MethodGet, "/state", nil)
	if err != nil {
		return s // between two visitors nobody answers for a moment
	}
	defer resp.Body.Close()
	var k struct {
		Screen, Session string
		Operation       struct{ ID, Name string }
		Frame           int
	}
	if json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&k) != nil {
		return s
	}
	op, err := json.Marshal(map[string]string{"id": k.Operation.ID, "name": k.Operation.Name})
	if err == nil {
		s.LastOperation = op
	}
	s.Screen, s.Session, s.Frame = k.Screen, k.Session, k.Frame
	return s
}

func (p *Panel) insert(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Persona string `json:"persona"`
	}
	if !read(w, r, &in) {
		return
	}
	c, err := p.cfg.Card(in.Persona)
	if err != nil {
		http.Error(w, err.Error()+"; GET /api/personas lists them", http.StatusNotFound)
		return
	}
	p.mu.Lock() // two requests at once are two cards for one slot
	defer p.mu.Unlock()
	if p.cfg.Reader.State().Card {
		http.Error(w, "there is a card in the slot: take it out first (DELETE /api/card)", http.StatusConflict)
		return
	}
	p.persona = in.Persona
	p.cfg.Reader.Insert(c)
	reply(w, struct{}{})
}

func (p *Panel) pad(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Digits string `json:"digits"`
		Key    string `json:"key"`
	}
	if !read(w, r, &in) {
		return
	}
	var err error
	switch {
	case in.Digits != "" && in.Key == "" && len(in.Digits) <= 16 && strings.Trim(in.Digits, "0123456789") == "":
		err = p.cfg.Reader.PressDigits(in.Digits)
	case in.Digits == "" && (in.Key == "ok" || in.Key == "cancel" || in.Key == "clear"):
		err = p.cfg.Reader.PressKey(simreader.Key(in.Key))
	default:
		http.Error(w, `pad: give "digits" (decimal) or "key" (ok, cancel, clear)`, http.StatusBadRequest)
		return
	}
	if errors.Is(err, simreader.ErrNotAwaiting) {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	reply(w, struct{}{})
}

// reader plugs the reader in or out.
func (p *Panel) reader(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Plugged *bool `json:"plugged"`
	}
	if !read(w, r, &in) {
		return
	}
	switch {
	case in.Plugged == nil:
		http.Error(w, `reader: give "plugged"`, http.StatusBadRequest)
		return
	case *in.Plugged:
		p.cfg.Reader.Plug()
	default:
		p.cfg.Reader.Unplug()
	}
	reply(w, struct{}{})
}

// noDoor is why a production kiosk answers 501.
const noDoor = "this kiosk is a production build: it has no entrance for programs, so only its display can be seen"

// screen answers with the display's picture as it is seen from outside.
func (p *Panel) screen(w http.ResponseWriter, ctx context.Context) {
	img, err := p.cfg.Screen(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "image/png")
	(&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(w, img)
}

// touch touches the display from outside, where there are points and no labels.
func (p *Panel) touch(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Label string `json:"label"`
		X     *int   `json:"x"`
		Y     *int   `json:"y"`
	}
	if !read(w, r, &in) {
		return
	}
	if in.Label != "" {
		http.Error(w, noDoor, http.StatusNotImplemented)
		return
	}
	if in.X == nil || in.Y == nil {
		http.Error(w, `touch: give "x" and "y"`, http.StatusBadRequest)
		return
	}
	img, err := p.cfg.Screen(r.Context())
	if err == nil {
		if !image.Pt(*in.X, *in.Y).In(img.Rect) {
			http.Error(w, fmt.Sprintf("touch: the screen has %d by %d pixels", img.Rect.Dx(), img.Rect.Dy()), http.StatusBadRequest)
			return
		}
		err = p.cfg.Touch(r.Context(), *in.X, *in.Y)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	reply(w, struct{}{})
}

// forward passes a request to the kiosk. Between two visitors the socket changes hands; a request waits for that.
func (p *Panel) forward(w http.ResponseWriter, ctx context.Context, method, path string, body []byte) {
	if p.cfg.Door == "" {
		http.Error(w, noDoor, http.StatusNotImplemented)
		return
	}
	var resp *http.Response
	var err error
	for deadline := time.Now().Add(p.wait); ; {
		resp, err = p.ask(ctx, method, path, body)
		if err == nil && resp.StatusCode != http.StatusServiceUnavailable {
			break
		}
		if err == nil {
			resp.Body.Close()
			err = errors.New("not ready yet")
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			http.Error(w, fmt.Sprintf("the kiosk does not answer: %v", err), http.StatusBadGateway)
			return
		}
		time.Sleep(30 * time.Millisecond)
	}
	defer resp.Body.Close()
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, io.LimitReader(resp.Body, 64<<20))
}

func (p *Panel) ask(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://kiosk"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return p.door.Do(req)
}

func read(w http.ResponseWriter, r *http.Request, v any) bool {
	dec := json.NewDecoder(io.LimitReader(r.Body, 4096))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		http.Error(w, "request: "+err.Error(), http.StatusBadRequest)
		return false
	}
	if _, err := dec.Token(); err != io.EOF {
		http.Error(w, "request: something follows the JSON object", http.StatusBadRequest)
		return false
	}
	return true
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}
