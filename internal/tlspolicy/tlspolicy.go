// Package tlspolicy holds the one TLS policy of the product, as [crypto/tls] configurations for both ends of the link
// between AdV-App and AdV-Server, and the trust store of the app.
//
// The policy (gemSpec_Krypt as far as public, BSI TR-02102-2): TLS 1.2 and 1.3 only; in TLS 1.2 ECDHE with AES-GCM; P-256
// and P-384; no renegotiation and no resumption of any kind (A_16395). In TLS 1.3 crypto/tls chooses among its own three
// AEAD suites and cannot be restricted further. Server keys are ECDSA P-256 or P-384, or RSA of at least 3072 bits.
//
// Start with [ServerConfig], [ClientConfig] and [LoadTrustStore]. Brainpool certificates are refused: crypto/tls cannot
// use them.
package tlspolicy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// suites are the cipher suites for TLS 1.2.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
}

func base(clock func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS12,
		MaxVersion:             tls.VersionTLS13,
		CipherSuites:           suites,
		CurvePreferences:       []tls.CurveID{tls.CurveP256, tls.CurveP384},
		Renegotiation:          tls.RenegotiateNever,
		SessionTicketsDisabled: true,
		ClientSessionCache:     nil,
		NextProtos:             []string{"h2"},
		Time:                   clock,
	}
}

// ServerConfig is the configuration of the server's side. The certificate's key must fit the policy.
func ServerConfig(cert tls.Certificate) (*tls.Config, error) {
	if len(cert.Certificate) == 0 {
		return nil, errors.New("tls server configuration: no certificate")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("tls server configuration: %w", err)
	}
	if err := checkKey(leaf); err != nil {
		return nil, fmt.Errorf("tls server configuration: %w", err)
	}
	cfg := base(nil)
	cfg.Certificates = []tls.Certificate{cert}
	return cfg, nil
}

// MutualServerConfig is ServerConfig for a service whose clients show a certificate, too: one of the end-entity certificates
// in clients, within its period of validity. A nil clock means time.Now.
func MutualServerConfig(cert tls.Certificate, clients *TrustStore, clock func() time.Time) (*tls.Config, error) {
	if clients.Len() == 0 {
		return nil, errors.New("tls server configuration: no certificate of a client")
	}
	cfg, err := ServerConfig(cert)
	if err != nil {
		return nil, err
	}
	if clock == nil {
		clock = time.Now
	}
	cfg.Time = clock
	cfg.ClientAuth = tls.RequireAnyClientCert
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if cs.DidResume || len(cs.PeerCertificates) == 0 || !clients.Contains(cs.PeerCertificates[0]) {
			return ErrNotPinned
		}
		if c, now := cs.PeerCertificates[0], clock(); now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return errors.New("tls: client certificate is out of its period of validity")
		}
		return nil
	}
	return cfg, nil
}

// ClientConfig is the configuration of the app's side: the server called name must show one of the end-entity certificates
// in store (AdV-A_2417, AdV-A_2418), valid now and issued for that name. A certificate that merely has a trusted issuer
// is refused. A nil clock means time.Now.
func ClientConfig(store *TrustStore, name string, clock func() time.Time) (*tls.Config, error) {
	if store.Len() == 0 {
		return nil, errors.New("tls client configuration: empty trust store")
	}
	if name == "" {
		return nil, errors.New("tls client configuration: no server name")
	}
	cfg := base(clock)
	cfg.ServerName = name
	// A certificate that is itself in RootCAs is its own trust anchor: crypto/tls checks validity, name and usage.
	cfg.RootCAs = store.pool()
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if cs.DidResume {
			return errors.New("tls: resumed session refused")
		}
		if len(cs.PeerCertificates) == 0 || !store.Contains(cs.PeerCertificates[0]) {
			return ErrNotPinned
		}
		return nil
	}
	return cfg, nil
}

// ErrNotPinned means that the other side's certificate is none of those in the trust store.
var ErrNotPinned = errors.New("tls: certificate is not in the trust store")

// minRSABits is the shortest RSA key for a server.
const minRSABits = 3072

func checkKey(c *x509.Certificate) error {
	switch k := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return fmt.Errorf("certificate key on curve %s; want P-256 or P-384", k.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return fmt.Errorf("certificate with RSA key of %d bits; want at least %d", k.N.BitLen(), minRSABits)
		}
	default:
		return fmt.Errorf("certificate key of type %T; want ECDSA or RSA", k)
	}
	return nil
}
