package brainpool

import (
	"sync"
	"sync/atomic"
)

// Defaults and rules of a [TableCache].
const (
	defaultTableBytes = 64 << 20
	buildAt           = 3       // the use with which a key gets a small table: building costs about two checks without
	enlargeShare      = 256     // a key with this part of the uses gets a large one
	largeMemory       = 4       // large tables take at most this part of the memory
	minPeriod         = 1 << 16 // checks after which all counts of uses are halved
	usesPerPeriod     = 16      // but so many per known key, so that every one of many signers in turn reaches its table
	sweepSteps        = 32      // entries looked at to find room for one
	entryBytes        = 512     // bookkeeping of one key, on the safe side; a test measures it
)

// TableCache checks signatures and keeps precomputed tables of the keys that it sees often, within a limit of memory. The
// zero value is ready; it must not be copied. It is safe for concurrent use. It holds public values only.
//
// A key gets a small table with its third use and a large one when it makes up more than about 1/256 of the recent uses.
// Tables that are not used any more make room for others.
type TableCache struct {
	// MaxBytes limits the memory of tables and bookkeeping; 0 means 64 MiB. 256 MiB hold the small tables of twenty
	// thousand keys of brainpoolP256r1. It is read with every use and must not be changed after the first.
	MaxBytes int

	mu      sync.RWMutex
	entries map[string]*entry
	ring    []*entry // the entries in the order in which the hand visits them
	hand    int
	bytes   int
	large   int // part of bytes that large tables take

	checks atomic.Uint64 // since the counts were halved
	period atomic.Uint64 // at which they are; 0 stands for minPeriod
}

// entry is what the cache knows of one key.
type entry struct {
	name     string
	slot     int // in the ring
	uses     atomic.Uint32
	used     atomic.Bool // since the hand passed
	building atomic.Bool
	table    atomic.Pointer[Table]
}

// VerifyECDSA is [PublicKey.VerifyVartime] with the key's table where there is one. A nil cache checks without tables.
func (c *TableCache) VerifyECDSA(key *PublicKey, e, rs []byte) bool {
	if c == nil {
		return key.VerifyVartime(e, rs)
	}
	if t := c.tableFor(key); t != nil {
		return t.VerifyVartime(e, rs)
	}
	return key.VerifyVartime(e, rs)
}

// Stats are figures of a [TableCache] at one time.
type Stats struct {
	Keys, Tables, LargeTables int // keys known, and those with a table
	Bytes                     int
}

// Stats returns the present figures.
func (c *TableCache) Stats() Stats {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := Stats{Keys: len(c.ring), Bytes: c.bytes}
	for _, e := range c.ring {
		if t := e.table.Load(); t != nil {
			s.Tables++
			if t.size == LargeTable {
				s.LargeTables++
			}
		}
	}
	return s
}

func (c *TableCache) limit() int {
	if c.MaxBytes > 0 {
		return c.MaxBytes
	}
	return defaultTableBytes
}

// tableFor counts a use of the key and returns its table, nil when it has none.
func (c *TableCache) tableFor(key *PublicKey) *Table {
	period := max(c.period.Load(), minPeriod)
	if c.checks.Add(1) == period {
		c.age()
	}
	c.mu.RLock()
	e := c.entries[string(key.raw)]
	c.mu.RUnlock()
	if e == nil {
		c.insert(key)
		return nil
	}
	uses := e.uses.Add(1)
	e.used.Store(true)
	t := e.table.Load()
	switch {
	case t == nil && uses >= buildAt:
		return c.build(e, key, SmallTable)
	case t != nil && t.size == SmallTable && uint64(uses) >= period/enlargeShare:
		if larger := c.build(e, key, LargeTable); larger != nil {
			return larger
		}
	}
	return t
}

// insert makes the key known.
func (c *TableCache) insert(key *PublicKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[string(key.raw)] != nil || !c.room(entryBytes, nil) {
		return
	}
	if c.entries == nil {
		c.entries = map[string]*entry{}
	}
	e := &entry{name: string(key.raw), slot: len(c.ring)}
	e.uses.Store(1)
	c.entries[e.name] = e
	c.ring = append(c.ring, e)
	c.bytes += entryBytes
}

// build gives the key a table of the size, outside the lock and by one caller alone; nil when another is at it or there is
// no room. An entry that is being built for is not removed.
func (c *TableCache) build(e *entry, key *PublicKey, size TableSize) *Table {
	if !e.building.CompareAndSwap(false, true) {
		return nil
	}
	defer e.building.Store(false)
	need := tableBytes(key.curve, size)
	reserve := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		old := e.table.Load()
		if c.entries[e.name] != e || old != nil && old.size >= size ||
			size == LargeTable && c.large+need > c.limit()/largeMemory || !c.room(need, e) {
			return false
		}
		c.bytes += need
		if size == LargeTable {
			c.large += need
		}
		return true
	}
	if !reserve() {
		e.uses.Store(0) // not again with the next use
		return nil
	}
	t := PrecomputeVartime(key, size)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(e)
	e.table.Store(t)
	return t
}

// room makes room for so many bytes by the second-chance rule and reports whether there is. It looks at a bounded number
// of entries. keep stays untouched. The caller holds the lock.
func (c *TableCache) room(bytes int, keep *entry) bool {
	for range sweepSteps {
		if c.bytes+bytes <= c.limit() {
			return true
		}
		if len(c.ring) == 0 {
			return false
		}
		c.hand = (c.hand + 1) % len(c.ring)
		e := c.ring[c.hand]
		if e == keep || e.used.Swap(false) || e.building.Load() {
			continue
		}
		c.drop(e)
		c.remove(e)
	}
	return c.bytes+bytes <= c.limit()
}

// drop takes the entry's table away. The caller holds the lock.
func (c *TableCache) drop(e *entry) {
	t := e.table.Swap(nil)
	if t == nil {
		return
	}
	c.bytes -= t.Bytes()
	if t.size == LargeTable {
		c.large -= t.Bytes()
	}
}

// remove forgets an entry without a table. The caller holds the lock.
func (c *TableCache) remove(e *entry) {
	last := len(c.ring) - 1
	c.ring[e.slot] = c.ring[last]
	c.ring[e.slot].slot = e.slot
	c.ring[last] = nil
	c.ring = c.ring[:last]
	delete(c.entries, e.name)
	c.bytes -= entryBytes
}

// age halves all counts of uses, forgets keys without table that are not used any more, and takes large tables away from
// keys that are much rarer by now.
func (c *TableCache) age() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checks.Store(0)
	large := uint32(max(c.period.Load(), minPeriod) / enlargeShare)
	for i := len(c.ring) - 1; i >= 0; i-- {
		e := c.ring[i]
		uses := e.uses.Load() / 2
		e.uses.Store(uses)
		if e.building.Load() {
			continue
		}
		switch t := e.table.Load(); {
		case t == nil && uses == 0:
			c.remove(e)
		case t != nil && t.size == LargeTable && uses < large/8:
			c.drop(e)
		}
	}
	c.period.Store(uint64(len(c.ring)) * usesPerPeriod)
}
