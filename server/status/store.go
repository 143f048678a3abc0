package status

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"ktradv/internal/ocsp"
	"ktradv/server/trust"
)

// Record is what a responder said about a certificate, once its answer had passed every check.
type Record struct {
	Status     ocsp.Status // Good, Revoked or Unknown
	RevokedAt  time.Time   // with Revoked
	ProducedAt time.Time
	ThisUpdate time.Time
	// By which rules the answer was accepted: one that was accepted by looser rules does not serve a question with stricter
	// ones.
	Authorisation ocsp.Authorisation
	CertHash      bool // it carried the hash of the certificate
	NoNonce       bool // it had no nonce though the request had one
	// Raw is the answer itself, evidence for an archive; nil when answers are not kept.
	Raw []byte
}

// Store keeps records by the SHA-256 of the certificate: serial numbers are unique below one CA only. It must be safe for
// concurrent use. Save never replaces a record by an older one. An entry may be dropped at any time.
type Store interface {
	Load(ctx context.Context, certificate [sha256.Size]byte) (r Record, ok bool, err error)
	Save(ctx context.Context, certificate [sha256.Size]byte, r Record) error
}

func recordOf(r ocsp.Result) Record {
	record := Record{
		Status: r.Status, RevokedAt: r.RevokedAt, ProducedAt: r.ProducedAt, ThisUpdate: r.ThisUpdate,
		Authorisation: r.Authorisation, CertHash: r.CertHash, NoNonce: r.NoNonce,
	}
	if !r.RevokedAt.IsZero() {
		record.Status = ocsp.Revoked // with a time that lies ahead
	}
	return record
}

// At applies the rules for reuse to a reference time:
//
//   - "good" answers every reference time before the answer was made, and those up to grace after it;
//   - "revoked" answers every reference time: good before the revocation, revoked from then on;
//   - "unknown" answers those that "good" would, while the answer is not older than grace;
//   - about certificates that may be suspended (NoReuse) nothing older than grace is used;
//   - the rules by which the answer was accepted were not looser than those of the question.
//
// ok is false when the responder has to be asked.
func (r Record) At(q trust.StatusQuery, grace time.Duration) (a trust.StatusAnswer, ok bool) {
	age := q.Now.Sub(r.ProducedAt)
	switch {
	case age > grace && (q.NoReuse || r.Status == ocsp.Unknown):
		return a, false
	case r.Status != ocsp.Revoked && q.At.Sub(r.ProducedAt) > grace:
		return a, false
	case r.Status == ocsp.Indeterminate:
		return a, false
	case q.ListedOnly && r.Authorisation != ocsp.Listed, !q.IgnoreCertHash && !r.CertHash:
		return a, false
	}
	a = r.answer(q.At)
	a.Source = "cache"
	return a, true
}

// answer is the record as it stands at a reference time.
func (r Record) answer(at time.Time) (a trust.StatusAnswer) {
	a.Status, a.RevokedAt, a.ProducedAt, a.ThisUpdate = r.Status, r.RevokedAt, r.ProducedAt, r.ThisUpdate
	a.Age, a.Authorisation, a.CertHash, a.NoNonce, a.Raw = at.Sub(r.ProducedAt), r.Authorisation, r.CertHash, r.NoNonce, r.Raw
	if r.Status == ocsp.Revoked && at.Before(r.RevokedAt) {
		a.Status = ocsp.Good
	}
	return a
}

const memoryShards = 32

// recordOctets is about what a record without its answer costs.
const recordOctets = 300

// Memory is a Store in memory, bounded in octets; what was not asked for the longest is dropped first.
type Memory struct {
	perShard int // octets
	shards   [memoryShards]memoryShard
}

type memoryShard struct {
	mu      sync.Mutex
	entries map[[sha256.Size]byte]*list.Element
	order   list.List // youngest first
	octets  int
}

type memoryEntry struct {
	key    [sha256.Size]byte
	record Record
}

// cost is what an entry costs in octets.
func (e *memoryEntry) cost() int { return recordOctets + len(e.record.Raw) }

// NewMemory makes a store for at most entries certificates, some 300 octets each. Records with their answers cost more, so
// that fewer of them fit.
func NewMemory(entries int) *Memory {
	return &Memory{perShard: max(1, (entries+memoryShards-1)/memoryShards) * recordOctets}
}

func (m *Memory) shard(key [sha256.Size]byte) *memoryShard {
	return &m.shards[binary.LittleEndian.Uint32(key[:4])%memoryShards]
}

// Load returns what is known of a certificate. It never fails.
func (m *Memory) Load(_ context.Context, key [sha256.Size]byte) (Record, bool, error) {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e == nil {
		return Record{}, false, nil
	}
	s.order.MoveToFront(e)
	return e.Value.(*memoryEntry).record, true, nil
}

// Save keeps a record unless a younger one is there. It never fails.
func (m *Memory) Save(_ context.Context, key [sha256.Size]byte, r Record) error {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[key]; e != nil {
		if known := e.Value.(*memoryEntry); r.ProducedAt.After(known.record.ProducedAt) {
			s.octets -= known.cost()
			known.record = r
			s.octets += known.cost()
		}
		s.order.MoveToFront(e)
		s.bound(m.perShard)
		return nil
	}
	if s.entries == nil {
		s.entries = map[[sha256.Size]byte]*list.Element{}
	}
	entry := &memoryEntry{key, r}
	s.entries[key] = s.order.PushFront(entry)
	s.octets += entry.cost()
	s.bound(m.perShard)
	return nil
}

// bound drops what was not asked for the longest until the shard is within its octets. The youngest entry stays.
func (s *memoryShard) bound(octets int) {
	for s.octets > octets && s.order.Len() > 1 {
		oldest := s.order.Back()
		entry := s.order.Remove(oldest).(*memoryEntry)
		delete(s.entries, entry.key)
		s.octets -= entry.cost()
	}
}

// Len returns the number of certificates known.
func (m *Memory) Len() int {
	n := 0
	for i := range m.shards {
		m.shards[i].mu.Lock()
		n += m.shards[i].order.Len()
		m.shards[i].mu.Unlock()
	}
	return n
}
