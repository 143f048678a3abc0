package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// program makes a small EFI program with one section, as a linker would: symbols behind it, room for more sections.
func program(t *testing.T, room int) []byte {
	t.Helper()
	b := make([]byte, 0x400+0x200)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[0x3c:], 0x80)
	var head bytes.Buffer
	head.WriteString("PE\x00\x00")
	must(t, binary.Write(&head, binary.LittleEndian, pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 1,
		PointerToSymbolTable: 0x600, NumberOfSymbols: 1, SizeOfOptionalHeader: 240, Characteristics: 0x206}))
	must(t, binary.Write(&head, binary.LittleEndian, pe.OptionalHeader64{Magic: 0x20b, SectionAlignment: 0x200, FileAlignment: 0x200,
		SizeOfImage: 0x1200, SizeOfHeaders: uint32(room), AddressOfEntryPoint: 0x1000, NumberOfRvaAndSizes: 16, Subsystem: 10}))
	must(t, binary.Write(&head, binary.LittleEndian, pe.SectionHeader32{Name: [8]byte{'.', 't', 'e', 'x', 't'}, VirtualSize: 0x123, VirtualAddress: 0x1000,
		SizeOfRawData: 0x200, PointerToRawData: 0x400, Characteristics: 0x60000020}))
	copy(b[0x80:], head.Bytes())
	b[0x400] = 0xc3
	return append(b, append(make([]byte, 18), 4, 0, 0, 0)...) // one symbol, no strings
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func image(t *testing.T) Image {
	return Image{Stub: program(t, 0x400), OSRel: []byte("ID=x\n"), Cmdline: "quiet", Uname: "6.1", Kernel: program(t, 0x400), Initrd: bytes.Repeat([]byte("initrd"), 3000)}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	img := image(t)
	b, err := Write(img)
	if err != nil {
		t.Fatal(err)
	}
	f, err := pe.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	end := uint32(0)
	opt := f.OptionalHeader.(*pe.OptionalHeader64)
	for i, s := range f.Sections {
		data, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		got[s.Name] = string(data[:s.VirtualSize])
		if s.VirtualAddress < end {
			t.Errorf("section %s begins at %#x, inside the one before", s.Name, s.VirtualAddress)
		}
		if i > 0 && s.VirtualAddress%pageSize != 0 {
			t.Errorf("section %s begins at %#x, not at a page", s.Name, s.VirtualAddress)
		}
		if s.Offset%opt.FileAlignment != 0 || s.Size%opt.FileAlignment != 0 {
			t.Errorf("section %s lies at %#x with %#x bytes of the file", s.Name, s.Offset, s.Size)
		}
		end = s.VirtualAddress + s.VirtualSize
	}
	if opt.SizeOfImage < end || opt.SizeOfImage%pageSize != 0 {
		t.Errorf("the image takes %#x bytes, its sections end at %#x", opt.SizeOfImage, end)
	}
	if f.NumberOfSymbols != 0 || f.PointerToSymbolTable != 0 || opt.CheckSum != 0 {
		t.Errorf("symbols %d at %#x, checksum %#x; want none", f.NumberOfSymbols, f.PointerToSymbolTable, opt.CheckSum)
	}
	want := map[string]string{
		".text": string(img.Stub[0x400:][:0x123]), ".osrel": "ID=x\n", ".cmdline": "quiet\x00", ".uname": "6.1\x00", ".linux": string(img.Kernel), ".initrd": string(img.Initrd),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("sections (-want +got):\n%s", d)
	}
	again, err := Write(image(t))
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("the same parts give other bytes (%v)", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		change     func(img *Image)
	}{
		{"no program", "EFI stub", func(i *Image) { i.Stub = []byte("#!/bin/sh\n") }},
		{"stub cut off", "", func(i *Image) { i.Stub = i.Stub[:0x500] }},
		{"stub for another machine", "64 bit", func(i *Image) { binary.LittleEndian.PutUint16(i.Stub[0x84:], pe.IMAGE_FILE_MACHINE_ARM64) }},
		{"no room for sections", "room", func(i *Image) { i.Stub = program(t, 0x200) }},
		{"the parts are there already", "already", func(i *Image) {
			b, err := Write(*i)
			must(t, err)
			i.Stub = b
		}},
		{"kernel without EFI entry", "kernel", func(i *Image) { i.Kernel = []byte("kernel") }},
		{"kernel for another machine", "machine", func(i *Image) {
			i.Kernel = program(t, 0x400)
			binary.LittleEndian.PutUint16(i.Kernel[0x84:], pe.IMAGE_FILE_MACHINE_ARM64)
		}},
		{"no initramfs", ".initrd", func(i *Image) { i.Initrd = nil }},
		{"odd alignment", "multiples", func(i *Image) { binary.LittleEndian.PutUint32(i.Stub[0x98+36:], 0x300) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			img := image(t)
			c.change(&img)
			if _, err := Write(img); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v; want an error with %q", err, c.want)
			}
		})
	}
}

func FuzzWrite(f *testing.F) {
	f.Add(program(&testing.T{}, 0x400))
	f.Fuzz(func(t *testing.T, stub []byte) {
		img := image(t)
		img.Stub = stub
		if b, err := Write(img); err == nil {
			if _, err := pe.NewFile(bytes.NewReader(b)); err != nil {
				t.Errorf("what was written cannot be read: %v", err)
			}
		}
	})
}
