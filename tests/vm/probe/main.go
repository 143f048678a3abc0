//go:build linux && amd64

// Command probe takes the place of a service in the virtual machine, inside the service's own sandbox, and says on its
// standard output what it is refused. It is no part of any image that is delivered: the test lays it over one.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"ktradv/image/init/sandbox/probe"
)

func main() {
	say := func(l string) { fmt.Printf("uid %d %s\n", os.Getuid(), l) }
	for range 600 { // until the data partition is there, which is mounted after the first services start, and the kiosk has its folder
		fi, err := os.Lstat("/log/kiosk")
		if _, there := os.Lstat("/data/log/init"); there == nil && err == nil && fi.Sys().(*syscall.Stat_t).Uid != 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	probe.Report(say)
	if _, err := os.ReadFile("/proc/self/mountinfo"); err == nil { // the kiosk sees /proc, the card service does not
		for range 600 { // the machine is sealed some time after its first services have started
			if f := facts(); f["/"] != "" && strings.HasPrefix(f["/"], "ro") {
				for name, value := range f {
					say(fmt.Sprintf("fact: %s = %s", name, value))
				}
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		say("sealed: end")
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end // a service that ends would be started again
}

// facts are what the kernel says about the machine: settings by their names below /proc/sys, mounts by their folders.
func facts() map[string]string {
	f := make(map[string]string)
	for _, name := range []string{"kernel/modules_disabled", "kernel/sysrq", "kernel/ctrl-alt-del", "kernel/kptr_restrict", "kernel/dmesg_restrict",
		"kernel/yama/ptrace_scope", "kernel/unprivileged_bpf_disabled", "kernel/kexec_load_disabled", "kernel/core_pattern", "user/max_user_namespaces"} {
		b, err := os.ReadFile("/proc/sys/" + name)
		if err != nil {
			b = []byte(err.Error())
		}
		f[name] = strings.TrimSpace(string(b))
	}
	b, _ := os.ReadFile("/proc/self/mountinfo")
	for l := range strings.Lines(string(b)) {
		if w := strings.Fields(l); len(w) > 5 {
			f[w[4]] = w[5]
		}
	}
	return f
}
