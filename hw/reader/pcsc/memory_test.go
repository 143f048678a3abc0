//go:build pcsc

package pcsc

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"ktradv/hw/reader"
	"ktradv/hw/sim/ifd"
	simreader "ktradv/hw/sim/reader"
	"ktradv/internal/memscan"
	"ktradv/internal/req"
)

// childMode makes the test binary a terminal that does one PIN entry and waits, so that the test, which has the
// simulated reader and the PIN, can look into its memory from outside.
const childMode = "PCSC_TEST_CHILD"

// kept keeps the answer of a reader in the child that keeps it.
var kept []byte

func child(mode string) error {
	r, err := Open(Config{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := r.WaitReader(ctx); err != nil {
		return err
	}
	if err := r.WaitCard(ctx, true); err != nil {
		return err
	}
	k, err := r.Connect(ctx)
	if err != nil {
		return err
	}
	if mode == "keep" { // a terminal that does not care what the reader answers
		in, err := reader.PINVerify{
			Timeout: 30, Timeout2: 30, Format: reader.PINFormatBytes, Min: 6, Max: 8, EndAt: reader.EndAtOK, Messages: 1,
			Command: append([]byte{0, 0x20, 0, 1, 8}, reader.Placeholder()...),
		}.Bytes()
		if err != nil {
			return err
		}
		if kept, err = k.(*card).h.Control(0x42330006, in); err != nil {
			return err
		}
		fmt.Println("done")
	} else {
		res, err := k.VerifyPIN(ctx, verify())
		fmt.Printf("done %04X %v\n", res.SW, err)
	}
	io.Copy(io.Discard, os.Stdin)
	fmt.Println(len(kept))
	return nil
}

func randomDigits(t *testing.T, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] = '0' + b[i]%10
	}
	return string(b)
}

// The PIN typed at the pad, here a wrong one, is in no memory of the process that asked for it.
func TestPINIsNotInTheMemory(t *testing.T) {
	req.Covers(t, "AdV-A_2499", "AdV-A_2562")
	tests := map[string]struct {
		mode  string
		f     simreader.Failures
		p     simreader.Profile
		want  string
		found bool
	}{
		"ccid":                             {"enter", simreader.Failures{}, simreader.CCID, "done 63C2 <nil>", false},
		"mct":                              {"enter", simreader.Failures{}, simreader.MCT, "done 63C2 <nil>", false},
		"reader discloses it":              {"enter", simreader.Failures{EchoPIN: true}, simreader.CCID, "reader disclosed", false},
		"negative twin: disclosed, kept":   {"keep", simreader.Failures{EchoPIN: true}, simreader.CCID, "done", true},
		"negative twin's twin, not echoed": {"keep", simreader.Failures{}, simreader.CCID, "done", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, simreader.Config{Profile: tc.p}, tc.f, Config{})
			must(t, g.reader.Close())
			g.sim.Insert(newCard())
			c := exec.Command(os.Args[0])
			c.Env = append(os.Environ(), childMode+"="+tc.mode, "PCSCLITE_CSOCK_NAME="+ifd.PCSCDSocket(dir))
			c.Stderr = os.Stderr
			in, err := c.StdinPipe()
			must(t, err)
			out, err := c.StdoutPipe()
			must(t, err)
			must(t, c.Start())
			t.Cleanup(func() { in.Close(); c.Wait() })
			digits := randomDigits(t, 8)
			g.typeIn(t, "pin", digits)
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil || !strings.Contains(line, tc.want) {
				t.Fatalf("child: %q, %v", line, err)
			}
			block := []byte{0x28}
			for i := 0; i < 8; i += 2 {
				block = append(block, (digits[i]-'0')<<4|(digits[i+1]-'0'))
			}
			block = append(block, 0xFF, 0xFF, 0xFF)
			res, err := memscan.Process(c.Process.Pid, block, []byte(digits))
			must(t, err)
			if res.Octets < 1<<20 {
				t.Errorf("read %d octets only", res.Octets)
			}
			if found := len(res.Hits) > 0; found != tc.found {
				t.Errorf("found %v, want %v: %+v", found, tc.found, res.Hits)
			}
		})
	}
}
