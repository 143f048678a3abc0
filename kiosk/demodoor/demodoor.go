// Package demodoor is the demo's own entrance to a kiosk: an HTTP interface on a unix socket through which the control
// panel sees the picture, reads the labels on it and touches it.
//
// It is linked by builds with the tag demo only (a test keeps it so): the terminal of an insured person has no such
// door. Whoever reaches the socket sees what the person at the terminal sees.
package demodoor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"gioui.org/f32"
	"gioui.org/io/event"
	"gioui.org/io/pointer"

	"ktradv/kiosk/loop"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/view"
)

// State is what GET /state answers.
type State struct {
	Screen    view.Screen    `json:"screen"`
	Session   string         `json:"session"`
	Operation view.Operation `json:"operation"`
	Frame     int            `json:"frame"` // number of the picture shown
}

// Element is one entry of GET /semantics: what stands on the screen, in pixels of the picture.
type Element struct {
	Label     string `json:"label"`
	X         int    `json:"x"`
	Y         int    `json:"y"`
	W         int    `json:"w"`
	H         int    `json:"h"`
	Clickable bool   `json:"clickable"`
	Disabled  bool   `json:"disabled,omitempty"`
	Selected  bool   `json:"selected,omitempty"`
}

// Touch is the body of POST /touch: a label, or a point.
type Touch struct {
	Label string `json:"label,omitempty"`
	X     *int   `json:"x,omitempty"`
	Y     *int   `json:"y,omitempty"`
}

// Door wraps a platform: pictures are kept for GET /screen.png on their way to the display, and touches from outside
// come in beside the display's own.
type Door struct {
	platform.Platform
	events chan event.Event
	start  time.Time

	mu    sync.Mutex
	last  *image.RGBA
	frame int
	view  view.View
	loop  *loop.Loop
}

// Wrap puts a door into the way between loop and platform.
func Wrap(p platform.Platform) *Door {
	d := &Door{Platform: p, events: make(chan event.Event, 64), start: time.Now()}
	go func() {
		defer close(d.events)
		for e := range p.Events() {
			d.events <- e
		}
	}()
	return d
}

// Events brings the display's input and the door's.
func (d *Door) Events() <-chan event.Event { return d.events }

// Show keeps the picture and shows it.
func (d *Door) Show(f platform.Frame) error {
	if err := d.Platform.Show(f); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil || d.last.Rect != f.Img.Rect {
		d.last = image.NewRGBA(f.Img.Rect)
		platform.CopyRect(d.last, f.Img, f.Img.Rect)
	} else {
		for _, r := range f.Damage {
			platform.CopyRect(d.last, f.Img, r)
		}
	}
	d.frame++
	return nil
}

// SetLoop tells the door whose elements to ask for.
func (d *Door) SetLoop(l *loop.Loop) { d.mu.Lock(); d.loop = l; d.mu.Unlock() }

// SetView tells the door what is shown.
func (d *Door) SetView(v view.View) { d.mu.Lock(); d.view = v; d.mu.Unlock() }

// Serve answers at the unix socket path until ctx ends. A socket that a process before left behind is replaced.
func (d *Door) Serve(ctx context.Context, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("demo door: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("demo door: %w", err)
	}
	// The next process takes the path over; closing this listener must not remove that one's socket.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	srv := &http.Server{Handler: d.Handler(), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		srv.Close()
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("demo door: %w", err)
	}
	return nil
}

// Handler answers the four requests.
func (d *Door) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		d.mu.Lock()
		s := State{Screen: d.view.Screen, Session: d.view.Session, Operation: d.view.Operation, Frame: d.frame}
		d.mu.Unlock()
		writeJSON(w, s)
	})
	mux.HandleFunc("GET /screen.png", func(w http.ResponseWriter, _ *http.Request) {
		d.mu.Lock()
		var img *image.RGBA
		if d.last != nil {
			img = image.NewRGBA(d.last.Rect)
			copy(img.Pix, d.last.Pix)
		}
		d.mu.Unlock()
		if img == nil {
			http.Error(w, "nothing has been drawn yet", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "image/png")
		(&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(w, img)
	})
	mux.HandleFunc("GET /semantics", func(w http.ResponseWriter, r *http.Request) {
		els, err := d.elements(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		writeJSON(w, els)
	})
	mux.HandleFunc("POST /touch", func(w http.ResponseWriter, r *http.Request) {
		var t Touch
		dec := json.NewDecoder(io.LimitReader(r.Body, 4096))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&t); err != nil {
			http.Error(w, "touch: "+err.Error(), http.StatusBadRequest)
			return
		}
		switch err := d.touch(r.Context(), t); {
		case errors.Is(err, errNoPoint):
			http.Error(w, err.Error(), http.StatusBadRequest)
		case errors.Is(err, loop.ErrNoElement):
			http.Error(w, err.Error(), http.StatusNotFound)
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		default:
			writeJSON(w, struct{}{})
		}
	})
	return mux
}

var errNoPoint = errors.New("touch: give a label, or x and y within the picture")

func (d *Door) elements(ctx context.Context) ([]Element, error) {
	l := d.running()
	if l == nil {
		return nil, errors.New("nothing has been drawn yet")
	}
	nodes, err := l.Semantics(ctx)
	if err != nil {
		return nil, err
	}
	els := []Element{}
	for _, n := range nodes {
		if n.Label == "" || n.Rect.Empty() {
			continue
		}
		els = append(els, Element{
			Label: n.Label, X: n.Rect.Min.X, Y: n.Rect.Min.Y, W: n.Rect.Dx(), H: n.Rect.Dy(),
			Clickable: n.Clickable, Disabled: n.Disabled, Selected: n.Selected,
		})
	}
	return els, nil
}

func (d *Door) running() *loop.Loop {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.loop
}

func (d *Door) touch(ctx context.Context, t Touch) error {
	l := d.running()
	if l == nil {
		return errors.New("nothing has been drawn yet")
	}
	var p image.Point
	switch {
	case t.Label != "":
		r, err := l.Locate(ctx, t.Label)
		if err != nil {
			return err
		}
		p = r.Min.Add(r.Max).Div(2)
	case t.X != nil && t.Y != nil && image.Pt(*t.X, *t.Y).In(image.Rectangle{Max: d.Size()}):
		p = image.Pt(*t.X, *t.Y)
	default:
		return errNoPoint
	}
	e := pointer.Event{Source: pointer.Touch, PointerID: 1, Position: f32.Pt(float32(p.X), float32(p.Y)), Time: time.Since(d.start)}
	for _, kind := range []pointer.Kind{pointer.Press, pointer.Release} {
		e.Kind = kind
		select {
		case d.events <- e:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return l.Settle(ctx)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}
