package brainpool

import "testing"

// TestSignatureFromDER: one form of two numbers is accepted, and no other.
func TestSignatureFromDER(t *testing.T) {
	t.Parallel()
	good := []byte{0x30, 6, 2, 1, 1, 2, 1, 0x7f}
	if rs, ok := SignatureFromDER(good, 2); !ok || string(rs) != "\x00\x01\x00\x7f" {
		t.Errorf("%x, %v", rs, ok)
	}
	for name, der := range map[string][]byte{
		"empty": {}, "length in two octets": {0x30, 0x81, 6, 2, 1, 1, 2, 1, 1}, "octet after it": append(good[:8:8], 0),
		"octet inside": {0x30, 7, 2, 1, 1, 2, 1, 1, 0}, "negative": {0x30, 6, 2, 1, 0x80, 2, 1, 1}, "not minimal": {0x30, 7, 2, 2, 0, 1, 2, 1, 1},
		"too long": {0x30, 8, 2, 3, 1, 0, 0, 2, 1, 1}, "one number": {0x30, 3, 2, 1, 1}, "indefinite length": {0x30, 0x80, 2, 1, 1, 2, 1, 1, 0, 0},
		"number without octets": {0x30, 5, 2, 0, 2, 1, 1}, "BIT STRING": {0x30, 6, 3, 1, 1, 2, 1, 1},
	} {
		if rs, ok := SignatureFromDER(der, 2); ok {
			t.Errorf("%s: %x", name, rs)
		}
	}
	for i := range good {
		if _, ok := SignatureFromDER(good[:i], 2); ok {
			t.Errorf("cut at %d is accepted", i)
		}
	}
}
