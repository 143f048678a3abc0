package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemo plays the demonstration as `make demo-registration` does.
func TestDemo(t *testing.T) {
	t.Parallel()
	for _, n := range []string{"openssl", "pdftotext", "pdftoppm"} {
		if _, err := exec.LookPath(n); err != nil {
			t.Skipf("%s is not installed", n)
		}
	}
	out := filepath.Join(t.TempDir(), "demo")
	var said bytes.Buffer
	if err := run(t.Context(), out, &said); err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	for _, want := range []string{"x 11", "accepted", "ES-REDIRECT-MEHR", "REG-NAME-ZEICHEN", "to do:", "redirect_uris: with", "you neither registered nor made it", "the deregistration in TU was sent", "verify OK", "issuer=C"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("%q was not said", want)
		}
	}
	page, err := os.ReadFile(filepath.Join(out, "index.html"))
	if err != nil || !bytes.Contains(page, []byte("59032682-fingerprint.png")) {
		t.Errorf("the page has no picture: %v", err)
	}
	if png, err := os.ReadFile(filepath.Join(out, "trustcenter", "59032682-fingerprint.png")); err != nil || !bytes.HasPrefix(png, []byte("\x89PNG")) {
		t.Errorf("the picture: %v", err)
	}
}

// TestEmpty: nobody's folder is emptied by mistake.
func TestEmpty(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := empty(dir); err == nil {
		t.Error("a folder with something else was emptied")
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
	demo := filepath.Join(dir, "demo")
	for range 2 {
		if err := empty(demo); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(demo, "old"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
