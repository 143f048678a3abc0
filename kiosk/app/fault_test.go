package app_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gioui.org/cpurender"

	"ktradv/internal/terminal"
	"ktradv/kiosk/app"
	"ktradv/kiosk/platform/memory"
)

func someFault(n int) terminal.Fault {
	f := terminal.Fault{Cause: terminal.CauseConfiguration, Facts: []terminal.Fact{{Name: "kernel", Value: "6.1"}}}
	for i := range n {
		f.Problems = append(f.Problems, terminal.Problem{File: "terminal.json", Key: fmt.Sprintf("readers[%d]", i), What: "is wrong", Fix: "mend it"})
	}
	return f
}

// The technician's screen comes up without configuration and card service, says that it lives, and turns its pages when
// there are more problems than one holds; a terminal with few problems draws nothing after the first picture.
func TestShowFault(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ problems, frames int }{{3, 1}, {9, 5}} {
		synctest.Test(t, func(t *testing.T) {
			d, err := memory.New(memory.Config{})
			if err != nil {
				t.Fatal(err)
			}
			var ready, alive atomic.Int32
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				done <- app.ShowFault(ctx, app.FaultConfig{
					Platform: d, Renderer: cpurender.New(cpurender.Options{}), Fault: someFault(tc.problems),
					Ready: func() { ready.Add(1) }, Alive: func() { alive.Add(1) },
				})
			}()
			time.Sleep(61 * time.Second) // four turns of a page
			synctest.Wait()
			if n := d.Frames(); n != tc.frames {
				t.Errorf("%d problems: %d frames in a minute, want %d", tc.problems, n, tc.frames)
			}
			if ready.Load() != 1 || alive.Load() != 12 {
				t.Errorf("ready %d times, alive %d times", ready.Load(), alive.Load())
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			d.Close()
		})
	}
}

// A display that ends, ends the screen.
func TestShowFaultEndsWithTheDisplay(t *testing.T) {
	t.Parallel()
	d, err := memory.New(memory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := app.ShowFault(t.Context(), app.FaultConfig{Platform: d, Renderer: cpurender.New(cpurender.Options{}), Fault: someFault(1)}); err != nil {
		t.Error(err)
	}
}
