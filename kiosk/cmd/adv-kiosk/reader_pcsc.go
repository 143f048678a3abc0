//go:build pcsc

package main

import (
	"ktradv/hw/reader"
	"ktradv/hw/reader/pcsc"
	"ktradv/internal/terminal"
)

func openReader(cfg terminal.Config) func() (reader.Reader, error) {
	return func() (reader.Reader, error) {
		return pcsc.Open(pcsc.Config{Name: cfg.Reader.Name, Models: cfg.Models()})
	}
}
