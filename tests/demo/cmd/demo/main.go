// Command demo runs the whole system on this machine.
//
//	demo run             everything up, with the control panel, until Ctrl-C
//	demo vm              the production image in a virtual machine, with the control panel, until it is switched off
//	demo play -out DIR   plays one visit through the control panel's HTTP interface and leaves screen shots and steps
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"ktradv/tests/demo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("say run, vm or play")
	}
	if args[0] == "vm" {
		return vm(ctx, args[1:])
	}
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	addr := fs.String("panel", "127.0.0.1:8077", "address of the control panel (loopback only)")
	profile := fs.String("reader", "mct", "profile of the simulated reader: mct (shows the prescribed prompt) or ccid (shows its own text)")
	display := fs.String("display", "auto", "auto, memory or window")
	bin := fs.String("bin", "out/bin-demo", "folder for the programs")
	out := fs.String("out", "out/demo", "folder for what play leaves")
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	cfg := demo.Config{Panel: *addr, Profile: demo.Profile(*profile), Logs: true}
	if args[0] == "play" {
		*display, cfg.Panel = "memory", "127.0.0.1:0"
	}
	if cfg.Display = *display; *display == "auto" {
		cfg.Display = "memory"
		if os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != "" {
			cfg.Display = "window"
		}
	}
	binDir, err := filepath.Abs(*bin)
	if err != nil {
		return err
	}
	cfg.Bin = binDir
	fmt.Fprintln(os.Stderr, "building ...")
	if err := demo.Build(ctx, ".", binDir, cfg.Display == "window"); err != nil {
		return err
	}
	if cfg.Dir, err = os.MkdirTemp("", "ktradv-"); err != nil { // sockets need a short path
		return err
	}
	defer os.RemoveAll(cfg.Dir)
	fmt.Fprintln(os.Stderr, "starting reader, central services, server and kiosk ...")
	env, err := demo.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer env.Close()
	switch args[0] {
	case "run":
		fmt.Printf("\n  control panel: %s\n\n  Put a card into the reader there, type its PIN at the pad, and use the terminal.\n  Ctrl-C ends everything.\n\n", env.PanelURL)
		select {
		case <-ctx.Done():
			return nil
		case err := <-env.Died():
			return err
		}
	case "play":
		return demo.Play(ctx, env.PanelURL, *out, os.Stdout)
	}
	return fmt.Errorf("unknown command %q: say run, vm or play", args[0])
}
