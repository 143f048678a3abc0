//go:build linux

// Command init is the first process of the display tests' virtual machine. It
// loads the kernel modules, gives the display card and the input devices to an
// ordinary user, and obeys commands from the serial line, one per line:
//
//	start ARGS     run components-demo as that user, its output on the serial line
//	stop           end it
//	status         its user, capabilities and resident memory
//	touchdev       make a touch screen with multi-touch (uinput), 1280x800
//	touch S ID X Y slot S of it: tracking id (-1: lifted) and position
//	sync           end of a report of the touch screen
//	poweroff
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const user = 1000

func main() {
	if err := run(); err != nil {
		fmt.Println("init: failed:", err)
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

type machine struct {
	out   sync.Mutex
	tty   *os.File
	demo  *exec.Cmd
	touch *os.File
}

func (m *machine) print(format string, a ...any) {
	m.out.Lock()
	defer m.out.Unlock()
	fmt.Fprintf(m.tty, format+"\n", a...)
}

func run() error {
	for _, f := range [][2]string{{"/dev", "devtmpfs"}, {"/proc", "proc"}, {"/sys", "sysfs"}} {
		if err := unix.Mount(f[1], f[0], f[1], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", f[0], err)
		}
	}
	tty, err := os.OpenFile("/dev/ttyS0", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	// Raw, so that commands are not echoed.
	t, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	t.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	t.Iflag &^= unix.ICRNL | unix.IXON
	if err := unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, t); err != nil {
		return err
	}
	m := &machine{tty: tty}
	if err := loadModules(); err != nil {
		return err
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat("/dev/dri/card0"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no display card")
		}
	}
	if err := giveDevices(); err != nil {
		return err
	}
	m.print("init: ready")
	in := bufio.NewScanner(tty)
	for in.Scan() {
		f := strings.Fields(in.Text())
		if len(f) == 0 {
			continue
		}
		if f[0] == "poweroff" {
			return nil
		}
		if err := m.command(f[0], f[1:]); err != nil {
			m.print("init: %s: %v", f[0], err)
		} else {
			m.print("init: %s done", f[0])
		}
	}
	return in.Err()
}

func loadModules() error {
	files, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	for _, name := range files { // in order: names begin with a number
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

// giveDevices makes the user the owner of the display card and all input
// devices, and of nothing else.
func giveDevices() error {
	nodes, err := filepath.Glob("/dev/input/event*")
	if err != nil {
		return err
	}
	for _, n := range append(nodes, "/dev/dri/card0") {
		if err := os.Chown(n, user, user); err != nil {
			return err
		}
		if err := os.Chmod(n, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) command(name string, args []string) error {
	switch name {
	case "start":
		return m.start(args)
	case "stop":
		if m.demo == nil {
			return fmt.Errorf("not running")
		}
		cmd := m.demo
		m.demo = nil
		if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
			return err
		}
		return cmd.Wait()
	case "status":
		return m.status()
	case "touchdev":
		return m.touchDevice()
	case "touch":
		var slot, id, x, y int32
		if _, err := fmt.Sscan(strings.Join(args, " "), &slot, &id, &x, &y); err != nil {
			return err
		}
		return m.input([3]int32{evAbs, absSlot, slot}, [3]int32{evAbs, absTracking, id}, [3]int32{evAbs, absMTX, x}, [3]int32{evAbs, absMTY, y})
	case "sync":
		return m.input([3]int32{0, 0, 0})
	}
	return fmt.Errorf("no such command")
}

func (m *machine) start(args []string) error {
	cmd := exec.Command("/demo", args...)
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	m.demo = cmd
	go m.relay(out)
	return nil
}

func (m *machine) relay(r io.Reader) {
	s := bufio.NewScanner(r)
	for s.Scan() {
		m.print("demo: %s", s.Text())
	}
	m.print("demo: output ended")
}

func (m *machine) status() error {
	if m.demo == nil {
		return fmt.Errorf("not running")
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.demo.Process.Pid))
	if err != nil {
		return err
	}
	var out []string
	for _, l := range strings.Split(string(b), "\n") {
		k, v, _ := strings.Cut(l, ":")
		switch k {
		case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapAmb", "VmRSS", "RssAnon", "VmHWM":
			out = append(out, k+"="+strings.Join(strings.Fields(v), ","))
		}
	}
	m.print("status: %s", strings.Join(out, " "))
	return nil
}

// Constants of linux/uinput.h and linux/input-event-codes.h.
const (
	evAbs       = 3
	absSlot     = 0x2f
	absMTX      = 0x35
	absMTY      = 0x36
	absTracking = 0x39
	btnTouch    = 0x14a
	propDirect  = 1

	uiSetEvBit  = 1<<30 | 4<<16 | 'U'<<8 | 100
	uiSetKeyBit = 1<<30 | 4<<16 | 'U'<<8 | 101
	uiSetAbsBit = 1<<30 | 4<<16 | 'U'<<8 | 103
	uiSetProp   = 1<<30 | 4<<16 | 'U'<<8 | 110
	uiAbsSetup  = 1<<30 | 28<<16 | 'U'<<8 | 4
	uiDevSetup  = 1<<30 | 92<<16 | 'U'<<8 | 3
	uiDevCreate = 'U'<<8 | 1
)

// touchDevice makes a touch screen and gives its node to the user.
func (m *machine) touchDevice() error {
	f, err := os.OpenFile("/dev/uinput", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for _, r := range [][2]uintptr{{uiSetEvBit, 1}, {uiSetEvBit, evAbs}, {uiSetKeyBit, btnTouch}, {uiSetAbsBit, absSlot}, {uiSetAbsBit, absTracking}, {uiSetAbsBit, absMTX}, {uiSetAbsBit, absMTY}, {uiSetProp, propDirect}} {
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), r[0], r[1]); e != 0 {
			return fmt.Errorf("describe the touch screen: %w", e)
		}
	}
	for _, a := range []struct {
		code uint16
		max  int32
	}{{absSlot, 9}, {absTracking, 65535}, {absMTX, 1280}, {absMTY, 800}} {
		s := struct {
			code                             uint16
			_                                uint16
			value, min, max, fuzz, flat, res int32
		}{code: a.code, max: a.max}
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uiAbsSetup, uintptr(unsafe.Pointer(&s))); e != 0 {
			return fmt.Errorf("describe axis %#x: %w", a.code, e)
		}
	}
	setup := make([]byte, 92)
	binary.NativeEndian.PutUint16(setup, 6) // BUS_VIRTUAL
	copy(setup[8:], "test touch screen")
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uiDevSetup, uintptr(unsafe.Pointer(&setup[0]))); e != 0 {
		return fmt.Errorf("set up the touch screen: %w", e)
	}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uiDevCreate, 0); e != 0 {
		return fmt.Errorf("create the touch screen: %w", e)
	}
	m.touch = f
	return giveDevices()
}

// input writes events to the touch screen.
func (m *machine) input(events ...[3]int32) error {
	if m.touch == nil {
		return fmt.Errorf("no touch screen")
	}
	var b bytes.Buffer
	for _, e := range events {
		b.Write(make([]byte, 16))
		binary.Write(&b, binary.NativeEndian, struct {
			Type, Code uint16
			Value      int32
		}{uint16(e[0]), uint16(e[1]), e[2]})
	}
	_, err := m.touch.Write(b.Bytes())
	return err
}
