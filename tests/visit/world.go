// Package visit plays whole visits of insured persons in one process: simulated card in a simulated reader, the kiosk's
// session, and the AdV-Server behind real TLS with the simulated OCSP responder. There is no pcscd, no display and no
// second process; what a person would see is the list of views that the session published.
//
// A [World] holds what exists once (test PKI, insurer, responder), a [Server] is one AdV-Server of it, and a [Terminal]
// is one kiosk with its reader, in which sessions follow each other as the kiosk's supervisor lets them. The tests of
// this package walk TAB_ADV_304 with them; [MeasureStart] counts what a session start costs.
package visit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"ktradv/hw/cvc"
	"ktradv/hw/sim/card"
	"ktradv/hw/sim/persona"
	"ktradv/internal/advlog"
	"ktradv/internal/testpki"
	"ktradv/internal/tlspolicy"
	"ktradv/internal/x509ti"
	"ktradv/kiosk/serverlink"
	"ktradv/server/api"
	"ktradv/server/consumer"
	"ktradv/server/identity"
	"ktradv/server/proxy"
	"ktradv/server/tisim"
)

// The insurer that has an SM-B. The personas but one are insured there.
const (
	InsurerIK    = "109500969"
	InsurerName  = "Test GKV-SV"
	InsurerICCSN = "80276003110000099999"
)

// serverName stands in the server's certificate.
const serverName = "localhost"

// World holds what exists once: authorities, the insurer's identity, and the OCSP responder.
type World struct {
	PKI        *testpki.PKI
	Roots      cvc.Roots
	EGKCAs     []*x509ti.Certificate
	Insurer    testpki.KTRAdVIdentity
	Identities identity.Store
	Responder  *tisim.Responder
	OCSPURL    string

	pair    tls.Certificate
	trusted *tlspolicy.TrustStore
	stop    context.CancelFunc
	ended   sync.WaitGroup
}

// NewWorld makes a world around the time now. dir is a folder for the insurer's identity.
func NewWorld(dir string, now time.Time) (_ *World, err error) {
	w := &World{Roots: cvc.Roots{}}
	if w.PKI, err = testpki.New(testpki.Config{Now: now}); err != nil {
		return nil, fmt.Errorf("new world: %w", err)
	}
	if err := w.Roots.AddCertificate(w.PKI.Root.Certificate); err != nil {
		return nil, fmt.Errorf("new world: %w", err)
	}
	for _, der := range [][]byte{w.PKI.EGKCA.Certificate, w.PKI.EGKRSACA.Certificate} {
		ca, err := x509ti.Parse(der)
		if err != nil {
			return nil, fmt.Errorf("new world: %w", err)
		}
		w.EGKCAs = append(w.EGKCAs, ca)
	}
	if err := w.insurer(filepath.Join(dir, "identities")); err != nil {
		return nil, fmt.Errorf("new world: insurer: %w", err)
	}
	if w.pair, w.trusted, err = w.TLSIdentity(); err != nil {
		return nil, fmt.Errorf("new world: %w", err)
	}
	w.Responder = tisim.New(w.PKI, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("new world: OCSP responder: %w", err)
	}
	w.OCSPURL = "http://" + l.Addr().String() + "/"
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.ended.Go(func() { _ = w.Responder.Serve(ctx, l) })
	return w, nil
}

// Close ends the responder.
func (w *World) Close() {
	w.stop()
	w.ended.Wait()
}

func (w *World) insurer(dir string) (err error) {
	if w.Insurer, err = w.PKI.IssueKTRAdV(InsurerIK, InsurerName, InsurerICCSN); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	id := w.Insurer
	err = identity.WriteFile(dir, identity.File{
		IK: id.IK, Name: id.Name, ICCSN: id.ICCSN, CA: id.CACVC,
		Null: identity.KeyPair{Certificate: id.Null.Certificate, Key: id.Null.Key.Bytes()},
		AUTR: identity.KeyPair{Certificate: id.AUTR.Certificate, Key: id.AUTR.Key.Bytes()},
	})
	if err != nil {
		return err
	}
	w.Identities, err = identity.OpenFiles(dir, false)
	return err
}

// TLSIdentity issues a server certificate, and the trust store of terminals that know this one and no other.
func (w *World) TLSIdentity() (tls.Certificate, *tlspolicy.TrustStore, error) {
	certPEM, keyPEM, err := w.PKI.IssueTLSServer([]string{serverName}, nil)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("TLS identity: %w", err)
	}
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return tls.Certificate{}, nil, errors.New("TLS identity: no PEM block")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("TLS identity: %w", err)
	}
	store, err := tlspolicy.NewTrustStore(cert)
	return pair, store, err
}

// Card personalises the card of a persona; change may alter the persona before.
func (w *World) Card(id string, change func(*persona.Persona)) (*card.Card, error) {
	p, err := persona.Find(id)
	if err != nil {
		return nil, err
	}
	if change != nil {
		change(p)
	}
	return p.Card(w.PKI, w.PKI.Now(), card.Config{})
}

// ServerConfig changes a server; the zero value is a good one.
type ServerConfig struct {
	// Service replaces the proxy, for servers that are up to something. Nil is the product's own.
	Service api.AdVServer
	// Identity of the TLS side; nil is the one that terminals trust.
	TLS *tls.Certificate
	// Log of proxy and consumer adapter; nil is off.
	Log *advlog.Log
	// Received sees every message of an app before the service does.
	Received func(*api.AppMessage)
	// OCSPURL is another responder; "" is the world's.
	OCSPURL string
	// Clock of the proxy and its checks; nil is the real time.
	Clock func() time.Time
}

// Server is a running AdV-Server.
type Server struct {
	world *World
	grpc  *grpc.Server
	addr  string
	done  chan struct{} // closed when it has ended

	mu    sync.Mutex
	conns map[*counted]bool // TCP connections that are open
	seen  int               // that were opened ever
	moved chan struct{}
}

// Serve starts a server on a free loopback port.
func (w *World) Serve(cfg ServerConfig) (*Server, error) {
	pair := w.pair
	if cfg.TLS != nil {
		pair = *cfg.TLS
	}
	policy, err := tlspolicy.ServerConfig(pair)
	if err != nil {
		return nil, err
	}
	if cfg.OCSPURL == "" {
		cfg.OCSPURL = w.OCSPURL
	}
	if cfg.Service == nil {
		cfg.Service, err = proxy.New(proxy.Config{
			Identities: w.Identities, Roots: w.Roots, EGKCAs: w.EGKCAs, Log: cfg.Log, Clock: cfg.Clock,
			Status: consumer.New(consumer.Config{OCSPURL: cfg.OCSPURL, Log: cfg.Log, Clock: cfg.Clock}),
		})
		if err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serve: %w", err)
	}
	s := &Server{world: w, addr: l.Addr().String(), done: make(chan struct{}), conns: map[*counted]bool{}, moved: make(chan struct{})}
	options := append(proxy.ServerOptions(), grpc.Creds(credentials.NewTLS(policy)))
	if cfg.Received != nil {
		options = append(options, grpc.StreamInterceptor(
			func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				return handler(srv, &listening{stream, cfg.Received})
			}))
	}
	s.grpc = grpc.NewServer(options...)
	api.RegisterAdVServer(s.grpc, cfg.Service)
	go func() {
		defer close(s.done)
		_ = s.grpc.Serve(&counting{l, s}) // Close is the only way in which it ends
	}()
	return s, nil
}

// Close ends the server and all its connections. It may be called more than once.
func (s *Server) Close() {
	s.grpc.Stop()
	<-s.done
}

// Addr is the server's address.
func (s *Server) Addr() string { return s.addr }

// Connections tells how many TCP connections are open, and how many there were.
func (s *Server) Connections() (open, ever int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.seen
}

// WaitUnconnected blocks until no connection is open.
func (s *Server) WaitUnconnected(ctx context.Context) error {
	for {
		s.mu.Lock()
		open, moved := len(s.conns), s.moved
		s.mu.Unlock()
		if open == 0 {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("%d connections are still open: %w", open, ctx.Err())
		}
	}
}

// Dial is how a terminal that trusts this world's servers connects to this one. The closure has the form that the
// kiosk uses.
func (s *Server) Dial(ctx context.Context) (*serverlink.Link, error) {
	policy, err := tlspolicy.ClientConfig(s.world.trusted, serverName, nil)
	if err != nil {
		return nil, err
	}
	return serverlink.Dial(ctx, serverlink.Config{Address: s.addr, TLS: policy})
}

// Cut tears all open connections, as a network that fails does.
func (s *Server) Cut() {
	s.mu.Lock()
	var open []*counted
	for c := range s.conns {
		open = append(open, c)
	}
	s.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
}

// note keeps account of connections.
func (s *Server) note(c *counted, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if open {
		s.conns[c] = true
		s.seen++
	} else {
		delete(s.conns, c)
	}
	close(s.moved)
	s.moved = make(chan struct{})
}

// counting is a listener that knows which of its connections are open.
type counting struct {
	net.Listener
	s *Server
}

// Accept implements net.Listener.
func (l *counting) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &counted{Conn: raw, s: l.s}
	l.s.note(c, true)
	return c, nil
}

type counted struct {
	net.Conn
	s *Server
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.s.note(c, false)
	return c.Conn.Close()
}

// listening shows what an app sends.
type listening struct {
	grpc.ServerStream
	received func(*api.AppMessage)
}

// RecvMsg implements grpc.ServerStream.
func (l *listening) RecvMsg(m any) error {
	err := l.ServerStream.RecvMsg(m)
	if msg, ok := m.(*api.AppMessage); ok && err == nil {
		l.received(msg)
	}
	return err
}
