// Package debian fetches binary packages from the Debian mirrors that the
// machine's apt is set up for and reads files out of them.
//
// A package is downloaded once into a cache folder and checked against the
// SHA-256 sum of apt's signed package lists. Which versions were taken is
// remembered beside the packages, so that later builds take the same ones until
// [Store.Update] is set; [Store.Pins] takes the versions of an earlier image
// instead.
package debian

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Package is a binary package of a known version.
type Package struct {
	Name          string `json:"name"`
	Version       string `json:"version"`
	Architecture  string `json:"architecture"`
	Source        string `json:"source"`         // name of the source package
	SourceVersion string `json:"source_version"` // version of the source package
	SHA256        string `json:"sha256"`         // of the .deb file
	Depends       string `json:"depends,omitempty"`
}

// Store is a cache folder of packages.
type Store struct {
	Dir    string            // the folder, made when it is missing
	Pins   map[string]string // versions to take, by package name; nil: the candidates of apt
	Update bool              // ask apt again for versions although the cache knows some
	Log    func(format string, args ...any)
}

// indexName is the file that remembers which versions the cache holds.
const indexName = "packages.json"

// Fetch makes sure that the named packages are in the cache and opens them, in
// the order of the names.
func (s *Store) Fetch(ctx context.Context, names []string) ([]*Archive, error) {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, err
	}
	known := make(map[string]Package)
	if b, err := os.ReadFile(filepath.Join(s.Dir, indexName)); err == nil {
		if err := json.Unmarshal(b, &known); err != nil {
			return nil, fmt.Errorf("read %s: %w; delete it and build again", filepath.Join(s.Dir, indexName), err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []*Archive
	for _, n := range names {
		p, ok := known[n]
		if want := s.Pins[n]; want != "" && p.Version != want || s.Update && s.Pins[n] == "" || !ok || !exists(s.file(p)) {
			var err error
			if p, err = s.fetch(ctx, n); err != nil {
				return nil, err
			}
			known[n] = p
			b, err := json.MarshalIndent(known, "", "\t")
			if err == nil {
				err = writeFile(filepath.Join(s.Dir, indexName), append(b, '\n'))
			}
			if err != nil {
				return nil, err
			}
		}
		a, err := s.open(p)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func (s *Store) log(format string, args ...any) {
	if s.Log != nil {
		s.Log(format, args...)
	}
}

func (s *Store) file(p Package) string {
	return filepath.Join(s.Dir, fmt.Sprintf("%s_%s_%s.deb", p.Name, strings.ReplaceAll(p.Version, ":", "%3a"), p.Architecture))
}

// fetch downloads a package and checks it against apt's lists.
func (s *Store) fetch(ctx context.Context, name string) (Package, error) {
	p, err := s.candidate(ctx, name)
	if err != nil {
		return Package{}, err
	}
	if exists(s.file(p)) && s.verify(p) == nil {
		return p, nil
	}
	s.log("download %s %s", p.Name, p.Version)
	dir, err := os.MkdirTemp(s.Dir, "download-")
	if err != nil {
		return Package{}, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, "apt-get", "download", "-q", p.Name+"="+p.Version)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return Package{}, fmt.Errorf("download %s %s: %w\n%s", p.Name, p.Version, err, out)
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return Package{}, fmt.Errorf("download %s %s: apt-get wrote %d packages", p.Name, p.Version, len(debs))
	}
	if err := os.Rename(debs[0], s.file(p)); err != nil {
		return Package{}, err
	}
	return p, s.verify(p)
}

// verify compares a package file with the sum of the package lists.
func (s *Store) verify(p Package) error {
	f, err := os.Open(s.file(p))
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != p.SHA256 {
		return fmt.Errorf("%s has SHA-256 %s, the package list says %s; delete it and build again", s.file(p), got, p.SHA256)
	}
	return nil
}

// candidate asks apt for the version to take.
func (s *Store) candidate(ctx context.Context, name string) (Package, error) {
	if !packageName.MatchString(name) {
		return Package{}, fmt.Errorf("%q is no name of a package", name)
	}
	arg := name
	if v := s.Pins[name]; v != "" {
		arg += "=" + v
	}
	show := func() ([]byte, error) {
		return exec.CommandContext(ctx, "apt-cache", "show", "--no-all-versions", arg).Output()
	}
	out, err := show()
	if err != nil || len(out) == 0 {
		// The package lists may be missing or old.
		s.log("update the package lists")
		if out, uerr := exec.CommandContext(ctx, "apt-get", "update", "-q").CombinedOutput(); uerr != nil {
			return Package{}, fmt.Errorf("apt knows no package %s; updating its lists: %w\n%s", arg, uerr, out)
		}
		if out, err = show(); err != nil || len(out) == 0 {
			return Package{}, fmt.Errorf("apt knows no package %s (Debian 12 with its main and security archives is needed)", arg)
		}
	}
	return parsePackage(out)
}

var (
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	sha256Text  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	fileVersion = regexp.MustCompile(`^[0-9A-Za-z.+:~-]+$`)
)

// parsePackage reads the first paragraph of a package list.
func parsePackage(b []byte) (Package, error) {
	f := make(map[string]string)
	for l := range strings.Lines(string(b)) {
		l = strings.TrimRight(l, "\n")
		if l == "" {
			break
		}
		if k, v, ok := strings.Cut(l, ":"); ok && l[0] != ' ' {
			f[k] = strings.TrimSpace(v)
		}
	}
	p := Package{
		Name: f["Package"], Version: f["Version"], Architecture: f["Architecture"], SHA256: f["SHA256"], Depends: f["Depends"],
		Source: f["Package"], SourceVersion: f["Version"],
	}
	if src := f["Source"]; src != "" {
		// The version is named only where it is another one: "gcc-12 (12.2.0-14)".
		n, v, ok := strings.Cut(src, " ")
		p.Source = n
		if ok {
			p.SourceVersion = strings.Trim(v, "()")
		}
	}
	if !packageName.MatchString(p.Name) || !fileVersion.MatchString(p.Version) || !packageName.MatchString(p.Architecture) || !sha256Text.MatchString(p.SHA256) {
		return Package{}, fmt.Errorf("package list: package %q, version %q, architecture %q, SHA-256 %q", p.Name, p.Version, p.Architecture, p.SHA256)
	}
	return p, nil
}

// Archive is an opened package.
type Archive struct {
	Package
	file  *os.File
	files map[string]*File
	names []string // sorted
}

// File is a file of a package.
type File struct {
	Name   string // path without a leading slash
	Mode   fs.FileMode
	Link   string    // target of a symbolic link
	Time   time.Time // of the last change
	Size   int64
	offset int64
}

// open reads the list of files; the unpacked archive is kept in the cache, so
// that single files can be read without unpacking all of it again.
func (s *Store) open(p Package) (*Archive, error) {
	if err := s.verify(p); err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(s.file(p), ".deb") + ".tar"
	if !exists(name) {
		tmp, err := os.CreateTemp(s.Dir, "unpack-")
		if err != nil {
			return nil, err
		}
		defer os.Remove(tmp.Name())
		var msg bytes.Buffer
		cmd := exec.Command("dpkg-deb", "--fsys-tarfile", s.file(p))
		cmd.Stdout, cmd.Stderr = tmp, &msg
		if err := errors.Join(cmd.Run(), tmp.Close()); err != nil {
			return nil, fmt.Errorf("unpack %s: %w: %s", s.file(p), err, &msg)
		}
		if err := os.Rename(tmp.Name(), name); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	a := &Archive{Package: p, file: f, files: make(map[string]*File)}
	if err := a.index(); err != nil {
		f.Close()
		return nil, fmt.Errorf("read %s: %w; delete it and build again", name, err)
	}
	return a, nil
}

func (a *Archive) index() error {
	for r := tar.NewReader(a.file); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean(h.Name), "/")
		e := &File{Name: name, Mode: h.FileInfo().Mode(), Link: h.Linkname, Time: h.ModTime, Size: h.Size}
		switch h.Typeflag {
		case tar.TypeReg:
			if e.offset, err = a.file.Seek(0, io.SeekCurrent); err != nil {
				return err
			}
		case tar.TypeLink: // the same file under another name
			first, ok := a.files[path.Clean(h.Linkname)]
			if !ok {
				return fmt.Errorf("%s is a link to %s, which did not come before", name, h.Linkname)
			}
			c := *first
			c.Name = name
			e = &c
		case tar.TypeDir, tar.TypeSymlink:
		default:
			return fmt.Errorf("%s is of the type %q, which no package needs", name, h.Typeflag)
		}
		if _, ok := a.files[name]; !ok {
			a.names = append(a.names, name)
		}
		a.files[name] = e
	}
	slices.Sort(a.names)
	return nil
}

// Close closes the archive.
func (a *Archive) Close() error { return a.file.Close() }

// Names lists the files in alphabetical order.
func (a *Archive) Names() []string { return a.names }

// Lookup finds a file by its path.
func (a *Archive) Lookup(name string) (*File, bool) {
	f, ok := a.files[name]
	return f, ok
}

// Read reads a file. Symbolic links within the package are followed.
func (a *Archive) Read(name string) ([]byte, error) {
	for range 8 {
		f, ok := a.files[name]
		switch {
		case !ok:
			return nil, fmt.Errorf("package %s %s: %s: %w", a.Name, a.Version, name, fs.ErrNotExist)
		case f.Mode.IsRegular():
			b := make([]byte, f.Size)
			if _, err := a.file.ReadAt(b, f.offset); err != nil {
				return nil, fmt.Errorf("package %s %s: %s: %w", a.Name, a.Version, name, err)
			}
			return b, nil
		case f.Mode.Type() == fs.ModeSymlink:
			if path.IsAbs(f.Link) {
				name = strings.TrimPrefix(path.Clean(f.Link), "/")
			} else {
				name = path.Join(path.Dir(name), f.Link)
			}
		default:
			return nil, fmt.Errorf("package %s %s: %s is not a file", a.Name, a.Version, name)
		}
	}
	return nil, fmt.Errorf("package %s %s: %s: links in a circle", a.Name, a.Version, name)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// writeFile replaces a file as a whole.
func writeFile(name string, b []byte) error {
	tmp := name + ".new"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// DependsOn lists the names of the packages that a package depends on; of alternatives the first.
func (p Package) DependsOn() []string {
	var names []string
	for _, d := range strings.Split(p.Depends, ",") {
		if f := strings.Fields(d); len(f) > 0 {
			names = append(names, f[0])
		}
	}
	return names
}
