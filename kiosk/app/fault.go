package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ktradv/internal/terminal"
	"ktradv/kiosk/loop"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/view"
)

// FaultConfig holds what the technician's screen needs.
type FaultConfig struct {
	Platform platform.Platform
	Renderer loop.Renderer
	Fault    terminal.Fault
	// Ready is called when the screen has been shown, Alive whenever its loop turned after having been asked, which it is
	// every few seconds. Nil is allowed.
	Ready, Alive func()
}

const (
	// faultsAPage go onto the smallest panel. Nobody can turn pages at a terminal whose touch screen may not be configured, so
	// they turn by themselves.
	faultsAPage   = 4
	faultPageTime = 15 * time.Second
	// faultAliveEvery is how often the loop of the technician's screen is asked for a sign of life.
	faultAliveEvery = 5 * time.Second
)

// ShowFault shows the technician why the terminal cannot serve, until ctx ends or the display does (nil). It needs no
// configuration, no card service and no server.
func ShowFault(ctx context.Context, cfg FaultConfig) error {
	screens, err := newUI(terminal.Config{})
	if err != nil {
		return err
	}
	s := &screen{ui: screens}
	lp, err := loop.New(loop.Config{Platform: cfg.Platform, Renderer: cfg.Renderer, Layout: s.layout, OnFrame: s.shown})
	if err != nil {
		return fmt.Errorf("drawing loop: %w", err)
	}
	s.loop = lp
	s.turn(func() {
		if cfg.Ready != nil {
			cfg.Ready()
		}
	})
	s.publish(faultPage(cfg.Fault, 0))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pages := time.NewTicker(faultPageTime)
	defer pages.Stop()
	alive := time.NewTicker(faultAliveEvery)
	defer alive.Stop()
	done := make(chan error, 1)
	go func() { done <- lp.Run(ctx) }()
	for page := 0; ; {
		select {
		case err := <-done:
			if errors.Is(err, ctx.Err()) {
				return nil
			}
			return err
		case <-alive.C:
			// A loop that hangs does not take this; its end shows above.
			_ = lp.Post(ctx, func() {
				if cfg.Alive != nil {
					cfg.Alive()
				}
			})
		case <-pages.C:
			if n := len(cfg.Fault.Problems); n > faultsAPage {
				page = (page + 1) % ((n + faultsAPage - 1) / faultsAPage)
				s.publish(faultPage(cfg.Fault, page))
			}
		}
	}
}

// faultPage is one page of the technician's screen.
func faultPage(f terminal.Fault, page int) view.View {
	first := min(page*faultsAPage, len(f.Problems))
	last := min(first+faultsAPage, len(f.Problems))
	return view.View{Screen: view.Fault, TriesLeft: -1, Fault: &view.FaultInfo{
		Cause: f.Cause, Problems: f.Problems[first:last], First: first, Total: len(f.Problems), Facts: f.Facts,
	}}
}
