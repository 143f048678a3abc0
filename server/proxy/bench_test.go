package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"ktradv/internal/testpki"
	"ktradv/internal/tlspolicy"
	"ktradv/server/api"
	"ktradv/server/consumer"
	"ktradv/server/internal/terminal"
	"ktradv/server/proxy"
	"ktradv/server/tisim"
)

// recordedCard is a session start as the card's side of it: what it answers, batch by batch. It fits a server whose
// ephemeral keys are always the same (fixedRand), so it can be played any number of times without a card's work.
type recordedCard struct {
	Start   terminal.Start
	Answers [][][]byte
	AUTN    []byte
}

// fixedRand is a source of always the same ephemeral key, for the benchmark only.
type fixedRand struct{}

func (fixedRand) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 0x11
	}
	return len(b), nil
}

func record(t testing.TB) recordedCard {
	t.Helper()
	p := newProxy(t, func(c *proxy.Config) { c.Rand = fixedRand{} })
	in := insert(t, "healthy-g21").verifyPIN(t)
	rec := recordedCard{Start: in.start}
	r, _ := visit(t, p, in, terminal.Options{
		AUTN: func() []byte { rec.AUTN = in.autn(t); return rec.AUTN },
		Answer: func(_ api.Step, m *api.AppMessage) *api.AppMessage {
			rec.Answers = append(rec.Answers, m.GetResponses().GetApdu())
			return m
		}})
	if r.Unlocked == nil {
		t.Fatalf("recording failed: %v", r.Failure)
	}
	return rec
}

// play runs the recorded session start once, over a connection of its own.
func play(ctx context.Context, rec recordedCard, addr string, cfg *tls.Config) (terminal.Result, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	if err != nil {
		return terminal.Result{}, err
	}
	defer conn.Close()
	stream, err := api.NewAdVClient(conn).Session(ctx)
	if err != nil {
		return terminal.Result{}, err
	}
	var answers [][]byte
	for _, a := range rec.Answers {
		answers = append(answers, a...)
	}
	card := func([]byte) []byte {
		if len(answers) == 0 {
			return []byte{0x6F, 0x00}
		}
		a := answers[0]
		answers = answers[1:]
		return a
	}
	r, err := terminal.Unlock(stream, rec.Start, card, terminal.Options{AUTN: func() []byte { return rec.AUTN }})
	if err != nil {
		return r, err
	}
	if err := stream.CloseSend(); err != nil {
		return r, err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return r, fmt.Errorf("after the session: %w", err)
	}
	return r, nil
}

// Terminals and OCSP responder of the benchmark run in a process of their own, so that the server's process has nothing but
// the server's work.
const benchEnv = "KTRADV_BENCH_TERMINALS"

type benchPlan struct {
	Recording recordedCard
	Server    string
	Cert      []byte // DER
	PKI       string // folder
	Terminals int
}

func TestMain(m *testing.M) {
	if path := os.Getenv(benchEnv); path != "" {
		if err := benchTerminals(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// benchTerminals prints the responder's address, then plays one round of sessions for each number that it reads.
func benchTerminals(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var plan benchPlan
	if err := json.Unmarshal(b, &plan); err != nil {
		return err
	}
	pki, err := testpki.Load(plan.PKI, testpki.Config{})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go tisim.New(pki, nil).Serve(context.Background(), l)
	fmt.Println(l.Addr())
	cert, err := x509.ParseCertificate(plan.Cert)
	if err != nil {
		return err
	}
	store, err := tlspolicy.NewTrustStore(cert)
	if err != nil {
		return err
	}
	cfg, err := tlspolicy.ClientConfig(store, "adv.example", nil)
	if err != nil {
		return err
	}
	for {
		var server string
		var n int
		if _, err := fmt.Scan(&server, &n); err != nil {
			return nil // the benchmark is over
		}
		work := make(chan struct{}, n)
		for range n {
			work <- struct{}{}
		}
		close(work)
		var wg sync.WaitGroup
		failed := make(chan error, plan.Terminals)
		for range plan.Terminals {
			wg.Go(func() {
				for range work {
					r, err := play(context.Background(), plan.Recording, server, cfg)
					if err != nil || r.Unlocked.GetCertificate().GetOnline() != api.OnlineStatus_ONLINE_STATUS_GOOD {
						failed <- fmt.Errorf("session: %+v, %w", r, err)
						return
					}
				}
			})
		}
		wg.Wait()
		select {
		case err := <-failed:
			return err
		default:
			fmt.Println("played", n)
		}
	}
}

func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSessionStart measures whole session starts as a terminal in the field causes them: TLS handshake, stream,
// card-to-card, certificate check with an OCSP request, log entries, end of the connection. session_starts_per_core_per_s
// is the number of starts per second of processor time of the server's process; cards, terminals and responder run in
// another one.
func BenchmarkSessionStart(b *testing.B) {
	w := theWorld(b)
	dir := b.TempDir()
	rec := record(b)
	if err := w.pki.Save(filepath.Join(dir, "pki")); err != nil {
		b.Fatal(err)
	}
	certPEM, keyPEM, err := w.pki.IssueTLSServer([]string{"adv.example"}, nil)
	if err != nil {
		b.Fatal(err)
	}
	block, _ := pem.Decode(certPEM)
	plan, err := json.Marshal(benchPlan{Recording: rec, Cert: block.Bytes, PKI: filepath.Join(dir, "pki"), Terminals: 4})
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "plan.json"), plan, 0o600); err != nil {
		b.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), benchEnv+"="+filepath.Join(dir, "plan.json"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		in.Close()
		cmd.Wait()
	}()
	var ocspAddr string
	if _, err := fmt.Fscan(out, &ocspAddr); err != nil {
		b.Fatalf("terminals: %v\n%s", err, stderr.String())
	}

	log, _ := openLog(b)
	p := newProxy(b, func(c *proxy.Config) {
		c.Rand, c.Log = fixedRand{}, log
		c.Status = consumer.New(consumer.Config{OCSPURL: "http://" + ocspAddr, Log: log})
	})
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		b.Fatal(err)
	}
	policy, err := tlspolicy.ServerConfig(pair)
	if err != nil {
		b.Fatal(err)
	}
	srv := grpc.NewServer(append(proxy.ServerOptions(), grpc.Creds(credentials.NewTLS(policy)))...)
	p.Register(srv)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go srv.Serve(l)
	defer srv.Stop()

	round := func(n int) {
		if _, err := fmt.Fprintln(in, l.Addr(), n); err != nil {
			b.Fatal(err)
		}
		var word string
		var played int
		if _, err := fmt.Fscan(out, &word, &played); err != nil || played != n {
			in.Close()
			cmd.Wait()
			b.Fatalf("terminals played %d of %d: %v\n%s", played, n, err, strings.TrimSpace(stderr.String()))
		}
	}
	round(8) // warm up
	begin := cpuTime(b)
	b.ResetTimer()
	round(b.N)
	b.StopTimer()
	used := cpuTime(b) - begin
	b.ReportMetric(float64(b.N)/used.Seconds(), "session_starts_per_core_per_s")
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(len(rec.Answers)+1), "round_trips")
}
