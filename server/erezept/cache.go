package erezept

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"

	"ktradv/internal/x509ti"
)

// CertificateCache keeps certificates as parsed, by the hash of their octets, at most as many as it was made for. It keeps
// no verdict. It is safe for concurrent use.
type CertificateCache struct {
	mu     sync.Mutex
	max    int
	young  map[[sha256.Size]byte]*x509ti.Certificate
	old    map[[sha256.Size]byte]*x509ti.Certificate
	Hits   atomic.Int64
	Misses atomic.Int64
}

// NewCertificateCache makes a cache for about max certificates.
func NewCertificateCache(max int) *CertificateCache {
	return &CertificateCache{max: max, young: map[[sha256.Size]byte]*x509ti.Certificate{}}
}

// parse returns the certificate of these octets. The cache has two halves: what is used moves into the young one, and when
// that is full the old one is dropped.
func (c *CertificateCache) parse(der []byte) (*x509ti.Certificate, error) {
	key := sha256.Sum256(der)
	c.mu.Lock()
	cert, ok := c.young[key]
	if !ok {
		if cert, ok = c.old[key]; ok {
			c.put(key, cert)
		}
	}
	c.mu.Unlock()
	if ok {
		c.Hits.Add(1)
		return cert, nil
	}
	c.Misses.Add(1)
	cert, err := x509ti.Parse(der)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.put(key, cert)
	c.mu.Unlock()
	return cert, nil
}

func (c *CertificateCache) put(key [sha256.Size]byte, cert *x509ti.Certificate) {
	if len(c.young) >= max(c.max/2, 1) {
		c.old, c.young = c.young, make(map[[sha256.Size]byte]*x509ti.Certificate, len(c.young))
	}
	c.young[key] = cert
}
