package cvc

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"ktradv/hw/tlv"
	"ktradv/internal/brainpool"
)

// Root is a pinned trust anchor.
type Root struct {
	Key   *brainpool.PublicKey
	List  List
	Flags Flags // the rights that certificates below may have
	// From and Until limit the validity as in [Certificate]; both are zero for a root that is known by its key only.
	From, Until time.Time
}

// Roots are the pinned trust anchors by their names.
type Roots map[CAR]Root

// AddCertificate pins a root by its certificate, which has to be signed by itself.
func (r Roots) AddCertificate(raw []byte) error {
	c, err := Parse(raw)
	if err != nil {
		return fmt.Errorf("pin root: %w", err)
	}
	if c.Level != RootCA || c.Name() != c.CAR {
		return fmt.Errorf("pin root: %v: %w: not a self-signed root", c, ErrLevel)
	}
	if err := c.CheckSignature(c.Key); err != nil {
		return fmt.Errorf("pin root: %w", err)
	}
	r[c.CAR] = Root{Key: c.Key, List: c.List, Flags: c.Flags, From: c.From, Until: c.Until}
	return nil
}

// AddKey pins a root of the telematics infrastructure by its public key, a data object 7F49{06 curve, 86 point}, as
// trust centres publish it beside the certificate.
func (r Roots) AddKey(name CAR, raw []byte) error {
	inner, err := tlv.Only(raw, 0x7F49)
	if err != nil {
		return fmt.Errorf("pin root key %v: %w: %w", name, ErrMalformed, err)
	}
	parts, err := fields(inner, 0x06, 0x86)
	if err != nil {
		return fmt.Errorf("pin root key %v: %w: %w", name, ErrMalformed, err)
	}
	curve, ok := curves[string(parts[0].Value)]
	if !ok {
		return fmt.Errorf("pin root key %v: %w: unknown curve %X", name, ErrMalformed, parts[0].Value)
	}
	key, err := brainpool.ParsePublicKey(curve(), parts[1].Value)
	if err != nil {
		return fmt.Errorf("pin root key %v: %w: %w", name, ErrMalformed, err)
	}
	r[name] = Root{Key: key, List: ListTI, Flags: FlagsAll}
	return nil
}

var curves = map[string]func() *brainpool.Curve{
	"\x2B\x24\x03\x03\x02\x08\x01\x01\x07": brainpool.P256r1,
	"\x2B\x24\x03\x03\x02\x08\x01\x01\x0B": brainpool.P384r1,
	"\x2B\x24\x03\x03\x02\x08\x01\x01\x0D": brainpool.P512r1,
}

// keySuffix is the end of the file name of a published root key; before it stands the name in hexadecimal.
const keySuffix = "_ELC-PublicKey.der"

// ReadRoots pins every root in a folder: self-signed certificates *.cvc and keys <16 hexadecimal digits>_ELC-PublicKey.der.
// Other files are passed over, a file of these names that is no root is an error, and so is a folder without any root.
func ReadRoots(fsys fs.FS, dir string) (Roots, error) {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("read CVC roots: %w", err)
	}
	roots := Roots{}
	for _, e := range entries {
		digits, isKey := strings.CutSuffix(e.Name(), keySuffix)
		isCert := strings.HasSuffix(e.Name(), ".cvc")
		if !isKey && !isCert {
			continue
		}
		raw, err := fs.ReadFile(fsys, path.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read CVC roots: %w", err)
		}
		if isCert {
			err = roots.AddCertificate(raw)
		} else {
			var name []byte
			if name, err = hex.DecodeString(digits); err == nil && len(name) != len(CAR{}) {
				err = fmt.Errorf("%w: name of %d octets", ErrMalformed, len(name))
			}
			if err == nil {
				err = roots.AddKey(CAR(name), raw)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("read CVC roots: %s: %w", e.Name(), err)
		}
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("read CVC roots: %s holds none", dir)
	}
	return roots, nil
}

// maxPath bounds the number of certificates between an end entity and its root: sub-CA and a number of link
// certificates.
const maxPath = 12

// Verify checks the certificate and everything above it up to a pinned root: signatures, validity at the time now, the
// same list of rights all the way, no right that the issuer does not have, and the right level of every issuer. above
// holds the certificates that may stand between, in any order: sub-CAs and link certificates. The result is the path
// from c to the certificate that a pinned root has signed, both included.
func (r Roots) Verify(c *Certificate, above []*Certificate, now time.Time) ([]*Certificate, error) {
	var path []*Certificate
	for {
		if err := validAt(c.From, c.Until, now); err != nil {
			return nil, fmt.Errorf("%v: %w", c, err)
		}
		path = append(path, c)
		if root, ok := r[c.CAR]; ok {
			if !root.From.IsZero() {
				if err := validAt(root.From, root.Until, now); err != nil {
					return nil, fmt.Errorf("root %v: %w", c.CAR, err)
				}
			}
			return path, c.checkIssuedBy(root.Key, RootCA, root.List, root.Flags)
		}
		if len(path) == maxPath {
			return nil, fmt.Errorf("%v: %w: path of more than %d certificates", c, ErrUnknownIssuer, maxPath)
		}
		issuer, err := c.issuerAmong(above)
		if err != nil {
			return nil, err
		}
		c = issuer
	}
}

// issuerAmong finds the certificate whose key has signed c. Several may bear the issuer's name, such as a root's own and
// its link certificates; a self-signed one leads nowhere.
func (c *Certificate) issuerAmong(above []*Certificate) (*Certificate, error) {
	err := fmt.Errorf("%v: %w", c, ErrUnknownIssuer)
	for _, issuer := range above {
		if issuer.Level == EndEntity || !bytes.Equal(issuer.CHR, c.CAR[:]) || issuer.CAR == issuer.Name() {
			continue
		}
		if err = c.checkIssuedBy(issuer.Key, issuer.Level, issuer.List, issuer.Flags); err == nil {
			return issuer, nil
		}
	}
	return nil, err
}

func (c *Certificate) checkIssuedBy(key *brainpool.PublicKey, level Level, list List, flags Flags) error {
	if err := c.CheckSignature(key); err != nil {
		return err
	}
	want := RootCA // of sub-CAs and of link certificates
	if c.Level == EndEntity {
		want = SubCA
	}
	if level != want {
		return fmt.Errorf("%v: %w: issued by a %v", c, ErrLevel, level)
	}
	if c.List != list || !c.Flags.Within(flags) {
		return fmt.Errorf("%v: %w", c, ErrRights)
	}
	return nil
}

func validAt(from, until, now time.Time) error {
	switch {
	case now.Before(from):
		return fmt.Errorf("%w before %s", ErrNotYetValid, from.Format(time.DateOnly))
	case !now.Before(until):
		return fmt.Errorf("%w since %s", ErrExpired, until.Format(time.DateOnly))
	}
	return nil
}
