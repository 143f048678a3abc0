//go:build demo

package main

import (
	"context"
	"fmt"
	"os"

	"ktradv/internal/terminal"
	"ktradv/kiosk/app"
	"ktradv/kiosk/demodoor"
	"ktradv/kiosk/platform"
)

func init() {
	newWatch = func(cfg terminal.Config, p platform.Platform) (platform.Platform, app.Watch) {
		d := demodoor.Wrap(p)
		return d, &watch{d, cfg.Door}
	}
}

// watch opens the door when it is this process's turn.
type watch struct {
	*demodoor.Door
	path string
}

func (w *watch) Turn(ctx context.Context) {
	go func() {
		if err := w.Serve(ctx, w.path); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "adv-kiosk:", err)
		}
	}()
}
