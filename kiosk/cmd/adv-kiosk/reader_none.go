//go:build !pcsc

package main

import (
	"errors"

	"ktradv/hw/reader"
	"ktradv/internal/terminal"
)

// openReader of a build without PC/SC: such a build serves development on machines without libpcsclite.
func openReader(terminal.Config) func() (reader.Reader, error) {
	return func() (reader.Reader, error) {
		return nil, errors.New("this build has no PC/SC: build with -tags pcsc (needs libpcsclite-dev)")
	}
}
