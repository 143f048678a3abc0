package testpki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"ktradv/internal/brainpool"
)

// rsaBits is the size of every RSA key here: that of the R2048 objects of health cards.
const rsaBits = 2048

// publicKey is the public half of a keyPair.
type publicKey struct {
	ec   *brainpool.PublicKey
	rsa  *rsa.PublicKey
	nist *ecdsa.PublicKey
}

// keyPair is the key of a certificate: one of the three is set.
type keyPair struct {
	ec   *brainpool.PrivateKey
	rsa  *rsa.PrivateKey
	nist *ecdsa.PrivateKey // on P-256
}

func (a *X509Authority) pair() keyPair { return keyPair{a.Key, a.RSA, a.NIST} }

func (i *X509Identity) pair() keyPair { return keyPair{i.Key, i.RSA, i.NIST} }

func (k keyPair) public() publicKey {
	switch {
	case k.rsa != nil:
		return publicKey{rsa: &k.rsa.PublicKey}
	case k.nist != nil:
		return publicKey{nist: &k.nist.PublicKey}
	}
	return publicKey{ec: k.ec.Public()}
}

// bits is the content of the BIT STRING in SubjectPublicKeyInfo.
func (k publicKey) bits() []byte {
	if k.rsa != nil {
		return x509.MarshalPKCS1PublicKey(k.rsa)
	}
	if k.nist != nil {
		point, err := k.nist.Bytes()
		if err != nil {
			return nil // not on a curve with such a form; keys of this package are
		}
		return point
	}
	return k.ec.Bytes()
}

// addInfo writes SubjectPublicKeyInfo (RFC 3279 chapter 2.3.1, RFC 5639).
func (k publicKey) addInfo(b *cryptobyte.Builder) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			if k.rsa != nil {
				addOID(b, oidRSAEncryption)
				b.AddASN1NULL()
				return
			}
			addOID(b, oidECPublicKey)
			if k.nist != nil {
				addOID(b, oidP256)
				return
			}
			b.AddASN1ObjectIdentifier(k.ec.Curve().OID())
		})
		b.AddASN1BitString(k.bits())
	})
}

// addAlgorithm writes the AlgorithmIdentifier of the key's signatures: ECDSA or RSA PKCS #1 v1.5, with SHA-256.
func (k keyPair) addAlgorithm(b *cryptobyte.Builder) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if k.rsa != nil {
			addOID(b, oidRSASHA256)
			b.AddASN1NULL()
			return
		}
		addOID(b, oidECDSASHA256)
	})
}

func (k keyPair) sign(random io.Reader, content []byte) ([]byte, error) {
	digest := sha256.Sum256(content)
	if k.rsa != nil {
		return rsa.SignPKCS1v15(nil, k.rsa, crypto.SHA256, digest[:])
	}
	if k.nist != nil {
		return ecdsa.SignASN1(rand.Reader, k.nist, digest[:])
	}
	return k.ec.SignASN1(random, digest[:])
}

// newRSAKey makes an RSA key. The library takes its random numbers from the system only.
func newRSAKey() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, rsaBits) }

// cardRSAKey returns the RSA key that the cards of this PKI have for one purpose. Making one takes a hundred times as long
// as a key on a curve, so all cards share them: a test that tells cards apart does so by their certificates.
func (p *PKI) cardRSAKey(purpose string) (*rsa.PrivateKey, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if key := p.cardRSA[purpose]; key != nil {
		return key, nil
	}
	key, err := newRSAKey()
	if err != nil {
		return nil, err
	}
	if p.cardRSA == nil {
		p.cardRSA = map[string]*rsa.PrivateKey{}
	}
	p.cardRSA[purpose] = key
	return key, nil
}

// saved is the key of an authority as Save writes it.
func (k keyPair) saved() savedAuthority {
	if k.rsa != nil {
		return savedAuthority{RSA: x509.MarshalPKCS1PrivateKey(k.rsa)}
	}
	return savedAuthority{Key: k.ec.Bytes()}
}

// pair reads what keyPair.saved has written.
func (s savedAuthority) pair() (k keyPair, err error) {
	if (len(s.Key) == 0) == (len(s.RSA) == 0) {
		return keyPair{}, errors.New("it has not exactly one key")
	}
	if len(s.RSA) > 0 {
		k.rsa, err = x509.ParsePKCS1PrivateKey(s.RSA)
	} else {
		k.ec, err = brainpool.NewPrivateKey(brainpool.P256r1(), s.Key)
	}
	if err != nil {
		return keyPair{}, fmt.Errorf("key: %w", err)
	}
	return k, nil
}
