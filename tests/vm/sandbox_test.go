//go:build vm

package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ktradv/image/init/sandbox"
	"ktradv/image/init/sandbox/probe"
	"ktradv/qemu/machine"
	"ktradv/tests/demo/appliance"
)

// What somebody could do who has taken over the card service or the kiosk: a program in their place, started by the
// production image's own first process, tries everything that a sandbox must refuse, in the machine as it runs, with its
// real folders and devices.
func TestServicesAreConfined(t *testing.T) {
	probes := program(t, "./tests/vm/probe")
	console := filepath.Join(t.TempDir(), "console")
	image := with(t, world.Image, map[string][]byte{"usr/sbin/pcscd": probes, "usr/bin/adv-kiosk": probes})
	r := boot(t, appliance.Options{Image: image, Change: func(c *machine.Config) {
		c.Console = console
		c.Cmdline += " loglevel=6 console=ttyS0 adv.console=1" // the kernel says at the start what it keeps from root
	}})
	text := ""
	for end := time.Now().Add(patience); strings.Count(text, "probe: end") < 2 || !strings.Contains(text, "sealed: end"); time.Sleep(200 * time.Millisecond) {
		b, err := os.ReadFile(console)
		if err != nil && time.Now().After(end) || time.Now().After(end) {
			t.Fatalf("the probes did not come to their end: %v\n%s", err, b)
		}
		text = string(b)
	}
	if !strings.Contains(text, "Kernel is locked down from command line") {
		t.Error("the kernel is not locked down")
	}
	r.note("both probes have tried everything")
	for _, name := range []string{sandbox.PCSCD, sandbox.Kiosk} {
		p, err := sandbox.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		var own strings.Builder
		for l := range strings.Lines(text) {
			if strings.HasPrefix(l, fmt.Sprintf("uid %d probe: ", p.User)) {
				own.WriteString(l)
			}
		}
		got, marks := probe.Parse(own.String())
		for _, a := range probe.Forbidden {
			if got[a.Name] != "refused" {
				t.Errorf("%s: %s is %q; want refused", name, a.Name, got[a.Name])
			}
		}
		for _, a := range probe.Own {
			want := "refused"
			if slices.Contains(a.Allowed, name) {
				want = "allowed"
			}
			// The kiosk starts before there is anything on USB.
			if got[a.Name] != want && (want != "refused" || got[a.Name] != probe.Absent) {
				t.Errorf("%s: %s is %q; want %s", name, a.Name, got[a.Name], want)
			}
		}
		for _, want := range []string{fmt.Sprintf("UID:%d GID:%d ", p.User, p.User), "NoNewPrivs:true", "Seccomp:true", "Capabilities:0 ", "CoreLimit:0 ", "SupplementGID:0"} {
			if !strings.Contains(marks, want) {
				t.Errorf("%s: marks %s; want %s", name, marks, want)
			}
		}
	}
	// The machine as a whole, as the kernel tells it when the set-up is over.
	got := map[string]string{}
	for l := range strings.Lines(text) {
		if _, f, ok := strings.Cut(strings.TrimSpace(l), " fact: "); ok {
			name, value, _ := strings.Cut(f, " = ")
			got[name] = value
		}
	}
	for name, want := range map[string]string{
		"kernel/modules_disabled": "1", "kernel/sysrq": "0", "kernel/ctrl-alt-del": "0", "kernel/kptr_restrict": "2", "kernel/dmesg_restrict": "1",
		"kernel/yama/ptrace_scope": "3", "kernel/unprivileged_bpf_disabled": "1", "kernel/kexec_load_disabled": "1", "kernel/core_pattern": "|/nonexistent",
		"user/max_user_namespaces": "0",
	} {
		if got[name] != want {
			t.Errorf("%s = %q; want %q", name, got[name], want)
		}
	}
	for folder, want := range map[string]string{
		"/": "ro nosuid nodev", "/data": "nosuid nodev noexec", "/log/kiosk": "nosuid nodev noexec", "/run": "nosuid nodev noexec", "/proc": "nosuid nodev noexec", "/sys": "nosuid nodev noexec", "/dev": "nosuid noexec",
	} {
		for flag := range strings.FieldsSeq(want) {
			if !slices.Contains(strings.Split(got[folder], ","), flag) {
				t.Errorf("%s is mounted with %q; want %s", folder, got[folder], flag)
			}
		}
	}
}
