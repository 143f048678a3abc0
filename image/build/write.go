package build

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"ktradv/image/debian"
	"ktradv/image/disk"
	"ktradv/image/init/users"
	"ktradv/image/sbom"
	"ktradv/image/uki"
)

// write packs everything and writes what belongs beside it.
func (b *builder) write(over *overlay) (Result, error) {
	file := func(name string) string { return filepath.Join(b.Out, name) }
	r := Result{
		Kernel: file("vmlinuz"), Initramfs: file("initramfs.cpio.zst"), Cmdline: file("cmdline"), UKI: file("adv.efi"), Disk: file("disk.img"),
		SBOM: file("sbom.spdx.json"), Files: file("files.tsv"), Copyright: file("copyright"), Manifest: file("manifest.json"),
	}
	vmlinuz, err := b.kernel.Read("boot/vmlinuz-" + b.version)
	if err != nil {
		return Result{}, err
	}
	_, stub, err := b.find(efiStub)
	if err != nil {
		return Result{}, err
	}
	system, err := b.compress(archive(b.tree))
	if err != nil {
		return Result{}, err
	}
	rest, err := b.compress(archive(over.tree))
	if err != nil {
		return Result{}, err
	}
	initramfs := append(pad4(system), rest...)
	efi, err := uki.Write(uki.Image{Stub: stub, OSRel: b.osRelease(), Cmdline: Cmdline, Uname: b.version, Kernel: vmlinuz, Initrd: initramfs})
	if err != nil {
		return Result{}, err
	}
	version, err := b.appVersion()
	if err != nil {
		return Result{}, err
	}
	bill, err := b.bill(version, efi)
	if err != nil {
		return Result{}, err
	}
	outputs := map[string][]byte{
		r.Kernel: vmlinuz, r.Initramfs: initramfs, r.Cmdline: []byte(Cmdline + "\n"), r.UKI: efi, r.SBOM: bill, r.Files: b.list(over, vmlinuz, stub),
	}
	if err := errors.Join(os.RemoveAll(r.Copyright), os.Mkdir(r.Copyright, 0o755)); err != nil {
		return Result{}, err
	}
	for _, p := range b.packages {
		outputs[filepath.Join(r.Copyright, p.Name)] = b.copyright(p)
	}
	for name, data := range outputs {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return Result{}, err
		}
	}
	if err := disk.Write(b.ctx, r.Disk, disk.Config{A: efi, B: efi, Time: b.epoch}); err != nil {
		return Result{}, fmt.Errorf("make the disk: %w", err)
	}
	if err := b.manifest(r, version); err != nil {
		return Result{}, err
	}
	b.Log("kernel %d bytes, initramfs %d bytes, slot %d bytes, in %s", len(vmlinuz), len(initramfs), len(efi), b.Out)
	return r, nil
}

// appVersion asks the kiosk for its version.
func (b *builder) appVersion() (string, error) {
	out, err := exec.CommandContext(b.ctx, b.bin[kioskName], "-version").Output()
	if err != nil {
		return "", fmt.Errorf("ask the kiosk for its version: %w", err)
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "adv-kiosk "), nil
}

// copyright reads the copyright file of a package, which may stand in the package that it was built with.
func (b *builder) copyright(p *debian.Archive) []byte {
	name := "usr/share/doc/" + p.Name
	if f, ok := p.Lookup(name); ok && f.Mode.Type() == fs.ModeSymlink {
		name = filepath.ToSlash(filepath.Join("usr/share/doc", f.Link))
	}
	_, data, err := b.find(name + "/copyright")
	if err != nil {
		return nil
	}
	return data
}

// bill writes the bill of materials.
func (b *builder) bill(version string, efi []byte) ([]byte, error) {
	img := sbom.Image{Name: "ktr-adv-terminal", Version: version, SHA256: sum(efi), Created: b.epoch}
	for _, p := range b.packages {
		if !b.used(p) {
			continue
		}
		text := b.copyright(p)
		if len(text) == 0 {
			return nil, fmt.Errorf("package %s %s has no copyright file", p.Name, p.Version)
		}
		img.Debian = append(img.Debian, sbom.Debian{
			Name: p.Name, Version: p.Version, Architecture: p.Architecture, Source: p.Source, SourceVersion: p.SourceVersion, SHA256: p.SHA256, Copyright: text,
		})
	}
	for _, p := range programs {
		img.Programs = append(img.Programs, sbom.Program{Name: p.name, Data: b.tree[p.name].data})
	}
	return sbom.Write(img)
}

// used says whether something of a package is in the image.
func (b *builder) used(p *debian.Archive) bool {
	if _, stub := p.Lookup(efiStub); stub {
		return true
	}
	for _, e := range b.tree {
		if e.origin == p {
			return true
		}
	}
	return false
}

// list writes a line for every file: what it is and why it is there.
func (b *builder) list(over *overlay, vmlinuz, stub []byte) []byte {
	var out bytes.Buffer
	out.WriteString("path\tsize\tsha256\tmode\towner\torigin\treason\n")
	line := func(name string, data []byte, mode fs.FileMode, owner users.ID, origin, reason string) {
		digest := "-"
		if mode.IsRegular() {
			digest = sum(data)
		}
		fmt.Fprintf(&out, "%s\t%d\t%s\t%v\t%v\t%s\t%s\n", name, len(data), digest, mode, owner, origin, reason)
	}
	from := func(p *debian.Archive) string { return p.Name + " " + p.Version }
	line("(kernel)", vmlinuz, 0o644, users.Root, from(b.kernel), "kernel; part of the UKI, or beside the initramfs")
	if p, _, err := b.find(efiStub); err == nil {
		line("(efi stub)", stub, 0o644, users.Root, from(p), "starts the kernel; part of the UKI")
	}
	for _, tree := range []map[string]entry{b.tree, over.tree} {
		for _, e := range sorted(tree) {
			origin := e.source
			if e.origin != nil {
				origin = from(e.origin)
			}
			if e.mode.IsDir() && origin == "" {
				origin = "-"
			}
			line("/"+e.name, e.data, e.mode, e.uid, origin, e.reason)
		}
	}
	return out.Bytes()
}

// manifest says what was built from what.
func (b *builder) manifest(r Result, version string) error {
	m := Manifest{Version: version, Kernel: b.version, Epoch: b.epoch.Unix(), Cmdline: Cmdline, Outputs: make(map[string]Output)}
	info, err := buildinfo.ReadFile(b.bin[kioskName])
	if err != nil {
		return err
	}
	m.Go = info.GoVersion
	for _, d := range b.Overlays {
		m.Overlays = append(m.Overlays, filepath.Base(d))
	}
	for _, p := range b.packages {
		m.Packages = append(m.Packages, p.Package)
	}
	for _, name := range []string{r.Kernel, r.Initramfs, r.Cmdline, r.UKI, r.Disk, r.SBOM, r.Files} {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		h := sha256.New()
		n, err := io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		m.Outputs[filepath.Base(name)] = Output{n, hex.EncodeToString(h.Sum(nil))}
	}
	data, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(r.Manifest, append(data, '\n'), 0o644)
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
