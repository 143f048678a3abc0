package trace

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"ktradv/hw/sim/card"
	"ktradv/internal/testdata"
)

// notOurs are the commands of the published list that this card answers with
// "instruction not supported" or "wrong class", and why.
var notOurs = map[string]string{
	"00E6": "TERMINATE DF: no eGK object has a rule for it",
	"00FE": "TERMINATE CARD USAGE: likewise",
	"80E0": "the list has SET LOGICAL EOF with E0, cards use 0E",
}

// Every command of gematik's list of expected APDUs is one the card knows: it
// answers to what the command asks for, not to its form.
func TestExpectedCommandsAreKnown(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(testdata.Dir(t, "cards"), "apdu", "expectApdu.yml"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`apdu[a-z0-9-]*:\s*"?([0-9A-Fa-f]+)"?\s*\n`).FindAllSubmatch(b, -1)
	if len(found) < 100 {
		t.Fatalf("%d commands", len(found))
	}
	for _, m := range found {
		cmd, err := hex.DecodeString(string(m[1]))
		if err != nil || len(cmd) < 4 {
			t.Errorf("%s: %v", m[1], err)
			continue
		}
		if bytes.HasSuffix(cmd, []byte{0x7C, 0x81, 0x84, 0x81, 0x81}) {
			continue // the list breaks off here, inside the data field
		}
		c, err := card.New(system(t), card.Config{})
		if err != nil {
			t.Fatal(err)
		}
		got := c.Process(cmd)
		unknown := bytes.Equal(got, []byte{0x6D, 0x00}) || bytes.Equal(got, []byte{0x6E, 0x00}) || bytes.Equal(got, []byte{0x67, 0x00}) || bytes.Equal(got, []byte{0x6A, 0x86})
		if _, ok := notOurs[string(bytes.ToUpper(m[1][:4]))]; unknown != ok {
			t.Errorf("%s: % X", m[1], got)
		}
	}
}
