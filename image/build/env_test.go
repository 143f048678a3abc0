package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What a person has set for their own work does not show in the programs, wherever it is kept.
func TestGoEnv(t *testing.T) {
	t.Parallel()
	kept := filepath.Join(t.TempDir(), "env") // as "go env -w" writes it
	if err := os.WriteFile(kept, []byte("GOFLAGS=-tags=kept\nGOFIPS140=latest\nGOPROXY=off\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	own := []string{"GOENV=" + kept, "GOFLAGS=-tags=own", "GOAMD64=v4", "CGO_CFLAGS=-g", "CGO_CPPFLAGS=-DX", "CGO_LDFLAGS=-lx", "CC=clang", "GOEXPERIMENT=x",
		"GOWORK=/x/go.work", "PKG_CONFIG_PATH=/x", "CPATH=/x", "LIBRARY_PATH=/x", "GOFIPS140=latest", "GOROOT_FINAL=/x", "LC_ALL=de_DE.UTF-8"}
	environ := append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "GO") && !strings.HasPrefix(v, "GOROOT") || strings.HasPrefix(v, "CGO")
	}), slices.DeleteFunc(slices.Clone(own), func(v string) bool { return v == "GOEXPERIMENT=x" || strings.HasPrefix(v, "GOWORK") })...) // go env itself refuses these
	env, err := goEnv(t.Context(), project, environ)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range own {
		if slices.Contains(env, v) {
			t.Errorf("%s reaches the build", v)
		}
	}
	for _, want := range append([]string{"PATH=" + os.Getenv("PATH"), "GOPROXY=off"}, fixed...) { // where modules come from is the person's
		if !slices.Contains(env, want) {
			t.Errorf("%s does not reach the build", want)
		}
	}
	if _, err := goEnv(t.Context(), filepath.Join(project, "nowhere"), environ); err == nil {
		t.Error("settings of a folder that is not there")
	}
}

// Two builds with one cache follow each other; one that is not wanted any more waits no longer.
func TestLock(t *testing.T) {
	t.Parallel()
	waits := make(chan struct{}, 1)
	one := func(ctx context.Context) *builder {
		return &builder{ctx: ctx, Config: Config{Cache: t.TempDir(), Log: func(string, ...any) { waits <- struct{}{} }}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	a, b := one(t.Context()), one(ctx)
	b.Cache = a.Cache
	unlock, err := a.lock()
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-waits; cancel() }()
	if _, err := b.lock(); !errors.Is(err, context.Canceled) {
		t.Errorf("lock held by another build: %v; want to be told to stop", err)
	}
	unlock()
	b.ctx = t.Context()
	unlock, err = b.lock()
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
