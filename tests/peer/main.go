// Command peer measures what the terminal's image is compared with: a kiosk of Debian, cage and Chromium (build.sh), in the
// same virtual machine as the terminal, from the start of the QEMU process to the first picture. It adds the figures to
// those of make bench-vm.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"ktradv/qemu/machine"
	"ktradv/tests/figures"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run() error {
	dir := flag.String("dir", filepath.Join("out", "peer"), "folder of the other kiosk")
	file := flag.String("o", filepath.Join("out", "bench-vm.json"), "file of the figures")
	n := flag.Int("n", 5, "how often to boot; the median counts")
	memory := flag.Int("memory", 1024, "memory of the machine in MB; this kiosk does not start with as little as the terminal")
	limit := flag.Duration("limit", 4*time.Minute, "how long one boot may take")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b, err := os.ReadFile(filepath.Join(*dir, "sizes"))
	if err != nil {
		return err
	}
	size, err := strconv.ParseFloat(strings.TrimSpace(string(b)), 64)
	if err != nil {
		return fmt.Errorf("read the size of the other kiosk: %w", err)
	}
	var times []float64
	for range *n {
		t, err := boot(ctx, *dir, *memory, *limit)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "peer: first picture after %.1f s\n", t.Seconds())
		times = append(times, t.Seconds())
	}
	slices.Sort(times)
	set := make(figures.Set)
	if b, err := os.ReadFile(*file); err == nil {
		if err := json.Unmarshal(b, &set); err != nil {
			return fmt.Errorf("read %s: %w", *file, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	set.Add("peer.chromium_image_bytes", size, "bytes", "")
	set.Add("peer.chromium_power_to_screen_s", times[len(times)/2], "s", "")
	set.Print(os.Stdout)
	return set.Write(*file)
}

// boot starts the machine and waits until the page's colour fills the screen.
func boot(ctx context.Context, dir string, memory int, limit time.Duration) (time.Duration, error) {
	tmp, err := os.MkdirTemp("", "peer")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(tmp)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	disk := filepath.Join(tmp, "root.img")
	// Every boot begins with the same disk.
	if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", "--reflink=auto", filepath.Join(dir, "root.img"), disk).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("copy the disk: %w: %s", err, out)
	}
	var msg bytes.Buffer
	start := time.Now()
	m, err := machine.Start(ctx, machine.Config{
		Dir: tmp, Kernel: filepath.Join(dir, "vmlinuz"), Initrd: filepath.Join(dir, "initrd.img"), Cmdline: "root=/dev/vda ro quiet loglevel=0 systemd.show_status=0 vt.global_cursor_default=0",
		Disks: []string{disk}, MemoryMB: memory, Network: true, Console: filepath.Join(tmp, "console"), Stderr: &msg,
	})
	if err != nil {
		return 0, err
	}
	defer m.Cut()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		if img, err := m.Screen(ctx); err == nil && shows(img) {
			return time.Since(start), nil
		}
		select {
		case <-tick.C:
		case <-m.Ended():
			return 0, fmt.Errorf("the machine has ended: %s", &msg)
		case <-ctx.Done():
			return 0, fmt.Errorf("no picture in %v", limit)
		}
	}
}

// shows says whether the page is on the screen: its colour in three of the four corners' neighbourhoods.
func shows(img *image.RGBA) bool {
	n := 0
	r := img.Bounds()
	for _, p := range []image.Point{{r.Dx() / 10, r.Dy() / 10}, {r.Dx() * 9 / 10, r.Dy() / 10}, {r.Dx() / 10, r.Dy() * 9 / 10}, {r.Dx() * 9 / 10, r.Dy() * 9 / 10}} {
		c := img.RGBAAt(r.Min.X+p.X, r.Min.Y+p.Y)
		if c.R < 16 && c.G > 0x90 && c.G < 0xb0 && c.B > 0x30 && c.B < 0x50 {
			n++
		}
	}
	return n >= 3
}
