package trust

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"sync/atomic"

	"ktradv/internal/ocsp"
	"ktradv/internal/x509ti"
)

// cacheShards is the number of locks of a cache; a power of two.
const cacheShards = 64

// hash is a SHA-256.
type hash = [32]byte

// bounded is a map from a hash and a variant to values, bounded in entries and safe for concurrent use. A hit takes one
// read lock of one shard. What was not asked for lately is dropped first (second chance).
type bounded[V any] struct {
	perShard int
	shards   [cacheShards]shard[V]
}

type cacheKey struct {
	cert, list hash
	variant    uint64
}

type shard[V any] struct {
	mu      sync.RWMutex
	entries map[cacheKey]*entry[V]
	ring    []*entry[V]
	hand    int
	_       [64]byte // keeps the locks of two shards off one cache line
}

type entry[V any] struct {
	key   cacheKey
	value V
	used  atomic.Bool
}

func newBounded[V any](entries int) *bounded[V] {
	return &bounded[V]{perShard: max(1, (entries+cacheShards-1)/cacheShards)}
}

func (b *bounded[V]) shard(k cacheKey) *shard[V] {
	return &b.shards[(binary.LittleEndian.Uint64(k.cert[:8])^k.variant)%cacheShards]
}

func (b *bounded[V]) get(k cacheKey) (v V, ok bool) {
	s := b.shard(k)
	s.mu.RLock()
	e := s.entries[k]
	s.mu.RUnlock()
	if e == nil {
		return v, false
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e.value, true
}

func (b *bounded[V]) put(k cacheKey, v V) {
	s := b.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &entry[V]{key: k, value: v}
	if s.entries == nil {
		s.entries = map[cacheKey]*entry[V]{}
	}
	if old := s.entries[k]; old != nil {
		for i := range s.ring {
			if s.ring[i] == old {
				s.ring[i] = e
			}
		}
		s.entries[k] = e
		return
	}
	if len(s.ring) < b.perShard {
		s.ring = append(s.ring, e)
		s.entries[k] = e
		return
	}
	for s.ring[s.hand].used.Swap(false) {
		s.hand = (s.hand + 1) % len(s.ring)
	}
	delete(s.entries, s.ring[s.hand].key)
	s.ring[s.hand] = e
	s.hand = (s.hand + 1) % len(s.ring)
	s.entries[k] = e
}

func (b *bounded[V]) len() int {
	n := 0
	for i := range b.shards {
		b.shards[i].mu.RLock()
		n += len(b.shards[i].entries)
		b.shards[i].mu.RUnlock()
	}
	return n
}

// ChainCache keeps what does not depend on the reference time: the part of results that stands without time and status, by
// certificate and list, and OCSP responses whose signature was checked. It is bounded and safe for concurrent use; one
// cache may serve several snapshots of the trust space.
type ChainCache struct {
	chains    *bounded[*chain]
	responses *bounded[*signedResponse]

	// Responders' certificates as parsed, and those of them that their issuer was seen to have signed. They are few.
	responders *bounded[*x509ti.Certificate]
	issued     *bounded[bool]
}

// maxResponders bounds what is kept about responders.
const maxResponders = 4096

// responder reads a responder's certificate, of which the same few come with all answers.
func (c *ChainCache) responder(der []byte) (*x509ti.Certificate, error) {
	key := cacheKey{cert: sha256.Sum256(der)}
	if cert, ok := c.responders.get(key); ok {
		return cert, nil
	}
	cert, err := x509ti.Parse(der)
	if err == nil {
		c.responders.put(key, cert)
	}
	return cert, err
}

// issuedBy remembers that an issuer has signed a responder's certificate.
func (c *ChainCache) issuedBy(v x509ti.Verifier) func(signer, issuer *x509ti.Certificate) error {
	return func(signer, issuer *x509ti.Certificate) error {
		key := cacheKey{cert: signer.Fingerprint(), list: issuer.Fingerprint()}
		if ok, _ := c.issued.get(key); ok {
			return nil
		}
		err := signer.CheckSignatureFromWith(v, issuer)
		if err == nil {
			c.issued.put(key, true)
		}
		return err
	}
}

// NewChainCache makes a cache for at most entries certificates and as many responses, a kilobyte or two each.
func NewChainCache(entries int) *ChainCache {
	return &ChainCache{chains: newBounded[*chain](entries), responses: newBounded[*signedResponse](entries),
		responders: newBounded[*x509ti.Certificate](maxResponders), issued: newBounded[bool](maxResponders)}
}

// Len returns the number of certificates in the cache.
func (c *ChainCache) Len() int { return c.chains.len() }

// signedResponse is an embedded response with what came of the check of its signature.
type signedResponse struct {
	response *ocsp.Response
	signer   ocsp.Signer
	names    responderNames
	err      error
}

// responderNames is what reports say about a responder: a service, not a person.
type responderNames struct{ name, hash string }

func namesOf(c *x509ti.Certificate) responderNames {
	if c == nil {
		return responderNames{}
	}
	fp := c.Fingerprint()
	return responderNames{c.CommonName().Reveal(), hex.EncodeToString(fp[:])}
}

// profilesKey tells lists of profiles apart, by everything of a profile that a check looks at.
func profilesKey(profiles []x509ti.Profile) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	add := func(v uint64) { h = (h ^ v) * 1099511628211 }
	oid := func(o x509ti.OID) {
		for _, n := range o {
			add(uint64(n))
		}
		add(1 << 63)
	}
	for i := range profiles {
		p := &profiles[i]
		for j := range len(p.Name) {
			add(uint64(p.Name[j]))
		}
		for _, o := range [...]x509ti.OID{p.Type, p.AltType, p.Policy, p.Role, p.ExtKeyUsage} {
			oid(o)
		}
		add(uint64(p.KeyUsage)<<16 | uint64(p.RSAKeyUsage))
		for _, flag := range [...]bool{p.ExtKeyUsageOptional, p.QES, p.CA, p.NoCertHash, p.Suspendable} {
			if flag {
				add(1)
			} else {
				add(2)
			}
		}
	}
	return h
}

func uint64FromHash(h hash) uint64 { return binary.LittleEndian.Uint64(h[:8]) }
