package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// internet is a proxy that answers for every host itself, with certificates of its own authority. A program reaches it with
// nothing but two environment variables, as it would reach the real one behind a company's proxy.
type internet struct {
	listener net.Listener
	caFile   string
	ca       *x509.Certificate
	key      *ecdsa.PrivateKey

	mu    sync.Mutex
	hosts map[string]http.Handler
}

func newInternet(dir string) (*internet, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	w := &internet{hosts: map[string]http.Handler{}, caFile: filepath.Join(dir, "ca.pem")}
	var err error
	if w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Simulated internet"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 7),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &w.key.PublicKey, w.key)
	if err != nil {
		return nil, err
	}
	if w.ca, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	if err := os.WriteFile(w.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	if w.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	go w.accept()
	return w, nil
}

// env are the variables by which a program reaches the hosts.
func (w *internet) env() []string {
	return []string{"HTTPS_PROXY=http://" + w.listener.Addr().String(), "NO_PROXY=", "no_proxy=", "SSL_CERT_FILE=" + w.caFile}
}

func (w *internet) Close() error { return w.listener.Close() }

func (w *internet) serve(host string, h http.Handler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[host] = h
}

// forward lets a host be answered by a server on this machine.
func (w *internet) forward(host, address string) {
	w.serve(host, httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address}))
}

func (w *internet) handler(host string) http.Handler {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hosts[host]
}

// Do answers a request from inside the demonstration.
func (w *internet) Do(r *http.Request) (*http.Response, error) {
	h := w.handler(r.URL.Host)
	if h == nil {
		return nil, fmt.Errorf("no host %s", r.URL.Host)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Result(), nil
}

func (w *internet) accept() {
	for {
		c, err := w.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go w.connection(c)
		}
	}
}

// connection answers one CONNECT and then speaks TLS as that host.
func (w *internet) connection(c net.Conn) {
	defer c.Close()
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil || r.Method != http.MethodConnect {
		return
	}
	host, _, err := net.SplitHostPort(r.Host)
	h := w.handler(host)
	if err != nil || h == nil {
		fmt.Fprint(c, "HTTP/1.1 502 no such host\r\n\r\n")
		return
	}
	cert, err := w.certificate(host)
	if err != nil {
		return
	}
	fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
	done := make(chan struct{})
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			close(done)
		}
	}}
	go func() {
		_ = srv.Serve(&single{conn: tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}}), done: done})
	}()
	<-done
}

func (w *internet) certificate(host string) (tls.Certificate, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 7),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, w.ca, &w.key.PublicKey, w.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: w.key}, err
}

// single is a listener with one connection.
type single struct {
	conn net.Conn
	once sync.Once
	done chan struct{}
}

func (s *single) Accept() (c net.Conn, err error) {
	s.once.Do(func() { c = s.conn })
	if c != nil {
		return c, nil
	}
	<-s.done
	return nil, net.ErrClosed
}

func (s *single) Close() error   { return nil }
func (s *single) Addr() net.Addr { return s.conn.LocalAddr() }
