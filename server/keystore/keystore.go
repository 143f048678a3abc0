// Package keystore keeps the private keys of the operator's tools by name: each in a file of its own, encrypted with a
// passphrase (PKCS#8, PBES2 with AES-256), or in an HSM through PKCS#11 (build tag pkcs11). Keys are made where they are
// kept; nothing prints or copies one.
package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/youmark/pkcs8"

	"ktradv/internal/redact"
	"ktradv/server/internal/keepfile"
)

// Kind of key.
type Kind int

// The kinds.
const (
	P256    Kind = iota + 1 // ECDSA on P-256, for Entity Statements (A_23196)
	RSA4096                 // RSA with 4096 bits, for the TrustCenter
)

// Errors that callers act on.
var (
	ErrNotFound   = errors.New("keystore: no such key")
	ErrExists     = errors.New("keystore: the key exists already")
	ErrPassphrase = errors.New("keystore: wrong passphrase")
	ErrName       = errors.New("keystore: a name is made of letters, digits, - and _")
	ErrMode       = errors.New("keystore: the file can be read by others")
)

// Store makes and opens keys.
type Store interface {
	// Create makes a key. It wraps ErrExists where the name is taken.
	Create(name string, kind Kind) (crypto.Signer, error)
	// Open opens a key. It wraps ErrNotFound and ErrPassphrase.
	Open(name string) (crypto.Signer, error)
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// MinPassphrase is the least length of a new passphrase in characters.
const MinPassphrase = 12

// Files keeps keys in files <name>.key.pem of a folder, mode 0600.
type Files struct {
	// Dir is the folder; it is made with mode 0700.
	Dir string
	// Passphrase asks for the passphrase; new says that it is for a new key and to be asked for twice.
	Passphrase func(new bool) ([]byte, error)
	// Force lets Create replace a key; the former one is kept beside it.
	Force bool
	// Now names what is kept; nil means the system's clock.
	Now func() time.Time

	passphrase redact.Bytes // asked for once
}

// Format prints the folder and never the passphrase, whatever the verb: fmt would print that of a field it cannot ask.
func (f Files) Format(w fmt.State, _ rune) { fmt.Fprintf(w, "keys in %s", f.Dir) }

// Path is the file of a key.
func (f *Files) Path(name string) string { return filepath.Join(f.Dir, name+".key.pem") }

// secret returns the passphrase, asking for it at the first call.
func (f *Files) secret(new bool) ([]byte, error) {
	if len(f.passphrase.Reveal()) == 0 {
		p, err := f.Passphrase(new)
		if err != nil {
			return nil, err
		}
		if new && len([]rune(string(p))) < MinPassphrase {
			return nil, fmt.Errorf("the passphrase has fewer than %d characters: take a longer one", MinPassphrase)
		}
		f.passphrase = redact.NewBytes(p)
	}
	return f.passphrase.Reveal(), nil
}

// encryption follows the recommendations of OWASP and NIST for PBKDF2.
var encryption = &pkcs8.Opts{
	Cipher:  pkcs8.AES256CBC,
	KDFOpts: pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 600_000, HMACHash: crypto.SHA256},
}

const pemType = "ENCRYPTED PRIVATE KEY"

// Create makes a key and writes it.
func (f *Files) Create(name string, kind Kind) (crypto.Signer, error) {
	if !namePattern.MatchString(name) {
		return nil, fmt.Errorf("%w: %q", ErrName, name)
	}
	if _, err := os.Stat(f.Path(name)); err == nil && !f.Force {
		return nil, fmt.Errorf("%w: %s", ErrExists, f.Path(name))
	}
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of keys: %w", err)
	}
	secret, err := f.secret(true)
	if err != nil {
		return nil, err
	}
	var key crypto.Signer
	switch kind {
	case P256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA4096:
		key, err = rsa.GenerateKey(rand.Reader, 4096)
	default:
		return nil, fmt.Errorf("make key %s: unknown kind %d", name, kind)
	}
	if err != nil {
		return nil, fmt.Errorf("make key %s: %w", name, err)
	}
	der, err := pkcs8.MarshalPrivateKey(key, secret, encryption)
	if err != nil {
		return nil, fmt.Errorf("encrypt key %s: %w", name, err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
	if _, err := keepfile.Write(f.Path(name), b, keepfile.Options{Force: f.Force, Now: f.Now}); errors.Is(err, keepfile.ErrExists) {
		return nil, fmt.Errorf("%w: %s", ErrExists, f.Path(name))
	} else if err != nil {
		return nil, err
	}
	return key, nil
}

// maxFile bounds a file in octets.
const maxFile = 64 << 10

// Open reads a key. Files that others can read are refused: what stands in them may be known.
func (f *Files) Open(name string) (crypto.Signer, error) {
	if !namePattern.MatchString(name) {
		return nil, fmt.Errorf("%w: %q", ErrName, name)
	}
	st, err := os.Stat(f.Path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %s", ErrNotFound, f.Path(name))
	case err != nil:
		return nil, fmt.Errorf("key %s: %w", name, err)
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("key %s: %s is not a file", name, f.Path(name))
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%w: %s has mode %o; next: chmod 600, and think about who may have read it", ErrMode, f.Path(name), st.Mode().Perm())
	case st.Size() > maxFile:
		return nil, fmt.Errorf("key %s: longer than %d octets", name, maxFile)
	}
	b, err := os.ReadFile(f.Path(name))
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != pemType || len(rest) > 0 {
		return nil, fmt.Errorf("key %s: %s is not one PEM block %s", name, f.Path(name), pemType)
	}
	secret, err := f.secret(false)
	if err != nil {
		return nil, err
	}
	key, err := pkcs8.ParsePKCS8PrivateKey(block.Bytes, secret)
	if err != nil {
		return nil, fmt.Errorf("%w, or damaged file: key %s", ErrPassphrase, name)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key %s cannot sign", name)
	}
	return signer, nil
}
