// Package uki makes a unified kernel image: one EFI program of systemd's stub, kernel, initramfs and command line, which
// the firmware starts by itself and which one signature can cover.
//
// The format is that of the Unified Kernel Image specification of the UAPI Group: each part is a section of a PE file; the
// stub finds them by name in memory. Sections are appended to the stub as they are; nothing of it is moved.
package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
)

// Image holds the parts.
type Image struct {
	Stub    []byte // linuxx64.efi.stub of systemd
	OSRel   []byte // content of os-release
	Cmdline string // command line of the kernel
	Uname   string // version of the kernel
	Kernel  []byte // vmlinuz with an EFI entry
	Initrd  []byte
}

const (
	headerSize = 40         // of a section's entry
	pageSize   = 4096       // sections of ours begin at pages
	readOnly   = 0x40000040 // initialized data, readable
	limit      = 1 << 30    // no part of ours is bigger; all sums stay within 32 bits
)

// Write joins the parts.
func Write(img Image) ([]byte, error) {
	f, err := pe.NewFile(bytes.NewReader(img.Stub))
	if err != nil {
		return nil, fmt.Errorf("read the EFI stub: %w", err)
	}
	if !bytes.HasPrefix(img.Stub, []byte("MZ")) {
		return nil, errors.New("the EFI stub is no program")
	}
	opt, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 {
		return nil, errors.New("the EFI stub is no 64 bit program for x86")
	}
	if opt.FileAlignment == 0 || pageSize%opt.FileAlignment != 0 || pageSize%max(opt.SectionAlignment, 1) != 0 {
		return nil, fmt.Errorf("the EFI stub has sections at multiples of %d and %d", opt.FileAlignment, opt.SectionAlignment)
	}
	if k, err := pe.NewFile(bytes.NewReader(img.Kernel)); err != nil {
		return nil, fmt.Errorf("the kernel has no EFI entry: %w", err)
	} else if k.Machine != f.Machine {
		return nil, errors.New("the kernel is for another machine than the EFI stub")
	}
	sections := []struct {
		name string
		data []byte
	}{
		{".osrel", img.OSRel},
		{".cmdline", append([]byte(img.Cmdline), 0)},
		{".uname", append([]byte(img.Uname), 0)},
		{".linux", img.Kernel},
		{".initrd", img.Initrd}, // last: it may be as long as it likes
	}
	// The file header stands behind the mark "PE"; where the table of sections ends, and how far it may grow.
	file := int(binary.LittleEndian.Uint32(img.Stub[0x3c:])) + 4
	optional := file + binary.Size(f.FileHeader)
	table := optional + int(f.SizeOfOptionalHeader) + headerSize*len(f.Sections)
	next := uint32(0) // address behind the last section
	room := int(opt.SizeOfHeaders)
	end := uint32(0) // of what the sections hold; behind it are symbols for a debugger
	for _, s := range f.Sections {
		next = max(next, s.VirtualAddress+max(s.VirtualSize, s.Size))
		if s.Size > 0 {
			room = min(room, int(s.Offset))
			end = max(end, s.Offset+s.Size)
		}
		for _, own := range sections {
			if s.Name == own.name {
				return nil, fmt.Errorf("the EFI stub has a section %s already", s.Name)
			}
		}
	}
	if table+headerSize*len(sections) > room {
		return nil, fmt.Errorf("the EFI stub has no room for %d more sections", len(sections))
	}
	if int64(end) > int64(len(img.Stub)) || int(end) < table {
		return nil, errors.New("the EFI stub is cut off")
	}
	out := bytes.Clone(img.Stub[:end])
	added := uint32(0)
	for i, s := range sections {
		if len(s.data) == 0 || len(s.data) > limit {
			return nil, fmt.Errorf("section %s has %d bytes", s.name, len(s.data))
		}
		for len(out)%int(opt.FileAlignment) != 0 {
			out = append(out, 0)
		}
		offset := uint32(len(out))
		out = append(out, s.data...)
		for len(out)%int(opt.FileAlignment) != 0 {
			out = append(out, 0)
		}
		next = align(next, pageSize)
		h := out[table+headerSize*i:][:headerSize]
		clear(h)
		copy(h, s.name)
		binary.LittleEndian.PutUint32(h[8:], uint32(len(s.data)))
		binary.LittleEndian.PutUint32(h[12:], next)
		binary.LittleEndian.PutUint32(h[16:], uint32(len(out))-offset)
		binary.LittleEndian.PutUint32(h[20:], offset)
		binary.LittleEndian.PutUint32(h[36:], readOnly)
		next += uint32(len(s.data))
		added += uint32(len(out)) - offset
	}
	// The counts of the headers. Offsets are those of PE32+.
	binary.LittleEndian.PutUint16(out[file+2:], uint16(len(f.Sections)+len(sections)))
	binary.LittleEndian.PutUint64(out[file+8:], 0) // symbols: none
	binary.LittleEndian.PutUint32(out[optional+8:], opt.SizeOfInitializedData+added)
	binary.LittleEndian.PutUint32(out[optional+56:], align(next, pageSize)) // SizeOfImage
	binary.LittleEndian.PutUint32(out[optional+64:], 0)                     // CheckSum: EFI does not use it
	return out, nil
}

func align(n, to uint32) uint32 { return (n + to - 1) / to * to }
