//go:build linux

package boot

import (
	"context"
	"encoding/binary"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// ignoreSignals drops what could end or steer the first process: Ctrl-Alt-Del comes as SIGINT.
func ignoreSignals() {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE)
}

// struct input_event of linux/input.h on 64 bits: two times 8 octets of time, type, code, value.
const (
	inputEvent = 24
	evKey      = 1
	keyPower   = 116
)

// PowerPressed finds the power button's press among events read from its device. It reads whole events only.
func PowerPressed(b []byte) bool {
	for ; len(b) >= inputEvent; b = b[inputEvent:] {
		e := b[16:]
		if binary.NativeEndian.Uint16(e) == evKey && binary.NativeEndian.Uint16(e[2:]) == keyPower && binary.NativeEndian.Uint32(e[4:]) == 1 {
			return true
		}
	}
	return false
}

// watchPower ends the machine when the power button is pressed.
func (m *Machine) watchPower(ctx context.Context, ends chan<- command) {
	names, _ := filepath.Glob("/sys/class/input/event*/device/phys")
	for _, n := range names {
		b, err := os.ReadFile(n)
		// The ACPI button driver names them LNXPWRBN/button/input0 and PNP0C0C/button/input0.
		if err != nil || !strings.Contains(string(b), "/button/") {
			continue
		}
		f, err := os.OpenFile("/dev/input/"+filepath.Base(filepath.Dir(filepath.Dir(n))), os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		stop := context.AfterFunc(ctx, func() { f.Close() })
		go func() {
			defer stop()
			buf := make([]byte, 64*inputEvent)
			for {
				k, err := f.Read(buf)
				if err != nil {
					return
				}
				if PowerPressed(buf[:k]) {
					select {
					case ends <- powerOff:
					default: // it is ending already
					}
				}
			}
		}()
	}
}
