// Command bench-render measures the draw call of cpurender on its test pages
// and writes the figures as JSON: an object per figure, name to value and unit.
//
//	bench-render -o out/bench-render.json
//
// An existing file is kept; figures of the same name are replaced. Built with
// the tag oracle (cgo, EGL) it also draws the dense page with Gio's own
// renderer in the same run and reports how many times faster this one is.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"gioui.org/cpurender"
	"gioui.org/cpurender/internal/pages"
	"gioui.org/op"
)

// figure is one result.
type figure struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

func main() {
	log.SetFlags(0)
	out := flag.String("o", "", "JSON file to write or to extend; standard output when empty")
	frames := flag.Int("n", 400, "frames per figure")
	workers := flag.Int("workers", 2, "workers of the renderer")
	flag.Parse()
	figures := measure(*frames, *workers)
	for _, name := range sortedNames(figures) {
		fmt.Printf("%-40s %10.4g %s\n", name, figures[name].Value, figures[name].Unit)
	}
	if *out == "" {
		return
	}
	if err := merge(*out, figures); err != nil {
		log.Fatalf("bench-render: %v", err)
	}
}

func sortedNames(m map[string]figure) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// merge writes the figures into a file, next to what is there.
func merge(name string, figures map[string]figure) error {
	all := make(map[string]json.RawMessage)
	old, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	case err != nil:
		return fmt.Errorf("read figures: %w", err)
	default:
		if err := json.Unmarshal(old, &all); err != nil {
			return fmt.Errorf("read figures of %s: %w", name, err)
		}
	}
	for n, f := range figures {
		b, err := json.Marshal(f)
		if err != nil {
			return fmt.Errorf("encode %s: %w", n, err)
		}
		all[n] = b
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("encode figures: %w", err)
	}
	if err := os.WriteFile(name, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}

var fullHD = image.Pt(1920, 1080)

// series draws a page n times and returns the times of the draw call. Before
// each frame prepare changes the state of the page or of the renderer.
func series(n, workers int, page string, size image.Point, prepare func(i int, r *cpurender.Renderer, st *pages.State)) []time.Duration {
	set := pages.New()
	r := cpurender.New(cpurender.Options{Workers: workers})
	dst := image.NewRGBA(image.Rectangle{Max: size})
	var list op.Ops
	var st pages.State
	times := make([]time.Duration, 0, n)
	const warmUp = 20
	for i := range n + warmUp {
		prepare(i, r, &st)
		set.Build(page, &list, size, st)
		if i%16 == 0 {
			runtime.GC() // garbage of the layout is not ours
		}
		start := time.Now()
		r.Frame(dst, &list)
		d := time.Since(start)
		if i >= warmUp {
			times = append(times, d)
		}
	}
	slices.Sort(times)
	return times
}

func quantile(times []time.Duration, percent int) float64 {
	i := min(len(times)*percent/100, len(times)-1)
	return float64(times[i].Nanoseconds()) / 1e6
}

func full(_ int, r *cpurender.Renderer, _ *pages.State) { r.Invalidate() }

func cold(_ int, r *cpurender.Renderer, _ *pages.State) { r.Flush(); r.Invalidate() }

func scroll(i int, _ *cpurender.Renderer, st *pages.State) {
	st.Scroll = i * 5 % 120
}

func line(i int, _ *cpurender.Renderer, st *pages.State) {
	st.Line = fmt.Sprintf("Geänderte Zeile Nummer %d, mit Größe und Übermaß", i)
}

func button(i int, _ *cpurender.Renderer, st *pages.State) { st.Red = i%12 + 1 }

func measure(n, workers int) map[string]figure {
	m := make(map[string]figure)
	add := func(name string, times []time.Duration) {
		m["render."+name+"_p50_ms_1080p"] = figure{quantile(times, 50), "ms"}
		m["render."+name+"_p99_ms_1080p"] = figure{quantile(times, 99), "ms"}
	}
	dense := series(n, workers, "dense", fullHD, full)
	add("dense_full", dense)
	add("dense_cold", series(n, workers, "dense", fullHD, cold))
	add("scroll", series(n, workers, "dense", fullHD, scroll))
	add("line", series(n, workers, "dense", fullHD, line))
	add("button", series(n, workers, "dense", fullHD, button))
	add("kiosk_full", series(n, workers, "kiosk", fullHD, full))
	add("odd_full", series(n, workers, "odd", fullHD, full))
	m["render.allocs_steady"] = figure{steadyAllocs(workers), "allocs/frame"}
	m["render.workers"] = figure{float64(workers), "workers"}
	if gpu := llvmpipe(min(n, 60)); gpu != nil {
		add("llvmpipe_dense", gpu)
		m["render.speedup_over_llvmpipe_dense"] = figure{quantile(gpu, 50) / quantile(dense, 50), "x"}
	}
	return m
}

// steadyAllocs returns the allocations of a frame that needs no new shape: all
// painted again, and nothing changed.
func steadyAllocs(workers int) float64 {
	worst := 0.0
	for _, name := range pages.Names() {
		set := pages.New()
		r := cpurender.New(cpurender.Options{Workers: workers})
		dst := image.NewRGBA(image.Rectangle{Max: fullHD})
		var list op.Ops
		set.Build(name, &list, fullHD, pages.State{})
		for range 30 {
			r.Invalidate()
			r.Frame(dst, &list)
		}
		worst = max(worst,
			testing.AllocsPerRun(100, func() { r.Invalidate(); r.Frame(dst, &list) }),
			testing.AllocsPerRun(100, func() { r.Frame(dst, &list) }))
	}
	return worst
}
