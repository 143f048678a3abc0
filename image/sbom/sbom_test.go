package sbom

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const copyright = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Files: *
License: GPL-2+
Copyright: someone

Files: odd/*
License: odd one
 Do what
 .
 you like.

License: GPL-2+
 On Debian systems ...
`

func TestWrite(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "program")
	if out, err := exec.Command("go", "build", "-o", file, "ktradv/image/cmd/mkimage").CombinedOutput(); err != nil {
		t.Fatalf("build a program: %v\n%s", err, out)
	}
	program, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	img := Image{
		Name: "image", Version: "1", SHA256: strings.Repeat("0a", 32), Created: time.Unix(1e9, 0),
		Debian: []Debian{
			{Name: "libx1", Version: "1:2.0+x-1", Architecture: "amd64", Source: "libx", SourceVersion: "1:2.0-1", SHA256: strings.Repeat("0b", 32), Copyright: []byte(copyright)},
			{Name: "liby", Version: "1", Architecture: "amd64", Source: "liby", SourceVersion: "1", SHA256: strings.Repeat("0c", 32), Copyright: []byte("free text")},
		},
		Programs: []Program{{Name: "usr/bin/self", Data: program}},
	}
	b, err := Write(img)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Write(img); err != nil || !bytes.Equal(b, again) {
		t.Errorf("the same image gives other bytes (%v)", err)
	}
	var d document
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		t.Fatal(err)
	}
	// What SPDX 2.3 asks for: version, data licence, ids of the right form, each one once, and every relation between two that exist.
	if d.SPDXVersion != "SPDX-2.3" || d.DataLicense != "CC0-1.0" || d.CreationInfo.Created != "2001-09-09T01:46:40Z" || len(d.CreationInfo.Creators) == 0 {
		t.Errorf("head: %+v", d)
	}
	ids := []string{d.SPDXID}
	byName := make(map[string]pkg)
	for _, p := range d.Packages {
		ids = append(ids, p.SPDXID)
		byName[p.Name] = p
		if p.Name == "" || p.DownloadLocation == "" || p.LicenseConcluded == "" || p.LicenseDeclared == "" || p.CopyrightText == "" {
			t.Errorf("package %s lacks a field: %+v", p.SPDXID, p)
		}
	}
	for i, id := range ids {
		if !regexp.MustCompile(`^SPDXRef-[A-Za-z0-9.-]+$`).MatchString(id) || slices.Contains(ids[i+1:], id) {
			t.Errorf("id %q", id)
		}
	}
	for _, r := range d.Relationships {
		if !slices.Contains(ids, r.Element) || !slices.Contains(ids, r.Related) {
			t.Errorf("relation %+v", r)
		}
	}
	x := byName["libx1"]
	if x.LicenseDeclared != "GPL-2.0-or-later AND LicenseRef-libx1-odd-one" || x.SourceInfo != "built from the Debian source package libx 1:2.0-1" {
		t.Errorf("libx1: %+v", x)
	}
	if len(x.Refs) != 1 || x.Refs[0].Locator != "pkg:deb/debian/libx1@1:2.0+x-1?arch=amd64" {
		t.Errorf("libx1: %+v", x.Refs)
	}
	if y := byName["liby"]; y.LicenseDeclared != none {
		t.Errorf("liby: licence %s out of free text", y.LicenseDeclared)
	}
	if diff := cmp.Diff([]extracted{{"LicenseRef-libx1-odd-one", "odd one", "Do what\n\nyou like."}}, d.Extracted); diff != "" {
		t.Errorf("licence texts (-want +got):\n%s", diff)
	}
	if m := byName["github.com/u-root/u-root"]; !strings.HasPrefix(m.Version, "v0.") || !strings.Contains(m.SourceInfo, "h1:") {
		t.Errorf("a module that the program is linked with: %+v", m)
	}
	if byName["std"].Version == "" {
		t.Error("the standard library is missing")
	}
}

func TestWriteRefusesForeignProgram(t *testing.T) {
	t.Parallel()
	if _, err := Write(Image{Programs: []Program{{Name: "x", Data: []byte("#!/bin/sh\n")}}}); err == nil {
		t.Error("a program that tells nothing of itself is taken")
	}
}

func FuzzCopyright(f *testing.F) {
	f.Add([]byte(copyright))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, ok := parseCopyright(b); ok {
			expression(l, "x", make(map[string]extracted))
		}
	})
}
