package visit

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ktradv/hw/apdu"
	"ktradv/hw/c2c"
	"ktradv/hw/sim/persona"
	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/redact"
	"ktradv/internal/req"
	"ktradv/kiosk/serverlink"
	"ktradv/kiosk/session"
	"ktradv/kiosk/view"
	"ktradv/server/api"
)

// The tests of this file run in a bubble of their own time: an hour takes a moment, and times are exact. Sockets do not
// work there, so the server is the product's card-to-card without the network between.

// local is the server's side of a session in the terminal's own process.
type local struct {
	world  *World
	closed atomic.Bool
}

// Unlock implements session.Server.
func (l *local) Unlock(ctx context.Context, s serverlink.Start, run serverlink.Run) (serverlink.Actor, error) {
	id, err := l.world.Identities.Lookup(ctx, s.IK)
	if err != nil {
		return serverlink.Actor{}, &serverlink.Refused{Code: api.FailureCode_FAILURE_CODE_IDENTITY_UNAVAILABLE}
	}
	u, err := c2c.NewUnlock(ctx, c2c.Config{Identity: id, CardCVC: s.AUTCVC, CardCACVC: s.CACVC, Roots: l.world.Roots, Now: l.world.PKI.Now()})
	if err != nil {
		return serverlink.Actor{}, err
	}
	var responses []apdu.Response
	for {
		b, done, err := u.Next(ctx, responses)
		if err != nil {
			return serverlink.Actor{}, err
		}
		if done {
			n, err := redact.NewICCSN(InsurerICCSN)
			return serverlink.Actor{Name: InsurerName, ICCSN: n}, err
		}
		var batch []serverlink.Command
		for _, c := range b.Commands {
			batch = append(batch, serverlink.Command{APDU: c.APDU, Expected: c.Expected})
		}
		if responses, err = run(ctx, batch); err != nil {
			return serverlink.Actor{}, err
		}
	}
}

// CheckCertificate implements session.Server.
func (l *local) CheckCertificate(context.Context, []byte) (serverlink.Validity, error) {
	return serverlink.Validity{MathValid: true, TimeValid: true, Online: api.OnlineStatus_ONLINE_STATUS_GOOD}, nil
}

// Gone implements session.Server: this server stays.
func (*local) Gone() <-chan struct{} { return nil }

// Abort implements session.Server.
func (*local) Abort(api.AbortCode) {}

// Close implements session.Server.
func (l *local) Close() error {
	l.closed.Store(true)
	return nil
}

// bubble runs a test in its own time, with a terminal that has just become neutral.
func bubble(t *testing.T, change func(*session.Config), play func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		srv := &local{world: world}
		r := newPatientRig(t, world, TerminalConfig{
			Dial: func(context.Context) (session.Server, error) { return srv, nil },
			Change: func(c *session.Config) {
				c.Now = func() time.Time { return world.PKI.Now().Add(time.Since(start)) }
				if change != nil {
					change(c)
				}
			},
		}, 24*time.Hour)
		play(t, r)
		sound(t, r.Views())
	})
}

// after waits for a screen that comes exactly so long after the time from.
func (r *rig) after(from time.Time, d time.Duration, want view.Screen) view.View {
	r.t.Helper()
	v := r.await("screen "+string(want), func(view.View) bool { return true })
	if v.Screen != want {
		r.t.Fatalf("screen %q after %v; want %q after %v", v.Screen, time.Since(from), want, d)
	}
	if got := time.Since(from); got != d {
		r.t.Errorf("%s after %v; want %v", want, got, d)
	}
	return v
}

func touch(r *rig) { r.Handle(view.Event{Kind: view.Touched}) }

func TestIdleCountdownAndEnd(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2410", "AdV-A_2568", "AdV-A_2449", "AdV-A_2450")
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.toMenu("healthy-g21")
		from := time.Now()
		v := r.after(from, 4*time.Minute, view.Idle)
		if !v.Deadline.Equal(from.Add(5*time.Minute)) || !v.CanEnd {
			t.Errorf("countdown to %v after the last activity", v.Deadline.Sub(from))
		}
		if v = r.await("problem", func(v view.View) bool { return v.Screen == view.Problem }); v.Problem.Code != "IDLE-TIMEOUT" {
			t.Errorf("problem %+v", v.Problem)
		}
		if d := time.Since(from); d != 5*time.Minute {
			t.Errorf("ended after %v; want 5 minutes", d)
		}
		if !wasReset(r.tap.Exchanges()) || r.tap.PINVerified() || r.tap.Unlocked() {
			t.Error("the card was not reset")
		}
		r.leave()
	})
}

func TestContinueRestartsIdleTime(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2410", "AdV-A_2568")
	for name, act := range map[string]func(*rig){
		"continue": func(r *rig) { r.Choose(view.ChoiceContinue) },
		"touch":    touch,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, nil, func(t *testing.T, r *rig) {
				r.toMenu("healthy-g21")
				from := time.Now()
				for range 3 {
					r.after(from, 4*time.Minute, view.Idle)
					time.Sleep(59 * time.Second) // the last second counts
					act(r)
					from = time.Now()
					r.after(from, 0, view.Menu)
				}
				r.after(from, 4*time.Minute, view.Idle)
				r.problem("IDLE-TIMEOUT")
				if d := time.Since(from); d != 5*time.Minute {
					t.Errorf("ended after %v; want 5 minutes", d)
				}
			})
		})
	}
}

// Any activity restarts the time, before the countdown too; nothing else does.
func TestActivityRestartsIdleTime(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2410")
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.toMenu("healthy-g21")
		for range 10 {
			time.Sleep(3 * time.Minute)
			touch(r)
		}
		from := time.Now()
		r.after(from, 4*time.Minute, view.Idle)
		r.Choose(view.ChoiceEnd) // by the countdown's own button
		r.screen(view.TakeCard)
		if d := time.Since(from); d != 4*time.Minute {
			t.Errorf("ended after %v", d)
		}
		r.leave()
	})
}

// The times can be lowered and not be raised.
func TestIdleTimesAreBounded(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2410")
	for name, c := range map[string]struct{ warn, end, wantWarn, wantEnd time.Duration }{
		"lower":            {time.Minute, 2 * time.Minute, time.Minute, 2 * time.Minute},
		"higher":           {time.Hour, 2 * time.Hour, 4 * time.Minute, 5 * time.Minute},
		"warning too late": {4 * time.Minute, 2 * time.Minute, 96 * time.Second, 2 * time.Minute},
		"negative":         {-1, -1, 4 * time.Minute, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(s *session.Config) { s.IdleWarn, s.IdleEnd = c.warn, c.end }, func(t *testing.T, r *rig) {
				r.toMenu("healthy-g21")
				from := time.Now()
				r.after(from, c.wantWarn, view.Idle)
				r.problem("IDLE-TIMEOUT")
				if d := time.Since(from); d != c.wantEnd {
					t.Errorf("ended after %v; want %v", d, c.wantEnd)
				}
			})
		})
	}
}

// Personal data are hidden after a minute and come back with one touch; the countdown comes all the same.
func TestBlanking(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2410")
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.toMenu("healthy-g21")
		r.Choose("vsd.show")
		data := r.screen(view.Data)
		from := time.Now()
		for range 2 {
			v := r.after(from, time.Minute, view.Blanked)
			if len(v.Data) != 0 || v.Personal {
				t.Error("the blanked screen holds data")
			}
			time.Sleep(time.Minute)
			touch(r)
			from = time.Now()
			if v := r.after(from, 0, view.Data); len(v.Data) != len(data.Data) {
				t.Error("the data did not come back")
			}
		}
		r.after(from, time.Minute, view.Blanked)
		r.after(from, 4*time.Minute, view.Idle)
		r.problem("IDLE-TIMEOUT")
		if d := time.Since(from); d != 5*time.Minute {
			t.Errorf("ended after %v", d)
		}
		r.leave()
	})
}

// A press on a blanked screen wakes it and does nothing else.
func TestPressWakesOnly(t *testing.T) {
	t.Parallel()
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.toMenu("healthy-g21")
		r.Choose("vsd.show")
		r.screen(view.Data)
		from := time.Now()
		r.after(from, time.Minute, view.Blanked)
		r.Choose(view.ChoiceBack)
		r.after(from, time.Minute, view.Data)
		r.Choose(view.ChoiceBack)
		r.screen(view.Menu)
	})
}

// Time-out and cancel at the pad cost no try and can be tried again.
func TestPadTimeoutAndCancel(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2444")
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.insert("healthy-g21")
		r.screen(view.PIN)
		from := time.Now()
		v := r.after(from, 45*time.Second, view.PINWrong)
		if v.Problem.Code != "PIN-TIMEOUT" || !v.Problem.CanRetry || v.TriesLeft != 3 {
			t.Errorf("view %+v, problem %+v", v, v.Problem)
		}
		r.Choose(view.ChoiceRetry)
		r.screen(view.PIN)
		r.key(simreader.KeyCancel)
		if v := r.screen(view.PINWrong); v.Problem.Code != "PIN-CANCELLED" || !v.Problem.CanRetry || v.TriesLeft != 3 {
			t.Errorf("view %+v, problem %+v", v, v.Problem)
		}
		r.Choose(view.ChoiceRetry)
		r.screen(view.PIN)
		r.enter("pin", "12345") // one digit too few
		if v := r.screen(view.PINWrong); v.Problem.Code != "PIN-LENGTH" || v.TriesLeft != 3 {
			t.Errorf("view %+v, problem %+v", v, v.Problem)
		}
		r.Choose(view.ChoiceRetry)
		r.startToMenu()
		for _, e := range r.tap.Exchanges() {
			if e.Command[1] == 0x20 && e.Command[0] == 0 && e.Response[0] != 0x90 {
				t.Error("the card saw a PIN that was not entered")
			}
		}
	})
}

// Time-out, cancel and two different new PINs at the PUK can be tried again, too.
func TestPadAtPUK(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2444")
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.insert("pin-blocked")
		r.screen(view.PINBlocked)
		r.Choose(view.ChoicePUKKnown)
		r.screen(view.PUK)
		from := time.Now()
		if v := r.after(from, 45*time.Second, view.PINWrong); v.Problem.Code != "PIN-TIMEOUT" || !v.Problem.CanRetry {
			t.Errorf("problem %+v", v.Problem)
		}
		r.Choose(view.ChoiceRetry)
		r.screen(view.PUK)
		r.enter("old", persona.PUK)
		r.enter("new", "111111")
		r.enter("repeat", "222222")
		if v := r.screen(view.PINWrong); v.Problem.Code != "PIN-MISMATCH" || !v.Problem.CanRetry {
			t.Errorf("problem %+v", v.Problem)
		}
		r.Choose(view.ChoiceRetry)
		r.screen(view.PUK)
		r.enter("old", persona.PUK)
		r.enter("new", "111111")
		r.enter("repeat", "111111")
		r.screen(view.PIN)
		r.enter("pin", "111111")
		r.screen(view.Menu)
	})
}

// A session that waits for an answer at the wrong PIN ends after five minutes, too.
func TestIdleAtTheWrongPIN(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2410")
	bubble(t, nil, func(t *testing.T, r *rig) {
		r.insert("healthy-g21")
		r.screen(view.PIN)
		r.enter("pin", oneWrong)
		r.screen(view.PINWrong)
		from := time.Now()
		r.after(from, 4*time.Minute, view.Idle)
		r.problem("IDLE-TIMEOUT")
		if d := time.Since(from); d != 5*time.Minute {
			t.Errorf("ended after %v", d)
		}
	})
}

// Foreign, mute and wrongly inserted cards are told within a second, with a reader that takes as long for each command as
// real ones do.
func TestToldWithinASecond(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2444")
	for id, code := range map[string]string{
		"not-an-egk": "CARD-NOT-EGK", "mute": "CARD-MUTE", "wrong-way": "CARD-MUTE", "foreign-root": "CARD-NOT-AUTHENTIC",
		"copied-card": "CARD-NOT-AUTHENTIC",
	} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			bubble(t, nil, func(t *testing.T, r *rig) {
				r.Reader.SetFailures(simreader.Failures{Delay: 40 * time.Millisecond})
				from := time.Now()
				r.insert(id)
				r.after(from, 0, view.Reading) // seen before the first command
				r.problem(code)
				if d := time.Since(from); d > time.Second {
					t.Errorf("told after %v", d)
				}
				r.leave()
			})
		})
	}
}

// Under a clock that is years behind no card can be checked, and the person is not told that the card is a copy; the right
// clock takes the card (the twin).
func TestClockBehind(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2444")
	for _, behind := range []bool{true, false} {
		now := time.Now
		if behind {
			now = func() time.Time { return time.Now().AddDate(-9, 0, 0) }
		}
		r := newRig(t, TerminalConfig{Change: func(c *session.Config) { c.Now = now }})
		r.insert("healthy-g21")
		if behind {
			r.problem("TERMINAL-CLOCK")
			r.leave()
		} else {
			r.screen(view.PIN)
		}
	}
}

// An explanation goes when its card goes; when the card is gone already, after a while; and when nobody cares, after a
// minute, so that the terminal does not stand still.
func TestExplanationsEnd(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2450")
	t.Run("card taken", func(t *testing.T) {
		t.Parallel()
		bubble(t, nil, func(t *testing.T, r *rig) {
			r.insert("copied-card")
			r.problem("CARD-NOT-AUTHENTIC")
			time.Sleep(30 * time.Second)
			from := time.Now()
			r.Reader.Remove()
			r.after(from, 0, view.Neutral)
		})
	})
	t.Run("card left", func(t *testing.T) {
		t.Parallel()
		bubble(t, nil, func(t *testing.T, r *rig) {
			r.insert("copied-card")
			r.problem("CARD-NOT-AUTHENTIC")
			from := time.Now()
			r.screen(view.TakeCard)
			if d := time.Since(from); d < time.Minute || d > time.Minute+time.Second {
				t.Errorf("after %v", d)
			}
			r.leave()
		})
	})
	t.Run("card pulled", func(t *testing.T) {
		t.Parallel()
		bubble(t, nil, func(t *testing.T, r *rig) {
			r.insert("healthy-g21")
			r.screen(view.PIN)
			r.Reader.Remove()
			r.problem("CARD-REMOVED")
			from := time.Now()
			r.after(from, 12*time.Second, view.Neutral)
		})
	})
}

// A hundred presses that nothing waits for do no harm and answer no later question.
func TestStrayPresses(t *testing.T) {
	t.Parallel()
	bubble(t, nil, func(t *testing.T, r *rig) {
		for i := range 100 {
			r.Choose([]string{view.ChoiceRetry, view.ChoicePUKUnknown, view.ChoiceBack, "vsd.show", "nothing"}[i%5])
		}
		r.insert("pin-blocked")
		r.screen(view.PINBlocked)
		for range 100 {
			r.Choose("vsd.show")
		}
		synctest.Wait()
		if s := r.Screens(); s[len(s)-1] != view.PINBlocked {
			t.Errorf("screens %v", s)
		}
		r.Choose(view.ChoicePUKUnknown)
		r.problem("PUK-UNKNOWN")
		r.leave()
	})
}

// Without a reader the terminal says so, and serves again as soon as it is back (no restart).
func TestReaderUnpluggedAndBack(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2444", "AdV-A_2450")
	t.Run("at rest", func(t *testing.T) {
		t.Parallel()
		bubble(t, nil, func(t *testing.T, r *rig) {
			for range 3 {
				r.Reader.Unplug()
				if v := r.screen(view.OutOfOrder); v.Problem.Code != "READER-GONE" {
					t.Errorf("problem %+v", v.Problem)
				}
				time.Sleep(time.Hour)
				r.Reader.Plug()
				r.screen(view.Neutral)
			}
			r.toMenu("healthy-g21")
		})
	})
	for _, at := range []view.Screen{view.PIN, view.PINWrong, view.Menu, view.Data} {
		t.Run(fmt.Sprintf("at %s", at), func(t *testing.T) {
			t.Parallel()
			bubble(t, nil, func(t *testing.T, r *rig) {
				r.insert("healthy-g21")
				v := r.screen(view.PIN)
				if at == view.PINWrong {
					r.enter("pin", oneWrong)
					v = r.screen(view.PINWrong)
				}
				if at == view.Menu || at == view.Data {
					r.enter("pin", persona.PIN)
					v = r.screen(view.Menu)
				}
				if at == view.Data {
					r.Choose("vsd.show")
					v = r.screen(view.Data)
				}
				if v.Screen != at {
					t.Fatalf("screen %s", v.Screen)
				}
				from := time.Now()
				r.Reader.Unplug()
				v = r.await("problem", func(v view.View) bool { return v.Screen != view.Ending })
				if v.Screen != view.Problem || v.Problem.Code != "READER-GONE" || time.Since(from) != 0 {
					t.Errorf("after %v: %+v, problem %+v", time.Since(from), v, v.Problem)
				}
				r.screen(view.OutOfOrder)
				r.Reader.Remove()
				r.Reader.Plug()
				r.screen(view.Neutral)
				if !slices.Contains(r.Screens(), at) {
					t.Errorf("screens %v", r.Screens())
				}
				r.toMenu("healthy-g2")
			})
		})
	}
}
