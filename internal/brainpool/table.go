package brainpool

// TableSize chooses between the two sizes of precomputed tables.
type TableSize int

const (
	// SmallTable takes 12 KiB on brainpoolP256r1 and is cheap to build: for thousands of signers that come back.
	SmallTable TableSize = iota
	// LargeTable is several times larger and some faster: for the few keys that sign most of what is checked.
	LargeTable
)

// Table holds multiples of one public key that make checking its signatures several times faster. It is immutable and
// safe for concurrent use.
type Table struct {
	key  *PublicKey
	comb []point
}

// Precompute builds the table of a key. It handles public values only and runs in variable time.
func Precompute(key *PublicKey, size TableSize) *Table {
	return &Table{key: key, comb: key.curve.newCombTable(&key.point)}
}

// Key returns the key that the table belongs to.
func (t *Table) Key() *PublicKey { return t.key }

// Bytes returns the memory that the table takes.
func (t *Table) Bytes() int { return len(t.comb) * 3 * 8 * maxLimbs }

// VerifyVartime is [PublicKey.VerifyVartime] with the table.
func (t *Table) VerifyVartime(e, rs []byte) bool {
	return t.key.verifyVartime(e, rs, func(r *point, u, v *fe) {
		c := t.key.curve
		var a, b point
		multiple := func(r *point, k *fe, table []point) {
			*r = c.infinity()
			for i := range 2 * c.size {
				c.add(r, r, &table[16*i+int(k[i/16]>>(i%16*4)&15)])
			}
		}
		multiple(&a, u, c.combTable())
		multiple(&b, v, t.comb)
		c.add(r, &a, &b)
	})
}

// tableBytes returns the memory of a table before it is built.
func tableBytes(c *Curve, size TableSize) int { return 2 * c.size * 16 * 3 * 8 * maxLimbs }
