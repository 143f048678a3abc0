// Package cardtest holds scripted cards for the unit tests under hw: an exact sequence of exchanges, or a table of
// answers. They prove what goes over the seam, octet by octet; a card that thinks is hw/sim.
package cardtest

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"ktradv/hw/apdu"
)

// Unhex decodes hexadecimal digits, ignoring blanks.
func Unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatalf("bad hexadecimal %q: %v", s, err)
	}
	return b
}

// Script answers the given commands in the given order: pairs of command and response in hexadecimal. Another command,
// or one too few at the end of the test, fails the test.
func Script(t testing.TB, pairs ...string) apdu.Transmitter {
	t.Helper()
	if len(pairs)%2 != 0 {
		t.Fatal("cardtest.Script: a command without response")
	}
	next := 0
	t.Cleanup(func() {
		if next != len(pairs) && !t.Failed() {
			t.Errorf("card: command %s was never sent", pairs[next])
		}
	})
	return apdu.FromRaw(apdu.RawFunc(func(_ context.Context, cmd []byte) ([]byte, error) {
		got := hex.EncodeToString(cmd)
		if next == len(pairs) {
			return nil, fmt.Errorf("card: %s after the last expected command", got)
		}
		want := strings.ToLower(strings.ReplaceAll(pairs[next], " ", ""))
		if got != want {
			return nil, fmt.Errorf("card: command %s, want %s", got, want)
		}
		next += 2
		return hex.DecodeString(strings.ReplaceAll(pairs[next-1], " ", ""))
	}))
}

// Table answers each command by its encoding, whatever the order, and counts them.
type Table struct {
	Answers map[string]string                         // command to response, hexadecimal
	Func    func(cmd []byte) (answer []byte, ok bool) // asked first when set
	Default string                                    // response to any other command; "" means 6D00
	Sent    []string                                  // every command, in order
}

// Transmitter returns the card.
func (c *Table) Transmitter() apdu.Transmitter {
	return apdu.FromRaw(apdu.RawFunc(func(_ context.Context, cmd []byte) ([]byte, error) {
		key := hex.EncodeToString(cmd)
		c.Sent = append(c.Sent, key)
		if c.Func != nil {
			if answer, ok := c.Func(cmd); ok {
				return answer, nil
			}
		}
		for k, v := range c.Answers {
			if strings.EqualFold(k, key) {
				return hex.DecodeString(v)
			}
		}
		if c.Default != "" {
			return hex.DecodeString(c.Default)
		}
		return []byte{0x6D, 0x00}, nil
	}))
}
