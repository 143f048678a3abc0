package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"

	"ktradv/hw/c2c"
	"ktradv/hw/cvc"
	"ktradv/internal/brainpool"
	"ktradv/internal/redact"
)

// fileFormat stands in every file, so that the purpose cannot be overlooked.
const fileFormat = "ktradv identity, for tests only"

// Bounds of the folder.
const (
	maxFiles    = 1000
	maxFileSize = 16 << 10
	maxName     = 64
)

// File is the content of one <ik>.json: an identity with its private keys in the clear.
type File struct {
	Format string   `json:"format"` // set by WriteFile
	IK     string   `json:"ik"`     // 9 digits
	Name   string   `json:"name"`   // of the insurer, for the protocol entry
	ICCSN  string   `json:"iccsn"`  // of the SM-B, 20 digits
	CA     []byte   `json:"ca"`     // CV certificate (7F21) of the issuer of the two below
	Links  [][]byte `json:"links,omitempty"`
	Null   KeyPair  `json:"null"` // CHAT.0
	AUTR   KeyPair  `json:"autr"` // CHAT.1
}

// KeyPair is a CV certificate with its key.
type KeyPair struct {
	Certificate []byte `json:"certificate"` // 7F21
	Key         []byte `json:"key"`         // scalar, fixed width, big endian
}

// Format prints no key, whatever the verb.
func (KeyPair) Format(w fmt.State, _ rune) { io.WriteString(w, redact.Mark) }

// WriteFile writes f into dir as <ik>.json, readable for its owner alone.
func WriteFile(dir string, f File) error {
	f.Format = fileFormat
	if _, err := f.open(); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, f.IK+".json"), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return nil
}

// Files is a Store with private keys from files, for tests and demonstrations.
type Files struct{ byIK map[string]*software }

var _ Store = (*Files)(nil)

// OpenFiles reads every <ik>.json of dir. In production it refuses with ErrProduction, whatever the folder holds: there
// private keys live in an HSM (AdV-A_2513).
func OpenFiles(dir string, production bool) (*Files, error) {
	if production {
		return nil, fmt.Errorf("open identities: %w", ErrProduction)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open identities: %w", err)
	}
	s := &Files{byIK: map[string]*software{}}
	for _, e := range entries {
		ik, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		if len(s.byIK) == maxFiles {
			return nil, fmt.Errorf("open identities: more than %d files", maxFiles)
		}
		id, err := readFile(filepath.Join(dir, e.Name()), ik)
		if err != nil {
			return nil, fmt.Errorf("open identities: %s: %w", e.Name(), err)
		}
		s.byIK[ik] = id
	}
	if len(s.byIK) == 0 {
		return nil, fmt.Errorf("open identities: no <ik>.json in %s", dir)
	}
	return s, nil
}

func readFile(path, ik string) (*software, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("mode %v; a private key must be readable for its owner alone (chmod 600)", st.Mode())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	defer clear(b)
	file, err := parseFile(b)
	if err != nil {
		return nil, err
	}
	if file.IK != ik {
		return nil, fmt.Errorf("holds the identity of %s", file.IK)
	}
	return file.open()
}

func parseFile(b []byte) (*File, error) {
	if len(b) > maxFileSize {
		return nil, fmt.Errorf("larger than %d bytes", maxFileSize)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var f File
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the JSON object")
	}
	return &f, nil
}

// open checks everything that can be checked without a card.
func (f *File) open() (*software, error) {
	if f.Format != fileFormat {
		return nil, fmt.Errorf("format is not %q", fileFormat)
	}
	if len(f.IK) != 9 || strings.Trim(f.IK, "0123456789") != "" {
		return nil, errors.New("ik: want 9 digits")
	}
	if len(f.ICCSN) != 20 || strings.Trim(f.ICCSN, "0123456789") != "" {
		return nil, errors.New("iccsn: want 20 digits")
	}
	if len(f.Name) == 0 || len(f.Name) > maxName || !utf8.ValidString(f.Name) {
		return nil, fmt.Errorf("name: want 1 to %d bytes of UTF-8", maxName)
	}
	id := &software{actor: Actor{Name: f.Name, ICCSN: f.ICCSN}, links: f.Links, ca: f.CA}
	ca, err := cvc.Parse(f.CA)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	if ca.Level != cvc.SubCA {
		return nil, fmt.Errorf("ca: is a certificate of level %v", ca.Level)
	}
	for i, l := range f.Links {
		if _, err := cvc.Parse(l); err != nil {
			return nil, fmt.Errorf("links[%d]: %w", i, err)
		}
	}
	if id.null, err = f.Null.open(ca, cvc.FlagsNone); err != nil {
		return nil, fmt.Errorf("null: %w", err)
	}
	if id.autr, err = f.AUTR.open(ca, cvc.FlagsKTRAdV); err != nil {
		return nil, fmt.Errorf("autr: %w", err)
	}
	id.nullCVC, id.autrCVC = f.Null.Certificate, f.AUTR.Certificate
	return id, nil
}

// open returns the key after checking that the certificate is for it, has the rights and is signed by ca. Whether it leads
// to a pinned root and is valid now is checked at each use (hw/c2c).
func (p KeyPair) open(ca *cvc.Certificate, rights cvc.Flags) (*brainpool.PrivateKey, error) {
	c, err := cvc.Parse(p.Certificate)
	if err != nil {
		return nil, err
	}
	if c.Level != cvc.EndEntity || c.Flags != rights {
		return nil, fmt.Errorf("certificate has the rights %v; want %v", c.Flags, rights)
	}
	if err := c.CheckSignature(ca.Key); err != nil {
		return nil, err
	}
	key, err := brainpool.NewPrivateKey(c.Key.Curve(), p.Key)
	if err != nil {
		return nil, err
	}
	if !key.Public().Equal(c.Key) {
		return nil, errors.New("key does not belong to the certificate")
	}
	return key, nil
}

// Lookup returns the identity of the insurer.
func (s *Files) Lookup(_ context.Context, ik string) (Identity, error) {
	id, ok := s.byIK[ik]
	if !ok {
		return nil, ErrUnknownIK
	}
	return id, nil
}

// Len is the number of insurers.
func (s *Files) Len() int { return len(s.byIK) }

// software is an identity whose keys are in memory.
type software struct {
	actor            Actor
	ca               []byte
	links            [][]byte
	nullCVC, autrCVC []byte
	null, autr       *brainpool.PrivateKey
}

var _ Identity = (*software)(nil)

// Format prints no key, whatever the verb.
func (software) Format(w fmt.State, _ rune) { io.WriteString(w, redact.Mark) }

// Actor implements Identity.
func (s *software) Actor() Actor { return s.actor }

// Certificates implements c2c.Identity.
func (s *software) Certificates(_ context.Context, p c2c.Profile) (c2c.Certificates, error) {
	ee := s.nullCVC
	if p == c2c.ProfileKTRAdV {
		ee = s.autrCVC
	}
	return c2c.Certificates{EndEntity: ee, CA: s.ca, Links: s.links}, nil
}

// SignRoleToken implements c2c.Identity.
func (s *software) SignRoleToken(_ context.Context, message []byte) ([]byte, error) {
	return s.autr.Sign(nil, message)
}

// Agree implements c2c.Identity.
func (s *software) Agree(_ context.Context, peer *brainpool.PublicKey) (redact.Bytes, error) {
	x, err := s.null.ECDH(peer)
	if err != nil {
		return redact.Bytes{}, err
	}
	return redact.NewBytes(x), nil
}
