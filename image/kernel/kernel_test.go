package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// module makes an object file with a .modinfo section, as the kernel's build does.
func module(depends string, signed bool) []byte {
	info := "license=GPL\x00depends=" + depends + "\x00name=x\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	var b bytes.Buffer
	h := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	h.Shoff = uint64(64 + len(info) + len(names))
	binary.Write(&b, binary.LittleEndian, h)
	b.WriteString(info + names)
	binary.Write(&b, binary.LittleEndian, elf.Section64{})
	binary.Write(&b, binary.LittleEndian, elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(info)), Addralign: 1})
	binary.Write(&b, binary.LittleEndian, elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + len(info)), Size: uint64(len(names)), Addralign: 1})
	if signed {
		b.WriteString(signatureMark)
	}
	return b.Bytes()
}

type files map[string][]byte

func (f files) Names() []string { return slices.Sorted(maps.Keys(f)) }
func (f files) Read(name string) ([]byte, error) {
	if b, ok := f[name]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

const dir = "lib/modules/6.1/"

func tree(t *testing.T, more files) *Tree {
	t.Helper()
	f := files{
		dir + "modules.builtin":               []byte("kernel/net/ipv6/ipv6.ko\n"),
		dir + "kernel/drivers/gpu/drm.ko":     module("", true),
		dir + "kernel/drivers/gpu/helper.ko":  module("drm", true),
		dir + "kernel/drivers/gpu/my-gpu.ko":  module("helper,drm,virtio_ring,ipv6", true),
		dir + "kernel/drivers/virtio_ring.ko": module("virtio", true),
		dir + "kernel/drivers/virtio.ko":      module("", true),
	}
	maps.Copy(f, more)
	k, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestClosure(t *testing.T) {
	t.Parallel()
	k := tree(t, nil)
	list, err := k.Closure([]string{"my_gpu", "virtio", "ipv6"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range list {
		got = append(got, m.Name+" for "+m.Wanted)
	}
	want := []string{"drm for my_gpu", "helper for my_gpu", "virtio for my_gpu", "virtio_ring for my_gpu", "my_gpu for my_gpu"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("modules (-want +got):\n%s", d)
	}
	dep := string(Dep(k.Version, list))
	wantDep := `kernel/drivers/gpu/drm.ko:
kernel/drivers/gpu/helper.ko: kernel/drivers/gpu/drm.ko
kernel/drivers/virtio.ko:
kernel/drivers/virtio_ring.ko: kernel/drivers/virtio.ko
kernel/drivers/gpu/my-gpu.ko: kernel/drivers/gpu/helper.ko kernel/drivers/gpu/drm.ko kernel/drivers/virtio_ring.ko kernel/drivers/virtio.ko
`
	if d := cmp.Diff(wantDep, dep); d != "" {
		t.Errorf("modules.dep (-want +got):\n%s", d)
	}
}

func TestClosureRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, wanted, want string
		more               files
	}{
		{"unknown module", "i919", "no module i919", nil},
		{"dependency missing", "odd", "no module gone (asked for by odd)", files{dir + "kernel/odd.ko": module("gone", true)}},
		{"no module", "odd", "read module", files{dir + "kernel/odd.ko": []byte("not an object file")}},
		{"circle", "a", "circle: a > b > a", files{dir + "kernel/a.ko": module("b", true), dir + "kernel/b.ko": module("a", true)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, err := tree(t, c.more).Closure([]string{c.wanted}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v; want an error with %q", err, c.want)
			}
		})
	}
}

// All names that a kernel does not have are told at once; built-in modules and other spellings are known.
func TestUnknown(t *testing.T) {
	t.Parallel()
	k := tree(t, nil)
	if err := k.Check([]string{"my-gpu", "my_gpu", "ipv6", "virtio_ring"}); err != nil {
		t.Error(err)
	}
	wanted := []string{"i919", "drm", "no-such", "ipv6", "8021q"}
	want := &UnknownError{Version: "6.1", Names: []string{"i919", "no-such", "8021q"}}
	_, closure := k.Closure(wanted)
	for _, err := range []error{k.Check(wanted), closure} {
		var got *UnknownError
		if !errors.As(err, &got) || !cmp.Equal(got, want) {
			t.Errorf("got %v; want %v", err, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]files{
		"no modules":      {"boot/vmlinuz": nil},
		"two kernels":     {"lib/modules/6.1/kernel/a.ko": nil, "lib/modules/6.2/kernel/a.ko": nil},
		"no builtin list": {"lib/modules/6.1/kernel/a.ko": nil},
	} {
		if _, err := Open(f); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSigned(t *testing.T) {
	t.Parallel()
	if !Signed(module("", true)) || Signed(module("", false)) || Signed(append(module("", true), 0)) {
		t.Error("the mark of a signature is not told from its absence")
	}
}

func FuzzModinfo(f *testing.F) {
	f.Add(module("a,b", true))
	f.Fuzz(func(t *testing.T, b []byte) { Modinfo(b) })
}
