package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"ktradv/internal/terminal"
)

// overlayPlaces are the folders that an overlay may fill, with what belongs there. Everything else is the product's.
var overlayPlaces = []struct{ dir, what string }{
	{"etc/adv", "configuration, trust store, design"},
	{"lib/firmware", "firmware of the terminal's hardware"},
}

// ProblemsError lists every mistake of an overlay.
type ProblemsError []terminal.Problem

func (p ProblemsError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the overlay has %d mistakes:", len(p))
	for _, e := range p {
		fmt.Fprintf(&b, "\n  %v", e)
	}
	return b.String()
}

// overlay is what makes one insurer's terminal.
type overlay struct {
	tree    map[string]entry
	modules []string
}

// loadOverlay reads the base overlay of the project and the given ones over it, the later ones over the earlier ones,
// and checks them. The error holds every mistake (ProblemsError).
func loadOverlay(root string, dirs []string) (*overlay, error) {
	o := &overlay{tree: make(map[string]entry)}
	var problems ProblemsError
	base := filepath.Join(root, "overlays", "base")
	for _, dir := range append([]string{base}, dirs...) {
		p, err := o.read(dir, dir == base)
		if err != nil {
			return nil, err
		}
		problems = append(problems, p...)
	}
	cfg, more, err := o.check(dirs)
	if err != nil {
		return nil, err
	}
	if problems = append(problems, more...); len(problems) > 0 {
		return nil, problems
	}
	o.modules = cfg.Modules.Extra
	return o, nil
}

// read lays a folder over what is there.
func (o *overlay) read(dir string, base bool) ([]terminal.Problem, error) {
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return nil, fmt.Errorf("overlay %s is not a folder", dir)
	}
	var problems []terminal.Problem
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err != nil || name == "." {
			return err
		}
		name = filepath.ToSlash(name)
		bad := func(what, fix string) {
			problems = append(problems, terminal.Problem{File: file, What: what, Fix: fix})
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !base && !inPlace(name, d.IsDir()) {
			if d.IsDir() {
				bad("this folder belongs to the product", "keep to "+places())
				return fs.SkipDir
			}
			if name != "README.md" { // of the overlay itself
				bad("this place belongs to the product", "keep to "+places())
			}
			return nil
		}
		e := entry{name: name, source: file, reason: "overlay"}
		switch info.Mode().Type() {
		case fs.ModeDir:
			e.mode = fs.ModeDir | 0o755
		case 0:
			if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
				bad("is set to run as another user", "take the setuid and setgid bits away")
				return nil
			}
			e.mode = 0o644
			if e.data, err = os.ReadFile(file); err != nil {
				return err
			}
		case fs.ModeSymlink:
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			if path.IsAbs(target) || !inPlace(path.Join(path.Dir(name), target), false) {
				bad("is a link that leads out of the overlay's own folders: "+target, "link to a file beside it, or copy the file")
				return nil
			}
			e.mode, e.link = fs.ModeSymlink|0o777, target
		default:
			bad(fmt.Sprintf("is no file, folder or link (%v)", info.Mode().Type()), "take it away")
			return nil
		}
		if old, ok := o.tree[name]; ok && old.mode.IsDir() != e.mode.IsDir() {
			bad("is a folder in one overlay and a file in another", "rename one of them")
			return nil
		}
		o.tree[name] = e
		return nil
	})
	return problems, err
}

// inPlace says whether an overlay may have a file or folder of this name.
func inPlace(name string, dir bool) bool {
	return slices.ContainsFunc(overlayPlaces, func(p struct{ dir, what string }) bool {
		return strings.HasPrefix(name, p.dir+"/") || dir && (name == p.dir || strings.HasPrefix(p.dir, name+"/"))
	})
}

func places() string {
	var s []string
	for _, p := range overlayPlaces {
		s = append(s, p.dir+" ("+p.what+")")
	}
	return strings.Join(s, " or ")
}

// check reads the configuration as the terminal will: out of a folder with all overlays laid together.
func (o *overlay) check(dirs []string) (terminal.Config, []terminal.Problem, error) {
	tmp, err := os.MkdirTemp("", "overlay-")
	if err != nil {
		return terminal.Config{}, nil, err
	}
	defer os.RemoveAll(tmp)
	for _, e := range sorted(o.tree) {
		name := filepath.Join(tmp, filepath.FromSlash(e.name))
		switch {
		case e.mode.IsDir():
			err = os.MkdirAll(name, 0o755)
		case e.link != "":
			err = os.Symlink(e.link, name)
		default:
			err = errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, e.data, 0o644))
		}
		if err != nil {
			return terminal.Config{}, nil, err
		}
	}
	cfg, problems := terminal.Load(filepath.Join(tmp, filepath.FromSlash(terminal.Path)))
	for i, p := range problems {
		// Name the file where the person has it.
		rel, err := filepath.Rel(tmp, p.File)
		if err != nil || strings.HasPrefix(rel, "..") {
			continue
		}
		problems[i].What = strings.ReplaceAll(p.What, tmp, "")
		if e, ok := o.tree[filepath.ToSlash(rel)]; ok {
			problems[i].File = e.source
		} else if len(dirs) > 0 {
			problems[i].File = filepath.Join(dirs[len(dirs)-1], rel)
		}
	}
	return cfg, problems, nil
}
