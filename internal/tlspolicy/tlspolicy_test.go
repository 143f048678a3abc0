package tlspolicy

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ktradv/internal/req"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

type certOptions struct {
	name     string
	notAfter time.Time
	ca       bool
	key      crypto.Signer
	issuer   *tls.Certificate
	usage    x509.ExtKeyUsage
}

func newCert(t testing.TB, o certOptions) tls.Certificate {
	t.Helper()
	if o.key == nil {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		o.key = k
	}
	if o.notAfter.IsZero() {
		o.notAfter = now.Add(365 * 24 * time.Hour)
	}
	if o.usage == 0 {
		o.usage = x509.ExtKeyUsageServerAuth
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: o.name}, DNSNames: []string{o.name},
		NotBefore: now.Add(-48 * time.Hour), NotAfter: o.notAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{o.usage}, BasicConstraintsValid: true, IsCA: o.ca,
	}
	if o.ca {
		tmpl.KeyUsage, tmpl.ExtKeyUsage = x509.KeyUsageCertSign, nil
	}
	parent, signer := tmpl, o.key
	if o.issuer != nil {
		parent, signer = o.issuer.Leaf, o.issuer.PrivateKey.(crypto.Signer)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, o.key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: o.key, Leaf: leaf}
}

func serverConfig(t testing.TB, cert tls.Certificate) *tls.Config {
	t.Helper()
	cfg, err := ServerConfig(cert)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func clientConfig(t testing.TB, name string, pinned ...tls.Certificate) *tls.Config {
	t.Helper()
	var certs []*x509.Certificate
	for _, c := range pinned {
		certs = append(certs, c.Leaf)
	}
	store, err := NewTrustStore(certs...)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := ClientConfig(store, name, clock)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// handshake connects a client to a server over loopback, exchanges a byte in each direction (so that session tickets of
// TLS 1.3 have arrived) and returns both views of the connection.
func handshake(t testing.TB, server, client *tls.Config) (s, c tls.ConnectionState, serr, cerr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			serr = err
			return
		}
		defer conn.Close()
		sc := tls.Server(conn, server)
		b := make([]byte, 1)
		if _, serr = sc.Write([]byte{1}); serr == nil {
			_, serr = io.ReadFull(sc, b)
		}
		s = sc.ConnectionState()
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cc := tls.Client(conn, client)
	b := make([]byte, 1)
	if _, cerr = io.ReadFull(cc, b); cerr == nil {
		_, cerr = cc.Write(b)
	}
	c = cc.ConnectionState()
	if cerr != nil {
		conn.Close()
	}
	<-done
	conn.Close()
	return s, c, serr, cerr
}

func TestVersionsAndSuites(t *testing.T) {
	t.Parallel()
	req.Covers(t, "GS-A_4385", "GS-A_4387", "GS-A_5035", "A_18467", "A_17322")
	cert := newCert(t, certOptions{name: "adv.example"})
	server := serverConfig(t, cert)
	tests := []struct {
		name   string
		client func(*tls.Config)
		ok     bool
		want   uint16 // version
	}{
		{"policy against policy", func(*tls.Config) {}, true, tls.VersionTLS13},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true, tls.VersionTLS12},
		{"TLS 1.1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 }, false, 0},
		{"TLS 1.0", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 }, false, 0},
		{"CBC suite", func(c *tls.Config) {
			c.MaxVersion = tls.VersionTLS12
			c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}
		}, false, 0},
		{"ChaCha suite", func(c *tls.Config) {
			c.MaxVersion = tls.VersionTLS12
			c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}
		}, false, 0},
		{"X25519 only", func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := clientConfig(t, "adv.example", cert)
			tt.client(client)
			_, c, serr, cerr := handshake(t, server, client)
			if ok := serr == nil && cerr == nil; ok != tt.ok {
				t.Fatalf("handshake: server %v, client %v; want ok %t", serr, cerr, tt.ok)
			}
			if tt.ok && c.Version != tt.want {
				t.Errorf("version %#x; want %#x", c.Version, tt.want)
			}
			if tt.ok && c.Version == tls.VersionTLS12 && c.CipherSuite != tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 &&
				c.CipherSuite != tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 {
				t.Errorf("suite %s", tls.CipherSuiteName(c.CipherSuite))
			}
		})
	}
	// Twin: a server without the policy does accept the CBC suite, so the refusal above is the policy's doing.
	loose := &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12}
	client := clientConfig(t, "adv.example", cert)
	client.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	if _, _, serr, cerr := handshake(t, loose, client); serr != nil || cerr != nil {
		t.Errorf("twin: server %v, client %v", serr, cerr)
	}
}

// sessionCache keeps what servers offer and counts it.
type sessionCache struct {
	tls.ClientSessionCache
	puts int
}

func (c *sessionCache) Put(k string, s *tls.ClientSessionState) {
	if s != nil {
		c.puts++
	}
	c.ClientSessionCache.Put(k, s)
}

func TestNoResumption(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_16395")
	cert := newCert(t, certOptions{name: "adv.example"})
	key := [32]byte{1, 2, 3}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			// A client that would resume if it could.
			newClient := func() (*tls.Config, *sessionCache) {
				cache := &sessionCache{ClientSessionCache: tls.NewLRUClientSessionCache(4)}
				store, err := NewTrustStore(cert.Leaf)
				if err != nil {
					t.Fatal(err)
				}
				return &tls.Config{RootCAs: store.pool(), ServerName: "adv.example", MinVersion: version, MaxVersion: version,
					ClientSessionCache: cache, Time: clock}, cache
			}
			policy := serverConfig(t, cert)
			policy.SetSessionTicketKeys([][32]byte{key}) // it could open the ticket below, and must not
			loose := &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version, Time: clock}
			loose.SetSessionTicketKeys([][32]byte{key})

			client, cache := newClient()
			for i := range 2 {
				_, c, serr, cerr := handshake(t, policy, client)
				if serr != nil || cerr != nil {
					t.Fatal(serr, cerr)
				}
				if c.DidResume {
					t.Errorf("connection %d to the policy server resumed", i+1)
				}
			}
			if cache.puts != 0 {
				t.Errorf("the policy server gave out %d tickets", cache.puts)
			}

			// The client brings a valid ticket of another server with the same key: full handshake all the same.
			client, cache = newClient()
			if _, _, serr, cerr := handshake(t, loose, client); serr != nil || cerr != nil {
				t.Fatal(serr, cerr)
			}
			if cache.puts == 0 {
				t.Fatal("the loose server gave out no ticket: the test proves nothing")
			}
			s, c, serr, cerr := handshake(t, policy, client)
			if serr != nil || cerr != nil {
				t.Fatal(serr, cerr)
			}
			if s.DidResume || c.DidResume {
				t.Error("the policy server resumed with a ticket")
			}
			// Twin: the loose server does resume with such a ticket.
			client, _ = newClient()
			handshake(t, loose, client)
			if s, _, _, _ := handshake(t, loose, client); !s.DidResume {
				t.Error("twin: no resumption with a loose server")
			}

			// The app's configuration asks for nothing and takes nothing, even where the server would.
			app := clientConfig(t, "adv.example", cert)
			app.MinVersion, app.MaxVersion = version, version
			for range 2 {
				s, _, serr, cerr := handshake(t, loose, app)
				if serr != nil || cerr != nil {
					t.Fatal(serr, cerr)
				}
				if s.DidResume {
					t.Error("the app resumed a session")
				}
			}
		})
	}
}

// OpenSSL asks for renegotiation, as a server and as a client; crypto/tls cannot.
func TestNoRenegotiation(t *testing.T) {
	t.Parallel()
	req.Covers(t, "A_16395")
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed; it is needed to ask for renegotiation")
	}
	cert := newCert(t, certOptions{name: "adv.example", notAfter: time.Now().Add(time.Hour)})
	t.Run("client asks", func(t *testing.T) {
		t.Parallel()
		cfg := serverConfig(t, cert)
		l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		// "A" travels as data; "R" on a line of its own makes s_client renegotiate.
		cmd := exec.CommandContext(t.Context(), openssl, "s_client", "-connect", l.Addr().String(), "-tls1_2")
		feed, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { cmd.Process.Kill(); cmd.Wait() }()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(feed, "A\n")
		buf := make([]byte, 2)
		if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "A\n" {
			t.Fatalf("read %q, %v", buf, err)
		}
		io.WriteString(feed, "R\n")
		if n, err := io.ReadFull(conn, buf); err == nil {
			t.Errorf("%d bytes arrived after the request to renegotiate", n)
		} else if !strings.Contains(err.Error(), "clientHelloMsg") { // what crypto/tls calls a second ClientHello
			t.Errorf("connection ended with %v; want a refusal of the second ClientHello", err)
		}
	})
	t.Run("server asks", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		writePair(t, dir, cert)
		cmd := exec.CommandContext(t.Context(), openssl, "s_server", "-accept", "127.0.0.1:0", "-tls1_2", "-legacy_renegotiation",
			"-cert", filepath.Join(dir, "cert.pem"), "-key", filepath.Join(dir, "key.pem"))
		feed, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { cmd.Process.Kill(); cmd.Wait() }()
		lines := bufio.NewScanner(out)
		addr := ""
		for addr == "" && lines.Scan() { // "ACCEPT 127.0.0.1:port"
			if a, ok := strings.CutPrefix(lines.Text(), "ACCEPT "); ok {
				addr = a
			}
		}
		if addr == "" {
			t.Fatalf("openssl s_server does not listen: %v", lines.Err())
		}
		app := clientConfig(t, "adv.example", cert)
		app.Time = time.Now
		conn, err := tls.Dial("tcp", addr, app)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go io.Copy(io.Discard, out)
		io.WriteString(feed, "R\n")
		if n, err := conn.Read(make([]byte, 16)); err == nil {
			t.Errorf("%d bytes after the request to renegotiate", n)
		} else if !strings.Contains(err.Error(), "renegotiation") {
			t.Errorf("connection ended with %v; want a refusal of the renegotiation", err)
		}
	})
}

func writePair(t testing.TB, dir string, cert tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPinning(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2417", "AdV-A_2418")
	ca := newCert(t, certOptions{name: "A CA", ca: true})
	good := newCert(t, certOptions{name: "adv.example", issuer: &ca})
	second := newCert(t, certOptions{name: "adv.example"})
	sibling := newCert(t, certOptions{name: "adv.example", issuer: &ca}) // same CA, same name, not pinned
	stranger := newCert(t, certOptions{name: "adv.example"})
	expired := newCert(t, certOptions{name: "adv.example", notAfter: now.Add(-time.Hour)})
	otherName := newCert(t, certOptions{name: "evil.example"})
	notServer := newCert(t, certOptions{name: "adv.example", usage: x509.ExtKeyUsageClientAuth})
	chained := sibling
	chained.Certificate = [][]byte{sibling.Certificate[0], good.Certificate[0]} // the pinned one only as ballast
	tests := []struct {
		name   string
		server tls.Certificate
		pinned []tls.Certificate
		ok     bool
	}{
		{"pinned", good, []tls.Certificate{good}, true},
		{"second of two pinned", second, []tls.Certificate{good, second}, true},
		{"not pinned", stranger, []tls.Certificate{good, second}, false},
		{"same issuer and name", sibling, []tls.Certificate{good}, false},
		{"pinned one sent along", chained, []tls.Certificate{good}, false},
		{"pinned but expired", expired, []tls.Certificate{good, expired}, false},
		{"pinned but for another name", otherName, []tls.Certificate{otherName}, false},
		{"pinned but not for servers", notServer, []tls.Certificate{notServer}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, serr, cerr := handshake(t, serverConfig(t, tt.server), clientConfig(t, "adv.example", tt.pinned...))
			if (cerr == nil) != tt.ok {
				t.Errorf("client: %v; want ok %t (server: %v)", cerr, tt.ok, serr)
			}
		})
	}
}

func TestPinnedIssuerIsNotEnough(t *testing.T) {
	t.Parallel()
	// Even where a pinned end-entity certificate had signed another one, that one is refused by the pin itself.
	pinned := newCert(t, certOptions{name: "adv.example"})
	cfg := clientConfig(t, "adv.example", pinned)
	other := newCert(t, certOptions{name: "adv.example"})
	err := cfg.VerifyConnection(tls.ConnectionState{PeerCertificates: []*x509.Certificate{other.Leaf, pinned.Leaf}})
	if !errors.Is(err, ErrNotPinned) {
		t.Errorf("VerifyConnection = %v; want ErrNotPinned", err)
	}
	if err := cfg.VerifyConnection(tls.ConnectionState{PeerCertificates: []*x509.Certificate{pinned.Leaf}}); err != nil {
		t.Errorf("VerifyConnection of the pinned certificate = %v", err)
	}
	if err := cfg.VerifyConnection(tls.ConnectionState{DidResume: true,
		PeerCertificates: []*x509.Certificate{pinned.Leaf}}); err == nil {
		t.Error("a resumed session was accepted")
	}
	if err := cfg.VerifyConnection(tls.ConnectionState{}); !errors.Is(err, ErrNotPinned) {
		t.Errorf("without certificate: %v", err)
	}
}

func TestConfigsRefuseWeakInput(t *testing.T) {
	t.Parallel()
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, cert := range map[string]tls.Certificate{
		"RSA 2048": newCert(t, certOptions{name: "x", key: weak}), "P-521": newCert(t, certOptions{name: "x", key: p521}),
		"nothing": {}, "garbage": {Certificate: [][]byte{{1, 2, 3}}},
	} {
		if _, err := ServerConfig(cert); err == nil {
			t.Errorf("%s: ServerConfig accepted", name)
		}
		if cert.Leaf == nil {
			continue
		}
		if _, err := NewTrustStore(cert.Leaf); err == nil {
			t.Errorf("%s: NewTrustStore accepted", name)
		}
	}
	if _, err := NewTrustStore(newCert(t, certOptions{name: "A CA", ca: true}).Leaf); err == nil {
		t.Error("NewTrustStore accepted a CA")
	}
	if _, err := ClientConfig(nil, "adv.example", nil); err == nil {
		t.Error("ClientConfig without trust store accepted")
	}
	store, err := NewTrustStore(newCert(t, certOptions{name: "x"}).Leaf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ClientConfig(store, "", nil); err == nil {
		t.Error("ClientConfig without name accepted")
	}
}

func TestLoadTrustStore(t *testing.T) {
	t.Parallel()
	req.Covers(t, "AdV-A_2417")
	cert, other := newCert(t, certOptions{name: "adv.example"}), newCert(t, certOptions{name: "adv2.example"})
	certPEM := func(c tls.Certificate) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	}
	both, err := NewTrustStore(cert.Leaf, other.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		files  map[string][]byte
		digest string
		change func(dir string) error
		want   int // certificates; 0 is an error
	}{
		{"two files", map[string][]byte{"a.pem": certPEM(cert), "b.pem": certPEM(other), "README": []byte("x")}, "", nil, 2},
		{"one file with two", map[string][]byte{"a.pem": append(certPEM(cert), certPEM(other)...)}, both.Digest(), nil, 2},
		{"the same twice", map[string][]byte{"a.pem": certPEM(cert), "b.pem": certPEM(cert)}, "", nil, 1},
		{"digest in upper case", map[string][]byte{"a.pem": certPEM(cert), "b.pem": certPEM(other)},
			strings.ToUpper(both.Digest()), nil, 2},
		{"one replaced", map[string][]byte{"a.pem": certPEM(cert)}, both.Digest(), nil, 0},
		{"empty", nil, "", nil, 0},
		{"a key", map[string][]byte{"a.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})}, "", nil, 0},
		{"damaged", map[string][]byte{"a.pem": certPEM(cert), "b.pem": certPEM(other)[:200]}, "", nil, 0},
		{"text behind", map[string][]byte{"a.pem": append(certPEM(cert), "hello"...)}, "", nil, 0},
		{"not DER", map[string][]byte{"a.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})}, "", nil, 0},
		{"too large", map[string][]byte{"a.pem": append(certPEM(cert), bytes.Repeat([]byte("\n"), maxStoreFile)...)}, "", nil, 0},
		{"file writable for all", map[string][]byte{"a.pem": certPEM(cert)}, "", func(dir string) error {
			return os.Chmod(filepath.Join(dir, "a.pem"), 0o666)
		}, 0},
		{"directory writable for all", map[string][]byte{"a.pem": certPEM(cert)}, "", func(dir string) error {
			return os.Chmod(dir, 0o777)
		}, 0},
		{"symbolic link", map[string][]byte{"a.pem": certPEM(cert)}, "", func(dir string) error {
			return os.Symlink(filepath.Join(dir, "a.pem"), filepath.Join(dir, "b.pem"))
		}, 0},
		{"no directory", nil, "", os.RemoveAll, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "trust")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for name, b := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if tt.change != nil {
				if err := tt.change(dir); err != nil {
					t.Fatal(err)
				}
			}
			s, err := LoadTrustStore(dir, tt.digest)
			if s.Len() != tt.want || (err == nil) != (tt.want > 0) {
				t.Errorf("LoadTrustStore: %d certificates, %v; want %d", s.Len(), err, tt.want)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadTrustStore(file, ""); err == nil {
		t.Error("a file was accepted as a directory")
	}
}

func FuzzParsePEM(f *testing.F) {
	cert := newCert(f, certOptions{name: "adv.example"})
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if certs, err := parsePEM(b); err == nil && len(certs) == 0 {
			t.Error("no error and no certificate")
		}
	})
}
