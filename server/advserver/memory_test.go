package advserver_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"ktradv/internal/memscan"
	"ktradv/internal/req"
	"ktradv/internal/x509ti"
	"ktradv/server/internal/terminal"
)

type tcpAddr string

func (tcpAddr) Network() string  { return "tcp" }
func (a tcpAddr) String() string { return string(a) }

// After a session nothing of the insured person is in the memory of the server's process; during the session it is, which
// shows that the search can find it.
func TestMemoryAfterASession(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2409")
	s := newSite(t)
	s.config["ops_listen"] = "off"
	b, err := json.Marshal(s.config)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, "server.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	// The real program, because it is the one that has to start with the right setting of the runtime.
	exe := filepath.Join(s.dir, "adv-server")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", exe, "ktradv/server/cmd/adv-server")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.Command(exe, "-config", path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v\n%s", err, stderr.String())
		}
	}()
	var addr tcpAddr
	if _, err := fmt.Fscanf(stdout, "listening on %s\n", &addr); err != nil {
		t.Fatalf("server: %v\n%s", err, stderr.String())
	}

	in := s.insert(t, "healthy-g21")
	stream, hangUp := s.dialConn(t, addr)
	o := in.options(t)
	var autn []byte
	read := o.AUTN
	o.AUTN = func() []byte { autn = read(); return autn }
	r, err := terminal.Unlock(stream, in.start, in.card.Process, o)
	if err != nil || r.Unlocked == nil {
		t.Fatal(r.Failure, err)
	}
	cert, err := x509ti.Parse(autn)
	if err != nil {
		t.Fatal(err)
	}
	number, err := hex.DecodeString(in.info.ICCSN)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"card number", "card number as text", "CV certificate", "serial number of C.CH.AUTN",
		"public key of C.CH.AUTN", "end of C.CH.AUTN", "name in C.CH.AUTN"}
	patterns := [][]byte{number, []byte(in.info.ICCSN), in.start.AUTCVC[60:100], cert.Serial.Bytes(),
		cert.PublicKeyBits[1:41], autn[len(autn)-32:], []byte(cert.SubjectValues(x509ti.OIDCommonName)[0].Reveal())}
	search := func() (found map[string]int) {
		t.Helper()
		res, err := memscan.Process(cmd.Process.Pid, patterns...)
		if err != nil {
			t.Fatal(err)
		}
		found = map[string]int{}
		for _, h := range res.Hits {
			found[names[h.Pattern]]++
		}
		return found
	}
	if found := search(); len(found) != len(names) {
		t.Errorf("during the session the search finds only %v of %v: it proves nothing", found, names)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the session: %v", err)
	}
	hangUp()
	for deadline := time.Now().Add(10 * time.Second); ; {
		found := search()
		if len(found) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("ten seconds after the session the server's memory holds %v", found)
		}
	}
}
