//go:build linux && amd64

// Command adv-init is the terminal's first process, the programs of its services and the helper that puts each of them
// into its sandbox, all in one file.
//
//	adv-init                               first process: sets up the machine and keeps it going
//	adv-init sandbox PROFILE PROGRAM ...   takes from this process what the profile does not keep, then executes
//	adv-init usb | network | time          a service (started through sandbox)
package main

import (
	"fmt"
	"os"

	"ktradv/image/init/boot"
	"ktradv/image/init/programs"
	"ktradv/image/init/sandbox"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == sandbox.Arg {
		os.Exit(sandbox.Enter(os.Args[2:], os.Environ()))
	}
	if len(os.Args) > 1 && os.Getpid() != 1 {
		if err := programs.Run(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, "adv-init:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "adv-init: runs as the first process of a terminal only")
		os.Exit(2)
	}
	boot.Run()
}
