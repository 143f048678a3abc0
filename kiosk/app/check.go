package app

import (
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"ktradv/hw/cvc"
	"ktradv/internal/terminal"
	"ktradv/internal/tlspolicy"
)

// Check reads everything that a configuration names, so that a mistake shows when the image is built or the terminal is
// put into service and not in front of a person. It looks at what terminal.Load leaves to those who read the files:
// certificates, CVC roots, design. With a now that is not zero, certificates must be in date then; a terminal that just
// booted leaves it zero, because its clock may still be wrong.
func Check(k terminal.Config, now time.Time) (problems []terminal.Problem) {
	bad := func(file, key, what, fix string) {
		problems = append(problems, terminal.Problem{File: file, Key: key, What: what, Fix: fix})
	}
	if _, err := cvc.ReadRoots(os.DirFS(k.CardRoots), "."); err != nil {
		bad(k.CardRoots, "card_roots", err.Error(), "put the published CVC roots there, and nothing else")
	}
	store, err := tlspolicy.LoadTrustStore(k.Server.TrustStore, k.Server.TrustDigest)
	if err != nil {
		bad(k.Server.TrustStore, "server.trust_store", err.Error(), "put the AdV-Server's own TLS certificate (PEM) there, writable for its owner alone; its digest must be server.trust_digest")
	}
	certificates := store.Certificates()
	for _, c := range certificates {
		if what := outOfDate(c, now); what != "" {
			bad(k.Server.TrustStore, "server.trust_store", what, "replace the certificate by the one that the AdV-Server uses now")
		}
	}
	if host, _, err := net.SplitHostPort(k.Server.Address); err == nil && len(certificates) > 0 && !named(certificates, host) {
		bad(k.Server.TrustStore, "server.address", fmt.Sprintf("no certificate of the trust store is for %s", host), "write the name that stands in the certificate, or lay in the certificate of this server")
	}
	if _, _, err := look(k); err != nil {
		bad(k.Design, "design", err.Error(), "mend ui.json, or leave design out for the product's own look")
	}
	return problems
}

// AllMistakes gives what terminal.Load has found in a configuration and what Check finds beside it: a key that is named
// already is not named twice. So everything can be mended in one go.
func AllMistakes(k terminal.Config, found []terminal.Problem, now time.Time) []terminal.Problem {
	all := slices.Clip(found)
	for _, p := range Check(k, now) {
		if !slices.ContainsFunc(found, func(q terminal.Problem) bool { return q.Key == p.Key }) {
			all = append(all, p)
		}
	}
	return all
}

// outOfDate says what is wrong with a certificate's dates, "" when nothing is or now is zero.
func outOfDate(c *x509.Certificate, now time.Time) string {
	subject := fmt.Sprintf("certificate %X of %s", c.SerialNumber, c.Subject.CommonName)
	switch {
	case now.IsZero():
		return ""
	case now.After(c.NotAfter):
		return fmt.Sprintf("%s was valid until %s", subject, c.NotAfter.Format(time.DateOnly))
	case now.Before(c.NotBefore):
		return fmt.Sprintf("%s is valid from %s only", subject, c.NotBefore.Format(time.DateOnly))
	}
	return ""
}

func named(certificates []*x509.Certificate, host string) bool {
	for _, c := range certificates {
		if c.VerifyHostname(host) == nil {
			return true
		}
	}
	return false
}
