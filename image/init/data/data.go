// Package data finds and mounts the data partition: the one place of the terminal that keeps something over a power cut.
//
//	partition                            /data                     state
//	-----------------------------------  ------------------------  -------
//	there, mounted                       the partition             ok
//	there, less than the reserve free    memory                    full
//	there, not ext4, or does not mount,
//	or ext4 says that it is in error     memory                    damaged
//	not there                            memory                    missing
//	filled up, or in error, while in use the partition as it is    full, damaged
//
// A journal that a power cut left behind is replayed by the kernel as it mounts; no program of e2fsprogs is in the image.
package data

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ktradv/internal/initctl"
)

// Label is the GPT name of the partition.
const Label = "adv-data"

// Free is what a file system says about its space.
type Free struct {
	Bytes    uint64 // for everybody but root
	ReadOnly bool
}

// Kernel is what the package needs of the kernel.
type Kernel interface {
	Mount(source, target, fstype string, flags uintptr, data string) error
	Unmount(target string) error
	Free(target string) (Free, error)
}

// Config of the data partition.
type Config struct {
	Kernel Kernel
	// Root is put before /sys and /dev; "" is the machine's own.
	Root string
	// Target is where it is mounted, "/data".
	Target string
	// Reserve is how little free space counts as full, in bytes.
	Reserve uint64
	// Appear is how long a disk may take to appear. Zero means 3 s.
	Appear time.Duration
	// Unused is called with a partition that is mounted and not used, a full one, before it is taken away. Nil is allowed.
	Unused func()
}

// Flags of the mount: data, never programs.
const Flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME

// Options of ext4 and of the memory file system in its place.
const (
	Options    = "errors=remount-ro"
	TmpOptions = "size=16m,nr_inodes=1k,mode=0755"
)

// ErrNotExt4 marks a partition that holds no sound ext4.
var ErrNotExt4 = errors.New("no sound ext4 file system")

// Open mounts the partition, or a memory file system in its place, and says which.
func Open(ctx context.Context, cfg Config) (initctl.Data, error) {
	state, err := open(ctx, cfg)
	if state == initctl.DataOK {
		return state, nil
	}
	return state, errors.Join(err, Memory(cfg.Kernel, cfg.Target))
}

// Memory mounts a bounded memory file system where there is no partition, or none that is any good.
func Memory(k interface {
	Mount(source, target, fstype string, flags uintptr, data string) error
}, target string) error {
	if err := k.Mount("tmpfs", target, "tmpfs", Flags, TmpOptions); err != nil {
		return fmt.Errorf("mount memory in its place: %w", err)
	}
	return nil
}

func open(ctx context.Context, cfg Config) (initctl.Data, error) {
	name, err := find(ctx, cfg)
	if err != nil {
		return initctl.DataMissing, err
	}
	node := filepath.Join(cfg.Root, "/dev", name)
	f, err := os.Open(node)
	if err != nil {
		return initctl.DataDamaged, fmt.Errorf("data partition: %w", err)
	}
	err = CheckSuperblock(f)
	f.Close()
	if err != nil {
		return initctl.DataDamaged, fmt.Errorf("data partition: %w", err)
	}
	if err := cfg.Kernel.Mount(node, cfg.Target, "ext4", Flags, Options); err != nil {
		return initctl.DataDamaged, fmt.Errorf("mount data partition: %w", err)
	}
	if s := Watch(cfg); s != initctl.DataOK {
		if cfg.Unused != nil {
			cfg.Unused()
		}
		err := fmt.Errorf("data partition is %s", s)
		return s, errors.Join(err, cfg.Kernel.Unmount(cfg.Target))
	}
	return initctl.DataOK, nil
}

// Watch looks at the mounted partition.
func Watch(cfg Config) initctl.Data {
	free, err := cfg.Kernel.Free(cfg.Target)
	switch {
	case err != nil || free.ReadOnly:
		return initctl.DataDamaged
	case free.Bytes < cfg.Reserve:
		return initctl.DataFull
	}
	return initctl.DataOK
}

// find waits for the partition and returns the name of its node.
func find(ctx context.Context, cfg Config) (string, error) {
	appear := cfg.Appear
	if appear <= 0 {
		appear = 3 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, appear)
	defer cancel()
	for {
		if name, ok := lookup(cfg.Root); ok {
			return name, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("no partition %s on any disk", Label)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lookup finds the partition by its label. A disk on USB is a stranger's: it is passed over. The kernel lists a partition
// before it makes the node: without its node it is not there yet.
func lookup(root string) (string, bool) {
	files, err := filepath.Glob(filepath.Join(root, "/sys/class/block/*/uevent"))
	if err != nil {
		return "", false
	}
	slices.Sort(files)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil || len(b) > 4096 || !slices.Contains(strings.Split(string(b), "\n"), "PARTNAME="+Label) {
			continue
		}
		dir, err := filepath.EvalSymlinks(filepath.Dir(f))
		if err != nil || strings.Contains(dir, "/usb") {
			continue
		}
		name := filepath.Base(filepath.Dir(f))
		if _, err := os.Lstat(filepath.Join(root, "dev", name)); err != nil {
			continue
		}
		return name, true
	}
	return "", false
}

// Places in the superblock of ext4, which lies 1024 bytes into the partition.
const (
	superOffset = 1024
	superLen    = 1024
	offMagic    = 0x38
	offState    = 0x3A
	offLogBlock = 0x18
	offFeatures = 0x60 // incompatible features
	offUUID     = 0x68
	magic       = 0xEF53
	stateError  = 2 // the kernel found the file system inconsistent
	maxLogBlock = 6 // blocks of 64 KiB
)

// CheckSuperblock looks at the superblock before the kernel's ext4 does: what is not ext4 is not tried, and what ext4 has
// marked as inconsistent is for a technician.
func CheckSuperblock(r io.ReaderAt) error {
	b := make([]byte, superLen)
	if _, err := r.ReadAt(b, superOffset); err != nil {
		return fmt.Errorf("%w: read superblock: %w", ErrNotExt4, err)
	}
	switch {
	case binary.LittleEndian.Uint16(b[offMagic:]) != magic:
		return fmt.Errorf("%w: magic number", ErrNotExt4)
	case binary.LittleEndian.Uint16(b[offState:])&stateError != 0:
		return fmt.Errorf("%w: marked as inconsistent", ErrNotExt4)
	case binary.LittleEndian.Uint32(b[offLogBlock:]) > maxLogBlock:
		return fmt.Errorf("%w: block size", ErrNotExt4)
	case binary.LittleEndian.Uint32(b[offFeatures:]) == 0 || bytes.Equal(b[offUUID:offUUID+16], make([]byte, 16)):
		return fmt.Errorf("%w: features", ErrNotExt4)
	}
	return nil
}
