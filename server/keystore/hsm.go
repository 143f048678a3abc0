package keystore

import (
	"crypto"
	"errors"
)

// HSM names a token of an HSM that is reached through PKCS#11.
type HSM struct {
	// Module is the vendor's PKCS#11 library, for example /usr/lib/softhsm/libsofthsm2.so.
	Module string
	// Token is the label of the token.
	Token string
	// PIN asks for the PIN of the token.
	PIN func(new bool) ([]byte, error)
}

// ErrNoHSM is returned by builds without the tag pkcs11.
var ErrNoHSM = errors.New("keystore: this build speaks to no HSM; use one built with -tags pkcs11 (make build does)")

// openHSM is set in builds with the tag pkcs11.
var openHSM func(HSM) (Store, error)

// Open logs in to the token. The store is good until the process ends.
func (h HSM) Open() (Store, error) {
	if openHSM == nil {
		return nil, ErrNoHSM
	}
	return openHSM(h)
}

// deferred is a store that is opened when it is first used: a command that needs no key asks for no PIN.
type deferred struct {
	open  func() (Store, error)
	store Store
}

// Deferred opens the token at the first use.
func (h HSM) Deferred() Store { return &deferred{open: h.Open} }

func (d *deferred) get() (Store, error) {
	if d.store == nil {
		s, err := d.open()
		if err != nil {
			return nil, err
		}
		d.store = s
	}
	return d.store, nil
}

func (d *deferred) Create(name string, kind Kind) (crypto.Signer, error) {
	s, err := d.get()
	if err != nil {
		return nil, err
	}
	return s.Create(name, kind)
}

func (d *deferred) Open(name string) (crypto.Signer, error) {
	s, err := d.get()
	if err != nil {
		return nil, err
	}
	return s.Open(name)
}
