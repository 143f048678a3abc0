// Package advserver puts the AdV-Server together from its configuration and runs it: TLS listener with the session
// service, consumer adapter, logs, and on a loopback address health and metrics.
//
// [Start] returns when terminals can be served; [Server.Run] serves until its context ends and then lets sessions finish.
// Copies of the server share nothing, so any number of them may stand behind a TCP load balancer.
package advserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"ktradv/hw/cvc"
	"ktradv/internal/advlog"
	"ktradv/internal/tlspolicy"
	"ktradv/internal/x509ti"
	"ktradv/server/config"
	"ktradv/server/consumer"
	"ktradv/server/identity"
	"ktradv/server/proxy"
)

// Server is a server that listens.
type Server struct {
	cfg      config.Config
	log      *advlog.Log
	proxy    *proxy.Proxy
	grpc     *grpc.Server
	listener net.Listener
	ops      *http.Server // nil when switched off
	opsLn    net.Listener
	verifier *verifier // nil when switched off
	janitor  *janitor
	notify   func(state string)
}

// Error codes of the server's own life.
var (
	codeTLS  = advlog.NewCode(11060, "connection refused: no TLS session could be set up")
	codeStop = advlog.NewCode(11061, "sessions had to be cut off")
)

// Start opens everything that the configuration names and begins to listen. Every error names what could not be opened.
func Start(cfg config.Config) (_ *Server, err error) {
	production := cfg.Mode != config.Test
	if cfg.Identities.Kind != config.IdentityFile {
		return nil, fmt.Errorf("start server: identities of kind %q are not known", cfg.Identities.Kind)
	}
	identities, err := identity.OpenFiles(cfg.Identities.Dir, production)
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	roots, err := cvc.ReadRoots(os.DirFS(cfg.Trust.CVCRoots), ".")
	if err != nil {
		return nil, fmt.Errorf("start server: CVC roots in %s: %w", cfg.Trust.CVCRoots, err)
	}
	cas, err := readCertificates(cfg.Trust.EGKCAs)
	if err != nil {
		return nil, fmt.Errorf("start server: CA certificates of health cards: %w", err)
	}
	var responders []*x509ti.Certificate
	if cfg.Trust.OCSPSigners != "" {
		if responders, err = readCertificates(cfg.Trust.OCSPSigners); err != nil {
			return nil, fmt.Errorf("start server: OCSP responders: %w", err)
		}
	}
	pair, err := tls.LoadX509KeyPair(cfg.TLS.Certificate, cfg.TLS.Key)
	if err != nil {
		return nil, fmt.Errorf("start server: TLS certificate and key: %w", err)
	}
	policy, err := tlspolicy.ServerConfig(pair)
	if err != nil {
		return nil, fmt.Errorf("start server: %s: %w", cfg.TLS.Certificate, err)
	}
	level, err := advlog.ParseSeverity(cfg.Log.Level)
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	log, err := advlog.Open(advlog.Config{Dir: cfg.Log.Dir, Component: advlog.Server, Enabled: true, TestMode: !production,
		Level: level, MaxBytes: cfg.Log.MaxBytes})
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	s := &Server{cfg: cfg, log: log, notify: sdNotify}
	defer func() {
		if err != nil {
			s.close()
		}
	}()

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "adv_log_entries_dropped_total",
		Help: "Log entries that the disk did not take."}, func() float64 { return float64(log.Dropped()) }))
	metrics := proxy.NewMetrics(registry)
	adapter := consumer.New(consumer.Config{OCSPURL: cfg.OCSP.URL, OCSPTimeout: time.Duration(cfg.OCSP.Timeout),
		Responders: responders, Log: log, Observe: metrics.ObserveOCSP})
	s.janitor = newJanitor(adapter.Forget)
	s.proxy, err = proxy.New(proxy.Config{
		Identities: identities, Roots: roots, EGKCAs: cas, Status: adapter, Sessions: cfg.Limits.Sessions,
		StepTimeout: time.Duration(cfg.Limits.StepTimeout), SessionTimeout: time.Duration(cfg.Limits.SessionTimeout),
		Log: log, Metrics: metrics,
	})
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	s.grpc = grpc.NewServer(append(proxy.ServerOptions(), grpc.Creds(loggedTLS{credentials.NewTLS(policy), log}),
		grpc.StatsHandler(s.janitor))...)
	s.proxy.Register(s.grpc)

	if s.verifier, err = newVerifier(cfg, pair, log, registry); err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("start server: listen for terminals: %w", err)
	}
	// One connection carries one session; some room is left for those that are just being refused.
	s.listener = netutil.LimitListener(l, cfg.Limits.Sessions+cfg.Limits.Sessions/4+16)
	if cfg.OpsListen != "off" {
		if s.opsLn, err = net.Listen("tcp", cfg.OpsListen); err != nil {
			return nil, fmt.Errorf("start server: listen for health and metrics: %w", err)
		}
		s.ops = &http.Server{Handler: s.opsHandler(registry), ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second,
			MaxHeaderBytes: 8 << 10}
	}
	return s, nil
}

// Addr is the address for terminals.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// OpsAddr is the address of health and metrics, nil when it is switched off.
func (s *Server) OpsAddr() net.Addr {
	if s.opsLn == nil {
		return nil
	}
	return s.opsLn.Addr()
}

// VerifyAddr is the address of the service that checks E-Rezept billing records, nil when it is switched off.
func (s *Server) VerifyAddr() net.Addr {
	if s.verifier == nil {
		return nil
	}
	return s.verifier.ln.Addr()
}

// Run serves until ctx ends; then it takes no new session, lets those that are being started finish within the drain
// timeout, and returns. The log is complete when it returns.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	cleaning, stopCleaning := context.WithCancel(context.Background())
	defer stopCleaning()
	go s.janitor.run(cleaning)
	failed := make(chan error, 3)
	go func() { failed <- s.grpc.Serve(s.listener) }()
	if s.verifier != nil {
		go func() {
			if err := s.verifier.run(cleaning); err != nil {
				failed <- err
			}
		}()
	}
	if s.ops != nil {
		go func() {
			if err := s.ops.Serve(s.opsLn); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		}()
	}
	s.notify(daemon.SdNotifyReady)
	watchdog, stop := watchdogTicks()
	defer stop()
	for {
		select {
		case <-watchdog:
			s.notify(daemon.SdNotifyWatchdog)
		case err := <-failed:
			return fmt.Errorf("run server: %w", err)
		case <-ctx.Done():
			s.notify(daemon.SdNotifyStopping)
			s.stop()
			return nil
		}
	}
}

func (s *Server) stop() {
	s.proxy.Drain()
	if s.verifier != nil {
		ending, cancel := context.WithTimeout(context.Background(), time.Duration(s.cfg.Limits.DrainTimeout))
		defer cancel()
		stopped := make(chan struct{})
		go func() {
			s.verifier.stop(ending)
			close(stopped)
		}()
		defer func() { <-stopped }()
	}
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	t := time.NewTimer(time.Duration(s.cfg.Limits.DrainTimeout))
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		s.log.Error(context.Background(), advlog.ErrorEvent{Code: codeStop, Severity: advlog.Warning,
			Name: advlog.L("server.stop"), Values: []advlog.Value{advlog.Int("sessions", int64(s.proxy.Active()))}})
		s.grpc.Stop()
		<-done
	}
}

// close releases what Start has opened.
func (s *Server) close() {
	if s.grpc != nil {
		s.grpc.Stop()
	}
	if s.ops != nil {
		s.ops.Close()
	}
	if s.verifier != nil {
		s.verifier.close()
	}
	for _, l := range []net.Listener{s.listener, s.opsLn} {
		if l != nil {
			l.Close()
		}
	}
	s.log.Close()
}

// opsHandler answers operators: /livez while the process runs, /readyz while it takes sessions, /metrics.
func (s *Server) opsHandler(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.proxy.Ready() {
			http.Error(w, "no session can be taken", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

// loggedTLS writes refused handshakes to the security log (AdV-A_2421): no address, nothing of what was sent.
type loggedTLS struct {
	credentials.TransportCredentials
	log *advlog.Log
}

// ServerHandshake implements credentials.TransportCredentials.
func (c loggedTLS) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := c.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		c.log.Security(context.Background(), advlog.SecurityEvent{Name: advlog.L("server.tls_handshake"),
			Severity: advlog.Warning, Result: advlog.ResultRefused, Code: codeTLS})
	}
	return secured, info, err
}

// Clone implements credentials.TransportCredentials.
func (c loggedTLS) Clone() credentials.TransportCredentials {
	return loggedTLS{c.TransportCredentials.Clone(), c.log}
}

const maxCertificates = 500

// readCertificates reads every *.der of dir.
func readCertificates(dir string) ([]*x509ti.Certificate, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []*x509ti.Certificate
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".der") {
			continue
		}
		if len(list) == maxCertificates {
			return nil, fmt.Errorf("more than %d certificates in %s", maxCertificates, dir)
		}
		path := filepath.Join(dir, e.Name())
		if st, err := os.Stat(path); err != nil || st.Size() > x509ti.MaxSize {
			return nil, errors.Join(err, fmt.Errorf("%s is no certificate file", path))
		}
		der, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		c, err := x509ti.Parse(der)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no certificate (*.der) in %s", dir)
	}
	return list, nil
}

// sdNotify tells systemd, if it is there.
func sdNotify(state string) { daemon.SdNotify(false, state) }

// watchdogTicks ticks at half the interval in which systemd wants to hear from us; without a watchdog it never does.
func watchdogTicks() (<-chan time.Time, func()) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval <= 0 {
		return nil, func() {}
	}
	t := time.NewTicker(interval / 2)
	return t.C, t.Stop
}
