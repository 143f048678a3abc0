package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"ktradv/qemu/machine"
	"ktradv/tests/demo/appliance"
)

// vm boots the production image with everything around it, and serves the control panel.
func vm(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("vm", flag.ContinueOnError)
	addr := fs.String("panel", "127.0.0.1:8077", "address of the control panel (loopback only)")
	real := fs.String("reader", "", "host:VVVV:PPPP takes a reader of this machine in place of the simulated one")
	window := fs.String("window", "auto", "gtk, sdl, none, or auto")
	uki := fs.Bool("uki", false, "boot the disk by the UEFI firmware, not the kernel directly")
	console := fs.Bool("console", false, "show what the guest's first process says (the command line gets adv.console=1)")
	out := fs.String("out", filepath.Join("out", "vm"), "folder for overlay, image and disk; the disk keeps its logs")
	if err := fs.Parse(args); err != nil {
		return err
	}
	o := appliance.Options{UKI: *uki}
	if *real != "" {
		m := regexp.MustCompile(`^host:([0-9A-Fa-f]{4}:[0-9A-Fa-f]{4})$`).FindStringSubmatch(*real)
		if m == nil {
			return fmt.Errorf("reader %q: say host:VVVV:PPPP, the numbers that lsusb shows", *real)
		}
		o.Real = m[1]
	}
	if *window == "auto" {
		*window = "none"
		if os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != "" {
			*window = "gtk"
		}
	}
	o.Change = func(c *machine.Config) {
		if *window != "none" { // a mouse click in the window is a touch
			c.Window = *window
			c.Devices = append(c.Devices, "virtio-tablet-pci")
		}
		if *console {
			c.Console, c.Stdout = "stdio", os.Stdout
			c.Cmdline += " console=ttyS0 adv.console=1"
		}
		c.Reboot = true
	}
	dir, err := os.MkdirTemp("", "ktradv-") // sockets need a short path
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(os.Stderr, "building the image, starting central services and server ...")
	cfg := appliance.Config{Root: ".", Out: *out, Dir: dir, Panel: *addr}
	if *window != "none" {
		cfg.Modules = []string{"virtio_input"}
	}
	w, err := appliance.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer w.Close()
	o.Disk = filepath.Join(*out, "disk.img")
	if err := appliance.CopySparse(o.Disk, w.Image.Disk); err != nil {
		return err
	}
	t, err := w.Start(context.WithoutCancel(ctx), o)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := w.ServePanel(t); err != nil {
		return err
	}
	fmt.Printf("\n  control panel: %s\n\n  The screen is that of the virtual machine; touch it there or in the machine's window.\n  Ctrl-C presses the power button.\n\n", w.PanelURL)
	select {
	case <-t.Ended():
		return nil
	case err := <-w.Died():
		return err
	case <-ctx.Done():
	}
	off, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	if err := t.PowerButton(off); err != nil {
		return err
	}
	return t.Wait(off)
}
