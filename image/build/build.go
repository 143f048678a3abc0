// Package build makes the terminal's image: Debian's kernel, the few Debian packages that the card service needs, our
// programs and an overlay, packed so that the same input gives the same bytes, whenever and wherever it is built.
//
// Everything is in one initramfs; there is no root partition. It consists of two archives, one after the other: the
// system, which is the same for all terminals, and the overlay with what makes one insurer's terminal (configuration,
// trust store, design). The second never replaces a file of the first.
package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ktradv/image/debian"
	"ktradv/image/init/users"
	"ktradv/image/kernel"
	"ktradv/image/modules"
	"ktradv/internal/terminal"
)

// Config says what to build.
type Config struct {
	Root     string            // folder of the project (go.mod)
	Overlays []string          // folders, each laid over those before it; overlays/base of the project comes first
	Out      string            // folder for the results, made when it is missing
	Cache    string            // folder for downloads and for what need not be made again
	Pins     map[string]string // versions of Debian packages; nil: what the cache knows, else apt's candidates
	Update   bool              // ask apt for newer versions
	Log      func(format string, args ...any)
}

// Result names the files of an image.
type Result struct {
	Kernel    string // vmlinuz
	Initramfs string // initramfs.cpio.zst
	Cmdline   string // the kernel command line, as text
	UKI       string // adv.efi: kernel, command line and initramfs as one EFI program
	Disk      string // disk.img: the UKI in both slots, and an empty data partition
	SBOM      string // sbom.spdx.json
	Files     string // files.tsv: every file with size, sum, origin and reason
	Copyright string // folder with the copyright files of the Debian packages
	Manifest  string // manifest.json: what it was made of, and sizes and sums of everything above
}

// Manifest is the content of manifest.json.
type Manifest struct {
	Version  string            `json:"version"` // of the AdV-App
	Kernel   string            `json:"kernel"`  // as uname -r says
	Go       string            `json:"go"`      // version of Go that linked the programs
	Epoch    int64             `json:"epoch"`   // time of the youngest part, seconds since 1970; the time of all file systems
	Cmdline  string            `json:"cmdline"`
	Overlays []string          `json:"overlays"`
	Packages []debian.Package  `json:"packages"`
	Outputs  map[string]Output `json:"outputs"`
}

// Output is one file of the image.
type Output struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// entry is one file of the image.
type entry struct {
	name   string // path without a leading slash
	mode   fs.FileMode
	uid    users.ID
	data   []byte
	link   string // target of a symbolic link
	major  uint32 // of a device node, with minor
	minor  uint32
	origin *debian.Archive // nil: ours
	source string          // of ours: the Go package or the overlay
	file   string          // of an overlay: the file itself
	reason string
}

type builder struct {
	Config
	ctx      context.Context
	packages []*debian.Archive
	kernel   *debian.Archive
	modules  *kernel.Tree // of the kernel
	version  string       // of the kernel
	tree     map[string]entry
	bin      map[string]string // our programs as files of this machine, by their path in the image
	epoch    time.Time         // the youngest file of all packages
}

func mapKeys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

// Build makes an image.
func Build(ctx context.Context, cfg Config) (Result, error) {
	b := &builder{Config: cfg, ctx: ctx, tree: make(map[string]entry), bin: make(map[string]string)}
	if b.Log == nil {
		b.Log = func(string, ...any) {}
	}
	for _, d := range []*string{&b.Root, &b.Out, &b.Cache} {
		var err error
		if *d, err = filepath.Abs(*d); err != nil {
			return Result{}, err
		}
	}
	for _, d := range []string{b.Out, b.Cache} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return Result{}, err
		}
	}
	unlock, err := b.lock()
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	over, err := loadOverlay(b.Root, b.Overlays)
	if over == nil {
		return Result{}, err
	}
	defer over.close()
	defer b.close()
	opened := b.openPackages()
	if wrong := (ProblemsError)(nil); errors.As(err, &wrong) {
		if opened == nil { // else the rest can be mended all the same
			wrong = append(wrong, over.unknownModules(b.modules)...)
		}
		return Result{}, b.withKiosk(over, wrong)
	}
	if opened != nil {
		return Result{}, opened
	}
	if wrong := over.unknownModules(b.modules); len(wrong) > 0 {
		return Result{}, b.withKiosk(over, wrong)
	}
	for _, step := range []func() error{b.addPrograms, func() error { return b.checkWithKiosk(over) }, b.addFiles, b.addLibraries, func() error { return b.addModules(over.modules) }} {
		if err := step(); err != nil {
			return Result{}, err
		}
	}
	return b.write(over)
}

// openPackages fetches the packages of the table and the kernel's.
func (b *builder) openPackages() error {
	store := &debian.Store{Dir: filepath.Join(b.Cache, "debian"), Pins: b.Pins, Update: b.Update, Log: b.Log}
	var names []string
	for _, p := range packages {
		names = append(names, p.name)
	}
	var err error
	if b.packages, err = store.Fetch(b.ctx, names); err != nil {
		return err
	}
	if b.kernel, err = kernel.Fetch(b.ctx, store); err != nil {
		return err
	}
	b.packages = append(b.packages, b.kernel)
	if b.modules, err = kernel.Open(b.kernel); err != nil {
		return err
	}
	b.version = b.modules.Version
	for _, p := range b.packages {
		for _, n := range p.Names() {
			if f, _ := p.Lookup(n); f.Time.After(b.epoch) {
				b.epoch = f.Time
			}
		}
	}
	return nil
}

// Pins reads the versions of an image's Debian packages from its manifest, to build with the same ones again.
func Pins(manifest string) (map[string]string, error) {
	data, err := os.ReadFile(manifest)
	if err != nil {
		return nil, err
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("read %s: %w", manifest, err)
	}
	pins := make(map[string]string)
	for _, p := range m.Packages {
		pins[p.Name] = p.Version
	}
	if len(pins) == 0 {
		return nil, fmt.Errorf("%s names no packages", manifest)
	}
	return pins, nil
}

func (b *builder) close() {
	for _, p := range b.packages {
		p.Close()
	}
}

// find reads a file from whichever package has it.
func (b *builder) find(name string) (*debian.Archive, []byte, error) {
	for _, p := range b.packages {
		f, ok := p.Lookup(name)
		if !ok {
			continue
		}
		if path.IsAbs(f.Link) { // may lead into another package
			name = strings.TrimPrefix(path.Clean(f.Link), "/")
			if _, ok := p.Lookup(name); !ok {
				return b.find(name)
			}
		}
		data, err := p.Read(name)
		return p, data, err
	}
	return nil, nil, fmt.Errorf("%s is in none of the packages: %w", name, fs.ErrNotExist)
}

// add puts a file into the tree, and the folders above it.
func (b *builder) add(e entry) {
	b.tree[e.name] = e
	for d := path.Dir(e.name); d != "."; d = path.Dir(d) {
		if _, ok := b.tree[d]; !ok {
			b.tree[d] = entry{name: d, mode: fs.ModeDir | 0o755, reason: "folder"}
		}
	}
}

// addPrograms builds our own programs.
func (b *builder) addPrograms() error {
	env, err := goEnv(b.ctx, b.Root, os.Environ())
	if err != nil {
		return err
	}
	for _, p := range programs {
		out := filepath.Join(b.Cache, "bin", path.Base(p.pkg))
		b.Log("build %s", p.pkg)
		args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out}
		cgo := "0"
		if p.tags != "" {
			args, cgo = append(args, "-tags="+p.tags), "1"
		}
		cmd := exec.CommandContext(b.ctx, "go", append(args, "./"+p.pkg)...)
		cmd.Dir = b.Root
		cmd.Env = append(slices.Clip(env), "CGO_ENABLED="+cgo)
		if msg, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", p.pkg, err, msg)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			return err
		}
		b.bin[p.name] = out
		b.add(entry{name: p.name, mode: 0o755, data: data, source: p.pkg, reason: p.reason})
	}
	return nil
}

// withKiosk adds to the mistakes of an overlay those that only the kiosk finds, so that all can be mended in one go.
func (b *builder) withKiosk(over *overlay, wrong ProblemsError) error {
	if err := b.addPrograms(); err != nil {
		return errors.Join(wrong, err)
	}
	var err error = wrong
	if more := b.checkWithKiosk(over); more != nil {
		for line := range strings.Lines(more.Error()) {
			known := slices.ContainsFunc(wrong, func(p terminal.Problem) bool {
				return p.Key != "" && strings.Contains(line, ": "+p.Key+": ") || strings.Contains(line, ": "+p.What+"; ")
			})
			if strings.HasPrefix(line, "  ") && !known {
				err = fmt.Errorf("%w\n%s", err, strings.TrimRight(line, "\n"))
			}
		}
	}
	return err
}

// checkWithKiosk lets the kiosk itself look at the configuration and at everything that it names: certificates, roots, design.
func (b *builder) checkWithKiosk(over *overlay) error {
	out, err := exec.CommandContext(b.ctx, b.bin[kioskName], "-check", "-config", filepath.Join(over.merged, filepath.FromSlash(terminal.Path))).CombinedOutput()
	if err != nil {
		return fmt.Errorf("the kiosk does not accept the overlay: %w\n%s", err, over.where(string(out)))
	}
	return nil
}

// addFiles adds the single files and folders of the tables.
func (b *builder) addFiles() error {
	for _, f := range files {
		a, data, err := b.find(f.name)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if f.program {
			mode = 0o755
		}
		b.add(entry{name: f.name, mode: mode, data: data, origin: a, reason: f.reason})
	}
	for _, l := range loaded {
		if err := b.addLibrary(l.name, l.reason); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	for _, d := range folders {
		b.add(entry{name: d.name, mode: fs.ModeDir | d.mode, reason: d.reason})
	}
	b.add(entry{name: "dev/null", mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, major: 1, minor: 3, source: "image/build",
		reason: "Go programs start only with files 0 to 2 open; there is no console, and devtmpfs is not mounted yet"})
	own := func(name string, data []byte, reason string) {
		b.add(entry{name: name, mode: 0o644, data: data, source: "image/build", reason: reason})
	}
	own("etc/passwd", users.Passwd(), "names of the users")
	own("etc/group", users.Group(), "names of the groups")
	own("etc/os-release", b.osRelease(), "what system this is")
	return nil
}

// osRelease describes the system; it is in the image and in the UKI.
func (b *builder) osRelease() []byte {
	return fmt.Appendf(nil, "ID=ktr-adv\nNAME=\"KTR-AdV terminal\"\nPRETTY_NAME=\"KTR-AdV terminal (kernel %s)\"\nBUILD_ID=%s\n",
		b.kernel.Version, b.epoch.UTC().Format("20060102150405"))
}

// addModules adds the kernel modules.
func (b *builder) addModules(extra []string) error {
	reasons := make(map[string]string)
	var wanted []string
	for _, m := range modules.Base {
		wanted = append(wanted, m.Name)
		reasons[kernel.Name(m.Name)] = m.Reason
	}
	for _, m := range extra {
		wanted = append(wanted, m)
		if n := kernel.Name(m); reasons[n] == "" {
			reasons[n] = "named by the overlay (modules.extra)"
		}
	}
	list, err := b.modules.Closure(wanted)
	if err != nil {
		return err
	}
	for _, m := range list {
		if !kernel.Signed(m.Data) {
			return fmt.Errorf("module %s carries no signature; the kernel would refuse it", m.Path)
		}
		reason := reasons[m.Name]
		if reason == "" {
			reason = "needed by module " + m.Wanted
		}
		b.add(entry{name: m.Path, mode: 0o644, data: m.Data, origin: b.kernel, reason: reason})
	}
	b.add(entry{name: "lib/modules/" + b.version + "/modules.dep", mode: 0o644, data: kernel.Dep(b.version, list), source: "image/kernel",
		reason: "which module needs which"})
	return nil
}

// pad4 fills up to a multiple of four bytes: where the kernel looks for the next archive.
func pad4(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// compress packs an archive, or takes the packed one from the cache: the same archive is packed to the same bytes.
func (b *builder) compress(archive []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(archive)
	name := filepath.Join(b.Cache, "zstd-19-24", hex.EncodeToString(sum[:])+".zst")
	if data, err := os.ReadFile(name); err == nil {
		return data, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	b.Log("compress %d bytes", len(archive))
	var out, msg bytes.Buffer
	// A window of 16 MiB reaches from one of our programs into the other, which share most of Go's runtime.
	cmd := exec.CommandContext(b.ctx, "zstd", "-19", "--zstd=wlog=24", "-T1", "--no-progress", "-q", "-c")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(archive), &out, &msg
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("compress the initramfs: %w: %s", err, &msg)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(name+".new", out.Bytes(), 0o644); err != nil {
		return nil, err
	}
	return out.Bytes(), os.Rename(name+".new", name)
}

// sorted lists a tree by name, folders before what is in them.
func sorted(tree map[string]entry) []entry {
	var out []entry
	for _, n := range slices.Sorted(maps.Keys(tree)) {
		out = append(out, tree[n])
	}
	return out
}
