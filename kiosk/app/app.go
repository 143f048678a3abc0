// Package app puts a session process of the kiosk together: display, screens, session, reader and server.
//
// Start with [Run]. A session process sets itself up, says that it is ready, draws the neutral screen into its own
// memory and waits for its turn; then it serves one insured person and returns, and the process ends.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gioui.org/layout"
	"golang.org/x/sys/unix"

	"ktradv/hw/apdu"
	"ktradv/hw/cvc"
	"ktradv/hw/reader"
	"ktradv/internal/advlog"
	"ktradv/internal/terminal"
	"ktradv/internal/tlspolicy"
	"ktradv/kiosk/control"
	"ktradv/kiosk/design"
	"ktradv/kiosk/fonts"
	"ktradv/kiosk/loop"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/serverlink"
	"ktradv/kiosk/service"
	"ktradv/kiosk/session"
	"ktradv/kiosk/text"
	"ktradv/kiosk/ui"
	"ktradv/kiosk/view"
)

// Version of the app, told to the server and to the technician.
const Version = "0.1.0"

// Config holds what a session process gets from outside.
type Config struct {
	// Kiosk is the configuration file, with absolute paths.
	Kiosk terminal.Config
	// Platform is the display, shared with the supervisor.
	Platform platform.Platform
	// Renderer draws operation lists.
	Renderer loop.Renderer
	// OpenReader opens the card reader; called when it is this process's turn.
	OpenReader func() (reader.Reader, error)
	// Control is the conversation with the supervisor.
	Control *control.Conn
	// Alive is called when the drawing loop turned and the card loop answers: the sign of life for the supervisor.
	Alive func()
	// Watch sees the loop before it runs and every view once it is shown: the demo's door. Nil in production.
	Watch Watch
}

// Watch looks at a session process from outside.
type Watch interface {
	SetLoop(*loop.Loop)
	SetView(view.View)
	// Turn is called when it is this process's turn and it has something to show.
	Turn(ctx context.Context)
}

// ErrSupervisorGone: the supervisor ended, and with it the display. The session process ends without a word.
var ErrSupervisorGone = errors.New("the supervisor is gone")

// Run serves one insured person. It returns when the visit is over.
func Run(ctx context.Context, cfg Config) error {
	last := control.Message{Kind: control.Ended, Reason: control.Broken}
	err := run(ctx, cfg, &last)
	if sendErr := cfg.Control.Send(last); sendErr != nil && err == nil {
		err = sendErr
	}
	return err
}

func run(ctx context.Context, cfg Config, last *control.Message) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	k := cfg.Kiosk
	// Beside the first picture, which needs none of it. Old entries leave the log when it is opened, which may take a while.
	trusted := make(chan trust, 1)
	go func() { trusted <- loadTrust(k) }()
	opened := sync.OnceValues(func() (*advlog.Log, error) { return OpenLog(k.Log, advlog.App) })
	go opened()
	defer func() { l, _ := opened(); l.Close() }()

	screens, err := newUI(k)
	if err != nil {
		return err
	}
	s := &screen{ui: screens, watch: cfg.Watch}
	cards := &cardLoop{}
	lp, err := loop.New(loop.Config{
		Platform: cfg.Platform, Renderer: cfg.Renderer, Layout: s.layout, OnFrame: s.shown,
		Alive: func() {
			if cfg.Alive != nil && cards.alive() {
				cfg.Alive()
			}
		},
	})
	if err != nil {
		return fmt.Errorf("drawing loop: %w", err)
	}
	s.loop = lp
	if cfg.Watch != nil {
		cfg.Watch.SetLoop(lp)
	}
	s.publish(view.View{Screen: view.Neutral})

	loopDone := make(chan error, 1)
	go func() { loopDone <- lp.Run(ctx) }()
	go func() {
		switch err := <-loopDone; {
		case ctx.Err() != nil:
		case err == nil:
			cancel(ErrSupervisorGone)
		default:
			cancel(fmt.Errorf("drawing loop: %w", err))
		}
	}()

	trust := <-trusted
	if trust.err != nil {
		return trust.err
	}
	if err := cfg.Control.Send(control.Message{Kind: control.Ready}); err != nil {
		return err
	}
	heard := listen(cfg.Control, s)
	turn, err := hear(ctx, heard.activate, heard.ended)
	if err != nil {
		return fmt.Errorf("wait for the turn: %w", err)
	}
	s.turn(func() {
		if cfg.Watch != nil {
			cfg.Watch.Turn(ctx)
		}
		if err := cfg.Control.Send(control.Message{Kind: control.Visible}); err != nil {
			cancel(err)
		}
	})
	// What is known of the slot is shown before there is a reader.
	switch turn.Slot {
	case control.SlotCard:
		s.publish(view.View{Screen: view.TakeCard, TriesLeft: -1})
	case control.SlotFirst, control.SlotEmpty, control.SlotNew:
		s.publish(view.View{Screen: view.Neutral, TriesLeft: -1})
	}
	if turn.Wait {
		if err := waitForWord(ctx, heard, s, turn.Slot == control.SlotUnknown || turn.Slot == control.SlotFirst); err != nil {
			return fmt.Errorf("wait for card service and logs: %w", err)
		}
	}
	log, err := opened()
	if err != nil { // its place was not there yet
		log, err = OpenLog(k.Log, advlog.App)
		defer func() { log.Close() }()
	}
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	rd, err := openReader(ctx, cfg.OpenReader, s)
	if err != nil {
		return err
	}
	defer rd.Close()
	cards.watch(rd)

	say := func(kind control.Kind) func() {
		return func() {
			if err := cfg.Control.Send(control.Message{Kind: kind}); err != nil {
				cancel(err)
			}
		}
	}
	end, warn, blank := k.Idle.Durations()
	visit, err := session.New(session.Config{
		Slot: rd, Roots: trust.roots, TerminalID: k.Terminal(), Publish: s.publish, Log: log, Version: Version,
		NewCard: turn.Slot == control.SlotEmpty || turn.Slot == control.SlotNew, First: turn.Slot == control.SlotFirst,
		Free: func(ctx context.Context) bool {
			m, err := hear(ctx, heard.free, heard.ended)
			return err == nil && m.Slot == control.SlotEmpty
		},
		Dial: func(ctx context.Context) (session.Server, error) {
			return serverlink.Dial(ctx, serverlink.Config{Address: k.Server.Address, TLS: trust.tls})
		},
		Begins: say(control.Visit), Empty: say(control.Empty), CardServiceHung: say(control.Hung),
		IdleEnd: end, IdleWarn: warn, Blank: blank,
	})
	if err != nil {
		return err
	}
	s.handle(visit.Handle)
	out := visit.Run(ctx)
	if !out.Served {
		return out.Err
	}
	last.Reason, last.Slot = control.Served, slots[out.Slot]
	// What the person saw last stays until the next process is shown; it holds nothing personal.
	fctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer stop()
	if err := lp.Settle(fctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("last frame: %w", err)
	}
	return log.Flush(fctx)
}

// OpenLog opens the log of one of the kiosk's processes as the configuration says. Where the file system is at fault (full,
// damaged, read-only since an error) there is no log, which is no error: the terminal serves all the same, and its first
// process tells the staff about the data partition.
func OpenLog(c terminal.Log, component advlog.Component) (*advlog.Log, error) {
	log, err := advlog.Open(LogConfig(c, component))
	if isMediumFault(err) {
		return nil, nil
	}
	return log, err
}

// LogConfig is the log of one of the kiosk's processes as the configuration wants it.
func LogConfig(c terminal.Log, component advlog.Component) advlog.Config {
	return advlog.Config{Dir: c.Dir, Component: component, Enabled: c.Enabled, TestMode: c.Test, Level: c.Severity(), MaxBytes: c.Bytes(component)}
}

// isMediumFault tells faults of a file system from mistakes in the configuration.
func isMediumFault(err error) bool {
	return slices.ContainsFunc([]error{unix.EROFS, unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EUCLEAN}, func(e error) bool { return errors.Is(err, e) })
}

// trust is what a session believes in.
type trust struct {
	roots cvc.Roots
	tls   *tls.Config
	err   error
}

// loadTrust reads the pinned roots of the cards and the server's certificates.
func loadTrust(k terminal.Config) (t trust) {
	if t.roots, t.err = cvc.ReadRoots(os.DirFS(k.CardRoots), "."); t.err != nil {
		t.err = fmt.Errorf("card roots: %w", t.err)
		return t
	}
	store, err := tlspolicy.LoadTrustStore(k.Server.TrustStore, k.Server.TrustDigest)
	if err != nil {
		t.err = fmt.Errorf("trust store: %w", err)
		return t
	}
	host, _, err := net.SplitHostPort(k.Server.Address)
	if err != nil {
		t.err = fmt.Errorf("server address: %w", err)
		return t
	}
	if t.tls, t.err = tlspolicy.ClientConfig(store, host, nil); t.err != nil {
		t.err = fmt.Errorf("tls policy: %w", t.err)
	}
	return t
}

// slots gives a session's last words about the slot to the next one.
var slots = map[session.SlotState]control.Slot{
	session.SlotEmpty: control.SlotEmpty, session.SlotCard: control.SlotCard, session.SlotNew: control.SlotNew,
}

// words are what the supervisor says, by what they are for.
type words struct {
	activate, cards, free chan control.Message
	ended                 chan error // why nothing more comes
}

// listen takes what the supervisor says until the end.
func listen(c *control.Conn, s *screen) words {
	w := words{make(chan control.Message, 1), make(chan control.Message, 1), make(chan control.Message, 1), make(chan error, 1)}
	go func() {
		w.ended <- func() error {
			for {
				m, err := c.Receive()
				if err != nil {
					return err
				}
				to := w.activate
				switch m.Kind {
				case control.Service:
					s.service(m.Codes)
					continue
				case control.Cards:
					to = w.cards
				case control.Free:
					to = w.free
				case control.Activate:
				default:
					return fmt.Errorf("%w: %s from the supervisor", control.ErrProtocol, m.Kind)
				}
				select {
				case to <- m:
				default:
					return fmt.Errorf("%w: %s twice", control.ErrProtocol, m.Kind)
				}
			}
		}()
	}()
	return w
}

// hear waits for one word of the supervisor; a supervisor that is gone ends the process.
func hear(ctx context.Context, word <-chan control.Message, ended <-chan error) (control.Message, error) {
	select {
	case m := <-word:
		return m, nil
	case err := <-ended:
		return control.Message{}, err
	case <-ctx.Done():
		return control.Message{}, context.Cause(ctx)
	}
}

// waitForWord waits until the supervisor says that the card service is there, and at first the place of the logs. A terminal
// that does not know what is in its slot asks for no card meanwhile: the picture of before stands for a moment, then it says
// that it still starts: nobody knows anything about the reader yet.
func waitForWord(ctx context.Context, heard words, s *screen, unknown bool) error {
	const moment = 2 * time.Second
	soon, cancel := context.WithTimeout(ctx, moment)
	_, err := hear(soon, heard.cards, heard.ended)
	late := soon.Err() != nil && ctx.Err() == nil
	cancel()
	if err == nil || !late {
		return err
	}
	if unknown {
		s.publish(session.OutOfOrder(codeStarting))
	}
	_, err = hear(ctx, heard.cards, heard.ended)
	return err
}

// cardLoop knows whether what watches the reader still turns.
type cardLoop struct{ reader atomic.Pointer[func() bool] }

// watch asks rd from now on, if it can tell.
func (c *cardLoop) watch(rd reader.Reader) {
	if l, ok := rd.(interface{ Alive() bool }); ok {
		ask := l.Alive
		c.reader.Store(&ask)
	}
}

func (c *cardLoop) alive() bool {
	ask := c.reader.Load()
	return ask == nil || (*ask)()
}

// Codes of a terminal that is out of order: it can reach no reader, or it is not known yet whether it can.
const (
	codeReaderGone = "READER-GONE"
	codeStarting   = "TERMINAL-STARTING"
)

// openReader opens the reader; while it cannot be reached the terminal says that it is out of order.
func openReader(ctx context.Context, open func() (reader.Reader, error), s *screen) (reader.Reader, error) {
	for {
		rd, err := open()
		if err == nil {
			return rd, nil
		}
		if !errors.Is(err, apdu.ErrReaderGone) {
			return nil, fmt.Errorf("open reader: %w", err)
		}
		s.publish(session.OutOfOrder(codeReaderGone))
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// newUI makes the screens in the insurer's look.
func newUI(k terminal.Config) (*ui.UI, error) {
	tokens, catalog, err := look(k)
	if err != nil {
		return nil, err
	}
	return ui.New(ui.Config{Shaper: fonts.Default().Shaper(), Catalog: catalog, Tokens: tokens}), nil
}

// look loads the insurer's design over the product's own.
func look(k terminal.Config) (*design.Tokens, *text.Catalog, error) {
	tokens := design.Default()
	if k.Design != "" {
		var err error
		if tokens, err = design.LoadOverlay(os.DirFS(k.Design)); err != nil {
			return nil, nil, fmt.Errorf("design %s: %w", k.Design, err)
		}
	}
	catalog, err := text.New(tokens.Texts)
	if err != nil {
		return nil, nil, fmt.Errorf("texts: %w", err)
	}
	return tokens, catalog, nil
}

// screen connects the session, which publishes from its own goroutine, with the UI, which belongs to the loop.
type screen struct {
	ui    *ui.UI
	loop  *loop.Loop
	watch Watch

	mu      sync.Mutex
	codes   []string   // how the terminal is, for the staff
	last    *view.View // published last
	pending *view.View
	visible func() // called when the next view has been drawn
	give    func(view.Event)

	// The loop's goroutine only:
	current *view.View // what the UI shows
	drawn   *view.View // laid out in this frame
	after   func()     // to be called when it is on the display
}

func (s *screen) publish(v view.View) {
	s.mu.Lock()
	s.last, s.pending = &v, s.staffed(v)
	s.mu.Unlock()
	s.loop.Invalidate()
}

// service takes new codes for the staff; a view that shows them is shown anew.
func (s *screen) service(codes []string) {
	s.mu.Lock()
	same := slices.Equal(s.codes, codes)
	s.codes = codes
	again := !same && s.last != nil && forStaff(*s.last)
	if again {
		s.pending = s.staffed(*s.last)
	}
	s.mu.Unlock()
	if again {
		s.loop.Invalidate()
	}
}

// sameNeutral tells that two views are the same neutral screen.
func sameNeutral(a, b *view.View) bool {
	return a != nil && a.Screen == view.Neutral && b.Screen == view.Neutral && slices.Equal(a.Service, b.Service)
}

// forStaff tells whether a view shows how the terminal is: nobody is served then.
func forStaff(v view.View) bool { return v.Screen == view.Neutral || v.Screen == view.OutOfOrder }

// staffed gives a view the codes for the staff. A terminal without a usable reader says why, where the first process
// knows better than the card service; s.mu is held.
func (s *screen) staffed(v view.View) *view.View {
	if !forStaff(v) {
		return &v
	}
	if v.Screen == view.OutOfOrder && v.Problem != nil && v.Problem.Code == codeReaderGone && slices.Contains(s.codes, service.ReaderUnsupported) {
		v = session.OutOfOrder(service.ReaderUnsupported)
	}
	v.Service = slices.DeleteFunc(slices.Clone(s.codes), func(c string) bool { return v.Problem != nil && c == v.Problem.Code })
	return &v
}

// turn has f called when the first view from now on is on the display.
func (s *screen) turn(f func()) {
	s.mu.Lock()
	s.pending, s.visible = nil, f
	s.mu.Unlock()
}

func (s *screen) handle(give func(view.Event)) { s.mu.Lock(); s.give = give; s.mu.Unlock() }

func (s *screen) layout(gtx layout.Context) {
	s.mu.Lock()
	if s.pending != nil {
		if !sameNeutral(s.current, s.pending) { // composed before its turn, and not once more
			s.ui.SetView(*s.pending)
		}
		s.drawn, s.current, s.pending = s.pending, s.pending, nil
		s.after, s.visible = s.visible, nil
	}
	give := s.give
	s.mu.Unlock()
	s.ui.Layout(gtx)
	for _, ev := range s.ui.Events() {
		if give != nil {
			give(ev)
		}
	}
}

// shown tells the demo's door what is on the display now.
func (s *screen) shown(loop.Frame) {
	if s.drawn != nil && s.watch != nil {
		s.watch.SetView(*s.drawn)
	}
	s.drawn = nil
	if s.after != nil {
		s.after()
		s.after = nil
	}
}
