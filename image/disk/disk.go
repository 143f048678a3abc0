// Package disk makes the disk of a terminal: a GPT with two slots and a data partition.
//
// Each slot is an EFI system partition of its own that holds nothing but one unified kernel image, at the path where the
// firmware looks by itself (EFI/BOOT/BOOTX64.EFI). So an update never writes to the file system of the slot that runs,
// and there is no boot loader between firmware and kernel. How a slot is chosen:
//
//   - A firmware that knows nothing of the disk tries the partitions in their order: slot A, and slot B where A holds
//     nothing that starts.
//   - A firmware with boot entries for both (by partition GUID, see [SlotA]) follows its BootOrder. To try a slot once, it is
//     named in the variable BootNext, which the firmware forgets before it starts it: if the machine comes up again without
//     having changed BootOrder, it boots what it booted before.
//
// The firmware of OVMF looks at an image's head only. A new image therefore has to be written under another name, read
// back, and renamed when all of it is on the disk.
//
// Everything about the disk is fixed or derived from its content: the same content gives the same bytes.
package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Partition is a place on the disk.
type Partition struct {
	Name   string // GPT name
	GUID   string // of this partition
	kind   string // GUID of the type
	Size   int64  // bytes
	volume string // serial number of the file system
}

const (
	mib      = 1 << 20
	kindESP  = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	kindData = "0FC63DAF-8483-4772-8E79-3D69D8477DE4" // Linux file system
)

// The partitions, in their order on the disk. The first begins at 1 MiB, each other one behind the one before. The data
// partition holds everything that the logs may ever occupy (terminal.Log.Bytes) beside the largest reserve: a terminal that
// is well never fills it.
var (
	SlotA = Partition{"adv-slot-a", "6B1E6B4E-6F36-4B7C-9B0C-0A5D1A0C5A01", kindESP, 68 * mib, "ADF0000A"}
	SlotB = Partition{"adv-slot-b", "6B1E6B4E-6F36-4B7C-9B0C-0A5D1A0C5A02", kindESP, 68 * mib, "ADF0000B"}
	Data  = Partition{"adv-data", "6B1E6B4E-6F36-4B7C-9B0C-0A5D1A0C5A03", kindData, 192 * mib, "6b1e6b4e-6f36-4b7c-9b0c-0a5d1a0c5a04"}
)

const diskGUID = "6B1E6B4E-6F36-4B7C-9B0C-0A5D1A0C5A00"

// Config says what is on the disk.
type Config struct {
	A, B []byte    // unified kernel images; nil leaves a slot empty
	Time time.Time // of the files and file systems
}

// Start is where a partition begins, in bytes.
func Start(p Partition) int64 {
	at := int64(mib)
	for _, q := range []Partition{SlotA, SlotB, Data} {
		if q.Name == p.Name {
			break
		}
		at += q.Size
	}
	return at
}

// Write makes the disk. The file is sparse.
func Write(ctx context.Context, name string, cfg Config) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(name), "disk-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	out, err := os.Create(name + ".new")
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err == nil {
			err = os.Rename(name+".new", name)
		}
	}()
	// A megabyte at the end for the second copy of the table.
	if err := out.Truncate(Start(Data) + Data.Size + mib); err != nil {
		return err
	}
	t := &tool{ctx: ctx, dir: dir, env: []string{
		"TZ=UTC", "LC_ALL=C", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", cfg.Time.Unix()), fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", cfg.Time.Unix()),
		"MTOOLS_SKIP_CHECK=1", "PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
	}}
	var table strings.Builder
	fmt.Fprintf(&table, "label: gpt\nlabel-id: %s\nfirst-lba: 2048\n", diskGUID)
	for _, p := range []Partition{SlotA, SlotB, Data} {
		fmt.Fprintf(&table, "start=%d, size=%d, type=%s, uuid=%s, name=\"%s\"\n", Start(p)/512, p.Size/512, p.kind, p.GUID, p.Name)
	}
	if err := t.run(table.String(), "sfdisk", "-q", "--no-reread", "--no-tell-kernel", out.Name()); err != nil {
		return err
	}
	for _, s := range []struct {
		p   Partition
		uki []byte
	}{{SlotA, cfg.A}, {SlotB, cfg.B}} {
		file, err := t.slot(s.p, s.uki, cfg.Time)
		if err == nil {
			err = place(out, Start(s.p), file)
		}
		if err != nil {
			return fmt.Errorf("slot %s: %w", s.p.Name, err)
		}
	}
	file, err := t.data()
	if err == nil {
		err = place(out, Start(Data), file)
	}
	if err != nil {
		return fmt.Errorf("data partition: %w", err)
	}
	return nil
}

// slot makes the file system of a slot.
func (t *tool) slot(p Partition, uki []byte, at time.Time) (string, error) {
	file, err := t.empty(p)
	if err != nil {
		return "", err
	}
	label := strings.ToUpper(p.Name)
	if err := t.run("", "mkfs.fat", "-F", "32", "-s", "2", "--invariant", "-i", p.volume, "-n", label, file); err != nil || uki == nil {
		return file, err
	}
	src := filepath.Join(t.dir, "uki")
	if err := errors.Join(os.WriteFile(src, uki, 0o644), os.Chtimes(src, at, at)); err != nil {
		return "", err
	}
	if err := t.run("", "mmd", "-i", file, "::EFI", "::EFI/BOOT"); err != nil {
		return "", err
	}
	return file, t.run("", "mcopy", "-m", "-i", file, src, "::EFI/BOOT/BOOTX64.EFI")
}

// data makes the file system of the data partition, with nothing left for the kernel to initialize later.
func (t *tool) data() (string, error) {
	file, err := t.empty(Data)
	if err != nil {
		return "", err
	}
	return file, t.run("", "mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-i", "16384", "-J", "size=4", "-L", Data.Name, "-U", Data.volume,
		"-E", "hash_seed="+Data.volume+",lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0", file)
}

type tool struct {
	ctx context.Context
	dir string
	env []string
}

func (t *tool) empty(p Partition) (string, error) {
	file := filepath.Join(t.dir, p.Name)
	return file, errors.Join(os.WriteFile(file, nil, 0o644), os.Truncate(file, p.Size))
}

func (t *tool) run(input, name string, args ...string) error {
	cmd := exec.CommandContext(t.ctx, name, args...)
	cmd.Stdin, cmd.Env = strings.NewReader(input), t.env
	if name, err := lookPath(name); err == nil {
		cmd.Path, cmd.Err = name, nil
	}
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, msg)
	}
	return nil
}

// lookPath finds a tool of the administrator, too.
func lookPath(name string) (string, error) {
	for _, d := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if st, err := os.Stat(filepath.Join(d, name)); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return filepath.Join(d, name), nil
		}
	}
	return "", exec.ErrNotFound
}

// place copies a file to its place on the disk and leaves out what is zero.
func place(disk *os.File, at int64, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(f, buf)
		if !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := disk.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
