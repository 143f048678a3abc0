// Package kernel picks modules out of Debian's kernel package: the wanted ones,
// all that they depend on, and the index files that user space needs to load them.
package kernel

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"ktradv/image/debian"
)

// Package names the kernel; it depends on the package of the current version.
const Package = "linux-image-amd64"

// Fetch opens the package of the kernel itself: the pinned one of the store, else the one that [Package] depends on.
func Fetch(ctx context.Context, store *debian.Store) (*debian.Archive, error) {
	is := func(n string) bool { return strings.HasPrefix(n, "linux-image-") && n != Package }
	name := ""
	for n := range store.Pins {
		if is(n) {
			name = n
		}
	}
	if name == "" {
		meta, err := store.Fetch(ctx, []string{Package})
		if err != nil {
			return nil, err
		}
		defer meta[0].Close()
		names := meta[0].DependsOn()
		i := slices.IndexFunc(names, is)
		if i < 0 {
			return nil, fmt.Errorf("package %s %s depends on no kernel", meta[0].Name, meta[0].Version)
		}
		name = names[i]
	}
	list, err := store.Fetch(ctx, []string{name})
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// Files is where the modules come from.
type Files interface {
	Names() []string // every file, by path
	Read(name string) ([]byte, error)
}

// Tree is the module folder of one kernel.
type Tree struct {
	Version string // as uname -r says
	files   Files
	paths   map[string]string // path below the package's root by module name
	builtin map[string]bool
}

var modulePath = regexp.MustCompile(`^(?:usr/)?lib/modules/([^/]+)/kernel/(?:.*/)?([^/]+)\.ko$`)

// Open finds the modules of a kernel package.
func Open(files Files) (*Tree, error) {
	t := &Tree{files: files, paths: make(map[string]string), builtin: make(map[string]bool)}
	for _, n := range files.Names() {
		m := modulePath.FindStringSubmatch(n)
		if m == nil {
			continue
		}
		if t.Version == "" {
			t.Version = m[1]
		}
		if m[1] != t.Version {
			return nil, fmt.Errorf("kernel package holds modules of %s and of %s", t.Version, m[1])
		}
		t.paths[Name(m[2])] = n
	}
	if t.Version == "" {
		return nil, fmt.Errorf("kernel package holds no modules")
	}
	b, err := files.Read("lib/modules/" + t.Version + "/modules.builtin")
	if err != nil {
		return nil, err
	}
	for l := range strings.Lines(string(b)) {
		t.builtin[Name(strings.TrimSuffix(path.Base(strings.TrimSpace(l)), ".ko"))] = true
	}
	return t, nil
}

// Name spells a module's name as the kernel does, with underscores.
func Name(s string) string { return strings.ReplaceAll(s, "-", "_") }

// UnknownError names all wanted modules that a kernel does not have.
type UnknownError struct {
	Version string   // of the kernel
	Names   []string // as they were given
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("kernel %s has no module %s", e.Version, strings.Join(e.Names, ", "))
}

// Check returns an [UnknownError] when the kernel has not all of these modules, neither as files nor built in.
func (t *Tree) Check(names []string) error {
	var unknown []string
	for _, n := range names {
		if t.paths[Name(n)] == "" && !t.builtin[Name(n)] {
			unknown = append(unknown, n)
		}
	}
	if unknown == nil {
		return nil
	}
	return &UnknownError{t.Version, unknown}
}

// Module is one module that goes into the image.
type Module struct {
	Name   string   // with underscores
	Path   string   // in the package and in the image, without a leading slash
	Data   []byte   // the file, signature included
	Needs  []string // names of the modules that it depends on directly
	Wanted string   // the wanted module because of which it is here; itself when it is wanted
}

// Closure returns the wanted modules and what they depend on, each after those
// that it needs. Modules that are built into the kernel are left out. Wanted
// modules that this kernel does not have are an [UnknownError].
func (t *Tree) Closure(wanted []string) ([]Module, error) {
	if err := t.Check(wanted); err != nil {
		return nil, err
	}
	var out []Module
	seen := make(map[string]bool)
	var add func(name, because string, path []string) error
	add = func(name, because string, stack []string) error {
		name = Name(name)
		if slices.Contains(stack, name) {
			return fmt.Errorf("modules depend on each other in a circle: %s", strings.Join(append(stack, name), " > "))
		}
		if seen[name] || t.builtin[name] {
			return nil
		}
		p, ok := t.paths[name]
		if !ok {
			return fmt.Errorf("kernel %s has no module %s (asked for by %s)", t.Version, name, because)
		}
		b, err := t.files.Read(p)
		if err != nil {
			return err
		}
		info, err := Modinfo(b)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		m := Module{Name: name, Path: p, Data: b, Wanted: because}
		for _, d := range strings.FieldsFunc(strings.Join(info["depends"], ","), func(r rune) bool { return r == ',' }) {
			if !t.builtin[Name(d)] {
				m.Needs = append(m.Needs, Name(d))
			}
			if err := add(d, because, append(stack, name)); err != nil {
				return err
			}
		}
		seen[name] = true
		out = append(out, m)
		return nil
	}
	for _, w := range wanted {
		if err := add(w, Name(w), nil); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Dep writes modules.dep: a line for each module, with all that it needs in the
// order in which depmod writes them (the last is to be loaded first).
func Dep(version string, modules []Module) []byte {
	byName := make(map[string]Module)
	for _, m := range modules {
		byName[m.Name] = m
	}
	rel := func(m Module) string { return strings.TrimPrefix(m.Path, "lib/modules/"+version+"/") }
	var b bytes.Buffer
	for _, m := range modules {
		var all []string
		var add func(names []string)
		add = func(names []string) {
			for _, n := range names {
				all = append(all, n)
				add(byName[n].Needs)
			}
		}
		add(m.Needs)
		// Of a module that is needed more than once the last mention counts, so that it is loaded first.
		fmt.Fprintf(&b, "%s:", rel(m))
		for i, n := range all {
			if !slices.Contains(all[i+1:], n) {
				fmt.Fprintf(&b, " %s", rel(byName[n]))
			}
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// Modinfo reads the .modinfo section of a module: the values of each key.
func Modinfo(module []byte) (map[string][]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("read module: no section .modinfo")
	}
	b, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	info := make(map[string][]string)
	for _, e := range bytes.Split(b, []byte{0}) {
		if k, v, ok := strings.Cut(string(e), "="); ok {
			info[k] = append(info[k], v)
		}
	}
	return info, nil
}

// signatureMark ends every signed module.
const signatureMark = "~Module signature appended~\n"

// Signed says whether a module carries a signature. The kernel checks it when it
// loads the module; stripping a module would lose it.
func Signed(module []byte) bool { return bytes.HasSuffix(module, []byte(signatureMark)) }
