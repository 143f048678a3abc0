package visit

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"ktradv/hw/sim/persona"
	simreader "ktradv/hw/sim/reader"
	"ktradv/kiosk/session"
	"ktradv/kiosk/view"
)

// world is shared by all tests that need no world of their own.
var world *World

// server is the good server of that world.
var server *Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ktradv-visit-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if world, err = NewWorld(dir, time.Now()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer world.Close()
	if server, err = world.Serve(ServerConfig{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Close()
	return m.Run()
}

// rig is a terminal in a test. Its methods fail the test.
type rig struct {
	*Terminal
	t   testing.TB
	ctx context.Context
	tap *Tap
}

// patience is how long a rig waits for anything; far more than it takes, so that only what hangs runs into it.
const patience = 30 * time.Second

// dialer connects to s as the kiosk does.
func dialer(s *Server) func(context.Context) (session.Server, error) {
	return func(ctx context.Context) (session.Server, error) { return s.Dial(ctx) }
}

func newRig(t testing.TB, cfg TerminalConfig) *rig {
	t.Helper()
	return newRigIn(t, world, cfg)
}

func newRigIn(t testing.TB, w *World, cfg TerminalConfig) *rig {
	t.Helper()
	if cfg.Dial == nil {
		cfg.Dial = dialer(server)
	}
	return newPatientRig(t, w, cfg, patience)
}

// newPatientRig waits for everything as long as is said.
func newPatientRig(t testing.TB, w *World, cfg TerminalConfig, patience time.Duration) *rig {
	t.Helper()
	term, err := w.NewTerminal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(func() { cancel(); term.Close() })
	r := &rig{Terminal: term, t: t, ctx: ctx}
	r.screen(view.Neutral)
	return r
}

// tapped personalises a card and puts it under observation.
func tapped(t testing.TB, w *World, id string, change func(*persona.Persona), answer func(int, []byte) []byte) *Tap {
	t.Helper()
	c, err := w.Card(id, change)
	if err != nil {
		t.Fatal(err)
	}
	return NewTap(c, answer)
}

// insert puts the card of a persona in.
func (r *rig) insert(id string) *Tap {
	r.t.Helper()
	return r.insertTap(tapped(r.t, world, id, nil, nil))
}

func (r *rig) insertTap(tap *Tap) *Tap {
	r.tap = tap
	r.Reader.Insert(tap)
	return tap
}

// screen waits for a screen; a problem in its place fails the test at once.
func (r *rig) screen(want view.Screen) view.View {
	r.t.Helper()
	v := r.await("screen "+string(want), func(v view.View) bool { return v.Screen == want || v.Screen == view.Problem })
	if v.Screen != want {
		r.t.Fatalf("problem %s in place of the screen %s; screens %v", v.Problem.Code, want, r.Screens())
	}
	return v
}

func (r *rig) await(what string, ok func(view.View) bool) view.View {
	r.t.Helper()
	v, err := r.Await(r.ctx, ok)
	if err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
	return v
}

func (r *rig) enter(what, digits string) {
	r.t.Helper()
	if err := r.EnterPIN(r.ctx, what, digits); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) key(k simreader.Key) {
	r.t.Helper()
	if err := r.Reader.WaitAwaiting(r.ctx, "pin"); err != nil {
		r.t.Fatal(err)
	}
	if err := r.Reader.PressKey(k); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) outcome(n int) session.Outcome {
	r.t.Helper()
	out, err := r.AwaitOutcome(r.ctx, n)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// toMenu plays a start up to the menu.
func (r *rig) toMenu(id string) view.View {
	r.t.Helper()
	r.insert(id)
	return r.startToMenu()
}

func (r *rig) startToMenu() view.View {
	r.t.Helper()
	r.screen(view.PIN)
	r.enter("pin", persona.PIN)
	return r.screen(view.Menu)
}

// problem waits for the screen that explains a failure and checks the code.
func (r *rig) problem(code string) view.View {
	r.t.Helper()
	v := r.await("problem "+code, func(v view.View) bool { return v.Screen == view.Problem })
	if v.Problem == nil || v.Problem.Code != code {
		r.t.Fatalf("problem %+v; want %s", v.Problem, code)
	}
	return v
}

// leave takes the card and waits for the neutral screen of the next session.
func (r *rig) leave() {
	r.t.Helper()
	r.Reader.Remove()
	r.screen(view.Neutral)
}

// course checks the screens so far.
func (r *rig) course(want ...view.Screen) {
	r.t.Helper()
	if got := r.Screens(); !slices.Equal(got, want) {
		r.t.Errorf("screens %v\nwant    %v", got, want)
	}
}
