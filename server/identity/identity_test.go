package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ktradv/hw/c2c"
	"ktradv/hw/cvc"
	"ktradv/internal/brainpool"
	"ktradv/internal/req"
	"ktradv/internal/testpki"
)

const (
	ik    = "109500969"
	iccsn = "80276001081699900578"
)

func newFile(t testing.TB, ik string) (File, *testpki.PKI) {
	t.Helper()
	pki, err := testpki.New(testpki.Config{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.IssueKTRAdV(ik, "Test-Krankenkasse", iccsn)
	if err != nil {
		t.Fatal(err)
	}
	return File{IK: ik, Name: "Test-Krankenkasse", ICCSN: iccsn, CA: id.CACVC,
		Null: KeyPair{id.Null.Certificate, id.Null.Key.Bytes()}, AUTR: KeyPair{id.AUTR.Certificate, id.AUTR.Key.Bytes()}}, pki
}

func TestFilesChooseByIK(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2570", "A_15118", "AdV-A_2514")
	dir := t.TempDir()
	for _, name := range []string{ik, "101575519"} {
		f, _ := newFile(t, name)
		f.Name = "Kasse " + name
		if err := WriteFile(dir, f); err != nil {
			t.Fatal(err)
		}
	}
	s, err := OpenFiles(dir, false)
	if err != nil || s.Len() != 2 {
		t.Fatalf("OpenFiles = %v, %v", s, err)
	}
	id, err := s.Lookup(t.Context(), ik)
	if err != nil {
		t.Fatal(err)
	}
	if a := id.Actor(); a.Name != "Kasse "+ik || a.ICCSN != iccsn {
		t.Errorf("actor %+v", a)
	}
	for profile, rights := range map[c2c.Profile]cvc.Flags{c2c.ProfileNull: cvc.FlagsNone, c2c.ProfileKTRAdV: cvc.FlagsKTRAdV} {
		certs, err := id.Certificates(t.Context(), profile)
		if err != nil {
			t.Fatal(err)
		}
		ee, err := cvc.Parse(certs.EndEntity)
		if err != nil || ee.Flags != rights {
			t.Errorf("profile %v: rights %v, %v; want %v", profile, ee.Flags, err, rights)
		}
		message := c2c.RoleMessage(make([]byte, 16), [8]byte{1})
		if profile == c2c.ProfileKTRAdV {
			sig, err := id.SignRoleToken(t.Context(), message)
			if err != nil || !ee.Key.Verify(message, sig) {
				t.Errorf("role token does not verify: %v", err)
			}
			continue
		}
		peer, err := brainpool.GenerateKey(ee.Key.Curve(), nil)
		if err != nil {
			t.Fatal(err)
		}
		x, err := id.Agree(t.Context(), peer.Public())
		if err != nil {
			t.Fatal(err)
		}
		if want, err := peer.ECDH(ee.Key); err != nil || !bytes.Equal(x.Reveal(), want) {
			t.Errorf("the two sides do not agree: %v", err)
		}
	}
	for _, other := range []string{"104212059", "", "10950096"} {
		if _, err := s.Lookup(t.Context(), other); !errors.Is(err, ErrUnknownIK) {
			t.Errorf("Lookup(%q) = %v; want ErrUnknownIK", other, err)
		}
	}
}

func TestProductionRefusesFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, _ := newFile(t, ik)
	if err := WriteFile(dir, f); err != nil {
		t.Fatal(err)
	}
	if s, err := OpenFiles(dir, true); !errors.Is(err, ErrProduction) || s != nil {
		t.Errorf("OpenFiles in production = %v, %v; want ErrProduction", s, err)
	}
	if _, err := OpenFiles(dir, false); err != nil {
		t.Errorf("the twin outside production: %v", err)
	}
}

func TestIdentityPrintsNoKey(t *testing.T) {
	t.Parallel()
	f, _ := newFile(t, ik)
	f.Format = fileFormat
	id, err := f.open()
	if err != nil {
		t.Fatal(err)
	}
	var out string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		out += fmt.Sprintf(verb, id) + fmt.Sprintf(verb, *id) + fmt.Sprintf(verb, f)
	}
	for _, secret := range [][]byte{f.Null.Key, f.AUTR.Key} {
		for _, form := range []string{fmt.Sprintf("%x", secret), fmt.Sprintf("%d", secret), string(secret)} {
			if strings.Contains(out, strings.Trim(form, "[]")) {
				t.Errorf("a key is printed: %s", out)
			}
		}
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	good, pki := newFile(t, ik)
	other, _ := newFile(t, ik)
	foreignCA := pki.CardCA.Certificate
	tests := []struct {
		name   string
		change func(*File)
	}{
		{"wrong format", func(f *File) { f.Format = "ktradv identity" }},
		{"ik", func(f *File) { f.IK = "10950096X" }},
		{"iccsn", func(f *File) { f.ICCSN = "123" }},
		{"no name", func(f *File) { f.Name = "" }},
		{"long name", func(f *File) { f.Name = strings.Repeat("x", 65) }},
		{"no ca", func(f *File) { f.CA = nil }},
		{"ca is an end entity", func(f *File) { f.CA = f.Null.Certificate }},
		{"ca of somebody else", func(f *File) { f.CA = foreignCA }},
		{"link is garbage", func(f *File) { f.Links = [][]byte{{1}} }},
		{"profiles exchanged", func(f *File) { f.Null, f.AUTR = f.AUTR, f.Null }},
		{"keys exchanged", func(f *File) { f.Null.Key, f.AUTR.Key = f.AUTR.Key, f.Null.Key }},
		{"key of another PKI", func(f *File) { f.AUTR.Key = other.AUTR.Key }},
		{"certificate of another PKI", func(f *File) { f.AUTR = other.AUTR }},
		{"key zero", func(f *File) { f.Null.Key = make([]byte, 32) }},
		{"key short", func(f *File) { f.Null.Key = f.Null.Key[1:] }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := good
			f.Format = fileFormat
			tt.change(&f)
			if _, err := f.open(); err == nil {
				t.Error("accepted")
			}
			b, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, ik+".json"), b, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenFiles(dir, false); err == nil {
				t.Error("OpenFiles accepted it")
			}
		})
	}
	f := good
	f.IK = "no"
	if err := WriteFile(t.TempDir(), f); err == nil {
		t.Error("WriteFile wrote an identity that cannot be read")
	}
}

func TestBadFolders(t *testing.T) {
	t.Parallel()
	good, _ := newFile(t, ik)
	tests := map[string]func(dir string) error{
		"empty":  func(dir string) error { return os.Remove(filepath.Join(dir, ik+".json")) },
		"absent": os.RemoveAll,
		"readable for all": func(dir string) error {
			return os.Chmod(filepath.Join(dir, ik+".json"), 0o644)
		},
		"under another number": func(dir string) error {
			return os.Rename(filepath.Join(dir, ik+".json"), filepath.Join(dir, "101575519.json"))
		},
		"symbolic link": func(dir string) error {
			return os.Symlink(filepath.Join(dir, ik+".json"), filepath.Join(dir, "101575519.json"))
		},
		"unknown field": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "101575519.json"), []byte(`{"formats": 1}`), 0o600)
		},
		"text behind": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "101575519.json"), []byte(`{} {}`), 0o600)
		},
		"too large": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "101575519.json"), make([]byte, maxFileSize+1), 0o600)
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := WriteFile(dir, good); err != nil {
				t.Fatal(err)
			}
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenFiles(dir, false); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func FuzzParseFile(f *testing.F) {
	good, _ := newFile(f, ik)
	good.Format = fileFormat
	b, err := json.Marshal(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := parseFile(b)
		if err != nil {
			return
		}
		if id, err := file.open(); err == nil && (id.null == nil || id.autr == nil) {
			t.Error("identity without keys")
		}
	})
}
