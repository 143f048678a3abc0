package build

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ktradv/image/kernel"
)

// project is the root of the project.
const project = "../.."

// demo copies the overlay of the demonstration.
func demo(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(project, "overlays", "demo"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestOverlays(t *testing.T) {
	t.Parallel()
	more := t.TempDir()
	write(t, filepath.Join(more, "etc/adv/trust/tls/run.pem"), "later")
	write(t, filepath.Join(more, "etc/adv/design/ui.json"), "{}")
	write(t, filepath.Join(more, "lib/firmware/gpu.bin"), "firmware")
	write(t, filepath.Join(more, "README.md"), "notes")
	if err := os.Symlink("run.pem", filepath.Join(more, "etc/adv/trust/tls/server.pem")); err != nil {
		t.Fatal(err)
	}
	o, err := loadOverlay(project, []string{demo(t), more})
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	for name, want := range map[string]string{"etc/adv/trust/tls/run.pem": "later", "lib/firmware/gpu.bin": "firmware", "etc/hosts": "127.0.0.1 localhost\n"} {
		e, ok := o.tree[name]
		if !ok || string(e.data) != want || e.mode != 0o644 || e.uid != 0 {
			t.Errorf("%s: %q %v of user %v", name, e.data, e.mode, e.uid)
		}
		if b, err := os.ReadFile(filepath.Join(o.merged, name)); err != nil || string(b) != want {
			t.Errorf("%s in the merged folder: %q, %v", name, b, err)
		}
	}
	if e := o.tree["etc/adv/trust/tls/server.pem"]; e.link != "run.pem" || e.mode.Type() != fs.ModeSymlink {
		t.Errorf("link: %+v", e)
	}
	if _, ok := o.tree["README.md"]; ok {
		t.Error("the notes of the overlay are laid into the image")
	}
	if len(o.modules) == 0 {
		t.Error("modules.extra is not read")
	}
}

// Every mistake is named, with the file as the person has it.
func TestOverlayRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string)
		want   []string // each in a line of its own
	}{
		{"first process", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "init"), "x") }, []string{"/init: this place belongs to the product; keep to etc/adv"}},
		{"program", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "usr/bin/adv-kiosk"), "x") }, []string{"/usr: this folder belongs to the product"}},
		{"users", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "etc/passwd"), "x") }, []string{"/etc/passwd: this place belongs to the product"}},
		{"modules", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "lib/modules/x.ko"), "x") }, []string{"/lib/modules: this folder belongs"}},
		{"link out", func(t *testing.T, dir string) {
			for name, target := range map[string]string{"a": "../../../init", "b": "/etc/passwd", "c": "../passwd"} {
				if err := os.Symlink(target, filepath.Join(dir, "etc/adv", name)); err != nil {
					t.Fatal(err)
				}
			}
		}, []string{"/etc/adv/a: is a link that leads out", "/etc/adv/b: is a link that leads out", "/etc/adv/c: is a link that leads out"}},
		{"link out over another link", func(t *testing.T, dir string) {
			if err := os.MkdirAll(filepath.Join(dir, "etc/adv/deep/er"), 0o755); err != nil {
				t.Fatal(err)
			}
			// By its text the second link stays below etc/adv; over the first one it leads to the root of whoever builds.
			for name, target := range map[string]string{"deep/er/top": "../../trust", "out": "deep/er/top/../../.."} {
				if err := os.Symlink(target, filepath.Join(dir, "etc/adv", name)); err != nil {
					t.Fatal(err)
				}
			}
		}, []string{"/etc/adv/out: is a link that leads out"}},
		{"setuid", func(t *testing.T, dir string) {
			name := filepath.Join(dir, "etc/adv/tool")
			write(t, name, "x")
			if err := os.Chmod(name, 0o755|fs.ModeSetuid); err != nil {
				t.Fatal(err)
			}
		}, []string{"/etc/adv/tool: is set to run as another user; take the setuid"}},
		{"pipe in place of a file", func(t *testing.T, dir string) {
			if err := syscall.Mkfifo(filepath.Join(dir, "etc/adv/pipe"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, []string{"/etc/adv/pipe: is no file, folder or link"}},
		{"private key", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "etc/adv/trust/tls/key.pem"), "-----BEGIN EC PRIVATE KEY-----\n")
		}, []string{"/etc/adv/trust/tls/key.pem: holds a private key; take it away"}},
		{"several mistakes of the configuration", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "etc/adv/terminal.json"), `{"display": {"rotation": 45}, "network": {"mode": "static"}, "colour": 1}`)
			if err := os.RemoveAll(filepath.Join(dir, "etc/adv/trust/cvc")); err != nil {
				t.Fatal(err)
			}
		}, []string{"/etc/adv/terminal.json: display.rotation:", "/etc/adv/terminal.json: network.address:", "/etc/adv/terminal.json: colour:", "/etc/adv/terminal.json: server.address:", "card_roots:"}},
		{"a configuration for a desk", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "etc/adv/terminal.json"), `{"server": {"address": "adv.example:8443"}, "display": {"platform": "memory"},
				"reader": {"socket": "/tmp/pcscd.comm", "pcscd_config": "trust", "pcscd_private": true}, "log": {"enabled": true, "dir": "/tmp/log"}}`)
		}, []string{"/etc/adv/terminal.json: display.platform: \"memory\" leaves the terminal's own display black; write `drm`",
			"/etc/adv/terminal.json: reader.socket:", "/etc/adv/terminal.json: reader.pcscd_config:", "/etc/adv/terminal.json: reader.pcscd_private:",
			"/etc/adv/terminal.json: log.dir: \"/tmp/log\" is a folder that the kiosk may not write to; leave it out"}},
		{"a window", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "etc/adv/terminal.json"), `{"server": {"address": "adv.example:8443"}, "display": {"platform": "window"}}`)
		}, []string{"/etc/adv/terminal.json: display.platform: \"window\""}},
		{"no configuration", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "etc/adv/terminal.json")); err != nil {
				t.Fatal(err)
			}
		}, []string{"/etc/adv/terminal.json: cannot be read"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := demo(t)
			c.change(t, dir)
			o, err := loadOverlay(project, []string{dir})
			if o == nil {
				t.Fatal(err)
			}
			defer o.close()
			var problems ProblemsError
			if !errors.As(err, &problems) {
				t.Fatalf("got %v; want problems", err)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("no line with %q in:\n%v", w, err)
				}
			}
			for _, p := range problems {
				if !strings.HasPrefix(p.File, dir) {
					t.Errorf("file %s is not where the person has it: %v", p.File, p)
				}
			}
		})
	}
}

// packageFiles are the files of a kernel package, with the same content in each.
type packageFiles []string

func (p packageFiles) Names() []string           { return p }
func (packageFiles) Read(string) ([]byte, error) { return []byte("kernel/fs/built-in.ko\n"), nil }

// Every module that the kernel does not have is named, with file, key and what mends it, whatever else is wrong.
func TestUnknownModules(t *testing.T) {
	t.Parallel()
	k, err := kernel.Open(packageFiles{"lib/modules/6.1.0/kernel/good-gpu.ko"})
	if err != nil {
		t.Fatal(err)
	}
	dir := demo(t)
	for _, c := range []struct{ text, want string }{
		{`{"server": {"address": "adv.example:8443"}, "modules": {"extra": ["good_gpu", "i919", "good-gpu", "built_in", "8021x"]}}`, "modules.extra[1] i919, modules.extra[4] 8021x"},
		{`{"display": {"rotation": 45}, "modules": {"extra": ["../evil", "i919"]}}`, "modules.extra[1] i919"},
		{`{"server": {"address": "adv.example:8443"}, "modules": {"extra": ["good_gpu"]}}`, ""},
		{`{"server": {"address": "adv.example:8443"}}`, ""},
	} {
		name := filepath.Join(dir, "etc/adv/terminal.json")
		write(t, name, c.text)
		o, err := loadOverlay(project, []string{dir})
		if o == nil {
			t.Fatal(err)
		}
		defer o.close()
		var got []string
		for _, p := range o.unknownModules(k) {
			what, ok := strings.CutPrefix(p.What, "kernel 6.1.0 has no module ")
			if p.File != name || !ok || !strings.Contains(p.Fix, "lspci -k") {
				t.Errorf("%v: want the file as the person has it, the kernel, and what mends it", p)
			}
			got = append(got, p.Key+" "+what)
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %q; want %q", c.text, s, c.want)
		}
	}
}

func TestOverlayMissing(t *testing.T) {
	t.Parallel()
	if _, err := loadOverlay(project, []string{filepath.Join(t.TempDir(), "none")}); err == nil || !strings.Contains(err.Error(), "is not a folder") {
		t.Errorf("got %v", err)
	}
}
