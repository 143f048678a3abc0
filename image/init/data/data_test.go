package data

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ktradv/internal/initctl"
)

// superblock of a sound ext4.
func superblock() []byte {
	b := make([]byte, superOffset+superLen)
	s := b[superOffset:]
	binary.LittleEndian.PutUint16(s[offMagic:], magic)
	binary.LittleEndian.PutUint16(s[offState:], 1)
	binary.LittleEndian.PutUint32(s[offLogBlock:], 2)
	binary.LittleEndian.PutUint32(s[offFeatures:], 0x2C2)
	s[offUUID] = 1
	return b
}

// kernel is a machine with disks in a folder.
type kernel struct {
	root   string
	mounts []string
	refuse map[string]error // by file system
	free   Free
}

func (k *kernel) Mount(source, target, fstype string, flags uintptr, data string) error {
	if err := k.refuse[fstype]; err != nil {
		return err
	}
	if flags != Flags {
		return errors.New("mounted without nosuid, nodev, noexec")
	}
	k.mounts = append(k.mounts, fstype+" "+filepath.Base(source)+" "+data)
	return nil
}

func (k *kernel) Unmount(string) error { k.mounts = append(k.mounts, "unmount"); return nil }

func (k *kernel) Free(string) (Free, error) { return k.free, nil }

// disk puts a partition into the machine.
func (k *kernel) disk(t *testing.T, place, name, label string, content []byte) {
	t.Helper()
	k.node(t, name, content) // first: what is listed with its node is opened at once
	k.list(t, place, name, label)
}

// list is a partition as /sys shows it.
func (k *kernel) list(t *testing.T, place, name, label string) {
	t.Helper()
	dir := filepath.Join(k.root, "sys/devices", place, name)
	class := filepath.Join(k.root, "sys/class/block")
	err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(class, 0o755),
		os.WriteFile(filepath.Join(dir, "uevent"), []byte("MAJOR=254\nDEVNAME="+name+"\nPARTNAME="+label+"\n"), 0o644),
		os.Symlink(dir, filepath.Join(class, name)))
	if err != nil {
		t.Error(err)
	}
}

// node makes a partition's node, with its content at once.
func (k *kernel) node(t *testing.T, name string, content []byte) {
	t.Helper()
	dev := filepath.Join(k.root, "dev")
	part := filepath.Join(k.root, name+".part")
	if err := errors.Join(os.MkdirAll(dev, 0o755), os.WriteFile(part, content, 0o644), os.Rename(part, filepath.Join(dev, name))); err != nil {
		t.Error(err)
	}
}

const tmp = "tmpfs tmpfs " + TmpOptions

func TestOpen(t *testing.T) {
	t.Parallel()
	ok := "ext4 vda3 " + Options
	dirty := superblock()
	binary.LittleEndian.PutUint32(dirty[superOffset+offFeatures:], 0x2C6) // needs recovery: after a power cut
	wrong := superblock()
	binary.LittleEndian.PutUint16(wrong[superOffset+offState:], stateError)
	for _, c := range []struct {
		name    string
		label   string
		place   string
		content []byte
		refuse  error
		free    uint64
		want    initctl.Data
		mounts  []string
	}{
		{"sound", Label, "pci/virtio", superblock(), nil, 100, initctl.DataOK, []string{ok}},
		{"power was cut", Label, "pci/virtio", dirty, nil, 100, initctl.DataOK, []string{ok}},
		{"not there", "other", "pci/virtio", superblock(), nil, 100, initctl.DataMissing, []string{tmp}},
		{"on a stick", Label, "pci/usb1/1-1", superblock(), nil, 100, initctl.DataMissing, []string{tmp}},
		{"empty", Label, "pci/virtio", make([]byte, 1<<16), nil, 100, initctl.DataDamaged, []string{tmp}},
		{"too short", Label, "pci/virtio", []byte("x"), nil, 100, initctl.DataDamaged, []string{tmp}},
		{"marked as inconsistent", Label, "pci/virtio", wrong, nil, 100, initctl.DataDamaged, []string{tmp}},
		{"does not mount", Label, "pci/virtio", superblock(), errors.New("bad journal"), 100, initctl.DataDamaged, []string{tmp}},
		{"full", Label, "pci/virtio", superblock(), nil, 9, initctl.DataFull, []string{ok, "unused", "unmount", tmp}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := &kernel{root: t.TempDir(), refuse: map[string]error{"ext4": c.refuse}, free: Free{Bytes: c.free}}
			k.disk(t, c.place, "vda3", c.label, c.content)
			got, err := Open(t.Context(), Config{
				Kernel: k, Root: k.root, Target: "/data", Reserve: 10, Appear: 50 * time.Millisecond,
				Unused: func() { k.mounts = append(k.mounts, "unused") },
			})
			if got != c.want || (err == nil) != (c.want == initctl.DataOK) {
				t.Errorf("Open = %s, %v; want %s", got, err, c.want)
			}
			if diff := cmp.Diff(c.mounts, k.mounts); diff != "" {
				t.Errorf("mounts (-want +got):\n%s", diff)
			}
		})
	}
}

// Where not even memory can be mounted, the state says what is wrong with the partition all the same.
func TestNothingMounts(t *testing.T) {
	t.Parallel()
	none := errors.New("no")
	k := &kernel{root: t.TempDir(), refuse: map[string]error{"ext4": none, "tmpfs": none}}
	got, err := Open(t.Context(), Config{Kernel: k, Root: k.root, Target: "/data", Appear: time.Millisecond})
	if got != initctl.DataMissing || !errors.Is(err, none) {
		t.Errorf("Open = %s, %v", got, err)
	}
}

// A disk that comes late is waited for, but not for ever.
func TestAppear(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{root: t.TempDir(), free: Free{Bytes: 100}}
		// The kernel lists it before there is a node.
		time.AfterFunc(time.Second, func() { k.list(t, "pci", "sda2", Label) })
		time.AfterFunc(2*time.Second, func() { k.node(t, "sda2", superblock()) })
		begin := time.Now()
		got, err := Open(t.Context(), Config{Kernel: k, Root: k.root, Target: "/data"})
		if got != initctl.DataOK || err != nil {
			t.Errorf("Open = %s, %v", got, err)
		}
		if d := time.Since(begin); d < 2*time.Second || d > 2100*time.Millisecond {
			t.Errorf("waited %v", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := find(ctx, Config{Root: t.TempDir()}); err == nil {
			t.Error("found a partition where there is none")
		}
	})
}

func TestWatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		free Free
		want initctl.Data
	}{{Free{Bytes: 10}, initctl.DataOK}, {Free{Bytes: 9}, initctl.DataFull}, {Free{Bytes: 10, ReadOnly: true}, initctl.DataDamaged}} {
		if got := Watch(Config{Kernel: &kernel{free: c.free}, Reserve: 10}); got != c.want {
			t.Errorf("Watch(%+v) = %s; want %s", c.free, got, c.want)
		}
	}
}

// mke2fs writes what we take for sound.
func TestRealSuperblock(t *testing.T) {
	t.Parallel()
	mkfs, err := exec.LookPath("mke2fs")
	if err != nil {
		t.Skip("mke2fs (e2fsprogs) is not installed")
	}
	name := filepath.Join(t.TempDir(), "fs")
	if out, err := exec.Command(mkfs, "-q", "-t", "ext4", name, "8M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := CheckSuperblock(f); err != nil {
		t.Errorf("CheckSuperblock of mke2fs's = %v", err)
	}
}

func FuzzCheckSuperblock(f *testing.F) {
	f.Add(superblock())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		err := CheckSuperblock(bytes.NewReader(b))
		if err != nil && !errors.Is(err, ErrNotExt4) {
			t.Errorf("error of no known kind: %v", err)
		}
		if err == nil && binary.LittleEndian.Uint16(b[superOffset+offMagic:]) != magic {
			t.Error("took something else for ext4")
		}
	})
}
