//go:build linux && amd64

// Command probe takes the place of a service in the virtual machine, inside the service's own sandbox, and says on its
// standard output what it is refused. It is no part of any image that is delivered: the test lays it over one.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"ktradv/image/init/sandbox/probe"
)

func main() {
	probe.Report(func(l string) { fmt.Printf("uid %d %s\n", os.Getuid(), l) })
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end // a service that ends would be started again
}
