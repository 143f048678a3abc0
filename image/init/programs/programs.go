//go:build linux

// Package programs holds the services that adv-init brings itself: USB relay, network and clock. Each runs in its own
// process with its own sandbox, reads the terminal's configuration, and tells the first process what it found through
// sd_notify, in messages of its own (X_...).
package programs

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"ktradv/image/init/clock"
	"ktradv/image/init/network"
	"ktradv/image/init/release"
	"ktradv/image/init/sandbox"
	"ktradv/image/init/usb"
	"ktradv/internal/initctl"
	"ktradv/internal/terminal"
)

// Beat is how often each service says at least that it does not hang. A service that says so only from its own loop, and the
// kernel woken as seldom as that, do not keep an idle machine from sleeping.
const Beat = 20 * time.Second

// netDir is where the network leaves addresses of name and time servers.
const netDir = "/run/net"

// Run runs a service until SIGTERM.
func Run(name string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg, _ := terminal.Load(terminal.Path) // mistakes are the first process's to tell; defaults serve here
	switch name {
	case sandbox.USB:
		return relay(ctx, cfg)
	case sandbox.Network:
		ready()
		network.New(network.Config{
			Network: cfg.Network, Kernel: network.Linux{}, Dir: netDir,
			State: func(n initctl.Network) { say("NETWORK", string(n)) }, Alive: alive, Beat: Beat,
		}).Run(ctx)
		return nil
	case sandbox.Time:
		ready()
		clock.New(clock.Config{
			Servers: func() []string { return servers(cfg, netDir) }, Query: clock.Query, Clock: clock.System{}, Built: release.Built(release.File),
			MaxOffset: time.Duration(cfg.Time.MaxOffsetS) * time.Second,
			State:     func(c initctl.Clock) { say("CLOCK", string(c)) },
			Stepped:   func(ms int64) { say("STEPPED", fmt.Sprint(ms)) },
			Alive:     alive, Beat: Beat,
		}).Run(ctx)
		return nil
	}
	return fmt.Errorf("no service %q", name)
}

func ready()                { daemon.SdNotify(false, daemon.SdNotifyReady) }
func alive()                { daemon.SdNotify(false, daemon.SdNotifyWatchdog) }
func say(key, value string) { daemon.SdNotify(false, "X_"+key+"="+value) }

func relay(ctx context.Context, cfg terminal.Config) error {
	k, err := usb.OpenNetlink()
	if err != nil {
		return err
	}
	return usb.New(usb.Config{
		Policy: usb.NewPolicy(&cfg), Kernel: k,
		Count: func(readers, unsupported int) { say("READERS", fmt.Sprintf("%d/%d", readers, unsupported)) },
		Refused: func(d usb.Device, r usb.Reason) {
			say("REFUSED", fmt.Sprintf("%d:%d:%d", d.ID.Vendor, d.ID.Product, r))
		},
		Settled: ready, Alive: alive, Beat: Beat,
	}).Run(ctx)
}

// servers are the time servers of the configuration, else those of DHCP.
func servers(cfg terminal.Config, dir string) []string {
	if len(cfg.Time.Servers) > 0 {
		return cfg.Time.Servers
	}
	b, err := os.ReadFile(filepath.Join(dir, "ntp"))
	if err != nil || len(b) > 1024 {
		return nil
	}
	return strings.Fields(string(b))
}
