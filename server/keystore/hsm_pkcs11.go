//go:build pkcs11

package keystore

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/ThalesGroup/crypto11"
)

func init() { openHSM = login }

// token is a token that is logged in to.
type token struct{ ctx *crypto11.Context }

func login(h HSM) (Store, error) {
	if h.Module == "" || h.Token == "" {
		return nil, errors.New("HSM: name the PKCS#11 module and the label of the token")
	}
	pin, err := h.PIN(false)
	if err != nil {
		return nil, err
	}
	ctx, err := crypto11.Configure(&crypto11.Config{Path: h.Module, TokenLabel: h.Token, Pin: string(pin)})
	if err != nil {
		return nil, fmt.Errorf("HSM %s, token %q: %w", h.Module, h.Token, err)
	}
	return token{ctx}, nil
}

// find returns a key pair by its label, nil where there is none.
func (t token) find(name string) (crypto.Signer, error) {
	if !namePattern.MatchString(name) {
		return nil, fmt.Errorf("%w: %q", ErrName, name)
	}
	pairs, err := t.ctx.FindKeyPairs(nil, []byte(name))
	switch {
	case err != nil:
		return nil, fmt.Errorf("HSM: look for key %s: %w", name, err)
	case len(pairs) > 1:
		return nil, fmt.Errorf("HSM: %d keys are called %s; next: rename the wrong ones with the vendor's tool", len(pairs), name)
	case len(pairs) == 0:
		return nil, nil
	}
	return pairs[0], nil
}

// Create makes a key in the HSM; it never leaves it. A key is never replaced: another name is taken for the next one.
func (t token) Create(name string, kind Kind) (crypto.Signer, error) {
	switch s, err := t.find(name); {
	case err != nil:
		return nil, err
	case s != nil:
		return nil, fmt.Errorf("%w: %s in the HSM; remove or rename it there with the vendor's tool", ErrExists, name)
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	var s crypto.Signer
	var err error
	switch kind {
	case P256:
		s, err = t.ctx.GenerateECDSAKeyPairWithLabel(id, []byte(name), elliptic.P256())
	case RSA4096:
		s, err = t.ctx.GenerateRSAKeyPairWithLabel(id, []byte(name), 4096)
	default:
		return nil, fmt.Errorf("make key %s: unknown kind %d", name, kind)
	}
	if err != nil {
		return nil, fmt.Errorf("HSM: make key %s: %w", name, err)
	}
	return s, nil
}

// Open finds a key.
func (t token) Open(name string) (crypto.Signer, error) {
	s, err := t.find(name)
	if err == nil && s == nil {
		err = fmt.Errorf("%w: %s in the HSM", ErrNotFound, name)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}
