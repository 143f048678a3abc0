package brainpool

// group is the arithmetic of one curve. The generated files implement it three times; points and tables are of their own
// types, and all slices have the width of the curve, so that none of the implementations checks a length.
type group interface {
	// parse reads X || Y of a public key: ErrEncoding for numbers not below the field's prime, ErrNotOnCurve.
	parse(coordinates []byte) (point any, err error)
	// public returns X || Y of k·G in constant time, false when k is not in 1..n-1.
	public(k []byte) (coordinates []byte, ok bool)
	// ecdh returns the x-coordinate of k·peer in constant time. k is in 1..n-1.
	ecdh(k []byte, peer any) []byte
	// representative returns the number that ECDSA signs for e.
	representative(e []byte) []byte
	// sign makes the signature R || S in constant time, false when the nonce is not in 1..n-1 or does not suit.
	sign(d, e, nonce []byte) (rs []byte, ok bool)
	// verifyVartime checks a signature; table is nil or what precomputeVartime made of the key.
	verifyVartime(key, table any, e, rs []byte) bool
	// precomputeVartime makes a table of a public key.
	precomputeVartime(key any, l combLayout) (table any)
}

// combLayout describes a table for multiplying one point by many scalars (Lim and Lee: More flexible exponentiation with
// precomputation, 1994, with signed digits). The scalar is written as a sum of ±2^i for i below digits(); a column is
// every columns-th digit, and an entry of the table stands for the digits of one column at the teeth of one block:
// digit column + columns·(block + blocks·tooth). As no digit is 0, no entry is infinity, and as entries with the topmost
// digit negative are the negatives of others, a block has 2^(teeth-1) of them.
type combLayout struct{ teeth, blocks, columns int }

func (l combLayout) digits() int  { return l.teeth * l.blocks * l.columns }
func (l combLayout) entries() int { return l.blocks << (l.teeth - 1) }

// newCombLayout chooses the number of columns so that the digits reach the width of the curve.
func newCombLayout(bits, teeth, blocks int) combLayout {
	return combLayout{teeth, blocks, (bits + teeth*blocks - 1) / (teeth * blocks)}
}

// digit returns which entry of the block stands for a column and whether its negative is meant (1, otherwise 0). The bits
// of the scalar, from recode, say which digits are positive. Their positions depend on the layout alone.
func (l combLayout) digit(bits []uint64, block, column int) (index, negative uint64) {
	at := column + l.columns*block
	for tooth := range l.teeth {
		if at < 64*len(bits) {
			index |= bits[at/64] >> (at % 64) & 1 << tooth
		}
		at += l.columns * l.blocks
	}
	top := l.teeth - 1
	negative = 1 ^ index>>top
	mask := uint64(1)<<top - 1
	return (index ^ -negative) & mask, negative
}

// The layouts of the base point's tables. Signing reads a block in full for each addition, so its blocks are small.
func signLayout(bits int) combLayout { return newCombLayout(bits, 6, bits/12+1) }
func baseLayout(bits int) combLayout { return newCombLayout(bits, 12, 2) }

// layout returns the layout of a public key's table.
func (s TableSize) layout(bits int) combLayout {
	if s == LargeTable {
		return newCombLayout(bits, 9, 5)
	}
	return newCombLayout(bits, 7, 3)
}

// boothDigit returns the digit of k for the window of five bits at a position: its absolute value, at most 16, and whether
// it is negative (1, otherwise 0). With the bit below the window as a carry, the digits sum up to k.
func boothDigit(k []uint64, at int) (index, negative uint64) {
	var w uint64
	if at == 0 {
		w = k[0] << 1
	} else {
		at--
		w = k[at/64] >> (at % 64)
		if at%64 > 58 && at/64+1 < len(k) {
			w |= k[at/64+1] << (64 - at%64)
		}
	}
	w &= 63
	negative = w >> 5
	d := (w + 1) >> 1 // 0..16, or 32 less the absolute value
	return d ^ (d^(32-d))&-negative, negative
}

// keyWindow is the window for a key without table, in bits.
const keyWindow = 5

// signedDigitsVartime writes k as a sum of digit·2^i with odd digits of absolute value below 2^(keyWindow-1), at least
// keyWindow-1 zeros between two of them. There is one digit more than k has bits.
func signedDigitsVartime(digits []int8, k []uint64) {
	carry := uint64(0)
	for i := 0; i < len(digits); {
		var window uint64
		if i/64 < len(k) {
			window = k[i/64] >> (i % 64)
			if i%64 > 64-keyWindow && i/64+1 < len(k) {
				window |= k[i/64+1] << (64 - i%64)
			}
		}
		window &= 1<<keyWindow - 1
		if window&1 == carry { // bit and carry sum to 0 or 2: digit 0, the same carry
			i++
			continue
		}
		window += carry
		carry = window >> (keyWindow - 1)
		digits[i] = int8(int(window) - int(carry)<<keyWindow)
		i += keyWindow
	}
}
