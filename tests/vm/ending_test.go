//go:build vm

package vm

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"ktradv/hw/egk"
	"ktradv/hw/sim/card"
	simreader "ktradv/hw/sim/reader"
)

// atOnce is how long a session may go on after its card was pulled. It is far from what it takes, which is the business of the
// tests of times, and far from every other reason for which a screen goes away (AdV-A_2410: minutes).
const atOnce = 20 * time.Second

// instructions of the card that tell what the terminal is doing.
const (
	insReadBinary    = 0xB0
	insAppendRecord  = 0xE2
	insManageChannel = 0x70
)

// pulledWhileReading is a person who pulls the card while the terminal reads the insured data from it: the session ends, the
// person is told, and the next card is served.
func (r *run) pulledWhileReading() {
	r.t.Helper()
	r.visit("menu")
	r.connected(true)
	r.Reader().PullOn(func(cmd []byte) simreader.Pull {
		if len(cmd) > 1 && cmd[1] == insReadBinary {
			return simreader.PullBefore
		}
		return simreader.PullNone
	})
	asked := time.Now()
	r.tap("menu", showData)
	r.problem("CARD-REMOVED")
	if d := time.Since(asked); d > atOnce {
		r.t.Errorf("the person was told %v after the card was pulled", d)
	}
	r.Reader().PullOn(nil)
	r.connected(false)
}

// endedWhileWriting is a person who ends the session while the terminal writes the protocol entry to a card of generation 2:
// the entry is finished, then the card is reset, the connection to the server is closed, and the person is asked to take the
// card (AdV-A_2449).
func (r *run) endedWhileWriting() {
	r.t.Helper()
	inserted, err := world.Card("healthy-g2")
	r.must(err)
	c, ok := inserted.(*card.Card)
	if !ok {
		r.t.Fatalf("the card is a %T", inserted)
	}
	newest := func() (rec []byte) {
		c.View(func(s *card.System) {
			if f, ok := s.Root.Lookup("MF/DF.HCA/EF.Logging").(*card.File); ok && len(f.Records) > 0 {
				rec = bytes.Clone(f.Records[0].Data)
			}
		})
		return rec
	}
	before := newest()
	var (
		mu     sync.Mutex
		did    []string
		once   sync.Once
		writes = make(chan struct{}) // the card has the command and has done nothing yet
		ends   = make(chan struct{}) // the person has touched the button
	)
	release := sync.OnceFunc(func() { close(ends) })
	defer release()
	r.Reader().PullOn(func(cmd []byte) simreader.Pull { // called before and after each command
		if len(cmd) < 4 {
			return simreader.PullNone
		}
		var what string
		switch {
		case cmd[1] == insAppendRecord:
			what = "write"
			once.Do(func() { close(writes); <-ends })
		case cmd[1] == insManageChannel && cmd[2] == 0x40:
			what = "reset"
		default:
			what = "other"
		}
		mu.Lock()
		defer mu.Unlock()
		if len(did) == 0 || did[len(did)-1] != what {
			did = append(did, what)
		}
		return simreader.PullNone
	})
	defer r.Reader().PullOn(nil)
	r.insert("healthy-g2")
	r.pin(pin)
	select {
	case <-writes:
	case <-time.After(patience):
		r.t.Fatal("nothing is written to the card")
	}
	r.note("the terminal writes the protocol entry")
	r.shows("connecting")
	r.connected(true)
	r.tap("connecting", end)
	time.Sleep(1500 * time.Millisecond) // the kiosk hears of it, which cannot be seen from outside; far less than a command may take
	if !bytes.Equal(newest(), before) {
		r.t.Error("the entry is on the card before the card was let go on")
	}
	release()
	r.shows("take_card")
	r.connected(false)
	entry, used, err := egk.DecodeLog(newest())
	if err != nil || !used || bytes.Equal(newest(), before) || entry.Data != egk.LogDataAdV || entry.Access != egk.LogAccessGeneral {
		r.t.Errorf("the newest entry on the card is %c/%c (%v, %v); want v/Z, and a new one", entry.Data, entry.Access, used, err)
	}
	mu.Lock()
	order := slices.Clone(did)
	mu.Unlock()
	// Nothing came between the entry and the reset: the session went no further.
	if i := slices.Index(order, "write"); i < 0 || !slices.Equal(order[i:], []string{"write", "reset"}) {
		r.t.Errorf("the card was told to %v; want it to end with write, reset", order)
	}
	r.remove()
	r.shows("neutral")
}

// connected waits until there is a connection to the server, as the server's side has it, or none.
func (r *run) connected(want bool) {
	r.t.Helper()
	for end := time.Now().Add(atOnce); ; time.Sleep(20 * time.Millisecond) {
		n, err := established(world.ServerAddr())
		r.must(err)
		if (n > 0) == want {
			return
		}
		if time.Now().After(end) {
			r.t.Errorf("%d connections to the server; want any: %v", n, want)
			return
		}
	}
}

// established counts the connections that a server of this machine has.
func established(address string) (n int, err error) {
	server, err := netip.ParseAddrPort(address)
	if err != nil {
		return 0, err
	}
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	const state = "01" // TCP_ESTABLISHED of the kernel's net/tcp_states.h
	port := fmt.Sprintf(":%04X", server.Port())
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// Fields of proc(5): number, local and remote address, state.
		if w := strings.Fields(lines.Text()); len(w) > 3 && strings.HasSuffix(w[1], port) && w[3] == state {
			n++
		}
	}
	return n, lines.Err()
}
