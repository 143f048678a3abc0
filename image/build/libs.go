package build

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// libraryDirs are the folders in which the dynamic loader looks for libraries without a cache file.
var libraryDirs = []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"}

// needs returns the libraries that an ELF file names and the loader that it wants, "" for none. A file that is no ELF
// file needs nothing.
func needs(file []byte) (libs []string, loader string, err error) {
	if !bytes.HasPrefix(file, []byte(elf.ELFMAG)) {
		return nil, "", nil
	}
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		return nil, "", err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err != nil {
				return nil, "", err
			}
			loader = strings.TrimRight(string(b), "\x00")
		}
	}
	libs, err = f.DynString(elf.DT_NEEDED)
	if errors.Is(err, elf.ErrNoSymbols) {
		err = nil
	}
	return libs, loader, err
}

// addLibraries adds every library that a file of the tree needs, and those that they need.
func (b *builder) addLibraries() error {
	type job struct{ file, lib string }
	var todo []job
	look := func(name string) error {
		libs, loader, err := needs(b.tree[name].data)
		if err != nil {
			return fmt.Errorf("read the needs of %s: %w", name, err)
		}
		for _, l := range libs {
			todo = append(todo, job{name, l})
		}
		if loader != "" {
			// The loader is asked for by its path, a link into the folder of libraries.
			name := strings.TrimPrefix(loader, "/")
			if _, ok := b.tree[name]; !ok {
				a, data, err := b.find(name)
				if err != nil {
					return err
				}
				b.add(entry{name: name, mode: 0o755, data: data, origin: a, reason: "loads the programs that use libraries"})
			}
		}
		return nil
	}
	for _, n := range slices.Sorted(mapKeys(b.tree)) {
		if err := look(n); err != nil {
			return err
		}
	}
	have := make(map[string]bool)
	for i := 0; i < len(todo); i++ {
		j := todo[i]
		if have[j.lib] || strings.HasPrefix(j.lib, "ld-linux") {
			continue
		}
		have[j.lib] = true
		if err := b.addLibrary(j.lib, "needed by "+path.Base(j.file)); err != nil {
			return fmt.Errorf("%s needs %s: %w", j.file, j.lib, err)
		}
		for _, d := range libraryDirs {
			if _, ok := b.tree[path.Join(d, j.lib)]; ok {
				if err := look(path.Join(d, j.lib)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// addLibrary adds a library by the name by which programs ask for it.
func (b *builder) addLibrary(lib, reason string) error {
	for _, d := range libraryDirs {
		name := path.Join(d, lib)
		a, data, err := b.find(name)
		if err != nil {
			continue
		}
		b.add(entry{name: name, mode: 0o755, data: data, origin: a, reason: reason})
		return nil
	}
	return fmt.Errorf("none of the packages has it; name its package in the builder's table")
}
