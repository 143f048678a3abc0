package egk

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"ktradv/hw/apdu"
	"ktradv/hw/cos"
	"ktradv/hw/cvc"
)

// Errors of [ProveAuthentic]. They arrive wrapped; ErrNotAuthentic is wrapped with each of the others.
var (
	// ErrForeignRoot: the card's certificate does not lead to a pinned root.
	ErrForeignRoot = errors.New("card certificate leads to no pinned root")
	// ErrNotAuthentic: the card shows a certificate that is not its own, has rights that no health card has, or whose
	// key it does not possess (a copy).
	ErrNotAuthentic = errors.New("card is not authentic")
	// ErrCertificateTime: the card's certificate is expired or not yet valid; wrapped beside it is which.
	ErrCertificateTime = errors.New("card certificate outside its validity")
)

const (
	keyAUTCVC = 0x09 // PrK.eGK.AUT_CVC.E256
	rndSize   = 16
)

// ProveAuthentic finds out whether the card is genuine (egk-card.md 4.2; "Echtheit" of TAB_ADV_304): its own
// card-verifiable certificate leads to a pinned root, grants nothing but authentication (CHAT.0), bears the number that
// stands in EF.GDO, and the card possesses its private key: it signs a random number of ours together with our
// identification (terminal: eight octets that name this terminal and are no card's number).
//
// random nil means crypto/rand. On success info holds the two certificates for the server and Authentic is true.
//
// Errors: [ErrNotAuthentic], alone or with [ErrForeignRoot] or [ErrCertificateTime], [ErrMalformed], and those of card
// and transmitter.
func ProveAuthentic(ctx context.Context, t apdu.Transmitter, info *Info, roots cvc.Roots, terminal [8]byte, random io.Reader, now time.Time) error {
	if random == nil {
		random = rand.Reader
	}
	if terminal == info.ICCSN8() {
		return errors.New("prove card authentic: the terminal's identification is the card's number")
	}
	card := cos.New(t)
	if err := card.SelectMF(ctx); err != nil {
		return fmt.Errorf("prove card authentic: %w", err)
	}
	caRaw, err := readCVC(ctx, card, sfidCACVC)
	if err != nil {
		return err
	}
	raw, err := readCVC(ctx, card, sfidCVC)
	if err != nil {
		return err
	}
	cert, err := CheckCVC(raw, caRaw, info.ICCSN.Reveal(), roots, nil, now)
	if err != nil {
		return err
	}
	token := make([]byte, rndSize, rndSize+len(terminal)+1)
	if _, err := io.ReadFull(random, token); err != nil {
		return fmt.Errorf("prove card authentic: random number: %w", err)
	}
	token = append(token, terminal[:]...)
	if err := card.MSEInternalAuth(ctx, keyAUTCVC, cos.AlgRoleAuthentication); err != nil {
		return fmt.Errorf("prove card authentic: %w", err)
	}
	signature, err := card.InternalAuthenticate(ctx, token)
	if err != nil {
		return fmt.Errorf("prove card authentic: %w", err)
	}
	// The representative is not hashed: random number, identification, algorithm identifier as one integer.
	if !cert.Key.Verify(append(token, cos.AlgRoleAuthentication), signature) {
		return fmt.Errorf("%w: wrong signature over our random number", ErrNotAuthentic)
	}
	info.Authentic, info.AUTCVC, info.AUTCACVC = true, raw, caRaw
	return nil
}

func readCVC(ctx context.Context, card *cos.Card, sfid byte) ([]byte, error) {
	raw, err := card.ReadFile(ctx, sfid, 256)
	if err != nil {
		return nil, fmt.Errorf("read certificate of the card: %w", err)
	}
	return raw, nil
}

// CheckCVC verifies the certificates of EF.C.eGK.AUT_CVC.E256 and EF.C.CA_eGK.CS.E256, without a proof that the card
// possesses the key: chain to a pinned root at the time now, no rights, and the card number iccsn (20 digits; "" when the
// caller does not know it). links are further certificates that may lead to a pinned root.
func CheckCVC(raw, caRaw []byte, iccsn string, roots cvc.Roots, links []*cvc.Certificate, now time.Time) (*cvc.Certificate, error) {
	cert, err := cvc.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("certificate of the card: %w: %w", ErrMalformed, err)
	}
	ca, err := cvc.Parse(caRaw)
	if err != nil {
		return nil, fmt.Errorf("certificate of the card's CA: %w: %w", ErrMalformed, err)
	}
	if cert.Level != cvc.EndEntity || cert.List != cvc.ListTI || cert.Flags != cvc.FlagsNone {
		return nil, fmt.Errorf("%w: the certificate is not that of a health card", ErrNotAuthentic)
	}
	_, err = roots.Verify(cert, append([]*cvc.Certificate{ca}, links...), now)
	switch {
	case errors.Is(err, cvc.ErrUnknownIssuer):
		return nil, fmt.Errorf("%w: %w: %w", ErrNotAuthentic, ErrForeignRoot, err)
	case errors.Is(err, cvc.ErrExpired), errors.Is(err, cvc.ErrNotYetValid):
		return nil, fmt.Errorf("%w: %w: %w", ErrNotAuthentic, ErrCertificateTime, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNotAuthentic, err)
	}
	if iccsn != "" {
		want, err := hex.DecodeString(iccsn)
		if err != nil || !bytes.Equal(cert.ICCSN(), want) {
			return nil, fmt.Errorf("%w: the certificate bears another card number", ErrNotAuthentic)
		}
	}
	return cert, nil
}
