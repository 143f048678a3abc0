package modules

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// kernel is a Prober that notes what it was asked for.
type kernel struct {
	mu     sync.Mutex
	calls  []string
	errors map[string]error
}

func (k *kernel) Probe(name, params string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = append(k.calls, name+" "+params)
	return k.errors[name]
}

func TestOrder(t *testing.T) {
	t.Parallel()
	k := &kernel{}
	l := New(k)
	l.Load("xhci-pci", "ext4", "usbhid", "xhci_pci", "crc32c_generic")
	want := []string{"usbcore authorized_default=0", "xhci_pci ", "crc32c_generic ", "ext4 ", "usbhid "}
	if diff := cmp.Diff(want, k.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// The USB core, which admits nothing, and the displays' helper, which has no text console, never load without their
// parameters, whichever module asks for them first.
func TestParametersComeFirst(t *testing.T) {
	t.Parallel()
	for module, want := range map[string]string{"usbcore": "usbcore authorized_default=0", "drm_kms_helper": "drm_kms_helper fbdev_emulation=0"} {
		drivers := 0
		for driver, needs := range before {
			if !slices.Contains(needs, module) {
				continue
			}
			drivers++
			k := &kernel{}
			New(k).Load(driver)
			if k.calls[0] != want {
				t.Errorf("%s: first call %q; want %q", driver, k.calls[0], want)
			}
		}
		if drivers < 5 {
			t.Errorf("%d drivers need %s", drivers, module)
		}
	}
}

func TestFailuresAreNotedAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	k := &kernel{errors: map[string]error{"b": unix.ENOEXEC, "a": fmt.Errorf("module not in depmap"), "c": fmt.Errorf("load: %w", unix.ENODEV)}}
	l := New(k)
	l.Load("b", "a", "c", "d")
	if diff := cmp.Diff([]string{"a", "b"}, l.Failed()); diff != "" {
		t.Errorf("failed (-want +got):\n%s", diff)
	}
	if !slices.Contains(k.calls, "d ") {
		t.Error("the module after those that failed was not tried")
	}
}

func TestEachOnce(t *testing.T) {
	t.Parallel()
	k := &kernel{}
	l := New(k)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { l.Load("usbhid", "hid_generic", "hid-multitouch") })
	}
	wg.Wait()
	slices.Sort(k.calls)
	if diff := cmp.Diff([]string{"hid_generic ", "hid_multitouch ", "usbcore authorized_default=0", "usbhid "}, k.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	l.Load() // nothing is fine
}
