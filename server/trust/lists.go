package trust

import (
	"crypto/sha256"
	"encoding/hex"
)

// Identity is a hash of all lists of the space, the same for the same lists.
func (s *Space) Identity() string {
	h := sha256.New()
	for _, lists := range [][]*listHandle{s.tsls, s.vls} {
		for _, l := range lists {
			h.Write(l.hash[:])
		}
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}
