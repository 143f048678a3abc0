package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"ktradv/internal/tsl"
	"ktradv/internal/x509ti"
)

// ErrInForce says that a trust anchor needs no change because it counts already.
var ErrInForce = errors.New("trust: the anchor is in force already")

// CrossOver changes the trust space to another anchor, such as from the RSA to the ECC generation, by a cross certificate
// (A_17821): newAnchor is the self-signed TSL signer CA of the new trust space, cross the certificate of its key by an anchor
// in force, and list the TSL of the new trust space. Everything is checked before anything changes, and the change is one step:
// the new anchor counts from now on, together with the list, and those before it for older lists only. The addresses in the
// new list are those of later downloads.
//
// Whatever fails leaves everything as it was. Findings are CertificateNotValidTime (1021), AuthorityKeyIDDifferent (1023),
// CertificateNotValidMath (1024) and CACertMissing (1027) about the certificates, those of [Updater.Accept] about the list;
// beside them ErrTestOnly and ErrInForce.
func (u *Updater) CrossOver(ctx context.Context, newAnchor, cross *x509ti.Certificate, list []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if newAnchor == nil || cross == nil {
		return x509ti.CertReadError
	}
	now := u.c.Clock()
	active, _ := u.active(now)
	if contains(active, newAnchor.Raw) {
		return ErrInForce
	}
	if err := u.newAnchor(newAnchor, active); err != nil {
		return fmt.Errorf("new trust anchor: %w", err)
	}
	if err := u.crossed(cross, newAnchor, active); err != nil {
		return fmt.Errorf("cross certificate: %w", err)
	}
	l, err := tsl.Parse(list)
	if err != nil {
		return fmt.Errorf("list of the new trust space: %w", err)
	}
	if err := u.firstList(ctx, l, newAnchor); err != nil {
		return fmt.Errorf("list of the new trust space: %w", err)
	}
	anchors := u.c.Archive.anchors()
	for i := range anchors {
		if a := &anchors[i]; a.open(now) {
			a.Until = now
		}
	}
	anchors = append(anchors, storedAnchor{Certificate: newAnchor.Raw, From: now, Origin: crossed})
	if err := u.c.Archive.add(l, u.announced(l, anchors, now), now); err != nil {
		return err
	}
	u.refresh()
	u.c.Report(Event{Kind: tsl.TSL, What: SpaceChanged, Sequence: l.Sequence, Anchor: newAnchor, Text: fmt.Sprintf("trust space changed by cross certificate, TSL with sequence number %d accepted; trust anchor: %s",
		l.Sequence, nameOf(newAnchor))})
	return nil
}

// isAuthority checks that a certificate is that of a CA, valid now.
func (u *Updater) isAuthority(c *x509ti.Certificate) error {
	switch {
	case !c.IsCA || c.KeyUsage&x509ti.CertSign == 0:
		return x509ti.CertificateNotValidMath.Because("not the certificate of a CA")
	case len(c.UnhandledCritical) > 0:
		return x509ti.ErrCritical
	case !c.ValidAt(u.c.Clock()):
		return x509ti.CertificateNotValidTime
	}
	return nil
}

// newAnchor checks the anchor of the new trust space on its own.
func (u *Updater) newAnchor(c *x509ti.Certificate, active []*x509ti.Certificate) error {
	if err := u.isAuthority(c); err != nil {
		return err
	}
	if c.TestOnly() && u.c.Production || len(active) > 0 && c.TestOnly() != active[0].TestOnly() {
		return ErrTestOnly
	}
	return c.CheckSelfSigned(u.c.Verifier)
}

// crossed checks that an anchor in force certifies the name and the key of the new one.
func (u *Updater) crossed(cross, newAnchor *x509ti.Certificate, active []*x509ti.Certificate) error {
	if err := u.isAuthority(cross); err != nil {
		return err
	}
	switch {
	case !bytes.Equal(cross.RawSubject, newAnchor.RawSubject):
		return x509ti.CACertMissing.Because("it names another CA than the new anchor")
	case !bytes.Equal(cross.SubjectKeyID, newAnchor.SubjectKeyID):
		return x509ti.AuthorityKeyIDDifferent.Because("it has another key identifier than the new anchor")
	case !bytes.Equal(cross.RawSPKI, newAnchor.RawSPKI):
		return x509ti.CertificateNotValidMath.Because("it has another key than the new anchor")
	}
	issuer, err := cross.FindIssuer(active)
	if err != nil {
		return fmt.Errorf("anchor in force: %w", err)
	}
	if !issuer.ValidAt(u.c.Clock()) {
		return fmt.Errorf("anchor in force: %w", x509ti.CertificateNotValidTime)
	}
	return cross.CheckSignatureFromWith(u.c.Verifier, issuer)
}

// firstList checks the list of the new trust space: freshness, signer below the new anchor alone, its status. Sequence numbers
// of the two trust spaces have nothing to do with each other; the times of issue decide which list counts when.
func (u *Updater) firstList(ctx context.Context, l *tsl.List, newAnchor *x509ti.Certificate) error {
	now := u.c.Clock()
	if l.Kind != tsl.TSL {
		return fmt.Errorf("%w: it is a %s", tsl.SchemaNotValid, l.Kind)
	}
	if newest, have := u.c.Archive.newest(tsl.TSL); have && !l.Issued.After(newest.Issued) {
		return IDIncorrect.Because("not younger than the list in force; take the next one")
	}
	if err := u.fresh(l, now); err != nil {
		return err
	}
	if _, err := l.Verify(now, []*x509ti.Certificate{newAnchor}, u.c.Verifier); err != nil {
		return err
	}
	signer, err := l.Signer()
	if err != nil {
		return err
	}
	if u.c.Production && signer.TestOnly() {
		return fmt.Errorf("%w: TSL", ErrTestOnly)
	}
	// The list in force may name no responder of the new generation: one that the new anchor issued is as good.
	return u.signerStatus(ctx, signer, newAnchor, "", now, false)
}
