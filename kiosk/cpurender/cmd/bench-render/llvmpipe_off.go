//go:build !oracle

package main

import "time"

// llvmpipe returns nil: this build has no other renderer to compare with.
func llvmpipe(int) []time.Duration { return nil }
