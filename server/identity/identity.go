// Package identity finds the SM-B identity of the insurer that issued a health card (AdV-A_2570): two CV certificates with
// their private keys, CHAT.0 for the trusted channel (A_15118) and CHAT.1 for the unlocking (AdV-A_2514), and the name for the
// protocol entry on the card (AdV-A_2516, AdV-A_2556).
//
// An [Identity] answers questions and lets no key out, so an HSM, an SMC-B in a card reader and, for tests, a file
// ([OpenFiles]) look the same. A [Store] chooses by the Institutskennzeichen that the app sends (A_15111).
package identity

import (
	"context"
	"errors"

	"ktradv/hw/c2c"
)

// Identity is the SM-B identity of one insurer.
type Identity interface {
	c2c.Identity
	// Actor is who stands in the protocol entry of the card.
	Actor() Actor
}

// Actor names the insurer in the protocol entry of a card.
type Actor struct {
	Name  string // common name, at most 64 bytes
	ICCSN string // of the SM-B, 20 digits
}

// Store holds the identities of all insurers that the server speaks for.
type Store interface {
	// Lookup returns the identity for an IK of 9 digits, or an error that wraps ErrUnknownIK or ErrUnavailable.
	Lookup(ctx context.Context, ik string) (Identity, error)
	// Len is the number of insurers.
	Len() int
}

// Errors of a Store. They arrive wrapped.
var (
	// ErrUnknownIK: this server has no SM-B of that insurer.
	ErrUnknownIK = errors.New("no identity for this insurer")
	// ErrUnavailable: there is one, and it does not answer.
	ErrUnavailable = errors.New("identity does not answer")
	// ErrProduction: identities from files were asked for in production.
	ErrProduction = errors.New("identities from files are for tests only")
)
