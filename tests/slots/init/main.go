//go:build linux

// Command init is the first process of the slot tests. It writes the slot of its command line on the serial line. With
// slottest=trial it behaves as an update does, once: it tells the firmware about slot B, asks for it at the next start only,
// and restarts. Otherwise it powers the machine off after as many starts as slottest=N says.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"ktradv/image/disk"
)

const (
	vars   = "/sys/firmware/efi/efivars/"
	global = "-8be4df61-93ca-11d2-aa0d-00e098032b8c" // EFI_GLOBAL_VARIABLE
)

func main() {
	if err := run(); err != nil {
		say("failed: %v", err)
	}
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

var tty *os.File

func say(format string, args ...any) { fmt.Fprintf(tty, "slots: "+format+"\n", args...) }

func run() error {
	for _, f := range [][2]string{{"/dev", "devtmpfs"}, {"/proc", "proc"}, {"/sys", "sysfs"}} {
		if err := unix.Mount(f[1], f[0], f[1], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", f[0], err)
		}
	}
	var err error
	if tty, err = os.OpenFile("/dev/ttyS0", os.O_RDWR, 0); err != nil {
		return err
	}
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	option := func(name string) string {
		for _, w := range strings.Fields(string(b)) {
			if v, ok := strings.CutPrefix(w, name+"="); ok {
				return v
			}
		}
		return ""
	}
	slot := option("slottest.slot")
	say("running %s", slot)
	if option("slottest.trial") == "" {
		return nil
	}
	mods, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	for _, m := range mods {
		f, err := os.Open(m)
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
			return fmt.Errorf("load %s: %w", m, err)
		}
	}
	if err := unix.Mount("efivarfs", vars, "efivarfs", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", vars, err)
	}
	if slot == "a" {
		if _, err := os.Stat(vars + "Boot00AD" + global); err == nil { // slot B was tried before
			say("back in a")
			return nil
		}
		if err := set("Boot00AD", loadOption(disk.SlotB, 2)); err != nil {
			return err
		}
		if err := set("BootNext", []byte{0xad, 0}); err != nil {
			return err
		}
	}
	// Slot B does not confirm itself, as one that hangs or fails does not either.
	return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

// set writes a variable of the firmware: kept, and to be read at boot and later.
func set(name string, value []byte) error {
	if err := os.WriteFile(vars+name+global, append([]byte{7, 0, 0, 0}, value...), 0o644); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}

// loadOption is a boot entry (EFI_LOAD_OPTION) for the kernel image of a slot.
func loadOption(p disk.Partition, number uint32) []byte {
	u16 := func(s string) []byte {
		var b bytes.Buffer
		binary.Write(&b, binary.LittleEndian, utf16.Encode([]rune(s+"\x00")))
		return b.Bytes()
	}
	node := func(kind, sub byte, data []byte) []byte {
		return append(append([]byte{kind, sub}, binary.LittleEndian.AppendUint16(nil, uint16(4+len(data)))...), data...)
	}
	// A GUID on a disk has its first three parts in little endian.
	g, _ := hex.DecodeString(strings.ReplaceAll(p.GUID, "-", ""))
	g = []byte{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]}
	hd := binary.LittleEndian.AppendUint32(nil, number)
	hd = binary.LittleEndian.AppendUint64(hd, uint64(disk.Start(p)/512))
	hd = binary.LittleEndian.AppendUint64(hd, uint64(p.Size/512))
	hd = append(append(hd, g...), 2, 2) // GPT, named by GUID
	path := append(node(4, 1, hd), node(4, 4, u16(`\EFI\BOOT\BOOTX64.EFI`))...)
	path = append(path, node(0x7f, 0xff, nil)...)
	b := binary.LittleEndian.AppendUint32(nil, 1) // active
	b = binary.LittleEndian.AppendUint16(b, uint16(len(path)))
	return append(append(b, u16("slot B")...), path...)
}
