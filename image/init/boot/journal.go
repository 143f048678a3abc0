//go:build linux

package boot

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ktradv/image/init/sandbox"
	"ktradv/image/init/service"
	"ktradv/internal/advlog"
	"ktradv/internal/initctl"
	"ktradv/internal/terminal"
)

// Codes of the error log of adv-init.
var (
	codeConfig  = advlog.NewCode(12001, "TERMINAL-CONFIGURATION-WRONG")
	codeModule  = advlog.NewCode(12002, "KERNEL-MODULE-NOT-LOADED")
	codeData    = advlog.NewCode(12003, "DATA-PARTITION-NOT-USABLE")
	codeDisplay = advlog.NewCode(12004, "NO-DISPLAY")
	codeService = advlog.NewCode(12005, "SERVICE-FAILED")
	codeStuck   = advlog.NewCode(12006, "SERVICE-CANNOT-BE-KILLED")
	codeReboot  = advlog.NewCode(12007, "KIOSK-GIVEN-UP-REBOOT")
	codeKiosk   = advlog.NewCode(12008, "KIOSK-GIVEN-UP")
	codeClock   = advlog.NewCode(12009, "CLOCK-WRONG")
	codeNetwork = advlog.NewCode(12010, "NETWORK-LOST")
	codeSetup   = advlog.NewCode(12011, "SET-UP-STEP-FAILED")
)

// Steps of the time line: name "boot.STEP" in the performance log, duration since the kernel's time 0.
var (
	stepInit     = advlog.L("boot.init")
	stepConfig   = advlog.L("boot.config")
	stepSettings = advlog.L("boot.settings")
	stepControl  = advlog.L("boot.control")
	stepModules  = advlog.L("boot.modules")
	stepDisplay  = advlog.L("boot.display")
	stepData     = advlog.L("boot.data")
	stepServices = advlog.L("boot.services")
	stepSealed   = advlog.L("boot.sealed")
	stepStopping = advlog.L("stop.begin")
	stepStopped  = advlog.L("stop.services")
)

var serviceSteps = map[string]advlog.Label{
	sandbox.Kiosk: advlog.L("boot.kiosk"), sandbox.PCSCD: advlog.L("boot.pcscd"), sandbox.USB: advlog.L("boot.usb"),
	sandbox.Network: advlog.L("boot.network"), sandbox.Time: advlog.L("boot.time"),
}

var serviceLabels = map[string]advlog.Label{
	sandbox.Kiosk: advlog.L("service.kiosk"), sandbox.PCSCD: advlog.L("service.pcscd"), sandbox.USB: advlog.L("service.usb"),
	sandbox.Network: advlog.L("service.network"), sandbox.Time: advlog.L("service.time"),
}

// journal writes the logs of adv-init. Until the data partition is there, entries wait in memory (maxWaiting).
type journal struct {
	console *os.File // nil unless adv.console=1

	mu      sync.Mutex
	log     *advlog.Log
	opened  bool
	waiting []func(*advlog.Log)
}

const maxWaiting = 256

// consoleFlag on the kernel's command line makes adv-init talk on the console: for developers.
const consoleFlag = "adv.console=1"

func newJournal(cmdline []string) *journal {
	j := &journal{}
	if slices.Contains(cmdline, consoleFlag) {
		if f, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0); err == nil {
			j.console = f
		}
	}
	return j
}

// sinceKernel is the time since the kernel's time 0.
func sinceKernel() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func (j *journal) print(format string, a ...any) {
	if j.console != nil {
		fmt.Fprintf(j.console, "adv-init: %8.3f %s\n", sinceKernel().Seconds(), fmt.Sprintf(format, a...))
	}
}

// do gives f the log, now or when it is open.
func (j *journal) do(f func(*advlog.Log)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.opened:
		f(j.log)
	case len(j.waiting) < maxWaiting:
		j.waiting = append(j.waiting, f)
	}
}

// open opens the log files and writes what has waited.
func (j *journal) open(dir string, c terminal.Log) {
	log, err := advlog.Open(advlog.Config{Dir: dir, Component: advlog.Init, Enabled: c.Enabled, Level: c.Severity(), MaxBytes: c.Bytes(advlog.Init)})
	if err != nil {
		j.print("log: %v", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log, j.opened = log, true
	for _, f := range j.waiting {
		f(log)
	}
	j.waiting = nil
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log.Close()
	j.log = nil
}

func (j *journal) perf(name advlog.Label) {
	since := sinceKernel()
	at := time.Now()
	j.do(func(l *advlog.Log) {
		l.Perf(context.Background(), advlog.PerfEvent{Name: name, Start: at.Add(-since), Duration: since})
	})
}

// step is a point of the time line.
func (j *journal) step(s advlog.Label) {
	j.print("%s", s)
	j.perf(s)
}

// service notes that a service serves for the first time.
func (j *journal) service(name string) {
	j.print("%s is ready", name)
	j.perf(serviceSteps[name])
}

// problem notes that a step went wrong; nil is none. The words go to the console only: a log holds no free text.
func (j *journal) problem(s advlog.Label, err error) {
	if err == nil {
		return
	}
	j.print("%s: %v", s, err)
	j.do(func(l *advlog.Log) {
		l.Error(context.Background(), advlog.ErrorEvent{Code: codeSetup, Severity: advlog.Warning, Name: s, Result: advlog.ResultTolerated})
	})
}

// failure notes something that the state shows, too.
func (j *journal) failure(code advlog.Code, n int) {
	j.print("%s (%d)", code, n)
	j.do(func(l *advlog.Log) {
		l.Error(context.Background(), advlog.ErrorEvent{Code: code, Severity: advlog.Error, Name: advlog.L("terminal"), Result: advlog.ResultTolerated, Values: []advlog.Value{advlog.Int("count", int64(n))}})
	})
}

// modules notes each kernel module that did not load, by its name if it is one of the image's.
func (j *journal) modules(failed, image []string) {
	j.print("modules that did not load: %v", failed)
	j.do(func(l *advlog.Log) {
		for _, m := range failed {
			l.Error(context.Background(), advlog.ErrorEvent{Code: codeModule, Severity: advlog.Error, Name: advlog.L("terminal"), Result: advlog.ResultTolerated, Values: []advlog.Value{advlog.Module(m, image)}})
		}
	})
}

// replaced notes that a service's process was replaced and why.
func (j *journal) replaced(name string, c service.Cause, exit int) {
	j.print("%s: %s (%d)", name, c, exit)
	why := advlog.OneOf(string(c), "exit", "not-ready", "watchdog", "asked", "start", "stuck")
	values := []advlog.Value{advlog.Word("cause", why), advlog.Int("exit", int64(exit))}
	now := time.Now()
	j.do(func(l *advlog.Log) {
		if c == service.CauseAsked {
			l.Flow(context.Background(), advlog.FlowEvent{Name: serviceLabels[name], Start: now, End: now, Result: advlog.ResultOK, Values: values})
			return
		}
		code := codeService
		if c == service.CauseStuck {
			code = codeStuck
		}
		l.Error(context.Background(), advlog.ErrorEvent{Code: code, Severity: advlog.Error, Name: serviceLabels[name], Result: advlog.ResultFailed, Values: values})
	})
}

// refused is a security event: a USB device that was not let in.
func (j *journal) refused(vendor, product, reason int) {
	j.print("usb: refused %04X:%04X, reason %d", vendor, product, reason)
	j.do(func(l *advlog.Log) {
		l.Security(context.Background(), advlog.SecurityEvent{Name: advlog.L("usb.refused"), Severity: advlog.Warning, Result: advlog.ResultRefused, Values: []advlog.Value{
			advlog.Int("vendor", int64(vendor)), advlog.Int("product", int64(product)), advlog.Int("reason", int64(reason)),
		}})
	})
}

func (j *journal) network(n initctl.Network) {
	j.print("network is %s", n)
	now := time.Now()
	j.do(func(l *advlog.Log) {
		l.Flow(context.Background(), advlog.FlowEvent{Name: advlog.L("network.state"), Start: now, End: now, Result: advlog.ResultOK, Values: []advlog.Value{
			advlog.Word("state", advlog.OneOf(string(n), "down", "no-address", "up")),
		}})
	})
}

func (j *journal) clock(c initctl.Clock) {
	j.print("clock is %s", c)
	j.do(func(l *advlog.Log) {
		sev, result := advlog.Info, advlog.ResultOK
		var code advlog.Code
		if c == initctl.ClockWrong {
			sev, result, code = advlog.Error, advlog.ResultFailed, codeClock
		}
		l.Security(context.Background(), advlog.SecurityEvent{Name: advlog.L("clock.state"), Severity: sev, Result: result, Code: code, Values: []advlog.Value{
			advlog.Word("state", advlog.OneOf(string(c), "ok", "unset", "wrong")),
		}})
	})
}

// stepped is a security event: the time that certificates are judged by jumped.
func (j *journal) stepped(ms int64) {
	j.print("clock set by %d ms", ms)
	j.do(func(l *advlog.Log) {
		l.Security(context.Background(), advlog.SecurityEvent{Name: advlog.L("clock.set"), Result: advlog.ResultOK, Values: []advlog.Value{advlog.Int("offset_ms", ms)}})
	})
}
