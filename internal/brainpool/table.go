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
	key   *PublicKey
	table any // of the curve's group
	size  TableSize
}

// PrecomputeVartime builds the table of a key. It costs about as much as two checks without (the small size).
func PrecomputeVartime(key *PublicKey, size TableSize) *Table {
	c := key.curve
	return &Table{key, c.group.precomputeVartime(key.point, size.layout(8*c.size)), size}
}

// tableBytes returns the memory of a table: its entries of two coordinates, and some for the rest with the key.
func tableBytes(c *Curve, size TableSize) int { return size.layout(8*c.size).entries()*2*c.size + 384 }

// Key returns the key that the table belongs to.
func (t *Table) Key() *PublicKey { return t.key }

// Bytes returns the memory that the table takes.
func (t *Table) Bytes() int { return tableBytes(t.key.curve, t.size) }

// VerifyVartime is [PublicKey.VerifyVartime] with the table.
func (t *Table) VerifyVartime(e, rs []byte) bool {
	c := t.key.curve
	return len(rs) == 2*c.size && c.group.verifyVartime(t.key.point, t.table, e, rs)
}
