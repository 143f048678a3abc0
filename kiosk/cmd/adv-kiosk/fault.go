package main

import (
	"context"
	"fmt"
	"time"

	"gioui.org/cpurender"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"ktradv/internal/terminal"
	"ktradv/kiosk/app"
)

// faultFile shows the technician what the terminal's first process has left in a file. Of a configuration the first process
// knows the file itself; mistakes in what it names are added.
func faultFile(ctx context.Context, cfg terminal.Config, path string) error {
	f, err := terminal.LoadFault(path)
	if err != nil {
		// The screen must come up all the same.
		f = terminal.Fault{Cause: terminal.CauseKiosk, Problems: []terminal.Problem{{File: path, What: err.Error(), Fix: "read the log on the data partition"}}}
	}
	if f.Cause == terminal.CauseConfiguration {
		f.Problems = app.AllMistakes(cfg, f.Problems, time.Time{})
	}
	return showFault(ctx, cfg, f)
}

// faultDisplay is where a fault is shown: where the configuration says, but on the appliance on the terminal's own display,
// which is the only one that a technician sees.
func faultDisplay(d terminal.Display, appliance bool) terminal.Display {
	if appliance {
		d.Platform = "drm"
	}
	return d
}

// showFault opens the display, which it takes from what could be understood of the configuration, and shows a fault.
func showFault(ctx context.Context, cfg terminal.Config, f terminal.Fault) error {
	cfg.Display = faultDisplay(cfg.Display, onAppliance())
	display, err := openDisplay(cfg)
	if err != nil {
		return fmt.Errorf("display: %w", err)
	}
	defer display.Close()
	f.Facts = append([]terminal.Fact{{Name: "adv-kiosk", Value: app.Version}}, f.Facts...)
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.Facts = append(f.Facts, terminal.Fact{Name: "kernel", Value: unix.ByteSliceToString(u.Release[:])})
	}
	if d, ok := display.(interface{ Output() (string, bool) }); ok {
		if name, _ := d.Output(); name != "" { // one that comes later is of a size that is not known yet
			size := display.Size()
			f.Facts = append(f.Facts, terminal.Fact{Name: "display", Value: fmt.Sprintf("%s, %dx%d", name, size.X, size.Y)})
		}
	}
	return app.ShowFault(ctx, app.FaultConfig{
		Platform: display, Renderer: cpurender.New(cpurender.Options{}), Fault: f,
		Ready: func() { daemon.SdNotify(false, daemon.SdNotifyReady) },
		Alive: func() { daemon.SdNotify(false, daemon.SdNotifyWatchdog) },
	})
}
