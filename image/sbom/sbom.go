// Package sbom writes the bill of materials of an image as SPDX 2.3 (JSON): Debian packages with version, source and licences,
// the Go modules that the linker wrote into our programs, and our programs themselves.
package sbom

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Debian is a Debian package of which something is in the image.
type Debian struct {
	Name, Version, Architecture string
	Source, SourceVersion       string
	SHA256                      string // of the .deb file
	Copyright                   []byte // its copyright file
}

// Program is one of our own programs.
type Program struct {
	Name string // path in the image
	Data []byte // the linked file
}

// Image says what the document is about.
type Image struct {
	Name     string
	Version  string
	SHA256   string // of the image; makes the document's name space unique
	Created  time.Time
	Debian   []Debian
	Programs []Program
}

type document struct {
	SPDXVersion       string         `json:"spdxVersion"`
	DataLicense       string         `json:"dataLicense"`
	SPDXID            string         `json:"SPDXID"`
	Name              string         `json:"name"`
	DocumentNamespace string         `json:"documentNamespace"`
	CreationInfo      creation       `json:"creationInfo"`
	Packages          []pkg          `json:"packages"`
	Relationships     []relationship `json:"relationships"`
	Extracted         []extracted    `json:"hasExtractedLicensingInfos,omitempty"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type pkg struct {
	Name             string     `json:"name"`
	SPDXID           string     `json:"SPDXID"`
	Version          string     `json:"versionInfo"`
	Supplier         string     `json:"supplier"`
	DownloadLocation string     `json:"downloadLocation"`
	FilesAnalyzed    bool       `json:"filesAnalyzed"`
	Checksums        []checksum `json:"checksums,omitempty"`
	SourceInfo       string     `json:"sourceInfo,omitempty"`
	LicenseConcluded string     `json:"licenseConcluded"`
	LicenseDeclared  string     `json:"licenseDeclared"`
	LicenseComments  string     `json:"licenseComments,omitempty"`
	CopyrightText    string     `json:"copyrightText"`
	Purpose          string     `json:"primaryPackagePurpose,omitempty"`
	Refs             []ref      `json:"externalRefs,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type ref struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

type extracted struct {
	ID   string `json:"licenseId"`
	Name string `json:"name"`
	Text string `json:"extractedText"`
}

const (
	none  = "NOASSERTION"
	docID = "SPDXRef-DOCUMENT"
	imgID = "SPDXRef-image"
)

// Write makes the document. The same image gives the same bytes.
func Write(img Image) ([]byte, error) {
	d := document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: docID, Name: img.Name,
		DocumentNamespace: "https://spdx.invalid/" + url.PathEscape(img.Name) + "/" + img.SHA256,
		CreationInfo:      creation{img.Created.UTC().Format(time.RFC3339), []string{"Tool: mkimage"}},
	}
	d.Packages = append(d.Packages, pkg{
		Name: img.Name, SPDXID: imgID, Version: img.Version, Supplier: none, DownloadLocation: none, Checksums: []checksum{{"SHA256", img.SHA256}},
		LicenseConcluded: none, LicenseDeclared: none, CopyrightText: none, Purpose: "OPERATING-SYSTEM",
		LicenseComments: "every package of the image has its own licence",
	})
	relate := func(a, kind, b string) { d.Relationships = append(d.Relationships, relationship{a, kind, b}) }
	relate(docID, "DESCRIBES", imgID)
	texts := make(map[string]extracted)
	for _, p := range img.Debian {
		id := "SPDXRef-deb-" + idText(p.Name)
		declared, comment := none, "the package's copyright file is not machine readable; it is kept beside the image"
		if c, ok := parseCopyright(p.Copyright); ok {
			comment = "licences of the package's source, read from its copyright file, which is kept beside the image"
			declared = expression(c, p.Name, texts)
		}
		d.Packages = append(d.Packages, pkg{
			Name: p.Name, SPDXID: id, Version: p.Version, Supplier: "Organization: Debian", DownloadLocation: none,
			Checksums: []checksum{{"SHA256", p.SHA256}}, SourceInfo: "built from the Debian source package " + p.Source + " " + p.SourceVersion,
			LicenseConcluded: none, LicenseDeclared: declared, LicenseComments: comment, CopyrightText: none, Purpose: "LIBRARY",
			Refs: []ref{{"PACKAGE-MANAGER", "purl", fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s", url.PathEscape(p.Name), url.PathEscape(p.Version), p.Architecture)}},
		})
		relate(imgID, "CONTAINS", id)
	}
	modules := make(map[string]pkg)
	for _, p := range img.Programs {
		info, err := buildinfo.Read(bytes.NewReader(p.Data))
		if err != nil {
			return nil, fmt.Errorf("read what %s was linked from: %w", p.Name, err)
		}
		id := "SPDXRef-program-" + idText(p.Name)
		sum := sha256.Sum256(p.Data)
		d.Packages = append(d.Packages, pkg{
			Name: info.Path, SPDXID: id, Version: img.Version, Supplier: none, DownloadLocation: none,
			Checksums: []checksum{{"SHA256", hex.EncodeToString(sum[:])}}, SourceInfo: "file " + p.Name + " of the image, linked by " + info.GoVersion,
			LicenseConcluded: "Apache-2.0", LicenseDeclared: "Apache-2.0", CopyrightText: none, Purpose: "APPLICATION",
		})
		relate(imgID, "CONTAINS", id)
		add := func(path, version, sum string) {
			mid := "SPDXRef-go-" + idText(path+"-"+version)
			m := pkg{
				Name: path, SPDXID: mid, Version: version, Supplier: none, DownloadLocation: none, LicenseConcluded: none, LicenseDeclared: none,
				CopyrightText: none, Purpose: "LIBRARY", Refs: []ref{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + path + "@" + version}},
			}
			if sum != "" {
				m.SourceInfo = "checksum of the module in go.sum: " + sum
			}
			if strings.HasPrefix(path, "ktradv") || version == "" { // a module of the project itself
				m.LicenseConcluded, m.LicenseDeclared, m.Version, m.Refs = "Apache-2.0", "Apache-2.0", img.Version, nil
			}
			modules[mid] = m
			relate(id, "STATIC_LINK", mid)
		}
		add("std", strings.TrimPrefix(info.GoVersion, "go"), "")
		for _, m := range info.Deps {
			if m.Replace != nil {
				add(m.Path, m.Replace.Version, m.Replace.Sum)
			} else {
				add(m.Path, m.Version, m.Sum)
			}
		}
	}
	for _, id := range slices.Sorted(keys(modules)) {
		d.Packages = append(d.Packages, modules[id])
	}
	for _, id := range slices.Sorted(keys(texts)) {
		d.Extracted = append(d.Extracted, texts[id])
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "\t")
	err := e.Encode(d)
	return b.Bytes(), err
}

func keys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

var notID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// idText spells a name with the letters that an SPDX id may have.
func idText(s string) string { return strings.Trim(notID.ReplaceAllString(s, "-"), "-") }

// licence is a License field of a copyright file: short name and text.
type licence struct{ name, text string }

// parseCopyright reads the licences out of a copyright file in Debian's machine-readable format 1.0.
func parseCopyright(b []byte) ([]licence, bool) {
	if !bytes.HasPrefix(bytes.TrimSpace(b), []byte("Format: http")) {
		return nil, false
	}
	var out []licence
	open := false
	for l := range strings.Lines(string(b)) {
		l = strings.TrimRight(l, "\n")
		name, ok := strings.CutPrefix(l, "License:")
		switch {
		case ok:
			out, open = append(out, licence{name: strings.TrimSpace(name)}), true
		case open && (strings.HasPrefix(l, " ") || strings.HasPrefix(l, "\t")):
			t := strings.TrimSpace(l)
			if t == "." {
				t = ""
			}
			out[len(out)-1].text += t + "\n"
		default:
			open = false
		}
	}
	// One entry for each name; the one with the text counts.
	slices.SortStableFunc(out, func(a, b licence) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(len(b.text), len(a.text)))
	})
	out = slices.CompactFunc(out, func(a, b licence) bool { return a.name == b.name })
	return out, len(out) > 0
}

// spdxNames are Debian's short names of licences that SPDX has a name for.
var spdxNames = map[string]string{
	"Apache-2.0": "Apache-2.0", "Artistic": "Artistic-1.0-Perl", "BSD-2-clause": "BSD-2-Clause", "BSD-3-clause": "BSD-3-Clause", "BSL-1.0": "BSL-1.0",
	"CC0-1.0": "CC0-1.0", "Expat": "MIT", "MIT": "MIT", "ISC": "ISC", "zlib": "Zlib", "0BSD": "0BSD",
	"GPL-1": "GPL-1.0-only", "GPL-1+": "GPL-1.0-or-later", "GPL-2": "GPL-2.0-only", "GPL-2+": "GPL-2.0-or-later", "GPL-3": "GPL-3.0-only", "GPL-3+": "GPL-3.0-or-later",
	"LGPL-2": "LGPL-2.0-only", "LGPL-2+": "LGPL-2.0-or-later", "LGPL-2.0+": "LGPL-2.0-or-later", "LGPL-2.1": "LGPL-2.1-only", "LGPL-2.1+": "LGPL-2.1-or-later",
	"LGPL-3": "LGPL-3.0-only", "LGPL-3+": "LGPL-3.0-or-later",
	"GPL-2 with Linux-syscall-note exception": "GPL-2.0-only WITH Linux-syscall-note",
}

// expression joins the licences of a package: all of them may apply. Those without a name in SPDX are added to texts.
func expression(list []licence, name string, texts map[string]extracted) string {
	var terms []string
	for _, l := range list {
		t, ok := spdxNames[l.name]
		if !ok {
			t = "LicenseRef-" + idText(name+"-"+l.name)
			text := strings.TrimSpace(l.text)
			if text == "" {
				text = "see the copyright file of the Debian package " + name
			}
			texts[t] = extracted{t, l.name, text}
		}
		if !slices.Contains(terms, t) {
			terms = append(terms, t)
		}
	}
	return strings.Join(terms, " AND ")
}
