package brainpool

import "testing"

func TestTableCacheAgrees(t *testing.T) {
	t.Parallel()
	eachCurve(t, func(t *testing.T, c *Curve, _ slow) {
		var cache TableCache
		key := mustKey(t, c, 30)
		rs, err := key.Sign(nil, []byte{1})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 6 {
			if !cache.VerifyECDSA(key.Public(), []byte{1}, rs) || cache.VerifyECDSA(key.Public(), []byte{2}, rs) {
				t.Fatalf("use %d: wrong result", i)
			}
		}
		if s := cache.Stats(); s.Tables != 1 || s.Keys != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}
