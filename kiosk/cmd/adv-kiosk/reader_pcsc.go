//go:build pcsc

package main

import (
	"fmt"
	"slices"

	"ktradv/hw/reader"
	"ktradv/hw/reader/pcsc"
	"ktradv/kiosk/config"
)

// pinFormats are the spellings of a format-2 PIN block that a configuration may name.
var pinFormats = map[string]reader.PINFormat{
	"89/47/04": reader.PINFormatBytes, "41/48/04": reader.PINFormatBits, "81/48/04": reader.PINFormatFPIN2,
}

func openReader(cfg config.Reader) func() (reader.Reader, error) {
	return func() (reader.Reader, error) {
		models := slices.Clone(reader.Models)
		if cfg.PINFormat != "" {
			f, ok := pinFormats[cfg.PINFormat]
			if !ok {
				return nil, fmt.Errorf("reader.pin_format %q is none of 89/47/04, 41/48/04, 81/48/04", cfg.PINFormat)
			}
			models = append(models, reader.Model{}) // for readers without an entry
			for i := range models {
				models[i].PINFormat = f
			}
		}
		return pcsc.Open(pcsc.Config{Name: cfg.Name, Models: models})
	}
}
