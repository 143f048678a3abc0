package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	simreader "ktradv/hw/sim/reader"
	"ktradv/kiosk/text"
	"ktradv/tests/demo/panel"
)

// Profile names a profile of the simulated reader.
func Profile(name string) simreader.Profile { return simreader.Profile(name) }

// Step is one line of steps.json.
type Step struct {
	Step string  `json:"step"`
	MS   float64 `json:"ms"`
	OK   bool    `json:"ok"`
}

// Client drives a control panel over HTTP, as any program could.
type Client struct {
	URL  string
	HTTP *http.Client
}

func (c *Client) do(ctx context.Context, method, path string, body any) ([]byte, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, r)
	if err != nil {
		return nil, err
	}
	h := c.HTTP
	if h == nil {
		h = http.DefaultClient
	}
	resp, err := h.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(b))
	}
	return b, nil
}

// State asks for GET /api/state.
func (c *Client) State(ctx context.Context) (s panel.State, err error) {
	b, err := c.do(ctx, http.MethodGet, "/api/state", nil)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

// Insert puts a persona's card in, Remove takes the card out.
func (c *Client) Insert(ctx context.Context, persona string) error {
	_, err := c.do(ctx, http.MethodPost, "/api/card", map[string]string{"persona": persona})
	return err
}

// Remove takes the card out.
func (c *Client) Remove(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodDelete, "/api/card", nil)
	return err
}

// PIN types digits and presses OK.
func (c *Client) PIN(ctx context.Context, digits string) error {
	if _, err := c.do(ctx, http.MethodPost, "/api/pad", map[string]string{"digits": digits}); err != nil {
		return err
	}
	return c.Key(ctx, "ok")
}

// Key presses ok, cancel or clear.
func (c *Client) Key(ctx context.Context, key string) error {
	_, err := c.do(ctx, http.MethodPost, "/api/pad", map[string]string{"key": key})
	return err
}

// Touch touches what carries the label.
func (c *Client) Touch(ctx context.Context, label string) error {
	_, err := c.do(ctx, http.MethodPost, "/api/touch", map[string]string{"label": label})
	return err
}

// Wait polls the state until it fulfils a condition.
func (c *Client) Wait(ctx context.Context, what string, ok func(panel.State) bool) error {
	for {
		s, err := c.State(ctx)
		if err == nil && ok(s) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: the terminal shows %q, the pad waits for %q", what, s.Screen, s.PadAwaiting)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Screen waits for a screen.
func (c *Client) Screen(ctx context.Context, screen string) error {
	return c.Wait(ctx, "screen "+screen, func(s panel.State) bool { return s.Screen == screen })
}

// Shot saves the screen as PNG.
func (c *Client) Shot(ctx context.Context, file string) error {
	b, err := c.do(ctx, http.MethodGet, "/api/screen.png", nil)
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o644)
}

// Play plays one visit: card in, PIN, data, end, card out. It prints each step with its time and leaves the screen
// shots and steps.json in dir. A step that fails ends the visit with an error; steps.json says which one.
func Play(ctx context.Context, url, dir string, w io.Writer) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	c := &Client{URL: url}
	var steps []Step
	shots := 0
	shot := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			shots++
			return c.Shot(ctx, filepath.Join(dir, fmt.Sprintf("%02d-%s.png", shots, name)))
		}
	}
	awaiting := func(what string) func(panel.State) bool {
		return func(s panel.State) bool { return s.PadAwaiting == what }
	}
	visit := []struct {
		name string
		do   func(context.Context) error
		shot string
	}{
		{name: "neutral screen", do: func(ctx context.Context) error { return c.Screen(ctx, "neutral") }, shot: "neutral"},
		{name: "card in, read and proved genuine", do: func(ctx context.Context) error {
			if err := c.Insert(ctx, "healthy-g21"); err != nil {
				return err
			}
			return c.Screen(ctx, "pin")
		}},
		{name: "reader asks for the PIN", do: func(ctx context.Context) error { return c.Wait(ctx, "the pad", awaiting("pin")) }, shot: "pin"},
		{name: "wrong PIN, tries left are told", do: func(ctx context.Context) error {
			if err := c.PIN(ctx, "654321"); err != nil {
				return err
			}
			return c.Screen(ctx, "pin_wrong")
		}, shot: "pin-wrong"},
		{name: "again", do: func(ctx context.Context) error {
			if err := c.Touch(ctx, labelPINAgain); err != nil {
				return err
			}
			return c.Wait(ctx, "the pad", awaiting("pin"))
		}},
		{name: "right PIN, server, card-to-card, validity", do: func(ctx context.Context) error {
			if err := c.PIN(ctx, "123456"); err != nil {
				return err
			}
			return c.Screen(ctx, "menu")
		}, shot: "menu"},
		{name: "insured person's data", do: func(ctx context.Context) error {
			if err := c.Touch(ctx, labelData); err != nil {
				return err
			}
			return c.Screen(ctx, "data")
		}, shot: "data"},
		{name: "end of session, card asked for", do: func(ctx context.Context) error {
			if err := c.Touch(ctx, labelEnd); err != nil {
				return err
			}
			return c.Screen(ctx, "take_card")
		}, shot: "take-card"},
		{name: "card out, neutral screen", do: func(ctx context.Context) error {
			if err := c.Remove(ctx); err != nil {
				return err
			}
			return c.Screen(ctx, "neutral")
		}, shot: "neutral-again"},
	}
	var failed error
	for _, v := range visit {
		sctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		start := time.Now()
		err := v.do(sctx)
		s := Step{Step: v.name, MS: float64(time.Since(start).Microseconds()) / 1000, OK: err == nil}
		if err == nil && v.shot != "" {
			err = shot(v.shot)(sctx)
			s.OK = err == nil
		}
		cancel()
		steps = append(steps, s)
		mark := "ok"
		if !s.OK {
			mark = "FAILED"
		}
		fmt.Fprintf(w, "  %-46s %8.1f ms  %s\n", s.Step, s.MS, mark)
		if err != nil {
			failed = fmt.Errorf("%s: %w", v.name, err)
			break
		}
	}
	b, err := json.MarshalIndent(steps, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "steps.json"), append(b, '\n'), 0o644); err != nil {
		return errors.Join(failed, err)
	}
	fmt.Fprintf(w, "  screen shots and steps.json: %s\n", dir)
	return failed
}

// label is the German text of a button, as it stands on the screen.
func label(id string) string {
	c, err := text.New(nil)
	if err != nil {
		return id // the catalogue is part of the program and held by its own tests
	}
	return c.Get(text.German, id, nil)
}

var (
	labelEnd      = label("button.end")
	labelPINAgain = label("button.pin_again")
	labelData     = label("TAB_ADV_473.ADV001.name")
)
