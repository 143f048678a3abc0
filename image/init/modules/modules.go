// Package modules loads the kernel modules of the terminal, once, at boot; afterwards adv-init forbids loading.
//
// What to load comes as a list (image/modules and the overlay's own). Dependencies are resolved and loaded by u-root's
// kmodule. A module that does not load is noted and the boot goes on: a terminal without its
// network driver still tells what is wrong.
package modules

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Prober loads a module with what it depends on; u-root's kmodule.Prober is the real one.
type Prober interface {
	Probe(name, params string) error
}

// params are parameters of modules. The USB core admits no device by itself: package usb decides. Displays have no text
// console, which nobody may see, and no picture memory for it.
var params = map[string]string{"usbcore": "authorized_default=0", "drm_kms_helper": "fbdev_emulation=0"}

// before lists modules that have to be there before another without being a dependency that the module declares, or
// because they bear parameters and would otherwise be loaded without.
var before = map[string][]string{
	"ext4":           {"crc32c_generic"}, // asked for by name while ext4 starts
	"virtio_gpu":     {"drm_kms_helper"},
	"bochs":          {"drm_kms_helper"},
	"i915":           {"drm_kms_helper"},
	"amdgpu":         {"drm_kms_helper"},
	"radeon":         {"drm_kms_helper"},
	"nouveau":        {"drm_kms_helper"},
	"ast":            {"drm_kms_helper"},
	"mgag200":        {"drm_kms_helper"},
	"cirrus":         {"drm_kms_helper"},
	"gud":            {"drm_kms_helper"},
	"hyperv_drm":     {"drm_kms_helper"},
	"qxl":            {"drm_kms_helper"},
	"udl":            {"drm_kms_helper"},
	"vmwgfx":         {"drm_kms_helper"},
	"xhci_pci":       {"usbcore"},
	"ehci_pci":       {"usbcore"},
	"ohci_pci":       {"usbcore"},
	"uhci_hcd":       {"usbcore"},
	"usbhid":         {"usbcore"},
	"r8152":          {"usbcore"},
	"hid_generic":    {"usbhid"},
	"hid_multitouch": {"usbhid"},
}

// Loader loads modules.
type Loader struct {
	prober Prober

	mu     sync.Mutex
	once   map[string]*sync.Once
	failed []string
}

// New prepares a loader.
func New(p Prober) *Loader { return &Loader{prober: p, once: make(map[string]*sync.Once)} }

// Name spells a module's name as the kernel does, with underscores.
func Name(s string) string { return strings.ReplaceAll(s, "-", "_") }

// Load loads modules in the order given and returns when all have been tried. Modules that were asked for before are not
// tried again; it may be called from several goroutines, and waits for a module that another one is loading.
func (l *Loader) Load(names ...string) {
	for _, n := range names {
		l.load(Name(n), 0)
	}
}

func (l *Loader) load(name string, depth int) {
	l.mu.Lock()
	o := l.once[name]
	if o == nil {
		o = new(sync.Once)
		l.once[name] = o
	}
	l.mu.Unlock()
	o.Do(func() {
		if depth < 8 {
			for _, b := range before[name] {
				l.load(b, depth+1)
			}
		}
		// A driver that finds none of its hardware is no failure (a controller that another machine has).
		if err := l.prober.Probe(name, params[name]); err != nil && !errors.Is(err, unix.ENODEV) {
			l.mu.Lock()
			l.failed = append(l.failed, name)
			l.mu.Unlock()
		}
	})
}

// Failed lists the modules that did not load, in alphabetical order.
func (l *Loader) Failed() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(slices.Values(l.failed))
}
