// Command unwell takes the kiosk's place in a test: a kiosk that ends as soon as it is started. Only as the technician's
// screen it comes up, which is the real kiosk then, lying beside it under another name.
package main

import (
	"os"
	"slices"
	"syscall"
)

func main() {
	if slices.Contains(os.Args, "-fault") {
		const real = "/usr/bin/adv-kiosk.real"
		_ = syscall.Exec(real, append([]string{real}, os.Args[1:]...), os.Environ()) // returns when it cannot
	}
	os.Exit(1)
}
