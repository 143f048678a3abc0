// Command adv-kiosk is the AdV-App of a KTR-AdV terminal: full screen, one visit after the other.
//
// Started with a configuration file it is the supervisor: it opens the display, starts the card service when it is told
// to, and runs one session process (itself, with the hidden argument "session") for each insured person.
//
//	adv-kiosk -config /etc/adv/terminal.json
//	adv-kiosk -config terminal.json -check   only read the configuration and everything it names
//	adv-kiosk -fault fault.json              only show the technician why the terminal cannot serve
//
// A terminal whose configuration has mistakes lists them on its screen.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"gioui.org/cpurender"

	"github.com/coreos/go-systemd/v22/daemon"

	"ktradv/internal/advlog"
	"ktradv/internal/terminal"
	"ktradv/internal/tlspolicy"
	"ktradv/kiosk/app"
	"ktradv/kiosk/control"
	"ktradv/kiosk/fonts"
	"ktradv/kiosk/platform"
	"ktradv/kiosk/platform/remote"
	"ktradv/kiosk/supervise"
)

// sessionArg makes this program a session process. It is not for people.
const sessionArg = "session"

// newWatch is set in builds with the tag demo: the door for the control panel.
var newWatch func(cfg terminal.Config, p platform.Platform) (platform.Platform, app.Watch)

func main() {
	path := flag.String("config", "/etc/adv-kiosk/terminal.json", "configuration `file`")
	check := flag.Bool("check", false, "only check the configuration and what it names")
	fault := flag.String("fault", "", "only show the technician the fault in this `file`")
	version := flag.Bool("version", false, "print the version")
	flag.Parse()
	if *version {
		fmt.Println("adv-kiosk", app.Version)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, *path, flag.Arg(0), *fault, *check)
	if err != nil && ctx.Err() == nil && !errors.Is(err, app.ErrSupervisorGone) {
		fmt.Fprintln(os.Stderr, "adv-kiosk:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, path, arg, fault string, check bool) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	cfg, problems := terminal.Load(path)
	appliance := onAppliance()
	if appliance {
		problems = append(problems, cfg.Appliance(path)...)
	}
	if fault != "" {
		return faultFile(ctx, cfg, fault)
	}
	if cfg.Door != "" && newWatch == nil {
		problems = append(problems, terminal.Problem{File: path, Key: "door", What: "this is a production build, it has no door", Fix: "remove it"})
	}
	if arg == sessionArg && len(problems) == 0 {
		return session(ctx, cfg) // its supervisor has checked the rest
	}
	switch {
	case check:
		return report(cfg, app.AllMistakes(cfg, problems, time.Now()))
	case arg == sessionArg:
		return &mistakes{problems}
	case arg != "":
		return fmt.Errorf("unknown argument %q", arg)
	}
	if len(problems) == 0 {
		err = supervisor(ctx, cfg, path)
	} else {
		err = &mistakes{app.AllMistakes(cfg, problems, time.Time{})}
	}
	var wrong *mistakes
	if errors.As(err, &wrong) && faultDisplay(cfg.Display, appliance).Platform == "drm" {
		fmt.Fprintln(os.Stderr, "adv-kiosk:", err)
		return showFault(ctx, cfg, terminal.Fault{Cause: terminal.CauseConfiguration, Problems: wrong.problems})
	}
	return err
}

// mistakes are the problems of a configuration as an error of several lines.
type mistakes struct{ problems []terminal.Problem }

func (m *mistakes) Error() string {
	lines := []string{"the configuration cannot be used:"}
	for _, p := range m.problems {
		lines = append(lines, "  "+p.String())
	}
	return strings.Join(lines, "\n")
}

// report prints what a check found: for a terminal without mistakes the digest that its configuration may hold.
func report(cfg terminal.Config, problems []terminal.Problem) error {
	if len(problems) > 0 {
		return &mistakes{problems}
	}
	store, err := tlspolicy.LoadTrustStore(cfg.Server.TrustStore, cfg.Server.TrustDigest)
	if err != nil {
		return err
	}
	fmt.Printf("server.trust_digest %s\n", store.Digest())
	return nil
}

func supervisor(ctx context.Context, cfg terminal.Config, path string) error {
	// Beside each other: the first picture waits for both.
	var m *machine
	var machineErr error
	var opening sync.WaitGroup
	opening.Go(func() { m, machineErr = openMachine(ctx, cfg) })
	display, err := openDisplay(cfg)
	opening.Wait()
	if err != nil {
		if m != nil {
			m.close()
		}
		return fmt.Errorf("display: %w", err)
	}
	defer display.Close()
	if machineErr != nil {
		return machineErr
	}
	var log *advlog.Log
	defer func() { log.Close() }()
	defer m.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	host := remote.NewHost(display, nil)
	conf := supervise.Config{
		Host: host, Cards: m.cards,
		OpenLog: func(ctx context.Context) (_ *advlog.Log, err error) {
			log, err = m.openLog(ctx, cfg.Log)
			return log, err
		},
		Command: func() *exec.Cmd {
			cmd := exec.Command(self, "-config", path, sessionArg)
			cmd.Stderr = os.Stderr
			cmd.Env = append(os.Environ(), "GOTRACEBACK=none") // no memory of a person in a crash report
			if cfg.Reader.Socket != "" {
				cmd.Env = append(cmd.Env, "PCSCLITE_CSOCK_NAME="+cfg.Reader.Socket)
			}
			return cmd
		},
		// Without an init system that asks for it these do nothing.
		Ready: func() { daemon.SdNotify(false, daemon.SdNotifyReady) },
		Alive: func() { daemon.SdNotify(false, daemon.SdNotifyWatchdog) },
	}
	if m.client != nil {
		conf.Service, conf.Free, conf.Slot = m.staff, m.free, m.setSlot
	}
	sup, err := supervise.New(conf)
	if err != nil {
		return err
	}
	// What the configuration names is checked beside the first session, so that the first picture does not wait for it. The
	// clock may not be set yet: dates are left to the sessions.
	go func() {
		if problems := app.Check(cfg, time.Time{}); len(problems) > 0 {
			cancel(&mistakes{problems})
		}
	}()
	go func() {
		if err := host.Run(ctx); err != nil {
			err = fmt.Errorf("display: %w", err)
			cancel(err)
		} else {
			cancel(errClosed) // the window was closed: an orderly end
		}
	}()
	if err := sup.Run(ctx); !errors.Is(err, errClosed) {
		return err
	}
	return nil
}

var errClosed = errors.New("display closed")

func session(ctx context.Context, cfg terminal.Config) error {
	go fonts.Default() // takes longest; meanwhile the rest is set up
	debug.SetGCPercent(400)
	if err := undumpable(); err != nil {
		return err
	}
	client, err := remote.NewClient(os.NewFile(supervise.DisplayFD, "display"), nil)
	if err != nil {
		return fmt.Errorf("session process: not started by the supervisor: %w", err)
	}
	defer client.Close()
	// The start makes garbage and must be quick, in a memory that is small; the visit holds personal data, and the less garbage
	// lies around the better. Above the limit, two pictures and what else is needed, garbage is collected even at the start.
	size := client.Size()
	limit := debug.SetMemoryLimit(16<<20 + 2*4*int64(size.X)*int64(size.Y))
	time.AfterFunc(5*time.Second, func() { debug.SetGCPercent(50); debug.SetMemoryLimit(limit); debug.FreeOSMemory() })
	conn, err := fileConn(supervise.ControlFD, "control")
	if err != nil {
		return fmt.Errorf("session process: not started by the supervisor: %w", err)
	}
	defer conn.Close()
	var shown platform.Platform = client
	var watch app.Watch
	if cfg.Door != "" {
		shown, watch = newWatch(cfg, shown)
	}
	r := cpurender.New(cpurender.Options{})
	return app.Run(ctx, app.Config{
		Kiosk: cfg, Platform: shown, Renderer: r, Control: control.New(conn), Alive: client.Alive, Watch: watch,
		OpenReader: openReader(cfg),
	})
}
