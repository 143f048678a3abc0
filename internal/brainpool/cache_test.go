package brainpool

import (
	"encoding/binary"
	"runtime"
	"sync"
	"testing"
)

// testKey is a key with a signature of its number.
type testKey struct {
	*PublicKey
	e, rs []byte
}

func testKeys(t testing.TB, c *Curve, n int) []testKey {
	t.Helper()
	out := make([]testKey, n)
	for i := range out {
		key, err := GenerateKey(c, nil)
		if err != nil {
			t.Fatal(err)
		}
		e := binary.BigEndian.AppendUint32(nil, uint32(i))
		rs, err := key.Sign(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = testKey{key.Public(), e, rs}
	}
	return out
}

// check uses the key once, with a good and sometimes with a bad signature.
func (k testKey) check(t testing.TB, c *TableCache, good bool) {
	t.Helper()
	e := k.e
	if !good {
		e = append([]byte{1}, e...)
	}
	if c.VerifyECDSA(k.PublicKey, e, k.rs) != good {
		t.Errorf("signature %x: %v, want %v", k.rs, !good, good)
	}
}

// TestTablesAgree: with and without table, of both sizes, the result is the same for good and bad signatures.
func TestTablesAgree(t *testing.T) {
	t.Parallel()
	eachCurve(t, func(t *testing.T, c *Curve, _ slow) {
		for _, key := range testKeys(t, c, 3) {
			for _, size := range []TableSize{SmallTable, LargeTable} {
				table := PrecomputeVartime(key.PublicKey, size)
				if table.Key() != key.PublicKey || table.Bytes() < 64*2*c.size {
					t.Errorf("table of %d octets", table.Bytes())
				}
				if !table.VerifyVartime(key.e, key.rs) || table.VerifyVartime(append([]byte{1}, key.e...), key.rs) {
					t.Errorf("size %d: wrong result", size)
				}
				for _, wrong := range [][]byte{nil, key.rs[1:], append([]byte{0}, key.rs...), make([]byte, len(key.rs))} {
					if table.VerifyVartime(key.e, wrong) {
						t.Errorf("size %d: signature %x verifies", size, wrong)
					}
				}
			}
		}
	})
}

func TestTableCacheBuilds(t *testing.T) {
	t.Parallel()
	key := testKeys(t, P256r1(), 1)[0]
	var cache TableCache
	const enlargeAt = minPeriod / enlargeShare
	for use := 1; use <= 2*enlargeAt; use++ {
		key.check(t, &cache, use%5 != 0)
		want := Stats{Keys: 1}
		if use >= buildAt {
			want.Tables = 1
		}
		if use >= enlargeAt {
			want.LargeTables = 1
		}
		got := cache.Stats()
		want.Bytes = entryBytes
		switch {
		case want.LargeTables == 1:
			want.Bytes += tableBytes(P256r1(), LargeTable)
		case want.Tables == 1:
			want.Bytes += tableBytes(P256r1(), SmallTable)
		}
		if got != want {
			t.Fatalf("use %d: %+v, want %+v", use, got, want)
		}
	}
	var none *TableCache
	key.check(t, none, true)
	key.check(t, none, false)
}

// TestTableCacheIsBounded: more keys than there is room for, of all curves, by several goroutines.
func TestTableCacheIsBounded(t *testing.T) {
	t.Parallel()
	const tables = 8
	cache := TableCache{MaxBytes: tables * (tableBytes(P256r1(), SmallTable) + entryBytes)}
	keys := append(testKeys(t, P256r1(), 30), append(testKeys(t, P384r1(), 4), testKeys(t, P512r1(), 4)...)...)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 400 {
				keys[(i*7+worker*11+i/50)%len(keys)].check(t, &cache, i%9 != 0)
				if s := cache.Stats(); s.Bytes > cache.MaxBytes || s.Tables > tables || s.Bytes < 0 {
					t.Errorf("%+v exceed the limit of %d octets", s, cache.MaxBytes)
				}
			}
		})
	}
	wg.Wait()
	if s := cache.Stats(); s.Tables == 0 {
		t.Errorf("no table in the end: %+v", s)
	}
	cache.consistent(t)
}

// consistent checks the bookkeeping.
func (c *TableCache) consistent(t *testing.T) {
	t.Helper()
	bytes, large := 0, 0
	for i, e := range c.ring {
		if e.slot != i || c.entries[e.name] != e || e.building.Load() {
			t.Errorf("entry %d: slot %d", i, e.slot)
		}
		bytes += entryBytes
		if table := e.table.Load(); table != nil {
			bytes += table.Bytes()
			if table.size == LargeTable {
				large += table.Bytes()
			}
		}
	}
	if len(c.entries) != len(c.ring) || c.bytes != bytes || c.large != large {
		t.Errorf("%d entries in a ring of %d; %d octets of %d, %d large of %d", len(c.entries), len(c.ring), c.bytes, bytes, c.large, large)
	}
}

// TestTableCacheTiny: a limit below one table, or below one entry, still checks right.
func TestTableCacheTiny(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, entryBytes, 2*entryBytes + 1, tableBytes(P256r1(), SmallTable)} {
		cache := TableCache{MaxBytes: limit}
		for _, key := range testKeys(t, P256r1(), 4) {
			for i := range 3 * buildAt {
				key.check(t, &cache, i%2 == 0)
			}
		}
		if s := cache.Stats(); s.Tables != 0 || s.Bytes > limit {
			t.Errorf("limit %d: %+v", limit, s)
		}
		cache.consistent(t)
	}
}

// TestTableCacheMakesRoom: signers that stay away give way to those who come, and who keeps coming keeps his table.
func TestTableCacheMakesRoom(t *testing.T) {
	t.Parallel()
	cache := TableCache{MaxBytes: 10 * (tableBytes(P256r1(), SmallTable) + entryBytes)}
	keys := testKeys(t, P256r1(), 40)
	hasTable := func(k testKey) bool {
		e := cache.entries[string(k.raw)]
		return e != nil && e.table.Load() != nil
	}
	steady := keys[0]
	for i, key := range keys[1:] {
		for range 2 * buildAt {
			key.check(t, &cache, true)
			steady.check(t, &cache, true)
		}
		if !hasTable(steady) {
			t.Fatalf("the steady key lost its table to key %d", i+1)
		}
	}
	if !hasTable(keys[39]) || hasTable(keys[1]) {
		t.Errorf("last key has a table: %v, first one: %v", hasTable(keys[39]), hasTable(keys[1]))
	}
	cache.consistent(t)
}

// TestTableCacheAges: with time the counts fade: keys that came once are forgotten, and a large table goes when its key is
// rare by now.
func TestTableCacheAges(t *testing.T) {
	t.Parallel()
	var cache TableCache
	keys := testKeys(t, P256r1(), 3)
	keys[0].check(t, &cache, true)
	for range buildAt {
		keys[1].check(t, &cache, true)
	}
	for range minPeriod / enlargeShare {
		keys[2].check(t, &cache, true)
	}
	if s := cache.Stats(); s.Keys != 3 || s.Tables != 2 || s.LargeTables != 1 {
		t.Fatalf("before: %+v", s)
	}
	for range 5 {
		cache.age()
		cache.consistent(t)
	}
	if s := cache.Stats(); s.Keys != 2 || s.Tables != 1 || s.LargeTables != 0 {
		t.Errorf("after: %+v", s)
	}
	// age happens by itself, in turn with the checks.
	cache.checks.Store(minPeriod - 1)
	uses := cache.entries[string(keys[2].raw)].uses.Load()
	keys[1].check(t, &cache, true)
	if got := cache.entries[string(keys[2].raw)].uses.Load(); got != uses/2 {
		t.Errorf("%d uses became %d", uses, got)
	}
}

// TestTableCacheManySigners: more signers in turn than the usual period has uses for, among checks of few other keys, all
// get their tables: the period grows with them.
func TestTableCacheManySigners(t *testing.T) {
	t.Parallel()
	cache := TableCache{MaxBytes: 64 << 20}
	signers, few := testKeys(t, P256r1(), 40), testKeys(t, P256r1(), 2)
	// Known keys without uses stand for the thousands.
	const others = 3 * minPeriod / usesPerPeriod
	for i := range others {
		key := &PublicKey{curve: P256r1(), raw: binary.BigEndian.AppendUint32(nil, uint32(i))}
		cache.insert(key)
		cache.entries[string(key.raw)].uses.Store(1 << 20)
	}
	cache.age()
	if got := cache.period.Load(); got != others*usesPerPeriod {
		t.Fatalf("period %d", got)
	}
	// Between two uses of a signer lies a part of the period.
	for range buildAt {
		for _, key := range signers {
			key.check(t, &cache, true)
			few[0].check(t, &cache, true)
			few[1].check(t, &cache, true)
		}
		cache.checks.Add(others * usesPerPeriod / 5)
	}
	if s := cache.Stats(); s.Tables != len(signers)+len(few) || s.LargeTables != 0 {
		t.Errorf("%+v", s)
	}
	cache.consistent(t)
}

// TestTableCacheMemory measures that the limit counts at least what the tables take.
func TestTableCacheMemory(t *testing.T) { // not parallel: it measures the heap
	keys := testKeys(t, P256r1(), 300)
	var raw [][]byte
	for _, k := range keys {
		raw = append(raw, k.Bytes())
	}
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	keys[0].Verify(keys[0].e, keys[0].rs) // the base point's table
	before := heap()
	var cache TableCache
	for i := range keys {
		for range buildAt {
			// A key of its own for each use, as certificates bring it: the cache must not keep more than one alive.
			key, err := ParsePublicKey(P256r1(), raw[i])
			if err != nil {
				t.Fatal(err)
			}
			cache.VerifyECDSA(key, keys[i].e, keys[i].rs)
		}
	}
	grown, s := heap()-before, cache.Stats()
	if s.Tables != len(keys) || grown > s.Bytes || grown < s.Bytes/2 {
		t.Errorf("the heap grew by %d octets, the cache counts %+v", grown, s)
	}
	const signers = 20000 // ten thousand doctors and as many pharmacies
	if all := signers * (s.Bytes / len(keys)); all > 256<<20 {
		t.Errorf("%d signers take %d octets, more than 256 MiB", signers, all)
	}
	runtime.KeepAlive(keys)
}
