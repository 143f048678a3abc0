package trust

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"reflect"
	"testing"
)

// FuzzIndex: the index of an archive is read strictly, and one that was accepted comes back as it was written.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"entries":[{"kind":1,"id":"ID310001","sequence":10001,"sha256":"00","issued":"2026-11-01T00:00:00Z","next_update":"2026-12-01T00:00:00Z","accepted":"2026-11-01T00:00:00Z","signer_sha256":"00"}],"anchors":[]}`))
	f.Add([]byte(`{"entries":null,"anchors":[{"certificate":"MAA=","from":"2026-11-01T00:00:00Z","announced":true}]}`))
	f.Add([]byte(`{"entries":[{"sequence":-1}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var a Archive
		if a.readIndex(line) == nil {
			t.Fatal("an index without its checksum is accepted")
		}
		sum := sha256.Sum256(line)
		if err := a.readIndex(append(bytes.Clone(line), "\n"+hex.EncodeToString(sum[:])+"\n"...)); err != nil {
			return
		}
		again := Archive{dir: t.TempDir()}
		if err := again.writeIndex(a.index); err != nil {
			return // a time that JSON does not write
		}
		b, err := OpenArchive(again.dir, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.index.Entries) != len(a.index.Entries) || len(b.index.Anchors) != len(a.index.Anchors) ||
			len(a.index.Entries) > 0 && !reflect.DeepEqual(a.index.Entries[0].SHA256, b.index.Entries[0].SHA256) {
			t.Fatalf("%+v, was %+v", b.index, a.index)
		}
	})
}
