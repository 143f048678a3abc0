package ui

import (
	"image"
	"image/color"
	"time"

	"gioui.org/io/event"
	"gioui.org/io/key"
	"gioui.org/io/pointer"
	"gioui.org/io/semantic"
	"gioui.org/layout"
	"gioui.org/op"
	"gioui.org/op/clip"
	"gioui.org/op/paint"

	"ktradv/kiosk/design"
	"ktradv/kiosk/view"
)

// sceneKey is everything that a composed screen depends on.
type sceneKey struct {
	seq     int
	screen  view.Screen
	size    image.Point
	panel   Panel
	pres    presentation
	group   string
	seconds int
}

// scene is a composed screen: recorded operations, the buttons and what the tests want to know.
type scene struct {
	key      sceneKey
	ops      op.Ops
	palette  *design.Palette
	metrics  design.Metrics
	page     op.CallOp // everything but the scrolled body
	body     op.CallOp
	bodyRect image.Rectangle // where the body is seen
	// bodyHeight is larger than bodyRect when the body scrolls.
	bodyHeight int
	track      image.Rectangle // of the scroll sign; empty when nothing scrolls
	slop       float32
	buttons    []*button
	moving     []movingPicture
	spinners   []spinner
	elements   []Element
}

// movingPicture is a picture that an animation may bring to life.
type movingPicture struct {
	pic   picture
	rect  image.Rectangle
	still op.CallOp
}

// spinner is the place of the sign of a running step.
type spinner struct {
	rect   image.Rectangle
	inBody bool
}

// ElementKind tells what an element is.
type ElementKind int

const (
	TextElement ElementKind = iota
	ButtonElement
	PictureElement
	BodyElement // the area in which the body scrolls
)

// Element is one thing on the screen.
type Element struct {
	Kind  ElementKind
	Label string          // the text; for a button the one in the current language
	Rect  image.Rectangle // where it is; in the body's coordinates when Body is set
	Room  image.Rectangle // the room it must stay in
	Ink   image.Rectangle // what the glyphs of a text really cover
	FG    color.NRGBA     // of a text
	BG    color.NRGBA     // what it is drawn on
	Em    int             // size of a text in pixels
	Split bool            // a word of the text was broken because it is wider than the room
	Body  bool            // scrolls with the body
	Owner string          // label of the button or name of the picture that the text belongs to
}

// button is something to press. It lives as long as the UI, so that a touch survives a change of the scene.
type button struct {
	id      string
	label   string
	action  func(*UI)
	rect    image.Rectangle
	radius  int
	inBody  bool
	fg      color.NRGBA // for the sign of being pressed
	seq     int         // view for which it was last composed
	pressed bool
	inside  bool
	pid     pointer.ID
	focused bool
	sawKey  bool
	wants   []event.Filter
}

func (u *UI) button(id string) *button {
	b := u.buttons[id]
	if b == nil {
		b = &button{id: id}
		b.wants = []event.Filter{
			pointer.Filter{Target: b, Kinds: pointer.Press | pointer.Release | pointer.Enter | pointer.Leave | pointer.Cancel},
			key.FocusFilter{Target: b},
			key.Filter{Focus: b, Name: key.NameReturn},
			key.Filter{Focus: b, Name: key.NameEnter},
			key.Filter{Focus: b, Name: key.NameSpace},
		}
		u.buttons[id] = b
	}
	return b
}

// update takes the button's events and reports whether it was pressed and let go, or chosen with a key. A touch that
// was meant for a screen that has been replaced (current is false) does nothing.
func (b *button) update(gtx layout.Context, current bool) (chosen bool) {
	b.sawKey = false
	for {
		ev, ok := gtx.Source.Event(b.wants...)
		if !ok {
			return chosen && current
		}
		switch e := ev.(type) {
		case key.FocusEvent:
			b.focused = e.Focus
		case key.Event:
			b.sawKey = b.sawKey || e.State == key.Press
			chosen = chosen || e.State == key.Press
		case pointer.Event:
			switch e.Kind {
			case pointer.Press:
				if !b.pressed && (e.Source == pointer.Touch || e.Buttons == pointer.ButtonPrimary) {
					b.pressed, b.inside, b.pid = true, true, e.PointerID
				}
			case pointer.Enter:
				b.inside = true
			case pointer.Leave:
				b.inside = false
			case pointer.Cancel:
				b.pressed = false
			case pointer.Release:
				if b.pressed && e.PointerID == b.pid {
					chosen = chosen || b.inside
					b.pressed = false
				}
			}
		}
	}
}

func (u *UI) key(size image.Point, now time.Time) sceneKey {
	return sceneKey{seq: u.seq, screen: u.view.Screen, size: size, panel: u.panel, pres: u.pres, group: u.group, seconds: u.secondsLeft(now)}
}

// compose builds the scene for the key.
func (u *UI) compose(k sceneKey) {
	s := u.spare
	if s == nil {
		s = new(scene)
	}
	u.spare, u.scene = u.scene, s
	s.ops.Reset()
	u.stamp++
	*s = scene{
		key: k, ops: s.ops, palette: &u.cfg.Tokens.Palettes[k.pres.look],
		metrics: design.NewMetrics(u.panel, k.size, k.pres.look, k.pres.size),
		buttons: s.buttons[:0], moving: s.moving[:0], spinners: s.spinners[:0], elements: s.elements[:0],
	}
	s.slop = float32(s.metrics.Gap) / 2
	b := newBuilder(u, s)
	macro := op.Record(&s.ops)
	paint.Fill(&s.ops, s.palette.Background)
	b.screen()
	s.page = macro.Stop()
	if s.bodyHeight > 0 {
		u.scrollBy(s, 0) // a smaller body has less to scroll
	}
	// A button that is gone forgets that it was pressed.
	for _, bt := range u.buttons {
		if bt.seq != b.stamp {
			bt.pressed, bt.focused = false, false
		}
	}
}

// draw replays the scene.
func (u *UI) draw(gtx layout.Context, now time.Time) {
	s, ops := u.scene, gtx.Ops
	defer clip.Rect{Max: s.key.size}.Push(ops).Pop()
	event.Op(ops, &u.rootTag)
	s.page.Add(ops)

	animating := u.moving(now)
	for i := range s.moving {
		m := &s.moving[i]
		if animating {
			t := float32(now.Sub(u.animStart)) / float32(insertTime)
			drawPicture(ops, s.palette, m.rect, m.pic, t)
		} else {
			m.still.Add(ops)
		}
	}
	if animating && len(s.moving) > 0 {
		gtx.Execute(op.InvalidateCmd{})
	}
	turn := float32(0)
	if len(s.spinners) > 0 && !u.cfg.ReducedMotion {
		turn = float32(now.UnixNano()%int64(spinPeriod)) / float32(spinPeriod)
		gtx.Execute(op.InvalidateCmd{At: now.Add(spinFrame)})
	}
	s.spin(ops, turn, false)
	if s.key.seconds > 0 {
		// The next frame is due when the number changes.
		gtx.Execute(op.InvalidateCmd{At: u.view.Deadline.Add(-time.Duration(s.key.seconds-1) * time.Second)})
	}

	if !s.bodyRect.Empty() {
		area := clip.Rect(s.bodyRect).Push(ops)
		if s.bodyHeight > s.bodyRect.Dy() {
			event.Op(ops, &u.bodyTag)
		}
		t := op.Offset(s.bodyRect.Min.Sub(image.Pt(0, int(u.scroll)))).Push(ops)
		s.body.Add(ops)
		s.spin(ops, turn, true)
		for _, b := range s.buttons {
			if b.inBody {
				b.draw(ops, s)
			}
		}
		t.Pop()
		area.Pop()
		u.drawTrack(ops, s)
	}
	for _, b := range s.buttons {
		if !b.inBody {
			b.draw(ops, s)
		}
	}
}

// spin draws the signs of running steps, those of the body or the others.
func (s *scene) spin(ops *op.Ops, turn float32, inBody bool) {
	for _, sp := range s.spinners {
		if sp.inBody == inBody {
			drawSpinner(ops, s.palette, sp.rect, turn)
		}
	}
}

// draw adds the button's place for input and meaning, and the signs of being pressed and focused.
func (b *button) draw(ops *op.Ops, s *scene) {
	area := clip.Rect(b.rect).Push(ops)
	event.Op(ops, b)
	semantic.Button.Add(ops)
	semantic.LabelOp(b.label).Add(ops)
	semantic.EnabledOp(true).Add(ops)
	area.Pop()
	if b.pressed && b.inside {
		shade := b.fg
		shade.A = 56
		paint.FillShape(ops, shade, clip.UniformRRect(b.rect, b.radius).Op(ops))
	}
	if b.focused {
		w := s.metrics.Thick
		outer := b.rect.Inset(-w)
		paint.FillShape(ops, s.palette.Ink, clip.Stroke{Path: clip.UniformRRect(outer, b.radius+w).Path(ops), Width: float32(w)}.Op())
	}
}

// drawTrack shows how much there is to scroll and where one is.
func (u *UI) drawTrack(ops *op.Ops, s *scene) {
	if s.track.Empty() {
		return
	}
	r := s.track
	paint.FillShape(ops, s.palette.Sunken, clip.UniformRRect(r, r.Dx()/2).Op(ops))
	h := max(r.Dx()*2, r.Dy()*s.bodyRect.Dy()/s.bodyHeight)
	room := float32(s.bodyHeight - s.bodyRect.Dy())
	y := r.Min.Y + int(u.scroll/room*float32(r.Dy()-h))
	thumb := image.Rect(r.Min.X, y, r.Max.X, y+h)
	paint.FillShape(ops, s.palette.Accent, clip.UniformRRect(thumb, r.Dx()/2).Op(ops))
}
