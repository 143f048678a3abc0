package tlspolicy

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of a trust store.
const (
	maxStoreFiles = 64
	maxStoreFile  = 64 << 10
)

// TrustStore is the set of server certificates that the app accepts. It does not change after loading.
type TrustStore struct {
	certs []*x509.Certificate // sorted by DER, no duplicates
}

// NewTrustStore makes a store of end-entity certificates. CA certificates and weak keys are refused.
func NewTrustStore(certs ...*x509.Certificate) (*TrustStore, error) {
	s := &TrustStore{}
	for _, c := range certs {
		if c.IsCA {
			return nil, fmt.Errorf("trust store: certificate with serial number %x is a CA; only server certificates are pinned", c.SerialNumber)
		}
		if err := checkKey(c); err != nil {
			return nil, fmt.Errorf("trust store: serial number %x: %w", c.SerialNumber, err)
		}
		s.certs = append(s.certs, c)
	}
	slices.SortFunc(s.certs, func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) })
	s.certs = slices.CompactFunc(s.certs, func(a, b *x509.Certificate) bool { return a.Equal(b) })
	return s, nil
}

// LoadTrustStore reads every *.pem file of dir. The store is integrity protected (AdV-A_2417): neither the directory nor a
// file may be writable for group or others, files must be regular ones, and where digest is not empty the store as a whole
// must have that [TrustStore.Digest], which the caller takes from a place with better protection than dir. Anything that
// does not read as a certificate fails the whole store.
func LoadTrustStore(dir, digest string) (*TrustStore, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("load trust store: %w", err)
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("load trust store: %s is not a directory", dir)
	}
	if st.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("load trust store: %s is writable for others (mode %04o); use chmod go-w", dir, st.Mode().Perm())
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("load trust store: %w", err)
	}
	var certs []*x509.Certificate
	n := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".pem") {
			continue
		}
		if n++; n > maxStoreFiles {
			return nil, fmt.Errorf("load trust store: more than %d files", maxStoreFiles)
		}
		cs, err := loadPEM(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("load trust store: %w", err)
		}
		certs = append(certs, cs...)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("load trust store: no certificate in %s; put the server's certificate there as *.pem", dir)
	}
	s, err := NewTrustStore(certs...)
	if err != nil {
		return nil, fmt.Errorf("load %w", err)
	}
	if digest != "" && s.Digest() != strings.ToLower(digest) {
		return nil, errors.New("load trust store: content differs from the configured digest")
	}
	return s, nil
}

func loadPEM(path string) ([]*x509.Certificate, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if st.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("%s is writable for others (mode %04o); use chmod go-w", path, st.Mode().Perm())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxStoreFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > maxStoreFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxStoreFile)
	}
	certs, err := parsePEM(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return certs, nil
}

// parsePEM reads certificates and nothing else.
func parsePEM(b []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		block, b = pem.Decode(b)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("PEM block %q; want certificates only", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate: %w", err)
		}
		certs = append(certs, c)
	}
	if len(bytes.TrimSpace(b)) != 0 {
		return nil, errors.New("text after the last PEM block")
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM block")
	}
	return certs, nil
}

// Len is the number of certificates; a nil store has none.
func (s *TrustStore) Len() int {
	if s == nil {
		return 0
	}
	return len(s.certs)
}

// Certificates are those in the store. They must not be changed.
func (s *TrustStore) Certificates() []*x509.Certificate {
	if s == nil {
		return nil
	}
	return s.certs
}

// Contains reports whether exactly this certificate is in the store.
func (s *TrustStore) Contains(c *x509.Certificate) bool {
	return slices.ContainsFunc(s.certs, c.Equal)
}

// Digest identifies the content: SHA-256 over the sorted certificates (DER), in hexadecimal.
func (s *TrustStore) Digest() string {
	h := sha256.New()
	for _, c := range s.certs {
		h.Write(c.Raw)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (s *TrustStore) pool() *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range s.certs {
		p.AddCert(c)
	}
	return p
}
