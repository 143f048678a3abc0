package advserver_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
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
	cmd, addr := startProgram(t, s)
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
	for deadline := time.Now().Add(30 * time.Second); ; {
		found := search()
		if len(found) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("half a minute after the session the server's memory holds %v", found)
		}
	}
}

// program builds adv-server once for all tests.
var program = sync.OnceValues(func() (string, error) {
	exe := filepath.Join(buildDir, "adv-server")
	if out, err := exec.Command("go", "build", "-o", exe, "ktradv/server/cmd/adv-server").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return exe, nil
})

var buildDir string // of TestMain

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "adv-server"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(buildDir)
	os.Exit(code)
}

// startProgram runs the real adv-server for s and stops it at the end of the test.
func startProgram(t *testing.T, s *site, env ...string) (*exec.Cmd, tcpAddr) {
	t.Helper()
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(s.config)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, "server.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-config", path)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v\n%s", err, stderr.String())
		}
	})
	var addr tcpAddr
	if _, err := fmt.Fscanf(stdout, "listening on %s\n", &addr); err != nil {
		t.Fatalf("server: %v\n%s", err, stderr.String())
	}
	return cmd, addr
}

// systemd learns when the server is ready, that it lives, and that it is being stopped.
func TestSystemdNotifications(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	name := filepath.Join(s.dir, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	cmd, _ := startProgram(t, s, "NOTIFY_SOCKET="+name, "WATCHDOG_USEC=100000")
	for i, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"} {
		if want == "STOPPING=1" {
			cmd.Process.Signal(syscall.SIGTERM)
		}
		b := make([]byte, 100)
		n, err := socket.Read(b)
		for want == "STOPPING=1" && err == nil && string(b[:n]) == "WATCHDOG=1" {
			n, err = socket.Read(b)
		}
		if err != nil || string(b[:n]) != want {
			t.Errorf("notification %d: %q, %v; want %s", i+1, b[:n], err, want)
		}
	}
}
