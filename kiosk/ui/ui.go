// Package ui draws the screens of the terminal and turns touches and keys into events.
//
// A [UI] is given a [view.View] after the other with [UI.SetView], draws it with [UI.Layout] and hands out what the
// person did with [UI.Events]. It decides nothing about the visit: all it knows by itself is presentation, that is
// language, look, text size, scroll position and which group of the menu is open, and it forgets even that with the
// neutral screen that follows a visit.
//
// A screen is composed once, when the view or the presentation changes, into a recorded operation list with its buttons
// and its text blocks (a scene); the frames after that replay the recording, so that a steady frame costs next to
// nothing. What stands on the screen can be asked for with [UI.Elements]; tests measure cut-off text, overlaps, contrast
// and touch targets there.
//
// A UI belongs to one goroutine.
package ui

import (
	"image"
	"math"
	"time"
	_ "time/tzdata" // the terminal's image has no time zones of its own

	"gioui.org/io/event"
	"gioui.org/io/key"
	"gioui.org/io/pointer"
	"gioui.org/layout"
	"gioui.org/op"
	"gioui.org/op/paint"
	gtext "gioui.org/text"

	"ktradv/kiosk/design"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/text"
	"ktradv/kiosk/view"
)

// Panel is the screen as it is built into the terminal.
type Panel = design.Panel

// Config says what a UI is made of.
type Config struct {
	// Shaper lays out text; it belongs to the UI's goroutine.
	Shaper *gtext.Shaper
	// Catalog holds the texts; needed.
	Catalog *text.Catalog
	// Tokens are the colours and the logo; nil means the product's own.
	Tokens *design.Tokens
	// Panel is the screen's real size, for touch targets in millimetres; the zero value takes it from the metric of the
	// platform.
	Panel Panel
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// ReducedMotion leaves out every movement; what an animation explains is shown as a still picture.
	ReducedMotion bool
}

// maxWords bounds the memory for the widths of words.
const maxWords = 4096

// forgetAfter is how long a chosen language, look or size outlives the last touch on the neutral screen.
const forgetAfter = time.Minute

// presentation is what the person chose for this visit.
type presentation struct {
	lang text.Lang
	look design.Look
	size design.Size
}

var standard = presentation{lang: text.German}

// UI draws views and collects events.
type UI struct {
	cfg  Config
	zone *time.Location
	// langs are the languages that are offered.
	langs []text.Language
	view  view.View
	panel Panel // in force
	seq   int   // counts views
	pres  presentation

	group   string      // open group of the menu, "" for its first level
	content view.Screen // last screen that was not laid over another one
	scroll  float32     // of the body, in pixels

	scene    *scene
	spare    *scene // the one before, its memory is used again
	stamp    int    // counts compositions
	buttons  map[string]*button
	words    map[wordKey]int // widths, for as long as the catalogue lives
	logo     [2]paint.ImageOp
	logoSize [2]image.Point

	events    []view.Event
	rootTag   tag
	bodyTag   tag
	rootWants []event.Filter
	bodyWants []event.Filter
	drag      drag

	touched   time.Time // last touch
	animStart time.Time // of the card animation, zero when it rests
}

type tag struct{ _ byte }

// drag follows one finger on the body.
type drag struct {
	active, moved bool
	id            pointer.ID
	last, start   float32
}

// New returns a UI that shows the neutral screen.
func New(cfg Config) *UI {
	if cfg.Tokens == nil {
		cfg.Tokens = design.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	// The insured person reads German local time; the database is linked in, so this does not fail.
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		zone = time.Local
	}
	u := &UI{
		cfg: cfg, zone: zone, langs: text.Languages, view: view.View{Screen: view.Neutral}, content: view.Neutral, pres: standard,
		buttons: make(map[string]*button), words: make(map[wordKey]int),
	}
	u.rootWants = []event.Filter{
		pointer.Filter{Target: &u.rootTag, Kinds: pointer.Press | pointer.Release | pointer.Move | pointer.Drag},
		key.Filter{},
	}
	u.bodyWants = []event.Filter{pointer.Filter{
		Target: &u.bodyTag, Kinds: pointer.Press | pointer.Drag | pointer.Release | pointer.Cancel | pointer.Scroll,
		ScrollY: pointer.ScrollRange{Min: math.MinInt32, Max: math.MaxInt32},
	}}
	for i, img := range []image.Image{cfg.Tokens.Logo, cfg.Tokens.LogoDark} {
		if img == nil {
			img = cfg.Tokens.Logo
		}
		if img != nil {
			u.logo[i], u.logoSize[i] = paint.NewImageOp(img), img.Bounds().Size()
		}
	}
	return u
}

// SetView replaces what is shown. The caller has the next frame drawn.
func (u *UI) SetView(v view.View) {
	before := u.view.Screen
	u.view = v
	u.seq++
	if v.Screen == view.Neutral && before != view.Neutral {
		u.pres = standard
	}
	if v.Screen == view.Problem && before != view.Problem && v.Problem != nil && pictureFor(v.Problem.Code) == picWrongWay {
		u.animStart = u.cfg.Now()
	}
	// The countdown and the blanked screen lie over the content, which comes back as it was.
	if v.Screen != view.Idle && v.Screen != view.Blanked && v.Screen != u.content {
		u.content, u.scroll, u.group = v.Screen, 0, ""
	}
}

// Events returns what the person did since the last call. The slice is valid until the next frame.
func (u *UI) Events() []view.Event {
	ev := u.events
	u.events = u.events[:0]
	return ev
}

// Language is the language that is shown now.
func (u *UI) Language() text.Lang { return u.pres.lang }

// Elements lists what stands on the screen as the last frame composed it.
func (u *UI) Elements() []Element {
	if u.scene == nil {
		return nil
	}
	return u.scene.elements
}

// Layout handles input and draws the screen into gtx.Ops. It asks for a further frame only while something moves or a
// countdown runs.
func (u *UI) Layout(gtx layout.Context) {
	size := gtx.Constraints.Max
	now := u.cfg.Now()
	u.input(gtx, now)
	u.forget(gtx, now)

	u.panel = u.cfg.Panel
	if u.panel == (Panel{}) {
		u.panel = Panel{Pixels: size, Diagonal: math.Hypot(float64(size.X), float64(size.Y)) / platform.PxPerMM(gtx.Metric) / 25.4}
	}
	k := u.key(size, now)
	if u.scene == nil || u.scene.key != k {
		u.compose(k)
		u.arm(gtx)
	}
	u.draw(gtx, now)
}

// arm makes the buttons of a new scene take part in the input from this frame on. Without it they would be known to the
// router only after a second frame, which a still page does not draw, and the first touch would be lost.
func (u *UI) arm(gtx layout.Context) {
	for _, b := range u.scene.buttons {
		b.update(gtx, false)
	}
	if s := u.scene; s.bodyHeight > s.bodyRect.Dy() {
		u.scrollInput(gtx, s)
	}
}

// input takes the events since the last frame.
func (u *UI) input(gtx layout.Context, now time.Time) {
	activity := false
	if s := u.scene; s != nil {
		for _, b := range s.buttons {
			if b.update(gtx, s.key.screen == u.view.Screen) {
				activity = true
				b.action(u)
			}
			activity = activity || b.sawKey
		}
		if s.bodyHeight > s.bodyRect.Dy() {
			u.scrollInput(gtx, s)
		}
	}
	// The buttons come first: the page takes every key that is left.
	for {
		ev, ok := gtx.Source.Event(u.rootWants...)
		if !ok {
			break
		}
		switch ev := ev.(type) {
		case pointer.Event:
			activity = true
			if ev.Kind == pointer.Press && u.view.Screen == view.Neutral && !u.moving(now) {
				u.animStart = now
			}
		case key.Event:
			activity = activity || ev.State == key.Press
		}
	}
	if activity {
		u.touched = now
		u.events = append(u.events, view.Event{Kind: view.Touched})
	}
}

// scrollInput moves the body with finger and wheel.
func (u *UI) scrollInput(gtx layout.Context, s *scene) {
	for {
		ev, ok := gtx.Source.Event(u.bodyWants...)
		if !ok {
			break
		}
		e, ok := ev.(pointer.Event)
		if !ok {
			continue
		}
		switch e.Kind {
		case pointer.Press:
			u.drag = drag{active: true, id: e.PointerID, last: e.Position.Y, start: e.Position.Y}
		case pointer.Drag:
			if !u.drag.active || u.drag.id != e.PointerID {
				continue
			}
			if d := e.Position.Y - u.drag.start; !u.drag.moved && (d > s.slop || d < -s.slop) {
				u.drag.moved = true
				gtx.Execute(pointer.GrabCmd{Tag: &u.bodyTag, ID: e.PointerID})
			}
			if u.drag.moved {
				u.scrollBy(s, u.drag.last-e.Position.Y)
			}
			u.drag.last = e.Position.Y
		case pointer.Release, pointer.Cancel:
			u.drag = drag{}
		case pointer.Scroll:
			u.scrollBy(s, e.Scroll.Y)
		}
	}
}

func (u *UI) scrollBy(s *scene, d float32) {
	u.scroll = max(0, min(u.scroll+d, float32(s.bodyHeight-s.bodyRect.Dy())))
}

// page scrolls by most of a page, so that the last lines are still there to read on from.
func (u *UI) page(direction float32) {
	if s := u.scene; s != nil {
		u.scrollBy(s, direction*float32(s.bodyRect.Dy())*0.8)
	}
}

// forget gives up a presentation that somebody chose on the neutral screen and left.
func (u *UI) forget(gtx layout.Context, now time.Time) {
	if u.view.Screen != view.Neutral || u.pres == standard {
		return
	}
	if until := u.touched.Add(forgetAfter); now.Before(until) {
		gtx.Execute(op.InvalidateCmd{At: until})
		return
	}
	u.pres = standard
}

func (u *UI) send(choice string) {
	u.events = append(u.events, view.Event{Kind: view.Choose, Choice: choice})
}

// Durations of movements.
const (
	insertTime = 1800 * time.Millisecond // the card slides into the slot, once
	spinPeriod = 1600 * time.Millisecond // one turn of the sign at the running step
	spinFrame  = 50 * time.Millisecond
)

// moving tells whether the card animation runs.
func (u *UI) moving(now time.Time) bool {
	return !u.cfg.ReducedMotion && !u.animStart.IsZero() && now.Sub(u.animStart) < insertTime
}

// secondsLeft until the deadline, rounded up, so that "0" is never shown while there is time.
func (u *UI) secondsLeft(now time.Time) int {
	if u.view.Deadline.IsZero() {
		return -1
	}
	return max(0, int(math.Ceil(u.view.Deadline.Sub(now).Seconds())))
}

// Present chooses language, look and text size, as a person does on the neutral screen.
func (u *UI) Present(lang text.Lang, look design.Look, size design.Size) {
	u.pres = presentation{lang: lang, look: look, size: size}
	u.touched = u.cfg.Now()
}

// ScrollBy moves the body by pixels, down when positive.
func (u *UI) ScrollBy(pixels int) {
	if u.scene != nil {
		u.scrollBy(u.scene, float32(pixels))
	}
}
