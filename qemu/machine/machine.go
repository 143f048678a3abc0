// Package machine runs a virtual machine and reaches everything around its guest, and nothing inside: power, disks, USB,
// network, clock, screen, memory, and the processor through the debug stub. It drives QEMU over its monitor protocol, so
// that a test of the production image needs no door in it.
//
// [Start] is the power switch. [Machine.Screen] sees the screen, [Machine.PowerButton] asks the guest to end, [Machine.Cut]
// pulls the mains plug, [Machine.Dump] copies the guest's memory, [Machine.Debug] stops the processor and looks at it.
package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Config describes a machine.
type Config struct {
	// Dir takes the sockets and scratch files. Its absolute path must be short.
	Dir string
	// Kernel, Initrd and Cmdline boot the kernel directly. Without Kernel the machine boots from its disks by the firmware.
	Kernel, Initrd, Cmdline string
	// Disks are raw disk images, the first one is booted from.
	Disks []string
	// Variables is the file of the firmware's variables, which a machine keeps while it is off; one that is not there is made
	// with none. "" is a machine that has never been on.
	Variables string
	// MemoryMB is the size of the memory; 0 is 512. CPUs 0 is 2.
	MemoryMB, CPUs int
	// Display is the display adapter with its options; "" is a virtio-vga of 1280 by 800.
	Display string
	// Window shows the display: gtk or sdl; "" shows it nowhere.
	Window string
	// USB are sockets of usbredir ports.
	USB []string
	// Devices are further devices, as QEMU's -device has them. USB ones go to the bus xhci.0.
	Devices []string
	// Network connects the guest with this machine, which it sees as 10.0.2.2. Its link can be cut: SetLink.
	Network bool
	// Clock is the time of the hardware clock at the start; the zero time is the present.
	Clock time.Time
	// Console is a file for what the guest says on its first serial line, or "stdio"; "" is no serial line.
	Console string
	// Reboot lets the guest restart itself; otherwise a restart ends the machine.
	Reboot bool
	// Debug opens the debug stub.
	Debug bool
	// Args are further arguments of QEMU.
	Args []string
	// Stdin is what the guest hears on its serial line, with Console "stdio"; Stdout what it says; Stderr what QEMU says.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// ErrMissing: a program is not installed.
var ErrMissing = errors.New("not installed")

// firmware are the places of the UEFI firmware's code and of its empty variables.
const (
	firmwareCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	firmwareVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// Machine is a running machine.
type Machine struct {
	*Monitor
	dir   string
	cmd   *exec.Cmd
	began time.Time
	ended chan struct{}
	err   error // once ended is closed
	shot  sync.Mutex
	size  int64 // of the memory in octets
}

// processor is everything that QEMU can emulate but fast string operations (ERMS, FSRM): a kernel that finds them wipes and
// copies memory with instructions that QEMU carries out octet by octet, eight times slower than the others.
const processor = "max,-erms,-fsrm"

// args is QEMU's command line.
func (c Config) args(qmp, debug, vars string) []string {
	memory, cpus := c.MemoryMB, c.CPUs
	if memory == 0 {
		memory = 512
	}
	if cpus == 0 {
		cpus = 2
	}
	display := c.Display
	if display == "" {
		display = "virtio-vga,xres=1280,yres=800"
	}
	a := []string{
		"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", processor, "-smp", strconv.Itoa(cpus), "-m", strconv.Itoa(memory),
		"-nodefaults", "-vga", "none", "-device", display,
		"-chardev", "socket,id=qmp,path=" + qmp + ",server=on,wait=off", "-mon", "chardev=qmp,mode=control",
		"-device", "qemu-xhci,id=xhci,p2=8,p3=8",
	}
	add := func(s ...string) { a = append(a, s...) }
	if !c.Reboot {
		add("-no-reboot")
	}
	if c.Window != "" {
		add("-display", c.Window)
	} else {
		add("-display", "none")
	}
	if c.Kernel != "" {
		add("-kernel", c.Kernel, "-initrd", c.Initrd, "-append", c.Cmdline)
	} else {
		add("-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+firmwareCode, "-drive", "if=pflash,format=raw,unit=1,file="+vars)
	}
	for i, d := range c.Disks {
		id := "disk" + strconv.Itoa(i)
		add("-drive", "if=none,format=raw,id="+id+",file="+d, "-device", "virtio-blk-pci,drive="+id+",bootindex="+strconv.Itoa(i+1))
	}
	for i, s := range c.USB {
		id := "usb" + strconv.Itoa(i)
		add("-chardev", "socket,id=c"+id+",path="+s, "-device", "usb-redir,bus=xhci.0,chardev=c"+id+",id="+id)
	}
	for _, d := range c.Devices {
		add("-device", d)
	}
	if c.Network {
		add("-netdev", "user,id=net,ipv6=off", "-device", "virtio-net-pci,netdev=net,id=nic,romfile=")
	} else {
		add("-nic", "none")
	}
	if !c.Clock.IsZero() {
		add("-rtc", "base="+c.Clock.UTC().Format("2006-01-02T15:04:05"))
	}
	switch c.Console {
	case "":
		add("-serial", "none")
	case "stdio":
		add("-serial", "stdio")
	default:
		add("-serial", "file:"+c.Console)
	}
	if c.Debug {
		add("-chardev", "socket,id=debug,path="+debug+",server=on,wait=off", "-gdb", "chardev:debug")
	}
	return append(a, c.Args...)
}

// variables finds the file of the firmware's variables, or makes it.
func (c Config) variables(dir string) (string, error) {
	name := c.Variables
	if name == "" {
		name = filepath.Join(dir, "vars.fd")
	} else if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return name, err
	}
	b, err := os.ReadFile(firmwareVars)
	if err != nil {
		return "", fmt.Errorf("firmware: %w (package ovmf): %w", ErrMissing, err)
	}
	return name, os.WriteFile(name, b, 0o600)
}

// Start switches the machine on. It ends when the context does.
func Start(ctx context.Context, cfg Config) (*Machine, error) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return nil, fmt.Errorf("start machine: qemu-system-x86_64: %w (package qemu-system-x86)", ErrMissing)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("start machine: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start machine: %w", err)
	}
	m := &Machine{dir: dir, ended: make(chan struct{})}
	qmp := filepath.Join(dir, "qmp")
	for _, s := range []string{qmp, m.debugSocket()} {
		os.Remove(s) // left over by a machine that was killed
	}
	vars := ""
	if cfg.Kernel == "" {
		if vars, err = cfg.variables(dir); err != nil {
			return nil, fmt.Errorf("start machine: %w", err)
		}
	}
	m.cmd = exec.Command(qemu, cfg.args(qmp, m.debugSocket(), vars)...)
	m.cmd.Stdin, m.cmd.Stdout, m.cmd.Stderr = cfg.Stdin, cfg.Stdout, cfg.Stderr
	if m.cmd.Stderr == nil {
		m.cmd.Stderr = os.Stderr
	}
	// Ctrl-C in a terminal is not the mains plug.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel looks at the thread that started the program
		defer runtime.UnlockOSThread()
		m.began = time.Now()
		err := m.cmd.Start()
		started <- err
		if err == nil {
			m.err = m.cmd.Wait()
			close(m.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start machine: %w", err)
	}
	context.AfterFunc(ctx, func() { m.cmd.Process.Kill() })
	conn, err := m.dial(ctx, qmp)
	if err == nil {
		m.Monitor, err = newMonitor(conn)
	}
	if err != nil {
		m.Cut()
		return nil, fmt.Errorf("start machine: %w", err)
	}
	if m.size, err = m.memorySize(ctx); err != nil {
		m.Cut()
		return nil, fmt.Errorf("start machine: %w", err)
	}
	return m, nil
}

func (m *Machine) debugSocket() string { return filepath.Join(m.dir, "debug") }

// dial connects to a socket that QEMU makes while it starts.
func (m *Machine) dial(ctx context.Context, path string) (net.Conn, error) {
	for {
		c, err := net.Dial("unix", path)
		if err == nil {
			return c, nil
		}
		select {
		case <-m.ended:
			return nil, fmt.Errorf("QEMU ended: %w", errors.Join(m.err, ErrEnded))
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (m *Machine) memorySize(ctx context.Context) (int64, error) {
	var s struct {
		Base int64 `json:"base-memory"`
	}
	b, err := m.Execute(ctx, "query-memory-size-summary", nil)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s.Base, err
}

// Began is when the machine was switched on: the start of its process.
func (m *Machine) Began() time.Time { return m.began }

// PID is the process of the machine.
func (m *Machine) PID() int { return m.cmd.Process.Pid }

// Ended is closed when the machine is off.
func (m *Machine) Ended() <-chan struct{} { return m.ended }

// Wait waits until the machine is off.
func (m *Machine) Wait(ctx context.Context) error {
	select {
	case <-m.ended:
		return m.err
	case <-ctx.Done():
		return fmt.Errorf("wait for the machine's end: %w", ctx.Err())
	}
}

// Cut pulls the mains plug. What the guest has not written to its disk is lost.
func (m *Machine) Cut() {
	m.cmd.Process.Kill()
	<-m.ended
}

// PowerButton presses the power button: the guest hears of it and may switch off.
func (m *Machine) PowerButton(ctx context.Context) error {
	_, err := m.Execute(ctx, "system_powerdown", nil)
	return err
}

// Screen is what the display shows now.
func (m *Machine) Screen(ctx context.Context) (*image.RGBA, error) {
	m.shot.Lock()
	defer m.shot.Unlock()
	name := filepath.Join(m.dir, "screen.ppm")
	if _, err := m.Execute(ctx, "screendump", map[string]any{"filename": name}); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("screen shot: %w", err)
	}
	return parsePPM(b)
}

// SetLink connects or cuts the network cable.
func (m *Machine) SetLink(ctx context.Context, up bool) error {
	_, err := m.Execute(ctx, "set_link", map[string]any{"name": "nic", "up": up})
	return err
}

// Plug plugs a device in, given as for -device; Unplug takes one out.
func (m *Machine) Plug(ctx context.Context, device string) error {
	driver, options, _ := strings.Cut(device, ",")
	args := map[string]any{"driver": driver}
	for o := range strings.SplitSeq(options, ",") {
		if k, v, ok := strings.Cut(o, "="); ok {
			args[k] = v
		}
	}
	_, err := m.Execute(ctx, "device_add", args)
	return err
}

// Unplug takes a device out.
func (m *Machine) Unplug(ctx context.Context, id string) error {
	_, err := m.Execute(ctx, "device_del", map[string]any{"id": id})
	return err
}

// Dump copies the guest's whole memory into a file. The guest stands still meanwhile, and goes on afterwards unless it stood
// before: at a breakpoint of the debug stub it stays.
func (m *Machine) Dump(ctx context.Context, file string) (err error) {
	if file, err = filepath.Abs(file); err != nil {
		return fmt.Errorf("dump memory: %w", err)
	}
	running, err := m.running(ctx)
	if err != nil {
		return fmt.Errorf("dump memory: %w", err)
	}
	if running {
		if _, err := m.Execute(ctx, "stop", nil); err != nil {
			return err
		}
		defer func() {
			_, cerr := m.Execute(context.WithoutCancel(ctx), "cont", nil)
			err = errors.Join(err, cerr)
		}()
	}
	_, err = m.Execute(ctx, "pmemsave", map[string]any{"val": 0, "size": m.size, "filename": file})
	return err
}

// running tells whether the guest's processors go.
func (m *Machine) running(ctx context.Context) (bool, error) {
	var s struct {
		Running bool `json:"running"`
	}
	b, err := m.Execute(ctx, "query-status", nil)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s.Running, err
}
