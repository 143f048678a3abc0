package testpki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"time"
)

// makeTLSCA makes the issuer of the server certificates. TLS uses NIST P-256, which the standard library handles.
func (p *PKI) makeTLSCA() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("TLS authority: %w", err)
	}
	serial, err := p.newSerial()
	if err != nil {
		return fmt.Errorf("TLS authority: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Country: []string{"DE"}, Organization: []string{"KTR-AdV Test NOT-VALID"}, CommonName: "ADV.TLS-CA1 TEST-ONLY"},
		NotBefore: p.years(-2), NotAfter: p.years(8), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if p.TLSCA, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key); err != nil {
		return fmt.Errorf("TLS authority: %w", err)
	}
	if p.TLSCAKey, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return fmt.Errorf("TLS authority: %w", err)
	}
	return nil
}

// IssueTLSServer issues a server certificate for the given names and addresses (ECDSA P-256) and returns it and its key
// (PKCS#8) as PEM. The certificate is what a client pins; TLSCA is its issuer.
func (p *PKI) IssueTLSServer(names []string, ips []net.IP) (certPEM, keyPEM []byte, err error) {
	ca, err := x509.ParseCertificate(p.TLSCA)
	if err != nil {
		return nil, nil, fmt.Errorf("issue TLS server: %w", err)
	}
	caKey, err := x509.ParsePKCS8PrivateKey(p.TLSCAKey)
	if err != nil {
		return nil, nil, fmt.Errorf("issue TLS server: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("issue TLS server: %w", err)
	}
	serial, err := p.newSerial()
	if err != nil {
		return nil, nil, fmt.Errorf("issue TLS server: %w", err)
	}
	cn := "adv-server"
	if len(names) > 0 {
		cn = names[0]
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Country: []string{"DE"}, Organization: []string{"KTR-AdV Test NOT-VALID"}, CommonName: cn},
		NotBefore: p.years(-1), NotAfter: p.years(4).Add(-time.Second), DNSNames: names, IPAddresses: ips,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}, ca, key.Public(), caKey)
	if err != nil {
		return nil, nil, fmt.Errorf("issue TLS server: %w", err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("issue TLS server: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), nil
}
