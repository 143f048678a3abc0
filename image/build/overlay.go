package build

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"ktradv/image/kernel"
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
	merged  string // folder with all of it laid together
}

func (o *overlay) close() { os.RemoveAll(o.merged) }

// name is the path in the image of a file of the merged folder.
func (o *overlay) name(file string) string {
	rel, err := filepath.Rel(o.merged, file)
	if err != nil {
		return file
	}
	return filepath.ToSlash(rel)
}

// where names files of the merged folder as the person has them.
func (o *overlay) where(text string) string {
	for _, e := range slices.Backward(sorted(o.tree)) { // what is in a folder before the folder
		if e.file != "" {
			text = strings.ReplaceAll(text, filepath.Join(o.merged, filepath.FromSlash(e.name)), e.file)
		}
	}
	return strings.ReplaceAll(text, o.merged, "")
}

// loadOverlay reads the base overlay of the project and the given ones over it, the later ones over the earlier ones,
// and checks them. The error holds every mistake (ProblemsError); with one of those the overlay is there all the same, so that
// the kiosk can look at the rest of it.
func loadOverlay(root string, dirs []string) (*overlay, error) {
	tmp, err := os.MkdirTemp("", "overlay-")
	if err != nil {
		return nil, err
	}
	o := &overlay{tree: make(map[string]entry), merged: tmp}
	err = o.load(root, dirs)
	if wrong := (ProblemsError)(nil); err != nil && !errors.As(err, &wrong) {
		o.close()
		return nil, err
	}
	return o, err
}

func (o *overlay) load(root string, dirs []string) error {
	var problems ProblemsError
	base := filepath.Join(root, "overlays", "base")
	for _, dir := range append([]string{base}, dirs...) {
		p, err := o.read(dir, dir == base)
		if err != nil {
			return err
		}
		problems = append(problems, p...)
	}
	if err := o.merge(); err != nil {
		return err
	}
	cfg, more := terminal.Load(filepath.Join(o.merged, filepath.FromSlash(terminal.Path)))
	for _, p := range append(more, cfg.Appliance(filepath.Join(o.merged, filepath.FromSlash(terminal.Path)))...) {
		if len(dirs) > 0 && o.tree[o.name(p.File)].file == "" { // what is missing belongs into the last one
			p.File = filepath.Join(dirs[len(dirs)-1], filepath.FromSlash(o.name(p.File)))
		}
		problems = append(problems, terminal.Problem{File: o.where(p.File), Key: p.Key, What: o.where(p.What), Fix: o.where(p.Fix)})
	}
	o.modules = cfg.Modules.Extra
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// unknownModules names what the overlay wants of the kernel and the kernel does not have.
func (o *overlay) unknownModules(k *kernel.Tree) (problems ProblemsError) {
	file := o.where(filepath.Join(o.merged, filepath.FromSlash(terminal.Path)))
	for i, name := range o.modules {
		if name == "" {
			continue // named already
		}
		if err := k.Check([]string{name}); err != nil {
			problems = append(problems, terminal.Problem{
				File: file, Key: fmt.Sprintf("modules.extra[%d]", i), What: err.Error(),
				Fix: "write the name of a module of this kernel (the driver as `lspci -k` names it), or leave it out",
			})
		}
	}
	return problems
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
		e := entry{name: name, source: "overlay " + filepath.Base(dir), file: file, reason: reasonOf(name)}
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
			if bytes.Contains(e.data, []byte("PRIVATE KEY-----")) {
				bad("holds a private key", "take it away: a terminal needs none, and whoever gets the disk has it")
				return nil
			}
		case fs.ModeSymlink:
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			if path.IsAbs(target) || goesUpLater(target) || !inPlace(path.Join(path.Dir(name), target), false) {
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
			if d.IsDir() {
				return fs.SkipDir // nothing is laid behind a link
			}
			return nil
		}
		o.tree[name] = e
		return nil
	})
	return problems, err
}

// goesUpLater says whether a link goes up after it has gone down: over another link that leads somewhere that its text does
// not show.
func goesUpLater(target string) bool {
	down := false
	for e := range strings.SplitSeq(target, "/") {
		if down && e == ".." {
			return true
		}
		down = down || e != ".." && e != "." && e != ""
	}
	return false
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

// reasonOf says why a file of an overlay is in the image: what belongs into its place.
func reasonOf(name string) string {
	for _, p := range overlayPlaces {
		if strings.HasPrefix(name, p.dir+"/") {
			return p.what
		}
	}
	return "system"
}

// merge lays everything together, as the terminal will have it.
func (o *overlay) merge() error {
	for _, e := range sorted(o.tree) {
		name := filepath.Join(o.merged, filepath.FromSlash(e.name))
		var err error
		switch {
		case e.mode.IsDir():
			err = os.MkdirAll(name, 0o755)
		case e.link != "":
			err = os.Symlink(e.link, name)
		default:
			err = errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, e.data, 0o644))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
